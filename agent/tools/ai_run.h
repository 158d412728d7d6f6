/* One child of one AI call: started when the folder was looked at, asked to end
 * its turn, made to go, and its end turned into one outcome. Drivers of vendors'
 * own protocols (claude.c, codex.c) embed it and only translate.
 *
 *   OPENING --started--> RUNNING --interrupt--> INTERRUPTING
 *      |                    |  \                    |   \
 *      |                    |   +-- turn is over ---+    +-- grace is over
 *      |                    |             |                      |
 *      |                    |             v                      v
 *      |                    |          LEAVING ------------> STOPPING
 *      |                    |             |                      |
 *      +--- failed ---------+-------------+----- gone -----------+--> ENDED
 *
 * The first reason given (ai_run_decide) is the outcome; what follows from it
 * is not told. A child that goes without one has ended its stream too early.
 * Loop thread only. */
#ifndef PHOTON_AGENT_TOOLS_AI_RUN_H
#define PHOTON_AGENT_TOOLS_AI_RUN_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#include "agent/tools/ai.h"
#include "common/err.h"

struct ai_run;
struct stdio_peer;

#define AI_RUN_ARGS_MAX  64
#define AI_RUN_LEAVE_MS  5000 /* from the end of the turn until it is told to go */
#define AI_RUN_STOP_MS   3000 /* from TERM to KILL then */
#define AI_RUN_NOISE_MAX 256  /* of the last line that was no message */

enum ai_run_state {
        AI_RUN_OPENING,
        AI_RUN_RUNNING,
        AI_RUN_INTERRUPTING,
        AI_RUN_LEAVING,
        AI_RUN_STOPPING,
        AI_RUN_ENDED
};

struct ai_run_ops {
        const char *program; /* looked for on the child's PATH */
        const char *product; /* for people: "Claude Code" */
        /* The program's arguments (ai_run_arg) and environment (ai_setenv). -E_*: nothing is started. */
        int (*prepare)(struct ai_run *r, struct err *e);
        /* It runs: say what comes first. */
        int (*started)(struct ai_run *r, struct err *e);
        /* A line that begins with '{', as a tree; taken. Other lines are skipped. */
        void (*message)(struct ai_run *r, cJSON *m);
        /* Ask it to end its turn. false: there is no way, it is stopped. */
        bool (*interrupt)(struct ai_run *r);
        /* It is gone without an outcome: decide one, or leave it ("stream_ended"). May be NULL. */
        void (*ended)(struct ai_run *r);
        /* Release what the driver holds, not the memory it stands in. */
        void (*fini)(struct ai_run *r);
};

struct ai_run {
        struct ai ai;
        const struct ai_run_ops *ops;
        enum ai_run_state state;
        char *path, *args[AI_RUN_ARGS_MAX + 2]; /* args[0] is the program's name */
        int n_args;
        struct stdio_peer *peer;
        uv_timer_t timer;
        bool timer_open, held;
        int closing; /* handles and ai that must be gone before the memory goes */
        /* The outcome, once `decided`. */
        bool decided;
        enum tool_outcome outcome;
        char code[64];
        struct err why;
        double session_cost; /* of the session before this call; < 0: not known */
        int stop_ms;         /* patience from TERM to KILL, of a cancel */
        char noise[AI_RUN_NOISE_MAX];
};

/* From tool->start. `size` is the driver's struct, which begins with a struct ai_run and is zeroed; it
 * becomes c->state. */
int ai_run_open(struct tool_call *c, size_t size, const struct ai_run_ops *ops, const cJSON *input,
                struct err *e);
/* Copies it. -E_FULL, -E_NOMEM. */
int ai_run_arg(struct ai_run *r, const char *arg, struct err *e);
/* Two of them. -E_INVAL: a value that would be taken for an option. */
int ai_run_option(struct ai_run *r, const char *name, const char *value, struct err *e);

/* This conversation can be gone on with: the vendor's id of it, and what it has cost altogether (< 0: not
 * known). Each call replaces the last. */
void ai_run_session(struct ai_run *r, const char *id, double cost_usd);

/* Queues a message and frees it (NULL: no memory). A child that does not take it is done for. */
int ai_run_send(struct ai_run *r, cJSON *m);
int ai_run_send_lent(struct ai_run *r, const cJSON *m); /* the same, and frees nothing */

/* Takes what ai_text, event_tool ... say: the child is held back while there is no room for more. */
void ai_run_flow(struct ai_run *r, int rc);

/* Not when it is over, or being ended: what still comes is of no interest. */
static inline bool ai_run_in_turn(const struct ai_run *r)
{
        return r->state == AI_RUN_RUNNING || r->state == AI_RUN_INTERRUPTING;
}

/* code NULL: succeeded. Only the first counts. */
void ai_run_decide(struct ai_run *r, enum tool_outcome o, const char *code, const char *fmt, ...)
        __attribute__((format(printf, 4, 5)));
/* The turn is over: closes its input, and sees to it that it goes. */
void ai_run_leave(struct ai_run *r);
/* It shall end its turn within grace_ms; afterwards it is made to. Decide first. */
void ai_run_interrupt(struct ai_run *r, int grace_ms);
/* TERM now, KILL after grace_ms. */
void ai_run_stop(struct ai_run *r, int grace_ms);

/* Rows of the table of tools point here. */
void ai_run_cancel(struct tool_call *c, int grace_ms);
void ai_run_room(struct tool_call *c);
void ai_run_free(struct tool_call *c);

#endif
