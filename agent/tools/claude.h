/* claude-code.prompt: Claude Code, spoken to in its stream-json control protocol
 * over stdin and stdout. What it may do it asks us (--permission-prompt-tool
 * stdio); its bypass mode is never used. Loop thread only. */
#ifndef PHOTON_AGENT_TOOLS_CLAUDE_H
#define PHOTON_AGENT_TOOLS_CLAUDE_H

#include "agent/tools/tool.h"

extern const char claude_input_schema[];
extern const char claude_output_schema[];

int claude_permit(const struct policy *p, const cJSON *input, struct err *e);
int claude_start(struct tool_call *c, const cJSON *input, struct err *e);

#endif
