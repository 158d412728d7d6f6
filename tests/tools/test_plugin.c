/* Plug-ins: manifests, one call from input to result, and each way to fail. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/tools/plugin.h"
#include "agent/tools/plugin_manifest.h"
#include "common/err.h"
#include "common/mem.h"
#include "tests/lib/test.h"
#include "tests/tools/fake.h"

static char dir[400];

static void put(const char *name, const char *text, unsigned mode)
{
        char path[600];
        FILE *o;

        snprintf(path, sizeof path, "%s/%s", dir, name);
        o = fopen(path, "we");
        CHECK(o && fputs(text, o) >= 0 && fclose(o) == 0 && chmod(path, mode) == 0);
}

static void drop(const char *name)
{
        char path[600];

        snprintf(path, sizeof path, "%s/%s", dir, name);
        CHECK(unlink(path) == 0);
}

static void open_plugins(struct fake *f)
{
        struct err e = {0};
        const char *dirs[] = {dir, "/nonexistent/tools.d"};

        CHECK_INT(plugins_open(&f->loop, dirs, 2, &e), 0);
}

static void make_dir(void)
{
        snprintf(dir, sizeof dir, "%s/tools.d", test_scratch());
        CHECK(mkdir(dir, 0755) == 0);
}

/* The tool test.it: a shell text, and more lines of its manifest. */
static void init_with(struct fake *f, const char *more, const char *shell)
{
        char text[2000];

        fake_init(f, NULL);
        make_dir();
        snprintf(text, sizeof text, "#!/bin/sh\n%s\n", shell);
        put("it.sh", text, 0755);
        snprintf(text, sizeof text, "name: test.it\ndescription: A test\ncommand: [./it.sh]\n%s", more);
        put("it.yaml", text, 0644);
        open_plugins(f);
        CHECK(tool_find("test.it"));
}

static void fini(struct fake *f)
{
        plugins_close();
        fake_fini(f);
}

static const char *text_of(struct buf *b)
{
        CHECK(buf_putc(b, '\0') == 0);
        b->len--;
        return (const char *)b->data;
}

#define RESULT "echo '{\"type\":\"result\",\"outputs\":{\"ok\":true}}'"

TEST(plugin, input_goes_in_as_one_line_and_outputs_come_back)
{
        struct fake f;

        init_with(&f, "", "read -r line; printf '{\"type\":\"result\",\"outputs\":%s}\\n' \"$line\"");
        fake_call(&f, "test.it", "{\"a\":[1,\"two\\nlines\"]}");
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        CHECK_STR(cJSON_GetArrayItem(cJSON_GetObjectItem(f.outputs, "a"), 1)->valuestring, "two\nlines");
        CHECK(f.pid > 1 && f.has_exit_code && f.exit_code == 0);
        fini(&f);
}

TEST(plugin, one_that_reads_all_of_its_input_does_not_wait_for_ever)
{
        struct fake f;

        init_with(&f, "", "cat >/dev/null; " RESULT);
        fake_call(&f, "test.it", "{}");
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        fini(&f);
}

TEST(plugin, each_type_of_event_is_shown)
{
        struct fake f;
        const char *ev;

        init_with(&f, "",
                  "cat >/dev/null; cat <<'END'\n"
                  "{\"type\":\"text\",\"text\":\"Hello \"}\n"
                  "{\"type\":\"text\",\"text\":\"you\"}\n"
                  "{\"type\":\"thought\",\"text\":\"hm\"}\n"
                  "{\"type\":\"progress\",\"progress\":1,\"total\":4,\"message\":\"first\"}\n"
                  "{\"type\":\"log\",\"level\":\"warning\",\"message\":\"careful\"}\n"
                  "{\"type\":\"usage\",\"input_tokens\":7,\"cost_usd\":0.25,\"model\":\"m\"}\n"
                  "{\"type\":\"tool\",\"id\":\"t1\",\"kind\":\"edit\",\"title\":\"Edit\",\"status\":"
                  "\"running\"}\n"
                  "{\"type\":\"plan\",\"entries\":[{\"text\":\"do\",\"status\":\"pending\"}]}\n"
                  "plain words\n"
                  "{\"type\":\"novelty\"}\n"
                  "{\"type\":\"result\",\"outputs\":{\"n\":1},\"usage\":{\"output_tokens\":9}}\n"
                  "END\necho trouble >&2");
        fake_call(&f, "test.it", "{}");
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        CHECK_STR(text_of(&f.out), "Hello you");
        CHECK_STR(text_of(&f.err), "trouble\n");
        ev = text_of(&f.events);
        CHECK(strstr(ev, "{\"type\":\"thought\",\"text\":\"hm\"}\n"));
        CHECK(strstr(ev, "{\"type\":\"progress\",\"progress\":1,\"total\":4,\"message\":\"first\"}\n"));
        CHECK(strstr(ev, "\"level\":\"warning\",\"message\":\"careful\""));
        CHECK(strstr(ev, "\"input_tokens\":7"));
        CHECK(strstr(ev, "\"cost_source\":\"reported\""));
        CHECK(strstr(ev, "\"id\":\"t1\",\"kind\":\"edit\""));
        CHECK(strstr(ev, "\"entries\":[{\"text\":\"do\",\"status\":\"pending\"}]"));
        CHECK(strstr(ev, "\"level\":\"info\",\"message\":\"plain words\""));
        CHECK(strstr(ev, "unknown type \\\"novelty\\\""));
        CHECK_INT(fake_number(&f, "n"), 1);
        fini(&f);
}

TEST(plugin, its_own_error_is_the_call_s)
{
        struct fake f;

        init_with(&f, "",
                  "echo '{\"type\":\"error\",\"code\":\"no_paper\",\"message\":\"The printer has no "
                  "paper.\",\"outputs\":{\"pages\":2}}'; exit 3");
        fake_call(&f, "test.it", "{}");
        CHECK_INT(f.outcome, TOOL_FAILED);
        CHECK_STR(f.code, "no_paper");
        CHECK_STR(f.msg, "The printer has no paper.");
        CHECK_INT(fake_number(&f, "pages"), 2);
        CHECK_INT(f.exit_code, 3);
        fini(&f);
}

TEST(plugin, the_first_last_word_counts)
{
        struct fake f;

        init_with(&f, "",
                  RESULT "; echo '{\"type\":\"error\",\"code\":\"late\",\"message\":\"x\"}'; "
                         "echo '{\"broken'; exit 9");
        fake_call(&f, "test.it", "{}");
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        CHECK_INT(f.exit_code, 9);
        fini(&f);
}

TEST(plugin, an_end_without_a_result_is_a_failure)
{
        static const struct {
                const char *shell, *say;
        } cases[] = {
                {"echo oh dear >&2; exit 4", "exit status 4); its standard error ends with: oh dear"},
                {"exit 0", "without a result (exit status 0)"},
                {"kill -KILL $$", "by signal 9"},
                {"printf '{\"type\":\"result\"'", "in the middle of a message"},
        };

        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
                struct fake f;

                init_with(&f, "", cases[i].shell);
                fake_call(&f, "test.it", "{}");
                CHECK_INT(f.outcome, TOOL_FAILED);
                CHECK_STR(f.code, "stream_ended");
                if (!strstr(f.msg, cases[i].say))
                        test_fail(__FILE__, __LINE__, "\"%s\" is not in \"%s\"", cases[i].say, f.msg);
                fini(&f);
                drop("it.sh");
                drop("it.yaml");
                CHECK(rmdir(dir) == 0);
        }
}

TEST(plugin, what_looks_like_an_event_and_is_none_ends_the_call)
{
        static const struct {
                const char *line, *say;
        } cases[] = {
                {"{\"type\":\"text\",", "line 1, column"},
                {"{\"a\":1}", "type"},
                {"{\"type\":\"text\"}", "text: "},
                {"{\"type\":\"progress\",\"progress\":\"half\"}", "progress: expected a number"},
                {"{\"type\":\"log\",\"level\":\"loud\",\"message\":\"x\"}", "level: \"loud\""},
                {"{\"type\":\"error\",\"code\":\"Not A Code\",\"message\":\"x\"}", "no error code"},
                {"{\"type\":\"result\",\"outputs\":[]}", "outputs: "},
                {"{\"type\":\"plan\",\"entries\":[{\"text\":\"x\"}]}", "status"},
                {"{\"type\":\"question\",\"id\":\"1\",\"title\":\"May I?\"}", "questions: true"},
                {"{\"type\":\"text\",\"text\":\"\\377\"}", "UTF-8"},
        };

        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
                struct fake f;
                char shell[400];

                snprintf(shell, sizeof shell, "printf '%s\\n'; sleep 1000", cases[i].line);
                if (strstr(cases[i].line, "\\377") == NULL)
                        snprintf(shell, sizeof shell, "echo '%s'; sleep 1000", cases[i].line);
                init_with(&f, "", shell);
                fake_call(&f, "test.it", "{}");
                CHECK_INT(f.outcome, TOOL_FAILED);
                CHECK_STR(f.code, "bad_event");
                if (!strstr(f.msg, cases[i].say))
                        test_fail(__FILE__, __LINE__, "\"%s\" is not in \"%s\"", cases[i].say, f.msg);
                fini(&f);
                drop("it.sh");
                drop("it.yaml");
                CHECK(rmdir(dir) == 0);
        }
}

TEST(plugin, an_endless_line_ends_the_call)
{
        struct fake f;

        init_with(&f, "", "head -c 52428800 /dev/zero | tr '\\0' x; sleep 1000");
        fake_call(&f, "test.it", "{}");
        CHECK_STR(f.code, "bad_event");
        fini(&f);
}

TEST(plugin, outputs_must_fit_their_schema)
{
        struct fake f;

        init_with(&f,
                  "output_schema: {type: object, required: [n], properties: {n: {type: integer}}}\n"
                  "input_schema: {type: object, additionalProperties: false, properties: {a: {type: "
                  "string}}}\n",
                  "echo '{\"type\":\"result\",\"outputs\":{\"n\":\"one\"}}'");
        fake_call(&f, "test.it", "{}");
        CHECK_INT(f.outcome, TOOL_FAILED);
        CHECK_STR(f.code, "bad_output");
        CHECK(strstr(f.msg, "n: expected a whole number"));
        fake_call(&f, "test.it", "{\"b\":1}");
        CHECK_INT(f.outcome, TOOL_REFUSED);
        fini(&f);
}

static void cancel_on_go(struct fake *f)
{
        if (f->out.len && memmem(f->out.data, f->out.len, "go", 2)) {
                f->on_output = NULL;
                fake_cancel(f, f->grace_ms);
        }
}

TEST(plugin, cancel_asks_and_then_kills_the_whole_tree)
{
        struct fake f;
        int pid;

        init_with(&f, "",
                  "trap '' TERM; setsid sh -c 'trap \"\" TERM; echo $$ >$HOME/pid; while :; do sleep 0.02; "
                  "done' & "
                  "while [ ! -s $HOME/pid ]; do sleep 0.01; done; echo "
                  "'{\"type\":\"text\",\"text\":\"go\"}'; wait; "
                  "while :; do sleep 0.02; done");
        f.on_output = cancel_on_go;
        f.grace_ms = 50;
        fake_call(&f, "test.it", "{}");
        CHECK_INT(f.outcome, TOOL_CANCELLED);
        CHECK_STR(f.code, "cancelled");
        pid = atoi(fake_get(&f, "pid"));
        CHECK(pid > 1 && !fake_alive(pid) && !fake_alive(f.pid));
        fini(&f);
}

TEST(plugin, a_result_after_the_cancel_does_not_count_but_one_before_does)
{
        struct fake f;

        init_with(&f, "",
                  "trap \""
                  "echo late"
                  "; exit 0\" TERM; echo '{\"type\":\"text\",\"text\":\"go\"}'; "
                  "while :; do sleep 0.02; done");
        f.on_output = cancel_on_go;
        fake_call(&f, "test.it", "{}");
        CHECK_INT(f.outcome, TOOL_CANCELLED);
        CHECK_INT(f.exit_code, 0); /* it was asked, not killed */
        fini(&f);
}

TEST(plugin, limits_of_the_manifest_end_it)
{
        struct fake f;

        init_with(&f, "timeout: 100ms\n",
                  "while :; do echo '{\"type\":\"progress\",\"progress\":1}'; sleep 0.02; done");
        f.grace_ms = 2000;
        fake_call(&f, "test.it", "{}");
        CHECK_INT(f.outcome, TOOL_TIMED_OUT);
        CHECK_STR(f.code, "timeout");
        CHECK(strstr(f.msg, "100ms"));
        put("it.yaml", "name: test.it\ndescription: x\ncommand: [./it.sh]\nstall: 100ms\n", 0644);
        put("it.sh", "#!/bin/sh\nsleep 1000", 0755);
        plugins_reload();
        fake_call(&f, "test.it", "{}");
        CHECK_INT(f.outcome, TOOL_FAILED);
        CHECK_STR(f.code, "stalled");
        fini(&f);
}

TEST(plugin, one_that_does_not_end_after_its_result_is_ended)
{
        struct fake f;

        init_with(&f, "", "trap 'exit 0' TERM; " RESULT "; sleep 1000 & wait");
        fake_call(&f, "test.it", "{}");
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        CHECK(strstr(text_of(&f.events), "did not end after its last event"));
        fini(&f);
}

TEST(plugin, one_that_closes_its_output_and_lives_on_is_ended)
{
        struct fake f;

        init_with(&f, "", "exec >&-; echo still here >&2; sleep 1000 & wait");
        fake_call(&f, "test.it", "{}");
        CHECK_INT(f.outcome, TOOL_FAILED);
        CHECK_STR(f.code, "stream_ended");
        CHECK(strstr(f.msg, "closed its standard output"));
        fini(&f);
}

#define ASKS                                                                                                 \
        "read input; echo "                                                                                  \
        "'{\"type\":\"question\",\"id\":\"q1\",\"kind\":\"permission\",\"action\":\"delete\","               \
        "\"title\":\"Delete it?\",\"arguments\":{\"path\":\"/tmp/x\"},\"paths\":[\"/tmp/x\"]}'; read "       \
        "answer; "                                                                                           \
        "echo \"{\\\"type\\\":\\\"result\\\",\\\"outputs\\\":{\\\"answer\\\":$answer}}\""

static const char *answer_of(struct fake *f, const char *key)
{
        const cJSON *v = cJSON_GetObjectItem(cJSON_GetObjectItem(f->outputs, "answer"), key);

        return cJSON_IsString(v) ? v->valuestring : "";
}

TEST(plugin, a_question_is_answered_on_standard_input)
{
        struct fake f;

        init_with(&f, "questions: true\ntimeout: 50ms\n", ASKS);
        f.decision = (struct tool_decision){.outcome = ASK_DENIED, .reason = "not now", .by = "ada"};
        fake_call(&f, "test.it", "{}");
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        CHECK_STR(answer_of(&f, "id"), "q1");
        CHECK_STR(answer_of(&f, "outcome"), "denied");
        CHECK_STR(answer_of(&f, "reason"), "not now");
        CHECK_STR(answer_of(&f, "by"), "ada");
        CHECK_STR(f.question.title, "Delete it?");
        CHECK_STR(f.question.action, "delete");
        CHECK_STR(f.question.tool, "test.it");
        CHECK_STR(f.question.paths, "/tmp/x");
        fini(&f);
}

TEST(plugin, time_stands_still_while_a_question_is_open)
{
        struct fake f;
        struct tool_decision d = {.outcome = ASK_ALLOWED, .by = "ada", .reason = ""};

        init_with(&f, "questions: true\ntimeout: 400ms\nstall: 300ms\n", ASKS);
        f.hold = true;
        fake_start(&f, "test.it", "{}");
        while (f.asked == 0)
                uv_run(&f.loop, UV_RUN_ONCE);
        fake_run_for(&f, 600);
        CHECK(!f.finished);
        fake_answer(&f, &d);
        fake_run(&f);
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        CHECK_STR(answer_of(&f, "outcome"), "allowed");
        fini(&f);
}

TEST(plugin, an_end_while_a_question_is_open_withdraws_it)
{
        struct fake f;

        init_with(&f, "questions: true\n",
                  "echo '{\"type\":\"question\",\"id\":\"q\",\"title\":\"?\"}'; read l; exit 2");
        f.hold = true;
        fake_call(&f, "test.it", "{}");
        CHECK_STR(f.code, "stream_ended");
        CHECK_INT(f.withdrawn, 1);
        fini(&f);
}

TEST(plugin, nobody_taking_the_output_holds_it_back_and_loses_nothing)
{
        struct fake f;

        init_with(&f, "",
                  "i=0; while [ $i -lt 2000 ]; do echo '{\"type\":\"text\",\"text\":\"0123456789\"}'; "
                  "i=$((i+1)); done; " RESULT);
        f.full_every = 100;
        fake_call(&f, "test.it", "{}");
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        CHECK_INT(f.out.len, 20000);
        fini(&f);
}

TEST(plugin, one_whose_words_wait_for_room_is_not_silent)
{
        struct fake f;

        init_with(&f, "stall: 4s\n", "echo '{\"type\":\"text\",\"text\":\"0123456789\"}'; " RESULT);
        f.full_every = 1;
        fake_start(&f, "test.it", "{}");
        while (!f.since_full && !f.finished)
                uv_run(&f.loop, UV_RUN_ONCE);
        uv_idle_stop(&f.room);
        fake_run_for(&f, 6000);
        CHECK(!f.finished);
        f.full_every = 0;
        uv_idle_start(&f.room, f.room.idle_cb);
        fake_run(&f);
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        fini(&f);
}

TEST(plugin, its_environment_is_scrubbed_and_has_what_the_manifest_names)
{
        struct fake f;
        const char *out;

        setenv("SECRET_ONE", "1", 1);
        setenv("SECRET_TWO", "2", 1);
        init_with(&f, "env: [SECRET_O*, ABSENT]\n", "env | sort; pwd; " RESULT);
        fake_call(&f, "test.it", "{}");
        out = text_of(&f.events);
        CHECK(strstr(out, "SECRET_ONE=1") && !strstr(out, "SECRET_TWO"));
        CHECK(strstr(out, "PHOTON_RUN_ID=run1") && strstr(out, "PHOTON_STEP_ID=build"));
        CHECK(strstr(out, f.scratch));
        fini(&f);
}

TEST(plugin, a_program_that_is_gone_is_refused)
{
        struct fake f;

        if (FAKE_VFORK_IS_FORK)
                return;
        init_with(&f, "", RESULT);
        drop("it.sh");
        fake_call(&f, "test.it", "{}");
        CHECK_INT(f.outcome, TOOL_REFUSED);
        CHECK_STR(f.code, "tool_missing");
        CHECK(strstr(f.msg, "it.sh"));
        fini(&f);
}

TEST(plugin, a_call_that_cannot_be_written_down_is_not_run)
{
        struct fake f;

        init_with(&f, "", "touch $HOME/ran; sleep 1000");
        f.own_rc = -E_NOSPACE;
        fake_call(&f, "test.it", "{}");
        CHECK_INT(f.outcome, TOOL_REFUSED);
        CHECK_STR(f.code, "journal_failed");
        fini(&f);
}

/* --- the folder ---------------------------------------------------------------- */

static int changes;

static void on_change(void *arg)
{
        (void)arg;
        changes++;
}

TEST(plugin, a_changed_folder_changes_the_tools)
{
        struct fake f;

        changes = 0;
        init_with(&f, "", RESULT);
        tools_on_change(on_change, NULL);
        plugins_reload();
        CHECK_INT(changes, 0); /* nothing is new */
        put("two.json", "{\"name\":\"test.two\",\"description\":\"d\",\"command\":[\"true\"]}", 0644);
        plugins_reload();
        CHECK(tool_find("test.two") && tool_find("test.it"));
        put("it.yaml", "name: test.renamed\ndescription: d\ncommand: [./it.sh]\n", 0644);
        plugins_reload();
        CHECK(!tool_find("test.it") && tool_find("test.renamed"));
        drop("two.json");
        plugins_reload();
        CHECK(!tool_find("test.two"));
        CHECK_INT(changes, 4);
        tools_on_change(NULL, NULL);
        fini(&f);
        CHECK(!tool_find("test.renamed"));
}

TEST(plugin, the_folder_is_watched)
{
        struct fake f;

        init_with(&f, "", RESULT);
        put("two.yaml", "name: test.two\ndescription: d\ncommand: [\"true\"]\n", 0644);
        for (int i = 0; i < 100 && !tool_find("test.two"); i++)
                fake_run_for(&f, 50);
        CHECK(tool_find("test.two"));
        fini(&f);
}

TEST(plugin, a_call_in_flight_survives_the_removal_of_its_manifest)
{
        struct fake f;

        init_with(&f, "",
                  "echo '{\"type\":\"text\",\"text\":\"go\"}'; while [ ! -e $HOME/on ]; do sleep 0.01; "
                  "done; " RESULT);
        fake_start(&f, "test.it", "{}");
        while (f.out.len == 0)
                uv_run(&f.loop, UV_RUN_ONCE);
        drop("it.yaml");
        plugins_reload();
        CHECK(!tool_find("test.it"));
        fake_put(&f, "on", "");
        fake_run(&f);
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        fini(&f);
}

struct found {
        size_t good;
        char text[4000];
};

static void on_found(void *arg, const char *path, struct plugin_manifest *m, const struct err *e)
{
        struct found *x = arg;

        (void)path;
        x->good += m != NULL;
        if (!m) {
                strncat(x->text, e->msg, sizeof x->text - strlen(x->text) - 2);
                strcat(x->text, "\n");
        }
}

TEST(plugin, a_bad_manifest_disturbs_no_other)
{
        struct found x = {0};
        const char *dirs[] = {dir};
        struct fake f;

        fake_init(&f, NULL);
        make_dir();
        put("a.yaml", "name: test.a\ndescription: d\ncommand: [\"true\"]\ntimout: 3s\n", 0644);
        put("b.yaml", "name: test.b\ndescription: d\ncommand: [\"true\"]\n", 0646);
        put("c.yaml", "name: test.c\ndescription: d\ncommand: [\"true\"]\n", 0644);
        put("d.yaml", "name: test.c\ndescription: d\ncommand: [\"true\"]\n", 0644);
        put("e.yaml", "name: file.read\ndescription: d\ncommand: [\"true\"]\n", 0644);
        put("f.yaml", "name: test.f\ndescription: d\ncommand: [./not-there]\n", 0644);
        put("loose.sh", "#!/bin/sh\n", 0777);
        put("g.yaml", "name: test.g\ndescription: d\ncommand: [./loose.sh]\n", 0644);
        put(".hidden.yaml", "nonsense", 0644);
        put("readme.txt", "nonsense", 0644);
        CHECK_INT(plugins_scan(dirs, 1, on_found, &x), 7);
        CHECK_INT(x.good, 1);
        CHECK(strstr(x.text, "a.yaml:4:1: unknown key \"timout\"; did you mean \"timeout\"?"));
        CHECK(strstr(x.text, "b.yaml: the manifest ") && strstr(x.text, "may be written by others"));
        CHECK(strstr(x.text, "d.yaml: name: \"test.c\" is the tool of ") && strstr(x.text, "c.yaml already"));
        CHECK(strstr(x.text, "e.yaml: name: \"file.read\" is a tool of the agent itself"));
        CHECK(strstr(x.text, "not-there"));
        CHECK(strstr(x.text, "chmod go-w") && strstr(x.text, "loose.sh"));
        open_plugins(&f);
        CHECK(tool_find("test.c") && !tool_find("test.a") && !tool_find("test.b"));
        fini(&f);
        CHECK(chmod(dir, 0777) == 0);
        memset(&x, 0, sizeof x);
        plugins_scan(dirs, 1, on_found, &x);
        CHECK_INT(x.good, 0);
        CHECK(strstr(x.text, "its folder "));
}

/* --- the examples ---------------------------------------------------------------- */

static void init_examples(struct fake *f)
{
        char cmd[2000];

        fake_init(f, NULL);
        make_dir();
        snprintf(cmd, sizeof cmd,
                 "cp deploy/examples/tools.d/* %s/ && chmod 644 %s/*.yaml && chmod 755 %s/*.sh %s/*.py", dir,
                 dir, dir, dir);
        CHECK_INT(system(cmd), 0); /* tests run in the project's root */
        open_plugins(f);
}

TEST(plugin, the_shell_example_works)
{
        struct fake f;

        init_examples(&f);
        fake_call(&f, "host.load", "{\"samples\":2}");
        CHECK_STR(f.msg, "");
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        CHECK(fake_number(&f, "uptime_seconds") > 0 && fake_number(&f, "memory_available_kib") > 0);
        CHECK(strstr(text_of(&f.events), "\"progress\":2,\"total\":2"));
        fake_call(&f, "host.load", "{\"samples\":61}");
        CHECK_INT(f.outcome, TOOL_REFUSED);
        fini(&f);
}

TEST(plugin, the_python_example_asks_before_it_deletes)
{
        struct fake f;

        init_examples(&f);
        fake_put(&f, "old", "12345");
        f.decision = (struct tool_decision){.outcome = ASK_DENIED, .reason = "Keep it.", .by = "ada"};
        fake_callf(&f, "folder.tidy", "{\"folder\":\"%s\",\"days\":0}", f.home);
        CHECK_STR(f.code, "permission_denied");
        CHECK_STR(f.msg, "Nothing was deleted: denied by ada. Keep it.");
        CHECK(fake_get(&f, "old") && strstr(f.question.arguments, "/old"));
        f.decision = (struct tool_decision){.outcome = ASK_ALLOWED, .by = "ada"};
        fake_callf(&f, "folder.tidy", "{\"folder\":\"%s\",\"days\":0}", f.home);
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        CHECK_INT(fake_number(&f, "freed_bytes"), 5);
        CHECK(!fake_get(&f, "old"));
        fake_call(&f, "folder.tidy", "{\"folder\":\"/nonexistent\"}");
        CHECK_STR(f.code, "folder_unreadable");
        fini(&f);
}

/* --- the manifest ----------------------------------------------------------------- */

TEST(plugin, mistakes_in_a_manifest_have_their_place)
{
        static const struct {
                const char *text, *say;
                int line, col;
        } cases[] = {
                {"[]", "expected a map", 1, 1},
                {"description: d\ncommand: [x]\n", "\"name\" is missing", 1, 1},
                {"name: nodot\n", "GROUP.ACTION", 1, 7},
                {"name: mcp.x\n", "agent's own", 1, 7},
                {"name: a.b\nversion: ''\n", "1 to 64", 2, 10},
                {"name: a.b\ncommand: ./x\n", "expected a list", 2, 10},
                {"name: a.b\ncommand: []\n", "first entry", 2, 10},
                {"name: a.b\ncommand: [[x]]\n", "expected a text", 2, 11},
                {"name: a.b\neffect: none\n", "at-most-once", 2, 9},
                {"name: a.b\ntimeout: soon\n", "duration", 2, 10},
                {"name: a.b\nstall: -1s\n", "duration", 2, 8},
                {"name: a.b\nenv: [A=1]\n", "not the name of a variable", 2, 7},
                {"name: a.b\nquestions: maybe\n", "true or false", 2, 12},
                {"name: a.b\ninput_schema: {type: strnig}\n", "type", 2, 15},
                {"name: a.b\ninput_schema: {properties: {x: {required: y}}}\n", "properties.x.required", 2,
                 15},
                {"name: a.b\nname: a.c\n", "name", 2, 1},
        };

        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
                struct plugin_manifest m;
                struct err e = {0};

                CHECK_INT(plugin_manifest_parse(cases[i].text, strlen(cases[i].text), &m, &e), -E_INVAL);
                if (!strstr(e.msg, cases[i].say) || e.line != cases[i].line || e.col != cases[i].col)
                        test_fail(__FILE__, __LINE__, "case %zu: %d:%d: %s", i, e.line, e.col, e.msg);
        }
}

static int parse_all(void *arg)
{
        static const char text[] = "name: a.b\nversion: 2\ndescription: d\ncommand: [x, y]\nenv: [A, "
                                   "B]\ntimeout: 1m\nstall: 2s\n"
                                   "effect: pure\nquestions: true\ninput_schema: {type: "
                                   "object}\noutput_schema: {type: object}\n";
        struct plugin_manifest m = {0};
        struct err e = {0};
        int rc = plugin_manifest_parse(text, sizeof text - 1, &m, &e);

        (void)arg;
        if (rc == 0) {
                CHECK_STR(m.version, "2");
                CHECK_INT(m.timeout_ms, 60000);
                CHECK_INT(m.stall_ms, 2000);
                CHECK_STR(m.effect, "pure");
                CHECK(m.questions && m.output_check && !m.command[2] && !m.env[2]);
        }
        plugin_manifest_fini(&m);
        return rc;
}

TEST(plugin, a_name_and_a_command_are_a_manifest)
{
        static const char text[] = "name: a.b\ncommand: [x]\n";
        struct plugin_manifest m;
        struct err e = {0};

        CHECK_INT(plugin_manifest_parse(text, sizeof text - 1, &m, &e), 0);
        CHECK_STR(m.description, "a.b");
        CHECK_STR(m.version, "1");
        CHECK_STR(m.effect, "at-most-once");
        plugin_manifest_fini(&m);
}

TEST(plugin, a_manifest_without_memory_leaves_nothing)
{
        mem_install_hooks();
        test_each_alloc_fails(parse_all, NULL);
}
