/* Memory for keys, and a process whose memory ends in no file: pages that are
 * neither swapped nor dumped, no core dumps, no debugger of the same user. */
#ifndef PHOTON_LOCKED_H
#define PHOTON_LOCKED_H

#include <stddef.h>

/* Whole pages, zeroed, out of swap and core dumps as far as this process may. NULL: no memory. Any thread. */
void *locked_alloc(size_t n);
void locked_free(void *p, size_t n); /* wipes; accepts NULL */

/* Once, at the start of main, before any secret: this process is not dumped, and others of the same user
 * cannot look into it (PR_SET_DUMPABLE). Children may raise their own limit on core files again. -E_* with no
 * words. */
int process_no_dumps(void);

#endif
