/* The people's command line: what main hands to every command, and the table of
 * commands from which parsing, help, completion and docs/CLI.md's test are made.
 *
 * One thread. A command returns an exit status, or a negative -E_* with the
 * reason in `e`, which main prints and turns into a status. */
#ifndef PHOTON_CLI_H
#define PHOTON_CLI_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/conf.h"
#include "common/err.h"

struct client;

#define STATUS_OK          0
#define STATUS_FAILED      1 /* the run or the request failed */
#define STATUS_CANCELLED   2
#define STATUS_DENIED      4 /* 401, 403 */
#define STATUS_USAGE       64
#define STATUS_UNREACHABLE 69 /* no hub answered */
#define STATUS_SIGNAL      128

enum out_format { OUT_TABLE, OUT_WIDE, OUT_JSON, OUT_YAML };

/* Every flag of every command; which ones a command takes, its table says. */
struct opts {
        /* everywhere */
        char *hub, *token, *ca, *project, *output;
        bool no_color;
        /* here and there */
        struct conf_list inputs, labels, answers, answer_files;
        char *inputs_file, *agent, *name, *role, *input, *input_file, *channel, *state, *workflow, *kind,
                *out, *ca_sha256, *effect, *cwd, *bytes, *token_file, *run, *content, *sha256;
        char *user, *email, *subject, *from_file;
        struct conf_list env, scopes, secrets;
        int64_t keep;
        bool unmasked;
        bool own, service, detach, follow, no_stdin, force, yes, all, always;
        int64_t uses, ttl_ms, timeout_ms, attempt, limit, after, priority, max_bytes;
        char *scale;
        char *usd, *tokens, *over, *day; /* budgets */
        bool restart;
};

struct command;

struct cli {
        struct opts o;
        enum out_format format;
        const struct command *command;
        char **args; /* words after the command */
        size_t n_args;
        char **tail; /* what follows "--" */
        size_t n_tail;
        struct client *client; /* command.local: NULL */
        char *hub;             /* for messages; with the client */
};

struct command {
        const char *name;            /* "run show": one or two words */
        const char *args;            /* "RUN [STEP]" */
        const char *summary;         /* a line for lists */
        const char *help;            /* more, or NULL */
        const struct conf_opt *opts; /* its own flags, or NULL */
        int min_args, max_args;      /* max -1: any */
        bool tail;                   /* takes "-- WORD..." */
        bool local;                  /* needs no hub */
        bool hidden;
        int (*run)(struct cli *c, struct err *e);
};

/* The table (commands.c), ends with name NULL. */
extern const struct command commands[];
extern const struct conf_opt global_opts[];

/* Says what is wrong with the command line and how it is meant; returns STATUS_USAGE. */
int cli_usage(struct cli *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Finds the hub and makes c->client: main does it for every command that is not local. */
int cli_connect(struct cli *c, struct err *e);
/* A status for an error that ended a command. */
int cli_status(int rc);

void help_top(FILE *f);
void help_command(FILE *f, const struct command *cmd);
/* All commands that begin with the word, e.g. "agent". False: there is none. */
bool help_group(FILE *f, const char *word);
/* The whole table as JSON: what docs/CLI.md and completion are held against. */
int help_json(struct err *e);

/* clang-format off */
#define COMMAND_LIST(X)                                                                                \
        X(token_create) X(token_list) X(token_revoke)                                                  \
        X(agent_list) X(agent_show) X(agent_drain) X(agent_undrain) X(agent_revoke) X(agent_label)     \
        X(run) X(runs) X(run_show) X(run_cancel) X(run_retry) X(run_explain) X(run_resolve) X(run_watch) \
        X(checkpoints) X(checkpoint_show) X(checkpoint_delegate) X(approve) X(reject) X(notices) X(notice_retry)                                         \
        X(logs) X(exec) X(call) X(mcp) X(models) X(tools) X(validate) X(events) X(import_wfformat)                      \
        X(audit_list) X(audit_export) X(audit_verify) X(audit_erase) X(audit_trim)                     \
        X(budget_list) X(budget_show) X(budget_set) X(budget_delete) X(budget_ledger)                  \
        X(secret_set) X(secret_rotate) X(secret_list) X(secret_show) X(secret_delete)                  \
        X(vault_status) X(vault_unlock) X(vault_lock) X(vault_rotate)                                  \
        X(api_token_create) X(api_token_list) X(api_token_revoke)                                      \
        X(user_create) X(user_list) X(user_grant) X(user_ungrant) X(user_disable) X(user_delete) X(user_enable)       \
        X(project_create) X(project_list) X(project_members) X(project_archive) X(project_unarchive)   \
        X(login) X(logout) X(whoami) X(completion) X(version) X(help)
/* clang-format on */

#define X(name) int cmd_##name(struct cli *c, struct err *e);
COMMAND_LIST(X)
#undef X

#endif
