/* Everything that can go wrong between llm.chat and an endpoint, each with its own code. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "agent/tools/models.h"
#include "common/err.h"
#include "tests/lib/test.h"
#include "tests/tools/llm_world.h"

static const char *const cut_mid[] = {CHUNK("{\"content\":\"Hel\"}", "null"), NULL};
static const char *const cut_half[] = {CHUNK("{\"content\":\"Hel\"}", "null"), "data: {\"choices\":[{\"del",
                                       NULL};
static const char *const half_line[] = {"{\"message\":{\"content\":\"Hel\"},\"done\":false}\n{\"message\":{",
                                        NULL};
static const char *const nothing[] = {NULL};
static const char *const not_json[] = {"data: {\"choices\":\n\n", NULL};
static const char *const a_list[] = {"data: [1,2]\n\n", NULL};
static const char *const told_openai[] = {
        CHUNK("{\"content\":\"Hel\"}", "null"),
        "data: {\"error\":{\"message\":\"it broke\",\"type\":\"server_error\"}}\n\n", NULL};
static const char *const told_anthropic[] = {
        "event: error\ndata: "
        "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n",
        NULL};
static const char *const told_ollama[] = {"{\"error\":\"model runner has stopped\"}\n", NULL};
static const char *const filtered[] = {CHUNK("{\"content\":\"Hel\"}", "\"content_filter\""),
                                       "data: [DONE]\n\n", NULL};
static const char *const blocked[] = {"data: {\"promptFeedback\":{\"blockReason\":\"SAFETY\"}}\n\n", NULL};
static const char *const refused[] = {
        "data: {\"type\":\"message_start\",\"message\":{\"model\":\"m\"}}\n\n",
        "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"refusal\"}}\n\n",
        "data: {\"type\":\"message_stop\"}\n\n", NULL};
static const char *const not_the_schema[] = {CHUNK("{\"content\":\"{\\\"a\\\":\\\"x\\\"}\"}", "\"stop\""),
                                             "data: [DONE]\n\n", NULL};
static const char *const cut_by_length[] = {CHUNK("{\"content\":\"{\\\"a\\\":\"}", "\"length\""),
                                            "data: [DONE]\n\n", NULL};
static const char *const bad_call[] = {CHUNK("{\"tool_calls\":[{\"index\":0,\"id\":\"c\",\"function\":{"
                                             "\"name\":\"f\",\"arguments\":\"{]\"}}]}",
                                             "\"tool_calls\""),
                                       "data: [DONE]\n\n", NULL};
static const char *const skipped_call[] = {
        CHUNK("{\"tool_calls\":[{\"index\":5,\"id\":\"c\",\"function\":{\"name\":\"f\"}}]}", "null"), NULL};
static const char *const error_body[] = {"{\"error\":{\"message\":\"that is not it " KEY "\"}}", NULL};
static const char *const no_model[] = {"{\"error\":{\"message\":\"gone\",\"code\":\"model_not_found\"}}",
                                       NULL};
static const char *const no_model_ollama[] = {"{\"error\":\"model 'm1' not found\"}", NULL};
static const char *const no_model_zai[] = {"{\"error\":{\"code\":\"1211\",\"message\":\"Unknown Model\"}}",
                                           NULL};
static const char *const html[] = {"<html><body>Bad\x01 gateway</body></html>", NULL};

static const char *const page[] = {"<html>\n<h1>It works!</h1>\n</html>\n", NULL};
static const char *const whole_answer[] = {"{\"choices\":[{\"message\":{\"content\":\"Hello\"}}]}", NULL};
static const char *const whole_error[] = {"{\"error\":{\"message\":\"slow down\",\"code\":429}}\n", NULL};
static const char *const spent[] = {
        "{\"error\":{\"message\":\"You exceeded your quota\",\"code\":\"insufficient_quota\"}}", NULL};
static const char *const only_done[] = {"data: [DONE]\n\n", NULL};
static const char *const refusal[] = {CHUNK("{\"refusal\":\"Hello, but no.\"}", "null"),
                                      CHUNK("{}", "\"stop\""), "data: [DONE]\n\n", NULL};
static const char *const other_call[] = {CHUNK("{\"tool_calls\":[{\"index\":0,\"id\":\"c\",\"function\":{"
                                               "\"name\":\"f\",\"arguments\":\"{}\"}}]}",
                                               "\"tool_calls\""),
                                         "data: [DONE]\n\n", NULL};
static const char *const no_name[] = {CHUNK("{\"tool_calls\":[{\"index\":0,\"id\":\"c\",\"function\":{"
                                            "\"arguments\":\"{}\"}}]}",
                                            "\"tool_calls\""),
                                      "data: [DONE]\n\n", NULL};
static const char *const mistake[] = {
        "data: {\"candidates\":[{\"finishReason\":\"MALFORMED_FUNCTION_CALL\"}]}\n\n", NULL};
static const char *const html_line[] = {"<html></html>\n", NULL};

#define SCHEMA                                                                                               \
        "{\"prompt\":\"x\",\"schema\":{\"type\":\"object\",\"required\":[\"a\"],\"properties\":{\"a\":{"     \
        "\"type\":\"integer\"}}}}"

static const struct {
        const char *code, *says, *kind;
        struct stub_reply reply;
        const char *input;
        int started;
} cases[] = {
        {"auth_failed", "check the key", "openai", {.status = 401, .pieces = error_body}, HELLO, 0},
        {"auth_failed", "403", "gemini", {.status = 403, .pieces = html}, HELLO, 0},
        {"bad_request", "that is not it", "openai", {.status = 400, .pieces = error_body}, HELLO, 0},
        {"bad_request", "422", "anthropic", {.status = 422, .pieces = error_body}, HELLO, 0},
        {"bad_request", "404", "openai", {.status = 404, .pieces = html}, HELLO, 0},
        {"unknown_model", "gone", "openai", {.status = 404, .pieces = no_model}, HELLO, 0},
        {"unknown_model", "gone", "openai", {.status = 400, .pieces = no_model}, HELLO, 0},
        {"unknown_model", "m1", "ollama", {.status = 404, .pieces = no_model_ollama}, HELLO, 0},
        {"unknown_model", "Unknown", "zai", {.status = 400, .pieces = no_model_zai}, HELLO, 0},
        {"rate_limited", "429", "openai", {.status = 429, .pieces = error_body}, HELLO, 0},
        {"server_error", "500", "openai", {.status = 500, .pieces = html}, HELLO, 0},
        {"server_error", "502", "openai", {.status = 502, .pieces = html}, HELLO, 0},
        {"overloaded", "503", "openai", {.status = 503, .pieces = nothing}, HELLO, 0},
        {"overloaded", "529", "anthropic", {.status = 529, .pieces = nothing}, HELLO, 0},
        {"bad_answer",
         "302",
         "openai",
         {.status = 302, .headers = "Location: /x\r\n", .pieces = nothing},
         HELLO,
         0},
        {"bad_request", "is its base_url", "openai", {.status = 404, .pieces = html}, HELLO, 0},
        {"bad_answer", "not followed", "openai", {.status = 307, .pieces = nothing}, HELLO, 0},
        {"bad_request", "send less", "openai", {.status = 413, .pieces = nothing}, HELLO, 0},
        {"quota_exceeded", "the bill", "openai", {.status = 429, .pieces = spent}, HELLO, 0},
        {"quota_exceeded", "the bill", "anthropic", {.status = 402, .pieces = nothing}, HELLO, 0},
        {"bad_answer", "It works!", "openai", {.status = 200, .pieces = page}, HELLO, 0},
        {"bad_answer", "no stream", "anthropic", {.status = 200, .pieces = whole_answer}, HELLO, 0},
        {"rate_limited", "slow down", "openai", {.status = 200, .pieces = whole_error}, HELLO, 0},
        {"bad_answer", "before anything", "openai", {.status = 200, .pieces = only_done}, HELLO, 0},
        {"content_filtered", "refuses", "openai", {.status = 200, .pieces = refusal}, HELLO, 1},
        {"bad_output", "calls f", "openai", {.status = 200, .pieces = other_call}, HELLO, 1},
        {"bad_output", "what it calls", "openai", {.status = 200, .pieces = no_name}, HELLO, 1},
        {"bad_output", "MALFORMED", "gemini", {.status = 200, .pieces = mistake}, HELLO, 0},
        {"connect_failed", "cannot be reached", "openai", {.status = 0}, HELLO, 0},
        {"stream_ended", "before the answer did", "openai", {.status = 200, .pieces = cut_mid}, HELLO, 1},
        {"stream_ended",
         "before the answer did",
         "openai",
         {.status = 200, .pieces = cut_mid, .chunked = true, .cut = true},
         HELLO,
         1},
        {"stream_ended", "before", "openai", {.status = 200, .pieces = nothing}, HELLO, 0},
        {"half_message", "middle", "openai", {.status = 200, .pieces = cut_half}, HELLO, 1},
        {"half_message",
         "middle",
         "openai",
         {.status = 200, .pieces = cut_half, .chunked = true, .cut = true},
         HELLO,
         1},
        {"half_message", "middle", "ollama", {.status = 200, .pieces = half_line}, HELLO, 1},
        {"bad_answer", "no JSON", "openai", {.status = 200, .pieces = not_json}, HELLO, 0},
        {"bad_answer", "no JSON", "openai", {.status = 200, .pieces = a_list}, HELLO, 0},
        {"bad_answer", "no JSON", "ollama", {.status = 200, .pieces = html_line}, HELLO, 0},
        {"bad_answer", "out of order", "openai", {.status = 200, .pieces = skipped_call}, HELLO, 0},
        {"server_error", "it broke", "openai", {.status = 200, .pieces = told_openai}, HELLO, 1},
        {"overloaded", "Overloaded", "anthropic", {.status = 200, .pieces = told_anthropic}, HELLO, 0},
        {"server_error", "runner", "ollama", {.status = 200, .pieces = told_ollama}, HELLO, 0},
        {"content_filtered", "filter", "openai", {.status = 200, .pieces = filtered}, HELLO, 1},
        {"content_filtered", "filter", "gemini", {.status = 200, .pieces = blocked}, HELLO, 0},
        {"content_filtered", "filter", "anthropic", {.status = 200, .pieces = refused}, HELLO, 0},
        {"bad_output", "a: expected", "openai", {.status = 200, .pieces = not_the_schema}, SCHEMA, 1},
        {"bad_output", "max_tokens", "openai", {.status = 200, .pieces = cut_by_length}, SCHEMA, 1},
        {"bad_output", "no JSON object", "openai", {.status = 200, .pieces = bad_call}, HELLO, 1},
        {"unknown_model",
         "\"nope\"",
         "openai",
         {.status = 200, .pieces = nothing},
         "{\"prompt\":\"x\",\"model\":\"nope\"}",
         0},
        {"no_endpoint",
         "named nope",
         "openai",
         {.status = 200, .pieces = nothing},
         "{\"prompt\":\"x\",\"endpoint\":\"nope\"}",
         0},
        {"not_local",
         "local: true",
         "openai",
         {.status = 200, .pieces = nothing},
         "{\"prompt\":\"x\",\"privacy\":\"local-only\"}",
         0},
};

TEST(llm, each_failure_has_its_code)
{
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
                struct world w;

                begin(&w, cases[i].kind, "    retries: 0\n", &cases[i].reply, 1);
                fake_call(&w.f, CHAT, cases[i].input);
                if (strcmp(w.f.code, cases[i].code) != 0 || !strstr(w.f.msg, cases[i].says))
                        test_fail(__FILE__, __LINE__, "case %zu: %s (%s), expected %s (%s)", i, w.f.code,
                                  w.f.msg, cases[i].code, cases[i].says);
                CHECK(w.f.outcome == TOOL_FAILED);
                CHECK(!strstr(w.f.msg, KEY));
                CHECK(!told(&w, KEY));
                CHECK_INT(fake_number(&w.f, "started"), cases[i].started);
                CHECK(w.s.n_requests <= 1);
                if (cases[i].started)
                        CHECK(strncmp(fake_text(&w.f, "text"), "Hel", 3) == 0 ||
                              *fake_text(&w.f, "text") == '{' ||
                              cJSON_GetObjectItem(w.f.outputs, "tool_calls"));
                finish(&w);
        }
}

/* ---- again, or not ---- */

TEST(llm, what_passes_by_itself_is_tried_again)
{
        static const int statuses[] = {429, 500, 502, 503, 529, 0};
        struct stub_reply script[] = {{.pieces = error_body}, {.status = 200, .pieces = hello}};

        for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++) {
                struct world w;

                script[0].status = statuses[i];
                begin(&w, "openai", "", script, 2);
                fake_call(&w.f, CHAT, HELLO);
                CHECK_STR(w.f.code, "");
                CHECK_INT(fake_number(&w.f, "requests"), 2);
                CHECK_INT((long long)w.s.n_requests, 2);
                /* Without Retry-After: half a second and up to a quarter more. */
                CHECK(w.s.at_ms[1] - w.s.at_ms[0] >= 495 && w.s.at_ms[1] - w.s.at_ms[0] < 2000);
                CHECK(told(&w, "trying again in"));
                finish(&w);
        }
}

TEST(llm, retry_after_is_waited_for_in_seconds_and_as_a_date)
{
        char date[64], header[100];
        struct stub_reply script[] = {{.status = 429, .pieces = nothing, .headers = header},
                                      {.status = 200, .pieces = hello}};

        for (int dated = 0; dated < 2; dated++) {
                struct world w;
                time_t at = time(NULL) + 2;
                struct tm tm;
                uint64_t gap;

                strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&at, &tm));
                snprintf(header, sizeof header, "Retry-After: %s\r\n", dated ? date : "1");
                begin(&w, "openai", "", script, 2);
                fake_call(&w.f, CHAT, HELLO);
                CHECK_STR(w.f.code, "");
                gap = w.s.at_ms[1] - w.s.at_ms[0];
                CHECK(gap >= 995 && gap < (dated ? 3500 : 2500));
                finish(&w);
        }
}

TEST(llm, a_wait_beyond_the_deadline_is_not_begun)
{
        struct stub_reply script[] = {{.status = 429, .pieces = nothing, .headers = "Retry-After: 60\r\n"}};
        struct world w;
        uint64_t began = uv_hrtime();

        begin(&w, "openai", "", script, 1);
        fake_call(&w.f, CHAT, "{\"prompt\":\"x\",\"timeout\":\"5s\"}");
        CHECK_STR(w.f.code, "rate_limited");
        CHECK(strstr(w.f.msg, "asked again after 1m"));
        CHECK((uv_hrtime() - began) / 1000000 < 3000);
        CHECK_INT((long long)w.s.n_requests, 1);
        finish(&w);
}

TEST(llm, retries_are_counted)
{
        struct stub_reply script[] = {{.status = 500, .pieces = nothing, .headers = "Retry-After: 0\r\n"}};
        struct world w;

        begin(&w, "openai", "", script, 1);
        fake_call(&w.f, CHAT, "{\"prompt\":\"x\",\"retries\":1}");
        CHECK_STR(w.f.code, "server_error");
        CHECK_INT((long long)w.s.n_requests, 2);
        fake_call(&w.f, CHAT, "{\"prompt\":\"x\",\"retries\":0}");
        CHECK_INT((long long)w.s.n_requests, 3);
        finish(&w);
}

TEST(llm, after_the_first_token_nothing_is_repeated)
{
        struct stub_reply script[] = {{.status = 200, .pieces = cut_mid}, {.status = 200, .pieces = hello}};
        struct stub_reply before[] = {{.status = 200, .pieces = nothing}, {.status = 200, .pieces = hello}};
        struct world w;

        begin(&w, "openai", "", script, 2);
        fake_call(&w.f, CHAT, HELLO);
        CHECK_STR(w.f.code, "stream_ended");
        CHECK_STR(fake_text(&w.f, "text"), "Hel");
        CHECK_INT((long long)w.s.n_requests, 1);
        finish(&w);
        /* Cut before it: the same as a connection that failed. */
        begin(&w, "openai", "", before, 2);
        fake_call(&w.f, CHAT, HELLO);
        CHECK_STR(w.f.code, "");
        CHECK_INT((long long)w.s.n_requests, 2);
        finish(&w);
}

/* ---- time and size ---- */

TEST(llm, silence_and_the_deadline_end_it)
{
        static const char *const slow[] = {
                CHUNK("{\"content\":\"a\"}", "null"), CHUNK("{\"content\":\"b\"}", "null"),
                CHUNK("{\"content\":\"c\"}", "null"), CHUNK("{\"content\":\"d\"}", "null"), NULL};
        struct stub_reply mute[] = {{.status = 200, .pieces = cut_mid, .hang = true}};
        struct stub_reply words[] = {{.status = 200, .pieces = slow, .gap_ms = 150, .hang = true}};
        struct world w;
        uint64_t began = uv_hrtime();

        begin(&w, "openai", "    stall: 200ms\n", mute, 1);
        fake_call(&w.f, CHAT, HELLO);
        CHECK_STR(w.f.code, "stalled");
        CHECK(strstr(w.f.msg, "200ms"));
        CHECK((uv_hrtime() - began) / 1000000 >= 199);
        finish(&w);
        /* Words that come in time are no silence; then it is silent. */
        began = uv_hrtime();
        begin(&w, "openai", "    stall: 250ms\n", words, 1);
        fake_call(&w.f, CHAT, HELLO);
        CHECK_STR(w.f.code, "stalled");
        CHECK_STR(fake_text(&w.f, "text"), "abcd");
        CHECK((uv_hrtime() - began) / 1000000 >= 650);
        finish(&w);
        begin(&w, "openai", "", mute, 1);
        fake_call(&w.f, CHAT, "{\"prompt\":\"x\",\"timeout\":\"300ms\"}");
        CHECK_STR(w.f.code, "timeout");
        CHECK_INT(w.f.outcome, TOOL_TIMED_OUT);
        CHECK_STR(fake_text(&w.f, "text"), "Hel");
        finish(&w);
}

TEST(llm, a_line_of_50_mb_is_refused_in_little_memory)
{
        static const char *const start[] = {"data: {\"choices\":[{\"delta\":{\"content\":\"", NULL};
        static char fill[65537];
        static const char *const kinds[] = {"openai", "ollama"};
        struct stub_reply script[] = {
                {.status = 200, .pieces = start, .repeat = fill, .repeat_bytes = 50 << 20}};

        memset(fill, 'x', sizeof fill - 1);
        for (size_t i = 0; i < 2; i++) {
                struct world w;

                begin(&w, kinds[i], "", script, 1);
                fake_call(&w.f, CHAT, HELLO);
                CHECK_STR(w.f.code, "message_too_large");
                CHECK_INT((long long)w.s.n_requests, 1);
                finish(&w);
        }
}

TEST(llm, an_end_without_a_close_is_an_end)
{
        struct stub_reply script[] = {{.status = 200, .pieces = hello, .chunked = true, .hang = true}};
        struct world w;
        uint64_t began = uv_hrtime();

        begin(&w, "openai", "", script, 1);
        fake_call(&w.f, CHAT, HELLO);
        CHECK_STR(w.f.code, "");
        CHECK((uv_hrtime() - began) / 1000000 < 60000); /* stall is two minutes */
        finish(&w);
}

/* Servers leave out the blank line, or the line's end, behind their last message. */
TEST(llm, the_last_message_counts_without_an_end)
{
        static const char *const done[] = {CHUNK("{\"content\":\"Hello\"}", "null"), CHUNK("{}", "\"stop\""),
                                           "data: [DONE]\n", NULL};
        static const char *const bare[] = {CHUNK("{\"content\":\"Hello\"}", "null"),
                                           "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}",
                                           NULL};
        struct stub_reply script[] = {{.status = 200, .pieces = done}, {.status = 200, .pieces = bare}};
        struct world w;

        begin(&w, "openai", "    retries: 0\n", script, 2);
        for (int i = 0; i < 2; i++) {
                fake_call(&w.f, CHAT, HELLO);
                CHECK_STR(w.f.code, "");
                CHECK_STR(fake_text(&w.f, "text"), "Hello");
        }
        finish(&w);
}

/* A piece may end within a character. */
TEST(llm, what_is_no_text_is_replaced_and_the_rest_is_kept)
{
        static const char *const bytes[] = {CHUNK("{\"content\":\"a\xc3\"}", "null"),
                                            CHUNK("{\"content\":\"\\ud83db\"}", "\"stop\""),
                                            "data: [DONE]\n\n", NULL};
        struct stub_reply script[] = {{.status = 200, .pieces = bytes}};
        struct world w;

        begin(&w, "openai", "", script, 1);
        fake_call(&w.f, CHAT, HELLO);
        CHECK_STR(w.f.code, "");
        CHECK_STR(fake_text(&w.f, "text"), "a\xef\xbf\xbd\xef\xbf\xbd"
                                           "b");
        finish(&w);
}

TEST(llm, a_tool_call_always_has_an_id_and_arguments)
{
        static const char *const call[] = {
                CHUNK("{\"tool_calls\":[{\"index\":0,\"function\":{\"name\":\"f\"}}]}", "\"tool_calls\""),
                "data: [DONE]\n\n", NULL};
        struct stub_reply script[] = {{.status = 200, .pieces = call}};
        struct world w;
        char *calls;

        begin(&w, "openai", "", script, 1);
        fake_call(&w.f, CHAT,
                  "{\"prompt\":\"x\",\"tools\":[{\"name\":\"f\",\"input_schema\":{\"type\":\"object\"}}]}");
        CHECK_STR(w.f.code, "");
        calls = cJSON_PrintUnformatted(cJSON_GetObjectItem(w.f.outputs, "tool_calls"));
        CHECK_STR(calls, "[{\"id\":\"call_1\",\"name\":\"f\",\"arguments\":{}}]");
        cJSON_free(calls);
        finish(&w);
}

TEST(llm, cancel_is_at_once_at_any_time)
{
        struct stub_reply mute[] = {{.status = 200, .pieces = cut_mid, .hang = true}};
        struct stub_reply wait[] = {{.status = 429, .pieces = nothing, .headers = "Retry-After: 60\r\n"}};
        struct world w;

        /* while loading */
        begin(&w, "openai", "", mute, 1);
        fake_start(&w.f, CHAT, HELLO);
        fake_cancel(&w.f, 0);
        fake_run_for(&w.f, 5000);
        CHECK_STR(w.f.code, "cancelled");
        CHECK_INT((long long)w.s.n_requests, 0);
        finish(&w);
        /* while it answers, while it waits */
        for (int i = 0; i < 2; i++) {
                begin(&w, "openai", "", i ? wait : mute, 1);
                fake_start(&w.f, CHAT, HELLO);
                for (int turn = 0; turn < 10000 && !w.f.events.len; turn++)
                        uv_run(&w.f.loop, UV_RUN_ONCE);
                fake_cancel(&w.f, 0);
                fake_run_for(&w.f, 5000);
                CHECK_STR(w.f.code, "cancelled");
                CHECK_INT(w.f.outcome, TOOL_CANCELLED);
                finish(&w);
        }
}

TEST(llm, a_slow_reader_holds_the_endpoint_back)
{
        static const char *const none[] = {CHUNK("{\"content\":\"a\"}", "null"), NULL};
        struct stub_reply script[] = {{.status = 200,
                                       .pieces = none,
                                       .repeat = CHUNK("{\"content\":\"0123456789\"}", "null"),
                                       .repeat_bytes = 4 << 20}};
        struct world w;

        begin(&w, "openai", "", script, 1);
        w.f.full_every = 1000;
        fake_start(&w.f, CHAT, HELLO);
        /* There is no room, and none comes: nothing more than what libcurl had in hand. */
        while (!w.f.since_full && !w.f.finished)
                uv_run(&w.f.loop, UV_RUN_ONCE);
        for (int turn = 0; turn < 5000; turn++) {
                uv_idle_stop(&w.f.room);
                uv_run(&w.f.loop, UV_RUN_NOWAIT);
        }
        uv_idle_stop(&w.f.room);
        CHECK(w.f.since_full >= 1000 && w.f.since_full < 32768);
        uv_idle_start(&w.f.room, w.f.room.idle_cb);
        fake_run(&w.f);
        CHECK_STR(w.f.code, "stream_ended"); /* it has no last word, but every byte came */
        CHECK(w.f.out.len > 100000 && w.f.out.len % 10 == 1);
        finish(&w);
}

/* ---- keys and places ---- */

TEST(llm, keys_come_by_reference_and_are_guarded)
{
        struct stub_reply script[] = {{.status = 200, .pieces = hello}};
        struct world w;
        char path[400], more[500];
        struct err e = {0};
        FILE *f;

        begin(&w, "openai", "", script, 1);
        CHECK(!strstr(models_detail(), "TEST_LLM_KEY") && !strstr(models_detail(), KEY) &&
              !strstr(models_detail(), "127.0.0.1"));
        unsetenv("TEST_LLM_KEY");
        fake_call(&w.f, CHAT, "{\"prompt\":\"x\",\"endpoint\":\"e\"}");
        CHECK_STR(w.f.code, "key_missing");
        CHECK(strstr(w.f.msg, "TEST_LLM_KEY"));
        CHECK_INT((long long)w.s.n_requests, 0);

        snprintf(path, sizeof path, "%s/key", test_scratch());
        f = fopen(path, "we");
        CHECK(f && fputs("sk-of-a-file\n", f) >= 0 && fclose(f) == 0);
        snprintf(more, sizeof more,
                 "models: [{name: k, kind: openai, base_url: 'http://127.0.0.1:%d', key_file: %s, models: "
                 "[m]}]",
                 w.s.port, path);
        CHECK_INT(models_parse(more, strlen(more), "x", &e), 0);
        CHECK(chmod(path, 0644) == 0);
        fake_call(&w.f, CHAT, HELLO);
        CHECK_STR(w.f.code, "key_missing");
        CHECK(strstr(w.f.msg, "chmod 600"));
        CHECK(chmod(path, 0600) == 0);
        fake_call(&w.f, CHAT, HELLO);
        CHECK_STR(w.f.code, "");
        CHECK(strstr(w.s.requests[0], "Bearer sk-of-a-file\r\n"));
        finish(&w);
}

TEST(llm, local_only_makes_no_connection_elsewhere)
{
        struct stub_reply script[] = {{.status = 200, .pieces = hello}};
        struct world w;
        char text[900];
        struct err e = {0};

        begin(&w, "openai", "", script, 1);
        snprintf(text, sizeof text,
                 "models:\n"
                 "  - {name: here, kind: openai, base_url: 'http://localhost:%d', local: true, models: [a]}\n"
                 "  - {name: far, kind: openai, base_url: 'http://192.0.2.7:%d', local: true, models: [b], "
                 "retries: 3}\n"
                 "  - {name: open, kind: openai, base_url: 'http://127.0.0.1:%d', models: [c]}\n",
                 w.s.port, w.s.port, w.s.port);
        if (models_parse(text, strlen(text), "x", &e))
                test_fail(__FILE__, __LINE__, "%s", e.msg);
        fake_call(&w.f, CHAT, "{\"prompt\":\"x\",\"privacy\":\"local-only\"}");
        CHECK_STR(w.f.code, "");
        CHECK_STR(fake_text(&w.f, "endpoint"), "here");
        CHECK_INT(fake_number(&w.f, "cost_usd"), 0);
        /* Marked local, but it is not this machine. Not even without being asked for privacy. */
        fake_call(&w.f, CHAT, "{\"prompt\":\"x\",\"endpoint\":\"far\"}");
        CHECK_STR(w.f.code, "not_local");
        CHECK(strstr(w.f.msg, "192.0.2.7"));
        fake_call(&w.f, CHAT,
                  "{\"prompt\":\"x\",\"endpoint\":\"far\",\"need\":{\"privacy\":\"local-only\"}}");
        CHECK_STR(w.f.code, "not_local");
        fake_call(&w.f, CHAT, "{\"prompt\":\"x\",\"endpoint\":\"open\",\"privacy\":\"local-only\"}");
        CHECK_STR(w.f.code, "not_local");
        fake_call(&w.f, CHAT, "{\"prompt\":\"x\",\"endpoint\":\"open\"}");
        CHECK_STR(w.f.code, "");
        /* A proxy of the environment would carry it away. */
        snprintf(text, sizeof text, "http://127.0.0.1:%d", w.s.port);
        setenv("http_proxy", text, 1);
        fake_call(&w.f, CHAT, "{\"prompt\":\"x\",\"endpoint\":\"here\"}");
        CHECK_STR(w.f.code, "");
        CHECK(strstr(w.s.requests[w.s.n_requests - 1], "POST /chat/completions "));
        unsetenv("http_proxy");
        finish(&w);
        /* A name that somebody would have to be asked about is no local endpoint. */
        snprintf(text, sizeof text,
                 "models: [{name: n, kind: openai, base_url: 'http://llm.example', local: true, models: "
                 "[m]}]");
        CHECK_INT(models_parse(text, strlen(text), "x", &e), -E_INVAL);
        CHECK(strstr(e.msg, "would be looked up"));
        models_close();
}

TEST(llm, the_policy_holds_for_hosts_and_files)
{
        struct stub_reply script[] = {{.status = 200, .pieces = hello}};
        struct world w;

        begin_policy(&w, "version: 1\nhttp: {deny: [\"127.0.0.1\"]}\nfiles: {deny: [\"~/secret\"]}\n",
                     "openai", "", script, 1);
        fake_call(&w.f, CHAT, HELLO);
        CHECK_STR(w.f.code, "policy_denied");
        CHECK_INT(w.f.outcome, TOOL_REFUSED);
        CHECK_INT((long long)w.s.n_connections, 0);
        fake_put(&w.f, "secret", "x");
        fake_call(&w.f, CHAT, "{\"prompt\":\"x\",\"files\":[\"~/secret\"]}");
        CHECK_STR(w.f.code, "policy_denied");
        CHECK(strstr(w.f.msg, "secret"));
        finish(&w);
}
