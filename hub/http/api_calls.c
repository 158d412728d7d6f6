/* One tool call: a run of kind "call" with one step, and its standard input. */
#include <stdio.h>
#include <string.h>

#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"
#include "hub/http/api.h"
#include "hub/http/jsonw.h"
#include "hub/http/request.h"
#include "hub/http/submit.h"
#include "hub/model/workflow.h"
#include "hub/store/store.h"

struct call {
        const char *tool, *agent, *timeout, *effect;
        const cJSON *input, *labels, *secrets;
        bool in;
};

/* Agents, labels and the like are templates in a workflow; in a call they are meant as they stand. */
static int plain(const char *what, const char *s, struct err *e)
{
        if (s && strstr(s, "${{"))
                return err_set(e, E_INVAL, "\"%s\" of a call is taken as it stands: no ${{ }} there", what);
        return 0;
}

static int read_call(const cJSON *doc, struct call *c, struct err *e)
{
        int rc = json_str(doc, "tool", &c->tool, e);

        if (!rc)
                rc = json_obj_opt(doc, "input", &c->input, e);
        if (!rc)
                rc = json_str_opt(doc, "agent", &c->agent, e);
        if (!rc)
                rc = json_obj_opt(doc, "labels", &c->labels, e);
        if (!rc)
                rc = json_str_opt(doc, "timeout", &c->timeout, e);
        if (!rc)
                rc = json_str_opt(doc, "effect", &c->effect, e);
        if (!rc)
                rc = json_bool_opt(doc, "stdin", &c->in, e);
        if (!rc)
                rc = json_arr_opt(doc, "secrets", &c->secrets, e);
        if (!rc && c->agent && c->labels)
                rc = err_set(e, E_INVAL, "give \"agent\" or \"labels\", not both");
        if (!rc)
                rc = plain("tool", c->tool, e);
        if (!rc)
                rc = plain("agent", c->agent, e);
        for (const cJSON *l = c->labels ? c->labels->child : NULL; !rc && l; l = l->next)
                rc = cJSON_IsString(l) ? plain("labels", l->valuestring, e)
                                       : err_set(e, E_INVAL, "label '%.64s' must be text", l->string);
        return rc;
}

/* inputs.input['key'], a quote in the key doubled. */
static int put_reference(struct jsonw *w, const char *key)
{
        struct buf expr, name;
        int rc;

        buf_init(&expr, 0);
        buf_init(&name, 0);
        rc = buf_puts(&expr, "${{ inputs.input['");
        for (const char *p = key; !rc && *p; p++)
                rc = *p == '\'' ? buf_puts(&expr, "''") : buf_putc(&expr, *p);
        if (!rc)
                rc = buf_put(&expr, "'] }}", 6); /* with the NUL */
        /* The key comes from outside, so it is escaped, unlike jsonw's own. */
        if (!rc)
                rc = json_append_str(&name, key, strlen(key));
        if (!rc)
                rc = buf_putc(&name, ':');
        if (!rc)
                rc = json_append_str(&name, (const char *)expr.data, expr.len - 1);
        if (!rc)
                rc = buf_putc(&name, '\0');
        if (!rc)
                jw_raw(w, NULL, (const char *)name.data, "");
        buf_fini(&expr);
        buf_fini(&name);
        return rc;
}

/* The definition names the tool and its arguments; their values are the run's inputs. So
 * they are never read as expressions, and equal calls share one definition in the store. */
static int write_definition(const struct call *c, struct buf *b)
{
        struct jsonw w;
        int rc = 0;

        jw_begin(&w, b);
        jw_open(&w, NULL, '{');
        jw_str(&w, "name", c->tool);
        if (c->in)
                jw_str(&w, "description", ENGINE_CALL_STDIN);
        jw_raw(&w, "inputs", "{\"input\":{\"type\":\"object\"}}", "");
        jw_open(&w, "steps", '[');
        jw_open(&w, NULL, '{');
        jw_str(&w, "id", "call");
        jw_str(&w, "uses", c->tool);
        jw_open(&w, "with", '{');
        for (const cJSON *m = c->input ? c->input->child : NULL; !rc && m; m = m->next)
                rc = put_reference(&w, m->string);
        jw_close(&w, '}');
        if (c->agent)
                jw_str(&w, "agent", c->agent);
        if (c->labels) {
                char *labels = json_text(c->labels);

                jw_raw(&w, "runs-on", labels, "{}");
                rc = labels ? rc : -E_NOMEM;
                mem_free(labels);
        }
        if (c->secrets) { /* named as in a workflow, which checks them */
                char *secrets = json_text(c->secrets);

                jw_raw(&w, "secrets", secrets, "[]");
                rc = secrets ? rc : -E_NOMEM;
                mem_free(secrets);
        }
        if (c->timeout)
                jw_str(&w, "timeout", c->timeout);
        if (c->effect)
                jw_str(&w, "effect", c->effect);
        jw_close(&w, '}');
        jw_close(&w, ']');
        jw_close(&w, '}');
        return rc ? rc : jw_end(&w);
}

static int prepare(const struct call *c, struct submit *s, struct err *e)
{
        struct buf b;
        cJSON *given;
        int rc;

        buf_init(&b, 0);
        rc = write_definition(c, &b);
        s->len = b.len;
        s->text = rc ? NULL : buf_steal_str(&b);
        buf_fini(&b);
        if (!s->text)
                return err_set(e, E_NOMEM, "out of memory");
        rc = workflow_parse(s->text, s->len, &s->wf, e);
        if (rc) {
                e->line = e->col = 0; /* of a text that the caller never saw */
                return rc;
        }
        given = cJSON_CreateObject();
        if (given && c->input)
                cJSON_AddItemReferenceToObject(given, "input", (cJSON *)(uintptr_t)c->input);
        else if (given)
                cJSON_AddObjectToObject(given, "input");
        rc = given ? workflow_inputs(s->wf, given, false, &s->inputs, e)
                   : err_set(e, E_NOMEM, "out of memory");
        cJSON_Delete(given);
        s->kind = "call";
        s->stdin_follows = c->in;
        return rc;
}

int api_calls_create(struct http_req *q, struct err *e)
{
        static const char *const keys[] = {"tool",   "input", "agent",   "labels", "timeout",
                                           "effect", "stdin", "secrets", NULL};
        struct call c = {0};
        struct submit *s = NULL;
        cJSON *doc = NULL;
        int rc = req_body_json(q, keys, false, &doc, e);

        if (!rc)
                rc = read_call(doc, &c, e);
        if (!rc) {
                s = submit_create();
                rc = s ? prepare(&c, s, e) : err_set(e, E_NOMEM, "out of memory");
        }
        cJSON_Delete(doc);
        if (rc) {
                submit_free(s);
                return rc;
        }
        return submit_go(q, s, e);
}

/* ---- standard input ---- */

struct input {
        int64_t offset;
        uint64_t taken;
        bool eof;
};

static void stdin_on_loop(struct http_req *q)
{
        struct input *i = q->state;
        struct err e = {0};
        int rc = engine_stdin(q->h->o.engine, q->param[0], (uint64_t)i->offset, q->body.data, q->body.len,
                              i->eof, &i->taken, &e);

        if (rc == -E_FULL || rc == -E_INVAL || rc == -E_CLOSED || rc == -E_STATE) {
                q->problem_status = 409;
                snprintf(q->problem_extra, sizeof q->problem_extra, "\"taken\":%llu",
                         (unsigned long long)i->taken);
        }
        req_done(q, rc, &e);
}

static int stdin_after(struct http_req *q, struct err *e)
{
        const struct input *i = q->state;

        (void)e;
        return buf_printf(&q->out, "{\"taken\":%llu}", (unsigned long long)i->taken);
}

static int on_run(void *arg, const struct row_run *r)
{
        *(enum run_state *)arg = r->state;
        return 0;
}

int api_run_stdin(struct http_req *q, struct err *e)
{
        struct input *i = mem_calloc(1, sizeof *i);
        struct store_reader *r = req_reader(q, e);
        enum run_state state = RUN_RUNNING;
        int rc;

        if (!i || !r) {
                mem_free(i);
                return r ? err_set(e, E_NOMEM, "out of memory") : -E_UNAVAIL;
        }
        req_keep(q, i, mem_free);
        rc = req_query_i64(q, "offset", 0, INT64_MAX, &i->offset, e);
        if (!rc)
                rc = req_query_bool(q, "eof", false, &i->eof, e);
        if (!rc && q->body.len && !req_body_is(q, "application/octet-stream")) {
                q->problem_status = 415;
                q->problem_code = "unsupported_media_type";
                rc = err_set(e, E_INVAL, "send the bytes as Content-Type: application/octet-stream");
        }
        if (rc)
                return rc;
        rc = read_run(r, q->param[0], on_run, &state);
        if (rc == -E_NOENT)
                return err_set(e, E_NOENT, "there is no run '%.64s'", q->param[0]);
        if (!rc && run_state_final(state))
                return err_set(e, E_STATE, "run %.64s is over: it takes no more input", q->param[0]);
        if (!rc)
                req_hop(q, stdin_on_loop, stdin_after);
        return rc;
}
