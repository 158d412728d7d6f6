#include "agent/sandbox/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/sandbox/cgroup.h"
#include "agent/sandbox/filter.h"
#include "agent/sandbox/hold.h"
#include "agent/sandbox/landlock.h"
#include "agent/sandbox/launch.h"
#include "common/err.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/str.h"

#define LAUNCHER "photon-launch"
/* Ours stay out of the way of what a call gives its program as 3 and 4. */
#define FD_LEAST 64

/* Of an agent that is root: what its calls do not get back. The rest (files of others, ports, users) they
 * keep. */
#define BIT(n) (1ull << (n))
#define CAPS_DROPPED                                                                                         \
        (BIT(2) /* DAC_READ_SEARCH */ | BIT(16) /* SYS_MODULE */ | BIT(17) /* SYS_RAWIO */ |                 \
         BIT(19) /* SYS_PTRACE */ | BIT(21) /* SYS_ADMIN */ | BIT(22) /* SYS_BOOT */ |                       \
         BIT(24) /* SYS_RESOURCE */ | BIT(25) /* SYS_TIME */ | BIT(27) /* MKNOD */ |                         \
         BIT(30) /* AUDIT_CONTROL */ | BIT(32) /* MAC_OVERRIDE */ | BIT(33) /* MAC_ADMIN */ |                \
         BIT(34) /* SYSLOG */ | BIT(38) /* PERFMON */ | BIT(39) /* BPF */ |                                  \
         BIT(40) /* CHECKPOINT_RESTORE */)

struct set {
        char *tools;
        enum sandbox_mode mode;
        bool other_user;
        uid_t uid;
        gid_t gid;
        int ruleset;
        int64_t memory, processes;
        char lacks[512];
        char spec[LAUNCH_SPEC_MAX];
};

static struct {
        bool open;
        struct set *sets;
        size_t n;
        char launcher[PATH_MAX];
        bool has_launcher;
        int abi;
        int fd_user, fd_mount, fd_filter;
        size_t filter_n;
        char no_hiding[256]; /* why the data folder is not hidden; "": it is, or there is none */
        char no_filter[256];
        const char *no_group; /* why there is no cgroup, or "" */
        char has[512];
} g = {.fd_user = -1, .fd_mount = -1, .fd_filter = -1};

const char *sandbox_mode_name(enum sandbox_mode m)
{
        static const char *const names[] = {"best-effort", "require", "off"};

        return names[m];
}

/* --- what there is ----------------------------------------------------------- */

static bool try_launcher(const char *fmt, const char *dir)
{
        if (snprintf(g.launcher, sizeof g.launcher, fmt, dir) >= (int)sizeof g.launcher)
                return false;
        return access(g.launcher, X_OK) == 0;
}

/* Beside the program (a build), or where `make install` puts it. */
static void find_launcher(const char *named)
{
        char self[PATH_MAX - 64], *slash;
        ssize_t n;

        if (named) {
                g.has_launcher = try_launcher("%s", named);
                return;
        }
        n = readlink("/proc/self/exe", self, sizeof self - 1);
        self[n > 0 ? n : 0] = '\0';
        slash = strrchr(self, '/');
        if (slash)
                *slash = '\0';
        g.has_launcher =
                try_launcher("%s/" LAUNCHER, self) || try_launcher("%s/../libexec/photon/" LAUNCHER, self);
}

static int raise_fd(int *io_fd)
{
        int high;

        if (*io_fd < 0)
                return 0;
        high = fcntl(*io_fd, F_DUPFD_CLOEXEC, FD_LEAST);
        close(*io_fd);
        *io_fd = high;
        return high < 0 ? -err_from_errno(errno) : 0;
}

static void make_filter(void)
{
        struct err e = {0};

        if (!filter_known())
                snprintf(g.no_filter, sizeof g.no_filter, "this kernel has no seccomp filters");
        else if (filter_make(&g.fd_filter, &g.filter_n, &e) || raise_fd(&g.fd_filter))
                snprintf(g.no_filter, sizeof g.no_filter, "%.200s", e.msg);
}

static void add_op(struct hold_op *ops, size_t *n, enum hold_how how, const char *path, char **io_real)
{
        char *real = path ? realpath(path, NULL) : NULL;

        *io_real = real;
        if (real && *n < HOLD_OPS_MAX)
                ops[(*n)++] = (struct hold_op){.how = how, .path = real};
}

static bool is_below(const char *path, const char *folder)
{
        size_t n = folder ? strlen(folder) : 0;

        return n && strncmp(path, folder, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

static void make_hiding(const struct sandbox_options *o)
{
        struct hold_op ops[HOLD_OPS_MAX];
        char *real[HOLD_OPS_MAX] = {0};
        size_t n = 0, k = 0;
        struct err e = {0};

        add_op(ops, &n, HOLD_COVER, o->data, &real[k++]);
        add_op(ops, &n, HOLD_KEEP, o->scratch, &real[k++]);
        for (size_t i = 0; i < o->n_keep && k < HOLD_OPS_MAX; i++)
                add_op(ops, &n, HOLD_KEEP_RO, o->keep[i], &real[k++]);
        for (size_t i = 0; i < o->n_readonly && k < HOLD_OPS_MAX; i++) {
                add_op(ops, &n, HOLD_READONLY, o->readonly[i], &real[k]);
                if (real[k] && is_below(real[k], real[0]))
                        n--; /* covered with the rest */
                k++;
        }
        if (o->data &&
            (hold_make(ops, n, &g.fd_user, &g.fd_mount, &e) || raise_fd(&g.fd_user) || raise_fd(&g.fd_mount)))
                snprintf(g.no_hiding, sizeof g.no_hiding, "%.200s", e.msg[0] ? e.msg : "no descriptors left");
        for (size_t i = 0; i < k; i++)
                free(real[i]);
}

/* --- one set ---------------------------------------------------------------------- */

static void lack(struct set *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void lack(struct set *s, const char *fmt, ...)
{
        size_t n = strlen(s->lacks);
        va_list ap;

        if (n)
                n += (size_t)snprintf(s->lacks + n, sizeof s->lacks - n, "; ");
        if (n >= sizeof s->lacks)
                return;
        va_start(ap, fmt);
        vsnprintf(s->lacks + n, sizeof s->lacks - n, fmt, ap);
        va_end(ap);
}

static int put(struct set *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int put(struct set *s, const char *fmt, ...)
{
        size_t n = strlen(s->spec);
        va_list ap;
        int k;

        va_start(ap, fmt);
        k = vsnprintf(s->spec + n, sizeof s->spec - n, fmt, ap);
        va_end(ap);
        /* Room for what a call adds. */
        return n + (size_t)k + 64 > sizeof s->spec ? -E_TOOBIG : 0;
}

static int put_user(struct set *s, const char *name, struct err *e)
{
        struct passwd *pw = getpwnam(name);
        gid_t groups[LAUNCH_GROUPS_MAX];
        int n = LAUNCH_GROUPS_MAX, rc;

        if (!pw)
                return err_set(e, E_NOENT,
                               "sandbox.user: there is no user \"%s\" on this machine (adduser --system %s)",
                               name, name);
        if (pw->pw_uid == geteuid())
                return 0;
        if (geteuid() != 0)
                return err_set(e, E_DENIED,
                               "sandbox.user: an agent that is not root cannot start programs as %s; run it "
                               "as root, or as %s",
                               name, name);
        if (getgrouplist(name, pw->pw_gid, groups, &n) < 0)
                return err_set(e, E_TOOBIG, "sandbox.user: %s is in more than %d groups", name,
                               LAUNCH_GROUPS_MAX);
        s->other_user = true;
        s->uid = pw->pw_uid;
        s->gid = pw->pw_gid;
        rc = put(s, ",u=%u,g=%u", (unsigned)s->uid, (unsigned)s->gid);
        for (int i = 0; i < n && rc == 0; i++)
                rc = put(s, ",G=%u", (unsigned)groups[i]);
        return rc;
}

static int put_limits(struct set *s, const struct sandbox_limits *l)
{
        const struct {
                int resource;
                int64_t value;
        } all[] = {{RLIMIT_CPU, l->cpu_s},
                   {RLIMIT_AS, l->address_space},
                   {RLIMIT_NPROC, l->processes},
                   {RLIMIT_NOFILE, l->open_files},
                   {RLIMIT_FSIZE, l->file_size}};
        int rc = put(s, ",r=%d:0", RLIMIT_CORE);

        for (size_t i = 0; i < sizeof all / sizeof *all && rc == 0; i++)
                if (all[i].value > 0)
                        rc = put(s, ",r=%d:%lld", all[i].resource, (long long)all[i].value);
        s->memory = l->memory;
        s->processes = l->processes;
        if (l->memory > 0 && !cgroup_has_memory())
                lack(s, "no cgroup with a memory controller for limits.memory");
        /* The kernel counts processes by user, and never root's. */
        if (l->processes > 0 && !cgroup_has_pids() && geteuid() == 0 && !s->other_user)
                lack(s, "no cgroup with a pids controller for limits.processes, and root is not bound by a "
                        "user's "
                        "limit");
        return rc;
}

static int put_landlock(struct set *s, const struct sandbox_rules *r, const char *scratch)
{
        struct err e = {0};

        if (g.abi == 0) {
                lack(s, "no Landlock on this kernel: files.read and files.write do not bind programs");
        } else if (landlock_ruleset(r, scratch, &s->ruleset, &e) || raise_fd(&s->ruleset)) {
                lack(s, "no Landlock: %.200s", e.msg);
        } else if (r->network != SANDBOX_NET_ANY && g.abi < LANDLOCK_ABI_NETWORK) {
                lack(s, "no Landlock for the network on this kernel (it has version %d, %d is needed)", g.abi,
                     LANDLOCK_ABI_NETWORK);
        }
        return s->ruleset >= 0 ? put(s, ",l=%d", s->ruleset) : 0;
}

static int make_set(struct set *s, const struct sandbox_rules *r, const struct sandbox_options *o,
                    struct err *e)
{
        int rc;

        s->ruleset = -1;
        s->mode = r->mode;
        if (r->tools && !(s->tools = mem_strdup(r->tools)))
                return err_set(e, E_NOMEM, "out of memory");
        if (s->mode == SANDBOX_OFF)
                return 0;
        rc = put(s, "p=%d", (int)getpid());
        if (rc == 0 && r->user)
                rc = put_user(s, r->user, e);
        if (rc == 0)
                rc = put_limits(s, &r->limits);
        if (rc == 0 && g.fd_mount >= 0)
                rc = put(s, ",n=%d", g.fd_mount);
        if (rc == 0 && g.fd_user >= 0)
                rc = put(s, ",U=%d", g.fd_user);
        if (rc == 0 && geteuid() == 0 && !s->other_user)
                rc = put(s, ",b=%llu", CAPS_DROPPED);
        if (rc == 0)
                rc = put_landlock(s, r, o->scratch);
        if (rc == 0 && g.fd_filter >= 0)
                rc = put(s, ",s=%d:%zu", g.fd_filter, g.filter_n);
        if (!g.has_launcher)
                lack(s, "no launcher: %.200s is not there or not executable; install PHOTON anew",
                     g.launcher);
        if (g.no_filter[0])
                lack(s, "no seccomp: %s", g.no_filter);
        if (g.no_hiding[0])
                lack(s, "the agent's data folder is not hidden: %s", g.no_hiding);
        return rc && e && !e->code ? err_set(e, -rc, "sandbox: too many groups or limits") : rc;
}

/* --- all of it ---------------------------------------------------------------------- */

static void describe(void)
{
        snprintf(g.has, sizeof g.has, "no-new-privs, limits%s%s%s", g.fd_filter >= 0 ? ", seccomp" : "",
                 g.fd_mount >= 0 ? ", hidden data folder" : "", g.no_group && !*g.no_group ? ", cgroup" : "");
        if (g.abi > 0)
                snprintf(g.has + strlen(g.has), sizeof g.has - strlen(g.has), ", landlock %d", g.abi);
}

static bool all_off(const struct sandbox_options *o)
{
        for (size_t i = 0; i < o->n_rules; i++)
                if (o->rules[i].mode != SANDBOX_OFF)
                        return false;
        return true;
}

int sandbox_open(const struct sandbox_options *o, struct err *e)
{
        bool users = false;
        int rc = 0;

        sandbox_close();
        g.sets = mem_calloc(o->n_rules ? o->n_rules : 1, sizeof *g.sets);
        if (!g.sets)
                return err_set(e, E_NOMEM, "out of memory");
        g.open = true;
        find_launcher(o->launcher);
        g.abi = landlock_abi();
        if (!all_off(o)) {
                make_filter();
                make_hiding(o);
                g.no_group = cgroup_open();
        }
        describe();
        for (; g.n < o->n_rules && rc == 0; g.n++) {
                rc = make_set(&g.sets[g.n], &o->rules[g.n], o, e);
                users |= g.sets[g.n].other_user;
        }
        /* Another user finds the way to his call's folder, but does not see the others. */
        if (rc == 0 && users && o->scratch && chmod(o->scratch, 0711))
                rc = err_set(e, err_from_errno(errno), "cannot open %s for the user of calls: %s", o->scratch,
                             strerror(errno));
        if (rc)
                sandbox_close();
        return rc;
}

static void close_fd(int *fd)
{
        if (*fd >= 0)
                close(*fd);
        *fd = -1;
}

void sandbox_close(void)
{
        for (size_t i = 0; i < g.n; i++) {
                close_fd(&g.sets[i].ruleset);
                mem_free(g.sets[i].tools);
        }
        mem_free(g.sets);
        cgroup_close();
        close_fd(&g.fd_user);
        close_fd(&g.fd_mount);
        close_fd(&g.fd_filter);
        memset(&g, 0, sizeof g);
        g.fd_user = g.fd_mount = g.fd_filter = -1;
}

/* The first that names the tool, else the default. */
static const struct set *choose(const char *tool)
{
        for (size_t i = 1; i < g.n; i++)
                if (tool && g.sets[i].tools && str_glob(g.sets[i].tools, tool))
                        return &g.sets[i];
        return g.n ? &g.sets[0] : NULL;
}

int sandbox_permits(const char *tool, struct err *e)
{
        const struct set *s = choose(tool);

        if (!s || s->mode == SANDBOX_OFF)
                return 0;
        if (!g.has_launcher)
                return err_set(
                        e, E_NOTSUP,
                        "programs are started through %s, which is not there or not executable: install "
                        "PHOTON anew on this machine, or say sandbox: {mode: off} in its policy",
                        g.launcher);
        if (s->mode == SANDBOX_REQUIRE && s->lacks[0])
                return err_set(
                        e, E_NOTSUP,
                        "the policy of this machine requires a sandbox (sandbox.mode: require) that it "
                        "does not have: %s",
                        s->lacks);
        return 0;
}

int sandbox_start(const char *tool, struct sandbox_start *out, struct err *e)
{
        const struct set *s = choose(tool);
        int rc = sandbox_permits(tool, e);

        memset(out, 0, sizeof *out);
        out->leaf = out->leaf_fd = -1;
        if (rc || !s || s->mode == SANDBOX_OFF)
                return rc;
        out->launcher = g.launcher;
        snprintf(out->spec, sizeof out->spec, "%s", s->spec);
        if (g.fd_user >= 0)
                out->fds[out->n_fds++] = g.fd_user;
        if (g.fd_mount >= 0)
                out->fds[out->n_fds++] = g.fd_mount;
        if (g.fd_filter >= 0)
                out->fds[out->n_fds++] = g.fd_filter;
        if (s->ruleset >= 0)
                out->fds[out->n_fds++] = s->ruleset;
        out->leaf = cgroup_take(s->memory, s->processes, &out->leaf_fd);
        /* All are in use, or the limit was refused: better no call than one without the limit that its owner
         * set. */
        if (out->leaf < 0 && s->mode == SANDBOX_REQUIRE &&
            ((s->memory && cgroup_has_memory()) || (s->processes && cgroup_has_pids())))
                return err_set(e, E_FULL, "there is no free cgroup for another program on this agent");
        return 0;
}

void sandbox_kill(int leaf)
{
        cgroup_kill(leaf);
}

bool sandbox_left(int leaf)
{
        return cgroup_left(leaf);
}

void sandbox_ended(int leaf)
{
        cgroup_give(leaf);
}

int sandbox_explain(uint32_t stage, int sys, struct err *e)
{
        static const char *const what[LAUNCH_STAGES] = {
                [LAUNCH_NONE] = "ended before it had started the program",
                [LAUNCH_SPEC] = "did not understand what the agent told it; both must be of one version",
                [LAUNCH_ORPHAN] = "has lost the agent",
                [LAUNCH_LIMIT] = "could not set a limit of sandbox.limits",
                [LAUNCH_NAMESPACE] = "could not enter the namespace that hides the agent's data folder",
                [LAUNCH_USER] = "could not become the user of sandbox.user",
                [LAUNCH_PRIVILEGES] = "could not give up privileges",
                [LAUNCH_LANDLOCK] = "could not apply the Landlock rules",
                [LAUNCH_FDS] = "could not close what the program is not to have",
                [LAUNCH_SECCOMP] = "could not apply the filter of system calls",
        };
        const char *text =
                stage < LAUNCH_STAGES && what[stage] ? what[stage] : "failed in a way unknown here";

        return err_set(e, E_UNAVAIL, "the launcher %s%s%s; nothing was started", text, sys ? ": " : "",
                       sys ? strerror(sys) : "");
}

const char *sandbox_has(void)
{
        return g.has;
}

const char *sandbox_lacks(void)
{
        return g.n ? g.sets[0].lacks : "";
}

enum sandbox_mode sandbox_mode(void)
{
        return g.n ? g.sets[0].mode : SANDBOX_OFF;
}

const char *sandbox_cgroup(void)
{
        return cgroup_base();
}

bool sandbox_holds(const char *tool)
{
        const struct set *s = choose(tool);

        return s && s->mode != SANDBOX_OFF;
}

bool sandbox_user(const char *tool, uid_t *uid, gid_t *gid)
{
        const struct set *s = choose(tool);

        if (!s || !s->other_user)
                return false;
        *uid = s->uid;
        *gid = s->gid;
        return true;
}
