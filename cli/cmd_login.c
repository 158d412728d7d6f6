/* login, logout, whoami, version, help. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/client.h"
#include "cli/context.h"
#include "cli/device_login.h"
#include "cli/input.h"
#include "cli/print.h"
#include "common/file.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/version.h"

#define CA_MAX    ((size_t)256 << 10)
#define TOKEN_MAX ((size_t)4 << 10)

static int read_token(struct cli *c, char **out, struct err *e)
{
        char *text = NULL;
        size_t n = 0;
        int rc;

        if (!c->o.token_file) {
                *out = c->o.token ? mem_strdup(c->o.token) : NULL;
                return *out ? 0 : c->o.token ? err_set(e, E_NOMEM, "no memory") : -E_NOENT;
        }
        rc = input_read(c->o.token_file, TOKEN_MAX, &text, &n, e);
        if (rc)
                return rc;
        text[strcspn(text, "\r\n")] = '\0';
        *out = text;
        return 0;
}

/* The authority as PEM: fetched and compared, or read, or none (NULL): the machine's own. */
static int read_ca(struct cli *c, const char *hub, char **out, struct err *e)
{
        size_t n = 0;

        if (c->o.ca_sha256)
                return client_fetch_ca(hub, c->o.ca_sha256, out, e);
        if (!c->o.ca)
                return 0;
        return input_read(c->o.ca, CA_MAX, out, &n, e);
}

/* libcurl wants the authority as a file; *path is "" without one. */
static int scratch_ca(const char *pem, char path[64], struct err *e)
{
        int fd, rc;

        path[0] = '\0';
        if (!pem)
                return 0;
        strcpy(path, "/tmp/photon-ca-XXXXXX");
        fd = mkostemp(path, O_CLOEXEC);
        if (fd < 0)
                return err_set(e, err_from_errno(errno), "/tmp: %s", strerror(errno));
        rc = file_write_all(fd, pem, strlen(pem));
        close(fd);
        return rc ? err_set(e, -rc, "%s could not be written", path) : 0;
}

/* Only what works is kept: an earlier context stays when this one does not. */
static int try_and_save(struct cli *c, char *hub, char *token, const char *pem, char **saved, cJSON **who,
                        struct err *e)
{
        char scratch[64];
        struct context where = {.hub = hub, .token = token};
        int rc = scratch_ca(pem, scratch, e);

        where.ca = scratch[0] ? scratch : NULL;
        if (!rc)
                rc = client_create(&where, &c->client, e);
        if (!rc)
                rc = client_json(c->client, "GET", "/api/v1/whoami", NULL, who, e);
        if (!rc)
                rc = context_save(hub, token, NULL, pem, saved, e);
        if (scratch[0])
                unlink(scratch);
        return rc;
}

/* Without a token: by the hub's identity provider. */
static int login_there(char *hub, const char *pem, char **token, struct err *e)
{
        char scratch[64];
        struct context where = {.hub = hub};
        struct client *client = NULL;
        int rc = scratch_ca(pem, scratch, e);

        where.ca = scratch[0] ? scratch : NULL;
        if (!rc)
                rc = client_create(&where, &client, e);
        if (!rc)
                rc = device_login(client, token, e);
        client_free(client);
        if (scratch[0])
                unlink(scratch);
        return rc;
}

int cmd_login(struct cli *c, struct err *e)
{
        char *hub = NULL, *token = NULL, *pem = NULL, *path = NULL;
        cJSON *who = NULL;
        int rc;

        if (!c->o.hub)
                return cli_usage(c, "photon login: --hub URL is missing");
        if (c->o.ca && c->o.ca_sha256)
                return cli_usage(c, "photon login: give --ca or --ca-sha256, not both");
        rc = context_url(c->o.hub, &hub, e);
        if (rc)
                return cli_usage(c, "%s", e->msg);
        rc = read_token(c, &token, e);
        if (!rc || (rc == -E_NOENT && !c->o.token_file)) {
                rc = read_ca(c, hub, &pem, e);
                if (!rc && !token)
                        rc = login_there(hub, pem, &token, e);
        }
        if (!rc)
                rc = try_and_save(c, hub, token, pem, &path, &who, e);
        if (!rc && !print_doc(c, who))
                note("logged in at %s as %s (%s); kept in %s", hub, jstr(who, "name"), jstr(who, "role"),
                     path);
        if (token)
                mem_wipe(token, strlen(token));
        cJSON_Delete(who);
        mem_free(token);
        mem_free(hub);
        mem_free(pem);
        mem_free(path);
        return rc;
}

/* A session of a login is ended where it lives; a token made by hand stays, others may use it too. */
static bool end_session(struct cli *c)
{
        struct context where = {0};
        struct err why = {0};
        cJSON *who = NULL;
        char *path = NULL;
        bool ended = false;
        int rc = context_resolve(c->o.hub, c->o.token, c->o.ca, &where, &why);

        if (!rc)
                rc = client_create(&where, &c->client, &why);
        if (!rc)
                rc = client_json(c->client, "GET", "/api/v1/whoami", NULL, &who, &why);
        if (!rc && cJSON_IsTrue(jget(who, "session"))) {
                path = client_path("/self/api-tokens/%s", jstr(who, "token_id"));
                rc = path ? client_json(c->client, "DELETE", path, NULL, NULL, &why) : -E_NOMEM;
                ended = !rc;
                if (rc)
                        note("the session could not be ended at the hub: %s", why.msg);
        }
        mem_free(path);
        cJSON_Delete(who);
        context_fini(&where);
        return ended;
}

int cmd_logout(struct cli *c, struct err *e)
{
        bool ended = end_session(c);
        char *path = NULL;
        int rc = context_remove(&path, e);

        if (!rc)
                note(ended ? "%s is removed, and the login has ended at the hub"
                           : "%s is removed; the token itself is valid until it is revoked",
                     path);
        mem_free(path);
        return rc;
}

static void put_projects(const cJSON *projects)
{
        for (const cJSON *p = projects ? projects->child : NULL; p; p = p->next)
                printf("  %s in %s\n", cJSON_IsString(p) ? p->valuestring : "?",
                       strcmp(p->string, "*") == 0 ? "all projects, and for the hub" : p->string);
}

int cmd_whoami(struct cli *c, struct err *e)
{
        cJSON *doc = NULL;
        int rc = client_json(c->client, "GET", "/api/v1/whoami", NULL, &doc, e);

        if (!rc && !print_doc(c, doc)) {
                const cJSON *all = jget(doc, "permissions");

                printf("%s (%s) at %s\n", jstr(doc, "name"), jstr(doc, "role"), client_hub(c->client));
                put_projects(jget(doc, "projects"));
                for (const cJSON *p = all ? all->child : NULL; p; p = p->next)
                        printf("  %s\n", cJSON_IsString(p) ? p->valuestring : "?");
        }
        cJSON_Delete(doc);
        return rc;
}

int cmd_version(struct cli *c, struct err *e)
{
        struct context where = {0};
        cJSON *hub = NULL, *doc;
        struct err why = {0};
        int rc = context_resolve(c->o.hub, c->o.token, c->o.ca, &where, &why);

        /* The hub's version is an extra: without a hub this is still an answer. */
        if (!rc)
                rc = client_create(&where, &c->client, &why);
        if (!rc)
                rc = client_json(c->client, "GET", "/version", NULL, &hub, &why);
        doc = cJSON_CreateObject();
        if (!doc || !cJSON_AddStringToObject(doc, "version", PHOTON_VERSION)) {
                cJSON_Delete(doc);
                cJSON_Delete(hub);
                context_fini(&where);
                return err_set(e, E_NOMEM, "no memory");
        }
        if (hub)
                cJSON_AddItemToObject(doc, "hub", hub);
        if (!print_doc(c, doc)) {
                printf("photon %s\n", PHOTON_VERSION);
                if (hub)
                        printf("hub %s at %s\n", jstr(hub, "version"), where.hub);
                else if (where.hub)
                        note("no hub answers: %s", why.msg);
        }
        cJSON_Delete(doc);
        context_fini(&where);
        return 0;
}

int cmd_help(struct cli *c, struct err *e)
{
        char name[128];

        if (c->format == OUT_JSON)
                return help_json(e);
        if (!c->n_args) {
                help_top(stdout);
                return 0;
        }
        snprintf(name, sizeof name, "%.60s%s%.60s", c->args[0], c->n_args > 1 ? " " : "",
                 c->n_args > 1 ? c->args[1] : "");
        for (const struct command *k = commands; k->name; k++) {
                if (strcmp(k->name, name) == 0) {
                        help_command(stdout, k);
                        return 0;
                }
        }
        return c->n_args == 1 && help_group(stdout, name) ? 0
                                                          : cli_usage(c, "there is no command \"%s\"", name);
}
