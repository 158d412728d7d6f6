#include "tests/lib/test.h"

#include "common/id.h"

TEST(id, sorts_by_time)
{
        char a[ID_LEN], b[ID_LEN];

        for (int64_t t = 0; t < INT64_C(4000000000000000); t = t * 3 + 1000) {
                id_make(t, a);
                id_make(t * 3 + 1000, b);
                CHECK_INT(strlen(a), ID_LEN - 1);
                CHECK(strcmp(a, b) < 0);
                CHECK(strspn(a, "0123456789abcdefghjkmnpqrstvwxyz") == ID_LEN - 1);
        }
}

/* The example of the ULID specification: 1469918176385 ms is 01ARYZ6S41. */
TEST(id, time_part_is_a_ulid)
{
        char a[ID_LEN];

        id_make(INT64_C(1469918176385000), a);
        CHECK(strncmp(a, "01aryz6s41", 10) == 0);
        id_make(-5, a);
        CHECK(strncmp(a, "0000000000", 10) == 0);
}

TEST(id, differ)
{
        char a[ID_LEN], b[ID_LEN];

        id_make(1, a);
        id_make(1, b);
        CHECK(strcmp(a, b) != 0);
        CHECK(id_random_u64() != id_random_u64());
}
