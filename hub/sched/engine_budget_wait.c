/* Steps that a budget holds up: they wait for what others reserved, or fail. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/json.h"
#include "common/mem.h"
#include "hub/sched/budget_impl.h"

#define WAKE_BATCH 64 /* steps that are tried again in one turn */
#define FULL_MAX   16

void budget_forget(struct step *s)
{
        if (!s->aside)
                return;
        list_remove(&s->aside->link);
        s->run->en->ledger->n_aside--;
        mem_free(s->aside);
        s->aside = NULL;
}

void budget_audit_stop(struct step *s, const char *when, const char *text)
{
        struct engine *en = s->run->en;
        char object[512];
        struct buf b = {0};

        snprintf(object, sizeof object, "%s/%s", s->run->id, s->id);
        if (buf_printf(&b, "{\"when\":\"%s\",\"attempt\":%u,\"reason\":", when, s->attempt) ||
            json_append_str(&b, text, strlen(text)) || buf_puts(&b, "}") || buf_putc(&b, 0))
                abort();
        store_put_audit(engine_tx(en), engine_now(en), "hub", "budget.stop", object, (const char *)b.data);
        buf_fini(&b);
}

const char *budget_why(const struct aside *w, char *out, size_t size)
{
        char numbers[BUDGET_TEXT_LEN];

        if (w->refused)
                snprintf(out, size, "the budget %s: rows of it in the database were changed by somebody else",
                         w->budget);
        else if (!w->shortage.cap && !w->shortage.settled && !w->shortage.asked && w->verdict == BUDGET_OVER)
                snprintf(out, size, "the budget %s: nothing fits into it", w->budget);
        else
                snprintf(out, size, "the budget %s: %s", w->budget,
                         budget_shortage_text(&w->shortage, numbers, sizeof numbers));
        return out;
}

/* What is to be done about rows that somebody else wrote. */
static void refused_text(const struct engine *en, const struct aside *w, char *out, size_t size)
{
        const struct budget *b = map_get(en->ledger->budgets, w->budget);

        if (strcmp(w->budget, BUDGETS_TORN) == 0)
                snprintf(out, size,
                         "budgets of this hub were removed from the database, or put back to what they once "
                         "were, so nothing is spent. Find out who can write hub.db, look through photon "
                         "budgets, set what is missing, and start the hub once with --accept-changed-rows");
        else if (b && b->refused)
                snprintf(out, size,
                         "the budget %s in the database is not as this hub wrote it, so nothing fits into "
                         "it. Find out who can write hub.db, and set it anew: photon budget set %s",
                         w->budget, w->budget);
        else
                snprintf(out, size,
                         "entries that the budget %s counts (%s) are not as this hub wrote them, so nobody "
                         "knows what is left. Find out who can write hub.db, and begin anew: photon budget "
                         "set %s --restart; where there is no restart, a new run or the next day is one",
                         w->budget, w->account, w->budget);
}

static void refuse(struct step *s)
{
        struct aside w = *s->aside;
        const char *code = w.refused                      ? "budget_row_refused"
                           : w.verdict == BUDGET_UNPRICED ? "budget_unpriced"
                                                          : "budget_exceeded";
        char why[2 * BUDGET_TEXT_LEN], text[4 * BUDGET_TEXT_LEN];
        bool own = strcmp(w.budget, "of the workflow") == 0;

        budget_why(&w, why, sizeof why);
        if (w.refused)
                refused_text(s->run->en, &w, text, sizeof text);
        else if (w.verdict == BUDGET_UNPRICED)
                snprintf(text, sizeof text,
                         "nobody can say what this step costs in %s, and %s. Give the step an \"estimate\", "
                         "or "
                         "let the hub's option budget-unpriced decide otherwise",
                         w.shortage.measure == BUDGET_MONEY ? "money" : "tokens", why);
        else
                snprintf(text, sizeof text, "over %s. %s%s%s", why,
                         own ? "Raise \"budget\" in the workflow" : "Raise it with photon budget set ",
                         own ? "" : w.budget, ", or let the step cost less");
        budget_forget(s);
        budget_audit_stop(s, "before it began", text);
        step_fail(s, code, text);
}

static void act(struct aside *w)
{
        struct engine *en = w->step->run->en;
        bool asks = w->verdict == BUDGET_OVER ? w->over == BUDGET_ASK
                                              : en->opt.budget_unpriced == BUDGET_UNPRICED_ASK;

        if (w->denied)
                refuse(w->step);
        else if (w->verdict == BUDGET_WAIT || (asks && budget_asks(en, w->account)))
                return;
        else if (asks)
                budget_ask(w->step);
        else
                refuse(w->step);
}

/* After the picks of a turn: an end of one step may end others, also some that were put aside. */
void budget_act(struct engine *en)
{
        struct ledger *l = en->ledger;
        struct list *it;

        while ((it = list_pop(&l->fresh))) {
                struct aside *w = container_of(it, struct aside, link);

                list_push_back(&l->aside, &w->link);
                budget_await_day(en, w->account);
                act(w);
        }
}

/* Would it be put aside again for the same reason? What no longer fits at all is tried, too: it must be
 * told. *full: for what others hold of the same account, so that no larger one fits into that, either. */
static bool still_waits(struct engine *en, const struct aside *w, bool *full)
{
        struct aside now = {.asked = w->asked};

        if (w->denied)
                return false;
        now.over = (enum budget_over)(BUDGET_ASK + 1);
        check_common(en, w->step, &now);
        *full = now.verdict == BUDGET_WAIT && strcmp(now.account, w->account) == 0;
        if (now.verdict == BUDGET_WAIT)
                return true;
        return now.verdict != BUDGET_OK && budget_asks(en, w->account) &&
               strcmp(now.account, w->account) == 0;
}

/* Accounts that were found full in this look, and for how much: thousands may wait for one. */
struct full {
        const char *account;
        struct budget_amount asked;
};

static bool is_full(const struct full *v, size_t n, const struct aside *w)
{
        for (size_t i = 0; i < n && !w->denied && w->verdict == BUDGET_WAIT; i++)
                if (w->asked.v[BUDGET_MONEY] >= v[i].asked.v[BUDGET_MONEY] &&
                    w->asked.v[BUDGET_TOKENS] >= v[i].asked.v[BUDGET_TOKENS] &&
                    strcmp(v[i].account, w->account) == 0)
                        return true;
        return false;
}

/* Each is judged alone; those for which it is too little after all come back to the end of the list. */
void budget_wake(struct engine *en)
{
        struct ledger *l = en->ledger;
        struct step *again[WAKE_BATCH];
        struct full full[FULL_MAX];
        size_t n = 0, counted = 0, n_full = 0;

        if (!l->wake)
                return;
        l->wake = false;
        budget_ask_again(en);
        LIST_EACH (it, &l->aside) {
                struct aside *w = container_of(it, struct aside, link);
                bool now_full = false;

                if (n == WAKE_BATCH)
                        break;
                if (is_full(full, n_full, w))
                        continue;
                if (still_waits(en, w, &now_full)) {
                        if (now_full && n_full < FULL_MAX)
                                full[n_full++] = (struct full){w->account, w->asked};
                        continue;
                }
                counted += strncmp(w->account, "agent:", 6) != 0;
                again[n++] = w->step;
        }
        for (size_t i = 0; i < n; i++)
                if (again[i]->aside && again[i]->aside->denied)
                        refuse(again[i]);
                else
                        budget_forget(again[i]);
        for (size_t i = 0; i < n; i++)
                if (again[i]->state == STEP_READY && !again[i]->demand) /* not ended by one before it */
                        step_prepare(again[i]);
        if (n == WAKE_BATCH && counted) {
                l->wake = true;
                engine_want_flush(en);
        }
}

/* What waits for a day's account may have its turn when the day is over. */
void budget_await_day(struct engine *en, const char *account)
{
        const int64_t day_us = INT64_C(86400) * 1000000;
        int64_t now = engine_now(en), left_us = (budget_day(now) + 1) * day_us - now;
        struct timer t = {.kind = TIMER_DAY, .at_ms = clock_mono_ms(&en->clock) + left_us / 1000 + 1};

        if (en->ledger->day_armed || strncmp(account, "day:", 4) != 0)
                return;
        en->ledger->day_armed = true;
        if (timers_add(&en->timers, &t))
                abort();
}

void budget_new_day(struct engine *en)
{
        const char *account;
        size_t at = 0;

        en->ledger->day_armed = false;
        en->ledger->wake = true;
        LIST_EACH (it, &en->ledger->aside)
                budget_await_day(en, container_of(it, struct aside, link)->account);
        while (map_next(en->ledger->asking, &at, &account, NULL))
                budget_await_day(en, account);
        engine_want_flush(en);
}

void budget_changed(struct engine *en)
{
        if (!en->ledger->n_aside)
                return;
        en->ledger->wake = true;
        engine_want_flush(en);
}

size_t budget_waiting(const struct engine *en)
{
        return en->ledger->n_aside;
}

bool budget_explain(struct step *s, cJSON *o)
{
        char why[2 * BUDGET_TEXT_LEN], text[3 * BUDGET_TEXT_LEN];

        if (!s->aside)
                return false;
        snprintf(text, sizeof text, "it waits for %s; %s", budget_why(s->aside, why, sizeof why),
                 s->aside->verdict == BUDGET_WAIT
                         ? "steps that run now have reserved it"
                         : "people are asked whether there may be more (photon checkpoints)");
        cJSON_AddStringToObject(o, "reason", text);
        cJSON_AddStringToObject(o, "budget", s->aside->budget);
        return true;
}
