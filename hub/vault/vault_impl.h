/* Inside of the vault: what its files share. Nobody else includes this.
 *
 *   vault.c         life, secrets: put, delete, open
 *   vault_master.c  where the master key comes from, a file that is replaced without a gap
 *   vault_unlock.c  locked and open: unlock, lock, passphrases tried
 *   vault_rotate.c  new data keys, new master keys, sealing anew in the background
 *   record.c        the bytes (pure)
 *
 *   LOCKED --the master key opens the newest data key--> OPEN --lock--> LOCKED */
#ifndef PHOTON_VAULT_IMPL_H
#define PHOTON_VAULT_IMPL_H

#include "common/err.h"
#include "common/list.h"
#include "common/map.h"
#include "hub/store/store.h"
#include "hub/vault/record.h"
#include "hub/vault/vault.h"

#define VAULT_KEYS_MAX 64 /* data keys at once; the older ones go when their texts are sealed anew */
#define VAULT_KEY_USES (INT64_C(1) << 24) /* texts under one data key: random nonces bear 2^32 */
#define VAULT_RESEAL   32                 /* versions in one transaction */
#define VAULT_RESEAL_BYTES                                                                                   \
        ((size_t)128 << 10)  /* and no more than this: the loop does it, between its work                    \
                              */
#define VAULT_KDF_MS     500 /* what a try at the passphrase costs */
#define VAULT_FREE_TRIES 5   /* wrong passphrases before each further one has to wait */
#define VAULT_WAIT_MAX_S 300
#define VAULT_CREDENTIAL "photon-vault-key" /* its name under $CREDENTIALS_DIRECTORY */
#define VAULT_FILE       "vault.key"

enum vault_kind { VAULT_KEY_FILE, VAULT_KEY_CREDENTIAL, VAULT_KEY_PASSPHRASE };

/* In pages of their own (common/locked.h). */
struct vault_secrets {
        uint8_t master[AEAD_KEY];
        uint8_t data[VAULT_KEYS_MAX][AEAD_KEY];
        uint8_t mark[AEAD_KEY];
};

struct data_key {
        int64_t id, uses, created_us;
        uint8_t wrapped[RECORD_KEY_LEN];
};

struct secret_info {
        char *project, *name, *created_by;
        int64_t version, keep, created_us;
};

struct vault {
        struct vault_options o;
        char *dir, *key_file; /* key_file: given by the operator, or NULL */
        struct store_reader *reader;
        struct map *index; /* "project/name" -> struct secret_info */
        bool open;
        char why[320]; /* locked: a sentence */
        /* the row */
        enum vault_kind kind;
        char *source;
        char master_id[MASTER_ID_LEN];
        uint8_t salt[KDF_SALT];
        uint32_t iterations;
        int64_t created_us;
        /* keys: ids and wrapped always, the keys themselves while open */
        struct vault_secrets *secret;
        struct data_key keys[VAULT_KEYS_MAX];
        size_t n_keys;
        int64_t failures, next_try_ms; /* of passphrases; monotonic */
        bool deriving;                 /* a passphrase is on the pool */
        uv_timer_t *timer; /* outlives the vault until its handle is closed; NULL: none was needed */
        bool resealing;
        int64_t bad;        /* records that cannot be opened, and so stay under their key */
        int64_t drop_below; /* older data keys than this are being removed */
};

/* ---- vault.c ---- */
struct data_key *vault_newest(struct vault *v);
const uint8_t *vault_key_of(const struct vault *v, int64_t id); /* NULL: there is no such key */
void vault_put_key_row(struct store_tx *tx, const struct data_key *k);
void vault_put_row(struct vault *v, struct store_tx *tx);
/* A new data key in memory and in tx, which must be committed on 0. -E_FULL: too many are waiting to go. */
int vault_new_key(struct vault *v, struct store_tx *tx, struct err *e);
/* Under the newest data key; counts the use in tx. */
int vault_seal(struct vault *v, struct store_tx *tx, const struct record_place *at, const void *value,
               size_t n, uint8_t *out, int64_t *out_key, struct err *e);
int64_t vault_now_us(const struct vault *v);
/* Commits, and answers when it is durable. */
void vault_commit(struct vault *v, struct store_tx *tx, vault_answer cb, void *arg);
const char *vault_kind_name(enum vault_kind k);
int vault_kind_parse(const char *name, enum vault_kind *out);

/* ---- vault_master.c ---- */
char *vault_key_path(const struct vault *v); /* mem_free; NULL: no memory */
/* Reads the master key of a kind that needs nobody to type. -E_UNAVAIL: not there, or not for others' eyes.
 */
int vault_read_master(struct vault *v, uint8_t out[AEAD_KEY], struct err *e);
bool vault_has_credential(void);
/* The key of before there was a passphrase is to go with the change: a hub that died then left it. */
void vault_warn_old_file(const struct vault *v);
int vault_write_next(struct vault *v, const char *path, const uint8_t key[AEAD_KEY], struct err *e);
int vault_next_becomes_current(const char *path, struct err *e);

/* ---- vault_unlock.c ---- */
/* Opens every data key. -E_DENIED: not the master key of this vault. */
int vault_try_master(struct vault *v, const uint8_t master[AEAD_KEY], struct err *e);
void vault_shut(struct vault *v, const char *why);
/* Runs kdf_passphrase on the pool (or at once), then fn on the loop. */
struct derivation {
        uv_work_t work;
        struct vault *v;
        uint8_t salt[KDF_SALT];
        uint32_t iterations; /* 0: measured first */
        size_t n;
        int rc;
        void (*fn)(struct derivation *d); /* frees nothing: derive does, after it */
        vault_answer cb;
        void *arg;
        char *by;
        uint8_t key[AEAD_KEY];
        uint8_t pass[]; /* wiped */
};
int vault_derive(struct vault *v, const void *pass, size_t n, const uint8_t salt[KDF_SALT],
                 uint32_t iterations, const char *by, void (*fn)(struct derivation *d), vault_answer cb,
                 void *arg);

/* ---- vault_rotate.c ---- */
void vault_reseal_soon(struct vault *v);
/* One transaction's worth; true: there is more. Tests call it without a loop. */
bool vault_reseal(struct vault *v);
void vault_stop_timer(struct vault *v);

#endif
