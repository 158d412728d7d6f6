/* The life of one command.
 *
 *   RUNNING --cancel, timeout--> STOPPING --grace over--> KILLING
 *      |                            | all gone               | all gone, or 2 s
 *      | ends, others hold its      v                        v
 *      |   output: LINGER ------> DRAINING --pipes empty--> CLOSING --handles closed--> DONE
 *      | ends, others left behind: KILLING     ^
 *      +- ends, nobody left -------------------+
 *
 * Only after DONE does the job hear of the end, and by then no process of the
 * call is left and every byte has been handed over. */
#include "agent/tools/process_in.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/tools/answer.h"
#include "agent/tools/env.h"
#include "common/buf.h"
#include "common/err.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/str.h"

#define READ_SIZE ((size_t)64 << 10)
#define PIPE_BIG  (1 << 20)
#define DRAIN_MAX ((size_t)2 << 20) /* a stranger who holds the pipe could write for ever */

#define TO(s) (1U << (s))
static const struct {
        const char *name;
        unsigned next;
} states[] = {
        [PROCESS_RUNNING] = {"running", TO(PROCESS_STOPPING) | TO(PROCESS_LINGER) | TO(PROCESS_KILLING) |
                                                TO(PROCESS_DRAINING)},
        [PROCESS_STOPPING] = {"stopping", TO(PROCESS_KILLING) | TO(PROCESS_DRAINING)},
        [PROCESS_LINGER] = {"linger", TO(PROCESS_KILLING) | TO(PROCESS_DRAINING)},
        [PROCESS_KILLING] = {"killing", TO(PROCESS_DRAINING)},
        [PROCESS_DRAINING] = {"draining", TO(PROCESS_CLOSING)},
        [PROCESS_CLOSING] = {"closing", TO(PROCESS_DONE)},
        [PROCESS_DONE] = {"done", 0},
};

static bool move(struct process *p, enum process_state to)
{
        if (!(states[p->state].next & TO(to))) {
                log_error("process", "state move refused", "from=%s to=%s attempt=%llu",
                          states[p->state].name, states[to].name, (unsigned long long)p->c->attempt_id);
                return false;
        }
        p->state = to;
        return true;
}

/* One buffer for all: tool_output copies, and only the loop thread reads. */
static char read_buf[READ_SIZE];

static void kill_all(struct process *p);
static void drain_all(struct process *p);
static void finish(struct process *p);

/* --- handles ------------------------------------------------------------- */

void process_handle_closed(struct process *p)
{
        if (--p->handles == 0 && p->state == PROCESS_CLOSING)
                finish(p);
}

static void on_closed(uv_handle_t *h)
{
        process_handle_closed(h->data);
}

static void on_stream_closed(uv_handle_t *h)
{
        struct stream *s = h->data;

        process_handle_closed(s->owner);
}

static void close_stream(struct stream *s)
{
        if (!s->open)
                return;
        s->open = false;
        uv_close((uv_handle_t *)&s->pipe, on_stream_closed);
}

static void close_all(struct process *p)
{
        if (!move(p, PROCESS_CLOSING))
                return;
        /* Callbacks come on a later turn, so `handles` cannot reach 0 in here. */
        close_stream(&p->out);
        close_stream(&p->err);
        feed_close(p);
        if (p->timer_open) {
                p->timer_open = false;
                uv_close((uv_handle_t *)&p->timer, on_closed);
        }
}

/* --- output ---------------------------------------------------------------- */

static void on_alloc(uv_handle_t *h, size_t want, uv_buf_t *b)
{
        (void)h;
        (void)want;
        *b = uv_buf_init(read_buf, sizeof read_buf);
}

static void hold(struct process *p)
{
        p->held = true;
        if (p->out.reading)
                uv_read_stop((uv_stream_t *)&p->out.pipe);
        if (p->err.reading)
                uv_read_stop((uv_stream_t *)&p->err.pipe);
        p->out.reading = p->err.reading = false;
}

static void out_of_memory(struct process *p)
{
        err_set(&p->trouble, E_NOMEM, "the agent has no memory left for the end of the output");
        p->trouble_code = "out_of_memory";
}

/* The tail is cut: so it keeps what was masked before. */
static void keep_tail(struct stream *s, const void *v, size_t n, bool last)
{
        struct buf masked;
        int rc;

        if (!tool_has_secrets(s->owner->c)) {
                rc = tail_put(&s->tail, v, n);
        } else {
                buf_init(&masked, 0);
                rc = tool_filter(s->owner->c, &s->filter, v, n, last, &masked);
                if (!rc)
                        rc = tail_put(&s->tail, masked.data, masked.len);
                if (masked.data)
                        mem_wipe(masked.data, masked.cap);
                buf_fini(&masked);
        }
        if (rc)
                out_of_memory(s->owner);
}

static int take(struct stream *s, const void *v, size_t n)
{
        keep_tail(s, v, n, false);
        return tool_output(s->owner->c, s->channel, v, n);
}

static void on_eof(struct stream *s)
{
        struct process *p = s->owner;

        s->eof = true;
        if (s->reading)
                uv_read_stop((uv_stream_t *)&s->pipe);
        s->reading = false;
        if (p->state == PROCESS_LINGER && p->out.eof && p->err.eof)
                kill_all(p);
}

static void on_read(uv_stream_t *u, ssize_t n, const uv_buf_t *b)
{
        struct stream *s = u->data;
        struct process *p = s->owner;

        if (n == 0)
                return;
        if (n < 0) {
                if (n != UV_EOF) {
                        err_set(&p->trouble, E_IO, "reading the output failed: %s", uv_strerror((int)n));
                        p->trouble_code = "io_error";
                }
                on_eof(s);
                return;
        }
        /* A full buffer means a full pipe: whoever writes that much gets a larger one. */
        if ((size_t)n == READ_SIZE && !s->grown) {
                uv_os_fd_t fd;

                s->grown = true;
                if (uv_fileno((uv_handle_t *)u, &fd) == 0)
                        (void)fcntl(fd, F_SETPIPE_SZ, PIPE_BIG);
        }
        if (take(s, b->base, (size_t)n) == -E_FULL && s->open)
                hold(p);
}

static void read_more(struct stream *s)
{
        if (s->open && !s->eof && !s->reading)
                s->reading = uv_read_start((uv_stream_t *)&s->pipe, on_alloc, on_read) == 0;
}

/* Nobody of ours can write any more: what the pipe holds is all there will be. True when it is empty. */
static bool drain(struct stream *s)
{
        uv_os_fd_t fd;

        if (!s->open || s->eof || uv_fileno((uv_handle_t *)&s->pipe, &fd) != 0)
                return true;
        while (s->drained < DRAIN_MAX) {
                ssize_t n = read(fd, read_buf, sizeof read_buf);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        break;
                s->drained += (size_t)n;
                if (take(s, read_buf, (size_t)n) == -E_FULL && !s->owner->hurry) {
                        s->owner->held = true;
                        return false;
                }
        }
        s->eof = true;
        return true;
}

static void drain_all(struct process *p)
{
        if (p->state != PROCESS_DRAINING || (p->held && !p->hurry))
                return;
        if (drain(&p->out) && drain(&p->err) && p->state == PROCESS_DRAINING)
                close_all(p);
}

/* --- the end ------------------------------------------------------------------ */

static void begin_drain(struct process *p)
{
        bool held = p->held;

        if (!move(p, PROCESS_DRAINING))
                return;
        if (p->timer_open)
                uv_timer_stop(&p->timer);
        p->child.watch = false;
        hold(p);
        p->held = held;
        drain_all(p);
}

static void on_timer(uv_timer_t *t);

static int timer_start(struct process *p, int64_t ms)
{
        int rc = 0;

        if (!p->timer_open) {
                rc = uv_timer_init(p->c->loop, &p->timer);
                if (rc)
                        return -err_from_errno(-rc);
                p->timer.data = p;
                p->timer_open = true;
                p->handles++;
        }
        uv_update_time(p->c->loop);
        uv_timer_start(&p->timer, on_timer, ms < 0 ? 0 : (uint64_t)ms, 0);
        return 0;
}

static void kill_again(struct process *p)
{
        int left = child_tree_signal(&p->child, SIGKILL);

        if (p->child.exited && left == 0) {
                begin_drain(p);
                return;
        }
        if (p->waited_ms >= PROCESS_KILL_WAIT_MS) {
                log_warn("process", "processes of a call do not die", "attempt=%llu pid=%d left=%d",
                         (unsigned long long)p->c->attempt_id, (int)p->child.pid, left);
                begin_drain(p);
                return;
        }
        if (timer_start(p, PROCESS_SWEEP_MS) != 0)
                begin_drain(p);
}

static void kill_all(struct process *p)
{
        if (!move(p, PROCESS_KILLING))
                return;
        p->child.watch = true;
        p->waited_ms = 0;
        kill_again(p);
}

static void stop(struct process *p, int grace_ms)
{
        if (grace_ms <= 0) {
                kill_all(p);
                return;
        }
        if (!move(p, PROCESS_STOPPING))
                return;
        p->child.watch = true;
        child_tree_signal(&p->child, SIGTERM);
        if (timer_start(p, grace_ms) != 0)
                kill_all(p);
}

static void on_timer(uv_timer_t *t)
{
        struct process *p = t->data;

        switch (p->state) {
        case PROCESS_RUNNING:
                p->timed_out = true;
                stop(p, p->grace_ms);
                break;
        case PROCESS_STOPPING:
        case PROCESS_LINGER:
                kill_all(p);
                break;
        case PROCESS_KILLING:
                p->waited_ms += PROCESS_SWEEP_MS;
                kill_again(p);
                break;
        default:
                break;
        }
}

static void on_main_end(struct process *p)
{
        if (child_tree_signal(&p->child, 0) == 0) {
                begin_drain(p);
        } else if (p->out.eof && p->err.eof) {
                kill_all(p);
        } else if (move(p, PROCESS_LINGER)) {
                p->child.watch = true;
                if (timer_start(p, PROCESS_LINGER_MS) != 0)
                        kill_all(p);
        }
}

static void on_change(struct child *ch)
{
        struct process *p = ch->data;

        if (!ch->exited) {
                if (p->state == PROCESS_KILLING)
                        child_tree_signal(ch, SIGKILL);
                return;
        }
        switch (p->state) {
        case PROCESS_RUNNING:
                on_main_end(p);
                break;
        case PROCESS_STOPPING:
        case PROCESS_LINGER:
                if (child_tree_signal(ch, 0) == 0)
                        begin_drain(p);
                break;
        case PROCESS_KILLING:
                if (child_tree_signal(ch, SIGKILL) == 0)
                        begin_drain(p);
                break;
        default:
                break;
        }
}

/* --- the answer ---------------------------------------------------------------- */

static bool add_text(cJSON *o, const char *key, const struct tail *t)
{
        char *text = tail_text(t);
        cJSON *s = text ? cJSON_CreateString(text) : NULL;

        mem_free(text);
        if (s && cJSON_AddItemToObject(o, key, s))
                return true;
        cJSON_Delete(s);
        return false;
}

static cJSON *build_outputs(struct process *p)
{
        cJSON *o = cJSON_CreateObject();
        const char *abbrev;
        char name[32];

        keep_tail(&p->out, "", 0, true);
        keep_tail(&p->err, "", 0, true);

        if (!o)
                return NULL;
        if (!cJSON_AddNumberToObject(o, "exit_code", p->child.code) || !add_text(o, "stdout", &p->out.tail) ||
            !add_text(o, "stderr_tail", &p->err.tail) ||
            !cJSON_AddBoolToObject(o, "stdout_truncated", p->out.tail.total > p->out.tail.len))
                goto fail;
        if (p->child.signal) {
                abbrev = sigabbrev_np(p->child.signal);
                snprintf(name, sizeof name, abbrev ? "SIG%s" : "%s%d", abbrev ? abbrev : "signal ",
                         p->child.signal);
                if (!cJSON_AddStringToObject(o, "signal", name))
                        goto fail;
        }
        if (output_read(p->c, p->cmd.output_file, o, &p->trouble) != 0 && !p->trouble_code)
                p->trouble_code = p->trouble.code == E_NOMEM ? "out_of_memory" : "bad_output";
        return o;
fail:
        cJSON_Delete(o);
        return NULL;
}

/* First what others did to it, then what it did itself, then what went wrong with its output. */
static void judge(struct process *p, struct tool_result *r, struct err *e)
{
        char took[32];

        r->outcome = TOOL_FAILED;
        r->error_message = e->msg;
        if (p->refused) {
                r->outcome = TOOL_REFUSED;
                r->error_code = p->trouble_code;
                r->error_message = p->trouble.msg;
        } else if (p->timed_out) {
                str_format_duration(p->cmd.timeout_ms, took);
                r->outcome = TOOL_TIMED_OUT;
                r->error_code = "timeout";
                err_set(e, E_TIMEOUT, "the command was stopped after %s (timeout in its input)", took);
        } else if (p->cancelled) {
                r->outcome = TOOL_CANCELLED;
                r->error_code = "cancelled";
                err_set(e, E_CANCELLED, "the command was stopped on request");
        } else if (!p->child.exited) {
                r->error_code = "io_error";
                err_set(e, E_IO, "the command cannot be ended: it hangs in the kernel (pid %d)",
                        (int)p->child.pid);
        } else if (p->child.signal) {
                r->error_code = "killed_by_signal";
                err_set(e, E_CANCELLED, "the command was ended by signal %d (%s); nobody here asked for it%s",
                        p->child.signal, strsignal(p->child.signal),
                        p->child.signal == SIGKILL ? ": often the kernel, for want of memory" : "");
        } else if (p->child.code) {
                r->error_code = "exit_nonzero";
                err_set(e, E_STATE, "the command ended with exit status %d", p->child.code);
        } else if (p->trouble_code) {
                r->error_code = p->trouble_code;
                r->error_message = p->trouble.msg;
        } else {
                r->outcome = TOOL_SUCCEEDED;
                r->error_code = r->error_message = NULL;
        }
}

/* Was it the launcher that ended, before there was a command? Then nothing ran. A call that was stopped in
 * that moment was stopped. */
static void look_at_launch(struct process *p)
{
        struct err e = {0};
        int rc = p->child.exited ? child_trouble(&p->child, p->cmd.path, p->cmd.cwd, &e) : 0;

        if (!rc || p->refused || p->cancelled || p->timed_out)
                return;
        p->refused = true;
        p->trouble = e;
        p->trouble_code =
                spawn_error_code(rc, rc == -E_FULL || rc == -E_AGAIN ? "agent_busy" : "spawn_failed");
}

static void finish(struct process *p)
{
        struct tool_result r = {0};
        struct err e = {0};

        if (!move(p, PROCESS_DONE))
                return;
        look_at_launch(p);
        r.has_exit_code = p->child.exited && !p->refused;
        r.exit_code = p->child.code;
        r.outputs = r.has_exit_code ? build_outputs(p) : NULL;
        if (r.has_exit_code && !r.outputs)
                out_of_memory(p);
        judge(p, &r, &e);
        child_release(&p->child);
        tool_finish(p->c, &r);
}

/* --- the tool -------------------------------------------------------------------- */

static void stream_init(struct process *p, struct stream *s, enum tool_channel ch, size_t tail)
{
        s->owner = p;
        s->channel = ch;
        s->tail.cap = tail;
}

/* *fd_child is the end that the command writes to. */
static int stream_open(struct process *p, struct stream *s, int *fd_child, struct err *e)
{
        int fds[2], rc;

        if (pipe2(fds, O_CLOEXEC) != 0)
                return err_set(e, err_from_errno(errno), "cannot make a pipe: %s", strerror(errno));
        rc = uv_pipe_init(p->c->loop, &s->pipe, 0);
        if (rc == 0) {
                s->pipe.data = s;
                s->open = true;
                p->handles++;
                rc = uv_pipe_open(&s->pipe, fds[0]);
        }
        if (rc) {
                close(fds[0]);
                close(fds[1]);
                return err_set(e, err_from_errno(-rc), "cannot open a pipe: %s", uv_strerror(rc));
        }
        *fd_child = fds[1];
        return 0;
}

static void close_fd(int fd)
{
        if (fd >= 0)
                close(fd);
}

static int launch(struct process *p, struct err *e)
{
        struct spawn_request r = {.path = p->cmd.path,
                                  .argv = p->cmd.argv,
                                  .env = p->cmd.env,
                                  .cwd = p->cmd.cwd,
                                  .tool = p->c->tool->name,
                                  .fd_in = -1,
                                  .fd_out = -1,
                                  .fd_err = -1};
        int files[TOOL_FILES_MAX];
        bool own_in = false;
        int rc = feed_open(p, &r.fd_in, &own_in, e);

        if (rc == 0)
                rc = stream_open(p, &p->out, &r.fd_out, e);
        if (rc == 0)
                rc = stream_open(p, &p->err, &r.fd_err, e);
        r.extra = files;
        r.n_extra = env_files(p->c, files);
        p->child.on_change = on_change;
        p->child.data = p;
        p->child.marker = p->cmd.marker;
        if (rc == 0)
                rc = child_spawn(p->c->loop, &p->child, &r, e);
        if (own_in)
                close_fd(r.fd_in);
        close_fd(r.fd_out);
        close_fd(r.fd_err);
        return rc;
}

/* Nothing runs. The call ends by itself once the handles that are open have closed. */
static void refuse(struct process *p, const char *code, const struct err *e)
{
        p->refused = true;
        p->trouble = *e;
        p->trouble_code = code;
        p->state = PROCESS_DRAINING;
        p->out.eof = p->err.eof = true;
        if (p->handles) {
                close_all(p);
                return;
        }
        p->state = PROCESS_CLOSING;
        finish(p);
}

int process_start(struct tool_call *c, const cJSON *input, struct err *e)
{
        struct process *p = mem_calloc(1, sizeof *p);
        const char *code = "spawn_failed";
        int rc;

        if (!p)
                return err_set(e, E_NOMEM, "out of memory");
        c->state = p;
        p->c = c;
        p->grace_ms = c->grace_ms;
        stream_init(p, &p->out, TOOL_STDOUT, STDOUT_TAIL);
        stream_init(p, &p->err, TOOL_STDERR, STDERR_TAIL);
        rc = command_build(&p->cmd, c, input, &code, e);
        if (rc == 0)
                rc = launch(p, e);
        if (rc) {
                /* Out of descriptors or processes: that passes, so the hub tries again. */
                if (rc == -E_FULL || rc == -E_AGAIN)
                        code = "agent_busy";
                code = spawn_error_code(rc, code);
                refuse(p, rc == -E_NOMEM ? "out_of_memory" : code, e);
                return 0;
        }
        rc = tool_owns_process(c, p->child.pid);
        if (rc) {
                p->refused = true;
                err_set(&p->trouble, -rc,
                        "the agent could not write down in its journal that it started the command");
                p->trouble_code = "journal_failed";
                p->hurry = true;
                kill_all(p);
                return 0;
        }
        if (p->cmd.timeout_ms && timer_start(p, p->cmd.timeout_ms) != 0) {
                out_of_memory(p);
                stop(p, p->grace_ms);
                return 0;
        }
        read_more(&p->out);
        read_more(&p->err);
        return 0;
}

void process_cancel(struct tool_call *c, int grace_ms)
{
        struct process *p = c->state;

        switch (p->state) {
        case PROCESS_RUNNING:
                p->cancelled = p->hurry = true;
                stop(p, grace_ms);
                break;
        case PROCESS_STOPPING:
                /* Asked again, perhaps with less patience. */
                p->hurry = true;
                if (uv_timer_get_due_in(&p->timer) > (uint64_t)(grace_ms < 0 ? 0 : grace_ms))
                        timer_start(p, grace_ms);
                break;
        case PROCESS_LINGER:
                p->hurry = true;
                kill_all(p);
                break;
        case PROCESS_KILLING:
        case PROCESS_DRAINING:
                /* It has ended by itself: its own result stands, only the wait for room is cut short. */
                p->hurry = true;
                drain_all(p);
                break;
        default:
                break;
        }
}

void process_stdin_data(struct tool_call *c, const void *v, size_t n, bool eof)
{
        feed_data(c->state, v, n, eof);
}

void process_output_room(struct tool_call *c)
{
        struct process *p = c->state;

        p->held = false;
        if (p->state < PROCESS_DRAINING) {
                read_more(&p->out);
                read_more(&p->err);
        } else {
                drain_all(p);
        }
}

void process_free(struct tool_call *c)
{
        struct process *p = c->state;

        if (!p)
                return;
        command_fini(&p->cmd);
        tool_filter_free(p->out.filter);
        tool_filter_free(p->err.filter);
        tail_fini(&p->out.tail);
        tail_fini(&p->err.tail);
        mem_free(p);
        c->state = NULL;
}

int process_end_leftovers(const char *scratch_root, int pid)
{
        char *marker = str_printf("PHOTON_OUTPUT=%s/", scratch_root);
        int n = marker ? spawn_kill_leftovers(pid, marker) : 0;

        mem_free(marker);
        return n;
}
