/* Join tokens and API tokens. A secret is shown once, in the answer to its
 * creation, and wiped; a repeat by Idempotency-Key says which token it was, not what. */
#include <stdio.h>
#include <string.h>

#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"
#include "hub/auth/people.h"
#include "hub/auth/rulers.h"
#include "hub/http/api.h"
#include "hub/http/guard.h"
#include "hub/http/idem.h"
#include "hub/http/present.h"
#include "hub/http/request.h"
#include "hub/store/store.h"

#define JOIN_TTL_MS  3600000 /* an hour */
#define TTL_MAX_MS   (INT64_C(3650) * 24 * 3600 * 1000)
#define USES_MAX     1000000
#define NAME_MAX_LEN 100

struct token_request {
        int64_t uses, ttl_ms;
        char name[NAME_MAX_LEN + 28];
        bool has_name;
        enum role role;
        char project[PROJECT_NAME_MAX + 1];
        char user[NAME_MAX_LEN + 28]; /* whose it is to be; "": nobody's */
        char user_id[32];
        char *scopes; /* NULL: no limit */
        cJSON *labels;
        /* made on the loop */
        char id[32];
        char *text; /* secret */
        int64_t expires_us;
};

static void request_free(void *p)
{
        struct token_request *t = p;

        if (t->text) {
                mem_wipe(t->text, strlen(t->text));
                mem_free(t->text);
        }
        cJSON_Delete(t->labels);
        mem_free(t->scopes);
        mem_free(t);
}

static int duration_member(const cJSON *doc, const char *key, int64_t *out_ms, struct err *e)
{
        const char *s = NULL;
        int rc = json_str_opt(doc, key, &s, e);

        if (rc || !s)
                return rc;
        if (str_parse_duration(s, out_ms) || *out_ms <= 0 || *out_ms > TTL_MAX_MS)
                return err_set(e, E_INVAL, "\"%s\" must be a duration such as 10m, 1h or 30d", key);
        return 0;
}

static int name_member(const cJSON *doc, struct token_request *t, struct err *e)
{
        const char *s = NULL;
        int rc = json_str_opt(doc, "name", &s, e);

        if (rc || !s)
                return rc;
        if (!*s || strlen(s) > NAME_MAX_LEN)
                return err_set(e, E_INVAL, "\"name\" must have 1 to %d bytes", NAME_MAX_LEN);
        for (const char *p = s; *p; p++)
                if ((unsigned char)*p < ' ' || *p == 127)
                        return err_set(e, E_INVAL, "\"name\" must not hold control characters");
        snprintf(t->name, sizeof t->name, "%s", s);
        t->has_name = true;
        return 0;
}

static int begin(struct http_req *q, const char *const *keys, cJSON **doc, struct token_request **out,
                 struct err *e)
{
        struct token_request *t = mem_calloc(1, sizeof *t);
        int rc = t ? 0 : err_set(e, E_NOMEM, "out of memory");

        if (rc)
                return rc;
        req_keep(q, t, request_free);
        rc = idem_read(q, e);
        if (!rc)
                rc = req_body_json(q, keys, true, doc, e);
        *out = t;
        return rc;
}

/* The first answer held a secret that is nowhere any more. */
static bool repeated(struct http_req *q)
{
        struct err e = {0};

        if (!q->idem || !q->idem->replay)
                return false;
        q->problem_status = 409;
        snprintf(q->problem_extra, sizeof q->problem_extra, "\"id\":\"%.40s\"",
                 q->idem->body ? q->idem->body : "");
        err_set(&e, E_EXIST,
                "this request was answered already and the token was shown then; if it is lost, revoke %.40s "
                "and make another",
                q->idem->body ? q->idem->body : "it");
        req_done(q, -E_EXIST, &e);
        return true;
}

static void on_durable(void *arg)
{
        req_on_answer(arg, 0, NULL);
}

/* ---- join tokens ---- */

static void join_on_loop(struct http_req *q)
{
        struct token_request *t = q->state;
        const struct http_hub_ops *ops = &q->h->o.ops;
        struct join_request jr = {.uses = t->uses,
                                  .ttl_ms = t->ttl_ms,
                                  .name_glob = t->has_name ? t->name : NULL,
                                  .labels = t->labels,
                                  .created_by = q->caller.name};
        struct store_tx *tx;
        struct err e = {0};
        uint8_t secret[32];
        int rc;

        if (repeated(q))
                return;
        tx = store_begin(q->h->o.store);
        if (!tx) {
                req_done(q, err_set(&e, E_NOMEM, "out of memory"), &e);
                return;
        }
        auth_act_as(q->h->o.auth, q->caller.name);
        rc = auth_join_create(q->h->o.auth, tx, &jr, t->id, secret, &e);
        if (rc) {
                store_abandon(tx);
                req_done(q, rc, &e);
                return;
        }
        rc = ops->join_text(ops->ctx, t->id, secret, &t->text, &e);
        mem_wipe(secret, sizeof secret);
        t->expires_us = clock_now_us(q->h->o.clock) + t->ttl_ms * 1000;
        if (rc) {
                struct err ignored;

                /* auth has it already: without its text nobody could use it, so it ends here. */
                auth_join_revoke(q->h->o.auth, tx, t->id, &ignored);
                auth_commit(q->h->o.auth, tx, NULL, NULL);
                req_done(q, rc, &e);
                return;
        }
        idem_store(q, tx, 201, t->id);
        req_owe(q);
        auth_commit(q->h->o.auth, tx, on_durable, q);
}

static int join_after(struct http_req *q, struct err *e)
{
        struct token_request *t = q->state;
        char *labels = t->labels ? json_text(t->labels) : NULL;
        struct jsonw w;

        (void)e;
        jw_begin(&w, &q->out);
        jw_open(&w, NULL, '{');
        jw_str(&w, "id", t->id);
        jw_str(&w, "token", t->text);
        jw_i64(&w, "uses_max", t->uses);
        jw_str(&w, "name", t->has_name ? t->name : "*");
        jw_raw(&w, "labels", labels, "{}");
        jw_str(&w, "created_by", q->caller.name);
        jw_time(&w, "expires_at", t->expires_us);
        jw_close(&w, '}');
        mem_free(labels);
        snprintf(q->location, sizeof q->location, "/api/v1/join-tokens/%s", t->id);
        return jw_end(&w);
}

int api_join_tokens_create(struct http_req *q, struct err *e)
{
        static const char *const keys[] = {"uses", "ttl", "name", "labels", NULL};
        struct token_request *t = NULL;
        const cJSON *labels = NULL;
        cJSON *doc = NULL;
        int rc = begin(q, keys, &doc, &t, e);

        if (rc)
                goto out;
        t->uses = 1;
        t->ttl_ms = JOIN_TTL_MS;
        rc = json_i64_opt(doc, "uses", 1, USES_MAX, &t->uses, e);
        if (!rc)
                rc = duration_member(doc, "ttl", &t->ttl_ms, e);
        if (!rc)
                rc = name_member(doc, t, e);
        if (!rc)
                rc = json_obj_opt(doc, "labels", &labels, e);
        for (const cJSON *m = labels ? labels->child : NULL; !rc && m; m = m->next)
                if (!cJSON_IsString(m))
                        rc = err_set(e, E_INVAL, "label '%.64s' must be text", m->string);
        if (!rc && labels && !(t->labels = cJSON_Duplicate(labels, true)))
                rc = err_set(e, E_NOMEM, "out of memory");
        if (!rc)
                req_hop(q, join_on_loop, join_after);
out:
        cJSON_Delete(doc);
        return rc;
}

/* ---- lists: small enough to be built whole ---- */

enum which { JOIN_TOKENS, API_TOKENS, OWN_TOKENS };

struct rows {
        struct jsonw w;
        long long now_us;
        enum which which;
        const struct caller *who;
        struct store_reader *r;
        char user[128]; /* whose the row is */
        bool off;       /* and they are disabled, or deleted */
};

static int on_join_row(void *arg, const struct row_join_token *t)
{
        struct rows *r = arg;

        present_join_token(&r->w, t, r->now_us);
        return jw_end(&r->w);
}

static int on_user(void *arg, const struct row_user *u)
{
        struct rows *r = arg;

        snprintf(r->user, sizeof r->user, "%s", u->name);
        r->off = u->disabled_us;
        return 0;
}

/* Is it among the caller's own (`own`), or in a project whose tokens the caller rules? */
static bool is_theirs(const struct caller *c, const struct row_api_token *t, bool own)
{
        if (own)
                return *c->user_id && t->user_id && strcmp(t->user_id, c->user_id) == 0;
        return t->project && caller_may(c, t->project, PERM_API_TOKENS);
}

static int on_api_row(void *arg, const struct row_api_token *t)
{
        struct rows *r = arg;
        int64_t used_us = 0;
        int rc = 0;

        if (!is_theirs(r->who, t, r->which == OWN_TOKENS))
                return 0;
        r->user[0] = '\0';
        r->off = false;
        if (t->user_id)
                rc = read_user(r->r, t->user_id, on_user, r);
        if (rc && rc != -E_NOENT)
                return rc;
        rc = read_token_use(r->r, t->id, &used_us);
        if (rc)
                return rc;
        present_api_token(&r->w, t, t->user_id ? r->user : NULL, r->off, used_us, r->now_us);
        return jw_end(&r->w);
}

static int list(struct http_req *q, enum which which, struct err *e)
{
        struct store_reader *r = req_reader(q, e);
        struct rows rows = {.now_us = clock_now_us(q->h->o.clock), .which = which, .who = &q->caller, .r = r};
        struct buf b;
        cJSON *all = NULL;
        int rc;

        if (!r)
                return -E_UNAVAIL;
        buf_init(&b, 0);
        jw_begin(&rows.w, &b);
        jw_open(&rows.w, NULL, '[');
        rc = which == JOIN_TOKENS ? read_join_tokens(r, on_join_row, &rows)
                                  : read_api_tokens(r, on_api_row, &rows);
        jw_close(&rows.w, ']');
        if (!rc)
                rc = jw_end(&rows.w);
        if (rc)
                err_set(e, -rc, "the tokens could not be read: %s", err_name(rc));
        else
                rc = json_parse((const char *)b.data, b.len, &all, e);
        buf_fini(&b);
        /* Ids are ULIDs: their order is that of creation. */
        return rc ? rc : req_page(q, all, "id", e);
}

int api_join_tokens_list(struct http_req *q, struct err *e)
{
        return list(q, JOIN_TOKENS, e);
}

int api_api_tokens_list(struct http_req *q, struct err *e)
{
        return list(q, API_TOKENS, e);
}

int api_own_tokens_list(struct http_req *q, struct err *e)
{
        return list(q, OWN_TOKENS, e);
}

/* ---- revoking ---- */

static void on_revoked(void *arg)
{
        struct http_req *q = arg;

        atomic_fetch_add(&q->h->token_changes, 1); /* before the answer */
        req_on_answer(q, 0, NULL);
}

static void revoke_token(struct http_req *q, bool api)
{
        struct store_tx *tx = store_begin(q->h->o.store);
        struct http_thread *t = NULL;
        struct err e = {0};
        int rc = tx ? 0 : err_set(&e, E_NOMEM, "out of memory");

        auth_act_as(q->h->o.auth, q->caller.name);
        if (!rc && !api)
                rc = auth_join_revoke(q->h->o.auth, tx, q->param[0], &e);
        if (!rc && api)
                rc = http_thread(q->h, &t, &e);
        if (!rc && api)
                rc = people_keep_ruler(q, &(struct ruler_removal){.token_id = q->param[0]}, &e);
        if (!rc && api)
                rc = auth_api_token_revoke(t->reader, tx, q->param[0], clock_now_us(q->h->o.clock),
                                           q->caller.name, &e);
        if (!rc && api)
                rc = auth_ruler_token_gone(q->h->o.auth, q->param[0], &e);
        if (rc) {
                if (tx)
                        store_abandon(tx);
                req_done(q, rc, &e);
                return;
        }
        req_owe(q);
        auth_commit(q->h->o.auth, tx, on_revoked, q);
}

static void revoke_join_on_loop(struct http_req *q)
{
        revoke_token(q, false);
}

static void revoke_api_on_loop(struct http_req *q)
{
        revoke_token(q, true);
}

int api_join_token_revoke(struct http_req *q, struct err *e)
{
        (void)e;
        req_hop(q, revoke_join_on_loop, NULL);
        return 0;
}

struct find_token {
        const struct caller *who;
        const char *id;
        bool own;
};

static int on_find(void *arg, const struct row_api_token *t)
{
        const struct find_token *f = arg;

        return strcmp(t->id, f->id) == 0 && is_theirs(f->who, t, f->own);
}

static int revoke_api(struct http_req *q, bool own, struct err *e)
{
        struct find_token f = {&q->caller, q->param[0], own};
        struct store_reader *r = req_reader(q, e);
        int rc = r ? read_api_tokens(r, on_find, &f) : -E_UNAVAIL;

        if (rc < 0)
                return rc;
        if (!rc)
                return err_set(e, E_NOENT, "there is no API token %.40s", q->param[0]);
        req_hop(q, revoke_api_on_loop, NULL);
        return 0;
}

int api_api_token_revoke(struct http_req *q, struct err *e)
{
        return revoke_api(q, false, e);
}

int api_own_token_revoke(struct http_req *q, struct err *e)
{
        return revoke_api(q, true, e);
}

/* ---- API tokens ---- */

/* A token that is nobody's must not go by a user's name: the audit and approvals would take it for them. */
static int settle_owner(struct http_req *q, struct token_request *t, struct err *e)
{
        const char *id;

        if (t->user_id[0])
                return 0;
        id = auth_person_id(q->h->o.auth, t->user[0] ? t->user : t->name);
        if (t->user[0] && !id)
                return err_set(e, E_NOENT, "there is no user '%.100s'; see: photon user list", t->user);
        if (!t->user[0] && id)
                return err_set(
                        e, E_EXIST,
                        "'%.100s' is a user: make the token theirs (\"user\"), or give it another name",
                        t->name);
        if (!id && auth_person_deleted(q->h->o.auth, t->name))
                return err_set(e, E_EXIST,
                               "'%.100s' was a user, of whom the audit still speaks: take another name",
                               t->name);
        if (!id)
                return auth_name_check(t->name, e);
        snprintf(t->user_id, sizeof t->user_id, "%s", id);
        return 0;
}

/* One for a project that is not there would be good for whatever is called so later. */
static int check_project(struct http_req *q, const struct token_request *t, struct err *e)
{
        if (strcmp(t->project, PROJECT_ALL) == 0 || auth_has_project(q->h->o.auth, t->project))
                return 0;
        return err_set(e, E_NOENT, "there is no project '%.64s', or you have no role in it", t->project);
}

/* The person behind a token that is nobody's, also if it was made by another such token. */
static const char *maker_of(const struct caller *c)
{
        if (*c->user_id && !c->service)
                return c->user_id;
        return *c->maker_id ? c->maker_id : NULL;
}

static void api_on_loop(struct http_req *q)
{
        struct token_request *t = q->state;
        int64_t now = clock_now_us(q->h->o.clock);
        struct store_tx *tx;
        struct err e = {0};
        char text[80];
        int rc;

        if (repeated(q))
                return;
        tx = store_begin(q->h->o.store);
        if (!tx) {
                req_done(q, err_set(&e, E_NOMEM, "out of memory"), &e);
                return;
        }
        t->expires_us = t->ttl_ms ? now + t->ttl_ms * 1000 : 0;
        rc = settle_owner(q, t, &e);
        if (!rc)
                rc = check_project(q, t, &e);
        if (rc) {
                store_abandon(tx);
                req_done(q, rc, &e);
                return;
        }
        rc = auth_api_token_create(tx,
                                   &(struct new_api_token){.name = t->name,
                                                           .project = t->project,
                                                           .role = t->role,
                                                           .user_id = t->user_id[0] ? t->user_id : NULL,
                                                           .user = t->user[0] ? t->user : NULL,
                                                           .scopes = t->scopes,
                                                           .expires_us = t->expires_us,
                                                           .created_by = q->caller.name,
                                                           .maker_id = maker_of(&q->caller)},
                                   now, text, t->id);
        if (!rc)
                t->text = mem_strdup(text);
        mem_wipe(text, sizeof text);
        if (rc || !t->text) {
                store_abandon(tx);
                rc = rc ? rc : -E_NOMEM;
                req_done(q, err_set(&e, -rc, "the token could not be made: %s", err_name(rc)), &e);
                return;
        }
        idem_store(q, tx, 201, t->id);
        req_owe(q);
        auth_commit(q->h->o.auth, tx, on_durable, q);
}

static int api_after(struct http_req *q, struct err *e)
{
        struct token_request *t = q->state;
        struct jsonw w;

        (void)e;
        jw_begin(&w, &q->out);
        jw_open(&w, NULL, '{');
        jw_str(&w, "id", t->id);
        jw_str(&w, "token", t->text);
        jw_str(&w, "name", t->name);
        jw_str(&w, "role", role_name(t->role));
        jw_str(&w, "project", t->project);
        present_scopes(&w, t->scopes);
        jw_str(&w, "created_by", q->caller.name);
        jw_time(&w, "expires_at", t->expires_us);
        jw_close(&w, '}');
        snprintf(q->location, sizeof q->location, "/api/v1/api-tokens/%s", t->id);
        return jw_end(&w);
}

/* Without one the token is good for as much as its maker may give. */
static int project_member(struct http_req *q, const cJSON *doc, struct token_request *t, bool own,
                          struct err *e)
{
        const struct caller *c = &q->caller;
        const char *s = own || caller_may(c, PROJECT_ALL, PERM_API_TOKENS) ? c->project
                        : c->roles.n == 1                                  ? c->roles.in[0].project
                                                                           : PROJECT_DEFAULT;
        int rc = json_str_opt(doc, "project", &s, e);

        if (rc)
                return rc;
        if (strcmp(s, PROJECT_ALL) != 0 && !project_name_ok(s))
                return err_set(e, E_INVAL, "\"project\" must be a project's name, or * for all");
        snprintf(t->project, sizeof t->project, "%s", s);
        if (!own)
                return guard_in(q, s, PERM_API_TOKENS, e);
        /* One's own may reach as far as this one does, wherever the user has a role. */
        if (strcmp(c->project, PROJECT_ALL) != 0 && strcmp(c->project, s) != 0)
                return err_set(e, E_DENIED, "this token is bound to project %s: it cannot make one for %.64s",
                               c->project, s);
        /* Where they have none it could only tell whether there is such a project. */
        return strcmp(s, PROJECT_ALL) == 0 ? 0 : guard_in(q, s, PERM_OWN_TOKENS, e);
}

/* A token in somebody's name is that person to approvals and the audit: only who rules users makes one for
 * another. */
static int user_member(struct http_req *q, const cJSON *doc, struct token_request *t, bool own, struct err *e)
{
        const char *user = NULL;
        int rc = json_str_opt(doc, "user", &user, e);

        if (rc || !user)
                return rc;
        if (own)
                return err_set(e, E_INVAL, "one's own token has no other \"user\"");
        if (strcmp(user, *q->caller.user_id ? q->caller.name : "") != 0)
                rc = guard_in(q, PROJECT_ALL, PERM_USERS_MANAGE, e);
        if (!rc)
                snprintf(t->user, sizeof t->user, "%s", user);
        return rc;
}

/* Names of permissions; no token can make one that may more than itself. */
static int scopes_member(const struct caller *c, const cJSON *doc, struct token_request *t, struct err *e)
{
        const cJSON *list = NULL;
        enum permission p;
        uint64_t named = 0;
        struct buf b;
        int rc = json_arr_opt(doc, "scopes", &list, e);

        if (rc)
                return rc;
        if (!list)
                return c->permissions == PERMISSIONS_ALL ? 0
                                                         : err_set(e, E_DENIED,
                                                                   "this token is limited to scopes: say "
                                                                   "which of them the new one gets");
        buf_init(&b, 0);
        for (const cJSON *m = list->child; !rc && m; m = m->next) {
                if (!cJSON_IsString(m) || permission_parse(m->valuestring, &p))
                        rc = err_set(e, E_INVAL, "\"scopes\" must hold names of permissions: %.64s is none",
                                     cJSON_IsString(m) ? m->valuestring : "this");
                else if (!(c->permissions & PERMISSION_BIT(p)))
                        rc = err_set(e, E_DENIED, "%s lacks the permission %s: a new token cannot have it",
                                     c->name, m->valuestring);
                else if (!(named & PERMISSION_BIT(p))) /* once is enough */
                        rc = buf_printf(&b, "%s%s", b.len ? " " : "", m->valuestring);
                if (!rc)
                        named |= PERMISSION_BIT(p);
        }
        if (!rc)
                rc = buf_putc(&b, '\0');
        if (!rc && !(t->scopes = mem_strdup((const char *)b.data)))
                rc = err_set(e, E_NOMEM, "out of memory");
        buf_fini(&b);
        return rc;
}

/* A token that ends cannot make one that outlives it; a login can: that is how a person makes one for a
 * script. */
static int check_life(const struct http_req *q, const struct token_request *t, struct err *e)
{
        const struct caller *c = &q->caller;

        if (!c->expires_us || c->session)
                return 0;
        if (t->ttl_ms && clock_now_us(q->h->o.clock) + t->ttl_ms * 1000 <= c->expires_us)
                return 0;
        return err_set(e, E_DENIED, "this token expires itself: give the new one a shorter \"ttl\"");
}

static int create(struct http_req *q, bool own, struct err *e)
{
        static const char *const keys[] = {"name", "role", "project", "user", "scopes", "ttl", NULL};
        struct token_request *t = NULL;
        const char *role = NULL;
        cJSON *doc = NULL;
        int rc = begin(q, keys, &doc, &t, e);

        if (!rc)
                rc = name_member(doc, t, e);
        if (!rc && !t->has_name)
                rc = err_set(e, E_INVAL, "\"name\" is missing: say what the token is for");
        if (!rc)
                rc = json_str(doc, "role", &role, e);
        if (!rc && role_parse(role, &t->role))
                rc = err_set(e, E_INVAL, "\"role\" must be client, operator, technical-operator or admin");
        if (!rc)
                rc = project_member(q, doc, t, own, e);
        if (!rc)
                rc = user_member(q, doc, t, own, e);
        if (!rc && t->role > (own ? roles_best(&q->caller.roles) : roles_in(&q->caller.roles, t->project)))
                rc = err_set(e, E_DENIED, "%s has not the role %s to give", q->caller.name, role);
        if (!rc)
                rc = scopes_member(&q->caller, doc, t, e);
        if (!rc)
                rc = duration_member(doc, "ttl", &t->ttl_ms, e);
        if (!rc)
                rc = check_life(q, t, e);
        if (!rc && own)
                snprintf(t->user_id, sizeof t->user_id, "%s", q->caller.user_id);
        if (!rc)
                req_hop(q, api_on_loop, api_after);
        cJSON_Delete(doc);
        return rc;
}

int api_api_tokens_create(struct http_req *q, struct err *e)
{
        return create(q, false, e);
}

static int check_somebody(struct http_req *q, struct err *e)
{
        if (*q->caller.user_id)
                return 0;
        q->problem_code = "no_user";
        return err_set(e, E_STATE, "the token '%s' is no user's: there is nothing of one's own",
                       q->caller.name);
}

int api_own_tokens_create(struct http_req *q, struct err *e)
{
        int rc = check_somebody(q, e);

        return rc ? rc : create(q, true, e);
}
