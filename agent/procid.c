#include "agent/procid.h"

#include "agent/journal.h"
#include "common/err.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Field 22 of /proc/PID/stat, after the command name, which may hold anything. */
static int proc_start(int pid, uint64_t *out)
{
        char path[64], text[1024], *p;
        ssize_t n;
        int fd;

        snprintf(path, sizeof path, "/proc/%d/stat", pid);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return -err_from_errno(errno);
        n = read(fd, text, sizeof text - 1);
        close(fd);
        if (n <= 0)
                return -E_IO;
        text[n] = '\0';
        p = strrchr(text, ')');
        for (int field = 2; p && field < 22; field++)
                p = strchr(p + 1, ' ');
        if (!p)
                return -E_IO;
        *out = strtoull(p + 1, NULL, 10);
        return 0;
}

static const char *boot_id(void)
{
        static char out[40];
        ssize_t n;
        int fd;

        if (out[0])
                return out;
        fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
        n = fd >= 0 ? read(fd, out, sizeof out - 1) : -1;
        if (fd >= 0)
                close(fd);
        out[n > 0 ? n : 0] = '\0';
        out[strcspn(out, "\n")] = '\0';
        return out;
}

int procid_read(int pid, struct journal_proc *out)
{
        struct journal_proc p = {.pid = pid};
        int rc = proc_start(pid, &p.start);

        if (rc)
                return rc;
        snprintf(p.boot, sizeof p.boot, "%s", boot_id());
        *out = p;
        return 0;
}

bool procid_matches(const struct journal_proc *p)
{
        uint64_t start;

        if (p->pid < 2 || strcmp(p->boot, boot_id()) != 0)
                return false;
        /* A number stays taken as long as a process group has it, so a free one cannot be a stranger's group.
         */
        return proc_start(p->pid, &start) != 0 || start == p->start;
}
