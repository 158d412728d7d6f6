/* Between spawn.c (starting) and children.c (watching and ending). */
#ifndef PHOTON_AGENT_TOOLS_SPAWN_IN_H
#define PHOTON_AGENT_TOOLS_SPAWN_IN_H

#include "agent/tools/spawn.h"

/* Starts watching SIGCHLD on this loop, once. */
int children_open(uv_loop_t *loop, struct err *e);
void children_add(struct child *ch);

#endif
