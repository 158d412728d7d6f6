#include "hub/model/expr_internal.h"

#include <string.h>

#include "common/err.h"
#include "common/mem.h"

/* One ${{ }} in a text: offsets of the whole and of what stands inside. */
struct span {
        size_t start, end, body, body_len;
};

/* The next ${{ }} at or after `from`. 0: none, 1: found, -E_INVAL: not closed.
 * A "}}" inside of a quoted string does not close. */
static int next_span(const char *text, size_t from, struct span *out, struct err *e)
{
        const char *p = strstr(text + from, "${{");
        bool quoted = false;
        size_t i;

        if (!p)
                return 0;
        out->start = (size_t)(p - text);
        out->body = out->start + 3;
        for (i = out->body; text[i]; i++) {
                if (text[i] == '\'')
                        quoted = !quoted;
                if (quoted || text[i] != '}' || text[i + 1] != '}')
                        continue;
                out->body_len = i - out->body;
                out->end = i + 2;
                return 1;
        }
        return err_at(e, E_INVAL, 1, (int)out->start + 1, "\"${{\" is not closed with \"}}\"%s",
                      quoted ? " (a string inside has no closing quote)" : "");
}

bool tmpl_has_expr(const char *text)
{
        return strstr(text, "${{") != NULL;
}

bool tmpl_is_one_expr(const char *text, size_t *body, size_t *body_len)
{
        struct span sp = {0, 0, 0, 0};

        if (next_span(text, 0, &sp, NULL) != 1 || sp.start != 0 || text[sp.end] != '\0')
                return false;
        *body = sp.body;
        *body_len = sp.body_len;
        return true;
}

/* Lines and columns within the text itself, for those who show them. */
static void to_line_col(const char *text, struct err *e)
{
        size_t offset = e && e->col > 0 ? (size_t)e->col - 1 : 0;
        int line = 1, col = 1;

        if (!e || e->col <= 0)
                return;
        for (size_t i = 0; i < offset && text[i]; i++) {
                col++;
                if (text[i] == '\n') {
                        line++;
                        col = 1;
                }
        }
        e->line = line;
        e->col = col;
}

struct shifted {
        int (*on_ref)(void *ctx, const struct expr_ref *r);
        void *ctx;
        size_t by;
};

static int shift_ref(void *ctx, const struct expr_ref *r)
{
        const struct shifted *s = ctx;
        struct expr_ref moved = *r;

        moved.pos += s->by;
        return s->on_ref(s->ctx, &moved);
}

int tmpl_check_refs(const char *text, int (*on_ref)(void *ctx, const struct expr_ref *r), void *ctx,
                    struct err *e)
{
        struct span sp = {0, 0, 0, 0};
        int rc;

        while ((rc = next_span(text, sp.end, &sp, e)) == 1) {
                struct shifted s = {on_ref, ctx, sp.body};
                struct expr *x;

                rc = expr_compile(text + sp.body, sp.body_len, &x, e);
                if (rc) {
                        if (e && e->col > 0)
                                e->col += (int)sp.body;
                        return rc;
                }
                if (on_ref)
                        rc = expr_each_ref(x, shift_ref, &s);
                expr_free(x);
                if (rc == -E_NOMEM)
                        return err_set(e, E_NOMEM, "no memory for an expression");
                if (rc)
                        return rc;
        }
        return rc;
}

struct plain_ref {
        int (*on_ref)(void *ctx, const char *root, const char *second);
        void *ctx;
};

static int adapt_ref(void *ctx, const struct expr_ref *r)
{
        const struct plain_ref *p = ctx;

        return p->on_ref ? p->on_ref(p->ctx, r->root, r->second) : 0;
}

int tmpl_check(const char *text, int (*on_ref)(void *ctx, const char *root, const char *second), void *ctx,
               struct err *e)
{
        struct plain_ref p = {on_ref, ctx};
        struct err own = {0};
        int rc = tmpl_check_refs(text, adapt_ref, &p, &own);

        if (rc && own.code && e) {
                to_line_col(text, &own);
                *e = own;
        }
        return rc;
}

/* ---- evaluation ---- */

/* A run's error has no file to point into: so it quotes the expression. */
static int explain(struct eval *ev, const char *text, const struct span *sp, int rc)
{
        struct err *e = ev->e;

        if (rc == -E_NOMEM)
                return rc;
        return err_set(e, -rc, "%.380s, in ${{%.*s}}", e->msg, sp->body_len > 80 ? 80 : (int)sp->body_len,
                       text + sp->body);
}

/* The value of one ${{ }}; *x must outlive *v, which may lend its text. */
static int eval_span(struct eval *ev, const char *text, const struct span *sp, struct expr **x, struct val *v)
{
        int rc = expr_compile(text + sp->body, sp->body_len, x, ev->e);

        if (!rc)
                rc = eval_run(ev, *x, v);
        return rc ? explain(ev, text, sp, rc) : 0;
}

static int append_text(struct eval *ev, const char *text, const struct span *sp, struct buf *b)
{
        struct expr *x = NULL;
        struct val v, s;
        int rc = eval_span(ev, text, sp, &x, &v);

        if (!rc) {
                rc = val_to_text(ev, &x->nodes[x->root], &v, &s);
                if (rc)
                        rc = explain(ev, text, sp, rc);
        }
        if (!rc && s.len > ev->output_left)
                rc = -E_TOOBIG;
        if (!rc) {
                ev->output_left -= s.len;
                rc = buf_put(b, s.str, s.len);
        }
        if (rc == -E_TOOBIG && ev->e->code != E_TOOBIG)
                err_set(ev->e, E_TOOBIG, "the text with its expressions put in is larger than %u bytes",
                        EXPR_OUTPUT_MAX);
        expr_free(x);
        return rc;
}

/* The literal parts count towards the buffer's limit, what expressions gave
 * also towards the output of the whole evaluation. */
static int eval_text(struct eval *ev, const char *text, struct buf *b)
{
        struct span sp = {0, 0, 0, 0};
        size_t from = 0;
        int rc;

        while ((rc = next_span(text, from, &sp, ev->e)) == 1) {
                rc = buf_put(b, text + from, sp.start - from);
                if (!rc)
                        rc = append_text(ev, text, &sp, b);
                if (rc)
                        return rc;
                from = sp.end;
        }
        return rc ? rc : buf_puts(b, text + from);
}

static int text_error(struct eval *ev, int rc)
{
        if (rc == -E_NOMEM)
                return err_set(ev->e, E_NOMEM, "no memory for a text");
        if (rc == -E_TOOBIG && ev->e->code != E_TOOBIG)
                return err_set(ev->e, E_TOOBIG, "the text with its expressions put in is too large");
        return rc;
}

/* Literal text may be as long as a workflow may be; the limit is on what is put in. */
static size_t text_limit(const char *text)
{
        return strlen(text) + EXPR_OUTPUT_MAX;
}

static int eval_value(struct eval *ev, const char *text, cJSON **out)
{
        struct span sp = {0, 0, 0, 0};
        struct expr *x = NULL;
        struct buf b;
        struct val v;
        char *s;
        int rc = next_span(text, 0, &sp, ev->e);

        if (rc < 0)
                return rc;
        if (rc == 1 && sp.start == 0 && text[sp.end] == '\0') {
                rc = eval_span(ev, text, &sp, &x, &v);
                if (!rc)
                        rc = val_to_json(ev, &v, out);
                expr_free(x);
                return rc;
        }
        if (rc == 0) {
                *out = cJSON_CreateString(text);
                return *out ? 0 : text_error(ev, -E_NOMEM);
        }
        buf_init(&b, text_limit(text));
        rc = eval_text(ev, text, &b);
        if (!rc) {
                s = buf_steal_str(&b);
                *out = s ? cJSON_CreateString(s) : NULL;
                mem_free(s);
                rc = *out ? 0 : -E_NOMEM;
        }
        buf_fini(&b);
        return rc ? text_error(ev, rc) : 0;
}

int tmpl_eval(const char *text, const struct expr_env *env, cJSON **out, struct err *e)
{
        struct err own;
        struct eval ev;
        cJSON *v = NULL;
        int rc;

        eval_init(&ev, env, e ? e : &own);
        rc = eval_value(&ev, text, &v);
        eval_fini(&ev);
        if (!rc)
                *out = v;
        return rc;
}

/* As text, whatever the value's own type. *out: mem_free. */
static int eval_string(struct eval *ev, const char *text, char **out)
{
        struct buf b;
        char *s;
        int rc;

        buf_init(&b, text_limit(text));
        rc = eval_text(ev, text, &b);
        if (!rc) {
                s = buf_steal_str(&b);
                if (s)
                        *out = s;
                else
                        rc = -E_NOMEM;
        }
        buf_fini(&b);
        return rc ? text_error(ev, rc) : 0;
}

int tmpl_eval_str(const char *text, const struct expr_env *env, char **out, struct err *e)
{
        struct err own;
        struct eval ev;
        int rc;

        eval_init(&ev, env, e ? e : &own);
        rc = eval_string(&ev, text, out);
        eval_fini(&ev);
        return rc;
}

int tmpl_eval_texts(const cJSON *object, const struct expr_env *env, cJSON **out, struct err *e)
{
        struct err own;
        struct eval ev;
        cJSON *o = cJSON_CreateObject();
        const cJSON *it;
        int rc = 0;

        eval_init(&ev, env, e ? e : &own);
        if (!o)
                rc = text_error(&ev, -E_NOMEM);
        for (it = object ? object->child : NULL; it && !rc; it = it->next) {
                char *s = NULL;

                rc = eval_string(&ev, it->valuestring ? it->valuestring : "", &s);
                if (!rc && !cJSON_AddStringToObject(o, it->string, s))
                        rc = text_error(&ev, -E_NOMEM);
                mem_free(s);
        }
        eval_fini(&ev);
        if (rc) {
                cJSON_Delete(o);
                return rc;
        }
        *out = o;
        return 0;
}

static int eval_json(struct eval *ev, const cJSON *v, cJSON **out)
{
        cJSON *copy, *child;
        const cJSON *it;
        int rc;

        if (cJSON_IsString(v) && v->valuestring)
                return eval_value(ev, v->valuestring, out);
        copy = cJSON_Duplicate(v, 0);
        if (!copy)
                return text_error(ev, -E_NOMEM);
        cJSON_ArrayForEach(it, v)
        {
                rc = eval_json(ev, it, &child);
                if (rc)
                        goto fail;
                if (!(cJSON_IsObject(v) ? cJSON_AddItemToObject(copy, it->string, child)
                                        : cJSON_AddItemToArray(copy, child))) {
                        cJSON_Delete(child);
                        rc = text_error(ev, -E_NOMEM);
                        goto fail;
                }
        }
        *out = copy;
        return 0;
fail:
        cJSON_Delete(copy);
        return rc;
}

int tmpl_eval_json(const cJSON *v, const struct expr_env *env, cJSON **out, struct err *e)
{
        struct err own;
        struct eval ev;
        cJSON *result = NULL;
        int rc;

        eval_init(&ev, env, e ? e : &own);
        rc = eval_json(&ev, v, &result);
        eval_fini(&ev);
        if (!rc)
                *out = result;
        return rc;
}
