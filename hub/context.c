#include "hub/context.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/err.h"
#include "common/file.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"
#include "hub/conf.h"

static char *config_dir(void)
{
        const char *xdg = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");

        if (xdg && *xdg)
                return path_join(xdg, "photon");
        return home && *home ? str_printf("%s/.config/photon", home) : NULL;
}

static int leave(const struct hub_conf *c, const char *token, const char *dir, struct err *e)
{
        char *file = path_join(dir, "context.json"), *ca_out = path_join(dir, "ca.pem"), *text = NULL,
             *pem = NULL;
        char *ca_in = path_join(c->data, "pki/ca.crt");
        const char *host = c->hosts.n ? c->hosts.v[0] : "localhost";
        bool v6 = strchr(host, ':') != NULL;
        cJSON *o = cJSON_CreateObject();
        char *url = str_printf("https://%s%s%s:7443", v6 ? "[" : "", host, v6 ? "]" : "");
        struct stat sb;
        size_t n;
        int rc = file && ca_out && ca_in && o && url ? 0 : err_set(e, E_NOMEM, "no memory");

        if (!rc && lstat(file, &sb) == 0)
                rc = err_set(e, E_EXIST,
                             "%s already names a hub and was kept; use --hub, --token and --ca for this one",
                             file);
        if (!rc)
                rc = file_mkdirs(dir, 0700, e);
        if (!rc)
                rc = file_read(ca_in, 64 << 10, &pem, &n, e);
        if (!rc)
                rc = file_write_atomic(ca_out, pem, n, 0644, e);
        if (!rc) {
                cJSON_AddStringToObject(o, "hub", url);
                cJSON_AddStringToObject(o, "token", token);
                cJSON_AddStringToObject(o, "ca", ca_out);
                text = json_text(o);
                rc = text ? file_write_atomic(file, text, strlen(text), 0600, e)
                          : err_set(e, E_NOMEM, "no memory");
        }
        if (text)
                mem_wipe(text, strlen(text));
        mem_free(text);
        mem_free(pem);
        mem_free(url);
        mem_free(file);
        mem_free(ca_out);
        mem_free(ca_in);
        cJSON_Delete(o);
        return rc;
}

void context_leave(const struct hub_conf *c, const char *token)
{
        struct err e = {0};
        char *dir = config_dir();

        if (dir && leave(c, token, dir, &e))
                fprintf(stderr, "photon-hub: no context was left for the photon command: %s\n", e.msg);
        mem_free(dir);
}
