#include "tests/lib/test.h"

#include "common/err.h"
#include "common/str.h"

#include <errno.h>

TEST(err, names_are_stable_and_reversible)
{
        CHECK_STR(err_name(0), "ok");
        CHECK_STR(err_name(E_INVAL), "invalid_argument");
        CHECK_STR(err_name(-E_INVAL), "invalid_argument");
        for (int c = 1; c < E_MAX_CODE; c++)
                CHECK_INT(err_from_name(err_name(c)), c);
        CHECK_INT(err_from_name("no such thing"), E_INTERNAL);
        CHECK_INT(err_from_name(NULL), E_INTERNAL);
}

TEST(err, codes_out_of_range_are_internal)
{
        CHECK_STR(err_name(9999), "internal");
        CHECK_STR(err_name(-9999), "internal");
        CHECK_STR(err_name(-2147483647 - 1), "internal");
        CHECK_INT(err_to_grpc(9999), 13);
}

TEST(err, grpc_numbers)
{
        CHECK_INT(err_to_grpc(0), 0);
        CHECK_INT(err_to_grpc(-E_UNAUTH), 16);
        CHECK_INT(err_to_grpc(E_TIMEOUT), 4);
}

TEST(err, errno_codes)
{
        CHECK_INT(err_from_errno(0), 0);
        CHECK_INT(err_from_errno(ENOSPC), E_NOSPACE);
        CHECK_INT(err_from_errno(EDQUOT), E_NOSPACE);
        CHECK_INT(err_from_errno(EROFS), E_READONLY);
        CHECK_INT(err_from_errno(EACCES), E_DENIED);
        CHECK_INT(err_from_errno(EIO), E_IO);
        CHECK_INT(err_from_errno(123456), E_IO);
}

TEST(err, message_and_position)
{
        struct err e;

        CHECK_INT(err_at(&e, E_INVAL, 3, 7, "bad %s", "thing"), -E_INVAL);
        CHECK_INT(e.code, E_INVAL);
        CHECK_INT(e.line, 3);
        CHECK_INT(e.col, 7);
        CHECK_STR(e.msg, "bad thing");
        CHECK_INT(err_set(&e, -E_NOENT, "wrapped: %s", e.msg), -E_NOENT);
        CHECK_STR(e.msg, "wrapped: bad thing");
        CHECK_INT(e.line, 0);
        CHECK_INT(err_set(NULL, E_IO, "nobody listens"), -E_IO);
}

TEST(err, truncates_at_a_character)
{
        struct err e;
        char text[1024];

        for (int shift = 0; shift < 4; shift++) {
                size_t n = 0;

                while ((int)n < shift)
                        text[n++] = 'x';
                for (; n + 4 < sizeof text; n += 4)
                        memcpy(text + n, "\xf0\x9f\x98\x80", 4);
                text[n] = '\0';
                err_set(&e, E_INVAL, "%s", text);
                CHECK(strlen(e.msg) >= 508);
                CHECK(str_is_utf8(e.msg, strlen(e.msg)));
        }
}
