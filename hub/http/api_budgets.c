/* Budgets and the ledger. Whoever has a role in a project sees its budgets and entries; those of the hub, of
 * all runs and of agents, need a role for all projects. */
#include <stdio.h>
#include <string.h>

#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"
#include "hub/http/api.h"
#include "hub/http/guard.h"
#include "hub/http/jsonw.h"
#include "hub/http/listing.h"
#include "hub/http/request.h"
#include "hub/sched/engine.h"
#include "hub/store/store.h"

/* ---- budgets ---- */

static bool is_seen(struct http_req *q, const cJSON *budget)
{
        const cJSON *scope = cJSON_GetObjectItemCaseSensitive(budget, "scope");
        const cJSON *name = cJSON_GetObjectItemCaseSensitive(budget, "name");
        bool of_project =
                cJSON_IsString(name) && cJSON_IsString(scope) && strcmp(scope->valuestring, "agent") != 0;
        const char *project = of_project ? name->valuestring : PROJECT_ALL;

        if (q->project[0] && strcmp(project, q->project) != 0)
                return false;
        return caller_may(&q->caller, project, PERM_BUDGETS_READ);
}

static void list_on_loop(struct http_req *q)
{
        q->json = engine_budgets(q->h->o.engine, NULL);
        req_done(q, 0, NULL);
}

static int list_after(struct http_req *q, struct err *e)
{
        cJSON *all = q->json;

        q->json = NULL;
        for (cJSON *b = all->child, *next; b; b = next) {
                next = b->next;
                if (!is_seen(q, b))
                        cJSON_Delete(cJSON_DetachItemViaPointer(all, b));
        }
        return req_page(q, all, "id", e);
}

int api_budgets_list(struct http_req *q, struct err *e)
{
        (void)e;
        req_hop(q, list_on_loop, list_after);
        return 0;
}

static void get_on_loop(struct http_req *q)
{
        q->json = engine_budgets(q->h->o.engine, q->param[0]);
        req_done(q, 0, NULL);
}

static int get_after(struct http_req *q, struct err *e)
{
        if (q->json && is_seen(q, q->json))
                return 0;
        cJSON_Delete(q->json);
        q->json = NULL;
        return err_set(e, E_NOENT, "there is no budget '%.150s'; see: photon budget list", q->param[0]);
}

int api_budget_get(struct http_req *q, struct err *e)
{
        (void)e;
        req_hop(q, get_on_loop, get_after);
        return 0;
}

static void set_free(void *p)
{
        mem_free(p);
}

static void set_on_loop(struct http_req *q)
{
        struct engine_budget_set *s = q->state;

        s->id = q->param[0];
        s->by = q->caller.name;
        req_owe(q);
        engine_budget_set(q->h->o.engine, s, req_on_answer, q);
}

/* What was made stands as it is now: the numbers are the loop's. */
static int set_after(struct http_req *q, struct err *e)
{
        (void)e;
        req_hop(q, get_on_loop, get_after);
        return 0;
}

static int is_there(void *arg, const struct row_project *p)
{
        (void)arg, (void)p;
        return 0;
}

/* A cap on a project that is not there would hold nobody back. Agents may join later. */
static int check_name(struct http_req *q, struct err *e)
{
        struct store_reader *r = req_reader(q, e);
        enum budget_kind kind;
        const char *name;
        int rc = r ? budget_id_parse(q->param[0], &kind, &name, e) : -E_UNAVAIL;

        if (rc || (kind != BUDGET_PROJECT && kind != BUDGET_PROJECT_DAY) || !strcmp(name, PROJECT_DEFAULT))
                return rc;
        rc = read_project(r, name, is_there, NULL);
        return rc == -E_NOENT ? err_set(e, E_NOENT, "there is no project '%.64s'", name) : rc;
}

int api_budget_set(struct http_req *q, struct err *e)
{
        static const char *const keys[] = {"usd", "tokens", "over", "restart", NULL};
        struct engine_budget_set *s = mem_calloc(1, sizeof *s);
        const char *over = "stop";
        cJSON *doc = NULL;
        int rc = s ? req_body_json(q, keys, false, &doc, e) : err_set(e, E_NOMEM, "out of memory");

        if (!rc)
                rc = check_name(q, e);
        if (!rc)
                rc = budget_amount_read(doc, &s->cap.max, e);
        if (!rc)
                rc = json_str_opt(doc, "over", &over, e);
        if (!rc && budget_over_parse(over, &s->cap.over))
                rc = err_set(e, E_INVAL,
                             "\"over\" is stop (the step fails) or ask (people decide), not \"%.40s\"", over);
        if (!rc)
                rc = json_bool_opt(doc, "restart", &s->restart, e);
        cJSON_Delete(doc);
        if (rc) {
                mem_free(s);
                return rc;
        }
        req_keep(q, s, set_free);
        req_hop(q, set_on_loop, set_after);
        return 0;
}

static void delete_on_loop(struct http_req *q)
{
        req_owe(q);
        engine_budget_delete(q->h->o.engine, q->param[0], q->caller.name, req_on_answer, q);
}

static int delete_after(struct http_req *q, struct err *e)
{
        (void)q, (void)e;
        return 0;
}

int api_budget_delete(struct http_req *q, struct err *e)
{
        (void)e;
        req_hop(q, delete_on_loop, delete_after);
        return 0;
}

/* ---- the ledger ---- */

static void put_amount(struct jsonw *w, const char *key, int64_t micros, int64_t tokens)
{
        char money[BUDGET_MONEY_LEN];

        jw_open(w, key, '{');
        jw_str(w, "usd", micros == BUDGET_NONE ? NULL : budget_money_text(micros, money));
        if (tokens == BUDGET_NONE)
                jw_str(w, "tokens", NULL);
        else
                jw_i64(w, "tokens", tokens);
        jw_close(w, '}');
}

static int64_t over(int64_t reserved, int64_t spent)
{
        return reserved >= 0 && spent > reserved ? spent - reserved : 0;
}

static int on_entry(void *arg, const struct row_ledger *r)
{
        struct listing *p = arg;
        char day[BUDGET_DAY_LEN], attempt[24];

        if (!listing_takes(p, (int64_t)r->attempt_id))
                return 1;
        snprintf(attempt, sizeof attempt, "%llu", (unsigned long long)r->attempt_id);
        jw_open(&p->w, NULL, '{');
        jw_str(&p->w, "id", attempt);
        jw_str(&p->w, "state", ledger_state_name(r->state));
        jw_str(&p->w, "run", r->run_id);
        jw_str(&p->w, "step", r->step_id);
        jw_i64(&p->w, "attempt", r->attempt);
        jw_str(&p->w, "project", r->project);
        jw_str(&p->w, "agent", r->agent);
        jw_str(&p->w, "tool", r->tool);
        jw_str(&p->w, "model", r->model);
        jw_str(&p->w, "day", budget_day_text(r->day, day));
        jw_str(&p->w, "estimate", r->source);
        put_amount(&p->w, "reserved", r->reserved_micros, r->reserved_tokens);
        if (r->state == LEDGER_RESERVED) {
                put_amount(&p->w, "spent", BUDGET_NONE, BUDGET_NONE);
        } else {
                put_amount(&p->w, "spent", r->spent_micros, r->spent_tokens);
                put_amount(&p->w, "overrun", over(r->reserved_micros, r->spent_micros),
                           over(r->reserved_tokens, r->spent_tokens));
        }
        jw_bool(&p->w, "stopped", r->stopped);
        jw_time(&p->w, "reserved_at", r->reserved_us);
        jw_time(&p->w, "settled_at", r->settled_us);
        jw_close(&p->w, '}');
        return jw_end(&p->w);
}

static int read_filter(struct http_req *q, struct ledger_filter *f, struct err *e)
{
        const char *day = req_query(q, "day"), *state = req_query(q, "state");
        enum ledger_state s;

        f->state = -1;
        f->day = -1;
        f->run_id = req_query(q, "run");
        f->agent = req_query(q, "agent");
        if (day && budget_day_parse(day, &f->day))
                return err_set(e, E_INVAL, "\"%.40s\" is no day: it is one such as 2026-11-29 (UTC)", day);
        if (state && ledger_state_parse(state, &s))
                return err_set(e, E_INVAL, "\"%.40s\" is no state: it is reserved, settled or lost", state);
        if (state)
                f->state = (int)s;
        return 0;
}

int api_ledger_list(struct http_req *q, struct err *e)
{
        struct ledger_filter f = {0};
        struct listing p = {0};
        struct store_reader *r = req_reader(q, e);
        char *projects = NULL;
        int64_t before = 0;
        int rc;

        if (!r)
                return -E_UNAVAIL;
        rc = read_filter(q, &f, e);
        if (!rc)
                rc = listing_args(q, &p, &before, e);
        if (!rc)
                rc = guard_projects(q, PERM_BUDGETS_READ, &projects, e);
        if (rc)
                return rc;
        f.before = (uint64_t)before;
        f.projects = projects;
        f.limit = (int)p.limit + 1;
        listing_begin(q, &p);
        rc = read_ledger(r, &f, on_entry, &p);
        mem_free(projects);
        if (rc < 0)
                return err_set(e, -rc, "the ledger could not be read: %s", err_name(rc));
        return listing_end(&p);
}
