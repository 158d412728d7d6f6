/* The handlers behind the routes, one file per resource. Each runs on an HTTP
 * thread with the caller known and allowed, and the body complete. 0: answered or
 * on its way to the loop; -E_*: becomes a problem document. */
#ifndef PHOTON_HTTP_API_H
#define PHOTON_HTTP_API_H

struct err;
struct http_req;

int api_runs_create(struct http_req *q, struct err *e);
int api_runs_list(struct http_req *q, struct err *e);
int api_run_get(struct http_req *q, struct err *e);
int api_run_cancel(struct http_req *q, struct err *e);
int api_run_retry(struct http_req *q, struct err *e);
int api_run_explain(struct http_req *q, struct err *e);
int api_run_events(struct http_req *q, struct err *e);
int api_run_logs(struct http_req *q, struct err *e);
int api_run_stdin(struct http_req *q, struct err *e);
int api_step_get(struct http_req *q, struct err *e);
int api_step_resolve(struct http_req *q, struct err *e);
int api_step_logs(struct http_req *q, struct err *e);
int api_checkpoints_list(struct http_req *q, struct err *e);
int api_checkpoint_get(struct http_req *q, struct err *e);
int api_checkpoint_approve(struct http_req *q, struct err *e);
int api_checkpoint_reject(struct http_req *q, struct err *e);
int api_checkpoint_delegate(struct http_req *q, struct err *e);
int api_notices_list(struct http_req *q, struct err *e);
int api_notice_retry(struct http_req *q, struct err *e);
int api_calls_create(struct http_req *q, struct err *e);
int api_validate(struct http_req *q, struct err *e);
int api_agents_list(struct http_req *q, struct err *e);
int api_agent_get(struct http_req *q, struct err *e);
int api_agent_drain(struct http_req *q, struct err *e);
int api_agent_undrain(struct http_req *q, struct err *e);
int api_agent_revoke(struct http_req *q, struct err *e);
int api_agent_labels(struct http_req *q, struct err *e);
int api_models_list(struct http_req *q, struct err *e);
int api_tools_list(struct http_req *q, struct err *e);
int api_mcp_post(struct http_req *q, struct err *e);
int api_mcp_delete(struct http_req *q, struct err *e);
int api_join_tokens_create(struct http_req *q, struct err *e);
int api_join_tokens_list(struct http_req *q, struct err *e);
int api_join_token_revoke(struct http_req *q, struct err *e);
int api_api_tokens_create(struct http_req *q, struct err *e);
int api_api_tokens_list(struct http_req *q, struct err *e);
int api_api_token_revoke(struct http_req *q, struct err *e);
int api_own_tokens_create(struct http_req *q, struct err *e);
int api_own_tokens_list(struct http_req *q, struct err *e);
int api_own_token_revoke(struct http_req *q, struct err *e);
int api_users_create(struct http_req *q, struct err *e);
int api_users_list(struct http_req *q, struct err *e);
int api_user_get(struct http_req *q, struct err *e);
struct ruler_removal;
/* Loop thread. 409 last_admin: nobody could rule the hub any more. */
int people_keep_ruler(struct http_req *q, const struct ruler_removal *x, struct err *e);
int api_user_delete(struct http_req *q, struct err *e);
int api_user_disable(struct http_req *q, struct err *e);
int api_user_enable(struct http_req *q, struct err *e);
int api_projects_create(struct http_req *q, struct err *e);
int api_projects_list(struct http_req *q, struct err *e);
int api_project_archive(struct http_req *q, struct err *e);
int api_project_unarchive(struct http_req *q, struct err *e);
int api_members_list(struct http_req *q, struct err *e);
int api_member_put(struct http_req *q, struct err *e);
int api_member_delete(struct http_req *q, struct err *e);
int api_secrets_list(struct http_req *q, struct err *e);
int api_secret_get(struct http_req *q, struct err *e);
int api_secret_set(struct http_req *q, struct err *e);
int api_secret_rotate(struct http_req *q, struct err *e);
int api_secret_delete(struct http_req *q, struct err *e);
int api_vault_get(struct http_req *q, struct err *e);
int api_vault_unlock(struct http_req *q, struct err *e);
int api_vault_lock(struct http_req *q, struct err *e);
int api_vault_rotate(struct http_req *q, struct err *e);
int api_login_device(struct http_req *q, struct err *e);
int api_login_token(struct http_req *q, struct err *e);
int page_login(struct http_req *q, struct err *e);
int page_callback(struct http_req *q, struct err *e);
int page_home(struct http_req *q, struct err *e);
int page_question(struct http_req *q, struct err *e);
int page_decide(struct http_req *q, struct err *e);
int page_logout(struct http_req *q, struct err *e);
int api_audit_list(struct http_req *q, struct err *e);
int api_audit_export(struct http_req *q, struct err *e);
int api_audit_verify(struct http_req *q, struct err *e);
int api_audit_erase(struct http_req *q, struct err *e);
int api_audit_trim(struct http_req *q, struct err *e);
int api_budgets_list(struct http_req *q, struct err *e);
int api_budget_get(struct http_req *q, struct err *e);
int api_budget_set(struct http_req *q, struct err *e);
int api_budget_delete(struct http_req *q, struct err *e);
int api_ledger_list(struct http_req *q, struct err *e);
int api_events(struct http_req *q, struct err *e);
int api_whoami(struct http_req *q, struct err *e);
int api_healthz(struct http_req *q, struct err *e);
int api_readyz(struct http_req *q, struct err *e);
int api_version(struct http_req *q, struct err *e);
int api_metrics(struct http_req *q, struct err *e);
int api_openapi(struct http_req *q, struct err *e);

#endif
