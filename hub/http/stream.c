#include "hub/http/stream.h"

#include <string.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/log.h"
#include "common/mailbox.h"
#include "common/mem.h"
#include "hub/http/request.h"

/* Wakes at once in one every_ms: a word that comes as an event and as bytes, or the words of a model, are not
 * held up by the one before; what writes more than that travels together. */
#define BURST 4

struct stream {
        struct http *h;
        struct MHD_Connection *conn;
        int fd;
        const struct stream_ops *ops;
        void *state;
        struct caller who; /* HTTP thread; token_id "": nobody had to say */
        unsigned changes;  /* http.token_changes when that was so */
        struct buf out;    /* HTTP thread */
        size_t off;
        bool joined; /* HTTP thread: the loop knows it */
        bool parted; /* HTTP thread: the last words are said */

        atomic_int refs;
        atomic_int parked;
        atomic_uint wakeups; /* by the loop, also while it is not parked */
        atomic_bool beat;    /* a comment is due */
        atomic_bool gone;    /* the client hung up */
        _Atomic uint64_t attempt;
        _Atomic int64_t sent_ms;
        _Atomic int64_t due_ms; /* 0: none */

        struct mail join, leave;
        struct list link; /* [loop] http.subs */
        bool pending;     /* [loop] to be woken by the nudge timer */
        int64_t woken_ms; /* [loop] when the burst began */
        int burst;        /* [loop] wakes since then */
};

static void stream_unref(struct stream *s)
{
        if (atomic_fetch_sub(&s->refs, 1) != 1)
                return;
        s->ops->free(s->state);
        buf_fini(&s->out);
        mem_free(s);
}

int stream_create(struct http_req *q, const struct stream_ops *ops, void *state, struct stream **out)
{
        struct stream *s = mem_calloc(1, sizeof *s);

        if (!s) {
                ops->free(state);
                return -E_NOMEM;
        }
        s->h = q->h;
        s->conn = q->conn;
        s->fd = q->fd;
        s->ops = ops;
        s->state = state;
        s->who = q->caller;
        s->changes = q->known_changes;
        buf_init(&s->out, 0);
        list_init(&s->link);
        atomic_init(&s->refs, 1);
        atomic_init(&s->sent_ms, http_now_ms());
        *out = s;
        return 0;
}

void stream_drop(struct stream *s)
{
        if (s)
                stream_unref(s);
}

void stream_watch_attempt(struct stream *s, uint64_t attempt_id)
{
        atomic_store(&s->attempt, attempt_id);
}

void stream_wake_at(struct stream *s, int64_t at_ms)
{
        atomic_store(&s->due_ms, at_ms);
}

/* ---- waking: any thread that swaps `parked` to 0 resumes, nobody else ---- */

static void resume(struct stream *s)
{
        if (!atomic_exchange(&s->parked, 0))
                return;
        MHD_resume_connection(s->conn);
        atomic_fetch_sub(&s->h->parked, 1);
}

static void wake(struct stream *s, int64_t now_ms)
{
        s->pending = false;
        if (now_ms - s->woken_ms >= s->ops->every_ms) {
                s->woken_ms = now_ms;
                s->burst = 0;
        }
        s->burst++;
        atomic_fetch_add(&s->wakeups, 1);
        resume(s);
}

static void wake_soon(struct stream *s, int64_t now_ms)
{
        struct http *h = s->h;
        int64_t left = s->woken_ms + s->ops->every_ms - now_ms;

        if (left <= 0 || s->burst < BURST) {
                wake(s, now_ms);
                return;
        }
        s->pending = true;
        if (!h->nudge_armed) {
                h->nudge_armed = true;
                uv_timer_start(&h->nudge, streams_on_nudge, (uint64_t)left, 0);
        }
}

/* ---- the loop's side ---- */

static void on_join(struct mail *m)
{
        struct stream *s = container_of(m, struct stream, join);

        list_push_back(&s->h->subs, &s->link);
        /* What came between the first reading and now. */
        wake(s, http_now_ms());
}

static void on_leave(struct mail *m)
{
        struct stream *s = container_of(m, struct stream, leave);

        list_remove(&s->link);
        stream_unref(s);
}

void streams_on_event(void *ctx, int64_t last)
{
        struct http *h = ctx;
        int64_t now;

        (void)last;
        if (list_empty(&h->subs))
                return;
        now = http_now_ms();
        LIST_EACH (it, &h->subs)
                wake_soon(container_of(it, struct stream, link), now);
}

void streams_on_log(void *ctx, uint64_t attempt_id, uint64_t log_end, bool finished)
{
        struct http *h = ctx;
        int64_t now = 0;

        (void)log_end;
        LIST_EACH (it, &h->subs) {
                struct stream *s = container_of(it, struct stream, link);

                if (atomic_load(&s->attempt) != attempt_id)
                        continue;
                if (!now)
                        now = http_now_ms();
                /* Followers that keep reading are not parked and need no timer. */
                if (finished || atomic_load(&s->parked))
                        wake_soon(s, now);
                else
                        atomic_fetch_add(&s->wakeups, 1);
        }
}

void streams_on_nudge(uv_timer_t *t)
{
        struct http *h = t->data;
        int64_t now = http_now_ms(), next = INT64_MAX;

        h->nudge_armed = false;
        LIST_EACH (it, &h->subs) {
                struct stream *s = container_of(it, struct stream, link);
                int64_t due = s->woken_ms + s->ops->every_ms;

                if (!s->pending)
                        continue;
                if (due <= now)
                        wake(s, now);
                else if (due < next)
                        next = due;
        }
        if (next != INT64_MAX) {
                h->nudge_armed = true;
                uv_timer_start(t, streams_on_nudge, (uint64_t)(next - now), 0);
        }
}

void streams_sweep(struct http *h, int64_t now_ms)
{
        LIST_EACH (it, &h->subs) {
                struct stream *s = container_of(it, struct stream, link);

                int64_t due = atomic_load(&s->due_ms);

                if (!atomic_load(&s->parked))
                        continue;
                if (due && now_ms >= due)
                        wake(s, now_ms);
                else if (http_peer_gone(s->fd)) {
                        atomic_store(&s->gone, true);
                        wake(s, now_ms);
                } else if (s->ops->events && now_ms - atomic_load(&s->sent_ms) >= h->o.heartbeat_ms) {
                        atomic_store(&s->beat, true);
                        wake(s, now_ms);
                }
        }
}

void streams_end_all(struct http *h)
{
        int64_t now = http_now_ms();

        LIST_EACH (it, &h->subs)
                wake(container_of(it, struct stream, link), now);
}

/* ---- the HTTP thread's side ---- */

/* False: something happened meanwhile, read again. */
static bool park(struct stream *s, unsigned seen)
{
        struct http *h = s->h;

        atomic_fetch_add(&h->parked, 1);
        if (atomic_load(&h->stopping) || atomic_load(&s->wakeups) != seen) {
                atomic_fetch_sub(&h->parked, 1);
                return false;
        }
        MHD_suspend_connection(s->conn);
        atomic_store(&s->parked, 1);
        if (!s->joined) {
                s->joined = true;
                atomic_fetch_add(&s->refs, 1);
                s->join.run = on_join;
                mailbox_post(h->o.mailbox, &s->join);
        }
        if (atomic_load(&s->wakeups) != seen || atomic_load(&h->stopping))
                resume(s);
        return true;
}

static ssize_t give(struct stream *s, char *to, size_t max)
{
        size_t n = s->out.len - s->off < max ? s->out.len - s->off : max;

        memcpy(to, s->out.data + s->off, n);
        s->off += n;
        if (s->off == s->out.len) {
                buf_reset(&s->out);
                s->off = 0;
        }
        atomic_store(&s->sent_ms, http_now_ms());
        return (ssize_t)n;
}

/* Who follows for days may have lost their token, or a role, since: then the stream ends before anything more
 * is said, and whoever still may begins another. */
static bool still_may(struct stream *s, struct http_thread *t)
{
        unsigned changes = atomic_load(&s->h->token_changes);
        int64_t now = clock_now_us(s->h->o.clock);
        struct caller again = {0};

        if (!s->who.token_id[0])
                return true;
        if (s->who.expires_us && s->who.expires_us <= now)
                return false;
        if (changes == s->changes)
                return true;
        if (auth_recheck_api_token(t->reader, s->who.token_id, now, &again) ||
            again.permissions != s->who.permissions ||
            memcmp(&again.roles, &s->who.roles, sizeof again.roles) != 0)
                return false;
        s->changes = changes;
        return true;
}

static ssize_t on_read(void *cls, uint64_t pos, char *to, size_t max)
{
        struct stream *s = cls;

        (void)pos;
        while (s->off == s->out.len) {
                unsigned seen = atomic_load(&s->wakeups);
                struct http_thread *t = NULL;
                struct err e;

                if (atomic_load(&s->gone))
                        return MHD_CONTENT_READER_END_WITH_ERROR;
                if (s->parted)
                        return MHD_CONTENT_READER_END_OF_STREAM;
                if (http_thread(s->h, &t, &e))
                        return MHD_CONTENT_READER_END_WITH_ERROR;
                if (atomic_load(&s->h->stopping)) {
                        if (s->ops->stop)
                                s->ops->stop(s->state, s, t, &s->out);
                        s->parted = s->out.len > 0;
                        if (s->parted)
                                continue;
                        return s->ops->events ? MHD_CONTENT_READER_END_OF_STREAM
                                              : MHD_CONTENT_READER_END_WITH_ERROR;
                }
                if (!still_may(s, t))
                        return s->ops->events ? MHD_CONTENT_READER_END_OF_STREAM
                                              : MHD_CONTENT_READER_END_WITH_ERROR;
                switch (s->ops->fill(s->state, s, t, &s->out)) {
                case STREAM_DATA:
                        break;
                case STREAM_WAIT:
                        if (s->out.len)
                                break;
                        if (atomic_exchange(&s->beat, false) && s->ops->events &&
                            buf_puts(&s->out, ": still here\n\n") == 0)
                                break;
                        if (park(s, seen))
                                return 0;
                        break;
                case STREAM_END:
                        if (!s->out.len)
                                return MHD_CONTENT_READER_END_OF_STREAM;
                        break;
                case STREAM_BROKEN:
                        return MHD_CONTENT_READER_END_WITH_ERROR;
                }
        }
        return give(s, to, max);
}

static void on_free(void *cls)
{
        struct stream *s = cls;

        if (s->joined) {
                s->leave.run = on_leave; /* gives up the loop's reference */
                mailbox_post(s->h->o.mailbox, &s->leave);
        }
        stream_unref(s);
}

struct MHD_Response *stream_response(struct stream *s)
{
        struct MHD_Response *r =
                MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_PIECE, on_read, s, on_free);

        if (!r) {
                stream_drop(s);
                return NULL;
        }
        if (s->ops->events)
                MHD_add_response_header(r, "X-Accel-Buffering", "no");
        return r;
}
