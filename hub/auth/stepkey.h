/* DIR/step.key: what proves that a step is from this hub (common/stepsign.h), and that a row of the database
 * is as this hub wrote it. It is not in the database, so whoever can only write there proves nothing.
 *
 * A P-256 key. Its certificate is by the hub's CA, lives a week and is made anew in time; another key is
 * trusted as soon as the hub has it (delete the file, restart: agents that connect get the new certificate,
 * rows of before do not hold any more). Loop thread. */
#ifndef PHOTON_HUB_AUTH_STEPKEY_H
#define PHOTON_HUB_AUTH_STEPKEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/stepsign.h"

struct ca;
struct err;
struct step_key;

/* Blocking. Makes the file (0600) if there is none. *out_new (may be NULL): it was made. -E_DENIED: others
 * may read it. */
int step_key_open(const char *dir, const struct ca *ca, bool *out_new, struct step_key **out, struct err *e);
void step_key_free(struct step_key *k); /* wipes; accepts NULL */

/* Of one session; wipe key, mem_free certificate and signature. */
struct step_grant {
        uint8_t key[STEP_KEY_LEN];
        uint8_t *certificate, *signature;
        size_t certificate_len, signature_len;
        int64_t at_us;
};
int step_key_grant(struct step_key *k, const char *agent_id, const uint8_t nonce[STEP_NONCE_LEN],
                   int64_t now_us, struct step_grant *out, struct err *e);
void step_grant_fini(struct step_grant *g);

/* For seals of rows (hub/sched/engine_seal.c); lent. */
const uint8_t *step_key_rows(const struct step_key *k);

#endif
