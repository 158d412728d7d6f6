#include "tests/lib/test.h"

#include "common/err.h"
#include "common/mem.h"
#include "common/str.h"

TEST(str, durations)
{
        static const struct {
                const char *text;
                int64_t ms;
        } good[] = {{"300ms", 300},         {"10s", 10000},     {"5m", 300000}, {"1h", 3600000},
                    {"2d", 172800000},      {"1.5s", 1500},     {"0", 0},       {"0s", 0},
                    {"1m5s", 65000},        {"1h30m", 5400000}, {"0.5ms", 1},   {"1.0001s", 1001},
                    {"3660d", 316224000000}};
        static const char *const bad[] = {"",
                                          "5",
                                          "s",
                                          "-1s",
                                          "1 s",
                                          "1S",
                                          "1.s",
                                          ".5s",
                                          "1s1",
                                          "5s1m",
                                          "1s2s",
                                          "1x",
                                          "4000d",
                                          "1e3s",
                                          "99999999999999999999s",
                                          "9223372036854775807d",
                                          "0x10s",
                                          "1.5",
                                          "00"};
        int64_t v = -1;

        for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
                CHECK_INT(str_parse_duration(good[i].text, &v), 0);
                CHECK_INT(v, good[i].ms);
        }
        v = 77;
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
                if (str_parse_duration(bad[i], &v) != -E_INVAL)
                        test_fail(__FILE__, __LINE__, "\"%s\" was taken as a duration", bad[i]);
        CHECK_INT(v, 77);
}

TEST(str, durations_read_back_what_was_printed)
{
        static const int64_t values[] = {0,     1,     999,   1000,    1500,     1001,
                                         59999, 60000, 65250, 3600000, 90061001, 86400000};
        char text[32];
        int64_t v;

        for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
                str_format_duration(values[i], text);
                CHECK_INT(str_parse_duration(text, &v), 0);
                CHECK_INT(v, values[i]);
        }
        str_format_duration(65000, text);
        CHECK_STR(text, "1m5s");
        str_format_duration(300, text);
        CHECK_STR(text, "300ms");
        str_format_duration(-1500, text);
        CHECK_STR(text, "-1.5s");
        str_format_duration(INT64_MIN, text);
        str_format_duration(INT64_MAX, text);
}

TEST(str, sizes)
{
        static const struct {
                const char *text;
                int64_t n;
        } good[] = {{"0", 0},           {"123", 123},     {"64KiB", 65536},
                    {"10MB", 10000000}, {"1.5KiB", 1536}, {"1GiB", 1 << 30},
                    {"5B", 5},          {"2kB", 2000},    {"9223372036854775807", INT64_MAX}};
        static const char *const bad[] = {
                "", "K", "-1", "1 KiB", "1kib", "1.5", "1.5B", "8388608TiB", "9223372036854775808", "1KiBx"};
        int64_t v = -1;
        char text[32];

        for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
                CHECK_INT(str_parse_size(good[i].text, &v), 0);
                CHECK_INT(v, good[i].n);
        }
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
                if (str_parse_size(bad[i], &v) != -E_INVAL)
                        test_fail(__FILE__, __LINE__, "\"%s\" was taken as a size", bad[i]);
        str_format_size(65536, text);
        CHECK_STR(text, "64KiB");
        str_format_size(1500, text);
        CHECK_STR(text, "1.5KiB");
        str_format_size(INT64_MAX, text);
        str_format_size(-5, text);
        CHECK_STR(text, "-5B");
}

TEST(str, integers)
{
        int64_t v;

        CHECK_INT(str_parse_i64("-12", -20, 20, &v), 0);
        CHECK_INT(v, -12);
        CHECK_INT(str_parse_i64("-9223372036854775808", INT64_MIN, INT64_MAX, &v), 0);
        CHECK(v == INT64_MIN);
        CHECK_INT(str_parse_i64("9223372036854775808", INT64_MIN, INT64_MAX, &v), -E_INVAL);
        CHECK_INT(str_parse_i64("21", -20, 20, &v), -E_INVAL);
        CHECK_INT(str_parse_i64("", 0, 9, &v), -E_INVAL);
        CHECK_INT(str_parse_i64(" 1", 0, 9, &v), -E_INVAL);
        CHECK_INT(str_parse_i64("+1", 0, 9, &v), -E_INVAL);
        CHECK_INT(str_parse_i64("1x", 0, 9, &v), -E_INVAL);
        CHECK_INT(str_parse_i64("-", -9, 9, &v), -E_INVAL);
}

TEST(str, globs)
{
        char many[2001];

        CHECK(str_glob("*", "") && str_glob("", "") && !str_glob("", "a") && !str_glob("?", ""));
        CHECK(str_glob("web-*", "web-12") && !str_glob("web-*", "db-1"));
        CHECK(str_glob("*a*b?", "xxaybbz") && !str_glob("*a*b?", "xxayb"));
        CHECK(str_glob("[a]", "[a]") && !str_glob("[a]", "a"));
        memset(many, 'a', 2000);
        many[2000] = '\0';
        CHECK(!str_glob("*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b", many));
}

TEST(str, utf8)
{
        static const char *const bad[] = {
                "\x80",         "\xc0\x80",         "\xc1\xbf",         "\xe0\x9f\xbf",
                "\xed\xa0\x80", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80",
                "\xc3",         "\xe2\x82",         "abcdefgh\xff",     "\xf0\x9f\x98"};
        char *s;

        CHECK(str_is_utf8("", 0) && str_is_utf8("a\0b", 3));
        CHECK(str_is_utf8("h\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80 \xf4\x8f\xbf\xbf \xed\x9f\xbf", 21));
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
                CHECK(!str_is_utf8(bad[i], strlen(bad[i])));
        s = str_utf8_lossy("a\xff\xe2\x82z\0\xc3\xa9", 8);
        CHECK_STR(s, "a\xef\xbf\xbd\xef\xbf\xbdz\xef\xbf\xbd\xc3\xa9");
        mem_free(s);
        s = str_utf8_lossy("", 0);
        CHECK_STR(s, "");
        mem_free(s);
        CHECK_INT(str_utf8_len("\xe2\x82\xac", 3), 3);
        CHECK_INT(str_utf8_len("\xe2\x82\xac", 2), 0);
}

TEST(str, names)
{
        CHECK(str_is_name("web-01.a_b", 64) && str_is_name("1", 1));
        CHECK(!str_is_name("", 64) && !str_is_name("-a", 64) && !str_is_name("a b", 64) &&
              !str_is_name("ab", 1));
        CHECK(!str_is_name("a/b", 64) && !str_is_name("caf\xc3\xa9", 64));
}

TEST(str, hexadecimal)
{
        char text[9];
        uint8_t raw[4] = {0};

        str_hex("\x00\x7f\xab\xff", 4, text);
        CHECK_STR(text, "007fabff");
        CHECK_INT(str_unhex("007FABff", raw, 4), 0);
        CHECK(memcmp(raw, "\x00\x7f\xab\xff", 4) == 0);
        CHECK_INT(str_unhex("007fab", raw, 4), -E_INVAL);
        CHECK_INT(str_unhex("007fabff00", raw, 4), -E_INVAL);
        CHECK_INT(str_unhex("007fabfg", raw, 4), -E_INVAL);
}

/* RFC 4648 section 10. */
TEST(str, base64_vectors)
{
        static const char *const plain[] = {"", "f", "fo", "foo", "foob", "fooba", "foobar"};
        static const char *const coded[] = {"", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"};
        uint8_t *raw;
        size_t n;
        char *s;

        for (int i = 0; i < 7; i++) {
                s = str_b64(plain[i], strlen(plain[i]));
                CHECK_STR(s, coded[i]);
                CHECK_INT(str_unb64(s, strlen(s), &raw, &n), 0);
                CHECK(n == strlen(plain[i]));
                CHECK_STR((char *)raw, plain[i]);
                mem_free(s);
                mem_free(raw);
        }
        s = str_b64url("\xfb\xff\xfe", 3);
        CHECK_STR(s, "-__-");
        mem_free(s);
        s = str_b64url("f", 1);
        CHECK_STR(s, "Zg");
        mem_free(s);
}

TEST(str, base64_refuses_what_is_not_canonical)
{
        static const char *const bad[] = {
                "Zg", "Zg=", "Z===", "====", "Zh==", "Zm9=", "Zm8=Zm8=", "Zm 8", "Z-_=", "=", "Zm9v="};
        static const char *const bad_url[] = {"Zg==", "Zh", "Z", "Zm+v", "Zm/v", "Zm9"};
        uint8_t *raw = NULL;
        size_t n;

        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
                if (str_unb64(bad[i], strlen(bad[i]), &raw, &n) != -E_INVAL)
                        test_fail(__FILE__, __LINE__, "\"%s\" was decoded", bad[i]);
        for (size_t i = 0; i < sizeof bad_url / sizeof bad_url[0]; i++)
                if (str_unb64url(bad_url[i], strlen(bad_url[i]), &raw, &n) != -E_INVAL)
                        test_fail(__FILE__, __LINE__, "\"%s\" was decoded", bad_url[i]);
        CHECK(raw == NULL);
}

TEST(str, nearest)
{
        static const char *const words[] = {"timeout", "retry", "needs", "if", "env"};

        CHECK_STR(str_nearest("timout", words, 5), "timeout");
        CHECK_STR(str_nearest("reyrt", words, 5), "retry");
        CHECK_STR(str_nearest("need", words, 5), "needs");
        CHECK(str_nearest("xyzzy", words, 5) == NULL);
        CHECK(str_nearest("", words, 5) == NULL);
        CHECK(str_nearest("if", words, 0) == NULL);
}

TEST(str, compares_without_case)
{
        CHECK(str_ieq("Bearer", "bEARER") && str_ieq("", "") && !str_ieq("a", "ab") && !str_ieq("[", "{"));
}

static int make_all(void *arg)
{
        uint8_t *raw = NULL;
        size_t n;
        char *a = str_printf("%d", 5), *b = str_b64("abc", 3), *c = str_utf8_lossy("\xff", 1);
        int rc = str_unb64("Zm9v", 4, &raw, &n);

        (void)arg;
        if (!a || !b || !c)
                rc = -E_NOMEM;
        mem_free(a);
        mem_free(b);
        mem_free(c);
        mem_free(raw);
        return rc;
}

TEST(str, survives_no_memory)
{
        test_each_alloc_fails(make_all, NULL);
}
