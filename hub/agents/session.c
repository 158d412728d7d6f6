/* One connection of an agent: its state, what is queued towards it, its end. */
#include "hub/agents/agents_impl.h"

#include "common/mac.h"
#include "common/stepsign.h"
#include "common/log.h"
#include "common/mem.h"
#include "hub/event/bus.h"
#include "hub/sched/engine.h"
#include "hub/store/store.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define ITEM_BYTES_MAX (RPC_MESSAGE_MAX - 64)
#define OUT_KEEP_BYTES (16u << 10) /* an idle session keeps no more than this */
#define TO(s)          (1u << (s))

/* Fields of HubMessage, as proto/photon/v1/agent.proto numbers them. */
enum { HUB_START = 1, HUB_CANCEL = 2, HUB_ACK = 3, HUB_STDIN = 4, HUB_DRAIN = 5, HUB_ANSWER = 6 };

static const struct {
        const char *name;
        unsigned to;
} states[] = {
        [SESSION_CONNECTING] = {"connecting", TO(SESSION_KNOWN) | TO(SESSION_DOWN)},
        [SESSION_KNOWN] = {"known", TO(SESSION_GREETING) | TO(SESSION_DOWN)},
        [SESSION_GREETING] = {"greeting", TO(SESSION_GREETED) | TO(SESSION_DOWN)},
        [SESSION_GREETED] = {"greeted", TO(SESSION_READY) | TO(SESSION_DOWN)},
        [SESSION_READY] = {"ready", TO(SESSION_DOWN)},
        [SESSION_DOWN] = {"down", 0},
};

struct segment {
        struct list link;
        struct buf buf;
};

const char *session_state_name(enum session_state s)
{
        return states[s].name;
}

int session_move(struct session *s, enum session_state to)
{
        if (!(states[s->state].to & TO(to)))
                return -E_STATE;
        s->state = to;
        return 0;
}

struct session *session_create(struct agents *a)
{
        struct session *s = mem_calloc(1, sizeof *s);

        if (!s)
                return NULL;
        s->a = a;
        s->state = SESSION_CONNECTING;
        list_init(&s->dirty);
        list_init(&s->segments);
        buf_init(&s->out, ITEM_BYTES_MAX + SEGMENT_BYTES);
        buf_init(&s->refused, 0);
        list_push_back(&a->sessions, &s->link);
        agents_arm_tick(a);
        return s;
}

struct session *session_of(const struct agents *a, const char *agent_id)
{
        return map_get(a->by_agent, agent_id);
}

/* ---- begin and end ---- */

void session_known(struct session *s, const char *agent_id, const char *address)
{
        struct agents *a = s->a;
        struct session *old = session_of(a, agent_id);
        const struct agent_record *r = auth_agent(a->opt.auth, agent_id);

        if (old) {
                log_warn(AREA, "agent connected again, the older connection is closed",
                         "agent=%s old=%s new=%s", old->name, old->address, address);
                session_cut(old, E_STATE,
                            "replaced by a newer connection of the same agent; if this comes again, its data "
                            "folder was "
                            "copied to another machine, which must join on its own (photon-agent join "
                            "--replace)");
        }
        snprintf(s->agent_id, sizeof s->agent_id, "%s", agent_id);
        snprintf(s->name, sizeof s->name, "%s", r ? r->name : agent_id);
        snprintf(s->address, sizeof s->address, "%s", address);
        s->connected_us = agents_now_us(a);
        if (map_put(a->by_agent, s->agent_id, s, NULL)) {
                session_cut(s, E_NOMEM, "the hub is out of memory");
                return;
        }
        /* From CONNECTING only; the caller has just checked the certificate. */
        (void)session_move(s, SESSION_KNOWN);
        rpc_conn_allow(s->conn, true);
}

void session_seen(struct session *s, struct store_tx *tx, const char *info_json)
{
        s->seen_ms = agents_mono_ms(s->a);
        auth_agent_seen(s->a->opt.auth, tx, s->agent_id, info_json, agents_now_us(s->a));
}

static void offline(struct session *s)
{
        struct agents *a = s->a;
        struct store_tx *tx;
        char fields[160];

        s->in_engine = false;
        if (a->engine)
                engine_agent_offline(a->engine, s->agent_id);
        tx = store_begin(a->opt.store);
        session_seen(s, tx, NULL);
        snprintf(fields, sizeof fields, "\"agent\":\"%s\",\"agent_id\":\"%s\"", s->name, s->agent_id);
        bus_put(a->opt.bus, tx, agents_now_us(a), "agent.offline", "", NULL, fields);
        auth_commit(a->opt.auth, tx, NULL, NULL);
        log_info(AREA, "agent offline", "agent=%s addr=%s", s->name, s->address);
}

/* What has left is wiped where secrets were in it. */
static void drop_sent(struct session *s, struct buf *b, bool keep)
{
        if (s->has_secrets && b->data)
                mem_wipe(b->data, b->cap);
        if (keep)
                buf_reset(b);
        else
                buf_fini(b);
}

static void queue_drop(struct session *s)
{
        struct list *it;

        while ((it = list_pop(&s->segments))) {
                struct segment *g = container_of(it, struct segment, link);

                drop_sent(s, &g->buf, false);
                mem_free(g);
        }
        drop_sent(s, &s->out, false);
        buf_fini(&s->refused);
        s->pending_bytes = 0;
        list_remove(&s->dirty);
}

void session_down(struct session *s)
{
        if (session_move(s, SESSION_DOWN))
                return;
        if (s->agent_id[0] && session_of(s->a, s->agent_id) == s)
                map_del(s->a->by_agent, s->agent_id);
        if (s->hello)
                hello_orphan(s->hello);
        s->hello = NULL;
        attempt_free_all(s);
        queue_drop(s);
        if (s->stream) {
                struct rpc_call *c = s->stream;

                s->stream = NULL;
                rpc_finish(c, E_UNAVAIL, "the session is over");
        }
        if (s->in_engine)
                offline(s);
}

void session_cut(struct session *s, int code, const char *why)
{
        session_down(s);
        rpc_conn_close(s->conn, 0, code, why);
}

void session_violation(struct session *s, const char *fmt, ...)
{
        char why[256];
        va_list ap;

        if (s->state == SESSION_DOWN)
                return;
        va_start(ap, fmt);
        vsnprintf(why, sizeof why, fmt, ap);
        va_end(ap);
        log_warn(AREA, "agent broke the protocol, its connection is closed", "agent=%s addr=%s reason=\"%s\"",
                 s->name, s->address, why);
        session_cut(s, E_PROTO, why);
}

void session_free(struct session *s)
{
        session_down(s);
        list_remove(&s->link);
        map_free(s->attempts);
        mac_free(s->step_mac);
        mem_free(s);
}

/* ---- towards the agent ---- */

static bool push_segment(struct session *s)
{
        struct segment *g = mem_calloc(1, sizeof *g);

        if (!g)
                return false;
        g->buf = s->out;
        buf_init(&s->out, ITEM_BYTES_MAX + SEGMENT_BYTES);
        list_push_back(&s->segments, &g->link);
        return true;
}

static size_t varint(uint64_t v, uint8_t out[10])
{
        size_t n = 0;

        for (; v > 0x7f; v >>= 7)
                out[n++] = (uint8_t)(v | 0x80);
        out[n++] = (uint8_t)v;
        return n;
}

static void make_dirty(struct session *s)
{
        if (list_empty(&s->dirty))
                list_push_back(&s->a->dirty, &s->dirty);
}

/* Appends one member of a HubMessage: protobuf lets repeated fields come in any order, so a message is
 * just its members one after the other and is never built in memory. */
static int queue_put(struct session *s, int field, const ProtobufCMessage *m)
{
        bool sign = field == HUB_START && s->step_mac;
        size_t packed = protobuf_c_message_get_packed_size(m), hn = 1;
        size_t n = packed + (sign ? STEP_TRAILER_LEN : 0);
        uint8_t head[11] = {(uint8_t)(field << 3 | 2)};
        int rc;

        if (n > ITEM_BYTES_MAX)
                return -E_TOOBIG;
        if (s->pending_bytes + n > PENDING_BYTES_MAX)
                return -E_FULL;
        if (s->out.len > 0 && s->out.len + n > SEGMENT_BYTES && !push_segment(s))
                return -E_NOMEM;
        hn += varint(n, head + 1);
        rc = buf_reserve(&s->out, hn + n);
        if (rc)
                return rc;
        (void)buf_put(&s->out, head, hn);
        protobuf_c_message_pack(m, s->out.data + s->out.len);
        if (sign)
                stepsign_trailer(s->step_mac, s->out.data + s->out.len, packed,
                                 s->out.data + s->out.len + packed);
        s->out.len += n;
        s->pending_bytes += hn + n;
        if (!s->blocked)
                make_dirty(s);
        return 0;
}

/* An agent that does not take its messages, or a hub without memory: the session ends, and what was
 * not delivered comes again after the next Hello. Not here: the engine is calling. */
static void send_to(struct session *s, int field, const ProtobufCMessage *m)
{
        int rc = s->broken ? 0 : queue_put(s, field, m);

        if (!rc)
                return;
        log_warn(AREA, "agent's queue cannot grow, its connection is closed", "agent=%s queued=%zu reason=%s",
                 s->name, s->pending_bytes, err_name(rc));
        s->broken = -rc;
        make_dirty(s);
}

static struct session *ready(const struct agents *a, const char *agent_id)
{
        struct session *s = session_of(a, agent_id);

        return s && s->state == SESSION_READY ? s : NULL;
}

/* 0: sent. -E_FULL: later. */
static int send_segment(struct session *s, struct buf *b)
{
        int rc = rpc_send_bytes(s->stream, b->data, b->len);

        if (rc == -E_FULL) {
                s->blocked = true;
                return rc;
        }
        if (rc) {
                session_cut(s, -rc, "the session stream is broken");
                return rc;
        }
        s->pending_bytes -= b->len;
        return 0;
}

/* Engine inputs are bounded well below what fits, and secrets are known when a step is dispatched; should one
 * not be sendable all the same, the step fails with that reason instead of taking the session with it. */
static void refuse_starts(struct session *s)
{
        struct buf all = s->refused;

        buf_init(&s->refused, 0);
        for (size_t at = 0; at < all.len; at += sizeof(struct start_refusal)) {
                struct start_refusal f;
                struct engine_result r = {
                        .outcome = ENGINE_REFUSED, .finished_us = agents_now_us(s->a), .sync_fd = -1};

                memcpy(&f, all.data + at, sizeof f);
                r.attempt_id = f.attempt_id;
                r.error_code = f.code;
                r.error_message = f.message;
                engine_on_finished(s->a->engine, s->agent_id, &r, NULL, NULL);
        }
        buf_fini(&all);
}

static void refuse_start(struct session *s, uint64_t attempt_id, const char *code, const char *message)
{
        struct start_refusal f = {.attempt_id = attempt_id};

        snprintf(f.code, sizeof f.code, "%s", code);
        snprintf(f.message, sizeof f.message, "%s", message);
        if (buf_put(&s->refused, &f, sizeof f))
                s->broken = E_NOMEM;
        make_dirty(s);
}

static void send_segments(struct session *s)
{
        while (!list_empty(&s->segments)) {
                struct segment *g = container_of(s->segments.next, struct segment, link);

                if (send_segment(s, &g->buf))
                        return;
                list_remove(&g->link);
                drop_sent(s, &g->buf, false);
                mem_free(g);
        }
        if (s->out.len && send_segment(s, &s->out))
                return;
        drop_sent(s, &s->out, s->out.cap <= OUT_KEEP_BYTES);
        s->has_secrets = false;
}

void session_flush(struct session *s)
{
        list_remove(&s->dirty);
        if (s->state != SESSION_READY)
                return;
        if (s->refused.len)
                refuse_starts(s);
        if (s->broken)
                session_cut(s, s->broken, "the messages for this agent do not fit in the hub's memory");
        else if (!s->blocked)
                send_segments(s);
}

void session_drain(struct session *s, bool on)
{
        Photon__V1__Drain m = PHOTON__V1__DRAIN__INIT;

        if (s->state != SESSION_READY)
                return;
        m.on = on;
        send_to(s, HUB_DRAIN, &m.base);
}

/* ---- the engine's wire ---- */

static char *lent(const char *s)
{
        return s ? (char *)(uintptr_t)s : (char *)(uintptr_t) "";
}

/* In a segment of its own, whose memory does not grow: growing would leave copies behind. */
static void send_with_secrets(struct session *s, const Photon__V1__StepStart *m)
{
        if (m->n_secrets) {
                s->has_secrets = true;
                if (s->out.len && !push_segment(s))
                        s->broken = E_NOMEM;
        }
        send_to(s, HUB_START, &m->base);
        if (m->n_secrets && s->out.len && !push_segment(s))
                s->broken = E_NOMEM;
}

static void wire_start(void *ctx, const char *agent_id, const struct engine_start *e)
{
        struct session *s = ready(ctx, agent_id);
        Photon__V1__StepStart m = PHOTON__V1__STEP_START__INIT;
        const char *code = "";
        struct err err = {0};
        int rc;

        if (!s)
                return;
        m.attempt_id = e->attempt_id;
        m.run_id = lent(e->run_id);
        m.step_id = lent(e->step_id);
        m.attempt = e->attempt;
        m.tool = lent(e->tool);
        m.input = lent(e->input);
        m.timeout_ms = e->timeout_ms;
        m.effect = lent(e->effect);
        m.grace_ms = e->grace_ms;
        m.stdin_follows = e->stdin_follows;
        m.traceparent = lent(e->traceparent);
        m.order = ++s->step_order;
        m.sent_us = agents_now_us(s->a);
        m.secret_mark = lent(e->secret_mark);
        if (e->n_secrets && !s->takes_secrets)
                /* It would run the step without them, and mask nothing. */
                rc = err_set(&err, E_VERSION, "agent %s is too old to be given secrets: upgrade it", s->name),
                code = "agent_too_old";
        else
                rc = start_secrets(ctx, e, &m, &code, &err);
        if (rc)
                refuse_start(s, e->attempt_id, code, err.msg);
        else if (protobuf_c_message_get_packed_size(&m.base) + STEP_TRAILER_LEN > ITEM_BYTES_MAX)
                refuse_start(
                        s, e->attempt_id, "input_too_large",
                        "the step's input does not fit in one message to the agent (16 MiB): pass large data "
                        "as a file");
        else
                send_with_secrets(s, &m);
        start_secrets_free(&m);
}

static void wire_cancel(void *ctx, const char *agent_id, uint64_t attempt_id, const char *reason)
{
        struct session *s = ready(ctx, agent_id);
        Photon__V1__StepCancel m = PHOTON__V1__STEP_CANCEL__INIT;

        if (!s)
                return;
        m.attempt_id = attempt_id;
        m.reason = lent(reason);
        send_to(s, HUB_CANCEL, &m.base);
}

static void wire_ack(void *ctx, const char *agent_id, uint64_t attempt_id)
{
        struct session *s = ready(ctx, agent_id);
        Photon__V1__ResultAck m = PHOTON__V1__RESULT_ACK__INIT;

        if (!s)
                return;
        m.attempt_id = attempt_id;
        send_to(s, HUB_ACK, &m.base);
}

static void wire_stdin(void *ctx, const char *agent_id, uint64_t attempt_id, uint64_t offset, const void *p,
                       size_t n, bool eof)
{
        struct session *s = ready(ctx, agent_id);
        Photon__V1__StdinData m = PHOTON__V1__STDIN_DATA__INIT;

        if (!s)
                return;
        m.attempt_id = attempt_id;
        m.offset = offset;
        m.data.data = (uint8_t *)(uintptr_t)p;
        m.data.len = n;
        m.eof = eof;
        send_to(s, HUB_STDIN, &m.base);
}

static void wire_reply(void *ctx, const char *agent_id, const struct engine_reply *r)
{
        static const Photon__V1__AnswerOutcome outcomes[CHECKPOINT_STATE_COUNT] = {
                [CHECKPOINT_APPROVED] = PHOTON__V1__ANSWER_OUTCOME__ANSWER_ALLOWED,
                [CHECKPOINT_REJECTED] = PHOTON__V1__ANSWER_OUTCOME__ANSWER_DENIED,
                [CHECKPOINT_EXPIRED] = PHOTON__V1__ANSWER_OUTCOME__ANSWER_EXPIRED,
                [CHECKPOINT_WITHDRAWN] = PHOTON__V1__ANSWER_OUTCOME__ANSWER_WITHDRAWN,
        };
        struct session *s = ready(ctx, agent_id);
        Photon__V1__Answer m = PHOTON__V1__ANSWER__INIT;

        if (!s)
                return;
        m.attempt_id = r->attempt_id;
        m.question_id = r->question_id;
        m.outcome = outcomes[r->state];
        m.always = r->always;
        m.content = lent(r->content);
        m.reason = lent(r->reason);
        m.by = lent(r->by);
        send_to(s, HUB_ANSWER, &m.base);
}

struct engine_wire session_wire(struct agents *a)
{
        return (struct engine_wire){.start = wire_start,
                                    .cancel = wire_cancel,
                                    .ack = wire_ack,
                                    .stdin_data = wire_stdin,
                                    .reply = wire_reply,
                                    .ctx = a};
}

/* ---- the Session stream ---- */

static void on_stream_message(struct rpc_call *c, const uint8_t *p, size_t n, void *arg)
{
        struct session *s = arg;

        (void)c;
        if (s->state == SESSION_READY)
                on_agent_message(s, p, n);
}

static void on_stream_peer_end(struct rpc_call *c, void *arg)
{
        struct session *s = arg;

        /* The agent hangs up in good order. */
        s->stream = NULL;
        rpc_finish(c, 0, "");
        session_down(s);
}

static void on_stream_writable(struct rpc_call *c, void *arg)
{
        struct session *s = arg;

        (void)c;
        s->blocked = false;
        session_flush(s);
}

static void on_stream_end(struct rpc_call *c, const struct rpc_status *st, void *arg)
{
        struct session *s = arg;

        (void)c;
        s->stream = NULL;
        if (s->state != SESSION_DOWN)
                session_cut(s, E_CLOSED, st && st->message[0] ? st->message : "the session stream ended");
}

static const struct rpc_call_events stream_events = {
        .on_message = on_stream_message,
        .on_peer_end = on_stream_peer_end,
        .on_writable = on_stream_writable,
        .on_end = on_stream_end,
};

void on_session(struct rpc_conn *conn, struct rpc_call *c, void *conn_arg)
{
        struct session *s = conn_arg;

        (void)conn;
        if (s->state != SESSION_GREETED) {
                rpc_finish(c, E_STATE,
                           s->state == SESSION_READY ? "there is a session on this connection"
                                                     : "say Hello first");
                return;
        }
        (void)session_move(s, SESSION_READY);
        s->stream = c;
        s->seen_ms = agents_mono_ms(s->a);
        rpc_set_events(c, &stream_events, s);
        log_info(AREA, "agent ready", "agent=%s addr=%s", s->name, s->address);
        /* Now what it should do has a road: the engine sends again what it does not hold. */
        engine_agent_ready(s->a->engine, s->agent_id);
}

const struct rpc_service_method agent_methods[] = {
        {"photon.v1.Agent/Hello", on_hello, false},
        {"photon.v1.Agent/Session", on_session, false},
        {"photon.v1.Agent/Output", on_output, false},
        {"photon.v1.Agent/Renew", on_renew, false},
        {NULL, NULL, false},
};
