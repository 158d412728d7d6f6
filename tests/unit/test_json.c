#include "tests/lib/test.h"

#include "common/buf.h"
#include "common/err.h"
#include "common/json.h"
#include "common/json_scan.h"
#include "common/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static cJSON *parse(const char *text)
{
        struct err e = {0};
        cJSON *v = NULL;

        if (json_parse(text, strlen(text), &v, &e))
                test_fail(__FILE__, __LINE__, "%s: %s", text, e.msg);
        return v;
}

static void check_bad(const char *text, size_t n, int line, int col)
{
        struct err e = {0};
        cJSON *v = NULL;
        int rc = json_parse(text, n, &v, &e);

        if (rc != -E_INVAL || v)
                test_fail(__FILE__, __LINE__, "%s was accepted", text);
        if (e.line != line || e.col != col)
                test_fail(__FILE__, __LINE__, "%s: %d:%d %s; expected %d:%d", text, e.line, e.col, e.msg,
                          line, col);
}

#define BAD(text, line, col) check_bad(text, sizeof(text) - 1, line, col)

TEST(json, refuses_bad_text_with_its_place)
{
        BAD("", 1, 1);
        BAD("  \n ", 2, 2);
        BAD("{", 1, 2);
        BAD("{\"a\":1,}", 1, 8);
        BAD("[1,]", 1, 4);
        BAD("[1 2]", 1, 4);
        BAD("{\"a\" 1}", 1, 6);
        BAD("{a:1}", 1, 2);
        BAD("[1}", 1, 3);
        BAD("1 2", 1, 3);
        BAD("nul", 1, 1);
        BAD("'a'", 1, 1);
        BAD("\"abc", 1, 1);
        BAD("\"a\nb\"", 1, 3);
        BAD("\"\\x\"", 1, 2);
        BAD("\"\\", 1, 1);
        BAD("\"\\u00", 1, 2);
        BAD("\"\\u00g0\"", 1, 2);
        BAD("[1,\n  \"\\u0000\"]", 2, 4);
        BAD("\"a\0b\"", 1, 3);
        BAD("\"\\ud800\"", 1, 2);
        BAD("\"\\udc00\\ud800\"", 1, 2);
        BAD("\"\\ud800\\u0041\"", 1, 2);
        BAD("// c\n1", 1, 1);
        BAD("\xef\xbb\xbf{}", 1, 1);
        BAD("[\"\xc3\xa9\", \"\xff\"]", 1, 8);
        BAD("[\"\xc3\xa9\", x]", 1, 7);
        BAD("1\0", 1, 2);
}

TEST(json, refuses_bad_numbers)
{
        BAD("01", 1, 1);
        BAD("-", 1, 1);
        BAD("+1", 1, 1);
        BAD(".5", 1, 1);
        BAD("1.", 1, 1);
        BAD("1e", 1, 1);
        BAD("1e+", 1, 1);
        BAD("[1e999]", 1, 2);
        BAD("-1e999", 1, 1);
        BAD("0x10", 1, 2);
        BAD("NaN", 1, 1);
        BAD("1234567890123456789012345678901234567890123456789012345678901234", 1, 1);
}

TEST(json, refuses_keys_that_repeat)
{
        BAD("{\"a\":1,\"b\":{\"a\":2},\n \"\\u0061\":3}", 2, 2);
        BAD("[{\"k\":1},{\"x\":{\"k\":1,\"k\":2}}]", 1, 22);
        cJSON_Delete(parse("[{\"a\":1},{\"a\":1,\"A\":2}]"));
}

TEST(json, depth_is_bounded)
{
        char text[4096];
        cJSON *v;

        memset(text, '[', 64);
        memset(text + 64, ']', 64);
        CHECK_INT(json_parse(text, 128, &v, NULL), 0);
        cJSON_Delete(v);
        memset(text, '[', 65);
        memset(text + 65, ']', 65);
        check_bad(text, 130, 1, 65);
        memset(text, '[', sizeof text);
        check_bad(text, sizeof text, 1, 65);
}

TEST(json, large_objects_take_linear_time)
{
        struct buf b;
        cJSON *v;
        struct err e;
        clock_t start;

        buf_init(&b, 0);
        CHECK_INT(buf_putc(&b, '{'), 0);
        for (int i = 0; i < 200000; i++)
                CHECK_INT(buf_printf(&b, "%s\"key-%d\":%d", i ? "," : "", i, i), 0);
        CHECK_INT(buf_puts(&b, ",\"key-7\":0}"), 0);
        start = clock();
        CHECK_INT(json_parse((char *)b.data, b.len, &v, &e), -E_INVAL);
        CHECK(strstr(e.msg, "key-7"));
        /* Pairwise comparison would take minutes. */
        CHECK(clock() - start < 20 * CLOCKS_PER_SEC);
        buf_fini(&b);
}

static void check_round(const char *text, const char *want)
{
        cJSON *v = parse(text);
        char *s = json_text(v);

        CHECK_STR(s, want);
        mem_free(s);
        cJSON_Delete(v);
}

TEST(json, prints_what_was_read)
{
        check_round("9007199254740991", "9007199254740991");
        check_round("-9007199254740992", "-9007199254740992");
        check_round("9007199254740990", "9007199254740990");
        check_round("1000000000000000", "1000000000000000");
        check_round("1e15", "1000000000000000");
        check_round("-0", "0");
        check_round("0.1", "0.1");
        check_round("0.30000000000000004", "0.30000000000000004");
        check_round("1e300", "1e+300");
        check_round(" { \"a\" : [ 1 , true, false, null, \"x\" ] , \"b\":{} } ",
                    "{\"a\":[1,true,false,null,\"x\"],\"b\":{}}");
        check_round("\"\\u00e9\\ud83d\\ude00\\n\\u001f\\/\\\"\"",
                    "\"\xc3\xa9\xf0\x9f\x98\x80\\n\\u001f/\\\"\"");
        check_round("{\"\":{\"\":[]}}", "{\"\":{\"\":[]}}");
}

TEST(json, writes_valid_text_whatever_it_gets)
{
        struct buf b;
        cJSON *v = cJSON_CreateNumber(1e308 * 10);
        char *s = json_text(v);

        CHECK_STR(s, "null");
        mem_free(s);
        cJSON_Delete(v);
        buf_init(&b, 0);
        CHECK_INT(json_append_str(&b, "a\xff\0\x7f\xe2\x82", 6), 0);
        CHECK_INT(buf_putc(&b, 0), 0);
        CHECK_STR((char *)b.data, "\"a\xef\xbf\xbd\\u0000\x7f\xef\xbf\xbd\xef\xbf\xbd\"");
        buf_fini(&b);
        buf_init(&b, 4);
        CHECK_INT(json_append_str(&b, "abc", 3), -E_TOOBIG);
        CHECK_INT(b.len, 0);
        buf_fini(&b);
}

/* Against the plain definition, with each byte at each place of a word and after it. */
TEST(json, plain_bytes_are_told_from_others_wherever_they_stand)
{
        char text[40];

        for (size_t n = 0; n < 36; n++) {
                for (size_t at = 0; at < n; at++) {
                        for (int c = 0; c < 256; c++) {
                                bool plain = c >= 0x20 && c < 0x80 && c != '"' && c != '\\';

                                memset(text, "a\x7f #!"[n % 5], sizeof text);
                                text[at] = (char)c;
                                CHECK_INT(json_plain_len(text, n), plain ? n : at);
                        }
                }
        }
}

TEST(json, unescapes_in_place_and_keeps_long_texts)
{
        struct buf b;
        cJSON *v;
        char *big = mem_alloc(100001), *text;

        for (size_t i = 0; i < 100000; i++)
                big[i] = i % 997 ? (char)('a' + i % 26) : "\n\"\\\t"[i % 4];
        big[100000] = '\0';
        buf_init(&b, 0);
        CHECK_INT(json_append_str(&b, big, 100000), 0);
        v = parse((text = mem_strndup((char *)b.data, b.len)));
        CHECK_STR(v->valuestring, big);
        CHECK_INT(json_unescape((char *)b.data + 1, b.len - 2, (char *)b.data + 1), 100000);
        CHECK(memcmp(b.data + 1, big, 100000) == 0);
        cJSON_Delete(v);
        mem_free(text);
        mem_free(big);
        buf_fini(&b);
}

TEST(json, typed_members)
{
        cJSON *o =
                parse("{\"s\":\"x\",\"n\":5,\"f\":1.5,\"b\":true,\"z\":null,\"o\":{},\"a\":[],\"big\":1e17}");
        const char *s = "keep";
        const cJSON *c = NULL;
        int64_t n = 9;
        bool b = false;
        struct err e;

        CHECK_INT(json_str(o, "s", &s, &e), 0);
        CHECK_STR(s, "x");
        CHECK_INT(json_str_opt(o, "z", &s, &e), 0);
        CHECK_INT(json_str_opt(o, "none", &s, &e), 0);
        CHECK_STR(s, "x");
        CHECK_INT(json_str(o, "n", &s, &e), -E_INVAL);
        CHECK_STR(e.msg, "n: expected a string, got a number");
        CHECK_INT(json_str(o, "none", &s, &e), -E_INVAL);
        CHECK_STR(e.msg, "none: is missing");
        CHECK_INT(json_str(o, "z", &s, &e), -E_INVAL);
        CHECK_INT(json_i64(o, "n", 0, 5, &n, &e), 0);
        CHECK_INT(n, 5);
        CHECK_INT(json_i64(o, "n", 0, 4, &n, &e), -E_INVAL);
        CHECK_INT(json_i64(o, "f", 0, 4, &n, &e), -E_INVAL);
        CHECK_INT(json_i64(o, "big", 0, INT64_MAX, &n, &e), -E_INVAL);
        CHECK_INT(json_i64(o, "s", 0, 4, &n, &e), -E_INVAL);
        CHECK_INT(json_i64_opt(o, "none", 0, 4, &n, &e), 0);
        CHECK_INT(n, 5);
        CHECK_INT(json_bool_opt(o, "b", &b, &e), 0);
        CHECK(b);
        CHECK_INT(json_bool_opt(o, "n", &b, &e), -E_INVAL);
        CHECK_INT(json_obj_opt(o, "o", &c, &e), 0);
        CHECK(cJSON_IsObject(c));
        CHECK_INT(json_obj_opt(o, "a", &c, &e), -E_INVAL);
        CHECK_INT(json_arr_opt(o, "a", &c, &e), 0);
        CHECK_INT(json_arr_opt(o, "o", &c, &e), -E_INVAL);
        CHECK_INT(json_str(NULL, "k", &s, &e), -E_INVAL);
        cJSON_Delete(o);
}

TEST(json, unknown_keys_name_the_nearest)
{
        static const char *const keys[] = {"timeout", "argv", NULL};
        cJSON *o = parse("{\"argv\":1,\"timout\":2}");
        struct err e;

        CHECK_INT(json_only(o, keys, &e), -E_INVAL);
        CHECK_STR(e.msg, "unknown key \"timout\"; did you mean \"timeout\"?");
        cJSON_Delete(o);
        o = parse("{\"argv\":1}");
        CHECK_INT(json_only(o, keys, &e), 0);
        cJSON_Delete(o);
}

static void check_schema(const char *schema, const char *value, const char *want)
{
        cJSON *s = parse(schema), *v = parse(value);
        struct err e = {0};
        int rc = json_check(s, v, &e);

        if (want) {
                CHECK_INT(rc, -E_INVAL);
                CHECK_STR(e.msg, want);
        } else if (rc) {
                test_fail(__FILE__, __LINE__, "%s: %s", value, e.msg);
        }
        cJSON_Delete(s);
        cJSON_Delete(v);
}

TEST(json, schema)
{
        static const char exec[] =
                "{\"type\":\"object\",\"required\":[\"argv\"],\"additionalProperties\":false,\"properties\":{"
                "\"argv\":{\"type\":\"array\",\"minItems\":1,\"maxItems\":3,\"items\":{\"type\":\"string\","
                "\"maxLength\":4}},"
                "\"n\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":10},"
                "\"mode\":{\"enum\":[\"fast\",\"slow\"]},\"env\":{\"type\":\"object\","
                "\"additionalProperties\":{\"type\":[\"string\",\"null\"]}},"
                "\"v\":{\"const\":1},\"any\":{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"array\",\"items\":"
                "{\"type\":\"string\"}}]}}}";

        check_schema(exec,
                     "{\"argv\":[\"a\"],\"n\":3,\"mode\":\"fast\",\"env\":{\"A\":\"b\",\"C\":null},\"v\":1,"
                     "\"any\":[\"x\"]}",
                     NULL);
        check_schema(exec, "{\"argv\":[\"a\",5]}", "argv[1]: expected a string, got a number");
        check_schema(exec, "{\"argv\":[]}", "argv: a length of 0 is too small; at least 1");
        check_schema(exec, "{\"argv\":[\"abcde\"]}", "argv[0]: a length of 5 is too large; at most 4");
        check_schema(exec, "{\"argv\":[\"\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\"]}", NULL);
        check_schema(exec, "{\"n\":1}", "the key \"argv\" is missing");
        check_schema(exec, "{\"argv\":[\"a\"],\"n\":1.5}", "n: expected a whole number, got a number");
        check_schema(exec, "{\"argv\":[\"a\"],\"n\":11}", "n: 11 is too large; at most 10");
        check_schema(exec, "{\"argv\":[\"a\"],\"mode\":\"mid\"}", "mode: \"mid\" is not one of: fast, slow");
        check_schema(exec, "{\"argv\":[\"a\"],\"env\":{\"A\":1}}",
                     "env.A: expected a string or null, got a number");
        check_schema(exec, "{\"argv\":[\"a\"],\"mod\":\"fast\"}",
                     "unknown key \"mod\"; did you mean \"mode\"?");
        check_schema(exec, "{\"argv\":[\"a\"],\"v\":2}", "v: is not the one allowed value");
        check_schema(exec, "{\"argv\":[\"a\"],\"any\":5}",
                     "fits none of the 2 allowed forms; for the first: any: expected a string, got a number");
        check_schema(exec, "[]", "expected an object, got a list");
        check_schema("true", "5", NULL);
        check_schema("{\"type\":\"strnig\"}", "5", "the schema itself is wrong: unknown \"type\"");
}

static int parse_print_check(void *arg)
{
        static const char text[] = "{\"a\":[1,2,{\"b\":\"c\"}],\"d\":null,\"e\":1,\"f\":2,\"g\":3,\"h\":4,"
                                   "\"i\":5,\"j\":6,\"k\":7}";
        cJSON *v = NULL;
        struct buf b;
        int rc = json_parse(text, sizeof text - 1, &v, NULL);

        (void)arg;
        buf_init(&b, 0);
        if (!rc)
                rc = json_append(&b, v);
        if (!rc && (b.len != sizeof text - 1 || memcmp(b.data, text, b.len) != 0))
                rc = -E_INTERNAL;
        buf_fini(&b);
        cJSON_Delete(v);
        return rc;
}

TEST(json, survives_no_memory)
{
        test_each_alloc_fails(parse_print_check, NULL);
}
