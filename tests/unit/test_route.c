/* The router's judgement: needs, offers and measurements in; reasons and scores out. */
#include "hub/sched/route.h"

#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "common/json.h"
#include "common/mem.h"
#include "tests/lib/test.h"

#define SECOND ((int64_t)1000000)

static const struct route_measure nothing = {.p50_ms = -1, .p90_ms = -1};

static struct route_need need_of(const char *input)
{
        cJSON *v = NULL;
        struct route_need n;
        struct err e = {0};

        if (json_parse(input, strlen(input), &v, &e) || route_need_read(v, &n, &e))
                test_fail(__FILE__, __LINE__, "%s: %s", input, e.msg);
        cJSON_Delete(v);
        return n;
}

static struct route_model offer(const char *detail)
{
        static struct route_model *kept[256]; /* they live as long as the test's process */
        static size_t n_kept;
        struct route_model *v = NULL;
        cJSON *d = NULL;
        size_t n = 0;

        CHECK(n_kept < sizeof kept / sizeof *kept);
        CHECK(json_parse(detail, strlen(detail), &d, NULL) == 0);
        CHECK(route_models_read(d, &v, &n) == 0);
        CHECK(n == 1);
        cJSON_Delete(d);
        kept[n_kept++] = v;
        return v[0];
}

#define OFFER(ep, m)                                                                                         \
        "{\"endpoints\":[{\"name\":\"e\",\"kind\":\"openai\",\"has_key\":true," ep                           \
        "\"models\":[{\"name\":\"m\"," m "\"capabilities\":[\"tools\",\"json\"]}]}]}"
#define PRICED "\"price\":{\"input\":2,\"output\":10},"

TEST(route, each_need_has_its_reason)
{
        static const struct {
                const char *input, *detail;
                enum route_why why;
                const char *says;
        } cases[] = {
                {"{\"prompt\":\"x\"}", OFFER("", ""), ROUTE_OK, "not measured yet, no price"},
                {"{\"prompt\":\"x\",\"endpoint\":\"e\",\"model\":\"m\"}", OFFER("", ""), ROUTE_OK, "score"},
                {"{\"prompt\":\"x\",\"endpoint\":\"f\"}", OFFER("", ""), ROUTE_OTHER_ENDPOINT,
                 "f that is asked"},
                {"{\"prompt\":\"x\",\"model\":\"n\"}", OFFER("", ""), ROUTE_OTHER_MODEL, "n that is asked"},
                {"{\"prompt\":\"x\",\"privacy\":\"local-only\"}", OFFER("", ""), ROUTE_NOT_LOCAL,
                 "not local"},
                {"{\"prompt\":\"x\",\"need\":{\"privacy\":\"local-only\"}}", OFFER("", ""), ROUTE_NOT_LOCAL,
                 "not local"},
                {"{\"prompt\":\"x\",\"need\":{\"privacy\":\"local-only\"}}", OFFER("\"local\":true,", ""),
                 ROUTE_OK, "USD 0.000000"},
                {"{\"prompt\":\"x\",\"need\":{\"capability\":[\"tools\",\"json\"]}}", OFFER("", ""), ROUTE_OK,
                 "score"},
                {"{\"prompt\":\"x\",\"need\":{\"capability\":[\"images\",\"files\"]}}", OFFER("", ""),
                 ROUTE_LACKS, "lacks images files"},
                {"{\"prompt\":\"x\",\"images\":[\"a.png\"]}", OFFER("", ""), ROUTE_LACKS, "images"},
                {"{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image\",\"path\":\"a\"}]}]}",
                 OFFER("", ""), ROUTE_LACKS, "images"},
                {"{\"prompt\":\"x\",\"tools\":[{\"name\":\"t\"}],\"schema\":{}}", OFFER("", ""), ROUTE_OK,
                 "score"},
                {"{\"prompt\":\"x\",\"need\":{\"context\":1000}}", OFFER("", ""), ROUTE_CONTEXT,
                 "does not say"},
                {"{\"prompt\":\"x\",\"need\":{\"context\":1000}}", OFFER("", "\"context\":999,"),
                 ROUTE_CONTEXT, "999"},
                {"{\"prompt\":\"x\",\"need\":{\"context\":1000}}", OFFER("", "\"context\":1000,"), ROUTE_OK,
                 "score"},
                {"{\"prompt\":\"x\",\"max_tokens\":500}", OFFER("", "\"context\":500,"), ROUTE_CONTEXT,
                 "500"},
                {"{\"prompt\":\"x\",\"need\":{\"max_cost_usd\":1}}", OFFER("", ""), ROUTE_NO_PRICE,
                 "no price"},
                {"{\"prompt\":\"x\",\"need\":{\"max_cost_usd\":0}}", OFFER("\"local\":true,", ""), ROUTE_OK,
                 "score"},
                {"{\"prompt\":\"x\",\"max_tokens\":1000,\"need\":{\"max_cost_usd\":0.01}}", OFFER("", PRICED),
                 ROUTE_TOO_DEAR, "more than 0.01"},
                {"{\"prompt\":\"x\",\"max_tokens\":900,\"need\":{\"max_cost_usd\":0.01}}", OFFER("", PRICED),
                 ROUTE_OK, "score"},
                /* The answer is not bounded: 4096 tokens, or what the model can say. */
                {"{\"prompt\":\"x\",\"need\":{\"max_cost_usd\":0.01}}", OFFER("", PRICED), ROUTE_TOO_DEAR,
                 "USD 0.04"},
                {"{\"prompt\":\"x\",\"need\":{\"max_cost_usd\":0.01}}",
                 OFFER("", PRICED "\"max_output\":500,"), ROUTE_OK, "score"},
                {"{\"prompt\":\"x\"}",
                 "{\"endpoints\":[{\"name\":\"e\",\"has_key\":false,\"models\":[{\"name\":\"m\"}]}]}",
                 ROUTE_NO_KEY, "no key"},
        };

        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
                struct route_need n = need_of(cases[i].input);
                struct route_model m = offer(cases[i].detail);
                struct route_judgement j;
                char text[256];

                route_judge(&n, &m, &nothing, false, &j);
                route_why_text(&j, &n, &m, text, sizeof text);
                if (j.why != cases[i].why || !strstr(text, cases[i].says))
                        test_fail(__FILE__, __LINE__, "case %zu: %d %s", i, (int)j.why, text);
                CHECK((j.score > 0) == (j.why == ROUTE_OK));
                route_judge(&n, &m, &nothing, true, &j);
                CHECK(j.why != ROUTE_OK);
                route_need_fini(&n);
        }
}

TEST(route, cheaper_faster_and_more_reliable_scores_higher)
{
        struct route_need n = need_of("{\"prompt\":\"x\",\"max_tokens\":1000}");
        struct route_model cheap = offer(OFFER("", "\"price\":{\"input\":1,\"output\":1},"));
        struct route_model dear = offer(OFFER("", "\"price\":{\"input\":10,\"output\":100},"));
        struct route_model home = offer(OFFER("\"local\":true,", ""));
        struct route_measure fast = {.calls = 9, .p50_ms = 100, .p90_ms = 200};
        struct route_measure slow = {.calls = 9, .p50_ms = 3000, .p90_ms = 9000};
        struct route_measure broken = {.calls = 9, .error_rate = 0.9, .p50_ms = 100, .p90_ms = 200};
        struct route_judgement a, b;

        route_judge(&n, &cheap, &fast, false, &a);
        route_judge(&n, &dear, &fast, false, &b);
        CHECK(a.score > b.score);
        route_judge(&n, &cheap, &slow, false, &b);
        CHECK(a.score > b.score);
        route_judge(&n, &cheap, &broken, false, &b);
        CHECK(a.score > 10 * b.score && b.score > 0);
        route_judge(&n, &home, &fast, false, &b);
        CHECK(b.score > a.score);
        /* The formula as documented: 100 * (1 - 0)^2 / ((1 + 0.001003 / 0.01) * (1 + 100 / 2000)). */
        CHECK(a.score > 86.4 && a.score < 86.7);
        /* Nine of ten were faster than the limit, or not. */
        n.max_latency_ms = 200;
        route_judge(&n, &cheap, &fast, false, &b);
        CHECK(b.why == ROUTE_OK);
        route_judge(&n, &cheap, &slow, false, &b);
        CHECK(b.why == ROUTE_TOO_SLOW);
        route_judge(&n, &cheap, &nothing, false, &b);
        CHECK(b.why == ROUTE_OK); /* nobody knows: it is tried */
        route_need_fini(&n);
}

TEST(route, measurements_are_quantiles_and_fade)
{
        struct route_history h = {0}, back;
        struct route_measure m;
        int64_t now = 1000000 * SECOND;
        char *text;

        route_measure(NULL, now, &m);
        CHECK(m.calls == 0 && m.error_rate == 0 && m.p50_ms == -1 && m.p90_ms == -1);
        for (int i = 1; i <= 10; i++)
                route_note(&h, &(struct route_sample){.at_us = now, .first_ms = i * 10, .total_ms = i * 20});
        route_measure(&h, now, &m);
        CHECK_INT(m.calls, 10);
        CHECK_INT(m.p50_ms, 50);
        CHECK_INT(m.p90_ms, 90);
        CHECK(m.error_rate == 0);
        for (int i = 0; i < 10; i++)
                route_note(&h, &(struct route_sample){.at_us = now, .first_ms = -1, .failed = true});
        route_measure(&h, now, &m);
        CHECK(m.error_rate > 0.47 && m.error_rate < 0.48); /* 10 / 21 */
        CHECK_INT(m.p50_ms, 50);                           /* what never began has no latency */
        /* Ten minutes later all weigh half, and the good word that is assumed weighs whole. */
        route_measure(&h, now + 600 * SECOND, &m);
        CHECK(m.error_rate > 0.45 && m.error_rate < 0.46); /* 5 / 11 */
        route_measure(&h, now + 6 * 3600 * SECOND + 1, &m);
        CHECK(m.calls == 0 && m.error_rate == 0 && m.p50_ms == -1);
        /* It survives being written down, also when it has gone round. */
        for (int i = 0; i < 100; i++)
                route_note(&h, &(struct route_sample){.at_us = now + i, .first_ms = i, .total_ms = i});
        CHECK_INT(h.n, ROUTE_SAMPLES);
        text = route_history_text(&h);
        route_history_read(text, &back);
        CHECK_INT(back.n, ROUTE_SAMPLES);
        CHECK_INT(back.v[0].first_ms, 100 - ROUTE_SAMPLES);
        CHECK_INT(back.v[ROUTE_SAMPLES - 1].first_ms, 99);
        mem_free(text);
        /* What is strange is left out. */
        route_history_read("[[1,2,3,0],[1,2],[\"a\",2,3,0],[1,-5,3,0],[9e99,1,1,1],7,[5,-1,9,1]]", &back);
        CHECK_INT(back.n, 2);
        route_history_read("nonsense", &back);
        CHECK_INT(back.n, 0);
}

TEST(route, needs_that_are_wrong_are_refused)
{
        static const char *const inputs[] = {
                "{\"need\":3}",
                "{\"need\":{\"privacy\":\"secret\"}}",
                "{\"need\":{\"capability\":\"tools\"}}",
                "{\"need\":{\"capability\":[\"fly\"]}}",
                "{\"need\":{\"max_cost_usd\":\"1\"}}",
                "{\"need\":{\"max_cost_usd\":-1}}",
                "{\"need\":{\"max_latency_ms\":0}}",
                "{\"need\":{\"context\":1.5}}",
                "{\"need\":{\"speed\":1}}",
        };

        for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++) {
                cJSON *v = NULL;
                struct route_need n;
                struct err e = {0};

                CHECK(json_parse(inputs[i], strlen(inputs[i]), &v, NULL) == 0);
                if (route_need_read(v, &n, &e) != -E_INVAL || !e.msg[0])
                        test_fail(__FILE__, __LINE__, "case %zu was taken", i);
                route_need_fini(&n);
                cJSON_Delete(v);
        }
}

TEST(route, equal_needs_have_equal_keys)
{
        struct route_need a = need_of("{\"prompt\":\"x\",\"need\":{\"max_cost_usd\":0.5}}");
        struct route_need b = need_of("{\"prompt\":\"y\",\"need\":{\"max_cost_usd\":0.5}}");
        struct route_need c = need_of("{\"prompt\":\"x\",\"need\":{\"max_cost_usd\":0.6}}");
        char *ka = route_need_key(&a), *kb = route_need_key(&b), *kc = route_need_key(&c);

        CHECK_STR(ka, kb);
        CHECK(strcmp(ka, kc) != 0);
        mem_free(ka);
        mem_free(kb);
        mem_free(kc);
        route_need_fini(&a);
        route_need_fini(&b);
        route_need_fini(&c);
}

TEST(route, what_an_agent_says_is_bounded_and_may_be_odd)
{
        cJSON *d = NULL;
        struct route_model *v;
        size_t n;
        const char *odd = "{\"endpoints\":[3,{\"name\":\"e\"},{\"models\":[{\"name\":\"m\"}]},{\"name\":"
                          "\"f\",\"models\":[7,{\"name\":\"\"},"
                          "{\"name\":\"ok\",\"context\":-4,\"price\":{\"input\":\"x\"},\"capabilities\":[1,"
                          "\"none\",\"json\"]}]}]}";

        CHECK(json_parse(odd, strlen(odd), &d, NULL) == 0);
        CHECK_INT(route_models_read(d, &v, &n), 0);
        CHECK_INT(n, 1);
        CHECK_STR(v[0].name, "ok");
        CHECK(v[0].capabilities == ROUTE_JSON && v[0].context == 0 && v[0].price_in < 0 && v[0].has_key);
        route_models_free(v, n);
        cJSON_Delete(d);
        CHECK_INT(route_models_read(NULL, &v, &n), 0);
        CHECK_INT(n, 0);
        route_models_free(v, n);
}
