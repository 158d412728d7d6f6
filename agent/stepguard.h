/* Is this step from the hub that this agent has joined, and is it meant for this session? (common/stepsign.h)
 *
 * One for each connection: a nonce goes out with Hello, a grant comes back, and then each StepStart is looked
 * at before anything else is done with it. Without a good grant every step is refused, so a hub that does not
 * sign gets nothing run. Loop thread only. */
#ifndef PHOTON_AGENT_STEPGUARD_H
#define PHOTON_AGENT_STEPGUARD_H

#include <stdint.h>

#include "common/clock.h"
#include "photon/v1/agent.pb-c.h"

struct err;
struct step_guard;

/* A step that was packed longer ago is refused. By the hub's own clock on both ends (its time in the grant
 * plus what has passed here), so that a wrong clock on this machine does not matter. */
#define STEP_AGE_MAX_MS 600000

int step_guard_create(const struct clock *clock, struct step_guard **out); /* -E_NOMEM */
void step_guard_free(struct step_guard *g);                                /* accepts NULL */
/* Lent until the guard is freed. */
void step_guard_ask(struct step_guard *g, Photon__V1__HelloRequest *m);
/* -E_DENIED: the grant is not by this hub, or not for this agent and session; steps will be refused, with
 * this reason. */
int step_guard_take(struct step_guard *g, const char *ca_pem, const char *agent_id,
                    const Photon__V1__StepGrant *grant, struct err *e);
/* `raw` is m as it came. NULL: go on. Else the stable name of what is wrong, and e says it. */
const char *step_guard_check(struct step_guard *g, const Photon__V1__StepStart *m, const uint8_t *raw,
                             size_t n, struct err *e);

#endif
