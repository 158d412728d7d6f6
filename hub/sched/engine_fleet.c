/* Agents as the engine sees them: what they offer, and what they hold. */
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "hub/sched/engine_impl.h"

struct fleet_agent *fleet_get(struct engine *en, const char *id)
{
        return map_get(en->agents, id);
}

struct fleet_agent *fleet_ensure(struct engine *en, const char *id, const char *name)
{
        struct fleet_agent *a = fleet_get(en, id);

        if (a)
                return a;
        a = engine_alloc(sizeof *a);
        a->id = engine_strdup(id);
        a->name = engine_strdup(name);
        list_init(&a->held);
        if (en->n_fleet == en->cap_fleet) {
                struct fleet_agent **v;

                en->cap_fleet = en->cap_fleet ? en->cap_fleet * 2 : 16;
                v = mem_realloc(en->fleet, en->cap_fleet * sizeof *v);
                if (!v)
                        abort();
                en->fleet = v;
        }
        en->fleet[en->n_fleet++] = a;
        if (map_put(en->agents, id, a, NULL))
                abort();
        return a;
}

static void clear_inventory(struct fleet_agent *a)
{
        for (size_t i = 0; i < a->n_labels; i++) {
                mem_free(a->labels[i].key);
                mem_free(a->labels[i].value);
        }
        for (size_t i = 0; i < a->n_tools; i++)
                mem_free(a->tools[i]);
        for (size_t i = 0; i < a->n_denied; i++)
                mem_free(a->denied[i]);
        mem_free(a->labels);
        mem_free(a->tools);
        mem_free(a->denied);
        route_models_free(a->models, a->n_models);
        a->models = NULL;
        a->n_models = 0;
        a->labels = NULL;
        a->tools = a->denied = NULL;
        a->n_labels = a->n_tools = a->n_denied = 0;
}

void fleet_free(struct fleet_agent *a)
{
        clear_inventory(a);
        mem_free(a->id);
        mem_free(a->name);
        mem_free(a->boot_id);
        mem_free(a);
}

void fleet_view(const struct fleet_agent *a, struct plan_agent *out)
{
        *out = (struct plan_agent){.id = a->id,
                                   .name = a->name,
                                   .online = a->online && a->ready,
                                   .draining = a->draining,
                                   .max_running = a->max_running,
                                   .running = a->running,
                                   .labels = a->labels,
                                   .n_labels = a->n_labels,
                                   .tools = (const char *const *)a->tools,
                                   .n_tools = a->n_tools,
                                   .denied = (const char *const *)a->denied,
                                   .n_denied = a->n_denied};
}

void fleet_attach(struct fleet_agent *a, struct step *s)
{
        s->agent = a;
        a->running++;
        list_push_back(&a->held, &s->on_agent);
}

static int cmp_label(const void *a, const void *b)
{
        return strcmp(((const struct plan_label *)a)->key, ((const struct plan_label *)b)->key);
}

static int cmp_name(const void *a, const void *b)
{
        return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Later ones win: what the hub knows about itself cannot be said otherwise by a label. */
static void set_label(struct fleet_agent *a, const char *key, const char *value)
{
        if (!value || !*value)
                return;
        for (size_t i = 0; i < a->n_labels; i++)
                if (!strcmp(a->labels[i].key, key)) {
                        set_text(&a->labels[i].value, value);
                        return;
                }
        a->labels[a->n_labels].key = engine_strdup(key);
        a->labels[a->n_labels++].value = engine_strdup(value);
}

static void take_inventory(struct fleet_agent *a, const struct engine_agent *in)
{
        clear_inventory(a);
        set_text(&a->name, in->name);
        set_text(&a->boot_id, in->boot_id ? in->boot_id : "");
        a->max_running = in->max_running ? in->max_running : 1;
        a->draining = in->draining;
        a->labels = engine_alloc((in->n_labels + 5) * sizeof *a->labels);
        for (size_t i = 0; i < in->n_labels; i++)
                set_label(a, in->labels[i].key, in->labels[i].value);
        set_label(a, "os", in->os);
        set_label(a, "arch", in->arch);
        set_label(a, "kind", in->kind);
        set_label(a, "name", in->name);
        qsort(a->labels, a->n_labels, sizeof *a->labels, cmp_label);
        a->tools = engine_alloc((in->n_tools + 1) * sizeof *a->tools);
        a->denied = engine_alloc((in->n_tools + 1) * sizeof *a->denied);
        for (size_t i = 0; i < in->n_tools; i++) {
                if (in->tools[i].allowed)
                        a->tools[a->n_tools++] = engine_strdup(in->tools[i].name);
                else
                        a->denied[a->n_denied++] = engine_strdup(in->tools[i].name);
        }
        qsort(a->tools, a->n_tools, sizeof *a->tools, cmp_name);
        qsort(a->denied, a->n_denied, sizeof *a->denied, cmp_name);
        if (in->models && route_models_read(in->models, &a->models, &a->n_models))
                abort();
}

int engine_agent_known(struct engine *en, const struct engine_agent *in)
{
        take_inventory(fleet_ensure(en, in->id, in->name), in);
        return 0;
}

int engine_agent_online(struct engine *en, const struct engine_agent *in)
{
        struct fleet_agent *a = fleet_ensure(en, in->id, in->name);

        take_inventory(a, in);
        a->online = true;
        a->ready = false;
        a->gone = false;
        a->offline_serial++;
        LIST_EACH (it, &a->held)
                container_of(it, struct step, on_agent)->held_seen = false;
        return 0;
}

void engine_agent_update(struct engine *en, const struct engine_agent *in)
{
        struct fleet_agent *a = fleet_get(en, in->id);

        if (!a)
                return;
        take_inventory(a, in);
        engine_want_flush(en);
}

enum engine_verdict engine_held(struct engine *en, const char *agent_id, uint64_t attempt_id)
{
        struct step *s = map_get_u64(en->attempts, attempt_id);

        if (!s || !s->agent || strcmp(s->agent->id, agent_id) != 0)
                return ENGINE_FORGET;
        s->held_seen = true;
        return s->cancel_requested || budget_stopped(s) ? ENGINE_CANCEL : ENGINE_KEEP;
}

/* The agent is back and does not have it. With the same boot id its journal is complete, so
 * the step never started there; after a reboot the journal may have lost its last writes. */
static void not_held(struct engine *en, struct step *s)
{
        bool same_boot = s->agent_boot && !strcmp(s->agent_boot, s->agent->boot_id);

        if (!s->in_commit)
                step_asks_withdraw(s);
        if (s->in_commit || s->state == STEP_UNKNOWN)
                return; /* it is sent when its commit is durable / a person decides */
        if (s->cancel_requested)
                step_end(s, STEP_CANCELLED);
        else if (!same_boot)
                step_lost(s, "the machine was restarted");
        else if (s->state == STEP_DISPATCHED && s->attempt_id > s->agent->seen)
                engine_send_start(en, s);
        else
                step_lost(s, s->state == STEP_DISPATCHED
                                     ? "it is done with it; was an older copy of the hub's data restored?"
                                     : "it no longer knows of it");
}

static void alive_after_all(struct step *s)
{
        step_move(s, STEP_RUNNING);
        run_settle(s->run);
}

void engine_agent_seen(struct engine *en, const char *agent_id, uint64_t attempt_id)
{
        struct fleet_agent *a = fleet_get(en, agent_id);

        if (a)
                a->seen = attempt_id;
}

void engine_agent_ready(struct engine *en, const char *agent_id)
{
        struct fleet_agent *a = fleet_get(en, agent_id);

        if (!a)
                return;
        a->ready = true;
        LIST_EACH_SAFE (it, nx, &a->held) {
                struct step *s = container_of(it, struct step, on_agent);

                if (!s->held_seen)
                        not_held(en, s);
                else if (s->state == STEP_UNKNOWN)
                        alive_after_all(s);
                else if (s->in && s->in->len)
                        step_stdin_resend(s);
        }
        budget_changed(en);
        engine_want_flush(en);
}

void engine_agent_offline(struct engine *en, const char *agent_id)
{
        struct fleet_agent *a = fleet_get(en, agent_id);
        struct timer t = {.kind = TIMER_AGENT, .agent = a};

        if (!a || !a->online)
                return;
        a->online = a->ready = false;
        t.serial = ++a->offline_serial;
        t.at_ms = clock_mono_ms(&en->clock) + en->opt.lost_after_ms;
        if (timers_add(&en->timers, &t))
                abort();
        engine_arm(en);
}

void fleet_lost(struct engine *en, struct fleet_agent *a, const char *why)
{
        (void)en;
        LIST_EACH_SAFE (it, nx, &a->held) {
                struct step *s = container_of(it, struct step, on_agent);

                if (s->state != STEP_UNKNOWN)
                        step_lost(s, why);
        }
}

void engine_agent_gone(struct engine *en, const char *agent_id)
{
        struct fleet_agent *a = fleet_get(en, agent_id);

        if (!a)
                return;
        a->online = a->ready = false;
        a->gone = true;
        a->offline_serial++;
        LIST_EACH (it, &a->held)
                step_asks_withdraw(container_of(it, struct step, on_agent));
        fleet_lost(en, a, "the agent was revoked");
}

void engine_agent_draining(struct engine *en, const char *agent_id, bool on)
{
        struct fleet_agent *a = fleet_get(en, agent_id);

        if (!a)
                return;
        a->draining = on;
        engine_want_flush(en);
}

uint32_t engine_agent_running(const struct engine *en, const char *agent_id)
{
        const struct fleet_agent *a = map_get(en->agents, agent_id);

        return a ? a->running : 0;
}
