/* What a killed agent leaves behind is ended, and nothing else is. */
#include "agent/keeper.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/journal.h"
#include "agent/procid.h"
#include "common/str.h"
#include "tests/lib/test.h"

/* One for each test: they run side by side. */
static const char *folder(const char *more)
{
        static char out[2][64];
        char *p = out[*more ? 1 : 0];

        snprintf(p, sizeof out[0], "/x/%d/scratch%s", (int)getpid(), more);
        return p;
}

/* A program with a call's mark, in a session of its own; it has begun when this returns. */
static pid_t call_of(const char *scratch_root, const char *script)
{
        char *mark = str_printf("PHOTON_OUTPUT=%s/3/output", scratch_root);
        char *env[] = {mark, NULL}, *argv[] = {(char *)"sh", (char *)"-c", (char *)(uintptr_t)script, NULL};
        int ends[2];
        char c;
        pid_t pid;

        CHECK_INT(pipe(ends), 0);
        pid = fork();
        if (pid == 0) {
                setsid();
                dup2(ends[1], STDOUT_FILENO);
                close(ends[0]);
                close(ends[1]);
                execve("/bin/sh", argv, env);
                _exit(127);
        }
        CHECK(pid > 0);
        close(ends[1]);
        CHECK_INT(read(ends[0], &c, 1), 1);
        close(ends[0]);
        free(mark);
        return pid;
}

static uint64_t start_of(pid_t pid)
{
        struct journal_proc p;

        CHECK_INT(procid_read(pid, &p), 0);
        return p.start;
}

TEST(keeper, who_was_there_is_ended_whoever_ignores_signals)
{
        pid_t pid = call_of(folder(""), "trap '' TERM HUP; echo .; while :; do sleep 1000; done");
        int status;

        CHECK(keeper_end(folder(""), start_of(pid)) >= 1);
        CHECK_INT(waitpid(pid, &status, 0), pid);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

TEST(keeper, who_began_later_belongs_to_another_agent)
{
        pid_t pid = call_of(folder(""), "echo .; exec sleep 1000");
        int status;

        CHECK_INT(keeper_end(folder(""), start_of(pid) - 1), 0);
        CHECK_INT(waitpid(pid, &status, WNOHANG), 0);
        kill(pid, SIGKILL);
}

TEST(keeper, another_folders_calls_are_left_alone)
{
        pid_t pid = call_of(folder("2"), "echo .; exec sleep 1000");
        int status;

        CHECK_INT(keeper_end(folder(""), start_of(pid)), 0);
        CHECK_INT(waitpid(pid, &status, WNOHANG), 0);
        kill(pid, SIGKILL);
}

TEST(keeper, children_that_come_meanwhile_go_with_their_parents)
{
        pid_t pid = call_of(folder(""), "trap '' HUP; echo .; while :; do sleep 1000 & sleep 0.01; done");
        uint64_t end = start_of(pid);
        pid_t later;
        int status;

        /* Until children are younger than `end`: one that begins now would be. */
        do {
                later = call_of(folder("2"), "echo .; exec sleep 1000");
                status = start_of(later) > end + 5;
                kill(later, SIGKILL);
                CHECK_INT(waitpid(later, NULL, 0), later);
        } while (!status);
        CHECK(keeper_end(folder(""), end) >= 2);
        CHECK_INT(waitpid(pid, &status, 0), pid);
        while (kill(-pid, 0) == 0) /* its group dies out, without another signal */
                sched_yield();
        CHECK_INT(errno, ESRCH);
}
