/* resources/list, resources/templates/list, resources/read: the API's documents by their URIs. */
#include "hub/http/mcp_resources.h"

#include <stdio.h>
#include <string.h>

#include "common/json.h"
#include "common/mem.h"
#include "hub/http/denials.h"
#include "hub/http/guard.h"
#include "hub/http/jsonw.h"
#include "hub/http/mcp.h"

#define E_NO_RESOURCE   (-32002) /* up to 2025-11-25; MCP_E_PARAMS since */
#define SCHEME          "photon://"
#define PATTERN_PREFIX  "/api/v1/"
#define URI_ID_ALPHABET "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_"

static const struct kind {
        const char *uri;     /* up to the id */
        const char *param;   /* of the template; NULL: there is only the one */
        const char *pattern; /* GET */
        enum permission perm;
        const char *name, *title, *description;
} kinds[MCP_RESOURCE_KINDS] = {
        [MCP_RUNS] = {SCHEME "runs", NULL, PATTERN_PREFIX "runs", PERM_RUNS_READ, "runs", "Runs",
                      "The newest runs and calls with their states, as list_runs has them."},
        [MCP_RUN] = {SCHEME "runs/", "run", PATTERN_PREFIX "runs/{id}", PERM_RUNS_READ, "run", "A run",
                     "One run as it is now, with its steps and their outputs, as get_run has it."},
        [MCP_CHECKPOINTS] = {SCHEME "checkpoints", NULL, PATTERN_PREFIX "checkpoints", PERM_CHECKPOINTS_READ,
                             "checkpoints", "Open questions to people",
                             "What waits for an answer of a person, as list_checkpoints has it."},
        [MCP_CHECKPOINT] = {SCHEME "checkpoints/", "checkpoint", PATTERN_PREFIX "checkpoints/{id}",
                            PERM_CHECKPOINTS_READ, "checkpoint", "A question to people",
                            "One question with the exact arguments it asks about, as get_checkpoint has it."},
};

/* ---- the table ---- */

int mcp_resource_parse(const char *uri, struct mcp_resource *out)
{
        for (int i = 0; i < MCP_RESOURCE_KINDS; i++) {
                const struct kind *k = &kinds[i];
                size_t n = strlen(k->uri);
                const char *id = uri + n;

                if (strncmp(uri, k->uri, n) != 0 || !*id != !k->param)
                        continue;
                if (strlen(id) >= sizeof out->id || id[strspn(id, URI_ID_ALPHABET)])
                        continue;
                out->kind = (enum mcp_resource_kind)i;
                memcpy(out->id, id, strlen(id) + 1);
                return 0;
        }
        return -E_NOENT;
}

void mcp_resource_uri(const struct mcp_resource *r, char out[MCP_RESOURCE_URI])
{
        snprintf(out, MCP_RESOURCE_URI, "%s%s", kinds[r->kind].uri, r->id);
}

enum permission mcp_resource_permission(enum mcp_resource_kind kind)
{
        return kinds[kind].perm;
}

const char *mcp_resource_pattern(enum mcp_resource_kind kind)
{
        return kinds[kind].pattern;
}

/* ---- what there is ---- */

static bool offered(const struct kind *k, const struct caller *who)
{
        const struct route *r = mcp_route("GET", k->pattern);

        return r && guard_offers(who, r);
}

static void put_kind(struct jsonw *w, const struct kind *k)
{
        char template[MCP_RESOURCE_URI];

        jw_open(w, NULL, '{');
        if (k->param) {
                snprintf(template, sizeof template, "%s{%s}", k->uri, k->param);
                jw_str(w, "uriTemplate", template);
        } else {
                jw_str(w, "uri", k->uri);
        }
        jw_str(w, "name", k->name);
        jw_str(w, "title", k->title);
        jw_str(w, "description", k->description);
        jw_str(w, "mimeType", "application/json");
        jw_close(w, '}');
}

struct listed {
        const struct caller *who;
        bool templates;
};

static void put_kinds(struct jsonw *w, void *arg)
{
        const struct listed *l = arg;

        for (int i = 0; i < MCP_RESOURCE_KINDS; i++)
                if (!kinds[i].param == !l->templates && offered(&kinds[i], l->who))
                        put_kind(w, &kinds[i]);
}

int mcp_resources_list(struct http_req *q, struct mcp_call *c)
{
        return mcp_answer_list(q, c, "resources", put_kinds, &(struct listed){&q->caller, false});
}

int mcp_resource_templates(struct http_req *q, struct mcp_call *c)
{
        return mcp_answer_list(q, c, "resourceTemplates", put_kinds, &(struct listed){&q->caller, true});
}

/* ---- reading ---- */

/* {"uri":...,"code":...}: what was asked for, and why it is not given. */
static int refuse(struct mcp_call *c, bool absent, const char *why, const char *code)
{
        struct jsonw w;
        struct buf b;
        int number = !absent ? MCP_E_SERVER : c->terms.era == MCP_MODERN ? MCP_E_PARAMS : E_NO_RESOURCE;

        buf_init(&b, 0);
        jw_begin(&w, &b);
        jw_open(&w, NULL, '{');
        jw_str(&w, "uri", c->uri);
        jw_str(&w, "code", code);
        jw_close(&w, '}');
        if (!jw_end(&w))
                c->fault.data = buf_steal_str(&b);
        buf_fini(&b);
        return mcp_fault_set(&c->fault, number, 200, "%s", why);
}

static int on_problem(struct http_req *q, struct mcp_call *c)
{
        const char *detail, *code;
        cJSON *doc = mcp_problem(q, &detail, &code);
        int rc = refuse(c, strcmp(code, "not_found") == 0, detail, code);

        cJSON_Delete(doc);
        return rc;
}

static int on_document(struct http_req *q, struct mcp_call *c, const char *text, size_t n)
{
        struct buf b;
        int rc;

        buf_init(&b, 0);
        rc = buf_puts(&b, "\"contents\":[{\"uri\":");
        if (!rc)
                rc = json_append_str(&b, c->uri, strlen(c->uri));
        if (!rc)
                rc = buf_puts(&b, ",\"mimeType\":\"application/json\",\"text\":");
        if (!rc)
                rc = json_append_str(&b, text, n);
        if (!rc)
                rc = buf_puts(&b, "}]");
        /* As it is now: nobody should keep it for longer than that. */
        if (!rc && c->terms.era == MCP_MODERN)
                rc = buf_puts(&b, ",\"ttlMs\":0,\"cacheScope\":\"private\"");
        if (!rc)
                rc = buf_putc(&b, '\0');
        rc = rc ? mcp_no_memory(c) : mcp_answer(q, c, (const char *)b.data);
        buf_fini(&b);
        return rc;
}

static int deliver(struct http_req *q, struct mcp_call *c, bool good)
{
        size_t n = q->out.len;
        char *text;
        int rc;

        if (!good)
                return on_problem(q, c);
        if (n > MCP_RESULT_MAX)
                return refuse(c, false,
                              "it is larger than 4 MiB: get_run with steps=false has the run itself",
                              "too_large");
        text = buf_steal_str(&q->out);
        if (!text)
                return mcp_no_memory(c);
        rc = on_document(q, c, text, n);
        mem_free(text);
        return rc;
}

static int enter(struct http_req *q, struct mcp_call *c, const char *pattern, struct err *e)
{
        const struct route *r = mcp_route("GET", pattern);
        int rc;

        if (!guard_offers(&q->caller, r)) {
                (void)guard_denied(&q->caller, r->perm, e);
                denials_note(q, r, 403, e->msg);
                return -E_DENIED;
        }
        c->query = cJSON_CreateObject();
        if (!c->query)
                return err_set(e, E_NOMEM, "out of memory");
        q->param[0] = c->resource.id[0] ? c->resource.id : NULL;
        rc = mcp_admit(q, c, r, e);
        return rc ? rc : mcp_enter(q, c, "GET", pattern, e);
}

int mcp_resources_read(struct http_req *q, struct mcp_call *c)
{
        struct err e = {0};
        const char *code;
        char why[200];
        int rc;

        c->uri = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(c->msg.params, "uri"));
        if (!c->uri)
                return mcp_fault_set(&c->fault, MCP_E_PARAMS, 200, "params.uri must be text");
        if (mcp_resource_parse(c->uri, &c->resource)) {
                snprintf(why, sizeof why,
                         "there is no resource %.100s here; resources/list and resources/templates/list name "
                         "them",
                         c->uri);
                return refuse(c, true, why, "not_found");
        }
        c->deliver = deliver;
        rc = enter(q, c, kinds[c->resource.kind].pattern, &e);
        if (!rc)
                return 0;
        code = q->problem_code ? q->problem_code : err_name(rc);
        mcp_leave(q, c);
        if (c->fault.code)
                return -1;
        return refuse(c, rc == -E_NOENT, e.msg[0] ? e.msg : err_name(rc), code);
}
