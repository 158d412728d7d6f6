/* Who this agent is: its key and what the hub gave it, in the data folder.
 *
 *     agent.key      PEM, 0600, made once, before anything is sent
 *     identity.json  written whole: agent_id, name, addresses, CA pin, CA and certificate
 *
 * One file for all the hub gave, so that a crash leaves either the old or the
 * new identity. Blocking, small: start-up, join, renewal. Owned by the caller. */
#ifndef PHOTON_AGENT_IDENTITY_H
#define PHOTON_AGENT_IDENTITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/conf.h"
#include "common/jointoken.h"
#include "photon/v1/enroll.pb-c.h"

struct err;

#define AGENT_ID_MAX   64
#define AGENT_NAME_MAX 128

struct identity {
        char *dir;
        char *key_pem;  /* NULL: not made yet */
        char *cert_pem; /* NULL: not enrolled */
        char *ca_pem;
        char agent_id[AGENT_ID_MAX + 1];
        char name[AGENT_NAME_MAX + 1];
        char agent_addr[HOST_PORT_MAX], enroll_addr[HOST_PORT_MAX];
        char token_id[JOIN_TOKEN_ID_MAX + 1]; /* that it joined with */
        uint8_t ca_pin[32];
        struct conf_list labels;             /* "K=V" given at join */
        int64_t not_before_us, not_after_us; /* of the certificate */
};

/* Reads what is there; a folder without identity is not an error. Refuses a key that others may read, a
 * certificate for another key. */
int identity_load(const char *dir, struct identity **out, struct err *e);
void identity_free(struct identity *id); /* wipes the key; accepts NULL */
bool identity_enrolled(const struct identity *id);
/* Makes and stores the key if there is none. */
int identity_need_key(struct identity *id, struct err *e);
/* Checks that the certificate is for our key, by this CA (which must have the pin), for clients, and stores
 * all of it. The addresses, pin and labels in `id` are stored as they stand. */
int identity_accept(struct identity *id, const Photon__V1__CertificateReply *r, const uint8_t *ca_der,
                    size_t ca_len, int64_t now_us, struct err *e);
/* Deletes key and identity (a join to another hub). */
int identity_delete(const char *dir, struct err *e);
/* SHA-256(csr) in out_hash, for proofs. out_der: mem_free. */
int identity_csr(const struct identity *id, uint8_t **out_der, size_t *out_len, uint8_t out_hash[32],
                 struct err *e);
/* When the certificate wants to be renewed: `share` (0..1) of its life is gone. */
int64_t identity_renew_at_us(const struct identity *id, double share);

#endif
