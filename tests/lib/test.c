/* What runs inside a test's process: failing, scratch folders, faults. */
#include "tests/lib/test.h"
#include "tests/lib/runner.h"

#include "common/err.h"
#include "common/mem.h"

#include <ftw.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define ALLOCS_MAX 200000

static struct test_case *cases;
static char scratch[PATH_MAX];
static pid_t scratch_owner;

void test_register(struct test_case *t)
{
        t->next = cases;
        cases = t;
}

struct test_case *test_cases(void)
{
        return cases;
}

void test_fail(const char *file, int line, const char *fmt, ...)
{
        va_list ap;

        fflush(stdout);
        fprintf(stderr, "%s:%d: ", file, line);
        va_start(ap, fmt);
        vfprintf(stderr, fmt, ap);
        va_end(ap);
        fputc('\n', stderr);
        if (scratch[0])
                fprintf(stderr, "  the scratch folder is kept: %s\n", scratch);
        fflush(stderr);
        _exit(1);
}

const char *test_scratch(void)
{
        const char *tmp = getenv("TMPDIR");

        if (scratch[0])
                return scratch;
        snprintf(scratch, sizeof scratch, "%s/photon-test-XXXXXX", tmp && *tmp ? tmp : "/tmp");
        if (!mkdtemp(scratch)) {
                perror(scratch);
                _exit(1);
        }
        scratch_owner = getpid();
        return scratch;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *f)
{
        (void)st;
        (void)type;
        (void)f;
        return remove(path);
}

static int open_one(const char *path, const struct stat *st, int type, struct FTW *f)
{
        (void)f;
        /* A test may have taken rights away to see an error. */
        if (type == FTW_D || type == FTW_DNR)
                return chmod(path, st->st_mode | 0700);
        return 0;
}

void test_scratch_remove(void)
{
        if (!scratch[0] || scratch_owner != getpid())
                return;
        nftw(scratch, open_one, 16, FTW_PHYS);
        if (nftw(scratch, remove_one, 16, FTW_DEPTH | FTW_PHYS))
                perror(scratch);
}

void test_each_alloc_fails(int (*fn)(void *arg), void *arg)
{
        for (unsigned long n = 1; n < ALLOCS_MAX; n++) {
                unsigned long made;
                int rc;

                mem_fail_nth(n);
                rc = fn(arg);
                made = mem_fail_nth(0);
                if (rc != 0 && (rc != -E_NOMEM || made < n))
                        test_fail(__FILE__, __LINE__, "with allocation %lu of %lu failing: %s", n, made,
                                  err_name(rc));
                if (made < n)
                        return;
        }
        test_fail(__FILE__, __LINE__, "more than %d allocations", ALLOCS_MAX);
}
