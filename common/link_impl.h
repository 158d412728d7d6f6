/* What link.c, link_net.c, link_listen.c and link_dial.c share. Loop thread, except
 * where a field says otherwise. Not for other modules.
 *
 *      link_dial ──> DIALING ──> HANDSHAKE ──> OPEN ──> CLOSING ──> DEAD ──> ENDED
 *      accept ──────────────────────^  |        |  ^ linger: flush, then  ^  on_close was
 *                                      └────────┴─────────────────────────┘  delivered
 *
 * link_die() moves to DEAD from anywhere. Then the stream is closed and all that
 * is under way (`pending`: posted aios, the dial) reports its end by mail;
 * after the last of them one more mail is sent through the same mailbox, so
 * that everything NNG's threads posted before has been seen when it ends the link. */
#ifndef PHOTON_LINK_IMPL_H
#define PHOTON_LINK_IMPL_H

#include <nng/nng.h>
#include <nng/supplemental/tls/tls.h>

#include "common/link.h"
#include "common/list.h"
#include "common/mailbox.h"
#include "common/tls_engine.h"

struct link_net {
        uv_loop_t *loop;
        struct mailbox *mb;
        uv_prepare_t prepare; /* end of turn: before the loop waits ... */
        uv_check_t check;     /* ... and after it has run what came */
        struct list dirty;    /* links with something to do at the end of the turn */
        struct list links, listeners;
        int handles; /* of ours, still open */
        bool closing;
        void (*on_closed)(void *arg);
        void *arg;
};

struct link_listener {
        struct list in_net;
        struct link_net *net;
        nng_stream_listener *nl;
        nng_aio *aio;
        struct mail mail; /* the posted accept has ended */
        struct list links;
        struct list silent; /* accepted, and nothing heard; oldest first */
        size_t n_links, n_silent, n_handshakes, max_links;
        size_t n_dying; /* never got open, and NNG has not let go of them yet */
        bool posted, closed, pumping;
        int64_t complained_ms;
        uv_timer_t retry;
        int (*on_accept)(struct link *l, const struct link_events **ev, void **arg, void *ctx);
        void *ctx;
};

struct link_resolve; /* link_dial.c: a name look-up that may outlive its link */

struct link_dialing {
        char host[256], port[8];
        nng_tls_config *cfg;
        nng_stream_dialer *dialer;
        nng_aio *aio;
        struct mail mail; /* the posted dial has ended */
        struct link_resolve *resolve;
        struct addrinfo *found, *next;
        char last_error[128];
};

enum link_state { LINK_DIALING, LINK_HANDSHAKE, LINK_OPEN, LINK_CLOSING, LINK_DEAD, LINK_ENDED };

struct link {
        struct tls_sink sink; /* first; called on NNG's threads */
        struct link_net *net;
        struct link_listener *ll; /* NULL: dialled, or the listener is gone */
        struct list in_net, in_ll, in_silent, dirty;
        enum link_state state;
        bool counted;         /* among ll->n_handshakes */
        bool dying;           /* among ll->n_dying */
        uint64_t accepted_ms; /* loop time */
        nng_stream *stream;
        nng_aio *rx_aio, *tx_aio; /* posted once, for the life of the stream */
        struct mail hello_mail, open_mail, drain_mail, rx_end, tx_end, final;
        bool drain_posted; /* atomic: drain_mail is in the mailbox */
        size_t ahead;      /* atomic: bytes in chunks the loop has not taken */
        int pending;
        bool freed, timer_closed, paused, wake, kick, in_rx, peer_lost;

        const struct link_events *ev;
        void *arg;
        struct link_peer peer;
        uint8_t *peer_der;
        struct link_dialing *dial;
        uv_timer_t timer; /* handshake, dial or linger deadline */

        struct tls_tx *cork;
        size_t frame_max;
        uint64_t bytes_in, bytes_out;

        struct tls_chunk *rx_first, **rx_last; /* received and not yet taken; mail.next links them */
        size_t rx_off;                         /* taken of rx_first */
        uint8_t *part;                         /* a frame that came in pieces, with its length */
        size_t part_len, part_cap;

        int rc;
        char why[256];
        char tls_why[192]; /* written by the engine before the mail that ends the stream */
};

/* link.c */
int link_create(struct link_net *net, struct link_listener *ll, struct link **out);
int link_start(struct link *l, nng_stream *s); /* takes s; posts the aios, begins the handshake */
void link_die(struct link *l, int rc, const char *why);
void link_unpend(struct link *l); /* one pending thing has ended */
void link_set_events(struct link *l, const struct link_events *ev, void *arg);
void link_arm(struct link *l, int ms);
void link_turn(struct link *l);     /* end of the loop turn */
void link_hs_leave(struct link *l); /* no longer counted as being in its handshake */

/* link_dial.c */
void link_dial_abort(struct link *l); /* the link is DEAD: end what is under way */
void link_dial_free(struct link *l);

/* link_listen.c */
void link_listener_pump(struct link_listener *ll); /* posts an accept if there is room */

/* link_net.c */
void link_mark_dirty(struct link *l);
void link_net_maybe_closed(struct link_net *net);

/* "host:port", "[::1]:7440"; -E_INVAL. */
int link_split_address(const char *host_port, char host[256], char port[8], struct err *e);
int link_err_from_nng(int rv); /* positive E_ code */

#endif
