#include "hub/http/workflow_body.h"

#include <string.h>

#include "common/json.h"
#include "common/json_scan.h"
#include "common/mem.h"
#include "hub/http/request.h"
#include "hub/model/workflow.h"

/* Finds the value of the top-level member "workflow" in the text that cJSON no longer has. */
struct slice {
        const char *start, *end;
        int line, col;
        int depth;
        bool next, inside;
};

static int on_token(void *ctx, const struct json_token *t)
{
        struct slice *s = ctx;

        if (s->next && !s->inside && t->kind == JSON_TOK_OBJ) {
                s->start = t->text;
                s->line = t->line;
                s->col = t->col;
                s->inside = true;
        }
        s->next = t->kind == JSON_TOK_KEY && s->depth == 1 && t->len == 8 &&
                  memcmp(t->text, "workflow", 8) == 0;
        if (t->kind == JSON_TOK_OBJ || t->kind == JSON_TOK_ARR)
                s->depth++;
        if (t->kind == JSON_TOK_OBJ_END || t->kind == JSON_TOK_ARR_END) {
                s->depth--;
                if (s->inside && s->depth == 1) {
                        s->end = t->text + 1;
                        return 1;
                }
        }
        return 0;
}

static int from_object(struct http_req *q, struct workflow_body *b, struct slice *s)
{
        if (json_scan((const char *)q->body.data, q->body.len, on_token, s, NULL) == 1 && s->start &&
            s->end) {
                b->len = (size_t)(s->end - s->start);
                b->text = mem_strndup(s->start, b->len);
        } else {
                /* Its key was written with escapes: positions are then of the compact text. */
                *s = (struct slice){0};
                b->text = json_text(cJSON_GetObjectItemCaseSensitive(b->doc, "workflow"));
                b->len = b->text ? strlen(b->text) : 0;
        }
        return b->text ? 0 : -E_NOMEM;
}

static int read_json(struct http_req *q, const char *const *keys, struct workflow_body *b, struct slice *s,
                     struct err *e)
{
        const cJSON *wf;
        int rc = req_body_json(q, keys, false, &b->doc, e);

        if (rc)
                return rc;
        wf = cJSON_GetObjectItemCaseSensitive(b->doc, "workflow");
        if (cJSON_IsString(wf)) {
                b->text = mem_strdup(wf->valuestring);
                b->len = b->text ? strlen(b->text) : 0;
        } else if (cJSON_IsObject(wf)) {
                (void)from_object(q, b, s);
        } else {
                return err_set(e, E_INVAL,
                               "\"workflow\" must be the workflow's text, or the workflow as an object");
        }
        return b->text ? 0 : err_set(e, E_NOMEM, "out of memory");
}

static bool is_yaml(struct http_req *q)
{
        return req_body_is(q, "application/yaml") || req_body_is(q, "application/x-yaml") ||
               req_body_is(q, "text/yaml") || req_body_is(q, "text/x-yaml");
}

static int read_yaml(struct http_req *q, struct workflow_body *b, struct err *e)
{
        if (q->body.len && memchr(q->body.data, 0, q->body.len))
                return err_set(e, E_INVAL, "the workflow holds a NUL byte");
        b->text = mem_strndup(q->body.len ? (const char *)q->body.data : "", q->body.len);
        b->len = q->body.len;
        return b->text ? 0 : err_set(e, E_NOMEM, "out of memory");
}

int workflow_body_read(struct http_req *q, const char *const *keys, struct workflow_body *b,
                       struct err *mistake, struct err *e)
{
        struct slice s = {0};
        struct err wrong = {0};
        int rc;

        *b = (struct workflow_body){0};
        if (is_yaml(q)) {
                rc = read_yaml(q, b, e);
        } else {
                rc = read_json(q, keys, b, &s, e);
                if (q->problem_status == 415)
                        err_set(e, E_INVAL, "send the workflow as application/json or application/yaml");
        }
        if (rc)
                goto fail;
        rc = workflow_parse(b->text, b->len, &b->wf, &wrong);
        if (!rc)
                return 0;
        if (s.line && wrong.line) {
                wrong.col += wrong.line == 1 ? s.col - 1 : 0;
                wrong.line += s.line - 1;
        }
        if (mistake && rc != -E_NOMEM) {
                *mistake = wrong;
                return 0;
        }
        *e = wrong;
fail:
        workflow_body_fini(b);
        return rc;
}

void workflow_body_fini(struct workflow_body *b)
{
        cJSON_Delete(b->doc);
        mem_free(b->text);
        workflow_free(b->wf);
        *b = (struct workflow_body){0};
}
