#include "agent/tools/env.h"

#include <string.h>
#include <unistd.h>

#include "agent/policy.h"
#include "agent/tools/tool.h"
#include "common/err.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"

#define MARKER "PHOTON_OUTPUT="

/* Ours to set: a call that set them would hide its processes or its outputs. */
static const char *const reserved[] = {"PHOTON_RUN_ID", "PHOTON_STEP_ID", "PHOTON_ATTEMPT", "PHOTON_OUTPUT"};

void env_free(char **env)
{
        for (char **s = env; s && *s; s++) {
                mem_wipe(*s, strlen(*s)); /* some hold secrets */
                mem_free(*s);
        }
        mem_free(env);
}

int env_put(char ***io, char *entry)
{
        size_t name = entry ? strcspn(entry, "=") + 1 : 0, n = 0;
        char **v = *io;

        if (!entry)
                return -E_NOMEM;
        for (; v && v[n]; n++)
                if (strncmp(v[n], entry, name) == 0) {
                        mem_free(v[n]);
                        v[n] = entry;
                        return 0;
                }
        v = mem_realloc(v, (n + 2) * sizeof *v);
        if (!v) {
                mem_free(entry);
                return -E_NOMEM;
        }
        *io = v;
        v[n] = entry;
        v[n + 1] = NULL;
        return 0;
}

const char *env_get(char *const *env, const char *name)
{
        size_t n = strlen(name);

        for (; env && *env; env++)
                if (strncmp(*env, name, n) == 0 && (*env)[n] == '=')
                        return *env + n + 1;
        return NULL;
}

int env_for_call(const struct tool_call *c, char ***out, struct err *e)
{
        char **env = policy_base_env(c->policy);
        int rc = env ? 0 : -E_NOMEM;

        if (rc == 0)
                rc = env_put(&env, str_printf("PHOTON_RUN_ID=%s", c->run_id));
        if (rc == 0)
                rc = env_put(&env, str_printf("PHOTON_STEP_ID=%s", c->step_id));
        if (rc == 0)
                rc = env_put(&env, str_printf("PHOTON_ATTEMPT=%d", c->attempt));
        if (rc == 0 && c->traceparent && *c->traceparent)
                rc = env_put(&env, str_printf("TRACEPARENT=%s", c->traceparent));
        if (rc == 0)
                rc = env_put(&env, str_printf(MARKER "%s/output", c->scratch_dir));
        for (size_t i = 0; i < c->n_secrets && rc == 0; i++) {
                const struct call_secret *s = &c->secrets[i];

                if (s->env && s->fd >= 0)
                        rc = env_put(&env, str_printf("%s=/proc/self/fd/%d", s->env, s->passed_fd));
                else if (s->env)
                        rc = env_put(&env, str_printf("%s=%s", s->env, (const char *)s->value));
        }
        if (rc) {
                env_free(env);
                return err_set(e, -rc, "out of memory");
        }
        *out = env;
        return 0;
}

int env_files(const struct tool_call *c, int out[TOOL_FILES_MAX])
{
        int n = 0;

        for (size_t i = 0; i < c->n_secrets && n < TOOL_FILES_MAX; i++)
                if (c->secrets[i].fd >= 0)
                        out[n++] = c->secrets[i].fd;
        return n;
}

const char *env_marker(char *const *env)
{
        for (; env && *env; env++)
                if (strncmp(*env, MARKER, sizeof MARKER - 1) == 0)
                        return *env;
        return NULL;
}

static char *value_text(const cJSON *v)
{
        if (cJSON_IsString(v))
                return mem_strdup(v->valuestring);
        if (cJSON_IsBool(v))
                return mem_strdup(cJSON_IsTrue(v) ? "true" : "false");
        return json_text(v);
}

static int check_member(const cJSON *v, struct err *e)
{
        if (!v->string[0] || strchr(v->string, '='))
                return err_set(e, E_INVAL, "env: \"%s\" is not the name of a variable", v->string);
        if (!cJSON_IsString(v) && !cJSON_IsNumber(v) && !cJSON_IsBool(v))
                return err_set(e, E_INVAL, "env.%s: expected a text, a number or a boolean", v->string);
        for (size_t i = 0; i < sizeof reserved / sizeof *reserved; i++)
                if (strcmp(v->string, reserved[i]) == 0)
                        return err_set(e, E_INVAL, "env.%s is set by the agent; choose another name",
                                       v->string);
        return 0;
}

int env_from_json(char ***io, const cJSON *members, struct err *e)
{
        const cJSON *v;

        cJSON_ArrayForEach(v, members)
        {
                int rc = check_member(v, e);
                char *text;

                if (rc)
                        return rc;
                text = value_text(v);
                rc = env_put(io, text ? str_printf("%s=%s", v->string, text) : NULL);
                mem_free(text);
                if (rc)
                        return err_set(e, -rc, "out of memory");
        }
        return 0;
}

int env_pass(char ***io, const char *glob)
{
        for (char **s = environ; *s; s++) {
                size_t n = strcspn(*s, "=");
                char *name = str_printf("%.*s", (int)n, *s);
                bool wanted = name && str_glob(glob, name);
                int rc = name ? 0 : -E_NOMEM;

                if (wanted && !env_get(*io, name))
                        rc = env_put(io, mem_strdup(*s));
                mem_free(name);
                if (rc)
                        return rc;
        }
        return 0;
}

static bool is_credential(const char *entry)
{
        static const char *const globs[] = {"*_KEY", "*_TOKEN", "*SECRET*", "*PASSWORD*", "*_APIKEY"};
        char *name = str_printf("%.*s", (int)strcspn(entry, "="), entry);
        bool yes = false;

        for (size_t i = 0; name && i < sizeof globs / sizeof *globs; i++)
                yes |= str_glob(globs[i], name);
        mem_free(name);
        return yes;
}

int env_hide(char *const *env, struct tool_call *c)
{
        for (; env && *env; env++) {
                const char *value = strchr(*env, '=');
                int rc = value && is_credential(*env) ? tool_secret(c, value + 1, strlen(value + 1)) : 0;

                if (rc && rc != -E_INVAL) /* too short to be one */
                        return rc;
        }
        return 0;
}
