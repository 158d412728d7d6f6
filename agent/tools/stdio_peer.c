#include "agent/tools/stdio_peer.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "agent/tools/env.h"
#include "agent/tools/spawn.h"
#include "common/buf.h"
#include "common/err.h"
#include "common/json.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/str.h"

#define READ_SIZE    ((size_t)64 << 10)
#define SWEEP_MS     20
#define KILL_WAIT_MS 2000                /* for the kernel to end what was killed */
#define DRAIN_MAX    ((size_t)64 << 20)  /* a stranger who holds the pipe could write for ever */
#define KEEP_BYTES   ((size_t)256 << 10) /* a larger buffer is given back when it is empty */

enum peer_state { PEER_RUNNING, PEER_STOPPING, PEER_KILLING, PEER_DRAINING, PEER_CLOSING, PEER_GONE };

#define TO(s) (1u << (s))
static const struct {
        const char *name;
        unsigned next;
} states[] = {
        [PEER_RUNNING] = {"running", TO(PEER_STOPPING) | TO(PEER_KILLING)},
        [PEER_STOPPING] = {"stopping", TO(PEER_KILLING)},
        [PEER_KILLING] = {"killing", TO(PEER_DRAINING)},
        [PEER_DRAINING] = {"draining", TO(PEER_CLOSING)},
        [PEER_CLOSING] = {"closing", TO(PEER_GONE)},
        [PEER_GONE] = {"gone", 0},
};

struct stdio_peer {
        struct stdio_peer_options o;
        enum peer_state state;
        struct child child;
        char *marker;
        uv_pipe_t in, out, err, extra; /* extra: stdout while messages go over 3 and 4 */
        bool in_open, out_open, err_open, extra_open;
        bool out_reading, out_eof, err_reading, err_eof, held, abandoned, input_ends, skipping, delivering;
        uv_timer_t timer; /* of the state */
        uv_timer_t wake;  /* goes on after a hold */
        int handles;
        int waited_ms;
        size_t drained, queued;
        unsigned writes;
        struct buf line; /* what came since the last end of a message */
        size_t scanned;  /* bytes of it without an end */
        char tail[STDIO_STDERR_TAIL];
        size_t tail_len;
        char *tail_text;
};

static char read_buf[READ_SIZE];

static bool move(struct stdio_peer *p, enum peer_state to)
{
        if (!(states[p->state].next & TO(to))) {
                log_error("stdio_peer", "state move refused", "from=%s to=%s pid=%d", states[p->state].name,
                          states[to].name, (int)p->child.pid);
                return false;
        }
        p->state = to;
        return true;
}

static void kill_all(struct stdio_peer *p);
static void on_timer(uv_timer_t *t);
static void on_wake(uv_timer_t *t);

/* --- handles ------------------------------------------------------------------ */

static void gone(struct stdio_peer *p)
{
        if (!move(p, PEER_GONE))
                return;
        child_release(&p->child);
        if (p->abandoned)
                stdio_peer_free(p);
        else
                p->o.on_gone(p->o.arg);
}

static void on_handle_closed(uv_handle_t *h)
{
        struct stdio_peer *p = h->data;

        if (--p->handles == 0 && p->state == PEER_CLOSING)
                gone(p);
}

static void close_pipe(uv_pipe_t *u, bool *open)
{
        if (!*open)
                return;
        *open = false;
        uv_close((uv_handle_t *)u, on_handle_closed);
}

static void close_all(struct stdio_peer *p)
{
        if (!move(p, PEER_CLOSING))
                return;
        close_pipe(&p->in, &p->in_open);
        close_pipe(&p->out, &p->out_open);
        close_pipe(&p->err, &p->err_open);
        close_pipe(&p->extra, &p->extra_open);
        uv_close((uv_handle_t *)&p->timer, on_handle_closed);
        uv_close((uv_handle_t *)&p->wake, on_handle_closed);
}

/* --- messages ------------------------------------------------------------------- */

static void fault(struct stdio_peer *p, int code, const char *text, size_t n)
{
        struct err e = {0};

        err_set(&e, code, text, n);
        if (!p->abandoned && p->o.on_fault)
                p->o.on_fault(p->o.arg, &e);
}

static void deliver(struct stdio_peer *p, char *text, size_t n)
{
        if (!p->o.nul_ended && n > 0 && text[n - 1] == '\r')
                n--;
        text[n] = '\0';
        if (n > 0 && !p->abandoned)
                p->o.on_message(p->o.arg, text, n);
}

/* Hands over every whole message; what is left stays for the next read. A held peer keeps them. */
static void split(struct stdio_peer *p)
{
        char stop = p->o.nul_ended ? '\0' : '\n';
        size_t at = 0;

        if (p->delivering)
                return; /* a callback let go of the hold: the loop below goes on */
        p->delivering = true;
        while (!p->held) {
                char *base = (char *)p->line.data;
                char *end = p->line.len > at + p->scanned
                                    ? memchr(base + at + p->scanned, stop, p->line.len - at - p->scanned)
                                    : NULL;

                if (!end) {
                        p->scanned = p->line.len - at;
                        break;
                }
                p->scanned = 0;
                if (p->skipping)
                        p->skipping = false;
                else if ((size_t)(end - base) - at > p->o.line_max)
                        fault(p, E_TOOBIG, "the program wrote a message of more than %zu bytes",
                              p->o.line_max);
                else
                        deliver(p, base + at, (size_t)(end - base) - at);
                at = (size_t)(end - base) + 1;
        }
        p->delivering = false;
        buf_consume(&p->line, at);
        if (p->line.len > p->o.line_max && p->scanned == p->line.len) {
                if (!p->skipping)
                        fault(p, E_TOOBIG, "the program wrote a message of more than %zu bytes",
                              p->o.line_max);
                p->skipping = true;
                buf_fini(&p->line);
                p->scanned = 0;
        } else if (p->skipping && p->scanned == p->line.len) {
                buf_reset(&p->line);
                p->scanned = 0;
        }
        if (p->line.len == 0 && p->line.cap > KEEP_BYTES)
                buf_fini(&p->line);
}

/* One byte of room behind the text, so that a message can be ended in place, is the stop itself. */
static void take(struct stdio_peer *p, const char *v, size_t n)
{
        if (buf_put(&p->line, v, n)) {
                fault(p, E_NOMEM, "the agent has no memory left for what the program wrote (%zu bytes)", n);
                buf_fini(&p->line);
                p->scanned = 0;
                p->skipping = true;
                return;
        }
        split(p);
}

static void take_stderr(struct stdio_peer *p, const char *v, size_t n)
{
        size_t keep = n < sizeof p->tail ? n : sizeof p->tail, old = sizeof p->tail - keep;

        if (p->tail_len > old) {
                memmove(p->tail, p->tail + p->tail_len - old, old);
                p->tail_len = old;
        }
        memcpy(p->tail + p->tail_len, v + n - keep, keep);
        p->tail_len += keep;
        if (p->o.on_stderr && !p->abandoned)
                p->o.on_stderr(p->o.arg, v, n);
}

/* --- reading ------------------------------------------------------------------------ */

static void on_alloc(uv_handle_t *h, size_t want, uv_buf_t *b)
{
        (void)h;
        (void)want;
        *b = uv_buf_init(read_buf, sizeof read_buf);
}

static void out_ended(struct stdio_peer *p)
{
        if (p->out_eof)
                return;
        p->out_eof = true;
        p->out_reading = false;
        uv_read_stop((uv_stream_t *)&p->out);
        if (p->line.len > 0 && !p->skipping)
                fault(p, E_PROTO, "the program ended in the middle of a message (%zu bytes)", p->line.len);
        buf_fini(&p->line);
        p->scanned = 0;
        if (p->o.on_eof && !p->abandoned && p->state == PEER_RUNNING)
                p->o.on_eof(p->o.arg);
}

static void on_read(uv_stream_t *u, ssize_t n, const uv_buf_t *b)
{
        struct stdio_peer *p = u->data;

        if (n > 0)
                take(p, b->base, (size_t)n);
        else if (n < 0)
                out_ended(p);
}

static void on_read_err(uv_stream_t *u, ssize_t n, const uv_buf_t *b)
{
        struct stdio_peer *p = u->data;

        if (n > 0)
                take_stderr(p, b->base, (size_t)n);
        if (n >= 0)
                return;
        uv_read_stop(u);
        if (u == (uv_stream_t *)&p->err) {
                p->err_eof = true;
                p->err_reading = false;
        }
}

static void read_on(struct stdio_peer *p)
{
        if (p->held)
                return;
        if (p->out_open && !p->out_eof && !p->out_reading)
                p->out_reading = uv_read_start((uv_stream_t *)&p->out, on_alloc, on_read) == 0;
        if (p->err_open && !p->err_eof && !p->err_reading)
                p->err_reading = uv_read_start((uv_stream_t *)&p->err, on_alloc, on_read_err) == 0;
}

void stdio_peer_hold(struct stdio_peer *p, bool on)
{
        if (p->held == on)
                return;
        p->held = on;
        if (on) {
                if (p->out_reading)
                        uv_read_stop((uv_stream_t *)&p->out);
                if (p->err_reading)
                        uv_read_stop((uv_stream_t *)&p->err);
                p->out_reading = p->err_reading = false;
                return;
        }
        /* Never from within this call; and what is here already comes before anything is read. */
        if (p->state < PEER_CLOSING)
                uv_timer_start(&p->wake, on_wake, 0, 0);
}

/* --- the end ---------------------------------------------------------------------------- */

/* Nobody of it is left: what the pipes hold is all there will be. */
static void drain(struct stdio_peer *p)
{
        uv_os_fd_t fd;
        ssize_t n;

        split(p);
        if (p->held)
                return; /* comes back when the hold ends */
        while (p->out_open && !p->out_eof && !p->held && p->drained < DRAIN_MAX &&
               uv_fileno((uv_handle_t *)&p->out, &fd) == 0) {
                n = read(fd, read_buf, sizeof read_buf);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        break;
                p->drained += (size_t)n;
                take(p, read_buf, (size_t)n);
        }
        if (p->held)
                return;
        out_ended(p);
        while (p->err_open && uv_fileno((uv_handle_t *)&p->err, &fd) == 0 && p->drained < DRAIN_MAX) {
                n = read(fd, read_buf, sizeof read_buf);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        break;
                p->drained += (size_t)n;
                take_stderr(p, read_buf, (size_t)n);
        }
        if (p->state == PEER_DRAINING)
                close_all(p);
}

static void begin_drain(struct stdio_peer *p)
{
        if (!move(p, PEER_DRAINING))
                return;
        p->child.watch = false;
        uv_timer_stop(&p->timer);
        if (p->abandoned)
                p->held = false;
        if (p->out_reading)
                uv_read_stop((uv_stream_t *)&p->out);
        p->out_reading = false;
        uv_timer_start(&p->timer, on_timer, 0, 0);
}

static void kill_again(struct stdio_peer *p)
{
        int left = child_tree_signal(&p->child, SIGKILL);

        if (p->child.exited && left == 0) {
                begin_drain(p);
        } else if (p->waited_ms >= KILL_WAIT_MS) {
                log_warn("stdio_peer", "processes do not die", "pid=%d left=%d", (int)p->child.pid, left);
                begin_drain(p);
        } else {
                uv_timer_start(&p->timer, on_timer, SWEEP_MS, 0);
        }
}

static void on_timer(uv_timer_t *t)
{
        struct stdio_peer *p = t->data;

        switch (p->state) {
        case PEER_STOPPING:
                kill_all(p);
                break;
        case PEER_KILLING:
                p->waited_ms += SWEEP_MS;
                kill_again(p);
                break;
        case PEER_DRAINING:
                drain(p);
                break;
        default:
                break;
        }
}

static void on_wake(uv_timer_t *t)
{
        struct stdio_peer *p = t->data;

        if (p->state == PEER_DRAINING) {
                drain(p);
        } else if (p->state < PEER_DRAINING) {
                split(p);
                read_on(p);
        }
}

static void kill_all(struct stdio_peer *p)
{
        if (!move(p, PEER_KILLING))
                return;
        p->child.watch = true;
        p->waited_ms = 0;
        child_tree_signal(&p->child, SIGKILL);
        uv_timer_start(&p->timer, on_timer, 0, 0);
}

static void on_child(struct child *ch)
{
        struct stdio_peer *p = ch->data;

        if (p->state == PEER_KILLING) {
                if (ch->exited && child_tree_signal(ch, SIGKILL) == 0)
                        begin_drain(p);
        } else if (ch->exited && p->state < PEER_KILLING) {
                kill_all(p); /* what it left behind */
        }
}

void stdio_peer_stop(struct stdio_peer *p, int grace_ms)
{
        if (p->state >= PEER_KILLING)
                return;
        if (grace_ms <= 0) {
                kill_all(p);
                return;
        }
        if (p->state == PEER_STOPPING) {
                if (uv_timer_get_due_in(&p->timer) > (uint64_t)grace_ms)
                        uv_timer_start(&p->timer, on_timer, (uint64_t)grace_ms, 0);
                return;
        }
        if (!move(p, PEER_STOPPING))
                return;
        p->child.watch = true;
        child_tree_signal(&p->child, SIGTERM);
        uv_update_time(p->o.loop);
        uv_timer_start(&p->timer, on_timer, (uint64_t)grace_ms, 0);
}

void stdio_peer_interrupt(struct stdio_peer *p)
{
        if (p->state == PEER_RUNNING && !p->child.exited)
                kill(p->child.pid, SIGINT);
}

void stdio_peer_abandon(struct stdio_peer *p)
{
        if (!p)
                return;
        p->abandoned = true;
        p->held = false;
        if (p->state == PEER_GONE)
                stdio_peer_free(p);
        else if (p->state < PEER_KILLING)
                kill_all(p);
        else if (p->state == PEER_DRAINING)
                uv_timer_start(&p->timer, on_timer, 0, 0);
}

/* --- writing ------------------------------------------------------------------------------- */

struct piece {
        uv_write_t req;
        struct stdio_peer *p;
        size_t n;
        char data[];
};

static void on_written(uv_write_t *req, int status)
{
        struct piece *w = container_of(req, struct piece, req);
        struct stdio_peer *p = w->p;

        p->queued -= w->n;
        p->writes--;
        mem_free(w);
        /* A program that closes its input or is gone: the next send says so. */
        if (p->state < PEER_CLOSING && ((status && status != UV_ECANCELED) || (p->input_ends && !p->writes)))
                close_pipe(&p->in, &p->in_open);
}

int stdio_peer_send(struct stdio_peer *p, const void *text, size_t n)
{
        struct piece *w;
        uv_buf_t b;
        int rc;

        if (!p->in_open || p->input_ends || p->state != PEER_RUNNING)
                return -E_CLOSED;
        if (n > STDIO_LINE_MAX)
                return -E_TOOBIG;
        if (p->queued + n > STDIO_QUEUE_MAX)
                return -E_FULL;
        w = mem_alloc(sizeof *w + n + 1);
        if (!w)
                return -E_NOMEM;
        w->p = p;
        w->n = n + 1;
        memcpy(w->data, text, n);
        w->data[n] = p->o.nul_ended ? '\0' : '\n';
        b = uv_buf_init(w->data, (unsigned)(n + 1));
        rc = uv_write(&w->req, (uv_stream_t *)&p->in, &b, 1, on_written);
        if (rc) {
                mem_free(w);
                return -err_from_errno(-rc);
        }
        p->queued += n + 1;
        p->writes++;
        return 0;
}

int stdio_peer_send_json(struct stdio_peer *p, const cJSON *v)
{
        char *text = json_text(v);
        int rc = text ? stdio_peer_send(p, text, strlen(text)) : -E_NOMEM;

        mem_free(text);
        return rc;
}

void stdio_peer_end_input(struct stdio_peer *p)
{
        p->input_ends = true;
        if (p->writes == 0 && p->state < PEER_CLOSING)
                close_pipe(&p->in, &p->in_open);
}

/* --- the beginning ---------------------------------------------------------------------------- */

static int open_pipe(struct stdio_peer *p, uv_pipe_t *u, bool *open, bool child_writes, int *fd_child,
                     struct err *e)
{
        int fds[2], rc;

        if (pipe2(fds, O_CLOEXEC) != 0)
                return err_set(e, err_from_errno(errno), "cannot make a pipe: %s", strerror(errno));
        rc = uv_pipe_init(p->o.loop, u, 0);
        if (rc == 0) {
                u->data = p;
                *open = true;
                p->handles++;
                rc = uv_pipe_open(u, fds[child_writes ? 0 : 1]);
        }
        if (rc) {
                close(fds[0]);
                close(fds[1]);
                return err_set(e, err_from_errno(-rc), "cannot open a pipe: %s", uv_strerror(rc));
        }
        *fd_child = fds[child_writes ? 1 : 0];
        return 0;
}

/* Out of the way of 3 and 4; the old number is closed. */
static int raise_fd(int *fd)
{
        int high = fcntl(*fd, F_DUPFD_CLOEXEC, SPAWN_EXTRA_FD);

        if (high < 0)
                return -err_from_errno(errno);
        close(*fd);
        *fd = high;
        return 0;
}

static int launch(struct stdio_peer *p, struct err *e)
{
        int fd_in = -1, fd_out = -1, fd_err = -1, fd_extra = -1, extra[TOOL_FILES_MAX];
        struct spawn_request r = {.path = p->o.path,
                                  .argv = p->o.argv,
                                  .env = p->o.env,
                                  .cwd = p->o.cwd,
                                  .tool = p->o.tool,
                                  .wait = true};
        int rc = open_pipe(p, &p->in, &p->in_open, false, &fd_in, e);

        if (!rc)
                rc = open_pipe(p, &p->out, &p->out_open, true, &fd_out, e);
        if (!rc)
                rc = open_pipe(p, &p->err, &p->err_open, true, &fd_err, e);
        if (!rc && p->o.fds_3_4)
                rc = open_pipe(p, &p->extra, &p->extra_open, true, &fd_extra, e);
        if (!rc && p->o.fds_3_4 && (raise_fd(&fd_in) || raise_fd(&fd_out)))
                rc = err_set(e, E_FULL, "too many open files");
        if (!rc) {
                extra[0] = fd_in;
                extra[1] = fd_out;
                r.fd_in = p->o.fds_3_4 ? spawn_devnull() : fd_in;
                r.fd_out = p->o.fds_3_4 ? fd_extra : fd_out;
                r.fd_err = fd_err;
                r.extra = extra;
                r.n_extra = p->o.fds_3_4 ? 2 : p->o.call ? env_files(p->o.call, extra) : 0;
                p->child.on_change = on_child;
                p->child.data = p;
                p->child.marker = p->marker;
                rc = child_spawn(p->o.loop, &p->child, &r, e);
        }
        for (int i = 0; i < 4; i++) {
                int fd = (const int[]){fd_in, fd_out, fd_err, fd_extra}[i];

                if (fd >= 0)
                        close(fd);
        }
        return rc;
}

static void on_failed_closed(uv_handle_t *h)
{
        struct stdio_peer *p = h->data;

        if (--p->handles == 0)
                stdio_peer_free(p);
}

static void close_failed(uv_pipe_t *u, bool open)
{
        if (open)
                uv_close((uv_handle_t *)u, on_failed_closed);
}

int stdio_peer_start(const struct stdio_peer_options *o, struct stdio_peer **out, struct err *e)
{
        struct stdio_peer *p = mem_calloc(1, sizeof *p);
        int rc;

        if (!p)
                return err_set(e, E_NOMEM, "out of memory");
        p->o = *o;
        if (p->o.line_max == 0)
                p->o.line_max = STDIO_LINE_MAX;
        buf_init(&p->line, p->o.line_max + 2 * READ_SIZE);
        if (o->marker && !(p->marker = mem_strdup(o->marker))) {
                mem_free(p);
                return err_set(e, E_NOMEM, "out of memory");
        }
        uv_timer_init(o->loop, &p->timer);
        uv_timer_init(o->loop, &p->wake);
        p->timer.data = p->wake.data = p;
        p->handles += 2;
        rc = launch(p, e);
        if (rc) {
                close_failed(&p->in, p->in_open);
                close_failed(&p->out, p->out_open);
                close_failed(&p->err, p->err_open);
                close_failed(&p->extra, p->extra_open);
                uv_close((uv_handle_t *)&p->timer, on_failed_closed);
                uv_close((uv_handle_t *)&p->wake, on_failed_closed);
                return rc;
        }
        p->o.path = p->o.cwd = p->o.marker = p->o.tool = NULL;
        p->o.argv = p->o.env = NULL;
        if (p->extra_open)
                uv_read_start((uv_stream_t *)&p->extra, on_alloc, on_read_err);
        read_on(p);
        *out = p;
        return 0;
}

void stdio_peer_free(struct stdio_peer *p)
{
        if (!p)
                return;
        buf_fini(&p->line);
        mem_free(p->marker);
        mem_free(p->tail_text);
        mem_free(p);
}

pid_t stdio_peer_pid(const struct stdio_peer *p)
{
        return p->child.pid;
}

bool stdio_peer_exited(const struct stdio_peer *p, int *out_code, int *out_signal)
{
        if (p->child.exited && out_code)
                *out_code = p->child.code;
        if (p->child.exited && out_signal)
                *out_signal = p->child.signal;
        return p->child.exited;
}

const char *stdio_peer_stderr(struct stdio_peer *p)
{
        mem_free(p->tail_text);
        p->tail_text = str_utf8_lossy(p->tail, p->tail_len);
        return p->tail_text ? p->tail_text : "";
}
