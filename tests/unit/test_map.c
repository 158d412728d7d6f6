#include "tests/lib/test.h"

#include "common/err.h"
#include "common/map.h"

#include <stdio.h>

static int value[5000];

TEST(map, holds_strings_and_numbers)
{
        struct map *m = map_create();
        void *old;

        CHECK(map_get(m, "a") == NULL && map_del(m, "a") == NULL && map_count(m) == 0);
        CHECK_INT(map_put(m, "a", &value[1], &old), 0);
        CHECK(old == NULL);
        CHECK_INT(map_put(m, "a", &value[2], &old), 0);
        CHECK(old == &value[1]);
        CHECK_INT(map_put(m, "", &value[3], NULL), 0);
        CHECK_INT(map_put_u64(m, 0, &value[4], NULL), 0);
        CHECK_INT(map_put_u64(m, UINT64_MAX, &value[5], NULL), 0);
        CHECK_INT(map_count(m), 4);
        CHECK(map_get(m, "a") == &value[2] && map_get(m, "") == &value[3]);
        CHECK(map_get_u64(m, 0) == &value[4] && map_get_u64(m, UINT64_MAX) == &value[5]);
        CHECK(map_get_u64(m, 1) == NULL);
        CHECK(map_del(m, "a") == &value[2] && map_get(m, "a") == NULL);
        CHECK(map_del_u64(m, 0) == &value[4] && map_count(m) == 2);
        map_free(m);
        map_free(NULL);
}

TEST(map, many_items_come_and_go)
{
        struct map *m = map_create();
        char key[32];

        for (int round = 0; round < 3; round++) {
                for (int i = 0; i < 5000; i++) {
                        snprintf(key, sizeof key, "key-%d", i);
                        CHECK_INT(map_put(m, key, &value[i], NULL), 0);
                }
                CHECK_INT(map_count(m), 5000);
                for (int i = 0; i < 5000; i++) {
                        snprintf(key, sizeof key, "key-%d", i);
                        CHECK(map_get(m, key) == &value[i]);
                        if (i % 3 != round)
                                CHECK(map_del(m, key) == &value[i]);
                }
        }
        map_free(m);
}

/* A queue keyed by number: tombstones must not pile up. */
TEST(map, sliding_window_stays_fast)
{
        struct map *m = map_create();

        for (uint64_t i = 0; i < 300000; i++) {
                CHECK_INT(map_put_u64(m, i, &value[0], NULL), 0);
                if (i >= 10)
                        CHECK(map_del_u64(m, i - 10) == &value[0]);
        }
        CHECK_INT(map_count(m), 10);
        map_free(m);
}

TEST(map, iterates_and_deletes_the_current)
{
        struct map *m = map_create();
        char name[32];
        size_t it = 0;
        const char *key;
        void *v;
        int seen = 0, left = 0;

        for (int i = 0; i < 100; i++) {
                snprintf(name, sizeof name, "%d", i);
                CHECK_INT(i % 2 ? map_put(m, name, &value[i], NULL)
                                : map_put_u64(m, (uint64_t)i, &value[i], NULL),
                          0);
        }
        while (map_next(m, &it, &key, &v)) {
                seen++;
                if (key)
                        CHECK(map_del(m, key) == v);
        }
        CHECK_INT(seen, 100);
        for (it = 0; map_next(m, &it, NULL, NULL);)
                left++;
        CHECK_INT(left, 50);
        map_free(m);
}

static int fill(void *arg)
{
        struct map *m = map_create();
        char key[32];
        int rc = m ? 0 : -E_NOMEM;

        (void)arg;
        for (int i = 0; i < 40 && !rc; i++) {
                snprintf(key, sizeof key, "k%d", i);
                rc = map_put(m, key, &value[i], NULL);
                if (rc && map_get(m, key))
                        rc = -E_INTERNAL;
        }
        map_free(m);
        return rc;
}

TEST(map, survives_no_memory)
{
        test_each_alloc_fails(fill, NULL);
}
