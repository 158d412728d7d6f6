/* stdio_peer: messages in both directions, and the end of all that was started. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/tools/spawn.h"
#include "agent/tools/stdio_peer.h"
#include "common/buf.h"
#include "common/err.h"
#include "common/mem.h"
#include "tests/lib/test.h"
#include "tests/tools/fake.h"

/* A child that runs a shell text, and what came of it. */
struct world {
        uv_loop_t loop;
        struct stdio_peer *p;
        struct stdio_peer_options o;
        struct buf got; /* messages, each followed by '|' */
        struct buf err;
        size_t messages, longest, faults;
        struct err fault; /* the last */
        bool gone, eof;
        int children_at_end;
        void (*on_message)(struct world *w);
};

static void on_message(void *arg, char *text, size_t n)
{
        struct world *w = arg;

        CHECK(!w->gone);
        CHECK_INT(strlen(text), n);
        w->messages++;
        w->longest = n > w->longest ? n : w->longest;
        if (n < 1000)
                CHECK(buf_put(&w->got, text, n) == 0 && buf_putc(&w->got, '|') == 0);
        if (w->on_message)
                w->on_message(w);
}

static void on_stderr(void *arg, const char *p, size_t n)
{
        struct world *w = arg;

        CHECK(!w->gone);
        CHECK(buf_put(&w->err, p, n) == 0);
}

static void on_fault(void *arg, const struct err *e)
{
        struct world *w = arg;

        CHECK(!w->gone);
        w->faults++;
        w->fault = *e;
}

static void on_eof(void *arg)
{
        struct world *w = arg;

        w->eof = true;
}

static void on_gone(void *arg)
{
        struct world *w = arg;

        CHECK(!w->gone);
        w->gone = true;
        w->children_at_end = fake_children();
}

static void open_world(struct world *w)
{
        memset(w, 0, sizeof *w);
        CHECK(uv_loop_init(&w->loop) == 0);
        w->o = (struct stdio_peer_options){.on_message = on_message,
                                           .on_stderr = on_stderr,
                                           .on_fault = on_fault,
                                           .on_eof = on_eof,
                                           .on_gone = on_gone};
}

static int start(struct world *w, const char *shell, struct err *e)
{
        char *argv[] = {"/bin/sh", "-c", (char *)(uintptr_t)shell, NULL};
        char *env[] = {"PATH=/usr/local/bin:/usr/bin:/bin", "MARK=stdio-peer-test", NULL};

        w->o.loop = &w->loop;
        w->o.path = "/bin/sh";
        w->o.argv = argv;
        w->o.env = env;
        w->o.cwd = test_scratch();
        w->o.marker = "MARK=stdio-peer-test";
        w->o.arg = w;
        return stdio_peer_start(&w->o, &w->p, e);
}

static void must_start(struct world *w, const char *shell)
{
        struct err e = {0};

        if (start(w, shell, &e))
                test_fail(__FILE__, __LINE__, "start: %s", e.msg);
}

static void run(struct world *w)
{
        while (!w->gone)
                uv_run(&w->loop, UV_RUN_ONCE);
}

static void until_messages(struct world *w, size_t n)
{
        while (w->messages < n && !w->gone)
                uv_run(&w->loop, UV_RUN_ONCE);
        CHECK(w->messages >= n);
}

static void close_world(struct world *w)
{
        if (w->p)
                stdio_peer_free(w->p);
        spawn_close();
        uv_run(&w->loop, UV_RUN_DEFAULT);
        CHECK_INT(uv_loop_close(&w->loop), 0);
        buf_fini(&w->got);
        buf_fini(&w->err);
        CHECK_INT(fake_children(), 0);
}

static const char *got(struct world *w)
{
        CHECK(buf_putc(&w->got, '\0') == 0);
        w->got.len--;
        return (const char *)w->got.data;
}

TEST(stdio_peer, each_line_is_a_message_and_empty_ones_are_none)
{
        struct world w;

        open_world(&w);
        must_start(&w, "printf 'one\\n\\ntwo\\r\\n\\r\\nthree\\n'; echo hush >&2");
        run(&w);
        CHECK_STR(got(&w), "one|two|three|");
        CHECK_INT(w.faults, 0);
        CHECK_STR(stdio_peer_stderr(w.p), "hush\n");
        CHECK_INT(w.err.len, 5);
        close_world(&w);
}

TEST(stdio_peer, pieces_of_a_line_are_put_together)
{
        struct world w;

        open_world(&w);
        must_start(&w, "printf on; sleep 0.05; printf 'e\\ntw'; sleep 0.05; printf 'o\\n'");
        run(&w);
        CHECK_STR(got(&w), "one|two|");
        close_world(&w);
}

TEST(stdio_peer, what_is_sent_arrives_in_order_and_the_end_after_it)
{
        struct world w;
        char text[16];

        open_world(&w);
        must_start(&w, "cat");
        for (int i = 0; i < 1000; i++) {
                snprintf(text, sizeof text, "%d", i);
                CHECK_INT(stdio_peer_send(w.p, text, strlen(text)), 0);
        }
        stdio_peer_end_input(w.p);
        CHECK_INT(stdio_peer_send(w.p, "late", 4), -E_CLOSED);
        run(&w);
        CHECK_INT(w.messages, 1000);
        CHECK(memcmp(w.got.data, "0|1|2|", 6) == 0);
        CHECK(memcmp(w.got.data + w.got.len - 5, "|999|", 5) == 0);
        CHECK(w.eof || stdio_peer_exited(w.p, NULL, NULL));
        close_world(&w);
}

TEST(stdio_peer, a_line_over_the_limit_is_a_fault_and_the_next_one_is_not)
{
        struct world w;

        open_world(&w);
        w.o.line_max = 1000;
        must_start(&w, "echo a; head -c 1001 /dev/zero | tr '\\0' x; echo; echo b; "
                       "head -c 1000 /dev/zero | tr '\\0' x; echo; echo c; "
                       "head -c 3000000 /dev/zero | tr '\\0' x; echo; echo d");
        run(&w);
        CHECK_INT(w.messages, 5);
        CHECK_STR(got(&w), "a|b|c|d|");
        CHECK_INT(w.longest, 1000);
        CHECK_INT(w.faults, 2);
        CHECK_INT(w.fault.code, E_TOOBIG);
        close_world(&w);
}

TEST(stdio_peer, fifty_megabytes_in_one_line_do_not_become_memory)
{
        struct world w;

        open_world(&w);
        must_start(&w, "head -c 52428800 /dev/zero | tr '\\0' x; echo; echo after");
        run(&w);
        CHECK_STR(got(&w), "after|");
        CHECK_INT(w.faults, 1);
        CHECK_INT(w.fault.code, E_TOOBIG);
        close_world(&w);
}

TEST(stdio_peer, a_half_line_at_the_end_is_a_fault)
{
        struct world w;

        open_world(&w);
        must_start(&w, "printf 'whole\\n{\"half\":'");
        run(&w);
        CHECK_STR(got(&w), "whole|");
        CHECK_INT(w.faults, 1);
        CHECK_INT(w.fault.code, E_PROTO);
        CHECK(strstr(w.fault.msg, "(8 bytes)"));
        close_world(&w);
}

TEST(stdio_peer, messages_may_end_with_a_nul)
{
        struct world w;

        open_world(&w);
        w.o.nul_ended = true;
        must_start(&w, "printf 'a\\nb\\0c\\0'; exec cat");
        CHECK_INT(stdio_peer_send(w.p, "d\ne", 3), 0);
        stdio_peer_end_input(w.p);
        run(&w);
        CHECK_STR(got(&w), "a\nb|c|d\ne|");
        close_world(&w);
}

TEST(stdio_peer, descriptors_3_and_4_carry_messages)
{
        struct world w;

        open_world(&w);
        w.o.fds_3_4 = true;
        must_start(&w, "echo to-stdout; cat; cat <&3 >&4");
        CHECK_INT(stdio_peer_send(w.p, "over", 4), 0);
        stdio_peer_end_input(w.p);
        run(&w);
        CHECK_STR(got(&w), "over|");
        CHECK_STR(stdio_peer_stderr(w.p), "to-stdout\n");
        close_world(&w);
}

static void hold_now(struct world *w)
{
        stdio_peer_hold(w->p, true);
}

TEST(stdio_peer, a_held_child_is_read_no_further)
{
        struct world w;

        open_world(&w);
        w.on_message = hold_now;
        must_start(&w, "yes 0123456789 | head -c 33000000; echo wrote >>wrote");
        until_messages(&w, 1);
        for (int i = 0; i < 200; i++)
                uv_run(&w.loop, UV_RUN_NOWAIT);
        CHECK_INT(w.messages, 1);
        CHECK(!stdio_peer_exited(w.p, NULL, NULL)); /* it stands at a full pipe */
        w.on_message = NULL;
        stdio_peer_hold(w.p, false);
        CHECK_INT(w.messages, 1); /* never from within a call */
        run(&w);
        CHECK_INT(w.messages, 3000000);
        close_world(&w);
}

static void let_go(uv_idle_t *i)
{
        struct world *w = i->data;

        if (!w->gone)
                stdio_peer_hold(w->p, false);
}

/* The hungriest pattern: room for one message each turn. */
TEST(stdio_peer, a_held_child_is_not_heard_on_its_standard_error_either)
{
        struct world w;
        char shell[600], written[512];

        open_world(&w);
        w.on_message = hold_now;
        snprintf(written, sizeof written, "%s/written", test_scratch());
        snprintf(shell, sizeof shell, "echo one; echo trouble >&2; : >'%s'; echo two", written);
        must_start(&w, shell);
        while (!w.messages || access(written, F_OK) != 0)
                uv_run(&w.loop, UV_RUN_NOWAIT);
        for (int turn = 0; turn < 100; turn++)
                uv_run(&w.loop, UV_RUN_NOWAIT);
        CHECK_INT(w.err.len, 0);
        w.on_message = NULL;
        stdio_peer_hold(w.p, false);
        run(&w);
        CHECK_INT(w.err.len, 8);
        CHECK_INT(w.messages, 2);
        close_world(&w);
}

TEST(stdio_peer, holding_at_each_message_loses_none)
{
        struct world w;
        uv_idle_t idle;

        open_world(&w);
        w.o.line_max = 4096;
        w.on_message = hold_now;
        must_start(&w, "seq 1 60000");
        uv_idle_init(&w.loop, &idle);
        idle.data = &w;
        uv_idle_start(&idle, let_go);
        run(&w);
        uv_close((uv_handle_t *)&idle, NULL);
        CHECK_INT(w.messages, 60000);
        CHECK_INT(w.faults, 0);
        CHECK(strstr(got(&w), "|59999|60000|"));
        close_world(&w);
}

TEST(stdio_peer, an_exit_while_held_still_gives_all_it_wrote)
{
        struct world w;

        open_world(&w);
        w.on_message = hold_now;
        must_start(&w, "echo a; echo b; echo c; printf half");
        until_messages(&w, 1);
        while (!stdio_peer_exited(w.p, NULL, NULL))
                uv_run(&w.loop, UV_RUN_ONCE);
        for (int i = 0; i < 50; i++)
                uv_run(&w.loop, UV_RUN_NOWAIT);
        CHECK(!w.gone);
        w.on_message = NULL;
        stdio_peer_hold(w.p, false);
        run(&w);
        CHECK_STR(got(&w), "a|b|c|");
        CHECK_INT(w.faults, 1);
        close_world(&w);
}

TEST(stdio_peer, a_held_child_that_is_stopped_waits_for_its_holder)
{
        struct world w;

        open_world(&w);
        w.on_message = hold_now;
        must_start(&w, "printf 'a\\nb\\n'; exec sleep 1000");
        until_messages(&w, 1);
        stdio_peer_stop(w.p, 0);
        while (!stdio_peer_exited(w.p, NULL, NULL))
                uv_run(&w.loop, UV_RUN_ONCE);
        w.on_message = NULL;
        stdio_peer_hold(w.p, false);
        run(&w);
        CHECK_STR(got(&w), "a|b|");
        close_world(&w);
}

TEST(stdio_peer, a_child_that_does_not_read_fills_the_queue)
{
        struct world w;
        size_t n = STDIO_LINE_MAX / 2;
        char *big = mem_alloc(n);
        int rc = 0, sent = 0;

        CHECK(big);
        memset(big, 'x', n);
        open_world(&w);
        must_start(&w, "echo up; sleep 1000");
        until_messages(&w, 1);
        while (rc == 0 && sent < 100) {
                rc = stdio_peer_send(w.p, big, n);
                sent += rc == 0;
        }
        CHECK_INT(rc, -E_FULL);
        CHECK(sent >= 7 && sent <= 9);
        stdio_peer_stop(w.p, 0);
        run(&w);
        CHECK_INT(stdio_peer_send(w.p, "x", 1), -E_CLOSED);
        mem_free(big);
        close_world(&w);
}

TEST(stdio_peer, a_message_over_the_limit_is_not_sent)
{
        struct world w;
        char *big = mem_calloc(1, STDIO_LINE_MAX + 2);

        CHECK(big);
        open_world(&w);
        must_start(&w, "cat");
        CHECK_INT(stdio_peer_send(w.p, big, STDIO_LINE_MAX + 1), -E_TOOBIG);
        stdio_peer_end_input(w.p);
        run(&w);
        CHECK_INT(w.messages, 0);
        mem_free(big);
        close_world(&w);
}

TEST(stdio_peer, closing_its_input_early_is_told_to_the_next_send)
{
        struct world w;
        int rc = 0;

        open_world(&w);
        must_start(&w, "exec <&-; echo closed; sleep 1000");
        until_messages(&w, 1);
        for (int i = 0; i < 100 && rc == 0; i++) {
                rc = stdio_peer_send(w.p, "x", 1);
                uv_run(&w.loop, UV_RUN_NOWAIT);
        }
        CHECK_INT(rc, -E_CLOSED);
        CHECK(!w.gone);
        stdio_peer_stop(w.p, 0);
        run(&w);
        close_world(&w);
}

TEST(stdio_peer, closing_its_output_is_told)
{
        struct world w;

        open_world(&w);
        must_start(&w, "echo last; exec >&-; read x; exit 5");
        while (!w.eof)
                uv_run(&w.loop, UV_RUN_ONCE);
        CHECK(!w.gone);
        stdio_peer_end_input(w.p);
        run(&w);
        CHECK_STR(got(&w), "last|");
        close_world(&w);
}

TEST(stdio_peer, how_it_ended_can_be_asked)
{
        struct world w;
        int code = -1, sig = -1;

        open_world(&w);
        must_start(&w, "exit 7");
        CHECK(stdio_peer_pid(w.p) > 1);
        run(&w);
        CHECK(stdio_peer_exited(w.p, &code, &sig));
        CHECK_INT(code, 7);
        CHECK_INT(sig, 0);
        close_world(&w);
        open_world(&w);
        must_start(&w, "kill -SEGV $$");
        run(&w);
        CHECK(stdio_peer_exited(w.p, &code, &sig));
        CHECK_INT(code, 128 + SIGSEGV);
        CHECK_INT(sig, SIGSEGV);
        close_world(&w);
}

TEST(stdio_peer, stop_asks_first)
{
        struct world w;

        open_world(&w);
        must_start(&w, "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.02; done");
        until_messages(&w, 1);
        stdio_peer_stop(w.p, 60000);
        CHECK(!w.gone);
        run(&w);
        CHECK_STR(got(&w), "up|bye|");
        close_world(&w);
}

TEST(stdio_peer, a_grandchild_that_ignores_term_in_a_session_of_its_own_dies_too)
{
        struct world w;
        int pid;

        open_world(&w);
        must_start(&w, "setsid sh -c 'trap \"\" TERM; echo $$; while :; do sleep 0.02; done' & "
                       "trap '' TERM; wait; while :; do sleep 0.02; done");
        until_messages(&w, 1);
        pid = atoi(got(&w));
        CHECK(fake_alive(pid));
        stdio_peer_stop(w.p, 50);
        run(&w);
        CHECK(!fake_alive(pid));
        CHECK_INT(w.children_at_end, 0);
        close_world(&w);
}

TEST(stdio_peer, what_an_ending_child_leaves_behind_is_killed)
{
        struct world w;
        int pid;

        open_world(&w);
        must_start(&w, "(setsid sh -c 'echo $$; exec sleep 1000' &) ; sleep 0.2; exit 0");
        until_messages(&w, 1);
        pid = atoi(got(&w));
        run(&w);
        CHECK(!fake_alive(pid));
        close_world(&w);
}

TEST(stdio_peer, less_patience_is_allowed)
{
        struct world w;

        open_world(&w);
        must_start(&w, "trap '' TERM; echo up; while :; do sleep 0.02; done");
        until_messages(&w, 1);
        stdio_peer_stop(w.p, 3600000);
        uv_run(&w.loop, UV_RUN_NOWAIT);
        stdio_peer_stop(w.p, 20);
        run(&w);
        close_world(&w);
}

TEST(stdio_peer, an_interrupt_goes_to_the_child_alone)
{
        struct world w;

        open_world(&w);
        must_start(&w, "trap 'echo int' INT; echo up; read x; read y; echo done");
        until_messages(&w, 1);
        stdio_peer_interrupt(w.p);
        until_messages(&w, 2);
        stdio_peer_end_input(w.p);
        run(&w);
        CHECK(strstr(got(&w), "up|int|"));
        close_world(&w);
}

TEST(stdio_peer, an_abandoned_one_goes_by_itself)
{
        struct world w;
        pid_t pid;

        open_world(&w);
        must_start(&w, "trap '' TERM; echo up; while :; do echo more; done");
        until_messages(&w, 1);
        pid = stdio_peer_pid(w.p);
        stdio_peer_abandon(w.p);
        w.p = NULL;
        w.gone = true; /* from here on every callback is a failure */
        uv_run(&w.loop, UV_RUN_DEFAULT);
        CHECK(!fake_alive(pid));
        close_world(&w);
}

static void on_tick(uv_timer_t *t)
{
        (void)t;
}

/* A millisecond later each time: in every state of the end. */
TEST(stdio_peer, one_that_is_held_can_be_abandoned_at_any_time)
{
        for (int turns = 0; turns < 40; turns++) {
                struct world w;
                uv_timer_t tick;

                open_world(&w);
                uv_timer_init(&w.loop, &tick);
                uv_timer_start(&tick, on_tick, 1, 1);
                w.on_message = hold_now;
                must_start(&w, "echo a; echo b; exit 0");
                for (int i = 0; i < turns; i++)
                        uv_run(&w.loop, UV_RUN_ONCE);
                CHECK(!w.gone || w.messages == 0);
                stdio_peer_abandon(w.p);
                w.p = NULL;
                w.gone = true;
                uv_close((uv_handle_t *)&tick, NULL);
                uv_run(&w.loop, UV_RUN_DEFAULT);
                close_world(&w);
        }
}

static void abandon_now(struct world *w)
{
        stdio_peer_abandon(w->p);
        w->p = NULL;
        w->gone = true;
}

TEST(stdio_peer, a_message_may_be_the_reason_to_abandon)
{
        struct world w;

        open_world(&w);
        w.on_message = abandon_now;
        must_start(&w, "echo a; echo b; echo c");
        uv_run(&w.loop, UV_RUN_DEFAULT);
        CHECK_INT(w.messages, 1);
        close_world(&w);
}

TEST(stdio_peer, what_cannot_start_leaves_nothing)
{
        struct world w;
        struct err e = {0};
        char *argv[] = {"nothing", NULL}, *env[] = {NULL};

        if (FAKE_VFORK_IS_FORK)
                return;
        open_world(&w);
        w.o.loop = &w.loop;
        w.o.path = "/nonexistent/program";
        w.o.argv = argv;
        w.o.env = env;
        w.o.cwd = "/";
        w.o.arg = &w;
        CHECK_INT(stdio_peer_start(&w.o, &w.p, &e), -E_NOENT);
        CHECK(strstr(e.msg, "/nonexistent/program"));
        w.o.fds_3_4 = true;
        CHECK_INT(stdio_peer_start(&w.o, &w.p, &e), -E_NOENT);
        close_world(&w);
}

TEST(stdio_peer, stderr_keeps_its_tail_as_text)
{
        struct world w;
        const char *tail;

        open_world(&w);
        must_start(&w, "seq 1 5000 >&2; printf '\\377end' >&2");
        run(&w);
        tail = stdio_peer_stderr(w.p);
        CHECK(strstr(tail, "\n5000\n\xef\xbf\xbd"
                           "end"));
        CHECK(strlen(tail) < STDIO_STDERR_TAIL + 8);
        CHECK(w.err.len > 20000);
        close_world(&w);
}

static int start_and_leave(void *arg)
{
        struct world w;
        struct err e = {0};
        int rc;

        (void)arg;
        open_world(&w);
        rc = start(&w, "true", &e);
        if (rc == 0)
                run(&w);
        close_world(&w);
        return rc;
}

TEST(stdio_peer, no_memory_at_any_place_leaves_nothing)
{
        test_each_alloc_fails(start_and_leave, NULL);
}

TEST(stdio_peer, descriptors_are_given_back)
{
        struct world w;
        int before;

        CHECK_INT(start_and_leave(NULL), 0); /* what is opened once, is open now */
        CHECK(spawn_devnull() >= 0);
        before = fake_fds();
        for (int i = 0; i < 5; i++)
                CHECK_INT(start_and_leave(NULL), 0);
        CHECK_INT(fake_fds(), before);
        open_world(&w);
        w.o.fds_3_4 = true;
        must_start(&w, "echo x >&4");
        run(&w);
        close_world(&w);
        CHECK_INT(fake_fds(), before);
}
