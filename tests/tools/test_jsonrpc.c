/* JSON-RPC: what is a message, what is none, and who gets which answer. */
#include <stdio.h>
#include <string.h>

#include "agent/tools/jsonrpc.h"
#include "common/buf.h"
#include "common/err.h"
#include "common/json.h"
#include "common/mem.h"
#include "tests/lib/test.h"

struct wire {
        struct jsonrpc r;
        struct buf sent; /* lines */
        int refuse;
        int answers;
        enum jsonrpc_kind kind;
        char text[64];
        bool again;
};

static int on_send(void *arg, const cJSON *v)
{
        struct wire *w = arg;

        if (w->refuse)
                return w->refuse;
        return json_append(&w->sent, v) ? -E_NOMEM : buf_putc(&w->sent, '\n');
}

static void on_answer(void *arg, const struct jsonrpc_msg *m)
{
        struct wire *w = arg;

        w->answers++;
        w->kind = m->kind;
        snprintf(w->text, sizeof w->text, "%s",
                 m->kind == JSONRPC_ERROR    ? m->message
                 : cJSON_IsString(m->result) ? m->result->valuestring
                                             : "(none)");
        if (w->again)
                CHECK_INT(jsonrpc_call(&w->r, "next", NULL, on_answer, w, NULL), 0);
}

static void wire_init(struct wire *w, bool bare)
{
        memset(w, 0, sizeof *w);
        buf_init(&w->sent, 0);
        CHECK_INT(jsonrpc_init(&w->r, bare, on_send, w), 0);
}

static void wire_fini(struct wire *w)
{
        jsonrpc_fini(&w->r);
        buf_fini(&w->sent);
}

static const char *sent(struct wire *w)
{
        CHECK(buf_putc(&w->sent, '\0') == 0);
        w->sent.len = 0;
        return (const char *)w->sent.data;
}

static int read_text(const char *text, bool bare, struct jsonrpc_msg *m, struct err *e)
{
        char *copy = mem_strdup(text);
        int rc = jsonrpc_read(copy, strlen(copy), bare, m, e);

        mem_free(copy);
        return rc;
}

static int came(struct wire *w, const char *text)
{
        struct jsonrpc_msg m;
        struct err e = {0};
        int rc;

        CHECK_INT(read_text(text, w->r.bare, &m, &e), 0);
        rc = jsonrpc_answer(&w->r, &m);
        jsonrpc_msg_fini(&m);
        return rc;
}

TEST(jsonrpc, tells_the_four_kinds_apart)
{
        struct jsonrpc_msg m;
        struct err e = {0};

        CHECK_INT(read_text("{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"m\",\"params\":{\"a\":1}}", false, &m,
                            &e),
                  0);
        CHECK(m.kind == JSONRPC_REQUEST && m.id && cJSON_IsObject(m.params));
        CHECK_STR(m.method, "m");
        jsonrpc_msg_fini(&m);
        CHECK_INT(read_text("{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"params\":null}", false, &m, &e), 0);
        CHECK(m.kind == JSONRPC_NOTIFICATION && !m.id && !m.params);
        jsonrpc_msg_fini(&m);
        CHECK_INT(read_text("{\"jsonrpc\":\"2.0\",\"id\":\"a-1\",\"result\":[1],\"error\":null}", false, &m,
                            &e),
                  0);
        CHECK(m.kind == JSONRPC_RESULT && cJSON_IsString(m.id) && cJSON_IsArray(m.result));
        jsonrpc_msg_fini(&m);
        CHECK_INT(read_text("{\"jsonrpc\":\"2.0\",\"id\":7}", false, &m, &e), 0);
        CHECK(m.kind == JSONRPC_RESULT && !m.result);
        jsonrpc_msg_fini(&m);
        CHECK_INT(read_text("{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32700,\"message\":\"x\"}}",
                            false, &m, &e),
                  0);
        CHECK(m.kind == JSONRPC_ERROR && !m.id && m.code == JSONRPC_PARSE_ERROR);
        CHECK_STR(m.message, "x");
        jsonrpc_msg_fini(&m);
}

static void no_message(const char *text, bool bare)
{
        struct jsonrpc_msg m;
        struct err e = {0};

        if (read_text(text, bare, &m, &e) != -E_PROTO || !strstr(e.msg, "no JSON-RPC message"))
                test_fail(__FILE__, __LINE__, "%s: %s", text, e.msg);
}

TEST(jsonrpc, what_is_no_message_is_said_so)
{
        no_message("", false);
        no_message("hello", false);
        no_message("[]", false);
        no_message("null", true);
        no_message("{}", true);
        no_message("{\"jsonrpc\":\"2.0\"}", false);
        no_message("{\"id\":1,\"result\":{}}", false);
        no_message("{\"jsonrpc\":\"1.0\",\"id\":1,\"result\":{}}", true);
        no_message("{\"jsonrpc\":2.0,\"id\":1,\"result\":{}}", false);
        no_message("{\"jsonrpc\":\"2.0\",\"id\":1.5,\"result\":{}}", false);
        no_message("{\"jsonrpc\":\"2.0\",\"id\":1e300,\"result\":{}}", false);
        no_message("{\"jsonrpc\":\"2.0\",\"id\":{},\"result\":{}}", false);
        no_message("{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":\"x\"}", false);
        no_message("{\"jsonrpc\":\"2.0\",\"result\":{}}", false);
        no_message("{\"jsonrpc\":\"2.0\",\"method\":4}", false);
        no_message("{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"params\":4}", false);
        no_message("{\"jsonrpc\":\"2.0\",\"id\":1,\"id\":2,\"result\":{}}", false);
}

TEST(jsonrpc, the_version_may_be_left_out_only_when_said_so)
{
        struct jsonrpc_msg m;
        struct err e = {0};
        struct wire w;

        CHECK_INT(read_text("{\"id\":1,\"result\":{}}", true, &m, &e), 0);
        jsonrpc_msg_fini(&m);
        wire_init(&w, true);
        CHECK_INT(jsonrpc_call(&w.r, "thread/start", NULL, on_answer, &w, NULL), 0);
        CHECK_STR(sent(&w), "{\"id\":0,\"method\":\"thread/start\"}\n");
        wire_fini(&w);
        wire_init(&w, false);
        CHECK_INT(jsonrpc_notify(&w.r, "initialized", cJSON_CreateObject()), 0);
        CHECK_STR(sent(&w), "{\"jsonrpc\":\"2.0\",\"method\":\"initialized\",\"params\":{}}\n");
        wire_fini(&w);
}

TEST(jsonrpc, each_answer_finds_its_request_once)
{
        struct wire w;
        uint64_t first, second;

        wire_init(&w, false);
        CHECK_INT(jsonrpc_call(&w.r, "a", NULL, on_answer, &w, &first), 0);
        CHECK_INT(jsonrpc_call(&w.r, "b", cJSON_CreateObject(), on_answer, &w, &second), 0);
        CHECK(first == 0 && second == 1);
        CHECK_INT(came(&w, "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-32000,\"message\":\"no\"}}"),
                  0);
        CHECK(w.kind == JSONRPC_ERROR);
        CHECK_STR(w.text, "no");
        CHECK_INT(came(&w, "{\"jsonrpc\":\"2.0\",\"id\":0,\"result\":\"yes\"}"), 0);
        CHECK_STR(w.text, "yes");
        CHECK_INT(came(&w, "{\"jsonrpc\":\"2.0\",\"id\":0,\"result\":\"yes\"}"), -E_NOENT);
        CHECK_INT(came(&w, "{\"jsonrpc\":\"2.0\",\"id\":\"0\",\"result\":\"yes\"}"), -E_NOENT);
        CHECK_INT(came(&w, "{\"jsonrpc\":\"2.0\",\"id\":-1,\"result\":\"yes\"}"), -E_NOENT);
        CHECK_INT(w.answers, 2);
        CHECK_INT(jsonrpc_waiting(&w.r), 0);
        wire_fini(&w);
}

TEST(jsonrpc, an_answer_may_ask_the_next_thing)
{
        struct wire w;

        wire_init(&w, false);
        w.again = true;
        CHECK_INT(jsonrpc_call(&w.r, "a", NULL, on_answer, &w, NULL), 0);
        CHECK_INT(came(&w, "{\"jsonrpc\":\"2.0\",\"id\":0,\"result\":{}}"), 0);
        CHECK_INT(jsonrpc_waiting(&w.r), 1);
        jsonrpc_forget(&w.r, 1);
        CHECK_INT(came(&w, "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}"), -E_NOENT);
        CHECK_INT(w.answers, 1);
        wire_fini(&w);
}

TEST(jsonrpc, what_cannot_be_sent_waits_for_nothing)
{
        struct wire w;

        wire_init(&w, false);
        w.refuse = -E_CLOSED;
        CHECK_INT(jsonrpc_call(&w.r, "a", cJSON_CreateObject(), on_answer, &w, NULL), -E_CLOSED);
        CHECK_INT(jsonrpc_waiting(&w.r), 0);
        w.refuse = 0;
        for (int i = 0; i < JSONRPC_WAITING_MAX; i++)
                CHECK_INT(jsonrpc_call(&w.r, "a", NULL, on_answer, &w, NULL), 0);
        CHECK_INT(jsonrpc_call(&w.r, "a", cJSON_CreateObject(), on_answer, &w, NULL), -E_FULL);
        wire_fini(&w);
}

TEST(jsonrpc, replies_carry_the_id_as_it_came)
{
        struct jsonrpc_msg m;
        struct err e = {0};
        struct wire w;

        wire_init(&w, false);
        CHECK_INT(read_text("{\"jsonrpc\":\"2.0\",\"id\":\"x/0\",\"method\":\"m\"}", false, &m, &e), 0);
        CHECK_INT(jsonrpc_reply(&w.r, m.id, NULL), 0);
        CHECK_STR(sent(&w), "{\"jsonrpc\":\"2.0\",\"id\":\"x/0\",\"result\":null}\n");
        jsonrpc_msg_fini(&m);
        CHECK_INT(read_text("{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"m\"}", false, &m, &e), 0);
        CHECK_INT(jsonrpc_reply_error(&w.r, m.id, JSONRPC_METHOD_NOT_FOUND, "no m here"), 0);
        CHECK_STR(sent(&w),
                  "{\"jsonrpc\":\"2.0\",\"id\":0,\"error\":{\"code\":-32601,\"message\":\"no m here\"}}\n");
        jsonrpc_msg_fini(&m);
        wire_fini(&w);
}

TEST(jsonrpc, halves_of_characters_become_a_mark)
{
        struct jsonrpc_msg m;
        struct err e = {0};

        CHECK_INT(
                read_text(
                        "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":\"a\\ud83d|\\ude00|\\ud83d\\ude00|\\u0000|"
                        "\\\\u0000|\\uD83D\\u0041\"}",
                        false, &m, &e),
                0);
        CHECK_STR(m.result->valuestring, "a\xef\xbf\xbd|\xef\xbf\xbd|\xf0\x9f\x98\x80|\xef\xbf\xbd|\\u0000|"
                                         "\xef\xbf\xbd"
                                         "A");
        jsonrpc_msg_fini(&m);
}

TEST(jsonrpc, survives_want_of_memory)
{
        for (unsigned long n = 1; n < 60; n++) {
                struct wire w = {.answers = 0};
                struct jsonrpc_msg m;
                struct err e = {0};
                char text[] = "{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"m\",\"params\":{}}";

                mem_fail_nth(n);
                if (jsonrpc_init(&w.r, false, on_send, &w) == 0) {
                        (void)jsonrpc_call(&w.r, "a", cJSON_CreateObject(), on_answer, &w, NULL);
                        (void)jsonrpc_notify(&w.r, "b", cJSON_CreateObject());
                        if (jsonrpc_read(text, sizeof text - 1, false, &m, &e) == 0) {
                                (void)jsonrpc_reply(&w.r, m.id, cJSON_CreateObject());
                                (void)jsonrpc_reply_error(&w.r, m.id, -1, "x");
                                jsonrpc_msg_fini(&m);
                        }
                }
                mem_fail_nth(0);
                wire_fini(&w);
        }
}
