#include "agent/tools/answer.h"

#include "common/err.h"

void answer_ok(struct tool_call *c, cJSON *outputs)
{
        struct tool_result r = {.outcome = TOOL_SUCCEEDED, .outputs = outputs};

        tool_finish(c, &r);
}

void answer_bad(struct tool_call *c, enum tool_outcome o, const char *code, const struct err *e,
                cJSON *outputs)
{
        struct tool_result r = {
                .outcome = o,
                .outputs = outputs,
                .error_code = code ? code : err_name(e->code),
                .error_message = e->msg,
        };

        tool_finish(c, &r);
}
