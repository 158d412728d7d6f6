/* The road to one MCP server, whichever it is: a child process on pipes
 * (mcp_stdio.c) or streamable HTTP (mcp_http.c). Carries JSON-RPC messages;
 * what they mean is mcp_server.c's.
 *
 * Every callback comes from the loop, never from within a function here; after
 * on_down (the last one) the holder frees the link. Loop thread only. */
#ifndef PHOTON_AGENT_TOOLS_MCP_LINK_H
#define PHOTON_AGENT_TOOLS_MCP_LINK_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct err;
struct mcp_config;
struct mcp_link;
struct policy;

#define MCP_MESSAGE_MAX ((size_t)16 << 20) /* of one message, either way */
#define MCP_NO_REQUEST  UINT64_MAX

/* Why a request got no answer. */
struct mcp_failure {
        int status; /* of HTTP; 0: none came */
        const char
                *code; /* stable: unauthorized, session_lost, http_status, connect_failed, stream_ended ... */
        const char *text; /* body of the answer, as far as it was kept; or "" */
        const struct err *why;
};

struct mcp_link_options {
        uv_loop_t *loop;
        const struct mcp_config *config; /* lent, outlives the link */
        const struct policy *policy;
        const char *scratch_root; /* marks the processes of this agent */
        /* A message from the server; `request` is the one in whose stream it came (HTTP), or MCP_NO_REQUEST.
         * text may be written to. True: it is the answer to that request. */
        bool (*on_message)(void *arg, char *text, size_t n, uint64_t request);
        /* HTTP: nothing more comes for this request. Its answer may have come before: then nobody waits. */
        void (*on_failed)(void *arg, uint64_t request, const struct mcp_failure *f);
        /* It is gone: the process ended, or mcp_link_close is through. why: in words, for people. */
        void (*on_down)(void *arg, const char *why);
        void *arg;
};

struct mcp_link_ops {
        int (*send)(struct mcp_link *l, const cJSON *message, const cJSON *headers);
        void (*drop)(struct mcp_link *l, uint64_t request);
        void (*close)(struct mcp_link *l, int grace_ms);
        void (*abandon)(struct mcp_link *l);
        void (*free)(struct mcp_link *l);
        const char *(*words)(struct mcp_link *l);
};
struct mcp_link { /* first member of each kind */
        const struct mcp_link_ops *ops;
        struct mcp_link_options o;
        char version[32]; /* the revision agreed on, "" before; set by the holder */
        bool modern;
};

int mcp_stdio_open(const struct mcp_link_options *o, struct mcp_link **out, struct err *e);
int mcp_http_open(const struct mcp_link_options *o, struct mcp_link **out, struct err *e);

/* A request, notification or answer of ours. headers: object of texts that HTTP sends besides, or NULL.
 * -E_FULL, -E_TOOBIG, -E_CLOSED, -E_NOMEM. */
static inline int mcp_link_send(struct mcp_link *l, const cJSON *message, const cJSON *headers)
{
        return l->ops->send(l, message, headers);
}
/* Nobody waits for this request any more: its stream is closed, which for HTTP is how one cancels. */
static inline void mcp_link_drop(struct mcp_link *l, uint64_t request)
{
        l->ops->drop(l, request);
}
/* Politely; on_down follows. */
static inline void mcp_link_close(struct mcp_link *l, int grace_ms)
{
        l->ops->close(l, grace_ms);
}
/* At once, no more callbacks; frees itself. */
static inline void mcp_link_abandon(struct mcp_link *l)
{
        l->ops->abandon(l);
}
static inline void mcp_link_free(struct mcp_link *l)
{
        if (l)
                l->ops->free(l);
}
/* What it said last on standard error; lent. "" for HTTP. */
static inline const char *mcp_link_words(struct mcp_link *l)
{
        return l->ops->words(l);
}

#endif
