/* What MCP servers say, made into tools and outputs: names, schemas, limits. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/tools/mcp_result.h"
#include "agent/tools/mcp_tool.h"
#include "common/buf.h"
#include "common/err.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"
#include "tests/lib/test.h"

static cJSON *parse(const char *text)
{
        cJSON *v = NULL;
        struct err e = {0};

        mem_install_hooks();
        if (json_parse(text, strlen(text), &v, &e))
                test_fail(__FILE__, __LINE__, "%s in %s", e.msg, text);
        return v;
}

static bool is_taken(void *arg, const char *name)
{
        return arg && strcmp(arg, name) == 0;
}

static struct mcp_tool *make(const char *text, const char *taken)
{
        struct mcp_tool *t = NULL;
        struct err e = {0};
        cJSON *v = parse(text);

        if (mcp_tool_make("srv", v, is_taken, (void *)(uintptr_t)taken, &t, &e))
                test_fail(__FILE__, __LINE__, "%s: %s", text, e.msg);
        cJSON_Delete(v);
        return t;
}

/* --- tools ------------------------------------------------------------------------ */

TEST(mcp_tool, a_name_becomes_one_that_the_hub_takes)
{
        static const struct {
                const char *name, *want;
        } cases[] = {
                {"read_file", "mcp.srv.read_file"},
                {"a/b c", "mcp.srv.a_b_c"},
                {"\xc3\xa9t\xc3\xa9", "mcp.srv.__t__"},
                {"x.y-z", "mcp.srv.x.y-z"},
        };

        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
                char text[200];
                struct mcp_tool *t;

                snprintf(text, sizeof text, "{\"name\":\"%s\"}", cases[i].name);
                t = make(text, NULL);
                CHECK_STR(t->name, cases[i].want);
                CHECK_STR(t->original, cases[i].name);
                mcp_tool_free(t);
        }
}

TEST(mcp_tool, long_and_like_names_are_told_apart)
{
        char text[400], a[300];
        struct mcp_tool *t, *u;

        memset(a, 'a', 200);
        a[200] = '\0';
        snprintf(text, sizeof text, "{\"name\":\"%s1\"}", a);
        t = make(text, NULL);
        snprintf(text, sizeof text, "{\"name\":\"%s2\"}", a);
        u = make(text, NULL);
        CHECK(str_is_name(t->name, MCP_TOOL_NAME_MAX) && strlen(t->name) == MCP_TOOL_NAME_MAX);
        CHECK(strcmp(t->name, u->name) != 0);
        mcp_tool_free(t);
        mcp_tool_free(u);
        t = make("{\"name\":\"a b\"}", "mcp.srv.a_b");
        CHECK(strncmp(t->name, "mcp.srv.a_b-", 12) == 0 && strlen(t->name) == 20);
        mcp_tool_free(t);
}

TEST(mcp_tool, hints_say_the_effect)
{
        static const struct {
                const char *hints, *want;
        } cases[] = {
                {"{}", "at-most-once"},
                {"{\"readOnlyHint\":true}", "pure"},
                {"{\"readOnlyHint\":false,\"idempotentHint\":true}", "idempotent"},
                {"{\"readOnlyHint\":\"yes\"}", "at-most-once"},
        };

        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
                char text[200];
                struct mcp_tool *t;

                snprintf(text, sizeof text, "{\"name\":\"x\",\"annotations\":%s}", cases[i].hints);
                t = make(text, NULL);
                CHECK_STR(t->row.effect, cases[i].want);
                mcp_tool_free(t);
        }
}

/* Whatever a server calls a schema, calls can be checked against what comes of it. */
TEST(mcp_tool, what_cannot_be_checked_is_taken_out_of_a_schema)
{
        struct mcp_tool *t = make("{\"name\":\"x\",\"inputSchema\":{\"type\":\"object\",\"$defs\":{\"a\":1},"
                                  "\"oneOf\":[1],\"required\":true,"
                                  "\"properties\":{\"a\":{\"type\":\"any\",\"minLength\":2},\"b\":{\"type\":"
                                  "\"array\",\"items\":[{\"type\":"
                                  "\"string\"}]},\"c\":{\"anyOf\":[{\"type\":\"strange\"},3]},\"d\":7,\"e\":{"
                                  "\"type\":\"string\","
                                  "\"pattern\":\"^x\",\"maxLength\":\"9\"}}}}",
                                  NULL);
        cJSON *schema = parse(t->input_schema),
              *good = parse("{\"a\":5,\"b\":[1],\"c\":null,\"d\":1,\"e\":\"y\"}");
        cJSON *bad = parse("{\"e\":5}");
        struct err e = {0};

        CHECK_INT(json_check_schema(schema, &e), 0);
        CHECK_INT(json_check(schema, good, &e), 0);
        CHECK_INT(json_check(schema, bad, &e), -E_INVAL); /* what made sense still holds */
        CHECK(strstr(t->input_schema, "\"pattern\":\"^x\"") && strstr(t->input_schema, "$defs"));
        cJSON_Delete(schema);
        cJSON_Delete(good);
        cJSON_Delete(bad);
        mcp_tool_free(t);
}

TEST(mcp_tool, a_huge_schema_is_left_out_and_said_so)
{
        struct buf b;
        struct mcp_tool *t;
        char *text;

        buf_init(&b, 0);
        CHECK(buf_puts(&b, "{\"name\":\"x\",\"inputSchema\":{\"type\":\"object\",\"properties\":{") == 0);
        for (int i = 0; i < 8000; i++)
                CHECK(buf_printf(&b, "%s\"p%d\":{}", i ? "," : "", i) == 0);
        CHECK(buf_puts(&b, "}}}") == 0);
        text = buf_steal_str(&b);
        t = make(text, NULL);
        CHECK_STR(t->input_schema, "{\"type\":\"object\"}");
        CHECK(strstr(t->detail, "\"schema_omitted\":true"));
        mcp_tool_free(t);
        mem_free(text);
}

TEST(mcp_tool, arguments_go_into_headers_where_they_are_declared)
{
        struct mcp_tool *t = make("{\"name\":\"x\",\"inputSchema\":{\"type\":\"object\",\"properties\":{"
                                  "\"region\":{\"type\":\"string\","
                                  "\"x-mcp-header\":\"Region\"},\"deep\":{\"type\":\"object\",\"properties\":"
                                  "{\"n\":{\"type\":\"integer\","
                                  "\"x-mcp-header\":\"N\"}}}}}}",
                                  NULL);
        cJSON *args = parse("{\"region\":\"eu\",\"deep\":{\"n\":4}}"), *none = parse("{\"region\":null}"), *h;
        cJSON *twice = parse("{\"name\":\"x\",\"inputSchema\":{\"properties\":{\"a\":{\"type\":\"string\","
                             "\"x-mcp-header\":\"A\"},"
                             "\"b\":{\"type\":\"string\",\"x-mcp-header\":\"a\"}}}}");
        cJSON *list = parse("{\"name\":\"x\",\"inputSchema\":{\"properties\":{\"a\":{\"type\":\"array\",\"x-"
                            "mcp-header\":\"A\"}}}}");
        struct mcp_tool *u = NULL;
        struct err e = {0};

        h = mcp_tool_headers(t, args);
        CHECK_STR(cJSON_GetStringValue(cJSON_GetObjectItem(h, "Mcp-Param-Region")), "eu");
        CHECK_STR(cJSON_GetStringValue(cJSON_GetObjectItem(h, "Mcp-Param-N")), "4");
        cJSON_Delete(h);
        CHECK(!mcp_tool_headers(t, none));
        CHECK_INT(mcp_tool_make("srv", twice, is_taken, NULL, &u, &e), -E_INVAL);
        CHECK_INT(mcp_tool_make("srv", list, is_taken, NULL, &u, &e), -E_INVAL);
        cJSON_Delete(args);
        cJSON_Delete(none);
        cJSON_Delete(twice);
        cJSON_Delete(list);
        mcp_tool_free(t);
}

static int make_one(void *arg)
{
        cJSON *v = arg;
        struct mcp_tool *t = NULL;
        struct err e = {0};
        int rc = mcp_tool_make("srv", v, is_taken, NULL, &t, &e);

        mcp_tool_free(t);
        return rc;
}

TEST(mcp_tool, no_memory_leaves_nothing)
{
        cJSON *v = parse("{\"name\":\"x\",\"title\":\"t\",\"description\":\"d\",\"inputSchema\":{\"type\":"
                         "\"object\",\"properties\":{"
                         "\"a\":{\"type\":\"string\",\"x-mcp-header\":\"A\"}}},\"outputSchema\":{\"type\":"
                         "\"object\"}}");

        test_each_alloc_fails(make_one, v);
        cJSON_Delete(v);
}

/* --- results --------------------------------------------------------------------------- */

static void collect(void *arg, const char *p, size_t n)
{
        CHECK(buf_put(arg, p, n) == 0);
}

static int read_text(const char *text, const char *check, struct mcp_result *r, struct buf *said,
                     struct err *e)
{
        cJSON *v = parse(text), *c = check ? parse(check) : NULL;
        int rc;

        buf_init(said, 0);
        rc = mcp_result_read(v, c, collect, said, r, e);
        cJSON_Delete(v);
        cJSON_Delete(c);
        return rc;
}

TEST(mcp_result, blocks_of_text_stand_on_lines_of_their_own)
{
        struct mcp_result r;
        struct buf said;
        struct err e = {0};

        CHECK_INT(read_text("{\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\",\"text\":"
                            "\"b\\n\"},{\"type\":\"text\","
                            "\"text\":\"c\"}],\"structuredContent\":{\"n\":1}}",
                            "{\"type\":\"object\",\"required\":[\"n\"]}", &r, &said, &e),
                  0);
        CHECK_STR(cJSON_GetStringValue(cJSON_GetObjectItem(r.outputs, "text")), "a\nb\nc");
        CHECK_INT(said.len, 6 - 1);
        CHECK(!r.is_error && cJSON_GetObjectItem(r.outputs, "structured"));
        mcp_result_fini(&r);
        buf_fini(&said);
}

TEST(mcp_result, large_blocks_are_described_instead)
{
        size_t n = 3 << 20;
        char *data = mem_alloc(n + 1), *text;
        struct mcp_result r;
        struct buf said;
        struct err e = {0};
        const cJSON *b;

        CHECK(data);
        memset(data, 'A', n);
        data[n] = '\0';
        text = str_printf("{\"content\":[{\"type\":\"image\",\"data\":\"AAAA\",\"mimeType\":\"image/"
                          "png\"},{\"type\":\"audio\",\"data\":\"%s\","
                          "\"mimeType\":\"audio/wav\"}]}",
                          data);
        CHECK_INT(read_text(text, NULL, &r, &said, &e), 0);
        b = cJSON_GetObjectItem(r.outputs, "content");
        CHECK_INT(cJSON_GetArraySize(b), 2);
        CHECK_STR(cJSON_GetStringValue(cJSON_GetObjectItem(cJSON_GetArrayItem(b, 0), "data")), "AAAA");
        CHECK(cJSON_IsTrue(cJSON_GetObjectItem(cJSON_GetArrayItem(b, 1), "omitted")));
        CHECK(!cJSON_GetObjectItem(cJSON_GetArrayItem(b, 1), "data"));
        mcp_result_fini(&r);
        buf_fini(&said);
        mem_free(data);
        mem_free(text);
}

TEST(mcp_result, what_is_no_result_says_why)
{
        static const struct {
                const char *text, *check, *say;
                int rc;
        } cases[] = {
                {"[]", NULL, "no object", -E_PROTO},
                {"{\"content\":{}}", NULL, "expected a list", -E_PROTO},
                {"{\"content\":[{}]}", NULL, "has no type", -E_PROTO},
                {"{\"content\":[{\"type\":\"text\"}]}", NULL, "has no text", -E_PROTO},
                {"{\"resultType\":\"later\"}", NULL, "unknown type \"later\"", -E_PROTO},
                {"{\"resultType\":\"input_required\"}", NULL, "says for none", -E_PROTO},
                {"{\"resultType\":\"input_required\",\"inputRequests\":[]}", NULL, "expected an object",
                 -E_PROTO},
                {"{\"content\":[]}", "{\"type\":\"object\"}", "no structuredContent", -E_INVAL},
                {"{\"structuredContent\":{\"n\":\"x\"}}", "{\"properties\":{\"n\":{\"type\":\"number\"}}}",
                 "n: expected a number", -E_INVAL},
        };

        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
                struct mcp_result r;
                struct buf said;
                struct err e = {0};

                CHECK_INT(read_text(cases[i].text, cases[i].check, &r, &said, &e), cases[i].rc);
                if (!strstr(e.msg, cases[i].say))
                        test_fail(__FILE__, __LINE__, "case %zu: %s", i, e.msg);
                CHECK(!r.outputs);
                buf_fini(&said);
        }
}

TEST(mcp_result, an_error_needs_no_structured_content)
{
        struct mcp_result r;
        struct buf said;
        struct err e = {0};

        CHECK_INT(read_text("{\"isError\":true,\"content\":[{\"type\":\"text\",\"text\":\"no\"}]}",
                            "{\"required\":[\"n\"]}", &r, &said, &e),
                  0);
        CHECK(r.is_error);
        mcp_result_fini(&r);
        buf_fini(&said);
}
