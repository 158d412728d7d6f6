#include "hub/model/workflow_internal.h"

#include <stdio.h>
#include <string.h>

#include "common/mem.h"
#include "common/str.h"

enum top_slot {
        W_NAME,
        W_DESCRIPTION,
        W_ID,
        W_INPUTS,
        W_ENV,
        W_OUTPUTS,
        W_CONCURRENCY,
        W_PRIORITY,
        W_TIMEOUT,
        W_BUDGET,
        W_STEPS,
        W_FINALLY,
        TOP_SLOTS
};

static const struct wf_key top_keys[] = {
        {"name", W_NAME},
        {"description", W_DESCRIPTION},
        {"id", W_ID},
        {"inputs", W_INPUTS},
        {"env", W_ENV},
        {"outputs", W_OUTPUTS},
        {"concurrency", W_CONCURRENCY},
        {"priority", W_PRIORITY},
        {"timeout", W_TIMEOUT},
        {"budget", W_BUDGET},
        {"steps", W_STEPS},
        {"finally", W_FINALLY},
};

#define N_TOP_KEYS (sizeof top_keys / sizeof *top_keys)

static bool is_output_name(const char *name)
{
        return str_is_name(name, STEP_ID_MAX);
}

/* ---- steps: who they are ---- */

static int duplicate(struct wf_parser *p, const struct doc *d, const char *id, const struct step_def *first)
{
        return wf_fail(p, d, "the id \"%s\" is already that of the step in line %d: ids are unique", id,
                       first->line);
}

/* Names the step and remembers its members; what they say is read when all ids are known. */
int wf_add_step(struct wf_parser *p, const struct doc *at, const char *id, bool finally)
{
        struct workflow *w = p->w;
        size_t index = w->n_steps;
        struct step_def *s = &w->steps[index];
        char own[32];
        void *old = NULL;

        if (!id) {
                snprintf(own, sizeof own, "step-%zu", index + 1);
                id = own;
        }
        s->line = at->line;
        s->col = at->col;
        s->finally = finally;
        p->src[index].at = at;
        s->id = mem_strdup(id);
        if (!s->id)
                return wf_nomem(p);
        w->n_steps++;
        if (map_put(p->ids, id, (void *)(uintptr_t)(index + 1), &old) || map_put(w->by_id, id, s, NULL))
                return wf_nomem(p);
        if (old)
                return duplicate(p, p->src[index].slot[S_ID] ? p->src[index].slot[S_ID] : at, id,
                                 &w->steps[(size_t)(uintptr_t)old - 1]);
        return 0;
}

static int check_id(struct wf_parser *p, const struct doc *d, int line, int col, const char *id)
{
        if (d && d->kind != DOC_STRING && d->kind != DOC_NUMBER)
                return wf_fail(p, d, "\"id\" of a step: expected text, got %s", doc_kind_name(d->kind));
        if (str_is_name(id, STEP_ID_MAX))
                return 0;
        return err_at(p->e, E_INVAL, line, col,
                      "\"%.140s\" is no good id of a step: letters, digits, \".\", \"_\" and \"-\", a letter "
                      "or digit first, at most %d",
                      id, STEP_ID_MAX);
}

static int collect_step(struct wf_parser *p, const struct doc *d, bool finally, bool named)
{
        struct step_src *src = &p->src[p->w->n_steps];
        const struct doc *id = d->kind == DOC_MAP ? doc_get(d, "id") : NULL;
        const char *text = named ? d->key : id && id->text ? id->text : NULL;
        int rc;

        if (text)
                snprintf(p->where, sizeof p->where, "step \"%.*s\"", STEP_ID_MAX, text);
        else
                snprintf(p->where, sizeof p->where, "step %zu", p->w->n_steps + 1);
        rc = wf_keys(p, d, p->where, wf_step_keys, wf_n_step_keys, src->slot);
        if (!rc && named)
                rc = check_id(p, NULL, d->key_line, d->key_col, d->key);
        if (!rc && id)
                rc = check_id(p, id, id->line, id->col, id->text ? id->text : "");
        if (!rc && named && id && strcmp(id->text, d->key) != 0)
                rc = wf_fail(p, id, "%s has another \"id\": leave it out", p->where);
        if (!rc)
                rc = wf_add_step(p, d, text, finally);
        if (!rc && named) {
                p->w->steps[p->w->n_steps - 1].line = d->key_line;
                p->w->steps[p->w->n_steps - 1].col = d->key_col;
        }
        return rc;
}

static int collect_steps(struct wf_parser *p, const struct doc *d, bool finally)
{
        int rc = 0;

        for (const struct doc *c = d->child; c && !rc; c = c->next)
                rc = collect_step(p, c, finally, d->kind == DOC_MAP);
        return rc;
}

static int check_list(struct wf_parser *p, const struct doc *d, const char *key)
{
        if (d->kind != DOC_LIST && d->kind != DOC_MAP)
                return wf_fail(p, d, "\"%s\": expected a list of steps, got %s", key, doc_kind_name(d->kind));
        if (!d->count)
                return wf_fail(p, d, "\"%s\" is empty: a step is at least \"run: COMMAND\"", key);
        return 0;
}

static int alloc_steps(struct wf_parser *p, const struct doc *d, size_t n)
{
        if (n > WORKFLOW_STEPS_MAX)
                return err_at(
                        p->e, E_TOOBIG, d->line, d->col,
                        "the workflow has %zu steps, at most %u are allowed: use \"matrix\" or \"for-each\"",
                        n, WORKFLOW_STEPS_MAX);
        p->w->steps = mem_calloc(n, sizeof *p->w->steps);
        p->src = mem_calloc(n, sizeof *p->src);
        p->direct = mem_calloc(n, sizeof *p->direct);
        return p->w->steps && p->src && p->direct ? 0 : wf_nomem(p);
}

/* ---- the whole ---- */

static int parse_head(struct wf_parser *p, const struct doc *const *slot)
{
        struct workflow *w = p->w;
        struct scope sc = {.p = p, .allowed = C_BEFORE};
        int64_t priority = 0;
        int rc = wf_text(p, slot[W_NAME], "name", WORKFLOW_TEXT_MAX, &w->name);

        if (!rc && slot[W_NAME] && tmpl_has_expr(w->name))
                rc = wf_fail(p, slot[W_NAME], "\"name\" of %s is used as it stands: no expressions here",
                             p->where);
        if (!rc)
                rc = wf_text(p, slot[W_DESCRIPTION], "description", WORKFLOW_TEXT_MAX, &w->description);
        if (!rc && slot[W_INPUTS])
                rc = wf_parse_inputs(p, slot[W_INPUTS]);
        sc.key = "env";
        if (!rc && slot[W_ENV] && slot[W_ENV]->kind != DOC_NULL)
                rc = scope_text_map(&sc, slot[W_ENV], wf_is_variable,
                                    "letters, digits and \"_\", not a digit first", &w->env);
        if (!rc)
                rc = wf_concurrency(&sc, slot[W_CONCURRENCY], &w->concurrency);
        if (!rc)
                rc = wf_int(p, slot[W_PRIORITY], "priority", -100, 100, &priority);
        w->priority = (int)priority;
        if (!rc)
                rc = wf_duration(p, slot[W_TIMEOUT], "timeout", &w->timeout_ms);
        if (!rc)
                rc = wf_budget(p, slot[W_BUDGET], "budget", &w->budget.max, &w->budget.over);
        return rc;
}

static int parse_outputs(struct wf_parser *p, const struct doc *d)
{
        struct scope sc = {.p = p, .allowed = C_BEFORE | C_STEPS | C_ENV, .key = "outputs"};

        if (!d || d->kind == DOC_NULL)
                return 0;
        snprintf(p->where, sizeof p->where, "the workflow");
        return scope_text_map(&sc, d, is_output_name, "letters, digits, \".\", \"_\" and \"-\"",
                              &p->w->outputs);
}

static int parse_workflow(struct wf_parser *p, const struct doc *root)
{
        const struct doc *slot[TOP_SLOTS] = {NULL};
        size_t n;
        int rc = wf_keys(p, root, "the workflow", top_keys, N_TOP_KEYS, slot);

        if (!rc && !slot[W_STEPS])
                rc = wf_fail(p, root, "the workflow has no \"steps\"");
        if (!rc)
                rc = check_list(p, slot[W_STEPS], "steps");
        if (!rc && slot[W_FINALLY])
                rc = check_list(p, slot[W_FINALLY], "finally");
        if (rc)
                return rc;
        n = slot[W_STEPS]->count + (slot[W_FINALLY] ? slot[W_FINALLY]->count : 0);
        rc = alloc_steps(p, slot[W_STEPS], n);
        if (!rc)
                rc = parse_head(p, slot);
        if (!rc)
                rc = collect_steps(p, slot[W_STEPS], false);
        if (!rc && slot[W_FINALLY])
                rc = collect_steps(p, slot[W_FINALLY], true);
        for (size_t i = 0; i < p->w->n_steps && !rc; i++)
                rc = wf_step_fields(p, i);
        return rc ? rc : parse_outputs(p, slot[W_OUTPUTS]);
}

static int parse_any(struct wf_parser *p, const struct doc *root)
{
        int rc;

        snprintf(p->where, sizeof p->where, "the workflow");
        if (root->kind != DOC_MAP)
                return wf_fail(p, root, "a workflow is a map with \"name\" and \"steps\", this is %s",
                               doc_kind_name(root->kind));
        if (operation_is(root)) {
                const struct doc *list = doc_get(root, "workflow");

                rc = alloc_steps(p, list, list->count);
                if (!rc)
                        rc = operation_parse(p, root);
        } else {
                rc = parse_workflow(p, root);
        }
        if (!rc)
                rc = wf_check_graph(p);
        if (!rc && !p->w->name) {
                p->w->name = mem_strdup("workflow");
                rc = p->w->name ? 0 : wf_nomem(p);
        }
        return rc;
}

/* How many "- " stand below a "steps:" of the first column, each where the first
 * one stands: deeper lines belong to a step. Counted before the YAML is read, so that a
 * million steps cost a glance and not a tree. 0 where the shape is another. */
static size_t glance(const char *text, size_t len)
{
        const char *p = len >= 6 && memcmp(text, "steps:", 6) == 0 ? text : memmem(text, len, "\nsteps:", 7);
        const char *end = text + len;
        size_t column = SIZE_MAX, count = 0;

        while (p && (p = memchr(p + 1, '\n', (size_t)(end - p - 1)))) {
                const char *q = p + 1;

                while (q < end && *q == ' ')
                        q++;
                if (q == end || *q == '\n' || *q == '\r' || *q == '#')
                        continue;
                if (column == SIZE_MAX)
                        column = (size_t)(q - p);
                if ((size_t)(q - p) > column)
                        continue;
                if ((size_t)(q - p) < column || *q != '-')
                        break;
                count++;
        }
        return count;
}

/* doc_parse says the place in its text, too; here it is in line and col only. */
static void drop_place(struct err *e)
{
        const char *rest = err_unplaced(e);

        memmove(e->msg, rest, strlen(rest) + 1);
}

int workflow_parse(const char *text, size_t len, struct workflow **out, struct err *e)
{
        struct wf_parser p = {.text = text, .len = len, .e = e};
        struct doc *root = NULL;
        int rc;

        if (len > WORKFLOW_BYTES_MAX)
                return err_set(e, E_TOOBIG, "the workflow is %zu bytes long, at most %u are allowed", len,
                               WORKFLOW_BYTES_MAX);
        if (glance(text, len) > WORKFLOW_STEPS_MAX)
                return err_set(
                        e, E_TOOBIG,
                        "the workflow has %zu steps, at most %u are allowed: use \"matrix\" or \"for-each\"",
                        glance(text, len), WORKFLOW_STEPS_MAX);
        rc = doc_parse(text, len, &root, e);
        if (rc) {
                if (e)
                        drop_place(e);
                return rc;
        }
        p.ids = map_create();
        p.w = mem_calloc(1, sizeof *p.w);
        if (p.w)
                *p.w = (struct workflow){.by_id = map_create(), .budget.max = {{BUDGET_NONE, BUDGET_NONE}}};
        if (!p.ids || !p.w || !p.w->by_id)
                rc = wf_nomem(&p);
        else
                rc = parse_any(&p, root);
        if (rc)
                workflow_free(p.w);
        else
                *out = p.w;
        map_free(p.ids);
        mem_free(p.src);
        mem_free(p.direct);
        mem_free(p.refs);
        doc_free(root);
        return rc;
}
