/* What the agent says about itself in Hello, and again when it changes: its
 * machine, its tools and whether the policy lets them be used.
 *
 * The list of tools is made when somebody asks for it and dropped when the
 * table changed, so that it never points at a row that is gone. Loop thread;
 * small reads of /proc. */
#ifndef PHOTON_AGENT_INVENTORY_H
#define PHOTON_AGENT_INVENTORY_H

#include <stdbool.h>
#include <stddef.h>

#include "common/conf.h"
#include "photon/v1/agent.pb-c.h"

struct err;
struct policy;

/* What a hub takes; a tool that is over a limit is left out, and the log says so. */
#define INVENTORY_TOOLS_MAX  1000
#define INVENTORY_SCHEMA_MAX ((size_t)64 << 10)
#define INVENTORY_BYTES_MAX  ((size_t)3 << 20) /* names, texts and schemas of all tools */

struct inventory {
        const struct policy *policy;
        bool tools_known;
        Photon__V1__Sandbox sandbox;
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
/* The table of tools changed: what was said of them is no longer true. */
void inventory_stale(struct inventory *inv);
/* The fields point into `inv`, until it is stale. -E_NOMEM. */
int inventory_fill(struct inventory *inv, Photon__V1__HelloRequest *r);
int inventory_fill_change(struct inventory *inv, Photon__V1__Inventory *m);

/* "K=V": key a name of at most 63 bytes, value at most 255 without control characters. -E_INVAL. */
int inventory_check_label(const char *text, struct err *e);
int inventory_labels(const struct conf_list *const *lists, size_t n_lists, Photon__V1__Label ***out,
                     size_t *out_n, struct err *e);
void inventory_labels_free(Photon__V1__Label **v, size_t n);

#endif
