/* tools/list and tools/call. A tool is another route of the API, asked from within: its
 * permission is checked, its handler runs, and what it would have answered becomes the
 * tool's result. So a model can do what its token can, and in no other way. */
#include <stdio.h>
#include <string.h>

#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"
#include "hub/http/denials.h"
#include "hub/http/guard.h"
#include "hub/http/jsonw.h"
#include "hub/http/mcp.h"

#define WAIT_MAX_MS 3600000
#define TAIL_BYTES  4096 /* of a call's output in its result, if not asked otherwise */

const struct route *mcp_route(const char *method, const char *pattern)
{
        size_t n;
        const struct route *r = route_table(&n);

        for (size_t i = 0; i < n; i++)
                if (strcmp(r[i].method, method) == 0 && strcmp(r[i].pattern, pattern) == 0)
                        return &r[i];
        return NULL; /* a test looks: there is none such */
}

static const struct route *route_of(const struct mcp_tool *t)
{
        return mcp_route(t->method, t->pattern);
}

static bool allowed(const struct mcp_tool *t, const struct caller *who)
{
        const struct route *r = t->pattern ? route_of(t) : NULL;

        return t->pattern ? r && guard_offers(who, r) : true;
}

/* ---- the list ---- */

static void put_tool(struct jsonw *w, const struct mcp_tool *t)
{
        jw_open(w, NULL, '{');
        jw_str(w, "name", t->name);
        if (t->title)
                jw_str(w, "title", t->title);
        jw_str(w, "description", t->description);
        jw_raw(w, "inputSchema", t->input, "{\"type\":\"object\"}");
        if (t->output)
                jw_raw(w, "outputSchema", t->output, "");
        jw_open(w, "annotations", '{');
        jw_bool(w, "readOnlyHint", t->flags & MCP_READS);
        jw_bool(w, "destructiveHint", t->flags & MCP_DESTROYS);
        jw_bool(w, "idempotentHint", t->flags & (MCP_READS | MCP_IDEMPOTENT));
        jw_bool(w, "openWorldHint", t->flags & MCP_OPEN);
        jw_close(w, '}');
        jw_close(w, '}');
}

static void put_tools(struct jsonw *w, const struct mcp_tool *t, const struct caller *who)
{
        for (; t && t->name; t++)
                if (allowed(t, who))
                        put_tool(w, t);
}

static void put_all(struct jsonw *w, void *arg)
{
        put_tools(w, mcp_tools, arg);
        if (&mcp_extra)
                put_tools(w, mcp_extra.tools, arg);
}

/* What the caller's role may not do is not offered: a model would only try it. */
int mcp_tools_list(struct http_req *q, struct mcp_call *c)
{
        return mcp_answer_list(q, c, "tools", put_all, &q->caller);
}

/* ---- results ---- */

int mcp_tool_members(struct buf *b, const char *json, size_t n, bool structured, bool failed)
{
        int rc = buf_puts(b, "\"content\":[{\"type\":\"text\",\"text\":");

        if (!rc)
                rc = json_append_str(b, json, n);
        if (!rc)
                rc = buf_printf(b, "}],\"isError\":%s", failed ? "true" : "false");
        if (!rc && structured)
                rc = buf_puts(b, ",\"structuredContent\":");
        return rc || !structured ? rc : buf_put(b, json, n);
}

static int answer_tool(struct http_req *q, struct mcp_call *c, const char *json, size_t n, bool structured,
                       bool failed)
{
        struct buf b;
        int rc;

        buf_init(&b, 0);
        rc = mcp_tool_members(&b, json, n, structured, failed);
        if (!rc)
                rc = buf_putc(&b, '\0');
        rc = rc ? mcp_no_memory(c) : mcp_answer(q, c, (const char *)b.data);
        buf_fini(&b);
        return rc;
}

int mcp_answer_tool_error(struct http_req *q, struct mcp_call *c, const char *text, const char *code)
{
        struct jsonw w;
        struct buf b;
        int rc;

        buf_init(&b, 0);
        jw_begin(&w, &b);
        jw_open(&w, NULL, '{');
        jw_open(&w, "error", '{');
        jw_str(&w, "code", code);
        jw_str(&w, "message", text);
        jw_close(&w, '}');
        jw_close(&w, '}');
        rc = jw_end(&w) ? mcp_no_memory(c) : answer_tool(q, c, (const char *)b.data, b.len, false, true);
        buf_fini(&b);
        return rc;
}

/* ---- what the route would have answered ---- */

void mcp_leave(struct http_req *q, struct mcp_call *c)
{
        q->inner.active = false;
        q->inner.answer = NULL;
        q->route = c->route;
        q->location[0] = '\0';
        q->content_type = NULL;
        q->problem_code = NULL;
        q->problem_status = 0;
        q->retry_after_s = 0;
        q->status = 200;
}

static int on_problem(struct http_req *q, struct mcp_call *c)
{
        const char *detail, *code;
        cJSON *doc = mcp_problem(q, &detail, &code);
        int rc = mcp_answer_tool_error(q, c, detail, code);

        cJSON_Delete(doc);
        return rc;
}

static int follow(struct http_req *q, struct mcp_call *c)
{
        struct err e = {0};
        cJSON *run = NULL;
        const char *id = NULL;
        int rc = json_parse((const char *)q->out.data, q->out.len, &run, &e);

        if (!rc)
                rc = json_str(run, "id", &id, &e);
        buf_reset(&q->out);
        if (!rc)
                rc = mcp_watch(q, c, id, &e);
        cJSON_Delete(run);
        if (!rc)
                return 0;
        return mcp_answer_tool_error(q, c, e.msg, err_name(rc));
}

static int on_success(struct http_req *q, struct mcp_call *c)
{
        size_t n = q->out.len;
        char *text, limit[32];
        int rc;

        if (c->tool->flags & MCP_FOLLOWS)
                return follow(q, c);
        if (n > MCP_RESULT_MAX) {
                char why[160];

                str_format_size((int64_t)MCP_RESULT_MAX, limit);
                snprintf(why, sizeof why,
                         "the answer is larger than %s: ask for less of it (steps=false, a smaller limit)",
                         limit);
                return mcp_answer_tool_error(q, c, why, "too_large");
        }
        text = buf_steal_str(&q->out);
        if (!text)
                return mcp_no_memory(c);
        rc = answer_tool(q, c, text, n, true, false);
        mem_free(text);
        return rc;
}

static int deliver(struct http_req *q, struct mcp_call *c, bool good)
{
        return good ? on_success(q, c) : on_problem(q, c);
}

/* In place of the answer that the route's handler would have sent. */
static void on_answer(struct http_req *q)
{
        struct mcp_call *c = q->inner.ctx;
        unsigned status = q->status ? q->status : (unsigned)q->route->status;
        int rc = 0;

        if (q->json) {
                rc = json_append(&q->out, q->json);
                cJSON_Delete(q->json);
                q->json = NULL;
        }
        mcp_leave(q, c);
        if (rc)
                rc = mcp_no_memory(c);
        else
                rc = c->deliver(q, c, status / 100 == 2);
        if (rc)
                mcp_answer_fault(q, c);
}

/* ---- the call ---- */

static const struct mcp_tool *find_tool(const struct mcp_tool *t, const char *name)
{
        for (; t && t->name; t++)
                if (strcmp(t->name, name) == 0)
                        return t;
        return NULL;
}

/* The next of the words in `list`; false: no more. */
static bool next_word(const char **list, char word[32])
{
        size_t n;

        if (!*list)
                return false;
        *list += strspn(*list, " ");
        n = strcspn(*list, " ");
        if (!n || n > 31)
                return false;
        memcpy(word, *list, n);
        word[n] = '\0';
        *list += n;
        return true;
}

static bool add_text(cJSON *query, const char *name, const cJSON *v)
{
        char *text;
        bool ok;

        if (cJSON_IsString(v))
                return cJSON_AddStringToObject(query, name, v->valuestring);
        text = json_text(v);
        ok = text && cJSON_AddStringToObject(query, name, text);
        mem_free(text);
        return ok;
}

/* The arguments go where the route looks for them. */
static int place(struct http_req *q, struct mcp_call *c, struct err *e)
{
        const struct mcp_tool *t = c->tool;
        const char *list = t->query;
        cJSON *body = NULL;
        char word[32], *text = NULL;
        int rc = 0;

        for (size_t i = 0; i < ROUTE_PARAMS_MAX && t->params[i]; i++) {
                const char *v = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(c->args, t->params[i]));

                if (!v || !*v)
                        return err_set(e, E_INVAL, "\"%s\" must not be empty", t->params[i]);
                q->param[i] = v;
        }
        c->query = cJSON_CreateObject();
        body = cJSON_CreateObject();
        if (!c->query || !body)
                rc = -E_NOMEM;
        while (!rc && next_word(&list, word)) {
                const cJSON *v = cJSON_GetObjectItemCaseSensitive(c->args, word);

                if (v && !cJSON_IsNull(v) && !add_text(c->query, word, v))
                        rc = -E_NOMEM;
        }
        list = t->body;
        while (!rc && next_word(&list, word)) {
                cJSON *v = cJSON_GetObjectItemCaseSensitive(c->args, word);

                if (v && !cJSON_AddItemReferenceToObject(body, word, v))
                        rc = -E_NOMEM;
        }
        if (!rc && body->child) {
                text = json_text(body);
                rc = text ? buf_puts(&q->body, text) : -E_NOMEM;
        }
        mem_free(text);
        cJSON_Delete(body);
        return rc ? err_set(e, E_NOMEM, "out of memory") : 0;
}

/* What tools that follow a run have of their own. */
static int read_waiting(struct http_req *q, struct mcp_call *c, struct err *e)
{
        const char *wait = NULL;
        int64_t tail = TAIL_BYTES;
        int rc = json_str_opt(c->args, "wait", &wait, e);

        c->wait_ms = WAIT_MAX_MS;
        if (!rc)
                rc = json_i64_opt(c->args, "tail_bytes", 0, INT32_MAX, &tail, e);
        if (!rc && wait && (str_parse_duration(wait, &c->wait_ms) || c->wait_ms > WAIT_MAX_MS))
                rc = err_set(e, E_INVAL, "\"wait\" must be a duration of at most 1h, such as 30s");
        c->tail_bytes = (size_t)tail;
        /* Before anything is begun: what runs must have somebody to tell of it. */
        return rc ? rc : req_take_place(q, e);
}

static int check_args(const struct mcp_tool *t, const cJSON *args, struct err *e)
{
        cJSON *schema = NULL;
        int rc = t->input ? json_parse(t->input, strlen(t->input), &schema, e) : 0;

        if (!rc && schema)
                rc = json_check(schema, args, e);
        cJSON_Delete(schema);
        return rc;
}

int mcp_admit(struct http_req *q, const struct mcp_call *c, const struct route *r, struct err *e)
{
        int rc;

        q->inner.query = c->query;
        q->inner.active = true;
        q->hidden = false;
        rc = guard_check(q, r, e);
        if (rc == -E_DENIED || rc == -E_NOENT)
                denials_note(q, r, rc == -E_DENIED ? 403 : 404, e->msg);
        else if (!rc)
                reads_note(q, r);
        q->inner.active = false;
        return rc;
}

/* The same questions as for a request of the route's own. */
static int enter(struct http_req *q, struct mcp_call *c, struct err *e)
{
        const struct mcp_tool *t = c->tool;
        const struct route *r = t->pattern ? route_of(t) : NULL;
        int rc = 0;

        if (r && !guard_offers(&q->caller, r)) {
                (void)guard_denied(&q->caller, r->perm, e);
                denials_note(q, r, 403, e->msg);
                return -E_DENIED;
        }
        rc = check_args(t, c->args, e);
        if (!rc && t->flags & MCP_FOLLOWS)
                rc = read_waiting(q, c, e);
        if (!rc && r && r->flags & ROUTE_CHANGES)
                rc = req_writable(q, e);
        if (!rc && r)
                rc = place(q, c, e);
        if (!rc && r)
                rc = mcp_admit(q, c, r, e);
        if (!rc && r && r->body_max && q->body.len > r->body_max)
                rc = err_set(e, E_TOOBIG, "the arguments are larger than %s takes", t->name);
        if (rc)
                return rc;
        return t->call ? t->call(q, c, e) : mcp_enter(q, c, t->method, t->pattern, e);
}

int mcp_enter(struct http_req *q, struct mcp_call *c, const char *method, const char *pattern, struct err *e)
{
        q->route = mcp_route(method, pattern);
        q->inner.query = c->query;
        q->inner.answer = on_answer;
        q->inner.active = true;
        return q->route->handler(q, e);
}

/* One tool for two routes of the same permission and the same body. */
int mcp_answer_checkpoint(struct http_req *q, struct mcp_call *c, struct err *e)
{
        const char *decision = NULL;
        int rc = json_str(c->args, "decision", &decision, e);

        if (rc)
                return rc;
        return mcp_enter(q, c, "POST",
                         strcmp(decision, "approve") == 0 ? "/api/v1/checkpoints/{id}/approve"
                                                          : "/api/v1/checkpoints/{id}/reject",
                         e);
}

int mcp_tools_call(struct http_req *q, struct mcp_call *c)
{
        const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(c->msg.params, "name"));
        struct err e = {0};
        const char *code;
        char text[200];
        int rc;

        c->args = cJSON_GetObjectItemCaseSensitive(c->msg.params, "arguments");
        if (!name)
                return mcp_fault_set(&c->fault, MCP_E_PARAMS, 200, "params.name must be the name of a tool");
        if (!c->args || cJSON_IsNull(c->args))
                c->args = c->none = cJSON_CreateObject();
        if (!c->args)
                return mcp_no_memory(c);
        if (!cJSON_IsObject(c->args))
                return mcp_fault_set(&c->fault, MCP_E_PARAMS, 200, "params.arguments must be an object");
        c->tool = find_tool(mcp_tools, name);
        if (!c->tool && &mcp_extra)
                c->tool = find_tool(mcp_extra.tools, name);
        if (!c->tool) {
                snprintf(text, sizeof text, "there is no tool '%.100s' here; tools/list names them", name);
                return mcp_answer_tool_error(q, c, text, "tool_unknown");
        }
        c->deliver = deliver;
        rc = enter(q, c, &e);
        if (!rc)
                return 0;
        code = q->problem_code ? q->problem_code : err_name(rc);
        mcp_leave(q, c);
        return c->fault.code ? -1 : mcp_answer_tool_error(q, c, e.msg[0] ? e.msg : err_name(rc), code);
}
