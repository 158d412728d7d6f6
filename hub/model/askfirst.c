#include "hub/model/askfirst.h"

#include <string.h>

#include "common/err.h"
#include "common/mem.h"
#include "common/str.h"
#include "common/yaml.h"

#define NAME_MAX_BYTES 200
#define QUESTION_MAX   1000

enum slot { TOOLS, PROJECTS, WORKFLOWS, AGENTS, QUESTION, ROLES, USERS, QUORUM, TIMEOUT, SLOTS };
static const char *const keys[SLOTS] = {"tools", "projects", "workflows", "agents", "question",
                                        "roles", "users",    "quorum",    "timeout"};

static int fail(const struct doc *d, struct err *e, const char *key, const char *what)
{
        return err_at(e, E_INVAL, d->line, d->col, "ask-first: \"%s\": %s", key, what);
}

/* A list of 1 to 100 texts, or nothing. */
static int names(const struct doc *d, const char *key, bool roles, cJSON **out, struct err *e)
{
        if (!d)
                return 0;
        if (d->kind != DOC_LIST || !d->count || d->count > ASKFIRST_GLOBS_MAX)
                return fail(d, e, key, "expected a list of 1 to 100 names");
        *out = cJSON_CreateArray();
        for (const struct doc *c = d->child; c; c = c->next) {
                cJSON *s;

                if (c->kind != DOC_STRING || !c->text[0] || strlen(c->text) > NAME_MAX_BYTES)
                        return fail(c, e, key, "expected a name of at most 200 bytes");
                if (roles && !approval_role_ok(c->text))
                        return fail(c, e, key,
                                    "roles that may answer checkpoints are technical-operator and admin");
                s = cJSON_CreateString(c->text);
                if (!*out || !s || !cJSON_AddItemToArray(*out, s)) {
                        cJSON_Delete(s);
                        return err_set(e, E_NOMEM, "out of memory");
                }
        }
        return 0;
}

static int find_slots(const struct doc *d, const struct doc *s[SLOTS], struct err *e)
{
        for (const struct doc *m = d->child; m; m = m->next) {
                const char *near = str_nearest(m->key, keys, SLOTS);
                size_t i = 0;

                while (i < SLOTS && strcmp(keys[i], m->key) != 0)
                        i++;
                if (i == SLOTS)
                        return err_at(e, E_INVAL, m->key_line, m->key_col,
                                      "ask-first: unknown key \"%.60s\"%s%s%s", m->key,
                                      near ? ": did you mean \"" : "", near ? near : "", near ? "\"?" : "");
                s[i] = m;
        }
        return s[TOOLS] ? 0 : fail(d, e, "tools", "is missing: which tools are asked about; \"*\" is all");
}

static int read_rule(const struct doc *d, struct askfirst_rule *r, struct err *e)
{
        const struct doc *s[SLOTS] = {NULL};
        int64_t quorum = 1;
        int rc;

        r->rules = (struct approval_rules){.quorum = 1, .reject_quorum = 1, .then = THEN_DENY};
        if (d->kind != DOC_MAP)
                return err_at(e, E_INVAL, d->line, d->col, "ask-first: a rule is a map with \"tools\"");
        rc = find_slots(d, s, e);
        if (!rc)
                rc = names(s[TOOLS], "tools", false, &r->tools, e);
        if (!rc)
                rc = names(s[PROJECTS], "projects", false, &r->projects, e);
        if (!rc)
                rc = names(s[WORKFLOWS], "workflows", false, &r->workflows, e);
        if (!rc)
                rc = names(s[AGENTS], "agents", false, &r->agents, e);
        if (!rc)
                rc = names(s[ROLES], "roles", true, &r->rules.roles, e);
        if (!rc)
                rc = names(s[USERS], "users", false, &r->rules.users, e);
        if (!rc && s[QUESTION] &&
            (s[QUESTION]->kind != DOC_STRING || !s[QUESTION]->text[0] ||
             strlen(s[QUESTION]->text) > QUESTION_MAX))
                rc = fail(s[QUESTION], e, "question", "expected a text of at most 1000 bytes");
        if (!rc && s[QUESTION]) {
                r->question = mem_strdup(s[QUESTION]->text);
                rc = r->question ? 0 : err_set(e, E_NOMEM, "out of memory");
        }
        if (!rc && s[QUORUM] &&
            (s[QUORUM]->kind != DOC_NUMBER ||
             str_parse_i64(s[QUORUM]->text, 1, APPROVAL_QUORUM_MAX, &quorum)))
                rc = fail(s[QUORUM], e, "quorum", "expected how many people must say yes, 1 to 20");
        if (!rc && s[TIMEOUT] &&
            (s[TIMEOUT]->kind != DOC_STRING || str_parse_duration(s[TIMEOUT]->text, &r->rules.timeout_ms) ||
             r->rules.timeout_ms < 1000))
                rc = fail(s[TIMEOUT], e, "timeout", "expected a duration such as 1h, at least 1s");
        r->rules.quorum = (int)quorum;
        return rc;
}

int askfirst_read(const struct doc *d, struct askfirst *out, struct err *e)
{
        struct askfirst a = {0};
        int rc = 0;

        *out = a;
        if (!d || d->kind == DOC_NULL)
                return 0;
        if (d->kind != DOC_LIST || d->count > ASKFIRST_RULES_MAX)
                return err_at(e, E_INVAL, d->line, d->col, "ask-first: expected a list of at most 100 rules");
        a.v = mem_calloc(d->count + 1, sizeof *a.v);
        if (!a.v)
                return err_set(e, E_NOMEM, "out of memory");
        for (const struct doc *c = d->child; c && !rc; c = c->next)
                rc = read_rule(c, &a.v[a.n++], e);
        if (rc)
                askfirst_fini(&a);
        else
                *out = a;
        return rc;
}

void askfirst_fini(struct askfirst *a)
{
        for (size_t i = 0; i < a->n; i++) {
                cJSON_Delete(a->v[i].tools);
                cJSON_Delete(a->v[i].projects);
                cJSON_Delete(a->v[i].workflows);
                cJSON_Delete(a->v[i].agents);
                mem_free(a->v[i].question);
                approval_rules_fini(&a->v[i].rules);
        }
        mem_free(a->v);
        *a = (struct askfirst){0};
}

static bool fits(const cJSON *globs, const char *s)
{
        const cJSON *g;

        if (!globs)
                return true;
        cJSON_ArrayForEach(g, globs)
        {
                if (str_glob(g->valuestring, s))
                        return true;
        }
        return false;
}

const struct askfirst_rule *askfirst_find(const struct askfirst *a, const char *tool, const char *project,
                                          const char *workflow, const char *agent)
{
        for (size_t i = 0; i < a->n; i++) {
                const struct askfirst_rule *r = &a->v[i];

                if (fits(r->tools, tool) && fits(r->projects, project) && fits(r->workflows, workflow) &&
                    fits(r->agents, agent))
                        return r;
        }
        return NULL;
}
