/* SHA-256 piece by piece, for what does not fit into memory at once; for the
 * rest there is secret_sha256. Any thread; one owner at a time. */
#ifndef PHOTON_SHA256_H
#define PHOTON_SHA256_H

#include <stddef.h>
#include <stdint.h>

struct sha256;

struct sha256 *sha256_create(void); /* NULL: no memory */
void sha256_put(struct sha256 *s, const void *p, size_t n);
void sha256_get(struct sha256 *s, uint8_t out[32]); /* once, at the end */
void sha256_free(struct sha256 *s);

#endif
