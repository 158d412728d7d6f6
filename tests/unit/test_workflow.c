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

static void check_json(const cJSON *v, const char *want)
{
        char *got = v ? json_text(v) : mem_strdup("(none)");

        CHECK_STR(got, want);
        mem_free(got);
}

static const char contract[] =
        "name: release\n"
        "inputs:\n"
        "  version: {type: string, required: true}\n"
        "concurrency: {group: \"release\", limit: 1}\n"
        "steps:\n"
        "  - id: build\n"
        "    run: make -j2 VERSION=${{ inputs.version }}\n"
        "    runs-on: {os: linux, gpu: \"false\"}\n"
        "    timeout: 10m\n"
        "    retry: {limit: 2, backoff: {duration: 1s, factor: 2, max: 30s}}\n"
        "    effect: idempotent\n"
        "  - id: lint\n"
        "    uses: file.read\n"
        "    with: {path: lint.txt}\n"
        "  - id: publish\n"
        "    needs: [build, lint]\n"
        "    if: ${{ steps.build.outputs.exit_code == 0 && inputs.version != 'dev' }}\n"
        "    uses: process.exec\n"
        "    with: {argv: [./publish, \"${{ inputs.version }}\"], env: {MODE: prod}}\n";

TEST(workflow, contract_example)
{
        struct workflow *w = parse(contract);
        const struct step_def *s;

        CHECK_STR(w->name, "release");
        CHECK_INT(w->n_steps, 3);
        CHECK_INT(w->n_inputs, 1);
        CHECK(w->inputs[0].required && w->inputs[0].type == INPUT_STRING);
        CHECK_STR(w->concurrency.group, "release");
        CHECK_INT(w->concurrency.limit, 1);
        s = workflow_step(w, "build");
        CHECK(s == &w->steps[0]);
        CHECK_STR(s->tool, "process.exec");
        check_json(s->with, "{\"shell\":\"make -j2 VERSION=${{ inputs.version }}\"}");
        check_json(s->runs_on, "{\"os\":\"linux\",\"gpu\":\"false\"}");
        CHECK_INT(s->timeout_ms, 600000);
        CHECK_INT(s->retry.limit, 2);
        CHECK_INT(s->retry.duration_ms, 1000);
        CHECK_INT(s->retry.max_ms, 30000);
        CHECK(s->retry.factor == 2 && s->retry.jitter == 0.5);
        CHECK_INT(s->effect, EFFECT_IDEMPOTENT);
        CHECK(s->fail_fast && !s->cond);
        CHECK_INT(s->line, 6);
        s = workflow_step(w, "publish");
        CHECK_INT(s->n_needs, 2);
        CHECK(s->needs[0] == 0 && s->needs[1] == 1);
        CHECK(s->cond && s->cond_text);
        CHECK_INT(s->effect, EFFECT_AT_MOST_ONCE);
        check_json(s->with, "{\"argv\":[\"./publish\",\"${{ format('{0}',  inputs.version ) "
                            "}}\"],\"env\":{\"MODE\":\"prod\"}}");
        CHECK(workflow_step(w, "nothing") == NULL);
        workflow_free(w);
}

TEST(workflow, every_key)
{
        struct workflow *w = parse(
                "name: all\n"
                "id: ignored\n"
                "description: everything at once\n"
                "inputs:\n"
                "  text:\n"
                "  n: {default: 3, description: how many}\n"
                "  pick: {options: [a, b], default: b}\n"
                "env: {A: 1, B: true, C: \"${{ inputs.text }}\"}\n"
                "outputs: {last: \"${{ steps.two.outputs.stdout }}\"}\n"
                "concurrency: {group: g, cancel-in-progress: true}\n"
                "priority: -5\n"
                "timeout: 1h\n"
                "steps:\n"
                "  one:\n"
                "    name: First\n"
                "    description: text\n"
                "    run: cat\n"
                "    shell: bash\n"
                "    working-directory: /tmp\n"
                "    stdin: ${{ inputs.text }}\n"
                "    env: {D: \"${{ env.A }}\"}\n"
                "    runs-on: [os=linux, zone=eu]\n"
                "    timeout-minutes: 1.5\n"
                "    retry: 3\n"
                "    concurrency: db\n"
                "    priority: 7\n"
                "    continue-on-error: true\n"
                "  two:\n"
                "    depends_on: one\n"
                "    uses: file.write\n"
                "    with: {path: \"${{ matrix.os }}\", data: \"${{ needs.one.outputs.stdout }}\"}\n"
                "    agent: ${{ matrix.os }}\n"
                "    runs-on: gpu=true\n"
                "    strategy: {matrix: {os: [a, b], include: [{extra: 1}]}, fail-fast: false, max-parallel: "
                "2}\n"
                "  three:\n"
                "    needs: [two, two]\n"
                "    run: echo ${{ each.item }} ${{ each.index }} ${{ env.B }} ${{ steps.one.result }}\n"
                "    for-each: ${{ fromJSON(steps.two.outputs.list) }}\n"
                "    concurrency: {group: \"g-${{ each.item }}\", limit: 4}\n"
                "    if: always()\n"
                "finally:\n"
                "  - id: clean\n"
                "    run: rm ${{ steps.three.outcome }} ${{ run.id }} ${{ workflow.name }}\n"
                "  - run: echo\n"
                "    needs: clean\n"
                "    if: ${{ failure() }}\n");
        const struct step_def *s = &w->steps[0];

        CHECK_INT(w->n_steps, 5);
        CHECK_INT(w->priority, -5);
        CHECK_INT(w->timeout_ms, 3600000);
        CHECK(w->concurrency.cancel_in_progress);
        check_json(w->env, "{\"A\":\"1\",\"B\":\"true\",\"C\":\"${{ inputs.text }}\"}");
        check_json(w->outputs, "{\"last\":\"${{ steps.two.outputs.stdout }}\"}");
        CHECK_INT(w->inputs[1].type, INPUT_NUMBER);
        check_json(w->inputs[2].options, "[\"a\",\"b\"]");

        CHECK_STR(s->id, "one");
        CHECK_INT(s->line, 14);
        CHECK_STR(s->name, "First");
        check_json(s->with, "{\"shell\":\"cat\",\"shell_path\":\"bash\",\"cwd\":\"/tmp\",\"stdin\":\"${{ "
                            "format('{0}',  inputs.text ) }}\"}");
        check_json(s->env, "{\"D\":\"${{ env.A }}\"}");
        check_json(s->runs_on, "{\"os\":\"linux\",\"zone\":\"eu\"}");
        CHECK_INT(s->timeout_ms, 90000);
        CHECK_INT(s->retry.limit, 3);
        CHECK_STR(s->concurrency.group, "db");
        CHECK_INT(s->concurrency.limit, 1);
        CHECK_INT(s->priority, 7);
        CHECK(s->continue_on_error);

        s = &w->steps[1];
        CHECK_INT(s->n_needs, 1);
        check_json(s->matrix, "{\"os\":[\"a\",\"b\"],\"include\":[{\"extra\":1}]}");
        CHECK(!s->fail_fast);
        CHECK_INT(s->max_parallel, 2);
        CHECK_STR(s->agent, "${{ matrix.os }}");

        s = &w->steps[2];
        CHECK_INT(s->n_needs, 1);
        check_json(s->for_each, "\"${{ fromJSON(steps.two.outputs.list) }}\"");
        CHECK_INT(s->concurrency.limit, 4);
        CHECK(expr_uses_status(s->cond));
        CHECK(!s->finally && w->steps[3].finally && w->steps[4].finally);
        CHECK_STR(w->steps[4].id, "step-5");
        workflow_free(w);
}

/* What a process or a file is given is text, also where a number is written or computed. */
TEST(workflow, tools_take_texts)
{
        struct workflow *w = parse(
                "inputs: {n: {default: 3}}\nsteps:\n- uses: process.exec\n  with:\n    argv: [sleep, 5, "
                "0.50, true, \"${{ inputs.n }}\", "
                "\"n${{ inputs.n }}\"]\n    env: {A: 1.0, B: \"${{ inputs.n }}\"}\n    n: 7\n"
                "- {uses: process.exec, with: {argv: \"${{ fromJSON('[]') }}\"}}\n"
                "- {uses: other, with: {argv: [5, \"${{ inputs.n }}\"]}}\n- {run: \"${{ inputs.n }}\"}\n"
                "- {uses: file.write, with: {path: 7, content: \"${{ inputs.n }}\", mode: 0644, create_dirs: "
                "true}}\n"
                "- {uses: http.request, with: {url: u, headers: {X: 1}, expect_status: \"${{ inputs.n "
                "}}\"}}\n");

        check_json(w->steps[0].with,
                   "{\"argv\":[\"sleep\",\"5\",\"0.50\",\"true\",\"${{ format('{0}',  inputs.n ) }}\",\"n${{ "
                   "inputs.n }}\"],"
                   "\"env\":{\"A\":\"1.0\",\"B\":\"${{ format('{0}',  inputs.n ) }}\"},\"n\":7}");
        check_json(w->steps[1].with, "{\"argv\":\"${{ fromJSON('[]') }}\"}");
        check_json(w->steps[2].with, "{\"argv\":[5,\"${{ inputs.n }}\"]}");
        check_json(w->steps[3].with, "{\"shell\":\"${{ format('{0}',  inputs.n ) }}\"}");
        check_json(w->steps[4].with, "{\"path\":\"7\",\"content\":\"${{ format('{0}',  inputs.n ) "
                                     "}}\",\"mode\":\"0644\",\"create_dirs\":true}");
        check_json(w->steps[5].with,
                   "{\"url\":\"u\",\"headers\":{\"X\":\"1\"},\"expect_status\":\"${{ inputs.n }}\"}");
        workflow_free(w);
}

TEST(workflow, json_is_the_same_model)
{
        struct workflow *w = parse("{\"name\":\"j\",\"steps\":[{\"id\":\"a\",\"run\":\"true\"},{\"id\":\"b\","
                                   "\"needs\":[\"a\"],\"uses\":\"file.read\","
                                   "\"with\":{\"path\":\"${{ steps.a.outputs.p }}\"}}]}");

        CHECK_INT(w->n_steps, 2);
        CHECK_INT(w->steps[1].needs[0], 0);
        workflow_free(w);
}

TEST(workflow, lists_and_maps_of_steps_and_defaults)
{
        struct workflow *w = parse("steps:\n- run: a\n- uses: noop\n  with:\n");

        CHECK_STR(w->name, "workflow");
        CHECK_STR(w->steps[0].id, "step-1");
        CHECK_STR(w->steps[1].tool, "noop");
        check_json(w->steps[1].with, "{}");
        workflow_free(w);
        w = parse("name: 7\nsteps:\n  1: {run: a}\n  2: {run: \"b ${{ steps.1.outputs.x }}\", needs: 1}\n");
        CHECK_STR(w->name, "7");
        CHECK_STR(w->steps[1].id, "2");
        workflow_free(w);
}

TEST(workflow, references_may_reach_far)
{
        workflow_free(parse("steps:\n"
                            "- {id: a, run: x}\n"
                            "- {id: b, run: x, needs: a}\n"
                            "- {id: c, run: x, needs: b}\n"
                            "- {id: d, run: 'x ${{ steps.a.outputs.y }} ${{ steps.b.state }}', needs: c}\n"));
}

/* ---- mistakes ---- */

#define ONE "steps:\n- id: a\n  run: x\n"

static const struct {
        const char *text;
        int line, col;
        const char *says;
} mistakes[] = {
        /* shape */
        {"", 1, 1, ""},
        {"- a\n", 1, 1, "a list"},
        {"name: x\n", 1, 1, "no \"steps\""},
        {"steps: []\n", 1, 8, "\"steps\" is empty"},
        {"steps: x\n", 1, 8, "a list of steps"},
        {"steps:\n- x\n", 2, 3, "expected a map"},
        {"steps: [\n", 2, 1, ""},
        {"a: 1\na: 2\n", 2, 1, "twice"},
        {ONE "finally: []\n", 4, 10, "\"finally\" is empty"},
        /* keys */
        {ONE "nam: x\n", 4, 1, "unknown key \"nam\" in the workflow: did you mean \"name\"?"},
        {ONE "jobs: x\n", 4, 1, "unknown key \"jobs\" in the workflow: known are name"},
        {"steps:\n- id: build\n  run: x\n  need: [a]\n", 4, 3,
         "unknown key \"need\" in step \"build\": did you mean \"needs\"?"},
        {"steps:\n- run: x\n  tiemout: 1s\n", 3, 3, "in step 1: did you mean \"timeout\"?"},
        {"steps:\n  build:\n    run: x\n    timout: 1s\n", 4, 5, "\"timeout\""},
        {ONE "  needs: b\n  depends_on: b\n", 5, 3,
         "\"needs\" and \"depends_on\" in step \"a\" mean the same"},
        {ONE "  retry: {limits: 3}\n", 4, 11, "unknown key \"limits\" in \"retry\""},
        {ONE "  retry: {limit: 3, backoff: {delay: 1s}}\n", 4, 31, "in \"backoff\""},
        {ONE "  strategy: {matrx: {a: [1]}}\n", 4, 14, "\"matrix\""},
        /* names */
        {"steps:\n- id: -a\n  run: x\n", 2, 7, "no good id"},
        {"steps:\n- id: a b\n  run: x\n", 2, 7, "no good id"},
        {"steps:\n- id: [a]\n  run: x\n", 2, 7, "expected text, got a list"},
        {"steps:\n  a b: {run: x}\n", 2, 3, "no good id"},
        {ONE "- id: a\n  run: y\n", 4, 7, "already that of the step in line 2"},
        {"steps:\n  a: {id: b, run: x}\n", 2, 11, "another \"id\""},
        {ONE "  name: x ${{ inputs.a }}\n", 4, 9, "no expressions here"},
        /* what a step does */
        {"steps:\n- id: a\n", 2, 3, "step \"a\" does nothing"},
        {ONE "  uses: file.read\n", 4, 9, "both \"run\" and \"uses\""},
        {ONE "  with: {a: 1}\n", 4, 9, "goes with \"uses\""},
        {"steps:\n- id: a\n  run: ''\n", 3, 8, "empty text"},
        {"steps:\n- id: a\n  run: [x]\n", 3, 8, "got a list"},
        {"steps:\n- id: a\n  uses: actions/checkout@v4\n", 3, 9, "not the name of a tool"},
        {"steps:\n- id: a\n  uses: file.read\n  with: [x]\n", 4, 9, "expected a map, got a list"},
        {"steps:\n- id: a\n  uses: file.read\n  shell: bash\n", 4, 10, "goes with \"run\""},
        {ONE "  shell: ${{ inputs.x }}\n", 4, 10, "no expressions here"},
        /* types */
        {ONE "  timeout: 10\n", 4, 12, "a duration needs its unit: \"10s\""},
        {ONE "  timeout: soon\n", 4, 12, "expected a duration"},
        {ONE "  timeout: {a: 1}\n", 4, 12, "got a map"},
        {ONE "  timeout: 1s\n  timeout-minutes: 1\n", 5, 20, "keep one"},
        {ONE "  timeout-minutes: x\n", 4, 20, "expected a number"},
        {ONE "  timeout-minutes: -1\n", 4, 20, "from 0 to"},
        {ONE "  retry: many\n", 4, 10, "expected a number"},
        {ONE "  retry: 1.5\n", 4, 10, "whole number"},
        {ONE "  retry: 1001\n", 4, 10, "from 0 to 1000"},
        {ONE "  retry: {backoff: {duration: 1s}}\n", 4, 10, "needs a \"limit\""},
        {ONE "  retry: {limit: 1, backoff: {factor: 0.5}}\n", 4, 39, "from 1"},
        {ONE "  retry: {limit: 1, backoff: {jitter: 2}}\n", 4, 39, "from 0 to 1"},
        {ONE "  retry: {limit: 1, backoff: {duration: 9s, max: 1s}}\n", 4, 50, "shorter"},
        {ONE "  effect: idempotnt\n", 4, 11, "did you mean \"idempotent\"?"},
        {ONE "  effect: 3\n", 4, 11, "expected \"pure\""},
        {ONE "  priority: 101\n", 4, 13, "from -100 to 100"},
        {ONE "  continue-on-error: maybe\n", 4, 22, "expected true or false"},
        {ONE "  concurrency: {limit: 2}\n", 4, 16, "needs a \"group\""},
        {ONE "  concurrency: {group: g, limit: 0}\n", 4, 34, "from 1"},
        {ONE "  concurrency: {group: g, cancel-in-progress: true}\n", 4, 47, "of a workflow, not of a step"},
        {ONE "  concurrency: ''\n", 4, 16, "empty"},
        {ONE "  runs-on: ubuntu-latest\n", 4, 12, "os=linux"},
        {ONE "  runs-on: [os=a, os=b]\n", 4, 19, "stands twice"},
        {ONE "  runs-on: {os: [a]}\n", 4, 17, "must be text"},
        {ONE "  runs-on: {\"a b\": c}\n", 4, 13, "no good name"},
        {ONE "  env: {1A: b}\n", 4, 9, "not a digit first"},
        {ONE "  env: [A]\n", 4, 8, "expected a map"},
        {ONE "  agent: a b\n", 4, 10, "no name of an agent"},
        /* needs */
        {ONE "- id: build\n  run: x\n- id: c\n  run: x\n  needs: [biuld]\n", 8, 11,
         "unknown step \"biuld\": did you mean \"build\"?"},
        {ONE "  needs: zzzzzz\n", 4, 10, "unknown step \"zzzzzz\""},
        {ONE "  needs: {a: b}\n", 4, 10, "got a map"},
        {ONE "  needs: a\n", 4, 10, "needs itself"},
        {ONE "  needs: f\nfinally:\n- id: f\n  run: x\n", 4, 10, "runs last"},
        {ONE "finally:\n- id: f\n  run: x\n  needs: a\n", 7, 10, "anyway"},
        {"steps:\n- {id: a, run: x, needs: b}\n- {id: b, run: x, needs: c}\n- {id: c, run: x, needs: a}\n", 2,
         3, "cycle: a -> b -> c -> a"},
        {"steps:\n- {id: z, run: x}\n- {id: a, run: x, needs: [z, b]}\n- {id: b, run: x, needs: a}\n- {id: "
         "c, run: x, needs: b}\n",
         3, 3, "cycle: a -> b -> a"},
        /* expressions */
        {"steps:\n- id: a\n  run: echo ${{ 1 + 1 }}\n", 3, 19, "no arithmetic"},
        {"steps:\n- id: a\n  run: \"echo ${{ inputs.x\"\n", 3, 14, "not closed"},
        {"steps:\n- id: a\n  run: |\n    line one\n      line ${{ nope }}\n", 5, 16, "unknown name \"nope\""},
        {"steps:\n- id: a\n  run: |\n\n    echo \xc3\xa9 ${{ input.x }}\n", 5, 16,
         "did you mean \"inputs\"?"},
        {"steps:\n- id: a\n  run: >\n    one\n    two ${{ nope }}\n", 3, 8, "unknown name"},
        {"steps:\n- id: a\n  run: x ${{ True }}\n", 3, 14, "write true in lower case"},
        {ONE "  if: ${{ stesp.x }}\n", 4, 11, "did you mean \"steps\"?"},
        {ONE "  if: steps.x.y == \"1\"\n", 4, 20, "single quotes"},
        {ONE "  if: ${{ success() }} && true\n", 4, 7, "one ${{ }}"},
        {ONE "  if:\n", 4, 6, "expected text, got"},
        {"inputs: {version: }\n" ONE "  if: inputs.versoin == 'x'\n", 5, 7,
         "unknown input \"versoin\": did you mean \"version\"?"},
        {ONE "  if: inputs.x\n", 4, 7, "declares no inputs"},
        {ONE "  if: steps.b.outputs.x\n", 4, 7, "unknown step \"b\""},
        {ONE "  if: steps.a.outputs.x\n", 4, 7, "its own result"},
        {ONE "- id: b\n  run: x ${{ steps.a.outputs.x }}\n", 5, 14,
         "step \"b\" mentions \"a\" but does not need it"},
        {ONE "- id: b\n  needs: a\n  run: x ${{ steps.a.output.x }}\n", 6, 14, "did you mean \"outputs\"?"},
        {"steps:\n- {id: a, run: x}\n- {id: b, run: x, needs: a}\n- {id: c, needs: b, run: 'x ${{ "
         "needs.a.result }}'}\n",
         4, 33, "not in the \"needs\""},
        {ONE "  env: {B: \"${{ env.C }}\"}\n", 4, 17, "no \"env\""},
        {"env: {HOME_DIR: x}\n" ONE "  env: {B: \"${{ env.HOME_DRI }}\"}\n", 5, 17,
         "did you mean \"HOME_DIR\"?"},
        {"env: {A: \"${{ steps.a.result }}\"}\n" ONE, 1, 15, "\"steps\" is not known here"},
        {ONE "  stdin: ${{ matrix.os }}\n", 4, 14, "has a \"matrix\""},
        {ONE "  stdin: ${{ each.item }}\n", 4, 14, "has a \"for-each\""},
        {ONE "  matrix: {os: [a]}\n  stdin: ${{ matrix.so }}\n", 5, 14, "did you mean \"os\"?"},
        {ONE "  matrix: {os: [a]}\n  if: matrix.os == 'a'\n", 5, 7, "\"matrix\" is not known here"},
        {ONE "  for-each: [1]\n  stdin: ${{ each.itme }}\n", 5, 14, "did you mean \"item\"?"},
        {ONE "  stdin: ${{ run.number }}\n", 4, 14, "unknown property \"number\""},
        {ONE "finally:\n- id: f\n  run: x\n- id: g\n  run: ${{ steps.f.result }}\n", 8, 12,
         "does not need it"},
        {ONE "  if: steps.f.result\nfinally:\n- id: f\n  run: x\n", 4, 7, "runs last"},
        {"outputs: {x: \"${{ steps.b.outputs.x }}\"}\n" ONE, 1, 19, "unknown step \"b\""},
        {"outputs: {x: [1]}\n" ONE, 1, 14, "must be text"},
        /* fan-out */
        {ONE "  matrix: [a]\n", 4, 11, "expected a map of names to lists"},
        {ONE "  matrix: {}\n", 4, 11, "is empty"},
        {ONE "  matrix: {os: a}\n", 4, 16, "expected a list"},
        {ONE "  matrix: {os: []}\n", 4, 16, "no values"},
        {ONE "  matrix: {\"o s\": [1]}\n", 4, 12, "no good name"},
        {ONE "  matrix: {include: {a: 1}}\n", 4, 21, "list of maps"},
        {ONE "  matrix: {exclude: [a]}\n", 4, 22, "expected a map"},
        {ONE "  matrix: {a: [1]}\n  for-each: [1]\n", 5, 13, "keep one"},
        {ONE "  for-each: abc\n", 4, 13, "expected a list"},
        {ONE "  max-parallel: 2\n", 4, 17, "goes with \"matrix\""},
        {ONE "  fail-fast: true\n", 4, 14, "goes with \"matrix\""},
        {ONE "  for-each: [1]\n  max-parallel: 0\n", 5, 17, "from 1"},
        /* inputs */
        {"inputs: [a]\n" ONE, 1, 9, "expected a map"},
        {"inputs: {a: {type: text}}\n" ONE, 1, 20, "expected string, number"},
        {"inputs: {a: {type: strng}}\n" ONE, 1, 20, "did you mean \"string\"?"},
        {"inputs: {a: {type: choice}}\n" ONE, 1, 20, "options"},
        {"inputs: {a: {typ: string}}\n" ONE, 1, 14, "did you mean \"type\"?"},
        {"inputs: {a: {type: number, default: x}}\n" ONE, 1, 37, "expected a number, got a string"},
        {"inputs: {a: {options: [x, y], default: z}}\n" ONE, 1, 40, "not among"},
        {"inputs: {a: {options: [x, 1]}}\n" ONE, 1, 27, "expected a string"},
        {"inputs: {a: {options: x}}\n" ONE, 1, 23, "a list of 1"},
        {"inputs: {\"a b\": }\n" ONE, 1, 10, "no good name"},
        {"inputs: {a: {required: 1}}\n" ONE, 1, 24, "true or false"},
        /* JSON has places too */
        {"{\"steps\":[{\"id\":\"a\",\"run\":\"x\",\n \"neds\":[]}]}", 2, 2, "did you mean \"needs\"?"},
        {"{\"steps\":[{\"id\":\"a\",\"run\":\"x ${{ nope }}\"}]}", 1, 34, "unknown name"},
};

TEST(workflow, mistakes_have_a_place_and_a_remedy)
{
        int bad = 0;

        for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++) {
                struct workflow *w = NULL;
                struct err e = {0};
                int rc = workflow_parse(mistakes[i].text, strlen(mistakes[i].text), &w, &e);

                if (rc == -E_INVAL && e.line == mistakes[i].line && e.col == mistakes[i].col &&
                    strstr(e.msg, mistakes[i].says) && !w)
                        continue;
                fprintf(stderr, "-- %s-- expected %d:%d \"%s\"\n-- got %s %d:%d \"%s\"\n", mistakes[i].text,
                        mistakes[i].line, mistakes[i].col, mistakes[i].says, err_name(rc), e.line, e.col,
                        e.msg);
                bad++;
                workflow_free(w);
        }
        CHECK_INT(bad, 0);
}

/* ---- size ---- */

static char *many_steps(size_t n, bool chain, const char *tail, size_t *len)
{
        char *s = malloc(n * 80 + 1000), *p = s;

        CHECK(s != NULL);
        p += sprintf(p, "{\"name\":\"many\",\"steps\":[");
        for (size_t i = 0; i < n; i++) {
                p += sprintf(p, "%s{\"id\":\"s%zu\",\"run\":\"x %s\"", i ? "," : "", i,
                             i > 1 && chain ? "${{ steps.s0.result }}" : "");
                p += i && chain ? sprintf(p, ",\"needs\":[\"s%zu\"]}", i - 1) : sprintf(p, "}");
        }
        p += sprintf(p, "]%s}", tail);
        *len = (size_t)(p - s);
        return s;
}

TEST(workflow, twenty_thousand_steps)
{
        struct workflow *w = NULL;
        struct err e = {0};
        size_t len;
        char *s = many_steps(WORKFLOW_STEPS_MAX, true, "", &len);

        CHECK_INT(workflow_parse(s, len, &w, &e), 0);
        CHECK_INT(w->n_steps, WORKFLOW_STEPS_MAX);
        CHECK(workflow_step(w, "s19999") == &w->steps[19999]);
        workflow_free(w);
        free(s);
}

/* More mentioned steps than one batch of the reference check holds. */
TEST(workflow, many_far_references)
{
        char *s = malloc(200000), *p = s;
        struct workflow *w = NULL;
        struct err e = {0};

        CHECK(s != NULL);
        p += sprintf(p, "steps:\n");
        for (int i = 0; i < 500; i++) {
                p += sprintf(p, "- id: s%d\n  run: x %s", i, i > 1 ? "" : "\n");
                if (i > 1)
                        p += sprintf(p, "${{ steps.s%d.result }}\n", i / 2);
                if (i)
                        p += sprintf(p, "  needs: s%d\n", i - 1);
        }
        CHECK_INT(workflow_parse(s, strlen(s), &w, &e), 0);
        workflow_free(w);
        /* A step beside the chain, mentioned from its end. */
        sprintf(p, "- {id: side, run: x}\n- {id: end, run: 'x ${{ steps.side.result }} ${{ steps.s3.result "
                   "}}', needs: s499}\n");
        w = NULL;
        CHECK_INT(workflow_parse(s, strlen(s), &w, &e), -E_INVAL);
        CHECK(strstr(e.msg, "step \"end\" mentions \"side\"") != NULL);
        free(s);
}

TEST(workflow, too_large_is_refused)
{
        struct workflow *w = NULL;
        struct err e = {0};
        size_t len = (size_t)100 << 20;
        char *s = malloc(len);

        CHECK(s != NULL);
        memset(s, ' ', len);
        CHECK_INT(workflow_parse(s, len, &w, &e), -E_TOOBIG);
        CHECK(strstr(e.msg, "104857600 bytes") && strstr(e.msg, "16777216"));
        free(s);
        s = many_steps(WORKFLOW_STEPS_MAX + 1, false, "", &len);
        CHECK_INT(workflow_parse(s, len, &w, &e), -E_TOOBIG);
        CHECK(strstr(e.msg, "20001 steps, at most 20000") && e.line == 1);
        free(s);
        s = many_steps(WORKFLOW_STEPS_MAX, false, ",\"finally\":[{\"run\":\"x\"}]", &len);
        CHECK_INT(workflow_parse(s, len, &w, &e), -E_TOOBIG);
        free(s);
}

TEST(workflow, a_million_steps_are_refused_at_a_glance)
{
        static const char step[] = "- run: x\n";
        struct workflow *w = NULL;
        struct err e = {0};
        size_t n = strlen(step), steps = 1000000;
        char *s = malloc(steps * n + 8);

        CHECK(s != NULL);
        memcpy(s, "steps:\n", 7);
        for (size_t i = 0; i < steps; i++)
                memcpy(s + 7 + i * n, step, n);
        CHECK_INT(workflow_parse(s, 7 + steps * n, &w, &e), -E_TOOBIG);
        CHECK(strstr(e.msg, "1000000 steps") != NULL);
        free(s);
}

/* What looks like many steps but is the text of one. */
TEST(workflow, a_long_list_in_a_command_is_no_list_of_steps)
{
        char *s = malloc(1 << 20), *p = s;
        struct workflow *w = NULL;
        struct err e = {0};

        CHECK(s != NULL);
        p += sprintf(p, "steps:\n# first\n\n- id: a\n  run: |\n");
        for (int i = 0; i < 25000; i++)
                p += sprintf(p, "    - item %d\n", i);
        p += sprintf(p, "- id: b\n  run: x\n");
        CHECK_INT(workflow_parse(s, (size_t)(p - s), &w, &e), 0);
        CHECK_INT(w->n_steps, 2);
        workflow_free(w);
        free(s);
}

TEST(workflow, too_many_needs_are_refused)
{
        struct workflow *w = NULL;
        struct err e = {0};
        char *s = malloc(300000), *p = s;

        CHECK(s != NULL);
        p += sprintf(p,
                     "{\"steps\":[{\"id\":\"a\",\"run\":\"x\"},{\"id\":\"b\",\"run\":\"x\",\"needs\":[\"a\"");
        for (size_t i = 0; i < STEP_NEEDS_MAX; i++)
                p += sprintf(p, ",\"a\"");
        sprintf(p, "]}]}");
        CHECK_INT(workflow_parse(s, strlen(s), &w, &e), -E_INVAL);
        CHECK(strstr(e.msg, "at most 10000") != NULL);
        free(s);
}

/* ---- the founding document's shape ---- */

static char *read_file(const char *path)
{
        FILE *f = fopen(path, "r");
        char *s = calloc(1, 65536);

        if (!f || !s)
                test_fail(__FILE__, __LINE__, "cannot read %s (tests run in the project's folder)", path);
        CHECK(fread(s, 1, 65535, f) > 0);
        fclose(f);
        return s;
}

TEST(operation, founding_document)
{
        char *text = read_file("tests/data/seed-operation.json");
        struct workflow *w = parse(text);

        CHECK_STR(w->name, "Full-stack feature deployment");
        CHECK_INT(w->n_steps, 4);
        CHECK_STR(w->steps[0].id, "1");
        CHECK_STR(w->steps[0].tool, "cursor.prompt");
        CHECK_STR(w->steps[0].agent, "A");
        check_json(w->steps[0].with,
                   "{\"action\":\"create-ui-component\",\"inputs\":{\"spec\":\"feature-spec-123\"}}");
        CHECK_STR(w->steps[1].tool, "claude-code.prompt");
        CHECK_STR(w->steps[2].tool, "gemini.prompt");
        CHECK_STR(w->steps[3].tool, "zai.chat");
        CHECK_INT(w->steps[3].n_needs, 3);
        CHECK(w->steps[3].needs[0] == 0 && w->steps[3].needs[2] == 2);
        CHECK(w->steps[3].fail_fast && w->steps[3].retry.limit == 0);
        workflow_free(w);
        free(text);
}

TEST(operation, yaml_and_other_platforms)
{
        struct workflow *w = parse("id: op-1\n"
                                   "workflow:\n"
                                   "- {platform: jules, action: a}\n"
                                   "- {platform: codex, action: a, dependencies: [1]}\n"
                                   "- {step: last, platform: my-tool, inputs: {x: \"${{ steps.1.outputs.text "
                                   "}}\"}, dependencies: [2]}\n");

        CHECK_STR(w->name, "op-1");
        CHECK_STR(w->steps[0].tool, "jules.session");
        CHECK_STR(w->steps[1].tool, "codex.prompt");
        CHECK_STR(w->steps[2].tool, "my-tool.prompt");
        CHECK_STR(w->steps[2].id, "last");
        check_json(w->steps[0].with, "{\"action\":\"a\",\"inputs\":{}}");
        workflow_free(w);
}

TEST(operation, mistakes)
{
        static const struct {
                const char *text;
                int line, col;
                const char *says;
        } t[] = {
                {"workflow: []\n", 1, 11, "no steps"},
                {"workflow:\n- {platform: cursor, agnet: A}\n", 2, 22, "did you mean \"agent\"?"},
                {"workflow:\n- {action: a}\n", 2, 3, "no \"platform\""},
                {"agents: [Alice]\nworkflow:\n- {platform: cursor, agent: Alcie}\n", 3, 29,
                 "did you mean \"Alice\"?"},
                {"platforms: [zai]\nworkflow:\n- {platform: cursor}\n", 3, 14,
                 "not in the operation's \"platforms\""},
                {"workflow:\n- {step: 1, platform: cursor, dependencies: [2]}\n", 2, 46,
                 "unknown step \"2\""},
                {"workflow:\n- {step: 1, platform: a, dependencies: [2]}\n- {step: 2, platform: a, "
                 "dependencies: [1]}\n",
                 2, 3, "cycle"},
                {"workflow:\n- {step: 1, platform: a}\n- {step: 1, platform: a}\n", 3, 10, "already"},
                {"workflow:\n- {platform: a, inputs: [1]}\n", 2, 25, "expected a map"},
                {"agents: A\nworkflow:\n- {platform: a}\n", 1, 9, "list of names"},
        };

        for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
                struct workflow *w = NULL;
                struct err e = {0};

                if (workflow_parse(t[i].text, strlen(t[i].text), &w, &e) != -E_INVAL || e.line != t[i].line ||
                    e.col != t[i].col || !strstr(e.msg, t[i].says))
                        test_fail(__FILE__, __LINE__, "%s: got %d:%d %s", t[i].text, e.line, e.col, e.msg);
        }
}

/* ---- memory ---- */

static int parse_again(void *arg)
{
        struct workflow *w = NULL;
        struct err e;
        const char *text = arg;
        int rc = workflow_parse(text, strlen(text), &w, &e);

        workflow_free(rc ? NULL : w);
        return rc;
}

TEST(workflow, survives_each_allocation_failing)
{
        mem_install_hooks();
        test_each_alloc_fails(parse_again, (void *)contract);
        test_each_alloc_fails(
                parse_again,
                "inputs: {a: {options: [x], default: x, description: d}}\nenv: {A: b}\noutputs: {o: \"${{ "
                "steps.c.result }}\"}\n"
                "steps:\n- {id: a, run: x, shell: sh, matrix: {k: [1], include: [{z: 1}]}, stdin: \"${{ "
                "matrix.k }}\", agent: "
                "\"${{ inputs.a }}\", runs-on: a=b}\n- {id: b, run: x, needs: a}\n- {id: c, needs: b, run: "
                "\"${{ steps.a.result }}\", "
                "concurrency: {group: g}, for-each: [1, 2]}\nfinally:\n- {run: x, env: {B: c}}\n");
        test_each_alloc_fails(parse_again, "steps:\n- {uses: process.exec, with: {argv: [a, 5, \"${{ run.id "
                                           "}}\"], cwd: x, env: {A: 1}}}\n");
        test_each_alloc_fails(
                parse_again,
                "{\"name\":\"o\",\"agents\":[\"A\"],\"workflow\":[{\"step\":1,\"agent\":\"A\",\"platform\":"
                "\"p\",\"action\":"
                "\"x\",\"inputs\":{\"a\":1}},{\"step\":2,\"platform\":\"zai\",\"dependencies\":[1]}]}");
}
