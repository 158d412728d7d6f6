/* Events as server-sent events (WHATWG HTML, section 9.2): id, event and data of
 * each; resumed by Last-Event-ID or ?after=, exactly, or with a "gap" event when that
 * is older than what is kept. */
#include <stdio.h>
#include <string.h>

#include "common/mem.h"
#include "common/str.h"
#include "hub/event/bus.h"
#include "hub/http/api.h"
#include "hub/http/guard.h"
#include "hub/http/request.h"
#include "hub/http/stream.h"
#include "hub/store/store.h"

/* Read in one go without finding anything for this caller. */
#define HIDDEN_PIECES 64

struct feed {
        char run[64]; /* "": all */
        int64_t after;
        bool follow;
        bool greeted, checked;
        struct caller who;
        char project[PROJECT_NAME_MAX +
                     1]; /* of which one events are asked for; "": all the caller may see */
        struct guard_runs runs;
        struct http_thread *t; /* while it is filled */
        bool hid;              /* the last piece held what this caller must not see */
        struct buf *out;
};

static int64_t id_of(const char *line, size_t n)
{
        int64_t id = 0;

        if (n < 7 || memcmp(line, "{\"id\":", 6) != 0)
                return 0;
        for (size_t i = 6; i < n && line[i] >= '0' && line[i] <= '9' && id < INT64_MAX / 16; i++)
                id = id * 10 + (line[i] - '0');
        return id;
}

static int put_event(struct feed *f, const char *line, size_t n)
{
        int64_t id = id_of(line, n);
        const char *type;
        size_t tn = 0;
        int rc;

        if (id <= f->after)
                return 0; /* given already: its batch was cut in two */
        type = bus_line_text(line, n, "\"type\":\"", &tn);
        rc = buf_printf(f->out, "id: %lld\nevent: %.*s\ndata: ", (long long)id, type ? (int)tn : 7,
                        type ? type : "message");
        if (!rc)
                rc = buf_put(f->out, line, n);
        if (!rc)
                rc = buf_put(f->out, "\n\n", 2);
        if (!rc)
                f->after = id;
        return rc;
}

/* The machines are everybody's; what else is of the hub itself is told to those with a role in all projects.
 */
static bool may_see(struct feed *f, const char *run, const char *line, size_t n)
{
        const char *type;
        size_t tn = 0;

        if (f->project[0])
                return *run && guard_run_in(&f->runs, f->project, f->t, run);
        if (caller_may(&f->who, PROJECT_ALL, PERM_EVENTS_READ))
                return true;
        if (*run)
                return guard_sees_run(&f->runs, &f->who, f->t, run, PERM_EVENTS_READ);
        type = bus_line_text(line, n, "\"type\":\"", &tn);
        return type && tn > 6 && memcmp(type, "agent.", 6) == 0;
}

static int on_batch(void *arg, const char *run, int64_t first, int64_t last, const char *lines, size_t n)
{
        struct feed *f = arg;

        (void)first;
        if (!may_see(f, run, lines, n)) {
                f->after = last;
                f->hid = true;
                return 0;
        }
        while (n) {
                const char *nl = memchr(lines, '\n', n);
                size_t len = nl ? (size_t)(nl - lines) : n;
                int rc = len ? put_event(f, lines, len) : 0;

                if (rc)
                        return rc;
                if (f->out->len >= STREAM_PIECE)
                        return 1; /* the rest of this batch next time */
                n -= len + (nl ? 1 : 0);
                lines += len + (nl ? 1 : 0);
        }
        return 0;
}

static int put_gap(struct feed *f, int64_t from, int64_t oldest)
{
        int64_t resume = oldest > 0 ? oldest - 1 : 0;
        int rc = buf_printf(
                f->out, "id: %lld\nevent: gap\ndata: {\"type\":\"gap\",\"after\":%lld,\"oldest\":%lld}\n\n",
                (long long)resume, (long long)from, (long long)oldest);

        if (!rc)
                f->after = resume;
        return rc;
}

/* Were events between what the client has and what is kept thrown away? Or
 * does it know ids that this hub has never given (another hub's)? */
static int check_gap(struct feed *f, struct http_thread *t)
{
        int64_t oldest = 0, newest = 0;
        int rc = read_events_bounds(t->reader, &oldest, &newest);

        f->checked = true;
        if (rc)
                return rc == -E_NOENT ? 0 : rc;
        if (f->after > newest)
                return put_gap(f, f->after, newest + 1);
        if (f->after + 1 < oldest && (f->after > 0 || oldest > 1))
                return put_gap(f, f->after, oldest);
        return 0;
}

static int on_run(void *arg, const struct row_run *r)
{
        *(enum run_state *)arg = r->state;
        return 0;
}

static enum stream_more fill(void *state, struct stream *s, struct http_thread *t, struct buf *out)
{
        struct feed *f = state;
        enum run_state st = RUN_RUNNING;
        bool over = !f->follow;
        int rc = 0;

        (void)s;
        f->out = out;
        f->t = t;
        if (!f->greeted) {
                f->greeted = true;
                return buf_puts(out, "retry: 2000\n\n") ? STREAM_BROKEN : STREAM_DATA;
        }
        if (!f->checked)
                rc = check_gap(f, t);
        /* The state is read before the events: a run seen over has all its events written. */
        if (!rc && f->run[0] && f->follow) {
                rc = read_run(t->reader, f->run, on_run, &st);
                over = run_state_final(st);
        }
        for (int pieces = 0; !rc && !out->len; pieces++) {
                f->hid = false;
                rc = pieces < HIDDEN_PIECES ? read_events(t->reader, f->run[0] ? f->run : NULL, f->after,
                                                          STREAM_PIECE, on_batch, f)
                                            : buf_puts(out, ":\n\n"); /* others wait for this thread too */
                if (!f->hid)
                        break;
        }
        if (rc < 0)
                return STREAM_BROKEN;
        if (out->len)
                return STREAM_DATA;
        return over ? STREAM_END : STREAM_WAIT;
}

static const struct stream_ops feed_ops = {.fill = fill, .free = mem_free, .events = true, .every_ms = 20};

static int start_point(struct http_req *q, int64_t *after, struct err *e)
{
        const char *last = req_header(q, "Last-Event-ID");

        if (last && *last && str_parse_i64(last, 0, INT64_MAX - 1, after))
                return err_set(e, E_INVAL, "Last-Event-ID is not an id that this hub gives");
        return last && *last ? 0 : req_query_i64(q, "after", 0, INT64_MAX - 1, after, e);
}

static int start(struct http_req *q, const char *run, int64_t after, struct err *e)
{
        struct feed *f = mem_calloc(1, sizeof *f);
        int rc;

        if (!f)
                return err_set(e, E_NOMEM, "out of memory");
        f->after = after;
        f->who = q->caller;
        if (!run)
                memcpy(f->project, q->project, sizeof f->project);
        rc = start_point(q, &f->after, e);
        if (!rc)
                rc = req_query_bool(q, "follow", true, &f->follow, e);
        if (!rc && f->follow)
                rc = req_take_place(q, e);
        if (rc) {
                mem_free(f);
                return rc;
        }
        if (run)
                snprintf(f->run, sizeof f->run, "%s", run);
        q->content_type = "text/event-stream";
        rc = stream_create(q, &feed_ops, f, &q->stream);
        return rc ? err_set(e, E_NOMEM, "out of memory") : 0;
}

/* Without a starting point a follower sees what happens from now on; who only
 * wants to read gets all that is kept. */
int api_events(struct http_req *q, struct err *e)
{
        bool follow;
        int rc = req_query_bool(q, "follow", true, &follow, e);

        return rc ? rc : start(q, NULL, follow ? bus_last(q->h->o.bus) : 0, e);
}

int api_run_events(struct http_req *q, struct err *e)
{
        struct store_reader *r = req_reader(q, e);
        enum run_state st;
        int rc = r ? read_run(r, q->param[0], on_run, &st) : -E_UNAVAIL;

        if (rc == -E_NOENT || strlen(q->param[0]) >= sizeof((struct feed *)0)->run)
                return err_set(e, E_NOENT, "there is no run '%.64s'", q->param[0]);
        return rc ? rc : start(q, q->param[0], 0, e);
}
