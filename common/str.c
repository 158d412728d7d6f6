#include "common/str.h"

#include "common/err.h"
#include "common/mem.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DURATION_MAX_MS ((int64_t)10 * 366 * 86400 * 1000)
#define FRACTION_SCALE  1000000000

struct unit {
        const char *name;
        int64_t scale;
};

static const struct unit duration_units[] = {
        {"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}, {NULL, 0},
};

static const struct unit size_units[] = {
        {"B", 1},
        {"KiB", (int64_t)1 << 10},
        {"MiB", (int64_t)1 << 20},
        {"GiB", (int64_t)1 << 30},
        {"TiB", (int64_t)1 << 40},
        {"PiB", (int64_t)1 << 50},
        {"kB", 1000},
        {"KB", 1000},
        {"MB", 1000000},
        {"GB", 1000000000},
        {"TB", 1000000000000},
        {"PB", 1000000000000000},
        {NULL, 0},
};

static bool is_digit(char c)
{
        return c >= '0' && c <= '9';
}

static bool is_alpha(char c)
{
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* Reads digits[.digits]; the fraction in units of 1/FRACTION_SCALE. */
static int parse_number(const char **s, int64_t *whole, int64_t *fraction)
{
        const char *p = *s;
        int64_t w = 0, f = 0;

        if (!is_digit(*p))
                return -E_INVAL;
        for (; is_digit(*p); p++) {
                if (w > INT64_MAX / 10 || *p - '0' > INT64_MAX - w * 10)
                        return -E_INVAL;
                w = w * 10 + (*p - '0');
        }
        if (*p == '.') {
                p++;
                if (!is_digit(*p))
                        return -E_INVAL;
                for (int64_t scale = FRACTION_SCALE / 10; is_digit(*p); p++, scale /= 10)
                        f += (*p - '0') * scale;
        }
        *s = p;
        *whole = w;
        *fraction = f;
        return 0;
}

/* whole.fraction x scale, rounded up; -E_INVAL when over max. */
static int scale_up(int64_t whole, int64_t fraction, int64_t scale, int64_t max, int64_t *out)
{
        __int128 v = (__int128)whole * scale;

        v += ((__int128)fraction * scale + FRACTION_SCALE - 1) / FRACTION_SCALE;
        if (v > max)
                return -E_INVAL;
        *out = (int64_t)v;
        return 0;
}

int str_parse_duration(const char *s, int64_t *out_ms)
{
        int64_t total = 0, whole, fraction, part;
        int last = -1;

        if (strcmp(s, "0") == 0) {
                *out_ms = 0;
                return 0;
        }
        do {
                int u = 0;
                size_t n = 0;

                if (parse_number(&s, &whole, &fraction))
                        return -E_INVAL;
                while (is_alpha(s[n]))
                        n++;
                while (duration_units[u].name &&
                       (strlen(duration_units[u].name) != n || strncmp(duration_units[u].name, s, n) != 0))
                        u++;
                /* Units only get smaller: "1m5s" is meant, "5s1m" is a slip. */
                if (!duration_units[u].name || u <= last)
                        return -E_INVAL;
                if (scale_up(whole, fraction, duration_units[u].scale, DURATION_MAX_MS - total, &part))
                        return -E_INVAL;
                total += part;
                last = u;
                s += n;
        } while (*s);
        *out_ms = total;
        return 0;
}

void str_format_duration(int64_t ms, char out[32])
{
        uint64_t left = ms < 0 ? 0 - (uint64_t)ms : (uint64_t)ms;
        char text[96];
        size_t n = 0;

        if (ms < 0)
                text[n++] = '-';
        if (left < 1000) {
                snprintf(text + n, sizeof text - n, left ? "%dms" : "%ds", (int)left);
        } else {
                for (int u = 0; u < 3; u++) {
                        uint64_t scale = (uint64_t)duration_units[u].scale;

                        if (left >= scale)
                                n += (size_t)snprintf(text + n, sizeof text - n, "%llu%s",
                                                      (unsigned long long)(left / scale),
                                                      duration_units[u].name);
                        left %= scale;
                }
                if (left % 1000) {
                        n += (size_t)snprintf(text + n, sizeof text - n, "%d.%03d", (int)(left / 1000),
                                              (int)(left % 1000));
                        while (text[n - 1] == '0')
                                n--;
                        text[n++] = 's';
                } else if (left) {
                        n += (size_t)snprintf(text + n, sizeof text - n, "%ds", (int)(left / 1000));
                }
                text[n] = '\0';
        }
        n = strnlen(text, 31);
        memcpy(out, text, n);
        out[n] = '\0';
}

int str_parse_size(const char *s, int64_t *out_bytes)
{
        int64_t whole, fraction;
        const struct unit *u = size_units;

        if (parse_number(&s, &whole, &fraction))
                return -E_INVAL;
        if (*s == '\0') {
                if (fraction)
                        return -E_INVAL;
                *out_bytes = whole;
                return 0;
        }
        while (u->name && strcmp(u->name, s) != 0)
                u++;
        if (!u->name || (fraction && u->scale == 1))
                return -E_INVAL;
        return scale_up(whole, fraction, u->scale, INT64_MAX, out_bytes);
}

void str_format_size(int64_t bytes, char out[32])
{
        int u = 0;

        while (u < 5 && bytes >= size_units[u + 1].scale)
                u++;
        if (bytes % size_units[u].scale == 0)
                snprintf(out, 32, "%lld%s", (long long)(bytes / size_units[u].scale), size_units[u].name);
        else
                snprintf(out, 32, "%.1f%s", (double)bytes / (double)size_units[u].scale, size_units[u].name);
}

int str_parse_i64(const char *s, int64_t min, int64_t max, int64_t *out)
{
        const char *digits = *s == '-' ? s + 1 : s;
        char *end;
        long long v;

        if (!is_digit(*digits))
                return -E_INVAL;
        errno = 0;
        v = strtoll(s, &end, 10);
        if (errno || *end || v < min || v > max)
                return -E_INVAL;
        *out = v;
        return 0;
}

bool str_glob(const char *pattern, const char *s)
{
        const char *star = NULL, *resume = NULL;

        while (*s) {
                if (*pattern == '*') {
                        star = ++pattern;
                        resume = s;
                } else if (*pattern && (*pattern == '?' || *pattern == *s)) {
                        pattern++;
                        s++;
                } else if (star) {
                        /* Only the last star ever needs to give way. */
                        pattern = star;
                        s = ++resume;
                } else {
                        return false;
                }
        }
        while (*pattern == '*')
                pattern++;
        return *pattern == '\0';
}

bool str_is_name(const char *s, size_t max_len)
{
        size_t n = 0;

        for (; s[n]; n++) {
                bool alnum = is_alpha(s[n]) || is_digit(s[n]);

                if (n >= max_len || !(alnum || (n > 0 && strchr("._-", s[n]))))
                        return false;
        }
        return n > 0;
}

/* Damerau-Levenshtein distance (neighbours swapped count as one), for words
 * of at most NEAR_MAX bytes. */
#define NEAR_MAX 48
static size_t edit_distance(const char *a, size_t an, const char *b, size_t bn)
{
        size_t rows[3][NEAR_MAX + 1];
        size_t *before = rows[0], *prev = rows[1], *cur = rows[2], *tmp;

        for (size_t j = 0; j <= bn; j++)
                prev[j] = j;
        for (size_t i = 1; i <= an; i++) {
                cur[0] = i;
                for (size_t j = 1; j <= bn; j++) {
                        size_t d = prev[j - 1] + (a[i - 1] != b[j - 1]);

                        if (prev[j] + 1 < d)
                                d = prev[j] + 1;
                        if (cur[j - 1] + 1 < d)
                                d = cur[j - 1] + 1;
                        if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                            before[j - 2] + 1 < d)
                                d = before[j - 2] + 1;
                        cur[j] = d;
                }
                tmp = before;
                before = prev;
                prev = cur;
                cur = tmp;
        }
        return prev[bn];
}

const char *str_nearest(const char *word, const char *const *candidates, size_t n)
{
        size_t wn = strlen(word), best = wn < 3 ? 2 : wn < 6 ? 3 : 4; /* farther than best - 1 is no typo */
        const char *found = NULL;

        if (wn == 0 || wn > NEAR_MAX)
                return NULL;
        for (size_t i = 0; i < n; i++) {
                size_t cn = strlen(candidates[i]), d;

                if (cn == 0 || cn > NEAR_MAX)
                        continue;
                d = edit_distance(word, wn, candidates[i], cn);
                if (d < best && d < cn) {
                        best = d;
                        found = candidates[i];
                }
        }
        return found;
}

static char lower(char c)
{
        return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

bool str_ieq(const char *a, const char *b)
{
        while (*a && lower(*a) == lower(*b)) {
                a++;
                b++;
        }
        return lower(*a) == lower(*b);
}

char *str_printf(const char *fmt, ...)
{
        va_list ap;
        char *s;
        int n;

        va_start(ap, fmt);
        n = vsnprintf(NULL, 0, fmt, ap);
        va_end(ap);
        s = n < 0 ? NULL : mem_alloc((size_t)n + 1);
        if (!s)
                return NULL;
        va_start(ap, fmt);
        vsnprintf(s, (size_t)n + 1, fmt, ap);
        va_end(ap);
        return s;
}
