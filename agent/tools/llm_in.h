/* What the dialects (llm_openai.c ...) share: reading messages, building requests. */
#ifndef PHOTON_AGENT_TOOLS_LLM_IN_H
#define PHOTON_AGENT_TOOLS_LLM_IN_H

#include "agent/tools/llm_wire.h"

extern const struct llm_wire llm_openai, llm_zai, llm_anthropic, llm_gemini, llm_ollama;

/* ---- building: a failure stays, and makes the whole NULL at the end ---- */

struct build {
        bool failed;
};

/* key NULL: appended to an array. All accept a NULL parent. */
cJSON *build_object(struct build *b, cJSON *parent, const char *key);
cJSON *build_array(struct build *b, cJSON *parent, const char *key);
void build_str(struct build *b, cJSON *parent, const char *key, const char *text);
void build_num(struct build *b, cJSON *parent, const char *key, double v);
void build_bool(struct build *b, cJSON *parent, const char *key, bool v);
void build_copy(struct build *b, cJSON *parent, const char *key, const cJSON *v); /* NULL: nothing */
void build_take(struct build *b, cJSON *parent, const char *key, cJSON *v);
/* Text of v, compact, as a string member. */
void build_text_of(struct build *b, cJSON *parent, const char *key, const cJSON *v);
/* root, or NULL and root deleted if anything failed. */
cJSON *build_end(struct build *b, cJSON *root);

/* Member `key` of o as text; "" if it is none. */
const char *member_text(const cJSON *o, const char *key);
const cJSON *member(const cJSON *o, const char *key);
int64_t member_count(const cJSON *o, const char *key); /* -1: none */
/* All text parts of a message, joined by blank lines; mem_free. NULL: no memory. */
char *message_text(const cJSON *message);
/* "Answer with one JSON document ... schema". mem_free. NULL: no memory. */
char *json_instruction(const struct llm_request *r);

/* ---- reading ---- */

int llm_text(struct llm_stream *s, const char *p, size_t n);
int llm_thought(struct llm_stream *s, const char *p, size_t n);
/* The call at index, made if it is the next one. NULL: too many, or no memory. */
struct llm_call *llm_call_at(struct llm_stream *s, size_t index);
int llm_call_arguments(struct llm_stream *s, struct llm_call *c, const char *p, size_t n);
void llm_model(struct llm_stream *s, const char *name);
/* Sets code and sentence; returns -E_PROTO. */
int llm_fault(struct llm_stream *s, const char *code, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));
/* An error told within the stream: {"error": {...}} or its inner object. */
int llm_told_error(struct llm_stream *s, const cJSON *error);

#endif
