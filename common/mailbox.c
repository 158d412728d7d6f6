#include "common/mailbox.h"

#include "common/err.h"
#include "common/mem.h"

#include <sched.h>
#include <stdbool.h>
#include <stddef.h>

struct mailbox {
        uv_async_t async;
        uv_mutex_t lock; /* guards the three fields below, for a few instructions only */
        struct mail *first;
        struct mail **last;
        bool closed;
        int senders; /* atomic: threads between the lock and uv_async_send's end */
        void (*on_closed)(void *arg);
        void *arg;
};

static void on_async(uv_async_t *async)
{
        mailbox_drain(async->data);
}

int mailbox_create(uv_loop_t *loop, struct mailbox **out)
{
        struct mailbox *mb = mem_calloc(1, sizeof *mb);

        if (!mb)
                return -E_NOMEM;
        if (uv_mutex_init(&mb->lock)) {
                mem_free(mb);
                return -E_FULL;
        }
        if (uv_async_init(loop, &mb->async, on_async)) {
                uv_mutex_destroy(&mb->lock);
                mem_free(mb);
                return -E_FULL;
        }
        mb->async.data = mb;
        mb->last = &mb->first;
        *out = mb;
        return 0;
}

void mailbox_post(struct mailbox *mb, struct mail *m)
{
        bool wake;

        m->next = NULL;
        uv_mutex_lock(&mb->lock);
        *mb->last = m;
        mb->last = &m->next;
        wake = !mb->closed;
        if (wake)
                __atomic_add_fetch(&mb->senders, 1, __ATOMIC_RELAXED);
        uv_mutex_unlock(&mb->lock);
        /* Not under the lock: the kernel likes to run the woken loop at once, in place of
         * this thread, and it would find the lock taken. */
        if (wake) {
                uv_async_send(&mb->async);
                __atomic_sub_fetch(&mb->senders, 1, __ATOMIC_RELEASE);
        }
}

int mailbox_drain(struct mailbox *mb)
{
        struct mail *m, *next;
        int ran = 0;

        uv_mutex_lock(&mb->lock);
        m = mb->first;
        mb->first = NULL;
        mb->last = &mb->first;
        uv_mutex_unlock(&mb->lock);
        /* Mails posted from now on wait for the next turn: the loop's other
         * work is not starved. A `run` may close the mailbox; what is in hand
         * was posted before and still runs. */
        for (; m; m = next, ran++) {
                next = m->next;
                m->run(m);
        }
        return ran;
}

static void on_handle_closed(uv_handle_t *h)
{
        struct mailbox *mb = h->data;
        void (*on_closed)(void *arg) = mb->on_closed;
        void *arg = mb->arg;

        uv_mutex_destroy(&mb->lock);
        mem_free(mb);
        if (on_closed)
                on_closed(arg);
}

void mailbox_close(struct mailbox *mb, void (*on_closed)(void *arg), void *arg)
{
        uv_mutex_lock(&mb->lock);
        mb->closed = true;
        uv_mutex_unlock(&mb->lock);
        /* Whoever was not stopped by `closed` is a few instructions from done. */
        while (__atomic_load_n(&mb->senders, __ATOMIC_ACQUIRE) > 0)
                sched_yield();
        mb->on_closed = on_closed;
        mb->arg = arg;
        uv_close((uv_handle_t *)&mb->async, on_handle_closed);
}
