#include "agent/tools/jules.h"

#include <stdio.h>
#include <string.h>

#include "agent/policy.h"
#include "agent/tools/ai_prompt.h"
#include "agent/tools/answer.h"
#include "agent/tools/event.h"
#include "agent/tools/jules_in.h"
#include "agent/tools/llm_in.h"
#include "common/err.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"

#define PROMPT_MAX   ((size_t)1 << 20)
#define POLL_MS      3000
#define FAILURES_MAX 8 /* requests in a row that failed by what passes */
#define BACKOFF_MS   1000
#define BACKOFF_MAX  60000
#define AFTER_MAX    600000 /* who asks for more is told of, not waited for: `session` takes it up later */

const char jules_input[] =
        "{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{" AI_PROMPT_PROPERTIES
        ",\"source\":{\"type\":\"string\",\"description\":\"The repository, as Jules names it: "
        "sources/github/OWNER/REPO, or OWNER/REPO\"},"
        "\"branch\":{\"type\":\"string\",\"description\":\"To start from; main if left out\"},"
        "\"title\":{\"type\":\"string\"},"
        "\"session\":{\"type\":\"string\",\"description\":\"Goes on with this one: ${{ "
        "steps.a.outputs.session }}\"},"
        "\"approve_plan\":{\"type\":\"boolean\",\"description\":\"People are asked before it begins; true if "
        "left "
        "out\"},"
        "\"create_pull_request\":{\"type\":\"boolean\"},"
        "\"permission_mode\":{\"enum\":[\"ask\",\"accept-edits\",\"allow\",\"deny\"]},"
        "\"question\":{\"type\":\"string\",\"description\":\"How long a question waits for its answer\"},"
        "\"poll\":{\"type\":\"string\",\"description\":\"How often it is looked at; 3s if left out\"}}}";
const char jules_output[] =
        "{\"type\":\"object\",\"properties\":{\"session\":{\"type\":\"string\"},\"state\":{\"type\":"
        "\"string\"},"
        "\"url\":{\"type\":\"string\"},\"title\":{\"type\":\"string\"},"
        "\"text\":{\"type\":\"string\",\"description\":\"Its last message\"},"
        "\"pull_request\":{\"type\":\"string\"},"
        "\"patch\":{\"type\":\"string\",\"description\":\"The last change, as a unified diff\"},"
        "\"activities\":{\"type\":\"integer\"}}}";

#define TO(s) (1u << JULES_##s)
static const unsigned moves[] = {
        [JULES_KEY] = TO(CREATING) | TO(TELLING) | TO(LOOKING) | TO(OVER),
        [JULES_CREATING] = TO(LOOKING) | TO(WAITING) | TO(OVER),
        [JULES_TELLING] = TO(LOOKING) | TO(WAITING) | TO(OVER),
        [JULES_LOOKING] = TO(READING) | TO(WAITING) | TO(OVER),
        [JULES_READING] = TO(READING) | TO(WAITING) | TO(ASKING) | TO(OVER),
        [JULES_WAITING] = TO(CREATING) | TO(TELLING) | TO(LOOKING) | TO(READING) | TO(APPROVING) | TO(OVER),
        [JULES_ASKING] = TO(APPROVING) | TO(TELLING) | TO(OVER),
        [JULES_APPROVING] = TO(LOOKING) | TO(WAITING) | TO(OVER),
        [JULES_OVER] = 0,
};

static bool move(struct jules *j, enum jules_state to)
{
        if (!(moves[j->state] & 1u << to))
                return false;
        j->state = to;
        return true;
}

static void step(struct jules *j, enum jules_state to);

/* ---- the end ---- */

static cJSON *outputs(struct jules *j)
{
        struct build b = {0};
        cJSON *o = cJSON_CreateObject();
        const struct {
                const char *key, *text;
        } texts[] = {{"session", j->id},
                     {"state", j->remote},
                     {"url", j->url},
                     {"title", j->title},
                     {"pull_request", j->pull_request},
                     {"text", j->said},
                     {"patch", j->patch}};

        if (!o)
                return NULL;
        for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
                if (texts[i].text && *texts[i].text)
                        build_str(&b, o, texts[i].key, texts[i].text);
        build_num(&b, o, "activities", (double)j->seen);
        return build_end(&b, o);
}

static void end(struct jules *j, enum tool_outcome how, const char *code, const struct err *e)
{
        if (!move(j, JULES_OVER))
                return;
        rest_stop(&j->rest);
        if (j->timer_open)
                uv_timer_stop(&j->timer);
        if (j->asking)
                tool_ask_withdraw(j->c, j->question);
        j->asking = false;
        if (how == TOOL_SUCCEEDED)
                answer_ok(j->c, outputs(j));
        else
                answer_bad(j->c, how, code, e, outputs(j));
}

static void fail(struct jules *j, const char *code, const char *text)
{
        struct err e;

        err_set(&e, E_STATE, "%s%s%s", text, j->url ? "; the session: " : "", j->url ? j->url : "");
        end(j, TOOL_FAILED, code, &e);
}

/* ---- waiting ---- */

static void on_timer(uv_timer_t *t)
{
        struct jules *j = t->data;

        step(j, j->again);
}

static void wait_for(struct jules *j, int64_t ms, enum jules_state then)
{
        j->again = then;
        if (move(j, JULES_WAITING))
                uv_timer_start(&j->timer, on_timer, (uint64_t)ms, 0);
}

/* A request failed. True: it is made again. */
static bool again(struct jules *j, const struct rest_answer *a)
{
        int64_t ms = a->after_ms;

        /* A creation whose reply was lost may have created: it is not repeated. */
        if (!a->passes || ms > AFTER_MAX || ++j->failures > FAILURES_MAX ||
            (j->state == JULES_CREATING && strcmp(a->code, "rate_limited") != 0))
                return false;
        if (ms < 0)
                ms = j->failures < 7 ? (int64_t)BACKOFF_MS << (j->failures - 1) : BACKOFF_MAX;
        event_log(j->c, "warning", a->why.msg);
        wait_for(j, ms, j->state);
        return true;
}

/* ---- what Jules says ---- */

static void set(char **slot, const char *text)
{
        char *copy = *text ? mem_strdup(text) : NULL;

        if (!copy)
                return;
        mem_free(*slot);
        *slot = copy;
}

/* "sessions/ID": only what a path can hold. */
static bool take_id(struct jules *j, const char *name)
{
        const char *id = strncmp(name, "sessions/", 9) == 0 ? name + 9 : name;

        if (!str_is_name(id, JULES_ID_MAX - 1))
                return false;
        snprintf(j->id, sizeof j->id, "%.*s", (int)sizeof j->id - 1, id);
        return true;
}

static void take_session(struct jules *j, const cJSON *doc)
{
        const cJSON *o;

        snprintf(j->remote, sizeof j->remote, "%.*s", (int)sizeof j->remote - 1, member_text(doc, "state"));
        set(&j->url, member_text(doc, "url"));
        set(&j->title, member_text(doc, "title"));
        cJSON_ArrayForEach(o, member(doc, "outputs"))
                set(&j->pull_request, member_text(member(o, "pullRequest"), "url"));
}

static void on_decision(void *arg, const struct tool_decision *d);

static void ask(struct jules *j, const struct tool_question *q)
{
        struct err e;
        int rc;

        if (!move(j, JULES_ASKING))
                return;
        rc = tool_ask(j->c, q, on_decision, j, &j->question);
        j->asking = rc == 0;
        if (rc) {
                err_set(&e, -rc, "the question could not be asked: %s", err_name(rc));
                end(j, TOOL_FAILED, NULL, &e);
        }
}

static void ask_for_plan(struct jules *j)
{
        cJSON *args = cJSON_CreateObject();
        struct tool_question q = {.kind = ASK_PERMISSION,
                                  .action = "execute",
                                  .title = "Approve the plan of Jules",
                                  .tool = "approvePlan",
                                  .arguments = args,
                                  .mode = *member_text(j->input, "permission_mode")
                                                  ? member_text(j->input, "permission_mode")
                                                  : NULL,
                                  .timeout_ms = j->question_ms};

        if (args) {
                cJSON_AddStringToObject(args, "session", j->id);
                if (j->plan)
                        cJSON_AddItemToObject(args, "plan", cJSON_Duplicate(j->plan, true));
        }
        ask(j, &q);
        cJSON_Delete(args);
}

static void ask_for_words(struct jules *j)
{
        static const char schema[] =
                "{\"type\":\"object\",\"required\":[\"message\"],\"properties\":{\"message\":{"
                "\"type\":\"string\",\"minLength\":1}}}";
        cJSON *form = cJSON_Parse(schema), *args = cJSON_CreateObject();
        char title[300];
        struct tool_question q = {.kind = ASK_INPUT,
                                  .action = "other",
                                  .title = title,
                                  .tool = "sendMessage",
                                  .arguments = args,
                                  .schema = form,
                                  .timeout_ms = j->question_ms};

        snprintf(title, sizeof title, "Jules asks: %.200s", j->said ? j->said : "it waits for your words");
        if (!str_is_utf8(title, strlen(title)))
                snprintf(title, sizeof title, "Jules asks for your words");
        if (args) {
                cJSON_AddStringToObject(args, "session", j->id);
                cJSON_AddStringToObject(args, "question", j->said ? j->said : "");
        }
        ask(j, &q);
        cJSON_Delete(form);
        cJSON_Delete(args);
}

static void on_decision(void *arg, const struct tool_decision *d)
{
        struct jules *j = arg;
        const char *words = member_text(d->content, "message");
        bool plan = strcmp(j->remote, "AWAITING_PLAN_APPROVAL") == 0;
        char text[300];

        j->asking = false;
        if (d->outcome != ASK_ALLOWED || (!plan && !*words)) {
                snprintf(text, sizeof text, "%s: %s%s%.100s",
                         plan ? "the plan was not approved" : "there was no answer",
                         d->outcome == ASK_EXPIRED ? "nobody answered in time" : "refused",
                         d->reason && *d->reason ? ", " : "", d->reason ? d->reason : "");
                fail(j, d->outcome == ASK_EXPIRED ? "question_expired" : "permission_refused", text);
        } else if (plan) {
                step(j, JULES_APPROVING);
        } else {
                set(&j->message, words);
                step(j, JULES_TELLING);
        }
}

/* All activities are read: what now? */
static void decide(struct jules *j)
{
        if (strcmp(j->remote, "COMPLETED") == 0)
                end(j, TOOL_SUCCEEDED, NULL, NULL);
        else if (strcmp(j->remote, "FAILED") == 0)
                fail(j, "session_failed", j->why && *j->why ? j->why : "Jules gave up and gave no reason");
        else if (strcmp(j->remote, "CANCELLED") == 0)
                fail(j, "session_failed", "the session was cancelled at Jules");
        else if (strcmp(j->remote, "AWAITING_PLAN_APPROVAL") == 0)
                ask_for_plan(j);
        else if (strcmp(j->remote, "AWAITING_USER_FEEDBACK") == 0)
                ask_for_words(j);
        else
                wait_for(j, j->poll_ms, JULES_LOOKING);
}

/* A page of activities; those that were there before are passed over. */
static void take_activities(struct jules *j, const cJSON *doc)
{
        const cJSON *list = member(doc, "activities"), *a;
        const char *next = member_text(doc, "nextPageToken");
        size_t at = 0;

        cJSON_ArrayForEach(a, list)
        {
                if (at++ < j->seen_on_page)
                        continue;
                j->seen_on_page = at;
                if (j->seen++ < JULES_SEEN_MAX)
                        jules_say(j, a);
        }
        if (*next && at >= 1 && j->seen < JULES_SEEN_MAX) {
                set(&j->page, next);
                j->seen_on_page = 0;
                step(j, JULES_READING);
        } else {
                decide(j);
        }
}

static void on_answer(void *arg, const struct rest_answer *a)
{
        struct jules *j = arg;

        if (j->state == JULES_OVER)
                return;
        if (a->code) {
                if (!again(j, a))
                        end(j, strcmp(a->code, "policy_denied") == 0 ? TOOL_REFUSED : TOOL_FAILED,
                            strcmp(a->code, "not_found") == 0 && j->id[0] ? "unknown_session" : a->code,
                            &a->why);
                return;
        }
        j->failures = 0;
        switch (j->state) {
        case JULES_CREATING:
                if (!take_id(j, *member_text(a->doc, "name") ? member_text(a->doc, "name")
                                                             : member_text(a->doc, "id"))) {
                        fail(j, "bad_answer", "Jules created a session and did not say which");
                        return;
                }
                take_session(j, a->doc);
                event_log(j->c, "info", j->url ? j->url : j->id);
                step(j, JULES_LOOKING);
                break;
        case JULES_LOOKING:
                take_session(j, a->doc);
                step(j, JULES_READING);
                break;
        case JULES_READING:
                take_activities(j, a->doc);
                break;
        default: /* told, approved */
                step(j, JULES_LOOKING);
        }
}

/* ---- what is asked of Jules ---- */

static cJSON *new_session(struct jules *j)
{
        struct build b = {0};
        cJSON *o = cJSON_CreateObject(), *context;
        const char *source = member_text(j->input, "source"), *branch = member_text(j->input, "branch");
        char *whole = strncmp(source, "sources/", 8) == 0 ? mem_strdup(source)
                                                          : str_printf("sources/github/%s", source);

        b.failed = !whole;
        build_str(&b, o, "prompt", j->prompt ? j->prompt : "");
        if (*member_text(j->input, "title"))
                build_str(&b, o, "title", member_text(j->input, "title"));
        context = build_object(&b, o, "sourceContext");
        build_str(&b, context, "source", whole ? whole : "");
        build_str(&b, build_object(&b, context, "githubRepoContext"), "startingBranch",
                  *branch ? branch : "main");
        build_bool(&b, o, "requirePlanApproval", !cJSON_IsFalse(member(j->input, "approve_plan")));
        if (cJSON_IsTrue(member(j->input, "create_pull_request")))
                build_str(&b, o, "automationMode", "AUTO_CREATE_PR");
        mem_free(whole);
        return build_end(&b, o);
}

/* A page's token, as a query can hold it (RFC 3986). */
static char *escaped(const char *text)
{
        struct buf b;
        char *out = NULL;
        int rc = 0;

        buf_init(&b, 8192);
        for (const unsigned char *p = (const unsigned char *)text; *p && !rc; p++) {
                bool plain = (*p >= '0' && *p <= '9') || (*p >= 'a' && *p <= 'z') ||
                             (*p >= 'A' && *p <= 'Z') || strchr("-._~", *p);

                rc = plain ? buf_putc(&b, (char)*p) : buf_printf(&b, "%%%02X", *p);
        }
        if (!rc)
                out = buf_steal_str(&b);
        buf_fini(&b);
        return out;
}

static char *page_path(struct jules *j)
{
        char *page = escaped(j->page ? j->page : ""), *path = NULL;

        if (page)
                path = str_printf("/sessions/%s/activities?pageSize=%d%s%s", j->id, JULES_PAGE,
                                  *page ? "&pageToken=" : "", page);
        mem_free(page);
        return path;
}

static void step(struct jules *j, enum jules_state to)
{
        cJSON *body = NULL;
        char *path = NULL;
        struct err e = {0};
        int rc;

        if (!move(j, to))
                return;
        switch (to) {
        case JULES_CREATING:
                path = mem_strdup("/sessions");
                body = new_session(j);
                break;
        case JULES_TELLING:
                path = str_printf("/sessions/%s:sendMessage", j->id);
                body = cJSON_CreateObject();
                if (body)
                        cJSON_AddStringToObject(body, "prompt", j->message);
                break;
        case JULES_APPROVING:
                path = str_printf("/sessions/%s:approvePlan", j->id);
                body = cJSON_CreateObject();
                break;
        case JULES_LOOKING:
                path = str_printf("/sessions/%s", j->id);
                break;
        default:
                path = page_path(j);
        }
        if (!path || (!body && (to == JULES_CREATING || to == JULES_TELLING || to == JULES_APPROVING)))
                rc = err_set(&e, E_NOMEM, "the agent is out of memory");
        else
                rc = rest_send(&j->rest, path, body, &e);
        mem_free(path);
        cJSON_Delete(body);
        if (rc)
                end(j, rc == -E_DENIED ? TOOL_REFUSED : TOOL_FAILED, rc == -E_DENIED ? "policy_denied" : NULL,
                    &e);
}

/* ---- the tool ---- */

static void destroy(struct jules *j)
{
        rest_fini(&j->rest);
        if (j->key)
                mem_wipe(j->key, strlen(j->key));
        mem_free(j->key);
        cJSON_Delete(j->input);
        cJSON_Delete(j->plan);
        mem_free(j->prompt);
        mem_free(j->message);
        mem_free(j->url);
        mem_free(j->title);
        mem_free(j->pull_request);
        mem_free(j->page);
        mem_free(j->said);
        mem_free(j->patch);
        mem_free(j->why);
        mem_free(j);
}

static void settle(struct jules *j)
{
        if (j->gone && !j->working && !j->timer_open)
                destroy(j);
}

static void read_key(uv_work_t *w)
{
        struct jules *j = w->data;

        j->key_read = models_key(j->ep, &j->key, &j->work_err) == 0;
}

static void on_key(uv_work_t *w, int status)
{
        struct jules *j = w->data;
        int secret;

        j->working = false;
        if (j->gone || j->state == JULES_OVER) {
                settle(j);
        } else if (status || !j->key_read) {
                if (status)
                        err_set(&j->work_err, E_CANCELLED, "the agent is ending");
                end(j, TOOL_FAILED, status ? NULL : "key_missing", &j->work_err);
        } else if (j->key && (secret = tool_secret(j->c, j->key, strlen(j->key))) && secret != -E_INVAL) {
                err_set(&j->work_err, -secret, "the key of the endpoint %s cannot be kept out of the output",
                        j->ep->name);
                end(j, TOOL_FAILED, NULL, &j->work_err);
        } else {
                j->rest.key = j->key;
                step(j, !j->id[0] ? JULES_CREATING : j->message ? JULES_TELLING : JULES_LOOKING);
        }
}

static int read_input(struct jules *j, struct err *e)
{
        const char *poll = member_text(j->input, "poll"), *question = member_text(j->input, "question");
        const char *session = member_text(j->input, "session");
        bool words = member(j->input, "prompt") || member(j->input, "action");

        j->poll_ms = POLL_MS;
        if (*poll && (str_parse_duration(poll, &j->poll_ms) || j->poll_ms < 10))
                return err_set(e, E_INVAL, "poll: \"%.60s\" is not a duration such as 3s", poll);
        if (*question && str_parse_duration(question, &j->question_ms))
                return err_set(e, E_INVAL, "question: \"%.60s\" is not a duration such as 1h", question);
        if (*session && !take_id(j, session))
                return err_set(e, E_INVAL, "session: \"%.60s\" is not the name of a session", session);
        if (!*session && !*member_text(j->input, "source"))
                return err_set(e, E_INVAL,
                               "give a source (sources/github/OWNER/REPO), or a session to go on with");
        if (!*session || words) {
                int rc = ai_prompt_text(j->input, PROMPT_MAX, &j->prompt, e);

                if (rc)
                        return rc;
        }
        if (*session && j->prompt && !(j->message = mem_strdup(j->prompt)))
                return err_set(e, E_NOMEM, "out of memory");
        return 0;
}

int jules_permit(const struct policy *p, const cJSON *input, struct err *e)
{
        (void)p; /* the host is asked about when a request is made */
        (void)input;
        (void)e;
        return 0;
}

int jules_start(struct tool_call *c, const cJSON *input, struct err *e)
{
        struct jules *j = mem_calloc(1, sizeof *j);
        int rc;

        if (!j || !(j->input = cJSON_Duplicate(input, true))) {
                mem_free(j);
                return err_set(e, E_NOMEM, "out of memory");
        }
        j->c = c;
        j->policy = c->policy;
        j->ep = models_of_kind(MODEL_JULES);
        rc = j->ep ? read_input(j, e)
                   : err_set(e, E_NOENT, "this agent has no endpoint of kind jules in its configuration");
        if (rc) {
                destroy(j);
                return rc;
        }
        j->rest = (struct rest){.ep = j->ep,
                                .policy = j->policy,
                                .loop = c->loop,
                                .key_header = "X-Goog-Api-Key",
                                .on_answer = on_answer,
                                .arg = j};
        c->state = j;
        uv_timer_init(c->loop, &j->timer);
        j->timer.data = j->work.data = j;
        j->timer_open = true;
        j->working = uv_queue_work(c->loop, &j->work, read_key, on_key) == 0;
        if (!j->working) {
                err_set(e, E_NOMEM, "the agent has no thread for this call");
                end(j, TOOL_FAILED, NULL, e);
        }
        return 0;
}

void jules_cancel(struct tool_call *c, int grace_ms)
{
        struct jules *j = c->state;
        struct err e;

        (void)grace_ms;
        err_set(&e, E_CANCELLED, "it is followed no longer; Jules itself goes on%s%s", j->url ? ": " : "",
                j->url ? j->url : "");
        end(j, TOOL_CANCELLED, "cancelled", &e);
}

static void on_timer_closed(uv_handle_t *h)
{
        struct jules *j = h->data;

        j->timer_open = false;
        settle(j);
}

void jules_free(struct tool_call *c)
{
        struct jules *j = c->state;

        if (!j)
                return;
        c->state = NULL;
        j->gone = true;
        rest_stop(&j->rest);
        if (j->timer_open)
                uv_close((uv_handle_t *)&j->timer, on_timer_closed);
        settle(j);
}

const char *jules_describe(const struct tool *t)
{
        const struct endpoint *ep = models_of_kind(MODEL_JULES);

        (void)t;
        return ep && models_has_key(ep) ? "{\"logged_in\":true}" : "{\"logged_in\":false}";
}
