/* Listeners: one accept is posted at a time, and only while there is room for
 * another handshake, so that a flood waits in the kernel's queue. A connection
 * costs little until its peer has said something: many of these may wait, and
 * the oldest makes place for the next, so that silence keeps nobody out. */
#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "common/link_impl.h"
#include "common/log.h"
#include "common/mem.h"

#define RETRY_MS    100
#define COMPLAIN_MS 10000

static void on_retry(uv_timer_t *t)
{
        link_listener_pump(t->data);
}

/* False: those that are silent came only just now. */
static bool make_room(struct link_listener *ll)
{
        struct link *oldest;

        if (ll->n_silent < LINK_SILENT_MAX)
                return true;
        oldest = container_of(ll->silent.next, struct link, in_silent);
        if (uv_now(ll->net->loop) - oldest->accepted_ms < LINK_SILENT_MS)
                return false;
        link_die(oldest, E_TIMEOUT, "the peer said nothing while others waited");
        return true;
}

void link_listener_pump(struct link_listener *ll)
{
        if (ll->posted || ll->closed || ll->pumping ||
            ll->n_handshakes + ll->n_dying >= LINK_HANDSHAKES_MAX || uv_is_active((uv_handle_t *)&ll->retry))
                return;
        ll->pumping = true; /* a link that dies to make room comes back here */
        if (make_room(ll)) {
                ll->posted = true;
                nng_stream_listener_accept(ll->nl, ll->aio);
        } else {
                uv_timer_start(&ll->retry, on_retry, LINK_SILENT_MS, 0);
        }
        ll->pumping = false;
}

/* NNG's thread. */
static void on_accept_end(void *arg)
{
        struct link_listener *ll = arg;

        mailbox_post(ll->net->mb, &ll->mail);
}

static void complain(struct link_listener *ll, const char *what)
{
        int64_t now = (int64_t)uv_now(ll->net->loop);

        if (ll->complained_ms && now - ll->complained_ms < COMPLAIN_MS)
                return;
        ll->complained_ms = now;
        log_warn("link", "connection not accepted", "reason=\"%s\" open=%zu max=%zu", what, ll->n_links,
                 ll->max_links);
}

static void drop_stream(nng_stream *s)
{
        nng_stream_close(s);
        nng_stream_free(s);
}

static void accept_stream(struct link_listener *ll, nng_stream *s)
{
        const struct link_events *ev = NULL;
        void *arg = NULL;
        struct link *l;

        if (ll->n_links - ll->n_silent >= ll->max_links) {
                complain(ll, "as many connections as allowed are open");
                drop_stream(s);
                return;
        }
        if (link_create(ll->net, ll, &l) != 0) {
                complain(ll, "no memory");
                drop_stream(s);
                return;
        }
        if (link_start(l, s) != 0) {
                complain(ll, "the TLS engine refused the stream");
                link_free(l);
                return;
        }
        if (ll->on_accept(l, &ev, &arg, ll->ctx) != 0) {
                link_free(l);
                return;
        }
        link_set_events(l, ev, arg);
        link_arm(l, LINK_HANDSHAKE_MS);
}

static void on_retry_closed(uv_handle_t *h)
{
        struct link_listener *ll = h->data;
        struct link_net *net = ll->net;

        LIST_EACH_SAFE (it, nx, &ll->links) {
                struct link *l = container_of(it, struct link, in_ll);

                list_remove(&l->in_ll);
                list_remove(&l->in_silent);
                l->ll = NULL;
        }
        list_remove(&ll->in_net);
        nng_aio_free(ll->aio);
        if (ll->nl)
                nng_stream_listener_free(ll->nl);
        mem_free(ll);
        link_net_maybe_closed(net);
}

static void run_accept(struct mail *m)
{
        struct link_listener *ll = container_of(m, struct link_listener, mail);
        int rv = nng_aio_result(ll->aio);

        ll->posted = false;
        if (ll->closed) {
                if (rv == 0)
                        drop_stream(nng_aio_get_output(ll->aio, 0));
                uv_close((uv_handle_t *)&ll->retry, on_retry_closed);
                return;
        }
        if (rv == 0) {
                accept_stream(ll, nng_aio_get_output(ll->aio, 0));
        } else if (rv != NNG_ECANCELED && rv != NNG_ECONNABORTED && rv != NNG_ECONNRESET) {
                /* Out of file descriptors, say: trying again at once would spin. */
                complain(ll, nng_strerror(rv));
                uv_timer_start(&ll->retry, on_retry, RETRY_MS, 0);
        }
        link_listener_pump(ll);
}

static int open_listener(struct link_listener *ll, const char *host_port, const struct link_tls *tls,
                         struct err *e)
{
        char host[256], port[8], url[300];
        int rc = link_split_address(host_port, host, port, e), rv;

        if (rc)
                return rc;
        snprintf(url, sizeof url, strchr(host, ':') ? "tls+tcp://[%s]:%s" : "tls+tcp://%s:%s", host, port);
        rv = nng_stream_listener_alloc(&ll->nl, url);
        if (rv == 0)
                rv = nng_stream_listener_set_bool(ll->nl, NNG_OPT_TCP_NODELAY, true);
        if (rv == 0) {
                rc = link_listener_set_tls(ll, tls, e);
                if (rc)
                        return rc;
                rv = nng_stream_listener_listen(ll->nl);
        }
        if (rv == NNG_EADDRINUSE)
                return err_set(e, E_EXIST, "cannot listen on %s: the address is in use", host_port);
        if (rv != 0)
                return err_set(e, link_err_from_nng(rv), "cannot listen on %s: %s", host_port,
                               nng_strerror(rv));
        return 0;
}

int link_listen(struct link_net *net, const struct link_listener_options *o, const struct link_tls *tls,
                struct link_listener **out, struct err *e)
{
        struct link_listener *ll = mem_calloc(1, sizeof *ll);
        int rc = -E_NOMEM;

        if (!ll || nng_aio_alloc(&ll->aio, on_accept_end, ll) != 0) {
                err_set(e, E_NOMEM, "no memory for a listener");
                goto fail;
        }
        ll->net = net;
        ll->max_links = o->max_links ? o->max_links : SIZE_MAX;
        ll->on_accept = o->on_accept;
        ll->ctx = o->ctx;
        ll->mail.run = run_accept;
        list_init(&ll->links);
        list_init(&ll->silent);
        rc = open_listener(ll, o->host_port, tls, e);
        if (rc)
                goto fail;
        uv_timer_init(net->loop, &ll->retry);
        ll->retry.data = ll;
        list_push_back(&net->listeners, &ll->in_net);
        link_listener_pump(ll);
        *out = ll;
        return 0;
fail:
        if (ll) {
                nng_aio_free(ll->aio);
                if (ll->nl)
                        nng_stream_listener_free(ll->nl);
                mem_free(ll);
        }
        return rc;
}

int link_listener_port(const struct link_listener *ll)
{
        int port = 0;

        return nng_stream_listener_get_int(ll->nl, NNG_OPT_TCP_BOUND_PORT, &port) == 0 ? port : 0;
}

int link_listener_set_tls(struct link_listener *ll, const struct link_tls *tls, struct err *e)
{
        nng_tls_config *cfg;
        int rc = tls_engine_config(tls, true, &cfg, e), rv;

        if (rc)
                return rc;
        rv = nng_stream_listener_set_ptr(ll->nl, NNG_OPT_TLS_CONFIG, cfg);
        nng_tls_config_free(cfg); /* the listener holds its own reference */
        if (rv != 0)
                return err_set(e, E_INTERNAL, "TLS: %s", nng_strerror(rv));
        /* The accept that waits has bound the old one: post it anew. */
        if (ll->posted)
                nng_aio_abort(ll->aio, NNG_ECANCELED);
        return 0;
}

void link_listener_close(struct link_listener *ll)
{
        if (!ll || ll->closed)
                return;
        ll->closed = true;
        uv_timer_stop(&ll->retry);
        nng_stream_listener_close(ll->nl);
        if (!ll->posted)
                uv_close((uv_handle_t *)&ll->retry, on_retry_closed);
}
