#include "hub/http/present.h"

#include "hub/http/spending.h"

#include <stdio.h>
#include <string.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/mem.h"
#include "hub/http/core.h"
#include "hub/model/approval.h"
#include "hub/model/workflow.h"
#include "hub/store/store.h"

/* ---- definitions ---- */

#define CACHED_DEFS      8
#define CACHED_STEPS_MAX 20000 /* in all of them; about 10 MB at the worst */

struct def_cache {
        struct {
                char sha[65];
                struct workflow *wf; /* NULL: free */
        } slot[CACHED_DEFS];
        unsigned next; /* the oldest */
        size_t steps;
};

static void drop_oldest(struct def_cache *c)
{
        struct workflow **wf = &c->slot[c->next].wf;

        if (*wf)
                c->steps -= (*wf)->n_steps;
        workflow_free(*wf);
        *wf = NULL;
        c->next = (c->next + 1) % CACHED_DEFS;
}

void def_cache_free(struct def_cache *c)
{
        if (!c)
                return;
        for (int i = 0; i < CACHED_DEFS; i++)
                drop_oldest(c);
        mem_free(c);
}

static void keep(struct def_cache *c, const char *sha, struct workflow *wf)
{
        unsigned at = c->next;

        drop_oldest(c);
        for (int i = 1; i < CACHED_DEFS && c->steps + wf->n_steps > CACHED_STEPS_MAX; i++)
                drop_oldest(c);
        c->next = (at + 1) % CACHED_DEFS;
        c->slot[at].wf = wf;
        c->steps += wf->n_steps;
        snprintf(c->slot[at].sha, sizeof c->slot[at].sha, "%s", sha);
}

/* NULL when it cannot be had: the run is shown without needs rather than not at all. */
static const struct workflow *definition(struct http_thread *t, const char *sha)
{
        struct workflow *wf = NULL;
        char *text = NULL;
        size_t n = 0;
        int rc;

        if (!sha || !*sha)
                return NULL;
        if (!t->defs)
                t->defs = mem_calloc(1, sizeof *t->defs);
        if (!t->defs)
                return NULL;
        for (int i = 0; i < CACHED_DEFS; i++)
                if (t->defs->slot[i].wf && strcmp(t->defs->slot[i].sha, sha) == 0)
                        return t->defs->slot[i].wf;
        rc = read_def(t->reader, sha, &text, &n);
        if (!rc)
                rc = workflow_parse(text, n, &wf, NULL);
        mem_free(text);
        if (rc)
                return NULL;
        keep(t->defs, sha, wf);
        return wf;
}

/* ---- members ---- */

static void put_error(struct jsonw *w, const char *code, const char *message)
{
        if (!code || !*code) {
                jw_raw(w, "error", NULL, "null");
                return;
        }
        jw_open(w, "error", '{');
        jw_str(w, "code", code);
        jw_str(w, "message", message ? message : "");
        jw_close(w, '}');
}

void present_run(struct jsonw *w, const struct row_run *r, bool brief)
{
        jw_str(w, "id", r->id);
        jw_str(w, "workflow", r->workflow);
        jw_str(w, "kind", r->kind);
        jw_str(w, "project", r->project);
        jw_str(w, "state", run_state_name(r->state));
        if (!brief) {
                jw_raw(w, "inputs", r->inputs, "{}");
                jw_raw(w, "outputs", r->outputs, "{}");
        }
        put_error(w, r->error_code, r->error_message);
        jw_i64(w, "priority", r->priority);
        jw_str(w, "created_by", r->created_by);
        if (!brief)
                jw_raw(w, "askers", r->askers, "[]");
        jw_bool(w, "cancel_requested", r->cancel_requested);
        jw_i64(w, "step_count", r->n_steps);
        jw_time(w, "created_at", r->created_us);
        jw_time(w, "started_at", r->started_us);
        jw_time(w, "finished_at", r->finished_us);
}

static void put_needs(struct jsonw *w, const struct row_step *s, const struct workflow *wf)
{
        jw_open(w, "needs", '[');
        if (wf && s->def >= 0 && (size_t)s->def < wf->n_steps) {
                const struct step_def *d = &wf->steps[s->def];

                for (size_t i = 0; i < d->n_needs; i++)
                        if (d->needs[i] < wf->n_steps)
                                jw_str(w, NULL, wf->steps[d->needs[i]].id);
        }
        jw_close(w, ']');
}

void present_step_members(struct jsonw *w, const struct row_step *s, const struct workflow *wf)
{
        bool begun = s->state != STEP_BLOCKED && s->state != STEP_READY && s->state != STEP_DISPATCHED;

        jw_str(w, "id", s->id);
        jw_str(w, "tool", s->tool);
        jw_str(w, "state", step_state_name(s->state));
        jw_i64(w, "attempt", s->attempt);
        jw_str(w, "agent", s->agent_name && *s->agent_name ? s->agent_name : s->agent);
        put_needs(w, s, wf);
        if (s->has_exit_code)
                jw_i64(w, "exit_code", s->exit_code);
        else
                jw_raw(w, "exit_code", NULL, "null");
        put_error(w, s->error_code, s->error_message);
        jw_raw(w, "outputs", s->outputs, "{}");
        jw_time(w, "created_at", s->created_us);
        /* The row keeps the times of an earlier attempt until this one has its own. */
        jw_time(w, "started_at", begun ? s->started_us : 0);
        jw_time(w, "finished_at", step_state_final(s->state) ? s->finished_us : 0);
        jw_raw(w, "usage", s->usage, "{}");
        jw_i64(w, "output_bytes", (int64_t)s->output_bytes);
        if (s->matrix)
                jw_raw(w, "matrix", s->matrix, "null");
        if (s->fanout)
                jw_bool(w, "fanout", true);
        if (s->state == STEP_WAITING && s->not_before_us)
                jw_time(w, "not_before", s->not_before_us);
        if (s->losses)
                jw_i64(w, "losses", s->losses);
}

void present_step(struct jsonw *w, const char *key, const struct row_step *s, const struct workflow *wf)
{
        jw_open(w, key, '{');
        present_step_members(w, s, wf);
        jw_close(w, '}');
}

void present_attempt(struct jsonw *w, const struct row_attempt *a)
{
        jw_open(w, NULL, '{');
        jw_i64(w, "attempt", a->attempt);
        jw_str(w, "agent", a->agent_name);
        jw_str(w, "outcome", a->outcome);
        if (a->has_exit_code)
                jw_i64(w, "exit_code", a->exit_code);
        else
                jw_raw(w, "exit_code", NULL, "null");
        put_error(w, a->error_code, a->error_message);
        jw_raw(w, "outputs", a->outputs, "{}");
        jw_i64(w, "output_bytes", (int64_t)a->output_bytes);
        jw_time(w, "dispatched_at", a->dispatched_us);
        jw_time(w, "started_at", a->started_us);
        jw_time(w, "finished_at", a->finished_us);
        jw_close(w, '}');
}

/* What people have said so far: texts, and the time of each. */
static void put_said(struct jsonw *w, const char *key, const cJSON *list)
{
        const cJSON *it, *m;

        jw_open(w, key, '[');
        cJSON_ArrayForEach(it, list)
        {
                jw_open(w, NULL, '{');
                cJSON_ArrayForEach(m, it)
                {
                        if (cJSON_IsString(m))
                                jw_str(w, m->string, m->valuestring);
                        else if (strcmp(m->string, "at_us") == 0)
                                jw_time(w, "at", (int64_t)m->valuedouble);
                }
                jw_close(w, '}');
        }
        jw_close(w, ']');
}

/* Of what the hub asks: who may answer, and who has. */
static void present_rules(struct jsonw *w, const struct row_checkpoint *c, bool brief)
{
        struct approval_rules r;
        struct approval_record rec;
        int yes, no;

        if (!c->rules || !c->record || approval_rules_read(c->rules, &r, NULL))
                return;
        if (approval_record_read(c->record, &rec, NULL)) {
                approval_rules_fini(&r);
                return;
        }
        approval_count(&rec, &yes, &no);
        jw_i64(w, "quorum", r.quorum);
        jw_i64(w, "approved", yes);
        jw_i64(w, "rejected", no);
        jw_str(w, "then", approval_then_name(r.then));
        if (!brief) {
                jw_raw(w, "rules", c->rules, "null");
                put_said(w, "answers", rec.answers);
                put_said(w, "delegations", rec.delegations);
        }
        jw_time(w, "escalated_at", rec.escalated_us);
        jw_time(w, "escalates_at",
                approval_can_escalate(&r, &rec) ? approval_next_us(&r, &rec, c->created_us, c->expires_us)
                                                : 0);
        approval_rules_fini(&r);
        approval_record_fini(&rec);
}

void present_checkpoint(struct jsonw *w, const struct row_checkpoint *c, bool brief)
{
        jw_str(w, "id", c->id);
        jw_str(w, "state", checkpoint_state_name(c->state));
        jw_str(w, "kind", c->kind);
        jw_str(w, "action", c->action);
        jw_str(w, "title", c->title);
        jw_str(w, "tool", c->tool);
        jw_str(w, "run", c->run_id);
        jw_str(w, "workflow", c->workflow);
        jw_str(w, "project", c->project);
        jw_str(w, "step", c->step_id);
        jw_i64(w, "attempt", c->attempt);
        jw_str(w, "step_tool", c->step_tool);
        jw_str(w, "agent", c->agent_name);
        jw_str(w, "asked_by", c->asked_by);
        jw_str(w, "sha256", c->sha256);
        present_rules(w, c, brief);
        if (!brief) {
                /* Text and not a member: the digest is over exactly these bytes. */
                jw_str(w, "arguments", c->arguments);
                jw_raw(w, "schema", c->schema, "null");
                jw_raw(w, "content", c->content, "null");
        }
        jw_time(w, "created_at", c->created_us);
        jw_time(w, "expires_at", c->expires_us);
        jw_time(w, "decided_at", c->decided_us);
        jw_time(w, "delivered_at", c->delivered_us);
        jw_str(w, "decided_by", c->decided_by);
        jw_str(w, "reason", c->reason);
        jw_bool(w, "always", c->always);
}

void present_join_token(struct jsonw *w, const struct row_join_token *t, long long now_us)
{
        const char *state = t->sealed.refused                           ? "refused"
                            : t->revoked_us                             ? "revoked"
                            : t->expires_us && t->expires_us <= now_us  ? "expired"
                            : t->uses_max > 0 && t->uses >= t->uses_max ? "spent"
                                                                        : "active";

        jw_open(w, NULL, '{');
        jw_str(w, "id", t->id);
        jw_str(w, "state", state);
        jw_i64(w, "uses", t->uses);
        jw_i64(w, "uses_max", t->uses_max);
        jw_str(w, "name", t->name_glob);
        jw_raw(w, "labels", t->labels, "{}");
        jw_str(w, "created_by", t->created_by);
        jw_time(w, "created_at", t->created_us);
        jw_time(w, "expires_at", t->expires_us);
        jw_time(w, "revoked_at", t->revoked_us);
        jw_close(w, '}');
}

void present_scopes(struct jsonw *w, const char *names)
{
        char word[64];

        if (!names) {
                jw_raw(w, "scopes", NULL, "null");
                return;
        }
        jw_open(w, "scopes", '[');
        while (*(names += strspn(names, " "))) {
                size_t n = strcspn(names, " ");

                snprintf(word, sizeof word, "%.*s", (int)n, names);
                jw_str(w, NULL, word);
                names += n;
        }
        jw_close(w, ']');
}

void present_api_token(struct jsonw *w, const struct row_api_token *t, const char *user, bool off,
                       long long used_us, long long now_us)
{
        const char *state = t->sealed.refused                          ? "refused"
                            : t->revoked_us                            ? "revoked"
                            : t->expires_us && t->expires_us <= now_us ? "expired"
                            : off                                      ? "disabled"
                                                                       : "active";

        jw_open(w, NULL, '{');
        jw_str(w, "id", t->id);
        jw_str(w, "name", t->name);
        jw_str(w, "role", t->role);
        jw_str(w, "project", t->project);
        present_scopes(w, t->scopes);
        jw_str(w, "user", user);
        jw_str(w, "kind", t->kind ? t->kind : "token");
        jw_str(w, "state", state);
        jw_str(w, "created_by", t->created_by);
        jw_time(w, "created_at", t->created_us);
        jw_time(w, "expires_at", t->expires_us);
        jw_time(w, "revoked_at", t->revoked_us);
        jw_time(w, "last_used_at", used_us);
        jw_close(w, '}');
}

/* ---- whole documents ---- */

/* The oldest question of each step that waits for people. */
struct open_checkpoints {
        char **ids, **steps;
        size_t n;
};

static int on_open_checkpoint(void *arg, const struct row_checkpoint *c)
{
        struct open_checkpoints *o = arg;
        char **ids = mem_realloc(o->ids, (o->n + 1) * sizeof *ids), **steps;

        if (!ids)
                return -E_NOMEM;
        o->ids = ids;
        steps = mem_realloc(o->steps, (o->n + 1) * sizeof *steps);
        if (!steps)
                return -E_NOMEM;
        o->steps = steps;
        ids[o->n] = mem_strdup(c->id);
        steps[o->n] = mem_strdup(c->step_id);
        if (!ids[o->n] || !steps[o->n]) {
                mem_free(ids[o->n]);
                mem_free(steps[o->n]);
                return -E_NOMEM;
        }
        o->n++;
        return 0;
}

static int open_checkpoints_read(struct store_reader *r, int64_t run_seq, struct open_checkpoints *o)
{
        struct checkpoint_filter f = {.state = CHECKPOINT_OPEN, .run_seq = run_seq};

        return read_checkpoints(r, &f, on_open_checkpoint, o);
}

static void open_checkpoints_free(struct open_checkpoints *o)
{
        for (size_t i = 0; i < o->n; i++) {
                mem_free(o->ids[i]);
                mem_free(o->steps[i]);
        }
        mem_free(o->ids);
        mem_free(o->steps);
}

/* Rows came newest first. */
static void put_checkpoint(struct jsonw *w, const struct open_checkpoints *o, const struct row_step *s)
{
        if (step_state_final(s->state))
                return;
        for (size_t i = o->n; i-- > 0;) {
                if (strcmp(o->steps[i], s->id) == 0) {
                        jw_str(w, "checkpoint", o->ids[i]);
                        return;
                }
        }
}

struct run_doc {
        struct http_thread *t;
        struct open_checkpoints open;
        struct jsonw w;
        const struct workflow *wf;
        const char *step_id;
        int64_t seq;
        char sha[65];
        bool call, brief, over;
        struct spending spent;
};

/* What the ledger has of this step; the run's entries are read when the first one can have some. */
static int put_spending(struct run_doc *d, const struct row_step *s)
{
        const struct budget_account *a;
        int rc = spending_may_be(s, d->wf) ? spending_read(&d->spent, d->t->reader, d->seq) : 0;

        a = rc ? NULL : spending_of(&d->spent, s->idx);
        if (a)
                spending_put(&d->w, a);
        return rc;
}

static int on_run(void *arg, const struct row_run *r)
{
        struct run_doc *d = arg;

        d->seq = r->seq;
        d->call = r->kind && strcmp(r->kind, "call") == 0;
        d->over = run_state_final(r->state);
        snprintf(d->sha, sizeof d->sha, "%s", r->def_sha256 ? r->def_sha256 : "");
        if (!d->brief)
                present_run(&d->w, r, false);
        return 0;
}

static int on_step(void *arg, const struct row_step *s)
{
        struct run_doc *d = arg;
        int rc;

        /* Once it has instances, they are the steps that people see. */
        if (s->fanout && s->started_us)
                return 0;
        jw_open(&d->w, NULL, '{');
        present_step_members(&d->w, s, d->wf);
        put_checkpoint(&d->w, &d->open, s);
        rc = put_spending(d, s);
        jw_close(&d->w, '}');
        return rc ? rc : jw_end(&d->w);
}

static int no_run(const char *id, int rc, struct err *e)
{
        if (rc == -E_NOENT)
                return err_set(e, E_NOENT, "there is no run '%.64s'", id);
        return err_set(e, -rc, "run '%.64s' could not be read: %s", id, err_name(rc));
}

int present_run_by_id(struct http_thread *t, const char *id, bool steps, struct buf *out, struct err *e)
{
        struct run_doc d = {.t = t};
        int rc;

        jw_begin(&d.w, out);
        jw_open(&d.w, NULL, '{');
        rc = read_run(t->reader, id, on_run, &d);
        if (rc)
                return no_run(id, rc, e);
        if (steps) {
                /* A call's only step needs nothing; sparing its definition keeps calls fast. */
                d.wf = d.call ? NULL : definition(t, d.sha);
                jw_open(&d.w, "steps", '[');
                rc = d.over ? 0 : open_checkpoints_read(t->reader, d.seq, &d.open);
                if (!rc)
                        rc = read_steps(t->reader, d.seq, on_step, &d);
                open_checkpoints_free(&d.open);
                jw_close(&d.w, ']');
                if (!rc && d.spent.n)
                        spending_put(&d.w, &d.spent.all);
                spending_free(&d.spent);
        }
        jw_close(&d.w, '}');
        if (!rc)
                rc = jw_end(&d.w);
        return rc ? no_run(id, rc, e) : 0;
}

struct step_doc {
        struct run_doc d;
        int64_t idx;
};

static int on_one_step(void *arg, const struct row_step *s)
{
        struct step_doc *x = arg;

        x->idx = s->idx;
        present_step_members(&x->d.w, s, x->d.wf);
        put_checkpoint(&x->d.w, &x->d.open, s);
        return put_spending(&x->d, s);
}

static int on_attempt(void *arg, const struct row_attempt *a)
{
        struct step_doc *x = arg;

        present_attempt(&x->d.w, a);
        return jw_end(&x->d.w);
}

int present_step_by_id(struct http_thread *t, const char *run_id, const char *step_id, struct buf *out,
                       struct err *e)
{
        struct step_doc x = {.d = {.t = t, .brief = true}};
        int rc;

        jw_begin(&x.d.w, out);
        rc = read_run(t->reader, run_id, on_run, &x.d);
        if (rc)
                return no_run(run_id, rc, e);
        x.d.wf = x.d.call ? NULL : definition(t, x.d.sha);
        jw_open(&x.d.w, NULL, '{');
        rc = x.d.over ? 0 : open_checkpoints_read(t->reader, x.d.seq, &x.d.open);
        if (!rc)
                rc = read_step(t->reader, x.d.seq, step_id, on_one_step, &x);
        open_checkpoints_free(&x.d.open);
        spending_free(&x.d.spent);
        if (rc == -E_NOENT)
                return err_set(e, E_NOENT, "run '%.64s' has no step '%.128s'", run_id, step_id);
        if (!rc) {
                jw_open(&x.d.w, "attempts", '[');
                rc = read_attempts(t->reader, x.d.seq, x.idx, on_attempt, &x);
                jw_close(&x.d.w, ']');
                jw_close(&x.d.w, '}');
        }
        if (!rc)
                rc = jw_end(&x.d.w);
        return rc ? no_run(run_id, rc, e) : 0;
}
