#include "tests/lib/wire.h"

#include <stdlib.h>

#include "common/clock.h"
#include "common/err.h"
#include "common/mem.h"
#include "tests/lib/test.h"

#define DAY_US (86400LL * 1000000)

struct wire_id wire_make_ca(void)
{
        struct wire_id id;
        struct err e = {0};
        int64_t now = clock_now_us(&clock_system);

        CHECK_INT(pki_key_make(&id.key, &e), 0);
        CHECK_INT(pki_ca_make(id.key, "test CA", now - DAY_US, now + DAY_US, &id.cert, &e), 0);
        return id;
}

struct wire_id wire_issue(const struct wire_id *ca, enum pki_purpose p, const char *const *hosts,
                          const char *uri, int64_t not_before_us, int64_t not_after_us)
{
        struct pki_issue what = {.purpose = p,
                                 .cn = "test",
                                 .hosts = hosts,
                                 .uri = uri,
                                 .not_before_us = not_before_us,
                                 .not_after_us = not_after_us};
        struct wire_id id;
        struct err e = {0};
        uint8_t *der;
        size_t n;

        CHECK_INT(pki_key_make(&id.key, &e), 0);
        CHECK_INT(pki_issue(ca->cert, ca->key, &what, NULL, 0, id.key, &der, &n, NULL, &e), 0);
        CHECK_INT(pki_der_to_pem("CERTIFICATE", der, n, &id.cert), 0);
        mem_free(der);
        return id;
}

void wire_id_free(struct wire_id *id)
{
        pki_free_secret(id->key);
        mem_free(id->cert);
}

void wire_init(struct wire *w)
{
        static const char *const hosts[] = {"localhost", "127.0.0.1", NULL};
        int64_t now = clock_now_us(&clock_system);
        struct err e = {0};

        memset(w, 0, sizeof *w);
        w->ca = wire_make_ca();
        w->server = wire_issue(&w->ca, PKI_SERVER, hosts, NULL, now - DAY_US, now + DAY_US);
        w->client = wire_issue(&w->ca, PKI_CLIENT, NULL, "photon:agent:a1", now - DAY_US, now + DAY_US);
        CHECK_INT(uv_loop_init(&w->loop), 0);
        if (link_net_create(&w->loop, &w->net, &e) != 0)
                test_fail(__FILE__, __LINE__, "%s", e.msg);
}

static void on_net_closed(void *arg)
{
        *(bool *)arg = true;
}

void wire_fini(struct wire *w)
{
        link_net_close(w->net, on_net_closed, &w->net_closed);
        WIRE_UNTIL(w, w->net_closed);
        uv_run(&w->loop, UV_RUN_DEFAULT);
        CHECK_INT(uv_loop_close(&w->loop), 0);
        wire_id_free(&w->ca);
        wire_id_free(&w->server);
        wire_id_free(&w->client);
}

struct link_tls wire_server_tls(const struct wire *w)
{
        return (struct link_tls){.ca_pem = w->ca.cert,
                                 .cert_pem = w->server.cert,
                                 .key_pem = w->server.key,
                                 .require_peer = true};
}

struct link_tls wire_client_tls(const struct wire *w)
{
        return (struct link_tls){.ca_pem = w->ca.cert,
                                 .cert_pem = w->client.cert,
                                 .key_pem = w->client.key,
                                 .server_name = "127.0.0.1"};
}

uint64_t wire_deadline(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
        return uv_hrtime() + 60ULL * 1000000000;
#else
        return uv_hrtime() + 10ULL * 1000000000;
#endif
}

static void on_wake(uv_timer_t *t)
{
        (void)t;
}

/* One turn that ends at the latest after 100 ms, so that the deadline is seen. */
void wire_turn(struct wire *w, uint64_t until, const char *file, int line, const char *what)
{
        uv_timer_t t;

        if (uv_hrtime() > until)
                test_fail(file, line, "this did not come to be: %s", what);
        uv_timer_init(&w->loop, &t);
        uv_timer_start(&t, on_wake, 100, 0);
        uv_run(&w->loop, UV_RUN_ONCE);
        uv_close((uv_handle_t *)&t, NULL);
        uv_run(&w->loop, UV_RUN_NOWAIT);
}

void wire_run_for(struct wire *w, int ms)
{
        uint64_t end = uv_hrtime() + (uint64_t)ms * 1000000;

        while (uv_hrtime() < end)
                wire_turn(w, wire_deadline(), __FILE__, __LINE__, "time passes");
}
