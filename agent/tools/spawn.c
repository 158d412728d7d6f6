/* Starting a child: vfork, a handful of calls that are safe there, execve. */
#include "agent/tools/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/sandbox/launch.h"
#include "agent/sandbox/sandbox.h"
#include "agent/tools/spawn_in.h"
#include "common/err.h"
#include "common/mem.h"
#include "common/str.h"

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif

/* What is exec'd: the program itself, or the launcher that becomes it. */
struct start {
        const char *path;
        char *const *argv;
        const int *keep; /* descriptors that the launcher finds where they are */
        size_t n_keep;
        int cgroup; /* folder that the child is born into, or -1 */
};

/* What the child could not do, told through the memory it shares with us. */
enum stage { STAGE_EXEC, STAGE_CHDIR, STAGE_FDS };
struct trouble {
        volatile int sys;
        volatile enum stage stage;
};

/* Moves src to dst without the close-on-exec flag. */
static int give_fd(int src, int dst)
{
        if (src == dst)
                return fcntl(src, F_SETFD, 0);
        return dup2(src, dst) < 0 ? -1 : 0;
}

/* Every descriptor of ours has close-on-exec, but a library may have forgotten one. */
static void close_others(int from)
{
        if (close_range((unsigned)from, ~0U, CLOSE_RANGE_CLOEXEC) == 0)
                return;
        for (int fd = from; fd < 1024; fd++)
                fcntl(fd, F_SETFD, FD_CLOEXEC);
}

/* In the child, on the parent's memory with the parent stopped: system calls
 * only, no allocation, no return. */
static void __attribute__((noreturn))
become(const struct spawn_request *r, const struct start *st, pid_t parent, struct trouble *t)
{
        struct sigaction dfl = {.sa_handler = SIG_DFL};
        sigset_t none;

        t->stage = STAGE_FDS;
        setsid();
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
                _exit(127);
        if (give_fd(r->fd_in, 0) || give_fd(r->fd_out, 1) || give_fd(r->fd_err, 2))
                goto bad;
        for (int i = 0; i < r->n_extra; i++)
                if (give_fd(r->extra[i], 3 + i))
                        goto bad;
        close_others(3 + r->n_extra);
        for (size_t i = 0; i < st->n_keep; i++)
                if (fcntl(st->keep[i], F_SETFD, 0))
                        goto bad;
        t->stage = STAGE_CHDIR;
        /* The launcher goes there itself: in its own namespaces, as its own user. */
        if (st->n_keep == 0 && chdir(r->cwd) != 0)
                goto bad;
        t->stage = STAGE_EXEC;
        /* Handlers go before the mask: one of them running here would run in the parent's memory. */
        for (int i = 1; i < NSIG; i++)
                sigaction(i, &dfl, NULL);
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        execve(st->path, st->argv, r->env);
bad:
        t->sys = errno;
        _exit(127);
}

/* vfork into a cgroup. glibc has no wrapper for it, and none could be written as a function that returns: the
 * child would overwrite its return address. -errno: this kernel cannot. */
static inline __attribute__((always_inline)) long vfork_into(int cgroup)
{
        struct clone_args a = {.flags = CLONE_VM | CLONE_VFORK | CLONE_INTO_CGROUP,
                               .exit_signal = SIGCHLD,
                               .cgroup = (uint64_t)cgroup};
#if defined(__x86_64__)
        long rc;

        __asm__ volatile("syscall"
                         : "=a"(rc)
                         : "a"(SYS_clone3), "D"(&a), "S"(sizeof a)
                         : "rcx", "r11", "memory");
        return rc;
#else
        (void)a;
        return -ENOSYS;
#endif
}

/* Apart and never inlined: vfork returns twice into this frame. */
static pid_t __attribute__((noinline))
start(const struct spawn_request *r, const struct start *st, pid_t parent, struct trouble *t)
{
        long pid = st->cgroup >= 0 ? vfork_into(st->cgroup) : -ENOSYS;

        if (pid < 0)
                pid = vfork();
        if (pid == 0)
                become(r, st, parent, t);
        return (pid_t)pid;
}

static int explain(const struct spawn_request *r, enum stage stage, int sys, struct err *e)
{
        struct stat st;

        if (stage == STAGE_CHDIR)
                return err_set(e, err_from_errno(sys), "cannot enter the folder %s on this agent: %s", r->cwd,
                               strerror(sys));
        if (stage == STAGE_FDS)
                return err_set(e, err_from_errno(sys), "cannot set up %s: %s", r->path, strerror(sys));
        if (sys == ENOEXEC)
                return err_set(e, E_INVAL,
                               "%s is no program this machine can run; a script needs a first line such as "
                               "#!/bin/sh",
                               r->path);
        if (sys == ENOENT && access(r->path, F_OK) == 0)
                return err_set(e, E_NOENT,
                               "%s exists on this agent, but the interpreter in its first line does not",
                               r->path);
        if (sys == ENOENT)
                return err_set(e, E_NOENT, "%s: no such file on this agent", r->path);
        if (sys == EACCES && stat(r->path, &st) == 0 && S_ISDIR(st.st_mode))
                return err_set(e, E_DENIED, "%s is a folder, not a program", r->path);
        if (sys == EACCES)
                return err_set(e, E_DENIED,
                               "%s may not be run by the agent's user; is it executable (chmod +x)?",
                               r->path);
        if (sys == E2BIG)
                return err_set(e, E_TOOBIG,
                               "arguments and environment of %s are too long for this machine; use stdin",
                               r->path);
        return err_set(e, err_from_errno(sys), "cannot run %s: %s", r->path, strerror(sys));
}

/* --- the launcher ------------------------------------------------------------ */

/* "photon-launch SPEC CWD PATH ARG0 ...", lent but for the array itself: mem_free it. */
static char **launch_argv(const struct spawn_request *r, char *spec)
{
        size_t n = 0;
        char **v;

        while (r->argv[n])
                n++;
        v = mem_calloc(n + 5, sizeof *v);
        if (!v)
                return NULL;
        v[0] = (char *)(uintptr_t) "photon-launch";
        v[1] = spec;
        v[2] = (char *)(uintptr_t)r->cwd;
        v[3] = (char *)(uintptr_t)r->path;
        memcpy(v + 4, r->argv, n * sizeof *v);
        return v;
}

/* The launcher's end keeps its number, above what the program gets. */
static int open_report(int fds[2], struct err *e)
{
        int high;

        if (pipe2(fds, O_CLOEXEC))
                return err_set(e, err_from_errno(errno), "cannot make a pipe: %s", strerror(errno));
        high = fcntl(fds[1], F_DUPFD_CLOEXEC, SPAWN_EXTRA_FD);
        if (high < 0) {
                int sys = errno;

                close(fds[0]);
                close(fds[1]);
                return err_set(e, err_from_errno(sys), "cannot make a pipe: %s", strerror(sys));
        }
        close(fds[1]);
        fds[1] = high;
        return 0;
}

/* Waits for the end of the pipe: the program runs, or nothing ever will. */
static void hear(int fd, struct launch_report *out)
{
        struct launch_report r;

        memset(out, 0, sizeof *out);
        for (;;) {
                ssize_t n = read(fd, &r, sizeof r);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n != (ssize_t)sizeof r || r.magic != LAUNCH_MAGIC)
                        return;
                *out = r;
        }
}

static int explain_report(const char *path, const char *cwd, const struct launch_report *h, struct err *e)
{
        const struct spawn_request r = {.path = path, .cwd = cwd};

        if (h->stage == LAUNCH_READY)
                return 0;
        if (h->stage == LAUNCH_EXEC)
                return explain(&r, STAGE_EXEC, h->sys, e);
        if (h->stage == LAUNCH_CHDIR)
                return explain(&r, STAGE_CHDIR, h->sys, e);
        return sandbox_explain(h->stage, h->sys, e);
}

int child_trouble(struct child *ch, const char *path, const char *cwd, struct err *e)
{
        struct launch_report h;

        if (ch->report < 0)
                return 0;
        /* It has exited, so nobody holds the other end any more. */
        hear(ch->report, &h);
        close(ch->report);
        ch->report = -1;
        return explain_report(path, cwd, &h, e);
}

const char *spawn_error_code(int rc, const char *otherwise)
{
        return rc == -E_NOTSUP ? "sandbox_unavailable" : rc == -E_UNAVAIL ? "sandbox_failed" : otherwise;
}

/* --- both ---------------------------------------------------------------------- */

static void bury(struct child *ch)
{
        while (waitpid(ch->pid, NULL, 0) < 0 && errno == EINTR)
                ;
        ch->pid = 0;
}

static int run(struct child *ch, const struct spawn_request *r, const struct start *st, struct err *e)
{
        struct trouble t = {0};
        sigset_t all, old;

        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &old);
        ch->pid = start(r, st, getpid(), &t);
        if (ch->pid < 0)
                t.sys = errno;
        pthread_sigmask(SIG_SETMASK, &old, NULL);
        if (ch->pid < 0)
                return err_set(e, err_from_errno(t.sys),
                               "cannot start a process: %s; this machine is at its limit", strerror(t.sys));
        if (!t.sys)
                return 0;
        bury(ch);
        if (st->n_keep && t.stage == STAGE_EXEC && t.sys != E2BIG)
                return err_set(e, E_NOTSUP, "the launcher %s cannot be run: %s; install PHOTON anew",
                               st->path, strerror(t.sys));
        return explain(r, t.stage, t.sys, e);
}

static int run_launcher(struct child *ch, const struct spawn_request *r, struct sandbox_start *s,
                        struct err *e)
{
        size_t n = strlen(s->spec);
        int fds[2], keep[SANDBOX_FDS_MAX + 1];
        struct launch_report h;
        struct start st = {.path = s->launcher, .keep = keep, .cgroup = s->leaf_fd};
        char **argv = launch_argv(r, s->spec);
        int rc = argv ? open_report(fds, e) : err_set(e, E_NOMEM, "out of memory");

        if (rc) {
                mem_free(argv);
                return rc;
        }
        snprintf(s->spec + n, sizeof s->spec - n, ",e=%d,x=%d", fds[1], r->n_extra);
        for (size_t i = 0; i < s->n_fds; i++)
                keep[st.n_keep++] = s->fds[i];
        keep[st.n_keep++] = fds[1];
        st.argv = argv;
        rc = run(ch, r, &st, e);
        mem_free(argv);
        close(fds[1]);
        if (rc == 0 && !r->wait) {
                ch->report = fds[0];
                return 0;
        }
        if (rc == 0) {
                hear(fds[0], &h);
                rc = explain_report(r->path, r->cwd, &h, e);
                if (rc)
                        bury(ch);
        }
        close(fds[0]);
        return rc;
}

int child_spawn(uv_loop_t *loop, struct child *ch, const struct spawn_request *r, struct err *e)
{
        struct start direct = {.path = r->path, .argv = r->argv, .cgroup = -1};
        struct sandbox_start s;
        int rc = children_open(loop, e);

        ch->report = ch->leaf = -1;
        if (rc == 0)
                rc = sandbox_start(r->tool, &s, e);
        if (rc)
                return rc;
        rc = s.launcher ? run_launcher(ch, r, &s, e) : run(ch, r, &direct, e);
        if (rc) {
                sandbox_ended(s.leaf);
                return rc;
        }
        ch->leaf = s.leaf;
        ch->exited = ch->news = ch->watch = false;
        ch->code = ch->signal = 0;
        children_add(ch);
        return 0;
}

static bool runnable(const char *path, const char *cwd, int *io_sys)
{
        char *full = path[0] == '/' ? NULL : str_printf("%s/%s", cwd, path);
        const char *p = full ? full : path;
        struct stat st;
        bool yes = stat(p, &st) == 0 && S_ISREG(st.st_mode);

        if (yes && access(p, X_OK) != 0) {
                *io_sys = EACCES;
                yes = false;
        }
        mem_free(full);
        return yes;
}

int spawn_find(const char *name, const char *path, const char *cwd, char **out, struct err *e)
{
        const char *all = path && *path ? path : "/usr/local/bin:/usr/bin:/bin";
        int sys = ENOENT;
        char *full;

        if (!*name)
                return err_set(e, E_INVAL, "the name of the command is empty");
        if (strchr(name, '/')) {
                *out = mem_strdup(name);
                return *out ? 0 : err_set(e, E_NOMEM, "out of memory");
        }
        for (const char *s = all;; s++) {
                size_t n = strcspn(s, ":");

                /* An empty entry means the current folder. */
                full = str_printf("%.*s/%s", n ? (int)n : 1, n ? s : ".", name);
                if (!full)
                        return err_set(e, E_NOMEM, "out of memory");
                if (runnable(full, cwd, &sys)) {
                        *out = full;
                        return 0;
                }
                mem_free(full);
                s += n;
                if (!*s)
                        break;
        }
        if (sys == EACCES)
                return err_set(e, E_DENIED, "%s is on the PATH of this agent but may not be run by its user",
                               name);
        return err_set(e, E_NOENT, "command not found on this agent: %s (PATH is %.200s)", name, all);
}

int spawn_devnull(void)
{
        static int fd = -1;

        if (fd < 0)
                fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        return fd;
}
