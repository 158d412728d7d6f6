/* What people do and what they are refused is in the audit, with its effect or not at all. */
#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "common/mem.h"
#include "hub/http/denials.h"
#include "tests/lib/api_world.h"
#include "tests/lib/test.h"

/* The newest records of that action, as JSON. What this waits for was committed after them. */
static struct answer records(struct api_world *w, const char *action)
{
        char path[96];
        struct answer a = post(w, "/api/v1/calls?wait=true", "{\"tool\":\"t.ok\"}");

        CHECK_INT(a.status, 201);
        answer_fini(&a);
        snprintf(path, sizeof path, "/api/v1/audit?action=%s&limit=100", action);
        a = get(w, path);
        CHECK_INT(a.status, 200);
        return a;
}

static int count(const struct answer *a)
{
        const cJSON *list = cJSON_GetObjectItemCaseSensitive(a->json, "items");

        return cJSON_GetArraySize(list);
}

static void as(struct api_world *w, const char *token, const char *method, const char *path, const char *body,
               long status)
{
        struct answer a = ask(w, method, path, body ? "application/json" : NULL, body,
                              body ? strlen(body) : 0, token, NULL);

        if (a.status != status)
                test_fail(__FILE__, __LINE__, "%s %s: %ld %.200s", method, path, a.status, a.body);
        answer_fini(&a);
}

TEST(http_audit, a_run_is_on_record_with_who_and_what)
{
        static const char run[] = "name: w\nsteps:\n  - {id: a, uses: t.hang}\n";
        struct api_world *w = world_start(NULL);
        char *token = world_make_token(w, "operator"), path[128], id[64];
        struct answer a;

        a = ask(w, "POST", "/api/v1/runs", "application/yaml", run, strlen(run), token, NULL);
        CHECK_INT(a.status, 201);
        snprintf(id, sizeof id, "%s", answer_str(&a, "id"));
        answer_fini(&a);
        a = records(w, "run.submit");
        CHECK_INT(count(&a), 1);
        CHECK(strstr(a.body, id) && strstr(a.body, "\"actor\":\"operator\"") &&
              strstr(a.body, "\"workflow\":\"w\"") && strstr(a.body, "definition_sha256"));
        answer_fini(&a);
        a = records(w, "call.submit");
        CHECK_INT(count(&a), 2); /* those of records() itself */
        answer_fini(&a);

        snprintf(path, sizeof path, "/api/v1/runs/%s/retry", id);
        as(w, token, "POST", path, NULL, 409); /* it runs: nothing is done, and nothing on record */
        snprintf(path, sizeof path, "/api/v1/runs/%s/cancel", id);
        as(w, token, "POST", path, "{}", 200);
        a = records(w, "run.cancel");
        CHECK_INT(count(&a), 1);
        CHECK(strstr(a.body, id) && strstr(a.body, "\"actor\":\"operator\""));
        answer_fini(&a);
        a = records(w, "run.retry");
        CHECK_INT(count(&a), 0);
        answer_fini(&a);
        mem_free(token);
        world_stop(w);
}

TEST(http_audit, what_is_refused_is_on_record)
{
        static const char call[] =
                "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":"
                "\"cancel_run\",\"arguments\":{\"run\":\"r\"},\"_meta\":{"
                "\"io.modelcontextprotocol/protocolVersion\":\"2026-07-28\","
                "\"io.modelcontextprotocol/clientCapabilities\":{}}}}";
        static const char *const mcp[] = {"Accept: application/json, text/event-stream",
                                          "MCP-Protocol-Version: 2026-07-28", "Mcp-Method: tools/call",
                                          "Mcp-Name: cancel_run", NULL};
        struct api_world *w = world_start(NULL);
        char *token = world_make_token(w, "client"), *mine = world_make_token_in(w, "operator", "mine"),
             path[96];
        struct answer a = post(w, "/api/v1/calls?wait=true", "{\"tool\":\"t.ok\"}");

        snprintf(path, sizeof path, "/api/v1/runs/%s", answer_str(&a, "id"));
        answer_fini(&a);
        as(w, token, "POST", "/api/v1/agents/fake/drain", NULL, 403);
        a = records(w, "access.denied");
        CHECK_INT(count(&a), 1);
        CHECK(strstr(a.body, "lacks the permission agents.manage") &&
              strstr(a.body, "POST /api/v1/agents/{name}/drain") && strstr(a.body, "\"actor\":\"client\"") &&
              strstr(a.body, "127.0.0.1"));
        answer_fini(&a);

        as(w, mine, "GET", path, NULL, 404); /* hidden: it lies in another project */
        as(w, token, "GET", "/api/v1/runs/nothing", NULL, 404);
        a = records(w, "access.denied");
        CHECK_INT(count(&a), 2);
        CHECK(strstr(a.body, "\"status\":404"));
        answer_fini(&a);

        a = ask(w, "POST", "/mcp", "application/json", call, strlen(call), token, mcp);
        CHECK(a.body && strstr(a.body, "lacks the permission runs.control"));
        answer_fini(&a);
        a = records(w, "access.denied");
        CHECK_INT(count(&a), 3);
        CHECK(strstr(a.body, "POST /api/v1/runs/{id}/cancel"));
        answer_fini(&a);
        mem_free(token);
        mem_free(mine);
        world_stop(w);
}

static void want_reads(struct http_options *o)
{
        o->audit_reads = true;
}

static void read_about(bool wanted)
{
        static const char call[] =
                "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":"
                "\"list_runs\",\"arguments\":{},\"_meta\":{"
                "\"io.modelcontextprotocol/protocolVersion\":\"2026-07-28\","
                "\"io.modelcontextprotocol/clientCapabilities\":{}}}}";
        static const char *const mcp[] = {"Accept: application/json, text/event-stream",
                                          "MCP-Protocol-Version: 2026-07-28", "Mcp-Method: tools/call",
                                          "Mcp-Name: list_runs", NULL};
        struct api_world *w = world_start(wanted ? want_reads : NULL);
        char *token = world_make_token(w, "client");
        struct answer a;

        as(w, token, "GET", "/api/v1/runs", NULL, 200);
        as(w, token, "GET", "/api/v1/runs/nothing", NULL, 404);
        as(w, token, "GET", "/api/v1/audit", NULL, 403); /* is a denial, and no read */
        as(w, "", "GET", "/healthz", NULL, 200);
        as(w, token, "POST", "/api/v1/calls", "{\"tool\":\"t.ok\"}", 201);
        a = ask(w, "POST", "/mcp", "application/json", call, strlen(call), token, mcp);
        answer_fini(&a);
        /* What is acknowledged comes after all of these; the list is the admin's own read. */
        as(w, NULL, "POST", "/api/v1/projects", "{\"name\":\"x\"}", 201);
        a = ask(w, "GET", "/api/v1/audit?action=access.read&actor=client", NULL, NULL, 0, NULL, NULL);
        CHECK_INT(a.status, 200);
        CHECK_INT(count(&a), wanted ? 3 : 0);
        CHECK(!wanted || (strstr(a.body, "\"object\":\"GET /api/v1/runs/{id}\"") &&
                          strstr(a.body, "\"of\":\"nothing\"") && strstr(a.body, "runs.read")));
        answer_fini(&a);
        a = records(w, "access.denied");
        CHECK_INT(count(&a), 1);
        answer_fini(&a);
        mem_free(token);
        world_stop(w);
}

TEST(http_audit, what_is_read_is_on_record_where_that_is_wanted)
{
        read_about(true);
}

TEST(http_audit, what_is_read_is_not_on_record_unless_wanted)
{
        read_about(false);
}

/* Without a token: those are no guesses, so that no other limit is met first. */
TEST(http_audit, strangers_cannot_fill_it)
{
        struct api_world *w = world_start(NULL);
        struct answer a;

        for (int i = 0; i < 60; i++)
                as(w, "", "GET", "/api/v1/runs", NULL, 401);
        a = records(w, "access.denied");
        CHECK(count(&a) >= DENIALS_STRANGERS_PER_S);
        CHECK(count(&a) < 60);
        CHECK(strstr(a.body, "\"actor\":\"stranger\"") != NULL);
        answer_fini(&a);
        world_stop(w);
}

TEST(http_audit, a_guessed_token_is_not_in_it)
{
        struct api_world *w = world_start(NULL);
        struct answer a;

        as(w, "pat_guess", "GET", "/api/v1/runs", NULL, 401);
        a = records(w, "access.denied");
        CHECK_INT(count(&a), 1);
        CHECK(!strstr(a.body, "pat_guess"));
        answer_fini(&a);
        world_stop(w);
}
