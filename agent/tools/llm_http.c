/* One request to a model endpoint, over libcurl on the loop. */
#include <stdio.h>
#include <string.h>

#include "agent/policy.h"
#include "agent/tools/http.h"
#include "agent/tools/llm_call.h"
#include "common/err.h"
#include "common/mem.h"
#include "common/str.h"
#include "common/version.h"

/* ---- what comes ---- */

static size_t on_body(char *p, size_t size, size_t n, void *ctx)
{
        struct llm *l = ctx;

        n *= size;
        if (l->full) {
                l->paused = true;
                return CURL_WRITEFUNC_PAUSE;
        }
        if (!l->status)
                l->lib->easy_info(l->t.easy, CURLINFO_RESPONSE_CODE, &l->status);
        llm_on_alive(l);
        if (l->status == 200) {
                int rc = llm_stream_feed(&l->stream, p, n);

                llm_on_fed(l);
                return rc ? CURL_WRITEFUNC_ERROR : n;
        }
        if (l->error_body.len < LLM_ERROR_BODY_MAX) {
                size_t room = LLM_ERROR_BODY_MAX - l->error_body.len;

                if (buf_put(&l->error_body, p, n < room ? n : room) != 0)
                        return CURL_WRITEFUNC_ERROR;
        }
        return n;
}

static size_t on_header(char *p, size_t size, size_t n, void *ctx)
{
        (void)p;
        llm_on_alive(ctx);
        return n * size;
}

void llm_unpause(struct llm *l)
{
        l->full = false;
        if (!l->paused || !l->in_flight)
                return;
        l->paused = false;
        llm_on_alive(l);
        l->lib->easy_pause(l->t.easy, CURLPAUSE_CONT);
}

/* ---- asking ---- */

static int add_header(struct llm *l, const char *name, const char *prefix, const char *value, struct err *e)
{
        char *line = str_printf("%s: %s%s", name, prefix, value);
        struct curl_slist *h = line ? l->lib->slist_append(l->headers, line) : NULL;

        if (line)
                mem_wipe(line, strlen(line));
        mem_free(line);
        if (!h)
                return err_set(e, E_NOMEM, "out of memory");
        l->headers = h;
        return 0;
}

static void drop_headers(struct llm *l)
{
        for (struct curl_slist *h = l->headers; h; h = h->next)
                mem_wipe(h->data, strlen(h->data));
        if (l->lib)
                l->lib->slist_free_all(l->headers);
        l->headers = NULL;
}

static int make_headers(struct llm *l, struct err *e)
{
        const struct llm_wire *w = l->stream.wire;
        const char *extra = w->extra_header, *colon = extra ? strchr(extra, ':') : NULL;
        int rc = add_header(l, "Content-Type", "", "application/json", e);

        if (!rc)
                rc = add_header(l, "Accept", "", w->lines ? "application/x-ndjson" : "text/event-stream", e);
        if (!rc && colon) {
                struct curl_slist *h = l->lib->slist_append(l->headers, extra);

                rc = h ? 0 : err_set(e, E_NOMEM, "out of memory");
                l->headers = h ? h : l->headers;
        }
        if (!rc && l->key)
                rc = add_header(l, w->key_header, w->key_prefix, l->key, e);
        if (!rc && l->c->traceparent && *l->c->traceparent)
                rc = add_header(l, "traceparent", "", l->c->traceparent, e);
        /* No waiting for "100 Continue". */
        return rc ? rc : add_header(l, "Expect", "", "", e);
}

static void on_done(struct transfer *t, CURLcode result)
{
        struct llm *l = t->data;

        l->in_flight = false;
        if (!l->status)
                l->lib->easy_info(t->easy, CURLINFO_RESPONSE_CODE, &l->status);
        llm_on_answered(l, result);
}

static void set_options(struct llm *l)
{
        const struct curl_lib *k = l->lib;
        CURL *c = l->t.easy;

        k->easy_set(c, CURLOPT_URL, l->url);
        k->easy_set(c, CURLOPT_PROTOCOLS_STR, "http,https");
        k->easy_set(c, CURLOPT_FOLLOWLOCATION, 0L);
        k->easy_set(c, CURLOPT_NOSIGNAL, 1L);
        k->easy_set(c, CURLOPT_SSL_VERIFYPEER, 1L);
        k->easy_set(c, CURLOPT_SSL_VERIFYHOST, 2L);
        k->easy_set(c, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
        k->easy_set(c, CURLOPT_USERAGENT, "photon-agent/" PHOTON_VERSION);
        k->easy_set(c, CURLOPT_CONNECTTIMEOUT_MS, (long)l->ep->connect_ms);
        k->easy_set(c, CURLOPT_OPENSOCKETFUNCTION, guard_open_socket);
        k->easy_set(c, CURLOPT_OPENSOCKETDATA, &l->guard);
        k->easy_set(c, CURLOPT_WRITEFUNCTION, on_body);
        k->easy_set(c, CURLOPT_WRITEDATA, l);
        k->easy_set(c, CURLOPT_HEADERFUNCTION, on_header);
        k->easy_set(c, CURLOPT_HEADERDATA, l);
        k->easy_set(c, CURLOPT_HTTPHEADER, l->headers);
        k->easy_set(c, CURLOPT_TCP_NODELAY, 1L);
        k->easy_set(c, CURLOPT_POST, 1L);
        k->easy_set(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)l->body_n);
        k->easy_set(c, CURLOPT_POSTFIELDS, l->body);
        if (l->ep->unix_socket)
                k->easy_set(c, CURLOPT_UNIX_SOCKET_PATH, l->ep->unix_socket);
        /* A proxy on loopback would carry it away; and a connection that was made for others, with other
         * checks, is not used. */
        if (l->local_only) {
                k->easy_set(c, CURLOPT_PROXY, "");
                k->easy_set(c, CURLOPT_FRESH_CONNECT, 1L);
        }
}

int llm_ask(struct llm *l, struct err *e)
{
        char host[256];
        char *path;
        bool tls;
        int port = 0, rc = curl_open(l->c->loop, &l->lib, e);

        if (rc)
                return rc;
        llm_unask(l);
        llm_stream_init(&l->stream, l->ep->kind);
        l->stream_open = true;
        path = l->stream.wire->path(l->model->name);
        l->url = path ? str_printf("%s%s", l->ep->base_url, path) : NULL;
        mem_free(path);
        l->t.easy = l->lib->easy_init();
        if (!l->url || !l->t.easy)
                return err_set(e, E_NOMEM, "out of memory");
        rc = http_split_url(l->url, host, &port, &tls, e);
        if (!rc && !l->ep->unix_socket)
                rc = policy_host(l->policy, host, port, e);
        if (!rc)
                rc = make_headers(l, e);
        if (rc)
                return rc;
        l->status = 0;
        l->paused = l->full = false;
        l->guard = (struct guard){
                .policy = l->policy, .who = l->ep->name, .port = port, .local_only = l->local_only};
        l->t.on_done = on_done;
        l->t.data = l;
        set_options(l);
        rc = curl_start(&l->t, e);
        l->in_flight = rc == 0;
        l->requests += rc == 0;
        return rc;
}

void llm_unask(struct llm *l)
{
        if (l->in_flight)
                curl_abort(&l->t);
        l->in_flight = false;
        if (l->t.easy)
                l->lib->easy_cleanup(l->t.easy);
        l->t.easy = NULL;
        drop_headers(l);
        mem_free(l->url);
        l->url = NULL;
        buf_reset(&l->error_body);
        if (l->stream_open)
                llm_stream_fini(&l->stream);
        l->stream_open = false;
}

/* ---- what became of it ---- */

static const char *curl_code(CURLcode r)
{
        switch (r) {
        case CURLE_COULDNT_RESOLVE_HOST:
        case CURLE_COULDNT_RESOLVE_PROXY:
                return "host_not_found";
        case CURLE_OPERATION_TIMEDOUT: /* of connecting: ours is the only other limit */
        case CURLE_COULDNT_CONNECT:
                return "connect_failed";
        case CURLE_PEER_FAILED_VERIFICATION:
        case CURLE_SSL_CONNECT_ERROR:
        case CURLE_SSL_CACERT_BADFILE:
        case CURLE_SSL_CERTPROBLEM:
        case CURLE_SSL_CIPHER:
                return "tls_failed";
        case CURLE_UNSUPPORTED_PROTOCOL: /* of the answer: what is asked is http or https */
        case CURLE_WEIRD_SERVER_REPLY:
                return "bad_answer";
        default:
                return "connect_failed";
        }
}

/* What the endpoint says may repeat what it was told. */
static void hide_key(const struct llm *l, char *text)
{
        size_t n = l->key ? strlen(l->key) : 0;

        for (char *at = n >= 4 ? strstr(text, l->key) : NULL; at; at = strstr(at, l->key))
                memset(at, '*', n);
}

static void look_status(struct llm *l, struct llm_outcome *out)
{
        static const struct {
                const char *code, *advice;
        } advice[] = {
                {"auth_failed", "; check the key of this endpoint"},
                {"unknown_model", "; check the models of this endpoint in the agent's configuration"},
                {"rate_limited", "; ask less often, later, or with more `retries`"},
                {"overloaded", "; try again later, or name another endpoint"},
                {"quota_exceeded", "; look at the plan and the bill of its account"},
                {"bad_request", "; look at the input: the endpoint does not take it as it is"},
                {"server_error", "; try again later, or name another endpoint"},
                {"bad_answer", "; are its base_url and kind right?"},
        };
        const char *body = l->error_body.data ? (const char *)l->error_body.data : "", *more = "";
        curl_off_t after = 0;
        char text[304], wait[80] = "", shown[32];

        out->code = llm_status_code(l->status, body, l->error_body.len);
        out->retryable = llm_status_retryable(l->status) && strcmp(out->code, "quota_exceeded") != 0;
        for (size_t i = 0; i < sizeof advice / sizeof *advice; i++)
                if (strcmp(advice[i].code, out->code) == 0)
                        more = advice[i].advice;
        if (l->status >= 300 && l->status < 400)
                more = "; redirects are not followed: base_url must be the address that it leads to";
        else if (l->status == 404 || l->status == 405)
                more = strcmp(out->code, "unknown_model") == 0 ? more : "; is its base_url right?";
        else if (l->status == 413)
                more = "; the input is larger than it takes: send less";
        llm_error_text(body, l->error_body.len, text);
        hide_key(l, text);
        /* Seconds, or how long until the date that was given. */
        if (l->lib->easy_info(l->t.easy, CURLINFO_RETRY_AFTER, &after) == CURLE_OK && after > 0) {
                out->after_ms = after < 86400 * 30 ? (int64_t)after * 1000 : (int64_t)86400 * 30000;
                str_format_duration(out->after_ms, shown);
                snprintf(wait, sizeof wait, "; it wants to be asked again after %s", shown);
        }
        err_set(&out->why, E_UNAVAIL, "the endpoint %s answered with status %ld%s%s%s%s", l->ep->name,
                l->status, *text ? ": " : "", text, wait, more);
}

void llm_look(struct llm *l, CURLcode result, struct llm_outcome *out)
{
        bool whole = result == CURLE_OK;

        *out = (struct llm_outcome){.after_ms = -1};
        if (l->guard.not_local || l->guard.denied) {
                out->code = l->guard.not_local ? "not_local" : "policy_denied";
                out->why = l->guard.why;
                return;
        }
        if (l->status && l->status != 200) {
                look_status(l, out);
                return;
        }
        if (!l->status) {
                out->code = curl_code(result);
                out->retryable =
                        strcmp(out->code, "connect_failed") == 0 || strcmp(out->code, "host_not_found") == 0;
                if (strcmp(out->code, "bad_answer") == 0)
                        err_set(&out->why, E_PROTO,
                                "what answers at %.200s does not speak HTTP; is the base_url of %s right?",
                                l->ep->base_url, l->ep->name);
                else
                        err_set(&out->why, E_UNAVAIL, "the endpoint %s cannot be reached at %.200s: %s",
                                l->ep->name, l->ep->base_url, l->lib->easy_error(result));
                return;
        }
        if (llm_stream_end(&l->stream, whole) == 0)
                return;
        out->code = l->stream.code;
        out->retryable = !l->stream.started &&
                         (strcmp(out->code, "stream_ended") == 0 || strcmp(out->code, "half_message") == 0 ||
                          strcmp(out->code, "overloaded") == 0 || strcmp(out->code, "rate_limited") == 0 ||
                          strcmp(out->code, "server_error") == 0);
        err_set(&out->why, l->stream.trouble.code ? l->stream.trouble.code : E_PROTO, "%s: %s", l->ep->name,
                l->stream.trouble.msg);
        hide_key(l, out->why.msg);
}
