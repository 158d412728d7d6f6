/* Secrets of projects, sealed at rest.
 *
 *   value --AES-256-GCM--> under a data key --AES-256-GCM--> under the master key
 *
 * The store keeps sealed versions and wrapped data keys; the master key comes from a file beside the
 * database, a systemd credential or a passphrase, and is in none of the store's rows. What is sealed is bound
 * to its project, name, version and data key, so rows cannot be swapped. A data key seals a bounded number of
 * texts under random nonces, then a new one takes its place. All levels can be renewed while the hub serves:
 * a version (vault_put), the data key (old texts are sealed anew in the background, and the old key is
 * destroyed), the master key (data keys are wrapped anew in one transaction).
 *
 * A vault is locked while its master key is not there: then nothing can be put or opened, and what needs a
 * secret waits. Loop thread only, but for key derivation, which runs on the uv pool.
 *
 * Codes in `out_code` are stable, for problems and failed steps; err has the sentence. */
#ifndef PHOTON_VAULT_H
#define PHOTON_VAULT_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct clock;
struct err;
struct store;
struct store_tx;
struct vault;

#define VAULT_VALUE_MAX   ((size_t)64 << 10)
#define VAULT_VALUE_MIN   6 /* agents mask nothing shorter (agent/mask.h) */
#define VAULT_NAME_MAX    128
#define VAULT_SECRETS_MAX 10000
#define VAULT_KEEP        5 /* versions */
#define VAULT_KEEP_MAX    100
#define VAULT_PASS_MIN    12
#define VAULT_PASS_MAX    1024
#define VAULT_MARK_LEN    33

struct vault_options {
        const struct clock *clock;
        struct store *store;
        const char *dir;            /* the hub's folder */
        const char *key_file;       /* NULL: what the vault remembers, at first DIR/vault.key */
        uv_loop_t *loop;            /* NULL: everything at once, on the caller's thread (tests) */
        int64_t key_uses_max;       /* 0: VAULT_KEY_USES */
        uint32_t kdf_iterations;    /* 0: measured */
        void (*on_open)(void *ctx); /* it was locked and is open: what waited may go on */
        void *ctx;
};

/* Makes a vault where the database has none: a new master key (the credential's, if there is one) and a data
 * key, durable on return. A vault whose key is not there, or not the right one, is locked: that is no error.
 * Blocking, at start-up. */
int vault_create(const struct vault_options *o, struct vault **out, struct err *e);
/* Wipes. Work on the pool and commits must be over; the loop runs once more to close what it still has. */
void vault_free(struct vault *v);
bool vault_is_open(const struct vault *v);
const char *vault_why_locked(const struct vault *v); /* a sentence for people; "" when open */

/* [A-Za-z0-9_][A-Za-z0-9._-]*, at most VAULT_NAME_MAX. */
bool vault_name_ok(const char *name);

/* ---- secrets ---- */

struct vault_put {
        const char *project, *name;
        const void *value; /* any bytes; wiped by whoever has it */
        size_t n;
        const char *by;     /* for the audit */
        int64_t keep;       /* so many versions stay; 0: as it is, at first VAULT_KEEP */
        bool must_exist;    /* a new version of what is there (audit: secret.rotate, else secret.set) */
        bool allow_short;   /* shorter than VAULT_VALUE_MIN: it will not be masked */
        const char *detail; /* more for the audit: members of a JSON object without braces, or NULL */
};
/* A new version. Rows and audit record go into tx, which must then be committed (never abandoned: the vault
 * counts on it). 0; -E_UNAVAIL "vault_locked"; -E_INVAL "invalid_name" "secret_too_short"; -E_TOOBIG
 * "secret_too_large"; -E_NOENT "secret_unknown"; -E_FULL "vault_full"; -E_NOMEM. */
int vault_put(struct vault *v, struct store_tx *tx, const struct vault_put *p, int64_t *out_version,
              const char **out_code, struct err *e);
/* Every version, for good. Works on a locked vault too. */
int vault_delete(struct vault *v, struct store_tx *tx, const char *project, const char *name, const char *by,
                 const char **out_code, struct err *e);
/* The newest version, also if it is not yet durable; 0: there is no such secret. */
int64_t vault_latest(const struct vault *v, const char *project, const char *name);

struct vault_value {
        uint8_t *p; /* followed by a NUL that n does not count */
        size_t n;
        int64_t version;
};
/* Opens a version that is durable (0: the newest). -E_UNAVAIL "vault_locked"; -E_NOENT "secret_unknown";
 * -E_CORRUPT "secret_corrupt"; -E_NOMEM. vault_wipe it soon. */
int vault_open(struct vault *v, const char *project, const char *name, int64_t version,
               struct vault_value *out, const char **out_code, struct err *e);
void vault_wipe(struct vault_value *val);

/* What stands in a step's stored input for a secret, until the agent puts it in: nobody who does not know
 * this mark, which is another for each attempt, can write such a place. */
void vault_mark(const struct vault *v, const char *run_id, const char *step_id, uint32_t attempt,
                char out[VAULT_MARK_LEN]);

/* ---- keys ---- */

typedef void (*vault_answer)(void *arg, int rc, const char *code, const struct err *e);

/* With a passphrase where the vault has one (as long to refuse as to accept); where it has a file or a
 * credential, looks for that again. Answers once, on the loop. -E_DENIED "wrong_passphrase"; -E_FULL
 * "unlock_limited": *after several wrong ones, and while one is being tried; -E_UNAVAIL "master_key_missing".
 */
void vault_unlock(struct vault *v, const void *pass, size_t n, const char *by, vault_answer cb, void *arg);
/* Seconds until vault_unlock may be tried; 0: now. */
int vault_unlock_wait_s(const struct vault *v);
/* Forgets the keys. Answers when its audit record is durable. */
void vault_lock(struct vault *v, const char *by, vault_answer cb, void *arg);
/* A new data key; what is sealed under older ones follows in the background. */
void vault_rotate_data(struct vault *v, const char *by, vault_answer cb, void *arg);
struct vault_master {
        const char *kind; /* "file" | "credential" | "passphrase"; NULL: as it is */
        const void *pass; /* passphrase: the new one */
        size_t pass_len;
        const uint8_t *key; /* credential: the new one, 32 bytes, which the operator has put there, or will */
};
/* A new master key: every data key is wrapped anew, in one transaction. A file is replaced so that at every
 * instant the key that fits is there (vault.key.new, then vault.key). */
void vault_rotate_master(struct vault *v, const struct vault_master *m, const char *by, vault_answer cb,
                         void *arg);
/* {"state","why","key","data_keys","data_key","resealing","secrets"}: new object; NULL: no memory. */
cJSON *vault_describe(struct vault *v);

#endif
