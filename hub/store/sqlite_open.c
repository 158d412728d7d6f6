/* Opening, checking and migrating the database, and SQLite's errors in words. */
#include "hub/store/store_impl.h"

#include "common/file.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/str.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define DB_NAME "hub.db"
/* The WAL is filled with zeros up to here, once: overwriting blocks that the
 * file has costs half of what appending does in fdatasync, which then need not
 * commit the file system's own journal (89 against 160 us measured on ext4).
 * The checkpoint limit in sqlite_write.c keeps the WAL inside. */
#define WAL_PREPARE_BYTES (16 << 20)
#define WAL_PREPARE_FREE  ((uint64_t)512 << 20) /* not on a disk with less room than this */
#define CHECK_ALWAYS_BYTES                                                                                   \
        (8 << 20) /* a database this small is checked at each start: it takes milliseconds */

/* ---- errors ---- */

static int code_of(int sqlite_rc)
{
        switch (sqlite_rc & 0xff) {
        case SQLITE_FULL:
                return E_NOSPACE;
        case SQLITE_READONLY:
                return E_READONLY;
        case SQLITE_CORRUPT:
        case SQLITE_NOTADB:
                return E_CORRUPT;
        case SQLITE_BUSY:
        case SQLITE_LOCKED:
                return E_AGAIN;
        case SQLITE_NOMEM:
                return E_NOMEM;
        case SQLITE_CANTOPEN:
        case SQLITE_IOERR:
                return E_IO;
        case SQLITE_PERM:
        case SQLITE_AUTH:
                return E_DENIED;
        case SQLITE_TOOBIG:
                return E_TOOBIG;
        default:
                return E_INTERNAL;
        }
}

static const char *advice(int code)
{
        switch (code) {
        case E_NOSPACE:
                return "the disk is full: free some space, writing goes on by itself";
        case E_READONLY:
                return "the folder or file is read-only for this user: remount it writable or correct its "
                       "owner and "
                       "mode (0700)";
        case E_CORRUPT:
                return "the file is damaged: stop the hub and restore the data folder from a backup, or "
                       "salvage it "
                       "with `sqlite3 hub.db .recover | sqlite3 new.db`";
        case E_AGAIN:
                return "another program holds the database: close it";
        case E_IO:
                return "the disk or file system reports errors: look at dmesg";
        case E_DENIED:
                return "correct the owner and mode of the data folder";
        default:
                return "see the log";
        }
}

/* What the system said to the handle; SQLite keeps it with the file that failed, not always with the handle.
 */
static int system_errno(sqlite3 *h)
{
        sqlite3_file *wal = NULL;
        int sys = h ? sqlite3_system_errno(h) : 0;

        if (h && !sys)
                sqlite3_file_control(h, "main", SQLITE_FCNTL_LAST_ERRNO, &sys);
        if (h && !sys && sqlite3_file_control(h, "main", SQLITE_FCNTL_JOURNAL_POINTER, &wal) == SQLITE_OK &&
            wal && wal->pMethods)
                wal->pMethods->xFileControl(wal, SQLITE_FCNTL_LAST_ERRNO, &sys);
        return sys;
}

int db_error(sqlite3 *h, int sqlite_rc, const char *path, const char *doing, struct err *e)
{
        int code = code_of(sqlite_rc);
        int sys = system_errno(h);
        const char *what =
                h && sqlite3_errcode(h) != SQLITE_OK ? sqlite3_errmsg(h) : sqlite3_errstr(sqlite_rc);

        if ((code == E_IO || code == E_READONLY) && sys) {
                if (err_from_errno(sys) == E_NOSPACE || err_from_errno(sys) == E_READONLY)
                        code = err_from_errno(sys);
                what = strerror(sys);
        }
        return err_set(e, code, "%s: %s: %s; %s", path, doing, what, advice(code));
}

int db_prepare(sqlite3 *h, const char *sql, sqlite3_stmt **out)
{
        return sqlite3_prepare_v3(h, sql, -1, SQLITE_PREPARE_PERSISTENT, out, NULL);
}

static int exec(struct db *d, const char *sql, const char *doing, struct err *e)
{
        int rc = sqlite3_exec(d->h, sql, NULL, NULL, NULL);

        return rc == SQLITE_OK ? 0 : db_error(d->h, rc, d->path, doing, e);
}

/* The first column of the first row; `or` if there is none. */
static int query_int(struct db *d, const char *sql, int64_t or, int64_t *out, struct err *e)
{
        sqlite3_stmt *st = NULL;
        int rc = db_prepare(d->h, sql, &st);

        if (rc == SQLITE_OK)
                rc = sqlite3_step(st);
        if (rc == SQLITE_ROW)
                *out = sqlite3_column_int64(st, 0);
        else if (rc == SQLITE_DONE)
                *out = or ;
        else
                db_error(d->h, rc, d->path, "cannot read", e);
        sqlite3_finalize(st);
        return rc == SQLITE_ROW || rc == SQLITE_DONE ? 0 : -code_of(rc);
}

/* ---- the steps of opening ---- */

/* SQLite's own statistics cost a global lock per allocation. */
static void configure_once(void)
{
        sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
}

static int check_file(struct db *d, const char *dir, bool create, struct err *e)
{
        struct stat st;

        if (stat(dir, &st) != 0)
                return err_set(e, err_from_errno(errno),
                               "%s: %s; `photon-hub init --data DIR` makes a data folder", dir,
                               strerror(errno));
        if (!S_ISDIR(st.st_mode))
                return err_set(e, E_INVAL, "%s is not a folder; give the hub's data folder", dir);
        /* SQLite would open for reading where it cannot write, and tell later. */
        if (access(dir, R_OK | W_OK | X_OK) != 0)
                return err_set(e, E_READONLY, "%s: %s: %s", dir, strerror(errno), advice(E_READONLY));
        if (stat(d->path, &st) != 0) {
                if (errno != ENOENT)
                        return err_set(e, err_from_errno(errno), "%s: %s; correct the owner and mode",
                                       d->path, strerror(errno));
                return create ? 0
                              : err_set(e, E_NOENT,
                                        "%s: no database here; run `photon-hub init --data DIR` first",
                                        d->path);
        }
        if (!S_ISREG(st.st_mode))
                return err_set(e, E_INVAL, "%s is not a regular file; move it away", d->path);
        if (access(d->path, R_OK | W_OK) != 0)
                return err_set(e, E_READONLY, "%s: %s: %s", d->path, strerror(errno), advice(E_READONLY));
        return 0;
}

static int open_handle(struct db *d, struct err *e)
{
        int flags =
                SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE;
        mode_t mask = umask(0077); /* SQLite creates the file 0644 otherwise, and -wal, -shm after it */
        int rc = sqlite3_open_v2(d->path, &d->h, flags, NULL);
        int64_t app = 0, version = 0;

        if (rc == SQLITE_OK) {
                sqlite3_extended_result_codes(d->h, 1);
                sqlite3_busy_timeout(d->h, 2000);
                /* The file itself is created by the first statement that touches it. */
                rc = sqlite3_exec(d->h, "PRAGMA journal_mode", NULL, NULL, NULL);
        }
        umask(mask);
        if (rc != SQLITE_OK && (rc & 0xff) != SQLITE_NOTADB)
                return db_error(d->h, rc, d->path, "cannot open", e);
        if (rc != SQLITE_OK || query_int(d, "PRAGMA application_id", 0, &app, NULL) != 0 ||
            query_int(d, "PRAGMA user_version", 0, &version, e) != 0)
                return err_set(e, E_CORRUPT, "%s: not a PHOTON database, or its first page is damaged; %s",
                               d->path, advice(E_CORRUPT));
        if (sqlite3_db_readonly(d->h, "main") == 1)
                return err_set(e, E_READONLY, "%s: %s", d->path, advice(E_READONLY));
        if (app != STORE_APPLICATION_ID && (app != 0 || version != 0))
                return err_set(e, E_CORRUPT,
                               "%s: this is another program's SQLite database; move it away or give "
                               "another data folder",
                               d->path);
        if (version > store_schema_version())
                return err_set(e, E_VERSION,
                               "%s: schema %lld is newer than this hub, which knows %d; install the newer "
                               "photon-hub or restore the backup from before the upgrade",
                               d->path, (long long)version, store_schema_version());
        return 0;
}

static int set_pragmas(struct db *d, struct err *e)
{
        int64_t wal = 0;
        int rc;

        /* What a page held is overwritten only where that writes no more pages (secure_delete=FAST). */
        rc = exec(d,
                  "PRAGMA page_size=4096;"
                  "PRAGMA journal_mode=WAL;"
                  "PRAGMA synchronous=FULL;"
                  "PRAGMA wal_autocheckpoint=0;"
                  "PRAGMA journal_size_limit=67108864;"
                  "PRAGMA cache_size=-4096;"
                  "PRAGMA mmap_size=0;"
                  "PRAGMA temp_store=MEMORY;"
                  "PRAGMA secure_delete=FAST;"
                  "PRAGMA trusted_schema=OFF;",
                  "cannot set up", e);
        if (rc)
                return rc;
        rc = query_int(d, "SELECT journal_mode='wal' FROM pragma_journal_mode", 0, &wal, e);
        if (!rc && !wal)
                rc = err_set(e, E_NOTSUP,
                             "%s: this file system cannot hold a write-ahead log (no shared memory); put "
                             "the data folder on a local disk",
                             d->path);
        return rc;
}

static int migrate(struct db *d, struct err *e)
{
        int64_t version = 0;
        int rc = query_int(d, "PRAGMA user_version", 0, &version, e);

        d->fresh = !rc && version == 0;
        for (; !rc && version < store_schema_version(); version++) {
                char tail[128];

                if (version > 0)
                        log_info("store", "migrating the database", "from=%lld to=%lld", (long long)version,
                                 (long long)version + 1);
                snprintf(tail, sizeof tail, "PRAGMA application_id=%d; PRAGMA user_version=%lld; COMMIT",
                         STORE_APPLICATION_ID, (long long)version + 1);
                rc = exec(d, "BEGIN IMMEDIATE", "cannot migrate", e);
                if (!rc)
                        rc = exec(d, store_migrations[version], "cannot migrate", e);
                if (!rc)
                        rc = exec(d, tail, "cannot migrate", e);
                if (rc)
                        sqlite3_exec(d->h, "ROLLBACK", NULL, NULL, NULL);
        }
        return rc;
}

static int quick_check(struct db *d, struct err *e)
{
        sqlite3_stmt *st = NULL;
        int rc = db_prepare(d->h, "PRAGMA quick_check(1)", &st);
        const char *said;

        if (rc == SQLITE_OK)
                rc = sqlite3_step(st);
        if (rc == SQLITE_ROW) {
                said = (const char *)sqlite3_column_text(st, 0);
                rc = said && strcmp(said, "ok") == 0 ? 0
                                                     : err_set(e, E_CORRUPT, "%s: %s; %s", d->path,
                                                               said ? said : "?", advice(E_CORRUPT));
        } else {
                rc = db_error(d->h, rc == SQLITE_DONE ? SQLITE_CORRUPT : rc, d->path, "cannot check", e);
        }
        sqlite3_finalize(st);
        return rc;
}

/* `open` is set while a hub has the database: found set, the last one did not stop by itself. */
static int check_after_unclean_stop(struct db *d, struct err *e)
{
        struct stat st = {0};
        int64_t unclean = 0;
        int rc = query_int(d, "SELECT value='1' FROM meta WHERE key='open'", 0, &unclean, e);

        if (rc)
                return rc;
        stat(d->path, &st);
        if (unclean || st.st_size <= CHECK_ALWAYS_BYTES) {
                if (unclean)
                        log_info("store", "checking the database after an unclean stop", "bytes=%lld",
                                 (long long)st.st_size);
                rc = quick_check(d, e);
        }
        if (!rc)
                rc = exec(d, "INSERT OR REPLACE INTO meta(key,value) VALUES('open','1')", "cannot write", e);
        return rc;
}

/* Best effort: without it commits are slower, not wrong. What lies behind the
 * last frame is nothing to SQLite, which checks each frame's salt and sum. */
static void prepare_wal(struct db *d)
{
        char *path = str_printf("%s-wal", d->path);
        char *zeros = mem_calloc(1, 1 << 18);
        struct statvfs vfs;
        struct stat st;
        int fd = path ? open(path, O_WRONLY | O_CLOEXEC) : -1;

        if (fd < 0 || !zeros || fstat(fd, &st) != 0 || st.st_size == 0 || st.st_size >= WAL_PREPARE_BYTES)
                goto out;
        if (fstatvfs(fd, &vfs) != 0 || (uint64_t)vfs.f_bavail * vfs.f_frsize < WAL_PREPARE_FREE)
                goto out;
        for (off_t at = st.st_size; at < WAL_PREPARE_BYTES; at += 1 << 18) {
                if (pwrite(fd, zeros, 1 << 18, at) != 1 << 18) {
                        if (ftruncate(fd, st.st_size) != 0)
                                log_warn("store", "cannot shorten the write-ahead log", "error=\"%s\"",
                                         strerror(errno));
                        break;
                }
        }
        if (fdatasync(fd) != 0)
                log_warn("store", "cannot sync the write-ahead log", "error=\"%s\"", strerror(errno));
out:
        if (fd >= 0)
                close(fd);
        mem_free(zeros);
        mem_free(path);
}

static int count_wal_pages(void *arg, sqlite3 *h, const char *name, int pages)
{
        struct db *d = arg;

        (void)h;
        (void)name;
        if (pages < d->wal_pages || d->checkpoint_at == 0 || pages < WAL_PAGES_MAX / 4)
                d->checkpoint_at = WAL_PAGES_MAX; /* the WAL began anew */
        d->wal_pages = pages;
        return SQLITE_OK;
}

int db_open(struct db *d, const char *dir, bool create, struct err *e)
{
        static pthread_once_t once = PTHREAD_ONCE_INIT;
        int rc;

        *d = (struct db){0};
        pthread_once(&once, configure_once);
        d->path = path_join(dir, DB_NAME);
        if (!d->path)
                return err_set(e, E_NOMEM, "out of memory");
        rc = check_file(d, dir, create, e);
        if (!rc)
                rc = open_handle(d, e);
        if (!rc)
                rc = set_pragmas(d, e);
        if (!rc)
                rc = migrate(d, e);
        if (!rc)
                rc = check_after_unclean_stop(d, e);
        if (!rc)
                rc = query_int(d, "SELECT attempt_id FROM marks WHERE id=1", 0, &d->attempt_bound, e);
        if (!rc)
                rc = audit_open(d, e);
        if (rc) {
                db_close(d, false);
                return rc;
        }
        sqlite3_wal_hook(d->h, count_wal_pages, d);
        prepare_wal(d);
        return 0;
}

void db_close(struct db *d, bool clean)
{
        int rc;

        db_finalize_writes(d);
        if (d->h && clean) {
                rc = sqlite3_exec(d->h, "INSERT OR REPLACE INTO meta(key,value) VALUES('open','0')", NULL,
                                  NULL, NULL);
                if (rc != SQLITE_OK)
                        log_warn("store", "cannot note the clean stop; the next start checks the database",
                                 "error=\"%s\"", sqlite3_errmsg(d->h));
        }
        /* SQLite does this itself when the last handle closes, but a reader may be forgotten. */
        if (d->h && clean)
                sqlite3_wal_checkpoint_v2(d->h, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
        rc = sqlite3_close(d->h);
        if (rc != SQLITE_OK)
                log_error("store", "cannot close the database", "error=\"%s\"", sqlite3_errstr(rc));
        mem_free(d->fds);
        mem_free(d->path);
        *d = (struct db){0};
}
