/* The schemas of llm.chat and zai.chat. */
#include "agent/tools/ai_prompt.h"
#include "agent/tools/llm_input.h"

#define TEXTS "{\"type\":\"array\",\"items\":{\"type\":\"string\"}}"

#define COMMON                                                                                               \
        AI_PROMPT_PROPERTIES                                                                                 \
        ",\"endpoint\":{\"type\":\"string\",\"description\":\"By its name in the agent's configuration\"},"  \
        "\"key\":{\"type\":\"string\",\"description\":\"For this call instead of the endpoint's own: a "     \
        "secret "                                                                                            \
        "of the vault, ${{ secrets.NAME }}\"},"                                                              \
        "\"model\":{\"type\":\"string\"},"                                                                   \
        "\"system\":{\"type\":\"string\"},"                                                                  \
        "\"messages\":{\"type\":\"array\",\"maxItems\":4096,\"items\":{\"type\":\"object\",\"required\":"    \
        "[\"role\"],\"properties\":{"                                                                        \
        "\"role\":{\"enum\":[\"system\",\"user\",\"assistant\",\"tool\"]},"                                  \
        "\"content\":{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"array\"}]},"                              \
        "\"tool_calls\":{\"type\":\"array\"},\"tool_call_id\":{\"type\":\"string\"}}},"                      \
        "\"description\":\"A conversation so far; content is a text or parts: {type: text, text}, {type: "   \
        "image or file, path} or {type: image or file, media_type, data (base64)}\"},"                       \
        "\"files\":" TEXTS ",\"images\":" TEXTS ","                                                          \
        "\"tools\":{\"type\":\"array\",\"maxItems\":256,\"items\":{\"type\":\"object\",\"required\":"        \
        "[\"name\"],\"additionalProperties\":false,\"properties\":{\"name\":{\"type\":\"string\"},"          \
        "\"description\":{\"type\":\"string\"},\"input_schema\":{\"type\":\"object\"}}}},"                   \
        "\"tool_choice\":{\"type\":\"string\",\"description\":\"auto, none, required, or a tool's name\"},"  \
        "\"json\":{\"type\":\"boolean\",\"description\":\"The answer must be JSON\"},"                       \
        "\"schema\":{\"type\":\"object\",\"description\":\"The answer must be JSON that is valid against "   \
        "this JSON Schema\"},"                                                                               \
        "\"temperature\":{\"type\":\"number\",\"minimum\":0,\"maximum\":2},"                                 \
        "\"max_tokens\":{\"type\":\"integer\",\"minimum\":1},"                                               \
        "\"stop\":{\"type\":\"array\",\"maxItems\":16,\"items\":{\"type\":\"string\",\"minLength\":1}},"     \
        "\"timeout\":{\"type\":\"string\",\"description\":\"For all of it, with every retry; default: the "  \
        "endpoint's\"},"                                                                                     \
        "\"retries\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":10,\"description\":\"Before the first " \
        "token; default: the endpoint's\"}"

const char llm_chat_input[] =
        "{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{" COMMON
        ",\"privacy\":{\"enum\":[\"any\",\"local-only\"],\"description\":\"local-only: no connection leaves "
        "the machine\"},"
        "\"need\":{\"type\":\"object\",\"additionalProperties\":false,\"description\":\"What the model must "
        "be able to do; the hub chooses agent, endpoint and model by it\",\"properties\":{"
        "\"privacy\":{\"enum\":[\"any\",\"local-only\"]},"
        "\"capability\":{\"type\":\"array\",\"items\":{\"enum\":[\"tools\",\"json\",\"images\",\"files\"]}},"
        "\"max_cost_usd\":{\"type\":\"number\",\"minimum\":0},"
        "\"max_latency_ms\":{\"type\":\"integer\",\"minimum\":1},"
        "\"context\":{\"type\":\"integer\",\"minimum\":1}}}}}";

const char zai_chat_input[] =
        "{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{" COMMON "}}";

const char llm_chat_output[] =
        "{\"type\":\"object\",\"properties\":{"
        "\"text\":{\"type\":\"string\",\"description\":\"The answer; its first 512 KiB\"},"
        "\"text_truncated\":{\"type\":\"boolean\"},"
        "\"tool_calls\":{\"type\":\"array\",\"items\":{\"type\":\"object\",\"properties\":{\"id\":{\"type\":"
        "\"string\"},\"name\":{\"type\":\"string\"},\"arguments\":{\"type\":\"object\"}}}},"
        "\"json\":{\"description\":\"The answer, parsed, where JSON was asked for\"},"
        "\"finish_reason\":{\"enum\":[\"stop\",\"max_tokens\",\"tool_calls\",\"content_filtered\",\"\"]},"
        "\"model\":{\"type\":\"string\"},\"endpoint\":{\"type\":\"string\"},"
        "\"usage\":{\"type\":\"object\"},"
        "\"cost_usd\":{\"type\":\"number\"},"
        "\"started\":{\"type\":\"boolean\",\"description\":\"Did the first token come?\"},"
        "\"requests\":{\"type\":\"integer\",\"description\":\"Sent, with every retry\"},"
        "\"first_token_ms\":{\"type\":\"integer\"},"
        "\"duration_ms\":{\"type\":\"integer\"}}}";
