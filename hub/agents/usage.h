/* Finds what a running call says of its usage in its stream of events (docs/EVENTS.md), chunk by chunk. Bytes
 * that come again are passed over, lines that are no usage are not looked at further, and of a longer line
 * than a usage can have nothing is kept. Pure; one thread at a time. */
#ifndef PHOTON_AGENTS_USAGE_H
#define PHOTON_AGENTS_USAGE_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define USAGE_LINE_MAX 4096u

/* Zeroed: nothing came yet. */
struct usage_watch {
        uint64_t at; /* what follows was not seen yet */
        size_t len;
        bool too_long; /* until the next end of a line */
        char line[USAGE_LINE_MAX];
};

/* Bytes of channel EVENT from `offset` of the call's output on. on_usage: once for each usage, lent. */
void usage_feed(struct usage_watch *w, uint64_t offset, const void *p, size_t n,
                void (*on_usage)(void *arg, const cJSON *usage), void *arg);

#endif
