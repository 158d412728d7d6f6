#include "hub/http/spending.h"

#include <stdlib.h>

#include "common/err.h"
#include "common/mem.h"
#include "hub/model/workflow.h"
#include "hub/store/store.h"

struct spending_step {
        uint32_t idx;
        struct budget_account a;
};

bool spending_may_be(const struct row_step *s, const struct workflow *wf)
{
        const struct step_def *d =
                wf && s->def >= 0 && (size_t)s->def < wf->n_steps ? &wf->steps[s->def] : NULL;

        return s->attempt > 0 && s->tool &&
               (s->usage || !budget_tool_is_free(s->tool) ||
                (d && (d->estimate.v[BUDGET_MONEY] != BUDGET_NONE ||
                       d->estimate.v[BUDGET_TOKENS] != BUDGET_NONE)));
}

static int on_step(void *arg, uint32_t idx, const struct budget_account *a)
{
        struct spending *sp = arg;

        if (sp->n == sp->cap) {
                size_t cap = sp->cap ? 2 * sp->cap : 16;
                struct spending_step *v = mem_realloc(sp->steps, cap * sizeof *v);

                if (!v)
                        return -E_NOMEM;
                sp->steps = v;
                sp->cap = cap;
        }
        sp->steps[sp->n++] = (struct spending_step){idx, *a};
        for (int m = 0; m < BUDGET_MEASURES; m++) {
                sp->all.settled.v[m] = budget_add(sp->all.settled.v[m], a->settled.v[m]);
                sp->all.reserved.v[m] = budget_add(sp->all.reserved.v[m], a->reserved.v[m]);
        }
        return 0;
}

int spending_read(struct spending *sp, struct store_reader *r, int64_t run_seq)
{
        if (sp->read)
                return 0;
        sp->read = true;
        return read_ledger_steps(r, run_seq, on_step, sp);
}

static int by_idx(const void *key, const void *item)
{
        uint32_t a = *(const uint32_t *)key, b = ((const struct spending_step *)item)->idx;

        return (a > b) - (a < b);
}

const struct budget_account *spending_of(const struct spending *sp, uint32_t step_idx)
{
        const struct spending_step *s =
                sp->n ? bsearch(&step_idx, sp->steps, sp->n, sizeof *sp->steps, by_idx) : NULL;

        return s ? &s->a : NULL;
}

static void put_amount(struct jsonw *w, const char *key, const struct budget_amount *a)
{
        char money[BUDGET_MONEY_LEN];

        jw_open(w, key, '{');
        jw_str(w, "usd", budget_money_text(a->v[BUDGET_MONEY], money));
        jw_i64(w, "tokens", a->v[BUDGET_TOKENS]);
        jw_close(w, '}');
}

void spending_put(struct jsonw *w, const struct budget_account *a)
{
        put_amount(w, "spent", &a->settled);
        if (a->reserved.v[BUDGET_MONEY] || a->reserved.v[BUDGET_TOKENS])
                put_amount(w, "reserved", &a->reserved);
}

void spending_free(struct spending *sp)
{
        mem_free(sp->steps);
        sp->steps = NULL;
        sp->n = sp->cap = 0;
}
