#include "agent/tools/plugin_manifest.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/tools/env.h"
#include "common/err.h"
#include "common/file.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"
#include "common/yaml.h"

static const char any_object[] = "{\"type\":\"object\"}";

/* --- one value ------------------------------------------------------------------ */

static int wrong(const struct doc *d, const char *want, struct err *e)
{
        return err_at(e, E_INVAL, d->line, d->col, "%s: expected %s, got %s", d->key ? d->key : "an entry",
                      want, doc_kind_name(d->kind));
}

static int take_text(const struct doc *d, char **out, struct err *e)
{
        if (!d->text)
                return wrong(d, "a text", e);
        *out = mem_strdup(d->text);
        return *out ? 0 : err_set(e, E_NOMEM, "out of memory");
}

static int take_name(struct plugin_manifest *m, const struct doc *d, struct err *e)
{
        if (!d->text)
                return wrong(d, "a text", e);
        if (!str_is_name(d->text, PLUGIN_NAME_MAX) || !strchr(d->text, '.') ||
            d->text[strlen(d->text) - 1] == '.')
                return err_at(
                        e, E_INVAL, d->line, d->col,
                        "name: \"%.80s\" is no tool name: write GROUP.ACTION with letters, digits, '.', "
                        "'_' and '-', at most %d bytes",
                        d->text, PLUGIN_NAME_MAX);
        if (strncmp(d->text, "mcp.", 4) == 0 || strncmp(d->text, "photon.", 7) == 0)
                return err_at(e, E_INVAL, d->line, d->col,
                              "name: \"%.80s\": names that begin with mcp. or photon. are the agent's own",
                              d->text);
        return take_text(d, &m->name, e);
}

static int take_version(struct plugin_manifest *m, const struct doc *d, struct err *e)
{
        if (d->text && (!*d->text || strlen(d->text) > 64))
                return err_at(e, E_INVAL, d->line, d->col, "version: expected a text of 1 to 64 bytes");
        return take_text(d, &m->version, e);
}

static int take_description(struct plugin_manifest *m, const struct doc *d, struct err *e)
{
        if (d->text && strlen(d->text) > 4096)
                return err_at(e, E_INVAL, d->line, d->col, "description: more than 4096 bytes");
        return take_text(d, &m->description, e);
}

static int take_list(const struct doc *d, const char *want, size_t max, char ***out, struct err *e)
{
        size_t n = 0;

        if (d->kind != DOC_LIST)
                return wrong(d, want, e);
        if (d->count > max)
                return err_at(e, E_INVAL, d->line, d->col, "%s: more than %zu entries", d->key, max);
        *out = mem_calloc(d->count + 1, sizeof **out);
        if (!*out)
                return err_set(e, E_NOMEM, "out of memory");
        for (const struct doc *i = d->child; i; i = i->next) {
                int rc = take_text(i, &(*out)[n++], e);

                if (rc)
                        return rc;
        }
        return 0;
}

static int take_command(struct plugin_manifest *m, const struct doc *d, struct err *e)
{
        int rc = take_list(d, "a list such as [./program, argument]", PLUGIN_COMMAND_MAX, &m->command, e);

        if (rc == 0 && (!m->command[0] || !*m->command[0]))
                return err_at(e, E_INVAL, d->line, d->col, "command: its first entry must be a program");
        return rc;
}

static int take_env(struct plugin_manifest *m, const struct doc *d, struct err *e)
{
        int rc = take_list(d, "a list of names", PLUGIN_ENV_MAX, &m->env, e);

        for (const struct doc *i = rc ? NULL : d->child; i; i = i->next)
                if (!*i->text || strchr(i->text, '='))
                        return err_at(e, E_INVAL, i->line, i->col,
                                      "env: \"%.60s\" is not the name of a variable; values stay in the "
                                      "agent's environment",
                                      strchr(i->text, '=') ? "NAME=..." : "");
        return rc;
}

/* *tree may be NULL: only the text is wanted. */
static int take_schema(const struct doc *d, char **text, cJSON **tree, struct err *e)
{
        struct err why = {0};
        cJSON *v = NULL;
        int rc;

        if (d->kind != DOC_MAP)
                return wrong(d, "a JSON Schema as a map", e);
        rc = doc_to_json(d, &v);
        if (rc == 0)
                rc = json_check_schema(v, &why);
        if (rc == -E_INVAL)
                err_at(e, E_INVAL, d->line, d->col, "%s: %s", d->key, why.msg);
        else if (rc == 0 && !(*text = json_text(v)))
                rc = err_set(e, E_NOMEM, "out of memory");
        else if (rc == 0 && strlen(*text) > PLUGIN_SCHEMA_MAX)
                rc = err_at(e, E_INVAL, d->line, d->col, "%s: more than %zu bytes", d->key,
                            PLUGIN_SCHEMA_MAX);
        else if (rc)
                err_set(e, E_NOMEM, "out of memory");
        if (rc == 0 && tree)
                *tree = v;
        else
                cJSON_Delete(v);
        return rc;
}

static int take_input(struct plugin_manifest *m, const struct doc *d, struct err *e)
{
        return take_schema(d, &m->input_schema, NULL, e);
}

static int take_output(struct plugin_manifest *m, const struct doc *d, struct err *e)
{
        return take_schema(d, &m->output_schema, &m->output_check, e);
}

static int take_effect(struct plugin_manifest *m, const struct doc *d, struct err *e)
{
        static const char *const effects[] = {"pure", "idempotent", "at-most-once"};

        for (size_t i = 0; d->text && i < sizeof effects / sizeof *effects; i++)
                if (strcmp(d->text, effects[i]) == 0) {
                        m->effect = effects[i];
                        return 0;
                }
        return err_at(e, E_INVAL, d->line, d->col, "effect: expected pure, idempotent or at-most-once");
}

static int take_duration(const struct doc *d, int64_t *out, struct err *e)
{
        if (!d->text || str_parse_duration(d->text, out) != 0)
                return err_at(e, E_INVAL, d->line, d->col, "%s: expected a duration such as 90s or 10m",
                              d->key);
        return 0;
}

static int take_timeout(struct plugin_manifest *m, const struct doc *d, struct err *e)
{
        return take_duration(d, &m->timeout_ms, e);
}

static int take_stall(struct plugin_manifest *m, const struct doc *d, struct err *e)
{
        return take_duration(d, &m->stall_ms, e);
}

static int take_questions(struct plugin_manifest *m, const struct doc *d, struct err *e)
{
        if (d->kind != DOC_BOOL)
                return wrong(d, "true or false", e);
        m->questions = d->number != 0;
        return 0;
}

/* --- the whole ------------------------------------------------------------------- */

static const struct key {
        const char *name;
        bool required;
        int (*take)(struct plugin_manifest *m, const struct doc *d, struct err *e);
} keys[] = {
        {"name", true, take_name},
        {"version", false, take_version},
        {"description", false, take_description},
        {"command", true, take_command},
        {"input_schema", false, take_input},
        {"output_schema", false, take_output},
        {"effect", false, take_effect},
        {"timeout", false, take_timeout},
        {"stall", false, take_stall},
        {"env", false, take_env},
        {"questions", false, take_questions},
};
#define N_KEYS (sizeof keys / sizeof *keys)

static int take_member(struct plugin_manifest *m, const struct doc *d, struct err *e)
{
        const char *names[N_KEYS], *near;

        for (size_t i = 0; i < N_KEYS; i++) {
                names[i] = keys[i].name;
                if (strcmp(d->key, keys[i].name) == 0)
                        return keys[i].take(m, d, e);
        }
        near = str_nearest(d->key, names, N_KEYS);
        return err_at(e, E_INVAL, d->key_line, d->key_col, "unknown key \"%.60s\"%s%s%s", d->key,
                      near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

static int take_all(struct plugin_manifest *m, const struct doc *top, struct err *e)
{
        int rc = 0;

        if (top->kind != DOC_MAP)
                return err_at(e, E_INVAL, top->line, top->col,
                              "expected a map with name, command ..., got %s", doc_kind_name(top->kind));
        for (const struct doc *d = top->child; d && !rc; d = d->next)
                rc = take_member(m, d, e);
        for (size_t i = 0; i < N_KEYS && !rc; i++)
                if (keys[i].required && !doc_get(top, keys[i].name))
                        rc = err_at(e, E_INVAL, top->line, top->col, "the key \"%s\" is missing",
                                    keys[i].name);
        if (rc)
                return rc;
        if (!m->version)
                m->version = mem_strdup("1");
        if (!m->description)
                m->description = mem_strdup(m->name);
        if (!m->input_schema)
                m->input_schema = mem_strdup(any_object);
        if (!m->output_schema)
                m->output_schema = mem_strdup(any_object);
        return m->version && m->description && m->input_schema && m->output_schema
                       ? 0
                       : err_set(e, E_NOMEM, "out of memory");
}

int plugin_manifest_parse(const char *text, size_t len, struct plugin_manifest *out, struct err *e)
{
        struct plugin_manifest m = {.effect = "at-most-once"};
        struct doc *top = NULL;
        int rc = doc_parse(text, len, &top, e);

        if (rc == 0)
                rc = take_all(&m, top, e);
        doc_free(top);
        if (rc)
                plugin_manifest_fini(&m);
        else
                *out = m;
        return rc;
}

void plugin_manifest_fini(struct plugin_manifest *m)
{
        mem_free(m->name);
        mem_free(m->version);
        mem_free(m->description);
        env_free(m->command);
        env_free(m->env);
        mem_free(m->input_schema);
        mem_free(m->output_schema);
        cJSON_Delete(m->output_check);
        memset(m, 0, sizeof *m);
}

/* --- the file ---------------------------------------------------------------------- */

char *plugin_program(const struct plugin_manifest *m, const char *manifest_path)
{
        const char *name = m->command[0], *slash = strrchr(manifest_path, '/');

        if (name[0] == '/' || !strchr(name, '/') || !slash)
                return mem_strdup(name);
        return str_printf("%.*s/%s", (int)(slash - manifest_path), manifest_path, name);
}

/* Whoever may change it runs as the agent. */
static int check_owner(const char *manifest, const char *what, const char *path, struct err *e)
{
        struct stat st;

        if (stat(path, &st) != 0)
                return err_set(e, err_from_errno(errno), "%s: %s%s: %s", manifest, what, path,
                               strerror(errno));
        if (st.st_uid != 0 && st.st_uid != geteuid())
                return err_set(e, E_DENIED,
                               "%s: %s%s belongs to user %u; it must belong to root or to the agent's user",
                               manifest, what, path, (unsigned)st.st_uid);
        if (st.st_mode & 022)
                return err_set(e, E_DENIED, "%s: %s%s may be written by others; run: chmod go-w %s", manifest,
                               what, path, path);
        return 0;
}

static int check_folder(const char *path, struct err *e)
{
        const char *slash = strrchr(path, '/');
        char *dir = slash ? mem_strndup(path, slash == path ? 1 : (size_t)(slash - path)) : mem_strdup(".");
        int rc = dir ? check_owner(path, "its folder ", dir, e) : err_set(e, E_NOMEM, "out of memory");

        mem_free(dir);
        return rc;
}

int plugin_manifest_read(const char *path, struct plugin_manifest *out, struct err *e)
{
        struct plugin_manifest m = {0};
        struct err why = {0};
        char *text = NULL, *program = NULL;
        size_t len = 0;
        int rc = check_folder(path, e);

        if (rc == 0)
                rc = check_owner(path, "the manifest ", path, e);
        if (rc)
                return rc;
        rc = file_read(path, PLUGIN_MANIFEST_MAX, &text, &len, &why);
        if (rc) {
                err_set(e, -rc, "%s: %s", path, why.msg);
        } else if ((rc = plugin_manifest_parse(text, len, &m, &why)) != 0) {
                if (why.line > 0)
                        err_at(e, -rc, why.line, why.col, "%s:%d:%d: %s", path, why.line, why.col,
                               err_unplaced(&why));
                else
                        err_set(e, -rc, "%s: %s", path, why.msg);
        } else if (!(program = plugin_program(&m, path))) {
                rc = err_set(e, E_NOMEM, "%s: out of memory", path);
        } else if (strchr(program, '/')) {
                rc = check_owner(path, "its program ", program, e);
                if (rc == 0 && access(program, X_OK) != 0)
                        rc = err_set(e, err_from_errno(errno),
                                     "%s: its program %s may not be run: %s; run: chmod +x %s", path, program,
                                     strerror(errno), program);
        }
        mem_free(text);
        mem_free(program);
        if (rc)
                plugin_manifest_fini(&m);
        else
                *out = m;
        return rc;
}
