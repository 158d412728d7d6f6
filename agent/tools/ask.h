/* photon.ask: a question to people as a step of its own. Loop thread only. */
#ifndef PHOTON_AGENT_TOOLS_ASK_H
#define PHOTON_AGENT_TOOLS_ASK_H

#include "agent/tools/tool.h"

extern const char ask_input_schema[], ask_output_schema[];

int ask_permit(const struct policy *p, const cJSON *input, struct err *e);
int ask_start(struct tool_call *c, const cJSON *input, struct err *e);
void ask_cancel(struct tool_call *c, int grace_ms);
void ask_free(struct tool_call *c);

#endif
