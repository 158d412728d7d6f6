/* Inside of the engine's budgets: what engine_budget.c (reserve, watch, settle), engine_budget_wait.c (steps
 * that wait, or are refused), engine_budget_admin.c (what people set and see) and engine_budget_load.c (back
 * from the store, results that come late) share.
 *
 * Sums live in accounts. An account is read from the ledger's rows when it is first looked at, always before
 * the first entry that belongs to it is written in this life of the hub, and counted up in memory from then
 * on: so memory and rows say the same at every commit. */
#ifndef PHOTON_SCHED_BUDGET_IMPL_H
#define PHOTON_SCHED_BUDGET_IMPL_H

#include "hub/sched/engine_impl.h"
#include "hub/store/store.h"

#define BUDGETS_MAX        1000 /* with a cap */
#define BUDGET_HISTORY_MAX 1024 /* tools and models */
#define ENTRY_ACCOUNTS     BUDGET_KINDS
#define BUDGETS_TORN       "*" /* in an aside: budgets are missing, nobody can say which */

/* What people set. Stays when it is deleted, without a cap: `since` must not be forgotten. */
struct budget {
        char *id;
        enum budget_kind kind;
        const char *name; /* in id, or NULL */
        struct budget_cap cap;
        uint64_t since;
        bool refused; /* its row is not as this hub wrote it: nothing fits until somebody sets it anew */
        int64_t updated_us;
        char *updated_by;
};

struct account {
        char *key; /* "run:SEQ", "project:NAME", "agent:NAME", "day:DATE", "day:NAME:DATE" */
        struct budget_account sum;
        uint64_t since;
        bool broken;  /* the ledger could not be read: nothing fits */
        bool refused; /* because an entry is not as this hub wrote it */
};

/* A reservation; owned by its step (struct step.hold). Its texts are its own. */
struct hold {
        struct row_ledger row;
        struct budget_amount reserved, seen;
        bool limit_is_ours; /* the tool was given the reservation as its limit */
};

/* A step that waits for money or for a decision; owned by it (struct step.aside). */
struct aside {
        struct list link; /* in ledger.fresh, then in ledger.aside */
        struct step *step;
        struct budget_amount asked;
        enum budget_verdict verdict;
        enum budget_over over;
        struct budget_shortage shortage;
        struct budget_cap cap;           /* that it does not fit into */
        bool denied;                     /* people said no */
        bool refused;                    /* rows that decide were changed behind the hub's back */
        bool counts[BUDGET_MEASURES];    /* some cap counts it */
        char budget[BUDGET_ID_MAX + 16]; /* its id, or "of the workflow" */
        char account[BUDGET_ID_MAX + 16];
};

/* A question that is open; in ledger.asking, owned. */
struct asking {
        struct step *step;
        struct budget_amount asked;
};

struct ledger {
        struct map *budgets, *accounts, *raises, *history;
        struct map *live;   /* while the hub starts: attempt -> struct hold */
        struct map *asking; /* account -> struct asking */
        struct map *old;    /* attempts of earlier lives whose end this life has written */
        size_t n_caps;
        struct list fresh; /* put aside in this turn, not yet acted on */
        struct list aside;
        size_t n_aside;
        bool wake;      /* something was given back, or a cap is another */
        bool day_armed; /* something waits for a day's account: the next one is waited for */
        /* What the gate granted, for dispatch to take. */
        bool granted;
        struct budget_amount grant;
        const char *source;
        char model[200];
};

/* Every budget that applies but the agent's: into *w, of which `asked` is given. */
void check_common(struct engine *en, struct step *s, struct aside *w);
struct budget *budget_find(struct engine *en, enum budget_kind kind, const char *name);
struct account *account_get(struct engine *en, enum budget_kind kind, const char *name, int64_t number);
struct account *account_known(struct engine *en, enum budget_kind kind, const char *name, int64_t number);
void hold_free(struct hold *h);
char *history_key(const char *tool, const char *model);
void history_note(struct engine *en, const char *tool, const char *model, const struct budget_amount *spent);
size_t accounts_of(struct engine *en, const struct row_ledger *row, struct account *v[ENTRY_ACCOUNTS]);
const char *budget_why(const struct aside *w, char *out, size_t size);
bool budget_asks(const struct engine *en, const char *account);
void budget_ask_again(struct engine *en); /* caps are others: whose question has become idle? */
void budget_ask(struct step *s);          /* put aside, over a cap that asks: its question */
void budget_await_day(struct engine *en, const char *account);
void budget_audit_stop(struct step *s, const char *when, const char *text);
/* Moves a reservation, or none, to its end: accounts and row. */
void entry_settle(struct engine *en, struct hold *h, enum budget_end how, const struct budget_amount *said);

#endif
