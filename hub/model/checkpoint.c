#include "hub/model/checkpoint.h"

#include <string.h>

#include "common/err.h"
#include "common/str.h"

#define TO(s) (1u << CHECKPOINT_##s)

static const struct {
        const char *name;
        unsigned to; /* bit set of allowed next states; none: final */
} states[CHECKPOINT_STATE_COUNT] = {
#define X(sym, name_)           [CHECKPOINT_##sym] = {.name = name_, .to = CHECKPOINT_TO_##sym},
#define CHECKPOINT_TO_OPEN      (TO(APPROVED) | TO(REJECTED) | TO(EXPIRED) | TO(WITHDRAWN))
#define CHECKPOINT_TO_APPROVED  0
#define CHECKPOINT_TO_REJECTED  0
#define CHECKPOINT_TO_EXPIRED   0
#define CHECKPOINT_TO_WITHDRAWN 0
        CHECKPOINT_STATES(X)
#undef X
};

const char *checkpoint_state_name(enum checkpoint_state s)
{
        return (unsigned)s < CHECKPOINT_STATE_COUNT ? states[s].name : "invalid";
}

int checkpoint_state_parse(const char *name, enum checkpoint_state *out)
{
        for (unsigned i = 0; name && i < CHECKPOINT_STATE_COUNT; i++) {
                if (strcmp(states[i].name, name) == 0) {
                        *out = (enum checkpoint_state)i;
                        return 0;
                }
        }
        return -E_INVAL;
}

int checkpoint_move(enum checkpoint_state *s, enum checkpoint_state to)
{
        if ((unsigned)*s >= CHECKPOINT_STATE_COUNT || (unsigned)to >= CHECKPOINT_STATE_COUNT ||
            !(states[*s].to & (1u << to)))
                return -E_STATE;
        *s = to;
        return 0;
}

int self_approval_parse(const char *name, enum self_approval *out)
{
        if (strcmp(name, "allow") != 0 && strcmp(name, "deny") != 0)
                return -E_INVAL;
        *out = name[0] == 'a' ? SELF_ALLOW : SELF_DENY;
        return 0;
}

static int is_over(const struct checkpoint_facts *f, struct err *e)
{
        switch (f->state) {
        case CHECKPOINT_EXPIRED:
                return err_set(e, E_TIMEOUT, "nobody answered checkpoint %s in time: it counts as rejected",
                               f->id);
        case CHECKPOINT_WITHDRAWN:
                return err_set(e, E_STATE,
                               "checkpoint %s was withdrawn: nobody waits for the answer any more", f->id);
        default:
                return err_set(e, E_STATE, "checkpoint %s was %s by %s already%s%s", f->id,
                               checkpoint_state_name(f->state), f->decided_by ? f->decided_by : "somebody",
                               f->reason && *f->reason ? ": " : "", f->reason ? f->reason : "");
        }
}

int checkpoint_check(const struct checkpoint_facts *f, const struct checkpoint_answer *a, int64_t now_us,
                     enum self_approval self, struct err *e)
{
        if (checkpoint_over(f->state))
                return is_over(f, e);
        if (f->expires_us && now_us >= f->expires_us)
                return err_set(e, E_TIMEOUT, "the time for checkpoint %s is up: it counts as rejected",
                               f->id);
        if (a->sha256 && !str_ieq(a->sha256, f->sha256))
                return err_set(
                        e, E_VERSION,
                        "checkpoint %s asks for something else than what was looked at: the SHA-256 of "
                        "its arguments is %s, not %.64s",
                        f->id, f->sha256, a->sha256);
        if (a->approve && self == SELF_DENY && strcmp(a->by, f->asked_by) == 0)
                return err_set(e, E_DENIED,
                               "%s started the run that asks: somebody else must approve checkpoint %s "
                               "(approvals-self is deny on this hub)",
                               a->by, f->id);
        if (!f->form && a->content)
                return err_set(e, E_INVAL, "checkpoint %s asks for a yes or no: it takes no content", f->id);
        if (f->form && a->approve && !a->content)
                return err_set(e, E_INVAL, "checkpoint %s asks for values: give them as content", f->id);
        if (a->always && (f->form || !a->approve))
                return err_set(e, E_INVAL, "always goes with the approval of a permission only");
        return 0;
}

int64_t checkpoint_timeout_ms(int64_t wanted_ms, int64_t default_ms)
{
        int64_t ms = wanted_ms > 0 ? wanted_ms : default_ms;

        if (ms < CHECKPOINT_TIMEOUT_MIN_MS)
                return CHECKPOINT_TIMEOUT_MIN_MS;
        return ms > CHECKPOINT_TIMEOUT_MAX_MS ? CHECKPOINT_TIMEOUT_MAX_MS : ms;
}
