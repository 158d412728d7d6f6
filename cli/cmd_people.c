/* user ..., project ...: who there is, and what they are where. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/client.h"
#include "cli/print.h"
#include "common/json.h"
#include "common/mem.h"

static int no_memory(struct err *e)
{
        return err_set(e, E_NOMEM, "no memory");
}

/* path: taken; body: taken, may be NULL. */
static int request(struct cli *c, const char *method, char *path, cJSON *body, cJSON **out, struct err *e)
{
        int rc = path ? client_json(c->client, method, path, body, out, e) : no_memory(e);

        mem_free(path);
        cJSON_Delete(body);
        return rc;
}

/* ["web: operator", ...] in one cell; what the provider says counts as much as what was given here. */
static void roles_text(const cJSON *u, char *out, size_t cap)
{
        static const char *const keys[] = {"roles", "provider_roles"};
        size_t n = 0;

        out[0] = '\0';
        for (size_t i = 0; i < 2; i++) {
                const cJSON *o = jget(u, keys[i]);

                for (const cJSON *m = o ? o->child : NULL; m && n + 1 < cap; m = m->next) {
                        int k = snprintf(out + n, cap - n, "%s%s: %s", n ? ", " : "", m->string,
                                         cJSON_IsString(m) ? m->valuestring : "?");

                        n += k > 0 ? (size_t)k : 0;
                }
        }
}

/* ---- users ---- */

int cmd_user_create(struct cli *c, struct err *e)
{
        cJSON *body = cJSON_CreateObject(), *doc = NULL;
        int rc;

        if (!body || !cJSON_AddStringToObject(body, "name", c->args[0]) ||
            (c->o.service && !cJSON_AddStringToObject(body, "kind", "service")) ||
            (c->o.email && !cJSON_AddStringToObject(body, "email", c->o.email)) ||
            (c->o.subject && !cJSON_AddStringToObject(body, "subject", c->o.subject))) {
                cJSON_Delete(body);
                return no_memory(e);
        }
        rc = request(c, "POST", mem_strdup("/api/v1/users"), body, &doc, e);
        if (!rc && !print_doc(c, doc))
                note("%s is a %s without a role; give one: photon user grant '%s' ROLE --project NAME",
                     jstr(doc, "name"), jstr(doc, "kind"), jstr(doc, "name"));
        cJSON_Delete(doc);
        return rc;
}

int cmd_user_list(struct cli *c, struct err *e)
{
        static const char *const head[] = {"NAME", "KIND", "STATE", "ROLES", "LAST LOGIN", "BY"};
        struct table t;
        char text[256];
        cJSON *all = NULL;
        int rc = client_list(c->client, "/api/v1/users", 0, &all, e);

        if (!rc && !print_doc(c, all)) {
                table_init(&t, 6, head);
                for (const cJSON *u = all->child; u; u = u->next) {
                        table_cell(&t, jstr(u, "name"), PAINT_NONE);
                        table_cell(&t, jstr(u, "kind"), PAINT_NONE);
                        table_cell(&t, jstr(u, "state"), paint_state(jstr(u, "state")));
                        roles_text(u, text, sizeof text);
                        table_cell(&t, text, PAINT_NONE);
                        ago_text(jstr(u, "last_login_at"), text);
                        table_cell(&t, text, PAINT_NONE);
                        table_cell(&t, jstr(u, "created_by"), PAINT_NONE);
                }
                table_print(&t);
        }
        cJSON_Delete(all);
        return rc;
}

static int switch_user(struct cli *c, const char *fmt_path, char *path, struct err *e)
{
        cJSON *doc = NULL;
        int rc = request(c, "POST", path, NULL, &doc, e);

        if (!rc && !print_doc(c, doc))
                note("user %s is %s", c->args[0], fmt_path);
        cJSON_Delete(doc);
        return rc;
}

int cmd_user_disable(struct cli *c, struct err *e)
{
        return switch_user(c, "disabled: their tokens and logins are not valid",
                           client_path("/users/%s/disable", c->args[0]), e);
}

int cmd_user_delete(struct cli *c, struct err *e)
{
        cJSON *doc = NULL;
        int rc = request(c, "DELETE", client_path("/users/%s", c->args[0]), NULL, &doc, e);

        if (!rc)
                note("user %s is deleted", c->args[0]);
        cJSON_Delete(doc);
        return rc;
}

int cmd_user_enable(struct cli *c, struct err *e)
{
        return switch_user(c, "enabled", client_path("/users/%s/enable", c->args[0]), e);
}

/* A role without a place would be a guess about the most dangerous word there is. */
static int where(struct cli *c, const char **out)
{
        *out = c->o.project;
        return c->o.project ? 0
                            : cli_usage(c,
                                        "photon %s: say in which project: --project NAME, or --project '*' "
                                        "for all of them and the hub itself",
                                        c->command->name);
}

int cmd_user_grant(struct cli *c, struct err *e)
{
        cJSON *body = cJSON_CreateObject(), *doc = NULL;
        const char *project;
        int rc = where(c, &project);

        if (!rc && (!body || !cJSON_AddStringToObject(body, "role", c->args[1])))
                rc = no_memory(e);
        if (rc) {
                cJSON_Delete(body);
                return rc;
        }
        rc = request(c, "PUT", client_path("/projects/%s/members/%s", project, c->args[0]), body, &doc, e);
        if (!rc && !print_doc(c, doc))
                note("%s is %s in %s", c->args[0], jstr(doc, "role"),
                     strcmp(project, "*") == 0 ? "all projects, and for the hub" : project);
        cJSON_Delete(doc);
        return rc;
}

int cmd_user_ungrant(struct cli *c, struct err *e)
{
        const char *project;
        int rc = where(c, &project);

        if (!rc)
                rc = request(c, "DELETE", client_path("/projects/%s/members/%s", project, c->args[0]), NULL,
                             NULL, e);
        if (!rc)
                note("%s has no role of their own in %s any more", c->args[0], project);
        return rc;
}

/* ---- projects ---- */

int cmd_project_create(struct cli *c, struct err *e)
{
        cJSON *body = cJSON_CreateObject(), *doc = NULL;
        int rc;

        if (!body || !cJSON_AddStringToObject(body, "name", c->args[0]) ||
            (c->o.name && !cJSON_AddStringToObject(body, "title", c->o.name))) {
                cJSON_Delete(body);
                return no_memory(e);
        }
        rc = request(c, "POST", mem_strdup("/api/v1/projects"), body, &doc, e);
        if (!rc && !print_doc(c, doc))
                note("project %s is made; who may do what in it: photon user grant USER ROLE --project %s",
                     jstr(doc, "name"), jstr(doc, "name"));
        cJSON_Delete(doc);
        return rc;
}

int cmd_project_list(struct cli *c, struct err *e)
{
        static const char *const head[] = {"NAME", "STATE", "MY ROLE", "TITLE", "BY"};
        struct table t;
        cJSON *all = NULL;
        int rc = client_list(c->client, "/api/v1/projects", 0, &all, e);

        if (!rc && !print_doc(c, all)) {
                table_init(&t, 5, head);
                for (const cJSON *p = all->child; p; p = p->next) {
                        table_cell(&t, jstr(p, "name"), PAINT_NONE);
                        table_cell(&t, jstr(p, "state"), paint_state(jstr(p, "state")));
                        table_cell(&t, jstr(p, "role"), PAINT_NONE);
                        table_cell(&t, jstr(p, "title"), PAINT_NONE);
                        table_cell(&t, jstr(p, "created_by"), PAINT_NONE);
                }
                table_print(&t);
        }
        cJSON_Delete(all);
        return rc;
}

int cmd_project_members(struct cli *c, struct err *e)
{
        static const char *const head[] = {"NAME", "KIND", "STATE", "ROLE"};
        struct table t;
        cJSON *all = NULL;
        char *path = client_path("/projects/%s/members", c->args[0]);
        int rc = path ? client_list(c->client, path, 0, &all, e) : no_memory(e);

        mem_free(path);
        if (!rc && !print_doc(c, all)) {
                table_init(&t, 4, head);
                for (const cJSON *m = all->child; m; m = m->next) {
                        table_cell(&t, jstr(m, "name"), PAINT_NONE);
                        table_cell(&t, jstr(m, "kind"), PAINT_NONE);
                        table_cell(&t, jstr(m, "state"), paint_state(jstr(m, "state")));
                        table_cell(&t, jstr(m, "role"), PAINT_NONE);
                }
                table_print(&t);
        }
        cJSON_Delete(all);
        return rc;
}

static int switch_project(struct cli *c, char *path, const char *what, struct err *e)
{
        cJSON *doc = NULL;
        int rc = request(c, "POST", path, NULL, &doc, e);

        if (!rc && !print_doc(c, doc))
                note("project %s %s", c->args[0], what);
        cJSON_Delete(doc);
        return rc;
}

int cmd_project_archive(struct cli *c, struct err *e)
{
        return switch_project(c, client_path("/projects/%s/archive", c->args[0]), "takes no new work", e);
}

int cmd_project_unarchive(struct cli *c, struct err *e)
{
        return switch_project(c, client_path("/projects/%s/unarchive", c->args[0]), "takes new work again",
                              e);
}
