/* Server-sent events (WHATWG HTML, 9.2.6) as bytes come in: model endpoints and
 * MCP servers speak them. Pure; whoever holds it owns it. */
#ifndef PHOTON_AGENT_TOOLS_SSE_H
#define PHOTON_AGENT_TOOLS_SSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"

struct sse_event {
        const char *type; /* "message" if the stream named none */
        const char *data; /* lines joined by '\n', NUL-ended; may hold NUL bytes */
        size_t n;
        const char *id; /* the last one that was named, "" if none */
};

struct sse {
        struct buf line, data, type, id;
        size_t max;
        bool begun, after_cr, has_data;
        int64_t retry_ms; /* what the stream last said of when to come back; -1: nothing. Readable */
        int rc;
};

/* max_bytes: of one event, and of one line. */
void sse_init(struct sse *s, size_t max_bytes);
void sse_fini(struct sse *s);

/* Calls on_event (lent for the call) for each event that has data and is complete. It returns 0 to go on, or
 * a negative code that ends the feed and is returned, now and ever after. -E_TOOBIG: an event is over the
 * limit. -E_NOMEM. on_event may not free s. */
int sse_feed(struct sse *s, const void *p, size_t n, int (*on_event)(void *arg, const struct sse_event *e),
             void *arg);

/* At the end of the stream: did it stop in the middle of an event? */
bool sse_is_partial(const struct sse *s);

#endif
