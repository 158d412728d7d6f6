/* Expressions and templates: no input may crash them, run long or grow without
 * bound; a mistake has a column within the source; what comes out of a value
 * is never read as an expression. */
#include "common/err.h"
#include "common/json.h"
#include "common/mem.h"
#include "hub/model/expr.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char world[] =
        "{\"inputs\":{\"s\":\"text\",\"n\":3,\"t\":true,\"z\":null,\"list\":[1,\"two\",[3]],\"o\":{\"a\":{"
        "\"b\":[1]}},"
        "\"trap\":\"${{ BOOM( "
        "}}\"},\"steps\":{\"a\":{\"outputs\":{\"x\":1}},\"b\":{\"outputs\":{\"x\":\"{\\\"k\\\":1}\"}}}}";

static const cJSON *lookup(void *ctx, const char *name)
{
        return cJSON_GetObjectItemCaseSensitive(ctx, name);
}

static int on_ref(void *ctx, const char *root, const char *second)
{
        *(size_t *)ctx += strlen(root) + (second ? strlen(second) : 0);
        return 0;
}

static void require(int ok)
{
        if (!ok)
                abort();
}

static void check_failed(int rc, const struct err *e)
{
        require(rc == -E_INVAL || rc == -E_TOOBIG);
        require(e->code == -rc && e->msg[0]);
}

static void evaluate(const struct expr *x, const struct expr_env *env)
{
        struct err e = {0};
        cJSON *v = NULL;
        int rc = expr_eval(x, env, &v, &e);

        if (rc)
                check_failed(rc, &e);
        require((v != NULL) == (rc == 0));
        (void)expr_truthy(v);
        cJSON_Delete(v);
}

static void as_expression(const char *text, size_t size, const struct expr_env *env)
{
        struct expr *x = NULL;
        struct err e = {0};
        size_t refs = 0;
        int rc = expr_compile(text, size, &x, &e);

        if (rc) {
                check_failed(rc, &e);
                require(e.line == 1 && e.col >= 1 && (size_t)e.col <= size + 1);
                return;
        }
        require(expr_refs(x, on_ref, &refs) == 0);
        evaluate(x, env);
        expr_free(x);
        if (expr_compile_if(text, &x, &e) == 0) {
                evaluate(x, env);
                expr_free(x);
        }
}

static void as_template(const char *text, const struct expr_env *env)
{
        struct err e = {0};
        size_t refs = 0;
        char *s = NULL;
        cJSON *v = NULL;
        int checked = tmpl_check(text, on_ref, &refs, &e);
        int rc = tmpl_eval(text, env, &v, &e);

        require(!checked || rc); /* what is refused before a run does not evaluate */
        cJSON_Delete(v);
        rc = tmpl_eval_str(text, env, &s, &e);
        if (rc)
                check_failed(rc, &e);
        else if (!tmpl_has_expr(text))
                require(strcmp(s, text) == 0);
        mem_free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static cJSON *all;
        struct expr_env env = {.lookup = lookup, .success = true};
        struct err e;
        char *text = malloc(size + 1);

        if (!all && json_parse(world, strlen(world), &all, &e))
                abort();
        require(text != NULL);
        env.ctx = all;
        memcpy(text, data, size);
        text[size] = '\0';
        as_expression(text, size, &env);
        as_template(text, &env);
        free(text);
        return 0;
}
