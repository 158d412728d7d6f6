/* http.request. Redirects are followed here and not by libcurl, so that the
 * policy is asked about every host, and about every address it resolves to. */
#include "agent/tools/http.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/policy.h"
#include "agent/tools/answer.h"
#include "agent/tools/curl.h"
#include "agent/tools/net_address.h"
#include "common/buf.h"
#include "common/err.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"
#include "common/version.h"

#define BODY_DEFAULT    ((int64_t)1 << 20)
#define BODY_MAX        ((int64_t)8 << 20)
#define HEADERS_MAX     ((size_t)256 << 10)
#define HEADER_COUNT    256
#define REDIRECTS_MAX   10
#define TIMEOUT_DEFAULT 60000
#define CONNECT_MS      15000L

const char http_input_schema[] =
        "{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"url\"],\"properties\":{"
        "\"method\":{\"type\":\"string\",\"minLength\":1,\"maxLength\":32,\"description\":\"GET if left "
        "out\"},"
        "\"url\":{\"type\":\"string\",\"minLength\":8,\"maxLength\":16384,\"description\":\"http or https\"},"
        "\"headers\":{\"type\":\"object\",\"additionalProperties\":{\"type\":\"string\"}},"
        "\"body\":{\"type\":\"string\"},\"body_base64\":{\"type\":\"string\"},"
        "\"timeout\":{\"type\":\"string\",\"description\":\"for all of it; 60s if left out\"},"
        "\"follow_redirects\":{\"type\":\"boolean\",\"description\":\"true if left out; at most 10\"},"
        "\"max_bytes\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":8388608,\"description\":\"of the "
        "response body; 1 MiB if left out\"},"
        "\"expect_status\":{\"anyOf\":[{\"type\":\"integer\"},{\"type\":\"array\",\"items\":{\"type\":"
        "\"integer\"}},{\"enum\":[\"any\"]}],"
        "\"description\":\"what counts as success; 200 to 399 if left out\"}}}";
const char http_output_schema[] =
        "{\"type\":\"object\",\"required\":[\"status\",\"headers\",\"url\",\"duration_ms\"],\"properties\":{"
        "\"status\":{\"type\":\"integer\"},\"url\":{\"type\":\"string\",\"description\":\"after redirects\"},"
        "\"headers\":{\"type\":\"object\",\"additionalProperties\":{\"type\":\"string\"},\"description\":"
        "\"names in lower case; repeated ones joined\"},"
        "\"body\":{\"type\":\"string\"},\"body_base64\":{\"type\":\"string\",\"description\":\"instead of "
        "body when it is not UTF-8 text\"},"
        "\"duration_ms\":{\"type\":\"integer\"}}}";

struct http {
        struct tool_call *c;
        const struct curl_lib *lib;
        struct transfer t;
        bool in_flight;
        const cJSON *headers; /* in input */
        cJSON *input;
        struct curl_slist *sent;
        char *url, *method, *host;
        bool tls;
        int port, hops;
        uint8_t *body_own;
        const void *body;
        size_t body_n;
        bool follow, cross_origin;
        int64_t timeout_ms, max_bytes;
        uint64_t started;
        cJSON *got_headers;
        size_t got_headers_n;
        struct buf got;
        struct err trouble; /* set in a callback of libcurl: why it was stopped */
        const char *trouble_code;
        bool denied;
};

static void finish(struct http *h, enum tool_outcome o, const char *code, const struct err *e, cJSON *out)
{
        if (h->in_flight)
                curl_abort(&h->t);
        h->in_flight = false;
        if (o == TOOL_SUCCEEDED)
                answer_ok(h->c, out);
        else
                answer_bad(h->c, o, code, e, out);
}

/* --- callbacks of libcurl ----------------------------------------------------- */

/* The name was permitted; the address it stands for must not be denied. */
static curl_socket_t on_open_socket(void *ctx, curlsocktype purpose, struct curl_sockaddr *a)
{
        struct http *h = ctx;

        (void)purpose;
        if (net_address_permit(h->c->policy, &a->addr, h->port, &h->trouble) != 0) {
                h->denied = true;
                h->trouble_code = "policy_denied";
                return CURL_SOCKET_BAD;
        }
        return socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
}

static size_t on_body(char *p, size_t size, size_t n, void *ctx)
{
        struct http *h = ctx;

        n *= size;
        if (h->got.len + n > (size_t)h->max_bytes) {
                err_set(&h->trouble, E_TOOBIG,
                        "the response is over max_bytes (%lld); raise it (8 MiB at most) or fetch it with a "
                        "command",
                        (long long)h->max_bytes);
                h->trouble_code = "too_large";
                return CURL_WRITEFUNC_ERROR;
        }
        if (n && buf_put(&h->got, p, n) != 0) {
                err_set(&h->trouble, E_NOMEM, "the agent is out of memory");
                h->trouble_code = "out_of_memory";
                return CURL_WRITEFUNC_ERROR;
        }
        return n;
}

static int keep_header(struct http *h, const char *name, size_t name_n, const char *value, size_t n)
{
        char *key = mem_strndup(name, name_n), *text = str_utf8_lossy(value, n), *joined = NULL;
        cJSON *old, *item = NULL;
        int rc = -E_NOMEM;

        if (!key || !text)
                goto out;
        for (char *s = key; *s; s++)
                if (*s >= 'A' && *s <= 'Z')
                        *s = (char)(*s - 'A' + 'a');
        old = cJSON_GetObjectItemCaseSensitive(h->got_headers, key);
        if (!old && cJSON_GetArraySize(h->got_headers) >= HEADER_COUNT) {
                rc = 0;
                goto out;
        }
        if (old) /* RFC 9110 5.3; cookies may hold commas */
                joined = str_printf("%s%s%s", old->valuestring, strcmp(key, "set-cookie") == 0 ? "\n" : ", ",
                                    text);
        if (old && !joined)
                goto out;
        item = cJSON_CreateString(joined ? joined : text);
        if (!item)
                goto out;
        if (old)
                cJSON_DeleteItemFromObjectCaseSensitive(h->got_headers, key);
        if (cJSON_AddItemToObject(h->got_headers, key, item)) {
                item = NULL;
                rc = 0;
        }
out:
        cJSON_Delete(item);
        mem_free(key);
        mem_free(text);
        mem_free(joined);
        return rc;
}

static size_t on_header(char *p, size_t size, size_t n, void *ctx)
{
        struct http *h = ctx;
        const char *colon, *end, *v;

        n *= size;
        /* A status line begins a new answer (after 1xx, or a proxy's). */
        if (n >= 5 && memcmp(p, "HTTP/", 5) == 0) {
                cJSON_Delete(h->got_headers);
                h->got_headers = cJSON_CreateObject();
                h->got_headers_n = 0;
                return h->got_headers ? n : 0;
        }
        h->got_headers_n += n;
        if (h->got_headers_n > HEADERS_MAX) {
                err_set(&h->trouble, E_TOOBIG, "the headers of the response are over 256 KiB");
                h->trouble_code = "too_large";
                return 0;
        }
        colon = memchr(p, ':', n);
        if (!colon || !h->got_headers)
                return n;
        end = p + n;
        while (end > colon + 1 && (end[-1] == '\n' || end[-1] == '\r' || end[-1] == ' ' || end[-1] == '\t'))
                end--;
        for (v = colon + 1; v < end && (*v == ' ' || *v == '\t'); v++)
                ;
        if (keep_header(h, p, (size_t)(colon - p), v, (size_t)(end - v)) != 0) {
                err_set(&h->trouble, E_NOMEM, "the agent is out of memory");
                h->trouble_code = "out_of_memory";
                return 0;
        }
        return n;
}

/* --- one hop ---------------------------------------------------------------------- */

static bool add_sent(struct http *h, const char *line)
{
        struct curl_slist *l = h->lib->slist_append(h->sent, line);

        if (!l)
                return false;
        h->sent = l;
        return true;
}

static bool is_private(const char *name)
{
        return str_ieq(name, "authorization") || str_ieq(name, "cookie") ||
               str_ieq(name, "proxy-authorization");
}

/* What was meant for one host is not told to another. */
static int build_headers(struct http *h, struct err *e)
{
        const cJSON *v;
        bool traced = false;

        h->lib->slist_free_all(h->sent);
        h->sent = NULL;
        cJSON_ArrayForEach(v, h->headers)
        {
                char *line;
                bool ok;

                if (h->cross_origin && is_private(v->string))
                        continue;
                if (!h->body_n && h->hops && str_ieq(v->string, "content-type"))
                        continue;
                traced |= str_ieq(v->string, "traceparent");
                /* libcurl's way to say "empty". */
                line = *v->valuestring ? str_printf("%s: %s", v->string, v->valuestring)
                                       : str_printf("%s;", v->string);
                ok = line && add_sent(h, line);
                mem_free(line);
                if (!ok)
                        return err_set(e, E_NOMEM, "out of memory");
        }
        if (!traced && h->c->traceparent && *h->c->traceparent) {
                char *line = str_printf("traceparent: %s", h->c->traceparent);
                bool ok = line && add_sent(h, line);

                mem_free(line);
                if (!ok)
                        return err_set(e, E_NOMEM, "out of memory");
        }
        /* No waiting for "100 Continue". */
        return add_sent(h, "Expect:") ? 0 : err_set(e, E_NOMEM, "out of memory");
}

static int64_t time_left(const struct http *h)
{
        int64_t gone = (int64_t)((uv_hrtime() - h->started) / 1000000);

        return h->timeout_ms > gone ? h->timeout_ms - gone : 1;
}

static void set_options(struct http *h)
{
        const struct curl_lib *l = h->lib;
        CURL *c = h->t.easy;

        l->easy_set(c, CURLOPT_URL, h->url);
        l->easy_set(c, CURLOPT_PROTOCOLS_STR, "http,https");
        l->easy_set(c, CURLOPT_FOLLOWLOCATION, 0L);
        l->easy_set(c, CURLOPT_NOSIGNAL, 1L);
        l->easy_set(c, CURLOPT_SSL_VERIFYPEER, 1L);
        l->easy_set(c, CURLOPT_SSL_VERIFYHOST, 2L);
        l->easy_set(c, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
        l->easy_set(c, CURLOPT_ACCEPT_ENCODING, "");
        l->easy_set(c, CURLOPT_USERAGENT, "photon-agent/" PHOTON_VERSION);
        l->easy_set(c, CURLOPT_TIMEOUT_MS, (long)time_left(h));
        l->easy_set(c, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
        l->easy_set(c, CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
        l->easy_set(c, CURLOPT_OPENSOCKETDATA, h);
        l->easy_set(c, CURLOPT_WRITEFUNCTION, on_body);
        l->easy_set(c, CURLOPT_WRITEDATA, h);
        l->easy_set(c, CURLOPT_HEADERFUNCTION, on_header);
        l->easy_set(c, CURLOPT_HEADERDATA, h);
        l->easy_set(c, CURLOPT_HTTPHEADER, h->sent);
        if (strcmp(h->method, "HEAD") == 0) {
                l->easy_set(c, CURLOPT_NOBODY, 1L);
        } else if (h->body) {
                l->easy_set(c, CURLOPT_POST, 1L);
                l->easy_set(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)h->body_n);
                l->easy_set(c, CURLOPT_POSTFIELDS, h->body);
                l->easy_set(c, CURLOPT_CUSTOMREQUEST, h->method);
        } else {
                l->easy_set(c, CURLOPT_HTTPGET, 1L);
                l->easy_set(c, CURLOPT_CUSTOMREQUEST, h->method);
        }
}

static void on_done(struct transfer *t, CURLcode result);

static int hop(struct http *h, struct err *e)
{
        char host[256];
        int rc = http_split_url(h->url, host, &h->port, &h->tls, e);

        if (rc == 0)
                rc = policy_host(h->c->policy, host, h->port, e);
        if (rc == 0)
                rc = build_headers(h, e);
        if (rc)
                return rc;
        mem_free(h->host);
        h->host = mem_strdup(host);
        buf_reset(&h->got);
        cJSON_Delete(h->got_headers);
        h->got_headers = cJSON_CreateObject();
        if (h->t.easy)
                h->lib->easy_cleanup(h->t.easy);
        h->t.easy = h->lib->easy_init();
        if (!h->host || !h->got_headers || !h->t.easy)
                return err_set(e, E_NOMEM, "out of memory");
        h->t.on_done = on_done;
        h->t.data = h;
        set_options(h);
        rc = curl_start(&h->t, e);
        h->in_flight = rc == 0;
        return rc;
}

/* --- the answer ----------------------------------------------------------------------- */

static bool expected(const struct http *h, long status)
{
        const cJSON *want = cJSON_GetObjectItemCaseSensitive(h->input, "expect_status"), *v;

        if (!want)
                return status >= 200 && status < 400;
        if (cJSON_IsNumber(want))
                return want->valuedouble == (double)status;
        cJSON_ArrayForEach(v, want)
        {
                if (cJSON_IsNumber(v) && v->valuedouble == (double)status)
                        return true;
        }
        return cJSON_IsString(want);
}

static cJSON *build_answer(struct http *h, long status)
{
        cJSON *o = cJSON_CreateObject();
        char *text = NULL;
        bool is_text = !h->got.len ||
                       (str_is_utf8(h->got.data, h->got.len) && !memchr(h->got.data, '\0', h->got.len));
        bool ok;

        text = !h->got.len ? mem_strdup("")
               : is_text   ? mem_strndup((char *)h->got.data, h->got.len)
                           : str_b64(h->got.data, h->got.len);
        ok = o && text && cJSON_AddNumberToObject(o, "status", (double)status) &&
             cJSON_AddStringToObject(o, is_text ? "body" : "body_base64", text) &&
             cJSON_AddStringToObject(o, "url", h->url) &&
             cJSON_AddNumberToObject(o, "duration_ms", (double)((uv_hrtime() - h->started) / 1000000));
        if (ok && cJSON_AddItemToObject(o, "headers", h->got_headers))
                h->got_headers = NULL;
        else
                ok = false;
        mem_free(text);
        if (!ok) {
                cJSON_Delete(o);
                return NULL;
        }
        return o;
}

/* 1: the next hop is under way. 0: this answer is the last. */
static int redirect(struct http *h, long status, struct err *e)
{
        char *to = NULL, *was_host;
        int was_port = h->port, rc;
        bool was_tls = h->tls;

        if (!h->follow || (status != 301 && status != 302 && status != 303 && status != 307 && status != 308))
                return 0;
        h->lib->easy_info(h->t.easy, CURLINFO_REDIRECT_URL, &to);
        if (!to)
                return 0;
        if (++h->hops > REDIRECTS_MAX)
                return err_set(e, E_TOOBIG, "more than %d redirects; the last one led to %.200s",
                               REDIRECTS_MAX, to);
        to = mem_strdup(to);
        was_host = mem_strdup(h->host);
        if (!to || !was_host) {
                mem_free(to);
                mem_free(was_host);
                return err_set(e, E_NOMEM, "out of memory");
        }
        mem_free(h->url);
        h->url = to;
        /* What browsers do: 303 always, 301 and 302 for POST. */
        if ((status == 303 && strcmp(h->method, "HEAD") != 0) ||
            (status != 307 && status != 308 && strcmp(h->method, "POST") == 0)) {
                char *get = mem_strdup("GET");

                h->body = NULL;
                h->body_n = 0;
                if (get) {
                        mem_free(h->method);
                        h->method = get;
                }
        }
        {
                char host[256];
                int port;
                bool tls;

                rc = http_split_url(h->url, host, &port, &tls, e);
                if (rc == 0 && (!str_ieq(host, was_host) || port != was_port || tls != was_tls))
                        h->cross_origin = true;
        }
        mem_free(was_host);
        if (rc == 0)
                rc = hop(h, e);
        return rc ? rc : 1;
}

static const char *curl_code(CURLcode r)
{
        switch (r) {
        case CURLE_OPERATION_TIMEDOUT:
                return "timeout";
        case CURLE_COULDNT_RESOLVE_HOST:
        case CURLE_COULDNT_RESOLVE_PROXY:
                return "host_not_found";
        case CURLE_COULDNT_CONNECT:
                return "connect_failed";
        case CURLE_PEER_FAILED_VERIFICATION:
        case CURLE_SSL_CONNECT_ERROR:
        case CURLE_SSL_CACERT_BADFILE:
        case CURLE_SSL_CERTPROBLEM:
        case CURLE_SSL_CIPHER:
                return "tls_failed";
        default:
                return "http_failed";
        }
}

static void on_done(struct transfer *t, CURLcode result)
{
        struct http *h = t->data;
        struct err e = {0};
        long status = 0;
        cJSON *out;
        int rc;

        h->in_flight = false;
        if (result != CURLE_OK) {
                if (h->trouble_code) {
                        finish(h, h->denied && h->hops == 0 ? TOOL_REFUSED : TOOL_FAILED, h->trouble_code,
                               &h->trouble, NULL);
                } else {
                        bool late = result == CURLE_OPERATION_TIMEDOUT;

                        err_set(&e, late ? E_TIMEOUT : E_UNAVAIL, "%s %.200s: %s", h->method, h->url,
                                h->lib->easy_error(result));
                        finish(h, late ? TOOL_TIMED_OUT : TOOL_FAILED, curl_code(result), &e, NULL);
                }
                return;
        }
        h->lib->easy_info(t->easy, CURLINFO_RESPONSE_CODE, &status);
        rc = redirect(h, status, &e);
        if (rc > 0)
                return;
        if (rc < 0) {
                finish(h, TOOL_FAILED,
                       rc == -E_DENIED   ? "policy_denied"
                       : rc == -E_TOOBIG ? "too_many_redirects"
                                         : NULL,
                       &e, NULL);
                return;
        }
        out = build_answer(h, status);
        if (!out) {
                err_set(&e, E_NOMEM, "the agent is out of memory");
                finish(h, TOOL_FAILED, NULL, &e, NULL);
        } else if (expected(h, status)) {
                finish(h, TOOL_SUCCEEDED, NULL, NULL, out);
        } else {
                err_set(&e, E_STATE, "%s %.200s answered with status %ld", h->method, h->url, status);
                finish(h, TOOL_FAILED, "http_status", &e, out);
        }
}

/* --- the tool ---------------------------------------------------------------------------- */

static bool is_token(const char *s)
{
        static const char extra[] = "!#$%&'*+-.^_`|~";

        if (!*s)
                return false;
        for (; *s; s++)
                if (!((*s >= '0' && *s <= '9') || (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') ||
                      strchr(extra, *s)))
                        return false;
        return true;
}

static int check_headers(const cJSON *headers, struct err *e)
{
        static const char *const ours[] = {
                "host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer"};
        const cJSON *v;

        cJSON_ArrayForEach(v, headers)
        {
                if (!is_token(v->string) || !cJSON_IsString(v))
                        return err_set(e, E_INVAL, "headers: \"%.100s\" is not a header name with a text",
                                       v->string);
                if (strpbrk(v->valuestring, "\r\n"))
                        return err_set(e, E_INVAL, "headers.%.100s: line breaks are not allowed in a header",
                                       v->string);
                for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
                        if (str_ieq(v->string, ours[i]))
                                return err_set(e, E_INVAL, "headers.%s is set by the agent", v->string);
        }
        return 0;
}

static int read_input(struct http *h, struct err *e)
{
        const char *url = NULL, *method = "GET", *body = NULL, *b64 = NULL, *timeout = NULL;
        int rc = json_str(h->input, "url", &url, e);

        h->timeout_ms = TIMEOUT_DEFAULT;
        h->max_bytes = BODY_DEFAULT;
        h->follow = true;
        if (rc == 0)
                rc = json_str_opt(h->input, "method", &method, e);
        if (rc == 0)
                rc = json_str_opt(h->input, "body", &body, e);
        if (rc == 0)
                rc = json_str_opt(h->input, "body_base64", &b64, e);
        if (rc == 0)
                rc = json_str_opt(h->input, "timeout", &timeout, e);
        if (rc == 0)
                rc = json_bool_opt(h->input, "follow_redirects", &h->follow, e);
        if (rc == 0)
                rc = json_i64_opt(h->input, "max_bytes", 0, BODY_MAX, &h->max_bytes, e);
        if (rc == 0)
                rc = json_obj_opt(h->input, "headers", &h->headers, e);
        if (rc == 0)
                rc = check_headers(h->headers, e);
        if (rc)
                return rc;
        if (!is_token(method) || strcmp(method, "CONNECT") == 0)
                return err_set(e, E_INVAL, "method: \"%.32s\" is not an HTTP method", method);
        if (timeout && (str_parse_duration(timeout, &h->timeout_ms) != 0 || h->timeout_ms < 1))
                return err_set(e, E_INVAL, "timeout: \"%.100s\" is not a duration such as 30s", timeout);
        if (h->timeout_ms > policy_limits(h->c->policy)->runtime_ms)
                h->timeout_ms = policy_limits(h->c->policy)->runtime_ms;
        if (body && b64)
                return err_set(e, E_INVAL, "give either body or body_base64, not both");
        if (b64) {
                rc = str_unb64(b64, strlen(b64), &h->body_own, &h->body_n);
                if (rc)
                        return err_set(e, -rc, "body_base64 is not base64 (RFC 4648, with padding)");
                h->body = h->body_own;
        } else if (body) {
                h->body = body;
                h->body_n = strlen(body);
        }
        h->url = mem_strdup(url);
        h->method = mem_strdup(method);
        return h->url && h->method ? 0 : err_set(e, E_NOMEM, "out of memory");
}

int http_request_permit(const struct policy *p, const cJSON *input, struct err *e)
{
        const char *url = NULL;
        char host[256];
        int port, rc = json_str(input, "url", &url, e);
        bool tls;

        if (rc == 0)
                rc = http_split_url(url, host, &port, &tls, e);
        return rc ? rc : policy_host(p, host, port, e);
}

int http_request_start(struct tool_call *c, const cJSON *input, struct err *e)
{
        struct http *h = mem_calloc(1, sizeof *h);
        int rc = -E_NOMEM;

        if (!h || !(h->input = cJSON_Duplicate(input, true))) {
                mem_free(h);
                return err_set(e, E_NOMEM, "out of memory");
        }
        c->state = h;
        h->c = c;
        h->started = uv_hrtime();
        rc = curl_open(c->loop, &h->lib, e);
        if (rc == 0)
                rc = read_input(h, e);
        if (rc == 0) {
                buf_init(&h->got, (size_t)BODY_MAX + 1);
                rc = hop(h, e);
        }
        if (rc)
                http_request_free(c);
        return rc;
}

void http_request_cancel(struct tool_call *c, int grace_ms)
{
        struct http *h = c->state;
        struct err e;

        (void)grace_ms;
        if (!h->in_flight)
                return;
        err_set(&e, E_CANCELLED, "the request was stopped on request; the server may have acted on it");
        finish(h, TOOL_CANCELLED, "cancelled", &e, NULL);
}

void http_request_free(struct tool_call *c)
{
        struct http *h = c->state;

        if (!h)
                return;
        if (h->t.easy)
                h->lib->easy_cleanup(h->t.easy);
        if (h->lib)
                h->lib->slist_free_all(h->sent);
        buf_fini(&h->got);
        cJSON_Delete(h->got_headers);
        cJSON_Delete(h->input);
        mem_free(h->url);
        mem_free(h->method);
        mem_free(h->host);
        mem_free(h->body_own);
        mem_free(h);
        c->state = NULL;
}
