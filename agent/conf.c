#include "agent/conf.h"

#include "agent/inventory.h"
#include "common/err.h"
#include "common/jointoken.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/str.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define AT(field) offsetof(struct agent_conf, field)

const struct conf_opt agent_conf_opts[] = {
        {"data", 'd', CONF_STR, AT(data), NULL, "PHOTON_AGENT_DATA", "DIR",
         "key, certificate, journal and spool (default: /var/lib/photon-agent for root, else "
         "$XDG_STATE_HOME/photon-agent)",
         0, 0},
        {"config", 'c', CONF_STR, AT(config), NULL, "PHOTON_AGENT_CONFIG", "FILE",
         "read options from this YAML or JSON file", 0, 0},
        {"policy", 0, CONF_STR, AT(policy), NULL, "PHOTON_AGENT_POLICY", "FILE",
         "what the hub may do on this machine (default: policy.yaml in the data folder)", 0, 0},
        {"tools-dir", 0, CONF_STRLIST, AT(tools_dirs), NULL, "PHOTON_AGENT_TOOLS_DIR", "DIR",
         "manifests of plug-ins; may be repeated (default: tools.d in the data folder and in /etc/photon)", 0,
         0},
        {"name", 'n', CONF_STR, AT(name), NULL, "PHOTON_AGENT_NAME", "NAME",
         "the name to join under (default: the hub picks one from the host name)", 0, 0},
        {"label", 'l', CONF_STRLIST, AT(labels), NULL, "PHOTON_AGENT_LABELS", "K=V",
         "a label of this agent; may be repeated", 0, 0},
        {"kind", 0, CONF_STR, AT(kind), "local", "PHOTON_AGENT_KIND", "KIND",
         "local, cloud, edge, mobile or specialised", 0, 0},
        {"join", 0, CONF_STR, AT(token), NULL, "PHOTON_JOIN_TOKEN", "TOKEN",
         "run: join with this token first if needed", 0, 0},
        {"token-file", 0, CONF_STR, AT(token_file), NULL, NULL, "FILE",
         "read the join token from this file (\"-\": standard input)", 0, 0},
        {"replace", 0, CONF_BOOL, AT(replace), "false", NULL, "",
         "join: forget the hub and the key that this machine has now", 0, 0},
        {"timeout", 0, CONF_DURATION, AT(timeout_ms), "60s", NULL, "TIME", "join: give up after this long",
         100, 86400000},
        {"max-running", 0, CONF_INT, AT(max_running), "32", "PHOTON_AGENT_MAX_RUNNING", "N",
         "tool calls at once", 1, 10000},
        {"drain-timeout", 0, CONF_DURATION, AT(drain_timeout_ms), "10s", "PHOTON_AGENT_DRAIN_TIMEOUT", "TIME",
         "how long running calls may go on after SIGTERM", 0, 86400000},
        /* agent/tools/mcp_config.h */
        {"mcp_servers", 0, CONF_SECTION, 0, NULL, NULL, NULL, NULL, 0, 0},
        /* agent/tools/models.h */
        {"models", 0, CONF_SECTION, 0, NULL, NULL, NULL, NULL, 0, 0},
        /* agent/tools/acp_agents.h */
        {"acp", 0, CONF_SECTION, 0, NULL, NULL, NULL, NULL, 0, 0},
        {"log-level", 0, CONF_STR, AT(log_level), "info", "PHOTON_LOG_LEVEL", "LEVEL",
         "debug, info, warn or error", 0, 0},
        {"log-format", 0, CONF_STR, AT(log_format), "text", "PHOTON_LOG_FORMAT", "FORMAT", "text or json", 0,
         0},
        {"output", 'o', CONF_STR, AT(output), "text", NULL, "FORMAT", "status, doctor, version: text or json",
         0, 0},
        {0},
};

static char *default_data(void)
{
        const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");

        if (geteuid() == 0)
                return mem_strdup("/var/lib/photon-agent");
        if (state && state[0] == '/')
                return str_printf("%s/photon-agent", state);
        return home && home[0] == '/' ? str_printf("%s/.local/state/photon-agent", home) : NULL;
}

/* Also from a pipe, which file_read would refuse. */
static int read_small(const char *path, char *out, size_t size, struct err *e)
{
        int fd = strcmp(path, "-") == 0 ? dup(STDIN_FILENO) : open(path, O_RDONLY | O_CLOEXEC), rc = 0;
        size_t n = 0;
        ssize_t r = 1;

        while (fd >= 0 && r > 0 && n < size - 1) {
                r = read(fd, out + n, size - 1 - n);
                if (r > 0)
                        n += (size_t)r;
        }
        if (fd < 0 || r < 0)
                rc = err_set(e, err_from_errno(errno), "cannot read the join token from %s: %s", path,
                             strerror(errno));
        if (fd >= 0)
                close(fd);
        out[n] = '\0';
        return rc;
}

static int read_token(struct agent_conf *c, struct err *e)
{
        char text[JOIN_TOKEN_TEXT_MAX + 2];
        char *copy;
        int rc;

        if (!c->token_file)
                return 0;
        rc = read_small(c->token_file, text, sizeof text, e);
        if (rc)
                return rc;
        /* A file of white space is no token: the unit's stand-in for one that is not there. */
        for (size_t n = strlen(text); n > 0 && strchr(" \t\r\n", text[n - 1]); n--)
                text[n - 1] = '\0';
        copy = mem_strdup(text);
        mem_wipe(text, sizeof text);
        if (!copy)
                return err_set(e, E_NOMEM, "no memory for the join token");
        if (c->token) {
                mem_wipe(c->token, strlen(c->token));
                mem_free(c->token);
        }
        c->token = copy;
        return 0;
}

static int check(const struct agent_conf *c, struct err *e)
{
        static const char *const kinds[] = {"local", "cloud", "edge", "mobile", "specialised"};
        enum log_level level;
        bool known = false;

        for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
                known = known || strcmp(c->kind, kinds[i]) == 0;
        if (!known)
                return err_set(e, E_INVAL,
                               "--kind is \"%s\"; it is local, cloud, edge, mobile or specialised", c->kind);
        if (log_level_parse(c->log_level, &level))
                return err_set(e, E_INVAL, "--log-level is \"%s\"; it is debug, info, warn or error",
                               c->log_level);
        if (strcmp(c->log_format, "text") != 0 && strcmp(c->log_format, "json") != 0)
                return err_set(e, E_INVAL, "--log-format is \"%s\"; it is text or json", c->log_format);
        if (strcmp(c->output, "text") != 0 && strcmp(c->output, "json") != 0)
                return err_set(e, E_INVAL, "-o is \"%s\"; it is text or json", c->output);
        if (c->name && !str_is_name(c->name, 63))
                return err_set(e, E_INVAL,
                               "\"%s\" is no agent name: letters, digits, '.', '_', '-', at most 63",
                               c->name);
        for (size_t i = 0; i < c->labels.n; i++) {
                int rc = inventory_check_label(c->labels.v[i], e);

                if (rc)
                        return rc;
        }
        log_setup(level, strcmp(c->log_format, "json") == 0);
        return 0;
}

/* The config file's name is itself a flag or a variable: look it up first. */
static int find_config(int argc, char **argv, int from, char **out, struct err *e)
{
        struct agent_conf probe = {0};
        struct conf_list rest = {0};
        int rc = conf_env(agent_conf_opts, &probe, e);

        if (!rc)
                rc = conf_args(agent_conf_opts, argc, argv, &from, false, &probe, &rest, e);
        mem_free(rest.v);
        if (!rc && probe.config) {
                *out = mem_strdup(probe.config);
                if (!*out)
                        rc = err_set(e, E_NOMEM, "no memory for the options");
        }
        agent_conf_fini(&probe);
        return rc;
}

int agent_conf_read(int argc, char **argv, int *io_i, struct agent_conf *out, struct conf_list *rest,
                    struct err *e)
{
        char *config = NULL;
        int rc = find_config(argc, argv, *io_i, &config, e);

        if (!rc)
                rc = conf_defaults(agent_conf_opts, out, e);
        if (!rc && config)
                rc = conf_file(agent_conf_opts, config, out, e);
        if (!rc)
                rc = conf_env(agent_conf_opts, out, e);
        if (!rc)
                rc = conf_args(agent_conf_opts, argc, argv, io_i, false, out, rest, e);
        mem_free(config);
        if (!rc)
                rc = read_token(out, e);
        unsetenv("PHOTON_JOIN_TOKEN");
        unsetenv("PHOTON_JOIN_TOKEN_FILE");
        if (!rc && !out->data) {
                out->data = default_data();
                if (!out->data)
                        rc = err_set(e, E_INVAL, "neither HOME nor XDG_STATE_HOME is set: say --data DIR");
        }
        return rc ? rc : check(out, e);
}

void agent_conf_fini(struct agent_conf *c)
{
        conf_free(agent_conf_opts, c);
}
