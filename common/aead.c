#include "common/aead.h"

#include <mbedtls/gcm.h>
#include <mbedtls/md.h>
#include <mbedtls/pkcs5.h>

#include <string.h>

#include "common/clock.h"
#include "common/err.h"
#include "common/id.h"
#include "common/mem.h"

/* mbedTLS cannot fail here but for memory: the sizes are constants. */
static int begin(mbedtls_gcm_context *g, const uint8_t key[AEAD_KEY])
{
        mbedtls_gcm_init(g);
        return mbedtls_gcm_setkey(g, MBEDTLS_CIPHER_ID_AES, key, AEAD_KEY * 8) ? -E_NOMEM : 0;
}

int aead_seal(const uint8_t key[AEAD_KEY], const void *aad, size_t aad_n, const void *plain, size_t n,
              uint8_t *out)
{
        mbedtls_gcm_context g;
        int rc = begin(&g, key);

        id_random(out, AEAD_NONCE);
        if (!rc && mbedtls_gcm_crypt_and_tag(&g, MBEDTLS_GCM_ENCRYPT, n, out, AEAD_NONCE, aad, aad_n, plain,
                                             out + AEAD_NONCE, AEAD_TAG, out + AEAD_NONCE + n))
                rc = -E_NOMEM;
        mbedtls_gcm_free(&g);
        return rc;
}

int aead_open(const uint8_t key[AEAD_KEY], const void *aad, size_t aad_n, const uint8_t *sealed, size_t n,
              uint8_t *out)
{
        mbedtls_gcm_context g;
        int rc;

        if (n < AEAD_EXTRA)
                return -E_CORRUPT;
        n -= AEAD_EXTRA;
        rc = begin(&g, key);
        /* Compares the tags in constant time, and gives nothing out that does not fit. */
        if (!rc && mbedtls_gcm_auth_decrypt(&g, n, sealed, AEAD_NONCE, aad, aad_n, sealed + AEAD_NONCE + n,
                                            AEAD_TAG, sealed + AEAD_NONCE, out)) {
                mem_wipe(out, n);
                rc = -E_CORRUPT;
        }
        mbedtls_gcm_free(&g);
        return rc;
}

int kdf_passphrase(const void *pass, size_t n, const uint8_t salt[KDF_SALT], uint32_t iterations,
                   uint8_t out[AEAD_KEY])
{
        const mbedtls_md_info_t *info = mbedtls_md_info_from_type(MBEDTLS_MD_SHA512);
        mbedtls_md_context_t md;
        int rc = 0;

        mbedtls_md_init(&md);
        if (!info || mbedtls_md_setup(&md, info, 1) ||
            mbedtls_pkcs5_pbkdf2_hmac(&md, pass, n, salt, KDF_SALT, iterations, AEAD_KEY, out))
                rc = -E_NOMEM;
        mbedtls_md_free(&md);
        return rc;
}

uint32_t kdf_measure(int ms)
{
        enum { PROBE = 20000 };
        uint8_t salt[KDF_SALT] = {0}, key[AEAD_KEY];
        int64_t best = INT64_MAX;
        double n;

        for (int i = 0; i < 3; i++) {
                int64_t from = clock_now_us(&clock_system), took;

                if (kdf_passphrase("measure", 7, salt, PROBE, key))
                        return KDF_ITERATIONS_MIN;
                took = clock_now_us(&clock_system) - from;
                if (took > 0 && took < best)
                        best = took;
        }
        mem_wipe(key, sizeof key);
        n = (double)PROBE * ms * 1000 / (double)best;
        if (n < KDF_ITERATIONS_MIN)
                return KDF_ITERATIONS_MIN;
        return n > KDF_ITERATIONS_MAX ? KDF_ITERATIONS_MAX : (uint32_t)n;
}
