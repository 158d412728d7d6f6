/* Token buckets: one, or one for each source address (bounded; the least recently
 * used address is forgotten). No clock inside; loop thread only. */
#ifndef PHOTON_HUB_AGENTS_RATE_H
#define PHOTON_HUB_AGENTS_RATE_H

#include <stdbool.h>
#include <stdint.h>

/* Zeroed: full. */
struct bucket {
        int64_t used_ms; /* spent tokens, as the time in which they come back */
        int64_t at_ms;
};

/* Takes one of `burst` tokens that come back one each `refill_ms`. false: none left. */
bool bucket_take(struct bucket *b, int burst, int64_t refill_ms, int64_t now_ms);
/* Milliseconds until bucket_take would succeed; 0: now. */
int64_t bucket_wait(const struct bucket *b, int burst, int64_t refill_ms, int64_t now_ms);

/* What counts as one address: its port does not, and an IPv6 address counts as its /64. */
void rate_key(const char *address, uint8_t key[16]);

struct rate;
int rate_create(int burst, int64_t refill_ms, struct rate **out);
void rate_free(struct rate *r);
/* `address` as in struct link_peer. */
int64_t rate_wait(struct rate *r, const char *address, int64_t now_ms);
void rate_take(struct rate *r, const char *address, int64_t now_ms);

#endif
