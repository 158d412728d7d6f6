/* llm.chat and zai.chat: one question to a model endpoint of this machine,
 * the answer streamed as typed events.
 *
 *   LOADING --files, key--> ASKING --answer begins--> ANSWERING --> OVER
 *                             |  ^
 *                   429, 5xx  v  | Retry-After
 *                            WAITING
 *
 * Before the first token a request is tried again, as long as the deadline
 * allows; after it never. Table rows are in table.c. */
#ifndef PHOTON_AGENT_TOOLS_LLM_H
#define PHOTON_AGENT_TOOLS_LLM_H

#include "agent/tools/tool.h"

int llm_chat_permit(const struct policy *p, const cJSON *input, struct err *e);
int zai_chat_permit(const struct policy *p, const cJSON *input, struct err *e);
int llm_chat_start(struct tool_call *c, const cJSON *input, struct err *e);
int zai_chat_start(struct tool_call *c, const cJSON *input, struct err *e);
void llm_cancel(struct tool_call *c, int grace_ms);
void llm_output_room(struct tool_call *c);
void llm_free(struct tool_call *c);
const char *llm_describe(const struct tool *t);
const char *zai_describe(const struct tool *t);

#endif
