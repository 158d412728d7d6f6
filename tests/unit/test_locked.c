/* What keeps keys out of files: no dumps of the process, no swap and no dump of the pages. */
#include "common/locked.h"

#include <stdint.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/test.h"

#ifdef __has_feature
#define SANITIZED (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#else
#define SANITIZED 0
#endif

TEST(locked, a_process_that_says_so_is_not_dumped)
{
        pid_t pid = fork();
        int status;

        if (pid == 0) {
                struct rlimit core;

                if (process_no_dumps() || getrlimit(RLIMIT_CORE, &core))
                        _exit(1);
                _exit(prctl(PR_GET_DUMPABLE) != 0 ? 2 : core.rlim_cur != 0 ? 3 : 0);
        }
        CHECK(pid > 0);
        CHECK_INT(waitpid(pid, &status, 0), pid);
        CHECK(WIFEXITED(status));
        CHECK_INT(WEXITSTATUS(status), 0);
}

/* VmFlags of the mapping that holds p: "lo" is locked, "dd" is not dumped. */
static bool has_flag(const void *p, const char *flag)
{
        FILE *f = fopen("/proc/self/smaps", "r");
        char line[512];
        bool here = false, found = false;

        CHECK(f != NULL);
        while (fgets(line, sizeof line, f)) {
                unsigned long from, to;

                if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
                        here = from <= (uintptr_t)p && (uintptr_t)p < to;
                if (here && strncmp(line, "VmFlags:", 8) == 0)
                        found = strstr(line, flag) != NULL;
        }
        fclose(f);
        return found;
}

TEST(locked, pages_of_keys_are_neither_swapped_nor_dumped)
{
        uint8_t *p = locked_alloc(5000);

        CHECK(p != NULL);
        CHECK_INT(p[0] | p[4999], 0);
        p[4999] = 7;
        if (!SANITIZED) /* sanitizers make mlock do nothing */
                CHECK(has_flag(p, " lo"));
        CHECK(has_flag(p, " dd"));
        locked_free(p, 5000);
        locked_free(NULL, 1);
}
