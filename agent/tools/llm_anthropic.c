/* Anthropic's messages: POST /v1/messages, server-sent events from
 * message_start to message_stop. JSON is had by a tool that the model must
 * use, whose input is the answer. */
#include <math.h>
#include <string.h>

#include "agent/tools/llm_in.h"
#include "common/mem.h"
#include "common/str.h"

#define MAX_TOKENS_DEFAULT 4096 /* the interface insists on a number */
#define ANSWER_TOOL        "answer"
#define IS_ANSWER          (LLM_CALLS_MAX + 1)

static char *path(const char *model)
{
        (void)model;
        return mem_strdup("/v1/messages");
}

/* ---- the request ---- */

static void put_part(struct build *b, cJSON *list, const cJSON *p)
{
        const char *type = member_text(p, "type");
        cJSON *o = build_object(b, list, NULL), *source;

        if (strcmp(type, "text") == 0) {
                build_str(b, o, "type", "text");
                build_str(b, o, "text", member_text(p, "text"));
                return;
        }
        build_str(b, o, "type", strcmp(type, "image") == 0 ? "image" : "document");
        source = build_object(b, o, "source");
        build_str(b, source, "type", "base64");
        build_str(b, source, "media_type", member_text(p, "media_type"));
        build_str(b, source, "data", member_text(p, "data"));
}

static void put_tool_use(struct build *b, cJSON *list, const cJSON *calls)
{
        const cJSON *c;

        cJSON_ArrayForEach(c, calls)
        {
                cJSON *o = build_object(b, list, NULL);

                build_str(b, o, "type", "tool_use");
                build_str(b, o, "id", member_text(c, "id"));
                build_str(b, o, "name", member_text(c, "name"));
                if (member(c, "arguments"))
                        build_copy(b, o, "input", member(c, "arguments"));
                else
                        build_object(b, o, "input");
        }
}

static void put_result(struct build *b, cJSON *list, const cJSON *m)
{
        cJSON *o = build_object(b, list, NULL), *content;
        const cJSON *p;

        build_str(b, o, "type", "tool_result");
        build_str(b, o, "tool_use_id", member_text(m, "tool_call_id"));
        content = build_array(b, o, "content");
        cJSON_ArrayForEach(p, member(m, "parts")) put_part(b, content, p);
}

/* Results of tools are the user's words here, those that follow each other in one message. */
static void put_messages(struct build *b, cJSON *root, const struct llm_request *r)
{
        const cJSON *m, *p;
        cJSON *list = build_array(b, root, "messages"), *results = NULL;

        cJSON_ArrayForEach(m, r->messages)
        {
                const char *role = member_text(m, "role");
                cJSON *o, *content;

                if (strcmp(role, "system") == 0)
                        continue;
                if (strcmp(role, "tool") == 0) {
                        if (!results) {
                                o = build_object(b, list, NULL);
                                build_str(b, o, "role", "user");
                                results = build_array(b, o, "content");
                        }
                        put_result(b, results, m);
                        continue;
                }
                results = NULL;
                o = build_object(b, list, NULL);
                build_str(b, o, "role", role);
                content = build_array(b, o, "content");
                cJSON_ArrayForEach(p, member(m, "parts")) put_part(b, content, p);
                put_tool_use(b, content, member(m, "tool_calls"));
        }
}

static void put_system(struct build *b, cJSON *root, const struct llm_request *r, bool instruct)
{
        cJSON *list = NULL, *o;
        const cJSON *m;
        char *text;

        cJSON_ArrayForEach(m, r->messages)
        {
                if (strcmp(member_text(m, "role"), "system") != 0)
                        continue;
                if (!list)
                        list = build_array(b, root, "system");
                text = message_text(m);
                o = build_object(b, list, NULL);
                build_str(b, o, "type", "text");
                build_str(b, o, "text", text ? text : "");
                b->failed |= !text;
                mem_free(text);
        }
        if (!instruct)
                return;
        if (!list)
                list = build_array(b, root, "system");
        text = json_instruction(r);
        o = build_object(b, list, NULL);
        build_str(b, o, "type", "text");
        build_str(b, o, "text", text ? text : "");
        b->failed |= !text;
        mem_free(text);
}

static void put_tools(struct build *b, cJSON *root, const struct llm_request *r)
{
        cJSON *list = build_array(b, root, "tools"), *choice;
        const char *how = r->tool_choice;
        const cJSON *t;

        cJSON_ArrayForEach(t, r->tools)
        {
                cJSON *o = build_object(b, list, NULL);

                build_str(b, o, "name", member_text(t, "name"));
                if (*member_text(t, "description"))
                        build_str(b, o, "description", member_text(t, "description"));
                if (member(t, "input_schema"))
                        build_copy(b, o, "input_schema", member(t, "input_schema"));
                else
                        build_str(b, build_object(b, o, "input_schema"), "type", "object");
        }
        if (!how)
                return;
        choice = build_object(b, root, "tool_choice");
        if (strcmp(how, "auto") == 0 || strcmp(how, "none") == 0) {
                build_str(b, choice, "type", how);
        } else if (strcmp(how, "required") == 0) {
                build_str(b, choice, "type", "any");
        } else {
                build_str(b, choice, "type", "tool");
                build_str(b, choice, "name", how);
        }
}

static void put_answer_tool(struct build *b, cJSON *root, const struct llm_request *r)
{
        cJSON *o = build_object(b, build_array(b, root, "tools"), NULL), *choice;

        build_str(b, o, "name", ANSWER_TOOL);
        build_str(b, o, "description", "Gives the answer.");
        build_copy(b, o, "input_schema", r->schema);
        choice = build_object(b, root, "tool_choice");
        build_str(b, choice, "type", "tool");
        build_str(b, choice, "name", ANSWER_TOOL);
}

static bool is_object_schema(const cJSON *schema)
{
        return schema && strcmp(member_text(schema, "type"), "object") == 0;
}

static cJSON *build(const struct llm_request *r)
{
        struct build b = {0};
        cJSON *root = cJSON_CreateObject();
        bool has_tools = r->tools && cJSON_GetArraySize(r->tools) > 0;
        /* A tool's input is an object; other schemas, and answers beside tools, are asked for in words. */
        bool by_tool = r->json && !has_tools && is_object_schema(r->schema);
        int64_t max = r->max_tokens ? r->max_tokens : r->max_output ? r->max_output : MAX_TOKENS_DEFAULT;

        if (!root)
                return NULL;
        build_str(&b, root, "model", r->model);
        build_num(&b, root, "max_tokens", (double)max);
        put_system(&b, root, r, r->json && !by_tool);
        put_messages(&b, root, r);
        if (has_tools)
                put_tools(&b, root, r);
        else if (by_tool)
                put_answer_tool(&b, root, r);
        if (!isnan(r->temperature))
                build_num(&b, root, "temperature", r->temperature);
        build_copy(&b, root, "stop_sequences", r->stop);
        build_bool(&b, root, "stream", true);
        return build_end(&b, root);
}

/* ---- the answer ---- */

static void take_usage(struct llm_stream *s, const cJSON *u)
{
        static const struct {
                const char *said;
                size_t offset;
        } counts[] = {
                {"input_tokens", offsetof(struct event_usage, input_tokens)},
                {"output_tokens", offsetof(struct event_usage, output_tokens)},
                {"cache_read_input_tokens", offsetof(struct event_usage, cache_read_tokens)},
                {"cache_creation_input_tokens", offsetof(struct event_usage, cache_write_tokens)},
        };

        for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
                int64_t n = member_count(u, counts[i].said);

                if (n < 0)
                        continue;
                *(int64_t *)((char *)&s->usage + counts[i].offset) = n;
                s->usage_changed = true;
        }
}

static int block_start(struct llm_stream *s, const cJSON *block)
{
        const char *type = member_text(block, "type"), *text;
        struct llm_call *c;
        int rc;

        s->block = -1;
        if (strcmp(type, "tool_use") != 0) {
                text = member_text(block, strcmp(type, "thinking") == 0 ? "thinking" : "text");
                return strcmp(type, "thinking") == 0 ? llm_thought(s, text, strlen(text))
                                                     : llm_text(s, text, strlen(text));
        }
        if (s->json_by_tool && strcmp(member_text(block, "name"), ANSWER_TOOL) == 0) {
                s->block = IS_ANSWER;
                return 0;
        }
        c = llm_call_at(s, s->n_calls);
        if (!c)
                return llm_fault(s, "bad_answer", "the answer has more than %d tool calls", LLM_CALLS_MAX);
        s->block = (int)s->n_calls - 1;
        rc = buf_puts(&c->id, member_text(block, "id"));
        return rc ? rc : buf_puts(&c->name, member_text(block, "name"));
}

static int block_delta(struct llm_stream *s, const cJSON *d)
{
        const char *type = member_text(d, "type"), *text;

        if (strcmp(type, "text_delta") == 0) {
                text = member_text(d, "text");
                return llm_text(s, text, strlen(text));
        }
        if (strcmp(type, "thinking_delta") == 0) {
                text = member_text(d, "thinking");
                return llm_thought(s, text, strlen(text));
        }
        if (strcmp(type, "input_json_delta") != 0)
                return 0; /* signatures, citations */
        text = member_text(d, "partial_json");
        if (s->block == IS_ANSWER)
                return llm_text(s, text, strlen(text));
        if (s->block < 0 || (size_t)s->block >= s->n_calls)
                return llm_fault(s, "bad_answer", "the answer gives arguments to no tool call");
        return llm_call_arguments(s, &s->calls[s->block], text, strlen(text));
}

static void take_end(struct llm_stream *s, const char *reason)
{
        static const struct {
                const char *said;
                enum llm_end end;
        } ends[] = {
                {"max_tokens", LLM_MAX_TOKENS},
                {"model_context_window_exceeded", LLM_MAX_TOKENS},
                {"tool_use", LLM_TOOLS},
                {"refusal", LLM_FILTERED},
        };

        s->end = LLM_STOP;
        for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
                if (strcmp(ends[i].said, reason) == 0)
                        s->end = ends[i].end;
        if (s->end == LLM_TOOLS && s->json_by_tool && !s->n_calls)
                s->end = LLM_STOP;
}

static int message(struct llm_stream *s, const cJSON *v)
{
        const char *type = member_text(v, "type");

        if (strcmp(type, "error") == 0)
                return llm_told_error(s, member(v, "error"));
        if (strcmp(type, "message_start") == 0) {
                llm_model(s, member_text(member(v, "message"), "model"));
                take_usage(s, member(member(v, "message"), "usage"));
        } else if (strcmp(type, "content_block_start") == 0) {
                return block_start(s, member(v, "content_block"));
        } else if (strcmp(type, "content_block_delta") == 0) {
                return block_delta(s, member(v, "delta"));
        } else if (strcmp(type, "content_block_stop") == 0) {
                s->block = -1;
        } else if (strcmp(type, "message_delta") == 0) {
                const char *reason = member_text(member(v, "delta"), "stop_reason");

                if (*reason)
                        take_end(s, reason);
                take_usage(s, member(v, "usage"));
        } else if (strcmp(type, "message_stop") == 0) {
                if (s->end == LLM_NONE)
                        s->end = LLM_STOP;
                s->over = true;
        }
        return 0; /* ping, and what is new */
}

const struct llm_wire llm_anthropic = {
        .path = path,
        .key_header = "x-api-key",
        .key_prefix = "",
        .extra_header = "anthropic-version: 2023-06-01",
        .build = build,
        .message = message,
};
