#include "agent/sandbox/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BASE_NAME "photon-calls-"

enum leaf_state { LEAF_FREE, LEAF_TAKEN, LEAF_LEFT /* given back, perhaps not empty */ };

struct leaf {
        enum leaf_state state;
        int fd; /* of its folder */
        bool killed;
        int64_t memory, pids;
};

static struct {
        char base[PATH_MAX]; /* the folder of all leaves; "": there is none */
        char why[160];
        bool memory, pids;
        struct leaf *leaves;
        int n;
} g;

/* --- small files ------------------------------------------------------------- */

static int read_at(int dir, const char *name, char *out, size_t size)
{
        int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? -1 : read(fd, out, size - 1);

        if (fd >= 0)
                close(fd);
        out[n > 0 ? n : 0] = '\0';
        return n < 0 ? -1 : 0;
}

static int write_at(int dir, const char *name, const char *text)
{
        int fd = openat(dir, name, O_WRONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? -1 : write(fd, text, strlen(text));
        int sys = errno;

        if (fd >= 0)
                close(fd);
        errno = sys;
        return n < 0 ? -1 : 0;
}

static bool has_word(const char *text, const char *word)
{
        size_t n = strlen(word);

        for (const char *p = text; (p = strstr(p, word)); p += n)
                if ((p == text || p[-1] == ' ') && (p[n] == ' ' || p[n] == '\n' || p[n] == '\0'))
                        return true;
        return false;
}

/* --- where ---------------------------------------------------------------------- */

/* "... - cgroup2 cgroup2 rw": field 5 is where it is mounted. */
static bool find_mount(char *out, size_t size)
{
        FILE *f = fopen("/proc/self/mountinfo", "re");
        char line[4096];
        bool found = false;

        while (f && !found && fgets(line, sizeof line, f)) {
                char *type = strstr(line, " - ");
                char *at = line;

                if (!type || strncmp(type + 3, "cgroup2 ", 8) != 0)
                        continue;
                for (int i = 0; i < 4 && at; i++)
                        at = strchr(at + 1, ' ');
                if (at && strcspn(at + 1, " ") < size) {
                        snprintf(out, size, "%.*s", (int)strcspn(at + 1, " "), at + 1);
                        found = true;
                }
        }
        if (f)
                fclose(f);
        return found;
}

/* Of the line "0::/system.slice/x.service"; "" for the topmost. */
static bool find_own(char *out, size_t size)
{
        FILE *f = fopen("/proc/self/cgroup", "re");
        char line[4096];
        bool found = false;

        while (f && !found && fgets(line, sizeof line, f)) {
                if (strncmp(line, "0::/", 4) != 0)
                        continue;
                line[strcspn(line, "\n")] = '\0';
                found = strlen(line + 3) < size;
                if (found)
                        memcpy(out, line[4] ? line + 3 : "", line[4] ? strlen(line + 3) + 1 : 1);
        }
        if (f)
                fclose(f);
        return found;
}

/* A group with processes in it cannot hand controllers on: the agent moves into one of its own. The topmost
 * group is the machine's: it is taken as it is. */
static void hand_on(int own, bool top)
{
        char have[256], pid[32];

        if (top || read_at(own, "cgroup.controllers", have, sizeof have))
                return;
        if (!has_word(have, "memory") && !has_word(have, "pids"))
                return;
        snprintf(pid, sizeof pid, "%d", (int)getpid());
        if ((mkdirat(own, "agent", 0755) && errno != EEXIST) || write_at(own, "agent/cgroup.procs", pid))
                return;
        (void)write_at(own, "cgroup.subtree_control", "+memory");
        (void)write_at(own, "cgroup.subtree_control", "+pids");
}

/* What an agent that was killed has left: its calls end now, if the kernel did not end them with it. */
static void clear_base(const char *own, const char *name)
{
        char path[PATH_MAX + 256];
        long pid = strtol(name + strlen(BASE_NAME), NULL, 10);
        struct dirent *x;
        DIR *d;

        if (pid < 1 || kill((pid_t)pid, 0) == 0 || errno != ESRCH)
                return;
        snprintf(path, sizeof path, "%s/%s", own, name);
        d = opendir(path);
        if (!d)
                return;
        (void)write_at(dirfd(d), "cgroup.kill", "1");
        while ((x = readdir(d)))
                if (x->d_type == DT_DIR && x->d_name[0] != '.')
                        (void)unlinkat(dirfd(d), x->d_name, AT_REMOVEDIR);
        closedir(d);
        rmdir(path);
}

static void clear_dead(const char *own)
{
        DIR *d = opendir(own);
        struct dirent *x;

        while (d && (x = readdir(d)))
                if (strncmp(x->d_name, BASE_NAME, strlen(BASE_NAME)) == 0)
                        clear_base(own, x->d_name);
        if (d)
                closedir(d);
}

static bool make_base(const char *own, bool top)
{
        char handed[256];
        int fd = open(own, O_RDONLY | O_DIRECTORY | O_CLOEXEC), base;

        if (fd < 0)
                return false;
        hand_on(fd, top);
        close(fd);
        clear_dead(own);
        if (snprintf(g.base, sizeof g.base, "%s/" BASE_NAME "%d", own, (int)getpid()) >= (int)sizeof g.base ||
            (mkdir(g.base, 0755) && errno != EEXIST))
                return false;
        base = open(g.base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (base < 0 || faccessat(base, "cgroup.kill", W_OK, 0)) {
                if (base >= 0)
                        close(base);
                rmdir(g.base);
                return false;
        }
        (void)write_at(base, "cgroup.subtree_control", "+memory");
        (void)write_at(base, "cgroup.subtree_control", "+pids");
        if (read_at(base, "cgroup.subtree_control", handed, sizeof handed) == 0) {
                g.memory = has_word(handed, "memory");
                g.pids = has_word(handed, "pids");
        }
        close(base);
        return true;
}

const char *cgroup_open(void)
{
        char mount[PATH_MAX / 2], own[PATH_MAX / 4], path[PATH_MAX];

        cgroup_close();
        if (!find_mount(mount, sizeof mount) || !find_own(own, sizeof own)) {
                snprintf(g.why, sizeof g.why, "this machine has no cgroup v2");
                return g.why;
        }
        snprintf(path, sizeof path, "%s%s", mount, own);
        g.leaves = calloc(CGROUP_LEAVES_MAX, sizeof *g.leaves);
        if (!g.leaves || !make_base(path, own[0] == '\0')) {
                snprintf(g.why, sizeof g.why,
                         "the agent may not divide its cgroup, or it has no cgroup.kill (Linux 5.14)");
                g.base[0] = '\0';
        }
        return g.why;
}

void cgroup_close(void)
{
        char path[PATH_MAX + 32];

        for (int i = 0; i < g.n; i++) {
                if (g.leaves[i].fd >= 0)
                        close(g.leaves[i].fd);
                snprintf(path, sizeof path, "%s/%d", g.base, i);
                rmdir(path);
        }
        if (g.base[0])
                rmdir(g.base);
        free(g.leaves);
        memset(&g, 0, sizeof g);
}

const char *cgroup_base(void)
{
        return g.base;
}

bool cgroup_has_memory(void)
{
        return g.memory;
}

bool cgroup_has_pids(void)
{
        return g.pids;
}

/* --- leaves ---------------------------------------------------------------------- */

static bool is_empty(const struct leaf *l)
{
        char text[128];

        return read_at(l->fd, "cgroup.events", text, sizeof text) == 0 && strstr(text, "populated 0");
}

static bool set_limit(const struct leaf *l, const char *name, int64_t now, int64_t want)
{
        char text[32];

        if (now == want)
                return true;
        snprintf(text, sizeof text, "%lld", (long long)want);
        return write_at(l->fd, name, want ? text : "max") == 0;
}

static bool make_leaf(int i)
{
        char path[PATH_MAX + 32];
        int fd, high;

        snprintf(path, sizeof path, "%s/%d", g.base, i);
        if (mkdir(path, 0755) && errno != EEXIST)
                return false;
        fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        high = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 64);
        if (fd >= 0)
                close(fd);
        g.leaves[i] = (struct leaf){.state = LEAF_FREE, .fd = high};
        return high >= 0;
}

/* A group that was killed once kills everybody who is born into it later (Linux 6.14 to 6.18 compare its
 * count of kills with that of the parent's group), so it is made anew. */
static bool renew_leaf(int i)
{
        char path[PATH_MAX + 32];

        if (!g.leaves[i].killed)
                return true;
        close(g.leaves[i].fd);
        g.leaves[i].fd = -1;
        snprintf(path, sizeof path, "%s/%d", g.base, i);
        return rmdir(path) == 0 && make_leaf(i);
}

static int find_leaf(void)
{
        for (int i = 0; i < g.n; i++) {
                if (g.leaves[i].state == LEAF_LEFT && is_empty(&g.leaves[i]) && renew_leaf(i))
                        g.leaves[i].state = LEAF_FREE;
                if (g.leaves[i].state == LEAF_FREE)
                        return i;
        }
        if (g.n == CGROUP_LEAVES_MAX || !make_leaf(g.n))
                return -1;
        return g.n++;
}

int cgroup_take(int64_t memory, int64_t pids, int *out_fd)
{
        int i = g.base[0] ? find_leaf() : -1;
        struct leaf *l;

        if (i < 0)
                return -1;
        l = &g.leaves[i];
        memory = g.memory ? memory : 0;
        pids = g.pids ? pids : 0;
        if (!set_limit(l, "memory.max", l->memory, memory) || !set_limit(l, "pids.max", l->pids, pids))
                return -1;
        l->memory = memory;
        l->pids = pids;
        l->state = LEAF_TAKEN;
        *out_fd = l->fd;
        return i;
}

bool cgroup_left(int leaf)
{
        return leaf >= 0 && leaf < g.n && g.leaves[leaf].fd >= 0 && !is_empty(&g.leaves[leaf]);
}

void cgroup_kill(int leaf)
{
        struct leaf *l = leaf >= 0 && leaf < g.n ? &g.leaves[leaf] : NULL;

        if (!l || l->fd < 0 || is_empty(l))
                return;
        l->killed = true;
        (void)write_at(l->fd, "cgroup.kill", "1");
}

void cgroup_give(int leaf)
{
        if (leaf >= 0 && leaf < g.n)
                g.leaves[leaf].state = LEAF_LEFT;
}
