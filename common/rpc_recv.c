/* What arrives on streams. A frame for a stream that is no longer open is normal
 * (the two ends do not close at the same instant) and only its credit matters;
 * one that an honest peer could never send ends the connection. */
#include <string.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/mem.h"
#include "common/rpc_impl.h"
#include "common/str.h"

/* --- opening --- */

static void refuse(struct rpc_conn *c, uint32_t stream, int code, const char *message)
{
        Photon__V1__CallStatus m = PHOTON__V1__CALL_STATUS__INIT;

        m.code = (uint32_t)err_to_grpc(code);
        m.error = (char *)err_name(code);
        m.message = (char *)message;
        rpc_control_msg(c, RPC_STATUS, stream, &m.base);
}

static const struct rpc_service_method *find_method(const struct rpc_conn *c, const char *name)
{
        for (const struct rpc_service_method *m = c->o.methods; m && m->name; m++) {
                if (strcmp(m->name, name) == 0)
                        return m;
        }
        return NULL;
}

static void open_stream(struct rpc_conn *c, uint32_t stream, Photon__V1__CallHeader *h)
{
        const struct rpc_service_method *m = find_method(c, h->method);
        struct rpc_call *call = NULL;

        if (c->state == RPC_DRAINING)
                refuse(c, stream, E_UNAVAIL, "the connection is being closed");
        else if (!m)
                refuse(c, stream, E_NOTSUP, "there is no such method here");
        else if (!c->allowed && !m->before_ready)
                refuse(c, stream, E_STATE, "this method may not be called yet");
        else if (!rpc_metadata_ok(h->metadata, h->n_metadata))
                refuse(c, stream, E_INVAL, "the metadata is malformed or too large");
        else if (c->n_theirs >= (size_t)c->o.max_streams)
                refuse(c, stream, E_FULL, "too many streams are open");
        else if (!(call = rpc_call_create(c, stream, false)))
                refuse(c, stream, E_NOMEM, "no memory for the call");
        if (!call) {
                protobuf_c_message_free_unpacked(&h->base, NULL);
                return;
        }
        call->header = h;
        call->headers_sent = true;
        rpc_call_set_timeout(call, h->timeout_ms);
        m->on_call(c, call, c->o.arg);
}

void rpc_recv_headers(struct rpc_conn *c, const struct rpc_frame *f)
{
        Photon__V1__CallHeader *h;

        if (f->stream % 2 == (c->dialer ? 1 : 0)) {
                rpc_conn_fail(c, E_PROTO, "a stream was opened with a number that is not the peer's to use");
                return;
        }
        if (f->stream <= c->last_peer_id) {
                rpc_conn_fail(c, E_PROTO, "a stream number was used again");
                return;
        }
        c->last_peer_id = f->stream;
        h = (Photon__V1__CallHeader *)rpc_unpack(&photon__v1__call_header__descriptor, f->p, f->n);
        if (!h) {
                rpc_conn_fail(c, E_PROTO, "the header of a call is malformed");
                return;
        }
        open_stream(c, f->stream, h);
}

/* --- messages --- */

static void deliver(struct rpc_call *call, const uint8_t *p, size_t n)
{
        call->conn->messages_in++;
        if (call->ev && call->ev->on_message && !call->finishing)
                call->ev->on_message(call, p, n, call->arg);
        if (!call->hold)
                rpc_return_credit(call, n);
}

static int assemble(struct rpc_call *call, const uint8_t *p, size_t n)
{
        size_t cap = call->in_cap ? call->in_cap : 2 * (size_t)RPC_FRAME_MAX;
        uint8_t *bigger;

        while (cap < call->in_len + n)
                cap *= 2;
        if (cap > call->in_cap) {
                bigger = mem_realloc(call->in, cap);
                if (!bigger)
                        return -E_NOMEM;
                call->in = bigger;
                call->in_cap = cap;
        }
        if (n)
                memcpy(call->in + call->in_len, p, n);
        call->in_len += n;
        return 0;
}

static void recv_data(struct rpc_call *call, const struct rpc_frame *f)
{
        struct rpc_conn *c = call->conn;
        bool more = f->flags & RPC_FLAG_MORE;
        uint8_t *whole;
        size_t n;

        if (call->remote_end) {
                rpc_conn_fail(c, E_PROTO, "a message came after the end of its stream");
                return;
        }
        if (call->in_len == 0 && call->recv_window <= 0) {
                rpc_conn_fail(c, E_PROTO, "a message was sent without credit for its stream");
                return;
        }
        call->recv_window -= (int64_t)f->n;
        call->uncredited += f->n;
        if (call->in_len + f->n > c->o.message_max) {
                rpc_call_abort(call, E_TOOBIG, "a message is larger than allowed");
                return;
        }
        if (!more && call->in_len == 0) {
                deliver(call, f->p, f->n);
                return;
        }
        if (assemble(call, f->p, f->n) != 0) {
                rpc_call_abort(call, E_NOMEM, "no memory for a message");
                return;
        }
        if (more)
                return;
        whole = call->in;
        n = call->in_len;
        call->in = NULL;
        call->in_len = call->in_cap = 0;
        deliver(call, whole, n); /* the call is freed at the end of the turn at the earliest */
        mem_free(whole);
}

static int code_of(const Photon__V1__CallStatus *st)
{
        int code;

        if (st->code == 0)
                return 0;
        code = st->error[0] ? err_from_name(st->error) : E_INTERNAL;
        if (code != E_INTERNAL || strcmp(st->error, err_name(E_INTERNAL)) == 0)
                return code;
        /* A name from a newer peer: the number is at least near. */
        for (code = 1; code < E_MAX_CODE; code++) {
                if (err_to_grpc(code) == (int)st->code)
                        return code;
        }
        return E_INTERNAL;
}

static void recv_ending(struct rpc_call *call, const struct rpc_frame *f)
{
        struct rpc_conn *c = call->conn;
        Photon__V1__CallStatus *st;
        int code;

        if (f->type == RPC_STATUS && !call->ours) {
                rpc_conn_fail(c, E_PROTO, "a status came from the side that opened the stream");
                return;
        }
        st = (Photon__V1__CallStatus *)rpc_unpack(&photon__v1__call_status__descriptor, f->p, f->n);
        if (!st || !rpc_metadata_ok(st->metadata, st->n_metadata)) {
                protobuf_c_message_free_unpacked(st ? &st->base : NULL, NULL);
                rpc_conn_fail(c, E_PROTO, "a status is malformed");
                return;
        }
        call->status = call->status ? call->status : st;
        code = code_of(st);
        if (f->type == RPC_CANCEL && code == 0)
                code = E_CANCELLED;
        if (f->type == RPC_STATUS && call->in_len && code == 0)
                rpc_call_end(call, E_PROTO, "the call ended in the middle of a message");
        else
                rpc_call_end(call, code, st->message);
        if (call->status != st)
                protobuf_c_message_free_unpacked(&st->base, NULL);
}

static void recv_end(struct rpc_call *call)
{
        if (call->ours || call->remote_end || call->in_len) {
                rpc_conn_fail(call->conn, E_PROTO,
                              "a stream was ended by the wrong side, twice, or within a message");
                return;
        }
        call->remote_end = true;
        if (call->ev && call->ev->on_peer_end && !call->finishing)
                call->ev->on_peer_end(call, call->arg);
}

/* False: no honest peer sends this. */
static bool was_open(const struct rpc_conn *c, uint32_t stream)
{
        bool ours = stream % 2 == (c->dialer ? 1 : 0);

        return ours ? stream < c->next_id : stream <= c->last_peer_id;
}

void rpc_recv_stream(struct rpc_conn *c, const struct rpc_frame *f)
{
        struct rpc_call *call = map_get_u64(c->calls, f->stream);

        if (!call && !was_open(c, f->stream)) {
                rpc_conn_fail(c, E_PROTO, "a frame belongs to a stream that was never opened");
                return;
        }
        if (f->type == RPC_DATA) {
                c->recv_window -= (int64_t)f->n;
                /* One message may begin with any credit left and overdraw it by its size. */
                if (c->recv_window < -(int64_t)c->o.message_max) {
                        rpc_conn_fail(c, E_PROTO, "more was sent than the connection had credit for");
                        return;
                }
                if (!call)
                        rpc_grant(c, NULL, f->n);
        }
        if (!call)
                return;
        switch (f->type) {
        case RPC_DATA:
                recv_data(call, f);
                break;
        case RPC_CREDIT:
                rpc_on_credit(c, call, u32be_load(f->p));
                break;
        case RPC_END:
                recv_end(call);
                break;
        default:
                recv_ending(call, f);
                break;
        }
}
