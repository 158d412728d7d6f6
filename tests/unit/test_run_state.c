/* The move tables of runs and steps, cell by cell: a change of a table must be
 * made here too, on purpose. */
#include "common/err.h"
#include "hub/model/run.h"
#include "tests/lib/test.h"

/* Row: from, column: to, in the order of the enum; 'x' allowed. */
static const char *const run_moves[RUN_STATE_COUNT] = {
        /*              q r w s f c */
        [RUN_QUEUED] = ".x..xx",    [RUN_RUNNING] = "..xxxx", [RUN_WAITING] = ".x.xxx",
        [RUN_SUCCEEDED] = "......", [RUN_FAILED] = "......",  [RUN_CANCELLED] = "......",
};

static const char *const step_moves[STEP_STATE_COUNT] = {
        /*                blocked ready waiting dispatched running succeeded failed skipped cancelled unknown
         */
        [STEP_BLOCKED] = ".xx.x.xxx.",    [STEP_READY] = "..xx..x.x.",   [STEP_WAITING] = ".x...xxxx.",
        [STEP_DISPATCHED] = ".xx.xxx.xx", [STEP_RUNNING] = ".xx..xx.xx", [STEP_SUCCEEDED] = "..........",
        [STEP_FAILED] = "..........",     [STEP_SKIPPED] = "..........", [STEP_CANCELLED] = "..........",
        [STEP_UNKNOWN] = ".x..xxx.x.",
};

TEST(run_state, run_table_cell_by_cell)
{
        for (unsigned from = 0; from < RUN_STATE_COUNT; from++) {
                for (unsigned to = 0; to < RUN_STATE_COUNT; to++) {
                        enum run_state s = (enum run_state)from;
                        bool allowed = run_moves[from][to] == 'x';
                        int rc = run_state_move(&s, (enum run_state)to);

                        if (rc != (allowed ? 0 : -E_STATE) || s != (allowed ? to : from))
                                test_fail(__FILE__, __LINE__, "run %s -> %s: rc %d",
                                          run_state_name((enum run_state)from),
                                          run_state_name((enum run_state)to), rc);
                }
        }
}

TEST(run_state, step_table_cell_by_cell)
{
        for (unsigned from = 0; from < STEP_STATE_COUNT; from++) {
                for (unsigned to = 0; to < STEP_STATE_COUNT; to++) {
                        enum step_state s = (enum step_state)from;
                        bool allowed = step_moves[from][to] == 'x';
                        int rc = step_state_move(&s, (enum step_state)to);

                        if (rc != (allowed ? 0 : -E_STATE) || s != (allowed ? to : from))
                                test_fail(__FILE__, __LINE__, "step %s -> %s: rc %d",
                                          step_state_name((enum step_state)from),
                                          step_state_name((enum step_state)to), rc);
                }
        }
}

TEST(run_state, final_states)
{
        for (unsigned i = 0; i < RUN_STATE_COUNT; i++)
                CHECK_INT(run_state_final((enum run_state)i), i >= RUN_SUCCEEDED);
        for (unsigned i = 0; i < STEP_STATE_COUNT; i++)
                CHECK_INT(step_state_final((enum step_state)i), i >= STEP_SUCCEEDED && i <= STEP_CANCELLED);
        CHECK(!step_state_final(STEP_UNKNOWN));
        CHECK(!run_state_final((enum run_state)99));
        CHECK(!step_state_final((enum step_state)99));
}

TEST(run_state, every_state_can_be_left_or_is_final_and_can_be_reached)
{
        for (unsigned to = 1; to < STEP_STATE_COUNT; to++) {
                bool reached = false;

                for (unsigned from = 0; from < STEP_STATE_COUNT; from++)
                        reached = reached || step_moves[from][to] == 'x';
                CHECK(reached);
        }
}

TEST(run_state, names_round_trip_and_strangers_are_refused)
{
        enum run_state r;
        enum step_state s;

        for (unsigned i = 0; i < RUN_STATE_COUNT; i++) {
                CHECK_INT(run_state_parse(run_state_name((enum run_state)i), &r), 0);
                CHECK_INT(r, i);
        }
        for (unsigned i = 0; i < STEP_STATE_COUNT; i++) {
                CHECK_INT(step_state_parse(step_state_name((enum step_state)i), &s), 0);
                CHECK_INT(s, i);
        }
        CHECK_INT(run_state_parse("blocked", &r), -E_INVAL);
        CHECK_INT(run_state_parse("", &r), -E_INVAL);
        CHECK_INT(run_state_parse(NULL, &r), -E_INVAL);
        CHECK_INT(step_state_parse("Ready", &s), -E_INVAL);
        CHECK_INT(step_state_parse(NULL, &s), -E_INVAL);
        CHECK_STR(run_state_name((enum run_state)77), "invalid");
        CHECK_STR(step_state_name((enum step_state)77), "invalid");
        r = (enum run_state)77;
        CHECK_INT(run_state_move(&r, RUN_RUNNING), -E_STATE);
        s = STEP_READY;
        CHECK_INT(step_state_move(&s, (enum step_state)77), -E_STATE);
}

/* The database keeps these numbers: they are never renumbered, only added to. */
TEST(run_state, numbers_are_the_ones_on_disk)
{
        CHECK_INT(RUN_QUEUED, 0);
        CHECK_INT(RUN_WAITING, 2);
        CHECK_INT(RUN_SUCCEEDED, 3);
        CHECK_INT(RUN_CANCELLED, 5);
        CHECK_INT(STEP_BLOCKED, 0);
        CHECK_INT(STEP_READY, 1);
        CHECK_INT(STEP_WAITING, 2);
        CHECK_INT(STEP_DISPATCHED, 3);
        CHECK_INT(STEP_RUNNING, 4);
        CHECK_INT(STEP_SUCCEEDED, 5);
        CHECK_INT(STEP_FAILED, 6);
        CHECK_INT(STEP_SKIPPED, 7);
        CHECK_INT(STEP_CANCELLED, 8);
        CHECK_INT(STEP_UNKNOWN, 9);
}
