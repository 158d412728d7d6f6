/* Dialling: look the name up, try each address in turn, all within one deadline. */
#include <netdb.h>
#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "common/link_impl.h"
#include "common/mem.h"
#include "common/x509.h"

/* A look-up cannot be stopped once a thread runs it: the link may be gone when
 * it ends. */
struct link_resolve {
        uv_getaddrinfo_t req;
        struct link *link; /* NULL: nobody waits */
};

static void try_next(struct link *l);

/* NNG's thread. */
static void on_dial_end(void *arg)
{
        struct link *l = arg;

        mailbox_post(l->net->mb, &l->dial->mail);
}

static void drop_dialer(struct link_dialing *d)
{
        if (d->dialer)
                nng_stream_dialer_free(d->dialer);
        d->dialer = NULL;
}

static void run_dial(struct mail *m)
{
        struct link_dialing *d = container_of(m, struct link_dialing, mail);
        struct link *l = nng_aio_get_input(d->aio, 0);
        int rv = nng_aio_result(d->aio);

        drop_dialer(d);
        if (l->state != LINK_DIALING) {
                if (rv == 0)
                        l->stream = nng_aio_get_output(d->aio, 0); /* freed with the link */
        } else if (rv != 0) {
                snprintf(d->last_error, sizeof d->last_error, "%s", nng_strerror(rv));
                try_next(l);
        } else if (link_start(l, nng_aio_get_output(d->aio, 0)) != 0) {
                link_die(l, E_INTERNAL, "the TLS engine refused the stream");
        }
        link_unpend(l);
}

static int dial_url(struct link *l, const char *url)
{
        struct link_dialing *d = l->dial;
        int rv = nng_stream_dialer_alloc(&d->dialer, url);

        if (rv == 0)
                rv = nng_stream_dialer_set_bool(d->dialer, NNG_OPT_TCP_NODELAY, true);
        if (rv == 0)
                rv = nng_stream_dialer_set_ptr(d->dialer, NNG_OPT_TLS_CONFIG, d->cfg);
        if (rv != 0) {
                snprintf(d->last_error, sizeof d->last_error, "%s", nng_strerror(rv));
                drop_dialer(d);
                return -E_IO;
        }
        l->pending++;
        nng_aio_set_input(d->aio, 0, l);
        nng_stream_dialer_dial(d->dialer, d->aio);
        return 0;
}

static void give_up(struct link *l)
{
        struct link_dialing *d = l->dial;
        char why[256];

        snprintf(why, sizeof why, "cannot connect to %.120s port %s: %.100s", d->host, d->port,
                 d->last_error);
        link_die(l, E_UNAVAIL, why);
}

static void try_next(struct link *l)
{
        struct link_dialing *d = l->dial;

        while (d->next) {
                const struct addrinfo *ai = d->next;
                char host[INET6_ADDRSTRLEN], url[128];

                d->next = ai->ai_next;
                if (ai->ai_family == AF_INET6)
                        uv_ip6_name((const struct sockaddr_in6 *)(const void *)ai->ai_addr, host,
                                    sizeof host);
                else if (ai->ai_family == AF_INET)
                        uv_ip4_name((const struct sockaddr_in *)(const void *)ai->ai_addr, host, sizeof host);
                else
                        continue;
                snprintf(url, sizeof url, ai->ai_family == AF_INET6 ? "tls+tcp://[%s]:%s" : "tls+tcp://%s:%s",
                         host, d->port);
                if (dial_url(l, url) == 0)
                        return;
        }
        give_up(l);
}

static void on_resolved(uv_getaddrinfo_t *req, int status, struct addrinfo *found)
{
        struct link_resolve *r = container_of(req, struct link_resolve, req);
        struct link *l = r->link;

        mem_free(r);
        if (!l) {
                uv_freeaddrinfo(found);
                return;
        }
        l->dial->resolve = NULL;
        l->dial->found = l->dial->next = found;
        if (status < 0)
                snprintf(l->dial->last_error, sizeof l->dial->last_error, "%s", uv_strerror(status));
        try_next(l);
}

static int start_dial(struct link *l)
{
        /* Without AI_ADDRCONFIG, which would hide "localhost" on a machine that has only
         * that: an address that cannot be reached fails at once, and the next is tried. */
        struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
        struct link_dialing *d = l->dial;
        struct link_resolve *r;
        uint8_t ip[16];
        size_t n = x509_parse_ip(d->host, ip);
        int rc;

        if (n) {
                char url[300];

                snprintf(url, sizeof url, n == 16 ? "tls+tcp://[%s]:%s" : "tls+tcp://%s:%s", d->host,
                         d->port);
                return dial_url(l, url);
        }
        r = mem_calloc(1, sizeof *r);
        if (!r)
                return -E_NOMEM;
        r->link = l;
        rc = uv_getaddrinfo(l->net->loop, &r->req, on_resolved, d->host, NULL, &hints);
        if (rc < 0) {
                snprintf(d->last_error, sizeof d->last_error, "%s", uv_strerror(rc));
                mem_free(r);
                return -E_IO;
        }
        d->resolve = r;
        return 0;
}

void link_dial_abort(struct link *l)
{
        struct link_dialing *d = l->dial;

        if (!d)
                return;
        if (d->dialer)
                nng_stream_dialer_close(d->dialer); /* its aio ends, and with it `pending` */
        if (d->resolve) {
                d->resolve->link = NULL;
                uv_cancel((uv_req_t *)&d->resolve->req);
                d->resolve = NULL;
        }
}

void link_dial_free(struct link *l)
{
        struct link_dialing *d = l->dial;

        if (!d)
                return;
        drop_dialer(d);
        nng_aio_free(d->aio);
        if (d->cfg)
                nng_tls_config_free(d->cfg);
        if (d->found)
                uv_freeaddrinfo(d->found);
        mem_free(d);
        l->dial = NULL;
}

int link_dial(struct link_net *net, const char *host_port, const struct link_tls *tls, int deadline_ms,
              const struct link_events *ev, void *arg, struct link **out, struct err *e)
{
        struct link *l = NULL;
        struct link_dialing *d = mem_calloc(1, sizeof *d);
        int rc;

        if (!d)
                return err_set(e, E_NOMEM, "no memory to dial");
        rc = link_split_address(host_port, d->host, d->port, e);
        if (rc == 0)
                rc = tls_engine_config(tls, false, &d->cfg, e);
        if (rc == 0 && link_create(net, NULL, &l) != 0)
                rc = err_set(e, E_NOMEM, "no memory to dial");
        if (rc) {
                if (d->cfg)
                        nng_tls_config_free(d->cfg);
                mem_free(d);
                return rc;
        }
        l->dial = d;
        d->mail.run = run_dial;
        link_set_events(l, ev, arg);
        link_arm(l, deadline_ms);
        /* From here on every failure arrives as on_close. */
        if (nng_aio_alloc(&d->aio, on_dial_end, l) != 0)
                link_die(l, E_NOMEM, "no memory to dial");
        else if (start_dial(l) != 0)
                give_up(l);
        *out = l;
        return 0;
}
