/* claude-code.prompt against the stand-in for Claude Code (tests/peers/fake_claude.py). */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/tools/claude_in.h"
#include "common/err.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"
#include "tests/lib/test.h"
#include "tests/tools/stand_in.h"

#define TOOL  "claude-code.prompt"
#define WRITE "[[tool: Write {\"file_path\":\"a.txt\",\"content\":\"hi\"}]]"

static void init(struct fake *f, const char *policy)
{
        stand_in_init(f, policy, "claude", "fake_claude.py");
        setenv("ANTHROPIC_API_KEY", "sk-fake", 1);
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

TEST(claude, its_words_stream_and_are_told_once)
{
        struct fake f;

        init(&f, NULL);
        call(&f, "[[think: let me see]] [[text: Hello, this is a longer answer.]]", "");
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        CHECK_STR(fake_text(&f, "text"), "Hello, this is a longer answer.");
        CHECK_INT(f.out.len, strlen("Hello, this is a longer answer."));
        CHECK(stand_in_events(&f, "text", "") > 1); /* pieces */
        CHECK(stand_in_events(&f, "thought", "let me see") == 1);
        CHECK_STR(fake_text(&f, "model"), "stand-in");
        CHECK_STR(stand_in_json(&f, "files_changed"), "[]");
        CHECK(fake_number(&f, "cost_usd") == 0.001);
        fake_fini(&f);
}

TEST(claude, a_write_is_asked_for_done_and_seen)
{
        struct fake f;

        init(&f, NULL);
        call(&f, WRITE, "");
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        CHECK_INT(f.asked, 1);
        CHECK_INT(f.question.kind, ASK_PERMISSION);
        CHECK_STR(f.question.action, "edit");
        CHECK_STR(f.question.title, "Write a.txt");
        CHECK_STR(f.question.arguments, "{\"file_path\":\"a.txt\",\"content\":\"hi\"}");
        CHECK_STR(f.question.paths, "a.txt");
        CHECK_STR(fake_get(&f, "work/a.txt"), "hi");
        CHECK_STR(stand_in_json(&f, "files_changed"), "[{\"path\":\"a.txt\",\"change\":\"added\"}]");
        CHECK(stand_in_events(&f, "tool", "\"status\":\"running\"") == 1);
        CHECK(stand_in_events(&f, "tool", "\"new_text\":\"hi\"") == 1);
        CHECK(stand_in_events(&f, "tool", "\"status\":\"completed\"") == 1);
        fake_fini(&f);
}

TEST(claude, a_no_reaches_it_with_the_reason)
{
        struct fake f;

        init(&f, NULL);
        f.decision = (struct tool_decision){.outcome = ASK_DENIED, .by = "eve", .reason = "not on a Friday"};
        call(&f, WRITE, "");
        CHECK_INT(f.outcome, TOOL_SUCCEEDED); /* it goes on without */
        CHECK(!fake_get(&f, "work/a.txt"));
        CHECK(strstr(fake_text(&f, "text"), "eve said no: not on a Friday"));
        CHECK(fake_number(&f, "permissions_denied") == 1);
        CHECK(stand_in_events(&f, "tool", "\"status\":\"failed\"") == 1);
        fake_fini(&f);
}

TEST(claude, asked_twice_and_taken_back)
{
        struct fake f;

        init(&f, NULL);
        call(&f, WRITE " [[ask-twice]]", "");
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        CHECK_INT(f.asked, 2);
        fake_fini(&f);

        init(&f, NULL);
        f.hold = true; /* nobody would ever answer */
        call(&f, WRITE " [[withdraw]]", "");
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        CHECK_INT(f.asked, 1);
        CHECK_INT(f.withdrawn, 1);
        fake_fini(&f);
}

TEST(claude, a_session_goes_on_and_pays_for_itself_only)
{
        struct fake f;
        char more[4096];

        init(&f, NULL);
        call(&f, "[[cost: 0.5]]", "");
        CHECK(fake_number(&f, "cost_usd") == 0.5);
        snprintf(more, sizeof more, ",\"session\":\"%s\"", fake_text(&f, "session"));
        fake_fini(&f);

        init(&f, NULL);
        call(&f, "[[cost: 0.25]]", more);
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        CHECK(fake_number(&f, "cost_usd") == 0.25); /* the stand-in said 0.75 */
        fake_fini(&f);

        init(&f, NULL);
        call(&f, "x", ",\"session\":\"11111111-2222-4333-8444-555555555555\"");
        says_that_it_failed(&f, "session_unknown", "No conversation found");
        fake_fini(&f);

        init(&f, NULL);
        call(&f, "x", ",\"session\":\"--dangerously-skip-permissions\"");
        CHECK_INT(f.outcome, TOOL_REFUSED);
        CHECK_STR(f.code, "session_unknown");
        fake_fini(&f);
}

TEST(claude, failures_of_the_api_have_their_codes)
{
        static const struct {
                const char *prompt, *code;
        } t[] = {{"[[status: 401]]", "auth_failed"},   {"[[status: 403]]", "auth_failed"},
                 {"[[status: 429]]", "rate_limited"},  {"[[status: 529]]", "overloaded"},
                 {"[[status: 404]]", "unknown_model"}, {"[[status: 400]]", "bad_request"},
                 {"[[status: 500]]", "server_error"}};
        struct fake f;

        for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
                init(&f, NULL);
                call(&f, t[i].prompt, "");
                says_that_it_failed(&f, t[i].code, "API Error");
                CHECK(stand_in_events(&f, "log", "retry 1 of 1") == 1);
                CHECK_STR(fake_text(&f, "text"), "");
                fake_fini(&f);
        }
        init(&f, NULL);
        unsetenv("ANTHROPIC_API_KEY");
        call(&f, "x", "");
        says_that_it_failed(&f, "not_logged_in", "log in on this machine");
        fake_fini(&f);
}

TEST(claude, limits_end_the_turn)
{
        struct fake f;

        init(&f, NULL);
        call(&f, "[[text: a]] [[next]] [[text: b]]", ",\"limits\":{\"turns\":1}");
        says_that_it_failed(&f, "turn_limit", "limits.turns");
        fake_fini(&f);
        init(&f, NULL);
        call(&f, "[[cost: 2]]", ",\"limits\":{\"cost_usd\":1}");
        says_that_it_failed(&f, "cost_limit", "limits.cost_usd");
        fake_fini(&f);
}

TEST(claude, whether_it_worked_is_not_said_by_subtype)
{
        struct fake f;

        init(&f, NULL);
        call(&f, "[[error: it went wrong]]", ""); /* is_error true, subtype "success" */
        says_that_it_failed(&f, "agent_error", "it went wrong");
        fake_fini(&f);
}

TEST(claude, broken_streams_have_their_codes)
{
        static const struct {
                const char *prompt, *code, *words;
        } t[] = {
                {"[[text: a]] [[exit: 3]]", "stream_ended", "exit status 3"},
                {"[[text: a]] [[die]]", "stream_ended", "signal 9"},
                {"[[text: a]] [[half-line]]", "half_message", "middle"},
                {"[[text: a]] [[close-output]]", "stream_ended", "closed its standard output"},
                {"[[text: a]] [[huge-line: 52428800]]", "message_too_large", "bytes"},
                {"[[stderr: out of luck]] [[text: a]] [[exit: 1]]", "stream_ended", "out of luck"},
        };
        struct fake f;

        for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
                init(&f, NULL);
                call(&f, t[i].prompt, "");
                says_that_it_failed(&f, t[i].code, t[i].words);
                CHECK_STR(fake_text(&f, "text"), "a"); /* what came before is kept */
                fake_fini(&f);
        }
}

TEST(claude, a_result_that_does_not_say_whether_it_failed_is_no_success)
{
        struct fake f;

        init(&f, NULL);
        call(&f, "[[text: a]] [[mute-result]]", "");
        says_that_it_failed(&f, "protocol_error", "is_error");
        fake_fini(&f);
}

TEST(claude, other_lines_are_skipped)
{
        struct fake f;

        init(&f, NULL);
        call(&f, "[[noise]] [[text: fine]]", "");
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        CHECK_STR(fake_text(&f, "text"), "fine");
        fake_fini(&f);
}

TEST(claude, silence_is_a_stall_and_a_question_at_no_terminal_is_told_as_one)
{
        struct fake f;

        init(&f, NULL);
        call(&f, "[[text: a]] [[hang]]", ",\"limits\":{\"stall\":\"8s\"}");
        says_that_it_failed(&f, "stalled", "limits.stall");
        fake_fini(&f);
        init(&f, NULL);
        call(&f, "[[stderr: Do you trust this folder? (y/n)]] [[hang]]", ",\"limits\":{\"stall\":\"8s\"}");
        says_that_it_failed(&f, "prompt_hang", "Do you trust");
        fake_fini(&f);
}

TEST(claude, one_whose_words_wait_for_room_is_not_silent)
{
        struct fake f;

        init(&f, NULL);
        f.full_every = 1000;
        stand_in_start(&f, TOOL, "[[big: 5000]]", ",\"limits\":{\"stall\":\"8s\"}");
        while (f.since_full < 1000 && !f.finished)
                uv_run(&f.loop, UV_RUN_ONCE);
        uv_idle_stop(&f.room);
        fake_run_for(&f, 9000);
        CHECK(!f.finished);
        f.full_every = 0;
        uv_idle_start(&f.room, f.room.idle_cb);
        fake_run(&f);
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        fake_fini(&f);
}

TEST(claude, an_open_question_is_no_stall)
{
        struct fake f;

        init(&f, NULL);
        f.hold = true;
        stand_in_start(&f, TOOL, WRITE, ",\"limits\":{\"stall\":\"8s\"}");
        stand_in_until(&f, "tool", "running");
        fake_run_for(&f, 9000);
        CHECK(!f.finished);
        fake_answer(&f, &(struct tool_decision){.outcome = ASK_ALLOWED, .by = "eve", .reason = ""});
        fake_run(&f);
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        fake_fini(&f);
}

TEST(claude, cancel_ends_the_turn_and_nothing_lives_on)
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
        CHECK_STR(f.code, "cancelled");
        pid = atoi(fake_get(&f, "pid"));
        CHECK(pid > 1 && !fake_alive(pid));
        CHECK(fake_text(&f, "session")[0]); /* it can be gone on with */
        fake_fini(&f);
}

TEST(claude, one_that_does_not_listen_is_killed)
{
        struct fake f;
        char prompt[600];

        init(&f, NULL);
        snprintf(prompt, sizeof prompt, "[[pid: %s/pid]] [[ignore-term]] [[text: over]]", f.home);
        stand_in_start(&f, TOOL, prompt, ""); /* its turn ends, but it does not go */
        stand_in_until(&f, "text", "over");
        fake_cancel(&f, 200);
        fake_run(&f);
        CHECK(!fake_alive(atoi(fake_get(&f, "pid"))));
        fake_fini(&f);
}

TEST(claude, cancelled_before_it_began)
{
        struct fake f;

        init(&f, NULL);
        stand_in_start(&f, TOOL, "x", "");
        fake_cancel(&f, 1000);
        fake_run(&f);
        CHECK_INT(f.outcome, TOOL_CANCELLED);
        CHECK_INT(f.pid, 0);
        fake_fini(&f);
}

TEST(claude, cancel_while_a_question_is_open)
{
        struct fake f;

        init(&f, NULL);
        f.hold = true;
        stand_in_start(&f, TOOL, WRITE, "");
        stand_in_until(&f, "tool", "running");
        while (!f.asked)
                fake_run_for(&f, 20);
        fake_cancel(&f, 2000);
        fake_run(&f);
        CHECK_INT(f.outcome, TOOL_CANCELLED);
        CHECK(!fake_get(&f, "work/a.txt"));
        fake_fini(&f);
}

TEST(claude, a_missing_program_is_named)
{
        struct fake f;
        char *path = mem_strdup(getenv("PATH"));

        init(&f, NULL);
        setenv("PATH", "/nowhere", 1);
        call(&f, "x", "");
        setenv("PATH", path, 1);
        CHECK_INT(f.outcome, TOOL_REFUSED);
        CHECK_STR(f.code, "tool_missing");
        CHECK(strstr(f.msg, "npm install -g @anthropic-ai/claude-code"));
        mem_free(path);
        fake_fini(&f);
}

TEST(claude, the_policy_may_forbid_it)
{
        struct fake f;

        init(&f, "version: 1\ncommands: {deny: [claude]}\n");
        call(&f, "x", "");
        CHECK_INT(f.outcome, TOOL_REFUSED);
        CHECK_STR(f.code, "policy_denied");
        fake_fini(&f);
}

TEST(claude, a_rule_of_the_policy_answers_and_nobody_is_asked)
{
        struct fake f;

        init(&f, "version: 1\nquestions: {deny: [{action: edit}]}\n");
        call(&f, WRITE, ",\"permission_mode\":\"allow\"");
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        CHECK(!fake_get(&f, "work/a.txt")); /* deny wins over the call's mode */
        fake_fini(&f);
}

TEST(claude, its_environment_is_clean_and_quiet)
{
        struct fake f;

        init(&f, NULL);
        setenv("SOMETHING_SECRET", "x", 1);
        call(&f,
             "[[env: SOMETHING_SECRET]] [[next]] [[env: DISABLE_TELEMETRY]] [[next]] "
             "[[env: CLAUDE_CODE_MAX_RETRIES]] [[next]] [[env: MINE]]",
             ",\"env\":{\"MINE\":\"yes\"}");
        CHECK_STR(fake_text(&f, "text"), "SOMETHING_SECRET=(not set)\n\nDISABLE_TELEMETRY=1\n\n"
                                         "CLAUDE_CODE_MAX_RETRIES=2\n\nMINE=yes");
        fake_fini(&f);
}

TEST(claude, uses_of_tools_are_told_to_people)
{
        static const struct {
                const char *name, *input, *kind, *title, *path, *command;
        } t[] = {
                {"Bash", "{\"command\":\"ls -l\\nrm x\"}", "execute", "ls -l rm x", NULL, "ls -l\nrm x"},
                {"Read", "{\"file_path\":\"/a\"}", "read", "Read /a", "/a", NULL},
                {"Grep", "{\"pattern\":\"x\",\"path\":\"/src\"}", "search", "Search for x", "/src", NULL},
                {"WebFetch", "{\"url\":\"http://h/\"}", "fetch", "Fetch http://h/", NULL, NULL},
                {"mcp__db__query", "{\"sql\":\"x\"}", "other", "mcp__db__query", NULL, NULL},
                {"Edit", "{\"file_path\":7}", "edit", "Edit", NULL, NULL},
        };

        for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
                struct claude_use u;
                cJSON *in = NULL;

                CHECK_INT(json_parse(t[i].input, strlen(t[i].input), &in, NULL), 0);
                claude_use_read(t[i].name, in, &u);
                CHECK_STR(u.kind, t[i].kind);
                CHECK_STR(u.title, t[i].title);
                CHECK_STR(u.path ? u.path : "", t[i].path ? t[i].path : "");
                CHECK_STR(u.command ? u.command : "", t[i].command ? t[i].command : "");
                cJSON_Delete(in);
        }
}

TEST(claude, a_list_of_things_to_do_is_a_plan)
{
        const char *text = "{\"todos\":[{\"content\":\"a\",\"status\":\"completed\"},"
                           "{\"content\":\"b\",\"status\":\"in_progress\"},{\"content\":\"c\"},{\"x\":1}]}";
        cJSON *in = NULL, *plan;
        char *json;

        CHECK_INT(json_parse(text, strlen(text), &in, NULL), 0);
        plan = claude_use_plan("TodoWrite", in);
        json = json_text(plan);
        CHECK_STR(json, "[{\"text\":\"a\",\"status\":\"completed\"},{\"text\":\"b\",\"status\":\"running\"},"
                        "{\"text\":\"c\",\"status\":\"pending\"}]");
        CHECK(!claude_use_plan("Bash", in));
        mem_free(json);
        cJSON_Delete(plan);
        cJSON_Delete(in);
}
