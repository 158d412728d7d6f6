#include "hub/model/workflow_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"

#define CYCLE_NAMES_MAX 8
#define BATCH           64 /* targets looked at together, one bit each */

/* The steps in an order in which each stands after all that it needs. */
struct order {
        size_t *at;    /* position -> step */
        size_t *pos;   /* step -> position */
        size_t *left;  /* needs not yet placed, per step */
        size_t *first; /* dependents of step i: to[first[i] .. first[i+1]) */
        size_t *to;
        size_t n; /* placed */
};

static void order_fini(struct order *o)
{
        mem_free(o->at);
        mem_free(o->pos);
        mem_free(o->left);
        mem_free(o->first);
        mem_free(o->to);
}

static int order_init(struct order *o, const struct workflow *w)
{
        size_t edges = 0;

        for (size_t i = 0; i < w->n_steps; i++)
                edges += w->steps[i].n_needs;
        *o = (struct order){
                .at = mem_calloc(w->n_steps, sizeof *o->at),
                .pos = mem_calloc(w->n_steps, sizeof *o->pos),
                .left = mem_calloc(w->n_steps, sizeof *o->left),
                .first = mem_calloc(w->n_steps + 2, sizeof *o->first),
                .to = mem_calloc(edges + 1, sizeof *o->to),
        };
        return o->at && o->pos && o->left && o->first && o->to ? 0 : -E_NOMEM;
}

/* Kahn's algorithm; steps in a cycle, and after one, are never placed. */
static void order_steps(struct order *o, const struct workflow *w)
{
        for (size_t i = 0; i < w->n_steps; i++)
                for (size_t k = 0; k < w->steps[i].n_needs; k++)
                        o->first[w->steps[i].needs[k] + 2]++;
        for (size_t i = 2; i < w->n_steps + 2; i++)
                o->first[i] += o->first[i - 1];
        /* first[i + 1] is now where i's dependents start; filling moves it to where they end. */
        for (size_t i = 0; i < w->n_steps; i++)
                for (size_t k = 0; k < w->steps[i].n_needs; k++)
                        o->to[o->first[w->steps[i].needs[k] + 1]++] = i;
        for (size_t i = 0; i < w->n_steps; i++) {
                o->left[i] = w->steps[i].n_needs;
                if (!o->left[i])
                        o->at[o->n++] = i;
        }
        for (size_t head = 0; head < o->n; head++) {
                size_t s = o->at[head];

                o->pos[s] = head;
                for (size_t k = o->first[s]; k < o->first[s + 1]; k++)
                        if (--o->left[o->to[k]] == 0)
                                o->at[o->n++] = o->to[k];
        }
}

static size_t unplaced_need(const struct order *o, const struct step_def *s)
{
        for (size_t k = 0; k < s->n_needs; k++)
                if (o->left[s->needs[k]])
                        return s->needs[k];
        return SIZE_MAX; /* a step is unplaced because a need of it is */
}

/* Walks from need to need among the unplaced until a step comes again. */
static int fail_cycle(struct wf_parser *p, const struct order *o)
{
        const struct workflow *w = p->w;
        size_t s = 0, start, count = 0, next;
        char names[CYCLE_NAMES_MAX * (STEP_ID_MAX + 4)];
        size_t used = 0;

        memset(p->direct, 0, w->n_steps * sizeof *p->direct);
        while (!o->left[s])
                s++;
        for (; !p->direct[s]; s = unplaced_need(o, &w->steps[s]))
                p->direct[s] = 1;
        start = s;
        /* Written as the arrow of time goes: "a -> b" reads "a needs b". */
        do {
                next = unplaced_need(o, &w->steps[s]);
                if (count < CYCLE_NAMES_MAX - 1 && used < sizeof names)
                        used += (size_t)snprintf(names + used, sizeof names - used, "%.60s -> ",
                                                 w->steps[s].id);
                count++;
                s = next;
        } while (s != start);
        return err_at(p->e, E_INVAL, w->steps[start].line, w->steps[start].col,
                      "these steps form a cycle: %.330s%s%.60s (\"a -> b\": a needs b); take one of "
                      "these needs out",
                      names, count >= CYCLE_NAMES_MAX ? "... -> " : "", w->steps[start].id);
}

static int by_target(const void *a, const void *b, void *order)
{
        const struct far_ref *x = a, *y = b;
        const struct order *o = order;
        size_t px = o->pos[x->target], py = o->pos[y->target];

        return px < py ? -1 : px > py;
}

static int fail_not_needed(struct wf_parser *p, const struct far_ref *r)
{
        const char *step = p->w->steps[r->step].id, *target = p->w->steps[r->target].id;

        return wf_fail_in(p, r->d, r->offset,
                          "step \"%s\" mentions \"%s\" but does not need it: add \"needs: [%s]\"", step,
                          target, target);
}

/* Which of the batch's targets each step comes after, one bit for a target. Only
 * positions from the first target to the last mention are looked at. */
static void mark_batch(const struct wf_parser *p, const struct order *o, const uint64_t *target_bit,
                       uint64_t *after, size_t from, size_t to)
{
        for (size_t i = from; i <= to; i++) {
                const struct step_def *s = &p->w->steps[o->at[i]];
                uint64_t bits = 0;

                for (size_t k = 0; k < s->n_needs; k++) {
                        size_t need = s->needs[k];

                        if (o->pos[need] >= from)
                                bits |= after[need] | target_bit[need];
                }
                after[o->at[i]] = bits;
        }
}

/* refs[begin..end) mention at most BATCH different targets. */
static int check_batch(struct wf_parser *p, const struct order *o, size_t begin, size_t end,
                       uint64_t *target_bit, uint64_t *after)
{
        size_t from = o->pos[p->refs[begin].target], to = from, bit = 0;
        int rc = 0;

        for (size_t i = begin; i < end; i++) {
                size_t last = o->pos[p->refs[i].step];

                to = last > to ? last : to;
                if (!target_bit[p->refs[i].target])
                        target_bit[p->refs[i].target] = (uint64_t)1 << bit++;
        }
        mark_batch(p, o, target_bit, after, from, to);
        for (size_t i = begin; i < end && !rc; i++)
                if (o->pos[p->refs[i].step] < from ||
                    !(after[p->refs[i].step] & target_bit[p->refs[i].target]))
                        rc = fail_not_needed(p, &p->refs[i]);
        for (size_t i = begin; i < end; i++)
                target_bit[p->refs[i].target] = 0;
        return rc;
}

/* Mentions of steps that are not direct needs: each must be an ancestor. Memory
 * is linear; time is (mentioned steps / 64) times the graph, mostly far less. */
static int check_refs(struct wf_parser *p, struct order *o)
{
        uint64_t *bits;
        int rc = 0;

        if (!p->n_refs)
                return 0;
        bits = mem_calloc(p->w->n_steps * 2, sizeof *bits);
        if (!bits)
                return wf_nomem(p);
        qsort_r(p->refs, p->n_refs, sizeof *p->refs, by_target, o);
        for (size_t begin = 0, end; begin < p->n_refs && !rc; begin = end) {
                size_t targets = 0;

                for (end = begin; end < p->n_refs; end++)
                        if ((end == begin || p->refs[end].target != p->refs[end - 1].target) &&
                            targets++ == BATCH)
                                break;
                rc = check_batch(p, o, begin, end, bits, bits + p->w->n_steps);
        }
        mem_free(bits);
        return rc;
}

int wf_check_graph(struct wf_parser *p)
{
        struct order o;
        int rc = order_init(&o, p->w);

        if (rc) {
                rc = wf_nomem(p);
        } else {
                order_steps(&o, p->w);
                rc = o.n < p->w->n_steps ? fail_cycle(p, &o) : check_refs(p, &o);
        }
        order_fini(&o);
        return rc;
}
