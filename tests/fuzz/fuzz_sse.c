/* sse_feed: no stream may crash it, and how it is cut changes nothing. */
#include "agent/tools/sse.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int on_event(void *arg, const struct sse_event *e)
{
        struct buf *b = arg;

        if (e->data[e->n] != '\0' || buf_puts(b, e->type) || buf_putc(b, 0) || buf_put(b, e->data, e->n) ||
            buf_puts(b, e->id) || buf_putc(b, 1))
                abort();
        return 0;
}

static int run(const uint8_t *data, size_t size, size_t piece, struct buf *out, bool *partial)
{
        struct sse s;
        int rc = 0;

        sse_init(&s, 4096);
        buf_init(out, 0);
        for (size_t i = 0; i < size && !rc; i += piece)
                rc = sse_feed(&s, data + i, size - i < piece ? size - i : piece, on_event, out);
        *partial = sse_is_partial(&s);
        sse_fini(&s);
        return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct buf a, b;
        bool pa, pb;
        int ra = run(data, size, size ? size : 1, &a, &pa);
        int rb = run(data, size, size ? 1 + data[0] % 7u : 1, &b, &pb);

        if (ra != rb || (!ra && (pa != pb || a.len != b.len || (a.len && memcmp(a.data, b.data, a.len)))))
                abort();
        buf_fini(&a);
        buf_fini(&b);
        return 0;
}
