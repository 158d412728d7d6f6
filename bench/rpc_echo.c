/* How fast is RPC over mTLS on this machine? Two processes:
 *
 *     rpc_echo server DIR            makes a CA and identities in DIR (bench/grpc uses them too), prints its
 *                                    address, runs until killed
 *     rpc_echo client DIR [SECONDS [WHAT]]  prints one JSON object: unary latency, unary rates, streaming;
 *                                    WHAT, a list like "unary_1,stream_up", picks some
 *     rpc_echo swarm  DIR N          holds N connections, prints how long that took, until killed */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/err.h"
#include "common/file.h"
#include "common/mem.h"
#include "common/pki.h"
#include "common/rpc.h"

#include "photon/v1/agent.pb-c.h"

#define DAY_US  (86400LL * 1000000)
#define SAMPLES 2000000

static uv_loop_t *loop;
static struct link_net *net;

static void die(const char *what, const struct err *e)
{
        fprintf(stderr, "rpc_echo: %s: %s\n", what, e ? e->msg : "");
        exit(1);
}

/* --- files in DIR --- */

static void put(const char *dir, const char *name, const char *text)
{
        struct err e = {0};
        char *path = path_join(dir, name);

        if (file_write_atomic(path, text, strlen(text), 0600, &e) != 0)
                die(path, &e);
        mem_free(path);
}

static char *get(const char *dir, const char *name)
{
        struct err e = {0};
        char *path = path_join(dir, name), *text;

        if (file_read(path, 65536, &text, NULL, &e) != 0)
                die(path, &e);
        mem_free(path);
        return text;
}

static char *issue(const char *ca, const char *ca_key, enum pki_purpose p, const char *key)
{
        static const char *const hosts[] = {"127.0.0.1", "localhost", NULL};
        int64_t now = clock_now_us(&clock_system);
        struct pki_issue what = {.purpose = p,
                                 .cn = "bench",
                                 .hosts = p == PKI_SERVER ? hosts : NULL,
                                 .not_before_us = now - DAY_US,
                                 .not_after_us = now + DAY_US};
        struct err e = {0};
        uint8_t *der;
        size_t n;
        char *pem;

        if (pki_issue(ca, ca_key, &what, NULL, 0, key, &der, &n, NULL, &e) != 0)
                die("issue", &e);
        if (pki_der_to_pem("CERTIFICATE", der, n, &pem) != 0)
                die("pem", NULL);
        mem_free(der);
        return pem;
}

/* --- server --- */

static void echo_message(struct rpc_call *c, const uint8_t *p, size_t n, void *arg)
{
        Photon__V1__OutputChunk *m =
                (Photon__V1__OutputChunk *)rpc_unpack(&photon__v1__output_chunk__descriptor, p, n);

        (void)arg;
        if (m)
                rpc_reply(c, &m->base);
        else
                rpc_finish(c, E_INVAL, "not a chunk");
        protobuf_c_message_free_unpacked(m ? &m->base : NULL, NULL);
}

static void bidi_message(struct rpc_call *c, const uint8_t *p, size_t n, void *arg)
{
        (void)arg;
        (void)rpc_send_bytes(c, p, n);
}

static void finish_ok(struct rpc_call *c, void *arg)
{
        (void)arg;
        rpc_finish(c, 0, "");
}

static void on_echo(struct rpc_conn *conn, struct rpc_call *c, void *arg)
{
        static const struct rpc_call_events ev = {.on_message = echo_message};

        (void)conn;
        rpc_set_events(c, &ev, arg);
}

static void on_bidi(struct rpc_conn *conn, struct rpc_call *c, void *arg)
{
        static const struct rpc_call_events ev = {.on_message = bidi_message, .on_peer_end = finish_ok};

        (void)conn;
        rpc_set_events(c, &ev, arg);
}

static void on_sink(struct rpc_conn *conn, struct rpc_call *c, void *arg)
{
        static const struct rpc_call_events ev = {.on_peer_end = finish_ok};

        (void)conn;
        rpc_set_events(c, &ev, arg);
}

static const struct rpc_service_method methods[] = {{"bench.Echo/Echo", on_echo, false},
                                                    {"bench.Echo/Bidi", on_bidi, false},
                                                    {"bench.Echo/Sink", on_sink, false},
                                                    {0}};

static int on_accept(struct link *l, const struct link_events **ev, void **arg, void *ctx)
{
        static const struct rpc_conn_options o = {
                .methods = methods, .software = "bench", .keepalive_ms = 30000};

        (void)ctx;
        return rpc_accept(l, &o, ev, arg, NULL);
}

static void serve(const char *dir)
{
        struct link_listener_options o = {
                .host_port = "127.0.0.1:0", .max_links = 20000, .on_accept = on_accept};
        int64_t now = clock_now_us(&clock_system);
        struct link_listener *ll;
        struct link_tls tls;
        struct err e = {0};
        char *ca_key = NULL, *ca = NULL, *key = NULL, *client_key = NULL, *cert, text[32];

        if (pki_key_make(&ca_key, &e) || pki_key_make(&key, &e) || pki_key_make(&client_key, &e) ||
            pki_ca_make(ca_key, "bench CA", now - DAY_US, now + DAY_US, &ca, &e))
                die("keys", &e);
        put(dir, "ca.pem", ca);
        put(dir, "client.key", client_key);
        cert = issue(ca, ca_key, PKI_CLIENT, client_key);
        put(dir, "client.pem", cert);
        cert = issue(ca, ca_key, PKI_SERVER, key);
        put(dir, "server.key", key);
        put(dir, "server.pem", cert);
        tls = (struct link_tls){.ca_pem = ca, .cert_pem = cert, .key_pem = key, .require_peer = true};
        if (link_listen(net, &o, &tls, &ll, &e) != 0)
                die("listen", &e);
        snprintf(text, sizeof text, "127.0.0.1:%d", link_listener_port(ll));
        put(dir, "address", text);
        printf("%s\n", text);
        fflush(stdout);
        uv_run(loop, UV_RUN_DEFAULT);
}

/* --- client --- */

static struct {
        struct rpc_conn *conn;
        bool ready;
        size_t done, issued, limit;
        uint64_t end_ns, bytes;
        double *us;
        Photon__V1__OutputChunk msg;
        bool stream_over;
        const char *what; /* NULL: all */
        int printed;
        uint8_t block[65536 - 64];
} cl;

static void cl_ready(struct rpc_conn *c, const struct link_peer *p, void *arg)
{
        (void)c;
        (void)p;
        (void)arg;
        cl.ready = true;
}

static void cl_close(struct rpc_conn *c, int rc, const char *why, void *arg)
{
        (void)c;
        (void)arg;
        fprintf(stderr, "rpc_echo: closed: %d %s\n", rc, why);
        exit(1);
}

static void one_more(void);

static void on_reply(const struct rpc_status *st, const uint8_t *p, size_t n, void *arg)
{
        uint64_t began = (uint64_t)(uintptr_t)arg;

        (void)p;
        (void)n;
        if (st->code)
                die("call", &(struct err){.msg = "failed"});
        if (cl.done < SAMPLES)
                cl.us[cl.done] = (double)(uv_hrtime() - began) / 1000;
        cl.done++;
        if (uv_hrtime() < cl.end_ns)
                one_more();
}

static void one_more(void)
{
        cl.issued++;
        if (rpc_unary(cl.conn, "bench.Echo/Echo", &cl.msg.base, 10000, on_reply,
                      (void *)(uintptr_t)uv_hrtime()) != 0)
                die("unary", NULL);
}

static int by_value(const void *a, const void *b)
{
        double x = *(const double *)a, y = *(const double *)b;

        return x < y ? -1 : x > y;
}

static bool wanted(const char *name)
{
        size_t n = strlen(name);

        for (const char *at = cl.what; at && (at = strstr(at, name)) != NULL; at += n) {
                if ((at == cl.what || at[-1] == ',') && (at[n] == ',' || !at[n]))
                        return true;
        }
        return !cl.what;
}

static void unary(const char *name, size_t outstanding, double seconds)
{
        uint64_t began = uv_hrtime();
        double took;
        size_t n;

        if (!wanted(name))
                return;
        cl.done = cl.issued = 0;
        cl.end_ns = began + (uint64_t)(seconds * 1e9);
        for (size_t i = 0; i < outstanding; i++)
                one_more();
        while (cl.done < cl.issued)
                uv_run(loop, UV_RUN_ONCE);
        took = (double)(uv_hrtime() - began) / 1e9;
        n = cl.done < SAMPLES ? cl.done : SAMPLES;
        qsort(cl.us, n, sizeof *cl.us, by_value);
        printf("%s\"%s\":{\"outstanding\":%zu,\"calls_per_s\":%.0f,\"p50_us\":%.1f,\"p99_us\":%.1f}",
               cl.printed++ ? "," : "", name, outstanding, (double)cl.done / took, cl.us[n / 2],
               cl.us[n * 99 / 100]);
}

static void fill(struct rpc_call *c, void *arg)
{
        (void)arg;
        while (uv_hrtime() < cl.end_ns) {
                if (rpc_send_bytes(c, cl.block, sizeof cl.block) != 0)
                        return;
                cl.bytes += sizeof cl.block;
        }
        rpc_send_end(c);
}

static void stream_end(struct rpc_call *c, const struct rpc_status *st, void *arg)
{
        (void)c;
        (void)arg;
        if (st->code)
                fprintf(stderr, "stream: %s\n", st->message);
        cl.stream_over = true;
}

static void stream(const char *name, const char *method, double seconds)
{
        static const struct rpc_call_events ev = {.on_writable = fill, .on_end = stream_end};
        struct rpc_call *c;
        uint64_t began = uv_hrtime();

        if (!wanted(name))
                return;
        cl.bytes = 0;
        cl.stream_over = false;
        cl.end_ns = began + (uint64_t)(seconds * 1e9);
        if (rpc_call_open(cl.conn, method, 0, &ev, NULL, &c) != 0)
                die("open", NULL);
        fill(c, NULL);
        while (!cl.stream_over)
                uv_run(loop, UV_RUN_ONCE);
        printf("%s\"%s\":{\"message_bytes\":%zu,\"mb_per_s\":%.1f}", cl.printed++ ? "," : "", name,
               sizeof cl.block, (double)cl.bytes / ((double)(uv_hrtime() - began) / 1e9) / 1e6);
}

static struct link_tls client_tls(const char *dir)
{
        return (struct link_tls){.ca_pem = get(dir, "ca.pem"),
                                 .cert_pem = get(dir, "client.pem"),
                                 .key_pem = get(dir, "client.key"),
                                 .server_name = "127.0.0.1"};
}

static void client(const char *dir, double seconds)
{
        static const struct rpc_conn_options o = {
                .software = "bench", .keepalive_ms = 30000, .on_ready = cl_ready, .on_close = cl_close};
        static uint8_t payload[256];
        struct link_tls tls = client_tls(dir);
        struct err e = {0};

        photon__v1__output_chunk__init(&cl.msg);
        cl.msg.data.data = payload;
        cl.msg.data.len = sizeof payload;
        cl.us = malloc(SAMPLES * sizeof *cl.us);
        if (!cl.us || rpc_dial(net, get(dir, "address"), &tls, 5000, &o, &cl.conn, &e) != 0)
                die("dial", &e);
        while (!cl.ready)
                uv_run(loop, UV_RUN_ONCE);
        printf("{");
        unary("unary_1", 1, seconds);
        unary("unary_64", 64, seconds);
        unary("unary_1000", 1000, seconds);
        stream("stream_up", "bench.Echo/Sink", seconds);
        stream("stream_both", "bench.Echo/Bidi", seconds);
        printf("}\n");
}

/* --- swarm --- */

static size_t swarm_ready;

static void sw_ready(struct rpc_conn *c, const struct link_peer *p, void *arg)
{
        (void)c;
        (void)p;
        (void)arg;
        swarm_ready++;
}

static void swarm(const char *dir, size_t n)
{
        static const struct rpc_conn_options o = {
                .software = "bench", .keepalive_ms = 30000, .on_ready = sw_ready, .on_close = cl_close};
        struct link_tls tls = client_tls(dir);
        uint64_t began = uv_hrtime();
        struct rpc_conn *c;
        struct err e = {0};

        for (size_t i = 0; i < n; i++) {
                if (rpc_dial(net, get(dir, "address"), &tls, 120000, &o, &c, &e) != 0)
                        die("dial", &e);
                while (i >= 40 && swarm_ready < i - 40)
                        uv_run(loop, UV_RUN_ONCE);
        }
        while (swarm_ready < n)
                uv_run(loop, UV_RUN_ONCE);
        printf("{\"connections\":%zu,\"seconds\":%.2f}\n", n, (double)(uv_hrtime() - began) / 1e9);
        fflush(stdout);
        uv_run(loop, UV_RUN_DEFAULT);
}

int main(int argc, char **argv)
{
        struct err e = {0};

        loop = uv_default_loop();
        if (argc < 3) {
                fprintf(stderr, "usage: rpc_echo server|client|swarm DIR [SECONDS [WHAT]|N]\n");
                return 64;
        }
        cl.what = argc > 4 ? argv[4] : NULL;
        if (link_net_create(loop, &net, &e) != 0)
                die("net", &e);
        if (strcmp(argv[1], "server") == 0)
                serve(argv[2]);
        else if (strcmp(argv[1], "swarm") == 0)
                swarm(argv[2], argc > 3 ? strtoul(argv[3], NULL, 10) : 100);
        else
                client(argv[2], argc > 3 ? atof(argv[3]) : 2);
        return 0;
}
