/* Matrix and for-each: one written step, many instances. The written step runs from
 * the moment its list is known until the last instance is over. */
#include <stdio.h>
#include <stdlib.h>

#include "common/mem.h"
#include "hub/sched/engine_impl.h"

void fanout_settle(struct step *p)
{
        enum step_state to = STEP_SUCCEEDED;
        uint32_t failed = 0; /* continue-on-error or not: step_end knows what that means */
        char text[160];

        for (uint32_t i = 0; i < p->n_children; i++) {
                const struct step *c = p->run->steps[p->first_child + i];

                failed += c->state == STEP_FAILED;
                if (c->state == STEP_CANCELLED)
                        to = STEP_CANCELLED;
        }
        if (failed) {
                to = STEP_FAILED;
                snprintf(text, sizeof text, "%u of %u instances failed", failed, p->n_children);
                set_text(&p->error_code, "instance_failed");
                set_text(&p->error_message, text);
        }
        step_end(p, to);
}

void fanout_next(struct step *p)
{
        uint32_t room = p->def->max_parallel > 0 ? (uint32_t)p->def->max_parallel : UINT32_MAX;

        while (p->next_child < p->n_children && p->children_running < room && p->state == STEP_RUNNING) {
                struct step *c = p->run->steps[p->first_child + p->next_child++];

                if (c->state != STEP_BLOCKED)
                        continue;
                p->children_running++;
                if (p->run->cancel_requested && !p->def->finally && !p->def->cond)
                        step_end(c, STEP_CANCELLED);
                else
                        step_prepare(c);
        }
}

void fanout_open(struct step *s)
{
        struct expr_env env;
        struct err e = {0};
        struct step_scope *sc = scope_create(s->run, s, &env);
        cJSON *items = NULL, *item;
        int rc = workflow_expand(s->def, &env, RUN_STEPS_MAX - s->run->n_steps, &items, &e);

        scope_free(sc);
        if (rc) {
                step_fail(s, "expression_error", e.msg);
                return;
        }
        if (cJSON_GetArraySize(items) > 0)
                s->started_us = engine_now(s->run->en);
        s->first_child = s->run->n_steps;
        step_move(s, STEP_RUNNING);
        while ((item = cJSON_DetachItemFromArray(items, 0))) {
                struct step *c = run_add_step(s->run, s->def, s, item, &e);

                if (!c)
                        break;
                s->n_children++;
                step_dirty(c);
        }
        cJSON_Delete(items);
        run_dirty(s->run);
        if (s->n_children)
                fanout_next(s);
        else
                step_end(s, STEP_SUCCEEDED);
}

/* fail-fast: the others are not worth finishing. */
static void stop_others(struct step *p)
{
        for (uint32_t i = 0; i < p->n_children; i++) {
                struct step *c = p->run->steps[p->first_child + i];

                if (!step_state_final(c->state))
                        step_cancel(c, "another instance failed (fail-fast)");
        }
}

void fanout_child_over(struct step *c)
{
        struct step *p = c->parent;

        if (p->state != STEP_RUNNING)
                return;
        p->children_over++;
        if (p->children_running)
                p->children_running--;
        if (c->state == STEP_FAILED && !c->ok) {
                if (p->children_failed++ == 0 && p->def->fail_fast) {
                        p->next_child = p->n_children;
                        stop_others(p);
                }
        }
        if (p->children_over == p->n_children)
                fanout_settle(p);
        else
                fanout_next(p);
}
