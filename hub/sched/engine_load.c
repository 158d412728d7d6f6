/* Back from the store: every run that is not over, when the hub starts; a finished one, to retry it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/log.h"
#include "common/mem.h"
#include "hub/sched/engine_impl.h"
#include "hub/sched/write.h"
#include "hub/store/store.h"

/* ---- rows to memory ---- */

struct loading {
        struct engine *en;
        struct run *r;
        struct run **runs; /* all of a start-up */
        size_t n, cap;
        bool retry;
        struct err *e;
};

static int on_run(void *arg, const struct row_run *row)
{
        struct loading *ld = arg;
        struct run *r = engine_alloc(sizeof *r);

        r->en = ld->en;
        list_init(&r->dirty);
        list_init(&r->queue);
        r->refused = !seal_run_holds(ld->en, row);
        r->seq = row->seq;
        r->id = engine_strdup(row->id);
        r->kind = engine_strdup(row->kind);
        r->def_sha256 = engine_strdup(row->def_sha256);
        r->created_by = engine_strdup(row->created_by ? row->created_by : "");
        if (row->askers && json_parse(row->askers, strlen(row->askers), &r->askers, NULL))
                r->refused = true; /* who may not approve is not known any more */
        r->project = engine_strdup(row->project ? row->project : PROJECT_DEFAULT);
        r->group_name = engine_strdup(row->concurrency_group);
        r->inputs_text = engine_strdup(row->inputs ? row->inputs : "{}");
        r->state = row->state;
        r->priority = row->priority;
        r->cancel_requested = row->cancel_requested;
        r->created_us = row->created_us;
        r->started_us = row->started_us;
        r->error_code = engine_strdup(row->error_code);
        r->error_message = engine_strdup(row->error_message);
        r->timed_out = row->error_code && !strcmp(row->error_code, "run_timeout");
        if (ld->n == ld->cap) {
                ld->cap = ld->cap ? ld->cap * 2 : 64;
                ld->runs = mem_realloc(ld->runs, ld->cap * sizeof(struct run *));
                if (!ld->runs)
                        abort();
        }
        ld->runs[ld->n++] = r;
        return 0;
}

static void fill_step(struct step *s, const struct row_step *row)
{
        bool wanted = s->run->info[row->def].wanted;

        s->is_new = false;
        s->state = row->state;
        s->fanout = row->fanout;
        s->attempt = row->attempt;
        s->attempt_id = row->attempt_id;
        s->losses = row->losses;
        s->agent_boot = engine_strdup(row->agent_boot);
        s->placement = engine_strdup(row->placement);
        route_restore(s);
        s->outputs = wanted ? engine_strdup(row->outputs) : NULL;
        s->has_exit_code = row->has_exit_code;
        s->exit_code = row->exit_code;
        s->error_code = engine_strdup(row->error_code);
        s->error_message = engine_strdup(row->error_message);
        s->output_bytes = row->output_bytes;
        s->not_before_us = row->not_before_us;
        s->created_us = row->created_us;
        s->ready_us = row->ready_us;
        s->dispatched_us = row->dispatched_us;
        s->started_us = row->started_us;
        s->finished_us = row->finished_us;
        if (step_active(s) && !s->fanout) {
                step_restore_input(s, row->input);
                budget_attach(s);
                if (row->agent)
                        fleet_attach(fleet_ensure(s->run->en, row->agent,
                                                  row->agent_name ? row->agent_name : row->agent),
                                     s);
                if (map_put_u64(s->run->en->attempts, s->attempt_id, s, NULL))
                        abort();
        }
}

static int on_step(void *arg, const struct row_step *row)
{
        struct loading *ld = arg;
        struct run *r = ld->r;
        struct step *parent = NULL, *s;
        cJSON *matrix = NULL;

        if (row->idx != r->n_steps || row->def < 0 || (size_t)row->def >= r->wf->n_steps ||
            (row->parent >= 0 && (uint32_t)row->parent >= r->n_steps))
                return err_set(ld->e, E_CORRUPT, "run %s: the row of step %s does not fit its definition",
                               r->id, row->id);
        if (row->parent >= 0) {
                parent = r->steps[row->parent];
                if (!parent->n_children)
                        parent->first_child = row->idx;
                parent->n_children++;
                if (row->matrix && json_parse(row->matrix, strlen(row->matrix), &matrix, ld->e))
                        return -E_CORRUPT;
        }
        s = run_add_step(r, &r->wf->steps[row->def], parent, matrix, ld->e);
        if (!s)
                return -E_TOOBIG;
        if (!seal_step_holds(s, row))
                return seal_broken(ld->en, r->id, s->id, "row", ld->e);
        fill_step(s, row);
        /* Of a finished call that is tried again nobody sends the input any more. */
        s->stdin_follows = !step_state_final(row->state) && !strcmp(r->kind, "call") && r->wf->description &&
                           !strcmp(r->wf->description, ENGINE_CALL_STDIN);
        return 0;
}

static int on_attempt(void *arg, const struct row_attempt *a)
{
        struct run *r = arg;

        if (a->idx < r->n_steps && a->outcome && !strcmp(a->outcome, "failed"))
                r->steps[a->idx]->retries++;
        return 0;
}

/* The same road for start-up and retry: definition, inputs, steps. */
static int read_whole(struct engine *en, struct run *r, struct err *e)
{
        struct loading ld = {.en = en, .r = r, .e = e};
        char *text = NULL;
        size_t n = 0;
        int rc = read_def(en->reader, r->def_sha256, &text, &n);

        if (rc)
                return err_set(e, -rc, "run %s: its definition is not in the database", r->id);
        if (r->refused)
                rc = seal_broken(en, r->id, "", "row", e);
        else if (!seal_definition_holds(en, r->def_sha256, text, n))
                rc = seal_broken(en, r->id, "", "definition", e);
        else
                rc = workflow_parse(text, n, &r->wf, e);
        mem_free(text);
        if (!rc)
                rc = json_parse(r->inputs_text, strlen(r->inputs_text), &r->inputs, e);
        if (!rc)
                rc = run_build(en, r, e);
        if (!rc)
                rc = read_steps(en->reader, r->seq, on_step, &ld);
        if (!rc)
                rc = read_attempts(en->reader, r->seq, -1, on_attempt, r);
        if (!rc && r->n_steps < r->wf->n_steps)
                rc = err_set(e, E_CORRUPT, "run %s: rows of its steps are missing", r->id);
        return rc;
}

/* ---- what follows from the states ---- */

static void count_steps(struct run *r)
{
        r->open_main = r->open_finally = r->n_active = r->n_unknown = 0;
        r->n_asking = 0; /* asks_load comes later */
        for (uint32_t i = 0; i < r->n_steps; i++) {
                struct step *s = r->steps[i];
                bool final = step_state_final(s->state);

                s->ok = s->state == STEP_SUCCEEDED || (s->state == STEP_FAILED && step_tolerated(s));
                s->cancel_requested = r->cancel_requested && !step_survives_cancel(s);
                if (!s->parent) {
                        if (!final && s->def->finally)
                                r->open_finally++;
                        else if (!final)
                                r->open_main++;
                        s->unmet = 0;
                        for (size_t k = 0; k < s->def->n_needs; k++)
                                s->unmet += !step_state_final(r->steps[s->def->needs[k]]->state);
                } else {
                        s->parent->children_over += final;
                        s->parent->children_failed += s->state == STEP_FAILED && !s->ok;
                        s->parent->children_running += !final && s->state != STEP_BLOCKED;
                }
                if (!s->fanout && step_active(s)) {
                        r->n_unknown += s->state == STEP_UNKNOWN;
                        r->n_active += s->state != STEP_UNKNOWN;
                }
        }
        for (uint32_t i = 0; i < r->n_steps; i++)
                for (size_t k = 0; k < r->steps[i]->def->n_needs && !r->steps[i]->parent; k++) {
                        struct step *n = r->steps[r->steps[i]->def->needs[k]];

                        r->steps[i]->below_failure |=
                                r->steps[i]->state == STEP_SKIPPED &&
                                ((n->state == STEP_FAILED && !n->ok) || n->below_failure);
                }
}

static void rejoin_group(struct step *s)
{
        struct expr_env env;
        struct step_scope *sc;
        char *name = NULL;

        if (!s->def->concurrency.group || !s->agent)
                return;
        sc = scope_create(s->run, s, &env);
        if (tmpl_eval_str(s->def->concurrency.group, &env, &name, NULL) == 0) {
                s->group = group_get(s->run->en, name, (uint32_t)s->def->concurrency.limit);
                s->group->running++;
        }
        mem_free(name);
        scope_free(sc);
}

static void wake_waiting(struct step *s)
{
        struct engine *en = s->run->en;
        int64_t left_us = s->not_before_us - engine_now(en);
        struct timer t = {.kind = TIMER_STEP, .run_seq = s->run->seq, .idx = s->idx};

        s->run->n_active++;
        t.at_ms = clock_mono_ms(&en->clock) + (left_us > 0 ? left_us / 1000 : 0);
        if (timers_add(&en->timers, &t))
                abort();
}

static void resume_steps(struct run *r)
{
        uint32_t n = r->n_steps;

        for (uint32_t i = 0; i < n; i++) {
                struct step *s = r->steps[i];

                if (s->state == STEP_WAITING)
                        wake_waiting(s);
                else if (!s->fanout && step_active(s))
                        rejoin_group(s);
        }
        for (uint32_t i = 0; i < n && !r->over; i++) {
                struct step *s = r->steps[i];

                if (s->state == STEP_READY &&
                    !s->demand) {                /* with one: it came from a step before it in this loop */
                        s->state = STEP_BLOCKED; /* its queue was memory: it enters again */
                        step_prepare(s);
                } else if (s->state == STEP_RUNNING && s->fanout) {
                        s->next_child = 0;
                        fanout_next(s);
                        if (s->children_over == s->n_children && s->state == STEP_RUNNING)
                                fanout_settle(s);
                } else if (s->state == STEP_BLOCKED && !s->parent && !s->unmet &&
                           (!s->def->finally || r->finally_started)) {
                        step_activate(s);
                }
        }
}

static void arm_run(struct run *r)
{
        struct engine *en = r->en;
        struct timer t = {.kind = TIMER_RUN, .run_seq = r->seq};
        int64_t left_ms;

        if (!r->wf->timeout_ms)
                return;
        left_ms = (r->created_us - engine_now(en)) / 1000 + r->wf->timeout_ms;
        t.at_ms = clock_mono_ms(&en->clock) + (left_ms > 0 ? left_ms : 0);
        if (timers_add(&en->timers, &t))
                abort();
}

static int adopt(struct engine *en, struct run *r)
{
        if (map_put(en->runs, r->id, r, NULL) || map_put_u64(en->runs_seq, (uint64_t)r->seq, r, NULL))
                abort();
        count_steps(r);
        r->finally_started = !r->open_main;
        if (r->state == RUN_QUEUED) {
                run_enter_group(r);
                return 0;
        }
        if (r->group_name)
                run_hold_group(r);
        arm_run(r);
        resume_steps(r);
        run_settle(r);
        return 0;
}

/* A run that cannot be read back must not stop the others, nor stay "running" for ever; nor may its steps. */
struct giving_up {
        struct engine *en;
        struct run *r;
        const char *code, *why;
};

static int fail_run_row(void *arg, const struct row_run *was)
{
        struct giving_up *g = arg;
        struct row_run row = *was;
        struct row_seal seal;

        row.state = RUN_FAILED;
        row.outputs = NULL;
        row.error_code = g->code;
        row.error_message = g->why;
        row.finished_us = engine_now(g->en);
        row.seal = NULL;
        row.seal_len = 0;
        seal_run(g->r, &row, &seal);
        store_put_run(engine_tx(g->en), &row);
        return 0;
}

/* What an agent still has of it is not known here any more, and cancelled when the agent says hello. */
static int end_step_row(void *arg, const struct row_step *was)
{
        struct giving_up *g = arg;
        struct row_step_move m = {.run_seq = was->run_seq,
                                  .idx = was->idx,
                                  .state = was->state == STEP_BLOCKED ? STEP_SKIPPED : STEP_CANCELLED,
                                  .attempt = was->attempt,
                                  .attempt_id = was->attempt_id,
                                  .losses = was->losses,
                                  .output_bytes = was->output_bytes,
                                  .finished_us = engine_now(g->en)};

        if (step_state_final(was->state))
                return 0;
        if (was->state != STEP_BLOCKED) {
                m.error_code = g->code;
                m.error_message = g->why;
        }
        store_move_step(engine_tx(g->en), &m);
        return 0;
}

static void give_up(struct engine *en, struct run *r, const struct err *e)
{
        struct giving_up g = {.en = en,
                              .r = r,
                              .code = e->code == E_DENIED ? "step_signature" : "unreadable",
                              .why = e->msg};

        log_error("engine", "a run could not be read back and was failed", "run=%s error=%s", r->id, e->msg);
        if (read_run(en->reader, r->id, fail_run_row, &g))
                log_error("engine", "the run's row cannot be read again", "run=%s", r->id);
        if (read_steps(en->reader, r->seq, end_step_row, &g))
                log_error("engine", "rows of the run's steps cannot be read", "run=%s", r->id);
        for (uint32_t i = 0; i < r->n_steps; i++)
                budget_end(r->steps[i]);
        run_free(r);
}

static int cmp_seq(const void *a, const void *b)
{
        const struct run *x = *(struct run *const *)a, *y = *(struct run *const *)b;

        return x->seq < y->seq ? -1 : x->seq > y->seq;
}

static void watch_agents(struct engine *en)
{
        for (size_t i = 0; i < en->n_fleet; i++) {
                struct timer t = {.kind = TIMER_AGENT,
                                  .agent = en->fleet[i],
                                  .serial = en->fleet[i]->offline_serial,
                                  .at_ms = clock_mono_ms(&en->clock) + en->opt.lost_after_ms};

                if (timers_add(&en->timers, &t))
                        abort();
        }
}

static int read_marks(struct engine *en, struct err *e)
{
        int64_t seq = 0, event = 0;
        uint64_t attempt = 0;
        char *limit = NULL;
        int rc = read_max(en->reader, &seq, &attempt, &event);

        if (rc)
                return err_set(e, -rc, "the database's counters could not be read");
        if (read_meta(en->reader, "attempt_limit", &limit) == 0) {
                uint64_t v = strtoull(limit, NULL, 10);

                attempt = v > attempt ? v : attempt;
                mem_free(limit);
        }
        /* No id comes twice even when an older copy of this data was restored: ids are given out more
         * slowly than microseconds go by, so the clock is ahead of all that were given out before. */
        if (engine_now(en) > 0 && (uint64_t)engine_now(en) > attempt)
                attempt = (uint64_t)engine_now(en);
        en->next_seq = seq + 1;
        en->next_attempt = en->attempt_limit = en->first_attempt = attempt + 1;
        return 0;
}

int engine_load(struct engine *en, struct err *e)
{
        struct run_filter f = {.active_only = true};
        struct loading ld = {.en = en, .e = e};
        int rc = store_reader_open(en->store, &en->reader, e);

        if (!rc)
                rc = read_marks(en, e);
        if (!rc)
                rc = route_load(en, e);
        if (!rc)
                rc = budgets_load(en, e);
        if (!rc) {
                rc = read_runs(en->reader, &f, on_run, &ld);
                if (rc)
                        err_set(e, -rc, "the runs could not be read from the database");
        }
        if (ld.n)
                qsort(ld.runs, ld.n, sizeof(struct run *), cmp_seq);
        for (size_t i = 0; i < ld.n; i++) {
                struct err why = {0};

                if (rc)
                        run_free(ld.runs[i]);
                else if (read_whole(en, ld.runs[i], &why))
                        give_up(en, ld.runs[i], &why);
                else {
                        if (en->seal && en->opt.adopt_unsealed)
                                write_seals(en, ld.runs[i]);
                        adopt(en, ld.runs[i]);
                }
        }
        mem_free(ld.runs);
        if (!rc)
                rc = asks_load(en, e);
        if (!rc) {
                budget_asks_load(en);
                budgets_resolve(en);
        }
        if (!rc) {
                watch_agents(en);
                engine_want_flush(en);
        }
        return rc;
}

/* ---- retry ---- */

static bool runs_again(const struct step *s)
{
        return s->def->finally || (s->state != STEP_SUCCEEDED && s->state != STEP_BLOCKED);
}

static void reset_for_retry(struct run *r)
{
        for (uint32_t i = 0; i < r->n_steps; i++) {
                struct step *s = r->steps[i];

                if (!runs_again(s))
                        continue;
                if (s->attempt && !s->fanout)
                        step_note_attempt(s, "retried"); /* not "failed": those count against retry.limit */
                step_reset(s);
                s->retries = 0;
                s->losses = 0;
                if (s->state != STEP_BLOCKED) {
                        s->state = s->fanout && s->n_children ? STEP_RUNNING
                                                              : STEP_BLOCKED; /* a new life: not a move */
                        step_dirty(s);
                }
        }
        r->state = RUN_RUNNING;
        r->cancel_requested = r->timed_out = false;
        r->finished_us = 0;
        set_text(&r->error_code, NULL);
        set_text(&r->error_message, NULL);
        run_dirty(r);
}

static int retry_finished(struct engine *en, const char *run_id, const struct engine_actor *who,
                          struct err *e)
{
        struct loading ld = {.en = en, .e = e};
        int rc = read_run(en->reader, run_id, on_run, &ld);
        struct run *r = ld.n ? ld.runs[0] : NULL;

        mem_free(ld.runs);
        if (rc)
                return err_set(e, -rc, "there is no run %s", run_id);
        if (r->state == RUN_SUCCEEDED)
                rc = err_set(e, E_STATE, "run %s succeeded: there is nothing to retry", run_id);
        if (!rc)
                rc = read_whole(en, r, e);
        if (!rc)
                rc = run_asked_again(r, who, e);
        if (rc) {
                run_free(r);
                return rc;
        }
        reset_for_retry(r);
        return adopt(en, r);
}

static void retry_unknown(struct run *r)
{
        for (uint32_t i = 0; i < r->n_steps; i++) {
                struct step *s = r->steps[i];

                if (s->state != STEP_UNKNOWN)
                        continue;
                step_note_attempt(s, "unknown");
                step_reset(s);
                step_requeue(s, 0);
        }
        run_settle(r);
}

void engine_retry(struct engine *en, const char *run_id, const struct engine_actor *who, engine_answer cb,
                  void *arg)
{
        struct run *r = map_get(en->runs, run_id);
        struct err e = {0};
        int rc = 0;

        if (r && !r->over && r->n_unknown) {
                rc = run_asked_again(r, who, &e);
                if (!rc)
                        retry_unknown(r);
        } else if (r)
                rc = err_set(&e, E_STATE,
                             "run %s is %s: only a run that is over, or waits for a decision, can be retried",
                             run_id, run_state_name(r->state));
        else
                rc = retry_finished(en, run_id, who, &e);
        if (rc) {
                cb(arg, rc, &e);
                return;
        }
        engine_audit(en, who->by, "run.retry", run_id, NULL);
        engine_after_answer(en, cb, arg, 0, NULL);
}
