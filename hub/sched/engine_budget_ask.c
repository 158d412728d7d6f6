/* Over a cap that asks: people allow the account more, once, or not. One question for each account at a time:
 * what else does not fit into it waits for that answer. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/json.h"
#include "common/log.h"
#include "common/mem.h"
#include "hub/sched/ask.h"
#include "hub/sched/budget_impl.h"

static void *must(void *p)
{
        if (!p)
                abort(); /* no memory: see engine.c */
        return p;
}

static bool same_account(const struct aside *w, const char *account)
{
        return w->over == BUDGET_ASK && strcmp(w->account, account) == 0;
}

/* What it takes to let everything in that waits for this answer. */
static struct budget_amount raise_for(struct engine *en, const struct aside *w, int *steps)
{
        struct account *a = map_get(en->ledger->accounts, w->account);
        struct list *lists[] = {&en->ledger->fresh, &en->ledger->aside};
        struct budget_amount out = {{0, 0}};

        *steps = 0;
        for (size_t l = 0; l < 2; l++)
                LIST_EACH (it, lists[l]) {
                        const struct aside *o = container_of(it, struct aside, link);

                        if (!same_account(o, w->account))
                                continue;
                        ++*steps;
                        for (int m = 0; m < BUDGET_MEASURES; m++)
                                if (o->asked.v[m] > 0)
                                        out.v[m] = budget_add(out.v[m], o->asked.v[m]);
                }
        for (int m = 0; m < BUDGET_MEASURES && a; m++) {
                int64_t used = budget_add(a->sum.settled.v[m], a->sum.reserved.v[m]);
                int64_t room = budget_add(w->cap.max.v[m], a->sum.raised.v[m]);

                if (w->cap.max.v[m] == BUDGET_NONE)
                        out.v[m] = 0;
                else
                        out.v[m] = budget_add(budget_add(out.v[m], used), -room);
                if (out.v[m] < 0)
                        out.v[m] = 0;
                if (out.v[m] > BUDGET_MAX)
                        out.v[m] = BUDGET_MAX;
        }
        return out;
}

static void add_amount(cJSON *o, const char *key, const struct budget_amount *a)
{
        cJSON *x = must(cJSON_AddObjectToObject(o, key));
        char text[BUDGET_MONEY_LEN];

        if (a->v[BUDGET_MONEY] >= 0)
                must(cJSON_AddStringToObject(x, "usd", budget_money_text(a->v[BUDGET_MONEY], text)));
        if (a->v[BUDGET_TOKENS] >= 0)
                must(cJSON_AddNumberToObject(x, "tokens", (double)a->v[BUDGET_TOKENS]));
}

static void question_of(struct step *s, const struct aside *w, char *title, size_t size, cJSON *shown)
{
        char why[2 * BUDGET_TEXT_LEN], more[BUDGET_TEXT_LEN / 2];
        int steps;
        struct budget_amount raise = raise_for(s->run->en, w, &steps), text;

        budget_why(w, why, sizeof why);
        must(cJSON_AddStringToObject(shown, "budget", w->budget));
        must(cJSON_AddStringToObject(shown, "account", w->account));
        must(cJSON_AddStringToObject(shown, "why", why));
        must(cJSON_AddStringToObject(shown, "project", s->run->project));
        must(cJSON_AddNumberToObject(shown, "steps", steps));
        add_amount(shown, "asked", &w->asked);
        if (w->verdict == BUDGET_UNPRICED) {
                must(cJSON_AddTrueToObject(shown, "unpriced"));
                snprintf(title, size, "Nobody can say what step %s (%s) costs, and %s. Run it all the same?",
                         s->id, s->def->tool, why);
                return;
        }
        for (int m = 0; m < BUDGET_MEASURES; m++)
                text.v[m] = raise.v[m] > 0 ? raise.v[m] : BUDGET_NONE;
        add_amount(shown, "raise", &text);
        snprintf(title, size, "%s. Allow %s more, once, so that %d step%s can run?", why,
                 budget_amount_text(&text, more, sizeof more), steps, steps == 1 ? "" : "s");
}

bool budget_asks(const struct engine *en, const char *account)
{
        return map_get(en->ledger->asking, account) != NULL;
}

static void note_asking(struct step *s, const char *account, const struct budget_amount *asked)
{
        struct asking *k = engine_alloc(sizeof *k);
        void *old = NULL;

        k->step = s;
        k->asked = *asked;
        set_text(&s->asks_budget, account);
        if (map_put(s->run->en->ledger->asking, account, k, &old))
                abort();
        mem_free(old);
        budget_await_day(s->run->en, account);
}

void budget_ask(struct step *s)
{
        char title[5 * BUDGET_TEXT_LEN], account[sizeof s->aside->account];
        struct budget_amount asked = s->aside->asked;
        cJSON *shown = must(cJSON_CreateObject());
        struct gate_question q = {.kind = KIND_BUDGET, .title = title, .shown = shown};

        question_of(s, s->aside, title, sizeof title, shown);
        q.denied_code = s->aside->verdict == BUDGET_UNPRICED ? "budget_unpriced" : "budget_exceeded";
        snprintf(account, sizeof account, "%s", s->aside->account);
        budget_forget(s);
        note_asking(s, account, &asked);
        step_gate(s, &q);
        cJSON_Delete(shown);
}

/* The answer was no: to all that waited for it. Withdrawn (the run was cancelled): another asks. */
void budget_asked(struct step *s)
{
        struct ledger *l = s->run->en->ledger;
        bool no = s->error_code &&
                  (!strcmp(s->error_code, "budget_exceeded") || !strcmp(s->error_code, "budget_unpriced"));

        if (!s->asks_budget)
                return;
        mem_free(map_del(l->asking, s->asks_budget));
        if (no && !s->run->en->closing)
                LIST_EACH (it, &l->aside) {
                        struct aside *w = container_of(it, struct aside, link);

                        w->denied |= same_account(w, s->asks_budget);
                }
        set_text(&s->asks_budget, NULL);
        if (!s->run->en->closing)
                budget_changed(s->run->en);
}

/* A cap was raised, or taken away, while people were asked: nobody needs to answer any more. */
void budget_ask_again(struct engine *en)
{
        struct step *again[64];
        size_t n = 0, at = 0;
        void *v;

        while (n < sizeof again / sizeof *again && map_next(en->ledger->asking, &at, NULL, &v)) {
                const struct asking *k = v;
                struct aside now = {.asked = k->asked};

                check_common(en, k->step, &now);
                if (now.verdict == BUDGET_OK || now.verdict == BUDGET_WAIT)
                        again[n++] = k->step;
        }
        for (size_t i = 0; i < n; i++) {
                LIST_EACH (it, &again[i]->asks) {
                        struct ask *a = container_of(it, struct ask, of_step);

                        if (a->kind == KIND_BUDGET && a->state == CHECKPOINT_OPEN)
                                ask_decide(a, CHECKPOINT_WITHDRAWN, "hub", "there is room in the budget now");
                }
                step_asks_end(again[i]);
                budget_asked(again[i]);
                step_prepare(again[i]);
        }
}

/* ---- granted ---- */

static void allow_more(struct engine *en, const char *account, const struct budget_amount *more,
                       const char *by, const char *checkpoint)
{
        struct budget_amount *r = map_get(en->ledger->raises, account);
        struct account *a = map_get(en->ledger->accounts, account);
        char detail[256], money[BUDGET_MONEY_LEN];

        if (!r) {
                r = engine_alloc(sizeof *r);
                if (map_put(en->ledger->raises, account, r, NULL))
                        abort();
        }
        for (int m = 0; m < BUDGET_MEASURES; m++)
                r->v[m] = budget_add(r->v[m], more->v[m] > 0 ? more->v[m] : 0);
        if (a)
                a->sum.raised = *r;
        store_put_budget_raise(engine_tx(en), &(struct row_budget_raise){.account = account,
                                                                         .micros = r->v[BUDGET_MONEY],
                                                                         .tokens = r->v[BUDGET_TOKENS],
                                                                         .updated_us = engine_now(en)});
        snprintf(detail, sizeof detail, "{\"checkpoint\":\"%s\",\"usd\":\"%s\",\"tokens\":%" PRId64 "}",
                 checkpoint, budget_money_text(more->v[BUDGET_MONEY] > 0 ? more->v[BUDGET_MONEY] : 0, money),
                 more->v[BUDGET_TOKENS] > 0 ? more->v[BUDGET_TOKENS] : 0);
        store_put_audit(engine_tx(en), engine_now(en), by ? by : "hub", "budget.raise", account, detail);
}

static void on_granted(struct step *s, const struct gate_answer *m)
{
        struct engine *en = s->run->en;
        struct budget_amount more;
        const cJSON *about, *account;
        cJSON *doc = NULL;

        if (json_parse(m->arguments, strlen(m->arguments), &doc, NULL))
                abort(); /* the hub's own words */
        about = cJSON_GetObjectItemCaseSensitive(doc, "about");
        account = cJSON_GetObjectItemCaseSensitive(about, "account");
        if (cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(about, "unpriced")))
                s->may_be_unpriced = true;
        else if (cJSON_IsString(account) &&
                 !budget_amount_read(cJSON_GetObjectItemCaseSensitive(about, "raise"), &more, NULL))
                allow_more(en, account->valuestring, &more, m->by, m->checkpoint_id);
        cJSON_Delete(doc);
        budget_asked(s);
}

void budget_asks_begin(struct engine *en)
{
        gate_on_granted(en, KIND_BUDGET, on_granted);
}

/* After the questions came back from the store: who asks for which account. */
void budget_asks_load(struct engine *en)
{
        size_t it = 0;
        void *v;

        while (map_next(en->asks, &it, NULL, &v)) {
                const struct ask *a = v;
                struct budget_amount asked;
                const cJSON *about, *account;
                cJSON *doc = NULL;

                if (a->kind != KIND_BUDGET || a->state != CHECKPOINT_OPEN || !a->step ||
                    json_parse(a->arguments, strlen(a->arguments), &doc, NULL))
                        continue;
                about = cJSON_GetObjectItemCaseSensitive(doc, "about");
                account = cJSON_GetObjectItemCaseSensitive(about, "account");
                if (cJSON_IsString(account) &&
                    !budget_amount_read(cJSON_GetObjectItemCaseSensitive(about, "asked"), &asked, NULL))
                        note_asking(a->step, account->valuestring, &asked);
                cJSON_Delete(doc);
        }
}
