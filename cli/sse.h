/* Server-sent events, line by line (WHATWG HTML, section 9.2), and JSON lines: from
 * pieces of a stream to whole events. One thread. */
#ifndef PHOTON_CLI_SSE_H
#define PHOTON_CLI_SSE_H

#include <stddef.h>

#include "common/buf.h"

#define SSE_EVENT_MAX ((size_t)8 << 20)

struct sse {
        struct buf line, data;
        char event[64], id[32];
        int (*on_event)(void *ctx, const char *event, const char *id, const char *data, size_t n);
        void *ctx;
};

void sse_init(struct sse *s,
              int (*on_event)(void *ctx, const char *event, const char *id, const char *data, size_t n),
              void *ctx);
void sse_fini(struct sse *s);
/* A new connection: what was half received is dropped. */
void sse_restart(struct sse *s);
/* What on_event returned if not 0; -E_TOOBIG: an event without end; -E_NOMEM. */
int sse_feed(struct sse *s, const void *p, size_t n);

/* Cuts at newlines: `line` keeps the rest. The text handed on ends with a NUL. */
int lines_feed(struct buf *line, const void *p, size_t n, int (*on_line)(void *ctx, const char *s, size_t n),
               void *ctx);

#endif
