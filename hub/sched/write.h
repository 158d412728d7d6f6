/* From the engine's memory to rows and events: what changed, once per turn. */
#ifndef PHOTON_SCHED_WRITE_H
#define PHOTON_SCHED_WRITE_H

struct engine;
struct run;
struct step;

void write_step(struct engine *en, struct step *s);
/* Before the steps: the definition, and run.created. */
void write_new_run(struct engine *en, struct run *r);
/* After the steps: the run's row and its state. */
void write_run(struct engine *en, struct run *r);
/* The rows as they are, with their seals and without events: a run from before rows were sealed. */
void write_seals(struct engine *en, struct run *r);

#endif
