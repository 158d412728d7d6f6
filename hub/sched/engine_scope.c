/* What the expressions of a step see: steps, needs, inputs, env, matrix, each, run, workflow. */
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/mem.h"
#include "hub/sched/engine_impl.h"

static const char *result_name(const struct step *s, bool after_tolerance)
{
        switch (s->state) {
        case STEP_SUCCEEDED:
                return "success";
        case STEP_FAILED:
                return after_tolerance && s->ok ? "success" : "failure";
        case STEP_SKIPPED:
                return "skipped";
        case STEP_CANCELLED:
                return "cancelled";
        default:
                return "";
        }
}

/* The outputs of a fan-out step are the list of its instances' outputs, in order. */
static cJSON *outputs_of(struct step *s)
{
        cJSON *v = NULL;

        if (s->fanout) {
                cJSON *list = cJSON_CreateArray();

                for (uint32_t i = 0; list && i < s->n_children; i++)
                        cJSON_AddItemToArray(list, outputs_of(s->run->steps[s->first_child + i]));
                return list;
        }
        if (s->outputs && json_parse(s->outputs, strlen(s->outputs), &v, NULL) == 0)
                return v;
        return cJSON_CreateObject();
}

cJSON *step_context(struct step *s)
{
        if (s->ctx)
                return s->ctx;
        s->ctx = cJSON_CreateObject();
        if (!s->ctx || !cJSON_AddItemToObject(s->ctx, "outputs", outputs_of(s)) ||
            !cJSON_AddStringToObject(s->ctx, "result", result_name(s, true)) ||
            !cJSON_AddStringToObject(s->ctx, "conclusion", result_name(s, true)) ||
            !cJSON_AddStringToObject(s->ctx, "outcome", result_name(s, false)) ||
            !cJSON_AddStringToObject(s->ctx, "state", step_state_name(s->state)))
                abort(); /* no memory: see engine.c */
        return s->ctx;
}

static void add_step(struct step_scope *sc, struct step *s)
{
        if (step_state_final(s->state))
                cJSON_AddItemReferenceToObject(sc->steps, s->def->id, step_context(s));
}

static void make_steps(struct step_scope *sc)
{
        struct run *r = sc->run;
        const struct def_info *in = sc->step ? &r->info[sc->step->def - r->wf->steps] : NULL;

        sc->steps = cJSON_CreateObject();
        if (!sc->steps)
                abort();
        if (in && !in->refs_all) {
                for (size_t i = 0; i < in->n_refs; i++)
                        add_step(sc, r->steps[in->refs[i]]);
                return;
        }
        for (size_t i = 0; i < r->wf->n_steps; i++)
                if (r->info[i].wanted)
                        add_step(sc, r->steps[i]);
}

static void merge_env(struct step_scope *sc, const cJSON *env, struct expr_env *ee)
{
        cJSON *v = NULL;

        if (!env || tmpl_eval_texts(env, ee, &v, NULL))
                return; /* the mistake is reported where the input is evaluated */
        while (v && v->child) {
                cJSON *c = cJSON_DetachItemViaPointer(v, v->child);

                cJSON_DeleteItemFromObjectCaseSensitive(sc->env, c->string);
                cJSON_AddItemToObject(sc->env, c->string, c);
        }
        cJSON_Delete(v);
}

static const cJSON *lookup(void *ctx, const char *name);

static void make_env(struct step_scope *sc)
{
        cJSON *marks =
                sc->secrets; /* what env.NAME gives may stand anywhere, also in a command: no marks there */
        struct expr_env ee = {.lookup = lookup, .ctx = sc, .success = true};

        sc->env = cJSON_CreateObject();
        if (!sc->env)
                abort();
        sc->secrets = NULL;
        merge_env(sc, sc->run->wf->env, &ee);
        if (sc->step)
                merge_env(sc, sc->step->def->env, &ee);
        sc->secrets = marks;
}

static const cJSON *lookup(void *ctx, const char *name)
{
        struct step_scope *sc = ctx;
        struct run *r = sc->run;

        if (!strcmp(name, "inputs"))
                return r->inputs ? r->inputs : sc->empty;
        if (!strcmp(name, "steps") || !strcmp(name, "needs")) {
                if (!sc->steps)
                        make_steps(sc);
                return sc->steps;
        }
        if (!strcmp(name, "run"))
                return r->run_ctx;
        if (!strcmp(name, "workflow"))
                return r->wf_ctx;
        if (!strcmp(name, "secrets"))
                return sc->secrets ? sc->secrets : sc->empty;
        if (!strcmp(name, "env")) {
                if (!sc->env)
                        make_env(sc);
                return sc->env;
        }
        if (!strcmp(name, "matrix") || !strcmp(name, "each")) {
                bool each = sc->step && sc->step->def->for_each;

                if (sc->step && sc->step->matrix && each == !strcmp(name, "each"))
                        return sc->step->matrix;
                return sc->empty;
        }
        return NULL;
}

/* success(): every need succeeded (or failed and was allowed to); failure(): one failed. */
static void status_of_needs(struct step *s, struct expr_env *env)
{
        struct run *r = s->run;

        env->success = !r->cancel_requested;
        env->cancelled = r->cancel_requested;
        if (s->def->finally) {
                for (size_t i = 0; i < r->wf->n_steps; i++) {
                        struct step *n = r->steps[i];

                        if (!n->def->finally && (n->state == STEP_FAILED || n->state == STEP_CANCELLED) &&
                            !n->ok) {
                                env->success = false;
                                env->failure |= n->state == STEP_FAILED;
                        }
                }
                return;
        }
        for (size_t i = 0; i < s->def->n_needs; i++) {
                struct step *n = r->steps[s->def->needs[i]];

                if (!n->ok)
                        env->success = false;
                if ((n->state == STEP_FAILED && !n->ok) || n->below_failure)
                        env->failure = true;
        }
}

struct step_scope *scope_create(struct run *r, struct step *s, struct expr_env *env)
{
        struct step_scope *sc = engine_alloc(sizeof *sc);

        sc->run = r;
        sc->step = s;
        sc->empty = cJSON_CreateObject();
        if (!sc->empty)
                abort();
        *env = (struct expr_env){
                .lookup = lookup, .ctx = sc, .success = true, .cancelled = r->cancel_requested};
        if (s)
                status_of_needs(s, env);
        return sc;
}

void scope_free(struct step_scope *sc)
{
        if (!sc)
                return;
        cJSON_Delete(sc->steps);
        cJSON_Delete(sc->env);
        cJSON_Delete(sc->empty);
        mem_free(sc);
}
