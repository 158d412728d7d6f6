/* The hub as a server of the Model Context Protocol, at /mcp of the HTTPS API: the inside
 * that its files share.
 *
 *   mcp_rpc.c      messages and terms, pure
 *   mcp.c          POST and DELETE: who asks, in which session, which method
 *   mcp_tools.c    tools/list and tools/call: a tool is the handler of another route
 *   mcp_table.c    the tools: names, schemas, the routes behind them
 *   mcp_stream.c   an answer that takes its time: progress first, the result last
 *   mcp_watch.c    following a run
 *   mcp_logs.c     a piece of what a step wrote
 *   mcp_resources.c  runs and questions by URI, read as the API has them
 *   mcp_listen.c   subscriptions/listen: which of them changed, as they do
 *   mcp_session.c  the legacy era's sessions
 *
 * All but the sessions runs on the HTTP threads. */
#ifndef PHOTON_HTTP_MCP_H
#define PHOTON_HTTP_MCP_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hub/http/mcp_resources.h"
#include "hub/http/mcp_rpc.h"
#include "hub/http/mcp_session.h"
#include "hub/http/request.h"

#define MCP_RESULT_MAX                                                                                       \
        ((size_t)4 << 20) /* of an answer's own text; it is sent twice, as text and structured */

struct jsonw;
struct mcp_tool;

/* One message being served. Owned by its request, then by the stream that answers it. */
struct mcp_call {
        struct http *h;
        const struct route *route; /* /mcp itself, while another is inside */
        struct caller caller;
        struct mcp_msg msg;
        struct mcp_terms terms;
        struct mcp_fault fault; /* code 0: none */
        bool takes_json, takes_sse;
        unsigned can;                 /* MCP_CAN_*: what the client said it can */
        char session[MCP_SESSION_ID]; /* "": none */
        bool deletes;
        struct mcp_flight *flight; /* legacy requests in a session */
        /* tools/call */
        const struct mcp_tool *tool;
        const cJSON *args; /* in msg, or `none` */
        cJSON *none, *query;
        /* resources/read */
        const char *uri;
        struct mcp_resource resource;
        /* The answer of the route that served inside of this request (q->out), or its problem. */
        int (*deliver)(struct http_req *q, struct mcp_call *c, bool good);
        const char *meta; /* further members of the result's _meta, with a comma before; NULL: none; lent */
        int64_t wait_ms;
        size_t tail_bytes;
};

void mcp_inner_free(void *call);

/* 0: answered or on its way; -1: c->fault says why not. */
typedef int (*mcp_handler)(struct http_req *q, struct mcp_call *c);

#define MCP_IN_LEGACY (1u << MCP_LEGACY)
#define MCP_IN_MODERN (1u << MCP_MODERN)

struct mcp_method {
        const char *name;
        unsigned eras;
        mcp_handler handler;
};

enum mcp_tool_flags {
        MCP_READS = 1,      /* changes nothing */
        MCP_DESTROYS = 2,   /* what it changes may not come back */
        MCP_IDEMPOTENT = 4, /* twice is as good as once */
        MCP_OPEN = 8,       /* reaches what lies outside of the hub */
        MCP_FOLLOWS = 16,   /* the route names a run; the answer comes when that is over */
        MCP_OWNS = 32,      /* and the run is cancelled with the call */
};

struct mcp_tool {
        const char *name, *title, *description;
        const char *method, *pattern;         /* the route: its permission holds, its handler serves */
        const char *params[ROUTE_PARAMS_MAX]; /* the arguments that its path takes */
        const char *query, *body;             /* and those that go there, separated by a space */
        unsigned flags;
        const char *input, *output; /* JSON Schemas; output NULL: none */
        /* NULL: the route's handler. -E_*: what the caller is told as a failed call. */
        int (*call)(struct http_req *q, struct mcp_call *c, struct err *e);
};

/* The table (mcp_table.c); ends with name NULL. */
extern const struct mcp_tool mcp_tools[];
extern const char mcp_instructions[];

/* More of the protocol than the product has: a test build links one (tests/conformance) for what the
 * official conformance suite wants to call. Absent, and so NULL, everywhere else. */
struct mcp_extra {
        const char *capabilities[2]; /* by enum mcp_era: JSON members with a leading comma */
        const struct mcp_method *methods;
        const struct mcp_tool *tools;
};
extern const struct mcp_extra mcp_extra __attribute__((weak));

/* ---- answering: each turns `q` into an answer; 0, or -1 with the fault when memory ran out ---- */

/* {"jsonrpc","id","result":{MEMBERS...}}, with what the era adds. `type`: "complete" or "input_required". */
int mcp_write_result(struct buf *b, const struct mcp_call *c, const char *type, const char *members);
int mcp_answer(struct http_req *q, struct mcp_call *c, const char *members);
int mcp_answer_typed(struct http_req *q, struct mcp_call *c, const char *type, const char *members);
/* c->fault. */
void mcp_answer_fault(struct http_req *q, struct mcp_call *c);
/* The members of a tool's result: `json` as text and, where it fits the output schema, structured. */
int mcp_tool_members(struct buf *b, const char *json, size_t n, bool structured, bool failed);
/* A call that did not work, in words for a model to read. */
int mcp_answer_tool_error(struct http_req *q, struct mcp_call *c, const char *text, const char *code);
int mcp_no_memory(struct mcp_call *c);
/* What an inner request failed with: its sentence and its code, which live as long as the document returned
 * (cJSON_Delete; NULL where the hub had no memory for it, and says so). */
cJSON *mcp_problem(const struct http_req *q, const char **detail, const char **code);
/* A list that comes in one page: `put` writes what is in the array `key`. A request that names a cursor is
 * refused, since nobody was given one. */
int mcp_answer_list(struct http_req *q, struct mcp_call *c, const char *key,
                    void (*put)(struct jsonw *w, void *arg), void *arg);

/* ---- the methods ---- */
int mcp_tools_list(struct http_req *q, struct mcp_call *c);
int mcp_tools_call(struct http_req *q, struct mcp_call *c);

/* mcp_watch.c: follows the run; takes c, but not on failure. */
int mcp_watch(struct http_req *q, struct mcp_call *c, const char *run_id, struct err *e);
/* The handler of this route serves; what it asks for is placed already (q->param, c->query, q->body). What it
 * answers goes to c->deliver. */
int mcp_enter(struct http_req *q, struct mcp_call *c, const char *method, const char *pattern, struct err *e);
/* May the caller, there? The guard reads the arguments where the route's own request would have them. */
int mcp_admit(struct http_req *q, const struct mcp_call *c, const struct route *r, struct err *e);
const struct route *mcp_route(const char *method, const char *pattern);
/* As if no other route had been in it. */
void mcp_leave(struct http_req *q, struct mcp_call *c);
/* The tool answer_checkpoint. */
int mcp_answer_checkpoint(struct http_req *q, struct mcp_call *c, struct err *e);
int mcp_resources_list(struct http_req *q, struct mcp_call *c);
int mcp_resource_templates(struct http_req *q, struct mcp_call *c);
int mcp_resources_read(struct http_req *q, struct mcp_call *c);
/* subscriptions/listen */
int mcp_listen(struct http_req *q, struct mcp_call *c);

/* mcp_logs.c: the tool read_logs. */
int mcp_read_logs(struct http_req *q, struct mcp_call *c, struct err *e);

#endif
