#include "common/id.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

void id_random(void *out, size_t n)
{
        char *p = out;

        while (n) {
                ssize_t got = getrandom(p, n, 0);

                if (got < 0 && errno == EINTR)
                        continue;
                /* Keys and tokens hang on this: no answer is no service. */
                if (got <= 0)
                        abort();
                p += got;
                n -= (size_t)got;
        }
}

uint64_t id_random_u64(void)
{
        uint64_t v;

        id_random(&v, sizeof v);
        return v;
}

void id_make(int64_t now_us, char out[ID_LEN])
{
        static const char digits[] = "0123456789abcdefghjkmnpqrstvwxyz"; /* Crockford's base 32 */
        uint64_t ms = (now_us < 0 ? 0 : (uint64_t)now_us / 1000) & 0xffffffffffffu;
        unsigned char rnd[10];
        unsigned bits = 0, have = 0;
        int at = ID_LEN - 1;

        id_random(rnd, sizeof rnd);
        out[at--] = '\0';
        /* 80 bits are exactly 16 digits, 48 bits are 10 with two to spare. */
        for (int i = (int)sizeof rnd - 1; i >= 0; i--) {
                bits |= (unsigned)rnd[i] << have;
                for (have += 8; have >= 5; have -= 5, bits >>= 5)
                        out[at--] = digits[bits & 31];
        }
        for (; at >= 0; at--, ms >>= 5)
                out[at] = digits[ms & 31];
}
