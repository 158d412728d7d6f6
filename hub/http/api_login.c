/* Logins of the command line: the provider's device flow, with the hub in between, which alone knows the
 * client's secret and alone decides what a token of the provider is worth. */
#include "hub/http/login.h"

#include <stdio.h>
#include <string.h>

#include "common/json.h"
#include "common/mem.h"
#include "hub/auth/oidc.h"
#include "hub/auth/people.h"
#include "hub/http/api.h"
#include "hub/http/jsonw.h"
#include "hub/http/request.h"
#include "hub/store/store.h"

#define HANDLE_MAX 64

struct login_try *login_try_create(void)
{
        return mem_calloc(1, sizeof(struct login_try));
}

static void wipe(char *s)
{
        if (s)
                mem_wipe(s, strlen(s));
        mem_free(s);
}

void login_try_free(void *login)
{
        struct login_try *t = login;

        if (!t)
                return;
        wipe(t->handle);
        wipe(t->code);
        wipe(t->state);
        mem_free(t->iss);
        mem_free(t->url);
        mem_wipe(t->token, sizeof t->token);
        mem_free(t);
}

int login_possible(struct http_req *q, struct err *e)
{
        if (q->h->o.oidc)
                return 0;
        q->problem_code = "login_not_configured";
        return err_set(e, E_NOENT,
                       "this hub has no identity provider (--oidc-issuer): ask its admin for an API token "
                       "and log in "
                       "with --token");
}

bool login_next_ok(const char *path)
{
        if (strlen(path) > LOGIN_NEXT_MAX)
                return false;
        if (strcmp(path, "/") == 0)
                return true;
        if (strncmp(path, "/approve/", 9) != 0 || !path[9])
                return false;
        for (const char *p = path + 9; *p; p++)
                if (!((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') ||
                      *p == '-' || *p == '_'))
                        return false;
        return true;
}

void login_failed(struct http_req *q, const struct oidc_answer *a)
{
        q->problem_code = a->code;
        if (a->rc == -E_AGAIN)
                q->retry_after_s = 5;
        req_done(q, a->rc, a->err);
}

static void on_durable(void *arg)
{
        struct http_req *q = arg;

        atomic_fetch_add(&q->h->token_changes, 1); /* roles may have changed */
        req_on_answer(q, 0, NULL);
}

static int on_token(void *arg, const struct row_api_token *t)
{
        return !t->user_id && !t->revoked_us && strcmp(t->name, arg) == 0;
}

/* Who answers to the name of a service's token could approve what it asks for. What cannot be read is taken.
 */
static bool name_taken(void *ctx, const char *name)
{
        struct http_req *q = ctx;
        struct http_thread *t;
        struct err e = {0};

        return http_thread(q->h, &t, &e) ||
               read_api_tokens(t->reader, on_token, (void *)(uintptr_t)name) != 0;
}

void login_keep(struct http_req *q, const struct oidc_answer *a)
{
        struct login_try *t = q->state;
        struct oidc *o = q->h->o.oidc;
        struct login l = {.issuer = oidc_issuer(o),
                          .subject = a->person->subject,
                          .name = a->person->name,
                          .email = a->person->email,
                          .roles = &a->person->roles,
                          .ttl_ms = oidc_session_ms(o),
                          .taken = name_taken,
                          .ctx = q};
        struct store_tx *tx = store_begin(q->h->o.store);
        struct err e = {0};
        int rc = tx ? 0 : err_set(&e, E_NOMEM, "out of memory");

        if (!rc)
                rc = auth_login(q->h->o.auth, tx, &l, t->token, t->token_id, t->name, &e);
        if (rc) {
                if (tx)
                        store_abandon(tx);
                if (rc == -E_DENIED)
                        q->problem_code = "login_denied";
                req_done(q, rc, &e);
                return;
        }
        t->expires_us = clock_now_us(q->h->o.clock) + l.ttl_ms * 1000;
        req_owe(q);
        auth_commit(q->h->o.auth, tx, on_durable, q);
}

/* ---- begin ---- */

static void on_begun(void *arg, const struct oidc_answer *a)
{
        struct http_req *q = arg;

        if (!req_paid(q))
                return;
        if (a->rc) {
                login_failed(q, a);
                return;
        }
        q->json = cJSON_Duplicate(a->device, true);
        req_done(q, q->json ? 0 : -E_NOMEM, NULL);
}

static void begin_on_loop(struct http_req *q)
{
        req_owe(q);
        oidc_device_begin(q->h->o.oidc, on_begun, q);
}

int api_login_device(struct http_req *q, struct err *e)
{
        static const char *const keys[] = {NULL};
        cJSON *doc = NULL;
        int rc = login_possible(q, e);

        if (!rc)
                rc = req_limit_login(q, e);
        if (!rc)
                rc = req_body_json(q, keys, true, &doc, e);
        cJSON_Delete(doc);
        if (!rc)
                req_hop(q, begin_on_loop, NULL);
        return rc;
}

/* ---- poll ---- */

static void on_polled(void *arg, const struct oidc_answer *a)
{
        struct http_req *q = arg;

        if (!req_paid(q))
                return;
        if (a->rc)
                login_failed(q, a);
        else
                login_keep(q, a);
}

static void poll_on_loop(struct http_req *q)
{
        struct login_try *t = q->state;

        req_owe(q);
        oidc_device_poll(q->h->o.oidc, t->handle, on_polled, q);
}

static int show_token(struct http_req *q, struct err *e)
{
        struct login_try *t = q->state;
        struct jsonw w;

        (void)e;
        jw_begin(&w, &q->out);
        jw_open(&w, NULL, '{');
        jw_str(&w, "token", t->token);
        jw_str(&w, "id", t->token_id);
        jw_str(&w, "name", t->name);
        jw_time(&w, "expires_at", t->expires_us);
        jw_close(&w, '}');
        mem_wipe(t->token, sizeof t->token);
        return jw_end(&w);
}

int api_login_token(struct http_req *q, struct err *e)
{
        static const char *const keys[] = {"handle", NULL};
        struct login_try *t = NULL;
        const char *handle = NULL;
        cJSON *doc = NULL;
        int rc = login_possible(q, e);

        if (!rc)
                rc = req_writable(q, e);
        if (!rc)
                rc = req_body_json(q, keys, false, &doc, e);
        if (!rc)
                rc = json_str(doc, "handle", &handle, e);
        if (!rc && strlen(handle) > HANDLE_MAX)
                rc = err_set(e, E_INVAL, "\"handle\" is what the beginning of the login gave");
        if (!rc && !((t = login_try_create()) && (t->handle = mem_strdup(handle))))
                rc = err_set(e, E_NOMEM, "out of memory");
        cJSON_Delete(doc);
        if (rc) {
                login_try_free(t);
                return rc;
        }
        req_keep(q, t, login_try_free);
        req_hop(q, poll_on_loop, show_token);
        return 0;
}
