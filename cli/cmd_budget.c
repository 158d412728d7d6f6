/* budget ...: caps on money and tokens, and the ledger of what was reserved and spent. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/client.h"
#include "cli/print.h"
#include "common/buf.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"

static int no_memory(struct err *e)
{
        return err_set(e, E_NOMEM, "no memory");
}

static void amount_cell(struct table *t, const cJSON *o, const char *key)
{
        char text[96];

        table_cell(t, amount_text(jget(o, key), text, sizeof text), PAINT_NONE);
}

int cmd_budget_list(struct cli *c, struct err *e)
{
        static const char *const head[] = {"BUDGET", "CAP",    "SPENT", "RESERVED",
                                           "LEFT",   "RAISED", "OVER",  "WAITING"};
        cJSON *all = NULL;
        struct table t;
        int rc = client_list(c->client, "/api/v1/budgets", 0, &all, e);

        if (rc)
                return rc;
        if (!print_doc(c, all)) {
                table_init(&t, 8, head);
                for (const cJSON *b = all->child; b; b = b->next) {
                        char n[24];

                        table_cell(&t, jstr(b, "id"), PAINT_NONE);
                        amount_cell(&t, b, "cap");
                        amount_cell(&t, b, "spent");
                        amount_cell(&t, b, "reserved");
                        amount_cell(&t, b, "left");
                        amount_cell(&t, b, "raised");
                        table_cell(&t, jstr(b, "over"), PAINT_NONE);
                        snprintf(n, sizeof n, "%lld", (long long)jnum(b, "waiting"));
                        table_cell(&t, n, jnum(b, "waiting") ? PAINT_YELLOW : PAINT_NONE);
                }
                table_print(&t);
        }
        cJSON_Delete(all);
        return 0;
}

static void draw(const cJSON *b)
{
        static const char *const members[] = {"cap", "spent", "reserved", "raised", "left"};
        char text[96];

        printf("%-10s ", "budget");
        put_plain(stdout, jstr(b, "id"));
        printf("\n");
        for (size_t i = 0; i < sizeof members / sizeof *members; i++)
                if (jget(b, members[i]))
                        printf("%-10s %s\n", members[i], amount_text(jget(b, members[i]), text, sizeof text));
        printf("%-10s %s\n", "over", strcmp(jstr(b, "over"), "ask") ? "the step fails" : "people are asked");
        printf("%-10s %lld steps\n", "waiting", (long long)jnum(b, "waiting"));
        printf("%-10s %s by ", "set", jstr(b, "updated_at"));
        put_plain(stdout, jstr(b, "updated_by"));
        printf("\n");
}

static int request(struct cli *c, const char *method, const cJSON *body, cJSON **out, struct err *e)
{
        char *id = client_escape(c->args[0]);
        char *path = id ? str_printf("/api/v1/budgets/%s", id) : NULL;
        int rc = path ? client_json(c->client, method, path, body, out, e) : no_memory(e);

        mem_free(id);
        mem_free(path);
        return rc;
}

int cmd_budget_show(struct cli *c, struct err *e)
{
        cJSON *doc = NULL;
        int rc = request(c, "GET", NULL, &doc, e);

        if (!rc && !print_doc(c, doc))
                draw(doc);
        cJSON_Delete(doc);
        return rc;
}

int cmd_budget_set(struct cli *c, struct err *e)
{
        cJSON *body, *doc = NULL;
        int64_t tokens = 0;
        int rc;

        if (!c->o.usd && !c->o.tokens)
                return cli_usage(c, "photon budget set: say the cap: --usd AMOUNT, --tokens N or both");
        if (c->o.tokens && str_parse_i64(c->o.tokens, 0, INT64_C(1000000000000000), &tokens))
                return cli_usage(c, "photon budget set: --tokens is a whole number, not \"%s\"", c->o.tokens);
        body = cJSON_CreateObject();
        if (c->o.usd)
                cJSON_AddStringToObject(body, "usd", c->o.usd);
        if (c->o.tokens)
                cJSON_AddNumberToObject(body, "tokens", (double)tokens);
        if (c->o.over)
                cJSON_AddStringToObject(body, "over", c->o.over);
        if (c->o.restart)
                cJSON_AddTrueToObject(body, "restart");
        rc = request(c, "PUT", body, &doc, e);
        cJSON_Delete(body);
        if (!rc && !print_doc(c, doc))
                draw(doc);
        cJSON_Delete(doc);
        return rc;
}

int cmd_budget_delete(struct cli *c, struct err *e)
{
        int rc = request(c, "DELETE", NULL, NULL, e);

        if (!rc)
                note("deleted; what was spent stays in the ledger");
        return rc;
}

/* ---- the ledger ---- */

static int add_query(struct buf *b, const char *name, const char *value)
{
        char *v = value ? client_escape(value) : NULL;
        int rc = !value ? 0
                 : !v   ? -E_NOMEM
                        : buf_printf(b, "%c%s=%s", memchr(b->data, '?', b->len) ? '&' : '?', name, v);

        mem_free(v);
        return rc;
}

static void draw_ledger(const cJSON *all)
{
        static const char *const head[] = {"AT",   "STATE",    "RUN",   "STEP",    "PROJECT", "AGENT",
                                           "TOOL", "RESERVED", "SPENT", "OVERRUN", "ESTIMATE"};
        struct table t;

        table_init(&t, 11, head);
        for (const cJSON *r = all->child; r; r = r->next) {
                const char *state = jstr(r, "state");
                bool over = strcmp(jstr(jget(r, "overrun"), "usd"), "0.00") > 0 ||
                            jnum(jget(r, "overrun"), "tokens") > 0;
                char text[96];

                table_cell(&t, jstr(r, "reserved_at"), PAINT_NONE);
                table_cell(&t, jbool(r, "stopped") ? "stopped" : state,
                           jbool(r, "stopped") || !strcmp(state, "lost") ? PAINT_RED
                           : strcmp(state, "reserved")                   ? PAINT_NONE
                                                                         : PAINT_YELLOW);
                table_cell(&t, *jstr(r, "run") ? jstr(r, "run") : "-", PAINT_NONE);
                table_cell(&t, *jstr(r, "step") ? jstr(r, "step") : "-", PAINT_NONE);
                table_cell(&t, *jstr(r, "project") ? jstr(r, "project") : "-", PAINT_NONE);
                table_cell(&t, *jstr(r, "agent") ? jstr(r, "agent") : "-", PAINT_NONE);
                table_cell(&t, *jstr(r, "tool") ? jstr(r, "tool") : "-", PAINT_NONE);
                amount_cell(&t, r, "reserved");
                amount_cell(&t, r, "spent");
                table_cell(&t, over ? amount_text(jget(r, "overrun"), text, sizeof text) : "-",
                           over ? PAINT_RED : PAINT_NONE);
                table_cell(&t, jstr(r, "estimate"), PAINT_DIM);
        }
        table_print(&t);
}

int cmd_budget_ledger(struct cli *c, struct err *e)
{
        struct buf b = {0};
        cJSON *all = NULL;
        char *path = NULL;
        int rc = buf_puts(&b, "/api/v1/ledger");

        if (!rc)
                rc = add_query(&b, "run", c->o.run);
        if (!rc)
                rc = add_query(&b, "agent", c->o.agent);
        if (!rc)
                rc = add_query(&b, "day", c->o.day);
        if (!rc)
                rc = add_query(&b, "state", c->o.state);
        path = rc ? NULL : buf_steal_str(&b);
        buf_fini(&b);
        rc = path ? client_list(c->client, path, c->o.limit, &all, e) : no_memory(e);
        mem_free(path);
        if (!rc && !print_doc(c, all))
                draw_ledger(all);
        cJSON_Delete(all);
        return rc;
}
