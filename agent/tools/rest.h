/* One JSON request after the other to an endpoint's REST interface, over
 * libcurl on the loop. The holder owns the struct. Loop thread. */
#ifndef PHOTON_AGENT_TOOLS_REST_H
#define PHOTON_AGENT_TOOLS_REST_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <uv.h>

#include "agent/tools/curl.h"
#include "agent/tools/guard.h"
#include "agent/tools/models.h"
#include "common/buf.h"

struct policy;

#define REST_BODY_MAX ((size_t)8 << 20)

struct rest_answer {
        const cJSON *doc; /* lent; NULL: there is none */
        const char *code; /* NULL: status 2xx and JSON */
        struct err why;
        bool passes;      /* by itself: it may be tried again */
        int64_t after_ms; /* as Retry-After says; -1: it does not */
};

struct rest {
        const struct endpoint *ep;
        const struct policy *policy;
        uv_loop_t *loop;
        const char *key_header, *key;                              /* lent; key NULL: none */
        void (*on_answer)(void *arg, const struct rest_answer *a); /* never from within rest_send */
        void *arg;
        /* inside */
        const struct curl_lib *lib;
        struct transfer t;
        struct curl_slist *headers;
        struct guard guard;
        struct buf got;
        char *url, *sent;
        bool in_flight, too_large;
};

/* path: "/sessions" below base_url. body NULL: GET. One at a time. -E_DENIED by the policy, -E_NOMEM ... */
int rest_send(struct rest *r, const char *path, const cJSON *body, struct err *e);
/* Ends what is in flight, without an answer. */
void rest_stop(struct rest *r);
void rest_fini(struct rest *r);

#endif
