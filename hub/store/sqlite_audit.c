/* The audit as a chain: every record is sealed here, on the store thread, since
 * only here the order is final. The head moves with the commit: a transaction
 * that is rolled back and tried again is sealed again. */
#include "hub/store/store_impl.h"

#include "common/buf.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/str.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#define SALTS_LEN  (AUDIT_FIELDS * AUDITCHAIN_SALT)
#define ERASED_LEN (AUDIT_FIELDS * (1 + AUDITCHAIN_HASH)) /* per field: 1 and its digest, or zeros */
#define COLUMNS    "seq,at_us,hash,salts,erased,action,actor,object,detail"

struct audit_statements {
        sqlite3_stmt *insert, *update, *by_actor, *by_object, *last_old, *trim, *start;
};

/* ---- rows ---- */

/* Texts are lent until the next step. false: the row is not one that this program wrote. */
static bool decode(sqlite3_stmt *st, struct audit_record *r)
{
        const uint8_t *hash = sqlite3_column_blob(st, 2), *salts = sqlite3_column_blob(st, 3),
                      *erased = sqlite3_column_blob(st, 4);
        bool whole = sqlite3_column_bytes(st, 2) == AUDITCHAIN_HASH &&
                     sqlite3_column_bytes(st, 3) == SALTS_LEN &&
                     (!erased || sqlite3_column_bytes(st, 4) == ERASED_LEN);

        memset(r, 0, sizeof *r);
        r->seq = sqlite3_column_int64(st, 0);
        r->at_us = sqlite3_column_int64(st, 1);
        r->action = (const char *)sqlite3_column_text(st, 5);
        for (int f = 0; f < AUDIT_FIELDS; f++)
                r->field[f] = (const char *)sqlite3_column_text(st, 6 + f);
        if (!r->action)
                r->action = "";
        if (!whole)
                return false;
        memcpy(r->hash, hash, sizeof r->hash);
        memcpy(r->salt, salts, sizeof r->salt);
        for (int f = 0; erased && f < AUDIT_FIELDS; f++) {
                r->erased[f] = erased[f * (1 + AUDITCHAIN_HASH)] == 1;
                memcpy(r->digest[f], erased + f * (1 + AUDITCHAIN_HASH) + 1, AUDITCHAIN_HASH);
                if (r->erased[f] && r->field[f])
                        return false;
        }
        return true;
}

static bool pack_erased(const struct audit_record *r, uint8_t out[ERASED_LEN])
{
        bool any = false;

        memset(out, 0, ERASED_LEN);
        for (int f = 0; f < AUDIT_FIELDS; f++) {
                if (!r->erased[f])
                        continue;
                any = true;
                out[f * (1 + AUDITCHAIN_HASH)] = 1;
                memcpy(out + f * (1 + AUDITCHAIN_HASH) + 1, r->digest[f], AUDITCHAIN_HASH);
        }
        return any;
}

static int prepare(struct db *d, sqlite3_stmt **st, const char *sql)
{
        return *st ? SQLITE_OK : db_prepare(d->h, sql, st);
}

static int run(sqlite3_stmt *st, int rc)
{
        int reset;

        if (rc == SQLITE_OK)
                rc = sqlite3_step(st);
        reset = sqlite3_reset(st);
        sqlite3_clear_bindings(st);
        return rc == SQLITE_DONE || rc == SQLITE_ROW ? reset : rc;
}

static int bind_text(sqlite3_stmt *st, int at, const char *s)
{
        return s ? sqlite3_bind_text(st, at, s, -1, SQLITE_STATIC) : sqlite3_bind_null(st, at);
}

/* ---- adding ---- */

static int append(struct db *d, int64_t at_us, const char *action, const char *const field[AUDIT_FIELDS])
{
        struct audit_record r = {.seq = d->audit_seq_now + 1, .at_us = at_us, .action = action ? action : ""};
        sqlite3_stmt *st;
        int rc = prepare(d, &d->audit->insert,
                         "INSERT INTO audit(" COLUMNS ") VALUES(?1,?2,?3,?4,NULL,?5,?6,?7,?8)");

        if (rc != SQLITE_OK)
                return rc;
        if (getrandom(r.salt, sizeof r.salt, 0) != (ssize_t)sizeof r.salt)
                return SQLITE_IOERR;
        for (int f = 0; f < AUDIT_FIELDS; f++)
                r.field[f] = field[f];
        auditchain_seal(&r, d->audit_head_now);
        st = d->audit->insert;
        rc = sqlite3_bind_int64(st, 1, r.seq);
        rc |= sqlite3_bind_int64(st, 2, r.at_us);
        rc |= sqlite3_bind_blob(st, 3, r.hash, sizeof r.hash, SQLITE_STATIC);
        rc |= sqlite3_bind_blob(st, 4, r.salt, sizeof r.salt, SQLITE_STATIC);
        rc |= bind_text(st, 5, r.action);
        for (int f = 0; f < AUDIT_FIELDS; f++)
                rc |= bind_text(st, 6 + f, r.field[f]);
        rc = run(st, rc ? SQLITE_NOMEM : SQLITE_OK);
        if (rc == SQLITE_OK) {
                d->audit_seq_now = r.seq;
                memcpy(d->audit_head_now, r.hash, sizeof d->audit_head_now);
        }
        return rc;
}

int audit_write(struct db *d, const struct rec *rec)
{
        struct row_audit r;

        row_load(&store_tables[ROW_AUDIT], rec, &r);
        return append(d, r.at_us, r.action, (const char *const[AUDIT_FIELDS]){r.actor, r.object, r.detail});
}

void audit_committed(struct db *d)
{
        d->audit_seq = d->audit_seq_now;
        memcpy(d->audit_head, d->audit_head_now, sizeof d->audit_head);
}

void audit_rolled_back(struct db *d)
{
        d->audit_seq_now = d->audit_seq;
        memcpy(d->audit_head_now, d->audit_head, sizeof d->audit_head_now);
}

/* ---- erasing ---- */

static void erase_field(struct audit_record *r, enum audit_field f)
{
        if (r->erased[f] || !r->field[f])
                return;
        auditchain_digest(r, f, r->digest[f]);
        r->erased[f] = true;
        r->field[f] = NULL;
        memset(r->salt[f], 0, sizeof r->salt[f]);
}

/* The record's hash stays: what it covers has not changed. */
static int rewrite(struct db *d, const struct audit_record *r)
{
        uint8_t erased[ERASED_LEN];
        sqlite3_stmt *st;
        int rc = prepare(d, &d->audit->update,
                         "UPDATE audit SET salts=?2,erased=?3,actor=?4,object=?5,detail=?6 WHERE seq=?1");

        if (rc != SQLITE_OK)
                return rc;
        st = d->audit->update;
        rc = sqlite3_bind_int64(st, 1, r->seq);
        rc |= sqlite3_bind_blob(st, 2, r->salt, sizeof r->salt, SQLITE_STATIC);
        if (pack_erased(r, erased))
                rc |= sqlite3_bind_blob(st, 3, erased, sizeof erased, SQLITE_STATIC);
        for (int f = 0; f < AUDIT_FIELDS; f++)
                rc |= bind_text(st, 4 + f, r->field[f]);
        return run(st, rc ? SQLITE_NOMEM : SQLITE_OK);
}

/* One record at a time, found anew each time: the search would be disturbed by the change. */
static int erase_all(struct db *d, sqlite3_stmt **find, const char *sql, const char *text, enum audit_field f,
                     int64_t *n)
{
        int64_t after = 0;
        int rc = prepare(d, find, sql);

        while (rc == SQLITE_OK) {
                struct audit_record r;
                int step;

                rc = bind_text(*find, 1, text) | sqlite3_bind_int64(*find, 2, after);
                step = rc == SQLITE_OK ? sqlite3_step(*find) : rc;
                if (step != SQLITE_ROW) {
                        rc = run(*find, SQLITE_OK) == SQLITE_OK && step == SQLITE_DONE ? SQLITE_OK : step;
                        break;
                }
                if (!decode(*find, &r)) {
                        sqlite3_reset(*find);
                        return SQLITE_CORRUPT;
                }
                erase_field(&r, f);
                /* What the audit says of itself (where it was cut) is needed to prove it. */
                if (strncmp(r.action, "audit.", 6) != 0)
                        erase_field(&r, AUDIT_DETAIL);
                rc = rewrite(d, &r);
                after = r.seq;
                ++*n;
                sqlite3_reset(*find);
        }
        return rc;
}

int audit_erase(struct db *d, const struct rec *rec)
{
        struct row_audit_erase q;
        char detail[128];
        int64_t n = 0;
        int rc = SQLITE_OK;

        row_load(&store_audit_erase, rec, &q);
        if (q.actor)
                rc = erase_all(d, &d->audit->by_actor,
                               "SELECT " COLUMNS " FROM audit WHERE actor=?1 AND seq>?2 ORDER BY seq LIMIT 1",
                               q.actor, AUDIT_ACTOR, &n);
        if (rc == SQLITE_OK && q.object)
                rc = erase_all(d, &d->audit->by_object,
                               "SELECT " COLUMNS
                               " FROM audit WHERE object=?1 AND seq>?2 ORDER BY seq LIMIT 1",
                               q.object, AUDIT_OBJECT, &n);
        if (rc != SQLITE_OK)
                return rc;
        snprintf(detail, sizeof detail, "{\"records\":%" PRId64 ",\"actor\":%s,\"object\":%s}", n,
                 q.actor ? "true" : "false", q.object ? "true" : "false");
        return append(d, q.at_us, "audit.erase", (const char *const[AUDIT_FIELDS]){q.by, NULL, detail});
}

/* ---- removing what is old ---- */

/* The first record that stays, and the hash of the one before it. 0: nothing goes. */
static int find_cut(struct db *d, int64_t before_us, int64_t *out_cut, uint8_t hash[AUDITCHAIN_HASH])
{
        sqlite3_stmt *st;
        int rc = prepare(d, &d->audit->last_old,
                         "SELECT seq,hash FROM audit WHERE seq=(SELECT COALESCE("
                         "(SELECT MIN(seq) FROM audit WHERE at_us>=?1),(SELECT MAX(seq) FROM audit))-1)");
        int step;

        *out_cut = 0;
        if (rc != SQLITE_OK)
                return rc;
        st = d->audit->last_old;
        rc = sqlite3_bind_int64(st, 1, before_us);
        step = rc == SQLITE_OK ? sqlite3_step(st) : rc;
        if (step == SQLITE_ROW && sqlite3_column_bytes(st, 1) == AUDITCHAIN_HASH) {
                *out_cut = sqlite3_column_int64(st, 0) + 1;
                memcpy(hash, sqlite3_column_blob(st, 1), AUDITCHAIN_HASH);
        }
        sqlite3_reset(st);
        return step == SQLITE_ROW || step == SQLITE_DONE ? SQLITE_OK : step;
}

int audit_trim(struct db *d, const struct rec *rec)
{
        uint8_t hash[AUDITCHAIN_HASH];
        struct row_audit_trim q;
        char hex[2 * AUDITCHAIN_HASH + 1], detail[192];
        int64_t cut;
        int rc;

        row_load(&store_audit_trim, rec, &q);
        rc = find_cut(d, q.before_us, &cut, hash);
        if (rc != SQLITE_OK || cut == 0)
                return rc;
        rc = prepare(d, &d->audit->trim, "DELETE FROM audit WHERE seq<?1");
        if (rc == SQLITE_OK)
                rc = sqlite3_bind_int64(d->audit->trim, 1, cut);
        if (rc == SQLITE_OK)
                rc = run(d->audit->trim, rc);
        if (rc == SQLITE_OK)
                rc = prepare(d, &d->audit->start, "INSERT OR REPLACE INTO audit_start VALUES(1,?1,?2)");
        if (rc == SQLITE_OK)
                rc = sqlite3_bind_int64(d->audit->start, 1, cut - 1) |
                     sqlite3_bind_blob(d->audit->start, 2, hash, sizeof hash, SQLITE_STATIC);
        if (rc == SQLITE_OK)
                rc = run(d->audit->start, rc);
        if (rc != SQLITE_OK)
                return rc;
        str_hex(hash, sizeof hash, hex);
        snprintf(detail, sizeof detail, "{\"after_seq\":%" PRId64 ",\"after_hash\":\"%s\"}", cut - 1, hex);
        return append(d, q.at_us, "audit.trim", (const char *const[AUDIT_FIELDS]){q.by, NULL, detail});
}

/* ---- the beginning ---- */

static int adopt_rows(struct db *d)
{
        sqlite3_stmt *st = NULL;
        int rc = db_prepare(d->h, "SELECT at_us,action,actor,object,detail FROM audit_unchained ORDER BY seq",
                            &st);
        int step = SQLITE_DONE;

        while (rc == SQLITE_OK && (step = sqlite3_step(st)) == SQLITE_ROW) {
                const char *field[AUDIT_FIELDS];

                for (int f = 0; f < AUDIT_FIELDS; f++)
                        field[f] = (const char *)sqlite3_column_text(st, 2 + f);
                rc = append(d, sqlite3_column_int64(st, 0), (const char *)sqlite3_column_text(st, 1), field);
        }
        sqlite3_finalize(st);
        if (rc == SQLITE_OK && step != SQLITE_DONE)
                rc = step;
        return rc == SQLITE_OK ? sqlite3_exec(d->h, "DROP TABLE audit_unchained", NULL, NULL, NULL) : rc;
}

/* Once in the life of a database that is older than the chain. */
static int adopt(struct db *d, struct err *e)
{
        sqlite3_stmt *st = NULL;
        int rc = db_prepare(d->h, "SELECT 1 FROM sqlite_master WHERE type='table' AND name='audit_unchained'",
                            &st);
        bool there = rc == SQLITE_OK && sqlite3_step(st) == SQLITE_ROW;

        sqlite3_finalize(st);
        if (rc != SQLITE_OK)
                return db_error(d->h, rc, d->path, "cannot read", e);
        if (!there)
                return 0;
        rc = sqlite3_exec(d->h, "BEGIN IMMEDIATE", NULL, NULL, NULL);
        if (rc == SQLITE_OK)
                rc = adopt_rows(d);
        if (rc == SQLITE_OK)
                rc = sqlite3_exec(d->h, "COMMIT", NULL, NULL, NULL);
        if (rc == SQLITE_OK) {
                audit_committed(d);
                return 0;
        }
        rc = db_error(d->h, rc, d->path, "cannot chain the audit", e);
        sqlite3_exec(d->h, "ROLLBACK", NULL, NULL, NULL);
        return rc;
}

static int load_head(struct db *d, struct err *e)
{
        sqlite3_stmt *st = NULL;
        int rc = db_prepare(d->h, "SELECT seq,hash FROM audit ORDER BY seq DESC LIMIT 1", &st);
        int step = rc == SQLITE_OK ? sqlite3_step(st) : rc;

        if (step == SQLITE_ROW) {
                d->audit_seq = sqlite3_column_int64(st, 0);
                /* A damaged one is found by audit_verify; what follows it must not pretend to follow. */
                if (sqlite3_column_bytes(st, 1) == AUDITCHAIN_HASH)
                        memcpy(d->audit_head, sqlite3_column_blob(st, 1), AUDITCHAIN_HASH);
                else
                        memset(d->audit_head, 0xff, AUDITCHAIN_HASH);
        }
        sqlite3_finalize(st);
        audit_rolled_back(d);
        return step == SQLITE_ROW || step == SQLITE_DONE ? 0
                                                         : db_error(d->h, step, d->path, "cannot read", e);
}

int audit_open(struct db *d, struct err *e)
{
        int rc;

        d->audit = mem_calloc(1, sizeof *d->audit);
        if (!d->audit)
                return err_set(e, E_NOMEM, "out of memory");
        rc = load_head(d, e);
        return rc ? rc : adopt(d, e);
}

void audit_finalize(struct db *d)
{
        sqlite3_stmt **st = (sqlite3_stmt **)(void *)d->audit;

        for (size_t i = 0; st && i < sizeof *d->audit / sizeof *st; i++)
                sqlite3_finalize(st[i]);
        mem_free(d->audit);
        d->audit = NULL;
}

/* ---- reading ---- */

static int read_failed(sqlite3 *h, int sqlite_rc)
{
        struct err e = {0};
        int rc = db_error(h, sqlite_rc, "the audit", "cannot read", &e);

        log_error("store", "cannot read", "reason=\"%s\"", e.msg);
        return rc;
}

int read_audit(struct store_reader *r, const struct audit_filter *f,
               int (*cb)(void *, const struct audit_record *), void *arg)
{
        static const char *const sql[] = {
                "SELECT " COLUMNS " FROM audit WHERE seq>?1 AND (?3 IS NULL OR actor=?3) AND"
                " (?4 IS NULL OR action=?4) ORDER BY seq LIMIT ?2",
                "SELECT " COLUMNS " FROM audit WHERE seq<?1 AND (?3 IS NULL OR actor=?3) AND"
                " (?4 IS NULL OR action=?4) ORDER BY seq DESC LIMIT ?2",
        };
        sqlite3 *h = reader_handle(r);
        struct audit_record row;
        sqlite3_stmt *st = NULL;
        int rc = db_prepare(h, sql[f->newest_first], &st);
        int step = SQLITE_DONE;

        if (rc != SQLITE_OK)
                return read_failed(h, rc);
        sqlite3_bind_int64(st, 1, f->newest_first && f->after_seq == 0 ? INT64_MAX : f->after_seq);
        sqlite3_bind_int64(st, 2, f->limit > 0 ? f->limit : -1);
        bind_text(st, 3, f->actor);
        bind_text(st, 4, f->action);
        while (rc == 0 && (step = sqlite3_step(st)) == SQLITE_ROW) {
                if (!decode(st, &row))
                        memset(row.hash, 0, sizeof row.hash); /* fits nothing: the check will say so */
                rc = cb(arg, &row);
        }
        sqlite3_finalize(st);
        return rc == 0 && step != SQLITE_DONE ? read_failed(h, step) : rc;
}

int read_audit_start(struct store_reader *r, int64_t *after_seq, uint8_t after_hash[AUDITCHAIN_HASH])
{
        sqlite3 *h = reader_handle(r);
        sqlite3_stmt *st = NULL;
        int rc = db_prepare(h, "SELECT after_seq,after_hash FROM audit_start WHERE id=1", &st);
        int step = rc == SQLITE_OK ? sqlite3_step(st) : rc;

        *after_seq = 0;
        memset(after_hash, 0, AUDITCHAIN_HASH);
        if (step == SQLITE_ROW && sqlite3_column_bytes(st, 1) == AUDITCHAIN_HASH) {
                *after_seq = sqlite3_column_int64(st, 0);
                memcpy(after_hash, sqlite3_column_blob(st, 1), AUDITCHAIN_HASH);
        }
        sqlite3_finalize(st);
        return step == SQLITE_ROW || step == SQLITE_DONE ? 0 : read_failed(h, step);
}

struct verify {
        int64_t *records, *last_seq;
        uint8_t *head;
        char start[2 * AUDITCHAIN_HASH + 1]; /* what the database says it begins with; "": with the first */
        bool start_named;                    /* a record of a removal names it */
        struct err *e;
};

static int verify_one(void *arg, const struct audit_record *r)
{
        struct verify *v = arg;
        int rc;

        if (r->seq != *v->last_seq + 1)
                return err_set(v->e, E_CORRUPT,
                               "audit record %" PRId64 " comes where %" PRId64
                               " was expected: records are missing, or were put in",
                               r->seq, *v->last_seq + 1);
        rc = auditchain_check(r, v->head, v->e);
        if (rc)
                return rc;
        if (strcmp(r->action, "audit.trim") == 0 && r->field[AUDIT_DETAIL] &&
            strstr(r->field[AUDIT_DETAIL], v->start))
                v->start_named = true;
        ++*v->records;
        *v->last_seq = r->seq;
        memcpy(v->head, r->hash, AUDITCHAIN_HASH);
        return 0;
}

static int take_hash(void *arg, const struct audit_record *r)
{
        memcpy(arg, r->hash, AUDITCHAIN_HASH);
        return 0;
}

int audit_verify(struct store_reader *r, int64_t from_seq, int64_t *records, int64_t *last_seq,
                 uint8_t head[AUDITCHAIN_HASH], struct err *e)
{
        struct verify v = {.records = records, .last_seq = last_seq, .head = head, .e = e};
        struct audit_filter f = {.after_seq = from_seq}, one = {.after_seq = from_seq - 1, .limit = 1};
        int64_t after;
        int rc;

        *records = 0;
        rc = read_audit_start(r, last_seq, head);
        after = *last_seq;
        str_hex(head, AUDITCHAIN_HASH, v.start);
        if (from_seq > after) {
                *last_seq = from_seq;
                if (!rc)
                        rc = read_audit(r, &one, take_hash, head);
                after = 0; /* what names the start may lie before it */
        }
        if (!rc)
                rc = read_audit(r, &f, verify_one, &v);
        if (!rc && after > 0 && !v.start_named)
                rc = err_set(e, E_CORRUPT,
                             "audit record %" PRId64
                             " and all before it are missing, and no record says that they were removed",
                             after);
        return rc && !e->code ? err_set(e, -rc, "the audit cannot be read") : rc;
}
