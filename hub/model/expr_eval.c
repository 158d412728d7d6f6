#include "hub/model/expr_internal.h"

#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "common/mem.h"
#include "common/str.h"

#define BYTES_PER_OPERATION    16 /* what text costs: so one evaluation makes at most 16 MiB of it */
#define CHILDREN_PER_OPERATION 16
#define ARGS_MAX               256 /* of one call */

/* Memory of one evaluation; or a JSON tree that it made. */
struct eval_block {
        struct eval_block *next;
        cJSON *json;
};

void eval_init(struct eval *ev, const struct expr_env *env, struct err *e)
{
        *ev = (struct eval){.env = env, .e = e, .work_left = EXPR_WORK_MAX, .output_left = EXPR_OUTPUT_MAX};
        e->code = 0; /* so that the first reason is known to be ours */
}

void eval_fini(struct eval *ev)
{
        while (ev->blocks) {
                struct eval_block *b = ev->blocks;

                ev->blocks = b->next;
                cJSON_Delete(b->json);
                mem_free(b);
        }
}

int eval_charge(struct eval *ev, size_t operations)
{
        if (operations > ev->work_left)
                return err_set(ev->e, E_TOOBIG, "the expression needs more than %u operations",
                               EXPR_WORK_MAX);
        ev->work_left -= (uint32_t)operations;
        return 0;
}

static struct eval_block *block_new(struct eval *ev, size_t size_bytes)
{
        struct eval_block *b = mem_alloc(sizeof *b + size_bytes);

        if (!b) {
                err_set(ev->e, E_NOMEM, "no memory for the value of an expression");
                return NULL;
        }
        b->json = NULL;
        b->next = ev->blocks;
        ev->blocks = b;
        return b;
}

void *eval_alloc(struct eval *ev, size_t size_bytes)
{
        struct eval_block *b;

        if (eval_charge(ev, 1 + size_bytes / BYTES_PER_OPERATION))
                return NULL;
        b = block_new(ev, size_bytes);
        return b ? b + 1 : NULL;
}

int eval_keep_json(struct eval *ev, cJSON *v)
{
        struct eval_block *b = block_new(ev, 0);

        if (!b) {
                cJSON_Delete(v);
                return -E_NOMEM;
        }
        b->json = v;
        return 0;
}

int eval_error(struct eval *ev, const struct node *n, const char *fmt, ...)
{
        va_list ap;

        va_start(ap, fmt);
        err_setv(ev->e, E_INVAL, fmt, ap);
        va_end(ap);
        ev->e->line = 1;
        ev->e->col = (int)n->pos + 1;
        return -E_INVAL;
}

/* ---- property access ---- */

/* Exact first; GitHub's contexts do not mind the case of a name. */
static int object_get(struct eval *ev, const cJSON *object, const char *key, const cJSON **out)
{
        const cJSON *it, *near = NULL;
        size_t seen = 0;
        int rc;

        *out = NULL;
        cJSON_ArrayForEach(it, object)
        {
                if (++seen % CHILDREN_PER_OPERATION == 0) {
                        rc = eval_charge(ev, 1);
                        if (rc)
                                return rc;
                }
                if (!it->string)
                        continue;
                if (strcmp(it->string, key) == 0) {
                        *out = it;
                        return 0;
                }
                if (!near && str_ieq(it->string, key))
                        near = it;
        }
        *out = near;
        return 0;
}

static int list_get(struct eval *ev, const cJSON *list, double index, const cJSON **out)
{
        const cJSON *it = list->child;

        *out = NULL;
        if (isnan(index) || index < 0 || index > INT_MAX)
                return 0;
        for (double i = 0; it && i < floor(index); i++)
                it = it->next;
        *out = it;
        return eval_charge(ev, it ? (size_t)index / CHILDREN_PER_OPERATION : 1);
}

/* base[key] where base is not a filter's result; *found says whether it was there. */
static int access_one(struct eval *ev, const struct node *n, const struct val *base, const struct val *key,
                      struct val *out, bool *found)
{
        const cJSON *j = NULL;
        struct val name;
        int rc = 0;

        if (base->kind == V_OBJECT && key->kind <= V_STRING) {
                rc = val_to_text(ev, n, key, &name);
                if (!rc)
                        rc = object_get(ev, base->json, name.str, &j);
        } else if (base->kind == V_LIST && key->kind <= V_STRING) {
                /* GitHub reads an index from text too, but "" is no index. */
                if (key->kind != V_STRING || key->len)
                        rc = list_get(ev, base->json, val_number(key), &j);
        }
        *found = j != NULL;
        *out = val_from_json(j);
        return rc;
}

/* After a.* every access means: of each item that has it. */
static int access_each(struct eval *ev, const struct node *n, const struct val *base, const struct val *key,
                       struct val *out)
{
        struct val *items = eval_alloc(ev, (base->n_items + 1) * sizeof *items);
        size_t count = 0;

        if (!items)
                return -ev->e->code;
        for (size_t i = 0; i < base->n_items; i++) {
                bool found;
                int rc = eval_charge(ev, 1);

                if (!rc)
                        rc = access_one(ev, n, &base->items[i], key, &items[count], &found);
                if (rc)
                        return rc;
                count += found;
        }
        *out = (struct val){.kind = V_FILTER, .items = items, .n_items = count};
        return 0;
}

static int eval_access(struct eval *ev, const struct node *n, const struct val *base, const struct val *key,
                       struct val *out)
{
        bool found;

        if (base->kind == V_FILTER)
                return access_each(ev, n, base, key, out);
        return access_one(ev, n, base, key, out, &found);
}

static size_t child_count(const struct val *v)
{
        return v->kind == V_LIST || v->kind == V_OBJECT ? (size_t)cJSON_GetArraySize(v->json) : 0;
}

static void append_children(const struct val *v, struct val *items, size_t *count)
{
        const cJSON *it;

        if (v->kind != V_LIST && v->kind != V_OBJECT)
                return;
        cJSON_ArrayForEach(it, v->json) items[(*count)++] = val_from_json(it);
}

/* a.*: the items of a list, the values of an object; of each item where `a` is itself such a result. */
static int eval_filter(struct eval *ev, const struct val *base, struct val *out)
{
        size_t total = child_count(base), count = 0;
        struct val *items;
        int rc;

        for (size_t i = 0; base->kind == V_FILTER && i < base->n_items; i++) {
                rc = eval_charge(ev, 1);
                if (rc)
                        return rc;
                total += child_count(&base->items[i]);
        }
        items = eval_alloc(ev, (total + 1) * sizeof *items);
        if (!items)
                return -ev->e->code;
        append_children(base, items, &count);
        for (size_t i = 0; base->kind == V_FILTER && i < base->n_items; i++)
                append_children(&base->items[i], items, &count);
        *out = (struct val){.kind = V_FILTER, .items = items, .n_items = count};
        return 0;
}

/* ---- the tree ---- */

static int eval_node(struct eval *ev, const struct node *n, struct val *out);

static const struct node *node_at(const struct eval *ev, int32_t i)
{
        return i < 0 ? NULL : &ev->x->nodes[i];
}

static int eval_root(struct eval *ev, const struct node *n, struct val *out)
{
        const char *name = ev->x->pool + n->str;
        const cJSON *j = ev->env->lookup ? ev->env->lookup(ev->env->ctx, name) : NULL;

        if (!j)
                return eval_error(ev, n, "there is no \"%s\" here", name);
        *out = val_from_json(j);
        return 0;
}

static int eval_compare(struct eval *ev, const struct node *n, struct val *out)
{
        const struct node *left = node_at(ev, n->child);
        struct val a, b;
        int rc = eval_node(ev, left, &a), c;

        if (!rc)
                rc = eval_node(ev, node_at(ev, left->next), &b);
        if (!rc && a.kind == V_STRING && b.kind == V_STRING)
                rc = eval_charge(ev, (a.len < b.len ? a.len : b.len) / BYTES_PER_OPERATION);
        if (rc)
                return rc;
        if (n->kind == N_EQ || n->kind == N_NE) {
                *out = val_bool(val_equal(&a, &b) == (n->kind == N_EQ));
                return 0;
        }
        c = val_compare(&a, &b);
        *out = val_bool(c != 2 && ((n->kind == N_LT && c < 0) || (n->kind == N_LE && c <= 0) ||
                                   (n->kind == N_GT && c > 0) || (n->kind == N_GE && c >= 0)));
        return 0;
}

/* The first operand that decides, or the last: not turned into a boolean. */
static int eval_logic(struct eval *ev, const struct node *n, struct val *out)
{
        for (const struct node *it = node_at(ev, n->child); it; it = node_at(ev, it->next)) {
                int rc = eval_node(ev, it, out);

                if (rc)
                        return rc;
                if (val_truthy(out) == (n->kind == N_OR))
                        break;
        }
        return 0;
}

static int eval_call(struct eval *ev, const struct node *n, struct val *out)
{
        struct val few[4], *args = few;
        size_t i = 0;
        int rc = 0;

        if (n->n_children > ARGS_MAX)
                return eval_error(ev, n, "%s takes at most %d arguments", n->fn->name, ARGS_MAX);
        if (n->n_children > sizeof few / sizeof *few) {
                args = eval_alloc(ev, n->n_children * sizeof *args);
                if (!args)
                        return -ev->e->code;
        }
        for (const struct node *it = node_at(ev, n->child); it && !rc; it = node_at(ev, it->next))
                rc = eval_node(ev, it, &args[i++]);
        return rc ? rc : n->fn->call(ev, n, args, i, out);
}

/* Recursion is bounded by EXPR_DEPTH_MAX, which the compiler enforces. */
static int eval_node(struct eval *ev, const struct node *n, struct val *out)
{
        const struct node *child = node_at(ev, n->child);
        struct val base, key;
        int rc = eval_charge(ev, 1);

        if (rc)
                return rc;
        switch ((enum node_kind)n->kind) {
        case N_NULL:
                *out = (struct val){.kind = V_NULL};
                return 0;
        case N_BOOL:
                *out = val_bool(n->num != 0);
                return 0;
        case N_NUMBER:
                *out = (struct val){.kind = V_NUMBER, .num = n->num};
                return 0;
        case N_STRING:
                *out = val_text(ev->x->pool + n->str, strlen(ev->x->pool + n->str));
                return 0;
        case N_ROOT:
                return eval_root(ev, n, out);
        case N_PROP:
        case N_INDEX:
                rc = eval_node(ev, child, &base);
                key = val_text(ev->x->pool + n->str, n->kind == N_PROP ? strlen(ev->x->pool + n->str) : 0);
                if (!rc && n->kind == N_INDEX)
                        rc = eval_node(ev, node_at(ev, child->next), &key);
                return rc ? rc : eval_access(ev, n, &base, &key, out);
        case N_FILTER:
                rc = eval_node(ev, child, &base);
                return rc ? rc : eval_filter(ev, &base, out);
        case N_NOT:
                rc = eval_node(ev, child, &base);
                *out = val_bool(rc == 0 && !val_truthy(&base));
                return rc;
        case N_EQ:
        case N_NE:
        case N_LT:
        case N_LE:
        case N_GT:
        case N_GE:
                return eval_compare(ev, n, out);
        case N_AND:
        case N_OR:
                return eval_logic(ev, n, out);
        case N_CALL:
                return eval_call(ev, n, out);
        }
        return eval_error(ev, n, "unknown node");
}

int eval_run(struct eval *ev, const struct expr *x, struct val *out)
{
        ev->x = x;
        return eval_node(ev, &x->nodes[x->root], out);
}

int expr_eval(const struct expr *x, const struct expr_env *env, cJSON **out, struct err *e)
{
        struct eval ev;
        struct err own;
        struct val v;
        int rc;

        eval_init(&ev, env, e ? e : &own);
        rc = eval_run(&ev, x, &v);
        if (!rc)
                rc = val_to_json(&ev, &v, out);
        eval_fini(&ev);
        return rc;
}
