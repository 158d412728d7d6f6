/* Calls over real mTLS on loopback: every kind of stream, every way to end one,
 * and what happens to a peer that breaks the rules. */
#include <stdio.h>
#include <stdlib.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/mem.h"
#include "common/rpc_impl.h"
#include "photon/v1/agent.pb-c.h"
#include "tests/lib/test.h"
#include "tests/lib/wire.h"

/* One call as seen by one side. */
struct seen {
        struct rpc_call *call;
        size_t messages, bytes;
        uint64_t sum;
        bool began, peer_end, writable, ended;
        struct rpc_status st;
        char metadata[64];
        struct buf last;
};

struct side {
        struct rpc_conn *conn;
        bool ready, goodbye, closed;
        int rc;
        char why[512], goodbye_why[512];
};

struct world {
        struct wire w;
        struct link_listener *ll;
        char address[64];
        struct rpc_conn_options server_o, client_o;
        struct side server, client;
        struct seen s, c; /* the call in hand */
        bool hold, server_sends_much;
};

static struct world *the; /* one world per test process */

/* --- events --- */

static void note_message(struct seen *x, const uint8_t *p, size_t n)
{
        CHECK(!x->ended);
        x->messages++;
        x->bytes += n;
        for (size_t i = 0; i < n; i++)
                x->sum = x->sum * 31 + p[i];
        buf_reset(&x->last);
        CHECK_INT(buf_put(&x->last, p, n), 0);
}

static void x_message(struct rpc_call *call, const uint8_t *p, size_t n, void *arg)
{
        (void)call;
        note_message(arg, p, n);
}

static void x_peer_end(struct rpc_call *call, void *arg)
{
        struct seen *x = arg;

        (void)call;
        CHECK(!x->peer_end);
        x->peer_end = true;
}

static void x_writable(struct rpc_call *call, void *arg)
{
        (void)call;
        ((struct seen *)arg)->writable = true;
}

static void x_end(struct rpc_call *call, const struct rpc_status *st, void *arg)
{
        struct seen *x = arg;
        const char *md = rpc_call_metadata(call, "trailer", NULL);

        CHECK(!x->ended);
        x->ended = true;
        x->st = *st;
        x->call = NULL;
        if (md)
                snprintf(x->metadata, sizeof x->metadata, "%s", md);
}

static const struct rpc_call_events x_events = {x_message, x_peer_end, x_writable, x_end};

/* --- the service --- */

static void on_manual(struct rpc_conn *conn, struct rpc_call *call, void *arg)
{
        struct world *o = arg;
        const char *md;
        size_t n;

        CHECK(conn == o->server.conn && rpc_call_conn(call) == conn);
        memset(&o->s, 0, sizeof o->s);
        o->s.call = call;
        o->s.began = true;
        md = rpc_call_metadata(call, "hello", &n);
        if (md)
                snprintf(o->s.metadata, sizeof o->s.metadata, "%.*s", (int)n, md);
        CHECK(!rpc_call_metadata(call, "absent", NULL));
        rpc_hold_credit(call, o->hold);
        rpc_set_events(call, &x_events, &o->s);
}

static void echo_message(struct rpc_call *call, const uint8_t *p, size_t n, void *arg)
{
        (void)arg;
        CHECK_INT(rpc_send_bytes(call, p, n), 0);
        rpc_finish(call, 0, "");
}

static void on_echo(struct rpc_conn *conn, struct rpc_call *call, void *arg)
{
        static const struct rpc_call_events ev = {.on_message = echo_message};

        (void)conn;
        rpc_set_events(call, &ev, arg);
}

static void on_fail(struct rpc_conn *conn, struct rpc_call *call, void *arg)
{
        (void)conn;
        (void)arg;
        CHECK_INT(rpc_call_add_metadata(call, "trailer", "why", 4), 0);
        rpc_finish(call, -E_DENIED, "not for you");
        rpc_finish(call, 0, "ignored");
        CHECK_INT(rpc_send_bytes(call, "x", 1), -E_CLOSED);
}

static const struct rpc_service_method methods[] = {{"test.T/Manual", on_manual, false},
                                                    {"test.T/Echo", on_echo, false},
                                                    {"test.T/Fail", on_fail, false},
                                                    {0}};
static const struct rpc_service_method gated[] = {
        {"test.T/Manual", on_manual, false}, {"test.T/Echo", on_echo, true}, {0}};

static void on_ready(struct rpc_conn *c, const struct link_peer *peer, void *arg)
{
        struct world *o = arg;
        struct side *x = c == o->client.conn ? &o->client : &o->server;

        CHECK(rpc_conn_peer(c)->cert_len == peer->cert_len);
        x->ready = true;
}

static void on_goodbye(struct rpc_conn *c, const char *why, void *arg)
{
        struct world *o = arg;
        struct side *x = c == o->client.conn ? &o->client : &o->server;

        x->goodbye = true;
        snprintf(x->goodbye_why, sizeof x->goodbye_why, "%s", why);
}

static void on_close(struct rpc_conn *c, int rc, const char *why, void *arg)
{
        struct world *o = arg;
        struct side *x = c == o->client.conn ? &o->client : &o->server;

        CHECK(!x->closed);
        x->closed = true;
        x->rc = rc;
        x->conn = NULL;
        snprintf(x->why, sizeof x->why, "%s", why);
}

static int on_accept(struct link *l, const struct link_events **ev, void **arg, void *ctx)
{
        struct world *o = ctx;

        return rpc_accept(l, &o->server_o, ev, arg, &o->server.conn);
}

/* --- the world --- */

static struct world *world_new(void)
{
        struct world *o = calloc(1, sizeof *o);
        struct link_listener_options opt = {
                .host_port = "127.0.0.1:0", .max_links = 10, .on_accept = on_accept, .ctx = o};
        struct link_tls tls;
        struct err e = {0};

        CHECK(o);
        the = o;
        wire_init(&o->w);
        tls = wire_server_tls(&o->w);
        if (link_listen(o->w.net, &opt, &tls, &o->ll, &e) != 0)
                test_fail(__FILE__, __LINE__, "%s", e.msg);
        snprintf(o->address, sizeof o->address, "127.0.0.1:%d", link_listener_port(o->ll));
        o->server_o = (struct rpc_conn_options){.methods = methods,
                                                .software = "photon-hub/9",
                                                .on_ready = on_ready,
                                                .on_goodbye = on_goodbye,
                                                .on_close = on_close,
                                                .arg = o};
        o->client_o = o->server_o;
        o->client_o.methods = NULL;
        o->client_o.software = "photon-agent/1";
        return o;
}

static void dial(struct world *o)
{
        struct link_tls tls = wire_client_tls(&o->w);
        struct err e = {0};

        if (rpc_dial(o->w.net, o->address, &tls, 5000, &o->client_o, &o->client.conn, &e) != 0)
                test_fail(__FILE__, __LINE__, "%s", e.msg);
}

static struct world *world_ready(void)
{
        struct world *o = world_new();

        dial(o);
        WIRE_UNTIL(&o->w, o->client.ready && o->server.ready);
        return o;
}

static void world_end(struct world *o)
{
        wire_fini(&o->w);
        CHECK(!o->client.conn || o->client.closed);
        CHECK(!o->server.conn || o->server.closed);
        buf_fini(&o->s.last);
        buf_fini(&o->c.last);
        free(o);
}

static void open_call(struct world *o, const char *method, int timeout_ms)
{
        buf_fini(&o->c.last);
        buf_fini(&o->s.last);
        memset(&o->c, 0, sizeof o->c);
        memset(&o->s, 0, sizeof o->s);
        CHECK_INT(rpc_call_open(o->client.conn, method, timeout_ms, &x_events, &o->c, &o->c.call), 0);
        CHECK(rpc_call_arg(o->c.call) == &o->c);
}

static bool last_is(const struct seen *x, const char *s)
{
        return x->last.len == strlen(s) && memcmp(x->last.data, s, x->last.len) == 0;
}

/* --- kinds of calls --- */

struct reply {
        bool came;
        struct rpc_status st;
        struct buf bytes;
};

static void on_reply(const struct rpc_status *st, const uint8_t *p, size_t n, void *arg)
{
        struct reply *r = arg;

        CHECK(!r->came);
        r->came = true;
        r->st = *st;
        CHECK((p != NULL) == (st->code == 0));
        CHECK_INT(buf_put(&r->bytes, p, n), 0);
}

TEST(rpc, unary)
{
        struct world *o = world_ready();
        Photon__V1__OutputAck m = PHOTON__V1__OUTPUT_ACK__INIT, *back;
        struct reply r = {0};

        m.durable = 123456789012;
        CHECK_INT(rpc_unary(o->client.conn, "test.T/Echo", &m.base, 1000, on_reply, &r), 0);
        WIRE_UNTIL(&o->w, r.came);
        CHECK_INT(r.st.code, 0);
        back = (Photon__V1__OutputAck *)rpc_unpack(&photon__v1__output_ack__descriptor, r.bytes.data,
                                                   r.bytes.len);
        CHECK(back && back->durable == m.durable);
        photon__v1__output_ack__free_unpacked(back, NULL);
        /* The empty message is a message. */
        buf_fini(&r.bytes);
        r = (struct reply){0};
        m.durable = 0;
        CHECK_INT(rpc_unary(o->client.conn, "test.T/Echo", &m.base, 1000, on_reply, &r), 0);
        WIRE_UNTIL(&o->w, r.came);
        CHECK_INT(r.st.code, 0);
        CHECK_INT(r.bytes.len, 0);
        buf_fini(&r.bytes);
        r = (struct reply){0};
        CHECK_INT(rpc_unary(o->client.conn, "test.T/Fail", &m.base, 1000, on_reply, &r), 0);
        WIRE_UNTIL(&o->w, r.came);
        CHECK_INT(r.st.code, E_DENIED);
        CHECK_STR(r.st.message, "not for you");
        buf_fini(&r.bytes);
        world_end(o);
}

TEST(rpc, unknown_method_is_unimplemented)
{
        struct world *o = world_ready();

        open_call(o, "test.T/Nothing", 0);
        WIRE_UNTIL(&o->w, o->c.ended);
        CHECK_INT(o->c.st.code, E_NOTSUP);
        CHECK(!o->client.closed);
        world_end(o);
}

TEST(rpc, both_directions_stream_at_once)
{
        struct world *o = world_ready();

        open_call(o, "test.T/Manual", 0);
        CHECK_INT(rpc_send_bytes(o->c.call, "one", 3), 0);
        CHECK_INT(rpc_send_bytes(o->c.call, "two", 3), 0);
        WIRE_UNTIL(&o->w, o->s.messages == 2);
        CHECK(last_is(&o->s, "two"));
        CHECK_INT(rpc_send_bytes(o->s.call, "uno", 3), 0);
        CHECK_INT(rpc_send_bytes(o->c.call, "three", 5), 0);
        rpc_send_end(o->c.call);
        CHECK_INT(rpc_send_bytes(o->c.call, "x", 1), -E_CLOSED);
        WIRE_UNTIL(&o->w, o->s.peer_end && o->c.messages == 1);
        CHECK(last_is(&o->s, "three"));
        /* Half-closed: the server still talks. */
        CHECK_INT(rpc_send_bytes(o->s.call, "dos", 3), 0);
        rpc_finish(o->s.call, 0, "");
        WIRE_UNTIL(&o->w, o->c.ended && o->s.ended);
        CHECK_INT(o->c.messages, 2);
        CHECK_INT(o->c.st.code, 0);
        CHECK_INT(o->s.st.code, 0);
        world_end(o);
}

TEST(rpc, metadata_travels_both_ways)
{
        static const uint8_t zeros[RPC_METADATA_MAX];
        struct world *o = world_ready();

        open_call(o, "test.T/Manual", 0);
        CHECK_INT(rpc_call_add_metadata(o->c.call, "hello", "world\0!", 5), 0);
        CHECK_INT(rpc_call_add_metadata(o->c.call, "Upper", "x", 1), -E_INVAL);
        CHECK_INT(rpc_call_add_metadata(o->c.call, "", "x", 1), -E_INVAL);
        CHECK_INT(rpc_call_add_metadata(o->c.call, "big", zeros, RPC_METADATA_MAX), -E_TOOBIG);
        CHECK_INT(rpc_send_bytes(o->c.call, "x", 1), 0);
        CHECK_INT(rpc_call_add_metadata(o->c.call, "late", "x", 1), -E_STATE);
        WIRE_UNTIL(&o->w, o->s.messages == 1);
        CHECK_STR(o->s.metadata, "world");
        CHECK_INT(rpc_call_add_metadata(o->s.call, "trailer", "t1", 3), 0);
        rpc_finish(o->s.call, E_AGAIN, "again");
        WIRE_UNTIL(&o->w, o->c.ended);
        CHECK_STR(o->c.metadata, "t1");
        CHECK_INT(o->c.st.code, E_AGAIN);
        open_call(o, "test.T/Manual", 0); /* without a message the header goes at the end of the turn */
        CHECK_INT(rpc_call_add_metadata(o->c.call, "hello", "again", 5), 0);
        WIRE_UNTIL(&o->w, o->s.began);
        CHECK_STR(o->s.metadata, "again");
        world_end(o);
}

TEST(rpc, every_status_code_arrives_as_it_was_sent)
{
        struct world *o = world_ready();

        for (int code = 0; code < E_MAX_CODE; code++) {
                open_call(o, "test.T/Manual", 0);
                WIRE_UNTIL(&o->w, o->s.began);
                rpc_finish(o->s.call, code, "text");
                WIRE_UNTIL(&o->w, o->c.ended);
                CHECK_INT(o->c.st.code, code);
                CHECK_STR(o->c.st.message, "text");
        }
        world_end(o);
}

/* --- ends --- */

TEST(rpc, deadline_ends_both_sides)
{
        struct world *o = world_ready();
        struct seen longer = {0};
        struct rpc_call *call;

        open_call(o, "test.T/Manual", 80);
        WIRE_UNTIL(&o->w, o->s.began);
        WIRE_UNTIL(&o->w, o->c.ended && o->s.ended);
        CHECK_INT(o->c.st.code, E_TIMEOUT);
        CHECK_INT(o->s.st.code, E_TIMEOUT);
        /* A later, shorter one is not kept waiting by an earlier, longer one. */
        CHECK_INT(rpc_call_open(o->client.conn, "test.T/Echo", 60000, &x_events, &longer, &call), 0);
        open_call(o, "test.T/Manual", 50);
        WIRE_UNTIL(&o->w, o->c.ended);
        CHECK_INT(o->c.st.code, E_TIMEOUT);
        CHECK(!longer.ended);
        world_end(o);
}

TEST(rpc, either_side_cancels)
{
        struct world *o = world_ready();

        open_call(o, "test.T/Manual", 0);
        WIRE_UNTIL(&o->w, o->s.began);
        rpc_cancel(o->c.call, "changed my mind");
        CHECK(!o->c.ended); /* not inside the caller's stack */
        WIRE_UNTIL(&o->w, o->c.ended && o->s.ended);
        CHECK_INT(o->c.st.code, E_CANCELLED);
        CHECK_INT(o->s.st.code, E_CANCELLED);
        CHECK_STR(o->s.st.message, "changed my mind");
        open_call(o, "test.T/Manual", 0);
        WIRE_UNTIL(&o->w, o->s.began);
        rpc_cancel(o->s.call, "too busy");
        WIRE_UNTIL(&o->w, o->c.ended && o->s.ended);
        CHECK_INT(o->c.st.code, E_CANCELLED);
        CHECK_STR(o->c.st.message, "too busy");
        open_call(o, "test.T/Manual", 0);
        rpc_cancel(o->c.call, "before anything was sent");
        WIRE_UNTIL(&o->w, o->c.ended);
        CHECK(!o->s.began && !o->client.closed);
        world_end(o);
}

TEST(rpc, a_call_that_waits_may_be_overtaken)
{
        struct world *o = world_ready();
        struct seen quiet = {0}, none = {0};
        struct rpc_call *call, *dropped;

        CHECK_INT(rpc_call_open(o->client.conn, "test.T/Echo", 0, &x_events, &none, &dropped), 0);
        CHECK_INT(rpc_call_open(o->client.conn, "test.T/Echo", 0, &x_events, &quiet, &call), 0);
        rpc_cancel(dropped, "never mind");
        open_call(o, "test.T/Echo", 0);
        CHECK_INT(rpc_send_bytes(o->c.call, "first", 5), 0);
        WIRE_UNTIL(&o->w, o->c.ended && none.ended);
        CHECK(last_is(&o->c, "first"));
        CHECK_INT(rpc_send_bytes(call, "second", 6), 0);
        WIRE_UNTIL(&o->w, quiet.ended);
        CHECK(last_is(&quiet, "second"));
        buf_fini(&quiet.last);
        world_end(o);
}

TEST(rpc, connection_loss_ends_calls)
{
        struct world *o = world_ready();

        open_call(o, "test.T/Manual", 0);
        WIRE_UNTIL(&o->w, o->s.began);
        rpc_conn_close(o->server.conn, 0, E_UNAVAIL, "the hub is going down");
        WIRE_UNTIL(&o->w, o->client.closed && o->server.closed);
        CHECK(o->c.ended && o->s.ended);
        CHECK_INT(o->c.st.code, E_UNAVAIL);
        CHECK_STR(o->client.why, "the hub is going down");
        CHECK_INT(o->client.rc, -E_UNAVAIL);
        world_end(o);
}

/* --- credit --- */

TEST(rpc, credit_runs_out_and_comes_back)
{
        struct world *o = world_ready();
        static uint8_t block[10000];
        size_t sent = 0;
        int rc;

        o->hold = true;
        open_call(o, "test.T/Manual", 0);
        CHECK_INT(rpc_credit(o->c.call), RPC_STREAM_WINDOW);
        while ((rc = rpc_send_bytes(o->c.call, block, sizeof block)) == 0)
                sent++;
        CHECK_INT(rc, -E_FULL);
        CHECK_INT(sent, (RPC_STREAM_WINDOW + sizeof block - 1) / sizeof block);
        CHECK_INT(rpc_credit(o->c.call), 0);
        WIRE_UNTIL(&o->w, o->s.messages == sent);
        wire_run_for(&o->w, 50);
        CHECK(!o->c.writable);
        rpc_return_credit(o->s.call, sent * sizeof block);
        WIRE_UNTIL(&o->w, o->c.writable);
        CHECK(rpc_credit(o->c.call) > RPC_STREAM_WINDOW - (int64_t)sizeof block * 2);
        /* Another call was not held up: a stream has its own credit. */
        world_end(o);
}

TEST(rpc, credit_of_ended_calls_returns_to_the_connection)
{
        struct world *o = world_ready();
        static uint8_t block[200000];

        o->hold = true;
        for (int i = 0; i < 60; i++) { /* three times the connection's window */
                open_call(o, "test.T/Manual", 0);
                WIRE_UNTIL(&o->w, rpc_credit(o->c.call) >= (int64_t)sizeof block);
                CHECK_INT(rpc_send_bytes(o->c.call, block, sizeof block), 0);
                WIRE_UNTIL(&o->w, o->s.messages == 1);
                if (i % 2)
                        rpc_finish(o->s.call, 0, "");
                else
                        rpc_cancel(o->c.call, "");
                WIRE_UNTIL(&o->w, o->c.ended && o->s.ended);
        }
        world_end(o);
}

TEST(rpc, a_large_message_is_split_and_arrives_whole)
{
        struct world *o = world_ready();
        size_t n = 10 << 20;
        uint8_t *p = malloc(n);
        uint64_t sum = 0;
        struct seen big = {0};
        struct rpc_call *call;

        CHECK(p);
        for (size_t i = 0; i < n; i++) {
                p[i] = (uint8_t)(i * 2654435761u >> 13);
                sum = sum * 31 + p[i];
        }
        open_call(o, "test.T/Manual", 0);
        CHECK_INT(rpc_send_bytes(o->c.call, p, n), 0);
        CHECK_INT(rpc_send_bytes(o->c.call, p, 1), -E_FULL);
        WIRE_UNTIL(&o->w, o->s.messages == 1);
        CHECK_INT(o->s.bytes, n);
        CHECK(o->s.sum == sum);
        WIRE_UNTIL(&o->w, o->c.writable);
        /* Back the same way, while a small call passes it. */
        CHECK_INT(rpc_send_bytes(o->s.call, p, n), 0);
        CHECK_INT(rpc_call_open(o->client.conn, "test.T/Fail", 0, &x_events, &big, &call), 0);
        WIRE_UNTIL(&o->w, big.ended);
        WIRE_UNTIL(&o->w, o->c.messages == 1);
        CHECK(o->c.sum == sum);
        free(p);
        world_end(o);
}

TEST(rpc, too_large_a_message_ends_its_call_only)
{
        struct world *o = world_new();
        static uint8_t block[200001];

        o->server_o.message_max = 200000;
        dial(o);
        WIRE_UNTIL(&o->w, o->client.ready && o->server.ready);
        open_call(o, "test.T/Manual", 0);
        CHECK_INT(rpc_send_bytes(o->c.call, block, sizeof block), -E_TOOBIG);
        CHECK_INT(rpc_send_bytes(o->c.call, block, sizeof block - 1), 0);
        WIRE_UNTIL(&o->w, o->s.messages == 1);
        o->client.conn->peer_message_max = RPC_MESSAGE_MAX; /* a peer that does not keep to it */
        WIRE_UNTIL(&o->w, rpc_credit(o->c.call) > 0);
        CHECK_INT(rpc_send_bytes(o->c.call, block, sizeof block), 0);
        WIRE_UNTIL(&o->w, o->c.ended && o->s.ended);
        CHECK_INT(o->c.st.code, E_TOOBIG);
        CHECK(!o->client.closed);
        world_end(o);
}

TEST(rpc, many_streams_share_the_wire_fairly)
{
        enum { STREAMS = 50 };
        struct world *o = world_ready();
        static struct seen x[STREAMS];
        static uint8_t block[65000];
        struct rpc_call *call[STREAMS];

        for (int i = 0; i < STREAMS; i++) {
                CHECK_INT(rpc_call_open(o->client.conn, "test.T/Echo", 0, &x_events, &x[i], &call[i]), 0);
                CHECK_INT(rpc_send_bytes(call[i], block, sizeof block - (size_t)i), 0);
        }
        for (int i = 0; i < STREAMS; i++) {
                WIRE_UNTIL(&o->w, x[i].ended);
                CHECK_INT(x[i].bytes, sizeof block - (size_t)i);
                buf_fini(&x[i].last);
        }
        world_end(o);
}

TEST(rpc, streams_are_limited)
{
        struct world *o = world_new();
        struct seen x = {0};
        struct rpc_call *call;

        o->server_o.max_streams = 1;
        dial(o);
        WIRE_UNTIL(&o->w, o->client.ready && o->server.ready);
        open_call(o, "test.T/Manual", 0);
        CHECK_INT(rpc_call_open(o->client.conn, "test.T/Manual", 0, &x_events, &x, &call), -E_FULL);
        WIRE_UNTIL(&o->w, o->s.began);
        o->client.conn->peer_max_streams = 2; /* a peer that does not keep to it */
        CHECK_INT(rpc_call_open(o->client.conn, "test.T/Manual", 0, &x_events, &x, &call), 0);
        WIRE_UNTIL(&o->w, x.ended);
        CHECK_INT(x.st.code, E_FULL);
        CHECK(!o->c.ended);
        rpc_finish(o->s.call, 0, "");
        WIRE_UNTIL(&o->w, o->c.ended);
        open_call(o, "test.T/Manual", 0);
        WIRE_UNTIL(&o->w, o->s.began);
        world_end(o);
}

/* --- the connection --- */

TEST(rpc, methods_wait_for_permission)
{
        struct world *o = world_new();
        Photon__V1__OutputAck m = PHOTON__V1__OUTPUT_ACK__INIT;
        struct reply r = {0};

        o->server_o.methods = gated;
        dial(o);
        WIRE_UNTIL(&o->w, o->client.ready && o->server.ready);
        open_call(o, "test.T/Manual", 0);
        WIRE_UNTIL(&o->w, o->c.ended);
        CHECK_INT(o->c.st.code, E_STATE);
        CHECK_INT(rpc_unary(o->client.conn, "test.T/Echo", &m.base, 0, on_reply, &r), 0);
        WIRE_UNTIL(&o->w, r.came);
        CHECK_INT(r.st.code, 0);
        rpc_conn_allow(o->server.conn, true);
        open_call(o, "test.T/Manual", 0);
        WIRE_UNTIL(&o->w, o->s.began);
        buf_fini(&r.bytes);
        world_end(o);
}

TEST(rpc, goodbye_lets_calls_finish)
{
        struct world *o = world_ready();
        struct rpc_call *call;

        open_call(o, "test.T/Manual", 0);
        WIRE_UNTIL(&o->w, o->s.began);
        rpc_conn_close(o->server.conn, 5000, 0, "restarting");
        WIRE_UNTIL(&o->w, o->client.goodbye);
        CHECK_STR(o->client.goodbye_why, "restarting");
        CHECK_INT(rpc_call_open(o->client.conn, "test.T/Echo", 0, &x_events, &o->s, &call), -E_UNAVAIL);
        CHECK_INT(rpc_send_bytes(o->c.call, "still", 5), 0);
        WIRE_UNTIL(&o->w, o->s.messages == 1);
        CHECK(!o->server.closed);
        rpc_finish(o->s.call, 0, "done");
        WIRE_UNTIL(&o->w, o->client.closed && o->server.closed);
        CHECK_INT(o->c.st.code, 0);
        CHECK_INT(o->client.rc, 0);
        CHECK_INT(o->server.rc, 0);
        CHECK_STR(o->client.why, "restarting");
        world_end(o);
}

TEST(rpc, goodbye_has_an_end)
{
        struct world *o = world_ready();

        open_call(o, "test.T/Manual", 0);
        WIRE_UNTIL(&o->w, o->s.began);
        rpc_conn_close(o->client.conn, 100, 0, "leaving");
        WIRE_UNTIL(&o->w, o->client.closed && o->server.closed);
        CHECK_INT(o->c.st.code, E_UNAVAIL);
        CHECK(o->s.ended);
        world_end(o);
}

TEST(rpc, last_message_before_goodbye_arrives)
{
        struct world *o = world_ready();
        static uint8_t block[100000];

        open_call(o, "test.T/Manual", 0);
        WIRE_UNTIL(&o->w, o->s.began);
        CHECK_INT(rpc_send_bytes(o->s.call, block, sizeof block), 0);
        rpc_finish(o->s.call, 0, "");
        rpc_conn_close(o->server.conn, 1000, 0, "bye");
        WIRE_UNTIL(&o->w, o->client.closed && o->server.closed);
        CHECK_INT(o->c.bytes, sizeof block);
        CHECK_INT(o->c.st.code, 0);
        world_end(o);
}

TEST(rpc, versions_must_overlap)
{
        static const struct {
                uint32_t hub_min, hub_max, agent_min, agent_max;
                const char *why;
        } cases[] = {
                {2, 3, 1, 1,
                 "photon-hub/9 speaks protocol 2-3, photon-agent/1 speaks 1: upgrade photon-agent/1"},
                {1, 1, 2, 4,
                 "photon-hub/9 speaks protocol 1, photon-agent/1 speaks 2-4: upgrade photon-hub/9"},
        };

        for (size_t i = 0; i < 2; i++) {
                struct world *o = world_new();

                o->server_o.version_min = cases[i].hub_min;
                o->server_o.version_max = cases[i].hub_max;
                o->client_o.version_min = cases[i].agent_min;
                o->client_o.version_max = cases[i].agent_max;
                dial(o);
                WIRE_UNTIL(&o->w, o->client.closed && o->server.closed);
                CHECK(!o->client.ready && !o->server.ready);
                CHECK_INT(o->client.rc, -E_VERSION);
                CHECK_INT(o->server.rc, -E_VERSION);
                CHECK(strstr(o->client.why, i == 0 ? "upgrade photon-agent/1" : "upgrade photon-hub/9"));
                CHECK_STR(o->server.why, cases[i].why);
                world_end(o);
        }
}

TEST(rpc, overlapping_versions_meet_at_the_highest)
{
        struct world *o = world_new();

        o->server_o.version_min = 1;
        o->server_o.version_max = 5;
        o->client_o.version_min = 3;
        o->client_o.version_max = 9;
        dial(o);
        WIRE_UNTIL(&o->w, o->client.ready && o->server.ready);
        CHECK_INT(o->client.conn->version, 5);
        CHECK_INT(o->server.conn->version, 5);
        world_end(o);
}

TEST(rpc, keepalive_notices_a_silent_peer)
{
        struct world *o = world_new();

        o->client_o.keepalive_ms = 500; /* a busy machine may take a while */
        dial(o);
        WIRE_UNTIL(&o->w, o->client.ready && o->server.ready);
        wire_run_for(&o->w, 1500); /* an idle peer that answers is fine */
        CHECK(!o->client.closed);
        CHECK(o->client.conn->rtt_us >= 0);
        o->server.conn->wire->pause(o->server.conn->w, true); /* as if it hung */
        WIRE_UNTIL(&o->w, o->client.closed);
        CHECK_INT(o->client.rc, -E_TIMEOUT);
        CHECK_STR(o->client.why, "nothing came from the peer for 1000 ms");
        world_end(o);
}

TEST(rpc, keepalive_can_begin_later)
{
        struct world *o = world_ready();

        o->server.conn->wire->pause(o->server.conn->w, true);
        rpc_conn_set_keepalive(o->client.conn, 100);
        WIRE_UNTIL(&o->w, o->client.closed);
        CHECK_INT(o->client.rc, -E_TIMEOUT);
        world_end(o);
}

TEST(rpc, a_peer_without_preface_is_ended)
{
        struct world *o = world_new();
        struct link_tls tls = wire_client_tls(&o->w);
        static const struct link_events mute = {0};
        struct link *l;
        struct err e = {0};

        o->server_o.preface_ms = 100;
        CHECK_INT(link_dial(o->w.net, o->address, &tls, 5000, &mute, NULL, &l, &e), 0);
        WIRE_UNTIL(&o->w, o->server.closed);
        CHECK_INT(o->server.rc, -E_TIMEOUT);
        CHECK_STR(o->server.why, "no preface came in time");
        link_free(l);
        world_end(o);
}

/* Sends raw frames as the client after a good preface; the server must end the
 * connection and say why. */
static void break_rule(const void *frame, size_t n, int times, const char *why)
{
        struct world *o = world_ready();

        o->hold = true;
        open_call(o, "test.T/Manual", 0);
        WIRE_UNTIL(&o->w, o->s.began);
        for (int i = 0; i < times; i++)
                CHECK_INT(o->client.conn->wire->send2(o->client.conn->w, frame, n, NULL, 0), 0);
        WIRE_UNTIL(&o->w, o->server.closed && o->client.closed);
        CHECK_STR(o->server.why, why);
        CHECK_STR(o->client.why, why);
        CHECK(o->s.ended && o->c.ended);
        CHECK_INT(o->server.rc, -E_PROTO);
        world_end(o);
}

TEST(rpc, broken_rules_end_the_connection)
{
        static uint8_t big[8 + 60000] = {RPC_DATA, 0, 0, 0, 0, 0, 0, 1};

        break_rule("\1\0\0\0\0\0\0\0", 8, 1, "a second preface came");
        break_rule("\x55\0\0\0\0\0\0\0", 8, 1, "a frame is of a type that is not known here");
        break_rule("\3\0\0", 3, 1, "a frame is shorter than its header");
        break_rule("\3\0\0\1\0\0\0\1", 8, 1, "a frame has reserved bits set");
        break_rule("\3\0\0\0\0\0\0\0", 8, 1, "a frame names no stream");
        break_rule("\3\0\0\0\0\0\0\3", 8, 1, "a frame belongs to a stream that was never opened");
        break_rule("\3\0\0\0\0\0\0\2", 8, 1, "a frame belongs to a stream that was never opened");
        break_rule("\2\0\0\0\0\0\0\1\x0a\x01x", 11, 1, "a stream number was used again");
        break_rule("\2\0\0\0\0\0\0\4\x0a\x01x", 11, 1,
                   "a stream was opened with a number that is not the peer's to use");
        break_rule("\2\0\0\0\0\0\0\5\xff", 9, 1, "the header of a call is malformed");
        break_rule("\4\0\0\0\0\0\0\1", 8, 2,
                   "a stream was ended by the wrong side, twice, or within a message");
        break_rule("\5\0\0\0\0\0\0\1", 8, 1, "a status came from the side that opened the stream");
        break_rule("\7\0\0\0\0\0\0\1\0\0\0\0", 12, 1, "a grant of credit is zero or too large");
        break_rule("\7\0\0\0\0\0\0\0\x7f\xff\xff\xff", 12, 1, "more credit was granted than can be counted");
        break_rule("\x08\0\0\0\0\0\0\0\1", 9, 1, "a frame's length does not fit its type");
        break_rule(big, sizeof big, 6, "a message was sent without credit for its stream");
}

TEST(rpc, optional_unknown_frames_are_ignored)
{
        struct world *o = world_ready();
        struct reply r = {0};
        Photon__V1__OutputAck m = PHOTON__V1__OUTPUT_ACK__INIT;

        CHECK_INT(o->client.conn->wire->send2(o->client.conn->w, "\x55\x80\1\2\0\0\0\7rest", 12, NULL, 0), 0);
        CHECK_INT(rpc_unary(o->client.conn, "test.T/Echo", &m.base, 0, on_reply, &r), 0);
        WIRE_UNTIL(&o->w, r.came);
        CHECK_INT(r.st.code, 0);
        buf_fini(&r.bytes);
        world_end(o);
}

TEST(rpc, bad_metadata_ends_the_call_only)
{
        /* method "test.T/Manual", one pair with key "A". */
        static const char h[] = "\2\0\0\0\0\0\0\7\x0a\x0dtest.T/Manual\x1a\x03\x0a\x01"
                                "A";
        struct world *o = world_ready();

        open_call(o, "test.T/Manual", 0);
        WIRE_UNTIL(&o->w, o->s.began);
        o->s.began = false;
        CHECK_INT(o->client.conn->wire->send2(o->client.conn->w, h, sizeof h - 1, NULL, 0), 0);
        o->client.conn->next_id = 9;
        wire_run_for(&o->w, 50);
        CHECK(!o->s.began && !o->client.closed && !o->c.ended);
        world_end(o);
}

TEST(rpc, stats_count)
{
        struct world *o = world_ready();
        struct rpc_conn_stats st;

        open_call(o, "test.T/Manual", 0);
        CHECK_INT(rpc_send_bytes(o->c.call, "abc", 3), 0);
        WIRE_UNTIL(&o->w, o->s.messages == 1);
        rpc_conn_stats(o->server.conn, &st);
        CHECK_INT(st.messages_in, 1);
        CHECK_INT(st.streams, 1);
        CHECK(st.bytes_in > 20 && st.bytes_out > 20);
        world_end(o);
}

TEST(rpc, unpacking_refuses_what_protobuf_c_would_take)
{
        ProtobufCMessage *m;
        uint8_t *many;

        /* CallHeader.method (field 1): bad UTF-8, then a NUL. */
        CHECK(!rpc_unpack(&photon__v1__call_header__descriptor, (const uint8_t *)"\x0a\x01\xff", 3));
        CHECK(!rpc_unpack(&photon__v1__call_header__descriptor,
                          (const uint8_t *)"\x0a\x02"
                                           "a\0",
                          4));
        CHECK(!rpc_unpack(&photon__v1__call_header__descriptor,
                          (const uint8_t *)"\x0a\x05"
                                           "a",
                          3));
        CHECK(!rpc_unpack(&photon__v1__call_header__descriptor, (const uint8_t *)"\x0b", 1));
        m = rpc_unpack(&photon__v1__call_header__descriptor, (const uint8_t *)"\xf8\x3f\x01",
                       3); /* unknown field */
        CHECK(m);
        protobuf_c_message_free_unpacked(m, NULL);
        m = rpc_unpack(&photon__v1__call_header__descriptor, NULL, 0);
        CHECK(m);
        protobuf_c_message_free_unpacked(m, NULL);
        /* Two bytes each on the wire, a hundred in memory. */
        many = malloc(2 * 300000);
        CHECK(many);
        for (size_t i = 0; i < 300000; i++) {
                many[2 * i] = 0x1a;
                many[2 * i + 1] = 0;
        }
        CHECK(!rpc_unpack(&photon__v1__call_header__descriptor, many, 2 * 300000));
        free(many);
}
