#include "agent/tools/sse.h"

#include <string.h>

#include "common/err.h"

void sse_init(struct sse *s, size_t max_bytes)
{
        memset(s, 0, sizeof *s);
        s->max = max_bytes;
        buf_init(&s->line, max_bytes + 1);
        buf_init(&s->data, max_bytes + 1);
        buf_init(&s->type, max_bytes + 1);
        buf_init(&s->id, max_bytes + 1);
        s->retry_ms = -1;
}

void sse_fini(struct sse *s)
{
        buf_fini(&s->line);
        buf_fini(&s->data);
        buf_fini(&s->type);
        buf_fini(&s->id);
}

/* The bytes with a NUL behind them that len does not count. */
static int ended(struct buf *b)
{
        int rc = buf_putc(b, '\0');

        if (!rc)
                b->len--;
        return rc;
}

static int dispatch(struct sse *s, int (*on_event)(void *, const struct sse_event *), void *arg)
{
        struct sse_event e;
        int rc;

        if (!s->has_data) {
                buf_reset(&s->type);
                return 0;
        }
        rc = ended(&s->data);
        if (!rc)
                rc = ended(&s->type);
        if (!rc)
                rc = ended(&s->id);
        if (rc)
                return rc;
        e = (struct sse_event){.type = s->type.len ? (char *)s->type.data : "message",
                               .data = (char *)s->data.data,
                               .n = s->data.len,
                               .id = (char *)s->id.data};
        rc = on_event(arg, &e);
        buf_reset(&s->data);
        buf_reset(&s->type);
        s->has_data = false;
        return rc;
}

/* Digits only; longer than a day is nonsense. */
static void take_retry(struct sse *s, const char *v, size_t n)
{
        int64_t ms = 0;

        for (size_t i = 0; i < n; i++) {
                if (v[i] < '0' || v[i] > '9' || ms > 86400000)
                        return;
                ms = 10 * ms + (v[i] - '0');
        }
        if (n > 0)
                s->retry_ms = ms;
}

static int field(struct sse *s, const char *name, size_t name_n, const char *v, size_t n)
{
        int rc = 0;

        if (name_n == 4 && memcmp(name, "data", 4) == 0) {
                if (s->has_data)
                        rc = buf_putc(&s->data, '\n');
                if (!rc)
                        rc = buf_put(&s->data, v, n);
                s->has_data = true;
        } else if (name_n == 5 && memcmp(name, "event", 5) == 0) {
                buf_reset(&s->type);
                rc = buf_put(&s->type, v, n);
        } else if (name_n == 2 && memcmp(name, "id", 2) == 0 && !memchr(v, '\0', n)) {
                buf_reset(&s->id);
                rc = buf_put(&s->id, v, n);
        } else if (name_n == 5 && memcmp(name, "retry", 5) == 0) {
                take_retry(s, v, n);
        }
        return rc;
}

static int line_over(struct sse *s, int (*on_event)(void *, const struct sse_event *), void *arg)
{
        static const char bom[] = "\xef\xbb\xbf";
        const char *p = (const char *)s->line.data, *colon, *v;
        size_t n = s->line.len;
        int rc;

        if (!s->begun && n >= 3 && memcmp(p, bom, 3) == 0) {
                p += 3;
                n -= 3;
        }
        s->begun = true;
        if (n == 0) {
                rc = dispatch(s, on_event, arg);
        } else {
                colon = memchr(p, ':', n);
                v = colon ? colon + 1 : p + n;
                if (v < p + n && *v == ' ')
                        v++;
                /* A line that begins with a colon is a comment: a field of no name. */
                rc = field(s, p, colon ? (size_t)(colon - p) : n, v, (size_t)(p + n - v));
        }
        buf_reset(&s->line);
        return rc;
}

int sse_feed(struct sse *s, const void *bytes, size_t n,
             int (*on_event)(void *arg, const struct sse_event *e), void *arg)
{
        const char *p = bytes, *end = p + n;

        while (p < end && !s->rc) {
                const char *stop = p;

                if (s->after_cr) {
                        s->after_cr = false;
                        if (*p == '\n') {
                                p++;
                                continue;
                        }
                }
                while (stop < end && *stop != '\n' && *stop != '\r')
                        stop++;
                if (s->line.len + (size_t)(stop - p) > s->max || s->data.len > s->max)
                        s->rc = -E_TOOBIG;
                else if (stop > p)
                        s->rc = buf_put(&s->line, p, (size_t)(stop - p));
                p = stop;
                if (p == end || s->rc)
                        break;
                s->after_cr = *p++ == '\r';
                s->rc = line_over(s, on_event, arg);
        }
        return s->rc;
}

bool sse_is_partial(const struct sse *s)
{
        return s->line.len > 0 || s->has_data;
}
