/* One engine on a real store in a scratch folder, a fake clock, and an agent whose
 * answers the test scripts: submit a workflow, say how steps end, look at the rows. */
#ifndef PHOTON_TEST_ENGINE_BENCH_H
#define PHOTON_TEST_ENGINE_BENCH_H

#include "hub/event/bus.h"
#include "hub/sched/engine.h"
#include "hub/store/store.h"

#define EB_STARTS_MAX 4096

struct eb_start {
        uint64_t attempt_id;
        char step[64], agent[32];
        char input[512];
        bool answered, cancelled;
        size_t n_secrets;
        char mark[ENGINE_MARK_LEN];
};

struct eb_reply {
        uint64_t attempt_id;
        uint32_t question_id;
        enum checkpoint_state state;
        bool always;
        char by[64], reason[128], content[128];
};

struct eb {
        int64_t now_ms;
        struct clock clock;
        struct store *store;
        struct bus *bus;
        struct engine *en;
        struct eb_start starts[EB_STARTS_MAX];
        int n_starts, acks;
        struct eb_reply replies[64]; /* what the agents heard */
        int n_replies;
        char notices[32][200]; /* what people were told: "event id to" */
        int n_notices;
        enum self_approval self;       /* of the next engine: eb_reopen */
        enum budget_unpriced unpriced; /* likewise */
        const char *usage;             /* that the next answers say */
        const char *error_code;        /* of their failure */
        bool never_started;            /* and that their call never began */
        uint64_t seen;                 /* by the agents that come online from now on */
        bool vault_locked;             /* the vault knows every name that does not begin with "NO" */
        char run[32];
        int answer_rc;
        char answer_msg[512];
        bool finished;
        enum run_state finished_state;
};

struct eb *eb_open(void);
void eb_close(struct eb *b);
void eb_start_again(struct eb *b); /* after the test closed store, engine and bus by itself */
void eb_reopen(struct eb *b);      /* as after kill -9 */
void eb_agent(struct eb *b, const char *name,
              uint32_t places); /* online, tools process.exec, photon.echo acme.think and acme.prompt */
void eb_agent_off(struct eb *b, const char *name);
void eb_submit(struct eb *b, const char *yaml);
void eb_submit_call(struct eb *b, const char *yaml, const char *inputs);
void eb_turn(struct eb *b); /* flush and commit */
void eb_pass(struct eb *b, int64_t ms);
/* The newest unanswered start of a step, or NULL. */
struct eb_start *eb_started(struct eb *b, const char *step);
void eb_answer(struct eb *b, const char *step, enum engine_outcome o, const char *outputs);
const char *eb_state(struct eb *b, const char *step); /* as stored; "" if there is no such row */
const char *eb_run_state(struct eb *b);
int eb_attempts(struct eb *b); /* history rows of the run */
char *eb_column(struct eb *b, const char *step,
                const char *column); /* "error_code", "outputs", "agent", "started_us" ...; free() */

#endif
