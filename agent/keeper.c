#include "agent/keeper.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "agent/journal.h"
#include "agent/procid.h"
#include "common/err.h"
#include "common/mem.h"
#include "common/str.h"

#define ENVIRON_MAX ((size_t)256 << 10)
#define ENDED_MAX   4096 /* processes ended in one go */
#define ROUNDS_MAX  64

static int alive_fd = -1; /* our end of the pipe */

/* --- in the agent -------------------------------------------------------------- */

static int spawn(int in, const char *scratch_root, const char *cgroup)
{
        char *argv[] = {(char *)"photon-agent", (char *)"keeper", (char *)(uintptr_t)scratch_root,
                        (char *)(uintptr_t)cgroup, NULL};
        char *env[] = {NULL};
        posix_spawn_file_actions_t files;
        posix_spawnattr_t attr;
        sigset_t none, every;
        pid_t pid;
        int rc;

        sigemptyset(&none);
        sigfillset(&every);
        if (posix_spawn_file_actions_init(&files))
                return ENOMEM;
        if (posix_spawnattr_init(&attr)) {
                posix_spawn_file_actions_destroy(&files);
                return ENOMEM;
        }
        /* Of no terminal and of no group that is told to end with the agent's. */
        rc = posix_spawnattr_setflags(&attr,
                                      POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
        if (!rc)
                rc = posix_spawnattr_setsigmask(&attr, &none);
        if (!rc)
                rc = posix_spawnattr_setsigdefault(&attr, &every);
        if (!rc)
                rc = posix_spawn_file_actions_adddup2(&files, in, STDIN_FILENO);
        if (!rc)
                rc = posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
        if (!rc)
                rc = posix_spawn_file_actions_adddup2(&files, STDOUT_FILENO, STDERR_FILENO);
        if (!rc)
                rc = posix_spawn_file_actions_addclosefrom_np(&files, STDERR_FILENO + 1);
        if (!rc)
                rc = posix_spawn(&pid, "/proc/self/exe", &files, &attr, argv, env);
        posix_spawnattr_destroy(&attr);
        posix_spawn_file_actions_destroy(&files);
        return rc;
}

int keeper_start(const char *scratch_root, const char *cgroup, struct err *e)
{
        int ends[2], rc;

        if (pipe2(ends, O_CLOEXEC))
                return err_set(e, err_from_errno(errno), "cannot make a pipe: %s", strerror(errno));
        rc = spawn(ends[0], scratch_root, cgroup);
        close(ends[0]);
        if (rc) {
                close(ends[1]);
                return err_set(e, E_IO, "cannot start the process that ends what is left running: %s",
                               strerror(rc));
        }
        alive_fd = ends[1];
        return 0;
}

/* --- in the process of its own ---------------------------------------------------- */

struct keeper {
        char *mark;   /* "PHOTON_OUTPUT=SCRATCH/" */
        char *text;   /* one environment */
        uint64_t end; /* when the agent was gone, in the ticks of /proc/PID/stat */
        pid_t ended[ENDED_MAX];
        size_t n;
};

static bool is_ended(const struct keeper *k, pid_t pid)
{
        for (size_t i = 0; i < k->n; i++)
                if (k->ended[i] == pid)
                        return true;
        return false;
}

static size_t read_proc(pid_t pid, const char *name, char *out, size_t size)
{
        char path[64];
        size_t len = 0;
        int fd;

        snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        while (fd >= 0 && len < size - 1) {
                ssize_t n = read(fd, out + len, size - 1 - len);

                if (n <= 0)
                        break;
                len += (size_t)n;
        }
        if (fd >= 0)
                close(fd);
        out[len] = '\0';
        return len;
}

static bool has_mark(const struct keeper *k, pid_t pid)
{
        size_t n = read_proc(pid, "environ", k->text, ENVIRON_MAX), want = strlen(k->mark);

        for (size_t i = 0; i + want < n; i += strlen(k->text + i) + 1)
                if (memcmp(k->text + i, k->mark, want) == 0)
                        return true;
        return false;
}

/* Field 4 of stat, after the command's name, which may hold anything. */
static pid_t parent_of(const struct keeper *k, pid_t pid)
{
        char *p;

        read_proc(pid, "stat", k->text, ENVIRON_MAX);
        p = strrchr(k->text, ')');
        return p && p[1] && p[2] && p[3] ? (pid_t)strtol(p + 3, NULL, 10) : 0;
}

static bool is_left(const struct keeper *k, pid_t pid)
{
        struct journal_proc p;

        if (pid == getpid() || is_ended(k, pid) || !has_mark(k, pid) || procid_read(pid, &p))
                return false;
        return p.start <= k->end || is_ended(k, parent_of(k, pid));
}

/* Who is stopped can make no others. How many were found. */
static size_t stop_those_left(struct keeper *k)
{
        DIR *d = opendir("/proc");
        size_t before = k->n;
        struct dirent *x;

        while (d && k->n < ENDED_MAX && (x = readdir(d))) {
                pid_t pid = (pid_t)strtol(x->d_name, NULL, 10);

                if (pid > 1 && is_left(k, pid) && kill(pid, SIGSTOP) == 0)
                        k->ended[k->n++] = pid;
        }
        if (d)
                closedir(d);
        return k->n - before;
}

static void kill_group(const char *cgroup)
{
        char *path = *cgroup ? str_printf("%s/cgroup.kill", cgroup) : NULL;
        int fd = path ? open(path, O_WRONLY | O_CLOEXEC) : -1;

        if (fd >= 0) {
                /* It may be gone already, with all that was in it. */
                (void)!write(fd, "1", 1);
                close(fd);
        }
        mem_free(path);
}

static uint64_t ticks_now(void)
{
        struct timespec ts;
        uint64_t hz = (uint64_t)sysconf(_SC_CLK_TCK);

        clock_gettime(CLOCK_BOOTTIME, &ts);
        return (uint64_t)ts.tv_sec * hz + (uint64_t)ts.tv_nsec * hz / 1000000000u;
}

static void wait_for_the_end(void)
{
        char c;
        ssize_t n;

        do
                n = read(STDIN_FILENO, &c, 1);
        while (n > 0 || (n < 0 && errno == EINTR));
}

size_t keeper_end(const char *scratch_root, uint64_t end)
{
        struct keeper *k = mem_calloc(1, sizeof *k);
        size_t all = 0;
        int rounds = 0;

        if (!k)
                return 0;
        k->end = end;
        k->text = mem_alloc(ENVIRON_MAX);
        k->mark = str_printf("PHOTON_OUTPUT=%s/", scratch_root);
        while (k->text && k->mark) {
                k->n = 0;
                while (stop_those_left(k) > 0)
                        ;
                for (size_t i = 0; i < k->n; i++)
                        kill(k->ended[i], SIGKILL);
                all += k->n;
                if (k->n < ENDED_MAX || ++rounds == ROUNDS_MAX)
                        break;
        }
        mem_free(k->mark);
        mem_free(k->text);
        mem_free(k);
        return all;
}

int keeper_main(int argc, char **argv)
{
        if (argc != 2) {
                fputs("photon-agent: keeper is started by the agent itself\n", stderr);
                return 64;
        }
        wait_for_the_end();
        kill_group(argv[1]);
        keeper_end(argv[0], ticks_now());
        return 0;
}
