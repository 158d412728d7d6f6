/* Questions to people on the hub: the rules, the rows, and what the engine makes of them over time. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/mem.h"
#include "hub/model/checkpoint.h"
#include "tests/lib/engine_bench.h"
#include "tests/lib/test.h"

/* ---- the rules ---- */

TEST(checkpoint, only_an_open_one_moves_and_only_once)
{
        for (int from = 0; from < CHECKPOINT_STATE_COUNT; from++) {
                for (int to = -1; to <= CHECKPOINT_STATE_COUNT; to++) {
                        enum checkpoint_state s = (enum checkpoint_state)from;
                        bool may = from == CHECKPOINT_OPEN && to > CHECKPOINT_OPEN &&
                                   to < CHECKPOINT_STATE_COUNT;

                        CHECK_INT(checkpoint_move(&s, (enum checkpoint_state)to), may ? 0 : -E_STATE);
                        CHECK_INT(s, may ? to : from);
                }
                CHECK_INT(checkpoint_over((enum checkpoint_state)from), from != CHECKPOINT_OPEN);
        }
        /* The numbers are in databases. */
        CHECK_INT(CHECKPOINT_OPEN, 0);
        CHECK_INT(CHECKPOINT_APPROVED, 1);
        CHECK_INT(CHECKPOINT_REJECTED, 2);
        CHECK_INT(CHECKPOINT_EXPIRED, 3);
        CHECK_INT(CHECKPOINT_WITHDRAWN, 4);
}

#define SUM "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

TEST(checkpoint, who_may_answer_what_and_when)
{
        static const struct {
                enum checkpoint_state state;
                bool form;
                struct checkpoint_answer a;
                int64_t now;
                enum self_approval self;
                int want;
        } rows[] = {
                {CHECKPOINT_OPEN, false, {.by = "ada", .approve = true}, 99, SELF_ALLOW, 0},
                {CHECKPOINT_OPEN, false, {.by = "ada"}, 99, SELF_ALLOW, 0},
                {CHECKPOINT_OPEN, false, {.by = "ada", .approve = true}, 100, SELF_ALLOW, -E_TIMEOUT},
                {CHECKPOINT_EXPIRED, false, {.by = "ada", .approve = true}, 0, SELF_ALLOW, -E_TIMEOUT},
                {CHECKPOINT_APPROVED, false, {.by = "ada", .approve = true}, 0, SELF_ALLOW, -E_STATE},
                {CHECKPOINT_REJECTED, false, {.by = "ada"}, 0, SELF_ALLOW, -E_STATE},
                {CHECKPOINT_WITHDRAWN, false, {.by = "ada"}, 0, SELF_ALLOW, -E_STATE},
                {CHECKPOINT_OPEN, false, {.by = "ada", .approve = true, .sha256 = SUM}, 0, SELF_ALLOW, 0},
                {CHECKPOINT_OPEN,
                 false,
                 {.by = "ada", .approve = true, .sha256 = "00"},
                 0,
                 SELF_ALLOW,
                 -E_VERSION},
                {CHECKPOINT_OPEN, false, {.by = "ada", .sha256 = "00"}, 0, SELF_ALLOW, -E_VERSION},
                {CHECKPOINT_OPEN, false, {.by = "bob", .approve = true}, 0, SELF_ALLOW, 0},
                {CHECKPOINT_OPEN, false, {.by = "bob", .approve = true}, 0, SELF_DENY, -E_DENIED},
                {CHECKPOINT_OPEN, false, {.by = "bob"}, 0, SELF_DENY, 0}, /* anybody may say no */
                {CHECKPOINT_OPEN, false, {.by = "ada", .approve = true}, 0, SELF_DENY, 0},
                {CHECKPOINT_OPEN,
                 false,
                 {.by = "ada", .approve = true, .content = "{}"},
                 0,
                 SELF_ALLOW,
                 -E_INVAL},
                {CHECKPOINT_OPEN, true, {.by = "ada", .approve = true, .content = "{}"}, 0, SELF_ALLOW, 0},
                {CHECKPOINT_OPEN, true, {.by = "ada", .approve = true}, 0, SELF_ALLOW, -E_INVAL},
                {CHECKPOINT_OPEN, true, {.by = "ada"}, 0, SELF_ALLOW, 0},
                {CHECKPOINT_OPEN, false, {.by = "ada", .approve = true, .always = true}, 0, SELF_ALLOW, 0},
                {CHECKPOINT_OPEN, false, {.by = "ada", .always = true}, 0, SELF_ALLOW, -E_INVAL},
                {CHECKPOINT_OPEN,
                 true,
                 {.by = "ada", .approve = true, .always = true, .content = "{}"},
                 0,
                 SELF_ALLOW,
                 -E_INVAL},
        };

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                struct checkpoint_facts f = {.id = "c1",
                                             .state = rows[i].state,
                                             .form = rows[i].form,
                                             .sha256 = SUM,
                                             .asked_by = "bob",
                                             .expires_us = 100,
                                             .decided_by = "eve",
                                             .reason = "because"};
                struct err e = {0};
                const char *code = NULL;
                int rc = checkpoint_check(&f, &rows[i].a, rows[i].now, rows[i].self, &code, &e);

                if (rc != rows[i].want)
                        test_fail(__FILE__, __LINE__, "row %zu: %s: %s", i, err_name(rc), e.msg);
                CHECK(rc == 0 || strstr(e.msg, "c1") || strstr(e.msg, "always"));
                if (rows[i].state == CHECKPOINT_APPROVED)
                        CHECK(strstr(e.msg, "approved by eve") && strstr(e.msg, "because"));
        }
}

TEST(checkpoint, the_time_to_answer_is_bounded)
{
        CHECK_INT(checkpoint_timeout_ms(0, 5000), 5000);
        CHECK_INT(checkpoint_timeout_ms(-1, 5000), 5000);
        CHECK_INT(checkpoint_timeout_ms(7000, 5000), 7000);
        CHECK_INT(checkpoint_timeout_ms(1, 5000), CHECKPOINT_TIMEOUT_MIN_MS);
        CHECK_INT(checkpoint_timeout_ms(INT64_MAX, 5000), CHECKPOINT_TIMEOUT_MAX_MS);
}

/* ---- the engine ---- */

static struct row_checkpoint found;
static char found_texts[8][256];
static int n_found;

static const char *hold(int i, const char *s)
{
        snprintf(found_texts[i], sizeof found_texts[i], "%s", s ? s : "");
        return found_texts[i];
}

static int on_found(void *arg, const struct row_checkpoint *r)
{
        (void)arg;
        if (n_found++)
                return 0;
        found = *r;
        found.id = hold(0, r->id);
        found.decided_by = hold(1, r->decided_by);
        found.reason = hold(2, r->reason);
        found.arguments = hold(3, r->arguments);
        found.sha256 = hold(4, r->sha256);
        found.content = hold(5, r->content);
        found.step_id = hold(6, r->step_id);
        found.asked_by = hold(7, r->asked_by);
        return 0;
}

/* The newest one as the database has it. */
static const struct row_checkpoint *newest(struct eb *b, int state)
{
        struct checkpoint_filter f = {.state = state};
        struct store_reader *rd;

        CHECK_INT(store_reader_open(b->store, &rd, NULL), 0);
        n_found = 0;
        CHECK_INT(read_checkpoints(rd, &f, on_found, NULL), 0);
        store_reader_close(rd);
        return n_found ? &found : NULL;
}

static void ask(struct eb *b, const char *step, uint32_t id, int64_t timeout_ms)
{
        struct engine_question q = {.attempt_id = eb_started(b, step)->attempt_id,
                                    .question_id = id,
                                    .kind = "permission",
                                    .action = "edit",
                                    .title = "Write x",
                                    .tool = "Write",
                                    .arguments = "{\"path\":\"x\"}",
                                    .timeout_ms = timeout_ms};

        engine_on_question(b->en, "a1", &q);
        eb_turn(b);
}

static void on_answer(void *arg, int rc, const struct err *e)
{
        struct eb *b = arg;

        b->answer_rc = rc;
        snprintf(b->answer_msg, sizeof b->answer_msg, "%s", e ? e->msg : "");
}

static int decide(struct eb *b, const char *id, bool approve, const char *by, const char *sha256)
{
        char copy[64];
        struct engine_decision d = {.checkpoint_id = copy,
                                    .answer = {.by = by, .approve = approve, .sha256 = sha256},
                                    .reason = "as agreed"};

        snprintf(copy, sizeof copy, "%s", id);
        b->answer_rc = 1;
        engine_decide(b->en, &d, on_answer, b);
        eb_turn(b);
        return b->answer_rc;
}

static struct eb *asking(void)
{
        struct eb *b = eb_open();

        eb_agent(b, "a1", 4);
        eb_submit(b, "name: x\nsteps:\n  - {id: a, run: x}\n");
        ask(b, "a", 1, 0);
        return b;
}

static const struct eb_reply *only_reply(struct eb *b)
{
        CHECK_INT(b->n_replies, 1);
        return &b->replies[0];
}

TEST(checkpoint, a_question_is_on_disk_and_its_run_waits)
{
        struct eb *b = asking();
        const struct row_checkpoint *c = newest(b, CHECKPOINT_OPEN);

        CHECK(c && c->live);
        CHECK_STR(c->arguments, "{\"path\":\"x\"}");
        /* printf '{"path":"x"}' | sha256sum */
        CHECK_STR(c->sha256, "4c99d722e6918fb1adbd4c0e5e6636d5bdc9de54404afc2a5b4ab7877ec83db0");
        CHECK_STR(c->step_id, "a");
        CHECK_STR(c->asked_by, "t");
        CHECK_INT(c->expires_us - c->created_us, 60000000);
        CHECK_STR(eb_run_state(b), "waiting");
        CHECK_STR(eb_state(b, "a"), "dispatched");
        CHECK_INT(b->n_replies, 0);
        ask(b, "a", 1, 0); /* sent again: known */
        CHECK(newest(b, -1) && n_found == 1);
        ask(b, "a", 2, 0);
        CHECK(newest(b, -1) && n_found == 2);
        eb_close(b);
}

TEST(checkpoint, the_first_answer_stands_and_reaches_the_agent)
{
        struct eb *b = asking();
        char id[64];

        snprintf(id, sizeof id, "%s", newest(b, CHECKPOINT_OPEN)->id);
        CHECK_INT(decide(b, id, true, "ada", SUM), -E_VERSION);
        CHECK_INT(b->n_replies, 0);
        CHECK_INT(decide(b, id, true, "ada", newest(b, CHECKPOINT_OPEN)->sha256), 0);
        CHECK_INT(only_reply(b)->state, CHECKPOINT_APPROVED);
        CHECK_STR(b->replies[0].by, "ada");
        CHECK_STR(b->replies[0].reason, "as agreed");
        CHECK_STR(eb_run_state(b), "running");
        CHECK_INT(decide(b, id, false, "bob", NULL), -E_STATE);
        CHECK(strstr(b->answer_msg, "approved by ada"));
        CHECK_INT(newest(b, -1)->state, CHECKPOINT_APPROVED);
        CHECK(found.live && !found.delivered_us);
        engine_on_reply_ack(b->en, "a1", eb_started(b, "a")->attempt_id, 1);
        eb_turn(b);
        CHECK(newest(b, -1)->delivered_us && !found.live);
        CHECK_INT(decide(b, id, false, "bob", NULL), -E_NOENT); /* the row says the rest */
        CHECK_INT(decide(b, "nonsense", false, "bob", NULL), -E_NOENT);
        eb_answer(b, "a", ENGINE_SUCCEEDED, NULL);
        CHECK_STR(eb_run_state(b), "succeeded");
        eb_close(b);
}

/* Nothing leaves before it is durable: a hub that dies in between must not have said yes. */
TEST(checkpoint, an_answer_is_durable_before_it_is_sent)
{
        struct eb *b = asking();
        struct engine_decision d = {.checkpoint_id = newest(b, CHECKPOINT_OPEN)->id,
                                    .answer = {.by = "ada", .approve = true}};

        b->answer_rc = 1;
        engine_decide(b->en, &d, on_answer, b);
        engine_flush(b->en);
        ask(b, "a", 1, 0); /* it comes again meanwhile; this also commits */
        CHECK_INT(b->answer_rc, 0);
        CHECK_INT(b->n_replies, 1);
        ask(b, "a", 1, 0); /* and again: the agent has not heard it */
        CHECK_INT(b->n_replies, 2);
        eb_close(b);
}

TEST(checkpoint, time_that_is_up_means_no)
{
        struct eb *b = asking();
        char id[64];

        snprintf(id, sizeof id, "%s", newest(b, CHECKPOINT_OPEN)->id);
        ask(b, "a", 2, 5000);
        eb_pass(b, 5001);
        CHECK_INT(only_reply(b)->question_id, 2);
        CHECK_INT(b->replies[0].state, CHECKPOINT_EXPIRED);
        CHECK_STR(eb_run_state(b), "waiting"); /* the other is open */
        eb_pass(b, 60000);
        CHECK_INT(b->n_replies, 2);
        CHECK_STR(eb_run_state(b), "running");
        CHECK_INT(decide(b, id, true, "ada", NULL), -E_TIMEOUT);
        CHECK_INT(newest(b, -1)->state, CHECKPOINT_EXPIRED);
        CHECK_STR(found.decided_by, "hub");
        eb_close(b);
}

TEST(checkpoint, an_answer_after_the_deadline_expires_it_though_no_timer_ran)
{
        struct eb *b = asking();
        char id[64];

        snprintf(id, sizeof id, "%s", newest(b, CHECKPOINT_OPEN)->id);
        b->now_ms += 60000; /* nobody called engine_tick */
        CHECK_INT(decide(b, id, true, "ada", NULL), -E_TIMEOUT);
        CHECK_INT(only_reply(b)->state, CHECKPOINT_EXPIRED);
        eb_close(b);
}

TEST(checkpoint, a_restarted_hub_keeps_question_deadline_and_answer)
{
        struct eb *b = asking();
        char id[64];

        snprintf(id, sizeof id, "%s", newest(b, CHECKPOINT_OPEN)->id);
        eb_pass(b, 40000);
        eb_reopen(b);
        CHECK_STR(eb_run_state(b), "waiting");
        CHECK_INT(decide(b, id, true, "ada", NULL), 0); /* the agent is away */
        CHECK_INT(b->n_replies, 0);
        eb_reopen(b);
        eb_agent(b, "a1", 4);
        ask(b, "a", 1, 0); /* as agents do after Hello */
        CHECK_INT(only_reply(b)->state, CHECKPOINT_APPROVED);
        CHECK_STR(b->replies[0].by, "ada");
        CHECK(newest(b, -1) && n_found == 1);
        ask(b, "a", 2, 30000);
        CHECK(strcmp(newest(b, CHECKPOINT_OPEN)->id, id) != 0);
        eb_reopen(b);
        eb_agent(b, "a1", 4);
        eb_pass(b, 29000);
        CHECK_INT(b->n_replies, 1);
        eb_pass(b, 1100);
        CHECK_INT(b->n_replies, 2);
        CHECK_INT(b->replies[1].state, CHECKPOINT_EXPIRED);
        eb_close(b);
}

TEST(checkpoint, one_that_expired_while_the_hub_was_down_is_over_when_it_is_up)
{
        struct eb *b = asking();

        b->now_ms += 61000;
        eb_reopen(b);
        eb_pass(b, 1);
        CHECK_INT(newest(b, -1)->state, CHECKPOINT_EXPIRED);
        CHECK_STR(eb_run_state(b), "running");
        eb_close(b);
}

TEST(checkpoint, the_end_of_the_step_withdraws_what_is_open)
{
        struct eb *b = asking();
        char id[64];

        snprintf(id, sizeof id, "%s", newest(b, CHECKPOINT_OPEN)->id);
        eb_answer(b, "a", ENGINE_FAILED, NULL);
        CHECK_INT(newest(b, -1)->state, CHECKPOINT_WITHDRAWN);
        CHECK(!found.live);
        CHECK_STR(eb_run_state(b), "failed");
        CHECK_INT(decide(b, id, true, "ada", NULL), -E_NOENT);
        eb_close(b);
}

TEST(checkpoint, cancelling_withdraws_at_once)
{
        struct eb *b = asking();
        char id[64];

        snprintf(id, sizeof id, "%s", newest(b, CHECKPOINT_OPEN)->id);
        engine_cancel(b->en, b->run, "ann", "test", NULL, NULL);
        eb_turn(b);
        CHECK_INT(newest(b, -1)->state, CHECKPOINT_WITHDRAWN);
        CHECK(eb_started(b, "a")->cancelled);
        CHECK_INT(decide(b, id, true, "ada", NULL), -E_STATE);
        ask(b, "a", 7, 0); /* too late */
        CHECK(newest(b, -1) && n_found == 1);
        CHECK_INT(b->replies[b->n_replies - 1].question_id, 7);
        CHECK_INT(b->replies[b->n_replies - 1].state, CHECKPOINT_WITHDRAWN);
        eb_answer(b, "a", ENGINE_CANCELLED, NULL);
        CHECK_STR(eb_run_state(b), "cancelled");
        eb_close(b);
}

TEST(checkpoint, the_agent_withdraws_by_word_or_by_not_holding_it)
{
        struct eb *b = asking();
        uint64_t attempt = eb_started(b, "a")->attempt_id;
        uint32_t second = 2;

        ask(b, "a", 2, 0);
        engine_on_question_withdrawn(b->en, "a1", attempt, 9);
        engine_on_question_withdrawn(b->en, "somebody else", attempt, 1);
        eb_turn(b);
        CHECK(newest(b, CHECKPOINT_OPEN) && n_found == 2);
        engine_on_question_withdrawn(b->en, "a1", attempt, 1);
        eb_turn(b);
        CHECK(newest(b, CHECKPOINT_OPEN) && n_found == 1);
        CHECK_INT(found.question_id, 2);
        engine_held_questions(b->en, "a1", attempt, &second, 1);
        eb_turn(b);
        CHECK(newest(b, CHECKPOINT_OPEN) && n_found == 1);
        engine_held_questions(b->en, "a1", attempt, NULL, 0);
        eb_turn(b);
        CHECK(!newest(b, CHECKPOINT_OPEN));
        CHECK_STR(eb_run_state(b), "running");
        eb_close(b);
}

/* The agent is away longer than lost-after: the step is unknown, the question lives on, for it may come back.
 */
TEST(checkpoint, an_unknown_step_keeps_its_question_until_somebody_decides)
{
        struct eb *b = asking();
        char id[64];

        snprintf(id, sizeof id, "%s", newest(b, CHECKPOINT_OPEN)->id);
        eb_agent_off(b, "a1");
        eb_pass(b, 1001);
        CHECK_STR(eb_state(b, "a"), "unknown");
        CHECK_INT(decide(b, id, true, "ada", NULL), 0);
        eb_agent(b, "a1", 4);
        CHECK_STR(eb_run_state(b), "running");
        ask(b, "a", 1, 0);
        CHECK_INT(only_reply(b)->state, CHECKPOINT_APPROVED);
        ask(b, "a", 2, 0);
        eb_agent_off(b, "a1");
        eb_pass(b, 1001);
        engine_resolve(b->en, b->run, &(struct engine_actor){.by = "ann"}, "a", "failed", on_answer, b);
        eb_turn(b);
        CHECK_INT(newest(b, -1)->state, CHECKPOINT_WITHDRAWN);
        eb_close(b);
}

TEST(checkpoint, a_call_that_died_with_its_question_says_so)
{
        struct eb *b = asking();
        struct engine_result r = {.attempt_id = eb_started(b, "a")->attempt_id,
                                  .outcome = ENGINE_LOST,
                                  .error_code = "question_lost",
                                  .error_message = "it waited for \"Write x\"",
                                  .sync_fd = -1};
        char *code, *text;

        engine_on_finished(b->en, "a1", &r, NULL, NULL);
        eb_turn(b);
        CHECK_STR(eb_state(b, "a"), "unknown");
        CHECK_STR(eb_run_state(b), "waiting");
        code = eb_column(b, "a", "error_code");
        text = eb_column(b, "a", "error_message");
        CHECK_STR(code, "question_lost");
        CHECK(strstr(text, "Write x") && strstr(text, "retry"));
        free(code);
        free(text);
        CHECK_INT(newest(b, -1)->state, CHECKPOINT_WITHDRAWN);
        engine_resolve(b->en, b->run, &(struct engine_actor){.by = "ann"}, "a", "retry", on_answer, b);
        eb_turn(b);
        CHECK(eb_started(b, "a")->attempt_id != r.attempt_id);
        ask(b, "a", 1, 0); /* numbers begin again with the attempt */
        CHECK(newest(b, CHECKPOINT_OPEN) && n_found == 1);
        eb_close(b);
}

TEST(checkpoint, a_run_waits_only_while_all_of_it_does)
{
        struct eb *b = eb_open();

        eb_agent(b, "a1", 4);
        eb_submit(b, "name: x\nsteps:\n  - {id: a, run: x}\n  - {id: b, run: x}\n");
        ask(b, "a", 1, 0);
        CHECK_STR(eb_run_state(b), "running");
        ask(b, "b", 1, 0);
        CHECK_STR(eb_run_state(b), "waiting");
        eb_answer(b, "b", ENGINE_SUCCEEDED, NULL);
        CHECK_STR(eb_run_state(b), "waiting");
        CHECK_INT(decide(b, newest(b, CHECKPOINT_OPEN)->id, false, "ada", NULL), 0);
        CHECK_STR(eb_run_state(b), "running");
        eb_answer(b, "a", ENGINE_FAILED, NULL);
        CHECK_STR(eb_run_state(b), "failed");
        eb_close(b);
}

TEST(checkpoint, a_hub_may_want_another_to_approve)
{
        struct eb *b = asking();
        char id[64];

        b->self = SELF_DENY;
        eb_reopen(b);
        snprintf(id, sizeof id, "%s", newest(b, CHECKPOINT_OPEN)->id);
        CHECK_INT(decide(b, id, true, "t", NULL), -E_DENIED); /* t submitted it */
        CHECK_INT(newest(b, -1)->state, CHECKPOINT_OPEN);
        CHECK_INT(decide(b, id, true, "ada", NULL), 0);
        eb_close(b);
}

TEST(checkpoint, questions_of_strangers_and_of_the_dead_are_turned_down)
{
        struct eb *b = asking();
        struct engine_question q = {.attempt_id = 12345,
                                    .question_id = 3,
                                    .kind = "permission",
                                    .action = "edit",
                                    .title = "x",
                                    .tool = "",
                                    .arguments = "{}"};

        engine_on_question(b->en, "a1", &q);
        CHECK_INT(only_reply(b)->state, CHECKPOINT_WITHDRAWN);
        q.attempt_id = eb_started(b, "a")->attempt_id;
        engine_on_question(b->en, "a2", &q);
        eb_turn(b);
        CHECK_INT(b->n_replies, 2);
        CHECK(newest(b, -1) && n_found == 1);
        eb_close(b);
}
