#include "hub/model/approval.h"

#include <string.h>

#include "common/err.h"
#include "common/json.h"
#include "common/mem.h"

const char *approval_then_name(enum approval_then t)
{
        static const char *const names[APPROVAL_THEN_COUNT] = {
#define X(sym, name) [THEN_##sym] = name,
                APPROVAL_THENS(X)
#undef X
        };

        return (unsigned)t < APPROVAL_THEN_COUNT ? names[t] : "invalid";
}

int approval_then_parse(const char *name, enum approval_then *out)
{
        for (unsigned i = 0; name && i < APPROVAL_THEN_COUNT; i++) {
                if (strcmp(approval_then_name((enum approval_then)i), name) == 0) {
                        *out = (enum approval_then)i;
                        return 0;
                }
        }
        return -E_INVAL;
}

bool approval_role_ok(const char *name)
{
        return strcmp(name, "technical-operator") == 0 || strcmp(name, "admin") == 0;
}

/* ---- the rules, in memory and as text ---- */

void approval_rules_fini(struct approval_rules *r)
{
        cJSON_Delete(r->roles);
        cJSON_Delete(r->users);
        cJSON_Delete(r->escalate_roles);
        cJSON_Delete(r->escalate_users);
        cJSON_Delete(r->fields);
        mem_free(r->denied_code);
        *r = (struct approval_rules){0};
}

static int copy_list(cJSON **out, const cJSON *list)
{
        *out = list ? cJSON_Duplicate(list, true) : NULL;
        return list && !*out ? -E_NOMEM : 0;
}

int approval_rules_copy(const struct approval_rules *from, struct approval_rules *out)
{
        struct approval_rules r = *from;

        r.roles = r.users = r.escalate_roles = r.escalate_users = r.fields = NULL;
        r.denied_code = from->denied_code ? mem_strdup(from->denied_code) : NULL;
        if ((from->denied_code && !r.denied_code) || copy_list(&r.roles, from->roles) ||
            copy_list(&r.users, from->users) || copy_list(&r.escalate_roles, from->escalate_roles) ||
            copy_list(&r.escalate_users, from->escalate_users) || copy_list(&r.fields, from->fields)) {
                approval_rules_fini(&r);
                return -E_NOMEM;
        }
        *out = r;
        return 0;
}

/* A list that is lent for the making of a text. */
static bool put_list(cJSON *o, const char *key, const cJSON *list)
{
        return !list || cJSON_AddItemReferenceToObject(o, key, (cJSON *)list);
}

char *approval_rules_text(const struct approval_rules *r)
{
        cJSON *o = cJSON_CreateObject(), *esc = NULL;
        char *text = NULL;
        bool ok = o && put_list(o, "roles", r->roles) && put_list(o, "users", r->users) &&
                  cJSON_AddNumberToObject(o, "quorum", r->quorum) &&
                  cJSON_AddNumberToObject(o, "reject_quorum", r->reject_quorum) &&
                  cJSON_AddStringToObject(o, "then", approval_then_name(r->then)) &&
                  cJSON_AddNumberToObject(o, "timeout_ms", (double)r->timeout_ms) &&
                  put_list(o, "fields", r->fields) &&
                  (!r->denied_code || cJSON_AddStringToObject(o, "denied_code", r->denied_code));

        if (ok && (r->escalate_roles || r->escalate_users)) {
                esc = cJSON_AddObjectToObject(o, "escalate");
                ok = esc && cJSON_AddNumberToObject(esc, "after_ms", (double)r->escalate_ms) &&
                     put_list(esc, "roles", r->escalate_roles) && put_list(esc, "users", r->escalate_users);
        }
        if (ok)
                text = json_text(o);
        cJSON_Delete(o);
        return text;
}

static int read_list(const cJSON *o, const char *key, cJSON **out, struct err *e)
{
        const cJSON *list = NULL;
        int rc = json_arr_opt(o, key, &list, e);

        return rc ? rc : copy_list(out, list);
}

static int read_escalation(const cJSON *o, struct approval_rules *r, struct err *e)
{
        const cJSON *esc = NULL;
        int rc = json_obj_opt(o, "escalate", &esc, e);

        if (rc || !esc)
                return rc;
        rc = json_i64(esc, "after_ms", 0, INT64_MAX, &r->escalate_ms, e);
        if (!rc)
                rc = read_list(esc, "roles", &r->escalate_roles, e);
        return rc ? rc : read_list(esc, "users", &r->escalate_users, e);
}

int approval_rules_read(const char *json, struct approval_rules *out, struct err *e)
{
        struct approval_rules r = {0};
        const char *then = NULL, *code = NULL;
        int64_t quorum = 1, reject = 1;
        cJSON *o = NULL;
        int rc = json_parse(json, strlen(json), &o, e);

        if (!rc)
                rc = read_list(o, "roles", &r.roles, e);
        if (!rc)
                rc = read_list(o, "users", &r.users, e);
        if (!rc)
                rc = read_list(o, "fields", &r.fields, e);
        if (!rc)
                rc = json_i64(o, "quorum", 1, APPROVAL_QUORUM_MAX, &quorum, e);
        if (!rc)
                rc = json_i64(o, "reject_quorum", 1, APPROVAL_QUORUM_MAX, &reject, e);
        if (!rc)
                rc = json_i64(o, "timeout_ms", 0, INT64_MAX, &r.timeout_ms, e);
        if (!rc)
                rc = json_str(o, "then", &then, e);
        if (!rc && approval_then_parse(then, &r.then))
                rc = err_set(e, E_INVAL, "\"then\" is \"%.32s\"", then);
        if (!rc)
                rc = json_str_opt(o, "denied_code", &code, e);
        if (!rc && code && !(r.denied_code = mem_strdup(code)))
                rc = -E_NOMEM;
        if (!rc)
                rc = read_escalation(o, &r, e);
        cJSON_Delete(o);
        if (rc) {
                approval_rules_fini(&r);
                return rc;
        }
        r.quorum = (int)quorum;
        r.reject_quorum = (int)reject;
        *out = r;
        return 0;
}

/* ---- what is filled in ---- */

static const char *member(const cJSON *o, const char *key)
{
        const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);

        return cJSON_IsString(v) ? v->valuestring : "";
}

static cJSON *field_schema(const cJSON *f)
{
        const char *type = member(f, "type"), *text = member(f, "description");
        const cJSON *options = cJSON_GetObjectItemCaseSensitive(f, "options");
        bool secret = strcmp(type, "secret") == 0, choice = strcmp(type, "choice") == 0;
        cJSON *s = cJSON_CreateObject();

        if (s && cJSON_AddStringToObject(s, "type", secret || choice ? "string" : type) &&
            (!*text || cJSON_AddStringToObject(s, "description", text)) && put_list(s, "enum", options) &&
            (!secret || (cJSON_AddNumberToObject(s, "minLength", 1) &&
                         cJSON_AddNumberToObject(s, "maxLength", APPROVAL_SECRET_MAX) &&
                         cJSON_AddTrueToObject(s, "writeOnly"))))
                return s;
        cJSON_Delete(s);
        return NULL;
}

char *approval_schema(const cJSON *fields)
{
        cJSON *o = cJSON_CreateObject(), *props, *required;
        const cJSON *f;
        bool ok;
        char *text = NULL;

        if (!fields || !fields->child || !o) {
                cJSON_Delete(o);
                return NULL;
        }
        ok = cJSON_AddStringToObject(o, "type", "object");
        props = cJSON_AddObjectToObject(o, "properties");
        required = cJSON_AddArrayToObject(o, "required");
        ok = ok && props && required && cJSON_AddFalseToObject(o, "additionalProperties");
        cJSON_ArrayForEach(f, fields)
        {
                cJSON *s = ok ? field_schema(f) : NULL;

                ok = s && cJSON_AddItemToObject(props, member(f, "name"), s);
                if (ok && cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(f, "required")))
                        ok = cJSON_AddItemToArray(required, cJSON_CreateString(member(f, "name")));
                if (!ok)
                        break;
        }
        if (ok)
                text = json_text(o);
        cJSON_Delete(o);
        return text;
}

cJSON *approval_complete(const cJSON *fields, const cJSON *given)
{
        cJSON *all = cJSON_CreateObject();
        const cJSON *f;

        cJSON_ArrayForEach(f, fields)
        {
                const char *name = member(f, "name");
                const cJSON *v = cJSON_GetObjectItemCaseSensitive(given, name);
                cJSON *copy;

                if (!v)
                        v = cJSON_GetObjectItemCaseSensitive(f, "default");
                copy = v ? cJSON_Duplicate(v, true) : NULL;
                if (v && (!copy || !cJSON_AddItemToObject(all, name, copy))) {
                        cJSON_Delete(copy);
                        cJSON_Delete(all);
                        return NULL;
                }
        }
        return all;
}

bool approval_has_secret(const cJSON *fields)
{
        const cJSON *f;

        cJSON_ArrayForEach(f, fields) if (strcmp(member(f, "type"), "secret") == 0) return true;
        return false;
}

/* ---- the record ---- */

void approval_record_fini(struct approval_record *r)
{
        cJSON_Delete(r->answers);
        cJSON_Delete(r->delegations);
        *r = (struct approval_record){0};
}

char *approval_record_text(const struct approval_record *r)
{
        cJSON *o = cJSON_CreateObject();
        char *text = NULL;

        if (o && put_list(o, "answers", r->answers) && put_list(o, "delegations", r->delegations) &&
            cJSON_AddNumberToObject(o, "escalated_us", (double)r->escalated_us))
                text = json_text(o);
        cJSON_Delete(o);
        return text;
}

int approval_record_read(const char *json, struct approval_record *out, struct err *e)
{
        struct approval_record r = {0};
        cJSON *o = NULL;
        int rc = json_parse(json, strlen(json), &o, e);

        if (!rc)
                rc = read_list(o, "answers", &r.answers, e);
        if (!rc)
                rc = read_list(o, "delegations", &r.delegations, e);
        if (!rc)
                rc = json_i64(o, "escalated_us", 0, INT64_MAX, &r.escalated_us, e);
        cJSON_Delete(o);
        if (rc)
                approval_record_fini(&r);
        else
                *out = r;
        return rc;
}

/* Adds an object of texts to a list that may not be there yet. */
static int append(cJSON **list, cJSON *o)
{
        if (!*list)
                *list = cJSON_CreateArray();
        if (o && *list && cJSON_AddItemToArray(*list, o))
                return 0;
        cJSON_Delete(o);
        return -E_NOMEM;
}

/* ---- who ---- */

static bool names(const cJSON *list, const char *name)
{
        const cJSON *it;

        cJSON_ArrayForEach(it,
                           list) if (cJSON_IsString(it) && strcmp(it->valuestring, name) == 0) return true;
        return false;
}

bool approval_asked(const struct approval_rules *r, const struct approval_record *rec, const char *name,
                    const char *role)
{
        bool own = (!r->roles && !r->users) || names(r->users, name) || (role && names(r->roles, role));
        const cJSON *d;

        if (rec->escalated_us)
                own |= names(r->escalate_users, name) || (role && names(r->escalate_roles, role));
        cJSON_ArrayForEach(d, rec->delegations)
        {
                if (strcmp(member(d, "from"), name) == 0)
                        own = false;
                else if (strcmp(member(d, "to"), name) == 0)
                        own = true;
        }
        return own;
}

static bool same(const char *a, const char *b)
{
        return a && b && *a && strcmp(a, b) == 0;
}

bool approval_answered(const struct approval_record *rec, const char *name, const char *maker)
{
        const cJSON *a;

        cJSON_ArrayForEach(a, rec->answers)
        {
                const char *by = member(a, "by"), *for_ = member(a, "maker");

                if (same(by, name) || same(by, maker) || same(for_, name) || same(for_, maker))
                        return true;
        }
        return false;
}

void approval_count(const struct approval_record *rec, int *approved, int *rejected)
{
        const cJSON *a;

        *approved = *rejected = 0;
        cJSON_ArrayForEach(a, rec->answers)
        {
                if (strcmp(member(a, "decision"), "approved") == 0)
                        (*approved)++;
                else
                        (*rejected)++;
        }
}

int approval_take(const struct approval_rules *r, struct approval_record *rec,
                  const struct checkpoint_answer *a, const char *reason, int64_t now_us,
                  enum checkpoint_state *out)
{
        cJSON *o = cJSON_CreateObject();
        int yes, no;

        if (!o || !cJSON_AddStringToObject(o, "by", a->by) ||
            !cJSON_AddStringToObject(o, "decision", a->approve ? "approved" : "rejected") ||
            !cJSON_AddNumberToObject(o, "at_us", (double)now_us) ||
            (a->maker && *a->maker && !cJSON_AddStringToObject(o, "maker", a->maker)) ||
            (reason && *reason && !cJSON_AddStringToObject(o, "reason", reason))) {
                cJSON_Delete(o);
                return -E_NOMEM;
        }
        if (append(&rec->answers, o))
                return -E_NOMEM;
        approval_count(rec, &yes, &no);
        *out = no >= r->reject_quorum ? CHECKPOINT_REJECTED
               : yes >= r->quorum     ? CHECKPOINT_APPROVED
                                      : CHECKPOINT_OPEN;
        return 0;
}

int approval_delegate(const struct approval_rules *r, struct approval_record *rec, const char *from,
                      const char *from_role, const char *to, const char *asked_by, int64_t now_us,
                      const char **code, struct err *e)
{
        cJSON *o;

        *code = "not_asked";
        if (!approval_asked(r, rec, from, from_role))
                return err_set(e, E_DENIED, "%s is not among those who are asked, and so cannot hand it on",
                               from);
        *code = "own_request";
        if (strcmp(from, asked_by) == 0 || strcmp(to, asked_by) == 0)
                return err_set(e, E_DENIED, "%s started the run that asks: it is for somebody else to answer",
                               asked_by);
        *code = "invalid_delegate";
        if (strcmp(from, to) == 0)
                return err_set(e, E_INVAL, "%s cannot hand it to themselves", from);
        *code = "already_answered";
        if (approval_answered(rec, from, NULL) || approval_answered(rec, to, NULL))
                return err_set(e, E_EXIST, "%s has answered already: each person counts once",
                               approval_answered(rec, from, NULL) ? from : to);
        *code = "too_many_delegations";
        if (cJSON_GetArraySize(rec->delegations) >= APPROVAL_DELEGATIONS_MAX)
                return err_set(e, E_FULL, "it was handed on %d times already: answer it",
                               APPROVAL_DELEGATIONS_MAX);
        *code = NULL;
        o = cJSON_CreateObject();
        if (o && cJSON_AddStringToObject(o, "from", from) && cJSON_AddStringToObject(o, "to", to) &&
            cJSON_AddNumberToObject(o, "at_us", (double)now_us))
                return append(&rec->delegations, o) ? err_set(e, E_NOMEM, "out of memory") : 0;
        cJSON_Delete(o);
        return err_set(e, E_NOMEM, "out of memory");
}

/* ---- when ---- */

bool approval_can_escalate(const struct approval_rules *r, const struct approval_record *rec)
{
        return (r->escalate_roles || r->escalate_users) && !rec->escalated_us;
}

int64_t approval_next_us(const struct approval_rules *r, const struct approval_record *rec,
                         int64_t created_us, int64_t expires_us)
{
        int64_t at = created_us + r->escalate_ms * 1000;

        if (!approval_can_escalate(r, rec) || !r->escalate_ms || at > expires_us)
                return expires_us;
        return at;
}
