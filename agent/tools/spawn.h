/* Child processes of the agent: started cheaply, owned to the last grandchild.
 *
 * Why not uv_spawn: libuv 1.44 forks, which costs in proportion to the agent's
 * memory (measured on 2 cores, 8 at a time: 1,800/s with 6 MiB, 480/s with
 * 60 MiB), and it cannot set a parent-death signal. vfork: 3,000/s, 2,900/s.
 *
 * Programs start through the launcher (agent/sandbox/launcher.c), which gives up what
 * the policy does not let them have, unless the sandbox is off.
 *
 * Every child has its own session and dies with the agent (PR_SET_PDEATHSIG).
 * The agent is a child subreaper: what a call left behind comes back to it
 * when its parent ends, and child_tree_signal finds it. An exited child stays
 * a zombie until child_release, so that its process group cannot be anybody
 * else's meanwhile.
 *
 * libuv's own children (uv_spawn) are left alone. Loop thread only, one loop
 * per process at a time. The thread must live as long as its children. */
#ifndef PHOTON_AGENT_TOOLS_SPAWN_H
#define PHOTON_AGENT_TOOLS_SPAWN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#include "common/list.h"

struct err;

/* Embedded by the holder, who may read pid, exited, code, signal. */
struct child {
        struct list link;
        pid_t pid; /* and process group and session */
        bool exited;
        int code;   /* exit status, or 128 + signal */
        int signal; /* that ended it, or 0 */
        bool watch; /* set by the holder: on_change also for grandchildren that ended or came back */
        bool news;  /* spawn's own */
        int leaf;   /* spawn's own: of its cgroup, or -1 */
        int report; /* spawn's own: what the launcher says, or -1 */
        const char *
                marker; /* "NAME=value" in the environment of all its descendants; lent until child_release */
        /* It exited, or (watch) something below it changed. May call anything here. */
        void (*on_change)(struct child *ch);
        void *data;
};

struct spawn_request {
        const char *path; /* resolved: no search is done */
        char *const *argv, *const *env;
        const char *cwd;
        int fd_in, fd_out, fd_err; /* become 0, 1, 2; stay the caller's */
        const char
                *tool; /* whose rules of the sandbox hold (agent/sandbox/sandbox.h); NULL: the default ones */
        bool wait;     /* return only when the program itself runs, so that all that can fail is known */
        const int *extra; /* become 3, 4 ...; each must be SPAWN_EXTRA_FD or above */
        int n_extra;
};

/* The least number of a descriptor in `extra` (fcntl F_DUPFD_CLOEXEC makes one). */
#define SPAWN_EXTRA_FD 64

/* Fills ch (on_change, marker, data are the caller's) and starts it. -E_NOENT,
 * -E_DENIED, -E_INVAL (not a program), see also spawn_error_code, with what could not be done. */
int child_spawn(uv_loop_t *loop, struct child *ch, const struct spawn_request *r, struct err *e);

/* Without `wait`: for a child that has exited, once, whether it was the launcher that ended and not the
 * program. 0: the program did run. Else the errors of child_spawn. */
int child_trouble(struct child *ch, const char *path, const char *cwd, struct err *e);

/* The stable name of an error of child_spawn: sandbox_unavailable (-E_NOTSUP: the machine lacks what its
 * policy requires, or the launcher), sandbox_failed (-E_UNAVAIL: the launcher could not do its work), or
 * `otherwise`. */
const char *spawn_error_code(int rc, const char *otherwise);

/* Sends sig (0: only counts) to the child and all that descends from it, also
 * what has left its session or lost its parent. Returns how many such
 * processes besides the child itself are still there. */
int child_tree_signal(struct child *ch, int sig);

/* Forgets the child and takes its zombie away, now or when it comes. Kills nothing. */
void child_release(struct child *ch);

/* Finds `name` as execvp would with this PATH (NULL: the usual one); names
 * with a slash are returned as they are. mem_free *out. -E_NOENT, -E_DENIED. */
int spawn_find(const char *name, const char *path, const char *cwd, char **out, struct err *e);

/* A read-only descriptor of /dev/null, kept open; -1 if there is none. */
int spawn_devnull(void);

/* After a restart: kills every process of this user whose environment holds
 * `marker`, and the process group `pid` if its leader holds it (0: none).
 * Returns how many were killed. Walks /proc: start-up only. */
int spawn_kill_leftovers(pid_t pid, const char *marker);

/* Closes what is shared between children; run the loop once more afterwards. */
void spawn_close(void);

#endif
