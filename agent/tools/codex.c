#include "agent/tools/codex.h"

#include <stdio.h>
#include <string.h>

#include "agent/policy.h"
#include "agent/sandbox/sandbox.h"
#include "agent/tools/ai_json.h"
#include "agent/tools/codex_in.h"
#include "agent/tools/stdio_peer.h"
#include "common/buf.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"
#include "common/version.h"

const char codex_input_schema[] =
        "{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{" AI_INPUT_PROPERTIES "}}";
const char codex_output_schema[] = AI_OUTPUT_SCHEMA;

/* initialize -> account/read -> thread/start or thread/resume -> turn/start -> turn/completed. Each answer
 * sends the next; a refused one ends the call. */

static void refused(struct codex *cx, const char *what, const struct jsonrpc_msg *m, const char *code)
{
        ai_run_decide(&cx->run, TOOL_FAILED, code, "Codex does not %s: %.600s", what,
                      m->message && *m->message ? m->message : "no reason given");
        ai_run_leave(&cx->run);
}

static void call(struct codex *cx, const char *method, cJSON *params,
                 void (*on_answer)(void *arg, const struct jsonrpc_msg *m))
{
        uint64_t id;

        if (!params || jsonrpc_call(&cx->rpc, method, params, on_answer, cx, &id))
                ai_run_send(&cx->run, NULL); /* says why it fails, unless that was said */
}

/* ---- the turn ---- */

static void on_turn(void *arg, const struct jsonrpc_msg *m)
{
        struct codex *cx = arg;

        if (m->kind == JSONRPC_ERROR)
                refused(cx, "begin a turn", m, "agent_error");
        else if (!cx->turn)
                ai_set(&cx->turn, ai_text_of(ai_member(m->result, "turn"), "id"));
}

/* The prompt, and where the files are that belong to it; pictures as such. */
static cJSON *turn_input(const struct ai *a)
{
        static const char *const pictures[] = {".png", ".jpg", ".jpeg", ".gif", ".webp"};
        cJSON *list = cJSON_CreateArray(), *text = cJSON_CreateObject();
        const cJSON *f;
        struct buf b;
        char *words;
        int rc;

        buf_init(&b, STDIO_LINE_MAX);
        rc = buf_puts(&b, a->prompt);
        if (list && text)
                cJSON_AddItemToArray(list, text);
        cJSON_ArrayForEach(f, a->files)
        {
                const char *dot = strrchr(f->valuestring, '.');
                cJSON *image = NULL;

                for (size_t i = 0; dot && i < sizeof pictures / sizeof *pictures; i++)
                        if (strcasecmp(dot, pictures[i]) == 0)
                                image = cJSON_CreateObject();
                if (image && cJSON_AddStringToObject(image, "type", "localImage") &&
                    cJSON_AddStringToObject(image, "path", f->valuestring))
                        cJSON_AddItemToArray(list, image);
                else if (!rc)
                        rc = buf_printf(&b, "%s\n- %s",
                                        f == a->files->child ? "\n\nFiles that belong to this:" : "",
                                        f->valuestring);
        }
        words = rc ? NULL : buf_steal_str(&b);
        buf_fini(&b);
        rc = list && text && words && cJSON_AddStringToObject(text, "type", "text") &&
             cJSON_AddStringToObject(text, "text", words);
        mem_free(words);
        if (rc)
                return list;
        cJSON_Delete(list);
        return NULL;
}

static void begin_turn(struct codex *cx)
{
        cJSON *p = cJSON_CreateObject(), *input = turn_input(&cx->run.ai);

        if (!p || !input || !cJSON_AddStringToObject(p, "threadId", cx->thread) ||
            !cJSON_AddItemToObject(p, "input", input)) {
                cJSON_Delete(input);
                cJSON_Delete(p);
                p = NULL;
        }
        call(cx, "turn/start", p, on_turn);
}

/* ---- the thread ---- */

static void on_thread(void *arg, const struct jsonrpc_msg *m)
{
        struct codex *cx = arg;
        const char *id = ai_text_of(ai_member(m->result, "thread"), "id");

        if (m->kind == JSONRPC_ERROR && cx->run.ai.session) {
                refused(cx, "go on with the session", m,
                        strstr(m->message, "no rollout") || strstr(m->message, "not found")
                                ? "session_unknown"
                                : "agent_error");
                return;
        }
        if (m->kind == JSONRPC_ERROR || !id) {
                refused(cx, "begin a conversation", m, "agent_error");
                return;
        }
        ai_set(&cx->thread, id);
        ai_run_session(&cx->run, id, -1);
        ai_set(&cx->run.ai.out_model, ai_text_of(m->result, "model"));
        begin_turn(cx);
}

/* MCP servers as its configuration has them. */
static cJSON *config(const struct ai *a)
{
        cJSON *o = cJSON_CreateObject(), *list, *s;

        if (!o || !a->mcp_servers || !a->mcp_servers->child)
                return o;
        list = cJSON_Duplicate(a->mcp_servers, true);
        cJSON_ArrayForEach(s, list)
        {
                cJSON *headers = cJSON_DetachItemFromObjectCaseSensitive(s, "headers");

                cJSON_DeleteItemFromObjectCaseSensitive(s, "type");
                if (headers && !cJSON_AddItemToObject(s, "http_headers", headers))
                        cJSON_Delete(headers);
        }
        if (list && cJSON_AddItemToObject(o, "mcp_servers", list))
                return o;
        cJSON_Delete(list);
        cJSON_Delete(o);
        return NULL;
}

/* What its commands run in. Its own sandbox wants to mount, which does not work inside of ours: each command
 * would fail, and sometimes be run again without it. So there is one: ours, or where that is off, its own. */
static const char *commands_in(const struct ai *a)
{
        if (sandbox_holds(a->c->tool->name))
                return "danger-full-access";
        return ai_is(a->mode, "deny") ? "read-only" : "workspace-write";
}

/* Whatever the user's own configuration says: it asks us for all that is not known to be harmless, and no
 * model answers in our place. */
static void open_thread(struct codex *cx)
{
        const struct ai *a = &cx->run.ai;
        cJSON *p = cJSON_CreateObject(), *conf = config(a);
        bool ok = p && conf && cJSON_AddStringToObject(p, "cwd", a->cwd) &&
                  cJSON_AddStringToObject(p, "approvalPolicy", "untrusted") &&
                  cJSON_AddStringToObject(p, "approvalsReviewer", "user") &&
                  cJSON_AddStringToObject(p, "sandbox", commands_in(a)) &&
                  (!a->model || cJSON_AddStringToObject(p, "model", a->model));

        if (ok && a->session)
                ok = cJSON_AddStringToObject(p, "threadId", a->session) &&
                     cJSON_AddTrueToObject(p, "excludeTurns");
        if (ok && cJSON_AddItemToObject(p, "config", conf)) {
                conf = NULL;
        } else {
                cJSON_Delete(p);
                p = NULL;
        }
        cJSON_Delete(conf);
        call(cx, a->session ? "thread/resume" : "thread/start", p, on_thread);
}

/* ---- the beginning ---- */

static void on_account(void *arg, const struct jsonrpc_msg *m)
{
        struct codex *cx = arg;

        /* An older one may not know the question: then the API says it. */
        if (m->kind == JSONRPC_RESULT && ai_true(m->result, "requiresOpenaiAuth") &&
            !cJSON_IsObject(ai_member(m->result, "account"))) {
                ai_run_decide(
                        &cx->run, TOOL_FAILED, "not_logged_in",
                        "Codex is not logged in: run codex login on this machine as the agent's user, or "
                        "give it a key");
                ai_run_leave(&cx->run);
                return;
        }
        open_thread(cx);
}

static void on_initialized(void *arg, const struct jsonrpc_msg *m)
{
        struct codex *cx = arg;

        if (m->kind == JSONRPC_ERROR) {
                refused(cx, "talk to this agent", m, "protocol_error");
                return;
        }
        jsonrpc_notify(&cx->rpc, "initialized", NULL);
        call(cx, "account/read", cJSON_CreateObject(), on_account);
}

static int started(struct ai_run *r, struct err *e)
{
        struct codex *cx = (struct codex *)r;
        cJSON *p = cJSON_CreateObject(), *who = p ? cJSON_AddObjectToObject(p, "clientInfo") : NULL;

        if (!who || !cJSON_AddStringToObject(who, "name", "photon") ||
            !cJSON_AddStringToObject(who, "title", "PHOTON") ||
            !cJSON_AddStringToObject(who, "version", PHOTON_VERSION)) {
                cJSON_Delete(p);
                return err_set(e, E_NOMEM, "the agent is out of memory");
        }
        call(cx, "initialize", p, on_initialized);
        return 0;
}

/* ---- what it tells ---- */

/* Its sums are those of the whole thread. */
static struct event_usage minus(const struct event_usage *a, const struct event_usage *b)
{
        struct event_usage u = *a;
        int64_t *const to[] = {&u.input_tokens, &u.output_tokens, &u.cache_read_tokens, &u.cache_write_tokens,
                               &u.thought_tokens};
        const int64_t from[] = {b->input_tokens, b->output_tokens, b->cache_read_tokens,
                                b->cache_write_tokens, b->thought_tokens};

        for (size_t i = 0; i < sizeof to / sizeof *to; i++)
                if (*to[i] >= 0 && from[i] > 0)
                        *to[i] = *to[i] > from[i] ? *to[i] - from[i] : 0;
        return u;
}

/* Of its input tokens those that came from a cache are counted apart. */
static struct event_usage read_usage(const cJSON *v)
{
        struct event_usage u = event_usage_unknown;
        int64_t in = ai_count_of(v, "inputTokens"), cached = ai_count_of(v, "cachedInputTokens");

        u.input_tokens = in >= 0 && cached > 0 ? (in > cached ? in - cached : 0) : in;
        u.cache_read_tokens = cached;
        u.cache_write_tokens = ai_count_of(v, "cacheWriteInputTokens");
        u.output_tokens = ai_count_of(v, "outputTokens");
        u.thought_tokens = ai_count_of(v, "reasoningOutputTokens");
        return u;
}

static void on_usage(struct codex *cx, const cJSON *params)
{
        const cJSON *all = ai_member(params, "tokenUsage"), *last = ai_member(all, "last");
        struct event_usage total = read_usage(ai_member(all, "total")), one = read_usage(last), own;
        const char *limit;

        if (!cx->turn) { /* of the session that is gone on with */
                cx->base = total;
                cx->base_known = true;
                return;
        }
        if (!cx->base_known) {
                cx->base = minus(&total, &one);
                cx->base_known = true;
        }
        own = minus(&total, &cx->base);
        own.context_used = ai_count_of(last, "totalTokens");
        own.context_size = ai_count_of(all, "modelContextWindow");
        own.model = cx->run.ai.out_model;
        cx->run.ai.turns++;
        limit = ai_usage(&cx->run.ai, &own);
        if (limit) {
                ai_run_decide(&cx->run, TOOL_FAILED, limit,
                              "Codex passed a limit of this call (%s): raise it, or ask "
                              "for less at once",
                              ai_is(limit, "token_limit") ? "limits.tokens" : "limits.turns");
                ai_run_interrupt(&cx->run, cx->run.ai.c->grace_ms);
        }
}

static void on_error(struct codex *cx, const cJSON *params)
{
        const cJSON *error = ai_member(params, "error");
        const char *text = ai_text_of(error, "message"), *more = ai_text_of(error, "additionalDetails");
        char line[400];

        snprintf(line, sizeof line, "%.150s%s%.200s", text ? text : "an error", more ? ": " : "",
                 more ? more : "");
        event_log(cx->run.ai.c, ai_true(params, "willRetry") ? "warning" : "error", line);
}

static void on_warning(struct codex *cx, const cJSON *params)
{
        const char *text = ai_text_of(params, "message");

        if (text)
                event_log(cx->run.ai.c, "warning", text);
}

static void on_turn_started(struct codex *cx, const cJSON *params)
{
        if (!cx->turn)
                ai_set(&cx->turn, ai_text_of(ai_member(params, "turn"), "id"));
}

static void on_turn_completed(struct codex *cx, const cJSON *params)
{
        const cJSON *turn = ai_member(params, "turn"), *error = ai_member(turn, "error");
        const char *status = ai_text_of(turn, "status"), *text = ai_text_of(error, "message"), *code;

        if (cx->turn && !ai_is(cx->turn, ai_text_of(turn, "id")))
                return; /* another one's */
        ai_set(&cx->run.ai.stop_reason, status);
        if (ai_is(status, "completed")) {
                ai_run_decide(&cx->run, TOOL_SUCCEEDED, NULL, "%s", "");
        } else if (ai_is(status, "interrupted")) {
                ai_run_decide(&cx->run, TOOL_FAILED, "turn_cancelled", "Codex ended its own turn");
        } else {
                code = codex_error_code(error);
                ai_run_decide(&cx->run, TOOL_FAILED, code, "Codex: %.600s; %s",
                              text ? text : "the turn failed", codex_error_advice(code));
        }
        ai_run_leave(&cx->run);
}

/* The thread of a helper that it has started itself is no part of this call. */
static bool is_ours(const struct codex *cx, const cJSON *params)
{
        const char *thread = ai_text_of(params, "threadId");

        return !thread || !cx->thread || strcmp(thread, cx->thread) == 0;
}

static void told(struct codex *cx, const struct jsonrpc_msg *m)
{
        static const struct {
                const char *method;
                void (*take)(struct codex *cx, const cJSON *params);
        } methods[] = {
                {"item/agentMessage/delta", codex_message_delta},
                {"item/reasoning/summaryTextDelta", codex_thought_delta},
                {"item/reasoning/textDelta", codex_thought_delta},
                {"item/started", codex_item_started},
                {"item/completed", codex_item_completed},
                {"turn/plan/updated", codex_plan},
                {"turn/started", on_turn_started},
                {"turn/completed", on_turn_completed},
                {"thread/tokenUsage/updated", on_usage},
                {"serverRequest/resolved", codex_resolved},
                {"error", on_error},
                {"warning", on_warning},
        };

        if (!is_ours(cx, m->params))
                return;
        for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
                if (ai_is(m->method, methods[i].method))
                        methods[i].take(cx, m->params);
}

void codex_message(struct ai_run *r, cJSON *tree)
{
        struct codex *cx = (struct codex *)r;
        struct jsonrpc_msg m;
        struct err e = {0};
        int rc = jsonrpc_read_tree(tree, true, &m, &e);

        if (rc) {
                ai_run_decide(r, TOOL_FAILED, "protocol_error", "Codex wrote a message that is none: %s",
                              e.msg);
                ai_run_stop(r, AI_RUN_STOP_MS);
                return;
        }
        if (!ai_run_in_turn(r))
                ; /* it is over for us */
        else if (m.kind == JSONRPC_REQUEST)
                codex_asked(cx, &m);
        else if (m.kind == JSONRPC_NOTIFICATION)
                told(cx, &m);
        else
                (void)jsonrpc_answer(&cx->rpc, &m); /* to nobody: no harm */
        jsonrpc_msg_fini(&m);
}

/* ---- the end ---- */

static void on_interrupted(void *arg, const struct jsonrpc_msg *m)
{
        (void)arg;
        (void)m; /* turn/completed says it */
}

static bool interrupt(struct ai_run *r)
{
        struct codex *cx = (struct codex *)r;
        cJSON *p = cx->turn && cx->thread ? cJSON_CreateObject() : NULL;

        if (!p)
                return false; /* no turn has begun */
        if (!cJSON_AddStringToObject(p, "threadId", cx->thread) ||
            !cJSON_AddStringToObject(p, "turnId", cx->turn)) {
                cJSON_Delete(p);
                return false;
        }
        call(cx, "turn/interrupt", p, on_interrupted);
        return true;
}

static int send_message(void *arg, const cJSON *m)
{
        return ai_run_send_lent(arg, m);
}

static int prepare(struct ai_run *r, struct err *e)
{
        static const char *const fixed[] = {"app-server", "-c", "features.plugins=false", "-c",
                                            "analytics.enabled=false"};
        struct codex *cx = (struct codex *)r;
        int rc = 0;

        list_init(&cx->asks);
        cx->base_known = r->ai.session == NULL;
        cx->base = event_usage_unknown;
        if (r->ai.max_cost_usd >= 0)
                return err_set(
                        e, E_INVAL,
                        "Codex does not tell what it costs, so that limits.cost_usd cannot be kept: use "
                        "limits.tokens");
        if (jsonrpc_init(&cx->rpc, true, send_message, r))
                return err_set(e, E_NOMEM, "the agent is out of memory");
        cx->rpc_open = true;
        for (size_t i = 0; i < sizeof fixed / sizeof *fixed && !rc; i++)
                rc = ai_run_arg(r, fixed[i], e);
        if (!rc)
                rc = ai_passenv(&r->ai, "OPENAI_*", e);
        return rc ? rc : ai_passenv(&r->ai, "CODEX_*", e);
}

static void fini(struct ai_run *r)
{
        struct codex *cx = (struct codex *)r;

        if (cx->asks.next)
                codex_forget_asks(cx);
        if (cx->rpc_open)
                jsonrpc_fini(&cx->rpc);
        mem_free(cx->thread);
        mem_free(cx->turn);
        mem_free(cx->spoke);
        cJSON_Delete(cx->changes);
}

static const struct ai_run_ops ops = {
        .program = "codex",
        .product = "Codex",
        .prepare = prepare,
        .started = started,
        .message = codex_message,
        .interrupt = interrupt,
        .fini = fini,
};

int codex_permit(const struct policy *p, const cJSON *input, struct err *e)
{
        (void)input; /* the folder and the files are looked at when it starts */
        return policy_command(p, ops.program, false, e);
}

int codex_start(struct tool_call *c, const cJSON *input, struct err *e)
{
        return ai_run_open(c, sizeof(struct codex), &ops, input, e);
}
