/* What a call of llm.chat hands back, whole or not. */
#include <stdio.h>
#include <string.h>

#include "agent/tools/event.h"
#include "agent/tools/llm_call.h"
#include "agent/tools/llm_in.h"
#include "common/err.h"
#include "common/json.h"
#include "common/mem.h"

static void put_calls(struct build *b, cJSON *o, const struct llm_stream *s)
{
        cJSON *list = build_array(b, o, "tool_calls");

        for (size_t i = 0; i < s->n_calls; i++) {
                const struct llm_call *k = &s->calls[i];
                cJSON *c = build_object(b, list, NULL), *args = NULL;
                char made[32];

                snprintf(made, sizeof made, "call_%zu", i + 1); /* an answer to it must name one */
                build_take(b, c, "id", cJSON_CreateString(*k->id.data ? (const char *)k->id.data : made));
                build_take(b, c, "name", cJSON_CreateString(k->name.len ? (const char *)k->name.data : ""));
                if (k->arguments.len &&
                    json_parse((const char *)k->arguments.data, k->arguments.len, &args, NULL) == 0)
                        build_take(b, c, "arguments", args);
                else if (!k->arguments.len && s->end != LLM_MAX_TOKENS)
                        build_object(b, c, "arguments");
        }
}

/* buf's contents as text: a NUL behind them. */
static bool end_texts(struct llm_stream *s)
{
        bool ok = buf_putc(&s->text, '\0') == 0;

        for (size_t i = 0; i < s->n_calls && ok; i++)
                ok = buf_putc(&s->calls[i].id, '\0') == 0 && buf_putc(&s->calls[i].name, '\0') == 0;
        return ok;
}

static bool is_offered(const struct llm_request *r, const struct llm_call *k)
{
        const cJSON *t;

        cJSON_ArrayForEach(t, r->tools)
        {
                const char *name = member_text(t, "name");

                if (strlen(name) == k->name.len && memcmp(name, k->name.data, k->name.len) == 0)
                        return true;
        }
        return false;
}

/* Every tool call must say what it calls, of what was offered, with an object. */
static int check_calls(const struct llm_stream *s, const struct llm_request *r, struct err *e)
{
        for (size_t i = 0; i < s->n_calls; i++) {
                const struct llm_call *k = &s->calls[i];
                struct err why = {0};
                cJSON *args = NULL;
                int rc = k->arguments.len
                                 ? json_parse((const char *)k->arguments.data, k->arguments.len, &args, &why)
                                 : 0;
                bool object = !args || cJSON_IsObject(args);

                cJSON_Delete(args);
                if (!k->name.len)
                        return err_set(e, E_PROTO, "tool call %zu of the answer does not say what it calls",
                                       i + 1);
                if (rc || !object)
                        return err_set(e, E_PROTO,
                                       "the arguments of tool call %zu (%.*s) are no JSON object%s%s", i + 1,
                                       (int)k->name.len, k->name.len ? (const char *)k->name.data : "",
                                       rc ? ": " : "", why.msg);
                if (!is_offered(r, k))
                        return err_set(e, E_PROTO,
                                       "tool call %zu of the answer calls %.*s, which is none of `tools`",
                                       i + 1, (int)(k->name.len < 64 ? k->name.len : 64),
                                       (const char *)k->name.data);
        }
        return 0;
}

static cJSON *build_outputs(struct llm *l, cJSON *json, double cost)
{
        struct llm_stream *s = &l->stream;
        struct build b = {0};
        cJSON *o = cJSON_CreateObject();
        int64_t took = (int64_t)(uv_hrtime() / 1000000 - l->started_ms);

        if (!o) {
                cJSON_Delete(json);
                return NULL;
        }
        if (json)
                build_take(&b, o, "json", json);
        if (l->stream_open && end_texts(s)) {
                build_str(&b, o, "text", (const char *)s->text.data);
                if (s->text_cut)
                        build_bool(&b, o, "text_truncated", true);
                if (s->n_calls)
                        put_calls(&b, o, s);
                build_str(&b, o, "finish_reason", llm_end_name(s->end));
                if (s->usage_changed)
                        build_take(&b, o, "usage", event_usage_json(&s->usage));
        }
        if (l->model)
                build_str(&b, o, "model", l->model->name);
        if (l->ep)
                build_str(&b, o, "endpoint", l->ep->name);
        if (cost >= 0)
                build_num(&b, o, "cost_usd", cost);
        build_bool(&b, o, "started", l->first_token_ms >= 0);
        build_num(&b, o, "requests", l->requests);
        if (l->first_token_ms >= 0)
                build_num(&b, o, "first_token_ms", (double)l->first_token_ms);
        build_num(&b, o, "duration_ms", (double)took);
        return build_end(&b, o);
}

/* A whole answer may still not be what was asked for. */
static const char *check_answer(struct llm *l, cJSON **json, struct err *e)
{
        struct llm_stream *s = &l->stream;

        if (s->refused) {
                err_set(e, E_DENIED,
                        "the model at the endpoint %s refuses to answer; text says why. Ask differently",
                        l->ep->name);
                s->end = LLM_FILTERED;
                return "content_filtered";
        }
        if (s->end == LLM_FILTERED) {
                err_set(e, E_DENIED,
                        "the endpoint %s held the answer back (its content filter); ask differently",
                        l->ep->name);
                return "content_filtered";
        }
        if (s->end != LLM_MAX_TOKENS && check_calls(s, &l->in.request, e))
                return "bad_output";
        if (!l->in.request.json || s->end == LLM_TOOLS)
                return NULL;
        if (s->end == LLM_MAX_TOKENS || s->text_cut) {
                err_set(e, E_TOOBIG, "the answer was cut before its JSON was whole; raise max_tokens");
                return "bad_output";
        }
        return llm_json_answer((const char *)s->text.data, s->text.len, l->in.request.schema, json, e)
                       ? "bad_output"
                       : NULL;
}

void llm_finish(struct llm *l, enum tool_outcome o, const char *code, const struct err *e)
{
        struct event_usage *u = l->stream_open ? &l->stream.usage : NULL;
        struct tool_result r = {.outcome = o, .error_code = code};
        struct err why = e ? *e : (struct err){0};
        cJSON *json = NULL;
        double cost = -1;

        if (l->state == LLM_OVER)
                return;
        if (o != TOOL_SUCCEEDED && !code)
                r.error_code = err_name(why.code);
        if (l->stream_open && o == TOOL_SUCCEEDED) {
                r.error_code = check_answer(l, &json, &why);
                if (r.error_code)
                        r.outcome = TOOL_FAILED;
        }
        if (u && l->stream.usage_changed) {
                cost = models_cost(l->model, u);
                if (cost < 0 && l->ep->local)
                        cost = 0;
                if (cost >= 0) {
                        u->cost_usd = cost;
                        u->cost_source = "price-table";
                }
                u->model = l->model->name;
                if (l->model->context) {
                        u->context_size = l->model->context;
                        u->context_used = (u->input_tokens > 0 ? u->input_tokens : 0) +
                                          (u->cache_read_tokens > 0 ? u->cache_read_tokens : 0) +
                                          (u->output_tokens > 0 ? u->output_tokens : 0);
                }
                event_usage(l->c, u);
                r.usage = event_usage_json(u);
        }
        r.outputs = build_outputs(l, json, cost);
        if (!r.outputs && r.outcome == TOOL_SUCCEEDED) {
                r.outcome = TOOL_FAILED;
                r.error_code = "out_of_memory";
                err_set(&why, E_NOMEM, "the agent is out of memory");
        }
        r.error_message = r.error_code ? why.msg : NULL;
        l->state = LLM_OVER;
        tool_finish(l->c, &r);
}
