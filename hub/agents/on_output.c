/* The Output stream: chunks into the log, OutputAck when they are durable. A stream's credit is
 * given back when its bytes are in the log, so a full disk holds the tool back and loses nothing. */
#include "hub/agents/agents_impl.h"
#include "hub/agents/usage.h"

#include "common/log.h"
#include "common/mem.h"
#include "hub/sched/engine.h"

#include <inttypes.h>
#include <stdio.h>

struct output {
        struct session *s;
        struct rpc_call *call;
        struct attempt *t; /* NULL: before the first chunk, or over */
        uint64_t acked;
        bool peer_ended;
        bool finished; /* rpc_finish was called; only on_end is to come */
};

static void finish(struct output *o, int code, const char *why)
{
        if (o->finished)
                return;
        o->finished = true;
        if (o->t) {
                attempt_drop_stream(o->t);
                o->t = NULL;
        }
        rpc_finish(o->call, code, why);
}

static void send_ack(struct output *o, uint64_t durable)
{
        Photon__V1__OutputAck m = PHOTON__V1__OUTPUT_ACK__INIT;

        if (durable <= o->acked)
                return;
        m.durable = durable;
        /* Without credit the next one, which says at least as much, goes out in on_writable. */
        if (rpc_send(o->call, &m.base) == 0)
                o->acked = durable;
}

/* All that came is on disk and acknowledged, and no more will come. */
static void maybe_over(struct output *o)
{
        struct attempt *t = o->t;

        if (o->peer_ended && t && list_empty(&t->chunks) && attempt_end(t) == t->durable &&
            o->acked >= t->durable)
                finish(o, 0, "");
}

void output_durable(struct output *o, uint64_t durable)
{
        if (o->finished)
                return;
        send_ack(o, durable);
        maybe_over(o);
}

void output_appended(struct output *o, size_t credit)
{
        if (!o->finished)
                rpc_return_credit(o->call, credit);
}

void output_over(struct output *o, int code, const char *why)
{
        struct attempt *t = o->t;

        if (!code && t)
                send_ack(o, t->durable);
        o->t = NULL;
        finish(o, code, why);
}

/* ---- chunks ---- */

static bool chunk_ok(const struct output *o, const Photon__V1__OutputChunk *c, const char **why)
{
        if (!o->t && c->attempt_id == 0)
                *why = "the first chunk names no attempt";
        else if (o->t && c->attempt_id && c->attempt_id != o->t->id)
                *why = "one stream carries the output of one attempt";
        else if (c->data.len > CHUNK_BYTES_MAX)
                *why = "a chunk of more than 1 MiB";
        else if (c->data.len && (c->channel < PHOTON__V1__CHANNEL__CHANNEL_STDOUT ||
                                 c->channel > PHOTON__V1__CHANNEL__CHANNEL_EVENT))
                *why = "a chunk without a known channel";
        else if (c->offset > INT64_MAX - CHUNK_BYTES_MAX)
                *why = "an offset out of range";
        else
                return true;
        return false;
}

/* The first chunk: whose output is this? */
static int bind_attempt(struct output *o, uint64_t id)
{
        struct attempt *t;

        if (attempt_get(o->s, id, &t)) {
                finish(o, E_NOMEM, "the hub is out of memory");
                return -E_NOMEM;
        }
        if (t->out)
                output_over(t->out, E_CANCELLED, "replaced by a newer stream of the same attempt");
        attempt_drop_stream(t);
        t->out = o;
        o->t = t;
        return 0;
}

struct user {
        struct engine *en;
        const char *agent_id;
        uint64_t attempt_id;
};

static void on_usage(void *arg, const cJSON *usage)
{
        const struct user *u = arg;

        engine_on_usage(u->en, u->agent_id, u->attempt_id, usage);
}

/* What a call says of its usage counts while it runs, where something was reserved for it. */
static void watch_usage(struct output *o, const Photon__V1__OutputChunk *c)
{
        struct session *s = o->s;
        struct attempt *t = o->t;
        struct user u = {s->a->engine, s->agent_id, t->id};

        if (c->channel != PHOTON__V1__CHANNEL__CHANNEL_EVENT || !c->data.len ||
            !engine_wants_usage(u.en, u.agent_id, u.attempt_id))
                return;
        if (!t->usage && !(t->usage = mem_calloc(1, sizeof *t->usage))) {
                session_cut(s, E_NOMEM, "the hub is out of memory"); /* unwatched is not allowed */
                return;
        }
        usage_feed(t->usage, c->offset, c->data.data, c->data.len, on_usage, &u);
}

static void on_chunk(struct output *o, const Photon__V1__OutputChunk *c, size_t n)
{
        struct session *s = o->s;
        const char *why = NULL;
        struct err e = {0};
        int rc;

        if (!chunk_ok(o, c, &why)) {
                session_violation(s, "output: %s", why);
                return;
        }
        if (!engine_wants_output(s->a->engine, s->agent_id, o->t ? o->t->id : c->attempt_id)) {
                if (o->t)
                        attempt_stale(o->t);
                finish(o, E_NOENT, "stale");
                return;
        }
        if (!o->t && bind_attempt(o, c->attempt_id))
                return;
        watch_usage(o, c);
        if (o->finished || s->state == SESSION_DOWN)
                return;
        rc = attempt_append(o->t, c, n, &e);
        if (rc == 0)
                rpc_return_credit(o->call, n);
        else if (rc == -E_INVAL)
                finish(o, E_INVAL, e.msg[0] ? e.msg : "output is missing before this chunk");
        else if (rc < 0)
                finish(o, E_NOMEM, "the hub is out of memory");
}

static void on_message(struct rpc_call *c, const uint8_t *p, size_t n, void *arg)
{
        struct output *o = arg;
        Photon__V1__OutputChunk *m;

        (void)c;
        if (o->finished || o->s->state == SESSION_DOWN)
                return;
        m = (Photon__V1__OutputChunk *)rpc_unpack(&photon__v1__output_chunk__descriptor, p, n);
        if (!m) {
                session_violation(o->s, "a malformed OutputChunk");
                return;
        }
        on_chunk(o, m, n);
        protobuf_c_message_free_unpacked(&m->base, NULL);
}

static void on_peer_end(struct rpc_call *c, void *arg)
{
        struct output *o = arg;

        (void)c;
        if (o->finished)
                return;
        o->peer_ended = true;
        if (!o->t) {
                finish(o, 0, "");
                return;
        }
        attempt_sync(o->t);
        maybe_over(o);
}

static void on_writable(struct rpc_call *c, void *arg)
{
        struct output *o = arg;

        (void)c;
        if (!o->finished && o->t)
                output_durable(o, o->t->durable);
}

static void on_end(struct rpc_call *c, const struct rpc_status *st, void *arg)
{
        struct output *o = arg;

        (void)c;
        (void)st;
        if (o->t)
                attempt_drop_stream(o->t);
        mem_free(o);
}

static const struct rpc_call_events events = {
        .on_message = on_message,
        .on_peer_end = on_peer_end,
        .on_writable = on_writable,
        .on_end = on_end,
};

void on_output(struct rpc_conn *conn, struct rpc_call *c, void *conn_arg)
{
        struct session *s = conn_arg;
        struct output *o;

        (void)conn;
        if (s->state != SESSION_GREETED && s->state != SESSION_READY) {
                rpc_finish(c, E_STATE, "say Hello first");
                return;
        }
        o = mem_calloc(1, sizeof *o);
        if (!o) {
                rpc_finish(c, E_NOMEM, "the hub is out of memory");
                return;
        }
        o->s = s;
        o->call = c;
        rpc_set_events(c, &events, o);
        rpc_hold_credit(c, true);
}
