/* The agent's journal: what it keeps over a crash, torn and damaged files, a full disk. */
#include "agent/journal.h"
#include "common/err.h"
#include "common/file.h"
#include "common/mem.h"
#include "tests/lib/test.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static char *journal_path(void)
{
        return path_join(test_scratch(), "journal");
}

static struct journal *reopen(struct journal *j, bool *moved)
{
        char *path = journal_path();
        struct err e = {0};

        journal_free(j);
        j = NULL;
        if (journal_open(path, &j, moved, &e))
                test_fail(__FILE__, __LINE__, "open: %s", e.msg);
        mem_free(path);
        return j;
}

/* What kill -9 leaves: nothing is flushed on the way. */
static struct journal *crash(struct journal *j)
{
        char *path = journal_path(), *copy = path_join(test_scratch(), "copy"), *text;
        size_t n;

        CHECK_INT(file_read(path, 1u << 30, &text, &n, NULL), 0);
        journal_free(j);
        CHECK_INT(file_write_atomic(path, text, n, 0600, NULL), 0);
        mem_free(text);
        mem_free(path);
        mem_free(copy);
        return reopen(NULL, NULL);
}

static off_t size_of(void)
{
        char *path = journal_path();
        struct stat st;

        CHECK_INT(stat(path, &st), 0);
        mem_free(path);
        return st.st_size;
}

static void damage(off_t at, const char *bytes, size_t n)
{
        char *path = journal_path();
        int fd = open(path, O_WRONLY);

        CHECK(fd >= 0);
        CHECK_INT(pwrite(fd, bytes, n, at), (ssize_t)n);
        close(fd);
        mem_free(path);
}

static void check_result(const struct journal *j, uint64_t id, const char *want)
{
        uint8_t *p;
        size_t n;

        CHECK_INT(journal_result(j, id, &p, &n), 0);
        CHECK_INT(n, strlen(want));
        CHECK(memcmp(p, want, n) == 0);
        mem_free(p);
}

static int finish(struct journal *j, uint64_t id, const char *text)
{
        return journal_finish(j, id, (const uint8_t *)text, strlen(text));
}

TEST(journal, keeps_running_and_finished_over_a_crash)
{
        struct journal *j = reopen(NULL, NULL);
        char id[JOURNAL_ID_LEN];

        memcpy(id, journal_id(j), sizeof id);
        CHECK_INT(journal_accept(j, 1, "process.exec", 111), 0);
        CHECK_INT(journal_accept(j, 2, "file.read", 222), 0);
        CHECK_INT(journal_accept(j, 2, "file.read", 222), -E_EXIST);
        CHECK_INT(journal_flush(j, NULL), 0);
        CHECK_INT(finish(j, 2, "result two"), 0);
        CHECK_INT(finish(j, 2, "again"), -E_STATE);
        CHECK_INT(finish(j, 3, "refused"), 0);
        CHECK_INT(journal_flush(j, NULL), 0);
        j = crash(j);
        CHECK_STR(journal_id(j), id);
        CHECK_INT(journal_count(j), 3);
        CHECK_INT(journal_get(j, 1)->state, JOURNAL_RUNNING);
        CHECK_INT(journal_get(j, 1)->started_us, 111);
        CHECK_STR(journal_get(j, 1)->tool, "process.exec");
        CHECK_INT(journal_get(j, 2)->state, JOURNAL_FINISHED);
        check_result(j, 2, "result two");
        check_result(j, 3, "refused");
        journal_forget(j, 2);
        CHECK_INT(journal_flush(j, NULL), 0);
        j = crash(j);
        CHECK_INT(journal_count(j), 2);
        CHECK(!journal_get(j, 2));
        journal_free(j);
}

TEST(journal, what_was_not_flushed_never_happened)
{
        struct journal *j = reopen(NULL, NULL);

        CHECK_INT(journal_accept(j, 1, "t", 1), 0);
        j = crash(j);
        CHECK_INT(journal_count(j), 0);
        journal_free(j);
}

struct seen {
        uint64_t id;
        struct journal_proc p;
        int n;
};

static void on_proc(uint64_t id, const struct journal_proc *p, void *arg)
{
        struct seen *s = arg;

        s->id = id;
        s->p = *p;
        s->n++;
}

TEST(journal, process_groups_come_back_until_the_end)
{
        struct journal_proc p = {.pid = 4242, .start = 99, .boot = "boot"};
        struct journal *j = reopen(NULL, NULL);
        struct seen s = {0};

        CHECK_INT(journal_process(j, 9, &p, NULL), -E_NOENT);
        CHECK_INT(journal_accept(j, 9, "t", 1), 0);
        CHECK_INT(journal_process(j, 9, &p, NULL), 0);
        j = crash(j);
        journal_each_proc(j, on_proc, &s);
        CHECK_INT(s.n, 1);
        CHECK_INT(s.id, 9);
        CHECK_INT(s.p.pid, 4242);
        CHECK_INT(s.p.start, 99);
        CHECK_STR(s.p.boot, "boot");
        CHECK_INT(finish(j, 9, "x"), 0);
        s.n = 0;
        journal_each_proc(j, on_proc, &s);
        CHECK_INT(s.n, 0);
        journal_free(j);
}

TEST(journal, every_torn_tail_is_cut)
{
        struct journal *j = reopen(NULL, NULL);
        char *path = journal_path();
        off_t whole, before;

        CHECK_INT(finish(j, 1, "first"), 0);
        CHECK_INT(journal_flush(j, NULL), 0);
        before = size_of();
        CHECK_INT(finish(j, 2, "second"), 0);
        CHECK_INT(journal_flush(j, NULL), 0);
        whole = size_of();
        for (off_t n = whole - 1; n > before; n--) {
                bool moved = true;

                CHECK_INT(truncate(path, n), 0);
                j = reopen(j, &moved);
                CHECK(!moved);
                CHECK_INT(journal_count(j), 1);
                CHECK_INT(size_of(), before);
                CHECK_INT(finish(j, 2, "second"), 0);
                CHECK_INT(journal_flush(j, NULL), 0);
                CHECK_INT(size_of(), whole);
        }
        check_result(j, 1, "first");
        journal_free(j);
        mem_free(path);
}

TEST(journal, garbage_at_the_end_is_a_torn_tail)
{
        struct journal *j = reopen(NULL, NULL);
        bool moved = true;

        CHECK_INT(finish(j, 1, "first"), 0);
        CHECK_INT(journal_flush(j, NULL), 0);
        damage(size_of(), "PRJ1\0\0\0\x20garbage without a sum", 30);
        j = reopen(j, &moved);
        CHECK(!moved);
        check_result(j, 1, "first");
        journal_free(j);
}

static int count_named(const char *part)
{
        DIR *d = opendir(test_scratch());
        struct dirent *de;
        int n = 0;

        while ((de = readdir(d)))
                n += strstr(de->d_name, part) != NULL;
        closedir(d);
        return n;
}

TEST(journal, damage_in_the_middle_is_moved_aside)
{
        struct journal_proc p = {.pid = 77, .start = 5, .boot = "b"};
        struct journal *j = reopen(NULL, NULL);
        char id[JOURNAL_ID_LEN];
        bool moved = false;
        struct seen s = {0};
        off_t at;

        memcpy(id, journal_id(j), sizeof id);
        CHECK_INT(journal_accept(j, 1, "t", 1), 0);
        CHECK_INT(journal_process(j, 1, &p, NULL), 0);
        at = size_of();
        CHECK_INT(finish(j, 2, "second"), 0);
        CHECK_INT(finish(j, 3, "third"), 0);
        CHECK_INT(journal_flush(j, NULL), 0);
        damage(at + 25, "X", 1);
        j = reopen(j, &moved);
        CHECK(moved);
        CHECK_INT(journal_count(j), 0);
        CHECK(strcmp(journal_id(j), id) != 0);
        CHECK_INT(count_named("damaged"), 1);
        journal_each_proc(j, on_proc, &s); /* still to be ended */
        CHECK_INT(s.n, 1);
        CHECK_INT(s.p.pid, 77);
        CHECK_INT(finish(j, 4, "new"), 0);
        j = reopen(j, &moved);
        CHECK(!moved);
        check_result(j, 4, "new");
        journal_free(j);
}

TEST(journal, a_foreign_file_is_moved_aside)
{
        char *path = journal_path();
        struct journal *j;
        bool moved = false;

        CHECK_INT(file_write_atomic(path, "this is not a journal, whatever it is", 37, 0600, NULL), 0);
        j = reopen(NULL, &moved);
        CHECK(moved);
        journal_free(j);
        mem_free(path);
}

TEST(journal, knows_the_highest_attempt_it_ever_held)
{
        struct journal *j = reopen(NULL, NULL);
        static char big[200001];

        CHECK_INT(journal_seen(j), 0);
        memset(big, 'x', sizeof big - 1);
        CHECK_INT(journal_accept(j, 900, "t", 1), 0);
        CHECK_INT(finish(j, 900, "x"), 0);
        CHECK_INT(journal_flush(j, NULL), 0);
        journal_forget(j, 900);
        CHECK_INT(journal_flush(j, NULL), 0);
        j = crash(j);
        CHECK_INT(journal_seen(j), 900);
        /* Cut to nothing, several times. */
        for (int i = 0; i < 3; i++) {
                CHECK_INT(finish(j, 7, big), 0);
                CHECK_INT(journal_flush(j, NULL), 0);
                journal_forget(j, 7);
                CHECK_INT(journal_flush(j, NULL), 0);
                CHECK(size_of() < 1000);
                j = crash(j);
                CHECK_INT(journal_seen(j), 900);
        }
        /* Rewritten around something that stays. */
        CHECK_INT(finish(j, 5, "stays"), 0);
        for (uint64_t id = 10; id < 60; id++) {
                CHECK_INT(finish(j, id, big), 0);
                CHECK_INT(journal_flush(j, NULL), 0);
                journal_forget(j, id);
        }
        CHECK_INT(journal_flush(j, NULL), 0);
        CHECK(size_of() < (off_t)6 << 20);
        j = crash(j);
        CHECK_INT(journal_seen(j), 900);
        check_result(j, 5, "stays");
        journal_free(j);
}

TEST(journal, is_cut_when_nothing_is_held)
{
        struct journal *j = reopen(NULL, NULL);
        char big[4000];

        memset(big, 'x', sizeof big - 1);
        big[sizeof big - 1] = '\0';
        for (uint64_t id = 1; id <= 200; id++) {
                CHECK_INT(finish(j, id, big), 0);
                CHECK_INT(journal_flush(j, NULL), 0);
                journal_forget(j, id);
        }
        CHECK_INT(journal_flush(j, NULL), 0);
        CHECK(size_of() < 100000);
        journal_free(j);
}

TEST(journal, rewrites_itself_when_mostly_dead)
{
        struct journal_proc p = {.pid = 77, .start = 5, .boot = "b"};
        struct journal *j = reopen(NULL, NULL);
        static char big[100001];
        struct seen s = {0};

        memset(big, 'x', sizeof big - 1);
        CHECK_INT(journal_accept(j, 1, "runs.on", 7), 0);
        CHECK_INT(journal_process(j, 1, &p, NULL), 0);
        CHECK_INT(finish(j, 2, "stays"), 0);
        for (uint64_t id = 10; id < 200; id++) {
                CHECK_INT(finish(j, id, big), 0);
                CHECK_INT(journal_flush(j, NULL), 0);
                journal_forget(j, id);
        }
        CHECK_INT(journal_flush(j, NULL), 0);
        CHECK(size_of() < (off_t)6 << 20);
        check_result(j, 2, "stays");
        CHECK_INT(finish(j, 3, "later"), 0);
        CHECK_INT(journal_flush(j, NULL), 0);
        j = crash(j);
        CHECK_INT(journal_count(j), 3);
        CHECK_INT(journal_get(j, 1)->state, JOURNAL_RUNNING);
        CHECK_STR(journal_get(j, 1)->tool, "runs.on");
        check_result(j, 2, "stays");
        check_result(j, 3, "later");
        journal_each_proc(j, on_proc, &s);
        CHECK_INT(s.n, 1);
        journal_free(j);
}

TEST(journal, a_full_disk_loses_nothing_that_was_taken)
{
        struct rlimit lim = {.rlim_cur = 4096, .rlim_max = RLIM_INFINITY};
        struct journal *j = reopen(NULL, NULL);
        static char big[5001];
        struct err e = {0};

        signal(SIGXFSZ, SIG_IGN);
        memset(big, 'r', sizeof big - 1);
        CHECK_INT(journal_accept(j, 1, "t", 1), 0);
        CHECK_INT(journal_flush(j, NULL), 0);
        CHECK_INT(setrlimit(RLIMIT_FSIZE, &lim), 0);
        CHECK_INT(finish(j, 1, big), 0);
        CHECK_INT(journal_accept(j, 2, "t", 1), 0);
        CHECK(journal_flush(j, &e) < 0);
        CHECK(strstr(e.msg, "cannot be written"));
        CHECK(journal_unwritten(j));
        CHECK(!journal_get(j, 2)); /* not taken on */
        check_result(j, 1, big);   /* from memory */
        lim.rlim_cur = RLIM_INFINITY;
        CHECK_INT(setrlimit(RLIMIT_FSIZE, &lim), 0);
        CHECK_INT(journal_flush(j, NULL), 0);
        CHECK(!journal_unwritten(j));
        j = crash(j);
        check_result(j, 1, big);
        CHECK_INT(journal_count(j), 1);
        journal_free(j);
}

TEST(journal, limits_hold)
{
        struct journal *j = reopen(NULL, NULL);
        uint8_t *big = mem_calloc(1, JOURNAL_RECORD_MAX + 1);

        CHECK(big);
        CHECK_INT(journal_finish(j, 1, big, JOURNAL_RECORD_MAX + 1), -E_TOOBIG);
        CHECK(!journal_get(j, 1));
        for (uint64_t id = 1; id <= JOURNAL_ENTRIES_MAX; id++)
                CHECK_INT(journal_accept(j, id, "t", 0), 0);
        CHECK_INT(journal_accept(j, 99999999, "t", 0), -E_FULL);
        CHECK_INT(journal_flush(j, NULL), 0);
        journal_free(j);
        mem_free(big);
}

static int open_and_use(void *arg)
{
        struct journal *j;
        int rc = journal_open(arg, &j, NULL, NULL);

        if (rc)
                return rc;
        rc = journal_accept(j, 1, "t", 1);
        if (!rc)
                rc = journal_flush(j, NULL);
        if (!rc)
                rc = finish(j, 1, "result");
        if (!rc)
                rc = journal_flush(j, NULL);
        journal_forget(j, 1);
        journal_free(j);
        unlink(arg);
        return rc;
}

TEST(journal, survives_every_failed_allocation)
{
        char *path = journal_path();

        test_each_alloc_fails(open_and_use, path);
        mem_free(path);
}
