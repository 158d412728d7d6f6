/* Comparing and holding secrets. Any thread. */
#ifndef PHOTON_SECRET_H
#define PHOTON_SECRET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SHA256_LEN 32

bool secret_equal(const void *a, const void *b, size_t n); /* constant time */
void secret_sha256(const void *p, size_t n, uint8_t out[SHA256_LEN]);
void secret_hmac(const void *key, size_t key_len, const void *msg, size_t n, uint8_t out[SHA256_LEN]);

/* Join proof after SCRAM (RFC 5802 section 3), so that what the hub stores
 * cannot be used to join:  client_key = HMAC(secret, "photon-join-v1"),
 * stored_key = SHA-256(client_key),
 * proof = client_key XOR HMAC(stored_key, transcript). */
void secret_stored_key(const void *secret, size_t n, uint8_t out[SHA256_LEN]);
void secret_proof(const void *secret, size_t n, const void *transcript, size_t tn, uint8_t out[SHA256_LEN]);
bool secret_proof_ok(const uint8_t stored[SHA256_LEN], const void *transcript, size_t tn,
                     const uint8_t proof[SHA256_LEN]);

#endif
