/* The hub as a client of an identity provider (OpenID Connect): logins by device flow (RFC 8628) for the
 * command line, and by authorization code with PKCE (RFC 7636) for browsers. The provider is found by its
 * discovery document; its keys are fetched again when a token names one that is not known. What it says is
 * believed only as hub/model/oidc.h and common/jwt.h have it. Everything that waits is bounded and in memory:
 * a login that was begun before a restart is begun again.
 *
 *   op: config -> keys -> the request itself -> (keys again, once) -> answer
 *
 * Loop thread only; HTTP goes over hub/net. */
#ifndef PHOTON_AUTH_OIDC_H
#define PHOTON_AUTH_OIDC_H

#include <cjson/cJSON.h>
#include <stddef.h>
#include <stdint.h>

#include "hub/model/oidc.h"

struct clock;
struct err;
struct net;
struct oidc;

#define OIDC_LOGINS_MAX 1000             /* begun and not ended, of each kind */
#define OIDC_LOGIN_MS   INT64_C(600000)  /* a browser's login may take so long */
#define OIDC_DEVICE_MS  INT64_C(1800000) /* a device's, whatever the provider says */
#define OIDC_CONFIG_MS  INT64_C(3600000) /* discovery is as old at most */
#define OIDC_KEYS_MS    INT64_C(600000)  /* and keys: one that is withdrawn counts no longer than this */
#define OIDC_REFETCH_MS INT64_C(2000)    /* keys are not fetched more often for unknown ids */
#define OIDC_SECRET_LEN 44               /* state, nonce, handle: 32 random bytes in base64url */
#define OIDC_ANSWER_MAX ((size_t)256 << 10)

struct oidc_options {
        const struct clock *clock;
        struct net *net;
        const char *issuer, *client_id;
        const char *client_secret; /* NULL: a public client */
        const char *ca_file;       /* NULL: what this machine trusts */
        const char *scopes;        /* NULL: "openid profile email" */
        const struct oidc_rule *rules;
        size_t n_rules;
        int64_t session_ms;
};
/* Copies. -E_INVAL: the issuer is no https URL (http is for this machine only). */
int oidc_create(const struct oidc_options *o, struct oidc **out, struct err *e);
/* After net_close, or when nothing is under way. Accepts NULL. */
void oidc_free(struct oidc *o);
const char *oidc_issuer(const struct oidc *o);
int64_t oidc_session_ms(const struct oidc *o);

/* Somebody whom the provider vouches for. Lent for the call. */
struct oidc_person {
        const char *subject, *name, *email; /* email may be NULL */
        struct roles roles;
};
struct oidc_answer {
        int rc; /* 0, -E_DENIED, -E_UNAVAIL (the provider), -E_AGAIN (not yet), -E_NOENT ... */
        const char *
                code; /* of what went wrong: "authorization_pending", "token_audience" ...; never NULL then */
        const struct err *err;
        const cJSON *device; /* oidc_device_begin: handle, user_code, ... for the caller to show */
        const struct oidc_person *person; /* of an end of a login */
        const char *next;                 /* oidc_web_finish: where the browser wanted to go */
};
/* Comes once, on the loop, perhaps before the function returns. */
typedef void (*oidc_done)(void *arg, const struct oidc_answer *a);

void oidc_device_begin(struct oidc *o, oidc_done cb, void *arg);
/* handle: as oidc_device_begin gave it. Not more often than the provider wants: "slow_down". */
void oidc_device_poll(struct oidc *o, const char *handle, oidc_done cb, void *arg);

/* Where to send the browser; `state` is bound to it by a cookie. redirect_uri, next: copied. */
struct oidc_web {
        const char *url, *state;
};
typedef void (*oidc_web_done)(void *arg, const struct oidc_answer *a, const struct oidc_web *w);
void oidc_web_begin(struct oidc *o, const char *redirect_uri, const char *next, oidc_web_done cb, void *arg);
/* state is good once. iss: as RFC 9207 has it, or NULL. */
void oidc_web_finish(struct oidc *o, const char *state, const char *code, const char *iss, oidc_done cb,
                     void *arg);

#endif
