/* What a run and its steps have spent, from the ledger, for those who show them. HTTP threads. */
#ifndef PHOTON_HTTP_SPENDING_H
#define PHOTON_HTTP_SPENDING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hub/http/jsonw.h"
#include "hub/model/budget.h"

struct row_step;
struct store_reader;
struct workflow;

/* Zeroed: nothing was read yet. */
struct spending {
        struct spending_step *steps; /* in the order of their index */
        size_t n, cap;
        bool read;
        struct budget_account all;
};

/* Can there be entries of this step? So that runs without any cost no question. */
bool spending_may_be(const struct row_step *s, const struct workflow *wf);
/* Reads the run's entries, once. */
int spending_read(struct spending *sp, struct store_reader *r, int64_t run_seq);
/* NULL: it has none. */
const struct budget_account *spending_of(const struct spending *sp, uint32_t step_idx);
/* "spent", and "reserved" where something is. */
void spending_put(struct jsonw *w, const struct budget_account *a);
void spending_free(struct spending *sp);

#endif
