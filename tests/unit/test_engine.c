/* What the engine promises, each in one sentence; faults at random are in tests/sim. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/auditchain.h"
#include "common/buf.h"
#include "common/err.h"
#include "common/json.h"
#include "common/mem.h"
#include "tests/lib/engine_bench.h"
#include "tests/lib/test.h"

static void on_answer(void *arg, int rc, const struct err *e)
{
        struct eb *b = arg;

        b->answer_rc = rc;
        snprintf(b->answer_msg, sizeof b->answer_msg, "%s", e ? e->msg : "");
}

TEST(engine, nothing_is_sent_before_it_is_durable)
{
        struct eb *b = eb_open();
        struct engine_submit s = {.def_text = "name: x\nsteps: [{id: a, run: x}]", .kind = "run"};

        eb_agent(b, "a1", 4);
        s.def_len = strlen(s.def_text);
        CHECK_INT(workflow_parse(s.def_text, s.def_len, &s.workflow, NULL), 0);
        engine_submit(b->en, &s, NULL, NULL, NULL);
        engine_flush(b->en);
        CHECK_INT(b->n_starts, 0);
        store_pump(b->store);
        CHECK_INT(b->n_starts, 1);
        eb_close(b);
}

TEST(engine, steps_run_in_order_of_needs_and_outputs_flow)
{
        struct eb *b = eb_open();

        eb_agent(b, "a1", 4);
        eb_submit(b, "name: x\nsteps:\n"
                     "  - {id: a, uses: photon.echo, with: {v: 1}}\n"
                     "  - {id: b, needs: a, uses: photon.echo, with: {v: \"${{ steps.a.outputs.v }}\", t: "
                     "\"v=${{ steps.a.outputs.v }}\"}}\n");
        CHECK(eb_started(b, "b") == NULL);
        eb_answer(b, "a", ENGINE_SUCCEEDED, "{\"v\":42}");
        CHECK(eb_started(b, "b") != NULL);
        CHECK_STR(eb_started(b, "b")->input, "{\"v\":42,\"t\":\"v=42\"}");
        eb_answer(b, "b", ENGINE_SUCCEEDED, "{}");
        CHECK_STR(eb_run_state(b), "succeeded");
        CHECK(b->finished && b->finished_state == RUN_SUCCEEDED);
        CHECK_INT(b->acks, 2);
        eb_close(b);
}

TEST(engine, output_text_is_never_an_expression)
{
        struct eb *b = eb_open();

        eb_agent(b, "a1", 4);
        eb_submit(b, "name: x\nsteps:\n  - {id: a, run: x}\n"
                     "  - {id: b, needs: a, uses: photon.echo, with: {v: \"${{ steps.a.outputs.t }}\"}}\n");
        eb_answer(b, "a", ENGINE_SUCCEEDED, "{\"t\":\"${{ inputs.secret }}\"}");
        CHECK_STR(eb_started(b, "b")->input, "{\"v\":\"${{ inputs.secret }}\"}");
        eb_close(b);
}

TEST(engine, failed_parent_skips_children_and_fails_the_run)
{
        struct eb *b = eb_open();

        eb_agent(b, "a1", 4);
        eb_submit(b, "name: x\nsteps:\n  - {id: a, run: x}\n  - {id: b, needs: a, run: x}\n  - {id: c, "
                     "needs: b, run: x}\n"
                     "  - {id: d, needs: b, if: \"failure()\", run: x}\n  - {id: e, needs: b, if: "
                     "\"always()\", run: x}\n");
        eb_answer(b, "a", ENGINE_FAILED, NULL);
        CHECK_STR(eb_state(b, "b"), "skipped");
        CHECK_STR(eb_state(b, "c"), "skipped");
        CHECK_STR(eb_state(b, "d"), "dispatched");
        CHECK_STR(eb_state(b, "e"), "dispatched");
        eb_answer(b, "d", ENGINE_SUCCEEDED, NULL);
        eb_answer(b, "e", ENGINE_SUCCEEDED, NULL);
        CHECK_STR(eb_run_state(b), "failed");
        eb_close(b);
}

TEST(engine, skipping_a_very_long_chain_does_not_recurse)
{
        struct eb *b = eb_open();
        char *text = malloc(2000000), *p = text;

        CHECK(text != NULL);
        p += sprintf(p, "name: x\nsteps:\n  - {id: s0, run: x}\n");
        for (int i = 1; i < 20000; i++)
                p += sprintf(p, "  - {id: s%d, needs: s%d, run: x}\n", i, i - 1);
        eb_agent(b, "a1", 4);
        eb_submit(b, text);
        eb_answer(b, "s0", ENGINE_FAILED, NULL);
        CHECK_STR(eb_state(b, "s19999"), "skipped");
        CHECK_STR(eb_run_state(b), "failed");
        free(text);
        eb_close(b);
}

TEST(engine, continue_on_error_counts_as_success)
{
        struct eb *b = eb_open();

        eb_agent(b, "a1", 4);
        eb_submit(b, "name: x\nsteps:\n  - {id: a, run: x, continue-on-error: true}\n"
                     "  - {id: b, needs: a, uses: photon.echo, with: {o: \"${{ steps.a.outcome }}\", r: "
                     "\"${{ steps.a.result }}\"}}\n");
        eb_answer(b, "a", ENGINE_FAILED, NULL);
        CHECK_STR(eb_started(b, "b")->input, "{\"o\":\"failure\",\"r\":\"success\"}");
        eb_answer(b, "b", ENGINE_SUCCEEDED, NULL);
        CHECK_STR(eb_run_state(b), "succeeded");
        eb_close(b);
}

TEST(engine, retry_waits_its_backoff_and_gives_up_at_its_limit)
{
        struct eb *b = eb_open();

        eb_agent(b, "a1", 4);
        eb_submit(b, "name: x\nsteps:\n  - {id: a, run: x, retry: {limit: 2, backoff: {duration: 10s, "
                     "factor: 2, jitter: 0}}}\n");
        eb_answer(b, "a", ENGINE_FAILED, NULL);
        CHECK_STR(eb_state(b, "a"), "waiting");
        eb_pass(b, 9000);
        CHECK(eb_started(b, "a") == NULL);
        eb_pass(b, 1001);
        eb_answer(b, "a", ENGINE_FAILED, NULL);
        eb_pass(b, 10001);
        CHECK(eb_started(b, "a") == NULL);
        eb_reopen(b); /* the delay and the count survive */
        eb_agent(b, "a1", 4);
        eb_pass(b, 10001);
        eb_answer(b, "a", ENGINE_FAILED, NULL);
        CHECK_STR(eb_state(b, "a"), "failed");
        CHECK_STR(eb_run_state(b), "failed");
        eb_close(b);
}

TEST(engine, matrix_and_for_each_fan_out_and_collect)
{
        struct eb *b = eb_open();
        char *out;

        eb_agent(b, "a1", 8);
        eb_submit(b, "name: x\noutputs: {all: \"${{ toJSON(steps.m.outputs) }}\"}\nsteps:\n  - {id: list, "
                     "run: x}\n"
                     "  - {id: m, needs: list, for-each: \"${{ fromJSON(steps.list.outputs.items) }}\", "
                     "uses: photon.echo, with: {v: \"${{ each.item }}\", i: \"${{ each.index }}\"}}\n"
                     "  - {id: z, needs: m, uses: photon.echo, with: {second: \"${{ steps.m.outputs[1].v "
                     "}}\"}}\n");
        eb_answer(b, "list", ENGINE_SUCCEEDED, "{\"items\":\"[\\\"x\\\",\\\"y\\\"]\"}");
        CHECK_STR(eb_started(b, "m[0]")->input, "{\"v\":\"x\",\"i\":0}");
        eb_answer(b, "m[1]", ENGINE_SUCCEEDED, "{\"v\":\"Y\"}");
        CHECK(eb_started(b, "z") == NULL);
        eb_answer(b, "m[0]", ENGINE_SUCCEEDED, "{\"v\":\"X\"}");
        CHECK_STR(eb_started(b, "z")->input, "{\"second\":\"Y\"}");
        eb_answer(b, "z", ENGINE_SUCCEEDED, NULL);
        CHECK_STR(eb_run_state(b), "succeeded");
        out = eb_column(b, "m[1]", "outputs");
        CHECK_STR(out, "{\"v\":\"Y\"}");
        free(out);
        eb_close(b);
}

TEST(engine, max_parallel_and_fail_fast_hold)
{
        struct eb *b = eb_open();

        eb_agent(b, "a1", 8);
        eb_submit(b, "name: x\nsteps:\n  - {id: m, matrix: {n: [1, 2, 3, 4]}, max-parallel: 2, run: x}\n");
        CHECK(eb_started(b, "m[1]") && !eb_started(b, "m[2]"));
        eb_answer(b, "m[0]", ENGINE_SUCCEEDED, NULL);
        CHECK(eb_started(b, "m[2]") && !eb_started(b, "m[3]"));
        eb_answer(b, "m[2]", ENGINE_FAILED, NULL);
        CHECK(eb_started(b, "m[1]")->cancelled);
        CHECK_STR(eb_state(b, "m[3]"), "cancelled");
        eb_answer(b, "m[1]", ENGINE_CANCELLED, NULL);
        CHECK_STR(eb_run_state(b), "failed");
        eb_close(b);
}

TEST(engine, concurrency_group_limits_steps_across_runs)
{
        struct eb *b = eb_open();

        eb_agent(b, "a1", 8);
        eb_submit(b, "name: x\nsteps:\n  - {id: a, run: x, concurrency: {group: g, limit: 1}}\n  - {id: b, "
                     "run: x, concurrency: {group: g, limit: 1}}\n");
        CHECK(eb_started(b, "a") && !eb_started(b, "b"));
        eb_answer(b, "a", ENGINE_SUCCEEDED, NULL);
        eb_answer(b, "b", ENGINE_SUCCEEDED, NULL);
        CHECK_STR(eb_run_state(b), "succeeded");
        eb_close(b);
}

TEST(engine, run_concurrency_queues_and_then_starts_the_next)
{
        struct eb *b = eb_open();
        const char *wf = "name: x\nconcurrency: {group: g, limit: 1}\nsteps:\n  - {id: a, run: x}\n";

        eb_agent(b, "a1", 8);
        eb_submit(b, wf);
        eb_submit(b, wf);
        CHECK_STR(eb_run_state(b), "queued");
        CHECK_INT(b->n_starts, 1);
        eb_answer(b, "a", ENGINE_SUCCEEDED, NULL);
        CHECK_STR(eb_run_state(b), "running");
        eb_answer(b, "a", ENGINE_SUCCEEDED, NULL);
        CHECK_STR(eb_run_state(b), "succeeded");
        eb_close(b);
}

TEST(engine, cancel_stops_what_runs_and_lets_finally_run)
{
        struct eb *b = eb_open();

        eb_agent(b, "a1", 1);
        eb_submit(b, "name: x\nsteps:\n  - {id: a, run: x}\n  - {id: b, run: x}\n  - {id: c, needs: a, run: "
                     "x}\nfinally:\n  - {id: f, run: x}\n");
        engine_cancel(b->en, b->run, "ann", "test", on_answer, b);
        eb_turn(b);
        CHECK(eb_started(b, "a")->cancelled);
        CHECK_STR(eb_state(b, "b"), "cancelled");
        eb_answer(b, "a", ENGINE_CANCELLED, NULL);
        CHECK_STR(eb_state(b, "c"), "cancelled");
        eb_answer(b, "f", ENGINE_SUCCEEDED, NULL);
        CHECK_STR(eb_run_state(b), "cancelled");
        engine_cancel(b->en, b->run, "ann", "again", on_answer, b);
        CHECK_INT(b->answer_rc, -E_NOENT);
        eb_close(b);
}

TEST(engine, a_cancel_survives_a_restart_of_the_hub)
{
        struct eb *b = eb_open();

        eb_agent(b, "a1", 1);
        eb_submit(b, "name: x\nsteps:\n  - {id: a, run: x}\n");
        eb_agent_off(b, "a1");
        engine_cancel(b->en, b->run, "ann", "test", on_answer, b);
        eb_turn(b);
        eb_reopen(b);
        CHECK_INT(engine_held(b->en, "a1", eb_started(b, "a")->attempt_id), ENGINE_CANCEL);
        eb_agent(b, "a1", 1);
        eb_answer(b, "a", ENGINE_CANCELLED, NULL);
        CHECK_STR(eb_run_state(b), "cancelled");
        eb_close(b);
}

TEST(engine, lost_agent_makes_at_most_once_unknown_and_repeats_idempotent_elsewhere)
{
        struct eb *b = eb_open();
        char *agent;

        eb_agent(b, "a1", 4);
        eb_submit(b,
                  "name: x\nsteps:\n  - {id: once, run: x}\n  - {id: again, run: x, effect: idempotent}\n");
        eb_agent(b, "a2", 4);
        eb_agent_off(b, "a1");
        eb_pass(b, 1001);
        CHECK_STR(eb_state(b, "once"), "unknown");
        agent = eb_column(b, "again", "agent");
        CHECK_STR(agent, "a2");
        free(agent);
        CHECK_STR(eb_run_state(b), "running");
        eb_answer(b, "again", ENGINE_SUCCEEDED, NULL);
        CHECK_STR(eb_run_state(b), "waiting");
        engine_resolve(b->en, b->run, &(struct engine_actor){.by = "ann"}, "once", "nonsense", on_answer, b);
        CHECK_INT(b->answer_rc, -E_INVAL);
        engine_resolve(b->en, b->run, &(struct engine_actor){.by = "ann"}, "once", "succeeded", on_answer, b);
        eb_turn(b);
        CHECK_INT(b->answer_rc, 0);
        CHECK_STR(eb_run_state(b), "succeeded");
        eb_close(b);
}

TEST(engine, an_agent_that_comes_back_settles_the_unknown_step)
{
        struct eb *b = eb_open();

        eb_agent(b, "a1", 4);
        eb_submit(b, "name: x\nsteps:\n  - {id: once, run: x}\n");
        eb_agent_off(b, "a1");
        eb_pass(b, 1001);
        CHECK_STR(eb_state(b, "once"), "unknown");
        eb_agent(b, "a1", 4);
        eb_answer(b, "once", ENGINE_SUCCEEDED, NULL);
        CHECK_STR(eb_state(b, "once"), "succeeded");
        CHECK_STR(eb_run_state(b), "succeeded");
        eb_close(b);
}

/* The data of a hub goes back to an older copy: the agent did the step meanwhile, and forgot it. */
TEST(engine, a_restored_hub_repeats_no_step_that_an_agent_is_done_with)
{
        struct eb *b = eb_open();
        uint64_t before;

        eb_agent(b, "a1", 4);
        eb_submit(b, "name: x\nsteps:\n  - {id: once, run: x}\n  - {id: again, run: x, effect: idempotent}\n"
                     "  - {id: later, run: x}\n");
        before = eb_started(b, "again")->attempt_id;
        CHECK(eb_started(b, "once")->attempt_id < before && eb_started(b, "later")->attempt_id > before);
        eb_reopen(b);
        for (int i = 0; i < b->n_starts; i++)
                b->starts[i].answered = true;
        b->seen = before;
        eb_agent(b, "a1", 4);
        CHECK_STR(eb_state(b, "once"), "unknown");
        CHECK(!eb_started(b, "once"));
        CHECK(eb_started(b, "again")->attempt_id > before);
        CHECK(eb_started(b, "later") != NULL); /* it never came there: sent again */
        CHECK_STR(eb_state(b, "later"), "dispatched");
        eb_close(b);
}

TEST(engine, a_calls_input_is_stored_once_and_comes_back_after_a_restart)
{
        static const char given[] = "{\"path\":\"a\",\"content\":\"${{ 1 + 1 }} \\\"x\\\" \\u0007\"}";
        struct eb *b = eb_open();
        char *stored;

        eb_agent(b, "a1", 1);
        eb_submit_call(
                b,
                "{\"name\":\"file.write\",\"inputs\":{\"input\":{\"type\":\"object\"}},\"steps\":[{"
                "\"id\":\"call\",\"uses\":\"process.exec\",\"with\":{\"path\":\"${{ inputs.input['path'] "
                "}}\",\"content\":\"${{ inputs.input['content'] }}\"}}]}",
                "{\"input\":{\"path\":\"a\",\"content\":\"${{ 1 + 1 }} \\\"x\\\" \\u0007\"}}");
        CHECK_STR(eb_started(b, "call")->input, given);
        stored = eb_column(b, "call", "input");
        CHECK(!stored || !*stored);
        free(stored);
        eb_started(b, "call")->answered = true;
        eb_reopen(b);
        eb_agent(b, "a1", 1); /* it never came there: sent again */
        CHECK_STR(eb_started(b, "call")->input, given);
        eb_close(b);
}

TEST(engine, attempt_ids_of_a_restarted_hub_are_ahead_of_all_before)
{
        struct eb *b = eb_open();

        eb_agent(b, "a1", 4);
        b->now_ms += 3600000;
        eb_reopen(b);
        eb_agent(b, "a1", 4);
        eb_submit(b, "name: x\nsteps:\n  - {id: a, run: x}\n");
        CHECK(eb_started(b, "a")->attempt_id > 1790000000000000u + (uint64_t)b->now_ms * 1000);
        eb_close(b);
}

static int64_t when(struct eb *b, const char *step, const char *column)
{
        char *text = eb_column(b, step, column);
        int64_t us = strtoll(text, NULL, 10);

        free(text);
        return us;
}

/* Ends a step as an agent whose clock is off would. */
static void answer_at(struct eb *b, const char *step, int64_t started_us, int64_t finished_us)
{
        struct eb_start *s = eb_started(b, step);
        struct engine_result r = {.outcome = ENGINE_SUCCEEDED,
                                  .sync_fd = -1,
                                  .attempt_id = s->attempt_id,
                                  .started_us = started_us,
                                  .finished_us = finished_us};

        s->answered = true;
        engine_on_finished(b->en, s->agent, &r, NULL, NULL);
        eb_turn(b);
}

TEST(engine, a_clock_that_is_off_does_not_turn_cause_and_effect_round)
{
        struct eb *b = eb_open();
        int64_t begin = clock_now_us(&b->clock), middle, end;

        eb_agent(b, "a1", 4);
        eb_submit(b, "name: x\nsteps:\n  - {id: a, run: x}\n  - {id: b, run: x, needs: [a]}\n");
        eb_pass(b, 100);
        middle = clock_now_us(&b->clock);
        answer_at(b, "a", begin + 70000, middle + 50000); /* ahead: it took 80 ms */
        CHECK_INT(when(b, "a", "finished_us"), middle);
        CHECK_INT(when(b, "a", "started_us"), middle - 80000);
        eb_pass(b, 100);
        end = clock_now_us(&b->clock);
        answer_at(b, "b", begin, begin + 30000); /* behind: it took 30 ms */
        CHECK_INT(when(b, "b", "started_us"), middle);
        CHECK_INT(when(b, "b", "finished_us"), middle + 30000);
        CHECK(end > middle);
        eb_close(b);
}

static int on_audit(void *arg, const struct audit_record *a)
{
        struct buf *b = arg;

        return buf_printf(b, "%s %s %s;", a->field[AUDIT_ACTOR], a->action,
                          a->field[AUDIT_DETAIL] ? a->field[AUDIT_DETAIL] : "");
}

/* Who did what, of one action or of a prefix's. free it. */
static char *audited(struct eb *b, const char *action)
{
        struct audit_filter f = {.action = action};
        struct store_reader *rd;
        struct buf text;

        buf_init(&text, 0);
        CHECK_INT(store_reader_open(b->store, &rd, NULL), 0);
        CHECK_INT(read_audit(rd, &f, on_audit, &text), 0);
        store_reader_close(rd);
        CHECK_INT(buf_putc(&text, 0), 0);
        return (char *)text.data;
}

TEST(engine, what_an_agents_policy_answered_is_on_record_with_the_result)
{
        const struct engine_policy_answer said[] = {
                {true, "read", "Read", "Read a \"file\"", "ab", "policy", "questions.allow"},
                {false, "execute", "Bash", "rm -rf /", "cd", "mode", "deny"}};
        struct engine_result r = {
                .outcome = ENGINE_SUCCEEDED, .sync_fd = -1, .policy = said, .n_policy = 2, .policy_more = 7};
        struct eb *b = eb_open();
        struct eb_start *s;
        char *text;

        eb_agent(b, "a1", 1);
        eb_submit(b, "name: x\nsteps:\n  - {id: a, run: x}\n");
        s = eb_started(b, "a");
        r.attempt_id = s->attempt_id;
        for (int i = 0; i < 2; i++) { /* the second is a repeat, and says nothing new */
                engine_on_finished(b->en, s->agent, &r, NULL, NULL);
                eb_turn(b);
        }
        text = audited(b, "policy.allow");
        CHECK_STR(text,
                  "a1 policy.allow {\"step\":\"a\",\"action\":\"read\",\"tool\":\"Read\",\"title\":\"Read a "
                  "\\\"file\\\"\",\"arguments_sha256\":\"ab\",\"by\":\"policy\",\"reason\":\"questions."
                  "allow\"};");
        mem_free(text);
        text = audited(b, "policy.deny");
        CHECK(strstr(text, "rm -rf /") && strstr(text, "\"by\":\"mode\""));
        mem_free(text);
        text = audited(b, "policy.more");
        CHECK_STR(text, "a1 policy.more {\"step\":\"a\",\"answers\":\"7\"};");
        mem_free(text);
        eb_close(b);
}

TEST(engine, stale_results_are_acknowledged_and_change_nothing)
{
        struct eb *b = eb_open();
        struct engine_result r = {.outcome = ENGINE_FAILED, .sync_fd = -1};

        eb_agent(b, "a1", 4);
        eb_submit(b, "name: x\nsteps:\n  - {id: a, run: x}\n  - {id: b, run: x}\n");
        r.attempt_id = eb_started(b, "a")->attempt_id;
        eb_answer(b, "a", ENGINE_SUCCEEDED, NULL);
        engine_on_finished(b->en, "a1", &r, NULL, NULL);
        eb_turn(b);
        CHECK_STR(eb_state(b, "a"), "succeeded");
        CHECK_INT(b->acks, 2);
        r.attempt_id = eb_started(b, "b")->attempt_id;
        engine_on_finished(b->en, "somebody-else", &r, NULL, NULL);
        eb_turn(b);
        CHECK_STR(eb_state(b, "b"), "dispatched");
        eb_close(b);
}

TEST(engine, retry_of_a_failed_run_keeps_what_succeeded)
{
        struct eb *b = eb_open();

        eb_agent(b, "a1", 4);
        eb_submit(b, "name: x\nsteps:\n  - {id: a, run: x}\n  - {id: b, needs: a, uses: photon.echo, with: "
                     "{v: \"${{ steps.a.outputs.v }}\"}}\n  - {id: c, needs: b, run: x}\n");
        eb_answer(b, "a", ENGINE_SUCCEEDED, "{\"v\":7}");
        eb_answer(b, "b", ENGINE_FAILED, NULL);
        CHECK_STR(eb_run_state(b), "failed");
        engine_retry(b->en, b->run, &(struct engine_actor){.by = "ann"}, on_answer, b);
        eb_turn(b);
        CHECK_INT(b->answer_rc, 0);
        CHECK_INT(eb_attempts(b), 1); /* the attempt before is history, not gone */
        CHECK(eb_started(b, "a") == NULL);
        CHECK_STR(eb_started(b, "b")->input, "{\"v\":7}");
        eb_answer(b, "b", ENGINE_SUCCEEDED, NULL);
        eb_answer(b, "c", ENGINE_SUCCEEDED, NULL);
        CHECK_STR(eb_run_state(b), "succeeded");
        engine_retry(b->en, b->run, &(struct engine_actor){.by = "ann"}, on_answer, b);
        CHECK_INT(b->answer_rc, -E_STATE);
        eb_close(b);
}

TEST(engine, retry_of_a_failed_fan_out_runs_the_failed_instances)
{
        struct eb *b = eb_open();

        eb_agent(b, "a1", 8);
        eb_submit(b, "name: x\nsteps:\n  - {id: m, for-each: [1, 2, 3], fail-fast: false, run: x}\n  - {id: "
                     "n, needs: m, run: x}\n");
        eb_answer(b, "m[0]", ENGINE_SUCCEEDED, NULL);
        eb_answer(b, "m[1]", ENGINE_FAILED, NULL);
        eb_answer(b, "m[2]", ENGINE_FAILED, NULL);
        CHECK_STR(eb_run_state(b), "failed");
        engine_retry(b->en, b->run, &(struct engine_actor){.by = "ann"}, on_answer, b);
        eb_turn(b);
        CHECK_INT(b->answer_rc, 0);
        CHECK(!eb_started(b, "m[0]") && eb_started(b, "m[1]") && eb_started(b, "m[2]"));
        eb_answer(b, "m[1]", ENGINE_SUCCEEDED, NULL);
        eb_answer(b, "m[2]", ENGINE_SUCCEEDED, NULL);
        eb_answer(b, "n", ENGINE_SUCCEEDED, NULL);
        CHECK_STR(eb_run_state(b), "succeeded");
        eb_close(b);
}

/* continue-on-error: the instances' failure is seen, and does not spread; an empty list is a list. */
TEST(engine, fan_out_tells_its_outcome_and_its_outputs_are_a_list)
{
        struct eb *b = eb_open();

        eb_agent(b, "a1", 8);
        eb_submit(b, "name: x\nsteps:\n  - {id: m, for-each: [1, 2], fail-fast: false, continue-on-error: "
                     "true, run: x}\n"
                     "  - {id: e, for-each: [], run: x}\n"
                     "  - {id: n, needs: [m, e], uses: photon.echo, with: {t: \"${{ needs.m.result }} ${{ "
                     "needs.m.outcome }} "
                     "${{ toJSON(steps.e.outputs) }}\"}}\n  - {id: bad, run: x}\n");
        eb_answer(b, "m[0]", ENGINE_SUCCEEDED, NULL);
        eb_answer(b, "m[1]", ENGINE_FAILED, NULL);
        CHECK_STR(eb_started(b, "n")->input, "{\"t\":\"success failure []\"}");
        eb_answer(b, "n", ENGINE_SUCCEEDED, NULL);
        eb_answer(b, "bad", ENGINE_FAILED, NULL);
        engine_retry(b->en, b->run, &(struct engine_actor){.by = "ann"}, on_answer, b);
        eb_turn(b);
        eb_answer(b, "bad", ENGINE_SUCCEEDED, NULL);
        eb_answer(b, "m[1]", ENGINE_FAILED, NULL);
        CHECK_STR(eb_run_state(b), "succeeded");
        eb_close(b);
}

TEST(engine, labels_agents_and_policy_decide_placement_and_are_explained)
{
        struct eb *b = eb_open();
        cJSON *doc;
        char *text;
        struct err e;

        eb_agent(b, "a1", 1);
        eb_submit(b, "name: x\nsteps:\n  - {id: here, agent: a2, run: x}\n  - {id: zone, runs-on: {zone: "
                     "nowhere}, run: x}\n  - {id: denied, uses: file.write, with: {path: x}}\n  - {id: none, "
                     "uses: no.such, with: {}}\n");
        CHECK_INT(b->n_starts, 0);
        CHECK_INT(engine_explain(b->en, b->run, NULL, &doc, &e), 0);
        text = json_text(doc);
        CHECK(strstr(text, "is not the agent a2 that the step asks for"));
        CHECK(strstr(text, "has the label zone=a1, wanted is nowhere"));
        CHECK(strstr(text, "does not allow the tool file.write (its policy)"));
        CHECK(strstr(text, "does not have the tool no.such"));
        free(text);
        cJSON_Delete(doc);
        eb_agent(b, "a2", 1);
        CHECK(eb_started(b, "here") && !strcmp(eb_started(b, "here")->agent, "a2"));
        CHECK_INT(engine_explain(b->en, b->run, "no-such-step", &doc, &e), -E_NOENT);
        eb_close(b);
}

TEST(engine, load_spreads_over_agents_by_free_places)
{
        struct eb *b = eb_open();
        int on[3] = {0};

        eb_agent(b, "a1", 2);
        eb_agent(b, "a2", 4);
        eb_submit(b, "name: x\nsteps:\n  - {id: m, matrix: {n: [1, 2, 3, 4, 5, 6, 7, 8]}, run: x}\n");
        for (int i = 0; i < b->n_starts; i++)
                on[b->starts[i].agent[1] - '0']++;
        CHECK_INT(on[1], 2);
        CHECK_INT(on[2], 4);
        eb_close(b);
}

TEST(engine, priority_goes_first)
{
        struct eb *b = eb_open();

        eb_submit(b, "name: x\nsteps:\n  - {id: low, run: x}\n  - {id: high, run: x, priority: 10}\n");
        eb_agent(b, "a1", 1);
        CHECK(eb_started(b, "high") && !eb_started(b, "low"));
        eb_close(b);
}

TEST(engine, run_timeout_cancels_and_fails)
{
        struct eb *b = eb_open();
        char *state;

        eb_agent(b, "a1", 1);
        eb_submit(b, "name: x\ntimeout: 5s\nsteps:\n  - {id: a, run: x}\n");
        eb_pass(b, 5001);
        CHECK(eb_started(b, "a")->cancelled);
        eb_answer(b, "a", ENGINE_CANCELLED, NULL);
        state = eb_column(b, NULL, "");
        CHECK_STR(state, "failed");
        free(state);
        eb_close(b);
}

TEST(engine, refusals_that_pass_are_tried_again_and_others_fail_the_step)
{
        struct eb *b = eb_open();
        struct engine_result r = {.outcome = ENGINE_REFUSED, .error_code = "agent_busy", .sync_fd = -1};
        char *code;

        eb_agent(b, "a1", 4);
        eb_submit(b, "name: x\nsteps:\n  - {id: a, run: x}\n");
        r.attempt_id = eb_started(b, "a")->attempt_id;
        eb_started(b, "a")->answered = true;
        engine_on_finished(b->en, "a1", &r, NULL, NULL);
        eb_turn(b);
        CHECK_STR(eb_state(b, "a"), "waiting");
        eb_pass(b, 1001);
        r.attempt_id = eb_started(b, "a")->attempt_id;
        r.error_code = "policy_denied";
        engine_on_finished(b->en, "a1", &r, NULL, NULL);
        eb_turn(b);
        code = eb_column(b, "a", "error_code");
        CHECK_STR(code, "policy_denied");
        free(code);
        CHECK_STR(eb_run_state(b), "failed");
        eb_close(b);
}

TEST(engine, old_events_are_forgotten_and_the_newest_million_kept)
{
        struct eb *b = eb_open();
        struct store_reader *rd;
        int64_t oldest, newest;

        /* The bench's bus starts at a million; a small run is the first row. */
        eb_agent(b, "a1", 1);
        eb_submit(b, "name: x\nsteps:\n  - {id: a, run: x}\n");
        eb_answer(b, "a", ENGINE_SUCCEEDED, NULL);
        CHECK_INT(store_reader_open(b->store, &rd, NULL), 0);
        CHECK_INT(read_events_bounds(rd, &oldest, &newest), 0);
        CHECK(oldest <= 1000010 && newest < 1000100);
        store_reader_close(rd);
        /* A million events later ... */
        store_close(b->store);
        engine_free(b->en);
        bus_free(b->bus);
        b->now_ms += 1010000;
        eb_start_again(b);
        eb_agent(b, "a1", 1);
        eb_submit(b, "name: x\nsteps:\n  - {id: a, run: x}\n");
        CHECK_INT(store_reader_open(b->store, &rd, NULL), 0);
        CHECK_INT(read_events_bounds(rd, &oldest, &newest), 0);
        CHECK(oldest > 2000000);
        store_reader_close(rd);
        eb_close(b);
}
