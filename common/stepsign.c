#include "common/stepsign.h"

#include <string.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/mac.h"
#include "common/secret.h"

#define FIELD_START 1

/* Tag of field 20, length-delimited (20 << 3 | 2 = 162 as a varint), and the length. */
static const uint8_t trailer_head[3] = {0xa2, 0x01, MAC_LEN};

int stepsign_grant(const char *agent_id, const uint8_t nonce[STEP_NONCE_LEN], const uint8_t key[STEP_KEY_LEN],
                   int64_t at_us, struct buf *out)
{
        static const char label[] = "photon step grant 1";
        uint8_t hash[SHA256_LEN], at[8];
        size_t n = strlen(agent_id);
        uint8_t len = (uint8_t)n;

        if (n > 255)
                return -E_TOOBIG;
        for (int i = 0; i < 8; i++)
                at[i] = (uint8_t)((uint64_t)at_us >> (56 - 8 * i));
        secret_sha256(key, STEP_KEY_LEN, hash);
        if (buf_put(out, label, sizeof label) || buf_put(out, &len, 1) || buf_put(out, agent_id, n) ||
            buf_put(out, nonce, STEP_NONCE_LEN) || buf_put(out, hash, sizeof hash) ||
            buf_put(out, at, sizeof at))
                return -E_NOMEM;
        return 0;
}

void stepsign_trailer(const struct mac *m, const void *start, size_t n, uint8_t out[STEP_TRAILER_LEN])
{
        const struct mac_part part = {start, n};

        memcpy(out, trailer_head, sizeof trailer_head);
        mac_sum(m, &part, 1, out + sizeof trailer_head);
}

bool stepsign_holds(const struct mac *m, const void *start, size_t n)
{
        uint8_t want[STEP_TRAILER_LEN];

        if (n < sizeof want)
                return false;
        stepsign_trailer(m, start, n - sizeof want, want);
        return secret_equal((const uint8_t *)start + n - sizeof want, want, sizeof want);
}

static int varint(const uint8_t **io, const uint8_t *end, uint64_t *out)
{
        uint64_t v = 0;

        for (unsigned shift = 0; shift < 64 && *io < end; shift += 7) {
                uint8_t b = *(*io)++;

                v |= (uint64_t)(b & 0x7f) << shift;
                if (b < 0x80) {
                        *out = v;
                        return 0;
                }
        }
        return -E_PROTO;
}

int stepsign_next(const uint8_t **io, size_t *io_n, const uint8_t **out, size_t *out_n)
{
        const uint8_t *p = *io, *end = p + *io_n;
        uint64_t tag, v;

        while (p < end) {
                if (varint(&p, end, &tag))
                        return -E_PROTO;
                switch (tag & 7) {
                case 0:
                        if (varint(&p, end, &v))
                                return -E_PROTO;
                        continue;
                case 1:
                        v = 8;
                        break;
                case 2:
                        if (varint(&p, end, &v))
                                return -E_PROTO;
                        break;
                case 5:
                        v = 4;
                        break;
                default:
                        return -E_PROTO;
                }
                if (v > (size_t)(end - p))
                        return -E_PROTO;
                p += v;
                if (tag == (FIELD_START << 3 | 2)) {
                        *out = p - v;
                        *out_n = (size_t)v;
                        *io = p;
                        *io_n = (size_t)(end - p);
                        return 1;
                }
        }
        return 0;
}
