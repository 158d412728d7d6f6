#include "hub/model/expr_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/str.h"

#define EXACT_INTEGER_MAX 9007199254740992.0 /* 2^53 */
#define NODE_OUTPUT_COST  8                  /* counted against the output limit per value copied */

struct val val_text(const char *s, size_t len)
{
        return (struct val){.kind = V_STRING, .str = s, .len = len};
}

struct val val_bool(bool b)
{
        return (struct val){.kind = V_BOOL, .num = b};
}

struct val val_from_json(const cJSON *j)
{
        if (!j || cJSON_IsNull(j) || cJSON_IsInvalid(j))
                return (struct val){.kind = V_NULL};
        if (cJSON_IsBool(j))
                return val_bool(cJSON_IsTrue(j));
        if (cJSON_IsNumber(j))
                return (struct val){.kind = V_NUMBER, .num = j->valuedouble};
        if (cJSON_IsArray(j))
                return (struct val){.kind = V_LIST, .json = j};
        if (cJSON_IsObject(j))
                return (struct val){.kind = V_OBJECT, .json = j};
        return j->valuestring ? val_text(j->valuestring, strlen(j->valuestring))
                              : (struct val){.kind = V_NULL};
}

const char *val_kind_name(const struct val *v)
{
        static const char *const names[] = {"null",   "a boolean", "a number", "a string",
                                            "a list", "an object", "a list"};

        return names[v->kind];
}

bool val_truthy(const struct val *v)
{
        switch (v->kind) {
        case V_NULL:
                return false;
        case V_BOOL:
        case V_NUMBER:
                return v->num != 0 && !isnan(v->num);
        case V_STRING:
                return v->len > 0;
        default:
                return true;
        }
}

bool expr_truthy(const cJSON *v)
{
        struct val x = val_from_json(v);

        return val_truthy(&x);
}

double val_number(const struct val *v)
{
        switch (v->kind) {
        case V_NULL:
                return 0;
        case V_BOOL:
        case V_NUMBER:
                return v->num;
        case V_STRING:
                return expr_text_number(v->str, v->len);
        default:
                return NAN;
        }
}

static int lower(unsigned char c)
{
        return c >= 'A' && c <= 'Z' ? c + 32 : c;
}

static int text_compare(const struct val *a, const struct val *b)
{
        size_t n = a->len < b->len ? a->len : b->len;

        for (size_t i = 0; i < n; i++) {
                int d = lower((unsigned char)a->str[i]) - lower((unsigned char)b->str[i]);

                if (d)
                        return d < 0 ? -1 : 1;
        }
        return a->len == b->len ? 0 : a->len < b->len ? -1 : 1;
}

static bool is_collection(const struct val *v)
{
        return v->kind == V_LIST || v->kind == V_OBJECT || v->kind == V_FILTER;
}

static bool same_instance(const struct val *a, const struct val *b)
{
        return a->kind == b->kind &&
               (a->kind == V_FILTER ? a->items == b->items && a->n_items == b->n_items : a->json == b->json);
}

bool val_equal(const struct val *a, const struct val *b)
{
        if (is_collection(a) || is_collection(b))
                return same_instance(a, b);
        if (a->kind == V_STRING && b->kind == V_STRING)
                return a->len == b->len && text_compare(a, b) == 0;
        if (a->kind == V_NULL && b->kind == V_NULL)
                return true;
        return val_number(a) == val_number(b);
}

int val_compare(const struct val *a, const struct val *b)
{
        double x, y;

        if (is_collection(a) || is_collection(b))
                return is_collection(a) && is_collection(b) && same_instance(a, b) ? 0 : 2;
        if (a->kind == V_STRING && b->kind == V_STRING)
                return text_compare(a, b);
        x = val_number(a);
        y = val_number(b);
        if (isnan(x) || isnan(y))
                return 2;
        return x < y ? -1 : x > y;
}

size_t number_format(double d, char out[32])
{
        int n;

        if (isnan(d))
                n = snprintf(out, 32, "NaN");
        else if (isinf(d))
                n = snprintf(out, 32, d < 0 ? "-Infinity" : "Infinity");
        else if (d == 0)
                n = snprintf(out, 32, "0"); /* -0 too */
        else if (d == floor(d) && fabs(d) <= EXACT_INTEGER_MAX)
                n = snprintf(out, 32, "%.0f", d);
        else
                n = snprintf(out, 32, "%.15G", d);
        return (size_t)n;
}

int val_to_text(struct eval *ev, const struct node *n, const struct val *v, struct val *out)
{
        char tmp[32];
        size_t len;
        char *s;

        switch (v->kind) {
        case V_NULL:
                *out = val_text("", 0);
                return 0;
        case V_BOOL:
                *out = v->num != 0 ? val_text("true", 4) : val_text("false", 5);
                return 0;
        case V_STRING:
                *out = *v;
                return 0;
        case V_NUMBER:
                len = number_format(v->num, tmp);
                s = eval_alloc(ev, len + 1);
                if (!s)
                        return -ev->e->code;
                memcpy(s, tmp, len + 1);
                *out = val_text(s, len);
                return 0;
        default:
                return eval_error(ev, n, "%s has no text form: use toJSON() or join()", val_kind_name(v));
        }
}

/* ---- to cJSON ---- */

static int out_of_memory(struct eval *ev)
{
        return err_set(ev->e, E_NOMEM, "no memory for the value of an expression");
}

static int charge_output(struct eval *ev, size_t n)
{
        if (n > ev->output_left)
                return err_set(ev->e, E_TOOBIG, "the result of the expression is larger than %u bytes",
                               EXPR_OUTPUT_MAX);
        ev->output_left -= n;
        return eval_charge(ev, 1 + n / 64);
}

/* A copy without children; charged. */
static int copy_flat(struct eval *ev, const struct val *v, cJSON **out)
{
        cJSON *j = NULL;
        int rc = charge_output(ev, NODE_OUTPUT_COST + (v->kind == V_STRING ? v->len : 0));

        if (rc)
                return rc;
        switch (v->kind) {
        case V_NULL:
                j = cJSON_CreateNull();
                break;
        case V_BOOL:
                j = cJSON_CreateBool(v->num != 0);
                break;
        case V_NUMBER:
                j = cJSON_CreateNumber(v->num);
                break;
        case V_STRING:
                j = cJSON_CreateString(v->str);
                break;
        case V_OBJECT:
                j = cJSON_CreateObject();
                break;
        case V_LIST:
        case V_FILTER:
                j = cJSON_CreateArray();
                break;
        }
        if (!j)
                return out_of_memory(ev);
        *out = j;
        return 0;
}

static int add_child(struct eval *ev, cJSON *parent, const char *key, cJSON *child)
{
        int rc = 0;

        if (cJSON_IsObject(parent)) {
                rc = charge_output(ev, strlen(key));
                if (!rc && !cJSON_AddItemToObject(parent, key, child))
                        rc = out_of_memory(ev);
        } else if (!cJSON_AddItemToArray(parent, child)) {
                rc = out_of_memory(ev);
        }
        if (rc)
                cJSON_Delete(child);
        return rc;
}

/* Depth is bounded by JSON_DEPTH_MAX where values enter the hub, and by the few levels the contexts add. */
int val_to_json(struct eval *ev, const struct val *v, cJSON **out)
{
        cJSON *j = NULL, *child;
        const cJSON *it;
        struct val cv;
        int rc = copy_flat(ev, v, &j);

        if (rc)
                return rc;
        if (v->kind == V_LIST || v->kind == V_OBJECT) {
                cJSON_ArrayForEach(it, v->json)
                {
                        cv = val_from_json(it);
                        rc = val_to_json(ev, &cv, &child);
                        if (!rc)
                                rc = add_child(ev, j, it->string, child);
                        if (rc)
                                break;
                }
        }
        for (size_t i = 0; v->kind == V_FILTER && i < v->n_items && !rc; i++) {
                rc = val_to_json(ev, &v->items[i], &child);
                if (!rc)
                        rc = add_child(ev, j, NULL, child);
        }
        if (rc) {
                cJSON_Delete(j);
                return rc;
        }
        *out = j;
        return 0;
}
