/* Budgets over HTTP: who sees and sets which, what bad requests get, and who may allow more. */
#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "common/mem.h"
#include "tests/lib/api_world.h"
#include "tests/lib/test.h"

static struct answer as(struct api_world *w, const char *token, const char *method, const char *path,
                        const char *json)
{
        return ask(w, method, path, json ? "application/json" : NULL, json, json ? strlen(json) : 0, token,
                   NULL);
}

static void expect(struct answer a, long status, const char *says, int line)
{
        if (a.status != status || (says && (!a.body || !strstr(a.body, says))))
                test_fail(__FILE__, line, "expected %ld %s, got %ld: %.600s", status, says ? says : "",
                          a.status, a.body ? a.body : "(nothing)");
        answer_fini(&a);
}
#define EXPECT(a, status, says) expect(a, status, says, __LINE__)

static int items(struct answer a)
{
        int n = cJSON_GetArraySize(cJSON_GetObjectItem(a.json, "items"));

        if (a.status != 200)
                test_fail(__FILE__, __LINE__, "%ld %s", a.status, a.body);
        answer_fini(&a);
        return n;
}

static struct api_world *with_projects(void)
{
        struct api_world *w = world_start(NULL);

        EXPECT(post(w, "/api/v1/projects", "{\"name\":\"own\"}"), 201, NULL);
        EXPECT(post(w, "/api/v1/projects", "{\"name\":\"other\"}"), 201, NULL);
        return w;
}

TEST(http_budgets, a_budget_is_set_shown_changed_and_taken_away)
{
        struct api_world *w = with_projects();

        EXPECT(as(w, NULL, "PUT", "/api/v1/budgets/day", "{\"usd\":\"5.00\"}"), 200,
               "\"cap\":{\"usd\":\"5.00\",\"tokens\":null}");
        EXPECT(get(w, "/api/v1/budgets/day"), 200, "\"left\":{\"usd\":\"5.00\",\"tokens\":null}");
        EXPECT(as(w, NULL, "PUT", "/api/v1/budgets/day", "{\"tokens\":1000,\"usd\":0.1,\"over\":\"ask\"}"),
               200, "\"cap\":{\"usd\":\"0.10\",\"tokens\":1000},\"over\":\"ask\"");
        EXPECT(as(w, NULL, "PUT", "/api/v1/budgets/run", "{\"usd\":1}"), 200, "\"scope\":\"run\"");
        CHECK_INT(items(get(w, "/api/v1/budgets")), 2);
        CHECK_INT(items(get(w, "/api/v1/budgets?limit=1")), 1);
        EXPECT(as(w, NULL, "DELETE", "/api/v1/budgets/day", NULL), 204, NULL);
        EXPECT(as(w, NULL, "DELETE", "/api/v1/budgets/day", NULL), 404, "not_found");
        EXPECT(get(w, "/api/v1/budgets/day"), 404, "photon budget list");
        EXPECT(get(w, "/api/v1/audit?action=budget.set"), 200, "\"object\":\"run\"");
        EXPECT(get(w, "/api/v1/audit?action=budget.delete"), 200, "\"object\":\"day\"");
        world_stop(w);
}

TEST(http_budgets, a_wrong_one_is_refused_with_the_reason)
{
        static const struct {
                const char *id, *body, *says;
        } rows[] = {
                {"week", "{\"usd\":1}", "is no budget"},
                {"project", "{\"usd\":1}", "is no budget"},
                {"run:x", "{\"usd\":1}", "is no budget"},
                {"day", "{}", "caps"},
                {"day", "{\"usd\":null,\"tokens\":null}", "caps"},
                {"day", "{\"usd\":\"-1\"}", "no amount of money"},
                {"day", "{\"usd\":-1}", "dollars"},
                {"day", "{\"usd\":1e300}", "dollars"},
                {"day", "{\"usd\":\"1.0000001\"}", "six decimals"},
                {"day", "{\"usd\":[1]}", "dollars"},
                {"day", "{\"tokens\":1.5}", "whole number"},
                {"day", "{\"tokens\":-1}", "whole number"},
                {"day", "{\"tokens\":1e18}", "whole number"},
                {"day", "{\"usd\":1,\"over\":\"maybe\"}", "over"},
                {"day", "{\"usd\":1,\"restart\":true}", "by themselves"},
                {"day", "{\"usd\":1,\"eur\":1}", "eur"},
                {"day", "[]", "object"},
                {"day", "{\"usd\":", "JSON"},
        };
        struct api_world *w = with_projects();
        char path[128];

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                struct answer a;

                snprintf(path, sizeof path, "/api/v1/budgets/%s", rows[i].id);
                a = as(w, NULL, "PUT", path, rows[i].body);
                if (a.status != 400 || !a.body || !strstr(a.body, rows[i].says))
                        test_fail(__FILE__, __LINE__, "row %zu: %ld %s", i, a.status, a.body);
                answer_fini(&a);
        }
        EXPECT(as(w, NULL, "PUT", "/api/v1/budgets/project:onw", "{\"usd\":1}"), 404, "there is no project");
        EXPECT(as(w, NULL, "PUT", "/api/v1/budgets/day:onw", "{\"usd\":1}"), 404, "there is no project");
        EXPECT(get(w, "/api/v1/ledger?day=29.11.2026"), 400, "is no day");
        EXPECT(get(w, "/api/v1/ledger?state=open"), 400, "is no state");
        EXPECT(get(w, "/api/v1/ledger?cursor=x"), 400, "cursor");
        CHECK_INT(items(get(w, "/api/v1/budgets")), 0);
        world_stop(w);
}

static void spend(struct api_world *w, const char *token, const char *project, const char *over, char run[64])
{
        char path[128], body[512];
        struct answer a;

        snprintf(path, sizeof path, "/api/v1/runs?project=%s", project);
        snprintf(body, sizeof body,
                 "{\"workflow\":{%s\"steps\":[{\"id\":\"s\",\"uses\":\"t.ok\",\"estimate\":{\"usd\":1}}]}}",
                 over);
        a = as(w, token, "POST", path, body);
        if (a.status != 201)
                test_fail(__FILE__, __LINE__, "%ld %s", a.status, a.body);
        snprintf(run, 64, "%s", answer_str(&a, "id"));
        answer_fini(&a);
}

static void wait_over(struct api_world *w, const char *run)
{
        char path[128];

        snprintf(path, sizeof path, "/api/v1/runs/%s/events", run); /* ends with the run */
        EXPECT(get(w, path), 200, "run.");
}

TEST(http_budgets, projects_are_the_boundary)
{
        struct api_world *w = with_projects();
        char *own = world_make_token_in(w, "technical-operator", "own"), run[64], path[128];

        EXPECT(as(w, NULL, "PUT", "/api/v1/budgets/day", "{\"usd\":5}"), 200, NULL);
        EXPECT(as(w, NULL, "PUT", "/api/v1/budgets/agent:fake", "{\"usd\":5}"), 200, NULL);
        EXPECT(as(w, NULL, "PUT", "/api/v1/budgets/project:own", "{\"usd\":5}"), 200, NULL);
        EXPECT(as(w, NULL, "PUT", "/api/v1/budgets/day:other", "{\"usd\":5}"), 200, NULL);
        CHECK_INT(items(get(w, "/api/v1/budgets")), 4);
        CHECK_INT(items(get(w, "/api/v1/budgets?project=other")), 1);
        CHECK_INT(items(as(w, own, "GET", "/api/v1/budgets", NULL)), 1);
        EXPECT(as(w, own, "GET", "/api/v1/budgets/project:own", NULL), 200, "\"id\":\"project:own\"");
        EXPECT(as(w, own, "GET", "/api/v1/budgets/day:other", NULL), 404, "there is no budget");
        EXPECT(as(w, own, "GET", "/api/v1/budgets/day", NULL), 404, "there is no budget");
        EXPECT(as(w, own, "GET", "/api/v1/budgets?project=other", NULL), 404, NULL);
        /* Their own cap is not theirs to set. */
        EXPECT(as(w, own, "PUT", "/api/v1/budgets/project:own", "{\"usd\":500}"), 403, "budgets.manage");
        EXPECT(as(w, own, "DELETE", "/api/v1/budgets/project:own", NULL), 403, "budgets.manage");
        spend(w, NULL, "other", "", run);
        wait_over(w, run);
        spend(w, NULL, "own", "", run);
        wait_over(w, run);
        CHECK_INT(items(get(w, "/api/v1/ledger")), 2);
        CHECK_INT(items(get(w, "/api/v1/ledger?agent=fake&state=settled&project=other")), 1);
        CHECK_INT(items(as(w, own, "GET", "/api/v1/ledger", NULL)), 1);
        snprintf(path, sizeof path, "/api/v1/ledger?run=%s", run);
        CHECK_INT(items(as(w, own, "GET", path, NULL)), 1);
        EXPECT(get(w, "/api/v1/budgets/day"), 200, "\"spent\":{\"usd\":\"2.00\"");
        snprintf(path, sizeof path, "/api/v1/runs/%s", run);
        EXPECT(as(w, own, "GET", path, NULL), 200, "\"spent\":{\"usd\":\"1.00\",\"tokens\":0}");
        mem_free(own);
        world_stop(w);
}

/* The open question of a run: of the same commit as the run. */
static void question(struct api_world *w, const char *run, char id[64], char sha[80])
{
        struct answer a;
        const cJSON *c;
        char path[128];

        snprintf(path, sizeof path, "/api/v1/checkpoints?run=%s", run);
        a = get(w, path);
        c = cJSON_GetArrayItem(cJSON_GetObjectItem(a.json, "items"), 0);
        if (!c)
                test_fail(__FILE__, __LINE__, "run %s asks nothing: %s", run, a.body);
        snprintf(id, 64, "%s", cJSON_GetObjectItem(c, "id")->valuestring);
        snprintf(sha, 80, "%s", cJSON_GetObjectItem(c, "sha256")->valuestring);
        CHECK_STR(cJSON_GetObjectItem(c, "kind")->valuestring, "budget");
        answer_fini(&a);
}

static struct answer approve(struct api_world *w, const char *token, const char *run)
{
        char id[64], sha[80], path[128], body[128];

        question(w, run, id, sha);
        snprintf(path, sizeof path, "/api/v1/checkpoints/%s/approve", id);
        snprintf(body, sizeof body, "{\"sha256\":\"%s\"}", sha);
        return as(w, token, "POST", path, body);
}

TEST(http_budgets, what_binds_others_is_raised_only_by_who_may_set_it)
{
        struct api_world *w = with_projects();
        char *own = world_make_token_in(w, "technical-operator", "own"), run[64];
        char *operator= world_make_token_in(w, "operator", "own");

        /* The run's own: whoever decides checkpoints in its project. */
        spend(w, operator, "own", "\"budget\":{\"usd\":\"0.50\",\"over\":\"ask\"},", run);
        EXPECT(approve(w, own, run), 200, "approved");
        wait_over(w, run);
        EXPECT(as(w, NULL, "PUT", "/api/v1/budgets/day", "{\"usd\":\"1.50\",\"over\":\"ask\"}"), 200, NULL);
        spend(w, operator, "own", "", run);
        EXPECT(approve(w, own, run), 403, "budgets.manage");
        EXPECT(get(w, "/api/v1/budgets/day"), 200, "\"raised\":{\"usd\":\"0.00\"");
        EXPECT(approve(w, NULL, run), 200, "approved");
        wait_over(w, run);
        EXPECT(get(w, "/api/v1/budgets/day"), 200, "\"raised\":{\"usd\":\"0.50\"");
        EXPECT(get(w, "/api/v1/audit?action=budget.raise"), 200, "\"object\":\"day:");
        mem_free(own);
        mem_free(operator);
        world_stop(w);
}
