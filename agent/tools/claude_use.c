#include "agent/tools/claude_in.h"

#include <stdio.h>
#include <string.h>

#include "agent/tools/ai_json.h"
#include "common/json.h"
#include "common/str.h"

/* What each of its tools does, where its place or its subject stands, and how people would call it. */
static const struct {
        const char *name, *kind, *verb, *key;
        bool path;
} known[] = {
        {"Read", "read", "Read", "file_path", true},
        {"NotebookRead", "read", "Read", "notebook_path", true},
        {"Write", "edit", "Write", "file_path", true},
        {"Edit", "edit", "Edit", "file_path", true},
        {"MultiEdit", "edit", "Edit", "file_path", true},
        {"NotebookEdit", "edit", "Edit", "notebook_path", true},
        {"Bash", "execute", NULL, "command", false},
        {"BashOutput", "execute", "Look at the output of", "bash_id", false},
        {"KillShell", "execute", "End", "shell_id", false},
        {"Monitor", "execute", "Wait for", "command", false},
        {"Glob", "search", "Find", "pattern", false},
        {"Grep", "search", "Search for", "pattern", false},
        {"LS", "search", "List", "path", true},
        {"WebFetch", "fetch", "Fetch", "url", false},
        {"WebSearch", "fetch", "Search the web for", "query", false},
        {"Task", "think", "Delegate:", "description", false},
        {"Agent", "think", "Delegate:", "description", false},
        {"TodoWrite", "think", "Plan", NULL, false},
        {"ExitPlanMode", "think", "Plan", NULL, false},
};

/* One line, cut at a character. */
static void put_title(char *out, size_t size, const char *verb, const char *subject)
{
        size_t n;

        snprintf(out, size, "%s%s%s", verb ? verb : "", verb && *verb && subject && *subject ? " " : "",
                 subject ? subject : "");
        for (char *p = out; *p; p++)
                if (*p == '\n' || *p == '\r' || *p == '\t')
                        *p = ' ';
        n = strlen(out);
        while (n > 0 && !str_is_utf8(out, n))
                out[--n] = '\0';
}

void claude_use_read(const char *name, const cJSON *input, struct claude_use *out)
{
        memset(out, 0, sizeof *out);
        out->kind = "other";
        for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
                const char *subject = known[i].key ? ai_text_of(input, known[i].key) : NULL;

                if (strcmp(known[i].name, name) != 0)
                        continue;
                out->kind = known[i].kind;
                if (known[i].path)
                        out->path = subject;
                if (strcmp(name, "Bash") == 0 || strcmp(name, "Monitor") == 0)
                        out->command = subject;
                if (strcmp(known[i].kind, "search") == 0 && !out->path)
                        out->path = ai_text_of(input, "path");
                put_title(out->title, sizeof out->title, known[i].verb, subject);
        }
        if (!out->title[0])
                put_title(out->title, sizeof out->title, name, NULL);
}

cJSON *claude_use_locations(const struct claude_use *u)
{
        cJSON *list = u->path ? cJSON_CreateArray() : NULL, *o = list ? cJSON_CreateObject() : NULL;

        if (o && cJSON_AddStringToObject(o, "path", u->path) && cJSON_AddItemToArray(list, o))
                return list;
        cJSON_Delete(o);
        cJSON_Delete(list);
        return NULL;
}

static bool add_diff(cJSON *list, const char *path, const char *before, const char *after)
{
        cJSON *o = cJSON_CreateObject();

        if (o && cJSON_AddStringToObject(o, "path", path) &&
            (before ? cJSON_AddStringToObject(o, "old_text", before)
                    : cJSON_AddNullToObject(o, "old_text")) &&
            cJSON_AddStringToObject(o, "new_text", after) && cJSON_AddItemToArray(list, o))
                return true;
        cJSON_Delete(o);
        return false;
}

cJSON *claude_use_diff(const struct claude_use *u, const cJSON *input)
{
        const char *content = ai_text_of(input, "content"), *was = ai_text_of(input, "old_string"),
                   *is = ai_text_of(input, "new_string");
        const cJSON *edits = ai_list_of(input, "edits"), *e;
        cJSON *list;

        if (strcmp(u->kind, "edit") != 0 || !u->path || !(list = cJSON_CreateArray()))
                return NULL;
        if (content)
                add_diff(list, u->path, NULL, content);
        if (was && is)
                add_diff(list, u->path, was, is);
        cJSON_ArrayForEach(e, edits)
        {
                const char *from = ai_text_of(e, "old_string"), *to = ai_text_of(e, "new_string");

                if (from && to)
                        add_diff(list, u->path, from, to);
        }
        if (list->child)
                return list;
        cJSON_Delete(list);
        return NULL;
}

cJSON *claude_use_plan(const char *name, const cJSON *input)
{
        const cJSON *todos = ai_list_of(input, "todos"), *t;
        cJSON *list;

        if (strcmp(name, "TodoWrite") != 0 || !todos || !(list = cJSON_CreateArray()))
                return NULL;
        cJSON_ArrayForEach(t, todos)
        {
                const char *text = ai_text_of(t, "content"), *status = ai_text_of(t, "status");
                const char *priority = ai_text_of(t, "priority");
                cJSON *o = text ? cJSON_CreateObject() : NULL;

                if (!o)
                        continue;
                cJSON_AddStringToObject(o, "text", text);
                cJSON_AddStringToObject(o, "status",
                                        status && strcmp(status, "in_progress") == 0 ? "running"
                                        : status && strcmp(status, "completed") == 0 ? "completed"
                                                                                     : "pending");
                if (priority)
                        cJSON_AddStringToObject(o, "priority", priority);
                if (!cJSON_AddItemToArray(list, o))
                        cJSON_Delete(o);
        }
        return list;
}
