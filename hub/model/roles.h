/* Who somebody is in which project. A role is given for one project, or for all of them ("*"), which is
 * also what the hub itself is ruled with: its agents, tokens, users, audit. Pure; any thread. */
#ifndef PHOTON_MODEL_ROLES_H
#define PHOTON_MODEL_ROLES_H

#include <stdbool.h>

struct err;

#define PROJECT_NAME_MAX 63
#define PROJECT_DEFAULT  "default" /* always there */
#define PROJECT_ALL      "*"
#define ROLES_MAX        32 /* projects in which one caller has a role of their own */

/* In ascending order of what they may (hub/model/access.h). */
enum role { ROLE_NONE, ROLE_CLIENT, ROLE_OPERATOR, ROLE_TECH_OPERATOR, ROLE_ADMIN };
#define ROLE_COUNT (ROLE_ADMIN + 1)

const char *role_name(enum role r);
int role_parse(const char *s, enum role *out); /* "none" is no role to give: -E_INVAL */

/* A name of letters, digits, '.', '_' and '-'. */
bool project_name_ok(const char *s);

/* Zeroed: nothing anywhere. */
struct roles {
        enum role everywhere;
        unsigned n;
        struct role_in {
                char project[PROJECT_NAME_MAX + 1];
                enum role role;
        } in[ROLES_MAX];
};

/* The higher one stands when a project comes twice. -E_FULL: ROLES_MAX are given; -E_INVAL: no project. */
int roles_give(struct roles *r, const char *project, enum role role);
/* In this project; "*": for all of them. */
enum role roles_in(const struct roles *r, const char *project);
/* The highest in any project. */
enum role roles_best(const struct roles *r);
/* What is left of `r` for somebody who is bound to `project` ("*": to none) and may be no more than `most`.
 */
void roles_narrow(struct roles *r, const char *project, enum role most);

#endif
