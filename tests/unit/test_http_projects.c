/* The boundary of projects: each route and each MCP tool, each role, in one's own project and in another. */
#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "common/mem.h"
#include "hub/http/mcp.h"
#include "hub/http/router.h"
#include "hub/store/store.h"
#include "tests/lib/api_world.h"
#include "tests/lib/test.h"

static const char *const roles[] = {"client", "operator", "technical-operator", "admin"};

struct two_projects {
        struct api_world *w;
        char own_run[64], other_run[64];
};

static void put_checkpoints(struct api_world *w, void *arg)
{
        struct two_projects *p = arg;
        struct store_tx *tx = store_begin(world_store(w));
        struct row_checkpoint c = {.state = CHECKPOINT_OPEN,
                                   .kind = "permission",
                                   .title = "may I?",
                                   .sha256 = "ab",
                                   .arguments = "{}"};

        c.seq = 1;
        c.id = "c-own";
        c.run_id = p->own_run;
        c.project = "own";
        store_put_checkpoint(tx, &c);
        c.seq = 2;
        c.id = "c-other";
        c.run_id = p->other_run;
        c.project = "other";
        store_put_checkpoint(tx, &c);
        store_commit(tx, NULL, NULL);
}

static void submit(struct api_world *w, const char *project, char id[64])
{
        char path[96];
        struct answer a;

        snprintf(path, sizeof path, "/api/v1/calls?wait=true&project=%s", project);
        a = post(w, path, "{\"tool\":\"t.ok\"}");
        CHECK_INT(a.status, 201);
        CHECK_STR(answer_str(&a, "project"), project);
        snprintf(id, 64, "%s", answer_str(&a, "id"));
        answer_fini(&a);
}

static struct two_projects start(void)
{
        struct two_projects p = {.w = world_start(NULL)};
        struct answer a = post(p.w, "/api/v1/projects", "{\"name\":\"own\"}");

        CHECK_INT(a.status, 201);
        answer_fini(&a);
        a = post(p.w, "/api/v1/projects", "{\"name\":\"other\"}");
        CHECK_INT(a.status, 201);
        answer_fini(&a);
        submit(p.w, "own", p.own_run);
        submit(p.w, "other", p.other_run);
        world_on_loop(p.w, put_checkpoints, &p);
        /* What this waits for was committed after them. */
        a = post(p.w, "/api/v1/calls?wait=true&project=own", "{\"tool\":\"t.ok\"}");
        CHECK_INT(a.status, 201);
        answer_fini(&a);
        return p;
}

/* The route's path for a thing of one's own project, or of the other. */
static void path_for(const struct two_projects *p, const struct route *r, bool own, char out[512])
{
        const char *id = r->flags & ROUTE_OF_RUN          ? (own ? p->own_run : p->other_run)
                         : r->flags & ROUTE_OF_CHECKPOINT ? (own ? "c-own" : "c-other")
                         : r->flags & ROUTE_OF_PROJECT    ? (own ? "own" : "other")
                                                          : "x";
        const char *brace = strchr(r->pattern, '{');
        size_t n = brace ? (size_t)(brace - r->pattern) : strlen(r->pattern);

        snprintf(out, 512, "%.*s%s%s", (int)n, r->pattern, brace ? id : "",
                 brace ? strchr(brace, '}') + 1 : "");
        brace = strchr(out, '{');
        if (brace) {
                char rest[256];

                snprintf(rest, sizeof rest, "%s", strchr(brace, '}') + 1);
                snprintf(out + (brace - out), 512 - (size_t)(brace - out), "0%s", rest);
        }
        snprintf(out + strlen(out), 512 - strlen(out), "?%s%s",
                 route_takes(r, "project") ? (own ? "project=own" : "project=other") : "",
                 route_takes(r, "follow") ? "&follow=false" : "");
}

enum verdict { LET_IN, REFUSED, HIDDEN };

static enum verdict expected(const struct route *r, enum role role, bool own)
{
        bool may = role_may(role, r->perm);

        if (r->perm == PERM_PUBLIC || r->flags & ROUTE_LOOPBACK)
                return LET_IN;
        if (!(r->flags & ROUTE_WHERE))
                return REFUSED; /* of the hub: a role in one project is none there */
        if (r->flags & ROUTE_ANYWHERE)
                return may ? LET_IN : REFUSED;
        return !own ? HIDDEN : may ? LET_IN : REFUSED;
}

static enum verdict seen(const struct answer *a, const struct route *r)
{
        char denied[96];

        snprintf(denied, sizeof denied, "lacks the permission %s", permission_name(r->perm));
        if (a->status == 403 && strstr(a->body, denied))
                return REFUSED;
        if (a->status == 404 &&
            (strstr(a->body, "there is no run") || strstr(a->body, "there is no project") ||
             strstr(a->body, "there is no checkpoint")))
                return HIDDEN;
        CHECK(a->status != 0 && a->status != 401 && a->status != 403 && a->status < 500);
        return LET_IN;
}

TEST(http_projects, every_route_every_role_own_and_other)
{
        struct two_projects p = start();
        size_t n;
        const struct route *rs = route_table(&n);

        for (size_t k = 0; k < sizeof roles / sizeof *roles; k++) {
                char *token = world_make_token_in(p.w, roles[k], "own");

                for (size_t i = 0; i < 2 * n; i++) {
                        const struct route *r = &rs[i / 2];
                        bool own = i % 2 == 0;
                        enum verdict want = expected(r, (enum role)(ROLE_CLIENT + k), own), got;
                        char path[512];
                        struct answer a;

                        path_for(&p, r, own, path);
                        a = ask(p.w, r->method, path, NULL, NULL, 0, token, NULL);
                        got = seen(&a, r);
                        if (got != want)
                                test_fail(__FILE__, __LINE__, "%s %s as %s of own: %d, not %d: %ld %.300s",
                                          r->method, path, roles[k], got, want, a.status, a.body);
                        if (strstr(a.body, p.other_run) && strcmp(path, "") != 0 && want != HIDDEN)
                                test_fail(__FILE__, __LINE__, "%s %s as %s tells of the other's run",
                                          r->method, path, roles[k]);
                        answer_fini(&a);
                }
                mem_free(token);
        }
        world_stop(p.w);
}

/* Each way in which a list or a stream could tell of another project. */
TEST(http_projects, lists_and_streams_hold_only_ones_own)
{
        static const char *const paths[] = {
                "/api/v1/runs",
                "/api/v1/runs?kind=call",
                "/api/v1/runs?state=succeeded&limit=500",
                "/api/v1/runs?workflow=t.ok",
                "/api/v1/checkpoints",
                "/api/v1/checkpoints?state=all",
                "/api/v1/checkpoints?state=approved",
                "/api/v1/events?follow=false",
                "/api/v1/events?follow=false&after=0",
                "/api/v1/events?follow=false&project=own",
        };
        struct two_projects p = start();
        char *token = world_make_token_in(p.w, "admin", "own");
        int told = 0;

        for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
                struct answer a = ask(p.w, "GET", paths[i], NULL, NULL, 0, token, NULL);

                CHECK_INT(a.status, 200);
                if (strstr(a.body, p.other_run) || strstr(a.body, "c-other"))
                        test_fail(__FILE__, __LINE__, "%s tells of the other project: %.600s", paths[i],
                                  a.body);
                told += strstr(a.body, p.own_run) != NULL;
                answer_fini(&a);
        }
        CHECK(told >= 7);
        mem_free(token);
        world_stop(p.w);
}

TEST(http_projects, a_filter_by_anothers_run_is_as_by_none)
{
        struct two_projects p = start();
        char *token = world_make_token_in(p.w, "admin", "own");
        char path[128], other[512];
        struct answer a;

        snprintf(path, sizeof path, "/api/v1/checkpoints?run=%s", p.other_run);
        a = ask(p.w, "GET", path, NULL, NULL, 0, token, NULL);
        CHECK_INT(a.status, 404);
        CHECK(strstr(a.body, "there is no run") != NULL);
        answer_fini(&a);
        /* Word for word what is said of a run that never was. */
        snprintf(path, sizeof path, "/api/v1/runs/%s", p.other_run);
        a = ask(p.w, "GET", path, NULL, NULL, 0, token, NULL);
        snprintf(other, sizeof other, "%s", answer_str(&a, "detail"));
        answer_fini(&a);
        CHECK_INT(ROLE_NONE, 0);
        p.other_run[0] = p.other_run[0] == '0' ? '1' : '0';
        snprintf(path, sizeof path, "/api/v1/runs/%s", p.other_run);
        a = ask(p.w, "GET", path, NULL, NULL, 0, token, NULL);
        CHECK_INT(a.status, 404);
        CHECK(strlen(other) == strlen(answer_str(&a, "detail")));
        CHECK(strncmp(other, answer_str(&a, "detail"), strlen("there is no run '")) == 0);
        answer_fini(&a);
        mem_free(token);
        world_stop(p.w);
}

TEST(http_projects, work_goes_where_the_token_belongs)
{
        struct two_projects p = start();
        char *bound = world_make_token_in(p.w, "client", "own");
        char *free_one = world_make_token(p.w, "client");
        struct answer a =
                ask(p.w, "POST", "/api/v1/calls", "application/json", "{\"tool\":\"t.ok\"}", 15, bound, NULL);

        CHECK_INT(a.status, 201);
        CHECK_STR(answer_str(&a, "project"), "own");
        answer_fini(&a);
        a = ask(p.w, "POST", "/api/v1/calls", "application/json", "{\"tool\":\"t.ok\"}", 15, free_one, NULL);
        CHECK_INT(a.status, 201);
        CHECK_STR(answer_str(&a, "project"), "default");
        answer_fini(&a);
        a = ask(p.w, "POST", "/api/v1/calls?project=a%20b", "application/json", "{\"tool\":\"t.ok\"}", 15,
                free_one, NULL);
        CHECK_INT(a.status, 404);
        answer_fini(&a);
        mem_free(bound);
        mem_free(free_one);
        world_stop(p.w);
}

/* What a tool needs besides the thing it is about. */
static const char *more_args(const char *tool)
{
        static const char *const args[][2] = {
                {"run_tool", ",\"tool\":\"t.ok\",\"wait\":\"1s\""},
                {"start_run", ",\"workflow\":\"steps: [{id: a, tool: t.ok}]\""},
                {"validate_workflow", ",\"workflow\":\"steps: [{id: a, tool: t.ok}]\""},
                {"resolve_step", ",\"step\":\"a\",\"outcome\":\"failed\""},
                {"watch_run", ",\"wait\":\"1s\""},
                {"answer_checkpoint", ",\"decision\":\"reject\""},
                {"get_agent", ",\"agent\":\"fake\""},
        };

        for (size_t i = 0; i < sizeof args / sizeof *args; i++)
                if (strcmp(args[i][0], tool) == 0)
                        return args[i][1];
        return "";
}

static const struct route *route_of_tool(const struct mcp_tool *t)
{
        size_t n;
        const struct route *rs = route_table(&n);

        for (size_t i = 0; i < n; i++)
                if (strcmp(rs[i].method, t->method) == 0 && strcmp(rs[i].pattern, t->pattern) == 0)
                        return &rs[i];
        test_fail(__FILE__, __LINE__, "%s is no route", t->name);
        return NULL;
}

static void call_tool(const struct two_projects *p, const char *token, const struct mcp_tool *t,
                      const struct route *r, bool own, struct answer *out)
{
        static const char *const accept[] = {"Accept: application/json, text/event-stream", NULL};
        char about[200] = "", text[700];
        const char *more = more_args(t->name);

        if (r->flags & ROUTE_OF_RUN)
                snprintf(about, sizeof about, "\"run\":\"%s\"", own ? p->own_run : p->other_run);
        else if (r->flags & ROUTE_OF_CHECKPOINT)
                snprintf(about, sizeof about, "\"checkpoint\":\"%s\"", own ? "c-own" : "c-other");
        else if (t->query && strstr(t->query, "project"))
                snprintf(about, sizeof about, "\"project\":\"%s\"", own ? "own" : "other");
        if (!*about && *more)
                more++; /* the comma */
        snprintf(text, sizeof text,
                 "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"%s\","
                 "\"arguments\":{%s%s}}}",
                 t->name, about, more);
        *out = ask(p->w, "POST", "/mcp", "application/json", text, strlen(text), token, accept);
}

TEST(http_projects, every_mcp_tool_every_role_own_and_other)
{
        struct two_projects p = start();

        for (size_t k = 0; k < sizeof roles / sizeof *roles; k++) {
                char *token = world_make_token_in(p.w, roles[k], "own");

                for (const struct mcp_tool *t = mcp_tools; t->name; t++) {
                        const struct route *r = route_of_tool(t);

                        for (int other = 0; other < 2; other++) {
                                enum role role = (enum role)(ROLE_CLIENT + k);
                                bool may = role_may(role, r->perm), hub = !(r->flags & ROUTE_WHERE);
                                /* Those that name nothing of a project have no other. */
                                bool named = r->flags & (ROUTE_OF_RUN | ROUTE_OF_CHECKPOINT) ||
                                             (t->query && strstr(t->query, "project"));
                                bool denied, hidden;
                                struct answer a;

                                call_tool(&p, token, t, r, !other, &a);
                                CHECK_INT(a.status, 200);
                                denied = strstr(a.body, "lacks the permission") != NULL;
                                hidden = strstr(a.body, "there is no run") ||
                                         strstr(a.body, "there is no project") ||
                                         strstr(a.body, "there is no checkpoint");
                                if (denied != (hub || !may) || hidden != (!hub && may && named && other) ||
                                    (!other && strstr(a.body, p.other_run)))
                                        test_fail(__FILE__, __LINE__, "%s as %s of own, %s: %.400s", t->name,
                                                  roles[k], other ? "other" : "own", a.body);
                                answer_fini(&a);
                        }
                }
                mem_free(token);
        }
        world_stop(p.w);
}

static void read_resource(const struct two_projects *p, const char *token, enum mcp_resource_kind kind,
                          bool own, struct answer *out)
{
        static const char *const accept[] = {"Accept: application/json, text/event-stream", NULL};
        struct mcp_resource r = {.kind = kind};
        char uri[MCP_RESOURCE_URI], text[300];

        if (kind == MCP_RUN)
                snprintf(r.id, sizeof r.id, "%s", own ? p->own_run : p->other_run);
        else if (kind == MCP_CHECKPOINT)
                snprintf(r.id, sizeof r.id, "%s", own ? "c-own" : "c-other");
        mcp_resource_uri(&r, uri);
        snprintf(text, sizeof text,
                 "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"resources/read\",\"params\":{\"uri\":\"%s\"}}",
                 uri);
        *out = ask(p->w, "POST", "/mcp", "application/json", text, strlen(text), token, accept);
}

TEST(http_projects, every_mcp_resource_every_role_own_and_other)
{
        struct two_projects p = start();

        for (size_t k = 0; k < sizeof roles / sizeof *roles; k++) {
                char *token = world_make_token_in(p.w, roles[k], "own");

                for (int n = 0; n < 2 * MCP_RESOURCE_KINDS; n++) {
                        enum mcp_resource_kind kind = (enum mcp_resource_kind)(n / 2);
                        bool own = n % 2,
                             may = role_may((enum role)(ROLE_CLIENT + k), mcp_resource_permission(kind));
                        bool single = kind == MCP_RUN || kind == MCP_CHECKPOINT;
                        struct answer a;

                        read_resource(&p, token, kind, own, &a);
                        CHECK_INT(a.status, 200);
                        if (!strstr(a.body, "lacks the permission") != may ||
                            !strstr(a.body, "\"contents\"") != !(may && (own || !single)) ||
                            !strstr(a.body, "there is no ") != !(may && single && !own) ||
                            (own && strstr(a.body, p.other_run)))
                                test_fail(__FILE__, __LINE__, "%s as %s of own, %s: %.400s",
                                          mcp_resource_pattern(kind), roles[k], own ? "own" : "other",
                                          a.body);
                        answer_fini(&a);
                }
                mem_free(token);
        }
        world_stop(p.w);
}
