#include "agent/output.h"

#include "agent/spool.h"
#include "common/err.h"
#include "common/list.h"
#include "common/log.h"
#include "common/mem.h"

#include <inttypes.h>
#include <malloc.h>
#include <string.h>

#define CHUNK_MIN_CAP  256u
#define TRIM_BYTES     (1u << 20)
#define TURN_BYTES_MAX (1u << 20) /* of one output in one turn, whatever the credit */

struct chunk {
        struct list link;
        uint64_t off;
        int64_t at_us;
        int channel;
        uint32_t len, cap;
        uint8_t data[];
};

struct output_pool {
        uv_loop_t *loop;
        struct spool_dir dir;
        uint64_t spool_max;
        uint64_t job_memory, memory;
        int linger_ms;
        uint64_t used; /* bytes of chunks in memory, all outputs */
        uint64_t peak; /* of `used`, since memory was last given back */
        bool attached;
        struct output_wire wire;
        struct list all, dirty;
        uv_timer_t linger, slow;
        bool linger_on, slow_on;
        bool disk_trouble; /* told in the log */
        uint8_t *read_buf; /* for sending from disk */
        int closing;
        void (*on_closed)(void *arg);
        void *closed_arg;
};

struct output {
        struct output_pool *pool;
        uint64_t attempt_id;
        struct list all, dirty;
        struct list mem, overflow; /* of struct chunk */
        struct chunk *next;        /* in mem, holds `sent`; NULL: look */
        struct spool spool;
        uint64_t acked, sent, total;
        uint64_t used; /* memory */
        void *stream;
        int64_t progress_ms; /* loop time of the last acknowledgement, or of opening */
        bool resumed;        /* the hub knows where it goes on, on this connection */
        bool lingered, was_open, blocked, ended;
        bool held; /* the tool waits for on_room */
        bool finished, unknown_total;
        bool unwanted;        /* the hub does not know the attempt: bytes are thrown away */
        uint64_t retry_at_ms; /* 0: at once */
        void (*on_room)(void *arg);
        void *arg;
};

static uint64_t loop_ms(const struct output_pool *p)
{
        return uv_now(p->loop);
}

static void mark_dirty(struct output *o)
{
        list_remove(&o->dirty);
        list_push_back(&o->pool->dirty, &o->dirty);
}

static void on_slow(uv_timer_t *t);

static void arm_slow(struct output_pool *p)
{
        if (p->slow_on || p->closing)
                return;
        p->slow_on = true;
        uv_timer_start(&p->slow, on_slow, OUTPUT_STALL_MS, 0);
}

/* Memory. */

static void chunk_free(struct output *o, struct chunk *c)
{
        if (o->next == c)
                o->next = NULL;
        list_remove(&c->link);
        o->used -= c->cap;
        o->pool->used -= c->cap;
        mem_free(c);
}

static void chunks_free(struct output *o, struct list *head)
{
        LIST_EACH_SAFE (l, nx, head)
                chunk_free(o, container_of(l, struct chunk, link));
}

/* The last chunk if n more bytes of that channel fit, or a new one. */
static struct chunk *chunk_for(struct output *o, struct list *head, int channel, size_t n, int64_t now_us)
{
        struct chunk *last = list_empty(head) ? NULL : container_of(head->prev, struct chunk, link);
        size_t cap = CHUNK_MIN_CAP;
        struct chunk *c;

        if (last && last->channel == channel && last->cap - last->len >= n)
                return last;
        if (last && last->channel == channel)
                cap = (size_t)last->cap * 2;
        if (cap > OUTPUT_CHUNK_MAX)
                cap = OUTPUT_CHUNK_MAX;
        if (cap < n)
                cap = n;
        c = mem_alloc(sizeof *c + cap);
        if (!c)
                return NULL;
        c->channel = channel;
        c->at_us = now_us;
        c->off = o->total;
        c->len = 0;
        c->cap = (uint32_t)cap;
        o->used += cap;
        o->pool->used += cap;
        if (o->pool->used > o->pool->peak)
                o->pool->peak = o->pool->used;
        list_push_back(head, &c->link);
        return c;
}

static int keep(struct output *o, struct list *head, int channel, const uint8_t *p, size_t n, int64_t now_us)
{
        while (n > 0) {
                size_t part = n > OUTPUT_CHUNK_MAX ? OUTPUT_CHUNK_MAX : n;
                struct chunk *c = chunk_for(o, head, channel, part, now_us);

                if (!c)
                        return -E_NOMEM;
                memcpy(c->data + c->len, p, part);
                c->len += (uint32_t)part;
                o->total += part;
                p += part;
                n -= part;
        }
        return 0;
}

static bool over_memory(const struct output *o)
{
        const struct output_pool *p = o->pool;

        return o->used > p->job_memory || (p->used > p->memory && o->used > OUTPUT_CHUNK_MAX);
}

/* Someone takes the bytes, so the tool can wait for room instead of writing to disk. */
static bool is_taken(const struct output *o)
{
        return o->stream && loop_ms(o->pool) - (uint64_t)o->progress_ms < OUTPUT_STALL_MS;
}

/* Told once, until the disk takes something again: the log may lie on the same one. */
static void cannot_spool(const struct output *o, int rc)
{
        if (!o->pool->disk_trouble)
                log_warn("output", "cannot spool, tools that write much wait", "attempt=%" PRIu64 " error=%s",
                         o->attempt_id, err_name(rc));
        o->pool->disk_trouble = true;
}

/* Overflow -> disk, oldest first. */
static int drain_overflow(struct output *o)
{
        LIST_EACH_SAFE (l, nx, &o->overflow) {
                struct chunk *c = container_of(l, struct chunk, link);
                int rc;

                if (o->pool->dir.bytes + c->len > o->pool->spool_max && !o->finished)
                        return -E_FULL;
                rc = spool_put(&o->spool, c->off, c->channel, c->at_us, c->data, c->len);
                if (rc) {
                        cannot_spool(o, rc);
                        return rc;
                }
                if (o->pool->disk_trouble)
                        log_info("output", "can spool again", "attempt=%" PRIu64, o->attempt_id);
                o->pool->disk_trouble = false;
                chunk_free(o, c);
        }
        return 0;
}

/* With nothing on disk the overflow is just the newest memory. */
static void settle(struct output *o)
{
        struct list *l;

        if (!spool_empty(&o->spool))
                return;
        while ((l = list_pop(&o->overflow)))
                list_push_back(&o->mem, l);
}

static void consider_room(struct output *o)
{
        int rc = 0;

        if (!o->held || o->finished)
                return;
        settle(o);
        mark_dirty(o); /* what overflowed can be sent once it has a place */
        if (!list_empty(&o->overflow))
                rc = drain_overflow(o);
        if (rc) {
                arm_slow(o->pool);
                return;
        }
        if (is_taken(o) && o->total - o->acked > o->pool->job_memory / 2) {
                arm_slow(o->pool);
                return;
        }
        o->held = false;
        if (o->on_room)
                o->on_room(o->arg);
}

int output_put(struct output *o, int channel, const void *p, size_t n, int64_t now_us)
{
        bool to_disk =
                !spool_empty(&o->spool) || !list_empty(&o->overflow) || (over_memory(o) && !is_taken(o));
        int rc = 0;

        if (n == 0)
                return o->held ? -E_FULL : 0;
        if (o->unwanted) {
                o->total += n;
                o->acked = o->sent = o->total;
                return 0;
        }
        /* Who writes events is watched: the first word of a model does not wait for the end of the call. */
        if (channel == PHOTON__V1__CHANNEL__CHANNEL_EVENT)
                o->lingered = true;
        if (o->acked == o->total)
                o->progress_ms = (int64_t)loop_ms(o->pool); /* nothing was owed, so nobody was slow */
        if (keep(o, to_disk ? &o->overflow : &o->mem, channel, p, n, now_us))
                return -E_NOMEM;
        if (to_disk)
                rc = drain_overflow(o);
        mark_dirty(o);
        if (rc || (is_taken(o) && o->total - o->acked > o->pool->job_memory)) {
                o->held = true;
                arm_slow(o->pool);
        }
        return o->held ? -E_FULL : 0;
}

/* Sending. */

static struct chunk *mem_at(struct output *o, uint64_t off)
{
        if (o->next && off >= o->next->off && off < o->next->off + o->next->len)
                return o->next;
        LIST_EACH (l, &o->mem) {
                struct chunk *c = container_of(l, struct chunk, link);

                if (off < c->off)
                        return NULL;
                if (off < c->off + c->len)
                        return c;
        }
        return NULL;
}

/* The bytes at `sent`, lent until the next call. */
static int next_piece(struct output *o, Photon__V1__OutputChunk *m)
{
        struct chunk *c = mem_at(o, o->sent);
        size_t n;
        int rc, channel;

        if (c) {
                size_t skip = (size_t)(o->sent - c->off);

                o->next = c;
                m->channel = (Photon__V1__Channel)c->channel;
                m->at_us = c->at_us;
                m->data.data = c->data + skip;
                m->data.len = c->len - skip;
                return 0;
        }
        if (!o->pool->read_buf)
                o->pool->read_buf = mem_alloc(OUTPUT_CHUNK_MAX);
        if (!o->pool->read_buf)
                return -E_NOMEM;
        rc = spool_read(&o->spool, o->sent, o->pool->read_buf, OUTPUT_CHUNK_MAX, &n, &channel, &m->at_us);
        if (rc)
                return rc;
        m->channel = (Photon__V1__Channel)channel;
        m->data.data = o->pool->read_buf;
        m->data.len = n;
        return 0;
}

static void retry_later(struct output *o)
{
        o->retry_at_ms = loop_ms(o->pool) + OUTPUT_RETRY_MS;
        arm_slow(o->pool);
}

static void on_linger(uv_timer_t *t)
{
        struct output_pool *p = t->data;

        p->linger_on = false;
        LIST_EACH (l, &p->all) {
                struct output *o = container_of(l, struct output, all);

                if (!o->lingered && o->total > 0) {
                        o->lingered = true;
                        mark_dirty(o);
                }
        }
}

/* Short calls end before their first bytes would have left; those then travel with the result. */
static bool wait_for_end(struct output *o)
{
        struct output_pool *p = o->pool;

        if (o->lingered || p->linger_ms < 0 || o->finished || o->was_open || o->total > OUTPUT_INLINE_MAX)
                return false;
        if (!p->linger_on) {
                p->linger_on = true;
                uv_timer_start(&p->linger, on_linger, (uint64_t)p->linger_ms, 0);
        }
        return true;
}

static bool stream_open(struct output *o)
{
        struct output_pool *p = o->pool;
        int rc;

        if (o->retry_at_ms > loop_ms(p)) {
                arm_slow(p);
                return false;
        }
        rc = p->wire.open(p->wire.ctx, o, &o->stream);
        if (rc) {
                o->stream = NULL;
                retry_later(o);
                return false;
        }
        o->was_open = true;
        o->blocked = o->ended = false;
        o->sent = o->acked;
        o->next = NULL;
        o->progress_ms = (int64_t)loop_ms(p);
        return true;
}

static void send_pieces(struct output *o)
{
        struct output_pool *p = o->pool;
        size_t budget = TURN_BYTES_MAX;

        while (o->stream && !o->blocked && o->sent < o->total && budget > 0) {
                Photon__V1__OutputChunk m = PHOTON__V1__OUTPUT_CHUNK__INIT;
                int rc = next_piece(o, &m);

                if (rc) {
                        if (!list_empty(&o->overflow) && rc == -E_NOENT)
                                return; /* it waits for disk space or room */
                        log_error("output", "bytes that wait for the hub cannot be read",
                                  "attempt=%" PRIu64 " offset=%" PRIu64 " error=%s", o->attempt_id, o->sent,
                                  err_name(rc));
                        retry_later(o);
                        p->wire.drop(o->stream);
                        o->stream = NULL;
                        return;
                }
                m.attempt_id = o->attempt_id;
                m.offset = o->sent;
                rc = p->wire.send(o->stream, &m);
                if (rc == -E_FULL)
                        o->blocked = true;
                if (rc)
                        return;
                o->sent += m.data.len;
                budget -= m.data.len < budget ? m.data.len : budget;
        }
        if (o->stream && !o->blocked && o->sent < o->total)
                mark_dirty(o); /* the rest next turn */
}

static void pump(struct output *o)
{
        struct output_pool *p = o->pool;

        if (!p->attached || !o->resumed || o->unwanted || o->ended)
                return;
        if (!o->stream) {
                if (o->acked >= o->total || wait_for_end(o) || !stream_open(o))
                        return;
        }
        send_pieces(o);
        if (o->stream && o->finished && o->sent >= o->total && !o->ended) {
                o->ended = true;
                p->wire.end(o->stream);
        }
}

void output_pool_turn(struct output_pool *p)
{
        struct list now, *l;

        if (list_empty(&p->dirty))
                return;
        /* What becomes dirty while this runs is for the next turn. */
        list_init(&now);
        while ((l = list_pop(&p->dirty)))
                list_push_back(&now, l);
        while ((l = list_pop(&now)))
                pump(container_of(l, struct output, dirty));
        /* A turn that left work must not fall asleep before doing it. */
        if (!list_empty(&p->dirty) && !p->linger_on && !p->closing) {
                p->linger_on = true;
                uv_timer_start(&p->linger, on_linger, 0, 0);
        }
}

/* Every OUTPUT_STALL_MS while something is stuck. */
static void on_slow(uv_timer_t *t)
{
        struct output_pool *p = t->data;
        bool again = false;

        p->slow_on = false;
        LIST_EACH_SAFE (l, nx, &p->all) {
                struct output *o = container_of(l, struct output, all);

                if (o->retry_at_ms) {
                        if (o->retry_at_ms <= loop_ms(p)) {
                                o->retry_at_ms = 0;
                                mark_dirty(o);
                        } else {
                                again = true;
                        }
                }
                if (o->held) {
                        again = true;
                        consider_room(o); /* may free o */
                }
        }
        if (again)
                arm_slow(p);
}

/* From the wire. */

void output_on_ack(struct output *o, uint64_t durable)
{
        if (durable > o->total) {
                log_warn("output", "the hub acknowledged more than was produced",
                         "attempt=%" PRIu64 " durable=%" PRIu64 " total=%" PRIu64, o->attempt_id, durable,
                         o->total);
                return;
        }
        if (durable <= o->acked)
                return;
        o->acked = durable;
        if (o->sent < durable)
                o->sent = durable;
        o->progress_ms = (int64_t)loop_ms(o->pool);
        LIST_EACH_SAFE (l, nx, &o->mem) {
                struct chunk *c = container_of(l, struct chunk, link);

                if (c->off + c->len > durable)
                        break;
                chunk_free(o, c);
        }
        spool_ack(&o->spool, durable);
        consider_room(o);
}

void output_on_writable(struct output *o)
{
        o->blocked = false;
        mark_dirty(o);
}

void output_on_end(struct output *o, int code)
{
        bool whole = o->ended && code == 0;

        o->stream = NULL;
        o->blocked = o->ended = false;
        if (code == -E_NOENT) {
                log_warn("output", "the hub does not know the attempt; its output is dropped",
                         "attempt=%" PRIu64, o->attempt_id);
                o->unwanted = true;
                chunks_free(o, &o->mem);
                chunks_free(o, &o->overflow);
                spool_drop(&o->spool);
                o->acked = o->sent = o->total;
                consider_room(o);
                return;
        }
        if (whole && o->acked >= o->total)
                return;
        if (o->pool->attached && code != -E_CLOSED)
                log_warn("output", "the stream ended early, trying again",
                         "attempt=%" PRIu64 " acked=%" PRIu64 " total=%" PRIu64 " error=%s", o->attempt_id,
                         o->acked, o->total, err_name(code));
        retry_later(o);
}

void output_resume(struct output *o, uint64_t from)
{
        if (o->unknown_total) {
                /* It died while it ran: what the spool can add to the hub's part without a gap is sent. */
                bool joins = !spool_empty(&o->spool) && spool_base(&o->spool) <= from &&
                             spool_end(&o->spool) > from;

                o->total = joins ? spool_end(&o->spool) : from;
                if (!joins)
                        spool_drop(&o->spool);
                o->unknown_total = false;
        }
        if (from > o->total) {
                log_warn("output", "the hub has more than was produced",
                         "attempt=%" PRIu64 " hub=%" PRIu64 " total=%" PRIu64, o->attempt_id, from, o->total);
                from = o->total;
        }
        if (from < o->acked) {
                log_error("output", "the hub lost output that it had acknowledged",
                          "attempt=%" PRIu64 " hub=%" PRIu64 " acknowledged=%" PRIu64, o->attempt_id, from,
                          o->acked);
        } else {
                output_on_ack(o, from);
        }
        o->resumed = true;
        o->lingered = true;
        o->sent = o->acked;
        o->next = NULL;
        o->retry_at_ms = 0;
        mark_dirty(o);
}

/* Ends. */

uint64_t output_total(const struct output *o)
{
        return o->total;
}

uint64_t output_acked(const struct output *o)
{
        return o->acked;
}

uint64_t output_attempt_id(const struct output *o)
{
        return o->attempt_id;
}

bool output_is_inline(const struct output *o)
{
        return o->total <= OUTPUT_INLINE_MAX && !o->was_open && o->acked == 0 && spool_empty(&o->spool) &&
               list_empty(&o->overflow) && !o->unwanted;
}

int output_inline(const struct output *o, Photon__V1__OutputChunk ***out, size_t *out_n)
{
        Photon__V1__OutputChunk **v;
        size_t n = 0;

        LIST_EACH (l, &o->mem)
                n++;
        v = mem_calloc(n ? n : 1, sizeof *v);
        if (!v)
                return -E_NOMEM;
        n = 0;
        LIST_EACH (l, &o->mem) {
                struct chunk *c = container_of(l, struct chunk, link);
                Photon__V1__OutputChunk *m = mem_alloc(sizeof *m);

                if (!m) {
                        while (n > 0)
                                mem_free(v[--n]);
                        mem_free(v);
                        return -E_NOMEM;
                }
                photon__v1__output_chunk__init(m);
                m->attempt_id = o->attempt_id;
                m->offset = c->off;
                m->channel = (Photon__V1__Channel)c->channel;
                m->at_us = c->at_us;
                m->data.data = c->data;
                m->data.len = c->len;
                v[n++] = m;
        }
        *out = v;
        *out_n = n;
        return 0;
}

int output_seal(struct output *o)
{
        int rc = 0;

        o->finished = true;
        o->held = false;
        mark_dirty(o);
        settle(o);
        /* A front part written earlier covers memory already. */
        if (!list_empty(&o->mem) && (spool_empty(&o->spool) || spool_base(&o->spool) > o->acked)) {
                LIST_EACH (l, &o->mem) {
                        struct chunk *c = container_of(l, struct chunk, link);

                        if (!rc)
                                rc = spool_put_front(&o->spool, c->off, c->channel, c->at_us, c->data,
                                                     c->len);
                }
                if (rc)
                        spool_front_undo(&o->spool);
                else
                        spool_front_done(&o->spool);
        }
        if (!rc)
                rc = drain_overflow(o);
        /* Memory is only worth keeping while the hub is reading from it. */
        if (!rc && !o->pool->attached)
                chunks_free(o, &o->mem);
        if (rc)
                arm_slow(o->pool);
        return rc;
}

/* Life. */

static int make(struct output_pool *p, uint64_t attempt_id, struct output **out)
{
        struct output *o = mem_calloc(1, sizeof *o);

        if (!o)
                return -E_NOMEM;
        o->pool = p;
        o->attempt_id = attempt_id;
        list_init(&o->mem);
        list_init(&o->overflow);
        list_init(&o->dirty);
        list_push_back(&p->all, &o->all);
        spool_init(&o->spool, &p->dir, attempt_id);
        *out = o;
        return 0;
}

int output_create(struct output_pool *p, uint64_t attempt_id, void (*on_room)(void *arg), void *arg,
                  struct output **out)
{
        struct output *o;
        int rc = make(p, attempt_id, &o);

        if (rc)
                return rc;
        o->on_room = on_room;
        o->arg = arg;
        o->resumed = p->attached;
        *out = o;
        return 0;
}

int output_restore(struct output_pool *p, uint64_t attempt_id, uint64_t total, struct output **out,
                   struct err *e)
{
        struct output *o;
        int rc = make(p, attempt_id, &o);

        if (rc)
                return err_set(e, -rc, "no memory for the output of an attempt");
        o->finished = true;
        o->total = total;
        o->unknown_total = total == 0;
        rc = spool_load(&o->spool, e);
        if (rc) {
                output_leave(o);
                return rc;
        }
        o->acked = o->sent = spool_base(&o->spool);
        if (!o->unknown_total && (spool_empty(&o->spool) ? o->total : o->total - spool_end(&o->spool)) != 0)
                log_warn("output", "the spool does not hold all that was produced",
                         "attempt=%" PRIu64 " end=%" PRIu64 " total=%" PRIu64, attempt_id,
                         spool_end(&o->spool), total);
        *out = o;
        return 0;
}

static void release(struct output *o, bool delete_files)
{
        if (!o)
                return;
        if (o->stream)
                o->pool->wire.drop(o->stream);
        chunks_free(o, &o->mem);
        chunks_free(o, &o->overflow);
        if (delete_files)
                spool_drop(&o->spool);
        spool_fini(&o->spool);
        list_remove(&o->dirty);
        list_remove(&o->all);
        mem_free(o);
}

void output_free(struct output *o)
{
        release(o, true);
}

void output_leave(struct output *o)
{
        release(o, false);
}

void output_pool_attach(struct output_pool *p, const struct output_wire *w)
{
        p->attached = w != NULL;
        if (w)
                p->wire = *w;
        LIST_EACH_SAFE (l, nx, &p->all) {
                struct output *o = container_of(l, struct output, all);

                o->resumed = false;
                if (w)
                        continue;
                o->stream = NULL;
                o->blocked = o->ended = false;
                o->retry_at_ms = 0;
                if (o->finished && spool_base(&o->spool) <= o->acked && !spool_empty(&o->spool))
                        chunks_free(o, &o->mem);
                consider_room(o); /* nobody takes it any more: on to disk */
        }
}

uint64_t output_pool_spooled(const struct output_pool *p)
{
        return p->dir.bytes;
}

void output_pool_trim(struct output_pool *p)
{
        if (p->used > 0 || p->peak < TRIM_BYTES)
                return;
        p->peak = 0;
        malloc_trim(0);
}

void output_pool_sweep(struct output_pool *p, bool (*keep_fn)(uint64_t attempt_id, void *arg), void *arg)
{
        spool_dir_sweep(&p->dir, keep_fn, arg);
}

int output_pool_create(const struct output_pool_options *o, struct output_pool **out, struct err *e)
{
        struct output_pool *p = mem_calloc(1, sizeof *p);
        int rc;

        if (!p)
                return err_set(e, E_NOMEM, "no memory for output");
        p->loop = o->loop;
        p->spool_max = (uint64_t)o->spool_max;
        p->job_memory = o->job_memory ? (uint64_t)o->job_memory : OUTPUT_JOB_MEMORY;
        p->memory = o->memory ? (uint64_t)o->memory : OUTPUT_MEMORY;
        p->linger_ms = o->linger_ms ? o->linger_ms : OUTPUT_LINGER_MS;
        list_init(&p->all);
        list_init(&p->dirty);
        rc = spool_dir_open(o->dir, &p->dir, e);
        if (rc) {
                mem_free(p);
                return rc;
        }
        uv_timer_init(o->loop, &p->linger);
        uv_timer_init(o->loop, &p->slow);
        p->linger.data = p->slow.data = p;
        *out = p;
        return 0;
}

static void on_timer_closed(uv_handle_t *h)
{
        struct output_pool *p = h->data;

        if (--p->closing > 0)
                return;
        spool_dir_fini(&p->dir);
        mem_free(p->read_buf);
        if (p->on_closed)
                p->on_closed(p->closed_arg);
        mem_free(p);
}

void output_pool_close(struct output_pool *p, void (*on_closed)(void *arg), void *arg)
{
        p->closing = 2;
        p->on_closed = on_closed;
        p->closed_arg = arg;
        uv_close((uv_handle_t *)&p->linger, on_timer_closed);
        uv_close((uv_handle_t *)&p->slow, on_timer_closed);
}
