#include "hub/event/bus.h"

#include "common/buf.h"
#include "common/clock.h"
#include "common/err.h"
#include "common/json.h"
#include "common/list.h"
#include "common/log.h"
#include "common/map.h"
#include "common/mem.h"
#include "hub/store/store.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define LISTENERS_MAX     16
#define RUN_ID_MAX        64
#define SPARE_GROUPS_MAX  256
#define SPARE_GROUP_BYTES (16u << 10)  /* a spare keeps no more memory than this */
#define ROW_BYTES         (256u << 10) /* a run's events of one batch are split into rows of about this size */

/* The events of one run in the current batch: u32 length, then the line
 * without its `{"id":N` and without a newline, and so on. */
struct group {
        struct list in_batch; /* or in spares */
        char run_id[RUN_ID_MAX];
        struct buf lines;
        size_t count;
};

struct listener {
        void (*fn)(void *ctx, int64_t last);
        void *ctx;
};

struct bus {
        int64_t written; /* loop only */
        _Atomic int64_t durable;
        struct list batch; /* groups in order of their first event */
        struct list spares;
        size_t n_spares;
        struct map *by_run;
        struct buf scratch; /* a row's text while it is put together */
        struct buf line;
        struct listener listeners[LISTENERS_MAX];
        size_t n_listeners;
};

int bus_create(int64_t last_id, struct bus **out)
{
        struct bus *b = mem_calloc(1, sizeof *b);

        if (!b)
                return -E_NOMEM;
        b->by_run = map_create();
        if (!b->by_run) {
                mem_free(b);
                return -E_NOMEM;
        }
        b->written = last_id;
        atomic_init(&b->durable, last_id);
        list_init(&b->batch);
        list_init(&b->spares);
        buf_init(&b->scratch, 0);
        buf_init(&b->line, 0);
        *out = b;
        return 0;
}

static void group_free(struct group *g)
{
        buf_fini(&g->lines);
        mem_free(g);
}

void bus_free(struct bus *b)
{
        struct list *it;

        if (!b)
                return;
        while ((it = list_pop(&b->batch)))
                group_free(container_of(it, struct group, in_batch));
        while ((it = list_pop(&b->spares)))
                group_free(container_of(it, struct group, in_batch));
        map_free(b->by_run);
        buf_fini(&b->scratch);
        buf_fini(&b->line);
        mem_free(b);
}

/* The line after `{"id":N`, without a newline. */
static int line_build(struct buf *l, int64_t now_us, const char *type, const char *run_id,
                      const char *step_id, const char *fields)
{
        char time[CLOCK_RFC3339_LEN];
        int rc;

        clock_format(now_us, time);
        buf_reset(l);
        rc = buf_printf(l, ",\"time\":\"%s\",\"type\":\"%s\"", time, type);
        if (!rc && *run_id) {
                rc = buf_puts(l, ",\"run\":");
                if (!rc)
                        rc = json_append_str(l, run_id, strlen(run_id));
        }
        if (!rc && step_id && *step_id) {
                rc = buf_puts(l, ",\"step\":");
                if (!rc)
                        rc = json_append_str(l, step_id, strlen(step_id));
        }
        if (!rc && fields && *fields) {
                rc = buf_putc(l, ',');
                if (!rc)
                        rc = buf_puts(l, fields);
        }
        return rc ? rc : buf_putc(l, '}');
}

static struct group *group_of(struct bus *b, const char *run_id)
{
        struct group *g = map_get(b->by_run, run_id);
        struct list *spare;

        if (g)
                return g;
        spare = list_pop(&b->spares);
        if (spare) {
                b->n_spares--;
                g = container_of(spare, struct group, in_batch);
        } else {
                g = mem_calloc(1, sizeof *g);
                if (!g)
                        return NULL;
                list_init(&g->in_batch);
                buf_init(&g->lines, 0);
        }
        snprintf(g->run_id, sizeof g->run_id, "%s", run_id);
        if (map_put(b->by_run, run_id, g, NULL)) {
                group_free(g);
                return NULL;
        }
        list_push_back(&b->batch, &g->in_batch);
        return g;
}

static int group_add(struct group *g, const struct buf *line)
{
        int rc = buf_reserve(&g->lines, 4 + line->len);

        if (rc)
                return rc;
        /* Room is there for both. */
        (void)buf_put_u32be(&g->lines, (uint32_t)line->len);
        (void)buf_put(&g->lines, line->data, line->len);
        g->count++;
        return 0;
}

void bus_publish(struct bus *b, int64_t now_us, const char *type, const char *run_id, const char *step_id,
                 const char *fields)
{
        struct group *g = NULL;
        int rc;

        if (!run_id)
                run_id = "";
        rc = strlen(run_id) < RUN_ID_MAX ? line_build(&b->line, now_us, type, run_id, step_id, fields)
                                         : -E_TOOBIG;
        if (!rc) {
                g = group_of(b, run_id);
                rc = g ? group_add(g, &b->line) : -E_NOMEM;
        }
        if (rc)
                log_error("bus", "event lost", "type=%s run=%s reason=%s", type, run_id, err_name(rc));
}

static int row_add(struct buf *row, int64_t id, const void *line, size_t n)
{
        int rc = buf_printf(row, "{\"id\":%" PRId64, id);

        if (!rc)
                rc = buf_put(row, line, n);
        return rc ? rc : buf_putc(row, '\n');
}

static void group_write(struct bus *b, struct group *g, struct store_tx *tx)
{
        const uint8_t *p = g->lines.data, *end = p + g->lines.len;

        while (p < end) {
                int64_t first = b->written + 1;
                int rc = 0;

                buf_reset(&b->scratch);
                while (p < end && !rc && b->scratch.len < ROW_BYTES) {
                        uint32_t n = u32be_load(p);

                        rc = row_add(&b->scratch, b->written + 1, p + 4, n);
                        if (!rc)
                                b->written++;
                        p += 4 + n;
                }
                if (rc) {
                        log_error("bus", "events lost", "run=%s count=%zu reason=%s", g->run_id, g->count,
                                  err_name(rc));
                        b->written = first - 1;
                        return;
                }
                store_put_events(tx, g->run_id, first, b->written, b->scratch.data, b->scratch.len);
        }
}

static void group_retire(struct bus *b, struct group *g)
{
        map_del(b->by_run, g->run_id);
        list_remove(&g->in_batch);
        if (b->n_spares >= SPARE_GROUPS_MAX || g->lines.cap > SPARE_GROUP_BYTES) {
                group_free(g);
                return;
        }
        buf_reset(&g->lines);
        g->count = 0;
        list_push_back(&b->spares, &g->in_batch);
        b->n_spares++;
}

int64_t bus_write(struct bus *b, struct store_tx *tx)
{
        while (!list_empty(&b->batch)) {
                struct group *g = container_of(b->batch.next, struct group, in_batch);

                group_write(b, g, tx);
                group_retire(b, g);
        }
        return b->written;
}

int64_t bus_put(struct bus *b, struct store_tx *tx, int64_t now_us, const char *type, const char *run_id,
                const char *step_id, const char *fields)
{
        int rc;

        if (!run_id)
                run_id = "";
        buf_reset(&b->scratch);
        rc = line_build(&b->line, now_us, type, run_id, step_id, fields);
        if (!rc)
                rc = row_add(&b->scratch, b->written + 1, b->line.data, b->line.len);
        if (rc) {
                log_error("bus", "event lost", "type=%s run=%s reason=%s", type, run_id, err_name(rc));
                return b->written;
        }
        b->written++;
        store_put_events(tx, run_id, b->written, b->written, b->scratch.data, b->scratch.len);
        return b->written;
}

int64_t bus_written(const struct bus *b)
{
        return b->written;
}

void bus_durable(struct bus *b, int64_t id)
{
        if (id <= atomic_load_explicit(&b->durable, memory_order_relaxed))
                return;
        atomic_store_explicit(&b->durable, id, memory_order_release);
        for (size_t i = 0; i < b->n_listeners; i++)
                b->listeners[i].fn(b->listeners[i].ctx, id);
}

int64_t bus_last(const struct bus *b)
{
        return atomic_load_explicit(&b->durable, memory_order_acquire);
}

int bus_on_advance(struct bus *b, void (*fn)(void *ctx, int64_t last), void *ctx)
{
        if (b->n_listeners == LISTENERS_MAX)
                return -E_FULL;
        b->listeners[b->n_listeners++] = (struct listener){fn, ctx};
        return 0;
}

const char *bus_line_text(const char *line, size_t n, const char *name, size_t *len)
{
        const char *p = memmem(line, n, name, strlen(name));
        const char *end;

        if (!p)
                return NULL;
        p += strlen(name);
        end = memchr(p, '"', n - (size_t)(p - line));
        if (!end)
                return NULL;
        *len = (size_t)(end - p);
        return p;
}
