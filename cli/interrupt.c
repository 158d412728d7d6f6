#include "cli/interrupt.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <unistd.h>

static volatile sig_atomic_t count, last;
static int ends[2] = {-1, -1};

static void on_signal(int sig)
{
        int saved = errno;
        ssize_t n;

        count++;
        last = sig;
        n = write(ends[1], "", 1); /* full: it is readable already */
        (void)n;
        errno = saved;
}

void interrupt_catch(void)
{
        static const int sigs[] = {SIGINT, SIGTERM, SIGHUP};
        struct sigaction sa = {.sa_handler = on_signal}; /* no SA_RESTART: a blocked write must notice */

        if (ends[0] >= 0 || pipe2(ends, O_CLOEXEC | O_NONBLOCK))
                return;
        sigemptyset(&sa.sa_mask);
        for (size_t i = 0; i < sizeof sigs / sizeof *sigs; i++) {
                struct sigaction old;

                /* nohup and background jobs of old shells: what was ignored stays ignored. */
                if (sigaction(sigs[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
                        sigaction(sigs[i], &sa, NULL);
        }
}

int interrupt_count(void)
{
        return count;
}

int interrupt_signal(void)
{
        return last;
}

int interrupt_fd(void)
{
        return ends[0];
}

void interrupt_clear(void)
{
        char b[64];

        while (ends[0] >= 0 && read(ends[0], b, sizeof b) > 0)
                ;
}
