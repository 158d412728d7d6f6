/* What the hub remembers: one SQLite database (WAL, synchronous=FULL) behind one
 * writing thread with group commit, and read-only handles for others.
 *
 * Writing: the loop collects rows in a struct store_tx during a turn and hands
 * it over with store_commit. The store thread runs all waiting transactions as
 * one database transaction; each callback then runs on the loop, in order of
 * submission, after fdatasync: what is acknowledged is on disk. A commit never
 * fails from the caller's point of view: on a full or read-only disk the store
 * keeps the batch, tries again every 500 ms, and store_health says why, so the
 * API refuses new work with that reason meanwhile and nothing is lost.
 *
 * Strings in rows are copied by the put functions. Times are microseconds UTC,
 * 0: not yet. JSON columns hold compact text; NULL: absent. */
#ifndef PHOTON_STORE_H
#define PHOTON_STORE_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hub/model/budget.h"
#include "hub/model/checkpoint.h"
#include "hub/model/run.h"

struct err;
struct mailbox;
struct store;
struct store_tx;
struct store_reader;

struct store_options {
        const char *dir;         /* holds hub.db; must exist */
        struct mailbox *mailbox; /* completions; NULL: no thread, store_pump commits (tests, simulation) */
        bool create;             /* false: -E_NOENT when there is no database */
        /* Under which rows that grant something are sealed (32 bytes, lent; sqlite_seal.c); NULL: not at all
         * (tests). */
        const uint8_t *seal_key;
        bool seal_key_new;   /* rows without a seal are older than the key: they are sealed now */
        bool accept_changed; /* a person says so: rows are sealed as they stand, whatever their seals say */
};

/* Opens, checks (quick_check after an unclean stop), migrates. Errors name the file and say what to do
 * (newer schema than this hub, read-only folder, damaged file). Blocking. */
int store_open(const struct store_options *o, struct store **out, struct err *e);
/* Commits what waits, stops the thread, closes. Blocking. Completions that are still in the mailbox run when
 * it is drained next; where the disk refuses to the end, what waits is logged and dropped, its callbacks
 * never run. Close the readers first. */
void store_close(struct store *s);
/* mailbox NULL only: runs waiting transactions and their callbacks now. */
void store_pump(struct store *s);
/* 0, or -E_* with the reason (disk full ...). Any thread. */
int store_health(struct store *s, struct err *e);

struct store_stats {
        uint64_t commits, transactions, rows;
        int64_t last_commit_us, commit_us_total;
        uint64_t queue;
};
void store_stats(struct store *s, struct store_stats *out); /* any thread */

/* ---- seals: a row that somebody else has written grants nothing ----
 *
 * Tables whose rows say who may do what, and how much, have a column `seal`: a MAC under a key that is not in
 * the database, over the table's name and every column. Put functions write it, readers compare it and say
 * `refused`; what that means for the row is the caller's to know, and never that it grants something. */
struct row_sealed {
        const void *mac; /* the store's own, as is len */
        size_t len;
        bool refused; /* read: not as this hub wrote it */
};
/* Rows that accept_changed has taken although their seals did not hold, when the store was opened. */
int64_t store_seals_accepted(const struct store *s);
/* Are there the budgets and raises that this hub wrote, all of them, as it wrote them last? */
bool store_budgets_whole(const struct store *s);

/* ---- writing: all of it on the loop thread; store_close too ----
 *
 * Nothing here fails: a process that has no memory left for a row ends itself
 * (abort) rather than losing it silently, and goes on from what is durable. */
struct store_tx *store_begin(struct store *s);
/* Takes tx. on_done (may be NULL) runs on the loop after it is durable. */
void store_commit(struct store_tx *tx, void (*on_done)(void *arg), void *arg);
void store_abandon(struct store_tx *tx);
bool store_tx_empty(const struct store_tx *tx);

/* ---- rows ---- */

struct row_run {
        int64_t seq;            /* hub-assigned, ascending, primary key; cursor for lists */
        const char *id;         /* for people */
        const char *workflow;   /* its name */
        const char *kind;       /* "run" | "call" */
        const char *def_sha256; /* hex; definition text is stored once with store_put_def */
        enum run_state state;
        const char *inputs;  /* JSON */
        const char *outputs; /* JSON or NULL */
        const char *error_code, *error_message;
        const char *created_by; /* API token name */
        const char *askers;     /* JSON: names of others who count as having asked; NULL: nobody */
        const char *concurrency_group;
        int priority;
        bool cancel_requested;
        int64_t created_us, started_us, finished_us;
        uint32_t n_steps;
        const char *project; /* never NULL */
        const uint8_t *seal; /* hub/sched/engine_seal.c; NULL: none */
        size_t seal_len;
};
void store_put_run(struct store_tx *tx, const struct row_run *r); /* insert or replace */

struct row_step {
        int64_t run_seq;
        uint32_t idx;   /* in the run; instances of a matrix come after the written steps */
        const char *id; /* "build", "test[2]" */
        const char *tool;
        enum step_state state;
        int32_t def;        /* index into the workflow's steps */
        int32_t parent;     /* idx of the fan-out step it is an instance of, or -1 */
        bool fanout;        /* this row is a fan-out step: its instances carry the work */
        const char *matrix; /* JSON of its matrix/each values or NULL */
        uint32_t attempt;   /* 0: none yet */
        uint64_t attempt_id;
        uint32_t losses;   /* attempts that ended with a lost agent */
        const char *agent; /* id of the agent of the current attempt, or NULL */
        const char *agent_name;
        const char *agent_boot; /* boot id that the agent had at dispatch */
        const char *placement;  /* JSON: why there */
        const char
                *input; /* JSON as dispatched, or NULL: none, or a call's, which is its run's inputs.input */
        const char *outputs; /* JSON or NULL */
        bool has_exit_code;
        int32_t exit_code;
        const char *error_code, *error_message;
        const char *usage;
        uint64_t output_bytes;
        int64_t not_before_us; /* waiting until (retry) */
        int64_t created_us, ready_us, dispatched_us, started_us, finished_us;
        const uint8_t *seal;
        size_t seal_len;
};
/* Whole row (insert or replace). */
void store_put_step(struct store_tx *tx, const struct row_step *r);

/* The hot road: only what a move changes. NULL strings leave the column alone, except
 * that `clear` empties agent, outputs, error, exit code (a retry). Always set, 0 too: state,
 * attempt, attempt_id, losses, output_bytes. */
struct row_step_move {
        int64_t run_seq;
        uint32_t idx;
        enum step_state state;
        uint32_t attempt;
        uint64_t attempt_id;
        bool clear;
        bool has_exit_code;
        int32_t exit_code;
        uint32_t losses;
        const char *agent, *agent_name, *agent_boot, *placement, *input, *outputs, *error_code,
                *error_message, *usage;
        uint64_t output_bytes;
        int64_t not_before_us, ready_us, dispatched_us, started_us, finished_us; /* 0: leave alone */
        const uint8_t *seal;
        size_t seal_len;
};
void store_move_step(struct store_tx *tx, const struct row_step_move *m);

/* An attempt that is over and was not the last: history for people. */
struct row_attempt {
        int64_t run_seq;
        uint32_t idx, attempt;
        uint64_t attempt_id;
        const char *agent_name, *outcome, *error_code, *error_message, *outputs;
        bool has_exit_code;
        int32_t exit_code;
        uint64_t output_bytes;
        int64_t dispatched_us, started_us, finished_us;
};
void store_put_attempt(struct store_tx *tx, const struct row_attempt *a);

/* A question to people. */
struct row_checkpoint {
        int64_t seq;    /* hub-assigned, ascending, primary key; cursor for lists */
        const char *id; /* for people */
        enum checkpoint_state state;
        bool live; /* open, or decided and its agent has not heard it */
        int64_t run_seq;
        uint32_t step_idx;
        uint64_t attempt_id;
        uint32_t attempt, question_id; /* question_id: the agent's, within the attempt */
        bool always;
        int64_t created_us, expires_us, decided_us, delivered_us;
        const char *run_id, *step_id, *workflow, *project;
        const char *kind; /* checkpoint_kind_name */
        const char *action, *title;
        const char *tool;      /* what the asking program calls what it wants to use */
        const char *step_tool; /* the step's tool, which asks */
        const char *agent, *agent_name;
        const char *asked_by;   /* who started the run */
        const char *sha256;     /* of arguments, hex */
        const char *decided_by; /* a token's name, or "hub" */
        const char *reason;
        const char *content;        /* JSON or NULL */
        const char *schema;         /* JSON Schema or NULL */
        const char *arguments;      /* exactly as the agent gave it, or as the hub asks */
        const char *rules, *record; /* JSON (approval.h) of what the hub asks, or NULL */
        const uint8_t *seal;
        size_t seal_len;
        struct row_sealed sealed;
};
/* Whole row (insert or replace). */
void store_put_checkpoint(struct store_tx *tx, const struct row_checkpoint *r);

/* What one target is to be told of. */
enum notice_state { NOTICE_PENDING, NOTICE_DELIVERED, NOTICE_GIVEN_UP };
struct row_notice {
        int64_t seq;    /* hub-assigned, ascending, primary key; cursor for lists */
        const char *id; /* of the delivery: the same in every attempt */
        enum notice_state state;
        uint32_t attempts;
        int64_t created_us, next_us, done_us;
        const char *event, *target, *checkpoint, *run, *project, *title;
        const char *last_error; /* or NULL */
        const char *body;       /* as it is sent */
};
/* Whole row (insert or replace). */
void store_put_notice(struct store_tx *tx, const struct row_notice *n);
void store_trim_notices(struct store_tx *tx, int64_t before_us); /* drops what was done before */

void store_put_def(struct store_tx *tx, const char *sha256_hex, const void *text,
                   size_t n); /* once; ignores a repeat */
/* Small output kept in the database (n <= 64 KiB): log framing as in hub/logs/logs.h. */
void store_put_small_output(struct store_tx *tx, uint64_t attempt_id, const void *framed, size_t n);

/* Events of one run (run_id "" for others), as the API streams them: one JSON object per line, ids
 * first..last. */
void store_put_events(struct store_tx *tx, const char *run_id, int64_t first_id, int64_t last_id,
                      const void *lines, size_t n);

/* Drops events with ids up to keep_after_id, at most some thousand batches at a time (call it now and then),
 * and never the newest one, which tells where ids go on. */
void store_trim_events(struct store_tx *tx, int64_t keep_after_id);

/* Before the commit, fdatasync(fd) on the store thread (log files that the rows speak of). fd stays the
 * caller's, open until on_done. */
void store_sync_fd(struct store_tx *tx, int fd);

struct row_agent {
        const char *id, *name;
        const char *state;       /* "active" | "draining" | "revoked" */
        const char *spki_sha256; /* hex */
        const char *cert_serial; /* hex, the current one */
        const char *labels;      /* JSON: fixed by hub (token or person) */
        const char *info;        /* JSON of the last Hello: os, arch, version, kind, labels, tools... */
        const char *join_token_id;
        int64_t created_us, last_seen_us, cert_not_after_us, revoked_us;
        struct row_sealed sealed;
};
void store_put_agent(struct store_tx *tx, const struct row_agent *a);

struct row_join_token {
        const char *id, *stored_key_hex; /* common/secret.h */
        const char *name_glob, *labels, *created_by;
        int64_t uses_max, uses, created_us, expires_us, revoked_us;
        struct row_sealed sealed;
};
void store_put_join_token(struct store_tx *tx, const struct row_join_token *t);
struct row_redemption {
        const char *token_id, *spki_sha256, *agent_id;
        int64_t at_us;
        struct row_sealed sealed;
};
void store_put_redemption(struct store_tx *tx, const struct row_redemption *r);

struct row_api_token {
        const char *id, *sha256_hex, *name, *role, *created_by;
        int64_t created_us, expires_us, revoked_us;
        int64_t last_used_us; /* not written: row_token_use */
        const char *project;  /* what it is bound to; "*": to none */
        const char *user_id;  /* whose it is; NULL: its own (a service's) */
        const char *scopes;   /* names of permissions, separated by spaces; NULL: no limit */
        const char *kind;     /* "session": of a login; NULL: made by hand */
        const char *maker_id; /* the user who made it, or is behind the token that did; NULL: none is known */
        struct row_sealed sealed;
};
void store_put_api_token(struct store_tx *tx, const struct row_api_token *t);

struct row_project {
        const char *name, *title, *created_by;
        int64_t created_us, archived_us;
        struct row_sealed sealed;
};
void store_put_project(struct store_tx *tx, const struct row_project *p);

struct row_user {
        const char *id, *name;
        const char *kind;             /* "user" | "service" */
        const char *email;            /* or NULL */
        const char *issuer, *subject; /* who vouches for them (OIDC), or NULL */
        const char *roles;            /* JSON: project -> role, given here */
        const char *idp_roles;        /* the same, as the provider's claims said at the last login */
        const char *created_by;
        int64_t created_us, disabled_us, last_login_us;
        int64_t deleted_us; /* disabled for good; the row keeps the name from being given to another */
        struct row_sealed sealed;
};
void store_put_user(struct store_tx *tx, const struct row_user *u);

/* How one model at one endpoint of one agent has done; slots are reused, so their number is bounded. */
struct row_model {
        int64_t slot; /* primary key */
        const char *agent, *endpoint, *model;
        int64_t updated_us;
        const char *samples; /* JSON */
};
void store_put_model(struct store_tx *tx, const struct row_model *m);

/* ---- the vault: what hub/vault has sealed; the store cannot open it ---- */

/* One row: how the master key is come by, never the key. */
struct row_vault {
        int64_t id;         /* 1 */
        const char *kind;   /* "file" | "credential" | "passphrase" */
        const char *source; /* the file's path; "": vault.key in the hub's folder */
        const char *master; /* which master key the data keys are wrapped under (hex, no secret) */
        const void *salt;   /* of a passphrase */
        size_t salt_len;
        int64_t iterations;
        int64_t created_us, changed_us;
};
void store_put_vault(struct store_tx *tx, const struct row_vault *v);
struct row_vault_key {
        int64_t id;   /* ascending; the newest seals */
        int64_t uses; /* texts sealed under it */
        int64_t created_us;
        const void *wrapped;
        size_t wrapped_len;
};
void store_put_vault_key(struct store_tx *tx, const struct row_vault_key *k);
/* Removes the key for good, unless something is still sealed under it. */
void store_drop_vault_key(struct store_tx *tx, int64_t id);
struct row_secret {
        const char *project, *name; /* primary key */
        int64_t version;            /* the newest */
        int64_t keep;               /* so many versions stay */
        int64_t created_us, updated_us;
        const char *created_by, *updated_by;
        struct row_sealed sealed;
};
void store_put_secret(struct store_tx *tx, const struct row_secret *s);
struct row_secret_version {
        const char *project, *name;
        int64_t version, key_id, created_us;
        const char *created_by;
        const void *sealed;
        size_t sealed_len;
};
void store_put_secret_version(struct store_tx *tx, const struct row_secret_version *v);
/* The same version under v->key_id, if it is still there and still under from_key. */
void store_reseal_secret(struct store_tx *tx, const struct row_secret_version *v, int64_t from_key);
/* Versions below go for good (their pages are overwritten); 0: all of them, and the secret. */
void store_cut_secret(struct store_tx *tx, const char *project, const char *name, int64_t below);
/* What an attempt reserved and spent (hub/model/budget.h). */
struct row_ledger {
        uint64_t attempt_id; /* primary key */
        int64_t run_seq;     /* 0: of a run that this database does not know */
        uint32_t step_idx, attempt;
        enum ledger_state state;
        bool stopped;                             /* it used more than it had reserved, and was told to end */
        int64_t day;                              /* budget_day of the reservation */
        int64_t reserved_micros, reserved_tokens; /* BUDGET_NONE: not known, nothing held */
        int64_t spent_micros, spent_tokens;
        int64_t reserved_us, settled_us;
        const char *run_id, *step_id, *project;
        const char *agent; /* its name */
        const char *tool, *model;
        const char *source; /* of the estimate */
        struct row_sealed sealed;
};
void store_put_ledger(struct store_tx *tx, const struct row_ledger *l);

struct row_budget {
        const char *id; /* budget_id_parse */
        int64_t micros, tokens;
        enum budget_over over;
        uint64_t since; /* attempts up to this one do not count */
        bool deleted;
        int64_t updated_us;
        const char *updated_by;
        struct row_sealed sealed;
};
void store_put_budget(struct store_tx *tx, const struct row_budget *b);
/* What people allowed one account over its cap, in all. */
struct row_budget_raise {
        const char *account;
        int64_t micros, tokens, updated_us;
        struct row_sealed sealed;
};
void store_put_budget_raise(struct store_tx *tx, const struct row_budget_raise *r);

/* When an API token was used: beside its row, so that nobody who writes this can touch what the token may. */
struct row_token_use {
        const char *id;
        int64_t used_us;
};
void store_put_token_use(struct store_tx *tx, const struct row_token_use *u);

/* A POST with Idempotency-Key: the answer to repeat. */
void store_put_idempotency(struct store_tx *tx, const char *key, const char *token_id,
                           const char *request_sha256, int status, const char *body, int64_t at_us);
void store_trim_idempotency(struct store_tx *tx, int64_t before_us); /* drops what is older */
/* One record of the audit: chained to the one before it in the order of the commits (common/auditchain.h). */
void store_put_audit(struct store_tx *tx, int64_t at_us, const char *actor, const char *action,
                     const char *object, const char *detail_json);
/* Erases this actor from all records, this object from all records (NULL: none), with the details of the
 * records in which they stood; itself a record, "audit.erase", made by `by`. */
void store_erase_audit(struct store_tx *tx, int64_t at_us, const char *by, const char *actor,
                       const char *object);
/* Removes the records older than before_us, from the oldest on, never the newest; itself a record,
 * "audit.trim", whose detail says where the chain goes on. Nothing to remove: no record. */
void store_trim_audit(struct store_tx *tx, int64_t at_us, const char *by, int64_t before_us);
void store_put_meta(struct store_tx *tx, const char *key, const char *value);

/* ---- reading; a reader belongs to one thread and sees only what is durable ----
 *
 * A callback may ask other questions of the same reader, not the one it is called from. Unexpected errors are
 * logged here and returned. */

int store_reader_open(struct store *s, struct store_reader **out, struct err *e);
void store_reader_close(struct store_reader *r);

/* Callbacks get rows lent for the call; a non-zero return stops and is returned. */
int read_meta(struct store_reader *r, const char *key,
              char **out); /* mem_free; -E_NOENT; -E_DENIED: refused (struct row_sealed) */
int read_run(struct store_reader *r, const char *id, int (*cb)(void *, const struct row_run *),
             void *arg); /* -E_NOENT */
/* In which project it is; costs one look into an index. -E_NOENT. */
int read_run_project(struct store_reader *r, const char *id, int (*cb)(void *, const char *project),
                     void *arg);
struct run_filter {
        const char *state, *workflow, *kind;
        int64_t before_seq; /* 0: newest */
        int limit;
        bool active_only;
        const char *projects; /* a JSON array of names, or NULL: any */
};
int read_runs(struct store_reader *r, const struct run_filter *f, int (*cb)(void *, const struct row_run *),
              void *arg);
int read_steps(struct store_reader *r, int64_t run_seq, int (*cb)(void *, const struct row_step *),
               void *arg);
int read_step(struct store_reader *r, int64_t run_seq, const char *step_id,
              int (*cb)(void *, const struct row_step *), void *arg);
int read_attempts(struct store_reader *r, int64_t run_seq, int64_t idx_or_minus1,
                  int (*cb)(void *, const struct row_attempt *), void *arg);
int read_checkpoint(struct store_reader *r, const char *id, int (*cb)(void *, const struct row_checkpoint *),
                    void *arg); /* -E_NOENT */
struct checkpoint_filter {
        int state;            /* enum checkpoint_state, or -1: any */
        int64_t run_seq;      /* 0: any */
        int64_t before_seq;   /* 0: newest */
        int limit;            /* 0: all */
        bool live_only;       /* for the engine's start: in ascending order */
        const char *projects; /* a JSON array of names, or NULL: any */
};
/* Newest first. */
int read_checkpoints(struct store_reader *r, const struct checkpoint_filter *f,
                     int (*cb)(void *, const struct row_checkpoint *), void *arg);
int read_checkpoint_max(struct store_reader *r, int64_t *seq);
struct notice_filter {
        const char *target; /* those that are due, oldest first: of this target, by due_us */
        int64_t due_us;
        int state;          /* without target: enum notice_state, or -1: any; newest first */
        int64_t before_seq; /* 0: newest */
        int limit;          /* 0: all */
};
int read_notices(struct store_reader *r, const struct notice_filter *f,
                 int (*cb)(void *, const struct row_notice *), void *arg);
int read_notice(struct store_reader *r, const char *id, int (*cb)(void *, const struct row_notice *),
                void *arg); /* -E_NOENT */
/* When the next one of a target is due; INT64_MAX: none waits. */
int read_notice_next(struct store_reader *r, const char *target, int64_t *next_us);
int read_notice_max(struct store_reader *r, int64_t *seq);
int read_def(struct store_reader *r, const char *sha256_hex, char **out, size_t *n);
int read_small_output(struct store_reader *r, uint64_t attempt_id, char **out, size_t *n);
/* Lines with id > after, at most max_bytes; run_id NULL: all. cb per stored batch (first..last, its text).
 * A first batch larger than max_bytes is given all the same. */
int read_events(struct store_reader *r, const char *run_id, int64_t after, size_t max_bytes,
                int (*cb)(void *, const char *run_id, int64_t first, int64_t last, const char *lines,
                          size_t n),
                void *arg);
/* The oldest id still kept (newest + 1: none), the newest ever written. */
int read_events_bounds(struct store_reader *r, int64_t *oldest, int64_t *newest);
int read_agents(struct store_reader *r, int (*cb)(void *, const struct row_agent *), void *arg);
int read_join_tokens(struct store_reader *r, int (*cb)(void *, const struct row_join_token *), void *arg);
int read_redemptions(struct store_reader *r, int (*cb)(void *, const struct row_redemption *), void *arg);
int read_models(struct store_reader *r, int (*cb)(void *, const struct row_model *), void *arg);
int read_vault(struct store_reader *r, int (*cb)(void *, const struct row_vault *), void *arg); /* -E_NOENT */
int read_vault_keys(struct store_reader *r, int (*cb)(void *, const struct row_vault_key *), void *arg);
int read_secret(struct store_reader *r, const char *project, const char *name,
                int (*cb)(void *, const struct row_secret *), void *arg); /* -E_NOENT */
/* By project and name; project NULL: all. */
int read_secrets(struct store_reader *r, const char *project, int (*cb)(void *, const struct row_secret *),
                 void *arg);
/* version 0: all, ascending. -E_NOENT: there is none. */
int read_secret_versions(struct store_reader *r, const char *project, const char *name, int64_t version,
                         int (*cb)(void *, const struct row_secret_version *), void *arg);
/* At most `limit` that are sealed under another key than this. */
int read_secrets_not_under(struct store_reader *r, int64_t key_id, int64_t limit,
                           int (*cb)(void *, const struct row_secret_version *), void *arg);
int read_budgets(struct store_reader *r, int (*cb)(void *, const struct row_budget *), void *arg);
int read_budget_raises(struct store_reader *r, int (*cb)(void *, const struct row_budget_raise *), void *arg);
int read_ledger_entry(struct store_reader *r, uint64_t attempt_id,
                      int (*cb)(void *, const struct row_ledger *), void *arg); /* -E_NOENT */
struct ledger_filter {
        int state;                             /* enum ledger_state, or -1: any */
        const char *run_id, *projects, *agent; /* NULL: any; projects: a JSON array of names */
        int64_t day;                           /* -1: any */
        uint64_t before;                       /* attempt id; 0: newest */
        int limit;                             /* 0: all */
};
/* Newest first. */
int read_ledger(struct store_reader *r, const struct ledger_filter *f,
                int (*cb)(void *, const struct row_ledger *), void *arg);
/* The sums of the entries of one run (seq), project, agent (name), day, or day and project, from after the
 * attempt `since` on. -E_*: also when a sum does not fit; -E_DENIED: an entry is refused (struct row_sealed).
 */
struct ledger_key {
        enum budget_kind kind;
        const char *name; /* project or agent */
        int64_t number;   /* run seq or day */
        uint64_t since;
};
int read_ledger_sum(struct store_reader *r, const struct ledger_key *k, struct budget_account *out);
/* Of a run's steps: cb per step with entries. */
int read_ledger_steps(struct store_reader *r, int64_t run_seq,
                      int (*cb)(void *arg, uint32_t step_idx, const struct budget_account *a), void *arg);
int read_api_tokens(struct store_reader *r, int (*cb)(void *, const struct row_api_token *), void *arg);
int read_api_token(struct store_reader *r, const char *sha256_hex,
                   int (*cb)(void *, const struct row_api_token *), void *arg);
int read_api_token_by_id(struct store_reader *r, const char *id,
                         int (*cb)(void *, const struct row_api_token *), void *arg); /* -E_NOENT */
int read_projects(struct store_reader *r, int (*cb)(void *, const struct row_project *), void *arg);
/* The rows of the sealed tables but the ledger's that are refused, and "budgets" when some are missing or put
 * back: their table and, as one text, their key. *out_n: how many, also those over `limit`. */
int read_refused(struct store_reader *r, int limit, int (*cb)(void *, const char *table, const char *key),
                 void *arg, int64_t *out_n);
int read_project(struct store_reader *r, const char *name, int (*cb)(void *, const struct row_project *),
                 void *arg); /* -E_NOENT */
int read_users(struct store_reader *r, int (*cb)(void *, const struct row_user *), void *arg);
/* 0: never. */
int read_token_use(struct store_reader *r, const char *token_id, int64_t *out_used_us);
int read_user(struct store_reader *r, const char *id, int (*cb)(void *, const struct row_user *),
              void *arg); /* -E_NOENT */
int read_idempotency(struct store_reader *r, const char *key, const char *token_id, char **out_request_sha256,
                     int *status, char **out_body);
struct audit_record;
struct audit_filter {
        int64_t after_seq; /* those after it; newest_first: those before it (0: all) */
        int64_t limit;     /* 0: all */
        bool newest_first;
        const char *actor, *action; /* NULL: any */
};
int read_audit(struct store_reader *r, const struct audit_filter *f,
               int (*cb)(void *, const struct audit_record *), void *arg);
/* Where the chain begins (0 and zeros, unless older records were removed), as this database says. */
int read_audit_start(struct store_reader *r, int64_t *after_seq, uint8_t after_hash[32]);
/* Walks the chain: all of it (from_seq 0), or what follows record from_seq. 0 and its head; -E_CORRUPT: e
 * names the first bad record. *records and *last_seq: what was good up to there. */
int audit_verify(struct store_reader *r, int64_t from_seq, int64_t *records, int64_t *last_seq,
                 uint8_t head[32], struct err *e);
/* High-water marks: ids go on above them. The attempt is a bound: none above it was ever used. */
int read_max(struct store_reader *r, int64_t *run_seq, uint64_t *attempt_id, int64_t *event_id);

#endif
