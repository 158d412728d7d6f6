#include "agent/tools/claude_in.h"

#include <stdio.h>
#include <string.h>

#include "agent/policy.h"
#include "agent/tools/ai_json.h"
#include "common/json.h"
#include "common/mem.h"

/* One question that is open. Owned by the list, freed when it is answered, withdrawn or forgotten. */
struct claude_ask {
        struct list link;
        struct claude *cl;
        char request[CLAUDE_ID_MAX];
        uint32_t id;
        cJSON *input; /* what it wants to do; goes back with a yes */
        bool form;    /* AskUserQuestion: the answer is what was filled in */
};

static void ask_free(struct claude_ask *a)
{
        list_remove(&a->link);
        cJSON_Delete(a->input);
        mem_free(a);
}

void claude_forget_asks(struct claude *cl)
{
        LIST_EACH_SAFE (l, nx, &cl->asks)
                ask_free(container_of(l, struct claude_ask, link));
}

/* {"type":"control_response","response":{"subtype":"success","request_id":R,"response":answer}}; answer is
 * taken. */
static void respond(struct claude *cl, const char *request, cJSON *answer)
{
        cJSON *m = cJSON_CreateObject(), *r = m ? cJSON_AddObjectToObject(m, "response") : NULL;
        bool ok = answer && r && cJSON_AddStringToObject(m, "type", "control_response") &&
                  cJSON_AddStringToObject(r, "subtype", "success") &&
                  cJSON_AddStringToObject(r, "request_id", request);

        if (ok && cJSON_AddItemToObject(r, "response", answer)) {
                ai_run_send(&cl->run, m);
                return;
        }
        cJSON_Delete(answer);
        cJSON_Delete(m);
        ai_run_send(&cl->run, NULL);
}

static void respond_error(struct claude *cl, const char *request, const char *why)
{
        cJSON *m = cJSON_CreateObject(), *r = m ? cJSON_AddObjectToObject(m, "response") : NULL;

        if (r && cJSON_AddStringToObject(m, "type", "control_response") &&
            cJSON_AddStringToObject(r, "subtype", "error") &&
            cJSON_AddStringToObject(r, "request_id", request) && cJSON_AddStringToObject(r, "error", why)) {
                ai_run_send(&cl->run, m);
                return;
        }
        cJSON_Delete(m);
        ai_run_send(&cl->run, NULL);
}

static void deny(struct claude *cl, const char *request, const char *why)
{
        cJSON *o = cJSON_CreateObject();

        if (o && (!cJSON_AddStringToObject(o, "behavior", "deny") ||
                  !cJSON_AddStringToObject(o, "message", why))) {
                cJSON_Delete(o);
                o = NULL;
        }
        respond(cl, request, o);
}

/* input is taken. */
static void allow(struct claude *cl, const char *request, cJSON *input)
{
        cJSON *o = cJSON_CreateObject();

        if (!o || !cJSON_AddStringToObject(o, "behavior", "allow") ||
            !cJSON_AddItemToObject(o, "updatedInput", input)) {
                cJSON_Delete(input);
                cJSON_Delete(o);
                o = NULL;
        }
        respond(cl, request, o);
}

/* ---- forms: AskUserQuestion ---- */

#define FORM_MAX 16

static void field_name(char out[24], size_t i, size_t n)
{
        if (n == 1)
                snprintf(out, 24, "answer");
        else
                snprintf(out, 24, "answer%zu", i + 1);
}

static bool add_choices(cJSON *field, const cJSON *q)
{
        const cJSON *options = ai_list_of(q, "options"), *o;
        bool many = ai_true(q, "multiSelect");
        cJSON *items = many ? cJSON_AddObjectToObject(field, "items") : NULL, *list;
        char text[1024];
        size_t at = 0;

        cJSON_AddStringToObject(field, "type", many ? "array" : "string");
        if (many)
                cJSON_AddStringToObject(items, "type", "string");
        list = cJSON_AddArrayToObject(field, "examples");
        text[0] = '\0';
        cJSON_ArrayForEach(o, options)
        {
                const char *label = ai_text_of(o, "label"), *what = ai_text_of(o, "description");

                if (!label || at >= sizeof text - 1)
                        continue;
                cJSON_AddItemToArray(list, cJSON_CreateString(label));
                at += (size_t)snprintf(text + at, sizeof text - at, "%s%s%s%s%s", at ? "; " : "", label,
                                       what ? " (" : "", what ? what : "", what ? ")" : "");
        }
        return cJSON_AddStringToObject(field, "description", text) != NULL;
}

/* The answer's schema: a text (or several) for each question; the choices are told, not enforced, since the
 * tool takes other words too. */
static cJSON *form_schema(const cJSON *questions)
{
        cJSON *o = cJSON_CreateObject(), *props = o ? cJSON_AddObjectToObject(o, "properties") : NULL, *need;
        size_t n = (size_t)cJSON_GetArraySize(questions), i = 0;
        const cJSON *q;

        if (!props || n == 0 || n > FORM_MAX || !cJSON_AddStringToObject(o, "type", "object")) {
                cJSON_Delete(o);
                return NULL;
        }
        need = cJSON_AddArrayToObject(o, "required");
        cJSON_ArrayForEach(q, questions)
        {
                const char *title = ai_text_of(q, "question");
                char name[24];
                cJSON *field;

                field_name(name, i++, n);
                field = cJSON_AddObjectToObject(props, name);
                if (!field || !cJSON_AddStringToObject(field, "title", title ? title : name) ||
                    !add_choices(field, q) || !cJSON_AddItemToArray(need, cJSON_CreateString(name))) {
                        cJSON_Delete(o);
                        return NULL;
                }
        }
        return o;
}

static bool add_answer(cJSON *answers, const char *question, const cJSON *v)
{
        char text[1024];
        size_t at = 0;
        const cJSON *item;

        if (cJSON_IsString(v))
                return cJSON_AddStringToObject(answers, question, v->valuestring) != NULL;
        text[0] = '\0';
        cJSON_ArrayForEach(item, v) if (cJSON_IsString(item) && at < sizeof text - 1) at +=
                (size_t)snprintf(text + at, sizeof text - at, "%s%s", at ? ", " : "", item->valuestring);
        return cJSON_AddStringToObject(answers, question, text) != NULL;
}

/* What was filled in goes back as {"answers": {question: text}} beside the questions. */
static void fill_form(struct claude_ask *a, const cJSON *content)
{
        const cJSON *questions = ai_list_of(a->input, "questions"), *q;
        cJSON *answers;
        size_t n = (size_t)cJSON_GetArraySize(questions), i = 0;

        cJSON_DeleteItemFromObjectCaseSensitive(a->input, "answers");
        answers = cJSON_AddObjectToObject(a->input, "answers");
        cJSON_ArrayForEach(q, questions)
        {
                const char *title = ai_text_of(q, "question");
                char name[24];
                const cJSON *v;

                field_name(name, i++, n);
                v = ai_member(content, name);
                if (title && v && answers)
                        add_answer(answers, title, v);
        }
}

/* ---- questions ---- */

static void on_decision(void *arg, const struct tool_decision *d)
{
        struct claude_ask *a = arg;
        struct claude *cl = a->cl;
        char why[600];

        switch (d->outcome) {
        case ASK_ALLOWED:
                if (a->form)
                        fill_form(a, d->content);
                allow(cl, a->request, a->input);
                a->input = NULL;
                break;
        case ASK_DENIED:
                snprintf(why, sizeof why, "%s said no%s%.400s", d->by && *d->by ? d->by : "The person asked",
                         d->reason && *d->reason ? ": " : "", d->reason ? d->reason : "");
                deny(cl, a->request, why);
                break;
        case ASK_EXPIRED:
                deny(cl, a->request, "nobody answered in time, so the answer is no");
                break;
        case ASK_WITHDRAWN:
                break; /* the call ends */
        }
        ask_free(a);
}

/* The call names this file itself, and the policy was asked about it then. */
static bool was_given(const struct claude *cl, const struct claude_use *u)
{
        const cJSON *f;

        cJSON_ArrayForEach(f, cl->run.ai.files) if (strcmp(u->kind, "read") == 0 && u->path &&
                                                    cJSON_IsString(f) &&
                                                    strcmp(f->valuestring, u->path) == 0) return true;
        return false;
}

static void ask(struct claude *cl, const char *request, const char *name, const cJSON *input)
{
        struct claude_ask *a = mem_calloc(1, sizeof *a);
        const cJSON *questions = ai_list_of(input, "questions");
        cJSON *schema = NULL;
        struct claude_use u;
        const char *paths[2] = {NULL, NULL};
        struct tool_question q = {.kind = ASK_PERMISSION, .tool = name};
        int rc = -E_NOMEM;

        claude_use_read(name, input, &u);
        if (was_given(cl, &u)) {
                mem_free(a);
                allow(cl, request, cJSON_Duplicate(input, true));
                return;
        }
        paths[0] = u.path;
        q.action = u.kind;
        q.title = u.title;
        q.command = u.command;
        q.paths = u.path ? paths : NULL;
        if (strcmp(name, "AskUserQuestion") == 0 && (schema = form_schema(questions))) {
                const char *first = ai_text_of(questions->child, "question");

                q.kind = ASK_INPUT;
                q.schema = schema;
                q.title = first ? first : name;
        }
        if (a) {
                a->cl = cl;
                a->form = schema != NULL;
                snprintf(a->request, sizeof a->request, "%s", request);
                a->input = input ? cJSON_Duplicate(input, true) : cJSON_CreateObject();
                q.arguments = a->input; /* also what is allowed at last, so what the answer is bound to */
                list_push_back(&cl->asks, &a->link);
                rc = a->input ? ai_ask(&cl->run.ai, &q, on_decision, a, &a->id) : -E_NOMEM;
        }
        if (rc) {
                if (a)
                        ask_free(a);
                deny(cl, request,
                     rc == -E_FULL ? "too many questions are open at once"
                                   : "the question could not be asked");
        }
        cJSON_Delete(schema);
}

/* The hook before a use of a tool: an empty answer lets it go its usual way, by which it may still ask. */
static void before_use(struct claude *cl, const char *request, const cJSON *q)
{
        const cJSON *told = ai_member(q, "input"), *input = ai_member(told, "tool_input");
        const char *name = ai_text_of(told, "tool_name"), *paths[2] = {NULL, NULL};
        const struct tool_call *c = cl->run.ai.c;
        struct policy_question pq = {.tool = name,
                                     .caller = c->tool->name,
                                     .cwd = cl->run.ai.cwd,
                                     .scratch = c->scratch_dir,
                                     .mode = "ask"};
        struct policy_answer a = {.verdict = POLICY_ASK};
        struct claude_use u;
        cJSON *o = cJSON_CreateObject(), *out;

        if (name) {
                claude_use_read(name, input, &u);
                paths[0] = u.path;
                pq.action = u.kind;
                pq.command = u.command;
                pq.paths = u.path ? paths : NULL;
                if (!was_given(cl, &u))
                        policy_question(c->policy, &pq, &a);
        }
        if (o && a.verdict == POLICY_DENY) {
                cl->run.ai.denied++;
                out = cJSON_AddObjectToObject(o, "hookSpecificOutput");
                if (!out || !cJSON_AddStringToObject(out, "hookEventName", "PreToolUse") ||
                    !cJSON_AddStringToObject(out, "permissionDecision", "deny") ||
                    !cJSON_AddStringToObject(out, "permissionDecisionReason", a.reason)) {
                        cJSON_Delete(o);
                        o = NULL;
                }
        }
        respond(cl, request, o);
}

void claude_asked(struct claude *cl, const cJSON *m)
{
        const char *request = ai_text_of(m, "request_id");
        const cJSON *q = ai_member(m, "request");
        const char *subtype = ai_text_of(q, "subtype"), *name = ai_text_of(q, "tool_name");

        if (!request || strlen(request) >= CLAUDE_ID_MAX || cl->run.state != AI_RUN_RUNNING)
                return; /* nobody could answer it, or the turn is over for us */
        if (ai_is(subtype, "hook_callback") && ai_is(ai_text_of(q, "callback_id"), CLAUDE_HOOK)) {
                before_use(cl, request, q);
                return;
        }
        if (!ai_is(subtype, "can_use_tool") || !name) {
                respond_error(cl, request, "this client answers can_use_tool and its own hook only");
                return;
        }
        LIST_EACH (l, &cl->asks)
                if (strcmp(container_of(l, struct claude_ask, link)->request, request) == 0)
                        return; /* asked twice: the one answer serves both */
        ask(cl, request, name, ai_member(q, "input"));
}

void claude_withdrawn(struct claude *cl, const cJSON *m)
{
        const char *request = ai_text_of(m, "request_id");

        LIST_EACH_SAFE (l, nx, &cl->asks) {
                struct claude_ask *a = container_of(l, struct claude_ask, link);

                if (!request || strcmp(a->request, request) != 0)
                        continue;
                ai_withdraw(&cl->run.ai, a->id);
                ask_free(a);
                return;
        }
}
