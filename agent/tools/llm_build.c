/* Building requests and reading members, for every dialect. */
#include <string.h>

#include "agent/tools/llm_in.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"

void build_take(struct build *b, cJSON *parent, const char *key, cJSON *v)
{
        if (v && parent && (key ? cJSON_AddItemToObject(parent, key, v) : cJSON_AddItemToArray(parent, v)))
                return;
        cJSON_Delete(v);
        b->failed = true;
}

cJSON *build_object(struct build *b, cJSON *parent, const char *key)
{
        cJSON *o = cJSON_CreateObject();

        build_take(b, parent, key, o);
        return b->failed ? NULL : o;
}

cJSON *build_array(struct build *b, cJSON *parent, const char *key)
{
        cJSON *o = cJSON_CreateArray();

        build_take(b, parent, key, o);
        return b->failed ? NULL : o;
}

void build_str(struct build *b, cJSON *parent, const char *key, const char *text)
{
        build_take(b, parent, key, cJSON_CreateString(text));
}

void build_num(struct build *b, cJSON *parent, const char *key, double v)
{
        build_take(b, parent, key, cJSON_CreateNumber(v));
}

void build_bool(struct build *b, cJSON *parent, const char *key, bool v)
{
        build_take(b, parent, key, cJSON_CreateBool(v));
}

void build_copy(struct build *b, cJSON *parent, const char *key, const cJSON *v)
{
        if (v)
                build_take(b, parent, key, cJSON_Duplicate(v, true));
}

void build_text_of(struct build *b, cJSON *parent, const char *key, const cJSON *v)
{
        char *text = v ? json_text(v) : mem_strdup("{}");

        build_take(b, parent, key, text ? cJSON_CreateString(text) : NULL);
        mem_free(text);
}

cJSON *build_end(struct build *b, cJSON *root)
{
        if (!b->failed)
                return root;
        cJSON_Delete(root);
        return NULL;
}

const cJSON *member(const cJSON *o, const char *key)
{
        return cJSON_IsObject(o) ? cJSON_GetObjectItemCaseSensitive(o, key) : NULL;
}

const char *member_text(const cJSON *o, const char *key)
{
        const cJSON *v = member(o, key);

        return cJSON_IsString(v) ? v->valuestring : "";
}

int64_t member_count(const cJSON *o, const char *key)
{
        const cJSON *v = member(o, key);

        return cJSON_IsNumber(v) && v->valuedouble >= 0 && v->valuedouble < 1e15 ? (int64_t)v->valuedouble
                                                                                 : -1;
}

char *message_text(const cJSON *message)
{
        struct buf b;
        const cJSON *p;
        char *text = NULL;
        int rc = 0;

        buf_init(&b, 0);
        cJSON_ArrayForEach(p, member(message, "parts"))
        {
                if (strcmp(member_text(p, "type"), "text") != 0)
                        continue;
                if (!rc && b.len)
                        rc = buf_puts(&b, "\n\n");
                if (!rc)
                        rc = buf_puts(&b, member_text(p, "text"));
        }
        if (!rc)
                text = buf_steal_str(&b);
        buf_fini(&b);
        return text;
}

char *json_instruction(const struct llm_request *r)
{
        char *schema = r->schema ? json_text(r->schema) : mem_strdup(""), *text = NULL;

        if (schema)
                text = str_printf("Answer with exactly one JSON document and nothing else%s%s",
                                  *schema ? ". It must be valid against this JSON Schema: " : ".", schema);
        mem_free(schema);
        return text;
}
