#include "agent/tools/acp_update.h"

#include <string.h>

#include "agent/tools/acp_offer.h"
#include "agent/tools/ai.h"
#include "common/json.h"
#include "common/log.h"
#include "common/map.h"
#include "common/mem.h"
#include "common/str.h"

static const cJSON *member(const cJSON *o, const char *key)
{
        return cJSON_GetObjectItemCaseSensitive(o, key);
}

static const char *text(const cJSON *o, const char *key)
{
        const cJSON *v = member(o, key);

        return cJSON_IsString(v) ? v->valuestring : NULL;
}

static int64_t number(const cJSON *o, const char *key, int64_t absent)
{
        const cJSON *v = member(o, key);

        return cJSON_IsNumber(v) && v->valuedouble >= 0 && v->valuedouble < 9e15 ? (int64_t)v->valuedouble
                                                                                 : absent;
}

/* Every event passes here: one that found no room makes the agent wait. */
static void sent(struct acp_view *v, int rc)
{
        if (rc == -E_FULL && !v->hurry)
                v->full = true;
}

/* --- text ------------------------------------------------------------------ */

static void keep_tail(struct acp_view *v, const char *s, size_t n)
{
        size_t have = strlen(v->tail);

        if (n > ACP_TAIL) {
                s += n - ACP_TAIL;
                n = ACP_TAIL;
        }
        if (have + n > ACP_TAIL) {
                memmove(v->tail, v->tail + (have + n - ACP_TAIL), ACP_TAIL - n);
                have = ACP_TAIL - n;
        }
        memcpy(v->tail + have, s, n);
        v->tail[have + n] = '\0';
}

/* The model was asked again when something follows the end of a tool. ACP has no count of its own. */
static void in_turn(struct acp_view *v)
{
        if (v->ai->turns == 0 || v->between)
                v->ai->turns++;
        v->between = false;
        if (v->ai->max_turns > 0 && v->ai->turns > v->ai->max_turns)
                v->limit = "turn_limit";
}

static void on_text(struct acp_view *v, const cJSON *u)
{
        const char *s = text(member(u, "content"), "text");

        if (!s || !*s || v->replaying)
                return;
        if (v->between || v->ai->turns == 0)
                v->tail[0] = '\0';
        keep_tail(v, s, strlen(s));
        if (v->notes && !text(u, "messageId")) {
                sent(v, event_log(v->ai->c, "warning", s));
                return;
        }
        in_turn(v);
        sent(v, ai_text(v->ai, s, strlen(s)));
}

static void on_thought(struct acp_view *v, const cJSON *u)
{
        const char *s = text(member(u, "content"), "text");

        if (!s || v->replaying)
                return;
        in_turn(v);
        sent(v, ai_thought(v->ai, s, strlen(s)));
}

/* --- tool uses ---------------------------------------------------------------- */

const char *acp_kind(const char *kind)
{
        static const char *const known[] = {"read",    "edit",  "delete", "move", "search",
                                            "execute", "think", "fetch",  "other"};

        for (size_t i = 0; kind && i < sizeof known / sizeof *known; i++)
                if (strcmp(known[i], kind) == 0)
                        return known[i];
        return kind ? "other" : NULL;
}

static const char *status_of(const cJSON *u)
{
        const char *s = text(u, "status");

        if (!s)
                return NULL;
        if (strcmp(s, "in_progress") == 0)
                return "running";
        return strcmp(s, "pending") == 0 || strcmp(s, "completed") == 0 || strcmp(s, "failed") == 0 ? s
                                                                                                    : NULL;
}

static const char *name_of(const cJSON *u)
{
        const char *s = text(u, "name");

        return s ? s : text(member(member(u, "_meta"), "claudeCode"), "toolName");
}

static void use_free(struct acp_use *u)
{
        if (!u)
                return;
        mem_free(u->title);
        mem_free(u->kind);
        mem_free(u->name);
        cJSON_Delete(u->input);
        cJSON_Delete(u->locations);
        cJSON_Delete(u->content);
        mem_free(u);
}

static bool small(const cJSON *v)
{
        char *s = json_text(v);
        bool ok = s && strlen(s) <= ACP_INPUT_MAX;

        mem_free(s);
        return ok;
}

/* Replaces *slot by a copy of v, unless v says nothing. */
static void keep(cJSON **slot, const cJSON *v)
{
        cJSON *copy;

        if (!v || cJSON_IsNull(v) || (cJSON_IsArray(v) && !v->child) || (cJSON_IsObject(v) && !v->child) ||
            !small(v))
                return;
        copy = cJSON_Duplicate(v, true);
        if (!copy)
                return;
        cJSON_Delete(*slot);
        *slot = copy;
}

static struct acp_use *use_make(struct acp_view *v, const char *id)
{
        struct acp_use *u;

        if (map_count(v->uses) >= ACP_USES_MAX)
                return NULL;
        u = mem_calloc(1, sizeof *u);
        if (u && map_put(v->uses, id, u, NULL)) {
                mem_free(u);
                u = NULL;
        }
        return u;
}

const struct acp_use *acp_view_use(struct acp_view *v, const cJSON *call)
{
        const char *id = text(call, "toolCallId");
        struct acp_use *u = id ? map_get(v->uses, id) : NULL;

        if (id && !u)
                u = use_make(v, id);
        if (!u)
                return NULL;
        if (text(call, "title"))
                ai_set(&u->title, text(call, "title"));
        if (text(call, "kind"))
                ai_set(&u->kind, acp_kind(text(call, "kind")));
        if (name_of(call))
                ai_set(&u->name, name_of(call));
        keep(&u->input, member(call, "rawInput"));
        keep(&u->locations, member(call, "locations"));
        keep(&u->content, member(call, "content"));
        return u;
}

/* [{"path", "line"}] without what is not of that form; NULL: nothing to say. */
static cJSON *locations_of(const cJSON *u)
{
        cJSON *out = cJSON_CreateArray();
        const cJSON *l;

        cJSON_ArrayForEach(l, member(u, "locations"))
        {
                cJSON *o = text(l, "path") ? cJSON_CreateObject() : NULL;

                if (!o)
                        continue;
                cJSON_AddStringToObject(o, "path", text(l, "path"));
                if (number(l, "line", -1) >= 0)
                        cJSON_AddNumberToObject(o, "line", (double)number(l, "line", 0));
                if (!cJSON_AddItemToArray(out, o))
                        cJSON_Delete(o);
        }
        if (out && out->child)
                return out;
        cJSON_Delete(out);
        return NULL;
}

static cJSON *diff_of(const cJSON *u)
{
        cJSON *out = cJSON_CreateArray();
        const cJSON *c;

        cJSON_ArrayForEach(c, member(u, "content"))
        {
                const char *type = text(c, "type");
                cJSON *o;

                if (!type || strcmp(type, "diff") != 0 || !text(c, "path") || !text(c, "newText"))
                        continue;
                o = cJSON_CreateObject();
                cJSON_AddStringToObject(o, "path", text(c, "path"));
                if (text(c, "oldText"))
                        cJSON_AddStringToObject(o, "old_text", text(c, "oldText"));
                else
                        cJSON_AddNullToObject(o, "old_text");
                cJSON_AddStringToObject(o, "new_text", text(c, "newText"));
                if (!o || !cJSON_AddItemToArray(out, o))
                        cJSON_Delete(o);
        }
        if (out && out->child)
                return out;
        cJSON_Delete(out);
        return NULL;
}

/* What it gave back: a text as it is, else the texts among its content, else the object as JSON. */
static void output_of(const cJSON *u, struct buf *b)
{
        const cJSON *raw = member(u, "rawOutput"), *c;

        if (cJSON_IsString(raw)) {
                (void)buf_puts(b, raw->valuestring);
                return;
        }
        cJSON_ArrayForEach(c, member(u, "content"))
        {
                const char *s = text(member(c, "content"), "text");

                if (s)
                        (void)buf_printf(b, "%s%s", b->len ? "\n" : "", s);
        }
        if (b->len == 0 && raw && !cJSON_IsNull(raw) && raw->child)
                (void)json_append(b, raw);
}

static void on_tool(struct acp_view *v, const cJSON *u)
{
        const char *id = text(u, "toolCallId"), *status = status_of(u);
        bool over = status && (strcmp(status, "completed") == 0 || strcmp(status, "failed") == 0);
        const cJSON *input = member(u, "rawInput");
        struct event_tool t = {.id = id, .status = status};
        struct buf b;

        if (!id || v->replaying)
                return;
        if (!map_get(v->uses, id) && !over)
                in_turn(v);
        (void)acp_view_use(v, u);
        buf_init(&b, EVENT_TEXT_MAX * 2);
        t.kind = acp_kind(text(u, "kind"));
        t.title = text(u, "title");
        t.name = name_of(u);
        t.input = input && input->child ? input : NULL;
        t.locations = locations_of(u);
        t.diff = diff_of(u);
        output_of(u, &b);
        t.output = b.len ? (const char *)b.data : NULL;
        t.output_len = b.len;
        if (t.kind || t.title || t.status || t.input || t.locations || t.diff || t.output)
                sent(v, event_tool(v->ai->c, &t));
        cJSON_Delete((cJSON *)(uintptr_t)t.locations);
        cJSON_Delete((cJSON *)(uintptr_t)t.diff);
        buf_fini(&b);
        if (over) {
                use_free(map_del(v->uses, id));
                v->between = true;
        }
}

/* --- plan, usage, the rest -------------------------------------------------------- */

static void on_plan(struct acp_view *v, const cJSON *u)
{
        cJSON *out = v->replaying ? NULL : cJSON_CreateArray();
        const cJSON *p;

        cJSON_ArrayForEach(p, member(u, "entries"))
        {
                cJSON *o = out && text(p, "content") ? cJSON_CreateObject() : NULL;

                if (!o)
                        continue;
                cJSON_AddStringToObject(o, "text", text(p, "content"));
                if (status_of(p))
                        cJSON_AddStringToObject(o, "status", status_of(p));
                if (text(p, "priority"))
                        cJSON_AddStringToObject(o, "priority", text(p, "priority"));
                if (!cJSON_AddItemToArray(out, o))
                        cJSON_Delete(o);
        }
        if (out)
                sent(v, event_plan(v->ai->c, out));
        cJSON_Delete(out);
}

static void tell_usage(struct acp_view *v, const struct event_usage *u)
{
        const char *limit = ai_usage(v->ai, u);

        if (limit)
                v->limit = limit;
}

static void on_usage(struct acp_view *v, const cJSON *u)
{
        struct event_usage now = v->ai->usage;
        const cJSON *cost = member(u, "cost"), *amount = member(cost, "amount");
        const char *currency = text(cost, "currency");

        if (v->replaying)
                return;
        now.context_used = number(u, "used", now.context_used);
        now.context_size = number(u, "size", now.context_size);
        now.model = text(member(u, "_meta"), "_claude/model");
        if (cJSON_IsNumber(amount) && amount->valuedouble >= 0 && currency && strcmp(currency, "USD") == 0) {
                /* The sum of the session, earlier calls included. */
                now.cost_usd = amount->valuedouble - v->cost_before;
                if (now.cost_usd < 0)
                        now.cost_usd = amount->valuedouble;
                now.cost_source = "reported";
        }
        tell_usage(v, &now);
}

void acp_view_usage(struct acp_view *v, const cJSON *result)
{
        const cJSON *u = member(result, "usage"), *quota = member(member(result, "_meta"), "quota"),
                    *count = member(quota, "token_count"),
                    *first = cJSON_GetArrayItem(member(quota, "model_usage"), 0);
        struct event_usage now = v->ai->usage;

        now.model = text(first, "model");
        if (cJSON_IsObject(u)) {
                now.input_tokens = number(u, "inputTokens", -1);
                now.output_tokens = number(u, "outputTokens", -1);
                now.cache_read_tokens = number(u, "cachedReadTokens", -1);
                now.cache_write_tokens = number(u, "cachedWriteTokens", -1);
                now.thought_tokens = number(u, "thoughtTokens", -1);
        } else if (cJSON_IsObject(count)) { /* Gemini CLI */
                now.input_tokens = number(count, "input_tokens", -1);
                now.output_tokens = number(count, "output_tokens", -1);
        } else {
                return;
        }
        tell_usage(v, &now);
}

static void on_mode(struct acp_view *v, const cJSON *u)
{
        if (text(u, "currentModeId"))
                ai_set(&v->offer->mode.current, text(u, "currentModeId"));
}

static void on_config(struct acp_view *v, const cJSON *u)
{
        (void)acp_offer_session(v->offer, u);
}

/* codex-acp ends a turn that broke down with "end_turn", and says so only here. */
static void on_info(struct acp_view *v, const cJSON *u)
{
        const char *s = text(member(member(member(u, "_meta"), "codex"), "threadStatus"), "type");

        if (s && strcmp(s, "systemError") == 0)
                v->broken = true;
        else if (s && strcmp(s, "active") == 0)
                v->broken = false;
}

static void on_ignored(struct acp_view *v, const cJSON *u)
{
        (void)v;
        (void)u;
}

static const struct {
        const char *kind;
        void (*fn)(struct acp_view *v, const cJSON *u);
} updates[] = {
        {"agent_message_chunk", on_text},
        {"agent_thought_chunk", on_thought},
        {"tool_call", on_tool},
        {"tool_call_update", on_tool},
        {"plan", on_plan},
        {"usage_update", on_usage},
        {"current_mode_update", on_mode},
        {"config_option_update", on_config},
        {"session_info_update", on_info},
        {"user_message_chunk", on_ignored},
        {"available_commands_update", on_ignored},
};

void acp_update(struct acp_view *v, const cJSON *update)
{
        const char *kind = text(update, "sessionUpdate");

        for (size_t i = 0; kind && i < sizeof updates / sizeof *updates; i++) {
                if (strcmp(updates[i].kind, kind) == 0) {
                        updates[i].fn(v, update);
                        return;
                }
        }
        if (v->unknown++ == 0)
                log_debug("acp", "an update of a kind that is not known", "kind=%.60s", kind ? kind : "");
}

int acp_view_init(struct acp_view *v, struct ai *ai, struct acp_offer *offer)
{
        memset(v, 0, sizeof *v);
        v->ai = ai;
        v->offer = offer;
        v->uses = map_create();
        return v->uses ? 0 : -E_NOMEM;
}

void acp_view_fini(struct acp_view *v)
{
        size_t it = 0;
        void *u;

        if (!v->uses)
                return;
        while (map_next(v->uses, &it, NULL, &u))
                use_free(u);
        map_free(v->uses);
        v->uses = NULL;
}
