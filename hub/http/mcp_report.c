#include "hub/http/mcp_report.h"

#include <stdio.h>
#include <string.h>

#include "common/json.h"
#include "common/mem.h"
#include "hub/http/attempt_log.h"
#include "hub/http/mcp.h"
#include "hub/http/mcp_stream.h"
#include "hub/logs/logs.h"
#include "hub/store/store.h"

#define EVENTS_AT_ONCE (16u << 10)
#define LINE_MAX_BYTES ((size_t)1 << 20) /* of one event of a tool; longer ones are passed over */

struct mcp_report {
        char run[64];
        int64_t after; /* the hub's last event that was told */
        double told;   /* messages */
        uint64_t attempt_id;
        struct log_reader *output, *events; /* the same attempt's, each at its own place */
        struct buf line;                    /* an event whose end has not come yet */
        /* during mcp_report */
        struct mcp_stream *ms;
};

struct mcp_report *mcp_report_create(const char *run_id)
{
        struct mcp_report *r = strlen(run_id) < sizeof r->run ? mem_calloc(1, sizeof *r) : NULL;

        if (!r)
                return NULL;
        snprintf(r->run, sizeof r->run, "%s", run_id);
        buf_init(&r->line, 0);
        return r;
}

static void close_readers(struct mcp_report *r)
{
        if (r->output)
                log_reader_close(r->output);
        if (r->events)
                log_reader_close(r->events);
        r->output = r->events = NULL;
        buf_reset(&r->line);
}

void mcp_report_free(struct mcp_report *r)
{
        if (!r)
                return;
        close_readers(r);
        buf_fini(&r->line);
        mem_free(r);
}

static int tell(struct mcp_report *r, const char *message)
{
        r->told++;
        return mcp_stream_progress(r->ms, r->told, -1, message);
}

static const char *text_of(const cJSON *o, const char *key)
{
        const char *s = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, key));

        return s ? s : "";
}

/* Calls on_line for each whole line of text. Non-zero ends it. */
static int each_line(struct mcp_report *r, const char *p, size_t n,
                     int (*on_line)(struct mcp_report *r, const char *line, size_t n))
{
        while (n) {
                const char *nl = memchr(p, '\n', n);
                size_t len = nl ? (size_t)(nl - p) : n;
                int rc = len ? on_line(r, p, len) : 0;

                if (rc)
                        return rc;
                n -= len + (nl ? 1 : 0);
                p += len + (nl ? 1 : 0);
        }
        return 0;
}

/* ---- the hub's events ---- */

/* "step build waits for a person: Delete it? (checkpoint 01...)", "checkpoint 01...: approved by ann". */
static int tell_checkpoint(struct mcp_report *r, const cJSON *ev)
{
        const char *by = text_of(ev, "by");
        char line[MCP_MESSAGE_MAX];

        if (strcmp(text_of(ev, "type"), "checkpoint.open") == 0)
                snprintf(line, sizeof line, "step %.320s waits for a person: %.2000s (checkpoint %s)",
                         text_of(ev, "step"), text_of(ev, "title"), text_of(ev, "checkpoint"));
        else
                snprintf(line, sizeof line, "checkpoint %s: %s%s%.200s", text_of(ev, "checkpoint"),
                         text_of(ev, "state"), *by ? " by " : "", by);
        return tell(r, line);
}

/* "step build: started on laptop-7", "step build: failed: no such file". */
static int tell_hub_event(struct mcp_report *r, const cJSON *ev)
{
        const char *type = text_of(ev, "type"), *step = text_of(ev, "step"), *agent = text_of(ev, "agent");
        const char *why = text_of(cJSON_GetObjectItemCaseSensitive(ev, "error"), "message");
        const char *what = strchr(type, '.');
        bool started;
        char line[MCP_MESSAGE_MAX];

        if (strncmp(type, "checkpoint.", 11) == 0)
                return tell_checkpoint(r, ev);
        if (!what || strcmp(type, "step.dispatched") == 0)
                return 0;
        what++;
        started = strcmp(what, "started") == 0 && *agent;
        if (*step)
                snprintf(line, sizeof line, "step %s: %s%s%s%s%.2000s", step, what, started ? " on " : "",
                         started ? agent : "", *why ? ": " : "", why);
        else
                snprintf(line, sizeof line, "%s%s%.2000s", type, *why ? ": " : "", why);
        return tell(r, line);
}

static int on_hub_line(struct mcp_report *r, const char *line, size_t n)
{
        const cJSON *id;
        cJSON *ev = NULL;
        int rc = json_parse(line, n, &ev, NULL);

        if (rc)
                return rc == -E_NOMEM ? rc : 0;
        id = cJSON_GetObjectItemCaseSensitive(ev, "id");
        if (cJSON_IsNumber(id) && (int64_t)id->valuedouble > r->after) {
                r->after = (int64_t)id->valuedouble;
                rc = tell_hub_event(r, ev);
        }
        cJSON_Delete(ev);
        return rc;
}

static int on_batch(void *arg, const char *run, int64_t first, int64_t last, const char *lines, size_t n)
{
        (void)run;
        (void)first;
        (void)last;
        return each_line(arg, lines, n, on_hub_line);
}

/* ---- the tool's events ---- */

/* What is not told already: text is in its output, questions are checkpoints. */
static int tell_tool_event(struct mcp_report *r, const cJSON *ev)
{
        const char *type = text_of(ev, "type"), *title = text_of(ev, "title"),
                   *status = text_of(ev, "status");
        const char *message = text_of(ev, "message");
        char line[MCP_MESSAGE_MAX];

        if (strcmp(type, "tool") == 0 && *title)
                snprintf(line, sizeof line, "%s %.2000s%s%s", text_of(ev, "kind"), title, *status ? ": " : "",
                         status);
        else if ((strcmp(type, "progress") == 0 || strcmp(type, "log") == 0) && *message)
                snprintf(line, sizeof line, "%.3000s", message);
        else
                return 0;
        return tell(r, line);
}

static int on_tool_line(struct mcp_report *r, const char *line, size_t n)
{
        cJSON *ev = NULL;
        int rc = json_parse(line, n, &ev, NULL);

        if (rc)
                return rc == -E_NOMEM ? rc : 0; /* a tool may write there what it likes */
        rc = cJSON_IsObject(ev) ? tell_tool_event(r, ev) : 0;
        cJSON_Delete(ev);
        return rc;
}

static int tell_tool_events(struct mcp_report *r, bool over, bool *more)
{
        const uint8_t *last;
        uint64_t next;
        size_t whole;
        int rc = attempt_log_text(r->events, 1u << LOG_EVENT, EVENTS_AT_ONCE, over, &r->line, &next, more);

        if (rc)
                return rc;
        last = r->line.len ? memrchr(r->line.data, '\n', r->line.len) : NULL;
        if (last) {
                whole = (size_t)(last - r->line.data) + 1;
                rc = each_line(r, (const char *)r->line.data, whole, on_tool_line);
                buf_consume(&r->line, whole);
        } else if (r->line.len > LINE_MAX_BYTES) {
                buf_reset(&r->line); /* its rest is no JSON and is passed over */
        }
        return rc;
}

/* ---- what it writes ---- */

/* When it writes faster than may be told, the middle is left out. */
static int tell_output(struct mcp_report *r, bool over)
{
        uint64_t next;
        struct buf b;
        bool more, cut;
        int rc;

        buf_init(&b, 0);
        rc = attempt_log_text(r->output, ATTEMPT_OUTPUT, MCP_MESSAGE_MAX, over, &b, &next, &more);
        if (!rc && more) {
                buf_reset(&b);
                rc = buf_puts(&b, "[read_logs has what lies between]\n");
                if (!rc)
                        rc = attempt_log_tail(r->output, ATTEMPT_OUTPUT, MCP_MESSAGE_MAX, 0, &b, &cut);
        }
        if (!rc && b.len) {
                rc = buf_putc(&b, '\0');
                if (!rc)
                        rc = tell(r, (const char *)b.data);
        }
        buf_fini(&b);
        return rc;
}

static int open_readers(struct mcp_report *r, struct http_thread *t, uint64_t attempt_id, bool over)
{
        const char *dir = mcp_stream_call(r->ms)->h->o.logs_dir;
        int rc = 0;

        if (r->attempt_id != attempt_id)
                close_readers(r);
        r->attempt_id = attempt_id;
        if (!r->output)
                rc = attempt_log_open(dir, t->reader, attempt_id, over, &r->output);
        if (!rc && !r->events)
                rc = attempt_log_open(dir, t->reader, attempt_id, over, &r->events);
        return rc;
}

int mcp_report(struct mcp_report *r, struct mcp_stream *ms, struct http_thread *t, uint64_t attempt_id,
               bool over, bool *told, bool *more)
{
        double before = r->told;
        int rc;

        r->ms = ms;
        *more = false;
        rc = read_events(t->reader, r->run, r->after, EVENTS_AT_ONCE, on_batch, r);
        if (rc > 0)
                rc = 0;
        if (!rc && attempt_id) {
                mcp_stream_attempt(ms, attempt_id);
                rc = open_readers(r, t, attempt_id, over);
                if (!rc)
                        rc = tell_tool_events(r, over, more);
                if (!rc)
                        rc = tell_output(r, over);
                if (rc == -E_NOENT)
                        rc = 0; /* it has written nothing yet */
        }
        *told = r->told > before;
        return rc;
}
