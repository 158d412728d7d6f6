/* Budgets come back from the store; and results that come when their attempt is long over. */
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/log.h"
#include "common/mem.h"
#include "hub/sched/budget_impl.h"

#define HISTORY_READ 4096 /* newest entries that estimates begin with */

int budgets_create(struct engine *en)
{
        struct ledger *l = mem_calloc(1, sizeof *l);

        if (!l)
                return -E_NOMEM;
        en->ledger = l;
        list_init(&l->fresh);
        list_init(&l->aside);
        l->budgets = map_create();
        l->accounts = map_create();
        l->raises = map_create();
        l->history = map_create();
        l->asking = map_create();
        l->live = map_create();
        l->old = map_create();
        return l->budgets && l->accounts && l->raises && l->history && l->live && l->asking && l->old
                       ? 0
                       : -E_NOMEM;
}

static void free_all(struct map *m, void (*fn)(void *))
{
        size_t it = 0;
        void *v;

        while (m && map_next(m, &it, NULL, &v))
                fn(v);
        map_free(m);
}

static void free_plain(void *v)
{
        mem_free(v);
}

static void free_budget(void *v)
{
        struct budget *b = v;

        mem_free(b->id);
        mem_free(b->updated_by);
        mem_free(b);
}

static void free_account(void *v)
{
        mem_free(((struct account *)v)->key);
        mem_free(v);
}

static void free_live(void *v)
{
        hold_free(v);
}

void budgets_free(struct engine *en)
{
        struct ledger *l = en->ledger;

        if (!l)
                return;
        free_all(l->budgets, free_budget);
        free_all(l->accounts, free_account);
        free_all(l->raises, free_plain);
        free_all(l->history, free_plain);
        free_all(l->live, free_live);
        free_all(l->asking, free_plain);
        map_free(l->old);
        mem_free(l);
        en->ledger = NULL;
}

/* ---- start-up ---- */

static int on_budget(void *arg, const struct row_budget *r)
{
        struct engine *en = arg;
        enum budget_kind kind;
        const char *name;
        struct budget *b;

        if (!r->id || budget_id_parse(r->id, &kind, &name, NULL)) {
                log_warn("engine", "a budget in the database is not understood", "id=%s", r->id ? r->id : "");
                return r->sealed.refused ? 0 : -E_CORRUPT;
        }
        b = engine_alloc(sizeof *b);
        b->id = engine_strdup(r->id);
        b->kind = kind;
        b->name = name ? b->id + (name - r->id) : NULL;
        b->cap = (struct budget_cap){{{BUDGET_NONE, BUDGET_NONE}},
                                     r->over == BUDGET_ASK ? BUDGET_ASK : BUDGET_STOP};
        if (!r->deleted)
                b->cap.max = (struct budget_amount){{r->micros, r->tokens}};
        b->since = r->since;
        if (r->sealed.refused) { /* a deleted one too: it may never have been deleted */
                b->refused = true;
                b->cap = (struct budget_cap){0};
                b->since = 0;
        }
        b->updated_us = r->updated_us;
        b->updated_by = engine_strdup(r->updated_by);
        if (map_put(en->ledger->budgets, b->id, b, NULL))
                abort();
        en->ledger->n_caps += budget_cap_any(&b->cap);
        return 0;
}

static int on_raise(void *arg, const struct row_budget_raise *r)
{
        struct engine *en = arg;
        struct budget_amount *a;
        void *old = NULL;

        if (r->sealed.refused) /* said at the start (hub.c); nothing was allowed */
                return 0;
        a = engine_alloc(sizeof *a);
        *a = (struct budget_amount){{r->micros, r->tokens}};
        if (!r->account || map_put(en->ledger->raises, r->account, a, &old))
                abort();
        mem_free(old);
        return 0;
}

static struct hold *hold_of_row(const struct row_ledger *r)
{
        struct hold *h = engine_alloc(sizeof *h);

        h->row = *r;
        h->row.run_id = engine_strdup(r->run_id);
        h->row.step_id = engine_strdup(r->step_id);
        h->row.project = engine_strdup(r->project);
        h->row.agent = engine_strdup(r->agent);
        h->row.tool = engine_strdup(r->tool);
        h->row.model = engine_strdup(r->model);
        h->row.source = engine_strdup(r->source);
        h->reserved = (struct budget_amount){{r->reserved_micros, r->reserved_tokens}};
        return h;
}

static int on_live(void *arg, const struct row_ledger *r)
{
        struct engine *en = arg;

        if (r->sealed.refused) /* it stays as it is, and spoils the sums it is in */
                return 0;
        if (map_put_u64(en->ledger->live, r->attempt_id, hold_of_row(r), NULL))
                abort();
        return 0;
}

/* Newest first: what is full already is newer. */
static int on_spent(void *arg, const struct row_ledger *r)
{
        struct engine *en = arg;
        struct budget_amount spent = {{r->spent_micros, r->spent_tokens}};
        char *key;
        const struct budget_history *h;

        if (r->sealed.refused)
                return 0;
        key = history_key(r->tool ? r->tool : "", r->model);
        h = map_get(en->ledger->history, key);
        if (!h || h->n < BUDGET_HISTORY)
                history_note(en, r->tool ? r->tool : "", r->model, &spent);
        mem_free(key);
        return 0;
}

static void turn_round(struct budget_history *h)
{
        for (uint32_t i = 0; i < h->n / 2; i++) {
                struct budget_amount x = h->v[i];

                h->v[i] = h->v[h->n - 1 - i];
                h->v[h->n - 1 - i] = x;
        }
}

int budgets_load(struct engine *en, struct err *e)
{
        struct ledger_filter live = {.state = LEDGER_RESERVED, .day = -1};
        struct ledger_filter spent = {.state = LEDGER_SETTLED, .day = -1, .limit = HISTORY_READ};
        size_t it = 0;
        void *v;
        int rc = read_budgets(en->reader, on_budget, en);

        if (!rc)
                rc = read_budget_raises(en->reader, on_raise, en);
        if (!rc)
                rc = read_ledger(en->reader, &live, on_live, en);
        if (!rc)
                rc = read_ledger(en->reader, &spent, on_spent, en);
        while (map_next(en->ledger->history, &it, NULL, &v))
                turn_round(v);
        return rc ? err_set(e, -rc, "the budgets could not be read from the database") : 0;
}

void budget_attach(struct step *s)
{
        s->hold = map_del_u64(s->run->en->ledger->live, s->attempt_id);
}

/* Reservations of attempts that are not under way any more: how they ended was never heard. */
void budgets_resolve(struct engine *en)
{
        size_t it = 0;
        void *v;

        while (map_next(en->ledger->live, &it, NULL, &v)) {
                struct hold *h = v;

                log_warn("engine", "a reservation without an attempt counts as spent", "run=%s step=%s",
                         h->row.run_id ? h->row.run_id : "", h->row.step_id ? h->row.step_id : "");
                map_del_u64(en->ledger->live, h->row.attempt_id);
                entry_settle(en, h, BUDGET_END_LOST, &h->seen);
                hold_free(h);
        }
}

/* ---- late results ---- */

static int on_entry(void *arg, const struct row_ledger *r)
{
        if (r->sealed.refused)
                return -E_DENIED;
        *(struct hold **)arg = hold_of_row(r);
        return 0;
}

/* It was given up and charged in full; now it is known what it was. */
static void correct(struct engine *en, struct hold *h, const struct budget_amount *said)
{
        struct budget_amount was = {{h->row.spent_micros, h->row.spent_tokens}}, now = was;
        struct account *v[ENTRY_ACCOUNTS];
        size_t n = accounts_of(en, &h->row, v);

        for (int m = 0; m < BUDGET_MEASURES; m++)
                if (said->v[m] != BUDGET_NONE)
                        now.v[m] = said->v[m];
        for (size_t i = 0; i < n; i++)
                for (int m = 0; m < BUDGET_MEASURES && h->row.attempt_id > v[i]->since; m++)
                        v[i]->sum.settled.v[m] = budget_add(v[i]->sum.settled.v[m], now.v[m] - was.v[m]);
        h->row.state = LEDGER_SETTLED;
        h->row.spent_micros = now.v[BUDGET_MONEY];
        h->row.spent_tokens = now.v[BUDGET_TOKENS];
        h->row.settled_us = engine_now(en);
        store_put_ledger(engine_tx(en), &h->row);
        en->ledger->wake = true;
}

void budget_late(struct engine *en, const char *agent_id, const struct engine_result *r)
{
        struct fleet_agent *a = fleet_get(en, agent_id);
        struct budget_amount said;
        struct hold *h = NULL;
        cJSON *usage = NULL;
        int rc;

        if (!a || !en->reader || json_parse(r->usage, strlen(r->usage), &usage, NULL))
                return;
        budget_usage_read(usage, &said);
        cJSON_Delete(usage);
        if (said.v[BUDGET_MONEY] == BUDGET_NONE && said.v[BUDGET_TOKENS] == BUDGET_NONE)
                return;
        rc = read_ledger_entry(en->reader, r->attempt_id, on_entry, &h);
        if (!rc && h->row.state == LEDGER_LOST && h->row.agent && !strcmp(h->row.agent, a->name)) {
                correct(en, h, &said);
        } else if (rc == -E_NOENT && r->attempt_id < en->first_attempt &&
                   !map_get_u64(en->ledger->old, r->attempt_id)) {
                /* Of a hub whose data was newer than this copy: the agent spent it all the same. */
                h = engine_alloc(sizeof *h);
                h->reserved = (struct budget_amount){{BUDGET_NONE, BUDGET_NONE}};
                h->row = (struct row_ledger){.attempt_id = r->attempt_id,
                                             .day = budget_day(engine_now(en)),
                                             .reserved_micros = BUDGET_NONE,
                                             .reserved_tokens = BUDGET_NONE,
                                             .agent = engine_strdup(a->name),
                                             .source = engine_strdup("none")};
                entry_settle(en, h, BUDGET_END_SAID, &said);
        }
        hold_free(h);
}
