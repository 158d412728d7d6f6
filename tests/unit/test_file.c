#include "tests/lib/test.h"

#include "common/err.h"
#include "common/file.h"
#include "common/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *in_scratch(const char *name)
{
        static char path[4][512];
        static int turn;

        turn = (turn + 1) % 4;
        snprintf(path[turn], sizeof path[turn], "%s/%s", test_scratch(), name);
        return path[turn];
}

static int entries(const char *dir)
{
        DIR *d = opendir(dir);
        int n = 0;

        CHECK(d != NULL);
        while (readdir(d))
                n++;
        closedir(d);
        return n - 2;
}

TEST(file, writes_whole_and_reads_back)
{
        const char *p = in_scratch("f");
        struct err e;
        struct stat st;
        char *text;
        size_t n;

        CHECK_INT(file_write_atomic(p, "one", 3, 0644, &e), 0);
        CHECK_INT(file_write_atomic(p, "a\0b", 3, 0600, &e), 0);
        CHECK_INT(file_read(p, 3, &text, &n, &e), 0);
        CHECK(n == 3 && memcmp(text, "a\0b\0", 4) == 0);
        mem_free(text);
        CHECK(stat(p, &st) == 0 && (st.st_mode & 0777) == 0600);
        CHECK_INT(entries(test_scratch()), 1);
        CHECK_INT(file_write_atomic(p, NULL, 0, 0600, &e), 0);
        CHECK_INT(file_read(p, 0, &text, &n, &e), 0);
        CHECK_INT(n, 0);
        mem_free(text);
}

TEST(file, a_key_that_others_may_read_is_none)
{
        const char *p = in_scratch("key");
        struct err e = {0};
        char *text = NULL;
        size_t n;

        CHECK_INT(file_read_private(p, 100, &text, &n, &e), -E_NOENT);
        CHECK_STR(e.msg, "");
        CHECK_INT(file_write_atomic(p, "key", 3, 0640, &e), 0);
        CHECK_INT(file_read_private(p, 100, &text, &n, &e), -E_DENIED);
        CHECK(strstr(e.msg, "chmod 600"));
        CHECK(!text);
        CHECK_INT(chmod(p, 0600), 0);
        CHECK_INT(file_read_private(p, 100, &text, &n, &e), 0);
        CHECK_STR(text, "key");
        mem_free(text);
}

TEST(file, refuses_what_is_too_large_or_no_file)
{
        const char *p = in_scratch("f");
        struct err e;
        char *text = NULL;
        size_t n;

        CHECK_INT(file_write_atomic(p, "12345", 5, 0600, &e), 0);
        CHECK_INT(file_read(p, 4, &text, &n, &e), -E_TOOBIG);
        CHECK_INT(file_read(in_scratch("none"), 4, &text, &n, &e), -E_NOENT);
        CHECK(strstr(e.msg, "none"));
        CHECK_INT(file_read(test_scratch(), 4, &text, &n, &e), -E_INVAL);
        CHECK(mkfifo(in_scratch("fifo"), 0600) == 0);
        CHECK_INT(file_read(in_scratch("fifo"), 4, &text, &n, &e), -E_INVAL);
        CHECK(text == NULL);
}

TEST(file, reads_files_that_state_no_size)
{
        struct err e;
        char *text;
        size_t n;

        CHECK_INT(file_read("/proc/self/status", 1 << 20, &text, &n, &e), 0);
        CHECK(n > 100 && strlen(text) == n);
        mem_free(text);
        CHECK_INT(file_read("/proc/self/status", 100, &text, &n, &e), -E_TOOBIG);
}

TEST(file, failed_write_leaves_the_old_and_no_litter)
{
        struct err e;

        CHECK_INT(file_write_atomic(in_scratch("no/such"), "x", 1, 0600, &e), -E_NOENT);
        CHECK(mkdir(in_scratch("d"), 0700) == 0);
        CHECK(mkdir(in_scratch("d/full"), 0700) == 0);
        CHECK(file_write_atomic(in_scratch("d"), "x", 1, 0600, &e) < 0);
        CHECK_INT(entries(test_scratch()), 1);
        CHECK_INT(file_write_atomic("/dev/full/x", "x", 1, 0600, &e), -E_INVAL);
}

TEST(file, full_disk_is_said)
{
        int fd = open("/dev/full", O_WRONLY);

        CHECK(fd >= 0);
        CHECK_INT(file_write_all(fd, "x", 1), -E_NOSPACE);
        close(fd);
        CHECK_INT(file_write_all(-1, "x", 1), -E_CLOSED);
}

TEST(file, makes_private_folders)
{
        struct err e;
        struct stat st;

        CHECK_INT(file_mkdir_private(in_scratch("a/b//c/"), &e), 0);
        CHECK(stat(in_scratch("a/b/c"), &st) == 0 && (st.st_mode & 0777) == 0700);
        CHECK_INT(file_mkdir_private(in_scratch("a/b/c"), &e), 0);
        CHECK(chmod(in_scratch("a/b/c"), 0777) == 0);
        CHECK_INT(file_mkdir_private(in_scratch("a/b/c"), &e), -E_DENIED);
        CHECK(strstr(e.msg, "chmod go-w"));
        CHECK_INT(file_write_atomic(in_scratch("file"), "", 0, 0600, &e), 0);
        CHECK_INT(file_mkdirs(in_scratch("file"), 0700, &e), -E_EXIST);
        CHECK_INT(file_mkdirs(in_scratch("file/x"), 0700, &e), -E_EXIST);
        CHECK_INT(file_mkdirs("", 0700, &e), -E_INVAL);
}

TEST(file, lock_is_exclusive)
{
        struct err e;
        int fd, fd2, status;
        pid_t pid;

        CHECK_INT(file_lock(in_scratch("lock"), &fd, &e), 0);
        pid = fork();
        if (pid == 0)
                _exit(file_lock(in_scratch("lock"), &fd2, &e) == -E_EXIST ? 0 : 1);
        CHECK(waitpid(pid, &status, 0) == pid && status == 0);
        close(fd);
        CHECK_INT(file_lock(in_scratch("lock"), &fd, &e), 0);
        close(fd);
}

TEST(file, joins_paths)
{
        char *a = path_join("/x", "y"), *b = path_join("/", "y"), *c = path_join("", "y");

        CHECK_STR(a, "/x/y");
        CHECK_STR(b, "/y");
        CHECK_STR(c, "y");
        mem_free(a);
        mem_free(b);
        mem_free(c);
}

static int all(void *arg)
{
        char *text = NULL;
        size_t n;
        int rc = file_write_atomic(in_scratch("f"), "x", 1, 0600, NULL);

        (void)arg;
        if (!rc)
                rc = file_read(in_scratch("f"), 10, &text, &n, NULL);
        if (!rc)
                rc = file_mkdirs(in_scratch("q/r"), 0700, NULL);
        mem_free(text);
        return rc;
}

TEST(file, survives_no_memory)
{
        test_scratch();
        test_each_alloc_fails(all, NULL);
        CHECK_INT(entries(test_scratch()), 2);
}
