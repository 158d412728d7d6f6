/* The Model Context Protocol's messages, apart from what they do: JSON-RPC 2.0 read from a
 * body, and the terms on which it is meant: which revision, which headers must agree.
 *
 * Two eras are served at once. Up to 2025-11-25 a client opens with `initialize` and may hold
 * a session; from 2026-07-28 on each request stands alone and says in `_meta` what
 * `initialize` said once. Pure; any thread. */
#ifndef PHOTON_HTTP_MCP_RPC_H
#define PHOTON_HTTP_MCP_RPC_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>

#include "common/err.h"

struct buf;

#define MCP_MODERN_VERSION "2026-07-28"
#define MCP_LEGACY_VERSION "2025-11-25" /* the newest of its era */
#define MCP_META           "io.modelcontextprotocol/"
#define MCP_ID_MAX         256                /* bytes of a request's id */
#define MCP_INT_MAX        9007199254740992.0 /* of a numeric id; beyond it a double is not exact */
#define MCP_METHOD_MAX     128

/* JSON-RPC's numbers, and those that MCP adds. */
#define MCP_E_PARSE      (-32700)
#define MCP_E_REQUEST    (-32600)
#define MCP_E_METHOD     (-32601)
#define MCP_E_PARAMS     (-32602)
#define MCP_E_INTERNAL   (-32603)
#define MCP_E_SERVER     (-32000)
#define MCP_E_SESSION    (-32001)
#define MCP_E_HEADER     (-32020)
#define MCP_E_CAPABILITY (-32021)
#define MCP_E_VERSION    (-32022)

enum mcp_era { MCP_LEGACY, MCP_MODERN };
enum mcp_kind { MCP_REQUEST, MCP_NOTIFICATION, MCP_RESPONSE };

/* Why a message is not served: the JSON-RPC error and the HTTP status it travels with. */
struct mcp_fault {
        int code; /* 0: none */
        int status;
        struct err why;
        char *data; /* JSON or NULL; mem_free */
};

struct mcp_msg {
        cJSON *doc; /* owned; the others point into it */
        enum mcp_kind kind;
        const cJSON *id;     /* a request's or response's; NULL: none */
        const char *method;  /* NULL: a response */
        const cJSON *params; /* an object, or NULL */
        const cJSON *meta;   /* params._meta, an object, or NULL */
        const cJSON *result; /* of a response; NULL: it carries an error */
};

/* As the request had them; NULL: absent. */
struct mcp_headers {
        const char *version, *method, *name;
};

struct mcp_terms {
        enum mcp_era era;
        const char *version;         /* one of ours; static */
        const cJSON *capabilities;   /* modern: the client's, in the message; NULL: none stated here */
        const cJSON *progress_token; /* a string or number, or NULL */
        const char *log_level;       /* modern: asked for, or NULL */
};

/* One message; batches are refused (no revision since 2025-06-18 has them). Non-zero: `f` says why, and
 * out->id is set where it could be read; mcp_msg_fini in any case. */
int mcp_parse(const char *text, size_t n, struct mcp_msg *out, struct mcp_fault *f);
void mcp_msg_fini(struct mcp_msg *m);
void mcp_fault_fini(struct mcp_fault *f);
/* Returns -1, so that a check can end with it. */
int mcp_fault_set(struct mcp_fault *f, int code, int status, const char *fmt, ...)
        __attribute__((format(printf, 4, 5)));

/* Which era, and do the headers say what the body says? Non-zero: `f` says why not. */
int mcp_settle(const struct mcp_msg *m, const struct mcp_headers *h, struct mcp_terms *out,
               struct mcp_fault *f);
/* The revision that answers an `initialize` that asks for this one. */
const char *mcp_negotiate(const char *asked);
/* The version of the legacy era by its header, NULL for one we do not speak; absent: 2025-03-26. */
const char *mcp_legacy_version(const char *header);

/* Has the client stated this capability ("elicitation", "sampling", "roots")? */
bool mcp_can(const cJSON *capabilities, const char *name);

/* {"jsonrpc":"2.0","id":ID,"error":{...}}; id NULL: null. */
int mcp_write_error(struct buf *b, const cJSON *id, const struct mcp_fault *f);

#endif
