/* process.exec: ending a command with all that it started. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/tools/process.h"
#include "common/err.h"
#include "tests/lib/test.h"
#include "tests/tools/fake.h"

#define EXEC "process.exec"

/* Cancels as soon as the command has printed "go". */
static void cancel_on_go(struct fake *f)
{
        if (f->out.len >= 2 && memmem(f->out.data, f->out.len, "go", 2)) {
                f->on_output = NULL;
                fake_cancel(f, f->grace_ms);
        }
}

static int pid_in(struct fake *f, const char *name)
{
        const char *s = fake_get(f, name);

        CHECK(s && atoi(s) > 1);
        return atoi(s);
}

TEST(process_end, cancel_sends_term)
{
        struct fake f;

        fake_init(&f, NULL);
        f.on_output = cancel_on_go;
        f.grace_ms = 60000;
        fake_call(&f, EXEC,
                  "{\"shell\":\"trap 'echo bye; exit 9' TERM; echo go; while :; do sleep 0.02; done\"}");
        CHECK_INT(f.outcome, TOOL_CANCELLED);
        CHECK_STR(f.code, "cancelled");
        CHECK_INT(f.exit_code, 9);
        CHECK(strstr(fake_text(&f, "stdout"), "bye"));
        fake_fini(&f);
}

TEST(process_end, term_ignored_gets_kill_after_grace)
{
        struct fake f;

        fake_init(&f, NULL);
        f.on_output = cancel_on_go;
        f.grace_ms = 100;
        fake_call(&f, EXEC, "{\"shell\":\"trap '' TERM; echo go; while :; do sleep 0.02; done\"}");
        CHECK_INT(f.outcome, TOOL_CANCELLED);
        CHECK_INT(f.exit_code, 128 + SIGKILL);
        CHECK(!fake_alive(f.pid));
        fake_fini(&f);
}

TEST(process_end, second_cancel_shortens_the_grace)
{
        struct fake f;

        fake_init(&f, NULL);
        f.on_output = cancel_on_go;
        f.grace_ms = 3600000;
        fake_start(&f, EXEC, "{\"shell\":\"trap '' TERM; echo go; while :; do sleep 0.02; done\"}");
        while (f.on_output)
                uv_run(&f.loop, UV_RUN_ONCE);
        fake_cancel(&f, 10);
        fake_run(&f);
        CHECK_INT(f.outcome, TOOL_CANCELLED);
        CHECK_INT(f.exit_code, 128 + SIGKILL);
        fake_fini(&f);
}

TEST(process_end, cancel_ends_the_whole_tree)
{
        struct fake f;

        fake_init(&f, NULL);
        f.on_output = cancel_on_go;
        f.grace_ms = 100;
        /* A child, a child in a session of its own, and a daemon (double fork, own session, no environment).
         */
        fake_call(&f, EXEC,
                  "{\"shell\":\"sleep 1000 & echo $! > child; setsid sleep 1001 & echo $! > session; "
                  "(setsid env -i /bin/sh -c 'trap \\\"\\\" TERM; echo $$ > daemon; exec /bin/sleep 1002' & "
                  ") ; "
                  "while ! [ -s daemon ]; do sleep 0.01; done; echo go; wait\"}");
        CHECK_INT(f.outcome, TOOL_CANCELLED);
        CHECK(!fake_alive(pid_in(&f, "child")));
        CHECK(!fake_alive(pid_in(&f, "session")));
        CHECK(!fake_alive(pid_in(&f, "daemon")));
        fake_fini(&f);
}

TEST(process_end, daemon_left_behind_is_ended)
{
        struct fake f;

        fake_init(&f, NULL);
        fake_call(&f, EXEC,
                  "{\"shell\":\"(setsid sh -c 'echo $$ > daemon; exec sleep 1000' >/dev/null 2>&1 &); while "
                  "! [ -s daemon ]; do sleep "
                  "0.01; done; echo done\"}");
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        CHECK(!fake_alive(pid_in(&f, "daemon")));
        fake_fini(&f);
}

TEST(process_end, grandchild_holding_stdout_is_not_waited_for)
{
        struct fake f;

        fake_init(&f, NULL);
        fake_call(&f, EXEC, "{\"shell\":\"sleep 1000 & echo $! > child; echo out\"}");
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        CHECK_STR(fake_text(&f, "stdout"), "out\n");
        CHECK(!fake_alive(pid_in(&f, "child")));
        fake_fini(&f);
}

TEST(process_end, late_writer_gets_a_moment)
{
        struct fake f;

        fake_init(&f, NULL);
        fake_call(&f, EXEC, "{\"shell\":\"(sleep 0.02; echo late) & echo out\"}");
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        CHECK_STR(fake_text(&f, "stdout"), "out\nlate\n");
        fake_fini(&f);
}

TEST(process_end, other_calls_are_not_touched)
{
        struct fake f;
        int other;
        siginfo_t si = {0};

        fake_init(&f, NULL);
        /* A process that was ours before, and one that libuv started. */
        other = fork();
        if (other == 0) {
                pause();
                _exit(0);
        }
        fake_call(&f, EXEC, "{\"shell\":\"sleep 1000 & echo x\"}");
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        CHECK(fake_alive(other));
        kill(other, SIGKILL);
        CHECK(waitid(P_PID, (id_t)other, &si, WEXITED) == 0);
        fake_fini(&f);
}

static void on_uv_exit(uv_process_t *p, int64_t status, int sig)
{
        *(int64_t *)p->data = status * 1000 + sig;
        uv_close((uv_handle_t *)p, NULL);
}

TEST(process_end, children_of_libuv_are_left_alone)
{
        char *argv[] = {(char *)"/bin/sh", (char *)"-c", (char *)"sleep 0.3; exit 5", NULL};
        int64_t got = -1;
        uv_process_t p;
        uv_process_options_t o = {.file = "/bin/sh", .args = argv, .exit_cb = on_uv_exit};
        struct fake f;

        fake_init(&f, NULL);
        fake_call(&f, EXEC, "{\"argv\":[\"true\"]}");
        CHECK_INT(uv_spawn(&f.loop, &p, &o), 0);
        p.data = &got;
        fake_call(&f, EXEC, "{\"shell\":\"(sleep 1000 >/dev/null 2>&1 &); echo x\"}");
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        while (got < 0)
                uv_run(&f.loop, UV_RUN_ONCE);
        CHECK_INT(got, 5000);
        fake_fini(&f);
}

TEST(process_end, timeout_of_the_input)
{
        struct fake f;

        fake_init(&f, NULL);
        f.grace_ms = 50;
        fake_call(&f, EXEC,
                  "{\"shell\":\"trap '' TERM; echo start; while :; do sleep 0.02; "
                  "done\",\"timeout\":\"80ms\"}");
        CHECK_INT(f.outcome, TOOL_TIMED_OUT);
        CHECK_STR(f.code, "timeout");
        CHECK(strstr(f.msg, "80ms"));
        CHECK_STR(fake_text(&f, "stdout"), "start\n");
        fake_fini(&f);
}

TEST(process_end, endless_output_is_cut_by_cancel)
{
        struct fake f;

        fake_init(&f, NULL);
        f.count_only = true;
        f.full_every = 1 << 20;
        fake_start(&f, EXEC, "{\"argv\":[\"yes\"]}");
        while (f.out_bytes < (8 << 20))
                uv_run(&f.loop, UV_RUN_ONCE);
        fake_cancel(&f, 1000);
        fake_run(&f);
        CHECK_INT(f.outcome, TOOL_CANCELLED);
        CHECK_INT(f.exit_code, 128 + SIGTERM);
        fake_fini(&f);
}

TEST(process_end, journal_failure_refuses_and_kills)
{
        struct fake f;

        fake_init(&f, NULL);
        f.own_rc = -E_NOSPACE;
        fake_call(&f, EXEC, "{\"argv\":[\"sleep\",\"1000\"]}");
        CHECK_INT(f.outcome, TOOL_REFUSED);
        CHECK_STR(f.code, "journal_failed");
        CHECK(!fake_alive(f.pid));
        fake_fini(&f);
}

/* The agent of this test is a process of its own that is killed while its command runs. */
TEST(process_end, command_dies_with_the_agent)
{
        struct fake f;
        int fds[2], agent, sleeper = 0, daemon_pid;
        char c;

        fake_init(&f, NULL);
        CHECK(pipe(fds) == 0);
        agent = fork();
        if (agent == 0) {
                close(fds[0]);
                fake_start(&f, EXEC,
                           "{\"shell\":\"setsid sh -c 'echo $$ > daemon; exec sleep 1000' & while ! [ -s "
                           "daemon ]; do sleep "
                           "0.01; done; echo go; exec sleep 1001\"}");
                while (f.out.len < 3)
                        uv_run(&f.loop, UV_RUN_ONCE);
                CHECK(write(fds[1], &f.pid, sizeof f.pid) == sizeof f.pid);
                for (;;)
                        pause();
        }
        close(fds[1]);
        CHECK(read(fds[0], &sleeper, sizeof sleeper) == sizeof sleeper);
        daemon_pid = pid_in(&f, "daemon");
        CHECK(fake_alive(sleeper) && fake_alive(daemon_pid));
        kill(agent, SIGKILL);
        CHECK(waitpid(agent, NULL, 0) == agent);
        /* The command goes by itself (parent-death signal); every holder of the pipe's other end is then gone
         * or a leftover. */
        for (int i = 0; i < 5000 && fake_alive(sleeper); i++)
                usleep(1000);
        CHECK(!fake_alive(sleeper));
        /* What it had started is for the restarted agent. */
        CHECK(fake_alive(daemon_pid));
        CHECK_INT(process_end_leftovers(f.scratch, sleeper), 1);
        for (int i = 0; i < 5000 && fake_alive(daemon_pid); i++)
                usleep(1000);
        CHECK(!fake_alive(daemon_pid));
        CHECK(read(fds[0], &c, 1) == 0);
        close(fds[0]);
        CHECK_INT(process_end_leftovers(f.scratch, 0), 0);
        fake_fini(&f);
}
