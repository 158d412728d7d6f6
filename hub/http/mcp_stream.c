#include "hub/http/mcp_stream.h"

#include <string.h>

#include "common/json.h"
#include "common/mem.h"
#include "hub/http/mcp.h"

#define EVERY_MS 100 /* least time between two looks */

struct mcp_stream {
        struct mcp_call *c;
        const struct mcp_job_ops *ops;
        void *job;
        bool sse;
        bool done, cancelled, stops;
        /* during a step */
        struct buf *out;
        struct stream *s;
};

static void stream_free(void *p)
{
        struct mcp_stream *ms = p;

        if (ms->job)
                ms->ops->free(ms->job, ms->c,
                              ms->done        ? MCP_ENDED
                              : ms->cancelled ? MCP_CANCELLED
                                              : MCP_LEFT);
        mcp_inner_free(ms->c);
        mem_free(ms);
}

static enum stream_more fill(void *state, struct stream *s, struct http_thread *t, struct buf *out)
{
        struct mcp_stream *ms = state;

        if (ms->done || ms->cancelled)
                return STREAM_END;
        ms->out = out;
        ms->s = s;
        if (mcp_flight_cancelled(ms->c->flight)) {
                ms->cancelled = true;
                return STREAM_END; /* no answer: the client has said that it wants none */
        }
        return ms->ops->step(ms->job, ms, t);
}

static void on_stop(void *state, struct stream *s, struct http_thread *t, struct buf *out)
{
        struct mcp_stream *ms = state;

        ms->stops = true;
        fill(state, s, t, out);
}

#define STREAM_OPS .fill = fill, .stop = on_stop, .free = stream_free, .every_ms = EVERY_MS
static const struct stream_ops as_events = {STREAM_OPS, .events = true};
static const struct stream_ops as_json = {STREAM_OPS};

int mcp_stream_start(struct http_req *q, struct mcp_call *c, const struct mcp_job_ops *ops, void *job,
                     struct err *e)
{
        struct mcp_stream *ms = mem_calloc(1, sizeof *ms);
        int rc;

        if (ms)
                ms->sse = c->takes_sse;
        rc = ms ? stream_create(q, ms->sse ? &as_events : &as_json, ms, &q->stream) : -E_NOMEM;
        if (rc) {
                ops->free(job, c, MCP_LEFT);
                return err_set(e, E_NOMEM, "out of memory");
        }
        ms->c = c;
        ms->ops = ops;
        ms->job = job;
        q->inner.ctx = NULL; /* the stream's now */
        q->content_type = ms->sse ? "text/event-stream" : NULL;
        return 0;
}

struct mcp_call *mcp_stream_call(struct mcp_stream *ms)
{
        return ms->c;
}

bool mcp_stream_reports(const struct mcp_stream *ms)
{
        return ms->sse && ms->c->terms.progress_token;
}

bool mcp_stream_stops(const struct mcp_stream *ms)
{
        return ms->stops;
}

void mcp_stream_due(struct mcp_stream *ms, int64_t at_ms)
{
        stream_wake_at(ms->s, at_ms);
}

void mcp_stream_attempt(struct mcp_stream *ms, uint64_t attempt_id)
{
        stream_watch_attempt(ms->s, attempt_id);
}

/* ---- messages ---- */

static int begin(struct mcp_stream *ms)
{
        return ms->sse ? buf_puts(ms->out, "event: message\ndata: ") : 0;
}

static int end(struct mcp_stream *ms, int rc)
{
        return rc || !ms->sse ? rc : buf_puts(ms->out, "\n\n");
}

int mcp_stream_notify(struct mcp_stream *ms, const char *method, const char *params)
{
        int rc;

        if (!ms->sse)
                return 0;
        rc = begin(ms);
        if (!rc)
                rc = buf_printf(ms->out,
                                "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/%s\",\"params\":%s}", method,
                                params);
        return end(ms, rc);
}

int mcp_stream_progress(struct mcp_stream *ms, double progress, double total, const char *message)
{
        struct buf b;
        int rc;

        if (!mcp_stream_reports(ms))
                return 0;
        buf_init(&b, 0);
        rc = buf_puts(&b, "{\"progressToken\":");
        if (!rc)
                rc = json_append(&b, ms->c->terms.progress_token);
        if (!rc)
                rc = buf_printf(&b, ",\"progress\":%.15g", progress);
        if (!rc && total >= 0)
                rc = buf_printf(&b, ",\"total\":%.15g", total);
        if (!rc && message)
                rc = buf_puts(&b, ",\"message\":");
        if (!rc && message)
                rc = json_append_str(&b, message, strlen(message));
        if (!rc)
                rc = buf_put(&b, "}", 2); /* with the NUL */
        if (!rc)
                rc = mcp_stream_notify(ms, "progress", (const char *)b.data);
        buf_fini(&b);
        return rc;
}

int mcp_stream_ask(struct mcp_stream *ms, const char *method, const char *params)
{
        char id[48];
        int rc;

        if (!ms->sse || !ms->c->flight)
                return -E_NOTSUP;
        mcp_flight_ask(ms->c->flight, id);
        rc = begin(ms);
        if (!rc)
                rc = buf_printf(ms->out,
                                "{\"jsonrpc\":\"2.0\",\"id\":\"%s\",\"method\":\"%s\",\"params\":%s}", id,
                                method, params);
        return end(ms, rc);
}

cJSON *mcp_stream_answer(struct mcp_stream *ms)
{
        char *text = ms->c->flight ? mcp_flight_take(ms->c->flight) : NULL;
        cJSON *doc = NULL;

        if (text && json_parse(text, strlen(text), &doc, NULL))
                doc = NULL;
        mem_free(text);
        return doc;
}

int mcp_stream_yield(struct mcp_stream *ms)
{
        return ms->sse ? buf_puts(ms->out, ":\n\n") : 0;
}

int mcp_stream_result(struct mcp_stream *ms, const char *members)
{
        int rc = begin(ms);

        if (!rc)
                rc = mcp_write_result(ms->out, ms->c, "complete", members);
        ms->done = !rc;
        return end(ms, rc);
}
