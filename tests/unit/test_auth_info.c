#include "hub/auth/info.h"

#include "common/err.h"
#include "common/map.h"
#include "common/mem.h"
#include "tests/lib/test.h"

static void check_text(const struct info *i, const char *want)
{
        char *text = info_join(i);

        CHECK_STR(text, want);
        mem_free(text);
}

TEST(auth_info, equal_lists_of_tools_are_kept_once_and_texts_come_back_whole)
{
        struct map *tails = map_create();
        struct info a = {0}, b = {0}, none = {0};
        const char *x = "{\"os\":\"x\",\"tools\":[{\"name\":\"t\"}]}",
                   *y = "{\"os\":\"y\",\"tools\":[{\"name\":\"t\"}]}";

        CHECK(info_join(&none) == NULL);
        CHECK_INT(info_set(&a, tails, x), 0);
        CHECK_INT(info_set(&b, tails, y), 0);
        CHECK(a.tail == b.tail);
        CHECK_INT(map_count(tails), 1);
        check_text(&a, x);
        check_text(&b, y);
        CHECK_INT(info_set(&b, tails, y), 0); /* said again */
        info_fini(&a);
        check_text(&b, y);
        CHECK_INT(info_set(&b, tails, "{\"policy\":\"\\\",\\\"tools\\\":[\"}"), 0);
        CHECK(b.tail == NULL);
        check_text(&b, "{\"policy\":\"\\\",\\\"tools\\\":[\"}");
        CHECK_INT(map_count(tails), 0);
        info_fini(&b);
        map_free(tails);
}

static int set_once(void *arg)
{
        struct map *tails = map_create();
        struct info i = {0};
        int rc = tails ? info_set(&i, tails, "{\"a\":1,\"tools\":[]}") : -E_NOMEM;

        (void)arg;
        if (!tails)
                return rc;
        info_fini(&i);
        CHECK_INT(map_count(tails), 0);
        map_free(tails);
        return rc;
}

TEST(auth_info, survives_every_failing_allocation)
{
        test_each_alloc_fails(set_once, NULL);
}
