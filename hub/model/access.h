/* Who may do what: one table of permissions by role, the same that the
 * documentation shows and that a test checks cell by cell. Pure; any thread. */
#ifndef PHOTON_MODEL_ACCESS_H
#define PHOTON_MODEL_ACCESS_H

#include <stdbool.h>
#include <stdint.h>

#include "hub/model/roles.h"

/* X(symbol, name for people, client, operator, technical operator, admin) */
#define PERMISSION_LIST(X)                                                                                   \
        X(PUBLIC, "public", 1, 1, 1, 1) /* nobody has to log in */                                           \
        X(SELF, "self.read", 1, 1, 1, 1)                                                                     \
        X(RUNS_READ, "runs.read", 1, 1, 1, 1)                                                                \
        X(RUNS_SUBMIT, "runs.submit", 1, 1, 1, 1)                                                            \
        X(RUNS_CONTROL, "runs.control", 0, 1, 1, 1)                                                          \
        X(STEPS_RESOLVE, "steps.resolve", 0, 1, 1, 1)                                                        \
        X(CHECKPOINTS_READ, "checkpoints.read", 1, 1, 1, 1)                                                  \
        X(CHECKPOINTS_DECIDE, "checkpoints.decide", 0, 0, 1, 1)                                              \
        X(EVENTS_READ, "events.read", 1, 1, 1, 1)                                                            \
        X(AGENTS_READ, "agents.read", 1, 1, 1, 1)                                                            \
        X(AGENTS_MANAGE, "agents.manage", 0, 1, 1, 1)                                                        \
        X(JOIN_TOKENS, "join_tokens.manage", 0, 1, 1, 1)                                                     \
        X(SECRETS_READ, "secrets.read", 0, 1, 1, 1) /* names and versions; a value never */                  \
        X(SECRETS_USE, "secrets.use", 0, 1, 1, 1)   /* run what names them */                                \
        X(SECRETS_MANAGE, "secrets.manage", 0, 0, 1, 1)                                                      \
        X(VAULT_MANAGE, "vault.manage", 0, 0, 0, 1)                                                          \
        X(API_TOKENS, "api_tokens.manage", 0, 0, 0, 1)                                                       \
        X(OWN_TOKENS, "own_tokens.manage", 1, 1, 1, 1)                                                       \
        X(PROJECTS_READ, "projects.read", 1, 1, 1, 1)                                                        \
        X(PROJECTS_MANAGE, "projects.manage", 0, 0, 0, 1)                                                    \
        X(ROLES_MANAGE, "roles.manage", 0, 0, 0, 1)                                                          \
        X(USERS_MANAGE, "users.manage", 0, 0, 0, 1)                                                          \
        X(AUDIT_READ, "audit.read", 0, 0, 1, 1)                                                              \
        X(AUDIT_MANAGE, "audit.manage", 0, 0, 0, 1)                                                          \
        X(BUDGETS_READ, "budgets.read", 1, 1, 1, 1)                                                          \
        X(BUDGETS_MANAGE, "budgets.manage", 0, 1, 1, 1)                                                      \
        X(NOTICES_MANAGE, "notices.manage", 0, 0, 1, 1)                                                      \
        X(METRICS_READ, "metrics.read", 0, 1, 1, 1)

enum permission {
#define X(sym, name, c, o, t, a) PERM_##sym,
        PERMISSION_LIST(X)
#undef X
                PERM_COUNT
};

const char *permission_name(enum permission p);
int permission_parse(const char *name, enum permission *out); /* -E_INVAL: there is none of this name */
bool role_may(enum role r, enum permission p);

/* Several permissions: what a token is limited to (its scopes). */
#define PERMISSIONS_ALL   UINT64_MAX
#define PERMISSION_BIT(p) (UINT64_C(1) << (p))
/* Names separated by spaces; NULL: all of them. Names that are not known (any more) give nothing. What needs
 * no permission, and telling a caller who it is, is always among them. */
uint64_t permissions_parse(const char *names);

#endif
