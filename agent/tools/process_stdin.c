/* Standard input of a command: /dev/null, a text from the input, or a stream
 * that the job hands on with back-pressure. */
#include "agent/tools/process_in.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/err.h"
#include "common/mem.h"

struct piece {
        uv_write_t req;
        struct process *p;
        bool streamed;
        size_t n;
        char data[];
};

static void on_closed(uv_handle_t *h)
{
        process_handle_closed(h->data);
}

void feed_close(struct process *p)
{
        if (!p->in.open)
                return;
        p->in.open = false;
        uv_close((uv_handle_t *)&p->in.pipe, on_closed);
}

static void report(struct process *p)
{
        if (p->c->stdin_follows)
                tool_stdin_taken(p->c, p->in.taken, p->in.broken || !p->in.open);
}

static void on_written(uv_write_t *req, int status)
{
        struct piece *w = (struct piece *)(void *)req;
        struct process *p = w->p;

        p->in.writes--;
        if (status == 0 && w->streamed)
                p->in.taken += w->n;
        mem_free(w);
        /* The command closed its end or is gone. That is its right, not an error. */
        if (status != 0 && status != UV_ECANCELED)
                p->in.broken = true;
        if (p->state >= PROCESS_DRAINING)
                return;
        if (p->in.broken || (p->in.eof && p->in.writes == 0))
                feed_close(p);
        report(p);
}

static int push(struct process *p, const void *v, size_t n, bool streamed)
{
        struct piece *w = mem_alloc(sizeof *w + n);
        uv_buf_t b;
        int rc;

        if (!w)
                return -E_NOMEM;
        w->p = p;
        w->n = n;
        w->streamed = streamed;
        memcpy(w->data, v, n);
        b = uv_buf_init(w->data, (unsigned)n);
        rc = uv_write(&w->req, (uv_stream_t *)&p->in.pipe, &b, 1, on_written);
        if (rc) {
                mem_free(w);
                return -err_from_errno(-rc);
        }
        p->in.writes++;
        return 0;
}

/* What fits into the pipe at once needs no handle. Returns what was written. */
static size_t write_now(int fd, const char *s, size_t n)
{
        size_t at = 0;

        while (at < n) {
                ssize_t k = write(fd, s + at, n - at);

                if (k < 0 && errno == EINTR)
                        continue;
                if (k <= 0)
                        break;
                at += (size_t)k;
        }
        return at;
}

int feed_open(struct process *p, int *fd_child, bool *own, struct err *e)
{
        const char *text = p->cmd.stdin_text;
        size_t n = text ? strlen(text) : 0, done = 0;
        int fds[2], rc;

        *own = false;
        if (!p->c->stdin_follows && n == 0) {
                *fd_child = spawn_devnull();
                return *fd_child < 0 ? err_set(e, E_IO, "cannot open /dev/null") : 0;
        }
        if (pipe2(fds, O_CLOEXEC) != 0)
                return err_set(e, err_from_errno(errno), "cannot make a pipe: %s", strerror(errno));
        if (fcntl(fds[1], F_SETFL, O_NONBLOCK) == 0 && text)
                done = write_now(fds[1], text, n);
        if (text && done == n) {
                close(fds[1]);
        } else {
                rc = uv_pipe_init(p->c->loop, &p->in.pipe, 0);
                if (rc == 0) {
                        p->in.pipe.data = p;
                        p->in.open = true;
                        p->handles++;
                        rc = uv_pipe_open(&p->in.pipe, fds[1]);
                }
                if (rc) {
                        close(fds[0]);
                        close(fds[1]);
                        return err_set(e, err_from_errno(-rc), "cannot open standard input: %s",
                                       uv_strerror(rc));
                }
                rc = text ? push(p, text + done, n - done, false) : 0;
                p->in.eof = text != NULL;
                if (rc) {
                        close(fds[0]);
                        return err_set(e, -rc, "cannot write standard input");
                }
        }
        *fd_child = fds[0];
        *own = true;
        return 0;
}

void feed_data(struct process *p, const void *v, size_t n, bool eof)
{
        if (!p->in.open || p->in.eof) {
                report(p);
                return;
        }
        p->in.eof = eof;
        if (n && push(p, v, n, true) != 0)
                p->in.broken = true;
        if (p->in.broken || (p->in.eof && p->in.writes == 0)) {
                feed_close(p);
                report(p);
        }
}
