/* subscriptions/listen (MCP 2026-07-28): a stream that says which of the resources a client named have
 * changed.
 *
 * It says that something changed, never what: the client reads it then, under its permissions of then. So a
 * change is a mark on the resource, and however many there were while a slow client did not read, it is told
 * once. Everything is read from the durable events; those that were thrown away before this reader came to
 * them mark all. What may be told is asked at each event, and the stream itself ends when its token, user
 * or role changes (stream.c). */
#include <stdio.h>
#include <string.h>

#include "common/json.h"
#include "common/mem.h"
#include "hub/event/bus.h"
#include "hub/http/guard.h"
#include "hub/http/mcp.h"
#include "hub/http/mcp_stream.h"
#include "hub/store/store.h"

#define WATCHED_MAX  64 /* resources of one stream */
#define PIECES       16 /* of events read in one go without anything to tell */
#define SUBSCRIPTION "\"" MCP_META "subscriptionId\":"

struct watched {
        struct mcp_resource r;
        bool changed;
};

struct listen {
        struct watched all[WATCHED_MAX];
        size_t n;
        int64_t after;
        bool acknowledged;
        struct caller who;
        struct guard_runs runs;
        char meta[16 + sizeof MCP_META + 6 * MCP_ID_MAX + 32]; /* ,"...subscriptionId":ID */
        /* while it is filled */
        struct http_thread *t;
};

/* ---- what changed ---- */

static bool starts(const char *p, size_t n, const char *with)
{
        return n >= strlen(with) && memcmp(p, with, strlen(with)) == 0;
}

static bool is_text(const char *p, size_t n, const char *text)
{
        return strlen(text) == n && memcmp(p, text, n) == 0;
}

static bool touches(const struct watched *w, const char *run, const char *line, size_t n)
{
        const char *type, *checkpoint = NULL;
        size_t tn = 0, cn = 0;

        type = bus_line_text(line, n, "\"type\":\"", &tn);
        if (!type)
                return false;
        if (starts(type, tn, "checkpoint."))
                checkpoint = bus_line_text(line, n, "\"checkpoint\":\"", &cn);
        switch (w->r.kind) {
        case MCP_RUNS:
                return starts(type, tn, "run.");
        case MCP_RUN:
                return strcmp(run, w->r.id) == 0;
        case MCP_CHECKPOINTS:
                return checkpoint;
        default:
                return checkpoint && is_text(checkpoint, cn, w->r.id);
        }
}

static void mark(struct listen *l, const char *run, const char *line, size_t n)
{
        for (size_t i = 0; i < l->n; i++) {
                struct watched *w = &l->all[i];

                if (!w->changed && touches(w, run, line, n))
                        w->changed = guard_sees_run(&l->runs, &l->who, l->t, run,
                                                    mcp_resource_permission(w->r.kind));
        }
}

/* Nothing of ours happens outside of a run. */
static int on_batch(void *arg, const char *run, int64_t first, int64_t last, const char *lines, size_t n)
{
        struct listen *l = arg;

        (void)first;
        while (*run && n) {
                const char *nl = memchr(lines, '\n', n);
                size_t len = nl ? (size_t)(nl - lines) : n;

                mark(l, run, lines, len);
                n -= len + (nl ? 1 : 0);
                lines += len + (nl ? 1 : 0);
        }
        l->after = last;
        return 0;
}

/* Who was too slow for what the hub keeps looks at everything again. */
static int check_gap(struct listen *l)
{
        int64_t oldest = 0, newest = 0;
        int rc = read_events_bounds(l->t->reader, &oldest, &newest);

        if (rc)
                return rc == -E_NOENT ? 0 : rc;
        if (l->after + 1 >= oldest)
                return 0;
        for (size_t i = 0; i < l->n; i++)
                l->all[i].changed = true;
        l->after = oldest - 1;
        return 0;
}

static bool any_changed(const struct listen *l)
{
        for (size_t i = 0; i < l->n; i++)
                if (l->all[i].changed)
                        return true;
        return false;
}

/* *more: there is more to read now. */
static int look(struct listen *l, bool *more)
{
        int rc = check_gap(l);

        *more = false;
        for (int i = 0; !rc && i < PIECES; i++) {
                int64_t before = l->after;

                rc = read_events(l->t->reader, NULL, before, STREAM_PIECE, on_batch, l);
                *more = l->after != before;
                if (!*more || any_changed(l))
                        break;
        }
        return rc < 0 ? rc : 0;
}

/* ---- what is said ---- */

/* notifications/METHOD with {"_meta":{subscriptionId},MEMBERS}. */
static int notify(struct listen *l, struct mcp_stream *ms, const char *method, const char *members)
{
        struct buf b;
        int rc;

        buf_init(&b, 0);
        rc = buf_printf(&b, "{\"_meta\":{%s},%s}", l->meta + 1, members);
        if (!rc)
                rc = buf_putc(&b, '\0');
        if (!rc)
                rc = mcp_stream_notify(ms, method, (const char *)b.data);
        buf_fini(&b);
        return rc;
}

/* First of all: what will be told. Of what was asked for and is not there for this caller nothing is said. */
static int acknowledge(struct listen *l, struct mcp_stream *ms)
{
        char uri[MCP_RESOURCE_URI];
        struct buf b;
        int rc;

        buf_init(&b, 0);
        rc = buf_puts(&b, l->n ? "\"notifications\":{\"resourceSubscriptions\":[" : "\"notifications\":{");
        for (size_t i = 0; !rc && i < l->n; i++) {
                mcp_resource_uri(&l->all[i].r, uri);
                rc = buf_printf(&b, "%s\"%s\"", i ? "," : "", uri);
        }
        if (!rc)
                rc = buf_put(&b, l->n ? "]}" : "}", l->n ? 3 : 2); /* with the NUL */
        if (!rc)
                rc = notify(l, ms, "subscriptions/acknowledged", (const char *)b.data);
        buf_fini(&b);
        l->acknowledged = !rc;
        return rc;
}

static int tell(struct listen *l, struct mcp_stream *ms)
{
        char uri[MCP_RESOURCE_URI], members[MCP_RESOURCE_URI + 16];
        int rc = 0;

        for (size_t i = 0; !rc && i < l->n; i++) {
                if (!l->all[i].changed)
                        continue;
                mcp_resource_uri(&l->all[i].r, uri);
                snprintf(members, sizeof members, "\"uri\":\"%s\"", uri);
                rc = notify(l, ms, "resources/updated", members);
                if (!rc)
                        l->all[i].changed = false;
        }
        return rc;
}

static enum stream_more step(void *job, struct mcp_stream *ms, struct http_thread *t)
{
        struct listen *l = job;
        bool more = false, told;
        int rc = 0;

        l->t = t;
        if (!l->acknowledged)
                rc = acknowledge(l, ms);
        if (!rc)
                rc = look(l, &more);
        told = any_changed(l);
        if (!rc)
                rc = tell(l, ms);
        if (!rc && mcp_stream_stops(ms))
                rc = mcp_stream_result(ms, ""); /* the end that is no accident */
        else if (!rc && more && !told)
                rc = mcp_stream_yield(ms);
        return rc ? STREAM_BROKEN : STREAM_WAIT;
}

static void listen_free(void *job, struct mcp_call *c, enum mcp_end how)
{
        (void)how;
        c->meta = NULL;
        mem_free(job);
}

static const struct mcp_job_ops listen_ops = {step, listen_free};

/* ---- what is asked for ---- */

static int on_project(void *arg, const char *project)
{
        snprintf(arg, PROJECT_NAME_MAX + 1, "%s", project ? project : "");
        return 0;
}

static int on_checkpoint(void *arg, const struct row_checkpoint *c)
{
        return on_project(arg, c->project);
}

/* 0: it is there for this caller; -E_NOENT: it is not. */
static int visible(struct store_reader *rd, const struct caller *who, const struct mcp_resource *r)
{
        enum permission p = mcp_resource_permission(r->kind);
        char project[PROJECT_NAME_MAX + 1];
        int rc;

        if (!r->id[0])
                return caller_may_somewhere(who, p) ? 0 : -E_NOENT;
        rc = r->kind == MCP_RUN ? read_run_project(rd, r->id, on_project, project)
                                : read_checkpoint(rd, r->id, on_checkpoint, project);
        if (rc)
                return rc;
        return caller_may(who, project, p) ? 0 : -E_NOENT;
}

static bool has(const struct listen *l, const struct mcp_resource *r)
{
        for (size_t i = 0; i < l->n; i++)
                if (l->all[i].r.kind == r->kind && strcmp(l->all[i].r.id, r->id) == 0)
                        return true;
        return false;
}

static int read_uris(struct http_req *q, struct mcp_call *c, struct listen *l, const cJSON *uris)
{
        struct err e = {0};
        struct store_reader *rd = req_reader(q, &e);
        const cJSON *u;

        if (!rd)
                return mcp_fault_set(&c->fault, MCP_E_INTERNAL, 503, "%s", e.msg);
        cJSON_ArrayForEach(u, uris)
        {
                struct mcp_resource r;
                int rc;

                if (!cJSON_IsString(u))
                        return mcp_fault_set(
                                &c->fault, MCP_E_PARAMS, 200,
                                "params.notifications.resourceSubscriptions must be an array of URIs");
                if (mcp_resource_parse(u->valuestring, &r) || has(l, &r))
                        continue;
                rc = visible(rd, &l->who, &r);
                if (rc == -E_NOENT)
                        continue;
                if (rc)
                        return mcp_fault_set(&c->fault, MCP_E_INTERNAL, 503, "the hub cannot read it: %s",
                                             err_name(rc));
                l->all[l->n++].r = r;
        }
        return 0;
}

static int read_filter(struct http_req *q, struct mcp_call *c, struct listen *l)
{
        const cJSON *filter = cJSON_GetObjectItemCaseSensitive(c->msg.params, "notifications");
        const cJSON *uris = cJSON_GetObjectItemCaseSensitive(filter, "resourceSubscriptions");

        if (!cJSON_IsObject(filter))
                return mcp_fault_set(&c->fault, MCP_E_PARAMS, 200,
                                     "params.notifications must say what to listen to");
        if (uris && !cJSON_IsArray(uris))
                return mcp_fault_set(&c->fault, MCP_E_PARAMS, 200,
                                     "params.notifications.resourceSubscriptions must be an array of URIs");
        if (cJSON_GetArraySize(uris) > WATCHED_MAX)
                return mcp_fault_set(&c->fault, MCP_E_PARAMS, 200,
                                     "one subscription watches %d resources at most: open another for the "
                                     "rest, or watch photon://runs",
                                     WATCHED_MAX);
        return read_uris(q, c, l, uris);
}

static int set_meta(struct mcp_call *c, struct listen *l)
{
        char *id = json_text(c->msg.id);
        int n = id ? snprintf(l->meta, sizeof l->meta, "," SUBSCRIPTION "%s", id) : -1;

        mem_free(id);
        if (n < 0 || (size_t)n >= sizeof l->meta)
                return mcp_no_memory(c);
        c->meta = l->meta;
        return 0;
}

int mcp_listen(struct http_req *q, struct mcp_call *c)
{
        struct listen *l;
        struct err e = {0};
        int rc;

        if (!c->takes_sse)
                return mcp_fault_set(&c->fault, MCP_E_REQUEST, 406,
                                     "a subscription is a stream: Accept must allow text/event-stream");
        l = mem_calloc(1, sizeof *l);
        if (!l)
                return mcp_no_memory(c);
        l->who = q->caller;
        /* From before anything is looked up: what changes meanwhile is told. */
        l->after = bus_last(q->h->o.bus);
        rc = read_filter(q, c, l);
        if (!rc)
                rc = set_meta(c, l);
        if (!rc && req_take_place(q, &e))
                rc = mcp_fault_set(&c->fault, MCP_E_SERVER, 503, "%s", e.msg);
        if (rc) {
                c->meta = NULL;
                mem_free(l);
                return rc;
        }
        return mcp_stream_start(q, c, &listen_ops, l, &e) ? mcp_no_memory(c) : 0;
}
