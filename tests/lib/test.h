/* The test runner. Each TEST registers itself; main (tests/lib/main.c) forks
 * a process per test, so that one cannot disturb another, and prints
 * `N passed, N failed` last. Arguments are name filters (substring).
 *
 *     TEST(enroll, token_works_once) { CHECK(1 + 1 == 2); }
 */
#ifndef PHOTON_TEST_H
#define PHOTON_TEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct test_case {
        const char *area, *name;
        void (*fn)(void);
        struct test_case *next;
};

void test_register(struct test_case *t);
/* Records a failure and ends this test's process. */
void test_fail(const char *file, int line, const char *fmt, ...)
        __attribute__((format(printf, 3, 4), noreturn));

#define TEST(area_, name_)                                                                                   \
        static void test_##area_##_##name_(void);                                                            \
        static struct test_case tc_##area_##_##name_ = {#area_, #name_, test_##area_##_##name_, NULL};       \
        __attribute__((constructor)) static void reg_##area_##_##name_(void)                                 \
        {                                                                                                    \
                test_register(&tc_##area_##_##name_);                                                        \
        }                                                                                                    \
        static void test_##area_##_##name_(void)

#define CHECK(x)                                                                                             \
        do {                                                                                                 \
                if (!(x))                                                                                    \
                        test_fail(__FILE__, __LINE__, "CHECK(%s)", #x);                                      \
        } while (0)

#define CHECK_INT(a, b)                                                                                      \
        do {                                                                                                 \
                long long va_ = (long long)(a), vb_ = (long long)(b);                                        \
                if (va_ != vb_)                                                                              \
                        test_fail(__FILE__, __LINE__, "%s is %lld, expected %s = %lld", #a, va_, #b, vb_);   \
        } while (0)

#define CHECK_STR(a, b)                                                                                      \
        do {                                                                                                 \
                const char *sa_ = (a), *sb_ = (b);                                                           \
                if (!sa_ || !sb_ || strcmp(sa_, sb_) != 0)                                                   \
                        test_fail(__FILE__, __LINE__, "%s is \"%s\", expected \"%s\"", #a,                   \
                                  sa_ ? sa_ : "(null)", sb_ ? sb_ : "(null)");                               \
        } while (0)

/* A fresh folder under $TMPDIR, removed when the test's process ends well. */
const char *test_scratch(void);

/* Runs `fn(arg)` with the 1st, 2nd, ... allocation failing, until one run makes no
 * failing allocation. fn must leave nothing behind and return 0 or -E_NOMEM. */
void test_each_alloc_fails(int (*fn)(void *arg), void *arg);

#endif
