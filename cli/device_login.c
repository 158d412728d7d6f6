#include "cli/device_login.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/client.h"
#include "cli/interrupt.h"
#include "cli/print.h"
#include "common/json.h"
#include "common/mem.h"

#define SLOWER_MS 5000 /* RFC 8628 section 3.5 */

struct reply {
        bool over;
        int rc, status;
        struct err err;
        char code[48];
        cJSON *doc;
};

static void on_end(void *ctx, const struct answer *a)
{
        struct reply *r = ctx;

        r->over = true;
        r->rc = a->rc;
        r->status = a->status;
        if (a->err)
                r->err = *a->err;
        snprintf(r->code, sizeof r->code, "%s", a->code);
        if (!a->rc && a->doc)
                r->doc = cJSON_Duplicate(a->doc, true);
}

static int64_t now_ms(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int cancelled(struct err *e)
{
        return err_set(e, E_CANCELLED, "the login was broken off");
}

static int post(struct client *c, const char *path, const cJSON *body, struct reply *r, struct err *e)
{
        char *text = json_text(body);
        struct request_spec s = {.method = "POST", .path = path, .on_end = on_end, .ctx = r};
        struct request *q = NULL;
        int rc = text ? 0 : err_set(e, E_NOMEM, "no memory");

        *r = (struct reply){0};
        s.body = text;
        s.body_len = text ? strlen(text) : 0;
        if (!rc)
                rc = client_start(c, &s, &q, e);
        while (!rc && !r->over) {
                rc = client_turn(c, 1000, -1, NULL, e);
                if (!rc && !r->over && interrupt_count()) {
                        client_stop(c, q);
                        rc = cancelled(e);
                }
        }
        if (text)
                mem_wipe(text, strlen(text));
        mem_free(text);
        return rc;
}

static int wait_for(struct client *c, int64_t ms, struct err *e)
{
        int64_t until = now_ms() + ms, left;
        int rc = 0;

        while (!rc && (left = until - now_ms()) > 0) {
                rc = client_turn(c, left > 1000 ? 1000 : (int)left, -1, NULL, e);
                if (!rc && interrupt_count())
                        rc = cancelled(e);
        }
        return rc;
}

static void say(const cJSON *doc)
{
        const char *whole = jstr(doc, "verification_uri_complete");

        note("open  %s", jstr(doc, "verification_uri"));
        note("type  %s", jstr(doc, "user_code"));
        if (*whole)
                note("or open  %s", whole);
        note("waiting for you there, up to %lld min (Ctrl-C gives up)",
             (long long)jnum(doc, "expires_in") / 60);
}

static int poll(struct client *c, const cJSON *begun, char **out, struct err *e)
{
        int64_t every = (int64_t)(jnum(begun, "interval") > 0 ? jnum(begun, "interval") : 5) * 1000;
        int64_t until = now_ms() + (int64_t)jnum(begun, "expires_in") * 1000;
        cJSON *body = cJSON_CreateObject();
        struct reply r = {0};
        int rc = body && cJSON_AddStringToObject(body, "handle", jstr(begun, "handle"))
                         ? 0
                         : err_set(e, E_NOMEM, "no memory");

        while (!rc) {
                rc = wait_for(c, every, e);
                if (!rc)
                        rc = post(c, "/api/v1/login/token", body, &r, e);
                if (rc)
                        break;
                if (!r.rc) {
                        const char *token = jstr(r.doc, "token");

                        *out = *token ? mem_strdup(token) : NULL;
                        rc = *out ? 0 : err_set(e, E_PROTO, "the hub gave no token");
                        mem_wipe((char *)(uintptr_t)token, strlen(token));
                        break;
                }
                if (strcmp(r.code, "slow_down") == 0)
                        every += SLOWER_MS;
                else if (strcmp(r.code, "authorization_pending") != 0 && r.status && r.status != 503 &&
                         r.status != 429) {
                        *e = r.err;
                        rc = r.rc;
                }
                if (!rc && now_ms() > until)
                        rc = err_set(e, E_TIMEOUT, "the code has expired: log in again");
        }
        cJSON_Delete(r.doc);
        cJSON_Delete(body);
        return rc;
}

int device_login(struct client *c, char **out_token, struct err *e)
{
        cJSON *none = cJSON_CreateObject();
        struct reply r = {0};
        int rc = none ? 0 : err_set(e, E_NOMEM, "no memory");

        interrupt_catch();
        if (!rc)
                rc = post(c, "/api/v1/login/device", none, &r, e);
        cJSON_Delete(none);
        if (!rc && r.rc) {
                *e = r.err;
                rc = r.rc;
        }
        if (!rc && (!*jstr(r.doc, "handle") || !*jstr(r.doc, "verification_uri")))
                rc = err_set(e, E_PROTO, "the hub's answer says not where to log in");
        if (!rc) {
                say(r.doc);
                rc = poll(c, r.doc, out_token, e);
        }
        cJSON_Delete(r.doc);
        return rc;
}
