/* json_check of json.h: values against a subset of JSON Schema 2020-12. */
#include "common/json.h"

#include "common/err.h"
#include "common/str.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Where the value stands: frames on the C stack, rendered only on failure. */
struct at {
        const struct at *up;
        const char *key; /* NULL: index */
        size_t index;
};

#define NEAR_KEYS 64 /* candidates looked at for "did you mean" */

static int check(const cJSON *schema, const cJSON *v, const struct at *at, int depth, struct err *e);

static size_t render(const struct at *at, char *out, size_t cap)
{
        size_t n;
        int did;

        if (!at)
                return 0;
        n = render(at->up, out, cap);
        if (n + 1 >= cap)
                return n;
        if (at->key)
                did = snprintf(out + n, cap - n, "%s%.60s", n ? "." : "", at->key);
        else
                did = snprintf(out + n, cap - n, "[%zu]", at->index);
        return did < 0 ? n : n + (size_t)did < cap ? n + (size_t)did : cap - 1;
}

__attribute__((format(printf, 3, 4))) static int fail(struct err *e, const struct at *at, const char *fmt,
                                                      ...)
{
        char path[192] = "", why[320];
        va_list ap;

        if (!e)
                return -E_INVAL;
        render(at, path, sizeof path);
        va_start(ap, fmt);
        vsnprintf(why, sizeof why, fmt, ap);
        va_end(ap);
        return err_set(e, E_INVAL, "%s%s%s", path, path[0] ? ": " : "", why);
}

static const char *kind(const cJSON *v)
{
        if (cJSON_IsObject(v))
                return "an object";
        if (cJSON_IsArray(v))
                return "a list";
        if (cJSON_IsString(v))
                return "a string";
        if (cJSON_IsNumber(v))
                return "a number";
        if (cJSON_IsBool(v))
                return cJSON_IsTrue(v) ? "true" : "false";
        return "null";
}

static const struct {
        const char *name, *words;
} types[] = {
        {"object", "an object"}, {"array", "a list"},           {"string", "a string"},
        {"number", "a number"},  {"integer", "a whole number"}, {"boolean", "true or false"},
        {"null", "null"},
};

static bool is_type(const cJSON *v, const char *name)
{
        switch (name[0]) {
        case 'o':
                return cJSON_IsObject(v);
        case 'a':
                return cJSON_IsArray(v);
        case 's':
                return cJSON_IsString(v);
        case 'b':
                return cJSON_IsBool(v);
        case 'i':
                return cJSON_IsNumber(v) && v->valuedouble == floor(v->valuedouble);
        default:
                return strcmp(name, "null") == 0 ? cJSON_IsNull(v) : cJSON_IsNumber(v);
        }
}

static const char *type_words(const char *name)
{
        for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
                if (strcmp(types[i].name, name) == 0)
                        return types[i].words;
        return NULL;
}

static int bad_schema(const struct at *at, const char *what, struct err *e)
{
        return fail(e, at, "the schema itself is wrong: %s", what);
}

static int check_type(const cJSON *type, const cJSON *v, const struct at *at, struct err *e)
{
        const cJSON *one = cJSON_IsArray(type) ? type->child : type;
        const cJSON *next;
        char want[160] = "";
        size_t n = 0;

        if (!one)
                return bad_schema(at, "\"type\" is empty", e);
        for (; one; one = next) {
                next = cJSON_IsArray(type) ? one->next : NULL;
                if (!cJSON_IsString(one) || !type_words(one->valuestring))
                        return bad_schema(at, "unknown \"type\"", e);
                if (is_type(v, one->valuestring))
                        return 0;
                n += (size_t)snprintf(want + n, sizeof want - n, "%s%s", n ? " or " : "",
                                      type_words(one->valuestring));
                if (n >= sizeof want)
                        n = sizeof want - 1;
        }
        return fail(e, at, "expected %s, got %s", want, kind(v));
}

static int check_enum(const cJSON *list, const cJSON *v, const struct at *at, struct err *e)
{
        char want[200] = "";
        size_t n = 0;

        for (const cJSON *c = list->child; c; c = c->next) {
                if (cJSON_Compare(c, v, true))
                        return 0;
                if (!cJSON_IsString(c) || n >= sizeof want - 64)
                        continue;
                n += (size_t)snprintf(want + n, sizeof want - n, "%s%.40s", n ? ", " : "", c->valuestring);
        }
        if (cJSON_IsString(v))
                return fail(e, at, "\"%.60s\" is not one of: %s", v->valuestring, want);
        return fail(e, at, "not one of the allowed values%s%s", n ? ": " : "", want);
}

/* The bound named `key`, if the schema has it. */
static bool bound(const cJSON *schema, const char *key, double *out)
{
        const cJSON *b = cJSON_GetObjectItemCaseSensitive(schema, key);

        if (!cJSON_IsNumber(b))
                return false;
        *out = b->valuedouble;
        return true;
}

static int check_range(const cJSON *schema, const char *low, const char *high, double n, const char *what,
                       const struct at *at, struct err *e)
{
        double b;

        if (bound(schema, low, &b) && n < b)
                return fail(e, at, "%s%.17g is too small; at least %.17g", what, n, b);
        if (bound(schema, high, &b) && n > b)
                return fail(e, at, "%s%.17g is too large; at most %.17g", what, n, b);
        return 0;
}

static double characters(const char *s)
{
        size_t n = 0;

        for (; *s; s++)
                n += ((unsigned char)*s & 0xc0) != 0x80;
        return (double)n;
}

static int check_length(const cJSON *schema, const cJSON *v, const struct at *at, struct err *e)
{
        if (!cJSON_GetObjectItemCaseSensitive(schema, "minLength") &&
            !cJSON_GetObjectItemCaseSensitive(schema, "maxLength"))
                return 0;
        return check_range(schema, "minLength", "maxLength", characters(v->valuestring), "a length of ", at,
                           e);
}

static int check_list(const cJSON *schema, const cJSON *v, const struct at *at, int depth, struct err *e)
{
        const cJSON *items = cJSON_GetObjectItemCaseSensitive(schema, "items");
        struct at here = {.up = at};
        int rc = check_range(schema, "minItems", "maxItems", cJSON_GetArraySize(v), "a length of ", at, e);

        if (!items)
                return rc;
        for (const cJSON *c = v->child; c && !rc; c = c->next, here.index++)
                rc = check(items, c, &here, depth + 1, e);
        return rc;
}

static int unknown_key(const cJSON *props, const char *key, const struct at *at, struct err *e)
{
        const char *names[NEAR_KEYS], *near;
        size_t n = 0;

        for (const cJSON *p = props ? props->child : NULL; p && n < NEAR_KEYS; p = p->next)
                names[n++] = p->string;
        near = str_nearest(key, names, n);
        if (near)
                return fail(e, at, "unknown key \"%.100s\"; did you mean \"%s\"?", key, near);
        return fail(e, at, "unknown key \"%.100s\"", key);
}

static int check_object(const cJSON *schema, const cJSON *v, const struct at *at, int depth, struct err *e)
{
        const cJSON *props = cJSON_GetObjectItemCaseSensitive(schema, "properties");
        const cJSON *required = cJSON_GetObjectItemCaseSensitive(schema, "required");
        const cJSON *more = cJSON_GetObjectItemCaseSensitive(schema, "additionalProperties");
        struct at here = {.up = at};
        int rc = 0;

        for (const cJSON *r = required ? required->child : NULL; r; r = r->next) {
                if (!cJSON_IsString(r))
                        return bad_schema(at, "\"required\" is not a list of strings", e);
                if (!cJSON_GetObjectItemCaseSensitive(v, r->valuestring))
                        return fail(e, at, "the key \"%s\" is missing", r->valuestring);
        }
        for (const cJSON *m = v->child; m && !rc; m = m->next) {
                const cJSON *p = props ? cJSON_GetObjectItemCaseSensitive(props, m->string) : NULL;

                here.key = m->string;
                if (!p)
                        p = more;
                if (p && p == more && cJSON_IsFalse(more))
                        rc = unknown_key(props, m->string, at, e);
                else if (p)
                        rc = check(p, m, &here, depth + 1, e);
        }
        return rc;
}

static int check_any(const cJSON *any, const cJSON *v, const struct at *at, int depth, struct err *e)
{
        struct err first = {0}, other;

        for (const cJSON *s = any->child; s; s = s->next) {
                if (check(s, v, at, depth + 1, s == any->child ? &first : &other) == 0)
                        return 0;
        }
        return err_set(e, E_INVAL, "fits none of the %d allowed forms; for the first: %s",
                       cJSON_GetArraySize(any), first.msg);
}

static int check(const cJSON *schema, const cJSON *v, const struct at *at, int depth, struct err *e)
{
        const cJSON *s;
        int rc = 0;

        if (depth > 2 * JSON_DEPTH_MAX)
                return bad_schema(at, "nested too deeply", e);
        if (cJSON_IsTrue(schema))
                return 0;
        if (cJSON_IsFalse(schema))
                return fail(e, at, "nothing is allowed here");
        if (!cJSON_IsObject(schema))
                return bad_schema(at, "neither an object nor true or false", e);
        s = cJSON_GetObjectItemCaseSensitive(schema, "type");
        if (s)
                rc = check_type(s, v, at, e);
        s = cJSON_GetObjectItemCaseSensitive(schema, "enum");
        if (s && !rc)
                rc = check_enum(s, v, at, e);
        s = cJSON_GetObjectItemCaseSensitive(schema, "const");
        if (s && !rc && !cJSON_Compare(s, v, true))
                rc = cJSON_IsString(s) ? fail(e, at, "must be \"%.100s\"", s->valuestring)
                                       : fail(e, at, "is not the one allowed value");
        s = cJSON_GetObjectItemCaseSensitive(schema, "anyOf");
        if (s && !rc)
                rc = check_any(s, v, at, depth, e);
        if (rc)
                return rc;
        if (cJSON_IsNumber(v))
                return check_range(schema, "minimum", "maximum", v->valuedouble, "", at, e);
        if (cJSON_IsString(v))
                return check_length(schema, v, at, e);
        if (cJSON_IsArray(v))
                return check_list(schema, v, at, depth, e);
        if (cJSON_IsObject(v))
                return check_object(schema, v, at, depth, e);
        return 0;
}

int json_check(const cJSON *schema, const cJSON *v, struct err *e)
{
        return check(schema, v, NULL, 0, e);
}

/* --- the schema itself ---------------------------------------------------------- */

static int schema_at(const cJSON *schema, const struct at *at, int depth, struct err *e);

/* Each member of the object or list `all` is a schema. */
static int schemas_in(const cJSON *all, const struct at *at, int depth, struct err *e)
{
        struct at here = {.up = at};
        int rc = 0;

        for (const cJSON *s = all->child; s && !rc; s = s->next, here.index++) {
                here.key = cJSON_IsObject(all) ? s->string : NULL;
                rc = schema_at(s, &here, depth + 1, e);
        }
        return rc;
}

static int type_at(const cJSON *type, const struct at *at, struct err *e)
{
        const cJSON *one = cJSON_IsArray(type) ? type->child : type;

        if (!one)
                return fail(e, at, "is empty");
        for (; one; one = cJSON_IsArray(type) ? one->next : NULL)
                if (!cJSON_IsString(one) || !type_words(one->valuestring))
                        return fail(e, at,
                                    "expected object, array, string, number, integer, boolean or null");
        return 0;
}

static int names_at(const cJSON *list, const struct at *at, struct err *e)
{
        const cJSON *one;

        if (!cJSON_IsArray(list))
                return fail(e, at, "expected a list of strings");
        cJSON_ArrayForEach(one, list)
        {
                if (!cJSON_IsString(one))
                        return fail(e, at, "expected a list of strings");
        }
        return 0;
}

static int keyword_at(const cJSON *k, const struct at *at, int depth, struct err *e)
{
        static const char *const numbers[] = {"minimum",   "maximum",  "minLength",
                                              "maxLength", "minItems", "maxItems"};
        const char *name = k->string;

        if (strcmp(name, "type") == 0)
                return type_at(k, at, e);
        if (strcmp(name, "required") == 0)
                return names_at(k, at, e);
        if (strcmp(name, "items") == 0 || strcmp(name, "additionalProperties") == 0)
                return schema_at(k, at, depth + 1, e);
        if (strcmp(name, "properties") == 0)
                return cJSON_IsObject(k) ? schemas_in(k, at, depth, e) : fail(e, at, "expected an object");
        if (strcmp(name, "anyOf") == 0)
                return cJSON_IsArray(k) && k->child ? schemas_in(k, at, depth, e)
                                                    : fail(e, at, "expected a list of schemas");
        if (strcmp(name, "enum") == 0 && (!cJSON_IsArray(k) || !k->child))
                return fail(e, at, "expected a list of values");
        for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
                if (strcmp(name, numbers[i]) == 0 && !cJSON_IsNumber(k))
                        return fail(e, at, "expected a number, got %s", kind(k));
        return 0;
}

static int schema_at(const cJSON *schema, const struct at *at, int depth, struct err *e)
{
        struct at here = {.up = at};
        int rc = 0;

        if (depth > 2 * JSON_DEPTH_MAX)
                return fail(e, at, "nested too deeply");
        if (cJSON_IsBool(schema))
                return 0;
        if (!cJSON_IsObject(schema))
                return fail(e, at, "a schema is an object, true or false; got %s", kind(schema));
        for (const cJSON *k = schema->child; k && !rc; k = k->next) {
                here.key = k->string;
                rc = keyword_at(k, &here, depth, e);
        }
        return rc;
}

int json_check_schema(const cJSON *schema, struct err *e)
{
        return schema_at(schema, NULL, 0, e);
}
