/* Read-only handles: each its own connection, so readers neither wait for the
 * writer nor hold it up, and see whole transactions that are durable. */
#include "hub/store/store_impl.h"

#include "common/log.h"
#include "common/mem.h"
#include "common/str.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum query {
        Q_META,
        Q_RUN,
        Q_STEPS,
        Q_STEP,
        Q_ATTEMPTS,
        Q_DEF,
        Q_SMALL_OUTPUT,
        Q_EVENTS,
        Q_EVENTS_OF_RUN,
        Q_EVENTS_OLDEST,
        Q_AGENTS,
        Q_JOIN_TOKENS,
        Q_REDEMPTIONS,
        Q_PROJECTS,
        Q_PROJECT,
        Q_USERS,
        Q_USER,
        Q_TOKEN_USE,
        Q_MODELS,
        Q_API_TOKENS,
        Q_API_TOKEN,
        Q_API_TOKEN_BY_ID,
        Q_IDEMPOTENCY,
        Q_CHECKPOINT,
        Q_CHECKPOINTS,
        Q_CHECKPOINTS_OPEN,
        Q_CHECKPOINTS_STATE,
        Q_CHECKPOINTS_RUN,
        Q_CHECKPOINTS_LIVE,
        Q_CHECKPOINT_NEWEST,
        Q_VAULT,
        Q_VAULT_KEYS,
        Q_SECRET,
        Q_SECRETS,
        Q_SECRET_VERSION,
        Q_SECRETS_NOT_UNDER,
        QUERIES
};

#define IN_PROJECTS " AND (?5 IS NULL OR project IN (SELECT value FROM json_each(?5)))"

/* What follows `SELECT columns FROM table`. */
static const struct {
        enum row_kind kind;
        const char *tail;
} queries[QUERIES] = {
        [Q_META] = {ROW_META, "WHERE key=?1"},
        [Q_RUN] = {ROW_RUN, "WHERE id=?1"},
        [Q_STEPS] = {ROW_STEP, "WHERE key BETWEEN ?1 AND ?2 ORDER BY key"},
        [Q_STEP] = {ROW_STEP, "WHERE key BETWEEN ?1 AND ?2 AND id=?3"},
        [Q_ATTEMPTS] = {ROW_ATTEMPT, "WHERE step BETWEEN ?1 AND ?2 ORDER BY step,attempt"},
        [Q_DEF] = {ROW_DEF, "WHERE sha256=?1"},
        [Q_SMALL_OUTPUT] = {ROW_SMALL_OUTPUT, "WHERE attempt_id=?1"},
        [Q_EVENTS] = {ROW_EVENTS, "WHERE last_id>?1 ORDER BY last_id"},
        [Q_EVENTS_OF_RUN] = {ROW_EVENTS, "WHERE run_id=?2 AND last_id>?1 ORDER BY last_id"},
        [Q_EVENTS_OLDEST] = {ROW_EVENTS, "ORDER BY last_id LIMIT 1"},
        [Q_AGENTS] = {ROW_AGENT, "ORDER BY created_us,id"},
        [Q_JOIN_TOKENS] = {ROW_JOIN_TOKEN, "ORDER BY created_us,id"},
        [Q_REDEMPTIONS] = {ROW_REDEMPTION, "ORDER BY at_us"},
        [Q_PROJECTS] = {ROW_PROJECT, "ORDER BY name"},
        [Q_PROJECT] = {ROW_PROJECT, "WHERE name=?1"},
        [Q_USERS] = {ROW_USER, "ORDER BY name"},
        [Q_USER] = {ROW_USER, "WHERE id=?1"},
        [Q_TOKEN_USE] = {ROW_TOKEN_USE, "WHERE id=?1"},
        [Q_MODELS] = {ROW_MODEL, "ORDER BY updated_us"},
        [Q_API_TOKENS] = {ROW_API_TOKEN, "ORDER BY created_us,id"},
        [Q_API_TOKEN_BY_ID] = {ROW_API_TOKEN, "WHERE id=?1"},
        [Q_API_TOKEN] = {ROW_API_TOKEN, "WHERE sha256=?1"},
        [Q_IDEMPOTENCY] = {ROW_IDEMPOTENCY, "WHERE token_id=?1 AND key=?2"},
        [Q_CHECKPOINT] = {ROW_CHECKPOINT, "WHERE id=?1"},
        [Q_CHECKPOINTS] = {ROW_CHECKPOINT, "WHERE seq<?1" IN_PROJECTS " ORDER BY seq DESC LIMIT ?2"},
        /* A literal: the partial index is used only for that. */
        [Q_CHECKPOINTS_OPEN] = {ROW_CHECKPOINT,
                                "WHERE state=0 AND seq<?1" IN_PROJECTS " ORDER BY seq DESC LIMIT ?2"},
        [Q_CHECKPOINTS_STATE] = {ROW_CHECKPOINT,
                                 "WHERE state=?3 AND seq<?1" IN_PROJECTS " ORDER BY seq DESC LIMIT ?2"},
        [Q_CHECKPOINTS_RUN] = {ROW_CHECKPOINT,
                               "WHERE run_seq=?4 AND (?3<0 OR state=?3) AND seq<?1" IN_PROJECTS
                               " ORDER BY seq DESC LIMIT ?2"},
        [Q_CHECKPOINTS_LIVE] = {ROW_CHECKPOINT, "WHERE live=1 ORDER BY seq"},
        [Q_CHECKPOINT_NEWEST] = {ROW_CHECKPOINT, "ORDER BY seq DESC LIMIT 1"},
        [Q_VAULT] = {ROW_VAULT, "WHERE id=1"},
        [Q_VAULT_KEYS] = {ROW_VAULT_KEY, "ORDER BY id"},
        [Q_SECRET] = {ROW_SECRET, "WHERE project=?1 AND name=?2"},
        [Q_SECRETS] = {ROW_SECRET, "WHERE ?1 IS NULL OR project=?1 ORDER BY project,name"},
        [Q_SECRET_VERSION] = {ROW_SECRET_VERSION,
                              "WHERE project=?1 AND name=?2 AND (?3=0 OR version=?3) ORDER BY version"},
        [Q_SECRETS_NOT_UNDER] = {ROW_SECRET_VERSION, "WHERE key_id<>?1 LIMIT ?2"},
};

/* Lists of runs: each combination of filters is a statement of its own, with
 * states and kinds as literals, since partial indexes are used only for those. */
#define RUN_STATE_ANY RUN_STATE_COUNT
enum run_kind_filter { KIND_ANY, KIND_RUN, KIND_CALL, KIND_FILTERS };

struct store_reader {
        const struct store *store;
        sqlite3 *h;
        char *path;
        sqlite3_stmt *st[QUERIES];
        sqlite3_stmt *max;
        sqlite3_stmt
                *runs[RUN_STATE_COUNT + 1][KIND_FILTERS][2 /* workflow */][2 /* active */][2 /* projects */];
        sqlite3_stmt *run_project;
};

int store_reader_open(struct store *s, struct store_reader **out, struct err *e)
{
        struct store_reader *r = mem_calloc(1, sizeof *r);
        int rc;

        if (!r)
                return err_set(e, E_NOMEM, "out of memory");
        r->store = s;
        r->path = mem_strdup(s->db.path);
        if (!r->path) {
                store_reader_close(r);
                return err_set(e, E_NOMEM, "out of memory");
        }
        rc = sqlite3_open_v2(r->path, &r->h,
                             SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE, NULL);
        if (rc == SQLITE_OK) {
                sqlite3_extended_result_codes(r->h, 1);
                sqlite3_busy_timeout(r->h, 5000);
                rc = sqlite3_exec(r->h,
                                  "PRAGMA query_only=ON; PRAGMA cache_size=-512; PRAGMA mmap_size=0;"
                                  "PRAGMA temp_store=MEMORY; PRAGMA trusted_schema=OFF;",
                                  NULL, NULL, NULL);
        }
        if (rc != SQLITE_OK) {
                rc = db_error(r->h, rc, r->path, "cannot open for reading", e);
                store_reader_close(r);
                return rc;
        }
        *out = r;
        return 0;
}

void store_reader_close(struct store_reader *r)
{
        if (!r)
                return;
        for (int i = 0; i < QUERIES; i++)
                sqlite3_finalize(r->st[i]);
        sqlite3_finalize(r->max);
        sqlite3_finalize(r->run_project);
        for (size_t i = 0; i < sizeof r->runs / sizeof(sqlite3_stmt *); i++)
                sqlite3_finalize((&r->runs[0][0][0][0][0])[i]);
        sqlite3_close(r->h);
        mem_free(r->path);
        mem_free(r);
}

sqlite3 *reader_handle(struct store_reader *r)
{
        return r->h;
}

const struct mac *reader_seals(const struct store_reader *r)
{
        return r->store->seals;
}

bool reader_budgets_whole(const struct store_reader *r)
{
        return store_budgets_whole(r->store);
}

/* ---- statements ---- */

/* The callers have no place for words, so they end in the log. */
static int failed(struct store_reader *r, int sqlite_rc)
{
        struct err e = {0};
        int rc = db_error(r->h, sqlite_rc, r->path, "cannot read", &e);

        log_error("store", "cannot read", "reason=\"%s\"", e.msg);
        return rc;
}

static int prepare_select(struct store_reader *r, const struct table *t, const char *tail, sqlite3_stmt **st)
{
        char *cols = row_columns(t);
        char *sql = cols ? str_printf("SELECT %s FROM %s %s", cols, t->name, tail) : NULL;
        int rc = sql ? db_prepare(r->h, sql, st) : SQLITE_NOMEM;

        mem_free(sql);
        mem_free(cols);
        return rc == SQLITE_OK ? 0 : failed(r, rc);
}

static int start(struct store_reader *r, enum query q, sqlite3_stmt **out)
{
        int rc = 0;

        if (!r->st[q])
                rc = prepare_select(r, &store_tables[queries[q].kind], queries[q].tail, &r->st[q]);
        /* A callback must not ask its own question again on the same handle. */
        assert(rc || !sqlite3_stmt_busy(r->st[q]));
        *out = r->st[q];
        return rc;
}

/* 1: a row is in *row; 0: no more; -E_*. */
static int next(struct store_reader *r, sqlite3_stmt *st, enum row_kind kind, void *row)
{
        int rc = sqlite3_step(st);

        if (rc == SQLITE_ROW) {
                row_decode(st, &store_tables[kind], row);
                seal_look(r->store->seals, &store_tables[kind], row);
                return 1;
        }
        return rc == SQLITE_DONE ? 0 : failed(r, rc);
}

static int finish(sqlite3_stmt *st, int rc)
{
        sqlite3_reset(st);
        sqlite3_clear_bindings(st);
        return rc;
}

static void bind_text(sqlite3_stmt *st, int at, const char *s)
{
        sqlite3_bind_text(st, at, s, -1, SQLITE_STATIC); /* the caller's until finish */
}

/* ---- small things ---- */

static int copy_out(const void *p, size_t n, char **out, size_t *out_n)
{
        char *copy = mem_alloc(n + 1);

        if (!copy)
                return -E_NOMEM;
        if (n)
                memcpy(copy, p, n);
        copy[n] = '\0';
        *out = copy;
        if (out_n)
                *out_n = n;
        return 0;
}

int read_meta(struct store_reader *r, const char *key, char **out)
{
        struct row_meta row;
        sqlite3_stmt *st;
        int rc = start(r, Q_META, &st);

        if (rc)
                return rc;
        bind_text(st, 1, key);
        rc = next(r, st, ROW_META, &row);
        if (rc == 1 && row.sealed.refused)
                rc = -E_DENIED;
        else if (rc == 1)
                rc = row.value ? copy_out(row.value, strlen(row.value), out, NULL) : -E_NOENT;
        else if (rc == 0)
                rc = -E_NOENT;
        return finish(st, rc);
}

int read_def(struct store_reader *r, const char *sha256_hex, char **out, size_t *n)
{
        struct row_def row;
        sqlite3_stmt *st;
        int rc = start(r, Q_DEF, &st);

        if (rc)
                return rc;
        bind_text(st, 1, sha256_hex);
        rc = next(r, st, ROW_DEF, &row);
        if (rc == 1)
                rc = copy_out(row.text, row.n, out, n);
        else if (rc == 0)
                rc = -E_NOENT;
        return finish(st, rc);
}

int read_small_output(struct store_reader *r, uint64_t attempt_id, char **out, size_t *n)
{
        struct row_small_output row;
        sqlite3_stmt *st;
        int rc = start(r, Q_SMALL_OUTPUT, &st);

        if (rc)
                return rc;
        sqlite3_bind_int64(st, 1, (int64_t)attempt_id);
        rc = next(r, st, ROW_SMALL_OUTPUT, &row);
        if (rc == 1)
                rc = copy_out(row.framed, row.n, out, n);
        else if (rc == 0)
                rc = -E_NOENT;
        return finish(st, rc);
}

int read_idempotency(struct store_reader *r, const char *key, const char *token_id, char **out_request_sha256,
                     int *status, char **out_body)
{
        struct row_idempotency row;
        char *sha = NULL, *body = NULL;
        sqlite3_stmt *st;
        int rc = start(r, Q_IDEMPOTENCY, &st);

        if (rc)
                return rc;
        bind_text(st, 1, token_id ? token_id : "");
        bind_text(st, 2, key);
        rc = next(r, st, ROW_IDEMPOTENCY, &row);
        if (rc == 0) {
                rc = -E_NOENT;
        } else if (rc == 1) {
                sha = mem_strdup(row.request_sha256 ? row.request_sha256 : "");
                body = mem_strdup(row.body ? row.body : "");
                rc = sha && body ? 0 : -E_NOMEM;
                if (!rc) {
                        *status = row.status;
                        *out_request_sha256 = sha;
                        *out_body = body;
                        sha = body = NULL;
                }
        }
        mem_free(sha);
        mem_free(body);
        return finish(st, rc);
}

int read_max(struct store_reader *r, int64_t *run_seq, uint64_t *attempt_id, int64_t *event_id)
{
        int rc = SQLITE_OK;

        /* Each is the end of a b-tree. */
        if (!r->max)
                rc = db_prepare(
                        r->h,
                        "SELECT (SELECT MAX(seq) FROM runs),(SELECT attempt_id FROM marks WHERE id=1),"
                        "(SELECT MAX(last_id) FROM events)",
                        &r->max);
        if (rc == SQLITE_OK)
                rc = sqlite3_step(r->max);
        if (rc == SQLITE_ROW) {
                *run_seq = sqlite3_column_int64(r->max, 0);
                *attempt_id = (uint64_t)sqlite3_column_int64(r->max, 1);
                *event_id = sqlite3_column_int64(r->max, 2);
        }
        sqlite3_reset(r->max);
        return rc == SQLITE_ROW ? 0 : failed(r, rc);
}

/* ---- runs ---- */

int read_run(struct store_reader *r, const char *id, int (*cb)(void *, const struct row_run *), void *arg)
{
        struct row_run row;
        sqlite3_stmt *st;
        int rc = start(r, Q_RUN, &st);

        if (rc)
                return rc;
        bind_text(st, 1, id);
        rc = next(r, st, ROW_RUN, &row);
        rc = rc == 1 ? cb(arg, &row) : rc == 0 ? -E_NOENT : rc;
        return finish(st, rc);
}

int read_run_project(struct store_reader *r, const char *id, int (*cb)(void *, const char *project),
                     void *arg)
{
        int rc = SQLITE_OK;

        if (!r->run_project)
                rc = db_prepare(r->h, "SELECT project FROM runs WHERE id=?1", &r->run_project);
        if (rc != SQLITE_OK)
                return failed(r, rc);
        bind_text(r->run_project, 1, id);
        rc = sqlite3_step(r->run_project);
        if (rc == SQLITE_ROW)
                rc = cb(arg, (const char *)sqlite3_column_text(r->run_project, 0));
        else
                rc = rc == SQLITE_DONE ? -E_NOENT : failed(r, rc);
        return finish(r->run_project, rc);
}

static int runs_statement(struct store_reader *r, enum run_state state, enum run_kind_filter kind,
                          const struct run_filter *f, sqlite3_stmt **out)
{
        static const char *const kinds[] = {"", " AND kind='run'", " AND kind='call'"};
        sqlite3_stmt **st = &r->runs[state][kind][f->workflow != NULL][f->active_only][f->projects != NULL];
        char by_state[32] = "";
        char *tail;
        int rc = 0;

        if (!*st) {
                if (state != RUN_STATE_ANY)
                        sqlite3_snprintf(sizeof by_state, by_state, " AND state=%d", (int)state);
                tail = str_printf("WHERE seq<?1%s%s%s%s%s ORDER BY seq DESC LIMIT ?2", by_state, kinds[kind],
                                  f->workflow ? " AND workflow=?3" : "", f->active_only ? " AND state<3" : "",
                                  f->projects ? " AND project IN (SELECT value FROM json_each(?4))" : "");
                rc = tail ? prepare_select(r, &store_tables[ROW_RUN], tail, st) : -E_NOMEM;
                mem_free(tail);
        }
        assert(rc || !sqlite3_stmt_busy(*st));
        *out = *st;
        return rc;
}

int read_runs(struct store_reader *r, const struct run_filter *f, int (*cb)(void *, const struct row_run *),
              void *arg)
{
        enum run_state state = RUN_STATE_ANY;
        enum run_kind_filter kind = KIND_ANY;
        struct row_run row;
        sqlite3_stmt *st;
        int rc;

        if (f->state && run_state_parse(f->state, &state) != 0)
                return -E_INVAL;
        if (f->kind) {
                kind = strcmp(f->kind, "run") == 0 ? KIND_RUN : KIND_CALL;
                if (kind == KIND_CALL && strcmp(f->kind, "call") != 0)
                        return -E_INVAL;
        }
        rc = runs_statement(r, state, kind, f, &st);
        if (rc)
                return rc;
        sqlite3_bind_int64(st, 1, f->before_seq > 0 ? f->before_seq : INT64_MAX);
        sqlite3_bind_int64(st, 2, f->limit > 0 ? f->limit : -1);
        if (f->workflow)
                bind_text(st, 3, f->workflow);
        if (f->projects)
                bind_text(st, 4, f->projects);
        while ((rc = next(r, st, ROW_RUN, &row)) == 1 && (rc = cb(arg, &row)) == 0)
                ;
        return finish(st, rc);
}

/* ---- steps ---- */

static void bind_run_range(sqlite3_stmt *st, int64_t run_seq)
{
        sqlite3_bind_int64(st, 1, STEP_KEY(run_seq, 0));
        sqlite3_bind_int64(st, 2, STEP_KEY(run_seq, (1 << STEP_KEY_IDX_BITS) - 1));
}

int read_steps(struct store_reader *r, int64_t run_seq, int (*cb)(void *, const struct row_step *), void *arg)
{
        struct row_step row;
        sqlite3_stmt *st;
        int rc = start(r, Q_STEPS, &st);

        if (rc)
                return rc;
        bind_run_range(st, run_seq);
        while ((rc = next(r, st, ROW_STEP, &row)) == 1 && (rc = cb(arg, &row)) == 0)
                ;
        return finish(st, rc);
}

int read_step(struct store_reader *r, int64_t run_seq, const char *step_id,
              int (*cb)(void *, const struct row_step *), void *arg)
{
        struct row_step row;
        sqlite3_stmt *st;
        int rc = start(r, Q_STEP, &st);

        if (rc)
                return rc;
        bind_run_range(st, run_seq);
        bind_text(st, 3, step_id);
        rc = next(r, st, ROW_STEP, &row);
        rc = rc == 1 ? cb(arg, &row) : rc == 0 ? -E_NOENT : rc;
        return finish(st, rc);
}

int read_attempts(struct store_reader *r, int64_t run_seq, int64_t idx_or_minus1,
                  int (*cb)(void *, const struct row_attempt *), void *arg)
{
        struct row_attempt row;
        sqlite3_stmt *st;
        int rc = start(r, Q_ATTEMPTS, &st);

        if (rc)
                return rc;
        bind_run_range(st, run_seq);
        if (idx_or_minus1 >= 0) {
                sqlite3_bind_int64(st, 1, STEP_KEY(run_seq, idx_or_minus1));
                sqlite3_bind_int64(st, 2, STEP_KEY(run_seq, idx_or_minus1));
        }
        while ((rc = next(r, st, ROW_ATTEMPT, &row)) == 1 && (rc = cb(arg, &row)) == 0)
                ;
        return finish(st, rc);
}

/* ---- checkpoints ---- */

int read_checkpoint(struct store_reader *r, const char *id, int (*cb)(void *, const struct row_checkpoint *),
                    void *arg)
{
        struct row_checkpoint row;
        sqlite3_stmt *st;
        int rc = start(r, Q_CHECKPOINT, &st);

        if (rc)
                return rc;
        bind_text(st, 1, id);
        rc = next(r, st, ROW_CHECKPOINT, &row);
        rc = rc == 1 ? cb(arg, &row) : rc == 0 ? -E_NOENT : rc;
        return finish(st, rc);
}

static enum query checkpoints_query(const struct checkpoint_filter *f)
{
        if (f->live_only)
                return Q_CHECKPOINTS_LIVE;
        if (f->run_seq)
                return Q_CHECKPOINTS_RUN;
        if (f->state < 0)
                return Q_CHECKPOINTS;
        return f->state == CHECKPOINT_OPEN ? Q_CHECKPOINTS_OPEN : Q_CHECKPOINTS_STATE;
}

int read_checkpoints(struct store_reader *r, const struct checkpoint_filter *f,
                     int (*cb)(void *, const struct row_checkpoint *), void *arg)
{
        enum query q = checkpoints_query(f);
        struct row_checkpoint row;
        sqlite3_stmt *st;
        int rc = start(r, q, &st);

        if (rc)
                return rc;
        if (q != Q_CHECKPOINTS_LIVE) {
                sqlite3_bind_int64(st, 1, f->before_seq > 0 ? f->before_seq : INT64_MAX);
                sqlite3_bind_int64(st, 2, f->limit > 0 ? f->limit : -1);
                bind_text(st, 5, f->projects); /* NULL binds NULL */
        }
        if (q == Q_CHECKPOINTS_STATE || q == Q_CHECKPOINTS_RUN)
                sqlite3_bind_int64(st, 3, f->state);
        if (q == Q_CHECKPOINTS_RUN)
                sqlite3_bind_int64(st, 4, f->run_seq);
        while ((rc = next(r, st, ROW_CHECKPOINT, &row)) == 1 && (rc = cb(arg, &row)) == 0)
                ;
        return finish(st, rc);
}

int read_checkpoint_max(struct store_reader *r, int64_t *seq)
{
        struct row_checkpoint row;
        sqlite3_stmt *st;
        int rc = start(r, Q_CHECKPOINT_NEWEST, &st);

        if (rc)
                return rc;
        rc = next(r, st, ROW_CHECKPOINT, &row);
        if (rc >= 0)
                *seq = rc == 1 ? row.seq : 0;
        return finish(st, rc < 0 ? rc : 0);
}

/* ---- events ---- */

int read_events(struct store_reader *r, const char *run_id, int64_t after, size_t max_bytes,
                int (*cb)(void *, const char *run_id, int64_t first, int64_t last, const char *lines,
                          size_t n),
                void *arg)
{
        struct row_events row;
        size_t given = 0;
        sqlite3_stmt *st;
        int rc = start(r, run_id ? Q_EVENTS_OF_RUN : Q_EVENTS, &st);

        if (rc)
                return rc;
        sqlite3_bind_int64(st, 1, after);
        if (run_id)
                bind_text(st, 2, run_id);
        while ((rc = next(r, st, ROW_EVENTS, &row)) == 1) {
                if (given > 0 && row.n > max_bytes - given) {
                        rc = 0;
                        break;
                }
                rc = cb(arg, row.run_id ? row.run_id : "", row.first_id, row.last_id,
                        row.lines ? row.lines : "", row.n);
                if (rc)
                        break;
                given += row.n;
                if (given >= max_bytes)
                        break;
        }
        return finish(st, rc);
}

int read_events_bounds(struct store_reader *r, int64_t *oldest, int64_t *newest)
{
        int64_t run_seq, event_id;
        uint64_t attempt_id;
        struct row_events row;
        sqlite3_stmt *st;
        int rc = start(r, Q_EVENTS_OLDEST, &st);

        if (rc)
                return rc;
        rc = next(r, st, ROW_EVENTS, &row);
        finish(st, 0);
        if (rc < 0)
                return rc;
        if (rc == 0)
                row.first_id = 0;
        rc = read_max(r, &run_seq, &attempt_id, &event_id);
        if (rc)
                return rc;
        *oldest = row.first_id ? row.first_id : event_id + 1;
        *newest = event_id;
        return 0;
}

/* ---- agents and tokens ---- */

int read_agents(struct store_reader *r, int (*cb)(void *, const struct row_agent *), void *arg)
{
        struct row_agent row;
        sqlite3_stmt *st;
        int rc = start(r, Q_AGENTS, &st);

        if (rc)
                return rc;
        while ((rc = next(r, st, ROW_AGENT, &row)) == 1 && (rc = cb(arg, &row)) == 0)
                ;
        return finish(st, rc);
}

int read_join_tokens(struct store_reader *r, int (*cb)(void *, const struct row_join_token *), void *arg)
{
        struct row_join_token row;
        sqlite3_stmt *st;
        int rc = start(r, Q_JOIN_TOKENS, &st);

        if (rc)
                return rc;
        while ((rc = next(r, st, ROW_JOIN_TOKEN, &row)) == 1 && (rc = cb(arg, &row)) == 0)
                ;
        return finish(st, rc);
}

int read_redemptions(struct store_reader *r, int (*cb)(void *, const struct row_redemption *), void *arg)
{
        struct row_redemption row;
        sqlite3_stmt *st;
        int rc = start(r, Q_REDEMPTIONS, &st);

        if (rc)
                return rc;
        while ((rc = next(r, st, ROW_REDEMPTION, &row)) == 1 && (rc = cb(arg, &row)) == 0)
                ;
        return finish(st, rc);
}

int read_models(struct store_reader *r, int (*cb)(void *, const struct row_model *), void *arg)
{
        struct row_model row;
        sqlite3_stmt *st;
        int rc = start(r, Q_MODELS, &st);

        if (rc)
                return rc;
        while ((rc = next(r, st, ROW_MODEL, &row)) == 1 && (rc = cb(arg, &row)) == 0)
                ;
        return finish(st, rc);
}

/* ---- the vault ---- */

int read_vault(struct store_reader *r, int (*cb)(void *, const struct row_vault *), void *arg)
{
        struct row_vault row;
        sqlite3_stmt *st;
        int rc = start(r, Q_VAULT, &st);

        if (rc)
                return rc;
        rc = next(r, st, ROW_VAULT, &row);
        rc = rc == 1 ? cb(arg, &row) : rc == 0 ? -E_NOENT : rc;
        return finish(st, rc);
}

int read_vault_keys(struct store_reader *r, int (*cb)(void *, const struct row_vault_key *), void *arg)
{
        struct row_vault_key row;
        sqlite3_stmt *st;
        int rc = start(r, Q_VAULT_KEYS, &st);

        if (rc)
                return rc;
        while ((rc = next(r, st, ROW_VAULT_KEY, &row)) == 1 && (rc = cb(arg, &row)) == 0)
                ;
        return finish(st, rc);
}

int read_secret(struct store_reader *r, const char *project, const char *name,
                int (*cb)(void *, const struct row_secret *), void *arg)
{
        struct row_secret row;
        sqlite3_stmt *st;
        int rc = start(r, Q_SECRET, &st);

        if (rc)
                return rc;
        bind_text(st, 1, project);
        bind_text(st, 2, name);
        rc = next(r, st, ROW_SECRET, &row);
        rc = rc == 1 ? cb(arg, &row) : rc == 0 ? -E_NOENT : rc;
        return finish(st, rc);
}

int read_secrets(struct store_reader *r, const char *project, int (*cb)(void *, const struct row_secret *),
                 void *arg)
{
        struct row_secret row;
        sqlite3_stmt *st;
        int rc = start(r, Q_SECRETS, &st);

        if (rc)
                return rc;
        bind_text(st, 1, project); /* NULL binds NULL */
        while ((rc = next(r, st, ROW_SECRET, &row)) == 1 && (rc = cb(arg, &row)) == 0)
                ;
        return finish(st, rc);
}

int read_secret_versions(struct store_reader *r, const char *project, const char *name, int64_t version,
                         int (*cb)(void *, const struct row_secret_version *), void *arg)
{
        struct row_secret_version row;
        bool any = false;
        sqlite3_stmt *st;
        int rc = start(r, Q_SECRET_VERSION, &st);

        if (rc)
                return rc;
        bind_text(st, 1, project);
        bind_text(st, 2, name);
        sqlite3_bind_int64(st, 3, version);
        while ((rc = next(r, st, ROW_SECRET_VERSION, &row)) == 1) {
                any = true;
                if ((rc = cb(arg, &row)) != 0)
                        break;
        }
        return finish(st, rc == 0 && !any ? -E_NOENT : rc);
}

int read_secrets_not_under(struct store_reader *r, int64_t key_id, int64_t limit,
                           int (*cb)(void *, const struct row_secret_version *), void *arg)
{
        struct row_secret_version row;
        sqlite3_stmt *st;
        int rc = start(r, Q_SECRETS_NOT_UNDER, &st);

        if (rc)
                return rc;
        sqlite3_bind_int64(st, 1, key_id);
        sqlite3_bind_int64(st, 2, limit);
        while ((rc = next(r, st, ROW_SECRET_VERSION, &row)) == 1 && (rc = cb(arg, &row)) == 0)
                ;
        return finish(st, rc);
}

int read_api_tokens(struct store_reader *r, int (*cb)(void *, const struct row_api_token *), void *arg)
{
        struct row_api_token row;
        sqlite3_stmt *st;
        int rc = start(r, Q_API_TOKENS, &st);

        if (rc)
                return rc;
        while ((rc = next(r, st, ROW_API_TOKEN, &row)) == 1 && (rc = cb(arg, &row)) == 0)
                ;
        return finish(st, rc);
}

int read_api_token(struct store_reader *r, const char *sha256_hex,
                   int (*cb)(void *, const struct row_api_token *), void *arg)
{
        struct row_api_token row;
        sqlite3_stmt *st;
        int rc = start(r, Q_API_TOKEN, &st);

        if (rc)
                return rc;
        bind_text(st, 1, sha256_hex);
        rc = next(r, st, ROW_API_TOKEN, &row);
        rc = rc == 1 ? cb(arg, &row) : rc == 0 ? -E_NOENT : rc;
        return finish(st, rc);
}

int read_api_token_by_id(struct store_reader *r, const char *id,
                         int (*cb)(void *, const struct row_api_token *), void *arg)
{
        struct row_api_token row;
        sqlite3_stmt *st;
        int rc = start(r, Q_API_TOKEN_BY_ID, &st);

        if (rc)
                return rc;
        bind_text(st, 1, id);
        rc = next(r, st, ROW_API_TOKEN, &row);
        rc = rc == 1 ? cb(arg, &row) : rc == 0 ? -E_NOENT : rc;
        return finish(st, rc);
}

int read_projects(struct store_reader *r, int (*cb)(void *, const struct row_project *), void *arg)
{
        struct row_project row;
        sqlite3_stmt *st;
        int rc = start(r, Q_PROJECTS, &st);

        if (rc)
                return rc;
        while ((rc = next(r, st, ROW_PROJECT, &row)) == 1 && (rc = cb(arg, &row)) == 0)
                ;
        return finish(st, rc);
}

int read_project(struct store_reader *r, const char *name, int (*cb)(void *, const struct row_project *),
                 void *arg)
{
        struct row_project row;
        sqlite3_stmt *st;
        int rc = start(r, Q_PROJECT, &st);

        if (rc)
                return rc;
        bind_text(st, 1, name);
        rc = next(r, st, ROW_PROJECT, &row);
        rc = rc == 1 ? cb(arg, &row) : rc == 0 ? -E_NOENT : rc;
        return finish(st, rc);
}

int read_users(struct store_reader *r, int (*cb)(void *, const struct row_user *), void *arg)
{
        struct row_user row;
        sqlite3_stmt *st;
        int rc = start(r, Q_USERS, &st);

        if (rc)
                return rc;
        while ((rc = next(r, st, ROW_USER, &row)) == 1 && (rc = cb(arg, &row)) == 0)
                ;
        return finish(st, rc);
}

int read_token_use(struct store_reader *r, const char *token_id, int64_t *out_used_us)
{
        struct row_token_use row;
        sqlite3_stmt *st;
        int rc = start(r, Q_TOKEN_USE, &st);

        if (rc)
                return rc;
        bind_text(st, 1, token_id);
        rc = next(r, st, ROW_TOKEN_USE, &row);
        if (rc >= 0)
                *out_used_us = rc ? row.used_us : 0;
        return finish(st, rc < 0 ? rc : 0);
}

int read_user(struct store_reader *r, const char *id, int (*cb)(void *, const struct row_user *), void *arg)
{
        struct row_user row;
        sqlite3_stmt *st;
        int rc = start(r, Q_USER, &st);

        if (rc)
                return rc;
        bind_text(st, 1, id);
        rc = next(r, st, ROW_USER, &row);
        rc = rc == 1 ? cb(arg, &row) : rc == 0 ? -E_NOENT : rc;
        return finish(st, rc);
}
