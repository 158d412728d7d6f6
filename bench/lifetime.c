/* Runs a program in its own place and notes how long that lived: copied to DIR/NAME it starts DIR/NAME.real
 * with the arguments it got, and appends nanoseconds, a line a life, to DIR/NAME.times. What it costs itself
 * (a fork, no shell) is small against what is measured with it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long now_ns(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int main(int argc, char **argv)
{
        long long began = now_ns();
        char self[4000], path[4096];
        ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
        int status;
        pid_t pid;
        FILE *f;

        (void)argc;
        if (n <= 0)
                return 126;
        self[n] = '\0';
        snprintf(path, sizeof path, "%s.real", self);
        pid = vfork();
        if (pid == 0) {
                execv(path, argv);
                _exit(127);
        }
        if (pid < 0 || waitpid(pid, &status, 0) != pid)
                return 126;
        snprintf(path, sizeof path, "%s.times", self);
        f = fopen(path, "a");
        if (!f || fprintf(f, "%lld\n", now_ns() - began) < 0 || fclose(f) != 0)
                return 126;
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
