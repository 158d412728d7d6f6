/* The scheduler's engine: owns every run that is not over, moves its steps, and
 * decides with plan.h (pure) which agent gets which step.
 *
 * It does no I/O of its own: rows go to the store, messages to agents through
 * struct engine_wire, events through the event bus, time through struct clock. All of a
 * loop turn's decisions become one transaction (engine_flush, called once per
 * turn); what must be sent is sent in its completion. Loop thread only. */
#ifndef PHOTON_SCHED_ENGINE_H
#define PHOTON_SCHED_ENGINE_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/clock.h"
#include "hub/model/budget.h"
#include "hub/model/checkpoint.h"
#include "hub/model/roles.h"
#include "hub/model/run.h"
#include "hub/model/workflow.h"

struct bus;
struct engine;
struct err;
struct logs;
struct store;
struct store_tx;

/* ---- towards agents (implemented by hub/agents) ---- */

struct engine_start {
        uint64_t attempt_id;
        const char *run_id, *step_id, *tool, *input, *effect, *traceparent;
        uint32_t attempt;
        uint32_t timeout_ms, grace_ms;
        bool stdin_follows;
        /* What the step may see, to be opened when it is packed, and the mark that stands for it in `input`.
         */
        const char *project;
        const struct step_secret *secrets;
        size_t n_secrets;
        const char *secret_mark;
};

struct engine_reply {
        uint64_t attempt_id;
        uint32_t question_id;
        enum checkpoint_state state;
        bool always;
        const char *content, *reason, *by; /* content NULL: none */
};

/* Called only after the decision is durable. All queue and return at once; messages of a turn travel
 * together. An agent that is gone is not an error: its attempts come back with engine_agent_offline. */
struct engine_wire {
        void (*start)(void *ctx, const char *agent_id, const struct engine_start *m);
        void (*cancel)(void *ctx, const char *agent_id, uint64_t attempt_id, const char *reason);
        void (*ack)(void *ctx, const char *agent_id, uint64_t attempt_id); /* the result is committed */
        void (*stdin_data)(void *ctx, const char *agent_id, uint64_t attempt_id, uint64_t offset,
                           const void *p, size_t n, bool eof);
        void (*reply)(void *ctx, const char *agent_id, const struct engine_reply *m); /* to a question */
        void *ctx;
};

/* What people are told of a question. Lent for the call. */
struct engine_notice {
        const char *event; /* "checkpoint.open" | "checkpoint.escalated" | "checkpoint.delegated" */
        const char *checkpoint_id, *kind, *title, *sha256;
        const char *run_id, *step_id, *workflow, *project, *asked_by;
        const struct approval_rules *rules; /* or NULL */
        const char *to;                     /* delegated: to whom */
        int64_t audit_seq;                  /* "audit.head" (hub/notify): sha256 is that record's hash */
        int64_t at_us, expires_us;
};

/* What the engine asks of the vault (hub/vault, which it must not include); all NULL: there is none. */
#define ENGINE_MARK_LEN 33
struct engine_vault {
        bool (*is_open)(void *ctx);
        const char *(*why)(void *ctx);                                       /* it is locked: a sentence */
        int64_t (*latest)(void *ctx, const char *project, const char *name); /* 0: there is no such secret */
        void (*mark)(void *ctx, const char *run_id, const char *step_id, uint32_t attempt,
                     char out[ENGINE_MARK_LEN]);
        void *ctx;
};

struct engine_options {
        const struct clock *clock;
        struct store *store;
        struct bus *bus;
        struct engine_wire wire;
        struct engine_vault vault;
        int64_t lost_after_ms;   /* an agent offline this long has lost its attempts (default 60 s) */
        int losses_max;          /* repeatable steps are given up after so many lost attempts (default 100) */
        int64_t cancel_grace_ms; /* TERM to KILL (default 10 s) */
        int64_t question_timeout_ms; /* of a question that names none (default 24 h) */
        enum self_approval self_approval;
        /* A question was opened, handed on or escalated: adds to the change's own transaction what people are
         * told of it. NULL: nobody is. */
        void (*notice)(void *ctx, struct store_tx *tx, const struct engine_notice *n);
        void (*notice_durable)(void *ctx);    /* one that was added is on disk */
        const struct askfirst *ask_first;     /* lent; NULL: no rules */
        enum budget_unpriced budget_unpriced; /* steps whose cost nobody knows, where a cap is set */
        const uint8_t
                *seal_key; /* 32 bytes, not from the database: rows are sealed with it; NULL: they are not */
        bool adopt_unsealed; /* the key was made by this start: rows without a seal are older and taken */
        uint64_t seed;       /* jitter */
        void (*want_timer)(void *ctx, int64_t at_mono_ms); /* call engine_tick then; INT64_MAX: none */
        void (*want_flush)(void *ctx); /* there is something to commit: call engine_flush this turn */
        void *ctx;
};

int engine_create(const struct engine_options *o, struct engine **out, struct err *e);
void engine_free(struct engine *en);
/* Reads back every run that is not over. Blocking, at start-up, before any agent. */
int engine_load(struct engine *en, struct err *e);
void engine_tick(struct engine *en);
/* Plans, and commits the turn's decisions. */
void engine_flush(struct engine *en);

/* Steps that waited for the vault go on. */
void engine_vault_opened(struct engine *en);

/* ---- from agents ---- */

struct engine_label {
        const char *key, *value;
};
struct engine_tool {
        const char *name;
        bool allowed;
};

/* Borrowed for the call; the engine copies. */
struct engine_agent {
        const char *id, *name, *kind, *os, *arch, *version, *boot_id;
        const struct engine_label *labels; /* hub-fixed and the agent's own (the fixed ones win); os, arch,
                                              kind, name are added by the engine */
        size_t n_labels;
        const struct engine_tool *tools;
        size_t n_tools;
        uint32_t max_running;
        bool draining;
        const cJSON *models; /* detail of its llm.chat (route.h), or NULL */
};

/* Enrolled, but not heard of since this hub started: what it last said it offers. */
int engine_agent_known(struct engine *en, const struct engine_agent *a);
/* Connected, or its inventory changed. Call engine_held for each held attempt first, then engine_agent_ready:
 * attempts dispatched to it that it does not hold are sent again or become unknown (other boot id). */
int engine_agent_online(struct engine *en, const struct engine_agent *a);
enum engine_verdict { ENGINE_KEEP, ENGINE_CANCEL, ENGINE_FORGET };
enum engine_verdict engine_held(struct engine *en, const char *agent_id, uint64_t attempt_id);
/* Between online and ready: the highest attempt its journal ever held. What is not above that and not held
 * any more was done with, so it is not sent again, even if this hub's data (a restored copy) does not know
 * how it ended. */
void engine_agent_seen(struct engine *en, const char *agent_id, uint64_t attempt_id);
void engine_agent_ready(struct engine *en, const char *agent_id);
void engine_agent_update(struct engine *en, const struct engine_agent *a);
void engine_agent_offline(struct engine *en,
                          const char *agent_id); /* connection lost; attempts stay for lost_after_ms */
void engine_agent_gone(struct engine *en, const char *agent_id); /* revoked: attempts are lost now */
void engine_agent_draining(struct engine *en, const char *agent_id, bool on);
uint32_t engine_agent_running(const struct engine *en, const char *agent_id);

void engine_on_started(struct engine *en, const char *agent_id, uint64_t attempt_id, int64_t at_us);

enum engine_outcome {
        ENGINE_SUCCEEDED,
        ENGINE_FAILED,
        ENGINE_REFUSED,
        ENGINE_CANCELLED,
        ENGINE_TIMED_OUT,
        ENGINE_LOST
};
/* What a tool asked and the agent's policy answered: for the audit. */
struct engine_policy_answer {
        bool allowed;
        const char *action, *tool, *title, *arguments_sha256, *by, *reason;
};
struct engine_result {
        uint64_t attempt_id;
        enum engine_outcome outcome;
        const char *outputs; /* JSON text or NULL */
        bool has_exit_code;
        int32_t exit_code;
        const char *error_code, *error_message, *usage;
        int64_t started_us, finished_us;
        uint64_t output_bytes;
        const void *small_output; /* framed (hub/logs/logs.h), or NULL */
        size_t small_output_len;
        const struct engine_policy_answer *policy;
        size_t n_policy;
        uint32_t policy_more; /* answers that are not among them */
        int sync_fd; /* log file to make durable with the result, or -1; kept open by the caller until
                        on_committed */
};
/* A result, all of whose output the hub has. The wire's ack follows when committed (also for stale or
 * repeated ones, at once, so that the agent forgets them). on_committed may be NULL. */
void engine_on_finished(struct engine *en, const char *agent_id, const struct engine_result *r,
                        void (*on_committed)(void *arg), void *arg);
/* Where may output of this attempt go? false: nobody wants it (stale): drop it. */
bool engine_wants_output(const struct engine *en, const char *agent_id, uint64_t attempt_id);

/* ---- questions that tools ask people (engine_ask.c) ---- */

struct engine_question {
        uint64_t attempt_id;
        uint32_t question_id; /* the agent's, within the attempt */
        const char *kind, *action, *title, *tool;
        const char *arguments; /* exactly as given: shown, kept and hashed */
        const char *schema;    /* JSON Schema text or NULL */
        int64_t timeout_ms;    /* 0: the hub's default */
};
/* The same again is ignored while it is open, and answered again when it is not. */
void engine_on_question(struct engine *en, const char *agent_id, const struct engine_question *q);
void engine_on_question_withdrawn(struct engine *en, const char *agent_id, uint64_t attempt_id,
                                  uint32_t question_id);
void engine_on_reply_ack(struct engine *en, const char *agent_id, uint64_t attempt_id, uint32_t question_id);
/* After engine_held: what the agent still waits for; the other open questions of the attempt are withdrawn.
 */
void engine_held_questions(struct engine *en, const char *agent_id, uint64_t attempt_id, const uint32_t *ids,
                           size_t n);

/* ---- what calls use of what was reserved for them (engine_budget.c) ---- */

/* Has this attempt a reservation, so that its usage events matter while it runs? */
bool engine_wants_usage(const struct engine *en, const char *agent_id, uint64_t attempt_id);
/* A usage object (docs/EVENTS.md), summed over the call so far. Over the reservation the call is cancelled.
 */
void engine_on_usage(struct engine *en, const char *agent_id, uint64_t attempt_id, const cJSON *usage);

/* ---- from people (hub/http calls these on the loop) ---- */

/* The description of a call's definition whose standard input follows (stdin_follows): how a hub
 * that was restarted knows. */
#define ENGINE_CALL_STDIN "standard input follows"

struct engine_submit {
        const char *def_text; /* as given, stored for the record */
        size_t def_len;
        struct workflow *workflow; /* taken, also on failure */
        cJSON *inputs;             /* complete (workflow_inputs); taken, also on failure */
        const char *kind;          /* "run" | "call" */
        const char *created_by;
        const char *maker;   /* the user who made the token that submits and stands for itself; or NULL */
        const char *project; /* NULL: PROJECT_DEFAULT */
        int priority;        /* added to the workflow's */
        bool stdin_follows;  /* calls: data comes with engine_stdin */
        bool want_finish;    /* on_finished is called too */
        const char *idempotency_key, *idempotency_token,
                *idempotency_sha256; /* or NULL; stored with the run */
};
struct engine_done {
        int rc; /* 0 or -E_*; err has the reason */
        const struct err *err;
        const char *run_id;
        enum run_state state; /* on_finished */
};
/* on_durable once: the run is on disk (201) or refused. on_finished (want_finish): the run is over, durably.
 * Both on the loop. */
void engine_submit(struct engine *en, struct engine_submit *s,
                   void (*on_durable)(void *arg, const struct engine_done *d),
                   void (*on_finished)(void *arg, const struct engine_done *d), void *arg);
/* The submitter went away: on_finished will not be called. */
void engine_forget_waiter(struct engine *en, const char *run_id, void *arg);

/* Each answers once, after the change is durable. rc: -E_NOENT, -E_STATE ... */
typedef void (*engine_answer)(void *arg, int rc, const struct err *e);
/* by: who asked, for the audit's record, which is part of the same commit. */
void engine_cancel(struct engine *en, const char *run_id, const char *by, const char *reason,
                   engine_answer cb, void *arg);
/* Who lets steps run (again): by is a user or a token that stands for itself, maker the user who made that
 * token, or NULL. Both count as having asked what the run asks from then on. */
struct engine_actor {
        const char *by, *maker;
};
/* Failed, cancelled and unknown steps of a finished (or waiting) run, and what depends on them, run again.
 * -E_FULL: too many people have retried it. */
void engine_retry(struct engine *en, const char *run_id, const struct engine_actor *who, engine_answer cb,
                  void *arg);
/* A person decides an UNKNOWN step: "retry", "succeeded", "failed". */
void engine_resolve(struct engine *en, const char *run_id, const struct engine_actor *who,
                    const char *step_id, const char *outcome, engine_answer cb, void *arg);
/* A person answers a question. rc as checkpoint_check says; -E_NOENT: no checkpoint of that id is open (it
 * may be over: the store knows, by the time of the answer). Content has been held against the schema by the
 * caller. */
struct engine_decision {
        const char *checkpoint_id;
        struct checkpoint_answer answer;
        const char *reason; /* or NULL */
        /* When the answer is allowed: what else belongs to it, into its own transaction. An error refuses it.
         */
        int (*also)(void *ctx, struct store_tx *tx, const char **code, struct err *e);
        void *also_ctx;
        const char *code; /* out, before cb: the stable name of a refusal, or NULL */
};
void engine_decide(struct engine *en, struct engine_decision *d, engine_answer cb, void *arg);
/* One who is asked hands the question to another. rc and *code as approval_delegate says; -E_NOTSUP: a tool
 * asks it, whom everybody who may decide can answer. */
struct engine_delegation {
        const char *checkpoint_id, *from, *from_maker, *from_role, *to;
        const char *code; /* out, before cb */
};
void engine_delegate(struct engine *en, struct engine_delegation *d, engine_answer cb, void *arg);

/* Budgets. -E_INVAL, -E_FULL; -E_NOENT. Both write their audit record. */
struct engine_budget_set {
        const char *id; /* budget_id_parse */
        struct budget_cap cap;
        bool restart; /* what was spent until now does not count any more */
        const char *by;
};
void engine_budget_set(struct engine *en, const struct engine_budget_set *set, engine_answer cb, void *arg);
void engine_budget_delete(struct engine *en, const char *id, const char *by, engine_answer cb, void *arg);
/* One as it stands, or NULL; id NULL: an array of all, in no order. */
cJSON *engine_budgets(struct engine *en, const char *id);
/* Streams standard input to a running call: 0, -E_FULL (come back when *out_taken moved), -E_NOENT, -E_STATE,
 * -E_INVAL (gap). */
int engine_stdin(struct engine *en, const char *run_id, uint64_t offset, const void *p, size_t n, bool eof,
                 uint64_t *out_taken, struct err *e);
void engine_on_stdin_ack(struct engine *en, uint64_t attempt_id, uint64_t taken, bool closed);
/* Why it went where it went, or why it waits. step NULL: all. New cJSON. -E_NOENT if the run is not active
 * (read the placement column then). */
int engine_explain(struct engine *en, const char *run_id, const char *step_id, cJSON **out, struct err *e);
/* Every model of every agent, and how it has done: new array of objects, by id (AGENT/ENDPOINT/MODEL). NULL:
 * no memory. */
cJSON *engine_models(struct engine *en);
struct engine_stats {
        uint64_t runs_active, steps_ready, steps_running, dispatched_total, finished_total, lost_total;
        uint64_t checkpoints_open;
};
void engine_get_stats(const struct engine *en, struct engine_stats *out);

#endif
