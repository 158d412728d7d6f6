/* Is there still somebody who can rule the hub: an admin for all projects who can get in, by a token that is
 * bound to nothing, or by a login. Asked before the last one would be taken away, since nobody could bring
 * one back over the API. Loop thread. */
#ifndef PHOTON_AUTH_RULERS_H
#define PHOTON_AUTH_RULERS_H

#include <stdbool.h>

struct auth;
struct err;
struct store_reader;

/* What is to go; one of both. */
struct ruler_removal {
        const char *token_id;
        const char *user; /* their name: they lose the role, or all of it */
        bool logins;      /* the hub has an identity provider */
};
/* -E_STATE: nobody would be left. */
int auth_check_ruler(struct auth *a, struct store_reader *r, const struct ruler_removal *x, struct err *e);
/* It goes with the transaction at hand, though readers do not see that yet: two that go at once must not
 * leave nobody. -E_NOMEM. */
int auth_ruler_token_gone(struct auth *a, const char *token_id, struct err *e);

#endif
