#include "hub/sched/engine_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/mac.h"
#include "common/id.h"
#include "common/json.h"
#include "common/log.h"
#include "common/mem.h"
#include "hub/event/bus.h"
#include "hub/sched/write.h"
#include "hub/store/store.h"

#define TRIM_EVERY          10000 /* events */
#define EVENTS_KEPT         1000000
#define IDEMPOTENCY_KEPT_US (INT64_C(24) * 3600 * 1000000)
#define ATTEMPT_BLOCK       100000u /* attempt ids reserved on disk at a time */

/* ---- after a commit ---- */

enum after_kind {
        AFTER_START,
        AFTER_CANCEL,
        AFTER_ACK,
        AFTER_CALL,
        AFTER_ANSWER,
        AFTER_SUBMITTED,
        AFTER_OVER,
        AFTER_REPLY
};

struct after {
        enum after_kind kind;
        int rc;
        union {
                struct step *step;
                struct fleet_agent *agent;
                struct run *run;
                char *agent_id;
                struct err *err;
        } u;
        uint64_t attempt_id;
        union {
                void (*call)(void *arg);
                engine_answer answer;
                void (*submitted)(void *, const struct engine_done *);
                char *reason;
        } f;
        void *arg;
};

struct batch {
        struct engine *en;
        struct store_tx *tx;
        struct after *after;
        size_t n, cap;
        int64_t last_event;
};

/* State on disk is whole at every commit, so stopping is safe and going on half-done is not. */
static void *must(void *p)
{
        if (!p) {
                log_error("engine", "out of memory: stopping; what was acknowledged is on disk", "%s", "");
                abort();
        }
        return p;
}

void *engine_alloc(size_t n)
{
        return must(mem_calloc(1, n));
}

char *engine_strdup(const char *s)
{
        return s ? must(mem_strdup(s)) : NULL;
}

struct batch *engine_batch(struct engine *en)
{
        if (!en->batch) {
                en->batch = engine_alloc(sizeof *en->batch);
                en->batch->en = en;
                en->batch->tx = must(store_begin(en->store));
                engine_want_flush(en);
        }
        return en->batch;
}

struct store_tx *engine_tx(struct engine *en)
{
        return engine_batch(en)->tx;
}

static struct after *after_add(struct engine *en, enum after_kind kind)
{
        struct batch *b = engine_batch(en);

        if (b->n == b->cap) {
                b->cap = b->cap ? b->cap * 2 : 32;
                b->after = must(mem_realloc(b->after, b->cap * sizeof *b->after));
        }
        memset(&b->after[b->n], 0, sizeof *b->after);
        b->after[b->n].kind = kind;
        return &b->after[b->n++];
}

void engine_after_start(struct engine *en, struct step *s)
{
        struct after *a = after_add(en, AFTER_START);

        a->u.step = s;
        a->attempt_id = s->attempt_id;
        s->in_commit = true;
}

void engine_after_cancel(struct engine *en, struct fleet_agent *ag, uint64_t attempt_id, const char *reason)
{
        struct after *a = after_add(en, AFTER_CANCEL);

        a->u.agent = ag;
        a->attempt_id = attempt_id;
        a->f.reason = engine_strdup(reason ? reason : "cancelled");
}

void engine_after_ack(struct engine *en, const char *agent_id, uint64_t attempt_id)
{
        struct after *a = after_add(en, AFTER_ACK);

        a->u.agent_id = engine_strdup(agent_id);
        a->attempt_id = attempt_id;
}

void engine_after_call(struct engine *en, void (*fn)(void *arg), void *arg)
{
        struct after *a = after_add(en, AFTER_CALL);

        a->f.call = fn;
        a->arg = arg;
}

void engine_after_answer(struct engine *en, engine_answer cb, void *arg, int rc, const struct err *e)
{
        struct after *a = after_add(en, AFTER_ANSWER);

        a->f.answer = cb;
        a->arg = arg;
        a->rc = rc;
        if (e && rc) {
                a->u.err = engine_alloc(sizeof *e);
                *a->u.err = *e;
        }
}

void engine_after_submitted(struct engine *en, void (*cb)(void *, const struct engine_done *), void *arg,
                            struct run *r)
{
        struct after *a = after_add(en, AFTER_SUBMITTED);

        a->f.submitted = cb;
        a->arg = arg;
        a->u.run = r;
}

void engine_after_over(struct engine *en, struct run *r)
{
        after_add(en, AFTER_OVER)->u.run = r;
}

void engine_after_reply(struct engine *en, int64_t ask_seq)
{
        after_add(en, AFTER_REPLY)->attempt_id = (uint64_t)ask_seq;
}

static void send_start(struct engine *en, struct step *s)
{
        char mark[ENGINE_MARK_LEN] = "";
        struct engine_start m = {
                .attempt_id = s->attempt_id,
                .run_id = s->run->id,
                .step_id = s->id,
                .tool = s->def->tool,
                .input = s->input ? s->input : "{}",
                .effect = effect_name(s->def->effect),
                .traceparent = "",
                .attempt = s->attempt,
                .timeout_ms = s->def->timeout_ms > UINT32_MAX ? UINT32_MAX : (uint32_t)s->def->timeout_ms,
                .grace_ms = (uint32_t)en->opt.cancel_grace_ms,
                .stdin_follows = s->stdin_follows,
                .project = s->run->project,
                .secrets = s->def->secrets,
                .n_secrets = s->def->n_secrets,
                .secret_mark = mark,
        };

        if (secrets_must_wait(s)) {
                secrets_wait(s);
                return;
        }
        if (s->def->n_secrets && en->opt.vault.mark)
                en->opt.vault.mark(en->opt.vault.ctx, s->run->id, s->id, s->attempt, mark);
        en->wire.start(en->wire.ctx, s->agent->id, &m);
        step_stdin_resend(s);
}

/* An agent that comes back without the attempt gets it again. */
void engine_send_start(struct engine *en, struct step *s)
{
        send_start(en, s);
}

static void run_after(struct engine *en, struct after *a)
{
        struct engine_done d = {0};

        switch (a->kind) {
        case AFTER_START:
                /* Cancelled, lost or resolved while the commit was under way: then it was
                 * never sent, and whoever changed it has dealt with that. */
                if (a->u.step->attempt_id == a->attempt_id && a->u.step->agent) {
                        a->u.step->in_commit = false;
                        if (a->u.step->agent->online)
                                send_start(en, a->u.step);
                }
                break;
        case AFTER_CANCEL:
                if (a->u.agent->online)
                        en->wire.cancel(en->wire.ctx, a->u.agent->id, a->attempt_id, a->f.reason);
                mem_free(a->f.reason);
                break;
        case AFTER_ACK:
                en->wire.ack(en->wire.ctx, a->u.agent_id, a->attempt_id);
                mem_free(a->u.agent_id);
                break;
        case AFTER_CALL:
                a->f.call(a->arg);
                break;
        case AFTER_ANSWER:
                if (a->f.answer)
                        a->f.answer(a->arg, a->rc, a->u.err);
                mem_free(a->u.err);
                break;
        case AFTER_SUBMITTED:
                d.run_id = a->u.run->id;
                d.state = a->u.run->state;
                if (a->f.submitted)
                        a->f.submitted(a->arg, &d);
                break;
        case AFTER_OVER:
                d.run_id = a->u.run->id;
                d.state = a->u.run->state;
                if (a->u.run->on_finished)
                        a->u.run->on_finished(a->u.run->waiter, &d);
                run_free(a->u.run);
                break;
        case AFTER_REPLY:
                ask_reply(en, (int64_t)a->attempt_id);
                break;
        }
}

static void on_committed(void *arg)
{
        struct batch *b = arg;
        struct engine *en = b->en;

        bus_durable(en->bus, b->last_event);
        for (size_t i = 0; i < b->n; i++)
                run_after(en, &b->after[i]);
        mem_free(b->after);
        mem_free(b);
}

/* ---- the turn ---- */

int64_t engine_now(struct engine *en)
{
        return clock_now_us(&en->clock);
}

double engine_rnd(struct engine *en)
{
        /* splitmix64 (Steele, Lea, Flood 2014): jitter only, and repeatable from the seed. */
        uint64_t z = (en->rng += 0x9e3779b97f4a7c15u);

        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        return (double)((z ^ (z >> 31)) >> 11) / 9007199254740992.0;
}

void engine_want_flush(struct engine *en)
{
        if (en->flush_wanted)
                return;
        en->flush_wanted = true;
        if (en->opt.want_flush)
                en->opt.want_flush(en->opt.ctx);
}

void engine_arm(struct engine *en)
{
        int64_t at = timers_next(&en->timers);

        if (at == en->armed_ms)
                return;
        en->armed_ms = at;
        if (en->opt.want_timer)
                en->opt.want_timer(en->opt.ctx, at);
}

uint64_t engine_new_attempt(struct engine *en)
{
        if (en->next_attempt >= en->attempt_limit) {
                char text[32];

                en->attempt_limit = en->next_attempt + ATTEMPT_BLOCK;
                snprintf(text, sizeof text, "%llu", (unsigned long long)en->attempt_limit);
                store_put_meta(engine_tx(en), "attempt_limit", text);
        }
        return en->next_attempt++;
}

static void plan_reserve(struct engine *en, size_t n_demands)
{
        if (en->p_agents_cap < en->n_fleet) {
                en->p_agents_cap = en->n_fleet + 16;
                en->p_agents = must(mem_realloc(en->p_agents, en->p_agents_cap * sizeof *en->p_agents));
                en->p_load = must(mem_realloc(en->p_load, en->p_agents_cap * sizeof *en->p_load));
        }
        if (en->p_demands_cap < n_demands) {
                en->p_demands_cap = n_demands * 2 + 16;
                en->p_demands = must(mem_realloc(en->p_demands, en->p_demands_cap * sizeof *en->p_demands));
                en->p_which = must(mem_realloc(en->p_which, en->p_demands_cap * sizeof *en->p_which));
        }
        if (!en->p_picks)
                en->p_picks = must(mem_alloc(ENGINE_PICKS_MAX * sizeof *en->p_picks));
}

static size_t snapshot_demands(struct engine *en)
{
        size_t n = 0, routed = 0;

        if (en->p_scores_cap < en->n_routed * en->n_fleet) {
                en->p_scores_cap = 2 * en->n_routed * en->n_fleet;
                en->p_scores = must(mem_realloc(en->p_scores, en->p_scores_cap * sizeof *en->p_scores));
        }

        LIST_EACH (it, &en->demands) {
                struct demand *d = container_of(it, struct demand, all);
                struct plan_demand *p = &en->p_demands[n];
                struct step *first;

                if (!d->n_ready)
                        continue;
                first = container_of(d->ready.next, struct step, queue);
                *p = (struct plan_demand){.want = &d->want,
                                          .priority = d->priority,
                                          .age = (uint64_t)first->run->seq,
                                          .ready = d->n_ready,
                                          .room = UINT32_MAX,
                                          .group = SIZE_MAX};
                if (d->group) {
                        if (d->group->plan_at >= n || en->p_which[d->group->plan_at]->group != d->group)
                                d->group->plan_at = n;
                        p->group = d->group->plan_at;
                        p->room =
                                d->group->limit > d->group->running ? d->group->limit - d->group->running : 0;
                }
                if (d->routed) {
                        double *scores = en->p_scores + routed++ * en->n_fleet;

                        route_scores(en, d, scores);
                        p->score = scores;
                }
                en->p_which[n++] = d;
        }
        return n;
}

static char *why_there(struct engine *en, struct step *s, struct fleet_agent *a, uint32_t eligible)
{
        cJSON *o = must(cJSON_CreateObject());
        char *text;

        cJSON_AddNumberToObject(o, "eligible", eligible);
        cJSON_AddNumberToObject(o, "agents", (double)en->n_fleet);
        cJSON_AddNumberToObject(o, "running", a->running);
        cJSON_AddNumberToObject(o, "places", a->max_running);
        route_choose(en, s, s->demand, a, o);
        text = must(json_text(o));
        cJSON_Delete(o);
        return text;
}

static void dispatch(struct engine *en, struct step *s, struct fleet_agent *a, uint32_t eligible)
{
        char plain[160], *why = plain;

        if (!budget_gate(en, s, &a) || !policy_gate(en, s, a))
                return;
        if (s->route)
                why = why_there(en, s, a, eligible);
        else
                snprintf(plain, sizeof plain, "{\"eligible\":%u,\"agents\":%zu,\"running\":%u,\"places\":%u}",
                         eligible, en->n_fleet, a->running, a->max_running);
        demand_remove(s);
        s->attempt++;
        s->attempt_id = engine_new_attempt(en);
        set_text(&s->agent_boot, a->boot_id);
        set_text(&s->placement, why);
        if (why != plain)
                mem_free(why);
        fleet_attach(a, s);
        budget_take(en, s);
        if (s->group)
                s->group->running++;
        s->dispatched_us = engine_now(en);
        s->started_us = s->finished_us = 0;
        step_move(s, STEP_DISPATCHED);
        if (map_put_u64(en->attempts, s->attempt_id, s, NULL))
                must(NULL);
        secrets_used(s);
        engine_after_start(en, s);
        en->stats.dispatched_total++;
}

static bool any_room(const struct engine *en)
{
        for (size_t i = 0; i < en->n_fleet; i++) {
                const struct fleet_agent *a = en->fleet[i];

                if (a->online && a->ready && !a->draining && a->running < a->max_running)
                        return true;
        }
        return false;
}

static void plan(struct engine *en)
{
        size_t n_demands, n;

        if (en->n_routed)
                route_refuse(en);
        budget_wake(en);
        n_demands = map_count(en->demands_by_key);
        if (!n_demands || !any_room(en))
                return;
        plan_reserve(en, n_demands);
        for (size_t i = 0; i < en->n_fleet; i++)
                fleet_view(en->fleet[i], &en->p_agents[i]);
        n_demands = snapshot_demands(en);
        n = plan_run(en->p_demands, n_demands, en->p_agents, en->n_fleet, en->p_load, en->p_picks,
                     ENGINE_PICKS_MAX);
        for (size_t i = 0; i < n; i++) {
                struct demand *d = en->p_which[en->p_picks[i].demand];

                /* demand_remove frees a demand when its last step leaves; no later pick speaks of it. */
                dispatch(en, container_of(d->ready.next, struct step, queue), en->fleet[en->p_picks[i].agent],
                         en->p_picks[i].eligible);
        }
        budget_act(en);
        if (n == ENGINE_PICKS_MAX)
                engine_want_flush(en);
}

/* Now and then, with a commit that is due anyway: streams resume from the newest million events, and a
 * repeated request is recognised for a day. */
static void forget_old(struct engine *en, struct batch *b)
{
        if (b->last_event / TRIM_EVERY == en->trimmed)
                return;
        en->trimmed = b->last_event / TRIM_EVERY;
        if (b->last_event > EVENTS_KEPT)
                store_trim_events(b->tx, b->last_event - EVENTS_KEPT);
        store_trim_idempotency(b->tx, engine_now(en) - IDEMPOTENCY_KEPT_US);
}

void engine_flush(struct engine *en)
{
        struct batch *b;
        struct list *it;

        en->flush_wanted = false;
        if (!en->closing)
                plan(en);
        LIST_EACH (r, &en->dirty_runs) {
                if (container_of(r, struct run, dirty)->is_new)
                        write_new_run(en, container_of(r, struct run, dirty));
        }
        while ((it = list_pop(&en->dirty_steps)))
                write_step(en, container_of(it, struct step, dirty));
        while ((it = list_pop(&en->dirty_runs)))
                write_run(en, container_of(it, struct run, dirty));
        b = en->batch;
        en->batch = NULL;
        if (b) {
                b->last_event = bus_write(en->bus, b->tx);
                forget_old(en, b);
                store_commit(b->tx, on_committed, b);
        }
        engine_arm(en);
}

static void on_timer(struct engine *en, const struct timer *t)
{
        if (t->kind == TIMER_AGENT) {
                struct fleet_agent *a = t->agent;

                if (!a->online && a->offline_serial == t->serial)
                        fleet_lost(en, a, "its agent has been offline too long");
                return;
        }
        if (t->kind == TIMER_DAY) {
                budget_new_day(en);
                return;
        }
        if (t->kind == TIMER_ASK) {
                ask_expired(en, (int64_t)t->serial);
                return;
        }
        struct run *r = map_get_u64(en->runs_seq, (uint64_t)t->run_seq);

        if (!r || r->over)
                return;
        if (t->kind == TIMER_RUN)
                run_timed_out(r);
        else if (t->idx < r->n_steps && r->steps[t->idx]->state == STEP_WAITING &&
                 !step_gated(r->steps[t->idx]) && r->steps[t->idx]->not_before_us <= engine_now(en) + 1000)
                step_prepare(r->steps[t->idx]);
}

void engine_tick(struct engine *en)
{
        struct timer t;
        int64_t now = clock_mono_ms(&en->clock);

        en->armed_ms = INT64_MAX;
        while (timers_pop(&en->timers, now, &t))
                on_timer(en, &t);
        engine_want_flush(en);
}

/* ---- life ---- */

int engine_create(const struct engine_options *o, struct engine **out, struct err *e)
{
        struct engine *en = mem_calloc(1, sizeof *en);

        if (!en)
                return err_set(e, E_NOMEM, "no memory for the scheduler");
        en->clock = *o->clock;
        en->store = o->store;
        en->bus = o->bus;
        en->wire = o->wire;
        en->opt = *o;
        if (!en->opt.lost_after_ms)
                en->opt.lost_after_ms = 60000;
        if (!en->opt.losses_max)
                en->opt.losses_max = 100;
        if (!en->opt.cancel_grace_ms)
                en->opt.cancel_grace_ms = 10000;
        if (!en->opt.question_timeout_ms)
                en->opt.question_timeout_ms = INT64_C(24) * 3600 * 1000;
        en->rng = o->seed ? o->seed : id_random_u64();
        en->armed_ms = INT64_MAX;
        en->next_seq = en->next_ask = 1;
        en->next_attempt = en->attempt_limit = 1;
        list_init(&en->demands);
        list_init(&en->dirty_steps);
        list_init(&en->dirty_runs);
        list_init(&en->over);
        list_init(&en->vault_waiting);
        if (o->seal_key && !(en->seal = mac_create(o->seal_key))) {
                engine_free(en);
                return err_set(e, E_NOMEM, "no memory for the scheduler");
        }
        if (!(en->runs = map_create()) || !(en->runs_seq = map_create()) || !(en->attempts = map_create()) ||
            !(en->agents = map_create()) || !(en->demands_by_key = map_create()) ||
            !(en->groups = map_create()) || !(en->run_groups = map_create()) || !(en->asks = map_create()) ||
            !(en->records = map_create()) || !(en->asks_seq = map_create()) || budgets_create(en)) {
                engine_free(en);
                return err_set(e, E_NOMEM, "no memory for the scheduler");
        }
        budget_asks_begin(en);
        policy_begin(en);
        *out = en;
        return 0;
}

static void free_groups(struct engine *en)
{
        size_t it = 0;
        void *v;

        while (en->groups && map_next(en->groups, &it, NULL, &v)) {
                mem_free(((struct group *)v)->name);
                mem_free(v);
        }
        it = 0;
        while (en->run_groups && map_next(en->run_groups, &it, NULL, &v)) {
                mem_free(((struct run_group *)v)->name);
                mem_free(v);
        }
}

void engine_free(struct engine *en)
{
        size_t it = 0;
        void *v;

        if (!en)
                return;
        en->closing = true;
        while (en->runs && map_count(en->runs)) {
                it = 0;
                if (!map_next(en->runs, &it, NULL, &v))
                        break;
                run_free(v);
        }
        if (en->batch) {
                store_abandon(en->batch->tx);
                mem_free(en->batch->after);
                mem_free(en->batch);
        }
        for (size_t i = 0; i < en->n_fleet; i++)
                fleet_free(en->fleet[i]);
        mem_free(en->fleet);
        free_groups(en);
        map_free(en->runs);
        map_free(en->runs_seq);
        map_free(en->attempts);
        map_free(en->asks);
        map_free(en->asks_seq);
        route_close(en);
        budgets_free(en);
        map_free(en->agents);
        map_free(en->demands_by_key);
        map_free(en->groups);
        map_free(en->run_groups);
        timers_fini(&en->timers);
        if (en->reader)
                store_reader_close(en->reader);
        mem_free(en->p_agents);
        mem_free(en->p_demands);
        mem_free(en->p_which);
        mem_free(en->p_picks);
        mem_free(en->p_load);
        mem_free(en->p_scores);
        mac_free(en->seal);
        mem_free(en);
}

void engine_get_stats(const struct engine *en, struct engine_stats *out)
{
        *out = en->stats;
        out->runs_active = map_count(en->runs);
        out->steps_running = map_count(en->attempts);
        out->steps_ready = budget_waiting(en);
        out->checkpoints_open = en->asks_open;
        LIST_EACH (it, &en->demands)
                out->steps_ready += container_of(it, struct demand, all)->n_ready;
}
