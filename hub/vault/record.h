/* The bytes of what the vault seals, and what each is bound to. Pure; any thread.
 *
 *   secret:   u8 1 | u64 data key | nonce | ciphertext | tag     bound to project, name, version, data key
 *   data key: u8 1 | nonce | ciphertext | tag                    bound to its number and the master key's id
 */
#ifndef PHOTON_VAULT_RECORD_H
#define PHOTON_VAULT_RECORD_H

#include <stddef.h>
#include <stdint.h>

#include "common/aead.h"

#define RECORD_SECRET_EXTRA (1 + 8 + AEAD_EXTRA)
#define RECORD_KEY_LEN      (1 + AEAD_EXTRA + AEAD_KEY)
#define MASTER_ID_LEN       17 /* 16 hexadecimal digits */

struct record_place {
        const char *project, *name;
        int64_t version;
};

/* Under which data key? -E_CORRUPT: no such record. */
int record_key_id(const uint8_t *p, size_t n, int64_t *out_id);
/* out: n + RECORD_SECRET_EXTRA bytes. -E_NOMEM. */
int record_seal(const uint8_t key[AEAD_KEY], int64_t key_id, const struct record_place *at, const void *value,
                size_t n, uint8_t *out);
/* out: n - RECORD_SECRET_EXTRA bytes. -E_CORRUPT: not sealed so, or not for this place; -E_NOMEM. */
int record_open(const uint8_t key[AEAD_KEY], const struct record_place *at, const uint8_t *p, size_t n,
                uint8_t *out);

/* Says which master key it is, and nothing about it. */
void record_master_id(const uint8_t master[AEAD_KEY], char out[MASTER_ID_LEN]);
int record_wrap(const uint8_t master[AEAD_KEY], int64_t key_id, const uint8_t key[AEAD_KEY],
                uint8_t out[RECORD_KEY_LEN]);
int record_unwrap(const uint8_t master[AEAD_KEY], int64_t key_id, const uint8_t *p, size_t n,
                  uint8_t out[AEAD_KEY]);

/* A master key as it stands in a file: 64 hexadecimal digits with an end of line or not, or 32 bytes.
 * -E_INVAL. */
int record_read_master(const void *p, size_t n, uint8_t out[AEAD_KEY]);

#endif
