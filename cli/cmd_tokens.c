/* token ..., api-token ...: what machines join with, and what people ask with. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/client.h"
#include "cli/input.h"
#include "cli/print.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"

/* The token leaves by stdout alone, so that a script can take it. */
static void show_token(struct cli *c, cJSON *doc, const char *what, const char *next)
{
        char when[32];

        if (!print_doc(c, doc)) {
                printf("%s\n", jstr(doc, "token"));
                print_flush();
                ago_text(jstr(doc, "expires_at"), when);
                note("%s %s%s%s; it is shown only now. %s", what, jstr(doc, "id"),
                     *jstr(doc, "expires_at") ? ", expires " : "", *jstr(doc, "expires_at") ? when : "",
                     next);
        }
}

static void wipe_token(cJSON *doc)
{
        cJSON *t = cJSON_GetObjectItemCaseSensitive(doc, "token");

        if (cJSON_IsString(t))
                mem_wipe(t->valuestring, strlen(t->valuestring));
        cJSON_Delete(doc);
}

static int add_duration(cJSON *o, const char *key, int64_t ms)
{
        char text[32];

        str_format_duration(ms, text);
        return cJSON_AddStringToObject(o, key, text) ? 0 : -E_NOMEM;
}

int cmd_token_create(struct cli *c, struct err *e)
{
        cJSON *labels = NULL, *body = cJSON_CreateObject(), *doc = NULL;
        int rc = body && cJSON_AddNumberToObject(body, "uses", (double)c->o.uses)
                         ? add_duration(body, "ttl", c->o.ttl_ms)
                         : -E_NOMEM;

        if (!rc && c->o.name && !cJSON_AddStringToObject(body, "name", c->o.name))
                rc = -E_NOMEM;
        if (rc)
                err_set(e, E_NOMEM, "no memory");
        if (!rc && c->o.labels.n) {
                rc = input_pairs(&c->o.labels, "--label", &labels, e);
                if (rc == -E_INVAL)
                        rc = cli_usage(c, "%s", e->msg);
                if (!rc)
                        cJSON_AddItemToObject(body, "labels", labels);
        }
        if (!rc)
                rc = client_json(c->client, "POST", "/api/v1/join-tokens", body, &doc, e);
        if (!rc)
                show_token(c, doc, "join token", "On the machine: photon-agent join TOKEN");
        cJSON_Delete(body);
        wipe_token(doc);
        return rc;
}

int cmd_api_token_create(struct cli *c, struct err *e)
{
        cJSON *body, *scopes, *doc = NULL;
        int rc = 0;

        if (!c->o.name)
                return cli_usage(c, "photon api-token create: --name NAME is missing: say whose token it is");
        body = cJSON_CreateObject();
        if (!body || !cJSON_AddStringToObject(body, "name", c->o.name) ||
            !cJSON_AddStringToObject(body, "role", c->o.role) ||
            (c->o.ttl_ms && add_duration(body, "ttl", c->o.ttl_ms)) ||
            (c->o.project && !cJSON_AddStringToObject(body, "project", c->o.project)) ||
            (c->o.user && !cJSON_AddStringToObject(body, "user", c->o.user)))
                rc = err_set(e, E_NOMEM, "no memory");
        if (!rc && c->o.scopes.n) {
                scopes = cJSON_AddArrayToObject(body, "scopes");
                for (size_t i = 0; i < c->o.scopes.n; i++)
                        cJSON_AddItemToArray(scopes, cJSON_CreateString(c->o.scopes.v[i]));
        }
        if (!rc)
                rc = client_json(c->client, "POST",
                                 c->o.own ? "/api/v1/self/api-tokens" : "/api/v1/api-tokens", body, &doc, e);
        if (!rc)
                show_token(c, doc, "API token", "Its holder: photon login --hub URL --token TOKEN");
        cJSON_Delete(body);
        wipe_token(doc);
        return rc;
}

static void labels_text(const cJSON *labels, char *out, size_t cap)
{
        size_t n = 0;

        out[0] = '\0';
        for (const cJSON *l = labels ? labels->child : NULL; l && n + 1 < cap; l = l->next) {
                int k = snprintf(out + n, cap - n, "%s%s=%s", n ? "," : "", l->string,
                                 cJSON_IsString(l) ? l->valuestring : "?");

                n += k > 0 ? (size_t)k : 0;
        }
}

static int list_tokens(struct cli *c, bool api, struct err *e)
{
        static const char *const join_head[] = {"ID", "STATE", "USES", "NAME", "LABELS", "EXPIRES", "BY"};
        static const char *const api_head[] = {"ID",   "STATE", "NAME",    "ROLE", "PROJECT",
                                               "USER", "USED",  "EXPIRES", "BY"};
        struct table t;
        cJSON *all = NULL;
        char text[256];
        int rc = client_list(c->client,
                             !api       ? "/api/v1/join-tokens"
                             : c->o.own ? "/api/v1/self/api-tokens"
                                        : "/api/v1/api-tokens",
                             0, &all, e);

        if (rc)
                return rc;
        if (!print_doc(c, all)) {
                table_init(&t, api ? 9 : 7, api ? api_head : join_head);
                for (const cJSON *m = all->child; m; m = m->next) {
                        table_cell(&t, jstr(m, "id"), PAINT_NONE);
                        table_cell(&t, jstr(m, "state"), paint_state(jstr(m, "state")));
                        if (api) {
                                table_cell(&t, jstr(m, "name"), PAINT_NONE);
                                table_cell(&t, jstr(m, "role"), PAINT_NONE);
                                table_cell(&t, jstr(m, "project"), PAINT_NONE);
                                table_cell(&t, jstr(m, "user"), PAINT_NONE);
                                ago_text(jstr(m, "last_used_at"), text);
                                table_cell(&t, *jstr(m, "last_used_at") ? text : "never", PAINT_NONE);
                        } else {
                                snprintf(text, sizeof text, "%lld/%lld", (long long)jnum(m, "uses"),
                                         (long long)jnum(m, "uses_max"));
                                table_cell(&t, text, PAINT_NONE);
                                table_cell(&t, *jstr(m, "name") ? jstr(m, "name") : "*", PAINT_NONE);
                                labels_text(jget(m, "labels"), text, sizeof text);
                                table_cell(&t, text, PAINT_NONE);
                        }
                        ago_text(jstr(m, "expires_at"), text);
                        table_cell(&t, text, PAINT_NONE);
                        table_cell(&t, jstr(m, "created_by"), PAINT_NONE);
                }
                table_print(&t);
        }
        cJSON_Delete(all);
        return 0;
}

int cmd_token_list(struct cli *c, struct err *e)
{
        return list_tokens(c, false, e);
}

int cmd_api_token_list(struct cli *c, struct err *e)
{
        return list_tokens(c, true, e);
}

static int revoke(struct cli *c, const char *fmt_path, struct err *e)
{
        cJSON *done = NULL;
        int rc = fmt_path ? client_json(c->client, "DELETE", fmt_path, NULL, NULL, e)
                          : err_set(e, E_NOMEM, "no memory");

        if (rc)
                return rc;
        if (c->format == OUT_TABLE || c->format == OUT_WIDE) {
                note("%s is revoked", c->args[0]);
                return 0;
        }
        done = cJSON_CreateObject();
        cJSON_AddStringToObject(done, "id", c->args[0]);
        cJSON_AddStringToObject(done, "state", "revoked");
        print_doc(c, done);
        cJSON_Delete(done);
        return 0;
}

int cmd_token_revoke(struct cli *c, struct err *e)
{
        char *path = client_path("/join-tokens/%s", c->args[0]);
        int rc = revoke(c, path, e);

        mem_free(path);
        return rc;
}

int cmd_api_token_revoke(struct cli *c, struct err *e)
{
        char *path = client_path(c->o.own ? "/self/api-tokens/%s" : "/api-tokens/%s", c->args[0]);
        int rc = revoke(c, path, e);

        mem_free(path);
        return rc;
}
