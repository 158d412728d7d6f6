/* Logs: what is appended is read back byte by byte, through crashes, full
 * disks and readers that race the appender. */
#include "common/buf.h"
#include "common/err.h"
#include "common/mem.h"
#include "hub/logs/logs.h"
#include "hub/store/store.h"
#include "tests/lib/test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define ID 0x1a2bULL

struct world {
        const char *dir;
        struct logs *logs;
        struct log_file *f;
        uint64_t end;
        struct err err;
};

static void world_open(struct world *w)
{
        if (!w->dir)
                w->dir = test_scratch();
        CHECK_INT(logs_create(w->dir, &w->logs, &w->err), 0);
        CHECK_INT(logs_open(w->logs, ID, &w->f, &w->end, &w->err), 0);
}

static void world_close(struct world *w)
{
        log_close(w->f);
        logs_free(w->logs);
}

static char *path_of(struct world *w, char out[512])
{
        snprintf(out, 512, "%s/logs/2b/1a2b.log", w->dir);
        return out;
}

static int append(struct world *w, int channel, const char *text)
{
        return log_append(w->f, log_end(w->f), channel, text, strlen(text), 1234567, &w->err);
}

static int collect(void *arg, uint64_t offset, int channel, const void *p, size_t n, int64_t at_us)
{
        struct buf *b = arg;

        return buf_printf(b, "%llu:%d@%lld:%.*s ", (unsigned long long)offset, channel, (long long)at_us,
                          (int)n, (const char *)p);
}

static void check_read(struct log_reader *r, size_t max, const char *want)
{
        struct buf b;

        buf_init(&b, 0);
        CHECK_INT(buf_puts(&b, ""), 0);
        CHECK_INT(log_reader_next(r, max, collect, &b), 0);
        CHECK_INT(buf_putc(&b, '\0'), 0);
        CHECK_STR((char *)b.data, want);
        buf_fini(&b);
}

TEST(logs, appended_pieces_come_back)
{
        struct log_reader *r;
        struct world w = {0};
        char path[512];
        struct stat st;

        CHECK_INT(log_reader_open(test_scratch(), ID, &r), -E_NOENT);
        world_open(&w);
        CHECK_INT(w.end, 0);
        CHECK_INT(log_reader_open(w.dir, ID, &r), 0);
        check_read(r, 100, "");
        CHECK_INT(append(&w, LOG_STDOUT, "hello "), 0);
        CHECK_INT(append(&w, LOG_STDERR, "world"), 0);
        CHECK_INT(log_end(w.f), 11);
        CHECK_INT(stat(path_of(&w, path), &st), 0);
        CHECK_INT(st.st_mode & 0777, 0600);
        CHECK_INT(st.st_size, 2 * LOGS_RECORD_HEADER + 11);
        check_read(r, 100, "0:1@1234567:hello  6:2@1234567:world ");
        CHECK_INT(log_reader_offset(r), 11);
        CHECK_INT(append(&w, LOG_EVENT, "!"), 0);
        check_read(r, 100, "11:3@1234567:! ");
        check_read(r, 100, "");
        CHECK_INT(log_reader_seek(r, 4), 0);
        check_read(r, 3, "4:1@1234567:o  6:2@1234567:w ");
        check_read(r, 100, "7:2@1234567:orld 11:3@1234567:! ");
        CHECK_INT(log_reader_seek(r, 100), 0);
        check_read(r, 100, "");
        log_reader_close(r);
        world_close(&w);
}

static int refuse_second(void *arg, uint64_t offset, int channel, const void *p, size_t n, int64_t at_us)
{
        (void)channel, (void)p, (void)n, (void)at_us, (void)arg;
        return offset > 0 ? 42 : 0;
}

TEST(logs, a_refused_piece_comes_again)
{
        struct log_reader *r;
        struct world w = {0};

        world_open(&w);
        append(&w, LOG_STDOUT, "ab");
        append(&w, LOG_STDOUT, "cd");
        CHECK_INT(log_reader_open(w.dir, ID, &r), 0);
        CHECK_INT(log_reader_next(r, 100, refuse_second, NULL), 42);
        check_read(r, 100, "2:1@1234567:cd ");
        log_reader_close(r);
        world_close(&w);
}

TEST(logs, offsets_make_appending_idempotent)
{
        struct log_reader *r;
        struct world w = {0};

        world_open(&w);
        CHECK_INT(log_append(w.f, 0, 1, "abcd", 4, 1, &w.err), 0);
        CHECK_INT(log_append(w.f, 0, 1, "abcd", 4, 1, &w.err), 0);
        CHECK_INT(log_append(w.f, 1, 1, "bc", 2, 1, &w.err), 0);
        CHECK_INT(log_append(w.f, 2, 1, "cdef", 4, 2, &w.err), 0);
        CHECK_INT(log_append(w.f, 7, 1, "h", 1, 3, &w.err), -E_INVAL);
        CHECK_INT(log_append(w.f, 6, 0, "g", 1, 3, &w.err), -E_INVAL);
        CHECK_INT(log_append(w.f, 6, 4, "g", 1, 3, &w.err), -E_INVAL);
        CHECK_INT(log_append(w.f, 6, 1, "", 0, 3, &w.err), 0);
        CHECK_INT(log_append(w.f, UINT64_MAX, 1, "x", 1, 3, &w.err), -E_INVAL);
        CHECK_INT(log_end(w.f), 6);
        CHECK_INT(log_reader_open(w.dir, ID, &r), 0);
        check_read(r, 100, "0:1@1:abcd 4:1@2:ef ");
        log_reader_close(r);
        world_close(&w);
}

TEST(logs, memory_and_framing)
{
        struct log_reader *r;
        struct buf b;

        buf_init(&b, 0);
        CHECK_INT(logs_frame(&b, LOG_STDOUT, "one", 3, 5), 0);
        CHECK_INT(logs_frame(&b, LOG_STDERR, "", 0, 5), 0);
        CHECK_INT(logs_frame(&b, LOG_STDERR, "two", 3, 6), 0);
        CHECK_INT(logs_frame(&b, 9, "x", 1, 6), -E_INVAL);
        CHECK_INT(b.len, 2 * LOGS_RECORD_HEADER + 6);
        CHECK_INT(log_reader_open_mem(b.data, b.len, &r), 0);
        check_read(r, 100, "0:1@5:one 3:2@6:two ");
        CHECK_INT(log_reader_seek(r, 2), 0);
        check_read(r, 2, "2:1@5:e 3:2@6:t ");
        log_reader_close(r);
        for (size_t n = 0; n < b.len; n++) { /* cut anywhere: only whole records */
                CHECK_INT(log_reader_open_mem(b.data, n, &r), 0);
                check_read(r, 100, n < 19 ? "" : "0:1@5:one ");
                log_reader_close(r);
        }
        b.data[0] = 7;
        CHECK_INT(log_reader_open_mem(b.data, b.len, &r), 0);
        CHECK_INT(log_reader_next(r, 100, refuse_second, NULL), -E_CORRUPT);
        log_reader_close(r);
        buf_fini(&b);
}

/* ---- long appends, compared byte by byte ---- */

static uint8_t pattern(uint64_t at)
{
        return (uint8_t)((at * 2654435761u) >> 13);
}

struct cursor {
        uint64_t at;
};

static int check_pattern(void *arg, uint64_t offset, int channel, const void *p, size_t n, int64_t at_us)
{
        struct cursor *c = arg;
        const uint8_t *bytes = p;

        (void)channel, (void)at_us;
        CHECK_INT(offset, c->at);
        for (size_t i = 0; i < n; i++) {
                if (bytes[i] != pattern(offset + i))
                        test_fail(__FILE__, __LINE__, "byte %llu differs", (unsigned long long)(offset + i));
        }
        c->at += n;
        return 0;
}

static void fill_pattern(uint8_t *p, uint64_t at, size_t n)
{
        for (size_t i = 0; i < n; i++)
                p[i] = pattern(at + i);
}

TEST(logs, long_and_short_appends_of_every_shape)
{
        static const size_t sizes[] = {1,
                                       15,
                                       16,
                                       17,
                                       4079,
                                       4080,
                                       4081,
                                       65519,
                                       65536,
                                       65537,
                                       100000,
                                       LOGS_RECORD_MAX,
                                       LOGS_RECORD_MAX + 1,
                                       3 * LOGS_RECORD_MAX + 5};
        uint8_t *p = mem_alloc(4 * LOGS_RECORD_MAX);
        struct world w = {0};
        struct log_reader *r;
        struct cursor c = {0};
        uint64_t end;

        CHECK(p != NULL);
        world_open(&w);
        CHECK_INT(log_reader_open(w.dir, ID, &r), 0);
        for (int round = 0; round < 3; round++) {
                for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
                        fill_pattern(p, log_end(w.f), sizes[i]);
                        CHECK_INT(log_append(w.f, log_end(w.f), 1 + (int)(i % 3), p, sizes[i], 1, &w.err), 0);
                        if (i % 2)
                                CHECK_INT(log_reader_next(r, 1000000, check_pattern, &c), 0);
                }
        }
        while (c.at < log_end(w.f))
                CHECK_INT(log_reader_next(r, 77777, check_pattern, &c), 0);
        for (uint64_t at = log_end(w.f); at > 1000; at = at * 2 / 3) { /* backwards too */
                CHECK_INT(log_reader_seek(r, at - 1000), 0);
                c.at = at - 1000;
                CHECK_INT(log_reader_next(r, 1000, check_pattern, &c), 0);
                CHECK_INT(c.at, at);
        }
        end = log_end(w.f);
        log_reader_close(r);
        world_close(&w);
        world_open(&w);
        CHECK_INT(w.end, end);
        CHECK_INT(log_reader_open(w.dir, ID, &r), 0);
        for (c.at = 0; c.at < end;)
                CHECK_INT(log_reader_next(r, 1 << 20, check_pattern, &c), 0);
        log_reader_close(r);
        mem_free(p);
        world_close(&w);
}

static atomic_bool writer_done;

static void *read_along(void *arg)
{
        struct cursor *c = mem_calloc(1, sizeof *c);
        struct log_reader *r;
        bool last;

        CHECK(c != NULL);
        CHECK_INT(log_reader_open(arg, ID, &r), 0);
        do {
                last = writer_done;
                CHECK_INT(log_reader_next(r, 1 << 22, check_pattern, c), 0);
        } while (!last);
        log_reader_close(r);
        return c;
}

TEST(logs, readers_race_the_appender)
{
        pthread_t readers[2];
        struct world w = {0};
        uint8_t buf[9000];
        void *c;

        world_open(&w);
        for (int i = 0; i < 2; i++)
                CHECK_INT(pthread_create(&readers[i], NULL, read_along, (void *)(uintptr_t)w.dir), 0);
        for (unsigned i = 0; i < 30000; i++) {
                size_t n = 1 + (i * 7919u) % (i % 50 ? 200 : sizeof buf);

                fill_pattern(buf, log_end(w.f), n);
                CHECK_INT(log_append(w.f, log_end(w.f), 1 + (int)(i & 1), buf, n, i, &w.err), 0);
        }
        writer_done = true;
        for (int i = 0; i < 2; i++) {
                CHECK_INT(pthread_join(readers[i], &c), 0);
                CHECK_INT(((struct cursor *)c)->at, log_end(w.f));
                mem_free(c);
        }
        world_close(&w);
}

/* ---- crashes and full disks ---- */

static void add_bytes(struct world *w, const void *p, size_t n)
{
        char path[512];
        int fd = open(path_of(w, path), O_WRONLY | O_APPEND);

        CHECK(fd >= 0);
        CHECK_INT(write(fd, p, n), (ssize_t)n);
        close(fd);
}

TEST(logs, a_torn_end_is_cut_off_on_first_use)
{
        static const uint8_t torn[][20] = {
                {1, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1, 'a', 'b'}, /* payload too short */
                {1, 0, 0},                                                  /* half a header */
                {0},                                     /* never published; zeros after a power cut */
                {1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0}, /* nonsense */
                {77},
        };

        for (size_t i = 0; i < sizeof torn / sizeof *torn; i++) {
                struct world w = {0};
                struct log_reader *r;
                uint64_t end = 9;

                w.dir = test_scratch();
                world_open(&w);
                if (w.end == 0)
                        append(&w, LOG_STDOUT, "whole");
                world_close(&w);
                add_bytes(&w, torn[i], i == 0 ? 18 : i == 1 ? 3 : 20);
                CHECK_INT(logs_create(w.dir, &w.logs, &w.err), 0);
                CHECK_INT(logs_end(w.logs, ID, &end, &w.err), 0);
                CHECK_INT(end, 5 + 3 * i);
                CHECK_INT(logs_end(w.logs, 99, &end, &w.err), 0);
                CHECK_INT(end, 0);
                logs_free(w.logs);
                world_open(&w);
                CHECK_INT(w.end, 5 + 3 * i);
                CHECK_INT(append(&w, LOG_STDERR, "end"), 0);
                CHECK_INT(log_reader_open(w.dir, ID, &r), 0);
                CHECK_INT(log_reader_seek(r, 5 + 3 * i), 0);
                {
                        char want[64];

                        snprintf(want, sizeof want, "%d:2@1234567:end ", (int)(5 + 3 * i));
                        check_read(r, 100, want);
                }
                log_reader_close(r);
                world_close(&w);
        }
}

TEST(logs, kill_9_leaves_whole_records)
{
        struct world w = {.dir = test_scratch()};
        struct cursor c = {0};
        struct log_reader *r;
        uint64_t acked = 0;
        int p[2];
        pid_t pid;

        CHECK_INT(pipe(p), 0);
        pid = fork();
        if (pid == 0) {
                uint8_t buf[5000];

                world_open(&w);
                for (unsigned i = 0;; i++) {
                        size_t n = 1 + (i * 31) % sizeof buf;
                        uint64_t end;

                        fill_pattern(buf, log_end(w.f), n);
                        CHECK_INT(log_append(w.f, log_end(w.f), 1, buf, n, 1, &w.err), 0);
                        end = log_end(w.f);
                        if (write(p[1], &end, sizeof end) != sizeof end)
                                _exit(0);
                }
        }
        close(p[1]);
        while (acked < 3000000 && read(p[0], &acked, sizeof acked) == sizeof acked)
                ;
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        while (read(p[0], &acked, sizeof acked) == sizeof acked)
                ;
        close(p[0]);
        world_open(&w);
        CHECK(w.end >= acked);
        CHECK_INT(log_reader_open(w.dir, ID, &r), 0);
        while (c.at < w.end)
                CHECK_INT(log_reader_next(r, 1 << 20, check_pattern, &c), 0);
        log_reader_close(r);
        world_close(&w);
}

/* A limit on file sizes stands in for the end of the disk: the write that crosses it is partial. */
TEST(logs, a_refused_append_leaves_nothing_behind)
{
        struct rlimit limit = {.rlim_cur = 100000, .rlim_max = RLIM_INFINITY};
        uint8_t *p = mem_alloc(3 * LOGS_RECORD_MAX);
        struct cursor c = {0};
        struct log_reader *r;
        struct world w = {0};
        char path[512];
        struct stat st;

        CHECK(p != NULL);
        fill_pattern(p, 0, 3 * LOGS_RECORD_MAX);
        signal(SIGXFSZ, SIG_IGN);
        world_open(&w);
        CHECK_INT(log_append(w.f, 0, 1, p, 5000, 1, &w.err), 0);
        CHECK_INT(log_reader_open(w.dir, ID, &r), 0);
        CHECK_INT(setrlimit(RLIMIT_FSIZE, &limit), 0);
        for (int i = 0; i < 3; i++) {
                CHECK(log_append(w.f, 5000, 1, p + 5000, 3 * LOGS_RECORD_MAX - 5000, 1, &w.err) < 0);
                CHECK(strstr(w.err.msg, "1a2b.log") != NULL);
                CHECK_INT(log_end(w.f), 5000);
                CHECK_INT(stat(path_of(&w, path), &st), 0);
                CHECK_INT(st.st_size, 5000 + LOGS_RECORD_HEADER);
                CHECK_INT(log_reader_next(r, 1 << 20, check_pattern, &c), 0);
                CHECK_INT(c.at, 5000);
        }
        limit.rlim_cur = RLIM_INFINITY;
        CHECK_INT(setrlimit(RLIMIT_FSIZE, &limit), 0);
        CHECK_INT(log_append(w.f, 5000, 1, p + 5000, 3 * LOGS_RECORD_MAX - 5000, 1, &w.err), 0);
        CHECK_INT(log_reader_next(r, 1 << 30, check_pattern, &c), 0);
        CHECK_INT(c.at, 3 * LOGS_RECORD_MAX);
        log_reader_close(r);
        mem_free(p);
        world_close(&w);
}

/* ---- syncing, many files, followers ---- */

struct synced {
        int calls, rc;
        uint64_t end;
};

static void on_durable(void *arg, int rc, uint64_t end)
{
        struct synced *s = arg;

        s->calls++;
        s->rc = rc;
        s->end = end;
}

TEST(logs, syncs_are_coalesced_and_complete_on_the_loop)
{
        struct synced s[100] = {{0}};
        struct world w = {0};
        uv_loop_t loop;

        CHECK_INT(uv_loop_init(&loop), 0);
        world_open(&w);
        logs_use_loop(w.logs, &loop);
        for (int i = 0; i < 100; i++) {
                CHECK_INT(append(&w, LOG_STDOUT, "x"), 0);
                CHECK_INT(log_sync(w.f, on_durable, &s[i]), 0);
                CHECK_INT(s[i].calls, 0);
        }
        log_close(w.f); /* the file lives until its syncs are done */
        CHECK_INT(logs_open(w.logs, ID, &w.f, &w.end, &w.err), 0);
        CHECK_INT(w.end, 100);
        uv_run(&loop, UV_RUN_DEFAULT);
        for (int i = 0; i < 100; i++) {
                CHECK_INT(s[i].calls, 1);
                CHECK_INT(s[i].rc, 0);
                CHECK_INT(s[i].end, i ? 100 : 1); /* the first began alone, the rest went as one */
        }
        CHECK_INT(log_sync(w.f, on_durable, &s[0]), 0);
        world_close(&w); /* with a sync under way: quiet, and nothing leaks */
        uv_run(&loop, UV_RUN_DEFAULT);
        CHECK_INT(s[0].calls, 1);
        CHECK_INT(uv_loop_close(&loop), 0);
}

TEST(logs, without_a_loop_syncs_at_once)
{
        struct synced s = {0};
        struct world w = {0};

        world_open(&w);
        CHECK_INT(append(&w, LOG_STDOUT, "abc"), 0);
        CHECK_INT(log_sync(w.f, on_durable, &s), 0);
        CHECK_INT(s.calls, 1);
        CHECK_INT(s.rc, 0);
        CHECK_INT(s.end, 3);
        world_close(&w);
}

static void on_committed(void *arg)
{
        struct world *w = arg;

        log_sync_with_done(w->f);
        w->f = NULL;
}

TEST(logs, sync_with_a_transaction)
{
        struct world w = {0};
        struct store *s;
        struct store_tx *tx;

        world_open(&w);
        CHECK_INT(store_open(&(struct store_options){.dir = w.dir, .create = true}, &s, &w.err), 0);
        tx = store_begin(s);
        CHECK_INT(append(&w, LOG_STDOUT, "abc"), 0);
        CHECK_INT(log_sync_with(w.f, tx, &w.err), 0);
        log_close(w.f);
        store_commit(tx, on_committed, &w);
        store_pump(s);
        CHECK(w.f == NULL);
        CHECK_INT(store_health(s, NULL), 0);
        CHECK_INT(logs_remove(w.logs, ID, &w.err), 0);
        CHECK_INT(logs_remove(w.logs, ID, &w.err), -E_NOENT);
        store_close(s);
        logs_free(w.logs);
}

static unsigned count_fds(void)
{
        DIR *d = opendir("/proc/self/fd");
        unsigned n = 0;

        while (readdir(d))
                n++;
        closedir(d);
        return n;
}

TEST(logs, a_thousand_files_share_a_few_descriptors)
{
        struct log_file *f[1000];
        struct world w = {0};
        unsigned before;
        uint64_t end;

        world_open(&w);
        before = count_fds();
        for (int round = 0; round < 3; round++) {
                for (unsigned i = 0; i < 1000; i++) {
                        if (round == 0)
                                CHECK_INT(logs_open(w.logs, 5000 + i, &f[i], &end, &w.err), 0);
                        CHECK_INT(log_append(f[i], log_end(f[i]), 1, &i, sizeof i, 1, &w.err), 0);
                }
                CHECK(count_fds() <= before + LOGS_OPEN_MAX);
        }
        for (unsigned i = 0; i < 1000; i++) {
                CHECK_INT(log_end(f[i]), 3 * sizeof i);
                CHECK_INT(logs_remove(w.logs, 5000 + i, &w.err), -E_STATE);
                log_close(f[i]);
                CHECK_INT(logs_end(w.logs, 5000 + i, &end, &w.err), 0);
                CHECK_INT(end, 3 * sizeof i);
        }
        CHECK(count_fds() <= before);
        world_close(&w);
}

static void on_change(void *ctx, uint64_t attempt_id, uint64_t end, bool finished)
{
        CHECK_INT(attempt_id, ID);
        *(uint64_t *)ctx = finished ? 1000 + end : end;
}

TEST(logs, followers_hear_of_appends_and_the_end)
{
        struct world w = {0};
        uint64_t heard = 0;

        world_open(&w);
        logs_on_change(w.logs, on_change, &heard);
        append(&w, LOG_STDOUT, "abc");
        CHECK_INT(heard, 3);
        append(&w, LOG_STDOUT, "de");
        CHECK_INT(heard, 5);
        log_close(w.f);
        logs_note_finished(w.logs, ID, 5);
        CHECK_INT(heard, 1005);
        logs_free(w.logs);
}

TEST(logs, a_folder_that_cannot_be_made_is_an_error)
{
        struct err e = {0};
        struct logs *l;
        char path[512];
        int fd;

        snprintf(path, sizeof path, "%s/logs", test_scratch());
        fd = open(path, O_CREAT | O_WRONLY, 0600);
        CHECK(fd >= 0);
        close(fd);
        CHECK(logs_create(test_scratch(), &l, &e) < 0);
        CHECK(e.msg[0] != '\0');
}

static int open_logs_once(void *arg)
{
        struct synced s = {0};
        struct world *w = arg;
        int rc = logs_create(w->dir, &w->logs, &w->err);

        if (rc)
                return rc;
        rc = logs_open(w->logs, ID, &w->f, &w->end, &w->err);
        if (!rc) {
                rc = log_sync(w->f, on_durable, &s);
                CHECK(rc || s.calls == 1);
                log_close(w->f);
        }
        logs_free(w->logs);
        return rc;
}

TEST(logs, opening_survives_every_failing_allocation)
{
        struct world w = {.dir = test_scratch()};

        test_each_alloc_fails(open_logs_once, &w);
}

static int open_reader_once(void *arg)
{
        struct log_reader *r = NULL;
        int rc = log_reader_open(((struct world *)arg)->dir, ID, &r);

        log_reader_close(r);
        if (!rc) {
                r = NULL;
                rc = log_reader_open_mem("x", 1, &r);
                log_reader_close(r);
        }
        return rc;
}

TEST(logs, readers_survive_every_failing_allocation)
{
        struct world w = {0};

        world_open(&w);
        test_each_alloc_fails(open_reader_once, &w);
        world_close(&w);
}
