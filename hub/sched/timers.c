#include "hub/sched/timers.h"

#include "common/err.h"
#include "common/mem.h"

void timers_fini(struct timers *t)
{
        mem_free(t->heap);
        *t = (struct timers){0};
}

int timers_add(struct timers *t, const struct timer *item)
{
        size_t i;

        if (t->n == t->cap) {
                size_t cap = t->cap ? t->cap * 2 : 64;
                struct timer *heap = mem_realloc(t->heap, cap * sizeof *heap);

                if (!heap)
                        return -E_NOMEM;
                t->heap = heap;
                t->cap = cap;
        }
        i = t->n++;
        while (i > 0 && t->heap[(i - 1) / 2].at_ms > item->at_ms) {
                t->heap[i] = t->heap[(i - 1) / 2];
                i = (i - 1) / 2;
        }
        t->heap[i] = *item;
        return 0;
}

int64_t timers_next(const struct timers *t)
{
        return t->n ? t->heap[0].at_ms : INT64_MAX;
}

int timers_pop(struct timers *t, int64_t now_ms, struct timer *out)
{
        struct timer last;
        size_t i = 0;

        if (!t->n || t->heap[0].at_ms > now_ms)
                return 0;
        *out = t->heap[0];
        last = t->heap[--t->n];
        for (;;) {
                size_t c = 2 * i + 1;

                if (c >= t->n)
                        break;
                if (c + 1 < t->n && t->heap[c + 1].at_ms < t->heap[c].at_ms)
                        c++;
                if (last.at_ms <= t->heap[c].at_ms)
                        break;
                t->heap[i] = t->heap[c];
                i = c;
        }
        t->heap[i] = last;
        return 1;
}
