/* session/request_permission: the agent's question becomes one of the call's, and the answer one of its
 * options. Options are chosen by their kind; their ids mean nothing to anybody but the agent. */
#include "agent/tools/acp_in.h"

#include <string.h>

#include "common/json.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/str.h"

#define PATHS_MAX 64

/* A question that the agent waits for. */
struct ask {
        struct list link; /* in acp.asks */
        struct acp *x;
        cJSON *id, *options;
        char *use; /* the tool use that is asked about */
        uint32_t number;
};

static const char *text(const cJSON *o, const char *key)
{
        const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);

        return cJSON_IsString(v) ? v->valuestring : NULL;
}

static void ask_free(struct ask *q)
{
        list_remove(&q->link);
        cJSON_Delete(q->id);
        cJSON_Delete(q->options);
        mem_free(q->use);
        mem_free(q);
}

/* --- the answer --------------------------------------------------------------- */

static const char *option_of(const cJSON *options, const char *kind)
{
        const cJSON *o;

        cJSON_ArrayForEach(o, options)
        {
                if (text(o, "kind") && strcmp(text(o, "kind"), kind) == 0 && text(o, "optionId"))
                        return text(o, "optionId");
        }
        return NULL;
}

/* The option that does what was decided. "Always" is remembered here (ai_ask), where the policy is still
 * asked each time: an agent that was told "always" would not ask again, also not for what the policy denies.
 * So that option is taken only where there is no other to say yes with, and a person said always. */
static const char *choose(const cJSON *options, const struct tool_decision *d)
{
        const char *id;

        if (d->outcome == ASK_ALLOWED) {
                id = option_of(options, "allow_once");
                return id || !d->always ? id : option_of(options, "allow_always");
        }
        if (d->outcome == ASK_WITHDRAWN)
                return NULL;
        id = option_of(options, "reject_once");
        return id ? id : option_of(options, "reject_always");
}

/* option NULL: cancelled. */
static void reply(struct acp *x, const cJSON *id, const char *option)
{
        cJSON *o = cJSON_CreateObject(), *outcome = o ? cJSON_AddObjectToObject(o, "outcome") : NULL;
        bool ok = outcome && cJSON_AddStringToObject(outcome, "outcome", option ? "selected" : "cancelled") &&
                  (!option || cJSON_AddStringToObject(outcome, "optionId", option));

        if (ok) {
                (void)jsonrpc_reply(&x->rpc, id, o);
                return;
        }
        cJSON_Delete(o);
        (void)jsonrpc_reply_error(&x->rpc, id, JSONRPC_INTERNAL_ERROR, "no memory for an answer");
}

static void on_decision(void *arg, const struct tool_decision *d)
{
        struct ask *q = arg;
        struct acp *x = q->x;
        const char *option = choose(q->options, d);
        const struct event_tool refused = {.id = q->use, .status = "failed"};

        if (d->outcome == ASK_ALLOWED && !option)
                event_log(x->c, "warning",
                          "allowed, but the program offers no way to allow it once: it is cancelled");
        if (d->outcome != ASK_ALLOWED)
                event_tool(x->c, &refused); /* not every program says so itself */
        reply(x, q->id, option);
        ask_free(q);
}

void acp_ask_withdraw(struct acp *x, bool tell)
{
        LIST_EACH_SAFE (it, next, &x->asks) {
                struct ask *q = container_of(it, struct ask, link);

                ai_withdraw(&x->ai, q->number);
                if (tell)
                        reply(x, q->id, NULL);
                ask_free(q);
        }
}

/* --- the question ---------------------------------------------------------------- */

static char *absolute(const struct acp *x, const char *path)
{
        return path[0] == '/' ? mem_strdup(path) : str_printf("%s/%s", x->ai.cwd, path);
}

struct touched {
        char *v[PATHS_MAX + 1];
        size_t n;
};

static void add_path(struct touched *t, const struct acp *x, const char *path)
{
        char *full = path && *path && t->n < PATHS_MAX ? absolute(x, path) : NULL;

        if (full)
                t->v[t->n++] = full;
}

/* Everything that the request says it would touch; for the policy, so rather too much than too little. */
static void paths_of(struct touched *t, const struct acp *x, const struct acp_use *u)
{
        static const char *const keys[] = {"file_path", "path", "notebook_path", "absolute_path", "dir_path"};
        const cJSON *o;

        memset(t, 0, sizeof *t);
        cJSON_ArrayForEach(o, u->locations)
        {
                add_path(t, x, text(o, "path"));
        }
        cJSON_ArrayForEach(o, u->content)
        {
                if (text(o, "type") && strcmp(text(o, "type"), "diff") == 0)
                        add_path(t, x, text(o, "path"));
        }
        for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
                add_path(t, x, text(u->input, keys[i]));
}

/* mem_free it. What would be run: as the input says, else as the title does (Gemini CLI shows nothing else).
 */
static char *command_of(const struct acp_use *u)
{
        const cJSON *c = cJSON_GetObjectItemCaseSensitive(u->input, "command"), *v;
        struct buf b;
        char *s;

        if (cJSON_IsString(c))
                return mem_strdup(c->valuestring);
        if (!cJSON_IsArray(c))
                return u->kind && strcmp(u->kind, "execute") == 0 && u->title ? mem_strdup(u->title) : NULL;
        buf_init(&b, ACP_INPUT_MAX);
        cJSON_ArrayForEach(v, c)
        {
                if (cJSON_IsString(v))
                        (void)buf_printf(&b, "%s%s", b.len ? " " : "", v->valuestring);
        }
        s = buf_steal_str(&b);
        buf_fini(&b);
        return s;
}

/* What people see and what is hashed: the tool's input; where the agent shows none, all it does show. */
static cJSON *arguments_of(const struct acp_use *u)
{
        cJSON *o;

        if (u->input)
                return cJSON_Duplicate(u->input, true);
        o = cJSON_CreateObject();
        if (o && u->title)
                cJSON_AddStringToObject(o, "title", u->title);
        if (o && u->content)
                cJSON_AddItemToObject(o, "content", cJSON_Duplicate(u->content, true));
        if (o && u->locations)
                cJSON_AddItemToObject(o, "locations", cJSON_Duplicate(u->locations, true));
        return o;
}

static int put_question(struct ask *q, const struct acp_use *u)
{
        struct acp *x = q->x;
        struct touched t;
        char *command = command_of(u);
        cJSON *arguments = arguments_of(u);
        struct tool_question question = {
                .kind = ASK_PERMISSION,
                .action = u->kind ? u->kind : "other",
                .title = u->title  ? u->title
                         : u->name ? u->name
                                   : "use a tool",
                .tool = u->name,
                .arguments = arguments,
                .command = command,
        };
        int rc = arguments ? 0 : -E_NOMEM;

        paths_of(&t, x, u);
        question.paths = t.n ? (const char *const *)t.v : NULL;
        if (!rc)
                rc = ai_ask(&x->ai, &question, on_decision, q, &q->number);
        for (size_t i = 0; i < t.n; i++)
                mem_free(t.v[i]);
        mem_free(command);
        cJSON_Delete(arguments);
        return rc;
}

void acp_ask(struct acp *x, const struct jsonrpc_msg *m)
{
        const cJSON *call = cJSON_GetObjectItemCaseSensitive(m->params, "toolCall");
        const struct acp_use *u = acp_view_use(&x->view, call);
        const cJSON *options = cJSON_GetObjectItemCaseSensitive(m->params, "options");
        struct ask *q;

        if (x->state != ACP_PROMPTING) {
                reply(x, m->id, NULL);
                return;
        }
        if (!u || !cJSON_IsArray(options)) {
                (void)jsonrpc_reply_error(&x->rpc, m->id, JSONRPC_INVALID_PARAMS,
                                          "a permission request needs toolCall.toolCallId and options");
                return;
        }
        q = mem_calloc(1, sizeof *q);
        if (q) {
                list_init(&q->link);
                q->x = x;
                q->id = cJSON_Duplicate(m->id, true);
                q->use = mem_strdup(text(call, "toolCallId"));
                q->options = cJSON_Duplicate(options, true);
        }
        if (!q || !q->id || !q->use || !q->options || put_question(q, u)) {
                event_log(x->c, "error", "a question of the program could not be asked: it is cancelled");
                reply(x, m->id, NULL);
                if (q)
                        ask_free(q);
                return;
        }
        list_push_back(&x->asks, &q->link);
}
