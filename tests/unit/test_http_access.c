/* Who gets in, what bad requests get, and what the hub says of itself. */
#include <arpa/inet.h>
#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/err.h"
#include "common/mem.h"
#include "hub/http/router.h"
#include "tests/lib/api_world.h"
#include "tests/lib/test.h"

static void expect(struct answer a, long status, const char *code, const char *says)
{
        if (a.status != status || (code && strcmp(answer_str(&a, "code"), code) != 0) ||
            (says && !strstr(a.body, says)))
                test_fail(__FILE__, __LINE__, "expected %ld %s %s, got %ld (curl %d): %.400s", status,
                          code ? code : "", says ? says : "", a.status, a.curl,
                          a.body ? a.body : "(nothing)");
        answer_fini(&a);
}

static struct answer as(struct api_world *w, const char *token, const char *method, const char *path)
{
        return ask(w, method, path, NULL, NULL, 0, token, NULL);
}

TEST(http_auth, tokens)
{
        struct api_world *w = world_start(NULL);
        struct answer a = as(w, "", "GET", "/api/v1/runs");

        CHECK_INT(a.status, 401);
        CHECK(strstr(a.headers, "WWW-Authenticate: Bearer") != NULL);
        CHECK(!strstr(a.headers, "Connection: close")); /* nothing was left unread */
        answer_fini(&a);
        a = as(w, "pat_wrong", "GET", "/api/v1/runs");
        CHECK_INT(a.status, 401);
        CHECK(strstr(a.headers, "invalid_token") != NULL);
        CHECK(!strstr(a.body, "pat_wrong"));
        answer_fini(&a);
        expect(ask(w, "GET", "/api/v1/runs", NULL, NULL, 0, "",
                   (const char *const[]){"Authorization: Basic eDp5", NULL}),
               401, "unauthenticated", "Bearer");
        expect(get(w, "/api/v1/whoami"), 200, NULL, "\"role\":\"admin\"");
        world_stop(w);
}

/* Each route, each role: 403 with the permission's name exactly where the table says so. */
TEST(http_auth, every_route_for_every_role)
{
        static const char *const roles[] = {"client", "operator", "technical-operator", "admin"};
        struct api_world *w = world_start(NULL);
        size_t n;
        const struct route *rs = route_table(&n);

        for (int r = 0; r < 4; r++) {
                char *token = world_make_token(w, roles[r]);

                for (size_t i = 0; i < n; i++) {
                        struct answer a;
                        char path[256] = "", denied[96];
                        bool may = role_may((enum role)(ROLE_CLIENT + r), rs[i].perm);

                        for (const char *p = rs[i].pattern; *p; p++) {
                                size_t len = strlen(path);

                                if (*p == '{')
                                        p = strchr(p, '}');
                                snprintf(path + len, sizeof path - len, "%c", *p == '}' ? 'x' : *p);
                        }
                        if (rs[i].flags & ROUTE_STREAM)
                                strcat(path, "?follow=false");
                        a = as(w, token, rs[i].method, path);
                        snprintf(denied, sizeof denied, "lacks the permission %s",
                                 permission_name(rs[i].perm));
                        if (a.status == 0 || a.status == 401 ||
                            (a.status == 403) == (may || (rs[i].flags & ROUTE_LOOPBACK)) ||
                            (a.status == 403 && !strstr(a.body, denied)))
                                test_fail(__FILE__, __LINE__, "%s %s as %s: %ld %.300s", rs[i].method, path,
                                          roles[r], a.status, a.body);
                        answer_fini(&a);
                }
                mem_free(token);
        }
        world_stop(w);
}

TEST(http_auth, an_api_token_lives_and_dies)
{
        struct api_world *w = world_start(NULL);
        struct answer a =
                post(w, "/api/v1/api-tokens", "{\"name\":\"ci\",\"role\":\"client\",\"ttl\":\"1h\"}");
        char token[128], path[128];

        CHECK_INT(a.status, 201);
        snprintf(token, sizeof token, "%s", answer_str(&a, "token"));
        snprintf(path, sizeof path, "/api/v1/api-tokens/%s", answer_str(&a, "id"));
        answer_fini(&a);
        expect(as(w, token, "GET", "/api/v1/whoami"), 200, NULL, "\"name\":\"ci\"");
        a = get(w, "/api/v1/api-tokens");
        CHECK_INT(a.status, 200);
        CHECK(strstr(a.body, "\"name\":\"ci\"") && !strstr(a.body, "pat_") && !strstr(a.body, "sha256"));
        answer_fini(&a);
        expect(as(w, NULL, "DELETE", path), 204, NULL, NULL);
        expect(as(w, token, "GET", "/api/v1/whoami"), 401, "unauthenticated", NULL);
        expect(as(w, NULL, "DELETE", path), 409, NULL, NULL);
        expect(as(w, NULL, "DELETE", "/api/v1/api-tokens/none"), 404, "not_found", NULL);
        expect(post(w, "/api/v1/api-tokens", "{\"name\":\"x\",\"role\":\"god\"}"), 400, "invalid_argument",
               "admin");
        expect(post(w, "/api/v1/api-tokens", "{\"role\":\"client\"}"), 400, "invalid_argument", "name");
        world_stop(w);
}

TEST(http_auth, join_tokens)
{
        struct api_world *w = world_start(NULL);
        struct answer a = post(w, "/api/v1/join-tokens",
                               "{\"uses\":3,\"ttl\":\"10m\",\"name\":\"lap-*\",\"labels\":{\"team\":\"x\"}}");
        char path[128];

        CHECK_INT(a.status, 201);
        CHECK(strncmp(answer_str(&a, "token"), "pj1.", 4) == 0);
        snprintf(path, sizeof path, "/api/v1/join-tokens/%s", answer_str(&a, "id"));
        answer_fini(&a);
        a = get(w, "/api/v1/join-tokens");
        CHECK(strstr(a.body, "\"uses_max\":3") && strstr(a.body, "lap-*") && !strstr(a.body, "pj1.") &&
              !strstr(a.body, "stored_key"));
        answer_fini(&a);
        expect(as(w, NULL, "DELETE", path), 204, NULL, NULL);
        expect(get(w, "/api/v1/join-tokens"), 200, NULL, "\"state\":\"revoked\"");
        expect(post(w, "/api/v1/join-tokens", "{\"uses\":0}"), 400, "invalid_argument", "uses");
        expect(post(w, "/api/v1/join-tokens", "{\"ttl\":\"forever\"}"), 400, "invalid_argument", "ttl");
        expect(post(w, "/api/v1/join-tokens", "{\"labels\":{\"a\":1}}"), 400, "invalid_argument", "text");
        world_stop(w);
}

TEST(http_agents, show_and_change)
{
        struct api_world *w = world_start(NULL);

        expect(get(w, "/api/v1/agents"), 200, NULL, "\"name\":\"fake\"");
        expect(get(w, "/api/v1/agents/fake"), 200, NULL, "\"state\":\"online\"");
        expect(get(w, "/api/v1/agents/none"), 404, "not_found", "none");
        expect(post(w, "/api/v1/agents/fake/drain", NULL), 200, NULL, "draining");
        expect(post(w, "/api/v1/agents/fake/undrain", NULL), 200, NULL, "online");
        expect(post(w, "/api/v1/agents/none/drain", NULL), 404, "not_found", NULL);
        expect(ask(w, "PATCH", "/api/v1/agents/fake/labels", "application/json", "{\"gpu\":\"a100\"}", 14,
                   NULL, NULL),
               200, NULL, "a100");
        expect(ask(w, "PATCH", "/api/v1/agents/fake/labels", "application/json", "{\"gpu\":null}", 12, NULL,
                   NULL),
               200, NULL, "\"labels\":{}");
        expect(ask(w, "PATCH", "/api/v1/agents/fake/labels", "application/json", "{\"gpu\":1}", 9, NULL,
                   NULL),
               400, "invalid_argument", NULL);
        expect(get(w, "/api/v1/tools"), 200, NULL, "{\"name\":\"t.ok\",\"agents\":[\"fake\"]}");
        expect(get(w, "/api/v1/tools?limit=1"), 200, NULL, "\"next_cursor\":\"dC5vaw\"");
        expect(get(w, "/api/v1/tools?cursor=dC5vaw"), 200, NULL, "t.out");
        expect(get(w, "/api/v1/tools?cursor=!!"), 400, "invalid_argument", NULL);
        expect(post(w, "/api/v1/agents/fake/revoke", NULL), 200, NULL, "revoked");
        world_stop(w);
}

TEST(http_meta, health_version_openapi)
{
        struct api_world *w = world_start(NULL);
        struct answer a;

        expect(as(w, "", "GET", "/healthz"), 200, NULL, "ok");
        expect(as(w, "", "GET", "/readyz"), 200, NULL, "ready");
        expect(as(w, "", "GET", "/version"), 200, NULL, "\"version\"");
        a = as(w, "", "GET", "/api/v1/openapi.json");
        CHECK_INT(a.status, 200);
        CHECK_STR(answer_str(&a, "openapi"), "3.1.0");
        answer_fini(&a);
        a = as(w, "", "HEAD", "/healthz");
        CHECK_INT(a.status, 200);
        CHECK_INT(a.len, 0);
        answer_fini(&a);
        world_stop(w);
}

/* promtool's rules that can be checked without it: HELP and TYPE once and first, counters end in
 * _total, nothing twice, every line a sample. */
TEST(http_meta, metrics_are_clean)
{
        struct api_world *w = world_start(NULL);
        struct answer a = as(w, "", "GET", "/metrics"); /* loopback: no token */
        char type[128] = "", kind[32] = "";
        int samples = 0;

        CHECK_INT(a.status, 200);
        CHECK(strstr(a.headers, "text/plain; version=0.0.4") != NULL);
        CHECK(strstr(a.body, "photon_build_info{version=\"") != NULL);
        CHECK_INT(a.body[a.len - 1], '\n');
        for (char *save = NULL, *l = strtok_r(a.body, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
                char name[128];
                double v;

                if (strncmp(l, "# HELP ", 7) == 0)
                        continue;
                if (sscanf(l, "# TYPE %127s %31s", type, kind) == 2) {
                        size_t n = strlen(type);

                        CHECK(strncmp(type, "photon_", 7) == 0);
                        if ((strcmp(kind, "counter") == 0) != (n > 6 && strcmp(type + n - 6, "_total") == 0))
                                test_fail(__FILE__, __LINE__, "%s is a %s", type, kind);
                        continue;
                }
                CHECK(sscanf(l, "%127[a-z_]%*[^ ] %lf", name, &v) == 2 ||
                      sscanf(l, "%127[a-z_] %lf", name, &v) == 2);
                CHECK(strncmp(name, type, strlen(type)) == 0);
                samples++;
        }
        CHECK(samples > 15);
        answer_fini(&a);
        world_stop(w);
}

/* ---- bad requests ---- */

TEST(http_bad, paths_and_methods)
{
        struct api_world *w = world_start(NULL);
        struct answer a = as(w, NULL, "DELETE", "/api/v1/runs");

        CHECK_INT(a.status, 405);
        CHECK(strstr(a.headers, "Allow: POST, GET, HEAD") != NULL);
        answer_fini(&a);
        expect(as(w, NULL, "BREW", "/api/v1/runs"), 405, "method_not_allowed", NULL);
        expect(as(w, NULL, "OPTIONS", "/api/v1/runs"), 405, "method_not_allowed", NULL);
        expect(get(w, "/x"), 404, "not_found", "openapi");
        expect(get(w, "/../../../../etc/passwd"), 404, "not_found", NULL);
        expect(get(w, "/api/v1/runs/..%2f..%2fetc%2fpasswd"), 404, "not_found", NULL);
        expect(get(w, "/api/v1/runs/%2e%2e/logs"), 404, "not_found", NULL);
        expect(get(w, "/api/v1/runs/%ff%fe"), 400, "invalid_argument", "UTF-8");
        expect(get(w, "/api/v1/runs/a%00b"), 404, "not_found", NULL);
        expect(get(w, "/api/v1/runs?state=%ff"), 400, "invalid_argument", "UTF-8");
        expect(get(w, "/api/v1/runs?nope=1"), 400, "invalid_argument", "nope");
        world_stop(w);
}

static char *repeat(const char *head, char c, size_t n, const char *tail, size_t *len)
{
        size_t a = strlen(head), b = strlen(tail);
        char *s = mem_alloc(a + n + b + 1);

        memcpy(s, head, a);
        memset(s + a, c, n);
        memcpy(s + a + n, tail, b + 1);
        *len = a + n + b;
        return s;
}

static void bad_json(struct api_world *w, const char *json, size_t n, const char *says)
{
        struct answer a = ask(w, "POST", "/api/v1/calls", "application/json", json, n, NULL, NULL);

        if (a.status != 400 || !strstr(a.headers, "application/problem+json") ||
            (says && !strstr(a.body, says)))
                test_fail(__FILE__, __LINE__, "%.60s: %ld %.300s", json, a.status, a.body);
        answer_fini(&a);
}

TEST(http_bad, json)
{
        static const char *const texts[] = {"",
                                            "{",
                                            "[]",
                                            "null",
                                            "{\"tool\":\"a\"} x",
                                            "{'tool':1}",
                                            "{\"tool\":\"\xff\"}",
                                            "{\"tool\":\"\\u0000\"}",
                                            "{\"tool\":\"\\ud800\"}",
                                            "{\"tool\":1e999}"};
        static const char twice[] = "{\"tool\":\"t.ok\",\"tool\":\"t.out\"}";
        struct api_world *w = world_start(NULL);
        size_t n;
        char *deep;

        for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
                bad_json(w, texts[i], strlen(texts[i]), NULL);
        bad_json(w, twice, strlen(twice), "\"line\":1");
        deep = repeat("{\"tool\":\"t.ok\",\"input\":{\"a\":", '[', 100000, "", &n);
        bad_json(w, deep, n, NULL);
        mem_free(deep);
        expect(ask(w, "POST", "/api/v1/calls", "text/plain", "{\"tool\":\"t.ok\"}", 15, NULL, NULL), 415,
               "unsupported_media_type", NULL);
        expect(ask(w, "POST", "/api/v1/runs", "application/yaml", "name: \0x", 8, NULL, NULL), 400,
               "invalid_argument", "NUL");
        expect(ask(w, "POST", "/api/v1/runs", "application/yaml", "a: [", 4, NULL, NULL), 400,
               "invalid_argument", "\"line\":");
        world_stop(w);
}

TEST(http_bad, bodies_that_are_too_large)
{
        static const char *const no_expect[] = {"Expect:", NULL};
        static const char *const chunked[] = {"Transfer-Encoding: chunked", "Expect:", NULL};
        struct api_world *w = world_start(NULL);
        size_t n, m;
        char *big = repeat("{\"tool\":\"", 'a', 5 << 20, "\"}", &n);
        char *huge = repeat("name: ", 'a', 100 << 20, "\n", &m);

        expect(ask(w, "POST", "/api/v1/calls", "application/json", big, n, NULL, NULL), 413, "too_large",
               "4MiB");
        expect(ask(w, "POST", "/api/v1/calls", "application/json", big, n, NULL, no_expect), 413, "too_large",
               "4MiB");
        expect(ask(w, "POST", "/api/v1/calls", "application/json", big, n, NULL, chunked), 413, "too_large",
               "4MiB");
        expect(ask(w, "POST", "/api/v1/runs", "application/yaml", huge, m, NULL, NULL), 413, "too_large",
               "16MiB");
        expect(ask(w, "POST", "/api/v1/runs", "application/yaml", huge, m, NULL, no_expect), 413, "too_large",
               "16MiB");
        expect(ask(w, "DELETE", "/api/v1/join-tokens/x", NULL, "body", 4, NULL, NULL), 413, "too_large",
               "no body");
        expect(get(w, "/healthz"), 200, NULL, NULL);
        mem_free(big);
        mem_free(huge);
        world_stop(w);
}

TEST(http_bad, a_huge_header)
{
        struct api_world *w = world_start(NULL);
        size_t n;
        char *h = repeat("X-Long: ", 'a', 200000, "", &n);
        struct answer a = ask(w, "GET", "/healthz", NULL, NULL, 0, "", (const char *const[]){h, NULL});

        /* libmicrohttpd answers and closes with bytes unread, so the answer may be lost to a reset. */
        CHECK(a.status == 431 || a.status == 413 || a.status == 400 ||
              (a.status == 0 && a.curl != CURLE_OPERATION_TIMEDOUT));
        answer_fini(&a);
        expect(get(w, "/healthz"), 200, NULL, NULL);
        mem_free(h);
        world_stop(w);
}

/* ---- on the socket itself ---- */

static int dial(struct api_world *w)
{
        struct sockaddr_in sin = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)world_port(w)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        CHECK(fd >= 0 && connect(fd, (struct sockaddr *)&sin, sizeof sin) == 0);
        return fd;
}

static int64_t now_ms(void)
{
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* Milliseconds until the other end closed; -1: it had not after 8 s. */
static int64_t closes_after(int fd)
{
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int64_t t0 = now_ms();
        char b[4096];

        for (;;) {
                int64_t left = 8000 - (now_ms() - t0);
                ssize_t n;

                if (left <= 0 || poll(&p, 1, (int)left) == 0)
                        return -1;
                n = recv(fd, b, sizeof b, 0);
                if (n == 0 || (n < 0 && errno == ECONNRESET))
                        return now_ms() - t0;
        }
}

static void short_timeouts(struct http_options *o)
{
        o->header_timeout_ms = 500;
        o->body_timeout_ms = 1000;
        o->idle_timeout_ms = 2000;
}

TEST(http_slow, silence_and_garbage_before_tls)
{
        struct api_world *w = world_start(short_timeouts);
        int silent = dial(w), garbage = dial(w);

        CHECK(write(garbage, "GET / HTTP/1.1\r\n\r\n\xff\xfe\x00garbage", 28) > 0);
        CHECK(closes_after(garbage) >= 0);
        CHECK(closes_after(silent) >= 0);
        close(silent);
        close(garbage);
        expect(get(w, "/healthz"), 200, NULL, NULL);
        world_stop(w);
}

struct tls {
        int fd;
        gnutls_session_t s;
        gnutls_certificate_credentials_t c;
};

static void tls_open(struct api_world *w, struct tls *t, const char *priority)
{
        t->fd = dial(w);
        CHECK_INT(gnutls_certificate_allocate_credentials(&t->c), 0);
        CHECK_INT(gnutls_init(&t->s, GNUTLS_CLIENT), 0);
        CHECK_INT(gnutls_priority_set_direct(t->s, priority, NULL), 0);
        gnutls_credentials_set(t->s, GNUTLS_CRD_CERTIFICATE, t->c);
        gnutls_transport_set_int(t->s, t->fd);
}

static void tls_close(struct tls *t)
{
        gnutls_deinit(t->s);
        gnutls_certificate_free_credentials(t->c);
        close(t->fd);
}

static void tls_dial(struct api_world *w, struct tls *t)
{
        int rc;

        tls_open(w, t, "NORMAL");
        do
                rc = gnutls_handshake(t->s);
        while (rc < 0 && !gnutls_error_is_fatal(rc));
        CHECK_INT(rc, 0);
}

static void tls_write(struct tls *t, const char *s)
{
        CHECK(gnutls_record_send(t->s, s, strlen(s)) == (ssize_t)strlen(s));
}

TEST(http_slow, half_a_header_then_silence)
{
        struct api_world *w = world_start(short_timeouts);
        struct tls t;

        tls_dial(w, &t);
        tls_write(&t, "GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: ");
        CHECK(closes_after(t.fd) >= 0);
        tls_close(&t);
        world_stop(w);
}

/* Each drip resets an idle timeout; the header's deadline does not care. */
TEST(http_slow, a_header_that_drips)
{
        struct api_world *w = world_start(short_timeouts);
        struct pollfd p = {.events = POLLRDHUP};
        struct tls t;
        int drips = 0;

        tls_dial(w, &t);
        p.fd = t.fd;
        tls_write(&t, "GET /healthz HTTP/1.1\r\nHost: x\r\n");
        while (poll(&p, 1, 100) == 0 && drips++ < 60)
                (void)gnutls_record_send(t.s, "X", 1);
        CHECK(drips < 60);
        tls_close(&t);
        world_stop(w);
}

TEST(http_slow, a_body_that_drips)
{
        struct api_world *w = world_start(short_timeouts);
        struct pollfd p = {.events = POLLRDHUP};
        char head[300];
        struct tls t;
        int drips = 0;

        tls_dial(w, &t);
        p.fd = t.fd;
        snprintf(head, sizeof head,
                 "POST /api/v1/calls HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: "
                 "application/json\r\n"
                 "Content-Length: 10000\r\n\r\n{",
                 world_token(w));
        tls_write(&t, head);
        while (poll(&p, 1, 100) == 0 && drips++ < 80)
                (void)gnutls_record_send(t.s, " ", 1);
        CHECK(drips < 80);
        tls_close(&t);
        world_stop(w);
}

TEST(http_tls, only_versions_from_1_2_on)
{
        struct api_world *w = world_start(NULL);
        struct tls t;
        int rc;

        tls_open(w, &t, "NORMAL:-VERS-ALL:+VERS-TLS1.1:+SHA1:+SIGN-ALL");
        do
                rc = gnutls_handshake(t.s);
        while (rc < 0 && !gnutls_error_is_fatal(rc));
        CHECK(rc < 0);
        tls_close(&t);
        tls_open(w, &t, "NORMAL:-VERS-ALL:+VERS-TLS1.2");
        do
                rc = gnutls_handshake(t.s);
        while (rc < 0 && !gnutls_error_is_fatal(rc));
        CHECK_INT(rc, 0);
        tls_close(&t);
        world_stop(w);
}

static void three_at_once(struct http_options *o)
{
        o->max_per_ip = 3;
}

TEST(http_slow, connections_of_one_address_are_limited)
{
        struct api_world *w = world_start(three_at_once);
        struct tls t[3], more;
        int rc;

        for (int i = 0; i < 3; i++)
                tls_dial(w, &t[i]);
        tls_open(w, &more, "NORMAL");
        do
                rc = gnutls_handshake(more.s);
        while (rc < 0 && !gnutls_error_is_fatal(rc));
        CHECK(rc < 0);
        tls_close(&more);
        tls_write(&t[0], "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        CHECK(closes_after(t[0].fd) >= 0);
        for (int i = 0; i < 3; i++)
                tls_close(&t[i]);
        world_stop(w);
}

TEST(http_server, says_why_it_cannot_listen)
{
        struct api_world *w = world_start(NULL);
        struct http_options o = {.listen = "nonsense", .cert_pem = "", .key_pem = "", .logs_dir = ""};
        struct http *h = NULL;
        struct err e = {0};
        char taken[64];

        CHECK_INT(http_create(&o, &h, &e), -E_INVAL);
        CHECK(strstr(e.msg, "HOST:PORT") != NULL);
        snprintf(taken, sizeof taken, "127.0.0.1:%d", world_port(w));
        o.listen = taken;
        CHECK_INT(http_create(&o, &h, &e), -E_EXIST);
        CHECK(strstr(e.msg, taken) != NULL);
        o.listen = "127.0.0.1:0";
        CHECK_INT(http_create(&o, &h, &e), -E_INVAL);
        CHECK(strstr(e.msg, "certificate") != NULL);
        world_stop(w);
}
