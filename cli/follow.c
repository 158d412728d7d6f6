#include "cli/follow.h"

#include <stdio.h>
#include <string.h>

#include "cli/client.h"
#include "cli/interrupt.h"
#include "cli/print.h"
#include "common/clock.h"
#include "common/mem.h"

#define AGAIN_FIRST_MS 200
#define AGAIN_MAX_MS   5000

static int64_t now_ms(void)
{
        return clock_mono_ms(&clock_system);
}

static int on_sse(void *ctx, const char *event, const char *id, const char *data, size_t n)
{
        struct follow *f = ctx;

        return f->on_item(f->ctx, event, id, data, n);
}

static int on_json_line(void *ctx, const char *s, size_t n)
{
        struct follow *f = ctx;

        return n ? f->on_item(f->ctx, "", "", s, n) : 0;
}

void follow_init(struct follow *f)
{
        sse_init(&f->sse, on_sse, f);
        f->over = false;
        f->rc = 0;
        f->r = NULL;
        f->again_ms = f->since_ms = 0;
        f->tries = 0;
}

void follow_fini(struct follow *f)
{
        if (f->r)
                client_stop(f->c, f->r);
        f->r = NULL;
        sse_fini(&f->sse);
        mem_free(f->path);
        f->path = NULL;
}

static int on_data(void *ctx, const void *p, size_t n)
{
        struct follow *f = ctx;

        if (f->since_ms && f->tries && !f->quiet)
                note("the hub is back");
        f->since_ms = 0;
        f->tries = 0;
        return f->events ? sse_feed(&f->sse, p, n) : lines_feed(&f->sse.line, p, n, on_json_line, f);
}

static void end(struct follow *f, int rc, const struct err *e)
{
        f->over = true;
        f->rc = rc;
        if (e)
                f->err = *e;
}

static bool passes(const struct answer *a)
{
        return a->rc == -E_UNAVAIL || a->rc == -E_CLOSED || a->status == 503 || a->status == 429;
}

static void on_end(void *ctx, const struct answer *a)
{
        struct follow *f = ctx;
        int64_t now = now_ms(), wait;
        struct err why;

        f->r = NULL;
        if (a->rc ? !passes(a) : !f->is_all || f->is_all(f->ctx)) {
                end(f, a->rc, a->err);
                return;
        }
        /* A hub that was never there is an error, one that went away is waited for. */
        if (!f->since_ms)
                f->since_ms = now;
        if (now - f->since_ms >= FOLLOW_PATIENCE_MS) {
                err_set(&why, E_UNAVAIL, "%s", a->rc ? a->err->msg : "the hub has stopped");
                end(f, -E_UNAVAIL, &why);
                return;
        }
        if (!f->tries && !f->quiet)
                note("%s; trying again for up to %d s", a->rc ? a->err->msg : "the hub has ended the stream",
                     FOLLOW_PATIENCE_MS / 1000);
        wait = AGAIN_FIRST_MS << (f->tries < 5 ? f->tries : 5);
        f->tries++;
        f->again_ms = now + (wait < AGAIN_MAX_MS ? wait : AGAIN_MAX_MS);
        sse_restart(&f->sse);
        if (f->on_again)
                f->on_again(f->ctx, f);
}

int follow_step(struct follow *f, int most)
{
        struct request_spec s = {.method = "GET",
                                 .path = f->path,
                                 .events = f->events,
                                 .endless = !f->events,
                                 .last_event_id = f->events && f->sse.id[0] ? f->sse.id : NULL,
                                 .on_data = on_data,
                                 .on_end = on_end,
                                 .ctx = f};
        int64_t left = f->again_ms - now_ms();
        int rc;

        if (f->over || f->r)
                return most;
        if (left > 0)
                return left < most ? (int)left : most;
        rc = client_start(f->c, &s, &f->r, &f->err);
        if (rc)
                end(f, rc, NULL);
        return most;
}

int follow_all(struct follow *f, struct err *e)
{
        int asked = interrupt_count(), rc = 0;

        while (!rc && !f->over) {
                int wait = follow_step(f, 1000);

                rc = client_turn(f->c, f->over ? 0 : wait, -1, NULL, e);
                if (!rc && !f->over && interrupt_count() != asked)
                        rc = err_set(e, E_CANCELLED, "interrupted");
        }
        if (!rc && f->rc) {
                rc = f->rc;
                *e = f->err;
        }
        return rc;
}

int follow_get(struct client *c, char *path, cJSON **out, struct err *e)
{
        int64_t since = now_ms(), until;
        int asked = interrupt_count(), rc = path ? 0 : err_set(e, E_NOMEM, "no memory");
        bool told = false;

        while (!rc) {
                rc = client_json(c, "GET", path, NULL, out, e);
                if ((rc != -E_UNAVAIL && rc != -E_CLOSED) || now_ms() - since >= FOLLOW_PATIENCE_MS)
                        break;
                if (!told)
                        note("%s; trying again for up to %d s", e->msg, FOLLOW_PATIENCE_MS / 1000);
                told = true;
                until = now_ms() + AGAIN_FIRST_MS * 5;
                for (rc = 0; !rc && now_ms() < until;) {
                        rc = client_turn(c, (int)(until - now_ms()), -1, NULL, e);
                        if (!rc && interrupt_count() != asked)
                                rc = err_set(e, E_CANCELLED, "interrupted");
                }
        }
        mem_free(path);
        return rc;
}
