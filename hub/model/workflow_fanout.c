#include "hub/model/workflow_internal.h"

#include <string.h>

#include "common/mem.h"
#include "common/str.h"

#define MAX_PARALLEL_MAX 1000000

/* A value, not a text. */
static bool is_one_expr(const struct doc *d)
{
        size_t body, len;

        return d->kind == DOC_STRING && tmpl_is_one_expr(d->text, &body, &len);
}

static bool is_matrix_key(const char *s)
{
        return str_is_name(s, LABEL_MAX) && !strchr(s, '.');
}

/* include and exclude: lists of maps, or an expression that makes one. */
static int check_entries(struct scope *sc, const struct doc *d)
{
        struct wf_parser *p = sc->p;

        if (is_one_expr(d))
                return 0;
        if (d->kind != DOC_LIST)
                return wf_fail(p, d, "\"%s\" in the matrix of %s: expected a list of maps, got %s", d->key,
                               p->where, doc_kind_name(d->kind));
        if (d->count > WORKFLOW_NAMES_MAX)
                return wf_fail(p, d, "\"%s\" in the matrix of %s has %zu entries, at most %d are allowed",
                               d->key, p->where, d->count, WORKFLOW_NAMES_MAX);
        for (const struct doc *c = d->child; c; c = c->next)
                if (c->kind != DOC_MAP && !is_one_expr(c))
                        return wf_fail(p, c, "\"%s\" in the matrix of %s: expected a map, got %s", d->key,
                                       p->where, doc_kind_name(c->kind));
        return 0;
}

static int check_vector(struct scope *sc, const struct doc *d, size_t *combinations)
{
        struct wf_parser *p = sc->p;

        if (!is_matrix_key(d->key))
                return err_at(
                        p->e, E_INVAL, d->key_line, d->key_col,
                        "\"%.60s\" in the matrix of %s is no good name: letters, digits, \"_\" and \"-\"",
                        d->key, p->where);
        if (is_one_expr(d))
                return 0;
        if (d->kind != DOC_LIST)
                return wf_fail(p, d, "\"%.60s\" in the matrix of %s: expected a list of values, got %s",
                               d->key, p->where, doc_kind_name(d->kind));
        if (!d->count)
                return wf_fail(p, d, "\"%.60s\" in the matrix of %s has no values", d->key, p->where);
        *combinations *= d->count;
        if (*combinations > RUN_STEPS_MAX)
                return wf_fail(p, d, "the matrix of %s makes more than %u steps", p->where, RUN_STEPS_MAX);
        return 0;
}

static int parse_matrix(struct scope *sc, const struct doc *d, cJSON **out)
{
        struct wf_parser *p = sc->p;
        size_t combinations = 1;
        int rc = 0;

        sc->key = "matrix";
        if (d->kind != DOC_MAP && !is_one_expr(d))
                return wf_fail(p, d, "\"matrix\" of %s: expected a map of names to lists, got %s", p->where,
                               doc_kind_name(d->kind));
        if (d->kind == DOC_MAP && !d->count)
                return wf_fail(p, d, "\"matrix\" of %s is empty", p->where);
        if (d->count > MATRIX_KEYS_MAX)
                return wf_fail(p, d, "\"matrix\" of %s has more than %d names", p->where, MATRIX_KEYS_MAX);
        for (const struct doc *c = d->child; c && !rc; c = c->next)
                rc = strcmp(c->key, "include") == 0 || strcmp(c->key, "exclude") == 0
                             ? check_entries(sc, c)
                             : check_vector(sc, c, &combinations);
        if (!rc)
                rc = scope_tree(sc, d);
        if (!rc && doc_to_json(d, out))
                rc = wf_nomem(p);
        return rc;
}

static int parse_for_each(struct scope *sc, const struct doc *d, cJSON **out)
{
        struct wf_parser *p = sc->p;
        int rc;

        sc->key = "for-each";
        if (d->kind != DOC_LIST && !is_one_expr(d))
                return wf_fail(p, d,
                               "\"for-each\" of %s: expected a list, or \"${{ }}\" that gives one, got %s",
                               p->where, doc_kind_name(d->kind));
        if (d->count > RUN_STEPS_MAX)
                return wf_fail(p, d, "\"for-each\" of %s makes more than %u steps", p->where, RUN_STEPS_MAX);
        rc = scope_tree(sc, d);
        if (!rc && doc_to_json(d, out))
                rc = wf_nomem(p);
        return rc;
}

int wf_fanout(struct wf_parser *p, size_t index)
{
        static const struct wf_key keys[] = {
                {"matrix", S_MATRIX}, {"fail-fast", S_FAIL_FAST}, {"max-parallel", S_MAX_PARALLEL}};
        struct step_def *s = &p->w->steps[index];
        const struct doc **slot = p->src[index].slot;
        /* The step has no matrix yet: so nothing in it can mention "matrix" or "each". */
        struct scope sc = {
                .p = p, .step = s, .index = index, .allowed = C_STEP_ALL & ~(unsigned)(C_MATRIX | C_EACH)};
        int64_t max_parallel = 0;
        int rc = slot[S_STRATEGY] ? wf_keys(p, slot[S_STRATEGY], "\"strategy\"", keys, 3, slot) : 0;

        if (rc)
                return rc;
        if (slot[S_MATRIX] && slot[S_FOR_EACH])
                return wf_fail(p, slot[S_FOR_EACH], "%s has both \"matrix\" and \"for-each\": keep one",
                               p->where);
        if (!slot[S_MATRIX] && !slot[S_FOR_EACH]) {
                const struct doc *lone = slot[S_MAX_PARALLEL] ? slot[S_MAX_PARALLEL] : slot[S_FAIL_FAST];

                return lone ? wf_fail(p, lone, "\"%s\" of %s goes with \"matrix\" or \"for-each\"", lone->key,
                                      p->where)
                            : 0;
        }
        if (slot[S_MATRIX])
                rc = parse_matrix(&sc, slot[S_MATRIX], &s->matrix);
        else
                rc = parse_for_each(&sc, slot[S_FOR_EACH], &s->for_each);
        if (!rc)
                rc = wf_int(p, slot[S_MAX_PARALLEL], "max-parallel", 1, MAX_PARALLEL_MAX, &max_parallel);
        s->max_parallel = (int)max_parallel;
        if (!rc)
                rc = wf_bool(p, slot[S_FAIL_FAST], "fail-fast", &s->fail_fast);
        return rc;
}
