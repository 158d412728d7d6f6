/* A plug-in and the calls of it: shared by plugin.c and plugin_call.c. */
#ifndef PHOTON_AGENT_TOOLS_PLUGIN_IN_H
#define PHOTON_AGENT_TOOLS_PLUGIN_IN_H

#include "agent/tools/plugin.h"
#include "agent/tools/plugin_manifest.h"
#include "agent/tools/tool.h"
#include "common/list.h"

/* Lives until it is out of the table and its last call was freed. */
struct plugin {
        struct list link;
        struct tool row;
        struct plugin_manifest m;
        char *path;   /* of the manifest */
        char *detail; /* JSON, for people */
        unsigned calls;
        bool listed, seen;
};

void plugin_unref(struct plugin *p); /* a call is over, or it left the table */

int plugin_start(struct tool_call *c, const cJSON *input, struct err *e);
void plugin_cancel(struct tool_call *c, int grace_ms);
void plugin_output_room(struct tool_call *c);
void plugin_free(struct tool_call *c);

#endif
