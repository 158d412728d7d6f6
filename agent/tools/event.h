/* The typed events of a tool call, one schema for every tool whoever made it.
 *
 * Each event is one JSON object on a line of its own on channel TOOL_EVENT;
 * docs/EVENTS.md lists the types and their members, a test compares. Text is
 * also written to TOOL_STDOUT as it is, so that `photon logs` gives what the
 * tool said. Texts longer than EVENT_TEXT_MAX are cut in events (never on
 * stdout), at a character, with "truncated": true; invalid UTF-8 is replaced.
 *
 * All return what tool_output says: 0, or -E_FULL (kept, produce no more until
 * output_room); without memory the event is dropped and the log says so.
 * Loop thread only. */
#ifndef PHOTON_AGENT_TOOLS_EVENT_H
#define PHOTON_AGENT_TOOLS_EVENT_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tool_call;

#define EVENT_TEXT_MAX ((size_t)256 << 10)

/* What the tool says to people: a piece of its answer, in order. */
int event_text(struct tool_call *c, const char *p, size_t n);
/* What a model thinks; not part of the answer. */
int event_thought(struct tool_call *c, const char *p, size_t n);

/* The call works with secrets: a piece's end may be held back until the next one decides whether it is one.
 * This gives free what is held; tool_finish does it. */
void event_rest(struct tool_call *c);

/* One use of a tool by the program that is driven; the same id again is an update: absent members stay. */
struct event_tool {
        const char *id;
        const char *kind;       /* read edit delete move search execute think fetch other; NULL: no change */
        const char *title;      /* for people; NULL: no change */
        const char *status;     /* pending running completed failed; NULL: no change */
        const char *name;       /* what the program calls the tool; or NULL */
        const cJSON *input;     /* or NULL */
        const cJSON *locations; /* [{"path": text, "line": number}] or NULL */
        const cJSON *diff;      /* [{"path": text, "old_text": text or null, "new_text": text}] or NULL */
        const char *output;     /* what it gave back, as text; or NULL */
        size_t output_len;
};
int event_tool(struct tool_call *c, const struct event_tool *t);

/* A plan as it stands now: [{"text": text, "status": pending|running|completed, "priority":
 * high|medium|low}]. */
int event_plan(struct tool_call *c, const cJSON *entries);

/* Tokens and money so far, summed over the call. Negative: not known. */
struct event_usage {
        int64_t input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, thought_tokens;
        double cost_usd;
        int64_t context_used, context_size; /* tokens in the model's window */
        const char *model;                  /* or NULL */
        const char *cost_source;            /* reported | price-table; NULL: no cost */
};
extern const struct event_usage event_usage_unknown;
int event_usage(struct tool_call *c, const struct event_usage *u);
/* The same as an object, for tool_result.usage; unknown members are left out. NULL: no memory. */
cJSON *event_usage_json(const struct event_usage *u);

/* total < 0: not known. message may be NULL. */
int event_progress(struct tool_call *c, double progress, double total, const char *message);
/* level: debug info warning error. */
int event_log(struct tool_call *c, const char *level, const char *message);
/* A question and what became of it; written by tool_ask itself. */
int event_question(struct tool_call *c, uint32_t id, const cJSON *members);
int event_answer(struct tool_call *c, uint32_t id, const char *outcome, const char *by, const char *reason);
/* The last event of a call; written by tool_finish itself. status: succeeded failed refused cancelled
 * timed_out. */
int event_result(struct tool_call *c, const char *status, const char *error_code, const char *error_message);

#endif
