/* The mount namespace that tools live in: the machine's own, in which the agent's data folder is covered. It
 * is made once, by a process that holds it until it has been opened, so that a call only enters it. */
#ifndef PHOTON_AGENT_SANDBOX_HOLD_H
#define PHOTON_AGENT_SANDBOX_HOLD_H

#include <stdbool.h>
#include <stddef.h>

struct err;

enum hold_how {
        HOLD_COVER,    /* the folder looks empty */
        HOLD_KEEP,     /* this folder below a covered one stays */
        HOLD_KEEP_RO,  /* it stays, but cannot be written */
        HOLD_READONLY, /* the file or folder, wherever it is, cannot be written */
};
struct hold_op {
        enum hold_how how;
        const char *path; /* exists, without symbolic links */
};
#define HOLD_OPS_MAX 64

/* In order. *out_user is -1 for root, who needs no user namespace. Both have close-on-exec and stay open as
 * long as calls are to enter them. -E_NOTSUP, -E_DENIED: this machine does not let its users make namespaces.
 */
int hold_make(const struct hold_op *ops, size_t n, int *out_user, int *out_mount, struct err *e);

#endif
