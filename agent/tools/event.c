#include "agent/tools/event.h"

#include <inttypes.h>
#include <string.h>

#include "agent/tools/tool.h"
#include "common/buf.h"
#include "common/err.h"
#include "common/json.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/str.h"

#define EVENT_LINE_MAX ((size_t)4 << 20)

const struct event_usage event_usage_unknown = {
        .input_tokens = -1,
        .output_tokens = -1,
        .cache_read_tokens = -1,
        .cache_write_tokens = -1,
        .thought_tokens = -1,
        .cost_usd = -1,
        .context_used = -1,
        .context_size = -1,
};

/* ---- a line under construction: the first error stays ---- */

struct line {
        struct tool_call *c;
        struct buf b;
        int rc;
};

static void begin(struct line *l, struct tool_call *c, const char *type)
{
        l->c = c;
        buf_init(&l->b, EVENT_LINE_MAX);
        l->rc = buf_printf(&l->b, "{\"type\":\"%s\"", type);
}

static void key(struct line *l, const char *name)
{
        if (!l->rc)
                l->rc = buf_printf(&l->b, ",\"%s\":", name);
}

/* The longest whole characters of [p, p + n) that fit. */
static size_t cut(const char *p, size_t n)
{
        if (n <= EVENT_TEXT_MAX)
                return n;
        for (n = EVENT_TEXT_MAX; n > 0 && ((unsigned char)p[n] & 0xc0) == 0x80;)
                n--;
        return n;
}

static void put_cut(struct line *l, const char *name, const char *p, size_t n)
{
        size_t take = cut(p, n);
        char *clean;

        key(l, name);
        if (l->rc)
                return;
        if (str_is_utf8(p, take) && !memchr(p, 0, take)) {
                l->rc = json_append_str(&l->b, p, take);
        } else {
                clean = str_utf8_lossy(p, take);
                l->rc = clean ? json_append_str(&l->b, clean, strlen(clean)) : -E_NOMEM;
                mem_free(clean);
        }
        if (!l->rc && take < n)
                l->rc = buf_puts(&l->b, ",\"truncated\":true");
}

/* Secrets go before the text is cut, when half of one would be none to the mask of the channel, and before it
 * is escaped, when it may have been escaped already. */
static void put_text(struct line *l, const char *name, const char *p, size_t n)
{
        struct buf masked;

        if (!tool_has_secrets(l->c)) {
                put_cut(l, name, p, n);
                return;
        }
        buf_init(&masked, 0);
        if (!l->rc)
                l->rc = tool_mask_text(l->c, p, n, &masked);
        if (!l->rc)
                put_cut(l, name, masked.len ? (const char *)masked.data : "", masked.len);
        if (masked.data)
                mem_wipe(masked.data, masked.cap);
        buf_fini(&masked);
}

static void put_str(struct line *l, const char *name, const char *s)
{
        if (s)
                put_text(l, name, s, strlen(s));
}

static void put_json(struct line *l, const char *name, const cJSON *v)
{
        cJSON *masked = NULL;

        if (!v)
                return;
        key(l, name);
        if (!l->rc && tool_has_secrets(l->c) && !(v = masked = tool_mask_tree(l->c, v)))
                l->rc = -E_NOMEM;
        if (!l->rc)
                l->rc = json_append(&l->b, v);
        cJSON_Delete(masked);
}

static void put_number(struct line *l, const char *name, double v)
{
        cJSON n = {.type = cJSON_Number, .valuedouble = v, .valueint = (int)(v > 0 && v < 1e9 ? v : 0)};

        put_json(l, name, &n);
}

static void dropped(const struct tool_call *c, int rc)
{
        log_warn("event", "an event was dropped", "attempt=%" PRIu64 " error=%s", c->attempt_id,
                 err_name(rc));
}

static int end(struct line *l)
{
        struct tool_call *c = l->c;
        int rc = l->rc;

        if (!rc)
                rc = buf_puts(&l->b, "}\n");
        if (rc) {
                dropped(c, rc);
                rc = 0;
        } else {
                c->has_events = true;
                rc = tool_output(c, TOOL_EVENT, l->b.data, l->b.len);
        }
        buf_fini(&l->b);
        return rc;
}

/* ---- the types ---- */

static int text_event(struct tool_call *c, const char *type, const char *p, size_t n)
{
        struct line l;

        begin(&l, c, type);
        put_text(&l, "text", p, n);
        return end(&l);
}

static const char *const piece_types[TOOL_TEXTS] = {[TOOL_TEXT] = "text", [TOOL_THOUGHT] = "thought"};

/* A secret may come in pieces, and each piece is a line of its own: so pieces are masked as the one text that
 * they are together. */
static int piece_event(struct tool_call *c, enum tool_text which, const char *p, size_t n, bool last)
{
        struct buf masked;
        int rc;

        if (!tool_has_secrets(c))
                return n ? text_event(c, piece_types[which], p, n) : 0;
        buf_init(&masked, 0);
        rc = tool_mask_piece(c, which, p, n, last, &masked);
        if (rc)
                dropped(c, rc);
        rc = masked.len && !rc ? text_event(c, piece_types[which], (char *)masked.data, masked.len) : 0;
        if (masked.data)
                mem_wipe(masked.data, masked.cap);
        buf_fini(&masked);
        return rc;
}

int event_text(struct tool_call *c, const char *p, size_t n)
{
        int rc, rc2;

        if (n == 0)
                return 0;
        rc = piece_event(c, TOOL_TEXT, p, n, false);
        rc2 = tool_output(c, TOOL_STDOUT, p, n);
        return rc ? rc : rc2;
}

int event_thought(struct tool_call *c, const char *p, size_t n)
{
        return n ? piece_event(c, TOOL_THOUGHT, p, n, false) : 0;
}

void event_rest(struct tool_call *c)
{
        for (int i = 0; i < TOOL_TEXTS; i++)
                (void)piece_event(c, i, "", 0, true);
}

int event_tool(struct tool_call *c, const struct event_tool *t)
{
        struct line l;

        begin(&l, c, "tool");
        put_str(&l, "id", t->id);
        put_str(&l, "kind", t->kind);
        put_str(&l, "name", t->name);
        put_str(&l, "title", t->title);
        put_str(&l, "status", t->status);
        put_json(&l, "input", t->input);
        put_json(&l, "locations", t->locations);
        put_json(&l, "diff", t->diff);
        if (t->output)
                put_text(&l, "output", t->output, t->output_len);
        return end(&l);
}

int event_plan(struct tool_call *c, const cJSON *entries)
{
        struct line l;

        begin(&l, c, "plan");
        put_json(&l, "entries", entries);
        return end(&l);
}

static bool add_count(cJSON *o, const char *name, int64_t v)
{
        return v < 0 || cJSON_AddNumberToObject(o, name, (double)v);
}

cJSON *event_usage_json(const struct event_usage *u)
{
        cJSON *o = cJSON_CreateObject();

        if (o && add_count(o, "input_tokens", u->input_tokens) &&
            add_count(o, "output_tokens", u->output_tokens) &&
            add_count(o, "cache_read_tokens", u->cache_read_tokens) &&
            add_count(o, "cache_write_tokens", u->cache_write_tokens) &&
            add_count(o, "thought_tokens", u->thought_tokens) &&
            add_count(o, "context_used", u->context_used) && add_count(o, "context_size", u->context_size) &&
            (u->cost_usd < 0 || cJSON_AddNumberToObject(o, "cost_usd", u->cost_usd)) &&
            (u->cost_usd < 0 || !u->cost_source ||
             cJSON_AddStringToObject(o, "cost_source", u->cost_source)) &&
            (!u->model || cJSON_AddStringToObject(o, "model", u->model)))
                return o;
        cJSON_Delete(o);
        return NULL;
}

int event_usage(struct tool_call *c, const struct event_usage *u)
{
        cJSON *o = event_usage_json(u);
        const cJSON *v;
        struct line l;

        begin(&l, c, "usage");
        if (!o)
                l.rc = -E_NOMEM;
        cJSON_ArrayForEach(v, o)
        {
                put_json(&l, v->string, v);
        }
        cJSON_Delete(o);
        return end(&l);
}

int event_progress(struct tool_call *c, double progress, double total, const char *message)
{
        struct line l;

        begin(&l, c, "progress");
        put_number(&l, "progress", progress);
        if (total >= 0)
                put_number(&l, "total", total);
        put_str(&l, "message", message);
        return end(&l);
}

int event_log(struct tool_call *c, const char *level, const char *message)
{
        struct line l;

        begin(&l, c, "log");
        put_str(&l, "level", level);
        put_str(&l, "message", message);
        return end(&l);
}

int event_question(struct tool_call *c, uint32_t id, const cJSON *members)
{
        const cJSON *v;
        struct line l;

        begin(&l, c, "question");
        put_number(&l, "id", id);
        cJSON_ArrayForEach(v, members)
        {
                put_json(&l, v->string, v);
        }
        return end(&l);
}

int event_answer(struct tool_call *c, uint32_t id, const char *outcome, const char *by, const char *reason)
{
        struct line l;

        begin(&l, c, "answer");
        put_number(&l, "id", id);
        put_str(&l, "outcome", outcome);
        put_str(&l, "by", by);
        put_str(&l, "reason", reason && *reason ? reason : NULL);
        return end(&l);
}

int event_result(struct tool_call *c, const char *status, const char *error_code, const char *error_message)
{
        struct line l;

        begin(&l, c, "result");
        put_str(&l, "status", status);
        put_str(&l, "error_code", error_code);
        put_str(&l, "error_message", error_message);
        return end(&l);
}
