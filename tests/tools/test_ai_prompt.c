/* What a model is asked to do, made from a step's input. */
#include "agent/tools/ai_prompt.h"
#include "common/err.h"
#include "common/json.h"
#include "common/mem.h"
#include "tests/lib/test.h"

#include <string.h>

static int text_of(const char *json, size_t max, char **out, struct err *e)
{
        cJSON *o = NULL;
        int rc = json_parse(json, strlen(json), &o, e);

        if (!rc)
                rc = ai_prompt_text(o, max, out, e);
        cJSON_Delete(o);
        return rc;
}

static void says(const char *json, const char *want)
{
        struct err e = {0};
        char *text = NULL;

        CHECK_INT(text_of(json, 1000, &text, &e), 0);
        CHECK_STR(text, want);
        mem_free(text);
}

TEST(ai_prompt, an_operations_inputs_are_attached_to_its_action)
{
        says("{\"prompt\":\"do it\"}", "do it");
        says("{\"action\":\"create-ui-component\",\"inputs\":{\"spec\":\"feature-spec-123\"}}",
             "create-ui-component\n\nInputs (JSON):\n{\n\t\"spec\":\t\"feature-spec-123\"\n}");
        says("{\"action\":\"a\",\"inputs\":{}}", "a");
        says("{\"action\":\"review\",\"prompt\":\"be brief\",\"inputs\":null}", "review\n\nbe brief");
}

TEST(ai_prompt, nothing_to_do_and_too_much_are_refused)
{
        struct err e = {0};
        char *text = NULL;

        CHECK_INT(text_of("{}", 1000, &text, &e), -E_INVAL);
        CHECK(strstr(e.msg, "no prompt"));
        CHECK_INT(text_of("{\"inputs\":{\"a\":1}}", 1000, &text, &e), -E_INVAL);
        CHECK_INT(text_of("{\"prompt\":7}", 1000, &text, &e), -E_INVAL);
        CHECK_INT(text_of("{\"prompt\":\"0123456789\"}", 8, &text, &e), -E_TOOBIG);
        CHECK_INT(text_of("{\"action\":\"01234\",\"inputs\":{\"a\":1}}", 8, &text, &e), -E_TOOBIG);
        CHECK(!text);
}
