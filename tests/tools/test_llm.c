/* llm.chat against a server on the same loop that speaks each dialect. */
#include "agent/tools/llm.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/tools/models.h"
#include "common/err.h"
#include "tests/lib/test.h"
#include "tests/tools/fake.h"
#include "tests/tools/stub.h"

#define CHAT  "llm.chat"
#define KEY   "sk-test-0123456789"
#define HELLO "{\"prompt\":\"Say hello\"}"
#define CHUNK(d, end)                                                                                        \
        "data: {\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\"model\":\"m1-0613\",\"choices\":[{"     \
        "\"index\":0,\"delta\":" d ",\"finish_reason\":" end "}]}\n\n"
#define USAGE                                                                                                \
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":100,\"completion_tokens\":10,"                   \
        "\"prompt_tokens_details\":{\"cached_tokens\":40},\"completion_tokens_details\":{"                   \
        "\"reasoning_tokens\":3}}}\n\n"

static const char *const hello[] = {
        ": hello\n\n",
        CHUNK("{\"role\":\"assistant\",\"content\":\"\"}", "null"),
        CHUNK("{\"reasoning_content\":\"hm\"}", "null"),
        CHUNK("{\"content\":\"Hel\"}", "null"),
        CHUNK("{\"content\":\"lo \\u00e9!\"}", "null"),
        CHUNK("{}", "\"stop\""),
        USAGE,
        "data: [DONE]\n\n",
        NULL,
};

/* Fake, stub and an endpoint "e" of `kind` at it, with two models. */
struct world {
        struct fake f;
        struct stub s;
};

static void configure(struct world *w, const char *kind, const char *more)
{
        char text[2000];
        struct err e = {0};
        int n = snprintf(text, sizeof text,
                         "models:\n"
                         "  - name: e\n"
                         "    kind: %s\n"
                         "    base_url: http://127.0.0.1:%d/base\n"
                         "    key_env: TEST_LLM_KEY\n"
                         "    models:\n"
                         "      - {name: m1, context: 1000, price: {input: 2, output: 10, cache_read: 0.5}}\n"
                         "      - m2\n"
                         "%s",
                         kind, w->s.port, more);

        CHECK(n > 0 && (size_t)n < sizeof text);
        setenv("TEST_LLM_KEY", KEY, 1);
        if (models_parse(text, (size_t)n, "agent.yaml", &e) != 0)
                test_fail(__FILE__, __LINE__, "%s", e.msg);
}

static void begin(struct world *w, const char *kind, const char *more, const struct stub_reply *script,
                  size_t n)
{
        fake_init(&w->f, NULL);
        stub_open(&w->s, &w->f.loop, script, n);
        configure(w, kind, more);
}

static void finish(struct world *w)
{
        stub_close(&w->s);
        fake_fini(&w->f);
        models_close();
}

static bool told(const struct world *w, const char *event)
{
        return w->f.events.len && memmem(w->f.events.data, w->f.events.len, event, strlen(event));
}

static bool stdout_is(const struct world *w, const char *text)
{
        return w->f.out.len == strlen(text) && memcmp(w->f.out.data, text, w->f.out.len) == 0;
}

static bool asked(const struct world *w, size_t i, const char *text)
{
        return i < w->s.n_requests && strstr(w->s.requests[i], text);
}

static double usage(const struct world *w, const char *key)
{
        const cJSON *v = cJSON_GetObjectItem(cJSON_GetObjectItem(w->f.outputs, "usage"), key);

        return cJSON_IsNumber(v) ? v->valuedouble : -1;
}

TEST(llm, openai_streams_text_thoughts_and_usage)
{
        struct stub_reply script[] = {{.status = 200, .pieces = hello, .gap_ms = 1, .chunked = true}};
        struct world w;

        begin(&w, "openai", "", script, 1);
        fake_call(&w.f, CHAT, HELLO);
        CHECK_STR(w.f.code, "");
        CHECK_STR(fake_text(&w.f, "text"), "Hello \xc3\xa9!");
        CHECK_STR(fake_text(&w.f, "finish_reason"), "stop");
        CHECK_STR(fake_text(&w.f, "model"), "m1");
        CHECK_STR(fake_text(&w.f, "endpoint"), "e");
        CHECK_INT(usage(&w, "input_tokens"), 60);
        CHECK_INT(usage(&w, "cache_read_tokens"), 40);
        CHECK_INT(usage(&w, "output_tokens"), 10);
        CHECK_INT(usage(&w, "thought_tokens"), 3);
        /* 60 x 2 + 40 x 0.5 + 10 x 10 USD per million */
        CHECK(fake_number(&w.f, "cost_usd") > 0.000239 && fake_number(&w.f, "cost_usd") < 0.000241);
        CHECK_INT(fake_number(&w.f, "started"), 1);
        CHECK_INT(fake_number(&w.f, "requests"), 1);
        CHECK(told(&w, "{\"type\":\"text\",\"text\":\"Hel\"}\n{\"type\":\"text\""));
        CHECK(stdout_is(&w, "Hello \xc3\xa9!"));
        CHECK(told(&w, "{\"type\":\"thought\",\"text\":\"hm\"}"));
        CHECK(told(&w, "\"cost_source\":\"price-table\""));
        CHECK(asked(&w, 0, "POST /base/chat/completions HTTP/1.1\r\n"));
        CHECK(asked(&w, 0, "Authorization: Bearer " KEY "\r\n"));
        CHECK_STR(stub_body(&w.s, 0), "{\"model\":\"m1\",\"messages\":[{\"role\":\"user\",\"content\":\"Say "
                                      "hello\"}],\"stream\":true,"
                                      "\"stream_options\":{\"include_usage\":true}}");
        finish(&w);
}
