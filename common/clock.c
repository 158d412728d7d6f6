#include "common/clock.h"

#include "common/err.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define US_PER_S  INT64_C(1000000)
#define S_PER_DAY INT64_C(86400)
#define YEAR_0000 (INT64_C(-62167219200) * US_PER_S)                /* 0000-01-01T00:00:00Z */
#define YEAR_9999 (INT64_C(253402300799) * US_PER_S + US_PER_S - 1) /* 9999-12-31T23:59:59.999999Z */

static int64_t system_now_us(void *ctx)
{
        struct timespec ts;

        (void)ctx;
        clock_gettime(CLOCK_REALTIME, &ts);
        return ts.tv_sec * US_PER_S + ts.tv_nsec / 1000;
}

static int64_t system_mono_ms(void *ctx)
{
        struct timespec ts;

        (void)ctx;
        clock_gettime(CLOCK_MONOTONIC, &ts);
        return ts.tv_sec * INT64_C(1000) + ts.tv_nsec / 1000000;
}

const struct clock clock_system = {.now_us = system_now_us, .mono_ms = system_mono_ms};

/* Days since 1970-01-01 in the proleptic Gregorian calendar; the year starts
 * in March, so that the leap day is its last. */
static int64_t days_of(int year, int month, int day)
{
        int64_t y = month <= 2 ? year - 1 : year;
        int64_t era = (y >= 0 ? y : y - 399) / 400;
        int64_t yoe = y - era * 400;
        int64_t doy = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;

        return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

static void date_of(int64_t days, int *year, int *month, int *day)
{
        int64_t z = days + 719468;
        int64_t era = (z >= 0 ? z : z - 146096) / 146097;
        int64_t doe = z - era * 146097;
        int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
        int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
        int64_t mp = (5 * doy + 2) / 153;

        *day = (int)(doy - (153 * mp + 2) / 5 + 1);
        *month = (int)(mp < 10 ? mp + 3 : mp - 9);
        *year = (int)(yoe + era * 400 + (*month <= 2));
}

void clock_format(int64_t us, char out[CLOCK_RFC3339_LEN])
{
        int64_t days, rest;
        int year, month, day;
        char text[96];

        if (us < YEAR_0000)
                us = YEAR_0000;
        if (us > YEAR_9999)
                us = YEAR_9999;
        days = us / (S_PER_DAY * US_PER_S);
        rest = us % (S_PER_DAY * US_PER_S);
        if (rest < 0) {
                rest += S_PER_DAY * US_PER_S;
                days--;
        }
        date_of(days, &year, &month, &day);
        snprintf(text, sizeof text, "%04d-%02d-%02dT%02d:%02d:%02d.%06dZ", year, month, day,
                 (int)(rest / US_PER_S / 3600), (int)(rest / US_PER_S / 60 % 60), (int)(rest / US_PER_S % 60),
                 (int)(rest % US_PER_S));
        memcpy(out, text, CLOCK_RFC3339_LEN);
}

/* Reads exactly n digits in [min, max] and then `after` (0: nothing). */
static bool field(const char **s, int n, int min, int max, char after, int *out)
{
        int v = 0;

        for (int i = 0; i < n; i++, (*s)++) {
                if (**s < '0' || **s > '9')
                        return false;
                v = v * 10 + (**s - '0');
        }
        if (after) {
                if (**s != after)
                        return false;
                (*s)++;
        }
        *out = v;
        return v >= min && v <= max;
}

static bool zone(const char **s, int *out_s)
{
        int sign = **s == '-' ? -1 : 1, hours, minutes;

        if (**s == 'Z' || **s == 'z') {
                (*s)++;
                *out_s = 0;
                return true;
        }
        if (**s != '+' && **s != '-')
                return false;
        (*s)++;
        if (!field(s, 2, 0, 23, ':', &hours) || !field(s, 2, 0, 59, 0, &minutes))
                return false;
        *out_s = sign * (hours * 3600 + minutes * 60);
        return true;
}

static int month_days(int year, int month)
{
        static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
        bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

        return month == 2 && leap ? 29 : days[month - 1];
}

int clock_parse(const char *s, int64_t *out_us)
{
        int year, month, day, hour, minute, second, offset_s;
        int64_t us = 0;

        if (!field(&s, 4, 0, 9999, '-', &year) || !field(&s, 2, 1, 12, '-', &month) ||
            !field(&s, 2, 1, 31, 0, &day) || day > month_days(year, month))
                return -E_INVAL;
        if (*s != 'T' && *s != 't')
                return -E_INVAL;
        s++;
        if (!field(&s, 2, 0, 23, ':', &hour) || !field(&s, 2, 0, 59, ':', &minute) ||
            !field(&s, 2, 0, 60, 0, &second))
                return -E_INVAL;
        if (*s == '.') {
                s++;
                if (*s < '0' || *s > '9')
                        return -E_INVAL;
                for (int64_t scale = US_PER_S / 10; *s >= '0' && *s <= '9'; s++, scale /= 10)
                        us += (*s - '0') * scale;
        }
        if (!zone(&s, &offset_s) || *s)
                return -E_INVAL;
        us += (days_of(year, month, day) * S_PER_DAY + hour * 3600 + minute * 60 + second - offset_s) *
              US_PER_S;
        *out_us = us;
        return 0;
}
