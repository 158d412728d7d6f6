/* The life of one call:
 *
 *   start -> (a page is waited for, or a kept one taken) -> set up -> action, action ... -> where is it now?
 * -> page given back or kept -> tool_finish
 */
#include "agent/tools/browser.h"

#include <stdio.h>
#include <string.h>

#include "agent/policy.h"
#include "agent/tools/answer.h"
#include "agent/tools/browser_proxy.h"
#include "agent/tools/browser_run.h"
#include "agent/tools/event.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"

#define SETUP_MS 5000 /* for what is no action: the size of the window, where the page is at the end */

static cJSON *member(const struct browser_run *r, const char *key)
{
        return cJSON_GetObjectItemCaseSensitive(r->input, key);
}

bool browser_available(void)
{
        char *path = NULL;
        bool yes = browser_find(&path, NULL) == 0;

        mem_free(path);
        return yes;
}

void browser_stop(void)
{
        browser_kept_stop();
        browser_pool_stop();
}

/* ---- the end ---- */

static void on_denied(void *arg, const char *host)
{
        cJSON *h = cJSON_CreateString(host);

        if (!h || !cJSON_AddItemToArray(arg, h))
                cJSON_Delete(h);
}

/* What stands in the outputs whatever the call did. NULL: no memory. */
static cJSON *outputs(struct browser_run *r, const cJSON *history)
{
        const cJSON *at = cJSON_GetObjectItemCaseSensitive(history, "currentIndex"),
                    *e = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(history, "entries"),
                                            cJSON_IsNumber(at) ? at->valueint : -1);
        const char *url = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(e, "url"));
        const char *title = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(e, "title"));
        cJSON *o = cJSON_CreateObject(), *denied = NULL, *last;
        bool ok = o && (!url || cJSON_AddStringToObject(o, "url", url)) &&
                  (!title || cJSON_AddStringToObject(o, "title", title));

        if (ok && r->tab && tab_status(r->tab))
                ok = cJSON_AddNumberToObject(o, "status", tab_status(r->tab));
        if (ok && r->tab && browser_proxy_denials(tab_proxy(r->tab))) {
                denied = cJSON_AddArrayToObject(o, "denied");
                ok = denied;
                browser_proxy_denied(tab_proxy(r->tab), on_denied, denied);
        }
        ok = ok && cJSON_AddNumberToObject(o, "duration_ms", (double)((uv_hrtime() - r->began) / 1000000));
        last = cJSON_GetArrayItem(r->results, cJSON_GetArraySize(r->results) - 1);
        if (ok && r->single && last) { /* its own members, flat */
                cJSON_DeleteItemFromObjectCaseSensitive(last, "action");
                cJSON_DeleteItemFromObjectCaseSensitive(last, "duration_ms");
                while (last->child) {
                        cJSON *m = cJSON_DetachItemViaPointer(last, last->child);

                        if (!cJSON_AddItemToObject(o, m->string, m))
                                cJSON_Delete(m);
                }
        } else if (ok && !r->single) {
                ok = cJSON_AddItemToObject(o, "results", r->results);
                if (ok)
                        r->results = NULL;
        }
        if (ok)
                return o;
        cJSON_Delete(o);
        return NULL;
}

static void give_back(struct browser_run *r, cJSON *out, struct err *e, const char **code)
{
        char *name = NULL;

        if (!r->tab)
                return;
        if (r->keep && !tab_is_lost(r->tab)) {
                if (browser_kept_put(r->c->loop, r->tab, r->session, &name, e) == 0) {
                        if (out)
                                cJSON_AddStringToObject(out, "session", name);
                        r->tab = NULL;
                } else {
                        *code = "too_many_sessions";
                }
                mem_free(name);
        }
        if (r->tab)
                tab_close(r->tab);
        r->tab = NULL;
}

/* Nothing of the call is under way any more. */
static void finish(struct browser_run *r, enum tool_outcome outcome, const char *code, const struct err *e,
                   const cJSON *history)
{
        cJSON *out;
        struct err why = e ? *e : (struct err){0};
        const char *kept_code = NULL;

        if (r->finished)
                return;
        r->finished = true;
        out = outputs(r, history);
        give_back(r, out, &why, &kept_code);
        if (!code && kept_code) {
                code = kept_code;
                outcome = TOOL_FAILED;
        }
        if (!out && !code) {
                err_set(&why, E_NOMEM, "the agent is out of memory");
                code = "out_of_memory";
                outcome = TOOL_FAILED;
        }
        if (code)
                answer_bad(r->c, outcome, code, &why, out);
        else
                answer_ok(r->c, out);
}

static void on_where(void *arg, const char *code, const struct err *e, const cJSON *value)
{
        struct browser_run *r = arg;

        (void)e;
        finish(r, r->failed_code ? TOOL_FAILED : TOOL_SUCCEEDED, r->failed_code, &r->failed_why,
               code ? NULL : value);
}

/* The actions are over, one way or the other. */
static void end(struct browser_run *r, const char *code, const struct err *e)
{
        r->failed_code = code;
        if (e)
                r->failed_why = *e;
        if (r->tab && !tab_is_lost(r->tab))
                tab_command(r->tab, "Page.getNavigationHistory", NULL, SETUP_MS, on_where, r);
        else
                finish(r, code ? TOOL_FAILED : TOOL_SUCCEEDED, code, e, NULL);
}

/* ---- actions one after the other ---- */

static void next(struct browser_run *r)
{
        r->action = cJSON_GetArrayItem(r->actions, r->at);
        r->action_began = uv_hrtime();
        r->result = cJSON_CreateObject();
        if (!r->result || !cJSON_AddStringToObject(r->result, "action",
                                                   cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(
                                                           r->action, "action")))) {
                struct err e = {0};

                err_set(&e, E_NOMEM, "the agent is out of memory");
                end(r, "out_of_memory", &e);
                return;
        }
        browser_action_begin(r);
}

static void tell_denied(struct browser_run *r)
{
        uint64_t now = browser_proxy_denials(tab_proxy(r->tab));
        char text[100];

        if (now == r->denials)
                return;
        snprintf(text, sizeof text, "%llu connections of the page were denied",
                 (unsigned long long)(now - r->denials));
        r->denials = now;
        (void)event_log(r->c, "warning", text);
}

void browser_action_done(struct browser_run *r, const char *code, const struct err *e)
{
        double ms = (double)((uv_hrtime() - r->action_began) / 1000) / 1000;

        if (!code && e && e->code)
                code = err_name(e->code);
        if (r->cancelled) { /* while it wrote a file */
                struct err why = {0};

                err_set(&why, E_CANCELLED, "cancelled");
                finish(r, TOOL_CANCELLED, "cancelled", &why, NULL);
                return;
        }
        browser_action_event(r, code ? "failed" : "completed");
        tell_denied(r);
        if (!code) {
                cJSON_AddNumberToObject(r->result, "duration_ms", ms);
                cJSON_AddItemToArray(r->results, r->result);
                r->result = NULL;
        } else {
                struct err why = {0};

                /* Which one of a list it was. */
                if (r->single)
                        why = *e;
                else
                        err_set(&why, e->code, "actions[%d] (%s): %s", r->at,
                                cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(r->action, "action")),
                                e->msg);
                end(r, code, &why);
                return;
        }
        if (++r->at < r->n)
                next(r);
        else
                end(r, NULL, NULL);
}

/* ---- the beginning ---- */

static void on_note(void *arg, const char *level, const char *text)
{
        struct browser_run *r = arg;

        (void)event_log(r->c, level, text);
}

static void on_sized(void *arg, const char *code, const struct err *e, const cJSON *value)
{
        struct browser_run *r = arg;

        (void)value;
        if (code)
                end(r, code, e);
        else
                next(r);
}

static void set_up(struct browser_run *r)
{
        struct tab_user u = {.on_note = on_note, .arg = r};
        const cJSON *view = member(r, "viewport"), *scale = cJSON_GetObjectItemCaseSensitive(view, "scale");
        const char *dialogs = cJSON_GetStringValue(member(r, "dialogs"));
        struct err e = {0};
        cJSON *o;

        tab_use(r->tab, &u);
        tab_dialogs(r->tab, dialogs && strcmp(dialogs, "accept") == 0);
        r->denials = browser_proxy_denials(tab_proxy(r->tab));
        /* A kept page stays within what it was narrowed to, also between calls, until one says otherwise. */
        if (member(r, "hosts") && browser_proxy_narrow(tab_proxy(r->tab), member(r, "hosts"))) {
                err_set(&e, E_NOMEM, "the agent is out of memory");
                end(r, "out_of_memory", &e);
                return;
        }
        if (!view) {
                next(r);
                return;
        }
        o = cJSON_CreateObject();
        if (o && cJSON_AddNumberToObject(o, "width", cJSON_GetObjectItem(view, "width")->valueint) &&
            cJSON_AddNumberToObject(o, "height", cJSON_GetObjectItem(view, "height")->valueint) &&
            cJSON_AddNumberToObject(o, "deviceScaleFactor", scale ? scale->valuedouble : 1) &&
            cJSON_AddFalseToObject(o, "mobile")) {
                tab_command(r->tab, "Emulation.setDeviceMetricsOverride", o, SETUP_MS, on_sized, r);
        } else {
                cJSON_Delete(o);
                err_set(&e, E_NOMEM, "the agent is out of memory");
                end(r, "out_of_memory", &e);
        }
}

static void on_page(struct page_wait *w, struct page *p, const char *code, const struct err *e)
{
        struct browser_run *r = w->data;
        struct err why = {0};

        if (!p) {
                finish(r, strcmp(code, "browser_missing") == 0 ? TOOL_REFUSED : TOOL_FAILED, code, e, NULL);
                return;
        }
        if (tab_create(r->c->loop, r->c->policy, p, &r->tab)) {
                err_set(&why, E_NOMEM, "the agent is out of memory");
                finish(r, TOOL_FAILED, "out_of_memory", &why, NULL);
                return;
        }
        set_up(r);
}

/* The input of a tool of one action, as a list: `url` is a navigation before it. */
static cJSON *one_action(const char *name, const cJSON *input)
{
        static const char *const of_call[] = {"session", "keep", "hosts", "viewport", "dialogs"};
        cJSON *list = cJSON_CreateArray(), *a = cJSON_Duplicate(input, true), *go = NULL;
        const cJSON *timeout = cJSON_GetObjectItemCaseSensitive(input, "timeout");
        bool ok = list && a && cJSON_AddStringToObject(a, "action", name);

        for (size_t i = 0; ok && i < sizeof of_call / sizeof *of_call; i++)
                cJSON_DeleteItemFromObjectCaseSensitive(a, of_call[i]);
        if (ok && strcmp(name, "navigate") != 0 && cJSON_HasObjectItem(a, "url")) {
                cJSON *url = cJSON_DetachItemFromObjectCaseSensitive(a, "url");

                go = cJSON_CreateObject();
                ok = go && cJSON_AddStringToObject(go, "action", "navigate") &&
                     (!timeout || cJSON_AddStringToObject(go, "timeout", timeout->valuestring)) &&
                     cJSON_AddItemToObject(go, "url", url);
                if (!ok)
                        cJSON_Delete(url);
                else if ((ok = cJSON_AddItemToArray(list, go)))
                        go = NULL;
        }
        if (ok && cJSON_AddItemToArray(list, a))
                return list;
        cJSON_Delete(go);
        cJSON_Delete(a);
        cJSON_Delete(list);
        return NULL;
}

int browser_permit(const struct policy *p, const cJSON *input, struct err *e)
{
        const cJSON *actions = cJSON_GetObjectItemCaseSensitive(input, "actions");
        char *path = NULL;
        int rc = actions ? browser_actions_check(p, actions, e) : 0;

        if (rc != -E_DENIED)
                rc = 0; /* what is wrong with it, start says */
        if (rc == 0 && browser_find(&path, NULL) == 0)
                rc = policy_command(p, path, false, e);
        mem_free(path);
        return rc;
}

static int read_input(struct browser_run *r, const cJSON *input, struct err *e)
{
        const char *dot = strchr(r->c->tool->name, '.');
        const char *session = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(input, "session"));
        const cJSON *keep = cJSON_GetObjectItemCaseSensitive(input, "keep");
        int rc;

        r->single = strcmp(dot + 1, "run") != 0;
        r->input = cJSON_Duplicate(input, true);
        r->results = cJSON_CreateArray();
        r->session = session ? mem_strdup(session) : NULL;
        r->keep = keep ? cJSON_IsTrue(keep) : session != NULL;
        if (r->input)
                r->actions = r->single ? one_action(dot + 1, r->input)
                                       : cJSON_DetachItemFromObjectCaseSensitive(r->input, "actions");
        if (!r->input || !r->results || !r->actions || (session && !r->session))
                return err_set(e, E_NOMEM, "out of memory");
        r->n = cJSON_GetArraySize(r->actions);
        rc = browser_actions_check(r->c->policy, r->actions, e);
        if (rc)
                return rc;
        if (!session && r->n == 1 && r->single && strcmp(dot + 1, "navigate") != 0)
                return err_set(e, E_INVAL, "name a page: `url` opens one, `session` goes on with a kept one");
        return 0;
}

static void release(struct browser_run *r)
{
        cJSON_Delete(r->actions);
        cJSON_Delete(r->input);
        cJSON_Delete(r->results);
        cJSON_Delete(r->result);
        buf_fini(&r->bytes);
        mem_free(r->session);
        mem_free(r);
}

/* A page, or -E_* with the code that people see. */
static int want_page(struct browser_run *r, const char **code, struct err *e)
{
        int rc;

        if (r->session) {
                *code = "no_session";
                return browser_kept_take(r->session, &r->tab, e);
        }
        rc = page_want(r->c, &r->wait, e);
        *code = rc == -E_FULL ? "agent_busy" : err_name(rc);
        return rc;
}

int browser_start(struct tool_call *c, const cJSON *input, struct err *e)
{
        struct browser_run *r = mem_calloc(1, sizeof *r);
        const char *code;
        int rc;

        if (!r)
                return err_set(e, E_NOMEM, "out of memory");
        c->state = r;
        r->c = c;
        r->began = uv_hrtime();
        r->wait.on_page = on_page;
        r->wait.data = r;
        rc = read_input(r, input, e);
        code = rc == -E_INVAL ? "bad_input" : rc == -E_DENIED ? "policy_denied" : err_name(rc);
        if (!rc)
                rc = want_page(r, &code, e);
        if (rc) {
                r->finished = true;
                answer_bad(c, TOOL_REFUSED, code, e, NULL);
        } else if (r->tab) {
                set_up(r);
        }
        return 0;
}

void browser_cancel(struct tool_call *c, int grace_ms)
{
        struct browser_run *r = c->state;
        struct err e = {0};

        (void)grace_ms;
        if (r->finished)
                return;
        r->cancelled = true;
        if (r->wait.waiting)
                page_want_no_more(&r->wait);
        if (r->tab)
                tab_stop(r->tab);
        atomic_store(&r->file.stop, true);
        if (r->handles)
                return; /* browser_action_done comes */
        err_set(&e, E_CANCELLED, "cancelled");
        finish(r, TOOL_CANCELLED, "cancelled", &e, NULL);
}

void browser_free(struct tool_call *c)
{
        release(c->state);
}
