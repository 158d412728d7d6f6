/* The parts of the MCP client: mcp.c (all servers), mcp_server.c (life of one),
 * mcp_list.c (its tools), mcp_call.c (one call), mcp_ask.c (what a server asks). */
#ifndef PHOTON_AGENT_TOOLS_MCP_IN_H
#define PHOTON_AGENT_TOOLS_MCP_IN_H

#include "agent/tools/jsonrpc.h"
#include "agent/tools/mcp.h"
#include "agent/tools/mcp_config.h"
#include "agent/tools/mcp_link.h"
#include "agent/tools/mcp_tool.h"
#include "agent/tools/tool.h"
#include "common/err.h"
#include "common/list.h"

#define MCP_MODERN   "2026-07-28"
#define MCP_LEGACY   "2025-11-25"
#define MCP_META     "io.modelcontextprotocol/"
#define MCP_ASKS_MAX ASK_OPEN_MAX

enum server_state {
        SERVER_OFF,
        SERVER_PROBING,      /* server/discover was sent */
        SERVER_INITIALIZING, /* initialize was sent */
        SERVER_LISTING,      /* tools/list was sent */
        SERVER_READY,
        SERVER_CLOSING,
};

struct mcp_server {
        const struct mcp_config *config;
        enum server_state state;
        struct mcp_link *link; /* NULL in SERVER_OFF */
        struct jsonrpc rpc;    /* as long as link */
        bool modern, known_legacy, discovered, asked_again, has_tools, background, listing_again, list_stale;
        const struct mcp_failure *failure; /* while an answer is told that never came */
        const cJSON *headers;              /* while a call is sent */
        struct list waiting, calls;        /* of mcp_call: until it is ready; sent */
        uint64_t next_token;
        uv_timer_t clock; /* of the state: start-up, idle, retry */
        uv_timer_t probe; /* until initialize is tried; when ready: until the tools may be read again */
        unsigned failures;
        unsigned complaints; /* about what it sends, since it was started */
        char *error;         /* why it last failed; NULL: it did not */
        struct mcp_tool **tools;
        size_t n_tools;
        cJSON *pages; /* of tools/list, while they come */
        int n_pages;
        uint64_t list_request;
        bool listed; /* its tools are known, from the disk or from itself */
};

/* --- mcp.c */
extern struct mcp_set {
        struct mcp_options o;
        char *scratch_root, *cache_dir;
        struct mcp_configs configs;
        struct mcp_server *servers;
        size_t n;
        int handles;
        bool open;
} mcp;
void mcp_background(void); /* one that was started in the background is through: the next */

/* --- mcp_server.c */
const char *server_state_name(enum server_state s);
void server_want(struct mcp_server *s); /* somebody waits for it, or its tools are wanted */
void server_idle(struct mcp_server *s); /* a call went: perhaps it was the last */
void server_drop_session(struct mcp_server *s);
/* The members that go into params of a request of 2026-07-28; false: no memory. */
bool server_envelope(struct mcp_server *s, cJSON *params);
/* It is of no use: tells those who wait, closes it. */
void server_fail(struct mcp_server *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* --- mcp_list.c */
/* Asks for all pages; on_listed ends it. */
int list_begin(struct mcp_server *s);
/* They do not come: whatever is told of them later is not heard. */
void list_forget(struct mcp_server *s);
void list_load(struct mcp_server *s); /* from the disk */
void list_unlist(struct mcp_server *s);
void server_listed(struct mcp_server *s, const char *why); /* why: it failed; in mcp_server.c */

/* --- mcp_call.c */
struct mcp_call {
        struct list link; /* of server's waiting or calls */
        struct tool_call *c;
        struct mcp_tool *tool;
        struct mcp_server *server;
        enum { CALL_WAITING, CALL_SENT, CALL_ENDING, CALL_OVER } state;
        cJSON *arguments;
        uint64_t request, token;
        uv_timer_t limit;
        bool limit_open, full, retried;
        struct list asks;
        unsigned open_asks, rounds;
        cJSON *responses; /* to an input_required, by key */
        char *request_state;
        cJSON *outputs;
        enum tool_outcome outcome;
        char code[64];
        struct err why;
};
int mcp_call_start(struct tool_call *c, const cJSON *input, struct err *e);
void mcp_call_cancel(struct tool_call *c, int grace_ms);
void mcp_call_room(struct tool_call *c);
void mcp_call_free(struct tool_call *c);
void mcp_call_go(struct mcp_call *k); /* the server is ready */
void mcp_call_end(struct mcp_call *k, enum tool_outcome o, const char *code, int err, const char *fmt, ...)
        __attribute__((format(printf, 5, 6)));
void mcp_call_progress(struct mcp_server *s, const cJSON *params);
void mcp_call_log(struct mcp_server *s, uint64_t request, const cJSON *params);
void mcp_call_clock(struct mcp_call *k); /* a question was opened or closed */
struct mcp_call *mcp_call_of(struct mcp_server *s,
                             uint64_t request); /* whose stream it is; else the last one */

/* --- mcp_ask.c */
void ask_request(struct mcp_server *s, const struct jsonrpc_msg *m,
                 uint64_t request); /* elicitation/create */
void ask_cancelled(struct mcp_server *s, const cJSON *params);
/* The questions of an input_required; mcp_call_go when all have their answer. */
void ask_inputs(struct mcp_call *k, const cJSON *inputs);
void ask_end(struct mcp_call *k); /* the call is over: nobody waits any more */

#endif
