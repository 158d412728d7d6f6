/* One call of a plug-in.
 *
 *   RUNNING --last event--> LINGERING --+
 *      |                        |       +--it is gone--> CLOSING --timers closed--> DONE (tool_finish)
 *      +--cancel, limits,-------+-> STOPPING --+
 *         a bad event, it ended
 *
 * What becomes of the call is settled by whichever comes first: its last
 * event, or the reason why it was stopped. */
#include "agent/tools/plugin_in.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "agent/policy.h"
#include "agent/tools/answer.h"
#include "agent/tools/env.h"
#include "agent/tools/event.h"
#include "agent/tools/plugin_event.h"
#include "agent/tools/spawn.h"
#include "agent/tools/stdio_peer.h"
#include "common/err.h"
#include "common/json.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/str.h"

#define BAD_GRACE_MS 2000 /* for one that writes what it must not */

enum call_state { CALL_RUNNING, CALL_LINGERING, CALL_STOPPING, CALL_CLOSING, CALL_DONE };

#define TO(s) (1u << (s))
static const struct {
        const char *name;
        unsigned next;
} states[] = {
        [CALL_RUNNING] = {"running", TO(CALL_LINGERING) | TO(CALL_STOPPING) | TO(CALL_CLOSING)},
        [CALL_LINGERING] = {"lingering", TO(CALL_STOPPING) | TO(CALL_CLOSING)},
        [CALL_STOPPING] = {"stopping", TO(CALL_CLOSING)},
        [CALL_CLOSING] = {"closing", TO(CALL_DONE)},
        [CALL_DONE] = {"done", 0},
};

struct call {
        struct tool_call *c;
        struct plugin *p;
        enum call_state state;
        struct stdio_peer *peer;
        uv_timer_t limit, stall; /* stall: also the time to exit after the last event */
        int handles;
        int64_t limit_left_ms;
        uint64_t limit_since_ms; /* when the limit's clock last began to run */
        struct list questions;
        unsigned open_questions;
        bool settled, hurry;
        bool held;   /* what it writes waits for room: it is not silent */
        bool closed; /* it closed its standard output: no last event can come */
        enum tool_outcome outcome;
        char code[PLUGIN_CODE_MAX + 1];
        struct err why;
        cJSON *outputs, *usage;
};

struct question {
        struct list link;
        struct call *call;
        uint32_t ask_id;
        char id[PLUGIN_ID_MAX + 1];
};

static void move(struct call *k, enum call_state to)
{
        if (states[k->state].next & TO(to))
                k->state = to;
        else
                log_error("plugin", "state move refused", "attempt=%" PRIu64 " from=%s to=%s",
                          k->c->attempt_id, states[k->state].name, states[to].name);
}

/* The first word counts. */
static void settle(struct call *k, enum tool_outcome o, const char *code, int err, const char *fmt, ...)
        __attribute__((format(printf, 5, 6)));
static void settle(struct call *k, enum tool_outcome o, const char *code, int err, const char *fmt, ...)
{
        va_list ap;

        if (k->settled)
                return;
        k->settled = true;
        k->outcome = o;
        strncpy(k->code, code, sizeof k->code - 1);
        va_start(ap, fmt);
        err_setv(&k->why, err, fmt, ap);
        va_end(ap);
}

static void stop(struct call *k, int grace_ms)
{
        if (k->state >= CALL_CLOSING)
                return;
        if (k->state != CALL_STOPPING)
                move(k, CALL_STOPPING);
        uv_timer_stop(&k->limit);
        uv_timer_stop(&k->stall);
        k->hurry = true; /* somebody waits for the end: room or not, what it wrote goes out */
        k->held = false;
        stdio_peer_hold(k->peer, false);
        stdio_peer_stop(k->peer, grace_ms);
}

/* --- clocks -------------------------------------------------------------------------- */

static void on_limit(uv_timer_t *t)
{
        struct call *k = t->data;
        char text[32];

        str_format_duration(k->p->m.timeout_ms, text);
        settle(k, TOOL_TIMED_OUT, "timeout", E_TIMEOUT, "%s ran longer than the timeout of its manifest (%s)",
               k->p->m.name, text);
        stop(k, k->c->grace_ms);
}

static void on_stall(uv_timer_t *t)
{
        struct call *k = t->data;
        char text[32];

        if (k->state == CALL_LINGERING) {
                event_log(k->c, "warning", "it did not end after its last event and was stopped");
                stop(k, k->c->grace_ms);
                return;
        }
        if (k->held) {
                uv_timer_start(t, on_stall, (uint64_t)k->p->m.stall_ms, 0);
                return;
        }
        if (k->closed)
                settle(k, TOOL_FAILED, "stream_ended", E_PROTO,
                       "%s closed its standard output without a result, lived on and was stopped",
                       k->p->m.name);
        str_format_duration(k->p->m.stall_ms, text);
        settle(k, TOOL_FAILED, "stalled", E_TIMEOUT,
               "%s wrote nothing for %s (stall in its manifest) and was stopped", k->p->m.name, text);
        stop(k, k->c->grace_ms);
}

/* They stand while a question is open. */
static void clocks_run(struct call *k)
{
        uv_update_time(k->c->loop);
        k->limit_since_ms = uv_now(k->c->loop);
        if (k->state != CALL_RUNNING || k->open_questions || k->closed)
                return;
        if (k->p->m.timeout_ms > 0)
                uv_timer_start(&k->limit, on_limit, (uint64_t)k->limit_left_ms, 0);
        if (k->p->m.stall_ms > 0)
                uv_timer_start(&k->stall, on_stall, (uint64_t)k->p->m.stall_ms, 0);
}

static void clocks_stand(struct call *k)
{
        int64_t ran = (int64_t)(uv_now(k->c->loop) - k->limit_since_ms);

        if (!uv_is_active((uv_handle_t *)&k->limit))
                ran = 0;
        k->limit_left_ms = k->limit_left_ms > ran ? k->limit_left_ms - ran : 1;
        uv_timer_stop(&k->limit);
        uv_timer_stop(&k->stall);
}

static void alive(struct call *k)
{
        if (k->state == CALL_RUNNING && !k->open_questions && !k->closed && k->p->m.stall_ms > 0)
                uv_timer_start(&k->stall, on_stall, (uint64_t)k->p->m.stall_ms, 0);
}

/* --- questions ------------------------------------------------------------------------- */

static const char *const outcomes[] = {
        [ASK_ALLOWED] = "allowed",
        [ASK_DENIED] = "denied",
        [ASK_EXPIRED] = "expired",
        [ASK_WITHDRAWN] = "withdrawn",
};

static void send_answer(struct call *k, const char *id, const struct tool_decision *d)
{
        cJSON *o = cJSON_CreateObject();
        int rc = -E_NOMEM;

        if (o && cJSON_AddStringToObject(o, "type", "answer") && cJSON_AddStringToObject(o, "id", id) &&
            cJSON_AddStringToObject(o, "outcome", outcomes[d->outcome]) &&
            (!d->always || cJSON_AddTrueToObject(o, "always")) &&
            cJSON_AddStringToObject(o, "reason", d->reason ? d->reason : "") &&
            cJSON_AddStringToObject(o, "by", d->by ? d->by : "") &&
            (!d->content || cJSON_AddItemReferenceToObject(o, "content", (cJSON *)(uintptr_t)d->content)))
                rc = stdio_peer_send_json(k->peer, o);
        cJSON_Delete(o);
        if (rc == 0 || rc == -E_CLOSED) /* it wants to know no more */
                return;
        settle(k, TOOL_FAILED, rc == -E_NOMEM ? "out_of_memory" : "answer_undelivered", -rc,
               "%s does not read the answers to its questions (%s)", k->p->m.name, err_name(rc));
        stop(k, BAD_GRACE_MS);
}

static void on_decision(void *arg, const struct tool_decision *d)
{
        struct question *q = arg;
        struct call *k = q->call;

        if (k->state < CALL_CLOSING)
                send_answer(k, q->id, d);
        list_remove(&q->link);
        mem_free(q);
        if (--k->open_questions == 0)
                clocks_run(k);
}

static void ask(struct call *k, struct plugin_event *v)
{
        struct question *q;
        int rc = -E_NOMEM;

        if (!k->p->m.questions) {
                settle(k, TOOL_FAILED, "bad_event", E_PROTO,
                       "%s asked a question; its manifest must say questions: true for that", k->p->m.name);
                stop(k, BAD_GRACE_MS);
                return;
        }
        q = mem_calloc(1, sizeof *q);
        if (q) {
                q->call = k;
                strncpy(q->id, v->id, sizeof q->id - 1);
                rc = tool_ask(k->c, &v->question, on_decision, q, &q->ask_id);
        }
        if (rc) {
                struct tool_decision d = {.outcome = ASK_DENIED, .by = "agent"};

                d.reason = rc == -E_FULL ? "too many questions are open" : "the agent is out of memory";
                mem_free(q);
                send_answer(k, v->id, &d);
                return;
        }
        list_push_back(&k->questions, &q->link);
        if (k->open_questions++ == 0)
                clocks_stand(k);
}

static void withdraw_all(struct call *k)
{
        while (!list_empty(&k->questions)) {
                struct question *q = container_of(k->questions.next, struct question, link);

                tool_ask_withdraw(k->c, q->ask_id);
                list_remove(&q->link);
                mem_free(q);
        }
        k->open_questions = 0;
}

/* --- room ------------------------------------------------------------------------------- */

static void hold_if_full(struct call *k, int room)
{
        if (room != -E_FULL || k->hurry)
                return;
        k->held = true;
        stdio_peer_hold(k->peer, true);
}

/* --- what it writes ----------------------------------------------------------------------- */

static void take_result(struct call *k, struct plugin_event *v)
{
        struct err e = {0};

        if (k->settled)
                return;
        if (k->p->m.output_check && json_check(k->p->m.output_check, v->outputs, &e) != 0) {
                settle(k, TOOL_FAILED, "bad_output", E_INVAL,
                       "the outputs of %s do not fit the output_schema of its manifest: %s", k->p->m.name,
                       e.msg);
        } else {
                settle(k, TOOL_SUCCEEDED, "", 0, "%s", "");
                k->outputs = v->outputs;
                v->outputs = NULL;
        }
        k->usage = v->usage;
        v->usage = NULL;
}

static void take_error(struct call *k, struct plugin_event *v)
{
        if (k->settled)
                return;
        settle(k, TOOL_FAILED, v->code, E_STATE, "%s", v->message);
        k->outputs = v->outputs;
        k->usage = v->usage;
        v->outputs = v->usage = NULL;
}

/* It has said its last word: now it may go by itself. */
static void linger(struct call *k)
{
        withdraw_all(k);
        move(k, CALL_LINGERING);
        uv_timer_stop(&k->limit);
        uv_timer_start(&k->stall, on_stall, PLUGIN_LINGER_MS, 0);
        stdio_peer_end_input(k->peer);
}

static void on_message(void *arg, char *text, size_t n)
{
        struct call *k = arg;
        struct plugin_event v;
        struct err e = {0};
        int rc;

        alive(k);
        if (k->settled)
                return; /* after its last word, or after it was stopped, nothing counts */
        rc = plugin_event_read(k->c, text, n, &v, &e);
        if (rc) {
                settle(k, TOOL_FAILED, rc == -E_NOMEM ? "out_of_memory" : "bad_event", -rc,
                       "%s wrote a line that is no event (%s): %.80s", k->p->m.name, e.msg, text);
                stop(k, BAD_GRACE_MS);
                return;
        }
        hold_if_full(k, v.room);
        if (v.kind == PLUGIN_EVENT_QUESTION)
                ask(k, &v);
        else if (v.kind == PLUGIN_EVENT_RESULT)
                take_result(k, &v);
        else if (v.kind == PLUGIN_EVENT_ERROR)
                take_error(k, &v);
        if (k->settled && k->state == CALL_RUNNING)
                linger(k);
        plugin_event_fini(&v);
}

static void on_stderr(void *arg, const char *p, size_t n)
{
        struct call *k = arg;

        alive(k);
        hold_if_full(k, tool_output(k->c, TOOL_STDERR, p, n));
}

static void on_fault(void *arg, const struct err *e)
{
        struct call *k = arg;

        if (e->code == E_PROTO) /* it ended in the middle of a line */
                settle(k, TOOL_FAILED, "stream_ended", E_PROTO,
                       "%s ended without a result: %s; each event is a line and ends with a line break",
                       k->p->m.name, e->msg);
        else
                settle(k, TOOL_FAILED, e->code == E_NOMEM ? "out_of_memory" : "bad_event", e->code, "%s: %s",
                       k->p->m.name, e->msg);
        stop(k, BAD_GRACE_MS);
}

/* Mostly it ends at the same moment; one that does not has the time of one that said its last word. */
static void on_eof(void *arg)
{
        struct call *k = arg;

        if (k->state != CALL_RUNNING)
                return;
        k->closed = true;
        uv_update_time(k->c->loop);
        uv_timer_start(&k->stall, on_stall, PLUGIN_LINGER_MS, 0);
}

/* --- the end ---------------------------------------------------------------------------------- */

static void finish(struct call *k)
{
        struct tool_result r = {.outcome = k->outcome, .outputs = k->outputs, .usage = k->usage};

        move(k, CALL_DONE);
        k->outputs = k->usage = NULL;
        if (k->outcome != TOOL_SUCCEEDED) {
                r.error_code = k->code;
                r.error_message = k->why.msg;
        }
        if (k->peer)
                r.has_exit_code = stdio_peer_exited(k->peer, &r.exit_code, NULL);
        tool_finish(k->c, &r);
}

static void on_timer_closed(uv_handle_t *h)
{
        struct call *k = h->data;

        if (--k->handles == 0)
                finish(k);
}

static void close_timers(struct call *k)
{
        move(k, CALL_CLOSING);
        uv_close((uv_handle_t *)&k->limit, on_timer_closed);
        uv_close((uv_handle_t *)&k->stall, on_timer_closed);
}

static void on_gone(void *arg)
{
        struct call *k = arg;
        const char *tail = stdio_peer_stderr(k->peer);
        size_t len = strlen(tail);
        int code = 0, sig = 0;

        while (len > 0 && (tail[len - 1] == '\n' || tail[len - 1] == '\r'))
                len--;
        if (len > 200) {
                tail += len - 200;
                len = 200;
                while (len > 0 && ((unsigned char)*tail & 0xc0) == 0x80) {
                        tail++;
                        len--;
                }
        }
        stdio_peer_exited(k->peer, &code, &sig);
        settle(k, TOOL_FAILED, "stream_ended", E_PROTO, "%s ended without a result (%s %d)%s%.*s",
               k->p->m.name, sig ? "by signal" : "exit status", sig ? sig : code,
               len ? "; its standard error ends with: " : "", (int)len, tail);
        withdraw_all(k);
        close_timers(k);
}

void plugin_cancel(struct tool_call *c, int grace_ms)
{
        struct call *k = c->state;

        if (!k || k->state >= CALL_CLOSING)
                return;
        settle(k, TOOL_CANCELLED, "cancelled", E_CANCELLED, "%s was stopped on request", k->p->m.name);
        stop(k, grace_ms);
}

void plugin_output_room(struct tool_call *c)
{
        struct call *k = c->state;

        if (!k || !k->peer || k->state >= CALL_CLOSING)
                return;
        k->held = false;
        stdio_peer_hold(k->peer, false);
}

void plugin_free(struct tool_call *c)
{
        struct call *k = c->state;

        if (!k)
                return;
        stdio_peer_free(k->peer);
        cJSON_Delete(k->outputs);
        cJSON_Delete(k->usage);
        k->p->calls--;
        plugin_unref(k->p);
        mem_free(k);
        c->state = NULL;
}

/* --- the beginning ------------------------------------------------------------------------------ */

static int make_env(struct call *k, char ***env, struct err *e)
{
        int rc = env_for_call(k->c, env, e);

        for (char **glob = k->p->m.env; glob && *glob && !rc; glob++)
                if ((rc = env_pass(env, *glob)) != 0)
                        err_set(e, -rc, "out of memory");
        return rc;
}

/* *code: the stable name of what went wrong. */
static int launch(struct call *k, const char **code, struct err *e)
{
        const struct plugin *p = k->p;
        char **env = NULL, *program = plugin_program(&p->m, p->path), *path = NULL;
        struct stdio_peer_options o = {.loop = k->c->loop,
                                       .tool = k->c->tool->name,
                                       .call = k->c,
                                       .argv = p->m.command,
                                       .cwd = k->c->scratch_dir,
                                       .on_message = on_message,
                                       .on_stderr = on_stderr,
                                       .on_fault = on_fault,
                                       .on_eof = on_eof,
                                       .on_gone = on_gone,
                                       .arg = k};
        int rc = program ? make_env(k, &env, e) : err_set(e, E_NOMEM, "out of memory");

        *code = "out_of_memory";
        if (rc)
                goto out;
        *code = "spawn_failed";
        rc = spawn_find(program, env_get(env, "PATH"), k->c->scratch_dir, &path, e);
        if (rc == 0) {
                o.path = path;
                o.env = env;
                o.marker = env_marker(env);
                rc = stdio_peer_start(&o, &k->peer, e);
        }
        if (rc == -E_NOENT)
                *code = "tool_missing";
        else if (rc == -E_FULL || rc == -E_AGAIN)
                *code = "agent_busy";
        *code = spawn_error_code(rc, *code);
out:
        env_free(env);
        mem_free(program);
        mem_free(path);
        return rc;
}

static int give_input(struct call *k, const cJSON *input, const char **code, struct err *e)
{
        int rc = stdio_peer_send_json(k->peer, input);

        if (rc == -E_TOOBIG) {
                *code = "input_too_large";
                return err_set(e, E_TOOBIG, "the input of %s is over %zu bytes", k->p->m.name,
                               STDIO_LINE_MAX);
        }
        if (rc) {
                *code = "out_of_memory";
                return err_set(e, -rc, "cannot hand the input to %s: %s", k->p->m.name, err_name(rc));
        }
        if (!k->p->m.questions)
                stdio_peer_end_input(k->peer);
        return 0;
}

int plugin_start(struct tool_call *c, const cJSON *input, struct err *e)
{
        struct plugin *p = c->tool->data;
        struct call *k = mem_calloc(1, sizeof *k);
        const char *code = NULL;
        int rc;

        if (!k)
                return err_set(e, E_NOMEM, "out of memory");
        k->c = c;
        k->p = p;
        p->calls++;
        k->limit_left_ms = p->m.timeout_ms;
        list_init(&k->questions);
        c->state = k;
        rc = launch(k, &code, e);
        if (rc) {
                move(k, CALL_CLOSING);
                move(k, CALL_DONE);
                answer_bad(c, TOOL_REFUSED, code, e, NULL);
                return 0;
        }
        uv_timer_init(c->loop, &k->limit);
        uv_timer_init(c->loop, &k->stall);
        k->limit.data = k->stall.data = k;
        k->handles = 2;
        clocks_run(k);
        rc = give_input(k, input, &code, e);
        if (rc == 0 && tool_owns_process(c, stdio_peer_pid(k->peer)) != 0) {
                code = "journal_failed";
                rc = err_set(e, E_IO, "the agent could not write its journal, so %s was not run", p->m.name);
        }
        if (rc) {
                settle(k, TOOL_REFUSED, code, -rc, "%s", e->msg);
                stop(k, 0);
        }
        return 0;
}
