#include "agent/tools/mcp_result.h"

#include <string.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"

struct reading {
        struct buf text;
        bool cut, ends_line;
        size_t content_bytes;
        cJSON *content;
        void (*on_text)(void *arg, const char *p, size_t n);
        void *arg;
};

static int nomem(struct err *e)
{
        return err_set(e, E_NOMEM, "the agent is out of memory");
}

/* --- text ------------------------------------------------------------------------ */

/* Keeps the last MCP_TEXT_MAX bytes, whole characters. */
static int keep_text(struct reading *r, const char *p, size_t n)
{
        size_t drop;

        if (n > MCP_TEXT_MAX) {
                p += n - MCP_TEXT_MAX;
                n = MCP_TEXT_MAX;
                buf_reset(&r->text);
                r->cut = true;
        } else if (r->text.len + n > MCP_TEXT_MAX) {
                buf_consume(&r->text, r->text.len + n - MCP_TEXT_MAX);
                r->cut = true;
        }
        if (buf_put(&r->text, p, n))
                return -E_NOMEM;
        for (drop = 0; r->cut && drop < r->text.len && drop < 4 && (r->text.data[drop] & 0xc0) == 0x80;)
                drop++;
        buf_consume(&r->text, drop);
        return 0;
}

static int put_text(struct reading *r, const char *p, size_t n)
{
        if (n == 0)
                return 0;
        r->on_text(r->arg, p, n);
        r->ends_line = p[n - 1] == '\n';
        return keep_text(r, p, n);
}

/* Blocks stand on lines of their own. */
static int take_text(struct reading *r, const char *text)
{
        int rc = r->text.len > 0 && !r->ends_line ? put_text(r, "\n", 1) : 0;

        return rc ? rc : put_text(r, text, strlen(text));
}

/* --- other blocks ------------------------------------------------------------------ */

/* What is too large is described instead: what it was, and how long. */
static cJSON *describe(const cJSON *block, size_t n)
{
        cJSON *o = cJSON_CreateObject();
        const cJSON *v;
        static const char *const told[] = {"type", "mimeType", "uri", "name"};

        for (size_t i = 0; o && i < sizeof told / sizeof *told; i++) {
                v = cJSON_GetObjectItemCaseSensitive(block, told[i]);
                if (cJSON_IsString(v) && strlen(v->valuestring) <= 1024 &&
                    !cJSON_AddStringToObject(o, told[i], v->valuestring))
                        goto fail;
        }
        if (o && cJSON_AddTrueToObject(o, "omitted") && cJSON_AddNumberToObject(o, "bytes", (double)n))
                return o;
fail:
        cJSON_Delete(o);
        return NULL;
}

static int take_block(struct reading *r, const cJSON *block)
{
        char *text = json_text(block);
        size_t n = text ? strlen(text) : 0;
        cJSON *copy;

        mem_free(text);
        if (!text)
                return -E_NOMEM;
        if (n > MCP_CONTENT_MAX - r->content_bytes) {
                copy = describe(block, n);
        } else {
                copy = cJSON_Duplicate(block, true);
                r->content_bytes += n;
        }
        if (!copy || !cJSON_AddItemToArray(r->content, copy)) {
                cJSON_Delete(copy);
                return -E_NOMEM;
        }
        return 0;
}

static const char *text_of(const cJSON *o, const char *key)
{
        const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);

        return cJSON_IsString(v) ? v->valuestring : NULL;
}

static int take_content(struct reading *r, const cJSON *list, struct err *e)
{
        size_t i = 0;
        const cJSON *b;

        if (list && !cJSON_IsArray(list))
                return err_set(e, E_PROTO, "content: expected a list");
        cJSON_ArrayForEach(b, list)
        {
                const char *type = text_of(b, "type"), *text = text_of(b, "text");
                int rc;

                if (i++ == MCP_BLOCKS_MAX) {
                        r->cut = true;
                        return 0;
                }
                if (!type)
                        return err_set(e, E_PROTO, "content[%zu]: has no type", i - 1);
                if (strcmp(type, "text") == 0 && !text)
                        return err_set(e, E_PROTO, "content[%zu]: has no text", i - 1);
                rc = strcmp(type, "text") == 0 ? take_text(r, text) : take_block(r, b);
                if (rc)
                        return nomem(e);
        }
        return 0;
}

/* --- the whole -------------------------------------------------------------------------- */

static int take_structured(const cJSON *v, const cJSON *check, bool is_error, cJSON *outputs, struct err *e)
{
        struct err why = {0};
        cJSON *copy;

        if (!v || cJSON_IsNull(v))
                return check && !is_error ? err_set(e, E_INVAL,
                                                    "it has no structuredContent, which its "
                                                    "outputSchema asks for")
                                          : 0;
        if (check && !is_error && json_check(check, v, &why) != 0)
                return err_set(e, E_INVAL, "structuredContent does not fit its outputSchema: %s", why.msg);
        copy = cJSON_Duplicate(v, true);
        if (copy && cJSON_AddItemToObject(outputs, "structured", copy))
                return 0;
        cJSON_Delete(copy);
        return nomem(e);
}

static int make_outputs(struct reading *r, cJSON *o, struct err *e)
{
        if (buf_putc(&r->text, '\0'))
                return nomem(e);
        if (!cJSON_AddStringToObject(o, "text", (const char *)r->text.data) ||
            (r->cut && !cJSON_AddTrueToObject(o, "text_truncated")))
                return nomem(e);
        if (!r->content->child)
                return 0;
        if (!cJSON_AddItemToObject(o, "content", r->content))
                return nomem(e);
        r->content = NULL;
        return 0;
}

static int read_inputs(const cJSON *result, struct mcp_result *out, struct err *e)
{
        const cJSON *inputs = cJSON_GetObjectItemCaseSensitive(result, "inputRequests");
        const cJSON *state = cJSON_GetObjectItemCaseSensitive(result, "requestState");

        if (inputs && !cJSON_IsObject(inputs))
                return err_set(e, E_PROTO, "inputRequests: expected an object");
        if (cJSON_GetArraySize(inputs) > MCP_INPUTS_MAX)
                return err_set(e, E_PROTO, "inputRequests: more than %d", MCP_INPUTS_MAX);
        if (state && !cJSON_IsString(state))
                return err_set(e, E_PROTO, "requestState: expected a text");
        if (!inputs && !state)
                return err_set(e, E_PROTO, "it asks for input and says for none");
        out->input_required = true;
        out->inputs = inputs;
        out->state = state ? state->valuestring : NULL;
        return 0;
}

int mcp_result_read(const cJSON *result, const cJSON *check,
                    void (*on_text)(void *arg, const char *p, size_t n), void *arg, struct mcp_result *out,
                    struct err *e)
{
        struct reading r = {.on_text = on_text, .arg = arg};
        const char *type = text_of(result, "resultType");
        int rc = 0;

        memset(out, 0, sizeof *out);
        if (!cJSON_IsObject(result))
                return err_set(e, E_PROTO, "its result is no object");
        if (type && strcmp(type, "input_required") == 0)
                return read_inputs(result, out, e);
        if (type && strcmp(type, "complete") != 0)
                return err_set(e, E_PROTO, "its result is of the unknown type \"%.60s\"", type);
        buf_init(&r.text, MCP_TEXT_MAX + 8);
        out->is_error = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(result, "isError"));
        out->outputs = cJSON_CreateObject();
        r.content = cJSON_CreateArray();
        if (!out->outputs || !r.content)
                rc = nomem(e);
        if (!rc)
                rc = take_content(&r, cJSON_GetObjectItemCaseSensitive(result, "content"), e);
        if (!rc)
                rc = make_outputs(&r, out->outputs, e);
        if (!rc)
                rc = take_structured(cJSON_GetObjectItemCaseSensitive(result, "structuredContent"), check,
                                     out->is_error, out->outputs, e);
        buf_fini(&r.text);
        cJSON_Delete(r.content);
        if (rc)
                mcp_result_fini(out);
        return rc;
}

void mcp_result_fini(struct mcp_result *r)
{
        cJSON_Delete(r->outputs);
        r->outputs = NULL;
}
