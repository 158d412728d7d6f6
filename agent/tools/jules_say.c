/* Activities of Jules as typed events. What is not known is not shown: the interface is an early one. */
#include <stdio.h>
#include <string.h>

#include "agent/tools/event.h"
#include "agent/tools/jules_in.h"
#include "agent/tools/llm_in.h"
#include "common/mem.h"
#include "common/str.h"

static void keep(char **slot, const char *text)
{
        size_t n = strlen(text);
        char *copy;

        while (n > JULES_TEXT_MAX || (n && n < strlen(text) && ((unsigned char)text[n] & 0xc0) == 0x80))
                n = n > JULES_TEXT_MAX ? JULES_TEXT_MAX : n - 1;
        copy = mem_strndup(text, n);
        if (!copy)
                return; /* the older one stays; the events have it all */
        mem_free(*slot);
        *slot = copy;
}

static void say_plan(struct jules *j, const cJSON *plan)
{
        struct build b = {0};
        cJSON *entries = cJSON_CreateArray();
        const cJSON *s;

        cJSON_ArrayForEach(s, member(plan, "steps"))
        {
                cJSON *o = build_object(&b, entries, NULL);

                build_str(&b, o, "text", member_text(s, "title"));
                build_str(&b, o, "status", "pending");
        }
        entries = build_end(&b, entries);
        if (entries)
                event_plan(j->c, entries);
        cJSON_Delete(j->plan);
        j->plan = entries;
}

static void say_artifact(struct jules *j, const char *id, int n, const cJSON *a)
{
        const cJSON *bash = member(a, "bashOutput"), *change = member(a, "changeSet"), *code;
        const char *patch = member_text(member(change, "gitPatch"), "unidiffPatch");
        const char *subject = member_text(member(change, "gitPatch"), "suggestedCommitMessage");
        struct event_tool t = {.kind = "execute", .status = "completed"};
        char name[JULES_ID_MAX + 16];

        snprintf(name, sizeof name, "%s-%d", id, n);
        t.id = name;
        if (bash) {
                code = member(bash, "exitCode");
                t.title = member_text(bash, "command");
                t.name = "bash";
                t.status = cJSON_IsNumber(code) && code->valuedouble != 0 ? "failed" : "completed";
                t.output = member_text(bash, "output");
                t.output_len = strlen(t.output);
                event_tool(j->c, &t);
        }
        if (*patch) {
                t.kind = "edit";
                t.name = "patch";
                t.title = *subject ? subject : "Changes";
                t.status = "completed";
                t.output = patch;
                t.output_len = strlen(patch);
                event_tool(j->c, &t);
                keep(&j->patch, patch);
        }
}

static void say_text(struct jules *j, const char *text)
{
        if (!*text)
                return;
        event_text(j->c, text, strlen(text));
        if (text[strlen(text) - 1] != '\n')
                event_text(j->c, "\n", 1);
        keep(&j->said, text);
}

void jules_say(struct jules *j, const cJSON *activity)
{
        const cJSON *progress = member(activity, "progressUpdated"),
                    *plan = member(activity, "planGenerated");
        const cJSON *a;
        char id[JULES_ID_MAX], text[600];
        int n = 0;

        snprintf(id, sizeof id, "%.*s", (int)sizeof id - 1, member_text(activity, "id"));
        if (plan)
                say_plan(j, member(plan, "plan"));
        if (progress) {
                snprintf(text, sizeof text, "%.280s%s%.280s", member_text(progress, "title"),
                         *member_text(progress, "description") ? ": " : "",
                         member_text(progress, "description"));
                event_progress(j->c, (double)j->seen, -1, text);
        }
        cJSON_ArrayForEach(a, member(activity, "artifacts")) say_artifact(j, id, n++, a);
        say_text(j, member_text(member(activity, "agentMessaged"), "agentMessage"));
        if (member(activity, "sessionFailed"))
                keep(&j->why, member_text(member(activity, "sessionFailed"), "reason"));
}
