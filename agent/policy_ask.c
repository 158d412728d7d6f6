/* The questions about tools, commands, hosts and the environment. */
#include "agent/policy_in.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/err.h"
#include "common/mem.h"
#include "common/str.h"

extern char **environ;

static const struct rule *match(const struct rules *rs, const char *s)
{
        for (size_t i = 0; s && i < rs->n; i++)
                if (str_glob(rs->v[i].text, s))
                        return &rs->v[i];
        return NULL;
}

static int denied_by(const struct policy *p, const struct rule *r, const char *what, const char *key,
                     struct err *e)
{
        char where[512];

        return err_set(e, E_DENIED, "%s is denied by %s \"%s\" in %s; remove that entry to allow it", what,
                       key, r->text, policy_where(p, r, where, sizeof where));
}

static int not_allowed(const struct policy *p, const char *what, const char *key, struct err *e)
{
        char where[512];

        return err_set(e, E_DENIED, "%s is not in %s of %s; add it there to allow it", what, key,
                       policy_where(p, NULL, where, sizeof where));
}

int policy_tool(const struct policy *p, const char *tool, struct err *e)
{
        const struct rule *r = match(&p->tools_deny, tool);

        if (r)
                return denied_by(p, r, tool, "tools.deny", e);
        if (!match(&p->tools_allow, tool))
                return not_allowed(p, tool, "tools.allow", e);
        return 0;
}

/* --- commands --------------------------------------------------------- */

bool policy_commands_open(const struct policy *p)
{
        for (size_t i = 0; i < p->commands_allow.n; i++)
                if (strcmp(p->commands_allow.v[i].text, "*") == 0)
                        return true;
        return false;
}

static const char *base_name(const char *s)
{
        const char *slash = strrchr(s, '/');

        return slash ? slash + 1 : s;
}

/* Where the agent's own PATH leads; mem_free it. */
static char *on_path(const char *name)
{
        const char *path = getenv("PATH");
        struct stat st;

        if (!path || !*path)
                path = "/usr/local/bin:/usr/bin:/bin";
        while (*name) {
                size_t n = strcspn(path, ":");
                char *full = n ? str_printf("%.*s/%s", (int)n, path, name) : NULL;

                if (full && full[0] == '/' && access(full, X_OK) == 0 && stat(full, &st) == 0 &&
                    S_ISREG(st.st_mode))
                        return full;
                mem_free(full);
                if (!path[n])
                        break;
                path += n + 1;
        }
        return NULL;
}

/* A denied program stays denied under another path or behind a link. */
static const struct rule *command_denied(const struct policy *p, const char *argv0, const char *found)
{
        const char *file = strchr(argv0, '/') || !found ? argv0 : found;
        const struct rule *r = match(&p->commands_deny, argv0);
        char *real;

        if (!r)
                r = match(&p->commands_deny, base_name(argv0));
        if (!r)
                r = match(&p->commands_deny, file);
        real = r ? NULL : realpath(file, NULL);
        if (real) {
                r = match(&p->commands_deny, real);
                if (!r)
                        r = match(&p->commands_deny, base_name(real));
                free(real);
        }
        return r;
}

/* A bare name in the list means what the agent's PATH says, never a file of
 * the same name that a caller has put somewhere. */
static bool command_allowed(const struct policy *p, const char *argv0, const char *found)
{
        bool has_slash = strchr(argv0, '/') != NULL;
        bool official = !has_slash || (found && strcmp(found, argv0) == 0);

        for (size_t i = 0; i < p->commands_allow.n; i++) {
                const char *g = p->commands_allow.v[i].text;

                if (strcmp(g, "*") == 0)
                        return true;
                if (strchr(g, '/')) {
                        if (has_slash && !strstr(argv0, "/../") && str_glob(g, argv0))
                                return true;
                        if (!has_slash && found && str_glob(g, found))
                                return true;
                } else if (official && str_glob(g, base_name(argv0))) {
                        return true;
                }
        }
        return false;
}

int policy_shell(const struct policy *p, struct err *e)
{
        char where[512];

        if (p->shell)
                return 0;
        return err_set(e, E_DENIED, "commands.shell is false in %s; use argv, or set it to true",
                       policy_where(p, NULL, where, sizeof where));
}

int policy_command(const struct policy *p, const char *argv0, bool shell, struct err *e)
{
        const struct rule *r;
        char *found = NULL;
        int rc = shell ? policy_shell(p, e) : 0;

        if (rc)
                return rc;
        if (p->commands_deny.n == 0 && policy_commands_open(p))
                return 0;
        found = on_path(base_name(argv0));
        r = command_denied(p, argv0, found);
        if (r)
                rc = denied_by(p, r, argv0, "commands.deny", e);
        else if (!command_allowed(p, argv0, found))
                rc = not_allowed(p, argv0, "commands.allow", e);
        mem_free(found);
        return rc;
}

/* --- hosts ------------------------------------------------------------ */

/* Lower case, IPv6 in brackets, no final dot: "Example.COM." is example.com. */
static bool plain_host(const char *host, char *out, size_t n)
{
        size_t len = strlen(host);
        /* One colon is host:port (in a rule), two or more are IPv6. */
        bool bracket = host[0] != '[' && strchr(host, ':') != strrchr(host, ':');

        if (len == 0 || len + 3 > n)
                return false;
        if (host[len - 1] == '.' && len > 1)
                len--;
        snprintf(out, n, bracket ? "[%.*s]" : "%.*s", (int)len, host);
        for (char *s = out; *s; s++)
                if (*s >= 'A' && *s <= 'Z')
                        *s = (char)(*s - 'A' + 'a');
        return true;
}

static const struct rule *match_host(const struct rules *rs, const char *host, int port)
{
        char with_port[300], pattern[300];

        snprintf(with_port, sizeof with_port, "%s:%d", host, port);
        for (size_t i = 0; i < rs->n; i++) {
                if (!plain_host(rs->v[i].text, pattern, sizeof pattern))
                        continue;
                if (str_glob(pattern, host) || str_glob(pattern, with_port))
                        return &rs->v[i];
        }
        return NULL;
}

int policy_address(const struct policy *p, const char *ip, int port, struct err *e)
{
        const struct rule *r;
        char host[260];

        if (!plain_host(ip, host, sizeof host))
                return err_set(e, E_INVAL, "\"%s\" is not a host name", ip);
        r = match_host(&p->http_deny, host, port);
        return r ? denied_by(p, r, host, "http.deny", e) : 0;
}

int policy_host(const struct policy *p, const char *host, int port, struct err *e)
{
        char plain[260];
        int rc = policy_address(p, host, port, e);

        if (rc)
                return rc;
        plain_host(host, plain, sizeof plain);
        if (!match_host(&p->http_allow, plain, port))
                return not_allowed(p, plain, "http.allow", e);
        return 0;
}

/* --- environment ------------------------------------------------------ */

static bool set_has(const struct policy *p, const char *entry, size_t name_len)
{
        for (size_t i = 0; i < p->env_set.n; i++)
                if (strncmp(p->env_set.v[i].text, entry, name_len) == 0 &&
                    p->env_set.v[i].text[name_len] == '=')
                        return true;
        return false;
}

static bool passes(const struct policy *p, const char *entry)
{
        size_t n = strcspn(entry, "=");
        char name[256];

        if (n == 0 || n >= sizeof name || !entry[n])
                return false;
        memcpy(name, entry, n);
        name[n] = '\0';
        return match(&p->env_pass, name) && !set_has(p, entry, n);
}

char **policy_base_env(const struct policy *p)
{
        size_t n = p->env_set.n, k = 0;
        char **v;

        for (char **x = environ; x && *x; x++)
                n++;
        v = mem_calloc(n + 1, sizeof *v);
        if (!v)
                return NULL;
        for (char **x = environ; x && *x; x++)
                if (passes(p, *x) && !(v[k++] = mem_strdup(*x)))
                        goto fail;
        for (size_t i = 0; i < p->env_set.n; i++)
                if (!(v[k++] = mem_strdup(p->env_set.v[i].text)))
                        goto fail;
        return v;
fail:
        for (size_t i = 0; i < n; i++)
                mem_free(v[i]);
        mem_free(v);
        return NULL;
}
