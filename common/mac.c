#include "common/mac.h"

#include <mbedtls/sha256.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"

#define BLOCK 64

struct mac {
        mbedtls_sha256_context inner, outer; /* after the padded key */
};

static void begin(mbedtls_sha256_context *c, const uint8_t *key, uint8_t pad)
{
        uint8_t block[BLOCK];

        memset(block, pad, sizeof block);
        for (size_t i = 0; i < MAC_KEY_LEN; i++)
                block[i] ^= key[i];
        mbedtls_sha256_init(c);
        if (mbedtls_sha256_starts_ret(c, 0) || mbedtls_sha256_update_ret(c, block, sizeof block))
                abort();
        mem_wipe(block, sizeof block);
}

struct mac *mac_create(const uint8_t key[MAC_KEY_LEN])
{
        struct mac *m = mem_calloc(1, sizeof *m);

        if (!m)
                return NULL;
        begin(&m->inner, key, 0x36);
        begin(&m->outer, key, 0x5c);
        return m;
}

void mac_sum(const struct mac *m, const struct mac_part *parts, size_t n, uint8_t out[MAC_LEN])
{
        mbedtls_sha256_context c;
        int bad = 0;

        mbedtls_sha256_init(&c);
        mbedtls_sha256_clone(&c, &m->inner);
        for (size_t i = 0; i < n; i++)
                bad |= mbedtls_sha256_update_ret(&c, parts[i].p, parts[i].n);
        bad |= mbedtls_sha256_finish_ret(&c, out);
        mbedtls_sha256_clone(&c, &m->outer);
        bad |= mbedtls_sha256_update_ret(&c, out, MAC_LEN);
        bad |= mbedtls_sha256_finish_ret(&c, out);
        mbedtls_sha256_free(&c);
        if (bad) /* only a hardware engine can fail */
                abort();
}

void mac_free(struct mac *m)
{
        if (!m)
                return;
        mem_wipe(m, sizeof *m);
        mem_free(m);
}
