/* Who may join and who may ask: the CA, join tokens, API tokens, enrolled agents.
 *
 * The loop owns join tokens and agents (all in memory, all in the store); API
 * tokens are looked up by hash in the store by any thread. Only hashes of
 * secrets are kept. */
#ifndef PHOTON_HUB_AUTH_H
#define PHOTON_HUB_AUTH_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/clock.h"
#include "hub/model/roles.h"

struct auth;
struct bus;
struct err;
struct store;
struct store_reader;
struct store_tx;

/* ---- DIR/pki (dir is DIR): made by init; photon-hub serve reads it ---- */
struct ca {
        char *ca_cert_pem, *ca_key_pem;   /* key 0600 */
        char *hub_cert_pem, *hub_key_pem; /* serverAuth; SANs = hosts */
        uint8_t ca_sha256[32];            /* of the DER */
};
/* Blocking. hosts: NULL-ended; localhost, 127.0.0.1, ::1 and the host name are always added. -E_EXIST if
 * there is one. */
int ca_init(const char *dir, const char *const *hosts, int64_t now_us, struct err *e);
/* Also renews the hub's certificate when 2/3 of its life is gone, or when `hosts` are not all covered. */
int ca_load(const char *dir, const char *const *extra_hosts, int64_t now_us, struct ca *out, struct err *e);
/* The first name that an operator gave (`photon-hub init --host`): of the hub certificate's names, the first
 * that is neither localhost nor this machine's own. -E_NOENT: there is none. */
int ca_given_host(const struct ca *c, char *out, size_t size);
void ca_fini(struct ca *c);

/* ---- API tokens ---- */
struct caller {
        char token_id[32];
        char name[128];
        char project[PROJECT_NAME_MAX + 1]; /* what the token is bound to; "*": to none */
        char user_id[32];                   /* whose the token is; "": its own, a service's */
        bool service;                       /* and that is a program */
        char maker_id[32];                  /* of a program's: the user who made it, or "" */
        char maker[128];                    /* their name */
        bool session;                       /* of a login */
        struct roles roles;                 /* of the user, as far as the token reaches */
        uint64_t permissions;               /* what the token is limited to (hub/model/access.h) */
        int64_t expires_us;                 /* 0: never */
};
/* One to be made. project: what it is bound to ("*": all of them). */
struct new_api_token {
        const char *name, *project;
        enum role role;      /* the most it may be, of what its user is */
        int64_t expires_us;  /* 0: never */
        const char *user_id; /* NULL: it stands for itself */
        const char *user;    /* their name, for the audit; or NULL */
        const char *scopes;  /* names of permissions, separated by spaces; NULL: no limit */
        bool session;
        const char *created_by;
        const char *maker_id; /* the user who makes it, or is behind the token that does; or NULL */
};
/* Any thread with its own reader: "pat_..." -> caller. -E_UNAUTH (unknown, expired, revoked: the same
 * sentence); -E_DENIED: its row, or its user's or maker's, is not as this hub wrote it: out has nothing but
 * token_id and, where it is the user's, user_id. */
int auth_check_api_token(struct store_reader *r, const char *token, int64_t now_us, struct caller *out);
/* The same once more for a token that was good, by its id: what its holder is by now. */
int auth_recheck_api_token(struct store_reader *r, const char *token_id, int64_t now_us, struct caller *out);
/* Makes one: out_token is shown once. Loop thread (or start-up). */
int auth_api_token_create(struct store_tx *tx, const struct new_api_token *t, int64_t now_us,
                          char out_token[80], char out_id[32]);
/* -E_NOENT, -E_STATE (is revoked already). r: a reader of the calling thread. */
int auth_api_token_revoke(struct store_reader *r, struct store_tx *tx, const char *id, int64_t now_us,
                          const char *by, struct err *e);

/* ---- the loop's part ---- */
struct auth_options {
        const struct clock *clock;
        struct store *store;
        struct bus *bus;
        const struct ca *ca;
        int64_t agent_cert_life_ms; /* default 24 h */
};
int auth_create(const struct auth_options *o, struct auth **out, struct err *e); /* loads tokens and agents */
int64_t auth_cert_life_ms(const struct auth *a);
void auth_free(struct auth *a);

/* Who the next change is made by, for its audit record ("hub" when not said). */
void auth_act_as(struct auth *a, const char *who);
/* Every transaction that auth added to is committed here, in the same turn: as store_commit, and the events
 * that were put into it (bus_put) are announced when it is durable. */
void auth_commit(struct auth *a, struct store_tx *tx, void (*on_done)(void *arg), void *arg);

/* uses: 1..1000000; ttl_ms: up to ten years; name_glob, labels: NULL: any name, none. -E_INVAL says what is
 * wrong. */
struct join_request {
        int64_t uses, ttl_ms;
        const char *name_glob;
        const cJSON *labels;
        const char *created_by;
};
/* Adds rows to tx; out_secret (32 bytes) and id are for common/jointoken.h. */
int auth_join_create(struct auth *a, struct store_tx *tx, const struct join_request *r, char out_id[32],
                     uint8_t out_secret[32], struct err *e);
int auth_join_revoke(struct auth *a, struct store_tx *tx, const char *id,
                     struct err *e); /* -E_NOENT, -E_STATE */

struct enrolled {
        char agent_id[32];
        char name[128];
        cJSON *labels;
        bool again;
};
/* Checks a redeem request: token known, live, uses left (or the same key again), proof right, name allowed
 * and free. Every refusal is -E_DENIED with a sentence for the person at the agent; wrong id and wrong proof
 * read the same. Adds rows to tx. */
struct redeem_request {
        const char *token_id;
        const uint8_t *proof;
        size_t proof_len;
        const uint8_t *nonce;
        const uint8_t *csr;
        size_t csr_len;
        const char *name, *hostname;
        const cJSON *labels;
};
int auth_redeem(struct auth *a, struct store_tx *tx, const struct redeem_request *r, struct enrolled *out,
                struct err *e);
void enrolled_fini(struct enrolled *en);
/* Same key as enrolled, not revoked: -E_DENIED otherwise. The caller checks that the signature is by that
 * key. */
int auth_rejoin(struct auth *a, const char *agent_id, const uint8_t spki[32], struct enrolled *out,
                struct err *e);
/* A certificate for an agent (CPU: ~1 ms; call on the uv pool with copies). */
int auth_issue(const struct ca *ca, const char *agent_id, const char *name, int64_t now_us, int64_t life_ms,
               const uint8_t *csr, size_t csr_len, uint8_t **out_der, size_t *out_len,
               int64_t *out_not_after_us, char out_serial[41], struct err *e);
void auth_note_certificate(struct auth *a, struct store_tx *tx, const char *agent_id, const char *serial,
                           int64_t not_after_us);

/* Is the holder of this certificate a live agent? Chain and purpose were checked by TLS; here: URI, key,
 * revocation. */
int auth_agent_by_cert(struct auth *a, const uint8_t *der, size_t n, char out_id[32], struct err *e);

struct agent_record {
        const char *id, *name, *state;
        const cJSON *labels;
        int64_t created_us, last_seen_us, cert_not_after_us;
        const char *info;
};
/* NULL: unknown. By id or name. Valid until the next call into auth. */
const struct agent_record *auth_agent(struct auth *a, const char *id_or_name);
int auth_agent_each(struct auth *a, int (*cb)(void *arg, const struct agent_record *r), void *arg);
int auth_agent_revoke(struct auth *a, struct store_tx *tx, const char *id, struct err *e);
int auth_agent_drain(struct auth *a, struct store_tx *tx, const char *id, bool on, struct err *e);
int auth_agent_label(struct auth *a, struct store_tx *tx, const char *id, const cJSON *set,
                     struct err *e); /* null removes */
/* info_json NULL: as it was. */
void auth_agent_seen(struct auth *a, struct store_tx *tx, const char *id, const char *info_json,
                     int64_t at_us);

/* Label rules for tokens, people and agents: at most 64; keys are names of at most 63 bytes, values text of
 * at most 255. Keys that the hub sets from facts (os, arch, kind, name) are refused. `null_ok`: null removes.
 */
#define LABELS_MAX      64
#define LABEL_KEY_MAX   63
#define LABEL_VALUE_MAX 255
#define AGENT_NAME_MAX  63
int label_check(const char *key, const char *value, struct err *e);
bool label_reserved(const char *key);
int labels_check(const cJSON *labels, bool null_ok, struct err *e);

#endif
