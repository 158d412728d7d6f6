/* A connection over a wire of memory, without threads: so that every allocation
 * can be made to fail, and every frame be looked at. */
#include <stdlib.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/mem.h"
#include "common/rpc_impl.h"
#include "photon/v1/agent.pb-c.h"
#include "tests/lib/test.h"

struct memory {
        uv_loop_t loop;
        struct rpc_conn *conn;
        struct buf out; /* what the connection sent, each frame with its length */
        size_t queued;
        bool wake, closing, closed, paused;
        int rc;
        long began, ended, messages, unary;
        char why[512];
};

static int w_send2(void *w, const void *a, size_t an, const void *b, size_t bn)
{
        struct memory *m = w;
        int rc;

        if (m->closing)
                return -E_CLOSED;
        rc = buf_put_u32be(&m->out, (uint32_t)(an + bn));
        if (rc == 0)
                rc = buf_put(&m->out, a, an);
        if (rc == 0 && bn)
                rc = buf_put(&m->out, b, bn);
        return rc;
}

static size_t w_queued(const void *w)
{
        return ((const struct memory *)w)->queued;
}

static void w_pause(void *w, bool on)
{
        ((struct memory *)w)->paused = on;
}

static void w_wake(void *w)
{
        ((struct memory *)w)->wake = true;
}

static void w_close(void *w, int linger_ms, int rc, const char *why)
{
        struct memory *m = w;

        (void)linger_ms;
        if (m->closing)
                return;
        m->closing = true;
        m->rc = rc;
        snprintf(m->why, sizeof m->why, "%s", why);
}

static uint64_t w_bytes(const void *w)
{
        (void)w;
        return 0;
}

static const struct rpc_wire wire = {w_send2, w_queued, w_pause, w_wake, w_close, w_bytes, w_bytes};

static void on_message(struct rpc_call *c, const uint8_t *p, size_t n, void *arg)
{
        ((struct memory *)arg)->messages++;
        (void)rpc_send_bytes(c, p, n);
}

static void on_peer_end(struct rpc_call *c, void *arg)
{
        (void)arg;
        (void)rpc_call_add_metadata(c, "k", "v", 1);
        rpc_finish(c, 0, "");
}

static void on_end(struct rpc_call *c, const struct rpc_status *st, void *arg)
{
        (void)c;
        (void)st;
        ((struct memory *)arg)->ended++;
}

static const struct rpc_call_events ev = {on_message, on_peer_end, NULL, on_end};

static void on_call(struct rpc_conn *conn, struct rpc_call *c, void *arg)
{
        (void)conn;
        ((struct memory *)arg)->began++;
        rpc_set_events(c, &ev, arg);
}

static const struct rpc_service_method methods[] = {{"a", on_call, false}, {0}};

static void on_close(struct rpc_conn *c, int rc, const char *why, void *arg)
{
        struct memory *m = arg;

        (void)c;
        (void)rc;
        (void)why;
        CHECK(!m->closed);
        m->closed = true;
}

static void turn(struct memory *m)
{
        for (int i = 0; m->wake && i < 10; i++) {
                m->wake = false;
                rpc_wire_turn(m->conn);
        }
}

static void feed(struct memory *m, uint8_t type, uint8_t flags, uint32_t stream, const void *p, size_t n)
{
        uint8_t frame[RPC_FRAME_HEAD + 70000];

        if (m->closing)
                return;
        CHECK(n <= 70000);
        rpc_frame_head(frame, type, flags, stream);
        if (n)
                memcpy(frame + RPC_FRAME_HEAD, p, n);
        rpc_wire_frame(m->conn, frame, RPC_FRAME_HEAD + n);
}

static int memory_open(struct memory *m, bool dialer)
{
        /* version 1 to 1, frames of 64 KiB, 256 KiB of credit for a stream, 4 MiB in all, 100 streams. */
        static const uint8_t preface[] = {0x08, 1,    0x10, 1,    0x20, 0x80, 0x80, 0x04, 0x28, 0x80,
                                          0x80, 0x10, 0x30, 0x80, 0x80, 0x80, 0x02, 0x38, 100};
        struct rpc_conn_options o = {.methods = methods, .software = "test", .on_close = on_close, .arg = m};
        struct link_peer peer = {0};
        int rc;

        memset(m, 0, sizeof *m);
        CHECK_INT(uv_loop_init(&m->loop), 0);
        rc = rpc_conn_create(&m->loop, &wire, m, dialer, &o, &m->conn);
        if (rc == 0) {
                rpc_wire_opened(m->conn, &peer);
                feed(m, RPC_PREFACE, 0, 0, preface, sizeof preface);
        }
        return rc;
}

static void memory_close(struct memory *m)
{
        if (m->conn) {
                turn(m);
                rpc_wire_closed(m->conn, m->closing ? m->rc : 0, m->why[0] ? m->why : "the wire ended");
                CHECK(m->closed);
                CHECK_INT(m->began, m->ended);
        }
        uv_run(&m->loop, UV_RUN_DEFAULT);
        CHECK_INT(uv_loop_close(&m->loop), 0);
        buf_fini(&m->out);
}

/* --- memory runs out --- */

static void on_reply(const struct rpc_status *st, const uint8_t *p, size_t n, void *arg)
{
        (void)st;
        (void)p;
        (void)n;
        ((struct memory *)arg)->unary--;
}

static int a_life(void *arg)
{
        static const uint8_t block[65536];
        Photon__V1__OutputAck ack = PHOTON__V1__OUTPUT_ACK__INIT;
        struct rpc_call *call;
        struct memory m;
        int rc = memory_open(&m, arg != NULL);

        if (rc == 0) {
                uint32_t theirs = arg ? 2 : 1, ours = arg ? 1 : 2;

                feed(&m, RPC_HEADERS, 0, theirs,
                     "\x0a\x01"
                     "a\x1a\x06\x0a\x01k\x12\x01v",
                     11);
                feed(&m, RPC_DATA, RPC_FLAG_MORE, theirs, block, sizeof block);
                feed(&m, RPC_DATA, RPC_FLAG_MORE, theirs, block, sizeof block);
                feed(&m, RPC_DATA, 0, theirs, block, sizeof block);
                feed(&m, RPC_END, 0, theirs, NULL, 0);
                turn(&m);
                if (!m.closing && rpc_call_open(m.conn, "x", 100, &ev, &m, &call) == 0) {
                        m.began++;
                        (void)rpc_call_add_metadata(call, "key", "value", 5);
                        (void)rpc_send_bytes(call, block, sizeof block);
                        rpc_send_end(call);
                }
                if (!m.closing && rpc_unary(m.conn, "y", &ack.base, 0, on_reply, &m) == 0)
                        m.unary++;
                feed(&m, RPC_DATA, 0, ours, "reply", 5);
                feed(&m, RPC_STATUS, 0, ours, NULL, 0);
                feed(&m, RPC_GOODBYE, 0, 0, NULL, 0);
        }
        memory_close(&m);
        CHECK_INT(m.unary, 0);
        return rc;
}

TEST(rpc, running_out_of_memory_ends_calls_not_the_program)
{
        int dialer = 1;

        test_each_alloc_fails(a_life, NULL);
        test_each_alloc_fails(a_life, &dialer);
}

/* --- what it sends --- */

static size_t frames_of(const struct memory *m, uint8_t type, uint32_t stream)
{
        size_t n = 0;

        for (size_t at = 0; at < m->out.len; at += 4 + u32be_load(m->out.data + at)) {
                struct rpc_frame f;
                const char *why;

                CHECK_INT(rpc_frame_decode(m->out.data + at + 4, u32be_load(m->out.data + at), &f, &why), 0);
                n += f.type == type && f.stream == stream;
        }
        return n;
}

TEST(rpc, streams_take_turns_when_the_wire_is_slow)
{
        static uint8_t block[300000];
        struct rpc_call *a, *b;
        struct memory m;

        CHECK_INT(memory_open(&m, true), 0);
        CHECK_INT(rpc_call_open(m.conn, "a", 0, &ev, &m, &a), 0);
        CHECK_INT(rpc_call_open(m.conn, "b", 0, &ev, &m, &b), 0);
        m.began += 2;
        m.queued = RPC_WIRE_BUDGET; /* full */
        CHECK_INT(rpc_send_bytes(a, block, sizeof block), 0);
        CHECK_INT(rpc_send_bytes(b, block, 100), 0);
        turn(&m);
        CHECK_INT(frames_of(&m, RPC_DATA, 1), 0);
        m.queued = 0;
        rpc_wire_drained(m.conn);
        CHECK_INT(frames_of(&m, RPC_DATA, 1), 5);
        CHECK_INT(frames_of(&m, RPC_DATA, 3), 1);
        /* b's only frame was the second of all. */
        for (size_t at = 0, data = 0; at < m.out.len; at += 4 + u32be_load(m.out.data + at)) {
                if (m.out.data[at + 4] == RPC_DATA && ++data == 2)
                        CHECK_INT(u32be_load(m.out.data + at + 8), 3);
        }
        memory_close(&m);
}

TEST(rpc, a_peer_that_does_not_read_is_not_read_from)
{
        struct memory m;

        CHECK_INT(memory_open(&m, false), 0);
        m.queued = RPC_WIRE_PAUSE + 1;
        feed(&m, RPC_PING, 0, 0, "12345678", 8);
        CHECK(m.paused);
        m.queued = RPC_WIRE_PAUSE / 2;
        rpc_wire_drained(m.conn);
        CHECK(!m.paused);
        memory_close(&m);
}

TEST(rpc, small_messages_earn_credit_in_steps)
{
        struct memory m;
        static uint8_t block[32768];

        CHECK_INT(memory_open(&m, false), 0);
        feed(&m, RPC_HEADERS, 0, 1,
             "\x0a\x01"
             "a",
             3);
        feed(&m, RPC_DATA, 0, 1, block, sizeof block);
        CHECK_INT(frames_of(&m, RPC_CREDIT, 1), 0);
        feed(&m, RPC_DATA, 0, 1, block, sizeof block);
        CHECK_INT(frames_of(&m, RPC_CREDIT, 1), 1);
        CHECK_INT(frames_of(&m, RPC_CREDIT, 0), 0);
        memory_close(&m);
}
