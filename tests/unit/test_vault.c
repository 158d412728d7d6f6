/* The vault: what is sealed opens only where it belongs, keys are renewed without a gap, and a hub that dies
 * anywhere in between goes on. */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/secret.h"
#include "common/str.h"
#include "hub/vault/vault_impl.h"
#include "tests/unit/store_world.h"

#define CANARY "canary-5e3b1c77-value"

struct vw {
        struct world w;
        struct vault *v;
        struct clock clock;
        int64_t key_uses_max;
        int opened;
        /* the last answer */
        int answers, rc;
        char code[40];
};

static int64_t mono_ms;

static int64_t fake_mono(void *ctx)
{
        (void)ctx;
        return mono_ms;
}

static int64_t fake_now(void *ctx)
{
        (void)ctx;
        return 1700000000000000 + mono_ms * 1000;
}

static void on_open(void *ctx)
{
        ((struct vw *)ctx)->opened++;
}

static void vw_open(struct vw *x)
{
        struct err e = {0};
        struct vault_options o = {.dir = NULL};

        world_open(&x->w, false);
        x->clock = (struct clock){.now_us = fake_now, .mono_ms = fake_mono};
        o = (struct vault_options){.clock = &x->clock,
                                   .store = x->w.store,
                                   .dir = x->w.dir,
                                   .key_uses_max = x->key_uses_max,
                                   .kdf_iterations = 1000,
                                   .on_open = on_open,
                                   .ctx = x};
        if (vault_create(&o, &x->v, &e))
                test_fail(__FILE__, __LINE__, "vault_create: %s", e.msg);
}

static void vw_close(struct vw *x)
{
        store_pump(x->w.store);
        vault_free(x->v);
        world_close(&x->w);
}

static void vw_reopen(struct vw *x)
{
        vw_close(x);
        vw_open(x);
}

static void on_answer(void *arg, int rc, const char *code, const struct err *e)
{
        struct vw *x = arg;

        (void)e;
        x->answers++;
        x->rc = rc;
        snprintf(x->code, sizeof x->code, "%s", code ? code : "");
}

static int put(struct vw *x, const char *name, const char *value)
{
        struct vault_put p = {
                .project = "default", .name = name, .value = value, .n = strlen(value), .by = "ada"};
        struct store_tx *tx = store_begin(x->w.store);
        const char *code = "";
        int64_t version = 0;
        int rc = vault_put(x->v, tx, &p, &version, &code, &x->w.err);

        if (rc) {
                store_abandon(tx);
                snprintf(x->code, sizeof x->code, "%s", code);
                return rc;
        }
        commit(&x->w, tx);
        return (int)version;
}

static void check_value(struct vw *x, const char *name, int64_t version, const char *want)
{
        struct vault_value val;
        const char *code = "";

        if (vault_open(x->v, "default", name, version, &val, &code, &x->w.err))
                test_fail(__FILE__, __LINE__, "%s: %s: %s", name, code, x->w.err.msg);
        CHECK_STR((const char *)val.p, want);
        vault_wipe(&val);
}

static void check_closed(struct vw *x, const char *name, int64_t version, const char *want_code)
{
        struct vault_value val;
        const char *code = "";

        CHECK(vault_open(x->v, "default", name, version, &val, &code, &x->w.err) != 0);
        CHECK_STR(code, want_code);
        CHECK(val.p == NULL);
}

/* As an attacker would who can write the file. */
static void sql(const struct vw *x, const char *text)
{
        char path[600], *msg = NULL;
        sqlite3 *h;

        snprintf(path, sizeof path, "%s/hub.db", x->w.dir);
        CHECK_INT(sqlite3_open(path, &h), SQLITE_OK);
        if (sqlite3_exec(h, text, NULL, NULL, &msg) != SQLITE_OK)
                test_fail(__FILE__, __LINE__, "%s: %s", text, msg);
        sqlite3_close(h);
}

static int64_t number(const struct vw *x, const char *query)
{
        char path[600];
        sqlite3 *h;
        sqlite3_stmt *st;
        int64_t v;

        snprintf(path, sizeof path, "%s/hub.db", x->w.dir);
        CHECK_INT(sqlite3_open(path, &h), SQLITE_OK);
        CHECK_INT(sqlite3_prepare_v2(h, query, -1, &st, NULL), SQLITE_OK);
        CHECK_INT(sqlite3_step(st), SQLITE_ROW);
        v = sqlite3_column_int64(st, 0);
        sqlite3_finalize(st);
        sqlite3_close(h);
        return v;
}

static bool file_holds(const char *dir, const char *name, const char *what)
{
        char path[700], *text;
        size_t n;
        bool found;

        snprintf(path, sizeof path, "%s/%s", dir, name);
        if (file_read(path, 64 << 20, &text, &n, NULL))
                return false;
        found = memmem(text, n, what, strlen(what)) != NULL;
        mem_free(text);
        return found;
}

/* ---- sealing ---- */

TEST(vault, what_is_put_comes_back_also_after_a_restart)
{
        struct vw x = {0};

        vw_open(&x);
        CHECK_INT(put(&x, "TOKEN", CANARY), 1);
        check_value(&x, "TOKEN", 0, CANARY);
        vw_reopen(&x);
        CHECK(vault_is_open(x.v));
        check_value(&x, "TOKEN", 0, CANARY);
        CHECK_INT(put(&x, "TOKEN", "another-value"), 2);
        check_value(&x, "TOKEN", 0, "another-value");
        check_value(&x, "TOKEN", 1, CANARY);
        vw_close(&x);
}

TEST(vault, the_database_holds_no_value_and_not_the_master_key)
{
        struct vw x = {0};
        char path[700], *key;
        size_t n;

        vw_open(&x);
        CHECK_INT(put(&x, "TOKEN", CANARY), 1);
        vw_close(&x);
        snprintf(path, sizeof path, "%s/vault.key", x.w.dir);
        CHECK_INT(file_read(path, 100, &key, &n, NULL), 0);
        CHECK_INT(n, 65);
        key[64] = '\0';
        CHECK(!file_holds(x.w.dir, "hub.db", CANARY));
        CHECK(!file_holds(x.w.dir, "hub.db-wal", CANARY));
        CHECK(!file_holds(x.w.dir, "hub.db", key));
        CHECK(file_holds(x.w.dir, "hub.db", "TOKEN")); /* the search works */
        mem_free(key);
}

TEST(vault, every_changed_byte_of_a_record_is_found)
{
        struct vw x = {0};
        char text[200];
        int64_t n;

        vw_open(&x);
        CHECK_INT(put(&x, "TOKEN", CANARY), 1);
        n = number(&x, "SELECT length(sealed) FROM secret_versions");
        for (int64_t i = 1; i <= n; i++) {
                sql(&x, "CREATE TABLE was AS SELECT sealed FROM secret_versions");
                snprintf(text, sizeof text,
                         "UPDATE secret_versions SET "
                         "sealed=CAST(substr(sealed,1,%d)||x'%s'||substr(sealed,%d) AS BLOB)",
                         (int)i - 1, "a5", (int)i + 1);
                sql(&x, text);
                if (number(&x, "SELECT (SELECT sealed FROM was)=(SELECT sealed FROM secret_versions)") == 0)
                        check_closed(&x, "TOKEN", 0, "secret_corrupt");
                sql(&x, "UPDATE secret_versions SET sealed=(SELECT sealed FROM was); DROP TABLE was");
        }
        check_value(&x, "TOKEN", 0, CANARY);
        vw_close(&x);
}

TEST(vault, a_record_opens_only_in_its_own_place)
{
        static const char *const moves[] = {
                /* of another secret */
                "UPDATE secret_versions SET sealed=(SELECT sealed FROM secret_versions WHERE name='B') WHERE "
                "name='A'",
                /* an older version as the newest */
                "UPDATE secret_versions SET sealed=(SELECT sealed FROM secret_versions WHERE name='A' AND "
                "version=1)"
                " WHERE name='A' AND version=2",
                /* of another project */
                "UPDATE secret_versions SET sealed=(SELECT sealed FROM secret_versions WHERE name='A' AND "
                "project='other') WHERE name='A' AND project='default'",
                /* another name for it */
                "UPDATE secret_versions SET name='A' WHERE name='C'; DELETE FROM secret_versions WHERE "
                "name='A' AND "
                "version=2; UPDATE secret_versions SET version=2 WHERE name='A' AND version=1 AND "
                "project='default'",
                /* cut short, made longer, empty */
                "UPDATE secret_versions SET sealed=substr(sealed,1,36)",
                "UPDATE secret_versions SET sealed=CAST(sealed||x'00' AS BLOB)",
                "UPDATE secret_versions SET sealed=x''",
                "UPDATE secret_versions SET sealed=NULL",
                /* the newest is gone */
                "DELETE FROM secret_versions WHERE name='A' AND version=2",
                /* a data key that is another one's */
                "UPDATE secret_versions SET sealed=CAST(x'010000000000000002'||substr(sealed,10) AS BLOB)",
        };

        for (size_t i = 0; i < sizeof moves / sizeof *moves; i++) {
                struct vw x = {0};
                struct vault_put p = {
                        .project = "other", .name = "A", .value = "of-the-other", .n = 12, .by = "ada"};
                static char dir[600];
                const char *code;
                struct store_tx *tx;
                int64_t version;

                snprintf(dir, sizeof dir, "%s/%zu", test_scratch(), i);
                CHECK_INT(mkdir(dir, 0700), 0);
                x.w.dir = dir;
                vw_open(&x);
                CHECK_INT(put(&x, "A", "first-of-a"), 1);
                CHECK_INT(put(&x, "A", "second-of-a"), 2);
                CHECK_INT(put(&x, "B", "first-of-b"), 1);
                tx = store_begin(x.w.store);
                CHECK_INT(vault_put(x.v, tx, &p, &version, &code, &x.w.err), 0);
                commit(&x.w, tx);
                sql(&x, moves[i]);
                check_closed(&x, "A", 0, "secret_corrupt");
                vw_close(&x);
        }
}

TEST(vault, a_wrapped_data_key_that_was_changed_or_moved_locks_the_vault)
{
        static const char *const changes[] = {
                "UPDATE vault_keys SET wrapped=CAST(substr(wrapped,1,20)||x'00'||substr(wrapped,22) AS BLOB)",
                "UPDATE vault_keys SET id=9",
                "DELETE FROM vault_keys",
        };

        for (size_t i = 0; i < 3; i++) {
                struct vw x = {0};
                static char dir[600];

                snprintf(dir, sizeof dir, "%s/%zu", test_scratch(), i);
                CHECK_INT(mkdir(dir, 0700), 0);
                x.w.dir = dir;
                vw_open(&x);
                CHECK_INT(put(&x, "A", "first-of-a"), 1);
                vw_close(&x);
                sql(&x, changes[i]);
                vw_open(&x);
                CHECK(!vault_is_open(x.v));
                check_closed(&x, "A", 0, "vault_locked");
                vw_close(&x);
        }
}

TEST(vault, two_sealings_of_the_same_text_differ)
{
        struct vw x = {0};

        vw_open(&x);
        CHECK_INT(put(&x, "A", CANARY), 1);
        CHECK_INT(put(&x, "B", CANARY), 1);
        CHECK_INT(number(&x, "SELECT count(DISTINCT substr(sealed,10,12)) FROM secret_versions"), 2);
        CHECK_INT(number(&x, "SELECT count(DISTINCT substr(sealed,22)) FROM secret_versions"), 2);
        vw_close(&x);
}

/* ---- rules ---- */

TEST(vault, what_cannot_be_kept_or_masked_is_refused)
{
        struct vw x = {0};
        char *large = mem_alloc(VAULT_VALUE_MAX + 2);

        vw_open(&x);
        CHECK_INT(put(&x, "A", "short"), -E_INVAL);
        CHECK_STR(x.code, "secret_too_short");
        CHECK_INT(put(&x, "A", "short\n\n\n\n"), -E_INVAL);
        CHECK_INT(put(&x, "A", ""), -E_INVAL);
        CHECK_INT(put(&x, "-A", CANARY), -E_INVAL);
        CHECK_STR(x.code, "invalid_name");
        CHECK_INT(put(&x, "", CANARY), -E_INVAL);
        CHECK_INT(put(&x, "a/b", CANARY), -E_INVAL);
        CHECK_INT(put(&x, "__", CANARY), 1);
        CHECK_INT(put(&x, "_a.b-c", CANARY), 1);
        memset(large, 'x', VAULT_VALUE_MAX + 1);
        large[VAULT_VALUE_MAX + 1] = '\0';
        CHECK_INT(put(&x, "A", large), -E_TOOBIG);
        CHECK_STR(x.code, "secret_too_large");
        large[VAULT_VALUE_MAX] = '\0';
        CHECK_INT(put(&x, "A", large), 1);
        check_value(&x, "A", 0, large);
        vw_close(&x);
        mem_free(large);
}

TEST(vault, only_the_newest_versions_stay)
{
        struct vw x = {0};
        char value[32];

        vw_open(&x);
        for (int i = 1; i <= VAULT_KEEP + 2; i++) {
                snprintf(value, sizeof value, "value-%d", i);
                CHECK_INT(put(&x, "A", value), i);
        }
        CHECK_INT(number(&x, "SELECT count(*) FROM secret_versions"), VAULT_KEEP);
        check_closed(&x, "A", 2, "secret_unknown");
        check_value(&x, "A", 3, "value-3");
        check_value(&x, "A", 0, value);
        vw_close(&x);
}

TEST(vault, what_is_deleted_leaves_no_sealed_text_behind)
{
        struct vw x = {0};
        struct store_tx *tx;
        const char *code;

        vw_open(&x);
        CHECK_INT(put(&x, "A", CANARY), 1);
        tx = store_begin(x.w.store);
        CHECK_INT(vault_delete(x.v, tx, "default", "A", "ada", &code, &x.w.err), 0);
        commit(&x.w, tx);
        check_closed(&x, "A", 0, "secret_unknown");
        CHECK_INT(number(&x, "SELECT count(*) FROM secret_versions"), 0);
        CHECK_INT(
                number(&x, "SELECT count(*) FROM audit WHERE action='secret.delete' AND object='default/A'"),
                1);
        tx = store_begin(x.w.store);
        CHECK_INT(vault_delete(x.v, tx, "default", "A", "ada", &code, &x.w.err), -E_NOENT);
        store_abandon(tx);
        vw_reopen(&x);
        check_closed(&x, "A", 0, "secret_unknown");
        vw_close(&x);
}

TEST(vault, a_new_version_of_what_is_not_there_is_refused)
{
        struct vw x = {0};
        struct vault_put p = {
                .project = "default", .name = "A", .value = CANARY, .n = 8, .by = "ada", .must_exist = true};
        struct store_tx *tx;
        const char *code;
        int64_t version;

        vw_open(&x);
        tx = store_begin(x.w.store);
        CHECK_INT(vault_put(x.v, tx, &p, &version, &code, &x.w.err), -E_NOENT);
        CHECK_STR(code, "secret_unknown");
        store_abandon(tx);
        CHECK_INT(put(&x, "A", CANARY), 1);
        tx = store_begin(x.w.store);
        CHECK_INT(vault_put(x.v, tx, &p, &version, &code, &x.w.err), 0);
        commit(&x.w, tx);
        CHECK_INT(version, 2);
        CHECK_INT(number(&x, "SELECT count(*) FROM audit WHERE action='secret.rotate'"), 1);
        vw_close(&x);
}

/* ---- the master key ---- */

static void replace_key(const struct vw *x, const char *hex, unsigned mode)
{
        char path[700];

        snprintf(path, sizeof path, "%s/vault.key", x->w.dir);
        CHECK_INT(file_write_atomic(path, hex, strlen(hex), mode, NULL), 0);
}

TEST(vault, without_its_key_file_it_is_locked_and_opens_when_the_file_is_back)
{
        static const char wrong[] = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n";
        struct vw x = {0};
        char path[700], *key;
        size_t n;

        vw_open(&x);
        CHECK_INT(put(&x, "A", CANARY), 1);
        vw_close(&x);
        snprintf(path, sizeof path, "%s/vault.key", x.w.dir);
        CHECK_INT(file_read(path, 100, &key, &n, NULL), 0);
        CHECK_INT(unlink(path), 0);
        vw_open(&x);
        CHECK(!vault_is_open(x.v));
        check_closed(&x, "A", 0, "vault_locked");
        CHECK_INT(put(&x, "A", CANARY), -E_UNAVAIL);
        CHECK_STR(x.code, "vault_locked");
        CHECK_INT(access(path, F_OK), -1); /* no new key for an old vault */
        replace_key(&x, wrong, 0600);
        vault_unlock(x.v, NULL, 0, "ada", on_answer, &x);
        CHECK_INT(x.rc, -E_UNAVAIL);
        CHECK_STR(x.code, "master_key_missing");
        replace_key(&x, key, 0644);
        vault_unlock(x.v, NULL, 0, "ada", on_answer, &x);
        CHECK_INT(x.rc, -E_UNAVAIL);
        CHECK(strstr(vault_why_locked(x.v), "chmod 600") != NULL);
        replace_key(&x, key, 0600);
        vault_unlock(x.v, NULL, 0, "ada", on_answer, &x);
        CHECK_INT(x.rc, 0);
        CHECK_INT(x.opened, 1);
        check_value(&x, "A", 0, CANARY);
        vw_close(&x);
        mem_free(key);
}

TEST(vault, a_credential_of_systemd_is_the_master_key_where_there_is_one)
{
        struct vw x = {0};
        char path[700], dir[600];

        snprintf(dir, sizeof dir, "%s/credentials", test_scratch());
        CHECK_INT(mkdir(dir, 0700), 0);
        snprintf(path, sizeof path, "%s/photon-vault-key", dir);
        CHECK_INT(file_write_atomic(path, "0123456789abcdef0123456789abcdef", 32, 0400, NULL), 0);
        setenv("CREDENTIALS_DIRECTORY", dir, 1);
        vw_open(&x);
        CHECK_INT(put(&x, "A", CANARY), 1);
        snprintf(path, sizeof path, "%s/vault.key", x.w.dir);
        CHECK_INT(access(path, F_OK), -1);
        vw_reopen(&x);
        check_value(&x, "A", 0, CANARY);
        unsetenv("CREDENTIALS_DIRECTORY");
        vw_reopen(&x);
        CHECK(!vault_is_open(x.v));
        vw_close(&x);
}

static void to_passphrase(struct vw *x, const char *pass)
{
        struct vault_master m = {.kind = "passphrase", .pass = pass, .pass_len = strlen(pass)};

        vault_rotate_master(x->v, &m, "ada", on_answer, x);
}

TEST(vault, a_passphrase_opens_it_and_a_wrong_one_does_not)
{
        static const char pass[] = "correct horse battery";
        struct vw x = {0};
        char path[700];

        vw_open(&x);
        CHECK_INT(put(&x, "A", CANARY), 1);
        to_passphrase(&x, "too short");
        CHECK_INT(x.rc, -E_INVAL);
        to_passphrase(&x, pass);
        CHECK_INT(x.rc, 0);
        snprintf(path, sizeof path, "%s/vault.key", x.w.dir);
        CHECK_INT(access(path, F_OK), -1); /* the old key is gone */
        check_value(&x, "A", 0, CANARY);
        vw_reopen(&x);
        CHECK(!vault_is_open(x.v));
        check_closed(&x, "A", 0, "vault_locked");
        vault_unlock(x.v, "wrong horse battery", 19, "eve", on_answer, &x);
        CHECK_INT(x.rc, -E_DENIED);
        CHECK_STR(x.code, "wrong_passphrase");
        CHECK(!vault_is_open(x.v));
        vault_unlock(x.v, pass, strlen(pass), "ada", on_answer, &x);
        CHECK_INT(x.rc, 0);
        CHECK_INT(x.opened, 1);
        check_value(&x, "A", 0, CANARY);
        CHECK_INT(number(&x, "SELECT count(*) FROM audit WHERE action='vault.unlock_denied' AND actor='eve'"),
                  1);
        vault_lock(x.v, "ada", on_answer, &x);
        check_closed(&x, "A", 0, "vault_locked");
        vw_close(&x);
        CHECK(!file_holds(x.w.dir, "hub.db", pass));
}

TEST(vault, wrong_passphrases_have_to_wait_longer_and_longer)
{
        static const char pass[] = "correct horse battery";
        struct vw x = {0};

        mono_ms = 1000;
        vw_open(&x);
        to_passphrase(&x, pass);
        vw_reopen(&x);
        for (int i = 0; i < VAULT_FREE_TRIES; i++) {
                CHECK_INT(vault_unlock_wait_s(x.v), 0);
                vault_unlock(x.v, "wrong horse battery", 19, "eve", on_answer, &x);
                CHECK_INT(x.rc, -E_DENIED);
        }
        CHECK_INT(vault_unlock_wait_s(x.v), 1);
        /* The right one has to wait too: nothing is learnt by how it is refused. */
        vault_unlock(x.v, pass, strlen(pass), "ada", on_answer, &x);
        CHECK_INT(x.rc, -E_FULL);
        CHECK_STR(x.code, "unlock_limited");
        mono_ms += 1000;
        vault_unlock(x.v, "wrong horse battery", 19, "eve", on_answer, &x);
        CHECK_INT(x.rc, -E_DENIED);
        CHECK_INT(vault_unlock_wait_s(x.v), 2);
        for (int i = 0; i < 20; i++) {
                mono_ms += 400000;
                vault_unlock(x.v, "wrong horse battery", 19, "eve", on_answer, &x);
        }
        CHECK_INT(vault_unlock_wait_s(x.v), VAULT_WAIT_MAX_S);
        mono_ms += VAULT_WAIT_MAX_S * 1000;
        vault_unlock(x.v, pass, strlen(pass), "ada", on_answer, &x);
        CHECK_INT(x.rc, 0);
        CHECK_INT(vault_unlock_wait_s(x.v), 0);
        vw_close(&x);
}

TEST(vault, a_lost_key_means_to_begin_anew)
{
        struct vw x = {0};
        char path[700];

        vw_open(&x);
        CHECK_INT(put(&x, "A", CANARY), 1);
        vw_close(&x);
        snprintf(path, sizeof path, "%s/vault.key", x.w.dir);
        CHECK_INT(unlink(path), 0);
        sql(&x,
            "DELETE FROM vault; DELETE FROM vault_keys; DELETE FROM secrets; DELETE FROM secret_versions");
        vw_open(&x);
        CHECK(vault_is_open(x.v));
        check_closed(&x, "A", 0, "secret_unknown");
        CHECK_INT(put(&x, "A", "another-value"), 1);
        vw_reopen(&x);
        check_value(&x, "A", 0, "another-value");
        vw_close(&x);
}

/* ---- renewal, with a crash at each step ---- */

/* What a hub that is killed now leaves: a copy of its folder (the store writes only when it is pumped). */
static const char *crash_copy(const struct vw *x, const char *name)
{
        static char dir[700];
        char cmd[4000];

        snprintf(dir, sizeof dir, "%s/%s", test_scratch(), name);
        snprintf(cmd, sizeof cmd,
                 "rm -rf '%s' && mkdir -m 700 '%s' && cp -p '%s'/hub.db* '%s'/vault.key* '%s'", dir, dir,
                 x->w.dir, x->w.dir, dir);
        CHECK_INT(system(cmd), 0);
        return dir;
}

static void check_all(struct vw *x, int n)
{
        char name[16], value[32];

        for (int i = 0; i < n; i++) {
                snprintf(name, sizeof name, "S%d", i);
                snprintf(value, sizeof value, "value-number-%d", i);
                check_value(x, name, 0, value);
        }
}

static void put_all(struct vw *x, int n)
{
        char name[16], value[32];

        for (int i = 0; i < n; i++) {
                snprintf(name, sizeof name, "S%d", i);
                snprintf(value, sizeof value, "value-number-%d", i);
                CHECK_INT(put(x, name, value), 1);
        }
}

static void finish_resealing(struct vw *x)
{
        int turns = 0;

        while (vault_reseal(x->v) && turns++ < 100)
                store_pump(x->w.store);
        store_pump(x->w.store);
}

TEST(vault, a_new_data_key_takes_all_over_wherever_the_hub_dies)
{
        enum { N = 3 * VAULT_RESEAL + 5 };
        struct vw x = {0};
        char name[32];

        vw_open(&x);
        put_all(&x, N);
        vault_rotate_data(x.v, "ada", on_answer, &x);
        CHECK_INT(x.rc, 0);
        for (int step = 0;; step++) {
                struct vw after = {0};
                bool more;

                snprintf(name, sizeof name, "crash%d", step);
                after.w.dir = crash_copy(&x, name);
                vw_open(&after);
                CHECK(vault_is_open(after.v));
                check_all(&after, N);
                finish_resealing(&after);
                check_all(&after, N);
                CHECK_INT(number(&after, "SELECT count(*) FROM vault_keys"), 1);
                CHECK_INT(number(&after, "SELECT count(*) FROM secret_versions WHERE key_id<>2"), 0);
                CHECK_INT(put(&after, "S0", "after-the-crash"), 2);
                vw_close(&after);
                if (step == 5)
                        break;
                more = vault_reseal(x.v); /* one transaction */
                check_all(&x, N);         /* some under the old one, some under the new one */
                store_pump(x.w.store);
                check_all(&x, N);
                CHECK(more == (step < 4));
        }
        CHECK_INT(number(&x, "SELECT count(*) FROM vault_keys"), 1);
        CHECK_INT(x.v->n_keys, 1);
        vw_close(&x);
}

TEST(vault, a_secret_that_is_deleted_or_set_while_it_is_sealed_anew_stays_so)
{
        struct vw x = {0};
        struct store_tx *tx;
        const char *code;

        vw_open(&x);
        CHECK_INT(put(&x, "A", "first-of-a"), 1);
        CHECK_INT(put(&x, "B", "first-of-b"), 1);
        vault_rotate_data(x.v, "ada", on_answer, &x);
        /* All in the queue before any of it is durable: the deletion first, then what was read before it. */
        tx = store_begin(x.w.store);
        CHECK_INT(vault_delete(x.v, tx, "default", "A", "ada", &code, &x.w.err), 0);
        store_commit(tx, NULL, NULL);
        CHECK(vault_reseal(x.v));
        CHECK_INT(put(&x, "B", "second-of-b"), 2);
        finish_resealing(&x);
        check_closed(&x, "A", 0, "secret_unknown");
        CHECK_INT(number(&x, "SELECT count(*) FROM secret_versions WHERE name='A'"), 0);
        check_value(&x, "B", 0, "second-of-b");
        check_value(&x, "B", 1, "first-of-b");
        CHECK_INT(number(&x, "SELECT count(*) FROM vault_keys"), 1);
        vw_close(&x);
}

/* The disk is slow: a secret is set, the data key renewed and the old one given up before any of it is
 * durable. */
TEST(vault, a_data_key_does_not_go_before_what_was_put_under_it)
{
        struct vw x = {0};
        struct vault_put p = {
                .project = "default", .name = "A", .value = CANARY, .n = sizeof CANARY - 1, .by = "ada"};
        struct store_tx *tx;
        const char *code;
        int64_t version;

        vw_open(&x);
        tx = store_begin(x.w.store);
        CHECK_INT(vault_put(x.v, tx, &p, &version, &code, &x.w.err), 0);
        store_commit(tx, NULL, NULL);
        tx = store_begin(x.w.store);
        CHECK_INT(vault_new_key(x.v, tx, &x.w.err), 0);
        store_commit(tx, NULL, NULL);
        CHECK(!vault_reseal(x.v)); /* sees nothing under the old one */
        store_pump(x.w.store);
        check_value(&x, "A", 0, CANARY);
        finish_resealing(&x);
        check_value(&x, "A", 0, CANARY);
        CHECK_INT(number(&x, "SELECT count(*) FROM vault_keys"), 1);
        vw_reopen(&x);
        check_value(&x, "A", 0, CANARY);
        vw_close(&x);
}

TEST(vault, a_record_that_cannot_be_opened_keeps_its_data_key_and_stops_nothing)
{
        struct vw x = {0};

        vw_open(&x);
        put_all(&x, VAULT_RESEAL + 3);
        sql(&x, "UPDATE secret_versions SET sealed=CAST(substr(sealed,1,20)||x'0102'||substr(sealed,23) AS "
                "BLOB) WHERE "
                "name IN ('S0','S1')");
        vault_rotate_data(x.v, "ada", on_answer, &x);
        finish_resealing(&x);
        CHECK_INT(number(&x, "SELECT count(*) FROM vault_keys"), 2);
        CHECK_INT(number(&x, "SELECT count(*) FROM secret_versions WHERE key_id=1"), 2);
        check_value(&x, "S2", 0, "value-number-2");
        check_closed(&x, "S0", 0, "secret_corrupt");
        vw_close(&x);
}

TEST(vault, a_data_key_that_has_sealed_enough_is_replaced_by_itself)
{
        struct vw x = {.key_uses_max = 8};
        char value[32];

        vw_open(&x);
        for (int i = 0; i < 20; i++) {
                snprintf(value, sizeof value, "value-%d", i);
                CHECK_INT(put(&x, "A", value), i + 1);
        }
        CHECK_INT(number(&x, "SELECT max(uses) FROM vault_keys"), 8);
        CHECK_INT(number(&x, "SELECT count(*) FROM vault_keys"), 3);
        check_value(&x, "A", 0, value);
        vw_reopen(&x);
        CHECK_INT(vault_newest(x.v)->uses, 4);
        check_value(&x, "A", 0, value);
        vw_close(&x);
}

TEST(vault, a_new_master_key_fits_wherever_the_hub_dies)
{
        struct vw x = {0}, after;
        struct vault_master same = {0};
        uint8_t key[AEAD_KEY];
        char path[700], old[MASTER_ID_LEN];

        vw_open(&x);
        put_all(&x, 3);
        snprintf(old, sizeof old, "%s", x.v->master_id);
        snprintf(path, sizeof path, "%s/vault.key", x.w.dir);

        /* Killed before the commit: the file beside belongs to nobody, and goes. */
        memset(key, 7, sizeof key);
        CHECK_INT(vault_write_next(x.v, path, key, &x.w.err), 0);
        after = (struct vw){.w.dir = crash_copy(&x, "before")};
        vw_open(&after);
        check_all(&after, 3);
        CHECK_STR(after.v->master_id, old);
        snprintf(path, sizeof path, "%s/vault.key.new", after.w.dir);
        CHECK_INT(access(path, F_OK), -1);
        vw_close(&after);

        /* Killed after the commit, before the file changed its name. */
        vault_rotate_master(x.v, &same, "ada", on_answer, &x);
        CHECK_INT(x.rc, 0);
        CHECK(strcmp(x.v->master_id, old) != 0);
        check_all(&x, 3);
        after = (struct vw){.w.dir = crash_copy(&x, "between")};
        snprintf(path, sizeof path,
                 "cd '%s' && mv vault.key vault.key.new && head -c 64 /dev/zero | tr '\\0' 7 >vault.key"
                 " && chmod 600 vault.key",
                 after.w.dir);
        CHECK_INT(system(path), 0);
        vw_open(&after);
        CHECK(vault_is_open(after.v));
        check_all(&after, 3);
        vw_reopen(&after);
        check_all(&after, 3);
        vw_close(&after);

        /* Killed after it all. */
        after = (struct vw){.w.dir = crash_copy(&x, "behind")};
        vw_open(&after);
        check_all(&after, 3);
        vw_close(&after);

        /* The old key opens nothing any more. */
        CHECK_INT(number(&x, "SELECT count(*) FROM audit WHERE action='vault.rotate'"), 1);
        vw_close(&x);
}

TEST(vault, a_passphrase_becomes_a_file_again)
{
        static const char pass[] = "correct horse battery";
        struct vault_master file = {.kind = "file"};
        struct vw x = {0};

        vw_open(&x);
        put_all(&x, 2);
        to_passphrase(&x, pass);
        CHECK_INT(x.rc, 0);
        vault_rotate_master(x.v, &file, "ada", on_answer, &x);
        CHECK_INT(x.rc, 0);
        vw_reopen(&x);
        CHECK(vault_is_open(x.v));
        check_all(&x, 2);
        vw_close(&x);
}

TEST(vault, a_file_becomes_a_credential)
{
        struct vw x = {0};
        char path[700], dir[600];
        uint8_t key[AEAD_KEY];
        struct vault_master m = {.kind = "credential", .key = key};

        vw_open(&x);
        put_all(&x, 2);
        memcpy(key, "0123456789abcdef0123456789abcdef", sizeof key);
        vault_rotate_master(x.v, &m, "ada", on_answer, &x);
        CHECK_INT(x.rc, 0);
        snprintf(path, sizeof path, "%s/vault.key", x.w.dir);
        CHECK_INT(access(path, F_OK), -1);
        snprintf(dir, sizeof dir, "%s/given", test_scratch());
        CHECK_INT(mkdir(dir, 0700), 0);
        snprintf(path, sizeof path, "%s/photon-vault-key", dir);
        CHECK_INT(file_write_atomic(path, key, sizeof key, 0400, NULL), 0);
        vw_reopen(&x);
        CHECK(!vault_is_open(x.v)); /* not given yet */
        setenv("CREDENTIALS_DIRECTORY", dir, 1);
        vault_unlock(x.v, NULL, 0, "ada", on_answer, &x);
        CHECK_INT(x.rc, 0);
        check_all(&x, 2);
        unsetenv("CREDENTIALS_DIRECTORY");
        m.key = NULL;
        vault_rotate_master(x.v, &m, "ada", on_answer, &x);
        CHECK_INT(x.rc, -E_INVAL);
        vw_close(&x);
}

TEST(vault, marks_differ_by_run_step_and_attempt_and_survive_a_restart)
{
        struct vw x = {0};
        char a[VAULT_MARK_LEN], b[VAULT_MARK_LEN];

        vw_open(&x);
        vault_mark(x.v, "r1", "s", 1, a);
        vault_mark(x.v, "r1", "s", 2, b);
        CHECK(strcmp(a, b) != 0);
        vault_mark(x.v, "r1", "t", 1, b);
        CHECK(strcmp(a, b) != 0);
        vw_reopen(&x);
        vault_mark(x.v, "r1", "s", 1, b);
        CHECK_STR(b, a);
        vw_close(&x);
}
