#include "common/file.h"

#include "common/err.h"
#include "common/id.h"
#include "common/mem.h"
#include "common/str.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_STEP 65536

static int fail_errno(struct err *e, const char *doing, const char *path)
{
        int sys = errno;

        return err_set(e, err_from_errno(sys), "cannot %s %s: %s", doing, path, strerror(sys));
}

/* Reads to the end of the file, which may be shorter or longer than fstat
 * said (files under /proc say 0). */
static int read_rest(int fd, const char *path, size_t max_bytes, size_t guess, char **out, size_t *out_len,
                     struct err *e)
{
        size_t len = 0, cap = guess < max_bytes ? guess + 1 : max_bytes + 1;
        char *text = mem_alloc(cap + 1);
        char *more;

        if (!text)
                return err_set(e, E_NOMEM, "no memory to read %s", path);
        for (;;) {
                ssize_t n = read(fd, text + len, cap - len);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0) {
                        int rc = fail_errno(e, "read", path);

                        mem_free(text);
                        return rc;
                }
                if (n == 0)
                        break;
                len += (size_t)n;
                if (len > max_bytes) {
                        mem_free(text);
                        return err_set(e, E_TOOBIG, "%s is larger than %zu bytes", path, max_bytes);
                }
                if (len == cap) {
                        cap = cap + READ_STEP < max_bytes ? cap + READ_STEP : max_bytes + 1;
                        more = mem_realloc(text, cap + 1);
                        if (!more) {
                                mem_free(text);
                                return err_set(e, E_NOMEM, "no memory to read %s", path);
                        }
                        text = more;
                }
        }
        text[len] = '\0';
        *out = text;
        *out_len = len;
        return 0;
}

int file_read(const char *path, size_t max_bytes, char **out, size_t *out_len, struct err *e)
{
        struct stat st;
        size_t len = 0;
        int fd, rc;

        /* Non-blocking, so that a FIFO in the file's place cannot hang us. */
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        if (fd < 0)
                return fail_errno(e, "read", path);
        if (fstat(fd, &st) < 0)
                rc = fail_errno(e, "read", path);
        else if (!S_ISREG(st.st_mode))
                rc = err_set(e, E_INVAL, "%s is not a regular file", path);
        else if ((uint64_t)st.st_size > max_bytes)
                rc = err_set(e, E_TOOBIG, "%s is larger than %zu bytes", path, max_bytes);
        else
                rc = read_rest(fd, path, max_bytes, (size_t)st.st_size, out, &len, e);
        if (!rc && out_len)
                *out_len = len;
        close(fd);
        return rc;
}

int file_read_private(const char *path, size_t max_bytes, char **out, size_t *out_len, struct err *e)
{
        struct stat st;

        if (stat(path, &st))
                return errno == ENOENT ? -E_NOENT
                                       : err_set(e, err_from_errno(errno), "cannot look at %s: %s", path,
                                                 strerror(errno));
        if (st.st_mode & 077)
                return err_set(e, E_DENIED, "others may read or write %s; run: chmod 600 %s", path, path);
        return file_read(path, max_bytes, out, out_len, e);
}

int file_write_all(int fd, const void *p, size_t n)
{
        const char *s = p;

        while (n) {
                ssize_t did = write(fd, s, n);

                if (did < 0 && errno == EINTR)
                        continue;
                if (did < 0)
                        return -err_from_errno(errno);
                s += did;
                n -= (size_t)did;
        }
        return 0;
}

/* The folder part of path ("." if none). mem_free it. */
static char *parent_of(const char *path)
{
        char *copy = mem_strdup(path);
        char *dir = copy ? mem_strdup(dirname(copy)) : NULL;

        mem_free(copy);
        return dir;
}

static int sync_folder(const char *dir, struct err *e)
{
        int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        int rc = 0;

        if (fd < 0)
                return fail_errno(e, "open", dir);
        /* EINVAL: a file system that has nothing to sync for a folder. */
        if (fsync(fd) < 0 && errno != EINVAL)
                rc = fail_errno(e, "sync", dir);
        close(fd);
        return rc;
}

static int fill_temp(const char *tmp, const char *path, const void *p, size_t n, unsigned mode, struct err *e)
{
        int fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode & 0700);
        int rc;

        if (fd < 0)
                return fail_errno(e, "write", path);
        rc = file_write_all(fd, p, n);
        if (rc)
                err_set(e, -rc, "cannot write %s: %s", path, strerror(errno));
        else if (fchmod(fd, mode) < 0 || fsync(fd) < 0)
                rc = fail_errno(e, "write", path);
        if (close(fd) < 0 && !rc)
                rc = fail_errno(e, "write", path);
        if (rc)
                unlink(tmp);
        return rc;
}

int file_write_atomic(const char *path, const void *p, size_t n, unsigned mode, struct err *e)
{
        char *dir = parent_of(path), *tmp = NULL;
        int rc;

        if (dir)
                tmp = str_printf("%s/.tmp-%016llx", dir, (unsigned long long)id_random_u64());
        if (!tmp) {
                rc = err_set(e, E_NOMEM, "no memory to write %s", path);
                goto done;
        }
        rc = fill_temp(tmp, path, p, n, mode, e);
        if (rc)
                goto done;
        if (rename(tmp, path) < 0) {
                rc = fail_errno(e, "write", path);
                unlink(tmp);
                goto done;
        }
        rc = sync_folder(dir, e);
done:
        mem_free(tmp);
        mem_free(dir);
        return rc;
}

static int make_one(const char *path, unsigned mode, struct err *e)
{
        struct stat st;

        if (mkdir(path, mode) == 0)
                return 0;
        if (errno != EEXIST)
                return fail_errno(e, "create the folder", path);
        if (stat(path, &st) < 0)
                return fail_errno(e, "look at", path);
        if (!S_ISDIR(st.st_mode))
                return err_set(e, E_EXIST, "%s is in the way: it is not a folder", path);
        return 0;
}

int file_mkdirs(const char *path, unsigned mode, struct err *e)
{
        char *copy;
        size_t n;
        int rc = 0;

        if (!*path)
                return err_set(e, E_INVAL, "the name of a folder is empty");
        copy = mem_strdup(path);
        if (!copy)
                return err_set(e, E_NOMEM, "no memory to create %s", path);
        n = strlen(copy);
        while (n > 1 && copy[n - 1] == '/')
                copy[--n] = '\0';
        for (char *p = copy + 1; *p && !rc; p++) {
                if (*p != '/' || p[-1] == '/')
                        continue;
                *p = '\0';
                rc = make_one(copy, 0755, e);
                *p = '/';
        }
        if (!rc)
                rc = make_one(copy, mode, e);
        mem_free(copy);
        return rc;
}

int file_mkdir_private(const char *path, struct err *e)
{
        struct stat st;
        int rc = file_mkdirs(path, 0700, e);

        if (rc)
                return rc;
        if (stat(path, &st) < 0)
                return fail_errno(e, "look at", path);
        if (st.st_uid != geteuid() && geteuid() != 0)
                return err_set(e, E_DENIED, "%s belongs to another user; give the folder to this one", path);
        if (st.st_mode & 022)
                return err_set(e, E_DENIED, "others may write to %s; run: chmod go-w %s", path, path);
        return 0;
}

int file_lock(const char *path, int *out_fd, struct err *e)
{
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        int rc;

        if (fd < 0)
                return fail_errno(e, "open", path);
        while ((rc = flock(fd, LOCK_EX | LOCK_NB)) < 0 && errno == EINTR)
                ;
        if (rc < 0) {
                if (errno == EWOULDBLOCK)
                        rc = err_set(e, E_EXIST, "%s is locked: another process is using this folder", path);
                else
                        rc = fail_errno(e, "lock", path);
                close(fd);
                return rc;
        }
        *out_fd = fd;
        return 0;
}

char *path_join(const char *a, const char *b)
{
        size_t n = strlen(a);

        if (n == 0)
                return mem_strdup(b);
        return str_printf("%s%s%s", a, a[n - 1] == '/' ? "" : "/", b);
}
