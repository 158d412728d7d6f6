/* Random workflows under random faults: every run ends, dependencies hold, and no at-most-once
 * step runs twice without a person saying so. A failing seed is printed; PHOTON_SIM_SEED=N repeats it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "tests/lib/test.h"
#include "tests/sim/world.h"

static const char *const effects[] = {"pure", "idempotent", "at-most-once"};

/* A random DAG: each step needs up to three earlier ones. */
static void random_workflow(struct world *w, struct buf *b, int steps, int retries)
{
        buf_printf(b, "name: sim\nsteps:\n");
        for (int i = 0; i < steps; i++) {
                char id[16];
                char **needs = calloc(4, sizeof *needs);
                int n = 0, k = i ? (int)sim_rnd(w, 4) : 0;

                snprintf(id, sizeof id, "s%d", i);
                buf_printf(b, "  - id: %s\n    run: work\n    effect: %s\n", id, effects[sim_rnd(w, 3)]);
                if (retries)
                        buf_printf(b, "    retry: {limit: %d, backoff: {duration: 10ms}}\n", retries);
                if (sim_rnd(w, 4) == 0)
                        buf_printf(b, "    runs-on: {zone: %s}\n", sim_rnd(w, 2) ? "a" : "b");
                if (sim_rnd(w, 6) == 0)
                        buf_printf(b, "    concurrency: {group: g%u, limit: 2}\n", sim_rnd(w, 2));
                if (k)
                        buf_puts(b, "    needs: [");
                while (k--) {
                        char need[16];
                        bool have = false;

                        snprintf(need, sizeof need, "s%u", sim_rnd(w, (uint32_t)i));
                        for (int j = 0; j < n; j++)
                                have |= !strcmp(needs[j], need);
                        if (have)
                                continue;
                        buf_printf(b, "%s%s", n ? ", " : "", need);
                        needs[n++] = strdup(need);
                }
                if (n)
                        buf_puts(b, "]\n");
                CHECK_INT(map_put(w->needs, id, needs, NULL), 0);
        }
        buf_putc(b, 0);
}

/* It may come after the asker has gone, and be a refusal: somebody got there first. */
static void ignore_answer(void *arg, int rc, const struct err *e)
{
        (void)arg;
        (void)rc;
        (void)e;
}

/* The person who looks at unknown steps: sometimes lets them run again, sometimes knows that they worked. */
struct person {
        struct world *w;
        const char *run;
        int asked;
        char step[64];
};

static int find_unknown(void *arg, const struct row_step *s)
{
        struct person *p = arg;

        if (s->state != STEP_UNKNOWN)
                return 0;
        snprintf(p->step, sizeof p->step, "%s", s->id);
        return 1;
}

static int find_seq(void *arg, const struct row_run *r)
{
        *(int64_t *)arg = r->seq;
        return 0;
}

static void person_decides(struct world *w, const char *run)
{
        struct person p = {.w = w, .run = run};
        struct store_reader *rd;
        int64_t seq = 0;
        struct sim_truth *t;

        CHECK_INT(store_reader_open(w->store, &rd, NULL), 0);
        CHECK_INT(read_run(rd, run, find_seq, &seq), 0);
        (void)read_steps(rd, seq, find_unknown, &p);
        store_reader_close(rd);
        if (!p.step[0])
                return;
        t = world_truth(w, run, p.step);
        t->forgiven = t->runs; /* whatever happened so far is known to a person now */
        if (!t->succeeded && sim_rnd(w, 2)) {
                engine_resolve(w->en, run, &(struct engine_actor){.by = "ann"}, p.step, "retry",
                               ignore_answer, NULL);
        } else {
                t->succeeded = true;
                engine_resolve(w->en, run, &(struct engine_actor){.by = "ann"}, p.step, "succeeded",
                               ignore_answer, NULL);
        }
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
        if (sim_rnd(w, (uint32_t)one_in * 3) == 0)
                world_hub_kill(w);
}

static void one_seed(uint64_t seed, const char *dir)
{
        struct world *w = calloc(1, sizeof *w);
        char sub[512], run[32];
        struct buf b = {0};
        enum run_state st = RUN_QUEUED;
        int turns = 0;

        CHECK(w != NULL);
        snprintf(sub, sizeof sub, "%s/%llu", dir, (unsigned long long)seed);
        char cmd[600];
        snprintf(cmd, sizeof cmd, "mkdir -p %s", sub);
        CHECK_INT(system(cmd), 0);
        world_init(w, seed, sub, 3);
        random_workflow(w, &b, 5 + (int)sim_rnd(w, 40), 0);
        world_submit(w, (char *)b.data, run);
        while (st != RUN_SUCCEEDED) {
                faults(w, turns < 3000 ? 60 : 100000); /* in the end calm comes, and everything must finish */
                world_step(w);
                if (++turns % 16 == 0) {
                        st = world_run_state(w, run);
                        if (st == RUN_FAILED || st == RUN_CANCELLED)
                                test_fail(__FILE__, __LINE__, "seed %llu: the run is %s",
                                          (unsigned long long)seed, run_state_name(st));
                        person_decides(w, run);
                }
                if (turns > 60000)
                        test_fail(__FILE__, __LINE__, "seed %llu: the run does not end (%s)",
                                  (unsigned long long)seed, run_state_name(st));
        }
        fprintf(stderr, "seed %llu: %d turns, %d hub kills, %d agent kills, %d reboots, %d cuts\n",
                (unsigned long long)seed, turns, w->hub_kills, w->agent_kills, w->reboots, w->cuts);
        world_fini(w);
        buf_fini(&b);
        free(w);
}

TEST(sim, random_faults_lose_nothing_and_repeat_nothing)
{
        const char *env = getenv("PHOTON_SIM_SEED"), *many = getenv("PHOTON_SIM_SEEDS");
        int n = many ? atoi(many) : 40;

        if (env) {
                one_seed(strtoull(env, NULL, 10), test_scratch());
                return;
        }
        for (int i = 1; i <= n; i++) {
                fprintf(stderr, "seed %d\n", i);
                one_seed((uint64_t)i, test_scratch());
        }
}
