/* acp.prompt against a scripted agent (tests/peers/odd_acp.py): what comes back, what is asked, and how it
 * fails. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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
