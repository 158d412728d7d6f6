/* Between browser_pool.c (processes, who gets a page) and browser_page.c (a page's opening and end). */
#ifndef PHOTON_AGENT_TOOLS_BROWSER_IN_H
#define PHOTON_AGENT_TOOLS_BROWSER_IN_H

#include <stdint.h>
#include <uv.h>

#include "agent/tools/browser_pool.h"

/* Looking at what a browser's processes hold: now and then while pages are used, on a pool thread. */
struct browser_memory {
        uv_work_t req;
        uv_timer_t timer;
        bool working;
        pid_t pid; /* and session */
        uint64_t bytes;
        pid_t largest; /* of its renderers; 0: none */
};

struct policy;

enum browser_state { BROWSER_STARTING, BROWSER_READY, BROWSER_RETIRED, BROWSER_ENDING };

/* Dropping a context costs a browser as much as showing a page: it waits until the call's answer is out. */
#define BROWSER_SPENT_MAX 8
#define BROWSER_SPENT_MS  60

struct browser {
        struct list link; /* pool.browsers */
        enum browser_state state;
        struct cdp *cdp;
        char *profile;
        struct list pages; /* all of it, whatever their state */
        size_t n_pages, served;
        struct map *by_session;
        uv_timer_t timer;  /* start-up, then idleness */
        uv_timer_t answer; /* it was asked whether it lives */
        struct browser_memory memory;
        int handles;
        bool cdp_gone;
        char *spent[BROWSER_SPENT_MAX]; /* contexts to drop; nothing of them reaches the network any more */
        size_t n_spent;
        uv_timer_t rest; /* until they are */
};

enum page_state { PAGE_OPENING, PAGE_READY, PAGE_USED, PAGE_CLOSED };

struct page {
        struct list link;  /* browser.pages */
        struct browser *b; /* NULL: it is gone */
        enum page_state state;
        char *context, *target, *session;
        struct browser_proxy *proxy;
        struct page_user user;
        unsigned asked; /* answers that its opening still waits for */
        bool lost;
};

/* browser_page.c */
int page_open(struct browser *b, uv_loop_t *loop, const struct policy *policy, struct err *e);
bool page_move(struct page *p, enum page_state to);
/* Takes it out of its browser and frees it; the browser, if it lives, is told to drop the context. */
void page_drop(struct page *p);
void browser_drop_spent(struct browser *b); /* the contexts that wait for it, now */
/* Its browser died, or the page did: the user is told. */
void page_lose(struct page *p, const char *code, const struct err *why);
void page_event(struct page *p, const char *method, const cJSON *params);

/* browser_memory.c */
void browser_memory_look(struct browser_memory *m); /* fills bytes and largest; any thread */

/* browser_pool.c */
void pool_page_ready(struct page *p);
void pool_page_failed(struct page *p, const struct err *why); /* drops it */

#endif
