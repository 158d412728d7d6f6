/* The agent against a hub made for the test: joining, coming back, and that nothing is said twice or lost. Real TLS on
 * loopback, real enroller, connection, jobs, journal and output; the hub's side is below. */
#include "agent/conn.h"
#include "agent/enroll.h"
#include "agent/identity.h"
#include "agent/job.h"
#include "agent/journal.h"
#include "agent/output.h"
#include "agent/policy.h"
#include "agent/tools/tool.h"
#include "common/clock.h"
#include "common/err.h"
#include "common/file.h"
#include "common/jointoken.h"
#include "common/mem.h"
#include "common/rpc.h"
#include "common/secret.h"
#include "common/str.h"
#include "photon/v1/agent.pb-c.h"
#include "photon/v1/enroll.pb-c.h"
#include "tests/lib/test.h"
#include "tests/lib/wire.h"

#include <stdio.h>
#include <sys/stat.h>

#define HOUR_US (3600LL * 1000000)

static const uint8_t secret[32] = "a secret of thirty-two bytes....";

/* ---- the hub ---- */

struct hub {
        struct wire           wire;
        struct link_listener *enroll, *agents;
        int                   enroll_port, agent_port;
        uint8_t              *ca_der;
        size_t                ca_len;
        /* what it does */
        bool    lose_redeem;   /* the next Redeem is done, its answer never sent */
        int     refuse;        /* Redeem, Rejoin and Hello answer with this code */
        int64_t before_us, after_us; /* of certificates, from now */
        bool    ack_results, ack_output;
        uint64_t output_from;
        Photon__V1__HeldVerdict verdict;
        /* what it saw */
        int     closes, get_cas, challenges, redeems, rejoins, renews, hellos, dials;
        uint8_t nonce[32], spki[4][32];
        struct rpc_conn *conn;
        struct rpc_call *session, *output;
        uint64_t held[16];
        Photon__V1__AttemptState held_state[16];
        size_t   n_held;
        char     journal_id[64];
        int      started, finished;
        uint64_t finished_id;
        Photon__V1__Outcome outcome;
        uint8_t *last, *before; /* the last two results, packed */
        size_t   last_len, before_len;
        uint8_t *bytes;
        uint64_t bytes_len, first_offset;
        bool     gap, output_ended;
};


static void get_ca_message(struct rpc_call *c, const uint8_t *p, size_t n, void *arg)
{
        struct hub *h = arg;
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
        struct hub *h = arg;
        Photon__V1__ChallengeReply r = PHOTON__V1__CHALLENGE_REPLY__INIT;

        (void)p;
        (void)n;
        h->challenges++;
        memset(h->nonce, h->challenges, sizeof h->nonce);
        r.nonce.data = h->nonce;
        r.nonce.len = sizeof h->nonce;
        rpc_reply(c, &r.base);
}

static void certificate(struct hub *h, struct rpc_call *c, const ProtobufCBinaryData *csr)
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

static void transcript_of(const struct hub *h, const ProtobufCBinaryData *csr, uint8_t out[64])
{
        memcpy(out, h->nonce, 32);
        secret_sha256(csr->data, csr->len, out + 32);
}

static void redeem_message(struct rpc_call *c, const uint8_t *p, size_t n, void *arg)
{
        struct hub *h = arg;
        Photon__V1__RedeemRequest *m = photon__v1__redeem_request__unpack(NULL, n, p);
        uint8_t stored[32], transcript[64];

        CHECK(m && m->proof.len == 32);
        CHECK_INT(pki_csr_spki_sha256(m->csr_der.data, m->csr_der.len, h->spki[h->redeems], NULL), 0);
        h->redeems++;
        secret_stored_key(secret, sizeof secret, stored);
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
        struct hub *h = arg;
        Photon__V1__RejoinRequest *m = photon__v1__rejoin_request__unpack(NULL, n, p);
        uint8_t transcript[64];

        CHECK(m);
        h->rejoins++;
        CHECK_STR(m->agent_id, "id-1");
        transcript_of(h, &m->csr_der, transcript);
        CHECK_INT(pki_csr_verify_sig(m->csr_der.data, m->csr_der.len, transcript, sizeof transcript, m->signature.data,
                                     m->signature.len, NULL),
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
        struct hub *h = arg;
        Photon__V1__RenewRequest *m = photon__v1__renew_request__unpack(NULL, n, p);

        h->renews++;
        h->before_us = -HOUR_US;
        h->after_us = 10 * HOUR_US;
        certificate(h, c, &m->csr_der);
        photon__v1__renew_request__free_unpacked(m, NULL);
}

static void hello_message(struct rpc_call *c, const uint8_t *p, size_t n, void *arg)
{
        struct hub *h = arg;
        Photon__V1__HelloRequest *m = photon__v1__hello_request__unpack(NULL, n, p);
        Photon__V1__HelloReply r = PHOTON__V1__HELLO_REPLY__INIT;
        Photon__V1__HeldReply held[16], *list[16];

        h->hellos++;
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

static void send_hub(struct hub *h, Photon__V1__HubMessage *m)
{
        CHECK(h->session);
        CHECK_INT(rpc_send(h->session, &m->base), 0);
}

static void ack(struct hub *h, uint64_t id)
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
        struct hub *h = arg;
        Photon__V1__AgentMessage *m = photon__v1__agent_message__unpack(NULL, n, p);

        (void)c;
        CHECK(m);
        h->started += (int)m->n_started;
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
        ((struct hub *)arg)->session = NULL;
}

static void output_message(struct rpc_call *c, const uint8_t *p, size_t n, void *arg)
{
        struct hub *h = arg;
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
        struct hub *h = arg;

        h->output_ended = true;
        if (h->ack_output)
                rpc_finish(c, 0, "");
}

static void output_end(struct rpc_call *c, const struct rpc_status *st, void *arg)
{
        (void)c;
        (void)st;
        ((struct hub *)arg)->output = NULL;
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

#define ON_CALL(name)                                                                \
        static void on_##name(struct rpc_conn *conn, struct rpc_call *c, void *arg) \
        {                                                                            \
                (void)conn;                                                          \
                rpc_set_events(c, &name##_events, arg);                              \
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
        ((struct hub *)arg)->session = c;
        rpc_set_events(c, &session_events, arg);
}

static void on_output(struct rpc_conn *conn, struct rpc_call *c, void *arg)
{
        (void)conn;
        ((struct hub *)arg)->output = c;
        rpc_set_events(c, &output_events, arg);
}

static const struct rpc_service_method enroll_methods[] = {{.name = "photon.v1.Enroll/GetCa", .on_call = on_get_ca},
                                                           {.name = "photon.v1.Enroll/Challenge", .on_call = on_challenge},
                                                           {.name = "photon.v1.Enroll/Redeem", .on_call = on_redeem},
                                                           {.name = "photon.v1.Enroll/Rejoin", .on_call = on_rejoin},
                                                           {0}};
static const struct rpc_service_method agent_methods[] = {{.name = "photon.v1.Agent/Hello", .on_call = on_hello},
                                                          {.name = "photon.v1.Agent/Session", .on_call = on_session},
                                                          {.name = "photon.v1.Agent/Output", .on_call = on_output},
                                                          {.name = "photon.v1.Agent/Renew", .on_call = on_renew},
                                                          {0}};

static void conn_closed(struct rpc_conn *c, int rc, const char *why, void *arg)
{
        struct hub *h = arg;

        (void)rc;
        (void)why;
        h->closes++;
        if (h->conn == c)
                h->conn = NULL;
}

static int accept_with(struct link *l, const struct rpc_service_method *methods, const struct link_events **ev, void **arg,
                       struct hub *h, struct rpc_conn **out)
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
        struct hub *h = ctx;

        h->dials++;
        return accept_with(l, agent_methods, ev, arg, ctx, &h->conn);
}

static void listen_on(struct hub *h, bool enroll, int port)
{
        struct link_tls tls = wire_server_tls(&h->wire);
        struct link_listener_options o = {.max_links = 16, .on_accept = enroll ? accept_enroll : accept_agent, .ctx = h};
        char address[32];
        struct err e = {0};

        snprintf(address, sizeof address, "0.0.0.0:%d", port);
        o.host_port = address;
        tls.require_peer = !enroll;
        if (link_listen(h->wire.net, &o, &tls, enroll ? &h->enroll : &h->agents, &e))
                test_fail(__FILE__, __LINE__, "listen: %s", e.msg);
}

static struct hub *hub_make(void)
{
        struct hub *h = mem_calloc(1, sizeof *h);

        mem_install_hooks();
        wire_init(&h->wire);
        CHECK_INT(pki_pem_to_der("CERTIFICATE", h->wire.ca.cert, &h->ca_der, &h->ca_len, NULL), 0);
        h->before_us = -60 * 1000000LL;
        h->after_us = 24 * HOUR_US;
        h->verdict = PHOTON__V1__HELD_VERDICT__HELD_KEEP;
        h->ack_results = h->ack_output = true;
        listen_on(h, true, 0);
        listen_on(h, false, 0);
        h->enroll_port = link_listener_port(h->enroll);
        h->agent_port = link_listener_port(h->agents);
        return h;
}

static void hub_free(struct hub *h)
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

#define UNTIL(h, cond) WIRE_UNTIL(&(h)->wire, cond)

/* ---- joining ---- */

struct joining {
        struct identity *id;
        struct join_token token;
        struct enroller  *en;
        bool              done;
        int               rc;
        struct err        e;
};

static void on_done(void *arg, int rc, const struct err *e)
{
        struct joining *j = arg;

        j->done = true;
        j->rc = rc;
        j->e = *e;
        j->en = NULL;
}

static struct join_token token_for(const struct hub *h, const char *host)
{
        struct join_token t = {.id = "tok-1", .secret_len = sizeof secret};

        snprintf(t.enroll, sizeof t.enroll, "%s:%d", host, h->enroll_port);
        snprintf(t.agent, sizeof t.agent, "%s:%d", host, h->agent_port);
        memcpy(t.secret, secret, sizeof secret);
        secret_sha256(h->ca_der, h->ca_len, t.ca_pin);
        return t;
}

static void join_with(struct hub *h, struct joining *j, const struct join_token *t, int64_t give_up_ms)
{
        struct enroller_options o = {.loop = &h->wire.loop,
                                     .net = h->wire.net,
                                     .token = t,
                                     .name = "a1",
                                     .give_up_ms = give_up_ms,
                                     .on_done = on_done,
                                     .arg = j};

        memset(j, 0, sizeof *j);
        if (identity_load(test_scratch(), &j->id, &j->e))
                test_fail(__FILE__, __LINE__, "identity: %s", j->e.msg);
        o.id = j->id;
        if (enroller_start(&o, &j->en, &j->e))
                test_fail(__FILE__, __LINE__, "start: %s", j->e.msg);
        UNTIL(h, j->done);
}

TEST(agent_conn, join_makes_an_identity)
{
        struct hub *h = hub_make();
        struct join_token t = token_for(h, "127.0.0.1");
        struct identity *again;
        struct joining j;
        struct stat st;
        char *path = path_join(test_scratch(), "agent.key");

        join_with(h, &j, &t, 5000);
        CHECK_INT(j.rc, 0);
        CHECK_INT(h->get_cas, 1);
        CHECK_INT(h->redeems, 1);
        CHECK(identity_enrolled(j.id));
        CHECK_INT(stat(path, &st), 0);
        CHECK_INT(st.st_mode & 0777, 0600);
        CHECK_INT(identity_load(test_scratch(), &again, NULL), 0);
        CHECK_STR(again->agent_id, "id-1");
        CHECK_STR(again->name, "a1");
        CHECK_STR(again->cert_pem, j.id->cert_pem);
        CHECK_STR(again->enroll_addr, t.enroll);
        identity_free(again);
        identity_free(j.id);
        mem_free(path);
        hub_free(h);
}

TEST(agent_conn, wrong_pin_sends_nothing_secret)
{
        struct hub *h = hub_make();
        struct join_token t = token_for(h, "127.0.0.1");
        struct joining j;

        t.ca_pin[5] ^= 1;
        join_with(h, &j, &t, 5000);
        CHECK_INT(j.rc, -E_DENIED);
        CHECK(strstr(j.e.msg, "nothing secret was sent"));
        CHECK_INT(h->get_cas, 1);
        CHECK_INT(h->challenges, 0);
        CHECK_INT(h->redeems, 0);
        CHECK(!identity_enrolled(j.id));
        identity_free(j.id);
        hub_free(h);
}

TEST(agent_conn, wrong_host_name_sends_nothing_secret)
{
        struct hub *h = hub_make();
        struct join_token t = token_for(h, "127.0.0.2"); /* reachable, but not in the certificate */
        struct joining j;

        join_with(h, &j, &t, 5000);
        CHECK_INT(j.rc, -E_UNAUTH);
        CHECK_INT(h->get_cas, 1);
        CHECK_INT(h->challenges, 0);
        identity_free(j.id);
        hub_free(h);
}

TEST(agent_conn, lost_answer_is_redeemed_again_with_the_same_key)
{
        struct hub *h = hub_make();
        struct join_token t = token_for(h, "127.0.0.1");
        struct joining j;

        h->lose_redeem = true;
        join_with(h, &j, &t, 10000);
        CHECK_INT(j.rc, 0);
        CHECK_INT(h->redeems, 2);
        CHECK(memcmp(h->spki[0], h->spki[1], 32) == 0);
        identity_free(j.id);
        hub_free(h);
}

TEST(agent_conn, key_is_kept_when_joining_fails)
{
        struct hub *h = hub_make();
        struct join_token t = token_for(h, "127.0.0.1");
        struct joining j;

        h->refuse = E_DENIED;
        join_with(h, &j, &t, 5000);
        CHECK_INT(j.rc, -E_DENIED);
        CHECK(strstr(j.e.msg, "the token is spent"));
        CHECK(strstr(j.e.msg, "photon token create"));
        identity_free(j.id);
        h->refuse = 0;
        join_with(h, &j, &t, 5000);
        CHECK_INT(j.rc, 0);
        CHECK(memcmp(h->spki[0], h->spki[1], 32) == 0);
        identity_free(j.id);
        hub_free(h);
}

TEST(agent_conn, join_gives_up_when_nobody_is_there)
{
        struct hub *h = hub_make();
        struct join_token t = token_for(h, "127.0.0.1");
        struct joining j;

        link_listener_close(h->enroll);
        h->enroll = NULL;
        wire_run_for(&h->wire, 50);
        join_with(h, &j, &t, 400);
        CHECK_INT(j.rc, -E_UNAVAIL);
        CHECK(strstr(j.e.msg, "could not be reached"));
        identity_free(j.id);
        listen_on(h, true, 0);
        hub_free(h);
}

/* ---- the running agent ---- */

static struct tool_call *last_call;

static int now_start(struct tool_call *c, const cJSON *input, struct err *e)
{
        struct tool_result r = {.outcome = TOOL_SUCCEEDED};

        (void)input;
        (void)e;
        tool_output(c, TOOL_STDOUT, "hi", 2);
        tool_finish(c, &r);
        return 0;
}

static int wait_start(struct tool_call *c, const cJSON *input, struct err *e)
{
        (void)input;
        (void)e;
        last_call = c;
        return 0;
}

static void wait_cancel(struct tool_call *c, int grace_ms)
{
        struct tool_result r = {.outcome = TOOL_CANCELLED};

        (void)grace_ms;
        tool_finish(c, &r);
}

static const struct tool test_tools[] = {{.name = "t.now", .input_schema = "{}", .start = now_start},
                                         {.name = "t.wait", .input_schema = "{}", .start = wait_start, .cancel = wait_cancel},
                                         {0}};

static const struct tool *find_tool(const char *name)
{
        for (const struct tool *t = test_tools; t->name; t++) {
                if (strcmp(t->name, name) == 0)
                        return t;
        }
        return NULL;
}

struct agent {
        struct hub         *h;
        struct joining      j;
        struct policy      *policy;
        struct inventory    inventory;
        struct journal     *journal;
        struct output_pool *pool;
        struct jobs        *jobs;
        struct agent_conn  *conn;
        char               *scratch; /* lent to jobs */
        uv_prepare_t        prepare;
        uv_check_t          check;
        bool                closed;
};

static void turn(struct agent *a)
{
        if (!a->jobs)
                return;
        output_pool_turn(a->pool);
        jobs_turn(a->jobs);
}

static void on_prepare(uv_prepare_t *p)
{
        turn(p->data);
}

static void on_check(uv_check_t *c)
{
        turn(c->data);
}

static void agent_up(struct agent *a)
{
        uv_loop_t *loop = &a->h->wire.loop;
        char *scratch = path_join(test_scratch(), "calls"), *spool = path_join(test_scratch(), "spool"),
             *journal = path_join(test_scratch(), "journal");
        struct output_pool_options po = {.loop = loop, .dir = spool, .spool_max = 64 << 20};
        struct jobs_options jo = {.loop = loop, .scratch_root = scratch, .max_running = 8, .find = find_tool};
        struct agent_conn_options co = {.loop = loop, .net = a->h->wire.net, .id = a->j.id, .kind = "local", .max_running = 8};
        struct err e = {0};

        CHECK_INT(file_mkdir_private(scratch, NULL), 0);
        if (policy_load(NULL, &a->policy, &e) || journal_open(journal, &a->journal, NULL, &e) ||
            output_pool_create(&po, &a->pool, &e) || inventory_make(a->policy, NULL, 0, &a->inventory, &e))
                test_fail(__FILE__, __LINE__, "agent: %s", e.msg);
        jo.policy = co.policy = a->policy;
        jo.journal = a->journal;
        co.journal = a->journal;
        jo.pool = co.pool = a->pool;
        CHECK_INT(jobs_create(&jo, &a->jobs, &e), 0);
        co.jobs = a->jobs;
        co.inventory = &a->inventory;
        CHECK_INT(agent_conn_create(&co, &a->conn, &e), 0);
        uv_prepare_init(loop, &a->prepare);
        uv_check_init(loop, &a->check);
        a->prepare.data = a->check.data = a;
        uv_prepare_start(&a->prepare, on_prepare);
        uv_check_start(&a->check, on_check);
        agent_conn_start(a->conn);
        a->scratch = scratch;
        mem_free(spool);
        mem_free(journal);
}

static struct agent *agent_make(struct hub *h)
{
        struct agent *a = mem_calloc(1, sizeof *a);
        struct join_token t = token_for(h, "127.0.0.1");

        a->h = h;
        join_with(h, &a->j, &t, 5000);
        CHECK_INT(a->j.rc, 0);
        agent_up(a);
        return a;
}

static void on_pool_closed(void *arg)
{
        ((struct agent *)arg)->closed = true;
}

static void on_jobs_closed(void *arg)
{
        struct agent *a = arg;

        a->jobs = NULL;
        output_pool_close(a->pool, on_pool_closed, a);
}

static void on_conn_closed(void *arg)
{
        struct agent *a = arg;

        jobs_close(a->jobs, on_jobs_closed, a);
}

static void agent_down(struct agent *a)
{
        agent_conn_close(a->conn, on_conn_closed, a);
        UNTIL(a->h, a->closed);
        uv_close((uv_handle_t *)&a->prepare, NULL);
        uv_close((uv_handle_t *)&a->check, NULL);
        wire_run_for(&a->h->wire, 5);
        journal_free(a->journal);
        inventory_fini(&a->inventory);
        policy_free(a->policy);
        mem_free(a->scratch);
        a->closed = false;
}

static void agent_free(struct agent *a)
{
        agent_down(a);
        identity_free(a->j.id);
        mem_free(a);
}

static void start(struct hub *h, uint64_t id, const char *tool)
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

/* The network breaks, or the hub is killed. */
static void cut(struct agent *a)
{
        struct hub *h = a->h;
        int was = h->closes;

        rpc_conn_close(h->conn, 0, 0, "cut");
        UNTIL(h, h->closes > was);
}

#define UP(a) UNTIL((a)->h, agent_conn_is_up((a)->conn) && (a)->h->session)

TEST(agent_conn, runs_a_call_and_forgets_it_when_acknowledged)
{
        struct hub *h = hub_make();
        struct agent *a = agent_make(h);

        UP(a);
        start(h, 1, "t.now");
        UNTIL(h, h->finished == 1);
        CHECK_INT(h->outcome, PHOTON__V1__OUTCOME__OUTCOME_SUCCEEDED);
        CHECK_INT(h->started, 0);
        UNTIL(h, jobs_unacked(a->jobs) == 0);
        CHECK_INT(journal_count(a->journal), 0);
        agent_free(a);
        hub_free(h);
}

TEST(agent_conn, unacknowledged_result_is_sent_again_exactly)
{
        struct hub *h = hub_make();
        struct agent *a = agent_make(h);

        h->ack_results = false;
        UP(a);
        start(h, 1, "t.now");
        UNTIL(h, h->finished == 1);
        cut(a);
        h->ack_results = true;
        UNTIL(h, h->finished == 2);
        CHECK_INT(h->n_held, 1);
        CHECK_INT(h->held_state[0], PHOTON__V1__ATTEMPT_STATE__ATTEMPT_FINISHED);
        CHECK_INT(h->last_len, h->before_len);
        CHECK(memcmp(h->last, h->before, h->last_len) == 0);
        UNTIL(h, jobs_unacked(a->jobs) == 0);
        cut(a);
        UP(a);
        CHECK_INT(h->n_held, 0);
        wire_run_for(&h->wire, 30);
        CHECK_INT(h->finished, 2);
        agent_free(a);
        hub_free(h);
}

TEST(agent_conn, result_that_came_while_away_arrives_afterwards)
{
        struct hub *h = hub_make();
        struct agent *a = agent_make(h);
        struct tool_result r = {.outcome = TOOL_SUCCEEDED};

        UP(a);
        start(h, 1, "t.wait");
        UNTIL(h, h->started == 1);
        cut(a);
        tool_finish(last_call, &r);
        UNTIL(h, h->finished == 1);
        CHECK_INT(h->finished_id, 1);
        agent_free(a);
        hub_free(h);
}

static uint8_t byte_at(uint64_t i)
{
        return (uint8_t)(i * 131 + (i >> 9));
}

static void write_output(uint64_t from, size_t n)
{
        uint8_t *b = mem_alloc(n);

        for (size_t i = 0; i < n; i++)
                b[i] = byte_at(from + i);
        tool_output(last_call, TOOL_STDOUT, b, n);
        mem_free(b);
}

TEST(agent_conn, output_goes_on_where_the_hub_is)
{
        struct hub *h = hub_make();
        struct agent *a = agent_make(h);
        struct tool_result r = {.outcome = TOOL_SUCCEEDED};

        h->ack_output = false;
        UP(a);
        start(h, 1, "t.wait");
        UNTIL(h, h->started == 1);
        write_output(0, 100000);
        UNTIL(h, h->bytes_len == 100000);
        cut(a);
        h->output_from = h->bytes_len = 60000; /* the hub lost what it had not yet on disk */
        h->first_offset = UINT64_MAX;
        h->ack_output = true;
        write_output(100000, 50000);
        UNTIL(h, h->bytes_len == 150000);
        CHECK_INT(h->first_offset, 60000);
        tool_finish(last_call, &r);
        UNTIL(h, h->finished == 1 && h->output_ended);
        CHECK(!h->gap);
        for (uint64_t i = 0; i < 150000; i++)
                CHECK_INT(h->bytes[i], byte_at(i));
        agent_free(a);
        hub_free(h);
}

TEST(agent_conn, running_when_killed_is_reported_lost)
{
        struct hub *h = hub_make();
        struct agent *a = agent_make(h);
        struct tool_result r = {.outcome = TOOL_SUCCEEDED};
        char journal[64], *path = path_join(test_scratch(), "journal"), *then;
        size_t n;

        UP(a);
        start(h, 9, "t.wait");
        UNTIL(h, h->started == 1);
        memcpy(journal, h->journal_id, sizeof journal);
        /* Killed: the next agent finds the journal as it is now. */
        CHECK_INT(file_read(path, 1 << 20, &then, &n, NULL), 0);
        h->ack_results = false;
        tool_finish(last_call, &r);
        UNTIL(h, h->finished == 1);
        agent_down(a);
        CHECK_INT(file_write_atomic(path, then, n, 0600, NULL), 0);
        mem_free(then);
        mem_free(path);
        h->session = NULL;
        agent_up(a);
        UP(a);
        UNTIL(h, h->finished == 2);
        CHECK_STR(h->journal_id, journal);
        CHECK_INT(h->held[0], 9);
        CHECK_INT(h->held_state[0], PHOTON__V1__ATTEMPT_STATE__ATTEMPT_LOST);
        CHECK_INT(h->outcome, PHOTON__V1__OUTCOME__OUTCOME_LOST);
        agent_free(a);
        hub_free(h);
}

TEST(agent_conn, restarted_hub_is_found_again_soon)
{
        struct hub *h = hub_make();
        struct agent *a = agent_make(h);
        uint64_t began;

        UP(a);
        link_listener_close(h->agents);
        cut(a);
        wire_run_for(&h->wire, 600);
        listen_on(h, false, h->agent_port);
        began = uv_hrtime();
        UP(a);
        CHECK(uv_hrtime() - began < 1500000000ULL);
        agent_free(a);
        hub_free(h);
}

TEST(agent_conn, expired_certificate_rejoins_with_the_same_key)
{
        struct hub *h = hub_make();
        struct agent *a;
        struct join_token t = token_for(h, "127.0.0.1");
        char *key;

        a = mem_calloc(1, sizeof *a);
        a->h = h;
        h->after_us = 1500000;
        join_with(h, &a->j, &t, 5000);
        CHECK_INT(a->j.rc, 0);
        key = mem_strdup(a->j.id->key_pem);
        while (clock_now_us(&clock_system) < a->j.id->not_after_us)
                wire_run_for(&h->wire, 50); /* it sleeps past the end */
        agent_up(a);
        UP(a);
        CHECK_INT(h->rejoins, 1);
        CHECK_INT(h->redeems, 1);
        CHECK_STR(a->j.id->key_pem, key);
        mem_free(key);
        agent_free(a);
        hub_free(h);
}

TEST(agent_conn, certificate_is_renewed_over_the_connection)
{
        struct hub *h = hub_make();
        struct agent *a;
        int64_t was;

        h->before_us = -10 * HOUR_US;
        h->after_us = HOUR_US; /* ten elevenths are gone */
        a = agent_make(h);
        was = a->j.id->not_after_us;
        UNTIL(h, h->renews == 1 && a->j.id->not_after_us > was);
        CHECK(agent_conn_is_up(a->conn));
        CHECK_INT(h->hellos, 1);
        cut(a); /* the new one works */
        UP(a);
        wire_run_for(&h->wire, 30);
        CHECK_INT(h->renews, 1);
        CHECK_INT(h->rejoins, 0);
        agent_free(a);
        hub_free(h);
}

TEST(agent_conn, a_revoked_agent_comes_back_slowly)
{
        struct hub *h = hub_make();
        struct agent *a = agent_make(h);
        struct agent_conn_view v;

        UP(a);
        h->refuse = E_DENIED;
        cut(a);
        UNTIL(h, h->hellos == 2);
        wire_run_for(&h->wire, 1200);
        CHECK_INT(h->hellos, 2);
        agent_conn_view(a->conn, &v);
        CHECK_STR(v.state, "refused");
        CHECK(strstr(v.last_error, "revoked"));
        agent_free(a);
        hub_free(h);
}
