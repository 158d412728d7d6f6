#include "agent/tools/claude.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/policy.h"
#include "agent/tools/claude_in.h"
#include "agent/tools/stdio_peer.h"
#include "common/buf.h"
#include "common/file.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"

const char claude_input_schema[] =
        "{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{" AI_INPUT_PROPERTIES "}}";
const char claude_output_schema[] = AI_OUTPUT_SCHEMA;

/* Tries of a call of the API that failed, unless the call's env says otherwise: without it a wrong key is
 * tried for over a minute. */
#define CLAUDE_RETRIES "2"

/* ---- messages to it ---- */

cJSON *claude_control(struct claude *cl, const char *subtype)
{
        cJSON *m = cJSON_CreateObject(), *r = m ? cJSON_AddObjectToObject(m, "request") : NULL;
        char id[32];

        snprintf(id, sizeof id, "photon-%u", cl->next_id++);
        if (r && cJSON_AddStringToObject(m, "type", "control_request") &&
            cJSON_AddStringToObject(m, "request_id", id) && cJSON_AddStringToObject(r, "subtype", subtype))
                return m;
        cJSON_Delete(m);
        return NULL;
}

/* The prompt, and where the files are that belong to it. */
static char *words(const struct ai *a)
{
        struct buf b;
        char *text = NULL;
        const cJSON *f;
        int rc;

        buf_init(&b, STDIO_LINE_MAX);
        rc = buf_puts(&b, a->prompt);
        if (!rc && a->files && a->files->child)
                rc = buf_puts(&b, "\n\nFiles that belong to this:");
        cJSON_ArrayForEach(f, a->files) if (!rc) rc = buf_printf(&b, "\n- %s", f->valuestring);
        if (!rc)
                text = buf_steal_str(&b);
        buf_fini(&b);
        return text;
}

static cJSON *user_message(const struct ai *a)
{
        cJSON *m = cJSON_CreateObject(), *msg, *content, *block = NULL;
        char *text = words(a);
        bool ok;

        msg = m ? cJSON_AddObjectToObject(m, "message") : NULL;
        content = msg ? cJSON_AddArrayToObject(msg, "content") : NULL;
        if (content && (block = cJSON_CreateObject()))
                cJSON_AddItemToArray(content, block);
        ok = text && block && cJSON_AddStringToObject(m, "type", "user") &&
             cJSON_AddStringToObject(msg, "role", "user") && cJSON_AddStringToObject(block, "type", "text") &&
             cJSON_AddStringToObject(block, "text", text);
        mem_free(text);
        if (ok)
                return m;
        cJSON_Delete(m);
        return NULL;
}

/* What it does without asking (reading its own folder, what the user's own settings allow) it tells us
 * before: a hook on every use of a tool, so that what the policy denies stays denied. */
static cJSON *initialize(struct claude *cl)
{
        cJSON *m = claude_control(cl, "initialize"), *hook = m ? cJSON_CreateObject() : NULL, *ids, *list;

        list = m ? cJSON_AddObjectToObject(cJSON_GetObjectItemCaseSensitive(m, "request"), "hooks") : NULL;
        list = list ? cJSON_AddArrayToObject(list, "PreToolUse") : NULL;
        ids = hook ? cJSON_AddArrayToObject(hook, "hookCallbackIds") : NULL;
        if (list && ids && cJSON_AddItemToArray(ids, cJSON_CreateString(CLAUDE_HOOK)) &&
            cJSON_AddItemToArray(list, hook))
                return m;
        cJSON_Delete(hook);
        cJSON_Delete(m);
        return NULL;
}

static int started(struct ai_run *r, struct err *e)
{
        struct claude *cl = (struct claude *)r;
        int rc = ai_run_send(r, initialize(cl));

        if (!rc)
                rc = ai_run_send(r, user_message(&r->ai));
        return rc == -E_CLOSED ? 0 : rc ? err_set(e, -rc, "cannot tell it what to do") : 0;
}

static bool interrupt(struct ai_run *r)
{
        return ai_run_send(r, claude_control((struct claude *)r, "interrupt")) == 0;
}

/* ---- how it is started ---- */

/* {"mcpServers":{NAME: {"type":"stdio","command",...} | {"type":"http","url",...}}}, in a file: what is in it
 * may be secret, and arguments are for all to see. */
static cJSON *mcp_config(const cJSON *servers)
{
        cJSON *o = cJSON_CreateObject(), *list = cJSON_Duplicate(servers, true), *s;

        if (!o || !list || !cJSON_AddItemToObject(o, "mcpServers", list)) {
                cJSON_Delete(o);
                cJSON_Delete(list);
                return NULL;
        }
        cJSON_ArrayForEach(s, list) if (cJSON_IsObject(s) && !cJSON_GetObjectItemCaseSensitive(s, "type"))
                cJSON_AddStringToObject(s, "type",
                                        cJSON_GetObjectItemCaseSensitive(s, "url") ? "http" : "stdio");
        return o;
}

static int mcp_option(struct ai_run *r, struct err *e)
{
        cJSON *o = NULL;
        char *text = NULL, *path = NULL;
        int rc = 0;

        if (!r->ai.mcp_servers || !r->ai.mcp_servers->child)
                return 0;
        o = mcp_config(r->ai.mcp_servers);
        text = o ? json_text(o) : NULL;
        path = path_join(r->ai.c->scratch_dir, "mcp.json");
        if (!text || !path)
                rc = err_set(e, E_NOMEM, "the agent is out of memory");
        if (!rc)
                rc = file_write_atomic(path, text, strlen(text), 0600, e);
        if (!rc)
                rc = ai_run_option(r, "--mcp-config", path, e);
        cJSON_Delete(o);
        mem_free(text);
        mem_free(path);
        return rc;
}

static int limits_options(struct ai_run *r, struct err *e)
{
        char text[40];
        int rc = 0;

        if (r->ai.max_turns > 0) {
                snprintf(text, sizeof text, "%lld", (long long)r->ai.max_turns);
                rc = ai_run_option(r, "--max-turns", text, e);
        }
        if (!rc && r->ai.max_cost_usd >= 0) {
                snprintf(text, sizeof text, "%.6f", r->ai.max_cost_usd);
                rc = ai_run_option(r, "--max-budget-usd", text, e);
        }
        return rc;
}

static int environment(struct ai_run *r, struct err *e)
{
        static const char *const always[] = {"DISABLE_TELEMETRY", "DISABLE_ERROR_REPORTING",
                                             "DISABLE_AUTOUPDATER",
                                             "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC"};
        int rc = ai_passenv(&r->ai, "ANTHROPIC_*", e);

        if (!rc)
                rc = ai_passenv(&r->ai, "CLAUDE_*", e);
        for (size_t i = 0; i < sizeof always / sizeof *always && !rc; i++)
                rc = ai_setenv(&r->ai, always[i], "1", e);
        if (!rc && !ai_getenv(&r->ai, "CLAUDE_CODE_MAX_RETRIES"))
                rc = ai_setenv(&r->ai, "CLAUDE_CODE_MAX_RETRIES", CLAUDE_RETRIES, e);
        return rc;
}

/* Whatever the user's own settings say: it asks us, in its default mode. */
static int prepare(struct ai_run *r, struct err *e)
{
        static const char *const fixed[] = {"--input-format",
                                            "stream-json",
                                            "--output-format",
                                            "stream-json",
                                            "--verbose",
                                            "--include-partial-messages",
                                            "--permission-prompt-tool",
                                            "stdio",
                                            "--permission-mode",
                                            "default"};
        struct claude *cl = (struct claude *)r;
        int rc = 0;

        list_init(&cl->asks);
        cl->before = cl->now = event_usage_unknown;
        cl->resumed = r->ai.session != NULL;
        for (size_t i = 0; i < sizeof fixed / sizeof *fixed && !rc; i++)
                rc = ai_run_arg(r, fixed[i], e);
        if (!rc && r->ai.session)
                rc = ai_run_option(r, "--resume", r->ai.session, e);
        if (!rc && r->ai.model)
                rc = ai_run_option(r, "--model", r->ai.model, e);
        if (!rc)
                rc = limits_options(r, e);
        if (!rc)
                rc = mcp_option(r, e);
        return rc ? rc : environment(r, e);
}

static void fini(struct ai_run *r)
{
        struct claude *cl = (struct claude *)r;

        if (cl->asks.next) /* prepare was reached */
                claude_forget_asks(cl);
}

static const struct ai_run_ops ops = {
        .program = "claude",
        .product = "Claude Code",
        .prepare = prepare,
        .started = started,
        .message = claude_message,
        .interrupt = interrupt,
        .fini = fini,
};

int claude_permit(const struct policy *p, const cJSON *input, struct err *e)
{
        (void)input; /* the folder and the files are looked at when it starts */
        return policy_command(p, ops.program, false, e);
}

int claude_start(struct tool_call *c, const cJSON *input, struct err *e)
{
        return ai_run_open(c, sizeof(struct claude), &ops, input, e);
}
