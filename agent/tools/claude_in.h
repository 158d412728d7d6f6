/* Private to agent/tools/claude*.c: claude.c (the call, what it is told),
 * claude_stream.c (what it says), claude_use.c (its tools as ours, for people),
 * claude_ask.c (what it asks). */
#ifndef PHOTON_AGENT_TOOLS_CLAUDE_IN_H
#define PHOTON_AGENT_TOOLS_CLAUDE_IN_H

#include "agent/tools/ai_run.h"
#include "common/list.h"

#define CLAUDE_ID_MAX    128
#define CLAUDE_TITLE_MAX 200
#define CLAUDE_HOOK      "photon-before-use" /* our name for the hook on its tools */

struct claude {
        struct ai_run run; /* first */
        unsigned next_id;  /* of our control requests */
        struct list asks;
        bool resumed;
        /* The message that streams now, and what came of it already: it comes again as a whole. */
        char message[CLAUDE_ID_MAX];
        bool text_streamed, thought_streamed;
        bool wrote, paragraph; /* something was written; the next text begins a new paragraph */
        /* Tokens of the messages that are complete, and of the one that streams. */
        struct event_usage before, now;
        char error[64]; /* what the last message of its own making was about */
};

/* claude.c */
cJSON *claude_control(struct claude *cl, const char *subtype);

/* claude_stream.c */
void claude_message(struct ai_run *r, cJSON *m);

/* claude_use.c: one of its tools, as kind, title, places and changes. */
struct claude_use {
        const char *kind;
        char title[CLAUDE_TITLE_MAX + 4];
        const char *path, *command; /* into the input, or NULL */
};
void claude_use_read(const char *name, const cJSON *input, struct claude_use *out);
cJSON *claude_use_locations(const struct claude_use *u);                /* or NULL */
cJSON *claude_use_diff(const struct claude_use *u, const cJSON *input); /* or NULL */
cJSON *claude_use_plan(const char *name, const cJSON *input);           /* TodoWrite; or NULL */

/* claude_ask.c */
void claude_asked(struct claude *cl, const cJSON *m);
void claude_withdrawn(struct claude *cl, const cJSON *m);
void claude_forget_asks(struct claude *cl);

#endif
