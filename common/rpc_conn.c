/* A connection: prefaces, versions, liveness, goodbye. */
#include <stdio.h>
#include <string.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/mem.h"
#include "common/rpc_impl.h"
#include "common/version.h"

#define VERSION_MIN(o) ((o)->version_min ? (o)->version_min : PHOTON_PROTO_MIN)
#define VERSION_MAX(o) ((o)->version_max ? (o)->version_max : PHOTON_PROTO_MAX)

int64_t rpc_now(const struct rpc_conn *c)
{
        return (int64_t)uv_now(c->timer.loop);
}

/* --- sending what is not a message --- */

void rpc_control(struct rpc_conn *c, uint8_t type, uint32_t stream, const void *p, size_t n)
{
        uint8_t head[RPC_FRAME_HEAD];
        int rc;

        if (c->state == RPC_GONE)
                return;
        rpc_frame_head(head, type, 0, stream);
        rc = c->wire->send2(c->w, head, sizeof head, p, n);
        /* These are small and few unless the peer reads nothing at all. */
        if (rc == -E_FULL)
                c->wire->close(c->w, 0, E_FULL, "the peer does not read what it is sent");
        else if (rc == -E_NOMEM)
                c->wire->close(c->w, 0, E_NOMEM, "no memory to send");
}

uint8_t *rpc_pack(struct rpc_conn *c, const ProtobufCMessage *m, size_t *n)
{
        *n = protobuf_c_message_get_packed_size(m);
        if (*n > c->scratch_cap || !c->scratch) {
                size_t cap = *n < 256 ? 256 : *n;
                uint8_t *bigger = mem_realloc(c->scratch, cap);

                if (!bigger)
                        return NULL;
                c->scratch = bigger;
                c->scratch_cap = cap;
        }
        protobuf_c_message_pack(m, c->scratch);
        return c->scratch;
}

void rpc_control_msg(struct rpc_conn *c, uint8_t type, uint32_t stream, const ProtobufCMessage *m)
{
        size_t n;
        const uint8_t *p = rpc_pack(c, m, &n);

        if (p)
                rpc_control(c, type, stream, p, n);
        else
                c->wire->close(c->w, 0, E_NOMEM, "no memory to send");
}

static void send_preface(struct rpc_conn *c)
{
        Photon__V1__Preface m = PHOTON__V1__PREFACE__INIT;
        char software[64];

        snprintf(software, sizeof software, "%s", c->o.software ? c->o.software : "photon");
        m.version_min = VERSION_MIN(&c->o);
        m.version_max = VERSION_MAX(&c->o);
        m.software = software;
        m.max_frame = RPC_FRAME_MAX;
        m.stream_window = RPC_STREAM_WINDOW;
        m.conn_window = RPC_CONN_WINDOW;
        m.max_streams = (uint32_t)c->o.max_streams;
        m.max_message = (uint32_t)c->o.message_max;
        rpc_control_msg(c, RPC_PREFACE, 0, &m.base);
}

static void send_goodbye(struct rpc_conn *c, int code, const char *why)
{
        Photon__V1__Goodbye m = PHOTON__V1__GOODBYE__INIT;
        char text[512];

        if (c->goodbye_sent)
                return;
        c->goodbye_sent = true;
        snprintf(text, sizeof text, "%s", why);
        m.code = (uint32_t)(code ? err_to_grpc(code) : 0);
        m.message = text;
        m.error = (char *)(code ? err_name(code) : "");
        rpc_control_msg(c, RPC_GOODBYE, 0, &m.base);
}

/* --- time --- */

static void on_timer(uv_timer_t *t);

void rpc_conn_timer(struct rpc_conn *c, int64_t at)
{
        int64_t now = rpc_now(c);

        if (c->state == RPC_GONE || (c->timer_at && c->timer_at <= at))
                return;
        c->timer_at = at;
        uv_timer_start(&c->timer, on_timer, at > now ? (uint64_t)(at - now) : 0, 0);
}

static void remember_reason(struct rpc_conn *c, int code, const char *why)
{
        if (c->close_why[0])
                return;
        c->close_code = code;
        snprintf(c->close_why, sizeof c->close_why, "%s", why && why[0] ? why : "the connection was closed");
}

static void end_all_calls(struct rpc_conn *c, int code, const char *why, bool tell)
{
        while (!list_empty(&c->all)) {
                struct rpc_call *call = container_of(c->all.next, struct rpc_call, in_all);

                if (tell)
                        rpc_call_abort(call, code, why);
                else
                        rpc_call_end(call, code, why);
        }
}

static void on_timer(uv_timer_t *t)
{
        struct rpc_conn *c = t->data;
        int64_t now = rpc_now(c);

        c->timer_at = 0;
        if (c->preface_at && now >= c->preface_at && c->state == RPC_OPENING && c->wire_open) {
                c->preface_at = 0;
                rpc_conn_fail(c, E_TIMEOUT, "no preface came in time");
        }
        if (c->grace_at && now >= c->grace_at) {
                c->grace_at = 0;
                if (list_empty(&c->all) || c->state == RPC_FAILED) {
                        c->wire->close(c->w, 0, c->close_code,
                                       c->close_why); /* waited long enough for an answer */
                } else {
                        end_all_calls(c, E_UNAVAIL, c->close_why, true);
                        rpc_conn_settle(c);
                }
        }
        if (c->calls_at && now >= c->calls_at)
                rpc_call_expire(c, now);
        if (c->o.keepalive_ms > 0 && (c->state == RPC_READY || c->state == RPC_DRAINING))
                rpc_check_alive(c, now);
        if (c->preface_at && c->state == RPC_OPENING)
                rpc_conn_timer(c, c->preface_at);
        if (c->grace_at)
                rpc_conn_timer(c, c->grace_at);
        if (c->calls_at)
                rpc_conn_timer(c, c->calls_at);
}

/* --- ends --- */

void rpc_conn_fail(struct rpc_conn *c, int code, const char *why)
{
        if (c->state == RPC_FAILED || c->state == RPC_GONE)
                return;
        remember_reason(c, code, why);
        end_all_calls(c, code, why, false);
        send_goodbye(c, code, why);
        c->state = RPC_FAILED;
        c->grace_at = rpc_now(c) + RPC_GOODBYE_MS;
        rpc_conn_timer(c, c->grace_at);
}

/* Both sides have said goodbye, or are about to: whoever began it closes. */
void rpc_conn_settle(struct rpc_conn *c)
{
        if (c->state != RPC_DRAINING || !list_empty(&c->all))
                return;
        if (c->goodbye_sent && c->goodbye_got) {
                c->wire->close(c->w, RPC_GOODBYE_MS, c->close_code, c->close_why);
        } else if (c->goodbye_got) {
                /* The answer; the peer closes when it has it. */
                send_goodbye(c, 0, "");
                c->grace_at = rpc_now(c) + RPC_GOODBYE_MS;
                rpc_conn_timer(c, c->grace_at);
        } else {
                c->grace_at = rpc_now(c) + RPC_GOODBYE_MS;
                rpc_conn_timer(c, c->grace_at);
        }
}

void rpc_conn_close(struct rpc_conn *c, int grace_ms, int code, const char *why)
{
        code = code < 0 ? -code : code;
        if (c->state == RPC_FAILED || c->state == RPC_GONE ||
            (c->state == RPC_DRAINING && c->goodbye_sent && grace_ms))
                return;
        remember_reason(c, code, why);
        if (!c->wire_open) {
                c->wire->close(c->w, 0, code, c->close_why);
                return;
        }
        if (grace_ms <= 0)
                end_all_calls(c, E_UNAVAIL, c->close_why, true);
        send_goodbye(c, code, c->close_why);
        c->state = RPC_DRAINING;
        if (!list_empty(&c->all)) {
                c->grace_at = rpc_now(c) + grace_ms;
                rpc_conn_timer(c, c->grace_at);
        }
        rpc_conn_settle(c);
}

/* --- frames for the connection --- */

static void refuse_version(struct rpc_conn *c, const Photon__V1__Preface *m)
{
        const char *me = c->o.software ? c->o.software : "photon";
        bool peer_is_older = m->version_max < VERSION_MIN(&c->o);
        char mine[32], theirs[32], why[400];
        uint32_t lo = VERSION_MIN(&c->o), hi = VERSION_MAX(&c->o);

        snprintf(mine, sizeof mine, lo == hi ? "%u" : "%u-%u", lo, hi);
        snprintf(theirs, sizeof theirs, m->version_min == m->version_max ? "%u" : "%u-%u", m->version_min,
                 m->version_max);
        snprintf(why, sizeof why, "%.60s speaks protocol %s, %.60s speaks %s: upgrade %.60s", me, mine,
                 m->software, theirs, peer_is_older ? m->software : me);
        rpc_conn_fail(c, E_VERSION, why);
}

static void become_ready(struct rpc_conn *c)
{
        if (!c->wire_open || !c->got_preface || c->state != RPC_OPENING)
                return;
        c->state = RPC_READY;
        c->preface_at = 0;
        if (c->o.keepalive_ms > 0) {
                c->last_rx = rpc_now(c);
                rpc_conn_timer(c, c->last_rx + c->o.keepalive_ms);
        }
        if (c->o.on_ready)
                c->o.on_ready(c, &c->peer, c->o.arg);
}

static size_t at_most(size_t v, size_t max)
{
        return v < max ? v : max;
}

static void recv_preface(struct rpc_conn *c, const struct rpc_frame *f)
{
        Photon__V1__Preface *m;

        if (c->got_preface) {
                rpc_conn_fail(c, E_PROTO, "a second preface came");
                return;
        }
        m = (Photon__V1__Preface *)rpc_unpack(&photon__v1__preface__descriptor, f->p, f->n);
        if (!m || m->version_min > m->version_max || m->max_frame < 1024 || !m->version_min) {
                rpc_conn_fail(c, E_PROTO, "the preface is malformed");
        } else if (m->version_max < VERSION_MIN(&c->o) || m->version_min > VERSION_MAX(&c->o)) {
                refuse_version(c, m);
        } else {
                c->got_preface = true;
                c->version = (uint32_t)at_most(m->version_max, VERSION_MAX(&c->o));
                c->peer_frame_max = at_most(m->max_frame, RPC_FRAME_MAX);
                c->peer_message_max =
                        at_most(m->max_message ? m->max_message : RPC_MESSAGE_MAX, RPC_MESSAGE_MAX);
                c->peer_stream_window = at_most(m->stream_window, INT32_MAX);
                c->peer_max_streams = m->max_streams;
                c->send_credit = (int64_t)at_most(m->conn_window, INT32_MAX);
                become_ready(c);
        }
        protobuf_c_message_free_unpacked(m ? &m->base : NULL, NULL);
}

static void recv_goodbye(struct rpc_conn *c, const struct rpc_frame *f)
{
        Photon__V1__Goodbye *m =
                (Photon__V1__Goodbye *)rpc_unpack(&photon__v1__goodbye__descriptor, f->p, f->n);
        int code = 0;

        if (!m || c->goodbye_got) {
                protobuf_c_message_free_unpacked(m ? &m->base : NULL, NULL);
                rpc_conn_fail(c, E_PROTO, "a goodbye is malformed or came twice");
                return;
        }
        c->goodbye_got = true;
        if (m->code)
                code = m->error[0] ? err_from_name(m->error) : E_UNAVAIL;
        if (!c->goodbye_sent) {
                remember_reason(c, code, m->message);
                c->state = RPC_DRAINING;
                if (c->o.on_goodbye)
                        c->o.on_goodbye(c, m->message, c->o.arg);
                /* After an error the peer ignores what is still sent. */
                if (code)
                        end_all_calls(c, code, m->message, false);
        }
        protobuf_c_message_free_unpacked(&m->base, NULL);
        rpc_conn_settle(c);
}

static void recv_pong(struct rpc_conn *c, const struct rpc_frame *f)
{
        uint64_t now = uv_hrtime() / 1000, sent_at = u64be_load(f->p);

        if (sent_at <= now)
                c->rtt_us = (int64_t)(now - sent_at);
}

static void recv_frame(struct rpc_conn *c, const struct rpc_frame *f)
{
        if (!c->got_preface && f->type != RPC_PREFACE && f->type != RPC_GOODBYE) {
                rpc_conn_fail(c, E_PROTO, "the first frame is not a preface");
                return;
        }
        switch (f->type) {
        case RPC_PREFACE:
                recv_preface(c, f);
                break;
        case RPC_GOODBYE:
                recv_goodbye(c, f);
                break;
        case RPC_PING:
                rpc_control(c, RPC_PONG, 0, f->p, f->n);
                break;
        case RPC_PONG:
                recv_pong(c, f);
                break;
        case RPC_HEADERS:
                rpc_recv_headers(c, f);
                break;
        case RPC_CREDIT:
                if (f->stream == 0) {
                        rpc_on_credit(c, NULL, u32be_load(f->p));
                        break;
                }
                rpc_recv_stream(c, f);
                break;
        default:
                rpc_recv_stream(c, f);
                break;
        }
}

/* --- from the wire --- */

void rpc_wire_frame(struct rpc_conn *c, const uint8_t *p, size_t n)
{
        struct rpc_frame f;
        const char *why;

        if (c->state == RPC_GONE)
                return;
        c->last_rx = rpc_now(c);
        c->pinged = false;
        if (c->state == RPC_FAILED) {
                /* Only the answer to our goodbye is of interest. */
                if (rpc_frame_decode(p, n, &f, &why) == 0 && f.type == RPC_GOODBYE)
                        c->wire->close(c->w, 0, c->close_code, c->close_why);
                return;
        }
        if (rpc_frame_decode(p, n, &f, &why) != 0) {
                rpc_conn_fail(c, E_PROTO, why);
                return;
        }
        if (!f.ignore)
                recv_frame(c, &f);
        if (!c->paused && c->state != RPC_GONE && c->wire->queued(c->w) > RPC_WIRE_PAUSE) {
                c->paused = true;
                c->wire->pause(c->w, true);
        }
}

void rpc_wire_opened(struct rpc_conn *c, const struct link_peer *peer)
{
        c->wire_open = true;
        c->peer = *peer; /* cert_der is lent by the link, which lives longer */
        c->preface_at = rpc_now(c) + c->o.preface_ms;
        rpc_conn_timer(c, c->preface_at);
        become_ready(c);
}

void rpc_wire_drained(struct rpc_conn *c)
{
        if (c->paused && c->wire->queued(c->w) <= RPC_WIRE_PAUSE / 2) {
                c->paused = false;
                c->wire->pause(c->w, false);
        }
        rpc_pump(c);
}

void rpc_wire_turn(struct rpc_conn *c)
{
        while (!list_empty(&c->unsent))
                rpc_send_headers(container_of(c->unsent.next, struct rpc_call, in_unsent));
        rpc_pump(c);
        rpc_call_reap(c);
}

static void on_timer_closed(uv_handle_t *h)
{
        struct rpc_conn *c = h->data;

        map_free(c->calls);
        mem_free(c->scratch);
        mem_free(c);
}

void rpc_wire_closed(struct rpc_conn *c, int rc, const char *why)
{
        bool polite = c->goodbye_sent || c->goodbye_got;

        if (c->state == RPC_GONE)
                return;
        /* What was said before the end explains it better than the end does. */
        if (polite)
                rc = -c->close_code;
        remember_reason(c, rc < 0 ? -rc : rc, why);
        end_all_calls(c, c->close_code ? c->close_code : E_UNAVAIL, c->close_why, false);
        rpc_call_reap(c);
        c->state = RPC_GONE;
        uv_timer_stop(&c->timer);
        if (c->o.on_close)
                c->o.on_close(c, rc, c->close_why, c->o.arg);
        uv_close((uv_handle_t *)&c->timer, on_timer_closed);
}

int rpc_conn_create(uv_loop_t *loop, const struct rpc_wire *wire, void *w, bool dialer,
                    const struct rpc_conn_options *o, struct rpc_conn **out)
{
        struct rpc_conn *c = mem_calloc(1, sizeof *c);

        if (!c || !(c->calls = map_create())) {
                mem_free(c);
                return -E_NOMEM;
        }
        c->wire = wire;
        c->w = w;
        c->dialer = dialer;
        c->o = *o;
        if (c->o.preface_ms <= 0)
                c->o.preface_ms = RPC_PREFACE_MS;
        if (c->o.max_streams <= 0 || c->o.max_streams > RPC_MAX_STREAMS)
                c->o.max_streams = RPC_MAX_STREAMS;
        if (c->o.message_max == 0 || c->o.message_max > RPC_MESSAGE_MAX)
                c->o.message_max = RPC_MESSAGE_MAX;
        c->next_id = dialer ? 1 : 2;
        c->recv_window = RPC_CONN_WINDOW;
        c->rtt_us = -1;
        c->allowed = true;
        for (const struct rpc_service_method *m = o->methods; m && m->name; m++)
                c->allowed = c->allowed && !m->before_ready;
        list_init(&c->all);
        list_init(&c->unsent);
        list_init(&c->sendable);
        list_init(&c->waiting);
        list_init(&c->ended);
        uv_timer_init(loop, &c->timer);
        c->timer.data = c;
        send_preface(c);
        *out = c;
        return 0;
}

/* --- small public ones --- */

void rpc_conn_allow(struct rpc_conn *c, bool on)
{
        c->allowed = on;
}

void *rpc_conn_arg(const struct rpc_conn *c)
{
        return c->o.arg;
}

const struct link_peer *rpc_conn_peer(const struct rpc_conn *c)
{
        return &c->peer;
}

void rpc_conn_stats(const struct rpc_conn *c, struct rpc_conn_stats *out)
{
        out->bytes_in = c->state == RPC_GONE ? 0 : c->wire->bytes_in(c->w);
        out->bytes_out = c->state == RPC_GONE ? 0 : c->wire->bytes_out(c->w);
        out->messages_in = c->messages_in;
        out->messages_out = c->messages_out;
        out->streams = map_count(c->calls);
        out->rtt_us = c->rtt_us;
}
