/* The store on disks that are full, read-only, broken or damaged. Failing
 * system calls are put under SQLite itself, through its own table of them. */
#include "common/err.h"
#include "common/mailbox.h"
#include "common/mem.h"
#include "hub/store/store_impl.h"
#include "tests/lib/test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- writes that fail when told ---- */

static atomic_int fail_errno; /* 0: write */
static atomic_int failures;

static ssize_t failing_pwrite(int fd, const void *p, size_t n, off_t at)
{
        if (fail_errno) {
                failures++;
                errno = fail_errno;
                return -1;
        }
        return pwrite(fd, p, n, at);
}

static void install_failing_writes(void)
{
        sqlite3_vfs *vfs;

        sqlite3_initialize();
        vfs = sqlite3_vfs_find(NULL);
        vfs->xSetSystemCall(vfs, "pwrite", (sqlite3_syscall_ptr)failing_pwrite);
        vfs->xSetSystemCall(vfs, "pwrite64", (sqlite3_syscall_ptr)failing_pwrite);
}

struct disk {
        const char *dir;
        uv_loop_t loop;
        struct mailbox *mailbox;
        struct store *store;
        struct err err;
        int done;
};

static int try_open(struct disk *d)
{
        if (!d->dir)
                d->dir = test_scratch();
        memset(&d->err, 0, sizeof d->err);
        return store_open(&(struct store_options){.dir = d->dir, .mailbox = d->mailbox, .create = true},
                          &d->store, &d->err);
}

static void disk_open(struct disk *d)
{
        CHECK_INT(uv_loop_init(&d->loop), 0);
        CHECK_INT(mailbox_create(&d->loop, &d->mailbox), 0);
        if (try_open(d))
                test_fail(__FILE__, __LINE__, "store_open: %s", d->err.msg);
}

static void disk_close(struct disk *d)
{
        store_close(d->store);
        mailbox_close(d->mailbox, NULL, NULL);
        uv_run(&d->loop, UV_RUN_DEFAULT);
        uv_loop_close(&d->loop);
        d->mailbox = NULL;
}

static void on_done(void *arg)
{
        ((struct disk *)arg)->done++;
}

static void put(struct disk *d, const char *key, size_t bytes)
{
        struct store_tx *tx = store_begin(d->store);
        char *value = mem_calloc(1, bytes + 1);

        CHECK(value != NULL);
        memset(value, 'v', bytes);
        store_put_meta(tx, key, value);
        mem_free(value);
        store_commit(tx, on_done, d);
}

static void wait_done(struct disk *d, int n)
{
        while (d->done < n)
                uv_run(&d->loop, UV_RUN_ONCE);
}

static void wait_ill(struct disk *d, int code)
{
        while (store_health(d->store, &d->err) == 0)
                sched_yield();
        CHECK_INT(d->err.code, code);
}

static bool has_meta(struct disk *d, const char *key)
{
        struct store_reader *r = NULL;
        char *value = NULL;
        int rc;

        CHECK_INT(store_reader_open(d->store, &r, &d->err), 0);
        rc = read_meta(r, key, &value);
        mem_free(value);
        store_reader_close(r);
        CHECK(rc == 0 || rc == -E_NOENT);
        return rc == 0;
}

static void refuse_and_recover(int sys, int code)
{
        struct disk d = {0};

        install_failing_writes();
        disk_open(&d);
        put(&d, "before", 10);
        wait_done(&d, 1);
        fail_errno = sys;
        for (int i = 0; i < 5; i++) {
                char key[8];

                snprintf(key, sizeof key, "k%d", i);
                put(&d, key, 100);
        }
        wait_ill(&d, code);
        CHECK(strstr(d.err.msg, "hub.db") != NULL);
        CHECK_INT(d.done, 1);
        CHECK(has_meta(&d, "before") && !has_meta(&d, "k0"));
        while (failures < 2) /* it tries again by itself */
                sched_yield();
        CHECK_INT(store_health(d.store, NULL), -code);
        fail_errno = 0;
        wait_done(&d, 6);
        CHECK_INT(store_health(d.store, &d.err), 0);
        CHECK(has_meta(&d, "k0") && has_meta(&d, "k4"));
        disk_close(&d);
}

TEST(store_disk, full_disk_keeps_the_batch_until_there_is_room)
{
        refuse_and_recover(ENOSPC, E_NOSPACE);
}

TEST(store_disk, io_errors_keep_the_batch)
{
        refuse_and_recover(EIO, E_IO);
}

TEST(store_disk, a_disk_that_became_read_only_keeps_the_batch)
{
        refuse_and_recover(EROFS, E_READONLY);
}

TEST(store_disk, close_on_a_full_disk_ends_and_drops_what_waits)
{
        struct disk d = {0};

        install_failing_writes();
        disk_open(&d);
        put(&d, "kept", 10);
        wait_done(&d, 1);
        fail_errno = ENOSPC;
        put(&d, "lost", 10);
        wait_ill(&d, E_NOSPACE);
        disk_close(&d);
        CHECK_INT(d.done, 1);
        fail_errno = 0;
        disk_open(&d);
        CHECK(has_meta(&d, "kept") && !has_meta(&d, "lost"));
        disk_close(&d);
}

TEST(store_disk, pump_tries_once_and_keeps_the_order)
{
        struct disk d = {0};

        install_failing_writes();
        CHECK_INT(try_open(&d), 0);
        fail_errno = ENOSPC;
        put(&d, "a", 10);
        store_pump(d.store);
        put(&d, "b", 10);
        store_pump(d.store);
        CHECK_INT(d.done, 0);
        CHECK_INT(store_health(d.store, NULL), -E_NOSPACE);
        fail_errno = 0;
        store_pump(d.store);
        CHECK_INT(d.done, 2);
        CHECK_INT(store_health(d.store, NULL), 0);
        store_close(d.store);
}

/* The real thing, where the test may mount: a file system of 4 MiB. */
TEST(store_disk, a_tiny_file_system_fills_up_and_is_freed)
{
        struct disk d = {0};
        char path[512], fill[600];
        int fd, n = 0;

        snprintf(path, sizeof path, "%s/tiny", test_scratch());
        CHECK_INT(mkdir(path, 0700), 0);
        if (mount("none", path, "tmpfs", 0, "size=4m") != 0) {
                fprintf(stderr, "store_disk: not allowed to mount, skipped\n");
                rmdir(path);
                return;
        }
        d.dir = path;
        disk_open(&d);
        snprintf(fill, sizeof fill, "%s/fill", path);
        fd = open(fill, O_WRONLY | O_CREAT, 0600);
        CHECK(fd >= 0);
        while (write(fd, path, sizeof path) > 0)
                ;
        close(fd);
        while (store_health(d.store, &d.err) == 0) {
                char key[16];

                snprintf(key, sizeof key, "k%d", n++);
                put(&d, key, 2000);
                while (d.done < n && store_health(d.store, NULL) == 0)
                        uv_run(&d.loop, UV_RUN_NOWAIT);
        }
        CHECK_INT(d.err.code, E_NOSPACE);
        CHECK_INT(unlink(fill), 0);
        wait_done(&d, n);
        CHECK_INT(store_health(d.store, NULL), 0);
        CHECK(has_meta(&d, "k0"));
        disk_close(&d);
        CHECK_INT(umount(path), 0);
}

/* ---- files that cannot be opened ---- */

static void check_refused(struct disk *d, int code, const char *say)
{
        CHECK_INT(try_open(d), -code);
        CHECK_INT(d->err.code, code);
        if (!strstr(d->err.msg, say))
                test_fail(__FILE__, __LINE__, "\"%s\" does not say \"%s\"", d->err.msg, say);
}

static void make_database(struct disk *d, int rows)
{
        CHECK_INT(try_open(d), 0);
        for (int i = 0; i < rows; i++) {
                char key[16];

                snprintf(key, sizeof key, "key-%06d", i);
                put(d, key, 200);
        }
        store_pump(d->store);
        store_close(d->store);
}

static int open_file(struct disk *d, int flags)
{
        char path[512];
        int fd;

        snprintf(path, sizeof path, "%s/hub.db", d->dir);
        fd = open(path, flags, 0600);
        CHECK(fd >= 0);
        return fd;
}

static void exec_sql(struct disk *d, const char *sql)
{
        char path[512];
        sqlite3 *h;

        snprintf(path, sizeof path, "%s/hub.db", d->dir);
        CHECK_INT(sqlite3_open(path, &h), SQLITE_OK);
        CHECK_INT(sqlite3_exec(h, sql, NULL, NULL, NULL), SQLITE_OK);
        CHECK_INT(sqlite3_close(h), SQLITE_OK);
}

TEST(store_disk, no_database_and_no_folder)
{
        struct disk d = {.dir = "/nonexistent/photon"};
        struct err e = {0};

        check_refused(&d, E_NOENT, "photon-hub init");
        d.dir = test_scratch();
        CHECK_INT(store_open(&(struct store_options){.dir = d.dir}, &d.store, &e), -E_NOENT);
        CHECK(strstr(e.msg, "photon-hub init") != NULL);
        close(open_file(&d, O_CREAT | O_WRONLY)); /* an empty file is a database of nothing */
        CHECK_INT(store_open(&(struct store_options){.dir = d.dir}, &d.store, &e), 0);
        store_close(d.store);
}

TEST(store_disk, files_are_private)
{
        struct disk d = {0};
        struct dirent *de;
        char path[512];
        struct stat st;
        int n = 0;
        DIR *dir;

        CHECK_INT(try_open(&d), 0);
        put(&d, "k", 10);
        store_pump(d.store);
        dir = opendir(d.dir);
        while ((de = readdir(dir)) != NULL) {
                if (de->d_name[0] == '.')
                        continue;
                snprintf(path, sizeof path, "%s/%s", d.dir, de->d_name);
                CHECK_INT(stat(path, &st), 0);
                CHECK_INT(st.st_mode & 0777, 0600);
                n++;
        }
        closedir(dir);
        CHECK_INT(n, 3); /* hub.db, -wal, -shm */
        store_close(d.store);
}

TEST(store_disk, a_newer_schema_is_refused)
{
        struct disk d = {0};
        char back[64];

        d.dir = test_scratch();
        make_database(&d, 1);
        exec_sql(&d, "PRAGMA user_version=999");
        check_refused(&d, E_VERSION, "newer");
        snprintf(back, sizeof back, "PRAGMA user_version=%d", store_schema_version());
        exec_sql(&d, back);
        CHECK_INT(try_open(&d), 0);
        store_close(d.store);
}

TEST(store_disk, another_programs_database_is_refused)
{
        struct disk d = {.dir = test_scratch()};

        exec_sql(&d, "CREATE TABLE t(x); PRAGMA application_id=77");
        check_refused(&d, E_CORRUPT, "another program");
}

TEST(store_disk, text_instead_of_a_database_is_refused)
{
        struct disk d = {.dir = test_scratch()};
        int fd = open_file(&d, O_CREAT | O_WRONLY);

        for (int i = 0; i < 1000; i++)
                CHECK_INT(write(fd, "hello, world\n", 13), 13);
        close(fd);
        check_refused(&d, E_CORRUPT, "not a PHOTON database");
}

TEST(store_disk, a_truncated_database_is_refused)
{
        struct disk d = {.dir = test_scratch()};
        struct stat st;
        int fd;

        make_database(&d, 500);
        fd = open_file(&d, O_RDWR);
        CHECK_INT(fstat(fd, &st), 0);
        CHECK_INT(ftruncate(fd, st.st_size / 2), 0);
        close(fd);
        check_refused(&d, E_CORRUPT, "backup");
}

TEST(store_disk, overwritten_pages_are_refused)
{
        struct disk d = {.dir = test_scratch()};
        char junk[4096];
        struct stat st;
        int fd;

        make_database(&d, 500);
        fd = open_file(&d, O_RDWR);
        CHECK_INT(fstat(fd, &st), 0);
        memset(junk, 0xa5, sizeof junk);
        for (off_t at = st.st_size / 2 / 4096 * 4096; at < st.st_size; at += 4096)
                CHECK_INT(pwrite(fd, junk, sizeof junk, at), sizeof junk);
        close(fd);
        check_refused(&d, E_CORRUPT, "backup");
}

TEST(store_disk, an_unclean_stop_is_noted_and_recovered)
{
        struct disk d = {.dir = test_scratch()};
        int status;
        pid_t pid = fork();

        if (pid == 0) {
                if (try_open(&d))
                        _exit(1);
                put(&d, "k", 10);
                store_pump(d.store);
                kill(getpid(), SIGKILL);
        }
        CHECK_INT(waitpid(pid, &status, 0), pid);
        CHECK(WIFSIGNALED(status));
        CHECK_INT(try_open(&d), 0);
        CHECK(has_meta(&d, "k"));
        store_close(d.store);
}

static void child_opens_read_only(const char *dir, int want)
{
        struct disk d = {.dir = dir};

        if (getuid() == 0 && (setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534)))
                _exit(3);
        if (try_open(&d) == 0)
                _exit(4);
        if (d.err.code != want)
                fprintf(stderr, "said: %s\n", d.err.msg);
        _exit(d.err.code == want ? 0 : 5);
}

static void check_child(const char *dir, int want)
{
        int status = 0;
        pid_t pid = fork();

        if (pid == 0)
                child_opens_read_only(dir, want);
        CHECK_INT(waitpid(pid, &status, 0), pid);
        CHECK(WIFEXITED(status));
        CHECK_INT(WEXITSTATUS(status), 0);
}

TEST(store_disk, a_read_only_folder_is_refused)
{
        struct disk d = {.dir = test_scratch()};
        char path[512];

        make_database(&d, 1);
        snprintf(path, sizeof path, "%s/hub.db", d.dir);
        CHECK_INT(chmod(path, 0444), 0);
        CHECK_INT(chmod(d.dir, 0777), 0);
        check_child(d.dir, E_READONLY);
        CHECK_INT(chmod(path, 0666), 0);
        CHECK_INT(chmod(d.dir, 0555), 0);
        check_child(d.dir, E_READONLY);
        CHECK_INT(unlink(path), 0);
        check_child(d.dir, E_READONLY);
        CHECK_INT(chmod(d.dir, 0700), 0);
}

static int open_once(void *arg)
{
        struct store_reader *r = NULL;
        struct disk *d = arg;
        char *value = NULL;
        int64_t a, b;
        uint64_t id;
        int rc = try_open(d);

        if (rc)
                return rc;
        rc = store_reader_open(d->store, &r, &d->err);
        if (!rc)
                rc = read_meta(r, "open", &value);
        if (!rc)
                rc = read_max(r, &a, &id, &b);
        mem_free(value);
        store_reader_close(r);
        store_close(d->store);
        return rc;
}

TEST(store_disk, opening_survives_every_failing_allocation)
{
        struct disk d = {.dir = test_scratch()};

        CHECK_INT(open_once(&d), 0);
        test_each_alloc_fails(open_once, &d);
}
