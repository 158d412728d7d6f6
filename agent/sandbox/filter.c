#include "agent/sandbox/filter.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/err.h"

/* What looks into other processes, changes the machine, or is the usual way into the kernel. What node,
 * Chromium, Python, git and compilers do is not among them: they take EPERM where they try (io_uring). Making
 * user namespaces stays allowed, since browsers build their sandbox of them. */
const char *const filter_refused[] = {"acct",
                                      "add_key",
                                      "bpf",
                                      "clock_settime",
                                      "delete_module",
                                      "finit_module",
                                      "fsconfig",
                                      "fsmount",
                                      "fsopen",
                                      "fspick",
                                      "init_module",
                                      "io_uring_enter",
                                      "io_uring_register",
                                      "io_uring_setup",
                                      "ioperm",
                                      "iopl",
                                      "kcmp",
                                      "kexec_file_load",
                                      "kexec_load",
                                      "keyctl",
                                      "mount",
                                      "mount_setattr",
                                      "move_mount",
                                      "open_by_handle_at",
                                      "open_tree",
                                      "perf_event_open",
                                      "pidfd_getfd",
                                      "pivot_root",
                                      "process_vm_readv",
                                      "process_vm_writev",
                                      "ptrace",
                                      "quotactl",
                                      "reboot",
                                      "request_key",
                                      "setns",
                                      "settimeofday",
                                      "swapoff",
                                      "swapon",
                                      "umount2",
                                      "userfaultfd",
                                      NULL};

bool filter_known(void)
{
        unsigned action = SECCOMP_RET_ERRNO;

        return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
}

/* Calls that are refused only with some arguments. */
static int refuse_some(scmp_filter_ctx ctx)
{
        static const unsigned typing[] = {TIOCSTI, TIOCLINUX};
        /* The limits of another process: the agent's, which a limit of no CPU time ends. Landlock does not
         * ask about them. */
        int rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(prlimit64), 2,
                                  SCMP_A0(SCMP_CMP_NE, 0, 0), SCMP_A2(SCMP_CMP_NE, 0, 0));

        /* Keys pressed on a terminal of somebody else's; the kernel looks at 32 bits. */
        for (size_t i = 0; i < sizeof typing / sizeof *typing && rc == 0; i++)
                rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(ioctl), 1,
                                      SCMP_A1(SCMP_CMP_MASKED_EQ, 0xffffffffu, typing[i]));
        return rc;
}

static int build(scmp_filter_ctx ctx)
{
        int rc = 0;

#ifdef __x86_64__
        /* Programs of 32 bits keep to the same list; calls of any other kind do not exist. */
        rc = seccomp_arch_add(ctx, SCMP_ARCH_X86);
#endif
        if (rc == 0)
                rc = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(ENOSYS));
        /* A tree: fewer comparisons for the many calls that are allowed. */
        if (rc == 0)
                rc = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
        for (const char *const *p = filter_refused; *p && rc == 0; p++) {
                int nr = seccomp_syscall_resolve_name(*p);

                /* One that the library does not know, this kernel may know: then the list would have a hole.
                 */
                if (nr == __NR_SCMP_ERROR)
                        return -ENOSYS;
                rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), nr, 0);
        }
        return rc ? rc : refuse_some(ctx);
}

int filter_make(int *out_fd, size_t *out_n, struct err *e)
{
        scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
        int fd = memfd_create("photon-seccomp", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        int rc = ctx && fd >= 0 ? build(ctx) : -ENOMEM;
        struct stat st;

        if (rc == 0)
                rc = seccomp_export_bpf(ctx, fd);
        if (rc == 0 && (fstat(fd, &st) || fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW)))
                rc = -errno;
        seccomp_release(ctx);
        if (rc) {
                if (fd >= 0)
                        close(fd);
                return err_set(e, err_from_errno(-rc), "cannot make the filter of system calls: %s",
                               strerror(-rc));
        }
        *out_fd = fd;
        *out_n = (size_t)st.st_size / sizeof(struct sock_filter);
        return 0;
}
