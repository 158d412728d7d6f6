#include "hub/conf.h"

#include <stddef.h>

#include "common/err.h"
#include "common/file.h"
#include "common/mem.h"
#include "common/yaml.h"
#include "hub/model/askfirst.h"

#define CONFIG_MAX ((size_t)1 << 20)

#define OFF(field) offsetof(struct hub_conf, field)

#define COMMON_OPTS                                                                                          \
        {"data",                                                                                             \
         'd',                                                                                                \
         CONF_STR,                                                                                           \
         OFF(data),                                                                                          \
         NULL,                                                                                               \
         "PHOTON_HUB_DATA",                                                                                  \
         "DIR",                                                                                              \
         "everything the hub keeps (default: /var/lib/photon-hub for root, else "                            \
         "$XDG_STATE_HOME/photon-hub)",                                                                      \
         0,                                                                                                  \
         0},                                                                                                 \
                {"host",                                                                                     \
                 0,                                                                                          \
                 CONF_STRLIST,                                                                               \
                 OFF(hosts),                                                                                 \
                 NULL,                                                                                       \
                 "PHOTON_HUB_HOSTS",                                                                         \
                 "NAME|IP",                                                                                  \
                 "a name or address by which agents and people reach this hub; may be repeated; "            \
                 "goes into its certificate",                                                                \
                 0,                                                                                          \
                 0},                                                                                         \
        {                                                                                                    \
                "vault-key", 0, CONF_STR, OFF(vault_key), NULL, "PHOTON_HUB_VAULT_KEY", "FILE",              \
                        "the vault's master key, made if it is not there (default: what the vault was made " \
                        "with, at first vault.key in the hub's folder); a systemd credential "               \
                        "photon-vault-key takes its place where there is one",                               \
                        0, 0                                                                                 \
        }

const struct conf_opt hub_init_opts[] = {
        COMMON_OPTS,
        {0},
};

const struct conf_opt hub_serve_opts[] = {
        COMMON_OPTS,
        {"config", 'c', CONF_STR, OFF(config), NULL, "PHOTON_HUB_CONFIG", "FILE",
         "options as YAML or JSON, by these names", 0, 0},
        {"agent-listen", 0, CONF_STR, OFF(agent_listen), "0.0.0.0:7440", "PHOTON_HUB_AGENT_LISTEN",
         "HOST:PORT", "where agents connect (mutual TLS); port 0 picks one", 0, 0},
        {"enroll-listen", 0, CONF_STR, OFF(enroll_listen), NULL, "PHOTON_HUB_ENROLL_LISTEN", "HOST:PORT",
         "where machines join with a token (default: the agents' port plus one; 0 if that is 0)", 0, 0},
        {"api-listen", 0, CONF_STR, OFF(api_listen), "0.0.0.0:7443", "PHOTON_HUB_API_LISTEN", "HOST:PORT",
         "the HTTPS API; port 0 picks one", 0, 0},
        {"advertise", 0, CONF_STR, OFF(advertise), NULL, "PHOTON_HUB_ADVERTISE", "HOST",
         "the name or address that join tokens carry (default: the first --host, here or at init, else the "
         "listening address, else this host's name)",
         0, 0},
        {"lost-after", 0, CONF_DURATION, OFF(lost_after_ms), "60s", "PHOTON_HUB_LOST_AFTER", "TIME",
         "an agent that has been gone this long has lost its tool calls", 1000, INT64_C(31536000000)},
        {"cancel-grace", 0, CONF_DURATION, OFF(cancel_grace_ms), "10s", "PHOTON_HUB_CANCEL_GRACE", "TIME",
         "from TERM to KILL when a tool call is cancelled", 0, 0},
        {"approvals-timeout", 0, CONF_DURATION, OFF(approvals_timeout_ms), "24h",
         "PHOTON_HUB_APPROVALS_TIMEOUT", "TIME",
         "a question to people that names no time waits this long, then the answer is no", 1000,
         INT64_C(2592000000)},
        {"budget-unpriced", 0, CONF_STR, OFF(budget_unpriced), "deny", "PHOTON_HUB_BUDGET_UNPRICED",
         "deny|ask|allow", "where a budget's cap is set: what becomes of a step whose cost nobody can say", 0,
         0},
        {"approvals-self", 0, CONF_STR, OFF(approvals_self), "auto", "PHOTON_HUB_APPROVALS_SELF",
         "auto|allow|deny",
         "may the one who started a run approve what it asks? auto: only what a tool asks, and only while "
         "nobody "
         "else could",
         0, 0},
        {"ask-first", 0, CONF_SECTION, 0, NULL, NULL, NULL, NULL, 0, 0}, /* hub/model/askfirst.h */
        {"notices", 0, CONF_SECTION, 0, NULL, NULL, NULL, NULL, 0, 0},   /* hub/notify/targets.h */
        {"heartbeat", 0, CONF_DURATION, OFF(heartbeat_ms), "15s", "PHOTON_HUB_HEARTBEAT", "TIME",
         "a silent agent is asked this often, and given up after twice this", 100, INT64_C(31536000000)},
        {"drain", 0, CONF_DURATION, OFF(drain_ms), "3s", "PHOTON_HUB_DRAIN", "TIME",
         "how long SIGTERM lets answers and goodbyes leave", 0, 0},
        {"certificate-life", 0, CONF_DURATION, OFF(cert_life_ms), "24h", "PHOTON_HUB_CERTIFICATE_LIFE",
         "TIME", "life of an agent's certificate; it renews itself before two thirds of it", 2000,
         INT64_C(31536000000)},
        {"accept-damaged-audit", 0, CONF_BOOL, OFF(accept_damaged_audit), NULL, NULL, "",
         "serve although the audit's chain is damaged; this is written down in the audit", 0, 0},
        {"accept-changed-rows", 0, CONF_BOOL, OFF(accept_changed_rows), NULL, NULL, "",
         "take users, tokens, agents and budgets as they stand in the database, whoever wrote them, and seal "
         "them anew; this is written down in the audit",
         0, 0},
        {"max-agents", 0, CONF_INT, OFF(max_agents), "10000", "PHOTON_HUB_MAX_AGENTS", "N",
         "connections from agents at once", 1, 100000},
        {"http-threads", 0, CONF_INT, OFF(http_threads), "2", "PHOTON_HUB_HTTP_THREADS", "N",
         "threads that answer the API", 1, 64},
        {"http-connections", 0, CONF_INT, OFF(http_connections), "1000", "PHOTON_HUB_HTTP_CONNECTIONS", "N",
         "API connections at once", 1, 60000},
        {"http-per-ip", 0, CONF_INT, OFF(http_per_ip), "100", "PHOTON_HUB_HTTP_PER_IP", "N",
         "API connections at once from one address", 1, 60000},
        {"http-rate", 0, CONF_INT, OFF(http_rate), "1000", "PHOTON_HUB_HTTP_RATE", "N",
         "API requests a second by one token, four times as many at once; 0: no limit", 0, 1000000},
        {"http-rate-per-ip", 0, CONF_INT, OFF(http_rate_per_ip), "2000", "PHOTON_HUB_HTTP_RATE_PER_IP", "N",
         "API requests a second from one address, four times as many at once; 0: no limit", 0, 1000000},
        {"public-url", 0, CONF_STR, OFF(public_url), NULL, "PHOTON_HUB_PUBLIC_URL", "URL",
         "what browsers call this hub, e.g. https://hub.example:7443 (default: https:// and the API's "
         "address)",
         0, 0},
        {"oidc-issuer", 0, CONF_STR, OFF(oidc_issuer), NULL, "PHOTON_HUB_OIDC_ISSUER", "URL",
         "the identity provider with which people log in (OpenID Connect)", 0, 0},
        {"oidc-client-id", 0, CONF_STR, OFF(oidc_client_id), NULL, "PHOTON_HUB_OIDC_CLIENT_ID", "ID",
         "what the provider calls this hub", 0, 0},
        {"oidc-client-secret-file", 0, CONF_STR, OFF(oidc_client_secret_file), NULL,
         "PHOTON_HUB_OIDC_CLIENT_SECRET_FILE", "FILE",
         "the hub's password at the provider, in a file (default: none, a public client)", 0, 0},
        {"oidc-ca", 0, CONF_STR, OFF(oidc_ca), NULL, "PHOTON_HUB_OIDC_CA", "FILE",
         "authority (PEM) of the provider's certificate (default: what this machine trusts)", 0, 0},
        {"oidc-scopes", 0, CONF_STR, OFF(oidc_scopes), "openid profile email", "PHOTON_HUB_OIDC_SCOPES",
         "WORDS", "what is asked of the provider", 0, 0},
        {"oidc-role", 0, CONF_STRLIST, OFF(oidc_roles), NULL, "PHOTON_HUB_OIDC_ROLES",
         "CLAIM=VALUE:PROJECT=ROLE",
         "whoever's claim has that value gets that role in that project (* for all), e.g. "
         "groups=ops:web=operator; may be repeated",
         0, 0},
        {"oidc-session", 0, CONF_DURATION, OFF(oidc_session_ms), "12h", "PHOTON_HUB_OIDC_SESSION", "TIME",
         "how long a login is good", 60000, INT64_C(2592000000)},
        {"log-level", 0, CONF_STR, OFF(log_level), "info", "PHOTON_LOG_LEVEL", "LEVEL",
         "debug, info, warn or error", 0, 0},
        {"audit-reads", 0, CONF_BOOL, OFF(audit_reads), NULL, "PHOTON_HUB_AUDIT_READS", "",
         "write what people read into the audit, too: a record for each request that is let in", 0, 0},
        {"log-json", 0, CONF_BOOL, OFF(log_json), NULL, "PHOTON_LOG_JSON", "", "log lines as JSON", 0, 0},
        {0},
};

int hub_conf_ask_first(const struct hub_conf *c, struct askfirst *out, struct err *e)
{
        struct doc *root = NULL;
        struct err why = {0};
        char *text = NULL;
        size_t n = 0;
        int rc;

        *out = (struct askfirst){0};
        if (!c->config)
                return 0;
        rc = file_read(c->config, CONFIG_MAX, &text, &n, e);
        if (!rc)
                rc = doc_parse(text, n, &root, e);
        mem_free(text);
        if (rc)
                return rc;
        if (root->kind == DOC_MAP && askfirst_read(doc_get(root, "ask-first"), out, &why))
                rc = err_at(e, why.code, why.line, why.col, "%s:%d:%d: %s", c->config, why.line, why.col,
                            why.msg);
        doc_free(root);
        return rc;
}
