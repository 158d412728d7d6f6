/* What a workflow becomes when it runs: inputs, expansion, delays. */
#include "common/err.h"
#include "common/json.h"
#include "common/mem.h"
#include "hub/model/workflow.h"
#include "tests/lib/test.h"

#include <stdio.h>
#include <stdlib.h>

static struct workflow *parse(const char *text)
{
        struct workflow *w = NULL;
        struct err e = {0};

        if (workflow_parse(text, strlen(text), &w, &e))
                test_fail(__FILE__, __LINE__, "%d:%d: %s\n%s", e.line, e.col, e.msg, text);
        return w;
}

static cJSON *json(const char *text)
{
        struct err e = {0};
        cJSON *v = NULL;

        if (text && json_parse(text, strlen(text), &v, &e))
                test_fail(__FILE__, __LINE__, "%s: %s", text, e.msg);
        return v;
}

/* ---- inputs ---- */

static const char with_inputs[] = "inputs:\n"
                                  "  version: {type: string, required: true, description: what to release}\n"
                                  "  n: {type: number, default: 2}\n"
                                  "  dry: {type: boolean}\n"
                                  "  tags: {type: array}\n"
                                  "  opts: {type: object}\n"
                                  "  any: {type: any}\n"
                                  "  zone: {options: [eu, us], default: eu}\n"
                                  "  note:\n"
                                  "steps:\n- run: x\n";

static const struct {
        const char *given;
        bool from_text;
        const char *want; /* JSON, or NULL: an error */
        const char *says;
} inputs[] = {
        {"{\"version\":\"1\"}", false,
         "{\"version\":\"1\",\"n\":2,\"dry\":false,\"tags\":[],\"opts\":{},\"any\":null,\"zone\":\"eu\","
         "\"note\":\"\"}",
         NULL},
        {"{\"version\":\"1\",\"n\":5,\"dry\":true,\"tags\":[1],\"opts\":{\"a\":1},\"any\":[],\"zone\":\"us\","
         "\"note\":\"${{ x }}\"}",
         false,
         "{\"version\":\"1\",\"n\":5,\"dry\":true,\"tags\":[1],\"opts\":{\"a\":1},\"any\":[],\"zone\":\"us\","
         "\"note\":\"${{ x }}\"}",
         NULL},
        {"{\"version\":\"1\",\"n\":\"5.5\",\"dry\":\"true\",\"tags\":\"[1, "
         "2]\",\"opts\":\"{}\",\"any\":\"7\",\"zone\":\"us\"}",
         true,
         "{\"version\":\"1\",\"n\":5.5,\"dry\":true,\"tags\":[1,2],\"opts\":{},\"any\":7,\"zone\":\"us\","
         "\"note\":\"\"}",
         NULL},
        {"{\"version\":\"1\",\"any\":\"plain text\"}", true,
         "{\"version\":\"1\",\"n\":2,\"dry\":false,\"tags\":[],\"opts\":{},\"any\":\"plain "
         "text\",\"zone\":\"eu\",\"note\":\"\"}",
         NULL},
        {"{\"version\":\"1\",\"n\":null}", false,
         "{\"version\":\"1\",\"n\":2,\"dry\":false,\"tags\":[],\"opts\":{},\"any\":null,\"zone\":\"eu\","
         "\"note\":\"\"}",
         NULL},
        {NULL, false, NULL, "input \"version\" is required: a string, what to release"},
        {"{\"version\":null}", false, NULL, "required"},
        {"{\"versoin\":\"1\"}", false, NULL, "unknown input \"versoin\": did you mean \"version\"?"},
        {"{\"version\":1}", false, NULL, "input \"version\": expected a string, got a number"},
        {"{\"version\":\"1\",\"n\":\"5\"}", false, NULL, "expected a number, got a string"},
        {"{\"version\":\"1\",\"n\":\"five\"}", true, NULL, "expected a number, got \"five\""},
        {"{\"version\":\"1\",\"n\":\"\"}", true, NULL, "expected a number"},
        {"{\"version\":\"1\",\"dry\":\"yes\"}", true, NULL, "expected true or false"},
        {"{\"version\":\"1\",\"dry\":\"1\"}", true, NULL, "expected true or false"},
        {"{\"version\":\"1\",\"tags\":\"{}\"}", true, NULL, "expected an array as JSON"},
        {"{\"version\":\"1\",\"zone\":\"asia\"}", true, NULL, "expected one of [\"eu\",\"us\"]"},
        {"[1]", false, NULL, "must be an object"},
};

TEST(workflow, inputs_are_typed_and_complete)
{
        struct workflow *w = parse(with_inputs);

        for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++) {
                cJSON *given = json(inputs[i].given), *out = NULL;
                struct err e = {0};
                int rc = workflow_inputs(w, given, inputs[i].from_text, &out, &e);
                char *got = rc ? NULL : json_text(out);

                if (inputs[i].want ? rc || strcmp(got, inputs[i].want) != 0
                                   : rc != -E_INVAL || !strstr(e.msg, inputs[i].says))
                        test_fail(__FILE__, __LINE__, "%s: %s %s", inputs[i].given ? inputs[i].given : "-",
                                  got ? got : "", e.msg);
                mem_free(got);
                cJSON_Delete(given);
                cJSON_Delete(out);
        }
        workflow_free(w);
}

TEST(workflow, no_inputs_takes_none)
{
        struct workflow *w = parse("steps:\n- run: x\n");
        cJSON *given = json("{\"a\":1}"), *out = NULL;
        struct err e = {0};

        CHECK_INT(workflow_inputs(w, given, true, &out, &e), -E_INVAL);
        CHECK(strstr(e.msg, "takes no inputs") != NULL);
        CHECK_INT(workflow_inputs(w, NULL, true, &out, &e), 0);
        cJSON_Delete(given);
        cJSON_Delete(out);
        workflow_free(w);
}

/* ---- expansion ---- */

static const cJSON *lookup(void *ctx, const char *name)
{
        return cJSON_GetObjectItemCaseSensitive(ctx, name);
}

/* fan-out as it stands in a step -> combinations as JSON, or the start of an error */
static const struct {
        const char *fan, *want, *says;
        int rc;
} fans[] = {
        {"matrix: {os: [a, b], n: [1, 2]}",
         "[{\"os\":\"a\",\"n\":1},{\"os\":\"a\",\"n\":2},{\"os\":\"b\",\"n\":1},{\"os\":\"b\",\"n\":2}]",
         NULL, 0},
        {"matrix: {os: [a, b], n: [1, 2], exclude: [{os: a, n: 2}, {n: 1, os: b}]}",
         "[{\"os\":\"a\",\"n\":1},{\"os\":\"b\",\"n\":2}]", NULL, 0},
        {"matrix: {os: [a, b], n: [1, 2], exclude: [{os: a}]}",
         "[{\"os\":\"b\",\"n\":1},{\"os\":\"b\",\"n\":2}]", NULL, 0},
        {"matrix: {os: [a], exclude: [{os: a, zone: x}, {}]}", "[{\"os\":\"a\"}]", NULL, 0},
        /* the example of GitHub's documentation */
        {"matrix: {fruit: [apple, pear], animal: [cat, dog], include: [{color: green}, {color: pink, animal: "
         "cat}, {fruit: apple, shape: circle},"
         " {fruit: banana}, {fruit: banana, animal: cat}]}",
         "[{\"fruit\":\"apple\",\"animal\":\"cat\",\"color\":\"pink\",\"shape\":\"circle\"},"
         "{\"fruit\":\"apple\",\"animal\":\"dog\",\"color\":\"green\",\"shape\":\"circle\"},"
         "{\"fruit\":\"pear\",\"animal\":\"cat\",\"color\":\"pink\"},"
         "{\"fruit\":\"pear\",\"animal\":\"dog\",\"color\":\"green\"},"
         "{\"fruit\":\"banana\"},{\"fruit\":\"banana\",\"animal\":\"cat\"}]",
         NULL, 0},
        {"matrix: {include: [{site: prod, dc: x}, {site: staging}]}",
         "[{\"site\":\"prod\",\"dc\":\"x\"},{\"site\":\"staging\"}]", NULL, 0},
        {"matrix: {os: [a], exclude: [{os: a}]}", "[]", NULL, 0},
        {"matrix: {os: [{k: 1}, [2]], exclude: [{os: {k: 1}}]}", "[{\"os\":[2]}]", NULL, 0},
        {"matrix: {v: \"${{ inputs.list }}\", w: [\"${{ inputs.x }}\", \"w${{ inputs.x }}\"]}",
         "[{\"v\":1,\"w\":7},{\"v\":1,\"w\":\"w7\"},{\"v\":\"${{ y }}\",\"w\":7},{\"v\":\"${{ y "
         "}}\",\"w\":\"w7\"}]",
         NULL, 0},
        {"matrix: \"${{ inputs.whole }}\"", "[{\"a\":1},{\"a\":2}]", NULL, 0},
        {"matrix: {a: [1], include: \"${{ inputs.more }}\"}", "[{\"a\":1,\"b\":2}]", NULL, 0},
        {"for-each: [a, {k: 1}, \"${{ inputs.x }}\"]",
         "[{\"item\":\"a\",\"index\":0},{\"item\":{\"k\":1},\"index\":1},{\"item\":7,\"index\":2}]", NULL, 0},
        {"for-each: ${{ inputs.list }}", "[{\"item\":1,\"index\":0},{\"item\":\"${{ y }}\",\"index\":1}]",
         NULL, 0},
        {"for-each: []", "[]", NULL, 0},
        {"for-each: ${{ inputs.x }}", NULL, "must be a list, it became a number", -E_INVAL},
        {"matrix: {a: \"${{ inputs.x }}\"}", NULL, "\"a\" in the matrix of step \"s\" must be a list",
         -E_INVAL},
        {"matrix: \"${{ inputs.x }}\"", NULL, "must be an object", -E_INVAL},
        {"matrix: {include: \"${{ inputs.list }}\"}", NULL, "must list objects", -E_INVAL},
        {"matrix: {a: [1, 2, 3, 4, 5], b: [1, 2, 3, 4, 5], c: [1, 2, 3, 4, 5]}", NULL, "more than 100 steps",
         -E_TOOBIG},
        {"for-each: ${{ inputs.long }}", NULL, "more than 100 steps", -E_TOOBIG},
};

static cJSON *fan_world(void)
{
        cJSON *w = json("{\"inputs\":{\"x\":7,\"list\":[1,\"${{ y "
                        "}}\"],\"whole\":{\"a\":[1,2]},\"more\":[{\"b\":2}]}}");
        cJSON *list = cJSON_AddArrayToObject(cJSON_GetObjectItem(w, "inputs"), "long");

        for (int i = 0; i < 101; i++)
                cJSON_AddItemToArray(list, cJSON_CreateNumber(i));
        return w;
}

TEST(workflow, expands_as_documented)
{
        cJSON *world = fan_world();
        struct expr_env env = {.lookup = lookup, .ctx = world, .success = true};

        for (size_t i = 0; i < sizeof fans / sizeof *fans; i++) {
                char text[1024];
                struct workflow *w;
                struct err e = {0};
                cJSON *out = NULL;
                char *got;
                int rc;

                snprintf(text, sizeof text,
                         "inputs: {x: , list: , whole: , more: , long: }\nsteps:\n- id: s\n  run: x\n  %s\n",
                         fans[i].fan);
                w = parse(text);
                rc = workflow_expand(&w->steps[0], &env, 100, &out, &e);
                got = rc ? NULL : json_text(out);
                if (rc != fans[i].rc || (rc == 0 && strcmp(got, fans[i].want) != 0) ||
                    (rc && !strstr(e.msg, fans[i].says)))
                        test_fail(__FILE__, __LINE__, "%s: %s %s", fans[i].fan, got ? got : "", e.msg);
                mem_free(got);
                cJSON_Delete(out);
                workflow_free(w);
        }
        cJSON_Delete(world);
}

/* A large value times many combinations must not be copied. */
TEST(workflow, expansion_is_bounded_in_bytes)
{
        char *text = malloc(1 << 20), *p = text;
        struct expr_env env = {.lookup = lookup};
        struct workflow *w;
        struct err e = {0};
        cJSON *out = NULL;

        CHECK(text != NULL);
        p += sprintf(p, "steps:\n- id: s\n  run: x\n  matrix:\n    big: [\"");
        memset(p, 'x', 500000);
        p += 500000;
        p += sprintf(p, "\"]\n    n: [0");
        for (int i = 1; i < 1000; i++)
                p += sprintf(p, ",%d", i);
        sprintf(p, "]\n");
        w = parse(text);
        CHECK_INT(workflow_expand(&w->steps[0], &env, RUN_STEPS_MAX, &out, &e), -E_TOOBIG);
        CHECK(strstr(e.msg, "bytes") && !out);
        workflow_free(w);
        free(text);
}

static int expand_again(void *arg)
{
        const struct workflow *w = arg;
        struct expr_env env = {.lookup = lookup};
        cJSON *out = NULL;
        struct err e;
        int rc = 0;

        for (size_t i = 0; i < w->n_steps && !rc; i++) {
                rc = workflow_expand(&w->steps[i], &env, 100, &out, &e);
                cJSON_Delete(out);
                out = NULL;
        }
        if (!rc)
                rc = workflow_inputs(w, NULL, false, &out, &e);
        cJSON_Delete(out);
        return rc;
}

TEST(workflow, expansion_survives_each_allocation_failing)
{
        struct workflow *w;

        mem_install_hooks();
        w = parse("inputs: {a: {default: x}, b: {type: array}}\nsteps:\n"
                  "- {run: x, matrix: {a: [1, 2], b: [x, {y: z}], exclude: [{a: 1, b: x}], include: [{a: 2, "
                  "c: 3}, {a: 9}]}}\n"
                  "- {run: x, for-each: [1, {a: b}]}\n");
        test_each_alloc_fails(expand_again, w);
        workflow_free(w);
}

/* ---- retry ---- */

TEST(workflow, retry_delays)
{
        struct retry_def r = {.limit = 9, .duration_ms = 1000, .max_ms = 30000, .factor = 2, .jitter = 0};

        CHECK_INT(retry_delay_ms(&r, 1, 0.9), 1000);
        CHECK_INT(retry_delay_ms(&r, 2, 0.9), 2000);
        CHECK_INT(retry_delay_ms(&r, 5, 0.9), 16000);
        CHECK_INT(retry_delay_ms(&r, 6, 0.9), 30000);
        CHECK_INT(retry_delay_ms(&r, 1000, 0.9), 30000);
        r.factor = 1000;
        CHECK_INT(retry_delay_ms(&r, 1000, 0), 30000);
        r.factor = 1;
        r.jitter = 0.5;
        CHECK_INT(retry_delay_ms(&r, 3, 0), 500);
        CHECK_INT(retry_delay_ms(&r, 3, 0.5), 750);
        r.jitter = 1;
        CHECK_INT(retry_delay_ms(&r, 3, 0), 0);
        r.duration_ms = 0;
        CHECK_INT(retry_delay_ms(&r, 1000, 0.5), 0);
}
