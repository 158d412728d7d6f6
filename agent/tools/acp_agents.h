/* Which program speaks ACP: the well-known ones by name, those that the
 * machine's owner named in the agent's configuration, or a command of the
 * step's own.
 *
 *     acp:
 *       reviewer: {command: [/opt/reviewer/bin/reviewer, --acp], env: {MODE: strict}}
 *
 * Loop thread only; acp_agents_load once, before the first call. */
#ifndef PHOTON_AGENT_TOOLS_ACP_AGENTS_H
#define PHOTON_AGENT_TOOLS_ACP_AGENTS_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ai;
struct err;

#define ACP_ARGS_MAX   64
#define ACP_AGENTS_MAX 100 /* in the configuration */

/* What is special about a program. All but name and argv may be NULL. */
struct acp_known {
        const char *name;
        const char *const *argv;      /* without the program's own flags for a call */
        const char *const *also;      /* other names of the same program */
        const char *const *pass;      /* globs on the agent's own variables that it may see */
        const char *const *set;       /* NAME, VALUE, ...: where the call says nothing else */
        const char *model_flag;       /* how the model is said on the command line */
        const char *auth;             /* the method that `authenticate` needs before a session; asks nobody */
        const char *mode, *mode_deny; /* its mode in which it asks; for calls that may change nothing */
        const char *login;            /* how one logs in there */
        int login_exit;               /* its exit status when it is not logged in; 0: none */
        bool notes;                   /* its own remarks are message chunks without a messageId */
        bool by_minute; /* it names a session's file by the minute: opened again in the same one, it is lost
                         */
};

/* The program of one call. */
struct acp_program {
        char *name; /* for people, and what a session belongs to */
        char **argv;
        const struct acp_known *known; /* or NULL */
        const cJSON *env;              /* of the configuration; lent; or NULL */
};

/* Reads the section `acp` of a configuration file (YAML or JSON); what was read before is forgotten. path
 * NULL or no such section: only the well-known ones. -E_INVAL with the place, and why the file cannot be
 * read. */
int acp_agents_load(const char *path, struct err *e);
/* The same from a text; `path` is only for messages. */
int acp_agents_parse(const char *text, size_t n, const char *path, struct err *e);
/* No call may be live. */
void acp_agents_close(void);
/* From `agent` or `command` of the input. -E_INVAL: neither, both, or no such agent (names the nearest). */
int acp_program_of(const cJSON *input, struct acp_program *out, struct err *e);
/* A well-known one. -E_NOMEM. */
int acp_program_known(const char *name, struct acp_program *out, struct err *e);
/* Adds the model where the program takes it on the command line. -E_NOMEM. */
int acp_program_model(struct acp_program *p, const char *model);
/* Its variables go into the call's environment, below what the call itself says. */
int acp_program_env(const struct acp_program *p, struct ai *ai, struct err *e);
/* How long to wait before a session is opened again that was opened at `opened_ms`; 0: not at all. */
int acp_program_wait_ms(const struct acp_program *p, int64_t opened_ms, int64_t now_ms);
void acp_program_fini(struct acp_program *p);

#endif
