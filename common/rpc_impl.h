/* What the parts of rpc share. Loop thread. Not for other modules.
 *
 * A connection:   OPENING ──> READY ──> DRAINING ──> GONE
 *                    │          │   goodbye said or   ^
 *                    │          │   heard             │ the wire has closed
 *                    └──────────┴──> FAILED ──────────┘
 *                       a rule was broken: goodbye was said, the rest is ignored
 *
 * A call is in conn->calls while its stream is open. rpc_call_end() takes it out,
 * from wherever; on_end and the freeing follow at the end of the turn, so that
 * a call never goes away under a caller. */
#ifndef PHOTON_RPC_IMPL_H
#define PHOTON_RPC_IMPL_H

#include "common/list.h"
#include "common/map.h"
#include "common/rpc.h"
#include "common/rpc_frame.h"

#include "photon/v1/rpc.pb-c.h"

#define RPC_WIRE_BUDGET (256u << 10) /* DATA waits in its streams when so much is queued below */
#define RPC_SCRATCH_MAX 4096u        /* an idle connection keeps no more than this */
#define RPC_WIRE_PAUSE  (1u << 20)   /* a peer that reads nothing is not read from either */

/* What carries frames: a link, or memory in tests. */
struct rpc_wire {
        int (*send2)(void *w, const void *a, size_t an, const void *b, size_t bn);
        size_t (*queued)(const void *w);
        void (*pause)(void *w, bool on);
        void (*wake)(void *w); /* asks for rpc_wire_turn at the end of the turn */
        void (*close)(void *w, int linger_ms, int rc, const char *why); /* rpc_wire_closed follows */
        uint64_t (*bytes_in)(const void *w);
        uint64_t (*bytes_out)(const void *w);
};

enum rpc_conn_state { RPC_OPENING, RPC_READY, RPC_DRAINING, RPC_FAILED, RPC_GONE };

struct rpc_conn {
        const struct rpc_wire *wire;
        void *w;
        struct rpc_conn_options o;
        bool dialer; /* opens odd streams, the acceptor even ones */
        enum rpc_conn_state state;
        bool wire_open, got_preface, allowed, paused, goodbye_sent, goodbye_got;
        struct link_peer peer;
        uint8_t *peer_der;
        uv_timer_t timer;
        int64_t timer_at, preface_at, grace_at, last_rx, calls_at; /* loop time in ms, 0: none */
        uint64_t seen_in;
        size_t seen_queued;
        bool pinged;
        int64_t rtt_us;

        uint32_t version, next_id, last_peer_id;
        size_t peer_frame_max, peer_message_max, peer_stream_window, peer_max_streams;
        size_t n_ours, n_theirs; /* open streams by who opened them */
        int64_t send_credit, recv_window;
        size_t grant; /* taken by us, not yet granted again */

        struct map *calls;    /* by stream id */
        struct list all;      /* the same, in order of opening */
        struct list unsent;   /* opened, HEADERS not sent yet */
        struct list sendable; /* with queued messages, in turn */
        struct list waiting;  /* told -E_FULL */
        struct list ended;    /* on_end is due */
        uint64_t messages_in, messages_out;
        uint8_t *scratch; /* packs messages */
        size_t scratch_cap;

        int close_code; /* positive enum err_code */
        char close_why[512];
};

struct rpc_msg {
        struct rpc_msg *next;
        size_t n, off;
        uint8_t data[];
};

struct rpc_call {
        struct rpc_conn *conn;
        struct list in_all, in_unsent, in_sendable, in_waiting, in_ended;
        uint32_t id;
        bool ours, headers_sent, local_end, end_sent, remote_end, finishing, ended, hold, in_message;
        const struct rpc_call_events *ev;
        void *arg;
        char *method; /* ours, until HEADERS are sent */
        uint32_t timeout_ms;
        int64_t deadline; /* loop time in ms, 0: none */
        int64_t send_credit, recv_window;
        size_t grant, uncredited;
        struct rpc_msg *q_first, **q_last;
        uint8_t *in; /* a message in pieces */
        size_t in_len, in_cap;
        Photon__V1__CallHeader *header; /* theirs */
        Photon__V1__CallStatus *status; /* of ours, when it came */
        Photon__V1__Metadatum **out_md;
        size_t n_out_md, out_md_bytes;
        struct rpc_status st;
};

/* rpc_conn.c: from the wire */
int rpc_conn_create(uv_loop_t *loop, const struct rpc_wire *wire, void *w, bool dialer,
                    const struct rpc_conn_options *o, struct rpc_conn **out);
void rpc_wire_opened(struct rpc_conn *c, const struct link_peer *peer);
void rpc_wire_frame(struct rpc_conn *c, const uint8_t *p, size_t n);
void rpc_wire_drained(struct rpc_conn *c);
void rpc_wire_turn(struct rpc_conn *c);
void rpc_wire_closed(struct rpc_conn *c, int rc, const char *why);

/* rpc_conn.c: among ourselves */
void rpc_conn_fail(struct rpc_conn *c, int code, const char *why);
void rpc_control(struct rpc_conn *c, uint8_t type, uint32_t stream, const void *p, size_t n);
void rpc_control_msg(struct rpc_conn *c, uint8_t type, uint32_t stream, const ProtobufCMessage *m);
void rpc_conn_timer(struct rpc_conn *c, int64_t at); /* wakes at `at` or before */
void rpc_conn_settle(struct rpc_conn *c);            /* after a call ended: goes on with a goodbye */
int64_t rpc_now(const struct rpc_conn *c);
uint8_t *rpc_pack(struct rpc_conn *c, const ProtobufCMessage *m,
                  size_t *n); /* into scratch; NULL: no memory */

/* rpc_keepalive.c */
void rpc_check_alive(struct rpc_conn *c, int64_t now);

/* rpc_call.c */
struct rpc_call *rpc_call_create(struct rpc_conn *c, uint32_t id, bool ours);
/* Ends the stream here: nothing more is sent or delivered. code is positive or 0. */
void rpc_call_end(struct rpc_call *call, int code, const char *message);
/* The same, and tells the peer: with STATUS if it opened the stream, else with CANCEL. */
void rpc_call_abort(struct rpc_call *call, int code, const char *message);
void rpc_call_reap(struct rpc_conn *c);
void rpc_call_expire(struct rpc_conn *c, int64_t now);
void rpc_call_set_timeout(struct rpc_call *call, uint32_t timeout_ms); /* 0: none */
bool rpc_metadata_ok(Photon__V1__Metadatum *const *md, size_t n);

/* rpc_send.c */
void rpc_send_headers(struct rpc_call *call);
void rpc_send_status(struct rpc_call *call);
void rpc_pump(struct rpc_conn *c);
void rpc_drop_queue(struct rpc_call *call);
void rpc_grant(struct rpc_conn *c, struct rpc_call *call, size_t bytes); /* call may be NULL */
void rpc_on_credit(struct rpc_conn *c, struct rpc_call *call, uint32_t bytes);

/* rpc_recv.c */
void rpc_recv_headers(struct rpc_conn *c, const struct rpc_frame *f);
void rpc_recv_stream(struct rpc_conn *c, const struct rpc_frame *f);

#endif
