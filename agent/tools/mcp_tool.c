#include "agent/tools/mcp_tool.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/secret.h"
#include "common/str.h"

static const char any_object[] = "{\"type\":\"object\"}";

static const char *text_of(const cJSON *o, const char *key)
{
        const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);

        return cJSON_IsString(v) ? v->valuestring : NULL;
}

static int nomem(struct err *e)
{
        return err_set(e, E_NOMEM, "out of memory");
}

/* --- the name ------------------------------------------------------------------------ */

/* mcp.SERVER.TOOL with what a name may not have replaced; `mark`: made unlike others by a piece of the hash.
 */
static char *make_name(const char *server, const char *original, bool mark)
{
        char name[MCP_TOOL_NAME_MAX + 1], hex[17];
        uint8_t sum[32];
        int n = snprintf(name, sizeof name, "mcp.%s.%s", server, original);

        mark |= n >= (int)sizeof name;
        for (char *s = name; *s; s++)
                if (!isascii((unsigned char)*s) || (!isalnum((unsigned char)*s) && !strchr("._-", *s)))
                        *s = '_';
        if (mark) {
                size_t at = strlen(name);

                secret_sha256(original, strlen(original), sum);
                str_hex(sum, 4, hex);
                if (at > MCP_TOOL_NAME_MAX - 9)
                        at = MCP_TOOL_NAME_MAX - 9;
                snprintf(name + at, sizeof name - at, "-%.8s", hex);
        }
        return mem_strdup(name);
}

static int take_name(struct mcp_tool *t, const char *server, bool (*taken)(void *arg, const char *name),
                     void *arg, struct err *e)
{
        t->name = make_name(server, t->original, false);
        if (t->name && taken(arg, t->name)) {
                mem_free(t->name);
                t->name = make_name(server, t->original, true);
                if (t->name && taken(arg, t->name))
                        return err_set(e, E_EXIST, "\"%.100s\" is there twice", t->original);
        }
        return t->name ? 0 : nomem(e);
}

/* --- schemas ------------------------------------------------------------------------------ */

static void prune(cJSON *s, int depth);

static void prune_each(cJSON *all, int depth)
{
        cJSON *next;

        for (cJSON *s = all->child; s; s = next) {
                next = s->next;
                if (cJSON_IsObject(s))
                        prune(s, depth + 1);
                else if (!cJSON_IsBool(s))
                        cJSON_Delete(cJSON_DetachItemViaPointer(all, s));
        }
}

/* Does the schema {key: value} make sense to json_check? */
static bool is_good(const cJSON *k)
{
        cJSON *o = cJSON_CreateObject();
        bool good = o && cJSON_AddItemReferenceToObject(o, k->string, (cJSON *)(uintptr_t)k) &&
                    json_check_schema(o, NULL) == 0;

        cJSON_Delete(o);
        return good;
}

/* Drops the keywords that json_check cannot go by (draft-04 leftovers, tuples): the server checks for itself.
 */
static void prune(cJSON *s, int depth)
{
        cJSON *next;

        if (depth > JSON_DEPTH_MAX)
                return;
        for (cJSON *k = s->child; k; k = next) {
                next = k->next;
                if (strcmp(k->string, "properties") == 0 && cJSON_IsObject(k))
                        prune_each(k, depth);
                else if (strcmp(k->string, "anyOf") == 0 && cJSON_IsArray(k))
                        prune_each(k, depth);
                else if ((strcmp(k->string, "items") == 0 ||
                          strcmp(k->string, "additionalProperties") == 0) &&
                         cJSON_IsObject(k))
                        prune(k, depth + 1);
                if (!is_good(k))
                        cJSON_Delete(cJSON_DetachItemViaPointer(s, k));
        }
}

/* *io: an owned schema that json_check can go by, and its text; both NULL if it is too large. */
static int readable(const cJSON *schema, cJSON **out, char **out_text)
{
        cJSON *v = cJSON_Duplicate(schema, true);
        char *text;

        if (!v)
                return -E_NOMEM;
        if (json_check_schema(v, NULL) != 0)
                prune(v, 0);
        text = json_text(v);
        if (!text) {
                cJSON_Delete(v);
                return -E_NOMEM;
        }
        if (strlen(text) > MCP_SCHEMA_MAX) {
                cJSON_Delete(v);
                mem_free(text);
                v = NULL;
                text = NULL;
        }
        *out = v;
        *out_text = text;
        return 0;
}

static int take_input(struct mcp_tool *t, const cJSON *schema, bool *omitted, struct err *e)
{
        cJSON *v = NULL;

        if (schema && !cJSON_IsObject(schema))
                return err_set(e, E_INVAL, "\"%.100s\": its inputSchema is no object", t->original);
        if (schema && readable(schema, &v, &t->input_schema))
                return nomem(e);
        *omitted = schema && !t->input_schema;
        cJSON_Delete(v);
        if (!t->input_schema)
                t->input_schema = mem_strdup(any_object);
        return t->input_schema ? 0 : nomem(e);
}

static int take_output(struct mcp_tool *t, const cJSON *schema, struct err *e)
{
        char *text = NULL;

        if (cJSON_IsObject(schema) && readable(schema, &t->check, &text))
                return nomem(e);
        t->output_schema =
                str_printf("{\"type\":\"object\",\"properties\":{\"text\":{\"type\":\"string\"},"
                           "\"text_truncated\":{\"type\":\"boolean\"},\"content\":{\"type\":\"array\"},"
                           "\"structured\":%s}}",
                           text ? text : "{}");
        mem_free(text);
        return t->output_schema ? 0 : nomem(e);
}

/* --- headers that repeat arguments (2026-07-28) ------------------------------------------------ */

static bool is_token(const char *s)
{
        if (!*s || strlen(s) > 64)
                return false;
        for (; *s; s++)
                if (!isascii((unsigned char)*s) ||
                    (!isalnum((unsigned char)*s) && !strchr("!#$%&'*+-.^_`|~", *s)))
                        return false;
        return true;
}

static bool has_header(const cJSON *headers, const char *name)
{
        const cJSON *h;

        cJSON_ArrayForEach(h, headers)
        {
                if (str_ieq(h->string, name))
                        return true;
        }
        return false;
}

static int declare(struct mcp_tool *t, const char *token, const char *const *path, size_t n, struct err *e)
{
        char *name = str_printf("Mcp-Param-%s", token);
        cJSON *list = cJSON_CreateStringArray(path, (int)n);
        int rc = 0;

        if (!t->headers)
                t->headers = cJSON_CreateObject();
        if (!name || !list || !t->headers)
                rc = nomem(e);
        else if (has_header(t->headers, name) || cJSON_GetArraySize(t->headers) >= MCP_HEADERS_MAX)
                rc = err_set(e, E_INVAL,
                             "\"%.100s\": x-mcp-header \"%s\" is declared twice, or there are over %d",
                             t->original, token, MCP_HEADERS_MAX);
        else if (!cJSON_AddItemToObject(t->headers, name, list))
                rc = nomem(e);
        else
                list = NULL;
        cJSON_Delete(list);
        mem_free(name);
        return rc;
}

static bool is_primitive(const cJSON *schema)
{
        const char *type = text_of(schema, "type");

        /* Not numbers: how they are written is not said. */
        return type &&
               (strcmp(type, "string") == 0 || strcmp(type, "integer") == 0 || strcmp(type, "boolean") == 0);
}

/* Only what a chain of `properties` reaches may be declared. */
static int find_headers(struct mcp_tool *t, const cJSON *schema, const char **path, size_t depth,
                        struct err *e)
{
        const cJSON *p, *h;
        int rc;

        cJSON_ArrayForEach(p, cJSON_GetObjectItemCaseSensitive(schema, "properties"))
        {
                h = cJSON_GetObjectItemCaseSensitive(p, "x-mcp-header");
                if (depth == 16)
                        return 0;
                path[depth] = p->string;
                if (h && (!cJSON_IsString(h) || !is_token(h->valuestring) || !is_primitive(p)))
                        return err_set(e, E_INVAL,
                                       "\"%.100s\": x-mcp-header of \"%.60s\" is not allowed there",
                                       t->original, p->string);
                rc = h ? declare(t, h->valuestring, path, depth + 1, e)
                       : find_headers(t, p, path, depth + 1, e);
                if (rc)
                        return rc;
        }
        return 0;
}

cJSON *mcp_tool_headers(const struct mcp_tool *t, const cJSON *arguments)
{
        cJSON *out = NULL;
        const cJSON *h, *step;

        cJSON_ArrayForEach(h, t->headers)
        {
                const cJSON *v = arguments;
                char *text = NULL;

                cJSON_ArrayForEach(step, h)
                {
                        v = cJSON_GetObjectItemCaseSensitive(v, step->valuestring);
                }
                if (cJSON_IsString(v))
                        text = mem_strdup(v->valuestring);
                else if (cJSON_IsBool(v) || cJSON_IsNumber(v))
                        text = json_text(v);
                if (text && !out)
                        out = cJSON_CreateObject();
                if (text && out)
                        cJSON_AddStringToObject(out, h->string, text);
                mem_free(text);
        }
        return out;
}

/* --- the whole ------------------------------------------------------------------------------------ */

static const char *effect_of(const cJSON *annotations)
{
        if (cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(annotations, "readOnlyHint")))
                return "pure";
        if (cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(annotations, "idempotentHint")))
                return "idempotent";
        return "at-most-once";
}

static char *cut_text(const char *text, size_t max)
{
        size_t n = strlen(text);

        if (n > max)
                for (n = max; n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80;)
                        n--;
        return mem_strndup(text, n);
}

static char *make_detail(const struct mcp_tool *t, const char *server, const cJSON *src, bool omitted)
{
        const cJSON *a = cJSON_GetObjectItemCaseSensitive(src, "annotations");
        const char *title = text_of(src, "title");
        cJSON *o = cJSON_CreateObject();
        char *text = NULL;
        bool ok = o && cJSON_AddStringToObject(o, "kind", "mcp") &&
                  cJSON_AddStringToObject(o, "server", server) &&
                  cJSON_AddStringToObject(o, "tool", t->original);

        if (!title)
                title = text_of(a, "title");
        if (ok && title && strlen(title) <= 256)
                ok = cJSON_AddStringToObject(o, "title", title) != NULL;
        if (ok && omitted)
                ok = cJSON_AddTrueToObject(o, "schema_omitted") != NULL;
        if (ok && cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(a, "destructiveHint")))
                ok = cJSON_AddTrueToObject(o, "destructive") != NULL;
        if (ok)
                text = json_text(o);
        cJSON_Delete(o);
        return text;
}

int mcp_tool_make(const char *server, const cJSON *src, bool (*taken)(void *arg, const char *name), void *arg,
                  struct mcp_tool **out, struct err *e)
{
        const char *name = text_of(src, "name"), *about = text_of(src, "description");
        const char *path[17];
        struct mcp_tool *t;
        bool omitted = false;
        int rc;

        if (!name || !*name || strlen(name) > 1024)
                return err_set(e, E_INVAL, "a tool without a name, or with one over 1024 bytes");
        t = mem_calloc(1, sizeof *t);
        if (!t)
                return nomem(e);
        t->original = mem_strdup(name);
        t->description = cut_text(about ? about : "", MCP_DESCRIPTION_MAX);
        rc = t->original && t->description ? 0 : nomem(e);
        if (!rc)
                rc = take_name(t, server, taken, arg, e);
        if (!rc)
                rc = take_input(t, cJSON_GetObjectItemCaseSensitive(src, "inputSchema"), &omitted, e);
        if (!rc)
                rc = take_output(t, cJSON_GetObjectItemCaseSensitive(src, "outputSchema"), e);
        if (!rc)
                rc = find_headers(t, cJSON_GetObjectItemCaseSensitive(src, "inputSchema"), path, 0, e);
        if (!rc && !(t->detail = make_detail(t, server, src, omitted)))
                rc = nomem(e);
        if (rc) {
                mcp_tool_free(t);
                return rc;
        }
        t->row = (struct tool){
                .name = t->name,
                .version = "1",
                .description = t->description,
                .input_schema = t->input_schema,
                .output_schema = t->output_schema,
                .effect = effect_of(cJSON_GetObjectItemCaseSensitive(src, "annotations")),
                .no_scratch = true,
                .detail = t->detail,
                .data = t,
        };
        *out = t;
        return 0;
}

void mcp_tool_free(struct mcp_tool *t)
{
        if (!t || t->listed || t->calls > 0)
                return;
        mem_free(t->name);
        mem_free(t->original);
        mem_free(t->description);
        mem_free(t->input_schema);
        mem_free(t->output_schema);
        mem_free(t->detail);
        cJSON_Delete(t->check);
        cJSON_Delete(t->headers);
        mem_free(t);
}

bool mcp_tool_same(const struct mcp_tool *a, const struct mcp_tool *b)
{
        return strcmp(a->name, b->name) == 0 && strcmp(a->original, b->original) == 0 &&
               strcmp(a->description, b->description) == 0 && strcmp(a->input_schema, b->input_schema) == 0 &&
               strcmp(a->output_schema, b->output_schema) == 0 && strcmp(a->detail, b->detail) == 0 &&
               a->row.effect == b->row.effect &&
               cJSON_Compare(a->headers, b->headers, true) == (a->headers != NULL || b->headers != NULL);
}
