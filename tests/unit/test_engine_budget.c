/* Budgets in the engine, on a real store: what is reserved with the dispatch, what is charged at every kind
 * of end, who waits and who is refused, and what a restart makes of it. */
#include "common/auditchain.h"
#include "tests/unit/budget_world.h"

/* ---- the race ---- */

TEST(engine_budget, two_hundred_steps_at_once_never_reserve_past_the_cap)
{
        struct eb *b = eb_open();
        char *yaml = many(200, "", THINK ", estimate: {usd: \"0.10\"}");
        int rounds = 0;

        eb_agent(b, "a1", 300);
        CHECK_INT(set(b, "day", USD(5), NONE, false), 0);
        eb_submit(b, yaml);
        free(yaml);
        CHECK_INT(running(b), 50);
        CHECK_INT(ledger(b).held, USD(5));
        CHECK_INT(seen(b, "day", "left"), 0);
        /* Each takes a half of what it reserved: so 100 of them fit in all, the others are over. */
        while (running(b) && rounds++ < 400) {
                struct sums s;

                answer_all(b, "{\"cost_usd\":0.05}");
                s = ledger(b);
                CHECK(s.spent + s.held <= USD(5));
        }
        CHECK_INT(ledger(b).spent, USD(4.95)); /* 99 of 0.05: the hundredth would have had to fit with 0.10 */
        CHECK_INT(ledger(b).n, 99);
        CHECK(b->finished);
        CHECK_INT(b->finished_state, RUN_FAILED);
        check_column(b, "s199", "error_code", "budget_exceeded");
        check_column(b, "s199", "error_message",
                     "the budget day: the cap is 5.00 USD, 4.95 spent, 0.00 reserved");
        eb_close(b);
}

TEST(engine_budget, without_a_budget_nothing_is_held_and_only_usage_is_written)
{
        struct eb *b = eb_open();

        eb_agent(b, "a1", 4);
        eb_submit(b, "steps:\n  - {id: s, " THINK "}\n  - {id: t, run: x}\n");
        CHECK_INT(running(b), 2);
        CHECK_INT(ledger(b).n, 0);
        eb_answer(b, "t", ENGINE_SUCCEEDED, NULL);
        CHECK_INT(ledger(b).n, 0);
        b->usage = "{\"cost_usd\":0.5,\"input_tokens\":10,\"output_tokens\":5}";
        eb_answer(b, "s", ENGINE_SUCCEEDED, NULL);
        CHECK_INT(ledger(b).settled, 1);
        CHECK_INT(ledger(b).last_spent, USD(0.5));
        CHECK_INT(ledger(b).last_tokens, 15);
        CHECK_STR(ledger(b).project, "default");
        CHECK_STR(ledger(b).agent, "a1");
        /* A cap that is set later counts it. */
        CHECK_INT(set(b, "project:default", USD(1), NONE, false), 0);
        CHECK_INT(seen(b, "project:default", "spent"), USD(0.5));
        CHECK_INT(set(b, "agent:a1", USD(1), NONE, false), 0);
        CHECK_INT(seen(b, "agent:a1", "spent"), USD(0.5));
        eb_close(b);
}

/* ---- ends ---- */

static struct eb *one_under_way(const char *step)
{
        struct eb *b = eb_open();
        char yaml[512];

        eb_agent(b, "a1", 4);
        CHECK_INT(set(b, "project:default", USD(10), NONE, false), 0);
        snprintf(yaml, sizeof yaml, "steps:\n  - {id: s, %s}\n", step);
        eb_submit(b, yaml);
        CHECK_INT(running(b), 1);
        CHECK_INT(ledger(b).reserved, 1);
        CHECK_INT(ledger(b).held, USD(1));
        CHECK_INT(seen(b, "project:default", "reserved"), USD(1));
        return b;
}

static void check_spent(struct eb *b, int64_t micros, int reserved)
{
        CHECK_INT(ledger(b).spent, micros);
        CHECK_INT(ledger(b).reserved, reserved);
        CHECK_INT(seen(b, "project:default", "spent"), micros);
        CHECK_INT(seen(b, "project:default", "reserved"), reserved * USD(1));
}

TEST(engine_budget, a_success_costs_what_it_says)
{
        struct eb *b = one_under_way(ONE);

        b->usage = "{\"cost_usd\":0.25}";
        eb_answer(b, "s", ENGINE_SUCCEEDED, NULL);
        check_spent(b, USD(0.25), 0);
        CHECK_STR(ledger(b).source, "step");
        eb_close(b);
}

TEST(engine_budget, what_says_nothing_costs_what_was_reserved)
{
        struct eb *b = one_under_way(ONE);

        eb_answer(b, "s", ENGINE_SUCCEEDED, NULL);
        check_spent(b, USD(1), 0);
        eb_close(b);
}

TEST(engine_budget, a_failure_is_charged_and_each_try_reserves_anew)
{
        struct eb *b = one_under_way(ONE ", retry: 1");

        b->usage = "{\"cost_usd\":0.25}";
        eb_answer(b, "s", ENGINE_FAILED, NULL);
        check_spent(b, USD(0.25), 0);
        eb_pass(b, 2000);
        check_spent(b, USD(0.25), 1);
        eb_answer(b, "s", ENGINE_FAILED, NULL);
        check_spent(b, USD(0.5), 0);
        CHECK_INT(ledger(b).n, 2);
        eb_close(b);
}

TEST(engine_budget, what_was_refused_costs_nothing)
{
        struct eb *b = one_under_way(ONE);

        eb_answer(b, "s", ENGINE_REFUSED, NULL);
        check_spent(b, 0, 0);
        eb_close(b);
}

TEST(engine_budget, a_cancelled_call_costs_what_it_says)
{
        struct eb *b = one_under_way(ONE);

        engine_cancel(b->en, b->run, "ann", "no", on_answer, b);
        eb_turn(b);
        check_spent(b, 0, 1); /* until the agent has said so */
        b->usage = "{\"cost_usd\":0.1}";
        eb_answer(b, "s", ENGINE_CANCELLED, NULL);
        check_spent(b, USD(0.1), 0);
        eb_close(b);
}

TEST(engine_budget, a_call_that_was_cancelled_before_it_began_costs_nothing)
{
        struct eb *b = one_under_way(ONE);

        engine_cancel(b->en, b->run, "ann", "no", on_answer, b);
        b->never_started = true;
        eb_answer(b, "s", ENGINE_CANCELLED, NULL);
        check_spent(b, 0, 0);
        eb_close(b);
}

TEST(engine_budget, a_lost_attempt_stays_spent_until_it_is_known)
{
        struct eb *b = one_under_way(ONE);
        struct engine_result r = {.outcome = ENGINE_SUCCEEDED, .usage = "{\"cost_usd\":0.3}", .sync_fd = -1};

        r.attempt_id = b->starts[0].attempt_id;
        eb_agent_off(b, "a1");
        b->starts[0].answered = true;
        eb_pass(b, 2000); /* lost_after_ms */
        check_spent(b, USD(1), 0);
        CHECK_INT(ledger(b).lost, 1);
        eb_agent(b, "a1", 4); /* it runs again */
        check_spent(b, USD(1), 1);
        /* The lost one turns up after all; twice. */
        for (int i = 0; i < 2; i++) {
                engine_on_finished(b->en, "a1", &r, NULL, NULL);
                eb_turn(b);
                check_spent(b, USD(0.3), 1);
        }
        CHECK_INT(ledger(b).lost, 0);
        b->usage = "{\"cost_usd\":0.4}";
        eb_answer(b, "s", ENGINE_SUCCEEDED, NULL);
        check_spent(b, USD(0.7), 0);
        eb_close(b);
}

TEST(engine_budget, a_step_whose_end_is_unknown_holds_its_reservation_until_a_person_decides)
{
        struct eb *b = one_under_way("uses: acme.think, with: {}, estimate: {usd: 1}");

        eb_agent_off(b, "a1");
        b->starts[0].answered = true;
        eb_pass(b, 2000);
        CHECK_STR(eb_state(b, "s"), "unknown");
        check_spent(b, 0, 1);
        engine_resolve(b->en, b->run, &(struct engine_actor){.by = "ann"}, "s", "failed", on_answer, b);
        eb_turn(b);
        check_spent(b, USD(1), 0);
        eb_close(b);
}

TEST(engine_budget, a_result_that_comes_twice_is_charged_once)
{
        struct eb *b = one_under_way(ONE);
        struct engine_result r = {.outcome = ENGINE_SUCCEEDED,
                                  .usage = "{\"cost_usd\":0.25}",
                                  .attempt_id = b->starts[0].attempt_id,
                                  .sync_fd = -1};

        engine_on_finished(b->en, "a1", &r, NULL, NULL);
        engine_on_finished(b->en, "a1", &r, NULL, NULL); /* before the first is on disk */
        eb_turn(b);
        engine_on_finished(b->en, "a1", &r, NULL, NULL);
        eb_turn(b);
        check_spent(b, USD(0.25), 0);
        CHECK_INT(ledger(b).n, 1);
        eb_close(b);
}

/* ---- restarts ---- */

TEST(engine_budget, after_a_kill_the_ledger_agrees)
{
        struct eb *b = one_under_way(ONE);

        eb_reopen(b);
        check_spent(b, 0, 1);
        eb_agent(b, "a1", 4);
        check_spent(b, 0, 1);
        CHECK_INT(set(b, "project:default", USD(1), NONE, false), 0);
        b->usage = "{\"cost_usd\":0.25}";
        eb_answer(b, "s", ENGINE_SUCCEEDED, NULL);
        check_spent(b, USD(0.25), 0);
        eb_reopen(b);
        check_spent(b, USD(0.25), 0);
        CHECK_INT(seen(b, "project:default", "cap"), USD(1));
        eb_close(b);
}

TEST(engine_budget, a_reservation_without_an_attempt_is_resolved_at_the_start)
{
        struct eb *b = one_under_way(ONE);
        struct row_ledger row = {.attempt_id = 5,
                                 .run_seq = 999,
                                 .day = 1,
                                 .reserved_micros = USD(2),
                                 .reserved_tokens = NONE,
                                 .run_id = "r-gone",
                                 .step_id = "x",
                                 .project = "default",
                                 .agent = "a1",
                                 .tool = "acme.think"};
        struct store_tx *tx = store_begin(b->store);

        store_put_ledger(tx, &row);
        store_commit(tx, NULL, NULL);
        eb_turn(b);
        eb_reopen(b);
        check_spent(b, USD(2), 1);
        CHECK_INT(ledger(b).lost, 1);
        eb_close(b);
}

TEST(engine_budget, what_a_restored_copy_does_not_know_is_charged_when_its_result_comes)
{
        struct eb *b = one_under_way(ONE);
        struct engine_result r = {.outcome = ENGINE_SUCCEEDED,
                                  .usage = "{\"cost_usd\":0.75}",
                                  .attempt_id = 12345, /* of the hub that was copied, later */
                                  .sync_fd = -1};

        CHECK_INT(set(b, "agent:a1", USD(10), NONE, false), 0);
        engine_on_finished(b->en, "a1", &r, NULL, NULL);
        engine_on_finished(b->en, "a1", &r, NULL, NULL);
        eb_turn(b);
        engine_on_finished(b->en, "a1", &r, NULL, NULL);
        eb_turn(b);
        CHECK_INT(seen(b, "agent:a1", "spent"), USD(0.75));
        CHECK_INT(ledger(b).n, 2);
        eb_reopen(b);
        CHECK_INT(seen(b, "agent:a1", "spent"), USD(0.75));
        eb_close(b);
}

/* ---- caps that change ---- */

TEST(engine_budget, a_cap_that_is_lowered_lets_what_runs_go_on_and_nothing_more_in)
{
        struct eb *b = eb_open();
        char *yaml = many(4, "", ONE);

        eb_agent(b, "a1", 2);
        CHECK_INT(set(b, "day", USD(10), NONE, false), 0);
        eb_submit(b, yaml);
        free(yaml);
        CHECK_INT(running(b), 2);
        CHECK_INT(set(b, "day", USD(1.5), NONE, false), 0);
        CHECK_INT(seen(b, "day", "left"), 0);
        b->usage = "{\"cost_usd\":0.2}";
        eb_answer(b, "s0", ENGINE_SUCCEEDED, NULL);
        CHECK_INT(running(b), 1); /* 0.2 + 1 reserved + 1 asked: it waits */
        CHECK_STR(eb_state(b, "s2"), "ready");
        eb_answer(b, "s1", ENGINE_SUCCEEDED, NULL);
        CHECK_INT(running(b), 1);
        CHECK_INT(seen(b, "day", "reserved"), USD(1));
        CHECK_INT(set(b, "day", USD(20), NONE, false), 0);
        CHECK_INT(running(b), 2);
        eb_close(b);
}

TEST(engine_budget, deleting_the_cap_lets_those_that_wait_go)
{
        struct eb *b = eb_open();
        char *yaml = many(3, "", ONE);
        cJSON *why = NULL;
        struct err e;
        char *text;

        eb_agent(b, "a1", 9);
        CHECK_INT(set(b, "day:default", USD(1), NONE, false), 0);
        eb_submit(b, yaml);
        free(yaml);
        CHECK_INT(running(b), 1);
        CHECK_INT(engine_explain(b->en, b->run, "s1", &why, &e), 0);
        text = json_text(why);
        cJSON_Delete(why);
        if (!strstr(text, "it waits for the budget day:default") || !strstr(text, "1.00 reserved"))
                test_fail(__FILE__, __LINE__, "%s", text);
        mem_free(text);
        engine_budget_delete(b->en, "day:default", "eve", on_answer, b);
        eb_turn(b);
        CHECK_INT(b->answer_rc, 0);
        CHECK_INT(running(b), 3);
        engine_budget_delete(b->en, "day:default", "eve", on_answer, b);
        CHECK_INT(b->answer_rc, -E_NOENT);
        eb_reopen(b);
        CHECK_INT(seen(b, "day:default", "cap"), -1);
        eb_close(b);
}

TEST(engine_budget, a_project_can_begin_to_count_anew)
{
        struct eb *b = one_under_way(ONE);

        b->usage = "{\"cost_usd\":0.9}";
        eb_answer(b, "s", ENGINE_SUCCEEDED, NULL);
        CHECK_INT(set(b, "project:default", USD(2), NONE, true), 0);
        CHECK_INT(seen(b, "project:default", "spent"), 0);
        eb_submit(b, "steps:\n  - {id: s, " ONE "}\n");
        eb_answer(b, "s", ENGINE_SUCCEEDED, NULL);
        CHECK_INT(seen(b, "project:default", "spent"), USD(0.9));
        eb_reopen(b);
        CHECK_INT(seen(b, "project:default", "spent"), USD(0.9));
        CHECK_INT(set(b, "day", USD(2), NONE, true), -E_INVAL);
        eb_close(b);
}

TEST(engine_budget, what_runs_when_counting_begins_anew_belongs_to_the_old_time)
{
        struct eb *b = one_under_way(ONE);

        CHECK_INT(set(b, "project:default", USD(2), NONE, true), 0);
        CHECK_INT(seen(b, "project:default", "reserved"), 0);
        b->usage = "{\"cost_usd\":0.9}";
        eb_answer(b, "s", ENGINE_SUCCEEDED, NULL);
        CHECK_INT(seen(b, "project:default", "spent"), 0);
        CHECK_INT(seen(b, "project:default", "reserved"), 0);
        eb_reopen(b);
        CHECK_INT(seen(b, "project:default", "spent"), 0);
        eb_close(b);
}

/* ---- days ---- */

TEST(engine_budget, a_day_ends_at_midnight_utc_and_a_call_counts_for_the_day_it_began)
{
        struct eb *b = eb_open();
        const int64_t day_ms = INT64_C(86400000);
        int64_t now = 1790000000000 + b->now_ms;

        b->now_ms += day_ms - now % day_ms - 1000; /* a second before midnight */
        eb_agent(b, "a1", 9);
        CHECK_INT(set(b, "day", USD(1), NONE, false), 0);
        eb_submit(b, "steps:\n  - {id: s, " ONE "}\n  - {id: t, needs: [s], " ONE "}\n");
        CHECK_INT(seen(b, "day", "reserved"), USD(1));
        eb_pass(b, 1500);
        CHECK_INT(seen(b, "day", "reserved"), 0); /* a new day */
        b->usage = "{\"cost_usd\":0.9}";
        eb_answer(b, "s", ENGINE_SUCCEEDED, NULL);
        CHECK_INT(seen(b, "day", "spent"), 0);
        CHECK_INT(seen(b, "day", "reserved"), USD(1)); /* t */
        eb_pass(b, -2000); /* the clock goes back: yesterday is as full as it was */
        CHECK_INT(seen(b, "day", "spent"), USD(0.9));
        eb_submit(b, "steps:\n  - {id: u, " ONE "}\n");
        check_column(b, "u", "error_code", "budget_exceeded");
        eb_close(b);
}

/* ---- the run's own ---- */

TEST(engine_budget, a_run_has_a_budget_of_its_own)
{
        struct eb *b = eb_open();

        eb_agent(b, "a1", 9);
        for (int i = 0; i < 2; i++) {
                b->n_starts = 0;
                eb_submit(b, "budget: {tokens: 100}\nsteps:\n"
                             "  - {id: s, uses: acme.think, estimate: {tokens: 60}}\n"
                             "  - {id: t, needs: [s], uses: acme.think, estimate: {tokens: 60}}\n");
                b->usage = "{\"input_tokens\":41}";
                eb_answer(b, "s", ENGINE_SUCCEEDED, NULL);
                check_column(b, "t", "error_code", "budget_exceeded");
                check_column(b, "t", "error_message",
                             "the budget of the workflow: the cap is 100 tokens, 41 spent");
        }
        /* The hub's cap for every run, too: the tighter one decides. */
        CHECK_INT(set(b, "run", NONE, 50, false), 0);
        eb_submit(b,
                  "budget: {tokens: 100}\nsteps:\n  - {id: s, uses: acme.think, estimate: {tokens: 60}}\n");
        check_column(b, "s", "error_message", "the budget run: the cap is 50 tokens");
        eb_close(b);
}

TEST(engine_budget, a_retry_of_the_run_counts_what_it_spent_before)
{
        struct eb *b = eb_open();

        eb_agent(b, "a1", 9);
        eb_submit(b, "budget: {usd: 2}\nsteps:\n"
                     "  - {id: s, " ONE "}\n"
                     "  - {id: t, needs: [s], " ONE "}\n"
                     "  - {id: u, needs: [t], uses: acme.think, estimate: {usd: 0.5}}\n");
        b->usage = "{\"cost_usd\":0.6}";
        eb_answer(b, "s", ENGINE_SUCCEEDED, NULL);
        eb_answer(b, "t", ENGINE_FAILED, NULL);
        CHECK_INT(b->finished_state, RUN_FAILED);
        engine_retry(b->en, b->run, &(struct engine_actor){.by = "eve"}, on_answer, b);
        eb_turn(b);
        CHECK_INT(b->answer_rc, 0);
        check_column(b, "t", "error_code", "budget_exceeded"); /* 1.2 are spent */
        check_column(b, "t", "error_message", "1.20 spent");
        CHECK_INT(ledger(b).spent, USD(1.2));
        eb_close(b);
}

/* ---- agents ---- */

TEST(engine_budget, an_agent_without_budget_is_passed_over)
{
        struct eb *b = eb_open();
        char *yaml = many(3, "", ONE);

        eb_agent(b, "a1", 9);
        eb_agent(b, "a2", 9);
        CHECK_INT(set(b, "agent:a1", USD(0.5), NONE, false), 0);
        eb_submit(b, yaml);
        free(yaml);
        CHECK_INT(running(b), 3);
        for (int i = 0; i < b->n_starts; i++)
                CHECK_STR(b->starts[i].agent, "a2");
        answer_all(b, NULL);
        eb_submit(b, "steps:\n  - {id: s, agent: a1, " ONE "}\n");
        check_column(b, "s", "error_message", "the budget agent:a1");
        eb_close(b);
}

TEST(engine_budget, a_step_waits_for_a_place_at_the_agent_that_has_budget)
{
        struct eb *b = eb_open();

        eb_agent(b, "a1", 9);
        eb_agent(b, "a2", 1);
        CHECK_INT(set(b, "agent:a1", USD(0.5), NONE, false), 0);
        eb_submit(b, "steps:\n  - {id: s, " ONE "}\n  - {id: t, " ONE "}\n");
        CHECK_INT(running(b), 1);
        CHECK_STR(eb_state(b, "t"), "ready");
        eb_answer(b, "s", ENGINE_SUCCEEDED, NULL);
        CHECK_STR(eb_started(b, "t")->agent, "a2");
        eb_close(b);
}

/* ---- no price, no estimate ---- */

TEST(engine_budget, without_an_estimate_the_answer_is_no_where_a_cap_is_set)
{
        struct eb *b = eb_open();

        eb_agent(b, "a1", 9);
        CHECK_INT(set(b, "day", USD(5), NONE, false), 0);
        eb_submit(b, "steps:\n  - {id: s, " THINK "}\n  - {id: p, run: x}\n");
        check_column(b, "s", "error_code", "budget_unpriced");
        check_column(b, "s", "error_message", "estimate");
        CHECK(eb_started(b, "p") != NULL); /* no model, no money */
        /* Tokens alone are estimated; the cap counts money. */
        eb_submit(b, "steps:\n  - {id: s, uses: acme.think, estimate: {tokens: 5}}\n");
        check_column(b, "s", "error_code", "budget_unpriced");
        b->unpriced = BUDGET_UNPRICED_ALLOW;
        eb_reopen(b);
        eb_agent(b, "a1", 9);
        eb_submit(b, "steps:\n  - {id: s, " THINK "}\n");
        b->usage = "{\"cost_usd\":0.5}";
        eb_answer(b, "s", ENGINE_SUCCEEDED, NULL);
        CHECK_INT(seen(b, "day", "spent"), USD(0.5));
        eb_close(b);
}

TEST(engine_budget, what_the_tool_cost_before_is_the_estimate)
{
        struct eb *b = eb_open();

        eb_agent(b, "a1", 9);
        eb_submit(b, "steps:\n  - {id: s, " THINK "}\n");
        b->usage = "{\"cost_usd\":0.5}";
        eb_answer(b, "s", ENGINE_SUCCEEDED, NULL);
        CHECK_INT(set(b, "day", USD(5), NONE, false), 0);
        eb_submit(b, "steps:\n  - {id: s, " THINK "}\n");
        CHECK_INT(ledger(b).held, USD(1)); /* twice the dearest */
        CHECK_STR(ledger(b).source, "history");
        eb_reopen(b);
        eb_agent(b, "a1", 9);
        eb_submit(b, "steps:\n  - {id: t, " THINK "}\n");
        CHECK_INT(ledger(b).held, USD(2));
        eb_close(b);
}

/* ---- a call that uses too much ---- */

static void use(struct eb *b, const char *usage)
{
        cJSON *v = NULL;

        CHECK_INT(json_parse(usage, strlen(usage), &v, NULL), 0);
        CHECK(engine_wants_usage(b->en, "a1", b->starts[b->n_starts - 1].attempt_id));
        CHECK(!engine_wants_usage(b->en, "a2", b->starts[b->n_starts - 1].attempt_id));
        engine_on_usage(b->en, "a1", b->starts[b->n_starts - 1].attempt_id, v);
        cJSON_Delete(v);
        eb_turn(b);
}

TEST(engine_budget, a_call_that_exceeds_its_reservation_is_stopped_and_the_rest_is_said)
{
        struct eb *b = one_under_way(ONE ", retry: 3");

        use(b, "{\"cost_usd\":1.0}");
        CHECK(!b->starts[0].cancelled);
        use(b, "{\"cost_usd\":1.2}");
        CHECK(b->starts[0].cancelled);
        CHECK_INT(ledger(b).stopped, 1);
        b->usage = "{\"cost_usd\":1.3}";
        eb_answer(b, "s", ENGINE_CANCELLED, NULL);
        CHECK_STR(eb_state(b, "s"), "failed");
        check_column(b, "s", "error_code", "budget_exceeded");
        check_column(b, "s", "error_message", "1.00 USD");
        check_column(b, "s", "error_message", "1.30 USD");
        CHECK_INT(ledger(b).overrun, USD(0.3));
        check_spent(b, USD(1.3), 0);
        CHECK_INT(ledger(b).n, 1); /* it is not tried again */
        eb_close(b);
}

TEST(engine_budget, the_order_to_stop_outlives_the_hub)
{
        struct eb *b = one_under_way(ONE);
        uint64_t attempt = b->starts[0].attempt_id;

        use(b, "{\"cost_usd\":1.2}");
        eb_reopen(b);
        CHECK_INT(engine_held(b->en, "a1", attempt), ENGINE_CANCEL);
        eb_close(b);
}

TEST(engine_budget, a_lost_call_is_charged_what_was_seen_of_it)
{
        struct eb *b = one_under_way(ONE);

        use(b, "{\"cost_usd\":1.5}");
        eb_agent_off(b, "a1");
        b->starts[0].answered = true;
        eb_pass(b, 2000);
        CHECK_INT(ledger(b).spent, USD(1.5));
        eb_close(b);
}

/* ---- written down ---- */

struct audited {
        int set, del, stop;
};

static int on_audit(void *arg, const struct audit_record *r)
{
        struct audited *a = arg;

        a->set += !strcmp(r->action, "budget.set");
        a->del += !strcmp(r->action, "budget.delete");
        a->stop += !strcmp(r->action, "budget.stop");
        return 0;
}

TEST(engine_budget, setting_deleting_and_stopping_are_audited)
{
        struct eb *b = one_under_way(ONE);
        struct audit_filter f = {0};
        struct audited a = {0};
        struct store_reader *rd;

        use(b, "{\"cost_usd\":1.2}");
        eb_answer(b, "s", ENGINE_CANCELLED, NULL);
        CHECK_INT(set(b, "day", 0, NONE, false), 0);
        eb_submit(b, "steps:\n  - {id: s, " ONE "}\n");
        engine_budget_delete(b->en, "day", "eve", on_answer, b);
        eb_turn(b);
        CHECK_INT(store_reader_open(b->store, &rd, NULL), 0);
        CHECK_INT(read_audit(rd, &f, on_audit, &a), 0);
        store_reader_close(rd);
        CHECK_INT(a.set, 2);
        CHECK_INT(a.del, 1);
        CHECK_INT(a.stop, 2);
        eb_close(b);
}

/* ---- limits of the tool itself ---- */

static const char *input_of(struct eb *b, const char *step)
{
        return eb_started(b, step)->input;
}

TEST(engine_budget, a_tool_with_limits_is_told_what_it_may_use)
{
        struct eb *b = eb_open();

        eb_agent(b, "a1", 9);
        CHECK_INT(set(b, "day", NONE, 10000, false), 0);
        eb_submit(b, "steps:\n"
                     "  - {id: s, uses: acme.prompt, with: {prompt: x}, estimate: {tokens: 500}}\n"
                     "  - {id: t, uses: acme.prompt, with: {prompt: x, limits: {tokens: 300}}}\n"
                     "  - {id: u, uses: acme.prompt, with: {prompt: x, limits: {tokens: 900}}, estimate: "
                     "{tokens: 600}}\n");
        CHECK_STR(input_of(b, "s"), "{\"prompt\":\"x\",\"limits\":{\"tokens\":500}}");
        CHECK_STR(input_of(b, "t"), "{\"prompt\":\"x\",\"limits\":{\"tokens\":300}}");
        CHECK_STR(input_of(b, "u"), "{\"prompt\":\"x\",\"limits\":{\"tokens\":600}}");
        CHECK_STR(ledger(b).source, "step");
        b->error_code = "token_limit";
        eb_answer(b, "s", ENGINE_FAILED, NULL); /* the limit was the budget's */
        check_column(b, "s", "error_code", "budget_exceeded");
        eb_answer(b, "t", ENGINE_FAILED, NULL); /* this one is the step's own */
        check_column(b, "t", "error_code", "token_limit");
        eb_close(b);
}

TEST(engine_budget, what_no_cap_counts_is_neither_reserved_nor_a_reason_to_stop)
{
        struct eb *b = eb_open();

        eb_agent(b, "a1", 9);
        CHECK_INT(set(b, "day", USD(5), NONE, false), 0);
        eb_submit(b, "steps:\n  - {id: s, uses: acme.prompt, with: {}, estimate: {usd: 1, tokens: 10}}\n");
        CHECK_STR(input_of(b, "s"), "{}");
        use(b, "{\"input_tokens\":1000,\"cost_usd\":0.5}");
        CHECK(!b->starts[0].cancelled);
        use(b, "{\"input_tokens\":1000,\"cost_usd\":1.5}");
        CHECK(b->starts[0].cancelled);
        eb_close(b);
}

/* ---- what cannot be read ---- */

TEST(engine_budget, sums_that_cannot_be_read_let_nothing_in)
{
        struct eb *b = eb_open();

        for (uint64_t i = 1; i <= 2; i++) {
                struct row_ledger row = {.attempt_id = i,
                                         .run_seq = 900,
                                         .state = LEDGER_SETTLED,
                                         .spent_micros = INT64_MAX,
                                         .project = "default",
                                         .agent = "x"};
                struct store_tx *tx = store_begin(b->store);

                store_put_ledger(tx, &row);
                store_commit(tx, NULL, NULL);
        }
        eb_turn(b);
        eb_reopen(b);
        eb_agent(b, "a1", 9);
        CHECK_INT(set(b, "project:default", USD(100), NONE, false), 0);
        eb_submit(b, "steps:\n  - {id: s, " ONE "}\n  - {id: t, uses: acme.think, estimate: {usd: 0}}\n");
        check_column(b, "s", "error_code", "budget_exceeded");
        check_column(b, "t", "error_code", "budget_exceeded");
        check_column(b, "t", "error_message", "nothing fits");
        eb_close(b);
}

/* ---- many ---- */

TEST(engine_budget, thousands_wait_for_one_budget_and_all_have_their_turn)
{
        struct eb *b = eb_open();
        char *yaml = many(3000, "", ONE);
        int rounds = 0;

        eb_agent(b, "a1", 4000);
        CHECK_INT(set(b, "day", USD(10), NONE, false), 0);
        eb_submit(b, yaml);
        free(yaml);
        while (!b->finished && rounds++ < 1000) {
                CHECK(running(b) <= 10);
                b->usage = "{\"cost_usd\":0.001}";
                for (int i = 0; i < b->n_starts; i++) {
                        struct engine_result r = {.attempt_id = b->starts[i].attempt_id,
                                                  .usage = b->usage,
                                                  .started_us = 1,
                                                  .sync_fd = -1};

                        if (b->starts[i].answered)
                                continue;
                        b->starts[i].answered = true;
                        engine_on_finished(b->en, "a1", &r, NULL, NULL);
                }
                eb_turn(b);
        }
        CHECK_INT(b->finished_state, RUN_SUCCEEDED);
        CHECK_INT(ledger(b).spent, USD(3));
        eb_close(b);
}
