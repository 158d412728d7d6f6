/* Locked and open. */
#include "hub/vault/vault_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/mem.h"

void vault_shut(struct vault *v, const char *why)
{
        v->open = false;
        mem_wipe(v->secret->master, sizeof v->secret->master);
        mem_wipe(v->secret->data, sizeof v->secret->data);
        snprintf(v->why, sizeof v->why, "%.*s", (int)sizeof v->why - 1, why);
}

int vault_try_master(struct vault *v, const uint8_t master[AEAD_KEY], struct err *e)
{
        size_t newest = v->n_keys - 1;

        if (!v->n_keys)
                return err_set(e, E_CORRUPT,
                               "the vault is locked: its data keys are missing in the database");
        if (record_unwrap(master, v->keys[newest].id, v->keys[newest].wrapped, RECORD_KEY_LEN,
                          v->secret->data[newest]))
                return err_set(e, E_DENIED,
                               "the vault is locked: this master key does not open its data key %lld",
                               (long long)v->keys[newest].id);
        for (size_t i = 0; i < newest; i++)
                if (record_unwrap(master, v->keys[i].id, v->keys[i].wrapped, RECORD_KEY_LEN,
                                  v->secret->data[i]))
                        log_error("vault",
                                  "an old data key was changed in the database; what it seals is lost",
                                  "key=%lld", (long long)v->keys[i].id);
        memcpy(v->secret->master, master, AEAD_KEY);
        v->open = true;
        v->why[0] = '\0';
        return 0;
}

/* ---- passphrases ---- */

static void derivation_free(struct derivation *d)
{
        mem_wipe(d->key, sizeof d->key);
        mem_wipe(d->pass, d->n);
        mem_free(d->by);
        mem_free(d);
}

static void derive_on_pool(uv_work_t *w)
{
        struct derivation *d = container_of(w, struct derivation, work);

        if (!d->iterations)
                d->iterations = kdf_measure(VAULT_KDF_MS);
        d->rc = kdf_passphrase(d->pass, d->n, d->salt, d->iterations, d->key);
        mem_wipe(d->pass, d->n);
}

static void derived(uv_work_t *w, int status)
{
        struct derivation *d = container_of(w, struct derivation, work);

        d->v->deriving = false;
        if (status)
                d->rc = -E_CANCELLED;
        d->fn(d);
        derivation_free(d);
}

int vault_derive(struct vault *v, const void *pass, size_t n, const uint8_t salt[KDF_SALT],
                 uint32_t iterations, const char *by, void (*fn)(struct derivation *d), vault_answer cb,
                 void *arg)
{
        struct derivation *d = mem_calloc(1, sizeof *d + n + 1);

        if (!d || !(d->by = mem_strdup(by))) {
                mem_free(d);
                return -E_NOMEM;
        }
        d->v = v;
        memcpy(d->salt, salt, KDF_SALT);
        d->iterations = iterations;
        d->n = n;
        memcpy(d->pass, pass, n);
        d->fn = fn;
        d->cb = cb;
        d->arg = arg;
        v->deriving = true;
        if (!v->o.loop) {
                derive_on_pool(&d->work);
                derived(&d->work, 0);
        } else if (uv_queue_work(v->o.loop, &d->work, derive_on_pool, derived)) {
                v->deriving = false;
                derivation_free(d);
                return -E_NOMEM;
        }
        return 0;
}

/* ---- unlock ---- */

int vault_unlock_wait_s(const struct vault *v)
{
        int64_t left = v->next_try_ms - clock_mono_ms(v->o.clock);

        return v->deriving ? 1 : left > 0 ? (int)((left + 999) / 1000) : 0;
}

/* The first few cost only their derivation; then 1, 2, 4 ... seconds, for everybody: there is one vault. */
static void count_failure(struct vault *v)
{
        int64_t over = ++v->failures - VAULT_FREE_TRIES, wait_s = 0;

        if (over >= 0)
                wait_s = over < 9 ? INT64_C(1) << over : VAULT_WAIT_MAX_S;
        if (wait_s > VAULT_WAIT_MAX_S)
                wait_s = VAULT_WAIT_MAX_S;
        v->next_try_ms = clock_mono_ms(v->o.clock) + wait_s * 1000;
}

static void say(struct vault *v, const char *by, const char *action, vault_answer cb, void *arg)
{
        struct store_tx *tx = store_begin(v->o.store);

        store_put_audit(tx, vault_now_us(v), by, action, vault_kind_name(v->kind), NULL);
        vault_commit(v, tx, cb, arg);
}

static void opened(struct vault *v, const char *by, vault_answer cb, void *arg)
{
        v->failures = 0;
        log_info("vault", "the vault is open", "by=%s", by);
        say(v, by, "vault.unlock", cb, arg);
        vault_reseal_soon(v);
        if (v->o.on_open)
                v->o.on_open(v->o.ctx);
}

struct denial {
        vault_answer cb;
        void *arg;
};

/* Whoever guesses is told no once it is written down that he did: a hub that is killed then has it all the
 * same. */
static void on_denial_said(void *arg, int rc, const char *code, const struct err *why)
{
        struct denial d = *(struct denial *)arg;
        struct err e = {0};

        (void)rc;
        (void)code;
        (void)why;
        mem_free(arg);
        err_set(&e, E_DENIED, "this is not the vault's passphrase");
        d.cb(d.arg, -E_DENIED, "wrong_passphrase", &e);
}

static void denied(struct vault *v, const char *by, vault_answer cb, void *arg)
{
        struct denial *d = mem_alloc(sizeof *d);

        if (!d)
                abort();
        *d = (struct denial){cb, arg};
        count_failure(v);
        log_warn("vault", "a wrong passphrase", "by=%s failures=%lld", by, (long long)v->failures);
        say(v, by, "vault.unlock_denied", on_denial_said, d);
}

static void on_derived(struct derivation *d)
{
        struct vault *v = d->v;
        struct err e = {0};

        if (d->rc) {
                err_set(&e, -d->rc, "the passphrase could not be tried: %s", err_name(d->rc));
                d->cb(d->arg, d->rc, err_name(d->rc), &e);
        } else if (v->open) {
                d->cb(d->arg, 0, NULL, NULL); /* somebody was faster */
        } else if (vault_try_master(v, d->key, &e)) {
                denied(v, d->by, d->cb, d->arg);
        } else {
                opened(v, d->by, d->cb, d->arg);
        }
}

static void unlock_again(struct vault *v, const char *by, vault_answer cb, void *arg)
{
        uint8_t master[AEAD_KEY];
        struct err e = {0};
        int rc = vault_read_master(v, master, &e);

        if (!rc)
                rc = vault_try_master(v, master, &e);
        mem_wipe(master, sizeof master);
        if (rc) {
                vault_shut(v, e.msg);
                e.code = E_UNAVAIL;
                cb(arg, -E_UNAVAIL, "master_key_missing", &e);
                return;
        }
        opened(v, by, cb, arg);
}

void vault_unlock(struct vault *v, const void *pass, size_t n, const char *by, vault_answer cb, void *arg)
{
        struct err e = {0};
        int rc;

        if (v->open) {
                cb(arg, 0, NULL, NULL);
                return;
        }
        if (vault_unlock_wait_s(v)) {
                err_set(&e, E_FULL, "too many wrong passphrases, or one is being tried: again in %d s",
                        vault_unlock_wait_s(v));
                cb(arg, -E_FULL, "unlock_limited", &e);
                return;
        }
        if (v->kind != VAULT_KEY_PASSPHRASE) {
                unlock_again(v, by, cb, arg);
                return;
        }
        if (n == 0 || n > VAULT_PASS_MAX) {
                err_set(&e, E_INVAL,
                        "the vault is opened with its passphrase: \"passphrase\" is missing or too long");
                cb(arg, -E_INVAL, "invalid_argument", &e);
                return;
        }
        rc = vault_derive(v, pass, n, v->salt, v->iterations, by, on_derived, cb, arg);
        if (rc) {
                err_set(&e, -rc, "out of memory");
                cb(arg, rc, err_name(rc), &e);
        }
}

void vault_lock(struct vault *v, const char *by, vault_answer cb, void *arg)
{
        vault_shut(v, v->kind == VAULT_KEY_PASSPHRASE
                              ? "the vault is locked: it waits for its passphrase (photon vault unlock)"
                              : "the vault was locked by a person: photon vault unlock");
        log_info("vault", "the vault is locked", "by=%s", by);
        say(v, by, "vault.lock", cb, arg);
}
