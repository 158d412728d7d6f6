/* Inside of llm.chat: llm.c is the call and its states, llm_http.c one request
 * to an endpoint, llm_result.c what is handed back. */
#ifndef PHOTON_AGENT_TOOLS_LLM_CALL_H
#define PHOTON_AGENT_TOOLS_LLM_CALL_H

#include <uv.h>

#include "agent/tools/curl.h"
#include "agent/tools/guard.h"
#include "agent/tools/llm_input.h"
#include "agent/tools/models.h"
#include "agent/tools/tool.h"

#define LLM_ERROR_BODY_MAX ((size_t)64 << 10)

enum llm_state { LLM_LOADING, LLM_ASKING, LLM_WAITING, LLM_ANSWERING, LLM_OVER };

struct llm {
        struct tool_call *c;
        enum llm_state state;
        const struct endpoint *ep;
        const struct model *model;
        cJSON *input;
        struct llm_input in;
        bool local_only; /* only to this machine: by the call or by the endpoint */
        int retries, requests;
        uint64_t started_ms, deadline_ms, stall_ms, retry_at_ms, alive_ms;
        int64_t first_token_ms; /* -1: none yet */
        /* made on a pool thread */
        uv_work_t work;
        bool working, gone; /* gone: the call was freed meanwhile */
        bool key_read;
        const struct policy *policy;
        int work_rc;
        struct err work_err;
        char *key, *body;
        size_t body_n;
        /* timer */
        uv_timer_t timer;
        bool timer_open;
        /* one request */
        const struct curl_lib *lib;
        struct transfer t;
        bool in_flight, paused, full;
        struct guard guard;
        struct curl_slist *headers;
        char *url;
        long status;
        struct buf error_body;
        struct llm_stream stream;
        bool stream_open;
};

/* ---- llm_http.c ---- */
/* Sends the request. on_asked_* come from the loop. -E_*: not sent. */
int llm_ask(struct llm *l, struct err *e);
/* Takes it off; harmless if none is in flight. */
void llm_unask(struct llm *l);
void llm_unpause(struct llm *l);
/* What became of it: 0 and code NULL: a whole answer. Otherwise the code, the sentence, and whether it may
 * be tried again, after how long (-1: not said). */
struct llm_outcome {
        const char *code;
        struct err why;
        bool retryable;
        int64_t after_ms;
};
void llm_look(struct llm *l, CURLcode result, struct llm_outcome *out);

/* ---- llm.c ---- */
void llm_on_answered(struct llm *l, CURLcode result);
void llm_on_alive(struct llm *l);
void llm_on_fed(struct llm *l);

/* ---- llm_result.c ---- */
/* Hands the result over; l must not be touched but by tool->free. */
void llm_finish(struct llm *l, enum tool_outcome o, const char *code, const struct err *e);

#endif
