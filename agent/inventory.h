/* What the agent says about itself in Hello: its machine, its tools and
 * whether the policy lets them be used. Loop thread; small reads of /proc. */
#ifndef PHOTON_AGENT_INVENTORY_H
#define PHOTON_AGENT_INVENTORY_H

#include <stddef.h>

#include "common/conf.h"
#include "photon/v1/agent.pb-c.h"

struct err;
struct policy;

struct inventory {
        char hostname[256], os[65], arch[65], boot_id[40];
        Photon__V1__Tool **tools;
        size_t n_tools;
        Photon__V1__Label **labels;
        size_t n_labels;
};

/* `labels`: lists of "K=V", later ones win; lent like the policy's and the tools' texts. */
int inventory_make(const struct policy *p, const struct conf_list *const *labels, size_t n_lists,
                   struct inventory *out, struct err *e);
void inventory_fini(struct inventory *inv);
/* The fields point into `inv`. */
void inventory_fill(const struct inventory *inv, Photon__V1__HelloRequest *r);

/* "K=V": key a name of at most 63 bytes, value at most 255 without control characters. -E_INVAL. */
int inventory_check_label(const char *text, struct err *e);
int inventory_labels(const struct conf_list *const *lists, size_t n_lists, Photon__V1__Label ***out,
                     size_t *out_n, struct err *e);
void inventory_labels_free(Photon__V1__Label **v, size_t n);

#endif
