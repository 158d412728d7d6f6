/* What an MCP client can read by a URI and watch: the runs, the open questions, and each of them.
 *
 *   photon://runs          photon://runs/RUN
 *   photon://checkpoints   photon://checkpoints/CHECKPOINT
 *
 * Each is a GET of the API, with its permission and its document. The table is pure; any thread. */
#ifndef PHOTON_HTTP_MCP_RESOURCES_H
#define PHOTON_HTTP_MCP_RESOURCES_H

#include "hub/model/access.h"

struct http_thread;

#define MCP_RESOURCE_ID  64 /* a run's or question's, with the NUL */
#define MCP_RESOURCE_URI 96 /* of the longest, with the NUL */

enum mcp_resource_kind { MCP_RUNS, MCP_RUN, MCP_CHECKPOINTS, MCP_CHECKPOINT, MCP_RESOURCE_KINDS };

struct mcp_resource {
        enum mcp_resource_kind kind;
        char id[MCP_RESOURCE_ID]; /* "": the whole list */
};

/* -E_NOENT: it is no URI of ours. Whether there is such a run only the store knows. */
int mcp_resource_parse(const char *uri, struct mcp_resource *out);
void mcp_resource_uri(const struct mcp_resource *r, char out[MCP_RESOURCE_URI]);
/* Of the route behind it. */
enum permission mcp_resource_permission(enum mcp_resource_kind kind);
const char *mcp_resource_pattern(enum mcp_resource_kind kind);

#endif
