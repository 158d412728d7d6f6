/* Frames over an mTLS byte stream: the only code (with tls_engine.c) that calls NNG.
 *
 * A link carries length-framed messages: u32 big-endian length, then that many bytes.
 * NNG's threads read ahead up to a high-water mark and hand frames to the
 * loop; writes are corked and flushed once per loop turn. All functions and
 * callbacks are loop thread only. After on_close nothing else is called; the
 * link is then freed by link_free (allowed inside on_close's stack: freeing is deferred). */
#ifndef PHOTON_LINK_H
#define PHOTON_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct err;
struct link;
struct link_net;
struct link_listener;
struct mailbox;

#define LINK_FRAME_MAX      (1u << 20) /* largest frame; longer lengths close the link with -E_TOOBIG */
#define LINK_QUEUE_LOW      (128u << 10)
#define LINK_QUEUE_MAX      (4u << 20) /* high-water mark of the send queue */
#define LINK_READ_AHEAD     (1u << 20) /* bytes received and not yet taken by the loop */
#define LINK_HANDSHAKE_MS   5000
#define LINK_HANDSHAKES_MAX 64  /* of one listener, begun and not done: more wait in the kernel */
#define LINK_SILENT_MAX     256 /* accepted, nothing said yet: the oldest goes when there are more */
#define LINK_SILENT_MS      200 /* unless it is younger than this */

/* Who is at the other end, from the TLS session itself. */
struct link_peer {
        const uint8_t *cert_der; /* NULL: no client certificate (enrolment) */
        size_t cert_len;
        char address[64]; /* "127.0.0.1:54321" */
};

struct link_events {
        /* Handshake done and verified. Before this no frame is delivered. */
        void (*on_open)(struct link *l, const struct link_peer *peer, void *arg);
        /* The bytes are lent for the call. */
        void (*on_frame)(struct link *l, const uint8_t *p, size_t n, void *arg);
        /* The send queue fell below LINK_QUEUE_LOW or ran empty; may also come uncalled for. */
        void (*on_drain)(struct link *l, void *arg);
        /* Once after link_wake: at the end of the loop turn, outside of every other
         * callback, just before what was queued is flushed. */
        void (*on_turn)(struct link *l, void *arg);
        /* Final. rc: 0 the peer closed, else -E_*; `why` for the log. */
        void (*on_close)(struct link *l, int rc, const char *why, void *arg);
};

/* One end's TLS identity. PEM texts are copied. */
struct link_tls {
        const char *ca_pem;   /* NULL: no verification (only to fetch the CA) */
        const char *cert_pem; /* NULL: none */
        const char *key_pem;
        bool require_peer;       /* server: demand and verify a clientAuth certificate */
        const char *server_name; /* client: host name or IP that the SANs must contain */
        int64_t (*now_us)(void); /* NULL: system clock; validity checks */
};

/* Registers the TLS engine (fails closed: -E_INTERNAL if NNG does not take it),
 * one per process and loop. */
int link_net_create(uv_loop_t *loop, struct link_net **out, struct err *e);
void link_net_close(struct link_net *net, void (*on_closed)(void *arg), void *arg);

/* on_accept is asked for each new link before its handshake: fill ev/arg.
 * Handshake deadline 5 s, at most LINK_HANDSHAKES_MAX at once; at most max_links open. */
struct link_listener_options {
        const char *host_port; /* "0.0.0.0:7440", "[::1]:0" */
        size_t max_links;
        int (*on_accept)(struct link *l, const struct link_events **ev, void **arg, void *ctx);
        void *ctx;
};
int link_listen(struct link_net *net, const struct link_listener_options *o, const struct link_tls *tls,
                struct link_listener **out, struct err *e);
int link_listener_port(const struct link_listener *ll);
/* New connections use the new identity (certificate renewal of the hub). */
int link_listener_set_tls(struct link_listener *ll, const struct link_tls *tls, struct err *e);
void link_listener_close(struct link_listener *ll);

/* Dials once; failure arrives as on_close. deadline_ms covers connect and handshake. */
int link_dial(struct link_net *net, const char *host_port, const struct link_tls *tls, int deadline_ms,
              const struct link_events *ev, void *arg, struct link **out, struct err *e);

/* Queues one frame made of two parts (either may be empty). 0; -E_FULL: over the
 * high-water mark, nothing queued, wait for on_drain; -E_CLOSED. */
int link_send2(struct link *l, const void *a, size_t an, const void *b, size_t bn);
size_t link_queued_bytes(const struct link *l);
/* No more on_frame until resumed: back-pressure reaches the peer's TCP. */
/* Of the peer, known from the accept on; "" when it cannot be told. */
const char *link_address(const struct link *l);
/* Accepted, and the peer has not said a byte. */
bool link_is_silent(const struct link *l);
void link_pause(struct link *l, bool paused);
/* Sends what is queued (bounded by linger_ms), then closes; on_close follows. 0: at once. */
void link_close(struct link *l, int linger_ms, int rc, const char *why);
void link_free(struct link *l);

/* A smaller largest frame, both ways. Inside on_accept, or right after link_dial. */
void link_set_frame_max(struct link *l, size_t bytes);
void link_wake(struct link *l);                /* asks for on_turn */
void link_set_arg(struct link *l, void *arg);  /* right after link_dial */
uint64_t link_bytes_in(const struct link *l);  /* payload and framing, after TLS */
uint64_t link_bytes_out(const struct link *l); /* queued so far */
uv_loop_t *link_loop(const struct link *l);

#endif
