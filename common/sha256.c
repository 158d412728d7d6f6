#include "common/sha256.h"

#include <mbedtls/md.h>

#include "common/mem.h"

struct sha256 {
        mbedtls_md_context_t md;
};

struct sha256 *sha256_create(void)
{
        struct sha256 *s = mem_calloc(1, sizeof *s);

        if (!s)
                return NULL;
        mbedtls_md_init(&s->md);
        if (mbedtls_md_setup(&s->md, mbedtls_md_info_from_type(MBEDTLS_MD_SHA256), 0) != 0 ||
            mbedtls_md_starts(&s->md) != 0) {
                sha256_free(s);
                return NULL;
        }
        return s;
}

void sha256_put(struct sha256 *s, const void *p, size_t n)
{
        mbedtls_md_update(&s->md, p, n);
}

void sha256_get(struct sha256 *s, uint8_t out[32])
{
        mbedtls_md_finish(&s->md, out);
}

void sha256_free(struct sha256 *s)
{
        if (!s)
                return;
        mbedtls_md_free(&s->md);
        mem_free(s);
}
