/* The race for a budget under random faults: two hundred steps at once, hub, agents and connections dying.
 * What is reserved and spent never passes the cap, at any commit; and what calls really took, which no code
 * under test can see, is never more than the ledger says. PHOTON_SIM_SEED=N repeats a seed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/err.h"
#include "tests/lib/test.h"
#include "tests/sim/world.h"

#define STEPS    200
#define ESTIMATE 100000
#define CAP      3000000

static void ignore_answer(void *arg, int rc, const struct err *e)
{
        (void)arg, (void)rc, (void)e;
}

static void set_done(void *arg, int rc, const struct err *e)
{
        (void)e;
        *(int *)arg = rc;
}

struct sums {
        int64_t held, spent;
        int live, lost;
};

static int on_entry(void *arg, const struct row_ledger *r)
{
        struct sums *s = arg;

        s->live += r->state == LEDGER_RESERVED;
        s->lost += r->state == LEDGER_LOST;
        s->held += r->state == LEDGER_RESERVED ? r->reserved_micros : 0;
        s->spent += r->state == LEDGER_RESERVED ? 0 : r->spent_micros;
        return 0;
}

static struct sums ledger(struct world *w)
{
        struct ledger_filter f = {.state = -1, .day = -1};
        struct store_reader *rd;
        struct sums s = {0};

        CHECK_INT(store_reader_open(w->store, &rd, NULL), 0);
        CHECK_INT(read_ledger(rd, &f, on_entry, &s), 0);
        store_reader_close(rd);
        return s;
}

static int find_unknown(void *arg, const struct row_step *s)
{
        if (s->state != STEP_UNKNOWN)
                return 0;
        snprintf(arg, 64, "%s", s->id);
        return 1;
}

static int find_seq(void *arg, const struct row_run *r)
{
        *(int64_t *)arg = r->seq;
        return 0;
}

static void person_decides(struct world *w, const char *run)
{
        struct store_reader *rd;
        int64_t seq = 0;
        char step[64] = "";
        struct sim_truth *t;

        CHECK_INT(store_reader_open(w->store, &rd, NULL), 0);
        CHECK_INT(read_run(rd, run, find_seq, &seq), 0);
        (void)read_steps(rd, seq, find_unknown, step);
        store_reader_close(rd);
        if (!step[0])
                return;
        t = world_truth(w, run, step);
        t->forgiven = t->runs;
        engine_resolve(w->en, run, &(struct engine_actor){.by = "ann"}, step,
                       sim_rnd(w, 2) ? "retry" : "failed", ignore_answer, NULL);
}

static void faults(struct world *w, int one_in)
{
        int a = (int)sim_rnd(w, (uint32_t)w->n_agents);

        if (sim_rnd(w, (uint32_t)one_in) == 0)
                world_cut(w, a);
        if (sim_rnd(w, (uint32_t)one_in * 2) == 0)
                world_agent_kill(w, a);
        if (sim_rnd(w, (uint32_t)one_in * 6) == 0)
                world_agent_reboot(w, a);
        if (sim_rnd(w, (uint32_t)one_in * 2) == 0)
                world_hub_kill(w);
}

static void submit(struct world *w, char run[32])
{
        struct engine_budget_set set = {
                .id = "project:default", .cap = {.max = {{CAP, BUDGET_NONE}}}, .by = "eve"};
        struct buf b = {0};
        int rc = 1;

        engine_budget_set(w->en, &set, set_done, &rc);
        engine_flush(w->en);
        store_pump(w->store);
        CHECK_INT(rc, 0);
        buf_puts(&b, "name: race\nsteps:\n");
        for (int i = 0; i < STEPS; i++)
                buf_printf(&b, "  - {id: s%d, run: work, effect: %s, estimate: {usd: \"0.1\"}}\n", i,
                           sim_rnd(w, 3) ? "idempotent" : "at-most-once");
        buf_putc(&b, 0);
        world_submit(w, (char *)b.data, run);
        buf_fini(&b);
}

static void one_seed(uint64_t seed, const char *dir)
{
        struct world *w = calloc(1, sizeof *w);
        char sub[512], run[32], cmd[600];
        enum run_state st = RUN_QUEUED;
        int turns = 0;
        int64_t most = 0;
        struct sums s;

        CHECK(w != NULL);
        snprintf(sub, sizeof sub, "%s/%llu", dir, (unsigned long long)seed);
        snprintf(cmd, sizeof cmd, "mkdir -p %s", sub);
        CHECK_INT(system(cmd), 0);
        world_init(w, seed, sub, 3);
        w->places = 60;
        w->micros_max = ESTIMATE;
        submit(w, run);
        while (st != RUN_SUCCEEDED && st != RUN_FAILED) {
                faults(w, turns < 400 ? 40 : 100000);
                world_step(w);
                s = ledger(w);
                most = s.spent + s.held > most ? s.spent + s.held : most;
                if (s.spent + s.held > CAP)
                        test_fail(__FILE__, __LINE__, "seed %llu: %lld spent and %lld reserved of %d",
                                  (unsigned long long)seed, (long long)s.spent, (long long)s.held, CAP);
                if (++turns % 8 == 0) {
                        st = world_run_state(w, run);
                        person_decides(w, run);
                }
                if (turns > 20000)
                        test_fail(__FILE__, __LINE__, "seed %llu: the run does not end (%s)",
                                  (unsigned long long)seed, run_state_name(st));
        }
        engine_flush(w->en);
        store_pump(w->store);
        s = ledger(w);
        fprintf(stderr, "seed %llu: %d turns, %d hub kills, %d lost, really %lld, ledger %lld, most %lld\n",
                (unsigned long long)seed, turns, w->hub_kills, s.lost, (long long)w->spent,
                (long long)s.spent, (long long)most);
        CHECK_INT(s.live, 0);
        CHECK(w->spent <= s.spent);
        CHECK(most > CAP - ESTIMATE); /* it was a race */
        world_fini(w);
        free(w);
}

TEST(sim_budget, no_fault_makes_two_hundred_steps_pass_the_cap)
{
        const char *env = getenv("PHOTON_SIM_SEED"), *many = getenv("PHOTON_SIM_SEEDS");
        int n = many ? atoi(many) : 8;

        if (env) {
                one_seed(strtoull(env, NULL, 10), test_scratch());
                return;
        }
        for (int i = 1; i <= n; i++)
                one_seed((uint64_t)i, test_scratch());
}
