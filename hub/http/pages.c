/* What a browser sees until there is more: logging in and out, who one is, what waits for an answer, and one
 * question with its exact arguments to approve or reject. No script, no image, nothing from elsewhere. The
 * session is a cookie that only these pages take (ROUTE_PAGE): the API never does, so another site can make a
 * browser ask for nothing in it; and a form is taken only from a page of this hub. */
#include <stdio.h>
#include <string.h>

#include "common/json.h"
#include "common/mem.h"
#include "common/pki.h"
#include "common/secret.h"
#include "common/str.h"
#include "hub/auth/oidc.h"
#include "hub/http/api.h"
#include "hub/http/form.h"
#include "hub/http/guard.h"
#include "hub/http/login.h"
#include "hub/http/present.h"
#include "hub/http/request.h"
#include "hub/store/store.h"

#define FORM_FIELD_MAX 1000
#define OPEN_SHOWN     100

/* ---- HTML ---- */

static int put_escaped(struct buf *b, const char *s)
{
        int rc = 0;

        for (; s && *s && !rc; s++) {
                switch (*s) {
                case '&':
                        rc = buf_puts(b, "&amp;");
                        break;
                case '<':
                        rc = buf_puts(b, "&lt;");
                        break;
                case '>':
                        rc = buf_puts(b, "&gt;");
                        break;
                case '"':
                        rc = buf_puts(b, "&quot;");
                        break;
                case '\'':
                        rc = buf_puts(b, "&#39;");
                        break;
                default:
                        rc = buf_putc(b, *s);
                }
        }
        return rc;
}

static int head(struct http_req *q, const char *title)
{
        int rc;

        q->content_type = "text/html; charset=utf-8";
        rc = buf_puts(&q->out, "<!doctype html><html lang=en><meta charset=utf-8>"
                               "<meta name=viewport content=\"width=device-width\"><title>PHOTON: ");
        if (!rc)
                rc = put_escaped(&q->out, title);
        if (!rc)
                rc = buf_puts(&q->out,
                              "</title><style>body{font:16px/1.5 sans-serif;max-width:50em;margin:2em "
                              "auto;padding:0 1em}pre{background:#8882;padding:1em;overflow:auto;white-"
                              "space:pre-wrap;overflow-wrap:anywhere}button{font:inherit;margin-right:1em}"
                              "</style><h1>");
        if (!rc)
                rc = put_escaped(&q->out, title);
        return rc ? rc : buf_puts(&q->out, "</h1>");
}

static int row(struct buf *b, const char *name, const char *value)
{
        int rc = buf_puts(b, "<p>");

        if (!rc)
                rc = put_escaped(b, name);
        if (!rc)
                rc = buf_puts(b, ": <b>");
        if (!rc)
                rc = put_escaped(b, value ? value : "");
        return rc ? rc : buf_puts(b, "</b></p>");
}

/* 303: look there, with GET. */
static int go_to(struct http_req *q, const char *url)
{
        q->status = 303;
        q->redirect = mem_strdup(url);
        return q->redirect ? 0 : -E_NOMEM;
}

/* ---- in ---- */

static const char *self(struct http_req *q)
{
        return q->h->o.public_url;
}

static void on_sent(void *arg, const struct oidc_answer *a, const struct oidc_web *w)
{
        struct http_req *q = arg;
        struct login_try *t = q->state;

        if (!req_paid(q))
                return;
        if (a->rc) {
                login_failed(q, a);
                return;
        }
        t->url = mem_strdup(w->url);
        t->state = mem_strdup(w->state);
        req_done(q, t->url && t->state ? 0 : -E_NOMEM, NULL);
}

static void send_on_loop(struct http_req *q)
{
        struct login_try *t = q->state;
        char redirect[512];

        snprintf(redirect, sizeof redirect, "%s/callback", self(q));
        req_owe(q);
        oidc_web_begin(q->h->o.oidc, redirect, t->next, on_sent, q);
}

static int set_cookie(struct http_req *q, const char *name, const char *value, int64_t life_s)
{
        size_t i = q->set_cookie[0] ? 1 : 0;

        q->set_cookie[i] = str_printf("%s=%s; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=%lld", name,
                                      value, (long long)life_s);
        return q->set_cookie[i] ? 0 : -E_NOMEM;
}

static int sent(struct http_req *q, struct err *e)
{
        struct login_try *t = q->state;
        int rc = set_cookie(q, LOGIN_BINDING, t->state, OIDC_LOGIN_MS / 1000);

        (void)e;
        return rc ? rc : go_to(q, t->url);
}

int page_login(struct http_req *q, struct err *e)
{
        const char *next = req_query(q, "next");
        struct login_try *t;
        int rc = login_possible(q, e);

        if (!rc)
                rc = req_limit_login(q, e);
        if (rc)
                return rc;
        t = login_try_create();
        if (!t)
                return err_set(e, E_NOMEM, "out of memory");
        snprintf(t->next, sizeof t->next, "%s", next && login_next_ok(next) ? next : "/");
        req_keep(q, t, login_try_free);
        req_hop(q, send_on_loop, sent);
        return 0;
}

static void on_back(void *arg, const struct oidc_answer *a)
{
        struct http_req *q = arg;
        struct login_try *t = q->state;

        if (!req_paid(q))
                return;
        if (a->rc) {
                login_failed(q, a);
                return;
        }
        snprintf(t->next, sizeof t->next, "%s", a->next && login_next_ok(a->next) ? a->next : "/");
        login_keep(q, a);
}

static void back_on_loop(struct http_req *q)
{
        struct login_try *t = q->state;

        req_owe(q);
        oidc_web_finish(q->h->o.oidc, t->state, t->code, t->iss, on_back, q);
}

static int logged_in(struct http_req *q, struct err *e)
{
        struct login_try *t = q->state;
        int rc = set_cookie(q, LOGIN_COOKIE, t->token, oidc_session_ms(q->h->o.oidc) / 1000);

        (void)e;
        if (!rc)
                rc = set_cookie(q, LOGIN_BINDING, "", 0);
        mem_wipe(t->token, sizeof t->token);
        return rc ? rc : go_to(q, t->next);
}

/* The browser that comes back must be the one that was sent, or somebody is being logged in as somebody else.
 */
static int check_binding(struct http_req *q, const char *state, struct err *e)
{
        const char *bound = req_cookie(q, LOGIN_BINDING);

        if (state && bound && strlen(state) == strlen(bound) && secret_equal(state, bound, strlen(state)))
                return 0;
        q->problem_code = "login_state";
        return err_set(e, E_DENIED,
                       "this login was begun in another browser, or too long ago: begin again at /login");
}

int page_callback(struct http_req *q, struct err *e)
{
        const char *code = req_query(q, "code"), *state = req_query(q, "state"),
                   *error = req_query(q, "error");
        const char *iss = req_query(q, "iss");
        struct login_try *t;
        int rc = login_possible(q, e);

        if (!rc)
                rc = req_writable(q, e);
        if (!rc)
                rc = check_binding(q, state, e);
        if (!rc && error) {
                q->problem_code = strcmp(error, "access_denied") == 0 ? "access_denied" : "login_refused";
                rc = err_set(e, E_DENIED, "the identity provider refused the login: %.64s", error);
        }
        if (!rc && !code)
                rc = err_set(e, E_INVAL, "the identity provider gave no code");
        if (rc)
                return rc;
        t = login_try_create();
        if (t) {
                t->code = mem_strdup(code);
                t->state = mem_strdup(state);
                t->iss = iss ? mem_strdup(iss) : NULL;
        }
        if (!t || !t->code || !t->state || (iss && !t->iss)) {
                login_try_free(t);
                return err_set(e, E_NOMEM, "out of memory");
        }
        req_keep(q, t, login_try_free);
        req_hop(q, back_on_loop, logged_in);
        return 0;
}

/* ---- who one is ---- */

struct open_list {
        struct buf *b;
        int n;
};

static int on_open(void *arg, const struct row_checkpoint *c)
{
        struct open_list *l = arg;
        int rc;

        if (c->sealed.refused)
                return 0;
        rc = buf_printf(l->b, "%s<li><a href=\"/approve/%s\">", l->n++ ? "" : "<ul>", c->id);

        if (!rc)
                rc = put_escaped(l->b, c->title && *c->title ? c->title : c->id);
        if (!rc)
                rc = buf_puts(l->b, "</a> (");
        if (!rc)
                rc = put_escaped(l->b, c->project);
        return rc ? rc : buf_puts(l->b, ")</li>");
}

static int put_open(struct http_req *q, struct err *e)
{
        struct checkpoint_filter f = {.state = CHECKPOINT_OPEN, .limit = OPEN_SHOWN};
        struct store_reader *r = req_reader(q, e);
        struct open_list l = {.b = &q->out};
        char *projects = NULL;
        int rc = r ? guard_projects(q, PERM_CHECKPOINTS_READ, &projects, e) : -E_UNAVAIL;

        f.projects = projects;
        if (!rc)
                rc = buf_puts(&q->out, "<h2>What waits for people</h2>");
        if (!rc)
                rc = read_checkpoints(r, &f, on_open, &l);
        mem_free(projects);
        if (rc < 0)
                return rc;
        return buf_puts(&q->out, l.n ? "</ul>" : "<p>Nothing.</p>");
}

int page_home(struct http_req *q, struct err *e)
{
        const struct roles *r = &q->caller.roles;
        int rc = head(q, "You are logged in");

        if (!rc)
                rc = row(&q->out, "You are", q->caller.name);
        if (!rc && r->everywhere != ROLE_NONE)
                rc = row(&q->out, "In all projects, and for the hub", role_name(r->everywhere));
        for (unsigned i = 0; !rc && i < r->n; i++)
                rc = row(&q->out, r->in[i].project, role_name(r->in[i].role));
        if (!rc)
                rc = put_open(q, e);
        return rc ? rc
                  : buf_puts(&q->out,
                             "<form method=post action=/logout><button>Log out</button></form></html>");
}

/* ---- forms ---- */

/* A form of this hub's own page: browsers say where a form comes from, and none but ours is taken. */
static int check_form(struct http_req *q, struct err *e)
{
        const char *origin = req_header(q, "Origin"), *site = req_header(q, "Sec-Fetch-Site");

        if (req_header(q, "Authorization"))
                return 0; /* no browser sends a token by itself */
        if (origin && strcmp(origin, self(q)) == 0 && (!site || strcmp(site, "same-origin") == 0))
                return 0;
        q->problem_code = "origin_not_allowed";
        return err_set(e, E_DENIED, "this form does not come from a page of this hub at %s", self(q));
}

static int field(const struct http_req *q, const char *name, char out[FORM_FIELD_MAX + 1])
{
        return form_field((const char *)q->body.data, q->body.len, name, out, FORM_FIELD_MAX + 1);
}

/* ---- one question ---- */

static int on_question(void *arg, const struct row_checkpoint *c)
{
        struct http_req *q = arg;
        struct buf *b = &q->out;
        bool form = c->kind && strcmp(c->kind, "input") == 0;
        int rc = head(q, c->title && *c->title ? c->title : "A question");

        if (!rc)
                rc = row(b, "State", checkpoint_state_name(c->state));
        if (!rc)
                rc = row(b, "Project", c->project);
        if (!rc)
                rc = row(b, "Asked for", c->asked_by);
        if (!rc)
                rc = row(b, "Run and step", c->run_id);
        if (!rc)
                rc = row(b, "Step", c->step_id);
        if (!rc)
                rc = row(b, "Tool", c->step_tool);
        if (!rc)
                rc = row(b, "Agent", c->agent_name);
        if (!rc)
                rc = buf_puts(b, "<p>Exactly this:</p><pre>");
        if (!rc)
                rc = put_escaped(b, c->arguments);
        if (!rc)
                rc = buf_printf(b, "</pre><p>SHA-256 %s</p>", c->sha256 ? c->sha256 : "");
        if (!rc && c->state == CHECKPOINT_OPEN)
                rc = buf_printf(b,
                                "<form method=post action=\"/approve/%s\"><input type=hidden name=sha256 "
                                "value=\"%s\">"
                                "<p><label>Why: <input name=reason maxlength=500></label></p>",
                                c->id, c->sha256 ? c->sha256 : "");
        if (!rc && c->state == CHECKPOINT_OPEN)
                rc = buf_puts(b, c->schema || form ? "<p>It asks for values: approve with photon approve.</p>"
                                                   : "<button name=decision value=approve>Approve</button>");
        if (!rc && c->state == CHECKPOINT_OPEN)
                rc = buf_puts(b, "<button name=decision value=reject>Reject</button></form>");
        return rc ? rc : buf_puts(b, "<p><a href=/>All that waits</a></p></html>");
}

int page_question(struct http_req *q, struct err *e)
{
        struct store_reader *r = req_reader(q, e);
        int rc = r ? read_checkpoint(r, q->param[0], on_question, q) : -E_UNAVAIL;

        return rc == -E_NOENT ? err_set(e, E_NOENT, "there is no checkpoint '%.64s'", q->param[0]) : rc;
}

/* The API's own handler has decided; the browser looks at what became of it. */
static void on_decided(struct http_req *q)
{
        char path[LOGIN_NEXT_MAX];

        if (q->status >= 400)
                return; /* the problem says why not */
        buf_reset(&q->out);
        cJSON_Delete(q->json);
        q->json = NULL;
        snprintf(path, sizeof path, "/approve/%s", q->param[0]);
        go_to(q, path);
}

int page_decide(struct http_req *q, struct err *e)
{
        char decision[FORM_FIELD_MAX + 1], sha256[FORM_FIELD_MAX + 1], reason[FORM_FIELD_MAX + 1];
        cJSON *doc = NULL;
        char *text = NULL;
        bool approve;
        int rc = check_form(q, e);

        if (rc)
                return rc;
        if (field(q, "decision", decision) || field(q, "sha256", sha256) || field(q, "reason", reason) ||
            (strcmp(decision, "approve") != 0 && strcmp(decision, "reject") != 0) || strlen(sha256) != 64)
                return err_set(e, E_INVAL, "the form is not as this page made it");
        approve = decision[0] == 'a';
        doc = cJSON_CreateObject();
        if (doc && cJSON_AddStringToObject(doc, "sha256", sha256) &&
            (!*reason || cJSON_AddStringToObject(doc, "reason", reason)))
                text = json_text(doc);
        cJSON_Delete(doc);
        req_drop_body(q);
        buf_init(&q->body, 0);
        rc = text ? buf_puts(&q->body, text) : -E_NOMEM;
        mem_free(text);
        if (rc)
                return err_set(e, E_NOMEM, "out of memory");
        q->inner.active = true;
        q->inner.answer = on_decided;
        return approve ? api_checkpoint_approve(q, e) : api_checkpoint_reject(q, e);
}

/* ---- out ---- */

static int logged_out(struct http_req *q, struct err *e)
{
        int rc = set_cookie(q, LOGIN_COOKIE, "", 0);

        (void)e;
        q->status = 200;
        if (!rc)
                rc = head(q, "You are logged out");
        return rc ? rc : buf_puts(&q->out, "<p><a href=/login>Log in</a></p></html>");
}

static void on_revoked(void *arg)
{
        struct http_req *q = arg;

        atomic_fetch_add(&q->h->token_changes, 1);
        req_on_answer(q, 0, NULL);
}

static void logout_on_loop(struct http_req *q)
{
        struct store_tx *tx = store_begin(q->h->o.store);
        struct http_thread *t = NULL;
        struct err e = {0};
        int rc = tx ? http_thread(q->h, &t, &e) : err_set(&e, E_NOMEM, "out of memory");

        if (!rc)
                rc = auth_api_token_revoke(t->reader, tx, q->caller.token_id, clock_now_us(q->h->o.clock),
                                           q->caller.name, &e);
        if (rc) {
                if (tx)
                        store_abandon(tx);
                req_done(q, rc, &e);
                return;
        }
        req_owe(q);
        auth_commit(q->h->o.auth, tx, on_revoked, q);
}

int page_logout(struct http_req *q, struct err *e)
{
        int rc = check_form(q, e);

        if (!rc && !q->caller.session) {
                q->problem_code = "no_session";
                rc = err_set(e, E_STATE, "this is an API token and no login: revoke it if it should end");
        }
        if (!rc)
                req_hop(q, logout_on_loop, logged_out);
        return rc;
}
