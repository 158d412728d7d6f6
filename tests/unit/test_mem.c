#include "tests/lib/test.h"

#include "common/err.h"
#include "common/mem.h"

#include <cjson/cJSON.h>

TEST(mem, fails_exactly_the_nth)
{
        void *a, *b, *c;

        mem_fail_nth(2);
        a = mem_alloc(1);
        b = mem_alloc(1);
        c = mem_alloc(1);
        CHECK(a && !b && c);
        CHECK_INT(mem_fail_nth(0), 3);
        mem_free(a);
        mem_free(c);
        mem_free(NULL);
}

TEST(mem, overflow_and_zero)
{
        size_t huge = (size_t)1 << 62;
        void *p = mem_calloc(0, 0);

        CHECK(p != NULL);
        mem_free(p);
        CHECK(mem_calloc(huge, 8) == NULL);
        p = mem_alloc(0);
        CHECK(p != NULL);
        p = mem_realloc(p, 0);
        CHECK(p != NULL);
        mem_free(p);
}

TEST(mem, copies)
{
        char *s = mem_strdup("photon"), *t = mem_strndup("photon", 3), *u = mem_strndup("ph", 10);
        char *d = mem_dup("a\0b", 3), *none = mem_strndup(NULL, 0);

        CHECK_STR(none, "");
        CHECK_STR(s, "photon");
        CHECK_STR(t, "pho");
        CHECK_STR(u, "ph");
        CHECK(memcmp(d, "a\0b", 3) == 0);
        mem_wipe(s, 6);
        CHECK(memcmp(s, "\0\0\0\0\0\0", 6) == 0);
        mem_wipe(NULL, 0);
        mem_free(s);
        mem_free(t);
        mem_free(u);
        mem_free(d);
        mem_free(none);
}

TEST(mem, cjson_allocates_here)
{
        cJSON *v;

        mem_fail_nth(1);
        v = cJSON_CreateObject();
        CHECK(mem_fail_nth(0) > 0);
        CHECK(v == NULL);
}
