/* MCP: messages and terms (pure), the table of tools, sessions; and tool calls against the
 * real server, store and engine. */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/file.h"
#include "common/json.h"
#include "common/mem.h"
#include "hub/http/attempt_log.h"
#include "hub/http/mcp.h"
#include "hub/logs/logs.h"
#include "tests/lib/api_world.h"
#include "tests/lib/test.h"

/* ---- messages ---- */

static int code_of(const char *text)
{
        struct mcp_msg m;
        struct mcp_fault f = {0};
        int rc = mcp_parse(text, strlen(text), &m, &f), code = f.code;

        CHECK(!rc == !code);
        if (rc) {
                CHECK(f.status >= 400 && f.why.msg[0]);
        }
        mcp_msg_fini(&m);
        mcp_fault_fini(&f);
        return code;
}

TEST(mcp_rpc, what_is_no_message_is_refused)
{
        CHECK_INT(code_of(""), MCP_E_PARSE);
        CHECK_INT(code_of("{\"jsonrpc\":\"2.0\""), MCP_E_PARSE);
        CHECK_INT(code_of("{\"a\":1,\"a\":2}"), MCP_E_PARSE);
        CHECK_INT(code_of("[]"), MCP_E_REQUEST);
        CHECK_INT(code_of("[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}]"), MCP_E_REQUEST);
        CHECK_INT(code_of("\"ping\""), MCP_E_REQUEST);
        CHECK_INT(code_of("{\"id\":1,\"method\":\"ping\"}"), MCP_E_REQUEST);
        CHECK_INT(code_of("{\"jsonrpc\":2.0,\"id\":1,\"method\":\"ping\"}"), MCP_E_REQUEST);
        CHECK_INT(code_of("{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"ping\"}"), MCP_E_REQUEST);
        CHECK_INT(code_of("{\"jsonrpc\":\"2.0\",\"id\":{},\"method\":\"ping\"}"), MCP_E_REQUEST);
        CHECK_INT(code_of("{\"jsonrpc\":\"2.0\",\"id\":0.5,\"method\":\"ping\"}"), MCP_E_REQUEST);
        CHECK_INT(code_of("{\"jsonrpc\":\"2.0\",\"id\":1e300,\"method\":\"ping\"}"), MCP_E_REQUEST);
        CHECK_INT(code_of("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\"}"), MCP_E_REQUEST);
        CHECK_INT(code_of("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":7}"), MCP_E_REQUEST);
        CHECK_INT(code_of("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\",\"params\":[1]}"), MCP_E_REQUEST);
        CHECK_INT(code_of("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\",\"params\":{\"_meta\":1}}"),
                  MCP_E_PARAMS);
        CHECK_INT(code_of("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\",\"result\":{}}"), MCP_E_REQUEST);
        CHECK_INT(code_of("{\"jsonrpc\":\"2.0\",\"id\":1}"), MCP_E_REQUEST);
        CHECK_INT(code_of("{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{},\"error\":{}}"), MCP_E_REQUEST);
        CHECK_INT(code_of("{\"jsonrpc\":\"2.0\",\"result\":{}}"), MCP_E_REQUEST);
        CHECK_INT(code_of("{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":7}"), MCP_E_REQUEST);
}

TEST(mcp_rpc, requests_notifications_and_responses_are_told_apart)
{
        static const struct {
                const char *text;
                enum mcp_kind kind;
        } t[] = {{"{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"ping\"}", MCP_REQUEST},
                 {"{\"jsonrpc\":\"2.0\",\"id\":\"\",\"method\":\"ping\",\"params\":{}}", MCP_REQUEST},
                 {"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}", MCP_NOTIFICATION},
                 {"{\"jsonrpc\":\"2.0\",\"id\":\"q\",\"result\":{\"action\":\"accept\"}}", MCP_RESPONSE},
                 {"{\"jsonrpc\":\"2.0\",\"id\":3,\"error\":{\"code\":-1,\"message\":\"no\"}}", MCP_RESPONSE}};

        for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
                struct mcp_msg m;
                struct mcp_fault f = {0};

                CHECK_INT(mcp_parse(t[i].text, strlen(t[i].text), &m, &f), 0);
                CHECK_INT(m.kind, t[i].kind);
                CHECK(!m.id == (t[i].kind == MCP_NOTIFICATION));
                mcp_msg_fini(&m);
        }
}

TEST(mcp_rpc, an_error_carries_the_id_that_came)
{
        static const char *const t[][2] = {
                {"{\"jsonrpc\":\"2.0\",\"id\":9007199254740992,\"params\":1,\"method\":\"x\"}",
                 "\"id\":9007199254740992,"},
                {"{\"jsonrpc\":\"2.0\",\"id\":\"a\\\"b\",\"params\":1,\"method\":\"x\"}",
                 "\"id\":\"a\\\"b\","},
                {"{", "\"id\":null,"}};

        for (size_t i = 0; i < 3; i++) {
                struct mcp_msg m;
                struct mcp_fault f = {0};
                struct buf b;
                cJSON *doc = NULL;

                buf_init(&b, 0);
                CHECK(mcp_parse(t[i][0], strlen(t[i][0]), &m, &f) != 0);
                CHECK_INT(mcp_write_error(&b, m.id, &f), 0);
                CHECK_INT(json_parse((const char *)b.data, b.len, &doc, NULL), 0);
                CHECK_INT(buf_putc(&b, '\0'), 0);
                CHECK(strstr((const char *)b.data, t[i][1]) != NULL);
                cJSON_Delete(doc);
                buf_fini(&b);
                mcp_msg_fini(&m);
                mcp_fault_fini(&f);
        }
}

/* ---- terms ---- */

#define META_OF(version)                                                                                     \
        "\"_meta\":{\"io.modelcontextprotocol/protocolVersion\":\"" version                                  \
        "\",\"io.modelcontextprotocol/clientCapabilities\":{\"elicitation\":{}}}"
#define CALL_OF(params) "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{" params "}}"
#define MODERN_CALL     CALL_OF("\"name\":\"run_tool\"," META_OF("2026-07-28"))

struct terms_case {
        const char *text;
        struct mcp_headers h;
        int code; /* 0: served */
        enum mcp_era era;
        const char *version;
};

static void settle(const struct terms_case *t)
{
        struct mcp_msg m;
        struct mcp_terms terms;
        struct mcp_fault f = {0};

        CHECK_INT(mcp_parse(t->text, strlen(t->text), &m, &f), 0);
        mcp_settle(&m, &t->h, &terms, &f);
        if (f.code != t->code)
                test_fail(__FILE__, __LINE__, "%s: code %d, expected %d (%s)", t->text, f.code, t->code,
                          f.why.msg);
        if (!f.code) {
                CHECK_INT(terms.era, t->era);
                CHECK_STR(terms.version, t->version);
        } else {
                CHECK_INT(f.status, 400);
        }
        mcp_msg_fini(&m);
        mcp_fault_fini(&f);
}

TEST(mcp_terms, the_body_and_the_headers_name_the_revision)
{
        static const char ping[] = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}";
        static const char initialize[] =
                "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"initialize\",\"params\":{}}";
        static const char note_[] = "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}";
        static const struct terms_case t[] = {
                {ping, {0}, 0, MCP_LEGACY, "2025-03-26"}, /* Gemini CLI sends no header */
                {ping, {"2025-06-18", NULL, NULL}, 0, MCP_LEGACY, "2025-06-18"},
                {ping, {"2025-11-25", "ignored", "ignored"}, 0, MCP_LEGACY, "2025-11-25"},
                {ping, {"2024-11-05", NULL, NULL}, 0, MCP_LEGACY, "2024-11-05"},
                {ping, {"2031-01-01", NULL, NULL}, MCP_E_VERSION, 0, NULL},
                {ping, {"2026-07-28", "ping", NULL}, MCP_E_PARAMS, 0, NULL}, /* says so, but has no _meta */
                {initialize, {0}, 0, MCP_LEGACY, "2025-03-26"},
                {initialize, {"2026-07-28", "initialize", NULL}, MCP_E_HEADER, 0, NULL},
                {note_, {"2026-07-28", NULL, NULL}, 0, MCP_MODERN, "2026-07-28"},
                {MODERN_CALL, {"2026-07-28", "tools/call", "run_tool"}, 0, MCP_MODERN, "2026-07-28"},
                {MODERN_CALL, {"2026-07-28", " tools/call\t", "  run_tool "}, 0, MCP_MODERN, "2026-07-28"},
                {MODERN_CALL,
                 {"2026-07-28", "tools/call", "=?base64?cnVuX3Rvb2w=?="},
                 0,
                 MCP_MODERN,
                 "2026-07-28"},
                {MODERN_CALL, {"2026-07-28", "tools/call", "=?base64?!!?="}, MCP_E_HEADER, 0, NULL},
                {MODERN_CALL, {"2026-07-28", "tools/call", "=?base64?cnVuAA==?="}, MCP_E_HEADER, 0, NULL},
                {MODERN_CALL, {"2026-07-28", "tools/call", "other"}, MCP_E_HEADER, 0, NULL},
                {MODERN_CALL, {"2026-07-28", "tools/call", NULL}, MCP_E_HEADER, 0, NULL},
                {MODERN_CALL, {"2026-07-28", "TOOLS/CALL", "run_tool"}, MCP_E_HEADER, 0, NULL},
                {MODERN_CALL, {"2026-07-28", NULL, "run_tool"}, MCP_E_HEADER, 0, NULL},
                {MODERN_CALL, {NULL, "tools/call", "run_tool"}, MCP_E_HEADER, 0, NULL},
                {MODERN_CALL, {"2025-11-25", "tools/call", "run_tool"}, MCP_E_HEADER, 0, NULL},
                {CALL_OF("\"name\":\"x\"," META_OF("v999")),
                 {"v999", "tools/call", "x"},
                 MCP_E_VERSION,
                 0,
                 NULL},
                {CALL_OF("\"name\":\"x\"," META_OF("2025-11-25")),
                 {"2025-11-25", "tools/call", "x"},
                 MCP_E_VERSION,
                 0,
                 NULL},
                {CALL_OF("\"_meta\":{\"io.modelcontextprotocol/protocolVersion\":\"2026-07-28\"}"),
                 {"2026-07-28", "tools/call", NULL},
                 MCP_E_PARAMS,
                 0,
                 NULL},
                {CALL_OF("\"_meta\":{\"io.modelcontextprotocol/protocolVersion\":7}"),
                 {0},
                 MCP_E_PARAMS,
                 0,
                 NULL},
        };

        for (size_t i = 0; i < sizeof t / sizeof *t; i++)
                settle(&t[i]);
}

TEST(mcp_terms, an_unknown_version_is_told_which_are_spoken)
{
        static const char text[] = CALL_OF(META_OF("v9"));
        struct mcp_headers h = {"v9", "tools/call", NULL};
        struct mcp_msg m;
        struct mcp_terms terms;
        struct mcp_fault f = {0};

        CHECK_INT(mcp_parse(text, strlen(text), &m, &f), 0);
        CHECK(mcp_settle(&m, &h, &terms, &f) != 0);
        CHECK_STR(f.data, "{\"supported\":[\"2026-07-28\"],\"requested\":\"v9\"}");
        mcp_msg_fini(&m);
        mcp_fault_fini(&f);
}

TEST(mcp_terms, initialize_gets_what_it_asks_for_or_the_newest)
{
        CHECK_STR(mcp_negotiate("2025-06-18"), "2025-06-18");
        CHECK_STR(mcp_negotiate("2024-11-05"), "2024-11-05");
        CHECK_STR(mcp_negotiate("2026-07-28"), "2025-11-25");
        CHECK_STR(mcp_negotiate(""), "2025-11-25");
        CHECK_STR(mcp_negotiate(NULL), "2025-11-25");
}

/* ---- the table ---- */

static bool has_property(const cJSON *schema, const char *name)
{
        return cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(schema, "properties"), name);
}

static const struct route *route_behind(const struct mcp_tool *t)
{
        size_t n;
        const struct route *r = route_table(&n);

        for (size_t i = 0; i < n; i++)
                if (strcmp(r[i].method, t->method) == 0 && strcmp(r[i].pattern, t->pattern) == 0)
                        return &r[i];
        test_fail(__FILE__, __LINE__, "%s: there is no route %s %s", t->name, t->method, t->pattern);
}

/* Every word of the list is an argument, and (for queries) one that the route takes. */
static void check_words(const struct mcp_tool *t, const cJSON *schema, const char *list,
                        const struct route *r)
{
        char word[40];

        while (list && *list) {
                size_t n = strcspn(list, " ");

                snprintf(word, sizeof word, "%.*s", (int)n, list);
                if (n > 31 || !has_property(schema, word) || (r && !route_takes(r, word)))
                        test_fail(__FILE__, __LINE__, "%s: %s is no argument, or the route takes none such",
                                  t->name, word);
                list += n + strspn(list + n, " ");
        }
}

TEST(mcp_tools, each_is_a_route_with_a_sound_schema_and_in_the_guide)
{
        char *guide = NULL, row[120];
        size_t len;
        struct err e = {0};

        if (file_read("docs/MCP.md", 1 << 20, &guide, &len, &e))
                test_fail(__FILE__, __LINE__, "%s", e.msg);
        for (const struct mcp_tool *t = mcp_tools; t->name; t++) {
                const struct route *r = route_behind(t);
                cJSON *in = NULL, *out = NULL;

                if (json_parse(t->input, strlen(t->input), &in, &e) ||
                    json_parse(t->output, strlen(t->output), &out, &e))
                        test_fail(__FILE__, __LINE__, "%s: %s", t->name, e.msg);
                CHECK_STR(cJSON_GetStringValue(cJSON_GetObjectItem(in, "type")), "object");
                for (size_t i = 0; i < ROUTE_PARAMS_MAX && t->params[i]; i++)
                        CHECK(has_property(in, t->params[i]));
                check_words(t, in, t->query, r);
                check_words(t, in, t->body, NULL);
                CHECK(!(t->flags & MCP_READS) || !(r->flags & ROUTE_CHANGES));
                CHECK(!(t->flags & MCP_READS) || !(t->flags & MCP_DESTROYS));
                CHECK(t->flags & MCP_READS || r->flags & ROUTE_CHANGES);
                snprintf(row, sizeof row, "| `%s` | `%s` |", t->name, permission_name(r->perm));
                if (!strstr(guide, row))
                        test_fail(__FILE__, __LINE__, "docs/MCP.md has no row %s", row);
                cJSON_Delete(in);
                cJSON_Delete(out);
        }
        mem_free(guide);
}

/* ---- pieces of output ---- */

static struct log_reader *reader_of(struct buf *framed)
{
        struct log_reader *r = NULL;

        CHECK_INT(log_reader_open_mem(framed->data, framed->len, &r), 0);
        return r;
}

TEST(mcp_output, a_piece_is_cut_between_characters_and_goes_on_there)
{
        struct buf framed, out;
        struct log_reader *r;
        uint64_t next = 0;
        bool more = false, cut;

        buf_init(&framed, 0);
        buf_init(&out, 0);
        logs_frame(&framed, LOG_STDOUT, "ab\xc3", 3, 1); /* an e with an accent, in two records */
        logs_frame(&framed, LOG_EVENT, "{}", 2, 1);
        logs_frame(&framed, LOG_STDERR, "\xa9z\xe2\x82", 4, 1);
        r = reader_of(&framed);
        CHECK_INT(attempt_log_text(r, ATTEMPT_OUTPUT, 3, false, &out, &next, &more), 0);
        CHECK_INT(next, 2); /* "ab": the third byte begins a character */
        CHECK(more);
        CHECK_INT(attempt_log_text(r, ATTEMPT_OUTPUT, 100, false, &out, &next, &more), 0);
        CHECK(!more);
        CHECK_INT(next, 7); /* two bytes of a euro sign wait for their third */
        CHECK_INT(attempt_log_text(r, ATTEMPT_OUTPUT, 100, true, &out, &next, &more), 0);
        CHECK_INT(next, 9); /* it is over: nothing more will come */
        CHECK_INT(buf_putc(&out, '\0'), 0);
        CHECK_STR((char *)out.data, "ab\xc3\xa9z\xef\xbf\xbd");
        buf_reset(&out);
        CHECK_INT(log_reader_seek(r, 0), 0);
        CHECK_INT(attempt_log_tail(r, ATTEMPT_OUTPUT, 4, 9, &out, &cut), 0);
        CHECK(cut);
        CHECK_INT(buf_putc(&out, '\0'), 0);
        CHECK_STR((char *)out.data, "z\xef\xbf\xbd");
        buf_reset(&out);
        CHECK_INT(log_reader_seek(r, 0), 0);
        CHECK_INT(attempt_log_text(r, 1u << LOG_EVENT, 100, true, &out, &next, &more), 0);
        CHECK_INT(buf_putc(&out, '\0'), 0);
        CHECK_STR((char *)out.data, "{}");
        log_reader_close(r);
        buf_fini(&framed);
        buf_fini(&out);
}

/* ---- over the wire ---- */

static const char *const modern_headers[] = {"MCP-Protocol-Version: 2026-07-28", "Mcp-Method: tools/call",
                                             "Mcp-Name: run_tool",
                                             "Accept: application/json, text/event-stream", NULL};

static struct answer mcp_post(struct api_world *w, const char *json, const char *token,
                              const char *const *headers)
{
        return ask(w, "POST", "/mcp", "application/json", json, strlen(json), token, headers);
}

static cJSON *last_event(const struct answer *a)
{
        const char *p = a->body, *last = NULL;
        cJSON *doc = NULL;

        while ((p = strstr(p, "data: ")))
                last = p += 6;
        if (last)
                json_parse(last, strcspn(last, "\n"), &doc, NULL);
        return doc;
}

TEST(mcp_http, a_call_ends_with_its_result)
{
        struct api_world *w = world_start(NULL);
        struct answer a = mcp_post(
                w, CALL_OF("\"name\":\"run_tool\",\"arguments\":{\"tool\":\"t.out\"}," META_OF("2026-07-28")),
                NULL, modern_headers);
        cJSON *doc = last_event(&a);
        const cJSON *result = cJSON_GetObjectItem(doc, "result");
        const cJSON *call = cJSON_GetObjectItem(result, "structuredContent");

        CHECK_INT(a.status, 200);
        CHECK_STR(cJSON_GetStringValue(cJSON_GetObjectItem(call, "state")), "succeeded");
        CHECK_STR(cJSON_GetStringValue(cJSON_GetObjectItem(call, "output")), "out\nerr\n");
        CHECK_STR(cJSON_GetStringValue(cJSON_GetObjectItem(result, "resultType")), "complete");
        CHECK(strstr(a.headers, "text/event-stream") != NULL);
        CHECK(!strstr(a.headers, "ocation:")); /* of the route inside */
        cJSON_Delete(doc);
        answer_fini(&a);
        world_stop(w);
}

/* What a tool's events say is told; text is not told twice. */
TEST(mcp_http, events_of_the_tool_are_progress)
{
        static const char *const told[] = {"\"edit a.txt: running\"", "\"all is well\"", "\"said\\n\""};
        struct api_world *w = world_start(NULL);
        struct answer a =
                mcp_post(w,
                         CALL_OF("\"name\":\"run_tool\",\"arguments\":{\"tool\":\"t.events\"},"
                                 "\"_meta\":{\"progressToken\":1}"),
                         NULL, (const char *const[]){"Accept: application/json, text/event-stream", NULL});
        const char *at = a.body;
        cJSON *doc = last_event(&a);
        const cJSON *call = cJSON_GetObjectItem(cJSON_GetObjectItem(doc, "result"), "structuredContent");

        for (size_t i = 0; i < sizeof told / sizeof *told; i++) {
                char want[100];

                snprintf(want, sizeof want, "\"message\":%s", told[i]);
                at = strstr(at, want);
                if (!at)
                        test_fail(__FILE__, __LINE__, "not told in its turn: %s in %s", want, a.body);
        }
        CHECK(!strstr(at + 10, "\"message\":\"said"));
        CHECK(!strstr(a.body, "\"message\":\"no event"));
        CHECK_STR(cJSON_GetStringValue(cJSON_GetObjectItem(call, "output")), "said\n");
        cJSON_Delete(doc);
        answer_fini(&a);
        world_stop(w);
}

static void one_place(struct http_options *o)
{
        o->max_streams = 1;
}

static void *wait_for_call(void *w)
{
        struct answer a = post(w, "/api/v1/calls?wait=true", "{\"tool\":\"t.hang\"}");

        CHECK_STR(answer_str(&a, "state"), "succeeded");
        answer_fini(&a);
        return NULL;
}

/* What runs must have somebody to tell of it. */
TEST(mcp_http, a_call_without_a_place_is_not_begun)
{
        struct api_world *w = world_start(one_place);
        struct answer a;
        pthread_t waiter;

        CHECK_INT(pthread_create(&waiter, NULL, wait_for_call, w), 0);
        while (!world_running(w))
                sched_yield();
        a = mcp_post(w, CALL_OF("\"name\":\"run_tool\",\"arguments\":{\"tool\":\"t.ok\"}"), NULL, NULL);
        CHECK_INT(a.status, 200);
        CHECK(strstr(a.body, "resource_exhausted") && strstr(a.body, "\"isError\":true"));
        answer_fini(&a);
        a = get(w, "/api/v1/runs");
        CHECK_INT(cJSON_GetArraySize(cJSON_GetObjectItem(a.json, "items")), 1);
        answer_fini(&a);
        world_finish(w);
        pthread_join(waiter, NULL);
        world_stop(w);
}

static char *open_session(struct api_world *w, const char *token)
{
        struct answer a = mcp_post(w,
                                   "{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"initialize\",\"params\":{"
                                   "\"protocolVersion\":\"2025-11-25\",\"capabilities\":{}}}",
                                   token, NULL);
        const char *p = strcasestr(a.headers, "mcp-session-id: ");
        char *header;

        CHECK_INT(a.status, 200);
        CHECK(p != NULL);
        header = mem_strndup(p, strcspn(p, "\r\n"));
        answer_fini(&a);
        return header;
}

static long ping_with(struct api_world *w, const char *session, const char *token)
{
        struct answer a = mcp_post(w, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}", token,
                                   (const char *const[]){session, NULL});
        long status = a.status;

        answer_fini(&a);
        return status;
}

TEST(mcp_sessions, belong_to_a_token_and_make_room)
{
        struct api_world *w = world_start(NULL);
        char *other = world_make_token(w, "operator");
        char *first = open_session(w, NULL), *second = open_session(w, NULL), *s;

        CHECK_INT(ping_with(w, first, NULL), 200);
        CHECK_INT(ping_with(w, first, other), 404);
        CHECK_INT(ping_with(w, "Mcp-Session-Id: x", NULL), 404);
        for (int i = 2; i < MCP_SESSIONS_PER_TOKEN; i++) {
                s = open_session(w, NULL);
                mem_free(s);
        }
        CHECK_INT(ping_with(w, first, NULL), 200); /* used last, so the second is quieter */
        s = open_session(w, NULL);
        CHECK_INT(ping_with(w, second, NULL), 404);
        CHECK_INT(ping_with(w, first, NULL), 200);
        mem_free(s);
        mem_free(first);
        mem_free(second);
        mem_free(other);
        world_stop(w);
}

/* Like http_auth.every_route_for_every_role, for tools: what a role may not do it is neither offered nor
 * given. */
TEST(mcp_tools, each_role_is_offered_what_it_may)
{
        static const char *const roles[] = {"client", "operator", "technical-operator", "admin"};
        struct api_world *w = world_start(NULL);

        for (int r = 0; r < 4; r++) {
                char *token = world_make_token(w, roles[r]);
                struct answer list =
                        mcp_post(w, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\"}", token, NULL);

                for (const struct mcp_tool *t = mcp_tools; t->name; t++) {
                        const struct route *route = route_behind(t);
                        bool may = role_may((enum role)(ROLE_CLIENT + r), route->perm);
                        char text[256], name[64], denied[96];
                        struct answer a;

                        snprintf(name, sizeof name, "\"name\":\"%s\"", t->name);
                        CHECK(!strstr(list.body, name) == !may);
                        snprintf(text, sizeof text,
                                 "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/"
                                 "call\",\"params\":{\"name\":\"%s\","
                                 "\"arguments\":{\"no such\":1}}}",
                                 t->name);
                        a = mcp_post(w, text, token, NULL);
                        snprintf(denied, sizeof denied, "lacks the permission %s",
                                 permission_name(route->perm));
                        if (a.status != 200 || !strstr(a.body, "\"isError\":true") ||
                            !strstr(a.body, denied) != may)
                                test_fail(__FILE__, __LINE__, "%s as %s: %ld %.300s", t->name, roles[r],
                                          a.status, a.body);
                        answer_fini(&a);
                }
                answer_fini(&list);
                mem_free(token);
        }
        world_stop(w);
}

TEST(mcp, a_resource_is_named_by_a_list_or_one_of_it)
{
        static const struct {
                const char *uri;
                enum mcp_resource_kind kind;
                const char *id;
        } good[] = {{"photon://runs", MCP_RUNS, ""},
                    {"photon://checkpoints", MCP_CHECKPOINTS, ""},
                    {"photon://runs/01m8k569b1nyk7ax2zqk0f65qb", MCP_RUN, "01m8k569b1nyk7ax2zqk0f65qb"},
                    {"photon://checkpoints/a-B_9", MCP_CHECKPOINT, "a-B_9"}};
        static const char *const bad[] = {
                "",
                "photon://",
                "photon://run",
                "photon://runsx",
                "photon://runs/",
                "photon://runs/a/b",
                "photon://runs/..",
                "photon://runs/a?b",
                "photon://runs/a%2fb",
                "photon://runs/\"",
                "PHOTON://runs",
                "photon:runs",
                "http://runs/a",
                "photon://runs/0123456789012345678901234567890123456789012345678901234567890123"};
        struct mcp_resource r;
        char uri[MCP_RESOURCE_URI];

        for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
                CHECK_INT(mcp_resource_parse(good[i].uri, &r), 0);
                CHECK_INT(r.kind, good[i].kind);
                CHECK_STR(r.id, good[i].id);
                mcp_resource_uri(&r, uri);
                CHECK_STR(uri, good[i].uri);
        }
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
                if (mcp_resource_parse(bad[i], &r) != -E_NOENT)
                        test_fail(__FILE__, __LINE__, "%s was taken", bad[i]);
}
