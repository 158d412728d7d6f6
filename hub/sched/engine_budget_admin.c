/* What people set, and what they see of it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/clock.h"
#include "common/mem.h"
#include "hub/sched/budget_impl.h"

static void put_row(struct engine *en, const struct budget *b, bool deleted)
{
        struct row_budget row = {.id = b->id,
                                 .micros = b->cap.max.v[BUDGET_MONEY],
                                 .tokens = b->cap.max.v[BUDGET_TOKENS],
                                 .over = b->cap.over,
                                 .since = b->since,
                                 .deleted = deleted,
                                 .updated_us = b->updated_us,
                                 .updated_by = b->updated_by};

        store_put_budget(engine_tx(en), &row);
}

static void audit(struct engine *en, const char *by, const char *action, const struct budget *b, bool restart)
{
        char money[BUDGET_MONEY_LEN], usd[BUDGET_MONEY_LEN + 2] = "null", tokens[24] = "null", text[256];

        if (b->cap.max.v[BUDGET_MONEY] != BUDGET_NONE)
                snprintf(usd, sizeof usd, "\"%s\"", budget_money_text(b->cap.max.v[BUDGET_MONEY], money));
        if (b->cap.max.v[BUDGET_TOKENS] != BUDGET_NONE)
                snprintf(tokens, sizeof tokens, "%lld", (long long)b->cap.max.v[BUDGET_TOKENS]);
        snprintf(text, sizeof text, "{\"usd\":%s,\"tokens\":%s,\"over\":\"%s\",\"restart\":%s}", usd, tokens,
                 budget_over_name(b->cap.over), restart ? "true" : "false");
        store_put_audit(engine_tx(en), engine_now(en), by, action, b->id, text);
}

/* The account that a budget counts today; NULL: one for each run. */
static struct account *account_now(struct engine *en, const struct budget *b)
{
        if (b->kind == BUDGET_RUN)
                return NULL;
        return account_get(en, b->kind, b->name, budget_day(engine_now(en)));
}

/* A new cap says all: what was allowed over the old one is over. */
static void forget_raise(struct engine *en, const struct budget *b)
{
        struct account *a = account_now(en, b);
        struct budget_amount *r = a ? map_get(en->ledger->raises, a->key) : NULL;

        if (!r)
                return;
        *r = (struct budget_amount){{0, 0}};
        a->sum.raised = *r;
        store_put_budget_raise(engine_tx(en),
                               &(struct row_budget_raise){.account = a->key, .updated_us = engine_now(en)});
}

static struct budget *budget_make(struct engine *en, const char *id, enum budget_kind kind, const char *name)
{
        struct budget *b = engine_alloc(sizeof *b);

        b->id = engine_strdup(id);
        b->kind = kind;
        b->name = name ? b->id + (name - id) : NULL;
        b->cap.max = (struct budget_amount){{BUDGET_NONE, BUDGET_NONE}};
        if (map_put(en->ledger->budgets, b->id, b, NULL))
                abort();
        return b;
}

static int may_set(struct engine *en, const struct engine_budget_set *set, const struct budget *b,
                   enum budget_kind kind, struct err *e)
{
        if (!budget_cap_any(&set->cap))
                return err_set(e, E_INVAL, "a budget caps \"usd\", \"tokens\" or both");
        if (set->restart && kind != BUDGET_PROJECT && kind != BUDGET_AGENT)
                return err_set(
                        e, E_INVAL,
                        "\"restart\" is for the budgets of projects and agents: runs and days begin anew "
                        "by themselves");
        if ((!b || !budget_cap_any(&b->cap)) &&
            (en->ledger->n_caps >= BUDGETS_MAX || map_count(en->ledger->budgets) >= 10 * BUDGETS_MAX))
                return err_set(e, E_FULL, "there are %d budgets: delete some", BUDGETS_MAX);
        return 0;
}

void engine_budget_set(struct engine *en, const struct engine_budget_set *set, engine_answer cb, void *arg)
{
        struct ledger *l = en->ledger;
        struct budget *b = map_get(l->budgets, set->id);
        enum budget_kind kind;
        const char *name;
        struct err e = {0};
        int rc = budget_id_parse(set->id, &kind, &name, &e);

        if (!rc)
                rc = may_set(en, set, b, kind, &e);
        if (rc) {
                cb(arg, rc, &e);
                return;
        }
        if (!b)
                b = budget_make(en, set->id, kind, name);
        l->n_caps += !budget_cap_any(&b->cap);
        b->cap = set->cap;
        b->refused = false;
        b->updated_us = engine_now(en);
        set_text(&b->updated_by, set->by);
        if (set->restart) {
                struct account *a = account_now(en, b);

                b->since = en->next_attempt - 1;
                a->since = b->since;
                a->sum = (struct budget_account){0};
                a->broken = a->refused = false;
        }
        forget_raise(en, b);
        put_row(en, b, false);
        audit(en, set->by, "budget.set", b, set->restart);
        l->wake = true;
        engine_after_answer(en, cb, arg, 0, NULL);
}

void engine_budget_delete(struct engine *en, const char *id, const char *by, engine_answer cb, void *arg)
{
        struct ledger *l = en->ledger;
        struct budget *b = map_get(l->budgets, id);
        struct err e = {0};

        if (!b || !budget_cap_any(&b->cap)) {
                cb(arg, err_set(&e, E_NOENT, "there is no budget %.150s", id), &e);
                return;
        }
        forget_raise(en, b);
        audit(en, by, "budget.delete", b, false);
        b->refused = false;
        b->cap.max = (struct budget_amount){{BUDGET_NONE, BUDGET_NONE}};
        b->updated_us = engine_now(en);
        set_text(&b->updated_by, by);
        put_row(en, b, true);
        l->n_caps--;
        l->wake = true;
        engine_want_flush(en);
        engine_after_answer(en, cb, arg, 0, NULL);
}

/* ---- for people ---- */

static void *must(void *p)
{
        if (!p)
                abort();
        return p;
}

static void add_amount(cJSON *o, const char *key, const struct budget_amount *a)
{
        cJSON *x = must(cJSON_AddObjectToObject(o, key));
        char money[BUDGET_MONEY_LEN];

        if (a->v[BUDGET_MONEY] == BUDGET_NONE)
                must(cJSON_AddNullToObject(x, "usd"));
        else
                must(cJSON_AddStringToObject(x, "usd", budget_money_text(a->v[BUDGET_MONEY], money)));
        if (a->v[BUDGET_TOKENS] == BUDGET_NONE)
                must(cJSON_AddNullToObject(x, "tokens"));
        else
                must(cJSON_AddNumberToObject(x, "tokens", (double)a->v[BUDGET_TOKENS]));
}

static struct budget_amount left_of(const struct budget_cap *c, const struct budget_account *a)
{
        struct budget_amount left = {{BUDGET_NONE, BUDGET_NONE}};

        for (int m = 0; m < BUDGET_MEASURES; m++) {
                if (c->max.v[m] == BUDGET_NONE)
                        continue;
                left.v[m] = budget_add(budget_add(c->max.v[m], a->raised.v[m]),
                                       -budget_add(a->settled.v[m], a->reserved.v[m]));
                if (left.v[m] < 0)
                        left.v[m] = 0;
        }
        return left;
}

static int count_waiting(const struct engine *en, const char *id)
{
        int n = 0;

        LIST_EACH (it, &en->ledger->aside)
                n += strcmp(container_of(it, struct aside, link)->budget, id) == 0;
        return n;
}

static cJSON *describe(struct engine *en, const struct budget *b)
{
        cJSON *o = must(cJSON_CreateObject());
        struct account *a = account_now(en, b);
        char when[CLOCK_RFC3339_LEN];
        struct budget_amount left;

        must(cJSON_AddStringToObject(o, "id", b->id));
        must(cJSON_AddStringToObject(o, "scope", budget_kind_name(b->kind)));
        must(b->name ? cJSON_AddStringToObject(o, "name", b->name) : cJSON_AddNullToObject(o, "name"));
        add_amount(o, "cap", &b->cap.max);
        must(cJSON_AddStringToObject(o, "over", budget_over_name(b->cap.over)));
        if (a) {
                left = left_of(&b->cap, &a->sum);
                add_amount(o, "spent", &a->sum.settled);
                add_amount(o, "reserved", &a->sum.reserved);
                add_amount(o, "raised", &a->sum.raised);
                add_amount(o, "left", &left);
        }
        if (b->refused || (a && a->refused))
                must(cJSON_AddTrueToObject(o, "refused"));
        must(cJSON_AddNumberToObject(o, "waiting", count_waiting(en, b->id)));
        clock_format(b->updated_us, when);
        must(cJSON_AddStringToObject(o, "updated_at", when));
        must(cJSON_AddStringToObject(o, "updated_by", b->updated_by ? b->updated_by : ""));
        return o;
}

cJSON *engine_budgets(struct engine *en, const char *id)
{
        cJSON *list;
        size_t it = 0;
        void *v;

        if (id) {
                const struct budget *b = map_get(en->ledger->budgets, id);

                return b && budget_cap_any(&b->cap) ? describe(en, b) : NULL;
        }
        list = must(cJSON_CreateArray());
        while (map_next(en->ledger->budgets, &it, NULL, &v))
                if (budget_cap_any(&((struct budget *)v)->cap))
                        cJSON_AddItemToArray(list, describe(en, v));
        return list;
}
