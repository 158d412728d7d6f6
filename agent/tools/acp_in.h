/* The inside of the ACP client: one call. acp.c owns its life, acp_open.c what
 * comes before the turn, acp_talk.c the turn, acp_ask.c the agent's questions. Loop thread only. */
#ifndef PHOTON_AGENT_TOOLS_ACP_IN_H
#define PHOTON_AGENT_TOOLS_ACP_IN_H

#include <uv.h>

#include "agent/tools/acp_agents.h"
#include "agent/tools/acp_error.h"
#include "agent/tools/acp_offer.h"
#include "agent/tools/acp_update.h"
#include "agent/tools/ai.h"
#include "agent/tools/ai_session.h"
#include "agent/tools/jsonrpc.h"
#include "agent/tools/stdio_peer.h"
#include "common/list.h"

/*  LOOKING [-> WAITING] -> INITIALIZING [-> AUTHENTICATING] -> OPENING -> SETTING [-> SETTLING] -> READING ->
 * PROMPTING |          |               |                                                               | | |
 * |               | anything wrong, cancel                           cancel, limit     answer |          | v
 * v          | |          |            LEAVING <----------- answer, or patience over ---------------
 * CANCELLING      | |          |               |
 * ^------------------------------------------------------------------------+
 *     +--cancel--+-> GONE <------+ gone with all it started */
enum acp_state {
        ACP_LOOKING,        /* at the folder */
        ACP_WAITING,        /* for the moment when the session can be opened again */
        ACP_INITIALIZING,   /* the program runs and says what it can do */
        ACP_AUTHENTICATING, /* the few that want it asked for */
        ACP_OPENING,        /* session/new, session/load or session/resume */
        ACP_SETTING,        /* mode and model */
        ACP_SETTLING,       /* until the old conversation has been told again */
        ACP_READING,        /* the files that travel with the prompt */
        ACP_PROMPTING,
        ACP_CANCELLING, /* session/cancel is sent; the turn's answer is awaited */
        ACP_LEAVING,    /* the program is on its way out */
        ACP_GONE,       /* no process of it is left */
};

#define ACP_INIT_MS  60000  /* initialize, authenticate, mode and model: nothing of a model is in them */
#define ACP_OPEN_MS  120000 /* a session: MCP servers are started for it, an old one is read back */
#define ACP_QUIET_MS 250    /* Gemini CLI tells an old conversation after it has answered session/load */
#define ACP_LEAVE_MS 2500   /* from the end of its input to TERM: time to write its session down */
#define ACP_KILL_MS  2000   /* from TERM to KILL, where no cancel says otherwise */

struct acp_reading;

struct acp {
        struct ai ai;
        struct tool_call *c;
        enum acp_state state;
        struct acp_program program;
        const char *tool; /* its name */
        struct ai_session resumed;
        bool resumes, stalled;
        int64_t opened_ms;
        struct acp_offer offer;
        struct acp_view view;
        struct jsonrpc rpc;
        struct stdio_peer *peer;
        uv_timer_t timer;                    /* of the state */
        bool timer_open, held, half, closed; /* closed: it has ended its standard output */
        struct list asks;                    /* questions that the agent waits for */
        struct acp_reading *reading;
        char *session; /* the agent's own id of it */
        unsigned noise;
        int kill_ms;
        /* What becomes of the call; the first word counts. */
        bool decided;
        enum tool_outcome outcome;
        char code[64];
        struct err why;
};

/* --- acp.c --- */

bool acp_move(struct acp *x, enum acp_state to);
void acp_timer(struct acp *x, int ms, uv_timer_cb cb);
/* The call's outcome, unless there is one. code NULL: it succeeded. */
void acp_decide(struct acp *x, enum tool_outcome o, const char *code, const struct err *why);
void acp_decidef(struct acp *x, enum tool_outcome o, const char *code, const char *fmt, ...)
        __attribute__((format(printf, 4, 5)));
void acp_on_slow_start(uv_timer_t *t);
/* Ends the program: politely, or (now) with TERM at once. */
void acp_leave(struct acp *x, bool now);
/* Asks it to end the turn; patience for its answer. */
void acp_stop_turn(struct acp *x, int patience_ms);
/* The last line of its standard error; "" if there is none. Lent until the next call. */
const char *acp_last_words(struct acp *x);

/* --- acp_open.c --- */

void acp_initialize(struct acp *x);
/* m: the error that was the answer; NULL: it only said so in its last words. */
void acp_fail(struct acp *x, enum acp_phase phase, const struct jsonrpc_msg *m);
/* Takes params (NULL: no memory). The child's pipe may be broken: then its end is near and says why. */
void acp_call(struct acp *x, const char *method, cJSON *params,
              void (*on_answer)(void *arg, const struct jsonrpc_msg *m));
/* An object with the session's id, where there is one. */
cJSON *acp_params(const struct acp *x);

/* --- acp_talk.c --- */

/* After a session is as it should be. */
void acp_prompt(struct acp *x);
/* The end of what it said last, beginning with a whole character. */
const char *acp_tail(const struct acp *x);
void acp_message(struct acp *x, char *text, size_t n);
void acp_reading_abandon(struct acp *x);

/* --- acp_ask.c --- */

void acp_ask(struct acp *x, const struct jsonrpc_msg *m);
/* Nobody waits for answers any more: each question is withdrawn; tell: and answered "cancelled". */
void acp_ask_withdraw(struct acp *x, bool tell);

#endif
