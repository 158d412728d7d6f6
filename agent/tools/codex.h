/* codex.prompt: Codex, spoken to through its app-server (JSON-RPC lines without
 * a "jsonrpc" member). Its approvals come to us; what its stream hides is never
 * relied on: the folder is looked at. Loop thread only. */
#ifndef PHOTON_AGENT_TOOLS_CODEX_H
#define PHOTON_AGENT_TOOLS_CODEX_H

#include "agent/tools/tool.h"

extern const char codex_input_schema[];
extern const char codex_output_schema[];

int codex_permit(const struct policy *p, const cJSON *input, struct err *e);
int codex_start(struct tool_call *c, const cJSON *input, struct err *e);

#endif
