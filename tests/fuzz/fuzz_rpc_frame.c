/* A whole RPC connection fed from memory: whatever a peer sends, the connection
 * stays within its rules, what it says itself is well-formed, every call that
 * began ends exactly once, and nothing is left behind.
 *
 * Input: one byte of choices, then frames as a link would deliver them, each
 * with two bytes of length before it. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/rpc_impl.h"

#define CHOICE_DIALER  1 /* the fuzzer plays the hub */
#define CHOICE_PREFACE 2 /* a good preface comes first */
#define CHOICE_CALLS   4 /* we have calls open */
#define CHOICE_HOLD    8
#define CHOICE_CLOSE   16 /* we say goodbye in the middle */

static struct {
        struct rpc_conn *conn;
        bool wake, closing, closed, paused, hold;
        int close_rc;
        long began, ended;
        size_t sent;
} t;

static void must(bool ok, const char *what)
{
        if (ok)
                return;
        fprintf(stderr, "fuzz_rpc_frame: %s\n", what);
        abort();
}

/* --- a wire of memory --- */

static int w_send2(void *w, const void *a, size_t an, const void *b, size_t bn)
{
        uint8_t frame[RPC_FRAME_HEAD + RPC_FRAME_MAX];
        struct rpc_frame f;
        const char *why = "";

        (void)w;
        if (t.closing)
                return -E_CLOSED;
        must(an + bn <= sizeof frame, "we sent an oversized frame");
        memcpy(frame, a, an);
        if (bn)
                memcpy(frame + an, b, bn);
        must(rpc_frame_decode(frame, an + bn, &f, &why) == 0, why);
        t.sent += an + bn;
        return 0;
}

static size_t w_queued(const void *w)
{
        (void)w;
        return 0;
}

static void w_pause(void *w, bool on)
{
        (void)w;
        t.paused = on;
}

static void w_wake(void *w)
{
        (void)w;
        t.wake = true;
}

static void w_close(void *w, int linger_ms, int rc, const char *why)
{
        (void)w;
        (void)linger_ms;
        (void)why;
        t.closing = true;
        t.close_rc = rc;
}

static uint64_t w_bytes(const void *w)
{
        (void)w;
        return 0;
}

static const struct rpc_wire wire = {w_send2, w_queued, w_pause, w_wake, w_close, w_bytes, w_bytes};

/* --- a service that does a bit of everything --- */

static void on_message(struct rpc_call *c, const uint8_t *p, size_t n, void *arg)
{
        (void)arg;
        if (n && p[0] == 'c')
                rpc_cancel(c, "as you wish");
        else if (n && p[0] == 'f')
                rpc_finish(c, p[n - 1] % E_MAX_CODE, "done");
        else if (n && p[0] == 'r')
                rpc_return_credit(c, n * 2);
        else
                (void)rpc_send_bytes(c, p, n);
}

static void on_peer_end(struct rpc_call *c, void *arg)
{
        (void)arg;
        rpc_finish(c, 0, "");
}

static void on_writable(struct rpc_call *c, void *arg)
{
        (void)arg;
        (void)rpc_send_bytes(c, "more", 4);
}

static void on_end(struct rpc_call *c, const struct rpc_status *st, void *arg)
{
        (void)c;
        (void)arg;
        must(st->code >= 0 && st->code < E_MAX_CODE, "a status code out of range");
        t.ended++;
}

static const struct rpc_call_events ev = {on_message, on_peer_end, on_writable, on_end};

static void on_call(struct rpc_conn *conn, struct rpc_call *c, void *arg)
{
        must(conn == t.conn, "a call came from nowhere");
        t.began++;
        rpc_set_events(c, &ev, arg);
        rpc_hold_credit(c, t.hold);
        if (rpc_call_metadata(c, "x", NULL))
                rpc_finish(c, E_INVAL, "no x, please");
}

static void on_conn_close(struct rpc_conn *c, int rc, const char *why, void *arg)
{
        (void)c;
        (void)rc;
        (void)arg;
        must(!t.closed, "closed twice");
        must(why && why[0], "closed without a reason");
        t.closed = true;
}

static const struct rpc_service_method methods[] = {{"a", on_call, false}, {"b", on_call, true}, {0}};

static void turn(void)
{
        for (int i = 0; t.wake && i < 10; i++) {
                t.wake = false;
                rpc_wire_turn(t.conn);
        }
}

static void preface(void)
{
        /* version 1 to 1, frames of 64 KiB, 1 KiB of credit for a stream, 4 KiB in all, 100 streams. */
        static const uint8_t f[] = {RPC_PREFACE, 0,    0,    0,    0,    0,    0,    0,
                                    0x08,        1,    0x10, 1,    0x20, 0x80, 0x80, 0x04,
                                    0x28,        0x80, 0x08, 0x30, 0x80, 0x20, 0x38, 100};

        rpc_wire_frame(t.conn, f, sizeof f);
}

static void open_calls(void)
{
        struct rpc_call *c;

        for (int i = 0; i < 3; i++) {
                if (rpc_call_open(t.conn, "x", i * 1000, &ev, NULL, &c) != 0)
                        return;
                t.began++;
                (void)rpc_call_add_metadata(c, "k", "v", 1);
                if (i)
                        (void)rpc_send_bytes(c, "hello", 5);
                if (i == 2)
                        rpc_send_end(c);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static uv_loop_t *loop;
        struct rpc_conn_options o = {.methods = methods,
                                     .software = "fuzz",
                                     .on_close = on_conn_close,
                                     .max_streams = 8,
                                     .message_max = 100000};
        struct link_peer peer = {0};
        uint8_t choices;

        if (!loop)
                loop = uv_default_loop();
        if (size < 1)
                return 0;
        choices = *data++;
        size--;
        memset(&t, 0, sizeof t);
        t.hold = choices & CHOICE_HOLD;
        if (rpc_conn_create(loop, &wire, &t, choices & CHOICE_DIALER, &o, &t.conn) != 0)
                return 0;
        rpc_wire_opened(t.conn, &peer);
        if (choices & CHOICE_PREFACE)
                preface();
        if (choices & CHOICE_CALLS)
                open_calls();
        while (size >= 2 && !t.closing) {
                size_t n = (size_t)data[0] << 8 | data[1];

                data += 2;
                size -= 2;
                n = n < size ? n : size;
                rpc_wire_frame(t.conn, data, n);
                data += n;
                size -= n;
                if (n % 3 == 0)
                        turn();
                if ((choices & CHOICE_CLOSE) && n % 7 == 0 && !t.closing)
                        rpc_conn_close(t.conn, 1000, 0, "enough");
        }
        turn();
        rpc_wire_closed(t.conn, t.closing ? t.close_rc : 0, "the wire ended");
        uv_run(loop, UV_RUN_DEFAULT); /* the timer's handle goes, and the connection with it */
        must(t.closed, "on_close did not come");
        must(t.began == t.ended, "a call did not end, or ended twice");
        return 0;
}
