/* One link: frames in, frames out, and its end. */
#include <stdio.h>
#include <string.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/link_impl.h"
#include "common/mem.h"

#define CORK_MIN   2048u
#define CORK_FLUSH (64u << 10) /* sent at once, without waiting for the end of the turn */
#define KEEP_MAX   4096u       /* larger buffers are not kept by an idle link */

_Static_assert(LINK_QUEUE_LOW == TLS_TX_LOW, "on_drain means the same on both sides");

static void run_chunk(struct mail *m);

/* --- on NNG's threads, under the connection's lock: post and be gone --- */

static void on_tls_hello(struct tls_sink *s)
{
        struct link *l = container_of(s, struct link, sink);

        mailbox_post(l->net->mb, &l->hello_mail);
}

static void on_tls_open(struct tls_sink *s, const uint8_t *der, size_t n)
{
        struct link *l = container_of(s, struct link, sink);

        if (der) {
                l->peer_der = mem_dup(der, n);
                /* A certificate that could not be kept must not look like none. */
                l->peer_lost = !l->peer_der;
        }
        l->peer.cert_der = l->peer_der;
        l->peer.cert_len = l->peer_der ? n : 0;
        mailbox_post(l->net->mb, &l->open_mail);
}

static bool on_tls_data(struct tls_sink *s, struct tls_chunk *c)
{
        struct link *l = container_of(s, struct link, sink);
        bool enough = __atomic_add_fetch(&l->ahead, c->len, __ATOMIC_RELAXED) >= LINK_READ_AHEAD;

        c->owner = l;
        c->stalled = enough;
        c->mail.run = run_chunk;
        mailbox_post(l->net->mb, &c->mail); /* the loop may free it at once */
        return !enough;
}

static void on_tls_drain(struct tls_sink *s)
{
        struct link *l = container_of(s, struct link, sink);

        if (!__atomic_exchange_n(&l->drain_posted, true, __ATOMIC_ACQ_REL))
                mailbox_post(l->net->mb, &l->drain_mail);
}

static void on_tls_fail(struct tls_sink *s, const char *why)
{
        struct link *l = container_of(s, struct link, sink);

        snprintf(l->tls_why, sizeof l->tls_why, "%s", why);
}

static void on_rx_end(void *arg)
{
        struct link *l = arg;

        mailbox_post(l->net->mb, &l->rx_end);
}

static void on_tx_end(void *arg)
{
        struct link *l = arg;

        mailbox_post(l->net->mb, &l->tx_end);
}

/* --- the end --- */

static void drop_rx(struct link *l)
{
        while (l->rx_first) {
                struct tls_chunk *c = l->rx_first;

                l->rx_first = (struct tls_chunk *)(void *)c->mail.next;
                mem_free(c);
        }
        l->rx_last = &l->rx_first;
}

static void maybe_free(struct link *l)
{
        if (!l->freed || !l->timer_closed)
                return;
        mem_free(l->peer_der);
        mem_free(l);
}

static void on_timer_closed(uv_handle_t *h)
{
        struct link *l = h->data;
        struct link_net *net = l->net;

        l->timer_closed = true;
        list_remove(&l->in_net);
        maybe_free(l);
        link_net_maybe_closed(net);
}

static void run_final(struct mail *m)
{
        struct link *l = container_of(m, struct link, final);

        if (l->stream)
                nng_stream_free(l->stream);
        /* Both have called back, so neither waits for anything long. */
        nng_aio_free(l->rx_aio);
        nng_aio_free(l->tx_aio);
        link_dial_free(l);
        drop_rx(l);
        mem_free(l->cork);
        mem_free(l->part);
        l->cork = NULL;
        l->part = NULL;
        list_remove(&l->dirty);
        l->state = LINK_ENDED;
        if (l->ll) {
                list_remove(&l->in_ll);
                l->ll->n_links--;
                l->ll->n_dying -= l->dying;
                link_listener_pump(l->ll);
        }
        uv_close((uv_handle_t *)&l->timer, on_timer_closed);
        if (l->ev && l->ev->on_close && !l->freed)
                l->ev->on_close(l, l->rc, l->why, l->arg);
}

void link_unpend(struct link *l)
{
        if (--l->pending == 0 && l->state == LINK_DEAD)
                mailbox_post(l->net->mb, &l->final);
}

void link_die(struct link *l, int rc, const char *why)
{
        if (l->state >= LINK_DEAD)
                return;
        /* The reason that TLS gave is the cause; what followed is noise. */
        if (l->rc == 0 && !l->why[0]) {
                l->rc = rc > 0 ? -rc : rc;
                snprintf(l->why, sizeof l->why, "%s", why ? why : "");
        }
        link_hs_leave(l);
        /* Its place is free when it is gone: NNG's threads may be slower than a flood. */
        l->dying = l->ll && l->state == LINK_HANDSHAKE;
        if (l->dying)
                l->ll->n_dying++;
        l->state = LINK_DEAD;
        uv_timer_stop(&l->timer);
        l->pending++; /* so that the end is not posted twice below */
        if (l->stream)
                nng_stream_close(l->stream); /* the engine calls nothing of ours after this */
        link_dial_abort(l);
        if (l->ll)
                link_listener_pump(l->ll);
        link_unpend(l);
}

static void run_end(struct link *l, nng_aio *aio)
{
        int rv = nng_aio_result(aio);
        bool was_open = l->state == LINK_OPEN || l->state == LINK_CLOSING;

        if (l->state < LINK_DEAD) {
                if (l->tls_why[0])
                        link_die(l, was_open ? E_PROTO : E_UNAUTH, l->tls_why);
                else if (!was_open)
                        link_die(l, E_CLOSED, "the connection was closed during the TLS handshake");
                else if (rv == NNG_ECLOSED)
                        link_die(l, 0, "the peer closed the connection");
                else if (rv == NNG_ECONNSHUT || rv == NNG_ECONNRESET)
                        link_die(l, E_CLOSED, "the connection broke off");
                else
                        link_die(l, link_err_from_nng(rv), nng_strerror(rv));
        }
        link_unpend(l);
}

static void run_rx_end(struct mail *m)
{
        struct link *l = container_of(m, struct link, rx_end);

        run_end(l, l->rx_aio);
}

static void run_tx_end(struct mail *m)
{
        struct link *l = container_of(m, struct link, tx_end);

        run_end(l, l->tx_aio);
}

static void on_timer(uv_timer_t *t)
{
        struct link *l = t->data;

        switch (l->state) {
        case LINK_DIALING:
                link_die(l, E_TIMEOUT, "no connection within the time allowed");
                break;
        case LINK_HANDSHAKE:
                link_die(l, E_TIMEOUT, "the TLS handshake took too long");
                break;
        default:
                link_die(l, 0, "the peer did not take what was left to send");
                break;
        }
}

void link_arm(struct link *l, int ms)
{
        uv_timer_start(&l->timer, on_timer, (uint64_t)ms, 0);
}

void link_close(struct link *l, int linger_ms, int rc, const char *why)
{
        if (l->state >= LINK_DEAD || (l->state == LINK_CLOSING && linger_ms > 0))
                return;
        if (l->state != LINK_CLOSING) {
                l->rc = rc > 0 ? -rc : rc;
                snprintf(l->why, sizeof l->why, "%s", why ? why : "");
        }
        if (linger_ms <= 0 || l->state != LINK_OPEN) {
                link_die(l, rc, why);
                return;
        }
        l->state = LINK_CLOSING;
        link_arm(l, linger_ms);
        link_mark_dirty(l);
}

void link_free(struct link *l)
{
        if (!l || l->freed)
                return;
        l->freed = true;
        link_die(l, 0, "freed");
        maybe_free(l);
}

/* --- the beginning --- */

void link_hs_leave(struct link *l)
{
        if (!l->ll)
                return;
        if (!list_empty(&l->in_silent)) {
                list_remove(&l->in_silent);
                l->ll->n_silent--;
        }
        if (l->counted)
                l->ll->n_handshakes--;
        l->counted = false;
}

static void run_hello(struct mail *m)
{
        struct link *l = container_of(m, struct link, hello_mail);

        if (l->state != LINK_HANDSHAKE || !l->ll)
                return;
        link_hs_leave(l);
        l->counted = true;
        l->ll->n_handshakes++;
}

static void run_open(struct mail *m)
{
        struct link *l = container_of(m, struct link, open_mail);

        if (l->state != LINK_HANDSHAKE)
                return;
        if (l->peer_lost) {
                link_die(l, E_NOMEM, "no memory for the peer's certificate");
                return;
        }
        l->state = LINK_OPEN;
        uv_timer_stop(&l->timer);
        link_hs_leave(l);
        if (l->ll)
                link_listener_pump(l->ll);
        link_mark_dirty(l);
        if (l->ev && l->ev->on_open)
                l->ev->on_open(l, &l->peer, l->arg);
}

static void run_drain(struct mail *m)
{
        struct link *l = container_of(m, struct link, drain_mail);

        __atomic_store_n(&l->drain_posted, false, __ATOMIC_RELEASE);
        if (l->state == LINK_CLOSING)
                link_mark_dirty(l);
        else if (l->state == LINK_OPEN && l->ev && l->ev->on_drain)
                l->ev->on_drain(l, l->arg);
}

int link_create(struct link_net *net, struct link_listener *ll, struct link **out)
{
        struct link *l = mem_calloc(1, sizeof *l);

        if (!l)
                return -E_NOMEM;
        if (nng_aio_alloc(&l->rx_aio, on_rx_end, l) != 0 || nng_aio_alloc(&l->tx_aio, on_tx_end, l) != 0) {
                nng_aio_free(l->rx_aio);
                mem_free(l);
                return -E_NOMEM;
        }
        nng_aio_set_timeout(l->rx_aio, NNG_DURATION_INFINITE);
        nng_aio_set_timeout(l->tx_aio, NNG_DURATION_INFINITE);
        l->net = net;
        l->ll = ll;
        l->state = LINK_DIALING;
        l->frame_max = LINK_FRAME_MAX;
        l->rx_last = &l->rx_first;
        l->sink = (struct tls_sink){on_tls_hello, on_tls_open, on_tls_data, on_tls_drain, on_tls_fail, 0};
        l->hello_mail.run = run_hello;
        l->open_mail.run = run_open;
        l->drain_mail.run = run_drain;
        l->rx_end.run = run_rx_end;
        l->tx_end.run = run_tx_end;
        l->final.run = run_final;
        uv_timer_init(net->loop, &l->timer);
        l->timer.data = l;
        list_init(&l->dirty);
        list_init(&l->in_ll);
        list_init(&l->in_silent);
        list_push_back(&net->links, &l->in_net);
        if (ll) {
                list_push_back(&ll->links, &l->in_ll);
                ll->n_links++;
        }
        *out = l;
        return 0;
}

static void set_address(struct link *l)
{
        nng_sockaddr sa;
        char host[INET6_ADDRSTRLEN] = "?";

        if (nng_stream_get_addr(l->stream, NNG_OPT_REMADDR, &sa) != 0)
                return;
        if (sa.s_family == NNG_AF_INET) {
                uv_inet_ntop(AF_INET, &sa.s_in.sa_addr, host, sizeof host);
                snprintf(l->peer.address, sizeof l->peer.address, "%s:%u", host, ntohs(sa.s_in.sa_port));
        } else if (sa.s_family == NNG_AF_INET6) {
                uv_inet_ntop(AF_INET6, sa.s_in6.sa_addr, host, sizeof host);
                snprintf(l->peer.address, sizeof l->peer.address, "[%s]:%u", host, ntohs(sa.s_in6.sa_port));
        }
}

/* A receive and a send are posted once; the engine keeps them waiting until the
 * stream ends, so that its end is always reported. */
int link_start(struct link *l, nng_stream *s)
{
        static uint8_t nothing[1];
        nng_iov iov = {.iov_buf = nothing, .iov_len = sizeof nothing};
        int rc;

        l->stream = s;
        set_address(l);
        rc = tls_engine_attach(s, &l->sink);
        if (rc)
                return rc;
        l->state = LINK_HANDSHAKE;
        l->accepted_ms = uv_now(l->net->loop);
        if (l->ll) {
                list_push_back(&l->ll->silent, &l->in_silent);
                l->ll->n_silent++;
        }
        nng_aio_set_iov(l->rx_aio, 1, &iov);
        nng_aio_set_iov(l->tx_aio, 1, &iov);
        l->pending += 2;
        nng_stream_recv(s, l->rx_aio);
        nng_stream_send(s, l->tx_aio);
        return 0;
}

const char *link_address(const struct link *l)
{
        return l->peer.address;
}

bool link_is_silent(const struct link *l)
{
        return !list_empty(&l->in_silent);
}

void link_set_events(struct link *l, const struct link_events *ev, void *arg)
{
        l->ev = ev;
        l->arg = arg;
}

/* --- receiving --- */

static void deliver(struct link *l, const uint8_t *p, size_t n)
{
        if (l->ev && l->ev->on_frame)
                l->ev->on_frame(l, p, n, l->arg);
}

static bool can_receive(const struct link *l)
{
        return l->state == LINK_OPEN && !l->paused;
}

static size_t frame_need(struct link *l, const uint8_t *p)
{
        uint32_t n = u32be_load(p);
        char why[128];

        if (n <= l->frame_max)
                return 4 + (size_t)n;
        snprintf(why, sizeof why, "the peer sent a frame of %u bytes, at most %zu are allowed", n,
                 l->frame_max);
        link_die(l, E_TOOBIG, why);
        return 0;
}

/* Adds to the frame in pieces as much as it still needs; returns what was used,
 * 0 if the link died. */
static size_t rx_piece(struct link *l, const uint8_t *p, size_t n)
{
        size_t need = 4, take;

        if (l->part_len >= 4 && (need = frame_need(l, l->part)) == 0)
                return 0;
        if (need > l->part_cap) {
                uint8_t *bigger = mem_realloc(l->part, need < 64 ? 64 : need);

                if (!bigger) {
                        link_die(l, E_NOMEM, "no memory to receive a frame");
                        return 0;
                }
                l->part = bigger;
                l->part_cap = need < 64 ? 64 : need;
        }
        take = need - l->part_len < n ? need - l->part_len : n;
        memcpy(l->part + l->part_len, p, take);
        l->part_len += take;
        return take;
}

/* Takes whole frames out of p where they lie; returns how much was used: all,
 * unless the receiver paused or closed the link. */
static size_t rx_bytes(struct link *l, const uint8_t *p, size_t n)
{
        size_t used = 0;

        while (used < n && can_receive(l)) {
                size_t left = n - used, need;

                if (l->part_len == 0 && left >= 4) {
                        need = frame_need(l, p + used);
                        if (need == 0)
                                break;
                        if (left >= need) {
                                const uint8_t *frame = p + used + 4;

                                used += need;
                                deliver(l, frame, need - 4);
                                continue;
                        }
                }
                need = rx_piece(l, p + used, left);
                if (need == 0)
                        break;
                used += need;
                if (l->part_len >= 4 && l->part_len - 4 == u32be_load(l->part)) {
                        size_t len = l->part_len;

                        l->part_len = 0;
                        deliver(l, l->part + 4, len - 4);
                        if (l->part_cap > KEEP_MAX) {
                                mem_free(l->part);
                                l->part = NULL;
                                l->part_cap = 0;
                        }
                }
        }
        return used;
}

static void rx_take(struct link *l)
{
        if (l->in_rx)
                return;
        l->in_rx = true;
        while (l->rx_first && can_receive(l)) {
                struct tls_chunk *c = l->rx_first;
                size_t used = rx_bytes(l, c->data + l->rx_off, c->len - l->rx_off);

                l->rx_off += used;
                l->bytes_in += used;
                if (l->rx_off < c->len)
                        break;
                l->rx_off = 0;
                l->rx_first = (struct tls_chunk *)(void *)c->mail.next;
                if (!l->rx_first)
                        l->rx_last = &l->rx_first;
                __atomic_sub_fetch(&l->ahead, c->len, __ATOMIC_RELAXED);
                if (c->stalled && l->state == LINK_OPEN)
                        (void)tls_engine_read(l->stream); /* a failure ends the posted receive */
                mem_free(c);
        }
        l->in_rx = false;
}

static void run_chunk(struct mail *m)
{
        struct tls_chunk *c = container_of(m, struct tls_chunk, mail);
        struct link *l = c->owner;

        if (l->state != LINK_OPEN) {
                /* Nobody wants it any more; a stalled stream may stay so. */
                mem_free(c);
                return;
        }
        m->next = NULL;
        *l->rx_last = c;
        l->rx_last = (struct tls_chunk **)(void *)&m->next;
        rx_take(l);
}

void link_pause(struct link *l, bool paused)
{
        if (l->paused == paused)
                return;
        l->paused = paused;
        if (!paused && l->rx_first) {
                l->kick = true;
                if (l->state == LINK_OPEN)
                        link_mark_dirty(l);
        }
}

/* --- sending --- */

static void flush(struct link *l)
{
        int rc;

        if (!l->cork || l->cork->len == 0)
                return;
        rc = tls_engine_write(l->stream, &l->cork);
        if (rc)
                link_die(l, E_CLOSED, l->tls_why[0] ? l->tls_why : "the connection broke off");
        else if (l->cork) {
                mem_free(l->cork);
                l->cork = NULL;
        }
}

void link_turn(struct link *l)
{
        if (l->kick) {
                l->kick = false;
                rx_take(l);
        }
        if (l->wake && l->state < LINK_DEAD) {
                l->wake = false;
                if (l->ev && l->ev->on_turn)
                        l->ev->on_turn(l, l->arg);
        }
        if (l->state == LINK_OPEN || l->state == LINK_CLOSING)
                flush(l);
        if (l->state == LINK_CLOSING && link_queued_bytes(l) == 0)
                link_die(l, l->rc, l->why);
}

void link_wake(struct link *l)
{
        l->wake = true;
        if (l->state < LINK_DEAD)
                link_mark_dirty(l);
}

size_t link_queued_bytes(const struct link *l)
{
        return (l->cork ? l->cork->len : 0) + __atomic_load_n(&l->sink.queued, __ATOMIC_RELAXED);
}

static int cork_reserve(struct link *l, size_t n)
{
        size_t have = l->cork ? l->cork->len : 0, cap = l->cork ? l->cork->cap : 0, want = CORK_MIN;
        struct tls_tx *tx;

        if (have + n <= cap)
                return 0;
        while (want < have + n)
                want *= 2;
        tx = mem_realloc(l->cork, sizeof *tx + want);
        if (!tx)
                return -E_NOMEM;
        if (!l->cork)
                *tx = (struct tls_tx){0};
        tx->cap = want;
        l->cork = tx;
        return 0;
}

int link_send2(struct link *l, const void *a, size_t an, const void *b, size_t bn)
{
        size_t n = an + bn;
        uint8_t *p;
        int rc;

        if (l->state > LINK_OPEN)
                return -E_CLOSED;
        if (n > l->frame_max)
                return -E_TOOBIG;
        if (link_queued_bytes(l) + n + 4 > LINK_QUEUE_MAX)
                return -E_FULL;
        rc = cork_reserve(l, n + 4);
        if (rc)
                return rc;
        p = l->cork->data + l->cork->len;
        u32be_store(p, (uint32_t)n);
        if (an)
                memcpy(p + 4, a, an);
        if (bn)
                memcpy(p + 4 + an, b, bn);
        l->cork->len += n + 4;
        l->bytes_out += n + 4;
        if (l->state == LINK_OPEN && l->cork->len >= CORK_FLUSH)
                flush(l);
        else
                link_mark_dirty(l);
        return 0;
}

void link_set_frame_max(struct link *l, size_t bytes)
{
        l->frame_max = bytes < LINK_FRAME_MAX ? bytes : LINK_FRAME_MAX;
}

void link_set_arg(struct link *l, void *arg)
{
        l->arg = arg;
}

uint64_t link_bytes_in(const struct link *l)
{
        return l->bytes_in;
}

uint64_t link_bytes_out(const struct link *l)
{
        return l->bytes_out;
}

uv_loop_t *link_loop(const struct link *l)
{
        return l->net->loop;
}
