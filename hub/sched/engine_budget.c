/* Budgets while steps run: reserved with the dispatch, watched, settled with the end. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/str.h"
#include "hub/event/bus.h"
#include "hub/sched/budget_impl.h"

static const struct budget_amount unknown = {{BUDGET_NONE, BUDGET_NONE}};

/* ---- accounts ---- */

static void account_key(enum budget_kind kind, const char *name, int64_t number, char out[BUDGET_ID_MAX + 16])
{
        char day[BUDGET_DAY_LEN];

        switch (kind) {
        case BUDGET_RUN:
                snprintf(out, BUDGET_ID_MAX + 16, "run:%lld", (long long)number);
                break;
        case BUDGET_DAY:
                snprintf(out, BUDGET_ID_MAX + 16, "day:%s", budget_day_text(number, day));
                break;
        case BUDGET_PROJECT_DAY:
                snprintf(out, BUDGET_ID_MAX + 16, "day:%s:%s", name, budget_day_text(number, day));
                break;
        default:
                snprintf(out, BUDGET_ID_MAX + 16, "%s:%s", budget_kind_name(kind), name);
                break;
        }
}

struct budget *budget_find(struct engine *en, enum budget_kind kind, const char *name)
{
        char id[BUDGET_ID_MAX + 16];

        snprintf(id, sizeof id, "%s%s%s", budget_kind_name(kind), name ? ":" : "", name ? name : "");
        return map_get(en->ledger->budgets, id);
}

struct account *account_known(struct engine *en, enum budget_kind kind, const char *name, int64_t number)
{
        char key[BUDGET_ID_MAX + 16];

        account_key(kind, name, number, key);
        return map_get(en->ledger->accounts, key);
}

struct account *account_get(struct engine *en, enum budget_kind kind, const char *name, int64_t number)
{
        struct ledger_key k = {.kind = kind, .name = name, .number = number};
        bool lasting = kind == BUDGET_PROJECT || kind == BUDGET_AGENT;
        const struct budget *b = lasting ? budget_find(en, kind, name) : NULL;
        const struct budget_amount *raised;
        char key[BUDGET_ID_MAX + 16];
        struct account *a;
        int rc;

        account_key(kind, name, number, key);
        a = map_get(en->ledger->accounts, key);
        if (a)
                return a;
        a = engine_alloc(sizeof *a);
        a->key = engine_strdup(key);
        a->since = k.since = b ? b->since : 0;
        rc = read_ledger_sum(en->reader, &k, &a->sum);
        if (rc) {
                log_error("engine", "a budget's ledger could not be read: nothing fits into it", "account=%s",
                          key);
                a->broken = true;
                a->refused = rc == -E_DENIED;
        }
        raised = map_get(en->ledger->raises, key);
        if (raised)
                a->sum.raised = *raised;
        if (map_put(en->ledger->accounts, key, a, NULL))
                abort();
        return a;
}

/* All that an entry counts in. An entry whose run is not known counts for its agent and its day. */
size_t accounts_of(struct engine *en, const struct row_ledger *row, struct account *v[ENTRY_ACCOUNTS])
{
        size_t n = 0;

        if (row->run_seq)
                v[n++] = account_get(en, BUDGET_RUN, NULL, row->run_seq);
        if (row->project)
                v[n++] = account_get(en, BUDGET_PROJECT, row->project, 0);
        if (row->agent)
                v[n++] = account_get(en, BUDGET_AGENT, row->agent, 0);
        v[n++] = account_get(en, BUDGET_DAY, NULL, row->day);
        if (row->project)
                v[n++] = account_get(en, BUDGET_PROJECT_DAY, row->project, row->day);
        return n;
}

void budget_run_gone(struct run *r)
{
        struct account *a = r->en->ledger ? account_known(r->en, BUDGET_RUN, NULL, r->seq) : NULL;

        if (!a)
                return;
        map_del(r->en->ledger->accounts, a->key);
        mem_free(a->key);
        mem_free(a);
}

/* ---- history ---- */

char *history_key(const char *tool, const char *model)
{
        char *key = str_printf("%s\x1f%s", tool, model ? model : "");

        if (!key)
                abort();
        return key;
}

void history_note(struct engine *en, const char *tool, const char *model, const struct budget_amount *spent)
{
        char *key = history_key(tool, model);
        struct budget_history *h = map_get(en->ledger->history, key);

        if (!h && map_count(en->ledger->history) < BUDGET_HISTORY_MAX) {
                h = engine_alloc(sizeof *h);
                if (map_put(en->ledger->history, key, h, NULL))
                        abort();
        }
        if (h)
                budget_history_note(h, spent);
        mem_free(key);
}

/* ---- estimates ---- */

static void fill_gaps(struct budget_amount *a, const struct budget_amount *from, const char *name,
                      const char **source)
{
        for (int m = 0; m < BUDGET_MEASURES; m++) {
                if (a->v[m] != BUDGET_NONE || from->v[m] == BUDGET_NONE)
                        continue;
                a->v[m] = from->v[m];
                if (!*source)
                        *source = name;
        }
}

static bool has_limits(const char *tool)
{
        size_t n = strlen(tool);

        return n > 7 && strcmp(tool + n - 7, ".prompt") == 0;
}

/* What the step asks of the tool itself: a tool that has limits keeps them. */
static struct budget_amount own_limits(struct step *s, char *model, size_t size)
{
        struct budget_amount out = unknown;
        const cJSON *limits, *v;
        cJSON *in = NULL;

        model[0] = '\0';
        if (!s->input || json_parse(s->input, strlen(s->input), &in, NULL))
                return out;
        v = cJSON_GetObjectItemCaseSensitive(in, "model");
        if (cJSON_IsString(v))
                snprintf(model, size, "%s", v->valuestring);
        limits = has_limits(s->def->tool) ? cJSON_GetObjectItemCaseSensitive(in, "limits") : NULL;
        v = cJSON_GetObjectItemCaseSensitive(limits, "cost_usd");
        if (cJSON_IsNumber(v))
                out.v[BUDGET_MONEY] = budget_money_of(v->valuedouble);
        v = cJSON_GetObjectItemCaseSensitive(limits, "tokens");
        if (cJSON_IsNumber(v) && v->valuedouble >= 0 && v->valuedouble <= (double)BUDGET_MAX)
                out.v[BUDGET_TOKENS] = (int64_t)v->valuedouble;
        cJSON_Delete(in);
        return out;
}

static struct budget_amount estimate(struct engine *en, struct step *s, struct fleet_agent *a)
{
        struct ledger *l = en->ledger;
        struct budget_amount out = s->def->estimate, more;
        const struct budget_history *h;
        char *key;

        l->source = out.v[BUDGET_MONEY] != BUDGET_NONE || out.v[BUDGET_TOKENS] != BUDGET_NONE ? "step" : NULL;
        more = own_limits(s, l->model, sizeof l->model);
        fill_gaps(&out, &more, "limits", &l->source);
        if (s->route) {
                more = route_estimate(en, s, a, l->model, sizeof l->model);
                fill_gaps(&out, &more, "price-table", &l->source);
        }
        key = history_key(s->def->tool, l->model);
        h = map_get(l->history, key);
        mem_free(key);
        if (h) {
                more = budget_history_estimate(h);
                fill_gaps(&out, &more, "history", &l->source);
        }
        return out;
}

/* ---- the gate ---- */

/* Says stop, and is said first: whoever may write rows decides nothing. */
static void check_refused(struct aside *w, const char *id, const char *account)
{
        w->verdict = BUDGET_OVER;
        w->over = BUDGET_STOP;
        w->refused = true;
        w->cap = (struct budget_cap){0};
        w->shortage = (struct budget_shortage){0};
        snprintf(w->budget, sizeof w->budget, "%s", id);
        snprintf(w->account, sizeof w->account, "%s", account);
}

static void check_one(const struct budget_cap *cap, const char *id, struct account *a, struct aside *w)
{
        struct budget_shortage why = {0};
        enum budget_verdict v;

        if (!budget_cap_any(cap) || w->refused)
                return;
        if (a->refused) {
                check_refused(w, id, a->key);
                return;
        }
        for (int m = 0; m < BUDGET_MEASURES; m++)
                w->counts[m] |= cap->max.v[m] != BUDGET_NONE;
        v = a->broken ? BUDGET_OVER : budget_check(cap, &a->sum, &w->asked, &why);
        if (v == BUDGET_OK || v < w->verdict || (v == w->verdict && cap->over >= w->over))
                return;
        w->verdict = v;
        w->over = cap->over;
        w->cap = *cap;
        w->shortage = why;
        snprintf(w->budget, sizeof w->budget, "%s", id);
        snprintf(w->account, sizeof w->account, "%s", a->key);
}

static void check_kind(struct engine *en, enum budget_kind kind, const char *set_for, const char *name,
                       int64_t number, struct aside *w)
{
        const struct budget *b = budget_find(en, kind, set_for);

        if (b && b->refused && !w->refused)
                check_refused(w, b->id, account_get(en, kind, name, number)->key);
        else if (b && budget_cap_any(&b->cap))
                check_one(&b->cap, b->id, account_get(en, kind, name, number), w);
}

/* Every budget that applies but the agent's. */
void check_common(struct engine *en, struct step *s, struct aside *w)
{
        const char *project = s->run->project;
        int64_t day = budget_day(engine_now(en));

        if (!store_budgets_whole(en->store))
                check_refused(w, BUDGETS_TORN, BUDGETS_TORN);
        if (budget_cap_any(&s->run->wf->budget))
                check_one(&s->run->wf->budget, "of the workflow",
                          account_get(en, BUDGET_RUN, NULL, s->run->seq), w);
        check_kind(en, BUDGET_RUN, NULL, NULL, s->run->seq, w);
        check_kind(en, BUDGET_PROJECT, project, project, 0, w);
        check_kind(en, BUDGET_DAY, NULL, NULL, day, w);
        check_kind(en, BUDGET_PROJECT_DAY, project, project, day, w);
}

static void check_agent(struct engine *en, const struct fleet_agent *a, struct aside *w)
{
        check_kind(en, BUDGET_AGENT, a->name, a->name, 0, w);
}

/* Another agent that takes the step and has budget left; `busy`: one would, when it has a place. */
static struct fleet_agent *other_agent(struct engine *en, struct step *s, const struct aside *asked,
                                       bool *busy)
{
        *busy = false;
        for (size_t i = 0; i < en->n_fleet; i++) {
                struct aside w = {.asked = asked->asked};
                struct plan_agent view;
                enum plan_why why;

                fleet_view(en->fleet[i], &view);
                why = plan_fits(&s->demand->want, &view, NULL);
                if ((why != PLAN_OK && why != PLAN_BUSY) ||
                    (s->route && !route_takes_it(en, s, en->fleet[i])))
                        continue;
                check_agent(en, en->fleet[i], &w);
                if (w.verdict != BUDGET_OK)
                        continue;
                if (why == PLAN_OK)
                        return en->fleet[i];
                *busy = true;
        }
        return NULL;
}

static void put_aside(struct engine *en, struct step *s, const struct aside *w)
{
        struct ledger *l = en->ledger;

        demand_remove(s);
        s->group = NULL;
        s->aside = engine_alloc(sizeof *s->aside);
        *s->aside = *w;
        s->aside->step = s;
        list_init(&s->aside->link);
        list_push_back(&l->fresh, &s->aside->link);
        l->n_aside++;
        engine_want_flush(en); /* its place is free for others */
}

static bool concerned(struct engine *en, const struct step *s)
{
        if (!en->ledger->n_caps && !budget_cap_any(&s->run->wf->budget) && store_budgets_whole(en->store))
                return false;
        return !budget_tool_is_free(s->def->tool) || s->def->estimate.v[BUDGET_MONEY] != BUDGET_NONE ||
               s->def->estimate.v[BUDGET_TOKENS] != BUDGET_NONE;
}

static struct aside judge(struct engine *en, struct step *s, struct fleet_agent *a)
{
        struct aside w = {.asked = estimate(en, s, a)};

        w.over = (enum budget_over)(BUDGET_ASK + 1); /* none yet: what says stop is said first */
        check_common(en, s, &w);
        if (w.verdict == BUDGET_OK)
                check_agent(en, a, &w);
        return w;
}

static bool ask_gate(struct engine *en, struct step *s, struct fleet_agent **a)
{
        struct ledger *l = en->ledger;
        struct aside w = judge(en, s, *a);
        struct fleet_agent *other;
        bool busy = false;

        if (strncmp(w.account, "agent:", 6) == 0 && w.verdict != BUDGET_UNPRICED) {
                other = other_agent(en, s, &w, &busy);
                if (other)
                        w = judge(en, s, *a = other); /* its models may cost something else */
                else if (busy)
                        w.verdict = BUDGET_WAIT;
        }
        if (w.verdict == BUDGET_UNPRICED &&
            (s->may_be_unpriced || en->opt.budget_unpriced == BUDGET_UNPRICED_ALLOW))
                w.verdict = BUDGET_OK;
        if (w.verdict != BUDGET_OK) {
                put_aside(en, s, &w);
                return false;
        }
        /* What no cap counts is no reason to stop the call. */
        l->granted = w.counts[BUDGET_MONEY] || w.counts[BUDGET_TOKENS];
        for (int m = 0; m < BUDGET_MEASURES; m++)
                l->grant.v[m] = w.counts[m] ? w.asked.v[m] : BUDGET_NONE;
        return true;
}

bool budget_gate(struct engine *en, struct step *s, struct fleet_agent **a)
{
        en->ledger->granted = false;
        if ((*a)->running >= (*a)->max_running) { /* a step that was meant for another agent took the place */
                engine_want_flush(en);
                return false;
        }
        return !concerned(en, s) || ask_gate(en, s, a);
}

/* ---- entries ---- */

void hold_free(struct hold *h)
{
        if (!h)
                return;
        mem_free((char *)h->row.run_id);
        mem_free((char *)h->row.step_id);
        mem_free((char *)h->row.project);
        mem_free((char *)h->row.agent);
        mem_free((char *)h->row.tool);
        mem_free((char *)h->row.model);
        mem_free((char *)h->row.source);
        mem_free(h);
}

static struct hold *hold_make(struct engine *en, struct step *s, const struct budget_amount *reserved)
{
        struct hold *h = engine_alloc(sizeof *h);

        h->reserved = *reserved;
        h->row = (struct row_ledger){
                .attempt_id = s->attempt_id,
                .run_seq = s->run->seq,
                .step_idx = s->idx,
                .attempt = s->attempt,
                .state = LEDGER_RESERVED,
                .day = budget_day(engine_now(en)),
                .reserved_micros = reserved->v[BUDGET_MONEY],
                .reserved_tokens = reserved->v[BUDGET_TOKENS],
                .reserved_us = engine_now(en),
                .run_id = engine_strdup(s->run->id),
                .step_id = engine_strdup(s->id),
                .project = engine_strdup(s->run->project),
                .agent = s->agent ? engine_strdup(s->agent->name) : NULL,
                .tool = engine_strdup(s->def->tool),
        };
        return h;
}

void entry_settle(struct engine *en, struct hold *h, enum budget_end how, const struct budget_amount *said)
{
        struct budget_amount spent = budget_charge(how, &h->reserved, &h->seen, said);
        struct account *v[ENTRY_ACCOUNTS];
        size_t n = accounts_of(en, &h->row, v);

        for (size_t i = 0; i < n; i++)
                if (h->row.attempt_id > v[i]->since)
                        budget_settle(&v[i]->sum, &h->reserved, &spent);
        h->row.state = how == BUDGET_END_LOST ? LEDGER_LOST : LEDGER_SETTLED;
        h->row.spent_micros = spent.v[BUDGET_MONEY];
        h->row.spent_tokens = spent.v[BUDGET_TOKENS];
        h->row.settled_us = engine_now(en);
        store_put_ledger(engine_tx(en), &h->row);
        if (h->row.attempt_id < en->first_attempt &&
            map_put_u64(en->ledger->old, h->row.attempt_id, en, NULL))
                abort();
        en->ledger->wake = true;
}

/* The tool is told what it may use, where it can keep to that. */
static void limit_input(struct step *s, struct hold *h)
{
        static const char *const takes_money[] = {"claude-code.prompt", "acp.prompt"};
        int64_t micros = h->reserved.v[BUDGET_MONEY], tokens = h->reserved.v[BUDGET_TOKENS];
        cJSON *in = NULL, *limits;
        const cJSON *v;
        bool money = false;

        for (size_t i = 0; i < sizeof takes_money / sizeof *takes_money; i++)
                money |= micros >= 0 && strcmp(s->def->tool, takes_money[i]) == 0;
        if (!has_limits(s->def->tool) || (!money && tokens <= 0) || !s->input ||
            json_parse(s->input, strlen(s->input), &in, NULL))
                return;
        limits = cJSON_GetObjectItemCaseSensitive(in, "limits");
        if (!limits)
                limits = cJSON_AddObjectToObject(in, "limits");
        v = cJSON_GetObjectItemCaseSensitive(limits, "cost_usd");
        if (money && (!cJSON_IsNumber(v) || budget_money_of(v->valuedouble) > micros)) {
                cJSON_DeleteItemFromObjectCaseSensitive(limits, "cost_usd");
                cJSON_AddNumberToObject(limits, "cost_usd", (double)micros / 1e6);
                h->limit_is_ours = true;
        }
        v = cJSON_GetObjectItemCaseSensitive(limits, "tokens");
        if (tokens > 0 && (!cJSON_IsNumber(v) || v->valuedouble > (double)tokens)) {
                cJSON_DeleteItemFromObjectCaseSensitive(limits, "tokens");
                cJSON_AddNumberToObject(limits, "tokens", (double)tokens);
                h->limit_is_ours = true;
        }
        if (h->limit_is_ours) {
                mem_free(s->input);
                s->input = json_text(in);
                if (!s->input)
                        abort();
        }
        cJSON_Delete(in);
}

bool budget_granted(const struct engine *en)
{
        return en->ledger->granted;
}

void budget_take(struct engine *en, struct step *s)
{
        struct ledger *l = en->ledger;
        struct account *v[ENTRY_ACCOUNTS];
        size_t n;

        if (!l->granted)
                return;
        l->granted = s->may_be_unpriced = false;
        s->hold = hold_make(en, s, &l->grant);
        s->hold->row.model = l->model[0] ? engine_strdup(l->model) : NULL;
        s->hold->row.source = engine_strdup(l->source ? l->source : "none");
        n = accounts_of(en, &s->hold->row, v);
        for (size_t i = 0; i < n; i++)
                budget_hold(&v[i]->sum, &s->hold->reserved);
        limit_input(s, s->hold);
        store_put_ledger(engine_tx(en), &s->hold->row);
}

void budget_end(struct step *s)
{
        if (!s->hold)
                return;
        /* What was not sent did not run. */
        entry_settle(s->run->en, s->hold, s->in_commit ? BUDGET_END_NOTHING : BUDGET_END_LOST, &unknown);
        hold_free(s->hold);
        s->hold = NULL;
}

void budget_free(struct step *s)
{
        hold_free(s->hold);
        s->hold = NULL;
        budget_forget(s);
        budget_asked(s);
        mem_free(s->asks_budget);
}

const char *budget_input(const struct step *s)
{
        return s->hold && s->hold->limit_is_ours ? s->input : NULL;
}

static void amount_max(struct budget_amount *a, const struct budget_amount *b)
{
        for (int m = 0; m < BUDGET_MEASURES; m++)
                if (b->v[m] > a->v[m])
                        a->v[m] = b->v[m];
}

/* ---- what a running call uses ---- */

bool engine_wants_usage(const struct engine *en, const char *agent_id, uint64_t attempt_id)
{
        const struct step *s = map_get_u64(en->attempts, attempt_id);

        return s && s->hold && s->agent && !strcmp(s->agent->id, agent_id);
}

void engine_on_usage(struct engine *en, const char *agent_id, uint64_t attempt_id, const cJSON *usage)
{
        struct step *s = map_get_u64(en->attempts, attempt_id);
        struct budget_amount used;
        char has[BUDGET_TEXT_LEN / 2], may[BUDGET_TEXT_LEN / 2], text[BUDGET_TEXT_LEN + 64];
        int which = 0;

        if (!engine_wants_usage(en, agent_id, attempt_id))
                return;
        budget_usage_read(usage, &used);
        amount_max(&s->hold->seen, &used);
        if (s->hold->row.stopped || !budget_exceeds(&s->hold->reserved, &s->hold->seen, &which))
                return;
        s->hold->row.stopped = true;
        store_put_ledger(engine_tx(en), &s->hold->row);
        snprintf(text, sizeof text, "used %s, reserved were %s",
                 budget_amount_text(&s->hold->seen, has, sizeof has),
                 budget_amount_text(&s->hold->reserved, may, sizeof may));
        budget_audit_stop(s, "running", text);
        engine_after_cancel(en, s->agent, attempt_id, "it uses more than its budget reserved");
}

bool budget_stopped(const struct step *s)
{
        return s->hold && s->hold->row.stopped;
}

/* Did the limit that the budget gave the tool end it? */
static bool ended_by_limit(const struct step *s)
{
        return s->hold && s->hold->limit_is_ours && s->error_code &&
               (!strcmp(s->error_code, "cost_limit") || !strcmp(s->error_code, "token_limit"));
}

static bool nothing_ran(const struct step *s, const struct engine_result *r)
{
        return r->outcome == ENGINE_REFUSED || (r->outcome == ENGINE_CANCELLED && !r->started_us) ||
               (r->outcome == ENGINE_FAILED && s->route && !r->usage && budget_code_is_free(r->error_code) &&
                !route_had_begun(s));
}

bool budget_on_result(struct step *s, const struct engine_result *r)
{
        struct engine *en = s->run->en;
        struct budget_amount said = unknown;
        char may[BUDGET_TEXT_LEN / 2], has[BUDGET_TEXT_LEN / 2], text[BUDGET_TEXT_LEN + 256];
        cJSON *usage = NULL;
        struct hold *h = s->hold;
        bool ended = false;

        if (r->usage && json_parse(r->usage, strlen(r->usage), &usage, NULL) == 0)
                budget_usage_read(usage, &said);
        cJSON_Delete(usage);
        if (!h && said.v[BUDGET_MONEY] == BUDGET_NONE && said.v[BUDGET_TOKENS] == BUDGET_NONE)
                return false;
        if (!h) {
                h = hold_make(en, s, &unknown);
                own_limits(s, en->ledger->model, sizeof en->ledger->model);
                h->row.model = en->ledger->model[0] ? engine_strdup(en->ledger->model) : NULL;
                h->row.source = engine_strdup("none");
        }
        if (r->outcome == ENGINE_LOST) { /* nothing is settled by not knowing: the step's end decides */
                if (!s->hold)
                        hold_free(h);
                return false;
        }
        ended = s->hold && r->outcome != ENGINE_SUCCEEDED && r->outcome != ENGINE_REFUSED &&
                !s->cancel_requested && (h->row.stopped || ended_by_limit(s));
        if (nothing_ran(s, r))
                entry_settle(en, h, BUDGET_END_NOTHING, &said);
        else
                entry_settle(en, h, BUDGET_END_SAID, &said);
        if (r->outcome == ENGINE_SUCCEEDED)
                history_note(en, h->row.tool, h->row.model, &said);
        if (ended) {
                struct budget_amount spent = {{h->row.spent_micros, h->row.spent_tokens}};

                snprintf(text, sizeof text,
                         "stopped: it used more than was reserved for it (%s); %s were spent in all. State a "
                         "larger \"estimate\" for the step, or make it do less",
                         budget_amount_text(&h->reserved, may, sizeof may),
                         budget_amount_text(&spent, has, sizeof has));
                set_text(&s->error_code, "budget_exceeded");
                set_text(&s->error_message, text);
        }
        hold_free(h);
        s->hold = NULL;
        return ended;
}
