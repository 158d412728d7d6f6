/* A workflow inside a request's body: YAML as the body itself, or JSON with the
 * workflow as text or as an object, whose mistakes keep their place in the body. HTTP thread. */
#ifndef PHOTON_HTTP_WORKFLOW_BODY_H
#define PHOTON_HTTP_WORKFLOW_BODY_H

#include <cjson/cJSON.h>
#include <stddef.h>

struct err;
struct http_req;
struct workflow;

struct workflow_body {
        cJSON *doc; /* the JSON body, or NULL for YAML */
        char *text; /* mem_free'd */
        size_t len;
        struct workflow *wf; /* NULL when it did not parse */
};

/* -E_*: the request itself is malformed. A workflow that does not parse: 0 when
 * `mistake` is given (filled), else its error. */
int workflow_body_read(struct http_req *q, const char *const *keys, struct workflow_body *out,
                       struct err *mistake, struct err *e);
void workflow_body_fini(struct workflow_body *b);

#endif
