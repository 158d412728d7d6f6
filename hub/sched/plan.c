#include "hub/sched/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int cmp_str(const void *key, const void *item)
{
        return strcmp(key, *(const char *const *)item);
}

static bool has(const char *const *sorted, size_t n, const char *name)
{
        return n && bsearch(name, sorted, n, sizeof *sorted, cmp_str) != NULL;
}

static const char *label_value(const struct plan_agent *a, const char *key)
{
        size_t lo = 0, hi = a->n_labels;

        while (lo < hi) {
                size_t mid = lo + (hi - lo) / 2;
                int c = strcmp(key, a->labels[mid].key);

                if (c == 0)
                        return a->labels[mid].value;
                if (c < 0)
                        hi = mid;
                else
                        lo = mid + 1;
        }
        return NULL;
}

enum plan_why plan_fits(const struct plan_want *w, const struct plan_agent *a, size_t *out_label)
{
        if (w->agent && strcmp(w->agent, a->name) != 0 && strcmp(w->agent, a->id) != 0)
                return PLAN_OTHER_AGENT;
        for (size_t i = 0; i < w->n_labels; i++) {
                const char *v = label_value(a, w->labels[i].key);

                if (!v || strcmp(v, w->labels[i].value) != 0) {
                        if (out_label)
                                *out_label = i;
                        return PLAN_LABEL;
                }
        }
        /* What an agent that never said hello offers is not known: offline says more. */
        if (!a->online)
                return PLAN_OFFLINE;
        if (!has(a->tools, a->n_tools, w->tool))
                return has(a->denied, a->n_denied, w->tool) ? PLAN_TOOL_DENIED : PLAN_NO_TOOL;
        if (a->draining)
                return PLAN_DRAINING;
        if (a->running >= a->max_running)
                return PLAN_BUSY;
        return PLAN_OK;
}

const char *plan_why_text(enum plan_why why, const struct plan_want *w, const struct plan_agent *a,
                          size_t label, char *out, size_t n)
{
        switch (why) {
        case PLAN_OK:
                snprintf(out, n, "can take it (%u of %u places taken)", a->running, a->max_running);
                break;
        case PLAN_OTHER_AGENT:
                snprintf(out, n, "is not the agent %s that the step asks for", w->agent);
                break;
        case PLAN_LABEL: {
                const char *v = label_value(a, w->labels[label].key);

                if (v)
                        snprintf(out, n, "has the label %s=%s, wanted is %s", w->labels[label].key, v,
                                 w->labels[label].value);
                else
                        snprintf(out, n, "has no label %s, wanted is %s", w->labels[label].key,
                                 w->labels[label].value);
                break;
        }
        case PLAN_NO_TOOL:
                snprintf(out, n, "does not have the tool %s", w->tool);
                break;
        case PLAN_TOOL_DENIED:
                snprintf(out, n, "does not allow the tool %s (its policy)", w->tool);
                break;
        case PLAN_OFFLINE:
                snprintf(out, n, "is offline");
                break;
        case PLAN_DRAINING:
                snprintf(out, n, "is draining");
                break;
        case PLAN_BUSY:
                snprintf(out, n, "is full (%u of %u places taken)", a->running, a->max_running);
                break;
        }
        return out;
}

/* The eligible agent with the smallest share of its places taken; n_agents if none.
 * Shares are compared as a*d < c*b, without division. `from` rotates ties. */
static size_t least_loaded(const bool *fits, const struct plan_agent *agents, const uint32_t *load,
                           size_t n_agents, size_t from)
{
        size_t best = n_agents;

        for (size_t k = 0; k < n_agents; k++) {
                size_t i = (from + k) % n_agents;

                if (!fits[i] || load[i] >= agents[i].max_running)
                        continue;
                if (best == n_agents || (uint64_t)load[i] * agents[best].max_running <
                                                (uint64_t)load[best] * agents[i].max_running)
                        best = i;
        }
        return best;
}

/* The eligible agent with a free place and the highest score; n_agents if none. */
static size_t best_score(const bool *fits, const double *score, const struct plan_agent *agents,
                         const uint32_t *load, size_t n_agents)
{
        size_t best = n_agents;

        for (size_t i = 0; i < n_agents; i++)
                if (fits[i] && load[i] < agents[i].max_running &&
                    (best == n_agents || score[i] > score[best]))
                        best = i;
        return best;
}

struct order {
        const struct plan_demand *d;
        size_t at;
};

static int cmp_order(const void *a, const void *b)
{
        const struct plan_demand *x = ((const struct order *)a)->d, *y = ((const struct order *)b)->d;

        if (x->priority != y->priority)
                return x->priority > y->priority ? -1 : 1;
        if (x->age != y->age)
                return x->age < y->age ? -1 : 1;
        return 0;
}

size_t plan_run(const struct plan_demand *demands, size_t n_demands, const struct plan_agent *agents,
                size_t n_agents, uint32_t *load, struct plan_pick *picks, size_t max)
{
        struct order *order;
        uint32_t *room;
        bool *fits;
        size_t n = 0, turn = 0;

        if (!n_demands || !n_agents || !max)
                return 0;
        order = malloc(n_demands * sizeof *order);
        room = malloc(n_demands * sizeof *room);
        fits = malloc(n_agents * sizeof *fits);
        if (!order || !room || !fits)
                goto out; /* nothing is placed this turn; the next one tries again */
        for (size_t i = 0; i < n_demands; i++) {
                order[i] = (struct order){&demands[i], i};
                room[i] = demands[i].room;
        }
        for (size_t i = 0; i < n_agents; i++)
                load[i] = agents[i].running;
        qsort(order, n_demands, sizeof *order, cmp_order);

        for (size_t k = 0; k < n_demands && n < max; k++) {
                const struct plan_demand *d = order[k].d;
                uint32_t *free_places = d->group == SIZE_MAX ? NULL : &room[d->group];
                uint32_t eligible = 0;

                for (size_t i = 0; i < n_agents; i++) {
                        enum plan_why why = plan_fits(d->want, &agents[i], NULL);

                        if (d->score && d->score[i] < 0)
                                why = PLAN_NO_TOOL;
                        fits[i] = why == PLAN_OK;
                        eligible += why == PLAN_OK || why == PLAN_BUSY;
                }
                for (uint32_t s = 0; s < d->ready && n < max; s++) {
                        size_t a;

                        if (free_places && *free_places == 0)
                                break;
                        a = d->score ? best_score(fits, d->score, agents, load, n_agents)
                                     : least_loaded(fits, agents, load, n_agents, turn);
                        if (a == n_agents)
                                break;
                        load[a]++;
                        turn = a + 1;
                        if (free_places)
                                (*free_places)--;
                        picks[n++] = (struct plan_pick){order[k].at, a, eligible};
                }
        }
out:
        free(order);
        free(room);
        free(fits);
        return n;
}
