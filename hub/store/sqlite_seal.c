/* Seals: which rows are as this hub wrote them, and which somebody else has put there (store.h).
 *
 * A seal is an HMAC over the table's name and every column that is not NULL or 0, with its name: so it is of
 * this row, and a column that is added later changes no seal of before as long as it is empty. It covers what
 * the program reads, not how SQLite stores it.
 *
 * A row that is missing is found only where absence would allow something: what is not in `budgets` is no
 * cap. So each transaction that writes budgets or raises notes all of them, in the table `seals`. */
#include "hub/store/store_impl.h"

#include "common/buf.h"
#include "common/log.h"
#include "common/mac.h"
#include "common/mem.h"
#include "common/secret.h"
#include "common/str.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

#define COLS_MAX     40
#define ADOPT_BATCH  "20000" /* some megabytes at a time */
#define BUDGETS_SEAL "budgets"

static const enum row_kind budget_kinds[] = {ROW_BUDGET, ROW_BUDGET_RAISE};

/* ---- one row ---- */

static struct row_sealed *sealed_of(const struct table *t, void *row)
{
        return (struct row_sealed *)(void *)((uint8_t *)row + t->sealed);
}

static void mac_row(const struct mac *m, const struct table *t, const void *row, uint8_t out[SEAL_LEN])
{
        static const char domain[] = "photon row 1";
        struct mac_part parts[2 + 3 * COLS_MAX];
        uint64_t numbers[COLS_MAX];
        uint8_t sum[MAC_LEN];
        size_t n = 0;

        assert(t->n_cols <= COLS_MAX);
        parts[n++] = (struct mac_part){domain, sizeof domain};
        parts[n++] = (struct mac_part){t->name, strlen(t->name) + 1};
        for (int i = 0; i < t->n_cols - 1; i++) { /* the last one is the seal */
                const struct col *c = &t->cols[i];
                const void *bytes = NULL;
                size_t len = 0;

                if (c->type <= COL_BLOB) {
                        bytes = row_bytes(c, row, &len);
                        if (!bytes)
                                continue;
                        numbers[i] = len;
                } else {
                        numbers[i] = (uint64_t)row_number(c, row);
                        if (numbers[i] == 0)
                                continue;
                }
                parts[n++] = (struct mac_part){c->name, strlen(c->name) + 1};
                parts[n++] = (struct mac_part){&numbers[i], sizeof numbers[i]};
                if (bytes)
                        parts[n++] = (struct mac_part){bytes, len};
        }
        mac_sum(m, parts, n, sum);
        memcpy(out, sum, SEAL_LEN);
}

const void *seal_row(const struct mac *m, const struct table *t, const void *row, uint8_t room[SEAL_ROW_MAX],
                     uint8_t out[SEAL_LEN])
{
        struct row_sealed *s = sealed_of(t, room);

        assert(t->row_size <= SEAL_ROW_MAX);
        memcpy(room, row, t->row_size);
        *s = (struct row_sealed){0}; /* of a row that was read, and is another one now */
        if (m) {
                mac_row(m, t, room, out);
                s->mac = out;
                s->len = SEAL_LEN;
        }
        return room;
}

void seal_look(const struct mac *m, const struct table *t, void *row)
{
        struct row_sealed *s;
        uint8_t sum[SEAL_LEN];

        if (!t->sealed)
                return;
        s = sealed_of(t, row);
        s->refused = false;
        if (!m)
                return;
        mac_row(m, t, row, sum);
        s->refused = s->len != SEAL_LEN || !secret_equal(s->mac, sum, SEAL_LEN);
}

/* ---- all budgets ---- */

/* Hashed: each budget and raise in the order of its key, with its seal. */
static int hash_budgets(sqlite3 *h, uint8_t out[SHA256_LEN])
{
        struct buf b;
        int rc = SQLITE_OK;

        buf_init(&b, 0);
        for (size_t i = 0; i < sizeof budget_kinds / sizeof *budget_kinds && rc == SQLITE_OK; i++) {
                const struct table *t = &store_tables[budget_kinds[i]];
                char *sql = str_printf("SELECT %s,seal FROM %s ORDER BY 1", t->cols[0].name, t->name);
                sqlite3_stmt *st = NULL;

                rc = sql ? db_prepare(h, sql, &st) : SQLITE_NOMEM;
                mem_free(sql);
                while (rc == SQLITE_OK && (rc = sqlite3_step(st)) == SQLITE_ROW) {
                        const void *key = sqlite3_column_text(st, 0), *seal = sqlite3_column_blob(st, 1);
                        uint32_t n[2] = {(uint32_t)sqlite3_column_bytes(st, 0),
                                         (uint32_t)sqlite3_column_bytes(st, 1)};

                        rc = buf_put(&b, n, sizeof n) || (n[0] && buf_put(&b, key, n[0])) ||
                                             (n[1] && buf_put(&b, seal, n[1]))
                                     ? SQLITE_NOMEM
                                     : SQLITE_OK;
                }
                if (rc == SQLITE_DONE)
                        rc = buf_put(&b, t->name, strlen(t->name) + 1) ? SQLITE_NOMEM : SQLITE_OK;
                sqlite3_finalize(st);
        }
        if (rc == SQLITE_OK)
                secret_sha256(b.data, b.len, out);
        buf_fini(&b);
        return rc;
}

static int mac_budgets(const struct db *d, uint8_t out[SEAL_LEN])
{
        static const char domain[] = "photon budgets 1";
        uint8_t hash[SHA256_LEN], sum[MAC_LEN];
        int rc = hash_budgets(d->h, hash);

        if (rc == SQLITE_OK) {
                mac_sum(d->seals, (struct mac_part[]){{domain, sizeof domain}, {hash, sizeof hash}}, 2, sum);
                memcpy(out, sum, SEAL_LEN);
        }
        return rc;
}

int seals_note_budgets(struct db *d)
{
        uint8_t seal[SEAL_LEN];
        sqlite3_stmt *st = NULL;
        int rc;

        if (!d->seals || d->budgets_broken)
                return SQLITE_OK;
        rc = mac_budgets(d, seal);
        if (rc == SQLITE_OK)
                rc = db_prepare(d->h, "INSERT OR REPLACE INTO seals VALUES('" BUDGETS_SEAL "',?1)", &st);
        if (rc == SQLITE_OK)
                rc = sqlite3_bind_blob(st, 1, seal, sizeof seal, SQLITE_STATIC);
        if (rc == SQLITE_OK && (rc = sqlite3_step(st)) == SQLITE_DONE)
                rc = SQLITE_OK;
        sqlite3_finalize(st);
        return rc;
}

static int check_budgets(struct db *d)
{
        uint8_t seal[SEAL_LEN];
        sqlite3_stmt *st = NULL;
        int rc = mac_budgets(d, seal);

        if (rc == SQLITE_OK)
                rc = db_prepare(d->h, "SELECT seal FROM seals WHERE name='" BUDGETS_SEAL "'", &st);
        if (rc == SQLITE_OK && ((rc = sqlite3_step(st)) == SQLITE_ROW || rc == SQLITE_DONE)) {
                d->budgets_broken = rc == SQLITE_DONE || sqlite3_column_bytes(st, 0) != SEAL_LEN ||
                                    !secret_equal(sqlite3_column_blob(st, 0), seal, SEAL_LEN);
                rc = SQLITE_OK;
        }
        sqlite3_finalize(st);
        return rc;
}

/* ---- when the database is opened ---- */

static const char *seal_column(const struct table *t)
{
        return t->cols[t->n_cols - 1].name;
}

/* A clean stop is noted before there is a key at hand, and decides nothing but a check. */
static const char *where_sealed(const struct table *t)
{
        return t == &store_tables[ROW_META] ? "WHERE key<>'open'" : "WHERE 1";
}

static int forget_seals(struct db *d, const struct table *t)
{
        char *text = str_printf("UPDATE %s SET %s=NULL", t->name, seal_column(t));
        int rc = text ? sqlite3_exec(d->h, text, NULL, NULL, NULL) : SQLITE_NOMEM;

        mem_free(text);
        return rc;
}

static int select_rows(sqlite3 *h, const struct table *t, const char *tail, sqlite3_stmt **out)
{
        char *cols = row_columns(t);
        char *sql = cols ? str_printf("SELECT %s FROM %s %s", cols, t->name, tail) : NULL;
        int rc = sql ? db_prepare(h, sql, out) : SQLITE_NOMEM;

        mem_free(sql);
        mem_free(cols);
        return rc;
}

/* sealed_only: those without a seal do not count. */
static int count_refused(const struct db *d, const struct table *t, bool sealed_only, int64_t *io)
{
        _Alignas(max_align_t) uint8_t row[SEAL_ROW_MAX];
        sqlite3_stmt *st = NULL;
        int rc = select_rows(d->h, t, where_sealed(t), &st);

        while (rc == SQLITE_OK && (rc = sqlite3_step(st)) == SQLITE_ROW) {
                row_decode(st, t, row);
                seal_look(d->seals, t, row);
                *io += sealed_of(t, row)->refused && (sealed_of(t, row)->mac || !sealed_only);
                rc = SQLITE_OK;
        }
        sqlite3_finalize(st);
        return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/* Rows without a seal, as records with one; written when the statement that found them is over. */
static int collect(const struct db *d, enum row_kind kind, struct buf *out)
{
        const struct table *t = &store_tables[kind];
        _Alignas(max_align_t) uint8_t row[SEAL_ROW_MAX], room[SEAL_ROW_MAX];
        uint8_t seal[SEAL_LEN];
        char *tail = str_printf("WHERE %s IS NULL LIMIT " ADOPT_BATCH, seal_column(t));
        sqlite3_stmt *st = NULL;
        int rc = tail ? select_rows(d->h, t, tail, &st) : SQLITE_NOMEM;

        mem_free(tail);
        while (rc == SQLITE_OK && (rc = sqlite3_step(st)) == SQLITE_ROW) {
                const void *whole;

                row_decode(st, t, row);
                whole = seal_row(d->seals, t, row, room, seal);
                rc = buf_reserve(out, row_bound(t, whole)) ? SQLITE_NOMEM : SQLITE_OK;
                if (rc == SQLITE_OK)
                        out->len += row_encode(t, kind, whole, out->data + out->len);
        }
        sqlite3_finalize(st);
        return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static int adopt_table(struct db *d, enum row_kind kind)
{
        struct buf b;
        size_t at;
        int rc;

        buf_init(&b, 0);
        do {
                buf_reset(&b);
                rc = collect(d, kind, &b);
                for (at = 0; at < b.len && rc == SQLITE_OK;) {
                        const struct rec *rec = (const struct rec *)(const void *)(b.data + at);

                        rc = db_write_row(d, rec);
                        at += rec->size;
                }
        } while (rc == SQLITE_OK && b.len);
        buf_fini(&b);
        return rc;
}

static int adopt(struct db *d, bool all)
{
        int rc = SQLITE_OK;

        for (int k = 0; k < ROW_KINDS && rc == SQLITE_OK; k++) {
                const struct table *t = &store_tables[k];

                if (!t->sealed)
                        continue;
                if (all)
                        rc = count_refused(d, t, false, &d->accepted);
                if (rc == SQLITE_OK && all)
                        rc = forget_seals(d, t);
                if (rc == SQLITE_OK)
                        rc = adopt_table(d, (enum row_kind)k);
        }
        return rc == SQLITE_OK ? seals_note_budgets(d) : rc;
}

/* Rows that another key has sealed: this one was made because that one is not there. */
static int count_foreign(const struct db *d, int64_t *out)
{
        int rc = SQLITE_OK;

        *out = 0;
        for (int k = 0; k < ROW_KINDS && rc == SQLITE_OK && !*out; k++)
                if (store_tables[k].sealed)
                        rc = count_refused(d, &store_tables[k], true, out);
        return rc;
}

static int adopt_whole(struct db *d, bool all)
{
        int rc = sqlite3_exec(d->h, "BEGIN IMMEDIATE", NULL, NULL, NULL);

        if (rc == SQLITE_OK)
                rc = adopt(d, all);
        if (rc == SQLITE_OK)
                rc = sqlite3_exec(d->h, "COMMIT", NULL, NULL, NULL);
        if (rc != SQLITE_OK && !sqlite3_get_autocommit(d->h))
                sqlite3_exec(d->h, "ROLLBACK", NULL, NULL, NULL);
        return rc;
}

int seals_open(struct db *d, const struct store_options *o, struct err *e)
{
        int64_t foreign = 0;
        int rc = SQLITE_OK;

        if (!d->seals)
                return 0;
        if (o->seal_key_new && !o->accept_changed)
                rc = count_foreign(d, &foreign);
        if (foreign)
                return err_set(e, E_CORRUPT,
                               "the rows of %s are sealed with a key that is not here: put rows.key beside "
                               "it from the backup; if it is lost, look through users, tokens and budgets, "
                               "and start once with --accept-changed-rows, which is written down",
                               d->path);
        if (rc == SQLITE_OK && (o->seal_key_new || o->accept_changed || d->fresh))
                rc = adopt_whole(d, o->accept_changed);
        else if (rc == SQLITE_OK)
                rc = check_budgets(d);
        return rc == SQLITE_OK ? 0 : db_error(d->h, rc, d->path, "cannot seal", e);
}

/* ---- for people ---- */

static int key_text(const struct table *t, const void *row, struct buf *out)
{
        int rc = 0;

        buf_reset(out);
        for (int i = 0; i < t->n_cols && !rc; i++) {
                const struct col *c = &t->cols[i];
                size_t n = 0;
                const void *p;

                if (!(c->flags & COL_KEY))
                        continue;
                if (c->type > COL_BLOB) {
                        rc = buf_printf(out, "%s%lld", i ? "/" : "", (long long)row_number(c, row));
                } else {
                        p = row_bytes(c, row, &n);
                        rc = buf_printf(out, "%s%.*s", i ? "/" : "", (int)(n < 200 ? n : 200),
                                        p ? (const char *)p : "");
                }
        }
        return rc ? rc : buf_put(out, "", 1);
}

static int refused_in(struct store_reader *r, const struct table *t, int limit,
                      int (*cb)(void *, const char *, const char *), void *arg, int64_t *n)
{
        _Alignas(max_align_t) uint8_t row[SEAL_ROW_MAX];
        sqlite3_stmt *st = NULL;
        struct buf key;
        int rc = select_rows(reader_handle(r), t, where_sealed(t), &st), stop = 0;

        buf_init(&key, 0);
        while (rc == SQLITE_OK && !stop && (rc = sqlite3_step(st)) == SQLITE_ROW) {
                rc = SQLITE_OK;
                row_decode(st, t, row);
                seal_look(reader_seals(r), t, row);
                if (!sealed_of(t, row)->refused || (*n)++ >= limit)
                        continue;
                stop = key_text(t, row, &key);
                if (!stop)
                        stop = cb(arg, t->name, (const char *)key.data);
        }
        buf_fini(&key);
        sqlite3_finalize(st);
        if (stop)
                return stop;
        return rc == SQLITE_DONE ? 0
                                 : db_error(reader_handle(r), rc, "hub.db", "cannot read", &(struct err){0});
}

int read_refused(struct store_reader *r, int limit, int (*cb)(void *, const char *table, const char *key),
                 void *arg, int64_t *out_n)
{
        int rc = 0;

        *out_n = 0;
        for (int k = 0; k < ROW_KINDS && !rc; k++)
                if (store_tables[k].sealed && k != ROW_LEDGER)
                        rc = refused_in(r, &store_tables[k], limit, cb, arg, out_n);
        if (!rc && !reader_budgets_whole(r)) {
                rc = *out_n < limit ? cb(arg, "budgets", "*") : 0;
                ++*out_n;
        }
        return rc;
}
