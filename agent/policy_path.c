/* May this file be read or written? Symbolic links and ".." are resolved
 * first, so that the rules see where a path really leads. */
#include "agent/policy_in.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/mem.h"
#include "common/str.h"

int policy_plain_path(const struct policy *p, const char *text, char **out, struct err *e)
{
        struct buf b;
        const char *s = text;
        int rc = 0;

        buf_init(&b, PATH_MAX);
        if (text[0] == '~' && (text[1] == '\0' || text[1] == '/')) {
                if (strcmp(p->home, "/") != 0)
                        rc = buf_puts(&b, p->home);
                s++;
        } else if (text[0] != '/') {
                buf_fini(&b);
                return err_set(e, E_INVAL, "\"%s\" must start with / or ~/", text);
        }
        while (*s && rc == 0) {
                size_t n;

                while (*s == '/')
                        s++;
                n = strcspn(s, "/");
                if (n == 2 && s[0] == '.' && s[1] == '.') {
                        buf_fini(&b);
                        return err_set(e, E_INVAL, "\"%s\" must not contain \"..\"", text);
                }
                if (n && !(n == 1 && s[0] == '.')) {
                        rc = buf_putc(&b, '/');
                        if (rc == 0)
                                rc = buf_put(&b, s, n);
                }
                s += n;
        }
        if (rc == 0 && b.len == 0)
                rc = buf_putc(&b, '/');
        if (rc == 0) {
                *out = buf_steal_str(&b);
                rc = *out ? 0 : -E_NOMEM;
        }
        buf_fini(&b);
        if (rc)
                return err_set(e, -rc,
                               rc == -E_TOOBIG ? "the path is longer than 4096 bytes" : "out of memory");
        return 0;
}

/* --- rules ------------------------------------------------------------ */

/* Is `path` the folder `root`, or below it? */
static bool under(const char *root, const char *path)
{
        size_t n = strlen(root);

        if (n == 1)
                return true;
        return strncmp(root, path, n) == 0 && (path[n] == '\0' || path[n] == '/');
}

bool policy_rule_holds(const struct rule *r, const char *path)
{
        char *below;
        bool yes;

        if (!strchr(r->path, '*'))
                return under(r->path, path) || (r->real && under(r->real, path));
        if (str_glob(r->path, path))
                return true;
        below = str_printf("%s/*", r->path);
        yes = !below || str_glob(below, path); /* no memory: a denial is the safe answer */
        mem_free(below);
        return yes;
}

static const struct rule *find_rule(const struct rules *rs, const char *path)
{
        for (size_t i = 0; i < rs->n; i++)
                if (policy_rule_holds(&rs->v[i], path))
                        return &rs->v[i];
        return NULL;
}

int policy_path_real(const struct policy *p, enum policy_access a, const char *real, struct err *e)
{
        const struct rules *allow = a == POLICY_READ ? &p->read : &p->write;
        const char *key = a == POLICY_READ ? "read" : "write";
        const struct rule *r;
        char where[512];

        if (find_rule(&p->protected, real))
                return err_set(e, E_DENIED, "%s belongs to the agent itself; tools may not touch it", real);
        r = find_rule(&p->deny, real);
        if (r)
                return err_set(e, E_DENIED,
                               "%s is denied by files.deny \"%s\" in %s; remove that entry to allow it", real,
                               r->text, policy_where(p, r, where, sizeof where));
        if (!find_rule(allow, real))
                return err_set(e, E_DENIED,
                               "%s is under none of the folders in files.%s of %s; add its folder there",
                               real, key, policy_where(p, NULL, where, sizeof where));
        return 0;
}

static bool any_below(const struct rules *rs, const char *real)
{
        for (size_t i = 0; i < rs->n; i++)
                if (under(real, rs->v[i].path) || (rs->v[i].real && under(real, rs->v[i].real)))
                        return true;
        return false;
}

bool policy_covers_denied(const struct policy *p, const char *real)
{
        return any_below(&p->protected, real) || any_below(&p->deny, real);
}

bool policy_is_root(const struct policy *p, const char *real)
{
        char *home;
        bool yes = strcmp(real, "/") == 0 || strcmp(real, p->home) == 0;

        home = realpath(p->home, NULL);
        yes = yes || (home && strcmp(real, home) == 0);
        free(home);
        for (size_t i = 0; i < p->write.n && !yes; i++) {
                const struct rule *r = &p->write.v[i];

                yes = strcmp(r->path, real) == 0 || (r->real && strcmp(r->real, real) == 0);
        }
        return yes;
}

/* --- resolving -------------------------------------------------------- */

static int absolute(const struct policy *p, const char *path, const char *cwd, char **out, struct err *e)
{
        char *s;

        if (!*path)
                return err_set(e, E_INVAL, "the path is empty");
        if (strlen(path) >= PATH_MAX)
                return err_set(e, E_TOOBIG, "the path is longer than 4096 bytes");
        if (path[0] == '/')
                s = mem_strdup(path);
        else if (path[0] == '~' && (path[1] == '\0' || path[1] == '/'))
                s = str_printf("%s%s", p->home, path + 1);
        else
                s = str_printf("%s/%s", cwd ? cwd : p->home, path);
        if (!s)
                return err_set(e, E_NOMEM, "out of memory");
        *out = s;
        return 0;
}

static int resolve_failed(const char *path, int sys, struct err *e)
{
        if (sys == EACCES)
                return err_set(e, E_DENIED, "%s: a folder on the way may not be entered by the agent's user",
                               path);
        if (sys == ELOOP)
                return err_set(e, E_INVAL, "%s: too many symbolic links on the way", path);
        if (sys == ENOTDIR)
                return err_set(e, E_INVAL, "%s: a part of the path is a file, not a folder", path);
        return err_set(e, err_from_errno(sys), "%s: %s", path, strerror(sys));
}

/* The names behind the nearest existing folder are taken as they stand, so
 * none of them may be "..": what it means is open until the folder is there. */
static int append_missing(char **real, const char *rest, const char *whole, struct err *e)
{
        while (*rest) {
                size_t n;
                char *longer;

                while (*rest == '/')
                        rest++;
                n = strcspn(rest, "/");
                if (n == 2 && rest[0] == '.' && rest[1] == '.')
                        return err_set(e, E_INVAL, "%s: \"..\" after a folder that does not exist", whole);
                if (n && !(n == 1 && rest[0] == '.')) {
                        longer = str_printf("%s/%.*s", strcmp(*real, "/") == 0 ? "" : *real, (int)n, rest);
                        if (!longer)
                                return err_set(e, E_NOMEM, "out of memory");
                        mem_free(*real);
                        *real = longer;
                }
                rest += n;
        }
        return 0;
}

/* abs is changed while we work, and whole again afterwards. */
static int resolve(char *abs, char **out, struct err *e)
{
        struct stat st;
        size_t len = strlen(abs), cut = len;
        char *sys, *real = NULL, saved;
        int rc;

        for (;;) {
                saved = abs[cut];
                abs[cut] = '\0';
                sys = realpath(cut ? abs : "/", NULL);
                if (sys)
                        break;
                if (errno != ENOENT) {
                        int err = errno;

                        abs[cut] = saved;
                        return resolve_failed(abs, err, e);
                }
                if (lstat(abs, &st) == 0 && S_ISLNK(st.st_mode)) {
                        rc = err_set(e, E_DENIED,
                                     "%s is a symbolic link that leads nowhere; name the file itself", abs);
                        abs[cut] = saved;
                        return rc;
                }
                abs[cut] = saved;
                while (cut && abs[cut - 1] == '/')
                        cut--;
                while (cut && abs[cut - 1] != '/')
                        cut--;
                while (cut && abs[cut - 1] == '/')
                        cut--;
        }
        abs[cut] = saved;
        real = mem_strdup(sys);
        free(sys);
        if (!real)
                return err_set(e, E_NOMEM, "out of memory");
        rc = append_missing(&real, abs + cut, abs, e);
        if (rc == 0 && strlen(real) >= PATH_MAX)
                rc = err_set(e, E_TOOBIG, "the path is longer than 4096 bytes");
        if (rc) {
                mem_free(real);
                return rc;
        }
        *out = real;
        return 0;
}

static int real_path(const struct policy *p, const char *path, const char *cwd, char **out, struct err *e)
{
        char *abs = NULL;
        int rc = absolute(p, path, cwd, &abs, e);

        if (rc == 0)
                rc = resolve(abs, out, e);
        mem_free(abs);
        return rc;
}

int policy_resolve(const struct policy *p, const char *path, char **out_real, struct err *e)
{
        return real_path(p, path, NULL, out_real, e);
}

int policy_resolve_at(const struct policy *p, const char *path, const char *cwd, char **out_real,
                      struct err *e)
{
        return real_path(p, path, cwd, out_real, e);
}

int policy_path(const struct policy *p, enum policy_access a, const char *path, const char *cwd,
                char **out_real, struct err *e)
{
        char *real = NULL;
        int rc = real_path(p, path, cwd, &real, e);

        if (rc == 0)
                rc = policy_path_real(p, a, real, e);
        if (rc == 0 && out_real) {
                *out_real = real;
                real = NULL;
        }
        mem_free(real);
        return rc;
}
