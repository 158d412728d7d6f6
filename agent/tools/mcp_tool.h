/* The tools of one MCP server as rows of the table: names, schemas and effects
 * made into what PHOTON takes, from the objects that tools/list gives. Pure but
 * for the memory; who holds a list owns its tools. */
#ifndef PHOTON_AGENT_TOOLS_MCP_TOOL_H
#define PHOTON_AGENT_TOOLS_MCP_TOOL_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>

#include "agent/tools/tool.h"

struct err;
struct mcp_server;

#define MCP_TOOLS_MAX       256                /* of one server */
#define MCP_TOOL_NAME_MAX   128                /* of mcp.SERVER.TOOL */
#define MCP_SCHEMA_MAX      ((size_t)60 << 10) /* of one schema; a larger one is left out */
#define MCP_DESCRIPTION_MAX ((size_t)4 << 10)
#define MCP_HEADERS_MAX     16 /* x-mcp-header declarations of one tool */

struct mcp_tool {
        struct tool row;
        struct mcp_server *server;
        char *name, *original, *description, *input_schema, *output_schema, *detail;
        cJSON *check;   /* of structuredContent, or NULL */
        cJSON *headers; /* {"Mcp-Param-X": ["path", "to", "argument"]}, or NULL */
        unsigned calls; /* that run */
        bool listed;    /* in the table */
};

/* Reads one object of tools/list. `taken`: does a name exist already? -E_INVAL: it is no tool, and why;
 * -E_NOMEM. The row has everything but its functions and data. */
int mcp_tool_make(const char *server, const cJSON *t, bool (*taken)(void *arg, const char *name), void *arg,
                  struct mcp_tool **out, struct err *e);
/* When neither listed nor called. */
void mcp_tool_free(struct mcp_tool *t);
/* Would anybody see a difference? */
bool mcp_tool_same(const struct mcp_tool *a, const struct mcp_tool *b);
/* The headers of a call with these arguments: an object of texts, or NULL if there are none. */
cJSON *mcp_tool_headers(const struct mcp_tool *t, const cJSON *arguments);

#endif
