/* Records of the vault come out of a database that somebody may have written to: any bytes are refused, or
 * are exactly what was sealed for that place. Data keys and files with a master key likewise. */
#include "common/err.h"
#include "common/mem.h"
#include "hub/vault/record.h"

#include <stdlib.h>
#include <string.h>

static const uint8_t key[AEAD_KEY] = {1, 2, 3};

/* Whatever is sealed opens again, and with one byte changed it does not. */
static void round_trip(const uint8_t *data, size_t size)
{
        struct record_place at = {"project", "name", 7}, other = {"project", "name", 8};
        size_t n = size - 1;
        uint8_t *sealed = mem_alloc(n + RECORD_SECRET_EXTRA), *plain = mem_alloc(n + 1);
        int64_t id;

        if (!sealed || !plain || record_seal(key, 5, &at, data + 1, n, sealed))
                abort();
        if (record_key_id(sealed, n + RECORD_SECRET_EXTRA, &id) || id != 5 ||
            record_open(key, &at, sealed, n + RECORD_SECRET_EXTRA, plain) ||
            (n && memcmp(plain, data + 1, n) != 0))
                abort();
        if (record_open(key, &other, sealed, n + RECORD_SECRET_EXTRA, plain) != -E_CORRUPT)
                abort();
        sealed[data[0] % (n + RECORD_SECRET_EXTRA)] ^= 0x40;
        if (record_open(key, &at, sealed, n + RECORD_SECRET_EXTRA, plain) != -E_CORRUPT)
                abort();
        mem_free(sealed);
        mem_free(plain);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct record_place at = {"project", "name", 7};
        uint8_t out[AEAD_KEY], *plain = mem_alloc(size + 1);
        int64_t id;

        if (!plain)
                return 0;
        /* Nobody can hit a tag by chance. */
        if (size >= RECORD_SECRET_EXTRA && record_open(key, &at, data, size, plain) == 0)
                abort();
        if (size < RECORD_SECRET_EXTRA && record_key_id(data, size, &id) == 0)
                abort();
        if (record_unwrap(key, 5, data, size, out) == 0)
                abort();
        (void)record_read_master(data, size, out);
        if (size > 0)
                round_trip(data, size);
        mem_free(plain);
        return 0;
}
