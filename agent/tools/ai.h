/* What all AI coding tools share, whoever made them: one input, one output,
 * limits, the stall clock, questions, and the files they changed.
 *
 * A driver (acp.c, claude.c, codex.c ...) embeds a struct ai in the state of
 * its call and translates between it and the vendor's protocol:
 *
 *   start:  ai_open -> on_ready (the folder was looked at) -> the driver starts its child
 *   during: ai_alive on every message, ai_text, ai_thought, event_tool ..., ai_usage, ai_ask
 *   end:    ai_finish (the folder is looked at again) -> tool_finish
 *   free:   ai_close
 *
 * What a vendor's stream says about changed files is shown, never trusted: the
 * folder `cwd` is compared with what it was before. Loop thread only. */
#ifndef PHOTON_AGENT_TOOLS_AI_H
#define PHOTON_AGENT_TOOLS_AI_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "agent/tools/ai_prompt.h"
#include "agent/tools/event.h"
#include "agent/tools/tool.h"
#include "common/buf.h"
#include "common/err.h"
#include "common/list.h"

struct ai_files;

#define AI_TEXT_MAX    ((size_t)1 << 20) /* of outputs.text; stdout has all of it */
#define AI_STALL_MS    300000            /* default of limits.stall */
#define AI_CHANGED_MAX 1000              /* entries of outputs.files_changed */
#define AI_PROMPT_MAX  ((size_t)4 << 20)
#define AI_ALWAYS_MAX  64 /* actions that were allowed for the rest of the call */

/* Members of every AI tool's input schema, without the braces around them. */
#define AI_INPUT_PROPERTIES                                                                                  \
        AI_PROMPT_PROPERTIES                                                                                 \
        ",\"files\":{\"type\":\"array\",\"items\":{\"type\":\"string\"},"                                    \
        "\"description\":\"Files on the agent that belong to the prompt\"},"                                 \
        "\"model\":{\"type\":\"string\"},"                                                                   \
        "\"session\":{\"type\":\"string\",\"description\":\"Goes on where an earlier call of this tool "     \
        "on this agent ended: ${{ steps.a.outputs.session }}\"},"                                            \
        "\"cwd\":{\"type\":\"string\",\"description\":\"The folder to work in; default: the call's own, "    \
        "empty one\"},"                                                                                      \
        "\"permission_mode\":{\"enum\":[\"ask\",\"accept-edits\",\"allow\",\"deny\"],"                       \
        "\"description\":\"What becomes of what the tool asks and the agent's policy has no rule for; "      \
        "default ask\"},"                                                                                    \
        "\"env\":{\"type\":\"object\",\"additionalProperties\":{\"type\":\"string\"}},"                      \
        "\"mcp_servers\":{\"type\":\"object\",\"description\":\"MCP servers for the tool: NAME: "            \
        "{command, args, env} or {url, headers}\"},"                                                         \
        "\"limits\":{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{"                    \
        "\"turns\":{\"type\":\"integer\",\"minimum\":1},"                                                    \
        "\"cost_usd\":{\"type\":\"number\",\"minimum\":0},"                                                  \
        "\"tokens\":{\"type\":\"integer\",\"minimum\":1},"                                                   \
        "\"stall\":{\"type\":\"string\","                                                                    \
        "\"description\":\"Fails when nothing comes for so long; 0: never\"},"                               \
        "\"question\":{\"type\":\"string\","                                                                 \
        "\"description\":\"How long a question waits for its answer\"}}}"

#define AI_OUTPUT_SCHEMA                                                                                     \
        "{\"type\":\"object\",\"properties\":{"                                                              \
        "\"text\":{\"type\":\"string\",\"description\":\"What it answered; its last 1 MiB\"},"               \
        "\"text_truncated\":{\"type\":\"boolean\"},"                                                         \
        "\"session\":{\"type\":\"string\"},"                                                                 \
        "\"model\":{\"type\":\"string\"},"                                                                   \
        "\"stop_reason\":{\"type\":\"string\"},"                                                             \
        "\"turns\":{\"type\":\"integer\"},"                                                                  \
        "\"files_changed\":{\"type\":\"array\",\"items\":{\"type\":\"object\",\"properties\":{"              \
        "\"path\":{\"type\":\"string\"},\"change\":{\"enum\":[\"added\",\"modified\",\"deleted\"]}}}},"      \
        "\"files_complete\":{\"type\":\"boolean\",\"description\":\"false: the folder was too large to see " \
        "all\"},"                                                                                            \
        "\"usage\":{\"type\":\"object\"},"                                                                   \
        "\"cost_usd\":{\"type\":\"number\"},"                                                                \
        "\"permissions_denied\":{\"type\":\"integer\"}}}"

struct ai {
        struct tool_call *c;
        /* The input; texts are ai's own copies or NULL. Readable by the driver. */
        char *prompt, *model, *session, *mode, *cwd;
        cJSON *files;       /* array of absolute paths, checked against the policy; or NULL */
        cJSON *mcp_servers; /* object or NULL */
        int64_t max_turns, max_tokens, stall_ms, question_ms; /* 0: none, default */
        double max_cost_usd;                                  /* < 0: none */
        char **env; /* the child's environment, scrubbed (policy_base_env, the call's PHOTON_*, input) */
        const char *marker; /* in env: finds the call's processes */
        /* What came of it, filled in by the driver through ai_*. */
        char *out_session, *out_model, *stop_reason;
        int64_t turns;
        struct event_usage usage;
        int denied;
        cJSON *models; /* usage of each model: {MODEL: event_usage_json}; or NULL. Owned by ai. */
        /* Inside of ai.c. */
        struct buf text;
        bool text_cut;
        struct ai_files *before;
        uv_timer_t stall;
        bool stall_open, finishing, ready, looking, closing;
        struct list asked; /* open questions */
        cJSON *always;
        struct tool_result result;
        char code[64];
        struct err why;
        void (*on_ready)(struct ai *a);
        void (*on_stall)(struct ai *a);
        void (*on_closed)(struct ai *a);
};

/* Reads the input, checks folder and files against the policy, makes the environment. -E_INVAL, -E_DENIED ...
 * with the reason: nothing was started (call ai_close). on_stall: nothing came for stall_ms; the driver ends
 * its child and finishes with "stalled". */
int ai_open(struct ai *a, struct tool_call *c, const cJSON *input, void (*on_ready)(struct ai *a),
            void (*on_stall)(struct ai *a), struct err *e);
/* Sets a variable of the child's environment (a vendor's switch), replacing one of the same name. */
int ai_setenv(struct ai *a, const char *name, const char *value, struct err *e);
/* Lets those of the agent's own variables through whose names match ("ANTHROPIC_*"): what this vendor's tool
 * needs, and no other's. What is already set stays. */
int ai_passenv(struct ai *a, const char *glob, struct err *e);
const char *ai_getenv(const struct ai *a, const char *name);
/* The program by name on the child's PATH, and whether the policy lets it be run. mem_free *out. -E_NOENT:
 * "tool_missing"; -E_DENIED: "policy_denied". */
int ai_program(const struct ai *a, const char *name, char **out, struct err *e);

/* Something came from the tool: the stall clock starts again. It stands while a question is open. */
void ai_alive(struct ai *a);
/* Both say what tool_output says: -E_FULL means hold the child until output_room. */
int ai_text(struct ai *a, const char *p, size_t n);
int ai_thought(struct ai *a, const char *p, size_t n);
void ai_set(char **slot, const char *text); /* replaces a copy; NULL clears */
/* Takes the sums as they are now, sends the event, and says whether a limit of the call is now passed
 * (`code`: "cost_limit", "token_limit", "turn_limit"; NULL: none): the driver then ends the turn. */
const char *ai_usage(struct ai *a, const struct event_usage *u);
/* tool_ask, with this call's mode and time limit, and what was allowed for the rest of the call answered
 * without asking. */
int ai_ask(struct ai *a, struct tool_question *q,
           void (*on_decision)(void *arg, const struct tool_decision *d), void *arg, uint32_t *out_id);

/* The program does not want to know any more: no decision comes. */
void ai_withdraw(struct ai *a, uint32_t id);

/* The end: looks at the folder again, then tool_finish with all outputs. code NULL: succeeded. May be called
 * at any time after ai_open, once; later calls are ignored. No process of the call may be left. */
void ai_finish(struct ai *a, enum tool_outcome o, const char *code, const struct err *e);
bool ai_finishing(const struct ai *a);
/* From tool->free: releases all, closes the timer; on_closed (may be NULL) when a's memory may go. */
void ai_close(struct ai *a, void (*on_closed)(struct ai *a));

#endif
