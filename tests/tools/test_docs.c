/* docs/TOOLS.md tells about every tool, input, output and key of the policy. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/policy.h"
#include "agent/tools/tool.h"
#include "common/err.h"
#include "common/file.h"
#include "common/json.h"
#include "common/mem.h"
#include "tests/lib/test.h"

static char *doc(void)
{
        char *text = NULL;
        size_t n;
        struct err e = {0};

        if (file_read("docs/TOOLS.md", 1 << 20, &text, &n, &e) != 0)
                test_fail(__FILE__, __LINE__, "%s (run from the top folder)", e.msg);
        return text;
}

static cJSON *schema(const char *text)
{
        cJSON *v = NULL;
        struct err e = {0};

        if (json_parse(text, strlen(text), &v, &e) != 0)
                test_fail(__FILE__, __LINE__, "schema: %s: %.80s", e.msg, text);
        return v;
}

/* Every property is named in backquotes within the tool's section. */
static void section_has(const char *section, size_t n, const char *tool, const cJSON *s)
{
        const cJSON *p;

        cJSON_ArrayForEach(p, cJSON_GetObjectItem(s, "properties"))
        {
                char want[100];

                snprintf(want, sizeof want, "`%s`", p->string);
                if (!memmem(section, n, want, strlen(want)))
                        test_fail(__FILE__, __LINE__, "docs/TOOLS.md: section %s does not name %s", tool,
                                  want);
        }
}

TEST(docs, every_tool_is_described)
{
        char *text = doc();

        for (const struct tool *t = tools; t->name; t++) {
                cJSON *in = schema(t->input_schema), *out = schema(t->output_schema);
                char head[100];
                const char *s, *end;

                CHECK(t->version && t->description && t->effect && t->permit && t->start && t->cancel &&
                      t->free);
                snprintf(head, sizeof head, "\n## %s\n", t->name);
                s = strstr(text, head);
                if (!s)
                        test_fail(__FILE__, __LINE__, "docs/TOOLS.md has no section \"## %s\"", t->name);
                end = strstr(s + 1, "\n## ");
                if (!end)
                        end = s + strlen(s);
                section_has(s, (size_t)(end - s), t->name, in);
                section_has(s, (size_t)(end - s), t->name, out);
                snprintf(head, sizeof head, "Effect: `%s`", t->effect);
                if (!memmem(s, (size_t)(end - s), head, strlen(head)))
                        test_fail(__FILE__, __LINE__, "docs/TOOLS.md: section %s does not say \"%s\"",
                                  t->name, head);
                cJSON_Delete(in);
                cJSON_Delete(out);
        }
        mem_free(text);
}

TEST(docs, default_policy_is_the_documented_one)
{
        char *text = doc();

        if (!strstr(text, policy_default_text()))
                test_fail(__FILE__, __LINE__, "docs/TOOLS.md does not hold policy_default_text() as it is");
        mem_free(text);
}
