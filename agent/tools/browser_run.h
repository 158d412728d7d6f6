/* One call of browser.*: its page, and its actions one after the other. Private to
 * browser.c (the call), browser_actions.c (what each action does), browser_file.c
 * (pictures and PDFs to disk) and browser_kept.c (pages between calls). */
#ifndef PHOTON_AGENT_TOOLS_BROWSER_RUN_H
#define PHOTON_AGENT_TOOLS_BROWSER_RUN_H

#include "agent/tools/browser.h"
#include "agent/tools/browser_pool.h"
#include "agent/tools/browser_tab.h"
#include "agent/tools/file_in.h"
#include "common/buf.h"
#include "common/err.h"

struct browser_run {
        struct tool_call *c;
        cJSON *input;
        cJSON *actions;      /* an array: the input's, or one made of the input of a single tool */
        const cJSON *action; /* the one in hand */
        int at, n;
        bool single; /* its result stands in the outputs themselves */
        struct page_wait wait;
        struct tab *tab;
        char *session; /* the kept page it goes on with, and gives back */
        bool keep;
        cJSON *results, *result; /* result: of the action in hand */
        uint64_t action_began, began;
        uint64_t denials;   /* told of so far */
        int64_t timeout_ms; /* of the action in hand */
        int step;           /* within the action */
        double x, y;        /* a click's place */
        struct buf bytes;   /* a PDF that comes in pieces */
        char stream[64];
        struct file_work file;
        int handles; /* work under way */
        bool finished, cancelled;
        const char *failed_code;
        struct err failed_why;
};

/* ---- browser_actions.c ---- */

/* Starts an action; action_done follows, also from within. */
void browser_action_begin(struct browser_run *r);
void browser_action_event(struct browser_run *r, const char *status);
/* 0, or what is wrong with the list before anything is done. */
int browser_actions_check(const struct policy *p, const cJSON *actions, struct err *e);
/* browser.c: the action is over. code NULL: well. */
void browser_action_done(struct browser_run *r, const char *code, const struct err *e);

/* ---- browser_file.c ---- */

/* The bytes of a picture or a PDF go where the action says: into result (base64) or to a file. Takes bytes.
 * action_done follows. */
void browser_put_file(struct browser_run *r, uint8_t *bytes, size_t n);

/* ---- browser_kept.c ---- */

/* Takes a page out of those that are kept. -E_NOENT: there is none of that name. */
int browser_kept_take(const char *session, struct tab **out, struct err *e);
/* Keeps it (takes the tab). name: NULL makes one. *out: mem_free. -E_FULL: too many; the tab stays the
 * caller's. */
int browser_kept_put(uv_loop_t *loop, struct tab *t, const char *name, char **out, struct err *e);
void browser_kept_stop(void);

#endif
