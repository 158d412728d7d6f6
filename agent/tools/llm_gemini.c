/* Gemini: POST /models/MODEL:streamGenerateContent?alt=sse. The last chunk is
 * the one with a finishReason; tool calls come whole and have no ids. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "agent/tools/llm_in.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"

static char *path(const char *model)
{
        return str_printf("/models/%s:streamGenerateContent?alt=sse", model);
}

/* ---- the request ---- */

static void put_part(struct build *b, cJSON *list, const cJSON *p)
{
        cJSON *o = build_object(b, list, NULL), *inner;

        if (strcmp(member_text(p, "type"), "text") == 0) {
                build_str(b, o, "text", member_text(p, "text"));
                return;
        }
        inner = build_object(b, o, "inlineData");
        build_str(b, inner, "mimeType", member_text(p, "media_type"));
        build_str(b, inner, "data", member_text(p, "data"));
}

/* Results name the function; our messages name the call. */
static const char *name_of_call(const struct llm_request *r, const char *id)
{
        const cJSON *m, *c;

        cJSON_ArrayForEach(m, r->messages)
        {
                cJSON_ArrayForEach(c, member(m, "tool_calls"))
                {
                        if (strcmp(member_text(c, "id"), id) == 0)
                                return member_text(c, "name");
                }
        }
        return id;
}

static void put_result(struct build *b, cJSON *parts, const struct llm_request *r, const cJSON *m)
{
        cJSON *o = build_object(b, build_object(b, parts, NULL), "functionResponse"), *inner;
        char *text = message_text(m);

        build_str(b, o, "name", name_of_call(r, member_text(m, "tool_call_id")));
        inner = build_object(b, o, "response");
        build_str(b, inner, "result", text ? text : "");
        b->failed |= !text;
        mem_free(text);
}

static void put_contents(struct build *b, cJSON *root, const struct llm_request *r)
{
        const cJSON *m, *p, *c;
        cJSON *list = build_array(b, root, "contents"), *results = NULL;

        cJSON_ArrayForEach(m, r->messages)
        {
                const char *role = member_text(m, "role");
                bool tool = strcmp(role, "tool") == 0;
                cJSON *o, *parts;

                if (strcmp(role, "system") == 0)
                        continue;
                if (tool && results) {
                        put_result(b, results, r, m);
                        continue;
                }
                o = build_object(b, list, NULL);
                build_str(b, o, "role", strcmp(role, "assistant") == 0 ? "model" : "user");
                parts = build_array(b, o, "parts");
                results = tool ? parts : NULL;
                if (tool) {
                        put_result(b, parts, r, m);
                        continue;
                }
                cJSON_ArrayForEach(p, member(m, "parts")) put_part(b, parts, p);
                cJSON_ArrayForEach(c, member(m, "tool_calls"))
                {
                        cJSON *f = build_object(b, build_object(b, parts, NULL), "functionCall");

                        build_str(b, f, "name", member_text(c, "name"));
                        build_copy(b, f, "args", member(c, "arguments"));
                }
        }
}

static void put_system(struct build *b, cJSON *root, const struct llm_request *r)
{
        cJSON *parts = NULL;
        const cJSON *m, *p;

        cJSON_ArrayForEach(m, r->messages)
        {
                if (strcmp(member_text(m, "role"), "system") != 0)
                        continue;
                if (!parts)
                        parts = build_array(b, build_object(b, root, "systemInstruction"), "parts");
                cJSON_ArrayForEach(p, member(m, "parts")) put_part(b, parts, p);
        }
}

static void put_tools(struct build *b, cJSON *root, const struct llm_request *r)
{
        cJSON *list, *config;
        const char *how = r->tool_choice;
        const cJSON *t;

        if (!r->tools || !cJSON_GetArraySize(r->tools))
                return;
        list = build_array(b, build_object(b, build_array(b, root, "tools"), NULL), "functionDeclarations");
        cJSON_ArrayForEach(t, r->tools)
        {
                cJSON *o = build_object(b, list, NULL);

                build_str(b, o, "name", member_text(t, "name"));
                build_str(b, o, "description", member_text(t, "description"));
                build_copy(b, o, "parametersJsonSchema", member(t, "input_schema"));
        }
        if (!how)
                return;
        config = build_object(b, build_object(b, root, "toolConfig"), "functionCallingConfig");
        if (strcmp(how, "auto") == 0 || strcmp(how, "none") == 0) {
                build_str(b, config, "mode", *how == 'a' ? "AUTO" : "NONE");
                return;
        }
        build_str(b, config, "mode", "ANY");
        if (strcmp(how, "required") != 0)
                build_str(b, build_array(b, config, "allowedFunctionNames"), NULL, how);
}

static cJSON *build(const struct llm_request *r)
{
        struct build b = {0};
        cJSON *root = cJSON_CreateObject(), *o;

        if (!root)
                return NULL;
        put_system(&b, root, r);
        put_contents(&b, root, r);
        put_tools(&b, root, r);
        o = build_object(&b, root, "generationConfig");
        if (r->json) {
                build_str(&b, o, "responseMimeType", "application/json");
                build_copy(&b, o, "responseJsonSchema", r->schema);
        }
        if (!isnan(r->temperature))
                build_num(&b, o, "temperature", r->temperature);
        if (r->max_tokens)
                build_num(&b, o, "maxOutputTokens", (double)r->max_tokens);
        build_copy(&b, o, "stopSequences", r->stop);
        return build_end(&b, root);
}

/* ---- the answer ---- */

static void take_usage(struct llm_stream *s, const cJSON *u)
{
        int64_t in = member_count(u, "promptTokenCount"), out = member_count(u, "candidatesTokenCount");
        int64_t cached = member_count(u, "cachedContentTokenCount");
        int64_t thoughts = member_count(u, "thoughtsTokenCount");

        if (in < 0 && out < 0)
                return;
        if (cached > in)
                cached = in;
        s->usage.input_tokens = cached > 0 ? in - cached : in;
        s->usage.output_tokens = (out > 0 ? out : 0) + (thoughts > 0 ? thoughts : 0);
        if (cached >= 0)
                s->usage.cache_read_tokens = cached;
        if (thoughts >= 0)
                s->usage.thought_tokens = thoughts;
        s->usage_changed = true;
}

static int take_call(struct llm_stream *s, const cJSON *f)
{
        struct llm_call *c = llm_call_at(s, s->n_calls);
        char *args;
        int rc;

        if (!c)
                return llm_fault(s, "bad_answer", "the answer has more than %d tool calls", LLM_CALLS_MAX);
        rc = *member_text(f, "id") ? buf_puts(&c->id, member_text(f, "id"))
                                   : buf_printf(&c->id, "call_%zu", s->n_calls);
        if (!rc)
                rc = buf_puts(&c->name, member_text(f, "name"));
        if (rc)
                return rc;
        args = member(f, "args") ? json_text(member(f, "args")) : mem_strdup("{}");
        rc = args ? llm_call_arguments(s, c, args, strlen(args)) : -E_NOMEM;
        mem_free(args);
        return rc;
}

static int take_end(struct llm_stream *s, const char *reason)
{
        static const char *const mistakes[] = {"MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL"};
        static const char *const filtered[] = {"SAFETY", "RECITATION", "BLOCKLIST",   "PROHIBITED_CONTENT",
                                               "SPII",   "LANGUAGE",   "IMAGE_SAFETY"};

        s->end = strcmp(reason, "MAX_TOKENS") == 0 ? LLM_MAX_TOKENS : s->n_calls ? LLM_TOOLS : LLM_STOP;
        for (size_t i = 0; i < sizeof filtered / sizeof *filtered; i++)
                if (strcmp(filtered[i], reason) == 0)
                        s->end = LLM_FILTERED;
        for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++)
                if (strcmp(mistakes[i], reason) == 0)
                        return llm_fault(
                                s, "bad_output",
                                "the model made a mistake in calling a tool (%s): ask again, or describe "
                                "the tools more simply",
                                reason);
        return 0;
}

static int message(struct llm_stream *s, const cJSON *v)
{
        const cJSON *list = member(v, "candidates"), *candidate, *p;
        const char *block = member_text(member(v, "promptFeedback"), "blockReason"), *text;
        int rc = 0;

        if (member(v, "error"))
                return llm_told_error(s, member(v, "error"));
        llm_model(s, member_text(v, "modelVersion"));
        if (member(v, "usageMetadata"))
                take_usage(s, member(v, "usageMetadata"));
        if (*block)
                s->end = LLM_FILTERED;
        candidate = cJSON_IsArray(list) ? cJSON_GetArrayItem(list, 0) : NULL;
        cJSON_ArrayForEach(p, member(member(candidate, "content"), "parts"))
        {
                if (rc)
                        break;
                text = member_text(p, "text");
                if (member(p, "functionCall"))
                        rc = take_call(s, member(p, "functionCall"));
                else if (cJSON_IsTrue(member(p, "thought")))
                        rc = llm_thought(s, text, strlen(text));
                else
                        rc = llm_text(s, text, strlen(text));
        }
        text = member_text(candidate, "finishReason");
        if (!rc && *text)
                rc = take_end(s, text);
        return rc;
}

const struct llm_wire llm_gemini = {
        .path = path,
        .key_header = "x-goog-api-key",
        .key_prefix = "",
        .build = build,
        .message = message,
};
