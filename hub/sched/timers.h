/* Deadlines as a binary heap: the engine's only idea of "later". Entries are not
 * removed; whoever gets one checks whether it still means something. Pure but for
 * memory; loop thread. */
#ifndef PHOTON_SCHED_TIMERS_H
#define PHOTON_SCHED_TIMERS_H

#include <stddef.h>
#include <stdint.h>

enum timer_kind { TIMER_STEP, TIMER_RUN, TIMER_AGENT, TIMER_ASK, TIMER_DAY };

struct timer {
        int64_t at_ms; /* monotonic */
        enum timer_kind kind;
        int64_t run_seq; /* STEP, RUN */
        uint32_t idx;    /* STEP */
        uint64_t serial; /* AGENT: which disconnection; STEP: attempt; ASK: checkpoint's seq */
        void *agent;     /* AGENT */
};

struct timers {
        struct timer *heap;
        size_t n, cap;
};

void timers_fini(struct timers *t);
int timers_add(struct timers *t, const struct timer *item);          /* -E_NOMEM */
int64_t timers_next(const struct timers *t);                         /* INT64_MAX: none */
int timers_pop(struct timers *t, int64_t now_ms, struct timer *out); /* 1: one was due */

#endif
