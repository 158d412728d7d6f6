/* Private to agent/tools/codex*.c: codex.c (the conversation), codex_item.c
 * (what it does, as events), codex_ask.c (what it asks), codex_error.c (why a
 * turn failed). */
#ifndef PHOTON_AGENT_TOOLS_CODEX_IN_H
#define PHOTON_AGENT_TOOLS_CODEX_IN_H

#include "agent/tools/ai_run.h"
#include "agent/tools/jsonrpc.h"
#include "common/list.h"

#define CODEX_CHANGES_MAX 256 /* file changes whose approval may still be asked */
#define CODEX_TITLE_MAX   200

struct codex {
        struct ai_run run; /* first */
        struct jsonrpc rpc;
        bool rpc_open;
        char *thread, *turn; /* ids, or NULL */
        struct list asks;
        cJSON *changes; /* {itemId: changes}: what a file change is about is told before its approval is asked
                         */
        char *spoke;    /* the item whose text streamed last */
        bool wrote, streamed_thought;
        /* Tokens: of the thread before this turn, and whether that is known. */
        struct event_usage base;
        bool base_known;
};

/* codex.c: one message of its, taken. */
void codex_message(struct ai_run *r, cJSON *tree);

/* codex_item.c */
void codex_item_started(struct codex *cx, const cJSON *params);
void codex_item_completed(struct codex *cx, const cJSON *params);
void codex_message_delta(struct codex *cx, const cJSON *params);
void codex_thought_delta(struct codex *cx, const cJSON *params);
void codex_plan(struct codex *cx, const cJSON *params);
/* The command within "/bin/bash -lc 'COMMAND'"; the whole where it is none. mem_free. NULL: no memory. */
char *codex_command(const char *text);
/* Both sides of the lines that a unified diff shows; mem_free both. -E_NOMEM. */
int codex_diff_sides(const char *diff, char **out_old, char **out_new);

/* codex_ask.c: its requests. */
void codex_asked(struct codex *cx, const struct jsonrpc_msg *m);
void codex_resolved(struct codex *cx, const cJSON *params);
void codex_forget_asks(struct codex *cx);

/* codex_error.c: our code for {"message", "codexErrorInfo"}, and what to do about it. */
const char *codex_error_code(const cJSON *error);
const char *codex_error_advice(const char *code);

#endif
