/* Users, services, projects and tokens over the API: who may give what to whom, and what is valid when. */
#include <stdio.h>
#include <string.h>

#include "common/mem.h"
#include "hub/http/router.h"
#include "hub/http/token_use.h"
#include "tests/lib/api_world.h"
#include "tests/lib/test.h"

static struct answer as(struct api_world *w, const char *token, const char *method, const char *path,
                        const char *json)
{
        return ask(w, method, path, json ? "application/json" : NULL, json, json ? strlen(json) : 0, token,
                   NULL);
}

#define EXPECT(a_, status_, code_, says_) expect(__LINE__, (a_), (status_), (code_), (says_))

static void expect(int line, struct answer a, long status, const char *code, const char *says)
{
        if (a.status != status || (code && strcmp(answer_str(&a, "code"), code) != 0) ||
            (says && (!a.body || !strstr(a.body, says))))
                test_fail(__FILE__, line, "expected %ld %s %s, got %ld: %.400s", status, code ? code : "",
                          says ? says : "", a.status, a.body ? a.body : "(nothing)");
        answer_fini(&a);
}

/* As `by`; mem_free. */
static char *token_of(struct api_world *w, const char *by, const char *path, const char *json)
{
        struct answer a = as(w, by, "POST", path, json);
        char *t;

        if (a.status != 201)
                test_fail(__FILE__, __LINE__, "no token: %ld %.300s", a.status, a.body);
        t = mem_strdup(answer_str(&a, "token"));
        answer_fini(&a);
        return t;
}

static struct api_world *start(void)
{
        struct api_world *w = world_start(NULL);

        EXPECT(post(w, "/api/v1/projects", "{\"name\":\"web\",\"title\":\"The web shop\"}"), 201, NULL,
               "\"state\":\"open\"");
        EXPECT(post(w, "/api/v1/projects", "{\"name\":\"ops\"}"), 201, NULL, "\"name\":\"ops\"");
        EXPECT(post(w, "/api/v1/users", "{\"name\":\"ann\",\"email\":\"ann@example.org\"}"), 201, NULL,
               "\"kind\":\"user\"");
        return w;
}

TEST(http_people, a_user_is_what_their_roles_say_at_this_moment)
{
        struct api_world *w = start();
        char *t = token_of(w, NULL, "/api/v1/api-tokens",
                           "{\"name\":\"ann's laptop\",\"role\":\"admin\",\"user\":\"ann\"}");

        EXPECT(as(w, t, "GET", "/api/v1/runs", NULL), 403, "permission_denied",
               "lacks the permission runs.read");
        EXPECT(as(w, NULL, "PUT", "/api/v1/projects/web/members/ann", "{\"role\":\"operator\"}"), 200, NULL,
               "\"role\":\"operator\"");
        EXPECT(as(w, t, "GET", "/api/v1/runs", NULL), 200, NULL, NULL);
        EXPECT(as(w, t, "GET", "/api/v1/whoami", NULL), 200, NULL, "\"projects\":{\"web\":\"operator\"}");
        EXPECT(as(w, t, "GET", "/api/v1/whoami", NULL), 200, NULL, "\"name\":\"ann\"");
        EXPECT(as(w, t, "GET", "/api/v1/runs?project=ops", NULL), 404, "not_found", "ops");
        EXPECT(as(w, t, "POST", "/api/v1/calls?wait=true", "{\"tool\":\"t.ok\"}"), 201, NULL,
               "\"project\":\"web\"");
        /* Disabled: their tokens are as unknown, and come back with them. */
        EXPECT(post(w, "/api/v1/users/ann/disable", "{}"), 200, NULL, "\"state\":\"disabled\"");
        EXPECT(as(w, t, "GET", "/api/v1/runs", NULL), 401, "unauthenticated", NULL);
        EXPECT(post(w, "/api/v1/users/ann/disable", "{}"), 409, NULL, "already");
        EXPECT(post(w, "/api/v1/users/ann/enable", "{}"), 200, NULL, "\"state\":\"active\"");
        EXPECT(as(w, t, "GET", "/api/v1/runs", NULL), 200, NULL, NULL);
        EXPECT(as(w, NULL, "DELETE", "/api/v1/projects/web/members/ann", NULL), 204, NULL, NULL);
        EXPECT(as(w, t, "GET", "/api/v1/runs", NULL), 403, "permission_denied", NULL);
        EXPECT(as(w, NULL, "DELETE", "/api/v1/projects/web/members/ann", NULL), 404, NULL, "no role");
        mem_free(t);
        world_stop(w);
}

TEST(http_people, an_admin_of_one_project_rules_that_one_only)
{
        struct api_world *w = start();
        char *t;

        EXPECT(as(w, NULL, "PUT", "/api/v1/projects/web/members/ann", "{\"role\":\"admin\"}"), 200, NULL,
               NULL);
        EXPECT(post(w, "/api/v1/users", "{\"name\":\"bob\"}"), 201, NULL, NULL);
        t = token_of(w, NULL, "/api/v1/api-tokens", "{\"name\":\"x\",\"role\":\"admin\",\"user\":\"ann\"}");
        EXPECT(as(w, t, "PUT", "/api/v1/projects/web/members/bob", "{\"role\":\"client\"}"), 200, NULL, NULL);
        EXPECT(as(w, t, "GET", "/api/v1/projects/web/members", NULL), 200, NULL, "bob");
        EXPECT(as(w, t, "GET", "/api/v1/projects", NULL), 200, NULL, "\"name\":\"web\"");
        EXPECT(as(w, t, "PUT", "/api/v1/projects/ops/members/bob", "{\"role\":\"client\"}"), 404, NULL,
               "ops");
        EXPECT(as(w, t, "PUT", "/api/v1/projects/*/members/ann", "{\"role\":\"admin\"}"), 403, NULL,
               "roles.manage");
        EXPECT(as(w, t, "POST", "/api/v1/api-tokens",
                  "{\"name\":\"ci\",\"role\":\"client\",\"project\":\"ops\"}"),
               404, NULL, "ops");
        EXPECT(as(w, t, "POST", "/api/v1/api-tokens",
                  "{\"name\":\"ci\",\"role\":\"client\",\"project\":\"*\"}"),
               403, NULL, "api_tokens.manage");
        EXPECT(as(w, t, "POST", "/api/v1/api-tokens", "{\"name\":\"ci\",\"role\":\"client\"}"), 201, NULL,
               "\"project\":\"web\"");
        EXPECT(as(w, t, "POST", "/api/v1/users", "{\"name\":\"eve\"}"), 403, NULL, "users.manage");
        /* A token in bob's name would be bob, to approvals and the audit. */
        EXPECT(as(w, t, "POST", "/api/v1/api-tokens",
                  "{\"name\":\"x\",\"role\":\"client\",\"project\":\"web\",\"user\":\"bob\"}"),
               403, "permission_denied", "users.manage");
        EXPECT(as(w, t, "POST", "/api/v1/api-tokens",
                  "{\"name\":\"x\",\"role\":\"client\",\"project\":\"web\",\"user\":\"ann\"}"),
               201, NULL, NULL);
        EXPECT(as(w, t, "GET", "/api/v1/audit", NULL), 403, NULL, "audit.read");
        EXPECT(as(w, t, "POST", "/api/v1/projects", "{\"name\":\"more\"}"), 403, NULL, "projects.manage");
        mem_free(t);
        world_stop(w);
}

TEST(http_people, tokens_of_other_projects_are_neither_listed_nor_revoked)
{
        struct api_world *w = start();
        struct answer a = post(w, "/api/v1/api-tokens",
                               "{\"name\":\"of-ops\",\"role\":\"client\",\"project\":\"ops\"}");
        char *t = world_make_token_in(w, "admin", "web");
        char path[128];

        CHECK_INT(a.status, 201);
        snprintf(path, sizeof path, "/api/v1/api-tokens/%s", answer_str(&a, "id"));
        answer_fini(&a);
        a = as(w, t, "GET", "/api/v1/api-tokens", NULL);
        CHECK_INT(a.status, 200);
        CHECK(!strstr(a.body, "of-ops"));
        answer_fini(&a);
        EXPECT(as(w, t, "DELETE", path, NULL), 404, "not_found", "there is no API token");
        EXPECT(as(w, NULL, "DELETE", path, NULL), 204, NULL, NULL);
        mem_free(t);
        world_stop(w);
}

/* A token with one scope: that permission's routes, and no others, whatever its role. */
TEST(http_people, each_scope_opens_its_own_routes_only)
{
        struct api_world *w = world_start(NULL);
        size_t n;
        const struct route *rs = route_table(&n);

        for (int p = PERM_SELF + 1; p < PERM_COUNT; p++) {
                char json[160], path[256], *t;

                snprintf(json, sizeof json, "{\"name\":\"s\",\"role\":\"admin\",\"scopes\":[\"%s\"]}",
                         permission_name((enum permission)p));
                t = token_of(w, NULL, "/api/v1/api-tokens", json);
                for (size_t i = 0; i < n; i++) {
                        const struct route *r = &rs[i];
                        bool may = r->perm == (enum permission)p || r->perm == PERM_SELF ||
                                   r->perm == PERM_PUBLIC || r->flags & ROUTE_LOOPBACK;
                        struct answer a;
                        size_t k = 0;

                        for (const char *c = r->pattern; *c && k < sizeof path - 20; c++) {
                                if (*c == '{')
                                        c = strchr(c, '}');
                                path[k++] = *c == '}' ? 'x' : *c;
                        }
                        path[k] = '\0';
                        if (r->flags & ROUTE_STREAM)
                                strcat(path, "?follow=false");
                        a = as(w, t, r->method, path, NULL);
                        if (!a.status || a.status == 401 || (a.status == 403) == may)
                                test_fail(__FILE__, __LINE__, "%s %s with scope %s: %ld %.300s", r->method,
                                          path, permission_name((enum permission)p), a.status, a.body);
                        answer_fini(&a);
                }
                mem_free(t);
        }
        world_stop(w);
}

TEST(http_people, a_token_makes_none_that_may_more_than_itself)
{
        struct api_world *w = start();
        char *limited = token_of(w, NULL, "/api/v1/api-tokens",
                                 "{\"name\":\"minter\",\"role\":\"admin\",\"scopes\":[\"api_tokens.manage\","
                                 "\"runs.read\"],\"ttl\":\"1h\"}");

        EXPECT(as(w, limited, "POST", "/api/v1/api-tokens",
                  "{\"name\":\"x\",\"role\":\"admin\",\"ttl\":\"1m\"}"),
               403, "permission_denied", "scopes");
        EXPECT(as(w, limited, "POST", "/api/v1/api-tokens",
                  "{\"name\":\"x\",\"role\":\"admin\",\"ttl\":\"1m\",\"scopes\":[\"runs.submit\"]}"),
               403, "permission_denied", "runs.submit");
        EXPECT(as(w, limited, "POST", "/api/v1/api-tokens",
                  "{\"name\":\"x\",\"role\":\"admin\",\"scopes\":[\"runs.read\"]}"),
               403, "permission_denied", "expires");
        EXPECT(as(w, limited, "POST", "/api/v1/api-tokens",
                  "{\"name\":\"x\",\"role\":\"admin\",\"ttl\":\"2h\",\"scopes\":[\"runs.read\"]}"),
               403, "permission_denied", "expires");
        EXPECT(as(w, limited, "POST", "/api/v1/api-tokens",
                  "{\"name\":\"x\",\"role\":\"admin\",\"ttl\":\"1m\",\"scopes\":[\"runs.read\"]}"),
               201, NULL, "\"scopes\":[\"runs.read\"]");
        EXPECT(post(w, "/api/v1/api-tokens", "{\"name\":\"x\",\"role\":\"admin\",\"scopes\":[\"no.such\"]}"),
               400, "invalid_argument", "no.such");
        EXPECT(post(w, "/api/v1/api-tokens", "{\"name\":\"x\",\"role\":\"admin\",\"scopes\":[]}"), 201, NULL,
               "\"scopes\":[]");
        EXPECT(post(w, "/api/v1/api-tokens",
                    "{\"name\":\"x\",\"role\":\"client\",\"scopes\":[\"runs.read\",\"runs.read\"]}"),
               201, NULL, "\"scopes\":[\"runs.read\"]");
        EXPECT(post(w, "/api/v1/api-tokens", "{\"name\":\"x\",\"role\":\"client\",\"project\":\"none\"}"),
               404, "not_found", "none");
        mem_free(limited);
        world_stop(w);
}

TEST(http_people, ones_own_tokens)
{
        struct api_world *w = start();
        char *t, *own;
        struct answer a;
        char path[128];

        EXPECT(as(w, NULL, "POST", "/api/v1/self/api-tokens", "{\"name\":\"x\",\"role\":\"admin\"}"), 409,
               "no_user", NULL);
        EXPECT(as(w, NULL, "PUT", "/api/v1/projects/web/members/ann", "{\"role\":\"operator\"}"), 200, NULL,
               NULL);
        t = token_of(w, NULL, "/api/v1/api-tokens", "{\"name\":\"x\",\"role\":\"admin\",\"user\":\"ann\"}");
        EXPECT(as(w, t, "POST", "/api/v1/self/api-tokens", "{\"name\":\"more\",\"role\":\"admin\"}"), 403,
               NULL, "not the role admin");
        EXPECT(as(w, t, "POST", "/api/v1/self/api-tokens",
                  "{\"name\":\"more\",\"role\":\"client\",\"user\":\"ann\"}"),
               400, NULL, "user");
        for (int i = 0; i < 2; i++) { /* one that is there and one that is not read the same */
                char json[96], says[96];

                snprintf(json, sizeof json, "{\"name\":\"more\",\"role\":\"client\",\"project\":\"%s\"}",
                         i ? "ops" : "none");
                snprintf(says, sizeof says, "there is no project '%s', or you have no role in it",
                         i ? "ops" : "none");
                EXPECT(as(w, t, "POST", "/api/v1/self/api-tokens", json), 404, "not_found", says);
        }
        own = token_of(w, t, "/api/v1/self/api-tokens", "{\"name\":\"script\",\"role\":\"client\"}");
        EXPECT(as(w, own, "GET", "/api/v1/whoami", NULL), 200, NULL, "\"projects\":{\"web\":\"client\"}");
        EXPECT(as(w, own, "GET", "/api/v1/whoami", NULL), 200, NULL, "\"name\":\"ann\"");
        a = as(w, own, "GET", "/api/v1/self/api-tokens", NULL);
        CHECK(strstr(a.body, "\"name\":\"script\"") && strstr(a.body, "\"user\":\"ann\"") &&
              !strstr(a.body, "\"name\":\"admin\""));
        answer_fini(&a);
        a = as(w, own, "GET", "/api/v1/whoami", NULL);
        snprintf(path, sizeof path, "/api/v1/self/api-tokens/%s", answer_str(&a, "token_id"));
        answer_fini(&a);
        EXPECT(as(w, own, "DELETE", path, NULL), 204, NULL, NULL);
        EXPECT(as(w, own, "GET", "/api/v1/whoami", NULL), 401, NULL, NULL);
        /* Not with somebody else's: the admin's is no user's. */
        a = get(w, "/api/v1/whoami");
        snprintf(path, sizeof path, "/api/v1/self/api-tokens/%s", answer_str(&a, "token_id"));
        answer_fini(&a);
        EXPECT(as(w, t, "DELETE", path, NULL), 404, NULL, NULL);
        mem_free(own);
        mem_free(t);
        world_stop(w);
}

/* mem_free */
static char *last_use(struct api_world *w, const char *name)
{
        struct answer a = get(w, "/api/v1/api-tokens");
        char key[64], *out = NULL;
        const char *at;

        snprintf(key, sizeof key, "\"name\":\"%s\"", name);
        at = a.body ? strstr(a.body, key) : NULL;
        at = at ? strstr(at, "\"last_used_at\":") : NULL;
        if (at)
                out = mem_strndup(at + 15, strcspn(at + 15, ",}"));
        answer_fini(&a);
        return out;
}

TEST(http_people, a_token_shows_when_it_was_used_and_is_written_once_a_minute)
{
        struct api_world *w = start();
        const int64_t minute = TOKEN_USE_EVERY_US;
        char *t, *never, *first, *second;

        CHECK(token_use_due(0, minute) && !token_use_due(minute, minute));
        CHECK(!token_use_due(minute, 2 * minute - 1) && token_use_due(minute, 2 * minute));
        CHECK(token_use_due(5 * minute, minute)); /* the clock was set back */
        t = token_of(w, NULL, "/api/v1/api-tokens", "{\"name\":\"ci\",\"role\":\"client\"}");
        never = last_use(w, "ci");
        EXPECT(as(w, t, "GET", "/api/v1/whoami", NULL), 200, NULL, NULL);
        /* What is acknowledged comes after it: then it is on disk. And no thread remembers the token any
         * more. */
        EXPECT(post(w, "/api/v1/users/ann/disable", "{}"), 200, NULL, NULL);
        first = last_use(w, "ci");
        EXPECT(as(w, t, "GET", "/api/v1/whoami", NULL), 200, NULL, NULL);
        EXPECT(post(w, "/api/v1/users/ann/enable", "{}"), 200, NULL, NULL);
        second = last_use(w, "ci");
        CHECK_STR(never, "null");
        CHECK(first && strncmp(first, "\"20", 3) == 0);
        CHECK_STR(second, first);
        mem_free(never);
        mem_free(first);
        mem_free(second);
        mem_free(t);
        world_stop(w);
}

TEST(http_people, a_user_who_is_deleted_is_gone_and_nobody_else_becomes_them)
{
        struct api_world *w = start();
        char *t = token_of(w, NULL, "/api/v1/api-tokens",
                           "{\"name\":\"x\",\"role\":\"admin\",\"user\":\"ann\"}");

        EXPECT(as(w, NULL, "PUT", "/api/v1/projects/web/members/ann", "{\"role\":\"client\"}"), 200, NULL,
               NULL);
        EXPECT(as(w, t, "GET", "/api/v1/runs", NULL), 200, NULL, NULL);
        EXPECT(as(w, t, "DELETE", "/api/v1/users/ann", NULL), 403, "permission_denied", "users.manage");
        EXPECT(as(w, NULL, "DELETE", "/api/v1/users/nobody", NULL), 404, "not_found", "nobody");
        EXPECT(as(w, NULL, "DELETE", "/api/v1/users/ann", NULL), 204, NULL, NULL);
        EXPECT(as(w, t, "GET", "/api/v1/runs", NULL), 401, "unauthenticated", NULL);
        EXPECT(get(w, "/api/v1/users/ann"), 404, "not_found", "ann");
        EXPECT(get(w, "/api/v1/users"), 200, NULL, "\"items\":[]");
        EXPECT(get(w, "/api/v1/projects/web/members"), 200, NULL, "\"items\":[]");
        EXPECT(get(w, "/api/v1/api-tokens"), 200, NULL,
               "\"user\":\"ann\",\"kind\":\"token\",\"state\":\"disabled\"");
        EXPECT(post(w, "/api/v1/users/ann/enable", "{}"), 404, "not_found", NULL);
        EXPECT(as(w, NULL, "DELETE", "/api/v1/users/ann", NULL), 404, "not_found", NULL);
        EXPECT(as(w, NULL, "PUT", "/api/v1/projects/web/members/ann", "{\"role\":\"client\"}"), 404, NULL,
               NULL);
        EXPECT(post(w, "/api/v1/users", "{\"name\":\"ann\"}"), 409, "already_exists", "deleted");
        EXPECT(post(w, "/api/v1/api-tokens", "{\"name\":\"ann\",\"role\":\"client\"}"), 409, "already_exists",
               "was a user");
        EXPECT(post(w, "/api/v1/api-tokens", "{\"name\":\"y\",\"role\":\"client\",\"user\":\"ann\"}"), 404,
               NULL, "ann");
        EXPECT(get(w, "/api/v1/audit?action=user.delete"), 200, NULL, "\"object\":\"ann\"");
        mem_free(t);
        world_stop(w);
}

TEST(http_people, the_last_who_rules_the_hub_stays)
{
        struct api_world *w = start();
        struct answer a = get(w, "/api/v1/whoami");
        char first[128], anns[128], *t;

        snprintf(first, sizeof first, "/api/v1/api-tokens/%s", answer_str(&a, "token_id"));
        answer_fini(&a);
        EXPECT(as(w, NULL, "DELETE", first, NULL), 409, "last_admin", "nobody could rule");
        EXPECT(as(w, NULL, "PUT", "/api/v1/projects/*/members/ann", "{\"role\":\"admin\"}"), 200, NULL, NULL);
        /* Without a token ann cannot get in; nor does one count that is bound, limited, over or less. */
        EXPECT(post(w, "/api/v1/api-tokens",
                    "{\"name\":\"1\",\"role\":\"admin\",\"user\":\"ann\",\"project\":\"web\"}"),
               201, NULL, NULL);
        EXPECT(post(w, "/api/v1/api-tokens",
                    "{\"name\":\"2\",\"role\":\"admin\",\"user\":\"ann\",\"scopes\":[\"runs.read\"]}"),
               201, NULL, NULL);
        EXPECT(post(w, "/api/v1/api-tokens",
                    "{\"name\":\"3\",\"role\":\"admin\",\"user\":\"ann\",\"ttl\":\"1ms\"}"),
               201, NULL, NULL);
        EXPECT(post(w, "/api/v1/api-tokens", "{\"name\":\"4\",\"role\":\"operator\",\"user\":\"ann\"}"), 201,
               NULL, NULL);
        EXPECT(as(w, NULL, "DELETE", first, NULL), 409, "last_admin", NULL);
        t = token_of(w, NULL, "/api/v1/api-tokens", "{\"name\":\"5\",\"role\":\"admin\",\"user\":\"ann\"}");
        a = as(w, t, "GET", "/api/v1/whoami", NULL);
        snprintf(anns, sizeof anns, "/api/v1/self/api-tokens/%s", answer_str(&a, "token_id"));
        answer_fini(&a);
        EXPECT(as(w, t, "DELETE", first, NULL), 204, NULL, NULL);
        /* Now it is ann: none of her roads out is open. */
        EXPECT(as(w, t, "DELETE", anns, NULL), 409, "last_admin", NULL);
        EXPECT(as(w, t, "POST", "/api/v1/users/ann/disable", "{}"), 409, "last_admin", NULL);
        EXPECT(as(w, t, "DELETE", "/api/v1/users/ann", NULL), 409, "last_admin", NULL);
        EXPECT(as(w, t, "PUT", "/api/v1/projects/*/members/ann", "{\"role\":\"operator\"}"), 409,
               "last_admin", NULL);
        EXPECT(as(w, t, "DELETE", "/api/v1/projects/*/members/ann", NULL), 409, "last_admin", NULL);
        EXPECT(as(w, t, "PUT", "/api/v1/projects/*/members/ann", "{\"role\":\"admin\"}"), 200, NULL, NULL);
        EXPECT(as(w, t, "POST", "/api/v1/api-tokens", "{\"name\":\"spare\",\"role\":\"admin\"}"), 201, NULL,
               NULL);
        EXPECT(as(w, t, "DELETE", "/api/v1/users/ann", NULL), 204, NULL, NULL);
        mem_free(t);
        world_stop(w);
}

TEST(http_people, nobody_goes_by_the_name_of_another)
{
        static const char *const others[] = {"hub",        "init",      "stranger",   "Hub",
                                             " ann",       "ann ",      "a\\u202enn", "a\\u200bnn",
                                             "\\ufeffann", "a\\u0085b", "a\\u2066b"};
        static const char *const paths[] = {".", "..", "-x", "a/b"};
        struct api_world *w = start();

        EXPECT(post(w, "/api/v1/users", "{\"name\":\"ann\"}"), 409, "already_exists", "ann");
        EXPECT(post(w, "/api/v1/users", "{\"name\":\"admin\"}"), 409, "already_exists", "API token");
        EXPECT(post(w, "/api/v1/api-tokens", "{\"name\":\"ann\",\"role\":\"client\"}"), 409, "already_exists",
               "user");
        EXPECT(post(w, "/api/v1/users", "{\"name\":\"hub\"}"), 400, "invalid_argument", "hub");
        EXPECT(post(w, "/api/v1/users", "{\"name\":\"\"}"), 400, "invalid_argument", NULL);
        EXPECT(post(w, "/api/v1/users", "{\"name\":\"a/b\"}"), 400, "invalid_argument", NULL);
        EXPECT(post(w, "/api/v1/users", "{\"name\":\"a\",\"kind\":\"god\"}"), 400, "invalid_argument",
               "service");
        EXPECT(post(w, "/api/v1/users", "{\"name\":\"a\",\"email\":\"nowhere\"}"), 400, "invalid_argument",
               "address");
        EXPECT(post(w, "/api/v1/users", "{\"name\":\"bot\",\"kind\":\"service\"}"), 201, NULL,
               "\"kind\":\"service\"");
        EXPECT(get(w, "/api/v1/users"), 200, NULL, "\"name\":\"bot\"");
        /* Nor by a name that the audit has for others, or that looks like one. */
        for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
                char json[128];

                snprintf(json, sizeof json, "{\"name\":\"%s\",\"role\":\"client\"}", others[i]);
                EXPECT(post(w, "/api/v1/api-tokens", json), 400, "invalid_argument", "name");
                snprintf(json, sizeof json, "{\"name\":\"%s\"}", others[i]);
                EXPECT(post(w, "/api/v1/users", json), 400, "invalid_argument", "name");
        }
        for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
                char json[128];

                snprintf(json, sizeof json, "{\"name\":\"%s\"}", paths[i]);
                EXPECT(post(w, "/api/v1/users", json), 400, "invalid_argument", "name");
        }
        EXPECT(post(w, "/api/v1/users", "{\"name\":\"Zo\u00eb \u738b\"}"), 201, NULL, NULL);
        EXPECT(get(w, "/api/v1/users/nobody"), 404, NULL, "nobody");
        world_stop(w);
}

TEST(http_people, an_archived_project_takes_no_new_work)
{
        struct api_world *w = start();

        EXPECT(post(w, "/api/v1/projects/web/archive", "{}"), 200, NULL, "\"state\":\"archived\"");
        EXPECT(post(w, "/api/v1/calls?project=web", "{\"tool\":\"t.ok\"}"), 409, "project_archived", "web");
        EXPECT(get(w, "/api/v1/runs?project=web"), 200, NULL, NULL);
        EXPECT(post(w, "/api/v1/projects/web/unarchive", "{}"), 200, NULL, "\"state\":\"open\"");
        EXPECT(post(w, "/api/v1/calls?project=web", "{\"tool\":\"t.ok\"}"), 201, NULL, NULL);
        EXPECT(post(w, "/api/v1/projects/default/archive", "{}"), 409, NULL, "always");
        EXPECT(post(w, "/api/v1/projects/none/archive", "{}"), 404, NULL, "none");
        EXPECT(post(w, "/api/v1/projects", "{\"name\":\"web\"}"), 409, "already_exists", NULL);
        EXPECT(post(w, "/api/v1/projects", "{\"name\":\"*\"}"), 400, "invalid_argument", NULL);
        EXPECT(post(w, "/api/v1/calls?project=none", "{\"tool\":\"t.ok\"}"), 404, "not_found", "none");
        EXPECT(as(w, NULL, "PUT", "/api/v1/projects/none/members/ann", "{\"role\":\"client\"}"), 404, NULL,
               "none");
        EXPECT(as(w, NULL, "PUT", "/api/v1/projects/web/members/nobody", "{\"role\":\"client\"}"), 404, NULL,
               "nobody");
        EXPECT(as(w, NULL, "PUT", "/api/v1/projects/web/members/ann", "{\"role\":\"god\"}"), 400, NULL,
               "admin");
        world_stop(w);
}

TEST(http_people, every_change_is_in_the_audit)
{
        static const char *const actions[] = {"user.create",     "user.disable",   "role.give",
                                              "role.take",       "project.create", "project.archive",
                                              "api_token.create"};
        struct api_world *w = start();
        struct answer a;

        EXPECT(as(w, NULL, "PUT", "/api/v1/projects/web/members/ann", "{\"role\":\"client\"}"), 200, NULL,
               NULL);
        EXPECT(as(w, NULL, "DELETE", "/api/v1/projects/web/members/ann", NULL), 204, NULL, NULL);
        EXPECT(post(w, "/api/v1/users/ann/disable", "{}"), 200, NULL, NULL);
        EXPECT(post(w, "/api/v1/projects/web/archive", "{}"), 200, NULL, NULL);
        a = get(w, "/api/v1/audit?limit=100");
        CHECK_INT(a.status, 200);
        for (size_t i = 0; i < sizeof actions / sizeof *actions; i++)
                if (!strstr(a.body, actions[i]))
                        test_fail(__FILE__, __LINE__, "no %s in %.1500s", actions[i], a.body);
        answer_fini(&a);
        world_stop(w);
}
