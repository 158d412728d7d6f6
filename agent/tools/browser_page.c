/* A page: context, tab, session, and what has to be switched on before anybody may use it. */
#include <string.h>

#include "agent/policy.h"
#include "agent/tools/browser_in.h"
#include "agent/tools/browser_proxy.h"
#include "common/err.h"
#include "common/log.h"
#include "common/map.h"
#include "common/mem.h"
#include "common/str.h"

#define TO(s) (1u << (s))
static const struct {
        const char *name;
        unsigned next;
} states[] = {
        [PAGE_OPENING] = {"opening", TO(PAGE_READY) | TO(PAGE_CLOSED)},
        [PAGE_READY] = {"ready", TO(PAGE_USED) | TO(PAGE_CLOSED)},
        [PAGE_USED] = {"used", TO(PAGE_CLOSED)},
        [PAGE_CLOSED] = {"closed", 0},
};

bool page_move(struct page *p, enum page_state to)
{
        if (!(states[p->state].next & TO(to))) {
                log_error("browser", "page: state move refused", "from=%s to=%s", states[p->state].name,
                          states[to].name);
                return false;
        }
        p->state = to;
        return true;
}

/* ---- the end ---- */

void browser_drop_spent(struct browser *b)
{
        for (size_t i = 0; i < b->n_spent; i++) {
                cJSON *o = b->cdp_gone ? NULL : cJSON_CreateObject();

                if (o && cJSON_AddStringToObject(o, "browserContextId", b->spent[i]))
                        (void)cdp_send(b->cdp, NULL, "Target.disposeBrowserContext", o, NULL, NULL);
                else
                        cJSON_Delete(o);
                mem_free(b->spent[i]);
        }
        b->n_spent = 0;
        uv_timer_stop(&b->rest);
}

static void on_rest_over(uv_timer_t *t)
{
        browser_drop_spent(t->data);
}

static void spend(struct browser *b, char *context)
{
        if (b->n_spent == BROWSER_SPENT_MAX)
                browser_drop_spent(b);
        b->spent[b->n_spent++] = context;
        if (!uv_is_active((uv_handle_t *)&b->rest))
                uv_timer_start(&b->rest, on_rest_over, BROWSER_SPENT_MS, 0);
}

void page_drop(struct page *p)
{
        struct browser *b = p->b;

        if (!page_move(p, PAGE_CLOSED))
                return;
        if (b) {
                cdp_forget(b->cdp, p);
                list_remove(&p->link);
                b->n_pages--;
                if (p->session)
                        map_del(b->by_session, p->session);
                if (p->context && !b->cdp_gone) {
                        spend(b, p->context);
                        p->context = NULL;
                }
        }
        browser_proxy_close(p->proxy);
        mem_free(p->context);
        mem_free(p->target);
        mem_free(p->session);
        mem_free(p);
}

void page_lose(struct page *p, const char *code, const struct err *why)
{
        if (p->lost)
                return;
        p->lost = true;
        if (p->state == PAGE_USED && p->user.on_lost)
                p->user.on_lost(p->user.arg, code, why);
        else if (p->state != PAGE_USED)
                pool_page_failed(p, why);
}

/* ---- the opening ---- */

static void failed(struct page *p, const char *what, int rc, const struct err *e)
{
        struct err why = {0};

        if (p->lost)
                return;
        p->lost = true;
        err_set(&why, rc ? -rc : E_PROTO, "the browser could not open a page (%s): %s", what,
                e && e->msg[0] ? e->msg : err_name(rc));
        pool_page_failed(p, &why);
}

static int command(struct page *p, bool to_browser, const char *method, cJSON *params, cdp_answer *fn)
{
        return cdp_send(p->b->cdp, to_browser ? NULL : p->session, method, params, fn, p);
}

static void on_switched(void *arg, int rc, const cJSON *result, const struct err *e)
{
        struct page *p = arg;

        (void)result;
        if (rc) {
                failed(p, "setting it up", rc, e);
        } else if (--p->asked == 0 && page_move(p, PAGE_READY)) {
                pool_page_ready(p);
        }
}

/* What leaves the network to be asked about one by one: files of this machine. Everything else that is no
 * http goes nowhere, or stays within the page. */
#define PAUSE_FILES "{\"patterns\":[{\"urlPattern\":\"file:*\"}]}"

static void switch_on(struct page *p)
{
        static const struct {
                const char *method, *params;
        } all[] = {
                {"Page.enable", NULL},
                {"Page.setLifecycleEventsEnabled", "{\"enabled\":true}"},
                {"Network.enable", "{\"maxTotalBufferSize\":0,\"maxResourceBufferSize\":0}"},
                {"Inspector.enable", NULL},
                {"Fetch.enable", PAUSE_FILES},
        };
        const size_t n = sizeof all / sizeof *all;
        int rc = 0;

        p->asked = (unsigned)n;
        for (size_t i = 0; i < n && !rc; i++) {
                cJSON *params = all[i].params ? cJSON_Parse(all[i].params) : NULL;

                rc = all[i].params && !params ? -E_NOMEM
                                              : command(p, false, all[i].method, params, on_switched);
        }
        if (rc)
                failed(p, "setting it up", rc, NULL);
}

static void on_attached(void *arg, int rc, const cJSON *result, const struct err *e)
{
        struct page *p = arg;
        const char *id = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(result, "sessionId"));

        p->session = rc || !id ? NULL : mem_strdup(id);
        if (!p->session || map_put(p->b->by_session, p->session, p, NULL))
                failed(p, "session", rc ? rc : -E_NOMEM, e);
        else
                switch_on(p);
}

static void on_target(void *arg, int rc, const cJSON *result, const struct err *e)
{
        struct page *p = arg;
        const char *id = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(result, "targetId"));
        cJSON *o = cJSON_CreateObject();

        p->target = rc || !id ? NULL : mem_strdup(id);
        if (!p->target || !o || !cJSON_AddStringToObject(o, "targetId", p->target) ||
            !cJSON_AddTrueToObject(o, "flatten")) {
                cJSON_Delete(o);
                failed(p, "tab", rc ? rc : -E_NOMEM, e);
                return;
        }
        rc = command(p, true, "Target.attachToTarget", o, on_attached);
        if (rc)
                failed(p, "session", rc, NULL);
}

static void on_context(void *arg, int rc, const cJSON *result, const struct err *e)
{
        struct page *p = arg;
        const char *id = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(result, "browserContextId"));
        cJSON *o = cJSON_CreateObject(), *d = cJSON_CreateObject();

        p->context = rc || !id ? NULL : mem_strdup(id);
        if (!p->context || !o || !d || !cJSON_AddStringToObject(o, "url", "about:blank") ||
            !cJSON_AddStringToObject(o, "browserContextId", p->context) ||
            !cJSON_AddStringToObject(d, "behavior", "deny") ||
            !cJSON_AddStringToObject(d, "browserContextId", p->context)) {
                cJSON_Delete(o);
                cJSON_Delete(d);
                failed(p, "profile", rc ? rc : -E_NOMEM, e);
                return;
        }
        rc = command(p, true, "Browser.setDownloadBehavior", d, NULL);
        if (rc)
                cJSON_Delete(o);
        else
                rc = command(p, true, "Target.createTarget", o, on_target);
        if (rc)
                failed(p, "tab", rc, NULL);
}

int page_open(struct browser *b, uv_loop_t *loop, const struct policy *policy, struct err *e)
{
        struct page *p = mem_calloc(1, sizeof *p);
        cJSON *o = cJSON_CreateObject();
        char proxy[64];
        int rc = p && o ? 0 : err_set(e, E_NOMEM, "out of memory");

        if (!rc)
                rc = browser_proxy_create(loop, policy, &p->proxy, e);
        if (rc) {
                cJSON_Delete(o);
                mem_free(p);
                return rc;
        }
        snprintf(proxy, sizeof proxy, "socks5://127.0.0.1:%d", browser_proxy_port(p->proxy));
        p->b = b;
        list_push_back(&b->pages, &p->link);
        b->n_pages++;
        /* Loopback goes through the proxy as well. */
        if (!cJSON_AddStringToObject(o, "proxyServer", proxy) ||
            !cJSON_AddStringToObject(o, "proxyBypassList", "<-loopback>")) {
                cJSON_Delete(o);
                rc = err_set(e, E_NOMEM, "out of memory");
        } else {
                rc = command(p, true, "Target.createBrowserContext", o, on_context);
                if (rc)
                        err_set(e, -rc, "the browser takes no commands (%s)", err_name(rc));
        }
        if (rc)
                page_drop(p);
        return rc;
}

/* ---- use ---- */

void page_use(struct page *p, const struct page_user *u)
{
        p->user = *u;
}

int page_send(struct page *p, const char *method, cJSON *params, cdp_answer *fn, void *arg)
{
        if (p->lost || !p->b) {
                cJSON_Delete(params);
                return -E_CLOSED;
        }
        return cdp_send(p->b->cdp, p->session, method, params, fn, arg);
}

void page_forget(struct page *p, void *arg)
{
        if (p->b)
                cdp_forget(p->b->cdp, arg);
}

struct browser_proxy *page_proxy(struct page *p)
{
        return p->proxy;
}

/* The id of a tab is the id of its main frame. */
const char *page_frame(const struct page *p)
{
        return p->target;
}

void page_event(struct page *p, const char *method, const cJSON *params)
{
        struct err e = {0};

        if (strcmp(method, "Inspector.targetCrashed") == 0) {
                err_set(&e, E_UNAVAIL, "the page crashed: it may need more memory than this machine has");
                page_lose(p, "page_crashed", &e);
        } else if (p->state == PAGE_USED && !p->lost && p->user.on_event) {
                p->user.on_event(p->user.arg, method, params);
        }
}
