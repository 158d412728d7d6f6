/* A page in use: where it is, what it is doing, and the things that can be asked of
 * it, one at a time. Knows the protocol's commands and events; knows nothing of
 * tool calls, so that a page can be kept between two of them.
 *
 * Everything that is asked is answered once, from the loop: `done` with code NULL
 * and a value, or with a stable code and why. Scripts of ours run in a world of
 * their own, where the page's scripts can change nothing. Loop thread only. */
#ifndef PHOTON_AGENT_TOOLS_BROWSER_TAB_H
#define PHOTON_AGENT_TOOLS_BROWSER_TAB_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "agent/tools/browser_pool.h"
#include "common/err.h"

struct policy;
struct tab;

enum tab_until { TAB_COMMIT, TAB_DOM, TAB_LOAD, TAB_IDLE };

/* value is lent; NULL where there is none. */
typedef void tab_done(void *arg, const char *code, const struct err *e, const cJSON *value);

struct tab_user {
        /* Something people may want to know: level as in event_log. */
        void (*on_note)(void *arg, const char *level, const char *text);
        /* The page is gone while nothing was asked of it (otherwise `done` says so). */
        void (*on_lost)(void *arg, const char *code, const struct err *e);
        void *arg;
};

/* Takes the page, also on failure. -E_NOMEM. */
int tab_create(uv_loop_t *loop, const struct policy *policy, struct page *page, struct tab **out);
/* Gives the page back; what was asked is not answered any more. Freed by itself. Accepts NULL. */
void tab_close(struct tab *t);
void tab_use(struct tab *t, const struct tab_user *u); /* NULL: nobody */
bool tab_is_lost(const struct tab *t);

/* What may be opened at all: http and https, and what the policy adds. -E_DENIED ("url_denied"), -E_INVAL. */
int tab_permit_url(const struct tab *t, const char *url, struct err *e);
void tab_goto(struct tab *t, const char *url, enum tab_until until, int64_t timeout_ms, tab_done *done,
              void *arg);
/* Until the document (or the one that is on its way) is so far. */
void tab_wait(struct tab *t, enum tab_until until, int64_t timeout_ms, tab_done *done, void *arg);
/* Calls a function (its source) with arguments (array, taken) in our own world; a promise is waited for. If
 * the page moves on meanwhile it is called again in the new document. On time-out the code is `late`. */
void tab_call(struct tab *t, const char *function, cJSON *args, int64_t timeout_ms, const char *late,
              tab_done *done, void *arg);
/* One command (params taken), its result. */
void tab_command(struct tab *t, const char *method, cJSON *params, int64_t timeout_ms, tab_done *done,
                 void *arg);
/* A command before it (params taken), whose answer nobody waits for. */
void tab_send_first(struct tab *t, const char *method, cJSON *params);
void tab_stop(struct tab *t); /* what was asked is not answered any more */

bool tab_is_moving(const struct tab *t);     /* another document is on its way */
unsigned tab_documents(const struct tab *t); /* how many it has had: another number, another document */
int tab_status(const struct tab *t);         /* HTTP status of the document; 0: it had none */
struct browser_proxy *tab_proxy(struct tab *t);
void tab_dialogs(struct tab *t, bool accept); /* what confirm() and prompt() get; alert() is always closed */

#endif
