/* Every route of the API in one table: what it is called, who may, how large
 * its body may be, who handles it. The OpenAPI document is made from it.
 * Immutable; any thread. */
#ifndef PHOTON_HTTP_ROUTER_H
#define PHOTON_HTTP_ROUTER_H

#include <stddef.h>

#include "hub/model/access.h"

struct buf;
struct err;
struct http_req;

#define ROUTE_PARAMS_MAX 2
#define BODY_SMALL       (1u << 20)
#define BODY_CALL        (4u << 20) /* a file of 1 MiB with room for its escapes */
#define BODY_STDIN       (256u << 10)
#define BODY_LARGE       (16u << 20)

enum route_flags {
        ROUTE_LOOPBACK = 1,    /* no token needed from this machine */
        ROUTE_CHANGES = 2,     /* refused while the store cannot keep anything or the hub stops */
        ROUTE_STREAM = 4,      /* answers text/event-stream */
        ROUTE_BYTES = 8,       /* answers application/octet-stream */
        ROUTE_TEXT = 16,       /* answers text/plain */
        ROUTE_YAML = 32,       /* takes a workflow as YAML too */
        ROUTE_RAW = 64,        /* takes application/octet-stream */
        ROUTE_ANY_QUERY = 128, /* query names are checked by the handler */

        ROUTE_HTML = 16384, /* answers text/html */
        ROUTE_PAGE = 32768, /* takes the browser's session cookie for a token; nothing else does */

        /* What the route is about, and so in which project the caller must have its permission (guard.h).
         * One of these; none: the hub itself, for which a role in all projects is needed. */
        ROUTE_ANYWHERE = 256,       /* a role in any project will do */
        ROUTE_OF_RUN = 512,         /* the first parameter is a run */
        ROUTE_OF_CHECKPOINT = 1024, /* it is a checkpoint */
        ROUTE_IN_PROJECT = 2048,    /* ?project=, or the caller's usual one */
        ROUTE_LISTS = 4096,         /* shows what the caller may see: guard_projects */
        ROUTE_OF_PROJECT = 8192,    /* the first parameter is a project, or "*" */
        ROUTE_WHERE = ROUTE_ANYWHERE | ROUTE_OF_RUN | ROUTE_OF_CHECKPOINT | ROUTE_IN_PROJECT | ROUTE_LISTS |
                      ROUTE_OF_PROJECT,
};

struct route {
        const char *method;  /* GET (answers HEAD too), POST, PUT, PATCH, DELETE */
        const char *pattern; /* "/api/v1/runs/{id}" */
        enum permission perm;
        int (*handler)(struct http_req *q, struct err *e);
        size_t body_max; /* 0: none is read */
        unsigned flags;
        short status;       /* of success */
        const char *query;  /* names of query parameters, separated by a space */
        const char *answer; /* schema in the OpenAPI document, or NULL */
        const char *body;   /* schema of the body, or NULL */
        const char *summary;
};

const struct route *route_table(size_t *n);
/* Cuts `path` at the parameters (in place). -E_NOENT: no such path; -E_NOTSUP: the path
 * exists, `allow` (64 bytes) lists its methods. Parameters are never empty. */
int route_match(const char *method, char *path, const struct route **out, const char *param[ROUTE_PARAMS_MAX],
                char allow[64]);
/* Does the route take a query parameter of this name? */
bool route_takes(const struct route *r, const char *name);

/* OpenAPI 3.1 (openapi.c). */
int openapi_write(struct buf *b);

#endif
