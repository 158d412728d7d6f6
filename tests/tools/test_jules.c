/* jules.session against a scripted server. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/tools/models.h"
#include "common/err.h"
#include "tests/lib/test.h"
#include "tests/tools/llm_world.h"

#define JULES "jules.session"
#define TASK                                                                                                 \
        "{\"prompt\":\"Fix it\",\"source\":\"acme/shop\",\"title\":\"T\",\"create_pull_request\":true,"      \
        "\"poll\":\"10ms\"}"
#define SESSION(state)                                                                                       \
        "{\"name\":\"sessions/42\",\"id\":\"42\",\"url\":\"http://j/42\",\"state\":\"" state "\"}"
#define PLAN                                                                                                 \
        "{\"id\":\"1\",\"planGenerated\":{\"plan\":{\"steps\":[{\"title\":\"Look\"},{\"title\":\"Change\"}]" \
        "}}}"
#define ASKS "{\"id\":\"2\",\"agentMessaged\":{\"agentMessage\":\"Which colour?\"}}"
#define WORK                                                                                                 \
        "{\"id\":\"3\",\"progressUpdated\":{\"title\":\"Painted\",\"description\":\"the door\"},"            \
        "\"artifacts\":[{\"bashOutput\":{\"command\":\"make\",\"output\":\"no\\n\",\"exitCode\":2}},"        \
        "{\"changeSet\":{\"gitPatch\":{\"unidiffPatch\":\"--- a\\n+++ b\\n\",\"suggestedCommitMessage\":"    \
        "\"Paint\"}}}]}"

static void setup(struct world *w, const struct stub_reply *script, size_t n)
{
        char text[300];
        struct err e = {0};

        fake_init(&w->f, NULL);
        stub_open(&w->s, &w->f.loop, script, n);
        setenv("JULES_API_KEY", KEY, 1);
        snprintf(text, sizeof text,
                 "models: [{name: j, kind: jules, base_url: 'http://127.0.0.1:%d/v1alpha'}]", w->s.port);
        CHECK_INT(models_parse(text, strlen(text), "x", &e), 0);
}

static struct stub_reply one(int status, const char *body)
{
        static const char *pool[200][2]; /* a body, and the end of the list */
        static size_t used;

        CHECK(used < sizeof pool / sizeof *pool);
        pool[used][0] = body;
        return (struct stub_reply){.status = status, .pieces = pool[used++]};
}

TEST(jules, a_session_is_followed_approved_answered_to_its_end)
{
        struct world w;
        cJSON *words = cJSON_Parse("{\"message\":\"Green\"}");
        struct tool_decision yes = {.outcome = ASK_ALLOWED};
        struct stub_reply script[] = {
                one(200, SESSION("QUEUED")),
                one(503, "busy"), /* passes by itself */
                one(200, SESSION("PLANNING")),
                one(200, "{}"),
                one(200, SESSION("AWAITING_PLAN_APPROVAL")),
                one(200, "{\"activities\":[" PLAN "]}"),
                one(200, "{}"),
                one(200, SESSION("AWAITING_USER_FEEDBACK")),
                one(200, "{\"activities\":[" PLAN "," ASKS "]}"),
                one(200, "{}"),
                one(200,
                    "{\"name\":\"sessions/42\",\"state\":\"COMPLETED\",\"url\":\"http://j/42\",\"outputs\":[{"
                    "\"pullRequest\":{\"url\":\"http://g/7\"}}]}"),
                one(200, "{\"activities\":[" PLAN "," ASKS "],\"nextPageToken\":\"p=2 &\"}"),
                one(200, "{\"activities\":[" WORK
                         ",{\"id\":\"4\",\"agentMessaged\":{\"agentMessage\":\"Done.\"}}]}"),
        };

        setup(&w, script, sizeof script / sizeof *script);
        w.f.hold = true;
        fake_start(&w.f, JULES, TASK);
        while (!w.f.finished && w.f.asked < 1)
                uv_run(&w.f.loop, UV_RUN_ONCE);
        CHECK_STR(w.f.code, "");
        fake_answer(&w.f, &yes);
        while (!w.f.finished && w.f.asked < 2)
                uv_run(&w.f.loop, UV_RUN_ONCE);
        CHECK_STR(w.f.code, "");
        yes.content = words;
        fake_answer(&w.f, &yes);
        fake_run(&w.f);
        CHECK_STR(w.f.code, "");
        CHECK_STR(fake_text(&w.f, "session"), "42");
        CHECK_STR(fake_text(&w.f, "state"), "COMPLETED");
        CHECK_STR(fake_text(&w.f, "text"), "Done.");
        CHECK_STR(fake_text(&w.f, "patch"), "--- a\n+++ b\n");
        CHECK_STR(fake_text(&w.f, "pull_request"), "http://g/7");
        CHECK_INT(fake_number(&w.f, "activities"), 4);
        CHECK(stdout_is(&w, "Which colour?\nDone.\n"));
        CHECK(told(&w, "\"type\":\"plan\",\"entries\":[{\"text\":\"Look\""));
        CHECK(told(&w, "\"kind\":\"execute\",\"name\":\"bash\",\"title\":\"make\",\"status\":\"failed\""));
        CHECK(told(&w, "\"title\":\"Paint\""));
        CHECK(told(&w, "Painted: the door"));
        CHECK(asked(&w, 0, "POST /v1alpha/sessions HTTP"));
        CHECK(asked(&w, 0, "X-Goog-Api-Key: " KEY "\r\n"));
        CHECK_STR(stub_body(&w.s, 0),
                  "{\"prompt\":\"Fix "
                  "it\",\"title\":\"T\",\"sourceContext\":{\"source\":\"sources/github/acme/shop\","
                  "\"githubRepoContext\":{\"startingBranch\":\"main\"}},\"requirePlanApproval\":true,"
                  "\"automationMode\":\"AUTO_CREATE_PR\"}");
        CHECK(asked(&w, 6, "POST /v1alpha/sessions/42:approvePlan "));
        CHECK(asked(&w, 9, "POST /v1alpha/sessions/42:sendMessage "));
        CHECK_STR(stub_body(&w.s, 9), "{\"prompt\":\"Green\"}");
        CHECK(asked(&w, 12, "pageToken=p%3D2%20%26 "));
        cJSON_Delete(words);
        finish(&w);
}

TEST(jules, what_goes_wrong_has_its_code)
{
        static const struct {
                const char *code, *says, *input;
                int status;
                const char *first, *second, *third;
                enum ask_outcome answer;
        } cases[] = {
                {"auth_failed", "401", TASK, 401, "{\"error\":{\"message\":\"no\"}}", "", "", ASK_DENIED},
                {"bad_request", "sorry", TASK, 400, "{\"error\":{\"message\":\"sorry\"}}", "", "",
                 ASK_DENIED},
                {"server_error", "500", TASK, 500, "x", "", "", ASK_DENIED}, /* a creation is not repeated */
                {"bad_answer", "no JSON", TASK, 200, "<html>", "", "", ASK_DENIED},
                {"bad_answer", "did not say which", TASK, 200, "{}", "", "", ASK_DENIED},
                {"bad_answer", "did not say which", TASK, 200, "{\"name\":\"sessions/../x\"}", "", "",
                 ASK_DENIED},
                {"session_failed", "gave up", TASK, 200, SESSION("QUEUED"), SESSION("FAILED"), "{}",
                 ASK_DENIED},
                {"session_failed", "no disk", TASK, 200, SESSION("QUEUED"), SESSION("FAILED"),
                 "{\"activities\":[{\"sessionFailed\":{\"reason\":\"no disk\"}}]}", ASK_DENIED},
                {"permission_refused", "not approved", TASK, 200, SESSION("QUEUED"),
                 SESSION("AWAITING_PLAN_APPROVAL"), "{}", ASK_DENIED},
                {"question_expired", "in time", TASK, 200, SESSION("QUEUED"),
                 SESSION("AWAITING_USER_FEEDBACK"), "{}", ASK_EXPIRED},
                {"unknown_session", "404", "{\"session\":\"42\"}", 404, "{}", "", "", ASK_DENIED},
        };

        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
                struct stub_reply script[] = {one(cases[i].status, cases[i].first), one(200, cases[i].second),
                                              one(200, cases[i].third)};
                struct world w;

                setup(&w, script, 3);
                w.f.decision = (struct tool_decision){.outcome = cases[i].answer, .reason = "", .by = "ada"};
                fake_call(&w.f, JULES, cases[i].input);
                if (strcmp(w.f.code, cases[i].code) != 0 || !strstr(w.f.msg, cases[i].says))
                        test_fail(__FILE__, __LINE__, "case %zu: %s (%s), expected %s", i, w.f.code, w.f.msg,
                                  cases[i].code);
                CHECK(!strstr(w.f.msg, KEY));
                finish(&w);
        }
}

/* Retry-After: a day is no time to sit and wait in a call. */
TEST(jules, one_that_wants_to_be_left_alone_for_long_is_told_of)
{
        struct stub_reply script[] = {one(429, "{}")};
        struct world w;

        script[0].headers = "Retry-After: 86000\r\n";
        setup(&w, script, 1);
        fake_start(&w.f, JULES, TASK);
        fake_run_for(&w.f, 20000);
        CHECK(w.f.finished);
        CHECK_STR(w.f.code, "rate_limited");
        CHECK(strstr(w.f.msg, "asked again after"));
        CHECK_INT((long long)w.s.n_requests, 1);
        finish(&w);
}

TEST(jules, input_key_and_cancel)
{
        struct stub_reply script[] = {one(200, SESSION("IN_PROGRESS")), one(200, SESSION("IN_PROGRESS")),
                                      one(200, "{}")};
        struct world w;

        setup(&w, script, 3);
        fake_call(&w.f, JULES, "{\"prompt\":\"x\"}");
        CHECK(w.f.outcome == TOOL_REFUSED && strstr(w.f.msg, "source"));
        fake_call(&w.f, JULES, "{\"session\":\"a/../b\"}");
        CHECK(w.f.outcome == TOOL_REFUSED && strstr(w.f.msg, "not the name"));
        fake_call(&w.f, JULES, "{\"source\":\"a/b\"}");
        CHECK(w.f.outcome == TOOL_REFUSED && strstr(w.f.msg, "prompt"));
        unsetenv("JULES_API_KEY");
        fake_call(&w.f, JULES, TASK);
        CHECK_STR(w.f.code, "key_missing");
        CHECK_INT((long long)w.s.n_requests, 0);
        setenv("JULES_API_KEY", KEY, 1);
        /* An old session is taken up; then nobody wants to know any more. */
        fake_start(&w.f, JULES, "{\"session\":\"42\",\"poll\":\"1h\"}");
        for (int turn = 0; turn < 100000 && w.s.n_requests < 2; turn++)
                uv_run(&w.f.loop, UV_RUN_ONCE);
        CHECK(asked(&w, 0, "GET /v1alpha/sessions/42 "));
        CHECK(asked(&w, 1, "GET /v1alpha/sessions/42/activities"));
        fake_cancel(&w.f, 0);
        fake_run_for(&w.f, 5000);
        CHECK_STR(w.f.code, "cancelled");
        CHECK_STR(fake_text(&w.f, "session"), "42");
        finish(&w);
}
