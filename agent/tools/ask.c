#include "agent/tools/ask.h"

#include "agent/tools/answer.h"
#include "common/err.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"

#include <string.h>

const char ask_input_schema[] =
        "{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"question\"],\"properties\":{"
        "\"question\":{\"type\":\"string\",\"minLength\":1,\"maxLength\":500,\"description\":\"One sentence "
        "for "
        "people\"},"
        "\"kind\":{\"enum\":[\"permission\",\"input\"],\"description\":\"permission: yes or no (default); "
        "input: "
        "values to fill in\"},"
        "\"arguments\":{\"type\":\"object\",\"description\":\"What it is about; shown as it is, and the "
        "answer "
        "is bound to its SHA-256\"},"
        "\"action\":{\"enum\":[\"read\",\"edit\",\"delete\",\"move\",\"search\",\"execute\",\"think\","
        "\"fetch\","
        "\"other\"],\"description\":\"For the agent's policy; default other\"},"
        "\"schema\":{\"type\":\"object\",\"description\":\"kind input: JSON Schema of the values\"},"
        "\"timeout\":{\"type\":\"string\",\"description\":\"How long to wait, such as 1h; then the answer is "
        "no; "
        "default: the hub's\"},"
        "\"required\":{\"type\":\"boolean\",\"description\":\"true (default): without a yes the step fails; "
        "false: outputs.approved says it\"}}}";

const char ask_output_schema[] =
        "{\"type\":\"object\",\"properties\":{"
        "\"approved\":{\"type\":\"boolean\"},"
        "\"outcome\":{\"enum\":[\"approved\",\"rejected\",\"expired\"]},"
        "\"by\":{\"type\":\"string\",\"description\":\"Who, or policy\"},"
        "\"reason\":{\"type\":\"string\"},"
        "\"content\":{\"type\":\"object\",\"description\":\"kind input: the values\"}}}";

struct asking {
        bool required, done;
        uint32_t id;
};

int ask_permit(const struct policy *p, const cJSON *input, struct err *e)
{
        (void)p;
        (void)input;
        (void)e;
        return 0;
}

static cJSON *outputs_of(const struct tool_decision *d)
{
        cJSON *o = cJSON_CreateObject();

        if (o && cJSON_AddBoolToObject(o, "approved", d->outcome == ASK_ALLOWED) &&
            cJSON_AddStringToObject(o, "outcome",
                                    d->outcome == ASK_ALLOWED   ? "approved"
                                    : d->outcome == ASK_EXPIRED ? "expired"
                                                                : "rejected") &&
            cJSON_AddStringToObject(o, "by", d->by) && cJSON_AddStringToObject(o, "reason", d->reason) &&
            (!d->content || cJSON_AddItemToObject(o, "content", cJSON_Duplicate(d->content, true))))
                return o;
        cJSON_Delete(o);
        return NULL;
}

static void on_decision(void *arg, const struct tool_decision *d)
{
        struct tool_call *c = arg;
        struct asking *a = c->state;
        cJSON *outputs = outputs_of(d);
        struct err e = {0};

        a->done = true;
        if (d->outcome == ASK_WITHDRAWN) {
                err_set(&e, E_CANCELLED, "nobody will answer any more: %s", d->reason);
                answer_bad(c, TOOL_CANCELLED, "cancelled", &e, outputs);
        } else if (!outputs) {
                err_set(&e, E_NOMEM, "out of memory");
                answer_bad(c, TOOL_FAILED, NULL, &e, NULL);
        } else if (d->outcome == ASK_ALLOWED || !a->required) {
                answer_ok(c, outputs);
        } else if (d->outcome == ASK_EXPIRED) {
                err_set(&e, E_TIMEOUT,
                        "nobody answered in time: it counts as no. Ask again, or give it more "
                        "time with timeout");
                answer_bad(c, TOOL_FAILED, "question_expired", &e, outputs);
        } else {
                err_set(&e, E_DENIED, "rejected by %s%s%s", d->by, *d->reason ? ": " : "", d->reason);
                answer_bad(c, TOOL_FAILED, "question_denied", &e, outputs);
        }
}

static int read_input(const cJSON *in, struct tool_question *q, bool *required, struct err *e)
{
        const char *kind = "permission", *timeout = NULL;
        int rc = json_str(in, "question", &q->title, e);

        q->action = "other";
        q->tool = "photon.ask";
        *required = true;
        if (!rc)
                rc = json_str_opt(in, "kind", &kind, e);
        if (!rc)
                rc = json_str_opt(in, "action", &q->action, e);
        if (!rc)
                rc = json_obj_opt(in, "arguments", &q->arguments, e);
        if (!rc)
                rc = json_obj_opt(in, "schema", &q->schema, e);
        if (!rc)
                rc = json_bool_opt(in, "required", required, e);
        if (!rc)
                rc = json_str_opt(in, "timeout", &timeout, e);
        if (rc)
                return rc;
        q->kind = strcmp(kind, "input") == 0 ? ASK_INPUT : ASK_PERMISSION;
        if (q->schema && q->kind != ASK_INPUT)
                return err_set(e, E_INVAL, "schema goes with kind: input");
        if (timeout && (str_parse_duration(timeout, &q->timeout_ms) || q->timeout_ms < 1))
                return err_set(e, E_INVAL, "timeout: \"%.40s\" is no time; write 30m or 24h", timeout);
        return 0;
}

int ask_start(struct tool_call *c, const cJSON *input, struct err *e)
{
        struct asking *a = mem_calloc(1, sizeof *a);
        struct tool_question q = {0};
        int rc;

        if (!a)
                return err_set(e, E_NOMEM, "out of memory");
        rc = read_input(input, &q, &a->required, e);
        c->state = a;
        if (!rc) {
                rc = tool_ask(c, &q, on_decision, c, &a->id);
                if (rc)
                        err_set(e, -rc, "the question could not be asked: %s", err_name(rc));
        }
        if (rc) {
                mem_free(a);
                c->state = NULL;
        }
        return rc;
}

void ask_cancel(struct tool_call *c, int grace_ms)
{
        struct asking *a = c->state;
        struct err e = {0};

        (void)grace_ms;
        if (a->done)
                return;
        a->done = true;
        tool_ask_withdraw(c, a->id);
        err_set(&e, E_CANCELLED, "cancelled while it waited for an answer");
        answer_bad(c, TOOL_CANCELLED, "cancelled", &e, NULL);
}

void ask_free(struct tool_call *c)
{
        mem_free(c->state);
}
