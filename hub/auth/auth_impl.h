/* Inside hub/auth: the tables that join.c, registry.c and auth.c share. Loop thread only. */
#ifndef PHOTON_HUB_AUTH_IMPL_H
#define PHOTON_HUB_AUTH_IMPL_H

#include "common/list.h"
#include "common/map.h"
#include "common/secret.h"
#include "hub/auth/auth.h"
#include "hub/auth/info.h"

#define HASH_HEX_LEN (2 * SHA256_LEN + 1)

struct join_tok {
        struct list link;
        char id[32];
        uint8_t stored_key[SHA256_LEN];
        char name_glob[128];
        cJSON *labels; /* object; may be NULL */
        char *created_by;
        int64_t uses_max, uses, created_us, expires_us, revoked_us;
        struct map *redeemed; /* key's hash in hex -> struct agent_rec; NULL until the first */
};

/* An agent is active -> draining -> active ..., and revoked for good. */
struct agent_rec {
        struct list link;
        char id[32], name[AGENT_NAME_MAX + 1];
        bool draining;
        uint8_t spki[SHA256_LEN];
        char cert_serial[41];
        cJSON *labels; /* object; fixed by hub */
        struct info info;
        char join_token_id[32];
        int64_t created_us, last_seen_us, cert_not_after_us, revoked_us;
};

/* people.c */
struct person {
        struct list link;
        char id[32], name[128];
        bool service;
        char *email, *issuer, *subject, *created_by;
        struct roles roles, idp_roles;
        int64_t created_us, disabled_us, last_login_us;
        int64_t deleted_us; /* they are gone, and their name stays theirs */
};

struct project {
        struct list link;
        char name[PROJECT_NAME_MAX + 1];
        char *title, *created_by;
        int64_t created_us, archived_us;
};

struct auth {
        struct auth_options opt;
        struct list tokens, agents;
        struct map *token_by_id;    /* struct join_tok */
        struct map *agent_by_id;    /* struct agent_rec */
        struct map *agent_by_name;  /* those that are not revoked */
        struct map *agent_by_key;   /* hash in hex; revoked ones too */
        uint8_t no_key[SHA256_LEN]; /* what an unknown token's proof is checked against */
        char actor[128];
        struct map *info_tails;   /* see info.h */
        struct agent_record lent; /* auth_agent's answer */
        char *lent_info;
        struct list people, projects;
        struct map *person_by_name;
        struct map *person_by_subject; /* issuer, newline, subject */
        struct map *project_by_name;
        struct map *gone_tokens; /* rulers.h: ids of API tokens revoked since the start */
        struct list commits;     /* under way; orphaned by auth_free */
};

int64_t auth_now(const struct auth *a);
/* Fields is a JSON fragment for the event; detail for the audit row (either may be NULL). Ends auth_act_as.
 */
void auth_record(struct auth *a, struct store_tx *tx, const char *action, const char *object,
                 const char *detail, const char *event, const char *fields);

void join_tok_free(struct join_tok *t);
int join_load(struct auth *a, struct store_reader *r, struct err *e); /* after the agents */

void person_free(struct person *p);
void project_free(struct project *p);
int people_load(struct auth *a, struct store_reader *r, struct err *e);

void agent_rec_free(struct agent_rec *r);
int registry_load(struct auth *a, struct store_reader *r, struct err *e);
void registry_put(struct store_tx *tx, const struct agent_rec *r);
/* Adds to list and maps; takes r, also on failure. -E_NOMEM. */
int registry_add(struct auth *a, struct agent_rec *r);
int registry_rename(struct auth *a, struct agent_rec *r, const char *name);

#endif
