#include "common/json.h"

#include "common/buf.h"
#include "common/err.h"
#include "common/json_scan.h"
#include "common/map.h"
#include "common/mem.h"
#include "common/str.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXACT_MAX   9007199254740992.0 /* 2^53: every integer up to here is exact in a double */
#define SMALL_OBJ   8                  /* members compared pairwise; more go through a map */
#define PRINT_DEPTH 512

static int scan_utf8(const char *text, size_t len, struct err *e)
{
        int line = 1, col = 1;

        if (str_is_utf8(text, len))
                return 0;
        for (size_t i = 0, span; i < len; i += span) {
                span = str_utf8_len(text + i, len - i);
                if (!span)
                        break;
                col++;
                if (text[i] == '\n') {
                        line++;
                        col = 1;
                }
        }
        return err_at(e, E_INVAL, line, col, "not valid UTF-8 at line %d, column %d", line, col);
}

static int dup_in_object(const cJSON *o, const cJSON **out_dup)
{
        const cJSON *m, *other;
        struct map *seen = NULL;
        size_t n = 0;
        void *old;
        int rc = 0;

        for (m = o->child; m; m = m->next)
                n++;
        if (n > SMALL_OBJ) {
                seen = map_create();
                if (!seen)
                        return -E_NOMEM;
        }
        for (m = o->child; m && !*out_dup && !rc; m = m->next) {
                if (seen) {
                        rc = map_put(seen, m->string, (void *)m, &old);
                        if (!rc && old)
                                *out_dup = m;
                        continue;
                }
                for (other = o->child; other != m && !*out_dup; other = other->next)
                        if (strcmp(other->string, m->string) == 0)
                                *out_dup = m;
        }
        map_free(seen);
        return rc;
}

/* Finds an object member whose key came before in the same object. Depth is
 * bounded by the scan. */
static int find_dup(const cJSON *v, const cJSON **out_dup)
{
        int rc = cJSON_IsObject(v) ? dup_in_object(v, out_dup) : 0;

        for (const cJSON *c = v->child; c && !rc && !*out_dup; c = c->next)
                if (c->child)
                        rc = find_dup(c, out_dup);
        return rc;
}

/* How many keys come before `dup` in the text's order. */
static bool count_keys(const cJSON *v, const cJSON *dup, size_t *n)
{
        for (const cJSON *c = v->child; c; c = c->next) {
                if (c == dup)
                        return true;
                if (c->string)
                        ++*n;
                if (c->child && count_keys(c, dup, n))
                        return true;
        }
        return false;
}

struct key_search {
        size_t left;
        int line, col;
};

static int on_key(void *ctx, const struct json_token *t)
{
        struct key_search *k = ctx;

        if (t->kind != JSON_TOK_KEY || k->left-- > 0)
                return 0;
        k->line = t->line;
        k->col = t->col;
        return -E_CANCELLED;
}

int json_parse(const char *text, size_t len, cJSON **out, struct err *e)
{
        struct key_search where = {0};
        const cJSON *dup = NULL;
        cJSON *v = NULL;
        int rc;

        /* The scan settles every question of validity; cJSON alone would take
         * bad UTF-8 and control characters, and cut strings at \u0000. */
        rc = scan_utf8(text, len, e);
        if (!rc)
                rc = json_scan(text, len, NULL, NULL, e);
        if (rc)
                return rc;
        v = cJSON_ParseWithLength(text, len);
        if (!v)
                return err_set(e, E_NOMEM, "no memory to parse %zu bytes of JSON", len);
        rc = find_dup(v, &dup);
        if (rc) {
                err_set(e, -rc, "no memory to parse %zu bytes of JSON", len);
        } else if (dup) {
                count_keys(v, dup, &where.left);
                json_scan(text, len, on_key, &where, NULL);
                rc = err_at(
                        e, E_INVAL, where.line, where.col,
                        "line %d, column %d: not valid JSON: the key \"%.100s\" stands twice in one object",
                        where.line, where.col, dup->string);
        }
        if (rc)
                cJSON_Delete(v);
        else
                *out = v;
        return rc;
}

static int append_escape(struct buf *b, unsigned char c)
{
        static const char plain[] = "\b\f\n\r\t\"\\", named[] = "bfnrt\"\\";
        const char *at = c ? strchr(plain, c) : NULL;

        if (at)
                return buf_printf(b, "\\%c", named[at - plain]);
        return buf_printf(b, "\\u%04x", c);
}

int json_append_str(struct buf *b, const char *s, size_t n)
{
        size_t start = b->len, run = 0, span;
        int rc = buf_reserve(b, n > SIZE_MAX - 2 ? n : n + 2);

        if (!rc)
                rc = buf_putc(b, '"');
        for (size_t i = 0; i < n && !rc; i += span) {
                unsigned char c;
                bool escape;

                i += json_plain_len(s + i, n - i);
                if (i == n)
                        break;
                c = (unsigned char)s[i];
                escape = c < 0x20 || c == '"' || c == '\\';
                span = c < 0x80 ? 1 : str_utf8_len(s + i, n - i);
                if (span && !escape)
                        continue;
                rc = buf_put(b, s + run, i - run);
                if (!rc)
                        rc = escape ? append_escape(b, c) : buf_puts(b, "\xef\xbf\xbd"); /* U+FFFD */
                if (!span)
                        span = 1;
                run = i + span;
        }
        if (!rc)
                rc = buf_put(b, s + run, n - run);
        if (!rc)
                rc = buf_putc(b, '"');
        if (rc)
                b->len = start;
        return rc;
}

/* cJSON prints with 15 digits what is equal within an epsilon, which loses
 * the last digit of integers near 2^53; hence our own. */
static int append_number(struct buf *b, double d)
{
        char text[40];

        if (!isfinite(d))
                return buf_puts(b, "null");
        if (d == floor(d) && fabs(d) <= EXACT_MAX)
                return buf_printf(b, "%lld", (long long)d);
        for (int precision = 15; precision <= 17; precision++) {
                snprintf(text, sizeof text, "%.*g", precision, d);
                if (strtod(text, NULL) == d)
                        break;
        }
        return buf_puts(b, text);
}

static int append_value(struct buf *b, const cJSON *v, int depth)
{
        bool obj = cJSON_IsObject(v);
        int rc;

        if (depth > PRINT_DEPTH)
                return -E_TOOBIG;
        if (cJSON_IsTrue(v))
                return buf_puts(b, "true");
        if (cJSON_IsFalse(v))
                return buf_puts(b, "false");
        if (cJSON_IsNull(v))
                return buf_puts(b, "null");
        if (cJSON_IsNumber(v))
                return append_number(b, v->valuedouble);
        if (cJSON_IsString(v))
                return json_append_str(b, v->valuestring, strlen(v->valuestring));
        if (cJSON_IsRaw(v))
                return buf_puts(b, v->valuestring);
        if (!obj && !cJSON_IsArray(v))
                return -E_INVAL;
        rc = buf_putc(b, obj ? '{' : '[');
        for (const cJSON *c = v->child; c && !rc; c = c->next) {
                if (obj)
                        rc = json_append_str(b, c->string, strlen(c->string));
                if (obj && !rc)
                        rc = buf_putc(b, ':');
                if (!rc)
                        rc = append_value(b, c, depth + 1);
                if (!rc && c->next)
                        rc = buf_putc(b, ',');
        }
        return rc ? rc : buf_putc(b, obj ? '}' : ']');
}

int json_append(struct buf *b, const cJSON *v)
{
        size_t start = b->len;
        int rc = append_value(b, v, 0);

        if (rc)
                b->len = start;
        return rc;
}

char *json_text(const cJSON *v)
{
        struct buf b;
        char *s = NULL;

        buf_init(&b, 0);
        if (json_append(&b, v) == 0)
                s = buf_steal_str(&b);
        buf_fini(&b);
        return s;
}

static const char *kind_of(const cJSON *v)
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
        return cJSON_IsNull(v) ? "null" : "nothing";
}

/* The member, or NULL if absent or null. */
static const cJSON *member(const cJSON *o, const char *key)
{
        const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);

        return v && !cJSON_IsNull(v) ? v : NULL;
}

static int wrong_type(const char *key, const char *want, const cJSON *got, struct err *e)
{
        return err_set(e, E_INVAL, "%s: expected %s, got %s", key, want, kind_of(got));
}

static int missing(const cJSON *o, const char *key, struct err *e)
{
        const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);

        if (!cJSON_IsObject(o))
                return err_set(e, E_INVAL, "expected an object with %s, got %s", key, kind_of(o));
        return err_set(e, E_INVAL, "%s: %s", key, v ? "must not be null" : "is missing");
}

int json_str_opt(const cJSON *o, const char *key, const char **out, struct err *e)
{
        const cJSON *v = member(o, key);

        if (!v)
                return 0;
        if (!cJSON_IsString(v))
                return wrong_type(key, "a string", v, e);
        *out = v->valuestring;
        return 0;
}

int json_str(const cJSON *o, const char *key, const char **out, struct err *e)
{
        return member(o, key) ? json_str_opt(o, key, out, e) : missing(o, key, e);
}

int json_i64_opt(const cJSON *o, const char *key, int64_t min, int64_t max, int64_t *out, struct err *e)
{
        const cJSON *v = member(o, key);
        double d;

        if (!v)
                return 0;
        if (!cJSON_IsNumber(v))
                return wrong_type(key, "a whole number", v, e);
        d = v->valuedouble;
        if (!(fabs(d) <= EXACT_MAX) || d != floor(d))
                return err_set(e, E_INVAL, "%s: expected a whole number, got %.17g", key, d);
        if ((int64_t)d < min || (int64_t)d > max)
                return err_set(e, E_INVAL, "%s: %lld is not between %lld and %lld", key, (long long)d,
                               (long long)min, (long long)max);
        *out = (int64_t)d;
        return 0;
}

int json_i64(const cJSON *o, const char *key, int64_t min, int64_t max, int64_t *out, struct err *e)
{
        return member(o, key) ? json_i64_opt(o, key, min, max, out, e) : missing(o, key, e);
}

int json_bool_opt(const cJSON *o, const char *key, bool *out, struct err *e)
{
        const cJSON *v = member(o, key);

        if (!v)
                return 0;
        if (!cJSON_IsBool(v))
                return wrong_type(key, "true or false", v, e);
        *out = cJSON_IsTrue(v);
        return 0;
}

int json_obj_opt(const cJSON *o, const char *key, const cJSON **out, struct err *e)
{
        const cJSON *v = member(o, key);

        if (!v)
                return 0;
        if (!cJSON_IsObject(v))
                return wrong_type(key, "an object", v, e);
        *out = v;
        return 0;
}

int json_arr_opt(const cJSON *o, const char *key, const cJSON **out, struct err *e)
{
        const cJSON *v = member(o, key);

        if (!v)
                return 0;
        if (!cJSON_IsArray(v))
                return wrong_type(key, "a list", v, e);
        *out = v;
        return 0;
}

int json_only(const cJSON *o, const char *const *keys, struct err *e)
{
        size_t n = 0, i;

        while (keys[n])
                n++;
        for (const cJSON *m = o->child; m; m = m->next) {
                const char *near;

                if (!m->string)
                        return err_set(e, E_INVAL, "expected an object, got %s", kind_of(o));
                for (i = 0; i < n && strcmp(m->string, keys[i]) != 0; i++)
                        ;
                if (i < n)
                        continue;
                near = str_nearest(m->string, keys, n);
                if (near)
                        return err_set(e, E_INVAL, "unknown key \"%.100s\"; did you mean \"%s\"?", m->string,
                                       near);
                return err_set(e, E_INVAL, "unknown key \"%.100s\"", m->string);
        }
        return 0;
}
