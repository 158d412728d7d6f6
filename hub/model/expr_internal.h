/* What the parts of the expression language share: tokens, tree, evaluation.
 * Only expr_*.c, tmpl.c and workflow_*.c include this. */
#ifndef PHOTON_MODEL_EXPR_INTERNAL_H
#define PHOTON_MODEL_EXPR_INTERNAL_H

#include <stdint.h>

#include "common/buf.h"
#include "hub/model/expr.h"

/* ---- lexer (expr_lex.c) ---- */

enum token_kind {
        T_END,
        T_NUMBER,
        T_STRING,
        T_IDENT,
        T_LPAREN,
        T_RPAREN,
        T_LBRACKET,
        T_RBRACKET,
        T_DOT,
        T_STAR,
        T_COMMA,
        T_NOT,
        T_EQ,
        T_NE,
        T_LT,
        T_LE,
        T_GT,
        T_GE,
        T_AND,
        T_OR
};

struct token {
        enum token_kind kind;
        size_t pos;       /* offset of its first byte */
        const char *text; /* IDENT: within the source; STRING: between the quotes, '' still doubled */
        size_t len;
        double num;
};

struct lexer {
        const char *src;
        size_t len, pos;
        struct token tok; /* the current token */
        struct err *e;
};

/* Reads the next token into lx->tok. What a '.' or '*' means depends on the
 * token before, which is still in lx->tok. -E_INVAL with the column. */
int lex_next(struct lexer *lx);
const char *token_describe(enum token_kind k); /* "\")\"" ... */

/* GitHub's text-to-number: trimmed, "" is 0, hex, octal, Infinity; else NaN. */
double expr_text_number(const char *s, size_t len);

/* ---- tree (expr_parse.c) ---- */

enum node_kind {
        N_NULL,
        N_BOOL,
        N_NUMBER,
        N_STRING,
        N_ROOT,   /* str: a context's name, lower case */
        N_PROP,   /* child 1 . str */
        N_INDEX,  /* child 1 [ child 2 ] */
        N_FILTER, /* child 1 .* */
        N_NOT,
        N_EQ,
        N_NE,
        N_LT,
        N_LE,
        N_GT,
        N_GE,
        N_AND,
        N_OR,  /* two or more children */
        N_CALL /* fn, children are the arguments */
};

struct func;

struct node {
        uint8_t kind;
        uint16_t depth;      /* 1 + the deepest child's */
        uint32_t pos;        /* in the source */
        int32_t child, next; /* indices of nodes, -1: none */
        uint32_t n_children;
        uint32_t str; /* offset in the pool */
        double num;   /* NUMBER; BOOL: 0 or 1 */
        const struct func *fn;
};

struct expr {
        struct node *nodes;
        size_t n, cap;
        char *pool; /* NUL-terminated names and strings */
        size_t pool_len;
        int32_t root;
        bool uses_status; /* a status function is written in it */
};

/* One reference to a context. `second` and `third` are NULL when absent or
 * computed; pos is the offset of the root's name in the source. */
struct expr_ref {
        const char *root, *second, *third;
        size_t pos;
};
int expr_each_ref(const struct expr *x, int (*on_ref)(void *ctx, const struct expr_ref *r), void *ctx);
/* As tmpl_check; err.col is 1 + the offset of the mistake within `text`, err.line 1. */
int tmpl_check_refs(const char *text, int (*on_ref)(void *ctx, const struct expr_ref *r), void *ctx,
                    struct err *e);
/* Is `text` nothing but one ${{ }}, so that it keeps its value's type? Then what is inside. */
bool tmpl_is_one_expr(const char *text, size_t *body, size_t *body_len);
/* Where the condition stands in `text`: without ${{ }} and white space around it. */
int expr_if_body(const char *text, size_t *start, size_t *len, struct err *e);

/* ---- values and evaluation (expr_eval.c, expr_value.c) ---- */

enum val_kind { V_NULL, V_BOOL, V_NUMBER, V_STRING, V_LIST, V_OBJECT, V_FILTER };

/* A value while evaluating. Text and JSON are lent, by the environment, the
 * expression or the evaluation's own memory; all of them outlive it. */
struct val {
        enum val_kind kind;
        double num; /* NUMBER; BOOL: 0 or 1 */
        const char *str;
        size_t len;
        const cJSON *json; /* LIST, OBJECT */
        struct val *items; /* FILTER: what a.* gave */
        size_t n_items;
};

struct eval_block;

struct eval {
        const struct expr *x;
        const struct expr_env *env;
        struct err *e;
        uint32_t work_left;
        size_t output_left;
        struct eval_block *blocks; /* memory of this evaluation */
};

void eval_init(struct eval *ev, const struct expr_env *env, struct err *e);
void eval_fini(struct eval *ev);
int eval_charge(struct eval *ev, size_t operations);
void *eval_alloc(struct eval *ev, size_t size_bytes); /* charged; sets the error and gives NULL */
int eval_keep_json(struct eval *ev, cJSON *v);        /* takes v */
int eval_run(struct eval *ev, const struct expr *x, struct val *out);
int eval_error(struct eval *ev, const struct node *n, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));

struct val val_from_json(const cJSON *j);
struct val val_text(const char *s, size_t len);
struct val val_bool(bool b);
bool val_truthy(const struct val *v);
double val_number(const struct val *v);
bool val_equal(const struct val *a, const struct val *b);
/* <0, 0, >0, or 2: they have no order. */
int val_compare(const struct val *a, const struct val *b);
/* Text form into the evaluation's memory. Lists and objects have none: -E_INVAL. */
int val_to_text(struct eval *ev, const struct node *n, const struct val *v, struct val *out);
/* A new cJSON, counted against ev->output_left. */
int val_to_json(struct eval *ev, const struct val *v, cJSON **out);
size_t number_format(double d, char out[32]);
const char *val_kind_name(const struct val *v); /* "a string" */

/* ---- functions (expr_func.c) ---- */

struct func {
        const char *name;
        int min_args, max_args; /* -1: any number */
        bool status;
        int (*call)(struct eval *ev, const struct node *n, struct val *args, size_t n_args, struct val *out);
};
const struct func *func_find(const char *name, size_t len);
/* The nearest name, or NULL. */
const char *func_nearest(const char *name);

#endif
