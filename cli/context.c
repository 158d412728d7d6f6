#include "cli/context.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/err.h"
#include "common/file.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"

#define CONTEXT_MAX ((size_t)64 << 10)
#define API_PORT    "7443"

static void wipe_free(char *s)
{
        if (s)
                mem_wipe(s, strlen(s));
        mem_free(s);
}

void context_fini(struct context *c)
{
        mem_free(c->hub);
        wipe_free(c->token);
        mem_free(c->ca);
        *c = (struct context){0};
}

static char *config_dir(void)
{
        const char *xdg = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");

        if (xdg && *xdg)
                return path_join(xdg, "photon");
        return home && *home ? str_printf("%s/.config/photon", home) : NULL;
}

static char *config_file(const char *name)
{
        char *dir = config_dir(), *path = dir ? path_join(dir, name) : NULL;

        mem_free(dir);
        return path;
}

int context_url(const char *given, char **out, struct err *e)
{
        const char *host = given, *end, *colon;
        bool v6, has_port;
        size_t n;

        if (strncmp(given, "http://", 7) == 0)
                return err_set(e, E_INVAL, "hub %s: the hub speaks HTTPS only; write https://%s", given,
                               given + 7);
        if (strncmp(given, "https://", 8) == 0)
                host += 8;
        n = strlen(host);
        while (n && host[n - 1] == '/')
                n--;
        end = host + n;
        if (!n || memchr(host, '/', n) || memchr(host, '@', n) || memchr(host, ' ', n) ||
            memchr(host, '?', n))
                return err_set(e, E_INVAL, "hub \"%s\": expected https://HOST:PORT", given);
        v6 = *host == '[';
        colon = v6 ? memchr(host, ']', n) : host;
        if (!colon)
                return err_set(e, E_INVAL, "hub \"%s\": the address lacks its closing ]", given);
        colon = memchr(colon, ':', (size_t)(end - colon));
        has_port = colon != NULL;
        if (has_port) {
                char *port = mem_strndup(colon + 1, (size_t)(end - colon - 1));
                int64_t p;
                int rc = port ? str_parse_i64(port, 1, 65535, &p) : -E_NOMEM;

                mem_free(port);
                if (rc)
                        return err_set(e, E_INVAL, "hub \"%s\": the port must be a number from 1 to 65535",
                                       given);
        }
        *out = str_printf("https://%.*s%s", (int)n, host, has_port ? "" : ":" API_PORT);
        return *out ? 0 : err_set(e, E_NOMEM, "no memory");
}

static int copy(const cJSON *doc, const char *key, char **out, struct err *e)
{
        const char *v = NULL;
        int rc = json_str_opt(doc, key, &v, e);

        if (!rc && v && *v) {
                *out = mem_strdup(v);
                rc = *out ? 0 : err_set(e, E_NOMEM, "no memory");
        }
        return rc;
}

/* -E_NOENT: there is none. */
static int load(struct context *c, struct err *e)
{
        char *path = config_file("context.json"), *text = NULL;
        struct err why = {0};
        cJSON *doc = NULL;
        size_t n = 0;
        int rc;

        if (!path || (access(path, F_OK) && errno == ENOENT)) {
                mem_free(path);
                return -E_NOENT;
        }
        rc = file_read(path, CONTEXT_MAX, &text, &n, e);
        if (!rc) {
                rc = json_parse(text, n, &doc, &why);
                if (!rc && !cJSON_IsObject(doc))
                        rc = err_set(&why, E_INVAL, "expected an object");
                if (!rc)
                        rc = copy(doc, "hub", &c->hub, &why);
                if (!rc)
                        rc = copy(doc, "token", &c->token, &why);
                if (!rc)
                        rc = copy(doc, "ca", &c->ca, &why);
                if (rc)
                        err_set(e, -rc,
                                "%s is damaged (%s); log in again: photon login --hub URL --token TOKEN",
                                path, why.msg);
                mem_wipe(text, n);
        }
        mem_free(text);
        cJSON_Delete(doc);
        mem_free(path);
        return rc;
}

static int take(const char *given, char **out, struct err *e)
{
        if (!given)
                return 0;
        *out = mem_strdup(given);
        return *out ? 0 : err_set(e, E_NOMEM, "no memory");
}

static void move(char **from, char **to)
{
        if (*to)
                return;
        *to = *from;
        *from = NULL;
}

static bool same_file(const char *a, const char *b)
{
        char *x = NULL, *y = NULL;
        size_t n = 0, m = 0;
        bool same = file_read(a, CONTEXT_MAX, &x, &n, NULL) == 0 &&
                    file_read(b, CONTEXT_MAX, &y, &m, NULL) == 0 && n == m && memcmp(x, y, n) == 0;

        mem_free(x);
        mem_free(y);
        return same;
}

int context_resolve(const char *hub, const char *token, const char *ca, struct context *out, struct err *e)
{
        struct context c = {0}, kept = {0};
        char *kept_hub = NULL;
        int rc = 0;

        if (hub && *hub)
                rc = context_url(hub, &c.hub, e);
        if (!rc)
                rc = take(token, &c.token, e);
        if (!rc)
                rc = take(ca, &c.ca, e);
        if (!rc && !(c.hub && c.token && c.ca)) {
                rc = load(&kept, e);
                rc = rc == -E_NOENT ? 0 : rc;
        }
        if (!rc && kept.hub)
                rc = context_url(kept.hub, &kept_hub, e);
        if (!rc)
                move(&kept_hub, &c.hub);
        if (!rc && !c.hub)
                rc = err_set(e, E_NOENT,
                             "no hub is known: use --hub URL, set PHOTON_HUB, or log in once: photon login "
                             "--hub URL --token TOKEN");
        /* A token goes only to the hub that it was stored for: at the address it was stored with (then
         * kept_hub was taken, or is the same), or wherever the authority stored with it vouches for it. */
        if (!rc && kept.hub) {
                bool same = !kept_hub || strcmp(kept_hub, c.hub) == 0;

                if (!c.ca)
                        move(&kept.ca, &c.ca);
                else
                        same = same || (kept.ca && same_file(kept.ca, c.ca));
                if (same || (c.ca && !kept.ca && !ca))
                        move(&kept.token, &c.token);
        }
        mem_free(kept_hub);
        context_fini(&kept);
        if (rc) {
                context_fini(&c);
                return rc;
        }
        *out = c;
        return 0;
}

static int write_files(const char *dir, const char *file, const char *text, const char *ca_file,
                       const char *ca_pem, struct err *e)
{
        int rc = file_mkdirs(dir, 0700, e);

        if (!rc && ca_pem)
                rc = file_write_atomic(ca_file, ca_pem, strlen(ca_pem), 0644, e);
        return rc ? rc : file_write_atomic(file, text, strlen(text), 0600, e);
}

int context_save(const char *hub, const char *token, const char *ca, const char *ca_pem, char **out_path,
                 struct err *e)
{
        char *dir = config_dir(), *file = config_file("context.json"), *ca_file = config_file("ca.pem"),
             *text = NULL;
        cJSON *o = cJSON_CreateObject();
        int rc = -E_NOMEM;

        if (!dir) {
                rc = err_set(e, E_NOENT,
                             "neither XDG_CONFIG_HOME nor HOME is set: there is no place for the context");
                goto out;
        }
        if (!file || !ca_file || !o || !cJSON_AddStringToObject(o, "hub", hub) ||
            !cJSON_AddStringToObject(o, "token", token))
                goto out;
        if ((ca_pem || ca) && !cJSON_AddStringToObject(o, "ca", ca_pem ? ca_file : ca))
                goto out;
        text = json_text(o);
        if (text)
                rc = write_files(dir, file, text, ca_file, ca_pem, e);
        if (!rc) {
                *out_path = file;
                file = NULL;
        }
out:
        if (rc == -E_NOMEM)
                err_set(e, E_NOMEM, "no memory");
        wipe_free(text);
        cJSON_Delete(o);
        mem_free(dir);
        mem_free(file);
        mem_free(ca_file);
        return rc;
}

int context_remove(char **out_path, struct err *e)
{
        char *file = config_file("context.json");

        if (!file)
                return err_set(e, E_NOENT, "nobody is logged in here");
        if (unlink(file)) {
                int sys = errno, rc;

                rc = sys == ENOENT ? err_set(e, E_NOENT, "nobody is logged in here")
                                   : err_set(e, err_from_errno(sys), "%s: %s", file, strerror(sys));
                mem_free(file);
                return rc;
        }
        *out_path = file;
        return 0;
}
