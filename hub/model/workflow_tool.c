/* Which tool a step calls, and with what. */
#include "hub/model/workflow_internal.h"

#include <string.h>

#include "common/mem.h"
#include "common/str.h"

#define RUN_TEXT_MAX WORKFLOW_BYTES_MAX

/* "${{ x }}" alone would keep the type of x; a command, an argument or an
 * environment variable is text: "${{ format('{0}', x) }}". NULL: no memory. */
static char *as_text(const char *text)
{
        size_t body, len;

        if (!tmpl_is_one_expr(text, &body, &len))
                return mem_strdup(text);
        return str_printf("${{ format('{0}', %.*s) }}", (int)len, text + body);
}

static int add_text(struct scope *sc, cJSON *with, const char *name, const struct doc *d, const char *key)
{
        char *s = NULL, *forced = NULL;
        int rc;

        if (!d)
                return 0;
        sc->key = key;
        rc = wf_text(sc->p, d, key, RUN_TEXT_MAX, &s);
        if (!rc)
                rc = scope_text(sc, d);
        if (!rc)
                forced = as_text(s);
        if (!rc && (!forced || !cJSON_AddStringToObject(with, name, forced)))
                rc = wf_nomem(sc->p);
        mem_free(forced);
        mem_free(s);
        return rc;
}

/* A member of `v` (list or object) that must be text, as it stands in the document. */
static int force_text(struct wf_parser *p, cJSON *v, cJSON *item, const struct doc *d)
{
        char *s;
        cJSON *text;

        if (!wf_scalar(d))
                return 0; /* the tool's schema says what is wrong with it */
        s = as_text(d->text);
        text = s ? cJSON_CreateString(s) : NULL;
        mem_free(s);
        if (!text)
                return wf_nomem(p);
        wf_replace(v, item, text);
        return 0;
}

/* What the agent's own tools want as text, so that "argv: [sleep, 5]", "mode: 0644"
 * and "${{ inputs.n }}" mean what they look like. "*": each item of that member. */
static const struct {
        const char *tool;
        const char *members[9];
} text_members[] = {
        {"process.exec", {"shell", "shell_path", "cwd", "stdin", "timeout", "argv*", "env*"}},
        {"file.read", {"path"}},
        {"file.write", {"path", "content", "mode", "if_sha256"}},
        {"file.list", {"path", "glob"}},
        {"file.stat", {"path"}},
        {"file.delete", {"path"}},
        {"file.patch", {"path", "diff", "if_sha256"}},
        {"http.request", {"method", "url", "body", "headers*"}},
};

static int force_member(struct wf_parser *p, cJSON *with, const struct doc *m, const char *rule)
{
        cJSON *v = cJSON_GetObjectItemCaseSensitive(with, m->key), *item = v->child, *next;
        size_t n = strlen(m->key);
        int rc = 0;

        if (strncmp(rule, m->key, n) != 0 || (rule[n] && strcmp(rule + n, "*") != 0))
                return 0;
        if (!rule[n])
                return force_text(p, with, v, m);
        for (const struct doc *c = m->child; c && !rc; c = c->next, item = next) {
                next = item->next;
                rc = force_text(p, v, item, c);
        }
        return rc;
}

static int force_tool_texts(struct wf_parser *p, const char *tool, cJSON *with, const struct doc *d)
{
        size_t t = 0;
        int rc = 0;

        while (t < sizeof text_members / sizeof *text_members && strcmp(text_members[t].tool, tool) != 0)
                t++;
        if (t == sizeof text_members / sizeof *text_members)
                return 0;
        for (const struct doc *m = d->child; m && !rc; m = m->next)
                for (size_t i = 0; text_members[t].members[i] && !rc; i++)
                        rc = force_member(p, with, m, text_members[t].members[i]);
        return rc;
}

/* run: sugar for process.exec with a shell. */
int wf_run(struct scope *sc, struct step_def *s, const struct doc *const *slot)
{
        struct wf_parser *p = sc->p;
        int rc;

        if (slot[S_USES])
                return wf_fail(p, slot[S_USES], "%s has both \"run\" and \"uses\": keep one", p->where);
        if (slot[S_WITH])
                return wf_fail(p, slot[S_WITH],
                               "\"with\" of %s goes with \"uses\"; with \"run\" write \"cwd\", \"stdin\", "
                               "\"env\", \"shell\"",
                               p->where);
        if (!wf_scalar(slot[S_RUN]) || !slot[S_RUN]->text[0])
                return wf_fail(p, slot[S_RUN], "\"run\" of %s: expected a command, got %s", p->where,
                               slot[S_RUN]->kind == DOC_STRING ? "an empty text"
                                                               : doc_kind_name(slot[S_RUN]->kind));
        s->tool = mem_strdup("process.exec");
        s->with = cJSON_CreateObject();
        if (!s->tool || !s->with)
                return wf_nomem(p);
        rc = add_text(sc, s->with, "shell", slot[S_RUN], "run");
        if (!rc && slot[S_SHELL] && slot[S_SHELL]->text && tmpl_has_expr(slot[S_SHELL]->text))
                rc = wf_fail(p, slot[S_SHELL], "\"shell\" of %s is used as it stands: no expressions here",
                             p->where);
        if (!rc)
                rc = add_text(sc, s->with, "shell_path", slot[S_SHELL], "shell");
        if (!rc)
                rc = add_text(sc, s->with, "cwd", slot[S_CWD], slot[S_CWD] ? slot[S_CWD]->key : "");
        sc->allowed |= C_SECRETS;
        if (!rc)
                rc = add_text(sc, s->with, "stdin", slot[S_STDIN], "stdin");
        sc->allowed &= ~(unsigned)C_SECRETS;
        return rc;
}

static int with_members(struct scope *sc, const char *tool, const struct doc *d)
{
        const struct doc *key = NULL;
        bool endpoint = false;
        int rc = 0;

        for (const struct doc *m = d->child; m; m = m->next) {
                if (strcmp(m->key, "key") == 0)
                        key = m;
                endpoint |= strcmp(m->key, "endpoint") == 0;
        }
        if (key && !endpoint && str_glob("llm.*", tool)) /* the router would choose who is told it */
                rc = wf_fail(sc->p, key, "\"key\" of %s: name the endpoint that it is for (endpoint)",
                             sc->p->where);
        for (const struct doc *m = d->child; m && !rc; m = m->next) {
                if (wf_member_takes_secrets(tool, m->key))
                        sc->allowed |= C_SECRETS;
                rc = scope_tree(sc, m);
                sc->allowed &= ~(unsigned)C_SECRETS;
        }
        return rc;
}

int wf_uses(struct scope *sc, struct step_def *s, const struct doc *const *slot)
{
        static const enum step_slot only_run[] = {S_SHELL, S_CWD, S_STDIN};
        struct wf_parser *p = sc->p;
        const struct doc *d = slot[S_USES];
        int rc;

        for (size_t i = 0; i < sizeof only_run / sizeof *only_run; i++)
                if (slot[only_run[i]])
                        return wf_fail(
                                p, slot[only_run[i]],
                                "\"%s\" of %s goes with \"run\"; with \"uses\" it belongs under \"with\"",
                                slot[only_run[i]]->key, p->where);
        if (d->kind != DOC_STRING || !str_is_name(d->text, TOOL_MAX))
                return wf_fail(p, d,
                               "\"uses\" of %s: \"%.100s\" is not the name of a tool, such as "
                               "\"process.exec\" or \"file.read\"",
                               p->where, d->text ? d->text : doc_kind_name(d->kind));
        s->tool = mem_strdup(d->text);
        if (!s->tool)
                return wf_nomem(p);
        d = slot[S_WITH];
        if (!d || d->kind == DOC_NULL) {
                s->with = cJSON_CreateObject();
                return s->with ? 0 : wf_nomem(p);
        }
        if (d->kind != DOC_MAP)
                return wf_fail(p, d, "\"with\" of %s: expected a map, got %s", p->where,
                               doc_kind_name(d->kind));
        sc->key = "with";
        rc = with_members(sc, s->tool, d);
        if (!rc && doc_to_json(d, &s->with))
                rc = wf_nomem(p);
        if (!rc)
                rc = force_tool_texts(p, s->tool, s->with, d);
        return rc;
}
