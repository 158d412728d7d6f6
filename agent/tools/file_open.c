/* Opening a resolved path so that no symbolic link is followed any more:
 * openat2(2) with RESOLVE_NO_SYMLINKS, or name by name where that is missing
 * (before Linux 5.6, or filtered away by a container). */
#include "agent/tools/file_in.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int try_openat2(const char *real, int flags)
{
        struct open_how how = {.flags = (uint64_t)flags,
                               .resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};

        return (int)syscall(SYS_openat2, AT_FDCWD, real, &how, sizeof how);
}

/* Steps to the next name of a path. *io moves behind it; 0: no more. */
static size_t next_name(const char **io, char out[256])
{
        const char *s = *io;
        size_t n;

        while (*s == '/')
                s++;
        n = strcspn(s, "/");
        if (n >= 256)
                n = 255;
        memcpy(out, s, n);
        out[n] = '\0';
        *io = s + n;
        return n;
}

/* The last name is opened with `flags`, those before it as folders. create: makes missing folders.
 * Returns a descriptor or -errno. */
static int walk(const char *real, int flags, bool create)
{
        char name[256], next[256];
        int fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC), sub;

        if (fd < 0)
                return -errno;
        if (!next_name(&real, name)) {
                close(fd);
                fd = open("/", flags);
                return fd < 0 ? -errno : fd;
        }
        for (;;) {
                bool last = next_name(&real, next) == 0;
                int how = last ? flags | O_NOFOLLOW : O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;

                sub = openat(fd, name, how);
                if (sub < 0 && errno == ENOENT && create && (mkdirat(fd, name, 0777) == 0 || errno == EEXIST))
                        sub = openat(fd, name, how);
                if (sub < 0) {
                        struct stat st;
                        int sys = errno;

                        /* O_DIRECTORY on a link says ENOTDIR. */
                        if (sys == ENOTDIR && fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
                            S_ISLNK(st.st_mode))
                                sys = ELOOP;
                        close(fd);
                        return -sys;
                }
                close(fd);
                fd = sub;
                if (last)
                        return fd;
                memcpy(name, next, sizeof name);
        }
}

static int open_real(const char *real, int flags)
{
        int fd = try_openat2(real, flags);

        if (fd >= 0)
                return fd;
        if (errno == ENOSYS || errno == EPERM || errno == EINVAL || errno == EAGAIN)
                return walk(real, flags, false);
        return -errno;
}

int open_dir(struct file_work *w, const char *real, bool create, int *out_fd)
{
        int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
        int fd = open_real(real, flags);

        if (fd == -ENOENT && create)
                fd = walk(real, flags, true);
        if (fd == -EACCES) /* may be entered, may not be listed */
                fd = open_real(real, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return work_errno(w, -fd, create ? "create the folder" : "open the folder", real);
        *out_fd = fd;
        return 0;
}

int open_parent(struct file_work *w, const char *real, bool create, int *out_fd, const char **base)
{
        char dir[4096];
        const char *slash = strrchr(real, '/');
        size_t n = slash == real ? 1 : (size_t)(slash - real);

        if (strcmp(real, "/") == 0)
                return work_fail(w, E_INVAL, NULL, "/ is a folder");
        if (n >= sizeof dir)
                return work_fail(w, E_TOOBIG, NULL, "the path is longer than 4096 bytes");
        memcpy(dir, real, n);
        dir[n] = '\0';
        *base = slash + 1;
        return open_dir(w, dir, create, out_fd);
}

int open_file(struct file_work *w, const char *real, int *out_fd, struct stat *st)
{
        /* O_NONBLOCK: a pipe in place of the file must not hold the thread for ever. */
        int fd = open_real(real, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

        if (fd < 0)
                return work_errno(w, -fd, "open", real);
        if (fstat(fd, st) != 0) {
                int sys = errno;

                close(fd);
                return work_errno(w, sys, "look at", real);
        }
        if (!S_ISREG(st->st_mode)) {
                close(fd);
                return work_fail(w, E_INVAL, S_ISDIR(st->st_mode) ? "is_a_folder" : "not_a_file",
                                 "%s is %s, not a regular file%s", real,
                                 S_ISDIR(st->st_mode) ? "a folder" : "a device, pipe or socket",
                                 S_ISDIR(st->st_mode) ? "; use file.list" : "");
        }
        *out_fd = fd;
        return 0;
}
