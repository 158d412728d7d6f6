#include "agent/tools/codex_in.h"

#include <stdio.h>
#include <string.h>

#include "agent/tools/ai_json.h"
#include "common/json.h"
#include "common/mem.h"

#define PATHS_MAX 256

enum ask_about { ABOUT_COMMAND, ABOUT_CHANGE, ABOUT_PERMISSIONS, ABOUT_INPUT, ABOUT_ELICITATION };

/* One request of its that waits for a person. Owned by the list, freed when it is answered, taken back or
 * forgotten. */
struct codex_ask {
        struct list link;
        struct codex *cx;
        enum ask_about about;
        cJSON *request; /* its id, as it came */
        cJSON *params;
        uint32_t id;
};

static void ask_free(struct codex_ask *a)
{
        list_remove(&a->link);
        cJSON_Delete(a->request);
        cJSON_Delete(a->params);
        mem_free(a);
}

void codex_forget_asks(struct codex *cx)
{
        LIST_EACH_SAFE (l, nx, &cx->asks)
                ask_free(container_of(l, struct codex_ask, link));
}

/* ---- answers ---- */

static cJSON *decision(const char *word)
{
        cJSON *o = cJSON_CreateObject();

        if (o && cJSON_AddStringToObject(o, "decision", word))
                return o;
        cJSON_Delete(o);
        return NULL;
}

/* For this turn, what it asked for; or nothing. */
static cJSON *permissions(const cJSON *params, bool yes)
{
        const cJSON *asked = ai_member(params, "permissions");
        cJSON *o = cJSON_CreateObject(), *given = yes ? cJSON_Duplicate(asked, true) : cJSON_CreateObject();

        if (o && given && cJSON_AddItemToObject(o, "permissions", given)) {
                cJSON_AddStringToObject(o, "scope", "turn");
                return o;
        }
        cJSON_Delete(given);
        cJSON_Delete(o);
        return NULL;
}

/* {"answers": {ID: {"answers": [text]}}} */
static cJSON *answers(const cJSON *params, const cJSON *content)
{
        cJSON *o = cJSON_CreateObject(), *all = o ? cJSON_AddObjectToObject(o, "answers") : NULL;
        const cJSON *q, *list = ai_list_of(params, "questions");

        cJSON_ArrayForEach(q, list)
        {
                const char *id = ai_text_of(q, "id"), *text = id ? ai_text_of(content, id) : NULL;
                cJSON *one = all && text ? cJSON_AddObjectToObject(all, id) : NULL;
                cJSON *words = one ? cJSON_AddArrayToObject(one, "answers") : NULL;

                if (words)
                        cJSON_AddItemToArray(words, cJSON_CreateString(text));
        }
        return o;
}

static cJSON *elicited(bool yes, const cJSON *content)
{
        cJSON *o = cJSON_CreateObject(), *copy = yes && content ? cJSON_Duplicate(content, true) : NULL;

        if (o && cJSON_AddStringToObject(o, "action", yes ? "accept" : "decline")) {
                if (copy && cJSON_AddItemToObject(o, "content", copy))
                        copy = NULL;
                cJSON_Delete(copy);
                return o;
        }
        cJSON_Delete(copy);
        cJSON_Delete(o);
        return NULL;
}

static cJSON *answer_of(enum ask_about about, const cJSON *params, bool yes, const cJSON *content)
{
        switch (about) {
        case ABOUT_PERMISSIONS:
                return permissions(params, yes);
        case ABOUT_INPUT:
                return answers(params, yes ? content : NULL);
        case ABOUT_ELICITATION:
                return elicited(yes, content);
        default:
                return decision(yes ? "accept" : "decline"); /* decline: the turn goes on */
        }
}

static void on_decision(void *arg, const struct tool_decision *d)
{
        struct codex_ask *a = arg;
        struct codex *cx = a->cx;

        if (d->outcome != ASK_WITHDRAWN)
                jsonrpc_reply(&cx->rpc, a->request,
                              answer_of(a->about, a->params, d->outcome == ASK_ALLOWED, d->content));
        ask_free(a);
}

/* ---- questions ---- */

/* Everything a question points at, for as long as it is put. */
struct draft {
        struct tool_question q;
        char title[CODEX_TITLE_MAX + 64];
        char *command;
        const char *paths[PATHS_MAX + 1];
        size_t n_paths;
        bool too_many;
        cJSON *arguments, *schema;
};

static void draft_fini(struct draft *d)
{
        mem_free(d->command);
        cJSON_Delete(d->arguments);
        cJSON_Delete(d->schema);
}

static void add_path(struct draft *d, const char *path)
{
        if (!path)
                return;
        if (d->n_paths < PATHS_MAX)
                d->paths[d->n_paths++] = path;
        else
                d->too_many = true;
}

/* What of the request matters to people, without ids of its own. */
static cJSON *arguments_of(const cJSON *params, const char *const *keys)
{
        cJSON *o = cJSON_CreateObject();

        for (size_t i = 0; o && keys[i]; i++) {
                const cJSON *v = ai_member(params, keys[i]);
                cJSON *copy = v && !cJSON_IsNull(v) ? cJSON_Duplicate(v, true) : NULL;

                if (copy && !cJSON_AddItemToObject(o, keys[i], copy))
                        cJSON_Delete(copy);
        }
        return o;
}

static void about_command(const cJSON *params, struct draft *d)
{
        static const char *const keys[] = {"command", "cwd", "reason", "networkApprovalContext", NULL};
        const char *text = ai_text_of(params, "command");
        const cJSON *net = ai_member(params, "networkApprovalContext");
        const char *host = ai_text_of(net, "host");

        d->arguments = arguments_of(params, keys);
        d->q.tool = "command";
        if (cJSON_IsObject(net)) {
                d->q.action = "fetch";
                snprintf(d->title, sizeof d->title, "Use the network: %.200s", host ? host : "any host");
                return;
        }
        d->command = codex_command(text ? text : "");
        d->q.action = "execute";
        d->q.command = d->command;
        snprintf(d->title, sizeof d->title, "%.200s", d->command ? d->command : "");
}

static void about_change(const struct codex *cx, const cJSON *params, struct draft *d)
{
        static const char *const keys[] = {"reason", "grantRoot", NULL};
        const char *item = ai_text_of(params, "itemId");
        const cJSON *changes = item ? ai_list_of(cx->changes, item) : NULL, *ch;
        bool deletes = changes != NULL;
        cJSON *copy = changes ? cJSON_Duplicate(changes, true) : NULL;

        d->arguments = arguments_of(params, keys);
        if (copy && (!d->arguments || !cJSON_AddItemToObject(d->arguments, "changes", copy)))
                cJSON_Delete(copy);
        cJSON_ArrayForEach(ch, changes)
        {
                const cJSON *kind = ai_member(ch, "kind");

                add_path(d, ai_text_of(ch, "path"));
                add_path(d, ai_text_of(kind, "move_path"));
                deletes &= ai_is(ai_text_of(kind, "type"), "delete");
        }
        add_path(d, ai_text_of(params, "grantRoot"));
        d->q.tool = "apply_patch";
        d->q.action = deletes ? "delete" : "edit";
        snprintf(d->title, sizeof d->title, "%s %.200s%s", deletes ? "Delete" : "Change",
                 d->n_paths ? d->paths[0] : "files", d->n_paths > 1 ? " and others" : "");
}

static void about_permissions(const cJSON *params, struct draft *d)
{
        static const char *const keys[] = {"permissions", "cwd", "reason", NULL};
        const cJSON *files = ai_member(ai_member(params, "permissions"), "fileSystem"), *p;
        const cJSON *writes = ai_list_of(files, "write"), *reads = ai_list_of(files, "read");
        const char *reason = ai_text_of(params, "reason");

        d->arguments = arguments_of(params, keys);
        cJSON_ArrayForEach(p, writes) add_path(d, cJSON_GetStringValue(p));
        cJSON_ArrayForEach(p, reads) add_path(d, cJSON_GetStringValue(p));
        d->q.tool = "request_permissions";
        d->q.action = "other"; /* no rule for an edit speaks of what will be done with it */
        snprintf(d->title, sizeof d->title, "More permissions for this turn%s%.200s", reason ? ": " : "",
                 reason ? reason : "");
}

/* An object with a text for each question, by its id. */
static cJSON *questions_schema(const cJSON *list)
{
        cJSON *o = cJSON_CreateObject(), *props, *need;
        const cJSON *q;

        if (!o || !cJSON_AddStringToObject(o, "type", "object"))
                return o;
        props = cJSON_AddObjectToObject(o, "properties");
        need = cJSON_AddArrayToObject(o, "required");
        cJSON_ArrayForEach(q, list)
        {
                const char *id = ai_text_of(q, "id"), *text = ai_text_of(q, "question");
                const cJSON *c, *options = ai_list_of(q, "options");
                cJSON *field = id && props ? cJSON_AddObjectToObject(props, id) : NULL;
                cJSON *choices;

                if (!field)
                        continue;
                cJSON_AddStringToObject(field, "type", "string");
                cJSON_AddStringToObject(field, "title", text ? text : id);
                choices = options && options->child ? cJSON_AddArrayToObject(field, "examples") : NULL;
                cJSON_ArrayForEach(c, options)
                {
                        const char *label = ai_text_of(c, "label");

                        if (label && choices)
                                cJSON_AddItemToArray(choices, cJSON_CreateString(label));
                }
                if (need)
                        cJSON_AddItemToArray(need, cJSON_CreateString(id));
        }
        return o;
}

static void about_input(const cJSON *params, struct draft *d)
{
        static const char *const keys[] = {"questions", NULL};
        const cJSON *list = ai_list_of(params, "questions");
        const char *first = list ? ai_text_of(list->child, "question") : NULL;

        d->arguments = arguments_of(params, keys);
        d->q.kind = ASK_INPUT;
        d->q.tool = "request_user_input";
        d->q.action = "other";
        d->q.schema = d->schema = questions_schema(list);
        snprintf(d->title, sizeof d->title, "%.200s", first ? first : "Codex asks");
}

static void about_elicitation(const cJSON *params, struct draft *d)
{
        static const char *const keys[] = {"serverName", "message", "url", NULL};
        const char *server = ai_text_of(params, "serverName"), *message = ai_text_of(params, "message");
        const cJSON *schema = ai_member(params, "requestedSchema");

        d->arguments = arguments_of(params, keys);
        d->q.tool = server;
        d->q.action = "other";
        if (cJSON_IsObject(schema)) {
                d->q.kind = ASK_INPUT;
                d->q.schema = schema;
        }
        snprintf(d->title, sizeof d->title, "%.60s: %.200s", server ? server : "MCP server",
                 message ? message : "asks");
}

static bool already_asked(const struct codex *cx, const cJSON *id)
{
        LIST_EACH (l, &cx->asks)
                if (cJSON_Compare(container_of(l, struct codex_ask, link)->request, id, true))
                        return true;
        return false;
}

static int put_question(struct codex *cx, const struct jsonrpc_msg *m, enum ask_about about, struct draft *d)
{
        struct codex_ask *a = mem_calloc(1, sizeof *a);
        int rc;

        if (!a)
                return -E_NOMEM;
        a->cx = cx;
        a->about = about;
        list_push_back(&cx->asks, &a->link);
        a->request = cJSON_Duplicate(m->id, true);
        a->params = m->params ? cJSON_Duplicate(m->params, true) : cJSON_CreateObject();
        rc = a->request && a->params && d->arguments ? 0 : -E_NOMEM;
        d->q.title = d->title;
        d->q.arguments = d->arguments;
        d->q.paths = d->n_paths ? d->paths : NULL;
        if (!rc && d->too_many)
                rc = -E_TOOBIG; /* the policy could not look at all of them */
        if (!rc)
                rc = ai_ask(&cx->run.ai, &d->q, on_decision, a, &a->id);
        if (rc)
                ask_free(a);
        return rc;
}

static const struct {
        const char *method;
        enum ask_about about;
} requests[] = {
        {"item/commandExecution/requestApproval", ABOUT_COMMAND},
        {"item/fileChange/requestApproval", ABOUT_CHANGE},
        {"item/permissions/requestApproval", ABOUT_PERMISSIONS},
        {"item/tool/requestUserInput", ABOUT_INPUT},
        {"mcpServer/elicitation/request", ABOUT_ELICITATION},
};

static void ask(struct codex *cx, const struct jsonrpc_msg *m, enum ask_about about)
{
        struct draft d = {.q = {.kind = ASK_PERMISSION}};
        int rc;

        switch (about) {
        case ABOUT_COMMAND:
                about_command(m->params, &d);
                break;
        case ABOUT_CHANGE:
                about_change(cx, m->params, &d);
                break;
        case ABOUT_PERMISSIONS:
                about_permissions(m->params, &d);
                break;
        case ABOUT_INPUT:
                about_input(m->params, &d);
                break;
        case ABOUT_ELICITATION:
                about_elicitation(m->params, &d);
                break;
        }
        rc = put_question(cx, m, about, &d);
        if (rc) {
                event_log(cx->run.ai.c, "warning", "a question could not be asked, and was answered with no");
                cx->run.ai.denied++;
                jsonrpc_reply(&cx->rpc, m->id, answer_of(about, m->params, false, NULL));
        }
        draft_fini(&d);
}

void codex_asked(struct codex *cx, const struct jsonrpc_msg *m)
{
        if (cx->run.state != AI_RUN_RUNNING || already_asked(cx, m->id))
                return; /* the turn is over for us; the one answer serves both */
        for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
                if (ai_is(m->method, requests[i].method)) {
                        ask(cx, m, requests[i].about);
                        return;
                }
        }
        jsonrpc_reply_error(&cx->rpc, m->id, JSONRPC_METHOD_NOT_FOUND, "this client does not offer that");
}

/* Answered, also by us; or taken back. */
void codex_resolved(struct codex *cx, const cJSON *params)
{
        const cJSON *id = ai_member(params, "requestId");

        LIST_EACH_SAFE (l, nx, &cx->asks) {
                struct codex_ask *a = container_of(l, struct codex_ask, link);

                if (!id || !cJSON_Compare(a->request, id, true))
                        continue;
                ai_withdraw(&cx->run.ai, a->id);
                ask_free(a);
                return;
        }
}
