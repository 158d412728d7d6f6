#include "hub/http/reply.h"

#include <stdio.h>
#include <string.h>

#include "common/json.h"
#include "common/log.h"
#include "common/mem.h"
#include "hub/http/denials.h"
#include "hub/http/idem.h"
#include "hub/http/problem.h"
#include "hub/http/request.h"
#include "hub/http/stream.h"

void reply_problem(struct http_req *q, int rc, const struct err *e)
{
        cJSON_Delete(q->json);
        q->json = NULL;
        stream_drop(q->stream);
        q->stream = NULL;
        buf_reset(&q->out);
        q->location[0] = '\0';
        q->status = (unsigned)(q->problem_status ? q->problem_status : problem_status(rc));
        if (q->status == 503 && !q->retry_after_s)
                q->retry_after_s = 2;
        if (q->status == 429 && !q->retry_after_s)
                q->retry_after_s = 1;
        if (q->status >= 500)
                log_warn("http", "request failed", "status=%u method=%s path=%s token=%s why=\"%s\"",
                         q->status, q->route ? q->route->method : "-", q->route ? q->route->pattern : "-",
                         q->known_caller ? q->caller.token_id : "-", e->msg);
        denials_note(q, q->route, q->status, e->msg);
        q->content_type = PROBLEM_TYPE;
        if (problem_write(&q->out, (int)q->status, q->problem_code, e, NULL, q->problem_extra))
                buf_reset(&q->out); /* out of memory: the status must do */
}

static void add(struct MHD_Response *r, const char *name, const char *value)
{
        MHD_add_response_header(r, name, value);
}

static void add_headers(struct http_req *q, struct MHD_Response *r, bool has_body)
{
        char n[16];

        if (has_body)
                add(r, "Content-Type", q->content_type ? q->content_type : "application/json");
        add(r, "Cache-Control", "no-store");
        add(r, "X-Content-Type-Options", "nosniff");
        if (q->redirect || q->location[0])
                add(r, "Location", q->redirect ? q->redirect : q->location);
        for (size_t i = 0; i < sizeof q->set_cookie / sizeof *q->set_cookie; i++)
                if (q->set_cookie[i])
                        add(r, "Set-Cookie", q->set_cookie[i]);
        if (q->route && q->route->flags & ROUTE_HTML) {
                add(r, "Content-Security-Policy",
                    "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; "
                    "frame-ancestors 'none'");
                add(r, "Referrer-Policy", "same-origin"); /* a form of ours says that it is */
        }
        if (q->mcp_session[0])
                add(r, "Mcp-Session-Id", q->mcp_session);
        if (q->allow[0] && q->status == 405)
                add(r, "Allow", q->allow);
        if (q->idem && q->idem->replay)
                add(r, "Idempotent-Replayed", "true");
        if (q->status == 401)
                add(r, "WWW-Authenticate",
                    req_header(q, "Authorization") ? "Bearer realm=\"photon\", error=\"invalid_token\""
                                                   : "Bearer realm=\"photon\"");
        if (q->retry_after_s) {
                snprintf(n, sizeof n, "%d", q->retry_after_s);
                add(r, "Retry-After", n);
        }
}

static void free_body(void *p)
{
        mem_free(p);
}

enum MHD_Result reply_send(struct http_req *q)
{
        struct MHD_Response *r;
        enum MHD_Result res;
        void (*answer)(struct http_req * q) = q->inner.answer;
        bool has_body;

        req_drop_body(q);
        if (answer) {
                q->inner.answer = NULL;
                answer(q);
        }
        if (!q->status)
                q->status = (unsigned)(q->route ? q->route->status : 200);
        if (q->json) {
                int rc = json_append(&q->out, q->json);

                cJSON_Delete(q->json);
                q->json = NULL;
                if (rc) {
                        struct err e;

                        err_set(&e, E_NOMEM, "no memory for the answer");
                        reply_problem(q, -E_NOMEM, &e);
                }
        }
        has_body = q->stream || q->out.len;
        if (q->stream) {
                q->streamed = true;
                r = stream_response(q->stream);
                q->stream = NULL; /* the response's now */
        } else if (q->out.len) {
                r = MHD_create_response_from_buffer_with_free_callback(q->out.len, q->out.data, free_body);
                if (r)
                        q->out = (struct buf){0};
        } else {
                r = MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
        }
        if (!r)
                return MHD_NO;
        add_headers(q, r, has_body);
        res = MHD_queue_response(q->conn, q->status, r);
        MHD_destroy_response(r);
        return res;
}
