/* The life of one MCP server.
 *
 *   OFF --wanted--> PROBING --modern--> LISTING --> READY --idle--> CLOSING --gone--> OFF
 *    |                 +--legacy--> INITIALIZING --^                  ^
 *    +--known to be legacy------------^        any of these: fails ---+
 *
 * From any state to OFF when it is gone by itself. The newer revision is tried
 * first (server/discover); whoever does not know it is asked with initialize. */
#include "agent/tools/mcp_in.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/json.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/str.h"
#include "common/version.h"

#define TAIL_SHOWN     300
#define RELIST_MS      1000 /* between two readings of its tools, however often it says that they changed */
#define COMPLAINTS_MAX 20   /* about what one start of a server sends; a flood is not our log's */

#define TO(s) (1u << (s))
static const struct {
        const char *name;
        unsigned next;
} states[] = {
        [SERVER_OFF] = {"off", TO(SERVER_PROBING) | TO(SERVER_INITIALIZING)},
        [SERVER_PROBING] = {"starting", TO(SERVER_INITIALIZING) | TO(SERVER_LISTING) | TO(SERVER_CLOSING) |
                                                TO(SERVER_OFF)},
        [SERVER_INITIALIZING] = {"starting", TO(SERVER_LISTING) | TO(SERVER_CLOSING) | TO(SERVER_OFF)},
        [SERVER_LISTING] = {"starting", TO(SERVER_READY) | TO(SERVER_CLOSING) | TO(SERVER_OFF)},
        [SERVER_READY] = {"ready", TO(SERVER_CLOSING) | TO(SERVER_OFF)},
        [SERVER_CLOSING] = {"closing", TO(SERVER_OFF)},
};

static void move(struct mcp_server *s, enum server_state to)
{
        if (states[s->state].next & TO(to))
                s->state = to;
        else
                log_error("mcp", "state move refused", "server=%s from=%d to=%d", s->config->name,
                          (int)s->state, (int)to);
}

const char *server_state_name(enum server_state s)
{
        return states[s].name;
}

static void start(struct mcp_server *s);

/* --- trouble ---------------------------------------------------------------------------- */

/* What it said last, as part of a sentence. */
static void add_words(struct mcp_server *s, char *text, size_t size)
{
        const char *tail = s->link ? mcp_link_words(s->link) : "";
        size_t n = strlen(tail), at = strlen(text);

        while (n > 0 && strchr("\r\n \t", tail[n - 1]))
                n--;
        if (n > TAIL_SHOWN) {
                tail += n - TAIL_SHOWN;
                n = TAIL_SHOWN;
                while (n > 0 && ((unsigned char)*tail & 0xc0) == 0x80) {
                        tail++;
                        n--;
                }
        }
        if (n > 0)
                snprintf(text + at, size - at, "; its standard error ends with: %.*s", (int)n, tail);
}

static void remember(struct mcp_server *s, const char *text)
{
        if (!s->error || strcmp(s->error, text) != 0)
                log_warn("mcp", "a server cannot be used", "server=%s error=\"%s\"", s->config->name, text);
        mem_free(s->error);
        s->error = mem_strdup(text);
}

static void fail_all(struct list *calls, const char *code, const char *text)
{
        while (!list_empty(calls)) {
                struct mcp_call *k = container_of(calls->next, struct mcp_call, link);

                /* It leaves the list by itself. */
                mcp_call_end(k, TOOL_FAILED, code, E_UNAVAIL, "%s", text);
        }
}

static void on_retry(uv_timer_t *t)
{
        struct mcp_server *s = t->data;

        if (s->state == SERVER_OFF)
                server_want(s);
}

static void retry_later(struct mcp_server *s)
{
        uint64_t ms = MCP_RETRY_MS;

        for (unsigned i = 1; i < s->failures && ms < MCP_RETRY_MAX; i++)
                ms *= 2;
        if (ms > MCP_RETRY_MAX)
                ms = MCP_RETRY_MAX;
        if (!s->listed)
                uv_timer_start(&s->clock, on_retry, ms, 0);
}

/* The start came to nothing. */
static void start_failed(struct mcp_server *s, const char *text)
{
        char whole[480];

        snprintf(whole, sizeof whole, "the MCP server %s cannot be used: %s", s->config->name, text);
        s->failures++;
        s->known_legacy = s->known_legacy && s->listed; /* it may be another program by now */
        remember(s, text);
        fail_all(&s->waiting, "server_unavailable", whole);
        if (s->background) {
                s->background = false;
                mcp_background();
        }
}

static void begin_close(struct mcp_server *s)
{
        uv_timer_stop(&s->clock);
        uv_timer_stop(&s->probe);
        move(s, SERVER_CLOSING);
        mcp_link_close(s->link, MCP_GRACE_MS);
}

void server_fail(struct mcp_server *s, const char *fmt, ...)
{
        char text[440];
        va_list ap;

        if (s->state == SERVER_OFF || s->state == SERVER_CLOSING)
                return;
        va_start(ap, fmt);
        vsnprintf(text, sizeof text, fmt, ap);
        va_end(ap);
        add_words(s, text, sizeof text);
        begin_close(s);
        start_failed(s, text);
        fail_all(&s->calls, "server_died", text);
}

/* An HTTP session that the server has forgotten: calls that were not carried out go into a new one. */
void server_drop_session(struct mcp_server *s)
{
        if (s->state == SERVER_READY)
                begin_close(s);
}

/* --- negotiation -------------------------------------------------------------------------- */

static cJSON *client_info(void)
{
        cJSON *o = cJSON_CreateObject();

        if (o && cJSON_AddStringToObject(o, "name", "photon-agent") &&
            cJSON_AddStringToObject(o, "title", "PHOTON agent") &&
            cJSON_AddStringToObject(o, "version", PHOTON_VERSION))
                return o;
        cJSON_Delete(o);
        return NULL;
}

static cJSON *capabilities(void)
{
        cJSON *o = cJSON_CreateObject();
        cJSON *el = o ? cJSON_AddObjectToObject(o, "elicitation") : NULL;

        if (el && cJSON_AddObjectToObject(el, "form") && cJSON_AddObjectToObject(el, "url"))
                return o;
        cJSON_Delete(o);
        return NULL;
}

static bool put(cJSON *o, const char *key, cJSON *v)
{
        if (v && cJSON_AddItemToObject(o, key, v))
                return true;
        cJSON_Delete(v);
        return false;
}

bool server_envelope(struct mcp_server *s, cJSON *params)
{
        cJSON *meta = cJSON_GetObjectItemCaseSensitive(params, "_meta");

        if (!s->modern)
                return true;
        if (!meta)
                meta = cJSON_AddObjectToObject(params, "_meta");
        return meta && cJSON_AddStringToObject(meta, MCP_META "protocolVersion", MCP_MODERN) &&
               put(meta, MCP_META "clientInfo", client_info()) &&
               put(meta, MCP_META "clientCapabilities", capabilities()) &&
               cJSON_AddStringToObject(meta, MCP_META "logLevel", "info");
}

static void list(struct mcp_server *s)
{
        uv_timer_stop(&s->probe);
        s->link->modern = s->modern;
        if (s->modern)
                snprintf(s->link->version, sizeof s->link->version, "%s", MCP_MODERN);
        move(s, SERVER_LISTING);
        if (list_begin(s))
                server_fail(s, "its tools cannot be asked for");
}

static bool holds(const cJSON *versions, const char *version)
{
        const cJSON *v;

        cJSON_ArrayForEach(v, versions)
        {
                if (cJSON_IsString(v) && strcmp(v->valuestring, version) == 0)
                        return true;
        }
        return false;
}

static bool is_discovery(const struct jsonrpc_msg *m)
{
        return m->kind == JSONRPC_RESULT &&
               holds(cJSON_GetObjectItemCaseSensitive(m->result, "supportedVersions"), MCP_MODERN);
}

static void on_initialized(void *arg, const struct jsonrpc_msg *m)
{
        static const char *const known[] = {"2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"};
        struct mcp_server *s = arg;
        const cJSON *v = m->kind == JSONRPC_RESULT
                                 ? cJSON_GetObjectItemCaseSensitive(m->result, "protocolVersion")
                                 : NULL;

        if (s->state != SERVER_INITIALIZING)
                return;
        if (m->kind == JSONRPC_ERROR && s->discovered) { /* it had only been slow to say that it is modern */
                s->modern = true;
                list(s);
                return;
        }
        if (m->kind == JSONRPC_ERROR) {
                server_fail(s, "initialize: %s%s%.200s", s->failure ? s->failure->code : "",
                            s->failure ? ": " : "", s->failure ? s->failure->why->msg : m->message);
                return;
        }
        for (size_t i = 0; i < sizeof known / sizeof *known; i++)
                if (cJSON_IsString(v) && strcmp(v->valuestring, known[i]) == 0)
                        snprintf(s->link->version, sizeof s->link->version, "%s", known[i]);
        if (!s->link->version[0]) {
                server_fail(s, "it speaks the unknown revision \"%.40s\"",
                            cJSON_IsString(v) ? v->valuestring : "?");
                return;
        }
        s->known_legacy = true;
        if (jsonrpc_notify(&s->rpc, "notifications/initialized", NULL)) {
                server_fail(s, "it takes no messages");
                return;
        }
        list(s);
}

static void initialize(struct mcp_server *s)
{
        cJSON *p = cJSON_CreateObject();

        move(s, SERVER_INITIALIZING);
        if (!p || !cJSON_AddStringToObject(p, "protocolVersion", MCP_LEGACY) ||
            !put(p, "capabilities", capabilities()) || !put(p, "clientInfo", client_info())) {
                cJSON_Delete(p);
                server_fail(s, "the agent is out of memory");
        } else if (jsonrpc_call(&s->rpc, "initialize", p, on_initialized, s, NULL)) {
                server_fail(s, "it takes no messages");
        }
}

/* Statuses that say nothing of the revision. */
static bool is_refusal(const struct mcp_failure *f)
{
        return f && (f->status == 0 || f->status == 401 || f->status == 403 || f->status >= 500);
}

static void on_discovered(void *arg, const struct jsonrpc_msg *m);

static void ask_discover(struct mcp_server *s)
{
        cJSON *p = cJSON_CreateObject();
        bool ok;

        s->modern = true;
        ok = p && server_envelope(s, p);
        s->modern = false;
        if (!ok) {
                cJSON_Delete(p);
                server_fail(s, "the agent is out of memory");
        } else if (jsonrpc_call(&s->rpc, "server/discover", p, on_discovered, s, NULL)) {
                server_fail(s, "it takes no messages");
        }
}

static void on_discovered(void *arg, const struct jsonrpc_msg *m)
{
        struct mcp_server *s = arg;

        if (s->state == SERVER_INITIALIZING)
                s->discovered = is_discovery(m);
        if (s->state != SERVER_PROBING)
                return;
        if (is_discovery(m)) {
                s->modern = true;
                list(s);
        } else if (m->kind == JSONRPC_ERROR && m->code == -32022 && !s->asked_again &&
                   holds(cJSON_GetObjectItemCaseSensitive(m->data, "supported"), MCP_MODERN)) {
                /* It refused the revision, and names it among those that it speaks: once more. */
                s->asked_again = true;
                ask_discover(s);
        } else if (is_refusal(s->failure)) {
                server_fail(s, "%s: %.300s", s->failure->code, s->failure->why->msg);
        } else {
                uv_timer_stop(&s->probe);
                initialize(s);
        }
}

static void on_probe_late(uv_timer_t *t)
{
        struct mcp_server *s = t->data;

        if (s->state == SERVER_PROBING)
                initialize(s);
}

static void probe(struct mcp_server *s)
{
        int64_t ms = s->config->startup_ms / 3;

        move(s, SERVER_PROBING);
        ask_discover(s);
        if (s->state == SERVER_PROBING && s->config->command)
                uv_timer_start(&s->probe, on_probe_late, (uint64_t)(ms < MCP_PROBE_MS ? ms : MCP_PROBE_MS),
                               0);
}

/* Its tools changed while it worked. What it says of a change while they are read, or just after, is heard
 * too, a little later: the list that comes may be older than the change. */
static void on_relist(uv_timer_t *t);

static void relist(struct mcp_server *s)
{
        s->list_stale = false;
        s->listing_again = list_begin(s) == 0;
        if (s->listing_again)
                uv_timer_start(&s->probe, on_relist, (uint64_t)s->config->startup_ms, 0);
}

static void on_relist(uv_timer_t *t)
{
        struct mcp_server *s = t->data;

        if (s->state != SERVER_READY)
                return;
        if (s->listing_again) {
                log_warn("mcp", "a server's tools could not be read again", "server=%s error=\"%s\"",
                         s->config->name, "it did not answer within startup_timeout");
                list_forget(s);
                s->listing_again = false;
        }
        if (s->list_stale)
                relist(s);
}

static void on_list_changed(struct mcp_server *s)
{
        if (s->state == SERVER_READY && !uv_is_active((uv_handle_t *)&s->probe))
                relist(s);
        else
                s->list_stale = true;
}

void server_listed(struct mcp_server *s, const char *why)
{
        if (s->state == SERVER_READY) { /* again, while it worked */
                s->listing_again = false;
                uv_timer_start(&s->probe, on_relist, RELIST_MS, 0);
                if (why)
                        log_warn("mcp", "a server's tools could not be read again", "server=%s error=\"%s\"",
                                 s->config->name, why);
                return;
        }
        if (s->state != SERVER_LISTING)
                return;
        if (why) {
                server_fail(s, "%s", why);
                return;
        }
        move(s, SERVER_READY);
        uv_timer_stop(&s->clock);
        if (s->list_stale)
                uv_timer_start(&s->probe, on_relist, RELIST_MS, 0);
        s->failures = 0;
        mem_free(s->error);
        s->error = NULL;
        log_info("mcp", "a server is ready", "server=%s revision=%s tools=%zu", s->config->name,
                 s->link->version, s->n_tools);
        while (!list_empty(&s->waiting) && s->state == SERVER_READY)
                mcp_call_go(container_of(s->waiting.next, struct mcp_call, link));
        server_idle(s);
        if (s->background) {
                s->background = false;
                mcp_background();
        }
}

/* --- messages ---------------------------------------------------------------------------------- */

static int on_send(void *arg, const cJSON *message)
{
        struct mcp_server *s = arg;

        return mcp_link_send(s->link, message, s->headers);
}

static bool may_complain(struct mcp_server *s)
{
        if (s->complaints < COMPLAINTS_MAX && ++s->complaints == COMPLAINTS_MAX)
                log_warn("mcp", "a server goes on sending what is not understood; no more is said of it",
                         "server=%s", s->config->name);
        return s->complaints < COMPLAINTS_MAX;
}

static void take_request(struct mcp_server *s, const struct jsonrpc_msg *m, uint64_t request)
{
        if (strcmp(m->method, "ping") == 0) {
                jsonrpc_reply(&s->rpc, m->id, cJSON_CreateObject());
        } else if (strcmp(m->method, "elicitation/create") == 0) {
                ask_request(s, m, request);
        } else {
                if (may_complain(s))
                        log_info("mcp", "a server's request is not supported", "server=%s method=%.80s",
                                 s->config->name, m->method);
                jsonrpc_reply_error(&s->rpc, m->id, JSONRPC_METHOD_NOT_FOUND,
                                    "this client does not support the method");
        }
}

static void take_notification(struct mcp_server *s, const struct jsonrpc_msg *m, uint64_t request)
{
        if (strcmp(m->method, "notifications/progress") == 0) {
                mcp_call_progress(s, m->params);
        } else if (strcmp(m->method, "notifications/message") == 0) {
                mcp_call_log(s, request, m->params);
        } else if (strcmp(m->method, "notifications/cancelled") == 0) {
                ask_cancelled(s, m->params);
        } else if (strcmp(m->method, "notifications/tools/list_changed") == 0) {
                on_list_changed(s);
        }
}

static bool on_message(void *arg, char *text, size_t n, uint64_t request)
{
        struct mcp_server *s = arg;
        struct jsonrpc_msg m;
        struct err e = {0};
        bool answer = false;

        if (s->state == SERVER_CLOSING)
                return true;
        if (jsonrpc_read(text, n, false, &m, &e)) {
                if (may_complain(s))
                        log_warn("mcp", "a message that cannot be read", "server=%s error=\"%s\"",
                                 s->config->name, e.msg);
                return false;
        }
        if (m.kind == JSONRPC_REQUEST) {
                take_request(s, &m, request);
        } else if (m.kind == JSONRPC_NOTIFICATION) {
                take_notification(s, &m, request);
        } else {
                answer = cJSON_IsNumber(m.id) && m.id->valuedouble == (double)request;
                jsonrpc_answer(&s->rpc, &m);
        }
        jsonrpc_msg_fini(&m);
        return answer;
}

/* What HTTP says instead of an answer becomes one; a JSON-RPC error in the body is that error. */
static void on_failed(void *arg, uint64_t request, const struct mcp_failure *f)
{
        struct mcp_server *s = arg;
        cJSON id = {.type = cJSON_Number, .valuedouble = (double)request};
        struct jsonrpc_msg m = {.kind = JSONRPC_ERROR, .id = &id, .code = JSONRPC_INTERNAL_ERROR}, body;
        char *copy = mem_strdup(f->text);

        if (request == MCP_NO_REQUEST) {
                log_warn("mcp", "a message was not taken", "server=%s error=\"%s\"", s->config->name,
                         f->why->msg);
                mem_free(copy);
                return;
        }
        m.message = f->why->msg;
        s->failure = f;
        if (copy && jsonrpc_read(copy, strlen(copy), false, &body, NULL) == 0) {
                if (body.kind == JSONRPC_ERROR) {
                        m.code = body.code;
                        m.message = body.message;
                        m.data = body.data;
                }
                jsonrpc_answer(&s->rpc, &m);
                jsonrpc_msg_fini(&body);
        } else {
                jsonrpc_answer(&s->rpc, &m);
        }
        s->failure = NULL;
        mem_free(copy);
}

/* --- up and down ------------------------------------------------------------------------------------ */

static void on_down(void *arg, const char *why)
{
        struct mcp_server *s = arg;
        enum server_state was = s->state;
        char text[440], whole[520];

        snprintf(text, sizeof text, "%s", why);
        add_words(s, text, sizeof text);
        snprintf(whole, sizeof whole, "the MCP server %s died: %s", s->config->name, text);
        uv_timer_stop(&s->clock);
        uv_timer_stop(&s->probe);
        move(s, SERVER_OFF);
        cJSON_Delete(s->pages);
        s->pages = NULL;
        s->listing_again = false;
        if (was == SERVER_READY)
                remember(s, text);
        fail_all(&s->calls, "server_died", whole);
        jsonrpc_fini(&s->rpc);
        mcp_link_free(s->link);
        s->link = NULL;
        if (was == SERVER_PROBING && s->config->command && !s->known_legacy) {
                /* Some end at a request that they do not know. */
                s->known_legacy = true;
                start(s);
                return;
        }
        if (was == SERVER_PROBING || was == SERVER_INITIALIZING || was == SERVER_LISTING)
                start_failed(s, text);
        if (!list_empty(&s->waiting))
                start(s);
        else
                retry_later(s);
}

static void on_startup_late(uv_timer_t *t)
{
        struct mcp_server *s = t->data;
        char text[32];

        str_format_duration(s->config->startup_ms, text);
        server_fail(s, "it was not ready within %s (startup_timeout)", text);
}

static void start(struct mcp_server *s)
{
        struct mcp_link_options o = {.loop = mcp.o.loop,
                                     .config = s->config,
                                     .policy = mcp.o.policy,
                                     .scratch_root = mcp.scratch_root,
                                     .on_message = on_message,
                                     .on_failed = on_failed,
                                     .on_down = on_down,
                                     .arg = s};
        struct err e = {0};
        int rc = jsonrpc_init(&s->rpc, false, on_send, s);

        uv_timer_stop(&s->clock);
        if (rc)
                err_set(&e, E_NOMEM, "the agent is out of memory");
        else
                rc = s->config->command ? mcp_stdio_open(&o, &s->link, &e) : mcp_http_open(&o, &s->link, &e);
        if (rc) {
                jsonrpc_fini(&s->rpc);
                s->link = NULL;
                start_failed(s, e.msg);
                retry_later(s);
                return;
        }
        s->modern = s->discovered = s->asked_again = s->list_stale = false;
        s->complaints = 0;
        uv_update_time(mcp.o.loop);
        uv_timer_start(&s->clock, on_startup_late, (uint64_t)s->config->startup_ms, 0);
        if (s->known_legacy)
                initialize(s);
        else
                probe(s);
}

void server_want(struct mcp_server *s)
{
        if (s->state == SERVER_OFF)
                start(s);
        else if (s->state == SERVER_READY)
                while (!list_empty(&s->waiting) && s->state == SERVER_READY)
                        mcp_call_go(container_of(s->waiting.next, struct mcp_call, link));
        /* starting or closing: they are taken up when that is through */
}

static void on_idle(uv_timer_t *t)
{
        struct mcp_server *s = t->data;

        if (s->state != SERVER_READY || !list_empty(&s->calls) || !list_empty(&s->waiting))
                return;
        log_info("mcp", "a server was idle and is closed", "server=%s", s->config->name);
        begin_close(s);
}

void server_idle(struct mcp_server *s)
{
        if (s->state != SERVER_READY)
                return;
        if (list_empty(&s->calls) && s->config->idle_ms > 0)
                uv_timer_start(&s->clock, on_idle, (uint64_t)s->config->idle_ms, 0);
        else
                uv_timer_stop(&s->clock);
}
