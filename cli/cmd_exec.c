/* exec: one command somewhere else as if it were here. call: one tool, its outputs. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/client.h"
#include "cli/event_view.h"
#include "cli/explain.h"
#include "cli/feed.h"
#include "cli/follow.h"
#include "cli/input.h"
#include "cli/interrupt.h"
#include "cli/logline.h"
#include "cli/print.h"
#include "cli/step_events.h"
#include "cli/watch.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"

#define CALL_STEP         "call"
#define LOOK_EVERY_MS     2000
#define TAKE_PLACE_MS     100
#define ASK_EVERY_MS      200
#define WHY_AGENTS        5
#define STATUS_NO_COMMAND 127 /* as shells have it */
#define STATUS_NO_EXEC    126

/* ---- the request ---- */

static int no_memory(struct err *e)
{
        return err_set(e, E_NOMEM, "no memory");
}

/* tool, agent, labels, timeout, effect. Usage mistakes are said here: STATUS_USAGE. */
static int call_body(struct cli *c, const char *tool, cJSON **out, struct err *e)
{
        cJSON *b = cJSON_CreateObject(), *labels = NULL;
        char text[32];
        int rc = b && cJSON_AddStringToObject(b, "tool", tool) ? 0 : no_memory(e);

        if (!rc && c->o.agent && c->o.labels.n)
                rc = cli_usage(c, "give --agent or --label, not both");
        if (!rc && c->o.agent && !cJSON_AddStringToObject(b, "agent", c->o.agent))
                rc = no_memory(e);
        if (!rc && c->o.labels.n) {
                rc = input_pairs(&c->o.labels, "--label", &labels, e);
                if (rc == -E_INVAL)
                        rc = cli_usage(c, "%s", e->msg);
                if (!rc)
                        cJSON_AddItemToObject(b, "labels", labels);
        }
        if (!rc && c->o.timeout_ms) {
                str_format_duration(c->o.timeout_ms, text);
                rc = cJSON_AddStringToObject(b, "timeout", text) ? 0 : no_memory(e);
        }
        if (!rc && c->o.effect && !cJSON_AddStringToObject(b, "effect", c->o.effect))
                rc = no_memory(e);
        if (rc) {
                cJSON_Delete(b);
                return rc;
        }
        *out = b;
        return 0;
}

/* NAME or NAME=VARIABLE; the hub says what is wrong with them. */
static int exec_secrets(struct cli *c, cJSON *body, struct err *e)
{
        cJSON *list = c->o.secrets.n ? cJSON_AddArrayToObject(body, "secrets") : NULL;

        for (size_t i = 0; i < c->o.secrets.n; i++) {
                const char *word = c->o.secrets.v[i], *eq = strchr(word, '=');
                char *name = mem_strndup(word, eq ? (size_t)(eq - word) : strlen(word));
                cJSON *s = cJSON_CreateObject();
                bool ok = list && name && s && cJSON_AddStringToObject(s, "name", name) &&
                          (!eq || cJSON_AddStringToObject(s, "as", eq + 1)) && cJSON_AddItemToArray(list, s);

                mem_free(name);
                if (!ok) {
                        cJSON_Delete(s);
                        return no_memory(e);
                }
        }
        return 0;
}

static int exec_input(struct cli *c, cJSON *body, struct err *e)
{
        cJSON *input = cJSON_AddObjectToObject(body, "input"), *argv = cJSON_AddArrayToObject(input, "argv"),
              *env = NULL;
        int rc = argv ? 0 : no_memory(e);

        for (size_t i = 0; i < c->n_tail && !rc; i++) {
                cJSON *w = cJSON_CreateString(c->tail[i]);

                if (!str_is_utf8(c->tail[i], strlen(c->tail[i])))
                        rc = cli_usage(c, "argument %zu of the command is not UTF-8", i + 1);
                else if (!w)
                        rc = no_memory(e);
                else
                        cJSON_AddItemToArray(argv, w);
                if (rc)
                        cJSON_Delete(w);
        }
        if (!rc && c->o.env.n) {
                rc = input_pairs(&c->o.env, "--env", &env, e);
                if (rc == -E_INVAL)
                        rc = cli_usage(c, "%s", e->msg);
                if (!rc)
                        cJSON_AddItemToObject(input, "env", env);
        }
        if (!rc && c->o.cwd && !cJSON_AddStringToObject(input, "cwd", c->o.cwd))
                rc = no_memory(e);
        return rc ? rc : exec_secrets(c, body, e);
}

/* Is there anything to read? /dev/null and a closed descriptor are not. */
static bool has_stdin(const struct cli *c)
{
        struct stat sb;

        if (c->o.no_stdin || fstat(STDIN_FILENO, &sb))
                return false;
        return !(S_ISCHR(sb.st_mode) && major(sb.st_rdev) == 1 && minor(sb.st_rdev) == 3);
}

/* ---- while it runs ---- */

struct session {
        struct cli *c;
        const char *run;
        struct follow out;
        struct feed in;
        int64_t attempt, end; /* of the output that was written */
        bool told;            /* that it waits */
        bool cancelling;
        bool unread; /* nobody reads what it writes: `exec ... | head` */
        struct event_view *view;
        unsigned told_questions; /* how to answer them */
        int64_t ask_ms;          /* when to look for them again */
        cJSON *doc;              /* the last look at the run */
};

/* On standard error, so that what the tool gives stays alone on standard output. */
static int make_view(struct session *s, bool no_text, struct err *e)
{
        struct event_view_options o = {.color = print_colors(STDERR_FILENO),
                                       .no_text = no_text,
                                       .questions = s->c->format == OUT_JSON || s->c->format == OUT_YAML,
                                       .cols = print_columns(STDERR_FILENO)};

        s->view = event_view_create(&o);
        return s->view ? 0 : no_memory(e);
}

static void give_out(struct session *s)
{
        struct buf *out = event_view_out(s->view);

        if (out->len)
                write_out(STDERR_FILENO, out->data, out->len);
        buf_reset(out);
}

/* A question was shown: by which command is it answered? The hub knows, a moment later. */
static void tell_answers(struct session *s)
{
        int64_t now = clock_mono_ms(&clock_system);
        char *path;
        cJSON *all = NULL;
        struct err ignored; /* it is asked again */

        if (!s->view || event_view_questions(s->view) == s->told_questions || now < s->ask_ms)
                return;
        s->ask_ms = now + ASK_EVERY_MS;
        path = str_printf("/api/v1/checkpoints?state=open&run=%s", s->run);
        if (path && client_list(s->c->client, path, 100, &all, &ignored) == 0 && all->child) {
                s->told_questions = event_view_questions(s->view);
                for (const cJSON *q = all->child; q; q = q->next)
                        note("answer: photon approve %s   or: photon reject %s   look: photon checkpoint "
                             "show %s",
                             jstr(q, "id"), jstr(q, "id"), jstr(q, "id"));
        }
        cJSON_Delete(all);
        mem_free(path);
}

static int asking(const struct session *s, int wait)
{
        bool open = s->view && event_view_questions(s->view) != s->told_questions;

        return open && wait > ASK_EVERY_MS ? ASK_EVERY_MS : wait;
}

static int on_output(void *ctx, const char *event, const char *id, const char *data, size_t n)
{
        struct session *s = ctx;
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
                if (l.event) {
                        event_view_show(s->view, l.step, l.attempt, l.event);
                        give_out(s);
                }
                if (s->unread || (l.is_event && s->c->format != OUT_JSON))
                        ;
                else if (s->c->format == OUT_JSON)
                        s->unread = !write_wanted(STDOUT_FILENO, data, n) ||
                                    !write_wanted(STDOUT_FILENO, "\n", 1);
                else
                        s->unread = !write_wanted(l.err ? STDERR_FILENO : STDOUT_FILENO, l.data, l.len);
                s->end = l.offset + (int64_t)l.len;
        }
        log_line_fini(&l);
        return 0;
}

/* After a break the stream begins where it was. */
static void on_again(void *ctx, struct follow *f)
{
        struct session *s = ctx;
        char *base = client_path("/runs/%s/steps/" CALL_STEP "/logs?format=json&follow=true&channel=all",
                                 s->run),
             *path = base;

        if (base && s->attempt)
                path = str_printf("%s&attempt=%lld&offset=%lld", base, (long long)s->attempt,
                                  (long long)s->end);
        if (path) {
                mem_free(f->path);
                f->path = path;
        }
        if (path != base)
                mem_free(base);
}

static const cJSON *first_step(const cJSON *run)
{
        const cJSON *steps = jget(run, "steps");

        return steps ? steps->child : NULL;
}

static bool run_over(const cJSON *run)
{
        const char *s = jstr(run, "state");

        return strcmp(s, "succeeded") == 0 || strcmp(s, "failed") == 0 || strcmp(s, "cancelled") == 0;
}

/* patient: waits for a hub that is away. */
static int look(struct session *s, bool patient, struct err *e)
{
        char *path = client_path("/runs/%s", s->run);
        cJSON *doc = NULL;
        int rc;

        if (patient) {
                rc = follow_get(s->c->client, path, &doc, e); /* takes the path */
        } else {
                rc = path ? client_json(s->c->client, "GET", path, NULL, &doc, e) : no_memory(e);
                mem_free(path);
        }
        if (rc)
                return rc;
        cJSON_Delete(s->doc);
        s->doc = doc;
        return 0;
}

/* It waits for an agent: says why, once. */
static void tell_why(struct session *s)
{
        const char *state = jstr(first_step(s->doc), "state");
        const cJSON *steps;
        char *path;
        cJSON *doc = NULL;

        if (s->told || (strcmp(state, "ready") != 0 && strcmp(state, "blocked") != 0))
                return;
        s->told = true;
        path = client_path("/runs/%s/explain", s->run);
        if (path && client_json(s->c->client, "GET", path, NULL, &doc, NULL) == 0) {
                steps = jget(doc, "steps");
                note("%s waits: %s; Ctrl-C cancels it", s->run, jstr(steps ? steps->child : NULL, "reason"));
                if (!s->c->o.agent)
                        explain_why(stderr, steps ? steps->child : NULL, WHY_AGENTS);
        }
        cJSON_Delete(doc);
        mem_free(path);
}

static int cancel(struct session *s, struct err *e)
{
        char *path = client_path("/runs/%s/cancel", s->run);
        int rc;

        s->cancelling = true;
        if (!s->unread)
                note("cancelling; once more to leave without waiting");
        rc = path ? client_json(s->c->client, "POST", path, NULL, NULL, e) : no_memory(e);
        mem_free(path);
        return rc == -E_STATE ? 0 : rc; /* it was over already */
}

/* STATUS_* to leave with, 0: go on. */
static int on_interrupt(struct session *s, int asked, struct err *e)
{
        if (!s->cancelling)
                return cancel(s, e);
        if (asked < 2)
                return 0;
        note("left; the call %s is being cancelled", s->run);
        return STATUS_SIGNAL + interrupt_signal();
}

/* Copies in and out until all output was written. */
static int pump(struct session *s, struct err *e)
{
        int64_t look_ms = clock_mono_ms(&clock_system) + LOOK_EVERY_MS, now;
        int asked = interrupt_count(), rc = 0;
        bool readable;

        while (!rc && !s->out.over) {
                int wait = feed_step(&s->in, follow_step(&s->out, 1000));

                rc = client_turn(s->c->client, s->out.over ? 0 : asking(s, wait), feed_wants(&s->in),
                                 &readable, e);
                if (!rc)
                        tell_answers(s);
                if (!rc && readable)
                        feed_read(&s->in);
                if (!rc && interrupt_count() > asked)
                        rc = on_interrupt(s, interrupt_count() - asked, e);
                if (!rc && s->unread) { /* here it would have got SIGPIPE */
                        (void)cancel(s, NULL);
                        return STATUS_SIGNAL + SIGPIPE;
                }
                now = clock_mono_ms(&clock_system);
                if (rc || now < look_ms || s->out.over || s->out.since_ms)
                        continue;
                /* A lost agent ends no stream. */
                look_ms = now + LOOK_EVERY_MS;
                if (look(s, false, NULL) == 0) {
                        tell_why(s);
                        if (strcmp(jstr(first_step(s->doc), "state"), "unknown") == 0)
                                break;
                }
        }
        if (!rc && s->out.over && s->out.rc) {
                rc = s->out.rc;
                *e = s->out.err;
        }
        return rc;
}

/* The step is over; the run is a moment later. */
static int settle(struct session *s, struct err *e)
{
        int rc = look(s, true, e);

        while (!rc && !run_over(s->doc) && strcmp(jstr(first_step(s->doc), "state"), "unknown") != 0) {
                rc = client_turn(s->c->client, TAKE_PLACE_MS, -1, NULL, e);
                if (!rc)
                        rc = look(s, true, e);
        }
        return rc;
}

static int exec_status(const struct session *s)
{
        const cJSON *step = first_step(s->doc), *code = jget(step, "exit_code"), *error = jget(step, "error");
        const char *state = jstr(step, "state");

        if (strcmp(jstr(s->doc, "state"), "cancelled") == 0)
                return STATUS_CANCELLED;
        if (strcmp(state, "unknown") == 0) {
                note("the agent was lost; nobody knows whether the command ended. Decide: photon run resolve "
                     "%s " CALL_STEP " retry|succeeded|failed",
                     s->run);
                return STATUS_FAILED;
        }
        if (strcmp(state, "succeeded") == 0)
                return STATUS_OK;
        /* Its exit status says it all, as it would here. */
        if (*jstr(error, "message") && strcmp(jstr(error, "code"), "exit_nonzero") != 0 &&
            strcmp(jstr(error, "code"), "killed_by_signal") != 0)
                note("%s", jstr(error, "message"));
        if (cJSON_IsNumber(code) && code->valueint)
                return code->valueint & 255;
        if (strcmp(jstr(error, "code"), "spawn_failed") == 0)
                return strncmp(jstr(error, "message"), "command not found", 17) == 0 ? STATUS_NO_COMMAND
                                                                                     : STATUS_NO_EXEC;
        return STATUS_FAILED;
}

static int run_session(struct cli *c, const char *run, bool with_stdin, struct err *e)
{
        struct session s = {.c = c, .run = run};
        int rc;

        s.out = (struct follow){.c = c->client, .on_item = on_output, .on_again = on_again, .ctx = &s};
        on_again(&s, &s.out);
        follow_init(&s.out);
        rc = feed_init(&s.in, c->client, run, with_stdin ? STDIN_FILENO : -1, e);
        if (!rc && !s.out.path)
                rc = no_memory(e);
        if (!rc)
                rc = make_view(&s, true, e);
        if (!rc)
                rc = pump(&s, e);
        feed_fini(&s.in);
        follow_fini(&s.out);
        if (!rc)
                rc = settle(&s, e);
        if (!rc && c->format == OUT_JSON)
                print_json(s.doc);
        if (!rc)
                rc = exec_status(&s);
        event_view_free(s.view);
        cJSON_Delete(s.doc);
        return rc;
}

int cmd_exec(struct cli *c, struct err *e)
{
        bool with_stdin = has_stdin(c);
        cJSON *body = NULL, *run = NULL;
        int rc = call_body(c, "process.exec", &body, e);

        if (!rc)
                rc = exec_input(c, body, e);
        if (!rc && with_stdin && !cJSON_AddTrueToObject(body, "stdin"))
                rc = no_memory(e);
        interrupt_catch();
        if (!rc)
                rc = client_json(c->client, "POST", "/api/v1/calls", body, &run, e);
        if (!rc && !*jstr(run, "id"))
                rc = err_set(e, E_PROTO, "%s did not answer with a run; is --hub right?",
                             client_hub(c->client));
        if (!rc)
                rc = run_session(c, jstr(run, "id"), with_stdin, e);
        cJSON_Delete(run);
        cJSON_Delete(body);
        return rc;
}

/* ---- call ---- */

/* Ctrl-C while the hub keeps us waiting. */
static int wait_for(struct session *s, struct err *e)
{
        int64_t look_ms = clock_mono_ms(&clock_system);
        int asked = interrupt_count(), rc = 0, pause = 20;

        while (!rc && !run_over(s->doc) && strcmp(jstr(first_step(s->doc), "state"), "unknown") != 0) {
                rc = client_turn(s->c->client, pause, -1, NULL, e);
                if (!rc && interrupt_count() > asked)
                        rc = on_interrupt(s, interrupt_count() - asked, e);
                if (rc || clock_mono_ms(&clock_system) < look_ms)
                        continue;
                rc = look(s, true, e);
                tell_why(s);
                pause = pause < 500 ? pause * 2 : 1000;
                look_ms = clock_mono_ms(&clock_system) + pause;
        }
        return rc;
}

static int call_result(struct cli *c, const struct session *s)
{
        const cJSON *step = first_step(s->doc), *outputs = jget(step, "outputs"),
                    *error = jget(step, "error");

        if (outputs && (outputs->child || strcmp(jstr(step, "state"), "succeeded") == 0) &&
            !print_doc(c, outputs))
                print_json(outputs);
        if (strcmp(jstr(step, "state"), "unknown") == 0)
                note("the agent was lost; nobody knows whether the call happened. Decide: photon run resolve "
                     "%s " CALL_STEP " retry|succeeded|failed",
                     s->run);
        else if (*jstr(error, "message"))
                note("%s (%s)", jstr(error, "message"), jstr(error, "code"));
        return watch_status(jstr(s->doc, "state"));
}

/* A tool that speaks is listened to from its first word. */
static int listen(struct session *s, struct err *e)
{
        struct step_events ev;
        int64_t look_ms = clock_mono_ms(&clock_system) + LOOK_EVERY_MS;
        int asked = interrupt_count(), rc = make_view(s, false, e);

        if (rc)
                return rc;
        if (step_events_init(&ev, s->c->client, s->run, CALL_STEP, 0, s->view))
                rc = no_memory(e);
        while (!rc && !ev.f.over) {
                int wait = follow_step(&ev.f, 1000);

                rc = client_turn(s->c->client, ev.f.over ? 0 : asking(s, wait), -1, NULL, e);
                give_out(s);
                if (!rc)
                        tell_answers(s);
                if (!rc && interrupt_count() > asked)
                        rc = on_interrupt(s, interrupt_count() - asked, e);
                if (rc || clock_mono_ms(&clock_system) < look_ms || ev.f.since_ms)
                        continue;
                look_ms = clock_mono_ms(&clock_system) + LOOK_EVERY_MS;
                if (look(s, false, NULL) == 0) {
                        tell_why(s);
                        if (strcmp(jstr(first_step(s->doc), "state"), "unknown") == 0)
                                break; /* a lost agent ends no stream */
                }
        }
        event_view_end(s->view, CALL_STEP);
        event_view_break(s->view);
        give_out(s);
        step_events_fini(&ev);
        return rc ? rc : look(s, true, e);
}

static int call_input(struct cli *c, cJSON *body, struct err *e)
{
        cJSON *input = NULL;
        int rc;

        if (!c->o.input)
                return 0;
        rc = input_json(c->o.input, "--input", &input, e);
        if (!rc && !cJSON_IsObject(input))
                rc = err_set(e, E_INVAL, "--input: a tool's input is an object: {\"name\": value, ...}");
        if (!rc && !cJSON_AddItemToObject(body, "input", input))
                rc = no_memory(e);
        if (rc)
                cJSON_Delete(input);
        return rc == -E_INVAL ? cli_usage(c, "%s", e->msg) : rc;
}

int cmd_call(struct cli *c, struct err *e)
{
        struct session s = {.c = c};
        bool speaks = event_view_speaks(c->args[0]);
        cJSON *body = NULL;
        int rc = call_body(c, c->args[0], &body, e);

        if (!rc)
                rc = call_input(c, body, e);
        interrupt_catch();
        /* Short ones are answered at once; for the others Ctrl-C must be able to cancel. */
        if (!rc)
                rc = client_json(c->client, "POST",
                                 speaks ? "/api/v1/calls" : "/api/v1/calls?wait=true&timeout=1s", body,
                                 &s.doc, e);
        s.run = rc ? "" : mem_strdup(jstr(s.doc, "id"));
        if (!rc && (!s.run || !*s.run))
                rc = err_set(e, E_PROTO, "%s did not answer with a run; is --hub right?",
                             client_hub(c->client));
        if (!rc && speaks && !run_over(s.doc))
                rc = listen(&s, e);
        if (!rc)
                rc = wait_for(&s, e);
        /* What failed at once was over in the answer already, which tells no steps. */
        if (!rc && !first_step(s.doc))
                rc = look(&s, true, e);
        if (!rc)
                rc = call_result(c, &s);
        if (s.run && *s.run)
                mem_free((char *)s.run);
        event_view_free(s.view);
        cJSON_Delete(s.doc);
        cJSON_Delete(body);
        return rc;
}
