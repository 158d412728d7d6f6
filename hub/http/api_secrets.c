/* Secrets of projects and the vault that holds them. A value goes in and never comes out again; what held it
 * on its way is overwritten, and no idempotency row keeps a digest of it. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"
#include "hub/http/api.h"
#include "hub/http/guard.h"
#include "hub/http/jsonw.h"
#include "hub/http/request.h"
#include "hub/store/store.h"
#include "hub/vault/vault.h"

struct secret_request {
        struct vault_put put;
        uint8_t *value;
        size_t n;
        char *pass; /* of the vault */
        uint8_t *key;
        char kind[16];
        bool master;
};

static void wipe_free(void *p, size_t n)
{
        if (p)
                mem_wipe(p, n);
        mem_free(p);
}

static void request_free(void *p)
{
        struct secret_request *s = p;

        wipe_free(s->value, s->n);
        wipe_free(s->pass, s->pass ? strlen(s->pass) : 0);
        wipe_free(s->key, s->key ? 32 : 0);
        mem_free(s);
}

static int no_vault(struct http_req *q, struct err *e)
{
        q->problem_code = "vault_missing";
        return err_set(e, E_UNAVAIL, "this hub has no vault");
}

static int begin(struct http_req *q, struct secret_request **out, struct err *e)
{
        struct secret_request *s;

        if (!q->h->o.vault)
                return no_vault(q, e);
        s = mem_calloc(1, sizeof *s);
        if (!s)
                return err_set(e, E_NOMEM, "out of memory");
        req_keep(q, s, request_free);
        *out = s;
        return 0;
}

/* The texts of a body that was read, and the body. */
static void forget_body(struct http_req *q, cJSON *doc)
{
        for (cJSON *m = doc ? doc->child : NULL; m; m = m->next)
                if (cJSON_IsString(m))
                        mem_wipe(m->valuestring, strlen(m->valuestring));
        cJSON_Delete(doc);
        if (q->body.data)
                mem_wipe(q->body.data, q->body.cap);
        req_drop_body(q);
}

static void answer(struct http_req *q, int rc, const char *code, const struct err *e)
{
        if (rc) {
                q->problem_code = code;
                if (rc == -E_FULL)
                        q->problem_status = strcmp(code, "unlock_limited") == 0 ? 429 : 409;
        }
        req_done(q, rc, e);
}

/* ---- showing: names, versions, who and when ---- */

static void present_secret(struct jsonw *w, const struct row_secret *s)
{
        jw_str(w, "name", s->name);
        jw_str(w, "project", s->project);
        jw_i64(w, "version", s->version);
        jw_i64(w, "keep", s->keep);
        jw_str(w, "created_by", s->created_by);
        jw_str(w, "updated_by", s->updated_by);
        jw_time(w, "created_at", s->created_us);
        jw_time(w, "updated_at", s->updated_us);
}

struct listing {
        struct http_req *q;
        struct jsonw w;
};

static int on_listed(void *arg, const struct row_secret *s)
{
        struct listing *l = arg;

        if (l->q->project[0] ? strcmp(l->q->project, s->project) != 0
                             : !caller_may(&l->q->caller, s->project, PERM_SECRETS_READ))
                return 0;
        jw_open(&l->w, NULL, '{');
        /* What pages go on from. */
        {
                char id[VAULT_NAME_MAX + PROJECT_NAME_MAX + 2];

                snprintf(id, sizeof id, "%s/%s", s->project, s->name);
                jw_str(&l->w, "id", id);
        }
        present_secret(&l->w, s);
        jw_close(&l->w, '}');
        return jw_end(&l->w);
}

int api_secrets_list(struct http_req *q, struct err *e)
{
        struct store_reader *r = req_reader(q, e);
        struct listing l = {.q = q};
        struct buf b;
        cJSON *all = NULL;
        int rc;

        if (!r)
                return -E_UNAVAIL;
        buf_init(&b, 0);
        jw_begin(&l.w, &b);
        jw_open(&l.w, NULL, '[');
        rc = read_secrets(r, NULL, on_listed, &l);
        jw_close(&l.w, ']');
        if (!rc)
                rc = jw_end(&l.w);
        if (rc)
                err_set(e, -rc, "the secrets could not be read: %s", err_name(rc));
        else
                rc = json_parse((const char *)b.data, b.len, &all, e);
        buf_fini(&b);
        return rc ? rc : req_page(q, all, "id", e);
}

static int on_version(void *arg, const struct row_secret_version *v)
{
        struct jsonw *w = arg;

        jw_open(w, NULL, '{');
        jw_i64(w, "version", v->version);
        jw_str(w, "created_by", v->created_by);
        jw_time(w, "created_at", v->created_us);
        jw_close(w, '}');
        return jw_end(w);
}

static int on_shown(void *arg, const struct row_secret *s)
{
        present_secret(arg, s);
        return jw_end(arg);
}

int api_secret_get(struct http_req *q, struct err *e)
{
        struct store_reader *r = req_reader(q, e);
        struct jsonw w;
        int rc;

        if (!r)
                return -E_UNAVAIL;
        jw_begin(&w, &q->out);
        jw_open(&w, NULL, '{');
        rc = read_secret(r, q->project, q->param[0], on_shown, &w);
        if (rc == -E_NOENT) {
                buf_reset(&q->out);
                q->problem_code = "secret_unknown";
                return err_set(e, E_NOENT, "project %s has no secret '%.128s'", q->project, q->param[0]);
        }
        jw_open(&w, "versions", '[');
        if (!rc)
                rc = read_secret_versions(r, q->project, q->param[0], 0, on_version, &w);
        jw_close(&w, ']');
        jw_close(&w, '}');
        if (rc && rc != -E_NOENT)
                return err_set(e, -rc, "the secret could not be read: %s", err_name(rc));
        return jw_end(&w);
}

/* ---- setting ---- */

static void on_durable(void *arg)
{
        req_on_answer(arg, 0, NULL);
}

static void put_on_loop(struct http_req *q)
{
        struct secret_request *s = q->state;
        struct store_tx *tx = store_begin(q->h->o.store);
        const char *code = NULL;
        struct err e = {0};
        int64_t version;
        int rc;

        s->put.project = q->project;
        s->put.name = q->param[0];
        s->put.value = s->value;
        s->put.n = s->n;
        s->put.by = q->caller.name;
        rc = vault_put(q->h->o.vault, tx, &s->put, &version, &code, &e);
        wipe_free(s->value, s->n);
        s->value = NULL;
        if (rc) {
                store_abandon(tx);
                answer(q, rc, code, &e);
                return;
        }
        req_owe(q);
        store_commit(tx, on_durable, q);
}

static int read_value(const cJSON *doc, struct secret_request *s, struct err *e)
{
        const char *text = NULL, *b64 = NULL;
        int rc = json_str_opt(doc, "value", &text, e);

        if (!rc)
                rc = json_str_opt(doc, "value_base64", &b64, e);
        if (rc)
                return rc;
        if (!text == !b64)
                return err_set(e, E_INVAL,
                               "give the value as \"value\" (text) or as \"value_base64\" (any bytes)");
        if (b64) {
                if (str_unb64(b64, strlen(b64), &s->value, &s->n))
                        return err_set(e, E_INVAL, "\"value_base64\" is not base64");
                return 0;
        }
        s->n = strlen(text);
        s->value = mem_dup(text, s->n ? s->n : 1);
        return s->value ? 0 : err_set(e, E_NOMEM, "out of memory");
}

static int set_secret(struct http_req *q, bool must_exist, struct err *e)
{
        static const char *const keys[] = {"value", "value_base64", "keep", "unmasked", NULL};
        struct secret_request *s = NULL;
        cJSON *doc = NULL;
        int rc = begin(q, &s, e);

        if (!rc)
                rc = req_body_json(q, keys, false, &doc, e);
        if (!rc)
                rc = read_value(doc, s, e);
        if (!rc)
                rc = json_i64_opt(doc, "keep", 1, VAULT_KEEP_MAX, &s->put.keep, e);
        if (!rc)
                rc = json_bool_opt(doc, "unmasked", &s->put.allow_short, e);
        forget_body(q, doc);
        if (rc)
                return rc;
        s->put.must_exist = must_exist;
        req_hop(q, put_on_loop, api_secret_get);
        return 0;
}

int api_secret_set(struct http_req *q, struct err *e)
{
        return set_secret(q, false, e);
}

int api_secret_rotate(struct http_req *q, struct err *e)
{
        return set_secret(q, true, e);
}

static void delete_on_loop(struct http_req *q)
{
        struct store_tx *tx = store_begin(q->h->o.store);
        const char *code = NULL;
        struct err e = {0};
        int rc = vault_delete(q->h->o.vault, tx, q->project, q->param[0], q->caller.name, &code, &e);

        if (rc) {
                store_abandon(tx);
                answer(q, rc, code, &e);
                return;
        }
        req_owe(q);
        store_commit(tx, on_durable, q);
}

int api_secret_delete(struct http_req *q, struct err *e)
{
        if (!q->h->o.vault)
                return no_vault(q, e);
        req_hop(q, delete_on_loop, NULL);
        return 0;
}

/* ---- the vault ---- */

static void describe_on_loop(struct http_req *q)
{
        struct err e = {0};

        q->json = vault_describe(q->h->o.vault);
        req_done(q, q->json ? 0 : err_set(&e, E_NOMEM, "out of memory"), &e);
}

int api_vault_get(struct http_req *q, struct err *e)
{
        if (!q->h->o.vault)
                return no_vault(q, e);
        req_hop(q, describe_on_loop, NULL);
        return 0;
}

static void on_vault_answer(void *arg, int rc, const char *code, const struct err *e)
{
        struct http_req *q = arg;
        struct err no = {0};

        if (!req_paid(q))
                return;
        if (!rc) {
                describe_on_loop(q);
                return;
        }
        if (rc == -E_FULL)
                q->retry_after_s = vault_unlock_wait_s(q->h->o.vault);
        answer(q, rc, code, e ? e : &no);
}

static void unlock_on_loop(struct http_req *q)
{
        struct secret_request *s = q->state;

        req_owe(q);
        vault_unlock(q->h->o.vault, s->pass, s->pass ? strlen(s->pass) : 0, q->caller.name, on_vault_answer,
                     q);
}

static int take_pass(const cJSON *doc, struct secret_request *s, struct err *e)
{
        const char *pass = NULL;
        int rc = json_str_opt(doc, "passphrase", &pass, e);

        if (rc || !pass)
                return rc;
        s->pass = mem_strdup(pass);
        return s->pass ? 0 : err_set(e, E_NOMEM, "out of memory");
}

int api_vault_unlock(struct http_req *q, struct err *e)
{
        static const char *const keys[] = {"passphrase", NULL};
        struct secret_request *s = NULL;
        cJSON *doc = NULL;
        int rc = begin(q, &s, e);

        if (!rc)
                rc = req_body_json(q, keys, true, &doc, e);
        if (!rc)
                rc = take_pass(doc, s, e);
        forget_body(q, doc);
        if (!rc)
                req_hop(q, unlock_on_loop, NULL);
        return rc;
}

static void lock_on_loop(struct http_req *q)
{
        req_owe(q);
        vault_lock(q->h->o.vault, q->caller.name, on_vault_answer, q);
}

int api_vault_lock(struct http_req *q, struct err *e)
{
        if (!q->h->o.vault)
                return no_vault(q, e);
        req_hop(q, lock_on_loop, NULL);
        return 0;
}

static void rotate_on_loop(struct http_req *q)
{
        const struct secret_request *s = q->state;
        struct vault_master m = {.kind = s->kind[0] ? s->kind : NULL,
                                 .pass = s->pass,
                                 .pass_len = s->pass ? strlen(s->pass) : 0,
                                 .key = s->key};

        req_owe(q);
        if (s->master)
                vault_rotate_master(q->h->o.vault, &m, q->caller.name, on_vault_answer, q);
        else
                vault_rotate_data(q->h->o.vault, q->caller.name, on_vault_answer, q);
}

static int take_key(const cJSON *doc, struct secret_request *s, struct err *e)
{
        const char *hex = NULL;
        int rc = json_str_opt(doc, "new_key", &hex, e);

        if (rc || !hex)
                return rc;
        s->key = mem_alloc(32);
        if (!s->key)
                return err_set(e, E_NOMEM, "out of memory");
        return str_unhex(hex, s->key, 32) ? err_set(e, E_INVAL, "\"new_key\" must have 64 hexadecimal digits")
                                          : 0;
}

int api_vault_rotate(struct http_req *q, struct err *e)
{
        static const char *const keys[] = {"level", "key", "passphrase", "new_key", NULL};
        const char *level = NULL, *kind = NULL;
        struct secret_request *s = NULL;
        cJSON *doc = NULL;
        int rc = begin(q, &s, e);

        if (!rc)
                rc = req_body_json(q, keys, false, &doc, e);
        if (!rc)
                rc = json_str(doc, "level", &level, e);
        if (!rc && strcmp(level, "data") != 0 && strcmp(level, "master") != 0)
                rc = err_set(e, E_INVAL,
                             "\"level\" must be data (a new data key) or master (a new master key)");
        if (!rc)
                rc = json_str_opt(doc, "key", &kind, e);
        if (!rc && kind)
                snprintf(s->kind, sizeof s->kind, "%s", kind);
        if (!rc)
                rc = take_pass(doc, s, e);
        if (!rc)
                rc = take_key(doc, s, e);
        if (!rc)
                s->master = strcmp(level, "master") == 0;
        if (!rc && !s->master && (kind || s->pass || s->key))
                rc = err_set(e, E_INVAL, "\"key\", \"passphrase\" and \"new_key\" go with level master");
        forget_body(q, doc);
        if (!rc)
                req_hop(q, rotate_on_loop, NULL);
        return rc;
}
