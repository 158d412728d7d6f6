/* A question to people: its states, and who may answer it how. Pure: no clock, no I/O.
 *
 *   open -> approved | rejected   a person decided
 *        -> expired               nobody did in time: no
 *        -> withdrawn             nobody waits for the answer any more
 *
 * Nobody assigns a state: checkpoint_move is the only way. Decided once is decided: the first answer stands,
 * and the answer is bound to the SHA-256 of exactly what was shown.
 *
 * Who asks is its kind: a tool that works (permission, input), or the hub for a step that waits (approval,
 * budget, policy). What the hub asks has rules of its own: who, how many, what silence means (approval.h). */
#ifndef PHOTON_MODEL_CHECKPOINT_H
#define PHOTON_MODEL_CHECKPOINT_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>

struct approval_record;
struct approval_rules;
struct err;

/* clang-format off */
#define CHECKPOINT_STATES(X)      \
        X(OPEN, "open")           \
        X(APPROVED, "approved")   \
        X(REJECTED, "rejected")   \
        X(EXPIRED, "expired")     \
        X(WITHDRAWN, "withdrawn")
/* clang-format on */

enum checkpoint_state {
#define X(sym, name) CHECKPOINT_##sym,
        CHECKPOINT_STATES(X)
#undef X
                CHECKPOINT_STATE_COUNT
};

const char *checkpoint_state_name(enum checkpoint_state s);
int checkpoint_state_parse(const char *name, enum checkpoint_state *out); /* -E_INVAL */
int checkpoint_move(enum checkpoint_state *s, enum checkpoint_state to);  /* -E_STATE */
static inline bool checkpoint_over(enum checkpoint_state s)
{
        return s != CHECKPOINT_OPEN;
}

/* clang-format off */
#define CHECKPOINT_KINDS(X)             \
        X(PERMISSION, "permission")     \
        X(INPUT, "input")               \
        X(APPROVAL, "approval")         \
        X(BUDGET, "budget")             \
        X(POLICY, "policy")
/* clang-format on */

enum checkpoint_kind {
#define X(sym, name) KIND_##sym,
        CHECKPOINT_KINDS(X)
#undef X
                CHECKPOINT_KIND_COUNT
};

const char *checkpoint_kind_name(enum checkpoint_kind k);
int checkpoint_kind_parse(const char *name, enum checkpoint_kind *out); /* -E_INVAL */
/* Asked by the hub for a step that waits, not by a tool that works. */
static inline bool checkpoint_by_hub(enum checkpoint_kind k)
{
        return k >= KIND_APPROVAL;
}

/* May the one who started it also approve it? auto: what a tool asks, while nobody else could. */
enum self_approval { SELF_AUTO, SELF_ALLOW, SELF_DENY };
int self_approval_parse(const char *name, enum self_approval *out); /* "auto" | "allow" | "deny"; -E_INVAL */

/* What is known of the checkpoint. */
struct checkpoint_facts {
        const char *id;
        enum checkpoint_state state;
        enum checkpoint_kind kind;
        bool form;            /* an approval carries content */
        const char *sha256;   /* of the exact arguments, hex */
        const char *asked_by; /* who started the run */
        const cJSON *askers;  /* names of those who had a hand in it since, such as by a retry; or NULL */
        int64_t expires_us;   /* 0: never */
        const char *decided_by, *reason;
        const struct approval_rules *rules;   /* asked by the hub; else NULL */
        const struct approval_record *record; /* with rules */
};

/* What somebody wants to answer. */
struct checkpoint_answer {
        const char *by;
        const char *maker; /* by is a token that stands for itself: the user who made it; or NULL */
        const char *role;  /* in the run's project; NULL: none */
        bool others;       /* somebody else could answer, too */
        bool approve, always;
        const char *sha256;  /* what they saw; NULL: they do not say */
        const char *content; /* JSON object; NULL: none */
};

/* Is this name among those who ask? */
bool checkpoint_asker(const char *asked_by, const cJSON *askers, const char *name);

/* 0: they may, now. Else a sentence, and in *code the stable name of the reason, in this order:
 * -E_STATE checkpoint_decided (who, what); -E_TIMEOUT checkpoint_expired; -E_VERSION digest_mismatch;
 * -E_INVAL digest_required (what the hub asks is answered by digest only); -E_DENIED not_asked; -E_DENIED
 * own_request; -E_EXIST already_answered; -E_INVAL invalid_content (content where none belongs, or none where
 * one does). */
int checkpoint_check(const struct checkpoint_facts *f, const struct checkpoint_answer *a, int64_t now_us,
                     enum self_approval self, const char **code, struct err *e);

/* How long a question waits: what the asker wants, within limits; 0: the hub's default. */
#define CHECKPOINT_TIMEOUT_MIN_MS INT64_C(1000)
#define CHECKPOINT_TIMEOUT_MAX_MS (INT64_C(30) * 24 * 3600 * 1000)
int64_t checkpoint_timeout_ms(int64_t wanted_ms, int64_t default_ms);

#endif
