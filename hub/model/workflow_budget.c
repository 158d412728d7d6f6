/* Budgets and estimates as a workflow writes them. */
#include "hub/model/workflow_internal.h"

#include <stdio.h>

#include "common/str.h"

int wf_budget(struct wf_parser *p, const struct doc *d, const char *key, struct budget_amount *out,
              enum budget_over *over)
{
        static const struct wf_key keys[] = {{"usd", 0}, {"tokens", 1}, {"over", 2}};
        const struct doc *slot[3] = {NULL};
        struct err why = {0};
        char where[64];
        int rc;

        if (!d || d->kind == DOC_NULL)
                return 0;
        if (d->kind != DOC_MAP)
                return wf_fail(p, d,
                               "\"%s\" of %s: expected a map such as {usd: \"5.00\", tokens: 200000}, got %s",
                               key, p->where, doc_kind_name(d->kind));
        snprintf(where, sizeof where, "\"%s\"", key);
        rc = wf_keys(p, d, where, keys, over ? 3 : 2, slot);
        if (!rc && !slot[0] && !slot[1])
                rc = wf_fail(p, d, "\"%s\" of %s says neither \"usd\" nor \"tokens\"", key, p->where);
        if (!rc && slot[0] && slot[0]->kind != DOC_STRING && slot[0]->kind != DOC_NUMBER)
                rc = wf_fail(p, slot[0], "\"usd\" of %s: expected an amount of dollars, got %s", p->where,
                             doc_kind_name(slot[0]->kind));
        if (!rc && slot[0] && budget_money_parse(slot[0]->text, &out->v[BUDGET_MONEY], &why))
                rc = wf_fail(p, slot[0], "\"usd\" of %s: %s", p->where, why.msg);
        if (!rc)
                rc = wf_int(p, slot[1], "tokens", 0, BUDGET_MAX, &out->v[BUDGET_TOKENS]);
        if (!rc && slot[2] && (slot[2]->kind != DOC_STRING || budget_over_parse(slot[2]->text, over)))
                rc = wf_fail(p, slot[2], "\"over\" of %s is stop (the step fails) or ask (people decide)",
                             p->where);
        return rc;
}
