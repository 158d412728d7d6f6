/* MCP servers as tools, against tests/peers/fake_mcp.py in both eras, on pipes and over HTTP. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/tools/mcp.h"
#include "agent/tools/mcp_config.h"
#include "common/err.h"
#include "common/json.h"
#include "common/mem.h"
#include "tests/lib/test.h"
#include "tests/tools/fake.h"

struct world {
        struct fake f;
        char cache[400], log[400], peer[600];
        FILE *http; /* the stand-in, if it is a server of HTTP */
        pid_t pid;
        int port;
};

static void on_over(uv_timer_t *t)
{
        *(bool *)t->data = true;
}

static void on_over_closed(uv_handle_t *h)
{
        h->data = NULL;
}

/* Turns of the loop for so long, whether a call is over or not: a bound against hanging. */
static void pass(struct world *w, int ms)
{
        uv_timer_t t;
        bool over = false;

        uv_timer_init(&w->f.loop, &t);
        t.data = &over;
        uv_timer_start(&t, on_over, (uint64_t)ms, 0);
        while (!over)
                uv_run(&w->f.loop, UV_RUN_ONCE);
        uv_close((uv_handle_t *)&t, on_over_closed);
        while (t.data)
                uv_run(&w->f.loop, UV_RUN_NOWAIT);
}

static void open_servers(struct world *w, const char *yaml)
{
        struct mcp_configs c;
        struct err e = {0};
        struct mcp_options o = {.loop = &w->f.loop,
                                .policy = w->f.policy,
                                .scratch_root = w->f.scratch,
                                .cache_dir = w->cache};

        if (mcp_configs_parse(yaml, strlen(yaml), "agent.yaml", &c, &e) != 0)
                test_fail(__FILE__, __LINE__, "config: %s", e.msg);
        CHECK_INT(mcp_open(&o, &c, &e), 0);
}

static void init(struct world *w)
{
        char root[400];

        memset(w, 0, sizeof *w);
        fake_init(&w->f, NULL);
        CHECK(getcwd(root, sizeof root)); /* tests run in the project's root */
        snprintf(w->cache, sizeof w->cache, "%s/mcp", test_scratch());
        snprintf(w->log, sizeof w->log, "%s/messages", test_scratch());
        snprintf(w->peer, sizeof w->peer, "%s/tests/peers/fake_mcp.py", root);
}

/* One server `s` on pipes; `args`: of the stand-in, `more`: lines of its configuration. */
static void init_stdio(struct world *w, const char *args, const char *more)
{
        char yaml[4000];

        init(w);
        snprintf(yaml, sizeof yaml, "mcp_servers:\n  s:\n    command: [python3, %s, --log, %s%s%s]\n%s",
                 w->peer, w->log, *args ? ", " : "", args, more);
        open_servers(w, yaml);
}

static void start_http(struct world *w, const char *args)
{
        char cmd[2000], line[100];
        int to[2], from[2];

        CHECK(pipe2(to, O_CLOEXEC) == 0 && pipe2(from, O_CLOEXEC) == 0);
        snprintf(cmd, sizeof cmd, "exec python3 %s --http 0 --log %s %s", w->peer, w->log, args);
        w->pid = fork();
        if (w->pid == 0) {
                dup2(to[0], 0);
                dup2(from[1], 1);
                execl("/bin/sh", "sh", "-c", cmd, NULL);
                _exit(127);
        }
        close(to[0]);
        close(from[1]);
        w->http = fdopen(to[1], "w"); /* it ends with its standard input */
        CHECK(w->pid > 0 && w->http);
        {
                FILE *out = fdopen(from[0], "r");

                CHECK(out && fgets(line, sizeof line, out) && sscanf(line, "ready %d", &w->port) == 1);
                fclose(out);
        }
}

static void init_http(struct world *w, const char *args, const char *more)
{
        char yaml[2000];

        init(w);
        start_http(w, args);
        snprintf(yaml, sizeof yaml, "mcp_servers:\n  s:\n    url: http://127.0.0.1:%d/mcp\n%s", w->port,
                 more);
        open_servers(w, yaml);
}

static void fini(struct world *w)
{
        mcp_close();
        uv_run(&w->f.loop, UV_RUN_DEFAULT); /* until its processes are gone */
        if (w->http) {
                fclose(w->http);
                CHECK(waitpid(w->pid, NULL, 0) == w->pid);
        }
        fake_fini(&w->f);
}

static void until_tool(struct world *w, const char *name)
{
        for (int i = 0; i < 600 && !tool_find(name); i++)
                pass(w, 20);
        if (!tool_find(name))
                test_fail(__FILE__, __LINE__, "there is no %s", name);
}

static const char *events(struct world *w)
{
        CHECK(buf_putc(&w->f.events, '\0') == 0);
        w->f.events.len--;
        return (const char *)w->f.events.data;
}

/* What the server was sent. */
static const char *log_text(struct world *w)
{
        static char text[1 << 18];
        FILE *f = fopen(w->log, "re");
        size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;

        if (f)
                fclose(f);
        text[n] = '\0';
        return text;
}

static int count(const char *text, const char *what)
{
        int n = 0;

        while ((text = strstr(text, what))) {
                n++;
                text += strlen(what);
        }
        return n;
}

static const char *state(char out[64])
{
        cJSON *list = mcp_describe();

        snprintf(out, 64, "%s",
                 cJSON_GetStringValue(cJSON_GetObjectItem(cJSON_GetArrayItem(list, 0), "state")));
        cJSON_Delete(list);
        return out;
}

static void until_state(struct world *w, const char *want)
{
        char now[64];

        for (int i = 0; i < 600 && strcmp(state(now), want) != 0; i++)
                pass(w, 10);
        CHECK_STR(state(now), want);
}

/* --- each way to speak, the same tests ------------------------------------------------- */

static void check_calls(struct world *w)
{
        struct fake *f = &w->f;
        const cJSON *sum;

        until_tool(w, "mcp.s.echo");
        CHECK_STR(tool_find("mcp.s.echo")->effect, "pure");
        CHECK_STR(tool_find("mcp.s.die")->effect, "at-most-once");
        CHECK(strstr(tool_find("mcp.s.add")->output_schema, "\"sum\""));
        fake_call(f, "mcp.s.echo", "{\"text\":\"h\\u00e9llo\"}");
        CHECK_STR(f->msg, "");
        CHECK_INT(f->outcome, TOOL_SUCCEEDED);
        CHECK_STR(fake_text(f, "text"), "h\xc3\xa9llo");
        CHECK_INT(f->out.len, 6);
        fake_call(f, "mcp.s.add", "{\"a\":2,\"b\":3}");
        sum = cJSON_GetObjectItem(cJSON_GetObjectItem(f->outputs, "structured"), "sum");
        CHECK(cJSON_IsNumber(sum) && sum->valuedouble == 5);
        fake_call(f, "mcp.s.add", "{\"a\":2}");
        CHECK_INT(f->outcome, TOOL_REFUSED); /* by its schema, before the server hears of it */
        fake_call(f, "mcp.s.fail", "{\"text\":\"out of paper\"}");
        CHECK_INT(f->outcome, TOOL_FAILED);
        CHECK_STR(f->code, "tool_error");
        CHECK_STR(f->msg, "fail says: out of paper");
        fake_call(f, "mcp.s.slow", "{\"steps\":3,\"ms\":1}");
        CHECK_INT(f->outcome, TOOL_SUCCEEDED);
        CHECK(strstr(events(w),
                     "{\"type\":\"progress\",\"progress\":3,\"total\":3,\"message\":\"step 3 of 3\"}"));
        fake_call(f, "mcp.s.big", "{\"bytes\":3000000}");
        CHECK_INT(f->outcome, TOOL_SUCCEEDED);
        CHECK_INT(f->out.len, 3000000);
        CHECK_INT(strlen(fake_text(f, "text")), 1 << 20);
        CHECK_INT(fake_number(f, "text_truncated"), 1);
}

static void check_questions(struct world *w)
{
        struct fake *f = &w->f;
        cJSON *content = cJSON_CreateObject();

        cJSON_AddStringToObject(content, "answer", "blue");
        f->decision =
                (struct tool_decision){.outcome = ASK_ALLOWED, .content = content, .by = "ada", .reason = ""};
        fake_call(f, "mcp.s.ask", "{\"question\":\"Which colour?\"}");
        CHECK_STR(f->msg, "");
        CHECK_STR(fake_text(f, "text"), "they said blue");
        CHECK_INT(f->question.kind, ASK_INPUT);
        CHECK_STR(f->question.title, "Which colour?");
        CHECK_STR(f->question.tool, "ask");
        CHECK(strstr(f->question.schema, "\"answer\""));
        f->decision = (struct tool_decision){.outcome = ASK_DENIED, .by = "ada", .reason = ""};
        fake_call(f, "mcp.s.ask", "{\"question\":\"Which colour?\"}");
        CHECK_STR(f->msg, "ask says: no answer: decline");
        f->decision = (struct tool_decision){.outcome = ASK_EXPIRED, .by = "", .reason = ""};
        fake_call(f, "mcp.s.ask", "{\"question\":\"Which colour?\"}");
        CHECK_STR(f->msg, "ask says: no answer: cancel");
        cJSON_Delete(content);
}

/* Cancelled while it runs: the server hears of it and works on with others. */
static void check_cancel(struct world *w)
{
        struct fake *f = &w->f;

        fake_start(f, "mcp.s.hang", "{}");
        fake_run_for(f, 100);
        CHECK(!f->finished);
        fake_cancel(f, 1000);
        fake_run(f);
        CHECK_INT(f->outcome, TOOL_CANCELLED);
        fake_call(f, "mcp.s.echo", "{\"text\":\"on\"}");
        CHECK_STR(fake_text(f, "text"), "on");
}

TEST(mcp, stdio_modern)
{
        struct world w;

        init_stdio(&w, "--era, modern, --page, 4", "");
        check_calls(&w);
        check_questions(&w);
        check_cancel(&w);
        CHECK(!strstr(log_text(&w), "\"initialize\""));
        CHECK_INT(count(log_text(&w), "\"server/discover\""), 1);
        CHECK_INT(count(log_text(&w), "\"tools/list\""), 4);
        CHECK(strstr(log_text(&w), "notifications/cancelled"));
        fini(&w);
}

TEST(mcp, stdio_legacy)
{
        struct world w;

        init_stdio(&w, "--era, legacy", "");
        check_calls(&w);
        check_questions(&w);
        check_cancel(&w);
        CHECK_INT(count(log_text(&w), "\"initialize\""), 1);
        CHECK(strstr(log_text(&w), "notifications/initialized"));
        CHECK(strstr(log_text(&w), "notifications/cancelled"));
        fini(&w);
}

TEST(mcp, http_modern)
{
        struct world w;
        const char *log;

        init_http(&w, "--era modern --page 5", "");
        check_calls(&w);
        check_questions(&w);
        check_cancel(&w);
        log = log_text(&w);
        CHECK(!strstr(log, "\"initialize\"") && !strstr(log, "notifications/cancelled") &&
              !strstr(log, "mcp-session-id"));
        CHECK(strstr(log, "\"mcp-method\": \"tools/call\"") && strstr(log, "\"mcp-name\": \"echo\""));
        fini(&w);
}

TEST(mcp, http_legacy)
{
        struct world w;

        init_http(&w, "--era legacy", "");
        check_calls(&w);
        check_questions(&w);
        check_cancel(&w);
        CHECK(strstr(log_text(&w), "\"mcp-session-id\""));
        CHECK(strstr(log_text(&w), "\"mcp-protocol-version\": \"2025-11-25\""));
        CHECK(strstr(log_text(&w), "notifications/cancelled"));
        fini(&w);
}

/* --- the life of a server ---------------------------------------------------------------- */

TEST(mcp, a_server_that_dies_in_the_middle_is_told_and_started_again)
{
        struct world w;
        struct fake *f = &w.f;

        init_stdio(&w, "", "");
        until_tool(&w, "mcp.s.die");
        fake_call(f, "mcp.s.die", "{}");
        CHECK_INT(f->outcome, TOOL_FAILED);
        CHECK_STR(f->code, "server_died");
        CHECK(strstr(f->msg, "status 9"));
        fake_call(f, "mcp.s.echo", "{\"text\":\"again\"}");
        CHECK_STR(f->msg, "");
        CHECK_STR(fake_text(f, "text"), "again");
        fake_call(f, "mcp.s.half", "{}");
        CHECK_STR(f->code, "server_died");
        fake_call(f, "mcp.s.noise", "{}");
        CHECK_INT(f->outcome, TOOL_SUCCEEDED);
        fini(&w);
}

TEST(mcp, what_a_server_left_behind_dies_with_it)
{
        struct world w;
        struct fake *f = &w.f;
        char input[600];
        int pid;

        init_stdio(&w, "", "    idle_timeout: 2s\n");
        until_tool(&w, "mcp.s.child");
        snprintf(input, sizeof input, "{\"file\":\"%s/pid\"}", f->home);
        fake_call(f, "mcp.s.child", input);
        CHECK_STR(f->msg, "");
        for (int i = 0; i < 150 && !(fake_get(f, "pid") && atoi(fake_get(f, "pid"))); i++)
                pass(&w, 10);
        pid = atoi(fake_get(f, "pid"));
        CHECK(pid > 1 && fake_alive(pid));
        until_state(&w, "off");
        CHECK(!fake_alive(pid));
        fini(&w);
}

TEST(mcp, an_idle_server_is_closed_and_comes_back_for_a_call)
{
        struct world w;

        init_stdio(&w, "", "    idle_timeout: 50ms\n");
        until_tool(&w, "mcp.s.echo");
        until_state(&w, "off");
        fake_call(&w.f, "mcp.s.echo", "{\"text\":\"x\"}");
        CHECK_STR(fake_text(&w.f, "text"), "x");
        CHECK_INT(count(log_text(&w), "\"server/discover\""), 2);
        fini(&w);
}

TEST(mcp, what_is_on_disk_needs_no_start)
{
        struct world w;
        struct stat st;
        char path[500];

        init_stdio(&w, "--era, legacy", "    idle_timeout: 50ms\n");
        until_tool(&w, "mcp.s.echo");
        until_state(&w, "off");
        snprintf(path, sizeof path, "%s/s.json", w.cache);
        for (int i = 0; i < 200 && stat(path, &st) != 0; i++)
                pass(&w, 10);
        CHECK(stat(path, &st) == 0 && (st.st_mode & 0777) == 0600);
        mcp_close();
        uv_run(&w.f.loop, UV_RUN_DEFAULT);
        CHECK(!tool_find("mcp.s.echo"));
        CHECK(unlink(w.log) == 0);
        {
                char yaml[4000];

                snprintf(yaml, sizeof yaml,
                         "mcp_servers:\n  s:\n    command: [python3, %s, --log, %s, --era, legacy]\n    "
                         "idle_timeout: 50ms\n",
                         w.peer, w.log);
                open_servers(&w, yaml);
                CHECK(tool_find("mcp.s.echo"));
                pass(&w, 100);
                CHECK_STR(log_text(&w), "");
                fake_call(&w.f, "mcp.s.echo", "{\"text\":\"x\"}");
                CHECK_STR(fake_text(&w.f, "text"), "x");
                CHECK(!strstr(log_text(&w), "server/discover")); /* its era was known, too */
        }
        fini(&w);
}

TEST(mcp, tools_that_come_and_go_are_seen)
{
        struct world w;

        init_stdio(&w, "--era, legacy", "");
        until_tool(&w, "mcp.s.grow");
        fake_call(&w.f, "mcp.s.grow", "{}");
        CHECK_INT(w.f.outcome, TOOL_SUCCEEDED);
        until_tool(&w, "mcp.s.grown_13");
        fini(&w);
}

/* The notice comes while the first list is read, and the list that follows is older than it. */
TEST(mcp, a_change_that_is_told_while_the_list_is_read_is_not_lost)
{
        struct world w;

        init_stdio(&w, "--late", "");
        until_tool(&w, "mcp.s.late");
        fini(&w);
}

TEST(mcp, a_server_that_floods_its_client_is_served_and_not_obeyed)
{
        static const char *const eras[] = {"--flood, --era, legacy", "--flood, --era, modern"};

        for (size_t i = 0; i < sizeof eras / sizeof *eras; i++) {
                struct world w;

                init_stdio(&w, eras[i], "");
                until_tool(&w, "mcp.s.echo");
                for (int n = 0; n < 3; n++) {
                        fake_call(&w.f, "mcp.s.echo", "{\"text\":\"through\"}");
                        CHECK_INT(w.f.outcome, TOOL_SUCCEEDED);
                        CHECK_STR(fake_text(&w.f, "text"), "through");
                }
                /* Of three thousand changes it was told; its tools were read a few times. */
                CHECK(count(log_text(&w), "\"tools/list\"") < 20);
                fini(&w);
        }
}

static void fails_to_start(const char *args, const char *more, const char *code, const char *say)
{
        struct world w;
        struct stat st;
        char path[500];
        FILE *o;

        init_stdio(&w, "", "");
        until_tool(&w, "mcp.s.echo");
        snprintf(path, sizeof path, "%s/s.json", w.cache);
        for (int i = 0; i < 200 && stat(path, &st) != 0; i++)
                pass(&w, 10);
        mcp_close();
        uv_run(&w.f.loop, UV_RUN_DEFAULT);
        {
                /* The same tools on disk, for another configuration. */
                char yaml[4000], *text;
                struct mcp_configs c;
                struct err e = {0};
                cJSON *v;
                static char old[1 << 16];
                size_t n;

                snprintf(yaml, sizeof yaml, "mcp_servers:\n  s:\n    command: [python3, %s%s%s]\n%s", w.peer,
                         *args ? ", " : "", args, more);
                CHECK_INT(mcp_configs_parse(yaml, strlen(yaml), "f", &c, &e), 0);
                o = fopen(path, "re");
                n = fread(old, 1, sizeof old - 1, o);
                old[n] = '\0';
                fclose(o);
                v = cJSON_Parse(old);
                cJSON_ReplaceItemInObject(v, "config", cJSON_CreateString(c.v[0].sha));
                text = cJSON_PrintUnformatted(v);
                o = fopen(path, "we");
                CHECK(text && fputs(text, o) >= 0 && fclose(o) == 0);
                cJSON_free(text);
                cJSON_Delete(v);
                mcp_configs_free(&c);
                open_servers(&w, yaml);
        }
        fake_call(&w.f, "mcp.s.echo", "{\"text\":\"x\"}");
        CHECK_INT(w.f.outcome, TOOL_FAILED);
        CHECK_STR(w.f.code, code);
        if (!strstr(w.f.msg, say))
                test_fail(__FILE__, __LINE__, "\"%s\" is not in \"%s\"", say, w.f.msg);
        fini(&w);
}

TEST(mcp, one_that_cannot_start_says_why)
{
        fails_to_start("--start, exit", "", "server_unavailable", "cannot start: --start exit");
}

TEST(mcp, one_that_says_nothing_is_given_up)
{
        fails_to_start("--start, hang", "    startup_timeout: 300ms\n", "server_unavailable",
                       "startup_timeout");
}

TEST(mcp, a_program_that_is_not_there_is_tried_again_later)
{
        struct world w;
        cJSON *list;
        const char *error;

        if (FAKE_VFORK_IS_FORK)
                return;
        init(&w);
        open_servers(&w, "mcp_servers:\n  s:\n    command: [/nonexistent/mcp]\n");
        pass(&w, 50);
        list = mcp_describe();
        error = cJSON_GetStringValue(cJSON_GetObjectItem(cJSON_GetArrayItem(list, 0), "error"));
        CHECK(error && strstr(error, "/nonexistent/mcp"));
        cJSON_Delete(list);
        fini(&w);
}

TEST(mcp, a_call_has_its_time)
{
        struct world w;

        init_stdio(&w, "", "    call_timeout: 150ms\n");
        until_tool(&w, "mcp.s.hang");
        fake_call(&w.f, "mcp.s.hang", "{}");
        CHECK_INT(w.f.outcome, TOOL_TIMED_OUT);
        CHECK_STR(w.f.code, "timeout");
        fake_call(&w.f, "mcp.s.slow", "{\"steps\":6,\"ms\":60}"); /* progress keeps it alive */
        CHECK_INT(w.f.outcome, TOOL_SUCCEEDED);
        fini(&w);
}

TEST(mcp, secrets_come_from_files_and_nothing_else_is_inherited)
{
        struct world w;
        char more[1200];

        setenv("PHOTON_TEST_SECRET", "s3", 1);
        init(&w);
        fake_put(&w.f, "token", "from-file\n");
        snprintf(more, sizeof more,
                 "mcp_servers:\n  s:\n    command: [python3, %s]\n    env: {A: plain, B: {file: %s/token}, "
                 "C: {env: "
                 "PHOTON_TEST_SECRET, prefix: 'x-'}}\n",
                 w.peer, w.f.home);
        open_servers(&w, more);
        until_tool(&w, "mcp.s.env");
        fake_call(&w.f, "mcp.s.env", "{\"name\":\"A\"}");
        CHECK_STR(fake_text(&w.f, "text"), "plain");
        fake_call(&w.f, "mcp.s.env", "{\"name\":\"B\"}");
        CHECK_STR(fake_text(&w.f, "text"), "from-file");
        fake_call(&w.f, "mcp.s.env", "{\"name\":\"C\"}");
        CHECK_STR(fake_text(&w.f, "text"), "x-s3");
        fake_call(&w.f, "mcp.s.env", "{\"name\":\"PHOTON_TEST_SECRET\"}");
        CHECK_STR(fake_text(&w.f, "text"), "(not set)");
        fini(&w);
}

/* --- HTTP ---------------------------------------------------------------------------------- */

TEST(mcp, a_session_that_was_forgotten_is_begun_anew)
{
        struct world w;

        init_http(&w, "--era legacy --forget 3", "");
        until_tool(&w, "mcp.s.echo");
        for (int i = 0; i < 4; i++) {
                fake_call(&w.f, "mcp.s.echo", "{\"text\":\"x\"}");
                CHECK_STR(w.f.msg, "");
                CHECK_INT(w.f.outcome, TOOL_SUCCEEDED);
        }
        CHECK(count(log_text(&w), "\"method\": \"initialize\"") >= 2);
        fini(&w);
}

TEST(mcp, a_token_goes_with_every_request)
{
        struct world w;

        setenv("MCP_TEST_TOKEN", "sesame", 1);
        init_http(&w, "--token sesame",
                  "    headers: {Authorization: {env: MCP_TEST_TOKEN, prefix: 'Bearer '}}\n");
        until_tool(&w, "mcp.s.echo");
        fake_call(&w.f, "mcp.s.echo", "{\"text\":\"x\"}");
        CHECK_INT(w.f.outcome, TOOL_SUCCEEDED);
        fini(&w);
        init_http(&w, "--token other",
                  "    headers: {Authorization: {env: MCP_TEST_TOKEN, prefix: 'Bearer '}}\n");
        for (int i = 0; i < 100; i++) {
                cJSON *list = mcp_describe();
                const char *e =
                        cJSON_GetStringValue(cJSON_GetObjectItem(cJSON_GetArrayItem(list, 0), "error"));
                bool said = e && strstr(e, "unauthorized") && !strstr(e, "sesame");

                cJSON_Delete(list);
                if (said)
                        break;
                CHECK(i < 99);
                pass(&w, 20);
        }
        fini(&w);
}

TEST(mcp, a_server_of_http_that_dies_breaks_the_call)
{
        struct world w;

        init_http(&w, "", "");
        until_tool(&w, "mcp.s.die");
        fake_call(&w.f, "mcp.s.die", "{}");
        CHECK_INT(w.f.outcome, TOOL_FAILED);
        CHECK_STR(w.f.code, "stream_ended");
        for (int i = 0; i < 2; i++) /* the first may still go into the old connection */
                fake_call(&w.f, "mcp.s.echo", "{\"text\":\"x\"}");
        CHECK_INT(w.f.outcome, TOOL_FAILED);
        CHECK_STR(w.f.code, "connect_failed");
        fini(&w);
}

/* --- the configuration -------------------------------------------------------------------------- */

TEST(mcp, mistakes_in_the_configuration_have_their_place)
{
        static const struct {
                const char *text, *say;
        } cases[] = {
                {"mcp_servers: []", "f:1:14: mcp_servers: expected a map of servers"},
                {"mcp_servers: {a.b: {command: [x]}}", "f:1:15: \"a.b\" is no name"},
                {"mcp_servers: {a: x}", "a: expected a map with command or url"},
                {"mcp_servers: {a: {}}", "give either command or url"},
                {"mcp_servers: {a: {command: [x], url: 'http://h/'}}", "give either command or url"},
                {"mcp_servers: {a: {comand: [x]}}", "did you mean \"command\"?"},
                {"mcp_servers: {a: {command: x}}", "command: expected a list"},
                {"mcp_servers: {a: {url: 'ftp://h/'}}", "expected http:// or https://"},
                {"mcp_servers: {a: {url: 'http://u:p@h/'}}", "use headers"},
                {"mcp_servers: {a: {url: 'http://h/', env: {A: b}}}", "belong to a command"},
                {"mcp_servers: {a: {command: [x], headers: {A: b}}}", "belong to a url"},
                {"mcp_servers: {a: {url: 'http://h/', headers: {Host: b}}}", "cannot be set"},
                {"mcp_servers: {a: {command: [x], env: {A: {env: X, file: Y}}}}", "A: expected a text"},
                {"mcp_servers: {a: {command: [x], env: {A: {var: X}}}}", "unknown key \"var\""},
                {"mcp_servers: {a: {command: [x], call_timeout: never}}",
                 "call_timeout: expected a duration"},
                {"mcp_servers: {a: {command: [x], cwd: here}}", "absolute path"},
        };

        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
                struct mcp_configs c;
                struct err e = {0};

                CHECK_INT(mcp_configs_parse(cases[i].text, strlen(cases[i].text), "f", &c, &e), -E_INVAL);
                if (!strstr(e.msg, cases[i].say) || e.line != 1)
                        test_fail(__FILE__, __LINE__, "case %zu: %s", i, e.msg);
        }
}
