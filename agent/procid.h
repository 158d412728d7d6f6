/* Which process a number means: pid and start time, as the journal keeps them,
 * so that a number that was given away again is not mistaken. Reads /proc. */
#ifndef PHOTON_AGENT_PROCID_H
#define PHOTON_AGENT_PROCID_H

#include <stdbool.h>

struct journal_proc;

/* Fills all of it for a process that is there (a zombie is). -E_NOENT, -E_IO. */
int procid_read(int pid, struct journal_proc *out);
/* This boot, and the number is still that process, or free as a process and so perhaps a group it left. */
bool procid_matches(const struct journal_proc *p);

#endif
