#include "common/secret.h"

#include "common/mem.h"

#include <mbedtls/sha256.h>
#include <stdlib.h>

static const char join_label[] = "photon-join-v1";

bool secret_equal(const void *a, const void *b, size_t n)
{
        const volatile uint8_t *x = a, *y = b;
        uint8_t diff = 0;

        for (size_t i = 0; i < n; i++)
                diff |= (uint8_t)(x[i] ^ y[i]);
        return diff == 0;
}

void secret_sha256(const void *p, size_t n, uint8_t out[SHA256_LEN])
{
        /* Fails only with hardware engines, which Debian's build has not. */
        if (mbedtls_sha256_ret(p, n, out, 0))
                abort();
}

/* HMAC-SHA-256 (RFC 2104) over mbedtls_sha256, which allocates nothing and
 * so cannot fail where a caller could not handle it. */
void secret_hmac(const void *key, size_t key_len, const void *msg, size_t n, uint8_t out[SHA256_LEN])
{
        mbedtls_sha256_context ctx;
        uint8_t pad[64] = {0}, inner[SHA256_LEN];
        const uint8_t *k = key;
        int bad = 0;

        if (key_len > sizeof pad) {
                secret_sha256(key, key_len, pad);
        } else {
                for (size_t i = 0; i < key_len; i++)
                        pad[i] = k[i];
        }
        for (size_t i = 0; i < sizeof pad; i++)
                pad[i] ^= 0x36;
        mbedtls_sha256_init(&ctx);
        bad |= mbedtls_sha256_starts_ret(&ctx, 0);
        bad |= mbedtls_sha256_update_ret(&ctx, pad, sizeof pad);
        bad |= mbedtls_sha256_update_ret(&ctx, msg, n);
        bad |= mbedtls_sha256_finish_ret(&ctx, inner);
        for (size_t i = 0; i < sizeof pad; i++)
                pad[i] ^= 0x36 ^ 0x5c;
        bad |= mbedtls_sha256_starts_ret(&ctx, 0);
        bad |= mbedtls_sha256_update_ret(&ctx, pad, sizeof pad);
        bad |= mbedtls_sha256_update_ret(&ctx, inner, sizeof inner);
        bad |= mbedtls_sha256_finish_ret(&ctx, out);
        mbedtls_sha256_free(&ctx);
        mem_wipe(pad, sizeof pad);
        mem_wipe(inner, sizeof inner);
        if (bad)
                abort();
}

static void client_key(const void *secret, size_t n, uint8_t out[SHA256_LEN])
{
        secret_hmac(secret, n, join_label, sizeof join_label - 1, out);
}

void secret_stored_key(const void *secret, size_t n, uint8_t out[SHA256_LEN])
{
        uint8_t key[SHA256_LEN];

        client_key(secret, n, key);
        secret_sha256(key, sizeof key, out);
        mem_wipe(key, sizeof key);
}

void secret_proof(const void *secret, size_t n, const void *transcript, size_t tn, uint8_t out[SHA256_LEN])
{
        uint8_t key[SHA256_LEN], stored[SHA256_LEN], mask[SHA256_LEN];

        client_key(secret, n, key);
        secret_sha256(key, sizeof key, stored);
        secret_hmac(stored, sizeof stored, transcript, tn, mask);
        for (size_t i = 0; i < SHA256_LEN; i++)
                out[i] = key[i] ^ mask[i];
        mem_wipe(key, sizeof key);
        mem_wipe(stored, sizeof stored);
        mem_wipe(mask, sizeof mask);
}

bool secret_proof_ok(const uint8_t stored[SHA256_LEN], const void *transcript, size_t tn,
                     const uint8_t proof[SHA256_LEN])
{
        uint8_t key[SHA256_LEN], mask[SHA256_LEN], hash[SHA256_LEN];
        bool ok;

        secret_hmac(stored, SHA256_LEN, transcript, tn, mask);
        for (size_t i = 0; i < SHA256_LEN; i++)
                key[i] = proof[i] ^ mask[i];
        secret_sha256(key, sizeof key, hash);
        ok = secret_equal(hash, stored, SHA256_LEN);
        mem_wipe(key, sizeof key);
        mem_wipe(mask, sizeof mask);
        return ok;
}
