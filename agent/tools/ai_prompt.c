#include "agent/tools/ai_prompt.h"

#include <string.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/json.h"
#include "common/mem.h"

/* As people would write it, so that a model reads it too. */
static int attach(struct buf *b, const cJSON *inputs)
{
        char *text;
        int rc;

        if (!inputs || !inputs->child)
                return 0;
        text = cJSON_Print(inputs);
        if (!text)
                return -E_NOMEM;
        rc = buf_printf(b, "\n\nInputs (JSON):\n%s", text);
        cJSON_free(text);
        return rc;
}

int ai_prompt_text(const cJSON *input, size_t max, char **out, struct err *e)
{
        const char *prompt = NULL, *action = NULL;
        const cJSON *inputs = NULL;
        struct buf b;
        char *text;
        int rc = json_str_opt(input, "prompt", &prompt, e);

        if (!rc)
                rc = json_str_opt(input, "action", &action, e);
        if (!rc)
                rc = json_obj_opt(input, "inputs", &inputs, e);
        if (rc)
                return rc;
        if (!(prompt && *prompt) && !(action && *action))
                return err_set(e, E_INVAL, "there is no prompt: say what shall be done in \"prompt\"");
        buf_init(&b, max);
        if (prompt && action && *action)
                rc = buf_printf(&b, "%s\n\n", action);
        if (!rc)
                rc = buf_puts(&b, prompt && *prompt ? prompt : action);
        if (!rc)
                rc = attach(&b, inputs);
        text = rc ? NULL : buf_steal_str(&b);
        buf_fini(&b);
        if (text) {
                *out = text;
                return 0;
        }
        if (rc == -E_NOMEM || !rc)
                return err_set(e, E_NOMEM, "no memory for the prompt");
        return err_set(e, E_TOOBIG, "the prompt with what is attached has more than %zu bytes", max);
}
