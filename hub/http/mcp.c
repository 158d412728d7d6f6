/* POST and DELETE of /mcp: one JSON-RPC message a POST, answered in JSON or as a stream of
 * events. What a browser could be tricked into sending is refused by its Origin. */
#include "hub/http/mcp.h"

#include <stdio.h>
#include <string.h>

#include "common/json.h"
#include "common/mem.h"
#include "common/pki.h"
#include "common/version.h"
#include "hub/http/api.h"
#include "hub/http/jsonw.h"

#define SERVER_INFO     "{\"name\":\"photon\",\"title\":\"PHOTON hub\",\"version\":\"" PHOTON_VERSION "\"}"
#define DISCOVER_TTL_MS 60000
#define LIST_TTL_MS     60000

void mcp_inner_free(void *call)
{
        struct mcp_call *c = call;

        if (!c)
                return;
        mcp_flight_end(c->h, c->flight);
        mcp_msg_fini(&c->msg);
        mcp_fault_fini(&c->fault);
        cJSON_Delete(c->none);
        cJSON_Delete(c->query);
        mem_free(c);
}

int mcp_no_memory(struct mcp_call *c)
{
        return mcp_fault_set(&c->fault, MCP_E_INTERNAL, 503, "out of memory");
}

/* ---- answers ---- */

int mcp_write_result(struct buf *b, const struct mcp_call *c, const char *type, const char *members)
{
        int rc = buf_puts(b, "{\"jsonrpc\":\"2.0\",\"id\":");

        if (!rc)
                rc = json_append(b, c->msg.id);
        if (!rc)
                rc = buf_puts(b, ",\"result\":{");
        if (!rc && c->terms.era == MCP_MODERN)
                rc = buf_printf(
                        b, "\"resultType\":\"%s\",\"_meta\":{\"" MCP_META "serverInfo\":" SERVER_INFO "%s}%s",
                        type, c->meta ? c->meta : "", *members ? "," : "");
        if (!rc)
                rc = buf_puts(b, members);
        return rc ? rc : buf_puts(b, "}}");
}

/* A client that takes nothing but streams gets one with a single event. */
static int wrap(struct http_req *q, struct mcp_call *c, size_t start)
{
        static const char head[] = "event: message\ndata: ";
        struct buf b;
        int rc;

        if (c->takes_json)
                return 0;
        buf_init(&b, 0);
        rc = buf_puts(&b, head);
        if (!rc)
                rc = buf_put(&b, q->out.data + start, q->out.len - start);
        if (!rc)
                rc = buf_puts(&b, "\n\n");
        if (rc) {
                buf_fini(&b);
                return rc;
        }
        buf_fini(&q->out);
        q->out = b;
        q->content_type = "text/event-stream";
        return 0;
}

int mcp_answer_typed(struct http_req *q, struct mcp_call *c, const char *type, const char *members)
{
        buf_reset(&q->out);
        q->status = 200;
        q->content_type = NULL;
        if (mcp_write_result(&q->out, c, type, members) || wrap(q, c, 0))
                return mcp_no_memory(c);
        return 0;
}

int mcp_answer(struct http_req *q, struct mcp_call *c, const char *members)
{
        return mcp_answer_typed(q, c, "complete", members);
}

cJSON *mcp_problem(const struct http_req *q, const char **detail, const char **code)
{
        cJSON *doc = NULL;

        if (!q->out.len || json_parse((const char *)q->out.data, q->out.len, &doc, NULL))
                doc = NULL;
        *detail = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(doc, "detail"));
        *code = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(doc, "code"));
        if (!*detail)
                *detail = "the hub has no memory left for the answer";
        if (!*code)
                *code = "out_of_memory";
        return doc;
}

int mcp_answer_list(struct http_req *q, struct mcp_call *c, const char *key,
                    void (*put)(struct jsonw *w, void *arg), void *arg)
{
        const cJSON *cursor = cJSON_GetObjectItemCaseSensitive(c->msg.params, "cursor");
        struct jsonw w;
        struct buf b;
        int rc;

        if (cursor && !cJSON_IsNull(cursor))
                return mcp_fault_set(&c->fault, MCP_E_PARAMS, 200,
                                     "the %s come in one page: no cursor is valid", key);
        buf_init(&b, 0);
        jw_begin(&w, &b);
        jw_open(&w, key, '[');
        put(&w, arg);
        jw_close(&w, ']');
        if (c->terms.era == MCP_MODERN) {
                jw_i64(&w, "ttlMs", LIST_TTL_MS);
                jw_str(&w, "cacheScope", "private");
        }
        rc = jw_end(&w);
        if (!rc)
                rc = buf_putc(&b, '\0');
        rc = rc ? mcp_no_memory(c) : mcp_answer(q, c, (const char *)b.data);
        buf_fini(&b);
        return rc;
}

void mcp_answer_fault(struct http_req *q, struct mcp_call *c)
{
        buf_reset(&q->out);
        q->status = (unsigned)c->fault.status;
        q->content_type = NULL;
        if (mcp_write_error(&q->out, c->msg.id, &c->fault) || (q->status == 200 && wrap(q, c, 0)))
                buf_reset(&q->out); /* out of memory: the status must do */
}

/* ---- methods of every server ---- */

/* What is watched is watched with subscriptions/listen; the legacy era's way needs a stream that no request
 * asked for. */
static int capabilities(struct jsonw *w, enum mcp_era era)
{
        static const char *const ours[] = {
                [MCP_LEGACY] = ",\"resources\":{}", [MCP_MODERN] = ",\"resources\":{\"subscribe\":true}"};
        struct buf b;
        int rc;

        buf_init(&b, 0);
        rc = buf_printf(&b, "{\"tools\":{}%s}", &mcp_extra ? mcp_extra.capabilities[era] : ours[era]);
        if (!rc)
                rc = buf_putc(&b, '\0');
        if (!rc)
                jw_raw(w, "capabilities", (const char *)b.data, "{}");
        buf_fini(&b);
        return rc;
}

/* Members, as jsonw writes them, without braces around. */
static int finish(struct http_req *q, struct mcp_call *c, struct jsonw *w, struct buf *b, int rc)
{
        if (!rc)
                rc = jw_end(w);
        if (!rc)
                rc = buf_putc(b, '\0');
        rc = rc ? mcp_no_memory(c) : mcp_answer(q, c, (const char *)b->data);
        buf_fini(b);
        return rc;
}

static int on_initialize(struct http_req *q, struct mcp_call *c)
{
        const cJSON *asked = cJSON_GetObjectItemCaseSensitive(c->msg.params, "protocolVersion");
        struct jsonw w;
        struct buf b;
        int rc;

        if (!cJSON_IsString(asked))
                return mcp_fault_set(&c->fault, MCP_E_PARAMS, 200, "params.protocolVersion must be text");
        buf_init(&b, 0);
        jw_begin(&w, &b);
        jw_str(&w, "protocolVersion", mcp_negotiate(asked->valuestring));
        rc = capabilities(&w, MCP_LEGACY);
        jw_raw(&w, "serverInfo", SERVER_INFO, "");
        jw_str(&w, "instructions", mcp_instructions);
        snprintf(q->mcp_session, sizeof q->mcp_session, "%s", c->session);
        return finish(q, c, &w, &b, rc);
}

static int on_ping(struct http_req *q, struct mcp_call *c)
{
        return mcp_answer(q, c, "");
}

static int on_discover(struct http_req *q, struct mcp_call *c)
{
        struct jsonw w;
        struct buf b;
        int rc;

        buf_init(&b, 0);
        jw_begin(&w, &b);
        jw_raw(&w, "supportedVersions", "[\"" MCP_MODERN_VERSION "\"]", "");
        rc = capabilities(&w, MCP_MODERN);
        jw_str(&w, "instructions", mcp_instructions);
        jw_i64(&w, "ttlMs", DISCOVER_TTL_MS);
        jw_str(&w, "cacheScope", "private");
        return finish(q, c, &w, &b, rc);
}

static const struct mcp_method methods[] = {
        {"initialize", MCP_IN_LEGACY, on_initialize},
        {"ping", MCP_IN_LEGACY, on_ping},
        {"server/discover", MCP_IN_MODERN, on_discover},
        {"tools/list", MCP_IN_LEGACY | MCP_IN_MODERN, mcp_tools_list},
        {"tools/call", MCP_IN_LEGACY | MCP_IN_MODERN, mcp_tools_call},
        {"resources/list", MCP_IN_LEGACY | MCP_IN_MODERN, mcp_resources_list},
        {"resources/templates/list", MCP_IN_LEGACY | MCP_IN_MODERN, mcp_resource_templates},
        {"resources/read", MCP_IN_LEGACY | MCP_IN_MODERN, mcp_resources_read},
        {"subscriptions/listen", MCP_IN_MODERN, mcp_listen},
        {0},
};

static const struct mcp_method *find_method(const struct mcp_method *m, const struct mcp_call *c)
{
        for (; m && m->name; m++)
                if (m->eras & 1u << c->terms.era && strcmp(m->name, c->msg.method) == 0)
                        return m;
        return NULL;
}

static int dispatch(struct http_req *q, struct mcp_call *c)
{
        const struct mcp_method *m = NULL;

        if (c->msg.kind != MCP_REQUEST) {
                q->status = 202; /* taken; what it meant is done */
                return 0;
        }
        if (&mcp_extra)
                m = find_method(mcp_extra.methods, c);
        if (!m)
                m = find_method(methods, c);
        if (!m)
                return mcp_fault_set(&c->fault, MCP_E_METHOD, c->terms.era == MCP_MODERN ? 404 : 200,
                                     "there is no method %.128s here", c->msg.method);
        return m->handler(q, c);
}

/* ---- the loop's part: sessions ---- */

static bool is_method(const struct mcp_call *c, const char *name)
{
        return c->msg.method && strcmp(c->msg.method, name) == 0;
}

static void in_session(struct http_req *q, struct mcp_call *c)
{
        int rc;

        if (c->msg.kind == MCP_RESPONSE) {
                mcp_flight_answer(q->h, c->session, c->msg.id, c->msg.doc);
                return; /* an answer that nobody waits for any more is no mistake */
        }
        if (is_method(c, "notifications/cancelled")) {
                mcp_flight_cancel(q->h, c->session,
                                  cJSON_GetObjectItemCaseSensitive(c->msg.params, "requestId"));
                return;
        }
        if (!is_method(c, "tools/call") || c->msg.kind != MCP_REQUEST)
                return;
        rc = mcp_flight_begin(q->h, c->session, c->msg.id, &c->flight);
        if (rc == -E_EXIST)
                mcp_fault_set(&c->fault, MCP_E_REQUEST, 400, "a request with this id is in flight already");
        else if (rc == -E_FULL)
                mcp_fault_set(&c->fault, MCP_E_SERVER, 429, "%d calls of this session are in flight already",
                              MCP_FLIGHTS_PER_SESSION);
        else if (rc)
                mcp_no_memory(c);
}

static void on_loop(struct http_req *q)
{
        struct mcp_call *c = q->inner.ctx;

        if (is_method(c, "initialize")) {
                const cJSON *can = cJSON_GetObjectItemCaseSensitive(c->msg.params, "capabilities");

                if (mcp_session_open(q->h, &q->caller, mcp_can_bits(can), c->session))
                        mcp_no_memory(c);
        } else if (c->deletes ? !mcp_session_close(q->h, &q->caller, c->session)
                              : !mcp_session_use(q->h, &q->caller, c->session, &c->can)) {
                mcp_fault_set(&c->fault, MCP_E_SESSION, 404,
                              "this session is not known (any more): open one with initialize");
        } else if (!c->deletes) {
                in_session(q, c);
        }
        req_done(q, 0, NULL);
}

static int serve(struct http_req *q, struct err *e)
{
        struct mcp_call *c = q->inner.ctx;

        (void)e;
        if (c->fault.code || dispatch(q, c))
                mcp_answer_fault(q, c);
        return 0;
}

/* ---- the request ---- */

/* "https://hub.example:7443" -> "hub.example". */
static bool origin_host(const char *origin, char out[256])
{
        const char *p = strstr(origin, "://");
        size_t n;

        if (!p || (strncasecmp(origin, "http://", 7) != 0 && strncasecmp(origin, "https://", 8) != 0))
                return false;
        p += 3;
        if (*p == '[') {
                n = strcspn(++p, "]");
                if (p[n] != ']')
                        return false;
        } else {
                n = strcspn(p, ":/");
        }
        if (!n || n > 255)
                return false;
        memcpy(out, p, n);
        out[n] = '\0';
        return true;
}

/* Programs send no Origin; a page in a browser does, and a page of anybody else must not speak to us through
 * its visitor (DNS rebinding). Pages of this machine and of the hub's own names may. */
static int check_origin(struct http_req *q, struct err *e)
{
        static const char *const here[] = {"localhost", "127.0.0.1", "::1"};
        const char *origin = req_header(q, "Origin");
        char host[256];

        if (!origin)
                return 0;
        if (origin_host(origin, host)) {
                for (size_t i = 0; i < sizeof here / sizeof *here; i++)
                        if (strcasecmp(host, here[i]) == 0)
                                return 0;
                if (pki_cert_names(q->h->cert_pem, host))
                        return 0;
        }
        q->problem_code = "origin_not_allowed";
        return err_set(
                e, E_DENIED,
                "pages of %.100s may not use this hub: the Origin must be this machine or a name in the "
                "hub's certificate",
                origin);
}

static bool accepts(const char *accept, const char *type)
{
        return strcasestr(accept, type) || strstr(accept, "*/*");
}

static int check_accept(struct http_req *q, struct mcp_call *c, struct err *e)
{
        const char *accept = req_header(q, "Accept");

        c->takes_json = !accept || accepts(accept, "application/json") || strcasestr(accept, "application/*");
        c->takes_sse = accept && strcasestr(accept, "text/event-stream");
        if (c->takes_json || c->takes_sse)
                return 0;
        q->problem_status = 406;
        q->problem_code = "not_acceptable";
        return err_set(e, E_INVAL, "Accept must allow application/json and text/event-stream");
}

static struct mcp_call *begin(struct http_req *q, struct err *e)
{
        struct mcp_call *c = mem_calloc(1, sizeof *c);

        if (!c) {
                err_set(e, E_NOMEM, "out of memory");
                return NULL;
        }
        c->h = q->h;
        c->route = q->route;
        c->caller = q->caller;
        q->inner.ctx = c;
        q->inner.free = mcp_inner_free;
        return c;
}

static int read_session(struct http_req *q, struct mcp_call *c)
{
        const char *id = req_header(q, "Mcp-Session-Id");

        if (!id || c->terms.era == MCP_MODERN)
                return 0;
        if (strlen(id) >= sizeof c->session)
                return mcp_fault_set(&c->fault, MCP_E_SESSION, 404,
                                     "this session is not known: open one with initialize");
        snprintf(c->session, sizeof c->session, "%s", id);
        return 0;
}

int api_mcp_post(struct http_req *q, struct err *e)
{
        struct mcp_headers h = {.version = req_header(q, "MCP-Protocol-Version"),
                                .method = req_header(q, "Mcp-Method"),
                                .name = req_header(q, "Mcp-Name")};
        struct mcp_call *c;
        int rc = check_origin(q, e);

        if (!rc && !req_body_is(q, "application/json")) {
                q->problem_status = 415;
                q->problem_code = "unsupported_media_type";
                rc = err_set(e, E_INVAL, "send the message as Content-Type: application/json");
        }
        c = rc ? NULL : begin(q, e);
        if (!c)
                return rc ? rc : -E_NOMEM;
        rc = check_accept(q, c, e);
        if (rc)
                return rc;
        if (mcp_parse((const char *)q->body.data, q->body.len, &c->msg, &c->fault) ||
            mcp_settle(&c->msg, &h, &c->terms, &c->fault) || read_session(q, c))
                return serve(q, e);
        req_drop_body(q);
        if (c->terms.era == MCP_MODERN)
                c->can = mcp_can_bits(c->terms.capabilities);
        if (c->terms.era == MCP_LEGACY && is_method(c, "initialize") && c->msg.kind == MCP_REQUEST)
                c->session[0] = '\0'; /* a new one, whatever was given */
        else if (!c->session[0])
                return serve(q, e);
        req_hop(q, on_loop, serve);
        return 0;
}

static int deleted(struct http_req *q, struct err *e)
{
        struct mcp_call *c = q->inner.ctx;

        return c->fault.code ? err_set(e, E_NOENT, "%s", c->fault.why.msg) : 0;
}

int api_mcp_delete(struct http_req *q, struct err *e)
{
        int rc = check_origin(q, e);
        struct mcp_call *c = rc ? NULL : begin(q, e);

        if (!c)
                return rc ? rc : -E_NOMEM;
        read_session(q, c);
        if (!c->session[0])
                return c->fault.code ? deleted(q, e)
                                     : err_set(e, E_INVAL, "name the session to end: Mcp-Session-Id");
        c->deletes = true;
        req_hop(q, on_loop, deleted);
        return 0;
}
