/* What an ACP agent tells while it works (session/update) becomes the typed
 * events of the call.
 *
 * Remembers, bounded, what was said about each tool use: later updates and
 * permission requests leave members out. Kinds of update that are not known
 * are counted, not refused: agents add their own. Loop thread only. */
#ifndef PHOTON_AGENT_TOOLS_ACP_UPDATE_H
#define PHOTON_AGENT_TOOLS_ACP_UPDATE_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct acp_offer;
struct ai;
struct map;

#define ACP_USES_MAX  1000              /* tool uses under way that are remembered */
#define ACP_INPUT_MAX ((size_t)1 << 20) /* bytes of one use's input that is remembered */
#define ACP_TAIL      200               /* bytes of the last text, for error messages */

/* What is known of one tool use. */
struct acp_use {
        char *title, *kind, *name;
        cJSON *input, *locations, *content;
};

struct acp_view {
        struct ai *ai;
        struct acp_offer *offer; /* current mode and model are kept here */
        struct map *uses;
        bool replaying; /* an older conversation is being told again: no events */
        bool broken;    /* the agent says that its turn broke down (codex: systemError) */
        bool between;   /* the last thing was a tool's end: what comes next is a new turn */
        bool notes; /* message chunks without a messageId are the program's remarks, not the model's words */
        bool full;  /* an event said -E_FULL: hold the agent until there is room */
        bool hurry; /* never hold it again */
        double cost_before;      /* of the session before this call */
        const char *limit;       /* a limit of the call was passed: its code */
        unsigned unknown;        /* updates of a kind that is not known */
        char tail[ACP_TAIL + 1]; /* the end of the last text */
};

int acp_view_init(struct acp_view *v, struct ai *ai, struct acp_offer *offer);
void acp_view_fini(struct acp_view *v);
/* update: params.update of session/update. What is malformed in it is left out. */
void acp_update(struct acp_view *v, const cJSON *update);
/* What is known of the use that this ToolCall(Update) speaks of, with what it adds; lent until the next call.
 * NULL: it has no id, or no memory. */
const struct acp_use *acp_view_use(struct acp_view *v, const cJSON *call);
/* The answer to session/prompt: its usage, where it has any. */
void acp_view_usage(struct acp_view *v, const cJSON *result);
/* One of our kinds: read edit delete move search execute think fetch other. */
const char *acp_kind(const char *kind);

#endif
