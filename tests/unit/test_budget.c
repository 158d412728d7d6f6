/* The rules of budgets: numbers, verdicts, charges, estimates; and that no order of events breaks a cap. */
#include "hub/agents/usage.h"
#include "hub/model/budget.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "common/json.h"
#include "hub/model/workflow.h"
#include "tests/lib/test.h"

#define NONE BUDGET_NONE

/* ---- numbers ---- */

TEST(budget, money_is_read_to_the_millionth_and_written_back)
{
        static const struct {
                const char *in;
                int rc;
                int64_t micros;
                const char *out;
        } rows[] = {
                {"5", 0, 5000000, "5.00"},
                {"5.00", 0, 5000000, "5.00"},
                {"0.25", 0, 250000, "0.25"},
                {"0.000001", 0, 1, "0.000001"},
                {"0", 0, 0, "0.00"},
                {"12.340500", 0, 12340500, "12.3405"},
                {"1000000000", 0, BUDGET_MAX, "1000000000.00"},
                {"1000000000.000001", -E_TOOBIG, 0, NULL},
                {"9999999999999", -E_TOOBIG, 0, NULL},
                {"99999999999999999999999999", -E_TOOBIG, 0, NULL},
                {"0.0000001", -E_INVAL, 0, NULL},
                {"", -E_INVAL, 0, NULL},
                {".", -E_INVAL, 0, NULL},
                {".5", -E_INVAL, 0, NULL},
                {"5.", -E_INVAL, 0, NULL},
                {"-1", -E_INVAL, 0, NULL},
                {"+1", -E_INVAL, 0, NULL},
                {"1e3", -E_INVAL, 0, NULL},
                {"1 ", -E_INVAL, 0, NULL},
                {"1.2.3", -E_INVAL, 0, NULL},
                {"0x10", -E_INVAL, 0, NULL},
                {"nan", -E_INVAL, 0, NULL},
                {"5,00", -E_INVAL, 0, NULL},
        };
        char text[BUDGET_MONEY_LEN];

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                struct err e = {0};
                int64_t v = -7;

                if (budget_money_parse(rows[i].in, &v, &e) != rows[i].rc)
                        test_fail(__FILE__, __LINE__, "\"%s\": %s", rows[i].in, e.msg);
                CHECK_INT(v, rows[i].rc ? -7 : rows[i].micros);
                if (!rows[i].rc)
                        CHECK_STR(budget_money_text(v, text), rows[i].out);
        }
        CHECK_STR(budget_money_text(INT64_MIN, text), "-9223372036854.775808");
}

TEST(budget, what_comes_as_a_floating_number_is_rounded_up_once)
{
        CHECK_INT(budget_money_of(0.1), 100000);
        CHECK_INT(budget_money_of(0.29), 290000); /* 0.29 * 1e6 is a hair above 290000 */
        CHECK_INT(budget_money_of(0.0000001), 1);
        CHECK_INT(budget_money_of(0), 0);
        CHECK_INT(budget_money_of(1e9), BUDGET_MAX);
        CHECK_INT(budget_money_of(1e10), NONE);
        CHECK_INT(budget_money_of(-0.1), NONE);
        CHECK_INT(budget_money_of(NAN), NONE);
        CHECK_INT(budget_money_of(INFINITY), NONE);
}

TEST(budget, no_sum_turns_small)
{
        CHECK_INT(budget_add(1, 2), 3);
        CHECK(budget_add(INT64_MAX, 1) == INT64_MAX);
        CHECK(budget_add(INT64_MIN, -1) == INT64_MIN);
        CHECK(budget_add(INT64_MAX - 1, INT64_MAX - 1) == INT64_MAX);
}

TEST(budget, a_day_is_one_of_utc)
{
        static const struct {
                int64_t us, day;
                const char *text;
        } rows[] = {
                {0, 0, "1970-01-01"},
                {86400000000 - 1, 0, "1970-01-01"},
                {86400000000, 1, "1970-01-02"},
                {-1, -1, "1969-12-31"},
                {INT64_C(951782400000000), 11016, "2000-02-29"},
                {INT64_C(1796169599999999), 20788, "2026-12-01"},
                {INT64_C(1796169600000000), 20789, "2026-12-02"},
        };
        char text[BUDGET_DAY_LEN];
        int64_t day;

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                CHECK_INT(budget_day(rows[i].us), rows[i].day);
                CHECK_STR(budget_day_text(rows[i].day, text), rows[i].text);
                if (rows[i].day < 0)
                        continue;
                CHECK_INT(budget_day_parse(rows[i].text, &day), 0);
                CHECK_INT(day, rows[i].day);
        }
        CHECK_INT(budget_day_parse("2026-02-29", &day), -E_INVAL);
        CHECK_INT(budget_day_parse("2026-1-1", &day), -E_INVAL);
        CHECK_INT(budget_day_parse("2026-01-01x", &day), -E_INVAL);
        CHECK_INT(budget_day_parse("yesterday!", &day), -E_INVAL);
}

TEST(budget, its_name_says_what_it_caps)
{
        static const struct {
                const char *id;
                enum budget_kind kind;
                const char *name;
        } good[] = {{"run", BUDGET_RUN, NULL},
                    {"day", BUDGET_DAY, NULL},
                    {"day:web", BUDGET_PROJECT_DAY, "web"},
                    {"project:web", BUDGET_PROJECT, "web"},
                    {"agent:laptop-7", BUDGET_AGENT, "laptop-7"}};
        static const char *const bad[] = {"",       "project", "agent", "run:x",  "project:", "project:a b",
                                          "days:x", "day:",    "DAY",   "day:a:b"};
        enum budget_kind kind;
        const char *name;
        struct err e;

        for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
                CHECK_INT(budget_id_parse(good[i].id, &kind, &name, &e), 0);
                CHECK_INT(kind, good[i].kind);
                CHECK(good[i].name ? name && !strcmp(name, good[i].name) : !name);
        }
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
                if (budget_id_parse(bad[i], &kind, &name, &e) != -E_INVAL)
                        test_fail(__FILE__, __LINE__, "\"%s\" was taken", bad[i]);
}

/* ---- verdicts ---- */

TEST(budget, a_cap_says_yes_wait_or_no)
{
        static const struct {
                int64_t cap, raised, settled, reserved, asked;
                enum budget_verdict verdict;
        } rows[] = {
                {100, 0, 0, 0, 100, BUDGET_OK},
                {100, 0, 0, 0, 101, BUDGET_OVER},
                {100, 0, 60, 30, 10, BUDGET_OK},
                {100, 0, 60, 30, 11, BUDGET_WAIT}, /* it fits when the 30 come back */
                {100, 0, 60, 30, 41, BUDGET_OVER},
                {100, 1, 60, 0, 41, BUDGET_OK},
                {100, 0, 100, 0, 0, BUDGET_OK},
                {100, 0, 101, 0, 0, BUDGET_OVER}, /* overrun */
                {0, 0, 0, 0, 0, BUDGET_OK},
                {0, 0, 0, 0, 1, BUDGET_OVER},
                {100, 0, 0, 0, NONE, BUDGET_UNPRICED},
                {100, 0, 101, 0, NONE, BUDGET_OVER},
                {NONE, 0, INT64_MAX, INT64_MAX, INT64_MAX, BUDGET_OK}, /* no cap */
                {BUDGET_MAX, INT64_MAX, INT64_MAX - 1, 0, 5, BUDGET_OVER},
                {BUDGET_MAX, 0, 0, INT64_MAX, 5, BUDGET_WAIT},
        };

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                for (int m = 0; m < BUDGET_MEASURES; m++) {
                        struct budget_cap c = {.max = {{NONE, NONE}}};
                        struct budget_account a = {0};
                        struct budget_amount asked = {{0, 0}};
                        struct budget_shortage why = {.measure = -1};
                        enum budget_verdict v;

                        c.max.v[m] = rows[i].cap;
                        a.raised.v[m] = rows[i].raised;
                        a.settled.v[m] = rows[i].settled;
                        a.reserved.v[m] = rows[i].reserved;
                        asked.v[m] = rows[i].asked;
                        v = budget_check(&c, &a, &asked, &why);
                        if (v != rows[i].verdict)
                                test_fail(__FILE__, __LINE__, "row %zu: %d", i, v);
                        CHECK_INT(why.measure, v == BUDGET_OK ? -1 : m);
                }
        }
}

TEST(budget, of_two_measures_the_worse_decides)
{
        struct budget_cap c = {.max = {{100, 1000}}};
        struct budget_account a = {.settled = {{50, 0}}, .reserved = {{50, 0}}};
        struct budget_shortage why;
        char text[BUDGET_TEXT_LEN];

        CHECK_INT(budget_check(&c, &a, &(struct budget_amount){{10, 10}}, &why), BUDGET_WAIT);
        CHECK_INT(why.measure, BUDGET_MONEY);
        CHECK_INT(budget_check(&c, &a, &(struct budget_amount){{10, 1001}}, &why), BUDGET_OVER);
        CHECK_INT(why.measure, BUDGET_TOKENS);
        CHECK(strstr(budget_shortage_text(&why, text, sizeof text), "1000 tokens") != NULL);
        CHECK(strstr(text, "1001 asked for") != NULL);
}

TEST(budget, what_is_charged_when_nobody_says_is_what_was_reserved)
{
        const struct budget_amount reserved = {{100, NONE}}, seen = {{120, 7}}, none = {{NONE, NONE}};
        const struct budget_amount said = {{30, NONE}};
        struct budget_amount c;

        c = budget_charge(BUDGET_END_SAID, &reserved, &none, &said);
        CHECK_INT(c.v[0], 30);
        CHECK_INT(c.v[1], 0);
        c = budget_charge(BUDGET_END_SAID, &reserved, &none, &none);
        CHECK_INT(c.v[0], 100);
        c = budget_charge(BUDGET_END_LOST, &reserved, &seen, &said);
        CHECK_INT(c.v[0], 120);
        CHECK_INT(c.v[1], 7);
        c = budget_charge(BUDGET_END_LOST, &reserved, &none, &none);
        CHECK_INT(c.v[0], 100);
        c = budget_charge(BUDGET_END_NOTHING, &reserved, &seen, &said);
        CHECK_INT(c.v[0], 0);
        CHECK_INT(c.v[1], 0);
}

TEST(budget, a_call_may_use_what_it_reserved_and_not_one_more)
{
        const struct budget_amount limit = {{100, NONE}};
        int which = -1;

        CHECK(!budget_exceeds(&limit, &(struct budget_amount){{100, 1 << 30}}, &which));
        CHECK(budget_exceeds(&limit, &(struct budget_amount){{101, 0}}, &which));
        CHECK_INT(which, BUDGET_MONEY);
}

/* ---- usage and history ---- */

static struct budget_amount usage_of(const char *json)
{
        struct budget_amount a;
        cJSON *v = NULL;

        CHECK_INT(json_parse(json, strlen(json), &v, NULL), 0);
        budget_usage_read(v, &a);
        cJSON_Delete(v);
        return a;
}

TEST(budget, usage_counts_what_was_read_and_written)
{
        struct budget_amount a =
                usage_of("{\"input_tokens\":1200,\"output_tokens\":80,\"cache_read_tokens\":1000,"
                         "\"cache_write_tokens\":10,\"thought_tokens\":5,\"cost_usd\":0.0125}");

        CHECK_INT(a.v[BUDGET_TOKENS], 1280);
        CHECK_INT(a.v[BUDGET_MONEY], 12500);
        a = usage_of("{}");
        CHECK_INT(a.v[BUDGET_TOKENS], NONE);
        CHECK_INT(a.v[BUDGET_MONEY], NONE);
        a = usage_of("{\"input_tokens\":-5,\"output_tokens\":\"9\",\"cost_usd\":-1}");
        CHECK_INT(a.v[BUDGET_TOKENS], NONE);
        CHECK_INT(a.v[BUDGET_MONEY], NONE);
        a = usage_of("{\"input_tokens\":1e300}");
        CHECK_INT(a.v[BUDGET_TOKENS], BUDGET_MAX);
}

TEST(budget, history_estimates_twice_the_dearest_of_the_last)
{
        struct budget_history h = {0};
        struct budget_amount e = budget_history_estimate(&h);

        CHECK_INT(e.v[0], NONE);
        budget_history_note(&h, &(struct budget_amount){{1000, NONE}});
        for (int i = 0; i < BUDGET_HISTORY - 1; i++)
                budget_history_note(&h, &(struct budget_amount){{10, NONE}});
        e = budget_history_estimate(&h);
        CHECK_INT(e.v[0], 2000);
        CHECK_INT(e.v[1], NONE);
        budget_history_note(&h, &(struct budget_amount){{10, NONE}}); /* the 1000 is forgotten */
        e = budget_history_estimate(&h);
        CHECK_INT(e.v[0], 20);
        budget_history_note(&h, &(struct budget_amount){{BUDGET_MAX, NONE}});
        CHECK(budget_history_estimate(&h).v[0] == BUDGET_MAX);
}

/* ---- the invariant ---- */

#define LIVE_MAX 64

static int64_t rnd(uint64_t *s, uint32_t below)
{
        *s = *s * 6364136223846793005u + 1442695040888963407u;
        return (int64_t)((*s >> 33) % below);
}

/* Whatever is asked, granted, spent, lost, raised and lowered, in whatever order: what is granted never
 * brings settled and reserved over the cap, and the account agrees with a ledger kept beside it. */
TEST(budget, no_sequence_of_events_reserves_past_the_cap)
{
        for (uint64_t seed = 1; seed <= 200; seed++) {
                uint64_t s = seed;
                struct budget_cap cap = {.max = {{1 + rnd(&s, 5000), rnd(&s, 4) ? 1 + rnd(&s, 5000) : NONE}}};
                struct budget_account a = {0};
                struct budget_amount live[LIVE_MAX], settled = {{0, 0}};
                int n = 0;

                for (int i = 0; i < 500; i++) {
                        struct budget_shortage why;
                        struct budget_amount x = {{rnd(&s, 900), rnd(&s, 900)}}, none = {{NONE, NONE}};
                        int at = n ? (int)rnd(&s, (uint32_t)n) : 0;

                        switch (rnd(&s, 8)) {
                        default: /* ask */
                                if (n == LIVE_MAX || budget_check(&cap, &a, &x, &why) != BUDGET_OK)
                                        break;
                                budget_hold(&a, &x);
                                live[n++] = x;
                                for (int m = 0; m < BUDGET_MEASURES; m++)
                                        CHECK(cap.max.v[m] == NONE || a.settled.v[m] + a.reserved.v[m] <=
                                                                              cap.max.v[m] + a.raised.v[m]);
                                break;
                        case 0:
                        case 1:
                        case 2: /* an end: said (at most what was reserved), or lost */
                                if (!n)
                                        break;
                                for (int m = 0; m < BUDGET_MEASURES; m++)
                                        x.v[m] = x.v[m] > live[at].v[m] ? live[at].v[m] : x.v[m];
                                x = budget_charge(rnd(&s, 4) ? BUDGET_END_SAID : BUDGET_END_LOST, &live[at],
                                                  &none, &x);
                                budget_settle(&a, &live[at], &x);
                                for (int m = 0; m < BUDGET_MEASURES; m++)
                                        settled.v[m] += x.v[m];
                                live[at] = live[--n];
                                break;
                        case 3:
                                if (rnd(&s, 20) == 0)
                                        a.raised.v[0] += rnd(&s, 100);
                                break;
                        }
                        for (int m = 0; m < BUDGET_MEASURES; m++) {
                                int64_t sum = 0;

                                for (int k = 0; k < n; k++)
                                        sum += live[k].v[m];
                                CHECK_INT(a.reserved.v[m], sum);
                                CHECK_INT(a.settled.v[m], settled.v[m]);
                        }
                }
        }
}

/* ---- in workflows ---- */

static int parse(const char *yaml, struct workflow **w, struct err *e)
{
        memset(e, 0, sizeof *e);
        return workflow_parse(yaml, strlen(yaml), w, e);
}

TEST(budget, a_workflow_states_its_budget_and_its_steps_their_estimates)
{
        struct workflow *w;
        struct err e;

        CHECK_INT(parse("budget: {usd: \"5.00\", tokens: 200000, over: ask}\n"
                        "steps:\n"
                        "  - {id: a, run: x, estimate: {usd: 0.25}}\n"
                        "  - {id: b, run: x}\n",
                        &w, &e),
                  0);
        CHECK_INT(w->budget.max.v[BUDGET_MONEY], 5000000);
        CHECK_INT(w->budget.max.v[BUDGET_TOKENS], 200000);
        CHECK_INT(w->budget.over, BUDGET_ASK);
        CHECK_INT(w->steps[0].estimate.v[BUDGET_MONEY], 250000);
        CHECK_INT(w->steps[0].estimate.v[BUDGET_TOKENS], NONE);
        CHECK_INT(w->steps[1].estimate.v[BUDGET_MONEY], NONE);
        workflow_free(w);
        CHECK_INT(parse("steps:\n  - {id: a, run: x}\n", &w, &e), 0);
        CHECK(!budget_cap_any(&w->budget));
        workflow_free(w);
}

TEST(budget, a_wrong_one_is_refused_where_it_stands)
{
        static const struct {
                const char *yaml, *says;
                int line;
        } rows[] = {
                {"budget: 5\nsteps:\n  - {id: a, run: x}\n", "expected a map", 1},
                {"budget: {}\nsteps:\n  - {id: a, run: x}\n", "neither \"usd\" nor \"tokens\"", 1},
                {"budget: {usd: -5}\nsteps:\n  - {id: a, run: x}\n", "no amount of money", 1},
                {"budget: {usd: 1e99}\nsteps:\n  - {id: a, run: x}\n", "no amount of money", 1},
                {"budget: {usd: [5]}\nsteps:\n  - {id: a, run: x}\n", "amount of dollars", 1},
                {"budget: {usd: 5, over: maybe}\nsteps:\n  - {id: a, run: x}\n", "stop", 1},
                {"budget: {eur: 5}\nsteps:\n  - {id: a, run: x}\n", "eur", 1},
                {"budget: {tokens: -1}\nsteps:\n  - {id: a, run: x}\n", "tokens", 1},
                {"budget: {tokens: 1.5}\nsteps:\n  - {id: a, run: x}\n", "tokens", 1},
                {"steps:\n  - id: a\n    run: x\n    estimate: {usd: 1, over: ask}\n", "over", 4},
                {"steps:\n  - id: a\n    approval: {question: ok?}\n    estimate: {usd: 1}\n", "estimate", 4},
                {"steps:\n  - id: a\n    run: x\n    estimate: {usd: \"1.0000001\"}\n", "six decimals", 4},
        };

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                struct workflow *w;
                struct err e;

                if (parse(rows[i].yaml, &w, &e) != -E_INVAL || !strstr(e.msg, rows[i].says) ||
                    e.line != rows[i].line)
                        test_fail(__FILE__, __LINE__, "row %zu: %d: %s", i, e.line, e.msg);
        }
}

TEST(budget, only_what_certainly_did_not_run_is_free)
{
        CHECK(budget_code_is_free("connect_failed"));
        CHECK(budget_code_is_free("rate_limited"));
        CHECK(!budget_code_is_free("timeout"));
        CHECK(!budget_code_is_free("stream_ended"));
        CHECK(!budget_code_is_free("server_error"));
        CHECK(!budget_code_is_free(""));
        CHECK(!budget_code_is_free(NULL));
}

TEST(budget, tools_that_use_no_model_need_no_estimate)
{
        CHECK(budget_tool_is_free("process.exec"));
        CHECK(budget_tool_is_free("browser.open"));
        CHECK(!budget_tool_is_free("llm.chat"));
        CHECK(!budget_tool_is_free("claude-code.prompt"));
        CHECK(!budget_tool_is_free("cursor.prompt"));
        CHECK(!budget_tool_is_free("somebody.elses"));
        CHECK(!budget_tool_is_free("process"));
}

/* ---- usage in a stream ---- */

static struct budget_amount last_use;
static int n_uses;

static void on_use(void *arg, const cJSON *usage)
{
        (void)arg;
        n_uses++;
        budget_usage_read(usage, &last_use);
}

static void feed(struct usage_watch *w, uint64_t at, const char *text)
{
        usage_feed(w, at, text, strlen(text), on_use, NULL);
}

TEST(budget, usage_is_found_in_a_stream_however_it_is_cut)
{
        static struct usage_watch w;
        static char noise[3 * USAGE_LINE_MAX];
        const char *line = "{\"type\":\"usage\",\"input_tokens\":7}\n";

        memset(&w, 0, sizeof w);
        n_uses = 0;
        feed(&w, 0, "{\"type\":\"text\",\"text\":\"\\\"usage\\\"\"}\n{\"type\":\"us");
        CHECK_INT(n_uses, 0);
        feed(&w, w.at + 100, "age\",\"input_tokens\":5}\n"); /* other channels' bytes between */
        CHECK_INT(n_uses, 1);
        CHECK_INT(last_use.v[BUDGET_TOKENS], 5);
        feed(&w, w.at - 5, "n\":5}\n"); /* one byte of it is new: an empty line */
        CHECK_INT(n_uses, 1);
        feed(&w, w.at - strlen(line), line); /* all of it is old */
        CHECK_INT(n_uses, 1);
        memset(noise, 'x', sizeof noise - 1);
        feed(&w, w.at, noise);
        feed(&w, w.at, "\"usage\"\n");
        feed(&w, w.at, line);
        CHECK_INT(n_uses, 2);
        feed(&w, w.at, "{\"type\":\"usage\"\n[\"usage\"]\n\"usage\"\n\n");
        CHECK_INT(n_uses, 2);
}
