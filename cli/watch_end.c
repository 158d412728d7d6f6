/* A run as it stands or ended, for people. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/client.h"
#include "cli/print.h"
#include "cli/watch.h"
#include "common/buf.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"

#define FAILED_SHOWN 5
#define TAIL_LINES   10
#define TAIL_BYTES   8192

int watch_status(const char *state)
{
        if (strcmp(state, "succeeded") == 0)
                return STATUS_OK;
        return strcmp(state, "cancelled") == 0 ? STATUS_CANCELLED : STATUS_FAILED;
}

static void head(const cJSON *run)
{
        char took[32];
        const char *from = *jstr(run, "started_at") ? jstr(run, "started_at") : jstr(run, "created_at");

        span_text(from, jstr(run, "finished_at"), took);
        printf("%s", paint(PAINT_BOLD));
        put_plain(stdout, jstr(run, "workflow"));
        printf("%s  %s  %s%s%s  %s\n", unpaint(), jstr(run, "id"), paint(paint_state(jstr(run, "state"))),
               jstr(run, "state"), unpaint(), took);
        if (*jstr(jget(run, "error"), "message")) {
                fputs("  ", stdout);
                put_plain(stdout, jstr(jget(run, "error"), "message"));
                putchar('\n');
        }
        if (jget(run, "spent")) {
                char spent[96], reserved[96];
                bool more = jget(run, "reserved") != NULL;

                printf("  spent %s%s%s\n", amount_text(jget(run, "spent"), spent, sizeof spent),
                       more ? "; reserved " : "",
                       more ? amount_text(jget(run, "reserved"), reserved, sizeof reserved) : "");
        }
}

static void step_line(struct table *t, const cJSON *s, bool wide, bool spent)
{
        const cJSON *code = jget(s, "exit_code");
        char text[64];

        table_cell(t, jstr(s, "id"), PAINT_NONE);
        table_cell(t, jstr(s, "state"), paint_state(jstr(s, "state")));
        table_cell(t, jstr(s, "agent"), PAINT_NONE);
        span_text(jstr(s, "started_at"), jstr(s, "finished_at"), text);
        table_cell(t, text, PAINT_NONE);
        snprintf(text, sizeof text, "%lld", (long long)jnum(s, "attempt"));
        table_cell(t, jnum(s, "attempt") ? text : "", PAINT_NONE);
        snprintf(text, sizeof text, "%d", cJSON_IsNumber(code) ? code->valueint : 0);
        table_cell(t, cJSON_IsNumber(code) ? text : "", PAINT_NONE);
        if (wide) {
                str_format_size(jnum(s, "output_bytes"), text);
                table_cell(t, text, PAINT_NONE);
                table_cell(t, jstr(s, "tool"), PAINT_NONE);
        }
        if (spent) {
                char amount[96];

                table_cell(t, jget(s, "spent") ? amount_text(jget(s, "spent"), amount, sizeof amount) : "",
                           PAINT_NONE);
        }
        table_cell(t, jstr(jget(s, "error"), "message"), PAINT_NONE);
}

void watch_draw_run(const cJSON *run, bool wide)
{
        const char *names[10] = {"STEP", "STATE", "AGENT", "TOOK", "TRY", "EXIT"};
        const cJSON *steps = jget(run, "steps");
        bool spent = jget(run, "spent") != NULL;
        struct table t;
        int n = 6;

        if (wide) {
                names[n++] = "OUTPUT";
                names[n++] = "TOOL";
        }
        if (spent)
                names[n++] = "SPENT";
        names[n++] = "ERROR";
        head(run);
        table_init(&t, n, names);
        for (const cJSON *s = steps ? steps->child : NULL; s; s = s->next)
                step_line(&t, s, wide, spent);
        table_print(&t);
}

struct tail {
        struct buf b;
        bool done, good;
};

static int on_data(void *ctx, const void *p, size_t n)
{
        struct tail *t = ctx;
        int rc = buf_put(&t->b, p, n);

        if (!rc && t->b.len > 2 * TAIL_BYTES)
                buf_consume(&t->b, t->b.len - TAIL_BYTES);
        return rc;
}

static void on_end(void *ctx, const struct answer *a)
{
        struct tail *t = ctx;

        t->done = true;
        t->good = !a->rc;
}

static void print_tail(const struct buf *b)
{
        size_t from = b->len, lines = 0;

        while (from && b->data[from - 1] == '\n')
                from--;
        while (from && lines < TAIL_LINES) {
                from--;
                if (b->data[from] == '\n')
                        lines++;
        }
        if (from < b->len && b->data[from] == '\n')
                from++;
        while (from < b->len) {
                const uint8_t *nl = memchr(b->data + from, '\n', b->len - from);
                size_t n = nl ? (size_t)(nl - (b->data + from)) : b->len - from;
                char *line = str_utf8_lossy(b->data + from, n);

                if (n || nl) {
                        fputs("    | ", stdout);
                        put_plain(stdout, line ? line : "");
                        putchar('\n');
                }
                mem_free(line);
                from += n + 1;
        }
}

/* The last lines that a step wrote to stderr; nothing if they cannot be had. */
static void draw_tail(struct cli *c, const char *run, const cJSON *step)
{
        struct tail got = {0};
        int64_t bytes = jnum(step, "output_bytes");
        char *path = client_path("/runs/%s/steps/%s/logs", run, jstr(step, "id"));
        char *full = path ? str_printf("%s?channel=stderr&offset=%lld", path,
                                       (long long)(bytes > (1 << 20) ? bytes - (1 << 20) : 0))
                          : NULL;
        struct request_spec s = {.method = "GET",
                                 .path = full,
                                 .endless = true,
                                 .on_data = on_data,
                                 .on_end = on_end,
                                 .ctx = &got};
        struct request *r = NULL;
        int rc = full ? client_start(c->client, &s, &r, NULL) : -E_NOMEM;

        buf_init(&got.b, 0);
        while (!rc && !got.done)
                rc = client_turn(c->client, 1000, -1, NULL, NULL);
        if (rc && r)
                client_stop(c->client, r);
        if (got.good)
                print_tail(&got.b);
        buf_fini(&got.b);
        mem_free(path);
        mem_free(full);
}

static void draw_failed(struct cli *c, const char *run, const cJSON *s)
{
        printf("\n  %s%s%s", paint(PAINT_RED), jstr(s, "state"), unpaint());
        fputs(" ", stdout);
        put_plain(stdout, jstr(s, "id"));
        if (*jstr(s, "agent"))
                printf(" on %s", jstr(s, "agent"));
        if (*jstr(jget(s, "error"), "message")) {
                fputs(": ", stdout);
                put_plain(stdout, jstr(jget(s, "error"), "message"));
        }
        putchar('\n');
        if (jnum(s, "attempt"))
                draw_tail(c, run, s);
}

static void draw_outputs(const cJSON *run)
{
        const cJSON *o = jget(run, "outputs");

        if (!o || !o->child)
                return;
        printf("outputs:\n");
        for (const cJSON *m = o->child; m; m = m->next) {
                char *text = cJSON_IsString(m) ? mem_strdup(m->valuestring) : json_text(m);

                fputs("  ", stdout);
                put_plain(stdout, m->string);
                fputs(": ", stdout);
                put_plain(stdout, text);
                putchar('\n');
                mem_free(text);
        }
}

void watch_draw_end(struct cli *c, const cJSON *run)
{
        const cJSON *steps = jget(run, "steps");
        const char *id = jstr(run, "id"), *first = NULL;
        size_t n = 0, done = 0, failed = 0;

        for (const cJSON *s = steps ? steps->child : NULL; s; s = s->next) {
                n++;
                done += strcmp(jstr(s, "state"), "succeeded") == 0;
        }
        putchar('\n');
        head(run);
        printf("  %zu of %zu step%s succeeded\n", done, n, n == 1 ? "" : "s");
        draw_outputs(run);
        for (const cJSON *s = steps ? steps->child : NULL; s; s = s->next) {
                if (strcmp(jstr(s, "state"), "failed") != 0 && strcmp(jstr(s, "state"), "unknown") != 0)
                        continue;
                first = first ? first : jstr(s, "id");
                if (++failed <= FAILED_SHOWN)
                        draw_failed(c, id, s);
        }
        if (failed > FAILED_SHOWN)
                printf("\n  and %zu more: photon run show %s\n", failed - FAILED_SHOWN, id);
        if (first)
                printf("\nAll it wrote: photon logs %s %s\n", id, first);
        if (first && strcmp(jstr(run, "state"), "succeeded") != 0)
                printf("Again from there: photon run retry %s\n", id);
        else if (strcmp(jstr(run, "state"), "succeeded") != 0)
                printf("\nLook further: photon run show %s; photon run explain %s\n", id, id);
        print_flush();
}
