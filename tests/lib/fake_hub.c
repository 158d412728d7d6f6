#include "tests/lib/fake_hub.h"

#include "common/clock.h"
#include "common/err.h"
#include "common/mem.h"
#include "common/secret.h"
#include "tests/lib/test.h"

#include <stdio.h>
#include <string.h>

const uint8_t fake_hub_secret[32] = "a secret of thirty-two bytes....";

static void get_ca_message(struct rpc_call *c, const uint8_t *p, size_t n, void *arg)
{
        struct fake_hub *h = arg;
        Photon__V1__GetCaReply r = PHOTON__V1__GET_CA_REPLY__INIT;

        (void)p;
        (void)n;
        h->get_cas++;
        r.ca_der.data = h->ca_der;
        r.ca_der.len = h->ca_len;
        rpc_reply(c, &r.base);
}

static void challenge_message(struct rpc_call *c, const uint8_t *p, size_t n, void *arg)
{
        struct fake_hub *h = arg;
        Photon__V1__ChallengeReply r = PHOTON__V1__CHALLENGE_REPLY__INIT;

        (void)p;
        (void)n;
        h->challenges++;
        memset(h->nonce, h->challenges, sizeof h->nonce);
        r.nonce.data = h->nonce;
        r.nonce.len = sizeof h->nonce;
        rpc_reply(c, &r.base);
}

static void certificate(struct fake_hub *h, struct rpc_call *c, const ProtobufCBinaryData *csr)
{
        int64_t now = clock_now_us(&clock_system);
        struct pki_issue what = {.purpose = PKI_CLIENT,
                                 .cn = "a1",
                                 .uri = "photon:agent:id-1",
                                 .not_before_us = now + h->before_us,
                                 .not_after_us = now + h->after_us};
        Photon__V1__CertificateReply r = PHOTON__V1__CERTIFICATE_REPLY__INIT;
        char address[32];
        struct err e = {0};

        if (pki_issue(h->wire.ca.cert, h->wire.ca.key, &what, csr->data, csr->len, NULL, &r.cert_der.data,
                      &r.cert_der.len, NULL, &e))
                test_fail(__FILE__, __LINE__, "issue: %s", e.msg);
        snprintf(address, sizeof address, "127.0.0.1:%d", h->agent_port);
        r.agent_id = (char *)"id-1";
        r.name = (char *)"a1";
        r.ca_der.data = h->ca_der;
        r.ca_der.len = h->ca_len;
        r.agent_address = address;
        rpc_reply(c, &r.base);
        mem_free(r.cert_der.data);
}

static void transcript_of(const struct fake_hub *h, const ProtobufCBinaryData *csr, uint8_t out[64])
{
        memcpy(out, h->nonce, 32);
        secret_sha256(csr->data, csr->len, out + 32);
}

static void redeem_message(struct rpc_call *c, const uint8_t *p, size_t n, void *arg)
{
        struct fake_hub *h = arg;
        Photon__V1__RedeemRequest *m = photon__v1__redeem_request__unpack(NULL, n, p);
        uint8_t stored[32], transcript[64];

        CHECK(m && m->proof.len == 32);
        CHECK_INT(pki_csr_spki_sha256(m->csr_der.data, m->csr_der.len, h->spki[h->redeems], NULL), 0);
        h->redeems++;
        secret_stored_key(fake_hub_secret, sizeof fake_hub_secret, stored);
        transcript_of(h, &m->csr_der, transcript);
        CHECK(secret_proof_ok(stored, transcript, sizeof transcript, m->proof.data));
        CHECK_STR(m->token_id, "tok-1");
        if (h->refuse) {
                rpc_finish(c, h->refuse, "the token is spent");
        } else if (h->lose_redeem) {
                h->lose_redeem = false;
                rpc_conn_close(rpc_call_conn(c), 0, E_INTERNAL, "lost");
        } else {
                certificate(h, c, &m->csr_der);
        }
        photon__v1__redeem_request__free_unpacked(m, NULL);
}

static void rejoin_message(struct rpc_call *c, const uint8_t *p, size_t n, void *arg)
{
        struct fake_hub *h = arg;
        Photon__V1__RejoinRequest *m = photon__v1__rejoin_request__unpack(NULL, n, p);
        uint8_t transcript[64];

        CHECK(m);
        h->rejoins++;
        CHECK_STR(m->agent_id, "id-1");
        transcript_of(h, &m->csr_der, transcript);
        CHECK_INT(pki_csr_verify_sig(m->csr_der.data, m->csr_der.len, transcript, sizeof transcript,
                                     m->signature.data, m->signature.len, NULL),
                  0);
        h->after_us = HOUR_US;
        if (h->refuse)
                rpc_finish(c, h->refuse, "revoked");
        else
                certificate(h, c, &m->csr_der);
        photon__v1__rejoin_request__free_unpacked(m, NULL);
}

static void renew_message(struct rpc_call *c, const uint8_t *p, size_t n, void *arg)
{
        struct fake_hub *h = arg;
        Photon__V1__RenewRequest *m = photon__v1__renew_request__unpack(NULL, n, p);

        h->renews++;
        h->before_us = -HOUR_US;
        h->after_us = 10 * HOUR_US;
        certificate(h, c, &m->csr_der);
        photon__v1__renew_request__free_unpacked(m, NULL);
}

static void note_tools(struct fake_hub *h, Photon__V1__Tool *const *tools, size_t n)
{
        size_t at = 1;

        snprintf(h->tools, sizeof h->tools, " ");
        for (size_t i = 0; i < n && at < sizeof h->tools; i++)
                at += (size_t)snprintf(h->tools + at, sizeof h->tools - at, "%s ", tools[i]->name);
}

static void hello_message(struct rpc_call *c, const uint8_t *p, size_t n, void *arg)
{
        struct fake_hub *h = arg;
        Photon__V1__HelloRequest *m = photon__v1__hello_request__unpack(NULL, n, p);
        Photon__V1__HelloReply r = PHOTON__V1__HELLO_REPLY__INIT;
        Photon__V1__HeldReply held[16], *list[16];

        h->hellos++;
        note_tools(h, m->tools, m->n_tools);
        if (h->refuse) {
                rpc_finish(c, h->refuse, "this agent was revoked");
                photon__v1__hello_request__free_unpacked(m, NULL);
                return;
        }
        CHECK(m->n_tools > 0 && m->hostname[0] && m->boot_id[0] && m->policy_sha256[0]);
        snprintf(h->journal_id, sizeof h->journal_id, "%s", m->journal_id);
        h->n_held = m->n_held;
        for (size_t i = 0; i < m->n_held; i++) {
                h->held[i] = m->held[i]->attempt_id;
                h->held_state[i] = m->held[i]->state;
                photon__v1__held_reply__init(&held[i]);
                held[i].attempt_id = m->held[i]->attempt_id;
                held[i].verdict = h->verdict;
                held[i].output_from = h->output_from;
                list[i] = &held[i];
        }
        r.held = list;
        r.n_held = m->n_held;
        r.hub_version = (char *)"test";
        r.now_us = clock_now_us(&clock_system);
        r.heartbeat_ms = 5000;
        rpc_reply(c, &r.base);
        photon__v1__hello_request__free_unpacked(m, NULL);
}

static void send_hub(struct fake_hub *h, Photon__V1__HubMessage *m)
{
        CHECK(h->session);
        CHECK_INT(rpc_send(h->session, &m->base), 0);
}

static void ack(struct fake_hub *h, uint64_t id)
{
        Photon__V1__ResultAck a = PHOTON__V1__RESULT_ACK__INIT, *list[] = {&a};
        Photon__V1__HubMessage m = PHOTON__V1__HUB_MESSAGE__INIT;

        a.attempt_id = id;
        m.ack = list;
        m.n_ack = 1;
        send_hub(h, &m);
}

static void session_message(struct rpc_call *c, const uint8_t *p, size_t n, void *arg)
{
        struct fake_hub *h = arg;
        Photon__V1__AgentMessage *m = photon__v1__agent_message__unpack(NULL, n, p);

        (void)c;
        CHECK(m);
        h->started += (int)m->n_started;
        if (m->inventory) {
                h->inventories++;
                note_tools(h, m->inventory->tools, m->inventory->n_tools);
        }
        for (size_t i = 0; i < m->n_finished; i++) {
                mem_free(h->before);
                h->before = h->last;
                h->before_len = h->last_len;
                h->last_len = photon__v1__step_finished__get_packed_size(m->finished[i]);
                h->last = mem_alloc(h->last_len + 1);
                photon__v1__step_finished__pack(m->finished[i], h->last);
                h->finished_id = m->finished[i]->attempt_id;
                h->outcome = m->finished[i]->outcome;
                h->finished++;
                if (h->ack_results)
                        ack(h, h->finished_id);
        }
        photon__v1__agent_message__free_unpacked(m, NULL);
}

static void session_end(struct rpc_call *c, const struct rpc_status *st, void *arg)
{
        (void)c;
        (void)st;
        ((struct fake_hub *)arg)->session = NULL;
}

static void output_message(struct rpc_call *c, const uint8_t *p, size_t n, void *arg)
{
        struct fake_hub *h = arg;
        Photon__V1__OutputChunk *m = photon__v1__output_chunk__unpack(NULL, n, p);
        Photon__V1__OutputAck a = PHOTON__V1__OUTPUT_ACK__INIT;

        CHECK(m && m->data.len > 0);
        if (h->bytes_len == 0 || h->first_offset == UINT64_MAX)
                h->first_offset = m->offset;
        if (m->offset > h->bytes_len)
                h->gap = true;
        h->bytes = mem_realloc(h->bytes, (size_t)(m->offset + m->data.len));
        memcpy(h->bytes + m->offset, m->data.data, m->data.len);
        h->bytes_len = m->offset + m->data.len;
        a.durable = h->bytes_len;
        if (h->ack_output)
                rpc_send(c, &a.base);
        photon__v1__output_chunk__free_unpacked(m, NULL);
}

static void output_peer_end(struct rpc_call *c, void *arg)
{
        struct fake_hub *h = arg;

        h->output_ended = true;
        if (h->ack_output)
                rpc_finish(c, 0, "");
}

static void output_end(struct rpc_call *c, const struct rpc_status *st, void *arg)
{
        (void)c;
        (void)st;
        ((struct fake_hub *)arg)->output = NULL;
}

static const struct rpc_call_events get_ca_events = {.on_message = get_ca_message};
static const struct rpc_call_events challenge_events = {.on_message = challenge_message};
static const struct rpc_call_events redeem_events = {.on_message = redeem_message};
static const struct rpc_call_events rejoin_events = {.on_message = rejoin_message};
static const struct rpc_call_events hello_events = {.on_message = hello_message};
static const struct rpc_call_events renew_events = {.on_message = renew_message};
static const struct rpc_call_events session_events = {.on_message = session_message, .on_end = session_end};
static const struct rpc_call_events output_events = {
        .on_message = output_message, .on_peer_end = output_peer_end, .on_end = output_end};

#define ON_CALL(name)                                                                                        \
        static void on_##name(struct rpc_conn *conn, struct rpc_call *c, void *arg)                          \
        {                                                                                                    \
                (void)conn;                                                                                  \
                rpc_set_events(c, &name##_events, arg);                                                      \
        }
ON_CALL(get_ca)
ON_CALL(challenge)
ON_CALL(redeem)
ON_CALL(rejoin)
ON_CALL(hello)
ON_CALL(renew)

static void on_session(struct rpc_conn *conn, struct rpc_call *c, void *arg)
{
        (void)conn;
        ((struct fake_hub *)arg)->session = c;
        rpc_set_events(c, &session_events, arg);
}

static void on_output(struct rpc_conn *conn, struct rpc_call *c, void *arg)
{
        (void)conn;
        ((struct fake_hub *)arg)->output = c;
        rpc_set_events(c, &output_events, arg);
}

static const struct rpc_service_method enroll_methods[] = {
        {.name = "photon.v1.Enroll/GetCa", .on_call = on_get_ca},
        {.name = "photon.v1.Enroll/Challenge", .on_call = on_challenge},
        {.name = "photon.v1.Enroll/Redeem", .on_call = on_redeem},
        {.name = "photon.v1.Enroll/Rejoin", .on_call = on_rejoin},
        {0}};
static const struct rpc_service_method agent_methods[] = {
        {.name = "photon.v1.Agent/Hello", .on_call = on_hello},
        {.name = "photon.v1.Agent/Session", .on_call = on_session},
        {.name = "photon.v1.Agent/Output", .on_call = on_output},
        {.name = "photon.v1.Agent/Renew", .on_call = on_renew},
        {0}};

static void conn_closed(struct rpc_conn *c, int rc, const char *why, void *arg)
{
        struct fake_hub *h = arg;

        (void)rc;
        (void)why;
        h->closes++;
        if (h->conn == c)
                h->conn = NULL;
}

static int accept_with(struct link *l, const struct rpc_service_method *methods,
                       const struct link_events **ev, void **arg, struct fake_hub *h, struct rpc_conn **out)
{
        struct rpc_conn_options o = {
                .methods = methods, .software = "test-hub", .on_close = conn_closed, .arg = h};

        return rpc_accept(l, &o, ev, arg, out);
}

static int accept_enroll(struct link *l, const struct link_events **ev, void **arg, void *ctx)
{
        struct rpc_conn *c;

        return accept_with(l, enroll_methods, ev, arg, ctx, &c);
}

static int accept_agent(struct link *l, const struct link_events **ev, void **arg, void *ctx)
{
        struct fake_hub *h = ctx;

        h->dials++;
        return accept_with(l, agent_methods, ev, arg, ctx, &h->conn);
}

void fake_hub_listen(struct fake_hub *h, bool enroll, int port)
{
        struct link_tls tls = wire_server_tls(&h->wire);
        struct link_listener_options o = {
                .max_links = 16, .on_accept = enroll ? accept_enroll : accept_agent, .ctx = h};
        char address[32];
        struct err e = {0};

        snprintf(address, sizeof address, "0.0.0.0:%d", port);
        o.host_port = address;
        tls.require_peer = !enroll;
        if (link_listen(h->wire.net, &o, &tls, enroll ? &h->enroll : &h->agents, &e))
                test_fail(__FILE__, __LINE__, "listen: %s", e.msg);
}

struct fake_hub *fake_hub_make(void)
{
        struct fake_hub *h = mem_calloc(1, sizeof *h);

        mem_install_hooks();
        wire_init(&h->wire);
        CHECK_INT(pki_pem_to_der("CERTIFICATE", h->wire.ca.cert, &h->ca_der, &h->ca_len, NULL), 0);
        h->before_us = -60 * 1000000LL;
        h->after_us = 24 * HOUR_US;
        h->verdict = PHOTON__V1__HELD_VERDICT__HELD_KEEP;
        h->ack_results = h->ack_output = true;
        fake_hub_listen(h, true, 0);
        fake_hub_listen(h, false, 0);
        h->enroll_port = link_listener_port(h->enroll);
        h->agent_port = link_listener_port(h->agents);
        return h;
}

void fake_hub_free(struct fake_hub *h)
{
        link_listener_close(h->enroll);
        link_listener_close(h->agents);
        wire_fini(&h->wire);
        mem_free(h->ca_der);
        mem_free(h->last);
        mem_free(h->before);
        mem_free(h->bytes);
        mem_free(h);
}

void fake_hub_start(struct fake_hub *h, uint64_t id, const char *tool)
{
        Photon__V1__StepStart s = PHOTON__V1__STEP_START__INIT, *list[] = {&s};
        Photon__V1__HubMessage m = PHOTON__V1__HUB_MESSAGE__INIT;

        s.attempt_id = id;
        s.run_id = (char *)"run";
        s.step_id = (char *)"step";
        s.tool = (char *)(uintptr_t)tool;
        s.input = (char *)"{}";
        m.start = list;
        m.n_start = 1;
        send_hub(h, &m);
}
