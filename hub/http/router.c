#include "hub/http/router.h"

#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "hub/http/api.h"

#define V1  "/api/v1"
#define CHG ROUTE_CHANGES

/* clang-format off */
static const struct route routes[] = {
        /* method, pattern, permission, handler, body, flags, status, query, answer, body schema, summary */
        {"POST", V1 "/runs", PERM_RUNS_SUBMIT, api_runs_create, BODY_LARGE, CHG | ROUTE_YAML | ROUTE_ANY_QUERY | ROUTE_IN_PROJECT, 201, "wait timeout steps priority project", "Run", "RunRequest",
         "Submit a workflow; with wait=true the answer comes when the run is over or the timeout has passed"},
        {"GET", V1 "/runs", PERM_RUNS_READ, api_runs_list, 0, ROUTE_LISTS, 200, "state workflow kind limit cursor project", "RunPage", NULL, "List runs, newest first"},
        {"GET", V1 "/runs/{id}", PERM_RUNS_READ, api_run_get, 0, ROUTE_OF_RUN, 200, "steps", "Run", NULL, "One run with its steps"},
        {"POST", V1 "/runs/{id}/cancel", PERM_RUNS_CONTROL, api_run_cancel, BODY_SMALL, CHG | ROUTE_OF_RUN, 200, "", "Run", "CancelRequest", "Cancel a run; its tools are stopped"},
        {"POST", V1 "/runs/{id}/retry", PERM_RUNS_CONTROL, api_run_retry, BODY_SMALL, CHG | ROUTE_OF_RUN, 200, "", "Run", NULL, "Run the failed, cancelled and unknown steps again"},
        {"GET", V1 "/runs/{id}/explain", PERM_RUNS_READ, api_run_explain, 0, ROUTE_OF_RUN, 200, "step", "Object", NULL, "Why steps went where they went, or why they wait"},
        {"GET", V1 "/runs/{id}/events", PERM_RUNS_READ, api_run_events, 0, ROUTE_STREAM | ROUTE_OF_RUN, 200, "after follow", NULL, NULL, "Events of a run as server-sent events, until the run is over"},
        {"GET", V1 "/runs/{id}/logs", PERM_RUNS_READ, api_run_logs, 0, ROUTE_BYTES | ROUTE_OF_RUN, 200, "channel follow format", NULL, NULL, "What the run's tools wrote, step after step"},
        {"PUT", V1 "/runs/{id}/stdin", PERM_RUNS_SUBMIT, api_run_stdin, BODY_STDIN, CHG | ROUTE_RAW | ROUTE_OF_RUN, 200, "offset eof", "Object", NULL, "Standard input of a call that was created with stdin=true"},
        {"GET", V1 "/runs/{id}/steps/{step}", PERM_RUNS_READ, api_step_get, 0, ROUTE_OF_RUN, 200, "", "Step", NULL, "One step with its earlier attempts"},
        {"POST", V1 "/runs/{id}/steps/{step}/resolve", PERM_STEPS_RESOLVE, api_step_resolve, BODY_SMALL, CHG | ROUTE_OF_RUN, 200, "", "Run", "ResolveRequest", "Decide a step whose outcome is unknown"},
        {"GET", V1 "/runs/{id}/steps/{step}/logs", PERM_RUNS_READ, api_step_logs, 0, ROUTE_BYTES | ROUTE_OF_RUN, 200, "channel attempt offset follow format", NULL, NULL, "What one attempt of a step wrote"},
        {"GET", V1 "/checkpoints", PERM_CHECKPOINTS_READ, api_checkpoints_list, 0, ROUTE_LISTS, 200, "state run limit cursor project", "CheckpointPage", NULL, "List questions to people, newest first; without state: the open ones"},
        {"GET", V1 "/checkpoints/{id}", PERM_CHECKPOINTS_READ, api_checkpoint_get, 0, ROUTE_OF_CHECKPOINT, 200, "", "Checkpoint", NULL, "One question with the exact arguments it asks about"},
        {"POST", V1 "/checkpoints/{id}/approve", PERM_CHECKPOINTS_DECIDE, api_checkpoint_approve, BODY_SMALL, CHG | ROUTE_OF_CHECKPOINT, 200, "", "Checkpoint", "DecisionRequest", "Approve what is asked; bound to the SHA-256 of its arguments"},
        {"POST", V1 "/checkpoints/{id}/reject", PERM_CHECKPOINTS_DECIDE, api_checkpoint_reject, BODY_SMALL, CHG | ROUTE_OF_CHECKPOINT, 200, "", "Checkpoint", "DecisionRequest", "Reject what is asked"},
        {"POST", V1 "/checkpoints/{id}/delegate", PERM_CHECKPOINTS_DECIDE, api_checkpoint_delegate, BODY_SMALL, CHG | ROUTE_OF_CHECKPOINT, 200, "", "Checkpoint", "DelegateRequest", "Hand the right to answer what the hub asks to another person"},
        {"GET", V1 "/notices", PERM_NOTICES_MANAGE, api_notices_list, 0, 0, 200, "state limit cursor", "NoticePage", NULL, "What people are told of questions, newest first; without state: what waits to be sent"},
        {"POST", V1 "/notices/{id}/retry", PERM_NOTICES_MANAGE, api_notice_retry, BODY_SMALL, CHG, 200, "", "Notice", NULL, "Try a notice once more, now"},
        {"POST", V1 "/calls", PERM_RUNS_SUBMIT, api_calls_create, BODY_CALL, CHG | ROUTE_IN_PROJECT, 201, "wait timeout steps project", "Run", "CallRequest", "Call one tool; the call is a run with one step"},
        {"POST", V1 "/validate", PERM_RUNS_SUBMIT, api_validate, BODY_LARGE, ROUTE_YAML | ROUTE_IN_PROJECT, 200, "project", "Validation", "ValidateRequest", "Check a workflow without running it"},
        {"GET", V1 "/agents", PERM_AGENTS_READ, api_agents_list, 0, ROUTE_ANYWHERE, 200, "limit cursor", "AgentPage", NULL, "List agents by name"},
        {"GET", V1 "/agents/{name}", PERM_AGENTS_READ, api_agent_get, 0, ROUTE_ANYWHERE, 200, "", "Agent", NULL, "One agent, by name or id"},
        {"POST", V1 "/agents/{name}/drain", PERM_AGENTS_MANAGE, api_agent_drain, BODY_SMALL, CHG, 200, "", "Agent", NULL, "Give the agent no new work"},
        {"POST", V1 "/agents/{name}/undrain", PERM_AGENTS_MANAGE, api_agent_undrain, BODY_SMALL, CHG, 200, "", "Agent", NULL, "Give the agent work again"},
        {"POST", V1 "/agents/{name}/revoke", PERM_AGENTS_MANAGE, api_agent_revoke, BODY_SMALL, CHG, 200, "", "Agent", NULL, "Revoke the agent's identity and cut its connection"},
        {"PATCH", V1 "/agents/{name}/labels", PERM_AGENTS_MANAGE, api_agent_labels, BODY_SMALL, CHG, 200, "", "Agent", "Object", "Set labels; null removes one"},
        {"GET", V1 "/models", PERM_AGENTS_READ, api_models_list, 0, ROUTE_ANYWHERE, 200, "limit cursor", "ModelPage", NULL, "Models of all agents: what they can do, cost, and how they have done"},
        {"GET", V1 "/tools", PERM_AGENTS_READ, api_tools_list, 0, ROUTE_ANYWHERE, 200, "limit cursor", "ToolPage", NULL, "Tools of all agents, and who has them"},
        {"POST", V1 "/join-tokens", PERM_JOIN_TOKENS, api_join_tokens_create, BODY_SMALL, CHG, 201, "", "JoinToken", "JoinTokenRequest", "Make a token with which machines enrol; its text is shown once"},
        {"GET", V1 "/join-tokens", PERM_JOIN_TOKENS, api_join_tokens_list, 0, 0, 200, "limit cursor", "JoinTokenPage", NULL, "List join tokens"},
        {"DELETE", V1 "/join-tokens/{id}", PERM_JOIN_TOKENS, api_join_token_revoke, 0, CHG, 204, "", NULL, NULL, "Revoke a join token"},
        {"POST", V1 "/api-tokens", PERM_API_TOKENS, api_api_tokens_create, BODY_SMALL, CHG | ROUTE_ANYWHERE, 201, "", "ApiToken", "ApiTokenRequest", "Make an API token; its text is shown once"},
        {"GET", V1 "/api-tokens", PERM_API_TOKENS, api_api_tokens_list, 0, ROUTE_ANYWHERE, 200, "limit cursor", "ApiTokenPage", NULL, "List API tokens"},
        {"DELETE", V1 "/api-tokens/{id}", PERM_API_TOKENS, api_api_token_revoke, 0, CHG | ROUTE_ANYWHERE, 204, "", NULL, NULL, "Revoke an API token"},
        {"POST", V1 "/self/api-tokens", PERM_OWN_TOKENS, api_own_tokens_create, BODY_SMALL, CHG | ROUTE_ANYWHERE, 201, "", "ApiToken", "ApiTokenRequest", "Make an API token for oneself, with no more than one has; its text is shown once"},
        {"GET", V1 "/self/api-tokens", PERM_OWN_TOKENS, api_own_tokens_list, 0, ROUTE_ANYWHERE, 200, "limit cursor", "ApiTokenPage", NULL, "List one's own API tokens and logins"},
        {"DELETE", V1 "/self/api-tokens/{id}", PERM_SELF, api_own_token_revoke, 0, CHG | ROUTE_ANYWHERE, 204, "", NULL, NULL, "Revoke one of one's own, such as a login"},
        {"POST", V1 "/users", PERM_USERS_MANAGE, api_users_create, BODY_SMALL, CHG, 201, "", "User", "UserRequest", "Make a user or a service; it has no role yet"},
        {"GET", V1 "/users", PERM_USERS_MANAGE, api_users_list, 0, 0, 200, "limit cursor", "UserPage", NULL, "List users and services with their roles"},
        {"GET", V1 "/users/{name}", PERM_USERS_MANAGE, api_user_get, 0, 0, 200, "", "User", NULL, "One user or service"},
        {"DELETE", V1 "/users/{name}", PERM_USERS_MANAGE, api_user_delete, 0, CHG, 204, "", NULL, NULL, "Delete a user or service for good; its name is given to nobody else"},
        {"POST", V1 "/users/{name}/disable", PERM_USERS_MANAGE, api_user_disable, BODY_SMALL, CHG, 200, "", "User", NULL, "Nothing of theirs is valid until they are enabled again"},
        {"POST", V1 "/users/{name}/enable", PERM_USERS_MANAGE, api_user_enable, BODY_SMALL, CHG, 200, "", "User", NULL, "Their tokens and logins are valid again"},
        {"POST", V1 "/projects", PERM_PROJECTS_MANAGE, api_projects_create, BODY_SMALL, CHG, 201, "", "Project", "ProjectRequest", "Make a project"},
        {"GET", V1 "/projects", PERM_PROJECTS_READ, api_projects_list, 0, ROUTE_ANYWHERE, 200, "limit cursor", "ProjectPage", NULL, "List the projects in which the caller has a role"},
        {"POST", V1 "/projects/{name}/archive", PERM_PROJECTS_MANAGE, api_project_archive, BODY_SMALL, CHG, 200, "", "Project", NULL, "Take no new work for the project"},
        {"POST", V1 "/projects/{name}/unarchive", PERM_PROJECTS_MANAGE, api_project_unarchive, BODY_SMALL, CHG, 200, "", "Project", NULL, "Take new work for the project again"},
        {"GET", V1 "/projects/{name}/members", PERM_PROJECTS_READ, api_members_list, 0, ROUTE_OF_PROJECT, 200, "limit cursor", "MemberPage", NULL, "List who has a role in the project; * is all of them"},
        {"PUT", V1 "/projects/{name}/members/{user}", PERM_ROLES_MANAGE, api_member_put, BODY_SMALL, CHG | ROUTE_OF_PROJECT, 200, "", "Member", "MemberRequest", "Give a user a role in the project; * is all of them, and the hub"},
        {"DELETE", V1 "/projects/{name}/members/{user}", PERM_ROLES_MANAGE, api_member_delete, 0, CHG | ROUTE_OF_PROJECT, 204, "", NULL, NULL, "Take a user's role in the project away"},
        {"GET", V1 "/secrets", PERM_SECRETS_READ, api_secrets_list, 0, ROUTE_LISTS, 200, "limit cursor project", "SecretPage", NULL, "List secrets: names and versions, never values"},
        {"GET", V1 "/secrets/{name}", PERM_SECRETS_READ, api_secret_get, 0, ROUTE_IN_PROJECT, 200, "project", "Secret", NULL, "One secret with its versions, without its value"},
        {"PUT", V1 "/secrets/{name}", PERM_SECRETS_MANAGE, api_secret_set, BODY_SMALL, CHG | ROUTE_IN_PROJECT, 200, "project", "Secret", "SecretRequest", "Set a secret: a new version of it, or its first"},
        {"POST", V1 "/secrets/{name}/rotate", PERM_SECRETS_MANAGE, api_secret_rotate, BODY_SMALL, CHG | ROUTE_IN_PROJECT, 200, "project", "Secret", "SecretRequest", "A new version of a secret that is there"},
        {"DELETE", V1 "/secrets/{name}", PERM_SECRETS_MANAGE, api_secret_delete, 0, CHG | ROUTE_IN_PROJECT, 204, "project", NULL, NULL, "Remove a secret, all versions, for good"},
        {"GET", V1 "/vault", PERM_SECRETS_READ, api_vault_get, 0, ROUTE_ANYWHERE, 200, "", "Vault", NULL, "Is the vault open, and under which keys"},
        {"POST", V1 "/vault/unlock", PERM_VAULT_MANAGE, api_vault_unlock, BODY_SMALL, CHG, 200, "", "Vault", "VaultUnlock", "Open the vault with its passphrase, or look again for its master key"},
        {"POST", V1 "/vault/lock", PERM_VAULT_MANAGE, api_vault_lock, BODY_SMALL, CHG, 200, "", "Vault", NULL, "Forget the keys; what needs a secret waits"},
        {"POST", V1 "/vault/rotate", PERM_VAULT_MANAGE, api_vault_rotate, BODY_SMALL, CHG, 200, "", "Vault", "VaultRotate", "A new data key or a new master key, while the hub serves"},
        {"GET", V1 "/events", PERM_EVENTS_READ, api_events, 0, ROUTE_STREAM | ROUTE_LISTS, 200, "after follow project", NULL, NULL, "All events as server-sent events; resumes after Last-Event-ID or ?after="},
        {"GET", V1 "/audit", PERM_AUDIT_READ, api_audit_list, 0, 0, 200, "actor action limit cursor", "AuditPage", NULL, "The audit's records, newest first"},
        {"GET", V1 "/audit/export", PERM_AUDIT_READ, api_audit_export, 0, ROUTE_TEXT, 200, "after limit", NULL, NULL, "Records as lines of JSON that photon audit verify FILE can prove without the hub; 10,000 at once, go on with after"},
        {"GET", V1 "/audit/verify", PERM_AUDIT_READ, api_audit_verify, 0, 0, 200, "", "Object", NULL, "Walk the chain: its head, or the first bad record"},
        {"POST", V1 "/audit/erase", PERM_AUDIT_MANAGE, api_audit_erase, BODY_SMALL, CHG, 200, "", "Object", "AuditErase", "Erase an actor or an object from all records; the chain stays provable"},
        {"POST", V1 "/audit/trim", PERM_AUDIT_MANAGE, api_audit_trim, BODY_SMALL, CHG, 200, "", "Object", "AuditTrim", "Remove records older than a duration; the chain stays provable"},
        {"GET", V1 "/budgets", PERM_BUDGETS_READ, api_budgets_list, 0, ROUTE_LISTS, 200, "limit cursor project", "BudgetPage", NULL, "Budgets: their caps, what is spent, reserved and left"},
        {"GET", V1 "/budgets/{id}", PERM_BUDGETS_READ, api_budget_get, 0, ROUTE_ANYWHERE, 200, "", "Budget", NULL, "One budget: run, project:NAME, agent:NAME, day or day:PROJECT"},
        {"PUT", V1 "/budgets/{id}", PERM_BUDGETS_MANAGE, api_budget_set, BODY_SMALL, CHG, 200, "", "Budget", "BudgetRequest", "Set a budget's cap; takes the place of the one before"},
        {"DELETE", V1 "/budgets/{id}", PERM_BUDGETS_MANAGE, api_budget_delete, 0, CHG, 204, "", NULL, NULL, "Take a budget away; what it counted stays in the ledger"},
        {"GET", V1 "/ledger", PERM_BUDGETS_READ, api_ledger_list, 0, ROUTE_LISTS, 200, "run agent day state limit cursor project", "LedgerPage", NULL, "What attempts reserved and spent, newest first"},
        {"GET", V1 "/whoami", PERM_SELF, api_whoami, 0, ROUTE_ANYWHERE, 200, "", "Object", NULL, "The caller's name, role and permissions"},
        {"POST", V1 "/login/device", PERM_PUBLIC, api_login_device, BODY_SMALL, 0, 200, "", "Object", NULL, "Begin a login by the identity provider's device flow: what to open, what to type, and a handle to ask with"},
        {"POST", V1 "/login/token", PERM_PUBLIC, api_login_token, BODY_SMALL, 0, 200, "", "Object", "LoginToken", "The token of a login that has been begun; 409 authorization_pending or slow_down until it is there"},
        {"GET", V1 "/openapi.json", PERM_PUBLIC, api_openapi, 0, 0, 200, "", "Object", NULL, "This description"},
        {"POST", "/mcp", PERM_SELF, api_mcp_post, BODY_LARGE, ROUTE_ANYWHERE, 200, "", "Object", "Object", "The hub as an MCP server: one JSON-RPC message a request (docs/MCP.md)"},
        {"DELETE", "/mcp", PERM_SELF, api_mcp_delete, 0, ROUTE_ANYWHERE, 204, "", NULL, NULL, "End an MCP session"},
        {"GET", "/login", PERM_PUBLIC, page_login, 0, ROUTE_HTML, 303, "next", NULL, NULL, "Send a browser to the identity provider (authorization code with PKCE)"},
        {"GET", "/callback", PERM_PUBLIC, page_callback, 0, ROUTE_HTML | ROUTE_ANY_QUERY, 303, "code state iss error", NULL, NULL, "Where the identity provider sends it back to: ends in a session cookie"},
        {"GET", "/", PERM_SELF, page_home, 0, ROUTE_PAGE | ROUTE_HTML | ROUTE_ANYWHERE, 200, "", NULL, NULL, "A page: who one is, and what waits for people"},
        {"GET", "/approve/{id}", PERM_CHECKPOINTS_READ, page_question, 0, ROUTE_PAGE | ROUTE_HTML | ROUTE_OF_CHECKPOINT, 200, "", NULL, NULL, "A page: one question with its exact arguments"},
        {"POST", "/approve/{id}", PERM_CHECKPOINTS_DECIDE, page_decide, BODY_SMALL, CHG | ROUTE_PAGE | ROUTE_HTML | ROUTE_OF_CHECKPOINT, 303, "", NULL, NULL, "The form of that page"},
        {"POST", "/logout", PERM_SELF, page_logout, BODY_SMALL, CHG | ROUTE_PAGE | ROUTE_HTML | ROUTE_ANYWHERE, 200, "", NULL, NULL, "End the session of the browser"},
        {"GET", "/healthz", PERM_PUBLIC, api_healthz, 0, 0, 200, "", "Object", NULL, "The process answers"},
        {"GET", "/readyz", PERM_PUBLIC, api_readyz, 0, 0, 200, "", "Object", NULL, "The hub can take and keep work"},
        {"GET", "/version", PERM_PUBLIC, api_version, 0, 0, 200, "", "Object", NULL, "Versions of hub and protocol"},
        {"GET", "/metrics", PERM_METRICS_READ, api_metrics, 0, ROUTE_LOOPBACK | ROUTE_TEXT, 200, "", NULL, NULL, "Prometheus metrics; no token needed from this machine"},
};
/* clang-format on */

#define N_ROUTES (sizeof routes / sizeof *routes)

const struct route *route_table(size_t *n)
{
        *n = N_ROUTES;
        return routes;
}

/* The length of a pattern's or path's next segment, without the slash. */
static size_t segment(const char *s)
{
        return strcspn(s, "/");
}

/* Where each parameter of the pattern lies in the path; false: no match. */
static bool fits(const char *pattern, const char *path, size_t at[ROUTE_PARAMS_MAX],
                 size_t len[ROUTE_PARAMS_MAX])
{
        const char *p = pattern, *s = path;
        size_t n = 0;

        while (*p == '/' && *s == '/') {
                size_t pn = segment(++p), sn = segment(++s);

                if (*p == '{') {
                        if (!sn || n == ROUTE_PARAMS_MAX)
                                return false;
                        at[n] = (size_t)(s - path);
                        len[n++] = sn;
                } else if (pn != sn || memcmp(p, s, pn) != 0) {
                        return false;
                }
                p += pn;
                s += sn;
        }
        return !*p && !*s;
}

static void add_method(char allow[64], const char *method)
{
        size_t n = strlen(allow);

        snprintf(allow + n, 64 - n, "%s%s%s", n ? ", " : "", method,
                 strcmp(method, "GET") == 0 ? ", HEAD" : "");
}

int route_match(const char *method, char *path, const struct route **out, const char *param[ROUTE_PARAMS_MAX],
                char allow[64])
{
        const char *want = strcmp(method, "HEAD") == 0 ? "GET" : method;
        size_t at[ROUTE_PARAMS_MAX] = {0}, len[ROUTE_PARAMS_MAX] = {0};

        allow[0] = '\0';
        for (size_t i = 0; i < N_ROUTES; i++) {
                if (!fits(routes[i].pattern, path, at, len))
                        continue;
                if (strcmp(routes[i].method, want) != 0) {
                        add_method(allow, routes[i].method);
                        continue;
                }
                for (size_t p = 0; p < ROUTE_PARAMS_MAX; p++) {
                        param[p] = len[p] ? path + at[p] : NULL;
                        if (len[p])
                                path[at[p] + len[p]] = '\0';
                }
                *out = &routes[i];
                return 0;
        }
        return allow[0] ? -E_NOTSUP : -E_NOENT;
}

bool route_takes(const struct route *r, const char *name)
{
        size_t n = strlen(name);
        const char *p = r->query;

        while (n && *p) {
                size_t w = strcspn(p, " ");

                if (w == n && memcmp(p, name, n) == 0)
                        return true;
                p += w + strspn(p + w, " ");
        }
        return false;
}
