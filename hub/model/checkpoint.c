#include "hub/model/checkpoint.h"

#include <string.h>

#include "common/err.h"
#include "common/str.h"
#include "hub/model/approval.h"

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

const char *checkpoint_kind_name(enum checkpoint_kind k)
{
        static const char *const names[CHECKPOINT_KIND_COUNT] = {
#define X(sym, name) [KIND_##sym] = name,
                CHECKPOINT_KINDS(X)
#undef X
        };

        return (unsigned)k < CHECKPOINT_KIND_COUNT ? names[k] : "invalid";
}

int checkpoint_kind_parse(const char *name, enum checkpoint_kind *out)
{
        for (unsigned i = 0; name && i < CHECKPOINT_KIND_COUNT; i++) {
                if (strcmp(checkpoint_kind_name((enum checkpoint_kind)i), name) == 0) {
                        *out = (enum checkpoint_kind)i;
                        return 0;
                }
        }
        return -E_INVAL;
}

int self_approval_parse(const char *name, enum self_approval *out)
{
        static const char *const names[] = {
                [SELF_AUTO] = "auto", [SELF_ALLOW] = "allow", [SELF_DENY] = "deny"};

        for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
                if (strcmp(names[i], name) == 0) {
                        *out = (enum self_approval)i;
                        return 0;
                }
        }
        return -E_INVAL;
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

bool checkpoint_asker(const char *asked_by, const cJSON *askers, const char *name)
{
        const cJSON *it;

        if (!name || !*name)
                return false;
        if (strcmp(name, asked_by) == 0)
                return true;
        cJSON_ArrayForEach(it, askers)
        {
                if (cJSON_IsString(it) && strcmp(it->valuestring, name) == 0)
                        return true;
        }
        return false;
}

/* Whoever has made a token could use it: what it may not, they may not, and the other way round. */
static bool self_denied(const struct checkpoint_facts *f, const struct checkpoint_answer *a,
                        enum self_approval self)
{
        if (!a->approve || self == SELF_ALLOW ||
            (!checkpoint_asker(f->asked_by, f->askers, a->by) &&
             !checkpoint_asker(f->asked_by, f->askers, a->maker)))
                return false;
        return self == SELF_DENY || checkpoint_by_hub(f->kind) || a->others;
}

/* Is it this person's turn? */
static int check_person(const struct checkpoint_facts *f, const struct checkpoint_answer *a,
                        enum self_approval self, const char **code, struct err *e)
{
        if (f->rules && !approval_asked(f->rules, f->record, a->by, a->role)) {
                *code = "not_asked";
                return err_set(e, E_DENIED, "%s is not among those whom checkpoint %s asks", a->by, f->id);
        }
        if (self_denied(f, a, self)) {
                bool own = checkpoint_asker(f->asked_by, f->askers, a->by);

                *code = "own_request";
                return err_set(e, E_DENIED,
                               "%s%s%s %s the run that asks: somebody else must approve checkpoint %s "
                               "(approvals-self is %s on this hub)",
                               own ? a->by : a->maker, own ? "" : ", who made the token ", own ? "" : a->by,
                               strcmp(a->by, f->asked_by) == 0 ? "started" : "started or retried", f->id,
                               self == SELF_DENY ? "deny" : "auto");
        }
        if (f->record && approval_answered(f->record, a->by, a->maker)) {
                *code = "already_answered";
                return err_set(
                        e, E_EXIST,
                        "%s has answered checkpoint %s already: each person counts once, and others are "
                        "still to answer",
                        a->by, f->id);
        }
        return 0;
}

static int check_content(const struct checkpoint_facts *f, const struct checkpoint_answer *a, struct err *e)
{
        if (!f->form && a->content)
                return err_set(e, E_INVAL, "checkpoint %s asks for a yes or no: it takes no content", f->id);
        if (f->form && a->approve && !a->content)
                return err_set(e, E_INVAL, "checkpoint %s asks for values: give them as content", f->id);
        if (a->always && (f->form || !a->approve || checkpoint_by_hub(f->kind)))
                return err_set(e, E_INVAL, "always goes with the approval of a permission only");
        return 0;
}

int checkpoint_check(const struct checkpoint_facts *f, const struct checkpoint_answer *a, int64_t now_us,
                     enum self_approval self, const char **code, struct err *e)
{
        int rc;

        if (checkpoint_over(f->state)) {
                *code = f->state == CHECKPOINT_EXPIRED ? "checkpoint_expired" : "checkpoint_decided";
                return is_over(f, e);
        }
        if (f->expires_us && now_us >= f->expires_us) {
                *code = "checkpoint_expired";
                return err_set(e, E_TIMEOUT, "the time for checkpoint %s is up: it counts as rejected",
                               f->id);
        }
        if (a->sha256 && !str_ieq(a->sha256, f->sha256)) {
                *code = "digest_mismatch";
                return err_set(
                        e, E_VERSION,
                        "checkpoint %s asks for something else than what was looked at: the SHA-256 of "
                        "its arguments is %s, not %.64s",
                        f->id, f->sha256, a->sha256);
        }
        if (checkpoint_by_hub(f->kind) && !a->sha256) {
                *code = "digest_required";
                return err_set(e, E_INVAL,
                               "an answer to checkpoint %s names the \"sha256\" of the question it was shown",
                               f->id);
        }
        rc = check_person(f, a, self, code, e);
        if (rc)
                return rc;
        *code = "invalid_content";
        return check_content(f, a, e);
}

int64_t checkpoint_timeout_ms(int64_t wanted_ms, int64_t default_ms)
{
        int64_t ms = wanted_ms > 0 ? wanted_ms : default_ms;

        if (ms < CHECKPOINT_TIMEOUT_MIN_MS)
                return CHECKPOINT_TIMEOUT_MIN_MS;
        return ms > CHECKPOINT_TIMEOUT_MAX_MS ? CHECKPOINT_TIMEOUT_MAX_MS : ms;
}
