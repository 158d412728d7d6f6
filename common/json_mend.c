#include "common/json.h"

#include <string.h>

static int hex_digit(char c)
{
        if (c >= '0' && c <= '9')
                return c - '0';
        if (c >= 'a' && c <= 'f')
                return c - 'a' + 10;
        if (c >= 'A' && c <= 'F')
                return c - 'A' + 10;
        return -1;
}

/* The number of an escape \uXXXX at p, or -1. */
static int escape_at(const char *p, size_t n)
{
        int v = 0;

        if (n < 6 || p[0] != '\\' || p[1] != 'u')
                return -1;
        for (int i = 2; i < 6; i++) {
                int d = hex_digit(p[i]);

                if (d < 0)
                        return -1;
                v = v << 4 | d;
        }
        return v;
}

static bool is_high(int v)
{
        return v >= 0xd800 && v < 0xdc00;
}

static bool is_low(int v)
{
        return v >= 0xdc00 && v < 0xe000;
}

/* A backslash in JSON stands only inside of strings, so strings need not be told from what is around them. */
void json_mend(char *text, size_t len)
{
        char *p = text, *end = text + len;

        while ((p = memchr(p, '\\', (size_t)(end - p))) != NULL) {
                size_t left = (size_t)(end - p);
                int v = escape_at(p, left);

                if (v < 0) {
                        p += left < 2 ? left : 2;
                        continue;
                }
                if (is_high(v) && is_low(escape_at(p + 6, left - 6))) {
                        p += 12;
                        continue;
                }
                if (v == 0 || is_high(v) || is_low(v))
                        memcpy(p, "\\ufffd", 6);
                p += 6;
        }
}
