#include "hub/model/expr_internal.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/err.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"

/* Text made by one call, on its way into the evaluation's memory. */
static int finish_text(struct eval *ev, const struct node *n, struct buf *b, int rc, struct val *out)
{
        char *s;

        if (rc == -E_TOOBIG && ev->e->code != E_TOOBIG)
                err_set(ev->e, E_TOOBIG, "%s makes more than %u bytes", n->fn->name, EXPR_OUTPUT_MAX);
        if (rc == -E_NOMEM)
                err_set(ev->e, E_NOMEM, "no memory for the value of an expression");
        if (rc)
                goto done;
        s = eval_alloc(ev, b->len + 1);
        if (!s) {
                rc = -ev->e->code;
                goto done;
        }
        if (b->len)
                memcpy(s, b->data, b->len);
        s[b->len] = '\0';
        *out = val_text(s, b->len);
done:
        buf_fini(b);
        return rc;
}

/* A lower-case copy, so that searching is memmem's and linear. */
static int lower_copy(struct eval *ev, const struct val *v, struct val *out)
{
        char *s = eval_alloc(ev, v->len + 1);

        if (!s)
                return -ev->e->code;
        for (size_t i = 0; i < v->len; i++)
                s[i] = v->str[i] >= 'A' && v->str[i] <= 'Z' ? (char)(v->str[i] + 32) : v->str[i];
        s[v->len] = '\0';
        *out = val_text(s, v->len);
        return 0;
}

static bool primitive(const struct val *v)
{
        return v->kind <= V_STRING;
}

/* Both as lower-case text; both must be primitive. */
static int two_texts(struct eval *ev, const struct node *n, struct val *args)
{
        int rc = 0;

        for (int i = 0; i < 2 && !rc; i++) {
                rc = val_to_text(ev, n, &args[i], &args[i]);
                if (!rc)
                        rc = lower_copy(ev, &args[i], &args[i]);
        }
        return rc;
}

static int contains_item(struct eval *ev, const struct val *list, const struct val *wanted, struct val *out)
{
        const cJSON *it = list->kind == V_LIST ? list->json->child : NULL;
        size_t i = 0;

        *out = val_bool(false);
        for (;;) {
                struct val item;
                int rc;

                if (list->kind == V_LIST ? !it : i >= list->n_items)
                        return 0;
                item = list->kind == V_LIST ? val_from_json(it) : list->items[i];
                rc = eval_charge(ev, 1 + (item.kind == V_STRING ? item.len / 64 : 0));
                if (rc)
                        return rc;
                if (val_equal(&item, wanted)) {
                        *out = val_bool(true);
                        return 0;
                }
                it = it ? it->next : NULL;
                i++;
        }
}

static int fn_contains(struct eval *ev, const struct node *n, struct val *args, size_t n_args,
                       struct val *out)
{
        int rc;

        (void)n_args;
        if (args[0].kind == V_LIST || args[0].kind == V_FILTER)
                return contains_item(ev, &args[0], &args[1], out);
        *out = val_bool(false);
        if (!primitive(&args[0]) || !primitive(&args[1]))
                return 0;
        rc = two_texts(ev, n, args);
        if (!rc)
                *out = val_bool(args[1].len == 0 ||
                                memmem(args[0].str, args[0].len, args[1].str, args[1].len) != NULL);
        return rc;
}

static int starts_or_ends(struct eval *ev, const struct node *n, struct val *args, bool at_end,
                          struct val *out)
{
        int rc;

        *out = val_bool(false);
        if (!primitive(&args[0]) || !primitive(&args[1]))
                return 0;
        rc = two_texts(ev, n, args);
        if (!rc && args[1].len <= args[0].len)
                *out = val_bool(memcmp(args[0].str + (at_end ? args[0].len - args[1].len : 0), args[1].str,
                                       args[1].len) == 0);
        return rc;
}

static int fn_starts_with(struct eval *ev, const struct node *n, struct val *args, size_t n_args,
                          struct val *out)
{
        (void)n_args;
        return starts_or_ends(ev, n, args, false, out);
}

static int fn_ends_with(struct eval *ev, const struct node *n, struct val *args, size_t n_args,
                        struct val *out)
{
        (void)n_args;
        return starts_or_ends(ev, n, args, true, out);
}

/* "{3}" at s: its number and length, or -1. */
static long format_index(const char *s, size_t len, size_t *used)
{
        size_t i = 1;
        long v = 0;

        for (; i < len && isdigit((unsigned char)s[i]) && v < 100000; i++)
                v = v * 10 + (s[i] - '0');
        if (i == 1 || i >= len || s[i] != '}')
                return -1;
        *used = i + 1;
        return v;
}

static int format_into(struct eval *ev, const struct node *n, const struct val *f, const struct val *args,
                       size_t n_args, struct buf *b)
{
        size_t i = 0;
        int rc = 0;

        while (i < f->len && !rc) {
                char c = f->str[i];
                size_t used = 1;
                struct val text;
                long index;

                if (c != '{' && c != '}') {
                        rc = buf_putc(b, c);
                } else if (i + 1 < f->len && f->str[i + 1] == c) {
                        rc = buf_putc(b, c);
                        used = 2;
                } else {
                        index = c == '{' ? format_index(f->str + i, f->len - i, &used) : -1;
                        if (index < 0)
                                return eval_error(ev, n,
                                                  "format: a lone \"%c\"; write {0} for an argument, {{ or "
                                                  "}} for a brace",
                                                  c);
                        if ((size_t)index >= n_args)
                                return eval_error(ev, n, "format: {%ld} has no argument: there %s %zu", index,
                                                  n_args == 1 ? "is" : "are", n_args);
                        rc = eval_charge(ev, 1);
                        if (!rc)
                                rc = val_to_text(ev, n, &args[index], &text);
                        if (!rc)
                                rc = buf_put(b, text.str, text.len);
                }
                i += used;
        }
        return rc;
}

static int fn_format(struct eval *ev, const struct node *n, struct val *args, size_t n_args, struct val *out)
{
        struct val f;
        struct buf b;
        int rc = val_to_text(ev, n, &args[0], &f);

        if (rc)
                return rc;
        buf_init(&b, EXPR_OUTPUT_MAX);
        rc = eval_charge(ev, f.len / 16);
        if (!rc)
                rc = format_into(ev, n, &f, args + 1, n_args - 1, &b);
        return finish_text(ev, n, &b, rc, out);
}

static int join_into(struct eval *ev, const struct node *n, const struct val *list, const struct val *sep,
                     struct buf *b)
{
        const cJSON *it = list->kind == V_LIST ? list->json->child : NULL;
        int rc = 0;

        for (size_t i = 0; !rc; i++) {
                struct val item, text;

                if (list->kind == V_LIST ? !it : i >= list->n_items)
                        return 0;
                item = list->kind == V_LIST ? val_from_json(it) : list->items[i];
                rc = eval_charge(ev, 1);
                if (!rc)
                        rc = val_to_text(ev, n, &item, &text);
                if (!rc && i)
                        rc = buf_put(b, sep->str, sep->len);
                if (!rc)
                        rc = buf_put(b, text.str, text.len);
                it = it ? it->next : NULL;
        }
        return rc;
}

static int fn_join(struct eval *ev, const struct node *n, struct val *args, size_t n_args, struct val *out)
{
        struct val sep = val_text(",", 1);
        struct buf b;
        int rc;

        if (args[0].kind != V_LIST && args[0].kind != V_FILTER)
                return val_to_text(ev, n, &args[0], out);
        if (n_args > 1) {
                rc = val_to_text(ev, n, &args[1], &sep);
                if (rc)
                        return rc;
        }
        buf_init(&b, EXPR_OUTPUT_MAX);
        rc = join_into(ev, n, &args[0], &sep, &b);
        return finish_text(ev, n, &b, rc, out);
}

/* ---- toJSON: two spaces a level, as GitHub prints it ---- */

static int newline(struct buf *b, int depth)
{
        int rc = buf_putc(b, '\n');

        for (int i = 0; i < depth && !rc; i++)
                rc = buf_puts(b, "  ");
        return rc;
}

static int print_number(struct buf *b, double d)
{
        char tmp[40];

        if (isnan(d) || isinf(d))
                return buf_puts(b, "null");
        if (d == floor(d) && fabs(d) <= 9007199254740992.0) {
                number_format(d, tmp);
        } else {
                snprintf(tmp, sizeof tmp, "%.15g", d);
                if (strtod(tmp, NULL) != d)
                        snprintf(tmp, sizeof tmp, "%.17g", d);
        }
        return buf_puts(b, tmp);
}

static int print_value(struct eval *ev, struct buf *b, const struct val *v, int depth);

static int print_member(struct eval *ev, struct buf *b, const char *key, const struct val *v, size_t index,
                        int depth)
{
        int rc = index ? buf_putc(b, ',') : 0;

        if (!rc)
                rc = newline(b, depth + 1);
        if (!rc && key)
                rc = json_append_str(b, key, strlen(key));
        if (!rc && key)
                rc = buf_puts(b, ": ");
        return rc ? rc : print_value(ev, b, v, depth + 1);
}

static int print_collection(struct eval *ev, struct buf *b, const struct val *v, int depth)
{
        bool object = v->kind == V_OBJECT;
        const cJSON *it;
        size_t count = 0;
        int rc = buf_putc(b, object ? '{' : '[');

        if (v->kind == V_FILTER) {
                for (; count < v->n_items && !rc; count++)
                        rc = print_member(ev, b, NULL, &v->items[count], count, depth);
        } else {
                for (it = v->json->child; it && !rc; it = it->next) {
                        struct val item = val_from_json(it);

                        rc = print_member(ev, b, object ? it->string : NULL, &item, count++, depth);
                }
        }
        if (!rc && count)
                rc = newline(b, depth);
        return rc ? rc : buf_putc(b, object ? '}' : ']');
}

static int print_value(struct eval *ev, struct buf *b, const struct val *v, int depth)
{
        int rc = eval_charge(ev, 1);

        if (rc)
                return rc;
        switch (v->kind) {
        case V_NULL:
                return buf_puts(b, "null");
        case V_BOOL:
                return buf_puts(b, v->num != 0 ? "true" : "false");
        case V_NUMBER:
                return print_number(b, v->num);
        case V_STRING:
                return json_append_str(b, v->str, v->len);
        default:
                return print_collection(ev, b, v, depth);
        }
}

static int fn_to_json(struct eval *ev, const struct node *n, struct val *args, size_t n_args, struct val *out)
{
        struct buf b;

        (void)n_args;
        buf_init(&b, EXPR_OUTPUT_MAX);
        return finish_text(ev, n, &b, print_value(ev, &b, &args[0], 0), out);
}

static int fn_from_json(struct eval *ev, const struct node *n, struct val *args, size_t n_args,
                        struct val *out)
{
        struct val text;
        struct err why;
        cJSON *j = NULL;
        int rc = val_to_text(ev, n, &args[0], &text);

        (void)n_args;
        /* A tree takes many times the memory of its text: charged as such. */
        if (!rc)
                rc = eval_charge(ev, 1 + text.len / 4);
        if (rc)
                return rc;
        why.msg[0] = '\0';
        rc = json_parse(text.str, text.len, &j, &why);
        if (rc == -E_NOMEM)
                return err_set(ev->e, E_NOMEM, "no memory for the value of an expression");
        if (rc)
                return eval_error(ev, n, "fromJSON: the text is not JSON: %s", why.msg);
        *out = val_from_json(j);
        return eval_keep_json(ev, j);
}

/* ---- status ---- */

static int fn_success(struct eval *ev, const struct node *n, struct val *args, size_t n_args, struct val *out)
{
        (void)n, (void)args, (void)n_args;
        *out = val_bool(ev->env->success);
        return 0;
}

static int fn_failure(struct eval *ev, const struct node *n, struct val *args, size_t n_args, struct val *out)
{
        (void)n, (void)args, (void)n_args;
        *out = val_bool(ev->env->failure);
        return 0;
}

static int fn_cancelled(struct eval *ev, const struct node *n, struct val *args, size_t n_args,
                        struct val *out)
{
        (void)n, (void)args, (void)n_args;
        *out = val_bool(ev->env->cancelled);
        return 0;
}

static int fn_always(struct eval *ev, const struct node *n, struct val *args, size_t n_args, struct val *out)
{
        (void)ev, (void)n, (void)args, (void)n_args;
        *out = val_bool(true);
        return 0;
}

static const struct func funcs[] = {
        {"contains", 2, 2, false, fn_contains},  {"startsWith", 2, 2, false, fn_starts_with},
        {"endsWith", 2, 2, false, fn_ends_with}, {"format", 1, -1, false, fn_format},
        {"join", 1, 2, false, fn_join},          {"toJSON", 1, 1, false, fn_to_json},
        {"fromJSON", 1, 1, false, fn_from_json}, {"success", 0, 0, true, fn_success},
        {"failure", 0, 0, true, fn_failure},     {"cancelled", 0, 0, true, fn_cancelled},
        {"always", 0, 0, true, fn_always},
};

#define N_FUNCS (sizeof funcs / sizeof *funcs)

const struct func *func_find(const char *name, size_t len)
{
        for (size_t i = 0; i < N_FUNCS; i++)
                if (strlen(funcs[i].name) == len && strncasecmp(funcs[i].name, name, len) == 0)
                        return &funcs[i];
        return NULL;
}

const char *func_nearest(const char *name)
{
        const char *names[N_FUNCS];

        for (size_t i = 0; i < N_FUNCS; i++)
                names[i] = funcs[i].name;
        return str_nearest(name, names, N_FUNCS);
}
