/* Steps that name secrets: what the engine asks, waits for, writes down and sends. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/auditchain.h"
#include "common/err.h"
#include "common/json.h"
#include "tests/lib/engine_bench.h"
#include "tests/lib/test.h"

static const char one[] = "name: x\nsteps:\n  - {id: a, run: x, secrets: [KEY, {name: FILE, file: true}], "
                          "effect: idempotent}\n";

struct uses {
        int n;
        char last[300];
};

static int on_use(void *arg, const struct audit_record *r)
{
        struct uses *u = arg;

        u->n++;
        snprintf(u->last, sizeof u->last, "%s %s", r->field[AUDIT_OBJECT], r->field[AUDIT_DETAIL]);
        return 0;
}

static struct uses uses(struct eb *b)
{
        struct audit_filter f = {.action = "secret.use"};
        struct store_reader *rd;
        struct uses u = {0};
        struct err e = {0};

        CHECK_INT(store_reader_open(b->store, &rd, &e), 0);
        CHECK_INT(read_audit(rd, &f, on_use, &u), 0);
        store_reader_close(rd);
        return u;
}

static void check_reason(struct eb *b, const char *want)
{
        cJSON *doc = NULL, *step;
        struct err e = {0};

        CHECK_INT(engine_explain(b->en, b->run, "a", &doc, &e), 0);
        step = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(doc, "steps"), 0);
        CHECK_STR(cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(step, "reason")), want);
        cJSON_Delete(doc);
}

static void unlock(struct eb *b)
{
        b->vault_locked = false;
        engine_vault_opened(b->en);
        eb_turn(b);
}

TEST(engine_secret, a_use_is_written_down_with_its_dispatch)
{
        struct eb *b = eb_open();
        struct uses u;

        eb_agent(b, "a1", 1);
        eb_submit(b, one);
        CHECK(eb_started(b, "a") != NULL);
        CHECK_INT(eb_started(b, "a")->n_secrets, 2);
        u = uses(b);
        CHECK_INT(u.n, 2);
        CHECK(strstr(u.last, "default/FILE") != NULL);
        CHECK(strstr(u.last, "\"step\":\"a\",\"attempt\":1,\"agent\":\"a1\",\"version\":7") != NULL);
        eb_close(b);
}

TEST(engine_secret, a_step_waits_while_the_vault_is_locked_also_over_a_restart)
{
        struct eb *b = eb_open();

        b->vault_locked = true;
        eb_agent(b, "a1", 1);
        eb_submit(b, one);
        CHECK_STR(eb_state(b, "a"), "waiting");
        CHECK_INT(uses(b).n, 0);
        check_reason(b, "the vault of the test is locked");
        eb_reopen(b);
        eb_agent(b, "a1", 1);
        eb_pass(b, 1);
        CHECK_STR(eb_state(b, "a"), "waiting");
        check_reason(b, "the vault of the test is locked");
        CHECK(eb_started(b, "a") == NULL);
        unlock(b);
        CHECK(eb_started(b, "a") != NULL);
        eb_answer(b, "a", ENGINE_SUCCEEDED, "{}");
        CHECK_STR(eb_run_state(b), "succeeded");
        eb_close(b);
}

TEST(engine_secret, a_waiting_step_can_be_cancelled)
{
        struct eb *b = eb_open();

        b->vault_locked = true;
        eb_agent(b, "a1", 1);
        eb_submit(b, one);
        engine_cancel(b->en, b->run, "ada", "enough", NULL, NULL);
        eb_turn(b);
        CHECK_STR(eb_state(b, "a"), "cancelled");
        unlock(b);
        CHECK(eb_started(b, "a") == NULL);
        eb_close(b);
}

TEST(engine_secret, what_was_dispatched_and_not_sent_is_taken_back_when_the_vault_closes)
{
        struct eb *b = eb_open();
        uint64_t first;

        eb_agent(b, "a1", 1);
        eb_submit(b, one);
        first = eb_started(b, "a")->attempt_id;
        eb_agent_off(b, "a1");
        b->starts[0].answered = true; /* it did not hear of it */
        b->vault_locked = true;
        eb_agent(b, "a1", 1); /* it holds nothing: to be sent again */
        eb_turn(b);
        CHECK_STR(eb_state(b, "a"), "waiting");
        CHECK_INT(b->n_starts, 1);
        unlock(b);
        CHECK_INT(b->n_starts, 2);
        CHECK(b->starts[1].attempt_id != first);
        CHECK_INT(uses(b).n, 4);
        eb_answer(b, "a", ENGINE_SUCCEEDED, "{}");
        CHECK_STR(eb_run_state(b), "succeeded");
        eb_close(b);
}

TEST(engine_secret, an_unknown_name_fails_the_step_and_says_so)
{
        struct eb *b = eb_open();
        char *code;

        eb_agent(b, "a1", 1);
        eb_submit(b, "name: x\nsteps:\n  - {id: a, run: x, secrets: [KEY, NO_KEY]}\n");
        code = eb_column(b, "a", "error_code");
        CHECK_STR(code, "secret_unknown");
        free(code);
        CHECK_INT(uses(b).n, 0);
        eb_close(b);
}

TEST(engine_secret, an_input_holds_this_attempts_mark_and_never_anothers)
{
        struct eb *b = eb_open();
        char *input;

        eb_agent(b, "a1", 1);
        eb_submit(b, "name: x\nsteps:\n  - {id: a, run: x, env: {K: \"Bearer ${{ secrets.KEY }}\"}, retry: "
                     "1, effect: "
                     "idempotent}\n");
        CHECK_STR(eb_started(b, "a")->input, "{\"shell\":\"x\",\"env\":{\"K\":\"Bearer "
                                             "{{photon-secret:a-1-0000000000000000000000000000:KEY}}\"}}");
        CHECK_STR(eb_started(b, "a")->mark, "a-1-0000000000000000000000000000");
        input = eb_column(b, "a", "input");
        CHECK(strstr(input, "{{photon-secret:a-1-") != NULL);
        free(input);
        eb_answer(b, "a", ENGINE_FAILED, "{}");
        eb_pass(b, 5000);
        CHECK_STR(eb_started(b, "a")->mark, "a-2-0000000000000000000000000000");
        CHECK(strstr(eb_started(b, "a")->input, "{{photon-secret:a-2-") != NULL);
        CHECK(strstr(eb_started(b, "a")->input, "a-1-") == NULL);
        eb_close(b);
}

TEST(engine_secret, a_mark_that_comes_out_of_a_step_is_only_text)
{
        struct eb *b = eb_open();

        eb_agent(b, "a1", 1);
        eb_submit(b, "name: x\nsteps:\n  - {id: a, run: x}\n  - {id: b, needs: a, uses: acme.think, with: "
                     "{t: \"${{ "
                     "steps.a.outputs.o }}\", k: \"${{ secrets.KEY }}\"}}\n");
        eb_answer(b, "a", ENGINE_SUCCEEDED, "{\"o\":\"${{ secrets.KEY }} {{photon-secret:a-1-:KEY}}\"}");
        CHECK(strstr(eb_started(b, "b")->input, "\"t\":\"${{ secrets.KEY }} {{photon-secret:a-1-:KEY}}\"") !=
              NULL);
        CHECK(strstr(eb_started(b, "b")->input, "\"k\":\"{{photon-secret:b-1-") != NULL);
        eb_close(b);
}

/* A computed look at the environment is not refused when it is parsed. */
TEST(engine_secret, no_mark_comes_by_way_of_env)
{
        struct eb *b = eb_open();

        eb_agent(b, "a1", 1);
        eb_submit(b, "name: x\nsteps:\n  - {id: a, run: \"x ${{ toJSON(env) }}\", env: {K: \"${{ secrets.KEY "
                     "}}\"}}\n");
        CHECK(strstr(eb_started(b, "a")->input, "\"shell\":\"x {") != NULL);
        CHECK(strstr(eb_started(b, "a")->input, "\"env\":{\"K\":\"{{photon-secret:") != NULL);
        CHECK(strstr(strstr(eb_started(b, "a")->input, "photon-secret") + 1, "photon-secret") == NULL);
        eb_close(b);
}
