/* Ollama: POST /api/chat, one JSON object a line, the last with "done": true. */
#include <math.h>
#include <string.h>

#include "agent/tools/llm_in.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"

static char *path(const char *model)
{
        (void)model;
        return mem_strdup("/api/chat");
}

/* ---- the request ---- */

static void put_message(struct build *b, cJSON *list, const cJSON *m)
{
        cJSON *o = build_object(b, list, NULL), *images = NULL, *calls = NULL;
        char *text = message_text(m);
        const cJSON *p;

        build_str(b, o, "role", member_text(m, "role"));
        build_str(b, o, "content", text ? text : "");
        b->failed |= !text;
        mem_free(text);
        cJSON_ArrayForEach(p, member(m, "parts"))
        {
                if (strcmp(member_text(p, "type"), "image") != 0)
                        continue;
                if (!images)
                        images = build_array(b, o, "images");
                build_str(b, images, NULL, member_text(p, "data"));
        }
        cJSON_ArrayForEach(p, member(m, "tool_calls"))
        {
                cJSON *f;

                if (!calls)
                        calls = build_array(b, o, "tool_calls");
                f = build_object(b, build_object(b, calls, NULL), "function");
                build_str(b, f, "name", member_text(p, "name"));
                build_copy(b, f, "arguments", member(p, "arguments"));
        }
}

static cJSON *build(const struct llm_request *r)
{
        struct build b = {0};
        cJSON *root = cJSON_CreateObject(), *list, *o;
        const cJSON *v;

        if (!root)
                return NULL;
        build_str(&b, root, "model", r->model);
        list = build_array(&b, root, "messages");
        cJSON_ArrayForEach(v, r->messages) put_message(&b, list, v);
        /* It knows no tool_choice: "none" means that the tools are not shown. */
        if (r->tools && (!r->tool_choice || strcmp(r->tool_choice, "none") != 0)) {
                list = build_array(&b, root, "tools");
                cJSON_ArrayForEach(v, r->tools)
                {
                        o = build_object(&b, list, NULL);
                        build_str(&b, o, "type", "function");
                        o = build_object(&b, o, "function");
                        build_str(&b, o, "name", member_text(v, "name"));
                        build_str(&b, o, "description", member_text(v, "description"));
                        build_copy(&b, o, "parameters", member(v, "input_schema"));
                }
        }
        if (r->json && r->schema)
                build_copy(&b, root, "format", r->schema);
        else if (r->json)
                build_str(&b, root, "format", "json");
        o = build_object(&b, root, "options");
        if (!isnan(r->temperature))
                build_num(&b, o, "temperature", r->temperature);
        if (r->max_tokens)
                build_num(&b, o, "num_predict", (double)r->max_tokens);
        build_copy(&b, o, "stop", r->stop);
        build_bool(&b, root, "stream", true);
        return build_end(&b, root);
}

/* ---- the answer ---- */

static int take_call(struct llm_stream *s, const cJSON *v)
{
        const cJSON *f = member(v, "function");
        struct llm_call *c = llm_call_at(s, s->n_calls);
        char *args;
        int rc;

        if (!c)
                return llm_fault(s, "bad_answer", "the answer has more than %d tool calls", LLM_CALLS_MAX);
        rc = *member_text(v, "id") ? buf_puts(&c->id, member_text(v, "id"))
                                   : buf_printf(&c->id, "call_%zu", s->n_calls);
        if (!rc)
                rc = buf_puts(&c->name, member_text(f, "name"));
        if (rc)
                return rc;
        args = member(f, "arguments") ? json_text(member(f, "arguments")) : mem_strdup("{}");
        rc = args ? llm_call_arguments(s, c, args, strlen(args)) : -E_NOMEM;
        mem_free(args);
        return rc;
}

static int message(struct llm_stream *s, const cJSON *v)
{
        const cJSON *m = member(v, "message"), *c;
        const char *text = member_text(m, "thinking"), *reason = member_text(v, "done_reason");
        int rc;

        if (member(v, "error"))
                return llm_told_error(s, member(v, "error"));
        llm_model(s, member_text(v, "model"));
        rc = llm_thought(s, text, strlen(text));
        text = member_text(m, "content");
        if (!rc)
                rc = llm_text(s, text, strlen(text));
        cJSON_ArrayForEach(c, member(m, "tool_calls"))
        {
                if (!rc)
                        rc = take_call(s, c);
        }
        if (rc || !cJSON_IsTrue(member(v, "done")))
                return rc;
        s->usage.input_tokens = member_count(v, "prompt_eval_count");
        s->usage.output_tokens = member_count(v, "eval_count");
        s->usage_changed = s->usage.input_tokens >= 0 || s->usage.output_tokens >= 0;
        s->end = strcmp(reason, "length") == 0 ? LLM_MAX_TOKENS : s->n_calls ? LLM_TOOLS : LLM_STOP;
        s->over = true;
        return 0;
}

const struct llm_wire llm_ollama = {
        .path = path,
        .key_header = "Authorization",
        .key_prefix = "Bearer ",
        .lines = true,
        .build = build,
        .message = message,
};
