/* workflow_parse: no text may crash it; what it refuses has a reason; what it
 * accepts is whole: every need is a step, no step needs itself around a circle,
 * and inputs and expansion answer. */
#include "common/err.h"
#include "common/json.h"
#include "hub/model/workflow.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int ok)
{
        if (!ok)
                abort();
}

static const cJSON *lookup(void *ctx, const char *name)
{
        (void)name;
        return ctx;
}

/* Removes steps without open needs until none is left; n is small here. */
static void check_acyclic(const struct workflow *w)
{
        unsigned char *done = calloc(w->n_steps, 1);
        size_t left = w->n_steps, before;

        require(done != NULL);
        do {
                before = left;
                for (size_t i = 0; i < w->n_steps; i++) {
                        size_t k = 0;

                        while (k < w->steps[i].n_needs && done[w->steps[i].needs[k]])
                                k++;
                        if (!done[i] && k == w->steps[i].n_needs) {
                                done[i] = 1;
                                left--;
                        }
                }
        } while (left && left < before);
        require(left == 0);
        free(done);
}

static void check_step(const struct workflow *w, const struct step_def *s)
{
        struct expr_env env = {.lookup = lookup, .success = true};
        struct err e = {0};
        cJSON *ctx = cJSON_CreateObject(), *out = NULL;

        require(s->id && s->tool && cJSON_IsObject(s->with) && workflow_step(w, s->id) == s);
        require(!(s->matrix && s->for_each) && s->retry.factor >= 1 && s->timeout_ms >= 0);
        for (size_t i = 0; i < s->n_needs; i++)
                require(s->needs[i] < w->n_steps && &w->steps[s->needs[i]] != s);
        env.ctx = ctx;
        if ((s->matrix || s->for_each) && workflow_expand(s, &env, 1000, &out, &e) == 0)
                require(cJSON_GetArraySize(out) <= 1000);
        cJSON_Delete(out);
        cJSON_Delete(ctx);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct workflow *w = NULL;
        struct err e = {0};
        cJSON *inputs = NULL;
        int rc = workflow_parse((const char *)data, size, &w, &e);

        if (rc) {
                require(!w && e.msg[0] && (rc == -E_INVAL || rc == -E_TOOBIG));
                return 0;
        }
        require(w->name && w->n_steps >= 1);
        for (size_t i = 0; i < w->n_steps; i++)
                check_step(w, &w->steps[i]);
        if (w->n_steps <= 200)
                check_acyclic(w);
        if (workflow_inputs(w, NULL, true, &inputs, &e) == 0)
                require((size_t)cJSON_GetArraySize(inputs) == w->n_inputs);
        cJSON_Delete(inputs);
        workflow_free(w);
        return 0;
}
