/* Over a cap that asks: one question for all that wait, and what becomes of its answer. */
#include "tests/unit/budget_world.h"

static char ask_id[64], ask_args[2048], ask_sha[80];
static int n_asks;

static int on_ask(void *arg, const struct row_checkpoint *c)
{
        (void)arg;
        if (n_asks++)
                return 0;
        snprintf(ask_id, sizeof ask_id, "%s", c->id);
        snprintf(ask_args, sizeof ask_args, "%s", c->arguments);
        snprintf(ask_sha, sizeof ask_sha, "%s", c->sha256);
        return 0;
}

static int open_questions(struct eb *b)
{
        struct checkpoint_filter f = {.state = CHECKPOINT_OPEN};
        struct store_reader *rd;

        n_asks = 0;
        CHECK_INT(store_reader_open(b->store, &rd, NULL), 0);
        CHECK_INT(read_checkpoints(rd, &f, on_ask, NULL), 0);
        store_reader_close(rd);
        return n_asks;
}

static void decide(struct eb *b, bool yes)
{
        struct engine_decision d = {
                .checkpoint_id = ask_id,
                .answer = {.by = "eve", .approve = yes, .sha256 = ask_sha, .role = "admin"}};

        b->answer_rc = 1;
        engine_decide(b->en, &d, on_answer, b);
        eb_turn(b);
        if (b->answer_rc)
                test_fail(__FILE__, __LINE__, "%d %s", b->answer_rc, b->answer_msg);
}

static struct eb *five_with_room_for_one(void)
{
        struct eb *b = eb_open();
        char *yaml = many(5, "budget: {usd: 1, over: ask}\n", ONE);

        eb_agent(b, "a1", 9);
        eb_submit(b, yaml);
        free(yaml);
        CHECK_INT(running(b), 1);
        CHECK_INT(open_questions(b), 0); /* it may come back unspent */
        eb_answer(b, "s0", ENGINE_SUCCEEDED, NULL);
        CHECK_INT(running(b), 0);
        CHECK_INT(open_questions(b), 1); /* for all four */
        return b;
}

TEST(engine_budget_ask, over_the_cap_one_question_is_asked_for_all_that_wait)
{
        struct eb *b = five_with_room_for_one();

        CHECK(strstr(ask_args, "\"raise\":{\"usd\":\"4.00\"}") != NULL);
        CHECK(strstr(ask_args, "\"steps\":4") != NULL);
        CHECK(strstr(ask_args, "Allow 4.00 USD more, once, so that 4 steps can run?") != NULL);
        CHECK_STR(eb_run_state(b), "running");
        decide(b, true);
        CHECK_INT(running(b), 4);
        answer_all(b, NULL);
        CHECK(b->finished);
        CHECK_INT(b->finished_state, RUN_SUCCEEDED);
        CHECK_INT(ledger(b).spent, USD(5));
        eb_close(b);
}

TEST(engine_budget_ask, a_no_is_a_no_to_all_that_waited)
{
        struct eb *b = five_with_room_for_one();

        decide(b, false);
        CHECK(b->finished);
        CHECK_INT(b->finished_state, RUN_FAILED);
        check_column(b, "s1", "error_code", "budget_exceeded");
        check_column(b, "s4", "error_code", "budget_exceeded");
        CHECK_INT(open_questions(b), 0);
        CHECK_INT(ledger(b).n, 1);
        eb_close(b);
}

TEST(engine_budget_ask, the_question_and_what_was_allowed_outlive_the_hub)
{
        struct eb *b = five_with_room_for_one();
        char first[64];

        snprintf(first, sizeof first, "%s", ask_id);
        eb_reopen(b);
        eb_agent(b, "a1", 9);
        CHECK_INT(open_questions(b), 1);
        CHECK_STR(ask_id, first);
        decide(b, true);
        CHECK_INT(running(b), 4);
        eb_reopen(b);
        eb_agent(b, "a1", 9);
        eb_answer(b, "s1", ENGINE_FAILED, NULL);
        CHECK_INT(ledger(b).held, USD(3));
        eb_close(b);
}

TEST(engine_budget_ask, what_was_allowed_is_allowed_once)
{
        struct eb *b = eb_open();

        eb_agent(b, "a1", 9);
        {
                struct engine_budget_set s = {
                        .id = "day", .cap = {.max = {{USD(1), NONE}}, .over = BUDGET_ASK}, .by = "eve"};

                engine_budget_set(b->en, &s, on_answer, b);
        }
        eb_submit(b, "steps:\n  - {id: s, uses: acme.think, estimate: {usd: 3}}\n");
        CHECK_INT(open_questions(b), 1);
        decide(b, true);
        CHECK_INT(seen(b, "day", "raised"), USD(2));
        CHECK_INT(running(b), 1);
        eb_reopen(b);
        eb_agent(b, "a1", 9);
        CHECK_INT(seen(b, "day", "raised"), USD(2));
        eb_answer(b, "s", ENGINE_SUCCEEDED, NULL);
        eb_submit(b, "steps:\n  - {id: s, " ONE "}\n");
        CHECK_INT(running(b), 0);
        CHECK_INT(open_questions(b), 1);
        engine_cancel(b->en, b->run, "eve", "no", on_answer, b);
        eb_turn(b);
        CHECK_INT(open_questions(b), 0);
        CHECK_INT(set(b, "day", USD(5), NONE, false), 0); /* the new cap says all */
        CHECK_INT(seen(b, "day", "raised"), 0);
        eb_close(b);
}

TEST(engine_budget_ask, when_the_asking_run_is_cancelled_another_asks)
{
        struct eb *b = eb_open();
        struct engine_budget_set s = {
                .id = "day", .cap = {.max = {{USD(0.5), NONE}}, .over = BUDGET_ASK}, .by = "eve"};
        char first[64];

        eb_agent(b, "a1", 9);
        engine_budget_set(b->en, &s, on_answer, b);
        eb_submit(b, "steps:\n  - {id: s, " ONE "}\n");
        snprintf(first, sizeof first, "%s", b->run);
        eb_submit(b, "steps:\n  - {id: t, " ONE "}\n");
        CHECK_INT(open_questions(b), 1);
        CHECK_STR(eb_state(b, "t"), "ready");
        engine_cancel(b->en, first, "eve", "no", on_answer, b);
        eb_turn(b);
        CHECK_INT(open_questions(b), 1);
        CHECK_STR(eb_state(b, "t"), "waiting");
        eb_close(b);
}

TEST(engine_budget_ask, a_new_day_answers_the_question_of_the_day)
{
        struct eb *b = eb_open();
        struct engine_budget_set s = {
                .id = "day", .cap = {.max = {{USD(1), NONE}}, .over = BUDGET_ASK}, .by = "eve"};
        const int64_t day_ms = INT64_C(86400000);
        int64_t now = 1790000000000 + b->now_ms;

        b->now_ms += day_ms - now % day_ms - 30000; /* before midnight */
        eb_agent(b, "a1", 9);
        engine_budget_set(b->en, &s, on_answer, b);
        eb_submit(b, "steps:\n  - {id: s, " ONE "}\n  - {id: t, needs: [s], " ONE "}\n");
        eb_answer(b, "s", ENGINE_SUCCEEDED, NULL);
        CHECK_INT(open_questions(b), 1);
        eb_pass(b, 10000);
        CHECK_INT(open_questions(b), 1);
        eb_reopen(b);
        eb_agent(b, "a1", 9);
        eb_pass(b, 21000);
        CHECK_INT(open_questions(b), 0);
        CHECK_INT(running(b), 1);
        eb_close(b);
}

TEST(engine_budget_ask, people_may_let_run_what_nobody_can_price)
{
        struct eb *b = eb_open();

        b->unpriced = BUDGET_UNPRICED_ASK;
        eb_reopen(b);
        eb_agent(b, "a1", 9);
        CHECK_INT(set(b, "day", USD(5), NONE, false), 0);
        eb_submit(b, "steps:\n  - {id: s, " THINK "}\n");
        CHECK_INT(open_questions(b), 1);
        CHECK(strstr(ask_args, "\"unpriced\":true") != NULL);
        decide(b, true);
        CHECK_INT(running(b), 1);
        eb_answer(b, "s", ENGINE_FAILED, NULL);
        eb_submit(b, "steps:\n  - {id: s, " THINK "}\n");
        decide(b, open_questions(b) != 1);
        check_column(b, "s", "error_code", "budget_unpriced");
        eb_close(b);
}

TEST(engine_budget_ask, a_cap_that_is_raised_meanwhile_answers_the_question)
{
        struct eb *b = eb_open();
        struct engine_budget_set s = {
                .id = "day", .cap = {.max = {{USD(0.5), NONE}}, .over = BUDGET_ASK}, .by = "eve"};

        eb_agent(b, "a1", 9);
        engine_budget_set(b->en, &s, on_answer, b);
        eb_submit(b, "steps:\n  - {id: s, " ONE "}\n  - {id: t, " ONE "}\n");
        CHECK_INT(open_questions(b), 1);
        s.cap.max.v[BUDGET_MONEY] = USD(0.7); /* not enough: it stays */
        engine_budget_set(b->en, &s, on_answer, b);
        eb_turn(b);
        CHECK_INT(open_questions(b), 1);
        eb_reopen(b);
        eb_agent(b, "a1", 9);
        CHECK_INT(running(b), 0);
        s.cap.max.v[BUDGET_MONEY] = USD(2);
        engine_budget_set(b->en, &s, on_answer, b);
        eb_turn(b);
        CHECK_INT(open_questions(b), 0);
        CHECK_INT(running(b), 2);
        answer_all(b, NULL);
        CHECK_STR(eb_run_state(b), "succeeded");
        eb_close(b);
}
