/* New keys while the hub serves.
 *
 * A new data key is a row; from then on it seals. What older ones seal is sealed anew some versions at a
 * time, each time in one transaction; a hub that dies anywhere in between finds in the rows what is left to
 * do. When nothing is left the older keys are destroyed. */
#include "hub/vault/vault_impl.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/id.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/str.h"

#define RESEAL_EVERY_MS 20

static void fail(vault_answer cb, void *arg, int rc, const char *code, const struct err *e)
{
        cb(arg, rc, code ? code : err_name(rc), e);
}

static void fail_locked(const struct vault *v, vault_answer cb, void *arg)
{
        struct err e = {0};

        err_set(&e, E_UNAVAIL, "%s", v->why);
        cb(arg, -E_UNAVAIL, "vault_locked", &e);
}

/* ---- sealing anew ---- */

struct batch {
        struct vault *v;
        struct store_tx *tx;
        int done;
        size_t bytes;
        int64_t bad;
};

static int reseal_one(void *arg, const struct row_secret_version *r)
{
        struct batch *b = arg;
        struct vault *v = b->v;
        struct record_place at = {r->project, r->name, r->version};
        struct row_secret_version now = *r;
        uint8_t *plain = mem_alloc(r->sealed_len), *sealed = mem_alloc(r->sealed_len);
        const uint8_t *key = NULL;
        int64_t from;
        int rc = plain && sealed ? record_key_id(r->sealed, r->sealed_len, &from) : -E_NOMEM;

        if (!rc && (from != r->key_id || !(key = vault_key_of(v, from))))
                rc = -E_CORRUPT;
        if (!rc)
                rc = record_open(key, &at, r->sealed, r->sealed_len, plain);
        if (!rc)
                rc = vault_seal(v, b->tx, &at, plain, r->sealed_len - RECORD_SECRET_EXTRA, sealed,
                                &now.key_id, NULL);
        if (!rc) {
                now.sealed = sealed;
                store_reseal_secret(b->tx, &now, from);
                b->done++;
                b->bytes += r->sealed_len;
        } else if (rc == -E_CORRUPT) {
                log_error("vault", "a sealed version cannot be opened and stays under its key",
                          "project=%s secret=%s version=%" PRId64, r->project, r->name, r->version);
                b->bad++;
                rc = 0;
        }
        if (plain)
                mem_wipe(plain, r->sealed_len);
        mem_free(plain);
        mem_free(sealed);
        return rc ? rc : b->done == VAULT_RESEAL || b->bytes >= VAULT_RESEAL_BYTES;
}

struct kept {
        int64_t id[VAULT_KEYS_MAX];
        size_t n;
};

static int on_kept(void *arg, const struct row_vault_key *r)
{
        struct kept *k = arg;

        if (k->n < VAULT_KEYS_MAX)
                k->id[k->n++] = r->id;
        return 0;
}

static bool is_kept(const struct kept *k, int64_t id)
{
        for (size_t i = 0; i < k->n; i++)
                if (k->id[i] == id)
                        return true;
        return false;
}

/* The store has removed the older keys, but for one under which something was put meanwhile: it says which.
 */
static void on_dropped(void *arg)
{
        struct vault *v = arg;
        struct kept kept = {.n = 0};
        size_t n = 0;

        v->resealing = false;
        if (!v->open || read_vault_keys(v->reader, on_kept, &kept))
                return;
        for (size_t i = 0; i < v->n_keys; i++) {
                if (v->keys[i].id < v->drop_below && !is_kept(&kept, v->keys[i].id))
                        continue;
                v->keys[n] = v->keys[i];
                memmove(v->secret->data[n++], v->secret->data[i], AEAD_KEY);
        }
        if (n < v->n_keys)
                mem_wipe(v->secret->data[n], (v->n_keys - n) * AEAD_KEY);
        v->n_keys = n;
        if (n == 1)
                log_info("vault", "everything is sealed under the newest data key, older ones are gone",
                         "key=%" PRId64, v->keys[0].id);
        else
                vault_reseal_soon(v);
}

static void drop_older(struct vault *v, struct store_tx *tx)
{
        v->drop_below = vault_newest(v)->id;
        for (size_t i = 0; i + 1 < v->n_keys; i++)
                store_drop_vault_key(tx, v->keys[i].id);
        store_put_audit(tx, vault_now_us(v), "hub", "vault.resealed", "data key", NULL);
        store_commit(tx, on_dropped, v);
}

static void on_batch(void *arg)
{
        struct vault *v = arg;

        if (v->resealing && v->timer)
                vault_reseal_soon(v);
}

bool vault_reseal(struct vault *v)
{
        struct batch b = {.v = v};
        int rc;

        if (!v->open || v->n_keys < 2) {
                v->resealing = false;
                return false;
        }
        v->resealing = true;
        b.tx = store_begin(v->o.store);
        rc = read_secrets_not_under(v->reader, vault_newest(v)->id, VAULT_RESEAL + v->bad, reseal_one, &b);
        v->bad = b.bad;
        if (rc < 0 || (b.done == 0 && b.bad)) {
                if (rc < 0)
                        log_error("vault", "sealing anew stopped", "reason=%s", err_name(rc));
                store_abandon(b.tx);
                v->resealing = false; /* again at the next start, unlocking or rotation */
                return false;
        }
        if (b.done == 0) {
                drop_older(v, b.tx);
                return false;
        }
        store_commit(b.tx, on_batch, v);
        return true;
}

static void on_timer(uv_timer_t *t)
{
        (void)vault_reseal(t->data);
}

void vault_reseal_soon(struct vault *v)
{
        if (!v->open || v->n_keys < 2)
                return;
        v->resealing = true;
        if (!v->o.loop)
                return; /* tests call vault_reseal */
        if (!v->timer) {
                v->timer = mem_alloc(sizeof *v->timer);
                if (!v->timer)
                        return; /* at the next rotation, unlocking or start */
                uv_timer_init(v->o.loop, v->timer);
                v->timer->data = v;
        }
        uv_timer_start(v->timer, on_timer, RESEAL_EVERY_MS, 0);
}

static void on_timer_closed(uv_handle_t *h)
{
        mem_free(h);
}

void vault_stop_timer(struct vault *v)
{
        if (v->timer)
                uv_close((uv_handle_t *)v->timer, on_timer_closed);
        v->timer = NULL;
}

void vault_rotate_data(struct vault *v, const char *by, vault_answer cb, void *arg)
{
        struct store_tx *tx;
        struct err e = {0};
        char detail[64];
        int rc;

        if (!v->open) {
                fail_locked(v, cb, arg);
                return;
        }
        tx = store_begin(v->o.store);
        rc = vault_new_key(v, tx, &e);
        if (rc) {
                store_abandon(tx);
                fail(cb, arg, rc, rc == -E_FULL ? "vault_busy" : NULL, &e);
                return;
        }
        snprintf(detail, sizeof detail, "{\"data_key\":%" PRId64 "}", vault_newest(v)->id);
        store_put_audit(tx, vault_now_us(v), by, "vault.rotate", "data key", detail);
        vault_commit(v, tx, cb, arg);
        vault_reseal_soon(v);
}

/* ---- the master key ---- */

struct change {
        struct vault *v;
        char *file, *old_file; /* to be put in place; to be removed */
        vault_answer cb;
        void *arg;
};

static void change_free(struct change *c)
{
        mem_free(c->file);
        mem_free(c->old_file);
        mem_free(c);
}

/* The new wrapping is on disk. Should the name not change now, it does at the next start. */
static void on_changed(void *arg, int rc, const char *code, const struct err *e)
{
        struct change *c = arg;
        struct err bad = {0};

        (void)rc;
        (void)code;
        (void)e;
        if (c->file && vault_next_becomes_current(c->file, &bad))
                log_error("vault", "the new master key lies beside the old one", "reason=\"%s\"", bad.msg);
        if (c->old_file && unlink(c->old_file))
                log_warn("vault", "the old master key's file stays: remove it", "file=%s", c->old_file);
        c->cb(c->arg, 0, NULL, NULL);
        change_free(c);
}

static int wrap_all(struct vault *v, const uint8_t key[AEAD_KEY])
{
        uint8_t(*wrapped)[RECORD_KEY_LEN] = mem_alloc(v->n_keys * sizeof *wrapped);
        int rc = wrapped ? 0 : -E_NOMEM;

        for (size_t i = 0; i < v->n_keys && !rc; i++)
                rc = record_wrap(key, v->keys[i].id, v->secret->data[i], wrapped[i]);
        for (size_t i = 0; i < v->n_keys && !rc; i++)
                memcpy(v->keys[i].wrapped, wrapped[i], RECORD_KEY_LEN);
        mem_free(wrapped);
        return rc;
}

/* key: the new one, which for a file lies beside the old one already. */
static void change_master(struct vault *v, enum vault_kind kind, const uint8_t key[AEAD_KEY], const char *by,
                          struct change *c)
{
        struct store_tx *tx;
        struct err e = {0};
        char *detail;
        int rc = wrap_all(v, key);

        if (rc) {
                err_set(&e, -rc, "out of memory");
                fail(c->cb, c->arg, rc, NULL, &e);
                change_free(c);
                return;
        }
        tx = store_begin(v->o.store);
        memcpy(v->secret->master, key, AEAD_KEY);
        record_master_id(key, v->master_id);
        v->kind = kind;
        for (size_t i = 0; i < v->n_keys; i++)
                vault_put_key_row(tx, &v->keys[i]);
        vault_put_row(v, tx);
        detail = str_printf("{\"key\":\"%s\",\"master\":\"%s\"}", vault_kind_name(kind), v->master_id);
        store_put_audit(tx, vault_now_us(v), by, "vault.rotate", "master key", detail);
        mem_free(detail);
        vault_commit(v, tx, on_changed, c);
}

static void on_new_passphrase(struct derivation *d)
{
        struct vault *v = d->v;
        struct change *c = d->arg;
        struct err e = {0};

        if (d->rc) {
                err_set(&e, -d->rc, "the passphrase could not be made a key: %s", err_name(d->rc));
                fail(c->cb, c->arg, d->rc, NULL, &e);
                change_free(c);
        } else if (!v->open) {
                fail_locked(v, c->cb, c->arg);
                change_free(c);
        } else {
                memcpy(v->salt, d->salt, sizeof v->salt);
                v->iterations = d->iterations;
                change_master(v, VAULT_KEY_PASSPHRASE, d->key, d->by, c);
        }
}

static int to_passphrase(struct vault *v, const struct vault_master *m, const char *by, struct change *c,
                         struct err *e)
{
        uint8_t salt[KDF_SALT];
        int rc;

        if (m->pass_len < VAULT_PASS_MIN || m->pass_len > VAULT_PASS_MAX)
                return err_set(e, E_INVAL, "a passphrase must have %d to %d bytes", VAULT_PASS_MIN,
                               VAULT_PASS_MAX);
        if (v->kind == VAULT_KEY_FILE && !(c->old_file = vault_key_path(v)))
                return err_set(e, E_NOMEM, "out of memory");
        id_random(salt, sizeof salt);
        rc = vault_derive(v, m->pass, m->pass_len, salt, v->o.kdf_iterations, by, on_new_passphrase, NULL, c);
        return rc ? err_set(e, -rc, "out of memory") : 0;
}

static int to_file(struct vault *v, const char *by, struct change *c, struct err *e)
{
        uint8_t key[AEAD_KEY];
        int rc;

        c->file = vault_key_path(v);
        if (!c->file)
                return err_set(e, E_NOMEM, "out of memory");
        id_random(key, sizeof key);
        rc = vault_write_next(v, c->file, key, e);
        if (!rc)
                change_master(v, VAULT_KEY_FILE, key, by, c);
        mem_wipe(key, sizeof key);
        return rc;
}

void vault_rotate_master(struct vault *v, const struct vault_master *m, const char *by, vault_answer cb,
                         void *arg)
{
        enum vault_kind kind = v->kind;
        struct change *c;
        struct err e = {0};
        int rc = 0;

        if (!v->open) {
                fail_locked(v, cb, arg);
                return;
        }
        c = mem_calloc(1, sizeof *c);
        if (!c) {
                err_set(&e, E_NOMEM, "out of memory");
                fail(cb, arg, -E_NOMEM, NULL, &e);
                return;
        }
        *c = (struct change){.v = v, .cb = cb, .arg = arg};
        if (m->kind && vault_kind_parse(m->kind, &kind))
                rc = err_set(&e, E_INVAL,
                             "the kind of a master key is \"file\", \"credential\" or \"passphrase\"");
        else if (v->deriving)
                rc = err_set(&e, E_FULL, "a passphrase is being tried: again in a second");
        else if (kind == VAULT_KEY_PASSPHRASE)
                rc = to_passphrase(v, m, by, c, &e);
        else if (kind == VAULT_KEY_FILE)
                rc = to_file(v, by, c, &e);
        else if (!m->key)
                rc = err_set(&e, E_INVAL,
                             "the new master key is missing: put it into the credential " VAULT_CREDENTIAL
                             " for the next start, and give it here");
        else if (v->kind == VAULT_KEY_FILE && !(c->old_file = vault_key_path(v)))
                rc = err_set(&e, E_NOMEM, "out of memory");
        else
                change_master(v, kind, m->key, by, c);
        if (rc) {
                fail(cb, arg, rc, rc == -E_FULL ? "vault_busy" : NULL, &e);
                change_free(c);
        }
}
