#include "agent/tools/rest.h"

#include <stdio.h>
#include <string.h>

#include "agent/policy.h"
#include "agent/tools/http.h"
#include "agent/tools/llm_wire.h"
#include "common/err.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"
#include "common/version.h"

#define ANSWER_MS 60000L /* of one request */

static size_t on_body(char *p, size_t size, size_t n, void *ctx)
{
        struct rest *r = ctx;

        n *= size;
        if (r->got.len + n > REST_BODY_MAX || buf_put(&r->got, p, n)) {
                r->too_large = true;
                return CURL_WRITEFUNC_ERROR;
        }
        return n;
}

static void judge(struct rest *r, CURLcode result, long status, cJSON **doc, struct rest_answer *a)
{
        const char *body = r->got.data ? (const char *)r->got.data : "";
        curl_off_t after = 0;
        struct err why = {0};
        char text[304], wait[80] = "", shown[32];

        *a = (struct rest_answer){.after_ms = -1};
        if (r->guard.not_local || r->guard.denied) {
                a->code = r->guard.denied ? "policy_denied" : "not_local";
                a->why = r->guard.why;
        } else if (r->too_large) {
                a->code = "message_too_large";
                err_set(&a->why, E_TOOBIG, "an answer of the endpoint %s is over 8 MiB", r->ep->name);
        } else if (result != CURLE_OK) {
                a->code = result == CURLE_COULDNT_RESOLVE_HOST       ? "host_not_found"
                          : result == CURLE_PEER_FAILED_VERIFICATION ? "tls_failed"
                                                                     : "connect_failed";
                a->passes = result != CURLE_PEER_FAILED_VERIFICATION;
                err_set(&a->why, E_UNAVAIL, "the endpoint %s cannot be reached at %.200s: %s", r->ep->name,
                        r->ep->base_url, r->lib->easy_error(result));
        } else if (status < 200 || status > 299) {
                a->code = status == 404 ? "not_found" : llm_status_code(status, body, r->got.len);
                a->passes = llm_status_retryable(status);
                llm_error_text(body, r->got.len, text);
                if (r->lib->easy_info(r->t.easy, CURLINFO_RETRY_AFTER, &after) == CURLE_OK && after > 0) {
                        a->after_ms = after < 86400 ? (int64_t)after * 1000 : 86400000;
                        str_format_duration(a->after_ms, shown);
                        snprintf(wait, sizeof wait, "; it wants to be asked again after %s", shown);
                }
                err_set(&a->why, E_UNAVAIL, "the endpoint %s answered with status %ld: %s%s", r->ep->name,
                        status, text, wait);
        } else if (r->got.len && json_parse(body, r->got.len, doc, &why)) {
                a->code = "bad_answer";
                err_set(&a->why, E_PROTO, "the endpoint %s answered with what is no JSON: %s", r->ep->name,
                        why.msg);
        }
        a->doc = *doc;
}

static void clear(struct rest *r)
{
        if (r->t.easy)
                r->lib->easy_cleanup(r->t.easy);
        r->t.easy = NULL;
        for (struct curl_slist *h = r->headers; h; h = h->next)
                mem_wipe(h->data, strlen(h->data));
        if (r->lib)
                r->lib->slist_free_all(r->headers);
        r->headers = NULL;
        mem_free(r->url);
        mem_free(r->sent);
        r->url = r->sent = NULL;
        buf_fini(&r->got);
}

static void on_done(struct transfer *t, CURLcode result)
{
        struct rest *r = t->data;
        struct rest_answer a;
        cJSON *doc = NULL;
        long status = 0;

        r->in_flight = false;
        r->lib->easy_info(t->easy, CURLINFO_RESPONSE_CODE, &status);
        judge(r, result, status, &doc, &a);
        clear(r);
        r->on_answer(r->arg, &a);
        cJSON_Delete(doc);
}

static int add_header(struct rest *r, const char *name, const char *value)
{
        char *line = str_printf("%s: %s", name, value);
        struct curl_slist *h = line ? r->lib->slist_append(r->headers, line) : NULL;

        if (line)
                mem_wipe(line, strlen(line));
        mem_free(line);
        r->headers = h ? h : r->headers;
        return h ? 0 : -E_NOMEM;
}

static void set_options(struct rest *r, bool post)
{
        const struct curl_lib *k = r->lib;
        CURL *c = r->t.easy;

        k->easy_set(c, CURLOPT_URL, r->url);
        k->easy_set(c, CURLOPT_PROTOCOLS_STR, "http,https");
        k->easy_set(c, CURLOPT_FOLLOWLOCATION, 0L);
        k->easy_set(c, CURLOPT_NOSIGNAL, 1L);
        k->easy_set(c, CURLOPT_SSL_VERIFYPEER, 1L);
        k->easy_set(c, CURLOPT_SSL_VERIFYHOST, 2L);
        k->easy_set(c, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
        k->easy_set(c, CURLOPT_ACCEPT_ENCODING, "");
        k->easy_set(c, CURLOPT_USERAGENT, "photon-agent/" PHOTON_VERSION);
        k->easy_set(c, CURLOPT_CONNECTTIMEOUT_MS, (long)r->ep->connect_ms);
        k->easy_set(c, CURLOPT_TIMEOUT_MS, ANSWER_MS);
        k->easy_set(c, CURLOPT_OPENSOCKETFUNCTION, guard_open_socket);
        k->easy_set(c, CURLOPT_OPENSOCKETDATA, &r->guard);
        k->easy_set(c, CURLOPT_WRITEFUNCTION, on_body);
        k->easy_set(c, CURLOPT_WRITEDATA, r);
        k->easy_set(c, CURLOPT_HTTPHEADER, r->headers);
        if (!post)
                return;
        k->easy_set(c, CURLOPT_POST, 1L);
        k->easy_set(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(r->sent));
        k->easy_set(c, CURLOPT_POSTFIELDS, r->sent);
}

int rest_send(struct rest *r, const char *path, const cJSON *body, struct err *e)
{
        char host[256];
        int port = 0, rc = curl_open(r->loop, &r->lib, e);
        bool tls;

        if (rc)
                return rc;
        clear(r);
        buf_init(&r->got, REST_BODY_MAX + 1);
        r->too_large = false;
        r->url = str_printf("%s%s", r->ep->base_url, path);
        r->sent = body ? json_text(body) : mem_strdup("");
        r->t.easy = r->lib->easy_init();
        if (!r->url || !r->sent || !r->t.easy || add_header(r, "Content-Type", "application/json") ||
            add_header(r, "Expect", "") || (r->key && add_header(r, r->key_header, r->key)))
                return err_set(e, E_NOMEM, "out of memory");
        rc = http_split_url(r->url, host, &port, &tls, e);
        if (!rc)
                rc = policy_host(r->policy, host, port, e);
        if (rc)
                return rc;
        r->guard = (struct guard){
                .policy = r->policy, .who = r->ep->name, .port = port, .local_only = r->ep->local};
        r->t.on_done = on_done;
        r->t.data = r;
        set_options(r, body != NULL);
        rc = curl_start(&r->t, e);
        r->in_flight = rc == 0;
        return rc;
}

void rest_stop(struct rest *r)
{
        if (r->in_flight)
                curl_abort(&r->t);
        r->in_flight = false;
}

void rest_fini(struct rest *r)
{
        rest_stop(r);
        clear(r);
}
