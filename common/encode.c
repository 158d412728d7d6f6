/* The encodings of str.h: UTF-8, hexadecimal, base64. */
#include "common/str.h"

#include "common/err.h"
#include "common/mem.h"

#include <string.h>

/* How many bytes from p form a sequence (*ok), or the longest start of one,
 * at least 1 (Unicode 15, table 3-7 and "maximal subpart"). */
static size_t utf8_span(const uint8_t *p, size_t n, bool *ok)
{
        uint8_t lo = 0x80, hi = 0xbf;
        size_t need, i;

        *ok = false;
        if (p[0] < 0x80) {
                *ok = true;
                return 1;
        }
        if (p[0] < 0xc2 || p[0] > 0xf4)
                return 1;
        need = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
        if (p[0] == 0xe0)
                lo = 0xa0;
        else if (p[0] == 0xed)
                hi = 0x9f;
        else if (p[0] == 0xf0)
                lo = 0x90;
        else if (p[0] == 0xf4)
                hi = 0x8f;
        for (i = 1; i < need && i < n && p[i] >= lo && p[i] <= hi; i++) {
                lo = 0x80;
                hi = 0xbf;
        }
        *ok = i == need;
        return i;
}

size_t str_utf8_len(const void *p, size_t n)
{
        bool ok;
        size_t span = utf8_span(p, n, &ok);

        return ok ? span : 0;
}

bool str_is_utf8(const void *p, size_t n)
{
        const uint8_t *s = p;
        uint64_t word;
        bool ok;

        for (size_t i = 0; i < n;) {
                /* Most text is ASCII: eight bytes a step. */
                if (n - i >= sizeof word) {
                        memcpy(&word, s + i, sizeof word);
                        if ((word & 0x8080808080808080u) == 0) {
                                i += sizeof word;
                                continue;
                        }
                }
                i += utf8_span(s + i, n - i, &ok);
                if (!ok)
                        return false;
        }
        return true;
}

char *str_utf8_lossy(const void *p, size_t n)
{
        const uint8_t *s = p;
        size_t len = 0, span;
        char *out, *w;
        bool ok;

        for (size_t i = 0; i < n; i += span) {
                span = utf8_span(s + i, n - i, &ok);
                len += ok && s[i] ? span : 3;
        }
        out = w = mem_alloc(len + 1);
        if (!out)
                return NULL;
        for (size_t i = 0; i < n; i += span) {
                span = utf8_span(s + i, n - i, &ok);
                if (ok && s[i]) {
                        memcpy(w, s + i, span);
                        w += span;
                } else {
                        memcpy(w, "\xef\xbf\xbd", 3);
                        w += 3;
                }
        }
        *w = '\0';
        return out;
}

void str_hex(const void *p, size_t n, char *out)
{
        static const char digits[] = "0123456789abcdef";
        const uint8_t *s = p;

        for (size_t i = 0; i < n; i++) {
                out[2 * i] = digits[s[i] >> 4];
                out[2 * i + 1] = digits[s[i] & 15];
        }
        out[2 * n] = '\0';
}

static int hex_value(char c)
{
        if (c >= '0' && c <= '9')
                return c - '0';
        if (c >= 'a' && c <= 'f')
                return c - 'a' + 10;
        if (c >= 'A' && c <= 'F')
                return c - 'A' + 10;
        return -1;
}

int str_unhex(const char *s, void *out, size_t n)
{
        uint8_t *w = out;

        for (size_t i = 0; i < 2 * n; i++)
                if (hex_value(s[i]) < 0)
                        return -E_INVAL;
        if (s[2 * n])
                return -E_INVAL;
        for (size_t i = 0; i < n; i++)
                w[i] = (uint8_t)(hex_value(s[2 * i]) << 4 | hex_value(s[2 * i + 1]));
        return 0;
}

static const char b64_std[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char b64_url[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static char *b64_encode(const uint8_t *p, size_t n, const char *alphabet, bool pad)
{
        char *out, *w;

        if (n > SIZE_MAX / 2)
                return NULL;
        out = w = mem_alloc((n + 2) / 3 * 4 + 1);
        if (!out)
                return NULL;
        for (size_t i = 0; i < n; i += 3) {
                size_t have = n - i < 3 ? n - i : 3;
                uint32_t v = (uint32_t)p[i] << 16;

                if (have > 1)
                        v |= (uint32_t)p[i + 1] << 8;
                if (have > 2)
                        v |= p[i + 2];
                for (size_t k = 0; k < 4; k++) {
                        if (k <= have)
                                *w++ = alphabet[v >> (18 - 6 * k) & 63];
                        else if (pad)
                                *w++ = '=';
                }
        }
        *w = '\0';
        return out;
}

static int b64_value(char c, const char *alphabet)
{
        if (c >= 'A' && c <= 'Z')
                return c - 'A';
        if (c >= 'a' && c <= 'z')
                return c - 'a' + 26;
        if (c >= '0' && c <= '9')
                return c - '0' + 52;
        if (c == alphabet[62])
                return 62;
        return c == alphabet[63] ? 63 : -1;
}

/* s[0..n) without padding. */
static int b64_decode(const char *s, size_t n, const char *alphabet, uint8_t **out, size_t *out_len)
{
        size_t len = n / 4 * 3 + (n % 4 ? n % 4 - 1 : 0), at = 0;
        uint32_t bits = 0;
        unsigned have = 0;
        uint8_t *raw;

        if (n % 4 == 1)
                return -E_INVAL;
        raw = mem_alloc(len + 1);
        if (!raw)
                return -E_NOMEM;
        for (size_t i = 0; i < n; i++) {
                int v = b64_value(s[i], alphabet);

                if (v < 0)
                        goto invalid;
                bits = bits << 6 | (uint32_t)v;
                have += 6;
                if (have >= 8) {
                        have -= 8;
                        raw[at++] = (uint8_t)(bits >> have);
                        bits &= (1u << have) - 1;
                }
        }
        if (bits)
                goto invalid;
        raw[at] = 0;
        *out = raw;
        *out_len = at;
        return 0;
invalid:
        mem_wipe(raw, len);
        mem_free(raw);
        return -E_INVAL;
}

char *str_b64url(const void *p, size_t n)
{
        return b64_encode(p, n, b64_url, false);
}

int str_unb64url(const char *s, size_t n, uint8_t **out, size_t *out_len)
{
        return b64_decode(s, n, b64_url, out, out_len);
}

char *str_b64(const void *p, size_t n)
{
        return b64_encode(p, n, b64_std, true);
}

int str_unb64(const char *s, size_t n, uint8_t **out, size_t *out_len)
{
        if (n % 4)
                return -E_INVAL;
        if (n && s[n - 1] == '=')
                n -= s[n - 2] == '=' ? 2 : 1;
        return b64_decode(s, n, b64_std, out, out_len);
}
