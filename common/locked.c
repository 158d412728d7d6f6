#include "common/locked.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/err.h"
#include "common/log.h"
#include "common/mem.h"

static size_t whole_pages(size_t n)
{
        size_t page = (size_t)sysconf(_SC_PAGESIZE);

        return (n + page - 1) / page * page;
}

void *locked_alloc(size_t n)
{
        void *p = mmap(NULL, whole_pages(n), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (p == MAP_FAILED)
                return NULL;
        /* Without the right to lock (RLIMIT_MEMLOCK) it works all the same, and somebody should know. */
        if (mlock(p, whole_pages(n)))
                log_warn("secret", "keys cannot be locked into memory and may be swapped: raise LimitMEMLOCK",
                         "error=%s", strerror(errno));
        if (madvise(p, whole_pages(n), MADV_DONTDUMP))
                log_warn("secret", "keys cannot be kept out of core dumps", "error=%s", strerror(errno));
        return p;
}

void locked_free(void *p, size_t n)
{
        if (!p)
                return;
        mem_wipe(p, n);
        munmap(p, whole_pages(n));
}

int process_no_dumps(void)
{
        struct rlimit core;

        if (getrlimit(RLIMIT_CORE, &core))
                return -err_from_errno(errno);
        core.rlim_cur = 0;
        if (setrlimit(RLIMIT_CORE, &core) || prctl(PR_SET_DUMPABLE, 0))
                return -err_from_errno(errno);
        return 0;
}
