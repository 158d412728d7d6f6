/* The store thread: takes all transactions that wait, commits them as one, and
 * posts one mail that runs their callbacks on the loop. While it is in
 * fdatasync the next batch gathers by itself, so no delay is ever added. */
#include "hub/store/store_impl.h"

#include "common/clock.h"
#include "common/log.h"

#include <signal.h>
#include <string.h>
#include <time.h>

#define RETRY_MS 500
#define IDLE_MS  1000 /* this long without work, then the WAL goes into the database */
#define PAUSE_MS 4    /* this long, if there is much in it: so that nobody waits for the whole WAL later */

static struct timespec in_ms(long ms)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        t.tv_sec += ms / 1000;
        t.tv_nsec += ms % 1000 * 1000000;
        if (t.tv_nsec >= 1000000000) {
                t.tv_sec++;
                t.tv_nsec -= 1000000000;
        }
        return t;
}

static int64_t mono_us(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* Locked. Says a trouble once when it begins or changes, and once when it is over. */
static void note_health(struct store *s, const struct err *e)
{
        if (e->code && e->code != s->health.code)
                log_error("store", "cannot write, trying again", "reason=\"%s\"", e->msg);
        else if (!e->code && s->health.code)
                log_info("store", "writing again", "transactions=%llu", (unsigned long long)s->stats.queue);
        s->health = *e;
}

static void note_commit(struct store *s, const struct store_tx *batch, uint64_t rows, int64_t us)
{
        struct store_stats *st = &s->stats;

        for (; batch; batch = batch->next) {
                st->transactions++;
                st->queue--;
        }
        st->commits++;
        st->rows += rows;
        st->last_commit_us = us;
        st->commit_us_total += us;
}

/* Locked. The batch goes back to the front, in its order. */
static void put_back(struct store *s, struct store_tx *batch)
{
        struct store_tx **end = &batch;

        while (*end)
                end = &(*end)->next;
        *end = s->first;
        if (!s->first)
                s->last = end;
        s->first = batch;
}

struct store_tx *worker_commit_queue(struct store *s, bool once)
{
        pthread_mutex_lock(&s->lock);
        while (s->first) {
                struct store_tx *batch = s->first;
                struct err e = {0};
                uint64_t rows;
                int64_t t0;
                int rc;

                s->first = NULL;
                s->last = &s->first;
                pthread_mutex_unlock(&s->lock);
                t0 = mono_us();
                rc = db_commit(&s->db, batch, &rows, &e);
                pthread_mutex_lock(&s->lock);
                if (!rc)
                        note_commit(s, batch, rows, mono_us() - t0);
                note_health(s, &e);
                if (!rc) {
                        pthread_mutex_unlock(&s->lock);
                        return batch;
                }
                put_back(s, batch);
                if (once || s->stop)
                        break;

                struct timespec until = in_ms(RETRY_MS);

                /* New work must not shorten the wait; stop does, for one last try. */
                while (!s->stop && pthread_cond_timedwait(&s->wake, &s->lock, &until) == 0)
                        ;
        }
        pthread_mutex_unlock(&s->lock);
        return NULL;
}

static void on_batch(struct mail *m)
{
        store_deliver((struct store_tx *)(void *)((char *)m - offsetof(struct store_tx, mail)));
}

/* Waits for work. False: stop, and nothing waits. */
static bool wait_for_work(struct store *s)
{
        struct timespec until = in_ms(db_wants_checkpoint(&s->db, DB_PAUSES) ? PAUSE_MS : IDLE_MS);
        bool more;

        pthread_mutex_lock(&s->lock);
        while (!s->first && !s->stop) {
                if (!db_wants_checkpoint(&s->db, DB_IDLE)) {
                        pthread_cond_wait(&s->wake, &s->lock);
                } else if (pthread_cond_timedwait(&s->wake, &s->lock, &until) != 0 && !s->first && !s->stop) {
                        pthread_mutex_unlock(&s->lock);
                        db_checkpoint(&s->db);
                        pthread_mutex_lock(&s->lock);
                }
        }
        more = s->first != NULL;
        pthread_mutex_unlock(&s->lock);
        return more;
}

static void *worker_main(void *arg)
{
        struct store *s = arg;

        while (wait_for_work(s)) {
                struct store_tx *batch = worker_commit_queue(s, false);

                if (!batch)
                        break; /* stopped, and the last try failed */
                batch->mail.run = on_batch;
                mailbox_post(s->mailbox, &batch->mail);
                if (db_wants_checkpoint(&s->db, DB_BUSY))
                        db_checkpoint(&s->db);
        }
        return NULL;
}

int worker_start(struct store *s, struct err *e)
{
        sigset_t all, before;
        int sys;

        /* Signals belong to the loop. */
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        sys = pthread_create(&s->thread, NULL, worker_main, s);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        if (sys)
                return err_set(e, err_from_errno(sys), "cannot start the store thread: %s", strerror(sys));
        s->has_thread = true;
        return 0;
}

void worker_stop(struct store *s)
{
        pthread_mutex_lock(&s->lock);
        s->stop = true;
        pthread_cond_signal(&s->wake);
        pthread_mutex_unlock(&s->lock);
        pthread_join(s->thread, NULL);
        s->has_thread = false;
}
