#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/log.h"
#include "common/mem.h"
#include "hub/sched/engine_impl.h"
#include "hub/store/store.h"

void set_text(char **slot, const char *text)
{
        char *copy = engine_strdup(text);

        mem_free(*slot);
        *slot = copy;
}

void step_dirty(struct step *s)
{
        if (s->is_dirty)
                return;
        s->is_dirty = true;
        list_push_back(&s->run->en->dirty_steps, &s->dirty);
        engine_want_flush(s->run->en);
}

bool step_active(const struct step *s)
{
        return s->state == STEP_DISPATCHED || s->state == STEP_RUNNING || s->state == STEP_UNKNOWN;
}

bool step_counts_active(enum step_state st)
{
        return st == STEP_READY || st == STEP_WAITING || st == STEP_DISPATCHED || st == STEP_RUNNING;
}

void step_move(struct step *s, enum step_state to)
{
        enum step_state from = s->state;

        if (step_state_move(&s->state, to)) {
                log_error("engine", "impossible move of a step", "run=%s step=%s from=%s to=%s", s->run->id,
                          s->id, step_state_name(from), step_state_name(to));
                abort(); /* a bug: the rows on disk are whole, going on would make them lie */
        }
        if (!s->fanout) {
                s->run->n_active += step_counts_active(to);
                s->run->n_active -= step_counts_active(from);
                s->run->n_unknown += to == STEP_UNKNOWN;
                s->run->n_unknown -= from == STEP_UNKNOWN;
                s->run->n_asking += s->n_asks_open && step_counts_active(to);
                s->run->n_asking -= s->n_asks_open && step_counts_active(from);
        }
        step_dirty(s);
}

void step_free(struct step *s)
{
        if (!s)
                return;
        if (s->demand)
                demand_remove(s);
        step_asks_free(s);
        step_detach(s);
        list_remove(&s->dirty);
        list_remove(&s->queue);
        list_remove(&s->vault_wait);
        cJSON_Delete(s->matrix);
        cJSON_Delete(s->ctx);
        mem_free(s->id);
        mem_free(s->agent_boot);
        mem_free(s->input);
        mem_free(s->allowed_sha256);
        mem_free(s->placement);
        route_free(s);
        budget_free(s);
        mem_free(s->outputs);
        mem_free(s->error_code);
        mem_free(s->error_message);
        mem_free(s->usage);
        mem_free(s->small_output);
        if (s->in)
                mem_free(s->in->data);
        mem_free(s->in);
        mem_free(s);
}

/* The attempt no longer belongs to its agent: results that still come are stale. */
void step_detach(struct step *s)
{
        struct engine *en = s->run->en;

        step_asks_end(s);
        list_remove(&s->vault_wait);
        if (s->attempt_id && map_get_u64(en->attempts, s->attempt_id) == s)
                map_del_u64(en->attempts, s->attempt_id);
        if (s->agent) {
                s->agent->running--;
                list_remove(&s->on_agent);
                s->agent = NULL;
                if (s->group)
                        s->group->running--;
                engine_want_flush(en); /* a place is free */
                budget_changed(en);
        }
        s->group = s->demand ? s->group : NULL;
        s->in_commit = s->cancel_sent = false;
}

/* ---- leaving blocked ---- */

static bool condition_holds(struct step *s, const struct expr_env *env, struct err *e, int *rc)
{
        cJSON *v = NULL;
        bool yes;

        if (!s->def->cond)
                return s->def->finally ? true : env->success;
        *rc = expr_eval(s->def->cond, env, &v, e);
        yes = *rc == 0 && expr_truthy(v);
        cJSON_Delete(v);
        return yes;
}

static void explain_skip(struct step *s)
{
        for (size_t i = 0; i < s->def->n_needs; i++) {
                struct step *n = s->run->steps[s->def->needs[i]];

                s->below_failure |= (n->state == STEP_FAILED && !n->ok) || n->below_failure;
        }
}

void step_activate(struct step *s)
{
        struct expr_env env;
        struct err e = {0};
        int rc = 0;
        struct step_scope *sc;
        bool run;

        if (s->run->force_cancel) {
                step_end(s, STEP_CANCELLED);
                return;
        }
        sc = scope_create(s->run, s, &env);
        run = condition_holds(s, &env, &e, &rc);
        scope_free(sc);
        if (rc) {
                char text[600];

                snprintf(text, sizeof text, "the condition \"if: %s\" could not be evaluated: %s",
                         s->def->cond_text ? s->def->cond_text : "", e.msg);
                step_fail(s, "expression_error", text);
        } else if (!run) {
                explain_skip(s);
                step_end(s, s->run->cancel_requested ? STEP_CANCELLED : STEP_SKIPPED);
        } else if (s->fanout) {
                fanout_open(s);
        } else {
                step_prepare(s);
        }
}

/* Labels as the expressions give them; *out is mem_free'd with its strings by demand_add's owner. */
static int eval_labels(struct step *s, const struct expr_env *env, struct plan_label **out, size_t *out_n,
                       struct err *e)
{
        const cJSON *src = s->def->runs_on;
        size_t n = src ? (size_t)cJSON_GetArraySize(src) : 0, i = 0;
        struct plan_label *l = n ? engine_alloc(n * sizeof *l) : NULL;
        const cJSON *c;
        int rc = 0;

        cJSON_ArrayForEach(c, src)
        {
                l[i].key = engine_strdup(c->string);
                rc = tmpl_eval_str(cJSON_IsString(c) ? c->valuestring : "", env, &l[i].value, e);
                i++;
                if (rc)
                        break;
        }
        *out = l;
        *out_n = rc ? i : n;
        return rc;
}

static void free_labels(struct plan_label *l, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                mem_free(l[i].key);
                mem_free(l[i].value);
        }
        mem_free(l);
}

static int merge_into(cJSON *env_out, const cJSON *templ, const struct expr_env *env, struct err *e)
{
        cJSON *v = NULL;
        int rc = templ ? tmpl_eval_texts(templ, env, &v, e) : 0;

        while (!rc && v && v->child) {
                cJSON *c = cJSON_DetachItemViaPointer(v, v->child);
                char *key = engine_strdup(c->string);

                cJSON_DeleteItemFromObjectCaseSensitive(env_out, key);
                cJSON_AddItemToObject(env_out, key, c);
                mem_free(key);
        }
        cJSON_Delete(v);
        return rc;
}

/* The arguments of a call are its run's only input, named "input" (api_calls.c), and its definition refers to
 * each of them in their order: the step's input is a slice of the run's inputs as they were stored. */
#define CALL_INPUTS_OPEN "{\"input\":"

static bool input_is_runs(const struct step *s)
{
        const struct run *r = s->run;

        return strcmp(r->kind, "call") == 0 && !step_is_routed(s) && r->inputs && r->inputs->child &&
               !r->inputs->child->next &&
               strncmp(r->inputs_text, CALL_INPUTS_OPEN, strlen(CALL_INPUTS_OPEN)) == 0;
}

static char *runs_input(const struct step *s)
{
        const char *from = s->run->inputs_text + strlen(CALL_INPUTS_OPEN);
        char *text = mem_strndup(from, strlen(from) - 1);

        if (!text)
                abort();
        return text;
}

const char *step_own_input(const struct step *s)
{
        return input_is_runs(s) ? budget_input(s) : s->input;
}

void step_restore_input(struct step *s, const char *stored)
{
        s->input = !stored && input_is_runs(s) ? runs_input(s) : engine_strdup(stored);
}

/* The tool's input with every expression evaluated; process tools also get the workflow's and the step's env.
 */
static int eval_input(struct step *s, const struct expr_env *env, struct err *e)
{
        cJSON *in = NULL;
        int rc;

        if (input_is_runs(s)) {
                mem_free(s->input);
                s->input = runs_input(s);
                return 0;
        }
        rc = tmpl_eval_json(s->def->with, env, &in, e);

        if (!rc && (s->run->wf->env || s->def->env) && !strncmp(s->def->tool, "process.", 8)) {
                cJSON *all = cJSON_CreateObject(), *own = cJSON_DetachItemFromObjectCaseSensitive(in, "env");

                rc = merge_into(all, s->run->wf->env, env, e);
                if (!rc)
                        rc = merge_into(all, s->def->env, env, e);
                while (own && own->child) {
                        cJSON *c = cJSON_DetachItemViaPointer(own, own->child);

                        cJSON_DeleteItemFromObjectCaseSensitive(all, c->string);
                        cJSON_AddItemToObject(all, c->string, c);
                }
                cJSON_Delete(own);
                cJSON_AddItemToObject(in, "env", all);
        }
        if (!rc) {
                mem_free(s->input);
                s->input = in ? json_text(in) : engine_strdup("{}");
                if (!s->input)
                        abort();
                if (strlen(s->input) > EXPR_OUTPUT_MAX)
                        rc = err_set(e, E_TOOBIG,
                                     "the input is %zu bytes, the limit is %u; pass large data as a file",
                                     strlen(s->input), EXPR_OUTPUT_MAX);
        }
        cJSON_Delete(in);
        return rc;
}

static int prepare(struct step *s, const char **code, struct err *e)
{
        struct expr_env env;
        struct step_scope *sc = scope_create(s->run, s, &env);
        struct plan_label *labels = NULL;
        size_t n_labels = 0;
        char *agent = NULL, *name = NULL;
        int rc = secrets_check(s, code, e);

        if (!rc) {
                sc->secrets = secrets_context(s);
                rc = eval_input(s, &env, e);
                cJSON_Delete(sc->secrets);
                sc->secrets = NULL;
        }
        if (!rc && s->def->agent)
                rc = tmpl_eval_str(s->def->agent, &env, &agent, e);
        if (!rc)
                rc = eval_labels(s, &env, &labels, &n_labels, e);
        if (!rc && s->def->concurrency.group)
                rc = tmpl_eval_str(s->def->concurrency.group, &env, &name, e);
        if (!rc && step_is_routed(s)) {
                *code = "invalid_input";
                rc = route_prepare(s, e);
        }
        if (!rc) {
                struct group *g =
                        name ? group_get(s->run->en, name, (uint32_t)s->def->concurrency.limit) : NULL;

                if (s->state != STEP_READY) { /* it is, where a budget held it up */
                        s->ready_us = engine_now(s->run->en);
                        step_move(s, STEP_READY);
                }
                demand_add(s, agent, labels, n_labels, g);
        }
        free_labels(labels, n_labels);
        mem_free(agent);
        mem_free(name);
        scope_free(sc);
        return rc;
}

void step_prepare(struct step *s)
{
        const char *code = "expression_error";
        struct err e = {0};

        list_remove(&s->vault_wait);
        if (s->def->approval)
                approval_open(s);
        else if (secrets_must_wait(s))
                secrets_wait(s);
        else if (prepare(s, &code, &e))
                step_fail(s, code, e.msg);
}

/* ---- ends ---- */

/* Does its failure count as success? Not where an approval says that silence fails the run. */
bool step_tolerated(const struct step *s)
{
        const struct approval_def *a = s->def->approval;

        if (a && a->rules.then == THEN_FAIL && s->error_code && !strcmp(s->error_code, "approval_expired"))
                return false;
        return s->def->continue_on_error;
}

void step_end(struct step *s, enum step_state to)
{
        if (s->demand)
                demand_remove(s);
        budget_forget(s);
        budget_asked(s);
        budget_end(s);
        step_detach(s);
        s->ok = to == STEP_SUCCEEDED || (to == STEP_FAILED && step_tolerated(s));
        s->finished_us = s->finished_us ? s->finished_us : engine_now(s->run->en);
        step_move(s, to);
        step_over(s);
}

void step_fail(struct step *s, const char *code, const char *message)
{
        set_text(&s->error_code, code);
        set_text(&s->error_message, message);
        step_end(s, STEP_FAILED);
}

static void tell_dependents(struct step *s)
{
        struct run *r = s->run;
        const struct def_info *in = &r->info[s->def - r->wf->steps];

        if (s->def->finally)
                r->open_finally--;
        else
                r->open_main--;
        for (size_t i = 0; i < in->n_dependents; i++) {
                struct step *d = r->steps[in->dependents[i]];

                if (d->unmet > 0 && --d->unmet == 0 && d->state == STEP_BLOCKED &&
                    (!d->def->finally || r->finally_started))
                        step_activate(d);
        }
}

/* One step's end can end thousands (skipped dependents): a list, not recursion. */
void step_over(struct step *s)
{
        struct engine *en = s->run->en;
        struct list *it;

        list_push_back(&en->over, &s->queue);
        if (en->in_over)
                return;
        en->in_over = true;
        while ((it = list_pop(&en->over))) {
                struct step *o = container_of(it, struct step, queue);

                if (o->parent)
                        fanout_child_over(o);
                else
                        tell_dependents(o);
                if (!o->run->over)
                        run_settle(o->run);
        }
        en->in_over = false;
}

/* ---- results ---- */

void step_note_attempt(struct step *s, const char *outcome)
{
        struct row_attempt a = {
                .run_seq = s->run->seq,
                .idx = s->idx,
                .attempt = s->attempt,
                .attempt_id = s->attempt_id,
                .agent_name = s->agent ? s->agent->name : NULL,
                .outcome = outcome,
                .error_code = s->error_code,
                .error_message = s->error_message,
                .outputs = s->outputs,
                .has_exit_code = s->has_exit_code,
                .exit_code = s->exit_code,
                .output_bytes = s->output_bytes,
                .dispatched_us = s->dispatched_us,
                .started_us = s->started_us,
                .finished_us = s->finished_us ? s->finished_us : engine_now(s->run->en),
        };

        store_put_attempt(engine_tx(s->run->en), &a);
        if (s->small_output) {
                store_put_small_output(engine_tx(s->run->en), s->attempt_id, s->small_output,
                                       s->small_output_len);
                mem_free(s->small_output);
                s->small_output = NULL;
        }
}

void step_reset(struct step *s)
{
        set_text(&s->outputs, NULL);
        set_text(&s->error_code, NULL);
        set_text(&s->error_message, NULL);
        set_text(&s->usage, NULL);
        cJSON_Delete(s->ctx);
        s->ctx = NULL;
        s->has_exit_code = s->ok = s->below_failure = s->result_seen = false;
        s->exit_code = 0;
        s->output_bytes = 0;
        s->started_us = s->finished_us = 0;
        s->clear = true;
}

void step_requeue(struct step *s, int64_t delay_ms)
{
        struct engine *en = s->run->en;
        struct timer t = {.kind = TIMER_STEP, .run_seq = s->run->seq, .idx = s->idx};

        budget_end(s);
        step_detach(s);
        if (delay_ms <= 0) {
                step_prepare(s);
                return;
        }
        s->not_before_us = engine_now(en) + delay_ms * 1000;
        t.at_ms = clock_mono_ms(&en->clock) + delay_ms;
        if (timers_add(&en->timers, &t))
                abort();
        step_move(s, STEP_WAITING);
}

/* The agent vanished, or says it died, while it had the attempt. */
void step_lost(struct step *s, const char *why)
{
        struct engine *en = s->run->en;
        char text[320];

        en->stats.lost_total++;
        snprintf(text, sizeof text, "agent %s was lost while it ran this: %s",
                 s->agent ? s->agent->name : "?", why);
        set_text(&s->error_code, "agent_lost");
        set_text(&s->error_message, text);
        if (s->cancel_requested) {
                step_end(s, STEP_CANCELLED);
                return;
        }
        if (s->def->effect == EFFECT_AT_MOST_ONCE) {
                snprintf(text, sizeof text,
                         "agent %s was lost while it ran this (%s); it may or may not have taken effect, and "
                         "the step is "
                         "at-most-once: look, then answer retry, succeeded or failed",
                         s->agent ? s->agent->name : "?", why);
                set_text(&s->error_message, text);
                if (s->state != STEP_UNKNOWN)
                        step_move(s, STEP_UNKNOWN);
                run_settle(s->run);
                return;
        }
        if (++s->losses > (uint32_t)en->opt.losses_max) {
                snprintf(text, sizeof text, "given up after %u attempts whose agents were lost", s->losses);
                step_fail(s, "agent_lost", text);
                return;
        }
        step_note_attempt(s, "lost");
        step_reset(s);
        step_requeue(s, 0);
}

/* The agent ended while the call waited for people: nothing of what was asked was done, so the person who
 * decides about the step need not guess about that. */
static void question_lost(struct step *s, const char *message)
{
        struct engine *en = s->run->en;
        char text[1200];

        if (s->cancel_requested || s->def->effect != EFFECT_AT_MOST_ONCE) {
                step_lost(s, "it was restarted while the call waited for an answer");
                return;
        }
        en->stats.lost_total++;
        snprintf(text, sizeof text,
                 "%s. What it did before that stands: answer retry (photon run resolve RUN STEP retry), "
                 "succeeded or failed",
                 message);
        set_text(&s->error_code, "question_lost");
        set_text(&s->error_message, text);
        step_move(s, STEP_UNKNOWN);
        run_settle(s->run);
}

static bool will_retry(const struct step *s)
{
        return !s->run->cancel_requested && !s->cancel_requested && (int)s->retries < s->def->retry.limit;
}

static void failed(struct step *s)
{
        if (route_again(s))
                return;
        if (!will_retry(s)) {
                step_end(s, STEP_FAILED);
                return;
        }
        step_note_attempt(s, "failed");
        s->retries++;
        route_restart(s);
        step_reset(s);
        step_requeue(s, retry_delay_ms(&s->def->retry, (int)s->retries, engine_rnd(s->run->en)));
}

/* Nothing ran. Some refusals pass by themselves, others never will. */
static void refused(struct step *s, const struct engine_result *r)
{
        const char *code = r->error_code ? r->error_code : "refused";

        if (s->cancel_requested) {
                step_end(s, STEP_CANCELLED);
        } else if (!strcmp(code, "agent_busy") || !strcmp(code, "agent_draining") ||
                   !strcmp(code, "agent_no_space")) {
                step_note_attempt(s, "refused");
                step_reset(s);
                step_requeue(s, 1000);
        } else {
                step_end(s, STEP_FAILED);
        }
}

/* An agent's clock is guessed at over a connection and may be milliseconds off, more when the hub was busy
 * then. In our own time nothing starts before it was sent or ends after we know it, so that a step never
 * seems to start before the end of what it needed. Its length stays, where it fits between the two. */
static void take_times(struct step *s, int64_t started_us, int64_t finished_us)
{
        int64_t now = engine_now(s->run->en), shift = 0;

        if (finished_us > now)
                shift = now - finished_us;
        else if (started_us && started_us < s->dispatched_us)
                shift = s->dispatched_us - started_us;
        if (started_us) {
                started_us += shift;
                started_us = started_us < s->dispatched_us ? s->dispatched_us
                             : started_us > now            ? now
                                                           : started_us;
        }
        if (finished_us) {
                finished_us += shift;
                finished_us = finished_us > now                ? now
                              : finished_us < s->dispatched_us ? s->dispatched_us
                                                               : finished_us;
                finished_us = finished_us < started_us ? started_us : finished_us;
        }
        s->started_us = started_us;
        s->finished_us = finished_us;
}

static void take_result(struct step *s, const struct engine_result *r)
{
        set_text(&s->outputs, r->outputs && r->outputs[0] ? r->outputs : NULL);
        set_text(&s->error_code, r->error_code && r->error_code[0] ? r->error_code : NULL);
        set_text(&s->error_message, r->error_message && r->error_message[0] ? r->error_message : NULL);
        set_text(&s->usage, r->usage && r->usage[0] ? r->usage : NULL);
        s->has_exit_code = r->has_exit_code;
        s->exit_code = r->exit_code;
        take_times(s, r->started_us, r->finished_us);
        s->output_bytes = r->output_bytes;
        if (r->small_output_len) {
                mem_free(s->small_output);
                s->small_output = mem_dup(r->small_output, r->small_output_len);
                s->small_output_len = s->small_output ? r->small_output_len : 0;
                if (!s->small_output)
                        abort();
        }
        s->result_seen = true;
        if (s->state == STEP_DISPATCHED || s->state == STEP_UNKNOWN)
                step_move(s, STEP_RUNNING);
}

static void no_error_name(struct step *s, const char *code, const char *message)
{
        if (!s->error_code) {
                set_text(&s->error_code, code);
                set_text(&s->error_message, message);
        }
}

static void apply_result(struct step *s, const struct engine_result *r)
{
        switch (r->outcome) {
        case ENGINE_SUCCEEDED:
                step_end(s, STEP_SUCCEEDED);
                break;
        case ENGINE_TIMED_OUT:
                no_error_name(s, "timeout", "the tool call took longer than its timeout and was stopped");
                failed(s);
                break;
        case ENGINE_FAILED:
                no_error_name(s, "failed", "the tool failed and gave no reason");
                failed(s);
                break;
        case ENGINE_REFUSED:
                no_error_name(s, "refused", "the agent refused the tool call and gave no reason");
                refused(s, r);
                break;
        case ENGINE_CANCELLED:
                if (s->cancel_requested || s->run->cancel_requested) {
                        step_end(s, STEP_CANCELLED);
                } else if (s->def->effect != EFFECT_AT_MOST_ONCE) {
                        step_lost(s, "the agent was stopped");
                } else {
                        set_text(&s->error_code, "agent_stopped");
                        set_text(&s->error_message, "the agent was stopped and ended the tool call; the step "
                                                    "is at-most-once, so it was not tried again");
                        step_end(s, STEP_FAILED);
                }
                break;
        case ENGINE_LOST:
                step_asks_withdraw(s); /* whoever waited for the answers is dead */
                if (r->error_code && !strcmp(r->error_code, "question_lost"))
                        question_lost(s, r->error_message ? r->error_message : "");
                else
                        step_lost(s, r->error_message && r->error_message[0] ? r->error_message
                                                                             : "the agent died");
                break;
        }
}

/* What the agent's policy decided is on record with the result that tells of it. */
static void audit_policy(struct step *s, const struct engine_result *r)
{
        struct engine *en = s->run->en;
        char more[24];

        for (size_t i = 0; i < r->n_policy; i++) {
                const struct engine_policy_answer *p = &r->policy[i];

                engine_audit(en, s->agent->name, p->allowed ? "policy.allow" : "policy.deny", s->run->id,
                             (const struct audit_word[]){{"step", s->id},
                                                         {"action", p->action},
                                                         {"tool", p->tool},
                                                         {"title", p->title},
                                                         {"arguments_sha256", p->arguments_sha256},
                                                         {"by", p->by},
                                                         {"reason", p->reason},
                                                         {0}});
        }
        if (r->policy_more) {
                snprintf(more, sizeof more, "%u", r->policy_more);
                engine_audit(en, s->agent->name, "policy.more", s->run->id,
                             (const struct audit_word[]){{"step", s->id}, {"answers", more}, {0}});
        }
        /* What this hub has sent did not arrive as it was sent, or was not from it. */
        if (r->outcome == ENGINE_REFUSED && r->error_code &&
            (!strcmp(r->error_code, "step_signature") || !strcmp(r->error_code, "step_replayed") ||
             !strcmp(r->error_code, "step_stale")))
                engine_audit(en, s->agent->name, "step.refused", s->run->id,
                             (const struct audit_word[]){{"step", s->id},
                                                         {"tool", s->def->tool},
                                                         {"code", r->error_code},
                                                         {"reason", r->error_message},
                                                         {0}});
        if (r->outcome == ENGINE_REFUSED && r->error_code && strcmp(r->error_code, "policy_denied") == 0)
                engine_audit(
                        en, s->agent->name, "policy.deny", s->run->id,
                        (const struct audit_word[]){
                                {"step", s->id}, {"tool", s->def->tool}, {"reason", r->error_message}, {0}});
}

void engine_on_finished(struct engine *en, const char *agent_id, const struct engine_result *r,
                        void (*on_committed)(void *arg), void *arg)
{
        struct step *s = map_get_u64(en->attempts, r->attempt_id);

        /* Stale and repeated results are acknowledged too, with this turn's commit: an
         * earlier commit that holds the real one is durable by then. */
        if (s && s->agent && !strcmp(s->agent->id, agent_id) &&
            !(s->state == STEP_UNKNOWN && r->outcome == ENGINE_LOST)) {
                if (r->sync_fd >= 0)
                        store_sync_fd(engine_tx(en), r->sync_fd);
                take_result(s, r);
                audit_policy(s, r);
                route_on_result(s, r);
                if (budget_on_result(s, r))
                        step_end(s, STEP_FAILED);
                else
                        apply_result(s, r);
        } else if (r->usage) {
                budget_late(en, agent_id, r);
        }
        engine_after_ack(en, agent_id, r->attempt_id);
        if (on_committed)
                engine_after_call(en, on_committed, arg);
}

void engine_on_started(struct engine *en, const char *agent_id, uint64_t attempt_id, int64_t at_us)
{
        struct step *s = map_get_u64(en->attempts, attempt_id);

        if (!s || !s->agent || strcmp(s->agent->id, agent_id) != 0 || s->state != STEP_DISPATCHED)
                return;
        take_times(s, at_us, 0);
        step_move(s, STEP_RUNNING);
}

bool engine_wants_output(const struct engine *en, const char *agent_id, uint64_t attempt_id)
{
        struct step *s = map_get_u64(en->attempts, attempt_id);

        return s && s->agent && !strcmp(s->agent->id, agent_id);
}
