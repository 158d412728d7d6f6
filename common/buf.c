#include "common/buf.h"

#include "common/err.h"
#include "common/mem.h"

#include <stdio.h>
#include <string.h>

#define BUF_FIRST_CAP 64

void buf_init(struct buf *b, size_t limit_bytes)
{
        *b = (struct buf){.limit = limit_bytes};
}

void buf_fini(struct buf *b)
{
        mem_free(b->data);
        b->data = NULL;
        b->len = 0;
        b->cap = 0;
}

void buf_reset(struct buf *b)
{
        b->len = 0;
}

int buf_reserve(struct buf *b, size_t extra_bytes)
{
        size_t limit = b->limit ? b->limit : BUF_LIMIT_DEFAULT;
        size_t need, cap;
        uint8_t *p;

        if (b->len > limit || extra_bytes > limit - b->len)
                return -E_TOOBIG;
        need = b->len + extra_bytes;
        if (need <= b->cap)
                return 0;
        cap = b->cap < BUF_FIRST_CAP ? BUF_FIRST_CAP : b->cap;
        while (cap < need)
                cap = cap > SIZE_MAX / 2 ? need : cap * 2;
        if (cap > limit)
                cap = limit;
        p = mem_realloc(b->data, cap);
        if (!p)
                return -E_NOMEM;
        b->data = p;
        b->cap = cap;
        return 0;
}

int buf_put(struct buf *b, const void *p, size_t n)
{
        int rc = buf_reserve(b, n);

        if (rc)
                return rc;
        if (n)
                memcpy(b->data + b->len, p, n);
        b->len += n;
        return 0;
}

int buf_puts(struct buf *b, const char *s)
{
        return buf_put(b, s, strlen(s));
}

int buf_putc(struct buf *b, char c)
{
        return buf_put(b, &c, 1);
}

int buf_vprintf(struct buf *b, const char *fmt, va_list ap)
{
        char small[256];
        va_list again;
        char *big;
        int n, rc;

        va_copy(again, ap);
        n = vsnprintf(small, sizeof small, fmt, ap);
        if (n < 0) {
                rc = -E_INVAL;
        } else if ((size_t)n < sizeof small) {
                rc = buf_put(b, small, (size_t)n);
        } else {
                rc = buf_reserve(b, (size_t)n);
                big = rc ? NULL : mem_alloc((size_t)n + 1);
                if (!rc && !big)
                        rc = -E_NOMEM;
                if (!rc) {
                        vsnprintf(big, (size_t)n + 1, fmt, again);
                        rc = buf_put(b, big, (size_t)n);
                }
                mem_free(big);
        }
        va_end(again);
        return rc;
}

int buf_printf(struct buf *b, const char *fmt, ...)
{
        va_list ap;
        int rc;

        va_start(ap, fmt);
        rc = buf_vprintf(b, fmt, ap);
        va_end(ap);
        return rc;
}

int buf_put_u32be(struct buf *b, uint32_t v)
{
        uint8_t raw[4];

        u32be_store(raw, v);
        return buf_put(b, raw, sizeof raw);
}

void buf_consume(struct buf *b, size_t n)
{
        if (n > b->len)
                n = b->len;
        b->len -= n;
        if (n && b->len)
                memmove(b->data, b->data + n, b->len);
}

char *buf_steal_str(struct buf *b)
{
        char *s = mem_realloc(b->data, b->len + 1);

        if (!s)
                return NULL;
        s[b->len] = '\0';
        b->data = NULL;
        b->len = 0;
        b->cap = 0;
        return s;
}

uint32_t u32be_load(const uint8_t *p)
{
        return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

void u32be_store(uint8_t *p, uint32_t v)
{
        p[0] = (uint8_t)(v >> 24);
        p[1] = (uint8_t)(v >> 16);
        p[2] = (uint8_t)(v >> 8);
        p[3] = (uint8_t)v;
}

uint64_t u64be_load(const uint8_t *p)
{
        return (uint64_t)u32be_load(p) << 32 | u32be_load(p + 4);
}

void u64be_store(uint8_t *p, uint64_t v)
{
        u32be_store(p, (uint32_t)(v >> 32));
        u32be_store(p + 4, (uint32_t)v);
}
