/* The last word of a call: fills a tool_result and hands it to the job. Loop
 * thread only; after it the call must not be touched but by tool->free. */
#ifndef PHOTON_AGENT_TOOLS_ANSWER_H
#define PHOTON_AGENT_TOOLS_ANSWER_H

#include "agent/tools/tool.h"

/* Takes outputs (NULL: {}). */
void answer_ok(struct tool_call *c, cJSON *outputs);
/* Nothing came of it. code NULL: the name of e->code. Takes outputs (may be NULL). */
void answer_bad(struct tool_call *c, enum tool_outcome o, const char *code, const struct err *e,
                cJSON *outputs);

#endif
