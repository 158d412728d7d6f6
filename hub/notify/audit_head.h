/* The head of the audit's chain, told to somebody outside, so that a chain that was cut or written anew is
 * found out: every `audit-head-every`, when there is a new record, a notice "audit.head" goes to each target
 * whose `events` name it, by the same outbox as all notices. Loop thread. */
#ifndef PHOTON_NOTIFY_AUDIT_HEAD_H
#define PHOTON_NOTIFY_AUDIT_HEAD_H

#include <stdint.h>
#include <uv.h>

struct audit_head;
struct clock;
struct err;
struct notify;
struct store;

/* Nothing is done where no target wants it; *out is NULL then. -E_NOMEM, or why the store cannot be read. */
int audit_head_start(uv_loop_t *loop, const struct clock *clock, struct store *s, struct notify *n,
                     struct audit_head **out, struct err *e);
/* Frees it when its timer is closed. Accepts NULL. */
void audit_head_stop(struct audit_head *h);

#endif
