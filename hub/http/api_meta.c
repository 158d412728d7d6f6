/* The hub about itself: health, version, metrics, who is asking. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/mem.h"
#include "common/version.h"
#include "hub/event/bus.h"
#include "hub/http/api.h"
#include "hub/http/guard.h"
#include "hub/http/jsonw.h"
#include "hub/http/request.h"
#include "hub/notify/notify.h"
#include "hub/store/store.h"
#include "hub/vault/vault.h"

int api_healthz(struct http_req *q, struct err *e)
{
        (void)e;
        return buf_puts(&q->out, "{\"status\":\"ok\"}");
}

int api_readyz(struct http_req *q, struct err *e)
{
        int rc = req_writable(q, e);

        if (!rc && atomic_load(&q->h->stopping))
                rc = err_set(e, E_UNAVAIL, "the hub is stopping");
        return rc ? rc : buf_puts(&q->out, "{\"status\":\"ready\"}");
}

int api_version(struct http_req *q, struct err *e)
{
        (void)e;
        return buf_printf(&q->out, "{\"version\":\"%s\",\"api\":\"v1\",\"protocol\":{\"min\":%d,\"max\":%d}}",
                          PHOTON_VERSION, PHOTON_PROTO_MIN, PHOTON_PROTO_MAX);
}

int api_whoami(struct http_req *q, struct err *e)
{
        struct jsonw w;

        (void)e;
        jw_begin(&w, &q->out);
        jw_open(&w, NULL, '{');
        jw_str(&w, "name", q->caller.name);
        jw_str(&w, "role", role_name(roles_best(&q->caller.roles)));
        jw_open(&w, "projects", '{'); /* "*": all of them, and the hub */
        if (q->caller.roles.everywhere != ROLE_NONE)
                jw_str(&w, PROJECT_ALL, role_name(q->caller.roles.everywhere));
        for (unsigned i = 0; i < q->caller.roles.n; i++)
                jw_str(&w, q->caller.roles.in[i].project, role_name(q->caller.roles.in[i].role));
        jw_close(&w, '}');
        jw_str(&w, "token_id", q->caller.token_id);
        jw_str(&w, "user_id", *q->caller.user_id ? q->caller.user_id : NULL);
        jw_bool(&w, "session", q->caller.session);
        jw_str(&w, "project", q->caller.project);
        jw_time(&w, "expires_at", q->caller.expires_us);
        jw_open(&w, "permissions", '[');
        for (int p = PERM_PUBLIC + 1; p < PERM_COUNT; p++)
                if (caller_may_somewhere(&q->caller, (enum permission)p))
                        jw_str(&w, NULL, permission_name((enum permission)p));
        jw_close(&w, ']');
        jw_close(&w, '}');
        return jw_end(&w);
}

int api_openapi(struct http_req *q, struct err *e)
{
        (void)e;
        return openapi_write(&q->out);
}

/* ---- metrics: Prometheus text format 0.0.4 ---- */

struct figures {
        struct engine_stats engine;
        struct notify_stats notices;
        size_t agents_online;
        bool vault_open;
};

static void metrics_on_loop(struct http_req *q)
{
        struct figures *f = q->state;

        engine_get_stats(q->h->o.engine, &f->engine);
        if (q->h->o.notify)
                notify_stats(q->h->o.notify, &f->notices);
        f->agents_online = q->h->o.ops.agents_online(q->h->o.ops.ctx);
        f->vault_open = vault_is_open(q->h->o.vault);
        req_done(q, 0, NULL);
}

static void metric(struct buf *b, const char *name, const char *type, const char *help, double v)
{
        buf_printf(b, "# HELP photon_%s %s\n# TYPE photon_%s %s\nphoton_%s %.17g\n", name, help, name, type,
                   name, v);
}

static double resident_bytes(void)
{
        FILE *f = fopen("/proc/self/statm", "re");
        unsigned long long size, resident = 0;

        if (!f)
                return 0;
        if (fscanf(f, "%llu %llu", &size, &resident) != 2)
                resident = 0;
        fclose(f);
        return (double)resident * (double)sysconf(_SC_PAGESIZE);
}

static void http_metrics(struct http *h, struct buf *b)
{
        unsigned long long all = 0;

        buf_puts(b, "# HELP photon_http_requests_total Requests answered, by class of status.\n"
                    "# TYPE photon_http_requests_total counter\n");
        for (unsigned i = 1; i < HTTP_STATUS_SLOTS; i++) {
                unsigned long long n = atomic_load(&h->answered[i]);

                all += n;
                buf_printf(b, "photon_http_requests_total{code=\"%uxx\"} %llu\n", i, n);
        }
        buf_printf(b,
                   "# HELP photon_http_request_duration_seconds Time from a request's header to the end of "
                   "its answer, streams apart.\n"
                   "# TYPE photon_http_request_duration_seconds summary\n"
                   "photon_http_request_duration_seconds_sum %.6f\n"
                   "photon_http_request_duration_seconds_count %llu\n",
                   (double)atomic_load(&h->answer_us) / 1e6, all);
        metric(b, "http_requests_active", "gauge", "Requests being answered.", atomic_load(&h->active));
        metric(b, "http_streams_active", "gauge", "Event streams, followed logs and waiting calls.",
               atomic_load(&h->streams));
        metric(b, "http_rate_limited_total", "counter", "Requests refused for coming too often.",
               (double)atomic_load(&h->limited));
        metric(b, "http_received_bytes_total", "counter", "Bytes of request bodies.",
               (double)atomic_load(&h->bytes_in));
}

static void store_metrics(struct http *h, struct buf *b)
{
        struct store_stats s = {0};
        struct err why;

        store_stats(h->o.store, &s);
        metric(b, "store_commits_total", "counter", "Database transactions written.", (double)s.commits);
        metric(b, "store_transactions_total", "counter",
               "Changes handed to the store; several share a commit.", (double)s.transactions);
        metric(b, "store_rows_total", "counter", "Rows written.", (double)s.rows);
        metric(b, "store_commit_seconds_total", "counter", "Time spent in commits.",
               (double)s.commit_us_total / 1e6);
        metric(b, "store_queue_length", "gauge", "Changes waiting for the disk.", (double)s.queue);
        metric(b, "store_healthy", "gauge", "1 when the store can keep what it is given.",
               store_health(h->o.store, &why) ? 0 : 1);
        metric(b, "events_last_id", "gauge", "Id of the newest event.", (double)bus_last(h->o.bus));
}

static int metrics_after(struct http_req *q, struct err *e)
{
        const struct figures *f = q->state;
        const struct engine_stats *s = &f->engine;
        struct buf *b = &q->out;

        (void)e;
        q->content_type = "text/plain; version=0.0.4; charset=utf-8";
        buf_printf(b,
                   "# HELP photon_build_info The version that runs.\n# TYPE photon_build_info gauge\n"
                   "photon_build_info{version=\"%s\"} 1\n",
                   PHOTON_VERSION);
        metric(b, "agents_online", "gauge", "Agents that are connected.", (double)f->agents_online);
        metric(b, "runs_active", "gauge", "Runs that are not over.", (double)s->runs_active);
        metric(b, "steps_ready", "gauge", "Steps that wait for an agent.", (double)s->steps_ready);
        metric(b, "steps_running", "gauge", "Steps on agents.", (double)s->steps_running);
        metric(b, "checkpoints_open", "gauge", "Questions that wait for people.",
               (double)s->checkpoints_open);
        metric(b, "vault_open", "gauge", "0: locked, and steps that name secrets wait.", f->vault_open);
        metric(b, "notices_pending", "gauge", "Notices that wait to be sent.", (double)f->notices.pending);
        metric(b, "notices_delivered_total", "counter", "Notices that a receiver took.",
               (double)f->notices.delivered);
        metric(b, "notices_failed_total", "counter", "Tries to send a notice that failed.",
               (double)f->notices.failed);
        metric(b, "notices_given_up_total", "counter", "Notices that nobody took in time.",
               (double)f->notices.given_up);
        metric(b, "steps_dispatched_total", "counter", "Attempts sent to agents.",
               (double)s->dispatched_total);
        metric(b, "steps_finished_total", "counter", "Attempts whose result came back.",
               (double)s->finished_total);
        metric(b, "steps_lost_total", "counter", "Attempts that ended with their agent.",
               (double)s->lost_total);
        store_metrics(q->h, b);
        http_metrics(q->h, b);
        metric(b, "resident_memory_bytes", "gauge", "Resident memory of the hub.", resident_bytes());
        return 0;
}

int api_metrics(struct http_req *q, struct err *e)
{
        struct figures *f = mem_calloc(1, sizeof *f);

        if (!f)
                return err_set(e, E_NOMEM, "out of memory");
        req_keep(q, f, mem_free);
        req_hop(q, metrics_on_loop, metrics_after);
        return 0;
}
