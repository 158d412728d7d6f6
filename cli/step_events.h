/* The typed events of one step, followed while it runs and handed to a view.
 * Goes on where it was when the connection breaks. One thread. */
#ifndef PHOTON_CLI_STEP_EVENTS_H
#define PHOTON_CLI_STEP_EVENTS_H

#include <stdint.h>

#include "cli/follow.h"

struct event_view;

struct step_events {
        char *run, *step;
        struct event_view *view; /* lent */
        struct follow f;         /* readable: over */
        int64_t attempt, end;    /* what was shown */
};

/* Opened by the first follow_step(&s->f). after: attempts up to this one are not shown again. -E_NOMEM. */
int step_events_init(struct step_events *s, struct client *c, const char *run, const char *step,
                     int64_t after, struct event_view *view);
void step_events_fini(struct step_events *s);

#endif
