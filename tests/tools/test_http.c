/* http.request against a small server on the same loop. */
#include "agent/tools/http.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "tests/lib/test.h"
#include "tests/tools/fake.h"

#define HTTP "http.request"

/* --- the server: answers by path, and keeps the last request ------------------- */

static struct {
        uv_tcp_t listener;
        int port, other_port;
        char request[70000]; /* the last one, whole */
        int count;
} srv;

struct conn {
        uv_tcp_t tcp;
        char text[70000];
        size_t n;
};

static void on_conn_closed(uv_handle_t *h)
{
        free(h->data);
}

static void on_sent(uv_write_t *w, int status)
{
        (void)status;
        uv_close((uv_handle_t *)w->handle, on_conn_closed);
        free(w->data);
        free(w);
}

static void reply(struct conn *c, const char *text, size_t n)
{
        uv_write_t *w = calloc(1, sizeof *w);
        uv_buf_t b;

        w->data = malloc(n);
        memcpy(w->data, text, n);
        b = uv_buf_init(w->data, (unsigned)n);
        uv_write(w, (uv_stream_t *)&c->tcp, &b, 1, on_sent);
}

static void reply_text(struct conn *c, const char *head, const char *body)
{
        char *all = malloc(strlen(head) + strlen(body) + 100);
        int n = sprintf(all, "HTTP/1.1 %s\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s", head,
                        strlen(body), body);

        reply(c, all, (size_t)n);
        free(all);
}

static void answer(struct conn *c)
{
        char head[300];

        if (strstr(c->text, " /hang "))
                return;
        if (strstr(c->text, " /404 ")) {
                reply_text(c, "404 Not Found\r\nX-Why: none", "no such thing");
        } else if (strstr(c->text, " /loop ")) {
                reply_text(c, "302 Found\r\nLocation: /loop", "");
        } else if (strstr(c->text, " /to-denied ")) {
                reply_text(c, "302 Found\r\nLocation: http://denied.test/x", "");
        } else if (strstr(c->text, " /to-file ")) {
                reply_text(c, "302 Found\r\nLocation: file:///etc/passwd", "");
        } else if (strstr(c->text, " /see-other ")) {
                reply_text(c, "303 See Other\r\nLocation: /echo", "");
        } else if (strstr(c->text, " /same ")) {
                reply_text(c, "307 Temporary\r\nLocation: /echo", "");
        } else if (strstr(c->text, " /cross ")) {
                snprintf(head, sizeof head, "307 Temporary\r\nLocation: http://127.0.0.1:%d/echo", srv.port);
                reply_text(c, head, "");
        } else if (strstr(c->text, " /binary ")) {
                reply(c, "HTTP/1.0 200 OK\r\n\r\na\0\377", 22);
        } else if (strstr(c->text, " /cut ")) {
                reply(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc", 42);
        } else if (strstr(c->text, " /garbage ")) {
                reply(c, "SSH-2.0-OpenSSH\r\n", 17);
        } else if (strstr(c->text, " /cookies ")) {
                reply_text(
                        c,
                        "200 OK\r\nSet-Cookie: a=1, 2\r\nSet-Cookie: b=2\r\nX-A: 1\r\nx-a: 2\r\nX-Bad: \377",
                        "");
        } else if (strstr(c->text, " /big ")) {
                char *body = malloc(200001);

                memset(body, 'x', 200000);
                body[200000] = '\0';
                reply_text(c, "200 OK", body);
                free(body);
        } else {
                reply_text(c, "200 OK\r\nContent-Type: text/plain", c->text);
        }
}

static void on_conn_alloc(uv_handle_t *h, size_t want, uv_buf_t *b)
{
        struct conn *c = h->data;

        (void)want;
        *b = uv_buf_init(c->text + c->n, (unsigned)(sizeof c->text - 1 - c->n));
}

static void on_conn_read(uv_stream_t *s, ssize_t n, const uv_buf_t *b)
{
        struct conn *c = s->data;
        const char *end, *len;

        (void)b;
        if (n < 0) {
                uv_close((uv_handle_t *)s, on_conn_closed);
                return;
        }
        c->n += (size_t)n;
        c->text[c->n] = '\0';
        end = strstr(c->text, "\r\n\r\n");
        len = strcasestr(c->text, "content-length:");
        if (!end || (len && c->n < (size_t)(end + 4 - c->text) + (size_t)atol(len + 15)))
                return;
        uv_read_stop(s);
        memcpy(srv.request, c->text, c->n + 1);
        srv.count++;
        answer(c);
        if (strstr(c->text, " /hang "))
                uv_read_start(s, on_conn_alloc, on_conn_read);
}

static void on_connection(uv_stream_t *l, int status)
{
        struct conn *c = calloc(1, sizeof *c);

        CHECK(status == 0 && c);
        uv_tcp_init(l->loop, &c->tcp);
        c->tcp.data = c;
        CHECK(uv_accept(l, (uv_stream_t *)&c->tcp) == 0);
        uv_read_start((uv_stream_t *)&c->tcp, on_conn_alloc, on_conn_read);
}

static void serve(struct fake *f)
{
        struct sockaddr_in a;
        int n = sizeof a;

        memset(&srv, 0, sizeof srv);
        uv_ip4_addr("127.0.0.1", 0, &a);
        CHECK(uv_tcp_init(&f->loop, &srv.listener) == 0);
        CHECK(uv_tcp_bind(&srv.listener, (struct sockaddr *)&a, 0) == 0);
        CHECK(uv_listen((uv_stream_t *)&srv.listener, 8, on_connection) == 0);
        CHECK(uv_tcp_getsockname(&srv.listener, (struct sockaddr *)&a, &n) == 0);
        srv.port = ntohs(a.sin_port);
        unsetenv("http_proxy");
        unsetenv("HTTP_PROXY");
        unsetenv("ALL_PROXY");
        unsetenv("all_proxy");
        unsetenv("https_proxy");
}

static void quit(struct fake *f)
{
        uv_close((uv_handle_t *)&srv.listener, NULL);
        fake_fini(f);
}

static void get(struct fake *f, const char *path)
{
        fake_callf(f, HTTP, "{\"url\":\"http://127.0.0.1:%d%s\"}", srv.port, path);
}

/* --- tests ------------------------------------------------------------------------- */

TEST(http, get_and_post)
{
        struct fake f;

        fake_init(&f, NULL);
        serve(&f);
        f.c.traceparent = "00-aa-bb-01";
        get(&f, "/a?b=c");
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        CHECK_INT(fake_number(&f, "status"), 200);
        CHECK(strncmp(fake_text(&f, "body"), "GET /a?b=c HTTP/1.1\r\n", 21) == 0);
        CHECK(strstr(fake_text(&f, "body"), "traceparent: 00-aa-bb-01\r\n"));
        CHECK(strstr(fake_text(&f, "body"), "User-Agent: photon-agent/"));
        CHECK_STR(cJSON_GetObjectItem(cJSON_GetObjectItem(f.outputs, "headers"), "content-type")->valuestring,
                  "text/plain");
        fake_callf(&f, HTTP,
                   "{\"url\":\"http://127.0.0.1:%d/"
                   "echo\",\"method\":\"PUT\",\"body\":\"h\\u00e9\",\"headers\":{\"X-One\":\"1\",\"X-Empty\":"
                   "\"\"}}",
                   srv.port);
        CHECK(strncmp(srv.request, "PUT /echo", 9) == 0 && strstr(srv.request, "\r\n\r\nh\xc3\xa9"));
        CHECK(strstr(srv.request, "X-One: 1\r\n") && strstr(srv.request, "X-Empty:\r\n"));
        CHECK(!strstr(srv.request, "Expect:"));
        fake_callf(&f, HTTP,
                   "{\"url\":\"http://127.0.0.1:%d/echo\",\"method\":\"POST\",\"body_base64\":\"aGk=\"}",
                   srv.port);
        CHECK(strstr(srv.request, "\r\n\r\nhi"));
        fake_callf(&f, HTTP, "{\"url\":\"http://127.0.0.1:%d/echo\",\"method\":\"DELETE\"}", srv.port);
        CHECK(strncmp(srv.request, "DELETE /echo", 12) == 0);
        fake_callf(&f, HTTP, "{\"url\":\"http://127.0.0.1:%d/echo\",\"method\":\"HEAD\"}", srv.port);
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        CHECK_STR(fake_text(&f, "body"), "");
        quit(&f);
}

TEST(http, status_decides)
{
        struct fake f;

        fake_init(&f, NULL);
        serve(&f);
        get(&f, "/404");
        CHECK_INT(f.outcome, TOOL_FAILED);
        CHECK_STR(f.code, "http_status");
        CHECK_INT(fake_number(&f, "status"), 404);
        CHECK_STR(fake_text(&f, "body"), "no such thing");
        fake_callf(&f, HTTP, "{\"url\":\"http://127.0.0.1:%d/404\",\"expect_status\":404}", srv.port);
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        fake_callf(&f, HTTP, "{\"url\":\"http://127.0.0.1:%d/404\",\"expect_status\":[200,404]}", srv.port);
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        fake_callf(&f, HTTP, "{\"url\":\"http://127.0.0.1:%d/404\",\"expect_status\":\"any\"}", srv.port);
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        fake_callf(&f, HTTP, "{\"url\":\"http://127.0.0.1:%d/x\",\"expect_status\":201}", srv.port);
        CHECK_STR(f.code, "http_status");
        quit(&f);
}

TEST(http, answers_of_all_kinds)
{
        struct fake f;
        const cJSON *h;

        fake_init(&f, NULL);
        serve(&f);
        get(&f, "/binary");
        CHECK_STR(fake_text(&f, "body_base64"), "YQD/");
        CHECK(!cJSON_GetObjectItem(f.outputs, "body"));
        get(&f, "/cookies");
        h = cJSON_GetObjectItem(f.outputs, "headers");
        CHECK_STR(cJSON_GetObjectItem(h, "set-cookie")->valuestring, "a=1, 2\nb=2");
        CHECK_STR(cJSON_GetObjectItem(h, "x-a")->valuestring, "1, 2");
        CHECK_STR(cJSON_GetObjectItem(h, "x-bad")->valuestring, "\xef\xbf\xbd");
        get(&f, "/big");
        CHECK_INT(strlen(fake_text(&f, "body")), 200000);
        fake_callf(&f, HTTP, "{\"url\":\"http://127.0.0.1:%d/big\",\"max_bytes\":199999}", srv.port);
        CHECK_STR(f.code, "too_large");
        get(&f, "/cut");
        CHECK_INT(f.outcome, TOOL_FAILED);
        CHECK_STR(f.code, "http_failed");
        get(&f, "/garbage");
        CHECK_STR(f.code, "http_failed");
        quit(&f);
}

TEST(http, redirects)
{
        struct fake f;

        fake_init(&f, "version: 1\nhttp: {deny: [denied.test]}\n");
        serve(&f);
        fake_callf(&f, HTTP,
                   "{\"url\":\"http://127.0.0.1:%d/"
                   "see-other\",\"method\":\"POST\",\"body\":\"x\",\"headers\":{\"Content-Type\":\"a/b\"}}",
                   srv.port);
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        CHECK(strncmp(srv.request, "GET /echo", 9) == 0 && !strstr(srv.request, "a/b"));
        CHECK(strstr(fake_text(&f, "url"), "/echo"));
        fake_callf(&f, HTTP,
                   "{\"url\":\"http://127.0.0.1:%d/"
                   "same\",\"method\":\"POST\",\"body\":\"xyz\",\"headers\":{\"Authorization\":\"t\"}}",
                   srv.port);
        CHECK(strncmp(srv.request, "POST /echo", 10) == 0 && strstr(srv.request, "\r\n\r\nxyz") &&
              strstr(srv.request, "Authorization: t"));
        /* Another host name is another origin, though it is the same machine. */
        fake_callf(&f, HTTP,
                   "{\"url\":\"http://localhost:%d/"
                   "cross\",\"headers\":{\"Authorization\":\"t\",\"Cookie\":\"c\",\"X-K\":\"v\"}}",
                   srv.port);
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        CHECK(!strstr(srv.request, "Authorization") && !strstr(srv.request, "Cookie") &&
              strstr(srv.request, "X-K: v"));
        get(&f, "/loop");
        CHECK_STR(f.code, "too_many_redirects");
        CHECK_INT(srv.count > 10 && srv.count < 20, 1);
        get(&f, "/to-denied");
        CHECK_STR(f.code, "policy_denied");
        get(&f, "/to-file");
        CHECK_INT(f.outcome, TOOL_FAILED);
        fake_callf(&f, HTTP, "{\"url\":\"http://127.0.0.1:%d/loop\",\"follow_redirects\":false}", srv.port);
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        CHECK_INT(fake_number(&f, "status"), 302);
        quit(&f);
}

TEST(http, policy_is_asked_about_names_and_addresses)
{
        struct fake f;

        fake_init(&f, "version: 1\nhttp: {deny: ['127.*', '[::1]']}\n");
        serve(&f);
        get(&f, "/");
        CHECK_INT(f.outcome, TOOL_REFUSED);
        CHECK_STR(f.code, "policy_denied");
        fake_callf(&f, HTTP, "{\"url\":\"http://localhost:%d/\"}", srv.port);
        CHECK_INT(f.outcome, TOOL_REFUSED);
        CHECK_STR(f.code, "policy_denied");
        /* Other spellings of 127.0.0.1. */
        fake_callf(&f, HTTP, "{\"url\":\"http://2130706433:%d/\"}", srv.port);
        CHECK_STR(f.code, "policy_denied");
        fake_callf(&f, HTTP, "{\"url\":\"http://0x7f.1:%d/\"}", srv.port);
        CHECK_STR(f.code, "policy_denied");
        fake_callf(&f, HTTP, "{\"url\":\"http://[::ffff:127.0.0.1]:%d/\"}", srv.port);
        CHECK_STR(f.code, "policy_denied");
        CHECK_INT(srv.count, 0);
        quit(&f);
}

TEST(http, failures_have_names)
{
        struct fake f;
        int closed_port;

        fake_init(&f, NULL);
        serve(&f);
        fake_callf(&f, HTTP, "{\"url\":\"http://127.0.0.1:%d/hang\",\"timeout\":\"50ms\"}", srv.port);
        CHECK_INT(f.outcome, TOOL_TIMED_OUT);
        CHECK_STR(f.code, "timeout");
        fake_call(&f, HTTP, "{\"url\":\"http://no-such-host.invalid/\"}");
        CHECK_STR(f.code, "host_not_found");
        fake_callf(&f, HTTP, "{\"url\":\"https://127.0.0.1:%d/\",\"timeout\":\"2s\"}", srv.port);
        CHECK(f.outcome == TOOL_FAILED || f.outcome == TOOL_TIMED_OUT);
        closed_port = srv.port;
        quit(&f);
        fake_init(&f, NULL);
        fake_callf(&f, HTTP, "{\"url\":\"http://127.0.0.1:%d/\"}", closed_port);
        CHECK_STR(f.code, "connect_failed");
        fake_fini(&f);
}

TEST(http, cancel_ends_at_once)
{
        struct fake f;
        char input[200];

        fake_init(&f, NULL);
        serve(&f);
        snprintf(input, sizeof input, "{\"url\":\"http://127.0.0.1:%d/hang\"}", srv.port);
        fake_start(&f, HTTP, input);
        while (srv.count == 0)
                uv_run(&f.loop, UV_RUN_ONCE);
        fake_cancel(&f, 60000);
        CHECK(f.finished);
        fake_run(&f);
        CHECK_INT(f.outcome, TOOL_CANCELLED);
        /* And before it is connected. */
        fake_start(&f, HTTP, input);
        fake_cancel(&f, 60000);
        fake_run(&f);
        CHECK_INT(f.outcome, TOOL_CANCELLED);
        quit(&f);
}

TEST(http, bad_input_is_refused)
{
        static const char *const bad[] = {
                "{\"url\":\"ftp://example.com/\"}",
                "{\"url\":\"file:///etc/passwd\"}",
                "{\"url\":\"http:///path\"}",
                "{\"url\":\"http://user:pw@example.com/\"}",
                "{\"url\":\"http://example.com:0/\"}",
                "{\"url\":\"http://example.com:99999/\"}",
                "{\"url\":\"http://example.com:80x/\"}",
                "{\"url\":\"http://exa mple.com/\"}",
                "{\"url\":\"http://example.com\\\\@evil/\"}",
                "{\"url\":\"http://[::1/\"}",
                "{\"url\":\"http://ex%61mple.com/\"}",
                "{\"url\":\"http://127.0.0.1/\",\"method\":\"G ET\"}",
                "{\"url\":\"http://127.0.0.1/\",\"method\":\"CONNECT\"}",
                "{\"url\":\"http://127.0.0.1/\",\"headers\":{\"A\":\"x\\r\\nB: y\"}}",
                "{\"url\":\"http://127.0.0.1/\",\"headers\":{\"A B\":\"x\"}}",
                "{\"url\":\"http://127.0.0.1/\",\"headers\":{\"Host\":\"x\"}}",
                "{\"url\":\"http://127.0.0.1/\",\"headers\":{\"A\":1}}",
                "{\"url\":\"http://127.0.0.1/\",\"body\":\"a\",\"body_base64\":\"YQ==\"}",
                "{\"url\":\"http://127.0.0.1/\",\"body_base64\":\"?\"}",
                "{\"url\":\"http://127.0.0.1/\",\"timeout\":\"later\"}",
                "{\"url\":\"http://127.0.0.1/\",\"max_bytes\":99999999}",
                "{\"url\":\"http://169.254.169.254/latest/meta-data\"}",
                "{\"url\":\"http://[64:ff9b::a9fe:a9fe]/\"}",
                "{}",
        };
        struct fake f;

        fake_init(&f, NULL);
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
                fake_call(&f, HTTP, bad[i]);
                if (f.outcome != TOOL_REFUSED)
                        test_fail(__FILE__, __LINE__, "not refused: %s", bad[i]);
        }
        fake_fini(&f);
}
