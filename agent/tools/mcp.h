/* MCP client: each tool of each configured server is a tool mcp.SERVER.TOOL of
 * this agent (docs/TOOLS.md).
 *
 * What a server's tools are is kept on disk, so that a start of the agent needs
 * no server that it has met before; the others are started once, two at a time,
 * in the background. A server runs from the first call until it was idle for
 * idle_timeout. One set per process; loop thread only. */
#ifndef PHOTON_AGENT_TOOLS_MCP_H
#define PHOTON_AGENT_TOOLS_MCP_H

#include <cjson/cJSON.h>
#include <stddef.h>
#include <uv.h>

struct err;
struct mcp_configs;
struct policy;

#define MCP_BACKGROUND 2    /* servers that are started at once only to learn their tools */
#define MCP_RETRY_MS   5000 /* doubled each time */
#define MCP_RETRY_MAX  600000
#define MCP_PROBE_MS   10000 /* for an answer to server/discover from a program that may not know it */
#define MCP_PAGES_MAX  64    /* of tools/list */
#define MCP_GRACE_MS   2000
#define MCP_CACHE_MAX  ((size_t)8 << 20)

struct mcp_options {
        uv_loop_t *loop;
        const struct policy *policy; /* its env; lent */
        const char *scratch_root;    /* marks processes */
        const char *cache_dir;       /* made when needed; NULL: nothing is kept */
};

/* Takes the configurations, also on failure. */
int mcp_open(const struct mcp_options *o, struct mcp_configs *configs, struct err *e);
/* No call may be live. What runs is ended at once; run the loop until it is empty. */
void mcp_close(void);
/* [{name, state, tools, error ...}] for status and doctor; NULL: no memory. */
cJSON *mcp_describe(void);

#endif
