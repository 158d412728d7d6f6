/* Inside of oidc*.c: what a login is made of. Loop thread only. */
#ifndef PHOTON_AUTH_OIDC_IMPL_H
#define PHOTON_AUTH_OIDC_IMPL_H

#include <stdbool.h>

#include "common/err.h"
#include "common/jwt.h"
#include "common/list.h"
#include "common/map.h"
#include "hub/auth/oidc.h"
#include "hub/net/net.h"

struct buf;

/* What the discovery document says (OpenID Connect Discovery 1.0). */
struct oidc_config {
        char *authorization, *token, *device, *jwks; /* device may be NULL */
};

/* A login that has begun. */
struct login_state {
        struct list link; /* oldest first */
        char key[OIDC_SECRET_LEN];
        int64_t until_ms;
        /* device flow */
        char *device_code;
        int64_t interval_ms, next_ms;
        bool busy; /* the provider is being asked */
        /* browser */
        char nonce[OIDC_SECRET_LEN], verifier[OIDC_SECRET_LEN];
        char *redirect_uri, *next;
};

struct logins {
        struct list all;
        struct map *by_key;
};

struct oidc {
        const struct clock *clock;
        struct net *net;
        char *issuer, *client_id, *client_secret, *ca_file, *scopes;
        struct oidc_rule *rules;
        size_t n_rules;
        int64_t session_ms;

        struct oidc_config config;
        bool have_config;
        int64_t config_ms;
        struct jwks *keys;
        int64_t keys_ms;

        struct logins devices, webs;
        struct list ops; /* under way */
};

/* ---- oidc_doc.c: what goes over the wire; pure ---- */

/* https, or http to this machine. */
bool oidc_url_ok(const char *url);
int oidc_config_parse(const char *text, size_t n, const char *issuer, struct oidc_config *out, struct err *e);
void oidc_config_fini(struct oidc_config *c);
/* Appends [&]name=value, percent-encoded. */
int form_put(struct buf *b, const char *name, const char *value);
/* RFC 7636 section 4.2: S256. mem_free. */
char *pkce_challenge(const char *verifier);
void random_secret(char out[OIDC_SECRET_LEN]);
/* The provider's word for an error ("authorization_pending"), or NULL. Lent by doc. */
const char *oidc_error(const cJSON *doc);
/* The claims of somebody, read. Lent by claims. */
void oidc_person_read(const cJSON *claims, const struct oidc *o, struct oidc_person *out);

/* ---- oidc_login.c: logins that have begun ---- */
int logins_init(struct logins *l);
void logins_fini(struct logins *l);
/* -E_FULL, -E_NOMEM. */
int logins_add(struct logins *l, int64_t now_ms, int64_t life_ms, struct login_state **out);
struct login_state *logins_find(struct logins *l, const char *key, int64_t now_ms);
void logins_drop(struct logins *l, struct login_state *s);

#endif
