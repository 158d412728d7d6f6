/* What an ACP agent may say, line by line: no message may crash what reads it, every event that comes of it
 * is one line of JSON, and every failure has a code and a sentence. */
#include "agent/tools/acp_error.h"
#include "agent/tools/acp_offer.h"
#include "agent/tools/acp_update.h"
#include "agent/tools/ai.h"
#include "agent/tools/jsonrpc.h"
#include "common/buf.h"
#include "common/err.h"
#include "common/json.h"
#include "common/mem.h"
#include "tests/fuzz/no_secrets.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- the job, as far as events need one ---- */

int tool_output(struct tool_call *c, enum tool_channel ch, const void *p, size_t n)
{
        struct err e = {0};
        cJSON *v = NULL;

        (void)c;
        if (ch != TOOL_EVENT)
                return 0;
        if (n == 0 || ((const char *)p)[n - 1] != '\n' || memchr(p, '\n', n - 1) || json_parse(p, n, &v, &e))
                abort();
        cJSON_Delete(v);
        return 0;
}

int tool_secret(struct tool_call *c, const void *p, size_t n)
{
        (void)c;
        (void)p;
        (void)n;
        return 0;
}

void tool_stdin_taken(struct tool_call *c, uint64_t offset, bool closed)
{
        (void)c;
        (void)offset;
        (void)closed;
}

void tool_finish(struct tool_call *c, struct tool_result *r)
{
        (void)c;
        (void)r;
}

int tool_ask(struct tool_call *c, const struct tool_question *q,
             void (*on_decision)(void *arg, const struct tool_decision *d), void *arg, uint32_t *out_id)
{
        (void)c;
        (void)q;
        (void)on_decision;
        (void)arg;
        (void)out_id;
        return -E_FULL;
}

void tool_ask_withdraw(struct tool_call *c, uint32_t id)
{
        (void)c;
        (void)id;
}

int tool_owns_process(struct tool_call *c, int pid)
{
        (void)c;
        (void)pid;
        return 0;
}

/* ---- a line ---- */

static void offer(struct acp_offer *o, const cJSON *v)
{
        struct err e = {0};
        struct buf b;

        if (acp_offer_agent(o, v, &e) && !e.msg[0])
                abort();
        if (acp_offer_session(o, v))
                abort();
        buf_init(&b, 0);
        acp_choice_list(&o->model, &b);
        acp_choice_list(&o->mode, &b);
        (void)acp_choice_find(&o->model, "default");
        buf_fini(&b);
}

static void failure(const cJSON *v, const char *tail)
{
        struct jsonrpc_msg m;
        struct err e = {0};

        if (jsonrpc_read_tree(cJSON_Duplicate(v, true), true, &m, NULL))
                return;
        for (int phase = ACP_PHASE_INITIALIZE; m.kind == JSONRPC_ERROR && phase <= ACP_PHASE_PROMPT;
             phase++) {
                const struct acp_failure f = {.phase = (enum acp_phase)phase,
                                              .agent = "a",
                                              .session = "s",
                                              .last_text = tail,
                                              .answer = &m};
                const char *code = acp_error(&f, &e);

                if (!code || !*code || !e.msg[0])
                        abort();
        }
        jsonrpc_msg_fini(&m);
}

static void one_line(struct acp_view *v, char *line, size_t n)
{
        cJSON *tree = NULL;

        json_mend(line, n);
        (void)acp_said_status(line);
        if (json_parse(line, n, &tree, NULL))
                return;
        offer(v->offer, tree);
        acp_update(v, tree);
        acp_view_usage(v, tree);
        (void)acp_view_use(v, tree);
        failure(tree, v->tail);
        cJSON_Delete(tree);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static struct tool_call c;
        struct acp_offer o;
        struct acp_view v;
        struct ai ai;
        char *text = mem_strndup((const char *)data, size), *line, *end;

        memset(&ai, 0, sizeof ai);
        ai.c = &c;
        ai.max_cost_usd = -1;
        ai.usage = event_usage_unknown;
        buf_init(&ai.text, AI_TEXT_MAX);
        acp_offer_init(&o);
        if (!text || acp_view_init(&v, &ai, &o))
                abort();
        for (line = text; line; line = end) {
                end = strchr(line, '\n');
                if (end)
                        *end++ = '\0';
                one_line(&v, line, strlen(line));
        }
        acp_view_fini(&v);
        acp_offer_fini(&o);
        ai_set(&ai.out_model, NULL);
        buf_fini(&ai.text);
        mem_free(text);
        return 0;
}
