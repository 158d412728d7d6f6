/* The agent against a hub made for the test: joining, coming back, and that nothing is said twice or lost.
 * Real TLS on loopback, real enroller, connection, jobs, journal and output. */
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
#include "tests/lib/fake_hub.h"
#include "tests/lib/test.h"

#include <stdio.h>
#include <sys/stat.h>

/* ---- joining ---- */

struct joining {
        struct identity *id;
        struct join_token token;
        struct enroller *en;
        bool done;
        int rc;
        struct err e;
};

static void on_done(void *arg, int rc, const struct err *e)
{
        struct joining *j = arg;

        j->done = true;
        j->rc = rc;
        j->e = *e;
        j->en = NULL;
}

static struct join_token token_for(const struct fake_hub *h, const char *host)
{
        struct join_token t = {.id = "tok-1", .secret_len = sizeof fake_hub_secret};

        snprintf(t.enroll, sizeof t.enroll, "%s:%d", host, h->enroll_port);
        snprintf(t.agent, sizeof t.agent, "%s:%d", host, h->agent_port);
        memcpy(t.secret, fake_hub_secret, sizeof fake_hub_secret);
        secret_sha256(h->ca_der, h->ca_len, t.ca_pin);
        return t;
}

static void join_with(struct fake_hub *h, struct joining *j, const struct join_token *t, int64_t give_up_ms)
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
        struct fake_hub *h = fake_hub_make();
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
        fake_hub_free(h);
}

TEST(agent_conn, wrong_pin_sends_nothing_secret)
{
        struct fake_hub *h = fake_hub_make();
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
        fake_hub_free(h);
}

TEST(agent_conn, wrong_host_name_sends_nothing_secret)
{
        struct fake_hub *h = fake_hub_make();
        struct join_token t = token_for(h, "127.0.0.2"); /* reachable, but not in the certificate */
        struct joining j;

        join_with(h, &j, &t, 5000);
        CHECK_INT(j.rc, -E_UNAUTH);
        CHECK_INT(h->get_cas, 1);
        CHECK_INT(h->challenges, 0);
        identity_free(j.id);
        fake_hub_free(h);
}

TEST(agent_conn, lost_answer_is_redeemed_again_with_the_same_key)
{
        struct fake_hub *h = fake_hub_make();
        struct join_token t = token_for(h, "127.0.0.1");
        struct joining j;

        h->lose_redeem = true;
        join_with(h, &j, &t, 10000);
        CHECK_INT(j.rc, 0);
        CHECK_INT(h->redeems, 2);
        CHECK(memcmp(h->spki[0], h->spki[1], 32) == 0);
        identity_free(j.id);
        fake_hub_free(h);
}

TEST(agent_conn, key_is_kept_when_joining_fails)
{
        struct fake_hub *h = fake_hub_make();
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
        fake_hub_free(h);
}

TEST(agent_conn, join_gives_up_when_nobody_is_there)
{
        struct fake_hub *h = fake_hub_make();
        struct join_token t = token_for(h, "127.0.0.1");
        struct joining j;

        link_listener_close(h->enroll);
        h->enroll = NULL;
        wire_run_for(&h->wire, 50);
        join_with(h, &j, &t, 400);
        CHECK_INT(j.rc, -E_UNAVAIL);
        CHECK(strstr(j.e.msg, "could not be reached"));
        identity_free(j.id);
        fake_hub_listen(h, true, 0);
        fake_hub_free(h);
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

static const struct tool test_tools[] = {
        {.name = "t.now", .input_schema = "{}", .start = now_start},
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
        struct fake_hub *h;
        struct joining j;
        struct policy *policy;
        struct inventory inventory;
        struct journal *journal;
        struct output_pool *pool;
        struct jobs *jobs;
        struct agent_conn *conn;
        char *scratch; /* lent to jobs */
        uv_prepare_t prepare;
        uv_check_t check;
        bool closed;
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

/* As in the program; the fake hub signs nothing. */
static bool wants_signatures;

static void agent_up(struct agent *a)
{
        uv_loop_t *loop = &a->h->wire.loop;
        char *scratch = path_join(test_scratch(), "calls"), *spool = path_join(test_scratch(), "spool"),
             *journal = path_join(test_scratch(), "journal");
        struct output_pool_options po = {.loop = loop, .dir = spool, .spool_max = 64 << 20};
        struct jobs_options jo = {.loop = loop, .scratch_root = scratch, .max_running = 8, .find = find_tool};
        struct agent_conn_options co = {.unsigned_steps = !wants_signatures,
                                        .loop = loop,
                                        .net = a->h->wire.net,
                                        .id = a->j.id,
                                        .kind = "local",
                                        .max_running = 8};
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

static struct agent *agent_make(struct fake_hub *h)
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

/* The network breaks, or the hub is killed. */
static void cut(struct agent *a)
{
        struct fake_hub *h = a->h;
        int was = h->closes;

        rpc_conn_close(h->conn, 0, 0, "cut");
        UNTIL(h, h->closes > was);
}

static void tools_differ(void *arg)
{
        struct agent *a = arg;

        inventory_stale(&a->inventory);
        if (a->conn)
                agent_conn_inventory_changed(a->conn);
}

#define UP(a) UNTIL((a)->h, agent_conn_is_up((a)->conn) && (a)->h->session)

TEST(agent_conn, runs_a_call_and_forgets_it_when_acknowledged)
{
        struct fake_hub *h = fake_hub_make();
        struct agent *a = agent_make(h);

        UP(a);
        fake_hub_start(h, 1, "t.now");
        UNTIL(h, h->finished == 1);
        CHECK_INT(h->outcome, PHOTON__V1__OUTCOME__OUTCOME_SUCCEEDED);
        CHECK_INT(h->started, 0);
        UNTIL(h, jobs_unacked(a->jobs) == 0);
        CHECK_INT(journal_count(a->journal), 0);
        agent_free(a);
        fake_hub_free(h);
}

TEST(agent_conn, a_hub_that_signs_nothing_gets_nothing_run)
{
        struct fake_hub *h = fake_hub_make();
        Photon__V1__StepFinished *m;
        struct agent *a;

        wants_signatures = true;
        a = agent_make(h);
        UP(a);
        fake_hub_start(h, 1, "t.now");
        UNTIL(h, h->finished == 1);
        CHECK_INT(h->outcome, PHOTON__V1__OUTCOME__OUTCOME_REFUSED);
        CHECK_INT(h->started, 0);
        m = photon__v1__step_finished__unpack(NULL, h->last_len, h->last);
        CHECK(m != NULL);
        CHECK_STR(m->error_code, "step_signature");
        photon__v1__step_finished__free_unpacked(m, NULL);
        UNTIL(h, jobs_unacked(a->jobs) == 0);
        agent_free(a);
        fake_hub_free(h);
}

TEST(agent_conn, unacknowledged_result_is_sent_again_exactly)
{
        struct fake_hub *h = fake_hub_make();
        struct agent *a = agent_make(h);

        h->ack_results = false;
        UP(a);
        fake_hub_start(h, 1, "t.now");
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
        fake_hub_free(h);
}

TEST(agent_conn, result_that_came_while_away_arrives_afterwards)
{
        struct fake_hub *h = fake_hub_make();
        struct agent *a = agent_make(h);
        struct tool_result r = {.outcome = TOOL_SUCCEEDED};

        UP(a);
        fake_hub_start(h, 1, "t.wait");
        UNTIL(h, h->started == 1);
        cut(a);
        tool_finish(last_call, &r);
        UNTIL(h, h->finished == 1);
        CHECK_INT(h->finished_id, 1);
        agent_free(a);
        fake_hub_free(h);
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
        struct fake_hub *h = fake_hub_make();
        struct agent *a = agent_make(h);
        struct tool_result r = {.outcome = TOOL_SUCCEEDED};

        h->ack_output = false;
        UP(a);
        fake_hub_start(h, 1, "t.wait");
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
        fake_hub_free(h);
}

TEST(agent_conn, running_when_killed_is_reported_lost)
{
        struct fake_hub *h = fake_hub_make();
        struct agent *a = agent_make(h);
        struct tool_result r = {.outcome = TOOL_SUCCEEDED};
        char journal[64], *path = path_join(test_scratch(), "journal"), *then;
        size_t n;

        UP(a);
        fake_hub_start(h, 9, "t.wait");
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
        fake_hub_free(h);
}

TEST(agent_conn, restarted_hub_is_found_again_soon)
{
        struct fake_hub *h = fake_hub_make();
        struct agent *a = agent_make(h);
        uint64_t began;

        UP(a);
        link_listener_close(h->agents);
        cut(a);
        wire_run_for(&h->wire, 600);
        fake_hub_listen(h, false, h->agent_port);
        began = uv_hrtime();
        UP(a);
        CHECK(uv_hrtime() - began < 1500000000ULL);
        agent_free(a);
        fake_hub_free(h);
}

TEST(agent_conn, expired_certificate_rejoins_with_the_same_key)
{
        struct fake_hub *h = fake_hub_make();
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
        fake_hub_free(h);
}

TEST(agent_conn, certificate_is_renewed_over_the_connection)
{
        struct fake_hub *h = fake_hub_make();
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
        fake_hub_free(h);
}

/* Its tools would run on for nobody, and nobody could stop them. */
TEST(agent_conn, a_revoked_agent_stops_its_calls)
{
        struct fake_hub *h = fake_hub_make();
        struct agent *a = agent_make(h);

        UP(a);
        fake_hub_start(h, 1, "t.wait");
        UNTIL(h, h->started == 1);
        cut(a); /* alone this stops nothing */
        UP(a);
        CHECK_INT(jobs_running(a->jobs), 1);
        h->refuse = E_DENIED;
        cut(a);
        UNTIL(h, jobs_running(a->jobs) == 0);
        agent_free(a);
        fake_hub_free(h);
}

TEST(agent_conn, an_agent_whose_identity_is_used_elsewhere_comes_back_slowly)
{
        struct fake_hub *h = fake_hub_make();
        struct agent *a = agent_make(h);
        struct agent_conn_view v;

        UP(a);
        rpc_conn_close(h->conn, 0, E_STATE, "replaced: copied");
        UNTIL(h, h->closes > 0 && !agent_conn_is_up(a->conn));
        wire_run_for(&h->wire, 1200);
        CHECK_INT(h->hellos, 1);
        agent_conn_view(a->conn, &v);
        CHECK(strstr(v.last_error, "copied"));
        agent_free(a);
        fake_hub_free(h);
}

TEST(agent_conn, a_revoked_agent_comes_back_slowly)
{
        struct fake_hub *h = fake_hub_make();
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
        fake_hub_free(h);
}

TEST(agent_conn, the_hub_hears_of_tools_that_come_and_go)
{
        struct fake_hub *h = fake_hub_make();
        struct agent *a = agent_make(h);
        struct tool one = {.name = "late.one", .version = "1", .effect = "pure"};
        struct tool two = {.name = "late.two", .version = "1", .effect = "pure"};

        UP(a);
        tools_on_change(tools_differ, a);
        CHECK(!strstr(h->tools, " late."));
        CHECK_INT(tool_add(&one), 0);
        CHECK_INT(tool_add(&two), 0);
        UNTIL(h, h->inventories > 0);
        CHECK_INT(h->inventories, 1); /* what changes together is told together */
        CHECK(strstr(h->tools, " late.one ") && strstr(h->tools, " late.two "));
        CHECK(strstr(h->tools, " file.read "));
        tool_remove(&one);
        memset(&one, 0xee, sizeof one); /* nothing may look at it any more */
        UNTIL(h, h->inventories == 2);
        CHECK(!strstr(h->tools, " late.one ") && strstr(h->tools, " late.two "));
        tool_remove(&two);
        cut(a); /* Hello says it then */
        UNTIL(h, h->hellos == 2 && h->session);
        CHECK(!strstr(h->tools, " late.two "));
        wire_run_for(&h->wire, CONN_CHANGES_MS + CONN_GATHER_MS);
        CHECK_INT(h->inventories, 2); /* and it is not said twice */
        tools_on_change(NULL, NULL);
        agent_free(a);
        fake_hub_free(h);
}

TEST(agent_conn, a_tool_that_no_hub_takes_costs_no_connection)
{
        struct fake_hub *h = fake_hub_make();
        char *schema = mem_alloc(INVENTORY_SCHEMA_MAX + 2);
        struct tool large = {.name = "late.large", .version = "1", .effect = "pure", .input_schema = schema};
        struct agent *a;

        memset(schema, ' ', INVENTORY_SCHEMA_MAX + 1);
        schema[INVENTORY_SCHEMA_MAX + 1] = '\0';
        CHECK_INT(tool_add(&large), 0);
        a = agent_make(h);
        UP(a);
        CHECK(!strstr(h->tools, " late.large ") && strstr(h->tools, " file.read "));
        tool_remove(&large);
        agent_free(a);
        fake_hub_free(h);
        mem_free(schema);
}
