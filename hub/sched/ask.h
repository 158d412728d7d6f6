/* A question to people as the engine holds it: what engine_ask.c (all of them, and those of tools) and
 * engine_gate.c (those of the hub) share. Loop thread. */
#ifndef PHOTON_SCHED_ASK_H
#define PHOTON_SCHED_ASK_H

#include "hub/model/approval.h"
#include "hub/sched/engine_impl.h"

#define ASKS_OPEN_MAX 10000u              /* on this hub at once */
#define ASK_BYTES_MAX ((size_t)256 << 20) /* their arguments and schemas */

struct ask {
        struct list of_step; /* step.asks */
        struct step *step;
        int64_t seq;
        char *id;
        enum checkpoint_state state;
        enum checkpoint_kind kind;
        bool form, always;
        unsigned commits; /* of tools: under way: nothing is said before they are durable */
        uint32_t question_id, attempt;
        int64_t created_us, expires_us, decided_us, delivered_us;
        char *action, *title, *tool, *arguments, *schema, *sha256;
        char *decided_by, *reason, *content;
        size_t bytes;
        struct approval_rules rules; /* of the hub */
        struct approval_record record;
};

/* ---- engine_ask.c ---- */
/* Takes `a`, whose kind, texts and rules are filled in; the step is in the state in which it waits. */
void ask_open(struct ask *a, struct step *s, int64_t timeout_ms);
void ask_adopt(struct ask *a, struct step *s);
void ask_write(const struct ask *a, bool live);
void ask_publish(const struct ask *a, const char *type);
void ask_notice(const struct ask *a, const char *event, const char *to);
void ask_decide(struct ask *a, enum checkpoint_state to, const char *by, const char *reason);
void ask_forget(struct ask *a);
void ask_arm(struct ask *a);
int64_t ask_next_us(const struct ask *a); /* when something happens by itself */

/* ---- engine_gate.c ---- */
/* What checkpoint_check cannot know: another approver has filled in something else. */
int gate_check(const struct ask *a, struct engine_decision *d, struct err *e);
/* An allowed answer: noted; with the last one the step goes on and `a` is gone. */
void gate_answered(struct ask *a, const struct engine_decision *d);
/* It is decided (ask_decide): the step goes its way. Frees `a`. */
void gate_decided(struct ask *a);
/* The time for it is up, or that of its escalation: true if others are asked now. */
bool gate_escalate(struct ask *a);

#endif
