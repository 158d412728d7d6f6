/* Runs in a forked child of the agent: system calls on what was prepared before the fork, then _exit. */
#include "agent/sandbox/hold.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/err.h"

static int write_text(const char *path, const char *text)
{
        int fd = open(path, O_WRONLY | O_CLOEXEC);
        size_t n = strlen(text);
        bool ok = fd >= 0 && write(fd, text, n) == (ssize_t)n;
        int sys = errno;

        if (fd >= 0)
                close(fd);
        errno = sys;
        return ok ? 0 : -1;
}

/* Everybody stays who he is; groups that the user has stay his, though they have no name in here. */
static int own_user_namespace(void)
{
        char uid[64], gid[64];

        snprintf(uid, sizeof uid, "%u %u 1", (unsigned)geteuid(), (unsigned)geteuid());
        snprintf(gid, sizeof gid, "%u %u 1", (unsigned)getegid(), (unsigned)getegid());
        if (unshare(CLONE_NEWUSER))
                return -1;
        /* Or /proc/self would belong to root: the agent is not dumpable, and new privileges make it so again.
         */
        if (prctl(PR_SET_DUMPABLE, 1))
                return -1;
        if (write_text("/proc/self/setgroups", "deny") || write_text("/proc/self/uid_map", uid))
                return -1;
        return write_text("/proc/self/gid_map", gid);
}

/* What the mount already forbids must be said again, or a user namespace may not change it. */
static int make_readonly(const char *path)
{
        unsigned long flags = MS_BIND | MS_REMOUNT | MS_RDONLY;
        struct statvfs fs;

        if (statvfs(path, &fs))
                return -1;
        flags |= fs.f_flag & ST_NOSUID ? MS_NOSUID : 0;
        flags |= fs.f_flag & ST_NODEV ? MS_NODEV : 0;
        flags |= fs.f_flag & ST_NOEXEC ? MS_NOEXEC : 0;
        flags |= fs.f_flag & ST_NOATIME ? MS_NOATIME : 0;
        flags |= fs.f_flag & ST_NODIRATIME ? MS_NODIRATIME : 0;
        flags |= fs.f_flag & ST_RELATIME ? MS_RELATIME : 0;
        return mount(NULL, path, NULL, flags, NULL);
}

static int make_folders(const char *want)
{
        char path[4096];

        if (strlen(want) >= sizeof path) {
                errno = ENAMETOOLONG;
                return -1;
        }
        strcpy(path, want);
        for (char *p = path + 1;; p++) {
                char c = *p;

                if (c != '/' && c != '\0')
                        continue;
                *p = '\0';
                if (mkdir(path, 0755) && errno != EEXIST)
                        return -1;
                *p = c;
                if (!c)
                        return 0;
        }
}

static int keep(const struct hold_op *op, int fd)
{
        char from[64];

        snprintf(from, sizeof from, "/proc/self/fd/%d", fd);
        if (make_folders(op->path) || mount(from, op->path, NULL, MS_BIND, NULL))
                return -1;
        return op->how == HOLD_KEEP_RO ? make_readonly(op->path) : 0;
}

static int apply_one(const struct hold_op *op, int fd)
{
        if (op->how == HOLD_COVER)
                return mount("none", op->path, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC,
                             "size=64k,mode=0755");
        if (op->how == HOLD_READONLY)
                return mount(op->path, op->path, NULL, MS_BIND, NULL) || make_readonly(op->path) ? -1 : 0;
        return keep(op, fd);
}

static int apply(const struct hold_op *ops, size_t n)
{
        int fds[HOLD_OPS_MAX];

        /* Before anything is covered. */
        for (size_t i = 0; i < n; i++) {
                bool stays = ops[i].how == HOLD_KEEP || ops[i].how == HOLD_KEEP_RO;

                fds[i] = stays ? open(ops[i].path, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
                if (stays && fds[i] < 0)
                        return -1;
        }
        for (size_t i = 0; i < n; i++)
                if (apply_one(&ops[i], fds[i]))
                        return -1;
        for (size_t i = 0; i < n; i++)
                if (ops[i].how == HOLD_COVER && make_readonly(ops[i].path))
                        return -1;
        return 0;
}

static void __attribute__((noreturn)) hold(const struct hold_op *ops, size_t n, bool user, int told, int wait)
{
        int sys = 0;
        char byte;

        if (user && own_user_namespace())
                sys = errno;
        /* What the machine mounts later is seen here, what happens here is not seen outside. */
        if (!sys &&
            (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) || apply(ops, n)))
                sys = errno ? errno : EIO;
        if (write(told, &sys, sizeof sys) == (ssize_t)sizeof sys)
                while (read(wait, &byte, 1) < 0 && errno == EINTR)
                        ;
        _exit(0);
}

static int open_ns(pid_t pid, const char *which)
{
        char path[64];

        snprintf(path, sizeof path, "/proc/%d/ns/%s", (int)pid, which);
        return open(path, O_RDONLY | O_CLOEXEC);
}

static int read_told(int fd, int *out)
{
        ssize_t n;

        do
                n = read(fd, out, sizeof *out);
        while (n < 0 && errno == EINTR);
        return n == (ssize_t)sizeof *out ? 0 : -1;
}

int hold_make(const struct hold_op *ops, size_t n, int *out_user, int *out_mount, struct err *e)
{
        int told[2], wait[2], sys = EIO, user = -1, mnt = -1;
        bool own_user = geteuid() != 0;
        pid_t pid;

        if (n > HOLD_OPS_MAX)
                return err_set(e, E_TOOBIG, "more than %d folders to hide", HOLD_OPS_MAX);
        if (pipe2(told, O_CLOEXEC))
                return err_set(e, err_from_errno(errno), "cannot make a pipe: %s", strerror(errno));
        if (pipe2(wait, O_CLOEXEC)) {
                close(told[0]);
                close(told[1]);
                return err_set(e, err_from_errno(errno), "cannot make a pipe: %s", strerror(errno));
        }
        pid = fork();
        if (pid == 0) {
                close(wait[1]); /* or it would wait for itself */
                hold(ops, n, own_user, told[1], wait[0]);
        }
        close(told[1]);
        close(wait[0]);
        if (pid > 0 && read_told(told[0], &sys) == 0 && sys == 0) {
                mnt = open_ns(pid, "mnt");
                user = own_user ? open_ns(pid, "user") : -1;
                sys = mnt < 0 || (own_user && user < 0) ? errno : 0;
        }
        close(told[0]);
        close(wait[1]);
        while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
                ;
        if (sys) {
                if (mnt >= 0)
                        close(mnt);
                if (user >= 0)
                        close(user);
                return err_set(e, err_from_errno(sys), "cannot make a mount namespace: %s", strerror(sys));
        }
        *out_user = user;
        *out_mount = mnt;
        return 0;
}
