/* What starting /bin/true costs here without anything around it, beside which
 * the rate of process.exec steps is looked at.
 *
 *     spawn_rate COUNT [AT_ONCE]     fork, exec and wait; prints JSON */
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now_s(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
        long count = argc > 1 ? atol(argv[1]) : 0, at_once = argc > 2 ? atol(argv[2]) : 1, running = 0;
        double began = now_s();

        if (count < 1 || at_once < 1) {
                fprintf(stderr, "usage: spawn_rate COUNT [AT_ONCE]\n");
                return 64;
        }
        for (long started = 0, ended = 0; ended < count;) {
                int status;

                if (started < count && running < at_once) {
                        pid_t pid = fork();

                        if (pid == 0) {
                                execl("/bin/true", "true", (char *)NULL);
                                _exit(127);
                        }
                        if (pid < 0) {
                                perror("spawn_rate: fork");
                                return 1;
                        }
                        started++;
                        running++;
                        continue;
                }
                if (wait(&status) < 0 || status != 0) {
                        fprintf(stderr, "spawn_rate: /bin/true failed\n");
                        return 1;
                }
                ended++;
                running--;
        }
        printf("{\"count\":%ld,\"at_once\":%ld,\"per_s\":%.0f}\n", count, at_once,
               (double)count / (now_s() - began));
        return 0;
}
