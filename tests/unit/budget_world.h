/* What the tests of the engine's budgets share: set one, look at the ledger as the database has it, at the
 * budgets as people see them, and at what runs. */
#ifndef PHOTON_TEST_BUDGET_WORLD_H
#define PHOTON_TEST_BUDGET_WORLD_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/json.h"
#include "common/mem.h"
#include "tests/lib/engine_bench.h"
#include "tests/lib/test.h"

#define USD(n) ((int64_t)((n)*1000000))
#define NONE   BUDGET_NONE

static inline void on_answer(void *arg, int rc, const struct err *e)
{
        struct eb *b = arg;

        b->answer_rc = rc;
        snprintf(b->answer_msg, sizeof b->answer_msg, "%s", e ? e->msg : "");
}

static inline int set(struct eb *b, const char *id, int64_t micros, int64_t tokens, bool restart)
{
        struct engine_budget_set s = {
                .id = id, .cap = {.max = {{micros, tokens}}}, .restart = restart, .by = "eve"};

        b->answer_rc = 1;
        engine_budget_set(b->en, &s, on_answer, b);
        eb_turn(b);
        return b->answer_rc;
}

/* ---- the ledger as the database has it ---- */

struct sums {
        int n, reserved, settled, lost, stopped;
        int64_t held, spent, overrun; /* micros */
        int64_t last_spent, last_tokens;
        char project[64], agent[64], source[32];
};

static inline int on_entry(void *arg, const struct row_ledger *r)
{
        struct sums *s = arg;

        if (!s->n++) {
                s->last_spent = r->spent_micros;
                s->last_tokens = r->spent_tokens;
                snprintf(s->project, sizeof s->project, "%s", r->project ? r->project : "");
                snprintf(s->agent, sizeof s->agent, "%s", r->agent ? r->agent : "");
                snprintf(s->source, sizeof s->source, "%s", r->source ? r->source : "");
        }
        s->reserved += r->state == LEDGER_RESERVED;
        s->settled += r->state == LEDGER_SETTLED;
        s->lost += r->state == LEDGER_LOST;
        s->stopped += r->stopped;
        s->held += r->state == LEDGER_RESERVED && r->reserved_micros > 0 ? r->reserved_micros : 0;
        s->spent += r->state == LEDGER_RESERVED ? 0 : r->spent_micros;
        if (r->state != LEDGER_RESERVED && r->reserved_micros >= 0 && r->spent_micros > r->reserved_micros)
                s->overrun += r->spent_micros - r->reserved_micros;
        return 0;
}

static inline struct sums ledger(struct eb *b)
{
        struct ledger_filter f = {.state = -1, .day = -1};
        struct store_reader *rd;
        struct sums s = {0};

        CHECK_INT(store_reader_open(b->store, &rd, NULL), 0);
        CHECK_INT(read_ledger(rd, &f, on_entry, &s), 0);
        store_reader_close(rd);
        return s;
}

/* As people see it; -1: there is none. */
static inline int64_t seen(struct eb *b, const char *id, const char *what)
{
        cJSON *o = engine_budgets(b->en, id);
        const cJSON *usd = cJSON_GetObjectItem(cJSON_GetObjectItem(o, what), "usd");
        int64_t v = -1;

        if (cJSON_IsString(usd))
                CHECK_INT(budget_money_parse(usd->valuestring, &v, NULL), 0);
        cJSON_Delete(o);
        return v;
}

static inline int running(struct eb *b)
{
        int n = 0;

        for (int i = 0; i < b->n_starts; i++)
                n += !b->starts[i].answered;
        return n;
}

static inline char *many(int n, const char *head, const char *step)
{
        char *text = malloc((size_t)n * 200 + 400), *p = text;

        p += sprintf(p, "%ssteps:\n", head);
        for (int i = 0; i < n; i++)
                p += sprintf(p, "  - {id: s%d, %s}\n", i, step);
        return text;
}

static inline void answer_all(struct eb *b, const char *usage)
{
        b->usage = usage;
        for (int i = 0; i < b->n_starts; i++)
                if (!b->starts[i].answered)
                        eb_answer(b, b->starts[i].step, ENGINE_SUCCEEDED, NULL);
        b->usage = NULL;
}

static inline void check_column(struct eb *b, const char *step, const char *column, const char *want)
{
        char *v = eb_column(b, step, column);

        if (!strstr(v, want))
                test_fail(__FILE__, __LINE__, "%s of %s is \"%s\", wanted \"%s\"", column, step, v, want);
        free(v);
}

#define THINK "uses: acme.think, with: {}, effect: idempotent"

#define ONE THINK ", estimate: {usd: 1}"

#endif
