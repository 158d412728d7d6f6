/* The engine's rooms share these structures; nobody else includes this.
 *
 *   engine.c         life, the turn (flush), what happens after a commit
 *   engine_run.c     a run: submission, concurrency, its end
 *   engine_step.c    a step: leaving blocked, results, retry, moves
 *   engine_scope.c   what its expressions see
 *   engine_fanout.c  matrix and for-each
 *   engine_fleet.c   agents: online, offline, held, lost
 *   engine_ask.c     questions to people
 *   engine_gate.c    steps that wait for people: approvals, budgets, policies
 *   engine_policy.c  steps that the hub's own policy asks about
 *   engine_secret.c  steps that name secrets
 *   engine_people.c  cancel, retry, resolve, standard input
 *   engine_explain.c why here, why not
 *   engine_load.c    back from the store
 *   engine_route.c   steps that ask for a model: which agent, endpoint and model
 *   engine_budget*.c reserve, watch, settle (budget_impl.h)
 *   demand.c         ready steps that want the same thing
 *
 * Handlers change memory and mark what changed dirty; engine_flush writes every
 * dirty row once, in one transaction, and acts when it is durable. */
#ifndef PHOTON_SCHED_ENGINE_IMPL_H
#define PHOTON_SCHED_ENGINE_IMPL_H

#include "common/list.h"
#include "common/map.h"
#include "common/err.h"
#include "hub/sched/engine.h"
#include "hub/sched/plan.h"
#include "hub/sched/route.h"
#include "hub/sched/timers.h"

struct store_reader;
struct store_tx;
struct batch;
struct aside;
struct demand;
struct hold;
struct ledger;
struct step_scope;
struct gate_answer;
struct group;
struct run;

/* An agent as the engine knows it; lives as long as the engine, so that steps may point at it. */
struct fleet_agent {
        char *id, *name;
        char *info; /* one allocation per inventory: strings below point into it or are owned arrays */
        char *boot_id;
        struct plan_label *labels;
        size_t n_labels;
        char **tools, **denied;
        size_t n_tools, n_denied;
        struct route_model *models;
        size_t n_models;
        uint32_t max_running, running;
        bool online, ready, draining, gone;
        uint64_t seen;           /* the highest attempt its journal ever held, as of its last Hello */
        uint64_t offline_serial; /* counts disconnections: an old lost-timer means nothing */
        struct list held;        /* steps whose current attempt is its (struct step.on_agent) */
};

/* What a step definition needs to know that is the same for every run of its workflow. */
struct def_info {
        size_t *dependents; /* indices of definitions that need this one */
        size_t n_dependents;
        size_t *refs; /* definitions whose outputs its expressions read */
        size_t n_refs;
        bool refs_all; /* a computed reference: all of its needs */
        bool wanted;   /* somebody reads its outputs */
};

struct step {
        struct run *run;
        const struct step_def *def;
        struct step *parent; /* the fan-out step it is an instance of */
        uint32_t idx;
        char *id;
        cJSON *matrix;
        enum step_state state;
        bool is_new, is_dirty, clear, fanout;
        bool stdin_follows;
        bool result_seen; /* a final state that came from a result */
        bool cancel_sent, cancel_requested;
        bool held_seen; /* its agent said, when it came back, that it has it */
        bool in_commit; /* dispatched, not yet durable */
        uint32_t unmet; /* needs that are not over */
        uint32_t attempt, retries, losses;
        uint64_t attempt_id;
        struct fleet_agent *agent; /* of the current attempt */
        char *agent_boot;
        struct list on_agent;   /* in fleet_agent.held */
        struct list queue;      /* in demand.ready */
        struct list dirty;      /* in engine.dirty_steps */
        struct list vault_wait; /* in engine.vault_waiting */
        struct demand *demand;
        struct group *group;      /* concurrency group it holds a place in */
        char *input;              /* evaluated, while ready or under way */
        struct hold *hold;        /* what its current attempt has reserved, or NULL */
        struct aside *aside;      /* it is ready, and a budget holds it up; or NULL */
        char *asks_budget;        /* the account for which its question is open, or NULL */
        char *allowed_sha256;     /* engine_policy.c: what people said yes to */
        bool may_be_unpriced;     /* people said so, of its next attempt */
        struct step_route *route; /* of a step that asks for a model, once it was ready */
        char *placement;
        char *outputs;          /* kept only if somebody reads them */
        cJSON *ctx;             /* steps.ID as expressions see it, made when first read */
        bool has_exit_code, ok; /* ok: counts as success for those that need it */
        bool below_failure;     /* skipped, because something above it failed */
        int32_t exit_code;
        char *error_code, *error_message, *usage;
        uint64_t output_bytes;
        char *small_output;
        size_t small_output_len;
        int64_t not_before_us, created_us, ready_us, dispatched_us, started_us, finished_us;
        /* fan-out */
        uint32_t n_children, children_over, children_running, children_failed, next_child, first_child;
        /* standard input of a call */
        struct stdin_pipe *in;
        /* engine_ask.c: questions of its current attempt that are open, or whose answer is not acknowledged
         */
        struct list asks;
        uint32_t n_asks_open, asked;
};

/* What a step of llm.chat needs, and where it has failed already. */
struct step_route {
        struct route_need need;
        char *key;                      /* equal keys: equal needs, and equally tried */
        cJSON *tried;                   /* [{"agent": id, "endpoint", "model"}] */
        uint32_t others;                /* candidates besides the chosen one, when it was sent */
        char *last_code, *last_message; /* of the newest of `tried` */
};

/* How one model of one agent has done; kept in the store, slot by slot. */
struct model_record {
        int64_t slot, updated_us;
        char *key, *agent, *endpoint, *model;
        struct route_history history;
        struct route_measure measure; /* of history, as of measured_us */
        int64_t measured_us;
};

/* Bytes on their way to a call's standard input: [taken, taken + len). */
struct stdin_pipe {
        uint64_t taken;
        uint8_t *data;
        size_t len;
        bool eof, closed;
};

struct run {
        struct engine *en;
        int64_t seq;
        char *id, *kind, *def_sha256, *created_by, *project, *group_name;
        cJSON *askers; /* names of others who count as having asked what it asks; NULL: nobody */
        struct workflow *wf;
        struct def_info *info; /* wf->n_steps */
        cJSON *inputs, *outputs, *run_ctx, *wf_ctx, *env_ctx;
        char *inputs_text, *outputs_text;
        bool refused;       /* read back, and not as this hub wrote it */
        bool inputs_hashed; /* for its seal */
        uint8_t inputs_hash[32];
        enum run_state state;
        int priority;
        bool is_new, is_dirty, cancel_requested, force_cancel, timed_out, over, finishing;
        char *cancel_reason;
        char *error_code, *error_message;
        int64_t created_us, started_us, finished_us;
        struct step **steps;
        uint32_t n_steps, cap_steps;
        uint32_t open_main, open_finally;       /* written steps that are not over */
        uint32_t n_unknown, n_active, n_asking; /* asking: of the active ones, those that wait for people */
        bool finally_started;
        struct list dirty; /* in engine.dirty_runs */
        struct list queue; /* in run_group.waiting */
        struct run_group *run_group;
        bool holds_group;
        char *def_text; /* only until stored */
        size_t def_len;
        const char *idem_key, *idem_token, *idem_sha; /* owned copies, only until stored */
        void (*on_finished)(void *arg, const struct engine_done *d);
        void *waiter;
};

struct demand {
        char *key;
        struct plan_want want;
        struct plan_label *labels;
        char *tool, *agent;
        int priority;
        struct group *group;
        struct list ready;
        uint32_t n_ready;
        struct list all;  /* in engine.demands */
        bool routed;      /* its steps have a route, all the same need */
        uint64_t checked; /* in this turn (engine.route_turn) */
};

/* A concurrency group of steps. */
struct group {
        char *name;
        uint32_t limit, running, waiting;
        size_t plan_at; /* scratch for one planning */
};

struct run_group {
        char *name;
        uint32_t limit, running;
        struct list waiting;
};

struct engine {
        struct clock clock;
        struct store *store;
        struct bus *bus;
        struct engine_wire wire;
        struct engine_options opt;
        struct mac *seal;     /* engine_seal.c; NULL: rows are not sealed */
        struct map *runs;     /* id -> run */
        struct map *runs_seq; /* seq -> run */
        struct map *attempts; /* attempt id -> step */
        struct map *asks;     /* checkpoint id -> struct ask */
        struct map *asks_seq; /* checkpoint seq -> struct ask */
        int64_t next_ask;     /* seq */
        size_t asks_open, ask_bytes;
        void (*granted[CHECKPOINT_KIND_COUNT])(struct step *s, const struct gate_answer *a);
        struct map *agents; /* id -> fleet_agent */
        struct map *demands_by_key, *groups, *run_groups;
        struct list demands, dirty_steps, dirty_runs;
        struct list vault_waiting; /* steps that go on when the vault is open */
        struct list over;          /* steps that just ended; see step_over */
        bool in_over;
        int64_t trimmed; /* how often old events were forgotten */
        struct fleet_agent **fleet;
        size_t n_fleet, cap_fleet;
        struct timers timers;
        int64_t armed_ms;
        int64_t next_seq;
        uint64_t next_attempt, attempt_limit; /* ids below the limit are reserved on disk */
        uint64_t first_attempt;               /* of this life of the hub */
        struct ledger *ledger;
        uint64_t rng;
        struct batch *batch; /* of this turn, or NULL */
        bool flush_wanted, closing;
        struct map *records; /* of struct model_record, by key */
        struct model_record **slots;
        size_t n_slots;
        size_t n_routed; /* demands */
        uint64_t route_turn;
        struct store_reader *reader; /* the loop's own, for start-up and retry */
        struct engine_stats stats;
        /* scratch for planning */
        struct plan_agent *p_agents;
        struct plan_demand *p_demands;
        struct demand **p_which;
        struct plan_pick *p_picks;
        uint32_t *p_load;
        double *p_scores;
        size_t p_scores_cap;
        size_t p_agents_cap, p_demands_cap;
};

/* Never NULL: out of memory ends the hub, whose state on disk is whole. */
void *engine_alloc(size_t n);
char *engine_strdup(const char *s);
void engine_after_over(struct engine *en, struct run *r);
void engine_send_start(struct engine *en, struct step *s);

#define ENGINE_PICKS_MAX 4096 /* dispatches decided in one turn */

/* ---- engine.c ---- */
int64_t engine_now(struct engine *en);
double engine_rnd(struct engine *en); /* [0,1) */
void engine_want_flush(struct engine *en);
void engine_arm(struct engine *en);
struct batch *engine_batch(struct engine *en);
struct store_tx *engine_tx(struct engine *en);
/* A record of the audit, in the turn's commit. words: up to one without key; NULL: none. */
struct audit_word {
        const char *key, *value;
};
/* engine_seal.c */
#define ROW_SEAL_LEN 16
struct row_seal {
        uint8_t v[ROW_SEAL_LEN];
};
struct row_run;
struct row_step;
struct row_checkpoint;
/* Each fills the row's seal (pointing into `room`), or leaves it when rows are not sealed. */
void seal_run(struct run *r, struct row_run *row, struct row_seal *room);
void seal_checkpoint(struct engine *en, struct row_checkpoint *row, struct row_seal *room);
const uint8_t *seal_step(const struct step *st, struct row_seal *room); /* NULL: not sealed */
bool seal_run_holds(struct engine *en, const struct row_run *row);
bool seal_step_holds(const struct step *st, const struct row_step *row); /* st: made from this row */
bool seal_checkpoint_holds(struct engine *en, const struct row_checkpoint *row);
bool seal_definition_holds(struct engine *en, const char *sha256_hex, const void *text, size_t n);
/* Writes down and tells that a row is not ours. Always -E_DENIED. */
int seal_broken(struct engine *en, const char *run_id, const char *step_id, const char *what, struct err *e);

void engine_audit(struct engine *en, const char *by, const char *action, const char *object,
                  const struct audit_word *words);
/* What to do when this turn's rows are durable. */
void engine_after_cancel(struct engine *en, struct fleet_agent *a, uint64_t attempt_id, const char *reason);
void engine_after_ack(struct engine *en, const char *agent_id, uint64_t attempt_id);
void engine_after_call(struct engine *en, void (*fn)(void *arg), void *arg);
void engine_after_answer(struct engine *en, engine_answer cb, void *arg, int rc, const struct err *e);
void engine_after_submitted(struct engine *en, void (*cb)(void *, const struct engine_done *), void *arg,
                            struct run *r);
void engine_after_start(struct engine *en, struct step *s);
void engine_after_reply(struct engine *en, int64_t ask_seq);
uint64_t engine_new_attempt(struct engine *en);

/* ---- engine_run.c ---- */
int run_build(struct engine *en, struct run *r, struct err *e); /* info from wf */
struct step *run_add_step(struct run *r, const struct step_def *def, struct step *parent, cJSON *matrix,
                          struct err *e);
void run_free(struct run *r);
void run_dirty(struct run *r);
void run_move(struct run *r, enum run_state to);
void run_start(struct run *r);
#define RUN_ASKERS_MAX 100
/* That name, too, counts as having asked what this run asks; nothing if it is "" or NULL, or does already.
 * false: too many do. The caller sees that the row is written. */
bool run_add_asker(struct run *r, const char *name);
/* The same for whoever lets its steps run again. -E_FULL. */
int run_asked_again(struct run *r, const struct engine_actor *who, struct err *e);
void run_settle(struct run *r);  /* looks whether it is over, or waits */
void run_release(struct run *r); /* its place in the concurrency group */
void run_enter_group(struct run *r);
void run_hold_group(struct run *r); /* read back while it held its place */
void run_timed_out(struct run *r);
void run_cancel(struct run *r, const char *reason);

/* ---- engine_step.c ---- */
void step_free(struct step *s);
void step_dirty(struct step *s);
void step_move(struct step *s, enum step_state to);
void step_activate(struct step *s); /* every need is over */
void step_prepare(struct step *s);  /* evaluates input and placement, makes it ready */
void step_over(struct step *s);     /* just became final: tell those who wait for it */
void step_fail(struct step *s, const char *code, const char *message);
void step_end(struct step *s, enum step_state to);
bool step_tolerated(const struct step *s);
void step_detach(struct step *s); /* from its agent and attempt */
void step_lost(struct step *s, const char *why);
void step_requeue(struct step *s, int64_t delay_ms);
void step_reset(struct step *s);                             /* forgets results: it will run again */
void step_note_attempt(struct step *s, const char *outcome); /* history row of the attempt that ends */
bool step_active(const struct step *s);                      /* dispatched, running or unknown */
bool step_counts_active(enum step_state st);                 /* its run has something under way */
void step_cancel(struct step *s, const char *reason);        /* ends it now, or asks its agent to */
void step_stdin_resend(struct step *s);
void set_text(char **slot, const char *text);

/* What expressions of a step see; made for one evaluation. */
struct step_scope {
        struct step *step;
        struct run *run;
        cJSON *steps; /* object of references, made when first read */
        cJSON *env, *empty;
        cJSON *secrets; /* marks, only while the step's own input is evaluated */
};
struct step_scope *scope_create(struct run *r, struct step *s, struct expr_env *env);
void scope_free(struct step_scope *sc);
cJSON *step_context(struct step *s); /* lent */

bool step_survives_cancel(const struct step *s);

/* ---- engine_ask.c ---- */
void step_asks_free(struct step *s);     /* only memory */
void step_asks_withdraw(struct step *s); /* what is open: nobody waits for it any more */
void step_asks_end(struct step *s);      /* the attempt is over: withdraws, and forgets all */
void ask_reply(struct engine *en,
               int64_t ask_seq); /* its answer is durable: to its agent, if that is there */
void ask_expired(struct engine *en, int64_t ask_seq);
int asks_load(struct engine *en, struct err *e); /* after the runs */

/* ---- engine_gate.c ---- */
/* A step that waits for an answer to what the hub asks; it is in no queue meanwhile. */
bool step_gated(const struct step *s);
void approval_open(struct step *s); /* a step with `approval`: evaluated and asked */

/* A question about a step that has not been sent: over a budget, or what a policy wants people to look at.
 * Its answer sends the step through step_prepare again, or fails it. Lent for the call. */
struct gate_question {
        enum checkpoint_kind kind; /* KIND_BUDGET or KIND_POLICY */
        const char *title;         /* for people: one sentence, what is asked */
        const cJSON *shown;        /* object: exactly what the answer is about; it is hashed */
        const struct approval_rules
                *rules;          /* who may answer ...; NULL: one of those who may decide, else no */
        const char *denied_code; /* of the step, when the answer is no: "budget_denied" */
};
/* The step is ready (queued or being prepared). It leaves its queue and waits, its run with it. */
void step_gate(struct step *s, const struct gate_question *q);
/* Who wants to know of a yes, in the transaction of the decision and before the step is prepared again: a row
 * that says what was granted, so that it is not asked again. One per kind. */
struct gate_answer {
        const char *checkpoint_id, *by; /* the last who approved */
        const char *arguments;          /* exactly what was approved: {"question", "about"} as JSON */
};
typedef void (*gate_granted)(struct step *s, const struct gate_answer *a);
void gate_on_granted(struct engine *en, enum checkpoint_kind kind, gate_granted fn);

/* ---- engine_policy.c ---- */
/* False: the step waits for people now, and is not sent. */
bool policy_gate(struct engine *en, struct step *s, const struct fleet_agent *a);
void policy_begin(struct engine *en);

/* ---- engine_secret.c ---- */
bool secrets_must_wait(const struct step *s);
void secrets_wait(struct step *s);
/* -E_NOENT, and *code. */
int secrets_check(const struct step *s, const char **code, struct err *e);
cJSON *secrets_context(const struct step *s);
void secrets_used(struct step *s);             /* dispatched: the audit's records */
const char *secrets_why(const struct step *s); /* it waits for the vault: why; else NULL */

/* ---- engine_fanout.c ---- */
void fanout_open(struct step *s);
void fanout_child_over(struct step *child);
void fanout_next(struct step *parent);
void fanout_settle(struct step *parent); /* every instance is over */

/* ---- engine_fleet.c ---- */
struct fleet_agent *fleet_get(struct engine *en, const char *id);
struct fleet_agent *fleet_ensure(struct engine *en, const char *id, const char *name);
void fleet_free(struct fleet_agent *a);
void fleet_lost(struct engine *en, struct fleet_agent *a, const char *why);
void fleet_view(const struct fleet_agent *a, struct plan_agent *out);
void fleet_attach(struct fleet_agent *a, struct step *s);

/* ---- engine_route.c ---- */
bool step_is_routed(const struct step *s);
/* The input as the step's row has it: NULL where it is the run's own (a call's), which the run's row has. */
const char *step_own_input(const struct step *s);
void step_restore_input(struct step *s, const char *stored);
/* Reads the need from the evaluated input. -E_INVAL. */
int route_prepare(struct step *s, struct err *e);
void route_free(struct step *s);
/* A retry of the whole step: what was tried is forgotten. */
void route_restart(struct step *s);
/* Back from the store: what had been tried. */
void route_restore(struct step *s);
/* Fails the steps that no model of any agent can ever take. */
void route_refuse(struct engine *en);
/* A score for each agent of the fleet. */
void route_scores(struct engine *en, const struct demand *d, double *scores);
/* Sent to `a`: endpoint and model go into the input, candidates and choice into *placement (an object). */
void route_choose(struct engine *en, struct step *s, const struct demand *d, struct fleet_agent *a,
                  cJSON *placement);
void route_on_result(struct step *s, const struct engine_result *r);
/* It failed by its endpoint's fault, and there is another: true, and the step is ready again. */
bool route_again(struct step *s);
bool route_had_begun(const struct step *s); /* its model has said its first word */
void route_explain(struct engine *en, const struct step_route *r, const struct plan_want *w, cJSON *list,
                   size_t max);
int route_load(struct engine *en, struct err *e);
void route_close(struct engine *en);

/* What the call is expected to cost on this agent, by its price table; *model: which. */
struct budget_amount route_estimate(struct engine *en, struct step *s, struct fleet_agent *a, char *model,
                                    size_t size);
bool route_takes_it(struct engine *en, struct step *s, const struct fleet_agent *a);

/* ---- engine_budget*.c ---- */
int budgets_create(struct engine *en);
void budgets_free(struct engine *en);
int budgets_load(struct engine *en, struct err *e); /* before the runs */
void budgets_resolve(struct engine *en);            /* after them */
void budget_attach(struct step *s);                 /* read back while under way: its reservation */
/* May it be dispatched to *a (or to the agent that *a becomes)? false: it was put aside, or its place is
 * taken and it keeps its turn. */
bool budget_gate(struct engine *en, struct step *s, struct fleet_agent **a);
bool budget_granted(const struct engine *en);        /* the step in hand reserves something */
void budget_take(struct engine *en, struct step *s); /* dispatched: reserves what the gate granted */
void budget_act(struct engine *en);                  /* after the picks: those put aside wait or fail */
void budget_wake(struct engine *en);                 /* before them */
void budget_new_day(struct engine *en);              /* TIMER_DAY */
void budget_changed(struct engine *en);              /* something is free: those put aside are looked at */
/* Takes the usage. true: the budget ended the call (error_code and error_message say so). */
bool budget_on_result(struct step *s, const struct engine_result *r);
void budget_end(struct step *s);    /* the attempt is over, and nobody said what it used */
void budget_forget(struct step *s); /* it waits no longer */
void budget_asked(struct step *s);  /* its question about a budget is answered, or its step is over */
void budget_asks_begin(struct engine *en);
void budget_asks_load(struct engine *en);       /* after the questions came back */
const char *budget_input(const struct step *s); /* that the budget changed; or NULL */
void budget_free(struct step *s);               /* only memory */
bool budget_stopped(const struct step *s);
void budget_late(struct engine *en, const char *agent_id, const struct engine_result *r);
void budget_run_gone(struct run *r);
bool budget_explain(struct step *s, cJSON *o);
size_t budget_waiting(const struct engine *en);

/* ---- demand.c ---- */
/* Queues a ready step with those that want the same; -E_NOMEM, -E_INVAL (expressions). */
int demand_add(struct step *s, const char *agent, struct plan_label *labels, size_t n_labels,
               struct group *g);
void demand_remove(struct step *s);
void demand_free(struct demand *d);
struct group *group_get(struct engine *en, const char *name, uint32_t limit);

#endif
