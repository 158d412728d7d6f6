#include "agent/tools/ai_run.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "agent/tools/ai_session.h"
#include "agent/tools/stdio_peer.h"
#include "agent/tools/spawn.h"
#include "common/json.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/str.h"

#define TO(s) (1u << (s))

static const struct {
        const char *name;
        unsigned moves;
} states[] = {
        [AI_RUN_OPENING] = {"opening", TO(AI_RUN_RUNNING) | TO(AI_RUN_ENDED)},
        [AI_RUN_RUNNING] = {"running", TO(AI_RUN_INTERRUPTING) | TO(AI_RUN_LEAVING) | TO(AI_RUN_STOPPING) |
                                               TO(AI_RUN_ENDED)},
        [AI_RUN_INTERRUPTING] = {"interrupting", TO(AI_RUN_LEAVING) | TO(AI_RUN_STOPPING) | TO(AI_RUN_ENDED)},
        [AI_RUN_LEAVING] = {"leaving", TO(AI_RUN_STOPPING) | TO(AI_RUN_ENDED)},
        [AI_RUN_STOPPING] = {"stopping", TO(AI_RUN_STOPPING) | TO(AI_RUN_ENDED)},
        [AI_RUN_ENDED] = {"ended", 0},
};

/* false: somebody got there first. */
static bool move(struct ai_run *r, enum ai_run_state to)
{
        if (!(states[r->state].moves & TO(to)))
                return false;
        r->state = to;
        return true;
}

void ai_run_decide(struct ai_run *r, enum tool_outcome o, const char *code, const char *fmt, ...)
{
        va_list ap;

        if (r->decided)
                return;
        r->decided = true;
        r->outcome = o;
        snprintf(r->code, sizeof r->code, "%s", code ? code : "");
        va_start(ap, fmt);
        err_setv(&r->why, E_INTERNAL, fmt, ap);
        va_end(ap);
}

static void end(struct ai_run *r)
{
        if (!move(r, AI_RUN_ENDED))
                return;
        uv_timer_stop(&r->timer);
        ai_finish(&r->ai, r->outcome, r->code[0] ? r->code : NULL, &r->why);
}

/* ---- going ---- */

static void on_timer(uv_timer_t *t)
{
        struct ai_run *r = t->data;

        /* It left because its output had ended (on_eof), and did not go. */
        ai_run_decide(r, TOOL_FAILED, "stream_ended",
                      "%s closed its standard output without a result, lived on and was stopped",
                      r->ops->product);
        ai_run_stop(r, r->stop_ms);
}

void ai_run_stop(struct ai_run *r, int grace_ms)
{
        if (!r->peer || !move(r, AI_RUN_STOPPING))
                return;
        uv_timer_stop(&r->timer);
        stdio_peer_stop(r->peer, grace_ms);
}

void ai_run_leave(struct ai_run *r)
{
        if (!r->peer || !move(r, AI_RUN_LEAVING))
                return;
        r->stop_ms = AI_RUN_STOP_MS;
        stdio_peer_end_input(r->peer);
        uv_timer_start(&r->timer, on_timer, AI_RUN_LEAVE_MS, 0);
}

void ai_run_interrupt(struct ai_run *r, int grace_ms)
{
        if (r->state != AI_RUN_RUNNING)
                return;
        r->stop_ms = grace_ms / 4;
        if (grace_ms <= 0 || !r->ops->interrupt || !r->ops->interrupt(r)) {
                ai_run_stop(r, grace_ms);
                return;
        }
        if (!move(r, AI_RUN_INTERRUPTING))
                return; /* it could not be said, and the child is being stopped */
        uv_timer_start(&r->timer, on_timer, (uint64_t)(grace_ms - r->stop_ms), 0);
}

/* ---- what the child does ---- */

int ai_run_send(struct ai_run *r, cJSON *m)
{
        int rc = ai_run_send_lent(r, m);

        cJSON_Delete(m);
        return rc;
}

int ai_run_send_lent(struct ai_run *r, const cJSON *m)
{
        int rc = m ? 0 : -E_NOMEM;

        if (!rc)
                rc = r->peer ? stdio_peer_send_json(r->peer, m) : -E_CLOSED;
        if (rc == -E_NOMEM)
                ai_run_decide(r, TOOL_FAILED, "out_of_memory", "the agent has no memory left for a message");
        else if (rc == -E_FULL || rc == -E_TOOBIG)
                ai_run_decide(r, TOOL_FAILED, "io_error", "%s does not take what it is told: %s",
                              r->ops->product, err_name(rc));
        if (rc && rc != -E_CLOSED) /* closed: it is going, and on_gone says why */
                ai_run_stop(r, AI_RUN_STOP_MS);
        return rc;
}

void ai_run_flow(struct ai_run *r, int rc)
{
        if (rc != -E_FULL || r->held || !r->peer)
                return;
        r->held = true;
        stdio_peer_hold(r->peer, true);
}

/* A line of another kind: a banner, a warning, a question at a terminal that is not there. */
static void note_noise(struct ai_run *r, const char *text, size_t n)
{
        char *clean = str_utf8_lossy(text, n < AI_RUN_NOISE_MAX / 2 ? n : AI_RUN_NOISE_MAX / 2);

        snprintf(r->noise, sizeof r->noise, "%s", clean ? clean : "");
        mem_free(clean);
}

static void on_message(void *arg, char *text, size_t n)
{
        struct ai_run *r = arg;
        struct err why = {0};
        cJSON *m = NULL;
        int rc;

        if (r->state == AI_RUN_STOPPING)
                return;
        if (n == 0 || text[0] != '{') {
                note_noise(r, text, n);
                return;
        }
        ai_alive(&r->ai);
        json_mend(text, n);
        rc = json_parse(text, n, &m, &why);
        if (rc) {
                ai_run_decide(r, TOOL_FAILED, rc == -E_NOMEM ? "out_of_memory" : "protocol_error",
                              "%s wrote a message that cannot be read: %s", r->ops->product, why.msg);
                ai_run_stop(r, AI_RUN_STOP_MS);
                return;
        }
        r->ops->message(r, m);
}

static void on_stderr(void *arg, const char *p, size_t n)
{
        struct ai_run *r = arg;

        ai_run_flow(r, tool_output(r->ai.c, TOOL_STDERR, p, n));
}

static void on_fault(void *arg, const struct err *e)
{
        struct ai_run *r = arg;
        const char *words = stdio_peer_stderr(r->peer);

        if (r->state == AI_RUN_LEAVING)
                return; /* its result stands */
        if (e->code == E_TOOBIG)
                ai_run_decide(r, TOOL_FAILED, "message_too_large", "%s: %s", r->ops->product, e->msg);
        else
                ai_run_decide(r, TOOL_FAILED, "half_message",
                              "%s ended in the middle of a message: %s; its last words: %.300s",
                              r->ops->product, e->msg, *words ? words : "none");
        ai_run_stop(r, AI_RUN_STOP_MS);
}

/* No result can come any more. Mostly it ends at the same moment, and on_gone says how. */
static void on_eof(void *arg)
{
        struct ai_run *r = arg;

        if (r->state == AI_RUN_RUNNING)
                ai_run_leave(r);
}

static void how_it_ended(const struct ai_run *r, char *out, size_t size)
{
        int code = 0, sig = 0;

        if (!stdio_peer_exited(r->peer, &code, &sig))
                snprintf(out, size, "it was ended");
        else if (sig)
                snprintf(out, size, "signal %d (%s)", sig, strsignal(sig));
        else
                snprintf(out, size, "exit status %d", code);
}

static void on_gone(void *arg)
{
        struct ai_run *r = arg;
        const char *words;
        char how[64];

        if (!r->decided && r->ops->ended)
                r->ops->ended(r);
        words = stdio_peer_stderr(r->peer); /* lent until the next call: after the driver had its look */
        how_it_ended(r, how, sizeof how);
        ai_run_decide(r, TOOL_FAILED, "stream_ended", "%s ended without a result (%s)%s%.400s",
                      r->ops->product, how, *words || r->noise[0] ? "; its last words: " : "",
                      *words ? words : r->noise);
        end(r);
}

/* Does it wait for somebody at a terminal? */
static bool asks(const char *text)
{
        static const char *const words[] = {"(y/n", "[y/n", "press ", "password", "continue?", "log in"};
        const char *last = strrchr(text, '\n');
        size_t n = strlen(text);

        while (n > 0 && strchr(" \t\r\n", text[n - 1]))
                n--;
        for (size_t i = 0; i < sizeof words / sizeof *words; i++)
                if (strcasestr(last && last[1] ? last : text, words[i]))
                        return true;
        return n > 0 && strchr("?:>", text[n - 1]);
}

static void on_stall(struct ai *a)
{
        struct ai_run *r = (struct ai_run *)a;
        const char *words = r->peer ? stdio_peer_stderr(r->peer) : "";
        long long s = (long long)(a->stall_ms / 1000);

        if (r->state == AI_RUN_LEAVING)
                return; /* it has its own time, and a reason of its own */
        if (r->held) {
                ai_alive(a); /* what it writes waits for room: it is not silent */
                return;
        }
        if (!*words)
                words = r->noise;
        if (*words && asks(words))
                ai_run_decide(
                        r, TOOL_FAILED, "prompt_hang",
                        "%s waits at a prompt that nobody sees, for %lld s: %.400s; run it once by hand "
                        "on this machine",
                        r->ops->product, s, words);
        ai_run_decide(r, TOOL_FAILED, "stalled",
                      "nothing came from %s for %lld s (limits.stall); its last words: %.300s",
                      r->ops->product, s, *words ? words : "none");
        ai_run_stop(r, AI_RUN_STOP_MS);
}

/* ---- beginning ---- */

int ai_run_arg(struct ai_run *r, const char *arg, struct err *e)
{
        if (r->n_args > AI_RUN_ARGS_MAX)
                return err_set(e, E_FULL, "too many arguments for %s", r->ops->program);
        r->args[r->n_args] = mem_strdup(arg);
        if (!r->args[r->n_args])
                return err_set(e, E_NOMEM, "the agent is out of memory");
        r->n_args++;
        return 0;
}

int ai_run_option(struct ai_run *r, const char *name, const char *value, struct err *e)
{
        int rc;

        if (value[0] == '-')
                return err_set(e, E_INVAL, "\"%.100s\" is no value for %s's %s", value, r->ops->product,
                               name);
        rc = ai_run_arg(r, name, e);
        return rc ? rc : ai_run_arg(r, value, e);
}

static int launch(struct ai_run *r, struct err *e)
{
        struct stdio_peer_options o = {.loop = r->ai.c->loop,
                                       .path = r->path,
                                       .tool = r->ai.c->tool->name,
                                       .call = r->ai.c,
                                       .argv = r->args,
                                       .env = r->ai.env,
                                       .cwd = r->ai.cwd,
                                       .marker = r->ai.marker,
                                       .on_message = on_message,
                                       .on_stderr = on_stderr,
                                       .on_fault = on_fault,
                                       .on_eof = on_eof,
                                       .on_gone = on_gone,
                                       .arg = r};
        int rc = stdio_peer_start(&o, &r->peer, e);

        if (rc)
                return rc;
        move(r, AI_RUN_RUNNING);
        if (tool_owns_process(r->ai.c, (int)stdio_peer_pid(r->peer))) {
                ai_run_decide(r, TOOL_FAILED, "journal_failed",
                              "the agent could not write down in its journal that it started %s",
                              r->ops->product);
                ai_run_stop(r, 0);
        }
        return 0;
}

static void on_ready(struct ai *a)
{
        struct ai_run *r = (struct ai_run *)a;
        struct err e = {0};
        int rc;

        if (r->state != AI_RUN_OPENING)
                return;
        rc = launch(r, &e);
        if (rc) {
                ai_run_decide(r, TOOL_FAILED,
                              rc == -E_NOMEM ? "out_of_memory" : spawn_error_code(rc, "spawn_failed"),
                              "cannot start %s: %s", r->ops->product, e.msg);
                end(r);
                return;
        }
        rc = r->state == AI_RUN_RUNNING ? r->ops->started(r, &e) : 0;
        if (rc) {
                ai_run_decide(r, TOOL_FAILED, err_name(rc), "%s: %s", r->ops->product, e.msg);
                ai_run_stop(r, AI_RUN_STOP_MS);
        }
}

static void release(struct ai_run *r)
{
        if (--r->closing > 0)
                return;
        for (int i = 0; i < r->n_args; i++)
                mem_free(r->args[i]);
        mem_free(r->path);
        mem_free(r);
}

static void on_timer_closed(uv_handle_t *h)
{
        release(h->data);
}

static void on_ai_closed(struct ai *a)
{
        release((struct ai_run *)a);
}

static void close_all(struct ai_run *r)
{
        r->closing = 2;
        if (r->ops->fini)
                r->ops->fini(r);
        uv_close((uv_handle_t *)&r->timer, on_timer_closed);
        ai_close(&r->ai, on_ai_closed);
}

void ai_run_session(struct ai_run *r, const char *id, double cost_usd)
{
        char *text = id ? ai_session_make(r->ai.c->tool->name, id, r->ai.cwd, cost_usd) : NULL;

        if (text)
                ai_set(&r->ai.out_session, text);
        mem_free(text);
}

/* A vendor's own id: somebody began the conversation by hand. */
static bool is_plain_id(const char *text)
{
        return strlen(text) <= 128 && str_is_name(text, 128);
}

/* Was it the folder of a call that is over? Those are emptied, and used again by others. */
static bool was_scratch(const struct tool_call *c, const char *cwd)
{
        const char *slash = strrchr(c->scratch_dir, '/');

        return slash && strncmp(cwd, c->scratch_dir, (size_t)(slash - c->scratch_dir + 1)) == 0;
}

/* The input with the vendor's id as its session, and the session's folder if it names none. *out stays NULL
 * when there is nothing to change. */
static int resume(const struct tool_call *c, const cJSON *input, cJSON **out, double *cost, struct err *e)
{
        const char *text = NULL, *cwd = NULL;
        struct ai_session s;
        cJSON *copy;
        int rc = json_str_opt(input, "session", &text, e);

        *cost = 0;
        if (!rc)
                rc = json_str_opt(input, "cwd", &cwd, e);
        if (rc || !text)
                return rc;
        rc = ai_session_read(text, c->tool->name, &s, e);
        if (rc == -E_INVAL && is_plain_id(text)) {
                *cost = -1;
                return 0;
        }
        if (rc)
                return rc;
        *cost = s.cost_usd > 0 ? s.cost_usd : -1;
        copy = cJSON_Duplicate(input, true);
        if (copy && is_plain_id(s.id) &&
            cJSON_ReplaceItemInObjectCaseSensitive(copy, "session", cJSON_CreateString(s.id)) &&
            (cwd || was_scratch(c, s.cwd) || cJSON_AddStringToObject(copy, "cwd", s.cwd)))
                *out = copy;
        else
                rc = err_set(e, E_INVAL, "\"session\" cannot be used");
        if (rc)
                cJSON_Delete(copy);
        ai_session_fini(&s);
        return rc;
}

/* Nothing was begun: refused with a code of its own. */
static int refuse_session(struct tool_call *c, const struct err *e)
{
        struct tool_result r = {
                .outcome = TOOL_REFUSED, .error_code = "session_unknown", .error_message = e->msg};

        tool_finish(c, &r);
        return 0;
}

int ai_run_open(struct tool_call *c, size_t size, const struct ai_run_ops *ops, const cJSON *input,
                struct err *e)
{
        cJSON *resumed = NULL;
        struct ai_run *r;
        double cost;
        int rc = resume(c, input, &resumed, &cost, e);

        if (rc == -E_INVAL || rc == -E_DENIED)
                return refuse_session(c, e);
        r = rc ? NULL : mem_calloc(1, size);
        if (!r) {
                cJSON_Delete(resumed);
                return err_set(e, E_NOMEM, "the agent is out of memory");
        }
        r->ops = ops;
        r->session_cost = cost;
        uv_timer_init(c->loop, &r->timer);
        r->timer.data = r;
        rc = ai_open(&r->ai, c, resumed ? resumed : input, on_ready, on_stall, e);
        cJSON_Delete(resumed);
        if (!rc)
                rc = ai_run_arg(r, ops->program, e);
        if (!rc)
                rc = ai_program(&r->ai, ops->program, &r->path, e);
        if (rc == -E_NOENT) { /* refused with a code that says what is missing */
                c->state = r;
                ai_run_decide(r, TOOL_REFUSED, "tool_missing", "%s%s%s", e->msg, c->tool->install ? ": " : "",
                              c->tool->install ? c->tool->install : "");
                end(r);
                return 0;
        }
        if (!rc)
                rc = ops->prepare(r, e);
        if (rc) {
                close_all(r);
                return rc;
        }
        c->state = r;
        return 0;
}

/* ---- rows of the table ---- */

void ai_run_cancel(struct tool_call *c, int grace_ms)
{
        struct ai_run *r = c->state;

        ai_run_decide(r, TOOL_CANCELLED, "cancelled", "%s was cancelled", r->ops->product);
        switch (r->state) {
        case AI_RUN_OPENING:
                end(r);
                break;
        case AI_RUN_RUNNING:
                ai_run_interrupt(r, grace_ms);
                break;
        case AI_RUN_INTERRUPTING: /* asked again, perhaps with less patience */
        case AI_RUN_LEAVING:
                if (uv_timer_get_due_in(&r->timer) > (uint64_t)(grace_ms < 0 ? 0 : grace_ms))
                        ai_run_stop(r, grace_ms);
                break;
        case AI_RUN_STOPPING:
                stdio_peer_stop(r->peer, grace_ms);
                break;
        default:
                break;
        }
}

void ai_run_room(struct tool_call *c)
{
        struct ai_run *r = c->state;

        if (!r->held || !r->peer)
                return;
        r->held = false;
        stdio_peer_hold(r->peer, false);
}

void ai_run_free(struct tool_call *c)
{
        struct ai_run *r = c->state;

        if (!r)
                return;
        c->state = NULL;
        if (r->peer && r->state != AI_RUN_ENDED)
                stdio_peer_abandon(r->peer); /* the agent ends, or nobody wants the call any more */
        else
                stdio_peer_free(r->peer);
        r->peer = NULL;
        close_all(r);
}
