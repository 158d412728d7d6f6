/* acp.prompt: asks any program that speaks the Agent Client Protocol (version 1,
 * over its standard input and output), and what is built on it. The rows of the
 * table; all functions are for the job. */
#ifndef PHOTON_AGENT_TOOLS_ACP_H
#define PHOTON_AGENT_TOOLS_ACP_H

#include "agent/tools/tool.h"

extern const char acp_input_schema[], acp_output_schema[], acp_known_input_schema[];

int acp_permit(const struct policy *p, const cJSON *input, struct err *e);
int acp_start(struct tool_call *c, const cJSON *input, struct err *e);
/* A call of a well-known program (acp_agents.h) under the name of the call's tool. argv0: what it is called
 * on this machine; NULL: as usual. */
int acp_start_known(struct tool_call *c, const cJSON *input, const char *program, const char *argv0,
                    struct err *e);
void acp_cancel(struct tool_call *c, int grace_ms);
void acp_output_room(struct tool_call *c);
void acp_free(struct tool_call *c);

int gemini_permit(const struct policy *p, const cJSON *input, struct err *e);
int gemini_start(struct tool_call *c, const cJSON *input, struct err *e);

#endif
