#include "common/json_scan.h"

#include "common/err.h"
#include "common/json.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define NUMBER_MAX 63 /* cJSON copies a number into 64 bytes and drops the rest */

struct scan {
        const char *p, *end;
        /* Position of `seen`; moves only forward, so the whole scan is linear. */
        const char *seen;
        int line, col;
        int (*on)(void *ctx, const struct json_token *t);
        void *ctx;
        struct err *e;
        int depth;
        bool in_obj[JSON_DEPTH_MAX];
};

static void locate(struct scan *s, const char *at)
{
        for (; s->seen < at; s->seen++) {
                if (*s->seen == '\n') {
                        s->line++;
                        s->col = 1;
                } else if (((unsigned char)*s->seen & 0xc0) != 0x80) {
                        s->col++;
                }
        }
}

static int bad(struct scan *s, const char *at, const char *why)
{
        locate(s, at);
        return err_at(s->e, E_INVAL, s->line, s->col, "line %d, column %d: not valid JSON: %s", s->line,
                      s->col, why);
}

static int emit(struct scan *s, enum json_tok kind, const char *from, const char *text, size_t len)
{
        struct json_token t = {.kind = kind, .text = text, .len = len};

        if (!s->on)
                return 0;
        locate(s, from);
        t.line = s->line;
        t.col = s->col;
        return s->on(s->ctx, &t);
}

static void skip_space(struct scan *s)
{
        while (s->p < s->end && (*s->p == ' ' || *s->p == '\t' || *s->p == '\n' || *s->p == '\r'))
                s->p++;
}

static int hex4(const char *p, unsigned *out)
{
        unsigned v = 0;

        for (int i = 0; i < 4; i++) {
                char c = p[i];

                v <<= 4;
                if (c >= '0' && c <= '9')
                        v |= (unsigned)(c - '0');
                else if (c >= 'a' && c <= 'f')
                        v |= (unsigned)(c - 'a' + 10);
                else if (c >= 'A' && c <= 'F')
                        v |= (unsigned)(c - 'A' + 10);
                else
                        return -E_INVAL;
        }
        *out = v;
        return 0;
}

/* s->p is behind "\u"; leaves it behind the digits (of both halves). */
static int scan_unicode(struct scan *s)
{
        const char *at = s->p - 2;
        unsigned v, low;

        if (s->end - s->p < 4 || hex4(s->p, &v))
                return bad(s, at, "\\u needs four hexadecimal digits");
        s->p += 4;
        if (v == 0)
                return bad(s, at, "\\u0000 is not allowed");
        if (v >= 0xdc00 && v <= 0xdfff)
                return bad(s, at, "half of a surrogate pair");
        if (v >= 0xd800 && v <= 0xdbff) {
                if (s->end - s->p < 6 || s->p[0] != '\\' || s->p[1] != 'u' || hex4(s->p + 2, &low) ||
                    low < 0xdc00 || low > 0xdfff)
                        return bad(s, at, "half of a surrogate pair");
                s->p += 6;
        }
        return 0;
}

#define EACH_BYTE(x) (UINT64_C(0x0101010101010101) * (x))

/* The high bit of each byte of `v` that is 0, or has a byte below it that is: good for "any", not for
 * "which". */
static uint64_t any_zero(uint64_t v)
{
        return (v - EACH_BYTE(1)) & ~v & EACH_BYTE(0x80);
}

size_t json_plain_len(const char *s, size_t n)
{
        size_t i = 0;

        for (uint64_t v; n - i >= sizeof v; i += sizeof v) {
                memcpy(&v, s + i, sizeof v);
                if ((v & EACH_BYTE(0x80)) || ((v - EACH_BYTE(0x20)) & EACH_BYTE(0x80)) ||
                    any_zero(v ^ EACH_BYTE('"')) || any_zero(v ^ EACH_BYTE('\\')))
                        break;
        }
        while (i < n && (unsigned char)s[i] >= 0x20 && (unsigned char)s[i] < 0x80 && s[i] != '"' &&
               s[i] != '\\')
                i++;
        return i;
}

static int scan_string(struct scan *s, enum json_tok kind)
{
        const char *from = s->p++;
        int rc;

        while (s->p += json_plain_len(s->p, (size_t)(s->end - s->p)), s->p < s->end && *s->p != '"') {
                if ((unsigned char)*s->p < 0x20)
                        return bad(s, s->p, "a control character inside a string; write it as an escape");
                if (*s->p++ != '\\')
                        continue;
                if (s->p == s->end)
                        break;
                if (*s->p == 'u') {
                        s->p++;
                        rc = scan_unicode(s);
                        if (rc)
                                return rc;
                } else if (*s->p && strchr("\"\\/bfnrt", *s->p)) {
                        s->p++;
                } else {
                        return bad(s, s->p - 1, "unknown escape in a string");
                }
        }
        if (s->p == s->end)
                return bad(s, from, "this string does not end");
        s->p++;
        return emit(s, kind, from, from + 1, (size_t)(s->p - from - 2));
}

static bool digits(struct scan *s)
{
        const char *from = s->p;

        while (s->p < s->end && *s->p >= '0' && *s->p <= '9')
                s->p++;
        return s->p > from;
}

static int scan_number(struct scan *s)
{
        const char *from = s->p;
        char copy[NUMBER_MAX + 1];
        size_t n;

        if (*s->p == '-')
                s->p++;
        if (s->p < s->end && *s->p == '0') {
                s->p++;
                if (s->p < s->end && *s->p >= '0' && *s->p <= '9')
                        return bad(s, from, "a number must not start with 0");
        } else if (!digits(s)) {
                return bad(s, from, "a digit must follow the minus sign");
        }
        if (s->p < s->end && *s->p == '.') {
                s->p++;
                if (!digits(s))
                        return bad(s, from, "a digit must follow the point of a number");
        }
        if (s->p < s->end && (*s->p == 'e' || *s->p == 'E')) {
                s->p++;
                if (s->p < s->end && (*s->p == '+' || *s->p == '-'))
                        s->p++;
                if (!digits(s))
                        return bad(s, from, "a digit must follow the e of a number");
        }
        n = (size_t)(s->p - from);
        if (n > NUMBER_MAX)
                return bad(s, from, "a number of more than 63 characters");
        memcpy(copy, from, n);
        copy[n] = '\0';
        if (!isfinite(strtod(copy, NULL)))
                return bad(s, from, "a number too large for a double");
        return emit(s, JSON_TOK_NUM, from, from, n);
}

static int scan_word(struct scan *s)
{
        static const struct {
                const char *word;
                enum json_tok kind;
        } words[] = {{"true", JSON_TOK_TRUE}, {"false", JSON_TOK_FALSE}, {"null", JSON_TOK_NULL}};

        for (int i = 0; i < 3; i++) {
                size_t n = strlen(words[i].word);
                const char *from = s->p;

                if ((size_t)(s->end - s->p) >= n && memcmp(s->p, words[i].word, n) == 0) {
                        s->p += n;
                        return emit(s, words[i].kind, from, from, n);
                }
        }
        return bad(s, s->p, "expected a value: a string, number, object, list, true, false or null");
}

/* After '{' or ',' in an object: the key and the colon. */
static int scan_key(struct scan *s)
{
        int rc;

        skip_space(s);
        if (s->p == s->end || *s->p != '"')
                return bad(s, s->p, "expected a key in double quotes");
        rc = scan_string(s, JSON_TOK_KEY);
        if (rc)
                return rc;
        skip_space(s);
        if (s->p == s->end || *s->p != ':')
                return bad(s, s->p, "expected ':' after the key");
        s->p++;
        return 0;
}

/* Opens a list or object; *out_done when it is closed at once. */
static int scan_open(struct scan *s, bool *out_done)
{
        bool obj = *s->p == '{';
        const char *from = s->p;
        int rc;

        if (s->depth == JSON_DEPTH_MAX)
                return bad(s, from, "nested too deeply (the limit is 64 levels)");
        rc = emit(s, obj ? JSON_TOK_OBJ : JSON_TOK_ARR, from, from, 1);
        if (rc)
                return rc;
        s->p++;
        s->in_obj[s->depth++] = obj;
        skip_space(s);
        *out_done = s->p < s->end && *s->p == (obj ? '}' : ']');
        return obj && !*out_done ? scan_key(s) : 0;
}

/* Behind a value: closes what ends here, or goes to the next value. Sets
 * *out_end when the outermost value is complete. */
static int scan_after(struct scan *s, bool *out_end)
{
        int rc;

        *out_end = false;
        while (s->depth > 0) {
                bool obj = s->in_obj[s->depth - 1];

                skip_space(s);
                if (s->p == s->end)
                        return bad(s, s->p, obj ? "an object does not end" : "a list does not end");
                if (*s->p == ',') {
                        s->p++;
                        return obj ? scan_key(s) : 0;
                }
                if (*s->p != (obj ? '}' : ']'))
                        return bad(s, s->p, obj ? "expected ',' or '}'" : "expected ',' or ']'");
                rc = emit(s, obj ? JSON_TOK_OBJ_END : JSON_TOK_ARR_END, s->p, s->p, 1);
                if (rc)
                        return rc;
                s->p++;
                s->depth--;
        }
        *out_end = true;
        return 0;
}

int json_scan(const char *text, size_t len, int (*on)(void *ctx, const struct json_token *t), void *ctx,
              struct err *e)
{
        /* A body without a byte has no text at all. */
        const char *from = text ? text : "";
        struct scan s = {.p = from,
                         .end = from + len,
                         .seen = from,
                         .line = 1,
                         .col = 1,
                         .on = on,
                         .ctx = ctx,
                         .e = e};
        bool end = false, closed;
        int rc;

        while (!end) {
                closed = true;
                skip_space(&s);
                if (s.p == s.end)
                        return bad(&s, s.p, "the text ends where a value is expected");
                if (*s.p == '{' || *s.p == '[')
                        rc = scan_open(&s, &closed);
                else if (*s.p == '"')
                        rc = scan_string(&s, JSON_TOK_STR);
                else if (*s.p == '-' || (*s.p >= '0' && *s.p <= '9'))
                        rc = scan_number(&s);
                else
                        rc = scan_word(&s);
                if (!rc && closed)
                        rc = scan_after(&s, &end);
                if (rc)
                        return rc;
        }
        skip_space(&s);
        return s.p == s.end ? 0 : bad(&s, s.p, "unexpected text after the end of the document");
}

static size_t put_utf8(unsigned v, char *out)
{
        if (v < 0x80) {
                out[0] = (char)v;
                return 1;
        }
        if (v < 0x800) {
                out[0] = (char)(0xc0 | v >> 6);
                out[1] = (char)(0x80 | (v & 0x3f));
                return 2;
        }
        if (v < 0x10000) {
                out[0] = (char)(0xe0 | v >> 12);
                out[1] = (char)(0x80 | (v >> 6 & 0x3f));
                out[2] = (char)(0x80 | (v & 0x3f));
                return 3;
        }
        out[0] = (char)(0xf0 | v >> 18);
        out[1] = (char)(0x80 | (v >> 12 & 0x3f));
        out[2] = (char)(0x80 | (v >> 6 & 0x3f));
        out[3] = (char)(0x80 | (v & 0x3f));
        return 4;
}

size_t json_unescape(const char *raw, size_t n, char *out)
{
        static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
        size_t len = 0;

        for (size_t i = 0; i < n; i++) {
                size_t plain = json_plain_len(raw + i, n - i);
                unsigned v, low;

                memmove(out + len, raw + i, plain); /* out may be raw */
                len += plain;
                i += plain;
                if (i == n)
                        break;
                if (raw[i] != '\\') {
                        out[len++] = raw[i];
                } else if (raw[++i] != 'u') {
                        out[len++] = to[strchr(from, raw[i]) - from];
                } else {
                        hex4(raw + i + 1, &v);
                        i += 4;
                        if (v >= 0xd800 && v <= 0xdbff) {
                                hex4(raw + i + 3, &low);
                                i += 6;
                                v = 0x10000 + ((v - 0xd800) << 10) + (low - 0xdc00);
                        }
                        len += put_utf8(v, out + len);
                }
        }
        out[len] = '\0';
        return len;
}
