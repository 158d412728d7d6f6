/* What model endpoints say and want to hear, one dialect per kind, behind one
 * table: a request is built, bytes of the answer become deltas.
 *
 * A request in our words (struct llm_request) is JSON:
 *
 *   {"messages": [{"role": "system|user|assistant|tool", "parts": [PART],
 *                  "tool_calls": [{"id", "name", "arguments": {}}], "tool_call_id": ""}],
 *    "tools": [{"name", "description", "input_schema": {}}], "schema": {} ...}
 *   PART: {"type": "text", "text"} | {"type": "image|file", "media_type", "data", "name"}   (base64)
 *
 * Pure: no I/O, no clock; any thread. An answer that breaks off, talks nonsense
 * or tells of an error ends in a code, never in half a result. */
#ifndef PHOTON_AGENT_TOOLS_LLM_WIRE_H
#define PHOTON_AGENT_TOOLS_LLM_WIRE_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/tools/event.h"
#include "agent/tools/models.h"
#include "agent/tools/sse.h"
#include "common/buf.h"
#include "common/err.h"

#define LLM_MESSAGE_MAX ((size_t)8 << 20)   /* one event or line of an answer */
#define LLM_TEXT_MAX    ((size_t)512 << 10) /* of outputs.text; stdout has all of it */
#define LLM_CALLS_MAX   128
#define LLM_ARGS_MAX    ((size_t)256 << 10) /* arguments of all tool calls together */

struct llm_request {
        const char *model;
        const cJSON *messages;   /* array, as above */
        const cJSON *tools;      /* array or NULL */
        const char *tool_choice; /* auto none required, or the name of a tool; NULL: not said */
        const cJSON *schema;     /* of the answer; NULL: free text */
        bool json;               /* JSON is wanted; set with schema */
        const cJSON *stop;       /* array of texts or NULL */
        double temperature;      /* NAN: not said */
        int64_t max_tokens;      /* 0: not said */
        int64_t max_output;      /* of the model; 0: not known */
        bool official;           /* base_url is the maker's own */
};

struct llm_call {
        struct buf id, name, arguments;
};

struct llm_stream;

struct llm_wire {
        /* "/chat/completions", with the model where it belongs there. mem_free. */
        char *(*path)(const char *model);
        const char *key_header, *key_prefix; /* "Authorization", "Bearer " */
        const char *extra_header;            /* or NULL */
        bool lines;                          /* JSON lines, not server-sent events */
        /* NULL: no memory. */
        cJSON *(*build)(const struct llm_request *r);
        /* One message of the answer. 0, or what llm_fault returned, -E_NOMEM, -E_TOOBIG. */
        int (*message)(struct llm_stream *s, const cJSON *v);
};

const struct llm_wire *llm_wire(enum model_kind k);

enum llm_end { LLM_NONE, LLM_STOP, LLM_MAX_TOKENS, LLM_TOOLS, LLM_FILTERED };
const char *llm_end_name(enum llm_end e); /* "stop", "max_tokens", "tool_calls", "content_filtered" */

/* An answer as it comes. Readable; text and calls grow. */
struct llm_stream {
        const struct llm_wire *wire;
        void (*on_text)(void *arg, const char *p, size_t n);
        void (*on_thought)(void *arg, const char *p, size_t n);
        void *arg;
        bool json_by_tool; /* the answer comes as the input of the tool that was made up for it */
        bool started;      /* the first token came */
        bool over;         /* the terminal message came */
        bool refused;      /* what it said is why it does not answer */
        enum llm_end end;
        struct buf text;
        bool text_cut;
        struct llm_call calls[LLM_CALLS_MAX];
        size_t n_calls, args_bytes;
        struct event_usage usage;
        bool usage_changed;
        char model[128];    /* as the endpoint says */
        const char *code;   /* why it failed; NULL: it did not */
        struct err trouble; /* the sentence to it */
        int64_t base_output;
        /* inside */
        struct sse sse;
        struct buf line;
        struct buf head; /* what came before the first message: no stream at all, mostly */
        bool spoke;      /* a message came */
        int block;       /* Anthropic: index of the open content block's call, -1: none */
        int rc;
};

void llm_stream_init(struct llm_stream *s, enum model_kind k);
void llm_stream_fini(struct llm_stream *s);
/* 0; or a negative code, and s->code and s->trouble say what is wrong. */
int llm_stream_feed(struct llm_stream *s, const void *p, size_t n);
/* The connection was closed in good order (or not: whole false). 0: the answer is whole. */
int llm_stream_end(struct llm_stream *s, bool whole);

/* The code and sentence for an answer that is not 200: `body` is what came with it. Never NULL. */
const char *llm_status_code(long status, const char *body, size_t n);
/* What the endpoint says in its error body, cleaned: at most 300 bytes. */
void llm_error_text(const char *body, size_t n, char out[304]);
/* Passes by itself: 429, 500, 502, 503, 504, 529. */
bool llm_status_retryable(long status);

/* Cuts the answer (JSON, perhaps within a ``` fence) out of text, parses it, checks it. -E_INVAL with why. */
int llm_json_answer(const char *text, size_t n, const cJSON *schema, cJSON **out, struct err *e);

#endif
