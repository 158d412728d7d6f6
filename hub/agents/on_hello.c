/* Hello: who the agent is, what it can do, what it still holds. Answered when what the hub has of
 * the held output is on disk, since the agent then drops it. */
#include "hub/agents/agents_impl.h"

#include "common/log.h"
#include "common/mac.h"
#include "common/mem.h"
#include "common/version.h"
#include "hub/auth/stepkey.h"
#include "hub/event/bus.h"
#include "hub/logs/logs.h"
#include "hub/sched/engine.h"
#include "hub/store/store.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define SYNCS_MAX 32 /* files open for one Hello */

struct held {
        struct hello *h;
        uint64_t attempt_id, output_from;
        enum engine_verdict verdict;
        struct log_file *file;
};

struct hello {
        struct agents *a;
        struct session *s;     /* NULL: the session is down */
        struct rpc_call *call; /* NULL: gone */
        struct held *held;
        size_t n, next, syncing;
        int rc; /* the first failure */
        struct err e;
        bool said; /* a message came */
        bool asks; /* nonce is the agent's: it wants its steps signed */
        uint8_t nonce[STEP_NONCE_LEN];
};

static void hello_free(struct hello *h)
{
        mem_free(h->held);
        mem_free(h);
}

/* Frees when nobody points here any more. */
static void maybe_free(struct hello *h)
{
        if (!h->s && !h->call && !h->syncing)
                hello_free(h);
}

void hello_orphan(struct hello *h)
{
        h->s = NULL;
        maybe_free(h);
}

/* ---- the answer ---- */

static int reply_held(const struct hello *h, Photon__V1__HelloReply *m, Photon__V1__HeldReply **rows,
                      Photon__V1__HeldReply ***ptrs)
{
        static const Photon__V1__HeldVerdict verdicts[] = {
                [ENGINE_KEEP] = PHOTON__V1__HELD_VERDICT__HELD_KEEP,
                [ENGINE_CANCEL] = PHOTON__V1__HELD_VERDICT__HELD_CANCEL,
                [ENGINE_FORGET] = PHOTON__V1__HELD_VERDICT__HELD_FORGET,
        };

        *rows = mem_calloc(h->n + 1, sizeof **rows);
        *ptrs = mem_calloc(h->n + 1, sizeof **ptrs);
        if (!*rows || !*ptrs)
                return -E_NOMEM;
        for (size_t i = 0; i < h->n; i++) {
                photon__v1__held_reply__init(&(*rows)[i]);
                (*rows)[i].attempt_id = h->held[i].attempt_id;
                (*rows)[i].verdict = verdicts[h->held[i].verdict];
                (*rows)[i].output_from = h->held[i].output_from;
                (*ptrs)[i] = &(*rows)[i];
        }
        m->held = *ptrs;
        m->n_held = h->n;
        return 0;
}

/* The key of this session's steps. The signature takes less than what the handshake before it took. */
static int grant(const struct hello *h, struct step_grant *g, Photon__V1__StepGrant *m)
{
        struct session *s = h->s;
        struct err e = {0};
        int rc = step_key_grant(s->a->opt.step_key, s->agent_id, h->nonce, agents_now_us(s->a), g, &e);

        if (!rc && !(s->step_mac = mac_create(g->key)))
                rc = err_set(&e, E_NOMEM, "no memory");
        if (rc) {
                log_error(AREA, "an agent's steps cannot be signed", "agent=%s reason=\"%s\"", s->name,
                          e.msg);
                return rc;
        }
        photon__v1__step_grant__init(m);
        m->certificate.data = g->certificate;
        m->certificate.len = g->certificate_len;
        m->key.data = g->key;
        m->key.len = sizeof g->key;
        m->at_us = g->at_us;
        m->signature.data = g->signature;
        m->signature.len = g->signature_len;
        return 0;
}

static int reply(struct hello *h)
{
        struct step_grant g = {0};
        Photon__V1__StepGrant gm;
        struct session *s = h->s;
        struct agents *a = s->a;
        struct rpc_call *call = h->call;
        const struct agent_record *r = auth_agent(a->opt.auth, s->agent_id);
        Photon__V1__HelloReply m = PHOTON__V1__HELLO_REPLY__INIT;
        Photon__V1__HeldReply *rows = NULL, **ptrs = NULL;
        static char version[] = PHOTON_VERSION;
        int rc = reply_held(h, &m, &rows, &ptrs);

        if (!rc && h->asks && a->opt.step_key) {
                rc = grant(h, &g, &gm);
                m.step_grant = &gm;
        }
        if (!rc) {
                m.hub_version = version;
                m.now_us = agents_now_us(a);
                m.heartbeat_ms = (uint32_t)a->opt.heartbeat_ms;
                m.draining = r && strcmp(r->state, "draining") == 0;
                m.agent_id = s->agent_id;
                m.name = s->name;
                m.cancel_grace_ms = (uint32_t)a->opt.cancel_grace_ms;
                m.answers_questions = true;
                h->s = NULL;
                rc = rpc_reply(call, &m.base);
        }
        step_grant_fini(&g);
        mem_free(rows);
        mem_free(ptrs);
        return rc;
}

/* Every file was looked at. h may be gone afterwards: finishing the call can end it at once. */
static void hello_done(struct hello *h)
{
        struct session *s = h->s;
        struct err e = h->e;
        int rc = h->rc;

        s->hello = NULL;
        if (!rc) {
                (void)session_move(s, SESSION_GREETED);
                rc = reply(h);
                if (rc)
                        session_cut(s, -rc, "the answer to Hello could not be sent");
                return;
        }
        log_error(AREA, "agent cannot be welcomed", "agent=%s reason=\"%s\"", s->name, e.msg);
        h->s = NULL;
        rpc_finish(h->call, -rc, e.msg);
        session_cut(s, -rc, e.msg);
}

/* ---- what the hub has of the held output ---- */

static void hello_step(struct hello *h);

static void on_durable(void *arg, int rc, uint64_t end)
{
        struct held *k = arg;
        struct hello *h = k->h;
        struct agents *a = h->a;

        log_close(k->file);
        k->file = NULL;
        k->output_from = end;
        h->syncing--;
        a->works--;
        if (rc && !h->rc) {
                h->rc = -E_UNAVAIL;
                err_set(&h->e, E_UNAVAIL, "the hub cannot make output durable (%s); try again", err_name(rc));
        }
        if (h->s)
                hello_step(h);
        else
                maybe_free(h);
        agents_maybe_closed(a);
}

static int held_begin(struct hello *h, struct held *k)
{
        struct agents *a = h->s->a;
        struct attempt *t;
        uint64_t end = 0;
        int rc;

        if (k->verdict == ENGINE_FORGET)
                return 0;
        rc = logs_end(a->opt.logs, k->attempt_id, &end, &h->e);
        if (rc || end == 0)
                return rc;
        /* So that its result looks into the log. */
        rc = attempt_get(h->s, k->attempt_id, &t);
        if (rc)
                return err_set(&h->e, E_NOMEM, "the hub is out of memory");
        t->logged = true;
        rc = logs_open(a->opt.logs, k->attempt_id, &k->file, &end, &h->e);
        if (rc)
                return rc;
        h->syncing++;
        a->works++;
        rc = log_sync(k->file, on_durable, k);
        if (rc) {
                h->syncing--;
                a->works--;
                log_close(k->file);
                k->file = NULL;
                return err_set(&h->e, -rc, "the hub cannot make output durable (%s); try again",
                               err_name(rc));
        }
        return 0;
}

static void hello_step(struct hello *h)
{
        while (!h->rc && h->next < h->n && h->syncing < SYNCS_MAX)
                h->rc = held_begin(h, &h->held[h->next++]);
        if (h->syncing == 0 && (h->rc || h->next == h->n))
                hello_done(h);
}

/* ---- the question ---- */

static int take_held(struct hello *h, const Photon__V1__HelloRequest *q)
{
        h->held = mem_calloc(q->n_held + 1, sizeof *h->held);
        if (!h->held)
                return err_set(&h->e, E_NOMEM, "the hub is out of memory");
        for (size_t i = 0; i < q->n_held; i++) {
                struct held *k = &h->held[h->n++];

                k->h = h;
                k->attempt_id = q->held[i]->attempt_id;
                k->verdict = engine_held(h->s->a->engine, h->s->agent_id, k->attempt_id);
                engine_held_questions(h->s->a->engine, h->s->agent_id, k->attempt_id,
                                      q->held[i]->open_questions, q->held[i]->n_open_questions);
        }
        return 0;
}

static void tell_online(struct session *s, const char *info)
{
        struct agents *a = s->a;
        struct store_tx *tx = store_begin(a->opt.store);
        char fields[160];

        session_seen(s, tx, info);
        snprintf(fields, sizeof fields, "\"agent\":\"%s\",\"agent_id\":\"%s\"", s->name, s->agent_id);
        bus_put(a->opt.bus, tx, agents_now_us(a), "agent.online", "", NULL, fields);
        auth_commit(a->opt.auth, tx, NULL, NULL);
}

static int welcome(struct hello *h, const Photon__V1__HelloRequest *q)
{
        struct session *s = h->s;
        char *info = NULL;
        int rc = inventory_from_hello(q, &info, &h->e);

        if (rc)
                return rc;
        tell_online(s, info);
        mem_free(info);
        rc = inventory_tell(s->a, s->agent_id, engine_agent_online, &h->e);
        if (rc)
                return rc;
        s->in_engine = true;
        engine_agent_seen(s->a->engine, s->agent_id, q->seen_attempt);
        log_info(AREA, "agent online", "agent=%s addr=%s version=%s os=%s arch=%s tools=%zu held=%zu",
                 s->name, s->address, q->software, q->os, q->arch, q->n_tools, q->n_held);
        return take_held(h, q);
}

static void on_message(struct rpc_call *c, const uint8_t *p, size_t n, void *arg)
{
        struct hello *h = arg;
        struct session *s = h->s;
        Photon__V1__HelloRequest *q;

        (void)c;
        if (!s)
                return;
        if (h->said || session_move(s, SESSION_GREETING)) {
                session_violation(s, "Hello is said once, and first");
                return;
        }
        h->said = true;
        if (n > HELLO_BYTES_MAX) {
                session_violation(s, "a Hello of %zu bytes; at most %u: fewer tools, or shorter schemas", n,
                                  HELLO_BYTES_MAX);
                return;
        }
        q = (Photon__V1__HelloRequest *)rpc_unpack(&photon__v1__hello_request__descriptor, p, n);
        if (!q) {
                session_violation(s, "a malformed Hello");
                return;
        }
        if (q->step_nonce.len == sizeof h->nonce) {
                memcpy(h->nonce, q->step_nonce.data, sizeof h->nonce);
                h->asks = true;
        }
        s->takes_secrets = q->takes_secrets;
        h->rc = welcome(h, q);
        protobuf_c_message_free_unpacked(&q->base, NULL);
        if (h->rc == -E_INVAL)
                session_violation(s, "Hello: %s", h->e.msg);
        else
                hello_step(h);
}

static void on_end(struct rpc_call *c, const struct rpc_status *st, void *arg)
{
        struct hello *h = arg;
        struct session *s = h->s;

        (void)c;
        (void)st;
        h->call = NULL;
        if (s && s->state != SESSION_DOWN)
                session_cut(s, E_CANCELLED, "Hello was not waited for");
        else
                maybe_free(h);
}

static const struct rpc_call_events events = {.on_message = on_message, .on_end = on_end};

void on_hello(struct rpc_conn *conn, struct rpc_call *c, void *conn_arg)
{
        struct session *s = conn_arg;
        struct hello *h;

        (void)conn;
        if (s->state != SESSION_KNOWN || s->hello) {
                session_violation(s, "Hello in state %s", session_state_name(s->state));
                return;
        }
        h = mem_calloc(1, sizeof *h);
        if (!h) {
                rpc_finish(c, E_NOMEM, "the hub is out of memory");
                return;
        }
        h->a = s->a;
        h->s = s;
        h->call = c;
        s->hello = h;
        rpc_set_events(c, &events, h);
}
