/* One call of a tool of an MCP server.
 *
 *   WAITING --the server is ready--> SENT --answered, failed, cancelled--> ENDING --timer closed--> OVER
 *      ^                              |
 *      +--- the session was lost -----+
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "agent/tools/event.h"
#include "agent/tools/mcp_in.h"
#include "agent/tools/mcp_result.h"
#include "common/json.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/str.h"

#define ROUNDS_MAX     16 /* of input_required */
#define ERROR_TEXT_MAX 400

static const unsigned moves[] = {
        [CALL_WAITING] = 1u << CALL_SENT | 1u << CALL_ENDING,
        [CALL_SENT] = 1u << CALL_WAITING | 1u << CALL_ENDING,
        [CALL_ENDING] = 1u << CALL_OVER,
        [CALL_OVER] = 0,
};

static void move(struct mcp_call *k, int to)
{
        if (moves[k->state] & 1u << to)
                k->state = to;
        else
                log_error("mcp", "call move refused", "attempt=%" PRIu64 " from=%d to=%d", k->c->attempt_id,
                          (int)k->state, to);
}

/* --- the end ---------------------------------------------------------------------------------- */

static void finish(struct mcp_call *k)
{
        struct tool_result r = {.outcome = k->outcome, .outputs = k->outputs};

        move(k, CALL_OVER);
        k->outputs = NULL;
        if (k->outcome != TOOL_SUCCEEDED) {
                r.error_code = k->code;
                r.error_message = k->why.msg;
        }
        tool_finish(k->c, &r);
}

static void on_limit_closed(uv_handle_t *h)
{
        finish(h->data);
}

void mcp_call_end(struct mcp_call *k, enum tool_outcome o, const char *code, int err, const char *fmt, ...)
{
        struct mcp_server *s = k->server;
        va_list ap;

        if (k->state >= CALL_ENDING)
                return;
        if (k->state == CALL_SENT && s->link) {
                jsonrpc_forget(&s->rpc, k->request);
                mcp_link_drop(s->link, k->request);
        }
        k->outcome = o;
        snprintf(k->code, sizeof k->code, "%s", code);
        va_start(ap, fmt);
        err_setv(&k->why, err, fmt, ap);
        va_end(ap);
        ask_end(k);
        move(k, CALL_ENDING);
        list_remove(&k->link);
        uv_close((uv_handle_t *)&k->limit, on_limit_closed);
        server_idle(s);
}

static void on_limit(uv_timer_t *t);

/* Stands while a question is open; progress starts it anew. */
void mcp_call_clock(struct mcp_call *k)
{
        if (k->state >= CALL_ENDING)
                return;
        if (k->open_asks || k->server->config->call_ms <= 0 || k->state != CALL_SENT) {
                uv_timer_stop(&k->limit);
                return;
        }
        uv_update_time(k->c->loop);
        uv_timer_start(&k->limit, on_limit, (uint64_t)k->server->config->call_ms, 0);
}

/* Tells the server; 2026-07-28 over HTTP does it by closing the stream. */
static void tell_cancelled(struct mcp_call *k, const char *why)
{
        struct mcp_server *s = k->server;
        cJSON *p;

        if (k->state != CALL_SENT || !s->link || (s->modern && s->config->url))
                return;
        p = cJSON_CreateObject();
        if (p && cJSON_AddNumberToObject(p, "requestId", (double)k->request) &&
            cJSON_AddStringToObject(p, "reason", why) && server_envelope(s, p))
                jsonrpc_notify(&s->rpc, "notifications/cancelled", p);
        else
                cJSON_Delete(p);
}

static void on_limit(uv_timer_t *t)
{
        struct mcp_call *k = t->data;
        char text[32];

        str_format_duration(k->server->config->call_ms, text);
        tell_cancelled(k, "timeout");
        mcp_call_end(k, TOOL_TIMED_OUT, "timeout", E_TIMEOUT,
                     "%s did not answer within %s (call_timeout of the MCP server %s)", k->tool->original,
                     text, k->server->config->name);
}

void mcp_call_cancel(struct tool_call *c, int grace_ms)
{
        struct mcp_call *k = c->state;

        (void)grace_ms;
        if (!k || k->state >= CALL_ENDING)
                return;
        tell_cancelled(k, "cancelled");
        mcp_call_end(k, TOOL_CANCELLED, "cancelled", E_CANCELLED,
                     "stopped on request; the server was told, and may have acted already");
}

/* --- what comes meanwhile ------------------------------------------------------------------------- */

/* While nobody takes its output, what is only of the moment is left out. */
void mcp_call_progress(struct mcp_server *s, const cJSON *params)
{
        const cJSON *token = cJSON_GetObjectItemCaseSensitive(params, "progressToken");
        const cJSON *progress = cJSON_GetObjectItemCaseSensitive(params, "progress");
        const cJSON *total = cJSON_GetObjectItemCaseSensitive(params, "total");
        const cJSON *message = cJSON_GetObjectItemCaseSensitive(params, "message");

        if (!cJSON_IsNumber(token) || !cJSON_IsNumber(progress))
                return;
        LIST_EACH (it, &s->calls) {
                struct mcp_call *k = container_of(it, struct mcp_call, link);

                if ((double)k->token != token->valuedouble)
                        continue;
                mcp_call_clock(k);
                if (!k->full)
                        k->full = event_progress(k->c, progress->valuedouble,
                                                 cJSON_IsNumber(total) ? total->valuedouble : -1,
                                                 cJSON_IsString(message) ? message->valuestring : NULL) != 0;
                return;
        }
}

struct mcp_call *mcp_call_of(struct mcp_server *s, uint64_t request)
{
        LIST_EACH (it, &s->calls) {
                struct mcp_call *k = container_of(it, struct mcp_call, link);

                if (k->request == request)
                        return k;
        }
        return list_empty(&s->calls) ? NULL : container_of(s->calls.prev, struct mcp_call, link);
}

static const char *level_of(const cJSON *params)
{
        const char *l = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(params, "level"));

        if (!l || strcmp(l, "info") == 0 || strcmp(l, "notice") == 0)
                return "info";
        return strcmp(l, "debug") == 0 ? "debug" : strcmp(l, "warning") == 0 ? "warning" : "error";
}

void mcp_call_log(struct mcp_server *s, uint64_t request, const cJSON *params)
{
        struct mcp_call *k = mcp_call_of(s, request);
        const cJSON *data = cJSON_GetObjectItemCaseSensitive(params, "data");
        char *text = cJSON_IsString(data) ? mem_strdup(data->valuestring) : data ? json_text(data) : NULL;

        if (k && text && !k->full)
                k->full = event_log(k->c, level_of(params), text) != 0;
        else if (!k && text)
                log_info("mcp", "a server says", "server=%s text=\"%.300s\"", s->config->name, text);
        mem_free(text);
}

void mcp_call_room(struct tool_call *c)
{
        struct mcp_call *k = c->state;

        if (k)
                k->full = false;
}

/* --- the answer -------------------------------------------------------------------------------------- */

static void on_text(void *arg, const char *p, size_t n)
{
        struct mcp_call *k = arg;

        event_text(k->c, p, n); /* it is here already and bounded: nothing is gained by waiting for room */
}

static void take_inputs(struct mcp_call *k, const struct mcp_result *r)
{
        if (++k->rounds > ROUNDS_MAX) {
                mcp_call_end(k, TOOL_FAILED, "bad_answer", E_PROTO, "%s asked for input %d times over",
                             k->tool->original, ROUNDS_MAX);
                return;
        }
        mem_free(k->request_state);
        k->request_state = r->state ? mem_strdup(r->state) : NULL;
        if (r->state && !k->request_state)
                mcp_call_end(k, TOOL_FAILED, "out_of_memory", E_NOMEM, "the agent is out of memory");
        else
                ask_inputs(k, r->inputs);
}

static void take_result(struct mcp_call *k, const cJSON *result)
{
        struct mcp_result r;
        struct err e = {0};
        const char *text;
        size_t n;
        int rc = mcp_result_read(result, k->tool->check, on_text, k, &r, &e);

        if (rc) {
                mcp_call_end(k, TOOL_FAILED,
                             rc == -E_INVAL   ? "bad_output"
                             : rc == -E_NOMEM ? "out_of_memory"
                                              : "bad_answer",
                             -rc, "%s of the MCP server %s: %s", k->tool->original, k->server->config->name,
                             e.msg);
                return;
        }
        if (r.input_required) {
                take_inputs(k, &r);
                return;
        }
        k->outputs = r.outputs;
        if (!r.is_error) {
                mcp_call_end(k, TOOL_SUCCEEDED, "", 0, "%s", "");
                return;
        }
        text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(k->outputs, "text"));
        n = text ? strlen(text) : 0;
        for (n = n < ERROR_TEXT_MAX ? n : ERROR_TEXT_MAX; n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80;)
                n--;
        mcp_call_end(k, TOOL_FAILED, "tool_error", E_STATE, "%s says: %.*s", k->tool->original, (int)n,
                     n ? text : "it failed, and not why");
}

static bool is_known(const struct mcp_call *k)
{
        for (size_t i = 0; i < k->server->n_tools; i++)
                if (strcmp(k->server->tools[i]->original, k->tool->original) == 0)
                        return true;
        return false;
}

static bool says_unknown(const char *message)
{
        static const char *const words[] = {"unknown tool", "tool not found", "no such tool"};

        for (size_t i = 0; i < sizeof words / sizeof *words; i++)
                if (strcasestr(message, words[i]))
                        return true;
        return strcasestr(message, "tool") && strcasestr(message, "not found");
}

static const char *code_of(const struct mcp_call *k, const struct jsonrpc_msg *m)
{
        if (m->code == JSONRPC_INVALID_PARAMS)
                return says_unknown(m->message) || !is_known(k) ? "unknown_tool" : "invalid_params";
        switch (m->code) {
        case JSONRPC_METHOD_NOT_FOUND:
                return "unknown_tool";
        case -32020: /* headers and body differ */
        case -32021: /* a capability is missing */
        case -32022: /* the revision */
        case JSONRPC_INVALID_REQUEST:
        case JSONRPC_PARSE_ERROR:
                return "protocol_error";
        case -32042: /* an address must be opened first */
                return "input_unsupported";
        default:
                return "server_error";
        }
}

static void take_error(struct mcp_call *k, const struct jsonrpc_msg *m)
{
        struct mcp_server *s = k->server;
        const struct mcp_failure *f = s->failure;

        /* Its 404 says that nothing was done. */
        if (f && strcmp(f->code, "session_lost") == 0 && !k->retried && s->state == SERVER_READY) {
                k->retried = true;
                move(k, CALL_WAITING);
                list_remove(&k->link);
                list_push_back(&s->waiting, &k->link);
                uv_timer_stop(&k->limit);
                server_drop_session(s);
                return;
        }
        if (f && (m->code == JSONRPC_INTERNAL_ERROR || f->status == 401 || f->status == 403))
                mcp_call_end(k, TOOL_FAILED, f->code, E_UNAVAIL, "the MCP server %s: %s%s%.200s",
                             s->config->name, f->why->msg, f->text[0] ? "; it says: " : "", f->text);
        else
                mcp_call_end(k, TOOL_FAILED, code_of(k, m), E_STATE,
                             "%s of the MCP server %s: %.300s (%" PRId64 ")", k->tool->original,
                             s->config->name, m->message, m->code);
}

static void on_answer(void *arg, const struct jsonrpc_msg *m)
{
        struct mcp_call *k = arg;

        if (k->state != CALL_SENT)
                return;
        if (m->kind == JSONRPC_RESULT)
                take_result(k, m->result);
        else
                take_error(k, m);
}

/* --- the beginning ---------------------------------------------------------------------------------------
 */

static bool put(cJSON *o, const char *key, cJSON *v)
{
        if (v && cJSON_AddItemToObject(o, key, v))
                return true;
        cJSON_Delete(v);
        return false;
}

static cJSON *make_params(struct mcp_call *k)
{
        cJSON *p = cJSON_CreateObject(), *meta = p ? cJSON_AddObjectToObject(p, "_meta") : NULL;
        bool ok = meta && cJSON_AddStringToObject(p, "name", k->tool->original) &&
                  put(p, "arguments", cJSON_Duplicate(k->arguments, true)) &&
                  cJSON_AddNumberToObject(meta, "progressToken", (double)k->token);

        if (ok && k->c->traceparent && *k->c->traceparent)
                ok = cJSON_AddStringToObject(meta, "traceparent", k->c->traceparent) != NULL;
        if (ok && k->responses) {
                ok = put(p, "inputResponses", k->responses);
                k->responses = NULL;
        }
        if (ok && k->request_state)
                ok = cJSON_AddStringToObject(p, "requestState", k->request_state) != NULL;
        if (ok && server_envelope(k->server, p))
                return p;
        cJSON_Delete(p);
        return NULL;
}

/* For the first time, or once more with the answers that it asked for. */
void mcp_call_go(struct mcp_call *k)
{
        struct mcp_server *s = k->server;
        cJSON *params, *headers;
        int rc = -E_NOMEM;

        if (k->state == CALL_WAITING) {
                move(k, CALL_SENT);
                list_remove(&k->link);
                list_push_back(&s->calls, &k->link);
        }
        uv_timer_stop(&s->clock); /* it is not idle */
        k->token = s->next_token++;
        k->request = MCP_NO_REQUEST;
        params = make_params(k);
        headers = s->modern ? mcp_tool_headers(k->tool, k->arguments) : NULL;
        if (params) {
                s->headers = headers;
                rc = jsonrpc_call(&s->rpc, "tools/call", params, on_answer, k, &k->request);
                s->headers = NULL;
        }
        cJSON_Delete(headers);
        if (rc == 0)
                mcp_call_clock(k);
        else
                mcp_call_end(k, TOOL_FAILED,
                             rc == -E_TOOBIG  ? "input_too_large"
                             : rc == -E_NOMEM ? "out_of_memory"
                                              : "server_busy",
                             -rc, "the MCP server %s cannot be sent the call: %s", s->config->name,
                             err_name(rc));
}

int mcp_call_start(struct tool_call *c, const cJSON *input, struct err *e)
{
        struct mcp_tool *t = c->tool->data;
        struct mcp_call *k = mem_calloc(1, sizeof *k);

        if (!k || !(k->arguments = cJSON_Duplicate(input, true))) {
                mem_free(k);
                return err_set(e, E_NOMEM, "out of memory");
        }
        k->c = c;
        k->tool = t;
        k->server = t->server;
        k->request = MCP_NO_REQUEST;
        t->calls++;
        list_init(&k->asks);
        uv_timer_init(c->loop, &k->limit);
        k->limit.data = k;
        c->state = k;
        list_push_back(&k->server->waiting, &k->link);
        server_want(k->server);
        return 0;
}

void mcp_call_free(struct tool_call *c)
{
        struct mcp_call *k = c->state;

        if (!k)
                return;
        cJSON_Delete(k->arguments);
        cJSON_Delete(k->responses);
        cJSON_Delete(k->outputs);
        mem_free(k->request_state);
        k->tool->calls--;
        mcp_tool_free(k->tool);
        mem_free(k);
        c->state = NULL;
}
