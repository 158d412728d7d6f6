/* What a model is asked to do: the input's "prompt", or an operation's "action"
 * with its "inputs" attached (the founding document's steps have no prompt).
 * Every tool that takes a prompt reads it here. Pure. */
#ifndef PHOTON_AGENT_TOOLS_AI_PROMPT_H
#define PHOTON_AGENT_TOOLS_AI_PROMPT_H

#include <cjson/cJSON.h>

struct err;

/* Members of the input schema, without the braces around them. */
#define AI_PROMPT_PROPERTIES                                                                                 \
        "\"prompt\":{\"type\":\"string\",\"minLength\":1,\"description\":\"What the tool shall do\"},"       \
        "\"action\":{\"type\":\"string\",\"minLength\":1,\"description\":\"Of an operation's step: a "       \
        "prompt that `inputs` are attached to\"},"                                                           \
        "\"inputs\":{\"type\":\"object\",\"description\":\"Attached to the prompt as JSON\"}"

/* *out is the caller's (mem_free). -E_INVAL: neither prompt nor action, or not a text; -E_TOOBIG: over `max`
 * bytes; -E_NOMEM. */
int ai_prompt_text(const cJSON *input, size_t max, char **out, struct err *e);

#endif
