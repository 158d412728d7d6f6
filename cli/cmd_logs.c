/* logs and events: what is written down, and what is being written. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/client.h"
#include "cli/follow.h"
#include "cli/interrupt.h"
#include "cli/logline.h"
#include "cli/print.h"
#include "common/buf.h"
#include "common/json.h"
#include "common/map.h"
#include "common/mem.h"
#include "common/str.h"

/* ---- logs ---- */

/* A path with what the flags ask for; mem_free. */
static char *logs_path(struct cli *c, bool json)
{
        char *base = c->n_args > 1 ? client_path("/runs/%s/steps/%s/logs", c->args[0], c->args[1])
                                   : client_path("/runs/%s/logs", c->args[0]);
        const char *want = c->o.channel ? c->o.channel : c->format == OUT_JSON ? "all" : NULL;
        char *channel = want ? client_escape(want) : NULL, attempt[40] = "", *out;

        if (c->o.attempt)
                snprintf(attempt, sizeof attempt, "&attempt=%lld", (long long)c->o.attempt);
        out = base && (channel || !want)
                      ? str_printf("%s?format=%s%s%s%s%s", base, json ? "json" : "raw",
                                   c->o.follow ? "&follow=true" : "", channel ? "&channel=" : "",
                                   channel ? channel : "", attempt)
                      : NULL;
        mem_free(base);
        mem_free(channel);
        return out;
}

struct raw {
        bool over;
        int rc;
        struct err err;
};

static int on_raw(void *ctx, const void *p, size_t n)
{
        (void)ctx;
        write_out(STDOUT_FILENO, p, n);
        return 0;
}

static void on_raw_end(void *ctx, const struct answer *a)
{
        struct raw *r = ctx;

        r->over = true;
        r->rc = a->rc;
        r->err = *a->err;
}

/* As it is: bytes in, bytes out. */
static int copy_logs(struct cli *c, const char *path, struct err *e)
{
        struct raw raw = {0};
        struct request_spec s = {.method = "GET",
                                 .path = path,
                                 .endless = true,
                                 .on_data = on_raw,
                                 .on_end = on_raw_end,
                                 .ctx = &raw};
        struct request *r = NULL;
        int rc = client_start(c->client, &s, &r, e);

        while (!rc && !raw.over)
                rc = client_turn(c->client, 1000, -1, NULL, e);
        if (!rc && raw.rc) {
                rc = raw.rc;
                *e = raw.err;
        }
        return rc;
}

/* What was written of each step, so that a stream that starts over is not written twice. */
struct copied {
        struct map *ends;
        bool json;
};

struct copied_end {
        int64_t attempt;
        int64_t end;
};

static int on_log_line(void *ctx, const char *event, const char *id, const char *data, size_t n)
{
        struct copied *k = ctx;
        struct copied_end *at;
        struct log_line l;
        int rc;

        (void)event;
        (void)id;
        rc = log_line_parse(data, n, &l);
        if (rc)
                return rc;
        at = map_get(k->ends, l.step);
        if (!at) {
                at = mem_calloc(1, sizeof *at);
                if (!at || map_put(k->ends, l.step, at, NULL)) {
                        mem_free(at);
                        log_line_fini(&l);
                        return -E_NOMEM;
                }
        }
        if (l.attempt > at->attempt)
                *at = (struct copied_end){.attempt = l.attempt};
        if (l.attempt == at->attempt && l.offset >= at->end) {
                if (k->json)
                        printf("%s\n", data);
                else if (!l.is_event)
                        write_out(STDOUT_FILENO, l.data, l.len);
                at->end = l.offset + (int64_t)l.len;
        }
        if (k->json)
                print_flush();
        log_line_fini(&l);
        return 0;
}

static int follow_logs(struct cli *c, char *path, struct err *e)
{
        struct copied k = {.ends = map_create(), .json = c->format == OUT_JSON};
        struct follow f = {.c = c->client, .path = path, .on_item = on_log_line, .ctx = &k};
        size_t it = 0;
        void *v;
        int rc;

        interrupt_catch();
        follow_init(&f);
        rc = k.ends ? follow_all(&f, e) : err_set(e, E_NOMEM, "no memory");
        follow_fini(&f);
        while (k.ends && map_next(k.ends, &it, NULL, &v))
                mem_free(v);
        map_free(k.ends);
        return rc == -E_CANCELLED && interrupt_count() ? STATUS_SIGNAL + interrupt_signal() : rc;
}

static bool known_channel(const char *name)
{
        static const char *const names[] = {"stdout", "stderr", "output", "event", "all"};

        for (size_t i = 0; name && i < sizeof names / sizeof *names; i++)
                if (strcmp(name, names[i]) == 0)
                        return true;
        return !name;
}

int cmd_logs(struct cli *c, struct err *e)
{
        bool json = c->o.follow || c->format == OUT_JSON;
        char *path;
        int rc;

        if (c->o.attempt && c->n_args < 2)
                return cli_usage(c, "photon logs: --attempt needs STEP: which step's?");
        if (!known_channel(c->o.channel))
                return cli_usage(
                        c, "photon logs: --channel %.40s: expected stdout, stderr, output, event or all",
                        c->o.channel);
        if (c->o.channel && c->format != OUT_JSON &&
            (strcmp(c->o.channel, "event") == 0 || strcmp(c->o.channel, "all") == 0))
                return cli_usage(c,
                                 "photon logs: --channel %s needs -o json: events are no bytes of the tool's",
                                 c->o.channel);
        path = logs_path(c, json);
        if (!path)
                return err_set(e, E_NOMEM, "no memory");
        if (c->o.follow)
                return follow_logs(c, path, e); /* takes the path */
        rc = copy_logs(c, path, e);
        mem_free(path);
        return rc;
}

/* ---- events ---- */

struct shown {
        struct cli *c;
        int64_t n, limit; /* without -f: the last so many */
        char **line;      /* ring of them */
        bool live;
};

static void show_event(struct shown *s, const char *text, size_t n)
{
        cJSON *ev = NULL;

        if (s->c->format == OUT_JSON) {
                printf("%s\n", text);
                return;
        }
        if (json_parse(text, n, &ev, NULL))
                return;
        printf("%.19s  %s%-16s%s", jstr(ev, "time"),
               paint(paint_state(strchr(jstr(ev, "type"), '.') ? strchr(jstr(ev, "type"), '.') + 1 : "")),
               jstr(ev, "type"), unpaint());
        if (*jstr(ev, "run"))
                printf("  %s", jstr(ev, "run"));
        for (const cJSON *m = ev->child; m; m = m->next) {
                char *v;

                if (strcmp(m->string, "id") == 0 || strcmp(m->string, "time") == 0 ||
                    strcmp(m->string, "type") == 0 || strcmp(m->string, "run") == 0 ||
                    (cJSON_IsString(m) && !*m->valuestring))
                        continue;
                v = cJSON_IsString(m) ? mem_strdup(m->valuestring) : json_text(m);
                printf("  %s=", m->string);
                put_plain(stdout, v);
                mem_free(v);
        }
        putchar('\n');
        cJSON_Delete(ev);
}

static int on_event(void *ctx, const char *event, const char *id, const char *data, size_t n)
{
        struct shown *s = ctx;
        char **slot;

        (void)id;
        if (strcmp(event, "gap") == 0) {
                note("older events are not kept any more");
                return 0;
        }
        if (s->live || !s->limit) {
                show_event(s, data, n);
                if (s->live)
                        print_flush();
                return 0;
        }
        slot = &s->line[s->n++ % s->limit];
        mem_free(*slot);
        *slot = mem_strndup(data, n);
        return *slot ? 0 : -E_NOMEM;
}

static bool never(void *ctx)
{
        (void)ctx;
        return false;
}

int cmd_events(struct cli *c, struct err *e)
{
        struct shown s = {.c = c, .limit = c->o.after >= 0 ? 0 : c->o.limit, .live = c->o.follow};
        struct follow f = {.c = c->client,
                           .events = true,
                           .on_item = on_event,
                           .is_all = c->o.follow ? never : NULL,
                           .ctx = &s};
        int rc = 0;

        interrupt_catch();
        if (c->o.after >= 0)
                f.path = str_printf("/api/v1/events?follow=%s&after=%lld", c->o.follow ? "true" : "false",
                                    (long long)c->o.after);
        else
                f.path = str_printf("/api/v1/events?follow=%s", c->o.follow ? "true" : "false");
        if (!s.live && s.limit) {
                s.limit = s.limit < 1000000 ? s.limit : 1000000;
                s.line = mem_calloc((size_t)s.limit, sizeof *s.line);
        }
        if (!f.path || (!s.live && s.limit && !s.line))
                rc = err_set(e, E_NOMEM, "no memory");
        follow_init(&f);
        if (!rc)
                rc = follow_all(&f, e);
        follow_fini(&f);
        for (int64_t i = s.n > s.limit ? s.n - s.limit : 0; s.line && i < s.n; i++) {
                char *text = s.line[i % s.limit];

                if (!rc)
                        show_event(&s, text, strlen(text));
                mem_free(text);
        }
        mem_free(s.line);
        return rc == -E_CANCELLED && interrupt_count() ? STATUS_SIGNAL + interrupt_signal() : rc;
}
