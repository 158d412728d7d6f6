#include "hub/model/run.h"

#include "common/err.h"

#include <stddef.h>
#include <string.h>

#define TO_RUN(s)  (1u << RUN_##s)
#define TO_STEP(s) (1u << STEP_##s)

static const struct {
        const char *name;
        unsigned to; /* bit set of allowed next states; none: final */
} runs[RUN_STATE_COUNT] = {
#define X(sym, name_)    [RUN_##sym] = {.name = name_, .to = RUN_TO_##sym},
#define RUN_TO_QUEUED    (TO_RUN(RUNNING) | TO_RUN(FAILED) | TO_RUN(CANCELLED))
#define RUN_TO_RUNNING   (TO_RUN(WAITING) | TO_RUN(SUCCEEDED) | TO_RUN(FAILED) | TO_RUN(CANCELLED))
#define RUN_TO_WAITING   (TO_RUN(RUNNING) | TO_RUN(SUCCEEDED) | TO_RUN(FAILED) | TO_RUN(CANCELLED))
#define RUN_TO_SUCCEEDED 0
#define RUN_TO_FAILED    0
#define RUN_TO_CANCELLED 0
        RUN_STATES(X)
#undef X
};

/* Blocked goes straight to running for a fan-out step alone: its instances are
 * placed, it never is. Dispatched reaches the ends without running, since the
 * result of a short call overtakes the news that it started. Unknown is left
 * by a person's word, or by the agent that comes back with the attempt. Waiting
 * ends by itself for a step that asks people: their answer is its outcome. */
static const struct {
        const char *name;
        unsigned to;
} steps[STEP_STATE_COUNT] = {
#define X(sym, name_)      [STEP_##sym] = {.name = name_, .to = STEP_TO_##sym},
#define ENDS               (TO_STEP(SUCCEEDED) | TO_STEP(FAILED) | TO_STEP(CANCELLED))
#define AGAIN              (TO_STEP(READY) | TO_STEP(WAITING))
#define STEP_TO_BLOCKED    (AGAIN | TO_STEP(RUNNING) | TO_STEP(SKIPPED) | TO_STEP(FAILED) | TO_STEP(CANCELLED))
#define STEP_TO_READY      (TO_STEP(WAITING) | TO_STEP(DISPATCHED) | TO_STEP(FAILED) | TO_STEP(CANCELLED))
#define STEP_TO_WAITING    (TO_STEP(READY) | ENDS | TO_STEP(SKIPPED))
#define STEP_TO_DISPATCHED (AGAIN | TO_STEP(RUNNING) | ENDS | TO_STEP(UNKNOWN))
#define STEP_TO_RUNNING    (AGAIN | ENDS | TO_STEP(UNKNOWN))
#define STEP_TO_SUCCEEDED  0
#define STEP_TO_FAILED     0
#define STEP_TO_SKIPPED    0
#define STEP_TO_CANCELLED  0
#define STEP_TO_UNKNOWN    (TO_STEP(READY) | TO_STEP(RUNNING) | ENDS)
        STEP_STATES(X)
#undef X
};

const char *run_state_name(enum run_state s)
{
        return (unsigned)s < RUN_STATE_COUNT ? runs[s].name : "invalid";
}

const char *step_state_name(enum step_state s)
{
        return (unsigned)s < STEP_STATE_COUNT ? steps[s].name : "invalid";
}

int run_state_parse(const char *name, enum run_state *out)
{
        for (unsigned i = 0; name && i < RUN_STATE_COUNT; i++) {
                if (strcmp(runs[i].name, name) == 0) {
                        *out = (enum run_state)i;
                        return 0;
                }
        }
        return -E_INVAL;
}

int step_state_parse(const char *name, enum step_state *out)
{
        for (unsigned i = 0; name && i < STEP_STATE_COUNT; i++) {
                if (strcmp(steps[i].name, name) == 0) {
                        *out = (enum step_state)i;
                        return 0;
                }
        }
        return -E_INVAL;
}

bool run_state_final(enum run_state s)
{
        return (unsigned)s < RUN_STATE_COUNT && runs[s].to == 0;
}

bool step_state_final(enum step_state s)
{
        return (unsigned)s < STEP_STATE_COUNT && steps[s].to == 0;
}

int run_state_move(enum run_state *s, enum run_state to)
{
        if ((unsigned)*s >= RUN_STATE_COUNT || (unsigned)to >= RUN_STATE_COUNT || !(runs[*s].to & (1u << to)))
                return -E_STATE;
        *s = to;
        return 0;
}

int step_state_move(enum step_state *s, enum step_state to)
{
        if ((unsigned)*s >= STEP_STATE_COUNT || (unsigned)to >= STEP_STATE_COUNT ||
            !(steps[*s].to & (1u << to)))
                return -E_STATE;
        *s = to;
        return 0;
}
