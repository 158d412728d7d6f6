#include "hub/http/guard.h"

#include <stdio.h>
#include <string.h>

#include "common/json.h"
#include "common/mem.h"
#include "hub/http/denials.h"
#include "hub/http/request.h"
#include "hub/store/store.h"

bool caller_may(const struct caller *c, const char *project, enum permission p)
{
        return role_may(roles_in(&c->roles, project), p) && c->permissions & PERMISSION_BIT(p);
}

bool caller_may_somewhere(const struct caller *c, enum permission p)
{
        return role_may(roles_best(&c->roles), p) && c->permissions & PERMISSION_BIT(p);
}

static int lacks(const struct caller *c, enum role role, const char *project, enum permission p,
                 struct err *e)
{
        if (!(c->permissions & PERMISSION_BIT(p)))
                return err_set(e, E_DENIED, "%s lacks the permission %s: it is not among the token's scopes",
                               c->name, permission_name(p));
        if (project)
                return err_set(e, E_DENIED, "%s (role %s in project %s) lacks the permission %s", c->name,
                               role_name(role), project, permission_name(p));
        if (role == ROLE_NONE)
                return err_set(
                        e, E_DENIED,
                        "%s lacks the permission %s: it takes a role for all projects (*), and there is none",
                        c->name, permission_name(p));
        return err_set(e, E_DENIED, "%s (role %s) lacks the permission %s", c->name, role_name(role),
                       permission_name(p));
}

int guard_denied(const struct caller *c, enum permission p, struct err *e)
{
        return lacks(c, roles_best(&c->roles), NULL, p, e);
}

static int no_such_project(const char *name, struct err *e)
{
        return err_set(e, E_NOENT, "there is no project '%.64s', or you have no role in it", name);
}

/* -E_NOENT: the caller has no role there, and must not learn whether there is such a project. */
static int check_in(struct http_req *q, const char *project, enum permission p, struct err *e)
{
        enum role role = roles_in(&q->caller.roles, project);

        q->hidden = role == ROLE_NONE;
        if (q->hidden)
                return -E_NOENT;
        snprintf(q->project, sizeof q->project, "%s", project);
        return caller_may(&q->caller, project, p) ? 0 : lacks(&q->caller, role, project, p, e);
}

/* ---- what a request is about ---- */

static int on_project(void *arg, const char *project)
{
        snprintf(arg, PROJECT_NAME_MAX + 1, "%s", project ? project : "");
        return 0;
}

/* To a caller who has a role in every project nothing is secret: they are told what they lack. */
static int not_there(struct http_req *q, enum permission p, const char *fmt, struct err *e)
{
        enum role role = q->caller.roles.everywhere;

        if (role != ROLE_NONE)
                return lacks(&q->caller, role, NULL, p, e);
        return err_set(e, E_NOENT, fmt, q->param[0]);
}

static int about_run(struct http_req *q, enum permission p, struct err *e)
{
        char project[PROJECT_NAME_MAX + 1];
        struct store_reader *r;
        int rc;

        /* Whoever may everywhere need not be asked where: the handler says whether there is such a run. */
        if (caller_may(&q->caller, PROJECT_ALL, p))
                return 0;
        r = req_reader(q, e);
        if (!r)
                return -E_UNAVAIL;
        rc = read_run_project(r, q->param[0], on_project, project);
        if (!rc)
                rc = check_in(q, project, p, e);
        return rc == -E_NOENT ? not_there(q, p, "there is no run '%.64s'", e) : rc;
}

static int on_checkpoint(void *arg, const struct row_checkpoint *c)
{
        return c->sealed.refused ? -E_DENIED : on_project(arg, c->project);
}

/* In which project it is, who asked and what: all that a decision stands on is in a row that somebody else
 * has written. */
static int checkpoint_refused(struct http_req *q, struct err *e)
{
        denials_row(q, "checkpoints", q->param[0]);
        q->problem_code = "row_refused";
        return err_set(
                e, E_STATE,
                "checkpoint %.64s in the database is not as this hub wrote it: nobody can see or answer "
                "it. Find out who can write hub.db; cancel its run, and submit it anew",
                q->param[0]);
}

static int about_checkpoint(struct http_req *q, enum permission p, struct err *e)
{
        char project[PROJECT_NAME_MAX + 1];
        struct store_reader *r = req_reader(q, e);
        int rc = r ? read_checkpoint(r, q->param[0], on_checkpoint, project) : -E_UNAVAIL;

        if (rc == -E_DENIED)
                return checkpoint_refused(q, e);
        /* Who may answer can depend on the role in this project, so it is looked up for everybody. */
        if (!rc)
                rc = check_in(q, project, p, e);
        else if (rc == -E_NOENT && caller_may(&q->caller, PROJECT_ALL, p))
                return 0; /* the handler says so */
        return rc == -E_NOENT
                       ? not_there(q, p, "there is no checkpoint '%.64s'; see: photon checkpoints --all", e)
                       : rc;
}

/* Where new things go when nobody says where: to what the token is bound to, to the only project there is for
 * the caller, or to the one that is always there. */
static const char *usual_project(const struct caller *c)
{
        if (strcmp(c->project, PROJECT_ALL) != 0)
                return c->project;
        if (c->roles.everywhere == ROLE_NONE && c->roles.n == 1)
                return c->roles.in[0].project;
        return PROJECT_DEFAULT;
}

static int on_open(void *arg, const struct row_project *p)
{
        *(bool *)arg = !p->archived_us && !p->sealed.refused;
        return 0;
}

/* The one that is always there costs no look. */
static int check_open(struct http_req *q, const char *project, struct err *e)
{
        struct store_reader *r;
        bool open = false;
        int rc;

        if (strcmp(project, PROJECT_DEFAULT) == 0)
                return 0;
        r = req_reader(q, e);
        if (!r)
                return -E_UNAVAIL;
        rc = read_project(r, project, on_open, &open);
        if (rc == -E_NOENT)
                return no_such_project(project, e);
        if (!rc && !open) {
                q->problem_code = "project_archived";
                return err_set(e, E_STATE, "the project %s is archived: it takes no new work", project);
        }
        return rc;
}

static int about_new(struct http_req *q, enum permission p, struct err *e)
{
        const char *project = req_query(q, "project");
        int rc;

        if (!project)
                project = usual_project(&q->caller);
        rc = project_name_ok(project) ? check_in(q, project, p, e) : -E_NOENT;
        if (rc == -E_NOENT)
                return no_such_project(project, e);
        return rc ? rc : check_open(q, project, e);
}

int guard_in(struct http_req *q, const char *project, enum permission p, struct err *e)
{
        int rc;

        if (strcmp(project, PROJECT_ALL) == 0)
                return caller_may(&q->caller, PROJECT_ALL, p)
                               ? 0
                               : lacks(&q->caller, q->caller.roles.everywhere, NULL, p, e);
        rc = project_name_ok(project) ? check_in(q, project, p, e) : -E_NOENT;
        return rc == -E_NOENT ? no_such_project(project, e) : rc;
}

static int about_list(struct http_req *q, enum permission p, struct err *e)
{
        const char *project = req_query(q, "project");

        if (project)
                return guard_in(q, project, p, e);
        return caller_may_somewhere(&q->caller, p) ? 0 : guard_denied(&q->caller, p, e);
}

int guard_check(struct http_req *q, const struct route *r, struct err *e)
{
        const struct roles *roles = &q->caller.roles;

        q->project[0] = '\0';
        switch (r->flags & ROUTE_WHERE) {
        case ROUTE_ANYWHERE:
                if (caller_may_somewhere(&q->caller, r->perm))
                        return 0;
                return guard_denied(&q->caller, r->perm, e);
        case ROUTE_OF_RUN:
                return about_run(q, r->perm, e);
        case ROUTE_OF_CHECKPOINT:
                return about_checkpoint(q, r->perm, e);
        case ROUTE_IN_PROJECT:
                return about_new(q, r->perm, e);
        case ROUTE_OF_PROJECT:
                return guard_in(q, q->param[0], r->perm, e);
        case ROUTE_LISTS:
                return about_list(q, r->perm, e);
        default: /* of the hub itself */
                return caller_may(&q->caller, PROJECT_ALL, r->perm)
                               ? 0
                               : lacks(&q->caller, roles->everywhere, NULL, r->perm, e);
        }
}

bool guard_offers(const struct caller *c, const struct route *r)
{
        if (!(r->flags & ROUTE_WHERE))
                return caller_may(c, PROJECT_ALL, r->perm);
        return caller_may_somewhere(c, r->perm);
}

/* ---- lists and streams ---- */

int guard_projects(struct http_req *q, enum permission p, char **out, struct err *e)
{
        const struct roles *roles = &q->caller.roles;
        cJSON *list;

        *out = NULL;
        if (!q->project[0] && caller_may(&q->caller, PROJECT_ALL, p))
                return 0;
        list = cJSON_CreateArray();
        if (q->project[0])
                cJSON_AddItemToArray(list, cJSON_CreateString(q->project));
        for (unsigned i = 0; !q->project[0] && i < roles->n; i++) {
                if (caller_may(&q->caller, roles->in[i].project, p))
                        cJSON_AddItemToArray(list, cJSON_CreateString(roles->in[i].project));
        }
        *out = list ? json_text(list) : NULL;
        cJSON_Delete(list);
        return *out ? 0 : err_set(e, E_NOMEM, "out of memory");
}

static const char *project_of(struct guard_runs *g, struct http_thread *t, const char *run)
{
        const size_t n = sizeof g->known / sizeof *g->known;
        char project[PROJECT_NAME_MAX + 1];
        unsigned at = g->next;

        if (!*run || strlen(run) >= sizeof g->known[0].run)
                return "";
        for (unsigned i = 0; i < n; i++) {
                if (strcmp(g->known[i].run, run) == 0)
                        return g->known[i].project;
        }
        if (read_run_project(t->reader, run, on_project, project))
                return "";
        snprintf(g->known[at].run, sizeof g->known[at].run, "%s", run);
        snprintf(g->known[at].project, sizeof g->known[at].project, "%s", project);
        g->next = (at + 1) % n;
        return g->known[at].project;
}

bool guard_run_in(struct guard_runs *g, const char *project, struct http_thread *t, const char *run)
{
        return strcmp(project_of(g, t, run), project) == 0;
}

bool guard_sees_run(struct guard_runs *g, const struct caller *c, struct http_thread *t, const char *run,
                    enum permission p)
{
        return caller_may(c, PROJECT_ALL, p) || caller_may(c, project_of(g, t, run), p);
}
