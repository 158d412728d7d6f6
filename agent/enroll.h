/* Gets a certificate from the hub's enrolment listener: with a join token, or,
 * when the old certificate has expired, by proving the same key (rejoin).
 *
 *   WAIT -> CA -> VERIFIED -> DONE        (join)
 *   WAIT -------> VERIFIED -> DONE        (rejoin)
 *
 * CA: an unverified connection that carries nothing but GetCa; its answer must
 * have the SHA-256 that the token names. VERIFIED: a new connection checked
 * against that CA and the host in the address: Challenge, then Redeem or
 * Rejoin. The key exists before anything is sent and stays, so that a try
 * whose answer was lost can be repeated. Network trouble is tried again with
 * backoff; a refusal by the hub is final. Loop thread only. */
#ifndef PHOTON_AGENT_ENROLL_H
#define PHOTON_AGENT_ENROLL_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "common/conf.h"

struct clock;
struct err;
struct enroller;
struct identity;
struct join_token;
struct link_net;

#define ENROLL_DIAL_MS 10000
#define ENROLL_CALL_MS 15000

struct enroller_options {
        uv_loop_t *loop;
        struct link_net *net;
        struct identity *id;            /* lent; changed and stored on success */
        const struct join_token *token; /* NULL: rejoin; copied */
        const char *name;               /* wished for; may be NULL */
        const struct conf_list *labels;
        const struct clock *clock;
        int64_t give_up_ms; /* 0: go on for ever */
        /* Once. rc 0: `id` is enrolled. -E_DENIED ...: refused, e says what to do. -E_UNAVAIL: gave up.
         * The enroller is gone after it. */
        void (*on_done)(void *arg, int rc, const struct err *e);
        void *arg;
};

int enroller_start(const struct enroller_options *o, struct enroller **out, struct err *e);
/* on_done does not come any more; memory goes when the connection is closed. Accepts NULL. */
void enroller_cancel(struct enroller *en);

#endif
