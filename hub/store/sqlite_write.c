/* A batch of transactions as one database transaction, and the checkpoint. */
#include "hub/store/store_impl.h"

#include "common/log.h"
#include "common/mem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WAL_PAGES_IDLE 64 /* at least these are worth it when there is nothing else to do */
#define WAL_PAGES_PAUSE                                                                                      \
        192 /* and these at every pause: one call with a large input, not a turn of small ones */
#define TRIM_EVENTS_BATCH "5000"
#define ATTEMPTS_AHEAD    4096

static int prepare_once(struct db *d, sqlite3_stmt **st, const char *sql)
{
        return *st ? SQLITE_OK : db_prepare(d->h, sql, st);
}

static int prepare_built(struct db *d, sqlite3_stmt **st, char *sql)
{
        int rc = sql ? db_prepare(d->h, sql, st) : SQLITE_NOMEM;

        mem_free(sql);
        return rc;
}

/* Runs to the end and gets ready for the next time. */
static int run(sqlite3_stmt *st)
{
        int rc = sqlite3_step(st);
        int rc_reset = sqlite3_reset(st);

        return rc == SQLITE_DONE || rc == SQLITE_ROW ? rc_reset : rc;
}

/* ---- records ---- */

/* Moves come in few shapes; each has its statement, found by what it sets. */
static int update_statement(struct db *d, uint64_t mask, bool clear, sqlite3_stmt **out)
{
        uint64_t want = mask | (uint64_t)clear << 63;
        unsigned at = (unsigned)((want * 0x9E3779B97F4A7C15u) >> 58) % UPDATE_CACHE;
        int rc;

        for (unsigned probe = 0; probe < 8; probe++) {
                unsigned i = (at + probe) % UPDATE_CACHE;

                if (d->update[i].st && d->update[i].mask == want) {
                        *out = d->update[i].st;
                        return SQLITE_OK;
                }
                if (!d->update[i].st) {
                        at = i;
                        break;
                }
        }
        /* A free place, or the home of this shape, whose owner is prepared again when it comes. */
        sqlite3_finalize(d->update[at].st);
        d->update[at].st = NULL;
        rc = prepare_built(d, &d->update[at].st, row_update_sql(&store_step_moves, mask, clear));
        d->update[at].mask = want;
        *out = d->update[at].st;
        return rc;
}

static int write_move(struct db *d, const struct rec *rec)
{
        sqlite3_stmt *st;
        int rc = update_statement(d, rec->mask, rec->clear, &st);

        if (rc == SQLITE_OK)
                rc = row_bind_mask(st, &store_step_moves, rec);
        return rc == SQLITE_OK ? run(st) : rc;
}

int db_write_row(struct db *d, const struct rec *rec)
{
        const struct table *t = &store_tables[rec->kind];
        sqlite3_stmt **st = &d->put[rec->kind];
        int rc = SQLITE_OK;

        if (!*st)
                rc = prepare_built(d, st, row_insert_sql(t));
        if (rc == SQLITE_OK)
                rc = row_bind_all(*st, t, rec);
        d->budgets_written |= rec->kind == ROW_BUDGET || rec->kind == ROW_BUDGET_RAISE;
        return rc == SQLITE_OK ? run(*st) : rc;
}

static int write_number(struct db *d, sqlite3_stmt **st, const char *sql, const struct rec *rec)
{
        int64_t v;
        int rc = prepare_once(d, st, sql);

        memcpy(&v, rec + 1, sizeof v);
        if (rc == SQLITE_OK)
                rc = sqlite3_bind_int64(*st, 1, v);
        return rc == SQLITE_OK ? run(*st) : rc;
}

static int write_record(struct db *d, const struct rec *rec)
{
        switch (rec->kind) {
        case ROW_STEP_MOVE:
                return write_move(d, rec);
        case ROW_SYNC_FD:
                return SQLITE_OK;
        case ROW_AUDIT:
                return audit_write(d, rec);
        case ROW_AUDIT_ERASE:
                return audit_erase(d, rec);
        case ROW_AUDIT_TRIM:
                return audit_trim(d, rec);
        case ROW_SECRET_CUT:
                return secret_cut_rows(d, rec);
        case ROW_SECRET_RESEAL:
                return secret_reseal_row(d, rec);
        case ROW_VAULT_KEY_DROP:
                return vault_key_drop_row(d, rec);
        case ROW_TRIM_EVENTS:
                return write_number(d, &d->trim_events,
                                    "DELETE FROM events WHERE last_id IN (SELECT last_id FROM events WHERE "
                                    "last_id<=?1 AND last_id<(SELECT MAX(last_id) FROM events) ORDER BY "
                                    "last_id LIMIT " TRIM_EVENTS_BATCH ")",
                                    rec);
        case ROW_TRIM_NOTICES:
                return write_number(d, &d->trim_notices, "DELETE FROM notices WHERE state>0 AND done_us<?1",
                                    rec);
        case ROW_TRIM_IDEMPOTENCY:
                return write_number(d, &d->trim_idempotency, "DELETE FROM idempotency WHERE at_us<?1", rec);
        default:
                return db_write_row(d, rec);
        }
}

static const struct rec *next_record(const struct store_tx *tx, const struct rec *rec)
{
        const uint8_t *p = rec ? (const uint8_t *)rec + rec->size : tx->data;

        return p == tx->data + tx->len ? NULL : (const struct rec *)(const void *)p;
}

static int write_transactions(struct db *d, const struct store_tx *first, int64_t *attempt_id,
                              uint64_t *out_rows)
{
        *out_rows = 0;
        for (const struct store_tx *tx = first; tx; tx = tx->next) {
                for (const struct rec *rec = NULL; tx->len && (rec = next_record(tx, rec)) != NULL;) {
                        int rc = write_record(d, rec);

                        if (rc != SQLITE_OK)
                                return rc;
                }
                *out_rows += tx->rows;
                if (tx->attempt_id > *attempt_id)
                        *attempt_id = tx->attempt_id;
        }
        return SQLITE_OK;
}

static int write_marks(struct db *d, int64_t attempt_bound)
{
        struct row_marks marks = {.id = 1, .attempt_id = attempt_bound};
        uint64_t record[(sizeof(struct rec) + 8 * 2) / 8];

        if (attempt_bound == d->attempt_bound)
                return SQLITE_OK;
        row_encode(&store_tables[ROW_MARKS], ROW_MARKS, &marks, (uint8_t *)record);
        return db_write_row(d, (const struct rec *)record);
}

/* ---- descriptors ---- */

static int by_number(const void *a, const void *b)
{
        int x = *(const int *)a, y = *(const int *)b;

        return (x > y) - (x < y);
}

static int collect_fds(struct db *d, const struct store_tx *first)
{
        d->n_fds = 0;
        for (const struct store_tx *tx = first; tx; tx = tx->next) {
                for (const struct rec *rec = NULL; tx->has_fds && (rec = next_record(tx, rec)) != NULL;) {
                        int64_t v;

                        if (rec->kind != ROW_SYNC_FD)
                                continue;
                        if (d->n_fds == d->cap_fds) {
                                size_t cap = d->cap_fds ? 2 * d->cap_fds : 64;
                                int *fds = mem_realloc(d->fds, cap * sizeof *fds);

                                if (!fds)
                                        return -E_NOMEM;
                                d->fds = fds;
                                d->cap_fds = cap;
                        }
                        memcpy(&v, rec + 1, sizeof v);
                        d->fds[d->n_fds++] = (int)v;
                }
        }
        if (d->n_fds > 1)
                qsort(d->fds, d->n_fds, sizeof *d->fds, by_number);
        return 0;
}

/* The files first, each once: the rows that speak of them must not survive them. */
static int sync_fds(struct db *d, const struct store_tx *first, struct err *e)
{
        int rc = collect_fds(d, first);

        if (rc)
                return err_set(e, -rc, "out of memory");
        for (size_t i = 0; i < d->n_fds; i++) {
                if (i > 0 && d->fds[i] == d->fds[i - 1])
                        continue;
                if (fdatasync(d->fds[i]) != 0)
                        return err_set(e, err_from_errno(errno), "cannot sync a log file: %s",
                                       strerror(errno));
        }
        return 0;
}

/* ---- the transaction ---- */

static bool has_rows(const struct store_tx *tx)
{
        for (; tx; tx = tx->next) {
                if (tx->len)
                        return true;
        }
        return false;
}

static void roll_back(struct db *d)
{
        /* After some errors SQLite has done it already. */
        if (!sqlite3_get_autocommit(d->h))
                sqlite3_exec(d->h, "ROLLBACK", NULL, NULL, NULL);
}

int db_commit(struct db *d, const struct store_tx *first, uint64_t *out_rows, struct err *e)
{
        int64_t attempt_id = 0, bound = d->attempt_bound;
        int rc;

        *out_rows = 0;
        if (!has_rows(first))
                return 0;
        rc = sync_fds(d, first, e);
        if (rc)
                return rc;
        rc = prepare_once(d, &d->begin, "BEGIN IMMEDIATE");
        if (rc == SQLITE_OK)
                rc = prepare_once(d, &d->commit, "COMMIT");
        if (rc == SQLITE_OK)
                rc = run(d->begin);
        d->budgets_written = false;
        if (rc == SQLITE_OK)
                rc = write_transactions(d, first, &attempt_id, out_rows);
        if (rc == SQLITE_OK && d->budgets_written)
                rc = seals_note_budgets(d);
        if (attempt_id > bound)
                bound = attempt_id > INT64_MAX - ATTEMPTS_AHEAD ? INT64_MAX : attempt_id + ATTEMPTS_AHEAD;
        if (rc == SQLITE_OK)
                rc = write_marks(d, bound);
        if (rc == SQLITE_OK)
                rc = run(d->commit);
        if (rc == SQLITE_OK) {
                d->attempt_bound = bound;
                audit_committed(d);
                return 0;
        }
        rc = db_error(d->h, rc, d->path, "cannot write", e);
        roll_back(d);
        audit_rolled_back(d);
        return rc;
}

/* ---- checkpoint ---- */

bool db_wants_checkpoint(const struct db *d, enum db_leisure leisure)
{
        static const int pages[] = {[DB_PAUSES] = WAL_PAGES_PAUSE, [DB_IDLE] = WAL_PAGES_IDLE};

        return d->wal_pages >
               (leisure == DB_BUSY || d->checkpoint_failed ? d->checkpoint_at : pages[leisure]);
}

/* Copies the WAL's pages into the database, each in its newest version only,
 * while readers read on. When all are over, the next commit begins the WAL anew. */
void db_checkpoint(struct db *d)
{
        int in_wal = 0, copied = 0;
        int rc = sqlite3_wal_checkpoint_v2(d->h, NULL, SQLITE_CHECKPOINT_PASSIVE, &in_wal, &copied);
        bool failed = rc != SQLITE_OK && rc != SQLITE_BUSY;

        if (failed && !d->checkpoint_failed)
                log_warn("store", "cannot checkpoint, the write-ahead log grows", "error=\"%s\"",
                         sqlite3_errmsg(d->h));
        d->checkpoint_failed = failed;
        /* Counted anew by the next commit. Where a reader keeps the WAL from beginning anew, the next try
         * comes a while later and not after each commit. */
        d->wal_pages = 0;
        d->checkpoint_at = (in_wal > 0 ? in_wal : 0) + WAL_PAGES_MAX / 4;
}

void db_finalize_writes(struct db *d)
{
        sqlite3_finalize(d->begin);
        sqlite3_finalize(d->commit);
        sqlite3_finalize(d->trim_events);
        sqlite3_finalize(d->trim_idempotency);
        sqlite3_finalize(d->trim_notices);
        audit_finalize(d);
        for (int i = 0; i < ROW_KINDS; i++) {
                sqlite3_finalize(d->put[i]);
                d->put[i] = NULL;
        }
        for (int i = 0; i < UPDATE_CACHE; i++) {
                sqlite3_finalize(d->update[i].st);
                d->update[i].st = NULL;
        }
        d->begin = d->commit = d->trim_events = d->trim_idempotency = d->trim_notices = NULL;
}
