/* The environment that a child of a call starts with: a NULL-ended list of
 * "NAME=value", all of it mem_free'd by env_free. Loop thread only. */
#ifndef PHOTON_AGENT_TOOLS_ENV_H
#define PHOTON_AGENT_TOOLS_ENV_H

#include <cjson/cJSON.h>

#include "agent/tools/tool.h"

struct err;

/* Takes entry ("NAME=value"; NULL: no memory), replacing one of the same name; it is freed on failure. */
int env_put(char ***io, char *entry);
const char *env_get(char *const *env, const char *name); /* lent; NULL: not there */
void env_free(char **env);

/* What the policy lets through, the call's PHOTON_* and TRACEPARENT, and its secrets. */
int env_for_call(const struct tool_call *c, char ***out, struct err *e);
/* The call's secrets that are files in memory, in the order in which they become 3, 4 ... in its program
 * (spawn.h: extra). Returns how many; the descriptors are lent. */
int env_files(const struct tool_call *c, int out[TOOL_FILES_MAX]);
/* The entry by which processes of the call are found after a crash (spawn.h); lent. */
const char *env_marker(char *const *env);
/* Adds the members of an object (texts, numbers, booleans). -E_INVAL: no such name, or one of ours. */
int env_from_json(char ***io, const cJSON *members, struct err *e);
/* The values of variables that are named like credentials (..._KEY, ..._TOKEN, ...SECRET..., ...PASSWORD...)
 * are taken out of what the call writes (tool_secret). -E_TOOBIG, -E_NOMEM. */
int env_hide(char *const *env, struct tool_call *c);
/* Adds those of the agent's own variables whose names match the glob and which are not set yet. */
int env_pass(char ***io, const char *glob);

#endif
