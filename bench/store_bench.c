/* How fast the store is, beside the disk it stands on: prints one JSON object.
 *
 *   store_bench [STEPS] [DIR]
 *
 * A run of STEPS steps is inserted in one transaction; then each step makes the
 * two moves of a no-op call (dispatched, succeeded), with the events that the
 * API streams, in transactions of 64 moves of which at most four wait, as a
 * loop's turns would hand them over. Latency is one move at a time on an idle
 * store, beside fdatasync of an overwritten 16 KiB in the same folder. */
#include "common/buf.h"
#include "common/err.h"
#include "common/mailbox.h"
#include "common/mem.h"
#include "hub/store/store.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define SINGLES    1000
#define PER_TX     64
#define MAX_FLIGHT 4
#define RUN_ID     "01jd3q0000000000000000bench"

struct bench {
        uv_loop_t loop;
        struct mailbox *mailbox;
        struct store *store;
        struct err err;
        uint32_t n_steps, moved, in_flight, left;
        int round; /* 0: dispatched, 1: succeeded */
        int64_t event_id;
        double started, us[SINGLES];
};

static double now_us(clockid_t clock)
{
        struct timespec t;

        clock_gettime(clock, &t);
        return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int by_value(const void *a, const void *b)
{
        double x = *(const double *)a, y = *(const double *)b;

        return (x > y) - (x < y);
}

static void die(const char *what, const struct err *e)
{
        fprintf(stderr, "store_bench: %s: %s\n", what, e ? e->msg : "");
        exit(1);
}

static void raw_fdatasync(const char *dir, double us[SINGLES])
{
        static char block[16384];
        char path[512];
        int fd;

        snprintf(path, sizeof path, "%s/raw", dir);
        fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        for (int i = -64; fd >= 0 && i < SINGLES; i++) {
                double t;

                memset(block, i, sizeof block);
                if (pwrite(fd, block, sizeof block, (i & 63) * (off_t)sizeof block) != (ssize_t)sizeof block)
                        die("cannot write", NULL);
                t = now_us(CLOCK_MONOTONIC);
                fdatasync(fd);
                if (i >= 0)
                        us[i] = now_us(CLOCK_MONOTONIC) - t;
        }
        close(fd);
        unlink(path);
        qsort(us, SINGLES, sizeof *us, by_value);
}

static void put_move(struct store_tx *tx, uint32_t idx, int round)
{
        struct row_step_move m = {
                .run_seq = 1,
                .idx = idx,
                .attempt = 1,
                .attempt_id = 1000 + idx,
                .state = round ? STEP_SUCCEEDED : STEP_DISPATCHED,
        };

        if (round) {
                m.has_exit_code = true;
                m.outputs = "{\"exit_code\":0,\"stdout\":\"\"}";
                m.usage = "{\"wall_ms\":1}";
                m.started_us = 1763640000123456;
                m.finished_us = 1763640000123999;
        } else {
                m.agent = "01jd3q00000000000000agent1";
                m.agent_name = "worker-1";
                m.agent_boot = "7b0c3b6e-7f3a-4f0e-9d2d-0a1b2c3d4e5f";
                m.placement = "{\"agent\":\"worker-1\",\"why\":\"least loaded\",\"free\":63}";
                m.dispatched_us = 1763640000120000;
        }
        store_move_step(tx, &m);
}

static void put_events(struct bench *b, struct store_tx *tx, uint32_t first, uint32_t n)
{
        struct buf lines;

        buf_init(&lines, 0);
        for (uint32_t i = 0; i < n; i++)
                buf_printf(&lines,
                           "{\"id\":%lld,\"type\":\"step.%s\",\"run\":\"" RUN_ID
                           "\",\"step\":\"s%u\",\"attempt\":1,"
                           "\"at\":\"2026-11-20T12:00:00.123456Z\"}\n",
                           (long long)b->event_id + i + 1, b->round ? "succeeded" : "dispatched", first + i);
        store_put_events(tx, RUN_ID, b->event_id + 1, b->event_id + n, lines.data, lines.len);
        b->event_id += n;
        buf_fini(&lines);
}

static void on_inserted(void *arg)
{
        struct bench *b = arg;

        b->left = 0;
}

static double insert_run(struct bench *b)
{
        struct store_tx *tx = store_begin(b->store);
        struct row_run run = {.seq = 1,
                              .id = RUN_ID,
                              .workflow = "bench",
                              .kind = "run",
                              .state = RUN_RUNNING,
                              .created_us = 1763640000000000,
                              .n_steps = b->n_steps};
        double t = now_us(CLOCK_MONOTONIC);
        char id[16];

        store_put_run(tx, &run);
        for (uint32_t i = 0; i < b->n_steps; i++) {
                struct row_step s = {.run_seq = 1,
                                     .idx = i,
                                     .id = id,
                                     .tool = "echo",
                                     .state = STEP_READY,
                                     .def = (int32_t)i,
                                     .parent = -1,
                                     .created_us = 1763640000000000,
                                     .ready_us = 1763640000000000};

                snprintf(id, sizeof id, "s%u", i);
                store_put_step(tx, &s);
        }
        b->left = 1;
        store_commit(tx, on_inserted, b);
        while (b->left)
                uv_run(&b->loop, UV_RUN_ONCE);
        return (now_us(CLOCK_MONOTONIC) - t) / 1e3;
}

static void on_moved(void *arg)
{
        ((struct bench *)arg)->in_flight--;
}

static void submit_some(struct bench *b)
{
        while (b->in_flight < MAX_FLIGHT && b->round < 2) {
                uint32_t n = b->n_steps - b->moved < PER_TX ? b->n_steps - b->moved : PER_TX;
                struct store_tx *tx = store_begin(b->store);

                for (uint32_t i = 0; i < n; i++)
                        put_move(tx, b->moved + i, b->round);
                put_events(b, tx, b->moved, n);
                b->moved += n;
                b->in_flight++;
                store_commit(tx, on_moved, b);
                if (b->moved == b->n_steps) {
                        b->moved = 0;
                        b->round++;
                }
        }
}

static double move_all(struct bench *b)
{
        double t = now_us(CLOCK_MONOTONIC);

        b->round = 0;
        b->moved = 0;
        for (submit_some(b); b->in_flight; submit_some(b))
                uv_run(&b->loop, UV_RUN_ONCE);
        return (now_us(CLOCK_MONOTONIC) - t) / 1e3;
}

/* Single tool calls, each a run of its own: inserted, dispatched, finished; 32 calls a turn. */
static void put_call(struct bench *b, struct store_tx *tx, uint32_t i, int phase)
{
        char id[32], event[160];
        struct row_run run = {.seq = 10 + i,
                              .id = id,
                              .workflow = "echo",
                              .kind = "call",
                              .created_us = 1763640000000000,
                              .state = phase == 2 ? RUN_SUCCEEDED : RUN_RUNNING,
                              .n_steps = 1,
                              .inputs = "{}",
                              .created_by = "root",
                              .finished_us = phase == 2 ? 1763640000000999 : 0};
        struct row_step_move m = {.run_seq = run.seq,
                                  .state = phase == 2 ? STEP_SUCCEEDED : STEP_DISPATCHED,
                                  .attempt = 1,
                                  .attempt_id = 100000 + i};
        int n;

        snprintf(id, sizeof id, "01jd3q%010uabcdefghij", i);
        if (phase == 0)
                store_put_step(tx, &(struct row_step){.run_seq = run.seq,
                                                      .id = "call",
                                                      .tool = "echo",
                                                      .parent = -1,
                                                      .state = STEP_READY,
                                                      .input = "{}"});
        if (phase != 1)
                store_put_run(tx, &run);
        if (phase == 1)
                m.agent = "01jd3q00000000000000agent1", m.agent_name = "worker-1", m.dispatched_us = 1;
        if (phase == 2)
                m.outputs = "{\"exit_code\":0}", m.finished_us = 2;
        if (phase > 0)
                store_move_step(tx, &m);
        n = snprintf(event, sizeof event,
                     "{\"id\":%lld,\"type\":\"step.moved\",\"run\":\"%s\",\"step\":\"call\"}\n",
                     (long long)b->event_id + 1, id);
        b->event_id++;
        store_put_events(tx, id, b->event_id, b->event_id, event, (size_t)n);
}

static double calls(struct bench *b, uint32_t n)
{
        double t = now_us(CLOCK_MONOTONIC);

        for (uint32_t at = 0; at < n + 64; at += 32) {
                struct store_tx *tx = store_begin(b->store);

                for (uint32_t i = at; i < at + 32; i++) {
                        for (uint32_t phase = 0; phase < 3; phase++) {
                                if (i >= phase * 32 && i - phase * 32 < n)
                                        put_call(b, tx, i - phase * 32, (int)phase);
                        }
                }
                b->in_flight++;
                store_commit(tx, on_moved, b);
                while (b->in_flight >= MAX_FLIGHT || (at + 32 >= n + 64 && b->in_flight))
                        uv_run(&b->loop, UV_RUN_ONCE);
        }
        return (now_us(CLOCK_MONOTONIC) - t) / 1e3;
}

static void one_at_a_time(struct bench *b)
{
        b->round = 0;
        for (int i = 0; i < SINGLES; i++) {
                struct store_tx *tx = store_begin(b->store);
                double t = now_us(CLOCK_MONOTONIC);

                put_move(tx, (uint32_t)i % b->n_steps, 1);
                put_events(b, tx, (uint32_t)i, 1);
                b->in_flight = 1;
                store_commit(tx, on_moved, b);
                while (b->in_flight)
                        uv_run(&b->loop, UV_RUN_ONCE);
                b->us[i] = now_us(CLOCK_MONOTONIC) - t;
        }
        qsort(b->us, SINGLES, sizeof *b->us, by_value);
}

int main(int argc, char **argv)
{
        static struct bench b;
        static double raw[SINGLES];
        char dir[] = "/tmp/store_bench.XXXXXX", path[512];
        const char *at = argc > 2 ? argv[2] : mkdtemp(dir);
        struct store_stats st0, st, st1;
        double insert_ms, moves_ms, cpu, loop_cpu, calls_ms, call_cpu;
        struct rusage ru;

        b.n_steps = argc > 1 ? (uint32_t)atoi(argv[1]) : 10000;
        raw_fdatasync(at, raw);
        uv_loop_init(&b.loop);
        if (mailbox_create(&b.loop, &b.mailbox))
                die("no mailbox", NULL);
        if (store_open(&(struct store_options){.dir = at, .mailbox = b.mailbox, .create = true}, &b.store,
                       &b.err))
                die("cannot open", &b.err);
        insert_ms = insert_run(&b);
        store_stats(b.store, &st0);
        cpu = now_us(CLOCK_PROCESS_CPUTIME_ID);
        loop_cpu = now_us(CLOCK_THREAD_CPUTIME_ID);
        moves_ms = move_all(&b);
        cpu = now_us(CLOCK_PROCESS_CPUTIME_ID) - cpu;
        loop_cpu = now_us(CLOCK_THREAD_CPUTIME_ID) - loop_cpu;
        store_stats(b.store, &st);
        one_at_a_time(&b);
        store_stats(b.store, &st1);
        call_cpu = now_us(CLOCK_PROCESS_CPUTIME_ID) - now_us(CLOCK_THREAD_CPUTIME_ID);
        calls_ms = calls(&b, b.n_steps);
        call_cpu = now_us(CLOCK_PROCESS_CPUTIME_ID) - now_us(CLOCK_THREAD_CPUTIME_ID) - call_cpu;
        getrusage(RUSAGE_SELF, &ru);
        store_close(b.store);
        mailbox_close(b.mailbox, NULL, NULL);
        uv_run(&b.loop, UV_RUN_DEFAULT);
        uv_loop_close(&b.loop);
        printf("{\"bench\":\"store\",\"steps\":%u,\"insert_ms\":%.1f,\"moves_ms\":%.1f,\"steps_per_s\":%.0f,"
               "\"moves_per_s\":%.0f,\"commits\":%llu,\"store_thread_us_per_move\":%.2f,\"loop_thread_us_per_"
               "move\":%.2f,"
               "\"commit_us\":{\"p50\":%.0f,\"p99\":%.0f,\"on_store_thread_mean\":%.0f},\"raw_fdatasync_us\":"
               "{\"p50\":%.0f,\"p99\":%.0f},"
               "\"commit_to_fdatasync_p50\":%.2f,\"calls_per_s\":%.0f,\"store_thread_us_per_call\":%.1f,"
               "\"max_rss_kib\":%ld}\n",
               b.n_steps, insert_ms, moves_ms, b.n_steps / ((insert_ms + moves_ms) / 1e3),
               2 * b.n_steps / (moves_ms / 1e3), (unsigned long long)(st.commits - st0.commits),
               (cpu - loop_cpu) / (2.0 * b.n_steps), loop_cpu / (2.0 * b.n_steps), b.us[SINGLES / 2],
               b.us[SINGLES * 99 / 100], (double)(st1.commit_us_total - st.commit_us_total) / SINGLES,
               raw[SINGLES / 2], raw[SINGLES * 99 / 100], b.us[SINGLES / 2] / raw[SINGLES / 2],
               b.n_steps / (calls_ms / 1e3), call_cpu / b.n_steps, ru.ru_maxrss);
        if (argc <= 2) {
                snprintf(path, sizeof path, "%s/hub.db", at);
                unlink(path);
                rmdir(at);
        }
        return 0;
}
