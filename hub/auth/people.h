/* Users and services, the roles they have per project, and the projects there are. In memory and on disk,
 * like agents: each change is a row and a record of the audit in one transaction, which the caller commits
 * (auth_commit). Requests are checked from the rows (auth_check_api_token). Loop thread only, but for the
 * pure ones. */
#ifndef PHOTON_AUTH_PEOPLE_H
#define PHOTON_AUTH_PEOPLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hub/model/roles.h"

struct auth;
struct err;
struct store_tx;

#define PERSON_NAME_MAX 100
#define PEOPLE_MAX      100000
#define PROJECTS_MAX    10000
#define TITLE_MAX       200

/* May somebody, a user or a token that stands for itself, be called so in lists, questions and the audit? Not
 * by what the hub calls itself and strangers, not by what cannot be seen. -E_INVAL. Pure. */
int auth_name_check(const char *name, struct err *e);

struct new_person {
        const char *name;
        bool service;                 /* a program's: it never logs in */
        const char *email;            /* or NULL */
        const char *issuer, *subject; /* who they are at the identity provider; or NULL */
};
/* -E_INVAL, -E_EXIST, -E_FULL. */
int auth_person_create(struct auth *a, struct store_tx *tx, const struct new_person *p, char out_id[32],
                       struct err *e);
/* Nothing of theirs is valid while it is off. -E_NOENT, -E_STATE: it is so already. */
int auth_person_enable(struct auth *a, struct store_tx *tx, const char *name, bool on, struct err *e);
/* For good: disabled, without roles and address, in no list. Their name and what the provider calls them stay
 * theirs: what the audit and approvals say of them is about nobody else, and they do not come in again by a
 * login. -E_NOENT. */
int auth_person_delete(struct auth *a, struct store_tx *tx, const char *name, struct err *e);
/* Was there somebody of this name who is deleted? */
bool auth_person_deleted(struct auth *a, const char *name);
/* ROLE_NONE takes it away. project "*": all of them, and the hub. -E_NOENT (person or project), -E_FULL. */
int auth_person_give(struct auth *a, struct store_tx *tx, const char *name, const char *project,
                     enum role role, struct err *e);
/* Do the provider's claims, as of the last login, make them an admin of all projects? */
bool auth_person_rules_by_claim(struct auth *a, const char *name);
/* NULL: there is none of this name. Its id; lent until the next change. */
const char *auth_person_id(struct auth *a, const char *name);

/* Somebody whom a provider of identities vouches for; made when they come for the first time. Their roles
 * from there become `roles`. -E_DENIED: they are disabled, or have no role anywhere. */
struct login {
        const char *issuer, *subject;
        const char *name, *email; /* name: made to fit, and unique; email may be NULL */
        const struct roles *roles;
        int64_t ttl_ms; /* of the token that the login ends in */
        /* Is something else called so, a service's token? */
        bool (*taken)(void *ctx, const char *name);
        void *ctx;
};
/* out_token: as auth_api_token_create. */
int auth_login(struct auth *a, struct store_tx *tx, const struct login *l, char out_token[80],
               char out_token_id[32], char out_name[128], struct err *e);

int auth_project_create(struct auth *a, struct store_tx *tx, const char *name, const char *title,
                        struct err *e);
bool auth_has_project(struct auth *a, const char *name);
/* No new work in it while it is archived. Not for "default". */
int auth_project_archive(struct auth *a, struct store_tx *tx, const char *name, bool on, struct err *e);

/* {"web":"operator"} -> roles given on top. What is not to be understood gives nothing. Pure. */
void roles_read(const char *json, struct roles *io);
char *roles_write(const struct roles *r); /* mem_free; NULL: no memory */

#endif
