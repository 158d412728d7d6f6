#include "hub/model/workflow_internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/mem.h"
#include "common/str.h"

#define RETRY_DURATION_MS   1000
#define RETRY_MAX_MS        60000
#define CONCURRENCY_MAX     1000000
#define PRIORITY_MAX        100
#define TIMEOUT_MINUTES_MAX 5256000.0 /* ten years */

const struct wf_key wf_step_keys[] = {
        {"id", S_ID},
        {"name", S_NAME},
        {"description", S_DESCRIPTION},
        {"run", S_RUN},
        {"uses", S_USES},
        {"with", S_WITH},
        {"shell", S_SHELL},
        {"working-directory", S_CWD},
        {"cwd", S_CWD},
        {"stdin", S_STDIN},
        {"env", S_ENV},
        {"needs", S_NEEDS},
        {"depends_on", S_NEEDS},
        {"if", S_IF},
        {"agent", S_AGENT},
        {"runs-on", S_RUNS_ON},
        {"timeout", S_TIMEOUT},
        {"timeout-minutes", S_TIMEOUT_MINUTES},
        {"retry", S_RETRY},
        {"effect", S_EFFECT},
        {"concurrency", S_CONCURRENCY},
        {"priority", S_PRIORITY},
        {"estimate", S_ESTIMATE},
        {"continue-on-error", S_CONTINUE},
        {"matrix", S_MATRIX},
        {"strategy", S_STRATEGY},
        {"for-each", S_FOR_EACH},
        {"max-parallel", S_MAX_PARALLEL},
        {"fail-fast", S_FAIL_FAST},
        {"secrets", S_SECRETS},
        {"approval", S_APPROVAL},
};
const size_t wf_n_step_keys = sizeof wf_step_keys / sizeof *wf_step_keys;

/* Texts that are shown or used as they stand. */
static int plain_text(struct wf_parser *p, const struct doc *d, const char *key, char **out)
{
        int rc = wf_text(p, d, key, WORKFLOW_TEXT_MAX, out);

        if (!rc && d && tmpl_has_expr(d->text))
                return wf_fail(p, d, "\"%s\" of %s is used as it stands: no expressions here", key, p->where);
        return rc;
}

/* ---- needs ---- */

static int unknown_need(struct wf_parser *p, const struct doc *d)
{
        const char **names = mem_alloc((p->w->n_steps + 1) * sizeof *names), *near;
        int rc;

        if (!names)
                return wf_nomem(p);
        for (size_t i = 0; i < p->w->n_steps; i++)
                names[i] = p->w->steps[i].id;
        near = str_nearest(d->text, names, p->w->n_steps);
        rc = wf_fail(p, d, "%s needs an unknown step \"%.130s\"%s%.130s%s", p->where, d->text,
                     near ? ": did you mean \"" : "", near ? near : "", near ? "\"?" : "");
        mem_free(names);
        return rc;
}

static int add_need(struct wf_parser *p, size_t index, const struct doc *d)
{
        struct step_def *s = &p->w->steps[index];
        size_t target;

        if (d->kind != DOC_STRING && d->kind != DOC_NUMBER)
                return wf_fail(p, d, "\"needs\" of %s: expected the id of a step, got %s", p->where,
                               doc_kind_name(d->kind));
        target = (size_t)(uintptr_t)map_get(p->ids, d->text);
        if (!target)
                return unknown_need(p, d);
        target--;
        if (target == index)
                return wf_fail(p, d, "%s needs itself", p->where);
        if (s->finally && !p->w->steps[target].finally)
                return wf_fail(p, d,
                               "%s stands in \"finally\" and so runs after \"%s\" anyway: \"needs\" names "
                               "only steps of \"finally\" there",
                               p->where, d->text);
        if (!s->finally && p->w->steps[target].finally)
                return wf_fail(p, d, "%s cannot need \"%s\", which stands in \"finally\" and so runs last",
                               p->where, d->text);
        if (p->direct[target] == index + 1)
                return 0; /* named twice: no harm */
        p->direct[target] = index + 1;
        s->needs[s->n_needs++] = target;
        return 0;
}

int wf_needs(struct wf_parser *p, size_t index, const struct doc *d)
{
        struct step_def *s = &p->w->steps[index];
        size_t n;
        int rc = 0;

        if (!d || d->kind == DOC_NULL)
                return 0;
        n = d->kind == DOC_LIST ? d->count : 1;
        if (n > STEP_NEEDS_MAX)
                return wf_fail(p, d, "%s needs %zu steps, at most %u are allowed", p->where, n,
                               STEP_NEEDS_MAX);
        s->needs = mem_alloc((n + 1) * sizeof *s->needs);
        if (!s->needs)
                return wf_nomem(p);
        if (d->kind != DOC_LIST)
                return add_need(p, index, d);
        for (const struct doc *c = d->child; c && !rc; c = c->next)
                rc = add_need(p, index, c);
        return rc;
}

/* ---- if ---- */

static int parse_if(struct scope *sc, struct step_def *s, const struct doc *d)
{
        struct wf_parser *p = sc->p;
        size_t start = 0, len = 0;
        struct err e = {0};
        int rc;

        if (!d)
                return 0;
        rc = wf_text(p, d, "if", EXPR_SOURCE_MAX, &s->cond_text);
        if (rc)
                return rc;
        rc = expr_if_body(s->cond_text, &start, &len, &e);
        if (!rc)
                rc = expr_compile_if(s->cond_text, &s->cond, &e);
        if (rc == -E_NOMEM)
                return wf_nomem(p);
        if (rc)
                return wf_fail_in(p, d, e.col > 0 ? (size_t)e.col - 1 : 0, "\"if\" of %s: %s", p->where,
                                  e.msg);
        sc->key = "if";
        return scope_expr(sc, d, s->cond, start);
}

/* ---- where ---- */

static bool is_label(const char *name)
{
        return str_is_name(name, LABEL_MAX);
}

/* "k=v" */
static int add_label(struct scope *sc, cJSON *labels, const struct doc *d)
{
        struct wf_parser *p = sc->p;
        const char *eq = d->kind == DOC_STRING ? strchr(d->text, '=') : NULL;
        char key[LABEL_MAX + 1];

        if (!eq || (size_t)(eq - d->text) > LABEL_MAX)
                return wf_fail(
                        p, d,
                        "\"runs-on\" of %s: expected labels as {os: linux} or \"os=linux\", got %s%.100s",
                        p->where, d->text ? "" : doc_kind_name(d->kind), d->text ? d->text : "");
        memcpy(key, d->text, (size_t)(eq - d->text));
        key[eq - d->text] = '\0';
        if (!is_label(key))
                return wf_fail(p, d, "\"runs-on\" of %s: \"%s\" is no name of a label", p->where, key);
        if (cJSON_GetObjectItemCaseSensitive(labels, key))
                return wf_fail(p, d, "\"runs-on\" of %s: the label \"%s\" stands twice", p->where, key);
        if (!cJSON_AddStringToObject(labels, key, eq + 1))
                return wf_nomem(p);
        return scope_text(sc, d);
}

static int parse_runs_on(struct scope *sc, struct step_def *s, const struct doc *d)
{
        int rc = 0;

        if (!d || d->kind == DOC_NULL)
                return 0;
        sc->key = "runs-on";
        if (d->kind == DOC_MAP)
                return scope_text_map(sc, d, is_label, "letters, digits, \".\", \"_\" and \"-\"",
                                      &s->runs_on);
        if (d->kind == DOC_LIST && d->count > WORKFLOW_NAMES_MAX)
                return wf_fail(sc->p, d, "\"runs-on\" of %s has too many labels", sc->p->where);
        s->runs_on = cJSON_CreateObject();
        if (!s->runs_on)
                return wf_nomem(sc->p);
        if (d->kind != DOC_LIST)
                return add_label(sc, s->runs_on, d);
        for (const struct doc *c = d->child; c && !rc; c = c->next)
                rc = add_label(sc, s->runs_on, c);
        return rc;
}

/* ---- limits ---- */

int wf_concurrency(struct scope *sc, const struct doc *d, struct concurrency_def *out)
{
        static const struct wf_key keys[] = {{"group", 0}, {"limit", 1}, {"cancel-in-progress", 2}};
        const struct doc *slot[3] = {d, NULL, NULL};
        struct wf_parser *p = sc->p;
        int64_t limit = 1;
        int rc = 0;

        if (!d)
                return 0;
        sc->key = "concurrency";
        if (d->kind == DOC_MAP) {
                slot[0] = NULL;
                rc = wf_keys(p, d, "\"concurrency\"", keys, 3, slot);
        }
        if (!rc && !slot[0])
                rc = wf_fail(p, d, "\"concurrency\" of %s needs a \"group\"", p->where);
        if (!rc && slot[2] && sc->step)
                rc = wf_fail(
                        p, slot[2],
                        "\"cancel-in-progress\" is for the \"concurrency\" of a workflow, not of a step");
        if (!rc)
                rc = wf_text(p, slot[0], "concurrency", WORKFLOW_TEXT_MAX, &out->group);
        if (!rc && !out->group[0])
                rc = wf_fail(p, slot[0], "\"concurrency\" of %s: the name of the group is empty", p->where);
        if (!rc)
                rc = scope_text(sc, slot[0]);
        if (!rc)
                rc = wf_int(p, slot[1], "limit", 1, CONCURRENCY_MAX, &limit);
        if (!rc)
                rc = wf_bool(p, slot[2], "cancel-in-progress", &out->cancel_in_progress);
        out->limit = (int)limit;
        return rc;
}

static int parse_backoff(struct wf_parser *p, const struct doc *d, struct retry_def *r)
{
        static const struct wf_key keys[] = {{"duration", 0}, {"factor", 1}, {"max", 2}, {"jitter", 3}};
        const struct doc *slot[4] = {NULL};
        int rc = d->kind == DOC_MAP ? wf_keys(p, d, "\"backoff\"", keys, 4, slot)
                                    : wf_fail(p, d,
                                              "\"backoff\" of %s: expected a map such as {duration: 5s, "
                                              "factor: 2}, got %s",
                                              p->where, doc_kind_name(d->kind));

        if (!rc)
                rc = wf_duration(p, slot[0], "duration", &r->duration_ms);
        if (!rc)
                rc = wf_real(p, slot[1], "factor", 1, 1000, &r->factor);
        if (!rc)
                rc = wf_duration(p, slot[2], "max", &r->max_ms);
        if (!rc)
                rc = wf_real(p, slot[3], "jitter", 0, 1, &r->jitter);
        if (!rc && slot[2] && r->max_ms < r->duration_ms)
                rc = wf_fail(p, slot[2], "\"max\" of the backoff of %s is shorter than its \"duration\"",
                             p->where);
        /* Without a "max" of its own, a long first delay raises it. */
        if (r->max_ms < r->duration_ms)
                r->max_ms = r->duration_ms;
        return rc;
}

static int parse_retry(struct wf_parser *p, const struct doc *d, struct retry_def *r)
{
        static const struct wf_key keys[] = {{"limit", 0}, {"backoff", 1}};
        const struct doc *slot[2] = {d, NULL};
        int64_t limit = 0;
        int rc = 0;

        if (!d)
                return 0;
        if (d->kind == DOC_MAP) {
                slot[0] = NULL;
                rc = wf_keys(p, d, "\"retry\"", keys, 2, slot);
                if (!rc && !slot[0])
                        rc = wf_fail(p, d, "\"retry\" of %s needs a \"limit\": how many further tries",
                                     p->where);
        }
        if (!rc)
                rc = wf_int(p, slot[0], slot[0] == d ? "retry" : "limit", 0, STEP_RETRY_MAX, &limit);
        r->limit = (int)limit;
        if (!rc && slot[1])
                rc = parse_backoff(p, slot[1], r);
        return rc;
}

static int parse_timeout(struct wf_parser *p, const struct doc *const *slot, int64_t *out)
{
        double minutes = 0;
        int rc;

        if (slot[S_TIMEOUT] && slot[S_TIMEOUT_MINUTES])
                return wf_fail(p, slot[S_TIMEOUT_MINUTES],
                               "%s has both \"timeout\" and \"timeout-minutes\": keep one", p->where);
        rc = wf_duration(p, slot[S_TIMEOUT], "timeout", out);
        if (!rc)
                rc = wf_real(p, slot[S_TIMEOUT_MINUTES], "timeout-minutes", 0, TIMEOUT_MINUTES_MAX, &minutes);
        if (!rc && slot[S_TIMEOUT_MINUTES])
                *out = (int64_t)ceil(minutes * 60000);
        return rc;
}

static int parse_effect(struct wf_parser *p, const struct doc *d, enum effect *out)
{
        static const char *const names[] = {"pure", "idempotent", "at-most-once"};
        const char *near;

        if (!d)
                return 0;
        if (d->kind == DOC_STRING && effect_parse(d->text, out) == 0)
                return 0;
        near = d->kind == DOC_STRING ? str_nearest(d->text, names, 3) : NULL;
        return wf_fail(p, d, "\"effect\" of %s: expected \"pure\", \"idempotent\" or \"at-most-once\"%s%s%s",
                       p->where, near ? ": did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

static int parse_limits(struct scope *sc, struct step_def *s, const struct doc *const *slot)
{
        struct wf_parser *p = sc->p;
        int64_t priority = 0;
        int rc = parse_timeout(p, slot, &s->timeout_ms);

        if (!rc)
                rc = parse_retry(p, slot[S_RETRY], &s->retry);
        if (!rc)
                rc = parse_effect(p, slot[S_EFFECT], &s->effect);
        if (!rc)
                rc = wf_concurrency(sc, slot[S_CONCURRENCY], &s->concurrency);
        if (!rc)
                rc = wf_int(p, slot[S_PRIORITY], "priority", -PRIORITY_MAX, PRIORITY_MAX, &priority);
        s->priority = (int)priority;
        if (!rc)
                rc = wf_budget(p, slot[S_ESTIMATE], "estimate", &s->estimate, NULL);
        if (!rc)
                rc = wf_bool(p, slot[S_CONTINUE], "continue-on-error", &s->continue_on_error);
        return rc;
}

static int parse_env(struct scope *sc, struct step_def *s, const struct doc *d)
{
        int rc;

        if (!d || d->kind == DOC_NULL)
                return 0;
        sc->key = "env";
        sc->allowed |= C_SECRETS;
        rc = scope_text_map(sc, d, wf_is_variable, "letters, digits and \"_\", not a digit first", &s->env);
        sc->allowed &= ~(unsigned)C_SECRETS;
        return rc;
}

static int parse_agent(struct scope *sc, struct step_def *s, const struct doc *d)
{
        int rc = wf_text(sc->p, d, "agent", WORKFLOW_TEXT_MAX, &s->agent);

        if (rc || !d)
                return rc;
        if (!tmpl_has_expr(d->text) && !is_label(d->text))
                return wf_fail(sc->p, d, "\"agent\" of %s: \"%.100s\" is no name of an agent", sc->p->where,
                               d->text);
        sc->key = "agent";
        return scope_text(sc, d);
}

void wf_step_defaults(struct wf_parser *p, struct step_def *s)
{
        snprintf(p->where, sizeof p->where, "step \"%s\"", s->id);
        s->retry = (struct retry_def){
                .duration_ms = RETRY_DURATION_MS, .max_ms = RETRY_MAX_MS, .factor = 2, .jitter = 0.5};
        s->fail_fast = true;
        s->estimate = (struct budget_amount){{BUDGET_NONE, BUDGET_NONE}};
}

/* The order matters: what later parts mention (needs, matrix, env) comes first. */
int wf_step_fields(struct wf_parser *p, size_t index)
{
        struct step_def *s = &p->w->steps[index];
        const struct doc *const *slot = p->src[index].slot;
        struct scope sc = {.p = p, .step = s, .index = index, .allowed = C_STEP_ALL};
        char *description = NULL;
        int rc;

        wf_step_defaults(p, s);
        rc = plain_text(p, slot[S_NAME], "name", &s->name);
        if (!rc)
                rc = wf_text(p, slot[S_DESCRIPTION], "description", WORKFLOW_TEXT_MAX, &description);
        mem_free(description); /* checked only: for readers of the file */
        if (!rc)
                rc = wf_needs(p, index, slot[S_NEEDS]);
        if (!rc)
                rc = wf_fanout(p, index);
        if (!rc)
                rc = parse_env(&sc, s, slot[S_ENV]);
        if (!rc && !slot[S_RUN] && !slot[S_USES] && !slot[S_APPROVAL])
                rc = wf_fail(p, p->src[index].at,
                             "%s does nothing: add \"run\" (a command), \"uses\" (a tool) or \"approval\" (a "
                             "question to people)",
                             p->where);
        if (!rc)
                rc = slot[S_APPROVAL] ? wf_approval(&sc, s, slot)
                     : slot[S_RUN]    ? wf_run(&sc, s, slot)
                                      : wf_uses(&sc, s, slot);
        if (!rc)
                rc = wf_secrets(&sc, s, slot[S_SECRETS]);
        if (!rc)
                rc = parse_agent(&sc, s, slot[S_AGENT]);
        if (!rc)
                rc = parse_runs_on(&sc, s, slot[S_RUNS_ON]);
        if (!rc)
                rc = parse_limits(&sc, s, slot);
        sc.allowed = C_STEP_ALL & ~(unsigned)(C_MATRIX | C_EACH); /* decided once, before the fan-out */
        return rc ? rc : parse_if(&sc, s, slot[S_IF]);
}
