/* The tools that are not built in: opens and closes what adds rows to the
 * table while the agent runs (plug-ins, MCP servers), from the agent's options; and
 * the look at which programs this machine has for those that are (discover). Loop
 * thread. */
#ifndef PHOTON_AGENT_TOOLSET_H
#define PHOTON_AGENT_TOOLSET_H

#include <cjson/cJSON.h>
#include <stddef.h>
#include <uv.h>

#include "agent/tools/plugin.h"

struct agent_conf;
struct err;
struct policy;

/* Folders of manifests: those of --tools-dir, else tools.d in the data folder and in /etc/photon. */
struct toolset_dirs {
        char *v[PLUGIN_DIRS_MAX];
        size_t n;
};
int toolset_dirs(const struct agent_conf *conf, struct toolset_dirs *out, struct err *e);
void toolset_dirs_free(struct toolset_dirs *d);

/* The folders are protected from file tools (policy_protect). A wrong manifest is no failure, a wrong section
 * `mcp_servers` is. What MCP servers of an agent that was killed have left behind is ended. */
int toolset_open(uv_loop_t *loop, const struct agent_conf *conf, struct policy *policy,
                 const char *scratch_root, struct err *e);
void toolset_reload(void);
/* No call may be live. Run the loop once more afterwards. */
void toolset_close(void);

#endif
