/* The suite's resources, prompts, completions and log levels. */
#include <stdio.h>
#include <string.h>

#include "common/json.h"
#include "common/mem.h"
#include "tests/conformance/mcp_fixtures.h"

#define BOTH (MCP_IN_LEGACY | MCP_IN_MODERN)

static const char *text_param(const struct mcp_call *c, const char *key)
{
        return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(c->msg.params, key));
}

/* Results that may be cached say for how long, in the era that has it. */
static int answer_cached(struct http_req *q, struct mcp_call *c, const char *members)
{
        struct buf b;
        int rc;

        buf_init(&b, 0);
        rc = buf_puts(&b, members);
        if (!rc && c->terms.era == MCP_MODERN)
                rc = buf_puts(&b, ",\"ttlMs\":1000,\"cacheScope\":\"public\"");
        if (!rc)
                rc = buf_putc(&b, '\0');
        rc = rc ? mcp_no_memory(c) : mcp_answer(q, c, (const char *)b.data);
        buf_fini(&b);
        return rc;
}

/* ---- resources ---- */

static int resources_list(struct http_req *q, struct mcp_call *c)
{
        return answer_cached(
                q, c,
                "\"resources\":[{\"uri\":\"test://static-text\",\"name\":\"static-text\",\"description\":\"A "
                "text\",\"mimeType\":\"text/plain\"},{\"uri\":\"test://static-binary\",\"name\":"
                "\"static-binary\",\"description\":\"An image\",\"mimeType\":\"image/png\"},{\"uri\":"
                "\"test://watched-resource\",\"name\":\"watched-resource\",\"description\":\"A text to "
                "subscribe to\",\"mimeType\":\"text/plain\"}]");
}

static int templates_list(struct http_req *q, struct mcp_call *c)
{
        return answer_cached(
                q, c,
                "\"resourceTemplates\":[{\"uriTemplate\":\"test://template/{id}/data\",\"name\":"
                "\"template\",\"description\":\"Data by id\",\"mimeType\":\"application/json\"}]");
}

static int not_found(struct mcp_call *c, const char *uri)
{
        struct buf b;

        buf_init(&b, 0);
        if (!buf_puts(&b, "{\"uri\":") && !json_append_str(&b, uri, strlen(uri)) && !buf_putc(&b, '}'))
                c->fault.data = buf_steal_str(&b);
        buf_fini(&b);
        return mcp_fault_set(&c->fault, c->terms.era == MCP_MODERN ? MCP_E_PARAMS : -32002, 200,
                             "there is no resource %.200s", uri);
}

static int resources_read(struct http_req *q, struct mcp_call *c)
{
        const char *uri = text_param(c, "uri");
        char id[40] = "", end = 0, members[512];

        if (!uri)
                return mcp_fault_set(&c->fault, MCP_E_PARAMS, 200, "params.uri must be text");
        if (strcmp(uri, "test://static-text") == 0)
                return answer_cached(
                        q, c,
                        "\"contents\":[{\"uri\":\"test://static-text\",\"mimeType\":\"text/plain\","
                        "\"text\":\"This is the content of the static text resource.\"}]");
        if (strcmp(uri, "test://static-binary") == 0)
                return answer_cached(q, c,
                                     "\"contents\":[{\"uri\":\"test://static-binary\",\"mimeType\":"
                                     "\"image/png\",\"blob\":\"" FIXTURE_PNG "\"}]");
        if (sscanf(uri, "test://template/%39[A-Za-z0-9]/dat%c", id, &end) != 2 || end != 'a')
                return not_found(c, uri);
        snprintf(members, sizeof members,
                 "\"contents\":[{\"uri\":\"test://template/%s/data\",\"mimeType\":\"application/"
                 "json\",\"text\":"
                 "\"{\\\"id\\\":\\\"%s\\\",\\\"templateTest\\\":true,\\\"data\\\":\\\"Data for ID: "
                 "%s\\\"}\"}]",
                 id, id, id);
        return answer_cached(q, c, members);
}

static int nothing(struct http_req *q, struct mcp_call *c)
{
        return mcp_answer(q, c, "");
}

/* ---- prompts ---- */

#define USER_TEXT(t) "{\"role\":\"user\",\"content\":{\"type\":\"text\",\"text\":\"" t "\"}}"

static int prompts_list(struct http_req *q, struct mcp_call *c)
{
        return answer_cached(
                q, c,
                "\"prompts\":[{\"name\":\"test_simple_prompt\",\"description\":\"Plain\"},{\"name\":"
                "\"test_prompt_with_arguments\",\"description\":\"With arguments\",\"arguments\":[{\"name\":"
                "\"arg1\",\"description\":\"First test argument\",\"required\":true},{\"name\":\"arg2\","
                "\"description\":\"Second test argument\",\"required\":true}]},{\"name\":"
                "\"test_prompt_with_embedded_resource\",\"description\":\"With a resource\",\"arguments\":[{"
                "\"name\":\"resourceUri\",\"description\":\"URI of the resource to "
                "embed\",\"required\":true}]},{"
                "\"name\":\"test_prompt_with_image\",\"description\":\"With an image\"},{\"name\":"
                "\"test_input_required_result_prompt\",\"description\":\"Asks first\"}]");
}

/* before TEXT [middle TEXT2] after */
static int with_arguments(struct http_req *q, struct mcp_call *c, const char *const args[2],
                          const char *const parts[3])
{
        const cJSON *given = cJSON_GetObjectItemCaseSensitive(c->msg.params, "arguments");
        struct buf b;
        int rc;

        buf_init(&b, 0);
        rc = buf_puts(&b, parts[0]);
        for (int i = 0; i < 2 && args[i] && !rc; i++) {
                const char *v = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(given, args[i]));
                struct buf text;

                if (!v) {
                        buf_fini(&b);
                        return mcp_fault_set(&c->fault, MCP_E_PARAMS, 200, "the argument %s is missing",
                                             args[i]);
                }
                buf_init(&text, 0);
                rc = json_append_str(&text, v, strlen(v));
                if (!rc) /* without its quotes: it stands inside of a text */
                        rc = buf_put(&b, text.data + 1, text.len - 2);
                if (!rc)
                        rc = buf_puts(&b, parts[i + 1]);
                buf_fini(&text);
        }
        if (!rc)
                rc = buf_putc(&b, '\0');
        rc = rc ? mcp_no_memory(c) : mcp_answer(q, c, (const char *)b.data);
        buf_fini(&b);
        return rc;
}

static int prompts_get(struct http_req *q, struct mcp_call *c)
{
        const char *name = text_param(c, "name");

        if (!name)
                return mcp_fault_set(&c->fault, MCP_E_PARAMS, 200, "params.name must be text");
        if (strcmp(name, "test_simple_prompt") == 0)
                return mcp_answer(q, c,
                                  "\"messages\":[" USER_TEXT("This is a simple prompt for testing.") "]");
        if (strcmp(name, "test_prompt_with_arguments") == 0)
                return with_arguments(q, c, (const char *const[]){"arg1", "arg2"},
                                      (const char *const[]){"\"messages\":[{\"role\":\"user\",\"content\":{"
                                                            "\"type\":\"text\",\"text\":\"Prompt with "
                                                            "arguments: arg1='",
                                                            "', arg2='", "'\"}}]"});
        if (strcmp(name, "test_prompt_with_embedded_resource") == 0)
                return with_arguments(
                        q, c, (const char *const[]){"resourceUri", NULL},
                        (const char *const[]){
                                "\"messages\":[{\"role\":\"user\",\"content\":{\"type\":\"resource\","
                                "\"resource\":{\"uri\":\"",
                                "\",\"mimeType\":\"text/plain\",\"text\":\"Embedded resource content for "
                                "testing.\"}}}," USER_TEXT("Please process the embedded resource above.") "]",
                                ""});
        if (strcmp(name, "test_prompt_with_image") == 0)
                return mcp_answer(q, c,
                                  "\"messages\":[{\"role\":\"user\",\"content\":{\"type\":\"image\",\"data\":"
                                  "\"" FIXTURE_PNG
                                  "\",\"mimeType\":\"image/png\"}}," USER_TEXT("Please analyze the image "
                                                                               "above.") "]");
        if (strcmp(name, "test_input_required_result_prompt") == 0)
                return fixture_round_prompt(q, c);
        return mcp_fault_set(&c->fault, MCP_E_PARAMS, 200, "there is no prompt %.100s", name);
}

static int complete(struct http_req *q, struct mcp_call *c)
{
        return mcp_answer(q, c,
                          "\"completion\":{\"values\":[\"test\",\"testing\"],\"total\":2,\"hasMore\":false}");
}

const struct mcp_method fixture_methods[] = {
        {"resources/list", BOTH, resources_list},
        {"resources/templates/list", BOTH, templates_list},
        {"resources/read", BOTH, resources_read},
        {"resources/subscribe", MCP_IN_LEGACY, nothing},
        {"resources/unsubscribe", MCP_IN_LEGACY, nothing},
        {"prompts/list", BOTH, prompts_list},
        {"prompts/get", BOTH, prompts_get},
        {"completion/complete", BOTH, complete},
        {"logging/setLevel", MCP_IN_LEGACY, nothing},
        {0},
};
