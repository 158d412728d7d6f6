/* System calls for a program without a C library (launcher.c): each returns what the kernel says, -errno
 * where it failed. Why without one: the exec of a static glibc program costs some 300 microseconds on the
 * machine where this was measured, most of it page faults, and it would be paid before each call; this costs
 * a fifth. */
#ifndef PHOTON_AGENT_SANDBOX_LAUNCH_SYS_H
#define PHOTON_AGENT_SANDBOX_LAUNCH_SYS_H

#include <stddef.h>
#include <sys/syscall.h>

#if defined(__x86_64__)
static inline long sys6(long n, long a, long b, long c, long d, long e, long f)
{
        register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
        long rc;

        __asm__ volatile("syscall"
                         : "=a"(rc)
                         : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                         : "rcx", "r11", "memory");
        return rc;
}
#define LAUNCH_START                                                                                         \
        __asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall "      \
                "launch_main\n\tud2\n")
#elif defined(__aarch64__)
static inline long sys6(long n, long a, long b, long c, long d, long e, long f)
{
        register long x8 __asm__("x8") = n, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c;
        register long x3 __asm__("x3") = d, x4 __asm__("x4") = e, x5 __asm__("x5") = f;

        __asm__ volatile("svc #0"
                         : "+r"(x0)
                         : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                         : "memory");
        return x0;
}
#define LAUNCH_START __asm__(".globl _start\n_start:\n\tmov x0, sp\n\tbl launch_main\n\tbrk #0\n")
#else
#error "the launcher knows the system calls of x86_64 and aarch64"
#endif

#define SYS1(n, a)             sys6(n, (long)(a), 0, 0, 0, 0, 0)
#define SYS2(n, a, b)          sys6(n, (long)(a), (long)(b), 0, 0, 0, 0)
#define SYS3(n, a, b, c)       sys6(n, (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define SYS4(n, a, b, c, d)    sys6(n, (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)
#define SYS5(n, a, b, c, d, e) sys6(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), 0)

#endif
