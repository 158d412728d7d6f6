#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/mem.h"
#include "hub/sched/engine_impl.h"

struct group *group_get(struct engine *en, const char *name, uint32_t limit)
{
        struct group *g = map_get(en->groups, name);

        if (!g) {
                g = engine_alloc(sizeof *g);
                g->name = engine_strdup(name);
                if (map_put(en->groups, name, g, NULL))
                        abort();
        }
        g->limit = limit;
        return g;
}

static int cmp_label(const void *a, const void *b)
{
        return strcmp(((const struct plan_label *)a)->key, ((const struct plan_label *)b)->key);
}

/* Equal wants give equal keys: fields separated by a byte that no name can hold. */
static char *key_of(const struct step *s, const char *agent, const struct plan_label *l, size_t n,
                    const struct group *g)
{
        struct buf b = {0};
        int rc = buf_printf(&b, "%d\x1f%s\x1f%s\x1f%s", s->run->priority + s->def->priority, s->def->tool,
                            agent ? agent : "", g ? g->name : "");

        for (size_t i = 0; !rc && i < n; i++)
                rc = buf_printf(&b, "\x1f%s\x1e%s", l[i].key, l[i].value);
        if (!rc && s->route)
                rc = buf_printf(&b, "\x1d%s", s->route->key);
        if (rc)
                abort();
        return buf_steal_str(&b);
}

static struct demand *demand_make(struct step *s, char *key, const char *agent, const struct plan_label *l,
                                  size_t n, struct group *g)
{
        struct engine *en = s->run->en;
        struct demand *d = engine_alloc(sizeof *d);

        d->key = key;
        d->tool = engine_strdup(s->def->tool);
        d->agent = engine_strdup(agent);
        d->priority = s->run->priority + s->def->priority;
        d->group = g;
        d->labels = n ? engine_alloc(n * sizeof *d->labels) : NULL;
        for (size_t i = 0; i < n; i++) {
                d->labels[i].key = engine_strdup(l[i].key);
                d->labels[i].value = engine_strdup(l[i].value);
        }
        d->want = (struct plan_want){.tool = d->tool, .agent = d->agent, .labels = d->labels, .n_labels = n};
        d->routed = s->route != NULL;
        en->n_routed += d->routed;
        list_init(&d->ready);
        list_push_back(&en->demands, &d->all);
        if (map_put(en->demands_by_key, key, d, NULL))
                abort();
        return d;
}

void demand_free(struct demand *d)
{
        for (size_t i = 0; i < d->want.n_labels; i++) {
                mem_free(d->labels[i].key);
                mem_free(d->labels[i].value);
        }
        list_remove(&d->all);
        mem_free(d->labels);
        mem_free(d->tool);
        mem_free(d->agent);
        mem_free(d->key);
        mem_free(d);
}

int demand_add(struct step *s, const char *agent, struct plan_label *labels, size_t n_labels, struct group *g)
{
        struct engine *en = s->run->en;
        struct demand *d;
        char *key;

        if (agent && !*agent)
                agent = NULL;
        if (n_labels)
                qsort(labels, n_labels, sizeof *labels, cmp_label);
        key = key_of(s, agent, labels, n_labels, g);
        if (!key)
                abort();
        d = map_get(en->demands_by_key, key);
        if (d)
                mem_free(key);
        else
                d = demand_make(s, key, agent, labels, n_labels, g);
        s->demand = d;
        s->group = g;
        if (g)
                g->waiting++;
        list_push_back(&d->ready, &s->queue);
        d->n_ready++;
        engine_want_flush(en);
        return 0;
}

void demand_remove(struct step *s)
{
        struct demand *d = s->demand;

        list_remove(&s->queue);
        s->demand = NULL;
        if (s->group)
                s->group->waiting--;
        if (--d->n_ready == 0) {
                map_del(s->run->en->demands_by_key, d->key);
                s->run->en->n_routed -= d->routed;
                demand_free(d);
        }
}
