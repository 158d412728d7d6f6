/* gRPC-style calls over a link: many streams on one connection, either side may
 * open them; deadlines, cancellation, metadata, credit per stream and per
 * connection, gRPC status codes, keepalive, goodbye. See proto/PROTOCOL.md.
 * Loop thread only.
 *
 * A call ends exactly once, with on_end. Unary and streaming calls differ only
 * in how many messages travel: unary = one rpc_send + rpc_send_end each way. */
#ifndef PHOTON_RPC_H
#define PHOTON_RPC_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/link.h"

struct rpc_conn;
struct rpc_call;
struct rpc_method;

#define RPC_MESSAGE_MAX   (16u << 20) /* one message, all its frames; larger: the call ends, -E_TOOBIG */
#define RPC_STREAM_WINDOW (256u << 10)
#define RPC_CONN_WINDOW   (4u << 20)
#define RPC_MAX_STREAMS   4096
#define RPC_METADATA_MAX  (16u << 10) /* keys and values of one header or status */
#define RPC_METADATA_KEYS 64
#define RPC_METHOD_MAX    256
#define RPC_FRAME_MAX     (64u << 10) /* payload of one frame; longer messages are split */
#define RPC_PREFACE_MS    5000
#define RPC_GOODBYE_MS    1000 /* an answer to goodbye is waited for so long */

struct rpc_status {
        int code; /* enum err_code, 0: ok */
        char message[512];
};

/* Callbacks of one call; unset ones are skipped. */
struct rpc_call_events {
        /* One whole message; bytes are lent. Its credit returns to the peer when
         * the callback returns, unless rpc_hold_credit(call, true). */
        void (*on_message)(struct rpc_call *c, const uint8_t *p, size_t n, void *arg);
        void (*on_peer_end)(struct rpc_call *c, void *arg); /* the peer will send no more */
        void (*on_writable)(struct rpc_call *c, void *arg); /* credit came after an -E_FULL */
        /* Final; the call is gone when it returns. On the server side: cancelled
         * by the client, deadline, connection lost, or after rpc_finish. */
        void (*on_end)(struct rpc_call *c, const struct rpc_status *st, void *arg);
};

struct rpc_service_method {
        const char *name; /* "photon.v1.Agent/Hello"; the table ends with NULL */
        /* Called when the header arrives: set events with rpc_set_events. */
        void (*on_call)(struct rpc_conn *conn, struct rpc_call *c, void *conn_arg);
        bool before_ready; /* may be called before rpc_conn_allow(conn) (all else: failed_precondition) */
};

struct rpc_conn_options {
        const struct rpc_service_method *methods; /* what the peer may call; may be NULL */
        const char *software;
        int keepalive_ms;   /* ping when silent this long; 0: never. Dead after twice this without a byte. */
        int preface_ms;     /* the peer's preface must come in this time; 0: RPC_PREFACE_MS */
        int max_streams;    /* by the peer; 0: RPC_MAX_STREAMS */
        size_t message_max; /* by the peer; 0: RPC_MESSAGE_MAX. Small for peers without certificate. */
        /* tests: */
        uint32_t version_min, version_max; /* 0: PHOTON_PROTO_MIN/MAX */
        void (*on_ready)(struct rpc_conn *c, const struct link_peer *peer,
                         void *arg); /* both prefaces exchanged */
        void (*on_goodbye)(struct rpc_conn *c, const char *why, void *arg);
        void (*on_close)(struct rpc_conn *c, int rc, const char *why,
                         void *arg); /* final, calls have ended; conn is gone after */
        void *arg;
};

/* Server: use inside link_listener_options.on_accept. Client: rpc_dial. */
int rpc_accept(struct link *l, const struct rpc_conn_options *o, const struct link_events **ev, void **ev_arg,
               struct rpc_conn **out);
int rpc_dial(struct link_net *net, const char *host_port, const struct link_tls *tls, int deadline_ms,
             const struct rpc_conn_options *o, struct rpc_conn **out, struct err *e);

void rpc_conn_allow(struct rpc_conn *c,
                    bool on); /* opens all methods, default only before_ready ones if any has it */
void *rpc_conn_arg(const struct rpc_conn *c);
void rpc_conn_set_keepalive(struct rpc_conn *c, int ms); /* what the peer asked for; as keepalive_ms */
const struct link_peer *rpc_conn_peer(const struct rpc_conn *c);
/* Says goodbye, lets open calls finish up to grace_ms, then closes; on_close follows. */
void rpc_conn_close(struct rpc_conn *c, int grace_ms, int code, const char *why);
struct rpc_conn_stats {
        uint64_t bytes_in, bytes_out, messages_in, messages_out;
        size_t streams;
        int64_t rtt_us;
};
void rpc_conn_stats(const struct rpc_conn *c, struct rpc_conn_stats *out);

/* Client side of a call. timeout_ms 0: none (the deadline travels and is enforced on both sides). */
int rpc_call_open(struct rpc_conn *conn, const char *method, int timeout_ms, const struct rpc_call_events *ev,
                  void *arg, struct rpc_call **out);
/* One request, one reply: on_reply gets the reply's bytes (status ok) or NULL. */
int rpc_unary(struct rpc_conn *conn, const char *method, const ProtobufCMessage *req, int timeout_ms,
              void (*on_reply)(const struct rpc_status *st, const uint8_t *p, size_t n, void *arg),
              void *arg);

/* Both sides. */
void rpc_set_events(struct rpc_call *c, const struct rpc_call_events *ev, void *arg);
void *rpc_call_arg(const struct rpc_call *c);
struct rpc_conn *rpc_call_conn(const struct rpc_call *c);
const char *rpc_call_metadata(const struct rpc_call *c, const char *key, size_t *out_len); /* NULL: absent */
int rpc_call_add_metadata(struct rpc_call *c, const char *key, const void *v,
                          size_t n); /* before the first send */
/* 0: queued (the message is copied). -E_FULL: no credit, nothing queued; on_writable follows. -E_CLOSED.
 * -E_TOOBIG. A message may be queued whole when any credit is left (credit goes negative), so large ones do
 * not deadlock. */
int rpc_send(struct rpc_call *c, const ProtobufCMessage *m);
int rpc_send_bytes(struct rpc_call *c, const void *p, size_t n);
int64_t rpc_credit(const struct rpc_call *c);                       /* bytes that may be sent now */
void rpc_send_end(struct rpc_call *c);                              /* client: half-close */
void rpc_finish(struct rpc_call *c, int code, const char *message); /* server: status; code 0 ok */
int rpc_reply(struct rpc_call *c, const ProtobufCMessage *m);       /* server unary: send + finish(0) */
void rpc_cancel(struct rpc_call *c, const char *why); /* either side; on_end follows on the next turn */
void rpc_hold_credit(struct rpc_call *c, bool hold);
void rpc_return_credit(struct rpc_call *c, size_t bytes);

/* Unpacks with limits checked (depth, UTF-8 of string fields); NULL: malformed. Free with
 * protobuf_c_message_free_unpacked(m, NULL). */
ProtobufCMessage *rpc_unpack(const ProtobufCMessageDescriptor *d, const uint8_t *p, size_t n);

#endif
