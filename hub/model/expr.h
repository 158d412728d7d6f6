/* The expression language of workflows: what stands between ${{ and }}.
 *
 * GitHub's documented language: literals (null, booleans, numbers with hex and
 * exponent, 'single quoted' strings with '' for a quote), == != < <= > >= && || ! ( ),
 * property access a.b, a['b'], a[0], a.*, case-insensitive string comparison and loose
 * equality as documented, functions contains startsWith endsWith format join
 * toJSON fromJSON success failure always cancelled. No loops, no I/O, no state:
 * evaluation is total and bounded. Text that comes out of a value is never
 * parsed as an expression again.
 *
 * Pure. A compiled expression is immutable and may be shared between threads. */
#ifndef PHOTON_MODEL_EXPR_H
#define PHOTON_MODEL_EXPR_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>

struct err;
struct expr;

#define EXPR_SOURCE_MAX (64u << 10) /* bytes of one expression */
#define EXPR_DEPTH_MAX  64          /* nesting */
#define EXPR_OUTPUT_MAX (4u << 20)  /* bytes of one resulting text or JSON */
#define EXPR_WORK_MAX   1000000u    /* elementary operations in one evaluation */

/* What names mean while evaluating. */
struct expr_env {
        /* The value of a root name ("inputs", "steps" ...), lent, or NULL if
         * there is no such context (an error that names the known ones). */
        const cJSON *(*lookup)(void *ctx, const char *name);
        void *ctx;
        bool success, failure, cancelled; /* of the needs, for the status functions */
};

/* -E_INVAL: e->line/col are within the source (line 1). */
int expr_compile(const char *src, size_t len, struct expr **out, struct err *e);
void expr_free(struct expr *x);
/* *out: a new value (never NULL on success; cJSON_Delete). -E_INVAL, -E_TOOBIG, -E_NOMEM. */
int expr_eval(const struct expr *x, const struct expr_env *env, cJSON **out, struct err *e);
/* GitHub's truthiness: false, 0, -0, "", null, NaN are false. */
bool expr_truthy(const cJSON *v);
/* An `if:`: a plain condition; if no status function is called anywhere in it, it
 * means success() && (...). Accepts text with or without ${{ }}. */
int expr_compile_if(const char *text, struct expr **out, struct err *e);
bool expr_uses_status(const struct expr *x);

/* Calls on_ref for each reference root.name[.second], e.g. ("steps","build") or
 * ("inputs","version"); second is NULL when it is computed or absent. */
int expr_refs(const struct expr *x, int (*on_ref)(void *ctx, const char *root, const char *second),
              void *ctx);

/* Templates: text with ${{ }} inside. "${{ x }}" alone gives x's own type;
 * otherwise the values are joined as text (GitHub's conversions). */
bool tmpl_has_expr(const char *text);
int tmpl_check(const char *text, int (*on_ref)(void *ctx, const char *root, const char *second), void *ctx,
               struct err *e);
int tmpl_eval(const char *text, const struct expr_env *env, cJSON **out, struct err *e);
int tmpl_eval_str(const char *text, const struct expr_env *env, char **out, struct err *e); /* mem_free */
/* Every string inside `v`, keys excluded; one pass, results are not looked at again. */
int tmpl_eval_json(const cJSON *v, const struct expr_env *env, cJSON **out, struct err *e);
/* As tmpl_eval_json for an object whose values must stay texts (environment, labels): a number becomes "3".
 */
int tmpl_eval_texts(const cJSON *object, const struct expr_env *env, cJSON **out, struct err *e);

#endif
