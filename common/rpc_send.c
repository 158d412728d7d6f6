/* What leaves: headers, messages cut into frames, credit, status. A message
 * goes straight to the wire if nothing waits before it, else to its call's queue;
 * calls with queues take turns, one frame each. */
#include <stdio.h>
#include <string.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/mem.h"
#include "common/rpc_impl.h"

void rpc_send_headers(struct rpc_call *call)
{
        Photon__V1__CallHeader m = PHOTON__V1__CALL_HEADER__INIT;

        if (call->headers_sent || list_empty(&call->in_unsent))
                return;
        /* Streams are opened on the wire in the order of their numbers. */
        while (call->conn->unsent.next != &call->in_unsent)
                rpc_send_headers(container_of(call->conn->unsent.next, struct rpc_call, in_unsent));
        list_remove(&call->in_unsent);
        call->headers_sent = true;
        m.method = call->method;
        m.timeout_ms = call->timeout_ms;
        m.metadata = call->out_md;
        m.n_metadata = call->n_out_md;
        rpc_control_msg(call->conn, RPC_HEADERS, call->id, &m.base);
        mem_free(call->method);
        call->method = NULL;
}

void rpc_send_status(struct rpc_call *call)
{
        Photon__V1__CallStatus m = PHOTON__V1__CALL_STATUS__INIT;
        char text[sizeof call->st.message];

        m.code = (uint32_t)(call->st.code ? err_to_grpc(call->st.code) : 0);
        m.message = call->st.message;
        m.error = (char *)(call->st.code ? err_name(call->st.code) : "");
        m.metadata = call->out_md;
        m.n_metadata = call->n_out_md;
        rpc_control_msg(call->conn, RPC_STATUS, call->id, &m.base);
        memcpy(text, call->st.message, sizeof text); /* rpc_call_end writes there */
        rpc_call_end(call, call->st.code, text);
}

/* --- messages --- */

static int send_data(struct rpc_call *call, const uint8_t *p, size_t n, bool more)
{
        uint8_t head[RPC_FRAME_HEAD];

        rpc_frame_head(head, RPC_DATA, more ? RPC_FLAG_MORE : 0, call->id);
        return call->conn->wire->send2(call->conn->w, head, sizeof head, p, n);
}

/* The queue is empty: what was to follow the last message follows. */
static void after_queue(struct rpc_call *call)
{
        if (call->finishing) {
                rpc_send_status(call);
        } else if (call->local_end && !call->end_sent && call->ours) {
                call->end_sent = true;
                rpc_control(call->conn, RPC_END, call->id, NULL, 0);
        }
}

/* One frame. False: the wire takes no more now. */
static bool send_next(struct rpc_call *call)
{
        struct rpc_msg *m = call->q_first;
        size_t left = m->n - m->off, n = left;

        if (n > call->conn->peer_frame_max)
                n = call->conn->peer_frame_max;
        if (send_data(call, m->data + m->off, n, n < left) != 0)
                return false;
        m->off += n;
        if (m->off == m->n) {
                call->q_first = m->next;
                if (!call->q_first)
                        call->q_last = &call->q_first;
                mem_free(m);
        }
        return true;
}

void rpc_pump(struct rpc_conn *c)
{
        while (!list_empty(&c->sendable) && c->wire->queued(c->w) < RPC_WIRE_BUDGET) {
                struct rpc_call *call = container_of(c->sendable.next, struct rpc_call, in_sendable);

                if (!send_next(call))
                        return;
                list_remove(&call->in_sendable);
                if (call->q_first)
                        list_push_back(&c->sendable, &call->in_sendable);
                else
                        after_queue(call);
        }
}

void rpc_drop_queue(struct rpc_call *call)
{
        while (call->q_first) {
                struct rpc_msg *m = call->q_first;

                call->q_first = m->next;
                mem_free(m);
        }
        call->q_last = &call->q_first;
}

int64_t rpc_credit(const struct rpc_call *call)
{
        int64_t n = call->send_credit < call->conn->send_credit ? call->send_credit : call->conn->send_credit;

        return n > 0 && !call->ended ? n : 0;
}

static int queue_message(struct rpc_call *call, const void *p, size_t n)
{
        struct rpc_conn *c = call->conn;
        struct rpc_msg *m = mem_alloc(sizeof *m + n);

        if (!m)
                return -E_NOMEM;
        m->next = NULL;
        m->n = n;
        m->off = 0;
        if (n)
                memcpy(m->data, p, n);
        *call->q_last = m;
        call->q_last = &m->next;
        if (list_empty(&call->in_sendable))
                list_push_back(&c->sendable, &call->in_sendable);
        /* While the wire is full its on_drain calls the pump. */
        if (c->wire->queued(c->w) < RPC_WIRE_BUDGET)
                c->wire->wake(c->w);
        return 0;
}

int rpc_send_bytes(struct rpc_call *call, const void *p, size_t n)
{
        struct rpc_conn *c = call->conn;
        int rc = 0;

        if (call->ended || call->local_end || call->finishing)
                return -E_CLOSED;
        if (n > c->peer_message_max)
                return -E_TOOBIG;
        if (rpc_credit(call) <= 0) {
                if (list_empty(&call->in_waiting))
                        list_push_back(&c->waiting, &call->in_waiting);
                return -E_FULL;
        }
        if (call->ours)
                rpc_send_headers(call);
        if (list_empty(&c->sendable) && n <= c->peer_frame_max && c->wire->queued(c->w) < RPC_WIRE_BUDGET) {
                rc = send_data(call, p, n, false);
                if (rc == -E_FULL)
                        rc = queue_message(call, p, n);
        } else {
                rc = queue_message(call, p, n);
        }
        if (rc)
                return rc;
        call->send_credit -= (int64_t)n;
        c->send_credit -= (int64_t)n;
        c->messages_out++;
        return 0;
}

int rpc_send(struct rpc_call *call, const ProtobufCMessage *m)
{
        size_t n;
        const uint8_t *p;
        uint8_t *own;
        int rc;

        if (call->ended || call->local_end || call->finishing)
                return -E_CLOSED;
        /* Headers are packed into the same scratch memory: send them first. */
        if (call->ours && rpc_credit(call) > 0)
                rpc_send_headers(call);
        n = protobuf_c_message_get_packed_size(m);
        if (n <= RPC_SCRATCH_MAX) {
                p = rpc_pack(call->conn, m, &n);
                return p ? rpc_send_bytes(call, p, n) : -E_NOMEM;
        }
        if (n > call->conn->peer_message_max)
                return -E_TOOBIG;
        own = mem_alloc(n); /* large ones do not stay in the scratch memory */
        if (!own)
                return -E_NOMEM;
        protobuf_c_message_pack(m, own);
        rc = rpc_send_bytes(call, own, n);
        mem_free(own);
        return rc;
}

void rpc_send_end(struct rpc_call *call)
{
        if (call->ended || call->local_end || !call->ours)
                return;
        rpc_send_headers(call);
        call->local_end = true;
        list_remove(&call->in_waiting);
        if (!call->q_first)
                after_queue(call);
}

void rpc_finish(struct rpc_call *call, int code, const char *message)
{
        if (call->ended || call->finishing || call->ours)
                return;
        call->finishing = true;
        call->st.code = code < 0 ? -code : code;
        snprintf(call->st.message, sizeof call->st.message, "%s", message ? message : "");
        list_remove(&call->in_waiting);
        if (!call->q_first)
                after_queue(call);
}

int rpc_reply(struct rpc_call *call, const ProtobufCMessage *m)
{
        int rc = rpc_send(call, m);

        if (rc == 0)
                rpc_finish(call, 0, "");
        else if (rc != -E_CLOSED)
                rpc_finish(call, rc, "the reply could not be sent");
        return rc;
}

/* --- credit --- */

static void send_credit(struct rpc_conn *c, uint32_t stream, size_t n)
{
        uint8_t p[4];

        u32be_store(p, (uint32_t)n);
        rpc_control(c, RPC_CREDIT, stream, p, sizeof p);
}

/* In larger steps than messages: a quarter of a window at a time. */
void rpc_grant(struct rpc_conn *c, struct rpc_call *call, size_t bytes)
{
        c->grant += bytes;
        if (c->grant >= RPC_CONN_WINDOW / 4 && c->state != RPC_GONE && c->state != RPC_FAILED) {
                send_credit(c, 0, c->grant);
                c->recv_window += (int64_t)c->grant;
                c->grant = 0;
        }
        if (!call || call->ended)
                return;
        call->grant += bytes;
        if (call->grant >= RPC_STREAM_WINDOW / 4 && !call->remote_end) {
                send_credit(c, call->id, call->grant);
                call->recv_window += (int64_t)call->grant;
                call->grant = 0;
        }
}

void rpc_hold_credit(struct rpc_call *call, bool hold)
{
        call->hold = hold;
}

void rpc_return_credit(struct rpc_call *call, size_t bytes)
{
        if (call->ended)
                return;
        if (bytes > call->uncredited - call->in_len)
                bytes = call->uncredited - call->in_len;
        call->uncredited -= bytes;
        rpc_grant(call->conn, call, bytes);
}

static void wake_waiting(struct rpc_conn *c)
{
        struct list turn;

        /* Those that find no credit put themselves into the list again, so walk
         * a detached one. */
        if (list_empty(&c->waiting))
                return;
        turn = c->waiting;
        turn.next->prev = turn.prev->next = &turn;
        list_init(&c->waiting);
        while (!list_empty(&turn)) {
                struct rpc_call *call = container_of(turn.next, struct rpc_call, in_waiting);

                list_remove(&call->in_waiting);
                if (rpc_credit(call) <= 0)
                        list_push_back(&c->waiting, &call->in_waiting);
                else if (call->ev && call->ev->on_writable)
                        call->ev->on_writable(call, call->arg);
        }
}

void rpc_on_credit(struct rpc_conn *c, struct rpc_call *call, uint32_t bytes)
{
        int64_t *credit = call ? &call->send_credit : &c->send_credit;

        if (*credit + bytes > INT32_MAX) {
                rpc_conn_fail(c, E_PROTO, "more credit was granted than can be counted");
                return;
        }
        *credit += bytes;
        wake_waiting(c);
}
