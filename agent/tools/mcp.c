/* All MCP servers of this agent. */
#include "agent/tools/mcp_in.h"

#include <string.h>

#include "agent/tools/spawn.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/str.h"

struct mcp_set mcp;

/* So many are being started to learn their tools; one that is known from the disk is not. */
void mcp_background(void)
{
        size_t busy = 0;

        for (size_t i = 0; i < mcp.n && mcp.open; i++)
                busy += mcp.servers[i].background;
        for (size_t i = 0; i < mcp.n && mcp.open && busy < MCP_BACKGROUND; i++) {
                struct mcp_server *s = &mcp.servers[i];

                if (s->listed || s->failures > 0 || s->state != SERVER_OFF)
                        continue;
                s->background = true;
                busy++;
                server_want(s); /* may fail at once, and then call this again */
        }
}

static int set_up(struct mcp_set *m, const struct mcp_options *o, struct err *e)
{
        m->o = *o;
        m->scratch_root = mem_strdup(o->scratch_root);
        m->cache_dir = o->cache_dir ? mem_strdup(o->cache_dir) : NULL;
        m->servers = mem_calloc(m->configs.n ? m->configs.n : 1, sizeof *m->servers);
        if (!m->scratch_root || (o->cache_dir && !m->cache_dir) || !m->servers)
                return err_set(e, E_NOMEM, "out of memory");
        for (size_t i = 0; i < m->configs.n; i++) {
                struct mcp_server *s = &m->servers[m->n++];

                s->config = &m->configs.v[i];
                list_init(&s->waiting);
                list_init(&s->calls);
                uv_timer_init(o->loop, &s->clock);
                uv_timer_init(o->loop, &s->probe);
                s->clock.data = s->probe.data = s;
                m->handles += 2;
        }
        return 0;
}

static void release(void)
{
        mem_free(mcp.servers);
        mem_free(mcp.scratch_root);
        mem_free(mcp.cache_dir);
        mcp_configs_free(&mcp.configs);
        memset(&mcp, 0, sizeof mcp);
}

int mcp_open(const struct mcp_options *o, struct mcp_configs *configs, struct err *e)
{
        int rc;

        if (mcp.open || mcp.servers) {
                mcp_configs_free(configs);
                return err_set(e, E_STATE, "MCP servers are open already");
        }
        mcp.configs = *configs;
        memset(configs, 0, sizeof *configs);
        rc = set_up(&mcp, o, e);
        if (rc) {
                release();
                return rc;
        }
        mcp.open = true;
        for (size_t i = 0; i < mcp.n; i++)
                list_load(&mcp.servers[i]);
        mcp_background();
        return 0;
}

static void on_closed(uv_handle_t *h)
{
        (void)h;
        if (--mcp.handles == 0)
                release();
}

void mcp_close(void)
{
        if (!mcp.open)
                return;
        mcp.open = false;
        for (size_t i = 0; i < mcp.n; i++) {
                struct mcp_server *s = &mcp.servers[i];

                if (s->link) {
                        mcp_link_abandon(s->link);
                        jsonrpc_fini(&s->rpc);
                }
                s->link = NULL;
                list_unlist(s);
                cJSON_Delete(s->pages);
                mem_free(s->error);
                uv_close((uv_handle_t *)&s->clock, on_closed);
                uv_close((uv_handle_t *)&s->probe, on_closed);
        }
        if (mcp.n == 0)
                release();
}

static cJSON *describe_one(const struct mcp_server *s)
{
        cJSON *o = cJSON_CreateObject();

        if (o && cJSON_AddStringToObject(o, "name", s->config->name) &&
            cJSON_AddStringToObject(o, "kind", s->config->command ? "stdio" : "http") &&
            cJSON_AddStringToObject(o, "state", server_state_name(s->state)) &&
            (!s->link || !s->link->version[0] || cJSON_AddStringToObject(o, "revision", s->link->version)) &&
            cJSON_AddNumberToObject(o, "tools", (double)s->n_tools) &&
            (!s->error || cJSON_AddStringToObject(o, "error", s->error)))
                return o;
        cJSON_Delete(o);
        return NULL;
}

cJSON *mcp_describe(void)
{
        cJSON *list = cJSON_CreateArray();

        for (size_t i = 0; i < mcp.n && list; i++) {
                cJSON *o = describe_one(&mcp.servers[i]);

                if (!o || !cJSON_AddItemToArray(list, o)) {
                        cJSON_Delete(o);
                        cJSON_Delete(list);
                        return NULL;
                }
        }
        return list;
}
