#include "tests/lib/hub_bench.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/json.h"
#include "common/mem.h"
#include "common/secret.h"
#include "hub/sched/engine.h"

/* ---- the hub ---- */

static void on_idle(uv_idle_t *i)
{
        (void)i;
}

static void want_flush(void *ctx)
{
        struct hb *h = ctx;

        h->want_flush = true;
        uv_idle_start(&h->idle, on_idle); /* so that the poll does not wait */
}

static void want_timer(void *ctx, int64_t at)
{
        (void)ctx, (void)at;
}

static void on_check(uv_check_t *c)
{
        struct hb *h = c->data;

        if (h->want_flush) {
                h->want_flush = false;
                uv_idle_stop(&h->idle);
                engine_flush(h->en);
        }
        if (h->agents)
                agents_flush(h->agents);
}

static int64_t skewed_us(void *ctx)
{
        return clock_now_us(&clock_system) + ((struct hb *)ctx)->skew_ms * 1000;
}

static int64_t skewed_ms(void *ctx)
{
        return clock_mono_ms(&clock_system) + ((struct hb *)ctx)->skew_ms;
}

static void must(int rc, const struct err *e)
{
        if (rc)
                test_fail(__FILE__, __LINE__, "%s", e->msg);
}

/* The engine believes that each secret is there; none is, unless a test has a vault. */
static bool vault_open_always(void *ctx)
{
        (void)ctx;
        return true;
}

static int64_t vault_knows_all(void *ctx, const char *project, const char *name)
{
        (void)ctx, (void)project, (void)name;
        return 1;
}

static void vault_mark_none(void *ctx, const char *run_id, const char *step_id, uint32_t attempt,
                            char out[ENGINE_MARK_LEN])
{
        (void)ctx, (void)run_id, (void)step_id, (void)attempt;
        out[0] = '\0';
}

void hb_open(struct hb *h)
{
        struct err e = {0};
        struct store_options so = {.create = true};
        struct engine_options eo = {.clock = &clock_system,
                                    .lost_after_ms = 60000,
                                    .seed = 7,
                                    .want_timer = want_timer,
                                    .want_flush = want_flush,
                                    .ctx = h};
        struct agents_options ao = {.clock = &h->clock,
                                    .agent_listen = "127.0.0.1:0",
                                    .enroll_listen = "127.0.0.1:0",
                                    .max_agents = 100};
        struct auth_options uo = {.clock = &clock_system};
        int64_t heartbeat_ms = h->heartbeat_ms;

        memset(h, 0, sizeof *h);
        h->clock = (struct clock){skewed_us, skewed_ms, h};
        wire_init(&h->wire);
        h->dir = so.dir = test_scratch();
        CHECK_INT(mailbox_create(&h->wire.loop, &h->mb), 0);
        so.mailbox = h->mb;
        must(store_open(&so, &h->store, &e), &e);
        CHECK_INT(bus_create(0, &h->bus), 0);
        must(logs_create(h->dir, &h->logs, &e), &e);
        logs_use_loop(h->logs, &h->wire.loop);
        must(ca_init(h->dir, NULL, clock_now_us(&clock_system), &e), &e);
        must(ca_load(h->dir, NULL, clock_now_us(&clock_system), &h->ca, &e), &e);
        uo.store = h->store;
        uo.bus = h->bus;
        uo.ca = &h->ca;
        must(auth_create(&uo, &h->auth, &e), &e);
        ao.loop = &h->wire.loop;
        ao.net = h->wire.net;
        ao.auth = h->auth;
        ao.store = h->store;
        ao.bus = h->bus;
        ao.logs = h->logs;
        ao.ca = &h->ca;
        ao.heartbeat_ms = heartbeat_ms;
        must(agents_create(&ao, &h->agents, &e), &e);
        eo.store = h->store;
        eo.bus = h->bus;
        eo.wire = agents_wire(h->agents);
        eo.vault = (struct engine_vault){vault_open_always, NULL, vault_knows_all, vault_mark_none, NULL};
        uv_check_init(&h->wire.loop, &h->check);
        uv_idle_init(&h->wire.loop, &h->idle);
        h->check.data = h;
        uv_check_start(&h->check, on_check);
        must(engine_create(&eo, &h->en, &e), &e);
        must(engine_load(h->en, &e), &e);
        agents_set_engine(h->agents, h->en);
        must(agents_listen(h->agents, &e), &e);
}

static void set_true(void *arg)
{
        *(bool *)arg = true;
}

void hb_close(struct hb *h)
{
        agents_close(h->agents, 1000, set_true, &h->closed);
        HB_UNTIL(h, h->closed);
        store_close(h->store);
        mailbox_drain(h->mb);
        agents_free(h->agents);
        engine_free(h->en);
        h->agents = NULL;
        auth_free(h->auth);
        logs_free(h->logs);
        bus_free(h->bus);
        ca_fini(&h->ca);
        uv_close((uv_handle_t *)&h->check, NULL);
        uv_close((uv_handle_t *)&h->idle, NULL);
        mailbox_close(h->mb, set_true, &h->mb_closed);
        HB_UNTIL(h, h->mb_closed);
        wire_fini(&h->wire);
}

static void on_durable(void *arg, const struct engine_done *d)
{
        struct hb *h = arg;

        if (d->rc)
                test_fail(__FILE__, __LINE__, "submit: %s", d->err->msg);
        snprintf(h->run, sizeof h->run, "%s", d->run_id);
}

static void on_finished(void *arg, const struct engine_done *d)
{
        struct hb *h = arg;

        h->finished = true;
        h->state = d->state;
}

void hb_submit(struct hb *h, const char *yaml)
{
        struct engine_submit s = {.def_text = yaml,
                                  .def_len = strlen(yaml),
                                  .kind = "run",
                                  .created_by = "t",
                                  .want_finish = true};
        struct err e = {0};

        must(workflow_parse(yaml, s.def_len, &s.workflow, &e), &e);
        CHECK_INT(workflow_inputs(s.workflow, NULL, false, &s.inputs, &e), 0);
        h->run[0] = '\0';
        h->finished = false;
        engine_submit(h->en, &s, on_durable, on_finished, h);
        HB_UNTIL(h, h->run[0]);
}

void hb_answer(void *arg, int rc, const struct err *e)
{
        struct hb *h = arg;

        (void)e;
        h->answers++;
        h->answer_rc = rc;
}

/* ---- connections ---- */

static void on_ready(struct rpc_conn *conn, const struct link_peer *peer, void *arg)
{
        (void)conn, (void)peer;
        ((struct hb_conn *)arg)->ready = true;
}

static void on_close(struct rpc_conn *conn, int rc, const char *why, void *arg)
{
        struct hb_conn *c = arg;

        (void)conn;
        c->closed = true;
        c->rc = rc < 0 ? -rc : rc;
        snprintf(c->why, sizeof c->why, "%s", why ? why : "");
}

void hb_dial(struct hb *h, struct hb_conn *c, int port, const char *ca_pem, const char *cert, const char *key)
{
        const struct link_tls tls = {.ca_pem = ca_pem,
                                     .cert_pem = cert,
                                     .key_pem = key,
                                     .server_name = ca_pem ? "127.0.0.1" : NULL};
        const struct rpc_conn_options o = {
                .software = "fake-agent/1", .on_ready = on_ready, .on_close = on_close, .arg = c};
        struct err e = {0};
        char addr[32];

        memset(c, 0, sizeof *c);
        c->h = h;
        snprintf(addr, sizeof addr, "127.0.0.1:%d", port);
        must(rpc_dial(h->wire.net, addr, &tls, 5000, &o, &c->conn, &e), &e);
        HB_UNTIL(h, c->ready || c->closed);
}

void hb_hang_up(struct hb_conn *c)
{
        if (!c->closed)
                rpc_conn_close(c->conn, 0, 0, "done");
        HB_UNTIL(c->h, c->closed);
}

static void on_reply(const struct rpc_status *st, const uint8_t *p, size_t n, void *arg)
{
        struct hb_reply *r = arg;

        r->done = true;
        r->code = st->code;
        snprintf(r->message, sizeof r->message, "%s", st->message);
        r->p = p ? mem_dup(p, n ? n : 1) : NULL;
        r->n = n;
}

void hb_call(struct hb_conn *c, const char *method, const ProtobufCMessage *m, struct hb_reply *r)
{
        memset(r, 0, sizeof *r);
        CHECK_INT(rpc_unary(c->conn, method, m, 5000, on_reply, r), 0);
        HB_UNTIL(c->h, r->done);
}

/* ---- joining ---- */

struct hb_token hb_token_make(struct hb *h, int64_t uses)
{
        struct store_tx *tx = store_begin(h->store);
        struct join_request r = {.uses = uses, .ttl_ms = 3600000, .created_by = "test"};
        struct hb_token t;
        struct err e = {0};

        must(auth_join_create(h->auth, tx, &r, t.id, t.secret, &e), &e);
        auth_commit(h->auth, tx, NULL, NULL);
        return t;
}

struct hb_machine hb_machine_make(void)
{
        struct hb_machine m = {0};

        CHECK_INT(pki_key_make(&m.key, NULL), 0);
        CHECK_INT(pki_csr_make(m.key, "x", &m.csr, &m.csr_len, NULL), 0);
        return m;
}

void hb_machine_free(struct hb_machine *m)
{
        pki_free_secret(m->key);
        mem_free(m->cert);
        mem_free(m->csr);
}

static int take_certificate(struct hb_machine *m, const struct hb_reply *r, char why[512])
{
        Photon__V1__CertificateReply *cr;

        if (why)
                snprintf(why, 512, "%s", r->message);
        if (r->code)
                return r->code;
        cr = (Photon__V1__CertificateReply *)rpc_unpack(&photon__v1__certificate_reply__descriptor, r->p,
                                                        r->n);
        CHECK(cr != NULL);
        mem_free(m->cert);
        CHECK_INT(pki_der_to_pem("CERTIFICATE", cr->cert_der.data, cr->cert_der.len, &m->cert), 0);
        snprintf(m->id, sizeof m->id, "%s", cr->agent_id);
        snprintf(m->name, sizeof m->name, "%s", cr->name);
        protobuf_c_message_free_unpacked(&cr->base, NULL);
        return 0;
}

static void get_nonce(struct hb_conn *c, uint8_t out[64], const struct hb_machine *m)
{
        Photon__V1__ChallengeRequest q = PHOTON__V1__CHALLENGE_REQUEST__INIT;
        Photon__V1__ChallengeReply *cr;
        struct hb_reply r;

        hb_call(c, "photon.v1.Enroll/Challenge", &q.base, &r);
        CHECK_INT(r.code, 0);
        cr = (Photon__V1__ChallengeReply *)rpc_unpack(&photon__v1__challenge_reply__descriptor, r.p, r.n);
        CHECK(cr && cr->nonce.len == 32);
        memcpy(out, cr->nonce.data, 32);
        secret_sha256(m->csr, m->csr_len, out + 32);
        protobuf_c_message_free_unpacked(&cr->base, NULL);
        mem_free(r.p);
}

int hb_enroll(struct hb *h, struct hb_machine *m, const struct hb_token *t, const char *name, char why[512])
{
        Photon__V1__RedeemRequest q = PHOTON__V1__REDEEM_REQUEST__INIT;
        uint8_t transcript[64], proof[32];
        struct hb_conn c;
        struct hb_reply r;
        int code;

        hb_dial(h, &c, agents_enroll_port(h->agents), h->ca.ca_cert_pem, NULL, NULL);
        CHECK(c.ready);
        get_nonce(&c, transcript, m);
        secret_proof(t->secret, 32, transcript, sizeof transcript, proof);
        q.token_id = (char *)(uintptr_t)t->id;
        q.name = (char *)(uintptr_t)name;
        q.proof.data = proof;
        q.proof.len = sizeof proof;
        q.csr_der.data = m->csr;
        q.csr_der.len = m->csr_len;
        hb_call(&c, "photon.v1.Enroll/Redeem", &q.base, &r);
        code = take_certificate(m, &r, why);
        mem_free(r.p);
        hb_hang_up(&c);
        return code;
}

int hb_rejoin(struct hb *h, struct hb_machine *m, const char *sign_key, char why[512])
{
        Photon__V1__RejoinRequest q = PHOTON__V1__REJOIN_REQUEST__INIT;
        uint8_t transcript[64], *sig = NULL;
        size_t sig_len = 0;
        struct hb_conn c;
        struct hb_reply r;
        int code;

        hb_dial(h, &c, agents_enroll_port(h->agents), h->ca.ca_cert_pem, NULL, NULL);
        get_nonce(&c, transcript, m);
        CHECK_INT(pki_sign(sign_key, transcript, sizeof transcript, &sig, &sig_len, NULL), 0);
        q.agent_id = m->id;
        q.csr_der.data = m->csr;
        q.csr_der.len = m->csr_len;
        q.signature.data = sig;
        q.signature.len = sig_len;
        hb_call(&c, "photon.v1.Enroll/Rejoin", &q.base, &r);
        code = take_certificate(m, &r, why);
        mem_free(r.p);
        mem_free(sig);
        hb_hang_up(&c);
        return code;
}

/* ---- the agent ---- */

Photon__V1__HelloRequest *hb_hello(void)
{
        static Photon__V1__Tool exec, write;
        static Photon__V1__Tool *tools[] = {&exec, &write};
        static Photon__V1__Label zone, *labels[] = {&zone};
        static Photon__V1__HelloRequest q;

        photon__v1__tool__init(&exec);
        exec.name = (char *)(uintptr_t) "process.exec";
        exec.input_schema = (char *)(uintptr_t) "{\"type\":\"object\"}";
        exec.allowed = true;
        photon__v1__tool__init(&write);
        write.name = (char *)(uintptr_t) "file.write";
        photon__v1__label__init(&zone);
        zone.key = (char *)(uintptr_t) "zone";
        zone.value = (char *)(uintptr_t) "eu";
        photon__v1__hello_request__init(&q);
        q.software = (char *)(uintptr_t) "fake/1";
        q.hostname = (char *)(uintptr_t) "box";
        q.os = (char *)(uintptr_t) "linux";
        q.arch = (char *)(uintptr_t) "x86_64";
        q.boot_id = (char *)(uintptr_t) "boot-1";
        q.max_running = 100;
        q.tools = tools;
        q.n_tools = 2;
        q.labels = labels;
        q.n_labels = 1;
        return &q;
}

static void on_hub_message(struct rpc_call *call, const uint8_t *p, size_t n, void *arg)
{
        struct hb_agent *a = arg;
        Photon__V1__HubMessage *m =
                (Photon__V1__HubMessage *)rpc_unpack(&photon__v1__hub_message__descriptor, p, n);

        (void)call;
        CHECK(m != NULL);
        for (size_t i = 0; i < m->n_start && a->n_starts < HB_SEEN_MAX; i++) {
                a->starts[a->n_starts++] = m->start[i]->attempt_id;
                snprintf(a->last_tool, sizeof a->last_tool, "%s", m->start[i]->tool);
                snprintf(a->last_input, sizeof a->last_input, "%s", m->start[i]->input);
        }
        for (size_t i = 0; i < m->n_cancel && a->n_cancels < HB_SEEN_MAX; i++)
                a->cancels[a->n_cancels++] = m->cancel[i]->attempt_id;
        for (size_t i = 0; i < m->n_ack && a->n_acks < HB_SEEN_MAX; i++)
                a->acks[a->n_acks++] = m->ack[i]->attempt_id;
        if (m->drain)
                a->drains++;
        protobuf_c_message_free_unpacked(&m->base, NULL);
}

static void on_session_end(struct rpc_call *call, const struct rpc_status *st, void *arg)
{
        struct hb_agent *a = arg;

        (void)call, (void)st;
        a->session = NULL;
        a->session_ended = true;
}

void hb_session(struct hb_agent *a)
{
        static const struct rpc_call_events ev = {.on_message = on_hub_message, .on_end = on_session_end};

        CHECK_INT(rpc_call_open(a->c.conn, "photon.v1.Agent/Session", 0, &ev, a, &a->session), 0);
}

void hb_agent_up(struct hb *h, struct hb_agent *a, const struct hb_machine *m, const uint64_t *held,
                 size_t n_held)
{
        Photon__V1__HelloRequest *q = hb_hello();
        Photon__V1__HeldAttempt *rows = calloc(n_held + 1, sizeof *rows),
                                **ptrs = calloc(n_held + 1, sizeof *ptrs);
        struct hb_reply r;

        memset(a, 0, sizeof *a);
        hb_dial(h, &a->c, agents_port(h->agents), h->ca.ca_cert_pem, m->cert, m->key);
        if (!a->c.ready)
                test_fail(__FILE__, __LINE__, "agent could not connect: %s", a->c.why);
        for (size_t i = 0; i < n_held; i++) {
                photon__v1__held_attempt__init(&rows[i]);
                rows[i].attempt_id = held[i];
                ptrs[i] = &rows[i];
        }
        q->held = ptrs;
        q->n_held = n_held;
        hb_call(&a->c, "photon.v1.Agent/Hello", &q->base, &r);
        if (r.code)
                test_fail(__FILE__, __LINE__, "Hello: %s", r.message);
        a->hello = (Photon__V1__HelloReply *)rpc_unpack(&photon__v1__hello_reply__descriptor, r.p, r.n);
        CHECK(a->hello != NULL);
        mem_free(r.p);
        free(rows);
        free(ptrs);
        hb_session(a);
}

void hb_agent_down(struct hb_agent *a)
{
        hb_hang_up(&a->c);
        if (a->hello)
                protobuf_c_message_free_unpacked(&a->hello->base, NULL);
        a->hello = NULL;
}

void hb_send(struct hb_agent *a, Photon__V1__AgentMessage *m)
{
        CHECK_INT(rpc_send(a->session, &m->base), 0);
}

void hb_started(struct hb_agent *a, uint64_t attempt)
{
        Photon__V1__AgentMessage m = PHOTON__V1__AGENT_MESSAGE__INIT;
        Photon__V1__StepStarted s = PHOTON__V1__STEP_STARTED__INIT, *p = &s;

        s.attempt_id = attempt;
        s.at_us = clock_now_us(&clock_system);
        m.started = &p;
        m.n_started = 1;
        hb_send(a, &m);
}

void hb_finished(struct hb_agent *a, uint64_t attempt, const char *outputs, uint64_t output_bytes,
                 const char *inline_text)
{
        Photon__V1__AgentMessage m = PHOTON__V1__AGENT_MESSAGE__INIT;
        Photon__V1__StepFinished f = PHOTON__V1__STEP_FINISHED__INIT, *p = &f;
        Photon__V1__OutputChunk c = PHOTON__V1__OUTPUT_CHUNK__INIT, *cp = &c;

        f.attempt_id = attempt;
        f.outcome = PHOTON__V1__OUTCOME__OUTCOME_SUCCEEDED;
        f.outputs = (char *)(uintptr_t)outputs;
        f.has_exit_code = true;
        f.output_bytes = output_bytes;
        f.finished_us = clock_now_us(&clock_system);
        if (inline_text) {
                c.channel = PHOTON__V1__CHANNEL__CHANNEL_STDOUT;
                c.data.data = (uint8_t *)(uintptr_t)inline_text;
                c.data.len = strlen(inline_text);
                f.inline_output = &cp;
                f.n_inline_output = 1;
        }
        m.finished = &p;
        m.n_finished = 1;
        hb_send(a, &m);
}

static void on_output_ack(struct rpc_call *call, const uint8_t *p, size_t n, void *arg)
{
        struct hb_output *o = arg;
        Photon__V1__OutputAck *m =
                (Photon__V1__OutputAck *)rpc_unpack(&photon__v1__output_ack__descriptor, p, n);

        (void)call;
        CHECK(m && m->durable > o->durable);
        o->durable = m->durable;
        protobuf_c_message_free_unpacked(&m->base, NULL);
}

static void on_output_end(struct rpc_call *call, const struct rpc_status *st, void *arg)
{
        struct hb_output *o = arg;

        (void)call;
        o->call = NULL;
        o->ended = true;
        o->code = st->code;
        snprintf(o->message, sizeof o->message, "%s", st->message);
}

void hb_output_open(struct hb_agent *a, struct hb_output *o)
{
        static const struct rpc_call_events ev = {.on_message = on_output_ack, .on_end = on_output_end};

        memset(o, 0, sizeof *o);
        CHECK_INT(rpc_call_open(a->c.conn, "photon.v1.Agent/Output", 0, &ev, o, &o->call), 0);
}

int hb_chunk(struct hb_output *o, uint64_t attempt, uint64_t offset, const void *p, size_t n)
{
        Photon__V1__OutputChunk m = PHOTON__V1__OUTPUT_CHUNK__INIT;

        m.attempt_id = attempt;
        m.offset = offset;
        m.channel = PHOTON__V1__CHANNEL__CHANNEL_STDOUT;
        m.data.data = (uint8_t *)(uintptr_t)p;
        m.data.len = n;
        m.at_us = 1;
        return o->call ? rpc_send(o->call, &m.base) : -E_CLOSED;
}

struct text {
        char *p;
        size_t n, size;
};

static int on_piece(void *arg, uint64_t offset, int channel, const void *p, size_t n, int64_t at_us)
{
        struct text *t = arg;

        (void)channel, (void)at_us;
        CHECK_INT(offset, t->n);
        CHECK(t->n + n < t->size);
        memcpy(t->p + t->n, p, n);
        t->n += n;
        return 0;
}

void hb_log_text(struct hb *h, uint64_t attempt, char *out, size_t size)
{
        struct text t = {out, 0, size};
        struct log_reader *r = NULL;
        struct store_reader *sr;
        struct err e = {0};
        char *small = NULL;
        size_t n = 0;

        must(store_reader_open(h->store, &sr, &e), &e);
        if (read_small_output(sr, attempt, &small, &n) == 0)
                CHECK_INT(log_reader_open_mem(small, n, &r), 0);
        else if (log_reader_open(h->dir, attempt, &r))
                r = NULL;
        while (r) {
                size_t before = t.n;

                CHECK_INT(log_reader_next(r, size, on_piece, &t), 0);
                if (t.n == before)
                        break;
        }
        out[t.n] = '\0';
        if (r)
                log_reader_close(r);
        mem_free(small);
        store_reader_close(sr);
}
