#include "tests/lib/test.h"

#include "common/list.h"

struct item {
        int n;
        struct list link;
};

TEST(list, order_and_removal)
{
        struct item a = {.n = 1}, b = {.n = 2}, c = {.n = 3};
        struct list head;
        int sum = 0, digits = 0;

        list_init(&head);
        CHECK(list_empty(&head) && list_pop(&head) == NULL);
        list_push_back(&head, &b.link);
        list_push_back(&head, &c.link);
        list_push_front(&head, &a.link);
        LIST_EACH (it, &head)
                digits = digits * 10 + container_of(it, struct item, link)->n;
        CHECK_INT(digits, 123);
        list_remove(&b.link);
        list_remove(&b.link);
        LIST_EACH_SAFE (it, nx, &head) {
                sum += container_of(it, struct item, link)->n;
                list_remove(it);
        }
        CHECK_INT(sum, 4);
        CHECK(list_empty(&head));
}
