/* How many requests a second one token, one address, may make: a bucket each, that fills again while it is
 * left alone. Bounded: when more of them are busy than there is room for, the one that is nearest to full
 * makes room. No clock inside. Any thread, without a lock: a bucket is one number that is exchanged, and the
 * worst that a race can do is to count a request for the wrong one. */
#ifndef PHOTON_HTTP_LIMIT_H
#define PHOTON_HTTP_LIMIT_H

#include <stddef.h>
#include <stdint.h>

struct sockaddr;

#define LIMIT_SLOTS   8192 /* buckets that can be busy at once */
#define LIMIT_BURST_S 4    /* so many seconds' worth may come at once */

struct limit;
/* per_s 0: no limit (*out is NULL, which the functions below accept). -E_NOMEM. */
int limit_create(int64_t per_s, int64_t burst, struct limit **out);
void limit_free(struct limit *l);
/* Takes one. 0, or the milliseconds until there is one again: then nothing was taken. */
int64_t limit_take(struct limit *l, const void *key, size_t n, int64_t now_ms);
/* The same without taking. */
int64_t limit_wait(struct limit *l, const void *key, size_t n, int64_t now_ms);

/* What counts as one address: its port does not, and an IPv6 address counts as its /64. */
void limit_address(const struct sockaddr *sa, uint8_t key[16]);

#endif
