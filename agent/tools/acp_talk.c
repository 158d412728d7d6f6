/* The turn: the prompt, what the agent says meanwhile, and how it ends. */
#include "agent/tools/acp_in.h"

#include <stdio.h>
#include <string.h>

#include "agent/tools/acp_content.h"
#include "common/json.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/str.h"

#define NOISE_SHOWN 20 /* lines on its standard output that are no messages */

static const char *text(const cJSON *o, const char *key)
{
        const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);

        return cJSON_IsString(v) ? v->valuestring : NULL;
}

/* The end of what it said last, beginning with a whole character. */
const char *acp_tail(const struct acp *x)
{
        const char *p = x->view.tail;

        while (((unsigned char)*p & 0xc0) == 0x80)
                p++;
        return p;
}

/* --- the prompt ---------------------------------------------------------------------- */

static const struct {
        const char *reason, *code, *why;
} stops[] = {
        {"max_tokens", "max_tokens",
         "reached the most tokens that a model may answer with; ask for less, or go on in "
         "the same session"},
        {"max_turn_requests", "turn_limit",
         "asked its model as often as it may in one turn; go on in the same session"},
        {"refusal", "refused", "refused to do this; say it in another way"},
};

static void decide_stop(struct acp *x, const char *reason)
{
        if (strcmp(reason, "end_turn") == 0) {
                acp_decide(x, TOOL_SUCCEEDED, NULL, NULL);
                return;
        }
        if (strcmp(reason, "cancelled") == 0) {
                if (x->ai.denied > 0)
                        acp_decidef(x, TOOL_FAILED, "permission_refused",
                                    "%s ended its turn because a permission was refused; see the answers "
                                    "among the "
                                    "events",
                                    x->program.name);
                acp_decidef(x, TOOL_FAILED, "turn_cancelled", "%s cancelled its own turn", x->program.name);
                return;
        }
        for (size_t i = 0; i < sizeof stops / sizeof *stops; i++)
                if (strcmp(stops[i].reason, reason) == 0)
                        acp_decidef(x, TOOL_FAILED, stops[i].code, "%s %s", x->program.name, stops[i].why);
        acp_decidef(x, TOOL_FAILED, "protocol_error",
                    "%s ended its turn for a reason that PHOTON does not know: %.80s", x->program.name,
                    reason);
}

static void on_prompted(void *arg, const struct jsonrpc_msg *m)
{
        struct acp *x = arg;
        const char *reason = text(m->result, "stopReason");

        if (x->state != ACP_PROMPTING && x->state != ACP_CANCELLING)
                return;
        if (m->kind == JSONRPC_ERROR) {
                acp_fail(x, ACP_PHASE_PROMPT, m);
                return;
        }
        if (!reason) {
                acp_decidef(x, TOOL_FAILED, "protocol_error", "%s ended its turn without a stopReason",
                            x->program.name);
                acp_leave(x, false);
                return;
        }
        ai_set(&x->ai.stop_reason, reason);
        acp_view_usage(&x->view, m->result);
        if (x->view.broken && strcmp(reason, "end_turn") == 0) {
                acp_fail(x, ACP_PHASE_PROMPT, NULL);
                return;
        }
        decide_stop(x, reason);
        acp_leave(x, false);
}

/* Files are read on a worker thread. */
struct acp_reading {
        uv_work_t work;
        struct acp *x; /* NULL: nobody waits any more */
        char *prompt;
        cJSON *files, *blocks;
        bool images, embedded;
        int rc;
};

static void read_work(uv_work_t *w)
{
        struct acp_reading *r = container_of(w, struct acp_reading, work);

        r->rc = acp_content(r->prompt, r->files, r->images, r->embedded, &r->blocks);
}

static void reading_free(struct acp_reading *r)
{
        mem_free(r->prompt);
        cJSON_Delete(r->files);
        cJSON_Delete(r->blocks);
        mem_free(r);
}

void acp_reading_abandon(struct acp *x)
{
        if (x->reading)
                x->reading->x = NULL;
        x->reading = NULL;
}

static void on_read(uv_work_t *w, int status)
{
        struct acp_reading *r = container_of(w, struct acp_reading, work);
        struct acp *x = r->x;
        cJSON *params;

        (void)status;
        if (x)
                x->reading = NULL;
        if (!x || x->state != ACP_READING) {
                reading_free(r);
                return;
        }
        params = r->rc ? NULL : acp_params(x);
        if (params && cJSON_AddItemToObject(params, "prompt", r->blocks)) {
                r->blocks = NULL;
        } else {
                cJSON_Delete(params);
                params = NULL;
        }
        reading_free(r);
        acp_move(x, ACP_PROMPTING);
        ai_alive(&x->ai);
        acp_call(x, "session/prompt", params, on_prompted);
}

static void read_files(struct acp *x)
{
        struct acp_reading *r = mem_calloc(1, sizeof *r);

        acp_move(x, ACP_READING);
        if (r) {
                r->prompt = mem_strdup(x->ai.prompt);
                r->files = x->ai.files ? cJSON_Duplicate(x->ai.files, true) : NULL;
                r->images = x->offer.image;
                r->embedded = x->offer.embedded;
                r->x = x;
        }
        if (!r || !r->prompt || (x->ai.files && !r->files) ||
            uv_queue_work(x->c->loop, &r->work, read_work, on_read)) {
                if (r)
                        reading_free(r);
                acp_decidef(x, TOOL_FAILED, "out_of_memory", "the agent has no memory left for the prompt");
                acp_leave(x, false);
                return;
        }
        x->reading = r;
}

static void on_quiet(uv_timer_t *t)
{
        struct acp *x = t->data;

        x->view.replaying = false;
        read_files(x);
}

/* After session/load the old conversation may still be on its way: it is waited for until nothing more comes.
 */
void acp_prompt(struct acp *x)
{
        if (!x->view.replaying) {
                read_files(x);
                return;
        }
        acp_move(x, ACP_SETTLING);
        acp_timer(x, ACP_QUIET_MS, on_quiet);
}

/* --- what comes ---------------------------------------------------------------------------- */

static void on_notification(struct acp *x, const struct jsonrpc_msg *m)
{
        const char *session = text(m->params, "sessionId");

        if (strcmp(m->method, "session/update") != 0 || !x->session || !session ||
            strcmp(session, x->session) != 0 || x->state == ACP_GONE)
                return; /* other notifications are the vendor's own */
        acp_update(&x->view, cJSON_GetObjectItemCaseSensitive(m->params, "update"));
        if (x->view.limit && x->state == ACP_PROMPTING) {
                acp_decidef(x, TOOL_FAILED, x->view.limit,
                            "%s passed a limit of this call (%s): allow more in `limits`, or "
                            "go on in the same session",
                            x->program.name, x->view.limit);
                acp_stop_turn(x, ACP_KILL_MS);
        }
}

static void on_request(struct acp *x, const struct jsonrpc_msg *m)
{
        char why[200];

        if (strcmp(m->method, "session/request_permission") == 0) {
                acp_ask(x, m);
                return;
        }
        snprintf(why, sizeof why, "PHOTON does not offer %.150s", m->method);
        (void)jsonrpc_reply_error(&x->rpc, m->id, JSONRPC_METHOD_NOT_FOUND, why);
}

/* A line that is no message: some programs greet on standard output. One that was meant to be one is a fault:
 * it may have been the answer that is waited for. */
static void on_no_message(struct acp *x, const char *line, size_t n, const struct err *e)
{
        char *clean;

        if (n == 0)
                return;
        if (line[0] == '{') {
                acp_decidef(x, TOOL_FAILED, "protocol_error", "%s sent what is no message of ACP: %s",
                            x->program.name, e->msg);
                acp_leave(x, true);
                return;
        }
        if (x->noise++ >= NOISE_SHOWN)
                return;
        clean = str_utf8_lossy(line, n < 1000 ? n : 1000);
        if (clean)
                event_log(x->c, "debug", clean);
        mem_free(clean);
}

void acp_message(struct acp *x, char *line, size_t n)
{
        struct jsonrpc_msg m;
        struct err e = {0};
        int rc = jsonrpc_read(line, n, false, &m, &e);

        if (rc) {
                on_no_message(x, line, n, &e);
                return;
        }
        ai_alive(&x->ai);
        if (x->state == ACP_SETTLING)
                acp_timer(x, ACP_QUIET_MS, on_quiet);
        switch (m.kind) {
        case JSONRPC_REQUEST:
                on_request(x, &m);
                break;
        case JSONRPC_NOTIFICATION:
                on_notification(x, &m);
                break;
        case JSONRPC_RESULT:
        case JSONRPC_ERROR:
                if (jsonrpc_answer(&x->rpc, &m))
                        log_debug("acp", "an answer that nobody waits for", "attempt=%llu",
                                  (unsigned long long)x->c->attempt_id);
                break;
        }
        jsonrpc_msg_fini(&m);
}
