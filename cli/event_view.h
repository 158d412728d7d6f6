/* The typed events of tool calls (docs/EVENTS.md) as lines for people.
 *
 * Text flows as it comes; everything else is a line or a few. What came from a
 * tool is shown without its control characters: it can neither colour nor move
 * nor rename a terminal. The caller writes `out` and empties it. One thread. */
#ifndef PHOTON_CLI_EVENT_VIEW_H
#define PHOTON_CLI_EVENT_VIEW_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"

struct event_view;

struct event_view_options {
        bool color;
        bool steps;        /* several steps may speak: each line says which */
        bool lines;        /* only whole lines are given out; the rest is event_view_partial */
        bool no_text;      /* text is shown by somebody else (it is on stdout too) */
        bool questions;    /* nothing but questions and their answers */
        bool no_questions; /* questions are shown by somebody else */
        unsigned cols;     /* cut lines (not text) here; 0: no terminal */
};

/* NULL: no memory. */
struct event_view *event_view_create(const struct event_view_options *o);
void event_view_free(struct event_view *v);
/* One event of a step. Without memory it is left out. */
void event_view_show(struct event_view *v, const char *step, int64_t attempt, const cJSON *event);
/* The step is over: ends its line, shows what it used. */
void event_view_end(struct event_view *v, const char *step);
/* Ends a line that is under way: somebody else writes next. */
void event_view_break(struct event_view *v);
/* What waits to be written; the caller empties it with buf_reset. */
struct buf *event_view_out(struct event_view *v);
/* How many questions were shown: the caller knows, or finds out, by which command each is answered. */
unsigned event_view_questions(const struct event_view *v);
/* With `lines`: the text that has no end of line yet, or "". */
const char *event_view_partial(const struct event_view *v);

/* Does this tool write typed events? Those that are known not to are not followed. */
bool event_view_speaks(const char *tool);

#endif
