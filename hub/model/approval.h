/* Questions that the hub itself asks people: who may answer, how many must, what silence means, and what has
 * been said so far. Pure: no clock, no I/O. checkpoint.h asks here whether an answer counts.
 *
 * The rules are fixed when the question is asked; the record grows with each answer, delegation and
 * escalation. Both are kept as JSON beside the checkpoint. */
#ifndef PHOTON_MODEL_APPROVAL_H
#define PHOTON_MODEL_APPROVAL_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>

#include "hub/model/checkpoint.h"

#define APPROVAL_NAMES_MAX       100 /* of roles, of users */
#define APPROVAL_NAME_MAX        127 /* bytes of a person's name */
#define APPROVAL_FIELDS_MAX      50
#define APPROVAL_QUORUM_MAX      20
#define APPROVAL_DELEGATIONS_MAX 50
#define APPROVAL_SECRET_MAX      (64u << 10) /* bytes that an answer may put into the vault */

/* What happens when the time is up. Nothing of it is yes. */
/* clang-format off */
#define APPROVAL_THENS(X)         \
        X(DENY, "deny")           \
        X(FAIL, "fail")           \
        X(SKIP, "skip")           \
        X(ESCALATE, "escalate")
/* clang-format on */
enum approval_then {
#define X(sym, name) THEN_##sym,
        APPROVAL_THENS(X)
#undef X
                APPROVAL_THEN_COUNT
};
const char *approval_then_name(enum approval_then t);
int approval_then_parse(const char *name, enum approval_then *out); /* -E_INVAL */

/* The roles that may answer checkpoints at all (hub/model/access.h says the same: a test compares). */
bool approval_role_ok(const char *name);

/* Owned by whoever holds the struct. Lists of names are arrays of strings or NULL. */
struct approval_rules {
        cJSON *roles, *users; /* both NULL: whoever may decide checkpoints */
        int quorum;           /* different people who must approve; >= 1 */
        int reject_quorum;    /* who must reject; >= 1 */
        enum approval_then then;
        int64_t timeout_ms;                     /* 0: the hub's default */
        int64_t escalate_ms;                    /* after that long; 0: when the time is up (then: escalate) */
        cJSON *escalate_roles, *escalate_users; /* both NULL: it does not escalate */
        cJSON *fields; /* [{"name","type","required","description","default","options","secret"}] or NULL */
        char *denied_code; /* the step's error when the answer is no; NULL: approval_rejected */
};
void approval_rules_fini(struct approval_rules *r);
int approval_rules_copy(const struct approval_rules *from, struct approval_rules *out); /* -E_NOMEM */
char *approval_rules_text(const struct approval_rules *r);                              /* NULL: no memory */
int approval_rules_read(const char *json, struct approval_rules *out, struct err *e);   /* -E_INVAL */
/* The JSON Schema of the answers; NULL when no fields are asked (or no memory). */
char *approval_schema(const cJSON *fields);
/* A new object: `given` (an object or NULL) and, for what it leaves out, the defaults. NULL: no memory. */
cJSON *approval_complete(const cJSON *fields, const cJSON *given);
bool approval_has_secret(const cJSON *fields);

struct approval_record {
        cJSON *answers;     /* [{"by","decision","at","reason"}] in order */
        cJSON *delegations; /* [{"from","to","at"}] in order */
        int64_t escalated_us;
};
void approval_record_fini(struct approval_record *r);
char *approval_record_text(const struct approval_record *r);
int approval_record_read(const char *json, struct approval_record *out, struct err *e);

/* Is this person among those who are asked, now? A delegation hands the right on: who gave it has it no more.
 */
bool approval_asked(const struct approval_rules *r, const struct approval_record *rec, const char *name,
                    const char *role);
/* Has this person? maker: the user who made the token `name` that stands for itself, who is the same person;
 * or NULL. */
bool approval_answered(const struct approval_record *rec, const char *name, const char *maker);
/* Notes an answer that checkpoint_check has allowed, and says what follows: OPEN (others are still to
 * answer), APPROVED or REJECTED. -E_NOMEM leaves the record as it was. */
int approval_take(const struct approval_rules *r, struct approval_record *rec,
                  const struct checkpoint_answer *a, const char *reason, int64_t now_us,
                  enum checkpoint_state *out);
/* How many have approved and rejected so far. */
void approval_count(const struct approval_record *rec, int *approved, int *rejected);
/* -E_DENIED: `from` is not asked, or hands it to who started the run; -E_EXIST: one of them has answered;
 * -E_INVAL: to oneself; -E_FULL. *code: the problem's stable name. */
int approval_delegate(const struct approval_rules *r, struct approval_record *rec, const char *from,
                      const char *from_role, const char *to, const char *asked_by, int64_t now_us,
                      const char **code, struct err *e);
/* Does it still have others to ask? */
bool approval_can_escalate(const struct approval_rules *r, const struct approval_record *rec);
/* When something happens by itself: the escalation or the deadline. */
int64_t approval_next_us(const struct approval_rules *r, const struct approval_record *rec,
                         int64_t created_us, int64_t expires_us);

#endif
