/* The text that carries a conversation from one step to the next. */
#include <stdio.h>
#include <string.h>

#include "agent/tools/ai_session.h"
#include "common/err.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"
#include "tests/lib/test.h"

TEST(ai_session, carries_what_is_needed)
{
        char *text = ai_session_make("gemini.prompt", "id-1", "/srv/www", 0.5);
        struct ai_session s;
        struct err e = {0};

        CHECK(text && strlen(text) < 300);
        CHECK_INT(ai_session_read(text, "gemini.prompt", &s, &e), 0);
        CHECK_STR(s.kind, "gemini.prompt");
        CHECK_STR(s.id, "id-1");
        CHECK_STR(s.cwd, "/srv/www");
        CHECK(s.cost_usd == 0.5);
        ai_session_fini(&s);
        mem_free(text);
}

TEST(ai_session, tells_when_it_was_opened)
{
        struct ai_session s = {.kind = (char *)(uintptr_t) "t",
                               .id = (char *)(uintptr_t) "i",
                               .cwd = (char *)(uintptr_t) "/",
                               .opened_ms = 1795916974976};
        char *text = ai_session_text(&s);
        struct err e = {0};

        CHECK_INT(ai_session_read(text, "t", &s, &e), 0);
        CHECK_INT(s.opened_ms, 1795916974976);
        CHECK(s.cost_usd == 0);
        ai_session_fini(&s);
        mem_free(text);
}

TEST(ai_session, of_another_tool_is_told_apart)
{
        char *text = ai_session_make("gemini.prompt", "id-1", "/srv/www", 0);
        struct ai_session s;
        struct err e = {0};

        CHECK_INT(ai_session_read(text, "codex.prompt", &s, &e), -E_DENIED);
        CHECK(strstr(e.msg, "belongs to gemini.prompt, not to codex.prompt"));
        mem_free(text);
}

static char *with(const char *json)
{
        char *b = str_b64url(json, strlen(json)), *t = str_printf("s1.%s", b);

        mem_free(b);
        return t;
}

static void refused(const char *json, int code, const char *why)
{
        char *text = with(json);
        struct ai_session s;
        struct err e = {0};

        if (ai_session_read(text, "t", &s, &e) != -code || !strstr(e.msg, why))
                test_fail(__FILE__, __LINE__, "%s: %s", json, e.msg);
        mem_free(text);
}

TEST(ai_session, of_another_machine_is_told_apart)
{
        refused("{\"kind\":\"t\",\"id\":\"x\",\"cwd\":\"/\",\"host\":\"no.such.host\"}", E_DENIED,
                "was made on the machine no.such.host");
}

TEST(ai_session, what_is_none_is_refused)
{
        static const char *const bad[] = {"",       "s1.",     "x",
                                          "s1.!!!", "s1.AAAA", "0b9fd8c5-7a1f-4c0e-8c5e-6a1b2c3d4e5f"};
        struct ai_session s;
        struct err e = {0};

        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
                if (ai_session_read(bad[i], "t", &s, &e) != -E_INVAL)
                        test_fail(__FILE__, __LINE__, "\"%s\" was taken", bad[i]);
        refused("{}", E_INVAL, "is not what a step gave");
        refused("[]", E_INVAL, "is not what a step gave");
        refused("{\"kind\":\"t\"}", E_INVAL, "is not what a step gave");
        refused("{\"kind\":1,\"host\":\"h\"}", E_INVAL, "is not what a step gave");
}

static int round_trip(void *arg)
{
        struct ai_session s;
        char *text = ai_session_make("t", "i", "/", 0);
        int rc = text ? ai_session_read(text, "t", &s, NULL) : -E_NOMEM;

        (void)arg;
        mem_free(text);
        if (rc == 0)
                ai_session_fini(&s);
        return rc;
}

TEST(ai_session, survives_want_of_memory)
{
        test_each_alloc_fails(round_trip, NULL);
}
