#include "tests/sim/world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/mem.h"
#include "tests/lib/test.h"

uint32_t sim_rnd(struct world *w, uint32_t below)
{
        w->rng = w->rng * 6364136223846793005u + 1442695040888963407u;
        return below ? (uint32_t)(w->rng >> 33) % below : 0;
}

static int64_t fake_us(void *ctx)
{
        return 1790000000000000 + ((struct world *)ctx)->now_ms * 1000;
}

static int64_t fake_ms(void *ctx)
{
        return ((struct world *)ctx)->now_ms;
}

static struct sim_mail *post(struct world *w, enum sim_mail_kind kind, int agent, uint64_t attempt)
{
        struct sim_mail *m;

        CHECK(w->n_mail < SIM_MAIL_MAX);
        m = &w->mail[w->n_mail++];
        memset(m, 0, sizeof *m);
        m->kind = kind;
        m->agent = agent;
        m->attempt_id = attempt;
        m->epoch = w->epoch[agent];
        m->at_ms = w->now_ms + sim_rnd(w, 3);
        /* One stream per connection: never earlier than what was sent before it. */
        for (int i = 0; i < w->n_mail - 1; i++)
                if (w->mail[i].agent == agent && w->mail[i].at_ms > m->at_ms)
                        m->at_ms = w->mail[i].at_ms;
        return m;
}

static int index_of(struct world *w, const char *id)
{
        for (int i = 0; i < w->n_agents; i++)
                if (!strcmp(w->agents[i].id, id))
                        return i;
        CHECK(!"an agent that is not in this world");
        return -1;
}

/* ---- the wire, as the engine sees it ---- */

static void on_start(void *ctx, const char *agent_id, const struct engine_start *m)
{
        struct world *w = ctx;
        int a = index_of(w, agent_id);
        struct sim_mail *mail;

        if (!w->agents[a].connected)
                return;
        mail = post(w, SIM_START, a, m->attempt_id);
        snprintf(mail->key, sizeof mail->key, "%s/%s", m->run_id, m->step_id);
        snprintf(mail->effect, sizeof mail->effect, "%s", m->effect);
        snprintf(mail->tool, sizeof mail->tool, "%s", m->tool);
}

static void on_cancel(void *ctx, const char *agent_id, uint64_t attempt_id, const char *reason)
{
        struct world *w = ctx;
        int a = index_of(w, agent_id);

        (void)reason;
        if (w->agents[a].connected)
                post(w, SIM_CANCEL, a, attempt_id);
}

static void on_ack(void *ctx, const char *agent_id, uint64_t attempt_id)
{
        struct world *w = ctx;
        int a = index_of(w, agent_id);

        if (w->agents[a].connected)
                post(w, SIM_ACK, a, attempt_id);
}

static void on_stdin(void *ctx, const char *agent_id, uint64_t attempt_id, uint64_t offset, const void *p,
                     size_t n, bool eof)
{
        (void)ctx, (void)agent_id, (void)attempt_id, (void)offset, (void)p, (void)n, (void)eof;
}

/* ---- the hub's life ---- */

static void hub_start(struct world *w)
{
        struct store_options so = {.dir = w->dir,
                                   .create = true,
                                   .seal_key = (const uint8_t[32]){1},
                                   .seal_key_new = !w->starts++};
        struct store_reader *rd;
        struct err e = {0};
        int64_t seq, event;
        uint64_t attempt;
        struct engine_options eo = {.clock = &w->clock,
                                    .wire = {on_start, on_cancel, on_ack, on_stdin, NULL, w},
                                    .lost_after_ms = 2000,
                                    .seed = w->rng | 1};

        if (store_open(&so, &w->store, &e))
                test_fail(__FILE__, __LINE__, "store: %s", e.msg);
        CHECK_INT(store_reader_open(w->store, &rd, &e), 0);
        CHECK_INT(read_max(rd, &seq, &attempt, &event), 0);
        store_reader_close(rd);
        CHECK_INT(bus_create(event, &w->bus), 0);
        eo.store = w->store;
        eo.bus = w->bus;
        CHECK_INT(engine_create(&eo, &w->en, &e), 0);
        if (engine_load(w->en, &e))
                test_fail(__FILE__, __LINE__, "load: %s", e.msg);
}

void world_cut(struct world *w, int a)
{
        if (!w->agents[a].connected)
                return;
        w->agents[a].connected = false;
        w->epoch[a]++;
        w->cuts++;
        if (w->en)
                engine_agent_offline(w->en, w->agents[a].id);
}

/* kill -9: memory is gone; half of the time the last commit had reached the disk, its messages nobody. */
void world_hub_kill(struct world *w)
{
        w->hub_kills++;
        if (sim_rnd(w, 2))
                engine_flush(w->en);
        for (int i = 0; i < w->n_agents; i++)
                world_cut(w, i);
        store_close(w->store); /* completions run, and reach no agent */
        engine_free(w->en);
        bus_free(w->bus);
        hub_start(w);
}

static void connect_agent(struct world *w, int i)
{
        struct sim_agent *a = &w->agents[i];
        struct engine_label labels[] = {{"zone", i % 2 ? "b" : "a"}};
        struct engine_tool tools[] = {{"process.exec", true}, {"photon.echo", true}};
        struct engine_agent ea = {.id = a->id,
                                  .name = a->name,
                                  .kind = "local",
                                  .os = "linux",
                                  .arch = "x86_64",
                                  .version = "t",
                                  .boot_id = a->boot,
                                  .labels = labels,
                                  .n_labels = 1,
                                  .tools = tools,
                                  .n_tools = 2,
                                  .max_running = w->places ? (uint32_t)w->places : 4};

        CHECK_INT(engine_agent_online(w->en, &ea), 0);
        a->connected = true;
        for (int k = 0; k < a->n_held;) {
                enum engine_verdict v = engine_held(w->en, a->id, a->held[k].attempt_id);

                if (v == ENGINE_FORGET) {
                        a->held[k] = a->held[--a->n_held];
                        continue;
                }
                if (v == ENGINE_CANCEL && !a->held[k].finished)
                        a->held[k].cancelled = a->held[k].finished = true;
                if (a->held[k].finished)
                        post(w, SIM_FINISHED, i, a->held[k].attempt_id);
                k++;
        }
        engine_agent_ready(w->en, a->id);
}

void world_agent_kill(struct world *w, int i)
{
        struct sim_agent *a = &w->agents[i];

        w->agent_kills++;
        world_cut(w, i);
        for (int k = 0; k < a->n_held; k++)
                if (!a->held[k].finished)
                        a->held[k].finished = a->held[k].lost = true;
}

/* Power loss: a new boot, and the journal's last writes are gone. */
void world_agent_reboot(struct world *w, int i)
{
        struct sim_agent *a = &w->agents[i];

        w->reboots++;
        world_agent_kill(w, i);
        a->n_held = (int)sim_rnd(w, (uint32_t)a->n_held + 1);
        snprintf(a->boot, sizeof a->boot, "boot%u", sim_rnd(w, 1000000));
}

/* ---- what machines do ---- */

struct sim_truth *world_truth(struct world *w, const char *run, const char *step)
{
        char key[96];
        struct sim_truth *t;

        snprintf(key, sizeof key, "%s/%s", run, step);
        t = map_get(w->truth, key);
        if (!t) {
                t = calloc(1, sizeof *t);
                CHECK(t != NULL);
                CHECK_INT(map_put(w->truth, key, t, NULL), 0);
        }
        return t;
}

static struct sim_truth *truth_of_key(struct world *w, const char *key)
{
        char run[96];
        char *slash;

        snprintf(run, sizeof run, "%s", key);
        slash = strchr(run, '/');
        CHECK(slash != NULL);
        *slash = 0;
        return world_truth(w, run, slash + 1);
}

static struct sim_held *held_find(struct sim_agent *a, uint64_t id)
{
        for (int k = 0; k < a->n_held; k++)
                if (a->held[k].attempt_id == id)
                        return &a->held[k];
        return NULL;
}

static void check_needs(struct world *w, const char *key)
{
        const char *slash = strchr(key, '/');
        char def[96];
        char **needs;

        snprintf(def, sizeof def, "%s", slash + 1);
        needs = map_get(w->needs, def);
        for (; needs && *needs; needs++) {
                char need[160];

                snprintf(need, sizeof need, "%.*s/%s", (int)(slash - key), key, *needs);
                if (!truth_of_key(w, need)->succeeded)
                        test_fail(__FILE__, __LINE__, "%s started before %s succeeded", key, *needs);
        }
}

static void agent_start(struct world *w, const struct sim_mail *m)
{
        struct sim_agent *a = &w->agents[m->agent];
        struct sim_truth *t;
        struct sim_held *h;

        if (held_find(a, m->attempt_id))
                return;
        CHECK(a->n_held < SIM_HELD_MAX);
        check_needs(w, m->key);
        t = truth_of_key(w, m->key);
        t->runs++;
        if (!strcmp(m->effect, "at-most-once")) {
                t->at_most_once = 1;
                if (t->runs > 1 + t->forgiven)
                        test_fail(__FILE__, __LINE__, "at-most-once step %s ran %d times", m->key, t->runs);
        }
        h = &a->held[a->n_held++];
        *h = (struct sim_held){.attempt_id = m->attempt_id, .ends_ms = w->now_ms + sim_rnd(w, 60)};
        memcpy(h->key, m->key, sizeof h->key);
        h->exit_code = (int)sim_rnd(w, 100) < w->fail_percent;
        h->micros = w->micros_max ? sim_rnd(w, (uint32_t)w->micros_max + 1) : 0;
        w->spent += h->micros;
        if (sim_rnd(w, 2))
                post(w, SIM_STARTED, m->agent, m->attempt_id);
}

static void hub_finished(struct world *w, const struct sim_mail *m)
{
        struct sim_agent *a = &w->agents[m->agent];
        struct sim_held *h = held_find(a, m->attempt_id);
        struct engine_result r = {.attempt_id = m->attempt_id, .sync_fd = -1};
        char usage[64];

        if (!h)
                return;
        r.outcome = h->lost        ? ENGINE_LOST
                    : h->cancelled ? ENGINE_CANCELLED
                    : h->exit_code ? ENGINE_FAILED
                                   : ENGINE_SUCCEEDED;
        r.has_exit_code = !h->lost;
        r.exit_code = h->exit_code;
        r.outputs = "{\"exit_code\":0,\"list\":[1,2,3]}";
        r.finished_us = fake_us(w);
        r.started_us = r.finished_us - 1000;
        if (w->micros_max && !h->lost) {
                snprintf(usage, sizeof usage, "{\"cost_usd\":%lld.%06lld}", (long long)(h->micros / 1000000),
                         (long long)(h->micros % 1000000));
                r.usage = usage;
        }
        engine_on_finished(w->en, a->id, &r, NULL, NULL);
}

static void deliver(struct world *w, const struct sim_mail *m)
{
        struct sim_agent *a = &w->agents[m->agent];
        struct sim_held *h = held_find(a, m->attempt_id);

        switch (m->kind) {
        case SIM_START:
                agent_start(w, m);
                break;
        case SIM_CANCEL:
                if (h && !h->finished) {
                        h->finished = h->cancelled = true;
                        post(w, SIM_FINISHED, m->agent, m->attempt_id);
                }
                break;
        case SIM_ACK:
                if (h)
                        *h = a->held[--a->n_held];
                break;
        case SIM_STARTED:
                engine_on_started(w->en, a->id, m->attempt_id, fake_us(w));
                break;
        case SIM_FINISHED:
                hub_finished(w, m);
                break;
        }
}

static void work(struct world *w, int i)
{
        struct sim_agent *a = &w->agents[i];

        for (int k = 0; k < a->n_held; k++) {
                struct sim_held *h = &a->held[k];

                if (h->finished || h->ends_ms > w->now_ms)
                        continue;
                h->finished = true;
                if (!h->exit_code)
                        truth_of_key(w, h->key)->succeeded = true;
                if (a->connected)
                        post(w, SIM_FINISHED, i, h->attempt_id);
        }
}

void world_step(struct world *w)
{
        w->now_ms += 1 + sim_rnd(w, 5);
        for (int i = 0; i < w->n_agents; i++) {
                if (!w->agents[i].connected && sim_rnd(w, 20) == 0)
                        connect_agent(w, i);
                work(w, i);
        }
        for (int i = 0; i < w->n_mail;) {
                struct sim_mail m = w->mail[i];

                if (m.at_ms > w->now_ms) {
                        i++;
                        continue;
                }
                memmove(&w->mail[i], &w->mail[i + 1], (size_t)(w->n_mail - i - 1) * sizeof m);
                w->n_mail--;
                if (m.epoch == w->epoch[m.agent])
                        deliver(w, &m);
        }
        engine_tick(w->en);
        engine_flush(w->en);
        if (sim_rnd(w, 3)) /* the disk is sometimes slow */
                store_pump(w->store);
}

/* ---- runs ---- */

static void on_durable(void *arg, const struct engine_done *d)
{
        if (d->rc)
                test_fail(__FILE__, __LINE__, "submit: %s", d->err->msg);
        snprintf(arg, 32, "%s", d->run_id);
}

void world_submit(struct world *w, const char *text, char out_run[32])
{
        struct engine_submit s = {
                .def_text = text, .def_len = strlen(text), .kind = "run", .created_by = "sim"};
        struct err e = {0};

        if (workflow_parse(text, s.def_len, &s.workflow, &e))
                test_fail(__FILE__, __LINE__, "workflow: %d:%d: %s", e.line, e.col, e.msg);
        CHECK_INT(workflow_inputs(s.workflow, NULL, false, &s.inputs, &e), 0);
        out_run[0] = 0;
        engine_submit(w->en, &s, on_durable, NULL, out_run);
        engine_flush(w->en);
        store_pump(w->store);
        CHECK(out_run[0]);
}

static int take_state(void *arg, const struct row_run *r)
{
        *(enum run_state *)arg = r->state;
        return 0;
}

enum run_state world_run_state(struct world *w, const char *run)
{
        struct store_reader *rd;
        enum run_state st = RUN_QUEUED;

        CHECK_INT(store_reader_open(w->store, &rd, NULL), 0);
        CHECK_INT(read_run(rd, run, take_state, &st), 0);
        store_reader_close(rd);
        return st;
}

void world_init(struct world *w, uint64_t seed, const char *dir, int n_agents)
{
        memset(w, 0, sizeof *w);
        w->rng = seed * 2862933555777941757u + 3037000493u;
        w->clock = (struct clock){fake_us, fake_ms, w};
        w->dir = dir;
        w->n_agents = n_agents;
        w->truth = map_create();
        w->needs = map_create();
        CHECK(w->truth && w->needs);
        for (int i = 0; i < n_agents; i++) {
                snprintf(w->agents[i].id, sizeof w->agents[i].id, "id-%d", i);
                snprintf(w->agents[i].name, sizeof w->agents[i].name, "agent-%d", i);
                snprintf(w->agents[i].boot, sizeof w->agents[i].boot, "boot-%d", i);
        }
        hub_start(w);
}

void world_fini(struct world *w)
{
        size_t it = 0;
        void *v;

        store_close(w->store);
        engine_free(w->en);
        bus_free(w->bus);
        while (map_next(w->truth, &it, NULL, &v))
                free(v);
        it = 0;
        while (map_next(w->needs, &it, NULL, &v)) {
                for (char **n = v; *n; n++)
                        free(*n);
                free(v);
        }
        map_free(w->truth);
        map_free(w->needs);
}
