/* What a command is started with: arguments, environment, folder. */
#include "agent/tools/process_in.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/policy.h"
#include "agent/tools/env.h"
#include "common/err.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"

void command_fini(struct command *m)
{
        env_free(m->argv);
        env_free(m->env);
        mem_free(m->path);
        mem_free(m->cwd);
        mem_free(m->output_file);
        memset(m, 0, sizeof *m);
}

/* --- arguments ---------------------------------------------------------- */

static int build_argv(struct command *m, const cJSON *input, struct err *e)
{
        const cJSON *list = cJSON_GetObjectItemCaseSensitive(input, "argv"), *item;
        const char *shell = NULL, *shell_path = "/bin/sh";
        size_t n = 0;
        int rc = json_str_opt(input, "shell", &shell, e);

        if (rc == 0)
                rc = json_str_opt(input, "shell_path", &shell_path, e);
        if (rc)
                return rc;
        if (!!list == !!shell)
                return err_set(e, E_INVAL,
                               list ? "give either argv or shell, not both"
                                    : "argv (a list) or shell (a text) is missing");
        if (shell) {
                m->argv = mem_calloc(4, sizeof *m->argv);
                if (!m->argv || !(m->argv[0] = mem_strdup(shell_path)) || !(m->argv[1] = mem_strdup("-ec")) ||
                    !(m->argv[2] = mem_strdup(shell)))
                        return err_set(e, E_NOMEM, "out of memory");
                return 0;
        }
        n = (size_t)cJSON_GetArraySize(list);
        if (n == 0 || n > ARGV_MAX)
                return err_set(e, E_INVAL, "argv: expected 1 to %d texts, got %zu", ARGV_MAX, n);
        m->argv = mem_calloc(n + 1, sizeof *m->argv);
        if (!m->argv)
                return err_set(e, E_NOMEM, "out of memory");
        n = 0;
        cJSON_ArrayForEach(item, list)
        {
                if (!cJSON_IsString(item))
                        return err_set(e, E_INVAL, "argv[%zu]: expected a text", n);
                m->argv[n] = mem_strdup(item->valuestring);
                if (!m->argv[n++])
                        return err_set(e, E_NOMEM, "out of memory");
        }
        return 0;
}

/* --- environment -------------------------------------------------------- */

static int build_env(struct command *m, const struct tool_call *c, const cJSON *input, struct err *e)
{
        const cJSON *env = NULL;
        int rc = env_for_call(c, &m->env, e);

        if (rc == 0)
                rc = json_obj_opt(input, "env", &env, e);
        if (rc == 0)
                rc = env_from_json(&m->env, env, e);
        if (rc == 0)
                m->marker = env_marker(m->env);
        return rc;
}

/* --- folder and program --------------------------------------------------- */

static int build_cwd(struct command *m, const struct tool_call *c, const cJSON *input, struct err *e)
{
        const char *home = policy_home(c->policy), *cwd = home;
        struct stat st;
        int rc = json_str_opt(input, "cwd", &cwd, e);

        if (rc)
                return rc;
        if (cwd[0] == '~' && (cwd[1] == '\0' || cwd[1] == '/'))
                m->cwd = str_printf("%s%s", home, cwd + 1);
        else
                m->cwd = cwd[0] == '/' ? mem_strdup(cwd) : str_printf("%s/%s", home, cwd);
        if (!m->cwd)
                return err_set(e, E_NOMEM, "out of memory");
        if (stat(m->cwd, &st) != 0)
                return err_set(e, err_from_errno(errno), "the folder %s (cwd) %s on this agent: %s", m->cwd,
                               errno == ENOENT ? "does not exist" : "cannot be used", strerror(errno));
        if (!S_ISDIR(st.st_mode))
                return err_set(e, E_INVAL, "%s (cwd) is not a folder on this agent", m->cwd);
        return 0;
}

int command_build(struct command *m, const struct tool_call *c, const cJSON *input, const char **code,
                  struct err *e)
{
        const char *timeout = NULL;
        int rc;

        *code = "bad_input";
        rc = build_argv(m, input, e);
        if (rc)
                return rc;
        m->output_file = str_printf("%s/output", c->scratch_dir);
        if (!m->output_file)
                return err_set(e, E_NOMEM, "out of memory");
        rc = build_env(m, c, input, e);
        if (rc == 0)
                rc = json_str_opt(input, "timeout", &timeout, e);
        if (rc == 0)
                rc = json_str_opt(input, "stdin", &m->stdin_text, e);
        if (rc)
                return rc;
        if (timeout && (str_parse_duration(timeout, &m->timeout_ms) != 0 || m->timeout_ms == 0))
                return err_set(e, E_INVAL, "timeout: \"%s\" is not a duration such as 90s or 10m", timeout);
        if (m->stdin_text && c->stdin_follows)
                return err_set(e, E_INVAL,
                               "give either stdin in the input or streamed standard input, not both");
        *code = "spawn_failed";
        rc = build_cwd(m, c, input, e);
        return rc ? rc : spawn_find(m->argv[0], env_get(m->env, "PATH"), m->cwd, &m->path, e);
}

/* --- policy ----------------------------------------------------------------- */

int process_permit(const struct policy *p, const cJSON *input, struct err *e)
{
        const cJSON *argv = cJSON_GetObjectItemCaseSensitive(input, "argv");
        const cJSON *env = cJSON_GetObjectItemCaseSensitive(input, "env"), *v;
        const char *argv0 = "/bin/sh";
        bool shell = cJSON_GetObjectItemCaseSensitive(input, "shell") != NULL;
        int rc = 0;

        if (shell)
                rc = json_str_opt(input, "shell_path", &argv0, e);
        else if (cJSON_IsString(cJSON_GetArrayItem(argv, 0)))
                argv0 = cJSON_GetArrayItem(argv, 0)->valuestring;
        else
                rc = err_set(e, E_INVAL, "argv (a list) or shell (a text) is missing");
        if (rc == 0)
                rc = policy_command(p, argv0, shell, e);
        if (rc || policy_commands_open(p))
                return rc;
        /* With these a permitted name would start another program. */
        cJSON_ArrayForEach(v, env)
        {
                if (strcmp(v->string, "PATH") == 0 || strncmp(v->string, "LD_", 3) == 0)
                        return err_set(
                                e, E_DENIED,
                                "env.%s may not be set while commands.allow of the agent's policy is a list",
                                v->string);
        }
        return 0;
}
