#include "cli/sse.h"

#include <stdio.h>
#include <string.h>

#include "common/err.h"

void sse_init(struct sse *s,
              int (*on_event)(void *ctx, const char *event, const char *id, const char *data, size_t n),
              void *ctx)
{
        *s = (struct sse){.on_event = on_event, .ctx = ctx};
        buf_init(&s->line, SSE_EVENT_MAX);
        buf_init(&s->data, SSE_EVENT_MAX);
}

void sse_fini(struct sse *s)
{
        buf_fini(&s->line);
        buf_fini(&s->data);
}

void sse_restart(struct sse *s)
{
        buf_reset(&s->line);
        buf_reset(&s->data);
        s->event[0] = '\0';
}

int lines_feed(struct buf *line, const void *p, size_t n, int (*on_line)(void *ctx, const char *s, size_t n),
               void *ctx)
{
        const char *at = p, *end = at + n;
        int rc = 0;

        while (at < end && !rc) {
                const char *nl = memchr(at, '\n', (size_t)(end - at));
                size_t take = (size_t)((nl ? nl : end) - at);

                rc = buf_put(line, at, take);
                if (rc || !nl)
                        break;
                rc = buf_putc(line, '\0');
                if (!rc) {
                        size_t len = line->len - 1;

                        if (len && line->data[len - 1] == '\r')
                                line->data[--len] = '\0';
                        rc = on_line(ctx, (const char *)line->data, len);
                }
                buf_reset(line);
                at = nl + 1;
        }
        return rc;
}

static int dispatch(struct sse *s)
{
        int rc = 0;

        if (s->data.len) {
                s->data.data[s->data.len - 1] = '\0'; /* the last newline */
                rc = s->on_event(s->ctx, s->event, s->id, (const char *)s->data.data, s->data.len - 1);
        }
        s->event[0] = '\0';
        buf_reset(&s->data);
        return rc;
}

static int on_line(void *ctx, const char *l, size_t n)
{
        struct sse *s = ctx;
        const char *v = memchr(l, ':', n);
        size_t name = v ? (size_t)(v - l) : n;

        if (!n)
                return dispatch(s);
        if (!name)
                return 0; /* a comment: the heartbeat */
        v = v ? v + 1 : l + n;
        v += *v == ' ';
        if (name == 4 && memcmp(l, "data", 4) == 0) {
                int rc = buf_put(&s->data, v, n - (size_t)(v - l));

                return rc ? rc : buf_putc(&s->data, '\n');
        }
        if (name == 5 && memcmp(l, "event", 5) == 0)
                snprintf(s->event, sizeof s->event, "%s", v);
        else if (name == 2 && memcmp(l, "id", 2) == 0)
                snprintf(s->id, sizeof s->id, "%s", v);
        return 0;
}

int sse_feed(struct sse *s, const void *p, size_t n)
{
        return lines_feed(&s->line, p, n, on_line, s);
}
