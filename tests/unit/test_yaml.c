#include "tests/lib/test.h"

#include "common/buf.h"
#include "common/err.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/yaml.h"

#include <stdio.h>

static struct doc *parse(const char *text)
{
        struct err e = {0};
        struct doc *d = NULL;

        if (doc_parse(text, strlen(text), &d, &e))
                test_fail(__FILE__, __LINE__, "%s: %s", text, e.msg);
        return d;
}

static void check_json(const char *text, const char *want)
{
        struct doc *d = parse(text);
        cJSON *v = NULL;
        char *s;

        CHECK_INT(doc_to_json(d, &v), 0);
        s = json_text(v);
        CHECK_STR(s, want);
        mem_free(s);
        cJSON_Delete(v);
        doc_free(d);
}

static void check_bad(const char *text, size_t n, int line, int col, const char *part)
{
        struct err e = {0};
        struct doc *d = NULL;

        if (doc_parse(text, n, &d, &e) != -E_INVAL || d)
                test_fail(__FILE__, __LINE__, "%s was accepted", text);
        if (e.line != line || e.col != col || !strstr(e.msg, part))
                test_fail(__FILE__, __LINE__, "%s: %d:%d \"%s\"; expected %d:%d \"%s\"", text, e.line, e.col,
                          e.msg, line, col, part);
}

#define BAD(text, line, col, part) check_bad(text, sizeof(text) - 1, line, col, part)

TEST(yaml, core_schema_types)
{
        check_json("[~, null, '', true, False, yes, no, on, off, 12, -3, 0x1F, 0o17, 017, 1.5, .5, 1e3, '5', "
                   "1_000, 12:30]",
                   "[null,null,\"\",true,false,\"yes\",\"no\",\"on\",\"off\",12,-3,31,15,17,1.5,0.5,1000,"
                   "\"5\",\"1_000\",\"12:30\"]");
        check_json("a:\nb: !!str 5\nc: ! 5\nd: |\n  x\n  y\n1: one\ntrue: two\n",
                   "{\"a\":null,\"b\":\"5\",\"c\":\"5\",\"d\":\"x\\ny\\n\",\"1\":\"one\",\"true\":\"two\"}");
        check_json("- 1.2.3\n- v1\n- 1e\n- +\n- '-'\n- ..\n", "[\"1.2.3\",\"v1\",\"1e\",\"+\",\"-\",\"..\"]");
        check_json("", "null");
        check_json("# only a comment\n", "null");
        check_json("%YAML 1.1\n---\na: 1\n...\n", "{\"a\":1}");
}

TEST(yaml, json_text_is_the_same_model)
{
        check_json(" \n{\"a\": [1, true, null, \"\\u00e9\\n\"], \"b\": {\"c\": -1.5e3}}",
                   "{\"a\":[1,true,null,\"\xc3\xa9\\n\"],\"b\":{\"c\":-1500}}");
        BAD("{\"a\": 1,\n \"a\": 2}", 2, 2, "stands twice");
        BAD("{\"a\": 1,\n  b: 2}", 2, 3, "double quotes");
        BAD("{\"a\": 1} x", 1, 10, "unexpected text");
}

TEST(yaml, knows_positions)
{
        struct doc *d = parse("name: x\nsteps:\n  - id: a\n    run: \xc3\xa9\xc3\xa9\n"), *s, *m;

        CHECK(d->kind == DOC_MAP && d->count == 2 && d->line == 1 && d->col == 1);
        s = doc_get(d, "steps");
        CHECK(s->kind == DOC_LIST && s->key_line == 2 && s->key_col == 1 && s->line == 3 && s->col == 3);
        m = doc_get(s->child, "run");
        CHECK(m->line == 4 && m->col == 10 && m->key_col == 5);
        CHECK_STR(m->text, "\xc3\xa9\xc3\xa9");
        CHECK(doc_get(d, "none") == NULL && doc_get(s, "none") == NULL);
        doc_free(d);
        d = parse("{\"\xc3\xa9\": 1,\n  \"k\": [\n \"v\"]}");
        m = doc_get(d, "k");
        CHECK(m->key_line == 2 && m->key_col == 3 && m->line == 2 && m->col == 8);
        CHECK(m->child->line == 3 && m->child->col == 2);
        doc_free(d);
}

TEST(yaml, number_text_is_kept)
{
        struct doc *d = parse("v: 1.10\nbig: 12345678901234567890\n");

        CHECK_STR(doc_get(d, "v")->text, "1.10");
        CHECK_STR(doc_get(d, "big")->text, "12345678901234567890");
        CHECK_INT(doc_get(d, "v")->kind, DOC_NUMBER);
        doc_free(d);
}

TEST(yaml, refuses_with_place)
{
        BAD("a: 1\nb: 2\na: 3\n", 3, 1, "stands twice");
        BAD("a: 1\n---\nb: 2\n", 2, 1, "second document");
        BAD("a: [1, 2\n", 2, 1, "not valid YAML");
        BAD("a: b: c\n", 1, 5, "not valid YAML");
        BAD("a: \"x\\0y\"\n", 1, 4, "NUL");
        BAD("a: \xff\n", 1, 4, "UTF-8");
        BAD("a: !custom x\n", 1, 4, "not supported");
        BAD("a: !!int x\n", 1, 4, "tagged as a number");
        BAD("a: !!map [x]\n", 1, 4, "tagged as a map");
        BAD("? [a]\n: b\n", 1, 3, "a key must be text");
        BAD("a: *x\n", 1, 4, "no anchor &x");
        BAD("a: &x\n  b: *x\n", 2, 6, "contain itself");
        BAD("a: .inf\n", 1, 4, "no finite number");
        BAD("a: 1e999\n", 1, 4, "no finite number");
        BAD("%YAML 3.0\n---\na\n", 1, 1, "not valid YAML");
        BAD("a: b\n\tc: d\n", 2, 1, "not valid YAML");
        BAD("a: \x01\n", 1, 1, "not valid YAML");
}

TEST(yaml, many_keys)
{
        struct buf b;
        struct doc *d;
        struct err e;

        buf_init(&b, 0);
        for (int i = 0; i < 50000; i++)
                CHECK_INT(buf_printf(&b, "k%d: %d\n", i, i), 0);
        CHECK_INT(doc_parse((char *)b.data, b.len, &d, &e), 0);
        CHECK_INT(d->count, 50000);
        doc_free(d);
        CHECK_INT(buf_puts(&b, "k5: x\n"), 0);
        CHECK_INT(doc_parse((char *)b.data, b.len, &d, &e), -E_INVAL);
        CHECK_INT(e.line, 50001);
        buf_fini(&b);
}

TEST(yaml, aliases)
{
        check_json("a: &x {n: 1}\nb: *x\nc: [*x, *x]\n",
                   "{\"a\":{\"n\":1},\"b\":{\"n\":1},\"c\":[{\"n\":1},{\"n\":1}]}");
        check_json("a: &k key\n*k : 1\n", "{\"a\":\"key\",\"key\":1}");
}

/* "A billion laughs": nine levels of ten. */
TEST(yaml, alias_bombs_are_refused)
{
        struct err e;
        struct buf b;
        struct doc *d;

        buf_init(&b, 0);
        CHECK_INT(buf_puts(&b, "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n"), 0);
        for (int i = 1; i < 9; i++)
                CHECK_INT(buf_printf(
                                  &b,
                                  "a%d: &a%d [*a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d]\n",
                                  i, i, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1),
                          0);
        CHECK_INT(doc_parse((char *)b.data, b.len, &d, &e), -E_INVAL);
        CHECK(strstr(e.msg, "too large"));
        buf_reset(&b);
        /* Few nodes, much text. */
        CHECK_INT(buf_puts(&b, "a: &a \""), 0);
        for (int i = 0; i < 100000; i++)
                CHECK_INT(buf_puts(&b, "0123456789"), 0);
        CHECK_INT(buf_puts(&b, "\"\nb: [*a"), 0);
        for (int i = 0; i < 1000; i++)
                CHECK_INT(buf_puts(&b, ", *a"), 0);
        CHECK_INT(buf_puts(&b, "]\n"), 0);
        CHECK_INT(doc_parse((char *)b.data, b.len, &d, &e), -E_INVAL);
        CHECK(strstr(e.msg, "too large"));
        buf_fini(&b);
}

TEST(yaml, depth_is_bounded)
{
        char text[4000];

        memset(text, '[', sizeof text);
        check_bad(text, sizeof text, 1, 65, "too deeply");
        memset(text, '{', sizeof text);
        text[0] = '-';
        text[1] = ' ';
        check_bad(text, sizeof text, 1, 4, "a key must be text");
        for (size_t i = 0; i + 1 < sizeof text; i += 2)
                memcpy(text + i, "- ", 2);
        check_bad(text, sizeof text, 1, 129, "too deeply");
}

static int parse_both(void *arg)
{
        static const char yaml[] = "a: &x [1, b, {c: d}]\ne: *x\nf: \"q\"\n";
        static const char json[] = "{\"a\":[1,\"b\",{\"c\":\"d\"}],\"e\":null,\"f\":true}";
        struct doc *d = NULL;
        cJSON *v = NULL;
        int rc = doc_parse(yaml, sizeof yaml - 1, &d, NULL);

        (void)arg;
        if (!rc)
                rc = doc_to_json(d, &v);
        doc_free(d);
        cJSON_Delete(v);
        d = NULL;
        if (!rc)
                rc = doc_parse(json, sizeof json - 1, &d, NULL);
        doc_free(d);
        return rc;
}

TEST(yaml, survives_no_memory)
{
        test_each_alloc_fails(parse_both, NULL);
}
