/* Plug-ins: each manifest in the agent's folders tools.d is a tool.
 *
 * The folders are read at the start, when plugins_reload is called (SIGHUP),
 * and a moment after something in them changed. A manifest that is wrong costs
 * only itself: it is told in the log, once, and by photon-agent doctor. Calls
 * that run go on with the manifest they began with. Loop thread only; reading
 * blocks for as long as a few small files take. */
#ifndef PHOTON_AGENT_TOOLS_PLUGIN_H
#define PHOTON_AGENT_TOOLS_PLUGIN_H

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

struct err;
struct plugin_manifest;

#define PLUGINS_MAX      256 /* manifests in all folders */
#define PLUGIN_DIRS_MAX  4
#define PLUGIN_LINGER_MS 5000 /* to exit after the last event */
#define PLUGIN_SETTLE_MS 200  /* files are often written in pieces */

/* dirs are copied; one that is not there has nothing in it. Earlier ones win where two name the same tool. */
int plugins_open(uv_loop_t *loop, const char *const *dirs, size_t n_dirs, struct err *e);
void plugins_reload(void);
/* No call may be live. Run the loop once more afterwards. */
void plugins_close(void);

/* What is in the folders, in order, each with its manifest or with what is wrong with it (m NULL); also that
 * another has the name already. Needs no plugins_open; blocking. Returns how many were found. */
size_t plugins_scan(const char *const *dirs, size_t n_dirs,
                    void (*found)(void *arg, const char *path, struct plugin_manifest *m,
                                  const struct err *e),
                    void *arg);

#endif
