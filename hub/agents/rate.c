#include "hub/agents/rate.h"

#include "common/err.h"
#include "common/mem.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#define ADDRESSES_MAX 512

struct slot {
        uint8_t key[16]; /* IPv4 as ::ffff:a.b.c.d, IPv6 with its lower half zeroed */
        bool taken;
        int64_t touched_ms;
        struct bucket bucket;
};

struct rate {
        int burst;
        int64_t refill_ms;
        struct slot slots[ADDRESSES_MAX];
};

static int64_t used_now(const struct bucket *b, int64_t now_ms)
{
        int64_t left = b->used_ms - (now_ms - b->at_ms);

        return left > 0 ? left : 0;
}

int64_t bucket_wait(const struct bucket *b, int burst, int64_t refill_ms, int64_t now_ms)
{
        int64_t over = used_now(b, now_ms) - (burst - 1) * refill_ms;

        return over > 0 ? over : 0;
}

bool bucket_take(struct bucket *b, int burst, int64_t refill_ms, int64_t now_ms)
{
        if (bucket_wait(b, burst, refill_ms, now_ms))
                return false;
        b->used_ms = used_now(b, now_ms) + refill_ms;
        b->at_ms = now_ms;
        return true;
}

int rate_create(int burst, int64_t refill_ms, struct rate **out)
{
        struct rate *r = mem_calloc(1, sizeof *r);

        if (!r)
                return -E_NOMEM;
        r->burst = burst;
        r->refill_ms = refill_ms;
        *out = r;
        return 0;
}

void rate_free(struct rate *r)
{
        mem_free(r);
}

/* What cannot be read shares the key of zeroes. */
void rate_key(const char *address, uint8_t key[16])
{
        char host[64];
        const char *colon = strrchr(address, ':');
        size_t n = colon ? (size_t)(colon - address) : strlen(address);

        memset(key, 0, 16);
        if (n > 1 && address[0] == '[' && address[n - 1] == ']') {
                address++;
                n -= 2;
        }
        if (n >= sizeof host)
                return;
        memcpy(host, address, n);
        host[n] = '\0';
        if (inet_pton(AF_INET, host, key + 12) == 1) {
                key[10] = key[11] = 0xff;
        } else if (inet_pton(AF_INET6, host, key) == 1) {
                static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

                if (memcmp(key, mapped, sizeof mapped) != 0)
                        memset(key + 8, 0, 8);
        }
}

static struct slot *find(struct rate *r, const char *address, bool make, int64_t now_ms)
{
        uint8_t key[16];
        struct slot *oldest = &r->slots[0];

        rate_key(address, key);
        for (size_t i = 0; i < ADDRESSES_MAX; i++) {
                struct slot *s = &r->slots[i];

                if (s->taken && memcmp(s->key, key, sizeof key) == 0)
                        return s;
                if (oldest->taken && (!s->taken || s->touched_ms < oldest->touched_ms))
                        oldest = s;
        }
        if (!make)
                return NULL;
        memset(oldest, 0, sizeof *oldest);
        memcpy(oldest->key, key, sizeof key);
        oldest->taken = true;
        oldest->touched_ms = now_ms;
        return oldest;
}

int64_t rate_wait(struct rate *r, const char *address, int64_t now_ms)
{
        const struct slot *s = find(r, address, false, now_ms);

        return s ? bucket_wait(&s->bucket, r->burst, r->refill_ms, now_ms) : 0;
}

void rate_take(struct rate *r, const char *address, int64_t now_ms)
{
        struct slot *s = find(r, address, true, now_ms);

        s->touched_ms = now_ms;
        (void)bucket_take(&s->bucket, r->burst, r->refill_ms, now_ms);
}
