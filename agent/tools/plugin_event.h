/* What a plug-in writes: a line is an event of docs/EVENTS.md, or, if it does
 * not begin with '{', a line for the log. Pure but for the events that leave. */
#ifndef PHOTON_AGENT_TOOLS_PLUGIN_EVENT_H
#define PHOTON_AGENT_TOOLS_PLUGIN_EVENT_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/tools/event.h"
#include "agent/tools/tool.h"

struct err;

#define PLUGIN_ID_MAX   128
#define PLUGIN_CODE_MAX 63

enum plugin_event_kind {
        PLUGIN_EVENT_SHOWN,    /* handed on with event_*; room: what that said */
        PLUGIN_EVENT_QUESTION, /* id and question are filled in */
        PLUGIN_EVENT_RESULT,   /* outputs (taken from the tree; an object) and usage */
        PLUGIN_EVENT_ERROR,    /* code, message, outputs (or NULL) and usage */
};

/* Everything but `outputs` and `usage` points into `tree`. */
struct plugin_event {
        enum plugin_event_kind kind;
        int room; /* 0, or -E_FULL: produce no more until output_room */
        const char *id;
        struct tool_question question;
        const char *paths[17];
        const char *code, *message;
        cJSON *outputs, *usage;
        cJSON *tree;
};

/* Reads one line (written to) and shows it, if it is something to show. plugin_event_fini in any case but
 * failure. -E_PROTO: it begins like an event and is none, and why; -E_NOMEM. */
int plugin_event_read(struct tool_call *c, char *line, size_t n, struct plugin_event *out, struct err *e);
void plugin_event_fini(struct plugin_event *v);

#endif
