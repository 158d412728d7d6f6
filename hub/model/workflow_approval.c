/* `approval:` of a step: a question to people in place of a tool. */
#include "hub/model/workflow_internal.h"

#include <string.h>

#include "common/mem.h"
#include "common/str.h"

static int refuse_others(struct wf_parser *p, const struct doc *const *slot)
{
        static const enum step_slot none[] = {
                S_RUN,      S_USES,       S_WITH,   S_SHELL,   S_CWD,     S_STDIN,           S_ENV,
                S_SECRETS,  S_AGENT,      S_EFFECT, S_RUNS_ON, S_TIMEOUT, S_TIMEOUT_MINUTES, S_RETRY,
                S_ESTIMATE, S_CONCURRENCY};

        for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
                const struct doc *d = slot[none[i]];

                if (d)
                        return wf_fail(p, d,
                                       "\"%s\" of %s does not go with \"approval\", which asks people and "
                                       "calls no tool%s",
                                       d->key, p->where,
                                       none[i] == S_TIMEOUT ? ": \"timeout\" stands under \"approval\"" : "");
        }
        return 0;
}

/* ---- names ---- */

static int add_name(struct wf_parser *p, cJSON *list, const struct doc *d, const char *key, bool roles)
{
        static const char *const known[] = {"technical-operator", "admin"};
        const cJSON *it;
        const char *near;
        cJSON *s;

        if (!wf_scalar(d) || !d->text[0] || strlen(d->text) > APPROVAL_NAME_MAX)
                return wf_fail(p, d, "\"%s\" of %s: expected the name of a %s", key, p->where,
                               roles ? "role" : "person");
        if (roles && !approval_role_ok(d->text)) {
                near = str_nearest(d->text, known, 2);
                return wf_fail(p, d,
                               "\"%s\" of %s: \"%.60s\" is no role that may answer checkpoints: those are "
                               "technical-operator and admin%s%s%s",
                               key, p->where, d->text, near ? "; did you mean \"" : "", near ? near : "",
                               near ? "\"?" : "");
        }
        if (tmpl_has_expr(d->text))
                return wf_fail(p, d, "\"%s\" of %s is used as it stands: no expressions here", key, p->where);
        cJSON_ArrayForEach(it, list)
        {
                if (strcmp(it->valuestring, d->text) == 0)
                        return wf_fail(p, d, "\"%s\" of %s names \"%.60s\" twice", key, p->where, d->text);
        }
        s = cJSON_CreateString(d->text);
        return s && cJSON_AddItemToArray(list, s) ? 0 : wf_nomem(p);
}

static int parse_names(struct wf_parser *p, const struct doc *d, const char *key, bool roles, cJSON **out)
{
        int rc = 0;

        if (!d)
                return 0;
        *out = cJSON_CreateArray();
        if (!*out)
                return wf_nomem(p);
        if (d->kind != DOC_LIST)
                return add_name(p, *out, d, key, roles);
        if (!d->count || d->count > APPROVAL_NAMES_MAX)
                return wf_fail(p, d, "\"%s\" of %s: expected 1 to %d names", key, p->where,
                               APPROVAL_NAMES_MAX);
        for (const struct doc *c = d->child; c && !rc; c = c->next)
                rc = add_name(p, *out, c, key, roles);
        return rc;
}

/* ---- fields ---- */

enum { F_TYPE, F_REQUIRED, F_DEFAULT, F_OPTIONS, F_DESCRIPTION, F_SECRET, F_SLOTS };

static const char *const field_types[] = {"string", "number", "boolean", "choice", "secret"};
#define N_FIELD_TYPES (sizeof field_types / sizeof *field_types)

static int field_type(struct wf_parser *p, const struct doc *d, const struct doc *const *slot,
                      const char **out)
{
        const struct doc *t = slot[F_TYPE];
        const char *near;

        *out = slot[F_OPTIONS] ? "choice" : slot[F_SECRET] ? "secret" : "string";
        for (size_t i = 0; t && t->kind == DOC_STRING && i < N_FIELD_TYPES; i++) {
                if (strcmp(t->text, field_types[i]) == 0) {
                        *out = field_types[i];
                        t = NULL;
                }
        }
        if (t) {
                near = t->kind == DOC_STRING ? str_nearest(t->text, field_types, N_FIELD_TYPES) : NULL;
                return wf_fail(p, t,
                               "\"type\" of field \"%s\" of %s: expected string, number, boolean, choice or "
                               "secret%s%s%s",
                               d->key, p->where, near ? ": did you mean \"" : "", near ? near : "",
                               near ? "\"?" : "");
        }
        return 0;
}

static bool fits(const char *type, const cJSON *options, const cJSON *v)
{
        const cJSON *o;

        if (strcmp(type, "number") == 0)
                return cJSON_IsNumber(v);
        if (strcmp(type, "boolean") == 0)
                return cJSON_IsBool(v);
        if (!options)
                return cJSON_IsString(v);
        cJSON_ArrayForEach(o, options) if (cJSON_IsString(v) &&
                                           strcmp(o->valuestring, v->valuestring) == 0) return true;
        return false;
}

static int field_options(struct wf_parser *p, const struct doc *d, const struct doc *opts, const char *type,
                         cJSON *f)
{
        cJSON *list = NULL;

        if (!opts)
                return strcmp(type, "choice") == 0
                               ? wf_fail(p, d, "field \"%s\" of %s is a choice: it needs \"options\"", d->key,
                                         p->where)
                               : 0;
        if (strcmp(type, "choice") != 0)
                return wf_fail(p, opts, "\"options\" of field \"%s\" of %s go with the type choice", d->key,
                               p->where);
        if (opts->kind != DOC_LIST || !opts->count || opts->count > WORKFLOW_NAMES_MAX)
                return wf_fail(p, opts, "\"options\" of field \"%s\" of %s: expected a list of 1 to %d texts",
                               d->key, p->where, WORKFLOW_NAMES_MAX);
        list = cJSON_AddArrayToObject(f, "options");
        for (const struct doc *o = opts->child; list && o; o = o->next) {
                cJSON *s;

                if (!wf_scalar(o) || tmpl_has_expr(o->text))
                        return wf_fail(p, o, "\"options\" of field \"%s\" of %s: expected plain texts",
                                       d->key, p->where);
                s = cJSON_CreateString(o->text);
                if (!s || !cJSON_AddItemToArray(list, s))
                        return wf_nomem(p);
        }
        return list ? 0 : wf_nomem(p);
}

static int field_default(struct wf_parser *p, const struct doc *d, const struct doc *def, const char *type,
                         cJSON *f)
{
        cJSON *v = NULL;

        if (!def)
                return 0;
        if (strcmp(type, "secret") == 0)
                return wf_fail(p, def, "field \"%s\" of %s is a secret: it has no default", d->key, p->where);
        if (doc_to_json(def, &v))
                return wf_nomem(p);
        if (!fits(type, cJSON_GetObjectItemCaseSensitive(f, "options"), v)) {
                cJSON_Delete(v);
                return wf_fail(p, def, "\"default\" of field \"%s\" of %s is not of its type, %s", d->key,
                               p->where, type);
        }
        if (cJSON_AddItemToObject(f, "default", v))
                return 0;
        cJSON_Delete(v);
        return wf_nomem(p);
}

/* The name under which the vault keeps it. */
static int field_secret(struct wf_parser *p, const struct doc *d, const struct doc *name, const char *type,
                        cJSON *f)
{
        const char *text = name ? name->text : d->key;

        if (strcmp(type, "secret") != 0)
                return name ? wf_fail(p, name, "\"secret\" of field \"%s\" of %s goes with the type secret",
                                      d->key, p->where)
                            : 0;
        if (!text || !str_is_name(text, STEP_ID_MAX))
                return wf_fail(p, name, "\"secret\" of field \"%s\" of %s: expected the name of a secret",
                               d->key, p->where);
        return cJSON_AddStringToObject(f, "secret", text) ? 0 : wf_nomem(p);
}

static int parse_field(struct wf_parser *p, const struct doc *d, cJSON *list)
{
        static const struct wf_key keys[] = {{"type", F_TYPE},       {"required", F_REQUIRED},
                                             {"default", F_DEFAULT}, {"options", F_OPTIONS},
                                             {"secret", F_SECRET},   {"description", F_DESCRIPTION}};
        const struct doc *slot[F_SLOTS] = {NULL};
        const char *type = NULL;
        char *text = NULL;
        bool required;
        cJSON *f;
        int rc = 0;

        if (!str_is_name(d->key, STEP_ID_MAX) || strchr(d->key, '.'))
                return err_at(p->e, E_INVAL, d->key_line, d->key_col,
                              "\"%.60s\" is no good name of a field: letters, digits, \"_\" and \"-\"",
                              d->key);
        f = cJSON_CreateObject();
        if (!f || !cJSON_AddItemToArray(list, f))
                return wf_nomem(p);
        if (d->kind == DOC_MAP)
                rc = wf_keys(p, d, "a field", keys, F_SLOTS, slot);
        else if (d->kind == DOC_STRING)
                slot[F_TYPE] = d;
        else if (d->kind != DOC_NULL)
                rc = wf_fail(p, d, "field \"%s\" of %s: expected a map such as {type: string}, got %s",
                             d->key, p->where, doc_kind_name(d->kind));
        if (!rc)
                rc = field_type(p, d, slot, &type);
        required = !slot[F_DEFAULT];
        if (!rc)
                rc = wf_bool(p, slot[F_REQUIRED], "required", &required);
        if (!rc)
                rc = wf_text(p, slot[F_DESCRIPTION], "description", WORKFLOW_TEXT_MAX, &text);
        if (!rc &&
            (!cJSON_AddStringToObject(f, "name", d->key) || !cJSON_AddStringToObject(f, "type", type) ||
             !cJSON_AddBoolToObject(f, "required", required) ||
             (text && !cJSON_AddStringToObject(f, "description", text))))
                rc = wf_nomem(p);
        mem_free(text);
        if (!rc)
                rc = field_options(p, d, slot[F_OPTIONS], type, f);
        if (!rc)
                rc = field_default(p, d, slot[F_DEFAULT], type, f);
        return rc ? rc : field_secret(p, d, slot[F_SECRET], type, f);
}

static int parse_fields(struct wf_parser *p, const struct doc *d, struct approval_rules *r)
{
        int rc = 0;

        if (!d || d->kind == DOC_NULL)
                return 0;
        if (d->kind != DOC_MAP || !d->count || d->count > APPROVAL_FIELDS_MAX)
                return wf_fail(p, d,
                               "\"fields\" of %s: expected a map of 1 to %d fields such as {ticket: "
                               "{type: string}}",
                               p->where, APPROVAL_FIELDS_MAX);
        r->fields = cJSON_CreateArray();
        if (!r->fields)
                return wf_nomem(p);
        for (const struct doc *c = d->child; c && !rc; c = c->next)
                rc = parse_field(p, c, r->fields);
        if (!rc && r->quorum > 1 && approval_has_secret(r->fields))
                rc = wf_fail(
                        p, d,
                        "%s asks for a secret, which one person hands over: \"quorum\" is 1 then (others "
                        "could be asked by a step of their own)",
                        p->where);
        return rc;
}

/* ---- the whole ---- */

static int parse_escalate(struct wf_parser *p, const struct doc *d, struct approval_rules *r)
{
        static const struct wf_key keys[] = {{"after", 0}, {"roles", 1}, {"users", 2}};
        const struct doc *slot[3] = {NULL};
        int rc;

        if (!d)
                return r->then == THEN_ESCALATE
                               ? wf_fail(p, NULL,
                                         "%s escalates when the time is up: \"escalate\" says to whom, "
                                         "such as {roles: [admin]}",
                                         p->where)
                               : 0;
        rc = wf_keys(p, d, "\"escalate\"", keys, 3, slot);
        if (!rc)
                rc = wf_duration(p, slot[0], "after", &r->escalate_ms);
        if (!rc)
                rc = parse_names(p, slot[1], "roles", true, &r->escalate_roles);
        if (!rc)
                rc = parse_names(p, slot[2], "users", false, &r->escalate_users);
        if (!rc && !r->escalate_roles && !r->escalate_users)
                rc = wf_fail(p, d, "\"escalate\" of %s needs \"roles\" or \"users\": who is asked then",
                             p->where);
        if (!rc && !r->escalate_ms && r->then != THEN_ESCALATE)
                rc = wf_fail(p, d, "\"escalate\" of %s needs \"after\", or \"then: escalate\"", p->where);
        if (!rc && r->timeout_ms && r->escalate_ms >= r->timeout_ms)
                rc = wf_fail(p, slot[0], "\"after\" of the escalation of %s is not before its \"timeout\"",
                             p->where);
        return rc;
}

static int parse_then(struct wf_parser *p, const struct doc *d, enum approval_then *out)
{
        if (!d || (d->kind == DOC_STRING && approval_then_parse(d->text, out) == 0))
                return 0;
        return wf_fail(p, d,
                       "\"then\" of %s says what happens when nobody answers in time: deny, fail, skip or "
                       "escalate%s",
                       p->where,
                       d->text && strncmp(d->text, "approve", 7) == 0 ? "; silence never approves" : "");
}

static int parse_counts(struct wf_parser *p, const struct doc *quorum, const struct doc *reject,
                        struct approval_rules *r)
{
        int64_t n = 1, no = 1;
        int rc = wf_int(p, quorum, "quorum", 1, APPROVAL_QUORUM_MAX, &n);

        if (!rc)
                rc = wf_int(p, reject, "reject-quorum", 1, APPROVAL_QUORUM_MAX, &no);
        r->quorum = (int)n;
        r->reject_quorum = (int)no;
        if (!rc && r->users && !r->roles && n > cJSON_GetArraySize(r->users))
                rc = wf_fail(p, quorum, "%s wants %d people to approve and asks %d: each counts once",
                             p->where, (int)n, cJSON_GetArraySize(r->users));
        return rc;
}

static int parse_question(struct scope *sc, const struct doc *d, struct approval_def *a)
{
        int rc;

        if (!d)
                return wf_fail(sc->p, NULL, "\"approval\" of %s needs a \"question\"", sc->p->where);
        sc->key = "question";
        rc = wf_text(sc->p, d, "question", WORKFLOW_TEXT_MAX, &a->question);
        if (!rc && !a->question[0])
                rc = wf_fail(sc->p, d, "the \"question\" of %s is empty", sc->p->where);
        return rc ? rc : scope_text(sc, d);
}

static int parse_show(struct scope *sc, const struct doc *d, struct approval_def *a)
{
        int rc;

        if (!d || d->kind == DOC_NULL)
                return 0;
        if (d->kind != DOC_MAP)
                return wf_fail(sc->p, d, "\"show\" of %s: expected a map of what people are to see, got %s",
                               sc->p->where, doc_kind_name(d->kind));
        sc->key = "show";
        rc = scope_tree(sc, d);
        if (!rc && doc_to_json(d, &a->show))
                rc = wf_nomem(sc->p);
        return rc;
}

enum {
        A_QUESTION,
        A_SHOW,
        A_FIELDS,
        A_ROLES,
        A_USERS,
        A_QUORUM,
        A_REJECT,
        A_TIMEOUT,
        A_THEN,
        A_ESCALATE,
        A_SLOTS
};

static int parse_members(struct scope *sc, struct approval_def *a, const struct doc *const *slot)
{
        struct wf_parser *p = sc->p;
        struct approval_rules *r = &a->rules;
        int rc = parse_question(sc, slot[A_QUESTION], a);

        if (!rc)
                rc = parse_show(sc, slot[A_SHOW], a);
        if (!rc)
                rc = parse_names(p, slot[A_ROLES], "roles", true, &r->roles);
        if (!rc)
                rc = parse_names(p, slot[A_USERS], "users", false, &r->users);
        if (!rc)
                rc = parse_counts(p, slot[A_QUORUM], slot[A_REJECT], r);
        if (!rc)
                rc = wf_duration(p, slot[A_TIMEOUT], "timeout", &r->timeout_ms);
        if (!rc && slot[A_TIMEOUT] &&
            (r->timeout_ms < CHECKPOINT_TIMEOUT_MIN_MS || r->timeout_ms > CHECKPOINT_TIMEOUT_MAX_MS))
                rc = wf_fail(p, slot[A_TIMEOUT], "\"timeout\" of the approval of %s: from 1s to 30d",
                             p->where);
        if (!rc)
                rc = parse_then(p, slot[A_THEN], &r->then);
        if (!rc)
                rc = parse_escalate(p, slot[A_ESCALATE], r);
        return rc ? rc : parse_fields(p, slot[A_FIELDS], r);
}

int wf_approval(struct scope *sc, struct step_def *s, const struct doc *const *slot)
{
        static const struct wf_key keys[] = {{"question", A_QUESTION},    {"show", A_SHOW},
                                             {"fields", A_FIELDS},        {"roles", A_ROLES},
                                             {"users", A_USERS},          {"quorum", A_QUORUM},
                                             {"timeout", A_TIMEOUT},      {"then", A_THEN},
                                             {"reject-quorum", A_REJECT}, {"escalate", A_ESCALATE}};
        const struct doc *of[A_SLOTS] = {NULL}, *d = slot[S_APPROVAL];
        struct wf_parser *p = sc->p;
        int rc = refuse_others(p, slot);

        if (rc)
                return rc;
        s->tool = mem_strdup(STEP_TOOL_APPROVAL);
        s->approval = mem_calloc(1, sizeof *s->approval);
        s->with = cJSON_CreateObject();
        if (!s->tool || !s->approval || !s->with)
                return wf_nomem(p);
        s->effect = EFFECT_PURE; /* asking twice does nothing twice */
        if (d->kind == DOC_STRING)
                of[A_QUESTION] = d;
        else if (d->kind == DOC_MAP)
                rc = wf_keys(p, d, "\"approval\"", keys, sizeof keys / sizeof *keys, of);
        else
                rc = wf_fail(p, d,
                             "\"approval\" of %s: expected a question, or a map with \"question\", got %s",
                             p->where, doc_kind_name(d->kind));
        rc = rc ? rc : parse_members(sc, s->approval, of);
        if (rc && p->e && !p->e->line) { /* something is missing: the place is the approval's own */
                p->e->line = d->line;
                p->e->col = d->col;
        }
        return rc;
}
