/* What Claude Code and Codex write: no line may crash a driver, leak, or bring a
 * question that nobody can answer. Input: a byte for whose stream it is and how
 * people answer, then lines. */
#include "agent/tools/claude_in.h"
#include "agent/tools/codex_in.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/policy.h"
#include "common/err.h"
#include "common/json.h"
#include "common/log.h"
#include "common/mem.h"
#include "tests/fuzz/no_secrets.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- the job, instead of agent/job.c ---- */

static struct {
        void (*on_decision)(void *arg, const struct tool_decision *d);
        void *arg;
        uint32_t id;
} asked[ASK_OPEN_MAX];
static uint32_t last_id;
static cJSON *content;

int tool_output(struct tool_call *c, enum tool_channel ch, const void *p, size_t n)
{
        cJSON *line = NULL;

        (void)c;
        /* Every event is one line of JSON whatever it was made of. */
        if (ch == TOOL_EVENT && (n == 0 || ((const char *)p)[n - 1] != '\n' || json_parse(p, n, &line, NULL)))
                abort();
        cJSON_Delete(line);
        return 0;
}

void tool_finish(struct tool_call *c, struct tool_result *r)
{
        (void)c;
        (void)r;
        abort(); /* no child ended */
}

void tool_stdin_taken(struct tool_call *c, uint64_t offset, bool closed)
{
        (void)c;
        (void)offset;
        (void)closed;
}

int tool_secret(struct tool_call *c, const void *p, size_t n)
{
        (void)c;
        (void)p;
        (void)n;
        return 0;
}

int tool_owns_process(struct tool_call *c, int pid)
{
        (void)c;
        (void)pid;
        return 0;
}

int tool_ask(struct tool_call *c, const struct tool_question *q,
             void (*on_decision)(void *arg, const struct tool_decision *d), void *arg, uint32_t *out_id)
{
        char *json = json_text(q->arguments);

        (void)c;
        if (!q->action || !q->title || !*q->action || !json)
                abort();
        mem_free(json);
        for (size_t i = 0; i < ASK_OPEN_MAX; i++) {
                if (asked[i].id)
                        continue;
                asked[i].on_decision = on_decision;
                asked[i].arg = arg;
                asked[i].id = *out_id = ++last_id;
                return 0;
        }
        return -E_FULL;
}

void tool_ask_withdraw(struct tool_call *c, uint32_t id)
{
        (void)c;
        for (size_t i = 0; i < ASK_OPEN_MAX; i++)
                if (asked[i].id == id)
                        asked[i].id = 0;
}

static void answer(enum ask_outcome o)
{
        struct tool_decision d = {.outcome = o, .by = "eve", .reason = "because", .content = content};

        for (size_t i = 0; i < ASK_OPEN_MAX; i++) {
                if (!asked[i].id)
                        continue;
                asked[i].id = 0;
                asked[i].on_decision(asked[i].arg, &d);
        }
}

/* ---- a call that was begun ---- */

static int swallow(void *arg, const cJSON *m)
{
        (void)arg;
        (void)m;
        return 0;
}

static void on_answer(void *arg, const struct jsonrpc_msg *m)
{
        (void)arg;
        (void)m;
}

static struct tool_call call_of(const struct tool *t, uv_loop_t *loop)
{
        static struct policy *policy;

        if (!policy && policy_load(NULL, &policy, NULL))
                abort();
        return (struct tool_call){
                .tool = t, .policy = policy, .loop = loop, .scratch_dir = "/tmp", .grace_ms = 1};
}

static void begin(struct ai_run *r, struct tool_call *c, const struct ai_run_ops *ops)
{
        memset(&r->ai, 0, sizeof r->ai);
        list_init(&r->ai.asked);
        buf_init(&r->ai.text, AI_TEXT_MAX);
        r->ai.usage = event_usage_unknown;
        r->ai.max_cost_usd = 1;
        r->ai.max_tokens = 100000;
        r->ai.cwd = mem_strdup("/tmp");
        r->ai.c = c;
        r->ops = ops;
        r->state = AI_RUN_RUNNING;
        uv_timer_init(c->loop, &r->timer);
}

static void feed(struct ai_run *r, void (*take)(struct ai_run *r, cJSON *m), const uint8_t *p, size_t n,
                 int how)
{
        while (n > 0) {
                const uint8_t *nl = memchr(p, '\n', n);
                size_t len = nl ? (size_t)(nl - p) : n;
                char *line = malloc(len + 1);
                cJSON *m = NULL;

                if (!line)
                        return;
                memcpy(line, p, len);
                line[len] = '\0';
                json_mend(line, len);
                if (len && line[0] == '{' && json_parse(line, len, &m, NULL) == 0)
                        take(r, m);
                if (how & 1)
                        answer(how & 2 ? ASK_ALLOWED : ASK_DENIED);
                free(line);
                p += len + (nl ? 1 : 0);
                n -= len + (nl ? 1 : 0);
        }
        answer(ASK_EXPIRED);
}

static void finish(struct ai_run *r)
{
        struct list *l;

        if (r->decided && r->code[0] && !r->why.msg[0])
                abort(); /* a failure without a word */
        uv_close((uv_handle_t *)&r->timer, NULL);
        uv_run(r->ai.c->loop, UV_RUN_DEFAULT);
        while ((l = list_pop(&r->ai.asked)))
                abort(); /* all were answered */
        ai_close(&r->ai, NULL);
}

static void feed_claude(struct tool_call *c, const uint8_t *p, size_t n, int how)
{
        static const struct ai_run_ops ops = {.program = "claude", .product = "Claude Code"};
        struct claude cl = {.next_id = 1};

        begin(&cl.run, c, &ops);
        list_init(&cl.asks);
        cl.before = cl.now = event_usage_unknown;
        cl.resumed = how & 4;
        feed(&cl.run, claude_message, p, n, how);
        claude_forget_asks(&cl);
        finish(&cl.run);
}

static void feed_codex(struct tool_call *c, const uint8_t *p, size_t n, int how)
{
        static const struct ai_run_ops ops = {.program = "codex", .product = "Codex"};
        struct codex cx = {.base_known = !(how & 4)};
        uint64_t id;

        begin(&cx.run, c, &ops);
        list_init(&cx.asks);
        cx.base = event_usage_unknown;
        if (jsonrpc_init(&cx.rpc, true, swallow, NULL) ||
            jsonrpc_call(&cx.rpc, "x", NULL, on_answer, NULL, &id))
                abort();
        feed(&cx.run, codex_message, p, n, how);
        codex_forget_asks(&cx);
        jsonrpc_fini(&cx.rpc);
        mem_free(cx.thread);
        mem_free(cx.turn);
        mem_free(cx.spoke);
        cJSON_Delete(cx.changes);
        finish(&cx.run);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static const struct tool claude = {.name = "claude-code.prompt"}, codex = {.name = "codex.prompt"};
        struct tool_call c;
        uv_loop_t loop;

        if (size < 1)
                return 0;
        mem_install_hooks();
        log_setup(LOG_ERROR, false);
        if (!content && json_parse("{\"answer\":\"a\",\"q\":\"b\"}", 22, &content, NULL))
                abort();
        if (uv_loop_init(&loop))
                return 0;
        c = call_of(data[0] & 1 ? &codex : &claude, &loop);
        if (data[0] & 1)
                feed_codex(&c, data + 1, size - 1, data[0] >> 1);
        else
                feed_claude(&c, data + 1, size - 1, data[0] >> 1);
        if (uv_loop_close(&loop))
                abort();
        return 0;
}
