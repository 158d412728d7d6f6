#include <stdio.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "common/json.h"
#include "common/mem.h"
#include "common/secret.h"
#include "hub/agents/rate.h"
#include "hub/sched/engine.h"
#include "tests/lib/hub_bench.h"

static const char one_step[] = "name: t\nsteps:\n  - {id: a, uses: process.exec, with: {argv: [x]}}\n";
static const char two_steps[] = "name: t\nsteps:\n  - {id: a, uses: process.exec, with: {argv: [x]}}\n"
                                "  - {id: b, uses: process.exec, with: {argv: [y]}}\n";

/* A hub with one enrolled machine. */
static void world(struct hb *h, struct hb_machine *m)
{
        struct hb_token t;
        char why[512];

        memset(h, 0, sizeof *h);
        hb_open(h);
        t = hb_token_make(h, 1);
        *m = hb_machine_make();
        if (hb_enroll(h, m, &t, "box-1", why))
                test_fail(__FILE__, __LINE__, "enroll: %s", why);
}

static void world_end(struct hb *h, struct hb_machine *m)
{
        hb_machine_free(m);
        hb_close(h);
}

static char *member(cJSON *o, const char *key)
{
        const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);

        return cJSON_IsString(v) ? v->valuestring : "";
}

static void check_state(struct hb *h, const char *agent, const char *state)
{
        cJSON *o = agents_describe(h->agents, agent);

        CHECK(o != NULL);
        CHECK_STR(member(o, "state"), state);
        cJSON_Delete(o);
}

/* ---- enrolment ---- */

TEST(agents, a_machine_joins_and_comes_online)
{
        struct hb h;
        struct hb_machine m;
        struct hb_agent *a = calloc(1, sizeof *a);
        cJSON *o, *all;

        world(&h, &m);
        CHECK_STR(m.name, "box-1");
        check_state(&h, "box-1", "offline");
        CHECK_INT(agents_online(h.agents), 0);
        hb_agent_up(&h, a, &m, NULL, 0);
        CHECK_STR(a->hello->name, "box-1");
        CHECK_STR(a->hello->agent_id, m.id);
        CHECK_INT(a->hello->heartbeat_ms, 15000);
        CHECK_INT(agents_online(h.agents), 1);
        o = agents_describe(h.agents, m.id);
        CHECK_STR(member(o, "state"), "online");
        CHECK_STR(member(o, "os"), "linux");
        CHECK_STR(member(cJSON_GetObjectItem(o, "labels"), "zone"), "eu");
        CHECK_INT(cJSON_GetArraySize(cJSON_GetObjectItem(o, "tools")), 1);
        CHECK_INT(cJSON_GetArraySize(cJSON_GetObjectItem(o, "tool_details")), 2);
        cJSON_Delete(o);
        all = agents_describe_all(h.agents);
        CHECK_INT(cJSON_GetArraySize(all), 1);
        cJSON_Delete(all);
        CHECK(agents_describe(h.agents, "nobody") == NULL);
        hb_agent_down(a);
        HB_UNTIL(&h, agents_online(h.agents) == 0);
        check_state(&h, "box-1", "offline");
        free(a);
        world_end(&h, &m);
}

TEST(agents, enrolment_refuses_with_a_reason)
{
        struct hb h = {0};
        struct hb_machine m, n;
        struct hb_token t, wrong;
        char why[512];

        hb_open(&h);
        t = hb_token_make(&h, 1);
        m = hb_machine_make();
        n = hb_machine_make();
        wrong = t;
        wrong.secret[0] ^= 1;
        CHECK_INT(hb_enroll(&h, &m, &wrong, "", why), E_DENIED);
        CHECK(strstr(why, "does not know the join token") != NULL);
        CHECK_INT(hb_enroll(&h, &m, &t, "", why), 0);
        CHECK_INT(hb_enroll(&h, &m, &t, "", why), 0); /* the reply was lost */
        CHECK_INT(hb_enroll(&h, &n, &t, "", why), E_DENIED);
        CHECK(strstr(why, "used up") != NULL);
        hb_machine_free(&m);
        hb_machine_free(&n);
        hb_close(&h);
}

TEST(agents, a_nonce_is_good_for_one_request)
{
        struct hb h = {0};
        struct hb_conn c;
        struct hb_reply r;
        struct hb_machine m;
        Photon__V1__RedeemRequest q = PHOTON__V1__REDEEM_REQUEST__INIT;
        Photon__V1__ChallengeRequest ch = PHOTON__V1__CHALLENGE_REQUEST__INIT;

        hb_open(&h);
        m = hb_machine_make();
        hb_dial(&h, &c, agents_enroll_port(h.agents), h.ca.ca_cert_pem, NULL, NULL);
        q.token_id = (char *)(uintptr_t) "x";
        q.csr_der.data = m.csr;
        q.csr_der.len = m.csr_len;
        hb_call(&c, "photon.v1.Enroll/Redeem", &q.base, &r);
        CHECK_INT(r.code, E_STATE);
        hb_call(&c, "photon.v1.Enroll/Challenge", &ch.base, &r);
        CHECK_INT(r.code, 0);
        mem_free(r.p);
        hb_call(&c, "photon.v1.Enroll/Redeem", &q.base, &r);
        CHECK_INT(r.code, E_DENIED);
        hb_call(&c, "photon.v1.Enroll/Redeem", &q.base, &r);
        CHECK_INT(r.code, E_STATE);
        /* The Agent service is not here. */
        hb_call(&c, "photon.v1.Agent/Hello", &hb_hello()->base, &r);
        CHECK_INT(r.code, E_NOTSUP);
        hb_hang_up(&c);
        hb_machine_free(&m);
        hb_close(&h);
}

TEST(agents, the_ca_can_be_fetched_unverified)
{
        struct hb h = {0};
        struct hb_conn c;
        struct hb_reply r;
        Photon__V1__GetCaRequest q = PHOTON__V1__GET_CA_REQUEST__INIT;
        Photon__V1__GetCaReply *m;
        uint8_t pin[32];

        hb_open(&h);
        hb_dial(&h, &c, agents_enroll_port(h.agents), NULL, NULL, NULL);
        hb_call(&c, "photon.v1.Enroll/GetCa", &q.base, &r);
        CHECK_INT(r.code, 0);
        m = (Photon__V1__GetCaReply *)rpc_unpack(&photon__v1__get_ca_reply__descriptor, r.p, r.n);
        secret_sha256(m->ca_der.data, m->ca_der.len, pin);
        CHECK(memcmp(pin, h.ca.ca_sha256, 32) == 0);
        protobuf_c_message_free_unpacked(&m->base, NULL);
        mem_free(r.p);
        hb_hang_up(&c);
        hb_close(&h);
}

TEST(agents, rejoin_needs_the_key_and_ends_with_revocation)
{
        struct hb h;
        struct hb_machine m, other;
        char why[512], first[4096];

        world(&h, &m);
        other = hb_machine_make();
        snprintf(first, sizeof first, "%s", m.cert);
        CHECK_INT(hb_rejoin(&h, &m, m.key, why), 0);
        CHECK(strcmp(first, m.cert) != 0);
        CHECK_INT(hb_rejoin(&h, &m, other.key, why), E_DENIED);
        snprintf(other.id, sizeof other.id, "%s", m.id);
        CHECK_INT(hb_rejoin(&h, &other, other.key, why), E_DENIED);
        CHECK(strstr(why, "no agent of this hub has this id and key") != NULL);
        agents_revoke(h.agents, "box-1", hb_answer, &h);
        HB_UNTIL(&h, h.answers == 1);
        CHECK_INT(hb_rejoin(&h, &m, m.key, why), E_DENIED);
        CHECK(strstr(why, "revoked") != NULL);
        hb_machine_free(&other);
        world_end(&h, &m);
}

/* ---- who may connect ---- */

TEST(agents, strangers_do_not_get_in)
{
        struct hb h;
        struct hb_machine m;
        struct hb_conn c;
        struct wire_id unknown, foreign;
        struct wire_id ca;
        int64_t now = clock_now_us(&clock_system);

        world(&h, &m);
        /* No certificate, and one of another CA: the handshake fails. */
        hb_dial(&h, &c, agents_port(h.agents), h.ca.ca_cert_pem, NULL, NULL);
        HB_UNTIL(&h, c.closed);
        hb_dial(&h, &c, agents_port(h.agents), h.ca.ca_cert_pem, h.wire.client.cert, h.wire.client.key);
        HB_UNTIL(&h, c.closed);
        /* Signed by the CA, but no agent's. */
        ca = (struct wire_id){.cert = h.ca.ca_cert_pem, .key = h.ca.ca_key_pem};
        unknown = wire_issue(&ca, PKI_CLIENT, NULL, "photon:agent:nobody", now - 1000000, now + 3600000000);
        hb_dial(&h, &c, agents_port(h.agents), h.ca.ca_cert_pem, unknown.cert, unknown.key);
        HB_UNTIL(&h, c.closed);
        CHECK(strstr(c.why, "no agent of this hub") != NULL);
        wire_id_free(&unknown);
        /* Another key in the name of a real one. */
        {
                char uri[64];

                snprintf(uri, sizeof uri, "photon:agent:%s", m.id);
                foreign = wire_issue(&ca, PKI_CLIENT, NULL, uri, now - 1000000, now + 3600000000);
        }
        hb_dial(&h, &c, agents_port(h.agents), h.ca.ca_cert_pem, foreign.cert, foreign.key);
        HB_UNTIL(&h, c.closed);
        CHECK(strstr(c.why, "another key") != NULL);
        wire_id_free(&foreign);
        world_end(&h, &m);
}

TEST(agents, a_second_connection_fences_the_first)
{
        struct hb h;
        struct hb_machine m;
        struct hb_agent *a = calloc(2, sizeof *a);

        world(&h, &m);
        hb_agent_up(&h, &a[0], &m, NULL, 0);
        hb_submit(&h, one_step);
        HB_UNTIL(&h, a[0].n_starts == 1);
        hb_agent_up(&h, &a[1], &m, a[0].starts, 1);
        HB_UNTIL(&h, a[0].c.closed);
        CHECK(strstr(a[0].c.why, "replaced") != NULL);
        CHECK_INT(agents_online(h.agents), 1);
        CHECK_INT(a[1].hello->held[0]->verdict, PHOTON__V1__HELD_VERDICT__HELD_KEEP);
        hb_finished(&a[1], a[0].starts[0], "{}", 0, NULL);
        HB_UNTIL(&h, h.finished);
        CHECK_INT(h.state, RUN_SUCCEEDED);
        hb_agent_down(&a[0]);
        hb_agent_down(&a[1]);
        free(a);
        world_end(&h, &m);
}

TEST(agents, revocation_cuts_the_live_connection)
{
        struct hb h;
        struct hb_machine m;
        struct hb_agent *a = calloc(1, sizeof *a);
        struct hb_conn c;

        world(&h, &m);
        hb_agent_up(&h, a, &m, NULL, 0);
        agents_revoke(h.agents, "box-1", hb_answer, &h);
        HB_UNTIL(&h, h.answers == 1 && a->c.closed);
        CHECK_INT(h.answer_rc, 0);
        CHECK(strstr(a->c.why, "revoked") != NULL);
        CHECK_INT(agents_online(h.agents), 0);
        check_state(&h, m.id, "revoked");
        hb_dial(&h, &c, agents_port(h.agents), h.ca.ca_cert_pem, m.cert, m.key);
        HB_UNTIL(&h, c.closed);
        CHECK(strstr(c.why, "revoked") != NULL);
        agents_revoke(h.agents, "box-1", hb_answer, &h);
        CHECK_INT(h.answers, 2);
        CHECK_INT(h.answer_rc, -E_STATE);
        agents_revoke(h.agents, "nobody", hb_answer, &h);
        CHECK_INT(h.answer_rc, -E_NOENT);
        hb_agent_down(a);
        free(a);
        world_end(&h, &m);
}

/* ---- the conversation ---- */

TEST(agents, messages_out_of_state_end_the_connection)
{
        struct hb h;
        struct hb_machine m;
        struct hb_agent *a = calloc(1, sizeof *a);
        struct hb_conn c;
        struct hb_reply r;
        Photon__V1__AgentMessage msg = PHOTON__V1__AGENT_MESSAGE__INIT;

        world(&h, &m);
        hb_dial(&h, &a->c, agents_port(h.agents), h.ca.ca_cert_pem, m.cert, m.key);
        hb_call(&a->c, "photon.v1.Agent/Session", &msg.base, &r);
        CHECK_INT(r.code, E_STATE);
        hb_call(&a->c, "photon.v1.Agent/Output", &msg.base, &r);
        CHECK_INT(r.code, E_STATE);
        hb_call(&a->c, "photon.v1.Agent/Renew", &msg.base, &r);
        CHECK_INT(r.code, E_STATE);
        hb_call(&a->c, "photon.v1.Agent/Hello", &hb_hello()->base, &r);
        CHECK_INT(r.code, 0);
        mem_free(r.p);
        hb_call(&a->c, "photon.v1.Agent/Hello", &hb_hello()->base, &r);
        CHECK(r.code != 0);
        HB_UNTIL(&h, a->c.closed);
        CHECK(strstr(a->c.why, "Hello in state greeted") != NULL);
        /* A result for no attempt. */
        hb_agent_up(&h, a, &m, NULL, 0);
        hb_finished(a, 0, "{}", 0, NULL);
        HB_UNTIL(&h, a->c.closed);
        CHECK(strstr(a->c.why, "without attempt") != NULL);
        hb_agent_down(a);
        /* Garbage where a message should be. */
        hb_agent_up(&h, a, &m, NULL, 0);
        CHECK_INT(rpc_send_bytes(a->session, "\xff\xff\xff", 3), 0);
        HB_UNTIL(&h, a->c.closed);
        CHECK(strstr(a->c.why, "malformed") != NULL);
        hb_agent_down(a);
        /* Everybody else is undisturbed. */
        hb_dial(&h, &c, agents_port(h.agents), h.ca.ca_cert_pem, m.cert, m.key);
        CHECK(c.ready);
        hb_hang_up(&c);
        free(a);
        world_end(&h, &m);
}

static void refused_hello(struct hb *h, const struct hb_machine *m, const Photon__V1__HelloRequest *q,
                          const char *reason)
{
        struct hb_conn c;
        struct hb_reply r;

        hb_dial(h, &c, agents_port(h->agents), h->ca.ca_cert_pem, m->cert, m->key);
        hb_call(&c, "photon.v1.Agent/Hello", &q->base, &r);
        CHECK(r.code != 0);
        HB_UNTIL(h, c.closed);
        if (!strstr(c.why, reason))
                test_fail(__FILE__, __LINE__, "refused with \"%s\"", c.why);
        CHECK_INT(agents_online(h->agents), 0);
}

TEST(agents, a_hello_that_breaks_the_limits_is_refused)
{
        struct hb h;
        struct hb_machine m;
        Photon__V1__HelloRequest *q;
        Photon__V1__Tool *many[HB_SEEN_MAX];
        Photon__V1__Label label = PHOTON__V1__LABEL__INIT, *labels[] = {&label, &label};
        char *big = malloc(5u << 20);

        world(&h, &m);
        q = hb_hello();
        for (int i = 0; i < HB_SEEN_MAX; i++)
                many[i] = q->tools[0];
        q->tools = many;
        q->n_tools = HB_SEEN_MAX;
        refused_hello(&h, &m, q, "at most 1000");
        q->n_tools = 2;
        refused_hello(&h, &m, q, "is there twice");
        q = hb_hello();
        q->tools[0]->input_schema = (char *)(uintptr_t) "[1]";
        refused_hello(&h, &m, q, "no JSON object");
        q = hb_hello();
        q->kind = (char *)(uintptr_t) "toaster";
        refused_hello(&h, &m, q, "toaster");
        q = hb_hello();
        q->labels = labels;
        label.key = (char *)(uintptr_t) "a b";
        refused_hello(&h, &m, q, "no label key");
        label.key = (char *)(uintptr_t) "ab";
        q->n_labels = 2;
        refused_hello(&h, &m, q, "twice");
        q = hb_hello();
        q->hostname = (char *)(uintptr_t) "\xff";
        refused_hello(&h, &m, q, "malformed");
        q = hb_hello();
        memset(big, 'x', 5u << 20);
        big[(5u << 20) - 1] = '\0';
        q->policy_text = big;
        refused_hello(&h, &m, q, "a Hello of");
        free(big);
        world_end(&h, &m);
}

TEST(agents, steps_start_finish_and_are_acknowledged)
{
        struct hb h;
        struct hb_machine m;
        struct hb_agent *a = calloc(1, sizeof *a);
        char text[256];

        world(&h, &m);
        hb_agent_up(&h, a, &m, NULL, 0);
        hb_submit(&h, two_steps);
        HB_UNTIL(&h, a->n_starts == 2);
        CHECK_STR(a->last_tool, "process.exec");
        hb_started(a, a->starts[0]);
        hb_finished(a, a->starts[0], "{\"exit_code\":0}", 6, "hello\n");
        hb_finished(a, a->starts[1], "{\"broken", 0, NULL);
        HB_UNTIL(&h, h.finished && a->n_acks == 2);
        CHECK_INT(h.state, RUN_FAILED); /* outputs that are no JSON */
        hb_log_text(&h, a->starts[0], text, sizeof text);
        CHECK_STR(text, "hello\n");
        /* Repeated, and never heard of: acknowledged, so that the agent forgets. */
        hb_finished(a, a->starts[0], "{}", 0, NULL);
        hb_finished(a, 999999, "{}", 1 << 20, NULL);
        HB_UNTIL(&h, a->n_acks == 4);
        hb_agent_down(a);
        free(a);
        world_end(&h, &m);
}

TEST(agents, a_result_waits_for_its_output)
{
        struct hb h;
        struct hb_machine m;
        struct hb_agent *a = calloc(1, sizeof *a);
        struct hb_output o;
        char text[256];

        world(&h, &m);
        hb_agent_up(&h, a, &m, NULL, 0);
        hb_submit(&h, one_step);
        HB_UNTIL(&h, a->n_starts == 1);
        hb_output_open(a, &o);
        CHECK_INT(hb_chunk(&o, a->starts[0], 0, "abc", 3), 0);
        hb_finished(a, a->starts[0], "{}", 9, NULL);
        HB_UNTIL(&h, o.durable == 3);
        CHECK(!h.finished);
        CHECK_INT(hb_chunk(&o, 0, 2, "cdef", 4), 0); /* overlaps */
        CHECK_INT(hb_chunk(&o, a->starts[0], 6, "ghi", 3), 0);
        rpc_send_end(o.call);
        HB_UNTIL(&h, h.finished && o.ended);
        CHECK_INT(o.code, 0);
        CHECK_INT(o.durable, 9);
        CHECK_INT(h.state, RUN_SUCCEEDED);
        hb_log_text(&h, a->starts[0], text, sizeof text);
        CHECK_STR(text, "abcdefghi");
        hb_agent_down(a);
        free(a);
        world_end(&h, &m);
}

TEST(agents, output_gaps_and_stale_output_end_the_stream)
{
        struct hb h;
        struct hb_machine m;
        struct hb_agent *a = calloc(1, sizeof *a);
        struct hb_output o, p;

        world(&h, &m);
        hb_agent_up(&h, a, &m, NULL, 0);
        hb_submit(&h, one_step);
        HB_UNTIL(&h, a->n_starts == 1);
        hb_output_open(a, &o);
        CHECK_INT(hb_chunk(&o, a->starts[0], 0, "abc", 3), 0);
        CHECK_INT(hb_chunk(&o, a->starts[0], 7, "xyz", 3), 0);
        HB_UNTIL(&h, o.ended);
        CHECK_INT(o.code, E_INVAL);
        hb_output_open(a, &o);
        CHECK_INT(hb_chunk(&o, 12345, 0, "abc", 3), 0);
        HB_UNTIL(&h, o.ended);
        CHECK_INT(o.code, E_NOENT);
        CHECK_STR(o.message, "stale");
        /* A newer stream of the same attempt takes over. */
        hb_output_open(a, &o);
        CHECK_INT(hb_chunk(&o, a->starts[0], 3, "de", 2), 0);
        HB_UNTIL(&h, o.durable == 5);
        hb_output_open(a, &p);
        CHECK_INT(hb_chunk(&p, a->starts[0], 5, "f", 1), 0);
        HB_UNTIL(&h, o.ended && p.durable == 6);
        CHECK_INT(o.code, E_CANCELLED);
        /* The session goes on. */
        hb_finished(a, a->starts[0], "{}", 6, NULL);
        HB_UNTIL(&h, h.finished && p.ended);
        CHECK_INT(p.code, 0);
        hb_agent_down(a);
        free(a);
        world_end(&h, &m);
}

TEST(agents, output_resumes_where_the_hub_has_it)
{
        struct hb h;
        struct hb_machine m;
        struct hb_agent *a = calloc(2, sizeof *a);
        struct hb_output o;
        uint64_t held[2];
        char text[64];

        world(&h, &m);
        hb_agent_up(&h, &a[0], &m, NULL, 0);
        hb_submit(&h, one_step);
        HB_UNTIL(&h, a[0].n_starts == 1);
        hb_output_open(&a[0], &o);
        CHECK_INT(hb_chunk(&o, a[0].starts[0], 0, "abcde", 5), 0);
        HB_UNTIL(&h, o.durable == 5);
        hb_agent_down(&a[0]);
        held[0] = a[0].starts[0];
        held[1] = 777777;
        hb_agent_up(&h, &a[1], &m, held, 2);
        CHECK_INT(a[1].hello->held[0]->verdict, PHOTON__V1__HELD_VERDICT__HELD_KEEP);
        CHECK_INT(a[1].hello->held[0]->output_from, 5);
        CHECK_INT(a[1].hello->held[1]->verdict, PHOTON__V1__HELD_VERDICT__HELD_FORGET);
        /* The rest comes with the result, and is added to the log's file. */
        hb_output_open(&a[1], &o);
        CHECK_INT(hb_chunk(&o, held[0], 5, "fg", 2), 0);
        hb_finished(&a[1], held[0], "{}", 7, NULL);
        HB_UNTIL(&h, h.finished);
        CHECK_INT(h.state, RUN_SUCCEEDED);
        hb_log_text(&h, held[0], text, sizeof text);
        CHECK_STR(text, "abcdefg");
        CHECK_INT(a[1].n_starts, 0);
        hb_agent_down(&a[1]);
        free(a);
        world_end(&h, &m);
}

TEST(agents, a_result_alone_ends_an_attempt_whose_output_came_before)
{
        struct hb h;
        struct hb_machine m;
        struct hb_agent *a = calloc(2, sizeof *a);
        struct hb_output o;
        char text[64];

        world(&h, &m);
        hb_agent_up(&h, &a[0], &m, NULL, 0);
        hb_submit(&h, one_step);
        HB_UNTIL(&h, a[0].n_starts == 1);
        hb_output_open(&a[0], &o);
        CHECK_INT(hb_chunk(&o, a[0].starts[0], 0, "abcde", 5), 0);
        HB_UNTIL(&h, o.durable == 5);
        hb_agent_down(&a[0]);
        hb_agent_up(&h, &a[1], &m, a[0].starts, 1);
        hb_finished(&a[1], a[0].starts[0], "{}", 5, NULL);
        HB_UNTIL(&h, h.finished && a[1].n_acks == 1);
        hb_log_text(&h, a[0].starts[0], text, sizeof text);
        CHECK_STR(text, "abcde");
        hb_agent_down(&a[1]);
        free(a);
        world_end(&h, &m);
}

static int on_failed(void *arg, const struct row_step *r)
{
        snprintf(arg, 64, "%s", r->error_code ? r->error_code : "");
        return 0;
}

static int on_seq(void *arg, const struct row_run *r)
{
        *(int64_t *)arg = r->seq;
        return 0;
}

/* An agent of before there were secrets would run the step without them; and where the hub cannot open one,
 * the step fails (test_vault.py): in both cases nothing is sent. */
TEST(agents, a_step_whose_secrets_cannot_be_given_is_not_sent)
{
        struct hb h;
        struct hb_machine m;
        struct hb_agent *a = calloc(1, sizeof *a);
        struct store_reader *r;
        struct err e = {0};
        char code[64] = "";
        int64_t seq = 0;

        world(&h, &m);
        hb_agent_up(&h, a, &m, NULL, 0); /* says nothing of takes_secrets */
        hb_submit(&h, "name: t\nsteps:\n  - {id: a, run: x, secrets: [KEY]}\n");
        HB_UNTIL(&h, h.finished);
        CHECK_INT(a->n_starts, 0);
        CHECK_INT(store_reader_open(h.store, &r, &e), 0);
        CHECK_INT(read_run(r, h.run, on_seq, &seq), 0);
        CHECK_INT(read_steps(r, seq, on_failed, code), 0);
        CHECK_STR(code, "agent_too_old");
        store_reader_close(r);
        hb_agent_down(a);
        free(a);
        world_end(&h, &m);
}

TEST(agents, large_output_arrives_whole)
{
        struct hb h;
        struct hb_machine m;
        struct hb_agent *a = calloc(1, sizeof *a);
        struct hb_output o;
        enum { PIECE = 50000, TOTAL = 6 << 20 };
        char *want = malloc(TOTAL), *got = malloc(TOTAL + 1);
        uint64_t at = 0;

        world(&h, &m);
        for (size_t i = 0; i < TOTAL; i++)
                want[i] = (char)('a' + i * 7 % 26);
        hb_agent_up(&h, a, &m, NULL, 0);
        hb_submit(&h, one_step);
        HB_UNTIL(&h, a->n_starts == 1);
        hb_output_open(a, &o);
        while (at < TOTAL) {
                size_t n = TOTAL - at < PIECE ? (size_t)(TOTAL - at) : PIECE;
                int rc = hb_chunk(&o, a->starts[0], at, want + at, n);

                if (rc == -E_FULL) {
                        uv_run(&h.wire.loop, UV_RUN_ONCE);
                        continue;
                }
                CHECK_INT(rc, 0);
                at += n;
        }
        rpc_send_end(o.call);
        hb_finished(a, a->starts[0], "{}", TOTAL, NULL);
        HB_UNTIL(&h, h.finished && o.ended);
        CHECK_INT(o.durable, TOTAL);
        hb_log_text(&h, a->starts[0], got, TOTAL + 1);
        CHECK(memcmp(got, want, TOTAL) == 0);
        hb_agent_down(a);
        free(a);
        free(want);
        free(got);
        world_end(&h, &m);
}

TEST(agents, a_full_disk_holds_the_tool_back_and_loses_nothing)
{
        struct hb h;
        struct hb_machine m;
        struct hb_agent *a = calloc(1, sizeof *a);
        struct hb_output o;
        struct rlimit small = {3 << 20, RLIM_INFINITY}, none = {RLIM_INFINITY, RLIM_INFINITY};
        enum { PIECE = 60000, TOTAL = 5 << 20 };
        char *want = malloc(TOTAL), *got = malloc(TOTAL + 1);
        uint64_t at = 0;
        int stuck = 0;

        CHECK(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
        world(&h, &m);
        for (size_t i = 0; i < TOTAL; i++)
                want[i] = (char)('a' + i * 11 % 26);
        hb_agent_up(&h, a, &m, NULL, 0);
        hb_submit(&h, one_step);
        HB_UNTIL(&h, a->n_starts == 1);
        CHECK_INT(setrlimit(RLIMIT_FSIZE, &small), 0); /* no file may grow beyond 3 MiB */
        hb_output_open(a, &o);
        while (at < TOTAL) {
                size_t n = TOTAL - at < PIECE ? (size_t)(TOTAL - at) : PIECE;
                int rc = hb_chunk(&o, a->starts[0], at, want + at, n);

                if (rc == -E_FULL) {
                        /* Credit comes back only while the log can be written. */
                        wire_run_for(&h.wire, 20);
                        if (at > (3 << 20) && ++stuck == 30)
                                CHECK_INT(setrlimit(RLIMIT_FSIZE, &none), 0);
                        continue;
                }
                CHECK_INT(rc, 0);
                at += n;
        }
        CHECK(stuck >= 30);
        rpc_send_end(o.call);
        hb_finished(a, a->starts[0], "{}", TOTAL, NULL);
        HB_UNTIL(&h, h.finished && o.ended);
        CHECK_INT(o.durable, TOTAL);
        hb_log_text(&h, a->starts[0], got, TOTAL + 1);
        CHECK(memcmp(got, want, TOTAL) == 0);
        hb_agent_down(a);
        free(a);
        free(want);
        free(got);
        world_end(&h, &m);
}

TEST(agents, many_refused_joins_from_one_address_are_held_off)
{
        struct hb h = {0};
        struct hb_machine m;
        struct hb_token t, wrong;
        char why[512];
        int code = 0, n = 0;

        hb_open(&h);
        t = hb_token_make(&h, 1);
        wrong = t;
        wrong.secret[0] ^= 1;
        m = hb_machine_make();
        for (; n < 200 && code != E_FULL; n++)
                code = hb_enroll(&h, &m, &wrong, "", why);
        CHECK_INT(code, E_FULL);
        CHECK(n > 40);
        CHECK(strstr(why, "try again in") != NULL);
        hb_machine_free(&m);
        hb_close(&h);
}

TEST(agents, a_slow_stranger_is_cut_off)
{
        struct hb h = {0};
        struct hb_conn c;
        Photon__V1__GetCaRequest q = PHOTON__V1__GET_CA_REQUEST__INIT;
        struct hb_reply r;

        hb_open(&h);
        hb_dial(&h, &c, agents_enroll_port(h.agents), h.ca.ca_cert_pem, NULL, NULL);
        for (int i = 0; i < 8; i++) {
                hb_call(&c, "photon.v1.Enroll/GetCa", &q.base, &r);
                CHECK_INT(r.code, 0);
                mem_free(r.p);
        }
        hb_call(&c, "photon.v1.Enroll/GetCa", &q.base, &r);
        CHECK_INT(r.code, E_FULL);
        h.skew_ms = 11000;
        HB_UNTIL(&h, c.closed);
        CHECK_INT(c.rc, E_TIMEOUT);
        hb_close(&h);
}

TEST(agents, a_certificate_is_renewed_for_the_same_key_only)
{
        struct hb h;
        struct hb_machine m, other;
        struct hb_agent *a = calloc(1, sizeof *a);
        struct hb_reply r;
        Photon__V1__RenewRequest q = PHOTON__V1__RENEW_REQUEST__INIT;
        Photon__V1__CertificateReply *cr;

        world(&h, &m);
        other = hb_machine_make();
        hb_agent_up(&h, a, &m, NULL, 0);
        q.csr_der.data = other.csr;
        q.csr_der.len = other.csr_len;
        hb_call(&a->c, "photon.v1.Agent/Renew", &q.base, &r);
        CHECK_INT(r.code, E_DENIED);
        q.csr_der.data = m.csr;
        q.csr_der.len = m.csr_len;
        hb_call(&a->c, "photon.v1.Agent/Renew", &q.base, &r);
        CHECK_INT(r.code, 0);
        cr = (Photon__V1__CertificateReply *)rpc_unpack(&photon__v1__certificate_reply__descriptor, r.p, r.n);
        CHECK_INT(pki_cert_verify(cr->cert_der.data, cr->cert_der.len, h.ca.ca_cert_pem, PKI_CLIENT,
                                  clock_now_us(&clock_system), NULL),
                  0);
        CHECK(cr->not_after_us > clock_now_us(&clock_system) + INT64_C(23) * 3600 * 1000000);
        protobuf_c_message_free_unpacked(&cr->base, NULL);
        mem_free(r.p);
        hb_agent_down(a);
        hb_machine_free(&other);
        free(a);
        world_end(&h, &m);
}

TEST(agents, an_expired_certificate_does_not_keep_its_connection)
{
        struct hb h;
        struct hb_machine m;
        struct hb_agent *a = calloc(1, sizeof *a);

        world(&h, &m);
        hb_agent_up(&h, a, &m, NULL, 0);
        hb_submit(&h, one_step);
        HB_UNTIL(&h, a->n_starts == 1);
        h.skew_ms = INT64_C(25) * 3600 * 1000;
        HB_UNTIL(&h, a->c.closed);
        CHECK_INT(a->c.rc, E_UNAUTH);
        CHECK(strstr(a->c.why, "expired") != NULL);
        hb_agent_down(a);
        free(a);
        world_end(&h, &m);
}

TEST(agents, drain_and_label_reach_the_agent_and_the_scheduler)
{
        struct hb h;
        struct hb_machine m;
        struct hb_agent *a = calloc(1, sizeof *a);
        cJSON *set = cJSON_Parse("{\"gpu\":\"true\"}"), *bad = cJSON_Parse("{\"os\":\"x\"}"), *o;

        world(&h, &m);
        hb_agent_up(&h, a, &m, NULL, 0);
        agents_drain(h.agents, "box-1", true, hb_answer, &h);
        HB_UNTIL(&h, h.answers == 1 && a->drains == 1);
        check_state(&h, "box-1", "draining");
        hb_submit(&h, "name: t\nsteps:\n  - {id: a, uses: process.exec, runs-on: {gpu: 'true'}, with: {argv: "
                      "[x]}}\n");
        agents_drain(h.agents, "box-1", false, hb_answer, &h);
        HB_UNTIL(&h, h.answers == 2 && a->drains == 2);
        CHECK_INT(a->n_starts, 0);
        agents_label(h.agents, "box-1", bad, hb_answer, &h);
        CHECK_INT(h.answer_rc, -E_INVAL);
        agents_label(h.agents, "box-1", set, hb_answer, &h);
        HB_UNTIL(&h, h.answers == 4 && a->n_starts == 1);
        o = agents_describe(h.agents, "box-1");
        CHECK_STR(member(cJSON_GetObjectItem(o, "labels"), "gpu"), "true");
        CHECK_STR(member(cJSON_GetObjectItem(o, "labels"), "zone"), "eu");
        CHECK_INT(cJSON_GetObjectItem(o, "running")->valueint, 1);
        cJSON_Delete(o);
        cJSON_Delete(set);
        cJSON_Delete(bad);
        hb_agent_down(a);
        free(a);
        world_end(&h, &m);
}

TEST(agents, tools_and_labels_change_while_connected)
{
        struct hb h;
        struct hb_machine m;
        struct hb_agent *a = calloc(1, sizeof *a);
        Photon__V1__AgentMessage msg = PHOTON__V1__AGENT_MESSAGE__INIT;
        Photon__V1__Inventory inv = PHOTON__V1__INVENTORY__INIT;
        Photon__V1__Tool t = PHOTON__V1__TOOL__INIT, *tp = &t;

        world(&h, &m);
        hb_agent_up(&h, a, &m, NULL, 0);
        hb_submit(&h, "name: t\nsteps:\n  - {id: a, uses: new.tool}\n");
        t.name = (char *)(uintptr_t) "new.tool";
        t.allowed = true;
        inv.tools = &tp;
        inv.n_tools = 1;
        msg.inventory = &inv;
        CHECK_INT(a->n_starts, 0);
        hb_send(a, &msg);
        HB_UNTIL(&h, a->n_starts == 1);
        CHECK_STR(a->last_tool, "new.tool");
        hb_agent_down(a);
        free(a);
        world_end(&h, &m);
}

TEST(agents, a_silent_agent_is_noticed)
{
        struct hb h = {0};
        struct hb_machine m;
        struct hb_token t;
        struct hb_agent *a = calloc(1, sizeof *a);

        h.heartbeat_ms = 50;
        hb_open(&h);
        t = hb_token_make(&h, 1);
        m = hb_machine_make();
        CHECK_INT(hb_enroll(&h, &m, &t, "", NULL), 0);
        hb_agent_up(&h, a, &m, NULL, 0);
        CHECK_INT(a->hello->heartbeat_ms, 50);
        /* It answers pings, so it stays; silence is rpc's own test. */
        wire_run_for(&h.wire, 300);
        CHECK_INT(agents_online(h.agents), 1);
        hb_agent_down(a);
        free(a);
        world_end(&h, &m);
}

/* ---- rate ---- */

TEST(agents, buckets_empty_and_refill)
{
        struct bucket b = {0};
        struct rate *r;

        for (int i = 0; i < 5; i++)
                CHECK(bucket_take(&b, 5, 100, 1000));
        CHECK(!bucket_take(&b, 5, 100, 1000));
        CHECK_INT(bucket_wait(&b, 5, 100, 1000), 100);
        CHECK(bucket_take(&b, 5, 100, 1100));
        CHECK(!bucket_take(&b, 5, 100, 1150));
        CHECK_INT(rate_create(2, 100, &r), 0);
        rate_take(r, "192.0.2.1:4000", 0);
        rate_take(r, "192.0.2.1:4001", 0);
        CHECK(rate_wait(r, "192.0.2.1:4002", 0) > 0);
        CHECK_INT(rate_wait(r, "192.0.2.2:4002", 0), 0);
        rate_take(r, "[2001:db8::1]:1", 0);
        rate_take(r, "[2001:db8::2]:1", 0);
        CHECK(rate_wait(r, "[2001:db8::3]:1", 0) > 0);
        CHECK_INT(rate_wait(r, "[2001:db8:0:1::3]:1", 0), 0);
        CHECK_INT(rate_wait(r, "192.0.2.1:4002", 500), 0);
        rate_free(r);
}
