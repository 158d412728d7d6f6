/* The bytes that tools wrote. One step's attempt, or all of a run one after the
 * other in the order in which they started; as they are, or as JSON lines.
 *
 * A view is a queue of attempts. With follow it waits at the end of an attempt until
 * that is over, then looks for more: the step's next try, the run's next step. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/json.h"
#include "common/map.h"
#include "common/mem.h"
#include "common/str.h"
#include "hub/http/api.h"
#include "hub/http/attempt_log.h"
#include "hub/http/request.h"
#include "hub/http/stream.h"
#include "hub/logs/logs.h"
#include "hub/store/store.h"

#define CH_STDOUT 1
#define CH_STDERR 2
#define CH_EVENT  3
#define STEP_TEXT 320               /* an expanded step's id */
#define EVENT_MAX ((size_t)5 << 20) /* a line of events; a longer one is given as it is, in pieces */

struct item {
        uint64_t attempt_id;
        int64_t started_us;
        uint32_t idx, attempt;
        char step[STEP_TEXT];
};

struct view {
        const char *dir; /* the server's */
        char run[64];
        int64_t run_seq;
        char step[STEP_TEXT]; /* "": all steps */
        unsigned channels;    /* bit per channel */
        bool json, follow;
        bool fixed;      /* one attempt, named by the caller */
        uint64_t offset; /* where the first attempt begins */

        struct map *seen; /* attempt ids queued ever */
        struct item *queue;
        size_t n, cap, at;
        bool all_over; /* as of the last look: nothing more will come */
        struct log_reader *rd;
        bool opened, in_memory;
        struct buf *out;
        struct buf line; /* an event whose end has not come yet, in JSON form */
        uint64_t line_at;
        int64_t line_us;
        bool got;
        int rc;
};

static void view_free(void *p)
{
        struct view *v = p;

        if (!v)
                return;
        if (v->rd)
                log_reader_close(v->rd);
        map_free(v->seen);
        mem_free(v->queue);
        buf_fini(&v->line);
        mem_free(v);
}

/* ---- which attempts ---- */

static int push(struct view *v, const struct item *it)
{
        if (map_get_u64(v->seen, it->attempt_id))
                return 0;
        if (v->n == v->cap) {
                size_t cap = v->cap ? v->cap * 2 : 4;
                struct item *q = mem_realloc(v->queue, cap * sizeof *q);

                if (!q)
                        return -E_NOMEM;
                v->queue = q;
                v->cap = cap;
        }
        if (map_put_u64(v->seen, it->attempt_id, v, NULL))
                return -E_NOMEM;
        v->queue[v->n++] = *it;
        return 0;
}

static int on_step(void *arg, const struct row_step *s)
{
        struct view *v = arg;
        struct item it = {.attempt_id = s->attempt_id, .idx = s->idx, .attempt = s->attempt};

        if (v->step[0])
                v->all_over = step_state_final(s->state);
        if (!s->attempt_id || s->fanout)
                return 0;
        it.started_us = s->started_us ? s->started_us : s->dispatched_us;
        snprintf(it.step, sizeof it.step, "%s", s->id);
        return push(v, &it);
}

static int on_run(void *arg, const struct row_run *r)
{
        struct view *v = arg;

        v->run_seq = r->seq;
        v->all_over = run_state_final(r->state);
        return 0;
}

static int by_start(const void *a, const void *b)
{
        const struct item *x = a, *y = b;

        if (x->started_us != y->started_us)
                return x->started_us < y->started_us ? -1 : 1;
        return x->idx < y->idx ? -1 : x->idx > y->idx;
}

/* Looks for attempts that were not there before. Whether all is over is read first, so that
 * nothing comes between. */
static int look(struct view *v, struct store_reader *r)
{
        int rc;

        v->n = v->at = 0;
        if (v->step[0])
                return read_step(r, v->run_seq, v->step, on_step, v);
        rc = read_run(r, v->run, on_run, v);
        if (!rc)
                rc = read_steps(r, v->run_seq, on_step, v);
        if (!rc && v->n > 1)
                qsort(v->queue, v->n, sizeof *v->queue, by_start);
        return rc;
}

struct over {
        const struct item *it;
        bool over;
};

static int on_over(void *arg, const struct row_step *s)
{
        struct over *o = arg;

        o->over = s->attempt_id != o->it->attempt_id || step_state_final(s->state) ||
                  s->state == STEP_READY || s->state == STEP_WAITING || s->state == STEP_BLOCKED;
        return 0;
}

static int attempt_over(struct view *v, struct store_reader *r, bool *out)
{
        struct over o = {.it = &v->queue[v->at]};
        int rc = v->fixed ? 0 : read_step(r, v->run_seq, o.it->step, on_over, &o);

        *out = v->fixed || o.over;
        return rc;
}

/* ---- its bytes ---- */

static const char *channel_name(int ch)
{
        return ch == CH_STDERR ? "stderr" : ch == CH_EVENT ? "event" : "stdout";
}

static int put_head(struct view *v, uint64_t offset, int channel, int64_t at_us)
{
        const struct item *it = &v->queue[v->at];
        char time[CLOCK_RFC3339_LEN];

        clock_format(at_us, time);
        return buf_printf(
                v->out, "{\"step\":\"%s\",\"attempt\":%u,\"offset\":%llu,\"channel\":\"%s\",\"time\":\"%s\",",
                it->step, it->attempt, (unsigned long long)offset, channel_name(channel), time);
}

static int put_json(struct view *v, uint64_t offset, int channel, const void *p, size_t n, int64_t at_us)
{
        char *b64 = NULL;
        int rc = put_head(v, offset, channel, at_us);

        if (!rc && str_is_utf8(p, n) && !memchr(p, 0, n)) {
                rc = buf_puts(v->out, "\"data\":");
                if (!rc)
                        rc = json_append_str(v->out, p, n);
        } else if (!rc) {
                b64 = str_b64(p, n);
                rc = b64 ? buf_printf(v->out, "\"encoding\":\"base64\",\"data\":\"%s\"", b64) : -E_NOMEM;
        }
        mem_free(b64);
        return rc ? rc : buf_puts(v->out, "}\n");
}

/* One event, without its line's end. What is no JSON object is given as it is. */
static int put_event(struct view *v, uint64_t offset, const char *p, size_t n, int64_t at_us)
{
        cJSON *ev = NULL;
        int rc = json_parse(p, n, &ev, NULL);
        bool good = !rc && cJSON_IsObject(ev);

        cJSON_Delete(ev);
        if (rc == -E_NOMEM)
                return rc;
        if (!good)
                return put_json(v, offset, CH_EVENT, p, n, at_us);
        rc = put_head(v, offset, CH_EVENT, at_us);
        if (!rc)
                rc = buf_printf(v->out, "\"length\":%zu,\"event\":", n + 1);
        if (!rc)
                rc = buf_put(v->out, p, n);
        return rc ? rc : buf_puts(v->out, "}\n");
}

/* The beginning of an event that has no end: its tool died, or what follows is another's. */
static int flush_event(struct view *v)
{
        int rc = v->line.len ? put_json(v, v->line_at, CH_EVENT, v->line.data, v->line.len, v->line_us) : 0;

        buf_fini(&v->line);
        return rc;
}

/* A piece may hold many events, or a part of one; the pieces of one lie side by side. */
static int put_events(struct view *v, uint64_t offset, const char *p, size_t n, int64_t at_us)
{
        int rc = v->line.len && offset != v->line_at + v->line.len ? flush_event(v) : 0;

        while (n && !rc) {
                const char *nl = memchr(p, '\n', n);
                size_t take = nl ? (size_t)(nl - p) : n, step = take + (nl != NULL);

                if (v->line.len == 0) {
                        v->line_at = offset;
                        v->line_us = at_us;
                }
                if (nl && v->line.len == 0)
                        rc = take ? put_event(v, offset, p, take, at_us) : 0;
                else
                        rc = buf_put(&v->line, p, take);
                if (!rc && nl && v->line.len) {
                        rc = put_event(v, v->line_at, (char *)v->line.data, v->line.len, v->line_us);
                        buf_reset(&v->line);
                } else if (!rc && v->line.len > EVENT_MAX) {
                        rc = flush_event(v);
                }
                p += step;
                n -= step;
                offset += step;
        }
        return rc;
}

static int on_piece(void *arg, uint64_t offset, int channel, const void *p, size_t n, int64_t at_us)
{
        struct view *v = arg;

        v->got = true;
        if (channel < CH_STDOUT || channel > CH_EVENT || !(v->channels & 1u << channel))
                return 0;
        if (!v->json)
                v->rc = buf_put(v->out, p, n);
        else if (channel == CH_EVENT)
                v->rc = put_events(v, offset, p, n, at_us);
        else
                v->rc = put_json(v, offset, channel, p, n, at_us);
        return v->rc;
}

static int open_attempt(struct view *v, struct store_reader *r, bool over)
{
        int rc;

        if (v->rd)
                return 0;
        rc = attempt_log_open(v->dir, r, v->queue[v->at].attempt_id, over, &v->rd);
        if (rc == -E_NOENT)
                return 0;
        if (!rc && v->offset)
                rc = log_reader_seek(v->rd, v->offset);
        v->offset = 0;
        return rc;
}

static void next_attempt(struct view *v, struct stream *s)
{
        if (v->rd)
                log_reader_close(v->rd);
        v->rd = NULL;
        v->offset = 0;
        v->at++;
        stream_watch_attempt(s, 0);
}

static enum stream_more fill(void *state, struct stream *s, struct http_thread *t, struct buf *out)
{
        struct view *v = state;
        bool over = true;
        int rc = 0;

        v->out = out;
        if (v->at == v->n) {
                if (v->fixed || (v->all_over && v->n) || (!v->follow && v->n))
                        return STREAM_END;
                rc = look(v, t->reader);
                if (rc)
                        return STREAM_BROKEN;
                if (!v->n)
                        return v->all_over || !v->follow ? STREAM_END : STREAM_WAIT;
        }
        if (v->follow) {
                stream_watch_attempt(s, v->queue[v->at].attempt_id);
                rc = attempt_over(v, t->reader, &over);
        }
        if (!rc)
                rc = open_attempt(v, t->reader, over);
        v->got = false;
        if (!rc && v->rd)
                rc = log_reader_next(v->rd, STREAM_PIECE, on_piece, v);
        if (rc < 0)
                return STREAM_BROKEN;
        if (v->got)
                return STREAM_DATA;
        if (!over)
                return STREAM_WAIT;
        if (flush_event(v))
                return STREAM_BROKEN;
        next_attempt(v, s);
        return STREAM_DATA; /* nothing yet; asks again */
}

static const struct stream_ops log_ops = {.fill = fill, .free = view_free, .every_ms = 20};

/* ---- the requests ---- */

static int read_channels(struct http_req *q, unsigned *out, struct err *e)
{
        const char *c = req_query(q, "channel");

        *out = 1u << CH_STDOUT | 1u << CH_STDERR;
        if (!c || strcmp(c, "output") == 0)
                return 0;
        if (strcmp(c, "stdout") == 0)
                *out = 1u << CH_STDOUT;
        else if (strcmp(c, "stderr") == 0)
                *out = 1u << CH_STDERR;
        else if (strcmp(c, "event") == 0)
                *out = 1u << CH_EVENT;
        else if (strcmp(c, "all") == 0)
                *out = 1u << CH_STDOUT | 1u << CH_STDERR | 1u << CH_EVENT;
        else
                return err_set(e, E_INVAL, "channel=%.32s: expected output, stdout, stderr, event or all", c);
        return 0;
}

static int begin(struct http_req *q, struct view *v, struct err *e)
{
        const char *format = req_query(q, "format");
        struct store_reader *r = req_reader(q, e);
        int rc = r ? read_channels(q, &v->channels, e) : -E_UNAVAIL;

        if (!rc)
                rc = req_query_bool(q, "follow", false, &v->follow, e);
        if (!rc && format && strcmp(format, "json") != 0 && strcmp(format, "raw") != 0)
                rc = err_set(e, E_INVAL, "format=%.32s: expected raw or json", format);
        if (rc)
                return rc;
        v->json = format && strcmp(format, "json") == 0;
        v->dir = q->h->o.logs_dir;
        v->seen = map_create();
        if (!v->seen)
                return err_set(e, E_NOMEM, "out of memory");
        rc = strlen(q->param[0]) < sizeof v->run ? read_run(r, q->param[0], on_run, v) : -E_NOENT;
        if (rc == -E_NOENT)
                return err_set(e, E_NOENT, "there is no run '%.64s'", q->param[0]);
        snprintf(v->run, sizeof v->run, "%s", q->param[0]);
        return rc;
}

/* Takes v. */
static int answer(struct http_req *q, struct view *v, struct err *e)
{
        int rc = v->follow ? req_take_place(q, e) : 0;

        if (rc) {
                view_free(v);
                return rc;
        }
        q->content_type = v->json ? "application/x-ndjson" : "application/octet-stream";
        rc = stream_create(q, &log_ops, v, &q->stream);
        return rc ? err_set(e, E_NOMEM, "out of memory") : 0;
}

int api_run_logs(struct http_req *q, struct err *e)
{
        struct view *v = mem_calloc(1, sizeof *v);
        int rc = v ? begin(q, v, e) : err_set(e, E_NOMEM, "out of memory");

        if (rc) {
                view_free(v);
                return rc;
        }
        return answer(q, v, e);
}

struct pick {
        struct view *v;
        int64_t attempt; /* wanted; 0: the current one */
        int64_t idx;
        bool found;
};

static int on_current(void *arg, const struct row_step *s)
{
        struct pick *p = arg;

        p->idx = s->idx;
        p->found = !p->attempt || p->attempt == s->attempt;
        return p->found && p->attempt ? on_step(p->v, s) : 0;
}

static int on_earlier(void *arg, const struct row_attempt *a)
{
        struct pick *p = arg;
        struct item it = {.attempt_id = a->attempt_id, .idx = a->idx, .attempt = a->attempt};

        if (a->attempt != p->attempt)
                return 0;
        snprintf(it.step, sizeof it.step, "%s", p->v->step);
        p->found = true;
        p->v->fixed = true; /* it is over: nothing to follow */
        return push(p->v, &it);
}

static int pick_attempt(struct http_req *q, struct view *v, struct err *e)
{
        struct pick p = {.v = v};
        struct store_reader *r = req_reader(q, e);
        int64_t offset = 0;
        int rc = r ? req_query_i64(q, "attempt", 1, UINT32_MAX, &p.attempt, e) : -E_UNAVAIL;

        if (!rc)
                rc = req_query_i64(q, "offset", 0, INT64_MAX, &offset, e);
        if (rc)
                return rc;
        v->offset = (uint64_t)offset;
        rc = strlen(q->param[1]) < sizeof v->step ? 0 : -E_NOENT;
        if (!rc) {
                snprintf(v->step, sizeof v->step, "%s", q->param[1]);
                rc = read_step(r, v->run_seq, v->step, on_current, &p);
        }
        if (rc == -E_NOENT)
                return err_set(e, E_NOENT, "run '%.64s' has no step '%.128s'", q->param[0], q->param[1]);
        if (!rc && !p.found)
                rc = read_attempts(r, v->run_seq, p.idx, on_earlier, &p);
        if (!rc && !p.found)
                return err_set(e, E_NOENT, "step '%.128s' has no attempt %lld", q->param[1],
                               (long long)p.attempt);
        if (!rc && p.attempt)
                v->all_over = true; /* only this one, followed while it runs */
        return rc;
}

int api_step_logs(struct http_req *q, struct err *e)
{
        struct view *v = mem_calloc(1, sizeof *v);
        int rc = v ? begin(q, v, e) : err_set(e, E_NOMEM, "out of memory");

        if (!rc)
                rc = pick_attempt(q, v, e);
        if (rc) {
                view_free(v);
                return rc;
        }
        return answer(q, v, e);
}
