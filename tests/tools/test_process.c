/* process.exec: what a command gets and what comes back. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/err.h"
#include "common/mem.h"
#include "tests/lib/test.h"
#include "tests/tools/fake.h"

#define EXEC "process.exec"

static const char *out(struct fake *f)
{
        CHECK(buf_putc(&f->out, '\0') == 0);
        f->out.len--;
        return (const char *)f->out.data;
}

TEST(process, true_succeeds)
{
        struct fake f;

        fake_init(&f, NULL);
        fake_call(&f, EXEC, "{\"argv\":[\"true\"]}");
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        CHECK(f.has_exit_code && f.exit_code == 0 && f.pid > 0);
        CHECK_INT(fake_number(&f, "exit_code"), 0);
        CHECK_STR(fake_text(&f, "stdout"), "");
        CHECK_INT(fake_number(&f, "stdout_truncated"), 0);
        fake_fini(&f);
}

TEST(process, streams_are_apart)
{
        struct fake f;

        fake_init(&f, NULL);
        fake_call(&f, EXEC, "{\"argv\":[\"/bin/sh\",\"-c\",\"echo one; echo two >&2; exit 3\"]}");
        CHECK_INT(f.outcome, TOOL_FAILED);
        CHECK_STR(f.code, "exit_nonzero");
        CHECK_INT(f.exit_code, 3);
        CHECK_STR(out(&f), "one\n");
        CHECK_STR(fake_text(&f, "stdout"), "one\n");
        CHECK_STR(fake_text(&f, "stderr_tail"), "two\n");
        CHECK_INT(f.err.len, 4);
        fake_fini(&f);
}

TEST(process, signal_is_told)
{
        struct fake f;

        fake_init(&f, NULL);
        fake_call(&f, EXEC, "{\"shell\":\"kill -SEGV $$\"}");
        CHECK_INT(f.outcome, TOOL_FAILED);
        CHECK_STR(f.code, "killed_by_signal");
        CHECK_INT(f.exit_code, 128 + SIGSEGV);
        CHECK_STR(fake_text(&f, "signal"), "SIGSEGV");
        fake_fini(&f);
}

TEST(process, shell_stops_at_first_error)
{
        struct fake f;

        fake_init(&f, NULL);
        fake_call(&f, EXEC, "{\"shell\":\"echo a; false; echo b\"}");
        CHECK_STR(f.code, "exit_nonzero");
        CHECK_STR(out(&f), "a\n");
        fake_call(&f, EXEC, "{\"shell\":\"echo $0\", \"shell_path\":\"/bin/bash\"}");
        CHECK_STR(out(&f), "/bin/bash\n");
        fake_fini(&f);
}

TEST(process, arguments_are_not_interpreted)
{
        struct fake f;

        fake_init(&f, NULL);
        fake_call(&f, EXEC, "{\"argv\":[\"printf\",\"%s|\",\"a b\",\"$HOME\",\"*\",\"\",\"\\u00fc\"]}");
        CHECK_STR(out(&f), "a b|$HOME|*||\xc3\xbc|");
        fake_fini(&f);
}

TEST(process, environment_is_scrubbed)
{
        struct fake f;

        setenv("SECRET_TOKEN", "hunter2", 1);
        setenv("LC_ALL", "C", 1);
        fake_init(&f, NULL);
        f.c.traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        fake_call(&f, EXEC,
                  "{\"argv\":[\"env\"],\"env\":{\"MODE\":\"prod\",\"N\":3,\"F\":1.5,\"ON\":true,\"LANG\":"
                  "\"x\"}}");
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        CHECK(!strstr(out(&f), "hunter2"));
        CHECK(strstr(out(&f), "LC_ALL=C\n"));
        CHECK(strstr(out(&f), "PHOTON_RUN_ID=run1\n"));
        CHECK(strstr(out(&f), "PHOTON_STEP_ID=build\n"));
        CHECK(strstr(out(&f), "PHOTON_ATTEMPT=2\n"));
        CHECK(strstr(out(&f), "TRACEPARENT=00-0af76519"));
        CHECK(strstr(out(&f), "MODE=prod\n"));
        CHECK(strstr(out(&f), "\nN=3\n"));
        CHECK(strstr(out(&f), "F=1.5\n"));
        CHECK(strstr(out(&f), "ON=true\n"));
        CHECK(strstr(out(&f), "LANG=x\n"));
        fake_call(&f, EXEC, "{\"argv\":[\"env\"],\"env\":{\"PHOTON_OUTPUT\":\"/tmp/x\"}}");
        CHECK_INT(f.outcome, TOOL_REFUSED);
        CHECK_STR(f.code, "bad_input");
        fake_fini(&f);
}

TEST(process, folder_is_home_or_cwd)
{
        struct fake f;
        char want[300];

        fake_init(&f, NULL);
        fake_call(&f, EXEC, "{\"argv\":[\"pwd\"]}");
        snprintf(want, sizeof want, "%s\n", f.home);
        CHECK_STR(out(&f), want);
        fake_call(&f, EXEC, "{\"argv\":[\"pwd\"],\"cwd\":\"/usr/bin\"}");
        CHECK_STR(out(&f), "/usr/bin\n");
        fake_call(&f, EXEC, "{\"argv\":[\"pwd\"],\"cwd\":\"/nowhere/at/all\"}");
        CHECK_INT(f.outcome, TOOL_REFUSED);
        CHECK_STR(f.code, "spawn_failed");
        CHECK(strstr(f.msg, "/nowhere/at/all") && strstr(f.msg, "does not exist"));
        fake_call(&f, EXEC, "{\"argv\":[\"pwd\"],\"cwd\":\"/etc/passwd\"}");
        CHECK(strstr(f.msg, "not a folder"));
        fake_fini(&f);
}

TEST(process, program_in_cwd_by_relative_path)
{
        struct fake f;
        char path[300];

        fake_init(&f, NULL);
        fake_put(&f, "tool.sh", "#!/bin/sh\necho ran $1\n");
        snprintf(path, sizeof path, "%s/tool.sh", f.home);
        CHECK(chmod(path, 0755) == 0);
        fake_call(&f, EXEC, "{\"argv\":[\"./tool.sh\",\"x\"]}");
        CHECK_STR(out(&f), "ran x\n");
        fake_fini(&f);
}

TEST(process, without_descriptors_the_agent_is_busy)
{
        struct fake f;
        struct rlimit was, none;

        fake_init(&f, NULL);
        fake_call(&f, EXEC, "{\"argv\":[\"true\"]}"); /* what is opened once is open now */
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        CHECK(getrlimit(RLIMIT_NOFILE, &was) == 0);
        none = was;
        none.rlim_cur = 3;
        CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
        fake_call(&f, EXEC, "{\"argv\":[\"true\"]}");
        CHECK(setrlimit(RLIMIT_NOFILE, &was) == 0);
        CHECK_INT(f.outcome, TOOL_REFUSED);
        CHECK_STR(f.code, "agent_busy");
        fake_fini(&f);
}

TEST(process, what_cannot_start_says_why)
{
        struct fake f;
        char path[300];

        fake_init(&f, NULL);
        fake_call(&f, EXEC, "{\"argv\":[\"no-such-command-here\"]}");
        CHECK_INT(f.outcome, TOOL_REFUSED);
        CHECK_STR(f.code, "spawn_failed");
        CHECK(strstr(f.msg, "command not found on this agent: no-such-command-here"));
        CHECK(!f.has_exit_code);
#if FAKE_VFORK_IS_FORK
        fake_fini(&f);
        return;
#endif
        fake_call(&f, EXEC, "{\"argv\":[\"/no/such/file\"]}");
        CHECK(strstr(f.msg, "no such file on this agent"));
        fake_call(&f, EXEC, "{\"argv\":[\"/etc\"]}");
        CHECK(strstr(f.msg, "is a folder"));
        fake_put(&f, "plain", "hello\n");
        fake_call(&f, EXEC, "{\"argv\":[\"./plain\"]}");
        CHECK_STR(f.code, "spawn_failed");
        CHECK(strstr(f.msg, "chmod +x"));
        snprintf(path, sizeof path, "%s/plain", f.home);
        CHECK(chmod(path, 0755) == 0);
        fake_call(&f, EXEC, "{\"argv\":[\"./plain\"]}");
        CHECK(strstr(f.msg, "#!/bin/sh"));
        fake_put(&f, "plain", "#!/no/interpreter\n");
        fake_call(&f, EXEC, "{\"argv\":[\"./plain\"]}");
        CHECK_STR(f.code, "spawn_failed");
        fake_call(&f, EXEC, "{\"argv\":[\"\"]}");
        CHECK_INT(f.outcome, TOOL_REFUSED);
        fake_fini(&f);
}

TEST(process, bad_input_is_refused)
{
        static const char *const bad[] = {"{}",
                                          "{\"argv\":[]}",
                                          "{\"argv\":\"ls\"}",
                                          "{\"argv\":[\"ls\",1]}",
                                          "{\"argv\":[\"ls\"],\"shell\":\"ls\"}",
                                          "{\"argv\":[\"ls\"],\"cmd\":1}",
                                          "{\"argv\":[\"ls\"],\"timeout\":\"soon\"}",
                                          "{\"argv\":[\"ls\"],\"timeout\":\"0\"}",
                                          "{\"argv\":[\"ls\"],\"env\":{\"A=B\":\"x\"}}",
                                          "{\"argv\":[\"ls\"],\"env\":{\"\":\"x\"}}",
                                          "{\"argv\":[\"ls\"],\"env\":{\"A\":[]}}",
                                          "{\"argv\":[\"ls\"],\"stdin\":7}",
                                          "{\"argv\":[\"ls\"],\"cwd\":\"\"}"};
        struct fake f;

        fake_init(&f, NULL);
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
                fake_call(&f, EXEC, bad[i]);
                if (f.outcome != TOOL_REFUSED || f.pid)
                        test_fail(__FILE__, __LINE__, "not refused: %s", bad[i]);
        }
        fake_fini(&f);
}

TEST(process, output_file_becomes_outputs)
{
        struct fake f;

        fake_init(&f, NULL);
        fake_call(&f, EXEC,
                  "{\"shell\":\"{ echo version=1.2.3; echo 'eq=a=b'; echo empty=; printf "
                  "'text<<END\\\\nl1\\\\n\\\\nl3\\\\nEND\\\\n'; "
                  "echo 'crlf=x\\r'; printf last=1; } > $PHOTON_OUTPUT\"}");
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        CHECK_STR(fake_text(&f, "version"), "1.2.3");
        CHECK_STR(fake_text(&f, "eq"), "a=b");
        CHECK_STR(fake_text(&f, "empty"), "");
        CHECK(cJSON_GetObjectItem(f.outputs, "empty"));
        CHECK_STR(fake_text(&f, "text"), "l1\n\nl3");
        CHECK_STR(fake_text(&f, "crlf"), "x");
        CHECK_STR(fake_text(&f, "last"), "1");
        fake_fini(&f);
}

TEST(process, bad_output_file_fails_the_call)
{
        static const char *const bad[] = {"echo hello",       "echo 1x=2",
                                          "echo exit_code=0", "printf 'a<<E\\\\nx\\\\n'",
                                          "echo =x",          "head -c 2000000 /dev/zero"};
        struct fake f;

        fake_init(&f, NULL);
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
                fake_callf(&f, EXEC, "{\"shell\":\"rm -f $PHOTON_OUTPUT; %s > $PHOTON_OUTPUT\"}", bad[i]);
                if (f.outcome != TOOL_FAILED || strcmp(f.code, "bad_output") != 0)
                        test_fail(__FILE__, __LINE__, "%s: %s %s", bad[i], f.code, f.msg);
        }
        fake_call(&f, EXEC, "{\"shell\":\"rm -f $PHOTON_OUTPUT; mkfifo $PHOTON_OUTPUT\"}");
        CHECK_STR(f.code, "bad_output");
        fake_call(&f, EXEC, "{\"shell\":\"rm -f $PHOTON_OUTPUT; echo junk > $PHOTON_OUTPUT; exit 4\"}");
        CHECK_STR(f.code, "exit_nonzero");
        fake_fini(&f);
}

TEST(process, invalid_utf8_is_replaced_in_outputs_only)
{
        struct fake f;

        fake_init(&f, NULL);
        fake_call(&f, EXEC, "{\"argv\":[\"printf\",\"a\\\\377b\\\\000c\"]}");
        CHECK_INT(f.out.len, 5);
        CHECK(memcmp(f.out.data, "a\377b\0c", 5) == 0);
        CHECK_STR(fake_text(&f, "stdout"), "a\xef\xbf\xbd"
                                           "b\xef\xbf\xbd"
                                           "c");
        fake_fini(&f);
}

TEST(process, long_output_keeps_its_end)
{
        struct fake f;
        const char *s;

        fake_init(&f, NULL);
        /* 3-byte characters: the cut falls within one. */
        fake_call(&f, EXEC,
                  "{\"shell\":\"i=0; while [ $i -lt 3000 ]; do printf "
                  "'\\u20ac\\u20ac\\u20ac\\u20ac\\u20ac\\u20ac\\u20ac\\u20ac\\u20ac\\u20ac'; i=$((i+1)); "
                  "done; echo end; seq 1 5000 >&2\"}");
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        s = fake_text(&f, "stdout");
        CHECK(strlen(s) > 65500 && strlen(s) <= 65536);
        CHECK_STR(s + strlen(s) - 4, "end\n");
        CHECK(!strstr(s, "\xef\xbf\xbd"));
        CHECK_INT(fake_number(&f, "stdout_truncated"), 1);
        s = fake_text(&f, "stderr_tail");
        CHECK_INT(strlen(s), 4096);
        CHECK_STR(s + strlen(s) - 5, "5000\n");
        CHECK_INT(f.out.len, 90004);
        fake_fini(&f);
}

/* --- standard input ------------------------------------------------------------- */

TEST(process, stdin_is_empty_by_default)
{
        struct fake f;

        fake_init(&f, NULL);
        fake_call(&f, EXEC, "{\"argv\":[\"wc\",\"-c\"]}");
        CHECK_STR(out(&f), "0\n");
        fake_call(&f, EXEC, "{\"argv\":[\"cat\"],\"stdin\":\"h\\u00e9llo\"}");
        CHECK_STR(out(&f), "h\xc3\xa9llo");
        fake_call(&f, EXEC, "{\"argv\":[\"cat\"],\"stdin\":\"\"}");
        CHECK_INT(f.out.len, 0);
        fake_fini(&f);
}

TEST(process, long_stdin_text_is_not_cut)
{
        struct fake f;
        size_t n = 3 << 20;
        char *input = malloc(n + 100);
        int k;

        fake_init(&f, NULL);
        k = sprintf(input, "{\"argv\":[\"wc\",\"-c\"],\"stdin\":\"");
        memset(input + k, 'x', n);
        strcpy(input + k + n, "\"}");
        fake_call(&f, EXEC, input);
        CHECK_STR(out(&f), "3145728\n");
        /* A command that does not read it all has not failed. */
        memcpy(input, "{\"argv\":[\"true\"]        ", 21);
        fake_call(&f, EXEC, "{\"argv\":[\"head\",\"-c\",\"1\"],\"stdin\":\"abc\"}");
        CHECK_STR(out(&f), "a");
        free(input);
        fake_fini(&f);
}

struct feeder {
        uint64_t sent, total, window;
        bool eof_sent;
        uint8_t sum;
};

/* As the hub does it: never more than the window beyond what was taken. */
static void feed(struct fake *f)
{
        struct feeder *d = f->data;
        uint8_t chunk[10000];

        while (!f->finished && !f->stdin_closed && d->sent < d->total &&
               d->sent < f->stdin_taken + d->window) {
                size_t n = sizeof chunk;

                if (n > d->total - d->sent)
                        n = (size_t)(d->total - d->sent);
                for (size_t i = 0; i < n; i++)
                        d->sum ^= chunk[i] = (uint8_t)((d->sent + i) * 31 >> 3);
                d->sent += n;
                f->c.tool->stdin_data(&f->c, chunk, n, false);
        }
        if (!f->finished && d->sent == d->total && !d->eof_sent) {
                d->eof_sent = true;
                f->c.tool->stdin_data(&f->c, NULL, 0, true);
        }
}

TEST(process, stdin_streams_10_mb_with_back_pressure)
{
        struct fake f;
        struct feeder d = {.total = 10 << 20, .window = 256 << 10};

        fake_init(&f, NULL);
        f.c.stdin_follows = true;
        f.count_only = true;
        fake_start(&f, EXEC, "{\"argv\":[\"cat\"]}");
        f.data = &d;
        f.on_output = feed;
        feed(&f);
        fake_run(&f);
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        CHECK_INT(f.out_bytes, 10 << 20);
        CHECK_INT(f.out_sum, d.sum);
        CHECK_INT(f.stdin_taken, 10 << 20);
        fake_fini(&f);
}

TEST(process, stdin_closed_by_command_is_told)
{
        struct fake f;
        struct feeder d = {.total = 10 << 20, .window = 256 << 10};

        fake_init(&f, NULL);
        f.c.stdin_follows = true;
        fake_start(&f, EXEC, "{\"shell\":\"exec 0<&-; echo closed; sleep 0.2\"}");
        f.data = &d;
        f.on_output = feed;
        fake_run(&f);
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        CHECK(f.stdin_closed);
        CHECK(d.sent < d.total);
        fake_fini(&f);
}

/* --- back-pressure, leaks ----------------------------------------------------------- */

TEST(process, output_64_mib_is_exact_with_slow_taker)
{
        struct fake f;

        fake_init(&f, NULL);
        f.count_only = true;
        f.full_every = 200000;
        fake_call(&f, EXEC, "{\"shell\":\"head -c 67108864 /dev/zero | tr '\\\\000' x; printf y\"}");
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        CHECK_INT(f.out_bytes, 67108865);
        CHECK_INT(f.out_sum, 'y');
        fake_fini(&f);
}

TEST(process, no_zombie_and_no_descriptor_after_200)
{
        struct fake f;
        int before;

        fake_init(&f, NULL);
        fake_call(&f, EXEC, "{\"argv\":[\"true\"]}");
        before = fake_fds();
        for (int i = 0; i < 200; i++) {
                fake_call(&f, EXEC,
                          i % 3 == 0   ? "{\"argv\":[\"nope-nope\"]}"
                          : i % 3 == 1 ? "{\"argv\":[\"cat\"],\"stdin\":\"x\"}"
                                       : "{\"shell\":\"exit 7\"}");
                CHECK_INT(fake_children(), 0);
        }
        CHECK_INT(fake_fds(), before);
        fake_fini(&f);
}

TEST(process, child_has_no_descriptor_of_ours)
{
        struct fake f;
        int fd;

        fake_init(&f, NULL);
        fd = dup(0); /* without close-on-exec, as a library might leave one */
        CHECK(fd > 2);
        fake_call(&f, EXEC, "{\"shell\":\"ls /proc/$$/fd | tr '\\\\n' ' '\"}");
        CHECK(strncmp(out(&f), "0 1 2 ", 6) == 0);
        CHECK(strlen(out(&f)) <= 9); /* the shell may keep one of its own */
        close(fd);
        fake_fini(&f);
}

TEST(process, signals_of_the_agent_are_not_inherited)
{
        struct fake f;
        unsigned long long blocked, ignored;

        signal(SIGPIPE, SIG_IGN);
        signal(SIGHUP, SIG_IGN);
        fake_init(&f, NULL);
        fake_call(&f, EXEC, "{\"shell\":\"grep -E 'SigIgn|SigBlk' /proc/self/status\"}");
        /* Signals 32 and 33 belong to the C library, whose posix_spawn (make's, say) leaves them ignored in
         * all that follows; no program can set them. */
        CHECK(sscanf(out(&f), "SigBlk: %llx SigIgn: %llx", &blocked, &ignored) == 2);
        CHECK_INT(blocked, 0);
        CHECK_INT(ignored & ~0x180000000ull, 0);
        fake_fini(&f);
}

/* The fake allocates too, so the failures begin once the call is under way. */
TEST(process, survives_lack_of_memory)
{
        struct fake f;

        fake_init(&f, NULL);
        for (unsigned long n = 1; n < 60; n++) {
                fake_start(&f, EXEC, "{\"shell\":\"echo a=1 > $PHOTON_OUTPUT\"}");
                mem_fail_nth(n);
                while (!f.finished)
                        uv_run(&f.loop, UV_RUN_ONCE);
                mem_fail_nth(0);
                fake_run(&f);
                CHECK(f.outcome == TOOL_SUCCEEDED || strcmp(f.code, "out_of_memory") == 0);
                CHECK_INT(fake_children(), 0);
        }
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        fake_fini(&f);
}
