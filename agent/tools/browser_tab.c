#include "agent/tools/browser_tab.h"

#include <stdio.h>
#include <string.h>

#include "agent/policy.h"
#include "agent/tools/browser_proxy.h"
#include "agent/tools/http.h"
#include "common/json.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/str.h"

#define ID_MAX    80
#define URL_KEEP  2048
#define NOTES_MAX 50   /* of one call; a page that opens dialogs without end fills nobody's record */
#define GRACE_MS  2000 /* a script of ours watches its time itself; for its answer to come */

enum op_kind { OP_NONE, OP_GOTO, OP_WAIT, OP_CALL, OP_COMMAND };

/* What was asked. */
struct op {
        enum op_kind kind;
        tab_done *done;
        void *arg;
        enum tab_until until;
        bool committed; /* the first answer is here: of Page.navigate, or (OP_WAIT) of what follows all before
                         */
        bool seen;      /* its document was seen to begin */
        char loader[ID_MAX];
        const char *late;
        char *function;
        cJSON *args;
};

struct tab {
        uv_loop_t *loop;
        const struct policy *policy;
        struct page *page;
        struct tab_user user;
        uv_timer_t timer;
        unsigned notes; /* since tab_use */
        bool timer_open, closed, lost, accept_dialogs;
        const char *lost_code;
        struct err lost_why;
        struct op op;

        /* The document: */
        char loader[ID_MAX];
        bool dom, load, idle;
        unsigned documents;
        int status;
        int64_t world; /* execution context of ours, 0: none yet */
        /* What is on its way to replace it: */
        bool moving;
        char next[ID_MAX], next_url[URL_KEEP];
        int next_status;
        bool has_failed; /* it did not come, and nobody was told */
        char failure[200];
};

static const char *str(const cJSON *o, const char *key)
{
        const char *s = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, key));

        return s ? s : "";
}

static void note(struct tab *t, const char *level, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));
static void note(struct tab *t, const char *level, const char *fmt, ...)
{
        struct err text = {0}; /* cuts at a character */
        va_list ap;

        va_start(ap, fmt);
        err_setv(&text, E_INVAL, fmt, ap);
        va_end(ap);
        if (t->notes == NOTES_MAX)
                return;
        if (++t->notes == NOTES_MAX)
                err_set(&text, E_INVAL, "the page goes on like this; no more is said of it");
        if (t->user.on_note)
                t->user.on_note(t->user.arg, level, text.msg);
}

/* ---- what was asked, and its answer ---- */

static void clear(struct tab *t)
{
        if (t->timer_open)
                uv_timer_stop(&t->timer);
        if (t->page)
                page_forget(t->page, t);
        mem_free(t->op.function);
        cJSON_Delete(t->op.args);
        t->op = (struct op){.kind = OP_NONE};
}

void tab_stop(struct tab *t)
{
        clear(t);
}

static void answer(struct tab *t, const char *code, const struct err *e, const cJSON *value)
{
        struct op op = t->op;

        t->op.function = NULL;
        t->op.args = NULL;
        clear(t);
        if (op.kind != OP_NONE)
                op.done(op.arg, code, e, value);
        mem_free(op.function);
        cJSON_Delete(op.args);
}

static void fail(struct tab *t, const char *code, int rc, const char *fmt, ...)
        __attribute__((format(printf, 4, 5)));
static void fail(struct tab *t, const char *code, int rc, const char *fmt, ...)
{
        struct err e = {0};
        va_list ap;

        va_start(ap, fmt);
        err_setv(&e, rc, fmt, ap);
        va_end(ap);
        answer(t, code, &e, NULL);
}

static const char *until_text(enum tab_until u)
{
        return u == TAB_IDLE ? "the network was not idle" : "it was not loaded";
}

static void on_late(uv_timer_t *h)
{
        struct tab *t = h->data;

        if (t->lost) {
                struct err e = t->lost_why;

                answer(t, t->lost_code, &e, NULL);
        } else if (t->op.kind == OP_GOTO && !t->op.committed) {
                page_doubt(t->page);
                (void)page_send(t->page, "Page.stopLoading", NULL, NULL, NULL);
                fail(t, "nav_timeout", E_TIMEOUT, "%.300s did not answer in time", t->next_url);
        } else if (t->op.kind == OP_GOTO || t->op.kind == OP_WAIT) {
                fail(t, t->op.late ? t->op.late : "nav_timeout", E_TIMEOUT,
                     "the page came, but %s in time; wait for less (`until`) or give it more time "
                     "(`timeout`)",
                     until_text(t->op.until));
        } else {
                page_doubt(t->page);
                fail(t, t->op.late, E_TIMEOUT, "the page did not answer in time");
        }
}

/* Everything is answered on a later turn, also what is known at once. */
static bool ask(struct tab *t, enum op_kind kind, int64_t timeout_ms, const char *late, tab_done *done,
                void *arg)
{
        clear(t);
        t->op = (struct op){.kind = kind, .late = late, .done = done, .arg = arg};
        uv_update_time(t->loop);
        uv_timer_start(&t->timer, on_late, t->lost ? 0 : (uint64_t)timeout_ms, 0);
        return !t->lost;
}

static void on_lost(void *arg, const char *code, const struct err *why)
{
        struct tab *t = arg;

        t->lost = true;
        t->lost_code = code;
        t->lost_why = *why;
        if (t->op.kind != OP_NONE)
                uv_timer_start(&t->timer, on_late, 0, 0);
        else if (t->user.on_lost)
                t->user.on_lost(t->user.arg, code, why);
}

/* A command that could not even be sent. */
static void unsent(struct tab *t, int rc)
{
        if (!t->lost)
                on_lost(t, "browser_died",
                        &(struct err){.code = -rc, .msg = "the browser takes no commands any more"});
}

/* ---- documents ---- */

static bool reached(const struct tab *t, enum tab_until u)
{
        switch (u) {
        case TAB_COMMIT:
                return true;
        case TAB_DOM:
                return t->dom || t->load;
        case TAB_LOAD:
                return t->load;
        default:
                return t->idle;
        }
}

static void nav_failed(struct tab *t, const char *text);

static void look(struct tab *t)
{
        if (t->op.kind == OP_GOTO && t->op.committed) {
                t->op.seen |= strcmp(t->loader, t->op.loader) == 0;
                if (t->op.seen && !t->moving && reached(t, t->op.until))
                        answer(t, NULL, NULL, NULL);
        } else if (t->op.kind == OP_WAIT && t->op.committed && t->has_failed) {
                t->has_failed = false;
                nav_failed(t, t->failure);
        } else if (t->op.kind == OP_WAIT && t->op.committed && !t->moving && reached(t, t->op.until)) {
                answer(t, NULL, NULL, NULL);
        }
}

static void begin_document(struct tab *t, const char *loader)
{
        if (strcmp(t->loader, loader) == 0)
                return;
        snprintf(t->loader, sizeof t->loader, "%s", loader);
        t->documents++;
        t->dom = t->load = t->idle = false;
        t->world = 0;
        t->status = strcmp(t->next, loader) == 0 ? t->next_status : 0;
        if (strcmp(t->next, loader) == 0)
                t->moving = false;
}

static void on_lifecycle(struct tab *t, const cJSON *p)
{
        const char *name = str(p, "name");

        if (strcmp(str(p, "frameId"), page_frame(t->page)) != 0)
                return;
        if (strcmp(name, "init") == 0 || strcmp(name, "commit") == 0) {
                begin_document(t, str(p, "loaderId"));
        } else if (strcmp(t->loader, str(p, "loaderId")) == 0) {
                t->dom |= strcmp(name, "DOMContentLoaded") == 0;
                t->load |= strcmp(name, "load") == 0;
                t->idle |= strcmp(name, "networkIdle") == 0;
        }
        look(t);
}

static void on_request(struct tab *t, const cJSON *p)
{
        if (strcmp(str(p, "type"), "Document") != 0 || strcmp(str(p, "frameId"), page_frame(t->page)) != 0 ||
            strcmp(str(p, "requestId"), str(p, "loaderId")) != 0)
                return;
        t->moving = true;
        t->has_failed = false;
        t->next_status = 0;
        snprintf(t->next, sizeof t->next, "%s", str(p, "loaderId"));
        snprintf(t->next_url, sizeof t->next_url, "%s",
                 str(cJSON_GetObjectItemCaseSensitive(p, "request"), "url"));
}

static void on_response(struct tab *t, const cJSON *p)
{
        const cJSON *status =
                cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(p, "response"), "status");

        if (strcmp(str(p, "requestId"), t->next) == 0 && cJSON_IsNumber(status)) {
                t->next_status = status->valueint;
                if (strcmp(t->loader, t->next) == 0)
                        t->status = t->next_status;
        }
}

static void on_failed(struct tab *t, const cJSON *p)
{
        if (strcmp(str(p, "requestId"), t->next) != 0)
                return;
        t->has_failed = t->op.kind != OP_GOTO;
        snprintf(t->failure, sizeof t->failure, "%s", str(p, "errorText"));
        t->moving = false;
        look(t);
}

/* ---- what pages do besides ---- */

static void on_dialog(struct tab *t, const cJSON *p)
{
        const char *type = str(p, "type");
        bool yes = t->accept_dialogs || strcmp(type, "alert") == 0 || strcmp(type, "beforeunload") == 0;
        cJSON *o = cJSON_CreateObject();

        note(t, "info", "%s(\"%.200s\"): %s", *type ? type : "dialog", str(p, "message"),
             yes ? "accepted" : "dismissed");
        if (o && cJSON_AddBoolToObject(o, "accept", yes))
                (void)page_send(t->page, "Page.handleJavaScriptDialog", o, NULL, NULL);
        else
                cJSON_Delete(o);
}

/* A file of this machine: only what the policy lets be read, and only where it lets pages read files. */
static void on_file(struct tab *t, const cJSON *p)
{
        const char *url = str(cJSON_GetObjectItemCaseSensitive(p, "request"), "url");
        struct err e = {0};
        cJSON *o = cJSON_CreateObject();
        int rc = tab_permit_url(t, url, &e);

        if (rc)
                note(t, "warning", "%s", e.msg);
        if (o && cJSON_AddStringToObject(o, "requestId", str(p, "requestId")) &&
            (!rc || cJSON_AddStringToObject(o, "errorReason", "AccessDenied")))
                (void)page_send(t->page, rc ? "Fetch.failRequest" : "Fetch.continueRequest", o, NULL, NULL);
        else
                cJSON_Delete(o);
}

static void on_window(struct tab *t, const cJSON *p)
{
        note(t, "warning", "the page opened a window, which was closed: %.300s", str(p, "url"));
}

static void on_event(void *arg, const char *method, const cJSON *params)
{
        static const struct {
                const char *method;
                void (*fn)(struct tab *t, const cJSON *p);
        } all[] = {
                {"Page.lifecycleEvent", on_lifecycle},
                {"Network.requestWillBeSent", on_request},
                {"Network.responseReceived", on_response},
                {"Network.loadingFailed", on_failed},
                {"Page.javascriptDialogOpening", on_dialog},
                {"Fetch.requestPaused", on_file},
                {PAGE_WINDOW, on_window},
        };

        for (size_t i = 0; i < sizeof all / sizeof *all; i++)
                if (strcmp(all[i].method, method) == 0)
                        all[i].fn(arg, params);
}

/* ---- life ---- */

static void on_timer_closed(uv_handle_t *h)
{
        mem_free(h->data);
}

int tab_create(uv_loop_t *loop, const struct policy *policy, struct page *page, struct tab **out)
{
        struct tab *t = mem_calloc(1, sizeof *t);
        struct page_user u = {.on_event = on_event, .on_lost = on_lost, .arg = t};

        if (!t) {
                page_give(page);
                return -E_NOMEM;
        }
        t->loop = loop;
        t->policy = policy;
        t->page = page;
        uv_timer_init(loop, &t->timer);
        t->timer.data = t;
        t->timer_open = true;
        t->load = t->dom = t->idle = true; /* about:blank */
        page_use(page, &u);
        *out = t;
        return 0;
}

void tab_close(struct tab *t)
{
        if (!t || t->closed)
                return;
        t->closed = true;
        clear(t);
        page_give(t->page);
        t->page = NULL;
        t->timer_open = false;
        uv_close((uv_handle_t *)&t->timer, on_timer_closed);
}

void tab_use(struct tab *t, const struct tab_user *u)
{
        t->user = u ? *u : (struct tab_user){0};
        t->notes = 0;
}

bool tab_is_lost(const struct tab *t)
{
        return t->lost;
}

bool tab_is_moving(const struct tab *t)
{
        return t->moving;
}

unsigned tab_documents(const struct tab *t)
{
        return t->documents;
}

int tab_status(const struct tab *t)
{
        return t->status;
}

struct browser_proxy *tab_proxy(struct tab *t)
{
        return page_proxy(t->page);
}

void tab_dialogs(struct tab *t, bool accept)
{
        t->accept_dialogs = accept;
}

/* ---- navigation ---- */

/* file:///a%20b -> /a b, asked of the policy like any other file. */
static int permit_file(const struct tab *t, const char *url, struct err *e)
{
        const char *s = url + 5;
        char path[4096];
        size_t n = 0;
        uint8_t byte;

        if (strncmp(s, "///", 3) != 0)
                return err_set(e, E_DENIED, "%.200s: a file of another machine", url);
        for (s += 2; *s && *s != '?' && *s != '#' && n + 1 < sizeof path; s++) {
                char hex[3] = "";

                if (*s != '%') {
                        path[n++] = *s;
                        continue;
                }
                hex[0] = s[1];
                hex[1] = s[1] ? s[2] : 0;
                if (strlen(hex) != 2 || str_unhex(hex, &byte, 1) || !byte)
                        return err_set(e, E_INVAL, "%.200s: %% must be followed by two hex digits", url);
                path[n++] = (char)byte;
                s += 2;
        }
        path[n] = '\0';
        return policy_path(t->policy, POLICY_READ, path, NULL, NULL, e);
}

int tab_permit_url(const struct tab *t, const char *url, struct err *e)
{
        char host[256];
        int port;
        bool tls;
        int rc;

        if (strcmp(url, "about:blank") == 0)
                return 0;
        if (strncasecmp(url, "file:", 5) == 0 && policy_browser(t->policy)->files)
                return permit_file(t, url, e);
        if (strncasecmp(url, "http:", 5) != 0 && strncasecmp(url, "https:", 6) != 0)
                return err_set(
                        e, E_DENIED,
                        "%.200s: pages are opened over http and https only (and file, where browser.files "
                        "is true in the agent's policy)",
                        url);
        rc = http_split_url(url, host, &port, &tls, e);
        return rc ? rc : browser_proxy_ask(page_proxy(t->page), host, port, e);
}

/* net::ERR_... of the document: our proxy knows better what it was. */
static void nav_failed(struct tab *t, const char *text)
{
        char host[256];
        int port;
        bool tls;
        struct err e = {0};
        const char *code = NULL;

        if (http_split_url(t->next_url, host, &port, &tls, NULL) == 0) {
                if (host[0] == '[') { /* the proxy has it without */
                        memmove(host, host + 1, strlen(host));
                        host[strlen(host) - 1] = '\0';
                }
                if (strstr(text, "ERR_SOCKS") || strstr(text, "ERR_PROXY"))
                        code = browser_proxy_failure(page_proxy(t->page), host, port, &e);
        }
        /* The proxy listens and nobody came: the process that does a browser's networking died, and what
         * Chromium started in its place knows nothing of the pages' own proxies. It fails closed; on_lost
         * answers. */
        if (!code && strcmp(text, "net::ERR_PROXY_CONNECTION_FAILED") == 0) {
                page_cut_off(t->page);
                return;
        }
        if (code && strcmp(code, "url_denied") == 0) {
                answer(t, "url_denied", &e, NULL);
        } else if (code) {
                answer(t, "nav_failed", &e, NULL);
        } else if (strcmp(text, "net::ERR_ABORTED") == 0 && strncasecmp(t->next_url, "http", 4) != 0) {
                fail(t, "nav_failed", E_UNAVAIL,
                     "%.300s leads out of the browser: no other program is started", t->next_url);
        } else if (strcmp(text, "net::ERR_ABORTED") == 0) {
                fail(t, "nav_failed", E_UNAVAIL,
                     "%.300s gave nothing to show: an empty answer, or a download (downloads are not taken)",
                     t->next_url);
        } else {
                fail(t, "nav_failed", E_UNAVAIL, "%.300s: %s", t->next_url, text);
        }
}

static void on_navigated(void *arg, int rc, const cJSON *result, const struct err *e)
{
        struct tab *t = arg;
        const char *loader = str(result, "loaderId");

        if (rc == -E_CLOSED)
                return; /* on_lost */
        if (rc) {
                fail(t, "nav_failed", E_INVAL, "%.300s: %s", t->next_url, e->msg);
        } else if (cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(result, "isDownload"))) {
                fail(t, "download_denied", E_DENIED, "%.300s is a download; fetch it with http.request",
                     t->next_url);
        } else if (*str(result, "errorText")) {
                t->moving = false;
                nav_failed(t, str(result, "errorText"));
        } else if (!*loader) { /* within the same document */
                t->moving = false;
                answer(t, NULL, NULL, NULL);
        } else {
                snprintf(t->op.loader, sizeof t->op.loader, "%s", loader);
                t->op.committed = true;
                look(t);
        }
}

void tab_goto(struct tab *t, const char *url, enum tab_until until, int64_t timeout_ms, tab_done *done,
              void *arg)
{
        cJSON *o;
        int rc = -E_NOMEM;

        if (!ask(t, OP_GOTO, timeout_ms, "nav_timeout", done, arg))
                return;
        t->op.until = until;
        snprintf(t->next_url, sizeof t->next_url, "%s", url);
        o = cJSON_CreateObject();
        if (o && cJSON_AddStringToObject(o, "url", url))
                rc = page_send(t->page, "Page.navigate", o, on_navigated, t);
        else
                cJSON_Delete(o);
        if (rc)
                unsent(t, rc);
}

static void on_settled(void *arg, int rc, const cJSON *result, const struct err *e)
{
        struct tab *t = arg;

        (void)result;
        (void)e;
        if (rc == -E_CLOSED)
                return;
        t->op.committed = true;
        look(t);
}

void tab_wait(struct tab *t, enum tab_until until, int64_t timeout_ms, tab_done *done, void *arg)
{
        int rc;

        if (!ask(t, OP_WAIT, timeout_ms, "nav_timeout", done, arg))
                return;
        t->op.until = until;
        /* What was done just before may have begun a navigation: its first event comes before this answer. */
        rc = page_send(t->page, "Page.getNavigationHistory", NULL, on_settled, t);
        if (rc)
                unsent(t, rc);
}

/* ---- scripts ---- */

static void call_now(struct tab *t);

/* The document went away under it: again in the next one, within the same time. */
static bool moved_on(const char *message)
{
        return strstr(message, "context") || strstr(message, "navigated or closed") ||
               strstr(message, "Promise was collected");
}

static void on_called(void *arg, int rc, const cJSON *result, const struct err *e)
{
        struct tab *t = arg;
        const cJSON *wrong = cJSON_GetObjectItemCaseSensitive(result, "exceptionDetails");
        const cJSON *ex = cJSON_GetObjectItemCaseSensitive(wrong, "exception");

        if (rc == -E_CLOSED)
                return;
        if (rc && moved_on(e->msg)) {
                t->world = 0;
                call_now(t);
        } else if (rc) {
                fail(t, "script_failed", E_INVAL, "the page could not be asked: %s", e->msg);
        } else if (wrong) {
                fail(t, "script_failed", E_INVAL, "%.400s",
                     *str(ex, "description") ? str(ex, "description") : str(wrong, "text"));
        } else {
                answer(t, NULL, NULL,
                       cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(result, "result"),
                                                        "value"));
        }
}

static void on_world(void *arg, int rc, const cJSON *result, const struct err *e)
{
        struct tab *t = arg;
        const cJSON *id = cJSON_GetObjectItemCaseSensitive(result, "executionContextId");

        if (rc == -E_CLOSED)
                return;
        if (rc || !cJSON_IsNumber(id) || id->valuedouble < 1) {
                fail(t, "script_failed", E_INVAL, "the page could not be asked: %s", e->msg);
                return;
        }
        t->world = (int64_t)id->valuedouble;
        call_now(t);
}

static cJSON *call_params(const struct tab *t)
{
        cJSON *o = cJSON_CreateObject(), *args = o ? cJSON_AddArrayToObject(o, "arguments") : NULL;
        const cJSON *a;

        if (!args || !cJSON_AddStringToObject(o, "functionDeclaration", t->op.function) ||
            !cJSON_AddNumberToObject(o, "executionContextId", (double)t->world) ||
            !cJSON_AddTrueToObject(o, "returnByValue") || !cJSON_AddTrueToObject(o, "awaitPromise"))
                goto fail;
        cJSON_ArrayForEach(a, t->op.args)
        {
                cJSON *x = cJSON_CreateObject(), *v = cJSON_Duplicate(a, true);

                if (!x || !v || !cJSON_AddItemToObject(x, "value", v)) {
                        cJSON_Delete(x);
                        cJSON_Delete(v);
                        goto fail;
                }
                cJSON_AddItemToArray(args, x);
        }
        return o;
fail:
        cJSON_Delete(o);
        return NULL;
}

static void call_now(struct tab *t)
{
        cJSON *o;
        int rc = -E_NOMEM;

        if (t->world) {
                o = call_params(t);
                if (o)
                        rc = page_send(t->page, "Runtime.callFunctionOn", o, on_called, t);
        } else {
                o = cJSON_CreateObject();
                if (o && cJSON_AddStringToObject(o, "frameId", page_frame(t->page)) &&
                    cJSON_AddStringToObject(o, "worldName", "photon"))
                        rc = page_send(t->page, "Page.createIsolatedWorld", o, on_world, t);
                else
                        cJSON_Delete(o);
        }
        if (rc)
                unsent(t, rc);
}

void tab_call(struct tab *t, const char *function, cJSON *args, int64_t timeout_ms, const char *late,
              tab_done *done, void *arg)
{
        if (!ask(t, OP_CALL, timeout_ms + GRACE_MS, late, done, arg)) {
                cJSON_Delete(args);
                return;
        }
        t->op.function = mem_strdup(function);
        t->op.args = args;
        if (t->op.function && args)
                call_now(t);
        else
                unsent(t, -E_NOMEM);
}

/* ---- commands ---- */

static void on_done(void *arg, int rc, const cJSON *result, const struct err *e)
{
        struct tab *t = arg;

        if (rc == -E_CLOSED)
                return;
        if (rc)
                fail(t, "browser_failed", E_INVAL, "the browser refused: %s", e->msg);
        else
                answer(t, NULL, NULL, result);
}

void tab_command(struct tab *t, const char *method, cJSON *params, int64_t timeout_ms, tab_done *done,
                 void *arg)
{
        int rc;

        if (!ask(t, OP_COMMAND, timeout_ms, "page_timeout", done, arg)) {
                cJSON_Delete(params);
                return;
        }
        rc = page_send(t->page, method, params, on_done, t);
        if (rc)
                unsent(t, rc);
}

void tab_send_first(struct tab *t, const char *method, cJSON *params)
{
        (void)page_send(t->page, method, params, NULL, NULL); /* lost: the next command says so */
}
