/* The result of tools/call as MCP servers give it, made into the outputs of a
 * call. Pure; bounded whatever the server says. */
#ifndef PHOTON_AGENT_TOOLS_MCP_RESULT_H
#define PHOTON_AGENT_TOOLS_MCP_RESULT_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>

struct err;

#define MCP_TEXT_MAX    ((size_t)1 << 20) /* of outputs.text: the end of it; the log has all */
#define MCP_BLOCKS_MAX  1000              /* of content */
#define MCP_CONTENT_MAX ((size_t)2 << 20) /* of outputs.content; larger blocks are told by size only */
#define MCP_INPUTS_MAX  16                /* questions in one answer (2026-07-28) */

struct mcp_result {
        bool input_required; /* 2026-07-28: answer inputs, then call again */
        const cJSON *inputs; /* {key: {method, params}}; points into the result */
        const char *state;   /* requestState, or NULL; points into the result */
        bool is_error;
        cJSON *outputs; /* owned: text, text_truncated, structured, content */
};

/* on_text gets each piece of text in order, as it is. check: schema of structuredContent, or NULL. -E_PROTO:
 * it is no such result; -E_INVAL: structuredContent does not fit; -E_NOMEM. */
int mcp_result_read(const cJSON *result, const cJSON *check,
                    void (*on_text)(void *arg, const char *p, size_t n), void *arg, struct mcp_result *out,
                    struct err *e);
void mcp_result_fini(struct mcp_result *r);

#endif
