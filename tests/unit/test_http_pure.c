/* The parts of the API that are tables and text: permissions, routes, problems, OpenAPI. */
#include <stdio.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/file.h"
#include "common/json.h"
#include "common/mem.h"
#include "hub/http/form.h"
#include "hub/model/access.h"
#include "hub/http/jsonw.h"
#include "hub/http/present.h"
#include "hub/http/problem.h"
#include "hub/http/router.h"
#include "hub/store/store.h"
#include "tests/lib/test.h"

static cJSON *parse(const struct buf *b)
{
        struct err e = {0};
        cJSON *doc = NULL;

        if (json_parse((const char *)b->data, b->len, &doc, &e))
                test_fail(__FILE__, __LINE__, "not JSON (%d:%d %s): %.*s", e.line, e.col, e.msg, (int)b->len,
                          (const char *)b->data);
        return doc;
}

static const char *str(const cJSON *o, const char *key)
{
        const char *s = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, key));

        return s ? s : "";
}

TEST(http_access, every_cell_of_the_table)
{
        static const struct {
                enum permission p;
                const char *name;
                bool may[4]; /* client, operator, technical operator, admin */
        } cells[] = {
                {PERM_PUBLIC, "public", {1, 1, 1, 1}},
                {PERM_SELF, "self.read", {1, 1, 1, 1}},
                {PERM_RUNS_READ, "runs.read", {1, 1, 1, 1}},
                {PERM_RUNS_SUBMIT, "runs.submit", {1, 1, 1, 1}},
                {PERM_RUNS_CONTROL, "runs.control", {0, 1, 1, 1}},
                {PERM_STEPS_RESOLVE, "steps.resolve", {0, 1, 1, 1}},
                {PERM_CHECKPOINTS_READ, "checkpoints.read", {1, 1, 1, 1}},
                {PERM_CHECKPOINTS_DECIDE, "checkpoints.decide", {0, 0, 1, 1}},
                {PERM_EVENTS_READ, "events.read", {1, 1, 1, 1}},
                {PERM_AGENTS_READ, "agents.read", {1, 1, 1, 1}},
                {PERM_AGENTS_MANAGE, "agents.manage", {0, 1, 1, 1}},
                {PERM_JOIN_TOKENS, "join_tokens.manage", {0, 1, 1, 1}},
                {PERM_SECRETS_READ, "secrets.read", {0, 1, 1, 1}},
                {PERM_SECRETS_USE, "secrets.use", {0, 1, 1, 1}},
                {PERM_SECRETS_MANAGE, "secrets.manage", {0, 0, 1, 1}},
                {PERM_VAULT_MANAGE, "vault.manage", {0, 0, 0, 1}},
                {PERM_API_TOKENS, "api_tokens.manage", {0, 0, 0, 1}},
                {PERM_OWN_TOKENS, "own_tokens.manage", {1, 1, 1, 1}},
                {PERM_PROJECTS_READ, "projects.read", {1, 1, 1, 1}},
                {PERM_PROJECTS_MANAGE, "projects.manage", {0, 0, 0, 1}},
                {PERM_ROLES_MANAGE, "roles.manage", {0, 0, 0, 1}},
                {PERM_USERS_MANAGE, "users.manage", {0, 0, 0, 1}},
                {PERM_AUDIT_READ, "audit.read", {0, 0, 1, 1}},
                {PERM_AUDIT_MANAGE, "audit.manage", {0, 0, 0, 1}},
                {PERM_BUDGETS_READ, "budgets.read", {1, 1, 1, 1}},
                {PERM_BUDGETS_MANAGE, "budgets.manage", {0, 1, 1, 1}},
                {PERM_NOTICES_MANAGE, "notices.manage", {0, 0, 1, 1}},
                {PERM_METRICS_READ, "metrics.read", {0, 1, 1, 1}},
        };

        CHECK_INT(sizeof cells / sizeof *cells, PERM_COUNT);
        for (size_t i = 0; i < PERM_COUNT; i++) {
                CHECK_STR(permission_name(cells[i].p), cells[i].name);
                for (int r = ROLE_CLIENT; r <= ROLE_ADMIN; r++)
                        if (role_may((enum role)r, cells[i].p) != cells[i].may[r - ROLE_CLIENT])
                                test_fail(__FILE__, __LINE__, "%s for %s", cells[i].name,
                                          role_name((enum role)r));
        }
}

TEST(http_access, what_the_table_does_not_know_is_denied)
{
        CHECK(!role_may(ROLE_ADMIN, PERM_COUNT));
        CHECK(!role_may((enum role)(ROLE_ADMIN + 1), PERM_SELF));
        CHECK(!role_may((enum role) - 1, PERM_SELF));
        CHECK(!role_may(ROLE_NONE, PERM_SELF));
        CHECK(!role_may(ROLE_NONE, PERM_PUBLIC));
}

TEST(http_problem, every_code_has_a_status_and_a_document)
{
        for (int c = 1; c < E_MAX_CODE; c++) {
                struct err e = {.code = c, .msg = "it went \"wrong\"", .line = 3, .col = 7};
                int status = problem_status(-c);
                struct buf b;
                cJSON *doc;

                buf_init(&b, 0);
                CHECK(status >= 400 && status < 600);
                CHECK_INT(problem_status(c), status);
                CHECK_INT(problem_write(&b, status, NULL, &e, NULL, "\"taken\":9"), 0);
                doc = parse(&b);
                CHECK_STR(str(doc, "type"), "about:blank");
                CHECK_STR(str(doc, "title"), problem_title(status));
                CHECK(strcmp(str(doc, "title"), "Error") != 0);
                CHECK_STR(str(doc, "code"), err_name(c));
                CHECK_STR(str(doc, "detail"), "it went \"wrong\"");
                CHECK_INT(cJSON_GetObjectItem(doc, "status")->valueint, status);
                CHECK_INT(cJSON_GetObjectItem(doc, "line")->valueint, 3);
                CHECK_INT(cJSON_GetObjectItem(doc, "column")->valueint, 7);
                CHECK_INT(cJSON_GetObjectItem(doc, "taken")->valueint, 9);
                cJSON_Delete(doc);
                buf_fini(&b);
        }
}

/* ---- routes ---- */

static int match(const char *method, const char *path, const struct route **r, char param[2][64],
                 char allow[64])
{
        const char *p[ROUTE_PARAMS_MAX] = {0};
        char *copy = mem_strdup(path);
        int rc = route_match(method, copy, r, p, allow);

        for (int i = 0; i < 2; i++)
                snprintf(param[i], 64, "%s", !rc && p[i] ? p[i] : "");
        mem_free(copy);
        return rc;
}

TEST(http_router, finds_routes_and_cuts_parameters)
{
        const struct route *r = NULL;
        char p[2][64], allow[64];

        CHECK_INT(match("GET", "/api/v1/runs/r1/steps/test[2]/logs", &r, p, allow), 0);
        CHECK_STR(r->pattern, "/api/v1/runs/{id}/steps/{step}/logs");
        CHECK_STR(p[0], "r1");
        CHECK_STR(p[1], "test[2]");
        CHECK_INT(match("HEAD", "/healthz", &r, p, allow), 0);
        CHECK_INT(match("DELETE", "/api/v1/runs/r1", &r, p, allow), -E_NOTSUP);
        CHECK_STR(allow, "GET, HEAD");
        CHECK_INT(match("PUT", "/api/v1/runs", &r, p, allow), -E_NOTSUP);
        CHECK_STR(allow, "POST, GET, HEAD");
}

TEST(http_router, near_misses_are_not_found)
{
        static const char *const paths[] = {
                "",
                "/x",
                "//",
                "/api",
                "/api/v1",
                "/api/v1/",
                "/api/v1/run",
                "/api/v1/runs/",
                "/api/v1/runs//logs",
                "/api/v1/runs/x/",
                "/api/v1/../v1/runs",
                "/../../etc/passwd",
                "/api/v1/runs/x/steps",
                "/api/v1/runs/x/steps//logs",
                "api/v1/runs",
                "/healthz/",
                "/healthz/x",
                "/API/v1/runs",
                "/api/v1/runs/a/b/c/d/e/f/g/h",
        };
        const struct route *r = NULL;
        char p[2][64], allow[64];

        for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
                if (match("GET", paths[i], &r, p, allow) != -E_NOENT)
                        test_fail(__FILE__, __LINE__, "'%s' was found", paths[i]);
}

TEST(http_router, query_names)
{
        size_t n;
        const struct route *rs = route_table(&n), *list = NULL;

        for (size_t i = 0; i < n; i++)
                if (strcmp(rs[i].pattern, "/api/v1/runs") == 0 && strcmp(rs[i].method, "GET") == 0)
                        list = &rs[i];
        CHECK(list != NULL);
        CHECK(route_takes(list, "limit") && route_takes(list, "state") && route_takes(list, "cursor"));
        CHECK(!route_takes(list, "lim") && !route_takes(list, "") && !route_takes(list, "limit cursor"));
}

TEST(http_router, the_table_is_sound)
{
        size_t n;
        const struct route *rs = route_table(&n);

        for (size_t i = 0; i < n; i++) {
                const struct route *r = &rs[i];
                bool changes = strcmp(r->method, "GET") != 0;

                CHECK(r->handler && r->summary && *r->summary && r->query);
                CHECK(changes || !r->body_max);
                /* Nobody changes anything without a token, but by a login, which is how one comes by it. */
                CHECK(r->perm != PERM_PUBLIC || !changes || strncmp(r->pattern, "/api/v1/login/", 14) == 0);
                CHECK(r->status == 200 || r->status == 201 || r->status == 204 ||
                      (r->status == 303 && r->flags & ROUTE_HTML));
                /* The cookie of a browser opens pages, and nothing of the API. */
                CHECK(!(r->flags & ROUTE_PAGE) ||
                      (r->flags & ROUTE_HTML && strncmp(r->pattern, "/api/", 5) != 0 &&
                       strcmp(r->pattern, "/mcp") != 0));
                for (size_t k = i + 1; k < n; k++)
                        CHECK(strcmp(r->method, rs[k].method) != 0 || strcmp(r->pattern, rs[k].pattern) != 0);
        }
}

/* ---- OpenAPI ---- */

static void check_refs(const cJSON *v, const cJSON *schemas)
{
        for (const cJSON *m = v->child; m; m = m->next) {
                if (m->string && strcmp(m->string, "$ref") == 0) {
                        const char *name = strrchr(m->valuestring, '/') + 1;

                        if (!cJSON_GetObjectItemCaseSensitive(schemas, name))
                                test_fail(__FILE__, __LINE__, "no schema %s", name);
                }
                check_refs(m, schemas);
        }
}

static void lower(char *s)
{
        for (; *s; s++)
                *s = (char)(*s >= 'A' && *s <= 'Z' ? *s + 32 : *s);
}

TEST(http_openapi, says_what_the_route_table_says)
{
        size_t n, operations = 0;
        const struct route *rs = route_table(&n);
        const cJSON *paths;
        struct buf b;
        cJSON *doc;

        buf_init(&b, 0);
        CHECK_INT(openapi_write(&b), 0);
        doc = parse(&b);
        CHECK_STR(str(doc, "openapi"), "3.1.0");
        paths = cJSON_GetObjectItem(doc, "paths");
        for (const cJSON *p = paths->child; p; p = p->next)
                operations += (size_t)cJSON_GetArraySize(p);
        CHECK_INT(operations, n);
        for (size_t i = 0; i < n; i++) {
                char method[8], status[8];
                const cJSON *op, *params;
                size_t braces = 0, in_path = 0;

                snprintf(method, sizeof method, "%s", rs[i].method);
                lower(method);
                op = cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(paths, rs[i].pattern),
                                                      method);
                CHECK(op != NULL);
                CHECK_STR(str(op, "summary"), rs[i].summary);
                CHECK((rs[i].perm == PERM_PUBLIC) == (cJSON_GetObjectItem(op, "security") != NULL));
                if (rs[i].perm != PERM_PUBLIC)
                        CHECK_STR(str(op, "x-permission"), permission_name(rs[i].perm));
                snprintf(status, sizeof status, "%d", rs[i].status);
                CHECK(cJSON_GetObjectItem(cJSON_GetObjectItem(op, "responses"), status) != NULL);
                CHECK(cJSON_GetObjectItem(cJSON_GetObjectItem(op, "responses"), "default") != NULL);
                for (const char *c = rs[i].pattern; *c; c++)
                        braces += *c == '{';
                params = cJSON_GetObjectItem(op, "parameters");
                for (const cJSON *q = params->child; q; q = q->next) {
                        if (strcmp(str(q, "in"), "path") == 0)
                                in_path++;
                        if (strcmp(str(q, "in"), "query") == 0)
                                CHECK(route_takes(&rs[i], str(q, "name")));
                }
                CHECK_INT(in_path, braces);
        }
        check_refs(doc, cJSON_GetObjectItem(cJSON_GetObjectItem(doc, "components"), "schemas"));
        cJSON_Delete(doc);
        buf_fini(&b);
}

TEST(http_docs, every_route_and_permission_is_in_the_guide)
{
        char *text = NULL, want[256];
        struct err e = {0};
        size_t n, len;
        const struct route *rs = route_table(&n);

        if (file_read("docs/API.md", 1 << 20, &text, &len, &e))
                test_fail(__FILE__, __LINE__, "%s", e.msg);
        for (size_t i = 0; i < n; i++) {
                snprintf(want, sizeof want, "`%s %s`", rs[i].method, rs[i].pattern);
                if (!strstr(text, want))
                        test_fail(__FILE__, __LINE__, "docs/API.md does not name %s", want);
        }
        for (int p = PERM_SELF; p < PERM_COUNT; p++) {
                snprintf(want, sizeof want, "`%s`", permission_name((enum permission)p));
                if (!strstr(text, want))
                        test_fail(__FILE__, __LINE__, "docs/API.md does not name %s", want);
        }
        mem_free(text);
}

/* ---- rows ---- */

TEST(http_present, a_run_has_the_promised_members)
{
        struct row_run r = {.id = "r",
                            .workflow = "w \"x\"",
                            .kind = "run",
                            .state = RUN_RUNNING,
                            .inputs = "{\"a\":1}",
                            .created_us = 1000000,
                            .started_us = 2000001};
        struct jsonw w;
        struct buf b;
        cJSON *doc;

        buf_init(&b, 0);
        jw_begin(&w, &b);
        jw_open(&w, NULL, '{');
        present_run(&w, &r, false);
        jw_close(&w, '}');
        CHECK_INT(jw_end(&w), 0);
        doc = parse(&b);
        CHECK_STR(str(doc, "id"), "r");
        CHECK_STR(str(doc, "workflow"), "w \"x\"");
        CHECK_STR(str(doc, "state"), "running");
        CHECK_INT(cJSON_GetObjectItem(cJSON_GetObjectItem(doc, "inputs"), "a")->valueint, 1);
        CHECK_STR(str(doc, "created_at"), "1970-01-01T00:00:01.000000Z");
        CHECK_STR(str(doc, "started_at"), "1970-01-01T00:00:02.000001Z");
        CHECK(cJSON_IsNull(cJSON_GetObjectItem(doc, "finished_at")));
        CHECK(cJSON_IsNull(cJSON_GetObjectItem(doc, "error")));
        cJSON_Delete(doc);
        buf_fini(&b);
}

TEST(http_present, a_step_has_the_promised_members)
{
        struct row_step s = {.id = "build",
                             .tool = "process.exec",
                             .state = STEP_FAILED,
                             .attempt = 2,
                             .agent_name = "a1",
                             .has_exit_code = true,
                             .exit_code = 3,
                             .error_code = "exit_nonzero",
                             .error_message = "no",
                             .outputs = "{\"exit_code\":3}",
                             .started_us = 1,
                             .finished_us = 2,
                             .parent = -1};
        struct jsonw w;
        struct buf b;
        cJSON *doc;

        buf_init(&b, 0);
        jw_begin(&w, &b);
        present_step(&w, NULL, &s, NULL);
        CHECK_INT(jw_end(&w), 0);
        doc = parse(&b);
        CHECK_STR(str(doc, "id"), "build");
        CHECK_STR(str(doc, "tool"), "process.exec");
        CHECK_STR(str(doc, "state"), "failed");
        CHECK_STR(str(doc, "agent"), "a1");
        CHECK_INT(cJSON_GetObjectItem(doc, "attempt")->valueint, 2);
        CHECK_INT(cJSON_GetObjectItem(doc, "exit_code")->valueint, 3);
        CHECK_STR(str(cJSON_GetObjectItem(doc, "error"), "code"), "exit_nonzero");
        CHECK_STR(str(cJSON_GetObjectItem(doc, "error"), "message"), "no");
        CHECK(cJSON_IsArray(cJSON_GetObjectItem(doc, "needs")));
        CHECK(cJSON_IsObject(cJSON_GetObjectItem(doc, "usage")));
        cJSON_Delete(doc);
        s.state = STEP_READY; /* tried again: the old times are not this attempt's */
        buf_reset(&b);
        jw_begin(&w, &b);
        present_step(&w, NULL, &s, NULL);
        doc = parse(&b);
        CHECK(cJSON_IsNull(cJSON_GetObjectItem(doc, "started_at")));
        CHECK(cJSON_IsNull(cJSON_GetObjectItem(doc, "finished_at")));
        cJSON_Delete(doc);
        buf_fini(&b);
}

/* ---- forms ---- */

TEST(http_form, fields)
{
        static const char form[] =
                "a=1&decision=approve&reason=looks+right%21%20%C3%A9&ab=2&empty=&bad=%zz&cut=%4&nul=%00";
        char out[32];

        CHECK_INT(form_field(form, strlen(form), "decision", out, sizeof out), 0);
        CHECK_STR(out, "approve");
        CHECK_INT(form_field(form, strlen(form), "reason", out, sizeof out), 0);
        CHECK_STR(out, "looks right! \xc3\xa9");
        CHECK_INT(form_field(form, strlen(form), "b", out, sizeof out), 0);
        CHECK_STR(out, "");
        CHECK_INT(form_field(form, strlen(form), "ab", out, sizeof out), 0);
        CHECK_STR(out, "2");
        CHECK_INT(form_field(form, strlen(form), "empty", out, sizeof out), 0);
        CHECK_STR(out, "");
        CHECK_INT(form_field(form, strlen(form), "bad", out, sizeof out), -E_INVAL);
        CHECK_INT(form_field(form, strlen(form), "cut", out, sizeof out), -E_INVAL);
        CHECK_INT(form_field(form, strlen(form), "nul", out, sizeof out), -E_INVAL);
        CHECK_INT(form_field(form, strlen(form), "reason", out, 8), -E_INVAL);
        CHECK_INT(form_field(NULL, 0, "a", out, sizeof out), 0);
        CHECK_STR(out, "");
        CHECK_INT(form_field("a=%ff", 5, "a", out, sizeof out), -E_INVAL);
}
