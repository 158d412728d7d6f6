/* The generic cell rate algorithm: of each bucket only the time is kept at which it will be full again. Who
 * takes one moves that time on by what one costs, and may not move it further than a burst ahead. */
#include "hub/http/limit.h"

#include <netinet/in.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "common/err.h"
#include "common/id.h"
#include "common/mem.h"

#define PROBES 8

struct slot {
        _Atomic uint64_t key;    /* 0: never used */
        _Atomic int64_t full_us; /* when the bucket is full again */
};

struct limit {
        int64_t cost_us, burst_us;
        uint64_t seed; /* so that nobody can choose keys that meet in one bucket */
        struct slot slots[LIMIT_SLOTS];
};

int limit_create(int64_t per_s, int64_t burst, struct limit **out)
{
        struct limit *l;

        *out = NULL;
        if (per_s <= 0)
                return 0;
        l = mem_calloc(1, sizeof *l);
        if (!l)
                return -E_NOMEM;
        l->cost_us = 1000000 / per_s > 0 ? 1000000 / per_s : 1;
        l->burst_us = l->cost_us * (burst > 0 ? burst : 1);
        id_random(&l->seed, sizeof l->seed);
        *out = l;
        return 0;
}

void limit_free(struct limit *l)
{
        mem_free(l);
}

static uint64_t hash(const struct limit *l, const uint8_t *p, size_t n)
{
        uint64_t h = l->seed ^ n;

        while (n) {
                size_t take = n < 8 ? n : 8;
                uint64_t v = 0;

                memcpy(&v, p, take);
                h = (h ^ v) * UINT64_C(0x9e3779b97f4a7c15);
                h ^= h >> 32;
                p += take;
                n -= take;
        }
        h *= UINT64_C(0xd6e8feb86659fd93);
        h ^= h >> 32;
        return h ? h : 1;
}

/* The bucket of this key, or the one that loses least by becoming it. */
static struct slot *find(struct limit *l, uint64_t key)
{
        struct slot *best = NULL;
        int64_t best_full = INT64_MAX;

        for (unsigned i = 0; i < PROBES; i++) {
                struct slot *s = &l->slots[(key + i) % LIMIT_SLOTS];
                int64_t full = atomic_load_explicit(&s->full_us, memory_order_relaxed);

                if (atomic_load_explicit(&s->key, memory_order_relaxed) == key)
                        return s;
                if (full < best_full) {
                        best_full = full;
                        best = s;
                }
        }
        atomic_store_explicit(&best->full_us, 0, memory_order_relaxed);
        atomic_store_explicit(&best->key, key, memory_order_relaxed);
        return best;
}

static int64_t try(struct limit *l, const void *key, size_t n, int64_t now_ms, bool take)
{
        int64_t now = now_ms * 1000, full, next;
        struct slot *s;

        if (!l)
                return 0;
        s = find(l, hash(l, key, n));
        full = atomic_load_explicit(&s->full_us, memory_order_relaxed);
        do {
                next = (full > now ? full : now) + l->cost_us;
                if (next - now > l->burst_us)
                        return (next - now - l->burst_us + 999) / 1000;
        } while (take && !atomic_compare_exchange_weak_explicit(&s->full_us, &full, next,
                                                                memory_order_relaxed, memory_order_relaxed));
        return 0;
}

int64_t limit_take(struct limit *l, const void *key, size_t n, int64_t now_ms)
{
        return try(l, key, n, now_ms, true);
}

int64_t limit_wait(struct limit *l, const void *key, size_t n, int64_t now_ms)
{
        return try(l, key, n, now_ms, false);
}

void limit_address(const struct sockaddr *sa, uint8_t key[16])
{
        memset(key, 0, 16);
        if (sa && sa->sa_family == AF_INET) {
                memcpy(key, &((const struct sockaddr_in *)(const void *)sa)->sin_addr, 4);
                key[15] = 4;
        } else if (sa && sa->sa_family == AF_INET6) {
                const struct in6_addr *a = &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr;

                if (IN6_IS_ADDR_V4MAPPED(a)) {
                        memcpy(key, &a->s6_addr[12], 4);
                        key[15] = 4;
                } else {
                        memcpy(key, a->s6_addr, 8);
                        key[15] = 6;
                }
        }
}
