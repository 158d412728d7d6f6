/* Sealing with AES-256-GCM, and keys out of passphrases: the only place that
 * speaks to mbedTLS of them. Any thread. */
#ifndef PHOTON_AEAD_H
#define PHOTON_AEAD_H

#include <stddef.h>
#include <stdint.h>

#define AEAD_KEY   32
#define AEAD_NONCE 12
#define AEAD_TAG   16
/* What a sealed text has more than its plain one. */
#define AEAD_EXTRA (AEAD_NONCE + AEAD_TAG)

/* out: nonce, ciphertext, tag: n + AEAD_EXTRA bytes. The nonce is random, so a key may seal some 2^32 texts
 * at most; who owns the key counts. `aad` is bound, not kept. -E_NOMEM. */
int aead_seal(const uint8_t key[AEAD_KEY], const void *aad, size_t aad_n, const void *plain, size_t n,
              uint8_t *out);
/* out: n - AEAD_EXTRA bytes, zeroed on failure. -E_CORRUPT: another key, another aad, or a changed byte:
 * which of them nobody can say. -E_NOMEM. */
int aead_open(const uint8_t key[AEAD_KEY], const void *aad, size_t aad_n, const uint8_t *sealed, size_t n,
              uint8_t *out);

/* PBKDF2-HMAC-SHA512 (RFC 8018). Takes as long as `iterations` says: on a worker thread. */
#define KDF_SALT           16
#define KDF_ITERATIONS_MIN 210000 /* OWASP's floor for this function, 2023 */
#define KDF_ITERATIONS_MAX 100000000
int kdf_passphrase(const void *pass, size_t n, const uint8_t salt[KDF_SALT], uint32_t iterations,
                   uint8_t out[AEAD_KEY]);
/* So many iterations that this machine takes about `ms`, at least KDF_ITERATIONS_MIN. Measures: takes a
 * while. */
uint32_t kdf_measure(int ms);

#endif
