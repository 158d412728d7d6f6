/* Steps that ask for a model (llm.chat): the engine's side of route.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/json.h"
#include "common/log.h"
#include "common/mem.h"
#include "hub/sched/engine_impl.h"
#include "hub/store/store.h"

#define RECORDS_MAX    2048 /* models that are remembered; the one not used longest makes room */
#define TRIES_MAX      5    /* of one step, before it fails */
#define CANDIDATES_MAX 20   /* in a step's placement */
#define MEASURE_US     1000000

bool step_is_routed(const struct step *s)
{
        return strcmp(s->def->tool, "llm.chat") == 0;
}

static const char *text_of(const cJSON *o, const char *key)
{
        const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);

        return cJSON_IsString(v) ? v->valuestring : "";
}

static void *must(void *p)
{
        if (!p)
                abort();
        return p;
}

/* ---- the step's side ---- */

void route_free(struct step *s)
{
        struct step_route *r = s->route;

        if (!r)
                return;
        route_need_fini(&r->need);
        cJSON_Delete(r->tried);
        mem_free(r->key);
        mem_free(r->last_code);
        mem_free(r->last_message);
        mem_free(r);
        s->route = NULL;
}

static struct step_route *route_of(struct step *s)
{
        if (!s->route) {
                s->route = engine_alloc(sizeof *s->route);
                s->route->need.max_cost_usd = -1;
                s->route->tried = must(cJSON_CreateArray());
        }
        return s->route;
}

int route_prepare(struct step *s, struct err *e)
{
        struct step_route *r = route_of(s);
        cJSON *input = NULL;
        char *need, *tried;
        int rc = json_parse(s->input, strlen(s->input), &input, e);

        route_need_fini(&r->need);
        if (!rc)
                rc = route_need_read(input, &r->need, e);
        cJSON_Delete(input);
        if (rc)
                return rc;
        need = must(route_need_key(&r->need));
        tried = must(json_text(r->tried));
        mem_free(r->key);
        r->key = engine_alloc(strlen(need) + strlen(tried) + 2);
        sprintf(r->key, "%s|%s", need, tried);
        mem_free(need);
        mem_free(tried);
        return 0;
}

void route_restart(struct step *s)
{
        if (!s->route)
                return;
        cJSON_Delete(s->route->tried);
        s->route->tried = must(cJSON_CreateArray());
}

void route_restore(struct step *s)
{
        cJSON *p = NULL, *tried;

        if (!step_is_routed(s) || !s->placement || json_parse(s->placement, strlen(s->placement), &p, NULL))
                return;
        tried = cJSON_DetachItemFromObjectCaseSensitive(cJSON_GetObjectItemCaseSensitive(p, "route"),
                                                        "tried");
        if (cJSON_IsArray(tried)) {
                cJSON_Delete(route_of(s)->tried);
                s->route->tried = tried;
        } else {
                cJSON_Delete(tried);
        }
        cJSON_Delete(p);
}

static bool was_tried(const struct step_route *r, const struct fleet_agent *a, const struct route_model *m)
{
        const cJSON *t;

        cJSON_ArrayForEach(t, r->tried)
        {
                if (strcmp(text_of(t, "agent"), a->id) == 0 &&
                    strcmp(text_of(t, "endpoint"), m->endpoint) == 0 &&
                    strcmp(text_of(t, "model"), m->name) == 0)
                        return true;
        }
        return false;
}

/* ---- what was measured ---- */

static char *record_key(const char *agent, const char *endpoint, const char *model)
{
        char *key = engine_alloc(strlen(agent) + strlen(endpoint) + strlen(model) + 3);

        sprintf(key, "%s\x1f%s\x1f%s", agent, endpoint, model);
        return key;
}

static void record_free(struct model_record *m)
{
        mem_free(m->key);
        mem_free(m->agent);
        mem_free(m->endpoint);
        mem_free(m->model);
        mem_free(m);
}

static struct model_record *record_find(struct engine *en, const char *agent, const char *endpoint,
                                        const char *model)
{
        char *key = record_key(agent, endpoint, model);
        struct model_record *m = map_get(en->records, key);

        mem_free(key);
        return m;
}

static void need_slots(struct engine *en)
{
        if (!en->slots)
                en->slots = engine_alloc(RECORDS_MAX * sizeof(struct model_record *));
}

static struct model_record *record_add(struct engine *en, int64_t slot, const char *agent,
                                       const char *endpoint, const char *model)
{
        struct model_record *m = engine_alloc(sizeof *m);

        need_slots(en);
        m->slot = slot;
        m->agent = engine_strdup(agent);
        m->endpoint = engine_strdup(endpoint);
        m->model = engine_strdup(model);
        m->key = record_key(agent, endpoint, model);
        if (map_put(en->records, m->key, m, NULL))
                abort();
        en->slots[slot] = m;
        return m;
}

static struct model_record *record_get(struct engine *en, const char *agent, const char *endpoint,
                                       const char *model)
{
        struct model_record *m = record_find(en, agent, endpoint, model);
        size_t slot = en->n_slots;

        if (m)
                return m;
        if (slot == RECORDS_MAX) {
                slot = 0;
                for (size_t i = 1; i < en->n_slots; i++)
                        if (en->slots[i]->updated_us < en->slots[slot]->updated_us)
                                slot = i;
                map_del(en->records, en->slots[slot]->key);
                record_free(en->slots[slot]);
        } else {
                en->n_slots++;
        }
        return record_add(en, (int64_t)slot, agent, endpoint, model);
}

static const struct route_measure *measured(struct engine *en, const struct fleet_agent *a,
                                            const struct route_model *m)
{
        static const struct route_measure nothing = {.p50_ms = -1, .p90_ms = -1};
        struct model_record *r = map_count(en->records) ? record_find(en, a->id, m->endpoint, m->name) : NULL;
        int64_t now = engine_now(en);

        if (!r)
                return &nothing;
        if (!r->measured_us || now - r->measured_us > MEASURE_US || now < r->measured_us) {
                route_measure(&r->history, now, &r->measure);
                r->measured_us = now;
        }
        return &r->measure;
}

static int32_t number_ms(const cJSON *o, const char *key)
{
        const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);

        return cJSON_IsNumber(v) && v->valuedouble >= 0 && v->valuedouble < INT32_MAX
                       ? (int32_t)v->valuedouble
                       : -1;
}

void route_on_result(struct step *s, const struct engine_result *r)
{
        struct engine *en = s->run->en;
        cJSON *input = NULL, *out = NULL;
        struct route_sample x = {.at_us = engine_now(en)};
        struct model_record *m;
        char *text;

        if (!step_is_routed(s) || !s->agent || !s->input ||
            (r->outcome != ENGINE_SUCCEEDED && r->outcome != ENGINE_FAILED &&
             r->outcome != ENGINE_TIMED_OUT) ||
            json_parse(s->input, strlen(s->input), &input, NULL))
                return;
        if (s->outputs)
                (void)json_parse(s->outputs, strlen(s->outputs), &out, NULL); /* NULL: nothing was measured */
        if (*text_of(input, "endpoint") && *text_of(input, "model")) {
                x.failed = r->outcome != ENGINE_SUCCEEDED && route_code_is_endpoints(r->error_code);
                x.first_ms = number_ms(out, "first_token_ms");
                x.total_ms = number_ms(out, "duration_ms") < 0 ? 0 : number_ms(out, "duration_ms");
                m = record_get(en, s->agent->id, text_of(input, "endpoint"), text_of(input, "model"));
                route_note(&m->history, &x);
                m->updated_us = x.at_us;
                m->measured_us = 0;
                text = must(route_history_text(&m->history));
                store_put_model(engine_tx(en), &(struct row_model){.slot = m->slot,
                                                                   .agent = m->agent,
                                                                   .endpoint = m->endpoint,
                                                                   .model = m->model,
                                                                   .updated_us = m->updated_us,
                                                                   .samples = text});
                mem_free(text);
        }
        cJSON_Delete(input);
        cJSON_Delete(out);
}

static int on_record(void *arg, const struct row_model *row)
{
        struct engine *en = arg;
        struct model_record *m;

        need_slots(en);
        /* Slots are used from the first; a hole cannot be, but a strange row must not hurt. */
        if (row->slot < 0 || row->slot >= RECORDS_MAX || en->slots[row->slot] || !row->agent ||
            !row->endpoint || !row->model || !row->samples)
                return 0;
        m = record_add(en, row->slot, row->agent, row->endpoint, row->model);
        m->updated_us = row->updated_us;
        route_history_read(row->samples, &m->history);
        return 0;
}

int route_load(struct engine *en, struct err *e)
{
        size_t n = 0;
        int rc;

        rc = read_models(en->reader, on_record, en);
        for (size_t i = 0; en->slots && i < RECORDS_MAX; i++) { /* close holes */
                if (!en->slots[i])
                        continue;
                en->slots[n] = en->slots[i];
                en->slots[n]->slot = (int64_t)n;
                if (i != n)
                        en->slots[i] = NULL;
                n++;
        }
        en->n_slots = n;
        return rc ? err_set(e, -rc, "what was measured of models could not be read") : 0;
}

void route_close(struct engine *en)
{
        for (size_t i = 0; i < en->n_slots; i++)
                record_free(en->slots[i]);
        mem_free(en->slots);
        map_free(en->records);
}

/* ---- the judgement ---- */

static void judge(struct engine *en, const struct step_route *r, const struct fleet_agent *a,
                  const struct route_model *m, struct route_judgement *out)
{
        route_judge(&r->need, m, measured(en, a, m), was_tried(r, a, m), out);
}

/* The best model of an agent; NULL: none fits. */
static const struct route_model *best_of(struct engine *en, const struct step_route *r,
                                         const struct fleet_agent *a, struct route_judgement *out)
{
        const struct route_model *best = NULL;

        for (size_t i = 0; i < a->n_models; i++) {
                struct route_judgement j;

                judge(en, r, a, &a->models[i], &j);
                if (j.why != ROUTE_OK || (best && j.score <= out->score))
                        continue;
                best = &a->models[i];
                *out = j;
        }
        return best;
}

static struct step_route *route_of_demand(const struct demand *d)
{
        return container_of(d->ready.next, struct step, queue)->route;
}

void route_scores(struct engine *en, const struct demand *d, double *scores)
{
        for (size_t i = 0; i < en->n_fleet; i++) {
                struct route_judgement j;

                scores[i] = best_of(en, route_of_demand(d), en->fleet[i], &j) ? j.score : -1;
        }
}

/* ---- candidates, for people ---- */

void route_explain(struct engine *en, const struct step_route *r, const struct plan_want *w, cJSON *list,
                   size_t max)
{
        for (size_t i = 0; i < en->n_fleet; i++) {
                const struct fleet_agent *a = en->fleet[i];
                struct plan_agent view;
                enum plan_why why;
                size_t label = 0;
                char text[320];

                if (a->gone)
                        continue;
                fleet_view(a, &view);
                why = plan_fits(w, &view, &label);
                for (size_t k = 0; k < a->n_models || k == 0; k++) {
                        struct route_judgement j = {.why = ROUTE_OTHER_MODEL};
                        bool fits = why == PLAN_OK || why == PLAN_BUSY;
                        cJSON *c;

                        if ((size_t)cJSON_GetArraySize(list) >= max)
                                return;
                        c = must(cJSON_CreateObject());
                        cJSON_AddStringToObject(c, "agent", a->name);
                        if (k < a->n_models) {
                                judge(en, r, a, &a->models[k], &j);
                                cJSON_AddStringToObject(c, "endpoint", a->models[k].endpoint);
                                cJSON_AddStringToObject(c, "model", a->models[k].name);
                                fits &= j.why == ROUTE_OK;
                                if (j.why == ROUTE_OK)
                                        cJSON_AddNumberToObject(c, "score", j.score);
                                if (j.cost_usd >= 0)
                                        cJSON_AddNumberToObject(c, "cost_usd", j.cost_usd);
                                if (j.m.p50_ms >= 0)
                                        cJSON_AddNumberToObject(c, "latency_ms", (double)j.m.p50_ms);
                                cJSON_AddNumberToObject(c, "error_rate", j.m.error_rate);
                        } else {
                                fits = false;
                        }
                        cJSON_AddBoolToObject(c, "fits", fits);
                        if (why != PLAN_OK && why != PLAN_BUSY)
                                plan_why_text(why, w, &view, label, text, sizeof text);
                        else if (k >= a->n_models)
                                snprintf(text, sizeof text, "has no model endpoint");
                        else
                                route_why_text(&j, &r->need, &a->models[k], text, sizeof text);
                        if (why == PLAN_BUSY && fits && strlen(text) < sizeof text - 20)
                                strcat(text, "; is full");
                        cJSON_AddStringToObject(c, "why", text);
                        cJSON_AddItemToArray(list, c);
                }
        }
}

/* ---- sent ---- */

static void set_member(cJSON *o, const char *key, cJSON *v)
{
        cJSON_DeleteItemFromObjectCaseSensitive(o, key);
        cJSON_AddItemToObject(o, key, must(v));
}

static void fill_input(struct step *s, const struct route_model *m, const struct route_judgement *j)
{
        const struct step_route *r = s->route;
        cJSON *in = NULL;

        if (json_parse(s->input, strlen(s->input), &in, NULL))
                abort(); /* it was parsed when the step became ready */
        set_member(in, "endpoint", cJSON_CreateString(m->endpoint));
        set_member(in, "model", cJSON_CreateString(m->name));
        /* What the estimate reckoned with becomes the bound, or the limit would be none. */
        if ((r->need.max_cost_usd >= 0 || budget_granted(s->run->en)) && !r->need.output_said)
                set_member(in, "max_tokens", cJSON_CreateNumber((double)j->output_tokens));
        /* Another one is better than waiting for this one. */
        if (r->others && !cJSON_GetObjectItemCaseSensitive(in, "retries"))
                set_member(in, "retries", cJSON_CreateNumber(0));
        mem_free(s->input);
        s->input = must(json_text(in));
        cJSON_Delete(in);
}

static uint32_t count_fitting(struct engine *en, const struct step_route *r, const struct plan_want *w)
{
        uint32_t n = 0;

        for (size_t i = 0; i < en->n_fleet; i++) {
                const struct fleet_agent *a = en->fleet[i];
                struct plan_agent view;
                enum plan_why why;

                fleet_view(a, &view);
                why = plan_fits(w, &view, NULL);
                for (size_t k = 0; k < a->n_models && (why == PLAN_OK || why == PLAN_BUSY); k++) {
                        struct route_judgement j;

                        judge(en, r, a, &a->models[k], &j);
                        n += j.why == ROUTE_OK;
                }
        }
        return n;
}

void route_choose(struct engine *en, struct step *s, const struct demand *d, struct fleet_agent *a,
                  cJSON *placement)
{
        struct step_route *r = s->route;
        struct route_judgement j;
        const struct route_model *m = best_of(en, r, a, &j);
        cJSON *o = must(cJSON_AddObjectToObject(placement, "route"));
        uint32_t n = count_fitting(en, r, &d->want);

        if (!m)
                abort(); /* the plan picks only agents with a score */
        r->others = n ? n - 1 : 0;
        cJSON_AddStringToObject(o, "endpoint", m->endpoint);
        cJSON_AddStringToObject(o, "model", m->name);
        cJSON_AddNumberToObject(o, "score", j.score);
        if (j.cost_usd >= 0)
                cJSON_AddNumberToObject(o, "cost_usd", j.cost_usd);
        if (cJSON_GetArraySize(r->tried))
                cJSON_AddItemToObject(o, "tried", must(cJSON_Duplicate(r->tried, true)));
        route_explain(en, r, &d->want, must(cJSON_AddArrayToObject(o, "candidates")), CANDIDATES_MAX);
        fill_input(s, m, &j);
}

bool route_takes_it(struct engine *en, struct step *s, const struct fleet_agent *a)
{
        struct route_judgement j;

        return best_of(en, s->route, a, &j) != NULL;
}

/* Texts are reckoned at four bytes a token; some take twice as many. */
#define INPUT_MARGIN 2

struct budget_amount route_estimate(struct engine *en, struct step *s, struct fleet_agent *a, char *model,
                                    size_t size)
{
        struct budget_amount out = {{BUDGET_NONE, BUDGET_NONE}};
        struct route_judgement j;
        const struct route_model *m = best_of(en, s->route, a, &j);
        int64_t in = s->route->need.input_tokens;

        if (!m || in > BUDGET_MAX / (2 * INPUT_MARGIN) || j.output_tokens > BUDGET_MAX / 2)
                return out;
        snprintf(model, size, "%s", m->name);
        out.v[BUDGET_TOKENS] = INPUT_MARGIN * in + j.output_tokens;
        if (m->price_in >= 0 && m->price_out >= 0)
                out.v[BUDGET_MONEY] = budget_money_of(
                        ((double)(INPUT_MARGIN * in) * m->price_in + (double)j.output_tokens * m->price_out) /
                        1e6);
        return out;
}

/* ---- failed ---- */

bool route_had_begun(const struct step *s)
{
        cJSON *out = NULL;
        bool begun;

        if (!s->outputs || json_parse(s->outputs, strlen(s->outputs), &out, NULL))
                return false;
        begun = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(out, "started"));
        cJSON_Delete(out);
        return begun;
}

bool route_again(struct step *s)
{
        struct step_route *r = s->route;
        cJSON *input = NULL, *t;

        if (!r || !r->others || s->cancel_requested || s->run->cancel_requested || !s->agent || !s->input ||
            cJSON_GetArraySize(r->tried) + 1 >= TRIES_MAX || !route_code_is_endpoints(s->error_code) ||
            route_had_begun(s) || json_parse(s->input, strlen(s->input), &input, NULL))
                return false;
        t = must(cJSON_CreateObject());
        cJSON_AddStringToObject(t, "agent", s->agent->id);
        cJSON_AddStringToObject(t, "name", s->agent->name);
        cJSON_AddStringToObject(t, "endpoint", text_of(input, "endpoint"));
        cJSON_AddStringToObject(t, "model", text_of(input, "model"));
        cJSON_AddStringToObject(t, "error", s->error_code);
        cJSON_AddItemToArray(r->tried, t);
        cJSON_Delete(input);
        set_text(&r->last_code, s->error_code);
        set_text(&r->last_message, s->error_message);
        log_info("engine", "a model failed, another is asked", "run=%s step=%s agent=%s endpoint=%s error=%s",
                 s->run->id, s->id, s->agent->name, text_of(t, "endpoint"), s->error_code);
        step_note_attempt(s, "rerouted"); /* not "failed": those count against retry.limit */
        step_reset(s);
        step_requeue(s, 0);
        return true;
}

/* ---- never ---- */

struct lacking {
        struct buf *b;
        int shown, more;
        bool meant; /* somebody has the model and the endpoint that are named */
};

/* What each model lacks: of those that are meant, or of the others. */
static void say_lacking(struct engine *en, const struct step_route *r, const struct plan_want *w, bool meant,
                        struct lacking *x)
{
        for (size_t i = 0; i < en->n_fleet; i++) {
                const struct fleet_agent *a = en->fleet[i];
                struct plan_agent view;
                enum plan_why why;

                fleet_view(a, &view);
                why = plan_fits(w, &view, NULL);
                if (a->gone || why == PLAN_OTHER_AGENT || why == PLAN_LABEL || why == PLAN_NO_TOOL ||
                    why == PLAN_TOOL_DENIED)
                        continue;
                for (size_t k = 0; k < a->n_models; k++) {
                        const struct route_model *m = &a->models[k];
                        struct route_judgement j;
                        char text[256];

                        judge(en, r, a, m, &j);
                        if (meant == (j.why == ROUTE_OTHER_MODEL || j.why == ROUTE_OTHER_ENDPOINT))
                                continue;
                        x->meant |= meant;
                        if (x->shown == 5) {
                                x->more++;
                                continue;
                        }
                        route_why_text(&j, &r->need, m, text, sizeof text);
                        (void)buf_printf(x->b, "%s%s/%s/%s %s", x->shown++ ? "; " : "", a->name, m->endpoint,
                                         m->name, text);
                }
        }
}

/* Why none can, in one line; *out_unknown: because nobody lists the model or endpoint that is named. */
static void why_none(struct engine *en, const struct step_route *r, const struct plan_want *w, struct buf *b,
                     bool *out_unknown)
{
        struct lacking x = {.b = b};

        say_lacking(en, r, w, true, &x);
        if (!x.meant)
                say_lacking(en, r, w, false, &x);
        *out_unknown = (r->need.model || r->need.endpoint) && !x.meant;
        if (x.more)
                (void)buf_printf(b, "; and %d more", x.more);
        if (!x.shown)
                (void)buf_puts(b, "no agent has a model endpoint in its configuration");
}

/* Could any agent ever take it, as things are configured? Agents that are away may; who is not known, too. */
static bool is_possible(struct engine *en, const struct step_route *r, const struct plan_want *w)
{
        bool asked = false, retried = cJSON_GetArraySize(r->tried) > 0;

        for (size_t i = 0; i < en->n_fleet; i++) {
                const struct fleet_agent *a = en->fleet[i];
                struct plan_agent view;
                struct route_judgement j;
                enum plan_why why;

                if (a->gone)
                        continue;
                fleet_view(a, &view);
                why = plan_fits(w, &view, NULL);
                if (why == PLAN_OFFLINE && !a->n_tools && !retried)
                        return true;
                if (why != PLAN_OK && why != PLAN_BUSY && why != PLAN_DRAINING && why != PLAN_OFFLINE)
                        continue;
                if (retried && why == PLAN_OFFLINE)
                        continue;
                if (best_of(en, r, a, &j))
                        return true;
                asked = true;
        }
        /* Nobody with the tool yet: it waits for one, as every step does. */
        return !asked && !retried;
}

static void refuse(struct engine *en, struct demand *d)
{
        uint32_t n = d->n_ready;
        struct buf b;
        bool unknown;
        const char *code;
        char *text;

        buf_init(&b, 0);
        why_none(en, route_of_demand(d), &d->want, &b, &unknown);
        text = must(buf_steal_str(&b));
        for (uint32_t i = 0; i < n; i++) {
                struct step *s = container_of(d->ready.next, struct step, queue);
                struct step_route *r = s->route;
                char *message;

                buf_init(&b, 0);
                if (r->last_code)
                        (void)buf_printf(&b, "%s; no other model can take it: %s",
                                         r->last_message ? r->last_message : r->last_code, text);
                else
                        (void)buf_printf(&b, "no model fits what the step needs: %s", text);
                message = must(buf_steal_str(&b));
                code = r->last_code ? r->last_code : unknown ? "unknown_model" : "no_model";
                step_fail(s, code, message); /* copies code first; the last one frees d */
                mem_free(message);
        }
        mem_free(text);
}

void route_refuse(struct engine *en)
{
        bool again = true;

        en->route_turn++;
        while (again) {
                again = false;
                LIST_EACH (it, &en->demands) {
                        struct demand *d = container_of(it, struct demand, all);

                        if (!d->routed || d->checked == en->route_turn)
                                continue;
                        d->checked = en->route_turn;
                        if (is_possible(en, route_of_demand(d), &d->want))
                                continue;
                        refuse(en, d);
                        again = true; /* the list is another one now */
                        break;
                }
        }
}

/* ---- for people ---- */

static bool add_capabilities(cJSON *o, unsigned caps)
{
        static const char *const names[] = {"tools", "json", "images", "files"};
        cJSON *list = cJSON_AddArrayToObject(o, "capabilities");
        bool ok = list != NULL;

        for (unsigned i = 0; i < 4 && ok; i++)
                if (caps & 1u << i)
                        ok = cJSON_AddItemToArray(list, cJSON_CreateString(names[i]));
        return ok;
}

static bool add_measured(cJSON *o, const struct route_measure *m)
{
        cJSON *x = cJSON_AddObjectToObject(o, "measured");

        return x && cJSON_AddNumberToObject(x, "calls", m->calls) &&
               cJSON_AddNumberToObject(x, "error_rate", m->error_rate) &&
               (m->p50_ms < 0 || (cJSON_AddNumberToObject(x, "latency_p50_ms", (double)m->p50_ms) &&
                                  cJSON_AddNumberToObject(x, "latency_p90_ms", (double)m->p90_ms)));
}

static cJSON *describe_model(struct engine *en, const struct fleet_agent *a, const struct route_model *m)
{
        cJSON *o = cJSON_CreateObject(), *price;
        char id[400];
        bool ok;

        snprintf(id, sizeof id, "%s/%s/%s", a->name, m->endpoint, m->name);
        ok = o && cJSON_AddStringToObject(o, "id", id) && cJSON_AddStringToObject(o, "agent", a->name) &&
             cJSON_AddBoolToObject(o, "online", a->online && a->ready) &&
             cJSON_AddStringToObject(o, "endpoint", m->endpoint) &&
             cJSON_AddStringToObject(o, "kind", m->kind) && cJSON_AddStringToObject(o, "model", m->name) &&
             cJSON_AddBoolToObject(o, "local", m->local) && cJSON_AddBoolToObject(o, "has_key", m->has_key) &&
             add_capabilities(o, m->capabilities) &&
             (!m->context || cJSON_AddNumberToObject(o, "context", (double)m->context)) &&
             (!m->max_output || cJSON_AddNumberToObject(o, "max_output", (double)m->max_output)) &&
             add_measured(o, measured(en, a, m));
        if (ok && m->price_in >= 0) {
                price = cJSON_AddObjectToObject(o, "price");
                ok = price && cJSON_AddNumberToObject(price, "input", m->price_in) &&
                     cJSON_AddNumberToObject(price, "output", m->price_out);
        }
        if (ok)
                return o;
        cJSON_Delete(o);
        return NULL;
}

static int by_id(const void *a, const void *b)
{
        return strcmp(text_of(*(cJSON *const *)a, "id"), text_of(*(cJSON *const *)b, "id"));
}

cJSON *engine_models(struct engine *en)
{
        size_t n = 0, max = 0;
        cJSON *list = cJSON_CreateArray(), **v;

        for (size_t i = 0; i < en->n_fleet; i++)
                max += en->fleet[i]->gone ? 0 : en->fleet[i]->n_models;
        v = mem_calloc(max ? max : 1, sizeof *v);
        for (size_t i = 0; v && i < en->n_fleet; i++)
                for (size_t k = 0; k < en->fleet[i]->n_models && !en->fleet[i]->gone; k++)
                        if ((v[n] = describe_model(en, en->fleet[i], &en->fleet[i]->models[k])))
                                n++;
        if (v && n)
                qsort(v, n, sizeof *v, by_id);
        for (size_t i = 0; i < n; i++)
                if (list)
                        cJSON_AddItemToArray(list, v[i]);
                else
                        cJSON_Delete(v[i]);
        if (!v || n < max) {
                cJSON_Delete(list);
                list = NULL;
        }
        mem_free(v);
        return list;
}
