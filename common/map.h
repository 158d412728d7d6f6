/* Hash map from strings or 64-bit numbers to pointers. Keys are copied,
 * values are lent by the caller. SipHash-1-3 with a random key per process,
 * since peers choose many of the keys. Not thread-safe. */
#ifndef PHOTON_MAP_H
#define PHOTON_MAP_H

#include <stddef.h>
#include <stdint.h>

struct map;

struct map *map_create(void); /* NULL: no memory */
void map_free(struct map *m);
size_t map_count(const struct map *m);

void *map_get(const struct map *m, const char *key);
/* Replaces; *out_old (may be NULL) receives the previous value or NULL. */
int map_put(struct map *m, const char *key, void *value, void **out_old);
void *map_del(struct map *m, const char *key); /* the removed value or NULL */

void *map_get_u64(const struct map *m, uint64_t key);
int map_put_u64(struct map *m, uint64_t key, void *value, void **out_old);
void *map_del_u64(struct map *m, uint64_t key);

/* Iterates in no particular order: `size_t it = 0; while (map_next(m, &it, &key, &v))`.
 * key (may be NULL) gets the string, NULL for number keys. The map must not
 * change meanwhile, except deleting the current item. */
int map_next(const struct map *m, size_t *it, const char **key, void **value);

#endif
