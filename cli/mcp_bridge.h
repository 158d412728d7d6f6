/* MCP on standard input and output, carried to the hub's /mcp: one JSON-RPC message a line
 * in, one a line out, and nothing else on standard output, ever.
 *
 * Each request becomes a POST of its own, many at once; what comes back, JSON or events, is
 * written as it comes. A session that the hub does not know any more (it was restarted) is opened
 * again behind the client's back. One thread. */
#ifndef PHOTON_CLI_MCP_BRIDGE_H
#define PHOTON_CLI_MCP_BRIDGE_H

#include <stdbool.h>
#include <stddef.h>

struct client;
struct err;
struct mcp_bridge;

#define MCP_LINE_MAX   ((size_t)16 << 20)
#define MCP_CALLS_MAX  64
#define MCP_HEADER_MAX 1024

/* `put` gets each message without a newline; false: nobody reads any more. */
int mcp_bridge_create(struct client *c, bool (*put)(void *ctx, const char *line, size_t n), void *ctx,
                      struct mcp_bridge **out, struct err *e);
void mcp_bridge_free(struct mcp_bridge *b); /* accepts NULL; gives up what is in flight */
/* One line of the client's, without its newline. -E_NOMEM. */
int mcp_bridge_line(struct mcp_bridge *b, const char *line, size_t n, struct err *e);
/* A line longer than MCP_LINE_MAX was dropped. */
void mcp_bridge_too_long(struct mcp_bridge *b);
size_t mcp_bridge_calls(const struct mcp_bridge *b); /* in flight */
bool mcp_bridge_broken(const struct mcp_bridge *b);  /* `put` said false */
/* Ends the session, which cancels what is in flight in it; over when no call is left. */
void mcp_bridge_close(struct mcp_bridge *b);

/* A header that carries `value` whatever is in it (=?base64?...?= where it must); mem_free. NULL: no memory.
 */
char *mcp_header(const char *name, const char *value);

#endif
