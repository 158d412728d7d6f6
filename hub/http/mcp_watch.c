/* Following a run for a tool that answers when it is over: what its steps do and write is
 * reported as progress, and the result is the run as it ended.
 *
 * All of it is read from what is durable, as the event streams do, so nothing here depends on who began
 * the run. A tool that owns its run cancels it when the client does not want the answer any more, as far
 * as the caller's role allows. */
#include <stdio.h>
#include <string.h>

#include "common/json.h"
#include "common/mem.h"
#include "hub/http/attempt_log.h"
#include "hub/http/jsonw.h"
#include "hub/http/mcp.h"
#include "hub/http/mcp_stream.h"
#include "hub/http/present.h"
#include "hub/logs/logs.h"
#include "hub/store/store.h"

#define STEP_TEXT      320        /* an expanded step's id */
#define MESSAGE_MAX    (4u << 10) /* of a progress message: more output than that at once is left out */
#define EVENTS_AT_ONCE (16u << 10)

struct run_watch {
        char run[64];
        int64_t after; /* the last event reported */
        int64_t deadline_ms;
        double told; /* progress so far: messages */
        bool owns;
        /* A call has one step, whose output is reported too. */
        uint64_t attempt_id;
        struct log_reader *rd;
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
        w->call = r->kind && strcmp(r->kind, "call") == 0;
        return 0;
}

struct step_look {
        uint64_t attempt_id, output_bytes;
        bool over;
};

static int on_step(void *arg, const struct row_step *s)
{
        struct step_look *l = arg;

        l->attempt_id = s->attempt_id;
        l->output_bytes = s->output_bytes;
        l->over = step_state_final(s->state);
        return 0;
}

static int look_at_call(struct run_watch *w, struct http_thread *t, struct step_look *l)
{
        *l = (struct step_look){0};
        return read_steps(t->reader, w->seq, on_step, l);
}

/* ---- progress ---- */

static int tell(struct run_watch *w, struct mcp_stream *ms, const char *message)
{
        w->told++;
        return mcp_stream_progress(ms, w->told, -1, message);
}

static const char *text_of(const cJSON *o, const char *key)
{
        const char *s = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, key));

        return s ? s : "";
}

/* "step build: started on laptop-7", "step build: failed: no such file". */
static int tell_event(struct run_watch *w, struct mcp_stream *ms, const cJSON *ev)
{
        const char *type = text_of(ev, "type"), *step = text_of(ev, "step"), *agent = text_of(ev, "agent");
        const char *why = text_of(cJSON_GetObjectItemCaseSensitive(ev, "error"), "message");
        const char *what = strchr(type, '.');
        char line[MESSAGE_MAX];

        if (!what || strcmp(type, "step.dispatched") == 0)
                return 0;
        what++;
        if (*step)
                snprintf(line, sizeof line, "step %s: %s%s%s%s%.2000s", step, what,
                         *agent && strcmp(what, "started") == 0 ? " on " : "",
                         strcmp(what, "started") == 0 ? agent : "", *why ? ": " : "", why);
        else
                snprintf(line, sizeof line, "%s%s%.2000s", type, *why ? ": " : "", why);
        return tell(w, ms, line);
}

struct batch {
        struct run_watch *w;
        struct mcp_stream *ms;
};

static int on_line(struct batch *b, const char *line, size_t n)
{
        const cJSON *id;
        cJSON *ev = NULL;
        int rc = json_parse(line, n, &ev, NULL);

        if (rc)
                return rc == -E_NOMEM ? rc : 0;
        id = cJSON_GetObjectItemCaseSensitive(ev, "id");
        if (cJSON_IsNumber(id) && (int64_t)id->valuedouble > b->w->after) {
                b->w->after = (int64_t)id->valuedouble;
                rc = tell_event(b->w, b->ms, ev);
        }
        cJSON_Delete(ev);
        return rc;
}

static int on_batch(void *arg, int64_t first, int64_t last, const char *lines, size_t n)
{
        (void)first;
        (void)last;
        while (n) {
                const char *nl = memchr(lines, '\n', n);
                size_t len = nl ? (size_t)(nl - lines) : n;
                int rc = len ? on_line(arg, lines, len) : 0;

                if (rc)
                        return rc;
                n -= len + (nl ? 1 : 0);
                lines += len + (nl ? 1 : 0);
        }
        return 0;
}

static int tell_events(struct run_watch *w, struct mcp_stream *ms, struct http_thread *t)
{
        struct batch b = {w, ms};
        int rc = read_events(t->reader, w->run, w->after, EVENTS_AT_ONCE, on_batch, &b);

        return rc < 0 ? rc : 0;
}

/* What a call wrote since. When it writes faster than it may be reported, the middle is left out. */
static int tell_output(struct run_watch *w, struct mcp_stream *ms, struct http_thread *t,
                       const struct step_look *l)
{
        uint64_t from, next = 0;
        struct buf b;
        bool more;
        int rc = 0;

        if (w->attempt_id != l->attempt_id) {
                if (w->rd)
                        log_reader_close(w->rd);
                w->rd = NULL;
                w->attempt_id = l->attempt_id;
        }
        mcp_stream_attempt(ms, l->attempt_id);
        if (!w->rd)
                rc = attempt_log_open(mcp_stream_call(ms)->h->o.logs_dir, t->reader, l->attempt_id, l->over,
                                      &w->rd);
        if (rc == -E_NOENT)
                return 0;
        if (rc)
                return rc;
        buf_init(&b, 0);
        from = log_reader_offset(w->rd);
        rc = attempt_log_text(w->rd, ATTEMPT_OUTPUT, MESSAGE_MAX, l->over, &b, &next, &more);
        if (!rc && b.len && more) {
                bool cut;

                buf_reset(&b);
                rc = buf_printf(&b, "[read_logs has what lies between]\n");
                if (!rc)
                        rc = attempt_log_tail(w->rd, ATTEMPT_OUTPUT, MESSAGE_MAX, 0, &b, &cut);
        }
        if (!rc && b.len && log_reader_offset(w->rd) != from)
                rc = buf_putc(&b, '\0');
        if (!rc && b.len && log_reader_offset(w->rd) != from)
                rc = tell(w, ms, (const char *)b.data);
        buf_fini(&b);
        return rc;
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
        struct step_look l = {0};
        double told = w->told;
        int rc = read_run(t->reader, w->run, on_run, w);

        if (!rc && mcp_stream_reports(ms)) {
                rc = w->call ? look_at_call(w, t, &l) : 0;
                if (!rc)
                        rc = tell_events(w, ms, t);
                if (!rc && w->call && l.attempt_id)
                        rc = tell_output(w, ms, t, &l);
        }
        if (rc)
                return STREAM_BROKEN;
        if (run_state_final(w->state) && w->told > told)
                return STREAM_DATA; /* there may be more events than are read at once */
        if (run_state_final(w->state) || http_now_ms() >= w->deadline_ms)
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

        http_audit(x->h, x->who.name, "run.cancel", x->run, NULL);
        engine_cancel(x->h->o.engine, x->run, "the MCP client did not wait for the answer", on_cancelled,
                      NULL);
        mem_free(x);
}

/* A client of the legacy era may lose its connection without meaning it; only its notification cancels. A
 * hub that stops cancels nothing. */
static bool gives_up(const struct run_watch *w, const struct mcp_call *c, enum mcp_end how)
{
        if (!w->owns || !role_may(c->caller.role, PERM_RUNS_CONTROL) || atomic_load(&c->h->stopping))
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
        if (w->rd)
                log_reader_close(w->rd);
        mem_free(w);
}

static const struct mcp_job_ops watch_ops = {step, watch_free};

int mcp_watch(struct http_req *q, struct mcp_call *c, const char *run_id, struct err *e)
{
        struct run_watch *w = mem_calloc(1, sizeof *w);

        if (!w || strlen(run_id) >= sizeof w->run) {
                mem_free(w);
                return err_set(e, E_NOMEM, "out of memory");
        }
        memcpy(w->run, run_id, strlen(run_id) + 1);
        w->owns = c->tool->flags & MCP_OWNS;
        w->deadline_ms = http_now_ms() + c->wait_ms;
        return mcp_stream_start(q, c, &watch_ops, w, e);
}
