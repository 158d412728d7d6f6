/* Checkpoints: questions that people are asked. List, show, approve, reject, delegate. */
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"
#include "hub/model/access.h"
#include "hub/auth/people.h"
#include "hub/http/answer_secrets.h"
#include "hub/http/api.h"
#include "hub/http/guard.h"
#include "hub/http/idem.h"
#include "hub/http/listing.h"
#include "hub/http/present.h"
#include "hub/http/request.h"
#include "hub/model/approval.h"
#include "hub/store/store.h"

#define REASON_MAX  1000
#define CONTENT_MAX (256u << 10)

/* ---- list and show ---- */

static int on_row(void *arg, const struct row_checkpoint *r)
{
        struct listing *l = arg;

        if (r->sealed.refused) /* it may stand in another project than its own */
                return 0;
        if (!listing_takes(l, r->seq))
                return 1;
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
        struct listing l = {0};
        struct store_reader *r = req_reader(q, e);
        char *projects = NULL;
        int rc;

        if (!r)
                return -E_UNAVAIL;
        rc = read_filter(q, r, &f, e);
        if (!rc)
                rc = guard_projects(q, PERM_CHECKPOINTS_READ, &projects, e);
        f.projects = projects;
        if (!rc)
                rc = listing_args(q, &l, &f.before_seq, e);
        if (rc)
                goto out;
        f.limit = (int)l.limit + 1;
        listing_begin(q, &l);
        rc = read_checkpoints(r, &f, on_row, &l);
        if (rc < 0) {
                err_set(e, -rc, "the checkpoints could not be read: %s", err_name(rc));
                goto out;
        }
        rc = listing_end(&l);
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
        enum checkpoint_kind kind;
        struct answer_secrets *secrets; /* or NULL */
        bool form, others, gone, for_others;
        struct approval_rules rules; /* of what the hub asks */
        struct engine_decision m;
        char *schema, *row_sha256, *asked_by, *decided_by, *row_reason;
        int64_t expires_us;
};

static int copy(char **out, const char *s)
{
        *out = s ? mem_strdup(s) : NULL;
        return s && !*out ? -E_NOMEM : 0;
}

/* Does the answer change what others may spend: a budget of a project, an agent or a day? Not understood:
 * yes. */
static bool raises_for_others(const char *arguments)
{
        const cJSON *account;
        cJSON *doc = NULL;
        bool own;

        if (!arguments || json_parse(arguments, strlen(arguments), &doc, NULL))
                return true;
        account = cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(doc, "about"), "account");
        own = cJSON_IsString(account) && strncmp(account->valuestring, "run:", 4) == 0;
        cJSON_Delete(doc);
        return !own;
}

static int on_look(void *arg, const struct row_checkpoint *r)
{
        struct decision *d = arg;

        if (r->sealed.refused || checkpoint_kind_parse(r->kind, &d->kind))
                return -E_CORRUPT;
        if (checkpoint_by_hub(d->kind) && (!r->rules || approval_rules_read(r->rules, &d->rules, NULL)))
                return -E_CORRUPT;
        d->state = r->state;
        d->for_others = d->kind == KIND_BUDGET && raises_for_others(r->arguments);
        d->form = d->kind == KIND_INPUT || (checkpoint_by_hub(d->kind) && r->schema);
        d->expires_us = r->expires_us;
        if (copy(&d->schema, r->schema) || copy(&d->row_sha256, r->sha256 ? r->sha256 : "") ||
            copy(&d->asked_by, r->asked_by ? r->asked_by : "") || copy(&d->decided_by, r->decided_by) ||
            copy(&d->row_reason, r->reason))
                return -E_NOMEM;
        return 0;
}

/* What was filled in, with the defaults of what was not. */
static int complete(struct decision *d, const cJSON *content, cJSON **out, struct err *e)
{
        cJSON *all = approval_complete(d->rules.fields, content);
        const cJSON *it;

        /* What was not asked for stays in, so that the check says so. */
        cJSON_ArrayForEach(it, content)
        {
                cJSON *copy;

                if (!all || cJSON_GetObjectItemCaseSensitive(all, it->string))
                        continue;
                copy = cJSON_Duplicate(it, true);
                if (!copy || !cJSON_AddItemToObject(all, it->string, copy)) {
                        cJSON_Delete(copy);
                        cJSON_Delete(all);
                        all = NULL;
                }
        }
        if (!all)
                return err_set(e, E_NOMEM, "out of memory");
        *out = all;
        return 0;
}

/* What was filled in is held against what was asked for. */
static int fits(const struct decision *d, const cJSON *content, struct err *e)
{
        cJSON *schema = NULL;
        struct err why = {0};
        int rc;

        if (!d->form || !d->approve || !d->schema)
                return 0;
        rc = json_parse(d->schema, strlen(d->schema), &schema, &why);
        if (!rc)
                rc = json_check(schema, content, &why);
        cJSON_Delete(schema);
        return rc ? err_set(e, -rc, "the content is not what was asked for: %s", why.msg) : 0;
}

/* The text of what is decided on, in which no secret stands any more. */
static int keep_content(struct decision *d, const cJSON *content, struct err *e)
{
        d->content = json_text(content);
        if (!d->content)
                return err_set(e, E_NOMEM, "out of memory");
        if (strlen(d->content) > CONTENT_MAX)
                return err_set(e, E_TOOBIG, "\"content\" may have %u bytes at most", CONTENT_MAX);
        return 0;
}

static int fill_in(struct http_req *q, struct decision *d, const cJSON *content, struct err *e)
{
        cJSON *all = NULL;
        int rc = complete(d, content, &all, e);

        if (!rc && (rc = fits(d, all, e)))
                q->problem_code = "invalid_content";
        if (!rc)
                rc = answer_secrets_take(q, d->rules.fields, all, &d->secrets, e);
        if (!rc)
                rc = keep_content(d, all, e);
        answer_secrets_forget(q, d->rules.fields, all);
        cJSON_Delete(all);
        return rc;
}

static int take_content(struct http_req *q, struct decision *d, const cJSON *content, struct err *e)
{
        int rc;

        if (checkpoint_over(d->state) || (!content && !checkpoint_by_hub(d->kind)))
                return 0; /* checkpoint_check says so */
        if (checkpoint_by_hub(d->kind) && d->form)
                return d->approve ? fill_in(q, d, content, e) : 0;
        if (!content)
                return 0;
        rc = fits(d, content, e);
        if (rc)
                q->problem_code = "invalid_content";
        return rc ? rc : keep_content(d, content, e);
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
        if (!rc && (copy(&d->reason, reason) || copy(&d->sha256, sha)))
                rc = err_set(e, E_NOMEM, "out of memory");
        return rc;
}

static struct checkpoint_answer answer_of(const struct http_req *q, const struct decision *d)
{
        return (struct checkpoint_answer){.by = q->caller.name,
                                          .maker = q->caller.maker,
                                          .role = role_name(roles_in(&q->caller.roles, q->project)),
                                          .others = d->others,
                                          .approve = d->approve,
                                          .always = d->always,
                                          .sha256 = d->sha256,
                                          .content = d->content};
}

static void row_free(struct decision *d)
{
        mem_free(d->schema);
        mem_free(d->row_sha256);
        mem_free(d->asked_by);
        mem_free(d->decided_by);
        mem_free(d->row_reason);
        approval_rules_fini(&d->rules);
        d->schema = d->row_sha256 = d->asked_by = d->decided_by = d->row_reason = NULL;
}

static void decision_free(void *arg)
{
        struct decision *d = arg;

        row_free(d);
        mem_free(d->reason);
        mem_free(d->content);
        mem_free(d->sha256);
        answer_secrets_free(d->secrets);
        mem_free(d);
}

/* The engine does not know it any more: the row says what became of it. */
static int as_it_was(struct http_req *q, struct decision *d, struct err *e)
{
        struct checkpoint_facts f = {.id = q->param[0],
                                     .state = d->state,
                                     .kind = d->kind,
                                     .form = d->form,
                                     .sha256 = d->row_sha256,
                                     .asked_by = d->asked_by,
                                     .decided_by = d->decided_by,
                                     .reason = d->row_reason};
        struct checkpoint_answer a = answer_of(q, d);
        int rc = checkpoint_over(d->state) ? checkpoint_check(&f, &a, 0, SELF_ALLOW, &d->m.code, e) : 0;

        if (rc)
                return rc;
        d->m.code = "checkpoint_decided";
        return err_set(e, E_STATE,
                       "checkpoint %.64s has just been decided; see: photon checkpoint show %.64s",
                       q->param[0], q->param[0]);
}

/* HTTP thread again: the checkpoint as it is now, or why the answer does not count. */
static int after_decision(struct http_req *q, struct err *e)
{
        struct decision *d = q->state;
        struct store_reader *r;
        int rc;

        if (!d->gone)
                return api_checkpoint_get(q, e);
        r = req_reader(q, e);
        if (!r)
                return -E_UNAVAIL;
        row_free(d);
        rc = read_checkpoint(r, q->param[0], on_look, d);
        rc = rc ? no_checkpoint(q, rc, e) : as_it_was(q, d, e);
        q->problem_code = d->m.code;
        if (rc == -E_TIMEOUT)
                q->problem_status = 409;
        return rc;
}

static void on_decided(void *arg, int rc, const struct err *e)
{
        struct http_req *q = arg;
        struct decision *d;

        if (!req_paid(q))
                return;
        d = q->state;
        if (rc == -E_NOENT) { /* the row says what became of it */
                d->gone = true;
                rc = 0;
        }
        if (rc) { /* each reason has a name of its own; a status alone would not tell them apart */
                q->problem_code = d->m.code;
                if (rc == -E_TIMEOUT)
                        q->problem_status = 409;
        }
        req_done(q, rc, e);
}

static void decide_on_loop(struct http_req *q)
{
        struct decision *d = q->state;

        if (q->idem && q->idem->replay) {
                req_done(q, 0, NULL);
                return;
        }
        d->m = (struct engine_decision){.checkpoint_id = q->param[0],
                                        .answer = answer_of(q, d),
                                        .reason = d->reason,
                                        .also = d->secrets ? answer_secrets_put : NULL,
                                        .also_ctx = d->secrets};
        req_owe(q);
        engine_decide(q->h->o.engine, &d->m, on_decided, q);
}

/* ---- who may decide in the project of the request ---- */

struct deciders {
        const char *project;
        const struct caller *but; /* anybody but this one, or */
        const char *only;         /* this one */
        int64_t now_us;
        bool found;
};

/* A token that stands for itself is the caller if it has the caller's name, or the same user is behind both.
 */
static bool is_same_person(const struct caller *c, const struct row_api_token *t)
{
        const char *behind = *c->user_id && !c->service ? c->user_id : c->maker_id;

        return strcmp(t->name, c->name) == 0 || (*behind && t->maker_id && strcmp(t->maker_id, behind) == 0);
}

static int on_token(void *arg, const struct row_api_token *t)
{
        struct deciders *d = arg;
        enum role role;

        /* Who was changed in the database answers nothing, but does not make others lonely. */
        if (t->sealed.refused)
                return d->found = !d->only;
        if (t->user_id || t->revoked_us || (t->expires_us && t->expires_us <= d->now_us) ||
            role_parse(t->role, &role) || !role_may(role, PERM_CHECKPOINTS_DECIDE) ||
            (strcmp(t->project, PROJECT_ALL) != 0 && strcmp(t->project, d->project) != 0))
                return 0;
        d->found = d->only ? strcmp(t->name, d->only) == 0 : !is_same_person(d->but, t);
        return d->found;
}

static int on_user(void *arg, const struct row_user *u)
{
        struct deciders *d = arg;
        struct roles roles = {0};

        if (u->sealed.refused)
                return d->found = !d->only;
        if (u->disabled_us)
                return 0;
        roles_read(u->roles, &roles);
        roles_read(u->idp_roles, &roles);
        if (!role_may(roles_in(&roles, d->project), PERM_CHECKPOINTS_DECIDE))
                return 0;
        d->found = d->only ? strcmp(u->name, d->only) == 0
                           : strcmp(u->name, d->but->name) != 0 && strcmp(u->name, d->but->maker) != 0;
        return d->found;
}

/* A user, or a token that stands for itself. 1: there is one; 0: there is none; -E_*. */
static int find_decider(struct http_req *q, struct store_reader *r, const struct caller *but,
                        const char *only)
{
        struct deciders d = {
                .project = q->project, .but = but, .only = only, .now_us = clock_now_us(&clock_system)};
        int rc = read_api_tokens(r, on_token, &d);

        if (rc == 0)
                rc = read_users(r, on_user, &d);
        return rc < 0 ? rc : d.found;
}

/* Whatever becomes of it: what carried a secret is overwritten, and no row keeps a digest of the request. It
 * is decided once without that, too. */
static void forget_secrets(struct http_req *q, const struct decision *d, cJSON *content)
{
        if (!approval_has_secret(d->rules.fields))
                return;
        answer_secrets_forget(q, d->rules.fields, content);
        idem_free(q->idem);
        q->idem = NULL;
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
        if (!rc && approve && d->for_others && !caller_may(&q->caller, PROJECT_ALL, PERM_BUDGETS_MANAGE))
                rc = guard_denied(&q->caller, PERM_BUDGETS_MANAGE, e);
        if (!rc)
                rc = take_content(q, d, content, e);
        if (!rc)
                d->others = find_decider(q, r, &q->caller, NULL) != 0; /* not known counts as yes */
        forget_secrets(q, d, (cJSON *)content);
        cJSON_Delete(doc);
        if (rc) {
                decision_free(d);
                return rc;
        }
        req_keep(q, d, decision_free);
        req_hop(q, decide_on_loop, after_decision);
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

/* ---- hand on ---- */

struct handing {
        char *to;
        struct engine_delegation m;
};

static void handing_free(void *arg)
{
        mem_free(((struct handing *)arg)->to);
        mem_free(arg);
}

static void on_handed(void *arg, int rc, const struct err *e)
{
        struct http_req *q = arg;

        if (!req_paid(q))
                return;
        if (rc)
                q->problem_code =
                        rc == -E_NOENT ? "checkpoint_decided" : ((struct handing *)q->state)->m.code;
        if (rc == -E_NOENT)
                q->problem_status = 409;
        req_done(q, rc, e);
}

static void hand_on_loop(struct http_req *q)
{
        struct handing *h = q->state;

        h->m = (struct engine_delegation){.checkpoint_id = q->param[0],
                                          .from = q->caller.name,
                                          .from_maker = q->caller.maker,
                                          .from_role = role_name(roles_in(&q->caller.roles, q->project)),
                                          .to = h->to};
        req_owe(q);
        engine_delegate(q->h->o.engine, &h->m, on_handed, q);
}

static int exists(void *arg, const struct row_checkpoint *r)
{
        (void)arg, (void)r;
        return 0;
}

/* To whom: somebody who could answer, or nobody could any more. */
static int read_delegate(struct http_req *q, struct store_reader *r, char **out, struct err *e)
{
        static const char *const keys[] = {"to", NULL};
        const char *to = NULL;
        cJSON *doc = NULL;
        int rc = req_body_json(q, keys, false, &doc, e);

        if (!rc)
                rc = json_str(doc, "to", &to, e);
        if (!rc && (!*to || strlen(to) > APPROVAL_NAME_MAX))
                rc = err_set(e, E_INVAL, "\"to\" is the name of a person, of at most %d bytes",
                             APPROVAL_NAME_MAX);
        if (!rc && copy(out, to))
                rc = err_set(e, E_NOMEM, "out of memory");
        cJSON_Delete(doc);
        if (rc)
                return rc;
        rc = find_decider(q, r, NULL, *out);
        if (rc > 0)
                return 0;
        q->problem_code = "invalid_delegate";
        return rc ? err_set(e, -rc, "who may answer could not be read: %s", err_name(rc))
                  : err_set(e, E_INVAL,
                            "%.127s may not answer checkpoints here: it takes the permission %s in this "
                            "project",
                            *out, permission_name(PERM_CHECKPOINTS_DECIDE));
}

int api_checkpoint_delegate(struct http_req *q, struct err *e)
{
        struct store_reader *r = req_reader(q, e);
        struct handing *h = mem_calloc(1, sizeof *h);
        int rc;

        if (!r || !h) {
                mem_free(h);
                return r ? err_set(e, E_NOMEM, "out of memory") : -E_UNAVAIL;
        }
        rc = read_checkpoint(r, q->param[0], exists, NULL);
        rc = rc ? no_checkpoint(q, rc, e) : read_delegate(q, r, &h->to, e);
        if (rc) {
                handing_free(h);
                return rc;
        }
        req_keep(q, h, handing_free);
        req_hop(q, hand_on_loop, api_checkpoint_get);
        return 0;
}
