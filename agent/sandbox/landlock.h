/* Landlock rulesets, by raw system calls: headers of Debian 12 know ABI 2 only. */
#ifndef PHOTON_AGENT_SANDBOX_LANDLOCK_H
#define PHOTON_AGENT_SANDBOX_LANDLOCK_H

#include <stdbool.h>

#include "agent/sandbox/sandbox.h"

/* What the running kernel speaks: 1 and up, 0: none. */
int landlock_abi(void);
#define LANDLOCK_ABI_NETWORK 4
#define LANDLOCK_ABI_SIGNALS 6

/* What a ruleset of this ABI can restrict. Pure: what is not known yet must not be asked of the kernel. */
struct landlock_rights {
        uint64_t files, read, write; /* all that are handled; those of a folder to read, to write */
        uint64_t net, scoped;
};
void landlock_rights(int abi, bool network, struct landlock_rights *out);

/* The roots of `r`, what every program needs (/dev/null ...), and `scratch` to write (NULL: none). Roots that
 * do not exist are left out. *out_fd has close-on-exec. -E_*: the kernel refused. */
int landlock_ruleset(const struct sandbox_rules *r, const char *scratch, int *out_fd, struct err *e);

#endif
