/* agent ..., tools: the machines and what they can do. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/client.h"
#include "cli/print.h"
#include "common/buf.h"
#include "common/json.h"
#include "common/mem.h"

/* "a=1, b=2" of an object, "x, y" of an array of texts or named objects; buf_fini'd by the caller. */
static const char *inline_text(const cJSON *v, struct buf *b)
{
        int rc = 0;

        buf_reset(b);
        for (const cJSON *m = v ? v->child : NULL; m && !rc; m = m->next) {
                const char *s = cJSON_IsString(m) ? m->valuestring : jstr(m, "name");

                rc = buf_printf(b, "%s%s%s%s", m == v->child ? "" : ", ", cJSON_IsObject(v) ? m->string : "",
                                cJSON_IsObject(v) ? "=" : "", s);
        }
        return rc || buf_putc(b, '\0') ? "" : (const char *)b->data;
}

/* "Claude Code 2.1.328, Codex 0.169.0 (not logged in)" */
static const char *platforms_text(const cJSON *list, struct buf *b)
{
        int rc = 0;

        buf_reset(b);
        for (const cJSON *p = list ? list->child : NULL; p && !rc; p = p->next) {
                const char *login = jstr(p, "login");

                rc = buf_printf(b, "%s%s%s%s%s", p == list->child ? "" : ", ", jstr(p, "program"),
                                *jstr(p, "version") ? " " : "", jstr(p, "version"),
                                strcmp(login, "no") == 0        ? " (not logged in)"
                                : strcmp(login, "unknown") == 0 ? " (login unknown)"
                                                                : "");
        }
        return rc || buf_putc(b, '\0') ? "" : (const char *)b->data;
}

/* "require", "best-effort, in part", "off"; "" for an agent that does not say. */
static const char *sandbox_word(const cJSON *a, char out[64])
{
        const cJSON *s = jget(a, "sandbox");

        snprintf(out, 64, "%.20s%s", jstr(s, "mode"), *jstr(s, "lacks") ? ", in part" : "");
        return out;
}

static const char *sandbox_text(const cJSON *a, struct buf *b)
{
        const cJSON *s = jget(a, "sandbox");
        const char *lacks = jstr(s, "lacks");

        buf_reset(b);
        if (buf_printf(b, "%s%s%s%s%s", jstr(s, "mode"), *jstr(s, "mode") ? ": " : "", jstr(s, "has"),
                       *lacks ? "; missing: " : "", lacks) ||
            buf_putc(b, '\0'))
                return "";
        return (const char *)b->data;
}

static void agent_line(struct table *t, const cJSON *a, bool wide, struct buf *b)
{
        char text[64];

        table_cell(t, jstr(a, "name"), PAINT_NONE);
        table_cell(t, jstr(a, "state"), paint_state(jstr(a, "state")));
        snprintf(text, sizeof text, "%lld", (long long)jnum(a, "running"));
        table_cell(t, text, PAINT_NONE);
        snprintf(text, sizeof text, "%.28s/%.28s", jstr(a, "os"), jstr(a, "arch"));
        table_cell(t, *jstr(a, "os") ? text : "", PAINT_NONE);
        table_cell(t, jstr(a, "version"), PAINT_NONE);
        ago_text(jstr(a, "last_seen_at"), text);
        table_cell(t, strcmp(jstr(a, "state"), "online") == 0 ? "now" : text, PAINT_NONE);
        table_cell(t, inline_text(jget(a, "labels"), b), PAINT_NONE);
        table_cell(t, platforms_text(jget(a, "platforms"), b), PAINT_NONE);
        table_cell(t, sandbox_word(a, text), PAINT_NONE);
        if (wide) {
                table_cell(t, jstr(a, "kind"), PAINT_NONE);
                table_cell(t, jstr(a, "id"), PAINT_NONE);
                table_cell(t, inline_text(jget(a, "tools"), b), PAINT_NONE);
        }
}

int cmd_agent_list(struct cli *c, struct err *e)
{
        static const char *const head[] = {"NAME",   "STATE",    "RUNNING", "PLATFORM", "VERSION", "SEEN",
                                           "LABELS", "PROGRAMS", "SANDBOX", "KIND",     "ID",      "TOOLS"};
        bool wide = c->format == OUT_WIDE;
        struct table t;
        struct buf b;
        cJSON *all = NULL;
        int rc = client_list(c->client, "/api/v1/agents", 0, &all, e);

        if (rc)
                return rc;
        if (!print_doc(c, all)) {
                buf_init(&b, 0);
                table_init(&t, wide ? 12 : 9, head);
                for (const cJSON *a = all->child; a; a = a->next)
                        agent_line(&t, a, wide, &b);
                table_print(&t);
                buf_fini(&b);
                if (!all->child)
                        note("no agent has joined yet: photon token create, then photon-agent join TOKEN on "
                             "a machine");
        }
        cJSON_Delete(all);
        return 0;
}

static void field(const char *name, const char *value)
{
        printf("%s%-12s%s", paint(PAINT_DIM), name, unpaint());
        put_plain(stdout, *value ? value : "-");
        putchar('\n');
}

static void draw_agent(const cJSON *a)
{
        char text[64];
        struct buf b;

        buf_init(&b, 0);
        field("name", jstr(a, "name"));
        field("id", jstr(a, "id"));
        printf("%s%-12s%s%s%s%s\n", paint(PAINT_DIM), "state", unpaint(),
               paint(paint_state(jstr(a, "state"))), jstr(a, "state"), unpaint());
        field("kind", jstr(a, "kind"));
        snprintf(text, sizeof text, "%.28s/%.28s", jstr(a, "os"), jstr(a, "arch"));
        field("platform", text);
        field("version", jstr(a, "version"));
        snprintf(text, sizeof text, "%lld", (long long)jnum(a, "running"));
        field("running", text);
        ago_text(jstr(a, "last_seen_at"), text);
        field("last seen", text);
        field("labels", inline_text(jget(a, "labels"), &b));
        field("programs", platforms_text(jget(a, "platforms"), &b));
        field("tools", inline_text(jget(a, "tools"), &b));
        field("sandbox", sandbox_text(a, &b));
        buf_fini(&b);
}

int cmd_agent_show(struct cli *c, struct err *e)
{
        char *path = client_path("/agents/%s", c->args[0]);
        cJSON *doc = NULL;
        int rc = path ? client_json(c->client, "GET", path, NULL, &doc, e) : err_set(e, E_NOMEM, "no memory");

        if (!rc && !print_doc(c, doc))
                draw_agent(doc);
        cJSON_Delete(doc);
        mem_free(path);
        return rc;
}

/* path: taken. */
static int change(struct cli *c, const char *method, char *path, const cJSON *body, const char *done,
                  struct err *e)
{
        cJSON *doc = NULL;
        int rc =
                path ? client_json(c->client, method, path, body, &doc, e) : err_set(e, E_NOMEM, "no memory");

        if (!rc && (!doc || !print_doc(c, doc)))
                note("%s %s", c->args[0], done);
        cJSON_Delete(doc);
        mem_free(path);
        return rc;
}

int cmd_agent_drain(struct cli *c, struct err *e)
{
        return change(c, "POST", client_path("/agents/%s/drain", c->args[0]), NULL,
                      "gets no new work; what runs there goes on. To undo: photon agent undrain", e);
}

int cmd_agent_undrain(struct cli *c, struct err *e)
{
        return change(c, "POST", client_path("/agents/%s/undrain", c->args[0]), NULL, "gets work again", e);
}

int cmd_agent_revoke(struct cli *c, struct err *e)
{
        return change(c, "POST", client_path("/agents/%s/revoke", c->args[0]), NULL,
                      "is revoked: its connection is cut and it cannot come back with this identity", e);
}

int cmd_agent_label(struct cli *c, struct err *e)
{
        cJSON *set = cJSON_CreateObject();
        int rc = set ? 0 : err_set(e, E_NOMEM, "no memory");

        for (size_t i = 1; i < c->n_args && !rc; i++) {
                char *w = c->args[i], *eq = strchr(w, '=');
                size_t n = strlen(w);

                if (eq && eq > w) {
                        *eq = '\0';
                        cJSON_DeleteItemFromObjectCaseSensitive(set, w);
                        rc = cJSON_AddStringToObject(set, w, eq + 1) ? 0 : err_set(e, E_NOMEM, "no memory");
                } else if (!eq && n > 1 && w[n - 1] == '-') {
                        w[n - 1] = '\0';
                        cJSON_DeleteItemFromObjectCaseSensitive(set, w);
                        rc = cJSON_AddNullToObject(set, w) ? 0 : err_set(e, E_NOMEM, "no memory");
                } else {
                        rc = cli_usage(c, "\"%.100s\": expected KEY=VALUE, or KEY- to remove a label", w);
                }
        }
        if (!rc)
                rc = change(c, "PATCH", client_path("/agents/%s/labels", c->args[0]), set,
                            "has its new labels", e);
        cJSON_Delete(set);
        return rc;
}

int cmd_tools(struct cli *c, struct err *e)
{
        static const char *const head[] = {"TOOL", "AGENTS"};
        struct table t;
        struct buf b;
        cJSON *all = NULL;
        int rc = client_list(c->client, "/api/v1/tools", 0, &all, e);

        if (rc)
                return rc;
        if (!print_doc(c, all)) {
                buf_init(&b, 0);
                table_init(&t, 2, head);
                for (const cJSON *m = all->child; m; m = m->next) {
                        table_cell(&t, jstr(m, "name"), PAINT_NONE);
                        table_cell(&t, inline_text(jget(m, "agents"), &b), PAINT_NONE);
                }
                table_print(&t);
                buf_fini(&b);
        }
        cJSON_Delete(all);
        return 0;
}
