/* What docs/WORKFLOWS.md and deploy/examples/ show must be accepted as it stands. */
#include "common/err.h"
#include "common/json.h"
#include "common/mem.h"
#include "hub/model/workflow.h"
#include "tests/lib/test.h"

#include <glob.h>
#include <stdio.h>
#include <stdlib.h>

#define FILE_MAX (1 << 20)

static char *read_file(const char *path)
{
        FILE *f = fopen(path, "r");
        char *s = calloc(1, FILE_MAX);

        if (!f || !s)
                test_fail(__FILE__, __LINE__, "cannot read %s (tests run in the project's folder)", path);
        CHECK(fread(s, 1, FILE_MAX - 1, f) > 0);
        fclose(f);
        return s;
}

static void accept(const char *where, int line, const char *text, size_t len)
{
        struct workflow *w = NULL;
        struct err e = {0};

        if (workflow_parse(text, len, &w, &e))
                test_fail(where, line + e.line, "column %d: %s\n%.*s", e.col, e.msg, (int)len, text);
        workflow_free(w);
}

/* "expression    JSON", two spaces or more between. */
static void check_example(const char *line, size_t len)
{
        struct expr_env env = {.success = true};
        struct expr *x = NULL;
        struct err e = {0};
        cJSON *v = NULL;
        size_t end = 0, start;
        char *got;

        while (end + 1 < len && !(line[end] == ' ' && line[end + 1] == ' '))
                end++;
        start = end + strspn(line + end, " ");
        CHECK(start < len);
        if (expr_compile(line, end, &x, &e) || expr_eval(x, &env, &v, &e))
                test_fail(__FILE__, __LINE__, "%.*s: %s", (int)end, line, e.msg);
        got = json_text(v);
        if (!got || strlen(got) != len - start || memcmp(got, line + start, len - start) != 0)
                test_fail(__FILE__, __LINE__, "%.*s is %s", (int)len, line, got ? got : "?");
        mem_free(got);
        cJSON_Delete(v);
        expr_free(x);
}

static int check_examples(const char *text, size_t len)
{
        int n = 0;

        for (const char *p = text; p < text + len; n++) {
                size_t line = strcspn(p, "\n");

                check_example(p, line);
                p += line + 1;
        }
        return n;
}

TEST(docs, every_block_of_workflows_md)
{
        static const char path[] = "docs/WORKFLOWS.md";
        char *text = read_file(path), *p = text;
        int workflows = 0, expressions = 0;

        while ((p = strstr(p, "\n```"))) {
                char *kind = p + 4, *body = strchr(kind, '\n'), *end = body ? strstr(body, "\n```") : NULL;
                int line = 1;

                CHECK(body && end);
                for (char *q = text; q <= body; q++)
                        line += *q == '\n';
                body++;
                if (strncmp(kind, "yaml\n", 5) == 0 || strncmp(kind, "json\n", 5) == 0) {
                        accept(path, line - 1, body, (size_t)(end + 1 - body));
                        workflows++;
                } else if (strncmp(kind, "expr\n", 5) == 0) {
                        expressions += check_examples(body, (size_t)(end + 1 - body));
                } else {
                        test_fail(path, line - 1, "a block of an unknown kind");
                }
                p = end + 4;
        }
        CHECK(workflows >= 8);
        CHECK(expressions >= 15);
        free(text);
}

TEST(docs, every_example_workflow)
{
        glob_t g;

        CHECK_INT(glob("deploy/examples/*.yaml", 0, NULL, &g), 0);
        CHECK(g.gl_pathc >= 5);
        for (size_t i = 0; i < g.gl_pathc; i++) {
                char *text = read_file(g.gl_pathv[i]);

                accept(g.gl_pathv[i], 0, text, strlen(text));
                free(text);
        }
        globfree(&g);
}
