/* What tools a server has: asked page by page, kept on disk, made into rows. */
#include <string.h>

#include "agent/tools/mcp_in.h"
#include "common/file.h"
#include "common/json.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/str.h"

/* --- rows ------------------------------------------------------------------------------- */

struct fresh {
        struct mcp_tool *v[MCP_TOOLS_MAX];
        size_t n;
};

static bool is_taken(void *arg, const char *name)
{
        struct fresh *f = arg;

        for (size_t i = 0; i < f->n; i++)
                if (strcmp(f->v[i]->name, name) == 0)
                        return true;
        return false;
}

static void unlist_one(struct mcp_tool *t)
{
        if (t->listed)
                tool_remove(&t->row);
        t->listed = false;
        mcp_tool_free(t);
}

void list_unlist(struct mcp_server *s)
{
        for (size_t i = 0; i < s->n_tools; i++)
                unlist_one(s->tools[i]);
        mem_free(s->tools);
        s->tools = NULL;
        s->n_tools = 0;
}

/* The one that is there already and says the same; taken out of the old ones. */
static struct mcp_tool *keep(struct mcp_server *s, const struct mcp_tool *fresh)
{
        for (size_t i = 0; i < s->n_tools; i++) {
                struct mcp_tool *old = s->tools[i];

                if (old && mcp_tool_same(old, fresh)) {
                        s->tools[i] = s->tools[--s->n_tools];
                        return old;
                }
        }
        return NULL;
}

static void add_row(struct mcp_server *s, struct mcp_tool *t)
{
        int rc;

        t->server = s;
        t->row.start = mcp_call_start;
        t->row.cancel = mcp_call_cancel;
        t->row.output_room = mcp_call_room;
        t->row.free = mcp_call_free;
        rc = tool_add(&t->row);
        t->listed = rc == 0;
        if (rc)
                log_warn("mcp", "a tool cannot be added", "tool=%s error=%s", t->name, err_name(rc));
}

/* -E_NOMEM: the old ones stay. */
static int install(struct mcp_server *s, const cJSON *told)
{
        struct fresh *f = mem_calloc(1, sizeof *f);
        struct mcp_tool **v = mem_calloc(MCP_TOOLS_MAX, sizeof(struct mcp_tool *));
        const cJSON *x;

        if (!f || !v) {
                mem_free(f);
                mem_free(v);
                return -E_NOMEM;
        }
        cJSON_ArrayForEach(x, told)
        {
                struct err e = {0};

                if (f->n == MCP_TOOLS_MAX) {
                        log_warn("mcp", "a server has too many tools; the rest is left out",
                                 "server=%s max=%d", s->config->name, MCP_TOOLS_MAX);
                        break;
                }
                if (mcp_tool_make(s->config->name, x, is_taken, f, &f->v[f->n], &e) == 0)
                        f->n++;
                else
                        log_warn("mcp", "a tool of a server is left out", "server=%s error=\"%s\"",
                                 s->config->name, e.msg);
        }
        for (size_t i = 0; i < f->n; i++) {
                struct mcp_tool *old = keep(s, f->v[i]);

                v[i] = old ? old : f->v[i];
                if (old) {
                        mcp_tool_free(f->v[i]);
                        f->v[i] = NULL;
                }
        }
        list_unlist(s); /* what is not there any more */
        s->tools = v;
        s->n_tools = f->n;
        for (size_t i = 0; i < f->n; i++)
                if (f->v[i])
                        add_row(s, f->v[i]);
        s->listed = true;
        mem_free(f);
        return 0;
}

/* --- on disk ------------------------------------------------------------------------------- */

struct saving {
        uv_work_t work;
        char *dir, *path, *text;
        struct err why;
        int rc;
};

static void save(uv_work_t *w)
{
        struct saving *x = container_of(w, struct saving, work);

        x->rc = file_mkdir_private(x->dir, &x->why);
        if (!x->rc)
                x->rc = file_write_atomic(x->path, x->text, strlen(x->text), 0600, &x->why);
}

static void saving_free(struct saving *x)
{
        mem_free(x->dir);
        mem_free(x->path);
        mem_free(x->text);
        mem_free(x);
}

static void on_saved(uv_work_t *w, int status)
{
        struct saving *x = container_of(w, struct saving, work);

        (void)status;
        if (x->rc)
                log_warn("mcp", "a server's tools cannot be kept on disk", "error=\"%s\"", x->why.msg);
        saving_free(x);
}

static char *cache_path(const struct mcp_server *s)
{
        return str_printf("%s/%s.json", mcp.cache_dir, s->config->name);
}

/* Failing to save costs a start of the server next time, nothing else. */
static void keep_on_disk(struct mcp_server *s, cJSON *told)
{
        struct saving *x = mcp.cache_dir ? mem_calloc(1, sizeof *x) : NULL;
        cJSON *o = x ? cJSON_CreateObject() : NULL;

        if (!x)
                return;
        if (o && cJSON_AddStringToObject(o, "config", s->config->sha) &&
            cJSON_AddBoolToObject(o, "legacy", !s->modern) &&
            cJSON_AddItemReferenceToObject(o, "tools", told))
                x->text = json_text(o);
        cJSON_Delete(o);
        x->dir = mem_strdup(mcp.cache_dir);
        x->path = cache_path(s);
        if (!x->text || !x->dir || !x->path || strlen(x->text) > MCP_CACHE_MAX ||
            uv_queue_work(mcp.o.loop, &x->work, save, on_saved))
                saving_free(x);
}

void list_load(struct mcp_server *s)
{
        char *path = mcp.cache_dir ? cache_path(s) : NULL, *text = NULL;
        const char *sha = NULL;
        const cJSON *told = NULL;
        cJSON *v = NULL;
        size_t n = 0;

        if (path && file_read(path, MCP_CACHE_MAX, &text, &n, NULL) == 0 &&
            json_parse(text, n, &v, NULL) == 0 && json_str(v, "config", &sha, NULL) == 0 &&
            strcmp(sha, s->config->sha) == 0 && json_arr_opt(v, "tools", &told, NULL) == 0 && told &&
            install(s, told) == 0)
                s->known_legacy =
                        cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(v, "legacy")) && s->config->command;
        cJSON_Delete(v);
        mem_free(text);
        mem_free(path);
}

/* --- asking ----------------------------------------------------------------------------------- */

static void on_page(void *arg, const struct jsonrpc_msg *m);

static int ask_page(struct mcp_server *s, const char *cursor)
{
        cJSON *p = cJSON_CreateObject();

        if (!p || !server_envelope(s, p) || (cursor && !cJSON_AddStringToObject(p, "cursor", cursor))) {
                cJSON_Delete(p);
                return -E_NOMEM;
        }
        return jsonrpc_call(&s->rpc, "tools/list", p, on_page, s, &s->list_request);
}

void list_forget(struct mcp_server *s)
{
        jsonrpc_forget(&s->rpc, s->list_request);
        mcp_link_drop(s->link, s->list_request);
        cJSON_Delete(s->pages);
        s->pages = NULL;
}

static void end(struct mcp_server *s, const char *why)
{
        cJSON *pages = s->pages;

        s->pages = NULL;
        if (!why && install(s, pages) == 0)
                keep_on_disk(s, pages);
        else if (!why)
                why = "the agent is out of memory";
        cJSON_Delete(pages);
        server_listed(s, why);
}

static void take_page(struct mcp_server *s, const cJSON *result)
{
        const cJSON *told = NULL;
        const char *cursor = NULL;
        struct err e = {0};
        cJSON *copy, *x;
        char why[600];

        if (json_arr_opt(result, "tools", &told, &e) || json_str_opt(result, "nextCursor", &cursor, &e)) {
                snprintf(why, sizeof why, "its list of tools is wrong: %s", e.msg);
                end(s, why);
                return;
        }
        copy = cJSON_Duplicate(told, true);
        while (copy && (x = copy->child) && cJSON_GetArraySize(s->pages) <= MCP_TOOLS_MAX)
                cJSON_AddItemToArray(s->pages, cJSON_DetachItemViaPointer(copy, x));
        cJSON_Delete(copy);
        if (told && !copy)
                end(s, "the agent is out of memory");
        else if (cursor && ++s->n_pages < MCP_PAGES_MAX && cJSON_GetArraySize(s->pages) <= MCP_TOOLS_MAX) {
                if (ask_page(s, cursor))
                        end(s, "its tools cannot be asked for");
        } else
                end(s, NULL);
}

static void on_page(void *arg, const struct jsonrpc_msg *m)
{
        struct mcp_server *s = arg;
        char why[600];

        if (!s->pages)
                return;
        if (m->kind == JSONRPC_RESULT) {
                take_page(s, m->result);
        } else if (m->code == JSONRPC_METHOD_NOT_FOUND) {
                end(s, NULL); /* it has none */
        } else {
                snprintf(why, sizeof why, "tools/list: %s%s%.300s", s->failure ? s->failure->code : "",
                         s->failure ? ": " : "", m->message);
                end(s, why);
        }
}

int list_begin(struct mcp_server *s)
{
        cJSON_Delete(s->pages);
        s->pages = cJSON_CreateArray();
        s->n_pages = 0;
        if (!s->pages)
                return -E_NOMEM;
        return ask_page(s, NULL);
}
