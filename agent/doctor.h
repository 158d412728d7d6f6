/* The doctor command: looks at everything that must be right for this agent
 * to work, and says of each what to do. Blocking; makes its own loop for the
 * connection. */
#ifndef PHOTON_AGENT_DOCTOR_H
#define PHOTON_AGENT_DOCTOR_H

#include <stdbool.h>

struct agent_conf;
struct err;

/* Prints lines or JSON. *out_ok: nothing failed (warnings are fine). */
int doctor_run(const struct agent_conf *conf, bool *out_ok, struct err *e);

#endif
