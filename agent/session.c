#include "agent/session.h"

#include "agent/inventory.h"
#include "agent/job.h"
#include "agent/output.h"
#include "agent/stepguard.h"
#include "common/err.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/rpc.h"
#include "common/stepsign.h"

#include <stdlib.h>

struct agent_session {
        struct agent_session_options o;
        struct rpc_call *call;
        struct inventory *untold; /* changed, and the hub has not heard it */
};

/* Session. */

/* Each start as it came, beside what was unpacked: what cannot be found among the bytes is refused too. */
static struct start_refusal *check_starts(struct step_guard *g, const Photon__V1__HubMessage *m,
                                          const uint8_t *p, size_t n)
{
        struct start_refusal *v = mem_calloc(m->n_start, sizeof *v);

        for (size_t i = 0; v && i < m->n_start; i++) {
                const uint8_t *raw = NULL;
                size_t raw_n = 0;

                if (stepsign_next(&p, &n, &raw, &raw_n) != 1)
                        raw = NULL;
                v[i].code = step_guard_check(g, m->start[i], raw, raw_n, &v[i].why);
        }
        return v;
}

static void on_hub_message(struct rpc_call *c, const uint8_t *p, size_t n, void *arg)
{
        struct agent_session *s = arg;
        struct start_refusal *refusals = NULL;
        Photon__V1__HubMessage *m;

        m = (Photon__V1__HubMessage *)rpc_unpack(&photon__v1__hub_message__descriptor, p, n);
        if (!m) {
                log_error("session", "the hub sent a malformed message", "bytes=%zu", n);
                rpc_cancel(c, "malformed HubMessage");
                return;
        }
        if (s->o.guard && m->n_start) {
                refusals = check_starts(s->o.guard, m, p, n);
                if (!refusals) {
                        rpc_cancel(c, "the agent is out of memory");
                        for (size_t i = 0; i < m->n_start; i++)
                                job_secrets_wipe(m->start[i]);
                        protobuf_c_message_free_unpacked(&m->base, NULL);
                        return;
                }
        }
        jobs_handle_checked(s->o.jobs, m, refusals);
        mem_free(refusals);
        for (size_t i = 0; i < m->n_start; i++)
                job_secrets_wipe(m->start[i]);
        protobuf_c_message_free_unpacked(&m->base, NULL);
}

static void tell(struct agent_session *s)
{
        Photon__V1__AgentMessage m = PHOTON__V1__AGENT_MESSAGE__INIT;
        Photon__V1__Inventory inv = PHOTON__V1__INVENTORY__INIT;
        int rc;

        if (!s->untold || !s->call)
                return;
        m.inventory = &inv;
        rc = inventory_fill_change(s->untold, &inv);
        if (!rc)
                rc = rpc_send(s->call, &m.base);
        if (rc == -E_FULL)
                return; /* on_writable follows */
        s->untold = NULL;
        if (rc)
                log_warn("session", "the hub does not hear of a change of tools until the next connection",
                         "error=%s", err_name(rc));
        else
                log_debug("session", "told the hub what this machine offers", "tools=%zu", inv.n_tools);
}

void agent_session_tell(struct agent_session *s, struct inventory *inv)
{
        s->untold = inv;
        tell(s);
}

static void on_session_writable(struct rpc_call *c, void *arg)
{
        struct agent_session *s = arg;

        (void)c;
        tell(s);
        jobs_writable(s->o.jobs);
}

static void on_session_end(struct rpc_call *c, const struct rpc_status *st, void *arg)
{
        struct agent_session *s = arg;

        (void)c;
        s->call = NULL;
        jobs_attach(s->o.jobs, NULL);
        s->o.on_end(s->o.arg, st);
}

static const struct rpc_call_events session_events = {
        .on_message = on_hub_message,
        .on_writable = on_session_writable,
        .on_end = on_session_end,
};

static int session_send(void *ctx, const void *p, size_t n)
{
        struct agent_session *s = ctx;

        return s->call ? rpc_send_bytes(s->call, p, n) : -E_CLOSED;
}

/* Output: one stream per attempt; the stream handle is the call itself. */

static void on_ack_message(struct rpc_call *c, const uint8_t *p, size_t n, void *arg)
{
        Photon__V1__OutputAck *m =
                (Photon__V1__OutputAck *)rpc_unpack(&photon__v1__output_ack__descriptor, p, n);

        if (!m) {
                rpc_cancel(c, "malformed OutputAck");
                return;
        }
        output_on_ack(arg, m->durable);
        protobuf_c_message_free_unpacked(&m->base, NULL);
}

static void on_output_writable(struct rpc_call *c, void *arg)
{
        (void)c;
        output_on_writable(arg);
}

static void on_output_end(struct rpc_call *c, const struct rpc_status *st, void *arg)
{
        (void)c;
        output_on_end(arg, -abs(st->code));
}

static const struct rpc_call_events output_events = {
        .on_message = on_ack_message,
        .on_writable = on_output_writable,
        .on_end = on_output_end,
};
static const struct rpc_call_events no_events;

static int wire_open(void *ctx, struct output *o, void **out_stream)
{
        struct agent_session *s = ctx;
        struct rpc_call *c;
        int rc = rpc_call_open(s->o.conn, "photon.v1.Agent/Output", 0, &output_events, o, &c);

        if (!rc)
                *out_stream = c;
        return rc;
}

static int wire_send(void *stream, const Photon__V1__OutputChunk *m)
{
        return rpc_send(stream, &m->base);
}

static void wire_end(void *stream)
{
        rpc_send_end(stream);
}

static void wire_drop(void *stream)
{
        rpc_set_events(stream, &no_events, NULL);
        rpc_cancel(stream, "not needed any more");
}

int agent_session_open(const struct agent_session_options *o, const Photon__V1__HelloReply *hello,
                       struct agent_session **out)
{
        struct agent_session *s = mem_calloc(1, sizeof *s);
        struct output_wire wire = {wire_open, wire_send, wire_end, wire_drop, s};
        struct jobs_sink sink = {session_send, s};
        int rc;

        if (!s)
                return -E_NOMEM;
        s->o = *o;
        rc = rpc_call_open(o->conn, "photon.v1.Agent/Session", 0, &session_events, s, &s->call);
        if (rc) {
                mem_free(s);
                return rc;
        }
        output_pool_attach(o->pool, &wire);
        jobs_attach(o->jobs, &sink);
        jobs_apply_held(o->jobs, hello);
        *out = s;
        return 0;
}

void agent_session_close(struct agent_session *s)
{
        if (!s)
                return;
        jobs_attach(s->o.jobs, NULL);
        output_pool_attach(s->o.pool, NULL);
        if (s->call) {
                rpc_set_events(s->call, &no_events, NULL);
                rpc_send_end(s->call);
        }
        mem_free(s);
}
