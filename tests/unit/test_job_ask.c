/* Questions of tool calls on the agent: who answers, what the hub hears and when, and what stands still. */
#include "agent/job.h"
#include "agent/journal.h"
#include "agent/output.h"
#include "agent/policy.h"
#include "agent/tools/tool.h"
#include "common/err.h"
#include "common/file.h"
#include "common/json.h"
#include "common/mem.h"
#include "tests/lib/test.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* --- a tool that asks when the test says so --- */

static struct tool_call *call;

struct heard {
        int n;
        enum ask_outcome outcome;
        bool always;
        char by[64], reason[300], content[200];
};

static void on_decision(void *arg, const struct tool_decision *d)
{
        struct heard *h = arg;
        char *content = d->content ? json_text(d->content) : NULL;

        h->n++;
        h->outcome = d->outcome;
        h->always = d->always;
        snprintf(h->by, sizeof h->by, "%s", d->by);
        snprintf(h->reason, sizeof h->reason, "%s", d->reason);
        snprintf(h->content, sizeof h->content, "%s", content ? content : "");
        mem_free(content);
}

static void finish(enum tool_outcome o, const char *code)
{
        struct tool_result r = {.outcome = o, .error_code = code, .error_message = code};

        tool_finish(call, &r);
}

static int ask_start(struct tool_call *c, const cJSON *input, struct err *e)
{
        (void)input;
        (void)e;
        call = c;
        return 0;
}

static void ask_cancel(struct tool_call *c, int grace_ms)
{
        (void)c;
        (void)grace_ms;
}

static const struct tool asker = {
        .name = "t.ask", .input_schema = "{}", .no_scratch = true, .start = ask_start, .cancel = ask_cancel};

static const struct tool *find_tool(const char *name)
{
        return strcmp(name, "t.ask") == 0 ? &asker : NULL;
}

/* --- rig --- */

#define HEARD_MAX 32

struct rig {
        uv_loop_t loop;
        struct policy *policy;
        struct journal *journal;
        struct output_pool *pool;
        struct jobs *jobs;
        char *journal_path, *policy_path;
        size_t n_questions, n_withdrawn, n_acks, n_finished;
        char by_policy[512]; /* what the result says of it */
        Photon__V1__Question *questions[HEARD_MAX];
        uint32_t withdrawn[HEARD_MAX], acks[HEARD_MAX];
        char code[64], message[600];
        int outcome;
};

static int sink_send(void *ctx, const void *p, size_t n)
{
        struct rig *r = ctx;
        Photon__V1__AgentMessage *m = photon__v1__agent_message__unpack(NULL, n, p);

        CHECK(m);
        for (size_t i = 0; i < m->n_question; i++) {
                CHECK(r->n_questions < HEARD_MAX);
                r->questions[r->n_questions++] = m->question[i];
                m->question[i] = NULL;
        }
        m->n_question = 0;
        for (size_t i = 0; i < m->n_question_withdrawn; i++)
                r->withdrawn[r->n_withdrawn++] = m->question_withdrawn[i]->question_id;
        for (size_t i = 0; i < m->n_answer_ack; i++)
                r->acks[r->n_acks++] = m->answer_ack[i]->question_id;
        for (size_t i = 0; i < m->n_finished; i++) {
                r->n_finished++;
                r->outcome = (int)m->finished[i]->outcome;
                snprintf(r->code, sizeof r->code, "%s", m->finished[i]->error_code);
                snprintf(r->message, sizeof r->message, "%s", m->finished[i]->error_message);
                for (size_t k = 0; k < m->finished[i]->n_policy_answers; k++) {
                        const Photon__V1__PolicyAnswer *w = m->finished[i]->policy_answers[k];
                        size_t at = strlen(r->by_policy);

                        snprintf(r->by_policy + at, sizeof r->by_policy - at, "%u %s %s by %s %.8s;",
                                 w->question_id, w->allowed ? "allow" : "deny", w->action, w->by,
                                 w->arguments_sha256);
                }
        }
        photon__v1__agent_message__free_unpacked(m, NULL);
        return 0;
}

static void open_parts(struct rig *r)
{
        struct output_pool_options po = {
                .loop = &r->loop, .dir = test_scratch(), .spool_max = 1 << 20, .linger_ms = -1};
        struct jobs_options jo = {
                .loop = &r->loop, .scratch_root = test_scratch(), .max_running = 4, .find = find_tool};
        struct err e = {0};

        if (policy_load(r->policy_path, &r->policy, &e) ||
            journal_open(r->journal_path, &r->journal, NULL, &e) || output_pool_create(&po, &r->pool, &e))
                test_fail(__FILE__, __LINE__, "rig: %s", e.msg);
        jo.policy = r->policy;
        jo.journal = r->journal;
        jo.pool = r->pool;
        if (jobs_create(&jo, &r->jobs, &e))
                test_fail(__FILE__, __LINE__, "rig: %s", e.msg);
}

/* A Hello and its answer: the hub keeps attempt 1. */
static void connect_hub(struct rig *r, bool answers)
{
        struct jobs_sink s = {sink_send, r};
        Photon__V1__HeldReply h = PHOTON__V1__HELD_REPLY__INIT, *list[] = {&h};
        Photon__V1__HelloReply m = PHOTON__V1__HELLO_REPLY__INIT;

        h.attempt_id = 1;
        h.verdict = PHOTON__V1__HELD_VERDICT__HELD_KEEP;
        m.held = list;
        m.n_held = 1;
        m.answers_questions = answers;
        jobs_attach(r->jobs, &s);
        jobs_apply_held(r->jobs, &m);
}

static struct rig *rig_make(const char *policy)
{
        struct rig *r = mem_calloc(1, sizeof *r);

        mem_install_hooks();
        CHECK_INT(uv_loop_init(&r->loop), 0);
        r->journal_path = path_join(test_scratch(), "journal");
        r->policy_path = path_join(test_scratch(), "policy.yaml");
        CHECK_INT(file_write_atomic(r->policy_path, policy, strlen(policy), 0600, NULL), 0);
        open_parts(r);
        connect_hub(r, true);
        return r;
}

static void turn(struct rig *r)
{
        uv_run(&r->loop, UV_RUN_NOWAIT);
        output_pool_turn(r->pool);
        jobs_turn(r->jobs);
}

static void close_parts(struct rig *r)
{
        jobs_close(r->jobs, NULL, NULL);
        uv_run(&r->loop, UV_RUN_DEFAULT);
        output_pool_close(r->pool, NULL, NULL);
        uv_run(&r->loop, UV_RUN_DEFAULT);
        journal_free(r->journal);
        policy_free(r->policy);
}

static void rig_free(struct rig *r)
{
        close_parts(r);
        for (size_t i = 0; i < r->n_questions; i++)
                photon__v1__question__free_unpacked(r->questions[i], NULL);
        CHECK_INT(uv_loop_close(&r->loop), 0);
        mem_free(r->journal_path);
        mem_free(r->policy_path);
        mem_free(r);
}

static void start(struct rig *r, uint32_t timeout_ms)
{
        Photon__V1__StepStart s = PHOTON__V1__STEP_START__INIT, *list[] = {&s};
        Photon__V1__HubMessage m = PHOTON__V1__HUB_MESSAGE__INIT;

        s.attempt_id = 1;
        s.run_id = (char *)"run-1";
        s.step_id = (char *)"step-1";
        s.tool = (char *)"t.ask";
        s.input = (char *)"{}";
        s.timeout_ms = timeout_ms;
        s.grace_ms = 100;
        m.start = list;
        m.n_start = 1;
        jobs_handle(r->jobs, &m);
        turn(r);
}

static void cancel(struct rig *r)
{
        Photon__V1__StepCancel c = PHOTON__V1__STEP_CANCEL__INIT, *list[] = {&c};
        Photon__V1__HubMessage m = PHOTON__V1__HUB_MESSAGE__INIT;

        c.attempt_id = 1;
        m.cancel = list;
        m.n_cancel = 1;
        jobs_handle(r->jobs, &m);
}

static void answer(struct rig *r, uint32_t id, Photon__V1__AnswerOutcome o, const char *content)
{
        Photon__V1__Answer a = PHOTON__V1__ANSWER__INIT, *list[] = {&a};
        Photon__V1__HubMessage m = PHOTON__V1__HUB_MESSAGE__INIT;

        a.attempt_id = 1;
        a.question_id = id;
        a.outcome = o;
        a.always = true;
        a.content = (char *)(uintptr_t)content;
        a.reason = (char *)"so be it";
        a.by = (char *)"ada";
        m.answer = list;
        m.n_answer = 1;
        jobs_handle(r->jobs, &m);
}

static uint32_t ask_as(struct heard *h, const char *action, const char *title, const char *mode)
{
        cJSON *args = cJSON_Parse("{\"path\":\"/srv/x\",\"n\":1}");
        struct tool_question q = {
                .action = action, .title = title, .tool = "Write", .arguments = args, .mode = mode};
        uint32_t id = 0;

        memset(h, 0, sizeof *h);
        CHECK_INT(tool_ask(call, &q, on_decision, h, &id), 0);
        CHECK_INT(h->n, 0); /* never from within */
        cJSON_Delete(args);
        return id;
}

static uint32_t ask(struct heard *h)
{
        return ask_as(h, "edit", "Write /srv/x", NULL);
}

/* --- tests --- */

TEST(job_ask, policy_and_mode_answer_without_the_hub)
{
        struct rig *r = rig_make("version: 1\nquestions: {deny: [{action: delete}]}\n");
        struct heard h;

        start(r, 0);
        ask_as(&h, "edit", "x", "allow");
        turn(r);
        turn(r);
        CHECK(h.n == 1 && h.outcome == ASK_ALLOWED);
        CHECK_STR(h.by, "mode");
        ask_as(&h, "delete", "x", "allow");
        turn(r);
        turn(r);
        CHECK(h.n == 1 && h.outcome == ASK_DENIED);
        CHECK_STR(h.by, "policy");
        CHECK(strstr(h.reason, "questions.deny"));
        CHECK_INT(r->n_questions, 0);
        finish(TOOL_SUCCEEDED, NULL);
        turn(r);
        CHECK_STR(r->by_policy, "1 allow edit by mode 9461c63a;2 deny delete by policy 9461c63a;");
        rig_free(r);
}

TEST(job_ask, what_leaves_as_a_question_has_no_secret)
{
        struct rig *r = rig_make("version: 1\n");
        struct heard h;

        start(r, 0);
        CHECK_INT(tool_secret(call, "/srv/x", 6), 0);
        ask(&h);
        turn(r);
        CHECK_INT(r->n_questions, 1);
        CHECK(!strstr(r->questions[0]->arguments, "/srv/x") &&
              strstr(r->questions[0]->arguments, "\"n\":1}"));
        CHECK(!strstr(r->questions[0]->title, "/srv/x") && strstr(r->questions[0]->title, "Write "));
        finish(TOOL_SUCCEEDED, NULL);
        turn(r);
        rig_free(r);
}

TEST(job_ask, the_rest_is_asked_of_the_hub_and_answered_once)
{
        struct rig *r = rig_make("version: 1\n");
        struct heard h;
        uint32_t id;

        start(r, 0);
        id = ask(&h);
        turn(r);
        CHECK_INT(r->n_questions, 1);
        CHECK_STR(r->questions[0]->arguments, "{\"path\":\"/srv/x\",\"n\":1}");
        CHECK_STR(r->questions[0]->kind, "permission");
        CHECK_STR(r->questions[0]->title, "Write /srv/x");
        CHECK_INT(r->questions[0]->question_id, id);
        CHECK_STR(journal_get(r->journal, 1)->question, "Write /srv/x");
        answer(r, id + 1, PHOTON__V1__ANSWER_OUTCOME__ANSWER_ALLOWED, ""); /* of nobody */
        answer(r, id, PHOTON__V1__ANSWER_OUTCOME__ANSWER_ALLOWED, "{\"a\":1}");
        answer(r, id, PHOTON__V1__ANSWER_OUTCOME__ANSWER_DENIED, "");
        CHECK_INT(h.n, 0);
        turn(r);
        turn(r);
        CHECK(h.n == 1 && h.outcome == ASK_ALLOWED && h.always);
        CHECK_STR(h.by, "ada");
        CHECK_STR(h.content, "{\"a\":1}");
        CHECK_INT(r->n_acks, 3); /* each, so that the hub stops saying it */
        CHECK(!journal_get(r->journal, 1)->question);
        finish(TOOL_SUCCEEDED, NULL);
        turn(r);
        rig_free(r);
}

TEST(job_ask, after_each_hello_what_is_open_is_asked_again)
{
        struct rig *r = rig_make("version: 1\n");
        Photon__V1__HelloRequest q = PHOTON__V1__HELLO_REQUEST__INIT;
        struct heard h, h2;
        uint32_t id, id2;

        start(r, 0);
        id = ask(&h);
        turn(r);
        jobs_attach(r->jobs, NULL);
        id2 = ask(&h2); /* the hub is away: it waits */
        turn(r);
        CHECK_INT(r->n_questions, 1);
        CHECK_INT(jobs_held(r->jobs, &q), 0);
        CHECK_INT(q.n_held, 1);
        CHECK_INT(q.held[0]->n_open_questions, 2);
        CHECK(q.held[0]->open_questions[0] == id && q.held[0]->open_questions[1] == id2);
        jobs_held_free(&q);
        connect_hub(r, true);
        turn(r);
        CHECK_INT(r->n_questions, 3);
        answer(r, id2, PHOTON__V1__ANSWER_OUTCOME__ANSWER_EXPIRED, "");
        turn(r);
        turn(r);
        CHECK(h2.n == 1 && h2.outcome == ASK_EXPIRED && h.n == 0);
        tool_ask_withdraw(call, id);
        turn(r);
        CHECK_INT(r->n_withdrawn, 1);
        CHECK_INT(r->withdrawn[0], id);
        answer(r, id, PHOTON__V1__ANSWER_OUTCOME__ANSWER_ALLOWED, "");
        turn(r);
        turn(r);
        CHECK_INT(h.n, 0);
        finish(TOOL_SUCCEEDED, NULL);
        turn(r);
        rig_free(r);
}

TEST(job_ask, an_older_hub_means_no)
{
        struct rig *r = rig_make("version: 1\n");
        struct heard h, h2;

        start(r, 0);
        jobs_attach(r->jobs, NULL);
        ask(&h);
        connect_hub(r, false);
        ask(&h2);
        turn(r);
        turn(r);
        CHECK(h.n == 1 && h.outcome == ASK_DENIED);
        CHECK(h2.n == 1 && h2.outcome == ASK_DENIED);
        CHECK(strstr(h2.reason, "upgrade"));
        CHECK_INT(r->n_questions, 0);
        finish(TOOL_SUCCEEDED, NULL);
        turn(r);
        rig_free(r);
}

static void on_passed(uv_timer_t *t)
{
        *(bool *)t->data = true;
}

/* Turns until ms have passed on the loop's clock. */
static void pass(struct rig *r, uint64_t ms)
{
        bool passed = false;
        uv_timer_t t;

        uv_timer_init(&r->loop, &t);
        t.data = &passed;
        uv_timer_start(&t, on_passed, ms, 0);
        while (!passed) {
                uv_run(&r->loop, UV_RUN_ONCE);
                jobs_turn(r->jobs);
        }
        uv_close((uv_handle_t *)&t, NULL);
        uv_run(&r->loop, UV_RUN_NOWAIT);
}

static int cancelled_state(struct rig *r)
{
        cJSON *d = jobs_describe(r->jobs);
        char *text = json_text(d);
        int stopping = strstr(text, "stopping") != NULL;

        mem_free(text);
        cJSON_Delete(d);
        return stopping;
}

TEST(job_ask, the_time_limit_stands_still_while_a_question_is_open)
{
        struct rig *r = rig_make("version: 1\n");
        struct heard h, h2;
        uint32_t id, id2;

        start(r, 300);
        id = ask(&h);
        id2 = ask(&h2);
        turn(r);
        pass(r, 500);
        CHECK(!cancelled_state(r));
        answer(r, id, PHOTON__V1__ANSWER_OUTCOME__ANSWER_ALLOWED, "");
        pass(r, 500); /* the other is open */
        CHECK(h.n == 1 && !cancelled_state(r));
        tool_ask_withdraw(call, id2);
        pass(r, 100); /* what was left: 300 ms or nearly */
        CHECK(!cancelled_state(r));
        pass(r, 300);
        CHECK(cancelled_state(r));
        finish(TOOL_TIMED_OUT, "timeout");
        turn(r);
        CHECK_STR(r->code, "timeout");
        rig_free(r);
}

TEST(job_ask, a_stopped_call_gets_no_for_an_answer)
{
        struct rig *r = rig_make("version: 1\n");
        struct heard h, h2;

        start(r, 0);
        ask(&h);
        turn(r);
        cancel(r);
        ask(&h2);
        turn(r);
        turn(r);
        CHECK(h.n == 1 && h.outcome == ASK_WITHDRAWN);
        CHECK(h2.n == 1 && h2.outcome == ASK_WITHDRAWN);
        CHECK_INT(r->n_questions, 1);
        CHECK_INT(r->n_withdrawn, 1);
        finish(TOOL_CANCELLED, "cancelled");
        turn(r);
        rig_free(r);
}

TEST(job_ask, a_finished_call_hears_nothing_more)
{
        struct rig *r = rig_make("version: 1\n");
        struct heard h, h2;
        uint32_t id;

        start(r, 0);
        id = ask(&h);
        turn(r);
        ask_as(&h2, "edit", "x", "allow"); /* decided, not yet delivered */
        finish(TOOL_FAILED, "x");
        turn(r);
        answer(r, id, PHOTON__V1__ANSWER_OUTCOME__ANSWER_ALLOWED, "");
        turn(r);
        turn(r);
        CHECK(h.n == 0 && h2.n == 0);
        CHECK_INT(r->n_finished, 1);
        rig_free(r);
}

TEST(job_ask, no_more_than_so_many_at_once_and_none_too_large)
{
        struct rig *r = rig_make("version: 1\n");
        struct heard h[ASK_OPEN_MAX + 1];
        struct tool_question q = {.action = "edit", .title = "x"};
        char *big = mem_alloc((2u << 20) + 1);
        uint32_t id;

        start(r, 0);
        for (int i = 0; i < ASK_OPEN_MAX; i++)
                ask(&h[i]);
        CHECK_INT(tool_ask(call, &q, on_decision, &h[ASK_OPEN_MAX], &id), -E_FULL);
        tool_ask_withdraw(call, 3);
        memset(big, 'x', 2u << 20);
        big[2u << 20] = '\0';
        q.arguments = cJSON_CreateString(big);
        memset(&h[3], 0, sizeof h[3]);
        CHECK_INT(tool_ask(call, &q, on_decision, &h[3], &id), 0);
        turn(r);
        turn(r);
        CHECK(h[3].n == 1 && h[3].outcome == ASK_DENIED);
        CHECK_STR(h[3].by, "agent");
        cJSON_Delete((cJSON *)(uintptr_t)q.arguments);
        mem_free(big);
        finish(TOOL_SUCCEEDED, NULL);
        turn(r);
        rig_free(r);
}

/* What the hub would refuse, and cut the session for, must not get there: again and again, after each Hello.
 */
TEST(job_ask, odd_words_are_made_plain)
{
        struct rig *r = rig_make("version: 1\n");
        char title[2000];
        struct heard h;

        start(r, 0);
        memset(title, 'a', sizeof title - 1);
        title[sizeof title - 1] = '\0';
        title[0] = '\xff';
        title[510] = '\xc3';
        title[511] = '\xa4';
        ask_as(&h, "juggle", title, NULL);
        turn(r);
        CHECK_INT(r->n_questions, 1);
        CHECK_STR(r->questions[0]->action, "other");
        CHECK(strlen(r->questions[0]->title) <= 512);
        CHECK(memcmp(r->questions[0]->title, "\xef\xbf\xbd", 3) == 0);
        finish(TOOL_SUCCEEDED, NULL);
        turn(r);
        rig_free(r);
}

/* kill -9 while it waits: what was asked is known, and that nothing was decided. */
TEST(job_ask, an_agent_that_died_with_a_question_says_which)
{
        struct rig *r = rig_make("version: 1\n"), dead;
        struct heard h, h2;
        uint32_t id;
        char *text;
        size_t n;

        start(r, 0);
        id = ask_as(&h, "edit", "Write the first", NULL);
        ask_as(&h2, "edit", "Write the second", NULL);
        turn(r);
        answer(r, id, PHOTON__V1__ANSWER_OUTCOME__ANSWER_ALLOWED, "");
        turn(r);
        turn(r);
        CHECK_INT(h.n, 1);
        dead = *r;
        /* The dead one's handles live on the old loop; it writes no more. */
        CHECK_INT(file_read(r->journal_path, 1 << 20, &text, &n, NULL), 0);
        CHECK_INT(unlink(r->journal_path), 0);
        CHECK_INT(file_write_atomic(r->journal_path, text, n, 0600, NULL), 0);
        mem_free(text);
        open_parts(r);
        connect_hub(r, true);
        turn(r);
        CHECK_INT(r->n_finished, 1);
        CHECK_INT(r->outcome, PHOTON__V1__OUTCOME__OUTCOME_LOST);
        CHECK_STR(r->code, "question_lost");
        CHECK(strstr(r->message, "Write the second") && !strstr(r->message, "Write the first"));
        /* Now the memory of the dead one. */
        finish(TOOL_SUCCEEDED, NULL);
        jobs_turn(dead.jobs);
        jobs_close(dead.jobs, NULL, NULL);
        uv_run(&r->loop, UV_RUN_NOWAIT);
        output_pool_close(dead.pool, NULL, NULL);
        uv_run(&r->loop, UV_RUN_NOWAIT);
        journal_free(dead.journal);
        policy_free(dead.policy);
        rig_free(r);
}

TEST(job_ask, an_agent_that_is_stopped_says_it_too)
{
        struct rig *r = rig_make("version: 1\n");
        struct heard h;

        start(r, 0);
        ask(&h);
        turn(r);
        jobs_stop_all(r->jobs, 100);
        turn(r);
        turn(r);
        CHECK(h.n == 1 && h.outcome == ASK_WITHDRAWN);
        finish(TOOL_CANCELLED, "cancelled");
        turn(r);
        CHECK_STR(r->code, "question_lost");
        CHECK(strstr(r->message, "Write /srv/x"));
        rig_free(r);
}
