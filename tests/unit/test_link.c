/* Links over real TLS on loopback: who gets in, who does not and why, and that
 * bytes arrive whole under load. */
#include <arpa/inet.h>
#include <errno.h>
#include <mbedtls/ssl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/clock.h"
#include "common/err.h"
#include "common/mem.h"
#include "tests/lib/test.h"
#include "tests/lib/wire.h"

#define DAY_US (86400LL * 1000000)

/* One end as its owner sees it. */
struct end {
        struct link *l;
        bool open, closed, had_cert, drained, echo, pause_first;
        int rc;
        char why[256], address[64];
        size_t frames, bytes;
        uint64_t sum;
        struct buf last;
};

static void on_open(struct link *l, const struct link_peer *peer, void *arg)
{
        struct end *x = arg;

        CHECK(x->l == l || !x->l);
        x->open = true;
        x->had_cert = peer->cert_der != NULL;
        snprintf(x->address, sizeof x->address, "%s", peer->address);
}

static void on_frame(struct link *l, const uint8_t *p, size_t n, void *arg)
{
        struct end *x = arg;

        CHECK(x->open && !x->closed);
        x->frames++;
        x->bytes += n;
        for (size_t i = 0; i < n; i += 997)
                x->sum = x->sum * 31 + p[i];
        buf_reset(&x->last);
        CHECK_INT(buf_put(&x->last, p, n), 0);
        if (x->echo)
                CHECK_INT(link_send2(l, p, n, NULL, 0), 0);
        if (x->pause_first && x->frames == 1)
                link_pause(l, true);
}

static void on_drain(struct link *l, void *arg)
{
        struct end *x = arg;

        (void)l;
        x->drained = true;
}

static void on_close(struct link *l, int rc, const char *why, void *arg)
{
        struct end *x = arg;

        CHECK(!x->closed);
        x->closed = true;
        x->rc = rc;
        snprintf(x->why, sizeof x->why, "%s", why);
        link_free(l);
        x->l = NULL;
}

static const struct link_events events = {on_open, on_frame, on_drain, NULL, on_close};

#define SERVERS 600
struct world {
        struct wire w;
        struct link_listener *ll;
        struct end server[SERVERS]; /* in order of accepting */
        size_t accepted, max_links;
        struct end client, second;
        char address[64];
};

static int on_accept(struct link *l, const struct link_events **ev, void **arg, void *ctx)
{
        struct world *o = ctx;
        struct end *x;

        CHECK(o->accepted < SERVERS);
        x = &o->server[o->accepted++];
        x->l = l;
        *ev = &events;
        *arg = x;
        return 0;
}

static struct world *world_with(const struct link_tls *tls, size_t max_links)
{
        struct world *o = calloc(1, sizeof *o);
        struct link_listener_options opt = {.host_port = "127.0.0.1:0", .on_accept = on_accept, .ctx = o};
        struct link_tls def;
        struct err e = {0};

        CHECK(o);
        wire_init(&o->w);
        def = wire_server_tls(&o->w);
        opt.max_links = max_links ? max_links : SERVERS;
        if (link_listen(o->w.net, &opt, tls ? tls : &def, &o->ll, &e) != 0)
                test_fail(__FILE__, __LINE__, "%s", e.msg);
        snprintf(o->address, sizeof o->address, "127.0.0.1:%d", link_listener_port(o->ll));
        return o;
}

static void world_end(struct world *o)
{
        wire_fini(&o->w);
        buf_fini(&o->client.last);
        buf_fini(&o->second.last);
        for (size_t i = 0; i < o->accepted; i++)
                buf_fini(&o->server[i].last);
        free(o);
}

static void dial_as(struct world *o, struct end *x, const struct link_tls *tls)
{
        struct link_tls def = wire_client_tls(&o->w);
        struct err e = {0};

        buf_fini(&x->last);
        memset(x, 0, sizeof *x);
        if (link_dial(o->w.net, o->address, tls ? tls : &def, 5000, &events, x, &x->l, &e) != 0)
                test_fail(__FILE__, __LINE__, "%s", e.msg);
}

static void dial(struct world *o, const struct link_tls *tls)
{
        CHECK(!o->client.l);
        dial_as(o, &o->client, tls);
}

static void dial_ok(struct world *o)
{
        dial(o, NULL);
        WIRE_UNTIL(&o->w, o->client.open && o->accepted && o->server[o->accepted - 1].open);
}

/* Dials with tls; both ends must fail, and `why` be said by one of them. */
static void dial_refused(struct world *o, const struct link_tls *tls, const char *client_says,
                         const char *server_says)
{
        dial(o, tls);
        WIRE_UNTIL(&o->w, o->client.closed && o->server[o->accepted - 1].closed);
        CHECK(!o->client.frames && !o->server[o->accepted - 1].open);
        if (client_says && !strstr(o->client.why, client_says))
                test_fail(__FILE__, __LINE__, "client says \"%s\", expected \"%s\"", o->client.why,
                          client_says);
        if (server_says && !strstr(o->server[o->accepted - 1].why, server_says))
                test_fail(__FILE__, __LINE__, "server says \"%s\", expected \"%s\"",
                          o->server[o->accepted - 1].why, server_says);
}

TEST(link, frames_travel_both_ways)
{
        struct world *o = world_with(NULL, 0);

        dial(o, NULL);
        /* Queued before the handshake: sent after it. */
        CHECK_INT(link_send2(o->client.l, "hel", 3, "lo", 2), 0);
        WIRE_UNTIL(&o->w, o->accepted && o->server[0].frames == 1);
        CHECK(o->server[0].last.len == 5 && memcmp(o->server[0].last.data, "hello", 5) == 0);
        CHECK(o->server[0].had_cert && o->client.had_cert);
        CHECK(strncmp(o->server[0].address, "127.0.0.1:", 10) == 0);
        CHECK_STR(o->client.address, o->address);
        CHECK_INT(link_send2(o->server[0].l, NULL, 0, NULL, 0), 0);
        WIRE_UNTIL(&o->w, o->client.frames == 1);
        CHECK_INT(o->client.last.len, 0);
        link_close(o->client.l, 100, 0, "done");
        WIRE_UNTIL(&o->w, o->client.closed && o->server[0].closed);
        CHECK_INT(o->client.rc, 0);
        CHECK_STR(o->client.why, "done");
        CHECK_INT(o->server[0].rc, 0);
        CHECK_STR(o->server[0].why, "the peer closed the connection");
        world_end(o);
}

TEST(link, name_of_the_server_is_checked)
{
        struct world *o = world_with(NULL, 0);
        struct link_tls tls = wire_client_tls(&o->w);

        tls.server_name = "localhost";
        dial(o, &tls);
        WIRE_UNTIL(&o->w, o->client.open);
        link_close(o->client.l, 0, 0, "");
        WIRE_UNTIL(&o->w, o->client.closed);
        tls.server_name = "hub.example.org";
        dial_refused(o, &tls, "does not name hub.example.org", "TLS alert");
        tls.server_name = "127.0.0.2";
        dial_refused(o, &tls, "does not name 127.0.0.2", NULL);
        tls.server_name = "test"; /* the common name does not count */
        dial_refused(o, &tls, "does not name test", NULL);
        world_end(o);
}

TEST(link, strangers_and_wrong_purposes_are_refused)
{
        struct world *o = world_with(NULL, 0);
        int64_t now = clock_now_us(&clock_system);
        struct wire_id ca2 = wire_make_ca();
        struct wire_id stranger = wire_issue(&ca2, PKI_CLIENT, NULL, NULL, now - DAY_US, now + DAY_US);
        struct wire_id expired = wire_issue(&o->w.ca, PKI_CLIENT, NULL, NULL, now - DAY_US, now - 1000000);
        struct wire_id early = wire_issue(&o->w.ca, PKI_CLIENT, NULL, NULL, now + DAY_US / 2, now + DAY_US);
        struct link_tls tls = wire_client_tls(&o->w);

        tls.cert_pem = stranger.cert;
        tls.key_pem = stranger.key;
        dial_refused(o, &tls, NULL, "not signed by the CA");
        tls.cert_pem = expired.cert;
        tls.key_pem = expired.key;
        dial_refused(o, &tls, NULL, "has expired");
        tls.cert_pem = early.cert;
        tls.key_pem = early.key;
        dial_refused(o, &tls, NULL, "not valid yet");
        tls.cert_pem = o->w.server.cert; /* a hub's certificate is no agent's */
        tls.key_pem = o->w.server.key;
        dial_refused(o, &tls, NULL, "not meant for a client");
        tls.cert_pem = tls.key_pem = NULL;
        dial_refused(o, &tls, NULL, "showed no certificate");
        tls = wire_client_tls(&o->w);
        tls.ca_pem = ca2.cert;
        dial_refused(o, &tls, "not signed by the CA", "TLS alert");
        dial_ok(o); /* and nobody else was disturbed */
        wire_id_free(&ca2);
        wire_id_free(&stranger);
        wire_id_free(&expired);
        wire_id_free(&early);
        world_end(o);
}

TEST(link, certificates_serve_only_their_purpose)
{
        struct world *o = world_with(NULL, 0);
        struct link_tls tls = wire_server_tls(&o->w);
        struct err e = {0};

        tls.cert_pem = o->w.client.cert;
        tls.key_pem = o->w.client.key;
        CHECK_INT(link_listener_set_tls(o->ll, &tls, &e), -E_INVAL);
        CHECK_STR(e.msg, "the certificate is not meant for a server");
        world_end(o);
}

/* Somebody else's server, with a certificate for clients; skipped where there is no openssl. */
TEST(link, a_server_with_a_client_certificate_is_refused)
{
        static const char *const hosts[] = {"127.0.0.1", NULL};
        struct world *o = world_with(NULL, 0);
        int64_t now = clock_now_us(&clock_system);
        struct wire_id fake = wire_issue(&o->w.ca, PKI_CLIENT, hosts, NULL, now - DAY_US, now + DAY_US);
        char pem[4096], path[512], line[256], cmd[2048], *colon = NULL;
        FILE *f, *child;

        snprintf(path, sizeof path, "%s/fake.pem", test_scratch());
        snprintf(pem, sizeof pem, "%s%s", fake.cert, fake.key);
        f = fopen(path, "w");
        CHECK(f && fputs(pem, f) >= 0 && fclose(f) == 0);
        snprintf(cmd, sizeof cmd,
                 "exec openssl s_server -accept 127.0.0.1:0 -naccept 1 -www -cert %s -key %s 2>&1", path,
                 path);
        child = popen(cmd, "r");
        CHECK(child);
        while (fgets(line, sizeof line, child)) {
                if (strncmp(line, "ACCEPT 127.0.0.1:", 17) == 0) {
                        colon = strchr(line, ':');
                        break;
                }
        }
        if (colon) {
                snprintf(o->address, sizeof o->address, "127.0.0.1:%d", atoi(colon + 1));
                dial(o, NULL);
                WIRE_UNTIL(&o->w, o->client.closed);
                CHECK_STR(o->client.why, "the server's certificate is not meant for a server");
                while (fgets(line, sizeof line, child))
                        ;
        } else {
                fprintf(stderr, "skipped: no openssl s_server\n");
        }
        pclose(child);
        wire_id_free(&fake);
        world_end(o);
}

static int64_t in_a_week(void)
{
        return clock_now_us(&clock_system) + 7 * DAY_US;
}

TEST(link, validity_is_judged_by_the_given_clock)
{
        struct world *o = world_with(NULL, 0);
        struct link_tls tls = wire_client_tls(&o->w);

        tls.now_us = in_a_week;
        dial_refused(o, &tls, "has expired", NULL);
        world_end(o);
}

TEST(link, without_demanding_a_certificate_none_is_seen)
{
        struct wire w;
        struct world *o;
        struct link_tls tls;

        wire_init(&w);
        tls = (struct link_tls){.cert_pem = w.server.cert, .key_pem = w.server.key};
        o = world_with(&tls, 0);
        tls = (struct link_tls){0}; /* fetching the CA: nothing is verified */
        dial(o, &tls);
        WIRE_UNTIL(&o->w, o->client.open && o->accepted && o->server[0].open);
        CHECK(!o->server[0].had_cert && o->client.had_cert);
        wire_fini(&w);
        world_end(o);
}

TEST(link, configurations_that_would_not_verify_are_refused)
{
        struct world *o = world_with(NULL, 0);
        struct link_tls tls = wire_client_tls(&o->w);
        struct link *l = NULL;
        struct err e = {0};

        tls.server_name = NULL;
        CHECK_INT(link_dial(o->w.net, o->address, &tls, 1000, &events, &o->client, &l, &e), -E_INVAL);
        tls.server_name = "";
        CHECK_INT(link_dial(o->w.net, o->address, &tls, 1000, &events, &o->client, &l, &e), -E_INVAL);
        tls = wire_client_tls(&o->w);
        tls.ca_pem = "junk";
        CHECK_INT(link_dial(o->w.net, o->address, &tls, 1000, &events, &o->client, &l, &e), -E_INVAL);
        tls = wire_client_tls(&o->w);
        tls.key_pem = o->w.server.key;
        CHECK_INT(link_dial(o->w.net, o->address, &tls, 1000, &events, &o->client, &l, &e), -E_INVAL);
        tls = wire_client_tls(&o->w);
        CHECK_INT(link_dial(o->w.net, "nowhere", &tls, 1000, &events, &o->client, &l, &e), -E_INVAL);
        CHECK_INT(link_dial(o->w.net, "::1:80", &tls, 1000, &events, &o->client, &l, &e), -E_INVAL);
        CHECK_INT(link_dial(o->w.net, "a/b:80", &tls, 1000, &events, &o->client, &l, &e), -E_INVAL);
        tls = wire_server_tls(&o->w);
        tls.ca_pem = NULL;
        CHECK_INT(link_listener_set_tls(o->ll, &tls, &e), -E_INVAL);
        tls = wire_server_tls(&o->w);
        tls.key_pem = NULL;
        CHECK_INT(link_listener_set_tls(o->ll, &tls, &e), -E_INVAL);
        world_end(o);
}

TEST(link, refused_and_unknown_addresses_are_reported)
{
        struct world *o = world_with(NULL, 0);

        link_listener_close(o->ll);
        wire_run_for(&o->w, 10);
        dial(o, NULL);
        WIRE_UNTIL(&o->w, o->client.closed);
        CHECK_INT(o->client.rc, -E_UNAVAIL);
        CHECK(strstr(o->client.why, "Connection refused"));
        snprintf(o->address, sizeof o->address, "no-such-host.invalid:7440");
        dial(o, NULL);
        WIRE_UNTIL(&o->w, o->client.closed);
        CHECK(o->client.rc == -E_UNAVAIL || o->client.rc == -E_TIMEOUT);
        world_end(o);
}

TEST(link, names_are_looked_up_and_each_address_tried)
{
        struct world *o = world_with(NULL, 0);
        char port[8];

        snprintf(port, sizeof port, "%d", link_listener_port(o->ll));
        snprintf(o->address, sizeof o->address, "localhost:%s",
                 port); /* perhaps ::1 first, where nobody listens */
        dial_ok(o);
        world_end(o);
}

/* A plain socket to the listener. */
static int raw_connect(const struct world *o, int flags)
{
        struct sockaddr_in sa = {.sin_family = AF_INET,
                                 .sin_port = htons((uint16_t)link_listener_port(o->ll)),
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        int fd = socket(AF_INET, SOCK_STREAM | flags, 0);

        CHECK(fd >= 0);
        CHECK(connect(fd, (struct sockaddr *)&sa, sizeof sa) == 0 || errno == EINPROGRESS);
        return fd;
}

TEST(link, garbage_is_refused)
{
        struct world *o = world_with(NULL, 0);
        int fd = raw_connect(o, 0);

        CHECK_INT(send(fd, "GET / HTTP/1.1\r\n\r\n", 18, 0), 18);
        WIRE_UNTIL(&o->w, o->accepted == 1 && o->server[0].closed);
        CHECK(!o->server[0].open);
        CHECK(strstr(o->server[0].why, "not TLS"));
        close(fd);
        dial_ok(o);
        world_end(o);
}

TEST(link, old_tls_is_refused)
{
        /* A TLS 1.1 ClientHello with one suite (RFC 4346 section 7.4.1.2). */
        static const uint8_t hello[] = {0x16, 0x03, 0x01, 0x00, 0x2f, 0x01, 0x00, 0x00, 0x2b, 0x03, 0x02,
                                        1,    2,    3,    4,    5,    6,    7,    8,    9,    10,   11,
                                        12,   13,   14,   15,   16,   17,   18,   19,   20,   21,   22,
                                        23,   24,   25,   26,   27,   28,   29,   30,   31,   32,   0x00,
                                        0x00, 0x04, 0xc0, 0x09, 0x00, 0xff, 0x01, 0x00};
        struct world *o = world_with(NULL, 0);
        uint8_t answer[7];
        int fd = raw_connect(o, 0);

        CHECK_INT(send(fd, hello, sizeof hello, 0), sizeof hello);
        WIRE_UNTIL(&o->w, o->accepted == 1 && o->server[0].closed);
        CHECK(strstr(o->server[0].why, "does not speak TLS 1.2"));
        /* A fatal protocol_version alert, RFC 5246 section 7.2.2. */
        CHECK_INT(recv(fd, answer, sizeof answer, MSG_WAITALL), 7);
        CHECK(answer[0] == 0x15 && answer[5] == 2 && answer[6] == 70);
        close(fd);
        world_end(o);
}

TEST(link, silent_connection_is_ended)
{
        struct world *o = world_with(NULL, 0);
        int fd = raw_connect(o, 0);
        uint64_t began = uv_hrtime();

        WIRE_UNTIL(&o->w, o->accepted == 1 && o->server[0].closed);
        CHECK(uv_hrtime() - began > 4000000000ULL);
        CHECK_INT(o->server[0].rc, -E_TIMEOUT);
        CHECK_STR(o->server[0].why, "the TLS handshake took too long");
        close(fd);
        world_end(o);
}

TEST(link, silence_keeps_nobody_out)
{
        enum { SILENT = LINK_SILENT_MAX + 100 };
        struct world *o = world_with(NULL, 0);
        int fd[SILENT];
        uint64_t began;

        for (size_t i = 0; i < SILENT; i++) {
                fd[i] = raw_connect(o, SOCK_NONBLOCK);
                for (int turn = 0; turn < 3; turn++)
                        uv_run(&o->w.loop, UV_RUN_NOWAIT);
        }
        began = uv_hrtime();
        dial(o, NULL);
        WIRE_UNTIL(&o->w, o->client.open);
        CHECK(uv_hrtime() - began < 4000000000ULL); /* long before the silent ones' time is over */
        for (size_t i = 0; i < SILENT; i++)
                close(fd[i]);
        world_end(o);
}

static int to_buf(void *arg, const unsigned char *p, size_t n)
{
        return buf_put(arg, p, n) == 0 ? (int)n : MBEDTLS_ERR_SSL_ALLOC_FAILED;
}

static int nothing(void *arg, unsigned char *p, size_t n)
{
        (void)arg;
        (void)p;
        (void)n;
        return MBEDTLS_ERR_SSL_WANT_READ;
}

static int zeros(void *arg, unsigned char *p, size_t n)
{
        (void)arg;
        memset(p, 7, n);
        return 0;
}

/* What an honest client says first. */
static void client_hello(struct buf *out)
{
        mbedtls_ssl_config conf;
        mbedtls_ssl_context ssl;

        buf_init(out, 0);
        mbedtls_ssl_config_init(&conf);
        mbedtls_ssl_init(&ssl);
        CHECK_INT(mbedtls_ssl_config_defaults(&conf, MBEDTLS_SSL_IS_CLIENT, MBEDTLS_SSL_TRANSPORT_STREAM,
                                              MBEDTLS_SSL_PRESET_DEFAULT),
                  0);
        mbedtls_ssl_conf_rng(&conf, zeros, NULL);
        CHECK_INT(mbedtls_ssl_setup(&ssl, &conf), 0);
        mbedtls_ssl_set_bio(&ssl, out, to_buf, nothing, NULL);
        CHECK_INT(mbedtls_ssl_handshake(&ssl), MBEDTLS_ERR_SSL_WANT_READ);
        mbedtls_ssl_free(&ssl);
        mbedtls_ssl_config_free(&conf);
}

TEST(link, begun_handshakes_are_limited)
{
        enum { BEGUN = LINK_HANDSHAKES_MAX + 30 };
        struct world *o = world_with(NULL, 0);
        int fd[BEGUN];
        struct buf hello;

        client_hello(&hello);
        for (size_t i = 0; i < BEGUN; i++) {
                fd[i] = raw_connect(o, 0);
                CHECK_INT(send(fd[i], hello.data, hello.len, 0), hello.len);
        }
        WIRE_UNTIL(&o->w, o->accepted >= LINK_HANDSHAKES_MAX);
        wire_run_for(&o->w, 300);
        /* Those accepted before the first hello was seen come on top. */
        CHECK(o->accepted < BEGUN);
        for (size_t i = 0; i < BEGUN; i++)
                close(fd[i]);
        WIRE_UNTIL(&o->w, o->accepted == BEGUN);
        dial_ok(o);
        buf_fini(&hello);
        world_end(o);
}

TEST(link, flood_of_resets_does_not_stop_the_listener)
{
        struct world *o = world_with(NULL, 0);
        struct linger hard = {1, 0};

        for (int i = 0; i < 300; i++) {
                int fd;

                /* The kernel's queue may be full, and only the loop empties it. */
                for (int turn = 0; turn < 5; turn++)
                        uv_run(&o->w.loop, UV_RUN_NOWAIT);
                fd = raw_connect(o, SOCK_NONBLOCK);
                if (i % 3 == 0)
                        (void)send(fd, "\x16\x03\x01", 3, 0);
                if (i % 2)
                        shutdown(fd, SHUT_WR); /* FIN, then RST */
                setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
                close(fd);
        }
        dial(o, NULL);
        WIRE_UNTIL(&o->w, o->client.open);
        world_end(o);
}

TEST(link, no_more_links_than_allowed)
{
        struct world *o = world_with(NULL, 1);

        dial_ok(o);
        dial_as(o, &o->second, NULL);
        WIRE_UNTIL(&o->w, o->second.closed);
        CHECK_STR(o->second.why, "the connection was closed during the TLS handshake");
        CHECK_INT(o->accepted, 1);
        CHECK(!o->client.closed);
        world_end(o);
}

TEST(link, oversized_frame_closes_the_link)
{
        static const uint8_t zeros[1001];
        struct world *o = world_with(NULL, 0);

        dial_ok(o);
        link_set_frame_max(o->server[0].l, 1000);
        CHECK_INT(link_send2(o->client.l, zeros, 1000, NULL, 0), 0);
        WIRE_UNTIL(&o->w, o->server[0].frames == 1);
        CHECK_INT(link_send2(o->client.l, zeros, 1001, NULL, 0), 0);
        WIRE_UNTIL(&o->w, o->server[0].closed && o->client.closed);
        CHECK_INT(o->server[0].rc, -E_TOOBIG);
        CHECK_STR(o->server[0].why, "the peer sent a frame of 1001 bytes, at most 1000 are allowed");
        world_end(o);
}

TEST(link, many_frames_arrive_whole_and_in_order)
{
        enum { N = 20000 };
        struct world *o = world_with(NULL, 0);
        uint8_t *p = malloc(100000);
        uint64_t sum = 0;
        size_t sent = 0, bytes = 0;

        CHECK(p);
        dial_ok(o);
        while (o->server[0].frames < N) {
                while (sent < N) {
                        size_t n = sent % 100 == 0 ? 90000 : (sent * 7919) % 700;

                        if (link_queued_bytes(o->client.l) > 1000000)
                                break;
                        memset(p, (int)(sent * 31), n);
                        CHECK_INT(link_send2(o->client.l, p, n / 3, p, n - n / 3), 0);
                        for (size_t i = 0; i < n; i += 997)
                                sum = sum * 31 + p[0];
                        bytes += n;
                        sent++;
                }
                wire_turn(&o->w, wire_deadline(), __FILE__, __LINE__, "frames arrive");
        }
        CHECK_INT(o->server[0].bytes, bytes);
        CHECK(o->server[0].sum == sum);
        free(p);
        world_end(o);
}

TEST(link, a_paused_reader_holds_the_writer_back)
{
        struct world *o = world_with(NULL, 0);
        static uint8_t block[60000];
        size_t sent = 0, before = 1;

        dial_ok(o);
        o->server[0].pause_first = true;
        /* Both kernels' socket buffers fill first: go on until nothing moves. */
        while (sent != before) {
                before = sent;
                while (link_send2(o->client.l, block, sizeof block, NULL, 0) == 0)
                        CHECK(++sent < 2000);
                wire_run_for(&o->w, 200);
        }
        CHECK_INT(o->server[0].frames, 1);
        CHECK(link_queued_bytes(o->client.l) > LINK_QUEUE_LOW);
        link_pause(o->server[0].l, false);
        WIRE_UNTIL(&o->w, o->server[0].frames == sent && o->client.drained);
        CHECK_INT(link_queued_bytes(o->client.l), 0);
        world_end(o);
}

TEST(link, a_broken_connection_is_noticed_with_data_in_flight)
{
        /* The peer dies right behind its last bytes: NNG alone would lose the end. */
        for (int i = 0; i < 30; i++) {
                struct world *o = world_with(NULL, 0);
                int64_t now = (int64_t)uv_hrtime();

                dial_ok(o);
                CHECK_INT(link_send2(o->client.l, "last", 4, NULL, 0), 0);
                link_close(o->client.l, i % 2 ? 100 : 0, 0, "gone");
                WIRE_UNTIL(&o->w, o->client.closed && o->server[0].closed);
                CHECK((int64_t)uv_hrtime() - now < 5000000000LL);
                if (i % 2)
                        CHECK_INT(o->server[0].frames, 1);
                world_end(o);
        }
}

TEST(link, new_identity_reaches_the_next_connection)
{
        struct world *o = world_with(NULL, 0);
        static const char *const hosts[] = {"other.example.org", NULL};
        int64_t now = clock_now_us(&clock_system);
        struct wire_id id = wire_issue(&o->w.ca, PKI_SERVER, hosts, NULL, now - DAY_US, now + DAY_US);
        struct link_tls tls = wire_server_tls(&o->w);
        struct err e = {0};

        dial_ok(o);
        tls.cert_pem = id.cert;
        tls.key_pem = id.key;
        CHECK_INT(link_listener_set_tls(o->ll, &tls, &e), 0);
        tls = wire_client_tls(&o->w);
        tls.server_name = "other.example.org";
        dial_as(o, &o->second, &tls);
        WIRE_UNTIL(&o->w, o->second.open);
        CHECK(o->server[0].open && !o->server[0].closed);
        wire_id_free(&id);
        world_end(o);
}

TEST(link, closing_everything_in_the_middle_leaves_nothing)
{
        for (int i = 0; i < 12; i++) {
                struct world *o = world_with(NULL, 0);

                dial(o, NULL);
                CHECK_INT(link_send2(o->client.l, "x", 1, NULL, 0), 0);
                for (int turn = 0; turn < i; turn++)
                        uv_run(&o->w.loop, UV_RUN_NOWAIT);
                world_end(o); /* checks that the loop has no handle left */
        }
}
