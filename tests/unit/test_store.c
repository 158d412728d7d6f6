/* The store's transactions: order, group commit, descriptors, kill -9. */
#include "tests/unit/store_world.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct ordered {
        struct world *w;
        int n;
};

static void on_ordered(void *arg)
{
        struct ordered *o = arg;

        CHECK_INT(o->w->done, o->n);
        o->w->done++;
}

static void check_order_and_groups(bool thread)
{
        static struct ordered all[2000];
        struct store_stats st;
        struct world w = {0};

        world_open(&w, thread);
        for (int i = 0; i < 2000; i++) {
                struct store_tx *tx = store_begin(w.store);

                all[i] = (struct ordered){&w, i};
                if (i % 5)
                        store_put_meta(tx, "n", "x");
                store_commit(tx, on_ordered, &all[i]);
        }
        wait_done(&w, 2000);
        store_stats(w.store, &st);
        CHECK_INT(st.transactions, 2000);
        CHECK_INT(st.queue, 0);
        CHECK_INT(st.rows, 1600);
        CHECK(st.commits < 200);
        CHECK(st.commit_us_total > 0);
        world_close(&w);
}

TEST(store, many_transactions_few_commits_callbacks_in_order)
{
        check_order_and_groups(true);
}

TEST(store, pump_runs_callbacks_in_order)
{
        check_order_and_groups(false);
}

static void commit_again(void *arg)
{
        struct world *w = arg;
        struct store_tx *tx;

        if (++w->done == 10)
                return;
        tx = store_begin(w->store);
        store_put_meta(tx, "again", "x");
        store_commit(tx, commit_again, w);
}

TEST(store, a_callback_may_commit)
{
        struct world w = {0};
        struct store_tx *tx;

        world_open(&w, false);
        tx = store_begin(w.store);
        store_commit(tx, commit_again, &w);
        store_pump(w.store);
        CHECK_INT(w.done, 10);
        tx = store_begin(w.store);
        store_put_meta(tx, "no", "x");
        store_abandon(tx);
        store_pump(w.store);
        CHECK_INT(read_meta(w.reader, "no", &(char *){NULL}), -E_NOENT);
        world_close(&w);
}

TEST(store, close_commits_what_waits_and_completions_still_come)
{
        struct world w = {0};

        world_open(&w, true);
        for (int i = 0; i < 100; i++) {
                struct store_tx *tx = store_begin(w.store);

                store_put_meta(tx, "last", i == 99 ? "99" : "x");
                store_commit(tx, count_done, &w);
        }
        store_reader_close(w.reader);
        store_close(w.store);
        mailbox_drain(w.mailbox);
        CHECK_INT(w.done, 100);
        mailbox_close(w.mailbox, NULL, NULL);
        uv_run(&w.loop, UV_RUN_DEFAULT);
        uv_loop_close(&w.loop);
        w.mailbox = NULL;
        world_open(&w, false);
        check_meta(&w, "last", "99");
        world_close(&w);
}

TEST(store, syncs_descriptors_with_the_commit)
{
        struct world w = {0};
        struct store_tx *tx;
        char path[512];
        int fd;

        world_open(&w, true);
        snprintf(path, sizeof path, "%s/log", w.dir);
        fd = open(path, O_RDWR | O_CREAT, 0600);
        CHECK(fd >= 0);
        tx = store_begin(w.store);
        for (int i = 0; i < 200; i++)
                store_sync_fd(tx, fd);
        commit(&w, tx);
        /* A descriptor that cannot be synced keeps the batch back. */
        tx = store_begin(w.store);
        store_sync_fd(tx, 900);
        store_put_meta(tx, "k", "v");
        store_commit(tx, count_done, &w);
        while (store_health(w.store, &w.err) == 0)
                sched_yield();
        CHECK_INT(read_meta(w.reader, "k", &(char *){NULL}), -E_NOENT);
        CHECK_INT(w.done, 1);
        CHECK_INT(dup2(fd, 900), 900);
        wait_done(&w, 2);
        CHECK_INT(store_health(w.store, NULL), 0);
        check_meta(&w, "k", "v");
        close(900);
        close(fd);
        world_close(&w);
}

/* A big transaction spills SQLite's cache and the store's arena. */
TEST(store, a_run_of_20000_steps_in_one_transaction)
{
        struct world w = {0};
        struct store_tx *tx;
        char big[3000];

        memset(big, 'x', sizeof big - 1);
        big[sizeof big - 1] = '\0';
        world_open(&w, true);
        tx = store_begin(w.store);
        for (uint32_t i = 0; i < 20000; i++)
                store_put_step(tx, &(struct row_step){
                                           .run_seq = 1, .idx = i, .id = "s", .input = i % 10 ? NULL : big});
        commit(&w, tx);
        put_meta(&w, "after", "1");
        reopen(&w);
        check_meta(&w, "after", "1");
        world_close(&w);
}

TEST(store, the_write_ahead_log_stays_small)
{
        char *big = mem_calloc(1, 1 << 20), path[512];
        struct world w = {0};
        struct stat st;

        CHECK(big != NULL);
        memset(big, 'x', (1 << 20) - 1);
        world_open(&w, true);
        for (int i = 0; i < 60; i++)
                put_meta(&w, i % 2 ? "a" : "b", big);
        snprintf(path, sizeof path, "%s/hub.db-wal", w.dir);
        CHECK_INT(stat(path, &st), 0);
        CHECK(st.st_size < 24 << 20);
        mem_free(big);
        world_close(&w);
}

/* ---- kill -9 ---- */

static void child_commits_forever(const char *dir, int fd)
{
        struct world w = {.dir = dir};

        world_open(&w, true);
        for (unsigned i = 0;; i++) {
                char value[16];

                snprintf(value, sizeof value, "%u", i);
                put_meta(&w, value, value);
                if (write(fd, &i, sizeof i) != sizeof i)
                        _exit(0);
        }
}

TEST(store, kill_9_loses_nothing_that_was_acknowledged)
{
        struct world w = {.dir = test_scratch()};

        for (int round = 0; round < 4; round++) {
                unsigned last = 0, n = 0;
                char value[16];
                int p[2];
                pid_t pid;

                CHECK_INT(pipe(p), 0);
                pid = fork();
                if (pid == 0) {
                        close(p[0]);
                        child_commits_forever(w.dir, p[1]);
                }
                close(p[1]);
                while (n < 50u + 37u * (unsigned)round && read(p[0], &last, sizeof last) == sizeof last)
                        n++;
                kill(pid, SIGKILL);
                waitpid(pid, NULL, 0);
                while (read(p[0], &last, sizeof last) == sizeof last)
                        ;
                close(p[0]);
                world_open(&w, false);
                for (unsigned i = 0; i <= last; i++) {
                        snprintf(value, sizeof value, "%u", i);
                        check_meta(&w, value, value);
                }
                world_close(&w);
        }
}
