/* One request, from its header to its answer.
 *
 *   HTTP thread: handler(q) -> answers at once,
 *                           or req_hop(q, on_loop, after): the connection is suspended,
 *   loop thread:                on_loop(q) ... req_done(q, rc, e): it is resumed,
 *   HTTP thread: after(q) -> answers (or hops again).
 *
 * Fields belong to the HTTP thread, except between req_hop and req_done, when
 * they are the loop's; the suspension is the hand-over. A request is counted:
 * one for the connection, one for the loop while it has it, one for each
 * callback that the engine owes (req_owe, req_paid), so a client that goes
 * away, or a hub that stops, never pulls memory from under a callback. */
#ifndef PHOTON_HTTP_REQUEST_H
#define PHOTON_HTTP_REQUEST_H

#include <cjson/cJSON.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/mailbox.h"
#include "hub/auth/auth.h"
#include "hub/http/core.h"
#include "hub/http/router.h"

struct idem;
struct stream;

enum req_end { REQ_ANSWERED, REQ_TIMED_OUT, REQ_GONE, REQ_STOPPING };

/* A request inside of a request: the handler of another route does a part of this one (MCP's tools).
 * While it is `active` the query is `query`, there are no headers and the body is JSON. */
struct req_inner {
        bool active;
        const cJSON *query; /* an object of strings; lent */
        /* HTTP thread, once: looks at the answer that would be sent and makes another of it. */
        void (*answer)(struct http_req *q);
        void *ctx;
        void (*free)(void *ctx); /* of ctx, with the request */
};

struct http_req {
        struct http *h;
        struct MHD_Connection *conn;
        struct watch *watch;
        int fd;
        const struct route *route;
        char *path;
        const char *param[ROUTE_PARAMS_MAX]; /* into path */
        struct caller caller;
        char project[PROJECT_NAME_MAX + 1]; /* what the request is about (guard.h); "": no single one */
        bool known_caller;
        unsigned known_changes; /* http.token_changes when that was found out */
        bool hidden;            /* answered 404 because the caller has no role where it lies */
        struct buf body;
        int64_t started_us;

        /* The answer: a status with `json` or `out`, or a stream. */
        unsigned status; /* 0: the route's own */
        cJSON *json;     /* owned; printed on the HTTP thread */
        struct buf out;
        const char *content_type; /* NULL: application/json */
        char location[192];
        char *redirect;      /* owned; in place of `location` */
        char *set_cookie[2]; /* owned */
        char mcp_session[40];
        struct idem *idem; /* the request has an Idempotency-Key (idem.h) */
        int retry_after_s;
        struct stream *stream;    /* owned until queued */
        bool streamed;            /* it was queued: the answer took as long as it liked */
        const char *problem_code; /* NULL: the error's own */
        int problem_status;       /* 0: by the error */
        char problem_extra[160];

        struct req_inner inner;

        /* What a handler keeps between its parts; free_state is called once, on any thread. */
        void *state;
        void (*free_state)(void *state);

        /* The hop. */
        void (*on_loop)(struct http_req *q);
        int (*after)(struct http_req *q, struct err *e);
        void (*on_gone)(struct http_req *q); /* [loop] abandoned: forget waiters */
        int rc;
        struct err err;
        enum req_end end;

        /* Inside of request.c */
        struct list link; /* [loop] http.waiting */
        struct mail mail;
        atomic_int refs;
        atomic_int parked;
        bool hopping; /* the handler asked for a hop */
        bool hopped;
        bool over;           /* [loop] answered; later callbacks only pay */
        int owed;            /* [loop] callbacks the engine has yet to make */
        bool counted;        /* against max_streams */
        int64_t deadline_ms; /* [loop] 0: none */
        size_t body_limit, drained, body_counted;
        int refused; /* -E_*: answer with `err` as soon as allowed */
        bool first_seen, allow_set;
        char allow[64];
};

/* ---- HTTP thread ---- */
struct store_reader *req_reader(struct http_req *q, struct err *e); /* NULL: e says why */
const char *req_query(struct http_req *q, const char *name);        /* NULL: absent; lent */
int req_query_bool(struct http_req *q, const char *name, bool def, bool *out, struct err *e);
int req_query_i64(struct http_req *q, const char *name, int64_t min, int64_t max, int64_t *io, struct err *e);
int req_query_ms(struct http_req *q, const char *name, int64_t max, int64_t *io, struct err *e);
const char *req_header(struct http_req *q, const char *name);
const char *req_cookie(struct http_req *q, const char *name);
/* The body as a JSON object whose members are all in `keys` (NULL-ended); an empty
 * body is {} if `may_be_empty`. */
int req_body_json(struct http_req *q, const char *const *keys, bool may_be_empty, cJSON **out, struct err *e);
bool req_body_is(struct http_req *q, const char *media_type);
/* Once it is parsed: waits are long and bodies large. */
void req_drop_body(struct http_req *q);
/* Refuses while the store cannot keep anything (-E_NOSPACE ...); asked before every route that changes state.
 */
int req_writable(struct http_req *q, struct err *e);
/* A login is begun: counted with the guesses of its address, since each makes the hub ask its provider. */
int req_limit_login(struct http_req *q, struct err *e);
/* Takes a place among the streams and waits; given back with the request. -E_FULL. */
int req_take_place(struct http_req *q, struct err *e);
/* Hands over to the loop when the handler returns 0. */
void req_hop(struct http_req *q, void (*on_loop)(struct http_req *q),
             int (*after)(struct http_req *q, struct err *e));
/* Of the peer, as text; "" if it is not known. */
#define REQ_ADDRESS_MAX 64
void req_address(const struct http_req *q, char out[REQ_ADDRESS_MAX]);
void req_keep(struct http_req *q, void *state, void (*free_state)(void *state));
/* One page of an array of objects sorted by the string member `key` (cursor: its last value). Takes `all`. */
int req_page(struct http_req *q, cJSON *all, const char *key, struct err *e);
int req_page_args(struct http_req *q, int64_t *limit, const char **cursor, struct err *e);

/* ---- loop thread ---- */
void req_done(struct http_req *q, int rc, const struct err *e);
void req_deadline(struct http_req *q, int64_t after_ms, void (*on_gone)(struct http_req *q));
void req_owe(struct http_req *q);
bool req_paid(struct http_req *q); /* false: nobody waits any more; q may be gone */
/* engine_answer for struct http_req: the change is durable. */
void req_on_answer(void *arg, int rc, const struct err *e);

/* A record in a commit of its own; what has an effect writes it in that one instead. */
void http_audit(struct http *h, const char *who, const char *action, const char *object,
                const char *detail_json);

void req_unref(struct http_req *q);

#endif
