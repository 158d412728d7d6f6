/* Cursor's print mode: one prompt on its command line, events as lines on its standard output, nobody to ask.
 * What it may do is decided before: everything (permission_mode allow), or nothing that changes anything. */
#include <stdio.h>
#include <string.h>

#include "agent/tools/acp_error.h"
#include "agent/tools/ai_json.h"
#include "agent/tools/ai_run.h"
#include "agent/tools/cursor.h"
#include "agent/tools/stdio_peer.h"
#include "common/buf.h"
#include "common/json.h"
#include "common/log.h"
#include "common/mem.h"

#define PROMPT_MAX ((size_t)100 << 10) /* bytes of one argument: Linux takes 128 KiB */

struct print {
        struct ai_run run;
        unsigned unknown;
};

static const struct {
        const char *member, *kind;
} kinds[] = {
        {"readToolCall", "read"},     {"writeToolCall", "edit"},    {"editToolCall", "edit"},
        {"deleteToolCall", "delete"}, {"shellToolCall", "execute"}, {"grepToolCall", "search"},
        {"globToolCall", "search"},   {"lsToolCall", "read"},       {"webSearchToolCall", "fetch"},
};

/* ---- beginning ---- */

static int put_prompt(struct ai_run *r, struct err *e)
{
        const cJSON *f;
        struct buf b;
        char *text;
        int rc;

        buf_init(&b, PROMPT_MAX);
        rc = buf_puts(&b, r->ai.prompt);
        if (!rc && r->ai.files && r->ai.files->child)
                rc = buf_puts(&b, "\n\nFiles:");
        cJSON_ArrayForEach(f, r->ai.files)
        {
                if (!rc)
                        rc = buf_printf(&b, "\n- %s", f->valuestring);
        }
        text = rc ? NULL : buf_steal_str(&b);
        buf_fini(&b);
        if (!text)
                return rc == -E_TOOBIG ? err_set(e, E_INVAL,
                                                 "this release of Cursor takes prompts of %zu KiB at most; "
                                                 "put the rest into a file",
                                                 PROMPT_MAX >> 10)
                                       : err_set(e, E_NOMEM, "out of memory");
        rc = ai_run_arg(r, "--", e);
        if (!rc)
                rc = ai_run_arg(r, text, e);
        mem_free(text);
        return rc;
}

static int prepare(struct ai_run *r, struct err *e)
{
        bool all = ai_is(r->ai.mode, "allow");
        int rc = ai_passenv(&r->ai, "CURSOR_*", e);

        if (!rc && r->ai.mcp_servers)
                rc = err_set(e, E_INVAL,
                             "mcp_servers: this release of Cursor cannot be given any (it has no ACP)");
        if (!rc)
                rc = ai_run_arg(r, "-p", e);
        if (!rc)
                rc = ai_run_option(r, "--output-format", "stream-json", e);
        if (!rc && all)
                rc = ai_run_arg(r, "--force", e);
        if (!rc && r->ai.model)
                rc = ai_run_option(r, "--model", r->ai.model, e);
        if (!rc && r->ai.session)
                rc = ai_run_option(r, "--resume", r->ai.session, e);
        return rc ? rc : put_prompt(r, e);
}

static int started(struct ai_run *r, struct err *e)
{
        (void)e;
        stdio_peer_end_input(r->peer);
        if (!ai_is(r->ai.mode, "allow"))
                event_log(r->ai.c, "warning",
                          "this release of Cursor has no ACP and cannot ask: what needs a permission is "
                          "refused; say permission_mode: allow to let it do everything");
        return 0;
}

/* ---- what it says ---- */

static void on_system(struct print *p, const cJSON *m)
{
        if (ai_text_of(m, "session_id"))
                ai_run_session(&p->run, ai_text_of(m, "session_id"), -1);
        if (ai_text_of(m, "model"))
                ai_set(&p->run.ai.out_model, ai_text_of(m, "model"));
}

static void on_assistant(struct print *p, const cJSON *m)
{
        const cJSON *c;

        p->run.ai.turns++;
        cJSON_ArrayForEach(c, ai_list_of(ai_member(m, "message"), "content"))
        {
                const char *s = ai_text_of(c, "text");

                if (s)
                        ai_run_flow(&p->run, ai_text(&p->run.ai, s, strlen(s)));
        }
}

static void on_thinking(struct print *p, const cJSON *m)
{
        const char *s = ai_text_of(m, "text");

        if (s)
                ai_run_flow(&p->run, ai_thought(&p->run.ai, s, strlen(s)));
}

/* {"writeToolCall": {"args": {}, "result": {"success" | "failure" | "rejected": {}}}} */
static void on_tool(struct print *p, const cJSON *m)
{
        const cJSON *use = ai_member(m, "tool_call"), *what = use ? use->child : NULL,
                    *result = ai_member(what, "result");
        const char *path = ai_text_of(ai_member(what, "args"), "path");
        bool over = ai_is(ai_text_of(m, "subtype"), "completed"), ok = ai_member(result, "success") != NULL;
        const cJSON *row = path ? cJSON_CreateObject() : NULL;
        cJSON *places = row ? cJSON_CreateArray() : NULL;
        char *text = result ? json_text(result) : NULL;
        struct event_tool t = {
                .id = ai_text_of(m, "call_id"),
                .kind = "other",
                .name = what ? what->string : NULL,
                .title = ai_text_of(ai_member(what, "args"), "command"),
                .status = !over ? "running"
                          : ok  ? "completed"
                                : "failed",
                .input = ai_member(what, "args"),
                .output = text,
                .output_len = text ? strlen(text) : 0,
        };

        for (size_t i = 0; what && i < sizeof kinds / sizeof *kinds; i++)
                if (ai_is(what->string, kinds[i].member))
                        t.kind = kinds[i].kind;
        if (!t.title)
                t.title = path ? path : t.name;
        if (places && cJSON_AddStringToObject((cJSON *)(uintptr_t)row, "path", path) &&
            cJSON_AddItemToArray(places, (cJSON *)(uintptr_t)row))
                row = NULL;
        t.locations = places;
        if (t.id)
                ai_run_flow(&p->run, event_tool(p->run.ai.c, &t));
        if (ai_member(result, "rejected"))
                p->run.ai.denied++;
        cJSON_Delete((cJSON *)(uintptr_t)row);
        cJSON_Delete(places);
        mem_free(text);
}

static void on_result(struct print *p, const cJSON *m)
{
        struct event_usage u = p->run.ai.usage;
        const cJSON *usage = ai_member(m, "usage");
        const char *limit = NULL;

        if (usage) {
                u.input_tokens = ai_count_of(usage, "inputTokens");
                u.output_tokens = ai_count_of(usage, "outputTokens");
                u.cache_read_tokens = ai_count_of(usage, "cacheReadTokens");
                limit = ai_usage(&p->run.ai, &u);
        }
        if (ai_true(m, "is_error"))
                ai_run_decide(&p->run, TOOL_FAILED, "agent_error", "Cursor failed: %.300s",
                              ai_text_of(m, "result") ? ai_text_of(m, "result") : "it gives no reason");
        else if (limit)
                ai_run_decide(&p->run, TOOL_FAILED, limit, "Cursor passed a limit of this call (%s)", limit);
        else
                ai_run_decide(&p->run, TOOL_SUCCEEDED, NULL, " ");
        ai_run_leave(&p->run);
}

static void on_ignored(struct print *p, const cJSON *m)
{
        (void)p;
        (void)m;
}

static const struct {
        const char *type;
        void (*fn)(struct print *p, const cJSON *m);
} events[] = {
        {"system", on_system},  {"assistant", on_assistant}, {"thinking", on_thinking},
        {"tool_call", on_tool}, {"result", on_result},       {"user", on_ignored},
};

static void on_event(struct print *p, const cJSON *m)
{
        const char *type = ai_text_of(m, "type");

        for (size_t i = 0; type && i < sizeof events / sizeof *events; i++) {
                if (strcmp(events[i].type, type) == 0) {
                        events[i].fn(p, m);
                        return;
                }
        }
        if (p->unknown++ == 0)
                log_debug("cursor", "an event of a kind that is not known", "type=%.60s", type ? type : "");
}

/* Takes m. */
static void on_message(struct ai_run *r, cJSON *m)
{
        on_event((struct print *)r, m);
        cJSON_Delete(m);
}

/* A failure is told by the exit status and words on standard error, with no event. */
static void on_ended(struct ai_run *r)
{
        const char *words = stdio_peer_stderr(r->peer);
        int status = acp_find_status(words), code = 0;

        if (!stdio_peer_exited(r->peer, &code, NULL) || code == 0 || !*words)
                return;
        if (strcasestr(words, "not logged in") || strcasestr(words, "authentication required") ||
            strcasestr(words, "agent login"))
                ai_run_decide(r, TOOL_FAILED, "not_logged_in",
                              "Cursor is not logged in on this machine (%.200s): run "
                              "cursor-agent login, or set CURSOR_API_KEY",
                              words);
        if (status)
                ai_run_decide(r, TOOL_FAILED, acp_status_code(status), "Cursor failed: %.300s", words);
}

static const struct ai_run_ops ops[] = {
        {.program = "cursor-agent",
         .product = "Cursor",
         .prepare = prepare,
         .started = started,
         .message = on_message,
         .ended = on_ended},
        {.program = "agent",
         .product = "Cursor",
         .prepare = prepare,
         .started = started,
         .message = on_message,
         .ended = on_ended},
};

int cursor_print_start(struct tool_call *c, const cJSON *input, const char *program, struct err *e)
{
        return ai_run_open(c, sizeof(struct print), strcmp(program, ops[0].program) == 0 ? &ops[0] : &ops[1],
                           input, e);
}
