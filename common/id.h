/* Identifiers and randomness (getrandom(2)). Any thread. */
#ifndef PHOTON_ID_H
#define PHOTON_ID_H

#include <stddef.h>
#include <stdint.h>

#define ID_LEN 27 /* 26 characters and NUL */

/* A ULID in lower case (sortable by creation time, 80 random bits). */
void id_make(int64_t now_us, char out[ID_LEN]);

/* Cryptographically secure; aborts if the kernel cannot deliver. */
void id_random(void *out, size_t n);
uint64_t id_random_u64(void);

#endif
