#include "cli/watch.h"

#include <langinfo.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/client.h"
#include "cli/event_view.h"
#include "cli/follow.h"
#include "cli/interrupt.h"
#include "cli/print.h"
#include "cli/watch_events.h"
#include "common/buf.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/map.h"
#include "common/mem.h"
#include "common/str.h"

#define DRAW_EVERY_MS 100
#define ROWS_MAX      24
#define LINE_MAX_COLS 400
#define LAST_WORDS_MS 2000 /* for what steps still have to say when the run is over */

struct seen_step {
        char *id;
        char state[16], agent[64];
        int64_t started_us, finished_us;
        uint64_t changed; /* order of the last change */
        bool fanout;      /* its instances carry the work */
        char *held;       /* a line that waits until its events were shown; or NULL */
};

struct watch {
        struct cli *c;
        const char *run;
        char workflow[128], state[16];
        struct seen_step *steps;
        size_t n, cap;
        struct map *by_id; /* id -> index + 1 */
        uint64_t changes;
        int64_t started_us, finished_us, drawn_ms;
        size_t drawn; /* lines on the screen */
        bool live, quiet, dirty, utf8;
        struct follow f;
        struct event_view *view;
        struct watch_events *speak;
};

/* ---- what the events say ---- */

static struct seen_step *step_of(struct watch *w, const char *id)
{
        uintptr_t at = (uintptr_t)map_get(w->by_id, id);
        struct seen_step *s;

        if (at)
                return &w->steps[at - 1];
        if (w->n == w->cap) {
                size_t cap = w->cap ? w->cap * 2 : 32;

                s = mem_realloc(w->steps, cap * sizeof *s);
                if (!s)
                        return NULL;
                w->steps = s;
                w->cap = cap;
        }
        s = &w->steps[w->n];
        *s = (struct seen_step){.id = mem_strdup(id)};
        strcpy(s->state, "blocked");
        if (!s->id || map_put(w->by_id, id, (void *)(w->n + 1), NULL)) {
                mem_free(s->id);
                return NULL;
        }
        w->n++;
        return s;
}

static bool over(const char *state)
{
        return strcmp(state, "succeeded") == 0 || strcmp(state, "failed") == 0 ||
               strcmp(state, "cancelled") == 0;
}

static bool step_over(const char *state)
{
        return over(state) || strcmp(state, "skipped") == 0;
}

/* What the view has to say is written, above the rows of a live view. */
static void give_out(struct watch *w)
{
        struct buf *out = event_view_out(w->view);

        if (!out->len)
                return;
        print_flush();
        if (w->live && w->drawn) {
                char up[32];

                snprintf(up, sizeof up, "\033[%zuA\r\033[J", w->drawn);
                write_out(STDOUT_FILENO, up, strlen(up));
                w->drawn = 0;
        }
        write_out(STDOUT_FILENO, out->data, out->len);
        buf_reset(out);
        w->dirty = true;
}

static void put_step_line(struct watch *w, const struct seen_step *s, const char *line)
{
        event_view_break(w->view);
        give_out(w);
        fputs(line, stdout);
        if (strcmp(s->state, "unknown") == 0)
                note("nobody knows whether %s ran; decide: photon run resolve %s %s retry|succeeded|failed",
                     s->id, w->run, s->id);
        print_flush();
}

static char *line_of(const struct seen_step *s, const cJSON *ev)
{
        const char *message = jstr(jget(ev, "error"), "message");
        bool why = strcmp(s->state, "succeeded") != 0 && *message;
        char *id = plain(s->id), *clean = plain(why ? message : ""), took[32] = "", *line = NULL;

        if (s->started_us && s->finished_us)
                ms_text((s->finished_us - s->started_us) / 1000, took);
        if (id && clean)
                line = str_printf("%s: %s%s%s%s%s%s%s%s%s\n", id, paint(paint_state(s->state)), s->state,
                                  unpaint(), *took ? " in " : "", took, s->agent[0] ? " on " : "", s->agent,
                                  why ? ": " : "", clean);
        mem_free(id);
        mem_free(clean);
        return line;
}

static void step_line(struct watch *w, struct seen_step *s, const cJSON *ev)
{
        char *line;

        if (w->quiet || w->live || strcmp(s->state, "ready") == 0 || strcmp(s->state, "dispatched") == 0)
                return;
        line = line_of(s, ev);
        if (!line)
                return;
        if (step_over(s->state) && watch_events_open(w->speak, s->id)) {
                mem_free(s->held); /* after what it still says */
                s->held = line;
                return;
        }
        put_step_line(w, s, line);
        mem_free(line);
}

static void on_said_all(void *ctx, const char *id)
{
        struct watch *w = ctx;
        struct seen_step *s = step_of(w, id);

        if (s && s->held)
                put_step_line(w, s, s->held);
        if (s) {
                mem_free(s->held);
                s->held = NULL;
        }
}

static int on_step_event(struct watch *w, const char *what, const cJSON *ev, int64_t at_us)
{
        struct seen_step *s = step_of(w, jstr(ev, "step"));

        if (!s)
                return -E_NOMEM;
        snprintf(s->state, sizeof s->state, "%s", strcmp(what, "started") == 0 ? "running" : what);
        if (*jstr(ev, "agent"))
                snprintf(s->agent, sizeof s->agent, "%s", jstr(ev, "agent"));
        if (strcmp(s->state, "running") == 0) {
                s->started_us = at_us;
                s->finished_us = 0;
        } else if (step_over(s->state)) {
                s->finished_us = at_us;
        }
        s->changed = ++w->changes;
        step_line(w, s, ev);
        if (strcmp(s->state, "running") == 0 && !w->quiet)
                watch_events_started(w->speak, s->id, jstr(ev, "tool"), jnum(ev, "attempt"));
        return 0;
}

static void on_run_event(struct watch *w, const char *what, const cJSON *ev, int64_t at_us)
{
        if (strcmp(what, "created") == 0) {
                snprintf(w->workflow, sizeof w->workflow, "%s", jstr(ev, "workflow"));
                w->started_us = at_us;
                strcpy(w->state, "queued");
        } else {
                snprintf(w->state, sizeof w->state, "%s", strcmp(what, "started") == 0 ? "running" : what);
                w->finished_us = over(w->state) ? at_us : 0;
        }
        if (!w->quiet && !w->live && !over(w->state)) {
                event_view_break(w->view);
                give_out(w);
                printf("run %s: %s%s%s\n", w->run, paint(paint_state(w->state)), w->state, unpaint());
                print_flush();
        }
}

/* A question to people is shown when it comes, with how to answer it; nobody is asked here. */
static void on_checkpoint_event(struct watch *w, const char *what, const cJSON *ev)
{
        char *title = plain(jstr(ev, "title")), *step = plain(jstr(ev, "step")), *by = plain(jstr(ev, "by"));
        const char *id = jstr(ev, "checkpoint");

        event_view_break(w->view);
        give_out(w);
        print_flush();
        if (w->quiet || !title || !step || !by)
                ;
        else if (strcmp(what, "answered") == 0)
                note("%s: %d of %d have approved: %s", step, (int)cJSON_GetNumberValue(jget(ev, "approved")),
                     (int)cJSON_GetNumberValue(jget(ev, "quorum")), title);
        else if (strcmp(what, "escalated") == 0 || strcmp(what, "delegated") == 0)
                note("%s: the question was %s: %s", step,
                     strcmp(what, "escalated") == 0 ? "put to others, too" : "handed on", title);
        else if (strcmp(what, "open") == 0)
                note("%s asks: %s\n  look: photon checkpoint show %s   answer: photon approve %s   or: "
                     "photon reject %s",
                     step, title, id, id, id);
        else
                note("%s: %s by %s: %s", step, jstr(ev, "state"), by, title);
        w->drawn = 0; /* the view goes on below */
        mem_free(title);
        mem_free(step);
        mem_free(by);
}

static int on_item(void *ctx, const char *event, const char *id, const char *data, size_t n)
{
        struct watch *w = ctx;
        cJSON *ev = NULL;
        int64_t at_us = 0;
        int rc;

        (void)id;
        rc = json_parse(data, n, &ev, NULL);
        if (rc == -E_NOMEM)
                return rc;
        if (rc)
                return 0; /* an event of a later hub's making */
        (void)clock_parse(jstr(ev, "time"), &at_us);
        if (strncmp(event, "step.", 5) == 0)
                rc = on_step_event(w, event + 5, ev, at_us);
        else if (strncmp(event, "run.", 4) == 0)
                on_run_event(w, event + 4, ev, at_us);
        else if (strncmp(event, "checkpoint.", 11) == 0)
                on_checkpoint_event(w, event + 11, ev);
        w->dirty = true;
        cJSON_Delete(ev);
        return rc;
}

static bool is_all(void *ctx)
{
        return over(((struct watch *)ctx)->state);
}

/* ---- the live view ---- */

static const char *mark(const struct watch *w, const char *state)
{
        if (strcmp(state, "succeeded") == 0)
                return w->utf8 ? "✔" : "+";
        if (strcmp(state, "failed") == 0 || strcmp(state, "unknown") == 0)
                return w->utf8 ? "✘" : "x";
        if (strcmp(state, "running") == 0 || strcmp(state, "dispatched") == 0)
                return w->utf8 ? "●" : "*";
        if (strcmp(state, "cancelled") == 0 || strcmp(state, "skipped") == 0)
                return "-";
        return w->utf8 ? "○" : ".";
}

static void screen(unsigned *rows, unsigned *cols)
{
        struct winsize ws = {0};

        *rows = *cols = 0;
        if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &ws) == 0) {
                *rows = ws.ws_row;
                *cols = ws.ws_col;
        }
        if (*rows < 6)
                *rows = 24;
        if (*cols < 20)
                *cols = 80;
}

/* What is most worth a line: trouble, then work, then what ended last, then what waits. */
static int weight(const struct seen_step *s)
{
        if (strcmp(s->state, "failed") == 0 || strcmp(s->state, "unknown") == 0)
                return 0;
        if (strcmp(s->state, "running") == 0)
                return 1;
        if (strcmp(s->state, "dispatched") == 0 || strcmp(s->state, "waiting") == 0)
                return 2;
        return step_over(s->state) ? 3 : 4;
}

static int by_weight(const void *a, const void *b)
{
        const struct seen_step *x = *(const struct seen_step *const *)a,
                               *y = *(const struct seen_step *const *)b;

        if (weight(x) != weight(y))
                return weight(x) - weight(y);
        return x->changed > y->changed ? -1 : x->changed < y->changed;
}

static int by_place(const void *a, const void *b)
{
        const struct seen_step *x = *(const struct seen_step *const *)a,
                               *y = *(const struct seen_step *const *)b;

        return x < y ? -1 : x > y;
}

/* Cuts at the screen's width, in code points. */
static void put_line(struct watch *w, struct buf *b, const char *text, unsigned cols, enum paint tint)
{
        size_t used = 0;

        buf_puts(b, paint(tint));
        for (const char *p = text; *p;) {
                size_t n = str_utf8_len(p, strlen(p));

                if (!n)
                        n = 1;
                if (++used >= cols)
                        break;
                buf_put(b, p, n);
                p += n;
        }
        buf_puts(b, unpaint());
        buf_puts(b, "\033[K\n");
        w->drawn++;
}

static void put_counts(const struct watch *w, char *out, size_t cap)
{
        static const char *const names[] = {"succeeded", "running",   "dispatched", "waiting", "failed",
                                            "unknown",   "cancelled", "skipped",    "ready",   "blocked"};
        size_t n = 0;

        out[0] = '\0';
        for (size_t i = 0; i < sizeof names / sizeof *names && n + 1 < cap; i++) {
                size_t k = 0;

                for (size_t s = 0; s < w->n; s++)
                        k += strcmp(w->steps[s].state, names[i]) == 0;
                if (k)
                        n += (size_t)snprintf(out + n, cap - n, "%s%zu %s", n ? ", " : "", k, names[i]);
        }
}

static void put_step(struct watch *w, struct buf *b, const struct seen_step *s, int id_width, unsigned cols,
                     int64_t now_us)
{
        char line[LINE_MAX_COLS], took[32] = "";
        char *id = plain(s->id);
        const char *shown = id ? id : "";

        /* What tells long names apart is most often at their end. */
        for (size_t skip = text_width(shown) > (size_t)id_width ? text_width(shown) - (size_t)id_width : 0;
             skip; skip--)
                for (shown++; ((unsigned char)*shown & 0xC0) == 0x80;)
                        shown++;
        if (s->started_us && (s->finished_us || strcmp(s->state, "running") == 0))
                ms_text(((s->finished_us ? s->finished_us : now_us) - s->started_us) / 1000, took);
        snprintf(line, sizeof line, "  %s %s%*s  %-10s  %7s  %s", mark(w, s->state), shown,
                 id_width - (int)text_width(shown), "", s->state, took, s->agent);
        put_line(w, b, line, cols, paint_state(s->state));
        mem_free(id);
}

static void draw(struct watch *w)
{
        const struct seen_step **pick = mem_calloc(w->n ? w->n : 1, sizeof *pick);
        char line[LINE_MAX_COLS], counts[200], took[32];
        int64_t now_us = clock_now_us(&clock_system);
        unsigned rows, cols;
        size_t max, shown;
        int id_width = 4;
        struct buf b;

        if (!pick)
                return;
        buf_init(&b, 0);
        screen(&rows, &cols);
        max = rows - 5 < ROWS_MAX ? rows - 5 : ROWS_MAX;
        shown = w->n < max ? w->n : max;
        for (size_t i = 0; i < w->n; i++)
                pick[i] = &w->steps[i];
        if (shown < w->n) {
                qsort(pick, w->n, sizeof *pick, by_weight);
                qsort(pick, shown, sizeof *pick, by_place);
        }
        for (size_t i = 0; i < shown; i++)
                if ((int)text_width(pick[i]->id) > id_width)
                        id_width = (int)text_width(pick[i]->id);
        if (id_width > (int)cols / 2)
                id_width = (int)cols / 2;
        if (w->drawn)
                buf_printf(&b, "\033[%zuA\r", w->drawn);
        w->drawn = 0;
        ms_text(w->started_us ? ((w->finished_us ? w->finished_us : now_us) - w->started_us) / 1000 : 0,
                took);
        snprintf(line, sizeof line, "%.100s  %s  %s  %s%s", w->workflow, w->run, w->state, took,
                 w->f.since_ms ? "  (the hub does not answer; trying again)" : "");
        if (*event_view_partial(w->view))
                put_line(w, &b, event_view_partial(w->view), cols, PAINT_NONE);
        put_line(w, &b, line, cols, PAINT_BOLD);
        for (size_t i = 0; i < shown; i++)
                put_step(w, &b, pick[i], id_width, cols, now_us);
        put_counts(w, counts, sizeof counts);
        snprintf(line, sizeof line, "  %zu step%s: %s", w->n, w->n == 1 ? "" : "s", counts);
        put_line(w, &b, line, cols, PAINT_DIM);
        buf_puts(&b, "\033[J");
        print_flush();
        write_out(STDOUT_FILENO, b.data, b.len);
        buf_fini(&b);
        mem_free(pick);
        w->dirty = false;
        w->drawn_ms = clock_mono_ms(&clock_system);
}

/* ---- all of it ---- */

/* The view's rows in the workflow's order, with those that wait. */
static int learn_steps(struct watch *w, struct err *e)
{
        char *path = client_path("/runs/%s", w->run);
        cJSON *run = NULL;
        const cJSON *steps;
        int rc = path ? client_json(w->c->client, "GET", path, NULL, &run, e)
                      : err_set(e, E_NOMEM, "no memory");

        mem_free(path);
        if (rc)
                return rc;
        snprintf(w->workflow, sizeof w->workflow, "%s", jstr(run, "workflow"));
        snprintf(w->state, sizeof w->state, "queued");
        steps = jget(run, "steps");
        for (const cJSON *s = steps ? steps->child : NULL; s && !rc; s = s->next)
                if (!step_of(w, jstr(s, "id")))
                        rc = err_set(e, E_NOMEM, "no memory");
        cJSON_Delete(run);
        return rc;
}

static int follow_turn(struct watch *w, struct err *e)
{
        int wait = follow_step(&w->f, w->live ? DRAW_EVERY_MS : 1000), rc;

        wait = watch_events_turn(w->speak, wait);
        rc = client_turn(w->c->client, w->f.over ? 20 : wait, -1, NULL, e);
        give_out(w);
        if (w->live && (w->dirty || clock_mono_ms(&clock_system) - w->drawn_ms >= DRAW_EVERY_MS))
                draw(w);
        return rc;
}

static int follow_run(struct watch *w, struct err *e)
{
        int asked = interrupt_count(), rc = 0;
        int64_t end_ms;

        while (!rc && !w->f.over) {
                rc = follow_turn(w, e);
                if (!rc && !w->f.over && interrupt_count() != asked)
                        rc = -E_CANCELLED;
        }
        end_ms = clock_mono_ms(&clock_system) + LAST_WORDS_MS;
        while (!rc && watch_events_any(w->speak) && clock_mono_ms(&clock_system) < end_ms &&
               interrupt_count() == asked)
                rc = follow_turn(w, e);
        event_view_break(w->view);
        give_out(w);
        if (w->live)
                draw(w);
        if (!rc && w->f.rc) {
                rc = w->f.rc;
                *e = w->f.err;
        }
        return rc;
}

static int make_view(struct watch *w, struct err *e)
{
        struct event_view_options o = {
                .color = print_colors(STDOUT_FILENO), .steps = true, .lines = w->live, .no_questions = true};
        unsigned rows;

        if (print_is_terminal())
                screen(&rows, &o.cols);
        w->view = event_view_create(&o);
        w->speak = w->view ? watch_events_create(w->c->client, w->run, w->view, on_said_all, w) : NULL;
        return w->speak ? 0 : err_set(e, E_NOMEM, "no memory");
}

static int finish(struct cli *c, const char *id, struct err *e)
{
        cJSON *run = NULL;
        int rc = follow_get(c->client, client_path("/runs/%s", id), &run, e);

        if (rc)
                return rc;
        if (!print_doc(c, run))
                watch_draw_end(c, run);
        rc = watch_status(jstr(run, "state"));
        cJSON_Delete(run);
        return rc;
}

int watch_run(struct cli *c, const char *run, bool quiet, struct err *e)
{
        struct watch w = {.c = c, .run = run, .quiet = quiet, .live = !quiet && print_is_terminal()};
        int rc;

        interrupt_catch();
        setlocale(LC_CTYPE, "");
        w.utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
        w.by_id = map_create();
        w.f = (struct follow){.c = c->client,
                              .path = client_path("/runs/%s/events", run),
                              .events = true,
                              .quiet = w.live,
                              .on_item = on_item,
                              .is_all = is_all,
                              .ctx = &w};
        follow_init(&w.f);
        rc = w.by_id && w.f.path ? make_view(&w, e) : err_set(e, E_NOMEM, "no memory");
        if (!rc && w.live)
                rc = learn_steps(&w, e);
        if (!rc)
                rc = follow_run(&w, e);
        follow_fini(&w.f);
        watch_events_free(w.speak);
        event_view_free(w.view);
        for (size_t i = 0; i < w.n; i++) {
                mem_free(w.steps[i].id);
                mem_free(w.steps[i].held);
        }
        mem_free(w.steps);
        map_free(w.by_id);
        if (rc == -E_CANCELLED) {
                note("the run goes on. Follow it again: photon run watch %s; stop it: photon run cancel %s",
                     run, run);
                return STATUS_SIGNAL + interrupt_signal();
        }
        if (rc == -E_UNAVAIL)
                note("the run goes on at the hub, or will when it is back: photon run watch %s", run);
        return rc ? rc : finish(c, run, e);
}
