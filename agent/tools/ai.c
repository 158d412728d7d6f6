#include "agent/tools/ai.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/policy.h"
#include "agent/tools/ai_files.h"
#include "agent/tools/env.h"
#include "agent/tools/spawn.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"

#define FILES_MAX 256

/* A look at the folder on a worker thread. */
struct look {
        uv_work_t work;
        struct ai *a;
        char *dir;
        struct ai_files *files;
        int rc;
};

static void look_work(uv_work_t *w)
{
        struct look *l = container_of(w, struct look, work);

        l->rc = ai_files_scan(l->dir, &l->files);
}

static int look(struct ai *a, uv_after_work_cb after)
{
        struct look *l = mem_calloc(1, sizeof *l);

        if (!l)
                return -E_NOMEM;
        l->a = a;
        l->dir = mem_strdup(a->cwd);
        if (l->dir)
                a->looking = true;
        if (!l->dir || uv_queue_work(a->c->loop, &l->work, look_work, after)) {
                a->looking = false;
                mem_free(l->dir);
                mem_free(l);
                return -E_NOMEM;
        }
        return 0;
}

/* Takes the picture out of l, which is freed. */
static struct ai_files *look_over(struct look *l)
{
        struct ai_files *f = l->rc ? NULL : l->files;

        l->a->looking = false;
        mem_free(l->dir);
        mem_free(l);
        return f;
}

/* --- the end --------------------------------------------------------------------- */

static bool add_str(cJSON *o, const char *key, const char *v)
{
        return !v || cJSON_AddStringToObject(o, key, v);
}

static bool add_text(cJSON *o, const struct ai *a)
{
        char *text = str_utf8_lossy(a->text.data, a->text.len);
        bool ok = text && cJSON_AddStringToObject(o, "text", text);

        mem_free(text);
        return ok && (!a->text_cut || cJSON_AddBoolToObject(o, "text_truncated", true));
}

static bool add_changes(cJSON *o, const struct ai *a, const struct ai_files *after)
{
        cJSON *list = cJSON_AddArrayToObject(o, "files_changed");
        bool complete = false;

        if (!list)
                return false;
        if (a->before && after && ai_files_changes(a->before, after, AI_CHANGED_MAX, list, &complete))
                return false;
        return cJSON_AddBoolToObject(o, "files_complete", complete) != NULL;
}

static cJSON *build_outputs(const struct ai *a, const struct ai_files *after, const cJSON *usage)
{
        cJSON *o = cJSON_CreateObject(), *copy = cJSON_Duplicate(usage, true);

        if (copy && a->models) {
                cJSON *models = cJSON_Duplicate(a->models, true);

                if (!models || !cJSON_AddItemToObject(copy, "models", models))
                        cJSON_Delete(models);
        }
        if (o && copy && add_text(o, a) && add_str(o, "session", a->out_session) &&
            add_str(o, "model", a->out_model) && add_str(o, "stop_reason", a->stop_reason) &&
            (!a->turns || cJSON_AddNumberToObject(o, "turns", (double)a->turns)) &&
            add_changes(o, a, after) &&
            (a->usage.cost_usd < 0 || cJSON_AddNumberToObject(o, "cost_usd", a->usage.cost_usd)) &&
            (!a->denied || cJSON_AddNumberToObject(o, "permissions_denied", a->denied)) &&
            cJSON_AddItemToObject(o, "usage", copy))
                return o;
        cJSON_Delete(o);
        cJSON_Delete(copy);
        return NULL;
}

static void deliver(struct ai *a, struct ai_files *after)
{
        struct tool_result r = a->result;

        r.usage = event_usage_json(&a->usage);
        r.outputs = r.usage ? build_outputs(a, after, r.usage) : NULL;
        ai_files_free(after);
        if (!r.outputs && r.outcome == TOOL_SUCCEEDED) {
                r.outcome = TOOL_FAILED;
                r.error_code = "out_of_memory";
                r.error_message = "the agent has no memory left for the call's outputs";
        }
        tool_finish(a->c, &r);
}

static void maybe_closed(struct ai *a);

static void on_looked_after(uv_work_t *w, int status)
{
        struct look *l = container_of(w, struct look, work);
        struct ai *a = l->a;
        struct ai_files *after = look_over(l);

        (void)status;
        if (a->closing) {
                ai_files_free(after);
                maybe_closed(a);
        } else {
                deliver(a, after);
        }
}

static void on_looked_before(uv_work_t *w, int status)
{
        struct look *l = container_of(w, struct look, work);
        struct ai *a = l->a;

        (void)status;
        a->before = look_over(l);
        a->ready = true;
        if (a->closing) { /* the call was refused after all, or the agent ends */
                ai_files_free(a->before);
                a->before = NULL;
                maybe_closed(a);
        } else if (a->finishing) {
                deliver(a, NULL); /* it was stopped before it began */
        } else {
                ai_alive(a);
                a->on_ready(a);
        }
}

void ai_finish(struct ai *a, enum tool_outcome o, const char *code, const struct err *e)
{
        if (a->finishing)
                return;
        a->finishing = true;
        if (a->stall_open)
                uv_timer_stop(&a->stall);
        a->result.outcome = o;
        if (code) {
                snprintf(a->code, sizeof a->code, "%s", code);
                a->result.error_code = a->code;
                if (e)
                        a->why = *e;
                a->result.error_message = a->why.msg;
        }
        if (a->ready && look(a, on_looked_after))
                deliver(a, NULL);
}

bool ai_finishing(const struct ai *a)
{
        return a->finishing;
}

/* --- during ----------------------------------------------------------------------- */

static void on_stall(uv_timer_t *t)
{
        struct ai *a = t->data;

        if (!a->finishing)
                a->on_stall(a);
}

void ai_alive(struct ai *a)
{
        if (!a->stall_open || a->finishing || a->stall_ms == 0)
                return;
        if (!list_empty(&a->asked)) {
                uv_timer_stop(&a->stall);
                return;
        }
        /* Not sooner than asked for: the loop's idea of now may be old. */
        uv_update_time(a->c->loop);
        uv_timer_start(&a->stall, on_stall, (uint64_t)a->stall_ms, 0);
}

int ai_text(struct ai *a, const char *p, size_t n)
{
        size_t keep = n < AI_TEXT_MAX ? n : AI_TEXT_MAX;
        int rc;

        if (n == 0 || a->finishing)
                return 0;
        rc = event_text(a->c, p, n);
        if (a->text.len + keep > AI_TEXT_MAX || keep < n)
                a->text_cut = true;
        if (a->text.len + keep > AI_TEXT_MAX)
                buf_consume(&a->text, a->text.len + keep - AI_TEXT_MAX);
        if (buf_put(&a->text, p + n - keep, keep))
                a->text_cut = true;
        return rc;
}

int ai_thought(struct ai *a, const char *p, size_t n)
{
        return a->finishing ? 0 : event_thought(a->c, p, n);
}

void ai_set(char **slot, const char *text)
{
        char *copy = text ? mem_strdup(text) : NULL;

        if (text && !copy)
                return; /* the older one is better than none */
        mem_free(*slot);
        *slot = copy;
}

const char *ai_usage(struct ai *a, const struct event_usage *u)
{
        struct event_usage now = *u;
        int64_t tokens =
                (u->input_tokens > 0 ? u->input_tokens : 0) + (u->output_tokens > 0 ? u->output_tokens : 0);

        if (u->model)
                ai_set(&a->out_model, u->model);
        now.model = a->out_model;
        a->usage = now;
        if (!a->finishing)
                event_usage(a->c, &now);
        if (a->max_cost_usd >= 0 && u->cost_usd > a->max_cost_usd)
                return "cost_limit";
        if (a->max_tokens > 0 && tokens > a->max_tokens)
                return "token_limit";
        if (a->max_turns > 0 && a->turns > a->max_turns)
                return "turn_limit";
        return NULL;
}

/* --- questions ---------------------------------------------------------------------- */

struct asked {
        struct list link; /* in ai.asked */
        struct ai *a;
        uint32_t id;
        char *key;
        void (*on_decision)(void *arg, const struct tool_decision *d);
        void *arg;
};

static void asked_free(struct asked *q)
{
        mem_free(q->key);
        mem_free(q);
}

static char *action_key(const struct tool_question *q)
{
        return str_printf("%s|%s|%s", q->action ? q->action : "other", q->tool ? q->tool : "",
                          q->command ? q->command : "");
}

static bool is_always(const struct ai *a, const char *key)
{
        return key && a->always && cJSON_GetObjectItemCaseSensitive(a->always, key);
}

static void note_always(struct ai *a, const char *key)
{
        if (!a->always)
                a->always = cJSON_CreateObject();
        if (key && a->always && cJSON_GetArraySize(a->always) < AI_ALWAYS_MAX && !is_always(a, key))
                cJSON_AddTrueToObject(a->always, key);
}

static void on_decided(void *arg, const struct tool_decision *d)
{
        struct asked *q = arg;
        struct ai *a = q->a;

        list_remove(&q->link);
        ai_alive(a);
        if (d->outcome == ASK_ALLOWED && d->always)
                note_always(a, q->key);
        else if (d->outcome != ASK_ALLOWED)
                a->denied++;
        q->on_decision(q->arg, d);
        asked_free(q);
}

int ai_ask(struct ai *a, struct tool_question *q,
           void (*on_decision)(void *arg, const struct tool_decision *d), void *arg, uint32_t *out_id)
{
        struct asked *k = mem_calloc(1, sizeof *k);
        int rc = -E_NOMEM;

        if (!k || !(k->key = action_key(q)))
                goto fail;
        k->a = a;
        k->on_decision = on_decision;
        k->arg = arg;
        q->mode = is_always(a, k->key) ? "allow" : a->mode;
        q->timeout_ms = a->question_ms;
        rc = tool_ask(a->c, q, on_decided, k, out_id);
        if (rc)
                goto fail;
        k->id = *out_id;
        list_push_back(&a->asked, &k->link);
        ai_alive(a);
        return 0;
fail:
        if (k)
                asked_free(k);
        return rc;
}

void ai_withdraw(struct ai *a, uint32_t id)
{
        LIST_EACH_SAFE (l, nx, &a->asked) {
                struct asked *q = container_of(l, struct asked, link);

                if (q->id != id)
                        continue;
                tool_ask_withdraw(a->c, id);
                list_remove(&q->link);
                asked_free(q);
                ai_alive(a);
                return;
        }
}

/* --- the beginning --------------------------------------------------------------------- */

static int copy_str(const cJSON *o, const char *key, char **out, struct err *e)
{
        const char *v = NULL;
        int rc = json_str_opt(o, key, &v, e);

        if (rc || !v)
                return rc;
        *out = mem_strdup(v);
        return *out ? 0 : err_set(e, E_NOMEM, "out of memory");
}

static int read_duration(const cJSON *o, const char *key, int64_t *out, struct err *e)
{
        const char *v = NULL;
        int rc = json_str_opt(o, key, &v, e);

        if (!rc && v && str_parse_duration(v, out))
                rc = err_set(e, E_INVAL, "limits.%s: \"%s\" is not a duration such as 90s or 10m", key, v);
        return rc;
}

static int read_limits(struct ai *a, const cJSON *input, struct err *e)
{
        const cJSON *o = NULL, *cost;
        int rc = json_obj_opt(input, "limits", &o, e);

        a->stall_ms = AI_STALL_MS;
        a->max_cost_usd = -1;
        if (rc || !o)
                return rc;
        cost = cJSON_GetObjectItemCaseSensitive(o, "cost_usd");
        if (cJSON_IsNumber(cost))
                a->max_cost_usd = cost->valuedouble;
        rc = json_i64_opt(o, "turns", 1, INT32_MAX, &a->max_turns, e);
        if (!rc)
                rc = json_i64_opt(o, "tokens", 1, INT64_MAX / 2, &a->max_tokens, e);
        if (!rc)
                rc = read_duration(o, "stall", &a->stall_ms, e);
        return rc ? rc : read_duration(o, "question", &a->question_ms, e);
}

/* The call's own empty folder, or what the input says, if the policy lets it be changed (for a call that may
 * change nothing: read). */
static int read_cwd(struct ai *a, const cJSON *input, struct err *e)
{
        const char *cwd = NULL, *home = policy_home(a->c->policy);
        bool reads = a->mode && strcmp(a->mode, "deny") == 0;
        struct stat st;
        char *full;
        int rc = json_str_opt(input, "cwd", &cwd, e);

        if (rc)
                return rc;
        if (!cwd) {
                a->cwd = mem_strdup(a->c->scratch_dir);
                return a->cwd ? 0 : err_set(e, E_NOMEM, "out of memory");
        }
        if (cwd[0] == '~' && (cwd[1] == '\0' || cwd[1] == '/'))
                full = str_printf("%s%s", home, cwd + 1);
        else
                full = mem_strdup(cwd);
        if (!full)
                return err_set(e, E_NOMEM, "out of memory");
        rc = policy_path(a->c->policy, reads ? POLICY_READ : POLICY_WRITE, full, home, &a->cwd, e);
        mem_free(full);
        if (rc)
                return rc;
        if (stat(a->cwd, &st) != 0)
                return err_set(e, err_from_errno(errno), "the folder %s (cwd) %s on this agent: %s", a->cwd,
                               errno == ENOENT ? "does not exist" : "cannot be used", strerror(errno));
        if (!S_ISDIR(st.st_mode))
                return err_set(e, E_INVAL, "%s (cwd) is not a folder on this agent", a->cwd);
        return 0;
}

static int read_files(struct ai *a, const cJSON *input, struct err *e)
{
        const cJSON *list = NULL, *f;
        int rc = json_arr_opt(input, "files", &list, e);

        if (rc || !list)
                return rc;
        if (cJSON_GetArraySize(list) > FILES_MAX)
                return err_set(e, E_INVAL, "files: %d of them; at most %d", cJSON_GetArraySize(list),
                               FILES_MAX);
        a->files = cJSON_CreateArray();
        if (!a->files)
                return err_set(e, E_NOMEM, "out of memory");
        cJSON_ArrayForEach(f, list)
        {
                char *real = NULL;
                struct stat st;
                cJSON *s;

                if (!cJSON_IsString(f))
                        return err_set(e, E_INVAL, "files: expected texts");
                rc = policy_path(a->c->policy, POLICY_READ, f->valuestring, a->cwd, &real, e);
                if (!rc && stat(real, &st) != 0)
                        rc = err_set(e, err_from_errno(errno), "files: %s: %s on this agent", real,
                                     strerror(errno));
                s = rc ? NULL : cJSON_CreateString(real);
                mem_free(real);
                if (!rc && (!s || !cJSON_AddItemToArray(a->files, s)))
                        rc = err_set(e, E_NOMEM, "out of memory");
                if (rc)
                        return rc;
        }
        return 0;
}

static int read_input(struct ai *a, const cJSON *input, struct err *e)
{
        const cJSON *o = NULL;
        int rc = ai_prompt_text(input, AI_PROMPT_MAX, &a->prompt, e);

        if (!rc)
                rc = copy_str(input, "model", &a->model, e);
        if (!rc)
                rc = copy_str(input, "session", &a->session, e);
        if (!rc)
                rc = copy_str(input, "permission_mode", &a->mode, e);
        if (!rc)
                rc = read_limits(a, input, e);
        if (!rc)
                rc = read_cwd(a, input, e);
        if (!rc)
                rc = read_files(a, input, e);
        if (!rc)
                rc = json_obj_opt(input, "mcp_servers", &o, e);
        if (!rc && o && !(a->mcp_servers = cJSON_Duplicate(o, true)))
                rc = err_set(e, E_NOMEM, "out of memory");
        return rc;
}

int ai_open(struct ai *a, struct tool_call *c, const cJSON *input, void (*on_ready)(struct ai *a),
            void (*on_stall_)(struct ai *a), struct err *e)
{
        const cJSON *env = NULL;
        int rc;

        memset(a, 0, sizeof *a);
        list_init(&a->asked);
        a->c = c;
        a->on_ready = on_ready;
        a->on_stall = on_stall_;
        a->usage = event_usage_unknown;
        buf_init(&a->text, AI_TEXT_MAX);
        rc = read_input(a, input, e);
        if (!rc)
                rc = env_for_call(c, &a->env, e);
        if (!rc)
                rc = json_obj_opt(input, "env", &env, e);
        if (!rc)
                rc = env_from_json(&a->env, env, e);
        if (!rc && env_hide(a->env, c))
                rc = err_set(e, E_TOOBIG, "too many credentials in the environment of the call");
        if (rc)
                return rc;
        a->marker = env_marker(a->env);
        if (look(a, on_looked_before))
                return err_set(e, E_NOMEM, "out of memory");
        uv_timer_init(c->loop, &a->stall);
        a->stall.data = a;
        a->stall_open = true;
        return 0;
}

int ai_setenv(struct ai *a, const char *name, const char *value, struct err *e)
{
        int rc = env_put(&a->env, str_printf("%s=%s", name, value));

        a->marker = env_marker(a->env);
        return rc ? err_set(e, -rc, "out of memory") : 0;
}

int ai_passenv(struct ai *a, const char *glob, struct err *e)
{
        int rc = env_pass(&a->env, glob);

        if (!rc)
                rc = env_hide(a->env, a->c);
        a->marker = env_marker(a->env);
        return rc ? err_set(e, -rc, "out of memory") : 0;
}

const char *ai_getenv(const struct ai *a, const char *name)
{
        return env_get(a->env, name);
}

int ai_program(const struct ai *a, const char *name, char **out, struct err *e)
{
        int rc = policy_command(a->c->policy, name, false, e);

        return rc ? rc : spawn_find(name, env_get(a->env, "PATH"), a->cwd, out, e);
}

/* --- afterwards ---------------------------------------------------------------------------- */

static void maybe_closed(struct ai *a)
{
        if (!a->stall_open && !a->looking && a->on_closed)
                a->on_closed(a);
}

static void on_timer_closed(uv_handle_t *h)
{
        struct ai *a = h->data;

        a->stall_open = false;
        maybe_closed(a);
}

void ai_close(struct ai *a, void (*on_closed)(struct ai *a))
{
        struct list *l;

        /* Questions that were open when the call ended: nobody answers them any more. */
        while ((l = list_pop(&a->asked)))
                asked_free(container_of(l, struct asked, link));
        mem_free(a->prompt);
        mem_free(a->model);
        mem_free(a->session);
        mem_free(a->mode);
        mem_free(a->cwd);
        mem_free(a->out_session);
        mem_free(a->out_model);
        mem_free(a->stop_reason);
        cJSON_Delete(a->files);
        cJSON_Delete(a->mcp_servers);
        cJSON_Delete(a->always);
        cJSON_Delete(a->models);
        env_free(a->env);
        ai_files_free(a->before);
        buf_fini(&a->text);
        a->on_closed = on_closed;
        a->closing = true;
        if (a->stall_open)
                uv_close((uv_handle_t *)&a->stall, on_timer_closed);
        else
                maybe_closed(a);
}
