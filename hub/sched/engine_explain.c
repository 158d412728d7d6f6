/* Why a step went where it went, or why it waits. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/json.h"
#include "hub/sched/engine_impl.h"

#define EXPLAIN_AGENTS_MAX 100

static void add_candidates(struct engine *en, const struct plan_want *w, cJSON *out)
{
        cJSON *list = cJSON_AddArrayToObject(out, "candidates");

        for (size_t i = 0; i < en->n_fleet && i < EXPLAIN_AGENTS_MAX; i++) {
                struct plan_agent a;
                size_t label = 0;
                enum plan_why why;
                char text[320];
                cJSON *c;

                if (en->fleet[i]->gone)
                        continue;
                fleet_view(en->fleet[i], &a);
                why = plan_fits(w, &a, &label);
                c = cJSON_CreateObject();
                cJSON_AddStringToObject(c, "agent", a.name);
                cJSON_AddBoolToObject(c, "fits", why == PLAN_OK || why == PLAN_BUSY);
                cJSON_AddStringToObject(c, "why", plan_why_text(why, w, &a, label, text, sizeof text));
                cJSON_AddItemToArray(list, c);
        }
}

static void explain_blocked(struct step *s, cJSON *o)
{
        char text[256];
        cJSON *needs = cJSON_AddArrayToObject(o, "waits_for");
        int n = 0;

        if (s->parent) {
                snprintf(text, sizeof text, "max-parallel is %d and that many instances are under way",
                         s->parent->def->max_parallel);
        } else if (s->run->state == RUN_QUEUED) {
                snprintf(text, sizeof text, "the run waits for a place in its concurrency group \"%s\"",
                         s->run->group_name ? s->run->group_name : "");
        } else {
                for (size_t i = 0; i < s->def->n_needs && n < 20; i++) {
                        struct step *d = s->run->steps[s->def->needs[i]];

                        if (!step_state_final(d->state)) {
                                cJSON_AddItemToArray(needs, cJSON_CreateString(d->id));
                                n++;
                        }
                }
                snprintf(text, sizeof text,
                         s->def->finally && !n ? "finally steps start when all others are over"
                                               : "%u of the steps it needs are not over",
                         s->unmet);
        }
        cJSON_AddStringToObject(o, "reason", text);
}

/* Why none can take it, in one line: the agent that was asked for, or one as an example. */
static void explain_no_fit(struct engine *en, const struct plan_want *w, char *out, size_t size)
{
        char why[320];
        uint32_t joined = 0;

        snprintf(out, size, "no agent has joined: photon token create, then photon-agent join TOKEN");
        for (size_t i = 0; i < en->n_fleet; i++) {
                struct plan_agent a;
                size_t label = 0;
                enum plan_why no;

                if (en->fleet[i]->gone)
                        continue;
                fleet_view(en->fleet[i], &a);
                no = plan_fits(w, &a, &label);
                plan_why_text(no, w, &a, label, why, sizeof why);
                joined++;
                if (w->agent && strcmp(w->agent, a.name) == 0) {
                        snprintf(out, size, "agent %s cannot take it: it %s", a.name, why);
                        return;
                }
                if (joined == 1)
                        snprintf(out, size, "no agent fits: %s %s", a.name, why);
        }
        if (joined && w->agent)
                snprintf(out, size, "there is no agent %s", w->agent);
        else if (joined > 1)
                snprintf(out + strlen(out), size - strlen(out), ", and so on; all: photon run explain");
}

static void explain_ready(struct engine *en, struct step *s, cJSON *o)
{
        struct demand *d = s->demand;
        char text[512];
        uint32_t fit = 0;

        if (!d) {
                budget_explain(s, o);
                return;
        }
        if (s->route)
                route_explain(en, s->route, &d->want, cJSON_AddArrayToObject(o, "candidates"),
                              EXPLAIN_AGENTS_MAX);
        else
                add_candidates(en, &d->want, o);
        for (size_t i = 0; i < en->n_fleet; i++) {
                struct plan_agent a;

                fleet_view(en->fleet[i], &a);
                fit += plan_fits(&d->want, &a, NULL) == PLAN_OK || plan_fits(&d->want, &a, NULL) == PLAN_BUSY;
        }
        if (d->group && d->group->running >= d->group->limit)
                snprintf(text, sizeof text, "concurrency group \"%s\" is full (%u of %u)", d->group->name,
                         d->group->running, d->group->limit);
        else if (s->route && fit)
                snprintf(text, sizeof text,
                         "the agents whose models fit are offline, draining or full; see the candidates");
        else if (!fit)
                explain_no_fit(en, &d->want, text, sizeof text);
        else
                snprintf(text, sizeof text, "%u agents fit and all their places are taken", fit);
        cJSON_AddStringToObject(o, "reason", text);
}

static cJSON *explain_step(struct engine *en, struct step *s)
{
        cJSON *o = cJSON_CreateObject(), *p = NULL;
        char text[256], when[CLOCK_RFC3339_LEN];

        cJSON_AddStringToObject(o, "step", s->id);
        cJSON_AddStringToObject(o, "state", step_state_name(s->state));
        switch (s->state) {
        case STEP_BLOCKED:
                explain_blocked(s, o);
                break;
        case STEP_READY:
                explain_ready(en, s, o);
                break;
        case STEP_WAITING:
                if (step_gated(s)) {
                        snprintf(text, sizeof text, "it waits for people: photon checkpoints --run %s",
                                 s->run->id);
                        cJSON_AddStringToObject(o, "reason", text);
                        break;
                }
                if (secrets_why(s)) {
                        cJSON_AddStringToObject(o, "reason", secrets_why(s));
                        cJSON_AddStringToObject(o, "code", "vault_locked");
                        break;
                }
                clock_format(s->not_before_us, when);
                snprintf(text, sizeof text, "it is tried again at %s (attempt %u is over)", when, s->attempt);
                cJSON_AddStringToObject(o, "reason", text);
                break;
        case STEP_UNKNOWN:
                cJSON_AddStringToObject(o, "reason",
                                        s->error_message ? s->error_message : "its agent was lost");
                break;
        default:
                if (s->agent && s->agent->name) {
                        cJSON_AddStringToObject(o, "agent", s->agent->name);
                        if (!s->agent->online)
                                cJSON_AddStringToObject(
                                        o, "note",
                                        "the agent is offline; its result is expected when it is back");
                }
                if (s->n_asks_open) {
                        snprintf(text, sizeof text,
                                 "it waits for people: %u question%s open; photon checkpoints --run %s",
                                 s->n_asks_open, s->n_asks_open == 1 ? " is" : "s are", s->run->id);
                        cJSON_AddStringToObject(o, "reason", text);
                }
                break;
        }
        if (s->placement && json_parse(s->placement, strlen(s->placement), &p, NULL) == 0)
                cJSON_AddItemToObject(o, "placement", p);
        return o;
}

int engine_explain(struct engine *en, const char *run_id, const char *step_id, cJSON **out, struct err *e)
{
        struct run *r = map_get(en->runs, run_id);
        cJSON *doc, *list;
        bool found = !step_id;

        if (!r)
                return err_set(e, E_NOENT, "run %s is not active", run_id);
        doc = cJSON_CreateObject();
        cJSON_AddStringToObject(doc, "run", r->id);
        cJSON_AddStringToObject(doc, "state", run_state_name(r->state));
        list = cJSON_AddArrayToObject(doc, "steps");
        for (uint32_t i = 0; i < r->n_steps; i++) {
                if (step_id && strcmp(r->steps[i]->id, step_id) != 0)
                        continue;
                cJSON_AddItemToArray(list, explain_step(en, r->steps[i]));
                found = true;
        }
        if (!found) {
                cJSON_Delete(doc);
                return err_set(e, E_NOENT, "run %s has no step %s", run_id, step_id);
        }
        *out = doc;
        return 0;
}
