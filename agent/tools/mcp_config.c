#include "agent/tools/mcp_config.h"

#include <stdlib.h>
#include <string.h>

#include "agent/tools/env.h"
#include "common/err.h"
#include "common/file.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/secret.h"
#include "common/str.h"
#include "common/yaml.h"

#define FILE_MAX ((size_t)1 << 20)

/* --- values ------------------------------------------------------------------------- */

static int wrong(const struct doc *d, const char *want, struct err *e)
{
        return err_at(e, E_INVAL, d->line, d->col, "%s: expected %s, got %s", d->key ? d->key : "an entry",
                      want, doc_kind_name(d->kind));
}

static int take_text(const struct doc *d, char **out, struct err *e)
{
        if (!d->text || !*d->text)
                return wrong(d, "a text", e);
        mem_free(*out);
        *out = mem_strdup(d->text);
        return *out ? 0 : err_set(e, E_NOMEM, "out of memory");
}

static int take_reference(struct mcp_value *v, const struct doc *d, struct err *e)
{
        int rc = 0;

        for (const struct doc *m = d->child; m && !rc; m = m->next) {
                if (strcmp(m->key, "env") == 0)
                        rc = take_text(m, &v->env, e);
                else if (strcmp(m->key, "file") == 0)
                        rc = take_text(m, &v->file, e);
                else if (strcmp(m->key, "prefix") == 0)
                        rc = take_text(m, &v->prefix, e);
                else
                        rc = err_at(
                                e, E_INVAL, m->key_line, m->key_col,
                                "unknown key \"%.60s\": a value is a text, {env: NAME} or {file: PATH}, both "
                                "with a prefix if need be",
                                m->key);
        }
        if (!rc && !v->env == !v->file)
                rc = err_at(e, E_INVAL, d->line, d->col, "%s: expected a text, {env: NAME} or {file: PATH}",
                            d->key);
        return rc;
}

static int take_values(const struct doc *d, struct mcp_value **out, size_t *out_n, struct err *e)
{
        int rc = 0;

        if (d->kind != DOC_MAP)
                return wrong(d, "a map", e);
        if (d->count > MCP_VALUES_MAX)
                return err_at(e, E_INVAL, d->line, d->col, "%s: more than %d entries", d->key,
                              MCP_VALUES_MAX);
        *out = mem_calloc(d->count + 1, sizeof **out);
        if (!*out)
                return err_set(e, E_NOMEM, "out of memory");
        for (const struct doc *m = d->child; m && !rc; m = m->next) {
                struct mcp_value *v = &(*out)[(*out_n)++];

                v->name = mem_strdup(m->key);
                if (!v->name)
                        rc = err_set(e, E_NOMEM, "out of memory");
                else if (m->kind == DOC_MAP)
                        rc = take_reference(v, m, e);
                else if (!m->text)
                        rc = wrong(m, "a text, {env: NAME} or {file: PATH}", e);
                else if (!(v->text = mem_strdup(m->text)))
                        rc = err_set(e, E_NOMEM, "out of memory");
        }
        return rc;
}

static int check_names(const struct doc *d, bool header, struct err *e)
{
        static const char token[] =
                "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        static const char *const ours[] = {"host",       "content-length",    "content-type",  "accept",
                                           "connection", "transfer-encoding", "mcp-session-id"};

        for (const struct doc *m = d->child; m; m = m->next) {
                bool good =
                        *m->key && (header ? m->key[strspn(m->key, token)] == '\0' : !strchr(m->key, '='));

                for (size_t i = 0; header && i < sizeof ours / sizeof *ours; i++)
                        good &= !str_ieq(m->key, ours[i]);
                if (!good)
                        return err_at(e, E_INVAL, m->key_line, m->key_col, "%s: \"%.60s\" cannot be set",
                                      d->key, m->key);
        }
        return 0;
}

int mcp_value_read(const struct mcp_value *v, char **out, struct err *e)
{
        const char *text = v->text, *prefix = v->prefix ? v->prefix : "";
        char *own = NULL;
        size_t n = 0;
        int rc = 0;

        if (v->env && !(text = getenv(v->env)))
                return err_set(e, E_NOENT, "%s: the agent's environment has no variable %s", v->name, v->env);
        if (v->file) {
                rc = file_read(v->file, MCP_VALUE_MAX, &own, &n, e);
                if (rc)
                        return rc;
                while (n > 0 && strchr("\r\n", own[n - 1]))
                        own[--n] = '\0';
                text = own;
        }
        if (strlen(text) > MCP_VALUE_MAX)
                rc = err_set(e, E_TOOBIG, "%s: its value is over %zu bytes", v->name, MCP_VALUE_MAX);
        else if (!(*out = str_printf("%s%s", prefix, text)))
                rc = err_set(e, E_NOMEM, "out of memory");
        if (own)
                mem_wipe(own, n);
        mem_free(own);
        return rc;
}

static void values_free(struct mcp_value *v, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                mem_free(v[i].name);
                if (v[i].text)
                        mem_wipe(v[i].text, strlen(v[i].text));
                mem_free(v[i].text);
                mem_free(v[i].env);
                mem_free(v[i].file);
                mem_free(v[i].prefix);
        }
        mem_free(v);
}

/* --- one server ------------------------------------------------------------------------ */

static int take_command(struct mcp_config *c, const struct doc *d, struct err *e)
{
        size_t n = 0;
        int rc = 0;

        if (d->kind != DOC_LIST || d->count == 0 || d->count > MCP_COMMAND_MAX)
                return err_at(e, E_INVAL, d->line, d->col,
                              "command: expected a list of 1 to %d texts such as [npx, -y, PACKAGE]",
                              MCP_COMMAND_MAX);
        c->command = mem_calloc(d->count + 1, sizeof *c->command);
        if (!c->command)
                return err_set(e, E_NOMEM, "out of memory");
        for (const struct doc *m = d->child; m && !rc; m = m->next) {
                if (!m->text)
                        return wrong(m, "a text", e);
                c->command[n] = mem_strdup(m->text);
                if (!c->command[n++])
                        rc = err_set(e, E_NOMEM, "out of memory");
        }
        if (!rc && !*c->command[0])
                rc = err_at(e, E_INVAL, d->line, d->col, "command: its first entry must be a program");
        return rc;
}

static int take_url(struct mcp_config *c, const struct doc *d, struct err *e)
{
        if (d->text && strncmp(d->text, "https://", 8) != 0 && strncmp(d->text, "http://", 7) != 0)
                return err_at(e, E_INVAL, d->line, d->col, "url: expected http:// or https://");
        if (d->text && strchr(d->text, '@'))
                return err_at(e, E_INVAL, d->line, d->col,
                              "url: a user and password do not belong into it; use headers");
        return take_text(d, &c->url, e);
}

static int take_cwd(struct mcp_config *c, const struct doc *d, struct err *e)
{
        if (d->text && d->text[0] != '/' && d->text[0] != '~')
                return err_at(e, E_INVAL, d->line, d->col, "cwd: expected an absolute path, or one in ~/");
        return take_text(d, &c->cwd, e);
}

static int take_ca(struct mcp_config *c, const struct doc *d, struct err *e)
{
        return take_text(d, &c->ca_file, e);
}

static int take_env(struct mcp_config *c, const struct doc *d, struct err *e)
{
        int rc = take_values(d, &c->env, &c->n_env, e);

        return rc ? rc : check_names(d, false, e);
}

static int take_headers(struct mcp_config *c, const struct doc *d, struct err *e)
{
        int rc = take_values(d, &c->headers, &c->n_headers, e);

        return rc ? rc : check_names(d, true, e);
}

static int take_time(const struct doc *d, int64_t min, int64_t *out, struct err *e)
{
        if (!d->text || str_parse_duration(d->text, out) != 0 || *out < min)
                return err_at(e, E_INVAL, d->line, d->col, "%s: expected a duration such as 30s or 10m",
                              d->key);
        return 0;
}

static int take_startup(struct mcp_config *c, const struct doc *d, struct err *e)
{
        return take_time(d, 1, &c->startup_ms, e);
}

static int take_idle(struct mcp_config *c, const struct doc *d, struct err *e)
{
        return take_time(d, 0, &c->idle_ms, e);
}

static int take_call(struct mcp_config *c, const struct doc *d, struct err *e)
{
        return take_time(d, 0, &c->call_ms, e);
}

static const struct {
        const char *name;
        int (*take)(struct mcp_config *c, const struct doc *d, struct err *e);
} keys[] = {
        {"command", take_command},
        {"env", take_env},
        {"cwd", take_cwd},
        {"url", take_url},
        {"headers", take_headers},
        {"ca_file", take_ca},
        {"startup_timeout", take_startup},
        {"idle_timeout", take_idle},
        {"call_timeout", take_call},
};
#define N_KEYS (sizeof keys / sizeof *keys)

static int take_key(struct mcp_config *c, const struct doc *d, struct err *e)
{
        const char *names[N_KEYS], *near;

        for (size_t i = 0; i < N_KEYS; i++) {
                names[i] = keys[i].name;
                if (strcmp(names[i], d->key) == 0)
                        return keys[i].take(c, d, e);
        }
        near = str_nearest(d->key, names, N_KEYS);
        return err_at(e, E_INVAL, d->key_line, d->key_col, "unknown key \"%.60s\"%s%s%s", d->key,
                      near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

/* What a cache of its tools depends on; references by their names, never by their values. */
static int fingerprint(struct mcp_config *c, const struct doc *d, struct err *e)
{
        uint8_t sum[32];
        cJSON *v = NULL;
        char *text = doc_to_json(d, &v) == 0 ? json_text(v) : NULL;

        cJSON_Delete(v);
        if (!text)
                return err_set(e, E_NOMEM, "out of memory");
        secret_sha256(text, strlen(text), sum);
        str_hex(sum, 8, c->sha);
        mem_wipe(text, strlen(text));
        mem_free(text);
        return 0;
}

static bool is_server_name(const char *s)
{
        return str_is_name(s, MCP_NAME_MAX) && !strchr(s, '.');
}

static int take_server(struct mcp_config *c, const struct doc *d, struct err *e)
{
        int rc = 0;

        c->startup_ms = MCP_STARTUP_MS;
        c->idle_ms = MCP_IDLE_MS;
        c->call_ms = MCP_CALL_MS;
        if (!is_server_name(d->key))
                return err_at(e, E_INVAL, d->key_line, d->key_col,
                              "\"%.60s\" is no name for a server: letters, digits, '_' and '-', at most %d",
                              d->key, MCP_NAME_MAX);
        if (d->kind != DOC_MAP)
                return wrong(d, "a map with command or url", e);
        c->name = mem_strdup(d->key);
        if (!c->name)
                return err_set(e, E_NOMEM, "out of memory");
        for (const struct doc *m = d->child; m && !rc; m = m->next)
                rc = take_key(c, m, e);
        if (!rc && !c->command == !c->url)
                rc = err_at(e, E_INVAL, d->line, d->col, "%s: give either command or url", d->key);
        if (!rc && c->url && (c->env || c->cwd))
                rc = err_at(e, E_INVAL, d->line, d->col, "%s: env and cwd belong to a command, not to a url",
                            d->key);
        if (!rc && c->command && (c->headers || c->ca_file))
                rc = err_at(e, E_INVAL, d->line, d->col,
                            "%s: headers and ca_file belong to a url, not to a command", d->key);
        return rc ? rc : fingerprint(c, d, e);
}

/* --- the section ------------------------------------------------------------------------- */

static int take_section(const struct doc *d, struct mcp_configs *out, struct err *e)
{
        int rc = 0;

        if (!d || d->kind == DOC_NULL)
                return 0;
        if (d->kind != DOC_MAP)
                return wrong(d, "a map of servers", e);
        if (d->count > MCP_SERVERS_MAX)
                return err_at(e, E_INVAL, d->line, d->col, "mcp_servers: more than %d", MCP_SERVERS_MAX);
        out->v = mem_calloc(d->count ? d->count : 1, sizeof *out->v);
        if (!out->v)
                return err_set(e, E_NOMEM, "out of memory");
        for (const struct doc *m = d->child; m && !rc; m = m->next)
                rc = take_server(&out->v[out->n++], m, e);
        return rc;
}

int mcp_configs_parse(const char *text, size_t n, const char *file, struct mcp_configs *out, struct err *e)
{
        struct mcp_configs c = {0};
        struct doc *top = NULL;
        struct err why = {0};
        int rc = doc_parse(text, n, &top, &why);

        if (!rc && top->kind == DOC_MAP)
                rc = take_section(doc_get(top, "mcp_servers"), &c, &why);
        doc_free(top);
        if (!rc) {
                *out = c;
                return 0;
        }
        mcp_configs_free(&c);
        if (why.line > 0)
                return err_at(e, -rc, why.line, why.col, "%s:%d:%d: %s", file, why.line, why.col,
                              err_unplaced(&why));
        return err_set(e, -rc, "%s: %s", file, why.msg);
}

int mcp_configs_load(const char *path, struct mcp_configs *out, struct err *e)
{
        char *text = NULL;
        size_t n = 0;
        int rc;

        memset(out, 0, sizeof *out);
        if (!path)
                return 0;
        rc = file_read(path, FILE_MAX, &text, &n, e);
        if (rc)
                return rc;
        rc = mcp_configs_parse(text, n, path, out, e);
        mem_wipe(text, n);
        mem_free(text);
        return rc;
}

void mcp_configs_free(struct mcp_configs *c)
{
        for (size_t i = 0; i < c->n; i++) {
                struct mcp_config *s = &c->v[i];

                mem_free(s->name);
                env_free(s->command);
                mem_free(s->cwd);
                mem_free(s->url);
                mem_free(s->ca_file);
                values_free(s->env, s->n_env);
                values_free(s->headers, s->n_headers);
        }
        mem_free(c->v);
        memset(c, 0, sizeof *c);
}
