/* Users and services, projects, and who has which role in them. */
#include <stdio.h>
#include <string.h>

#include "common/json.h"
#include "common/mem.h"
#include "hub/auth/oidc.h"
#include "hub/auth/people.h"
#include "hub/auth/rulers.h"
#include "hub/http/api.h"
#include "hub/http/guard.h"
#include "hub/http/idem.h"
#include "hub/http/present.h"
#include "hub/http/request.h"
#include "hub/store/store.h"

/* What is to be done to a person or a project, between the request's parts. */
struct change {
        char *name, *text; /* text: an email, or a title */
        char *subject;     /* of a user, at the identity provider */
        bool service, on;
        enum role role;
        int (*make)(struct http_req *q, const struct change *c, struct store_tx *tx, struct err *e);
};

static void change_free(void *p)
{
        struct change *c = p;

        mem_free(c->name);
        mem_free(c->text);
        mem_free(c->subject);
        mem_free(c);
}

static void on_durable(void *arg)
{
        struct http_req *q = arg;

        atomic_fetch_add(&q->h->token_changes, 1); /* what threads remember of callers may be wrong now */
        req_on_answer(q, 0, NULL);
}

static void change_on_loop(struct http_req *q)
{
        const struct change *c = q->state;
        struct store_tx *tx;
        struct err e = {0};
        int rc;

        if (q->idem && q->idem->replay) {
                req_done(q, 0, NULL);
                return;
        }
        tx = store_begin(q->h->o.store);
        if (!tx) {
                req_done(q, err_set(&e, E_NOMEM, "out of memory"), &e);
                return;
        }
        auth_act_as(q->h->o.auth, q->caller.name);
        rc = c->make(q, c, tx, &e);
        if (rc) {
                auth_act_as(q->h->o.auth, NULL);
                store_abandon(tx);
                req_done(q, rc, &e);
                return;
        }
        if (q->idem)
                idem_store(q, tx, q->route->status, "");
        req_owe(q);
        auth_commit(q->h->o.auth, tx, on_durable, q);
}

/* `name` and `text` may be NULL. Takes c.subject. */
static int go(struct http_req *q, struct change c, const char *name, const char *text,
              int (*after)(struct http_req *q, struct err *e), struct err *e)
{
        struct change *kept = mem_calloc(1, sizeof *kept);

        if (kept) {
                *kept = c;
                kept->name = name ? mem_strdup(name) : NULL;
                kept->text = text ? mem_strdup(text) : NULL;
        }
        if (!kept || (name && !kept->name) || (text && !kept->text)) {
                if (kept)
                        change_free(kept);
                else
                        mem_free(c.subject);
                return err_set(e, E_NOMEM, "out of memory");
        }
        req_keep(q, kept, change_free);
        req_hop(q, change_on_loop, after);
        return 0;
}

/* ---- users ---- */

static void put_roles(struct jsonw *w, const char *key, const char *json)
{
        jw_raw(w, key, json && *json ? json : NULL, "{}");
}

static void put_user(struct jsonw *w, const struct row_user *u)
{
        jw_open(w, NULL, '{');
        jw_str(w, "name", u->name);
        jw_str(w, "id", u->id);
        jw_str(w, "kind", u->kind);
        jw_str(w, "state", u->sealed.refused ? "refused" : u->disabled_us ? "disabled" : "active");
        jw_str(w, "email", u->email);
        jw_str(w, "issuer", u->issuer);
        put_roles(w, "roles", u->sealed.refused ? NULL : u->roles);
        put_roles(w, "provider_roles", u->sealed.refused ? NULL : u->idp_roles);
        jw_str(w, "created_by", u->created_by);
        jw_time(w, "created_at", u->created_us);
        jw_time(w, "disabled_at", u->disabled_us);
        jw_time(w, "last_login_at", u->last_login_us);
        jw_close(w, '}');
}

static int on_user(void *arg, const struct row_user *u)
{
        if (u->deleted_us && !u->sealed.refused)
                return 0;
        put_user(arg, u);
        return jw_end(arg);
}

static int finish_list(struct http_req *q, int rc, struct jsonw *w, struct buf *b, const char *what,
                       struct err *e)
{
        cJSON *all = NULL;

        jw_close(w, ']');
        if (!rc)
                rc = jw_end(w);
        if (rc)
                err_set(e, -rc, "the %s could not be read: %s", what, err_name(rc));
        else
                rc = json_parse((const char *)b->data, b->len, &all, e);
        buf_fini(b);
        return rc ? rc : req_page(q, all, "name", e);
}

int api_users_list(struct http_req *q, struct err *e)
{
        struct store_reader *r = req_reader(q, e);
        struct jsonw w;
        struct buf b;

        if (!r)
                return -E_UNAVAIL;
        buf_init(&b, 0);
        jw_begin(&w, &b);
        jw_open(&w, NULL, '[');
        return finish_list(q, read_users(r, on_user, &w), &w, &b, "users", e);
}

struct find_user {
        const char *name;
        struct jsonw *w;
};

static int on_find(void *arg, const struct row_user *u)
{
        struct find_user *f = arg;

        if (strcmp(u->name, f->name) != 0 || u->deleted_us)
                return 0;
        put_user(f->w, u);
        return jw_end(f->w) ? -E_NOMEM : 1;
}

static int show_user(struct http_req *q, const char *name, struct err *e)
{
        struct store_reader *r = req_reader(q, e);
        struct jsonw w;
        struct find_user f = {name, &w};
        int rc;

        if (!r)
                return -E_UNAVAIL;
        jw_begin(&w, &q->out);
        rc = read_users(r, on_find, &f);
        if (rc < 0)
                return rc;
        return rc ? 0 : err_set(e, E_NOENT, "there is no user '%.100s'; see: photon user list", name);
}

int api_user_get(struct http_req *q, struct err *e)
{
        return show_user(q, q->param[0], e);
}

static int show_made_user(struct http_req *q, struct err *e)
{
        const struct change *c = q->state;

        /* Names may hold what a header must not. */
        return show_user(q, c->name, e);
}

static int api_tokens_named(void *arg, const struct row_api_token *t)
{
        return !t->user_id && !t->revoked_us && strcmp(t->name, arg) == 0;
}

static int make_user(struct http_req *q, const struct change *c, struct store_tx *tx, struct err *e)
{
        struct new_person p = {.name = c->name,
                               .service = c->service,
                               .email = c->text,
                               .subject = c->subject,
                               .issuer = q->h->o.oidc ? oidc_issuer(q->h->o.oidc) : NULL};
        struct http_thread *t;
        char id[32];
        int rc = http_thread(q->h, &t, e);

        /* Two that answer to one name could approve each other's work unseen. */
        if (!rc)
                rc = read_api_tokens(t->reader, api_tokens_named, (void *)c->name);
        if (rc == 1)
                return err_set(e, E_EXIST,
                               "an API token is called '%s' already; revoke it, or choose another name",
                               c->name);
        return rc ? rc : auth_person_create(q->h->o.auth, tx, &p, id, e);
}

int api_users_create(struct http_req *q, struct err *e)
{
        static const char *const keys[] = {"name", "kind", "email", "subject", NULL};
        const char *name = NULL, *kind = "user", *email = NULL, *subject = NULL;
        char *kept = NULL;
        cJSON *doc = NULL;
        int rc = idem_read(q, e);

        if (!rc)
                rc = req_body_json(q, keys, false, &doc, e);
        if (!rc)
                rc = json_str(doc, "name", &name, e);
        if (!rc)
                rc = json_str_opt(doc, "kind", &kind, e);
        if (!rc)
                rc = json_str_opt(doc, "email", &email, e);
        if (!rc)
                rc = json_str_opt(doc, "subject", &subject, e);
        if (!rc && strcmp(kind, "user") != 0 && strcmp(kind, "service") != 0)
                rc = err_set(e, E_INVAL, "\"kind\" must be user or service");
        if (!rc && subject && !(kept = mem_strdup(subject)))
                rc = err_set(e, E_NOMEM, "out of memory");
        if (!rc)
                rc = go(q, (struct change){.service = kind[0] == 's', .subject = kept, .make = make_user},
                        name, email, show_made_user, e);
        else
                mem_free(kept);
        cJSON_Delete(doc);
        return rc;
}

int people_keep_ruler(struct http_req *q, const struct ruler_removal *x, struct err *e)
{
        struct ruler_removal all = *x;
        struct http_thread *t;
        int rc = http_thread(q->h, &t, e);

        all.logins = q->h->o.oidc != NULL;
        if (!rc)
                rc = auth_check_ruler(q->h->o.auth, t->reader, &all, e);
        if (rc == -E_STATE)
                q->problem_code = "last_admin";
        return rc;
}

static int delete_user(struct http_req *q, const struct change *c, struct store_tx *tx, struct err *e)
{
        int rc = people_keep_ruler(q, &(struct ruler_removal){.user = q->param[0]}, e);

        (void)c;
        return rc ? rc : auth_person_delete(q->h->o.auth, tx, q->param[0], e);
}

int api_user_delete(struct http_req *q, struct err *e)
{
        return go(q, (struct change){.make = delete_user}, NULL, NULL, NULL, e);
}

static int switch_user(struct http_req *q, const struct change *c, struct store_tx *tx, struct err *e)
{
        int rc = c->on ? 0 : people_keep_ruler(q, &(struct ruler_removal){.user = q->param[0]}, e);

        return rc ? rc : auth_person_enable(q->h->o.auth, tx, q->param[0], c->on, e);
}

static int no_body(struct http_req *q, struct err *e)
{
        static const char *const keys[] = {NULL};
        cJSON *doc = NULL;
        int rc = idem_read(q, e);

        if (!rc)
                rc = req_body_json(q, keys, true, &doc, e);
        cJSON_Delete(doc);
        return rc;
}

int api_user_disable(struct http_req *q, struct err *e)
{
        int rc = no_body(q, e);

        return rc ? rc : go(q, (struct change){.make = switch_user}, NULL, NULL, api_user_get, e);
}

int api_user_enable(struct http_req *q, struct err *e)
{
        int rc = no_body(q, e);

        return rc ? rc : go(q, (struct change){.on = true, .make = switch_user}, NULL, NULL, api_user_get, e);
}

/* ---- projects ---- */

struct project_list {
        struct jsonw w;
        struct http_req *q;
        const char *only; /* NULL: all that the caller may see */
};

static void put_project(struct jsonw *w, const struct caller *who, const struct row_project *p)
{
        jw_open(w, NULL, '{');
        jw_str(w, "name", p->name);
        jw_str(w, "title", p->title);
        jw_str(w, "state", p->sealed.refused ? "refused" : p->archived_us ? "archived" : "open");
        jw_str(w, "role", role_name(roles_in(&who->roles, p->name))); /* the caller's */
        jw_str(w, "created_by", p->created_by);
        jw_time(w, "created_at", p->created_us);
        jw_time(w, "archived_at", p->archived_us);
        jw_close(w, '}');
}

static int on_project(void *arg, const struct row_project *p)
{
        struct project_list *l = arg;

        if (l->only ? strcmp(p->name, l->only) != 0 : !caller_may(&l->q->caller, p->name, PERM_PROJECTS_READ))
                return 0;
        put_project(&l->w, &l->q->caller, p);
        return jw_end(&l->w);
}

int api_projects_list(struct http_req *q, struct err *e)
{
        struct store_reader *r = req_reader(q, e);
        struct project_list l = {.q = q};
        struct buf b;

        if (!r)
                return -E_UNAVAIL;
        buf_init(&b, 0);
        jw_begin(&l.w, &b);
        jw_open(&l.w, NULL, '[');
        return finish_list(q, read_projects(r, on_project, &l), &l.w, &b, "projects", e);
}

static int show_project(struct http_req *q, const char *name, struct err *e)
{
        struct store_reader *r = req_reader(q, e);
        struct project_list l = {.q = q, .only = name};
        int rc;

        if (!r)
                return -E_UNAVAIL;
        jw_begin(&l.w, &q->out);
        rc = read_project(r, name, on_project, &l);
        return rc == -E_NOENT ? err_set(e, E_NOENT, "there is no project '%.64s'", name) : rc;
}

static int show_made_project(struct http_req *q, struct err *e)
{
        const struct change *c = q->state;

        return show_project(q, c->name, e);
}

static int show_this_project(struct http_req *q, struct err *e)
{
        return show_project(q, q->param[0], e);
}

static int make_project(struct http_req *q, const struct change *c, struct store_tx *tx, struct err *e)
{
        return auth_project_create(q->h->o.auth, tx, c->name, c->text, e);
}

int api_projects_create(struct http_req *q, struct err *e)
{
        static const char *const keys[] = {"name", "title", NULL};
        const char *name = NULL, *title = NULL;
        cJSON *doc = NULL;
        int rc = idem_read(q, e);

        if (!rc)
                rc = req_body_json(q, keys, false, &doc, e);
        if (!rc)
                rc = json_str(doc, "name", &name, e);
        if (!rc)
                rc = json_str_opt(doc, "title", &title, e);
        if (!rc)
                rc = go(q, (struct change){.make = make_project}, name, title, show_made_project, e);
        cJSON_Delete(doc);
        return rc;
}

static int switch_project(struct http_req *q, const struct change *c, struct store_tx *tx, struct err *e)
{
        return auth_project_archive(q->h->o.auth, tx, q->param[0], c->on, e);
}

int api_project_archive(struct http_req *q, struct err *e)
{
        int rc = no_body(q, e);

        return rc ? rc
                  : go(q, (struct change){.on = true, .make = switch_project}, NULL, NULL, show_this_project,
                       e);
}

int api_project_unarchive(struct http_req *q, struct err *e)
{
        int rc = no_body(q, e);

        return rc ? rc : go(q, (struct change){.make = switch_project}, NULL, NULL, show_this_project, e);
}

/* ---- members ---- */

struct member_list {
        struct jsonw w;
        const char *project;
};

static int on_member(void *arg, const struct row_user *u)
{
        struct member_list *l = arg;
        struct roles here = {0}, there = {0};
        enum role role, given;

        if (u->sealed.refused)
                return 0;
        roles_read(u->roles, &here);
        roles_read(u->idp_roles, &there);
        given = roles_in(&here, l->project);
        role = roles_in(&there, l->project) > given ? roles_in(&there, l->project) : given;
        if (role == ROLE_NONE)
                return 0;
        jw_open(&l->w, NULL, '{');
        jw_str(&l->w, "name", u->name);
        jw_str(&l->w, "kind", u->kind);
        jw_str(&l->w, "state", u->disabled_us ? "disabled" : "active");
        jw_str(&l->w, "role", role_name(role));
        jw_close(&l->w, '}');
        return jw_end(&l->w);
}

int api_members_list(struct http_req *q, struct err *e)
{
        struct store_reader *r = req_reader(q, e);
        struct member_list l = {.project = q->param[0]};
        struct buf b;

        if (!r)
                return -E_UNAVAIL;
        buf_init(&b, 0);
        jw_begin(&l.w, &b);
        jw_open(&l.w, NULL, '[');
        return finish_list(q, read_users(r, on_member, &l), &l.w, &b, "members", e);
}

static int give_role(struct http_req *q, const struct change *c, struct store_tx *tx, struct err *e)
{
        bool rules = strcmp(q->param[0], PROJECT_ALL) != 0 || c->role == ROLE_ADMIN ||
                     auth_person_rules_by_claim(q->h->o.auth, q->param[1]);
        int rc = rules ? 0 : people_keep_ruler(q, &(struct ruler_removal){.user = q->param[1]}, e);

        return rc ? rc : auth_person_give(q->h->o.auth, tx, q->param[1], q->param[0], c->role, e);
}

static int show_member(struct http_req *q, struct err *e)
{
        const struct change *c = q->state;
        struct jsonw w;

        (void)e;
        jw_begin(&w, &q->out);
        jw_open(&w, NULL, '{');
        jw_str(&w, "name", q->param[1]);
        jw_str(&w, "project", q->param[0]);
        jw_str(&w, "role", role_name(c->role));
        jw_close(&w, '}');
        return jw_end(&w);
}

int api_member_put(struct http_req *q, struct err *e)
{
        static const char *const keys[] = {"role", NULL};
        const char *name = NULL;
        enum role role = ROLE_NONE;
        cJSON *doc = NULL;
        int rc = req_body_json(q, keys, false, &doc, e);

        if (!rc)
                rc = json_str(doc, "role", &name, e);
        if (!rc && role_parse(name, &role))
                rc = err_set(e, E_INVAL, "\"role\" must be client, operator, technical-operator or admin");
        if (!rc)
                rc = go(q, (struct change){.role = role, .make = give_role}, NULL, NULL, show_member, e);
        cJSON_Delete(doc);
        return rc;
}

int api_member_delete(struct http_req *q, struct err *e)
{
        return go(q, (struct change){.role = ROLE_NONE, .make = give_role}, NULL, NULL, NULL, e);
}
