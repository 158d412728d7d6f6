/* OpenAI's chat completions, and who speaks them: POST /chat/completions,
 * server-sent events, "data: [DONE]". Z.AI differs in how it asks for JSON. */
#include <math.h>
#include <string.h>

#include "agent/tools/llm_in.h"
#include "common/mem.h"
#include "common/str.h"

static char *path(const char *model)
{
        (void)model;
        return mem_strdup("/chat/completions");
}

/* ---- the request ---- */

static void put_parts(struct build *b, cJSON *m, const cJSON *message)
{
        const cJSON *p;
        cJSON *list = build_array(b, m, "content");

        cJSON_ArrayForEach(p, member(message, "parts"))
        {
                const char *type = member_text(p, "type");
                cJSON *o = build_object(b, list, NULL), *inner;
                char *url = NULL;

                if (strcmp(type, "text") == 0) {
                        build_str(b, o, "type", "text");
                        build_str(b, o, "text", member_text(p, "text"));
                        continue;
                }
                url = str_printf("data:%s;base64,%s", member_text(p, "media_type"), member_text(p, "data"));
                if (!url)
                        b->failed = true;
                if (strcmp(type, "image") == 0) {
                        build_str(b, o, "type", "image_url");
                        inner = build_object(b, o, "image_url");
                        build_str(b, inner, "url", url ? url : "");
                } else {
                        build_str(b, o, "type", "file");
                        inner = build_object(b, o, "file");
                        build_str(b, inner, "filename", member_text(p, "name"));
                        build_str(b, inner, "file_data", url ? url : "");
                }
                mem_free(url);
        }
}

static bool only_text(const cJSON *message)
{
        const cJSON *p;

        cJSON_ArrayForEach(p, member(message, "parts"))
        {
                if (strcmp(member_text(p, "type"), "text") != 0)
                        return false;
        }
        return true;
}

static void put_calls(struct build *b, cJSON *m, const cJSON *calls)
{
        const cJSON *c;
        cJSON *list = build_array(b, m, "tool_calls");

        cJSON_ArrayForEach(c, calls)
        {
                cJSON *o = build_object(b, list, NULL), *f;

                build_str(b, o, "id", member_text(c, "id"));
                build_str(b, o, "type", "function");
                f = build_object(b, o, "function");
                build_str(b, f, "name", member_text(c, "name"));
                build_text_of(b, f, "arguments", member(c, "arguments"));
        }
}

static void put_messages(struct build *b, cJSON *root, const struct llm_request *r, const char *extra_system)
{
        const cJSON *m;
        cJSON *list = build_array(b, root, "messages");

        if (extra_system) {
                cJSON *o = build_object(b, list, NULL);

                build_str(b, o, "role", "system");
                build_str(b, o, "content", extra_system);
        }
        cJSON_ArrayForEach(m, r->messages)
        {
                cJSON *o = build_object(b, list, NULL);
                const char *role = member_text(m, "role");
                const cJSON *calls = member(m, "tool_calls");

                build_str(b, o, "role", role);
                if (only_text(m)) {
                        char *text = message_text(m);

                        build_str(b, o, "content", text ? text : "");
                        b->failed |= !text;
                        mem_free(text);
                } else {
                        put_parts(b, o, m);
                }
                if (cJSON_GetArraySize(calls) > 0)
                        put_calls(b, o, calls);
                if (strcmp(role, "tool") == 0)
                        build_str(b, o, "tool_call_id", member_text(m, "tool_call_id"));
        }
}

static void put_tools(struct build *b, cJSON *root, const struct llm_request *r)
{
        const cJSON *t;
        cJSON *list;

        if (!r->tools || !cJSON_GetArraySize(r->tools))
                return;
        list = build_array(b, root, "tools");
        cJSON_ArrayForEach(t, r->tools)
        {
                cJSON *o = build_object(b, list, NULL), *f;

                build_str(b, o, "type", "function");
                f = build_object(b, o, "function");
                build_str(b, f, "name", member_text(t, "name"));
                if (*member_text(t, "description"))
                        build_str(b, f, "description", member_text(t, "description"));
                build_copy(b, f, "parameters", member(t, "input_schema"));
        }
        if (!r->tool_choice)
                return;
        if (strcmp(r->tool_choice, "auto") == 0 || strcmp(r->tool_choice, "none") == 0 ||
            strcmp(r->tool_choice, "required") == 0) {
                build_str(b, root, "tool_choice", r->tool_choice);
        } else {
                cJSON *o = build_object(b, root, "tool_choice"), *f;

                build_str(b, o, "type", "function");
                f = build_object(b, o, "function");
                build_str(b, f, "name", r->tool_choice);
        }
}

static cJSON *build_common(const struct llm_request *r, bool zai)
{
        struct build b = {0};
        cJSON *root = cJSON_CreateObject(), *o;
        char *extra = NULL;

        if (!root)
                return NULL;
        if (r->json && (zai || !r->schema))
                b.failed |= !(extra = json_instruction(r));
        build_str(&b, root, "model", r->model);
        put_messages(&b, root, r, extra);
        mem_free(extra);
        put_tools(&b, root, r);
        if (r->json) {
                o = build_object(&b, root, "response_format");
                if (zai || !r->schema) {
                        build_str(&b, o, "type", "json_object");
                } else {
                        build_str(&b, o, "type", "json_schema");
                        o = build_object(&b, o, "json_schema");
                        build_str(&b, o, "name", "answer");
                        build_copy(&b, o, "schema", r->schema);
                }
        }
        if (!isnan(r->temperature))
                build_num(&b, root, "temperature", r->temperature);
        /* The maker's newer models take only the newer word, compatible servers mostly only the older. */
        if (r->max_tokens)
                build_num(&b, root, r->official && !zai ? "max_completion_tokens" : "max_tokens",
                          (double)r->max_tokens);
        build_copy(&b, root, "stop", r->stop);
        build_bool(&b, root, "stream", true);
        o = build_object(&b, root, "stream_options");
        build_bool(&b, o, "include_usage", true);
        return build_end(&b, root);
}

static cJSON *build(const struct llm_request *r)
{
        return build_common(r, false);
}

static cJSON *build_zai(const struct llm_request *r)
{
        return build_common(r, true);
}

/* ---- the answer ---- */

static void take_usage(struct llm_stream *s, const cJSON *u)
{
        int64_t in = member_count(u, "prompt_tokens"), out = member_count(u, "completion_tokens");
        int64_t cached = member_count(member(u, "prompt_tokens_details"), "cached_tokens");

        if (in < 0 && out < 0)
                return;
        if (cached > in)
                cached = in;
        s->usage.input_tokens = cached > 0 ? in - cached : in;
        s->usage.output_tokens = out;
        if (cached >= 0)
                s->usage.cache_read_tokens = cached;
        s->usage.thought_tokens = member_count(member(u, "completion_tokens_details"), "reasoning_tokens");
        s->usage_changed = true;
}

static int take_call(struct llm_stream *s, const cJSON *v)
{
        int64_t index = member_count(v, "index");
        const cJSON *f = member(v, "function");
        const char *id = member_text(v, "id"), *name = member_text(f, "name"),
                   *args = member_text(f, "arguments");
        struct llm_call *c = llm_call_at(s, index < 0 ? s->n_calls : (size_t)index);
        int rc = 0;

        if (!c)
                return llm_fault(s, "bad_answer", "the answer numbers its tool calls out of order");
        if (*id && !c->id.len)
                rc = buf_puts(&c->id, id);
        if (!rc && *name && !c->name.len)
                rc = buf_puts(&c->name, name);
        return rc ? rc : llm_call_arguments(s, c, args, strlen(args));
}

static void take_end(struct llm_stream *s, const char *reason)
{
        static const struct {
                const char *said;
                enum llm_end end;
        } ends[] = {
                {"stop", LLM_STOP},
                {"length", LLM_MAX_TOKENS},
                {"tool_calls", LLM_TOOLS},
                {"function_call", LLM_TOOLS},
                {"content_filter", LLM_FILTERED},
                {"sensitive", LLM_FILTERED}, /* Z.AI */
        };

        s->end = LLM_STOP;
        for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
                if (strcmp(ends[i].said, reason) == 0)
                        s->end = ends[i].end;
}

static int message(struct llm_stream *s, const cJSON *v)
{
        const cJSON *error = member(v, "error"), *choices = member(v, "choices"), *choice, *delta, *c;
        const char *text;
        int rc = 0;

        if (error && !cJSON_IsNull(error))
                return llm_told_error(s, error);
        llm_model(s, member_text(v, "model"));
        if (member(v, "usage"))
                take_usage(s, member(v, "usage"));
        choice = cJSON_IsArray(choices) ? cJSON_GetArrayItem(choices, 0) : NULL;
        if (!choice)
                return 0;
        delta = member(choice, "delta");
        text = member_text(delta, "reasoning_content");
        if (!*text)
                text = member_text(delta, "reasoning");
        rc = llm_thought(s, text, strlen(text));
        text = member_text(delta, "content");
        if (!rc)
                rc = llm_text(s, text, strlen(text));
        text = member_text(delta, "refusal");
        if (!rc && *text) {
                s->refused = true;
                rc = llm_text(s, text, strlen(text));
        }
        cJSON_ArrayForEach(c, member(delta, "tool_calls"))
        {
                if (!rc)
                        rc = take_call(s, c);
        }
        text = member_text(choice, "finish_reason");
        if (!rc && *text)
                take_end(s, text);
        return rc;
}

const struct llm_wire llm_openai = {
        .path = path,
        .key_header = "Authorization",
        .key_prefix = "Bearer ",
        .build = build,
        .message = message,
};

const struct llm_wire llm_zai = {
        .path = path,
        .key_header = "Authorization",
        .key_prefix = "Bearer ",
        .build = build_zai,
        .message = message,
};
