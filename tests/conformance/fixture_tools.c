/* The suite's tools. */
#include <string.h>

#include "common/json.h"
#include "common/mem.h"
#include "tests/conformance/mcp_fixtures.h"

#define TEXT_OF(t) "\"content\":[{\"type\":\"text\",\"text\":\"" t "\"}]"
#define PNG_BLOCK  "{\"type\":\"image\",\"data\":\"" FIXTURE_PNG "\",\"mimeType\":\"image/png\"}"
/* Eight samples of silence. */
#define WAV "UklGRiwAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQgAAACAgICAgICAgA=="

static const struct {
        const char *name, *members;
} fixed[] = {
        {"test_simple_text", TEXT_OF("This is a simple text response for testing.")},
        {"test_image_content", "\"content\":[" PNG_BLOCK "]"},
        {"test_audio_content",
         "\"content\":[{\"type\":\"audio\",\"data\":\"" WAV "\",\"mimeType\":\"audio/wav\"}]"},
        {"test_embedded_resource", "\"content\":[{\"type\":\"resource\",\"resource\":{\"uri\":\"test://"
                                   "embedded-resource\",\"mimeType\":"
                                   "\"text/plain\",\"text\":\"This is an embedded resource content.\"}}]"},
        {"test_multiple_content_types",
         "\"content\":[{\"type\":\"text\",\"text\":\"Multiple content types test:\"}," PNG_BLOCK
         ",{\"type\":\"resource\",\"resource\":{\"uri\":\"test://mixed-content-resource\",\"mimeType\":"
         "\"application/json\",\"text\":\"{\\\"test\\\":\\\"data\\\",\\\"value\\\":123}\"}}]"},
        {"test_error_handling",
         TEXT_OF("This tool intentionally returns an error for testing") ",\"isError\":true"},
        {"json_schema_2020_12_tool", TEXT_OF("ok")},
};

static int answer_fixed(struct http_req *q, struct mcp_call *c, struct err *e)
{
        (void)e;
        for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
                if (strcmp(fixed[i].name, c->tool->name) == 0)
                        return mcp_answer(q, c, fixed[i].members);
        return -E_NOENT;
}

int fixture_text(struct http_req *q, struct mcp_call *c, const char *text)
{
        struct buf b;
        int rc;

        buf_init(&b, 0);
        rc = buf_puts(&b, "\"content\":[{\"type\":\"text\",\"text\":");
        if (!rc)
                rc = json_append_str(&b, text, strlen(text));
        if (!rc)
                rc = buf_put(&b, "}]", 3);
        rc = rc ? mcp_no_memory(c) : mcp_answer(q, c, (const char *)b.data);
        buf_fini(&b);
        return rc;
}

#define SCHEMA_2020_12                                                                                       \
        "{\"$schema\":\"https://json-schema.org/draft/2020-12/schema\",\"type\":\"object\",\"$defs\":{"      \
        "\"address\":{\"$anchor\":\"addressDef\",\"type\":\"object\",\"properties\":{\"street\":{\"type\":"  \
        "\"string\"},\"city\":{\"type\":\"string\"}}}},\"properties\":{\"name\":{\"type\":\"string\"},"      \
        "\"address\":{\"$ref\":\"#/$defs/address\"},\"contactMethod\":{\"type\":\"string\",\"enum\":["       \
        "\"phone\",\"email\"]},\"phone\":{\"type\":\"string\"},\"email\":{\"type\":\"string\"}},\"allOf\":[" \
        "{\"anyOf\":[{\"required\":[\"phone\"]},{\"required\":[\"email\"]}]}],\"if\":{\"properties\":{"      \
        "\"contactMethod\":{\"const\":\"phone\"}},\"required\":[\"contactMethod\"]},\"then\":{\"required\":" \
        "[\"phone\"]},\"else\":{\"required\":[\"email\"]},\"additionalProperties\":false}"
#define ONE_TEXT(name)                                                                                       \
        "{\"type\":\"object\",\"properties\":{\"" name "\":{\"type\":\"string\"}},\"required\":[\"" name     \
        "\"]}"

#define ROUND(tool)                                                                                          \
        {                                                                                                    \
                .name = tool, .description = "Asks by an unfinished result", .call = fixture_round_tool      \
        }
#define FIXED(tool)                                                                                          \
        {                                                                                                    \
                .name = tool, .description = "Answers the same each time", .call = answer_fixed              \
        }

const struct mcp_tool fixture_tools[] = {
        FIXED("test_simple_text"),
        FIXED("test_image_content"),
        FIXED("test_audio_content"),
        FIXED("test_embedded_resource"),
        FIXED("test_multiple_content_types"),
        FIXED("test_error_handling"),
        {.name = "json_schema_2020_12_tool",
         .description = "Tool with JSON Schema 2020-12 features",
         .input = SCHEMA_2020_12,
         .call = answer_fixed},
        {.name = "test_tool_with_progress", .description = "Reports progress", .call = fixture_progress},
        {.name = "test_tool_with_logging", .description = "Logs", .call = fixture_logging},
        {.name = "test_logging_tool", .description = "Logs if asked to", .call = fixture_logging},
        {.name = "test_sampling",
         .description = "Asks the client's model",
         .input = ONE_TEXT("prompt"),
         .call = fixture_sampling},
        {.name = "test_elicitation",
         .description = "Asks the client's user",
         .input = ONE_TEXT("message"),
         .call = fixture_elicitation},
        {.name = "test_elicitation_sep1034_defaults",
         .description = "Asks with defaults",
         .call = fixture_elicit_defaults},
        {.name = "test_elicitation_sep1330_enums",
         .description = "Asks with choices",
         .call = fixture_elicit_enums},
        {.name = "test_missing_capability",
         .description = "Needs the capability sampling",
         .call = fixture_needs_sampling},
        ROUND("test_streaming_elicitation"),
        ROUND("test_input_required_result_elicitation"),
        ROUND("test_input_required_result_sampling"),
        ROUND("test_input_required_result_list_roots"),
        ROUND("test_input_required_result_request_state"),
        ROUND("test_input_required_result_multiple_inputs"),
        ROUND("test_input_required_result_multi_round"),
        ROUND("test_input_required_result_tampered_state"),
        ROUND("test_input_required_result_capabilities"),
        {0},
};

const struct mcp_extra mcp_extra = {
        .capabilities = {[MCP_LEGACY] =
                                 ",\"resources\":{\"subscribe\":true},\"prompts\":{},\"completions\":{},"
                                 "\"logging\":{}",
                         [MCP_MODERN] =
                                 ",\"resources\":{\"subscribe\":true},\"prompts\":{},\"completions\":{}"},
        .methods = fixture_methods,
        .tools = fixture_tools,
};
