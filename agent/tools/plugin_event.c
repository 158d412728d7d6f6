#include "agent/tools/plugin_event.h"

#include <string.h>

#include "common/err.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"

#define TOKENS_MAX ((int64_t)1 << 53)

/* --- reading members ------------------------------------------------------------- */

static int number(const cJSON *o, const char *key, double *out, struct err *e)
{
        const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);

        if (!v || cJSON_IsNull(v))
                return 0;
        if (!cJSON_IsNumber(v))
                return err_set(e, E_INVAL, "%s: expected a number", key);
        *out = v->valuedouble;
        return 0;
}

static int one_of(const char *key, const char *v, const char *const *words, struct err *e)
{
        for (; v && *words; words++)
                if (strcmp(v, *words) == 0)
                        return 0;
        return v ? err_set(e, E_INVAL, "%s: \"%.60s\" is none of the words that docs/EVENTS.md lists", key, v)
                 : 0;
}

static const char *const kinds[] = {"read",    "edit",  "delete", "move",  "search",
                                    "execute", "think", "fetch",  "other", NULL};

/* --- what is shown ------------------------------------------------------------------ */

static int show_text(struct tool_call *c, const cJSON *o, struct plugin_event *v, struct err *e)
{
        const char *text = NULL;
        int rc = json_str(o, "text", &text, e);

        if (rc == 0)
                v->room = event_text(c, text, strlen(text));
        return rc;
}

static int show_thought(struct tool_call *c, const cJSON *o, struct plugin_event *v, struct err *e)
{
        const char *text = NULL;
        int rc = json_str(o, "text", &text, e);

        if (rc == 0)
                v->room = event_thought(c, text, strlen(text));
        return rc;
}

static int show_progress(struct tool_call *c, const cJSON *o, struct plugin_event *v, struct err *e)
{
        const char *message = NULL;
        double progress = -1, total = -1;
        int rc = number(o, "progress", &progress, e);

        if (rc == 0)
                rc = number(o, "total", &total, e);
        if (rc == 0)
                rc = json_str_opt(o, "message", &message, e);
        if (rc == 0 && progress < 0)
                rc = err_set(e, E_INVAL, "progress: expected a number of 0 or more");
        if (rc == 0)
                v->room = event_progress(c, progress, total, message);
        return rc;
}

static int show_log(struct tool_call *c, const cJSON *o, struct plugin_event *v, struct err *e)
{
        static const char *const levels[] = {"debug", "info", "warning", "error", NULL};
        const char *level = "info", *message = NULL;
        int rc = json_str_opt(o, "level", &level, e);

        if (rc == 0)
                rc = one_of("level", level, levels, e);
        if (rc == 0)
                rc = json_str(o, "message", &message, e);
        if (rc == 0)
                v->room = event_log(c, level, message);
        return rc;
}

static int read_usage(const cJSON *o, struct event_usage *u, struct err *e)
{
        struct {
                const char *key;
                int64_t *to;
        } counts[] = {
                {"input_tokens", &u->input_tokens},           {"output_tokens", &u->output_tokens},
                {"cache_read_tokens", &u->cache_read_tokens}, {"cache_write_tokens", &u->cache_write_tokens},
                {"thought_tokens", &u->thought_tokens},       {"context_used", &u->context_used},
                {"context_size", &u->context_size},
        };
        int rc = 0;

        *u = event_usage_unknown;
        for (size_t i = 0; i < sizeof counts / sizeof *counts && !rc; i++)
                rc = json_i64_opt(o, counts[i].key, 0, TOKENS_MAX, counts[i].to, e);
        if (rc == 0)
                rc = number(o, "cost_usd", &u->cost_usd, e);
        if (rc == 0 && u->cost_usd >= 0)
                u->cost_source = "reported";
        return rc ? rc : json_str_opt(o, "model", &u->model, e);
}

static int show_usage(struct tool_call *c, const cJSON *o, struct plugin_event *v, struct err *e)
{
        struct event_usage u;
        int rc = read_usage(o, &u, e);

        if (rc == 0)
                v->room = event_usage(c, &u);
        return rc;
}

static int show_tool(struct tool_call *c, const cJSON *o, struct plugin_event *v, struct err *e)
{
        static const char *const statuses[] = {"pending", "running", "completed", "failed", NULL};
        struct event_tool t = {0};
        int rc = json_str(o, "id", &t.id, e);

        if (rc == 0)
                rc = json_str_opt(o, "kind", &t.kind, e);
        if (rc == 0)
                rc = one_of("kind", t.kind, kinds, e);
        if (rc == 0)
                rc = json_str_opt(o, "status", &t.status, e);
        if (rc == 0)
                rc = one_of("status", t.status, statuses, e);
        if (rc == 0)
                rc = json_str_opt(o, "title", &t.title, e);
        if (rc == 0)
                rc = json_str_opt(o, "name", &t.name, e);
        if (rc == 0)
                rc = json_str_opt(o, "output", &t.output, e);
        if (rc == 0)
                rc = json_arr_opt(o, "locations", &t.locations, e);
        if (rc == 0)
                rc = json_arr_opt(o, "diff", &t.diff, e);
        if (rc)
                return rc;
        t.input = cJSON_GetObjectItemCaseSensitive(o, "input");
        t.output_len = t.output ? strlen(t.output) : 0;
        v->room = event_tool(c, &t);
        return 0;
}

static int show_plan(struct tool_call *c, const cJSON *o, struct plugin_event *v, struct err *e)
{
        static const char *const statuses[] = {"pending", "running", "completed", NULL};
        const cJSON *entries = NULL, *i;
        const char *text, *status;
        int rc = json_arr_opt(o, "entries", &entries, e);

        if (rc == 0 && !entries)
                rc = err_set(e, E_INVAL, "entries: expected a list");
        cJSON_ArrayForEach(i, entries)
        {
                text = status = NULL;
                if (!rc)
                        rc = json_str(i, "text", &text, e);
                if (!rc)
                        rc = json_str(i, "status", &status, e);
                if (!rc)
                        rc = one_of("status", status, statuses, e);
        }
        if (rc == 0)
                v->room = event_plan(c, entries);
        return rc;
}

/* --- what the call must act on ------------------------------------------------------- */

static int read_paths(const cJSON *o, struct plugin_event *v, struct err *e)
{
        const size_t max = sizeof v->paths / sizeof *v->paths - 1;
        const cJSON *list = NULL, *i;
        size_t n = 0;
        int rc = json_arr_opt(o, "paths", &list, e);

        cJSON_ArrayForEach(i, list)
        {
                if (!cJSON_IsString(i) || n == max)
                        return err_set(e, E_INVAL, "paths: expected a list of at most %zu texts", max);
                v->paths[n++] = i->valuestring;
        }
        if (n)
                v->question.paths = v->paths;
        return rc;
}

static int read_question(struct tool_call *c, const cJSON *o, struct plugin_event *v, struct err *e)
{
        static const char *const asks[] = {"permission", "input", NULL};
        struct tool_question *q = &v->question;
        const char *kind = "permission", *timeout = NULL;
        int rc = json_str(o, "id", &v->id, e);

        q->action = "other";
        if (rc == 0 && (!*v->id || strlen(v->id) > PLUGIN_ID_MAX))
                rc = err_set(e, E_INVAL, "id: expected a text of 1 to %d bytes", PLUGIN_ID_MAX);
        if (rc == 0)
                rc = json_str_opt(o, "kind", &kind, e);
        if (rc == 0)
                rc = one_of("kind", kind, asks, e);
        if (rc == 0)
                rc = json_str_opt(o, "action", &q->action, e);
        if (rc == 0)
                rc = one_of("action", q->action, kinds, e);
        if (rc == 0)
                rc = json_str(o, "title", &q->title, e);
        if (rc == 0)
                rc = json_obj_opt(o, "arguments", &q->arguments, e);
        if (rc == 0)
                rc = json_str_opt(o, "command", &q->command, e);
        if (rc == 0)
                rc = json_obj_opt(o, "schema", &q->schema, e);
        if (rc == 0)
                rc = json_str_opt(o, "timeout", &timeout, e);
        if (rc == 0 && timeout && str_parse_duration(timeout, &q->timeout_ms) != 0)
                rc = err_set(e, E_INVAL, "timeout: \"%.40s\" is not a duration such as 10m", timeout);
        if (rc == 0)
                rc = read_paths(o, v, e);
        if (rc)
                return rc;
        q->kind = strcmp(kind, "input") == 0 ? ASK_INPUT : ASK_PERMISSION;
        q->tool = c->tool->name;
        v->kind = PLUGIN_EVENT_QUESTION;
        return 0;
}

/* outputs and usage, as owned trees. */
static int take_end(cJSON *o, struct plugin_event *v, struct err *e)
{
        const cJSON *outputs = NULL, *usage = NULL;
        struct event_usage u;
        int rc = json_obj_opt(o, "outputs", &outputs, e);

        if (rc == 0)
                rc = json_obj_opt(o, "usage", &usage, e);
        if (rc == 0 && usage) {
                rc = read_usage(usage, &u, e);
                if (rc == 0 && !(v->usage = event_usage_json(&u)))
                        rc = err_set(e, E_NOMEM, "out of memory");
        }
        if (rc == 0 && outputs)
                v->outputs = cJSON_DetachItemFromObjectCaseSensitive(o, "outputs");
        return rc;
}

static int read_result(struct tool_call *c, const cJSON *o, struct plugin_event *v, struct err *e)
{
        int rc = take_end(v->tree, v, e);

        (void)c;
        (void)o;
        if (rc == 0 && !v->outputs && !(v->outputs = cJSON_CreateObject()))
                rc = err_set(e, E_NOMEM, "out of memory");
        v->kind = PLUGIN_EVENT_RESULT;
        return rc;
}

static bool is_code(const char *s)
{
        size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789_");

        return n > 0 && n <= PLUGIN_CODE_MAX && s[n] == '\0' && s[0] >= 'a';
}

static int read_error(struct tool_call *c, const cJSON *o, struct plugin_event *v, struct err *e)
{
        int rc = json_str(o, "code", &v->code, e);

        (void)c;
        if (rc == 0 && !is_code(v->code))
                rc = err_set(
                        e, E_INVAL,
                        "code: \"%.60s\" is no error code: lower case letters, digits and '_', at most %d",
                        v->code, PLUGIN_CODE_MAX);
        if (rc == 0)
                rc = json_str(o, "message", &v->message, e);
        if (rc == 0 && !*v->message)
                rc = err_set(e, E_INVAL, "message: is empty; say what happened and what to do");
        v->kind = PLUGIN_EVENT_ERROR;
        return rc ? rc : take_end(v->tree, v, e);
}

static const struct {
        const char *type;
        int (*take)(struct tool_call *c, const cJSON *o, struct plugin_event *v, struct err *e);
} types[] = {
        {"text", show_text},   {"thought", show_thought},   {"progress", show_progress},
        {"log", show_log},     {"usage", show_usage},       {"tool", show_tool},
        {"plan", show_plan},   {"question", read_question}, {"result", read_result},
        {"error", read_error},
};

/* --- a line --------------------------------------------------------------------------- */

static int show_line(struct tool_call *c, const char *line, size_t n, struct plugin_event *v, struct err *e)
{
        char *text = str_utf8_lossy(line, n);

        if (!text)
                return err_set(e, E_NOMEM, "out of memory");
        v->room = event_log(c, "info", text);
        mem_free(text);
        return 0;
}

static int show_unknown(struct tool_call *c, const char *type, struct plugin_event *v, struct err *e)
{
        char *text = str_printf("an event of the unknown type \"%.60s\" was left out", type);

        if (!text)
                return err_set(e, E_NOMEM, "out of memory");
        v->room = event_log(c, "warning", text);
        mem_free(text);
        return 0;
}

static int take_tree(struct tool_call *c, struct plugin_event *v, struct err *e)
{
        struct err why = {0};
        const char *type = NULL;
        int rc = json_str(v->tree, "type", &type, &why);

        for (size_t i = 0; i < sizeof types / sizeof *types && !rc; i++)
                if (strcmp(type, types[i].type) == 0) {
                        rc = types[i].take(c, v->tree, v, &why);
                        goto out;
                }
        if (rc == 0)
                rc = show_unknown(c, type, v, &why);
out:
        if (rc == -E_INVAL)
                return err_set(e, E_PROTO, "%s%s%s", type ? type : "", type ? ": " : "", why.msg);
        return rc ? err_set(e, -rc, "%s", why.msg) : 0;
}

int plugin_event_read(struct tool_call *c, char *line, size_t n, struct plugin_event *out, struct err *e)
{
        struct plugin_event v = {0};
        struct err why = {0};
        size_t skip = strspn(line, " \t");
        int rc;

        if (line[skip] != '{') {
                rc = show_line(c, line, n, &v, e);
        } else {
                json_mend(line, n);
                rc = json_parse(line, n, &v.tree, &why);
                if (rc)
                        err_set(e, rc == -E_NOMEM ? E_NOMEM : E_PROTO, "%s", why.msg);
                else
                        rc = take_tree(c, &v, e);
                if (rc)
                        rc = rc == -E_NOMEM ? rc : -E_PROTO;
        }
        if (rc)
                plugin_event_fini(&v);
        else
                *out = v;
        if (!rc && v.question.paths)
                out->question.paths = out->paths;
        return rc;
}

void plugin_event_fini(struct plugin_event *v)
{
        cJSON_Delete(v->outputs);
        cJSON_Delete(v->usage);
        cJSON_Delete(v->tree);
        v->outputs = v->usage = v->tree = NULL;
}
