/* A question to people: its states, and who may answer it how. Pure: no clock, no I/O.
 *
 *   open -> approved | rejected   a person decided
 *        -> expired               nobody did in time: no
 *        -> withdrawn             nobody waits for the answer any more
 *
 * Nobody assigns a state: checkpoint_move is the only way. Decided once is decided: the first answer stands,
 * and the answer is bound to the SHA-256 of exactly what was shown. */
#ifndef PHOTON_MODEL_CHECKPOINT_H
#define PHOTON_MODEL_CHECKPOINT_H

#include <stdbool.h>
#include <stdint.h>

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

/* May the one who started it also approve it? */
enum self_approval { SELF_ALLOW, SELF_DENY };
int self_approval_parse(const char *name, enum self_approval *out); /* "allow" | "deny"; -E_INVAL */

/* What is known of the checkpoint. */
struct checkpoint_facts {
        const char *id;
        enum checkpoint_state state;
        bool form;            /* kind input: an approval carries content */
        const char *sha256;   /* of the exact arguments, hex */
        const char *asked_by; /* who started the run */
        int64_t expires_us;   /* 0: never */
        const char *decided_by, *reason;
};

/* What somebody wants to answer. */
struct checkpoint_answer {
        const char *by;
        bool approve, always;
        const char *sha256;  /* what they saw; NULL: they do not say */
        const char *content; /* JSON object; NULL: none */
};

/* 0: they may, now. Else, with a sentence: -E_STATE decided already (who, what); -E_TIMEOUT the deadline has
 * passed; -E_VERSION the SHA-256 is another; -E_DENIED one's own request; -E_INVAL content where none belongs
 * or none where one does. In this order. */
int checkpoint_check(const struct checkpoint_facts *f, const struct checkpoint_answer *a, int64_t now_us,
                     enum self_approval self, struct err *e);

/* How long a question waits: what the asker wants, within limits; 0: the hub's default. */
#define CHECKPOINT_TIMEOUT_MIN_MS INT64_C(1000)
#define CHECKPOINT_TIMEOUT_MAX_MS (INT64_C(30) * 24 * 3600 * 1000)
int64_t checkpoint_timeout_ms(int64_t wanted_ms, int64_t default_ms);

#endif
