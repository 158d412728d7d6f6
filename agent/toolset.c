#include "agent/toolset.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/conf.h"
#include "agent/policy.h"
#include "agent/tools/discover.h"
#include "agent/tools/mcp.h"
#include "agent/tools/mcp_config.h"
#include "agent/tools/process.h"
#include "common/err.h"
#include "common/file.h"
#include "common/log.h"
#include "common/mem.h"

#define ETC_DIR "/etc/photon/tools.d"

int toolset_dirs(const struct agent_conf *conf, struct toolset_dirs *out, struct err *e)
{
        memset(out, 0, sizeof *out);
        if (conf->tools_dirs.n > PLUGIN_DIRS_MAX)
                return err_set(e, E_INVAL, "--tools-dir: at most %d folders", PLUGIN_DIRS_MAX);
        for (size_t i = 0; i < conf->tools_dirs.n; i++)
                out->v[out->n++] = mem_strdup(conf->tools_dirs.v[i]);
        if (out->n == 0) {
                out->v[out->n++] = path_join(conf->data, "tools.d");
                out->v[out->n++] = mem_strdup(ETC_DIR);
        }
        for (size_t i = 0; i < out->n; i++)
                if (!out->v[i]) {
                        toolset_dirs_free(out);
                        return err_set(e, E_NOMEM, "no memory");
                }
        return 0;
}

void toolset_dirs_free(struct toolset_dirs *d)
{
        for (size_t i = 0; i < d->n; i++)
                mem_free(d->v[i]);
        memset(d, 0, sizeof *d);
}

static int open_mcp(uv_loop_t *loop, const struct agent_conf *conf, const struct policy *policy,
                    const char *scratch_root, struct err *e)
{
        struct mcp_configs configs;
        char *cache = path_join(conf->data, "mcp");
        struct mcp_options o = {
                .loop = loop, .policy = policy, .scratch_root = scratch_root, .cache_dir = cache};
        int rc = cache ? mcp_configs_load(conf->config, &configs, e) : err_set(e, E_NOMEM, "no memory");

        if (!rc && configs.n > 0) {
                process_end_leftovers(scratch_root, 0);
                rc = mcp_open(&o, &configs, e);
        } else if (!rc) {
                mcp_configs_free(&configs);
        }
        mem_free(cache);
        return rc;
}

int toolset_open(uv_loop_t *loop, const struct agent_conf *conf, struct policy *policy,
                 const char *scratch_root, struct err *e)
{
        struct toolset_dirs d;
        int rc = toolset_dirs(conf, &d, e);

        if (rc)
                return rc;
        /* Ours is made, so that it can be watched and people find it. */
        if (conf->tools_dirs.n == 0 && mkdir(d.v[0], 0700) != 0 && errno != EEXIST)
                log_warn("agent", "cannot make the folder for plug-ins", "dir=%s error=%s", d.v[0],
                         strerror(errno));
        for (size_t i = 0; i < d.n && !rc; i++)
                if (policy_protect(policy, d.v[i]))
                        rc = err_set(e, E_NOMEM, "no memory");
        if (!rc)
                rc = plugins_open(loop, (const char *const *)d.v, d.n, e);
        toolset_dirs_free(&d);
        if (!rc)
                rc = open_mcp(loop, conf, policy, scratch_root, e);
        return rc ? rc : discover_start(loop, policy, e);
}

void toolset_reload(void)
{
        discover_again();
        plugins_reload();
}

void toolset_close(void)
{
        discover_close();
        plugins_close();
        mcp_close();
}
