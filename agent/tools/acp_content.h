/* What goes to an ACP agent with a call: the blocks of the prompt (text, and
 * files in the form that the agent can take) and the MCP servers. */
#ifndef PHOTON_AGENT_TOOLS_ACP_CONTENT_H
#define PHOTON_AGENT_TOOLS_ACP_CONTENT_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>

struct acp_offer;
struct ai;
struct err;

#define ACP_EMBED_MAX   ((size_t)256 << 10) /* bytes of a text file that travels with the prompt */
#define ACP_IMAGE_MAX   ((size_t)5 << 20)
#define ACP_CONTENT_MAX ((size_t)12 << 20) /* of all files together; the rest are links */

/* Blocking (reads the files): for a worker thread. files: array of absolute paths, or NULL. A file that
 * cannot be read here travels as a link. -E_NOMEM. */
int acp_content(const char *prompt, const cJSON *files, bool images, bool embedded, cJSON **out);

/* servers: NAME: {command, args, env} or {url, headers, type}, as the input has it (NULL: none). -E_INVAL:
 * not of that form; -E_NOTSUP: the agent cannot reach such a server; -E_DENIED: the policy. Loop thread. */
int acp_servers(const struct ai *ai, const cJSON *servers, const struct acp_offer *o, cJSON **out,
                struct err *e);

#endif
