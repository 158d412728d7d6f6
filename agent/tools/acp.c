#include "agent/tools/acp.h"

#include <stdio.h>
#include <string.h>

#include "agent/policy.h"
#include "agent/tools/acp_in.h"
#include "agent/tools/spawn.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/str.h"

#define TO(s) (1U << (s))
#define END   (TO(ACP_LEAVING) | TO(ACP_GONE))
static const struct {
        const char *name;
        unsigned next;
} states[] = {
        [ACP_LOOKING] = {"looking", TO(ACP_WAITING) | TO(ACP_INITIALIZING) | TO(ACP_GONE)},
        [ACP_WAITING] = {"waiting", TO(ACP_INITIALIZING) | TO(ACP_GONE)},
        [ACP_INITIALIZING] = {"initializing", TO(ACP_AUTHENTICATING) | TO(ACP_OPENING) | END},
        [ACP_AUTHENTICATING] = {"authenticating", TO(ACP_OPENING) | END},
        [ACP_OPENING] = {"opening a session", TO(ACP_SETTING) | END},
        [ACP_SETTING] = {"setting mode and model", TO(ACP_SETTLING) | TO(ACP_READING) | END},
        [ACP_SETTLING] = {"settling", TO(ACP_READING) | END},
        [ACP_READING] = {"reading", TO(ACP_PROMPTING) | END},
        [ACP_PROMPTING] = {"prompting", TO(ACP_CANCELLING) | END},
        [ACP_CANCELLING] = {"cancelling", END},
        [ACP_LEAVING] = {"leaving", TO(ACP_GONE)},
        [ACP_GONE] = {"gone", 0},
};

const char acp_input_schema[] =
        "{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{" AI_INPUT_PROPERTIES ","
        "\"agent\":{\"type\":\"string\",\"description\":\"The ACP agent: claude-agent-acp, codex-acp, "
        "gemini, cursor, "
        "or a name of `acp:` in the agent's configuration\"},"
        "\"command\":{\"type\":\"array\",\"minItems\":1,\"maxItems\":64,\"items\":{\"type\":\"string\"},"
        "\"description\":\"Or the program itself and its arguments\"}}}";
const char acp_known_input_schema[] =
        "{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{" AI_INPUT_PROPERTIES "}}";
const char acp_output_schema[] = AI_OUTPUT_SCHEMA;

bool acp_move(struct acp *x, enum acp_state to)
{
        if (!(states[x->state].next & TO(to))) {
                log_error("acp", "state move refused", "from=%s to=%s attempt=%llu", states[x->state].name,
                          states[to].name, (unsigned long long)x->c->attempt_id);
                return false;
        }
        x->state = to;
        if (x->timer_open)
                uv_timer_stop(&x->timer);
        return true;
}

void acp_timer(struct acp *x, int ms, uv_timer_cb cb)
{
        uv_update_time(x->c->loop);
        uv_timer_start(&x->timer, cb, (uint64_t)ms, 0);
}

/* --- the outcome ------------------------------------------------------------- */

void acp_decide(struct acp *x, enum tool_outcome o, const char *code, const struct err *why)
{
        if (x->decided)
                return;
        x->decided = true;
        x->outcome = o;
        snprintf(x->code, sizeof x->code, "%s", code ? code : "");
        if (why)
                x->why = *why;
}

void acp_decidef(struct acp *x, enum tool_outcome o, const char *code, const char *fmt, ...)
{
        struct err e = {0};
        va_list ap;

        va_start(ap, fmt);
        err_setv(&e, E_UNAVAIL, fmt, ap);
        va_end(ap);
        acp_decide(x, o, code, &e);
}

const char *acp_last_words(struct acp *x)
{
        static char line[201];
        const char *all = x->peer ? stdio_peer_stderr(x->peer) : "", *end = all + strlen(all), *from;

        while (end > all && strchr(" \t\r\n", end[-1]))
                end--;
        for (from = end; from > all && from[-1] != '\n';)
                from--;
        while (from < end && (end - from > 200 || ((unsigned char)*from & 0xc0) == 0x80))
                from++;
        snprintf(line, sizeof line, "%.*s", (int)(end - from), from);
        return line;
}

/* It ended before it answered. */
static void decide_ended(struct acp *x)
{
        const char *said = acp_last_words(x), *name = x->program.name;
        const struct acp_known *k = x->program.known;
        int code = 0, signal = 0;

        (void)stdio_peer_exited(x->peer, &code, &signal);
        if (x->half)
                acp_decidef(x, TOOL_FAILED, "half_message",
                            "%s ended in the middle of a message%s%s: it crashed or was killed; look at its "
                            "own log",
                            name, *said ? "; its last words: " : "", said);
        else if (k && k->login_exit && code == k->login_exit)
                acp_decidef(x, TOOL_FAILED, "not_logged_in",
                            "%s is not logged in on this machine (%s): %s; log in there as the agent's user "
                            "and try again",
                            name, said, k->login);
        else
                acp_decidef(x, TOOL_FAILED, "stream_ended",
                            "%s ended (%s %d) before it had answered%s%s: it crashed or was killed; try it "
                            "by hand on "
                            "that machine",
                            name, signal ? "signal" : "status", signal ? signal : code,
                            *said ? "; its last words: " : "", said);
}

/* What a session of this call belongs to; mem_free it. */
static char *session_kind(const struct acp *x)
{
        return strcmp(x->tool, "acp.prompt") == 0 ? str_printf("%s %s", x->tool, x->program.name)
                                                  : mem_strdup(x->tool);
}

static void tell_session(struct acp *x)
{
        char *kind = session_kind(x), *text;
        const struct ai_session s = {
                .kind = kind,
                .id = x->session,
                .cwd = x->ai.cwd,
                .cost_usd = x->view.cost_before + (x->ai.usage.cost_usd > 0 ? x->ai.usage.cost_usd : 0),
                .opened_ms = x->opened_ms,
        };

        text = kind ? ai_session_text(&s) : NULL;
        ai_set(&x->ai.out_session, text);
        mem_free(kind);
        mem_free(text);
}

static void finish(struct acp *x)
{
        if (x->session)
                tell_session(x);
        if (!x->ai.out_model && x->offer.model.current)
                ai_set(&x->ai.out_model, x->offer.model.current);
        ai_finish(&x->ai, x->outcome, x->code[0] ? x->code : NULL, &x->why);
}

/* Silence has a reason sometimes, which only its standard error tells, and in the end: an API that is asked
 * again and again. */
static void decide_stalled(struct acp *x)
{
        int status = acp_said_status(stdio_peer_stderr(x->peer));
        char took[32];

        str_format_duration(x->ai.stall_ms, took);
        if (status)
                acp_decidef(x, TOOL_FAILED, acp_status_code(status),
                            "%s has said nothing for %s (limits.stall): the API answers with status %d, and "
                            "it tries again "
                            "and again",
                            x->program.name, took, status);
        acp_decidef(x, TOOL_FAILED, "stalled",
                    "%s has said nothing for %s (limits.stall); it hangs, or what it does takes longer: "
                    "allow more",
                    x->program.name, took);
}

static void on_gone(void *arg)
{
        struct acp *x = arg;

        if (x->stalled)
                decide_stalled(x);
        if (!x->decided)
                decide_ended(x);
        acp_ask_withdraw(x, false);
        acp_move(x, ACP_GONE);
        stdio_peer_free(x->peer);
        x->peer = NULL;
        finish(x);
}

/* --- leaving ------------------------------------------------------------------- */

static void on_too_slow(uv_timer_t *t)
{
        struct acp *x = t->data;

        if (x->closed && !x->half)
                acp_decidef(x, TOOL_FAILED, "stream_ended",
                            "%s closed its standard output before it had answered, lived on and was stopped",
                            x->program.name);
        stdio_peer_stop(x->peer, x->kill_ms);
}

void acp_leave(struct acp *x, bool now)
{
        if (x->state == ACP_GONE)
                return;
        acp_ask_withdraw(x, false);
        if (x->state != ACP_LEAVING && !acp_move(x, ACP_LEAVING))
                return;
        x->view.hurry = true;
        stdio_peer_hold(x->peer, false);
        if (now) {
                uv_timer_stop(&x->timer);
                stdio_peer_stop(x->peer, x->kill_ms);
        } else {
                stdio_peer_end_input(x->peer);
                acp_timer(x, ACP_LEAVE_MS, on_too_slow);
        }
}

static void on_no_answer(uv_timer_t *t)
{
        acp_leave(t->data, true);
}

void acp_stop_turn(struct acp *x, int patience_ms)
{
        cJSON *params;
        int rc = -E_NOMEM;

        if (!acp_move(x, ACP_CANCELLING))
                return;
        x->view.hurry = true;
        stdio_peer_hold(x->peer, false);
        params = cJSON_CreateObject();
        if (params && cJSON_AddStringToObject(params, "sessionId", x->session))
                rc = jsonrpc_notify(&x->rpc, "session/cancel", params);
        else
                cJSON_Delete(params);
        /* After it: a program that hears the answer first goes on with its turn. */
        acp_ask_withdraw(x, true);
        if (rc)
                acp_leave(x, true);
        else
                acp_timer(x, patience_ms, on_no_answer);
}

static void stop_before_start(struct acp *x)
{
        acp_move(x, ACP_GONE);
        finish(x);
}

void acp_cancel(struct tool_call *c, int grace_ms)
{
        struct acp *x = c->state;

        if (!x || x->state == ACP_GONE)
                return;
        acp_decidef(x, TOOL_CANCELLED, "cancelled", "the call was cancelled");
        x->kill_ms = grace_ms / 2;
        if (x->state == ACP_LOOKING || x->state == ACP_WAITING)
                stop_before_start(x);
        else if (x->state == ACP_PROMPTING)
                acp_stop_turn(x, grace_ms / 2);
        else
                acp_leave(x, true);
}

/* Leaving politely: what has gone wrong may be told on the way out. */
static void on_stall(struct ai *a)
{
        struct acp *x = container_of(a, struct acp, ai);

        /* Before the turn the timers of those states rule: a program may start slowly. And one whose words
         * wait for room is not silent. */
        if (x->state < ACP_PROMPTING || x->held) {
                ai_alive(a);
        } else if (x->state < ACP_LEAVING) {
                x->stalled = true;
                acp_leave(x, false);
        }
}

/* --- the program ------------------------------------------------------------------ */

static void hold_if_full(struct acp *x)
{
        if (!x->view.full || x->view.hurry)
                return;
        x->view.full = false;
        x->held = true;
        stdio_peer_hold(x->peer, true);
}

static void on_message(void *arg, char *text, size_t n)
{
        struct acp *x = arg;

        acp_message(x, text, n);
        hold_if_full(x);
}

static void on_stderr(void *arg, const char *p, size_t n)
{
        struct acp *x = arg;

        if (tool_output(x->c, TOOL_STDERR, p, n) == -E_FULL)
                x->view.full = true;
        hold_if_full(x);
}

static void on_fault(void *arg, const struct err *e)
{
        struct acp *x = arg;

        if (e->code == E_TOOBIG) {
                acp_decidef(x, TOOL_FAILED, "message_too_large", "%s sent a message that is too large: %s",
                            x->program.name, e->msg);
                acp_leave(x, true);
        } else {
                x->half = true;
        }
}

/* No answer can come any more. Mostly it ends at the same moment, and on_gone says how. */
static void on_eof(void *arg)
{
        struct acp *x = arg;

        x->closed = true;
        if (x->state < ACP_CANCELLING)
                acp_leave(x, false);
}

static int on_send(void *arg, const cJSON *message)
{
        struct acp *x = arg;

        return stdio_peer_send_json(x->peer, message);
}

void acp_on_slow_start(uv_timer_t *t)
{
        struct acp *x = t->data;

        acp_decidef(x, TOOL_FAILED, "stalled",
                    "%s is still %s after %d s: is it an ACP agent? Try it by hand there", x->program.name,
                    states[x->state].name, (x->state < ACP_OPENING ? ACP_INIT_MS : ACP_OPEN_MS) / 1000);
        acp_leave(x, true);
}

static int spawn(struct acp *x, const char *path, struct err *e)
{
        const struct stdio_peer_options o = {
                .loop = x->c->loop,
                .path = path,
                .tool = x->c->tool->name,
                .call = x->c,
                .argv = x->program.argv,
                .env = x->ai.env,
                .cwd = x->ai.cwd,
                .marker = x->ai.marker,
                .on_message = on_message,
                .on_stderr = on_stderr,
                .on_fault = on_fault,
                .on_eof = on_eof,
                .on_gone = on_gone,
                .arg = x,
        };

        return stdio_peer_start(&o, &x->peer, e);
}

/* Nothing was started, and this is why. */
static void not_started(struct acp *x, int rc, struct err *e)
{
        struct err why = *e;

        if (rc == -E_NOENT) {
                err_set(&why, E_NOENT, "%s: %s; install it on this machine for the agent's user",
                        x->program.name, e->msg);
                acp_decide(x, TOOL_REFUSED, "tool_missing", &why);
        } else {
                acp_decide(x, TOOL_REFUSED,
                           rc == -E_DENIED ? "policy_denied" : spawn_error_code(rc, "spawn_failed"), &why);
        }
        stop_before_start(x);
}

static void begin(struct acp *x)
{
        struct ai *a = &x->ai;
        struct err e = {0};
        char *path = NULL;
        int rc = acp_program_env(&x->program, a, &e);

        if (!rc && a->model)
                rc = acp_program_model(&x->program, a->model);
        if (!rc)
                rc = ai_program(a, x->program.argv[0], &path, &e);
        if (!rc)
                rc = spawn(x, path, &e);
        mem_free(path);
        if (rc) {
                not_started(x, rc, &e);
                return;
        }
        acp_move(x, ACP_INITIALIZING);
        acp_timer(x, ACP_INIT_MS, acp_on_slow_start);
        if (tool_owns_process(x->c, (int)stdio_peer_pid(x->peer))) {
                acp_decidef(x, TOOL_REFUSED, "journal_failed",
                            "the agent could not write down that it started %s", x->program.name);
                x->kill_ms = 0;
                acp_leave(x, true);
                return;
        }
        acp_initialize(x);
}

static void on_waited(uv_timer_t *t)
{
        begin(t->data);
}

static void on_ready(struct ai *a)
{
        struct acp *x = container_of(a, struct acp, ai);
        int ms = acp_program_wait_ms(&x->program, x->resumed.opened_ms, clock_now_us(&clock_system) / 1000);

        if (ms == 0) {
                begin(x);
                return;
        }
        event_log(x->c, "info",
                  "waits for the next minute: this program loses a session that is opened twice in one");
        acp_move(x, ACP_WAITING);
        acp_timer(x, ms, on_waited);
}

/* --- the call -------------------------------------------------------------------- */

int acp_permit(const struct policy *p, const cJSON *input, struct err *e)
{
        struct acp_program program;
        int rc = acp_program_of(input, &program, e);

        if (!rc)
                rc = policy_command(p, program.argv[0], false, e);
        acp_program_fini(&program);
        return rc;
}

static void release(struct acp *x)
{
        acp_program_fini(&x->program);
        ai_session_fini(&x->resumed);
        acp_offer_fini(&x->offer);
        acp_view_fini(&x->view);
        jsonrpc_fini(&x->rpc);
        mem_free(x->session);
        mem_free(x);
}

static void on_ai_closed(struct ai *a)
{
        release(container_of(a, struct acp, ai));
}

static void on_timer_closed(uv_handle_t *h)
{
        struct acp *x = h->data;

        ai_close(&x->ai, on_ai_closed);
}

/* Was it a call's own folder, which is gone or another call's by now? Those are numbered, side by side
 * (job.c). */
static bool was_scratch(const struct acp *x, const char *cwd)
{
        const char *own = x->c->scratch_dir, *slash = strrchr(cwd, '/');
        size_t n = (size_t)(slash - cwd) + 1;

        if (strcmp(own, cwd) == 0)
                return true;
        return strncmp(own, cwd, n) == 0 && slash[1] &&
               strspn(slash + 1, "0123456789") == strlen(slash + 1) &&
               strspn(own + n, "0123456789") == strlen(own + n);
}

/* The session's folder, where the input says none: programs keep their sessions by folder. */
static int with_folder(const struct acp *x, const cJSON *input, cJSON **out)
{
        const char *cwd = x->resumed.cwd;
        cJSON *copy = cJSON_Duplicate(input, true);

        if (copy && (!cwd || was_scratch(x, cwd) || cJSON_GetObjectItemCaseSensitive(copy, "cwd") ||
                     cJSON_AddStringToObject(copy, "cwd", cwd))) {
                *out = copy;
                return 0;
        }
        cJSON_Delete(copy);
        return -E_NOMEM;
}

/* Also a program's own id is taken: of a conversation that somebody began by hand. */
static int own_id(struct acp *x, const char *id, struct err *e)
{
        x->resumed.id = mem_strdup(id);
        return x->resumed.id ? 0 : err_set(e, E_NOMEM, "out of memory");
}

static int read_session(struct acp *x, const cJSON *input, struct err *e)
{
        const char *text = NULL;
        char *kind;
        int rc = json_str_opt(input, "session", &text, e);

        if (rc || !text)
                return rc;
        kind = session_kind(x);
        rc = kind ? ai_session_read(text, kind, &x->resumed, e) : -E_NOMEM;
        if (rc == -E_INVAL && str_is_name(text, 128) && strncmp(text, "s1.", 3) != 0)
                rc = own_id(x, text, e);
        mem_free(kind);
        x->resumes = rc == 0;
        return rc;
}

static struct acp *make(struct tool_call *c)
{
        struct acp *x = mem_calloc(1, sizeof *x);

        if (!x)
                return NULL;
        x->c = c;
        x->state = ACP_LOOKING;
        x->tool = c->tool->name;
        x->kill_ms = ACP_KILL_MS;
        list_init(&x->asks);
        acp_offer_init(&x->offer);
        if (jsonrpc_init(&x->rpc, false, on_send, x) || acp_view_init(&x->view, &x->ai, &x->offer)) {
                release(x);
                return NULL;
        }
        return x;
}

/* Takes x->program. A session that is none or another's is an outcome of its own, not a bad input. */
static int start(struct acp *x, const cJSON *input, struct err *e)
{
        struct err why = {0};
        int session = read_session(x, input, &why), rc;
        cJSON *whole = NULL;

        if (with_folder(x, input, &whole)) {
                release(x);
                return err_set(e, E_NOMEM, "out of memory");
        }
        rc = ai_open(&x->ai, x->c, whole, on_ready, on_stall, e);
        cJSON_Delete(whole);
        if (rc) {
                ai_close(&x->ai, on_ai_closed);
                return rc;
        }
        uv_timer_init(x->c->loop, &x->timer);
        x->timer.data = x;
        x->timer_open = true;
        x->view.cost_before = x->resumed.cost_usd;
        x->view.notes = x->program.known && x->program.known->notes;
        x->c->state = x;
        if (session) {
                acp_decide(x, TOOL_REFUSED, session == -E_NOMEM ? "out_of_memory" : "session_unknown", &why);
                stop_before_start(x);
        }
        return 0;
}

int acp_start(struct tool_call *c, const cJSON *input, struct err *e)
{
        struct acp *x = make(c);
        int rc;

        if (!x)
                return err_set(e, E_NOMEM, "out of memory");
        rc = acp_program_of(input, &x->program, e);
        if (rc) {
                release(x);
                return rc;
        }
        return start(x, input, e);
}

int acp_start_known(struct tool_call *c, const cJSON *input, const char *program, const char *argv0,
                    struct err *e)
{
        struct acp *x = make(c);
        int rc;

        if (!x)
                return err_set(e, E_NOMEM, "out of memory");
        rc = acp_program_known(program, &x->program, e);
        if (!rc && argv0)
                ai_set(&x->program.argv[0], argv0);
        if (rc) {
                release(x);
                return rc;
        }
        return start(x, input, e);
}

void acp_output_room(struct tool_call *c)
{
        struct acp *x = c->state;

        if (!x || !x->held)
                return;
        x->held = false;
        if (x->peer)
                stdio_peer_hold(x->peer, false);
}

void acp_free(struct tool_call *c)
{
        struct acp *x = c->state;

        c->state = NULL;
        if (!x)
                return;
        acp_reading_abandon(x);
        acp_ask_withdraw(x, false);
        if (x->peer)
                stdio_peer_abandon(x->peer);
        x->peer = NULL;
        uv_close((uv_handle_t *)&x->timer, on_timer_closed);
}

/* --- gemini.prompt ------------------------------------------------------------------ */

int gemini_permit(const struct policy *p, const cJSON *input, struct err *e)
{
        (void)input;
        return policy_command(p, "gemini", false, e);
}

int gemini_start(struct tool_call *c, const cJSON *input, struct err *e)
{
        return acp_start_known(c, input, "gemini", NULL, e);
}
