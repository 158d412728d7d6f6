/* What MCP servers say of themselves: tools (first byte even) and results (odd). Nothing
 * may crash the agent, and what is taken keeps within its limits. */
#include "agent/tools/mcp_result.h"
#include "agent/tools/mcp_tool.h"
#include "common/err.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool never(void *arg, const char *name)
{
        (void)arg;
        (void)name;
        return false;
}

static void on_text(void *arg, const char *p, size_t n)
{
        *(size_t *)arg += n;
        if (n && !p)
                abort();
}

static void try_tool(const cJSON *v)
{
        struct mcp_tool *t;
        struct err e = {0};
        cJSON *schema = NULL;

        if (mcp_tool_make("server", v, never, NULL, &t, &e) != 0) {
                if (!e.msg[0])
                        abort();
                return;
        }
        if (!str_is_name(t->name, MCP_TOOL_NAME_MAX) || strncmp(t->name, "mcp.server.", 11) != 0 ||
            strlen(t->input_schema) > MCP_SCHEMA_MAX || !mcp_tool_same(t, t))
                abort();
        /* What is offered to the hub is JSON, and a schema that calls can be checked against. */
        if (json_parse(t->input_schema, strlen(t->input_schema), &schema, &e) != 0 ||
            json_check_schema(schema, &e) != 0)
                abort();
        cJSON_Delete(schema);
        if (json_parse(t->output_schema, strlen(t->output_schema), &schema, &e) != 0)
                abort();
        cJSON_Delete(schema);
        cJSON_Delete(mcp_tool_headers(t, v));
        mcp_tool_free(t);
}

static void try_result(const cJSON *v)
{
        struct mcp_result r;
        struct err e = {0};
        size_t n = 0;
        const char *text;

        if (mcp_result_read(v, NULL, on_text, &n, &r, &e) != 0) {
                if (!e.msg[0] || r.outputs)
                        abort();
                return;
        }
        text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(r.outputs, "text"));
        if (!r.input_required && (!text || strlen(text) > MCP_TEXT_MAX || strlen(text) > n))
                abort();
        mcp_result_fini(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        cJSON *v = NULL;

        mem_install_hooks();
        if (size < 1 || json_parse((const char *)data + 1, size - 1, &v, NULL) != 0)
                return 0;
        if (data[0] % 2)
                try_result(v);
        else
                try_tool(v);
        cJSON_Delete(v);
        return 0;
}
