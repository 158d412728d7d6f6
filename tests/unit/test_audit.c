/* The audit proves itself: what is changed behind its back is found, and the record that was touched is
 * named. */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "common/auditchain.h"
#include "common/buf.h"
#include "common/clock.h"
#include "common/str.h"
#include "hub/store/store_impl.h"
#include "tests/unit/store_world.h"

static void put(struct world *w, int64_t at_us, const char *actor, const char *action, const char *object,
                const char *detail)
{
        struct store_tx *tx = store_begin(w->store);

        store_put_audit(tx, at_us, actor, action, object, detail);
        commit(w, tx);
}

static void three(struct world *w)
{
        world_open(w, false);
        put(w, 1000, "ada", "run.cancel", "r1", "{\"reason\":\"why not\"}");
        put(w, 2000, "bob", "api_token.create", "t1", NULL);
        put(w, 3000, "ada", "step.resolve", NULL, "{}");
}

/* As an attacker would who can write the file. */
static void sql(const struct world *w, const char *text)
{
        char path[600];
        sqlite3 *h;

        snprintf(path, sizeof path, "%s/hub.db", w->dir);
        CHECK_INT(sqlite3_open(path, &h), SQLITE_OK);
        CHECK_INT(sqlite3_exec(h, text, NULL, NULL, NULL), SQLITE_OK);
        sqlite3_close(h);
}

static int verify(struct world *w, int64_t *records, uint8_t head[32], struct err *e)
{
        int64_t last;

        return audit_verify(w->reader, 0, records, &last, head, e);
}

static void check_good(struct world *w, int64_t want)
{
        uint8_t head[32];
        int64_t n = 0;
        struct err e = {0};

        if (verify(w, &n, head, &e))
                test_fail(__FILE__, __LINE__, "%s", e.msg);
        CHECK_INT(n, want);
}

/* After the change, the record that is named is `named`. */
static void check_found(const char *change, int named)
{
        static char dir[600];
        static int serial;
        struct world w = {.dir = dir};
        struct err e = {0};
        char want[64];
        uint8_t head[32];
        int64_t n;

        snprintf(dir, sizeof dir, "%s/%d", test_scratch(), serial++);
        CHECK_INT(mkdir(dir, 0700), 0);
        three(&w);
        sql(&w, change);
        CHECK_INT(verify(&w, &n, head, &e), -E_CORRUPT);
        snprintf(want, sizeof want, "audit record %d ", named);
        if (!strstr(e.msg, want))
                test_fail(__FILE__, __LINE__, "%s: %s", change, e.msg);
        world_close(&w);
}

TEST(audit, records_chain_over_commits_and_restarts)
{
        struct world w = {0};
        uint8_t before[32], after[32];
        int64_t n;

        three(&w);
        check_good(&w, 3);
        CHECK_INT(verify(&w, &n, before, &w.err), 0);
        reopen(&w);
        check_good(&w, 3);
        put(&w, 4000, NULL, "hub.start", NULL, NULL);
        check_good(&w, 4);
        CHECK_INT(verify(&w, &n, after, &w.err), 0);
        CHECK(memcmp(before, after, 32) != 0);
        world_close(&w);
}

TEST(audit, every_changed_column_is_found)
{
        check_found("UPDATE audit SET at_us=2001 WHERE seq=2", 2);
        check_found("UPDATE audit SET actor='eve' WHERE seq=2", 2);
        check_found("UPDATE audit SET actor=NULL WHERE seq=2", 2);
        check_found("UPDATE audit SET action='run.retry' WHERE seq=1", 1);
        check_found("UPDATE audit SET object='t2' WHERE seq=2", 2);
        check_found("UPDATE audit SET object='' WHERE seq=3", 3);
        check_found("UPDATE audit SET detail='{\"reason\":\"good\"}' WHERE seq=1", 1);
        check_found("UPDATE audit SET salts=zeroblob(48) WHERE seq=3", 3);
        check_found("UPDATE audit SET salts=x'00' WHERE seq=3", 3);
        check_found("UPDATE audit SET hash=zeroblob(32) WHERE seq=2", 2);
        check_found("UPDATE audit SET erased=zeroblob(99) || x'01' WHERE seq=2", 2);
        check_found("UPDATE audit SET erased=x'01' || zeroblob(98), actor=NULL WHERE seq=2", 2);
}

TEST(audit, removed_moved_and_invented_records_are_found)
{
        check_found("DELETE FROM audit WHERE seq=1", 2);
        check_found("DELETE FROM audit WHERE seq=2", 3);
        check_found("DELETE FROM audit WHERE seq=2; UPDATE audit SET seq=2 WHERE seq=3", 2);
        check_found("UPDATE audit SET seq=9 WHERE seq=2; UPDATE audit SET seq=2 WHERE seq=3;"
                    "UPDATE audit SET seq=3 WHERE seq=9",
                    2);
        check_found(
                "INSERT INTO audit SELECT 4,at_us,hash,salts,erased,action,actor,object,detail FROM audit "
                "WHERE seq=3",
                4);
        check_found("INSERT INTO audit_start VALUES(1,1,(SELECT hash FROM audit WHERE seq=1))", 1);
        check_found("INSERT INTO audit_start VALUES(1,1,(SELECT hash FROM audit WHERE seq=1));"
                    "DELETE FROM audit WHERE seq=1",
                    1);
}

TEST(audit, a_transaction_that_had_to_be_tried_again_leaves_no_gap)
{
        struct world w = {0};
        struct store_tx *tx;

        three(&w);
        sql(&w, "CREATE TRIGGER no BEFORE INSERT ON meta BEGIN SELECT RAISE(FAIL, 'not yet'); END");
        tx = store_begin(w.store);
        store_put_audit(tx, 4000, "ada", "run.retry", "r1", NULL);
        store_put_meta(tx, "k", "v");
        store_commit(tx, count_done, &w);
        store_pump(w.store);
        check_good(&w, 3);
        sql(&w, "DROP TRIGGER no");
        wait_done(&w, 4);
        check_good(&w, 4);
        world_close(&w);
}

static int count_text(void *arg, const struct audit_record *r)
{
        int *n = arg;

        for (int f = 0; f < AUDIT_FIELDS; f++)
                *n += r->field[f] && strstr(r->field[f], "ada") != NULL;
        return 0;
}

TEST(audit, a_person_can_be_erased_and_the_rest_stays_proved)
{
        struct world w = {0};
        struct store_tx *tx;
        struct err e = {0};
        uint8_t head[32];
        int64_t records;
        int n = 0;

        three(&w);
        put(&w, 4000, "bob", "user.disable", "ada", NULL);
        tx = store_begin(w.store);
        store_erase_audit(tx, 5000, "bob", "ada", "ada");
        commit(&w, tx);
        CHECK_INT(read_audit(w.reader, &(struct audit_filter){0}, count_text, &n), 0);
        CHECK_INT(n, 0);
        check_good(&w, 5);
        reopen(&w);
        check_good(&w, 5);
        sql(&w, "UPDATE audit SET action='run.retry' WHERE seq=1"); /* one that was erased from */
        CHECK_INT(verify(&w, &records, head, &e), -E_CORRUPT);
        world_close(&w);
}

TEST(audit, old_records_go_and_the_chain_goes_on_where_it_says)
{
        struct world w = {0};
        struct store_tx *tx;
        struct err e = {0};
        uint8_t head[32];
        int64_t n;

        three(&w);
        tx = store_begin(w.store);
        store_trim_audit(tx, 5000, "cron", 2500);
        commit(&w, tx);
        check_good(&w, 2); /* the third, and the one about this */
        reopen(&w);
        put(&w, 6000, "ada", "run.cancel", "r2", NULL);
        check_good(&w, 3);
        tx = store_begin(w.store);
        store_trim_audit(tx, 7000, "cron", 1);
        commit(&w, tx);
        check_good(&w, 3); /* nothing was old: nothing happened */
        sql(&w, "UPDATE audit_start SET after_seq=1");
        CHECK_INT(verify(&w, &n, head, &e), -E_CORRUPT);
        world_close(&w);
}

TEST(audit, the_newest_record_is_never_removed)
{
        struct world w = {0};
        struct store_tx *tx;

        three(&w);
        tx = store_begin(w.store);
        store_trim_audit(tx, 9000, "cron", INT64_MAX);
        commit(&w, tx);
        check_good(&w, 2);
        world_close(&w);
}

TEST(audit, records_of_before_the_chain_are_adopted)
{
        struct world w = {0};
        char path[600];
        sqlite3 *h;

        w.dir = test_scratch();
        snprintf(path, sizeof path, "%s/hub.db", w.dir);
        CHECK_INT(sqlite3_open(path, &h), SQLITE_OK);
        CHECK_INT(sqlite3_exec(h, store_migrations[0], NULL, NULL, NULL), SQLITE_OK);
        CHECK_INT(sqlite3_exec(h,
                               "PRAGMA application_id=1346916180; PRAGMA user_version=1;"
                               "INSERT INTO audit(at_us,actor,action) VALUES(1,'ada','x'),(2,NULL,'y')",
                               NULL, NULL, NULL),
                  SQLITE_OK);
        sqlite3_close(h);
        world_open(&w, false);
        check_good(&w, 2);
        reopen(&w);
        check_good(&w, 2);
        world_close(&w);
}

/* ---- exports ---- */

struct lines {
        char text[8][1200];
        int n;
};

static int keep_line(void *arg, const struct audit_record *r)
{
        struct lines *l = arg;
        struct buf b;

        buf_init(&b, 0);
        CHECK_INT(auditchain_line(r, &b), 0);
        snprintf(l->text[l->n++], sizeof l->text[0], "%.*s", (int)b.len, (const char *)b.data);
        buf_fini(&b);
        return 0;
}

static int walk(const struct lines *l, int skip, struct auditchain_walk *w, struct err *e)
{
        memset(w, 0, sizeof *w);
        for (int i = 0; i < l->n; i++) {
                int rc = i == skip ? 0 : auditchain_step(w, l->text[i], strlen(l->text[i]), e);

                if (rc)
                        return rc;
        }
        return 0;
}

static void swap_text(char *line, const char *from, const char *to)
{
        char *at = strstr(line, from);

        CHECK(at && strlen(from) == strlen(to));
        memcpy(at, to, strlen(to));
}

TEST(audit, an_export_verifies_without_the_hub)
{
        struct world w = {0};
        struct auditchain_walk k;
        struct store_tx *tx;
        struct lines l = {0};
        struct err e = {0};
        uint8_t head[32];
        int64_t n;

        three(&w);
        tx = store_begin(w.store);
        store_erase_audit(tx, 5000, "root", "bob", NULL);
        commit(&w, tx);
        CHECK_INT(read_audit(w.reader, &(struct audit_filter){0}, keep_line, &l), 0);
        CHECK_INT(l.n, 4);
        CHECK(!strstr(l.text[1], "bob"));
        CHECK_INT(walk(&l, -1, &k, &e), 0);
        CHECK_INT(k.records, 4);
        CHECK_INT(verify(&w, &n, head, &e), 0);
        CHECK(memcmp(k.head, head, 32) == 0);
        for (int i = 0; i < 3; i++) {
                CHECK_INT(walk(&l, i, &k, &e), -E_CORRUPT);
                CHECK(strstr(e.msg, "was expected"));
        }
        swap_text(l.text[2], "\"ada\"", "\"eve\"");
        CHECK_INT(walk(&l, -1, &k, &e), -E_CORRUPT);
        CHECK(strstr(e.msg, "audit record 3 (step.resolve)"));
        world_close(&w);
}

TEST(audit, an_export_that_begins_later_says_after_what)
{
        struct world w = {0};
        struct auditchain_walk k = {0};
        struct lines l = {0};
        struct err e = {0};
        char first[200], hex[65];

        three(&w);
        CHECK_INT(read_audit(w.reader, &(struct audit_filter){0}, keep_line, &l), 0);
        CHECK_INT(auditchain_step(&k, l.text[0], strlen(l.text[0]), &e), 0);
        str_hex(k.head, 32, hex);
        snprintf(first, sizeof first, "{\"after_seq\":1,\"after_hash\":\"%s\"}", hex);
        memset(&k, 0, sizeof k);
        CHECK_INT(auditchain_step(&k, first, strlen(first), &e), 0);
        CHECK_INT(auditchain_step(&k, l.text[1], strlen(l.text[1]), &e), 0);
        /* Only at the beginning. */
        CHECK_INT(auditchain_step(&k, first, strlen(first), &e), -E_INVAL);
        world_close(&w);
}

TEST(audit, what_is_no_record_is_refused)
{
        static const char *const bad[] = {
                "",
                "{",
                "[]",
                "{}",
                "{\"seq\":0}",
                "{\"seq\":1,\"at_us\":1,\"action\":\"a\",\"salts\":\"zz\",\"hash\":\"\"}",
                "{\"after_seq\":-1,\"after_hash\":\"00\"}"};

        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
                struct auditchain_walk k = {0};
                struct err e = {0};

                CHECK_INT(auditchain_step(&k, bad[i], strlen(bad[i]), &e), -E_INVAL);
                CHECK(e.msg[0]);
        }
}
