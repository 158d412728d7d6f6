/* Runs: submit, list, show, cancel, retry, explain, resolve. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"
#include "hub/http/api.h"
#include "hub/http/guard.h"
#include "hub/http/idem.h"
#include "hub/http/listing.h"
#include "hub/http/present.h"
#include "hub/http/request.h"
#include "hub/http/submit.h"
#include "hub/http/workflow_body.h"
#include "hub/model/workflow.h"
#include "hub/store/store.h"

/* ---- submit ---- */

struct query_inputs {
        cJSON *inputs;
        const struct route *route;
        struct err *e;
        int rc;
};

static enum MHD_Result on_query(void *cls, enum MHD_ValueKind kind, const char *key, const char *value)
{
        struct query_inputs *c = cls;

        (void)kind;
        if (strncmp(key, "input.", 6) == 0) {
                if (cJSON_GetObjectItemCaseSensitive(c->inputs, key + 6))
                        c->rc = err_set(c->e, E_INVAL, "the input '%.64s' is given twice", key + 6);
                else if (!cJSON_AddStringToObject(c->inputs, key + 6, value ? value : ""))
                        c->rc = err_set(c->e, E_NOMEM, "out of memory");
        } else if (!route_takes(c->route, key)) {
                c->rc = err_set(c->e, E_INVAL, "unknown query parameter '%.64s'; known here: %s input.NAME",
                                key, c->route->query);
        }
        return c->rc ? MHD_NO : MHD_YES;
}

/* Inputs come with a JSON body, typed, or in the query, as text. */
static int read_inputs(struct http_req *q, const struct workflow_body *b, struct submit *s, struct err *e)
{
        const cJSON *given = NULL;
        struct query_inputs c = {.route = q->route, .e = e};
        int rc = 0;

        if (b->doc)
                rc = json_obj_opt(b->doc, "inputs", &given, e);
        c.inputs = cJSON_CreateObject();
        if (!rc && !c.inputs)
                rc = err_set(e, E_NOMEM, "out of memory");
        if (!rc) {
                MHD_get_connection_values(q->conn, MHD_GET_ARGUMENT_KIND, on_query, &c);
                rc = c.rc;
        }
        if (!rc && given && c.inputs->child)
                rc = err_set(e, E_INVAL, "give the inputs in the body or in the query, not in both");
        if (!rc)
                rc = workflow_inputs(b->wf, given ? given : c.inputs, !given, &s->inputs, e);
        cJSON_Delete(c.inputs);
        return rc;
}

int api_runs_create(struct http_req *q, struct err *e)
{
        static const char *const keys[] = {"workflow", "inputs", "priority", NULL};
        struct workflow_body b = {0};
        struct submit *s = NULL;
        int rc = workflow_body_read(q, keys, &b, NULL, e);

        if (rc)
                return rc;
        s = submit_create();
        rc = s ? 0 : err_set(e, E_NOMEM, "out of memory");
        if (!rc)
                rc = read_inputs(q, &b, s, e);
        if (!rc)
                rc = req_query_i64(q, "priority", -100, 100, &s->priority, e);
        if (!rc && b.doc)
                rc = json_i64_opt(b.doc, "priority", -100, 100, &s->priority, e);
        if (rc) {
                submit_free(s);
        } else {
                s->text = b.text;
                s->len = b.len;
                s->wf = b.wf;
                b.text = NULL;
                b.wf = NULL;
                rc = submit_go(q, s, e);
        }
        workflow_body_fini(&b);
        return rc;
}

int api_validate(struct http_req *q, struct err *e)
{
        static const char *const keys[] = {"workflow", NULL};
        struct workflow_body b = {0};
        struct err mistake = {0};
        struct jsonw w;
        int rc = workflow_body_read(q, keys, &b, &mistake, e);

        if (rc)
                return rc;
        jw_begin(&w, &q->out);
        jw_open(&w, NULL, '{');
        jw_bool(&w, "valid", !mistake.code);
        jw_open(&w, "errors", '[');
        if (mistake.code) {
                jw_open(&w, NULL, '{');
                jw_i64(&w, "line", mistake.line);
                jw_i64(&w, "column", mistake.col);
                jw_str(&w, "message", mistake.msg);
                jw_str(&w, "code", err_name(mistake.code));
                jw_close(&w, '}');
        }
        jw_close(&w, ']');
        jw_open(&w, "warnings", '[');
        jw_close(&w, ']');
        if (b.wf) {
                jw_str(&w, "name", b.wf->name);
                jw_i64(&w, "steps", (int64_t)b.wf->n_steps);
        }
        jw_close(&w, '}');
        workflow_body_fini(&b);
        return jw_end(&w);
}

/* ---- list and show ---- */

static int on_row(void *arg, const struct row_run *r)
{
        struct listing *l = arg;

        if (!listing_takes(l, r->seq))
                return 1;
        jw_open(&l->w, NULL, '{');
        present_run(&l->w, r, true);
        jw_close(&l->w, '}');
        return jw_end(&l->w);
}

static int read_filter(struct http_req *q, struct run_filter *f, struct err *e)
{
        enum run_state st;

        f->state = req_query(q, "state");
        f->workflow = req_query(q, "workflow");
        f->kind = req_query(q, "kind");
        if (f->state && run_state_parse(f->state, &st))
                return err_set(
                        e, E_INVAL,
                        "state=%.32s: expected queued, running, waiting, succeeded, failed or cancelled",
                        f->state);
        if (f->kind && strcmp(f->kind, "run") != 0 && strcmp(f->kind, "call") != 0)
                return err_set(e, E_INVAL, "kind=%.32s: expected run or call", f->kind);
        return 0;
}

int api_runs_list(struct http_req *q, struct err *e)
{
        struct run_filter f = {0};
        struct listing l = {0};
        struct store_reader *r = req_reader(q, e);
        char *projects = NULL;
        int rc;

        if (!r)
                return -E_UNAVAIL;
        rc = read_filter(q, &f, e);
        if (!rc)
                rc = guard_projects(q, PERM_RUNS_READ, &projects, e);
        f.projects = projects;
        if (!rc)
                rc = listing_args(q, &l, &f.before_seq, e);
        if (rc)
                goto out;
        f.limit = (int)l.limit + 1;
        listing_begin(q, &l);
        rc = read_runs(r, &f, on_row, &l);
        if (rc < 0) {
                err_set(e, -rc, "the runs could not be read: %s", err_name(rc));
                goto out;
        }
        rc = listing_end(&l);
out:
        mem_free(projects);
        return rc;
}

static int show(struct http_req *q, bool steps, struct err *e)
{
        struct http_thread *t;
        int rc = http_thread(q->h, &t, e);

        return rc ? rc : present_run_by_id(t, q->param[0], steps, &q->out, e);
}

int api_run_get(struct http_req *q, struct err *e)
{
        bool steps;
        int rc = req_query_bool(q, "steps", true, &steps, e);

        return rc ? rc : show(q, steps, e);
}

static int show_with_steps(struct http_req *q, struct err *e)
{
        return show(q, true, e);
}

int api_step_get(struct http_req *q, struct err *e)
{
        struct http_thread *t;
        int rc = http_thread(q->h, &t, e);

        return rc ? rc : present_step_by_id(t, q->param[0], q->param[1], &q->out, e);
}

/* ---- change ---- */

struct look {
        enum run_state state;
        int64_t seq;
};

static int on_look(void *arg, const struct row_run *r)
{
        struct look *l = arg;

        l->state = r->state;
        l->seq = r->seq;
        return 0;
}

/* The engine knows only what is active; the store tells a stranger from a run that is over. */
static int look_up(struct http_req *q, struct look *l, struct err *e)
{
        struct store_reader *r = req_reader(q, e);
        int rc = r ? read_run(r, q->param[0], on_look, l) : -E_UNAVAIL;

        if (rc == -E_NOENT)
                return err_set(e, E_NOENT, "there is no run '%.64s'", q->param[0]);
        return rc;
}

static int begin_change(struct http_req *q, const char *const *keys, cJSON **doc, struct look *l,
                        struct err *e)
{
        int rc = idem_read(q, e);

        if (!rc)
                rc = req_body_json(q, keys, true, doc, e);
        return rc ? rc : look_up(q, l, e);
}

static bool replayed(struct http_req *q)
{
        if (!q->idem || !q->idem->replay)
                return false;
        req_done(q, 0, NULL);
        return true;
}

static void cancel_on_loop(struct http_req *q)
{
        if (replayed(q))
                return;
        req_owe(q);
        engine_cancel(q->h->o.engine, q->param[0], q->caller.name, q->state, req_on_answer, q);
}

int api_run_cancel(struct http_req *q, struct err *e)
{
        static const char *const keys[] = {"reason", NULL};
        const char *reason = NULL;
        cJSON *doc = NULL;
        struct look l = {0};
        int rc = begin_change(q, keys, &doc, &l, e);

        if (!rc)
                rc = json_str_opt(doc, "reason", &reason, e);
        if (!rc && reason && strlen(reason) > 1000)
                rc = err_set(e, E_INVAL, "\"reason\" may have 1000 bytes at most");
        if (!rc && run_state_final(l.state) && !q->idem)
                rc = err_set(e, E_STATE, "run %.64s is over already: %s", q->param[0],
                             run_state_name(l.state));
        if (!rc) {
                char *kept = reason && *reason ? mem_strdup(reason)
                                               : str_printf("cancelled by %s", q->caller.name);

                req_keep(q, kept, mem_free);
                req_hop(q, cancel_on_loop, show_with_steps);
        }
        cJSON_Delete(doc);
        return rc;
}

static void retry_on_loop(struct http_req *q)
{
        if (replayed(q))
                return;
        req_owe(q);
        engine_retry(q->h->o.engine, q->param[0], &(struct engine_actor){q->caller.name, q->caller.maker},
                     req_on_answer, q);
}

int api_run_retry(struct http_req *q, struct err *e)
{
        static const char *const keys[] = {NULL};
        cJSON *doc = NULL;
        struct look l = {0};
        int rc = begin_change(q, keys, &doc, &l, e);

        cJSON_Delete(doc);
        if (!rc)
                req_hop(q, retry_on_loop, show_with_steps);
        return rc;
}

static void resolve_on_loop(struct http_req *q)
{
        if (replayed(q))
                return;
        req_owe(q);
        engine_resolve(q->h->o.engine, q->param[0], &(struct engine_actor){q->caller.name, q->caller.maker},
                       q->param[1], q->state, req_on_answer, q);
}

int api_step_resolve(struct http_req *q, struct err *e)
{
        static const char *const keys[] = {"outcome", NULL};
        const char *outcome = NULL;
        cJSON *doc = NULL;
        struct look l = {0};
        int rc = begin_change(q, keys, &doc, &l, e);

        if (!rc)
                rc = json_str(doc, "outcome", &outcome, e);
        if (!rc && strcmp(outcome, "retry") != 0 && strcmp(outcome, "succeeded") != 0 &&
            strcmp(outcome, "failed") != 0)
                rc = err_set(e, E_INVAL, "\"outcome\" must be retry, succeeded or failed");
        if (!rc && run_state_final(l.state) && !q->idem)
                rc = err_set(e, E_STATE, "run %.64s is over: nothing in it waits for a decision",
                             q->param[0]);
        if (!rc) {
                char *kept = mem_strdup(outcome);

                rc = kept ? 0 : err_set(e, E_NOMEM, "out of memory");
                req_keep(q, kept, mem_free);
        }
        if (!rc)
                req_hop(q, resolve_on_loop, show_with_steps);
        cJSON_Delete(doc);
        return rc;
}

/* ---- explain ---- */

struct explain {
        struct jsonw w;
        const char *step;
        int n;
};

static int on_step(void *arg, const struct row_step *s)
{
        struct explain *x = arg;

        if (x->step && strcmp(x->step, s->id) != 0)
                return 0;
        x->n++;
        jw_open(&x->w, NULL, '{');
        jw_str(&x->w, "step", s->id);
        jw_str(&x->w, "state", step_state_name(s->state));
        if (s->agent_name)
                jw_str(&x->w, "agent", s->agent_name);
        if (s->error_message)
                jw_str(&x->w, "reason", s->error_message);
        if (s->placement)
                jw_raw(&x->w, "placement", s->placement, "null");
        jw_close(&x->w, '}');
        return jw_end(&x->w);
}

/* The run is over: what was written down when each step was placed. */
static int explain_after(struct http_req *q, struct err *e)
{
        struct explain x = {.step = req_query(q, "step")};
        struct store_reader *r;
        struct look l = {0};
        int rc;

        if (q->json)
                return 0; /* the engine has answered */
        r = req_reader(q, e);
        rc = r ? look_up(q, &l, e) : -E_UNAVAIL;
        if (rc)
                return rc;
        jw_begin(&x.w, &q->out);
        jw_open(&x.w, NULL, '{');
        jw_str(&x.w, "run", q->param[0]);
        jw_str(&x.w, "state", run_state_name(l.state));
        jw_open(&x.w, "steps", '[');
        rc = read_steps(r, l.seq, on_step, &x);
        jw_close(&x.w, ']');
        jw_close(&x.w, '}');
        if (!rc && x.step && !x.n)
                return err_set(e, E_NOENT, "run '%.64s' has no step '%.128s'", q->param[0], x.step);
        return rc ? rc : jw_end(&x.w);
}

static void explain_on_loop(struct http_req *q)
{
        struct err e = {0};

        /* -E_NOENT: not active, or no such step; explain_after tells which. */
        int rc = engine_explain(q->h->o.engine, q->param[0], q->state, &q->json, &e);

        req_done(q, rc == -E_NOENT ? 0 : rc, &e);
}

int api_run_explain(struct http_req *q, struct err *e)
{
        const char *step = req_query(q, "step");
        struct look l = {0};
        int rc = look_up(q, &l, e);

        if (rc)
                return rc;
        if (step) {
                char *kept = mem_strdup(step);

                if (!kept)
                        return err_set(e, E_NOMEM, "out of memory");
                req_keep(q, kept, mem_free);
        }
        req_hop(q, explain_on_loop, explain_after);
        return 0;
}
