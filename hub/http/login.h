/* Logins over the identity provider, from the API's side: what device flow and browser share. */
#ifndef PHOTON_HTTP_LOGIN_H
#define PHOTON_HTTP_LOGIN_H

#include <stdbool.h>
#include <stdint.h>

struct err;
struct http_req;
struct oidc_answer;

#define LOGIN_COOKIE   "__Host-photon"       /* the session: an API token that ends by itself */
#define LOGIN_BINDING  "__Host-photon-login" /* which browser a login belongs to */
#define LOGIN_NEXT_MAX 128

/* Where a login stands. Kept by the request (req_keep); its secrets are wiped. */
struct login_try {
        char *handle, *code, *state, *iss;
        char next[LOGIN_NEXT_MAX + 1];
        char *url;      /* where the browser is sent */
        char token[80]; /* the end */
        char token_id[32], name[128];
        int64_t expires_us;
};
struct login_try *login_try_create(void);
void login_try_free(void *login);

/* Loop: the provider vouches for somebody: their user, roles and a session become durable, then the request
 * is done. q is paid already. */
void login_keep(struct http_req *q, const struct oidc_answer *a);
/* Loop: the request is done with what went wrong. */
void login_failed(struct http_req *q, const struct oidc_answer *a);
/* HTTP thread: 404 where no provider is configured. */
int login_possible(struct http_req *q, struct err *e);
/* A path of a page of ours, and nothing else: what comes after a login must not lead elsewhere. */
bool login_next_ok(const char *path);

#endif
