/* The MCP servers of this machine: the section `mcp_servers` of the agent's
 * configuration, read once at start. Strict, with file, line and column.
 *
 *     mcp_servers:
 *       files:
 *         command: [npx, -y, "@modelcontextprotocol/server-filesystem@2026.8.31", /srv]
 *         env: {LEVEL: info, TOKEN: {file: /etc/photon/token}, KEY: {env: MY_KEY}}
 *         cwd: ~/work
 *         startup_timeout: 60s
 *         idle_timeout: 10m
 *         call_timeout: 10m
 *       remote:
 *         url: https://mcp.example.com/mcp
 *         headers: {Authorization: {env: REMOTE_TOKEN, prefix: "Bearer "}}
 *
 * A list is owned by whoever loaded it; values that are references are read when
 * a server is started and never kept. */
#ifndef PHOTON_AGENT_TOOLS_MCP_CONFIG_H
#define PHOTON_AGENT_TOOLS_MCP_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

#define MCP_SERVERS_MAX 64
#define MCP_NAME_MAX    40
#define MCP_COMMAND_MAX 256
#define MCP_VALUES_MAX  64
#define MCP_VALUE_MAX   ((size_t)16 << 10)
#define MCP_STARTUP_MS  60000
#define MCP_IDLE_MS     600000
#define MCP_CALL_MS     600000

/* A text, or where it is found. */
struct mcp_value {
        char *name, *text, *env, *file, *prefix; /* one of text, env, file */
};

struct mcp_config {
        char *name;
        char **command; /* NULL-ended; NULL: url is set */
        char *cwd, *url, *ca_file;
        struct mcp_value *env, *headers;
        size_t n_env, n_headers;
        int64_t startup_ms, idle_ms, call_ms; /* idle, call: 0: never */
        char sha[17];                         /* of what it says: is a cache still about this server? */
};

struct mcp_configs {
        struct mcp_config *v;
        size_t n;
};

/* path NULL or without the section: none. */
int mcp_configs_load(const char *path, struct mcp_configs *out, struct err *e);
/* `file`: for messages. */
int mcp_configs_parse(const char *text, size_t n, const char *file, struct mcp_configs *out, struct err *e);
void mcp_configs_free(struct mcp_configs *c);

/* The value as it is now, with its prefix; wipe and mem_free. -E_NOENT, -E_TOOBIG ...: what is missing. Files
 * are read with blocking calls; they are small. */
int mcp_value_read(const struct mcp_value *v, char **out, struct err *e);

#endif
