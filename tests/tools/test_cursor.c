/* cursor.prompt by ACP and by the print mode, against the project's stand-in for Cursor's command line;
 * cursor.open. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/tools/ai_session.h"
#include "common/mem.h"
#include "common/str.h"
#include "tests/lib/test.h"
#include "tests/tools/fake.h"

#define PROMPT "cursor.prompt"
#define OPEN   "cursor.open"

static void program(struct fake *f, const char *name, const char *text)
{
        char path[600];

        fake_put(f, name, text);
        snprintf(path, sizeof path, "%s/%s", f->home, name);
        CHECK(chmod(path, 0755) == 0);
}

static void home_on_path(struct fake *f)
{
        char *all = str_printf("%s:%s", f->home, getenv("PATH"));

        setenv("PATH", all, 1);
        mem_free(all);
}

/* how: FAKE_CURSOR. Every question to it that is asked once is a line of ~/asked. */
static void stand_in(struct fake *f, const char *name, const char *how)
{
        char script[4096], *text;

        CHECK(realpath("tests/peers/fake_cursor.py", script));
        text = str_printf("#!/bin/sh\ncase \"$*\" in *--help*) echo asked >>'%s/asked';; esac\n"
                          "FAKE_CURSOR='%s' exec python3 '%s' \"$@\"\n",
                          f->home, how, script);
        program(f, name, text);
        home_on_path(f);
        mem_free(text);
}

static void call(struct fake *f, const char *input)
{
        fake_start(f, PROMPT, input);
        fake_run_for(f, 20000);
        CHECK(f->finished);
}

static const char *events(struct fake *f)
{
        CHECK(buf_putc(&f->events, '\0') == 0);
        f->events.len--;
        return (const char *)f->events.data;
}

#define WRITE "[[tool: Write {\\\"path\\\": \\\"a.txt\\\", \\\"content\\\": \\\"hi\\\"}]]"

TEST(cursor, by_acp_where_the_release_has_it)
{
        struct fake f;

        fake_init(&f, NULL);
        stand_in(&f, "cursor-agent", "");
        call(&f, "{\"prompt\":\"" WRITE "\",\"cwd\":\"~\"}");
        if (f.outcome != TOOL_SUCCEEDED)
                test_fail(__FILE__, __LINE__, "%s: %s", f.code, f.msg);
        CHECK_INT(f.asked, 1);
        CHECK_STR(fake_get(&f, "a.txt"), "hi");
        call(&f, "{\"prompt\":\"[[text: again]]\"}");
        CHECK_STR(fake_text(&f, "text"), "again");
        CHECK_STR(fake_get(&f, "asked"), "asked\n"); /* once for both */
        fake_fini(&f);
}

TEST(cursor, an_older_release_is_called_in_print_mode)
{
        struct fake f;

        fake_init(&f, NULL);
        stand_in(&f, "agent", "no-acp");
        call(&f, "{\"prompt\":\"[[think: hm]][[text: hello]]" WRITE
                 "\",\"cwd\":\"~\",\"permission_mode\":\"allow\"}");
        if (f.outcome != TOOL_SUCCEEDED)
                test_fail(__FILE__, __LINE__, "%s: %s", f.code, f.msg);
        CHECK_STR(fake_text(&f, "text"), "hello");
        CHECK_STR(fake_get(&f, "a.txt"), "hi");
        CHECK(strstr(
                events(&f),
                "\"kind\":\"edit\",\"name\":\"writeToolCall\",\"title\":\"a.txt\",\"status\":\"completed\""));
        CHECK(strstr(events(&f), "{\"type\":\"thought\",\"text\":\"hm\"}"));
        CHECK_INT(cJSON_GetObjectItem(cJSON_GetObjectItem(f.outputs, "usage"), "input_tokens")->valueint,
                  100);
        fake_fini(&f);
}

TEST(cursor, print_mode_refuses_what_it_cannot_ask)
{
        struct fake f;

        fake_init(&f, NULL);
        stand_in(&f, "cursor-agent", "no-acp");
        call(&f, "{\"prompt\":\"" WRITE "\",\"cwd\":\"~\"}");
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        CHECK(!fake_get(&f, "a.txt"));
        CHECK_INT(fake_number(&f, "permissions_denied"), 1);
        CHECK(strstr(events(&f), "has no ACP and cannot ask"));
        call(&f, "{\"prompt\":\"x\",\"mcp_servers\":{\"a\":{\"command\":\"true\"}}}");
        CHECK_INT(f.outcome, TOOL_REFUSED);
        fake_fini(&f);
}

TEST(cursor, failures_of_print_mode)
{
        static const struct {
                const char *prompt, *code;
        } t[] = {
                {"[[fail: API error 401: bad key]]", "auth_failed"},
                {"[[fail: Error: 429 too many]]", "rate_limited"},
                {"[[fail: Not logged in, run agent login]]", "not_logged_in"},
                {"[[fail: boom]]", "stream_ended"},
        };

        for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
                struct fake f;
                char *in = str_printf("{\"prompt\":\"%s\"}", t[i].prompt);

                fake_init(&f, NULL);
                stand_in(&f, "cursor-agent", "no-acp");
                call(&f, in);
                if (f.outcome != TOOL_FAILED || strcmp(f.code, t[i].code) != 0)
                        test_fail(__FILE__, __LINE__, "%s: %s: %s", t[i].prompt, f.code, f.msg);
                mem_free(in);
                fake_fini(&f);
        }
}

TEST(cursor, a_session_of_print_mode_is_gone_on_with)
{
        struct fake f;
        struct ai_session first, then;
        char *in;

        fake_init(&f, NULL);
        stand_in(&f, "cursor-agent", "no-acp");
        call(&f, "{\"prompt\":\"[[text: a]]\",\"cwd\":\"~\"}");
        CHECK_INT(ai_session_read(fake_text(&f, "session"), PROMPT, &first, NULL), 0);
        in = str_printf("{\"prompt\":\"[[text: b]]\",\"session\":\"%s\"}", fake_text(&f, "session"));
        call(&f, in);
        CHECK_STR(fake_text(&f, "text"), "b");
        CHECK_INT(ai_session_read(fake_text(&f, "session"), PROMPT, &then, NULL), 0);
        CHECK_STR(then.id, first.id);
        ai_session_fini(&first);
        ai_session_fini(&then);
        mem_free(in);
        fake_fini(&f);
}

TEST(cursor, cancelled_while_it_is_asked_what_it_can)
{
        struct fake f;

        fake_init(&f, NULL);
        program(&f, "cursor-agent", "#!/bin/sh\nexec sleep 60\n");
        home_on_path(&f);
        fake_start(&f, PROMPT, "{\"prompt\":\"x\"}");
        fake_cancel(&f, 2000);
        fake_run_for(&f, 10000);
        CHECK(f.finished);
        CHECK_INT(f.outcome, TOOL_CANCELLED);
        fake_fini(&f);
}

TEST(cursor, missing_it_is_told)
{
        struct fake f;

        fake_init(&f, NULL);
        setenv("PATH", "/nonexistent", 1);
        call(&f, "{\"prompt\":\"x\"}");
        CHECK_INT(f.outcome, TOOL_REFUSED);
        CHECK_STR(f.code, "tool_missing");
        fake_call(&f, OPEN, "{\"path\":\"/tmp\"}");
        CHECK_STR(f.code, "tool_missing");
        fake_fini(&f);
}

/* ---- cursor.open ---- */

static int listen_at(const char *path)
{
        struct sockaddr_un a = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        CHECK(fd >= 0 && strlen(path) < sizeof a.sun_path);
        snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
        CHECK(bind(fd, (struct sockaddr *)&a, sizeof a) == 0);
        return fd;
}

/* A desktop whose sockets lie in the home folder: a screen, and perhaps a service manager. */
static void desktop(struct fake *f, bool manager)
{
        char path[300];

        setenv("XDG_RUNTIME_DIR", f->home, 1);
        setenv("WAYLAND_DISPLAY", "wayland-7", 1);
        unsetenv("DISPLAY");
        snprintf(path, sizeof path, "%s/wayland-7", f->home);
        close(listen_at(path));
        snprintf(path, sizeof path, "%s/systemd", f->home);
        CHECK(mkdir(path, 0700) == 0);
        snprintf(path, sizeof path, "%s/systemd/private", f->home);
        if (manager)
                close(listen_at(path));
}

TEST(cursor, without_a_screen_nothing_is_opened)
{
        struct fake f;

        fake_init(&f, NULL);
        program(&f, "cursor", "#!/bin/sh\necho \"$@\" >~/opened\n");
        home_on_path(&f);
        unsetenv("DISPLAY");
        unsetenv("WAYLAND_DISPLAY");
        fake_call(&f, OPEN, "{\"path\":\"/tmp\"}");
        CHECK_INT(f.outcome, TOOL_REFUSED);
        CHECK_STR(f.code, "no_display");
        CHECK(strstr(f.msg, "neither DISPLAY nor WAYLAND_DISPLAY"));
        setenv("DISPLAY", ":987", 1);
        fake_call(&f, OPEN, "{\"path\":\"/tmp\"}");
        CHECK_STR(f.code, "no_display");
        CHECK(strstr(f.msg, "that is not there"));
        CHECK(!fake_get(&f, "opened"));
        fake_fini(&f);
}

TEST(cursor, the_service_manager_starts_the_window)
{
        struct fake f;
        char want[600];

        fake_init(&f, NULL);
        program(&f, "cursor", "#!/bin/sh\nexit 0\n");
        program(&f, "systemd-run", "#!/bin/sh\necho \"$@\" >~/opened\n");
        home_on_path(&f);
        desktop(&f, true);
        fake_call(&f, OPEN, "{\"path\":\"/tmp\",\"new_window\":true}");
        if (f.outcome != TOOL_SUCCEEDED)
                test_fail(__FILE__, __LINE__, "%s: %s", f.code, f.msg);
        CHECK_STR(fake_text(&f, "started_by"), "service-manager");
        snprintf(want, sizeof want,
                 "--user --collect --quiet --setenv=WAYLAND_DISPLAY --setenv=XDG_RUNTIME_DIR -- %s/cursor "
                 "--new-window /tmp\n",
                 f.home);
        CHECK_STR(fake_get(&f, "opened"), want);
        fake_fini(&f);
}

TEST(cursor, a_window_that_would_die_with_the_call_is_not_opened)
{
        struct fake f;

        fake_init(&f, NULL);
        program(&f, "cursor", "#!/bin/sh\necho \"$@\" >~/opened\n");
        home_on_path(&f);
        desktop(&f, false);
        fake_call(&f, OPEN, "{\"path\":\"/tmp\"}");
        CHECK_INT(f.outcome, TOOL_REFUSED);
        CHECK_STR(f.code, "no_window");
        CHECK(!fake_get(&f, "opened"));
        fake_fini(&f);
}

TEST(cursor, what_it_says_when_it_fails)
{
        struct fake f;

        fake_init(&f, NULL);
        program(&f, "cursor", "#!/bin/sh\nexit 0\n");
        program(&f, "systemd-run", "#!/bin/sh\necho no bus >&2; exit 3\n");
        home_on_path(&f);
        desktop(&f, true);
        fake_put(&f, "x.c", "int x;\n");
        fake_call(&f, OPEN, "{\"path\":\"~/x.c\",\"line\":3}");
        CHECK_INT(f.outcome, TOOL_FAILED);
        CHECK_STR(f.code, "open_failed");
        CHECK(strstr(f.msg, "status 3") && strstr(f.msg, "no bus"));
        fake_call(&f, OPEN, "{\"path\":\"~/none\"}");
        CHECK_INT(f.outcome, TOOL_REFUSED);
        fake_fini(&f);
}
