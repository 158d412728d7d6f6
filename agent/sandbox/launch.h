/* What the agent and the launcher (launcher.c) say to each other.
 *
 *     photon-launch SPEC CWD PATH ARG0 ARG1 ...
 *
 * SPEC is "KEY=NUMBER" or "KEY=NUMBER:NUMBER" separated by commas, in any order:
 *
 *     e  descriptor that reports go to; it does not survive the exec
 *     x  how many descriptors after 2 the tool gets
 *     p  the agent's process: if that is no longer the parent, nothing is started
 *     r  resource:value, a limit (setrlimit); may come several times
 *     n  descriptor of a mount namespace to enter, U of the user namespace that owns it
 *     u  user, g group, G a further group (may come several times); u and g come together
 *     b  capabilities (a mask) that no program below gets back
 *     l  descriptor of a Landlock ruleset
 *     s  descriptor:count of a seccomp filter, an array of struct sock_filter
 *
 * The launcher writes LAUNCH_READY once everything is in place and only the exec is left; a report of any
 * other stage says what could not be done. It ends with 127 after that, but what counts is the report, so
 * that a tool's own 127 is never taken for it. Both sides are always of one build. */
#ifndef PHOTON_AGENT_SANDBOX_LAUNCH_H
#define PHOTON_AGENT_SANDBOX_LAUNCH_H

#include <stdint.h>

enum launch_stage {
        LAUNCH_NONE,
        LAUNCH_READY,
        LAUNCH_SPEC,
        LAUNCH_ORPHAN,
        LAUNCH_LIMIT,
        LAUNCH_NAMESPACE,
        LAUNCH_USER,
        LAUNCH_PRIVILEGES,
        LAUNCH_LANDLOCK,
        LAUNCH_FDS,
        LAUNCH_CHDIR,
        LAUNCH_SECCOMP,
        LAUNCH_EXEC,
        LAUNCH_STAGES
};

#define LAUNCH_MAGIC 0x50484c31u

/* At most two come over the pipe, each in one write. */
struct launch_report {
        uint32_t magic, stage;
        int32_t sys; /* errno */
};

#define LAUNCH_GROUPS_MAX 64
#define LAUNCH_LIMITS_MAX 16
#define LAUNCH_SPEC_MAX   2048

#endif
