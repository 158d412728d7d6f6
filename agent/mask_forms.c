#include "agent/mask_forms.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/mem.h"
#include "common/str.h"

#define LINES_ALL_MAX                                                                                        \
        1024 /* up to here wherever lines end and each byte escaped, longer ones only from a line's start */

static const char low[] = "0123456789abcdef", up[] = "0123456789ABCDEF";

struct forms {
        const uint8_t *v;
        size_t n;
        int (*add)(void *arg, const void *p, size_t n);
        void *arg;
};

/* Hands over what stands in b, unless it could not be written, and takes it back. */
static int hand_over(const struct forms *f, struct buf *b, int rc)
{
        if (!rc)
                rc = f->add(f->arg, b->data, b->len);
        if (b->data)
                mem_wipe(b->data, b->cap);
        buf_fini(b);
        return rc;
}

/* ---- base64 ---- */

/* The characters of base64 that depend on the secret alone, when `at` other bytes come before it; with a new
 * line after so many characters (0: none), as base64(1), openssl and MIME write it. */
static int base64(const struct forms *f, size_t at, bool url, size_t width, const char *eol)
{
        static const char std[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        size_t first = (at * 8 + 5) / 6, last = (at + f->n) * 8 / 6;
        struct buf b;
        int rc = 0;

        if (width && (last ? last - 1 : 0) / width == first / width)
                return 0; /* within a line: that form is known */
        buf_init(&b, 0);
        for (size_t i = first; i < last && !rc; i++) {
                unsigned six = 0;
                char c;

                for (size_t bit = i * 6; bit < i * 6 + 6; bit++) {
                        size_t k = bit - at * 8;

                        six = six << 1 | (f->v[k / 8] >> (7 - k % 8) & 1u);
                }
                c = std[six];
                if (url)
                        c = c == '+' ? '-' : c == '/' ? '_' : c;
                if (width && i > first && i % width == 0)
                        rc = buf_puts(&b, eol);
                if (!rc)
                        rc = buf_putc(&b, c);
        }
        return hand_over(f, &b, rc);
}

static int all_base64(const struct forms *f)
{
        static const size_t widths[] = {76, 64};
        int rc = 0;

        for (unsigned at = 0; at < 3 && !rc; at++) {
                rc = base64(f, at, false, 0, "");
                if (!rc)
                        rc = base64(f, at, true, 0, "");
        }
        for (int w = 0; w < 2; w++) {
                size_t starts = f->n <= LINES_ALL_MAX ? widths[w] / 4 * 3 : 1; /* bytes in a line */

                for (size_t at = 0; at < starts && !rc; at++) {
                        rc = base64(f, at, false, widths[w], "\n");
                        if (!rc)
                                rc = base64(f, at, false, widths[w], "\r\n");
                }
        }
        return rc;
}

/* ---- hex ---- */

/* `sep` between bytes, `line` instead after `width` bytes (0: never), when `at` other bytes come before. */
static int hex(const struct forms *f, const char *digits, size_t at, size_t width, const char *sep,
               const char *line)
{
        struct buf b;
        int rc = 0;

        buf_init(&b, 0);
        for (size_t i = 0; i < f->n && !rc; i++) {
                if (i > 0)
                        rc = buf_puts(&b, width && (at + i) % width == 0 ? line : sep);
                if (!rc)
                        rc = buf_putc(&b, digits[f->v[i] >> 4]);
                if (!rc)
                        rc = buf_putc(&b, digits[f->v[i] & 15]);
        }
        return hand_over(f, &b, rc);
}

static int all_hex(const struct forms *f)
{
        size_t starts = f->n <= LINES_ALL_MAX ? 30 : 1;
        int rc = hex(f, low, 0, 0, "", "");

        if (!rc)
                rc = hex(f, up, 0, 0, "", "");
        if (!rc)
                rc = hex(f, low, 0, 0, " ", "");
        for (size_t at = 0; at < starts && !rc; at++) /* xxd -p */
                if (at + f->n > 30)
                        rc = hex(f, low, at, 30, "", "\n");
        for (size_t at = 0; at < starts && at < 16 && !rc; at++) /* od -An -tx1 */
                if (at + f->n > 16)
                        rc = hex(f, low, at, 16, " ", "\n ");
        return rc;
}

/* ---- percent ---- */

static bool plain(uint8_t c)
{
        return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static int percent(const struct forms *f, const char *digits, const char *keep, bool plus, bool all)
{
        struct buf b;
        int rc = 0;

        buf_init(&b, 0);
        for (size_t i = 0; i < f->n && !rc; i++) {
                uint8_t c = f->v[i];

                if (c && !all && (plain(c) || strchr(keep, c)))
                        rc = buf_putc(&b, (char)c);
                else if (plus && c == ' ')
                        rc = buf_putc(&b, '+');
                else
                        rc = buf_printf(&b, "%%%c%c", digits[c >> 4], digits[c & 15]);
        }
        return hand_over(f, &b, rc);
}

static int all_percent(const struct forms *f)
{
        /* What stands as it is, besides letters and digits, and whether a space is "+". */
        static const struct {
                const char *keep;
                bool plus;
        } ways[] = {
                {"-._~", false},                 /* RFC 3986; curl, quote(safe="") */
                {"-._~", true},                  /* quote_plus, Go's QueryEscape */
                {"-._~/", false},                /* Python's quote */
                {"-._~!*'()", false},            /* encodeURIComponent */
                {"-._~!*'();,/?:@&=+$#", false}, /* encodeURI */
                {"-._*", true},                  /* URLSearchParams, Java's URLEncoder */
                {"-._", false},                  /* those that take "~" for special, older ones */
                {"-._", true},                   /* PHP's urlencode */
                {"-._~!$&'()*+,;=:@", false},    /* a segment of a path */
        };
        int rc = 0;

        for (int d = 0; d < 2 && !rc; d++) {
                for (size_t i = 0; i < sizeof ways / sizeof *ways && !rc; i++)
                        rc = percent(f, d ? low : up, ways[i].keep, ways[i].plus, false);
                if (!rc && f->n <= LINES_ALL_MAX)
                        rc = percent(f, d ? low : up, "", false, true);
        }
        return rc;
}

/* ---- JSON ---- */

enum {
        SLASH = 1,   /* "\/", as PHP has it */
        HTML = 2,    /* <, >, & as \u003c, as Go has it */
        ASCII = 4,   /* nothing above 0x7e, as Python has it */
        UPPER = 8,   /* \u003C */
        QUOTES = 16, /* ", ', + and ` too, as .NET has it */
        ALL = 32,
};

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

static int put_u(struct buf *b, uint32_t c, int how)
{
        const char *digits = how & UPPER ? up : low;

        return buf_printf(b, "\\u%c%c%c%c", digits[c >> 12 & 15], digits[c >> 8 & 15], digits[c >> 4 & 15],
                          digits[c & 15]);
}

/* "\u00e4", beyond the BMP a pair; 0: no UTF-8 there. */
static size_t put_escaped(struct buf *b, const uint8_t *v, size_t n, int how, int *rc)
{
        size_t len = str_utf8_len(v, n);
        uint32_t c;

        if (len < 2)
                return 0;
        c = v[0] & (0xffu >> (len + 1));
        for (size_t i = 1; i < len; i++)
                c = c << 6 | (v[i] & 0x3fu);
        if (c >= 0x10000) {
                *rc = put_u(b, 0xd800u + ((c - 0x10000) >> 10), how);
                c = 0xdc00u + ((c - 0x10000) & 0x3ff);
        }
        if (!*rc)
                *rc = put_u(b, c, how);
        return len;
}

static bool is_special(uint8_t c, int how)
{
        return c < 0x20 || ((how & HTML) && strchr("<>&", c)) || ((how & QUOTES) && strchr("\"'+`", c)) ||
               ((how & ASCII) && c == 0x7f) || ((how & ALL) && c < 0x80);
}

static int json(const struct forms *f, int how)
{
        struct buf b;
        int rc = 0;

        buf_init(&b, 0);
        for (size_t i = 0; i < f->n && !rc; i++) {
                uint8_t c = f->v[i];
                size_t wide = (how & (ASCII | ALL)) && c >= 0x80
                                      ? put_escaped(&b, f->v + i, f->n - i, how, &rc)
                                      : 0;
                bool brief = json_short(c) && !(how & ALL) && !((how & QUOTES) && c == '"');

                if (wide)
                        i += wide - 1;
                else if (brief)
                        rc = buf_puts(&b, json_short(c));
                else if ((how & SLASH) && c == '/')
                        rc = buf_puts(&b, "\\/");
                else if (is_special(c, how))
                        rc = put_u(&b, c, how);
                else
                        rc = buf_putc(&b, (char)c);
        }
        return hand_over(f, &b, rc);
}

static int all_json(const struct forms *f)
{
        int rc = 0;

        for (int how = 0; how < QUOTES && !rc; how++)
                rc = json(f, how);
        for (int how = 0; how < 2 && !rc; how++)
                rc = json(f, QUOTES | HTML | ASCII | (how ? UPPER : 0));
        for (int how = 0; how < 2 && !rc && f->n <= LINES_ALL_MAX; how++)
                rc = json(f, ALL | (how ? UPPER : 0));
        return rc;
}

/* ---- quoted ---- */

/* What becomes of characters that a language quotes; all else stays. */
struct quoting {
        const char *from;
        const char *const *to;
};

#define TO(...) ((const char *const[]){__VA_ARGS__})

static const struct quoting quotings[] = {
        /* set -x and shlex.quote() show a ' within '...' so */
        {"'", TO("'\\''")},
        {"'", TO("'\"'\"'")},
        /* within "...": export -p, declare -p, systemctl show-environment */
        {"\"$`\\", TO("\\\"", "\\$", "\\`", "\\\\")},
        /* $'...' and repr() */
        {"\\\n\r\t", TO("\\\\", "\\n", "\\r", "\\t")},
        {"\\'\n\r\t", TO("\\\\", "\\'", "\\n", "\\r", "\\t")},
        /* HTML and XML, by who writes it: text; attributes; PHP; Python; Go */
        {"&<>", TO("&amp;", "&lt;", "&gt;")},
        {"&<>\"", TO("&amp;", "&lt;", "&gt;", "&quot;")},
        {"&<>\"'", TO("&amp;", "&lt;", "&gt;", "&quot;", "&#039;")},
        {"&<>\"'", TO("&amp;", "&lt;", "&gt;", "&quot;", "&#39;")},
        {"&<>\"'", TO("&amp;", "&lt;", "&gt;", "&quot;", "&#x27;")},
        {"&<>\"'", TO("&amp;", "&lt;", "&gt;", "&quot;", "&apos;")},
        {"&<>\"'", TO("&amp;", "&lt;", "&gt;", "&#34;", "&#39;")},
};

static int quoted(const struct forms *f, const struct quoting *q)
{
        struct buf b;
        int rc = 0;

        buf_init(&b, 0);
        for (size_t i = 0; i < f->n && !rc; i++) {
                const char *at = f->v[i] ? strchr(q->from, f->v[i]) : NULL;

                rc = at ? buf_puts(&b, q->to[at - q->from]) : buf_putc(&b, (char)f->v[i]);
        }
        return hand_over(f, &b, rc);
}

/* printf %q: a backslash before all that is not plain. */
static int backslashed(const struct forms *f)
{
        struct buf b;
        int rc = 0;

        buf_init(&b, 0);
        for (size_t i = 0; i < f->n && !rc; i++) {
                if (f->v[i] < 0x80 && !plain(f->v[i]) && !(f->v[i] && strchr("-._/:=@%+", f->v[i])))
                        rc = buf_putc(&b, '\\');
                if (!rc)
                        rc = buf_putc(&b, (char)f->v[i]);
        }
        return hand_over(f, &b, rc);
}

int mask_forms(const void *secret, size_t n, int (*add)(void *arg, const void *p, size_t n), void *arg)
{
        struct forms f = {.v = secret, .n = n, .add = add, .arg = arg};
        int rc = add(arg, secret, n);

        if (!rc)
                rc = all_base64(&f);
        if (!rc)
                rc = all_hex(&f);
        if (!rc)
                rc = all_percent(&f);
        if (!rc)
                rc = all_json(&f);
        for (size_t i = 0; i < sizeof quotings / sizeof *quotings && !rc; i++)
                rc = quoted(&f, &quotings[i]);
        return rc ? rc : backslashed(&f);
}
