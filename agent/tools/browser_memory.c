/* What a browser and its processes hold: memory of their own, not what they share with the files they were
 * loaded from. They are those of its session. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/tools/browser_in.h"

/* Reads /proc/PID/NAME; a process that has gone has nothing. */
static size_t read_file(int proc, const char *pid, const char *name, char *out, size_t cap)
{
        char path[64];
        ssize_t n = -1;
        int fd;

        snprintf(path, sizeof path, "%.20s/%s", pid, name);
        fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
        if (fd >= 0) {
                n = read(fd, out, cap - 1);
                close(fd);
        }
        out[n > 0 ? n : 0] = '\0';
        return n > 0 ? (size_t)n : 0;
}

/* "pid (name) state ppid pgrp session ...": the name may hold anything. */
static pid_t session_of(const char *stat)
{
        const char *end = strrchr(stat, ')');
        int session = 0;

        if (!end || sscanf(end + 1, " %*c %*d %*d %d", &session) != 1)
                return 0;
        return session;
}

static uint64_t kilobytes(const char *status, const char *key)
{
        const char *at = strstr(status, key);

        return at ? strtoull(at + strlen(key), NULL, 10) : 0;
}

void browser_memory_look(struct browser_memory *m)
{
        char text[8192];
        DIR *d = opendir("/proc");
        struct dirent *x;
        uint64_t most = 0;

        m->bytes = 0;
        m->largest = 0;
        while (d && (x = readdir(d))) {
                uint64_t held;

                if (x->d_name[0] < '0' || x->d_name[0] > '9' ||
                    !read_file(dirfd(d), x->d_name, "stat", text, sizeof text) || session_of(text) != m->pid)
                        continue;
                read_file(dirfd(d), x->d_name, "status", text, sizeof text);
                held = (kilobytes(text, "RssAnon:") + kilobytes(text, "RssShmem:")) << 10;
                m->bytes += held;
                read_file(dirfd(d), x->d_name, "cmdline", text, sizeof text);
                for (char *s = text; s < text + sizeof text - 1 && *s; s += strlen(s) + 1)
                        if (strcmp(s, "--type=renderer") == 0 && held > most) {
                                most = held;
                                m->largest = (pid_t)strtol(x->d_name, NULL, 10);
                        }
        }
        if (d)
                closedir(d);
}
