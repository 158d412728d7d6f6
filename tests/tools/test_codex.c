/* codex.prompt against the stand-in for `codex app-server` (tests/peers/fake_codex.py). */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/tools/ai_json.h"
#include "agent/tools/codex_in.h"
#include "common/err.h"
#include "common/json.h"
#include "common/mem.h"
#include "tests/lib/test.h"
#include "tests/tools/stand_in.h"

#define TOOL  "codex.prompt"
#define WRITE "[[tool: write {\"path\":\"a.txt\",\"content\":\"hi\"}]]"

static void init(struct fake *f, const char *policy)
{
        stand_in_init(f, policy, "codex", "fake_codex.py");
        setenv("OPENAI_API_KEY", "sk-fake", 1);
}

static void call(struct fake *f, const char *prompt, const char *more)
{
        stand_in_call(f, TOOL, prompt, more);
}

static void says_that_it_failed(struct fake *f, const char *code, const char *words)
{
        CHECK_INT(f->outcome, TOOL_FAILED);
        CHECK_STR(f->code, code);
        if (!strstr(f->msg, words))
                test_fail(__FILE__, __LINE__, "\"%s\" is not in: %s", words, f->msg);
}

TEST(codex, its_words_stream_and_are_told_once)
{
        struct fake f;

        init(&f, NULL);
        call(&f,
             "[[think: let me see]] [[text: Hello, this is a longer answer.]] [[plan: one; two]] [[usage: "
             "500 20 100]]",
             "");
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        CHECK_STR(fake_text(&f, "text"), "Hello, this is a longer answer.");
        CHECK_INT(f.out.len, strlen("Hello, this is a longer answer."));
        CHECK(stand_in_events(&f, "text", "") > 1);
        CHECK(stand_in_events(&f, "thought", "let me see") == 1);
        CHECK(stand_in_events(&f, "plan", "\"status\":\"completed\"") == 1);
        CHECK_STR(fake_text(&f, "stop_reason"), "completed");
        CHECK(strstr(stand_in_json(&f, "usage"), "\"input_tokens\":400"));
        CHECK(strstr(stand_in_json(&f, "usage"), "\"cache_read_tokens\":100"));
        fake_fini(&f);
}

TEST(codex, a_change_is_asked_for_with_what_it_is_about)
{
        struct fake f;
        char path[600];

        init(&f, NULL);
        call(&f, WRITE, "");
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        CHECK_INT(f.asked, 1);
        CHECK_STR(f.question.action, "edit");
        snprintf(path, sizeof path, "%s/work/a.txt", f.home);
        CHECK_STR(f.question.paths, path);
        CHECK(strstr(f.question.arguments, "\"diff\":\"hi\""));
        CHECK_STR(fake_get(&f, "work/a.txt"), "hi");
        CHECK_STR(stand_in_json(&f, "files_changed"), "[{\"path\":\"a.txt\",\"change\":\"added\"}]");
        CHECK(stand_in_events(&f, "tool", "\"new_text\":\"hi\"") >= 1);
        fake_fini(&f);
}

TEST(codex, a_command_is_asked_for_and_a_no_does_not_end_the_turn)
{
        struct fake f;

        init(&f, NULL);
        call(&f,
             "[[tool: exec_command {\"cmd\":\"/bin/bash -lc 'echo hi > b.txt'\"}]] [[next]] [[text: and on]]",
             "");
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        CHECK_STR(f.question.action, "execute");
        CHECK_STR(f.question.command, "echo hi > b.txt");
        CHECK_STR(fake_get(&f, "work/b.txt"), "hi\n");
        fake_fini(&f);

        init(&f, NULL);
        f.decision = (struct tool_decision){.outcome = ASK_DENIED, .by = "eve", .reason = ""};
        call(&f, "[[tool: exec_command {\"cmd\":\"echo hi > c.txt\"}]] [[next]] [[text: and on]]", "");
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        CHECK(!fake_get(&f, "work/c.txt"));
        CHECK(strstr(fake_text(&f, "text"), "and on"));
        CHECK(fake_number(&f, "permissions_denied") == 1);
        CHECK(stand_in_events(&f, "tool", "\"status\":\"failed\"") == 1);
        fake_fini(&f);
}

TEST(codex, what_its_stream_hides_is_seen_in_the_folder)
{
        struct fake f;

        init(&f, NULL);
        call(&f, "[[hidden: echo x > secret.txt]] [[text: nothing was done]]", "");
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        CHECK_INT(stand_in_events(&f, "tool", ""), 0);
        CHECK_STR(stand_in_json(&f, "files_changed"), "[{\"path\":\"secret.txt\",\"change\":\"added\"}]");
        fake_fini(&f);
}

TEST(codex, ids_may_be_texts_and_questions_come_twice)
{
        struct fake f;

        init(&f, NULL);
        call(&f, WRITE " [[ask-id: \"x\"]]", "");
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        fake_fini(&f);
        init(&f, NULL);
        call(&f, WRITE " [[ask-twice]]", "");
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        CHECK_INT(f.asked, 2);
        fake_fini(&f);
}

TEST(codex, a_session_goes_on_and_counts_for_itself_only)
{
        struct fake f;
        char more[4096];

        init(&f, NULL);
        call(&f, "[[usage: 1000 50 0]]", "");
        CHECK(strstr(stand_in_json(&f, "usage"), "\"input_tokens\":1000"));
        snprintf(more, sizeof more, ",\"session\":\"%s\"", fake_text(&f, "session"));
        fake_fini(&f);

        init(&f, NULL);
        call(&f, "[[usage: 300 20 0]]", more);
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        CHECK(strstr(stand_in_json(&f, "usage"),
                     "\"input_tokens\":300,\"output_tokens\":20")); /* it said 1300 */
        fake_fini(&f);

        init(&f, NULL);
        call(&f, "x", ",\"session\":\"11111111-2222-4333-8444-555555555555\"");
        says_that_it_failed(&f, "session_unknown", "no rollout found");
        fake_fini(&f);
}

TEST(codex, failures_of_the_api_have_their_codes)
{
        static const struct {
                const char *prompt, *code;
        } t[] = {{"[[status: 401]]", "auth_failed"},    {"[[status: 429]]", "rate_limited"},
                 {"[[status: 529]]", "overloaded"},     {"[[status: 404]]", "unknown_model"},
                 {"[[status: 400]]", "bad_request"},    {"[[status: 500]]", "server_error"},
                 {"[[error: it broke]]", "agent_error"}};
        struct fake f;

        for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
                init(&f, NULL);
                call(&f, t[i].prompt, "");
                says_that_it_failed(&f, t[i].code, "Codex: ");
                fake_fini(&f);
        }
        init(&f, NULL);
        unsetenv("OPENAI_API_KEY");
        call(&f, "x", "");
        says_that_it_failed(&f, "not_logged_in", "codex login");
        fake_fini(&f);
}

TEST(codex, limits_end_the_turn_or_are_not_taken)
{
        struct fake f;

        init(&f, NULL);
        call(&f, "[[usage: 900 200 0]] [[next]] [[hang]]", ",\"limits\":{\"tokens\":1000}");
        says_that_it_failed(&f, "token_limit", "limits.tokens");
        fake_fini(&f);
        init(&f, NULL);
        call(&f, "x", ",\"limits\":{\"cost_usd\":1}");
        CHECK_INT(f.outcome, TOOL_REFUSED);
        CHECK(strstr(f.msg, "limits.tokens"));
        fake_fini(&f);
}

TEST(codex, broken_streams_have_their_codes)
{
        static const struct {
                const char *prompt, *code, *words;
        } t[] = {
                {"[[text: a]] [[exit: 3]]", "stream_ended", "exit status 3"},
                {"[[text: a]] [[die]]", "stream_ended", "signal 9"},
                {"[[text: a]] [[half-line]]", "half_message", "middle"},
                {"[[text: a]] [[close-output]]", "stream_ended", "closed its standard output"},
                {"[[text: a]] [[huge-line: 52428800]]", "message_too_large", "bytes"},
        };
        struct fake f;

        for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
                init(&f, NULL);
                call(&f, t[i].prompt, "");
                says_that_it_failed(&f, t[i].code, t[i].words);
                CHECK_STR(fake_text(&f, "text"), "a");
                fake_fini(&f);
        }
        init(&f, NULL);
        call(&f, "[[text: a]] [[no-end]]", ",\"limits\":{\"stall\":\"8s\"}");
        says_that_it_failed(&f, "stalled", "limits.stall");
        fake_fini(&f);
}

TEST(codex, cancel_interrupts_the_turn_and_nothing_lives_on)
{
        struct fake f;
        char prompt[600];
        int pid;

        init(&f, NULL);
        snprintf(prompt, sizeof prompt, "[[grandchild: %s/pid]] [[text: begun]] [[hang]]", f.home);
        stand_in_start(&f, TOOL, prompt, "");
        stand_in_until(&f, "text", "begun");
        while (!fake_get(&f, "pid") || !*fake_get(&f, "pid")) /* it is written by a process of its own */
                fake_run_for(&f, 20);
        fake_cancel(&f, 2000);
        fake_run(&f);
        CHECK_INT(f.outcome, TOOL_CANCELLED);
        CHECK_STR(fake_text(&f, "stop_reason"), "interrupted");
        pid = atoi(fake_get(&f, "pid"));
        CHECK(pid > 1 && !fake_alive(pid));
        fake_fini(&f);
}

TEST(codex, cancel_before_a_turn_has_begun)
{
        struct fake f;

        init(&f, NULL);
        setenv("FAKE_START", "hang", 1);
        stand_in_start(&f, TOOL, "x", ",\"env\":{\"FAKE_START\":\"hang\"}");
        while (!f.pid)
                fake_run_for(&f, 20);
        fake_cancel(&f, 500);
        fake_run(&f);
        unsetenv("FAKE_START");
        CHECK_INT(f.outcome, TOOL_CANCELLED);
        fake_fini(&f);
}

TEST(codex, cancel_while_an_approval_is_open)
{
        struct fake f;

        init(&f, NULL);
        f.hold = true;
        stand_in_start(&f, TOOL, WRITE, "");
        while (!f.asked)
                fake_run_for(&f, 20);
        fake_cancel(&f, 2000);
        fake_run(&f);
        CHECK_INT(f.outcome, TOOL_CANCELLED);
        CHECK(!fake_get(&f, "work/a.txt"));
        fake_fini(&f);
}

TEST(codex, a_missing_program_is_named)
{
        struct fake f;
        char *path = mem_strdup(getenv("PATH"));

        init(&f, NULL);
        setenv("PATH", "/nowhere", 1);
        call(&f, "x", "");
        setenv("PATH", path, 1);
        CHECK_STR(f.code, "tool_missing");
        CHECK(strstr(f.msg, "npm install -g @openai/codex"));
        mem_free(path);
        fake_fini(&f);
}

TEST(codex, the_command_within_a_shell_is_found)
{
        static const char *const t[][2] = {
                {"/bin/bash -lc 'touch a.txt'", "touch a.txt"},
                {"/bin/bash -lc 'echo '\\''x'\\'' && ls'", "echo 'x' && ls"},
                {"bash -c \"echo \\\"a b\\\"\"", "echo \"a b\""},
                {"/usr/bin/zsh -lc ls", "ls"},
                {"touch a.txt", "touch a.txt"},
                {"/bin/bash -lc 'a' b", "/bin/bash -lc 'a' b"},
                {"python3 -c 'print(1)'", "python3 -c 'print(1)'"},
                {"", ""},
        };

        for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
                char *command = codex_command(t[i][0]);

                CHECK_STR(command, t[i][1]);
                mem_free(command);
        }
}

TEST(codex, a_turn_without_an_id_is_nobodys)
{
        CHECK(!ai_is("turn-1", NULL)); /* found by fuzz_ai_stream */
        CHECK(!ai_is(NULL, "turn-1"));
        CHECK(!ai_is(NULL, NULL));
        CHECK(ai_is("turn-1", "turn-1"));
}

TEST(codex, both_sides_of_a_diff)
{
        char *was, *is;

        CHECK_INT(codex_diff_sides("--- a\n+++ b\n@@ -1,2 +1,2 @@\n same\n-old\n+new\n", &was, &is), 0);
        CHECK_STR(was, "same\nold\n");
        CHECK_STR(is, "same\nnew\n");
        mem_free(was);
        mem_free(is);
        CHECK_INT(codex_diff_sides("", &was, &is), 0);
        CHECK_STR(was, "");
        mem_free(was);
        mem_free(is);
}
