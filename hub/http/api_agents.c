/* Agents and the tools they have. Their live state is the loop's, so each of
 * these takes the hop. */
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/mem.h"
#include "hub/http/api.h"
#include "hub/http/idem.h"
#include "hub/http/request.h"

#define LABELS_MAX 64

static const struct http_hub_ops *ops(const struct http_req *q)
{
        return &q->h->o.ops;
}

/* ---- reading ---- */

static void describe_on_loop(struct http_req *q)
{
        struct err e = {0};

        q->json = ops(q)->agent_describe(ops(q)->ctx, q->param[0]);
        req_done(q, q->json ? 0 : err_set(&e, E_NOENT, "there is no agent '%.128s'", q->param[0]), &e);
}

int api_agent_get(struct http_req *q, struct err *e)
{
        (void)e;
        req_hop(q, describe_on_loop, NULL);
        return 0;
}

static void list_on_loop(struct http_req *q)
{
        struct err e = {0};

        q->json = ops(q)->agents_describe(ops(q)->ctx);
        req_done(q, q->json ? 0 : err_set(&e, E_NOMEM, "out of memory"), &e);
}

static const char *text_of(const cJSON *o, const char *key)
{
        const char *s = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, key));

        return s ? s : "";
}

static int by_name(const void *a, const void *b)
{
        return strcmp(text_of(*(cJSON *const *)a, "name"), text_of(*(cJSON *const *)b, "name"));
}

/* cJSON's arrays are lists: through a vector and back. Takes `all`; NULL: no memory. */
static cJSON *sorted(cJSON *all)
{
        size_t n = (size_t)cJSON_GetArraySize(all), i = 0;
        cJSON **v = mem_calloc(n ? n : 1, sizeof *v), *out = cJSON_CreateArray(), *item;

        if (!v || !out) {
                cJSON_Delete(out);
                out = NULL;
                goto done;
        }
        while ((item = all->child))
                v[i++] = cJSON_DetachItemViaPointer(all, item);
        qsort(v, n, sizeof *v, by_name);
        for (i = 0; i < n; i++)
                cJSON_AddItemToArray(out, v[i]);
done:
        mem_free(v);
        cJSON_Delete(all);
        return out;
}

static int page_by_name(struct http_req *q, cJSON *all, struct err *e)
{
        all = sorted(all);
        return all ? req_page(q, all, "name", e) : err_set(e, E_NOMEM, "out of memory");
}

static int list_after(struct http_req *q, struct err *e)
{
        cJSON *all = q->json;

        q->json = NULL;
        return page_by_name(q, all, e);
}

int api_agents_list(struct http_req *q, struct err *e)
{
        (void)e;
        req_hop(q, list_on_loop, list_after);
        return 0;
}

/* A tool is a name, or an object with a name and what else is known of it. */
static int add_tool(cJSON *tools, const cJSON *tool, const char *agent)
{
        const char *name = cJSON_IsString(tool) ? tool->valuestring : text_of(tool, "name");
        cJSON *have, *who;

        if (!*name)
                return 0;
        have = cJSON_GetObjectItemCaseSensitive(tools, name);
        if (!have) {
                have = cJSON_IsObject(tool) ? cJSON_Duplicate(tool, true) : cJSON_CreateObject();
                if (!have)
                        return -E_NOMEM;
                if (!cJSON_IsObject(tool) && !cJSON_AddStringToObject(have, "name", name))
                        goto fail;
                if (!cJSON_AddArrayToObject(have, "agents") || !cJSON_AddItemToObject(tools, name, have))
                        goto fail;
        }
        who = cJSON_CreateString(agent);
        if (!who)
                return -E_NOMEM;
        cJSON_AddItemToArray(cJSON_GetObjectItemCaseSensitive(have, "agents"), who);
        return 0;
fail:
        cJSON_Delete(have);
        return -E_NOMEM;
}

static int tools_after(struct http_req *q, struct err *e)
{
        cJSON *agents = q->json, *tools = cJSON_CreateObject(), *list = cJSON_CreateArray(), *item;
        int rc = tools && list ? 0 : -E_NOMEM;

        q->json = NULL;
        for (const cJSON *a = agents->child; !rc && a; a = a->next) {
                const cJSON *has = cJSON_GetObjectItemCaseSensitive(a, "tools");

                if (strcmp(text_of(a, "state"), "revoked") == 0)
                        continue;
                for (const cJSON *t = has ? has->child : NULL; !rc && t; t = t->next)
                        rc = add_tool(tools, t, text_of(a, "name"));
        }
        while (!rc && (item = tools->child))
                cJSON_AddItemToArray(list, cJSON_DetachItemViaPointer(tools, item));
        cJSON_Delete(agents);
        cJSON_Delete(tools);
        if (!rc)
                return page_by_name(q, list, e);
        cJSON_Delete(list);
        return err_set(e, E_NOMEM, "out of memory");
}

int api_tools_list(struct http_req *q, struct err *e)
{
        (void)e;
        req_hop(q, list_on_loop, tools_after);
        return 0;
}

/* ---- changing ---- */

static void redescribe(struct http_req *q)
{
        q->json = ops(q)->agent_describe(ops(q)->ctx, q->param[0]);
}

static void on_changed(void *arg, int rc, const struct err *e)
{
        struct http_req *q = arg;

        if (!req_paid(q))
                return;
        if (!rc)
                redescribe(q);
        req_done(q, rc, e);
}

static bool begin(struct http_req *q)
{
        if (q->idem && q->idem->replay) {
                redescribe(q);
                req_done(q, 0, NULL);
                return false;
        }
        auth_act_as(q->h->o.auth, q->caller.name);
        req_owe(q);
        return true;
}

static void drain_on_loop(struct http_req *q)
{
        if (begin(q))
                ops(q)->agent_drain(ops(q)->ctx, q->param[0], true, on_changed, q);
}

static void undrain_on_loop(struct http_req *q)
{
        if (begin(q))
                ops(q)->agent_drain(ops(q)->ctx, q->param[0], false, on_changed, q);
}

static void revoke_on_loop(struct http_req *q)
{
        if (begin(q))
                ops(q)->agent_revoke(ops(q)->ctx, q->param[0], on_changed, q);
}

static int change(struct http_req *q, void (*on_loop)(struct http_req *q), struct err *e)
{
        static const char *const keys[] = {NULL};
        cJSON *doc = NULL;
        int rc = idem_read(q, e);

        if (!rc)
                rc = req_body_json(q, keys, true, &doc, e);
        cJSON_Delete(doc);
        if (!rc)
                req_hop(q, on_loop, NULL);
        return rc;
}

int api_agent_drain(struct http_req *q, struct err *e)
{
        return change(q, drain_on_loop, e);
}

int api_agent_undrain(struct http_req *q, struct err *e)
{
        return change(q, undrain_on_loop, e);
}

int api_agent_revoke(struct http_req *q, struct err *e)
{
        return change(q, revoke_on_loop, e);
}

static void label_on_loop(struct http_req *q)
{
        auth_act_as(q->h->o.auth, q->caller.name);
        req_owe(q);
        ops(q)->agent_label(ops(q)->ctx, q->param[0], q->state, on_changed, q);
}

static void free_json(void *p)
{
        cJSON_Delete(p);
}

int api_agent_labels(struct http_req *q, struct err *e)
{
        cJSON *doc = NULL;
        int rc = req_body_json(q, NULL, false, &doc, e);

        if (!rc && cJSON_GetArraySize(doc) > LABELS_MAX)
                rc = err_set(e, E_INVAL, "at most %d labels at once", LABELS_MAX);
        for (const cJSON *m = doc ? doc->child : NULL; !rc && m; m = m->next)
                if (!cJSON_IsString(m) && !cJSON_IsNull(m))
                        rc = err_set(e, E_INVAL, "label '%.64s' must be text, or null to remove it",
                                     m->string);
        if (rc) {
                cJSON_Delete(doc);
                return rc;
        }
        req_keep(q, doc, free_json);
        req_hop(q, label_on_loop, NULL);
        return 0;
}
