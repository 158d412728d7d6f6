/* Checkpoints: questions that tools ask people. List, show, approve, reject. */
#include <stdio.h>
#include <string.h>

#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"
#include "hub/http/api.h"
#include "hub/http/guard.h"
#include "hub/http/idem.h"
#include "hub/http/present.h"
#include "hub/http/request.h"
#include "hub/store/store.h"

#define REASON_MAX  1000
#define CONTENT_MAX (256u << 10)

/* ---- list and show ---- */

struct page {
        struct jsonw w;
        int64_t limit, n, last_seq;
        bool more;
};

static int on_row(void *arg, const struct row_checkpoint *r)
{
        struct page *l = arg;

        if (l->n == l->limit) {
                l->more = true;
                return 1;
        }
        l->n++;
        l->last_seq = r->seq;
        jw_open(&l->w, NULL, '{');
        present_checkpoint(&l->w, r, true);
        jw_close(&l->w, '}');
        return jw_end(&l->w);
}

static int on_run(void *arg, const struct row_run *r)
{
        *(int64_t *)arg = r->seq;
        return 0;
}

static int read_filter(struct http_req *q, struct store_reader *r, struct checkpoint_filter *f, struct err *e)
{
        const char *state = req_query(q, "state"), *run = req_query(q, "run");
        enum checkpoint_state st = CHECKPOINT_OPEN;
        struct guard_runs seen = {0};
        struct http_thread *t;
        int rc = http_thread(q->h, &t, e);

        if (rc)
                return rc;
        if (state && strcmp(state, "all") != 0 && checkpoint_state_parse(state, &st))
                return err_set(e, E_INVAL,
                               "state=%.32s: expected open, approved, rejected, expired, withdrawn or all",
                               state);
        f->state = state && strcmp(state, "all") == 0 ? -1 : (int)st;
        if (!run)
                return 0;
        /* Another project's run is no run to this caller. */
        rc = guard_sees_run(&seen, &q->caller, t, run, PERM_CHECKPOINTS_READ)
                     ? read_run(r, run, on_run, &f->run_seq)
                     : -E_NOENT;
        return rc == -E_NOENT ? err_set(e, E_NOENT, "there is no run '%.64s'", run) : rc;
}

int api_checkpoints_list(struct http_req *q, struct err *e)
{
        struct checkpoint_filter f = {0};
        struct page l = {0};
        struct store_reader *r = req_reader(q, e);
        const char *cursor;
        char next[24], *projects = NULL;
        int rc;

        if (!r)
                return -E_UNAVAIL;
        rc = read_filter(q, r, &f, e);
        if (!rc)
                rc = guard_projects(q, PERM_CHECKPOINTS_READ, &projects, e);
        f.projects = projects;
        if (!rc)
                rc = req_page_args(q, &l.limit, &cursor, e);
        if (!rc && cursor && str_parse_i64(cursor, 1, INT64_MAX, &f.before_seq))
                rc = err_set(e, E_INVAL, "the cursor is not one that this list gave out");
        if (rc)
                goto out;
        f.limit = (int)l.limit + 1;
        jw_begin(&l.w, &q->out);
        jw_open(&l.w, NULL, '{');
        jw_open(&l.w, "items", '[');
        rc = read_checkpoints(r, &f, on_row, &l);
        if (rc < 0) {
                err_set(e, -rc, "the checkpoints could not be read: %s", err_name(rc));
                goto out;
        }
        jw_close(&l.w, ']');
        snprintf(next, sizeof next, "%lld", (long long)l.last_seq);
        jw_str(&l.w, "next_cursor", l.more ? next : NULL);
        jw_close(&l.w, '}');
        rc = jw_end(&l.w);
out:
        mem_free(projects);
        return rc;
}

static int on_show(void *arg, const struct row_checkpoint *r)
{
        struct jsonw *w = arg;

        jw_open(w, NULL, '{');
        present_checkpoint(w, r, false);
        jw_close(w, '}');
        return jw_end(w);
}

static int no_checkpoint(struct http_req *q, int rc, struct err *e)
{
        if (rc == -E_NOENT)
                return err_set(e, E_NOENT, "there is no checkpoint '%.64s'; see: photon checkpoints --all",
                               q->param[0]);
        return err_set(e, -rc, "checkpoint '%.64s' could not be read: %s", q->param[0], err_name(rc));
}

int api_checkpoint_get(struct http_req *q, struct err *e)
{
        struct store_reader *r = req_reader(q, e);
        struct jsonw w;
        int rc;

        if (!r)
                return -E_UNAVAIL;
        jw_begin(&w, &q->out);
        rc = read_checkpoint(r, q->param[0], on_show, &w);
        return rc ? no_checkpoint(q, rc, e) : 0;
}

/* ---- decide ---- */

/* Between the parts of the request: what is wanted, and the row as it was. */
struct decision {
        bool approve, always;
        char *reason, *content, *sha256;
        /* the row */
        enum checkpoint_state state;
        bool form;
        char *schema, *row_sha256, *asked_by, *decided_by, *row_reason;
        int64_t expires_us;
};

static void decision_free(void *arg)
{
        struct decision *d = arg;

        mem_free(d->reason);
        mem_free(d->content);
        mem_free(d->sha256);
        mem_free(d->schema);
        mem_free(d->row_sha256);
        mem_free(d->asked_by);
        mem_free(d->decided_by);
        mem_free(d->row_reason);
        mem_free(d);
}

static int copy(char **out, const char *s)
{
        *out = s ? mem_strdup(s) : NULL;
        return s && !*out ? -E_NOMEM : 0;
}

static int on_look(void *arg, const struct row_checkpoint *r)
{
        struct decision *d = arg;

        d->state = r->state;
        d->form = r->kind && strcmp(r->kind, "input") == 0;
        d->expires_us = r->expires_us;
        if (copy(&d->schema, r->schema) || copy(&d->row_sha256, r->sha256 ? r->sha256 : "") ||
            copy(&d->asked_by, r->asked_by ? r->asked_by : "") || copy(&d->decided_by, r->decided_by) ||
            copy(&d->row_reason, r->reason))
                return -E_NOMEM;
        return 0;
}

/* What was filled in is held against what was asked for. */
static int check_content(const struct decision *d, const cJSON *content, struct err *e)
{
        cJSON *schema = NULL;
        struct err why = {0};
        int rc;

        if (!content || !d->form || !d->approve || !d->schema)
                return 0;
        rc = json_parse(d->schema, strlen(d->schema), &schema, &why);
        if (!rc)
                rc = json_check(schema, content, &why);
        cJSON_Delete(schema);
        return rc ? err_set(e, -rc, "the content is not what was asked for: %s", why.msg) : 0;
}

static int read_body(struct http_req *q, struct decision *d, const cJSON **content, cJSON **doc,
                     struct err *e)
{
        static const char *const keys[] = {"reason", "content", "sha256", "always", NULL};
        const char *reason = NULL, *sha = NULL;
        int rc = req_body_json(q, keys, true, doc, e);

        if (!rc)
                rc = json_str_opt(*doc, "reason", &reason, e);
        if (!rc)
                rc = json_str_opt(*doc, "sha256", &sha, e);
        if (!rc)
                rc = json_bool_opt(*doc, "always", &d->always, e);
        if (!rc)
                rc = json_obj_opt(*doc, "content", content, e);
        if (!rc && reason && strlen(reason) > REASON_MAX)
                rc = err_set(e, E_INVAL, "\"reason\" may have %d bytes at most", REASON_MAX);
        if (!rc && sha && strlen(sha) != 64)
                rc = err_set(e, E_INVAL, "\"sha256\" must have 64 hexadecimal digits");
        if (!rc && *content && !(d->content = json_text(*content)))
                rc = err_set(e, E_NOMEM, "out of memory");
        if (!rc && d->content && strlen(d->content) > CONTENT_MAX)
                rc = err_set(e, E_TOOBIG, "\"content\" may have %u bytes at most", CONTENT_MAX);
        if (!rc && (copy(&d->reason, reason) || copy(&d->sha256, sha)))
                rc = err_set(e, E_NOMEM, "out of memory");
        return rc;
}

/* Each reason has a name of its own; a status alone would not tell them apart. */
static void name_problem(struct http_req *q, int rc)
{
        switch (-rc) {
        case E_STATE:
                q->problem_code = "checkpoint_decided";
                break;
        case E_TIMEOUT:
                q->problem_code = "checkpoint_expired";
                q->problem_status = 409;
                break;
        case E_VERSION:
                q->problem_code = "digest_mismatch";
                break;
        case E_DENIED:
                q->problem_code = "own_request";
                break;
        case E_INVAL:
                q->problem_code = "invalid_content";
                break;
        default:
                break;
        }
}

static struct checkpoint_answer answer_of(const struct http_req *q, const struct decision *d)
{
        return (struct checkpoint_answer){.by = q->caller.name,
                                          .approve = d->approve,
                                          .always = d->always,
                                          .sha256 = d->sha256,
                                          .content = d->content};
}

/* The engine does not know it any more: the row says what became of it. */
static int as_it_was(struct http_req *q, const struct decision *d, struct err *e)
{
        struct checkpoint_facts f = {.id = q->param[0],
                                     .state = d->state,
                                     .form = d->form,
                                     .sha256 = d->row_sha256,
                                     .asked_by = d->asked_by,
                                     .decided_by = d->decided_by,
                                     .reason = d->row_reason};
        struct checkpoint_answer a = answer_of(q, d);
        int rc = checkpoint_check(&f, &a, 0, SELF_ALLOW, e);

        return rc ? rc
                  : err_set(e, E_STATE,
                            "checkpoint %.64s has just been decided; see: photon checkpoint show %.64s",
                            q->param[0], q->param[0]);
}

static void on_decided(void *arg, int rc, const struct err *e)
{
        struct http_req *q = arg;
        struct err was = {0};

        if (!req_paid(q))
                return;
        if (rc == -E_NOENT) {
                rc = as_it_was(q, q->state, &was);
                e = &was;
        }
        if (rc)
                name_problem(q, rc);
        req_done(q, rc, e);
}

static void decide_on_loop(struct http_req *q)
{
        const struct decision *d = q->state;
        struct engine_decision m = {
                .checkpoint_id = q->param[0], .answer = answer_of(q, d), .reason = d->reason};

        if (q->idem && q->idem->replay) {
                req_done(q, 0, NULL);
                return;
        }
        req_owe(q);
        engine_decide(q->h->o.engine, &m, on_decided, q);
}

static int decide(struct http_req *q, bool approve, struct err *e)
{
        struct store_reader *r = req_reader(q, e);
        struct decision *d = mem_calloc(1, sizeof *d);
        const cJSON *content = NULL;
        cJSON *doc = NULL;
        int rc;

        if (!r || !d) {
                mem_free(d);
                return r ? err_set(e, E_NOMEM, "out of memory") : -E_UNAVAIL;
        }
        d->approve = approve;
        rc = idem_read(q, e);
        if (!rc)
                rc = read_body(q, d, &content, &doc, e);
        if (!rc) {
                rc = read_checkpoint(r, q->param[0], on_look, d);
                if (rc)
                        no_checkpoint(q, rc, e);
        }
        if (!rc && !checkpoint_over(d->state) && (rc = check_content(d, content, e)))
                q->problem_code = "invalid_content";
        cJSON_Delete(doc);
        if (rc) {
                decision_free(d);
                return rc;
        }
        req_keep(q, d, decision_free);
        req_hop(q, decide_on_loop, api_checkpoint_get);
        return 0;
}

int api_checkpoint_approve(struct http_req *q, struct err *e)
{
        return decide(q, true, e);
}

int api_checkpoint_reject(struct http_req *q, struct err *e)
{
        return decide(q, false, e);
}
