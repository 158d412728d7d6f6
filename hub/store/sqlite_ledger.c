/* Reading budgets and the ledger. Statements are made for each question: they are asked at start-up, by
 * people, and once for each account that a hub looks at. */
#include "hub/store/store_impl.h"

#include "common/buf.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/str.h"

#include <string.h>

#define SUMS                                                                                                 \
        "COALESCE(SUM(CASE WHEN state=0 THEN 0 ELSE spent_micros END),0),"                                   \
        "COALESCE(SUM(CASE WHEN state=0 THEN 0 ELSE spent_tokens END),0),"                                   \
        "COALESCE(SUM(CASE WHEN state=0 THEN MAX(reserved_micros,0) ELSE 0 END),0),"                         \
        "COALESCE(SUM(CASE WHEN state=0 THEN MAX(reserved_tokens,0) ELSE 0 END),0)"

static int failed(sqlite3 *h, int sqlite_rc)
{
        struct err e = {0};
        int rc = db_error(h, sqlite_rc, "hub.db", "cannot read", &e);

        log_error("store", "cannot read the ledger", "reason=\"%s\"", e.msg);
        return rc;
}

static void bind_text(sqlite3_stmt *st, int at, const char *s)
{
        sqlite3_bind_text(st, at, s, -1, SQLITE_STATIC); /* the caller's until the statement is gone */
}

/* "SELECT columns FROM table tail". */
static int prepare(sqlite3 *h, enum row_kind kind, const char *tail, sqlite3_stmt **out)
{
        char *cols = row_columns(&store_tables[kind]);
        char *sql = cols ? str_printf("SELECT %s FROM %s %s", cols, store_tables[kind].name, tail) : NULL;
        int rc = sql ? db_prepare(h, sql, out) : SQLITE_NOMEM;

        mem_free(sql);
        mem_free(cols);
        return rc == SQLITE_OK ? 0 : failed(h, rc);
}

/* 1: a row is in *row; 0: no more; -E_*. */
static int next(struct store_reader *r, sqlite3_stmt *st, enum row_kind kind, void *row)
{
        int rc = sqlite3_step(st);

        if (rc == SQLITE_ROW) {
                row_decode(st, &store_tables[kind], row);
                seal_look(reader_seals(r), &store_tables[kind], row);
                return 1;
        }
        return rc == SQLITE_DONE ? 0 : failed(reader_handle(r), rc);
}

int read_budgets(struct store_reader *r, int (*cb)(void *, const struct row_budget *), void *arg)
{
        sqlite3 *h = reader_handle(r);
        sqlite3_stmt *st = NULL;
        struct row_budget row;
        int rc = prepare(h, ROW_BUDGET, "ORDER BY id", &st);

        while (!rc && (rc = next(r, st, ROW_BUDGET, &row)) == 1)
                rc = cb(arg, &row);
        sqlite3_finalize(st);
        return rc;
}

int read_budget_raises(struct store_reader *r, int (*cb)(void *, const struct row_budget_raise *), void *arg)
{
        sqlite3 *h = reader_handle(r);
        sqlite3_stmt *st = NULL;
        struct row_budget_raise row;
        int rc = prepare(h, ROW_BUDGET_RAISE, "ORDER BY account", &st);

        while (!rc && (rc = next(r, st, ROW_BUDGET_RAISE, &row)) == 1)
                rc = cb(arg, &row);
        sqlite3_finalize(st);
        return rc;
}

int read_ledger_entry(struct store_reader *r, uint64_t attempt_id,
                      int (*cb)(void *, const struct row_ledger *), void *arg)
{
        sqlite3 *h = reader_handle(r);
        sqlite3_stmt *st = NULL;
        struct row_ledger row;
        int rc = prepare(h, ROW_LEDGER, "WHERE attempt_id=?1", &st);

        if (!rc) {
                sqlite3_bind_int64(st, 1, (int64_t)attempt_id);
                rc = next(r, st, ROW_LEDGER, &row);
                rc = rc == 1 ? cb(arg, &row) : rc == 0 ? -E_NOENT : rc;
        }
        sqlite3_finalize(st);
        return rc;
}

/* Only what is asked for stands in the statement, so that the index of it is used. */
static char *ledger_tail(const struct ledger_filter *f)
{
        return str_printf("WHERE attempt_id<?1%s%s%s%s%s%s ORDER BY attempt_id DESC LIMIT ?2",
                          f->run_id ? " AND run_seq=(SELECT seq FROM runs WHERE id=?3)" : "",
                          f->projects ? " AND project IN (SELECT value FROM json_each(?4))" : "",
                          f->agent ? " AND agent=?5" : "", f->day >= 0 ? " AND day=?6" : "",
                          f->state == LEDGER_RESERVED ? " AND state=0" : "",
                          f->state > LEDGER_RESERVED ? " AND state=?7" : "");
}

int read_ledger(struct store_reader *r, const struct ledger_filter *f,
                int (*cb)(void *, const struct row_ledger *), void *arg)
{
        sqlite3 *h = reader_handle(r);
        sqlite3_stmt *st = NULL;
        struct row_ledger row;
        char *tail = ledger_tail(f);
        int rc = tail ? prepare(h, ROW_LEDGER, tail, &st) : -E_NOMEM;

        mem_free(tail);
        if (!rc) {
                sqlite3_bind_int64(st, 1, f->before ? (int64_t)f->before : INT64_MAX);
                sqlite3_bind_int64(st, 2, f->limit > 0 ? f->limit : -1);
                if (f->run_id)
                        bind_text(st, 3, f->run_id);
                if (f->projects)
                        bind_text(st, 4, f->projects);
                if (f->agent)
                        bind_text(st, 5, f->agent);
                if (f->day >= 0)
                        sqlite3_bind_int64(st, 6, f->day);
                if (f->state > LEDGER_RESERVED)
                        sqlite3_bind_int64(st, 7, f->state);
        }
        while (!rc && (rc = next(r, st, ROW_LEDGER, &row)) == 1)
                rc = cb(arg, &row);
        sqlite3_finalize(st);
        return rc;
}

/* ---- sums ---- */

/* 0; -E_TOOBIG: the sum does not fit. */
static int count_in(struct budget_account *a, const struct row_ledger *r)
{
        const int64_t spent[] = {r->spent_micros, r->spent_tokens};
        const int64_t reserved[] = {r->reserved_micros, r->reserved_tokens};
        bool live = r->state == LEDGER_RESERVED;

        for (int m = 0; m < BUDGET_MEASURES; m++) {
                int64_t *to = live ? &a->reserved.v[m] : &a->settled.v[m];
                int64_t v = !live ? spent[m] : reserved[m] > 0 ? reserved[m] : 0;

                if (__builtin_add_overflow(*to, v, to))
                        return -E_TOOBIG;
        }
        return 0;
}

/* Row by row: each entry's seal is looked at, and one that is refused spoils the sum. */
int read_ledger_sum(struct store_reader *r, const struct ledger_key *k, struct budget_account *out)
{
        static const char *const where[BUDGET_KINDS] = {
                [BUDGET_RUN] = "WHERE run_seq=?2 AND attempt_id>?3",
                [BUDGET_PROJECT] = "WHERE project=?1 AND attempt_id>?3",
                [BUDGET_AGENT] = "WHERE agent=?1 AND attempt_id>?3",
                [BUDGET_DAY] = "WHERE day=?2 AND attempt_id>?3",
                [BUDGET_PROJECT_DAY] = "WHERE day=?2 AND project=?1 AND attempt_id>?3",
        };
        struct budget_account sum = {0};
        sqlite3_stmt *st = NULL;
        struct row_ledger row;
        int rc = prepare(reader_handle(r), ROW_LEDGER, where[k->kind], &st);

        if (!rc) {
                if (k->name)
                        bind_text(st, 1, k->name);
                sqlite3_bind_int64(st, 2, k->number);
                sqlite3_bind_int64(st, 3, (int64_t)k->since);
        }
        while (!rc && (rc = next(r, st, ROW_LEDGER, &row)) == 1) {
                rc = row.sealed.refused ? -E_DENIED : count_in(&sum, &row);
                if (row.sealed.refused)
                        log_error("store", "an entry of the ledger was changed by somebody else",
                                  "attempt=%llu run=%s", (unsigned long long)row.attempt_id,
                                  row.run_id ? row.run_id : "");
        }
        sqlite3_finalize(st);
        if (!rc)
                *out = sum;
        return rc;
}

static void take_sums(sqlite3_stmt *st, int at, struct budget_account *out)
{
        *out = (struct budget_account){0};
        for (int m = 0; m < BUDGET_MEASURES; m++) {
                out->settled.v[m] = sqlite3_column_int64(st, at + m);
                out->reserved.v[m] = sqlite3_column_int64(st, at + BUDGET_MEASURES + m);
        }
}

int read_ledger_steps(struct store_reader *r, int64_t run_seq,
                      int (*cb)(void *arg, uint32_t step_idx, const struct budget_account *a), void *arg)
{
        sqlite3 *h = reader_handle(r);
        sqlite3_stmt *st = NULL;
        int rc = db_prepare(h,
                            "SELECT step_idx," SUMS
                            " FROM ledger WHERE run_seq=?1 GROUP BY step_idx ORDER BY step_idx",
                            &st);
        int end = 0;

        if (rc == SQLITE_OK) {
                sqlite3_bind_int64(st, 1, run_seq);
                while (!end && (rc = sqlite3_step(st)) == SQLITE_ROW) {
                        struct budget_account a;

                        take_sums(st, 1, &a);
                        end = cb(arg, (uint32_t)sqlite3_column_int64(st, 0), &a);
                }
        }
        sqlite3_finalize(st);
        return end ? end : rc == SQLITE_DONE ? 0 : failed(h, rc);
}
