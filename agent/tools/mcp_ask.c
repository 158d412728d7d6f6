/* What a server asks of people while it carries out a call (elicitation): a form
 * is a question with a schema, an address to open is one for permission. 2025-11-25
 * asks with a request of its own, 2026-07-28 in the answer to the call. */
#include <string.h>

#include "agent/tools/mcp_in.h"
#include "common/json.h"
#include "common/log.h"
#include "common/mem.h"

struct ask {
        struct list link; /* of the call's asks */
        struct mcp_call *call;
        uint32_t id;   /* of tool_ask */
        cJSON *rpc_id; /* legacy: whom to answer */
        char *key;     /* modern: in inputResponses */
        cJSON *schema; /* of a form, or NULL */
        cJSON *shown;  /* the same for people: what has a default need not be filled in */
};

static void ask_free(struct ask *a)
{
        list_remove(&a->link);
        cJSON_Delete(a->rpc_id);
        cJSON_Delete(a->schema);
        cJSON_Delete(a->shown);
        mem_free(a->key);
        mem_free(a);
}

/* --- answers ----------------------------------------------------------------------------- */

/* Fields that were left out get the defaults of their schema. */
static int add_defaults(cJSON *content, const cJSON *schema)
{
        const cJSON *p, *d;

        cJSON_ArrayForEach(p, cJSON_GetObjectItemCaseSensitive(schema, "properties"))
        {
                cJSON *copy;

                d = cJSON_GetObjectItemCaseSensitive(p, "default");
                if (!d || cJSON_GetObjectItemCaseSensitive(content, p->string))
                        continue;
                copy = cJSON_Duplicate(d, true);
                if (!copy || !cJSON_AddItemToObject(content, p->string, copy)) {
                        cJSON_Delete(copy);
                        return -E_NOMEM;
                }
        }
        return 0;
}

/* {action, content}; NULL: no memory. */
static cJSON *make_answer(const char *action, cJSON *content)
{
        cJSON *o = cJSON_CreateObject();

        if (o && cJSON_AddStringToObject(o, "action", action) &&
            (!content || cJSON_AddItemToObject(o, "content", content)))
                return o;
        cJSON_Delete(o);
        cJSON_Delete(content);
        return NULL;
}

static cJSON *answer_of(const struct ask *a, const struct tool_decision *d)
{
        struct err e = {0};
        cJSON *content = NULL;

        if (d->outcome == ASK_DENIED)
                return make_answer("decline", NULL);
        if (d->outcome != ASK_ALLOWED)
                return make_answer("cancel", NULL);
        if (!a->schema)
                return make_answer("accept", NULL);
        content = d->content ? cJSON_Duplicate(d->content, true) : cJSON_CreateObject();
        if (!content || add_defaults(content, a->schema)) {
                cJSON_Delete(content);
                return NULL;
        }
        if (json_check(a->schema, content, &e) == 0)
                return make_answer("accept", content);
        log_warn("mcp", "an answer does not fit what the server asked for", "server=%s error=\"%s\"",
                 a->call->server->config->name, e.msg);
        cJSON_Delete(content);
        return make_answer("cancel", NULL);
}

static void give(struct ask *a, cJSON *answer)
{
        struct mcp_call *k = a->call;
        struct mcp_server *s = k->server;

        if (!answer) {
                mcp_call_end(k, TOOL_FAILED, "out_of_memory", E_NOMEM, "the agent is out of memory");
                return;
        }
        if (a->rpc_id) {
                if (s->link && s->state == SERVER_READY)
                        jsonrpc_reply(&s->rpc, a->rpc_id, answer);
                else
                        cJSON_Delete(answer);
                return;
        }
        if (!k->responses)
                k->responses = cJSON_CreateObject();
        if (!k->responses || !cJSON_AddItemToObject(k->responses, a->key, answer)) {
                cJSON_Delete(answer);
                mcp_call_end(k, TOOL_FAILED, "out_of_memory", E_NOMEM, "the agent is out of memory");
        }
}

static void on_decision(void *arg, const struct tool_decision *d)
{
        struct ask *a = arg;
        struct mcp_call *k = a->call;
        bool modern = !a->rpc_id;

        list_remove(&a->link); /* mcp_call_end would free it */
        k->open_asks--;
        give(a, answer_of(a, d));
        ask_free(a);
        mcp_call_clock(k);
        if (modern && k->open_asks == 0 && k->state == CALL_SENT)
                mcp_call_go(k);
}

/* --- questions --------------------------------------------------------------------------------- */

static const char *text_of(const cJSON *o, const char *key)
{
        const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);

        return cJSON_IsString(v) ? v->valuestring : NULL;
}

static int copy_schema(struct ask *a, const cJSON *schema)
{
        const cJSON *properties = cJSON_GetObjectItemCaseSensitive(schema, "properties");
        cJSON *required, *next;

        a->schema = cJSON_Duplicate(schema, true);
        a->shown = cJSON_Duplicate(schema, true);
        if (!a->schema || !a->shown)
                return -E_NOMEM;
        required = cJSON_GetObjectItemCaseSensitive(a->shown, "required");
        for (cJSON *r = required ? required->child : NULL; r; r = next) {
                next = r->next;
                if (cJSON_GetObjectItemCaseSensitive(
                            cJSON_GetObjectItemCaseSensitive(properties, r->valuestring), "default"))
                        cJSON_Delete(cJSON_DetachItemViaPointer(required, r));
        }
        return 0;
}

/* 0, or why it cannot be asked. a is given up on failure. */
static int put_question(struct ask *a, const cJSON *params, const char **why)
{
        struct mcp_call *k = a->call;
        const char *mode = text_of(params, "mode"), *message = text_of(params, "message");
        const cJSON *schema = cJSON_GetObjectItemCaseSensitive(params, "requestedSchema");
        bool url = mode && strcmp(mode, "url") == 0;
        struct tool_question q = {.kind = url ? ASK_PERMISSION : ASK_INPUT,
                                  .action = url ? "fetch" : "other",
                                  .title = message,
                                  .tool = k->tool->original,
                                  .arguments = params};
        int rc = 0;

        *why = NULL;
        if (!message || (mode && !url && strcmp(mode, "form") != 0) || (url && !text_of(params, "url")) ||
            (!url && (!cJSON_IsObject(schema) || json_check_schema(schema, NULL) != 0)))
                *why = "the question is malformed";
        if (!*why && !url && copy_schema(a, schema))
                *why = "the agent is out of memory";
        q.schema = a->shown;
        if (!*why)
                rc = tool_ask(k->c, &q, on_decision, a, &a->id);
        if (rc)
                *why = rc == -E_FULL ? "too many questions are open" : "the agent is out of memory";
        if (*why) {
                ask_free(a);
                return -E_INVAL;
        }
        list_push_back(&k->asks, &a->link);
        k->open_asks++;
        mcp_call_clock(k);
        return 0;
}

static struct ask *ask_make(struct mcp_call *k)
{
        struct ask *a = mem_calloc(1, sizeof *a);

        if (a) {
                list_init(&a->link);
                a->call = k;
        }
        return a;
}

void ask_request(struct mcp_server *s, const struct jsonrpc_msg *m, uint64_t request)
{
        struct mcp_call *k = mcp_call_of(s, request);
        const char *why = "the agent is out of memory";
        struct ask *a = k ? ask_make(k) : NULL;

        if (!k) { /* nobody to ask for whom */
                jsonrpc_reply(&s->rpc, m->id, make_answer("cancel", NULL));
                return;
        }
        if (a && !(a->rpc_id = cJSON_Duplicate(m->id, false))) {
                ask_free(a);
                a = NULL;
        }
        if (a && put_question(a, m->params, &why) == 0)
                return;
        jsonrpc_reply_error(&s->rpc, m->id, JSONRPC_INVALID_PARAMS, why);
}

void ask_cancelled(struct mcp_server *s, const cJSON *params)
{
        const cJSON *id = cJSON_GetObjectItemCaseSensitive(params, "requestId");

        LIST_EACH (c, &s->calls) {
                struct mcp_call *k = container_of(c, struct mcp_call, link);

                LIST_EACH (it, &k->asks) {
                        struct ask *a = container_of(it, struct ask, link);

                        if (!id || !cJSON_Compare(a->rpc_id, id, true))
                                continue;
                        tool_ask_withdraw(k->c, a->id);
                        k->open_asks--;
                        ask_free(a);
                        mcp_call_clock(k);
                        return;
                }
        }
}

void ask_inputs(struct mcp_call *k, const cJSON *inputs)
{
        const cJSON *i;

        cJSON_ArrayForEach(i, inputs)
        {
                const char *method = text_of(i, "method"), *why = "the agent is out of memory";
                const cJSON *params = cJSON_GetObjectItemCaseSensitive(i, "params");
                struct ask *a;

                if (!method || strcmp(method, "elicitation/create") != 0) {
                        mcp_call_end(k, TOOL_FAILED, "input_unsupported", E_NOTSUP,
                                     "%s asks for %.60s, which this agent does not do", k->tool->original,
                                     method ? method : "something");
                        return;
                }
                a = ask_make(k);
                if (a && !(a->key = mem_strdup(i->string))) {
                        ask_free(a);
                        a = NULL;
                }
                if (!a || put_question(a, params, &why)) {
                        mcp_call_end(k, TOOL_FAILED, "bad_answer", E_PROTO,
                                     "%s asks what cannot be asked: %s", k->tool->original, why);
                        return;
                }
        }
        if (k->open_asks == 0 && k->state == CALL_SENT) /* only the state is to go back */
                mcp_call_go(k);
}

void ask_end(struct mcp_call *k)
{
        while (!list_empty(&k->asks)) {
                struct ask *a = container_of(k->asks.next, struct ask, link);

                tool_ask_withdraw(k->c, a->id);
                ask_free(a);
        }
        k->open_asks = 0;
}
