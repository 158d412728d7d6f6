#include "hub/model/expr_internal.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "common/mem.h"

/* Recursive descent, loosest operator first:
 *
 *   or      = and { "||" and }
 *   and     = equal { "&&" equal }
 *   equal   = order { ("==" | "!=") order }
 *   order   = unary { ("<" | "<=" | ">" | ">=") unary }
 *   unary   = { "!" } postfix
 *   postfix = primary { "." name | "." "*" | "[" or "]" | "[" "*" "]" }
 *   primary = literal | name | name "(" [ or { "," or } ] ")" | "(" or ")"
 */
struct parser {
        struct lexer lx;
        struct expr *x;
        struct err *e;
        int depth;    /* of the parser's own recursion */
        bool started; /* there is a token at all */
};

static int parse_or(struct parser *p, int32_t *out);

static int fail_at(struct parser *p, size_t pos, const char *what)
{
        return err_at(p->e, E_INVAL, 1, (int)pos + 1, "%s", what);
}

static int too_deep(struct parser *p, size_t pos)
{
        return err_at(p->e, E_INVAL, 1, (int)pos + 1, "the expression is nested deeper than %d levels",
                      EXPR_DEPTH_MAX);
}

static int node_new(struct parser *p, enum node_kind kind, size_t pos, int32_t *out)
{
        struct expr *x = p->x;

        if (x->n == x->cap) {
                size_t cap = x->cap ? x->cap * 2 : 8;
                struct node *grown = mem_realloc(x->nodes, cap * sizeof *grown);

                if (!grown)
                        return err_set(p->e, E_NOMEM, "no memory for an expression");
                x->nodes = grown;
                x->cap = cap;
        }
        x->nodes[x->n] = (struct node){
                .kind = (uint8_t)kind, .depth = 1, .pos = (uint32_t)pos, .child = -1, .next = -1};
        *out = (int32_t)x->n++;
        return 0;
}

/* Appends `child` (after `last`, -1: it is the first) to `parent`. */
static int node_adopt(struct parser *p, int32_t parent, int32_t last, int32_t child)
{
        struct node *up = &p->x->nodes[parent], *kid = &p->x->nodes[child];

        if (last < 0)
                up->child = child;
        else
                p->x->nodes[last].next = child;
        up->n_children++;
        if (kid->depth >= up->depth)
                up->depth = (uint16_t)(kid->depth + 1);
        return up->depth > EXPR_DEPTH_MAX ? too_deep(p, up->pos) : 0;
}

/* The pool holds the whole source and so never grows: each name or string is
 * followed by at least one byte that is not copied, but the last. */
static uint32_t pool_put(struct expr *x, const char *s, size_t len, bool unquote, bool lower)
{
        uint32_t at = (uint32_t)x->pool_len;

        for (size_t i = 0; i < len; i++) {
                x->pool[x->pool_len++] = lower ? (char)tolower((unsigned char)s[i]) : s[i];
                if (unquote && s[i] == '\'')
                        i++;
        }
        x->pool[x->pool_len++] = '\0';
        return at;
}

static int expect(struct parser *p, enum token_kind kind, const char *context)
{
        if (p->lx.tok.kind == kind)
                return lex_next(&p->lx);
        return err_at(p->e, E_INVAL, 1, (int)p->lx.tok.pos + 1, "expected %s %s, got %s",
                      token_describe(kind), context, token_describe(p->lx.tok.kind));
}

static int check_arity(struct parser *p, const struct node *n)
{
        const struct func *f = n->fn;
        int got = (int)n->n_children;

        if (got >= f->min_args && (f->max_args < 0 || got <= f->max_args))
                return 0;
        if (f->min_args == f->max_args)
                return err_at(p->e, E_INVAL, 1, (int)n->pos + 1, "%s takes %d argument%s, got %d", f->name,
                              f->min_args, f->min_args == 1 ? "" : "s", got);
        if (f->max_args < 0)
                return err_at(p->e, E_INVAL, 1, (int)n->pos + 1, "%s takes at least %d argument%s, got %d",
                              f->name, f->min_args, f->min_args == 1 ? "" : "s", got);
        return err_at(p->e, E_INVAL, 1, (int)n->pos + 1, "%s takes %d to %d arguments, got %d", f->name,
                      f->min_args, f->max_args, got);
}

static int parse_call(struct parser *p, const struct token *name, int32_t *out)
{
        const struct func *fn = func_find(name->text, name->len);
        int32_t call, last = -1, arg;
        int rc;

        if (!fn) {
                char word[48];
                const char *near;

                snprintf(word, sizeof word, "%.*s", name->len > 40 ? 40 : (int)name->len, name->text);
                near = func_nearest(word);
                return err_at(p->e, E_INVAL, 1, (int)name->pos + 1, "unknown function \"%s\"%s%s%s", word,
                              near ? ": did you mean \"" : "", near ? near : "", near ? "\"?" : "");
        }
        rc = node_new(p, N_CALL, name->pos, &call);
        if (rc)
                return rc;
        p->x->nodes[call].fn = fn;
        p->x->uses_status |= fn->status;
        rc = lex_next(&p->lx); /* the parenthesis */
        while (!rc && p->lx.tok.kind != T_RPAREN) {
                rc = last < 0 ? 0 : expect(p, T_COMMA, "or \")\" between arguments");
                if (!rc)
                        rc = parse_or(p, &arg);
                if (!rc)
                        rc = node_adopt(p, call, last, arg);
                last = arg;
        }
        if (!rc)
                rc = check_arity(p, &p->x->nodes[call]);
        if (!rc)
                rc = lex_next(&p->lx);
        if (!rc)
                *out = call;
        return rc;
}

static bool token_is(const struct token *t, const char *word)
{
        return t->len == strlen(word) && memcmp(t->text, word, t->len) == 0;
}

/* A keyword, a function call or a context's name. */
static int parse_name(struct parser *p, int32_t *out)
{
        struct token t = p->lx.tok;
        enum node_kind kind = N_ROOT;
        double num = 0;
        int rc = lex_next(&p->lx);

        if (rc)
                return rc;
        if (p->lx.tok.kind == T_LPAREN)
                return parse_call(p, &t, out);
        if (token_is(&t, "null"))
                kind = N_NULL;
        else if (token_is(&t, "true") || token_is(&t, "false"))
                kind = N_BOOL, num = t.len == 4;
        else if (token_is(&t, "NaN"))
                kind = N_NUMBER, num = NAN;
        else if (token_is(&t, "Infinity"))
                kind = N_NUMBER, num = INFINITY;
        rc = node_new(p, kind, t.pos, out);
        if (rc)
                return rc;
        p->x->nodes[*out].num = num;
        if (kind == N_ROOT)
                p->x->nodes[*out].str = pool_put(p->x, t.text, t.len, false, true);
        return 0;
}

static int parse_primary(struct parser *p, int32_t *out)
{
        struct token t = p->lx.tok;
        int rc;

        switch (t.kind) {
        case T_NUMBER:
        case T_STRING:
                rc = node_new(p, t.kind == T_NUMBER ? N_NUMBER : N_STRING, t.pos, out);
                if (rc)
                        return rc;
                p->x->nodes[*out].num = t.num;
                if (t.kind == T_STRING)
                        p->x->nodes[*out].str = pool_put(p->x, t.text, t.len, true, false);
                return lex_next(&p->lx);
        case T_IDENT:
                return parse_name(p, out);
        case T_LPAREN:
                rc = lex_next(&p->lx);
                if (!rc)
                        rc = parse_or(p, out);
                return rc ? rc : expect(p, T_RPAREN, "to close the parenthesis");
        case T_END:
                return fail_at(p, t.pos,
                               p->started ? "a value is missing at the end" : "the expression is empty");
        default:
                return err_at(p->e, E_INVAL, 1, (int)t.pos + 1, "expected a value, got %s",
                              token_describe(t.kind));
        }
}

/* What follows a '.' or stands between brackets, wrapped around *base. */
static int parse_access(struct parser *p, int32_t *base)
{
        bool bracket = p->lx.tok.kind == T_LBRACKET;
        size_t pos = p->lx.tok.pos;
        int32_t n, index = -1;
        enum node_kind kind = N_PROP;
        struct token t;
        int rc = lex_next(&p->lx);

        if (rc)
                return rc;
        t = p->lx.tok;
        if (t.kind == T_STAR) {
                kind = N_FILTER;
                rc = lex_next(&p->lx);
        } else if (bracket) {
                kind = N_INDEX;
                rc = parse_or(p, &index);
        } else if (t.kind == T_IDENT) {
                rc = lex_next(&p->lx);
        } else {
                return fail_at(p, t.pos, "expected a property's name or \"*\" after \".\"");
        }
        if (!rc && bracket)
                rc = expect(p, T_RBRACKET, "to close the bracket");
        if (!rc)
                rc = node_new(p, kind, pos, &n);
        if (rc)
                return rc;
        if (kind == N_PROP)
                p->x->nodes[n].str = pool_put(p->x, t.text, t.len, false, false);
        rc = node_adopt(p, n, -1, *base);
        if (!rc && index >= 0)
                rc = node_adopt(p, n, *base, index);
        *base = n;
        return rc;
}

static int parse_unary(struct parser *p, int32_t *out)
{
        size_t pos = p->lx.tok.pos;
        int32_t inner;
        int rc;

        if (p->lx.tok.kind == T_NOT) {
                if (++p->depth > EXPR_DEPTH_MAX)
                        return too_deep(p, pos);
                rc = lex_next(&p->lx);
                if (!rc)
                        rc = parse_unary(p, &inner);
                p->depth--;
                if (!rc)
                        rc = node_new(p, N_NOT, pos, out);
                if (!rc)
                        rc = node_adopt(p, *out, -1, inner);
        } else {
                rc = parse_primary(p, out);
                while (!rc && (p->lx.tok.kind == T_DOT || p->lx.tok.kind == T_LBRACKET))
                        rc = parse_access(p, out);
        }
        return rc;
}

static const struct {
        enum token_kind token;
        enum node_kind node;
        int level;
} binary[] = {
        {T_EQ, N_EQ, 0}, {T_NE, N_NE, 0}, {T_LT, N_LT, 1}, {T_LE, N_LE, 1}, {T_GT, N_GT, 1}, {T_GE, N_GE, 1},
};

/* Level 0: == and !=; level 1: the order; both associate to the left. */
static int parse_binary(struct parser *p, int level, int32_t *out)
{
        int32_t right, n;
        size_t i;
        int rc = level ? parse_unary(p, out) : parse_binary(p, 1, out);

        while (!rc) {
                size_t pos = p->lx.tok.pos;

                for (i = 0; i < sizeof binary / sizeof *binary; i++)
                        if (binary[i].token == p->lx.tok.kind && binary[i].level == level)
                                break;
                if (i == sizeof binary / sizeof *binary)
                        return 0;
                rc = lex_next(&p->lx);
                if (!rc)
                        rc = level ? parse_unary(p, &right) : parse_binary(p, 1, &right);
                if (!rc)
                        rc = node_new(p, binary[i].node, pos, &n);
                if (!rc)
                        rc = node_adopt(p, n, -1, *out);
                if (!rc)
                        rc = node_adopt(p, n, *out, right);
                *out = n;
        }
        return rc;
}

/* A chain of && or || is one node, so that its length costs no depth. */
static int parse_chain(struct parser *p, enum token_kind op, int32_t *out)
{
        int32_t chain = -1, last = -1, item;
        int rc;

        for (;;) {
                rc = op == T_OR ? parse_chain(p, T_AND, &item) : parse_binary(p, 0, &item);
                if (rc)
                        return rc;
                if (chain < 0) {
                        if (p->lx.tok.kind != op) {
                                *out = item;
                                return 0;
                        }
                        rc = node_new(p, op == T_OR ? N_OR : N_AND, p->lx.tok.pos, &chain);
                        if (rc)
                                return rc;
                }
                rc = node_adopt(p, chain, last, item);
                last = item;
                if (rc)
                        return rc;
                if (p->lx.tok.kind != op) {
                        *out = chain;
                        return 0;
                }
                rc = lex_next(&p->lx);
                if (rc)
                        return rc;
        }
}

static int parse_or(struct parser *p, int32_t *out)
{
        int rc;

        if (++p->depth > EXPR_DEPTH_MAX)
                return too_deep(p, p->lx.tok.pos);
        rc = parse_chain(p, T_OR, out);
        p->depth--;
        return rc;
}

int expr_compile(const char *src, size_t len, struct expr **out, struct err *e)
{
        struct parser p = {.lx = {.src = src, .len = len, .e = e}, .e = e};
        int rc;

        if (len > EXPR_SOURCE_MAX)
                return err_at(e, E_TOOBIG, 1, 1, "the expression is longer than %u bytes", EXPR_SOURCE_MAX);
        if (memchr(src, '\0', len))
                return err_at(e, E_INVAL, 1, 1, "the expression contains a NUL byte");
        p.x = mem_calloc(1, sizeof *p.x);
        if (p.x)
                p.x->pool = mem_alloc(len + 2);
        if (!p.x || !p.x->pool) {
                rc = err_set(e, E_NOMEM, "no memory for an expression");
                goto fail;
        }
        rc = lex_next(&p.lx);
        p.started = p.lx.tok.kind != T_END;
        if (!rc)
                rc = parse_or(&p, &p.x->root);
        if (!rc && p.lx.tok.kind != T_END)
                rc = err_at(e, E_INVAL, 1, (int)p.lx.tok.pos + 1, "expected an operator or the end, got %s",
                            token_describe(p.lx.tok.kind));
        if (rc)
                goto fail;
        *out = p.x;
        return 0;
fail:
        expr_free(p.x);
        return rc;
}

void expr_free(struct expr *x)
{
        if (!x)
                return;
        mem_free(x->nodes);
        mem_free(x->pool);
        mem_free(x);
}

bool expr_uses_status(const struct expr *x)
{
        return x->uses_status;
}

int expr_if_body(const char *text, size_t *start, size_t *len, struct err *e)
{
        size_t a = 0, b = strlen(text);

        while (a < b && isspace((unsigned char)text[a]))
                a++;
        while (b > a && isspace((unsigned char)text[b - 1]))
                b--;
        if (b - a >= 5 && memcmp(text + a, "${{", 3) == 0 && memcmp(text + b - 2, "}}", 2) == 0) {
                a += 3;
                b -= 2;
        }
        /* "${{ a }} && b" would be text, and text is always true: GitHub's trap. */
        if (b > a && memmem(text + a, b - a, "${{", 3))
                return err_at(e, E_INVAL, 1, (int)a + 1,
                              "the whole condition stands in one ${{ }}, or in none: \"${{ a && b }}\"");
        *start = a;
        *len = b - a;
        return 0;
}

/* Wraps the root: success() && (root). */
static int imply_success(struct expr *x, struct err *e)
{
        struct parser p = {.x = x, .e = e};
        int32_t call, both, root = x->root;
        int rc;

        rc = node_new(&p, N_CALL, 0, &call);
        if (!rc)
                rc = node_new(&p, N_AND, 0, &both);
        if (rc)
                return rc;
        x->nodes[call].fn = func_find("success", 7);
        rc = node_adopt(&p, both, -1, call);
        if (!rc)
                rc = node_adopt(&p, both, call, root);
        x->root = both;
        return rc;
}

int expr_compile_if(const char *text, struct expr **out, struct err *e)
{
        struct expr *x = NULL;
        size_t start, len;
        int rc = expr_if_body(text, &start, &len, e);

        if (rc)
                return rc;
        rc = expr_compile(text + start, len, &x, e);
        if (!rc && !x->uses_status)
                rc = imply_success(x, e);
        if (rc) {
                if (e && e->col)
                        e->col += (int)start;
                expr_free(x);
                return rc;
        }
        *out = x;
        return 0;
}

/* The constant key of an access, or NULL. Numbers are written to `tmp`. */
static const char *constant_key(const struct expr *x, const struct node *n, char tmp[32])
{
        const struct node *index;

        if (n->kind == N_PROP)
                return x->pool + n->str;
        if (n->kind != N_INDEX)
                return NULL;
        index = &x->nodes[x->nodes[n->child].next];
        if (index->kind == N_STRING)
                return x->pool + index->str;
        if (index->kind != N_NUMBER)
                return NULL;
        number_format(index->num, tmp);
        return tmp;
}

/* An access knows its base, not the reverse: so collect the two accesses above
 * each root in one pass. A base always precedes its access in the array. */
int expr_each_ref(const struct expr *x, int (*on_ref)(void *ctx, const struct expr_ref *r), void *ctx)
{
        int rc = 0;

        int32_t *up = mem_alloc(x->n * sizeof *up);

        if (!up)
                return -E_NOMEM;
        for (size_t i = 0; i < x->n; i++)
                up[i] = -1;
        for (size_t i = 0; i < x->n; i++)
                if (x->nodes[i].kind == N_PROP || x->nodes[i].kind == N_INDEX || x->nodes[i].kind == N_FILTER)
                        up[x->nodes[i].child] = (int32_t)i;
        for (size_t i = 0; i < x->n && !rc; i++) {
                struct expr_ref r = {.root = x->pool + x->nodes[i].str, .pos = x->nodes[i].pos};
                char t2[32], t3[32];

                if (x->nodes[i].kind != N_ROOT)
                        continue;
                if (up[i] >= 0)
                        r.second = constant_key(x, &x->nodes[up[i]], t2);
                if (r.second && up[up[i]] >= 0)
                        r.third = constant_key(x, &x->nodes[up[up[i]]], t3);
                rc = on_ref(ctx, &r);
        }
        mem_free(up);
        return rc;
}

struct refs_adapter {
        int (*on_ref)(void *ctx, const char *root, const char *second);
        void *ctx;
};

static int adapt_ref(void *ctx, const struct expr_ref *r)
{
        const struct refs_adapter *a = ctx;

        return a->on_ref(a->ctx, r->root, r->second);
}

int expr_refs(const struct expr *x, int (*on_ref)(void *ctx, const char *root, const char *second), void *ctx)
{
        struct refs_adapter a = {on_ref, ctx};

        return expr_each_ref(x, adapt_ref, &a);
}
