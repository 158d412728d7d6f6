/* The states of runs and steps: tables of allowed moves, and names for people.
 *
 * Pure. Nobody assigns a state: run_state_move and step_state_move are the only
 * ways, so an impossible history is an error and not a row in the database.
 *
 *   step:  blocked -> ready -> dispatched -> running -> succeeded | failed | cancelled
 *             |         ^ |         |           |
 *             |         | waiting   +-----------+--> unknown (at-most-once, agent vanished)
 *             +-> skipped | cancelled | failed  (expressions are evaluated on leaving blocked)
 *          dispatched/running -> ready (refused, lost and repeatable) or waiting (retry after a delay)
 *   run:   queued -> running <-> waiting -> succeeded | failed | cancelled
 */
#ifndef PHOTON_MODEL_RUN_H
#define PHOTON_MODEL_RUN_H

#include <stdbool.h>

/* clang-format off */
#define RUN_STATES(X)               \
        X(QUEUED, "queued")         \
        X(RUNNING, "running")       \
        X(WAITING, "waiting")       \
        X(SUCCEEDED, "succeeded")   \
        X(FAILED, "failed")         \
        X(CANCELLED, "cancelled")

#define STEP_STATES(X)              \
        X(BLOCKED, "blocked")       \
        X(READY, "ready")           \
        X(WAITING, "waiting")       \
        X(DISPATCHED, "dispatched") \
        X(RUNNING, "running")       \
        X(SUCCEEDED, "succeeded")   \
        X(FAILED, "failed")         \
        X(SKIPPED, "skipped")       \
        X(CANCELLED, "cancelled")   \
        X(UNKNOWN, "unknown")
/* clang-format on */

enum run_state {
#define X(sym, name) RUN_##sym,
        RUN_STATES(X)
#undef X
                RUN_STATE_COUNT
};

enum step_state {
#define X(sym, name) STEP_##sym,
        STEP_STATES(X)
#undef X
                STEP_STATE_COUNT
};

const char *run_state_name(enum run_state s);
const char *step_state_name(enum step_state s);
int run_state_parse(const char *name, enum run_state *out);   /* -E_INVAL */
int step_state_parse(const char *name, enum step_state *out); /* -E_INVAL */
bool run_state_final(enum run_state s);
bool step_state_final(enum step_state s); /* unknown is not final: a person or the agent may still decide */
int run_state_move(enum run_state *s, enum run_state to);    /* -E_STATE */
int step_state_move(enum step_state *s, enum step_state to); /* -E_STATE */

#endif
