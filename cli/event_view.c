#include "cli/event_view.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cli/event_diff.h"
#include "cli/print.h"
#include "common/json.h"
#include "common/map.h"
#include "common/mem.h"
#include "common/str.h"

#define COLS_MAX      300  /* of one line where there is no terminal */
#define USES_MAX      4096 /* tool uses remembered per step */
#define PLAN_SHOWN    20
#define PARTIAL_MAX   2048 /* of a line of text that waits for its end; then it is given out */
#define OUTPUT_SHOWN  4    /* lines of what a tool use gave back */
#define COMMAND_SHOWN 400

/* What is remembered of a tool use: an update does not repeat it. */
struct use {
        char kind[16], title[200], status[16];
};

struct said {
        int64_t attempt;
        struct map *uses;
        char progress[200];
        cJSON *usage;
};

enum flow { FLOW_NONE, FLOW_TEXT, FLOW_THOUGHT };

struct event_view {
        struct event_view_options o;
        struct map *steps; /* id -> struct said */
        struct buf out;
        enum flow flow; /* a line of text is under way */
        char *flow_step;
        struct buf partial; /* with o.lines */
        unsigned questions; /* shown so far */
};

/* ---- life ---- */

static void said_free(struct said *s)
{
        size_t it = 0;
        void *v;

        while (s->uses && map_next(s->uses, &it, NULL, &v))
                mem_free(v);
        map_free(s->uses);
        cJSON_Delete(s->usage);
        mem_free(s);
}

struct event_view *event_view_create(const struct event_view_options *o)
{
        struct event_view *v = mem_calloc(1, sizeof *v);

        if (!v)
                return NULL;
        v->o = *o;
        v->steps = map_create();
        if (!v->steps) {
                mem_free(v);
                return NULL;
        }
        return v;
}

void event_view_free(struct event_view *v)
{
        size_t it = 0;
        void *s;

        if (!v)
                return;
        while (map_next(v->steps, &it, NULL, &s))
                said_free(s);
        map_free(v->steps);
        buf_fini(&v->out);
        buf_fini(&v->partial);
        mem_free(v->flow_step);
        mem_free(v);
}

struct buf *event_view_out(struct event_view *v)
{
        return &v->out;
}

unsigned event_view_questions(const struct event_view *v)
{
        return v->questions;
}

const char *event_view_partial(const struct event_view *v)
{
        return v->partial.len ? (const char *)v->partial.data : "";
}

static struct said *said_of(struct event_view *v, const char *step, int64_t attempt)
{
        struct said *s = map_get(v->steps, step);

        if (s && s->attempt == attempt)
                return s;
        if (s) {
                map_del(v->steps, step);
                said_free(s);
        }
        s = mem_calloc(1, sizeof *s);
        if (!s || !(s->uses = map_create()) || map_put(v->steps, step, s, NULL)) {
                if (s)
                        said_free(s);
                return NULL;
        }
        s->attempt = attempt;
        return s;
}

bool event_view_speaks(const char *tool)
{
        static const char *const silent[] = {"process.exec", "file.read",    "file.write",
                                             "file.list",    "file.stat",    "file.delete",
                                             "file.patch",   "http.request", "photon.echo"};

        for (size_t i = 0; i < sizeof silent / sizeof *silent; i++)
                if (strcmp(tool, silent[i]) == 0)
                        return false;
        return *tool != '\0';
}

/* ---- writing ---- */

static const char *tint(const struct event_view *v, enum paint p)
{
        return v->o.color ? paint_sequence(p) : "";
}

static void put_prefix(struct event_view *v, const char *step)
{
        char *s = v->o.steps ? plain(step) : NULL;

        if (s)
                buf_printf(&v->out, "%s%s:%s ", tint(v, PAINT_DIM), s, tint(v, PAINT_NONE));
        mem_free(s);
}

/* The text of a partial line becomes a line. */
static void flush_partial(struct event_view *v)
{
        if (!v->partial.len)
                return;
        put_prefix(v, v->flow_step ? v->flow_step : "");
        buf_puts(&v->out, v->flow == FLOW_THOUGHT ? tint(v, PAINT_DIM) : "");
        buf_put(&v->out, v->partial.data, v->partial.len - 1);
        buf_puts(&v->out, v->flow == FLOW_THOUGHT ? tint(v, PAINT_NONE) : "");
        buf_putc(&v->out, '\n');
        buf_reset(&v->partial);
}

void event_view_break(struct event_view *v)
{
        if (v->flow == FLOW_NONE)
                return;
        if (v->o.lines)
                flush_partial(v);
        else
                buf_puts(&v->out, "\n");
        v->flow = FLOW_NONE;
}

/* One line, cut at the screen's width. */
static void put_line(struct event_view *v, const char *step, enum paint p, const char *text)
{
        size_t room = v->o.cols ? v->o.cols - 1 : COLS_MAX, used = v->o.steps ? text_width(step) + 2 : 0;
        char *clean = plain(text);
        bool cut = clean && used + text_width(clean) > room;

        event_view_break(v);
        put_prefix(v, step);
        buf_puts(&v->out, tint(v, p));
        for (const char *s = clean ? clean : ""; *s && (!cut || used + 3 < room); used++) {
                size_t n = str_utf8_len(s, strlen(s));

                buf_put(&v->out, s, n ? n : 1);
                s += n ? n : 1;
        }
        buf_puts(&v->out, cut ? "..." : "");
        buf_puts(&v->out, p ? tint(v, PAINT_NONE) : "");
        buf_putc(&v->out, '\n');
        mem_free(clean);
}

__attribute__((format(printf, 4, 5))) static void put_linef(struct event_view *v, const char *step,
                                                            enum paint p, const char *fmt, ...)
{
        struct buf b;
        char *text;
        va_list ap;

        buf_init(&b, 0);
        va_start(ap, fmt);
        buf_vprintf(&b, fmt, ap);
        va_end(ap);
        text = buf_steal_str(&b);
        if (text)
                put_line(v, step, p, text);
        mem_free(text);
        buf_fini(&b);
}

/* A part of a line: in place, or kept until its end comes. */
static void put_flow(struct event_view *v, const char *text, size_t n)
{
        char *piece = n ? mem_strndup(text, n) : NULL, *clean = piece ? plain(piece) : NULL;

        if (clean && !v->o.lines) {
                buf_puts(&v->out, v->flow == FLOW_THOUGHT ? tint(v, PAINT_DIM) : "");
                buf_puts(&v->out, clean);
                buf_puts(&v->out, v->flow == FLOW_THOUGHT ? tint(v, PAINT_NONE) : "");
        } else if (clean) {
                if (v->partial.len)
                        v->partial.len--; /* its NUL */
                if (buf_puts(&v->partial, clean) || buf_putc(&v->partial, '\0'))
                        buf_reset(&v->partial);
        }
        mem_free(clean);
        mem_free(piece);
}

static void begin_flow(struct event_view *v, const char *step, enum flow flow)
{
        if (v->flow == flow && v->flow_step && strcmp(v->flow_step, step) == 0)
                return;
        event_view_break(v);
        v->flow = flow;
        mem_free(v->flow_step);
        v->flow_step = mem_strdup(step);
        if (!v->o.lines)
                put_prefix(v, step);
        if (flow == FLOW_THOUGHT)
                put_flow(v, "~ ", 2);
}

static void show_flow(struct event_view *v, const char *step, enum flow flow, const char *text)
{
        while (*text) {
                size_t n = strcspn(text, "\n");

                begin_flow(v, step, flow);
                put_flow(v, text, n);
                text += n;
                if (*text == '\n') {
                        text++;
                        if (v->o.lines && !v->partial.len)
                                buf_putc(&v->partial, '\0'); /* an empty line is a line */
                        event_view_break(v);
                } else if (v->partial.len > PARTIAL_MAX) {
                        event_view_break(v);
                }
        }
}

/* ---- the types ---- */

static enum paint status_tint(const char *status)
{
        return strcmp(status, "failed") == 0      ? PAINT_RED
               : strcmp(status, "completed") == 0 ? PAINT_GREEN
               : strcmp(status, "running") == 0   ? PAINT_CYAN
                                                  : PAINT_NONE;
}

static struct use *use_of(struct said *s, const char *id)
{
        struct use *u = map_get(s->uses, id);

        if (u || map_count(s->uses) >= USES_MAX)
                return u;
        u = mem_calloc(1, sizeof *u);
        if (u && map_put(s->uses, id, u, NULL)) {
                mem_free(u);
                u = NULL;
        }
        return u;
}

static void put_locations(const cJSON *locations, char *out, size_t cap)
{
        const cJSON *first = locations ? locations->child : NULL;
        const char *path = jstr(first, "path");

        out[0] = '\0';
        if (*path && jnum(first, "line") > 0)
                snprintf(out, cap, "  %s:%lld", path, (long long)jnum(first, "line"));
        else if (*path)
                snprintf(out, cap, "  %s", path);
}

static void show_output(struct event_view *v, const char *step, const char *text)
{
        size_t shown = 0, more = 0;

        while (*text) {
                size_t n = strcspn(text, "\n");
                char *line = shown < OUTPUT_SHOWN ? mem_strndup(text, n) : NULL;

                if (line)
                        put_linef(v, step, PAINT_DIM, "    %s", line);
                mem_free(line);
                if (shown++ >= OUTPUT_SHOWN)
                        more++;
                text += n + (text[n] == '\n');
        }
        if (more)
                put_linef(v, step, PAINT_DIM, "    (%zu more line%s)", more, more == 1 ? "" : "s");
}

static void on_diff_line(void *ctx, char mark, const char *text)
{
        void **to = ctx;

        if (mark == ' ')
                put_linef(to[0], to[1], PAINT_DIM, "    %s", text);
        else
                put_linef(to[0], to[1], mark == '+' ? PAINT_GREEN : PAINT_RED, "    %c %s", mark, text);
}

static void show_tool(struct event_view *v, const char *step, struct said *s, const cJSON *ev)
{
        struct use spare = {.kind = ""}, *u = use_of(s, jstr(ev, "id"));
        const cJSON *diffs = jget(ev, "diff");
        void *to[] = {v, (void *)(uintptr_t)step};
        char where[300];
        bool changed;

        u = u ? u : &spare;
        changed = !u->status[0] || (*jstr(ev, "status") && strcmp(jstr(ev, "status"), u->status) != 0) ||
                  (*jstr(ev, "title") && strncmp(jstr(ev, "title"), u->title, sizeof u->title - 1) != 0);
        if (*jstr(ev, "kind"))
                snprintf(u->kind, sizeof u->kind, "%s", jstr(ev, "kind"));
        if (*jstr(ev, "title") || !u->title[0])
                snprintf(u->title, sizeof u->title, "%s",
                         *jstr(ev, "title")  ? jstr(ev, "title")
                         : *jstr(ev, "name") ? jstr(ev, "name")
                                             : "(no title)");
        if (*jstr(ev, "status") || !u->status[0])
                snprintf(u->status, sizeof u->status, "%s",
                         *jstr(ev, "status") ? jstr(ev, "status") : "pending");
        put_locations(jget(ev, "locations"), where, sizeof where);
        if (strstr(u->title, *where ? where + 2 : "\1"))
                where[0] = '\0';
        if (changed)
                put_linef(v, step, status_tint(u->status), "* %s %s  [%s]%s", u->kind[0] ? u->kind : "other",
                          u->title, u->status, where);
        for (const cJSON *d = diffs ? diffs->child : NULL; d; d = d->next)
                event_diff(jstr(d, "path"), cJSON_GetStringValue(jget(d, "old_text")), jstr(d, "new_text"),
                           on_diff_line, to);
        if (*jstr(ev, "output"))
                show_output(v, step, jstr(ev, "output"));
}

static void show_plan(struct event_view *v, const char *step, const cJSON *ev)
{
        const cJSON *all = jget(ev, "entries");
        int n = 0, total = cJSON_GetArraySize(all);

        put_line(v, step, PAINT_BOLD, "plan:");
        for (const cJSON *x = all ? all->child : NULL; x && n < PLAN_SHOWN; x = x->next, n++) {
                const char *st = jstr(x, "status");
                bool done = strcmp(st, "completed") == 0, now = strcmp(st, "running") == 0;

                put_linef(v, step,
                          done  ? PAINT_DIM
                          : now ? PAINT_CYAN
                                : PAINT_NONE,
                          "  [%c] %s",
                          done  ? 'x'
                          : now ? '>'
                                : ' ',
                          jstr(x, "text"));
        }
        if (n < total)
                put_linef(v, step, PAINT_DIM, "  (%d more)", total - n);
}

static void show_progress(struct event_view *v, const char *step, struct said *s, const cJSON *ev)
{
        double at = cJSON_GetNumberValue(jget(ev, "progress")),
               total = cJSON_GetNumberValue(jget(ev, "total"));
        char now[200];

        /* NaN compares false. A step of ten in a hundred is news, and so is another message. */
        if (total > 0 && at >= 0 && at <= total)
                snprintf(now, sizeof now, "%d%% %.180s", (int)(at / total * 10) * 10, jstr(ev, "message"));
        else
                snprintf(now, sizeof now, "%.190s", jstr(ev, "message"));
        if (!now[0] || strcmp(now, s->progress) == 0)
                return;
        snprintf(s->progress, sizeof s->progress, "%s", now);
        put_linef(v, step, PAINT_DIM, "... %s", now);
}

static void show_log(struct event_view *v, const char *step, const cJSON *ev)
{
        const char *level = jstr(ev, "level");

        if (strcmp(level, "debug") == 0)
                return;
        put_linef(v, step,
                  strcmp(level, "error") == 0     ? PAINT_RED
                  : strcmp(level, "warning") == 0 ? PAINT_YELLOW
                                                  : PAINT_DIM,
                  "%s: %s", *level ? level : "info", jstr(ev, "message"));
}

static void show_question(struct event_view *v, const char *step, const cJSON *ev)
{
        char *args = jget(ev, "arguments") ? json_text(jget(ev, "arguments")) : NULL;

        put_linef(v, step, PAINT_YELLOW, "? %s",
                  *jstr(ev, "title") ? jstr(ev, "title") : "the tool asks for a decision");
        if (args)
                put_linef(v, step, PAINT_NONE, "    %s %.*s", jstr(ev, "tool"), COMMAND_SHOWN, args);
        if (*jstr(ev, "sha256"))
                put_linef(v, step, PAINT_DIM, "    sha256 of these arguments: %s", jstr(ev, "sha256"));
        v->questions++;
        mem_free(args);
}

static void show_answer(struct event_view *v, const char *step, const cJSON *ev)
{
        const char *why = jstr(ev, "reason");

        put_linef(v, step, strcmp(jstr(ev, "outcome"), "allowed") == 0 ? PAINT_GREEN : PAINT_RED,
                  "! %s by %s%s%s", *jstr(ev, "outcome") ? jstr(ev, "outcome") : "answered",
                  *jstr(ev, "by") ? jstr(ev, "by") : "nobody", *why ? ": " : "", why);
}

static void count_text(int64_t n, char out[32])
{
        if (n < 10000)
                snprintf(out, 32, "%lld", (long long)n);
        else if (n < 10000000)
                snprintf(out, 32, "%.1fk", (double)n / 1e3);
        else
                snprintf(out, 32, "%.1fM", (double)n / 1e6);
}

static void show_usage(struct event_view *v, const char *step, const cJSON *u)
{
        static const struct {
                const char *key, *words;
        } counts[] = {{"input_tokens", "in"},
                      {"output_tokens", "out"},
                      {"thought_tokens", "thought"},
                      {"cache_read_tokens", "read from cache"},
                      {"cache_write_tokens", "written to cache"}};
        char line[400], n[32];
        size_t at = (size_t)snprintf(line, sizeof line, "used:");
        const cJSON *cost = jget(u, "cost_usd");

        for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
                if (!cJSON_IsNumber(jget(u, counts[i].key)))
                        continue;
                count_text(jnum(u, counts[i].key), n);
                at += (size_t)snprintf(line + at, sizeof line - at, "%s %s %s", at > 5 ? "," : "", n,
                                       counts[i].words);
        }
        if (at > 5)
                at += (size_t)snprintf(line + at, sizeof line - at, " tokens");
        if (cJSON_IsNumber(cost))
                at += (size_t)snprintf(
                        line + at, sizeof line - at, "%s $%.4f%s", at > 5 ? "," : "", cost->valuedouble,
                        strcmp(jstr(u, "cost_source"), "price-table") == 0 ? " by the price table" : "");
        if (*jstr(u, "model"))
                at += (size_t)snprintf(line + at, sizeof line - at, " (%.80s)", jstr(u, "model"));
        if (at > 5)
                put_line(v, step, PAINT_DIM, line);
}

void event_view_show(struct event_view *v, const char *step, int64_t attempt, const cJSON *ev)
{
        const char *type = jstr(ev, "type");
        struct said *s = said_of(v, step, attempt);

        if (!s)
                return;
        if (strcmp(type, "question") == 0 && v->o.no_questions)
                return;
        if (strcmp(type, "question") == 0)
                show_question(v, step, ev);
        else if (strcmp(type, "answer") == 0)
                show_answer(v, step, ev);
        else if (v->o.questions)
                return;
        else if (strcmp(type, "text") == 0 && !v->o.no_text)
                show_flow(v, step, FLOW_TEXT, jstr(ev, "text"));
        else if (strcmp(type, "thought") == 0)
                show_flow(v, step, FLOW_THOUGHT, jstr(ev, "text"));
        else if (strcmp(type, "tool") == 0)
                show_tool(v, step, s, ev);
        else if (strcmp(type, "plan") == 0)
                show_plan(v, step, ev);
        else if (strcmp(type, "progress") == 0)
                show_progress(v, step, s, ev);
        else if (strcmp(type, "log") == 0)
                show_log(v, step, ev);
        else if (strcmp(type, "usage") == 0) {
                cJSON_Delete(s->usage);
                s->usage = cJSON_Duplicate(ev, true);
        } else if (strcmp(type, "result") == 0) {
                event_view_end(v, step);
        }
        /* A type of a later agent's making is left out. */
}

void event_view_end(struct event_view *v, const char *step)
{
        struct said *s = map_get(v->steps, step);

        if (v->flow_step && strcmp(v->flow_step, step) == 0)
                event_view_break(v);
        if (!s || !s->usage)
                return;
        show_usage(v, step, s->usage);
        cJSON_Delete(s->usage);
        s->usage = NULL;
}
