/* acp.prompt against a scripted agent (tests/peers/odd_acp.py): what comes back, what is asked, and how it
 * fails. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/tools/acp_agents.h"
#include "common/err.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"
#include "tests/lib/test.h"
#include "tests/tools/fake.h"

#define ACP "acp.prompt"

static char *script(void)
{
        static char path[4096];

        CHECK(realpath("tests/peers/odd_acp.py", path));
        return path;
}

/* Input for the scripted agent: its options (JSON texts, a comma before each), the prompt, other members. */
static char *input(const char *options, const char *prompt, const char *more)
{
        cJSON *p = cJSON_CreateString(prompt);
        char *q = json_text(p), *s = str_printf("{\"command\":[\"python3\",\"%s\"%s],\"prompt\":%s%s%s}",
                                                script(), options, q, *more ? "," : "", more);

        cJSON_Delete(p);
        mem_free(q);
        return s;
}

static void begin(struct fake *f, const char *options, const char *prompt, const char *more)
{
        char *in = input(options, prompt, more);

        fake_start(f, ACP, in);
        mem_free(in);
}

static void ask(struct fake *f, const char *options, const char *prompt, const char *more)
{
        begin(f, options, prompt, more);
        fake_run_for(f, 20000);
        if (!f->finished)
                test_fail(__FILE__, __LINE__, "still running: %s", prompt);
}

static const char *events(struct fake *f)
{
        CHECK(buf_putc(&f->events, '\0') == 0);
        f->events.len--;
        return (const char *)f->events.data;
}

static const char *out(struct fake *f)
{
        CHECK(buf_putc(&f->out, '\0') == 0);
        f->out.len--;
        return (const char *)f->out.data;
}

static void succeeded(struct fake *f)
{
        if (f->outcome != TOOL_SUCCEEDED)
                test_fail(__FILE__, __LINE__, "%s: %s", f->code, f->msg);
}

TEST(acp, text_comes_back)
{
        struct fake f;

        fake_init(&f, NULL);
        ask(&f, "", "[[text: hello ]][[text: there]]", "");
        succeeded(&f);
        CHECK_STR(fake_text(&f, "text"), "hello there");
        CHECK_STR(out(&f), "hello there");
        CHECK_STR(fake_text(&f, "stop_reason"), "end_turn");
        CHECK(strncmp(fake_text(&f, "session"), "s1.", 3) == 0);
        CHECK(strstr(events(&f), "{\"type\":\"text\",\"text\":\"hello \"}\n"));
        fake_fini(&f);
}

TEST(acp, everything_it_tells_becomes_an_event)
{
        struct fake f;
        const char *e;

        fake_init(&f, NULL);
        ask(&f, "",
            "[[thought: hm]][[plan]][[tool: edit Change x]][[tool: search for y]][[usage: 500 1000 "
            "0.25]][[text: done]]"
            "[[unknown]]",
            "");
        succeeded(&f);
        e = events(&f);
        CHECK(strstr(e, "{\"type\":\"thought\",\"text\":\"hm\"}"));
        CHECK(strstr(e, "\"entries\":[{\"text\":\"look\",\"status\":\"completed\",\"priority\":\"high\"},{"
                        "\"text\":\"act\","
                        "\"status\":\"running\",\"priority\":\"low\"}]"));
        CHECK(strstr(e, "\"kind\":\"edit\",\"title\":\"Change x\",\"status\":\"pending\""));
        CHECK(strstr(e, "\"locations\":[{\"path\":\"/x\",\"line\":3}]"));
        CHECK(strstr(e, "\"diff\":[{\"path\":\"/x\",\"old_text\":\"a\",\"new_text\":\"b\"}]"));
        CHECK(strstr(e, "\"status\":\"completed\",\"output\":\"found it\""));
        CHECK(strstr(e, "\"cost_usd\":0.25"));
        CHECK(strstr(e, "\"context_used\":500"));
        CHECK(!strstr(e, "moon"));
        CHECK_STR(fake_text(&f, "text"), "done");
        CHECK_INT(fake_number(&f, "turns"), 3);
        CHECK(fake_number(&f, "cost_usd") == 0.25);
        fake_fini(&f);
}

TEST(acp, usage_is_reported)
{
        struct fake f;
        const cJSON *u;

        fake_init(&f, NULL);
        ask(&f, "", "[[text: x]]", "");
        succeeded(&f);
        u = cJSON_GetObjectItem(f.outputs, "usage");
        CHECK_INT(cJSON_GetObjectItem(u, "input_tokens")->valueint, 20);
        CHECK_INT(cJSON_GetObjectItem(u, "output_tokens")->valueint, 10);
        CHECK(!cJSON_HasObjectItem(f.outputs, "cost_usd"));
        fake_fini(&f);
}

TEST(acp, half_a_character_does_not_end_the_call)
{
        struct fake f;

        fake_init(&f, NULL);
        ask(&f, "", "[[text: a\\ud83d]][[text: b\\u0000c]]", "");
        succeeded(&f);
        CHECK_STR(fake_text(&f, "text"), "a\xef\xbf\xbd"
                                         "b\xef\xbf\xbd"
                                         "c");
        fake_fini(&f);
}

TEST(acp, noise_on_standard_output_is_passed_over)
{
        struct fake f;

        fake_init(&f, NULL);
        ask(&f, ",\"--hello\"", "[[noise: warning: old]][[text: fine]][[twice]]", "");
        succeeded(&f);
        CHECK_STR(fake_text(&f, "text"), "fine");
        CHECK(strstr(events(&f), "Welcome to the fake!"));
        fake_fini(&f);
}

TEST(acp, the_agent_waits_while_nobody_takes_its_output)
{
        struct fake f;

        fake_init(&f, NULL);
        f.full_every = 1000;
        ask(&f, "", "[[big: 5000]][[text: a]][[big: 5000]][[text: b]]", "");
        succeeded(&f);
        CHECK_INT(f.out_bytes, 10002);
        fake_fini(&f);
}

TEST(acp, one_whose_words_wait_for_room_is_not_silent)
{
        struct fake f;

        fake_init(&f, NULL);
        f.full_every = 1000;
        begin(&f, "", "[[big: 5000]][[text: b]]", "\"limits\":{\"stall\":\"6s\"}");
        while (f.since_full < 1000 && !f.finished)
                uv_run(&f.loop, UV_RUN_ONCE);
        uv_idle_stop(&f.room);
        fake_run_for(&f, 9000);
        CHECK(!f.finished);
        f.full_every = 0;
        uv_idle_start(&f.room, f.room.idle_cb);
        fake_run(&f);
        succeeded(&f);
        fake_fini(&f);
}

/* --- permissions -------------------------------------------------------------------- */

TEST(acp, an_allowed_action_is_done_once)
{
        struct fake f;
        char *changed;

        fake_init(&f, NULL);
        ask(&f, "", "[[ask: edit a.txt]]", "\"cwd\":\"~\"");
        succeeded(&f);
        CHECK_STR(fake_text(&f, "text"), "[allow_once]");
        CHECK_STR(fake_get(&f, "a.txt"), "by the fake\n");
        CHECK_INT(f.asked, 1);
        CHECK_STR(f.question.action, "edit");
        CHECK_STR(f.question.title, "edit a.txt");
        CHECK(strstr(f.question.arguments, "\"content\":\"by the fake\\n\""));
        CHECK(strncmp(f.question.paths, f.home, strlen(f.home)) == 0);
        changed = json_text(cJSON_GetObjectItem(f.outputs, "files_changed"));
        CHECK(changed && strstr(changed, "{\"path\":\"a.txt\",\"change\":\"added\"}"));
        mem_free(changed);
        CHECK(strstr(events(&f), "\"status\":\"running\""));
        fake_fini(&f);
}

TEST(acp, a_denied_action_is_not_done)
{
        struct fake f;

        fake_init(&f, NULL);
        f.decision.outcome = ASK_DENIED;
        ask(&f, "", "[[ask: edit a.txt]][[text: !]]", "\"cwd\":\"~\"");
        succeeded(&f);
        CHECK_STR(fake_text(&f, "text"), "[reject_once]!");
        CHECK(!fake_get(&f, "a.txt"));
        CHECK_INT(fake_number(&f, "permissions_denied"), 1);
        f.decision.outcome = ASK_EXPIRED;
        ask(&f, "", "[[ask: edit a.txt]]", "\"cwd\":\"~\"");
        CHECK_STR(fake_text(&f, "text"), "[reject_once]");
        ask(&f, "", "[[askonly: reject_always edit a.txt]]", "\"cwd\":\"~\"");
        CHECK_STR(fake_text(&f, "text"), "[reject_always]");
        fake_fini(&f);
}

TEST(acp, a_turn_that_ends_for_a_refusal_says_so)
{
        struct fake f;

        fake_init(&f, NULL);
        f.decision.outcome = ASK_DENIED;
        ask(&f, "", "[[reject-ends]][[ask: execute touch x]][[text: never]]", "");
        CHECK_INT(f.outcome, TOOL_FAILED);
        CHECK_STR(f.code, "permission_refused");
        CHECK_STR(f.question.command, "touch x");
        fake_fini(&f);
}

TEST(acp, always_is_kept_here_and_not_given_away)
{
        struct fake f;

        fake_init(&f, "version: 1\nquestions: {deny: [{action: execute, command: \"rm*\"}]}\n");
        f.decision.always = true;
        ask(&f, "", "[[ask: execute echo one]][[ask: execute echo one]]", "");
        succeeded(&f);
        CHECK_STR(fake_text(&f, "text"), "[allow_once][allow_once]");
        CHECK_STR(f.question.mode, "allow");
        ask(&f, "", "[[askonly: allow_always execute echo two]]", "");
        CHECK_STR(fake_text(&f, "text"), "[allow_always]");
        f.decision.always = false;
        ask(&f, "", "[[askonly: allow_always execute echo two]]", "");
        CHECK_STR(fake_text(&f, "text"), "[cancelled]");
        fake_fini(&f);
}

TEST(acp, what_the_policy_denies_no_mode_allows)
{
        struct fake f;

        fake_init(&f, "version: 1\nquestions: {deny: [{action: execute, command: \"rm *\"}]}\n");
        ask(&f, "", "[[ask: execute rm -f x]][[ask: execute echo y]]", "\"permission_mode\":\"allow\"");
        succeeded(&f);
        CHECK_STR(fake_text(&f, "text"), "[reject_once][allow_once]");
        fake_fini(&f);
}

TEST(acp, asked_twice_for_the_same_use_it_is_answered_twice)
{
        struct fake f;

        fake_init(&f, NULL);
        ask(&f, ",\"--ids\"", "[[ask2: edit a.txt]]", "\"cwd\":\"~\"");
        succeeded(&f);
        CHECK_INT(f.asked, 2);
        CHECK_STR(fake_text(&f, "text"), "[allow_once]");
        fake_fini(&f);
}

TEST(acp, a_request_that_only_names_its_use_is_asked_in_full)
{
        struct fake f;

        fake_init(&f, NULL);
        ask(&f, "", "[[bare]][[ask: execute echo hi]]", "");
        succeeded(&f);
        CHECK_STR(f.question.action, "execute");
        CHECK_STR(f.question.command, "echo hi");
        CHECK_STR(f.question.title, "execute echo hi");
        fake_fini(&f);
}

/* --- cancelling ------------------------------------------------------------------------ */

static void when_output(struct fake *f)
{
        if (f->out_bytes)
                uv_stop(&f->loop);
}

/* Until it has said something. */
static void until_text(struct fake *f)
{
        f->on_output = when_output;
        for (int i = 0; i < 2000 && !f->out_bytes && !f->finished; i++)
                uv_run(&f->loop, UV_RUN_ONCE);
        f->on_output = NULL;
        CHECK(f->out_bytes);
}

static void until_asked(struct fake *f)
{
        for (int i = 0; i < 2000 && !f->asked && !f->finished; i++)
                uv_run(&f->loop, UV_RUN_ONCE);
        CHECK(f->asked);
}

TEST(acp, cancel_ends_the_turn)
{
        struct fake f;

        fake_init(&f, NULL);
        begin(&f, "", "[[text: x]][[hang]]", "");
        until_text(&f);
        fake_cancel(&f, 5000);
        fake_run_for(&f, 4000);
        CHECK(f.finished);
        CHECK_INT(f.outcome, TOOL_CANCELLED);
        CHECK_STR(fake_text(&f, "stop_reason"), "cancelled");
        CHECK(*fake_text(&f, "session"));
        fake_fini(&f);
}

TEST(acp, cancel_with_a_question_open_withdraws_it)
{
        struct fake f;

        fake_init(&f, NULL);
        f.hold = true;
        begin(&f, "", "[[ask: edit a.txt]]", "\"cwd\":\"~\"");
        until_asked(&f);
        fake_cancel(&f, 5000);
        fake_run_for(&f, 4000);
        CHECK(f.finished);
        CHECK_INT(f.outcome, TOOL_CANCELLED);
        CHECK_INT(f.withdrawn, 1);
        CHECK_STR(fake_text(&f, "stop_reason"), "cancelled");
        CHECK(!fake_get(&f, "a.txt"));
        fake_fini(&f);
}

TEST(acp, a_deaf_agent_and_its_grandchild_are_killed)
{
        struct fake f;
        int pid;

        fake_init(&f, NULL);
        begin(&f, ",\"--ignore-term\",\"--ignore-eof\"", "[[grandchild]][[deaf]]", "");
        until_text(&f);
        pid = atoi(out(&f));
        CHECK(fake_alive(pid));
        fake_cancel(&f, 400);
        fake_run_for(&f, 10000);
        CHECK(f.finished);
        CHECK_INT(f.outcome, TOOL_CANCELLED);
        CHECK(!fake_alive(pid));
        fake_fini(&f);
}

TEST(acp, nothing_lives_on_after_success)
{
        struct fake f;
        int pid;

        fake_init(&f, NULL);
        ask(&f, ",\"--ignore-eof\"", "[[grandchild]]", "");
        succeeded(&f);
        pid = atoi(out(&f));
        CHECK(pid > 1 && !fake_alive(pid));
        fake_fini(&f);
}

TEST(acp, cancelled_before_it_began)
{
        struct fake f;

        fake_init(&f, NULL);
        begin(&f, "", "[[text: x]]", "");
        fake_cancel(&f, 1000);
        fake_run_for(&f, 5000);
        CHECK(f.finished);
        CHECK_INT(f.outcome, TOOL_CANCELLED);
        begin(&f, ",\"--mute\"", "[[text: x]]", "");
        while (!f.pid)
                uv_run(&f.loop, UV_RUN_ONCE);
        fake_cancel(&f, 1000);
        fake_run_for(&f, 5000);
        CHECK(f.finished);
        CHECK_INT(f.outcome, TOOL_CANCELLED);
        fake_fini(&f);
}

/* --- limits -------------------------------------------------------------------------------- */

TEST(acp, limits_end_the_turn)
{
        struct fake f;

        fake_init(&f, NULL);
        ask(&f, "", "[[usage: 1 2 0.5]][[hang]]", "\"limits\":{\"cost_usd\":0.4}");
        CHECK_STR(f.code, "cost_limit");
        CHECK_STR(fake_text(&f, "stop_reason"), "cancelled");
        ask(&f, "", "[[tool: read a]][[tool: read b]][[hang]]", "\"limits\":{\"turns\":1}");
        CHECK_STR(f.code, "turn_limit");
        fake_fini(&f);
}

TEST(acp, silence_is_a_stall)
{
        struct fake f;

        fake_init(&f, NULL);
        ask(&f, "", "[[text: x]][[hang]]", "\"limits\":{\"stall\":\"300ms\"}");
        CHECK_INT(f.outcome, TOOL_FAILED);
        CHECK_STR(f.code, "stalled");
        CHECK(strstr(f.msg, "300ms"));
        fake_fini(&f);
}

TEST(acp, silence_of_one_that_is_refused_again_and_again)
{
        struct fake f;

        fake_init(&f, NULL);
        ask(&f, "", "[[stderr: Attempt 3 failed with status 429. Retrying]][[hang]]",
            "\"limits\":{\"stall\":\"300ms\"}");
        CHECK_STR(f.code, "rate_limited");
        CHECK(strstr(f.msg, "status 429"));
        fake_fini(&f);
}

TEST(acp, an_open_question_is_no_stall)
{
        const struct tool_decision yes = {.outcome = ASK_ALLOWED};
        struct fake f;

        fake_init(&f, NULL);
        f.hold = true;
        begin(&f, "", "[[ask: edit a.txt]]", "\"cwd\":\"~\",\"limits\":{\"stall\":\"2s\"}");
        until_asked(&f);
        fake_run_for(&f, 2500);
        CHECK(!f.finished);
        fake_answer(&f, &yes);
        fake_run_for(&f, 10000);
        CHECK(f.finished);
        succeeded(&f);
        fake_fini(&f);
}

/* --- sessions, modes, models ------------------------------------------------------------------ */

static void next_in(struct fake *f, const char *options, const char *prompt, const char *more)
{
        char *s = str_printf("\"session\":\"%s\"%s%s", fake_text(f, "session"), *more ? "," : "", more);

        ask(f, options, prompt, s);
        mem_free(s);
}

TEST(acp, a_session_is_gone_on_with)
{
        static const char *const how[] = {"", ",\"--resume\"", ",\"--replay-late\""};

        for (int i = 0; i < 3; i++) {
                struct fake f;

                fake_init(&f, NULL);
                ask(&f, how[i], "[[text: one]][[usage: 1 2 0.5]]", "\"cwd\":\"~\"");
                succeeded(&f);
                next_in(&f, how[i], "[[history]][[usage: 1 2 0.25]]", "");
                succeeded(&f);
                CHECK_STR(fake_text(&f, "text"), "2");
                CHECK(fake_number(&f, "cost_usd") == 0.25);
                CHECK(!strstr(events(&f), "REPLAYED"));
                next_in(&f, how[i], "[[history]]", "");
                CHECK_STR(fake_text(&f, "text"), "3");
                fake_fini(&f);
        }
}

TEST(acp, a_session_that_is_not_there_any_more)
{
        struct fake f;
        char cmd[600];

        fake_init(&f, NULL);
        ask(&f, "", "[[text: one]]", "\"cwd\":\"~\"");
        snprintf(cmd, sizeof cmd, "rm -r %s/.fake_acp", f.home);
        CHECK(system(cmd) == 0);
        next_in(&f, "", "[[history]]", "");
        CHECK_INT(f.outcome, TOOL_FAILED);
        CHECK_STR(f.code, "session_unknown");
        ask(&f, "", "[[text: one]]", "\"cwd\":\"~\"");
        next_in(&f, ",\"--no-load\"", "[[history]]", "");
        CHECK_STR(f.code, "session_unsupported");
        fake_fini(&f);
}

TEST(acp, a_session_without_a_folder_takes_the_calls_own)
{
        struct fake f;

        fake_init(&f, NULL);
        ask(&f, "", "[[text: one]]", "");
        next_in(&f, "", "[[history]]", "");
        succeeded(&f);
        CHECK_STR(fake_text(&f, "text"), "2");
        fake_fini(&f);
}

TEST(acp, a_session_by_the_programs_own_id)
{
        struct fake f;

        fake_init(&f, NULL);
        ask(&f, "", "x", "\"session\":\"0b9fd8c5-7a1f\"");
        CHECK_INT(f.outcome, TOOL_FAILED);
        CHECK_STR(f.code, "session_unknown");
        CHECK(strstr(f.msg, "does not know the session 0b9fd8c5-7a1f"));
        fake_fini(&f);
}

TEST(acp, what_it_says_on_standard_error_is_on_the_log)
{
        struct fake f;

        fake_init(&f, NULL);
        ask(&f, "", "[[stderr: look out]]", "");
        succeeded(&f);
        CHECK(buf_putc(&f.err, '\0') == 0);
        CHECK(strstr((char *)f.err.data, "look out\n"));
        fake_fini(&f);
}

TEST(acp, a_session_of_something_else)
{
        struct fake f;

        fake_init(&f, NULL);
        ask(&f, "", "x", "\"session\":\"what step a said\"");
        CHECK_INT(f.outcome, TOOL_REFUSED);
        CHECK_STR(f.code, "session_unknown");
        CHECK(strstr(f.msg, "outputs.session"));
        fake_fini(&f);
}

TEST(acp, a_model_is_chosen_or_the_offer_is_listed)
{
        static const char *const how[] = {"", ",\"--config\""};

        for (int i = 0; i < 2; i++) {
                struct fake f;

                fake_init(&f, NULL);
                ask(&f, how[i], "[[model]]", "\"model\":\"deep\"");
                succeeded(&f);
                CHECK_STR(fake_text(&f, "text"), "deep");
                CHECK_STR(fake_text(&f, "model"), "deep");
                ask(&f, how[i], "[[model]]", "\"model\":\"nonsense\"");
                CHECK_STR(f.code, "unknown_model");
                CHECK(strstr(f.msg, "it offers fast, deep"));
                fake_fini(&f);
        }
}

TEST(acp, it_is_not_left_in_a_mode_that_decides_by_itself)
{
        static const char *const how[] = {",\"--mode\",\"auto\"", ",\"--config\",\"--mode\",\"yolo\""};

        for (int i = 0; i < 2; i++) {
                struct fake f;

                fake_init(&f, NULL);
                ask(&f, how[i], "[[mode]]", "");
                succeeded(&f);
                CHECK_STR(fake_text(&f, "text"), "default");
                fake_fini(&f);
        }
}

/* --- what it is given ------------------------------------------------------------------------ */

TEST(acp, files_travel_as_the_agent_takes_them)
{
        struct fake f;

        fake_init(&f, NULL);
        fake_put(&f, "a b.txt", "some text\n");
        fake_put(&f, "p.png", "\x89PNG");
        ask(&f, "", "[[blocks]]", "\"files\":[\"~/a b.txt\",\"~/p.png\"]");
        succeeded(&f);
        CHECK(strstr(fake_text(&f, "text"),
                     "/a%20b.txt\", \"mimeType\": \"text/plain\", \"text\": \"some text\\n\""));
        CHECK(strstr(fake_text(&f, "text"), "\"mimeType\": \"image/png\", \"data\": \"iVBORw==\""));
        ask(&f, ",\"--no-embed\"", "[[blocks]]", "\"files\":[\"~/a b.txt\"]");
        CHECK(strstr(fake_text(&f, "text"), "{\"type\": \"resource_link\", \"uri\": \"file://"));
        CHECK(strstr(fake_text(&f, "text"), "\"name\": \"a b.txt\""));
        CHECK(!strstr(fake_text(&f, "text"), "some text"));
        fake_fini(&f);
}

TEST(acp, mcp_servers_are_handed_on)
{
        struct fake f;

        fake_init(&f, NULL);
        ask(&f, "", "[[servers]]",
            "\"mcp_servers\":{\"a\":{\"command\":\"true\",\"args\":[\"-x\"],\"env\":{\"K\":\"v\"}},"
            "\"b\":{\"url\":\"http://127.0.0.1:9/mcp\",\"headers\":{\"X\":\"y\"}}}");
        succeeded(&f);
        CHECK(strstr(fake_text(&f, "text"), "\"name\": \"a\", \"command\": \"/"));
        CHECK(strstr(fake_text(&f, "text"),
                     "\"args\": [\"-x\"], \"env\": [{\"name\": \"K\", \"value\": \"v\"}]"));
        CHECK(strstr(fake_text(&f, "text"),
                     "\"type\": \"http\", \"url\": \"http://127.0.0.1:9/mcp\", \"headers\": [{\"name\": "
                     "\"X\", \"value\": \"y\"}]"));
        ask(&f, "", "x", "\"mcp_servers\":{\"b\":{\"url\":\"http://127.0.0.1:9/\",\"type\":\"sse\"}}");
        CHECK_STR(f.code, "bad_mcp_server");
        ask(&f, "", "x", "\"mcp_servers\":{\"b\":{}}");
        CHECK_STR(f.code, "bad_mcp_server");
        ask(&f, "", "x", "\"mcp_servers\":{\"b\":{\"url\":\"http://169.254.169.254/\"}}");
        CHECK_STR(f.code, "policy_denied");
        fake_fini(&f);
}

TEST(acp, the_environment_is_scrubbed)
{
        struct fake f;

        setenv("HUB_SECRET", "hunter2", 1);
        setenv("ANTHROPIC_API_KEY", "k", 1);
        fake_init(&f, NULL);
        ask(&f, "", "[[env: HUB_SECRET]]|[[env: ANTHROPIC_API_KEY]]|[[env: MODE]]",
            "\"env\":{\"MODE\":\"m\"}");
        CHECK_STR(fake_text(&f, "text"), "(unset)(unset)m");
        fake_fini(&f);
}

/* --- which agent ----------------------------------------------------------------------------------- */

static void configure(const char *text)
{
        struct err e = {0};

        if (acp_agents_parse(text, strlen(text), "agent.yaml", &e))
                test_fail(__FILE__, __LINE__, "%s", e.msg);
}

TEST(acp, an_agent_of_the_configuration)
{
        struct fake f;
        char *text;

        fake_init(&f, NULL);
        text = str_printf(
                "name: x\nacp:\n  mine: {command: [python3, '%s', --config], env: {WHO: owner, MODE: own}}\n",
                script());
        configure(text);
        fake_call(&f, ACP,
                  "{\"agent\":\"mine\",\"prompt\":\"[[env: WHO]] [[env: MODE]] "
                  "[[args]]\",\"env\":{\"MODE\":\"call\"}}");
        succeeded(&f);
        CHECK_STR(fake_text(&f, "text"), "ownercall[\"--config\"]");
        fake_call(&f, ACP, "{\"agent\":\"mien\",\"prompt\":\"x\"}");
        CHECK_INT(f.outcome, TOOL_REFUSED);
        CHECK(strstr(f.msg, "did you mean \"mine\"?"));
        mem_free(text);
        acp_agents_close();
        fake_fini(&f);
}

static void bad_config(const char *text, const char *why)
{
        struct err e = {0};

        if (acp_agents_parse(text, strlen(text), "agent.yaml", &e) != -E_INVAL || !strstr(e.msg, why))
                test_fail(__FILE__, __LINE__, "%s: %s", text, e.msg);
}

TEST(acp, mistakes_of_the_configuration_have_a_place)
{
        mem_install_hooks();
        bad_config("acp: [x]", "agent.yaml:1:6: acp: expected a map");
        bad_config("acp:\n  a: {}", "agent.yaml:2:3: acp.a.command: expected a list");
        bad_config("acp:\n  ok: {command: [x]}\n  a: {command: []}", "agent.yaml:3:3: acp.a.command");
        bad_config("acp: {a: {comand: [x]}}", "did you mean \"command\"?");
        bad_config("acp: {'a b': {command: [x]}}", "is no name");
        bad_config("acp: {a: {command: [x], env: {N: 1}}}", "acp.a.env.N: expected a text");
        configure("acp:");
        configure("name: x");
}

/* A folder with a program of that name, first on the PATH. */
static void on_path(struct fake *f, const char *name, const char *options)
{
        char *text = str_printf("#!/bin/sh\nexec python3 '%s' \"$@\" %s\n", script(), options);
        char path[600], *all;

        fake_put(f, name, text);
        snprintf(path, sizeof path, "%s/%s", f->home, name);
        CHECK(chmod(path, 0755) == 0);
        all = str_printf("%s:%s", f->home, getenv("PATH"));
        setenv("PATH", all, 1);
        mem_free(all);
        mem_free(text);
}

TEST(acp, gemini_is_found_and_gets_its_flags_and_its_key)
{
        struct fake f;

        setenv("GEMINI_API_KEY", "fake-key", 1);
        setenv("ANTHROPIC_API_KEY", "not-yours", 1);
        fake_init(&f, NULL);
        on_path(&f, "gemini", "");
        fake_call(&f, "gemini.prompt",
                  "{\"prompt\":\"[[args]][[env: GEMINI_API_KEY]][[env: "
                  "ANTHROPIC_API_KEY]]\",\"model\":\"fast\"}");
        succeeded(&f);
        CHECK_STR(fake_text(&f, "text"), "[\"--acp\", \"--skip-trust\", \"-m\", \"fast\"]fake-key(unset)");
        fake_fini(&f);
}

TEST(acp, remarks_of_codex_are_not_its_answer)
{
        struct fake f;

        fake_init(&f, NULL);
        on_path(&f, "codex-acp", "");
        fake_call(&f, ACP,
                  "{\"agent\":\"codex-acp\",\"prompt\":\"[[text: Warning: old]][[id-text: hello]]\"}");
        succeeded(&f);
        CHECK_STR(fake_text(&f, "text"), "hello");
        CHECK(strstr(events(&f), "{\"type\":\"log\",\"level\":\"warning\",\"message\":\"Warning: old\"}"));
        fake_fini(&f);
}

TEST(acp, gemini_opens_no_session_twice_in_a_minute)
{
        struct acp_program gemini, codex;

        CHECK_INT(acp_program_known("gemini", &gemini, NULL), 0);
        CHECK_INT(acp_program_known("codex-acp", &codex, NULL), 0);
        CHECK_INT(acp_program_wait_ms(&gemini, 60000, 60000), 60000);
        CHECK_INT(acp_program_wait_ms(&gemini, 60000, 119999), 1);
        CHECK_INT(acp_program_wait_ms(&gemini, 119999, 120000), 0);
        CHECK_INT(acp_program_wait_ms(&gemini, 0, 10), 0);
        CHECK_INT(acp_program_wait_ms(&codex, 60000, 60000), 0);
        acp_program_fini(&gemini);
        acp_program_fini(&codex);
}

TEST(acp, sessions_of_two_tools_are_kept_apart)
{
        struct fake f;
        char *in;

        fake_init(&f, NULL);
        on_path(&f, "gemini", "");
        ask(&f, "", "[[text: x]]", "\"cwd\":\"~\"");
        in = str_printf("{\"prompt\":\"x\",\"session\":\"%s\"}", fake_text(&f, "session"));
        fake_call(&f, "gemini.prompt", in);
        CHECK_STR(f.code, "session_unknown");
        CHECK(strstr(f.msg, "belongs to acp.prompt python3, not to gemini.prompt"));
        mem_free(in);
        fake_fini(&f);
}

TEST(acp, some_agents_must_be_asked_to_log_in)
{
        struct fake f;

        fake_init(&f, NULL);
        on_path(&f, "cursor-agent", "--auth-ok");
        fake_call(&f, ACP, "{\"agent\":\"cursor\",\"prompt\":\"[[text: in]]\"}");
        succeeded(&f);
        CHECK_STR(fake_text(&f, "text"), "in");
        on_path(&f, "cursor-agent", "--auth");
        fake_call(&f, ACP, "{\"agent\":\"cursor\",\"prompt\":\"[[text: in]]\"}");
        CHECK_STR(f.code, "not_logged_in");
        CHECK(strstr(f.msg, "cursor-agent login"));
        fake_fini(&f);
}

TEST(acp, a_missing_agent_is_told)
{
        struct fake f;

        fake_init(&f, NULL);
        setenv("PATH", "/nonexistent", 1);
        fake_call(&f, ACP, "{\"agent\":\"codex-acp\",\"prompt\":\"x\"}");
        CHECK_INT(f.outcome, TOOL_REFUSED);
        CHECK_STR(f.code, "tool_missing");
        CHECK(strstr(f.msg, "install it on this machine"));
        fake_call(&f, ACP, "{\"prompt\":\"x\"}");
        CHECK(strstr(f.msg, "say either `agent`"));
        fake_fini(&f);
}

TEST(acp, the_policy_binds_the_command)
{
        struct fake f;

        fake_init(&f, "version: 1\ncommands: {deny: [python3]}\n");
        ask(&f, "", "[[text: x]]", "");
        CHECK_INT(f.outcome, TOOL_REFUSED);
        CHECK_STR(f.code, "policy_denied");
        fake_fini(&f);
}

/* --- failures ------------------------------------------------------------------------------------------ */

TEST(acp, each_failure_has_its_own_code)
{
        static const struct {
                const char *options, *prompt, *code, *says;
        } t[] = {
                {"", "[[die: 7]]", "stream_ended", "its last words: the fake dies as it was told"},
                {"", "[[text: x]][[half]]", "half_message", "in the middle of a message"},
                {",\"--ignore-eof\"", "[[text: x]][[close]]", "stream_ended", "closed its standard output"},
                {"", "[[big: 17000000]]", "message_too_large", "too large"},
                {"", "[[junk]][[hang]]", "protocol_error", "no message of ACP"},
                {"", "[[stop: max_tokens]]", "max_tokens", ""},
                {"", "[[stop: max_turn_requests]]", "turn_limit", ""},
                {"", "[[stop: refusal]]", "refused", ""},
                {"", "[[stop: cancelled]]", "turn_cancelled", ""},
                {"", "[[stop: bored]]", "protocol_error", "bored"},
                {"", "[[broken: last status: 429 Too Many Requests]]", "rate_limited", "429 Too Many"},
                {"", "[[broken: boom]]", "agent_error", "boom"},
                {"", "[[error: {\"code\":401,\"message\":\"no\"}]]", "auth_failed", "no"},
                {"", "[[error: {\"code\":-32000,\"message\":\"Authentication required\"}]]", "auth_failed",
                 ""},
                {"",
                 "[[text: Please run /login]][[error: {\"code\":-32000,\"message\":\"Authentication "
                 "required\"}]]",
                 "not_logged_in", ""},
                {"",
                 "[[error: "
                 "{\"code\":-32603,\"message\":\"Internal\",\"data\":{\"errorKind\":\"rate_limit\"}}]]",
                 "rate_limited", "Internal"},
                {"", "[[error: {\"code\":-32603,\"message\":\"x\",\"data\":{\"errorKind\":\"overloaded\"}}]]",
                 "overloaded", ""},
                {"", "[[error: {\"code\":-32603,\"message\":\"API Error: 500 oh\"}]]", "server_error",
                 "500 oh"},
                {"", "[[error: {\"code\":-32603,\"message\":\"API Error: 400 no\"}]]", "bad_request",
                 "400 no"},
                {"", "[[error: {\"code\":-32603,\"message\":\"x\",\"data\":{\"details\":\"why not\"}}]]",
                 "agent_error", "why not"},
                {"", "[[error: {\"code\":529,\"message\":\"x\"}]]", "overloaded", ""},
                {"", "[[error: {\"code\":404,\"message\":\"x\"}]]", "unknown_model", ""},
                {"", "[[error: {\"code\":-32602,\"message\":\"x\"}]]", "protocol_error", ""},
                {",\"--auth\"", "x", "not_logged_in", "log in there"},
                {",\"--version\",\"9\"", "x", "version_mismatch", "version 9"},
        };

        for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
                struct fake f;

                fake_init(&f, NULL);
                f.count_only = true;
                ask(&f, t[i].options, t[i].prompt, "");
                if (f.outcome != TOOL_FAILED || strcmp(f.code, t[i].code) != 0 || !strstr(f.msg, t[i].says))
                        test_fail(__FILE__, __LINE__, "%s: %s: %s", t[i].prompt, f.code, f.msg);
                fake_fini(&f);
        }
}
