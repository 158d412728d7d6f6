/* models: what can be asked, where, for how much. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/client.h"
#include "cli/print.h"
#include "common/buf.h"

static double number(const cJSON *o, const char *key)
{
        const cJSON *v = jget(o, key);

        return cJSON_IsNumber(v) ? v->valuedouble : -1;
}

static void model_line(struct table *t, const cJSON *m)
{
        const cJSON *price = jget(m, "price"), *seen = jget(m, "measured"), *c;
        char text[128] = "", *at = text;
        double first = number(seen, "latency_p50_ms");

        table_cell(t, jstr(m, "agent"), jbool(m, "online") ? PAINT_NONE : PAINT_DIM);
        table_cell(t, jstr(m, "endpoint"), PAINT_NONE);
        table_cell(t, jstr(m, "model"), PAINT_BOLD);
        table_cell(t, jbool(m, "local") ? "yes" : "", PAINT_GREEN);
        for (c = jget(m, "capabilities") ? jget(m, "capabilities")->child : NULL; c; c = c->next)
                at += snprintf(at, (size_t)(text + sizeof text - at), "%s%.16s", at == text ? "" : " ",
                               cJSON_IsString(c) && at < text + 80 ? c->valuestring : "");
        table_cell(t, text, PAINT_NONE);
        snprintf(text, sizeof text, "%.0f", number(m, "context"));
        table_cell(t, number(m, "context") > 0 ? text : "-", PAINT_NONE);
        snprintf(text, sizeof text, "%g/%g", number(price, "input"), number(price, "output"));
        table_cell(t, price ? text : "-", PAINT_NONE);
        snprintf(text, sizeof text, "%.0f ms", first);
        table_cell(t, first >= 0 ? text : "-", PAINT_NONE);
        snprintf(text, sizeof text, "%.0f%%", 100 * number(seen, "error_rate"));
        table_cell(t, number(seen, "calls") > 0 ? text : "-",
                   number(seen, "error_rate") > 0.2 ? PAINT_RED : PAINT_NONE);
        table_cell(t,
                   !jbool(m, "online")    ? "agent offline"
                   : !jbool(m, "has_key") ? "no key"
                                          : "ready",
                   jbool(m, "online") && jbool(m, "has_key") ? PAINT_GREEN : PAINT_YELLOW);
}

int cmd_models(struct cli *c, struct err *e)
{
        static const char *const head[] = {"AGENT",   "ENDPOINT", "MODEL", "LOCAL",  "CAN",
                                           "CONTEXT", "PRICE",    "TOKEN", "ERRORS", "STATE"};
        struct table t;
        cJSON *all = NULL;
        int rc = client_list(c->client, "/api/v1/models", 0, &all, e);

        if (rc)
                return rc;
        if (!print_doc(c, all)) {
                table_init(&t, 10, head);
                for (const cJSON *m = all->child; m; m = m->next)
                        model_line(&t, m);
                table_print(&t);
                if (!all->child)
                        note("no agent has a model endpoint: list one under models: in its configuration "
                             "(docs/MODELS.md)");
        }
        cJSON_Delete(all);
        return 0;
}
