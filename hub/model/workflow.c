#include "hub/model/workflow.h"

#include <math.h>
#include <string.h>

#include "common/err.h"
#include "common/map.h"
#include "common/mem.h"

static const char *const effect_names[] = {
        [EFFECT_AT_MOST_ONCE] = "at-most-once",
        [EFFECT_IDEMPOTENT] = "idempotent",
        [EFFECT_PURE] = "pure",
};

const char *effect_name(enum effect e)
{
        return effect_names[e];
}

int effect_parse(const char *s, enum effect *out)
{
        for (size_t i = 0; i < sizeof effect_names / sizeof *effect_names; i++) {
                if (strcmp(effect_names[i], s) != 0)
                        continue;
                *out = (enum effect)i;
                return 0;
        }
        return -E_INVAL;
}

static void step_fini(struct step_def *s)
{
        mem_free(s->id);
        mem_free(s->name);
        mem_free(s->tool);
        cJSON_Delete(s->with);
        cJSON_Delete(s->env);
        for (size_t i = 0; i < s->n_secrets; i++) {
                mem_free(s->secrets[i].name);
                mem_free(s->secrets[i].env);
        }
        mem_free(s->secrets);
        expr_free(s->cond);
        mem_free(s->cond_text);
        mem_free(s->needs);
        mem_free(s->agent);
        cJSON_Delete(s->runs_on);
        mem_free(s->concurrency.group);
        cJSON_Delete(s->matrix);
        cJSON_Delete(s->for_each);
        if (s->approval) {
                mem_free(s->approval->question);
                cJSON_Delete(s->approval->show);
                approval_rules_fini(&s->approval->rules);
        }
        mem_free(s->approval);
}

void workflow_free(struct workflow *w)
{
        if (!w)
                return;
        for (size_t i = 0; i < w->n_steps; i++)
                step_fini(&w->steps[i]);
        for (size_t i = 0; i < w->n_inputs; i++) {
                mem_free(w->inputs[i].name);
                cJSON_Delete(w->inputs[i].def);
                cJSON_Delete(w->inputs[i].options);
                mem_free(w->inputs[i].description);
        }
        mem_free(w->steps);
        mem_free(w->inputs);
        mem_free(w->name);
        mem_free(w->description);
        cJSON_Delete(w->env);
        cJSON_Delete(w->outputs);
        mem_free(w->concurrency.group);
        map_free(w->by_id);
        mem_free(w);
}

const struct step_def *workflow_step(const struct workflow *w, const char *id)
{
        return map_get(w->by_id, id);
}

int64_t retry_delay_ms(const struct retry_def *r, int retry, double rnd)
{
        double delay = (double)r->duration_ms * pow(r->factor, retry > 1 ? retry - 1 : 0);

        /* pow may have run to infinity: the cap takes care of it. */
        if (!(delay <= (double)r->max_ms))
                delay = (double)r->max_ms;
        delay = delay * (1 - r->jitter) + delay * r->jitter * rnd;
        return (int64_t)(delay + 0.5);
}
