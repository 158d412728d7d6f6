#include "agent/tools/claude_in.h"

#include <stdio.h>
#include <string.h>

#include "agent/tools/ai_json.h"
#include "agent/tools/stdio_peer.h"
#include "common/buf.h"
#include "common/json.h"
#include "common/mem.h"

#define RESULT_TEXT_MAX ((size_t)256 << 10) /* of what one tool gave back */

/* Of a helper it has started itself: what that one says is no part of the answer. */
static bool is_inner(const cJSON *m)
{
        return cJSON_IsString(ai_member(m, "parent_tool_use_id"));
}

/* ---- words ---- */

static void say(struct claude *cl, const char *text)
{
        if (!*text)
                return;
        if (cl->wrote && cl->paragraph)
                ai_run_flow(&cl->run, ai_text(&cl->run.ai, "\n\n", 2));
        cl->wrote = true;
        cl->paragraph = false;
        ai_run_flow(&cl->run, ai_text(&cl->run.ai, text, strlen(text)));
}

static void think(struct claude *cl, const char *text)
{
        if (*text)
                ai_run_flow(&cl->run, ai_thought(&cl->run.ai, text, strlen(text)));
}

/* ---- tokens ---- */

static void add_usage(struct event_usage *sum, const struct event_usage *u)
{
        ai_add(&sum->input_tokens, u->input_tokens);
        ai_add(&sum->output_tokens, u->output_tokens);
        ai_add(&sum->cache_read_tokens, u->cache_read_tokens);
        ai_add(&sum->cache_write_tokens, u->cache_write_tokens);
}

/* A limit of the call is passed: the turn shall end. */
static void over(struct claude *cl, const char *code)
{
        const struct ai *a = &cl->run.ai;

        ai_run_decide(&cl->run, TOOL_FAILED, code, "Claude Code passed a limit of this call (%s): %s",
                      ai_is(code, "cost_limit")    ? "limits.cost_usd"
                      : ai_is(code, "token_limit") ? "limits.tokens"
                                                   : "limits.turns",
                      "raise it, or ask for less at once");
        ai_run_interrupt(&cl->run, a->c->grace_ms);
}

static void tell_usage(struct claude *cl, const struct event_usage *u)
{
        const char *code = ai_usage(&cl->run.ai, u);

        if (code)
                over(cl, code);
}

static struct event_usage message_usage(const cJSON *v)
{
        struct event_usage u = event_usage_unknown;

        u.input_tokens = ai_count_of(v, "input_tokens");
        u.output_tokens = ai_count_of(v, "output_tokens");
        u.cache_read_tokens = ai_count_of(v, "cache_read_input_tokens");
        u.cache_write_tokens = ai_count_of(v, "cache_creation_input_tokens");
        return u;
}

static void on_message_start(struct claude *cl, const cJSON *message)
{
        const cJSON *u = ai_member(message, "usage");
        const char *id = ai_text_of(message, "id");

        snprintf(cl->message, sizeof cl->message, "%s", id ? id : "");
        cl->text_streamed = cl->thought_streamed = false;
        add_usage(&cl->before, &cl->now);
        cl->now = message_usage(u);
}

static void on_message_delta(struct claude *cl, const cJSON *event)
{
        const cJSON *u = ai_member(event, "usage");
        struct event_usage sum = cl->before;
        int64_t out = ai_count_of(u, "output_tokens");

        if (out >= 0)
                cl->now.output_tokens = out;
        add_usage(&sum, &cl->now);
        ai_add(&sum.context_used, cl->now.input_tokens);
        ai_add(&sum.context_used, cl->now.cache_read_tokens);
        ai_add(&sum.context_used, cl->now.cache_write_tokens);
        ai_add(&sum.context_used, cl->now.output_tokens);
        sum.model = cl->run.ai.out_model;
        tell_usage(cl, &sum);
}

/* ---- what streams ---- */

static void on_delta(struct claude *cl, const cJSON *delta)
{
        const char *type = ai_text_of(delta, "type"), *text;

        if (ai_is(type, "text_delta") && (text = ai_text_of(delta, "text"))) {
                cl->text_streamed = true;
                say(cl, text);
        } else if (ai_is(type, "thinking_delta") && (text = ai_text_of(delta, "thinking"))) {
                cl->thought_streamed = true;
                think(cl, text);
        }
}

static void on_stream_event(struct claude *cl, const cJSON *m)
{
        const cJSON *event = ai_member(m, "event");
        const char *type = ai_text_of(event, "type");

        if (is_inner(m))
                return;
        if (ai_is(type, "message_start"))
                on_message_start(cl, ai_member(event, "message"));
        else if (ai_is(type, "content_block_start"))
                cl->paragraph = true;
        else if (ai_is(type, "content_block_delta"))
                on_delta(cl, ai_member(event, "delta"));
        else if (ai_is(type, "message_delta"))
                on_message_delta(cl, event);
}

/* ---- whole messages ---- */

static void on_use(struct claude *cl, const cJSON *block)
{
        const char *id = ai_text_of(block, "id"), *name = ai_text_of(block, "name");
        const cJSON *input = ai_member(block, "input");
        struct claude_use u;
        cJSON *places, *diff, *plan;
        struct event_tool t = {.id = id, .status = "running", .name = name, .input = input};

        if (!id || !name)
                return;
        claude_use_read(name, input, &u);
        t.kind = u.kind;
        t.title = u.title;
        t.locations = places = claude_use_locations(&u);
        t.diff = diff = claude_use_diff(&u, input);
        ai_run_flow(&cl->run, event_tool(cl->run.ai.c, &t));
        plan = claude_use_plan(name, input);
        if (plan)
                event_plan(cl->run.ai.c, plan);
        cJSON_Delete(plan);
        cJSON_Delete(places);
        cJSON_Delete(diff);
        cl->paragraph = true;
}

/* What streamed comes again as a whole. A stream that never told a message's beginning speaks of what comes
 * next. */
static void on_words(struct claude *cl, const cJSON *block, const char *id)
{
        bool streamed = !cl->message[0] || ai_is(id, cl->message);
        const char *text = ai_text_of(block, "text"), *thought = ai_text_of(block, "thinking");

        if (text && !(streamed && cl->text_streamed)) {
                cl->paragraph = true;
                say(cl, text);
        }
        if (thought && !(streamed && cl->thought_streamed))
                think(cl, thought);
        if (!cl->message[0] && text)
                cl->text_streamed = false;
        if (!cl->message[0] && thought)
                cl->thought_streamed = false;
        cl->paragraph = true;
}

static void on_assistant(struct claude *cl, const cJSON *m)
{
        const cJSON *message = ai_member(m, "message"), *block;
        const cJSON *content = ai_list_of(message, "content");
        const char *error = ai_text_of(m, "error");
        /* Words of its own making, about a call of the API that failed, come with the result; those of a
         * helper are no part of the answer. */
        bool silent = ai_true(m, "is_api_error_message") || is_inner(m);

        if (error)
                snprintf(cl->error, sizeof cl->error, "%s", error);
        cJSON_ArrayForEach(block, content)
        {
                if (ai_is(ai_text_of(block, "type"), "tool_use"))
                        on_use(cl, block);
                else if (!silent)
                        on_words(cl, block, ai_text_of(message, "id"));
        }
}

/* A text, or a list of blocks that have one. */
static int result_text(const cJSON *content, struct buf *b)
{
        const cJSON *block;
        int rc = 0;

        if (cJSON_IsString(content))
                return buf_puts(b, content->valuestring);
        cJSON_ArrayForEach(block, content) /* members of an object have no text */
        {
                const char *text = ai_text_of(block, "text");

                if (!rc && text)
                        rc = buf_printf(b, "%s%s", b->len ? "\n" : "", text);
        }
        return rc;
}

static void on_user(struct claude *cl, const cJSON *m)
{
        const cJSON *content = ai_list_of(ai_member(m, "message"), "content");
        const cJSON *block;

        cJSON_ArrayForEach(block, content)
        {
                struct event_tool t = {.id = ai_text_of(block, "tool_use_id")};
                struct buf b;

                if (!ai_is(ai_text_of(block, "type"), "tool_result") || !t.id)
                        continue;
                buf_init(&b, 2 * STDIO_LINE_MAX);
                (void)result_text(ai_member(block, "content"), &b);
                t.status = ai_true(block, "is_error") ? "failed" : "completed";
                t.output = b.len ? (const char *)b.data : NULL;
                t.output_len = b.len;
                ai_run_flow(&cl->run, event_tool(cl->run.ai.c, &t));
                buf_fini(&b);
        }
}

static void on_system(struct claude *cl, const cJSON *m)
{
        const char *subtype = ai_text_of(m, "subtype"), *text;
        char line[200];

        if (ai_is(subtype, "init")) {
                ai_run_session(&cl->run, ai_text_of(m, "session_id"), cl->run.session_cost);
                ai_set(&cl->run.ai.out_model, ai_text_of(m, "model"));
        } else if (ai_is(subtype, "api_retry")) {
                text = ai_text_of(m, "error");
                snprintf(line, sizeof line, "the API answered %lld (%.60s): retry %lld of %lld in %lld ms",
                         (long long)ai_count_of(m, "error_status"), text ? text : "unknown",
                         (long long)ai_count_of(m, "attempt"), (long long)ai_count_of(m, "max_retries"),
                         (long long)ai_count_of(m, "retry_delay_ms"));
                event_log(cl->run.ai.c, "warning", line);
        } else if (ai_is(subtype, "compact_boundary")) {
                event_log(cl->run.ai.c, "info", "the conversation was compacted");
        }
}

/* ---- the end of the turn ---- */

static struct event_usage model_usage(const cJSON *v)
{
        struct event_usage u = event_usage_unknown;

        u.input_tokens = ai_count_of(v, "inputTokens");
        u.output_tokens = ai_count_of(v, "outputTokens");
        u.cache_read_tokens = ai_count_of(v, "cacheReadInputTokens");
        u.cache_write_tokens = ai_count_of(v, "cacheCreationInputTokens");
        u.thought_tokens = ai_count_of(v, "thinkingTokens");
        u.cost_usd = ai_money_of(v, "costUSD");
        u.context_size = ai_count_of(v, "contextWindow");
        return u;
}

/* Sums over models; this call's own, not those of the session that it goes on with. */
static bool models_usage(struct claude *cl, const cJSON *m, struct event_usage *sum)
{
        const cJSON *models = ai_member(m, "model_usage_since_last_result"), *v;
        struct ai *a = &cl->run.ai;

        if (!cJSON_IsObject(models) && !cl->resumed)
                models = ai_member(m, "modelUsage");
        if (!cJSON_IsObject(models) || !models->child)
                return false;
        if (!a->models)
                a->models = cJSON_CreateObject();
        cJSON_ArrayForEach(v, models)
        {
                struct event_usage u = model_usage(v);
                cJSON *one = a->models ? event_usage_json(&u) : NULL;

                add_usage(sum, &u);
                ai_add(&sum->thought_tokens, u.thought_tokens);
                if (u.cost_usd >= 0)
                        sum->cost_usd = (sum->cost_usd < 0 ? 0 : sum->cost_usd) + u.cost_usd;
                if (u.context_size > sum->context_size)
                        sum->context_size = u.context_size;
                if (one && !cJSON_AddItemToObject(a->models, v->string, one))
                        cJSON_Delete(one);
        }
        return true;
}

/* total_cost_usd adds up over a session that is gone on with. */
static double own_cost(const struct claude *cl, double total)
{
        double before = cl->run.session_cost;

        if (total < 0 || before < 0)
                return -1; /* then this call's part is not known */
        return total > before ? total - before : 0;
}

static const char *final_usage(struct claude *cl, const cJSON *m)
{
        struct event_usage u = event_usage_unknown;

        if (!models_usage(cl, m, &u)) {
                u = cl->before;
                add_usage(&u, &cl->now);
                if (u.input_tokens < 0) /* no message told of its tokens */
                        u = message_usage(ai_member(m, "usage"));
                u.cost_usd = own_cost(cl, ai_money_of(m, "total_cost_usd"));
        }
        u.context_used = cl->run.ai.usage.context_used;
        u.model = cl->run.ai.out_model;
        u.cost_source = u.cost_usd >= 0 ? "reported" : NULL;
        return ai_usage(&cl->run.ai, &u);
}

static const char *api_code(int64_t status, const char *error, const char *text)
{
        if (status == 401 || status == 403)
                return "auth_failed";
        if (status == 429)
                return "rate_limited";
        if (status == 529 || status == 503)
                return "overloaded";
        if (status == 404)
                return "unknown_model";
        if (status >= 500)
                return "server_error";
        if (status >= 400)
                return "bad_request";
        if (ai_is(error, "authentication_failed") || (text && strstr(text, "Not logged in")))
                return "not_logged_in";
        if (ai_is(error, "billing_error"))
                return "quota_exceeded";
        if (ai_is(error, "rate_limit"))
                return "rate_limited";
        return NULL;
}

static const struct {
        const char *code, *advice;
} advices[] = {
        {"auth_failed", "the key or the login is not accepted: log in again on this machine (claude, then "
                        "/login), or set ANTHROPIC_API_KEY"},
        {"not_logged_in", "log in on this machine (claude, then /login), or set ANTHROPIC_API_KEY"},
        {"rate_limited", "wait, or use another account or model"},
        {"overloaded", "the service has too much to do: try again later"},
        {"unknown_model", "see which models this account may use, and change \"model\""},
        {"server_error", "the service is in trouble: try again later"},
        {"bad_request", "the service does not take the request"},
        {"quota_exceeded", "see the account's balance"},
        {"turn_limit", "raise limits.turns"},
        {"cost_limit", "raise limits.cost_usd"},
        {"session_unknown",
         "sessions stay on the machine and with the user that had them: let the step run on the same agent, "
         "or leave \"session\" out"},
};

static const char *advice_of(const char *code)
{
        for (size_t i = 0; i < sizeof advices / sizeof *advices; i++)
                if (strcmp(advices[i].code, code) == 0)
                        return advices[i].advice;
        return "see its words and its events";
}

static const char *failure_code(const struct claude *cl, const cJSON *m, const char *text)
{
        const char *subtype = ai_text_of(m, "subtype"), *reason = ai_text_of(m, "terminal_reason");
        const char *code = api_code(ai_count_of(m, "api_error_status"), cl->error, text);

        if (code)
                return code;
        if (ai_is(reason, "max_turns") || ai_is(subtype, "error_max_turns"))
                return "turn_limit";
        if (ai_is(reason, "budget_exhausted") || ai_is(subtype, "error_max_budget_usd"))
                return "cost_limit";
        if (text && strstr(text, "No conversation found"))
                return "session_unknown";
        if (reason && strncmp(reason, "aborted", 7) == 0)
                return "turn_cancelled";
        return "agent_error";
}

static void failed(struct claude *cl, const cJSON *m)
{
        const cJSON *errors = ai_list_of(m, "errors");
        const char *text = ai_text_of(m, "result"), *code;

        if ((!text || !*text) && errors && cJSON_IsString(errors->child))
                text = errors->child->valuestring;
        code = failure_code(cl, m, text);
        ai_run_decide(&cl->run, TOOL_FAILED, code, "Claude Code: %.600s; %s",
                      text && *text ? text : "it failed", advice_of(code));
}

/* Whether it worked is said by is_error alone: an API that refused ends with subtype "success". */
static void on_result(struct claude *cl, const cJSON *m)
{
        const char *text = ai_text_of(m, "result"), *limit;
        int64_t turns = ai_count_of(m, "num_turns");

        ai_run_session(&cl->run, ai_text_of(m, "session_id"), ai_money_of(m, "total_cost_usd"));
        ai_set(&cl->run.ai.stop_reason, ai_text_of(m, "stop_reason") ? ai_text_of(m, "stop_reason")
                                                                     : ai_text_of(m, "terminal_reason"));
        if (turns >= 0)
                cl->run.ai.turns = turns;
        limit = final_usage(cl, m);
        if (!cJSON_IsBool(ai_member(m, "is_error"))) {
                ai_run_decide(&cl->run, TOOL_FAILED, "protocol_error",
                              "Claude Code ended its turn without saying whether it failed (is_error): look "
                              "at the events, and run its latest release");
        } else if (ai_true(m, "is_error")) {
                failed(cl, m);
        } else if (limit) {
                over(cl, limit);
        } else {
                if (text && !cl->wrote)
                        say(cl, text); /* nothing came before */
                ai_run_decide(&cl->run, TOOL_SUCCEEDED, NULL, "%s", "");
        }
        ai_run_leave(&cl->run);
}

static void on_control_response(struct claude *cl, const cJSON *m)
{
        const cJSON *r = ai_member(m, "response");
        const char *why = ai_text_of(r, "error");
        char line[300];

        if (!ai_is(ai_text_of(r, "subtype"), "error"))
                return;
        snprintf(line, sizeof line, "Claude Code does not take a request of the agent: %.200s",
                 why ? why : "");
        event_log(cl->run.ai.c, "warning", line);
}

void claude_message(struct ai_run *r, cJSON *m)
{
        static const struct {
                const char *type;
                void (*take)(struct claude *cl, const cJSON *m);
        } types[] = {
                {"stream_event", on_stream_event},
                {"assistant", on_assistant},
                {"user", on_user},
                {"system", on_system},
                {"result", on_result},
                {"control_request", claude_asked},
                {"control_cancel_request", claude_withdrawn},
                {"control_response", on_control_response},
        };
        const char *type = ai_text_of(m, "type");

        for (size_t i = 0; i < sizeof types / sizeof *types; i++)
                if (ai_is(type, types[i].type) && ai_run_in_turn(r))
                        types[i].take((struct claude *)r, m);
        cJSON_Delete(m);
}
