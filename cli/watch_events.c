#include "cli/watch_events.h"

#include <string.h>

#include "cli/print.h"
#include "cli/step_events.h"
#include "common/mem.h"

struct watch_events {
        struct client *c;
        const char *run;
        struct event_view *view;
        void (*on_over)(void *ctx, const char *step);
        void *ctx;
        struct step_events *speaker[WATCH_SPEAKERS];
        bool told;
};

struct watch_events *watch_events_create(struct client *c, const char *run, struct event_view *view,
                                         void (*on_over)(void *ctx, const char *step), void *ctx)
{
        struct watch_events *w = mem_calloc(1, sizeof *w);

        if (w)
                *w = (struct watch_events){.c = c, .run = run, .view = view, .on_over = on_over, .ctx = ctx};
        return w;
}

static void drop(struct watch_events *w, int i)
{
        step_events_fini(w->speaker[i]);
        mem_free(w->speaker[i]);
        w->speaker[i] = NULL;
}

void watch_events_free(struct watch_events *w)
{
        for (int i = 0; w && i < WATCH_SPEAKERS; i++)
                if (w->speaker[i])
                        drop(w, i);
        mem_free(w);
}

bool watch_events_open(const struct watch_events *w, const char *step)
{
        for (int i = 0; i < WATCH_SPEAKERS; i++)
                if (w->speaker[i] && strcmp(w->speaker[i]->step, step) == 0)
                        return true;
        return false;
}

bool watch_events_any(const struct watch_events *w)
{
        for (int i = 0; i < WATCH_SPEAKERS; i++)
                if (w->speaker[i])
                        return true;
        return false;
}

void watch_events_started(struct watch_events *w, const char *step, const char *tool, int64_t attempt)
{
        struct step_events *s;
        int i = 0;

        if (!event_view_speaks(tool) || watch_events_open(w, step))
                return; /* an open stream comes to the next try by itself */
        while (i < WATCH_SPEAKERS && w->speaker[i])
                i++;
        if (i == WATCH_SPEAKERS) {
                if (!w->told)
                        note("more than %d steps speak at once; of the others: photon logs %s STEP -f "
                             "-o json",
                             WATCH_SPEAKERS, w->run);
                w->told = true;
                return;
        }
        s = mem_calloc(1, sizeof *s);
        if (!s)
                return;
        w->speaker[i] = s;
        if (step_events_init(s, w->c, w->run, step, attempt > 0 ? attempt - 1 : 0, w->view))
                drop(w, i);
}

int watch_events_turn(struct watch_events *w, int most)
{
        for (int i = 0; i < WATCH_SPEAKERS; i++) {
                struct step_events *s = w->speaker[i];
                char *step;

                if (!s)
                        continue;
                most = follow_step(&s->f, most);
                if (!s->f.over)
                        continue;
                step = s->step;
                s->step = NULL;
                event_view_end(w->view, step ? step : "");
                drop(w, i);
                if (step)
                        w->on_over(w->ctx, step);
                mem_free(step);
        }
        return most;
}
