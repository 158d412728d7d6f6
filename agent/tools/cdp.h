/* A browser that is spoken to in the Chrome DevTools Protocol over its pipe.
 *
 * cdp owns the process (stdio_peer) and everything that is in flight. A command
 * goes to the browser (session NULL) or to a page's session; its answer comes
 * back once, also when the browser dies first. Answers and events are handed
 * over from the loop, never from within a function of this header. A holder
 * that goes away forgets its answers with cdp_forget. Loop thread only. */
#ifndef PHOTON_AGENT_TOOLS_CDP_H
#define PHOTON_AGENT_TOOLS_CDP_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#include "agent/tools/jsonrpc.h"

struct cdp;
struct err;

#define CDP_MESSAGE_MAX ((size_t)96 << 20) /* a screenshot of a very long page, as base64 */
#define CDP_WAITING_MAX 4096               /* commands without an answer, of all pages */

struct cdp_options {
        uv_loop_t *loop;
        const char *path; /* these are lent for the call, as in stdio_peer.h */
        char *const *argv, *const *env;
        const char *cwd, *marker;
        /* session: "" for the browser itself. params may be NULL. */
        void (*on_event)(void *arg, const char *session, const char *method, const cJSON *params);
        /* Gone with all its processes, every answer has been given. The last callback. */
        void (*on_gone)(void *arg);
        void *arg;
};

/* rc 0: result (an object). -E_INVAL: the browser refused, e says why. -E_CLOSED: it died. All lent. */
typedef void cdp_answer(void *arg, int rc, const cJSON *result, const struct err *e);

int cdp_start(const struct cdp_options *o, struct cdp **out, struct err *e);
/* params are taken, also on failure, and may be NULL. on_answer may be NULL. -E_CLOSED, -E_FULL, -E_NOMEM:
 * no answer comes. */
int cdp_send(struct cdp *c, const char *session, const char *method, cJSON *params, cdp_answer *on_answer,
             void *arg);
/* Nobody wants the answers any more that were to go to this arg. */
void cdp_forget(struct cdp *c, void *arg);
/* Kills it with all its processes; on_gone follows. */
void cdp_kill(struct cdp *c);
/* Closes its input: it ends by itself; killed after grace_ms. on_gone follows. */
void cdp_close(struct cdp *c, int grace_ms);
/* The holder goes: killed, freed by itself, no more callbacks. Accepts NULL. */
void cdp_abandon(struct cdp *c);
void cdp_free(struct cdp *c); /* in or after on_gone; accepts NULL */
pid_t cdp_pid(const struct cdp *c);
/* The last of what it wrote to standard error; lent until the next call. */
const char *cdp_stderr(struct cdp *c);

/* One message; text is written to. *session points into m->tree, "" if it has none. -E_PROTO, -E_NOMEM. */
int cdp_read(char *text, size_t n, struct jsonrpc_msg *m, const char **session, struct err *e);

#endif
