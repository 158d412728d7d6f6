/* Reading the outbox. Statements are made for each question: they are asked when something was written or is
 * due, and by people. */
#include "hub/store/store_impl.h"

#include "common/log.h"
#include "common/mem.h"
#include "common/str.h"

static int failed(sqlite3 *h, int sqlite_rc)
{
        struct err e = {0};
        int rc = db_error(h, sqlite_rc, "hub.db", "cannot read", &e);

        log_error("store", "cannot read the notices", "reason=\"%s\"", e.msg);
        return rc;
}

/* "SELECT columns FROM notices tail", or all of `sql`. */
static int prepare(sqlite3 *h, const char *tail, sqlite3_stmt **out)
{
        char *cols = row_columns(&store_tables[ROW_NOTICE]);
        char *sql = cols ? str_printf("SELECT %s FROM notices %s", cols, tail) : NULL;
        int rc = sql ? db_prepare(h, sql, out) : SQLITE_NOMEM;

        mem_free(sql);
        mem_free(cols);
        return rc == SQLITE_OK ? 0 : failed(h, rc);
}

static int next(sqlite3 *h, sqlite3_stmt *st, struct row_notice *row)
{
        int rc = sqlite3_step(st);

        if (rc == SQLITE_ROW) {
                row_decode(st, &store_tables[ROW_NOTICE], row);
                return 1;
        }
        return rc == SQLITE_DONE ? 0 : failed(h, rc);
}

int read_notices(struct store_reader *r, const struct notice_filter *f,
                 int (*cb)(void *, const struct row_notice *), void *arg)
{
        sqlite3 *h = reader_handle(r);
        sqlite3_stmt *st = NULL;
        struct row_notice row;
        int rc;

        if (f->target)
                rc = prepare(h, "WHERE state=0 AND target=?1 AND next_us<=?2 ORDER BY next_us LIMIT ?3", &st);
        else
                rc = prepare(h, "WHERE (?1<0 OR state=?1) AND seq<?2 ORDER BY seq DESC LIMIT ?3", &st);
        if (!rc && f->target) {
                sqlite3_bind_text(st, 1, f->target, -1, SQLITE_STATIC);
                sqlite3_bind_int64(st, 2, f->due_us);
        } else if (!rc) {
                sqlite3_bind_int64(st, 1, f->state);
                sqlite3_bind_int64(st, 2, f->before_seq > 0 ? f->before_seq : INT64_MAX);
        }
        if (!rc)
                sqlite3_bind_int64(st, 3, f->limit > 0 ? f->limit : -1);
        while (!rc && (rc = next(h, st, &row)) == 1)
                rc = cb(arg, &row);
        sqlite3_finalize(st);
        return rc;
}

int read_notice(struct store_reader *r, const char *id, int (*cb)(void *, const struct row_notice *),
                void *arg)
{
        sqlite3 *h = reader_handle(r);
        sqlite3_stmt *st = NULL;
        struct row_notice row;
        int rc = prepare(h, "WHERE id=?1", &st);

        if (!rc) {
                sqlite3_bind_text(st, 1, id, -1, SQLITE_STATIC);
                rc = next(h, st, &row);
                rc = rc == 1 ? cb(arg, &row) : rc == 0 ? -E_NOENT : rc;
        }
        sqlite3_finalize(st);
        return rc;
}

/* One number of one row; NULL is `none`. */
static int number(sqlite3 *h, const char *sql, const char *arg, int64_t none, int64_t *out)
{
        sqlite3_stmt *st = NULL;
        int rc = db_prepare(h, sql, &st);

        if (rc == SQLITE_OK && arg)
                sqlite3_bind_text(st, 1, arg, -1, SQLITE_STATIC);
        if (rc == SQLITE_OK)
                rc = sqlite3_step(st);
        if (rc == SQLITE_ROW)
                *out = sqlite3_column_type(st, 0) == SQLITE_NULL ? none : sqlite3_column_int64(st, 0);
        sqlite3_finalize(st);
        return rc == SQLITE_ROW ? 0 : failed(h, rc);
}

int read_notice_next(struct store_reader *r, const char *target, int64_t *next_us)
{
        return number(reader_handle(r), "SELECT MIN(next_us) FROM notices WHERE state=0 AND target=?1",
                      target, INT64_MAX, next_us);
}

int read_notice_max(struct store_reader *r, int64_t *seq)
{
        return number(reader_handle(r), "SELECT MAX(seq) FROM notices", NULL, 0, seq);
}
