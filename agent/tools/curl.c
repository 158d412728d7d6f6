#include "agent/tools/curl.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <string.h>

#include "common/err.h"
#include "common/list.h"
#include "common/mem.h"

struct watch { /* one socket of libcurl's */
        uv_poll_t poll;
        curl_socket_t fd;
        struct list link;
};

static struct {
        bool loaded, open;
        struct curl_lib lib;
        uv_loop_t *loop;
        CURLM *multi;
        uv_timer_t *timer;
        struct list watches;
} g;

/* --- loading -------------------------------------------------------------- */

static const struct {
        const char *name;
        size_t offset;
} symbols[] = {
        {"curl_global_init", offsetof(struct curl_lib, global_init)},
        {"curl_easy_init", offsetof(struct curl_lib, easy_init)},
        {"curl_easy_cleanup", offsetof(struct curl_lib, easy_cleanup)},
        {"curl_easy_setopt", offsetof(struct curl_lib, easy_set)},
        {"curl_easy_getinfo", offsetof(struct curl_lib, easy_info)},
        {"curl_easy_pause", offsetof(struct curl_lib, easy_pause)},
        {"curl_easy_strerror", offsetof(struct curl_lib, easy_error)},
        {"curl_slist_append", offsetof(struct curl_lib, slist_append)},
        {"curl_slist_free_all", offsetof(struct curl_lib, slist_free_all)},
        {"curl_url", offsetof(struct curl_lib, url)},
        {"curl_url_cleanup", offsetof(struct curl_lib, url_cleanup)},
        {"curl_url_set", offsetof(struct curl_lib, url_set)},
        {"curl_url_get", offsetof(struct curl_lib, url_get)},
        {"curl_free", offsetof(struct curl_lib, free)},
        {"curl_multi_init", offsetof(struct curl_lib, multi_init)},
        {"curl_multi_cleanup", offsetof(struct curl_lib, multi_cleanup)},
        {"curl_multi_setopt", offsetof(struct curl_lib, multi_set)},
        {"curl_multi_add_handle", offsetof(struct curl_lib, multi_add)},
        {"curl_multi_remove_handle", offsetof(struct curl_lib, multi_remove)},
        {"curl_multi_socket_action", offsetof(struct curl_lib, multi_action)},
        {"curl_multi_assign", offsetof(struct curl_lib, multi_assign)},
        {"curl_multi_info_read", offsetof(struct curl_lib, multi_info)},
};

static int load(struct err *e)
{
        static const char *const names[] = {"libcurl.so.4", "libcurl-gnutls.so.4", "libcurl.so"};
        void *so = NULL;

        for (size_t i = 0; i < sizeof names / sizeof *names && !so; i++)
                so = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
        if (!so)
                return err_set(e, E_NOTSUP,
                               "libcurl is not installed on this agent; install the package libcurl4");
        for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
                void *p = dlsym(so, symbols[i].name);

                if (!p) {
                        dlclose(so);
                        return err_set(e, E_NOTSUP, "libcurl on this agent is too old: it lacks %s",
                                       symbols[i].name);
                }
                memcpy((char *)&g.lib + symbols[i].offset, &p, sizeof p);
        }
        if (g.lib.global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
                dlclose(so);
                return err_set(e, E_INTERNAL, "libcurl cannot be started");
        }
        g.loaded = true;
        return 0;
}

/* --- sockets and timer ------------------------------------------------------ */

static void report_done(void)
{
        CURLMsg *m;
        int left;

        while (g.open && (m = g.lib.multi_info(g.multi, &left))) {
                struct transfer *t = NULL;
                CURLcode result = m->data.result;
                CURL *easy = m->easy_handle;

                if (m->msg != CURLMSG_DONE)
                        continue;
                g.lib.easy_info(easy, CURLINFO_PRIVATE, (char **)&t);
                g.lib.multi_remove(g.multi, easy);
                if (t)
                        t->on_done(t, result);
        }
}

static void on_poll(uv_poll_t *p, int status, int events)
{
        struct watch *w = p->data;
        int ev = 0, running;

        if (status < 0)
                ev = CURL_CSELECT_ERR;
        if (events & UV_READABLE)
                ev |= CURL_CSELECT_IN;
        if (events & UV_WRITABLE)
                ev |= CURL_CSELECT_OUT;
        g.lib.multi_action(g.multi, w->fd, ev, &running);
        report_done();
}

static void on_timer(uv_timer_t *t)
{
        int running;

        (void)t;
        g.lib.multi_action(g.multi, CURL_SOCKET_TIMEOUT, 0, &running);
        report_done();
}

static void on_watch_closed(uv_handle_t *h)
{
        mem_free(h->data);
}

static void watch_close(struct watch *w)
{
        uv_poll_stop(&w->poll);
        list_remove(&w->link);
        uv_close((uv_handle_t *)&w->poll, on_watch_closed);
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *ctx, void *sock)
{
        struct watch *w = sock;
        int events = 0;

        (void)easy;
        (void)ctx;
        if (what == CURL_POLL_REMOVE) {
                if (w) {
                        g.lib.multi_assign(g.multi, fd, NULL);
                        watch_close(w);
                }
                return 0;
        }
        if (!w) {
                w = mem_calloc(1, sizeof *w);
                if (!w)
                        return -1;
                if (uv_poll_init(g.loop, &w->poll, fd) != 0) {
                        mem_free(w);
                        return -1;
                }
                w->fd = fd;
                w->poll.data = w;
                list_push_back(&g.watches, &w->link);
                g.lib.multi_assign(g.multi, fd, w);
        }
        if (what & CURL_POLL_IN)
                events |= UV_READABLE;
        if (what & CURL_POLL_OUT)
                events |= UV_WRITABLE;
        return uv_poll_start(&w->poll, events, on_poll) == 0 ? 0 : -1;
}

/* Called by libcurl, also from within curl_start: nothing is done here at once. */
static int on_timeout_wanted(CURLM *m, long ms, void *ctx)
{
        (void)m;
        (void)ctx;
        if (ms < 0)
                return uv_timer_stop(g.timer);
        return uv_timer_start(g.timer, on_timer, (uint64_t)ms, 0);
}

/* --- the engine ----------------------------------------------------------------- */

int curl_open(uv_loop_t *loop, const struct curl_lib **out, struct err *e)
{
        int rc = g.loaded ? 0 : load(e);

        if (rc)
                return rc;
        if (!g.open) {
                g.timer = mem_calloc(1, sizeof *g.timer);
                g.multi = g.timer ? g.lib.multi_init() : NULL;
                if (!g.multi || uv_timer_init(loop, g.timer) != 0) {
                        if (g.multi)
                                g.lib.multi_cleanup(g.multi);
                        mem_free(g.timer);
                        return err_set(e, E_NOMEM, "out of memory");
                }
                g.loop = loop;
                g.open = true;
                list_init(&g.watches);
                g.lib.multi_set(g.multi, CURLMOPT_SOCKETFUNCTION, on_socket);
                g.lib.multi_set(g.multi, CURLMOPT_TIMERFUNCTION, on_timeout_wanted);
                g.lib.multi_set(g.multi, CURLMOPT_MAXCONNECTS, 8L);
        }
        *out = &g.lib;
        return 0;
}

int curl_start(struct transfer *t, struct err *e)
{
        CURLMcode mc;

        uv_update_time(g.loop);
        g.lib.easy_set(t->easy, CURLOPT_PRIVATE, t);
        mc = g.lib.multi_add(g.multi, t->easy);
        return mc == CURLM_OK ? 0 : err_set(e, E_NOMEM, "libcurl took no further transfer (%d)", (int)mc);
}

void curl_abort(struct transfer *t)
{
        if (g.open)
                g.lib.multi_remove(g.multi, t->easy);
}

static void on_timer_closed(uv_handle_t *h)
{
        mem_free(h);
}

void curl_close(void)
{
        if (!g.open)
                return;
        g.lib.multi_cleanup(g.multi);
        /* Kept connections may have left watches. */
        while (!list_empty(&g.watches))
                watch_close(container_of(g.watches.next, struct watch, link));
        uv_close((uv_handle_t *)g.timer, on_timer_closed);
        g.multi = NULL;
        g.timer = NULL;
        g.open = false;
}
