/* The agent's options: one table gives file, environment, flags and help. */
#ifndef PHOTON_AGENT_CONF_H
#define PHOTON_AGENT_CONF_H

#include <stdint.h>

#include "common/conf.h"

struct err;

struct agent_conf {
        char *data, *config, *policy, *name, *kind, *token, *token_file, *log_level, *log_format, *output;
        struct conf_list labels, tools_dirs;
        int64_t max_running, drain_timeout_ms, timeout_ms;
        bool replace;
};

extern const struct conf_opt agent_conf_opts[];

/* Defaults, file, environment and flags (from argv[*io_i]); `rest` as conf_args gives it. The token is taken
 * from `token_file` if that is named, and PHOTON_JOIN_TOKEN is removed from the environment, so that no tool
 * inherits it. */
int agent_conf_read(int argc, char **argv, int *io_i, struct agent_conf *out, struct conf_list *rest,
                    struct err *e);
void agent_conf_fini(struct agent_conf *c);

#endif
