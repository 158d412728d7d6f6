#include "agent/tools/llm.h"

#include <stdio.h>
#include <string.h>

#include "agent/policy.h"
#include "agent/tools/event.h"
#include "agent/tools/http.h"
#include "agent/tools/llm_call.h"
#include "agent/tools/llm_in.h"
#include "common/err.h"
#include "common/id.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/secret.h"
#include "common/str.h"

#define BACKOFF_MS    500
#define BACKOFF_MAX   30000
#define AFTER_LAST_MS 2000 /* the last word came, but the connection stays open */

static const struct {
        const char *name;
        unsigned to; /* bits of allowed moves */
} states[] = {
        [LLM_LOADING] = {"loading", 1u << LLM_ASKING | 1u << LLM_OVER},
        [LLM_ASKING] = {"asking", 1u << LLM_WAITING | 1u << LLM_ANSWERING | 1u << LLM_OVER},
        [LLM_WAITING] = {"waiting", 1u << LLM_ASKING | 1u << LLM_OVER},
        [LLM_ANSWERING] = {"answering", 1u << LLM_OVER},
        [LLM_OVER] = {"over", 0},
};

static bool move(struct llm *l, enum llm_state to)
{
        if (!(states[l->state].to & 1u << to))
                return false;
        l->state = to;
        return true;
}

static uint64_t now_ms(void)
{
        return uv_hrtime() / 1000000;
}

static void end(struct llm *l, enum tool_outcome o, const char *code, const struct err *e)
{
        if (l->state == LLM_OVER)
                return;
        if (l->timer_open)
                uv_timer_stop(&l->timer);
        if (l->in_flight)
                curl_abort(&l->t);
        l->in_flight = false;
        llm_finish(l, o, code, e);
}

static void show_calls(struct llm *l)
{
        for (size_t i = 0; i < l->stream.n_calls; i++) {
                const struct llm_call *k = &l->stream.calls[i];
                cJSON *args = NULL;
                char *id = mem_strndup((const char *)k->id.data, k->id.len);
                char *name = mem_strndup((const char *)k->name.data, k->name.len);

                json_parse((const char *)k->arguments.data, k->arguments.len, &args, NULL);
                if (id && name) {
                        struct event_tool t = {.id = id,
                                               .kind = "other",
                                               .name = name,
                                               .title = name,
                                               .status = "pending",
                                               .input = args};

                        event_tool(l->c, &t);
                }
                cJSON_Delete(args);
                mem_free(id);
                mem_free(name);
        }
}

/* ---- time: the deadline, silence, the pause before another try ---- */

static void ask(struct llm *l);
static void on_timer(uv_timer_t *t);

static void arm(struct llm *l)
{
        uint64_t now = now_ms(), at = l->deadline_ms;

        if (l->state == LLM_WAITING && l->retry_at_ms < at)
                at = l->retry_at_ms;
        if (l->in_flight && l->stall_ms && !l->full && l->alive_ms + l->stall_ms < at)
                at = l->alive_ms + l->stall_ms;
        if (l->stream_open && l->stream.over && l->alive_ms + AFTER_LAST_MS < at)
                at = l->alive_ms + AFTER_LAST_MS;
        uv_timer_stop(&l->timer);
        if (l->state != LLM_OVER)
                uv_timer_start(&l->timer, on_timer, at > now ? at - now : 0, 0);
}

static void on_timer(uv_timer_t *t)
{
        struct llm *l = t->data;
        uint64_t now = now_ms();
        struct err e;

        if (l->stream_open && l->stream.over && now >= l->alive_ms + AFTER_LAST_MS) {
                show_calls(l);
                end(l, TOOL_SUCCEEDED, NULL, NULL);
        } else if (now >= l->deadline_ms) {
                err_set(&e, E_TIMEOUT, "the endpoint %s did not answer within the time limit%s", l->ep->name,
                        l->first_token_ms >= 0 ? "; what came of the answer is not whole" : "");
                end(l, TOOL_TIMED_OUT, "timeout", &e);
        } else if (l->state == LLM_WAITING && now >= l->retry_at_ms) {
                ask(l);
        } else if (l->in_flight && l->stall_ms && !l->full && now >= l->alive_ms + l->stall_ms) {
                char limit[32];

                str_format_duration((int64_t)l->stall_ms, limit);
                err_set(&e, E_TIMEOUT, "the endpoint %s said nothing for %s", l->ep->name, limit);
                end(l, TOOL_FAILED, "stalled", &e);
        } else {
                arm(l);
        }
}

void llm_on_alive(struct llm *l)
{
        l->alive_ms = now_ms();
}

/* ---- what comes ---- */

static void first_token(struct llm *l)
{
        if (l->first_token_ms >= 0)
                return;
        l->first_token_ms = (int64_t)(now_ms() - l->started_ms);
        move(l, LLM_ANSWERING);
}

void llm_on_fed(struct llm *l)
{
        if (l->stream.started)
                first_token(l);
        if (l->stream.over)
                arm(l);
}

static void on_text(void *arg, const char *p, size_t n)
{
        struct llm *l = arg;

        first_token(l);
        l->full |= event_text(l->c, p, n) == -E_FULL;
}

static void on_thought(void *arg, const char *p, size_t n)
{
        struct llm *l = arg;

        first_token(l);
        l->full |= event_thought(l->c, p, n) == -E_FULL;
}

static bool wait_and_retry(struct llm *l, const struct llm_outcome *o)
{
        int64_t delay = o->after_ms;
        uint64_t now = now_ms();
        char text[640], shown[32];

        if (!o->retryable || l->first_token_ms >= 0 || l->requests > l->retries)
                return false;
        if (delay < 0) {
                delay = (int64_t)BACKOFF_MS << (l->requests < 7 ? l->requests - 1 : 6);
                if (delay > BACKOFF_MAX)
                        delay = BACKOFF_MAX;
                delay += (int64_t)(id_random_u64() % (uint64_t)(delay / 4 + 1));
        }
        if (now + (uint64_t)delay >= l->deadline_ms)
                return false;
        l->retry_at_ms = now + (uint64_t)delay;
        str_format_duration(delay, shown);
        snprintf(text, sizeof text, "%s; trying again in %s (%d of %d)", o->why.msg, shown, l->requests,
                 l->retries);
        event_log(l->c, "warning", text);
        move(l, LLM_WAITING);
        return true;
}

void llm_on_answered(struct llm *l, CURLcode result)
{
        struct llm_outcome o;

        if (l->state == LLM_OVER)
                return;
        llm_look(l, result, &o);
        if (!o.code) {
                show_calls(l);
                end(l, TOOL_SUCCEEDED, NULL, NULL);
        } else if (wait_and_retry(l, &o)) {
                arm(l);
        } else {
                end(l, strcmp(o.code, "policy_denied") == 0 ? TOOL_REFUSED : TOOL_FAILED, o.code, &o.why);
        }
}

static void ask(struct llm *l)
{
        struct err e = {0};
        int rc;

        move(l, LLM_ASKING);
        l->alive_ms = now_ms();
        rc = llm_ask(l, &e);
        if (rc) {
                end(l, rc == -E_DENIED ? TOOL_REFUSED : TOOL_FAILED, rc == -E_DENIED ? "policy_denied" : NULL,
                    &e);
                return;
        }
        l->stream.json_by_tool = l->in.request.json && !l->in.request.tools;
        l->stream.on_text = on_text;
        l->stream.on_thought = on_thought;
        l->stream.arg = l;
        arm(l);
}

/* ---- loading ---- */

static void destroy(struct llm *l)
{
        if (l->in.key)
                mem_wipe((char *)(uintptr_t)l->in.key, strlen(l->in.key)); /* a copy in l->input */
        llm_input_fini(&l->in);
        cJSON_Delete(l->input);
        if (l->key)
                mem_wipe(l->key, strlen(l->key));
        mem_free(l->key);
        mem_free(l->body);
        buf_fini(&l->error_body);
        mem_free(l);
}

static void settle(struct llm *l)
{
        if (l->gone && !l->working && !l->timer_open)
                destroy(l);
}

static void load(uv_work_t *w)
{
        struct llm *l = w->data;
        struct llm_request *r = &l->in.request;
        cJSON *body;
        int rc = l->key ? 0 : models_key(l->ep, &l->key, &l->work_err);

        l->key_read = rc == 0;
        if (!rc)
                rc = llm_input_load(&l->in, l->policy, &l->work_err);
        r->messages = l->in.messages;
        r->model = l->model->name;
        r->max_output = l->model->max_output;
        r->official = strstr(l->ep->base_url, "//api.openai.com") != NULL;
        body = rc ? NULL : llm_wire(l->ep->kind)->build(r);
        l->body = body ? json_text(body) : NULL;
        cJSON_Delete(body);
        if (!rc && !l->body)
                rc = err_set(&l->work_err, E_NOMEM, "the agent is out of memory");
        l->body_n = l->body ? strlen(l->body) : 0;
        l->work_rc = rc;
}

static const char *load_code(const struct llm *l, int rc)
{
        if (!l->key_read)
                return rc == -E_NOMEM || rc == -E_CANCELLED ? NULL : "key_missing";
        switch (rc) {
        case -E_DENIED:
                return "policy_denied";
        case -E_TOOBIG:
                return "file_too_large";
        case -E_INVAL:
                return "bad_file";
        default:
                return NULL;
        }
}

static void end_no_memory(struct llm *l)
{
        err_set(&l->work_err, E_NOMEM, "the agent is out of memory");
        end(l, TOOL_FAILED, NULL, &l->work_err);
}

static void loaded(uv_work_t *w, int status)
{
        struct llm *l = w->data;
        int rc = status ? err_set(&l->work_err, E_CANCELLED, "the agent is ending") : l->work_rc;

        l->working = false;
        if (l->gone) {
                settle(l);
        } else if (l->state == LLM_OVER) {
                return;
        } else if (rc == 0) {
                /* A key that is too short to be masked is none. */
                if (l->key && tool_secret(l->c, l->key, strlen(l->key)) == -E_NOMEM)
                        end_no_memory(l);
                else
                        ask(l);
        } else {
                end(l, rc == -E_DENIED && l->key_read ? TOOL_REFUSED : TOOL_FAILED, load_code(l, rc),
                    &l->work_err);
        }
}

/* ---- the tool ---- */

static void set_limits(struct llm *l)
{
        int64_t limit = policy_limits(l->c->policy)->runtime_ms;
        int64_t ms = l->in.timeout_ms ? l->in.timeout_ms : l->ep->timeout_ms;

        if (limit > 0 && ms > limit)
                ms = limit;
        l->started_ms = l->alive_ms = now_ms();
        l->deadline_ms = l->started_ms + (uint64_t)ms;
        l->stall_ms = (uint64_t)l->ep->stall_ms;
        l->retries = l->in.retries >= 0 ? l->in.retries : l->ep->retries;
        l->local_only = l->in.local_only || l->ep->local;
}

/* Which endpoint and model? A code if there is none such. */
static const char *choose(struct llm *l, bool zai, struct err *e)
{
        const struct llm_input *in = &l->in;

        for (size_t i = 0; i < models_count(); i++) {
                const struct endpoint *ep = models_at(i);

                if (ep->kind == MODEL_JULES || (zai && ep->kind != MODEL_ZAI) ||
                    (in->endpoint && strcmp(ep->name, in->endpoint) != 0) ||
                    (!zai && ep->implied && !in->endpoint && !models_has_key(ep)))
                        continue;
                l->ep = l->ep ? l->ep : ep;
                if (in->local_only && !ep->local)
                        continue;
                l->model = in->model ? models_model(ep, in->model) : &ep->models[0];
                if (l->model) {
                        l->ep = ep;
                        return NULL;
                }
        }
        if (!l->ep) {
                err_set(e, E_NOENT,
                        in->endpoint
                                ? "this agent has no %sendpoint named %.63s; its configuration lists them"
                                : "this agent has no %smodel endpoint%s; list one under models: in its "
                                  "configuration",
                        zai ? "Z.AI " : "", in->endpoint ? in->endpoint : "");
                return "no_endpoint";
        }
        if (in->local_only && !l->ep->local) {
                err_set(e, E_DENIED,
                        "the request is local-only, and no such endpoint of this agent is marked local: "
                        "true");
                return "not_local";
        }
        err_set(e, E_NOENT,
                "no endpoint of this agent lists the model \"%.100s\"%s%.63s; see photon models, or add it "
                "to "
                "the agent's configuration",
                in->model ? in->model : "", in->endpoint ? " at " : "", in->endpoint ? in->endpoint : "");
        return "unknown_model";
}

static bool is_secret(const struct tool_call *c, const char *text)
{
        for (size_t i = 0; i < c->n_secrets; i++)
                if (c->secrets[i].n == strlen(text) &&
                    secret_equal(c->secrets[i].value, text, c->secrets[i].n))
                        return true;
        return false;
}

/* The step's own key. Nothing but a secret of the vault, since an input is kept and shown as it is; and for
 * an endpoint that the step names, or the router would choose who is told it. */
static int take_key(struct llm *l, bool zai, struct err *e)
{
        const char *key = l->in.key;
        size_t n = key ? strlen(key) : 0;

        if (!key)
                return 0;
        if (!zai && !l->in.endpoint)
                return err_set(e, E_INVAL, "key: name the endpoint that it is for (endpoint)");
        if (!is_secret(l->c, key))
                return err_set(e, E_INVAL,
                               "key: only a secret of the vault may stand here: ${{ secrets.NAME }}");
        while (n > 0 && (key[n - 1] == '\n' || key[n - 1] == '\r'))
                n--; /* an end of line that a file had */
        for (size_t i = 0; i < n; i++)
                if (key[i] <= ' ' || key[i] >= 0x7f)
                        return err_set(e, E_INVAL,
                                       "key: the secret is no key: it holds spaces, lines or letters that no "
                                       "key has");
        if (n == 0)
                return err_set(e, E_INVAL, "key: the secret is empty");
        l->key = mem_dup(key, n + 1);
        if (!l->key)
                return err_set(e, E_NOMEM, "out of memory");
        l->key[n] = '\0';
        l->key_read = true;
        return 0;
}

static int start(struct tool_call *c, const cJSON *input, bool zai, struct err *e)
{
        struct llm *l = mem_calloc(1, sizeof *l);
        const char *code;
        int rc;

        if (!l || !(l->input = cJSON_Duplicate(input, true))) {
                mem_free(l);
                return err_set(e, E_NOMEM, "out of memory");
        }
        l->c = c;
        l->policy = c->policy;
        l->first_token_ms = -1;
        buf_init(&l->error_body, LLM_ERROR_BODY_MAX + 1);
        rc = llm_input_read(l->input, &l->in, e);
        if (!rc)
                rc = take_key(l, zai, e);
        if (rc) {
                destroy(l);
                return rc;
        }
        c->state = l;
        code = choose(l, zai, e);
        if (code) {
                l->started_ms = now_ms();
                end(l, TOOL_FAILED, code, e);
                return 0;
        }
        set_limits(l);
        uv_timer_init(c->loop, &l->timer);
        l->timer.data = l;
        l->timer_open = true;
        uv_update_time(c->loop);
        uv_timer_start(&l->timer, on_timer, l->deadline_ms - l->started_ms, 0);
        l->work.data = l;
        rc = uv_queue_work(c->loop, &l->work, load, loaded);
        l->working = rc == 0;
        if (rc) {
                err_set(e, E_NOMEM, "the agent has no thread for this call");
                end(l, TOOL_FAILED, NULL, e);
        }
        return 0;
}

int llm_chat_start(struct tool_call *c, const cJSON *input, struct err *e)
{
        return start(c, input, false, e);
}

int zai_chat_start(struct tool_call *c, const cJSON *input, struct err *e)
{
        return start(c, input, true, e);
}

/* Hosts are asked about when the request is made: which one it is, is known then. */
int llm_chat_permit(const struct policy *p, const cJSON *input, struct err *e)
{
        return llm_input_permit(p, input, e);
}

int zai_chat_permit(const struct policy *p, const cJSON *input, struct err *e)
{
        return llm_input_permit(p, input, e);
}

void llm_cancel(struct tool_call *c, int grace_ms)
{
        struct llm *l = c->state;
        struct err e;

        (void)grace_ms;
        err_set(&e, E_CANCELLED, "the request was stopped on request; what came of the answer is not whole");
        end(l, TOOL_CANCELLED, "cancelled", &e);
}

void llm_output_room(struct tool_call *c)
{
        struct llm *l = c->state;

        llm_unpause(l);
        if (l->state != LLM_OVER)
                arm(l);
}

static void on_timer_closed(uv_handle_t *h)
{
        struct llm *l = h->data;

        l->timer_open = false;
        settle(l);
}

void llm_free(struct tool_call *c)
{
        struct llm *l = c->state;

        if (!l)
                return;
        c->state = NULL;
        l->gone = true;
        llm_unask(l);
        if (l->timer_open)
                uv_close((uv_handle_t *)&l->timer, on_timer_closed);
        settle(l);
}

const char *llm_describe(const struct tool *t)
{
        (void)t;
        return models_detail();
}

const char *zai_describe(const struct tool *t)
{
        const struct endpoint *ep = models_of_kind(MODEL_ZAI);

        (void)t;
        return ep && models_has_key(ep) ? "{\"logged_in\":true}" : "{\"logged_in\":false}";
}
