#include "tests/lib/test.h"

#include "common/clock.h"
#include "common/err.h"

TEST(clock, formats_utc)
{
        char out[CLOCK_RFC3339_LEN];

        clock_format(0, out);
        CHECK_STR(out, "1970-01-01T00:00:00.000000Z");
        clock_format(INT64_C(1795176000123456), out);
        CHECK_STR(out, "2026-11-20T12:00:00.123456Z");
        clock_format(-1, out);
        CHECK_STR(out, "1969-12-31T23:59:59.999999Z");
        clock_format(INT64_C(951782400000000), out);
        CHECK_STR(out, "2000-02-29T00:00:00.000000Z");
        clock_format(INT64_MIN, out);
        CHECK_STR(out, "0000-01-01T00:00:00.000000Z");
        clock_format(INT64_MAX, out);
        CHECK_STR(out, "9999-12-31T23:59:59.999999Z");
}

TEST(clock, parses_rfc3339)
{
        int64_t us;

        CHECK_INT(clock_parse("2026-11-20T12:00:00.123456Z", &us), 0);
        CHECK_INT(us, INT64_C(1795176000123456));
        CHECK_INT(clock_parse("2026-11-20T14:30:00+02:30", &us), 0);
        CHECK_INT(us, INT64_C(1795176000000000));
        CHECK_INT(clock_parse("2026-11-20t12:00:00.5z", &us), 0);
        CHECK_INT(us, INT64_C(1795176000500000));
        CHECK_INT(clock_parse("2026-11-20T12:00:00.1234567899Z", &us), 0);
        CHECK_INT(us, INT64_C(1795176000123456));
}

TEST(clock, refuses_what_is_no_time)
{
        static const char *const bad[] = {"",
                                          "2026-11-20",
                                          "2026-11-20T12:00:00",
                                          "2026-13-01T00:00:00Z",
                                          "2026-02-29T00:00:00Z",
                                          "2026-00-10T00:00:00Z",
                                          "2026-11-20T24:00:00Z",
                                          "2026-11-20T12:60:00Z",
                                          "2026-11-20T12:00:00.Z",
                                          "2026-11-20T12:00:00Zx",
                                          "2026-11-20 12:00:00Z",
                                          "2026-11-20T12:00:00+0200",
                                          "26-11-20T12:00:00Z"};
        int64_t us = 5;

        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
                if (clock_parse(bad[i], &us) != -E_INVAL)
                        test_fail(__FILE__, __LINE__, "\"%s\" was taken as a time", bad[i]);
        CHECK_INT(us, 5);
}

TEST(clock, reads_back_every_day)
{
        char out[CLOCK_RFC3339_LEN];
        int64_t us;

        for (int64_t day = -719528; day < 200000; day += 97) {
                clock_format(day * INT64_C(86400000000) + 12345, out);
                CHECK_INT(clock_parse(out, &us), 0);
                CHECK_INT(us, day * INT64_C(86400000000) + 12345);
        }
}

TEST(clock, system_time_moves_on)
{
        int64_t a = clock_mono_ms(&clock_system);

        CHECK(clock_now_us(&clock_system) > INT64_C(1700000000000000));
        CHECK(clock_mono_ms(&clock_system) >= a);
}
