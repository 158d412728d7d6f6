#include "hub/http/answer_secrets.h"

#include <stdio.h>
#include <string.h>

#include "common/mem.h"
#include "common/str.h"
#include "hub/http/guard.h"
#include "hub/http/request.h"
#include "hub/model/approval.h"
#include "hub/vault/vault.h"

struct answer_secrets {
        struct vault *vault;
        char project[PROJECT_NAME_MAX + 1], by[128], checkpoint[64];
        size_t n;
        struct {
                char *name, *field, *value; /* wiped */
        } v[APPROVAL_FIELDS_MAX];
};

static const char *member(const cJSON *o, const char *key)
{
        const char *s = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, key));

        return s ? s : "";
}

static void wipe(char *s)
{
        if (s)
                mem_wipe(s, strlen(s));
}

void answer_secrets_free(struct answer_secrets *s)
{
        for (size_t i = 0; s && i < s->n; i++) {
                wipe(s->v[i].value);
                mem_free(s->v[i].value);
                mem_free(s->v[i].name);
                mem_free(s->v[i].field);
        }
        mem_free(s);
}

/* {"secret": NAME} in its place. */
static int refer(cJSON *content, const char *field, const char *name)
{
        cJSON *ref = cJSON_CreateObject();

        if (ref && cJSON_AddStringToObject(ref, "secret", name) &&
            cJSON_ReplaceItemInObjectCaseSensitive(content, field, ref))
                return 0;
        cJSON_Delete(ref);
        return -E_NOMEM;
}

static int take_one(struct answer_secrets *s, const cJSON *f, cJSON *content)
{
        cJSON *v = cJSON_GetObjectItemCaseSensitive(content, member(f, "name"));

        if (strcmp(member(f, "type"), "secret") != 0 || !cJSON_IsString(v))
                return 0;
        s->v[s->n].name = mem_strdup(member(f, "secret"));
        s->v[s->n].field = mem_strdup(member(f, "name"));
        s->v[s->n].value = mem_strdup(v->valuestring);
        s->n++;
        wipe(v->valuestring);
        if (!s->v[s->n - 1].name || !s->v[s->n - 1].field || !s->v[s->n - 1].value)
                return -E_NOMEM;
        return refer(content, member(f, "name"), member(f, "secret"));
}

int answer_secrets_take(struct http_req *q, const cJSON *fields, cJSON *content, struct answer_secrets **out,
                        struct err *e)
{
        struct answer_secrets *s;
        const cJSON *f;
        int rc = 0;

        *out = NULL;
        if (!approval_has_secret(fields))
                return 0;
        if (!caller_may(&q->caller, q->project, PERM_SECRETS_MANAGE))
                return guard_denied(&q->caller, PERM_SECRETS_MANAGE, e);
        if (!q->h->o.vault) {
                q->problem_code = "vault_missing";
                return err_set(e, E_UNAVAIL, "this hub has no vault: a secret cannot be taken");
        }
        s = mem_calloc(1, sizeof *s);
        if (!s)
                return err_set(e, E_NOMEM, "out of memory");
        s->vault = q->h->o.vault;
        snprintf(s->project, sizeof s->project, "%s", q->project);
        snprintf(s->by, sizeof s->by, "%s", q->caller.name);
        snprintf(s->checkpoint, sizeof s->checkpoint, "%s", q->param[0]);
        cJSON_ArrayForEach(f, fields)
        {
                rc = take_one(s, f, content);
                if (rc)
                        break;
        }
        if (rc) {
                answer_secrets_free(s);
                return err_set(e, E_NOMEM, "out of memory");
        }
        *out = s;
        return 0;
}

void answer_secrets_forget(struct http_req *q, const cJSON *fields, cJSON *content)
{
        const cJSON *f;

        if (!approval_has_secret(fields))
                return;
        cJSON_ArrayForEach(f, fields)
        {
                if (strcmp(member(f, "type"), "secret") == 0)
                        wipe(cJSON_GetStringValue(
                                cJSON_GetObjectItemCaseSensitive(content, member(f, "name"))));
        }
        if (q->body.data)
                mem_wipe(q->body.data, q->body.cap);
        req_drop_body(q);
}

int answer_secrets_put(void *arg, struct store_tx *tx, const char **code, struct err *e)
{
        struct answer_secrets *s = arg;
        char detail[160];
        int64_t version;
        int rc = 0;

        if (!vault_is_open(s->vault)) {
                *code = "vault_locked";
                return err_set(e, E_UNAVAIL, "the vault is locked, so the secret cannot be taken: %s",
                               vault_why_locked(s->vault));
        }
        for (size_t i = 0; i < s->n; i++) {
                if (strlen(s->v[i].value) < VAULT_VALUE_MIN || !vault_name_ok(s->v[i].name)) {
                        *code = vault_name_ok(s->v[i].name) ? "secret_too_short" : "invalid_name";
                        return err_set(
                                e, E_INVAL,
                                "the field %.100s cannot be taken: a secret has at least %d bytes, and a "
                                "name of letters, digits, '.', '_' and '-'",
                                s->v[i].field, VAULT_VALUE_MIN);
                }
        }
        snprintf(detail, sizeof detail, "\"checkpoint\":\"%s\"", s->checkpoint);
        for (size_t i = 0; i < s->n && !rc; i++) {
                struct vault_put p = {.project = s->project,
                                      .name = s->v[i].name,
                                      .value = s->v[i].value,
                                      .n = strlen(s->v[i].value),
                                      .by = s->by,
                                      .detail = detail};

                rc = vault_put(s->vault, tx, &p, &version, code, e);
        }
        return rc;
}
