/* Time as a value that can be faked: rules and state machines get it handed
 * in and never ask the system. */
#ifndef PHOTON_CLOCK_H
#define PHOTON_CLOCK_H

#include <stdint.h>

/* now_us: wall clock, microseconds since 1970 UTC. mono_ms: monotonic. */
struct clock {
        int64_t (*now_us)(void *ctx);
        int64_t (*mono_ms)(void *ctx);
        void *ctx;
};

extern const struct clock clock_system;

static inline int64_t clock_now_us(const struct clock *c)
{
        return c->now_us(c->ctx);
}
static inline int64_t clock_mono_ms(const struct clock *c)
{
        return c->mono_ms(c->ctx);
}

#define CLOCK_RFC3339_LEN 28
/* "2026-11-20T12:00:00.000000Z" (RFC 3339, UTC, microseconds). */
void clock_format(int64_t us, char out[CLOCK_RFC3339_LEN]);
int clock_parse(const char *s, int64_t *out_us); /* -E_INVAL */

#endif
