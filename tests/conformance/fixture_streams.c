/* Tools that take a while: they report, log, or ask the client something and wait for what
 * it says. */
#include <stdio.h>
#include <string.h>

#include "common/json.h"
#include "common/mem.h"
#include "hub/http/mcp_stream.h"
#include "tests/conformance/mcp_fixtures.h"

struct play {
        enum { PROGRESS, LOGS, ASK } kind;
        const char *method; /* ASK */
        char *params;       /* ASK; owned */
        bool asked;
};

static void play_free(void *job, struct mcp_call *c, enum mcp_end how)
{
        struct play *p = job;

        (void)c;
        (void)how;
        mem_free(p->params);
        mem_free(p);
}

static enum stream_more end_with(struct mcp_stream *ms, const char *text)
{
        struct buf b;
        int rc;

        buf_init(&b, 0);
        rc = buf_puts(&b, "\"content\":[{\"type\":\"text\",\"text\":");
        if (!rc)
                rc = json_append_str(&b, text, strlen(text));
        if (!rc)
                rc = buf_put(&b, "}]", 3);
        if (!rc)
                rc = mcp_stream_result(ms, (const char *)b.data);
        buf_fini(&b);
        return rc ? STREAM_BROKEN : STREAM_DATA;
}

static enum stream_more play_logs(struct mcp_stream *ms)
{
        static const char *const lines[] = {"Tool execution started", "Tool processing data",
                                            "Tool execution completed"};
        const struct mcp_terms *t = &mcp_stream_call(ms)->terms;
        char params[128];

        for (size_t i = 0; i < 3; i++) {
                snprintf(params, sizeof params, "{\"level\":\"info\",\"data\":\"%s\"}", lines[i]);
                if ((t->era == MCP_LEGACY || t->log_level) && mcp_stream_notify(ms, "message", params))
                        return STREAM_BROKEN;
        }
        return end_with(ms, "Tool with logging executed successfully");
}

/* What the client said to the question, as the suite's own server words it. */
static enum stream_more tell_answer(struct play *p, struct mcp_stream *ms, const cJSON *doc)
{
        const cJSON *r = cJSON_GetObjectItemCaseSensitive(doc, "result");
        const cJSON *content = cJSON_GetObjectItemCaseSensitive(r, "content");
        const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(content, "text"));
        const char *action = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(r, "action"));
        char *values = content ? json_text(content) : NULL;
        char line[1024];

        if (strcmp(p->method, "sampling/createMessage") == 0)
                snprintf(line, sizeof line, "LLM response: %.900s", text ? text : "");
        else
                snprintf(line, sizeof line, "Elicitation completed: action=%.20s, content=%.900s",
                         action ? action : "none", values ? values : "{}");
        mem_free(values);
        return end_with(ms, line);
}

static enum stream_more step(void *job, struct mcp_stream *ms, struct http_thread *t)
{
        struct play *p = job;
        enum stream_more more;
        cJSON *answer;

        (void)t;
        if (p->kind == LOGS)
                return play_logs(ms);
        if (p->kind == PROGRESS) {
                for (int i = 0; i <= 100; i += 50)
                        if (mcp_stream_progress(ms, i, 100, NULL))
                                return STREAM_BROKEN;
                return end_with(ms, "Tool with progress executed successfully");
        }
        if (!p->asked) {
                p->asked = true;
                return mcp_stream_ask(ms, p->method, p->params)
                               ? end_with(ms, "this client cannot be asked: it has no session or no stream")
                               : STREAM_WAIT;
        }
        answer = mcp_stream_answer(ms);
        if (!answer)
                return STREAM_WAIT;
        more = tell_answer(p, ms, answer);
        cJSON_Delete(answer);
        return more;
}

static const struct mcp_job_ops play_ops = {step, play_free};

static int play(struct http_req *q, struct mcp_call *c, int kind, const char *method, char *params,
                struct err *e)
{
        struct play *p = mem_calloc(1, sizeof *p);
        int rc = req_take_place(q, e);

        if (!p || rc || (method && !params)) {
                mem_free(p);
                mem_free(params);
                return rc ? rc : err_set(e, E_NOMEM, "out of memory");
        }
        *p = (struct play){.kind = kind, .method = method, .params = params};
        return mcp_stream_start(q, c, &play_ops, p, e);
}

int fixture_progress(struct http_req *q, struct mcp_call *c, struct err *e)
{
        return play(q, c, PROGRESS, NULL, NULL, e);
}

int fixture_logging(struct http_req *q, struct mcp_call *c, struct err *e)
{
        return play(q, c, LOGS, NULL, NULL, e);
}

/* A JSON template with one text in it. */
static char *with_text(const struct mcp_call *c, const char *arg, const char *before, const char *after)
{
        const char *s = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(c->args, arg));
        struct buf b;
        char *out = NULL;

        buf_init(&b, 0);
        if (s && !buf_puts(&b, before) && !json_append_str(&b, s, strlen(s)) && !buf_puts(&b, after))
                out = buf_steal_str(&b);
        buf_fini(&b);
        return out;
}

int fixture_sampling(struct http_req *q, struct mcp_call *c, struct err *e)
{
        if (!(c->can & MCP_CAN_SAMPLE))
                return err_set(e, E_NOTSUP, "the client does not offer sampling");
        return play(q, c, ASK, "sampling/createMessage",
                    with_text(c, "prompt",
                              "{\"messages\":[{\"role\":\"user\",\"content\":{\"type\":\"text\",\"text\":",
                              "}}],\"maxTokens\":100}"),
                    e);
}

static int elicit(struct http_req *q, struct mcp_call *c, char *params, struct err *e)
{
        if (c->can & MCP_CAN_ELICIT)
                return play(q, c, ASK, "elicitation/create", params, e);
        mem_free(params);
        return err_set(e, E_NOTSUP, "the client does not offer elicitation");
}

int fixture_elicitation(struct http_req *q, struct mcp_call *c, struct err *e)
{
        return elicit(
                q, c,
                with_text(c, "message", "{\"message\":",
                          ",\"requestedSchema\":{\"type\":\"object\",\"properties\":{\"username\":{"
                          "\"type\":\"string\",\"description\":\"User's response\"},\"email\":{\"type\":"
                          "\"string\",\"description\":\"User's email address\"}},\"required\":["
                          "\"username\",\"email\"]}}"),
                e);
}

int fixture_elicit_defaults(struct http_req *q, struct mcp_call *c, struct err *e)
{
        return elicit(
                q, c,
                mem_strdup("{\"message\":\"Please review the "
                           "defaults\",\"requestedSchema\":{\"type\":\"object\","
                           "\"properties\":{\"name\":{\"type\":\"string\",\"default\":\"John Doe\"},\"age\":{"
                           "\"type\":\"integer\",\"default\":30},\"score\":{\"type\":\"number\",\"default\":"
                           "95.5},"
                           "\"status\":{\"type\":\"string\",\"enum\":[\"active\",\"inactive\",\"pending\"],"
                           "\"default\":\"active\"},\"verified\":{\"type\":\"boolean\",\"default\":true}}}}"),
                e);
}

#define CHOICES(a, b, c)                                                                                     \
        "{\"const\":\"value1\",\"title\":\"" a "\"},{\"const\":\"value2\",\"title\":\"" b                    \
        "\"},{\"const\":\"value3\",\"title\":\"" c "\"}"
#define OPTIONS "[\"option1\",\"option2\",\"option3\"]"

int fixture_elicit_enums(struct http_req *q, struct mcp_call *c, struct err *e)
{
        return elicit(
                q, c,
                mem_strdup(
                        "{\"message\":\"Please choose\",\"requestedSchema\":{\"type\":\"object\","
                        "\"properties\":{\"untitledSingle\":{\"type\":\"string\",\"enum\":" OPTIONS
                        "},\"titledSingle\":{\"type\":\"string\",\"oneOf\":[" CHOICES(
                                "First Option", "Second Option",
                                "Third Option") "]},\"legacyEnum\":{\"type\":\"string\",\"enum\":[\"opt1\","
                                                "\"opt2\",\"opt3\"],\"enumNames\":[\"Option One\","
                                                "\"Option Two\",\"Option Three\"]},\"untitledMulti\":{"
                                                "\"type\":\"array\",\"items\":{\"type\":\"string\","
                                                "\"enum\":" OPTIONS
                                                "}},\"titledMulti\":{\"type\":\"array\",\"items\":{"
                                                "\"anyOf\":[" CHOICES("First Choice", "Second Choice",
                                                                      "Third Choice") "]}}}}}"),
                e);
}
