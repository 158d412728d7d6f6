/* Following a run for a tool that answers when it is over: what its steps do and write is
 * reported as progress, and the result is the run as it ended.
 *
 * All of it is read from what is durable, as the event streams do, so nothing here depends on who began
 * the run. A tool that owns its run cancels it when the client does not want the answer any more, as far
 * as the caller's role allows. */
#include <stdio.h>
#include <string.h>

#include "common/mem.h"
#include "hub/http/attempt_log.h"
#include "hub/http/guard.h"
#include "hub/http/jsonw.h"
#include "hub/http/mcp.h"
#include "hub/http/mcp_report.h"
#include "hub/http/mcp_stream.h"
#include "hub/http/present.h"
#include "hub/logs/logs.h"
#include "hub/store/store.h"

struct run_watch {
        char run[64];
        int64_t deadline_ms;
        bool owns;
        char project[PROJECT_NAME_MAX + 1];
        struct mcp_report *report;
        /* as of this step */
        enum run_state state;
        int64_t seq;
        bool call;
};

/* ---- reading ---- */

static int on_run(void *arg, const struct row_run *r)
{
        struct run_watch *w = arg;

        w->state = r->state;
        w->seq = r->seq;
        snprintf(w->project, sizeof w->project, "%s", r->project ? r->project : "");
        w->call = r->kind && strcmp(r->kind, "call") == 0;
        return 0;
}

struct step_look {
        uint64_t attempt_id;
        bool over;
};

static int on_step(void *arg, const struct row_step *s)
{
        struct step_look *l = arg;

        l->attempt_id = s->attempt_id;
        l->over = step_state_final(s->state);
        return 0;
}

/* A call has one step: what that writes is reported too. *told: there was something; *more: there is more. */
static int report(struct run_watch *w, struct mcp_stream *ms, struct http_thread *t, bool *told, bool *more)
{
        struct step_look l = {0};
        int rc = w->call ? read_steps(t->reader, w->seq, on_step, &l) : 0;

        return rc ? rc : mcp_report(w->report, ms, t, l.attempt_id, l.over, told, more);
}

/* ---- the result ---- */

/* The call's step, with the end of what it wrote. */
struct call_doc {
        struct jsonw w;
        const struct run_watch *watch;
        struct http_thread *t;
        const struct mcp_call *c;
};

static int put_tail(struct call_doc *d, const struct row_step *s)
{
        struct log_reader *rd = NULL;
        struct buf b;
        bool cut = false;
        int rc;

        if (!d->c->tail_bytes)
                return 0;
        buf_init(&b, 0);
        rc = s->attempt_id ? attempt_log_open(d->c->h->o.logs_dir, d->t->reader, s->attempt_id,
                                              step_state_final(s->state), &rd)
                           : -E_NOENT;
        if (!rc)
                rc = attempt_log_tail(rd, ATTEMPT_OUTPUT, d->c->tail_bytes, s->output_bytes, &b, &cut);
        if (rd)
                log_reader_close(rd);
        if (rc == -E_NOENT)
                rc = 0; /* it wrote nothing */
        if (!rc)
                rc = buf_putc(&b, '\0');
        if (!rc) {
                jw_str(&d->w, "output", (const char *)b.data);
                jw_bool(&d->w, "output_cut", cut);
        }
        buf_fini(&b);
        return rc;
}

static int on_call_step(void *arg, const struct row_step *s)
{
        struct call_doc *d = arg;
        struct jsonw *w = &d->w;

        jw_str(w, "run", d->watch->run);
        jw_str(w, "state", run_state_name(d->watch->state));
        jw_bool(w, "over", run_state_final(d->watch->state));
        if (!run_state_final(d->watch->state))
                jw_str(w, "step_state", step_state_name(s->state));
        jw_str(w, "tool", s->tool);
        jw_str(w, "agent", s->agent_name ? s->agent_name : "");
        if (s->has_exit_code)
                jw_i64(w, "exit_code", s->exit_code);
        jw_raw(w, "outputs", s->outputs, "{}");
        if (s->error_code && *s->error_code) {
                jw_open(w, "error", '{');
                jw_str(w, "code", s->error_code);
                jw_str(w, "message", s->error_message ? s->error_message : "");
                jw_close(w, '}');
        }
        jw_raw(w, "usage", s->usage, "{}");
        jw_i64(w, "output_bytes", (int64_t)s->output_bytes);
        return put_tail(d, s);
}

static int put_call(struct run_watch *w, struct mcp_stream *ms, struct http_thread *t, struct buf *out)
{
        struct call_doc d = {.watch = w, .t = t, .c = mcp_stream_call(ms)};
        int rc;

        jw_begin(&d.w, out);
        jw_open(&d.w, NULL, '{');
        rc = read_steps(t->reader, w->seq, on_call_step, &d);
        jw_close(&d.w, '}');
        return rc ? rc : jw_end(&d.w);
}

/* A run with its steps, without them where they are too many. */
static int put_run(struct run_watch *w, struct http_thread *t, struct buf *out)
{
        int rc = present_run_by_id(t, w->run, true, out, NULL);

        if (rc || out->len <= MCP_RESULT_MAX)
                return rc;
        buf_reset(out);
        return present_run_by_id(t, w->run, false, out, NULL);
}

static int finish(struct run_watch *w, struct mcp_stream *ms, struct http_thread *t)
{
        struct buf doc, b;
        bool failed = w->owns && (w->state == RUN_FAILED || w->state == RUN_CANCELLED);
        int rc;

        buf_init(&doc, 0);
        buf_init(&b, 0);
        rc = w->owns ? put_call(w, ms, t, &doc) : put_run(w, t, &doc);
        if (!rc)
                rc = mcp_tool_members(&b, (const char *)doc.data, doc.len, true, failed);
        if (!rc)
                rc = buf_putc(&b, '\0');
        if (!rc)
                rc = mcp_stream_result(ms, (const char *)b.data);
        buf_fini(&doc);
        buf_fini(&b);
        return rc;
}

/* The state is read before all else: a run seen over has all its events and output written. */
static enum stream_more step(void *job, struct mcp_stream *ms, struct http_thread *t)
{
        struct run_watch *w = job;
        bool told = false, more = false, over;
        int rc = read_run(t->reader, w->run, on_run, w);

        if (!rc && mcp_stream_reports(ms))
                rc = report(w, ms, t, &told, &more);
        if (rc)
                return STREAM_BROKEN;
        over = run_state_final(w->state);
        if ((more || (over && told)) && !mcp_stream_stops(ms))
                return STREAM_DATA; /* more than is read at once: asks again */
        if (over || http_now_ms() >= w->deadline_ms || mcp_stream_stops(ms))
                return finish(w, ms, t) ? STREAM_BROKEN : STREAM_DATA;
        mcp_stream_due(ms, w->deadline_ms);
        return STREAM_WAIT;
}

/* ---- the end ---- */

struct cancel {
        struct mail mail;
        struct http *h;
        struct caller who;
        char run[64];
};

static void on_cancelled(void *arg, int rc, const struct err *e)
{
        (void)arg;
        (void)rc; /* over already, most likely: that is as good */
        (void)e;
}

static void cancel_on_loop(struct mail *m)
{
        struct cancel *x = container_of(m, struct cancel, mail);

        engine_cancel(x->h->o.engine, x->run, x->who.name, "the MCP client did not wait for the answer",
                      on_cancelled, NULL);
        mem_free(x);
}

/* A client of the legacy era may lose its connection without meaning it; only its notification cancels. A
 * hub that stops cancels nothing. */
static bool gives_up(const struct run_watch *w, const struct mcp_call *c, enum mcp_end how)
{
        if (!w->owns || !caller_may(&c->caller, w->project, PERM_RUNS_CONTROL) ||
            atomic_load(&c->h->stopping))
                return false;
        return how == MCP_CANCELLED || (how == MCP_LEFT && c->terms.era == MCP_MODERN);
}

static void watch_free(void *job, struct mcp_call *c, enum mcp_end how)
{
        struct run_watch *w = job;

        if (gives_up(w, c, how)) {
                struct cancel *x = mem_calloc(1, sizeof *x);

                if (x) {
                        x->mail.run = cancel_on_loop;
                        x->h = c->h;
                        x->who = c->caller;
                        memcpy(x->run, w->run, sizeof x->run);
                        mailbox_post(c->h->o.mailbox, &x->mail);
                }
        }
        mcp_report_free(w->report);
        mem_free(w);
}

static const struct mcp_job_ops watch_ops = {step, watch_free};

int mcp_watch(struct http_req *q, struct mcp_call *c, const char *run_id, struct err *e)
{
        struct run_watch *w = mem_calloc(1, sizeof *w);

        if (w)
                w->report = mcp_report_create(run_id);
        if (!w || !w->report || strlen(run_id) >= sizeof w->run) {
                mcp_report_free(w ? w->report : NULL);
                mem_free(w);
                return err_set(e, E_NOMEM, "out of memory");
        }
        memcpy(w->run, run_id, strlen(run_id) + 1);
        w->owns = c->tool->flags & MCP_OWNS;
        w->deadline_ms = http_now_ms() + c->wait_ms;
        return mcp_stream_start(q, c, &watch_ops, w, e);
}
