#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/id.h"
#include "common/json.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/secret.h"
#include "common/str.h"
#include "hub/sched/engine_impl.h"

void run_dirty(struct run *r)
{
        if (r->is_dirty)
                return;
        r->is_dirty = true;
        list_push_back(&r->en->dirty_runs, &r->dirty);
        engine_want_flush(r->en);
}

void run_move(struct run *r, enum run_state to)
{
        if (r->state == to)
                return;
        if (run_state_move(&r->state, to)) {
                log_error("engine", "impossible move of a run", "run=%s from=%s to=%s", r->id,
                          run_state_name(r->state), run_state_name(to));
                abort(); /* a bug: the rows on disk are whole, going on would make them lie */
        }
        run_dirty(r);
}

/* ---- what is the same for every step of a definition ---- */

struct ref_scan {
        struct run *r;
        size_t def; /* n_steps: the workflow's outputs */
        int rc;
};

static int on_ref(void *ctx, const char *root, const char *second)
{
        struct ref_scan *sc = ctx;
        struct run *r = sc->r;
        const struct step_def *d;
        struct def_info *in;
        size_t *refs;

        if (strcmp(root, "steps") != 0 && strcmp(root, "needs") != 0)
                return 0;
        if (sc->def == r->wf->n_steps) { /* outputs: all steps may be read */
                if (second && (d = workflow_step(r->wf, second)))
                        r->info[d - r->wf->steps].wanted = true;
                else
                        for (size_t i = 0; i < r->wf->n_steps; i++)
                                r->info[i].wanted = true;
                return 0;
        }
        in = &r->info[sc->def];
        if (!second) {
                in->refs_all = true;
                for (size_t i = 0; i < r->wf->n_steps; i++)
                        r->info[i].wanted = true;
                return 0;
        }
        d = workflow_step(r->wf, second);
        if (!d)
                return 0;
        for (size_t i = 0; i < in->n_refs; i++)
                if (in->refs[i] == (size_t)(d - r->wf->steps))
                        return 0;
        refs = mem_realloc(in->refs, (in->n_refs + 1) * sizeof *refs);
        if (!refs)
                return sc->rc = -E_NOMEM;
        in->refs = refs;
        in->refs[in->n_refs++] = (size_t)(d - r->wf->steps);
        r->info[d - r->wf->steps].wanted = true;
        return 0;
}

static void scan_json(const cJSON *v, struct ref_scan *sc)
{
        if (cJSON_IsString(v) && tmpl_has_expr(v->valuestring))
                (void)tmpl_check(v->valuestring, on_ref, sc, NULL); /* checked when parsed */
        for (const cJSON *c = v ? v->child : NULL; c; c = c->next)
                scan_json(c, sc);
}

static void scan_text(const char *t, struct ref_scan *sc)
{
        if (t && tmpl_has_expr(t))
                (void)tmpl_check(t, on_ref, sc, NULL);
}

static int scan_refs(struct run *r)
{
        struct ref_scan sc = {.r = r};

        for (size_t i = 0; i < r->wf->n_steps; i++) {
                const struct step_def *d = &r->wf->steps[i];

                sc.def = i;
                scan_json(d->with, &sc);
                scan_json(d->env, &sc);
                scan_json(r->wf->env, &sc);
                scan_json(d->runs_on, &sc);
                scan_json(d->matrix, &sc);
                scan_json(d->for_each, &sc);
                if (d->approval) {
                        scan_text(d->approval->question, &sc);
                        scan_json(d->approval->show, &sc);
                }
                scan_text(d->agent, &sc);
                scan_text(d->concurrency.group, &sc);
                if (d->cond)
                        expr_refs(d->cond, on_ref, &sc);
        }
        sc.def = r->wf->n_steps;
        scan_json(r->wf->outputs, &sc);
        return sc.rc;
}

static int link_dependents(struct run *r)
{
        for (size_t i = 0; i < r->wf->n_steps; i++)
                for (size_t k = 0; k < r->wf->steps[i].n_needs; k++)
                        r->info[r->wf->steps[i].needs[k]].n_dependents++;
        for (size_t i = 0; i < r->wf->n_steps; i++) {
                if (!r->info[i].n_dependents)
                        continue;
                r->info[i].dependents = mem_alloc(r->info[i].n_dependents * sizeof(size_t));
                if (!r->info[i].dependents)
                        return -E_NOMEM;
                r->info[i].n_dependents = 0;
        }
        for (size_t i = 0; i < r->wf->n_steps; i++)
                for (size_t k = 0; k < r->wf->steps[i].n_needs; k++) {
                        struct def_info *in = &r->info[r->wf->steps[i].needs[k]];

                        in->dependents[in->n_dependents++] = i;
                }
        return 0;
}

/* The contexts that do not change during a run. */
static int make_contexts(struct run *r)
{
        r->run_ctx = cJSON_CreateObject();
        r->wf_ctx = cJSON_CreateObject();
        if (!r->run_ctx || !r->wf_ctx || !cJSON_AddStringToObject(r->run_ctx, "id", r->id) ||
            !cJSON_AddStringToObject(r->run_ctx, "name", r->wf->name) ||
            !cJSON_AddStringToObject(r->run_ctx, "created_by", r->created_by) ||
            !cJSON_AddStringToObject(r->wf_ctx, "name", r->wf->name))
                return -E_NOMEM;
        return 0;
}

int run_build(struct engine *en, struct run *r, struct err *e)
{
        r->en = en;
        list_init(&r->dirty);
        list_init(&r->queue);
        r->info = mem_calloc(r->wf->n_steps ? r->wf->n_steps : 1, sizeof *r->info);
        if (!r->info || link_dependents(r) || scan_refs(r) || make_contexts(r))
                return err_set(e, E_NOMEM, "no memory for a run of %zu steps", r->wf->n_steps);
        return 0;
}

struct step *run_add_step(struct run *r, const struct step_def *def, struct step *parent, cJSON *matrix,
                          struct err *e)
{
        struct step *s;

        if (r->n_steps >= RUN_STEPS_MAX) {
                cJSON_Delete(matrix);
                err_set(e, E_TOOBIG, "the run has more than %u steps: make the matrix or for-each smaller",
                        RUN_STEPS_MAX);
                return NULL;
        }
        if (r->n_steps == r->cap_steps) {
                struct step **v;

                r->cap_steps = r->cap_steps ? r->cap_steps * 2 : (uint32_t)r->wf->n_steps + 1;
                v = engine_alloc(r->cap_steps * sizeof *v);
                if (r->n_steps)
                        memcpy(v, r->steps, r->n_steps * sizeof *v);
                mem_free(r->steps);
                r->steps = v;
        }
        s = engine_alloc(sizeof *s);
        s->run = r;
        s->def = def;
        s->parent = parent;
        s->idx = r->n_steps;
        s->matrix = matrix;
        s->state = STEP_BLOCKED;
        s->is_new = true;
        s->created_us = engine_now(r->en);
        list_init(&s->on_agent);
        list_init(&s->asks);
        list_init(&s->queue);
        list_init(&s->dirty);
        list_init(&s->vault_wait);
        if (parent) {
                char id[192];

                snprintf(id, sizeof id, "%s[%u]", def->id, r->n_steps - parent->first_child);
                s->id = engine_strdup(id);
        } else {
                s->id = engine_strdup(def->id);
                s->unmet = (uint32_t)def->n_needs;
                s->fanout = def->matrix || def->for_each;
                if (def->finally)
                        r->open_finally++;
                else
                        r->open_main++;
        }
        r->steps[r->n_steps++] = s;
        return s;
}

void run_free(struct run *r)
{
        if (!r)
                return;
        if (r->id && map_get(r->en->runs, r->id) == r) {
                map_del(r->en->runs, r->id);
                map_del_u64(r->en->runs_seq, (uint64_t)r->seq);
        }
        if (r->en)
                list_remove(&r->dirty), list_remove(&r->queue);
        for (uint32_t i = 0; i < r->n_steps; i++)
                step_free(r->steps[i]);
        if (r->en)
                budget_run_gone(r);
        mem_free(r->steps);
        for (size_t i = 0; r->wf && r->info && i < r->wf->n_steps; i++) {
                mem_free(r->info[i].dependents);
                mem_free(r->info[i].refs);
        }
        mem_free(r->info);
        workflow_free(r->wf);
        cJSON_Delete(r->inputs);
        cJSON_Delete(r->outputs);
        cJSON_Delete(r->run_ctx);
        cJSON_Delete(r->wf_ctx);
        cJSON_Delete(r->env_ctx);
        mem_free(r->id);
        mem_free(r->kind);
        mem_free(r->def_sha256);
        mem_free(r->created_by);
        cJSON_Delete(r->askers);
        mem_free(r->project);
        mem_free(r->group_name);
        mem_free(r->inputs_text);
        mem_free(r->outputs_text);
        mem_free(r->cancel_reason);
        mem_free(r->error_code);
        mem_free(r->error_message);
        mem_free(r->def_text);
        mem_free((char *)r->idem_key);
        mem_free((char *)r->idem_token);
        mem_free((char *)r->idem_sha);
        mem_free(r);
}

/* ---- the concurrency group of runs ---- */

static const cJSON *group_lookup(void *ctx, const char *name)
{
        struct run *r = ctx;

        if (!strcmp(name, "inputs"))
                return r->inputs;
        if (!strcmp(name, "workflow"))
                return r->wf_ctx;
        if (!strcmp(name, "run"))
                return r->run_ctx;
        return NULL;
}

static struct run_group *run_group_get(struct engine *en, const char *name, uint32_t limit)
{
        struct run_group *g = map_get(en->run_groups, name);

        if (!g) {
                g = engine_alloc(sizeof *g);
                g->name = engine_strdup(name);
                list_init(&g->waiting);
                if (map_put(en->run_groups, name, g, NULL))
                        abort();
        }
        g->limit = limit;
        return g;
}

/* Starts the run, or queues it behind others of its group. */
void run_enter_group(struct run *r)
{
        struct engine *en = r->en;
        struct run_group *g;

        if (!r->group_name) {
                run_start(r);
                return;
        }
        g = run_group_get(en, r->group_name, (uint32_t)r->wf->concurrency.limit);
        r->run_group = g;
        if (r->wf->concurrency.cancel_in_progress) {
                size_t it = 0;
                void *v;

                while (map_next(en->runs, &it, NULL, &v)) {
                        struct run *o = v;

                        if (o != r && !o->over && o->run_group == g)
                                run_cancel(o, "a newer run of its concurrency group started");
                }
        }
        if (g->running < g->limit) {
                g->running++;
                r->holds_group = true;
                run_start(r);
        } else {
                list_push_back(&g->waiting, &r->queue);
                run_dirty(r);
        }
}

void run_hold_group(struct run *r)
{
        r->run_group = run_group_get(r->en, r->group_name, (uint32_t)r->wf->concurrency.limit);
        r->run_group->running++;
        r->holds_group = true;
}

void run_release(struct run *r)
{
        struct run_group *g = r->run_group;
        struct list *it;

        if (!g)
                return;
        list_remove(&r->queue);
        if (!r->holds_group)
                return;
        r->holds_group = false;
        g->running--;
        while (g->running < g->limit && (it = list_pop(&g->waiting))) {
                struct run *next = container_of(it, struct run, queue);

                g->running++;
                next->holds_group = true;
                run_start(next);
        }
}

/* ---- submission ---- */

static int group_name_of(struct run *r, struct err *e)
{
        struct expr_env env = {.lookup = group_lookup, .ctx = r, .success = true};

        if (!r->wf->concurrency.group)
                return 0;
        return tmpl_eval_str(r->wf->concurrency.group, &env, &r->group_name, e);
}

static int build_submitted(struct engine *en, struct engine_submit *s, struct run **out, struct err *e)
{
        struct run *r = mem_calloc(1, sizeof *r);
        char id[ID_LEN], hex[65];
        uint8_t sha[SHA256_LEN];
        int rc;

        if (!r) {
                workflow_free(s->workflow);
                cJSON_Delete(s->inputs);
                return err_set(e, E_NOMEM, "no memory for the run");
        }
        r->en = en;
        r->wf = s->workflow;
        r->inputs = s->inputs;
        list_init(&r->dirty);
        list_init(&r->queue);
        r->created_us = engine_now(en);
        id_make(r->created_us, id);
        secret_sha256(s->def_text, s->def_len, sha);
        str_hex(sha, sizeof sha, hex);
        r->id = engine_strdup(id);
        r->kind = engine_strdup(s->kind);
        r->created_by = engine_strdup(s->created_by ? s->created_by : "");
        (void)run_add_asker(r, s->maker); /* the first: there is room */
        r->project = engine_strdup(s->project ? s->project : PROJECT_DEFAULT);
        r->def_sha256 = engine_strdup(hex);
        r->def_text = mem_strndup(s->def_text, s->def_len);
        r->def_len = s->def_len;
        r->inputs_text = r->inputs ? json_text(r->inputs) : mem_strdup("{}");
        r->idem_key = engine_strdup(s->idempotency_key);
        r->idem_token = engine_strdup(s->idempotency_token);
        r->idem_sha = engine_strdup(s->idempotency_sha256);
        r->priority = r->wf->priority + s->priority;
        r->state = RUN_QUEUED;
        r->is_new = true;
        r->seq = en->next_seq++;
        rc = r->def_text && r->inputs_text ? run_build(en, r, e)
                                           : err_set(e, E_NOMEM, "no memory for the run");
        if (!rc)
                rc = group_name_of(r, e);
        for (size_t i = 0; !rc && i < r->wf->n_steps; i++)
                if (!run_add_step(r, &r->wf->steps[i], NULL, NULL, e))
                        rc = -E_TOOBIG;
        if (rc) {
                run_free(r);
                return rc;
        }
        if (map_put(en->runs, r->id, r, NULL) || map_put_u64(en->runs_seq, (uint64_t)r->seq, r, NULL))
                abort();
        *out = r;
        return 0;
}

void engine_submit(struct engine *en, struct engine_submit *s,
                   void (*on_durable)(void *arg, const struct engine_done *d),
                   void (*on_finished)(void *arg, const struct engine_done *d), void *arg)
{
        struct err e = {0};
        struct run *r = NULL;
        int rc = build_submitted(en, s, &r, &e);

        if (rc) {
                struct engine_done d = {.rc = rc, .err = &e};

                on_durable(arg, &d);
                return;
        }
        engine_audit(en, r->created_by, strcmp(r->kind, "call") ? "run.submit" : "call.submit", r->id,
                     (const struct audit_word[]){{"workflow", r->wf->name},
                                                 {"definition_sha256", r->def_sha256},
                                                 {"project", r->project},
                                                 {0}});
        for (uint32_t i = 0; i < r->n_steps; i++) {
                r->steps[i]->stdin_follows = s->stdin_follows;
                step_dirty(r->steps[i]);
        }
        run_dirty(r);
        if (s->want_finish) {
                r->on_finished = on_finished;
                r->waiter = arg;
        }
        if (on_durable)
                engine_after_submitted(en, on_durable, arg, r);
        if (r->wf->timeout_ms) {
                struct timer t = {.at_ms = clock_mono_ms(&en->clock) + r->wf->timeout_ms,
                                  .kind = TIMER_RUN,
                                  .run_seq = r->seq};

                if (timers_add(&en->timers, &t))
                        abort();
        }
        run_enter_group(r);
}

void engine_forget_waiter(struct engine *en, const char *run_id, void *arg)
{
        struct run *r = map_get(en->runs, run_id);

        if (r && r->waiter == arg) {
                r->on_finished = NULL;
                r->waiter = NULL;
        }
}

/* ---- life ---- */

void run_start(struct run *r)
{
        r->started_us = engine_now(r->en);
        run_move(r, RUN_RUNNING);
        for (uint32_t i = 0, n = r->n_steps; i < n; i++) {
                struct step *s = r->steps[i];

                if (s->state == STEP_BLOCKED && !s->parent && !s->def->finally && s->unmet == 0)
                        step_activate(s);
        }
        run_settle(r);
}

void run_timed_out(struct run *r)
{
        if (r->over || r->cancel_requested)
                return;
        r->timed_out = true;
        set_text(&r->error_code, "run_timeout");
        set_text(&r->error_message,
                 "the run took longer than its timeout; raise \"timeout\" in the workflow or make it faster");
        run_cancel(r, "the run's timeout");
}

static void start_finally(struct run *r)
{
        r->finally_started = true;
        for (uint32_t i = 0, n = r->n_steps; i < n; i++) {
                struct step *s = r->steps[i];

                if (s->state == STEP_BLOCKED && !s->parent && s->def->finally && s->unmet == 0)
                        step_activate(s);
        }
}

/* One that cannot be made is left out and said; it does not take the others with it. */
static void make_outputs(struct run *r)
{
        struct expr_env env;
        struct step_scope *sc;
        char text[640];

        if (!r->wf->outputs)
                return;
        sc = scope_create(r, NULL, &env);
        env.success = r->state != RUN_FAILED;
        r->outputs = cJSON_CreateObject();
        for (const cJSON *o = r->wf->outputs->child; o; o = o->next) {
                struct err e = {0};
                cJSON *v = NULL;

                if (tmpl_eval_json(o, &env, &v, &e) == 0) {
                        if (!cJSON_AddItemToObject(r->outputs, o->string, v))
                                abort(); /* no memory: see engine.c */
                } else if (!r->error_code) {
                        snprintf(text, sizeof text, "output %s: %s", o->string, e.msg);
                        set_text(&r->error_code, "outputs_expression");
                        set_text(&r->error_message, text);
                }
        }
        r->outputs_text = json_text(r->outputs);
        scope_free(sc);
}

static bool any_failed(const struct run *r, const struct step **which)
{
        for (uint32_t i = 0; i < r->n_steps; i++) {
                const struct step *s = r->steps[i];

                if (s->state == STEP_FAILED && !s->ok && !s->parent) {
                        *which = s;
                        return true;
                }
        }
        return false;
}

static void run_end(struct run *r)
{
        const struct step *bad = NULL;
        bool failed = any_failed(r, &bad);
        enum run_state to = RUN_SUCCEEDED;

        if (r->timed_out || (failed && !r->cancel_requested))
                to = RUN_FAILED;
        else if (r->cancel_requested)
                to = RUN_CANCELLED;
        if (to == RUN_FAILED && !r->error_code) {
                char text[512];

                snprintf(text, sizeof text, "step %s failed: %s", bad->id,
                         bad->error_message ? bad->error_message : "no reason was given");
                set_text(&r->error_code, "step_failed");
                set_text(&r->error_message, text);
        }
        r->over = true;
        r->finished_us = engine_now(r->en);
        run_move(r, to);
        make_outputs(r);
        run_dirty(r);
        run_release(r);
        r->en->stats.finished_total++;
        engine_after_over(r->en, r);
}

void run_settle(struct run *r)
{
        if (r->over || r->finishing || r->state == RUN_QUEUED)
                return;
        r->finishing = true; /* what starts below may end at once and come back here */
        if (!r->open_main && !r->finally_started)
                start_finally(r);
        r->finishing = false;
        if (!r->open_main && !r->open_finally)
                run_end(r);
        else if ((r->n_unknown || r->n_asking) && r->n_active == r->n_asking)
                run_move(r, RUN_WAITING);
        else if (r->state == RUN_WAITING)
                run_move(r, RUN_RUNNING);
}
