/* How long to wait before trying again: full jitter (a random time up to a
 * limit that doubles), so that a thousand agents do not come back at once.
 * Pure but for the random number. */
#ifndef PHOTON_AGENT_BACKOFF_H
#define PHOTON_AGENT_BACKOFF_H

#include <stdint.h>

struct backoff {
        unsigned tries; /* since the last success; 0 starts over */
};

#define BACKOFF_FIRST_MS 200
#define BACKOFF_MAX_MS   30000
/* A hub that restarts is back within seconds: the first tries stay this close together. */
#define BACKOFF_SOON_MS    500
#define BACKOFF_SOON_TRIES 12

/* Counts the try. */
uint64_t backoff_next_ms(struct backoff *b);

#endif
