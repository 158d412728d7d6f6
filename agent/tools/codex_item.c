#include "agent/tools/codex_in.h"

#include <stdio.h>
#include <string.h>

#include "agent/tools/ai_json.h"
#include "common/buf.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"

/* ---- words ---- */

static void say(struct codex *cx, const char *item, const char *text)
{
        if (!*text)
                return;
        if (cx->wrote && !ai_is(cx->spoke, item))
                ai_run_flow(&cx->run, ai_text(&cx->run.ai, "\n\n", 2));
        cx->wrote = true;
        ai_set(&cx->spoke, item);
        ai_run_flow(&cx->run, ai_text(&cx->run.ai, text, strlen(text)));
}

void codex_message_delta(struct codex *cx, const cJSON *params)
{
        const char *item = ai_text_of(params, "itemId"), *text = ai_text_of(params, "delta");

        if (item && text)
                say(cx, item, text);
}

void codex_thought_delta(struct codex *cx, const cJSON *params)
{
        const char *text = ai_text_of(params, "delta");

        if (!text || !*text)
                return;
        cx->streamed_thought = true;
        ai_run_flow(&cx->run, ai_thought(&cx->run.ai, text, strlen(text)));
}

/* Whole, where it did not stream. */
static void on_thought(struct codex *cx, const cJSON *item)
{
        const cJSON *part, *summary = ai_list_of(item, "summary");

        cJSON_ArrayForEach(part, summary) if (!cx->streamed_thought && cJSON_IsString(part))
                ai_run_flow(&cx->run, ai_thought(&cx->run.ai, part->valuestring, strlen(part->valuestring)));
        cx->streamed_thought = false;
}

void codex_plan(struct codex *cx, const cJSON *params)
{
        const cJSON *s, *plan = ai_list_of(params, "plan");
        cJSON *list = cJSON_CreateArray();

        cJSON_ArrayForEach(s, plan)
        {
                const char *text = ai_text_of(s, "step"), *status = ai_text_of(s, "status");
                cJSON *o = text ? cJSON_CreateObject() : NULL;

                if (!o)
                        continue;
                cJSON_AddStringToObject(o, "text", text);
                cJSON_AddStringToObject(o, "status",
                                        ai_is(status, "inProgress")  ? "running"
                                        : ai_is(status, "completed") ? "completed"
                                                                     : "pending");
                if (!list || !cJSON_AddItemToArray(list, o))
                        cJSON_Delete(o);
        }
        if (list && list->child)
                event_plan(cx->run.ai.c, list);
        cJSON_Delete(list);
}

/* ---- commands ---- */

/* One word as a shell would read it; the end of it in *io. mem_free. */
static char *shell_word(const char **io)
{
        const char *p = *io;
        struct buf b;
        char quote = 0, *word;
        int rc = 0;

        buf_init(&b, 0);
        while (*p && (quote || *p != ' ') && !rc) {
                if (!quote && (*p == '\'' || *p == '"'))
                        quote = *p;
                else if (quote && *p == quote)
                        quote = 0;
                else if (*p == '\\' && quote != '\'' && p[1])
                        rc = buf_putc(&b, *++p);
                else
                        rc = buf_putc(&b, *p);
                p++;
        }
        while (*p == ' ')
                p++;
        *io = p;
        word = rc ? NULL : buf_steal_str(&b);
        buf_fini(&b);
        return word;
}

char *codex_command(const char *text)
{
        const char *p = text;
        char *shell = shell_word(&p), *flag = shell_word(&p), *command = shell_word(&p);
        const char *base = shell && strrchr(shell, '/') ? strrchr(shell, '/') + 1 : shell;
        bool wrapped = !*p && flag && (strcmp(flag, "-lc") == 0 || strcmp(flag, "-c") == 0) && base &&
                       (strcmp(base, "sh") == 0 || strcmp(base, "bash") == 0 || strcmp(base, "zsh") == 0);

        mem_free(shell);
        mem_free(flag);
        if (wrapped && command && *command)
                return command;
        mem_free(command);
        return mem_strdup(text);
}

static const char *command_kind(const cJSON *item)
{
        const cJSON *a, *actions = ai_list_of(item, "commandActions");
        const char *kind = NULL;

        cJSON_ArrayForEach(a, actions)
        {
                const char *type = ai_text_of(a, "type");

                if (ai_is(type, "read"))
                        kind = kind ? kind : "read";
                else if (ai_is(type, "search") || ai_is(type, "listFiles"))
                        kind = "search";
                else
                        return "execute";
        }
        return kind ? kind : "execute";
}

static void one_line(char *out, size_t size, const char *text)
{
        size_t n;

        snprintf(out, size, "%s", text);
        for (char *p = out; *p; p++)
                if ((unsigned char)*p < ' ')
                        *p = ' ';
        n = strlen(out);
        while (n > 0 && !str_is_utf8(out, n))
                out[--n] = '\0';
}

static void fill_command(const cJSON *item, struct event_tool *t, char *title, size_t size)
{
        const char *text = ai_text_of(item, "command");
        char *command = codex_command(text ? text : "");

        one_line(title, size, command ? command : "");
        mem_free(command);
        t->kind = command_kind(item);
        t->title = title;
        t->name = "command";
        t->output = ai_text_of(item, "aggregatedOutput");
        t->output_len = t->output ? strlen(t->output) : 0;
}

/* ---- changes of files ---- */

int codex_diff_sides(const char *diff, char **out_old, char **out_new)
{
        struct buf was, is;
        int rc = 0;

        buf_init(&was, 0);
        buf_init(&is, 0);
        for (const char *p = diff; *p && !rc;) {
                const char *nl = strchr(p, '\n');
                size_t n = nl ? (size_t)(nl - p) + 1 : strlen(p);
                bool head = strncmp(p, "+++ ", 4) == 0 || strncmp(p, "--- ", 4) == 0;

                if (!head && (*p == ' ' || *p == '-'))
                        rc = buf_put(&was, p + 1, n - 1);
                if (!rc && !head && (*p == ' ' || *p == '+'))
                        rc = buf_put(&is, p + 1, n - 1);
                p += n;
        }
        *out_old = rc ? NULL : buf_steal_str(&was);
        *out_new = rc ? NULL : buf_steal_str(&is);
        buf_fini(&was);
        buf_fini(&is);
        if (*out_old && *out_new)
                return 0;
        mem_free(*out_old);
        mem_free(*out_new);
        *out_old = *out_new = NULL;
        return -E_NOMEM;
}

/* What is added comes as the file itself, what is changed as a unified diff. */
static void add_change(cJSON *list, const char *path, const char *kind, const char *diff)
{
        char *was = NULL, *is = NULL;
        cJSON *o = cJSON_CreateObject();
        bool whole = ai_is(kind, "add") || ai_is(kind, "delete"), ok;

        if (!whole && codex_diff_sides(diff, &was, &is)) {
                cJSON_Delete(o);
                return;
        }
        ok = o && cJSON_AddStringToObject(o, "path", path);
        if (ok && ai_is(kind, "add"))
                ok = cJSON_AddNullToObject(o, "old_text") && cJSON_AddStringToObject(o, "new_text", diff);
        else if (ok && whole)
                ok = cJSON_AddStringToObject(o, "old_text", diff) &&
                     cJSON_AddStringToObject(o, "new_text", "");
        else if (ok)
                ok = cJSON_AddStringToObject(o, "old_text", was) &&
                     cJSON_AddStringToObject(o, "new_text", is);
        mem_free(was);
        mem_free(is);
        if (!ok || !cJSON_AddItemToArray(list, o))
                cJSON_Delete(o);
}

static void fill_changes(const cJSON *item, struct event_tool *t, char *title, size_t size, cJSON **places,
                         cJSON **diffs)
{
        const cJSON *changes = ai_list_of(item, "changes"), *ch;
        int n = cJSON_GetArraySize(changes);
        char text[CODEX_TITLE_MAX];

        *places = cJSON_CreateArray();
        *diffs = cJSON_CreateArray();
        t->kind = n > 0 ? "delete" : "edit";
        cJSON_ArrayForEach(ch, changes)
        {
                const char *path = ai_text_of(ch, "path"), *diff = ai_text_of(ch, "diff");
                const char *kind = ai_text_of(ai_member(ch, "kind"), "type");
                cJSON *place = path ? cJSON_CreateObject() : NULL;

                if (!ai_is(kind, "delete"))
                        t->kind = "edit";
                if (place && *places && cJSON_AddStringToObject(place, "path", path) &&
                    cJSON_AddItemToArray(*places, place))
                        place = NULL;
                cJSON_Delete(place);
                if (path && diff && *diffs)
                        add_change(*diffs, path, kind, diff);
        }
        snprintf(text, sizeof text, "%s %s%s", strcmp(t->kind, "delete") == 0 ? "Delete" : "Change",
                 n > 0 && ai_text_of(changes->child, "path") ? ai_text_of(changes->child, "path") : "files",
                 n > 1 ? " and others" : "");
        one_line(title, size, text);
        t->title = title;
        t->name = "apply_patch";
        t->locations = *places;
        t->diff = *diffs;
}

/* What a change is about is told once, before it is asked whether it may be made. */
static void note_changes(struct codex *cx, const char *id, const cJSON *item)
{
        const cJSON *changes = ai_list_of(item, "changes");
        cJSON *copy;

        if (!cx->changes)
                cx->changes = cJSON_CreateObject();
        if (!changes || !cx->changes || cJSON_GetArraySize(cx->changes) >= CODEX_CHANGES_MAX)
                return;
        copy = cJSON_Duplicate(changes, true);
        cJSON_DeleteItemFromObjectCaseSensitive(cx->changes, id);
        if (copy && !cJSON_AddItemToObject(cx->changes, id, copy))
                cJSON_Delete(copy);
}

/* ---- the rest ---- */

static void fill_mcp(const cJSON *item, struct event_tool *t, char *title, size_t size)
{
        const char *server = ai_text_of(item, "server"), *tool = ai_text_of(item, "tool");
        char text[CODEX_TITLE_MAX];

        snprintf(text, sizeof text, "%s %s", server ? server : "MCP", tool ? tool : "tool");
        one_line(title, size, text);
        t->kind = "other";
        t->title = title;
        t->name = tool;
        t->input = ai_member(item, "arguments");
        t->output = ai_text_of(ai_member(item, "error"), "message");
        t->output_len = t->output ? strlen(t->output) : 0;
}

static void fill_other(const cJSON *item, const char *kind, const char *verb, const char *key,
                       struct event_tool *t, char *title, size_t size)
{
        const char *subject = ai_text_of(item, key);
        char text[CODEX_TITLE_MAX];

        snprintf(text, sizeof text, "%s %s", verb, subject ? subject : "");
        one_line(title, size, text);
        t->kind = kind;
        t->title = title;
}

static const char *status_of(const cJSON *item, bool over)
{
        const char *s = ai_text_of(item, "status");

        if (ai_is(s, "failed") || ai_is(s, "declined"))
                return "failed";
        return over || ai_is(s, "completed") ? "completed" : "running";
}

static void on_item(struct codex *cx, const cJSON *item, bool over)
{
        const char *type = ai_text_of(item, "type"), *id = ai_text_of(item, "id");
        char title[CODEX_TITLE_MAX];
        cJSON *places = NULL, *diffs = NULL;
        struct event_tool t = {.id = id, .status = status_of(item, over)};

        if (!id || !type)
                return;
        if (ai_is(type, "commandExecution")) {
                fill_command(item, &t, title, sizeof title);
        } else if (ai_is(type, "fileChange")) {
                fill_changes(item, &t, title, sizeof title, &places, &diffs);
                if (!over)
                        note_changes(cx, id, item);
                else if (cx->changes)
                        cJSON_DeleteItemFromObjectCaseSensitive(cx->changes, id);
        } else if (ai_is(type, "mcpToolCall") || ai_is(type, "dynamicToolCall")) {
                fill_mcp(item, &t, title, sizeof title);
        } else if (ai_is(type, "webSearch")) {
                fill_other(item, "fetch", "Search the web for", "query", &t, title, sizeof title);
        } else if (ai_is(type, "imageView")) {
                fill_other(item, "read", "Look at", "path", &t, title, sizeof title);
        } else {
                return;
        }
        ai_run_flow(&cx->run, event_tool(cx->run.ai.c, &t));
        cJSON_Delete(places);
        cJSON_Delete(diffs);
}

void codex_item_started(struct codex *cx, const cJSON *params)
{
        on_item(cx, ai_member(params, "item"), false);
}

void codex_item_completed(struct codex *cx, const cJSON *params)
{
        const cJSON *item = ai_member(params, "item");
        const char *type = ai_text_of(item, "type"), *id = ai_text_of(item, "id"), *text;

        if (ai_is(type, "agentMessage") && id && (text = ai_text_of(item, "text"))) {
                if (!ai_is(cx->spoke, id))
                        say(cx, id, text); /* it did not stream */
        } else if (ai_is(type, "reasoning")) {
                on_thought(cx, item);
        } else if (ai_is(type, "contextCompaction")) {
                event_log(cx->run.ai.c, "info", "the conversation was compacted");
        } else {
                on_item(cx, item, true);
        }
}
