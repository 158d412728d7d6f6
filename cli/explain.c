#include "cli/explain.h"

#include <string.h>

#include "cli/print.h"
#include "common/json.h"
#include "common/mem.h"

#define AGENTS_MAX 20

void explain_why(FILE *f, const cJSON *step, int max)
{
        const cJSON *list = jget(step, "candidates");
        int n = 0;

        if (!list || !list->child) {
                fputs("  ", f);
                put_plain(f, *jstr(step, "reason") ? jstr(step, "reason") : "no agent is online");
                fputc('\n', f);
                return;
        }
        for (const cJSON *a = list->child; a; a = a->next, n++) {
                if (n == max) {
                        fprintf(f, "  and %d more\n", cJSON_GetArraySize(list) - n);
                        break;
                }
                fprintf(f, "  %s ", jbool(a, "fits") ? "fits:" : "not");
                put_plain(f, jstr(a, "agent"));
                if (*jstr(a, "endpoint")) {
                        fputs(" ", f);
                        put_plain(f, jstr(a, "endpoint"));
                        fputs("/", f);
                        put_plain(f, jstr(a, "model"));
                }
                fputs(*jstr(a, "why") ? ": " : "", f);
                put_plain(f, jstr(a, "why"));
                fputc('\n', f);
        }
}

/* Whatever else the hub says: names and values on one line. */
static void draw_facts(const cJSON *o)
{
        for (const cJSON *m = o ? o->child : NULL; m; m = m->next) {
                char *text = cJSON_IsString(m) ? mem_strdup(m->valuestring) : json_text(m);

                printf("  %s=", m->string ? m->string : "");
                put_plain(stdout, text);
                mem_free(text);
        }
        putchar('\n');
}

/* A step that asked for a model: which one it got, what failed before, and what else there was. */
static void draw_route(const cJSON *r)
{
        const cJSON *tried = jget(r, "tried");

        fputs("  asked ", stdout);
        put_plain(stdout, jstr(r, "endpoint"));
        putchar('/');
        put_plain(stdout, jstr(r, "model"));
        for (const cJSON *t = tried ? tried->child : NULL; t; t = t->next) {
                fputs(t == tried->child ? ", after " : ", ", stdout);
                put_plain(stdout, jstr(t, "name"));
                putchar(' ');
                put_plain(stdout, jstr(t, "endpoint"));
                putchar('/');
                put_plain(stdout, jstr(t, "model"));
                fputs(" failed (", stdout);
                put_plain(stdout, jstr(t, "error"));
                putchar(')');
        }
        putchar('\n');
        explain_why(stdout, r, AGENTS_MAX);
}

static void draw_step(const cJSON *s)
{
        static const char *const shown[] = {"step", "state", "agent", "reason", "candidates", "placement"};
        cJSON *rest = cJSON_Duplicate(s, true);

        printf("%s", paint(PAINT_BOLD));
        put_plain(stdout, jstr(s, "step"));
        printf("%s: %s%s%s", unpaint(), paint(paint_state(jstr(s, "state"))), jstr(s, "state"), unpaint());
        if (*jstr(s, "agent"))
                printf(" on %s", jstr(s, "agent"));
        if (*jstr(s, "reason")) {
                fputs(": ", stdout);
                put_plain(stdout, jstr(s, "reason"));
        }
        putchar('\n');
        if (jget(s, "candidates"))
                explain_why(stdout, s, AGENTS_MAX);
        if (cJSON_IsObject(jget(s, "placement"))) {
                cJSON *place = cJSON_Duplicate(jget(s, "placement"), true);

                if (jget(place, "route"))
                        draw_route(jget(place, "route"));
                cJSON_DeleteItemFromObjectCaseSensitive(place, "route");
                draw_facts(place);
                cJSON_Delete(place);
        }
        for (size_t i = 0; rest && i < sizeof shown / sizeof *shown; i++)
                cJSON_DeleteItemFromObjectCaseSensitive(rest, shown[i]);
        if (rest && rest->child)
                draw_facts(rest);
        cJSON_Delete(rest);
}

void explain_draw(const cJSON *doc)
{
        const cJSON *steps = jget(doc, "steps");

        printf("run %s: %s%s%s\n", jstr(doc, "run"), paint(paint_state(jstr(doc, "state"))),
               jstr(doc, "state"), unpaint());
        for (const cJSON *s = steps ? steps->child : NULL; s; s = s->next)
                draw_step(s);
}
