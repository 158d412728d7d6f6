/* Between models.c (the table) and models_read.c (the file). */
#ifndef PHOTON_AGENT_TOOLS_MODELS_IN_H
#define PHOTON_AGENT_TOOLS_MODELS_IN_H

#include "agent/tools/models.h"

struct doc;

/* An endpoint of this kind with everything at its default. NULL: no memory. */
struct endpoint *endpoint_make(enum model_kind k);
void endpoint_free(struct endpoint *ep);
int models_kind_of(const char *name, enum model_kind *out); /* -E_NOENT */
extern const char *const model_kind_names[];                /* NULL-ended */
extern const char *const model_capability_names[];          /* bit 0 first, NULL-ended */

/* One item of the list `models`. */
int endpoint_read(const struct doc *d, struct endpoint **out, struct err *e);

#endif
