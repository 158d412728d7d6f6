/* The seccomp filter of tools: a list of what is refused, since tools are not known beforehand. */
#ifndef PHOTON_AGENT_SANDBOX_FILTER_H
#define PHOTON_AGENT_SANDBOX_FILTER_H

#include <stdbool.h>
#include <stddef.h>

struct err;

/* Can this kernel filter system calls? */
bool filter_known(void);
/* The filter as a file in memory (close-on-exec) of *out_n instructions. */
int filter_make(int *out_fd, size_t *out_n, struct err *e);
/* NULL-ended, sorted, for documents and tests. */
extern const char *const filter_refused[];

#endif
