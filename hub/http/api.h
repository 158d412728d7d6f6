/* The handlers behind the routes, one file per resource. Each runs on an HTTP
 * thread with the caller known and allowed, and the body complete. 0: answered or
 * on its way to the loop; -E_*: becomes a problem document. */
#ifndef PHOTON_HTTP_API_H
#define PHOTON_HTTP_API_H

struct err;
struct http_req;

#define API_HANDLERS(X)                                                                       \
        X(runs_create) X(runs_list) X(run_get) X(run_cancel) X(run_retry) X(run_explain)      \
        X(run_events) X(run_logs) X(run_stdin) X(step_get) X(step_resolve) X(step_logs)       \
        X(calls_create) X(validate)                                                           \
        X(agents_list) X(agent_get) X(agent_drain) X(agent_undrain) X(agent_revoke)           \
        X(agent_labels) X(tools_list)                                                         \
        X(join_tokens_create) X(join_tokens_list) X(join_token_revoke)                        \
        X(api_tokens_create) X(api_tokens_list) X(api_token_revoke)                           \
        X(events) X(whoami) X(healthz) X(readyz) X(version) X(metrics) X(openapi)

#define X(name) int api_##name(struct http_req *q, struct err *e);
API_HANDLERS(X)
#undef X

#endif
