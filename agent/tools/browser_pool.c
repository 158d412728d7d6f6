#include "agent/tools/browser_pool.h"

#include <ftw.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/policy.h"
#include "agent/tools/browser_in.h"
#include "agent/tools/env.h"
#include "agent/tools/spawn.h"
#include "agent/tools/tool.h"
#include "common/err.h"
#include "common/log.h"
#include "common/map.h"
#include "common/mem.h"
#include "common/str.h"

#define START_MS     30000 /* the first start on a slow disk reads 200 MB */
#define LAUNCH_TRIES 2     /* browsers in a row that die before a page was ready */
#define CLOSE_MS     500
#define MEMORY_MS    2000
#define SPARE_MS     200

#define TO(s) (1u << (s))
static const struct {
        const char *name;
        unsigned next;
} states[] = {
        [BROWSER_STARTING] = {"starting", TO(BROWSER_READY) | TO(BROWSER_ENDING)},
        [BROWSER_READY] = {"ready", TO(BROWSER_RETIRED) | TO(BROWSER_ENDING)},
        [BROWSER_RETIRED] = {"retired", TO(BROWSER_ENDING)},
        [BROWSER_ENDING] = {"ending", 0},
};

static struct {
        bool open, stopping;
        uv_loop_t *loop;
        const struct policy *policy;
        char *root; /* profile folders are made in it */
        struct list browsers, waiters;
        size_t n_browsers, n_waiters;
        unsigned failures; /* in a row */
        uv_idle_t turn;    /* hands pages out on a turn of its own */
        uv_timer_t rest;   /* until spare pages are opened */
        uint64_t taken_ms; /* when a page was handed out last */
} pool;

static bool move(struct browser *b, enum browser_state to)
{
        if (!(states[b->state].next & TO(to))) {
                log_error("browser", "state move refused", "from=%s to=%s", states[b->state].name,
                          states[to].name);
                return false;
        }
        b->state = to;
        return true;
}

static void serve(void);

/* ---- folders ---- */

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *f)
{
        (void)st;
        (void)f;
        (void)(kind == FTW_DP ? rmdir(path) : unlink(path));
        return 0;
}

static void remove_profile(char *dir)
{
        if (dir)
                nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
        mem_free(dir);
}

/* ---- the end of a browser ---- */

static void release(struct browser *b)
{
        if (b->handles || b->memory.working)
                return;
        remove_profile(b->profile);
        map_free(b->by_session);
        mem_free(b);
}

static void on_handle_closed(uv_handle_t *h)
{
        struct browser *b = h->data;

        b->handles--;
        release(b);
}

static void on_gone(void *arg)
{
        struct browser *b = arg;
        struct err why = {0};
        bool early = b->state == BROWSER_STARTING, wanted = b->state == BROWSER_ENDING;

        b->cdp_gone = true;
        if (!wanted) {
                const char *said = cdp_stderr(b->cdp);

                log_warn("browser", "it died", "pid=%d pages=%zu stderr=%.200s", (int)cdp_pid(b->cdp),
                         b->n_pages, said);
                err_set(&why, E_UNAVAIL, "the browser %s%s%.300s", early ? "did not start" : "died",
                        *said ? ": " : "", said);
                pool.failures += early;
        } else {
                err_set(&why, E_UNAVAIL, "the browser was ended");
        }
        LIST_EACH_SAFE (it, nx, &b->pages) {
                struct page *p = container_of(it, struct page, link);

                page_lose(p, "browser_died", &why); /* frees it, unless it is in use */
        }
        LIST_EACH_SAFE (it, nx, &b->pages) {
                struct page *p = container_of(it, struct page, link);

                list_remove(&p->link);
                p->b = NULL;
        }
        list_remove(&b->link);
        pool.n_browsers--;
        cdp_free(b->cdp);
        browser_drop_spent(b);
        uv_close((uv_handle_t *)&b->rest, on_handle_closed);
        uv_close((uv_handle_t *)&b->timer, on_handle_closed);
        uv_close((uv_handle_t *)&b->answer, on_handle_closed);
        uv_close((uv_handle_t *)&b->memory.timer, on_handle_closed);
        if (early && pool.failures >= LAUNCH_TRIES && !pool.stopping) {
                struct list *it;

                /* Nobody is kept waiting for what does not start. */
                pool.failures = 0;
                while ((it = list_pop(&pool.waiters))) {
                        struct page_wait *w = container_of(it, struct page_wait, link);

                        pool.n_waiters--;
                        w->waiting = false;
                        w->on_page(w, NULL, "browser_died", &why);
                }
        }
        serve();
}

static void end_browser(struct browser *b, bool now)
{
        if (!move(b, BROWSER_ENDING))
                return;
        uv_timer_stop(&b->timer);
        if (now)
                cdp_kill(b->cdp);
        else
                cdp_close(b->cdp, CLOSE_MS);
}

static size_t pages_used(const struct browser *b)
{
        size_t n = 0;

        LIST_EACH (it, &b->pages) {
                n += container_of(it, struct page, link)->state == PAGE_USED;
        }
        return n;
}

static void on_idle(uv_timer_t *t)
{
        struct browser *b = t->data;

        if (b->state == BROWSER_STARTING) {
                log_warn("browser", "it does not start", "pid=%d", (int)cdp_pid(b->cdp));
                cdp_kill(b->cdp); /* on_gone takes it for a failed start */
        } else if (pages_used(b) == 0) {
                end_browser(b, false);
        }
}

/* ---- memory, answers ---- */

static void work(uv_work_t *req)
{
        browser_memory_look(container_of(req, struct browser_memory, req));
}

static void after_work(uv_work_t *req, int status)
{
        struct browser_memory *m = container_of(req, struct browser_memory, req);
        struct browser *b = container_of(m, struct browser, memory);

        m->working = false;
        if (uv_is_closing((uv_handle_t *)&m->timer)) {
                release(b);
                return;
        }
        if (status || m->bytes <= BROWSER_MEMORY_MAX || b->cdp_gone)
                return;
        log_warn("browser", "it uses too much memory", "pid=%d bytes=%" PRIu64 " ends=%d", (int)m->pid,
                 m->bytes, m->largest ? (int)m->largest : (int)m->pid);
        if (m->largest)
                kill(m->largest,
                     SIGKILL); /* its page crashes, the others live; it is our child's, and not yet buried */
        else
                cdp_kill(b->cdp);
}

static void on_memory(uv_timer_t *t)
{
        struct browser *b = t->data;

        if (!b->memory.working)
                b->memory.working = uv_queue_work(pool.loop, &b->memory.req, work, after_work) == 0;
}

static void on_no_answer(uv_timer_t *t)
{
        struct browser *b = t->data;

        log_warn("browser", "it hangs", "pid=%d", (int)cdp_pid(b->cdp));
        cdp_kill(b->cdp);
}

static void on_answers(void *arg, int rc, const cJSON *result, const struct err *e)
{
        struct browser *b = arg;

        (void)result;
        (void)e;
        if (rc == -E_CLOSED)
                return;
        uv_timer_stop(&b->answer);
        serve();
}

void page_doubt(struct page *p)
{
        struct browser *b = p->b;

        if (!b || b->cdp_gone || b->state == BROWSER_ENDING || uv_is_active((uv_handle_t *)&b->answer))
                return;
        if (cdp_send(b->cdp, NULL, "Browser.getVersion", NULL, on_answers, b) == 0)
                uv_timer_start(&b->answer, on_no_answer, BROWSER_ANSWER_MS, 0);
}

void page_cut_off(struct page *p)
{
        struct browser *b = p->b;

        if (!b || b->cdp_gone || b->state == BROWSER_ENDING)
                return;
        log_warn("browser", "its pages do not reach their way out any more", "pid=%d", (int)cdp_pid(b->cdp));
        cdp_kill(b->cdp); /* on_gone tells them */
}

/* After a page was taken or given back. */
static void look_at(struct browser *b)
{
        if (pages_used(b) && !uv_is_active((uv_handle_t *)&b->memory.timer))
                uv_timer_start(&b->memory.timer, on_memory, MEMORY_MS, MEMORY_MS);
        else if (!pages_used(b))
                uv_timer_stop(&b->memory.timer);
        if (b->state == BROWSER_READY && b->served >= BROWSER_SERVED_MAX)
                move(b, BROWSER_RETIRED);
        if (pages_used(b)) {
                uv_timer_stop(&b->timer);
        } else if (b->state == BROWSER_RETIRED) {
                end_browser(b, false);
        } else if (b->state == BROWSER_READY && !uv_is_active((uv_handle_t *)&b->timer)) {
                uv_timer_start(&b->timer, on_idle, BROWSER_IDLE_MS, 0);
        }
}

/* ---- the start of one ---- */

#define DISCOVER "{\"discover\":true,\"filter\":[{\"type\":\"page\"}]}"

int browser_find(char **out, struct err *e)
{
        static const char *const names[] = {"chromium-headless-shell", "chromium", "chromium-browser",
                                            "google-chrome-stable"};

        for (size_t i = 0; i < sizeof names / sizeof *names; i++)
                if (spawn_find(names[i], getenv("PATH"), "/", out, NULL) == 0)
                        return 0;
        return err_set(
                e, E_NOENT,
                "there is no browser on this agent's PATH; install chromium-headless-shell (or chromium): "
                "apt install chromium-headless-shell");
}

/* A window that a page opened is closed again: nobody would see it, and nothing would bound it. */
static void on_target(struct browser *b, const cJSON *info)
{
        const char *id = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(info, "targetId"));
        const char *opener = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(info, "openerId"));
        cJSON *o;

        if (!id || !opener)
                return;
        o = cJSON_CreateObject();
        if (o && cJSON_AddStringToObject(o, "targetId", id))
                (void)cdp_send(b->cdp, NULL, "Target.closeTarget", o, NULL, NULL);
        else
                cJSON_Delete(o);
        LIST_EACH_SAFE (it, nx, &b->pages) {
                struct page *p = container_of(it, struct page, link);

                if (p->target && strcmp(p->target, opener) == 0)
                        page_event(p, PAGE_WINDOW, info);
        }
}

static void on_event(void *arg, const char *session, const char *method, const cJSON *params)
{
        struct browser *b = arg;
        struct page *p = *session ? map_get(b->by_session, session) : NULL;
        struct err e = {0};

        if (p) {
                page_event(p, method, params);
        } else if (!*session && strcmp(method, "Target.targetCreated") == 0) {
                on_target(b, cJSON_GetObjectItemCaseSensitive(params, "targetInfo"));
        } else if (!*session && strcmp(method, "Target.detachedFromTarget") == 0) {
                const char *id = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(params, "sessionId"));

                p = id ? map_get(b->by_session, id) : NULL;
                if (p) {
                        err_set(&e, E_UNAVAIL, "the page was closed");
                        page_lose(p, "page_crashed", &e);
                }
        }
}

static void on_version(void *arg, int rc, const cJSON *result, const struct err *e)
{
        struct browser *b = arg;

        (void)e;
        if (rc || b->state != BROWSER_STARTING)
                return; /* on_gone says the rest */
        uv_timer_stop(&b->timer);
        if (!move(b, BROWSER_READY))
                return;
        log_info("browser", "it runs", "pid=%d version=%s", (int)cdp_pid(b->cdp),
                 cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(result, "product")));
        serve();
}

static int make_env(const char *profile, char ***out, struct err *e)
{
        static const char *const homes[] = {"HOME",           "TMPDIR",        "XDG_CONFIG_HOME",
                                            "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"};
        char **env = NULL;
        int rc = env_put(&env, str_printf("PATH=%s", getenv("PATH") ? getenv("PATH") : "/usr/bin:/bin"));

        for (size_t i = 0; i < sizeof homes / sizeof *homes && !rc; i++)
                rc = env_put(&env, str_printf("%s=%s", homes[i], profile));
        if (!rc)
                rc = env_put(&env, mem_strdup("LANG=C.UTF-8"));
        if (!rc && getenv("TZ"))
                rc = env_put(&env, str_printf("TZ=%s", getenv("TZ")));
        /* The mark by which an agent finds after a crash what was left running (process_end_leftovers). */
        if (!rc)
                rc = env_put(&env, str_printf("PHOTON_OUTPUT=%s/none", profile));
        if (rc) {
                env_free(env);
                return err_set(e, E_NOMEM, "out of memory");
        }
        *out = env;
        return 0;
}

/* What Debian has in /usr/bin is a shell script that waits for the program; we start the program, so that it
 * is our own child: signals meet it, and it dies with the agent. mem_free. */
static char *program_of(const char *path)
{
        char *real = strncmp(path, "/usr/bin/", 9) == 0 ? str_printf("/usr/lib/chromium/%s", path + 9) : NULL;

        if (real && access(real, X_OK) == 0)
                return real;
        mem_free(real);
        return mem_strdup(path);
}

static int launch(struct browser *b, const char *path, struct err *e)
{
        char *data = str_printf("--user-data-dir=%s", b->profile), **env = NULL;
        char *argv[48];
        size_t n = 0;
        static const char *const flags[] = {
                "--headless", "--remote-debugging-pipe", "--disable-gpu", "--no-first-run",
                "--no-default-browser-check", "--disable-quic", "--disable-background-networking",
                "--disable-component-update", "--disable-default-apps", "--disable-sync",
                "--disable-extensions", "--disable-breakpad", "--disable-crash-reporter",
                "--disable-domain-reliability", "--disable-client-side-phishing-detection",
                "--disable-dev-shm-usage", "--mute-audio", "--hide-scrollbars", "--password-store=basic",
                ("--disable-features=Translate,MediaRouter,OptimizationHints,DnsOverHttps,"
                 "AutofillServerCommunication"),
                "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
                /* Nothing outside a page's own profile has a way out, and no name is looked up here. */
                "--proxy-server=socks5://127.0.0.1:9", "--proxy-bypass-list=<-loopback>",
                "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1", "--dns-prefetch-disable",
                "--window-size=1280,720"};
        struct cdp_options o = {.loop = pool.loop,
                                .path = path,
                                .argv = argv,
                                .cwd = b->profile,
                                .on_event = on_event,
                                .on_gone = on_gone,
                                .arg = b};
        int rc = data ? make_env(b->profile, &env, e) : err_set(e, E_NOMEM, "out of memory");

        argv[n++] = (char *)(uintptr_t)path;
        for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
                argv[n++] = (char *)(uintptr_t)flags[i];
        argv[n++] = data;
        /* Chromium's sandbox refuses root; anybody else has it. */
        if (geteuid() == 0)
                argv[n++] = (char *)(uintptr_t) "--no-sandbox";
        argv[n++] = (char *)(uintptr_t) "about:blank";
        argv[n] = NULL;
        if (!rc) {
                o.env = env;
                o.marker = env_get(env, "PHOTON_OUTPUT") - strlen("PHOTON_OUTPUT=");
                rc = cdp_start(&o, &b->cdp, e);
        }
        env_free(env);
        mem_free(data);
        return rc;
}

static int start_browser(struct err *e)
{
        struct browser *b = mem_calloc(1, sizeof *b);
        char *path = NULL, *program;
        int rc = b ? browser_find(&path, e) : err_set(e, E_NOMEM, "out of memory");

        if (rc)
                goto fail;
        list_init(&b->pages);
        b->by_session = map_create();
        b->profile = str_printf("%s/browser-XXXXXX", pool.root);
        if (!b->by_session || !b->profile) {
                rc = err_set(e, E_NOMEM, "out of memory");
                goto fail;
        }
        if (!mkdtemp(b->profile)) {
                rc = err_set(e, E_IO, "no folder for a browser's profile in %s", pool.root);
                mem_free(b->profile);
                b->profile = NULL;
                goto fail;
        }
        program = program_of(path);
        rc = program ? launch(b, program, e) : err_set(e, E_NOMEM, "out of memory");
        mem_free(program);
        if (!rc)
                rc = cdp_send(b->cdp, NULL, "Target.setDiscoverTargets", cJSON_Parse(DISCOVER), NULL, NULL);
        if (!rc)
                rc = cdp_send(b->cdp, NULL, "Browser.getVersion", NULL, on_version, b);
        if (rc && b->cdp) {
                cdp_abandon(b->cdp);
                err_set(e, E_NOMEM, "out of memory");
        }
        if (rc)
                goto fail;
        mem_free(path);
        uv_timer_init(pool.loop, &b->timer);
        uv_timer_init(pool.loop, &b->answer);
        uv_timer_init(pool.loop, &b->memory.timer);
        uv_timer_init(pool.loop, &b->rest);
        b->timer.data = b->answer.data = b->memory.timer.data = b->rest.data = b;
        b->handles = 4;
        b->memory.pid = cdp_pid(b->cdp);
        uv_timer_start(&b->timer, on_idle, START_MS, 0);
        list_push_back(&pool.browsers, &b->link);
        pool.n_browsers++;
        return 0;
fail:
        mem_free(path);
        if (b) {
                remove_profile(b->profile);
                map_free(b->by_session);
        }
        mem_free(b);
        return rc;
}

/* ---- who gets a page ---- */

/* Ready, and not asked just now whether it lives. */
static bool is_sound(const struct browser *b)
{
        return b->state == BROWSER_READY && !uv_is_active((const uv_handle_t *)&b->answer);
}

static struct page *ready_page(void)
{
        LIST_EACH (it, &pool.browsers) {
                struct browser *b = container_of(it, struct browser, link);

                if (!is_sound(b))
                        continue;
                LIST_EACH (pt, &b->pages) {
                        struct page *p = container_of(pt, struct page, link);

                        if (p->state == PAGE_READY && !p->lost)
                                return p;
                }
        }
        return NULL;
}

static size_t pages_coming(void)
{
        size_t n = 0;

        LIST_EACH (it, &pool.browsers) {
                struct browser *b = container_of(it, struct browser, link);

                if (b->state == BROWSER_STARTING)
                        n++;
                LIST_EACH (pt, &b->pages) {
                        n += is_sound(b) && container_of(pt, struct page, link)->state == PAGE_OPENING;
                }
        }
        return n;
}

static void give(struct page_wait *w, struct page *p, const char *code, const struct err *e)
{
        list_remove(&w->link);
        pool.n_waiters--;
        w->waiting = false;
        if (p) {
                page_move(p, PAGE_USED);
                pool.taken_ms = uv_now(pool.loop);
                p->b->served++;
                look_at(p->b);
        }
        w->on_page(w, p, code, e);
}

/* The browser with the fewest pages that has room, or NULL. */
static struct browser *roomiest(void)
{
        struct browser *best = NULL;

        LIST_EACH (it, &pool.browsers) {
                struct browser *b = container_of(it, struct browser, link);

                if (is_sound(b) && b->n_pages < BROWSER_PAGES_MAX && (!best || b->n_pages < best->n_pages))
                        best = b;
        }
        return best;
}

static size_t pages_ready(void)
{
        size_t n = 0;

        LIST_EACH (it, &pool.browsers) {
                struct browser *b = container_of(it, struct browser, link);

                LIST_EACH (pt, &b->pages) {
                        n += b->state == BROWSER_READY &&
                             container_of(pt, struct page, link)->state == PAGE_READY;
                }
        }
        return n;
}

static void on_rested(uv_timer_t *t)
{
        (void)t;
        serve();
}

/* Opening a page costs as much as showing one, so the spare ones are opened after a call has its page, not
 * while it begins. */
static size_t spares_wanted(void)
{
        int64_t left = (int64_t)pool.taken_ms + SPARE_MS - (int64_t)uv_now(pool.loop);

        if (left <= 0)
                return BROWSER_SPARES;
        uv_timer_start(&pool.rest, on_rested, (uint64_t)left, 0);
        return 0;
}

/* Opens what is missing: a page per waiter, and those to spare. Another browser only when all are full. */
static int open_more(struct err *e)
{
        size_t want = pool.n_waiters + spares_wanted(), coming = pages_coming() + pages_ready();
        struct browser *b;
        int rc = 0;

        while (coming < want && !rc && (b = roomiest())) {
                rc = page_open(b, pool.loop, pool.policy, e);
                coming++;
        }
        if (!rc && coming == 0 && pool.n_waiters && pool.n_browsers < BROWSERS_MAX)
                rc = start_browser(e);
        return rc;
}

static void on_turn(uv_idle_t *t)
{
        struct page *p;
        struct err e = {0};

        uv_idle_stop(t);
        while (!list_empty(&pool.waiters) && (p = ready_page()))
                give(container_of(pool.waiters.next, struct page_wait, link), p, NULL, NULL);
        if (pool.stopping || (!pool.n_browsers && !pool.n_waiters))
                return;
        if (open_more(&e)) {
                log_warn("browser", "no page", "error=%s", e.msg);
                if (!list_empty(&pool.waiters) && pages_coming() == 0)
                        give(container_of(pool.waiters.next, struct page_wait, link), NULL,
                             e.code == E_NOENT ? "browser_missing" : "browser_died", &e);
        }
}

static void serve(void)
{
        if (pool.open && !pool.stopping)
                uv_idle_start(&pool.turn, on_turn);
}

void pool_page_ready(struct page *p)
{
        pool.failures = 0;
        look_at(p->b);
        serve();
}

void pool_page_failed(struct page *p, const struct err *why)
{
        struct browser *b = p->b;

        bool opening = p->state == PAGE_OPENING;

        page_drop(p);
        if (!b || b->cdp_gone)
                return;
        if (!opening) { /* the spare one crashed: another is opened */
                serve();
                return;
        }
        /* A browser that cannot open a page is of no use to anybody. */
        log_warn("browser", "it is replaced", "pid=%d error=%s", (int)cdp_pid(b->cdp), why->msg);
        if (b->state == BROWSER_READY)
                move(b, BROWSER_RETIRED);
        look_at(b);
        serve();
}

void page_give(struct page *p)
{
        struct browser *b = p->b;

        page_drop(p);
        if (b && !b->cdp_gone)
                look_at(b);
        serve();
}

/* ---- the pool ---- */

static int open_pool(struct tool_call *c, struct err *e)
{
        const char *slash = strrchr(c->scratch_dir, '/');

        if (pool.open)
                return 0;
        pool.root = slash ? mem_strndup(c->scratch_dir, (size_t)(slash - c->scratch_dir)) : NULL;
        if (!pool.root)
                return err_set(e, E_NOMEM, "out of memory");
        pool.loop = c->loop;
        pool.policy = c->policy;
        list_init(&pool.browsers);
        list_init(&pool.waiters);
        pool.n_browsers = pool.n_waiters = 0;
        pool.failures = 0;
        pool.stopping = false;
        pool.taken_ms = 0;
        uv_idle_init(c->loop, &pool.turn);
        uv_timer_init(c->loop, &pool.rest);
        pool.open = true;
        return 0;
}

int page_want(struct tool_call *c, struct page_wait *w, struct err *e)
{
        int rc = open_pool(c, e);

        if (rc)
                return rc;
        if (pool.stopping)
                return err_set(e, E_STATE, "the agent is stopping");
        if (pool.n_waiters >= BROWSER_WAITERS)
                return err_set(e, E_FULL, "%d calls wait for a page of the browser already; try again later",
                               BROWSER_WAITERS);
        list_push_back(&pool.waiters, &w->link);
        pool.n_waiters++;
        w->waiting = true;
        serve();
        return 0;
}

void page_want_no_more(struct page_wait *w)
{
        if (!w->waiting)
                return;
        list_remove(&w->link);
        pool.n_waiters--;
        w->waiting = false;
}

static void on_turn_closed(uv_handle_t *h)
{
        (void)h;
}

void browser_pool_stop(void)
{
        if (!pool.open)
                return;
        pool.stopping = true;
        pool.open = false;
        uv_close((uv_handle_t *)&pool.turn, on_turn_closed);
        uv_close((uv_handle_t *)&pool.rest, on_turn_closed);
        LIST_EACH_SAFE (it, nx, &pool.browsers) {
                struct browser *b = container_of(it, struct browser, link);

                LIST_EACH_SAFE (pt, pnx, &b->pages) {
                        page_drop(container_of(pt, struct page, link));
                }
                if (b->state != BROWSER_ENDING)
                        end_browser(b, true);
        }
        mem_free(pool.root);
        pool.root = NULL;
}
