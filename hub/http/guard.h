/* May this caller do this, there? One question for every request and every MCP tool, asked before a handler
 * runs: the permission of the route (access.h) against the role that the caller has in the project that the
 * request is about. What lies in projects of others does not exist (404); what is in one's own and not
 * allowed is 403 with the permission's name. HTTP threads. */
#ifndef PHOTON_HTTP_GUARD_H
#define PHOTON_HTTP_GUARD_H

#include <stdbool.h>

#include "hub/model/access.h"

struct caller;
struct err;
struct http_req;
struct http_thread;
struct route;

/* Uses q->param and the query; fills q->project where the request is about one. */
int guard_check(struct http_req *q, const struct route *r, struct err *e);
/* Whether guard_check could say yes to anything: for lists of what is offered. */
bool guard_offers(const struct caller *c, const struct route *r);
/* -E_DENIED, in words. */
int guard_denied(const struct caller *c, enum permission p, struct err *e);
/* Does the caller have this permission in this project ("*": everywhere)? */
bool caller_may(const struct caller *c, const char *project, enum permission p);
bool caller_may_somewhere(const struct caller *c, enum permission p);
/* For handlers whose project is in the body; "*" is all of them. */
int guard_in(struct http_req *q, const char *project, enum permission p, struct err *e);
/* The projects that a list may show, as a JSON array; *out NULL: all of them. mem_free. */
int guard_projects(struct http_req *q, enum permission p, char **out, struct err *e);

/* In which projects runs are: remembers the last answers. Zeroed before the first use. */
struct guard_runs {
        struct {
                char run[40];
                char project[PROJECT_NAME_MAX + 1]; /* "": there is no such run */
        } known[8];
        unsigned next;
};
bool guard_run_in(struct guard_runs *g, const char *project, struct http_thread *t, const char *run);
bool guard_sees_run(struct guard_runs *g, const struct caller *c, struct http_thread *t, const char *run,
                    enum permission p);

#endif
