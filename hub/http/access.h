/* Who may do what: one table of permissions by role, the same that the
 * documentation shows and that a test checks cell by cell. Pure; any thread. */
#ifndef PHOTON_HTTP_ACCESS_H
#define PHOTON_HTTP_ACCESS_H

#include <stdbool.h>

#include "hub/auth/auth.h"

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
        X(API_TOKENS, "api_tokens.manage", 0, 0, 0, 1)                                                       \
        X(AUDIT_READ, "audit.read", 0, 0, 1, 1)                                                              \
        X(AUDIT_MANAGE, "audit.manage", 0, 0, 0, 1)                                                          \
        X(METRICS_READ, "metrics.read", 0, 1, 1, 1)

enum permission {
#define X(sym, name, c, o, t, a) PERM_##sym,
        PERMISSION_LIST(X)
#undef X
                PERM_COUNT
};

const char *permission_name(enum permission p);
bool role_may(enum role r, enum permission p);

#endif
