#include "hub/store/store_impl.h"

#include "common/buf.h"
#include "common/mem.h"

#include <assert.h>
#include <string.h>

#define C(type_, row_, name_, field_, flags_)                                                                \
        {                                                                                                    \
                name_, COL_##type_, flags_, offsetof(struct row_, field_), 0                                 \
        }
#define C2(type_, row_, name_, field_, field2_, flags_)                                                      \
        {                                                                                                    \
                name_, COL_##type_, flags_, offsetof(struct row_, field_), offsetof(struct row_, field2_)    \
        }
/* A sealed row, and its last column. */
#define SEAL(row_) SEAL_AS("seal", row_)
#define SEAL_AS(name_, row_)                                                                                 \
        {                                                                                                    \
                name_, COL_BLOB, 0, offsetof(struct row_, sealed.mac), offsetof(struct row_, sealed.len)     \
        }
#define SEALED(name_, row_, conflict_)                                                                       \
        {                                                                                                    \
#name_, name_##_cols, sizeof name_##_cols / sizeof *name_##_cols, conflict_,                 \
                        sizeof(struct row_), offsetof(struct row_, sealed)                                   \
        }
#define TABLE(name_, conflict_)                                                                              \
        {                                                                                                    \
#name_, name_##_cols, sizeof name_##_cols / sizeof *name_##_cols, conflict_, 0, 0            \
        }

static_assert(sizeof(enum run_state) == 4 && sizeof(enum step_state) == 4 && sizeof(int) == 4,
              "COL_U32, COL_I32");

static const struct col runs_cols[] = {
        C(I64, row_run, "seq", seq, COL_KEY),
        C(TEXT, row_run, "id", id, 0),
        C(U32, row_run, "state", state, 0),
        C(TEXT, row_run, "kind", kind, 0),
        C(TEXT, row_run, "workflow", workflow, 0),
        C(TEXT, row_run, "def_sha256", def_sha256, 0),
        C(I32, row_run, "priority", priority, 0),
        C(BOOL, row_run, "cancel_requested", cancel_requested, 0),
        C(U32, row_run, "n_steps", n_steps, 0),
        C(I64, row_run, "created_us", created_us, 0),
        C(I64, row_run, "started_us", started_us, 0),
        C(I64, row_run, "finished_us", finished_us, 0),
        C(TEXT, row_run, "created_by", created_by, 0),
        C(TEXT, row_run, "concurrency_group", concurrency_group, 0),
        C(TEXT, row_run, "error_code", error_code, 0),
        C(TEXT, row_run, "error_message", error_message, 0),
        C(TEXT, row_run, "inputs", inputs, 0),
        C(TEXT, row_run, "outputs", outputs, 0),
        C(TEXT, row_run, "project", project, 0),
        C(TEXT, row_run, "askers", askers, 0),
        C2(BLOB, row_run, "seal", seal, seal_len, 0),
};

static const struct col steps_cols[] = {
        C2(STEP_KEY, row_step, "key", run_seq, idx, COL_KEY),
        C(U32, row_step, "state", state, 0),
        C(U32, row_step, "attempt", attempt, 0),
        C(I64, row_step, "attempt_id", attempt_id, 0),
        C(U32, row_step, "losses", losses, 0),
        C(I64, row_step, "output_bytes", output_bytes, 0),
        C(I64, row_step, "not_before_us", not_before_us, 0),
        C(I64, row_step, "created_us", created_us, 0),
        C(I64, row_step, "ready_us", ready_us, 0),
        C(I64, row_step, "dispatched_us", dispatched_us, 0),
        C(I64, row_step, "started_us", started_us, 0),
        C(I64, row_step, "finished_us", finished_us, 0),
        C2(OPT_I32, row_step, "exit_code", exit_code, has_exit_code, 0),
        C(I32, row_step, "def", def, 0),
        C(I32, row_step, "parent", parent, 0),
        C(BOOL, row_step, "fanout", fanout, 0),
        C(TEXT, row_step, "id", id, 0),
        C(TEXT, row_step, "tool", tool, 0),
        C(TEXT, row_step, "matrix", matrix, 0),
        C(TEXT, row_step, "agent", agent, 0),
        C(TEXT, row_step, "agent_name", agent_name, 0),
        C(TEXT, row_step, "agent_boot", agent_boot, 0),
        C(TEXT, row_step, "error_code", error_code, 0),
        C(TEXT, row_step, "error_message", error_message, 0),
        C(TEXT, row_step, "placement", placement, 0),
        C(TEXT, row_step, "usage", usage, 0),
        C(TEXT, row_step, "input", input, 0),
        C(TEXT, row_step, "outputs", outputs, 0),
        C2(BLOB, row_step, "seal", seal, seal_len, 0),
};

/* The key is last, so that it is the last parameter of the UPDATE. */
static const struct col step_moves_cols[] = {
        C(U32, row_step_move, "state", state, COL_ALWAYS),
        C(U32, row_step_move, "attempt", attempt, COL_ALWAYS),
        C(I64, row_step_move, "attempt_id", attempt_id, COL_ALWAYS),
        C(U32, row_step_move, "losses", losses, COL_ALWAYS),
        C(I64, row_step_move, "output_bytes", output_bytes, COL_ALWAYS),
        C(I64, row_step_move, "not_before_us", not_before_us, 0),
        C(I64, row_step_move, "ready_us", ready_us, 0),
        C(I64, row_step_move, "dispatched_us", dispatched_us, 0),
        C(I64, row_step_move, "started_us", started_us, 0),
        C(I64, row_step_move, "finished_us", finished_us, 0),
        C2(OPT_I32, row_step_move, "exit_code", exit_code, has_exit_code, COL_CLEAR),
        C(TEXT, row_step_move, "agent", agent, COL_CLEAR),
        C(TEXT, row_step_move, "agent_name", agent_name, COL_CLEAR),
        C(TEXT, row_step_move, "agent_boot", agent_boot, COL_CLEAR),
        C(TEXT, row_step_move, "error_code", error_code, COL_CLEAR),
        C(TEXT, row_step_move, "error_message", error_message, COL_CLEAR),
        C(TEXT, row_step_move, "placement", placement, 0),
        C(TEXT, row_step_move, "usage", usage, 0),
        C(TEXT, row_step_move, "input", input, 0),
        C(TEXT, row_step_move, "outputs", outputs, COL_CLEAR),
        C2(BLOB, row_step_move, "seal", seal, seal_len, 0),
        C2(STEP_KEY, row_step_move, "key", run_seq, idx, COL_KEY),
};

static const struct col attempts_cols[] = {
        C2(STEP_KEY, row_attempt, "step", run_seq, idx, COL_KEY),
        C(U32, row_attempt, "attempt", attempt, COL_KEY),
        C(I64, row_attempt, "attempt_id", attempt_id, 0),
        C2(OPT_I32, row_attempt, "exit_code", exit_code, has_exit_code, 0),
        C(I64, row_attempt, "output_bytes", output_bytes, 0),
        C(I64, row_attempt, "dispatched_us", dispatched_us, 0),
        C(I64, row_attempt, "started_us", started_us, 0),
        C(I64, row_attempt, "finished_us", finished_us, 0),
        C(TEXT, row_attempt, "agent_name", agent_name, 0),
        C(TEXT, row_attempt, "outcome", outcome, 0),
        C(TEXT, row_attempt, "error_code", error_code, 0),
        C(TEXT, row_attempt, "error_message", error_message, 0),
        C(TEXT, row_attempt, "outputs", outputs, 0),
};

static const struct col defs_cols[] = {
        C(TEXT, row_def, "sha256", sha256, COL_KEY),
        C2(BLOB, row_def, "text", text, n, 0),
};

static const struct col small_outputs_cols[] = {
        C(I64, row_small_output, "attempt_id", attempt_id, COL_KEY),
        C2(BLOB, row_small_output, "framed", framed, n, 0),
};

static const struct col events_cols[] = {
        C(I64, row_events, "last_id", last_id, COL_KEY),
        C(I64, row_events, "first_id", first_id, 0),
        C(TEXT, row_events, "run_id", run_id, 0),
        C2(BLOB, row_events, "lines", lines, n, 0),
};

static const struct col agents_cols[] = {
        C(TEXT, row_agent, "id", id, COL_KEY),
        C(TEXT, row_agent, "name", name, 0),
        C(TEXT, row_agent, "state", state, 0),
        C(TEXT, row_agent, "spki_sha256", spki_sha256, 0),
        C(TEXT, row_agent, "cert_serial", cert_serial, 0),
        C(TEXT, row_agent, "labels", labels, 0),
        C(TEXT, row_agent, "info", info, 0),
        C(TEXT, row_agent, "join_token_id", join_token_id, 0),
        C(I64, row_agent, "created_us", created_us, 0),
        C(I64, row_agent, "last_seen_us", last_seen_us, 0),
        C(I64, row_agent, "cert_not_after_us", cert_not_after_us, 0),
        C(I64, row_agent, "revoked_us", revoked_us, 0),
        SEAL(row_agent),
};

static const struct col join_tokens_cols[] = {
        C(TEXT, row_join_token, "id", id, COL_KEY),
        C(TEXT, row_join_token, "stored_key", stored_key_hex, 0),
        C(TEXT, row_join_token, "name_glob", name_glob, 0),
        C(TEXT, row_join_token, "labels", labels, 0),
        C(TEXT, row_join_token, "created_by", created_by, 0),
        C(I64, row_join_token, "uses_max", uses_max, 0),
        C(I64, row_join_token, "uses", uses, 0),
        C(I64, row_join_token, "created_us", created_us, 0),
        C(I64, row_join_token, "expires_us", expires_us, 0),
        C(I64, row_join_token, "revoked_us", revoked_us, 0),
        SEAL(row_join_token),
};

static const struct col redemptions_cols[] = {
        C(TEXT, row_redemption, "token_id", token_id, COL_KEY),
        C(TEXT, row_redemption, "spki_sha256", spki_sha256, COL_KEY),
        C(TEXT, row_redemption, "agent_id", agent_id, 0),
        C(I64, row_redemption, "at_us", at_us, 0),
        SEAL(row_redemption),
};

static const struct col models_cols[] = {
        C(I64, row_model, "slot", slot, COL_KEY),       C(TEXT, row_model, "agent", agent, 0),
        C(TEXT, row_model, "endpoint", endpoint, 0),    C(TEXT, row_model, "model", model, 0),
        C(I64, row_model, "updated_us", updated_us, 0), C(TEXT, row_model, "samples", samples, 0),
};
static const struct col vault_cols[] = {
        C(I64, row_vault, "id", id, COL_KEY),           C(TEXT, row_vault, "kind", kind, 0),
        C(TEXT, row_vault, "source", source, 0),        C(TEXT, row_vault, "master", master, 0),
        C2(BLOB, row_vault, "salt", salt, salt_len, 0), C(I64, row_vault, "iterations", iterations, 0),
        C(I64, row_vault, "created_us", created_us, 0), C(I64, row_vault, "changed_us", changed_us, 0),
};

static const struct col vault_keys_cols[] = {
        C(I64, row_vault_key, "id", id, COL_KEY),
        C(I64, row_vault_key, "uses", uses, 0),
        C(I64, row_vault_key, "created_us", created_us, 0),
        C2(BLOB, row_vault_key, "wrapped", wrapped, wrapped_len, 0),
};

static const struct col secrets_cols[] = {
        C(TEXT, row_secret, "project", project, COL_KEY),
        C(TEXT, row_secret, "name", name, COL_KEY),
        C(I64, row_secret, "version", version, 0),
        C(I64, row_secret, "keep", keep, 0),
        C(I64, row_secret, "created_us", created_us, 0),
        C(I64, row_secret, "updated_us", updated_us, 0),
        C(TEXT, row_secret, "created_by", created_by, 0),
        C(TEXT, row_secret, "updated_by", updated_by, 0),
        SEAL(row_secret),
};

static const struct col secret_versions_cols[] = {
        C(TEXT, row_secret_version, "project", project, COL_KEY),
        C(TEXT, row_secret_version, "name", name, COL_KEY),
        C(I64, row_secret_version, "version", version, COL_KEY),
        C(I64, row_secret_version, "key_id", key_id, 0),
        C(I64, row_secret_version, "created_us", created_us, 0),
        C(TEXT, row_secret_version, "created_by", created_by, 0),
        C2(BLOB, row_secret_version, "sealed", sealed, sealed_len, 0),
};

static const struct col api_tokens_cols[] = {
        C(TEXT, row_api_token, "id", id, COL_KEY),
        C(TEXT, row_api_token, "sha256", sha256_hex, 0),
        C(TEXT, row_api_token, "name", name, 0),
        C(TEXT, row_api_token, "role", role, 0),
        C(TEXT, row_api_token, "created_by", created_by, 0),
        C(I64, row_api_token, "created_us", created_us, 0),
        C(I64, row_api_token, "expires_us", expires_us, 0),
        C(I64, row_api_token, "revoked_us", revoked_us, 0),
        C(I64, row_api_token, "last_used_us", last_used_us, 0),
        C(TEXT, row_api_token, "project", project, 0),
        C(TEXT, row_api_token, "user_id", user_id, 0),
        C(TEXT, row_api_token, "scopes", scopes, 0),
        C(TEXT, row_api_token, "kind", kind, 0),
        C(TEXT, row_api_token, "maker_id", maker_id, 0),
        SEAL(row_api_token),
};

static const struct col projects_cols[] = {
        C(TEXT, row_project, "name", name, COL_KEY),        C(TEXT, row_project, "title", title, 0),
        C(TEXT, row_project, "created_by", created_by, 0),  C(I64, row_project, "created_us", created_us, 0),
        C(I64, row_project, "archived_us", archived_us, 0), SEAL(row_project),
};

static const struct col users_cols[] = {
        C(TEXT, row_user, "id", id, COL_KEY),
        C(TEXT, row_user, "name", name, 0),
        C(TEXT, row_user, "kind", kind, 0),
        C(TEXT, row_user, "email", email, 0),
        C(TEXT, row_user, "issuer", issuer, 0),
        C(TEXT, row_user, "subject", subject, 0),
        C(TEXT, row_user, "roles", roles, 0),
        C(TEXT, row_user, "idp_roles", idp_roles, 0),
        C(TEXT, row_user, "created_by", created_by, 0),
        C(I64, row_user, "created_us", created_us, 0),
        C(I64, row_user, "disabled_us", disabled_us, 0),
        C(I64, row_user, "last_login_us", last_login_us, 0),
        C(I64, row_user, "deleted_us", deleted_us, 0),
        SEAL(row_user),
};

static const struct col idempotency_cols[] = {
        C(TEXT, row_idempotency, "token_id", token_id, COL_KEY),
        C(TEXT, row_idempotency, "key", key, COL_KEY),
        C(TEXT, row_idempotency, "request_sha256", request_sha256, 0),
        C(I32, row_idempotency, "status", status, 0),
        C(I64, row_idempotency, "at_us", at_us, 0),
        C(TEXT, row_idempotency, "body", body, 0),
};

/* As the record has it; what the chain adds is written by sqlite_audit.c. */
static const struct col audit_cols[] = {
        C(I64, row_audit, "at_us", at_us, 0),    C(TEXT, row_audit, "actor", actor, 0),
        C(TEXT, row_audit, "action", action, 0), C(TEXT, row_audit, "object", object, 0),
        C(TEXT, row_audit, "detail", detail, 0),
};

/* No tables: what is asked of the audit. */
static const struct col audit_erase_cols[] = {
        C(I64, row_audit_erase, "at_us", at_us, 0),
        C(TEXT, row_audit_erase, "by", by, 0),
        C(TEXT, row_audit_erase, "actor", actor, 0),
        C(TEXT, row_audit_erase, "object", object, 0),
};
static const struct col audit_trim_cols[] = {
        C(I64, row_audit_trim, "at_us", at_us, 0),
        C(I64, row_audit_trim, "before_us", before_us, 0),
        C(TEXT, row_audit_trim, "by", by, 0),
};

/* No tables either: what is asked of the secrets (sqlite_vault.c). */
static const struct col secret_cut_cols[] = {
        C(TEXT, row_secret_cut, "project", project, 0),
        C(TEXT, row_secret_cut, "name", name, 0),
        C(I64, row_secret_cut, "below", below, 0),
};
static const struct col secret_reseal_cols[] = {
        C(TEXT, row_secret_reseal, "project", project, 0),
        C(TEXT, row_secret_reseal, "name", name, 0),
        C(I64, row_secret_reseal, "version", version, 0),
        C(I64, row_secret_reseal, "from_key", from_key, 0),
        C(I64, row_secret_reseal, "key_id", key_id, 0),
        C2(BLOB, row_secret_reseal, "sealed", sealed, sealed_len, 0),
};

static const struct col meta_cols[] = {
        C(TEXT, row_meta, "key", key, COL_KEY),
        C(TEXT, row_meta, "value", value, 0),
        SEAL(row_meta),
};

static const struct col marks_cols[] = {
        C(I64, row_marks, "id", id, COL_KEY),
        C(I64, row_marks, "attempt_id", attempt_id, 0),
};

static const struct col checkpoints_cols[] = {
        C(I64, row_checkpoint, "seq", seq, COL_KEY),
        C(TEXT, row_checkpoint, "id", id, 0),
        C(U32, row_checkpoint, "state", state, COL_ALWAYS),
        C(BOOL, row_checkpoint, "live", live, 0),
        C(I64, row_checkpoint, "run_seq", run_seq, 0),
        C(U32, row_checkpoint, "step_idx", step_idx, 0),
        C(I64, row_checkpoint, "attempt_id", attempt_id, 0),
        C(U32, row_checkpoint, "attempt", attempt, 0),
        C(U32, row_checkpoint, "question_id", question_id, 0),
        C(BOOL, row_checkpoint, "always", always, 0),
        C(I64, row_checkpoint, "created_us", created_us, 0),
        C(I64, row_checkpoint, "expires_us", expires_us, 0),
        C(I64, row_checkpoint, "decided_us", decided_us, 0),
        C(I64, row_checkpoint, "delivered_us", delivered_us, 0),
        C(TEXT, row_checkpoint, "run_id", run_id, 0),
        C(TEXT, row_checkpoint, "step_id", step_id, 0),
        C(TEXT, row_checkpoint, "workflow", workflow, 0),
        C(TEXT, row_checkpoint, "kind", kind, 0),
        C(TEXT, row_checkpoint, "action", action, 0),
        C(TEXT, row_checkpoint, "title", title, 0),
        C(TEXT, row_checkpoint, "tool", tool, 0),
        C(TEXT, row_checkpoint, "step_tool", step_tool, 0),
        C(TEXT, row_checkpoint, "agent", agent, 0),
        C(TEXT, row_checkpoint, "agent_name", agent_name, 0),
        C(TEXT, row_checkpoint, "asked_by", asked_by, 0),
        C(TEXT, row_checkpoint, "sha256", sha256, 0),
        C(TEXT, row_checkpoint, "decided_by", decided_by, 0),
        C(TEXT, row_checkpoint, "reason", reason, 0),
        C(TEXT, row_checkpoint, "content", content, 0),
        C(TEXT, row_checkpoint, "schema", schema, 0),
        C(TEXT, row_checkpoint, "arguments", arguments, 0),
        C(TEXT, row_checkpoint, "project", project, 0),
        C(TEXT, row_checkpoint, "rules", rules, 0),
        C(TEXT, row_checkpoint, "record", record, 0),
        C2(BLOB, row_checkpoint, "seal", seal, seal_len, 0), /* the engine's (engine_seal.c) */
        SEAL_AS("row_seal", row_checkpoint),
};

static const struct col ledger_cols[] = {
        C(I64, row_ledger, "attempt_id", attempt_id, COL_KEY),
        C(I64, row_ledger, "run_seq", run_seq, 0),
        C(U32, row_ledger, "step_idx", step_idx, 0),
        C(U32, row_ledger, "attempt", attempt, 0),
        C(U32, row_ledger, "state", state, 0),
        C(BOOL, row_ledger, "stopped", stopped, 0),
        C(I64, row_ledger, "day", day, 0),
        C(I64, row_ledger, "reserved_micros", reserved_micros, 0),
        C(I64, row_ledger, "reserved_tokens", reserved_tokens, 0),
        C(I64, row_ledger, "spent_micros", spent_micros, 0),
        C(I64, row_ledger, "spent_tokens", spent_tokens, 0),
        C(I64, row_ledger, "reserved_us", reserved_us, 0),
        C(I64, row_ledger, "settled_us", settled_us, 0),
        C(TEXT, row_ledger, "run_id", run_id, 0),
        C(TEXT, row_ledger, "step_id", step_id, 0),
        C(TEXT, row_ledger, "project", project, 0),
        C(TEXT, row_ledger, "agent", agent, 0),
        C(TEXT, row_ledger, "tool", tool, 0),
        C(TEXT, row_ledger, "model", model, 0),
        C(TEXT, row_ledger, "source", source, 0),
        SEAL(row_ledger),
};

static const struct col budgets_cols[] = {
        C(TEXT, row_budget, "id", id, COL_KEY),
        C(I64, row_budget, "micros", micros, 0),
        C(I64, row_budget, "tokens", tokens, 0),
        C(U32, row_budget, "over", over, 0),
        C(I64, row_budget, "since", since, 0),
        C(BOOL, row_budget, "deleted", deleted, 0),
        C(I64, row_budget, "updated_us", updated_us, 0),
        C(TEXT, row_budget, "updated_by", updated_by, 0),
        SEAL(row_budget),
};

static const struct col budget_raises_cols[] = {
        C(TEXT, row_budget_raise, "account", account, COL_KEY),
        C(I64, row_budget_raise, "micros", micros, 0),
        C(I64, row_budget_raise, "tokens", tokens, 0),
        C(I64, row_budget_raise, "updated_us", updated_us, 0),
        SEAL(row_budget_raise),
};

static const struct col token_uses_cols[] = {
        C(TEXT, row_token_use, "id", id, COL_KEY),
        C(I64, row_token_use, "used_us", used_us, 0),
};

static const struct col notices_cols[] = {
        C(I64, row_notice, "seq", seq, COL_KEY),
        C(TEXT, row_notice, "id", id, 0),
        C(U32, row_notice, "state", state, COL_ALWAYS),
        C(U32, row_notice, "attempts", attempts, 0),
        C(I64, row_notice, "created_us", created_us, 0),
        C(I64, row_notice, "next_us", next_us, 0),
        C(I64, row_notice, "done_us", done_us, 0),
        C(TEXT, row_notice, "event", event, 0),
        C(TEXT, row_notice, "target", target, 0),
        C(TEXT, row_notice, "checkpoint", checkpoint, 0),
        C(TEXT, row_notice, "run", run, 0),
        C(TEXT, row_notice, "project", project, 0),
        C(TEXT, row_notice, "title", title, 0),
        C(TEXT, row_notice, "last_error", last_error, 0),
        C(TEXT, row_notice, "body", body, 0),
};

/* REPLACE where no index but the primary key would have to be rewritten with the row. */
const struct table store_tables[ROW_KINDS] = {
        [ROW_RUN] = TABLE(runs, CONFLICT_UPDATE),
        [ROW_STEP] = TABLE(steps, CONFLICT_REPLACE),
        [ROW_ATTEMPT] = TABLE(attempts, CONFLICT_REPLACE),
        [ROW_DEF] = TABLE(defs, CONFLICT_IGNORE),
        [ROW_SMALL_OUTPUT] = TABLE(small_outputs, CONFLICT_REPLACE),
        [ROW_EVENTS] = TABLE(events, CONFLICT_REPLACE),
        [ROW_AGENT] = SEALED(agents, row_agent, CONFLICT_UPDATE),
        [ROW_JOIN_TOKEN] = SEALED(join_tokens, row_join_token, CONFLICT_UPDATE),
        [ROW_REDEMPTION] = SEALED(redemptions, row_redemption, CONFLICT_REPLACE),
        [ROW_API_TOKEN] = SEALED(api_tokens, row_api_token, CONFLICT_UPDATE),
        [ROW_PROJECT] = SEALED(projects, row_project, CONFLICT_UPDATE),
        [ROW_USER] = SEALED(users, row_user, CONFLICT_UPDATE),
        [ROW_MODEL] = TABLE(models, CONFLICT_REPLACE),
        [ROW_IDEMPOTENCY] = TABLE(idempotency, CONFLICT_UPDATE),
        [ROW_AUDIT] = TABLE(audit, CONFLICT_NONE),
        [ROW_META] = SEALED(meta, row_meta, CONFLICT_REPLACE),
        [ROW_MARKS] = TABLE(marks, CONFLICT_REPLACE),
        [ROW_CHECKPOINT] = SEALED(checkpoints, row_checkpoint, CONFLICT_UPDATE),
        [ROW_VAULT] = TABLE(vault, CONFLICT_REPLACE),
        [ROW_VAULT_KEY] = TABLE(vault_keys, CONFLICT_REPLACE),
        [ROW_SECRET] = SEALED(secrets, row_secret, CONFLICT_REPLACE),
        [ROW_SECRET_VERSION] = TABLE(secret_versions, CONFLICT_UPDATE),
        [ROW_LEDGER] = SEALED(ledger, row_ledger, CONFLICT_UPDATE),
        [ROW_BUDGET] = SEALED(budgets, row_budget, CONFLICT_REPLACE),
        [ROW_BUDGET_RAISE] = SEALED(budget_raises, row_budget_raise, CONFLICT_REPLACE),
        [ROW_NOTICE] = TABLE(notices, CONFLICT_UPDATE),
        [ROW_TOKEN_USE] = TABLE(token_uses, CONFLICT_REPLACE),
};

const struct table store_step_moves = {
        "steps", step_moves_cols, sizeof step_moves_cols / sizeof *step_moves_cols, CONFLICT_NONE, 0, 0};

const struct table store_audit_erase = TABLE(audit_erase, CONFLICT_NONE);
const struct table store_audit_trim = TABLE(audit_trim, CONFLICT_NONE);
const struct table store_secret_cut = TABLE(secret_cut, CONFLICT_NONE);
const struct table store_secret_reseal = TABLE(secret_reseal, CONFLICT_NONE);

/* ---- records ---- */

static void store_number(const struct col *c, uint8_t *row, int64_t v)
{
        uint32_t u = (uint32_t)v;
        int32_t i = (int32_t)v;

        switch (c->type) {
        case COL_I64:
                memcpy(row + c->off, &v, sizeof v);
                break;
        case COL_U32:
                memcpy(row + c->off, &u, sizeof u);
                break;
        case COL_I32:
        case COL_OPT_I32:
                memcpy(row + c->off, &i, sizeof i);
                break;
        case COL_BOOL:
                *(bool *)(void *)(row + c->off) = v != 0;
                break;
        case COL_STEP_KEY:
                u = (uint32_t)v & ((1u << STEP_KEY_IDX_BITS) - 1);
                v >>= STEP_KEY_IDX_BITS;
                memcpy(row + c->off, &v, sizeof v);
                memcpy(row + c->off2, &u, sizeof u);
                break;
        }
}

int64_t row_number(const struct col *c, const uint8_t *row)
{
        int64_t run_seq;
        uint32_t u;
        int32_t i;

        switch (c->type) {
        case COL_I64:
                memcpy(&run_seq, row + c->off, sizeof run_seq);
                return run_seq;
        case COL_U32:
                memcpy(&u, row + c->off, sizeof u);
                return u;
        case COL_I32:
        case COL_OPT_I32:
                memcpy(&i, row + c->off, sizeof i);
                return i;
        case COL_BOOL:
                return *(const bool *)(const void *)(row + c->off);
        case COL_STEP_KEY:
                memcpy(&run_seq, row + c->off, sizeof run_seq);
                memcpy(&u, row + c->off2, sizeof u);
                assert(run_seq >= 0 && run_seq < (int64_t)1 << (63 - STEP_KEY_IDX_BITS));
                assert(u < 1u << STEP_KEY_IDX_BITS);
                return STEP_KEY(run_seq, u);
        default:
                return 0;
        }
}

const void *row_bytes(const struct col *c, const uint8_t *row, size_t *out_n)
{
        const void *p;

        memcpy(&p, row + c->off, sizeof p);
        if (!p)
                return NULL;
        if (c->type == COL_BLOB)
                memcpy(out_n, row + c->off2, sizeof *out_n);
        else
                *out_n = strlen(p);
        return p;
}

static size_t padded(size_t n)
{
        return (sizeof(uint32_t) + n + 1 + 7) & ~(size_t)7;
}

size_t row_bound(const struct table *t, const void *row)
{
        size_t size = sizeof(struct rec) + 8 * (size_t)t->n_cols, n;

        for (int i = 0; i < t->n_cols; i++) {
                if (t->cols[i].type <= COL_BLOB && row_bytes(&t->cols[i], row, &n))
                        size += padded(n);
        }
        return size;
}

size_t row_encode(const struct table *t, enum row_kind kind, const void *row, uint8_t *out)
{
        struct rec rec = {.kind = (uint8_t)kind};
        uint8_t *p = out + sizeof rec;

        for (int i = 0; i < t->n_cols; i++) {
                const struct col *c = &t->cols[i];

                if (c->type <= COL_BLOB) {
                        size_t n = 0;
                        const void *bytes = row_bytes(c, row, &n);
                        uint32_t len = (uint32_t)n;

                        if (!bytes)
                                continue;
                        memcpy(p, &len, sizeof len);
                        memcpy(p + sizeof len, bytes, n);
                        p[sizeof len + n] = 0;
                        p += padded(n);
                } else {
                        int64_t v = row_number(c, row);

                        if (c->type == COL_OPT_I32) {
                                if (!*((const bool *)(const void *)((const uint8_t *)row + c->off2)))
                                        continue;
                        } else if (v == 0 && !(c->flags & (COL_ALWAYS | COL_KEY))) {
                                continue;
                        }
                        memcpy(p, &v, sizeof v);
                        p += sizeof v;
                }
                rec.mask |= (uint64_t)1 << i;
        }
        rec.size = (uint32_t)(p - out);
        memcpy(out, &rec, sizeof rec);
        return rec.size;
}

/* Binds the value at p as parameter `at`; returns where the next one lies. */
static const uint8_t *bind_value(sqlite3_stmt *st, int at, const struct col *c, const uint8_t *p, int *rc)
{
        if (c->type <= COL_BLOB) {
                uint32_t len;

                memcpy(&len, p, sizeof len);
                if (c->type == COL_TEXT)
                        *rc |= sqlite3_bind_text(st, at, (const char *)p + sizeof len, (int)len,
                                                 SQLITE_STATIC);
                else
                        *rc |= sqlite3_bind_blob(st, at, p + sizeof len, (int)len, SQLITE_STATIC);
                return p + padded(len);
        }
        int64_t v;

        memcpy(&v, p, sizeof v);
        *rc |= sqlite3_bind_int64(st, at, v);
        return p + sizeof v;
}

void row_load(const struct table *t, const struct rec *rec, void *row_)
{
        const uint8_t *p = (const uint8_t *)rec + sizeof *rec;
        uint8_t *row = row_;

        for (int i = 0; i < t->n_cols; i++) {
                const struct col *c = &t->cols[i];
                bool there = rec->mask & (uint64_t)1 << i;
                const void *bytes = NULL;
                uint32_t len = 0;
                size_t n;
                int64_t v = 0;

                if (c->type <= COL_BLOB) {
                        if (there) {
                                memcpy(&len, p, sizeof len);
                                bytes = p + sizeof len;
                                p += padded(len);
                        }
                        memcpy(row + c->off, &bytes, sizeof bytes);
                        n = len;
                        if (c->type == COL_BLOB)
                                memcpy(row + c->off2, &n, sizeof n);
                        continue;
                }
                if (there) {
                        memcpy(&v, p, sizeof v);
                        p += sizeof v;
                }
                if (c->type == COL_OPT_I32)
                        *(bool *)(void *)(row + c->off2) = there;
                store_number(c, row, v);
        }
}

int row_bind_all(sqlite3_stmt *st, const struct table *t, const struct rec *rec)
{
        const uint8_t *p = (const uint8_t *)rec + sizeof *rec;
        int rc = SQLITE_OK;

        for (int i = 0; i < t->n_cols; i++) {
                const struct col *c = &t->cols[i];

                if (rec->mask & (uint64_t)1 << i)
                        p = bind_value(st, i + 1, c, p, &rc);
                else if (c->type <= COL_BLOB || c->type == COL_OPT_I32)
                        rc |= sqlite3_bind_null(st, i + 1);
                else
                        rc |= sqlite3_bind_int64(st, i + 1, 0);
        }
        return rc ? SQLITE_MISUSE : SQLITE_OK;
}

int row_bind_mask(sqlite3_stmt *st, const struct table *t, const struct rec *rec)
{
        const uint8_t *p = (const uint8_t *)rec + sizeof *rec;
        int rc = SQLITE_OK, at = 0;

        for (int i = 0; i < t->n_cols; i++) {
                if (rec->mask & (uint64_t)1 << i)
                        p = bind_value(st, ++at, &t->cols[i], p, &rc);
        }
        return rc ? SQLITE_MISUSE : SQLITE_OK;
}

/* ---- reading ---- */

void row_decode(sqlite3_stmt *st, const struct table *t, void *row_)
{
        uint8_t *row = row_;

        for (int i = 0; i < t->n_cols; i++) {
                const struct col *c = &t->cols[i];
                const void *p;
                size_t n;

                switch (c->type) {
                case COL_TEXT:
                        p = sqlite3_column_text(st, i);
                        memcpy(row + c->off, &p, sizeof p);
                        break;
                case COL_BLOB:
                        p = sqlite3_column_blob(st, i);
                        n = (size_t)sqlite3_column_bytes(st, i);
                        memcpy(row + c->off, &p, sizeof p);
                        memcpy(row + c->off2, &n, sizeof n);
                        break;
                case COL_OPT_I32:
                        *(bool *)(void *)(row + c->off2) = sqlite3_column_type(st, i) != SQLITE_NULL;
                        store_number(c, row, sqlite3_column_int64(st, i));
                        break;
                default:
                        store_number(c, row, sqlite3_column_int64(st, i));
                }
        }
}

/* ---- SQL from the lists ---- */

static char *steal(struct buf *b, int rc)
{
        char *sql = rc ? NULL : buf_steal_str(b);

        buf_fini(b);
        return sql;
}

char *row_columns(const struct table *t)
{
        struct buf b;
        int rc = 0;

        buf_init(&b, 0);
        for (int i = 0; i < t->n_cols && !rc; i++)
                rc = buf_printf(&b, "%s%s", i ? "," : "", t->cols[i].name);
        return steal(&b, rc);
}

static int put_upsert(struct buf *b, const struct table *t)
{
        const char *sep = " ON CONFLICT(";
        int rc = 0;

        for (int i = 0; i < t->n_cols && !rc; i++) {
                if (t->cols[i].flags & COL_KEY) {
                        rc = buf_printf(b, "%s%s", sep, t->cols[i].name);
                        sep = ",";
                }
        }
        sep = ") DO UPDATE SET ";
        for (int i = 0; i < t->n_cols && !rc; i++) {
                if (!(t->cols[i].flags & COL_KEY)) {
                        rc = buf_printf(b, "%s%s=excluded.%s", sep, t->cols[i].name, t->cols[i].name);
                        sep = ",";
                }
        }
        return rc;
}

char *row_insert_sql(const struct table *t)
{
        static const char *const verbs[] = {
                [CONFLICT_REPLACE] = "INSERT OR REPLACE",
                [CONFLICT_IGNORE] = "INSERT OR IGNORE",
                [CONFLICT_UPDATE] = "INSERT",
                [CONFLICT_NONE] = "INSERT",
        };
        struct buf b;
        int rc;

        buf_init(&b, 0);
        rc = buf_printf(&b, "%s INTO %s(", verbs[t->conflict], t->name);
        for (int i = 0; i < t->n_cols && !rc; i++)
                rc = buf_printf(&b, "%s%s", i ? "," : "", t->cols[i].name);
        for (int i = 0; i < t->n_cols && !rc; i++)
                rc = buf_printf(&b, "%s?%d", i ? "," : ") VALUES(", i + 1);
        if (!rc)
                rc = buf_putc(&b, ')');
        if (!rc && t->conflict == CONFLICT_UPDATE)
                rc = put_upsert(&b, t);
        return steal(&b, rc);
}

char *row_update_sql(const struct table *t, uint64_t mask, bool clear)
{
        const char *sep = "", *key = "";
        struct buf b;
        int rc, at = 0;

        buf_init(&b, 0);
        rc = buf_printf(&b, "UPDATE %s SET ", t->name);
        for (int i = 0; i < t->n_cols && !rc; i++) {
                const struct col *c = &t->cols[i];

                if (c->flags & COL_KEY) {
                        key = c->name;
                        continue;
                }
                if (mask & (uint64_t)1 << i)
                        rc = buf_printf(&b, "%s%s=?%d", sep, c->name, ++at);
                else if (clear && c->flags & COL_CLEAR)
                        rc = buf_printf(&b, "%s%s=NULL", sep, c->name);
                else
                        continue;
                sep = ",";
        }
        if (!rc)
                rc = buf_printf(&b, " WHERE %s=?%d", key, at + 1);
        return steal(&b, rc);
}
