#include "common/err.h"
#include "common/json.h"
#include "common/mem.h"
#include "hub/model/expr.h"
#include "tests/lib/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const char world_json[] = "{\"inputs\":{\"version\":\"1.2\",\"n\":3,\"on\":true,\"off\":false,"
                                 "\"nothing\":null,\"empty\":\"\",\"Mixed\":\"x\","
                                 "\"list\":[1,\"two\",true,null],\"o\":{\"a\":1,\"b\":{\"c\":\"deep\"}},"
                                 "\"trap\":\"${{ inputs.version }}\",\"json\":\"{\\\"k\\\":[1,2]}\"},"
                                 "\"steps\":{\"build\":{\"outputs\":{\"exit_code\":0,\"stdout\":\"ok\\n\"},"
                                 "\"result\":\"success\"},\"1\":{\"outputs\":{\"x\":\"one\"}},"
                                 "\"a.b\":{\"outputs\":{\"x\":\"dotted\"}}},"
                                 "\"fruits\":[{\"name\":\"apple\",\"n\":1,\"tags\":[\"red\",\"green\"]},{"
                                 "\"name\":\"orange\",\"n\":2,\"tags\":[\"orange\"]},{\"n\":3}],"
                                 "\"veg\":{\"scallions\":{\"colors\":[\"green\"],\"edible\":true},\"beets\":{"
                                 "\"colors\":[\"purple\",\"red\"],\"edible\":true},"
                                 "\"artichokes\":{\"colors\":[\"green\",\"purple\"],\"edible\":false}}}";

struct world {
        cJSON *all, *texts;
        struct expr_env env;
};

static const cJSON *lookup(void *ctx, const char *name)
{
        const struct world *w = ctx;

        return cJSON_GetObjectItemCaseSensitive(w->all, name);
}

static void world_init(struct world *w)
{
        struct err e;

        *w = (struct world){.env = {.lookup = lookup, .ctx = w, .success = true}};
        CHECK_INT(json_parse(world_json, strlen(world_json), &w->all, &e), 0);
}

static char *text_of(const cJSON *v)
{
        char *s = cJSON_IsNumber(v) && isnan(v->valuedouble)                         ? mem_strdup("NaN")
                  : cJSON_IsNumber(v) && isinf(v->valuedouble) && v->valuedouble > 0 ? mem_strdup("Infinity")
                                                                                     : json_text(v);

        CHECK(s != NULL);
        return s;
}

/* expression -> its value as compact JSON */
static const struct {
        const char *src, *want;
} table[] = {
        /* literals */
        {"null", "null"},
        {"true", "true"},
        {"false", "false"},
        {"711", "711"},
        {"-9.2", "-9.2"},
        {"+4", "4"},
        {".5", "0.5"},
        {"0xff", "255"},
        {"0xFF", "255"},
        {"0o17", "15"},
        {"-2.99e-2", "-0.0299"},
        {"1E3", "1000"},
        {"Infinity", "Infinity"},
        {"NaN", "NaN"},
        {"'Mona the Octocat'", "\"Mona the Octocat\""},
        {"'It''s open source!'", "\"It's open source!\""},
        {"''", "\"\""},
        {"''''", "\"'\""},
        {"'}}'", "\"}}\""},
        {"'${{ inputs.version }}'", "\"${{ inputs.version }}\""},
        {"  1  ", "1"},
        /* operators and precedence */
        {"1 == 1", "true"},
        {"1 != 1", "false"},
        {"1 < 2", "true"},
        {"2 <= 2", "true"},
        {"3 > 4", "false"},
        {"4 >= 4", "true"},
        {"!true", "false"},
        {"!!1", "true"},
        {"!''", "true"},
        {"!'0'", "false"},
        {"true || false && false", "true"},
        {"(true || false) && false", "false"},
        {"1 < 2 == true", "true"},
        {"!true == false", "true"},
        {"1 == 1 && 2 == 2 || false", "true"},
        {"false == 0 == 1", "true"},
        /* && and || give a value, not a boolean */
        {"'a' && 'b'", "\"b\""},
        {"'' && 'b'", "\"\""},
        {"'' || 'b'", "\"b\""},
        {"null || 0 || '' || 'last'", "\"last\""},
        {"null || 0", "0"},
        {"inputs.on && 'yes' || 'no'", "\"yes\""},
        {"inputs.off && 'yes' || 'no'", "\"no\""},
        /* loose equality */
        {"null == 0", "true"},
        {"null == ''", "true"},
        {"null == false", "true"},
        {"null == null", "true"},
        {"true == 1", "true"},
        {"true == '1'", "true"},
        {"true == 'true'", "false"},
        {"false == ''", "true"},
        {"1 == '1'", "true"},
        {"1 == ' 1 '", "true"},
        {"'0x1F' == 31", "true"},
        {"'0X1f' == 31", "false"},
        {"'0o17' == 15", "true"},
        {"'1e2' == 100", "true"},
        {"'' == 0", "true"},
        {"'abc' == 0", "false"},
        {"'abc' != 0", "true"},
        {"'ABC' == 'abc'", "true"},
        {"'ABC' != 'abc'", "false"},
        {"'abc' < 'ABD'", "true"},
        {"'a' < 'b'", "true"},
        {"'ab' > 'a'", "true"},
        {"'10' < '9'", "true"},
        {"'10' < 9", "false"},
        {"true > false", "true"},
        {"null >= null", "true"},
        {"null <= false", "true"},
        {"NaN == NaN", "false"},
        {"NaN != NaN", "true"},
        {"NaN < 1", "false"},
        {"NaN >= NaN", "false"},
        {"'abc' < 1", "false"},
        {"'abc' >= 1", "false"},
        {"'Infinity' == Infinity", "true"},
        {"'-Infinity' < 0", "true"},
        {"0 == -0", "true"},
        {"inputs.o == inputs.o", "true"},
        {"inputs.list == inputs.list", "true"},
        {"fromJSON('[]') == fromJSON('[]')", "false"},
        {"inputs.o == inputs.list", "false"},
        {"inputs.o == 'Object'", "false"},
        {"inputs.o == null", "false"},
        {"inputs.o != null", "true"},
        {"inputs.list > 0", "false"},
        {"inputs.list >= inputs.list", "true"},
        {"fruits.* == fruits.*", "false"},
        /* property access */
        {"inputs.version", "\"1.2\""},
        {"INPUTS.VERSION", "\"1.2\""},
        {"inputs['version']", "\"1.2\""},
        {"inputs['Version']", "\"1.2\""},
        {"inputs.mixed", "\"x\""},
        {"inputs.o.b.c", "\"deep\""},
        {"inputs['o'].b['c']", "\"deep\""},
        {"inputs[format('ver{0}', 'sion')]", "\"1.2\""},
        {"inputs.missing", "null"},
        {"inputs.missing.more.and['more']", "null"},
        {"inputs.version.x", "null"},
        {"inputs.list[0]", "1"},
        {"inputs.list[1]", "\"two\""},
        {"inputs.list['1']", "\"two\""},
        {"inputs.list[1.9]", "\"two\""},
        {"inputs.list[-1]", "null"},
        {"inputs.list[99]", "null"},
        {"inputs.list['']", "null"},
        {"inputs.list['x']", "null"},
        {"inputs.list.x", "null"},
        {"steps.1.outputs.x", "\"one\""},
        {"steps['1'].outputs.x", "\"one\""},
        {"steps[1].outputs.x", "\"one\""},
        {"steps['a.b'].outputs.x", "\"dotted\""},
        {"steps.build.outputs.exit_code == 0 && inputs.version != 'dev'", "true"},
        {"(inputs.o).b.c", "\"deep\""},
        {"fromJSON(inputs.json).k[1]", "2"},
        /* object filters */
        {"fruits.*.name", "[\"apple\",\"orange\"]"},
        {"fruits[*].n", "[1,2,3]"},
        {"fruits.*.tags", "[[\"red\",\"green\"],[\"orange\"]]"},
        {"fruits.*.tags.*", "[\"red\",\"green\",\"orange\"]"},
        {"fruits.*.tags[0]", "[\"red\",\"orange\"]"},
        {"veg.*.colors", "[[\"green\"],[\"purple\",\"red\"],[\"green\",\"purple\"]]"},
        {"veg.*.edible", "[true,true,false]"},
        {"inputs.version.*", "[]"},
        {"inputs.nothing.*.x", "[]"},
        {"inputs.o.*", "[1,{\"c\":\"deep\"}]"},
        {"(fruits.*.name)[0]", "[]"}, /* an access after a filter means each item */
        /* functions */
        {"contains('Hello world', 'llo')", "true"},
        {"contains('Hello world', 'LLO')", "true"},
        {"contains('Hello', '')", "true"},
        {"contains('', 'x')", "false"},
        {"contains(123, 2)", "true"},
        {"contains(inputs.list, 'TWO')", "true"},
        {"contains(inputs.list, 'tw')", "false"},
        {"contains(inputs.list, '1')", "true"},
        {"contains(inputs.list, null)", "true"},
        {"contains(fromJSON('[\"push\", \"pull_request\"]'), 'push')", "true"},
        {"contains(fruits.*.name, 'apple')", "true"},
        {"contains(fruits.*.name, 'pear')", "false"},
        {"contains(inputs.o, 'a')", "false"},
        {"startsWith('Hello world', 'he')", "true"},
        {"startsWith('Hello', 'Hello world')", "false"},
        {"startsWith(1234, 12)", "true"},
        {"startsWith('x', '')", "true"},
        {"startsWith(inputs.o, '')", "false"},
        {"endsWith('Hello world', 'LD')", "true"},
        {"endsWith('ld', 'world')", "false"},
        {"format('Hello {0} {1} {2}', 'Mona', 'the', 'Octocat')", "\"Hello Mona the Octocat\""},
        {"format('{{Hello {0} {1} {2}!}}', 'Mona', 'the', 'Octocat')", "\"{Hello Mona the Octocat!}\""},
        {"format('{0}{0}', 'a')", "\"aa\""},
        {"format('{{0}}', 'a')", "\"{0}\""},
        {"format('{{{0}}}', 'a')", "\"{a}\""},
        {"format('{0}', '{1}', 'x')", "\"{1}\""}, /* arguments are not looked at again */
        {"format('{0} {1} {2}', null, true, 1.5)", "\" true 1.5\""},
        {"format(1)", "\"1\""},
        {"FORMAT('{0}', 'x')", "\"x\""},
        {"join(inputs.list, '-')", "\"1-two-true-\""},
        {"join(inputs.list)", "\"1,two,true,\""},
        {"join(fruits.*.name, ', ')", "\"apple, orange\""},
        {"join('x', ',')", "\"x\""},
        {"join(fromJSON('[]'))", "\"\""},
        {"toJSON(1)", "\"1\""},
        {"toJSON('a\"b')", "\"\\\"a\\\\\\\"b\\\"\""},
        {"toJSON(null)", "\"null\""},
        {"toJSON(fromJSON('[]'))", "\"[]\""},
        {"toJSON(fromJSON('{}'))", "\"{}\""},
        {"toJSON(fromJSON('{\"a\":[1,2]}'))", "\"{\\n  \\\"a\\\": [\\n    1,\\n    2\\n  ]\\n}\""},
        {"toJSON(fruits.*.name)", "\"[\\n  \\\"apple\\\",\\n  \\\"orange\\\"\\n]\""},
        {"toJSON(0.1)", "\"0.1\""},
        {"toJSON(NaN)", "\"null\""},
        {"fromJSON('{\"a\": [1, true, null, \"x\"]}')", "{\"a\":[1,true,null,\"x\"]}"},
        {"fromJSON('true')", "true"},
        {"fromJSON(toJSON(inputs.o)).b.c", "\"deep\""},
        {"success()", "true"},
        {"failure()", "false"},
        {"cancelled()", "false"},
        {"always()", "true"},
        {"Success() && !FAILURE()", "true"},
        /* numbers as text */
        {"format('{0}', 1000000)", "\"1000000\""},
        {"format('{0}', 9007199254740991)", "\"9007199254740991\""},
        {"format('{0}', 1e21)", "\"1E+21\""},
        {"format('{0}', 0.0000001)", "\"1E-07\""},
        {"format('{0}', 0.1)", "\"0.1\""},
        {"format('{0}', -0)", "\"0\""},
        {"format('{0} {1}', NaN, -1)", "\"NaN -1\""},
        {"format('{0}', Infinity)", "\"Infinity\""},
        /* what comes out of a value is never an expression */
        {"inputs.trap", "\"${{ inputs.version }}\""},
        {"format('{0}', inputs.trap)", "\"${{ inputs.version }}\""},
};

TEST(expr, table)
{
        struct world w;

        world_init(&w);
        for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
                struct expr *x = NULL;
                cJSON *v = NULL;
                struct err e = {0};
                char *got;

                if (expr_compile(table[i].src, strlen(table[i].src), &x, &e) || expr_eval(x, &w.env, &v, &e))
                        test_fail(__FILE__, __LINE__, "%s: %s", table[i].src, e.msg);
                got = text_of(v);
                if (strcmp(got, table[i].want) != 0)
                        test_fail(__FILE__, __LINE__, "%s is %s, expected %s", table[i].src, got,
                                  table[i].want);
                mem_free(got);
                cJSON_Delete(v);
                expr_free(x);
        }
        cJSON_Delete(w.all);
}

/* Refused when compiled: source, column, and part of the message. */
static const struct {
        const char *src;
        int col;
        const char *says;
} mistakes[] = {
        {"", 1, "empty"},
        {"   ", 4, "empty"},
        {"1 +", 3, "arithmetic"},
        {"1 + 2", 3, "arithmetic"},
        {"a * b", 3, "arithmetic"},
        {"\"x\"", 1, "single quotes"},
        {"a = b", 3, "\"==\""},
        {"a & b", 3, "\"&&\""},
        {"a | b", 3, "\"||\""},
        {"a == ", 6, "missing"},
        {"(a", 3, "\")\""},
        {"a)", 2, "expected an operator"},
        {"a b", 3, "expected an operator"},
        {"a.", 3, "property"},
        {"a[", 3, "missing"},
        {"a[1", 4, "\"]\""},
        {"'abc", 1, "closing quote"},
        {"nope()", 1, "unknown function"},
        {"contain('a','b')", 1, "\"contains\""},
        {"contains('a')", 1, "takes 2 arguments, got 1"},
        {"success(1)", 1, "takes 0 arguments, got 1"},
        {"join()", 1, "takes 1 to 2"},
        {"format()", 1, "at least 1"},
        {"contains('a' 'b')", 14, "\",\""},
        {"contains(,)", 10, "expected a value"},
        {"1x", 1, "not a number"},
        {"1.2.3", 1, "not a number"},
        {"0x", 1, "not a number"},
        {"${{ a }}", 1, "inside an expression"},
        {"a ? b : c", 3, "? :"},
        {"a; b", 2, "\";\" means nothing"},
        {"a.'b'", 3, "property"},
        {"\xc3\xa9", 1, "0xc3"},
        {"*", 1, "arithmetic"},
        {"!", 2, "missing"},
        {"(", 2, "missing"},
};

TEST(expr, mistakes_have_a_column_and_a_reason)
{
        for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++) {
                struct expr *x = NULL;
                struct err e = {0};

                if (expr_compile(mistakes[i].src, strlen(mistakes[i].src), &x, &e) != -E_INVAL)
                        test_fail(__FILE__, __LINE__, "\"%s\" was not refused", mistakes[i].src);
                if (e.line != 1 || e.col != mistakes[i].col || !strstr(e.msg, mistakes[i].says))
                        test_fail(__FILE__, __LINE__, "\"%s\": %d:%d %s", mistakes[i].src, e.line, e.col,
                                  e.msg);
                CHECK(x == NULL);
        }
}

static int eval_text(const char *src, struct world *w, cJSON **out, struct err *e)
{
        struct expr *x = NULL;
        int rc = expr_compile(src, strlen(src), &x, e);

        if (!rc)
                rc = expr_eval(x, &w->env, out, e);
        expr_free(x);
        return rc;
}

TEST(expr, errors_while_evaluating)
{
        static const struct {
                const char *src, *says;
        } bad[] = {
                {"nowhere.x", "no \"nowhere\""},
                {"format('{0}')", "no argument"},
                {"format('{1}', 1)", "no argument"},
                {"format('{', 1)", "lone"},
                {"format('}', 1)", "lone"},
                {"format('{x}', 1)", "lone"},
                {"format('{0', 1)", "lone"},
                {"format('{99999999999999999999}', 1)", "lone"},
                {"format('{0}', inputs.o)", "toJSON"},
                {"join(fruits)", "toJSON"},
                {"fromJSON('')", "not JSON"},
                {"fromJSON('{')", "not JSON"},
                {"fromJSON(inputs.o)", "text form"},
        };
        struct world w;

        world_init(&w);
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
                struct err e = {0};
                cJSON *v = NULL;

                if (eval_text(bad[i].src, &w, &v, &e) != -E_INVAL || !strstr(e.msg, bad[i].says))
                        test_fail(__FILE__, __LINE__, "%s: %s", bad[i].src, e.msg);
                CHECK(v == NULL);
        }
        cJSON_Delete(w.all);
}

TEST(expr, if_implies_success)
{
        struct world w;
        struct expr *x;
        struct err e;
        cJSON *v;

        world_init(&w);
        CHECK_INT(expr_compile_if("${{ inputs.on }}", &x, &e), 0);
        CHECK(!expr_uses_status(x));
        CHECK_INT(expr_eval(x, &w.env, &v, &e), 0);
        CHECK(expr_truthy(v));
        cJSON_Delete(v);
        w.env.success = false;
        w.env.failure = true;
        CHECK_INT(expr_eval(x, &w.env, &v, &e), 0);
        CHECK(!expr_truthy(v));
        cJSON_Delete(v);
        expr_free(x);

        CHECK_INT(expr_compile_if("  failure() && inputs.on ", &x, &e), 0);
        CHECK(expr_uses_status(x));
        CHECK_INT(expr_eval(x, &w.env, &v, &e), 0);
        CHECK(expr_truthy(v));
        cJSON_Delete(v);
        expr_free(x);

        /* Even where it would not be reached. */
        CHECK_INT(expr_compile_if("inputs.off && always() || inputs.on", &x, &e), 0);
        CHECK(expr_uses_status(x));
        expr_free(x);
        CHECK_INT(expr_compile_if("${{ inputs.a }} && b", &x, &e), -E_INVAL);
        CHECK(strstr(e.msg, "one ${{ }}") != NULL);
        CHECK_INT(expr_compile_if("${{ a }} || ${{ b }}", &x, &e), -E_INVAL);
        CHECK_INT(expr_compile_if("", &x, &e), -E_INVAL);
        CHECK_INT(expr_compile_if("${{ a = 1 }}", &x, &e), -E_INVAL);
        CHECK_INT(e.col, 7);
        cJSON_Delete(w.all);
}

TEST(expr, truthiness)
{
        static const struct {
                const char *json;
                bool truthy;
        } t[] = {{"null", false},     {"false", false}, {"true", true},  {"0", false},
                 {"-0", false},       {"1", true},      {"\"\"", false}, {"\"0\"", true},
                 {"\"false\"", true}, {"[]", true},     {"{}", true},    {"0.5", true}};
        cJSON *nan_value = cJSON_CreateNumber(NAN);

        for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
                struct err e;
                cJSON *v;

                CHECK_INT(json_parse(t[i].json, strlen(t[i].json), &v, &e), 0);
                if (expr_truthy(v) != t[i].truthy)
                        test_fail(__FILE__, __LINE__, "%s", t[i].json);
                cJSON_Delete(v);
        }
        CHECK(!expr_truthy(nan_value));
        CHECK(!expr_truthy(NULL));
        cJSON_Delete(nan_value);
}

static int collect(void *ctx, const char *root, const char *second)
{
        char *all = ctx;

        strcat(all, root);
        strcat(all, ".");
        strcat(all, second ? second : "?");
        strcat(all, " ");
        return 0;
}

TEST(expr, references)
{
        static const struct {
                const char *src, *want;
        } t[] = {
                {"steps.build.outputs.x == inputs['version']", "steps.build inputs.version "},
                {"steps[inputs.which].outputs", "steps.? inputs.which "},
                {"toJSON(steps) || steps.*.outputs", "steps.? steps.? "},
                {"steps[1].outputs && STEPS.two", "steps.1 steps.two "},
                {"'steps.x' == 1", ""},
                {"(steps).x", "steps.x "},
                {"!matrix.os[each.item]", "matrix.os each.item "},
        };

        for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
                char got[256] = "";
                struct expr *x;
                struct err e;

                CHECK_INT(expr_compile(t[i].src, strlen(t[i].src), &x, &e), 0);
                CHECK_INT(expr_refs(x, collect, got), 0);
                CHECK_STR(got, t[i].want);
                expr_free(x);
        }
}

TEST(expr, limits)
{
        struct world w;
        struct err e = {0};
        struct expr *x = NULL;
        cJSON *v = NULL;
        char *src = malloc(EXPR_SOURCE_MAX + 2);
        size_t n = 0;

        CHECK(src != NULL);
        world_init(&w);
        memset(src, '1', EXPR_SOURCE_MAX + 1);
        CHECK_INT(expr_compile(src, EXPR_SOURCE_MAX + 1, &x, &e), -E_TOOBIG);
        CHECK_INT(expr_compile("a\0b", 3, &x, &e), -E_INVAL);

        memset(src, '(', EXPR_SOURCE_MAX);
        CHECK_INT(expr_compile(src, EXPR_SOURCE_MAX, &x, &e), -E_INVAL);
        CHECK(strstr(e.msg, "nested deeper") != NULL);
        memset(src, '!', EXPR_SOURCE_MAX);
        CHECK_INT(expr_compile(src, EXPR_SOURCE_MAX, &x, &e), -E_INVAL);
        CHECK(strstr(e.msg, "nested deeper") != NULL);
        for (n = 0; n + 4 < EXPR_SOURCE_MAX; n += 2)
                memcpy(src + n, "a[", 2);
        CHECK_INT(expr_compile(src, n, &x, &e), -E_INVAL);
        for (n = 0; n + 4 < EXPR_SOURCE_MAX; n += 2)
                memcpy(src + n, "a.", 2);
        CHECK_INT(expr_compile(src, n - 1, &x, &e), -E_INVAL);
        for (n = 0; n + 4 < EXPR_SOURCE_MAX; n += 3)
                memcpy(src + n, "1==", 3);
        CHECK_INT(expr_compile(src, n - 2, &x, &e), -E_INVAL);
        CHECK(strstr(e.msg, "nested deeper") != NULL);

        /* A long chain of || is no depth. */
        for (n = 0; n + 4 < EXPR_SOURCE_MAX; n += 3)
                memcpy(src + n, "0||", 3);
        src[n - 2] = '\0';
        CHECK_INT(eval_text(src, &w, &v, &e), 0);
        cJSON_Delete(v);
        free(src);
        cJSON_Delete(w.all);
}

/* Doubling: format('{0}{0}', format('{0}{0}', ... )) */
TEST(expr, growing_text_is_bounded)
{
        char src[2048] = "'0123456789abcdef'";
        struct world w;
        struct err e = {0};
        cJSON *v = NULL;

        world_init(&w);
        for (int i = 0; i < 20; i++) {
                char next[2048];

                CHECK(snprintf(next, sizeof next, "format('{0}{0}', %s)", src) < (int)sizeof next);
                memcpy(src, next, sizeof src);
        }
        CHECK_INT(eval_text(src, &w, &v, &e), -E_TOOBIG);
        CHECK(strstr(e.msg, "4194304") != NULL);
        CHECK(v == NULL);
        cJSON_Delete(w.all);
}

TEST(expr, work_is_bounded)
{
        struct world w;
        struct err e = {0};
        cJSON *v = NULL, *list;
        char src[4096] = "";

        world_init(&w);
        list = cJSON_AddArrayToObject(w.all, "many");
        for (int i = 0; i < 100000; i++)
                cJSON_AddItemToArray(list, cJSON_CreateNumber(i));
        for (int i = 0; i < 20; i++)
                strcat(src, "contains(many, 'no') || ");
        strcat(src, "true");
        CHECK_INT(eval_text(src, &w, &v, &e), -E_TOOBIG);
        CHECK(strstr(e.msg, "operations") != NULL);
        CHECK_INT(eval_text("many", &w, &v, &e), 0);
        cJSON_Delete(v);
        cJSON_Delete(w.all);
}

static const struct {
        const char *text, *want; /* JSON */
} templates[] = {
        {"plain", "\"plain\""},
        {"", "\"\""},
        {"${{ inputs.n }}", "3"},
        {"${{ inputs.list }}", "[1,\"two\",true,null]"},
        {"${{ inputs.nothing }}", "null"},
        {" ${{ inputs.n }}", "\" 3\""},
        {"${{ inputs.n }}${{ inputs.n }}", "\"33\""},
        {"v${{ inputs.version }}-${{ inputs.on }}-${{ inputs.nothing }}.", "\"v1.2-true-.\""},
        {"${{ '}}' }}", "\"}}\""},
        {"a ${{ 'it''s }} here' }} b", "\"a it's }} here b\""},
        {"${{ '${{' }} x }}", "\"${{ x }}\""},
        {"$ {{ inputs.n }} {{ x }} $${x} }}", "\"$ {{ inputs.n }} {{ x }} $${x} }}\""},
        {"$${{ inputs.n }}", "\"$3\""},
        /* a value that looks like an expression stays text */
        {"${{ inputs.trap }}", "\"${{ inputs.version }}\""},
        {"<${{ inputs.trap }}>", "\"<${{ inputs.version }}>\""},
};

TEST(tmpl, values_and_texts)
{
        struct world w;

        world_init(&w);
        for (size_t i = 0; i < sizeof templates / sizeof *templates; i++) {
                struct err e = {0};
                cJSON *v = NULL;
                char *got;

                if (tmpl_eval(templates[i].text, &w.env, &v, &e))
                        test_fail(__FILE__, __LINE__, "%s: %s", templates[i].text, e.msg);
                got = text_of(v);
                CHECK_STR(got, templates[i].want);
                mem_free(got);
                cJSON_Delete(v);
        }
        cJSON_Delete(w.all);
}

TEST(tmpl, as_text)
{
        struct world w;
        struct err e = {0};
        char *s = NULL;

        world_init(&w);
        CHECK_INT(tmpl_eval_str("${{ inputs.n }}", &w.env, &s, &e), 0);
        CHECK_STR(s, "3");
        mem_free(s);
        CHECK_INT(tmpl_eval_str("", &w.env, &s, &e), 0);
        CHECK_STR(s, "");
        mem_free(s);
        CHECK_INT(tmpl_eval_str("x ${{ inputs.o }}", &w.env, &s, &e), -E_INVAL);
        CHECK(strstr(e.msg, "toJSON") && strstr(e.msg, "${{ inputs.o }}"));
        CHECK_INT(tmpl_eval_str("${{ inputs.n", &w.env, &s, &e), -E_INVAL);
        CHECK_INT(tmpl_eval_str("${{ }}", &w.env, &s, &e), -E_INVAL);
        cJSON_Delete(w.all);
}

TEST(tmpl, json_in_one_pass)
{
        static const char in[] = "{\"argv\":[\"./publish\",\"${{ inputs.trap }}\",\"v${{ inputs.n "
                                 "}}\"],\"${{ key }}\":{\"n\":\"${{ inputs.n "
                                 "}}\",\"keep\":1.5,\"no\":null}}";
        static const char want[] = "{\"argv\":[\"./publish\",\"${{ inputs.version }}\",\"v3\"],\"${{ key "
                                   "}}\":{\"n\":3,\"keep\":1.5,\"no\":null}}";
        struct world w;
        struct err e;
        cJSON *v, *out;
        char *got;

        world_init(&w);
        CHECK_INT(json_parse(in, strlen(in), &v, &e), 0);
        CHECK_INT(tmpl_eval_json(v, &w.env, &out, &e), 0);
        got = text_of(out);
        CHECK_STR(got, want);
        mem_free(got);
        cJSON_Delete(out);
        cJSON_Delete(v);
        cJSON_Delete(w.all);
}

TEST(tmpl, texts_stay_texts)
{
        static const char in[] = "{\"N\":\"${{ inputs.n }}\",\"T\":\"${{ inputs.trap "
                                 "}}\",\"E\":\"\",\"B\":\"${{ inputs.on }}\"}";
        struct world w;
        struct err e;
        cJSON *v, *out = NULL;
        char *got;

        world_init(&w);
        CHECK_INT(json_parse(in, strlen(in), &v, &e), 0);
        CHECK_INT(tmpl_eval_texts(v, &w.env, &out, &e), 0);
        got = text_of(out);
        CHECK_STR(got, "{\"N\":\"3\",\"T\":\"${{ inputs.version }}\",\"E\":\"\",\"B\":\"true\"}");
        mem_free(got);
        cJSON_Delete(out);
        cJSON_Delete(v);
        v = cJSON_CreateObject();
        cJSON_AddStringToObject(v, "O", "${{ inputs.o }}");
        CHECK_INT(tmpl_eval_texts(v, &w.env, &out, &e), -E_INVAL);
        cJSON_Delete(v);
        cJSON_Delete(w.all);
}

/* Many strings that each put in something large share one limit. */
TEST(tmpl, output_of_one_tree_is_bounded)
{
        struct world w;
        struct err e = {0};
        char *big = calloc(1, 800001);
        cJSON *v = cJSON_CreateArray(), *out = NULL;

        CHECK(big && v);
        memset(big, 'x', 800000);
        world_init(&w);
        cJSON_AddStringToObject(w.all, "big", big);
        for (int i = 0; i < 10; i++)
                cJSON_AddItemToArray(v, cJSON_CreateString(i % 2 ? "${{ big }}" : "a ${{ big }}"));
        CHECK_INT(tmpl_eval_json(v, &w.env, &out, &e), -E_TOOBIG);
        CHECK(out == NULL && e.msg[0]);
        cJSON_Delete(v);
        free(big);
        cJSON_Delete(w.all);
}

TEST(tmpl, check_places_mistakes)
{
        char refs[128] = "";
        struct err e = {0};

        CHECK_INT(tmpl_check("a ${{ inputs.x }}\n ${{ steps.y.outputs }}", collect, refs, &e), 0);
        CHECK_STR(refs, "inputs.x steps.y ");
        CHECK_INT(tmpl_check("first line\nx ${{ 1 + 1 }}", NULL, NULL, &e), -E_INVAL);
        CHECK_INT(e.line, 2);
        CHECK_INT(e.col, 9);
        CHECK_INT(tmpl_check("x ${{ 'abc }}", NULL, NULL, &e), -E_INVAL);
        CHECK_INT(e.col, 3);
        CHECK(tmpl_has_expr("a ${{ b }}") && !tmpl_has_expr("a ${ b }"));
}

static int all_of_it(void *arg)
{
        struct world *w = arg;
        struct expr *x = NULL;
        cJSON *v = NULL;
        struct err e;
        char *s = NULL;
        char refs[256] = "";
        int rc = expr_compile_if(
                "contains(fruits.*.name, 'apple') && format('{0}-{1}', toJSON(inputs.o), 'x') != ''", &x, &e);

        if (!rc)
                rc = expr_refs(x, collect, refs);
        if (!rc)
                rc = expr_eval(x, &w->env, &v, &e);
        expr_free(x);
        cJSON_Delete(v);
        v = NULL;
        if (!rc)
                rc = tmpl_eval("${{ fromJSON(inputs.json) }}", &w->env, &v, &e);
        cJSON_Delete(v);
        v = NULL;
        if (!rc)
                rc = tmpl_eval("a ${{ join(fruits.*.name) }} b", &w->env, &v, &e);
        cJSON_Delete(v);
        v = NULL;
        if (!rc)
                rc = tmpl_eval_json(w->all, &w->env, &v, &e);
        cJSON_Delete(v);
        if (!rc)
                rc = tmpl_eval_str("${{ format('{0}', inputs.n) }}", &w->env, &s, &e);
        mem_free(s);
        v = NULL;
        if (!rc)
                rc = tmpl_eval_texts(w->texts, &w->env, &v, &e);
        cJSON_Delete(v);
        return rc;
}

TEST(expr, survives_each_allocation_failing)
{
        struct world w;

        mem_install_hooks();
        world_init(&w);
        w.texts = cJSON_CreateObject();
        cJSON_AddStringToObject(w.texts, "A", "a ${{ inputs.n }}");
        test_each_alloc_fails(all_of_it, &w);
        cJSON_Delete(w.texts);
        cJSON_Delete(w.all);
}
