/* An MCP server behind streamable HTTP: each message is a POST, whose answer is
 * one message, a stream of them (SSE), or nothing.
 *
 * 2025-11-25: the session's id comes with the answer to initialize and goes with
 * every message; a stream that breaks off is gone on with by GET, if the server
 * numbers its events; another GET is open for what the server says of itself. 2026-07-28: no session; the
 * headers repeat what the body says. Redirects are not followed: the address is the owner's word. */
#include "agent/tools/mcp_link.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "agent/tools/curl.h"
#include "agent/tools/mcp_config.h"
#include "agent/tools/sse.h"
#include "common/buf.h"
#include "common/err.h"
#include "common/json.h"
#include "common/list.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/str.h"
#include "common/version.h"

#define CONNECT_MS    15000L
#define ERROR_KEPT    ((size_t)64 << 10) /* of a body that is no message */
#define POSTS_MAX     256
#define SESSION_MAX   1024
#define EVENT_ID_MAX  1024
#define RESUMES_MAX   10
#define RESUME_MS     1000
#define LISTENS_MAX   1000000 /* a stream that the server ends is opened again, a second later */
#define RESUME_MAX_MS 60000

struct http {
        struct mcp_link link;
        const struct curl_lib *lib;
        struct list posts;
        size_t n_posts;
        char *session;
        uv_timer_t wake; /* hands over what came */
        uv_timer_t down; /* on_down on another turn */
        int handles;
        bool closing, abandoned;
};

struct message { /* came in a stream */
        struct list link;
        size_t n;
        char text[];
};

struct post {
        struct list link, inbox;
        struct http *h;
        struct transfer t;
        uv_timer_t again; /* before a GET that goes on with a broken stream */
        struct curl_slist *sent;
        char *body;
        uint64_t request; /* MCP_NO_REQUEST: a notification or an answer */
        struct sse sse;
        struct buf got;
        bool is_stream, is_json, in_flight, answered, dropped, from_initialize, starts_listening, listening;
        long status;
        char event_id[EVENT_ID_MAX];
        int resumes;
        int64_t retry_ms;
        struct err trouble;
        const char *trouble_code;
};

static struct http *of(struct mcp_link *l)
{
        return container_of(l, struct http, link);
}

/* --- the end of a post ------------------------------------------------------------------- */

static void look_for_end(struct http *h);

static void post_free(struct post *p)
{
        struct http *h = p->h;

        if (p->t.easy)
                h->lib->easy_cleanup(p->t.easy);
        h->lib->slist_free_all(p->sent);
        if (p->body)
                mem_wipe(p->body, strlen(p->body));
        mem_free(p->body);
        sse_fini(&p->sse);
        buf_fini(&p->got);
        while (!list_empty(&p->inbox))
                mem_free(container_of(list_pop(&p->inbox), struct message, link));
        list_remove(&p->link);
        h->n_posts--;
        mem_free(p);
        look_for_end(h);
}

static void on_again_closed(uv_handle_t *u)
{
        post_free(u->data);
}

static void post_close(struct post *p)
{
        if (p->in_flight)
                curl_abort(&p->t);
        p->in_flight = false;
        p->dropped = true;
        if (!uv_is_closing((uv_handle_t *)&p->again))
                uv_close((uv_handle_t *)&p->again, on_again_closed);
}

static void post_fail(struct post *p, const char *code, const struct err *why)
{
        struct http *h = p->h;
        struct mcp_failure f = {.status = (int)p->status, .code = code, .text = "", .why = why};

        if (p->dropped || h->abandoned || h->closing)
                return;
        if (p->got.len > 0 && buf_putc(&p->got, '\0') == 0)
                f.text = (const char *)p->got.data;
        h->link.o.on_failed(h->link.o.arg, p->request, &f);
}

/* --- what comes ------------------------------------------------------------------------------ */

static void hand_over(struct post *p, char *text, size_t n)
{
        struct http *h = p->h;

        if (!p->dropped && !h->abandoned && !h->closing)
                p->answered |= h->link.o.on_message(h->link.o.arg, text, n, p->request);
}

/* What came in a stream, in order; the holder may drop or send anything meanwhile. */
static void deliver(struct post *p)
{
        struct list *it;

        while ((it = list_pop(&p->inbox))) {
                struct message *m = container_of(it, struct message, link);

                hand_over(p, m->text, m->n);
                mem_free(m);
        }
}

static void on_wake(uv_timer_t *t)
{
        struct http *h = t->data;

        LIST_EACH_SAFE (it, nx, &h->posts)
                deliver(container_of(it, struct post, link));
}

/* Within libcurl nothing may be sent or dropped: messages are handed over on another turn. */
static int on_event(void *arg, const struct sse_event *e)
{
        struct post *p = arg;
        struct message *m;

        if (strlen(e->id) < sizeof p->event_id)
                strcpy(p->event_id, e->id);
        if (e->n == 0 || strcmp(e->type, "message") != 0)
                return 0;
        m = mem_alloc(sizeof *m + e->n + 1);
        if (!m)
                return -E_NOMEM;
        m->n = e->n;
        memcpy(m->text, e->data, e->n);
        m->text[e->n] = '\0';
        list_push_back(&p->inbox, &m->link);
        uv_timer_start(&p->h->wake, on_wake, 0, 0);
        return 0;
}

static size_t on_body(char *data, size_t size, size_t n, void *ctx)
{
        struct post *p = ctx;
        int rc = 0;

        n *= size;
        if (p->status == 0)
                p->h->lib->easy_info(p->t.easy, CURLINFO_RESPONSE_CODE, &p->status);
        if (p->status == 200 && p->is_stream) {
                rc = sse_feed(&p->sse, data, n, on_event, p);
        } else if (p->status == 200 && p->is_json) {
                rc = buf_put(&p->got, data, n);
        } else if (p->got.len < ERROR_KEPT) {
                rc = buf_put(&p->got, data, n < ERROR_KEPT - p->got.len ? n : ERROR_KEPT - p->got.len);
        }
        if (rc == 0)
                return n;
        p->trouble_code = rc == -E_NOMEM ? "out_of_memory" : "result_too_large";
        err_set(&p->trouble, -rc,
                rc == -E_NOMEM ? "the agent is out of memory" : "its answer is over %zu bytes",
                MCP_MESSAGE_MAX);
        return CURL_WRITEFUNC_ERROR;
}

static bool header_is(const char *line, size_t n, const char *name, const char **value, size_t *len)
{
        size_t k = strlen(name);
        const char *v, *end = line + n;

        if (n <= k || line[k] != ':' || strncasecmp(line, name, k) != 0)
                return false;
        for (v = line + k + 1; v < end && (*v == ' ' || *v == '\t'); v++)
                ;
        while (end > v && strchr("\r\n \t", end[-1]))
                end--;
        *value = v;
        *len = (size_t)(end - v);
        return true;
}

static void take_session(struct post *p, const char *v, size_t n)
{
        if (!p->from_initialize || n == 0 || n > SESSION_MAX)
                return;
        for (size_t i = 0; i < n; i++)
                if (v[i] < 0x21 || v[i] > 0x7e)
                        return;
        mem_free(p->h->session);
        p->h->session = mem_strndup(v, n);
}

static size_t on_header(char *line, size_t size, size_t n, void *ctx)
{
        struct post *p = ctx;
        const char *v;
        size_t len;

        n *= size;
        if (n >= 5 && memcmp(line, "HTTP/", 5) == 0) {
                p->is_stream = p->is_json = false;
                p->status = 0;
        } else if (header_is(line, n, "content-type", &v, &len)) {
                p->is_stream = len >= 17 && strncasecmp(v, "text/event-stream", 17) == 0;
                p->is_json = len >= 16 && strncasecmp(v, "application/json", 16) == 0;
        } else if (header_is(line, n, "mcp-session-id", &v, &len)) {
                take_session(p, v, len);
        }
        return n;
}

/* --- sending ---------------------------------------------------------------------------------- */

static int add_line(struct post *p, char *line)
{
        struct curl_slist *l = line ? p->h->lib->slist_append(p->sent, line) : NULL;

        if (line)
                mem_wipe(line, strlen(line));
        mem_free(line);
        if (!l)
                return -E_NOMEM;
        p->sent = l;
        return 0;
}

/* A header's value: as it is, if it is plain; else =?base64?...?= as the specification has it. */
static char *plain_or_base64(const char *text)
{
        size_t n = strlen(text);
        bool plain = n == 0 || (text[0] != ' ' && text[0] != '\t' && text[n - 1] != ' ' &&
                                text[n - 1] != '\t' && strncmp(text, "=?base64?", 9) != 0);
        char *b, *out;

        for (size_t i = 0; i < n && plain; i++)
                plain = (text[i] >= 0x20 && text[i] < 0x7f) || text[i] == '\t';
        if (plain)
                return mem_strdup(text);
        b = str_b64(text, n);
        out = b ? str_printf("=?base64?%s?=", b) : NULL;
        mem_free(b);
        return out;
}

static int add_encoded(struct post *p, const char *name, const char *value)
{
        char *v = plain_or_base64(value);
        /* libcurl's way to say "empty". */
        int rc = v ? add_line(p, *v ? str_printf("%s: %s", name, v) : str_printf("%s;", name)) : -E_NOMEM;

        mem_free(v);
        return rc;
}

static const char *text_at(const cJSON *o, const char *key)
{
        const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);

        return cJSON_IsString(v) ? v->valuestring : NULL;
}

static int add_own(struct post *p, struct err *e)
{
        const struct mcp_config *c = p->h->link.o.config;
        int rc = 0;

        for (size_t i = 0; i < c->n_headers && !rc; i++) {
                char *value = NULL;

                rc = mcp_value_read(&c->headers[i], &value, e);
                if (!rc && strpbrk(value, "\r\n"))
                        rc = err_set(e, E_INVAL, "headers.%s: its value has a line break",
                                     c->headers[i].name);
                if (!rc && add_line(p, *value ? str_printf("%s: %s", c->headers[i].name, value)
                                              : str_printf("%s;", c->headers[i].name)))
                        rc = err_set(e, E_NOMEM, "out of memory");
                if (value)
                        mem_wipe(value, strlen(value));
                mem_free(value);
        }
        return rc;
}

/* m NULL: a GET or DELETE of the session. */
static int add_headers(struct post *p, const cJSON *m, const cJSON *more, struct err *e)
{
        const struct http *h = p->h;
        const cJSON *params = m ? cJSON_GetObjectItemCaseSensitive(m, "params") : NULL, *x;
        const cJSON *meta = params ? cJSON_GetObjectItemCaseSensitive(params, "_meta") : NULL;
        const char *method = m ? text_at(m, "method") : NULL, *name = params ? text_at(params, "name") : NULL;
        const char *version = meta ? text_at(meta, "io.modelcontextprotocol/protocolVersion") : NULL;
        int rc = add_own(p, e), add;

        if (rc)
                return rc;
        add = add_line(p, mem_strdup("Accept: application/json, text/event-stream"));
        if (!add)
                add = add_line(p, mem_strdup("Expect:"));
        if (!add && m)
                add = add_line(p, mem_strdup("Content-Type: application/json"));
        if (!add && h->session && !p->from_initialize)
                add = add_line(p, str_printf("Mcp-Session-Id: %s", h->session));
        if (!add && (version || (h->link.version[0] && !p->from_initialize)))
                add = add_line(p,
                               str_printf("MCP-Protocol-Version: %s", version ? version : h->link.version));
        if (!add && version && method)
                add = add_encoded(p, "Mcp-Method", method);
        if (!add && version && name && method && strcmp(method, "tools/call") == 0)
                add = add_encoded(p, "Mcp-Name", name);
        cJSON_ArrayForEach(x, more)
        {
                if (!add && version)
                        add = add_encoded(p, x->string, x->valuestring);
        }
        if (!add && p->event_id[0])
                add = add_line(p, str_printf("Last-Event-ID: %s", p->event_id));
        return add ? err_set(e, E_NOMEM, "out of memory") : 0;
}

static void on_done(struct transfer *t, CURLcode result);

static int launch(struct post *p, const char *method, struct err *e)
{
        const struct curl_lib *l = p->h->lib;
        const struct mcp_config *c = p->h->link.o.config;

        if (p->t.easy)
                l->easy_cleanup(p->t.easy);
        p->t.easy = l->easy_init();
        if (!p->t.easy)
                return err_set(e, E_NOMEM, "out of memory");
        p->t.on_done = on_done;
        p->t.data = p;
        l->easy_set(p->t.easy, CURLOPT_URL, c->url);
        l->easy_set(p->t.easy, CURLOPT_PROTOCOLS_STR, "http,https");
        l->easy_set(p->t.easy, CURLOPT_FOLLOWLOCATION, 0L);
        l->easy_set(p->t.easy, CURLOPT_NOSIGNAL, 1L);
        l->easy_set(p->t.easy, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
        l->easy_set(p->t.easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
        l->easy_set(p->t.easy, CURLOPT_USERAGENT, "photon-agent/" PHOTON_VERSION);
        l->easy_set(p->t.easy, CURLOPT_HTTPHEADER, p->sent);
        l->easy_set(p->t.easy, CURLOPT_WRITEFUNCTION, on_body);
        l->easy_set(p->t.easy, CURLOPT_WRITEDATA, p);
        l->easy_set(p->t.easy, CURLOPT_HEADERFUNCTION, on_header);
        l->easy_set(p->t.easy, CURLOPT_HEADERDATA, p);
        l->easy_set(p->t.easy, CURLOPT_TCP_KEEPALIVE, 1L);
        if (c->ca_file)
                l->easy_set(p->t.easy, CURLOPT_CAINFO, c->ca_file);
        if (strcmp(method, "POST") == 0) {
                l->easy_set(p->t.easy, CURLOPT_POST, 1L);
                l->easy_set(p->t.easy, CURLOPT_POSTFIELDSIZE, (long)strlen(p->body));
                l->easy_set(p->t.easy, CURLOPT_POSTFIELDS, p->body);
        } else {
                l->easy_set(p->t.easy, CURLOPT_HTTPGET, 1L);
                l->easy_set(p->t.easy, CURLOPT_CUSTOMREQUEST, method);
        }
        if (curl_start(&p->t, e))
                return -e->code;
        p->in_flight = true;
        return 0;
}

static struct post *post_make(struct http *h)
{
        struct post *p = mem_calloc(1, sizeof *p);

        if (!p)
                return NULL;
        p->h = h;
        p->request = MCP_NO_REQUEST;
        p->retry_ms = RESUME_MS;
        sse_init(&p->sse, MCP_MESSAGE_MAX);
        buf_init(&p->got, MCP_MESSAGE_MAX + 1);
        uv_timer_init(h->link.o.loop, &p->again);
        p->again.data = p;
        list_init(&p->inbox);
        list_push_back(&h->posts, &p->link);
        h->n_posts++;
        return p;
}

static int http_send(struct mcp_link *l, const cJSON *message, const cJSON *headers)
{
        struct http *h = of(l);
        const cJSON *id = cJSON_GetObjectItemCaseSensitive(message, "id");
        const char *method = text_at(message, "method");
        struct err e = {0};
        struct post *p;
        int rc;

        if (h->closing)
                return -E_CLOSED;
        if (h->n_posts >= POSTS_MAX)
                return -E_FULL;
        p = post_make(h);
        if (!p)
                return -E_NOMEM;
        if (method && cJSON_IsNumber(id))
                p->request = (uint64_t)id->valuedouble;
        p->from_initialize = method && strcmp(method, "initialize") == 0;
        p->starts_listening = method && strcmp(method, "notifications/initialized") == 0;
        p->body = json_text(message);
        rc = !p->body ? -E_NOMEM : strlen(p->body) > MCP_MESSAGE_MAX ? -E_TOOBIG : 0;
        if (!rc)
                rc = add_headers(p, message, headers, &e);
        if (!rc)
                rc = launch(p, "POST", &e);
        if (rc) {
                if (e.msg[0])
                        log_warn("mcp", "a message cannot be sent", "server=%s error=\"%s\"",
                                 l->o.config->name, e.msg);
                post_close(p);
        }
        return rc;
}

/* --- going on with a stream that broke off ------------------------------------------------------ */

static void on_again(uv_timer_t *t)
{
        struct post *p = t->data;
        struct err e = {0};

        p->h->lib->slist_free_all(p->sent);
        p->sent = NULL;
        p->status = 0;
        sse_fini(&p->sse);
        sse_init(&p->sse, MCP_MESSAGE_MAX);
        buf_reset(&p->got);
        p->is_stream = p->is_json = false;
        if (add_headers(p, NULL, NULL, &e) || launch(p, "GET", &e)) {
                post_fail(p, err_name(e.code), &e);
                post_close(p);
        }
}

/* What belongs to no request comes on a stream of its own, if the server has one (else it says 405). */
static void listen_to(struct http *h)
{
        struct post *p = h->closing ? NULL : post_make(h);

        if (!p)
                return;
        p->listening = true;
        uv_timer_start(&p->again, on_again, 0, 0);
}

static bool listen_again(struct post *p)
{
        bool was_there = p->status == 200 && p->is_stream;

        if (!p->listening || p->dropped || p->h->closing || (!was_there && p->status != 0) ||
            ++p->resumes > (was_there ? LISTENS_MAX : RESUMES_MAX))
                return false;
        uv_update_time(p->h->link.o.loop);
        uv_timer_start(&p->again, on_again,
                       (uint64_t)(p->sse.retry_ms > RESUME_MS && p->sse.retry_ms < RESUME_MAX_MS
                                          ? p->sse.retry_ms
                                          : RESUME_MS),
                       0);
        return true;
}

static bool resume(struct post *p)
{
        if (p->h->link.modern || p->request == MCP_NO_REQUEST || p->answered || !p->event_id[0] ||
            p->resumes >= RESUMES_MAX || p->dropped)
                return false;
        p->resumes++;
        if (p->sse.retry_ms >= 0)
                p->retry_ms = p->sse.retry_ms < RESUME_MAX_MS ? p->sse.retry_ms : RESUME_MAX_MS;
        uv_update_time(p->h->link.o.loop);
        uv_timer_start(&p->again, on_again, (uint64_t)p->retry_ms, 0);
        return true;
}

/* --- the end of a transfer ------------------------------------------------------------------------ */

static const char *transfer_code(CURLcode r)
{
        switch (r) {
        case CURLE_COULDNT_RESOLVE_HOST:
        case CURLE_COULDNT_RESOLVE_PROXY:
                return "host_not_found";
        case CURLE_COULDNT_CONNECT:
                return "connect_failed";
        case CURLE_OPERATION_TIMEDOUT:
                return "connect_failed";
        case CURLE_PEER_FAILED_VERIFICATION:
        case CURLE_SSL_CONNECT_ERROR:
        case CURLE_SSL_CACERT_BADFILE:
        case CURLE_SSL_CERTPROBLEM:
        case CURLE_SSL_CIPHER:
                return "tls_failed";
        default:
                return "stream_ended";
        }
}

static void fail_status(struct post *p)
{
        const char *code = "http_status";
        struct err e = {0};

        if (p->status == 401 || p->status == 403)
                code = "unauthorized";
        else if (p->status == 404 && p->h->session && !p->h->link.modern)
                code = "session_lost";
        err_set(&e, E_UNAVAIL, "it answered with status %ld%s", p->status,
                p->status == 401   ? "; check headers in its configuration"
                : p->status == 403 ? "; its credentials do not allow this"
                                   : "");
        post_fail(p, code, &e);
}

static void take_end(struct post *p, CURLcode result)
{
        struct http *h = p->h;
        struct err e = {0};

        if (p->status == 0)
                h->lib->easy_info(p->t.easy, CURLINFO_RESPONSE_CODE, &p->status);
        if (p->trouble_code) {
                post_fail(p, p->trouble_code, &p->trouble);
        } else if (result != CURLE_OK && !p->is_stream) {
                err_set(&e, E_UNAVAIL, "%s: %s", h->link.o.config->url, h->lib->easy_error(result));
                post_fail(p, transfer_code(result), &e);
        } else if (p->status >= 300 || p->status < 200) {
                fail_status(p);
        } else if (p->status == 200 && p->is_json && buf_putc(&p->got, '\0') == 0) {
                hand_over(p, (char *)p->got.data, p->got.len - 1);
                buf_reset(&p->got);
        } else if (p->status == 200 && !p->is_stream && p->request != MCP_NO_REQUEST) {
                err_set(&e, E_PROTO, "its answer is neither JSON nor an event stream");
                post_fail(p, "bad_answer", &e);
        }
        if (p->request == MCP_NO_REQUEST || p->answered || p->dropped || p->status != 200 || p->trouble_code)
                return;
        err_set(&e, E_PROTO, "its stream ended without the answer%s",
                p->resumes ? ", also when it was resumed" : "");
        post_fail(p, "stream_ended", &e);
}

static void on_done(struct transfer *t, CURLcode result)
{
        struct post *p = t->data;

        p->in_flight = false;
        deliver(p);
        if (p->status == 0)
                p->h->lib->easy_info(t->easy, CURLINFO_RESPONSE_CODE, &p->status);
        if (!p->dropped && p->is_stream && p->status == 200 && !p->trouble_code && resume(p))
                return;
        if (p->listening ? listen_again(p) : false)
                return;
        if (p->starts_listening && p->status >= 200 && p->status < 300)
                listen_to(p->h);
        if (!p->dropped && !p->listening)
                take_end(p, result);
        post_close(p);
}

/* --- the operations ---------------------------------------------------------------------------------- */

static void http_drop(struct mcp_link *l, uint64_t request)
{
        LIST_EACH_SAFE (it, nx, &of(l)->posts) {
                struct post *p = container_of(it, struct post, link);

                if (p->request == request && !p->dropped)
                        post_close(p);
        }
}

static void on_down(uv_handle_t *u)
{
        struct http *h = u->data;

        if (--h->handles > 0)
                return;
        if (h->abandoned) {
                mem_free(h->session);
                mem_free(h);
                return;
        }
        h->link.o.on_down(h->link.o.arg, "the connection was closed");
}

static void look_for_end(struct http *h)
{
        if (!h->closing || !list_empty(&h->posts) || uv_is_closing((uv_handle_t *)&h->down))
                return;
        uv_close((uv_handle_t *)&h->down, on_down);
        uv_close((uv_handle_t *)&h->wake, on_down);
}

static void close_posts(struct http *h)
{
        LIST_EACH_SAFE (it, nx, &h->posts)
                post_close(container_of(it, struct post, link));
}

static void on_grace(uv_timer_t *t)
{
        close_posts(t->data);
}

/* The session is ended, if there is one; that is not waited for longer than grace_ms. */
static void http_close(struct mcp_link *l, int grace_ms)
{
        struct http *h = of(l);
        struct err e = {0};
        struct post *p;

        if (h->closing)
                return;
        close_posts(h);
        h->closing = true;
        p = h->session && !l->modern ? post_make(h) : NULL;
        if (p && (add_headers(p, NULL, NULL, &e) || launch(p, "DELETE", &e)))
                post_close(p);
        uv_timer_start(&h->down, on_grace, (uint64_t)grace_ms, 0);
        look_for_end(h);
}

static void http_abandon(struct mcp_link *l)
{
        struct http *h = of(l);

        h->abandoned = h->closing = true;
        close_posts(h);
        look_for_end(h);
}

static void http_free(struct mcp_link *l)
{
        struct http *h = of(l);

        mem_free(h->session);
        mem_free(h);
}

static const char *http_words(struct mcp_link *l)
{
        (void)l;
        return "";
}

static const struct mcp_link_ops http_ops = {
        .send = http_send,
        .drop = http_drop,
        .close = http_close,
        .abandon = http_abandon,
        .free = http_free,
        .words = http_words,
};

int mcp_http_open(const struct mcp_link_options *o, struct mcp_link **out, struct err *e)
{
        struct http *h = mem_calloc(1, sizeof *h);
        int rc = h ? curl_open(o->loop, &h->lib, e) : err_set(e, E_NOMEM, "out of memory");

        if (rc) {
                mem_free(h);
                return rc;
        }
        h->link.ops = &http_ops;
        h->link.o = *o;
        list_init(&h->posts);
        uv_timer_init(o->loop, &h->down);
        uv_timer_init(o->loop, &h->wake);
        h->down.data = h->wake.data = h;
        h->handles = 2;
        *out = &h->link;
        return 0;
}
