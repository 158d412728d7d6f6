#include "hub/http/submit.h"

#include <stdio.h>
#include <string.h>

#include "common/json.h"
#include "common/mem.h"
#include "hub/http/guard.h"
#include "hub/http/idem.h"
#include "hub/http/present.h"
#include "hub/http/request.h"
#include "hub/model/workflow.h"

#define WAIT_DEFAULT_MS 60000
#define WAIT_MAX_MS     3600000

struct submit *submit_create(void)
{
        struct submit *s = mem_calloc(1, sizeof *s);

        if (s)
                s->kind = "run";
        return s;
}

void submit_free(void *submit)
{
        struct submit *s = submit;

        if (!s)
                return;
        mem_free(s->text);
        workflow_free(s->wf);
        cJSON_Delete(s->inputs);
        mem_free(s);
}

/* ---- loop ---- */

/* The waiter leaves before the run is over: the engine must not call. */
static void on_gone(struct http_req *q)
{
        struct submit *s = q->state;

        if (s->run_id[0]) /* for a client that is told that the hub stops */
                snprintf(q->problem_extra, sizeof q->problem_extra, "\"run\":\"%s\"", s->run_id);
        if (!s->finish_owed || !s->run_id[0])
                return; /* not durable yet: on_durable sees to it */
        engine_forget_waiter(q->h->o.engine, s->run_id, q);
        s->finish_owed = false;
        req_paid(q);
}

static void on_finished(void *arg, const struct engine_done *d)
{
        struct http_req *q = arg;
        struct submit *s = q->state;

        (void)d;
        s->finish_owed = false;
        if (req_paid(q))
                req_done(q, 0, NULL);
}

static void on_durable(void *arg, const struct engine_done *d)
{
        struct http_req *q = arg;
        struct submit *s = q->state;
        bool waits = s->finish_owed, over = q->over;

        if (!d->rc)
                snprintf(s->run_id, sizeof s->run_id, "%s", d->run_id);
        if (waits && (d->rc || over)) {
                if (!d->rc)
                        engine_forget_waiter(q->h->o.engine, s->run_id, q);
                s->finish_owed = false;
                req_paid(q);
        }
        /* The last reference may go with this. */
        if (req_paid(q) && (d->rc || !waits))
                req_done(q, d->rc, d->err);
}

/* The same request again: its run, as it is now. */
static void replay(struct http_req *q)
{
        struct submit *s = q->state;
        cJSON *doc = NULL;
        struct err e = {0};
        const char *id = NULL, *body = q->idem->body ? q->idem->body : "";
        int rc = json_parse(body, strlen(body), &doc, &e);

        if (!rc)
                rc = json_str(doc, "id", &id, &e);
        if (!rc)
                snprintf(s->run_id, sizeof s->run_id, "%s", id);
        cJSON_Delete(doc);
        req_done(q, rc, &e);
}

static void on_loop(struct http_req *q)
{
        struct submit *s = q->state;
        struct engine_submit es = {
                .def_text = s->text,
                .def_len = s->len,
                .workflow = s->wf,
                .inputs = s->inputs,
                .kind = s->kind,
                .created_by = q->caller.name,
                .maker = q->caller.maker,
                .project = q->project,
                .priority = (int)s->priority,
                .stdin_follows = s->stdin_follows,
                .want_finish = s->wait,
        };

        if (q->idem && q->idem->replay) {
                replay(q);
                return;
        }
        if (q->idem) {
                es.idempotency_key = q->idem->key;
                es.idempotency_token = q->caller.token_id;
                es.idempotency_sha256 = q->idem->sha256;
                q->idem->stored = true; /* by the engine, with the run */
        }
        s->wf = NULL; /* the engine takes both */
        s->inputs = NULL;
        q->on_gone = on_gone;
        req_owe(q);
        if (s->wait) {
                req_owe(q);
                s->finish_owed = true;
                req_deadline(q, s->timeout_ms, on_gone);
        }
        engine_submit(q->h->o.engine, &es, on_durable, on_finished, q);
}

/* ---- HTTP thread ---- */

static int after(struct http_req *q, struct err *e)
{
        struct submit *s = q->state;
        struct http_thread *t;
        int rc;

        if (!s->run_id[0])
                return err_set(
                        e, E_TIMEOUT,
                        "the run was not written to disk within the timeout; it may still be: list the runs");
        rc = http_thread(q->h, &t, e);
        if (rc)
                return rc;
        snprintf(q->location, sizeof q->location, "/api/v1/runs/%s", s->run_id);
        return present_run_by_id(t, s->run_id, s->steps, &q->out, e);
}

/* Whoever may run what names a secret can have it, whatever is masked. */
static int may_use_secrets(struct http_req *q, const struct workflow *wf, struct err *e)
{
        for (size_t i = 0; i < wf->n_steps; i++)
                if (wf->steps[i].n_secrets && !caller_may(&q->caller, q->project, PERM_SECRETS_USE))
                        return guard_denied(&q->caller, PERM_SECRETS_USE, e);
        return 0;
}

int submit_go(struct http_req *q, struct submit *s, struct err *e)
{
        int rc;

        req_keep(q, s, submit_free);
        rc = may_use_secrets(q, s->wf, e);
        if (rc)
                return rc;
        s->timeout_ms = WAIT_DEFAULT_MS;
        rc = req_query_bool(q, "wait", false, &s->wait, e);
        if (!rc)
                rc = req_query_bool(q, "steps", s->wait, &s->steps, e);
        if (!rc)
                rc = req_query_ms(q, "timeout", WAIT_MAX_MS, &s->timeout_ms, e);
        if (!rc && s->timeout_ms < 1)
                rc = err_set(e, E_INVAL, "timeout must be longer than 0");
        if (!rc && s->wait)
                rc = req_take_place(q, e);
        if (!rc)
                rc = idem_read(q, e);
        if (rc)
                return rc;
        req_drop_body(q);
        req_hop(q, on_loop, after);
        return 0;
}
