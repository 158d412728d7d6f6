#include "tests/lib/test.h"

#include "common/err.h"
#include "common/list.h"
#include "common/mailbox.h"
#include "common/mem.h"

#define THREADS 4
#define EACH    5000

struct note {
        struct mail mail;
        int thread, n;
};

static struct mailbox *box;
static int next_of[THREADS], ran, closed;

static void on_closed(void *arg)
{
        CHECK(arg == &closed);
        closed++;
}

static void run_note(struct mail *m)
{
        struct note *n = container_of(m, struct note, mail);

        CHECK_INT(n->n, next_of[n->thread]); /* in order of posting */
        next_of[n->thread]++;
        mem_free(n);
        if (++ran == THREADS * EACH)
                mailbox_close(box, on_closed, &closed);
}

static void post_many(void *arg)
{
        int thread = (int)(intptr_t)arg;

        for (int i = 0; i < EACH; i++) {
                struct note *n = mem_calloc(1, sizeof *n);

                CHECK(n != NULL);
                n->mail.run = run_note;
                n->thread = thread;
                n->n = i;
                mailbox_post(box, &n->mail);
        }
}

TEST(mailbox, threads_post_in_order)
{
        uv_thread_t threads[THREADS];
        uv_loop_t loop;

        CHECK(uv_loop_init(&loop) == 0);
        CHECK_INT(mailbox_create(&loop, &box), 0);
        for (int i = 0; i < THREADS; i++)
                CHECK(uv_thread_create(&threads[i], post_many, (void *)(intptr_t)i) == 0);
        uv_run(&loop, UV_RUN_DEFAULT);
        for (int i = 0; i < THREADS; i++)
                uv_thread_join(&threads[i]);
        CHECK_INT(ran, THREADS * EACH);
        CHECK_INT(closed, 1);
        CHECK(uv_loop_close(&loop) == 0);
}

static void count(struct mail *m)
{
        (void)m;
        ran++;
}

static void post_again(struct mail *m)
{
        ran++;
        m->run = count;
        mailbox_post(box, m);
}

TEST(mailbox, drain_runs_what_waits_now)
{
        struct mail a = {.run = post_again}, b = {.run = count};
        uv_loop_t loop;

        CHECK(uv_loop_init(&loop) == 0);
        CHECK_INT(mailbox_create(&loop, &box), 0);
        CHECK_INT(mailbox_drain(box), 0);
        mailbox_post(box, &a);
        mailbox_post(box, &b);
        CHECK_INT(mailbox_drain(box), 2);
        CHECK_INT(mailbox_drain(box), 1);
        CHECK_INT(ran, 3);
        mailbox_close(box, NULL, NULL);
        uv_run(&loop, UV_RUN_DEFAULT);
        CHECK(uv_loop_close(&loop) == 0);
}

static int create(void *arg)
{
        int rc = mailbox_create(arg, &box);

        if (!rc)
                mailbox_close(box, NULL, NULL);
        uv_run(arg, UV_RUN_DEFAULT);
        return rc;
}

TEST(mailbox, survives_no_memory)
{
        uv_loop_t loop;

        CHECK(uv_loop_init(&loop) == 0);
        test_each_alloc_fails(create, &loop);
        CHECK(uv_loop_close(&loop) == 0);
}
