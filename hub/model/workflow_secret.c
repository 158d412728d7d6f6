/* Secrets that a step names: `secrets:`, and ${{ secrets.NAME }} where a tool takes it. Their values are
 * never here: what an expression gives is a mark that the agent replaces. */
#include "hub/model/workflow_internal.h"

#include <stdio.h>
#include <string.h>

#include "common/mem.h"
#include "common/str.h"

bool workflow_secret_name(const char *name)
{
        static const char bytes[] = ".-_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
        size_t n = strlen(name);

        return n > 0 && n <= SECRET_NAME_MAX && name[0] != '.' && name[0] != '-' && strspn(name, bytes) == n;
}

/* What would change which program runs, or is the agent's to say. */
bool workflow_secret_variable(const char *name)
{
        return wf_is_variable(name) && strcmp(name, "PATH") != 0 && strncmp(name, "LD_", 3) != 0 &&
               strncmp(name, "PHOTON_", 7) != 0;
}

/* ---- which tool takes what ---- */

/* Tools that start no program have no environment; what cursor.open starts lives on after the step. */
static const char *const no_env[] = {"file.*",   "http.*",  "llm.*", "browser.*",
                                     "photon.*", "jules.*", "zai.*", "cursor.open"};
/* The agent's own tools take a mark in these members, and nowhere else: what is in argv or in the text of a
 * command is for all to see on that machine. Tools that are not named here are plug-ins and MCP servers,
 * whose authors decide; programs with AI in them get secrets by their environment only. */
static const struct {
        const char *tool, *members; /* separated by a space */
} takes[] = {
        {"process.*", "env stdin"},
        {"http.*", "url headers body"},
        {"file.write", "content"},
        {"file.*", ""},
        {"browser.*", ""},
        {"llm.*", "key"},
        {"photon.*", ""},
        {"jules.*", ""},
        {"zai.*", "key"},
        {"acp.*", ""},
        {"cursor*", ""},
        {"claude-code.*", ""},
        {"codex.*", ""},
        {"gemini.*", ""},
};

static bool has_env(const char *tool)
{
        for (size_t i = 0; i < sizeof no_env / sizeof *no_env; i++)
                if (str_glob(no_env[i], tool))
                        return false;
        return true;
}

static bool has_word(const char *words, const char *word)
{
        size_t n = strlen(word);

        for (const char *p = words; *p; p += strcspn(p, " "), p += strspn(p, " "))
                if (strcspn(p, " ") == n && memcmp(p, word, n) == 0)
                        return true;
        return false;
}

bool wf_member_takes_secrets(const char *tool, const char *member)
{
        for (size_t i = 0; i < sizeof takes / sizeof *takes; i++)
                if (str_glob(takes[i].tool, tool))
                        return has_word(takes[i].members, member);
        return true;
}

/* ---- the list ---- */

static int add(struct wf_parser *p, struct step_def *s, const struct doc *d, const char *name,
               const char *env, bool file)
{
        struct step_secret *grown;

        if (s->n_secrets == STEP_SECRETS_MAX)
                return wf_fail(p, d, "%s names more than %d secrets", p->where, STEP_SECRETS_MAX);
        grown = mem_realloc(s->secrets, (s->n_secrets + 1) * sizeof *grown);
        if (!grown)
                return wf_nomem(p);
        s->secrets = grown;
        grown[s->n_secrets] = (struct step_secret){
                .name = mem_strdup(name), .env = env ? mem_strdup(env) : NULL, .file = file};
        s->n_secrets++;
        return grown[s->n_secrets - 1].name && (!env || grown[s->n_secrets - 1].env) ? 0 : wf_nomem(p);
}

static int add_named(struct scope *sc, struct step_def *s, const struct doc *d, const char *name,
                     const char *as, bool file)
{
        struct wf_parser *p = sc->p;
        const char *env = as ? as : name;

        if (tmpl_has_expr(name))
                return wf_fail(p, d, "\"secrets\" of %s: a secret is named as it stands: no expressions here",
                               p->where);
        if (!workflow_secret_name(name))
                return wf_fail(p, d,
                               "\"secrets\" of %s: \"%.100s\" is no name of a secret: letters, digits, "
                               "\"_\", \".\" and "
                               "\"-\"",
                               p->where, name);
        if (!wf_is_variable(env))
                return wf_fail(p, d,
                               as ? "\"as\" of the secret %.100s in %s: \"%.100s\" is no name of a variable"
                                  : "the secret %.100s in %s: \"%.100s\" is no name of a variable: add "
                                    "\"as\", such as "
                                    "{name: my-token, as: MY_TOKEN}",
                               name, p->where, env);
        if (!workflow_secret_variable(env))
                return wf_fail(p, d,
                               "the secret %.100s in %s: the variable %.100s decides which programs run, or "
                               "is set by "
                               "the agent: choose another with \"as\"",
                               name, p->where, env);
        for (size_t i = 0; i < s->n_secrets; i++)
                if (s->secrets[i].env && strcmp(s->secrets[i].env, env) == 0)
                        return wf_fail(p, d, "\"secrets\" of %s: two secrets for the variable %s", p->where,
                                       env);
        if (cJSON_GetObjectItemCaseSensitive(s->env, env))
                return wf_fail(p, d,
                               "%s has the variable %s in its \"env\" and among its \"secrets\": keep one",
                               p->where, env);
        return add(p, s, d, name, env, file);
}

static int add_item(struct scope *sc, struct step_def *s, const struct doc *d)
{
        static const struct wf_key keys[] = {{"name", 0}, {"as", 1}, {"file", 2}};
        const struct doc *slot[3] = {NULL};
        struct wf_parser *p = sc->p;
        bool file = false;
        int rc;

        if (d->kind == DOC_STRING)
                return add_named(sc, s, d, d->text, NULL, false);
        if (d->kind != DOC_MAP)
                return wf_fail(p, d,
                               "\"secrets\" of %s: expected a name, or {name: NAME, as: VARIABLE, file: "
                               "true}, got %s",
                               p->where, doc_kind_name(d->kind));
        rc = wf_keys(p, d, "\"secrets\"", keys, 3, slot);
        if (!rc && (!slot[0] || slot[0]->kind != DOC_STRING))
                rc = wf_fail(p, d, "\"secrets\" of %s: \"name\" is missing: which secret?", p->where);
        if (!rc && slot[1] && slot[1]->kind != DOC_STRING)
                rc = wf_fail(p, slot[1], "\"as\" of %s: expected the name of a variable, got %s", p->where,
                             doc_kind_name(slot[1]->kind));
        if (!rc)
                rc = wf_bool(p, slot[2], "file", &file);
        return rc ? rc
                  : add_named(sc, s, slot[1] ? slot[1] : slot[0], slot[0]->text,
                              slot[1] ? slot[1]->text : NULL, file);
}

int wf_secrets(struct scope *sc, struct step_def *s, const struct doc *d)
{
        int rc = 0;

        if (!d || d->kind == DOC_NULL)
                return 0;
        if (!s->tool || !has_env(s->tool))
                return wf_fail(sc->p, d, "\"secrets\" of %s: %s starts no program that could read them%s",
                               sc->p->where, s->tool ? s->tool : "an approval",
                               !s->tool ? ""
                               : wf_member_takes_secrets(s->tool, "body")
                                       ? ": write ${{ secrets.NAME }} in its \"headers\", \"body\" or \"url\""
                               : wf_member_takes_secrets(s->tool, "key")
                                       ? ": write ${{ secrets.NAME }} as its \"key\""
                                       : "");
        if (d->kind != DOC_LIST)
                return add_item(sc, s, d);
        for (const struct doc *c = d->child; c && !rc; c = c->next)
                rc = add_item(sc, s, c);
        return rc;
}

/* ---- ${{ secrets.NAME }} ---- */

static bool blank(char c)
{
        return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Is the reference all that stands between ${{ and }}? What it gives is a mark, of which no function would
 * make sense. */
static bool alone(const char *text, size_t pos, const char *name)
{
        const char *end = strstr(text + pos, "}}");
        char plain[SECRET_NAME_MAX + 16], quoted[SECRET_NAME_MAX + 20];
        size_t n;

        while (pos > 0 && blank(text[pos - 1]))
                pos--;
        if (!end || pos < 3 || memcmp(text + pos - 3, "${{", 3) != 0)
                return false;
        while (blank(text[pos]))
                pos++;
        n = (size_t)(end - text) - pos;
        while (n > 0 && blank(text[pos + n - 1]))
                n--;
        snprintf(plain, sizeof plain, "secrets.%s", name);
        snprintf(quoted, sizeof quoted, "secrets['%s']", name);
        return (n == strlen(plain) && memcmp(text + pos, plain, n) == 0) ||
               (n == strlen(quoted) && memcmp(text + pos, quoted, n) == 0);
}

int wf_secret_ref(struct scope *sc, const struct doc *d, size_t pos, const char *name)
{
        struct wf_parser *p = sc->p;
        struct step_def *s = &p->w->steps[sc->index];

        if (!name || !workflow_secret_name(name))
                return wf_fail_in(p, d, pos,
                                  "\"%s\" of %s: name the secret as it stands: ${{ secrets.NAME }}", sc->key,
                                  p->where);
        if (!alone(d->text, pos, name))
                return wf_fail_in(
                        p, d, pos,
                        "\"%s\" of %s: secrets.%s can only stand alone in ${{ }}: its value is not known "
                        "where expressions are read",
                        sc->key, p->where, name);
        for (size_t i = 0; i < s->n_secrets; i++)
                if (strcmp(s->secrets[i].name, name) == 0)
                        return 0;
        return add(p, s, d, name, NULL, false);
}
