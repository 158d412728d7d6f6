/* Browsers that are kept warm, and pages in them.
 *
 * A page is a fresh profile: a browser context of its own (cookies, storage,
 * cache, permissions; nothing on disk) with one tab and one way out (its
 * proxy). BROWSER_SPARES pages wait ready, so that a call finds one opened. A few processes serve all pages;
 * each is replaced when it has served SERVED_MAX, uses too much memory, hangs or dies, and ends when nobody
 * has needed it for IDLE_MS. Profile folders lie in the agent's scratch folder, processes carry its mark:
 * after kill -9 of the agent both go at its next start.
 *
 *   browser:  STARTING -> READY -> RETIRED -> ENDING -> (gone)
 *   page:     OPENING -> READY -> USED -> CLOSED
 *
 * Loop thread only; one pool per process. */
#ifndef PHOTON_AGENT_TOOLS_BROWSER_POOL_H
#define PHOTON_AGENT_TOOLS_BROWSER_POOL_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/tools/cdp.h"
#include "common/list.h"

struct browser_proxy;
struct err;
struct page;
struct tool_call;

#define BROWSERS_MAX       2
#define BROWSER_PAGES_MAX  8 /* of one browser */
#define BROWSER_SPARES     2
#define BROWSER_SERVED_MAX 200 /* pages; then a fresh process */
#define BROWSER_IDLE_MS    60000
#define BROWSER_WAITERS    256

#define BROWSER_ANSWER_MS  10000               /* one that does not answer for so long hangs */
#define BROWSER_MEMORY_MAX ((uint64_t)2 << 30) /* of one browser with all its processes */

/* An event of our own: {"url"}, a window that the page opened was closed. */
#define PAGE_WINDOW "photon.window"

/* Who uses a page. Callbacks from the loop. */
struct page_user {
        void (*on_event)(void *arg, const char *method, const cJSON *params);
        /* It is gone; code: "browser_died", "page_crashed". page_give is still to be called. */
        void (*on_lost)(void *arg, const char *code, const struct err *why);
        void *arg;
};

/* Embedded by who waits for a page. */
struct page_wait {
        struct list link;
        bool waiting;
        /* p NULL: there is none, code and e say why. */
        void (*on_page)(struct page_wait *w, struct page *p, const char *code, const struct err *e);
        void *data;
};

/* Asks for a page; on_page comes from the loop, never from within. Everything shared is set up with the first
 * call. -E_NOENT: no browser on this machine; -E_DENIED; -E_FULL: too many wait. */
int page_want(struct tool_call *c, struct page_wait *w, struct err *e);
void page_want_no_more(struct page_wait *w);

/* The holder of the moment; before it nothing of the page is heard. */
void page_use(struct page *p, const struct page_user *u);
int page_send(struct page *p, const char *method, cJSON *params, cdp_answer *on_answer, void *arg);
void page_forget(struct page *p, void *arg);
struct browser_proxy *page_proxy(struct page *p);
const char *page_frame(const struct page *p); /* id of its main frame */
/* It did not answer in time: does its browser? One that does not is replaced. */
void page_doubt(struct page *p);
/* Its way out is there and the browser does not find it: no page of that browser has one any more. It is
 * killed, which loses them all. */
void page_cut_off(struct page *p);
/* The page ends with all that is in it. */
void page_give(struct page *p);

/* A browser on this machine? path: mem_free. */
int browser_find(char **out, struct err *e);
/* Everything ends: no call is live. The loop runs on until the processes are gone. */
void browser_pool_stop(void);

#endif
