#include "hub/model/workflow_internal.h"

#include <stdio.h>
#include <string.h>

#include "common/mem.h"
#include "common/str.h"

/* What may follow each context's name, where that is fixed. */
static const char *const step_members[] = {"outputs", "result", "outcome", "conclusion", "state", NULL};
static const char *const each_members[] = {"item", "index", NULL};
static const char *const run_members[] = {"id", "name", "created_by", NULL};
static const char *const workflow_members[] = {"name", NULL};

static const struct {
        const char *name;
        unsigned bit;
        const char *const *members; /* NULL: not fixed */
} contexts[] = {
        {"inputs", C_INPUTS, NULL},   {"steps", C_STEPS, NULL},
        {"needs", C_NEEDS, NULL},     {"env", C_ENV, NULL},
        {"matrix", C_MATRIX, NULL},   {"each", C_EACH, each_members},
        {"run", C_RUN, run_members},  {"workflow", C_WORKFLOW, workflow_members},
        {"secrets", C_SECRETS, NULL},
};

#define N_CONTEXTS (sizeof contexts / sizeof *contexts)

static int fail_ref(struct scope *sc, const struct expr_ref *r, const char *what)
{
        return wf_fail_in(sc->p, sc->d, sc->base + r->pos, "\"%s\" of %s: %s", sc->key, sc->p->where, what);
}

/* "unknown <kind> "<word>": did you mean ...", with the nearest of a list. */
static int fail_unknown(struct scope *sc, const struct expr_ref *r, const char *kind, const char *word,
                        const char *const *names, size_t n)
{
        const char *near = str_nearest(word, names, n);
        char msg[400];
        size_t used;

        used = (size_t)snprintf(msg, sizeof msg, "unknown %s \"%.60s\"", kind, word);
        if (near)
                snprintf(msg + used, sizeof msg - used, ": did you mean \"%.130s\"?", near);
        for (size_t i = 0; !near && i < n && i < 10 && used < sizeof msg; i++)
                used += (size_t)snprintf(msg + used, sizeof msg - used, "%s%.60s", i ? ", " : ": known are ",
                                         names[i]);
        return fail_ref(sc, r, msg);
}

static int check_member(struct scope *sc, const struct expr_ref *r, const char *kind, const char *word,
                        const char *const *members)
{
        size_t n = 0;

        for (; members[n]; n++)
                if (str_ieq(members[n], word))
                        return 0;
        return fail_unknown(sc, r, kind, word, members, n);
}

/* Names that a program collects itself (inputs, steps): lent for one message. */
static int fail_among(struct scope *sc, const struct expr_ref *r, const char *kind, size_t n,
                      const char *(*name_of)(const struct workflow *w, size_t i))
{
        const char **names = mem_alloc((n + 1) * sizeof *names);
        int rc;

        if (!names)
                return wf_nomem(sc->p);
        for (size_t i = 0; i < n; i++)
                names[i] = name_of(sc->p->w, i);
        rc = fail_unknown(sc, r, kind, r->second, names, n);
        mem_free(names);
        return rc;
}

static const char *input_name(const struct workflow *w, size_t i)
{
        return w->inputs[i].name;
}

static const char *step_name(const struct workflow *w, size_t i)
{
        return w->steps[i].id;
}

static int check_input(struct scope *sc, const struct expr_ref *r)
{
        const struct workflow *w = sc->p->w;

        for (size_t i = 0; i < w->n_inputs; i++)
                if (strcmp(w->inputs[i].name, r->second) == 0)
                        return 0;
        if (w->n_inputs == 0)
                return fail_ref(sc, r, "the workflow declares no inputs: add them under \"inputs\"");
        return fail_among(sc, r, "input", w->n_inputs, input_name);
}

static int add_far_ref(struct scope *sc, const struct expr_ref *r, size_t target)
{
        struct wf_parser *p = sc->p;

        if (p->n_refs == p->cap_refs) {
                size_t cap = p->cap_refs ? p->cap_refs * 2 : 64;
                struct far_ref *grown = mem_realloc(p->refs, cap * sizeof *grown);

                if (!grown)
                        return wf_nomem(p);
                p->refs = grown;
                p->cap_refs = cap;
        }
        p->refs[p->n_refs++] = (struct far_ref){sc->index, target, sc->d, sc->base + r->pos};
        return 0;
}

static int check_step(struct scope *sc, const struct expr_ref *r, bool direct)
{
        struct wf_parser *p = sc->p;
        size_t target = (size_t)(uintptr_t)map_get(p->ids, r->second);
        char msg[400];

        if (!target)
                return fail_among(sc, r, "step", p->w->n_steps, step_name);
        target--;
        if (r->third) {
                int rc = check_member(sc, r, "property of a step", r->third, step_members);

                if (rc)
                        return rc;
        }
        if (!sc->step)
                return 0;
        if (target == sc->index)
                return fail_ref(sc, r, "a step cannot mention its own result");
        if (p->direct[target] == sc->index + 1)
                return 0;
        if (direct) {
                snprintf(msg, sizeof msg,
                         "\"needs.%s\" is not there: \"%s\" is not in the \"needs\" of this step", r->second,
                         r->second);
                return fail_ref(sc, r, msg);
        }
        if (!sc->step->finally && p->w->steps[target].finally)
                return fail_ref(sc, r, "a step of \"finally\" runs last: its result is not known here");
        /* The steps of "finally" come after all the others. */
        if (sc->step->finally && !p->w->steps[target].finally)
                return 0;
        return add_far_ref(sc, r, target);
}

static int on_secrets(void *ctx, const char *root, const char *second)
{
        (void)second;
        *(bool *)ctx = *(bool *)ctx || strcmp(root, "secrets") == 0;
        return 0;
}

static bool mentions_secrets(const char *text)
{
        bool yes = false;

        return tmpl_check(text, on_secrets, &yes, NULL) == 0 && yes;
}

static int check_env(struct scope *sc, const struct expr_ref *r)
{
        const cJSON *of_workflow = sc->p->w->env, *of_step = sc->step ? sc->step->env : NULL;
        const char *names[64];
        const cJSON *it;
        size_t n = 0;

        it = cJSON_GetObjectItem(of_step, r->second);
        if (cJSON_IsString(it) && mentions_secrets(it->valuestring))
                return fail_ref(
                        sc, r,
                        "this variable holds a secret: the command finds it in its environment, expressions "
                        "cannot see it");
        if (it || cJSON_GetObjectItem(of_workflow, r->second))
                return 0;
        cJSON_ArrayForEach(it, of_workflow) if (n < 64) names[n++] = it->string;
        cJSON_ArrayForEach(it, of_step) if (n < 64) names[n++] = it->string;
        if (n == 0)
                return fail_ref(sc, r, "there is no \"env\" in the workflow or in this step");
        return fail_unknown(sc, r, "variable", r->second, names, n);
}

/* The keys of a matrix are known unless an expression makes it or its includes. */
static int check_matrix(struct scope *sc, const struct expr_ref *r)
{
        const cJSON *m = sc->step->matrix, *include = cJSON_GetObjectItemCaseSensitive(m, "include"), *it;
        const char *names[64];
        size_t n = 0;

        if (!cJSON_IsObject(m) || cJSON_IsString(include))
                return 0;
        cJSON_ArrayForEach(it, m)
        {
                if (strcmp(it->string, "include") == 0 || strcmp(it->string, "exclude") == 0)
                        continue;
                if (str_ieq(it->string, r->second))
                        return 0;
                if (n < 64)
                        names[n++] = it->string;
        }
        cJSON_ArrayForEach(it,
                           include) if (cJSON_IsString(it) || cJSON_GetObjectItem(it, r->second)) return 0;
        return fail_unknown(sc, r, "key of the matrix", r->second, names, n);
}

static int not_here(struct scope *sc, const struct expr_ref *r, unsigned bit)
{
        char msg[320];

        if (bit == C_SECRETS)
                return fail_ref(
                        sc, r,
                        sc->step
                                ? "a secret must not be here, where others can see it: give it to the "
                                  "command "
                                  "as a variable (secrets: [NAME], then $NAME), or, in a tool that takes it, "
                                  "as ${{ secrets.NAME }} in \"env\", \"stdin\", \"headers\", \"body\" or "
                                  "\"url\""
                                : "secrets are for steps: name them there");
        if (bit == C_MATRIX && sc->step && !sc->step->matrix)
                return fail_ref(sc, r, "\"matrix\" is only known in a step that has a \"matrix\"");
        if (bit == C_EACH && sc->step && !sc->step->for_each)
                return fail_ref(sc, r, "\"each\" is only known in a step that has a \"for-each\"");
        snprintf(msg, sizeof msg, "\"%s\" is not known here, only%s%s%s%s%s", r->root,
                 sc->allowed & C_INPUTS ? " inputs" : "", sc->allowed & C_STEPS ? " steps" : "",
                 sc->allowed & C_NEEDS ? " needs" : "", sc->allowed & C_ENV ? " env" : "",
                 sc->allowed & C_RUN ? " run workflow" : "");
        return fail_ref(sc, r, msg);
}

static int unknown_root(struct scope *sc, const struct expr_ref *r)
{
        static const char *const keywords[] = {"true", "false", "null"};
        const char *names[N_CONTEXTS];
        char msg[64];

        /* Names come in lower case: this was "True" or "NULL". */
        for (size_t i = 0; i < sizeof keywords / sizeof *keywords; i++) {
                if (strcmp(keywords[i], r->root) != 0)
                        continue;
                snprintf(msg, sizeof msg, "write %s in lower case", keywords[i]);
                return fail_ref(sc, r, msg);
        }
        for (size_t i = 0; i < N_CONTEXTS; i++)
                names[i] = contexts[i].name;
        return fail_unknown(sc, r, "name", r->root, names, N_CONTEXTS);
}

static int on_ref(void *ctx, const struct expr_ref *r)
{
        struct scope *sc = ctx;
        unsigned allowed = sc->allowed;
        size_t i = 0;

        if (sc->step && !sc->step->matrix)
                allowed &= ~(unsigned)C_MATRIX;
        if (sc->step && !sc->step->for_each)
                allowed &= ~(unsigned)C_EACH;
        while (i < N_CONTEXTS && strcmp(contexts[i].name, r->root) != 0)
                i++;
        if (i == N_CONTEXTS)
                return unknown_root(sc, r);
        if (!(contexts[i].bit & allowed))
                return not_here(sc, r, contexts[i].bit);
        if (contexts[i].bit == C_SECRETS)
                return wf_secret_ref(sc, sc->d, sc->base + r->pos, r->second);
        if (!r->second)
                return 0;
        if (contexts[i].members)
                return check_member(sc, r, "property", r->second, contexts[i].members);
        switch (contexts[i].bit) {
        case C_INPUTS:
                return check_input(sc, r);
        case C_STEPS:
        case C_NEEDS:
                return check_step(sc, r, contexts[i].bit == C_NEEDS);
        case C_ENV:
                return check_env(sc, r);
        case C_MATRIX:
                return check_matrix(sc, r);
        default:
                return 0;
        }
}

int scope_text(struct scope *sc, const struct doc *d)
{
        struct err e = {0};
        int rc;

        if (!d->text || !tmpl_has_expr(d->text))
                return 0;
        sc->d = d;
        sc->base = 0;
        rc = tmpl_check_refs(d->text, on_ref, sc, &e);
        if (rc == -E_NOMEM)
                return wf_nomem(sc->p);
        /* Without a code it is on_ref that failed, and has said why. */
        if (rc && e.code)
                return wf_fail_in(sc->p, d, e.col > 0 ? (size_t)e.col - 1 : 0, "\"%s\" of %s: %s", sc->key,
                                  sc->p->where, e.msg);
        return rc;
}

int scope_tree(struct scope *sc, const struct doc *d)
{
        int rc = d->kind == DOC_STRING ? scope_text(sc, d) : 0;

        for (const struct doc *c = d->child; c && !rc; c = c->next)
                rc = scope_tree(sc, c);
        return rc;
}

int scope_expr(struct scope *sc, const struct doc *d, const struct expr *x, size_t base)
{
        int rc;

        sc->d = d;
        sc->base = base;
        rc = expr_each_ref(x, on_ref, sc);
        return rc == -E_NOMEM ? wf_nomem(sc->p) : rc;
}

int scope_text_map(struct scope *sc, const struct doc *d, bool (*name_ok)(const char *name),
                   const char *name_rule, cJSON **out)
{
        struct wf_parser *p = sc->p;
        cJSON *o;
        int rc = 0;

        if (d->kind != DOC_MAP)
                return wf_fail(p, d, "\"%s\" of %s: expected a map of names to texts, got %s", sc->key,
                               p->where, doc_kind_name(d->kind));
        if (d->count > WORKFLOW_NAMES_MAX)
                return wf_fail(p, d, "\"%s\" of %s has %zu names, at most %d are allowed", sc->key, p->where,
                               d->count, WORKFLOW_NAMES_MAX);
        o = cJSON_CreateObject();
        if (!o)
                return wf_nomem(p);
        for (const struct doc *m = d->child; m && !rc; m = m->next) {
                if (!name_ok(m->key))
                        rc = err_at(p->e, E_INVAL, m->key_line, m->key_col,
                                    "\"%s\" of %s: \"%.60s\" is no good name: %s", sc->key, p->where, m->key,
                                    name_rule);
                else if (!wf_scalar(m) && m->kind != DOC_NULL)
                        rc = wf_fail(p, m,
                                     "\"%s\" of %s: \"%.60s\" must be text, a number or a boolean, not %s",
                                     sc->key, p->where, m->key, doc_kind_name(m->kind));
                else if (!cJSON_AddStringToObject(o, m->key, m->text ? m->text : ""))
                        rc = wf_nomem(p);
                else
                        rc = scope_text(sc, m);
        }
        if (rc) {
                cJSON_Delete(o);
                return rc;
        }
        *out = o;
        return 0;
}
