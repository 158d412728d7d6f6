#include "common/map.h"

#include "common/err.h"
#include "common/id.h"
#include "common/mem.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

/* Open addressing with linear probing; a removed entry leaves a tombstone, so
 * that deleting during iteration moves nothing. */

#define FIRST_CAP 16

enum slot_state { SLOT_EMPTY, SLOT_GONE, SLOT_STR, SLOT_NUM };

struct slot {
        uint64_t hash; /* SLOT_NUM: of the number */
        union {
                char *str; /* ours */
                uint64_t num;
        } key;
        void *value;
        enum slot_state state;
};

struct map {
        struct slot *slots; /* NULL until the first put */
        size_t cap;         /* 0 or a power of two */
        size_t count;
        size_t used; /* count + tombstones */
};

static uint64_t hash_key[2];
static pthread_once_t hash_key_once = PTHREAD_ONCE_INIT;

static void make_hash_key(void)
{
        id_random(hash_key, sizeof hash_key);
}

static inline uint64_t rotl(uint64_t x, int b)
{
        return x << b | x >> (64 - b);
}

struct sip {
        uint64_t v0, v1, v2, v3;
};

static inline void sip_round(struct sip *s)
{
        s->v0 += s->v1;
        s->v1 = rotl(s->v1, 13) ^ s->v0;
        s->v0 = rotl(s->v0, 32);
        s->v2 += s->v3;
        s->v3 = rotl(s->v3, 16) ^ s->v2;
        s->v0 += s->v3;
        s->v3 = rotl(s->v3, 21) ^ s->v0;
        s->v2 += s->v1;
        s->v1 = rotl(s->v1, 17) ^ s->v2;
        s->v2 = rotl(s->v2, 32);
}

/* SipHash-1-3 (Aumasson and Bernstein): one round a word, three to finish. */
static uint64_t sip13(const void *p, size_t n)
{
        const unsigned char *s = p;
        struct sip h = {hash_key[0] ^ 0x736f6d6570736575u, hash_key[1] ^ 0x646f72616e646f6du,
                        hash_key[0] ^ 0x6c7967656e657261u, hash_key[1] ^ 0x7465646279746573u};
        uint64_t word, last = (uint64_t)n << 56;
        size_t i;

        for (i = 0; i + 8 <= n; i += 8) {
                memcpy(&word, s + i, sizeof word);
                h.v3 ^= word;
                sip_round(&h);
                h.v0 ^= word;
        }
        for (int shift = 0; i < n; i++, shift += 8)
                last |= (uint64_t)s[i] << shift;
        h.v3 ^= last;
        sip_round(&h);
        h.v0 ^= last;
        h.v2 ^= 0xff;
        for (int k = 0; k < 3; k++)
                sip_round(&h);
        return h.v0 ^ h.v1 ^ h.v2 ^ h.v3;
}

struct map *map_create(void)
{
        pthread_once(&hash_key_once, make_hash_key);
        return mem_calloc(1, sizeof(struct map));
}

void map_free(struct map *m)
{
        if (!m)
                return;
        for (size_t i = 0; i < m->cap; i++)
                if (m->slots[i].state == SLOT_STR)
                        mem_free(m->slots[i].key.str);
        mem_free(m->slots);
        mem_free(m);
}

size_t map_count(const struct map *m)
{
        return m->count;
}

/* The slot that holds the key (str, or num when str is NULL), or NULL. */
static struct slot *find(const struct map *m, const char *str, uint64_t num, uint64_t hash)
{
        if (!m->cap)
                return NULL;
        for (size_t i = hash & (m->cap - 1);; i = (i + 1) & (m->cap - 1)) {
                struct slot *s = &m->slots[i];

                if (s->state == SLOT_EMPTY)
                        return NULL;
                if (s->hash != hash)
                        continue;
                if (str ? s->state == SLOT_STR && strcmp(s->key.str, str) == 0
                        : s->state == SLOT_NUM && s->key.num == num)
                        return s;
        }
}

/* The first slot free for a key that is not in the map. */
static struct slot *vacant(struct slot *slots, size_t cap, uint64_t hash)
{
        size_t i = hash & (cap - 1);

        while (slots[i].state == SLOT_STR || slots[i].state == SLOT_NUM)
                i = (i + 1) & (cap - 1);
        return &slots[i];
}

/* Keeps at least a quarter of the slots empty. Growing (or cleaning out
 * tombstones) happens only here, so deletions never move an item. */
static int make_room(struct map *m)
{
        struct slot *slots;
        size_t cap = m->cap ? m->cap : FIRST_CAP;

        if (m->cap && m->used + 1 <= m->cap - m->cap / 4)
                return 0;
        while (m->count + 1 > cap / 2)
                cap *= 2;
        slots = mem_calloc(cap, sizeof *slots);
        if (!slots)
                return -E_NOMEM;
        for (size_t i = 0; i < m->cap; i++)
                if (m->slots[i].state == SLOT_STR || m->slots[i].state == SLOT_NUM)
                        *vacant(slots, cap, m->slots[i].hash) = m->slots[i];
        mem_free(m->slots);
        m->slots = slots;
        m->cap = cap;
        m->used = m->count;
        return 0;
}

static int put(struct map *m, const char *str, uint64_t num, uint64_t hash, void *value, void **out_old)
{
        struct slot *s = find(m, str, num, hash);
        void *old = NULL;
        char *copy = NULL;
        int rc;

        if (s) {
                old = s->value;
                s->value = value;
                goto done;
        }
        rc = make_room(m);
        if (rc)
                return rc;
        if (str) {
                copy = mem_strdup(str);
                if (!copy)
                        return -E_NOMEM;
        }
        s = vacant(m->slots, m->cap, hash);
        if (s->state == SLOT_EMPTY)
                m->used++;
        *s = (struct slot){.hash = hash, .value = value, .state = str ? SLOT_STR : SLOT_NUM};
        if (str)
                s->key.str = copy;
        else
                s->key.num = num;
        m->count++;
done:
        if (out_old)
                *out_old = old;
        return 0;
}

static void *del(struct map *m, struct slot *s)
{
        void *value;

        if (!s)
                return NULL;
        value = s->value;
        if (s->state == SLOT_STR)
                mem_free(s->key.str);
        *s = (struct slot){.state = SLOT_GONE};
        m->count--;
        return value;
}

void *map_get(const struct map *m, const char *key)
{
        struct slot *s = find(m, key, 0, sip13(key, strlen(key)));

        return s ? s->value : NULL;
}

int map_put(struct map *m, const char *key, void *value, void **out_old)
{
        return put(m, key, 0, sip13(key, strlen(key)), value, out_old);
}

void *map_del(struct map *m, const char *key)
{
        return del(m, find(m, key, 0, sip13(key, strlen(key))));
}

void *map_get_u64(const struct map *m, uint64_t key)
{
        struct slot *s = find(m, NULL, key, sip13(&key, sizeof key));

        return s ? s->value : NULL;
}

int map_put_u64(struct map *m, uint64_t key, void *value, void **out_old)
{
        return put(m, NULL, key, sip13(&key, sizeof key), value, out_old);
}

void *map_del_u64(struct map *m, uint64_t key)
{
        return del(m, find(m, NULL, key, sip13(&key, sizeof key)));
}

int map_next(const struct map *m, size_t *it, const char **key, void **value)
{
        while (*it < m->cap) {
                const struct slot *s = &m->slots[(*it)++];

                if (s->state != SLOT_STR && s->state != SLOT_NUM)
                        continue;
                if (key)
                        *key = s->state == SLOT_STR ? s->key.str : NULL;
                if (value)
                        *value = s->value;
                return 1;
        }
        return 0;
}
