#include "cli/mcp_bridge.h"

#include <stdio.h>
#include <string.h>

#include "cli/client.h"
#include "cli/print.h"
#include "cli/sse.h"
#include "common/buf.h"
#include "common/err.h"
#include "common/json.h"
#include "common/list.h"
#include "common/mem.h"
#include "common/str.h"

#define PATH         "/mcp"
#define ACCEPT       "application/json, text/event-stream"
#define META_VERSION "io.modelcontextprotocol/protocolVersion"
#define HEADERS_MAX  5
#define E_SERVER     (-32000)
#define E_SESSION    (-32001)

struct mcp_bridge {
        struct client *c;
        bool (*put)(void *ctx, const char *line, size_t n);
        void *ctx;
        bool broken, closing;
        struct list calls; /* struct call.link */
        size_t n;
        /* The legacy era's session. */
        char *session, *version; /* NULL: none */
        char *hello;             /* the client's initialize, to open it again; NULL: none yet */
        bool opening;            /* again */
};

/* One message on its way. */
struct call {
        struct list link;
        struct mcp_bridge *b;
        struct request *r; /* NULL: waits for the session */
        char *id;          /* JSON; NULL: a notification or an answer */
        char *body;
        char *header[HEADERS_MAX + 1]; /* of the modern era */
        bool modern, opens, reopens, again, answered, events;
        bool listens; /* a subscription: its answer is its end */
        struct sse sse;
        struct buf json;
};

/* ---- towards the client ---- */

static void put(struct mcp_bridge *b, const char *line, size_t n)
{
        if (!b->broken && !b->put(b->ctx, line, n))
                b->broken = true;
}

/* The hub writes no newlines into a message; whoever stands between might have. */
static void put_message(struct call *k, const char *p, size_t n)
{
        char *copy;

        while (n && (p[n - 1] == '\n' || p[n - 1] == '\r' || p[n - 1] == ' '))
                n--;
        if (!n)
                return;
        if (!memchr(p, '\n', n) && !memchr(p, '\r', n)) {
                put(k->b, p, n);
                return;
        }
        copy = mem_strndup(p, n);
        for (size_t i = 0; copy && i < n; i++)
                if (copy[i] == '\n' || copy[i] == '\r')
                        copy[i] = ' ';
        if (copy)
                put(k->b, copy, n);
        mem_free(copy);
}

static void put_error(struct mcp_bridge *b, const char *id, int code, const char *why, const char *name)
{
        struct buf out;
        int rc;

        buf_init(&out, 0);
        rc = buf_printf(&out, "{\"jsonrpc\":\"2.0\",\"id\":%s,\"error\":{\"code\":%d,\"message\":",
                        id ? id : "null", code);
        if (!rc)
                rc = json_append_str(&out, why, strlen(why));
        if (!rc && name && *name)
                rc = buf_printf(&out, ",\"data\":{\"code\":\"%s\"}", name);
        if (!rc)
                rc = buf_puts(&out, "}}");
        if (!rc)
                put(b, (const char *)out.data, out.len);
        buf_fini(&out);
}

/* A request is owed an answer; of the rest people may read on stderr. */
static void fail(struct call *k, int code, const char *why, const char *name)
{
        if (k->reopens || k->b->closing)
                return;
        if (k->id && !k->answered)
                put_error(k->b, k->id, code, why, name);
        else if (!k->id)
                note("the hub did not take a message: %s", why);
        k->answered = true;
}

/* ---- towards the hub ---- */

static void call_free(struct call *k)
{
        if (!k)
                return;
        list_remove(&k->link);
        k->b->n--;
        client_stop(k->b->c, k->r);
        for (size_t i = 0; i < HEADERS_MAX; i++)
                mem_free(k->header[i]);
        mem_free(k->id);
        mem_free(k->body);
        sse_fini(&k->sse);
        buf_fini(&k->json);
        mem_free(k);
}

static bool is_answer_to(const struct call *k, const cJSON *doc)
{
        const cJSON *id = jget(doc, "id");
        char *text = id && !jget(doc, "method") ? json_text(id) : NULL;
        bool same = text && k->id && strcmp(text, k->id) == 0;

        mem_free(text);
        return same;
}

static int on_event(void *ctx, const char *event, const char *id, const char *data, size_t n)
{
        struct call *k = ctx;
        cJSON *doc = NULL;

        (void)event;
        (void)id;
        if (!n || json_parse(data, n, &doc, NULL))
                return 0; /* an event without a message only keeps the line open */
        k->answered |= is_answer_to(k, doc);
        cJSON_Delete(doc);
        put_message(k, data, n);
        return 0;
}

static int on_data(void *ctx, const void *p, size_t n)
{
        struct call *k = ctx;
        const char *type;

        if (!k->json.len && !k->events) {
                type = client_header(k->r, "Content-Type");
                k->events = type && strncmp(type, "text/event-stream", 17) == 0;
        }
        if (k->events)
                return sse_feed(&k->sse, p, n);
        return buf_put(&k->json, p, n);
}

static void on_end(void *ctx, const struct answer *a);

/* NULL-ended; lent until the next call. */
static int start(struct call *k, struct err *e)
{
        const char *headers[HEADERS_MAX + 1] = {0};
        char *session = NULL, *version = NULL;
        struct request_spec s = {.method = "POST",
                                 .path = PATH,
                                 .body = k->body,
                                 .body_len = strlen(k->body),
                                 .accept = ACCEPT,
                                 .headers = headers,
                                 .endless = true,
                                 .on_data = on_data,
                                 .on_end = on_end,
                                 .ctx = k};
        struct mcp_bridge *b = k->b;
        int n = 0, rc = 0;

        for (int i = 0; i < HEADERS_MAX && k->header[i]; i++)
                headers[n++] = k->header[i];
        if (!k->modern && !k->opens && b->session) {
                session = mcp_header("Mcp-Session-Id", b->session);
                version = mcp_header("MCP-Protocol-Version", b->version);
                if (!session || !version)
                        rc = err_set(e, E_NOMEM, "no memory");
                headers[n++] = session;
                headers[n++] = version;
        }
        if (!rc)
                rc = client_start(b->c, &s, &k->r, e);
        mem_free(session);
        mem_free(version);
        return rc;
}

static struct call *call_create(struct mcp_bridge *b, const char *body, size_t n)
{
        struct call *k = mem_calloc(1, sizeof *k);

        if (!k)
                return NULL;
        k->b = b;
        list_init(&k->link);
        list_push_back(&b->calls, &k->link);
        b->n++;
        sse_init(&k->sse, on_event, k);
        buf_init(&k->json, MCP_LINE_MAX);
        k->body = mem_strndup(body, n);
        if (k->body)
                return k;
        call_free(k);
        return NULL;
}

/* ---- the session ---- */

static void opened(struct call *k)
{
        struct mcp_bridge *b = k->b;
        const char *id = client_header(k->r, "Mcp-Session-Id");
        cJSON *doc = NULL;
        const char *version = NULL;

        if (!json_parse((const char *)k->json.data, k->json.len, &doc, NULL))
                version = jstr(jget(doc, "result"), "protocolVersion");
        mem_free(b->session);
        mem_free(b->version);
        b->session = id && version && *version ? mem_strdup(id) : NULL;
        b->version = b->session ? mem_strdup(version) : NULL;
        if (!b->version) {
                mem_free(b->session);
                b->session = NULL;
        }
        cJSON_Delete(doc);
}

/* Those who wait for the session go on, or learn that there is none. */
static void release(struct mcp_bridge *b, const struct answer *a)
{
        LIST_EACH_SAFE (it, nx, &b->calls) {
                struct call *k = container_of(it, struct call, link);
                struct err e = {0};

                if (k->r || k->reopens)
                        continue;
                if (!a->rc && start(k, &e) == 0)
                        continue;
                fail(k, E_SERVER, a->rc ? a->err->msg : e.msg, a->code);
                call_free(k);
        }
}

/* Opens it again with what the client said when it opened it. */
static int reopen(struct mcp_bridge *b)
{
        struct call *k;
        struct err e = {0};

        if (b->opening)
                return 0;
        k = b->hello ? call_create(b, b->hello, strlen(b->hello)) : NULL;
        if (!k)
                return -E_NOMEM;
        k->opens = k->reopens = true;
        if (start(k, &e)) {
                call_free(k);
                return -E_NOMEM;
        }
        b->opening = true;
        return 0;
}

static bool session_lost(const struct call *k, const struct answer *a)
{
        return a->status == 404 && !k->modern && !k->opens && !k->again && !k->b->closing &&
               jnum(jget(a->doc, "error"), "code") == E_SESSION;
}

/* ---- answers ---- */

static void take_problem(struct call *k, const struct answer *a)
{
        char *text;

        if (a->doc && jget(a->doc, "jsonrpc")) { /* the hub's own words */
                text = k->id ? json_text(a->doc) : NULL;
                if (text && is_answer_to(k, a->doc)) {
                        put_message(k, text, strlen(text));
                        k->answered = true;
                }
                mem_free(text);
                if (!k->answered)
                        fail(k, (int)jnum(jget(a->doc, "error"), "code"),
                             jstr(jget(a->doc, "error"), "message"), NULL);
                return;
        }
        if (k->listens && k->events) /* it had begun */
                fail(k, E_SERVER,
                     "the connection to the hub broke off, and with it the subscription: open "
                     "another, and read again what it watched",
                     "closed");
        else
                fail(k, E_SERVER, a->err->msg, a->code);
}

static void take_success(struct call *k)
{
        if (k->opens && !k->events)
                opened(k);
        if (!k->events && !k->reopens && k->json.len) {
                put_message(k, (const char *)k->json.data, k->json.len);
                k->answered = true;
        }
        fail(k, E_SERVER,
             k->listens ? "the hub ended the subscription: open another, and read again what it watched"
                        : "the hub ended the answer before its result. What was begun may go on there: look "
                          "with list_runs, or photon runs",
             "closed");
}

static void on_end(void *ctx, const struct answer *a)
{
        struct call *k = ctx;
        struct mcp_bridge *b = k->b;
        bool reopens = k->reopens;

        if (session_lost(k, a) && reopen(b) == 0) {
                k->again = true;
                k->r = NULL; /* the client frees it */
                return;
        }
        if (a->rc)
                take_problem(k, a);
        else if (k->id || k->opens)
                take_success(k);
        k->r = NULL;
        call_free(k);
        if (reopens) {
                b->opening = false;
                release(b, a);
        }
}

/* ---- from the client ---- */

static bool visible(const char *s)
{
        for (const char *p = s; *p; p++)
                if (*p < 0x20 || *p > 0x7e)
                        return false;
        return *s && s[0] != ' ' && s[strlen(s) - 1] != ' ' && strncmp(s, "=?base64?", 9) != 0;
}

char *mcp_header(const char *name, const char *value)
{
        char *b64, *out;

        if (visible(value))
                return str_printf("%s: %s", name, value);
        b64 = str_b64(value, strlen(value));
        out = b64 ? str_printf("%s: =?base64?%s?=", name, b64) : NULL;
        mem_free(b64);
        return out;
}

/* What stands in the body is repeated in headers, as 2026-07-28 has it. */
static int modern_headers(struct call *k, const cJSON *doc, const char *version)
{
        const char *method = jstr(doc, "method");
        const char *name = strcmp(method, "resources/read") == 0 ? jstr(jget(doc, "params"), "uri")
                                                                 : jstr(jget(doc, "params"), "name");
        int n = 0;

        k->modern = true;
        k->header[n++] = mcp_header("MCP-Protocol-Version", version);
        k->header[n++] = mcp_header("Mcp-Method", method);
        if (*name)
                k->header[n++] = mcp_header("Mcp-Name", name);
        for (int i = 0; i < n; i++)
                if (!k->header[i] || strlen(k->header[i]) > MCP_HEADER_MAX)
                        return -E_NOMEM;
        return 0;
}

/* The request is not waited for any more. In the modern era that is all there is to it; before, the hub is
 * told too. True: it was, by ending the stream. */
static bool give_up(struct mcp_bridge *b, const cJSON *doc)
{
        const cJSON *id = jget(jget(doc, "params"), "requestId");
        char *text = id ? json_text(id) : NULL;
        bool modern = false;

        LIST_EACH_SAFE (it, nx, &b->calls) {
                struct call *k = container_of(it, struct call, link);

                if (!text || !k->id || strcmp(k->id, text) != 0 || k->opens)
                        continue;
                k->answered = true; /* or nothing is said of it */
                modern |= k->modern;
                if (k->modern || !k->r)
                        call_free(k);
        }
        mem_free(text);
        return modern;
}

static int send_message(struct mcp_bridge *b, const char *line, size_t n, const cJSON *doc, struct err *e)
{
        const char *version = jstr(jget(jget(doc, "params"), "_meta"), META_VERSION);
        const cJSON *id = jget(doc, "method") ? jget(doc, "id") : NULL;
        struct call *k = call_create(b, line, n);
        int rc = k ? 0 : -E_NOMEM;

        if (!rc && id) {
                k->id = json_text(id);
                rc = k->id ? 0 : -E_NOMEM;
        }
        if (!rc && *version && modern_headers(k, doc, version)) {
                fail(k, -32600, "the message's method, name or version is too long for a header", NULL);
                call_free(k);
                return 0;
        }
        if (!rc)
                k->listens = strcmp(jstr(doc, "method"), "subscriptions/listen") == 0;
        if (!rc && !*version && strcmp(jstr(doc, "method"), "initialize") == 0) {
                k->opens = true;
                mem_free(b->hello);
                b->hello = mem_strdup(k->body);
        }
        if (!rc && b->opening && !k->modern && !k->opens)
                return 0; /* goes when the session is there */
        if (!rc && start(k, e)) {
                fail(k, E_SERVER, e->msg, NULL);
                call_free(k);
                return 0;
        }
        if (rc)
                call_free(k);
        return rc ? err_set(e, E_NOMEM, "no memory") : 0;
}

int mcp_bridge_line(struct mcp_bridge *b, const char *line, size_t n, struct err *e)
{
        struct err why = {0};
        cJSON *doc = NULL;
        char *id = NULL;
        int rc = 0;

        while (n && (line[n - 1] == '\r' || line[n - 1] == ' '))
                n--;
        if (!n)
                return 0;
        if (json_parse(line, n, &doc, &why)) {
                put_error(b, NULL, -32700, why.msg, NULL);
                return 0;
        }
        if (!cJSON_IsObject(doc)) {
                put_error(b, NULL, -32600, "a message is a JSON object; batches are not taken", NULL);
                goto out;
        }
        if (strcmp(jstr(doc, "method"), "notifications/cancelled") == 0 && (give_up(b, doc) || !b->session))
                goto out;
        if (b->n >= MCP_CALLS_MAX) {
                id = jget(doc, "method") && jget(doc, "id") ? json_text(jget(doc, "id")) : NULL;
                if (id)
                        put_error(b, id, E_SERVER, "64 requests are in flight already: wait for one to end",
                                  "resource_exhausted");
                goto out;
        }
        rc = send_message(b, line, n, doc, e);
out:
        mem_free(id);
        cJSON_Delete(doc);
        return rc;
}

void mcp_bridge_too_long(struct mcp_bridge *b)
{
        put_error(b, NULL, -32700, "a message may have 16 MiB at most", "too_large");
}

/* ---- life ---- */

int mcp_bridge_create(struct client *c, bool (*put_line)(void *ctx, const char *line, size_t n), void *ctx,
                      struct mcp_bridge **out, struct err *e)
{
        struct mcp_bridge *b = mem_calloc(1, sizeof *b);

        if (!b)
                return err_set(e, E_NOMEM, "no memory");
        b->c = c;
        b->put = put_line;
        b->ctx = ctx;
        list_init(&b->calls);
        *out = b;
        return 0;
}

size_t mcp_bridge_calls(const struct mcp_bridge *b)
{
        return b->n;
}

bool mcp_bridge_broken(const struct mcp_bridge *b)
{
        return b->broken;
}

static void on_closed(void *ctx, const struct answer *a)
{
        struct call *k = ctx;

        (void)a; /* nobody is left to be told */
        k->r = NULL;
        call_free(k);
}

void mcp_bridge_close(struct mcp_bridge *b)
{
        struct request_spec s = {.method = "DELETE", .path = PATH, .on_end = on_closed};
        const char *headers[2] = {0};
        char *session = NULL;
        struct err e = {0};
        struct call *k;

        b->closing = true;
        LIST_EACH_SAFE (it, nx, &b->calls)
                call_free(container_of(it, struct call, link));
        if (!b->session)
                return;
        session = mcp_header("Mcp-Session-Id", b->session);
        k = session ? call_create(b, "", 0) : NULL;
        headers[0] = session;
        s.headers = headers;
        s.ctx = k;
        if (k && client_start(b->c, &s, &k->r, &e))
                call_free(k);
        mem_free(session);
        mem_free(b->session);
        b->session = NULL;
}

void mcp_bridge_free(struct mcp_bridge *b)
{
        if (!b)
                return;
        LIST_EACH_SAFE (it, nx, &b->calls)
                call_free(container_of(it, struct call, link));
        mem_free(b->session);
        mem_free(b->version);
        mem_free(b->hello);
        mem_free(b);
}
