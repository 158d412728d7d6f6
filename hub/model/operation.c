#include "hub/model/workflow_internal.h"

#include <stdio.h>
#include <string.h>

#include "common/mem.h"
#include "common/str.h"

/* The founding document's shape of an operation:
 *
 *   {"id", "name", "agents": [...], "platforms": [...],
 *    "workflow": [{"step": 1, "agent", "platform", "action", "inputs": {}, "dependencies": [1]}]}
 *
 * It becomes the same struct workflow: the number is the id, the platform
 * chooses the tool, action and inputs are what the tool is given. */

enum { O_ID, O_NAME, O_DESCRIPTION, O_AGENTS, O_PLATFORMS, O_WORKFLOW, O_SLOTS };
enum { T_STEP, T_NAME_, T_AGENT, T_PLATFORM, T_ACTION, T_INPUTS, T_DEPENDENCIES, T_SLOTS };

static const struct wf_key operation_keys[] = {
        {"id", O_ID},         {"name", O_NAME},           {"description", O_DESCRIPTION},
        {"agents", O_AGENTS}, {"platforms", O_PLATFORMS}, {"workflow", O_WORKFLOW},
};
static const struct wf_key task_keys[] = {
        {"step", T_STEP},
        {"name", T_NAME_},
        {"agent", T_AGENT},
        {"platform", T_PLATFORM},
        {"action", T_ACTION},
        {"inputs", T_INPUTS},
        {"dependencies", T_DEPENDENCIES},
};

static const struct {
        const char *platform, *tool;
} platforms[] = {
        {"cursor", "cursor.prompt"}, {"claude-code", "claude-code.prompt"},
        {"gemini", "gemini.prompt"}, {"codex", "codex.prompt"},
        {"zai", "zai.chat"},         {"jules", "jules.session"},
};

#define N_KEYS(k) (sizeof(k) / sizeof *(k))

bool operation_is(const struct doc *root)
{
        const struct doc *list = doc_get(root, "workflow");

        return list && list->kind == DOC_LIST && !doc_get(root, "steps");
}

static int tool_of(struct wf_parser *p, const struct doc *d, char **out)
{
        for (size_t i = 0; i < N_KEYS(platforms); i++) {
                if (strcmp(platforms[i].platform, d->text) != 0)
                        continue;
                *out = mem_strdup(platforms[i].tool);
                return *out ? 0 : wf_nomem(p);
        }
        *out = str_printf("%s.prompt", d->text);
        return *out ? 0 : wf_nomem(p);
}

/* Is the text of `d` in `list`? A missing list allows all. */
static int check_listed(struct wf_parser *p, const struct doc *d, const struct doc *list, const char *key)
{
        const char *names[64], *near;
        size_t n = 0;

        if (!list)
                return 0;
        for (const struct doc *c = list->child; c; c = c->next) {
                if (!c->text)
                        continue;
                if (strcmp(c->text, d->text) == 0)
                        return 0;
                if (n < 64)
                        names[n++] = c->text;
        }
        near = str_nearest(d->text, names, n);
        return wf_fail(p, d, "\"%s\" of %s: \"%.60s\" is not in the operation's \"%s\"%s%.60s%s", key,
                       p->where, d->text, list->key, near ? ": did you mean \"" : "", near ? near : "",
                       near ? "\"?" : "");
}

static int check_name(struct wf_parser *p, const struct doc *d, const char *key)
{
        if (wf_scalar(d) && str_is_name(d->text, LABEL_MAX))
                return 0;
        return wf_fail(p, d, "\"%s\" of %s: expected a name, got %s%.60s%s", key, p->where,
                       wf_scalar(d) ? "\"" : "", wf_scalar(d) ? d->text : doc_kind_name(d->kind),
                       wf_scalar(d) ? "\"" : "");
}

/* with: {action, inputs} */
static int task_with(struct scope *sc, struct step_def *s, const struct doc *const *slot)
{
        struct wf_parser *p = sc->p;
        cJSON *inputs = NULL;
        char *action = NULL;
        int rc;

        s->with = cJSON_CreateObject();
        if (!s->with)
                return wf_nomem(p);
        sc->key = "action";
        rc = wf_text(p, slot[T_ACTION], "action", WORKFLOW_BYTES_MAX, &action);
        if (!rc && slot[T_ACTION])
                rc = scope_text(sc, slot[T_ACTION]);
        if (!rc && action && !cJSON_AddStringToObject(s->with, "action", action))
                rc = wf_nomem(p);
        mem_free(action);
        if (rc)
                return rc;
        sc->key = "inputs";
        if (slot[T_INPUTS] && slot[T_INPUTS]->kind != DOC_MAP)
                return wf_fail(p, slot[T_INPUTS], "\"inputs\" of %s: expected a map, got %s", p->where,
                               doc_kind_name(slot[T_INPUTS]->kind));
        if (slot[T_INPUTS])
                rc = scope_tree(sc, slot[T_INPUTS]);
        if (rc)
                return rc;
        if (slot[T_INPUTS] ? doc_to_json(slot[T_INPUTS], &inputs) : !(inputs = cJSON_CreateObject()))
                return wf_nomem(p);
        if (!cJSON_AddItemToObject(s->with, "inputs", inputs)) {
                cJSON_Delete(inputs);
                return wf_nomem(p);
        }
        return 0;
}

static int task_who(struct wf_parser *p, struct step_def *s, const struct doc *const *slot,
                    const struct doc *const *top)
{
        int rc;

        if (!slot[T_PLATFORM])
                return err_at(p->e, E_INVAL, s->line, s->col, "%s has no \"platform\"", p->where);
        rc = check_name(p, slot[T_PLATFORM], "platform");
        if (!rc)
                rc = check_listed(p, slot[T_PLATFORM], top[O_PLATFORMS], "platform");
        if (!rc)
                rc = tool_of(p, slot[T_PLATFORM], &s->tool);
        if (rc || !slot[T_AGENT])
                return rc;
        rc = check_name(p, slot[T_AGENT], "agent");
        if (!rc)
                rc = check_listed(p, slot[T_AGENT], top[O_AGENTS], "agent");
        return rc ? rc : wf_text(p, slot[T_AGENT], "agent", LABEL_MAX, &s->agent);
}

static int collect_task(struct wf_parser *p, const struct doc *d)
{
        const struct doc *slot[T_SLOTS] = {NULL}, *id;
        char number[32];
        int rc;

        snprintf(p->where, sizeof p->where, "step %zu", p->w->n_steps + 1);
        rc = wf_keys(p, d, p->where, task_keys, N_KEYS(task_keys), slot);
        if (rc)
                return rc;
        id = slot[T_STEP];
        if (id) {
                rc = check_name(p, id, "step");
        } else {
                snprintf(number, sizeof number, "%zu", p->w->n_steps + 1);
        }
        if (rc)
                return rc;
        p->src[p->w->n_steps].slot[S_ID] = id;
        p->src[p->w->n_steps].slot[S_NEEDS] = slot[T_DEPENDENCIES];
        return wf_add_step(p, d, id ? id->text : number, false);
}

static int task_fields(struct wf_parser *p, size_t index, const struct doc *const *top)
{
        struct step_def *s = &p->w->steps[index];
        struct scope sc = {.p = p, .step = s, .index = index, .allowed = C_STEP_ALL};
        const struct doc *slot[T_SLOTS] = {NULL};
        int rc;

        wf_step_defaults(p, s);
        rc = wf_keys(p, p->src[index].at, p->where, task_keys, N_KEYS(task_keys), slot);
        if (!rc)
                rc = wf_text(p, slot[T_NAME_], "name", WORKFLOW_TEXT_MAX, &s->name);
        if (!rc)
                rc = wf_needs(p, index, slot[T_DEPENDENCIES]);
        if (!rc)
                rc = task_who(p, s, slot, top);
        return rc ? rc : task_with(&sc, s, slot);
}

static int check_names(struct wf_parser *p, const struct doc *d)
{
        if (d && d->kind != DOC_LIST)
                return wf_fail(p, d, "\"%s\": expected a list of names, got %s", d->key,
                               doc_kind_name(d->kind));
        for (const struct doc *c = d ? d->child : NULL; c; c = c->next)
                if (!wf_scalar(c))
                        return wf_fail(p, c, "\"%s\": expected a name, got %s", d->key,
                                       doc_kind_name(c->kind));
        return 0;
}

int operation_parse(struct wf_parser *p, const struct doc *root)
{
        const struct doc *top[O_SLOTS] = {NULL};
        int rc = wf_keys(p, root, "the operation", operation_keys, N_KEYS(operation_keys), top);

        if (!rc)
                rc = check_names(p, top[O_AGENTS]);
        if (!rc)
                rc = check_names(p, top[O_PLATFORMS]);
        if (!rc && !top[O_WORKFLOW]->count)
                rc = wf_fail(p, top[O_WORKFLOW], "\"workflow\" is empty: the operation has no steps");
        if (!rc)
                rc = wf_text(p, top[O_NAME] ? top[O_NAME] : top[O_ID], "name", WORKFLOW_TEXT_MAX,
                             &p->w->name);
        if (!rc)
                rc = wf_text(p, top[O_DESCRIPTION], "description", WORKFLOW_TEXT_MAX, &p->w->description);
        for (const struct doc *c = rc ? NULL : top[O_WORKFLOW]->child; c && !rc; c = c->next)
                rc = collect_task(p, c);
        for (size_t i = 0; i < p->w->n_steps && !rc; i++)
                rc = task_fields(p, i, top);
        return rc;
}
