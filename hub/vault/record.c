#include "hub/vault/record.h"

#include <string.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/mem.h"
#include "common/secret.h"
#include "common/str.h"

#define FORMAT      1
#define SECRET_HEAD (1 + 8)

static const char secret_label[] = "photon-vault-secret-v1", key_label[] = "photon-vault-key-v1",
                  master_label[] = "photon-vault-master-v1";

static int put_text(struct buf *b, const char *s)
{
        int rc = buf_put_u32be(b, (uint32_t)strlen(s));

        return rc ? rc : buf_puts(b, s);
}

static int put_u64(struct buf *b, uint64_t v)
{
        uint8_t raw[8];

        u64be_store(raw, v);
        return buf_put(b, raw, sizeof raw);
}

/* Lengths go before texts, so that no two places have the same bytes. */
static int bind_secret(struct buf *b, const struct record_place *at, int64_t key_id)
{
        int rc = put_text(b, secret_label);

        if (!rc)
                rc = put_text(b, at->project);
        if (!rc)
                rc = put_text(b, at->name);
        if (!rc)
                rc = put_u64(b, (uint64_t)at->version);
        return rc ? rc : put_u64(b, (uint64_t)key_id);
}

static int bind_key(struct buf *b, const uint8_t master[AEAD_KEY], int64_t key_id)
{
        char id[MASTER_ID_LEN];
        int rc = put_text(b, key_label);

        record_master_id(master, id);
        if (!rc)
                rc = put_text(b, id);
        return rc ? rc : put_u64(b, (uint64_t)key_id);
}

int record_key_id(const uint8_t *p, size_t n, int64_t *out_id)
{
        uint64_t id;

        if (n < RECORD_SECRET_EXTRA || p[0] != FORMAT)
                return -E_CORRUPT;
        id = u64be_load(p + 1);
        if (id == 0 || id > INT64_MAX)
                return -E_CORRUPT;
        *out_id = (int64_t)id;
        return 0;
}

int record_seal(const uint8_t key[AEAD_KEY], int64_t key_id, const struct record_place *at, const void *value,
                size_t n, uint8_t *out)
{
        struct buf aad;
        int rc;

        buf_init(&aad, 0);
        rc = bind_secret(&aad, at, key_id);
        out[0] = FORMAT;
        u64be_store(out + 1, (uint64_t)key_id);
        if (!rc)
                rc = aead_seal(key, aad.data, aad.len, value, n, out + SECRET_HEAD);
        buf_fini(&aad);
        return rc;
}

int record_open(const uint8_t key[AEAD_KEY], const struct record_place *at, const uint8_t *p, size_t n,
                uint8_t *out)
{
        struct buf aad;
        int64_t key_id;
        int rc = record_key_id(p, n, &key_id);

        if (rc)
                return rc;
        buf_init(&aad, 0);
        rc = bind_secret(&aad, at, key_id);
        if (!rc)
                rc = aead_open(key, aad.data, aad.len, p + SECRET_HEAD, n - SECRET_HEAD, out);
        buf_fini(&aad);
        return rc;
}

void record_master_id(const uint8_t master[AEAD_KEY], char out[MASTER_ID_LEN])
{
        uint8_t mac[SHA256_LEN];

        secret_hmac(master, AEAD_KEY, master_label, sizeof master_label - 1, mac);
        str_hex(mac, (MASTER_ID_LEN - 1) / 2, out);
}

int record_wrap(const uint8_t master[AEAD_KEY], int64_t key_id, const uint8_t key[AEAD_KEY],
                uint8_t out[RECORD_KEY_LEN])
{
        struct buf aad;
        int rc;

        buf_init(&aad, 0);
        rc = bind_key(&aad, master, key_id);
        out[0] = FORMAT;
        if (!rc)
                rc = aead_seal(master, aad.data, aad.len, key, AEAD_KEY, out + 1);
        buf_fini(&aad);
        return rc;
}

int record_unwrap(const uint8_t master[AEAD_KEY], int64_t key_id, const uint8_t *p, size_t n,
                  uint8_t out[AEAD_KEY])
{
        struct buf aad;
        int rc;

        if (n != RECORD_KEY_LEN || p[0] != FORMAT)
                return -E_CORRUPT;
        buf_init(&aad, 0);
        rc = bind_key(&aad, master, key_id);
        if (!rc)
                rc = aead_open(master, aad.data, aad.len, p + 1, n - 1, out);
        buf_fini(&aad);
        return rc;
}

int record_read_master(const void *p, size_t n, uint8_t out[AEAD_KEY])
{
        const char *s = p;
        char hex[2 * AEAD_KEY + 1];
        int rc;

        if (n == AEAD_KEY) {
                memcpy(out, p, AEAD_KEY);
                return 0;
        }
        while (n > 0 && (s[n - 1] == '\n' || s[n - 1] == '\r'))
                n--;
        if (n != 2 * AEAD_KEY)
                return -E_INVAL;
        memcpy(hex, s, n);
        hex[n] = '\0';
        rc = str_unhex(hex, out, AEAD_KEY);
        mem_wipe(hex, sizeof hex);
        return rc ? -E_INVAL : 0;
}
