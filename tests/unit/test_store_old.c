/* Databases of earlier versions: what was in them is still there, and means the same. */
#include <sqlite3.h>
#include <stdio.h>

#include "hub/store/store_impl.h"
#include "tests/unit/store_world.h"

static int old_run(void *arg, const struct row_run *r)
{
        (void)arg;
        CHECK_STR(r->project, "default");
        CHECK_STR(r->outputs, "{}");
        return 5;
}

static int old_token(void *arg, const struct row_api_token *t)
{
        (void)arg;
        CHECK_STR(t->project, "*");
        CHECK(!t->user_id && !t->scopes && !t->kind);
        return 6;
}

static int old_checkpoint(void *arg, const struct row_checkpoint *c)
{
        (void)arg;
        CHECK_STR(c->project, "default");
        return 7;
}

/* A database of before there were projects: its runs are in the one that is always there, its tokens good for
 * all. */
TEST(store_old, what_was_there_before_projects_stays_as_it_was)
{
        struct world w = {.dir = test_scratch()};
        char path[600];
        sqlite3 *h;

        snprintf(path, sizeof path, "%s/hub.db", w.dir);
        CHECK_INT(sqlite3_open(path, &h), SQLITE_OK);
        for (int i = 0; i < 4; i++)
                CHECK_INT(sqlite3_exec(h, store_migrations[i], NULL, NULL, NULL), SQLITE_OK);
        CHECK_INT(
                sqlite3_exec(h,
                             "DROP TABLE audit_unchained;"
                             "PRAGMA application_id=1346916180; PRAGMA user_version=4;"
                             "INSERT INTO runs(seq,id,state,kind,workflow,n_steps,created_us,inputs,outputs)"
                             " VALUES(1,'r1',3,'run','w',1,5,'{}','{}');"
                             "INSERT INTO api_tokens(id,sha256,name,role,created_us) "
                             "VALUES('t','ab','admin','admin',1);"
                             "INSERT INTO checkpoints(seq,id,state,run_seq,run_id) VALUES(1,'c1',0,1,'r1')",
                             NULL, NULL, NULL),
                SQLITE_OK);
        sqlite3_close(h);
        world_open(&w, false);
        CHECK_INT(read_run(w.reader, "r1", old_run, NULL), 5);
        CHECK_INT(read_api_tokens(w.reader, old_token, NULL), 6);
        CHECK_INT(read_checkpoint(w.reader, "c1", old_checkpoint, NULL), 7);
        CHECK_INT(read_runs(w.reader, &(struct run_filter){.projects = "[\"default\"]"}, old_run, NULL), 5);
        CHECK_INT(read_runs(w.reader, &(struct run_filter){.projects = "[\"web\"]"}, old_run, NULL), 0);
        world_close(&w);
}
