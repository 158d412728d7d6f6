#include "agent/mask.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/mem.h"
#include "common/str.h"

#define PATTERNS_MAX 16384
#define PART_MIN     12 /* of a secret in a sentence that was cut */
#define LINES_ALL_MAX                                                                                        \
        1024       /* up to here wherever the lines of base64 end, longer ones only from a line's start */
#define LINE_MIN 8 /* a line of a secret of several lines is masked by itself from here on */

struct pattern {
        uint8_t *v;
        size_t n;
        struct pattern *next; /* the same first two bytes */
};

struct mask {
        size_t n_secrets, n_patterns, longest;
        uint8_t first[256 / 8];       /* bytes with which a pattern begins */
        struct pattern *by_pair[256]; /* chained by (first byte ^ second byte): few, so compared */
        uint8_t pair[65536 / 8];      /* the first two bytes of the patterns */
};

struct mask_stream {
        const struct mask *m;
        struct buf held;
        size_t covered; /* of held: belongs to a match, whatever comes */
};

/* ---- patterns ---- */

int mask_create(struct mask **out)
{
        *out = mem_calloc(1, sizeof **out);
        return *out ? 0 : -E_NOMEM;
}

static unsigned pair_of(const uint8_t *p)
{
        return (unsigned)p[0] << 8 | p[1];
}

static const struct pattern *find_pattern(const struct mask *m, const uint8_t *v, size_t n)
{
        const struct pattern *x = m->by_pair[v[0] ^ v[1]];

        while (x && (x->n != n || memcmp(x->v, v, n) != 0))
                x = x->next;
        return x;
}

static int add_pattern(struct mask *m, const void *p, size_t n)
{
        const uint8_t *v = p;
        struct pattern *x;
        unsigned slot;

        if (n < MASK_SECRET_MIN)
                return 0; /* a form that is too short to say anything */
        slot = (unsigned)(v[0] ^ v[1]);
        if (find_pattern(m, v, n))
                return 0;
        if (m->n_patterns >= PATTERNS_MAX)
                return -E_TOOBIG;
        x = mem_alloc(sizeof *x);
        if (!x || !(x->v = mem_dup(v, n))) {
                mem_free(x);
                return -E_NOMEM;
        }
        x->n = n;
        x->next = m->by_pair[slot];
        m->by_pair[slot] = x;
        m->first[v[0] / 8] |= (uint8_t)(1u << v[0] % 8);
        m->pair[pair_of(v) / 8] |= (uint8_t)(1u << pair_of(v) % 8);
        m->n_patterns++;
        if (n > m->longest)
                m->longest = n;
        return 0;
}

void mask_free(struct mask *m)
{
        if (!m)
                return;
        for (unsigned i = 0; i < 256; i++) {
                while (m->by_pair[i]) {
                        struct pattern *x = m->by_pair[i];

                        m->by_pair[i] = x->next;
                        mem_wipe(x->v, x->n);
                        mem_free(x->v);
                        mem_free(x);
                }
        }
        mem_wipe(m, sizeof *m);
        mem_free(m);
}

/* ---- forms ---- */

/* The characters of base64 that depend on these bytes alone, when `shift` other bytes come before them. */
static int add_base64(struct mask *m, const uint8_t *v, size_t n, unsigned shift, bool url)
{
        static const char std[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        size_t first = (shift * 8 + 5) / 6, last = ((shift + n) * 8) / 6, k = 0;
        char *text = mem_alloc(last - first + 1);
        int rc;

        if (!text)
                return -E_NOMEM;
        for (size_t i = first; i < last; i++) {
                unsigned six = 0;

                for (size_t bit = i * 6; bit < i * 6 + 6; bit++) {
                        size_t at = bit - shift * 8;

                        six = six << 1 | (v[at / 8] >> (7 - at % 8) & 1u);
                }
                text[k] = std[six];
                if (url && text[k] == '+')
                        text[k] = '-';
                if (url && text[k] == '/')
                        text[k] = '_';
                k++;
        }
        rc = add_pattern(m, text, k);
        mem_wipe(text, k);
        mem_free(text);
        return rc;
}

/* As base64(1) and openssl write it: a new line after so many characters. `at`: how many bytes come before
 * it, which says where the lines end. */
static int add_base64_lines(struct mask *m, const uint8_t *v, size_t n, size_t at, size_t width)
{
        size_t first = (at * 8 + 5) / 6, last = (at + n) * 8 / 6;
        struct buf b;
        int rc = 0;

        if ((last ? last - 1 : 0) / width == first / width)
                return 0; /* within a line: that form is known */
        buf_init(&b, 0);
        for (size_t i = first; i < last && !rc; i++) {
                static const char std[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
                unsigned six = 0;

                for (size_t bit = i * 6; bit < i * 6 + 6; bit++) {
                        size_t k = bit - at * 8;

                        six = six << 1 | (v[k / 8] >> (7 - k % 8) & 1u);
                }
                if (i > first && i % width == 0)
                        rc = buf_putc(&b, '\n');
                if (!rc)
                        rc = buf_putc(&b, std[six]);
        }
        if (!rc)
                rc = add_pattern(m, b.data, b.len);
        if (b.data)
                mem_wipe(b.data, b.cap);
        buf_fini(&b);
        return rc;
}

static int add_lines(struct mask *m, const uint8_t *v, size_t n)
{
        static const size_t widths[] = {76, 64};
        int rc = 0;

        for (int w = 0; w < 2; w++) {
                size_t starts = n <= LINES_ALL_MAX ? widths[w] / 4 * 3 : 1; /* bytes in a line */

                for (size_t at = 0; at < starts && !rc; at++)
                        rc = add_base64_lines(m, v, n, at, widths[w]);
        }
        return rc;
}

/* As od, hexdump and xxd write it: `sep` before each byte, another line after `width` bytes (0: none). */
static int add_hex_apart(struct mask *m, const uint8_t *v, size_t n, size_t at, size_t width, const char *sep,
                         const char *line)
{
        static const char digits[] = "0123456789abcdef";
        struct buf b;
        int rc = 0;

        buf_init(&b, 0);
        for (size_t i = 0; i < n && !rc; i++) {
                if (i > 0)
                        rc = buf_puts(&b, width && (at + i) % width == 0 ? line : sep);
                if (!rc)
                        rc = buf_putc(&b, digits[v[i] >> 4]);
                if (!rc)
                        rc = buf_putc(&b, digits[v[i] & 15]);
        }
        if (!rc)
                rc = add_pattern(m, b.data, b.len);
        if (b.data)
                mem_wipe(b.data, b.cap);
        buf_fini(&b);
        return rc;
}

static int add_dumps(struct mask *m, const uint8_t *v, size_t n)
{
        int rc = add_hex_apart(m, v, n, 0, 0, " ", "");
        size_t starts = n <= LINES_ALL_MAX ? 30 : 1;

        for (size_t at = 0; at < starts && !rc; at++) /* xxd -p */
                if (at + n > 30)
                        rc = add_hex_apart(m, v, n, at, 30, "", "\n");
        for (size_t at = 0; at < starts && at < 16 && !rc; at++) /* od -An -tx1 */
                if (at + n > 16)
                        rc = add_hex_apart(m, v, n, at, 16, " ", "\n ");
        return rc;
}

static int add_hex(struct mask *m, const uint8_t *v, size_t n, const char *digits)
{
        char *text = mem_alloc(2 * n);
        int rc;

        if (!text)
                return -E_NOMEM;
        for (size_t i = 0; i < n; i++) {
                text[2 * i] = digits[v[i] >> 4];
                text[2 * i + 1] = digits[v[i] & 15];
        }
        rc = add_pattern(m, text, 2 * n);
        mem_wipe(text, 2 * n);
        mem_free(text);
        return rc;
}

static bool unreserved(uint8_t c)
{
        return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
               strchr("-._~", c);
}

/* keep: what else stands as it is (encoders differ: encodeURI leaves ";,/?:@&=+$#!*'()"). */
static int add_percent(struct mask *m, const uint8_t *v, size_t n, const char *digits, const char *keep,
                       bool plus)
{
        struct buf b;
        int rc = 0;

        buf_init(&b, 0);
        for (size_t i = 0; i < n && !rc; i++) {
                if (v[i] && (unreserved(v[i]) || strchr(keep, v[i])))
                        rc = buf_putc(&b, (char)v[i]);
                else if (plus && v[i] == ' ')
                        rc = buf_putc(&b, '+');
                else
                        rc = buf_printf(&b, "%%%c%c", digits[v[i] >> 4], digits[v[i] & 15]);
        }
        if (!rc)
                rc = add_pattern(m, b.data, b.len);
        mem_wipe(b.data, b.len);
        buf_fini(&b);
        return rc;
}

static const char *json_short(uint8_t c)
{
        switch (c) {
        case '"':
                return "\\\"";
        case '\\':
                return "\\\\";
        case '\n':
                return "\\n";
        case '\r':
                return "\\r";
        case '\t':
                return "\\t";
        case '\b':
                return "\\b";
        case '\f':
                return "\\f";
        default:
                return NULL;
        }
}

/* "\u00e4", beyond the BMP a pair; 0: no UTF-8 there. */
static size_t put_escaped(struct buf *b, const uint8_t *v, size_t n, int *rc)
{
        size_t len = str_utf8_len(v, n);
        uint32_t c;

        if (len < 2)
                return 0;
        c = v[0] & (0xffu >> (len + 1));
        for (size_t i = 1; i < len; i++)
                c = c << 6 | (v[i] & 0x3fu);
        if (c >= 0x10000)
                *rc = buf_printf(b, "\\u%04x\\u%04x", 0xd800u + ((c - 0x10000) >> 10),
                                 0xdc00u + ((c - 0x10000) & 0x3ff));
        else
                *rc = buf_printf(b, "\\u%04x", c);
        return len;
}

/* slash: "\/" as PHP has it; html: "\u003c" for <, >, & as Go has it; ascii: all else as Python has it. */
static int add_json(struct mask *m, const uint8_t *v, size_t n, bool slash, bool html, bool ascii)
{
        struct buf b;
        int rc = 0;

        buf_init(&b, 0);
        for (size_t i = 0; i < n && !rc; i++) {
                size_t wide = ascii && v[i] >= 0x80 ? put_escaped(&b, v + i, n - i, &rc) : 0;

                if (wide)
                        i += wide - 1;
                else if (json_short(v[i]))
                        rc = buf_puts(&b, json_short(v[i]));
                else if (slash && v[i] == '/')
                        rc = buf_puts(&b, "\\/");
                else if (v[i] < 0x20 || (html && strchr("<>&", v[i])))
                        rc = buf_printf(&b, "\\u%04x", v[i]);
                else
                        rc = buf_putc(&b, (char)v[i]);
        }
        if (!rc)
                rc = add_pattern(m, b.data, b.len);
        mem_wipe(b.data, b.len);
        buf_fini(&b);
        return rc;
}

static int add_forms(struct mask *m, const uint8_t *v, size_t n)
{
        static const char low[] = "0123456789abcdef", up[] = "0123456789ABCDEF";
        int rc = add_pattern(m, v, n);

        for (unsigned shift = 0; shift < 3 && !rc; shift++) {
                rc = add_base64(m, v, n, shift, false);
                if (!rc)
                        rc = add_base64(m, v, n, shift, true);
        }
        for (int i = 0; i < 2 && !rc; i++) {
                const char *digits = i ? low : up;

                rc = add_hex(m, v, n, digits);
                if (!rc)
                        rc = add_percent(m, v, n, digits, "", false);
                if (!rc)
                        rc = add_percent(m, v, n, digits, "", true);
                if (!rc)
                        rc = add_percent(m, v, n, digits, "!*'()", false);
                if (!rc)
                        rc = add_percent(m, v, n, digits, "/", false);
        }
        for (int i = 0; i < 8 && !rc; i++)
                rc = add_json(m, v, n, i & 1, i & 2, i & 4);
        if (!rc)
                rc = add_lines(m, v, n);
        return rc ? rc : add_dumps(m, v, n);
}

int mask_add(struct mask *m, const void *secret, size_t n)
{
        const uint8_t *v = secret;
        int rc;

        while (n > 0 && (v[n - 1] == '\n' || v[n - 1] == '\r'))
                n--; /* an end of line that a file had */
        if (n < MASK_SECRET_MIN)
                return -E_INVAL;
        if (find_pattern(m, v, n))
                return 0; /* it is known, or a form of one that is */
        if (n > MASK_SECRET_MAX || m->n_secrets >= MASK_SECRETS_MAX)
                return -E_TOOBIG;
        rc = add_forms(m, v, n);
        for (size_t at = 0; at < n && !rc;) {
                const uint8_t *end = memchr(v + at, '\n', n - at);
                size_t len = end ? (size_t)(end - v) - at : n - at, text = len;

                if (text > 0 && v[at + text - 1] == '\r')
                        text--;
                if (text >= LINE_MIN && text < n)
                        rc = add_pattern(m, v + at, text);
                at += len + 1;
        }
        m->n_secrets += rc == 0;
        return rc;
}

/* ---- streams ---- */

int mask_stream_create(const struct mask *m, struct mask_stream **out)
{
        struct mask_stream *s = mem_calloc(1, sizeof *s);

        if (!s)
                return -E_NOMEM;
        s->m = m;
        buf_init(&s->held, 0);
        *out = s;
        return 0;
}

void mask_stream_free(struct mask_stream *s)
{
        if (!s)
                return;
        if (s->held.data)
                mem_wipe(s->held.data, s->held.cap);
        buf_fini(&s->held);
        mem_free(s);
}

static bool has(const uint8_t *bits, unsigned i)
{
        return bits[i / 8] >> i % 8 & 1;
}

/* The longest pattern that stands whole at v. *maybe: one could, with more bytes than there are. */
static size_t match(const struct mask *m, const uint8_t *v, size_t n, bool *maybe)
{
        size_t best = 0;

        *maybe = false;
        if (!has(m->first, v[0]))
                return 0;
        if (n == 1) {
                *maybe = true;
                return 0;
        }
        if (!has(m->pair, pair_of(v)))
                return 0;
        for (const struct pattern *x = m->by_pair[v[0] ^ v[1]]; x; x = x->next) {
                if (memcmp(x->v, v, x->n < n ? x->n : n) != 0)
                        continue;
                if (x->n > n)
                        *maybe = true;
                else if (x->n > best)
                        best = x->n;
        }
        return best;
}

/* Bytes of v up to the first at which something begins. */
static size_t plain_run(const struct mask *m, const uint8_t *v, size_t n)
{
        size_t i = 0;

        while (i < n && !has(m->first, v[i]))
                i++;
        return i;
}

/* Appends what of v may leave; *done: bytes that are decided. */
static int scan(struct mask_stream *s, const uint8_t *v, size_t n, bool last, struct buf *out, size_t *done)
{
        size_t at = 0, until = s->covered;
        int rc = 0;

        while (at < n && !rc) {
                bool maybe;
                size_t run = at >= until ? plain_run(s->m, v + at, n - at) : 0, len;

                if (run) {
                        rc = buf_put(out, v + at, run);
                        at += run;
                        continue;
                }
                len = match(s->m, v + at, n - at, &maybe);
                if (maybe && !last)
                        break; /* what comes decides, also how far a match reaches */
                if (len > 0 && at + len > until) {
                        if (at >= until)
                                rc = buf_puts(out, MASK_TEXT);
                        until = at + len;
                }
                if (at >= until && !rc)
                        rc = buf_putc(out, (char)v[at]);
                at++;
        }
        *done = at;
        s->covered = until > at ? until - at : 0;
        return rc;
}

int mask_put(struct mask_stream *s, const void *p, size_t n, struct buf *out)
{
        size_t done;
        int rc;

        if (s->held.len == 0) {
                rc = scan(s, p, n, false, out, &done);
                return rc ? rc : buf_put(&s->held, (const uint8_t *)p + done, n - done);
        }
        rc = buf_put(&s->held, p, n);
        if (!rc)
                rc = scan(s, s->held.data, s->held.len, false, out, &done);
        if (!rc)
                buf_consume(&s->held, done);
        return rc;
}

int mask_end(struct mask_stream *s, struct buf *out)
{
        size_t done;
        int rc = scan(s, s->held.data, s->held.len, true, out, &done);

        if (s->held.data)
                mem_wipe(s->held.data, s->held.cap);
        buf_reset(&s->held);
        s->covered = 0;
        return rc;
}

char *mask_text(const struct mask *m, const char *text)
{
        struct mask_stream *s;
        struct buf out;
        char *copy = NULL;

        if (mask_stream_create(m, &s))
                return NULL;
        buf_init(&out, 0);
        if (!mask_put(s, text, strlen(text), &out) && !mask_end(s, &out))
                copy = buf_steal_str(&out);
        if (out.data)
                mem_wipe(out.data, out.cap);
        buf_fini(&out);
        mask_stream_free(s);
        return copy;
}

/* How much of v is a pattern, or the beginning of one. */
static size_t begins(const struct mask *m, const uint8_t *v, size_t n)
{
        size_t best = 0;

        if (n < 2 || !has(m->pair, pair_of(v)))
                return 0;
        for (const struct pattern *x = m->by_pair[v[0] ^ v[1]]; x; x = x->next) {
                size_t k = 0;

                while (k < x->n && k < n && x->v[k] == v[k])
                        k++;
                if ((k == x->n || k >= PART_MIN) && k > best)
                        best = k;
        }
        return best;
}

char *mask_sentence(const struct mask *m, const char *text)
{
        const uint8_t *v = (const uint8_t *)text;
        size_t n = strlen(text), len;
        char *copy = NULL;
        struct buf out;
        int rc = 0;

        buf_init(&out, 0);
        for (size_t at = 0; at < n && !rc; at += len ? len : 1) {
                len = begins(m, v + at, n - at);
                rc = len ? buf_puts(&out, MASK_TEXT) : buf_putc(&out, text[at]);
        }
        if (!rc)
                copy = buf_steal_str(&out);
        buf_fini(&out);
        return copy;
}
