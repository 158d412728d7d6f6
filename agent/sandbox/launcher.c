/* photon-launch: becomes a tool, after it has given up what tools are not to have.
 *
 * A program of its own, so that this happens in a process of one thread and few bytes: namespaces can be
 * entered, and nothing of the agent's memory is there. No C library (launch_sys.h says why). It trusts its
 * arguments (they come from the agent, under the agent's user, and it is not set-uid), but never goes on
 * after something that was asked for has failed. */
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "agent/sandbox/launch.h"
#include "agent/sandbox/launch_sys.h"

#define LANDLOCK_RESTRICT_SELF 446
#define CLOSE_RANGE            436

/* errno.h would drag in what is not there. */
enum { SYS_EINTR = 4, SYS_ESRCH = 3, SYS_EINVAL = 22, SYS_E2BIG = 7 };

struct spec {
        int fd_report, extra, fd_mount, fd_user, fd_landlock, fd_seccomp;
        int parent;
        bool has_user, has_group;
        uint32_t uid, gid, groups[LAUNCH_GROUPS_MAX];
        uint32_t n_groups, n_limits;
        uint64_t caps, filter_n;
        struct {
                int resource;
                uint64_t value;
        } limits[LAUNCH_LIMITS_MAX];
};

static struct spec s = {.fd_report = -1, .fd_mount = -1, .fd_user = -1, .fd_landlock = -1, .fd_seccomp = -1};

static void __attribute__((noreturn)) leave(int code)
{
        for (;;)
                SYS1(SYS_exit_group, code);
}

static void report(enum launch_stage stage, long rc)
{
        struct launch_report r = {.magic = LAUNCH_MAGIC, .stage = stage, .sys = (int32_t)-rc};

        while (s.fd_report >= 0 && SYS3(SYS_write, s.fd_report, &r, sizeof r) == -SYS_EINTR)
                ;
}

static void __attribute__((noreturn)) fail(enum launch_stage stage, long rc)
{
        report(stage, rc);
        leave(127);
}

static void must(enum launch_stage stage, long rc)
{
        if (rc < 0)
                fail(stage, rc);
}

/* --- the spec ----------------------------------------------------------- */

static uint64_t number(const char **io)
{
        const char *p = *io;
        uint64_t v = 0;

        if (*p < '0' || *p > '9')
                fail(LAUNCH_SPEC, -SYS_EINVAL);
        for (; *p >= '0' && *p <= '9'; p++) {
                if (v > (UINT64_MAX - 9) / 10)
                        fail(LAUNCH_SPEC, -SYS_EINVAL);
                v = v * 10 + (uint64_t)(*p - '0');
        }
        *io = p;
        return v;
}

static uint64_t second(const char **io)
{
        if (**io != ':')
                fail(LAUNCH_SPEC, -SYS_EINVAL);
        (*io)++;
        return number(io);
}

static void read_one(char key, const char **io)
{
        uint64_t v = number(io);

        switch (key) {
        case 'e':
                s.fd_report = (int)v;
                return;
        case 'x':
                s.extra = (int)v;
                return;
        case 'p':
                s.parent = (int)v;
                return;
        case 'n':
                s.fd_mount = (int)v;
                return;
        case 'U':
                s.fd_user = (int)v;
                return;
        case 'u':
                s.uid = (uint32_t)v;
                s.has_user = true;
                return;
        case 'g':
                s.gid = (uint32_t)v;
                s.has_group = true;
                return;
        case 'b':
                s.caps = v;
                return;
        case 'l':
                s.fd_landlock = (int)v;
                return;
        case 's':
                s.fd_seccomp = (int)v;
                s.filter_n = second(io);
                return;
        case 'G':
                if (s.n_groups == LAUNCH_GROUPS_MAX)
                        fail(LAUNCH_SPEC, -SYS_E2BIG);
                s.groups[s.n_groups++] = (uint32_t)v;
                return;
        case 'r':
                if (s.n_limits == LAUNCH_LIMITS_MAX)
                        fail(LAUNCH_SPEC, -SYS_E2BIG);
                s.limits[s.n_limits].resource = (int)v;
                s.limits[s.n_limits++].value = second(io);
                return;
        default:
                fail(LAUNCH_SPEC, -SYS_EINVAL);
        }
}

static void read_spec(const char *text)
{
        while (*text) {
                char key = *text++;

                if (*text++ != '=')
                        fail(LAUNCH_SPEC, -SYS_EINVAL);
                read_one(key, &text);
                if (*text == ',')
                        text++;
                else if (*text)
                        fail(LAUNCH_SPEC, -SYS_EINVAL);
        }
        /* A spec without them would start a tool that nobody hears of. */
        if (s.fd_report < 3 || s.parent < 1 || s.has_user != s.has_group || s.filter_n > BPF_MAXINSNS)
                fail(LAUNCH_SPEC, -SYS_EINVAL);
}

/* --- giving up --------------------------------------------------------------- */

/* Never more than what there is: a limit of the machine's own stays. */
static void set_limits(void)
{
        for (uint32_t i = 0; i < s.n_limits; i++) {
                struct rlimit now, want = {.rlim_cur = s.limits[i].value, .rlim_max = s.limits[i].value};

                must(LAUNCH_LIMIT, SYS4(SYS_prlimit64, 0, s.limits[i].resource, 0, &now));
                if (want.rlim_max > now.rlim_max)
                        want.rlim_cur = want.rlim_max = now.rlim_max;
                must(LAUNCH_LIMIT, SYS4(SYS_prlimit64, 0, s.limits[i].resource, &want, 0));
        }
}

static void enter_namespaces(void)
{
        if (s.fd_user >= 0)
                must(LAUNCH_NAMESPACE, SYS2(SYS_setns, s.fd_user, CLONE_NEWUSER));
        if (s.fd_mount >= 0)
                must(LAUNCH_NAMESPACE, SYS2(SYS_setns, s.fd_mount, CLONE_NEWNS));
}

static void drop_privileges(void)
{
        for (int cap = 0; cap < 64; cap++) {
                long rc = s.caps >> cap & 1 ? SYS5(SYS_prctl, PR_CAPBSET_DROP, cap, 0, 0, 0) : 0;

                if (rc < 0 && rc != -SYS_EINVAL) /* EINVAL: this kernel does not know it */
                        fail(LAUNCH_PRIVILEGES, rc);
        }
        if (s.has_user) {
                must(LAUNCH_USER, SYS2(SYS_setgroups, s.n_groups, s.groups));
                must(LAUNCH_USER, SYS3(SYS_setresgid, s.gid, s.gid, s.gid));
                must(LAUNCH_USER, SYS3(SYS_setresuid, s.uid, s.uid, s.uid));
        }
        must(LAUNCH_PRIVILEGES, SYS5(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
        /* A change of user or namespace takes it away. */
        must(LAUNCH_PRIVILEGES, SYS5(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0));
        if (SYS1(SYS_getppid, 0) != s.parent)
                fail(LAUNCH_ORPHAN, -SYS_ESRCH);
}

static void close_others(void)
{
        long from = 3 + s.extra;

        must(LAUNCH_FDS, SYS3(SYS_fcntl, s.fd_report, F_SETFD, FD_CLOEXEC));
        if (s.fd_report > from)
                must(LAUNCH_FDS, SYS3(CLOSE_RANGE, from, s.fd_report - 1, 0));
        must(LAUNCH_FDS, SYS3(CLOSE_RANGE, s.fd_report + 1, ~0u, 0));
}

static void become(char **argv, char **env)
{
        struct sock_fprog filter = {.len = (unsigned short)s.filter_n};
        long at;

        read_spec(argv[1]);
        filter.len = (unsigned short)s.filter_n;
        set_limits();
        enter_namespaces();
        drop_privileges();
        must(LAUNCH_CHDIR, SYS1(SYS_chdir, argv[2]));
        if (s.fd_landlock >= 0)
                must(LAUNCH_LANDLOCK, SYS2(LANDLOCK_RESTRICT_SELF, s.fd_landlock, 0));
        if (s.fd_seccomp >= 0) {
                at = sys6(SYS_mmap, 0, (long)(s.filter_n * sizeof(struct sock_filter)), PROT_READ,
                          MAP_PRIVATE, s.fd_seccomp, 0);
                must(LAUNCH_SECCOMP, at < 0 && at > -4096 ? at : 0);
                filter.filter = (struct sock_filter *)at;
        }
        close_others();
        if (s.fd_seccomp >= 0)
                must(LAUNCH_SECCOMP, SYS5(SYS_prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0));
        report(LAUNCH_READY, 0);
        fail(LAUNCH_EXEC, SYS3(SYS_execve, argv[3], argv + 4, env));
}

void launch_main(long *stack);
void __attribute__((used)) launch_main(long *stack)
{
        static const char text[] = "photon-launch: this is started by photon-agent, not by people\n";
        long argc = stack[0];
        char **argv = (char **)(stack + 1);

        if (argc >= 5)
                become(argv, argv + argc + 1);
        SYS3(SYS_write, 2, text, sizeof text - 1);
        leave(64);
}

LAUNCH_START;
