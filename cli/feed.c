#include "cli/feed.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "cli/client.h"
#include "cli/print.h"
#include "common/clock.h"
#include "common/err.h"
#include "common/mem.h"
#include "common/str.h"

#define FULL_FIRST_MS 2
#define FULL_MAX_MS   100
#define AWAY_MS       500

static int64_t now_ms(void)
{
        return clock_mono_ms(&clock_system);
}

int feed_init(struct feed *f, struct client *c, const char *run, int fd, struct err *e)
{
        *f = (struct feed){.c = c, .fd = fd, .over = fd < 0};
        buf_init(&f->kept, 4 * FEED_WINDOW);
        f->base = client_path("/runs/%s/stdin", run);
        return f->base ? 0 : err_set(e, E_NOMEM, "no memory");
}

void feed_fini(struct feed *f)
{
        if (f->r)
                client_stop(f->c, f->r);
        f->r = NULL;
        buf_fini(&f->kept);
        mem_free(f->base);
        f->base = NULL;
}

static uint64_t end_of(const struct feed *f)
{
        return f->kept_at + f->kept.len;
}

int feed_wants(const struct feed *f)
{
        return f->over || f->at_eof || end_of(f) - f->next >= FEED_PIECE ? -1 : f->fd;
}

/* Forgets what even a hub that died has passed on. */
static void trim(struct feed *f)
{
        uint64_t keep_from = f->next > FEED_WINDOW ? f->next - FEED_WINDOW : 0;

        if (keep_from > f->kept_at + FEED_WINDOW) { /* in large steps: the rest is moved */
                buf_consume(&f->kept, (size_t)(keep_from - f->kept_at));
                f->kept_at = keep_from;
        }
}

void feed_read(struct feed *f)
{
        ssize_t k;

        trim(f);
        if (buf_reserve(&f->kept, FEED_PIECE)) {
                note("no memory for standard input; the command gets no more of it");
                f->at_eof = true;
                return;
        }
        k = read(f->fd, f->kept.data + f->kept.len, FEED_PIECE);
        if (k > 0) {
                f->kept.len += (size_t)k;
        } else if (k == 0) {
                f->at_eof = true;
        } else if (errno != EINTR && errno != EAGAIN) {
                note("standard input: %s; the command gets no more of it", strerror(errno));
                f->at_eof = true;
        }
}

static void accepted(struct feed *f)
{
        f->next += f->sending;
        f->tries = 0;
        f->over = f->sending_eof;
}

static void refused(struct feed *f, const struct answer *a)
{
        const cJSON *taken = jget(a->doc, "taken");
        uint64_t at = cJSON_IsNumber(taken) ? (uint64_t)taken->valuedouble : f->next;
        int wait = FULL_FIRST_MS << (f->tries < 6 ? f->tries : 6);

        if (at >= f->kept_at && at <= end_of(f))
                f->next = at;
        if (strcmp(a->code, "resource_exhausted") == 0 || a->status == 429) {
                f->tries++;
                f->again_ms = now_ms() + (wait < FULL_MAX_MS ? wait : FULL_MAX_MS);
        } else if (strcmp(a->code, "invalid_argument") != 0 || at > end_of(f) || at < f->kept_at) {
                f->over = true; /* the tool reads no more, or is over: its result tells */
        }
}

static void on_end(void *ctx, const struct answer *a)
{
        struct feed *f = ctx;

        f->r = NULL;
        if (!a->rc) {
                accepted(f);
        } else if (a->status == 404) {
                f->over = true; /* the call is over: its result tells */
        } else if (a->status == 409 || a->status == 400 || a->status == 429) {
                refused(f, a);
        } else if (a->rc == -E_UNAVAIL || a->rc == -E_CLOSED || a->status >= 500) {
                f->next = f->next > FEED_WINDOW ? f->next - FEED_WINDOW : 0;
                if (f->next < f->kept_at)
                        f->next = f->kept_at;
                f->again_ms = now_ms() + AWAY_MS; /* who follows the output says that the hub is away */
        } else {
                note("standard input: %s", a->err->msg);
                f->over = true;
        }
}

int feed_step(struct feed *f, int most)
{
        int64_t left = f->again_ms - now_ms();
        uint64_t n = end_of(f) - f->next;
        struct request_spec s = {
                .method = "PUT", .type = "application/octet-stream", .on_end = on_end, .ctx = f};
        char *path;

        if (f->over || f->r || (!n && !f->at_eof))
                return most;
        if (left > 0)
                return left < most ? (int)left : most;
        f->sending = n < FEED_PIECE ? n : FEED_PIECE;
        f->sending_eof = f->at_eof && f->sending == n;
        path = str_printf("%s?offset=%llu%s", f->base, (unsigned long long)f->next,
                          f->sending_eof ? "&eof=true" : "");
        s.path = path;
        s.body = f->sending ? f->kept.data + (f->next - f->kept_at) : NULL;
        s.body_len = (size_t)f->sending;
        if (!path || client_start(f->c, &s, &f->r, NULL))
                f->again_ms = now_ms() + AWAY_MS; /* no memory: perhaps later */
        mem_free(path);
        return most;
}
