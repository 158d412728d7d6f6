/* The hub's options: one table for defaults, file, environment, flags and --help. */
#ifndef PHOTON_HUB_CONF_H
#define PHOTON_HUB_CONF_H

#include <stdbool.h>
#include <stdint.h>

#include "common/conf.h"

struct hub_conf {
        char *data;
        char *config;
        char *agent_listen, *enroll_listen, *api_listen;
        char *advertise; /* host that join tokens name; NULL: from the certificate's hosts */
        char *public_url;
        char *oidc_issuer, *oidc_client_id, *oidc_client_secret_file, *oidc_ca, *oidc_scopes;
        struct conf_list oidc_roles;
        int64_t oidc_session_ms;
        struct conf_list hosts;
        char *log_level;
        bool log_json, audit_reads;
        char *approvals_self, *budget_unpriced;
        int64_t approvals_timeout_ms;
        int64_t lost_after_ms, cancel_grace_ms, heartbeat_ms, drain_ms, cert_life_ms;
        char *vault_key; /* the vault's master key; NULL: what the vault remembers, at first DIR/vault.key */
        bool accept_damaged_audit, accept_changed_rows;
        int64_t max_agents, http_threads, http_connections, http_per_ip, http_rate, http_rate_per_ip;
};

struct askfirst;
struct err;
/* The section "ask-first" of the configuration file; without a file, or the section, no rules. */
int hub_conf_ask_first(const struct hub_conf *c, struct askfirst *out, struct err *e);

extern const struct conf_opt hub_init_opts[];
extern const struct conf_opt hub_serve_opts[];

#endif
