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
#include "tests/tools/llm_world.h"

#define USAGE                                                                                                \
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":100,\"completion_tokens\":10,"                   \
        "\"prompt_tokens_details\":{\"cached_tokens\":40},\"completion_tokens_details\":{"                   \
        "\"reasoning_tokens\":3}}}\n\n"

const char *const hello[] = {
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

void begin_policy(struct world *w, const char *policy, const char *kind, const char *more,
                  const struct stub_reply *script, size_t n)
{
        fake_init(&w->f, policy);
        stub_open(&w->s, &w->f.loop, script, n);
        configure(w, kind, more);
}

void begin(struct world *w, const char *kind, const char *more, const struct stub_reply *script, size_t n)
{
        begin_policy(w, NULL, kind, more, script, n);
}

void finish(struct world *w)
{
        stub_close(&w->s);
        fake_fini(&w->f);
        models_close();
}

bool told(const struct world *w, const char *event)
{
        return w->f.events.len && memmem(w->f.events.data, w->f.events.len, event, strlen(event));
}

bool stdout_is(const struct world *w, const char *text)
{
        return w->f.out.len == strlen(text) && memcmp(w->f.out.data, text, w->f.out.len) == 0;
}

bool asked(const struct world *w, size_t i, const char *text)
{
        return i < w->s.n_requests && strstr(w->s.requests[i], text);
}

double usage(const struct world *w, const char *key)
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

/* ---- the other dialects ---- */

#define FULL                                                                                                 \
        "{\"system\":\"Be brief\",\"messages\":[{\"role\":\"user\",\"content\":\"Weather?\"},{\"role\":"     \
        "\"assistant\",\"tool_calls\":[{\"id\":\"t1\",\"name\":\"look\",\"arguments\":{\"at\":\"Ulm\"}}]},{" \
        "\"role\":\"tool\",\"tool_call_id\":\"t1\",\"content\":\"rain\"}],\"prompt\":\"And now?\","          \
        "\"tools\":[{\"name\":\"look\",\"description\":\"Looks\",\"input_schema\":{\"type\":\"object\"}}],"  \
        "\"tool_choice\":\"required\",\"temperature\":0.5,\"max_tokens\":77,\"stop\":[\"END\"]}"

static const char *const anthropic_calls[] = {
        "event: message_start\ndata: "
        "{\"type\":\"message_start\",\"message\":{\"id\":\"x\",\"model\":\"m1-x\","
        "\"usage\":{\"input_tokens\":100,\"cache_creation_input_tokens\":20,\"cache_read_input_tokens\":30,"
        "\"output_tokens\":1}}}\n\n",
        "event: ping\ndata: {\"type\":\"ping\"}\n\n",
        "data: "
        "{\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"thinking\",\"thinking\":"
        "\"\"}}\n\n",
        "data: "
        "{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"thinking_delta\",\"thinking\":"
        "\"hm\"}}\n\n",
        "data: "
        "{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"signature_delta\",\"signature\":"
        "\"s\"}}\n\n",
        "data: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
        "data: "
        "{\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}"
        "\n\n",
        "data: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"text_delta\",\"text\":\"I "
        "look.\"}}\n\n",
        "data: "
        "{\"type\":\"content_block_start\",\"index\":2,\"content_block\":{\"type\":\"tool_use\",\"id\":"
        "\"t2\",\"name\":\"look\",\"input\":{}}}\n\n",
        "data: "
        "{\"type\":\"content_block_delta\",\"index\":2,\"delta\":{\"type\":\"input_json_delta\",\"partial_"
        "json\":\"{\\\"at\\\":\"}}\n\n",
        "data: "
        "{\"type\":\"content_block_delta\",\"index\":2,\"delta\":{\"type\":\"input_json_delta\",\"partial_"
        "json\":\"\\\"Rom\\\"}\"}}\n\n",
        "data: {\"type\":\"content_block_stop\",\"index\":2}\n\n",
        "data: "
        "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\"},\"usage\":{\"output_tokens\":"
        "50}}\n\n",
        "data: {\"type\":\"message_stop\"}\n\n",
        NULL,
};
static const char *const openai_calls[] = {
        CHUNK("{\"reasoning\":\"hm\"}", "null"),
        CHUNK("{\"content\":\"I look.\",\"tool_calls\":[{\"index\":0,\"id\":\"t2\",\"type\":\"function\","
              "\"function\":{\"name\":\"look\",\"arguments\":\"\"}}]}",
              "null"),
        CHUNK("{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"{\\\"at\\\":\"}}]}", "null"),
        CHUNK("{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"\\\"Rom\\\"}\"}}]}", "null"),
        CHUNK("{}", "\"tool_calls\""),
        "data: "
        "{\"choices\":[],\"usage\":{\"prompt_tokens\":150,\"completion_tokens\":50,\"prompt_tokens_details\":"
        "{\"cached_tokens\":30}}}\n\n",
        "data: [DONE]\n\n",
        NULL,
};
static const char *const gemini_calls[] = {
        "data: "
        "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"hm\",\"thought\":true}]}}],\"modelVersion\":"
        "\"m1-x\"}\r\n\r\n",
        "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"I "
        "look.\"},{\"functionCall\":{\"name\":\"look\",\"args\":{\"at\":\"Rom\"}}}]},"
        "\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":150,\"cachedContentTokenCount\":"
        "30,"
        "\"candidatesTokenCount\":40,\"thoughtsTokenCount\":10}}\r\n\r\n",
        NULL,
};
static const char *const ollama_calls[] = {
        "{\"model\":\"m1\",\"message\":{\"role\":\"assistant\",\"thinking\":\"hm\",\"content\":\"\"},"
        "\"done\":false}\n",
        "{\"model\":\"m1\",\"message\":{\"role\":\"assistant\",\"content\":\"I look.\"},\"done\":false}\n",
        "{\"model\":\"m1\",\"message\":{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{"
        "\"function\":{\"name\":\"look\","
        "\"arguments\":{\"at\":\"Rom\"}}}]},\"done\":false}\n",
        "{\"model\":\"m1\",\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done\":true,\"done_"
        "reason\":\"stop\","
        "\"prompt_eval_count\":150,\"eval_count\":50}\n",
        NULL,
};

TEST(llm, every_dialect_asks_and_calls_tools)
{
        static const struct {
                const char *kind, *line, *key, *body;
                const char *const *pieces;
                int input, cached;
        } cases[] = {
                {"openai", "POST /base/chat/completions ", "Authorization: Bearer " KEY "\r\n",
                 "{\"model\":\"m1\",\"messages\":[{\"role\":\"system\",\"content\":\"Be "
                 "brief\"},{\"role\":\"user\",\"content\":\"Weather?\"},"
                 "{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"id\":\"t1\",\"type\":"
                 "\"function\",\"function\":{\"name\":\"look\","
                 "\"arguments\":\"{\\\"at\\\":\\\"Ulm\\\"}\"}}]},{\"role\":\"tool\",\"content\":\"rain\","
                 "\"tool_call_id\":\"t1\"},"
                 "{\"role\":\"user\",\"content\":\"And "
                 "now?\"}],\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"look\","
                 "\"description\":\"Looks\",\"parameters\":{\"type\":\"object\"}}}],\"tool_choice\":"
                 "\"required\",\"temperature\":0.5,"
                 "\"max_tokens\":77,\"stop\":[\"END\"],\"stream\":true,\"stream_options\":{\"include_usage\":"
                 "true}}",
                 openai_calls, 120, 30},
                {"anthropic", "POST /base/v1/messages ", "x-api-key: " KEY "\r\n",
                 "{\"model\":\"m1\",\"max_tokens\":77,\"system\":[{\"type\":\"text\",\"text\":\"Be "
                 "brief\"}],\"messages\":[{\"role\":\"user\","
                 "\"content\":[{\"type\":\"text\",\"text\":\"Weather?\"}]},{\"role\":\"assistant\","
                 "\"content\":[{\"type\":\"tool_use\",\"id\":\"t1\","
                 "\"name\":\"look\",\"input\":{\"at\":\"Ulm\"}}]},{\"role\":\"user\",\"content\":[{\"type\":"
                 "\"tool_result\",\"tool_use_id\":\"t1\","
                 "\"content\":[{\"type\":\"text\",\"text\":\"rain\"}]}]},{\"role\":\"user\",\"content\":[{"
                 "\"type\":\"text\",\"text\":\"And now?\"}]}],"
                 "\"tools\":[{\"name\":\"look\",\"description\":\"Looks\",\"input_schema\":{\"type\":"
                 "\"object\"}}],\"tool_choice\":{\"type\":\"any\"},"
                 "\"temperature\":0.5,\"stop_sequences\":[\"END\"],\"stream\":true}",
                 anthropic_calls, 100, 30},
                {"gemini", "POST /base/models/m1:streamGenerateContent?alt=sse ",
                 "x-goog-api-key: " KEY "\r\n",
                 "{\"systemInstruction\":{\"parts\":[{\"text\":\"Be "
                 "brief\"}]},\"contents\":[{\"role\":\"user\",\"parts\":[{\"text\":\"Weather?\"}]},"
                 "{\"role\":\"model\",\"parts\":[{\"functionCall\":{\"name\":\"look\",\"args\":{\"at\":"
                 "\"Ulm\"}}}]},{\"role\":\"user\",\"parts\":[{"
                 "\"functionResponse\":{\"name\":\"look\",\"response\":{\"result\":\"rain\"}}}]},{\"role\":"
                 "\"user\",\"parts\":[{\"text\":\"And now?\"}]}],"
                 "\"tools\":[{\"functionDeclarations\":[{\"name\":\"look\",\"description\":\"Looks\","
                 "\"parametersJsonSchema\":{\"type\":\"object\"}}]}],"
                 "\"toolConfig\":{\"functionCallingConfig\":{\"mode\":\"ANY\"}},\"generationConfig\":{"
                 "\"temperature\":0.5,\"maxOutputTokens\":77,"
                 "\"stopSequences\":[\"END\"]}}",
                 gemini_calls, 120, 30},
                {"ollama", "POST /base/api/chat ", "Authorization: Bearer " KEY "\r\n",
                 "{\"model\":\"m1\",\"messages\":[{\"role\":\"system\",\"content\":\"Be "
                 "brief\"},{\"role\":\"user\",\"content\":\"Weather?\"},"
                 "{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"function\":{\"name\":\"look\","
                 "\"arguments\":{\"at\":\"Ulm\"}}}]},"
                 "{\"role\":\"tool\",\"content\":\"rain\"},{\"role\":\"user\",\"content\":\"And "
                 "now?\"}],\"tools\":[{\"type\":\"function\",\"function\":{"
                 "\"name\":\"look\",\"description\":\"Looks\",\"parameters\":{\"type\":\"object\"}}}],"
                 "\"options\":{\"temperature\":0.5,"
                 "\"num_predict\":77,\"stop\":[\"END\"]},\"stream\":true}",
                 ollama_calls, 150, -1},
        };

        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
                struct stub_reply script[] = {
                        {.status = 200, .pieces = cases[i].pieces, .gap_ms = 1, .chunked = true}};
                const cJSON *call, *args;
                struct world w;

                begin(&w, cases[i].kind, "", script, 1);
                fake_call(&w.f, CHAT, FULL);
                CHECK_STR(w.f.code, "");
                CHECK(asked(&w, 0, cases[i].line));
                CHECK(asked(&w, 0, cases[i].key));
                CHECK_STR(stub_body(&w.s, 0), cases[i].body);
                CHECK_STR(fake_text(&w.f, "text"), "I look.");
                CHECK_STR(fake_text(&w.f, "finish_reason"), "tool_calls");
                CHECK(told(&w, "{\"type\":\"thought\",\"text\":\"hm\"}"));
                CHECK(told(&w, "\"type\":\"tool\""));
                CHECK_INT(usage(&w, "input_tokens"), cases[i].input);
                CHECK_INT(usage(&w, "cache_read_tokens"), cases[i].cached);
                CHECK_INT(usage(&w, "output_tokens"), 50);
                call = cJSON_GetArrayItem(cJSON_GetObjectItem(w.f.outputs, "tool_calls"), 0);
                CHECK_STR(cJSON_GetStringValue(cJSON_GetObjectItem(call, "name")), "look");
                CHECK(*cJSON_GetStringValue(cJSON_GetObjectItem(call, "id")));
                args = cJSON_GetObjectItem(call, "arguments");
                CHECK_STR(cJSON_GetStringValue(cJSON_GetObjectItem(args, "at")), "Rom");
                finish(&w);
        }
}

/* ---- JSON, files, images ---- */

#define ASK_A                                                                                                \
        "{\"prompt\":\"x\",\"schema\":{\"type\":\"object\",\"required\":[\"a\"],\"properties\":{\"a\":{"     \
        "\"type\":\"integer\"}}}}"

static const char *const json_openai[] = {CHUNK("{\"content\":\"{\\\"a\\\"\"}", "null"),
                                          CHUNK("{\"content\":\": 7}\"}", "\"stop\""), "data: [DONE]\n\n",
                                          NULL};
static const char *const json_fence[] = {
        CHUNK("{\"content\":\"```json\\n{\\\"a\\\": 7}\\n```\"}", "\"stop\""), "data: [DONE]\n\n", NULL};
static const char *const json_anthropic[] = {
        "data: "
        "{\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"tool_use\",\"id\":\"t\","
        "\"name\":\"answer\",\"input\":{}}}\n\n",
        "data: "
        "{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"input_json_delta\",\"partial_"
        "json\":\"{\\\"a\\\": 7}\"}}\n\n",
        "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\"}}\n\n",
        "data: {\"type\":\"message_stop\"}\n\n",
        NULL,
};
static const char *const json_gemini[] = {
        "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"{\\\"a\\\": "
        "7}\"}]},\"finishReason\":\"STOP\"}]}\n\n",
        NULL};
static const char *const json_ollama[] = {
        "{\"message\":{\"content\":\"{\\\"a\\\": 7}\"},\"done\":true,\"done_reason\":\"stop\"}", NULL};

TEST(llm, an_answer_in_json_is_asked_for_parsed_and_checked)
{
        static const struct {
                const char *kind, *asks;
                const char *const *pieces;
        } cases[] = {
                {"openai",
                 "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"answer\","
                 "\"schema\":{",
                 json_openai},
                {"openai", "json_schema", json_fence},
                {"zai", "\"response_format\":{\"type\":\"json_object\"}", json_openai},
                {"anthropic", "\"tool_choice\":{\"type\":\"tool\",\"name\":\"answer\"}", json_anthropic},
                {"gemini", "\"responseMimeType\":\"application/json\",\"responseJsonSchema\":{", json_gemini},
                {"ollama", "\"format\":{\"type\":\"object\"", json_ollama},
        };

        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
                struct stub_reply script[] = {{.status = 200, .pieces = cases[i].pieces}};
                struct world w;

                begin(&w, cases[i].kind, "", script, 1);
                fake_call(&w.f, CHAT, ASK_A);
                CHECK_STR(w.f.code, "");
                CHECK_INT(cJSON_GetNumberValue(
                                  cJSON_GetObjectItem(cJSON_GetObjectItem(w.f.outputs, "json"), "a")),
                          7);
                CHECK_STR(fake_text(&w.f, "finish_reason"), "stop");
                CHECK(strstr(stub_body(&w.s, 0), cases[i].asks));
                finish(&w);
        }
}

static void put_bytes(const char *dir, const char *name, const void *p, size_t n)
{
        char path[600];
        FILE *f;

        snprintf(path, sizeof path, "%s/%s", dir, name);
        f = fopen(path, "we");
        CHECK(f && fwrite(p, 1, n, f) == n && fclose(f) == 0);
}

TEST(llm, files_and_images_go_along)
{
        static const struct {
                const char *kind, *image, *pdf;
        } cases[] = {
                {"openai",
                 "{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:image/"
                 "png;base64,iVBORw0KGgpYWA==\"}}",
                 "{\"type\":\"file\",\"file\":{\"filename\":\"d.pdf\",\"file_data\":\"data:application/"
                 "pdf;base64,JVBERi0xLjc=\"}}"},
                {"anthropic",
                 "{\"type\":\"image\",\"source\":{\"type\":\"base64\",\"media_type\":\"image/"
                 "png\",\"data\":\"iVBORw0KGgpYWA==\"}}",
                 "{\"type\":\"document\",\"source\":{\"type\":\"base64\",\"media_type\":\"application/"
                 "pdf\",\"data\":\"JVBERi0xLjc=\"}}"},
                {"gemini", "{\"inlineData\":{\"mimeType\":\"image/png\",\"data\":\"iVBORw0KGgpYWA==\"}}",
                 "{\"inlineData\":{\"mimeType\":\"application/pdf\",\"data\":\"JVBERi0xLjc=\"}}"},
                {"ollama", "\"images\":[\"iVBORw0KGgpYWA==\"]", ""},
        };

        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
                struct stub_reply script[] = {{.status = 401}};
                static const char *const empty[] = {NULL};
                struct world w;

                script[0].pieces = empty;
                begin(&w, cases[i].kind, "", script, 1);
                put_bytes(w.f.home, "p.png", "\x89PNG\r\n\x1a\nXX", 10);
                put_bytes(w.f.home, "d.pdf", "%PDF-1.7", 8);
                put_bytes(w.f.home, "t.txt", "some text", 9);
                put_bytes(w.f.home, "bin", "\0\1\2", 3);
                fake_call(
                        &w.f, CHAT,
                        "{\"prompt\":\"See\",\"files\":[\"~/t.txt\",\"~/d.pdf\"],\"images\":[\"~/p.png\"]}");
                CHECK_STR(w.f.code, "auth_failed");
                CHECK(strstr(stub_body(&w.s, 0), cases[i].image));
                CHECK(strstr(stub_body(&w.s, 0), cases[i].pdf));
                CHECK(strstr(stub_body(&w.s, 0), "File t.txt:\\n\\nsome text"));
                fake_call(&w.f, CHAT, "{\"prompt\":\"See\",\"files\":[\"~/bin\"]}");
                CHECK_STR(w.f.code, "bad_file");
                fake_call(&w.f, CHAT, "{\"prompt\":\"See\",\"images\":[\"~/t.txt\"]}");
                CHECK_STR(w.f.code, "bad_file");
                fake_call(&w.f, CHAT, "{\"prompt\":\"See\",\"files\":[\"~/none\"]}");
                CHECK_STR(w.f.code, "not_found");
                CHECK_INT((long long)w.s.n_requests, 1);
                finish(&w);
        }
}

TEST(llm, input_that_is_wrong_is_refused_with_a_reason)
{
        static const struct {
                const char *input, *says;
        } cases[] = {
                {"{}", "prompt"},
                {"{\"messages\":[]}", "prompt"},
                {"{\"messages\":[{\"role\":\"user\"}]}", "no content"},
                {"{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"video\"}]}]}",
                 "text, image or file"},
                {"{\"messages\":[{\"role\":\"tool\",\"content\":\"x\"}]}", "tool_call_id"},
                {"{\"messages\":[{\"role\":\"user\",\"content\":\"x\",\"tool_calls\":[]}]}", "assistant"},
                {"{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image\",\"media_type\":\"image/"
                 "png\",\"data\":\"!\"}]}]}",
                 "base64"},
                {"{\"messages\":[{\"role\":\"assistant\",\"content\":\"x\"}],\"files\":[\"a\"]}",
                 "last message"},
                {"{\"prompt\":\"x\",\"timeout\":\"soon\"}", "duration"},
                {"{\"prompt\":\"x\",\"tool_choice\":\"f\"}", "no tool"},
                {"{\"prompt\":\"x\",\"tools\":[{\"name\":\"a\"},{\"name\":\"a\"}]}", "twice"},
                {"{\"prompt\":\"x\",\"privacy\":\"some\"}", "privacy"},
                {"{\"prompt\":\"x\",\"need\":{\"speed\":1}}", "speed"},
        };
        struct stub_reply script[] = {{.status = 200, .pieces = hello}};
        struct world w;

        begin(&w, "openai", "", script, 1);
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
                fake_call(&w.f, CHAT, cases[i].input);
                if (w.f.outcome != TOOL_REFUSED || !strstr(w.f.msg, cases[i].says))
                        test_fail(__FILE__, __LINE__, "case %zu: %s (%s), expected %s", i, w.f.code, w.f.msg,
                                  cases[i].says);
        }
        CHECK_INT((long long)w.s.n_requests, 0);
        finish(&w);
}

TEST(llm, a_step_brings_its_own_key_for_the_endpoint_it_names)
{
        uint8_t value[] = "sk-of-the-step-42\n", other[] = "two words";
        struct call_secret secrets[] = {
                {.name = (char[]){"K"}, .value = value, .n = sizeof value - 1, .fd = -1},
                {.name = (char[]){"O"}, .value = other, .n = sizeof other - 1, .fd = -1}};
        static const struct {
                const char *input, *says;
        } bad[] = {
                {"{\"prompt\":\"x\",\"key\":\"sk-of-the-step-42\\n\"}", "endpoint"},
                {"{\"prompt\":\"x\",\"key\":\"sk-written-down\",\"endpoint\":\"e\"}", "only a secret"},
                {"{\"prompt\":\"x\",\"key\":\"\",\"endpoint\":\"e\"}", "only a secret"},
                {"{\"prompt\":\"x\",\"key\":\"two words\",\"endpoint\":\"e\"}", "is no key"},
        };
        struct stub_reply script[] = {{.status = 200, .pieces = hello}};
        struct world w;

        begin(&w, "openai", "", script, 1);
        w.f.c.secrets = secrets;
        w.f.c.n_secrets = 2;
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
                fake_call(&w.f, CHAT, bad[i].input);
                CHECK_INT(w.f.outcome, TOOL_REFUSED);
                CHECK(strstr(w.f.msg, bad[i].says));
        }
        CHECK_INT((long long)w.s.n_requests, 0);
        fake_call(&w.f, CHAT, "{\"prompt\":\"x\",\"key\":\"sk-of-the-step-42\\n\",\"endpoint\":\"e\"}");
        CHECK_STR(w.f.code, "");
        CHECK(asked(&w, 0, "Authorization: Bearer sk-of-the-step-42\r\n"));
        CHECK(!asked(&w, 0, KEY));
        /* For that call only. */
        fake_call(&w.f, CHAT, HELLO);
        CHECK(asked(&w, 1, "Authorization: Bearer " KEY "\r\n"));
        finish(&w);
}

TEST(llm, zai_chat_takes_an_operations_step)
{
        struct stub_reply script[] = {{.status = 200, .pieces = hello}};
        struct world w;

        begin(&w, "zai", "", script, 1);
        fake_call(&w.f, "zai.chat",
                  "{\"action\":\"deploy-production\",\"inputs\":{\"environment\":\"prod\"}}");
        CHECK_STR(w.f.code, "");
        CHECK(strstr(stub_body(&w.s, 0), "deploy-production"));
        CHECK(strstr(stub_body(&w.s, 0), "environment"));
        finish(&w);
        /* Another kind of endpoint is not Z.AI. */
        begin(&w, "openai", "", script, 1);
        fake_call(&w.f, "zai.chat", "{\"prompt\":\"x\",\"endpoint\":\"e\"}");
        CHECK_STR(w.f.code, "no_endpoint");
        unsetenv("ZAI_API_KEY");
        fake_call(&w.f, "zai.chat", "{\"prompt\":\"x\"}");
        CHECK_STR(w.f.code, "key_missing");
        CHECK(strstr(w.f.msg, "ZAI_API_KEY"));
        CHECK_INT((long long)w.s.n_requests, 0);
        finish(&w);
}

/* ---- the configuration ---- */

TEST(models, mistakes_are_shown_where_they_are)
{
        static const struct {
                const char *text, *says;
                int line;
        } cases[] = {
                {"models: 3", "expected a list", 1},
                {"models:\n  - {name: a, kind: openai}", "lists no models", 2},
                {"models:\n  - {kind: openai, models: [m]}", "needs a name", 2},
                {"models:\n  - {name: a, models: [m]}", "without kind", 2},
                {"models:\n  - {name: a, kind: gpt, models: [m]}", "openai, anthropic", 2},
                {"models:\n  - name: a\n    kind: openai\n    modles: [m]", "did you mean \"models\"", 4},
                {"models:\n  - {name: a, kind: openai, models: [m, m]}", "m is there twice", 2},
                {"models:\n  - {name: a, kind: openai, models: [m]}\n  - {name: a, kind: openai, models: "
                 "[m]}",
                 "a is there twice", 3},
                {"models:\n  - {name: a, kind: openai, base_url: ftp://x, models: [m]}", "http://", 2},
                {"models:\n  - {name: a, kind: openai, key_env: A, key_file: /b, models: [m]}", "one of", 2},
                {"models:\n  - {name: a, kind: openai, key_file: b, models: [m]}", "absolute", 2},
                {"models:\n  - {name: a, kind: openai, timeout: soon, models: [m]}", "duration", 2},
                {"models:\n  - {name: a, kind: openai, retries: 99, models: [m]}", "0 to 10", 2},
                {"models:\n  - {name: a, kind: openai, models: [{name: m, capabilities: [fly]}]}",
                 "tools, json", 2},
                {"models:\n  - {name: a, kind: openai, models: [{name: m, price: {input: 1}}]}", "both", 2},
                {"models:\n  - {name: a, kind: openai, models: [{name: m, price: {input: -1, output: 1}}]}",
                 "USD", 2},
                {"models:\n  - {name: a, kind: openai, base_url: 'http://x.example', local: true, models: "
                 "[m]}",
                 "looked up", 2},
        };

        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
                struct err e = {0};

                CHECK(models_parse(cases[i].text, strlen(cases[i].text), "agent.yaml", &e) == -E_INVAL);
                if (!strstr(e.msg, cases[i].says) || e.line != cases[i].line)
                        test_fail(__FILE__, __LINE__, "case %zu: line %d: %s", i, e.line, e.msg);
                CHECK_INT((long long)models_count(), 0);
        }
}

TEST(models, cost_is_by_the_price_table)
{
        struct model m = {.price = {3, 15, -1, 3.75}};
        struct event_usage u = event_usage_unknown;

        CHECK(models_cost(&m, &u) < 0);
        u.input_tokens = 1000000;
        u.output_tokens = 100000;
        u.cache_read_tokens = 1000000; /* has no price of its own: like input */
        u.cache_write_tokens = 2000000;
        CHECK(models_cost(&m, &u) == 3 + 1.5 + 3 + 7.5);
        m.price.input = -1;
        CHECK(models_cost(&m, &u) < 0);
}
