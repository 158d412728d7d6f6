#include "hub/vault/vault_impl.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/id.h"
#include "common/locked.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/secret.h"
#include "common/str.h"
#include "hub/model/workflow.h"

#define MARK_META "vault_mark"

static const char *const kinds[] = {[VAULT_KEY_FILE] = "file",
                                    [VAULT_KEY_CREDENTIAL] = "credential",
                                    [VAULT_KEY_PASSPHRASE] = "passphrase"};

const char *vault_kind_name(enum vault_kind k)
{
        return kinds[k];
}

int vault_kind_parse(const char *name, enum vault_kind *out)
{
        for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
                if (strcmp(kinds[i], name) == 0) {
                        *out = (enum vault_kind)i;
                        return 0;
                }
        }
        return -E_INVAL;
}

int64_t vault_now_us(const struct vault *v)
{
        return clock_now_us(v->o.clock);
}

bool vault_is_open(const struct vault *v)
{
        return v && v->open;
}

const char *vault_why_locked(const struct vault *v)
{
        return v->open ? "" : v->why;
}

bool vault_name_ok(const char *name)
{
        return workflow_secret_name(name);
}

/* ---- data keys ---- */

struct data_key *vault_newest(struct vault *v)
{
        return v->n_keys ? &v->keys[v->n_keys - 1] : NULL;
}

const uint8_t *vault_key_of(const struct vault *v, int64_t id)
{
        for (size_t i = 0; v->open && i < v->n_keys; i++)
                if (v->keys[i].id == id)
                        return v->secret->data[i];
        return NULL;
}

void vault_put_key_row(struct store_tx *tx, const struct data_key *k)
{
        struct row_vault_key r = {.id = k->id,
                                  .uses = k->uses,
                                  .created_us = k->created_us,
                                  .wrapped = k->wrapped,
                                  .wrapped_len = sizeof k->wrapped};

        store_put_vault_key(tx, &r);
}

void vault_put_row(struct vault *v, struct store_tx *tx)
{
        struct row_vault r = {.id = 1,
                              .kind = vault_kind_name(v->kind),
                              .source = v->source,
                              .master = v->master_id,
                              .salt = v->salt,
                              .salt_len = sizeof v->salt,
                              .iterations = v->iterations,
                              .created_us = v->created_us,
                              .changed_us = vault_now_us(v)};

        store_put_vault(tx, &r);
}

int vault_new_key(struct vault *v, struct store_tx *tx, struct err *e)
{
        struct data_key *last = vault_newest(v), *k = &v->keys[v->n_keys];
        int rc;

        if (v->n_keys == VAULT_KEYS_MAX)
                return err_set(
                        e, E_FULL,
                        "the vault has %d data keys whose texts are still being sealed anew: try again "
                        "later (photon vault status)",
                        VAULT_KEYS_MAX);
        *k = (struct data_key){.id = last ? last->id + 1 : 1, .created_us = vault_now_us(v)};
        id_random(v->secret->data[v->n_keys], AEAD_KEY);
        rc = record_wrap(v->secret->master, k->id, v->secret->data[v->n_keys], k->wrapped);
        if (rc)
                return err_set(e, -rc, "out of memory");
        v->n_keys++;
        vault_put_key_row(tx, k);
        return 0;
}

/* ---- the index ---- */

static char *index_key(const char *project, const char *name)
{
        return str_printf("%s/%s", project, name);
}

static struct secret_info *find(const struct vault *v, const char *project, const char *name)
{
        char *key = index_key(project, name);
        struct secret_info *s = key ? map_get(v->index, key) : NULL;

        mem_free(key);
        return s;
}

static void info_free(struct secret_info *s)
{
        if (!s)
                return;
        mem_free(s->project);
        mem_free(s->name);
        mem_free(s->created_by);
        mem_free(s);
}

static struct secret_info *add_info(struct vault *v, const char *project, const char *name, const char *by)
{
        struct secret_info *s = mem_calloc(1, sizeof *s);
        char *key = index_key(project, name);

        if (s) {
                s->project = mem_strdup(project);
                s->name = mem_strdup(name);
                s->created_by = mem_strdup(by);
        }
        if (!s || !key || !s->project || !s->name || !s->created_by || map_put(v->index, key, s, NULL)) {
                info_free(s);
                s = NULL;
        }
        mem_free(key);
        return s;
}

int64_t vault_latest(const struct vault *v, const char *project, const char *name)
{
        const struct secret_info *s = find(v, project, name);

        return s ? s->version : 0;
}

/* ---- put, delete ---- */

static int refuse(const char **out_code, const char *code, int rc)
{
        *out_code = code;
        return rc;
}

static int check_put(const struct vault *v, const struct vault_put *p, const char **code, struct err *e)
{
        size_t n = p->n;
        const uint8_t *value = p->value;

        if (!vault_name_ok(p->name) || !vault_name_ok(p->project))
                return refuse(code, "invalid_name",
                              err_set(e, E_INVAL,
                                      "a secret's name has letters, digits, \"_\", \".\" and \"-\", at most "
                                      "%d, and "
                                      "does not begin with \".\" or \"-\"",
                                      VAULT_NAME_MAX));
        if (p->n > VAULT_VALUE_MAX)
                return refuse(code, "secret_too_large",
                              err_set(e, E_TOOBIG, "the value has %zu bytes, a secret may have %zu", p->n,
                                      VAULT_VALUE_MAX));
        while (n > 0 && (value[n - 1] == '\n' || value[n - 1] == '\r'))
                n--; /* as the mask counts */
        if (p->n == 0 || (n < VAULT_VALUE_MIN && !p->allow_short))
                return refuse(
                        code, "secret_too_short",
                        err_set(e, E_INVAL,
                                "the value has %zu bytes: what is shorter than %d cannot be masked in output "
                                "without masking ordinary text. Use a longer one, or say that this one need "
                                "not be masked (unmasked)",
                                n, VAULT_VALUE_MIN));
        if (p->keep < 0 || p->keep > VAULT_KEEP_MAX)
                return refuse(code, "invalid_argument",
                              err_set(e, E_INVAL, "\"keep\" must be 1 to %d versions", VAULT_KEEP_MAX));
        if (!v->open)
                return refuse(code, "vault_locked", err_set(e, E_UNAVAIL, "%s", v->why));
        return 0;
}

/* Under the newest data key, or, where that has sealed enough, under a new one. */
int vault_seal(struct vault *v, struct store_tx *tx, const struct record_place *at, const void *value,
               size_t n, uint8_t *out, int64_t *out_key, struct err *e)
{
        struct data_key *k = vault_newest(v);
        int rc;

        if (k->uses >= v->o.key_uses_max) {
                /* In a transaction of its own, which is before the caller's: whatever becomes of that, no
                 * text is ever under a key that the store does not have. */
                struct store_tx *own = store_begin(v->o.store);

                rc = vault_new_key(v, own, e);
                if (rc) {
                        store_abandon(own);
                        return rc;
                }
                store_commit(own, NULL, NULL);
                k = vault_newest(v);
                log_info("vault", "a data key has sealed enough, a new one takes its place", "key=%" PRId64,
                         k->id);
                vault_reseal_soon(v);
        }
        rc = record_seal(vault_key_of(v, k->id), k->id, at, value, n, out);
        if (rc)
                return err_set(e, -rc, "out of memory");
        k->uses++;
        vault_put_key_row(tx, k);
        *out_key = k->id;
        return 0;
}

static void put_rows(struct vault *v, struct store_tx *tx, const struct vault_put *p,
                     const struct secret_info *s, const uint8_t *sealed, int64_t key_id)
{
        int64_t now = vault_now_us(v);
        struct row_secret_version ver = {.project = p->project,
                                         .name = p->name,
                                         .version = s->version,
                                         .key_id = key_id,
                                         .created_us = now,
                                         .created_by = p->by,
                                         .sealed = sealed,
                                         .sealed_len = p->n + RECORD_SECRET_EXTRA};
        struct row_secret row = {.project = p->project,
                                 .name = p->name,
                                 .version = s->version,
                                 .keep = s->keep,
                                 .created_us = s->created_us,
                                 .updated_us = now,
                                 .created_by = s->created_by,
                                 .updated_by = p->by};
        char object[2 * VAULT_NAME_MAX + 2], *detail;

        store_put_secret_version(tx, &ver);
        store_put_secret(tx, &row);
        if (s->version > s->keep)
                store_cut_secret(tx, p->project, p->name, s->version - s->keep + 1);
        snprintf(object, sizeof object, "%s/%s", p->project, p->name);
        detail = str_printf("{\"version\":%" PRId64 ",\"data_key\":%" PRId64 "%s%s}", s->version, key_id,
                            p->detail ? "," : "", p->detail ? p->detail : "");
        store_put_audit(tx, now, p->by, p->must_exist ? "secret.rotate" : "secret.set", object, detail);
        mem_free(detail);
}

int vault_put(struct vault *v, struct store_tx *tx, const struct vault_put *p, int64_t *out_version,
              const char **out_code, struct err *e)
{
        struct secret_info *s;
        struct record_place at = {p->project, p->name, 1};
        uint8_t *sealed;
        int64_t key_id;
        int rc = check_put(v, p, out_code, e);

        if (rc)
                return rc;
        s = find(v, p->project, p->name);
        if (!s && p->must_exist)
                return refuse(out_code, "secret_unknown",
                              err_set(e, E_NOENT, "project %s has no secret %s: photon secret set %s",
                                      p->project, p->name, p->name));
        if (!s && map_count(v->index) >= VAULT_SECRETS_MAX)
                return refuse(out_code, "vault_full",
                              err_set(e, E_FULL, "the vault holds %d secrets, which is its limit",
                                      VAULT_SECRETS_MAX));
        at.version = s ? s->version + 1 : 1;
        sealed = mem_alloc(p->n + RECORD_SECRET_EXTRA);
        rc = sealed ? vault_seal(v, tx, &at, p->value, p->n, sealed, &key_id, e)
                    : err_set(e, E_NOMEM, "out of memory");
        if (!rc && !s) {
                s = add_info(v, p->project, p->name, p->by);
                rc = s ? 0 : err_set(e, E_NOMEM, "out of memory");
                if (s) {
                        s->keep = VAULT_KEEP;
                        s->created_us = vault_now_us(v);
                }
        }
        if (!rc) {
                s->version = at.version;
                s->keep = p->keep ? p->keep : s->keep;
                put_rows(v, tx, p, s, sealed, key_id);
                *out_version = s->version;
        } else {
                *out_code = err_name(rc);
        }
        mem_free(sealed);
        return rc;
}

int vault_delete(struct vault *v, struct store_tx *tx, const char *project, const char *name, const char *by,
                 const char **out_code, struct err *e)
{
        char *key = index_key(project, name), *detail;
        struct secret_info *s = key ? map_get(v->index, key) : NULL;

        if (!s) {
                mem_free(key);
                return refuse(out_code, "secret_unknown",
                              err_set(e, E_NOENT, "project %.64s has no secret %.128s", project, name));
        }
        detail = str_printf("{\"version\":%" PRId64 "}", s->version);
        store_cut_secret(tx, project, name, 0);
        store_put_audit(tx, vault_now_us(v), by, "secret.delete", key, detail);
        map_del(v->index, key);
        info_free(s);
        mem_free(detail);
        mem_free(key);
        return 0;
}

/* ---- open ---- */

struct opening {
        struct vault *v;
        struct vault_value *out;
        int rc;
};

static int on_version(void *arg, const struct row_secret_version *r)
{
        struct opening *o = arg;
        struct record_place at = {r->project, r->name, r->version};
        const uint8_t *key = NULL;
        int64_t key_id;

        o->rc = record_key_id(r->sealed, r->sealed_len, &key_id);
        if (!o->rc && !(key = vault_key_of(o->v, key_id)))
                o->rc = -E_CORRUPT;
        if (o->rc)
                return o->rc;
        o->out->n = r->sealed_len - RECORD_SECRET_EXTRA;
        o->out->version = r->version;
        o->out->p = mem_alloc(o->out->n + 1);
        if (!o->out->p)
                return o->rc = -E_NOMEM;
        o->rc = record_open(key, &at, r->sealed, r->sealed_len, o->out->p);
        o->out->p[o->out->n] = '\0';
        return o->rc;
}

static int on_newest(void *arg, const struct row_secret *r)
{
        if (r->sealed.refused)
                return -E_CORRUPT;
        *(int64_t *)arg = r->version;
        return 0;
}

int vault_open(struct vault *v, const char *project, const char *name, int64_t version,
               struct vault_value *out, const char **out_code, struct err *e)
{
        struct opening o = {.v = v, .out = out};
        int64_t newest = 0;
        int rc;

        *out = (struct vault_value){0};
        if (!v->open)
                return refuse(out_code, "vault_locked", err_set(e, E_UNAVAIL, "%s", v->why));
        rc = read_secret(v->reader, project, name, on_newest, &newest);
        if (rc == -E_NOENT)
                return refuse(out_code, "secret_unknown",
                              err_set(e, E_NOENT, "project %.64s has no secret %.128s", project, name));
        if (!rc)
                rc = read_secret_versions(v->reader, project, name, version ? version : newest, on_version,
                                          &o);
        if (rc == -E_NOENT && version && version < newest)
                return refuse(out_code, "secret_unknown",
                              err_set(e, E_NOENT,
                                      "version %" PRId64 " of the secret %.128s is not kept any more",
                                      version, name));
        if (rc) {
                vault_wipe(out);
                *out_code = rc == -E_NOENT || rc == -E_CORRUPT ? "secret_corrupt" : err_name(rc);
                return err_set(
                        e, rc == -E_NOENT ? E_CORRUPT : -rc,
                        "the record of the secret %.128s (project %.64s) cannot be opened: it was changed, "
                        "moved or removed in the database behind the hub's back. Set it again: photon secret "
                        "set %.128s",
                        name, project, name);
        }
        return 0;
}

void vault_wipe(struct vault_value *val)
{
        if (val->p)
                mem_wipe(val->p, val->n);
        mem_free(val->p);
        *val = (struct vault_value){0};
}

void vault_mark(const struct vault *v, const char *run_id, const char *step_id, uint32_t attempt,
                char out[VAULT_MARK_LEN])
{
        uint8_t mac[SHA256_LEN];
        char *text = str_printf("%s\n%s\n%u", run_id, step_id, attempt);

        if (!text)
                abort();
        secret_hmac(v->secret->mark, sizeof v->secret->mark, text, strlen(text), mac);
        str_hex(mac, (VAULT_MARK_LEN - 1) / 2, out);
        mem_free(text);
}

/* ---- answers ---- */

struct waiting {
        vault_answer cb;
        void *arg;
};

static void on_committed(void *arg)
{
        struct waiting *w = arg;

        w->cb(w->arg, 0, NULL, NULL);
        mem_free(w);
}

void vault_commit(struct vault *v, struct store_tx *tx, vault_answer cb, void *arg)
{
        struct waiting *w = cb ? mem_alloc(sizeof *w) : NULL;

        if (cb && !w)
                abort();
        if (w)
                *w = (struct waiting){cb, arg};
        store_commit(tx, w ? on_committed : NULL, w);
        if (!v->o.loop)
                store_pump(v->o.store);
}

/* ---- life ---- */

struct loading {
        struct vault *v;
        int rc;
};

static int on_vault_row(void *arg, const struct row_vault *r)
{
        struct vault *v = arg;

        if (!r->kind || vault_kind_parse(r->kind, &v->kind) ||
            (r->salt_len && r->salt_len != sizeof v->salt) || r->iterations < 0 ||
            r->iterations > KDF_ITERATIONS_MAX)
                return -E_CORRUPT;
        if (r->salt_len)
                memcpy(v->salt, r->salt, sizeof v->salt);
        v->iterations = (uint32_t)r->iterations;
        v->created_us = r->created_us;
        snprintf(v->master_id, sizeof v->master_id, "%s", r->master ? r->master : "");
        v->source = mem_strdup(r->source ? r->source : "");
        return v->source ? 0 : -E_NOMEM;
}

static int on_key_row(void *arg, const struct row_vault_key *r)
{
        struct vault *v = arg;
        struct data_key *k = &v->keys[v->n_keys];

        if (v->n_keys == VAULT_KEYS_MAX || r->wrapped_len != sizeof k->wrapped)
                return -E_CORRUPT;
        *k = (struct data_key){.id = r->id, .uses = r->uses, .created_us = r->created_us};
        memcpy(k->wrapped, r->wrapped, sizeof k->wrapped);
        v->n_keys++;
        return 0;
}

static int on_secret_row(void *arg, const struct row_secret *r)
{
        struct secret_info *s = add_info(arg, r->project ? r->project : "", r->name ? r->name : "",
                                         r->created_by ? r->created_by : "");

        if (!s)
                return -E_NOMEM;
        s->version = r->version;
        s->keep = r->keep > 0 && r->keep <= VAULT_KEEP_MAX ? r->keep : VAULT_KEEP;
        s->created_us = r->created_us;
        return 0;
}

/* Of the database's own, and no key: what it protects against are texts that come through the hub. */
static int load_mark(struct vault *v)
{
        char *hex = NULL;
        int rc = read_meta(v->reader, MARK_META, &hex);

        if (!rc)
                rc = str_unhex(hex, v->secret->mark, sizeof v->secret->mark);
        mem_free(hex);
        return rc;
}

static int make_first(struct vault *v, struct err *e)
{
        struct store_tx *tx;
        char hex[2 * sizeof v->secret->mark + 1], *path = NULL;
        int rc;

        v->kind = vault_has_credential() ? VAULT_KEY_CREDENTIAL : VAULT_KEY_FILE;
        v->created_us = vault_now_us(v);
        v->source = mem_strdup(v->kind == VAULT_KEY_FILE && v->key_file ? v->key_file : "");
        if (!v->source || !(path = vault_key_path(v))) {
                rc = err_set(e, E_NOMEM, "out of memory");
                goto out;
        }
        rc = vault_read_master(v, v->secret->master, e);
        /* A key that lies there already is taken: the operator's own, or that of an init that did not get to
         * its end. */
        if (rc && v->kind == VAULT_KEY_FILE && e->code == E_NOENT) {
                *e = (struct err){0};
                id_random(v->secret->master, AEAD_KEY);
                rc = vault_write_next(v, path, v->secret->master, e);
                if (!rc)
                        rc = vault_next_becomes_current(path, e);
        }
        if (rc)
                goto out;
        tx = store_begin(v->o.store);
        record_master_id(v->secret->master, v->master_id);
        rc = vault_new_key(v, tx, e);
        id_random(v->secret->mark, sizeof v->secret->mark);
        str_hex(v->secret->mark, sizeof v->secret->mark, hex);
        store_put_meta(tx, MARK_META, hex);
        vault_put_row(v, tx);
        store_put_audit(tx, v->created_us, "hub", "vault.create", vault_kind_name(v->kind), NULL);
        if (rc) {
                store_abandon(tx);
                goto out;
        }
        store_commit(tx, NULL, NULL);
        if (!v->o.loop)
                store_pump(v->o.store);
        v->open = true;
out:
        mem_free(path);
        return rc;
}

static void open_if_possible(struct vault *v)
{
        uint8_t master[AEAD_KEY];
        struct err e = {0};
        int rc;

        if (v->kind == VAULT_KEY_PASSPHRASE) {
                vault_warn_old_file(v);
                vault_shut(v, "the vault is locked: it waits for its passphrase (photon vault unlock)");
                return;
        }
        rc = vault_read_master(v, master, &e);
        if (!rc)
                rc = vault_try_master(v, master, &e);
        mem_wipe(master, sizeof master);
        if (rc) {
                vault_shut(v, e.msg);
                log_error("vault", "the vault stays locked", "reason=\"%s\"", e.msg);
        }
}

int vault_create(const struct vault_options *o, struct vault **out, struct err *e)
{
        struct vault *v = mem_calloc(1, sizeof *v);
        int rc = -E_NOMEM;

        if (!v)
                return err_set(e, E_NOMEM, "no memory for the vault");
        v->o = *o;
        v->o.key_uses_max = o->key_uses_max ? o->key_uses_max : VAULT_KEY_USES;
        v->dir = mem_strdup(o->dir);
        v->key_file = o->key_file ? mem_strdup(o->key_file) : NULL;
        v->index = map_create();
        v->secret = locked_alloc(sizeof *v->secret);
        if (!v->dir || !v->index || !v->secret || (o->key_file && !v->key_file)) {
                err_set(e, E_NOMEM, "no memory for the vault");
                goto fail;
        }
        rc = store_reader_open(o->store, &v->reader, e);
        if (rc)
                goto fail;
        rc = read_vault(v->reader, on_vault_row, v);
        if (rc == -E_NOENT) {
                rc = make_first(v, e);
        } else {
                if (!rc)
                        rc = read_vault_keys(v->reader, on_key_row, v);
                if (!rc)
                        rc = load_mark(v);
                if (!rc)
                        rc = read_secrets(v->reader, NULL, on_secret_row, v);
                if (rc)
                        err_set(e, -rc, "the vault's rows in the database make no sense: %s", err_name(rc));
                else
                        open_if_possible(v);
        }
        if (rc)
                goto fail;
        vault_reseal_soon(v);
        *out = v;
        return 0;
fail:
        vault_free(v);
        return rc;
}

void vault_free(struct vault *v)
{
        size_t it = 0;
        void *s;

        if (!v)
                return;
        while (v->index && map_next(v->index, &it, NULL, &s))
                info_free(s);
        map_free(v->index);
        vault_stop_timer(v);
        if (v->reader)
                store_reader_close(v->reader);
        locked_free(v->secret, sizeof *v->secret);
        mem_free(v->dir);
        mem_free(v->key_file);
        mem_free(v->source);
        mem_free(v);
}

cJSON *vault_describe(struct vault *v)
{
        cJSON *o = cJSON_CreateObject();
        const struct data_key *k = vault_newest(v);

        if (o && cJSON_AddStringToObject(o, "state", v->open ? "open" : "locked") &&
            cJSON_AddStringToObject(o, "why", vault_why_locked(v)) &&
            cJSON_AddStringToObject(o, "key", vault_kind_name(v->kind)) &&
            cJSON_AddStringToObject(o, "master", v->master_id) &&
            cJSON_AddNumberToObject(o, "data_key", k ? (double)k->id : 0) &&
            cJSON_AddNumberToObject(o, "data_key_uses", k ? (double)k->uses : 0) &&
            cJSON_AddNumberToObject(o, "data_keys", (double)v->n_keys) &&
            cJSON_AddBoolToObject(o, "resealing", v->resealing) &&
            cJSON_AddNumberToObject(o, "secrets", (double)map_count(v->index)))
                return o;
        cJSON_Delete(o);
        return NULL;
}
