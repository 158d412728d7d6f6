#include "agent/tools/acp_agents.h"

#include <string.h>

#include "agent/tools/ai.h"
#include "common/file.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"
#include "common/yaml.h"

#define LIST(...)                                                                                            \
        (const char *const[])                                                                                \
        {                                                                                                    \
                __VA_ARGS__, NULL                                                                            \
        }

/* Modes: one in which the program asks before it acts, never one in which a model decides what is allowed
 * (codex-acp starts in such a one). Updates and telemetry have no place in a step. */
static const struct acp_known known[] = {
        {
                .name = "claude-agent-acp",
                .argv = LIST("claude-agent-acp"),
                .also = LIST("claude-code-acp"),
                .pass = LIST("ANTHROPIC_*", "CLAUDE_CODE_*", "CLAUDE_CONFIG_DIR"),
                .set = LIST("CLAUDE_CODE_MAX_RETRIES", "2", "DISABLE_AUTOUPDATER", "1", "DISABLE_TELEMETRY",
                            "1", "DISABLE_ERROR_REPORTING", "1"),
                .mode = "default",
                .login = "run `claude` and log in, or set ANTHROPIC_API_KEY",
        },
        {
                .name = "codex-acp",
                .argv = LIST("codex-acp"),
                .pass = LIST("OPENAI_*", "CODEX_*"),
                .mode = "workspace-write",
                .mode_deny = "read-only",
                .notes = true,
                .login = "run `codex login`, or set OPENAI_API_KEY",
        },
        {
                .name = "gemini",
                .argv = LIST("gemini", "--acp", "--skip-trust"),
                .pass = LIST("GEMINI_*", "GOOGLE_*"),
                .set = LIST("NO_BROWSER", "1", "GEMINI_CLI_NO_RELAUNCH", "true"),
                .model_flag = "-m",
                .mode = "default",
                .login = "run `gemini` and choose how, or set GEMINI_API_KEY and security.auth.selectedType "
                         "in "
                         "~/.gemini/settings.json",
                .login_exit = 41,
                .by_minute = true,
        },
        {
                .name = "cursor",
                .argv = LIST("cursor-agent", "acp"),
                .also = LIST("cursor-agent"),
                .pass = LIST("CURSOR_*"),
                .auth = "cursor_login",
                .login = "run `cursor-agent login`, or set CURSOR_API_KEY",
        },
};

#define N_KNOWN (sizeof known / sizeof *known)

#define CONFIG_MAX ((size_t)1 << 20)

static cJSON *configured; /* the map `acp`, checked; or NULL */

/* --- the configuration -------------------------------------------------------- */

static bool texts(const cJSON *list)
{
        const cJSON *v;

        cJSON_ArrayForEach(v, list)
        {
                if (!cJSON_IsString(v))
                        return false;
        }
        return cJSON_IsArray(list) && list->child && cJSON_GetArraySize(list) <= ACP_ARGS_MAX &&
               list->child->valuestring[0];
}

static int check_one(const cJSON *a, struct err *e)
{
        static const char *const keys[] = {"command", "env", NULL};
        const cJSON *env = NULL, *v;
        struct err why = {0};

        if (!str_is_name(a->string, 63))
                return err_set(e, E_INVAL, "acp: \"%.80s\" is no name: letters, digits, '.', '_', '-'",
                               a->string);
        if (!cJSON_IsObject(a) || json_only(a, keys, &why) || json_obj_opt(a, "env", &env, &why))
                return err_set(e, E_INVAL, "acp.%s: %s", a->string,
                               why.msg[0] ? why.msg : "expected {command: [PROGRAM, ARGUMENT ...], env: {}}");
        if (!texts(cJSON_GetObjectItemCaseSensitive(a, "command")))
                return err_set(e, E_INVAL,
                               "acp.%s.command: expected a list of 1 to %d texts, the program first",
                               a->string, ACP_ARGS_MAX);
        cJSON_ArrayForEach(v, env)
        {
                if (!cJSON_IsString(v))
                        return err_set(e, E_INVAL, "acp.%s.env.%.80s: expected a text", a->string, v->string);
        }
        return 0;
}

/* With the place of the agent that is wrong. */
static int read_section(const struct doc *section, struct err *e)
{
        int rc = 0;

        if (section->kind == DOC_NULL)
                return 0;
        if (section->kind != DOC_MAP)
                return err_at(e, E_INVAL, section->line, section->col,
                              "acp: expected a map of names to {command: [...]}, got %s",
                              doc_kind_name(section->kind));
        if (section->count > ACP_AGENTS_MAX)
                return err_at(e, E_INVAL, section->line, section->col, "acp: at most %d agents",
                              ACP_AGENTS_MAX);
        rc = doc_to_json(section, &configured);
        for (const struct doc *d = section->child; d && !rc; d = d->next) {
                struct err why = {0};

                rc = check_one(cJSON_GetObjectItemCaseSensitive(configured, d->key), &why);
                if (rc)
                        err_at(e, -rc, d->key_line, d->key_col, "%s", why.msg);
        }
        return rc;
}

int acp_agents_parse(const char *text, size_t n, const char *path, struct err *e)
{
        struct doc *d = NULL, *section;
        struct err why = {0};
        int rc = text ? doc_parse(text, n, &d, &why) : 0;

        acp_agents_close();
        section = !rc && d && d->kind == DOC_MAP ? doc_get(d, "acp") : NULL;
        if (section)
                rc = read_section(section, &why);
        doc_free(d);
        if (!rc)
                return 0;
        acp_agents_close();
        if (!why.msg[0])
                return err_set(e, -rc, "no memory for the ACP agents");
        return err_at(e, -rc, why.line, why.col, "%s:%d:%d: %s", path, why.line, why.col, err_unplaced(&why));
}

int acp_agents_load(const char *path, struct err *e)
{
        char *text = NULL;
        size_t n = 0;
        int rc = path ? file_read(path, CONFIG_MAX, &text, &n, e) : 0;

        if (!rc)
                rc = acp_agents_parse(text, n, path, e);
        if (text)
                mem_wipe(text, n); /* other sections may hold secrets */
        mem_free(text);
        return rc;
}

void acp_agents_close(void)
{
        cJSON_Delete(configured);
        configured = NULL;
}

/* --- which one ------------------------------------------------------------------ */

static const struct acp_known *find_known(const char *name)
{
        for (size_t i = 0; i < N_KNOWN; i++) {
                if (strcmp(known[i].name, name) == 0)
                        return &known[i];
                for (const char *const *n = known[i].also; n && *n; n++)
                        if (strcmp(*n, name) == 0)
                                return &known[i];
        }
        return NULL;
}

/* A command is recognised by its base name: the owner's path to a well-known program. */
static const struct acp_known *recognise(const char *path)
{
        const char *slash = strrchr(path, '/');

        return find_known(slash ? slash + 1 : path);
}

static int take(struct acp_program *out, const char *name, const char *const *argv, size_t n,
                const struct acp_known *k, struct err *e)
{
        memset(out, 0, sizeof *out);
        out->known = k;
        out->name = mem_strdup(name);
        out->argv = mem_calloc(n + 3, sizeof *out->argv); /* and a flag with its value */
        for (size_t i = 0; out->argv && i < n; i++) {
                out->argv[i] = mem_strdup(argv[i]);
                if (!out->argv[i])
                        break;
        }
        if (out->name && out->argv && out->argv[n - 1])
                return 0;
        acp_program_fini(out);
        return err_set(e, E_NOMEM, "out of memory");
}

static int take_list(struct acp_program *out, const char *name, const cJSON *list, struct err *e)
{
        const char *argv[ACP_ARGS_MAX];
        const cJSON *v;
        size_t n = 0;

        cJSON_ArrayForEach(v, list)
        {
                argv[n++] = v->valuestring;
        }
        return take(out, name, argv, n, recognise(argv[0]), e);
}

static int take_known(struct acp_program *out, const struct acp_known *k, struct err *e)
{
        size_t n = 0;

        while (k->argv[n])
                n++;
        return take(out, k->name, k->argv, n, k, e);
}

int acp_program_known(const char *name, struct acp_program *out, struct err *e)
{
        const struct acp_known *k = find_known(name);

        return k ? take_known(out, k, e) : err_set(e, E_INVAL, "there is no agent named %.80s", name);
}

static int no_agent(const char *name, struct err *e)
{
        const char *names[N_KNOWN + ACP_AGENTS_MAX], *near;
        const cJSON *a;
        size_t n = 0;

        for (; n < N_KNOWN; n++)
                names[n] = known[n].name;
        cJSON_ArrayForEach(a, configured)
        {
                names[n++] = a->string;
        }
        near = str_nearest(name, names, n);
        return err_set(e, E_INVAL,
                       "this machine knows no ACP agent named \"%.80s\"%s%s%s; name one in `acp:` of the "
                       "agent's configuration, or say `command`",
                       name, near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

int acp_program_of(const cJSON *input, struct acp_program *out, struct err *e)
{
        const cJSON *command = cJSON_GetObjectItemCaseSensitive(input, "command"), *a;
        const char *name = NULL;
        const struct acp_known *k;
        int rc = json_str_opt(input, "agent", &name, e);

        memset(out, 0, sizeof *out);
        if (rc)
                return rc;
        if (!name == !command)
                return err_set(e, E_INVAL, "say either `agent` (the name of an ACP agent) or `command`%s",
                               name ? ", not both" : "");
        if (command)
                return texts(command)
                               ? take_list(out, command->child->valuestring, command, e)
                               : err_set(e, E_INVAL,
                                         "command: expected a list of 1 to %d texts, the program first",
                                         ACP_ARGS_MAX);
        a = cJSON_GetObjectItemCaseSensitive(configured, name);
        if (a) {
                rc = take_list(out, name, cJSON_GetObjectItemCaseSensitive(a, "command"), e);
                out->env = cJSON_GetObjectItemCaseSensitive(a, "env");
                return rc;
        }
        k = find_known(name);
        return k ? take_known(out, k, e) : no_agent(name, e);
}

/* --- what it gets ---------------------------------------------------------------- */

int acp_program_model(struct acp_program *p, const char *model)
{
        size_t n = 0;

        if (!p->known || !p->known->model_flag)
                return 0;
        while (p->argv[n])
                n++;
        p->argv[n] = mem_strdup(p->known->model_flag);
        p->argv[n + 1] = p->argv[n] ? mem_strdup(model) : NULL;
        return p->argv[n + 1] ? 0 : -E_NOMEM;
}

static int set_absent(struct ai *ai, const char *name, const char *value, struct err *e)
{
        return ai_getenv(ai, name) ? 0 : ai_setenv(ai, name, value, e);
}

int acp_program_env(const struct acp_program *p, struct ai *ai, struct err *e)
{
        const cJSON *v;
        int rc = 0;

        cJSON_ArrayForEach(v, p->env)
        {
                if (!rc)
                        rc = set_absent(ai, v->string, v->valuestring, e);
        }
        if (!p->known)
                return rc;
        for (const char *const *g = p->known->pass; !rc && g && *g; g++)
                rc = ai_passenv(ai, *g, e);
        for (const char *const *s = p->known->set; !rc && s && *s; s += 2)
                rc = set_absent(ai, s[0], s[1], e);
        return rc;
}

int acp_program_wait_ms(const struct acp_program *p, int64_t opened_ms, int64_t now_ms)
{
        const int64_t minute = 60000;

        if (!p->known || !p->known->by_minute || opened_ms <= 0 || opened_ms / minute != now_ms / minute)
                return 0;
        return (int)(minute - now_ms % minute);
}

void acp_program_fini(struct acp_program *p)
{
        for (char **a = p->argv; a && *a; a++)
                mem_free(*a);
        mem_free(p->argv);
        mem_free(p->name);
        memset(p, 0, sizeof *p);
}
