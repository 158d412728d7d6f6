/* Approvals under random faults: hub, agents and connections dying while people answer, hand on, race each
 * other and say nothing. No answer that was acknowledged is lost, nobody counts twice, each question is asked
 * once and decided once, and what stands behind it never starts before enough people have said yes.
 * PHOTON_SIM_SEED=N repeats a seed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/err.h"
#include "hub/model/approval.h"
#include "tests/lib/test.h"
#include "tests/sim/world.h"

#define GATES   8
#define ANSWERS 4096

static const char *const people[] = {"ann", "bob", "cat", "dan", "eve"};

/* What a person heard back. */
struct given {
        char checkpoint[40], by[8];
        bool approve, acked;
};

struct stage {
        struct world *w;
        char run[32];
        int quorum[GATES];
        struct given given[ANSWERS];
        int n_given, acked, decided, expired, delegated;
};

static struct stage *now; /* answers may come when their question is gone */

static void on_answer(void *arg, int rc, const struct err *e)
{
        (void)e;
        if (rc == 0)
                now->given[(intptr_t)arg].acked = true;
        now->acked += rc == 0;
}

static void on_delegated(void *arg, int rc, const struct err *e)
{
        (void)arg, (void)e;
        now->delegated += rc == 0;
}

/* work -> question -> work, side by side. */
static void workflow(struct stage *s, struct buf *b)
{
        static const char *const thens[] = {"deny", "fail", "skip", "escalate"};

        buf_puts(b, "name: sim\nsteps:\n");
        for (int i = 0; i < GATES; i++) {
                s->quorum[i] = 1 + (int)sim_rnd(s->w, 3);
                buf_printf(b, "  - {id: w%d, run: work, effect: pure}\n", i);
                buf_printf(
                        b,
                        "  - id: a%d\n    needs: w%d\n    continue-on-error: %s\n    approval:\n      "
                        "question: Go "
                        "%d?\n      users: [ann, bob, cat, dan]\n      quorum: %d\n      timeout: %us\n      "
                        "then: %s\n      escalate: {after: 1s, users: [eve]}\n",
                        i, i, sim_rnd(s->w, 2) ? "true" : "false", i, s->quorum[i], 2 + sim_rnd(s->w, 5),
                        thens[sim_rnd(s->w, 4)]);
                buf_printf(b,
                           "  - {id: d%d, needs: a%d, run: work, effect: pure, if: \"${{ "
                           "steps.a%d.outputs.decision == 'approved' }}\"}\n",
                           i, i, i);
        }
        buf_putc(b, 0);
}

/* ---- what is on disk ---- */

static const char *text_of(const cJSON *o, const char *key)
{
        const char *s = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, key));

        return s ? s : "";
}

static void check_acked(const struct stage *s, const struct row_checkpoint *r,
                        const struct approval_record *rec)
{
        const cJSON *it;

        for (int i = 0; i < s->n_given; i++) {
                const struct given *g = &s->given[i];
                int found = 0;

                if (!g->acked || strcmp(g->checkpoint, r->id) != 0)
                        continue;
                cJSON_ArrayForEach(it, rec->answers) found +=
                        !strcmp(text_of(it, "by"), g->by) &&
                        !strcmp(text_of(it, "decision"), g->approve ? "approved" : "rejected");
                if (found != 1)
                        test_fail(__FILE__, __LINE__, "the answer of %s to %s stands there %d times: %s",
                                  g->by, r->step_id, found, r->record);
        }
        /* Nobody counts twice, whether or not they heard back. */
        cJSON_ArrayForEach(it, rec->answers)
        {
                int same = 0;

                for (const cJSON *o = rec->answers->child; o; o = o->next)
                        same += !strcmp(text_of(o, "by"), text_of(it, "by"));
                CHECK_INT(same, 1);
        }
}

static int rows_of[GATES];

static int on_row(void *arg, const struct row_checkpoint *r)
{
        struct stage *s = arg;
        int i = r->step_id[1] - '0', yes, no;
        struct approval_record rec;
        struct err e = {0};

        rows_of[i]++;
        CHECK_INT(approval_record_read(r->record, &rec, &e), 0);
        check_acked(s, r, &rec);
        approval_count(&rec, &yes, &no);
        CHECK(r->live == (r->state == CHECKPOINT_OPEN));
        CHECK(r->state != CHECKPOINT_OPEN || (yes < s->quorum[i] && no == 0));
        CHECK(r->state != CHECKPOINT_APPROVED || (yes == s->quorum[i] && no == 0));
        CHECK(r->state != CHECKPOINT_REJECTED || no == 1);
        CHECK(r->state != CHECKPOINT_EXPIRED || yes < s->quorum[i]);
        if (r->state != CHECKPOINT_APPROVED) {
                char step[8];

                snprintf(step, sizeof step, "d%d", i);
                if (world_truth(s->w, s->run, step)->runs)
                        test_fail(__FILE__, __LINE__, "%s started and %s is %s", step, r->step_id,
                                  checkpoint_state_name(r->state));
        }
        approval_record_fini(&rec);
        return 0;
}

static void look(struct stage *s)
{
        struct checkpoint_filter f = {.state = -1};
        struct store_reader *rd;

        memset(rows_of, 0, sizeof rows_of);
        CHECK_INT(store_reader_open(s->w->store, &rd, NULL), 0);
        CHECK_INT(read_checkpoints(rd, &f, on_row, s), 0);
        store_reader_close(rd);
        for (int i = 0; i < GATES; i++)
                CHECK(rows_of[i] <= 1);
}

/* ---- people ---- */

struct open_one {
        int skip;
        char id[40], sha256[65];
};

static int on_open(void *arg, const struct row_checkpoint *r)
{
        struct open_one *o = arg;

        snprintf(o->id, sizeof o->id, "%s", r->id);
        snprintf(o->sha256, sizeof o->sha256, "%s", r->sha256);
        return o->skip-- == 0;
}

static void somebody_answers(struct stage *s)
{
        struct checkpoint_filter f = {.state = CHECKPOINT_OPEN};
        struct open_one o = {.skip = (int)sim_rnd(s->w, GATES)};
        struct given *g = &s->given[s->n_given];
        const char *by = people[sim_rnd(s->w, 5)];
        struct store_reader *rd;

        CHECK_INT(store_reader_open(s->w->store, &rd, NULL), 0);
        (void)read_checkpoints(rd, &f, on_open, &o);
        store_reader_close(rd);
        if (!o.id[0] || s->n_given == ANSWERS)
                return;
        if (sim_rnd(s->w, 8) == 0) {
                struct engine_delegation d = {.checkpoint_id = o.id,
                                              .from = by,
                                              .from_role = "technical-operator",
                                              .to = people[4]};

                engine_delegate(s->w->en, &d, on_delegated, NULL);
                return;
        }
        snprintf(g->checkpoint, sizeof g->checkpoint, "%s", o.id);
        snprintf(g->by, sizeof g->by, "%s", by);
        g->approve = sim_rnd(s->w, 12) != 0;
        struct engine_decision d = {.checkpoint_id = g->checkpoint,
                                    .answer = {.by = g->by,
                                               .role = "technical-operator",
                                               .approve = g->approve,
                                               .sha256 = o.sha256}};

        engine_decide(s->w->en, &d, on_answer, (void *)(intptr_t)s->n_given++);
        if (sim_rnd(s->w, 6) == 0)
                world_hub_kill(s->w); /* in the middle of it */
}

static void faults(struct world *w)
{
        int a = (int)sim_rnd(w, (uint32_t)w->n_agents);

        if (sim_rnd(w, 80) == 0)
                world_cut(w, a);
        if (sim_rnd(w, 160) == 0)
                world_agent_kill(w, a);
        if (sim_rnd(w, 120) == 0)
                world_hub_kill(w);
}

static void one_seed(uint64_t seed, const char *dir)
{
        struct stage *s = calloc(1, sizeof *s);
        struct world *w = calloc(1, sizeof *w);
        enum run_state st = RUN_QUEUED;
        char sub[512], cmd[600];
        struct buf b = {0};
        int turns = 0;

        CHECK(s != NULL && w != NULL);
        s->w = w;
        now = s;
        snprintf(sub, sizeof sub, "%s/%llu", dir, (unsigned long long)seed);
        snprintf(cmd, sizeof cmd, "mkdir -p %s", sub);
        CHECK_INT(system(cmd), 0);
        world_init(w, seed, sub, 2);
        workflow(s, &b);
        world_submit(w, (char *)b.data, s->run);
        while (!run_state_final(st)) {
                if (turns < 2000)
                        faults(w);
                world_step(w);
                if (sim_rnd(w, 10) == 0)
                        somebody_answers(s);
                if (++turns % 32 == 0) {
                        look(s);
                        st = world_run_state(w, s->run);
                }
                if (turns > 60000)
                        test_fail(__FILE__, __LINE__, "seed %llu: the run does not end (%s)",
                                  (unsigned long long)seed, run_state_name(st));
        }
        look(s);
        for (int i = 0; i < GATES; i++)
                CHECK_INT(rows_of[i], 1);
        fprintf(stderr, "seed %llu: %d turns, %d hub kills, %d answers, %d taken, %d handed on, the run %s\n",
                (unsigned long long)seed, turns, w->hub_kills, s->n_given, s->acked, s->delegated,
                run_state_name(st));
        world_fini(w);
        buf_fini(&b);
        free(w);
        free(s);
}

TEST(sim_approval, answers_are_kept_and_nothing_starts_without_them)
{
        const char *env = getenv("PHOTON_SIM_SEED"), *many = getenv("PHOTON_SIM_SEEDS");
        int n = many ? atoi(many) : 10;

        if (env) {
                one_seed(strtoull(env, NULL, 10), test_scratch());
                return;
        }
        for (int i = 1; i <= n; i++)
                one_seed((uint64_t)i, test_scratch());
}
