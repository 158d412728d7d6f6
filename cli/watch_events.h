/* The steps of a run that speak while it is watched: a stream each, so that steps
 * that run side by side are all heard. At most WATCH_SPEAKERS at a time (each is
 * a connection and a place at the hub); of further ones it is said where to look.
 * One thread. */
#ifndef PHOTON_CLI_WATCH_EVENTS_H
#define PHOTON_CLI_WATCH_EVENTS_H

#include <stdbool.h>
#include <stdint.h>

#include "cli/event_view.h"

struct client;
struct watch_events;

#define WATCH_SPEAKERS 8

/* on_over: all that this step had to say was said. view: lent. NULL: no memory. */
struct watch_events *watch_events_create(struct client *c, const char *run, struct event_view *view,
                                         void (*on_over)(void *ctx, const char *step), void *ctx);
void watch_events_free(struct watch_events *w);
/* This step's tool runs now (again). */
void watch_events_started(struct watch_events *w, const char *step, const char *tool, int64_t attempt);
/* Is there more to come from this step? */
bool watch_events_open(const struct watch_events *w, const char *step);
bool watch_events_any(const struct watch_events *w);
/* Before every client_turn. Milliseconds until it wants to be called again, at most `most`. */
int watch_events_turn(struct watch_events *w, int most);

#endif
