/* Rows that grant something are refused when somebody else has written them: every column of every sealed
 * table, so that one that is added later is covered or the test says so. */
#include <sqlite3.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/mac.h"
#include "common/str.h"
#include "hub/store/store_impl.h"
#include "tests/unit/store_world.h"

static const uint8_t key_1[32] = "a key that is not in the databas";
static const uint8_t key_2[32] = "another key, of another hub.....";

static void put_kind(struct store_tx *tx, enum row_kind kind, const void *row)
{
        switch (kind) {
        case ROW_AGENT:
                store_put_agent(tx, row);
                break;
        case ROW_JOIN_TOKEN:
                store_put_join_token(tx, row);
                break;
        case ROW_REDEMPTION:
                store_put_redemption(tx, row);
                break;
        case ROW_API_TOKEN:
                store_put_api_token(tx, row);
                break;
        case ROW_PROJECT:
                store_put_project(tx, row);
                break;
        case ROW_USER:
                store_put_user(tx, row);
                break;
        case ROW_SECRET:
                store_put_secret(tx, row);
                break;
        case ROW_LEDGER:
                store_put_ledger(tx, row);
                break;
        case ROW_BUDGET:
                store_put_budget(tx, row);
                break;
        case ROW_BUDGET_RAISE:
                store_put_budget_raise(tx, row);
                break;
        case ROW_CHECKPOINT:
                store_put_checkpoint(tx, row);
                break;
        case ROW_META:
                store_put_meta(tx, ((const struct row_meta *)row)->key,
                               ((const struct row_meta *)row)->value);
                break;
        default:
                test_fail(__FILE__, __LINE__, "a sealed table that this test does not know: %d", kind);
        }
}

/* A row whose every column says something, or one that is as empty as it can be. */
static void put_rows(struct world *w, enum row_kind kind, const char *first, bool full)
{
        _Alignas(max_align_t) uint8_t row[SEAL_ROW_MAX] = {0};
        const struct table *t = &store_tables[kind];
        struct store_tx *tx = store_begin(w->store);
        int64_t v;
        bool yes = true;

        for (int i = 0; i < t->n_cols - 1; i++) {
                const struct col *c = &t->cols[i];

                if (!full && !(c->flags & COL_KEY))
                        continue;
                v = i ? 40 + i : *first;
                /* Two of these are unique. */
                if (c->type == COL_TEXT)
                        memcpy(row + c->off,
                               i && strcmp(c->name, "sha256") && strcmp(c->name, "id") ? &c->name : &first,
                               sizeof first);
                else if (c->type == COL_BLOB) {
                        memcpy(row + c->off, &c->name, sizeof first);
                        memcpy(row + c->off2, &(size_t){3}, sizeof(size_t));
                } else if (c->type == COL_BOOL)
                        memcpy(row + c->off, &yes, sizeof yes);
                else
                        memcpy(row + c->off, &v, c->type == COL_I64 ? 8 : 4);
        }
        put_kind(tx, kind, row);
        commit(w, tx);
}

static int64_t refused_rows(const struct world *w, enum row_kind kind)
{
        _Alignas(max_align_t) uint8_t row[SEAL_ROW_MAX];
        const struct table *t = &store_tables[kind];
        struct mac *m = mac_create(w->seal_key);
        char *cols = row_columns(t), *sql = str_printf("SELECT %s FROM %s", cols, t->name);
        sqlite3_stmt *st;
        int64_t n = 0;

        CHECK_INT(sqlite3_prepare_v2(reader_handle(w->reader), sql, -1, &st, NULL), SQLITE_OK);
        while (sqlite3_step(st) == SQLITE_ROW) {
                row_decode(st, t, row);
                seal_look(m, t, row);
                n += ((const struct row_sealed *)(const void *)(row + t->sealed))->refused;
        }
        sqlite3_finalize(st);
        mac_free(m);
        mem_free(sql);
        mem_free(cols);
        return n;
}

static void sql_on(const struct world *w, const char *sql)
{
        char path[600], *why = NULL;
        sqlite3 *h;

        snprintf(path, sizeof path, "%s/hub.db", w->dir);
        CHECK_INT(sqlite3_open(path, &h), SQLITE_OK);
        sqlite3_busy_timeout(h, 10000);
        if (sqlite3_exec(h, sql, NULL, NULL, &why) != SQLITE_OK)
                test_fail(__FILE__, __LINE__, "%s: %s", sql, why);
        sqlite3_close(h);
}

static void sql_in(const struct world *w, const char *fmt, const char *a, const char *b)
{
        char *sql = str_printf("%s", fmt), *at;
        char out[400] = "";

        /* $t and $c */
        for (at = sql; *at; at++) {
                size_t n = strlen(out);

                if (at[0] == '$' && (at[1] == 't' || at[1] == 'c'))
                        snprintf(out + n, sizeof out - n, "%s", *++at == 't' ? a : b);
                else
                        snprintf(out + n, sizeof out - n, "%c", *at);
        }
        mem_free(sql);
        sql_on(w, out);
}

/* In a folder of its own, also the second one of a test. */
static void world_sealed(struct world *w)
{
        static char dir[600];
        static int n;

        snprintf(dir, sizeof dir, "%s/%d", test_scratch(), n++);
        CHECK_INT(mkdir(dir, 0700), 0);
        *w = (struct world){.dir = dir, .seal_key = key_1, .seal_key_new = true};
        world_open(w, false);
        w->seal_key_new = false;
}

TEST(store_seal, each_column_of_each_table_that_grants_something_is_covered)
{
        static const char *const changes[] = {
                "UPDATE $t SET $c=CASE typeof($c) WHEN 'text' THEN $c||'x' ELSE $c+1 END",
                "UPDATE $t SET $c=CASE typeof($c) WHEN 'text' THEN '' ELSE 0 END", "UPDATE $t SET $c=NULL"};
        struct world w;
        int tables = 0;

        world_sealed(&w);
        for (int k = 0; k < ROW_KINDS; k++) {
                const struct table *t = &store_tables[k];

                if (!t->sealed)
                        continue;
                tables++;
                CHECK(strstr(t->cols[t->n_cols - 1].name, "seal"));
                for (int i = 0; i < t->n_cols - 1; i++) {
                        for (size_t how = 0; how < sizeof changes / sizeof *changes; how++) {
                                /* A rowid that is NULL is none; a primary key without one cannot be. */
                                if (how == 2 && t->cols[i].flags & COL_KEY)
                                        continue;
                                /* A truth is no other when it is 2. */
                                if (how == 0 && t->cols[i].type == COL_BOOL)
                                        continue;
                                sql_in(&w, "DELETE FROM $t", t->name, "");
                                put_rows(&w, (enum row_kind)k, "a", true);
                                CHECK_INT(refused_rows(&w, (enum row_kind)k), 0);
                                sql_in(&w, changes[how], t->name, t->cols[i].name);
                                if (refused_rows(&w, (enum row_kind)k) != 1)
                                        test_fail(__FILE__, __LINE__, "%s.%s may be changed (%zu)", t->name,
                                                  t->cols[i].name, how);
                        }
                }
        }
        CHECK_INT(tables, 12);
        world_close(&w);
}

TEST(store_seal, nothing_is_not_empty_and_no_seal_is_none)
{
        for (int k = 0; k < ROW_KINDS; k++) {
                const struct table *t = &store_tables[k];
                const char *seal = t->cols[t->n_cols - 1].name;
                struct world w;

                if (!t->sealed)
                        continue;
                world_sealed(&w);
                sql_in(&w, "DELETE FROM $t", t->name, "");
                put_rows(&w, (enum row_kind)k, "a", false);
                put_rows(&w, (enum row_kind)k, "b", true);
                CHECK_INT(refused_rows(&w, (enum row_kind)k), 0);
                for (int i = 0; i < t->n_cols - 1; i++) {
                        if (t->cols[i].type != COL_TEXT || t->cols[i].flags & COL_KEY)
                                continue;
                        sql_in(&w, "UPDATE $t SET $c='' WHERE $c IS NULL", t->name, t->cols[i].name);
                        CHECK_INT(refused_rows(&w, (enum row_kind)k), 1);
                        sql_in(&w, "UPDATE $t SET $c=NULL WHERE $c=''", t->name, t->cols[i].name);
                        CHECK_INT(refused_rows(&w, (enum row_kind)k), 0);
                }
                /* Another row's seal, none, the beginning of the right one. */
                sql_in(&w, "UPDATE $t SET $c=(SELECT max($c) FROM $t)", t->name, seal);
                CHECK_INT(refused_rows(&w, (enum row_kind)k), 1);
                sql_in(&w, "UPDATE $t SET $c=substr($c,1,15)", t->name, seal);
                CHECK_INT(refused_rows(&w, (enum row_kind)k), 2);
                sql_in(&w, "UPDATE $t SET $c=NULL", t->name, seal);
                CHECK_INT(refused_rows(&w, (enum row_kind)k), 2);
                world_close(&w);
        }
}

TEST(store_seal, a_seal_is_of_one_table)
{
        struct world w;

        /* A join token and a user who are both but a name. */
        world_sealed(&w);
        put_rows(&w, ROW_JOIN_TOKEN, "a", false);
        sql_on(&w, "INSERT INTO users(id,seal) SELECT id,seal FROM join_tokens");
        CHECK_INT(refused_rows(&w, ROW_USER), 1);
        CHECK_INT(refused_rows(&w, ROW_JOIN_TOKEN), 0);
        world_close(&w);
}

static int take_name(void *arg, const char *table, const char *key)
{
        char *to = arg;
        size_t n = strlen(to);

        snprintf(to + n, 200 - n, "%s/%s ", table, key);
        return 0;
}

static int is_refused(void *arg, const struct row_api_token *t)
{
        (void)arg;
        return t->sealed.refused ? 9 : 8;
}

TEST(store_seal, what_is_refused_is_named)
{
        char names[200] = "";
        struct world w;
        int64_t n;

        world_sealed(&w);
        put_rows(&w, ROW_API_TOKEN, "t1", true);
        put_rows(&w, ROW_API_TOKEN, "t2", true);
        put_rows(&w, ROW_SECRET, "web", true);
        CHECK_INT(read_refused(w.reader, 10, take_name, names, &n), 0);
        CHECK_INT(n, 0);
        sql_on(&w, "UPDATE api_tokens SET expires_us=0 WHERE id='t2'; UPDATE secrets SET version=1");
        CHECK_INT(read_refused(w.reader, 10, take_name, names, &n), 0);
        CHECK_INT(n, 2);
        CHECK_STR(names, "api_tokens/t2 secrets/web/name ");
        names[0] = '\0';
        CHECK_INT(read_refused(w.reader, 1, take_name, names, &n), 0);
        CHECK_INT(n, 2);
        CHECK_STR(names, "api_tokens/t2 ");
        CHECK_INT(read_api_token_by_id(w.reader, "t1", is_refused, NULL), 8);
        CHECK_INT(read_api_token_by_id(w.reader, "t2", is_refused, NULL), 9);
        /* Written by the hub, it is a row again. */
        put_rows(&w, ROW_API_TOKEN, "t2", true);
        CHECK_INT(read_api_token_by_id(w.reader, "t2", is_refused, NULL), 8);
        world_close(&w);
}

TEST(store_seal, what_the_hub_keeps_for_itself_is_not_read_when_others_wrote_it)
{
        struct world w;
        char *v = NULL;

        world_sealed(&w);
        put_meta(&w, "audit_accepted", "5");
        check_meta(&w, "audit_accepted", "5");
        sql_on(&w, "UPDATE meta SET value='999' WHERE key='audit_accepted'");
        CHECK_INT(read_meta(w.reader, "audit_accepted", &v), -E_DENIED);
        sql_on(&w, "INSERT OR REPLACE INTO meta(key,value) VALUES('new','1')");
        CHECK_INT(read_meta(w.reader, "new", &v), -E_DENIED);
        world_close(&w);
}

/* ---- keys ---- */

static void old_database(struct world *w)
{
        int n = store_schema_version();
        char path[600], tail[200];
        sqlite3 *h;

        *w = (struct world){.dir = test_scratch(), .seal_key = key_1, .seal_key_new = true};
        snprintf(path, sizeof path, "%s/hub.db", w->dir);
        CHECK_INT(sqlite3_open(path, &h), SQLITE_OK);
        for (int i = 0; i < n - 1; i++)
                CHECK_INT(sqlite3_exec(h, store_migrations[i], NULL, NULL, NULL), SQLITE_OK);
        snprintf(tail, sizeof tail,
                 "DROP TABLE audit_unchained; PRAGMA application_id=1346916180; PRAGMA user_version=%d;"
                 "INSERT INTO api_tokens(id,sha256,name,role,created_us) VALUES('t','ab','admin','admin',1);",
                 n - 1);
        CHECK_INT(sqlite3_exec(h, tail, NULL, NULL, NULL), SQLITE_OK);
        CHECK_INT(sqlite3_exec(h, "INSERT INTO budgets(id,micros) VALUES('day',5)", NULL, NULL, NULL),
                  SQLITE_OK);
        sqlite3_close(h);
}

TEST(store_seal, rows_of_before_are_sealed_once_by_the_start_that_makes_the_key)
{
        struct world w;

        old_database(&w);
        world_open(&w, false);
        CHECK_INT(read_api_token_by_id(w.reader, "t", is_refused, NULL), 8);
        CHECK_INT(refused_rows(&w, ROW_BUDGET), 0);
        CHECK(store_budgets_whole(w.store));
        /* The next start with this key as a new one was killed before it was kept: the same again. */
        reopen(&w);
        CHECK_INT(read_api_token_by_id(w.reader, "t", is_refused, NULL), 8);
        w.seal_key_new = false;
        reopen(&w);
        CHECK_INT(read_api_token_by_id(w.reader, "t", is_refused, NULL), 8);
        sql_on(&w, "UPDATE api_tokens SET seal=NULL");
        reopen(&w);
        CHECK_INT(read_api_token_by_id(w.reader, "t", is_refused, NULL), 9);
        world_close(&w);
}

TEST(store_seal, an_old_database_under_a_key_that_is_not_new_is_refused)
{
        struct world w;

        old_database(&w);
        w.seal_key_new = false;
        world_open(&w, false);
        CHECK_INT(read_api_token_by_id(w.reader, "t", is_refused, NULL), 9);
        CHECK(!store_budgets_whole(w.store));
        world_close(&w);
}

TEST(store_seal, another_key_opens_nothing_until_a_person_says_so)
{
        struct world w;

        world_sealed(&w);
        put_rows(&w, ROW_API_TOKEN, "t", true);
        world_close(&w);
        /* The key is lost, and a new one was made. */
        w.seal_key = key_2;
        w.seal_key_new = true;
        CHECK_INT(world_try(&w), -E_CORRUPT);
        CHECK(strstr(w.err.msg, "rows.key") && strstr(w.err.msg, "--accept-changed-rows"));
        w.accept_changed = true;
        world_open(&w, false);
        CHECK_INT(store_seals_accepted(w.store), 2); /* and the project that is always there */
        CHECK_INT(read_api_token_by_id(w.reader, "t", is_refused, NULL), 8);
        w.accept_changed = w.seal_key_new = false;
        reopen(&w);
        CHECK_INT(store_seals_accepted(w.store), 0);
        CHECK_INT(read_api_token_by_id(w.reader, "t", is_refused, NULL), 8);
        /* With the first one back, those are another hub's. */
        w.seal_key = key_1;
        reopen(&w);
        CHECK_INT(read_api_token_by_id(w.reader, "t", is_refused, NULL), 9);
        world_close(&w);
}

/* ---- budgets ---- */

TEST(store_seal, a_budget_that_is_gone_or_as_it_once_was_is_missed)
{
        static const char *const harm[] = {
                "DELETE FROM budgets WHERE id='a'",
                "DELETE FROM budgets; DELETE FROM budget_raises",
                "REPLACE INTO budgets SELECT * FROM was",
                "DELETE FROM budget_raises",
                "DELETE FROM seals",
                "UPDATE seals SET seal=zeroblob(16)",
        };

        for (size_t i = 0; i < sizeof harm / sizeof *harm; i++) {
                char names[200] = "";
                struct world w;
                int64_t n;

                world_sealed(&w);
                CHECK(store_budgets_whole(w.store));
                put_rows(&w, ROW_BUDGET, "a", true);
                put_rows(&w, ROW_BUDGET_RAISE, "a", true);
                sql_on(&w, "CREATE TABLE was AS SELECT * FROM budgets");
                put_rows(&w, ROW_BUDGET, "a", false);
                reopen(&w);
                CHECK(store_budgets_whole(w.store));
                sql_on(&w, harm[i]);
                reopen(&w);
                CHECK(!store_budgets_whole(w.store));
                CHECK_INT(read_refused(w.reader, 10, take_name, names, &n), 0);
                CHECK_STR(names, "budgets/* ");
                /* Whoever sets another one has not looked at all of them. */
                put_rows(&w, ROW_BUDGET, "b", true);
                reopen(&w);
                CHECK(!store_budgets_whole(w.store));
                w.accept_changed = true;
                reopen(&w);
                CHECK(store_budgets_whole(w.store));
                w.accept_changed = false;
                reopen(&w);
                CHECK(store_budgets_whole(w.store));
                world_close(&w);
        }
}

TEST(store_seal, a_sum_with_an_entry_that_others_wrote_is_none)
{
        struct row_ledger l = {.attempt_id = 7,
                               .state = LEDGER_SETTLED,
                               .project = "web",
                               .agent = "a1",
                               .spent_micros = 500,
                               .reserved_micros = 900,
                               .spent_tokens = 3};
        struct ledger_key k = {.kind = BUDGET_PROJECT, .name = "web"};
        struct budget_account a;
        struct store_tx *tx;
        struct world w;

        world_sealed(&w);
        tx = store_begin(w.store);
        store_put_ledger(tx, &l);
        l.attempt_id = 8;
        l.state = LEDGER_RESERVED;
        store_put_ledger(tx, &l);
        commit(&w, tx);
        CHECK_INT(read_ledger_sum(w.reader, &k, &a), 0);
        CHECK_INT(a.settled.v[BUDGET_MONEY], 500);
        CHECK_INT(a.settled.v[BUDGET_TOKENS], 3);
        CHECK_INT(a.reserved.v[BUDGET_MONEY], 900);
        CHECK_INT(a.reserved.v[BUDGET_TOKENS], 0);
        sql_on(&w, "UPDATE ledger SET spent_micros=1 WHERE attempt_id=7");
        CHECK_INT(read_ledger_sum(w.reader, &k, &a), -E_DENIED);
        k.since = 7; /* begun anew after it */
        CHECK_INT(read_ledger_sum(w.reader, &k, &a), 0);
        k.since = 0;
        k.name = "other";
        CHECK_INT(read_ledger_sum(w.reader, &k, &a), 0);
        CHECK_INT(a.settled.v[BUDGET_MONEY], 0);
        world_close(&w);
}
