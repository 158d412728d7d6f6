/* run, runs, run show|watch|cancel|retry|explain|resolve, validate. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/client.h"
#include "cli/explain.h"
#include "cli/input.h"
#include "cli/print.h"
#include "cli/watch.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"

#define QUERY_MAX 6000 /* bytes of inputs that go into a path */

static int no_memory(struct err *e)
{
        return err_set(e, E_NOMEM, "no memory");
}

/* FILE:line:column: message, as compilers do, so that editors can jump there. */
static void place_error(const char *file, int line, int col, const char *message)
{
        print_flush();
        if (line > 0)
                fprintf(stderr, "%s:%d:%d: ", file, line, col > 0 ? col : 1);
        else
                fprintf(stderr, "%s: ", file);
        put_plain(stderr, message);
        fputc('\n', stderr);
}

static const char *shown_name(const char *file)
{
        return strcmp(file, "-") == 0 ? "<stdin>" : file;
}

static int read_workflow(const char *file, char **text, size_t *n, struct err *e)
{
        int rc = input_read(file, INPUT_WORKFLOW_MAX, text, n, e);

        if (!rc && (!str_is_utf8(*text, *n) || memchr(*text, 0, *n))) {
                mem_free(*text);
                *text = NULL;
                rc = err_set(e, E_INVAL, "%s is not UTF-8 text: a workflow is YAML or JSON",
                             shown_name(file));
        }
        return rc;
}

/* ---- run FILE ---- */

static int add_query(char **path, const char *name, const char *value)
{
        char *esc, *longer;

        if (!value)
                return 0;
        esc = client_escape(value);
        longer = esc ? str_printf("%s%c%s=%s", *path, strchr(*path, '?') ? '&' : '?', name, esc) : NULL;
        mem_free(esc);
        if (!longer)
                return -E_NOMEM;
        mem_free(*path);
        *path = longer;
        return 0;
}

/* -i in the query: the hub makes of each text what the workflow says. */
static int query_inputs(const cJSON *texts, char **path)
{
        int rc = 0;

        for (const cJSON *t = texts->child; t && !rc; t = t->next) {
                char *key = client_escape(t->string), *name = key ? str_printf("input.%s", key) : NULL;

                rc = name ? add_query(path, name, t->valuestring) : -E_NOMEM;
                mem_free(name);
                mem_free(key);
        }
        return rc;
}

static size_t text_size(const cJSON *texts)
{
        size_t n = 0;

        for (const cJSON *t = texts->child; t; t = t->next)
                n += strlen(t->string) + strlen(t->valuestring) + 16;
        return n;
}

/* {"workflow": text, "inputs": {...}, "priority": n}. Inputs from a file have types, and a query has
 * no room for long ones: then all go in the body. */
static int run_body(struct cli *c, const char *text, size_t n, cJSON **out, char **path, struct err *e)
{
        cJSON *body = cJSON_CreateObject(), *inputs = NULL, *texts = NULL;
        int rc = body && cJSON_AddStringToObject(body, "workflow", text) ? 0 : no_memory(e);

        if (!rc)
                rc = input_pairs(&c->o.inputs, "-i", &texts, e);
        if (rc == -E_INVAL)
                rc = cli_usage(c, "%s", e->msg);
        if (!rc && !c->o.inputs_file && text_size(texts) <= QUERY_MAX) {
                rc = query_inputs(texts, path) ? no_memory(e) : 0;
        } else if (!rc) {
                if (c->o.inputs_file)
                        rc = input_object(c->o.inputs_file, &inputs, e);
                else if (!(inputs = cJSON_CreateObject()))
                        rc = no_memory(e);
                if (!rc)
                        rc = input_typed(text, n, texts, inputs, e);
                if (!rc)
                        cJSON_AddItemToObject(body, "inputs", inputs);
                else
                        cJSON_Delete(inputs);
        }
        cJSON_Delete(texts);
        if (rc) {
                cJSON_Delete(body);
                return rc;
        }
        if (c->o.priority)
                cJSON_AddNumberToObject(body, "priority", (double)c->o.priority);
        *out = body;
        return 0;
}

int cmd_run(struct cli *c, struct err *e)
{
        const char *file = c->args[0], *id;
        cJSON *body = NULL, *run = NULL;
        char *text = NULL, *path = NULL;
        size_t n = 0;
        bool quiet = c->format == OUT_JSON || c->format == OUT_YAML;
        int rc = read_workflow(file, &text, &n, e);

        if (!rc && !(path = mem_strdup(c->o.detach && quiet ? "/api/v1/runs?steps=true" : "/api/v1/runs")))
                rc = no_memory(e);
        if (!rc)
                rc = run_body(c, text, n, &body, &path, e);
        if (!rc)
                rc = client_json(c->client, "POST", path, body, &run, e);
        mem_free(path);
        cJSON_Delete(body);
        mem_free(text);
        if (rc == -E_INVAL && e->line) {
                place_error(shown_name(file), e->line, e->col, e->msg);
                return STATUS_FAILED;
        }
        id = jstr(run, "id");
        if (!rc && !*id)
                rc = err_set(e, E_PROTO, "%s did not answer with a run; is --hub right?",
                             client_hub(c->client));
        if (!rc) {
                fprintf(stderr, "%s\n", id);
                if (!c->o.detach)
                        rc = watch_run(c, id, quiet, e);
                else if (!print_doc(c, run) && !isatty(STDOUT_FILENO))
                        printf("%s\n", id);
        }
        cJSON_Delete(run);
        return rc;
}

int cmd_run_watch(struct cli *c, struct err *e)
{
        return watch_run(c, c->args[0], c->format == OUT_JSON || c->format == OUT_YAML, e);
}

/* ---- lists and looks ---- */

static void draw_runs(const cJSON *all)
{
        static const char *const names[] = {"RUN", "WORKFLOW", "STATE", "STEPS", "CREATED", "TOOK", "BY"};
        struct table t;
        char text[64];

        table_init(&t, 7, names);
        for (const cJSON *r = all->child; r; r = r->next) {
                table_cell(&t, jstr(r, "id"), PAINT_NONE);
                table_cell(&t, jstr(r, "workflow"), PAINT_NONE);
                table_cell(&t, jstr(r, "state"), paint_state(jstr(r, "state")));
                snprintf(text, sizeof text, "%lld", (long long)jnum(r, "step_count"));
                table_cell(&t, text, PAINT_NONE);
                ago_text(jstr(r, "created_at"), text);
                table_cell(&t, text, PAINT_NONE);
                span_text(jstr(r, "started_at"), jstr(r, "finished_at"), text);
                table_cell(&t, text, PAINT_NONE);
                table_cell(&t, jstr(r, "created_by"), PAINT_NONE);
        }
        table_print(&t);
}

int cmd_runs(struct cli *c, struct err *e)
{
        char *path = mem_strdup("/api/v1/runs");
        cJSON *all = NULL;
        int rc = path ? 0 : no_memory(e);

        if (!rc && (add_query(&path, "state", c->o.state) || add_query(&path, "workflow", c->o.workflow) ||
                    add_query(&path, "kind", c->o.kind)))
                rc = no_memory(e);
        if (!rc)
                rc = client_list(c->client, path, c->o.limit, &all, e);
        if (!rc && !print_doc(c, all))
                draw_runs(all);
        cJSON_Delete(all);
        mem_free(path);
        return rc;
}

/* path: taken. */
static int request(struct cli *c, const char *method, char *path, const cJSON *body, cJSON **out,
                   struct err *e)
{
        int rc = path ? client_json(c->client, method, path, body, out, e) : no_memory(e);

        mem_free(path);
        if (!rc && !*out)
                rc = err_set(e, E_PROTO, "%s gave an empty answer; is --hub right?", client_hub(c->client));
        return rc;
}

int cmd_run_show(struct cli *c, struct err *e)
{
        cJSON *run = NULL;
        int rc = request(c, "GET", client_path("/runs/%s", c->args[0]), NULL, &run, e);

        if (!rc && !print_doc(c, run))
                watch_draw_run(run, c->format == OUT_WIDE);
        cJSON_Delete(run);
        return rc;
}

int cmd_run_cancel(struct cli *c, struct err *e)
{
        cJSON *run = NULL, *body = NULL;
        int rc = 0;

        if (c->o.name &&
            (!(body = cJSON_CreateObject()) || !cJSON_AddStringToObject(body, "reason", c->o.name)))
                rc = no_memory(e);
        if (!rc)
                rc = request(c, "POST", client_path("/runs/%s/cancel", c->args[0]), body, &run, e);
        if (!rc && !print_doc(c, run))
                note("run %s: %s", c->args[0],
                     strcmp(jstr(run, "state"), "cancelled") == 0 ? "cancelled"
                                                                  : "its tools are being stopped");
        cJSON_Delete(run);
        cJSON_Delete(body);
        return rc;
}

int cmd_run_retry(struct cli *c, struct err *e)
{
        cJSON *run = NULL;
        int rc = request(c, "POST", client_path("/runs/%s/retry", c->args[0]), NULL, &run, e);

        if (!rc && !print_doc(c, run))
                note("run %s goes on; follow it: photon run watch %s", c->args[0], c->args[0]);
        cJSON_Delete(run);
        return rc;
}

int cmd_run_resolve(struct cli *c, struct err *e)
{
        const char *what = c->args[2];
        cJSON *run = NULL, *body;
        int rc;

        if (strcmp(what, "retry") != 0 && strcmp(what, "succeeded") != 0 && strcmp(what, "failed") != 0)
                return cli_usage(c, "\"%.40s\": expected retry, succeeded or failed", what);
        body = cJSON_CreateObject();
        rc = body && cJSON_AddStringToObject(body, "outcome", what) ? 0 : no_memory(e);
        if (!rc)
                rc = request(c, "POST", client_path("/runs/%s/steps/%s/resolve", c->args[0], c->args[1]),
                             body, &run, e);
        if (!rc && !print_doc(c, run))
                note("step %s of run %s: %s", c->args[1], c->args[0],
                     strcmp(what, "retry") == 0 ? "tried again" : what);
        cJSON_Delete(body);
        cJSON_Delete(run);
        return rc;
}

/* ---- explain ---- */

int cmd_run_explain(struct cli *c, struct err *e)
{
        char *path = client_path("/runs/%s/explain", c->args[0]);
        cJSON *doc = NULL;
        int rc = path && !add_query(&path, "step", c->n_args > 1 ? c->args[1] : NULL) ? 0 : no_memory(e);

        if (rc)
                mem_free(path);
        else
                rc = request(c, "GET", path, NULL, &doc, e);
        if (!rc && !print_doc(c, doc))
                explain_draw(doc);
        cJSON_Delete(doc);
        return rc;
}

/* ---- validate ---- */

int cmd_validate(struct cli *c, struct err *e)
{
        const char *file = c->args[0];
        cJSON *body = NULL, *doc = NULL;
        const cJSON *errors;
        char *text = NULL;
        size_t n = 0;
        int rc = read_workflow(file, &text, &n, e);

        if (!rc && (!(body = cJSON_CreateObject()) || !cJSON_AddStringToObject(body, "workflow", text)))
                rc = no_memory(e);
        if (!rc)
                rc = client_json(c->client, "POST", "/api/v1/validate", body, &doc, e);
        mem_free(text);
        cJSON_Delete(body);
        if (rc)
                return rc;
        errors = jget(doc, "errors");
        rc = jbool(doc, "valid") ? STATUS_OK : STATUS_FAILED;
        if (!print_doc(c, doc)) {
                for (const cJSON *m = errors ? errors->child : NULL; m; m = m->next)
                        place_error(shown_name(file), (int)jnum(m, "line"), (int)jnum(m, "column"),
                                    jstr(m, "message"));
                if (!rc)
                        printf("%s: a valid workflow, %s with %lld step%s\n", shown_name(file),
                               jstr(doc, "name"), (long long)jnum(doc, "steps"),
                               jnum(doc, "steps") == 1 ? "" : "s");
        }
        cJSON_Delete(doc);
        return rc;
}
