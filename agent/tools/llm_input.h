/* The input of llm.chat and zai.chat: read strictly on the loop (no disk), its
 * files loaded on a pool thread, into the words of llm_wire.h. */
#ifndef PHOTON_AGENT_TOOLS_LLM_INPUT_H
#define PHOTON_AGENT_TOOLS_LLM_INPUT_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>

#include "agent/tools/llm_wire.h"

struct err;
struct policy;

#define LLM_FILES_MAX     32
#define LLM_FILE_MAX      ((size_t)10 << 20) /* bytes of one */
#define LLM_FILES_ALL_MAX ((size_t)24 << 20)
#define LLM_PROMPT_MAX    ((size_t)4 << 20)
#define LLM_MESSAGES_MAX  4096
#define LLM_TOOLS_MAX     256

extern const char llm_chat_input[], llm_chat_output[], zai_chat_input[];

struct llm_input {
        cJSON *messages; /* llm_wire.h's; files are {"type": "load", "path"} until loaded */
        const char *endpoint, *model, *key; /* lent by the input; or NULL */
        struct llm_request request;         /* lends from the input and messages */
        int64_t timeout_ms;                 /* 0: the endpoint's */
        int retries;                        /* -1: the endpoint's */
        bool local_only;
        size_t n_files;
};

/* `input` must outlive *out. -E_INVAL with what is wrong. */
int llm_input_read(const cJSON *input, struct llm_input *out, struct err *e);
/* Blocking. -E_DENIED, -E_NOENT, -E_TOOBIG, -E_INVAL (no text, image or PDF) ... naming the file. */
int llm_input_load(struct llm_input *in, const struct policy *p, struct err *e);
void llm_input_fini(struct llm_input *in);
/* Would the policy let all its files be read? */
int llm_input_permit(const struct policy *p, const cJSON *input, struct err *e);

#endif
