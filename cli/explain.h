/* The hub's reasons, for people: why a step is where it is, or why it waits. One thread. */
#ifndef PHOTON_CLI_EXPLAIN_H
#define PHOTON_CLI_EXPLAIN_H

#include <cjson/cJSON.h>
#include <stdio.h>

/* The answer of /runs/ID/explain. */
void explain_draw(const cJSON *doc);
/* Why this one step of it waits: a line per agent, at most `max`. */
void explain_why(FILE *f, const cJSON *step, int max);

#endif
