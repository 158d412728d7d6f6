/* Between main.c (the runner) and test.c (inside a test); tests use test.h. */
#ifndef PHOTON_TEST_RUNNER_H
#define PHOTON_TEST_RUNNER_H

struct test_case;

struct test_case *test_cases(void); /* all that registered, linked by next */
void test_scratch_remove(void);

#endif
