/* The database's tables, as migrations: number i brings schema i to i + 1. What
 * has been released is never edited: a change is a new entry at the end.
 *
 * States are the numbers of the enums in hub/model/run.h and checkpoint.h (a test pins them).
 * Times are microseconds UTC, 0: not yet. Column lists are in rows.c; long
 * texts come last, so that reading the others does not follow overflow pages. */
#include "hub/store/store_impl.h"

static const char schema_1[] =
        "CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;"
        /* One row: no attempt ever had a higher id. Raised by thousands, so that it is hardly ever written.
         */
        "CREATE TABLE marks(id INTEGER PRIMARY KEY, attempt_id INTEGER);"
        "INSERT INTO marks VALUES(1,0);"

        "CREATE TABLE runs(seq INTEGER PRIMARY KEY, id TEXT, state INTEGER, kind TEXT, workflow TEXT,"
        " def_sha256 TEXT, priority INTEGER, cancel_requested INTEGER, n_steps INTEGER, created_us INTEGER,"
        " started_us INTEGER, finished_us INTEGER, created_by TEXT, concurrency_group TEXT, error_code TEXT,"
        " error_message TEXT, inputs TEXT, outputs TEXT);"
        "CREATE UNIQUE INDEX runs_id ON runs(id);"
        "CREATE INDEX runs_active ON runs(seq) WHERE state < 3;"
        "CREATE INDEX runs_failed ON runs(seq) WHERE state = 4;"
        /* Not for calls: they come by the thousand and nobody asks for them by workflow. */
        "CREATE INDEX runs_workflow ON runs(workflow, seq) WHERE kind = 'run';"
        "CREATE INDEX runs_kind_run ON runs(seq) WHERE kind = 'run';"

        /* key = run seq << 24 | index in the run */
        "CREATE TABLE steps(key INTEGER PRIMARY KEY, state INTEGER, attempt INTEGER, attempt_id INTEGER,"
        " losses INTEGER, output_bytes INTEGER, not_before_us INTEGER, created_us INTEGER, ready_us INTEGER,"
        " dispatched_us INTEGER, started_us INTEGER, finished_us INTEGER, exit_code INTEGER, def INTEGER,"
        " parent INTEGER, fanout INTEGER, id TEXT, tool TEXT, matrix TEXT, agent TEXT, agent_name TEXT,"
        " agent_boot TEXT, error_code TEXT, error_message TEXT, placement TEXT, usage TEXT, input TEXT,"
        " outputs TEXT);"
        "CREATE TABLE attempts(step INTEGER, attempt INTEGER, attempt_id INTEGER, exit_code INTEGER,"
        " output_bytes INTEGER, dispatched_us INTEGER, started_us INTEGER, finished_us INTEGER, agent_name "
        "TEXT,"
        " outcome TEXT, error_code TEXT, error_message TEXT, outputs TEXT, PRIMARY KEY(step, attempt))"
        " WITHOUT ROWID;"
        "CREATE TABLE defs(sha256 TEXT PRIMARY KEY, text BLOB);"
        "CREATE TABLE small_outputs(attempt_id INTEGER PRIMARY KEY, framed BLOB);"

        "CREATE TABLE events(last_id INTEGER PRIMARY KEY, first_id INTEGER, run_id TEXT, lines BLOB);"
        "CREATE INDEX events_run ON events(run_id, last_id);"

        "CREATE TABLE agents(id TEXT PRIMARY KEY, name TEXT, state TEXT, spki_sha256 TEXT, cert_serial TEXT,"
        " labels TEXT, info TEXT, join_token_id TEXT, created_us INTEGER, last_seen_us INTEGER,"
        " cert_not_after_us INTEGER, revoked_us INTEGER);"
        "CREATE TABLE join_tokens(id TEXT PRIMARY KEY, stored_key TEXT, name_glob TEXT, labels TEXT,"
        " created_by TEXT, uses_max INTEGER, uses INTEGER, created_us INTEGER, expires_us INTEGER,"
        " revoked_us INTEGER);"
        "CREATE TABLE redemptions(token_id TEXT, spki_sha256 TEXT, agent_id TEXT, at_us INTEGER,"
        " PRIMARY KEY(token_id, spki_sha256)) WITHOUT ROWID;"
        "CREATE TABLE api_tokens(id TEXT PRIMARY KEY, sha256 TEXT, name TEXT, role TEXT, created_by TEXT,"
        " created_us INTEGER, expires_us INTEGER, revoked_us INTEGER, last_used_us INTEGER);"
        "CREATE UNIQUE INDEX api_tokens_sha256 ON api_tokens(sha256);"
        "CREATE TABLE idempotency(token_id TEXT, key TEXT, request_sha256 TEXT, status INTEGER, at_us "
        "INTEGER,"
        " body TEXT, PRIMARY KEY(token_id, key)) WITHOUT ROWID;"
        "CREATE INDEX idempotency_at ON idempotency(at_us);"
        "CREATE TABLE audit(seq INTEGER PRIMARY KEY, at_us INTEGER, actor TEXT, action TEXT, object TEXT,"
        " detail TEXT);";

/* The audit becomes a chain (common/auditchain.h): sqlite_audit.c copies the old records over, then drops
 * their table. */
static const char schema_audit_chain[] =
        "ALTER TABLE audit RENAME TO audit_unchained;"
        "CREATE TABLE audit(seq INTEGER PRIMARY KEY, at_us INTEGER, hash BLOB, salts BLOB, erased BLOB,"
        " action TEXT, actor TEXT, object TEXT, detail TEXT);"
        "CREATE TABLE audit_start(id INTEGER PRIMARY KEY, after_seq INTEGER, after_hash BLOB);";

/* Questions to people. live: somebody still waits for the answer, or for hearing it. */
static const char schema_checkpoints[] =
        "CREATE TABLE checkpoints(seq INTEGER PRIMARY KEY, id TEXT, state INTEGER, live INTEGER, run_seq "
        "INTEGER,"
        " step_idx INTEGER, attempt_id INTEGER, attempt INTEGER, question_id INTEGER, always INTEGER,"
        " created_us INTEGER, expires_us INTEGER, decided_us INTEGER, delivered_us INTEGER, run_id TEXT,"
        " step_id TEXT, workflow TEXT, kind TEXT, action TEXT, title TEXT, tool TEXT, step_tool TEXT,"
        " agent TEXT, agent_name TEXT, asked_by TEXT, sha256 TEXT, decided_by TEXT, reason TEXT, content "
        "TEXT,"
        " schema TEXT, arguments TEXT);"
        "CREATE UNIQUE INDEX checkpoints_id ON checkpoints(id);"
        "CREATE INDEX checkpoints_open ON checkpoints(seq) WHERE state = 0;"
        "CREATE INDEX checkpoints_live ON checkpoints(seq) WHERE live = 1;"
        "CREATE INDEX checkpoints_run ON checkpoints(run_seq, seq);";

/* What the router has measured. */
static const char schema_models[] =
        "CREATE TABLE models(slot INTEGER PRIMARY KEY, agent TEXT, endpoint TEXT, model TEXT,"
        " updated_us INTEGER, samples TEXT);";

/* The boundary between people: what was there belongs to the project that is always there, and tokens
 * are good for all of them, as they were. The index answers whose a run is without its row. */
static const char schema_projects[] = "ALTER TABLE runs ADD COLUMN project TEXT DEFAULT 'default';"
                                      "DROP INDEX runs_id;"
                                      "CREATE UNIQUE INDEX runs_id ON runs(id, project);"
                                      "CREATE INDEX runs_project ON runs(project, seq);"
                                      "ALTER TABLE checkpoints ADD COLUMN project TEXT DEFAULT 'default';"
                                      "ALTER TABLE api_tokens ADD COLUMN project TEXT DEFAULT '*';";

/* Questions that the hub itself asks: who may answer and what they said (hub/model/approval.h). */
static const char schema_approvals[] = "ALTER TABLE checkpoints ADD COLUMN rules TEXT;"
                                       "ALTER TABLE checkpoints ADD COLUMN record TEXT;";

/* The vault: secrets are sealed under data keys, those under a master key that is not here. */
static const char schema_vault[] =
        "CREATE TABLE vault(id INTEGER PRIMARY KEY, kind TEXT, source TEXT, master TEXT, salt BLOB,"
        " iterations INTEGER, created_us INTEGER, changed_us INTEGER);"
        "CREATE TABLE vault_keys(id INTEGER PRIMARY KEY, uses INTEGER, created_us INTEGER, wrapped BLOB);"
        "CREATE TABLE secrets(project TEXT, name TEXT, version INTEGER, keep INTEGER, created_us INTEGER,"
        " updated_us INTEGER, created_by TEXT, updated_by TEXT, PRIMARY KEY(project, name)) WITHOUT ROWID;"
        "CREATE TABLE secret_versions(project TEXT, name TEXT, version INTEGER, key_id INTEGER,"
        " created_us INTEGER, created_by TEXT, sealed BLOB, PRIMARY KEY(project, name, version));"
        "CREATE INDEX secret_versions_key ON secret_versions(key_id);";

/* One entry for every attempt that reserved something or said what it used; what a budget has spent is the
 * sum of its entries. */
static const char schema_ledger[] =
        "CREATE TABLE ledger(attempt_id INTEGER PRIMARY KEY, run_seq INTEGER, step_idx INTEGER, attempt "
        "INTEGER,"
        " state INTEGER, stopped INTEGER, day INTEGER, reserved_micros INTEGER, reserved_tokens INTEGER,"
        " spent_micros INTEGER, spent_tokens INTEGER, reserved_us INTEGER, settled_us INTEGER, run_id TEXT,"
        " step_id TEXT, project TEXT, agent TEXT, tool TEXT, model TEXT, source TEXT);"
        "CREATE INDEX ledger_run ON ledger(run_seq, attempt_id);"
        "CREATE INDEX ledger_project ON ledger(project, attempt_id);"
        "CREATE INDEX ledger_agent ON ledger(agent, attempt_id);"
        "CREATE INDEX ledger_day ON ledger(day, project);"
        "CREATE INDEX ledger_live ON ledger(attempt_id) WHERE state = 0;"
        "CREATE TABLE budgets(id TEXT PRIMARY KEY, micros INTEGER, tokens INTEGER, over INTEGER, since "
        "INTEGER,"
        " deleted INTEGER, updated_us INTEGER, updated_by TEXT) WITHOUT ROWID;"
        "CREATE TABLE budget_raises(account TEXT PRIMARY KEY, micros INTEGER, tokens INTEGER, updated_us "
        "INTEGER)"
        " WITHOUT ROWID;";

/* Users and services with their roles, and the projects there are: those that runs were made in already, too.
 */
static const char schema_people[] =
        "CREATE TABLE projects(name TEXT PRIMARY KEY, title TEXT, created_by TEXT, created_us INTEGER,"
        " archived_us INTEGER) WITHOUT ROWID;"
        "INSERT INTO projects VALUES('default','','hub',0,0);"
        "INSERT OR IGNORE INTO projects SELECT DISTINCT project,'','hub',0,0 FROM runs;"
        "CREATE TABLE users(id TEXT PRIMARY KEY, name TEXT, kind TEXT, email TEXT, issuer TEXT, subject TEXT,"
        " roles TEXT, idp_roles TEXT, created_by TEXT, created_us INTEGER, disabled_us INTEGER,"
        " last_login_us INTEGER);"
        "ALTER TABLE api_tokens ADD COLUMN user_id TEXT;"
        "ALTER TABLE api_tokens ADD COLUMN scopes TEXT;"
        "ALTER TABLE api_tokens ADD COLUMN kind TEXT;";

/* What people are to be told: written with what it speaks of, sent when that is durable. */
static const char schema_notices[] =
        "CREATE TABLE notices(seq INTEGER PRIMARY KEY, id TEXT, state INTEGER, attempts INTEGER, created_us "
        "INTEGER,"
        " next_us INTEGER, done_us INTEGER, event TEXT, target TEXT, checkpoint TEXT, run TEXT, project TEXT,"
        " title TEXT, last_error TEXT, body TEXT);"
        "CREATE UNIQUE INDEX notices_id ON notices(id);"
        "CREATE INDEX notices_due ON notices(target, next_us) WHERE state=0;"
        "CREATE INDEX notices_done ON notices(done_us) WHERE state>0;";

/* What hub/sched/engine_seal.c says of rows that decide what is run; NULL: older than the key. */
static const char schema_seals[] = "ALTER TABLE runs ADD COLUMN seal BLOB;"
                                   "ALTER TABLE steps ADD COLUMN seal BLOB;"
                                   "ALTER TABLE checkpoints ADD COLUMN seal BLOB;";

/* Who else counts as having asked what a run asks, and whose a token is that stands for itself. */
static const char schema_askers[] =
        "ALTER TABLE runs ADD COLUMN askers TEXT;"
        "ALTER TABLE api_tokens ADD COLUMN maker_id TEXT;"
        "UPDATE api_tokens SET maker_id=(SELECT id FROM users WHERE users.name=api_tokens.created_by)"
        " WHERE user_id IS NULL;";

static const char schema_token_uses[] =
        "CREATE TABLE token_uses(id TEXT PRIMARY KEY, used_us INTEGER) WITHOUT ROWID;";

/* What sqlite_seal.c says of rows that grant something; a column added to one of these tables later has no
 * default, and no migration changes their rows: the seals of before would not hold any more. */
static const char schema_row_seals[] = "ALTER TABLE agents ADD COLUMN seal BLOB;"
                                       "ALTER TABLE join_tokens ADD COLUMN seal BLOB;"
                                       "ALTER TABLE redemptions ADD COLUMN seal BLOB;"
                                       "ALTER TABLE api_tokens ADD COLUMN seal BLOB;"
                                       "ALTER TABLE projects ADD COLUMN seal BLOB;"
                                       "ALTER TABLE users ADD COLUMN seal BLOB;"
                                       "ALTER TABLE secrets ADD COLUMN seal BLOB;"
                                       "ALTER TABLE ledger ADD COLUMN seal BLOB;"
                                       "ALTER TABLE budgets ADD COLUMN seal BLOB;"
                                       "ALTER TABLE budget_raises ADD COLUMN seal BLOB;"
                                       "ALTER TABLE meta ADD COLUMN seal BLOB;"
                                       "ALTER TABLE checkpoints ADD COLUMN row_seal BLOB;"
                                       "CREATE TABLE seals(name TEXT PRIMARY KEY, seal BLOB) WITHOUT ROWID;";

static const char schema_deleted_users[] = "ALTER TABLE users ADD COLUMN deleted_us INTEGER;";

/* clang-format off */
const char *const store_migrations[] = {
        schema_1,
        schema_audit_chain,
        schema_checkpoints,
        schema_models,
        schema_projects,
        schema_approvals,
        schema_vault,
        schema_ledger,
        schema_people,
        schema_notices,
        schema_seals,
        schema_askers,
        schema_token_uses,
        schema_row_seals,
        schema_deleted_users,
        NULL,
};
/* clang-format on */

int store_schema_version(void)
{
        int n = 0;

        while (store_migrations[n])
                n++;
        return n;
}
