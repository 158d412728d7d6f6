#include "cli/step_events.h"

#include "cli/client.h"
#include "cli/event_view.h"
#include "cli/logline.h"
#include "common/mem.h"
#include "common/str.h"

static int on_item(void *ctx, const char *event, const char *id, const char *data, size_t n)
{
        struct step_events *s = ctx;
        struct log_line l;
        int rc = log_line_parse(data, n, &l);

        (void)event;
        (void)id;
        if (rc)
                return rc;
        if (l.attempt > s->attempt) {
                s->attempt = l.attempt;
                s->end = 0;
        }
        if (l.attempt == s->attempt && l.offset >= s->end) {
                if (l.event)
                        event_view_show(s->view, s->step, l.attempt, l.event);
                s->end = l.offset + (int64_t)l.len;
        }
        log_line_fini(&l);
        return 0;
}

/* After a break the stream begins where it was. */
static void on_again(void *ctx, struct follow *f)
{
        struct step_events *s = ctx;
        char *base = client_path("/runs/%s/steps/%s/logs?format=json&follow=true&channel=event", s->run,
                                 s->step),
             *path = base;

        if (base && s->end && s->end < INT64_MAX)
                path = str_printf("%s&attempt=%lld&offset=%lld", base, (long long)s->attempt,
                                  (long long)s->end);
        if (path) {
                mem_free(f->path);
                f->path = path;
        }
        if (path != base)
                mem_free(base);
}

int step_events_init(struct step_events *s, struct client *c, const char *run, const char *step,
                     int64_t after, struct event_view *view)
{
        *s = (struct step_events){.run = mem_strdup(run),
                                  .step = mem_strdup(step),
                                  .view = view,
                                  .attempt = after,
                                  .end = after ? INT64_MAX : 0};
        s->f = (struct follow){.c = c, .quiet = true, .on_item = on_item, .on_again = on_again, .ctx = s};
        follow_init(&s->f);
        if (!s->run || !s->step)
                return -E_NOMEM;
        s->f.path = client_path("/runs/%s/steps/%s/logs?format=json&follow=true&channel=event", run, step);
        return s->f.path ? 0 : -E_NOMEM;
}

void step_events_fini(struct step_events *s)
{
        follow_fini(&s->f);
        mem_free(s->run);
        mem_free(s->step);
        *s = (struct step_events){0};
}
