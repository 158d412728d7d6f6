/* notices, notice retry: what people are told of questions. */
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/print.h"
#include "common/mem.h"

#include <stdio.h>
#include <string.h>

static void draw(const cJSON *all)
{
        static const char *const names[] = {"NOTICE", "STATE", "TARGET", "CHECKPOINT",
                                            "TRIES",  "NEXT",  "WHY"};
        struct table t;
        char tries[24];

        table_init(&t, 7, names);
        for (const cJSON *p = all->child; p; p = p->next) {
                const char *state = jstr(p, "state");

                table_cell(&t, jstr(p, "id"), PAINT_NONE);
                table_cell(&t, state, strcmp(state, "given_up") == 0 ? PAINT_YELLOW : PAINT_NONE);
                table_cell(&t, jstr(p, "target"), PAINT_NONE);
                table_cell(&t, jstr(p, "checkpoint"), PAINT_NONE);
                snprintf(tries, sizeof tries, "%d", (int)cJSON_GetNumberValue(jget(p, "attempts")));
                table_cell(&t, tries, PAINT_NONE);
                table_cell(&t, jstr(p, "next_at"), PAINT_NONE);
                table_cell(&t, jstr(p, "last_error"), PAINT_NONE);
        }
        table_print(&t);
}

int cmd_notices(struct cli *c, struct err *e)
{
        cJSON *all = NULL;
        int rc = client_list(c->client,
                             c->o.all ? "/api/v1/notices?state=all" : "/api/v1/notices?state=pending",
                             c->o.limit, &all, e);

        if (!rc && !print_doc(c, all)) {
                draw(all);
                if (!all->child && !c->o.all)
                        note("nothing waits to be sent; photon notices --all shows what was");
        }
        cJSON_Delete(all);
        return rc;
}

int cmd_notice_retry(struct cli *c, struct err *e)
{
        char *path = client_path("/notices/%s/retry", c->args[0]);
        cJSON *done = NULL;
        int rc = path ? client_json(c->client, "POST", path, NULL, &done, e)
                      : err_set(e, E_NOMEM, "no memory");

        mem_free(path);
        if (!rc && done && !print_doc(c, done))
                note("%s is tried once more", jstr(done, "id"));
        cJSON_Delete(done);
        return rc;
}
