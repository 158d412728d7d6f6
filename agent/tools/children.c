/* Watching children and finding all that descends from them.
 *
 * Who belongs to a child: its process group; everything below it in the tree
 * (/proc/PID/task/TID/children); and, of the orphans that came back to us as
 * their subreaper, those of its session, those whose environment holds its
 * marker, and, while it is the only child, all of them. */
#include "agent/sandbox/sandbox.h"
#include "agent/tools/spawn_in.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/err.h"
#include "common/log.h"
#include "common/mem.h"

#define TREE_DEPTH_MAX 64
#define PIDS_MAX       65536
#define ENVIRON_MAX    ((size_t)256 << 10)

static struct {
        bool open;
        uv_loop_t *loop;
        uv_signal_t *sigchld; /* freed in its own close callback */
        struct list children;
        pid_t *before; /* children we had before the first spawn: not ours to end */
        size_t before_n;
        int mine_fd; /* /proc/self/task/TID/children, or -1 */
} g = {.mine_fd = -1};

/* --- lists of processes ------------------------------------------------- */

struct pids {
        pid_t *v;
        size_t n, cap;
};

/* No memory: the list stays short, and what is missing is met again in the next sweep. */
static void pids_add(struct pids *p, pid_t pid)
{
        if (p->n == p->cap) {
                size_t cap = p->cap ? p->cap * 2 : 32;
                pid_t *v = cap > PIDS_MAX ? NULL : mem_realloc(p->v, cap * sizeof *v);

                if (!v)
                        return;
                p->v = v;
                p->cap = cap;
        }
        p->v[p->n++] = pid;
}

/* The kernel writes "12 34 56 ". */
static void pids_read(struct pids *out, int fd)
{
        char tmp[4096];
        off_t at = 0;
        ssize_t n;
        pid_t pid = 0;

        while ((n = pread(fd, tmp, sizeof tmp, at)) > 0) {
                for (ssize_t i = 0; i < n; i++) {
                        if (tmp[i] >= '0' && tmp[i] <= '9') {
                                pid = pid * 10 + (tmp[i] - '0');
                        } else if (pid) {
                                pids_add(out, pid);
                                pid = 0;
                        }
                }
                at += n;
        }
        if (pid)
                pids_add(out, pid);
}

/* Children of every thread of `pid`. */
static void pids_below(struct pids *out, pid_t pid)
{
        char path[64];
        DIR *d;
        struct dirent *t;

        snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
        d = opendir(path);
        while (d && (t = readdir(d))) {
                int fd;

                if (t->d_name[0] == '.')
                        continue;
                snprintf(path, sizeof path, "%.20s/children", t->d_name);
                fd = openat(dirfd(d), path, O_RDONLY | O_CLOEXEC);
                if (fd >= 0) {
                        pids_read(out, fd);
                        close(fd);
                }
        }
        if (d)
                closedir(d);
}

/* --- who is whose --------------------------------------------------------- */

static struct child *child_by_pid(pid_t pid)
{
        LIST_EACH (it, &g.children) {
                struct child *ch = container_of(it, struct child, link);

                if (ch->pid == pid)
                        return ch;
        }
        return NULL;
}

struct uv_search {
        pid_t pid;
        bool found;
};

static void on_walk(uv_handle_t *h, void *arg)
{
        struct uv_search *s = arg;

        if (h->type == UV_PROCESS && uv_process_get_pid((uv_process_t *)h) == s->pid)
                s->found = true;
}

/* A child that came back to us: not one we started, nor libuv, nor one we were born with. */
static bool is_orphan(pid_t pid)
{
        struct uv_search s = {.pid = pid};

        if (child_by_pid(pid))
                return false;
        for (size_t i = 0; i < g.before_n; i++)
                if (g.before[i] == pid)
                        return false;
        uv_walk(g.loop, on_walk, &s);
        return !s.found;
}

static bool environ_holds(pid_t pid, const char *marker)
{
        char path[64], *text;
        size_t len = 0, want = strlen(marker);
        bool yes = false;
        int fd;

        snprintf(path, sizeof path, "/proc/%d/environ", (int)pid);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return false;
        text = mem_alloc(ENVIRON_MAX);
        while (text && len < ENVIRON_MAX) {
                ssize_t n = read(fd, text + len, ENVIRON_MAX - len);

                if (n <= 0)
                        break;
                len += (size_t)n;
        }
        for (size_t i = 0; text && i + want < len && !yes; i += strnlen(text + i, len - i) + 1)
                /* A marker that ends with a slash names everything below it. */
                yes = memcmp(text + i, marker, want + (marker[want - 1] != '/')) == 0;
        mem_free(text);
        close(fd);
        return yes;
}

static bool orphan_of(const struct child *ch, pid_t pid)
{
        if (getsid(pid) == ch->pid)
                return true;
        if (ch->marker && environ_holds(pid, ch->marker))
                return true;
        return g.children.next == &ch->link && g.children.prev == &ch->link;
}

/* Signals what is below `pid`, deepest last; they are counted, not the pid itself. */
static int signal_below(pid_t pid, pid_t group, int sig, int depth)
{
        struct pids below = {0};
        int count = 0;

        pids_below(&below, pid);
        for (size_t i = 0; i < below.n; i++) {
                count++;
                if (depth < TREE_DEPTH_MAX)
                        count += signal_below(below.v[i], group, sig, depth + 1);
                /* The group has had its signal already. */
                if (sig && getpgid(below.v[i]) != group)
                        kill(below.v[i], sig);
        }
        mem_free(below.v);
        return count;
}

/* The dead among the orphans are buried, those of ch are signalled. ch may be NULL. */
static int sweep_orphans(const struct child *ch, int sig)
{
        struct pids mine = {0};
        int count = 0;

        if (g.mine_fd < 0)
                return 0;
        pids_read(&mine, g.mine_fd);
        for (size_t i = 0; i < mine.n; i++) {
                pid_t pid = mine.v[i];

                if (!is_orphan(pid) || waitpid(pid, NULL, WNOHANG) == pid)
                        continue;
                if (!ch || !orphan_of(ch, pid))
                        continue;
                count += 1 + signal_below(pid, ch->pid, sig, 0);
                if (sig && getpgid(pid) != ch->pid)
                        kill(pid, sig);
        }
        mem_free(mine.v);
        return count;
}

int child_tree_signal(struct child *ch, int sig)
{
        int count = 0;

        if (sig)
                kill(-ch->pid, sig);
        if (sig == SIGKILL)
                sandbox_kill(ch->leaf);
        if (!ch->exited)
                count += signal_below(ch->pid, ch->pid, sig, 0);
        count += sweep_orphans(ch, sig);
        /* Somebody whom no mark and no parent gives away. */
        return count == 0 && ch->exited && sandbox_left(ch->leaf) ? 1 : count;
}

/* --- SIGCHLD -------------------------------------------------------------- */

static bool look(struct child *ch)
{
        siginfo_t si = {0};

        if (ch->exited || waitid(P_PID, (id_t)ch->pid, &si, WEXITED | WNOHANG | WNOWAIT) != 0 ||
            si.si_pid == 0)
                return false;
        ch->exited = true;
        ch->signal = si.si_code == CLD_EXITED ? 0 : si.si_status;
        ch->code = si.si_code == CLD_EXITED ? si.si_status : 128 + si.si_status;
        return true;
}

/* on_change may release its own child or spawn another, so after each the list is read anew. */
static struct child *next_news(void)
{
        LIST_EACH (it, &g.children) {
                struct child *ch = container_of(it, struct child, link);

                if (ch->news) {
                        ch->news = false;
                        return ch;
                }
        }
        return NULL;
}

static void on_sigchld(uv_signal_t *s, int signum)
{
        bool known = false;
        struct child *ch;

        (void)s;
        (void)signum;
        LIST_EACH (it, &g.children) {
                bool exited;

                ch = container_of(it, struct child, link);
                exited = look(ch);
                known |= exited;
                ch->news = exited || ch->watch;
        }
        while ((ch = next_news()))
                ch->on_change(ch);
        if (!known && g.open)
                sweep_orphans(NULL, 0);
}

static void open_mine(void)
{
        char path[64];
        struct pids before = {0};

        /* Orphans go to the first thread of the process. */
        snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
        g.mine_fd = open(path, O_RDONLY | O_CLOEXEC);
        if (g.mine_fd < 0) {
                log_warn("spawn",
                         "this kernel has no list of children; daemonised grandchildren of calls may live on",
                         "path=%s", path);
                return;
        }
        pids_read(&before, g.mine_fd);
        g.before = before.v;
        g.before_n = before.n;
}

int children_open(uv_loop_t *loop, struct err *e)
{
        struct sigaction sa;
        int rc;

        if (g.open)
                return 0;
        g.sigchld = mem_calloc(1, sizeof *g.sigchld);
        if (!g.sigchld)
                return err_set(e, E_NOMEM, "out of memory");
        rc = uv_signal_init(loop, g.sigchld);
        if (rc) {
                mem_free(g.sigchld);
                return err_set(e, err_from_errno(-rc), "cannot watch child processes: %s", uv_strerror(rc));
        }
        list_init(&g.children);
        g.loop = loop;
        g.open = true;
        rc = uv_signal_start(g.sigchld, on_sigchld, SIGCHLD);
        if (rc) {
                spawn_close();
                return err_set(e, err_from_errno(-rc), "cannot watch child processes: %s", uv_strerror(rc));
        }
        uv_unref((uv_handle_t *)g.sigchld);
        prctl(PR_SET_CHILD_SUBREAPER, 1);
        /* A child that closes its stdin early must not end the agent. */
        if (sigaction(SIGPIPE, NULL, &sa) == 0 && sa.sa_handler == SIG_DFL)
                signal(SIGPIPE, SIG_IGN);
        open_mine();
        return 0;
}

void children_add(struct child *ch)
{
        list_push_back(&g.children, &ch->link);
        uv_ref((uv_handle_t *)g.sigchld); /* a loop that waits for nothing else still waits for this */
}

void child_release(struct child *ch)
{
        if (ch->pid <= 0)
                return;
        /* One that cannot be ended yet (asleep in the kernel) is buried by a later sweep, like an orphan. */
        if (ch->exited)
                while (waitpid(ch->pid, NULL, 0) < 0 && errno == EINTR)
                        ;
        if (ch->report >= 0)
                close(ch->report);
        ch->report = -1;
        sandbox_ended(ch->leaf);
        ch->leaf = -1;
        list_remove(&ch->link);
        ch->pid = 0;
        if (list_empty(&g.children))
                uv_unref((uv_handle_t *)g.sigchld);
}

static void on_closed(uv_handle_t *h)
{
        mem_free(h);
}

void spawn_close(void)
{
        if (!g.open)
                return;
        uv_close((uv_handle_t *)g.sigchld, on_closed);
        if (g.mine_fd >= 0)
                close(g.mine_fd);
        mem_free(g.before);
        g.before = NULL;
        g.before_n = 0;
        g.mine_fd = -1;
        g.open = false;
        g.loop = NULL;
}

/* --- after a restart -------------------------------------------------------- */

int spawn_kill_leftovers(pid_t pid, const char *marker)
{
        DIR *d;
        struct dirent *x;
        int count = 0;

        if (pid > 1 && environ_holds(pid, marker) && kill(-pid, SIGKILL) == 0)
                count++;
        d = opendir("/proc");
        while (d && (x = readdir(d))) {
                long other = strtol(x->d_name, NULL, 10);
                struct stat st;

                if (other <= 1 || other == getpid() || fstatat(dirfd(d), x->d_name, &st, 0) != 0 ||
                    st.st_uid != geteuid() || !environ_holds((pid_t)other, marker))
                        continue;
                if (kill((pid_t)other, SIGKILL) == 0)
                        count++;
        }
        if (d)
                closedir(d);
        return count;
}
