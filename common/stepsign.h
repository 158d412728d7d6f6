/* How a hub proves to an agent that a step is from it: the bytes both sides agree on.
 *
 * Once a session: the agent sends a nonce in Hello; the hub answers with a grant: a fresh key of 32 bytes,
 * signed (ECDSA P-256) together with nonce, agent and time by the hub's step key, whose certificate is by the
 * CA that the agent has pinned. Then each StepStart ends with an HMAC-SHA-256 under the granted key over all
 * its other bytes, among them a number that only rises and the hub's time. So a step costs two hashes and no
 * signature, and one that was recorded is worth nothing in any other session. See
 * docs/decisions/signed-steps.md. */
#ifndef PHOTON_STEPSIGN_H
#define PHOTON_STEPSIGN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf;
struct mac;

#define STEP_NONCE_LEN   32
#define STEP_KEY_LEN     32
#define STEP_TRAILER_LEN 35 /* field 20 of StepStart: tag, length, 32 bytes */

/* What the step key signs. -E_NOMEM. */
int stepsign_grant(const char *agent_id, const uint8_t nonce[STEP_NONCE_LEN], const uint8_t key[STEP_KEY_LEN],
                   int64_t at_us, struct buf *out);

/* Hub: `start` is a packed StepStart without field 20; the trailer is put behind it. */
void stepsign_trailer(const struct mac *m, const void *start, size_t n, uint8_t out[STEP_TRAILER_LEN]);
/* Agent: does this packed StepStart end with the right trailer? Constant time. */
bool stepsign_holds(const struct mac *m, const void *start, size_t n);

/* The next StepStart (field 1) of a packed HubMessage as its bytes. 1: here it is; 0: no more; -E_PROTO. */
int stepsign_next(const uint8_t **io, size_t *io_n, const uint8_t **out, size_t *out_n);

#endif
