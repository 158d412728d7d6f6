/* Following a run: a live view on a terminal, a line per change elsewhere, and at the
 * end what became of it. One thread. */
#ifndef PHOTON_CLI_WATCH_H
#define PHOTON_CLI_WATCH_H

#include <cjson/cJSON.h>
#include <stdbool.h>

struct cli;
struct err;

/* Follows `run` until it is over: the exit status, or -E_*. quiet: shows nothing until the end. */
int watch_run(struct cli *c, const char *run, bool quiet, struct err *e);

/* The exit status that a run's state means. */
int watch_status(const char *state);
/* A run (with steps): its head and its table of steps. */
void watch_draw_run(const cJSON *run, bool wide);
/* What went wrong and what to do about it, with the last lines of stderr. */
void watch_draw_end(struct cli *c, const cJSON *run);

#endif
