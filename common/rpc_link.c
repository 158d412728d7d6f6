/* RPC over links: the table of functions that a connection sends through, and
 * the link's events handed on. */
#include "common/err.h"
#include "common/rpc_impl.h"

static int wire_send2(void *w, const void *a, size_t an, const void *b, size_t bn)
{
        return link_send2(w, a, an, b, bn);
}

static size_t wire_queued(const void *w)
{
        return link_queued_bytes(w);
}

static void wire_pause(void *w, bool on)
{
        link_pause(w, on);
}

static void wire_wake(void *w)
{
        link_wake(w);
}

static void wire_close(void *w, int linger_ms, int rc, const char *why)
{
        link_close(w, linger_ms, rc, why);
}

static uint64_t wire_bytes_in(const void *w)
{
        return link_bytes_in(w);
}

static uint64_t wire_bytes_out(const void *w)
{
        return link_bytes_out(w);
}

static const struct rpc_wire link_wire = {wire_send2, wire_queued,   wire_pause,    wire_wake,
                                          wire_close, wire_bytes_in, wire_bytes_out};

static void on_open(struct link *l, const struct link_peer *peer, void *arg)
{
        (void)l;
        rpc_wire_opened(arg, peer);
}

static void on_frame(struct link *l, const uint8_t *p, size_t n, void *arg)
{
        (void)l;
        rpc_wire_frame(arg, p, n);
}

static void on_drain(struct link *l, void *arg)
{
        (void)l;
        rpc_wire_drained(arg);
}

static void on_turn(struct link *l, void *arg)
{
        (void)l;
        rpc_wire_turn(arg);
}

static void on_close(struct link *l, int rc, const char *why, void *arg)
{
        rpc_wire_closed(arg, rc, why);
        link_free(l);
}

static const struct link_events link_ev = {on_open, on_frame, on_drain, on_turn, on_close};

int rpc_accept(struct link *l, const struct rpc_conn_options *o, const struct link_events **ev, void **ev_arg,
               struct rpc_conn **out)
{
        struct rpc_conn *c;
        int rc;

        link_set_frame_max(l, RPC_FRAME_HEAD + RPC_FRAME_MAX);
        rc = rpc_conn_create(link_loop(l), &link_wire, l, false, o, &c);
        if (rc)
                return rc;
        *ev = &link_ev;
        *ev_arg = c;
        if (out)
                *out = c;
        return 0;
}

int rpc_dial(struct link_net *net, const char *host_port, const struct link_tls *tls, int deadline_ms,
             const struct rpc_conn_options *o, struct rpc_conn **out, struct err *e)
{
        struct rpc_conn *c;
        struct link *l;
        int rc = link_dial(net, host_port, tls, deadline_ms, &link_ev, NULL, &l, e);

        if (rc)
                return rc;
        link_set_frame_max(l, RPC_FRAME_HEAD + RPC_FRAME_MAX);
        rc = rpc_conn_create(link_loop(l), &link_wire, l, true, o, &c);
        if (rc) {
                link_free(l);
                return err_set(e, -rc, "no memory for a connection");
        }
        link_set_arg(l, c);
        *out = c;
        return 0;
}
