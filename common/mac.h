/* HMAC-SHA-256 under one key, many times: what depends on the key alone is worked out once. Any thread may
 * sum with a mac that no thread changes. */
#ifndef PHOTON_MAC_H
#define PHOTON_MAC_H

#include <stddef.h>
#include <stdint.h>

#define MAC_KEY_LEN 32
#define MAC_LEN     32

struct mac;

struct mac_part {
        const void *p;
        size_t n;
};

struct mac *mac_create(const uint8_t key[MAC_KEY_LEN]); /* NULL: no memory */
/* The parts one after the other: whoever joins texts says their lengths too. */
void mac_sum(const struct mac *m, const struct mac_part *parts, size_t n, uint8_t out[MAC_LEN]);
void mac_free(struct mac *m); /* wipes; accepts NULL */

#endif
