/* The test runner: a process per test, a few at a time.
 *
 *     unit [-jN] [-v] [-tSECONDS] [--list] [FILTER...]
 *
 * A test passes when its process ends with status 0 in time. Only failing
 * tests' output is shown (-v: all). Exit status 0: some ran and all passed.
 *
 * Where one or two of many fail by a check of their own or by the clock, each
 * is run once more alone: one that holds then is named FLAKY and counts as
 * passed. What a sanitizer finds, or a signal ends, has no second chance. */
#include "tests/lib/runner.h"
#include "tests/lib/test.h"

#include "common/mem.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define JOBS_MAX  64
#define FLAKY_MAX 2 /* tests run again; more than that is no accident */

/* What a sanitizer ends a process with; a test's own check ends it with 1. */
#define SANITIZER_STATUS "86"
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
        return "exitcode=" SANITIZER_STATUS;
}

struct job {
        pid_t pid; /* 0: free */
        int out;   /* memory file with stdout and stderr */
        const struct test_case *test;
        double started_s;
};

static struct {
        int jobs, timeout_s;
        bool verbose, list;
        char **filters;
} opt = {.jobs = 2, .timeout_s = 180};

static struct job running[JOBS_MAX];
static int passed, failed;
static const struct test_case *again[FLAKY_MAX]; /* the first that failed, while they may be tried again */
static bool hopeless;                            /* one failed in a way that is no accident */

static double now_s(void)
{
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static int by_name(const void *a, const void *b)
{
        const struct test_case *const *x = a, *const *y = b;
        int d = strcmp((*x)->area, (*y)->area);

        return d ? d : strcmp((*x)->name, (*y)->name);
}

static bool wanted(const struct test_case *t)
{
        char full[256];

        if (!opt.filters[0])
                return true;
        snprintf(full, sizeof full, "%s.%s", t->area, t->name);
        for (char **f = opt.filters; *f; f++)
                if (strstr(full, *f))
                        return true;
        return false;
}

static void run_child(const struct test_case *t, int out)
{
        /* Its own group, so that whatever it leaves running can be ended; and
         * it must not outlive a runner that was interrupted. */
        setpgid(0, 0);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(out, STDOUT_FILENO);
        dup2(out, STDERR_FILENO);
        close(out);
        alarm((unsigned)opt.timeout_s);
        t->fn();
        alarm(0);
        test_scratch_remove();
        exit(0); /* not _exit: the leak checker runs at exit */
}

static void start(struct job *j, const struct test_case *t)
{
        j->test = t;
        j->started_s = now_s();
        j->out = memfd_create("test output", MFD_CLOEXEC);
        fflush(stdout);
        j->pid = j->out < 0 ? -1 : fork();
        if (j->pid == 0)
                run_child(t, j->out);
        if (j->pid < 0) {
                perror("cannot start a test");
                exit(1);
        }
        setpgid(j->pid, j->pid);
}

static void show_output(int fd)
{
        char text[4096];
        ssize_t n;

        lseek(fd, 0, SEEK_SET);
        while ((n = read(fd, text, sizeof text)) > 0)
                fwrite(text, 1, (size_t)n, stdout);
}

static void note_failure(const struct test_case *t, int status)
{
        bool late = WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM;
        bool by_check = WIFEXITED(status) && WEXITSTATUS(status) == 1;

        if (failed < FLAKY_MAX)
                again[failed] = t;
        if (!late && !by_check)
                hopeless = true;
        failed++;
}

static void finish(struct job *j, int status)
{
        bool ok = WIFEXITED(status) && WEXITSTATUS(status) == 0;
        double took_s = now_s() - j->started_s;

        kill(-j->pid, SIGKILL);
        if (ok)
                passed++;
        else
                note_failure(j->test, status);
        if (!ok || opt.verbose)
                printf("%s %s.%s (%.2f s)", ok ? "ok  " : "FAIL", j->test->area, j->test->name, took_s);
        if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
                printf(": no end after %d s", opt.timeout_s);
        else if (WIFSIGNALED(status))
                printf(": %s", strsignal(WTERMSIG(status)));
        else if (!ok && WEXITSTATUS(status) != 1)
                printf(": exit status %d", WEXITSTATUS(status));
        if (!ok || opt.verbose) {
                printf("\n");
                show_output(j->out);
                fflush(stdout);
        }
        close(j->out);
        j->pid = 0;
}

static void wait_one(void)
{
        int status;
        pid_t pid = waitpid(-1, &status, 0);

        if (pid < 0 && errno != EINTR) {
                perror("waitpid");
                exit(1);
        }
        for (int i = 0; i < opt.jobs; i++)
                if (pid > 0 && running[i].pid == pid)
                        finish(&running[i], status);
}

static void run_all(const struct test_case **tests, size_t n)
{
        size_t next = 0;
        int busy;

        do {
                busy = 0;
                for (int i = 0; i < opt.jobs; i++) {
                        if (!running[i].pid && next < n)
                                start(&running[i], tests[next++]);
                        busy += running[i].pid != 0;
                }
                if (busy)
                        wait_one();
        } while (busy);
}

/* Alone, nothing beside it: who holds then failed by the company it had. */
static void run_again(void)
{
        const struct test_case *tests[FLAKY_MAX];
        int n = failed;

        if (n == 0 || n > FLAKY_MAX || hopeless || passed < 10 * n)
                return;
        memcpy(tests, again, sizeof tests);
        opt.jobs = 1;
        for (int i = 0; i < n; i++) {
                int before = passed;

                failed--;
                run_all(&tests[i], 1);
                if (passed > before)
                        printf("FLAKY %s.%s: failed beside others, held alone\n", tests[i]->area,
                               tests[i]->name);
        }
}

static void parse_args(char **argv)
{
        for (argv++; *argv && (*argv)[0] == '-'; argv++) {
                if (strncmp(*argv, "-j", 2) == 0)
                        opt.jobs = atoi(*argv + 2);
                else if (strncmp(*argv, "-t", 2) == 0)
                        opt.timeout_s = atoi(*argv + 2);
                else if (strcmp(*argv, "-v") == 0)
                        opt.verbose = true;
                else if (strcmp(*argv, "--list") == 0)
                        opt.list = true;
                else
                        opt.jobs = 0;
        }
        if (opt.jobs < 1 || opt.jobs > JOBS_MAX || opt.timeout_s < 1) {
                fprintf(stderr, "usage: [-jN] [-v] [-tSECONDS] [--list] [FILTER...]\n");
                exit(64);
        }
        opt.filters = argv;
}

int main(int argc, char **argv)
{
        const struct test_case **tests;
        size_t n = 0;

        (void)argc;
        mem_install_hooks();
        parse_args(argv);
        for (const struct test_case *t = test_cases(); t; t = t->next)
                n++;
        tests = calloc(n + 1, sizeof *tests);
        if (!tests)
                return 1;
        n = 0;
        for (const struct test_case *t = test_cases(); t; t = t->next)
                if (wanted(t))
                        tests[n++] = t;
        qsort(tests, n, sizeof *tests, by_name);
        if (opt.list) {
                for (size_t i = 0; i < n; i++)
                        printf("%s.%s\n", tests[i]->area, tests[i]->name);
                free(tests);
                return 0;
        }
        run_all(tests, n);
        run_again();
        if (passed + failed == 0)
                printf("no test matches\n");
        printf("%d passed, %d failed\n", passed, failed);
        free(tests);
        return failed || !passed;
}
