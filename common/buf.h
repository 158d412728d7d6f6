/* A growable byte buffer with a limit. The holder owns `data`.
 * Not thread-safe; one owner at a time. */
#ifndef PHOTON_BUF_H
#define PHOTON_BUF_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
        uint8_t *data; /* readable: data[0..len) */
        size_t len;
        size_t cap;
        size_t limit; /* 0: BUF_LIMIT_DEFAULT */
};

#define BUF_LIMIT_DEFAULT ((size_t)256 << 20)

void buf_init(struct buf *b, size_t limit_bytes);
void buf_fini(struct buf *b);  /* frees; b is empty and usable afterwards */
void buf_reset(struct buf *b); /* len = 0, keeps the memory */

/* All return 0, -E_NOMEM or -E_TOOBIG (limit), leaving b unchanged then. */
int buf_reserve(struct buf *b, size_t extra_bytes);
int buf_put(struct buf *b, const void *p, size_t n);
int buf_puts(struct buf *b, const char *s);
int buf_putc(struct buf *b, char c);
int buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int buf_vprintf(struct buf *b, const char *fmt, va_list ap);
int buf_put_u32be(struct buf *b, uint32_t v);

/* Drops the first n bytes (n <= len). */
void buf_consume(struct buf *b, size_t n);

/* Gives the contents away as a NUL-terminated string that the caller frees
 * with mem_free; b is empty afterwards. NULL on -E_NOMEM. */
char *buf_steal_str(struct buf *b);

uint32_t u32be_load(const uint8_t *p);
void u32be_store(uint8_t *p, uint32_t v);
uint64_t u64be_load(const uint8_t *p);
void u64be_store(uint8_t *p, uint64_t v);

#endif
