/* How often a token and an address may ask: the buckets alone, with a clock of the test's own, and in the
 * API. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/mem.h"
#include "hub/http/limit.h"
#include "tests/lib/api_world.h"
#include "tests/lib/test.h"

static int taken(struct limit *l, const char *key, int tries, int64_t now_ms)
{
        int n = 0;

        for (int i = 0; i < tries; i++)
                n += limit_take(l, key, strlen(key), now_ms) == 0;
        return n;
}

TEST(limit, a_burst_then_the_rate)
{
        struct limit *l = NULL;

        CHECK_INT(limit_create(10, 20, &l), 0);
        CHECK_INT(taken(l, "a", 100, 5000), 20);
        CHECK_INT(taken(l, "a", 100, 5050), 0);
        CHECK_INT(limit_wait(l, "a", 1, 5000), 100); /* the next comes after a tenth of a second */
        CHECK_INT(limit_wait(l, "a", 1, 5060), 40);
        CHECK_INT(taken(l, "a", 100, 5100), 1);
        CHECK_INT(taken(l, "a", 100, 6100), 10);
        CHECK_INT(taken(l, "a", 100, 100000), 20); /* left alone it is full, and no fuller */
        limit_free(l);
}

TEST(limit, one_is_not_the_other)
{
        struct limit *l = NULL;

        CHECK_INT(limit_create(1, 3, &l), 0);
        CHECK_INT(taken(l, "a", 10, 1000), 3);
        CHECK_INT(taken(l, "b", 10, 1000), 3);
        CHECK_INT(taken(l, "a", 10, 1000), 0);
        limit_free(l);
}

TEST(limit, looking_takes_nothing)
{
        struct limit *l = NULL;

        CHECK_INT(limit_create(1, 2, &l), 0);
        for (int i = 0; i < 10; i++)
                CHECK_INT(limit_wait(l, "a", 1, 1000), 0);
        CHECK_INT(taken(l, "a", 10, 1000), 2);
        CHECK(limit_wait(l, "a", 1, 1000) > 0);
        limit_free(l);
}

TEST(limit, none_is_none)
{
        struct limit *l = (struct limit *)1;

        CHECK_INT(limit_create(0, 10, &l), 0);
        CHECK(l == NULL);
        CHECK_INT(taken(l, "a", 1000, 0), 1000);
        limit_free(l);
}

/* However many come, memory stays as it is, and one that is over its limit stays so while few are busy. */
TEST(limit, a_crowd_costs_no_memory)
{
        struct limit *l = NULL;
        char key[32];

        CHECK_INT(limit_create(1, 5, &l), 0);
        CHECK_INT(taken(l, "busy", 10, 1000), 5);
        for (int i = 0; i < 100; i++) {
                snprintf(key, sizeof key, "k%d", i);
                CHECK_INT(taken(l, key, 1, 1000), 1);
        }
        CHECK_INT(taken(l, "busy", 10, 1000), 0);
        for (int i = 0; i < 200000; i++) {
                snprintf(key, sizeof key, "x%d", i);
                limit_take(l, key, strlen(key), 1000);
        }
        CHECK(taken(l, "newcomer", 10, 1000) <= 5);
        limit_free(l);
}

TEST(limit, what_counts_as_one_address)
{
        struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = 1},
                           b = {.sin_family = AF_INET, .sin_port = 2};
        struct sockaddr_in6 c = {.sin6_family = AF_INET6}, d = {.sin6_family = AF_INET6};
        uint8_t x[16], y[16];

        inet_pton(AF_INET, "192.0.2.1", &a.sin_addr);
        inet_pton(AF_INET, "192.0.2.1", &b.sin_addr);
        limit_address((struct sockaddr *)&a, x);
        limit_address((struct sockaddr *)&b, y);
        CHECK(memcmp(x, y, 16) == 0);
        inet_pton(AF_INET6, "::ffff:192.0.2.1", &c.sin6_addr);
        limit_address((struct sockaddr *)&c, y);
        CHECK(memcmp(x, y, 16) == 0);
        inet_pton(AF_INET6, "2001:db8:1:2::1", &c.sin6_addr);
        inet_pton(AF_INET6, "2001:db8:1:2:ffff::9", &d.sin6_addr);
        limit_address((struct sockaddr *)&c, x);
        limit_address((struct sockaddr *)&d, y);
        CHECK(memcmp(x, y, 16) == 0);
        inet_pton(AF_INET6, "2001:db8:1:3::1", &d.sin6_addr);
        limit_address((struct sockaddr *)&d, y);
        CHECK(memcmp(x, y, 16) != 0);
}

/* ---- in the API; its clock stands until the test moves it ---- */

static _Atomic int64_t stood_ms = 1000000;

static int64_t stand_now_us(void *ctx)
{
        (void)ctx;
        return clock_now_us(&clock_system);
}

static int64_t stand_mono_ms(void *ctx)
{
        (void)ctx;
        return stood_ms;
}

static const struct clock standing = {.now_us = stand_now_us, .mono_ms = stand_mono_ms};

static void three_a_second(struct http_options *o)
{
        o->clock = &standing;
        o->rate_per_token = 3;
}

static void three_from_one_address(struct http_options *o)
{
        o->clock = &standing;
        o->rate_per_ip = 3;
}

static void slow_guesses(struct http_options *o)
{
        o->clock = &standing;
}

TEST(http_limit, a_token_that_asks_too_often_waits)
{
        struct api_world *w = world_start(three_a_second);
        char *other = world_make_token(w, "client");
        struct answer a;

        for (int i = 0; i < 3 * LIMIT_BURST_S; i++) {
                a = get(w, "/api/v1/whoami");
                CHECK_INT(a.status, 200);
                answer_fini(&a);
        }
        a = get(w, "/api/v1/whoami");
        CHECK_INT(a.status, 429);
        CHECK_STR(answer_str(&a, "code"), "rate_limited");
        CHECK(strstr(a.headers, "Retry-After: 1") != NULL);
        answer_fini(&a);
        a = ask(w, "GET", "/api/v1/whoami", NULL, NULL, 0, other, NULL); /* whoever else is not held up */
        CHECK_INT(a.status, 200);
        answer_fini(&a);
        stood_ms += 1000;
        for (int i = 0; i < 3; i++) {
                a = get(w, "/api/v1/whoami");
                CHECK_INT(a.status, 200);
                answer_fini(&a);
        }
        a = get(w, "/api/v1/whoami");
        CHECK_INT(a.status, 429);
        answer_fini(&a);
        mem_free(other);
        world_stop(w);
}

TEST(http_limit, an_address_that_asks_too_often_waits_whoever_asks)
{
        struct api_world *w = world_start(three_from_one_address);
        struct answer a;

        for (int i = 0; i < 3 * LIMIT_BURST_S; i++) {
                a = ask(w, "GET", "/healthz", NULL, NULL, 0, "", NULL);
                CHECK_INT(a.status, 200);
                answer_fini(&a);
        }
        a = get(w, "/api/v1/whoami");
        CHECK_INT(a.status, 429);
        CHECK(strstr(a.body, "from this address") != NULL);
        answer_fini(&a);
        stood_ms += 400;
        a = get(w, "/api/v1/whoami");
        CHECK_INT(a.status, 200);
        answer_fini(&a);
        world_stop(w);
}

TEST(http_limit, guesses_are_slowed_down_and_known_tokens_go_on)
{
        struct api_world *w = world_start(slow_guesses);
        struct answer a;
        int refused = 0;

        a = get(w, "/api/v1/whoami"); /* known for a second now */
        CHECK_INT(a.status, 200);
        answer_fini(&a);
        for (int i = 0; i < 60; i++) {
                a = ask(w, "GET", "/api/v1/whoami", NULL, NULL, 0,
                        "pat_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", NULL);
                CHECK(a.status == 401 || a.status == 429);
                refused += a.status == 429;
                answer_fini(&a);
        }
        CHECK_INT(refused, 10);
        stood_ms += 2000;
        a = get(w, "/api/v1/whoami");
        CHECK_INT(a.status, 200);
        answer_fini(&a);
        world_stop(w);
}
