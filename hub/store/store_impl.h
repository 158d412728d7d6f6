/* Inside of the store: what its files share. Nobody else includes this.
 *
 *   store.c         the public side: rows become records in a transaction's arena (loop thread)
 *   rows.c          the tables: one list of columns each, from which records, SQL and reading follow
 *   worker.c        the queue, the thread, group commit, trying again (store thread)
 *   sqlite_open.c   open, check, migrate, close; what SQLite's errors mean for people
 *   sqlite_write.c  runs the records of a batch as one database transaction
 *   sqlite_read.c   read-only handles
 *   sqlite_audit.c  the audit's chain: written in the order of the commits, read, checked, erased, cut
 *   sqlite_seal.c   which rows are as this hub wrote them
 *   sqlite_vault.c  what is asked of sealed secrets: removed without a trace, sealed anew
 *   schema.c        the migrations
 *
 * A record is a struct rec, then the values of the columns in its mask in
 * order: numbers as 8 bytes; texts and blobs as u32 length, bytes, NUL, padded
 * to 8. SQLite binds texts where they lie, so a transaction is one allocation
 * however many rows it has, and nothing is copied twice. */
#ifndef PHOTON_STORE_IMPL_H
#define PHOTON_STORE_IMPL_H

#include <pthread.h>
#include <sqlite3.h>

#include "common/auditchain.h"
#include "common/err.h"
#include "common/mailbox.h"
#include "hub/store/store.h"

/* ---- rows.c ---- */

enum col_type {
        COL_TEXT,
        COL_BLOB, /* pointer at off, size_t length at off2 */
        COL_I64,  /* also uint64_t: the bits are kept */
        COL_U32,  /* also the enums */
        COL_I32,
        COL_BOOL,
        COL_OPT_I32, /* int32_t at off, bool "has" at off2; else NULL */
        COL_STEP_KEY /* int64_t run_seq at off, uint32_t idx at off2: see STEP_KEY */
};

/* Steps are found by one integer, so that they sit in the order of their run
 * in a rowid table, which SQLite searches and overwrites fastest. */
#define STEP_KEY_IDX_BITS      24
#define STEP_KEY(run_seq, idx) (((run_seq) << STEP_KEY_IDX_BITS) | (int64_t)(idx))

enum col_flag {
        COL_KEY = 1,    /* part of the primary key: never updated */
        COL_ALWAYS = 2, /* a move sets it even when it is 0 */
        COL_CLEAR = 4   /* a move with `clear` empties it */
};

struct col {
        const char *name;
        uint8_t type;
        uint8_t flags;
        uint16_t off, off2;
};

enum row_kind {
        ROW_RUN,
        ROW_STEP,
        ROW_ATTEMPT,
        ROW_DEF,
        ROW_SMALL_OUTPUT,
        ROW_EVENTS,
        ROW_AGENT,
        ROW_JOIN_TOKEN,
        ROW_REDEMPTION,
        ROW_API_TOKEN,
        ROW_PROJECT,
        ROW_USER,
        ROW_MODEL,
        ROW_IDEMPOTENCY,
        ROW_AUDIT,
        ROW_META,
        ROW_MARKS,
        ROW_CHECKPOINT,
        ROW_VAULT,
        ROW_VAULT_KEY,
        ROW_SECRET,
        ROW_SECRET_VERSION,
        ROW_LEDGER,
        ROW_BUDGET,
        ROW_BUDGET_RAISE,
        ROW_NOTICE,
        ROW_TOKEN_USE,
        ROW_KINDS,
        ROW_STEP_MOVE = ROW_KINDS, /* the kinds from here on are no table's rows */
        ROW_SYNC_FD,               /* one number: the descriptor */
        ROW_TRIM_EVENTS,           /* one number: the newest id to go */
        ROW_TRIM_IDEMPOTENCY,      /* one number: the newest time to go */
        ROW_TRIM_NOTICES,          /* the same, of those that are done */
        ROW_AUDIT_ERASE,           /* struct row_audit_erase */
        ROW_AUDIT_TRIM,            /* struct row_audit_trim */
        ROW_SECRET_CUT,            /* struct row_secret_cut */
        ROW_SECRET_RESEAL,         /* struct row_secret_reseal */
        ROW_VAULT_KEY_DROP,        /* one number: the key, if nothing is sealed under it */
};

enum on_conflict { CONFLICT_REPLACE, CONFLICT_UPDATE, CONFLICT_IGNORE, CONFLICT_NONE };

struct table {
        const char *name;
        const struct col *cols;
        int n_cols;
        enum on_conflict conflict;
        uint16_t row_size, sealed; /* where its struct row_sealed is; 0: rows have no seal */
};

extern const struct table store_tables[ROW_KINDS];
extern const struct table store_audit_erase, store_audit_trim;
extern const struct table store_secret_cut, store_secret_reseal;
extern const struct table store_step_moves; /* the columns that a move can set, and the key last */

/* Rows that have no struct in store.h. */
struct row_def {
        const char *sha256;
        const void *text;
        size_t n;
};
struct row_small_output {
        uint64_t attempt_id;
        const void *framed;
        size_t n;
};
struct row_events {
        const char *run_id;
        int64_t first_id, last_id;
        const void *lines;
        size_t n;
};
struct row_idempotency {
        const char *key, *token_id, *request_sha256, *body;
        int status;
        int64_t at_us;
};
struct row_audit {
        int64_t at_us;
        const char *actor, *action, *object, *detail;
};
struct row_audit_erase {
        int64_t at_us;
        const char *by, *actor, *object; /* the last two: what is to be erased, or NULL */
};
struct row_audit_trim {
        int64_t at_us, before_us;
        const char *by;
};
struct row_secret_cut {
        const char *project, *name;
        int64_t below; /* versions below go; 0: all, and the secret */
};
struct row_secret_reseal {
        const char *project, *name;
        int64_t version, from_key, key_id;
        const void *sealed;
        size_t sealed_len;
};
struct row_meta {
        const char *key, *value;
        struct row_sealed sealed;
};
struct row_marks {
        int64_t id, attempt_id;
};

struct rec {
        uint32_t size; /* with this header; a multiple of 8 */
        uint8_t kind;
        uint8_t clear; /* moves only */
        uint16_t zero;
        uint64_t mask; /* bit i: column i has a value here */
};

/* Upper bound of the record's size; encode writes exactly the size it returns. */
size_t row_bound(const struct table *t, const void *row);
size_t row_encode(const struct table *t, enum row_kind kind, const void *row, uint8_t *out);
/* The contrary: texts point into the record. */
void row_load(const struct table *t, const struct rec *rec, void *row);
/* Binds every column: ?1 is column 0. The record must outlive the step. */
int row_bind_all(sqlite3_stmt *st, const struct table *t, const struct rec *rec);
/* Binds only the columns in the mask, ?1 the first of them. */
int row_bind_mask(sqlite3_stmt *st, const struct table *t, const struct rec *rec);
/* Fills the struct from a row of `SELECT <row_columns>`; texts are lent until the next step. */
void row_decode(sqlite3_stmt *st, const struct table *t, void *row);
/* One column of a row: numbers, and what has bytes (NULL: absent). */
int64_t row_number(const struct col *c, const uint8_t *row);
const void *row_bytes(const struct col *c, const uint8_t *row, size_t *out_n);
char *row_columns(const struct table *t);                               /* "a,b,c"; mem_free */
char *row_insert_sql(const struct table *t);                            /* mem_free */
char *row_update_sql(const struct table *t, uint64_t mask, bool clear); /* mem_free */

/* ---- schema.c ---- */

#define STORE_APPLICATION_ID 0x50484f54      /* "PHOT" */
extern const char *const store_migrations[]; /* number i brings schema i to i + 1; NULL ends */
int store_schema_version(void);              /* what this program knows */

/* ---- sqlite_open.c ---- */

#define UPDATE_CACHE  64
#define WAL_PAGES_MAX ((15 << 20) / (4096 + 24)) /* fits what sqlite_open.c prepares */

struct db {
        sqlite3 *h;
        char *path;
        sqlite3_stmt *begin, *commit, *trim_events, *trim_idempotency, *trim_notices;
        sqlite3_stmt *put[ROW_KINDS]; /* prepared at first use, kept */
        struct {
                uint64_t mask; /* with bit 63 for clear */
                sqlite3_stmt *st;
        } update[UPDATE_CACHE];
        const struct mac *seals; /* NULL: nothing is sealed */
        bool fresh;              /* made by this opening */
        bool budgets_broken;     /* not all there, or not the newest: nothing says otherwise but a person */
        bool budgets_written;    /* by this transaction */
        int64_t accepted;
        int64_t attempt_bound; /* as committed: no attempt has a higher id */
        int wal_pages;         /* since the last checkpoint, by the WAL hook */
        int checkpoint_at;     /* so many, and they go into the database between two commits */
        bool checkpoint_failed;
        /* The audit's last record: as committed, and with what this transaction has added. */
        int64_t audit_seq, audit_seq_now;
        uint8_t audit_head[AUDITCHAIN_HASH], audit_head_now[AUDITCHAIN_HASH];
        struct audit_statements *audit;
        int *fds; /* scratch of db_commit: descriptors to sync */
        size_t n_fds, cap_fds;
};

int db_open(struct db *d, const char *dir, bool create, struct err *e); /* not the seals */
void db_close(struct db *d, bool clean);
/* Fills e from the handle's last error, naming the file and what to do. Returns -E_*. */
int db_error(sqlite3 *h, int sqlite_rc, const char *path, const char *doing, struct err *e);
int db_prepare(sqlite3 *h, const char *sql, sqlite3_stmt **out); /* an SQLite code */

/* ---- sqlite_audit.c ---- */

/* Chains the records of before there was a chain, and finds the last one. */
int audit_open(struct db *d, struct err *e);
void audit_finalize(struct db *d);
int audit_write(struct db *d, const struct rec *rec); /* an SQLite code, as all below */
int audit_erase(struct db *d, const struct rec *rec);
int audit_trim(struct db *d, const struct rec *rec);
void audit_committed(struct db *d);
void audit_rolled_back(struct db *d);

/* ---- sqlite_seal.c ---- */

#define SEAL_LEN     16
#define SEAL_ROW_MAX 512 /* a sealed row's struct */

/* Copies the row to room with its seal, which is written to `out`; returns the copy. Any thread. */
const void *seal_row(const struct mac *m, const struct table *t, const void *row, uint8_t room[SEAL_ROW_MAX],
                     uint8_t out[SEAL_LEN]);
/* Says in a row that was read whether it holds. m NULL: it does. Any thread. */
void seal_look(const struct mac *m, const struct table *t, void *row);
/* Seals what is older than the key, or all (store_options); otherwise looks whether the budgets are whole. */
int seals_open(struct db *d, const struct store_options *o, struct err *e);
/* In a transaction that wrote budgets: notes what there is. An SQLite code. */
int seals_note_budgets(struct db *d);

/* ---- sqlite_vault.c ---- */

int secret_cut_rows(struct db *d, const struct rec *rec); /* an SQLite code, as all below */
int secret_reseal_row(struct db *d, const struct rec *rec);
int vault_key_drop_row(struct db *d, const struct rec *rec);

/* ---- sqlite_read.c ---- */

sqlite3 *reader_handle(struct store_reader *r);
const struct mac *reader_seals(const struct store_reader *r);
bool reader_budgets_whole(const struct store_reader *r);

/* ---- sqlite_write.c ---- */

/* All transactions from `first` on, as one; nothing happened on failure. *out_rows: rows written. */
int db_write_row(struct db *d, const struct rec *rec); /* an SQLite code */
int db_commit(struct db *d, const struct store_tx *first, uint64_t *out_rows, struct err *e);
enum db_leisure { DB_BUSY, DB_PAUSES, DB_IDLE };
/* Is the WAL long enough to be copied into the database, with so little to do? */
bool db_wants_checkpoint(const struct db *d, enum db_leisure leisure);
void db_checkpoint(struct db *d);
void db_finalize_writes(struct db *d);

/* ---- store.c and worker.c ---- */

struct store_tx {
        struct mail mail; /* of the first in a batch: brings the batch back to the loop */
        struct store_tx *next;
        struct store *store;
        void (*on_done)(void *arg);
        void *arg;
        uint8_t *data; /* records */
        size_t len, cap;
        uint64_t rows;
        bool has_fds;
        int64_t attempt_id; /* the highest in here */
};

struct store {
        struct mailbox *mailbox; /* NULL: store_pump */
        struct mac *seals;       /* never changed: any thread may sum with it */
        struct db db;            /* the worker's (store_pump's caller's without a worker) */
        pthread_t thread;
        bool has_thread;

        pthread_mutex_t lock; /* guards the fields down to `stats`; held for a few instructions only */
        pthread_cond_t wake;  /* CLOCK_MONOTONIC: work, or stop */
        struct store_tx *first, **last;
        bool stop;
        struct err health; /* code 0: well */
        struct store_stats stats;

        /* Loop thread only. */
        struct store_tx *spare; /* empty transactions with their memory, for the next turn */
        unsigned n_spare;
        unsigned long out; /* transactions begun and not yet back: the struct outlives them */
        bool closed;
};

/* Commits the whole queue, taking it from the store. Returns the batch that is durable, in order, or NULL
 * with the queue as it was. Tries again until it works unless `once`. Worker thread, or the pump's caller. */
struct store_tx *worker_commit_queue(struct store *s, bool once);
int worker_start(struct store *s, struct err *e);
void worker_stop(struct store *s);
/* Runs the callbacks of a durable batch. Loop thread. */
void store_deliver(struct store_tx *first);
/* The store cannot lose a row and has no memory to hold it: ends the process; a restart goes on from what is
 * durable. */
void store_no_memory(void) __attribute__((noreturn));

#endif
