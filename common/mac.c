/* By nettle, which uses the processor's SHA instructions (on the machine where this was measured 0.2 us for a
 * seal of 110 bytes, mbedTLS 0.8): steps and rows are summed by the ten thousand. */
#include "common/mac.h"

#include <nettle/hmac.h>

#include "common/mem.h"

struct mac {
        struct hmac_sha256_ctx ready; /* after the padded key */
};

struct mac *mac_create(const uint8_t key[MAC_KEY_LEN])
{
        struct mac *m = mem_calloc(1, sizeof *m);

        if (m)
                hmac_sha256_set_key(&m->ready, MAC_KEY_LEN, key);
        return m;
}

void mac_sum(const struct mac *m, const struct mac_part *parts, size_t n, uint8_t out[MAC_LEN])
{
        struct hmac_sha256_ctx c = m->ready;

        for (size_t i = 0; i < n; i++)
                hmac_sha256_update(&c, parts[i].n, parts[i].p);
        hmac_sha256_digest(&c, MAC_LEN, out);
        mem_wipe(&c, sizeof c);
}

void mac_free(struct mac *m)
{
        if (!m)
                return;
        mem_wipe(m, sizeof *m);
        mem_free(m);
}
