/* Reading records, from a file that may grow meanwhile or from memory.
 *
 * Each call starts with a fresh window on the file: what was published is never
 * changed again, what was not yet published may have been cut off since. */
#include "hub/logs/logs_impl.h"

#include "common/buf.h"
#include "common/err.h"
#include "common/mem.h"
#include "common/str.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define WINDOW      (64 << 10)
#define WINDOW_SKIP 4096 /* when only headers are wanted */

struct log_reader {
        int fd;         /* -1: from memory */
        uint8_t *win;   /* WINDOW bytes, or all of the memory */
        int64_t win_at; /* where in the file the window lies */
        size_t win_len;
        int64_t pos;         /* of the record in hand */
        uint64_t rec_offset; /* payload bytes before it */
        uint64_t offset;     /* delivered up to here */
};

struct record {
        int channel;
        uint32_t len;
        int64_t at_us;
};

/* ---- the window ---- */

static int refill(struct log_reader *r, int64_t at, size_t want)
{
        r->win_at = at;
        r->win_len = 0;
        while (r->win_len < want) {
                ssize_t n = pread(r->fd, r->win + r->win_len, want - r->win_len, at + (int64_t)r->win_len);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -err_from_errno(errno);
                if (n == 0)
                        break;
                r->win_len += (size_t)n;
        }
        return 0;
}

/* How many bytes from `at` on are in the window; tries to have `need` of them, at most WINDOW, reading
 * `ahead`. */
static int look(struct log_reader *r, int64_t at, size_t need, size_t ahead, size_t *out_n)
{
        int rc = 0;

        if (r->fd >= 0 && (at < r->win_at || at + (int64_t)need > r->win_at + (int64_t)r->win_len))
                rc = refill(r, at, ahead);
        *out_n = at >= r->win_at && at < r->win_at + (int64_t)r->win_len
                         ? (size_t)(r->win_at + (int64_t)r->win_len - at)
                         : 0;
        return rc;
}

static int whole_size(struct log_reader *r, int64_t *out)
{
        struct stat st;

        if (r->fd < 0) {
                *out = (int64_t)r->win_len;
                return 0;
        }
        if (fstat(r->fd, &st) != 0)
                return -err_from_errno(errno);
        *out = st.st_size;
        return 0;
}

/* 1: the record at pos is whole, its header in *rec. 0: no more for now. */
static int read_header(struct log_reader *r, size_t ahead, struct record *rec)
{
        const uint8_t *p;
        int64_t size = 0;
        size_t n;
        int rc = look(r, r->pos, LOGS_RECORD_HEADER, ahead, &n);

        if (rc)
                return rc;
        p = r->win + (r->pos - r->win_at);
        if (n < LOGS_RECORD_HEADER || p[0] == 0)
                return 0;
        rec->channel = p[0];
        rec->len = u32be_load(p + 4);
        rec->at_us = (int64_t)u64be_load(p + 8);
        if (rec->channel > LOG_EVENT || p[1] || p[2] || p[3] || rec->len == 0 || rec->len > LOGS_RECORD_MAX)
                return -E_CORRUPT;
        if (n - LOGS_RECORD_HEADER >= rec->len)
                return 1;
        rc = whole_size(r, &size);
        if (rc)
                return rc;
        return r->pos + LOGS_RECORD_HEADER + (int64_t)rec->len <= size;
}

static void pass(struct log_reader *r, const struct record *rec)
{
        r->pos += LOGS_RECORD_HEADER + (int64_t)rec->len;
        r->rec_offset += rec->len;
}

static void forget_window(struct log_reader *r)
{
        if (r->fd >= 0)
                r->win_len = 0;
}

/* Passes records that end at or before `offset`. 1: the next one has more; 0: no more records for now. */
static int skip_to(struct log_reader *r, uint64_t offset, struct record *rec)
{
        for (;;) {
                size_t ahead = r->rec_offset < offset ? WINDOW_SKIP : WINDOW;
                int rc = read_header(r, ahead, rec);

                if (rc != 1 || offset - r->rec_offset < rec->len)
                        return rc;
                pass(r, rec);
        }
}

int log_measure(int fd, uint64_t *out_end, int64_t *out_size)
{
        struct log_reader r = {.fd = fd, .win = mem_alloc(WINDOW)};
        struct record rec;
        int rc;

        if (!r.win)
                return -E_NOMEM;
        rc = skip_to(&r, UINT64_MAX, &rec);
        mem_free(r.win);
        *out_end = r.rec_offset;
        *out_size = r.pos;
        return rc;
}

/* ---- the reader ---- */

int log_reader_open(const char *dir, uint64_t attempt_id, struct log_reader **out)
{
        struct log_reader *r = mem_calloc(1, sizeof *r);
        char *logs = str_printf("%s/logs", dir);
        char *path = logs ? log_path(logs, attempt_id) : NULL;
        int rc = -E_NOMEM;

        if (r) {
                r->fd = -1;
                r->win = mem_alloc(WINDOW);
        }
        if (r && r->win && path) {
                r->fd = open(path, O_RDONLY | O_CLOEXEC);
                rc = r->fd < 0 ? -err_from_errno(errno) : 0;
        }
        mem_free(path);
        mem_free(logs);
        if (rc)
                log_reader_close(r);
        else
                *out = r;
        return rc;
}

int log_reader_open_mem(const void *framed, size_t n, struct log_reader **out)
{
        struct log_reader *r = mem_calloc(1, sizeof *r);

        if (r) {
                r->fd = -1;
                r->win = mem_dup(framed, n);
        }
        if (!r || !r->win) {
                log_reader_close(r);
                return -E_NOMEM;
        }
        r->win_len = n;
        *out = r;
        return 0;
}

void log_reader_close(struct log_reader *r)
{
        if (!r)
                return;
        if (r->fd >= 0)
                close(r->fd);
        mem_free(r->win);
        mem_free(r);
}

int log_reader_next(struct log_reader *r, size_t max,
                    int (*cb)(void *arg, uint64_t offset, int channel, const void *p, size_t n,
                              int64_t at_us),
                    void *arg)
{
        struct record rec;

        forget_window(r);
        while (max > 0) {
                uint64_t inner;
                int64_t at;
                size_t want, n;
                int rc = skip_to(r, r->offset, &rec);

                if (rc != 1)
                        return rc;
                inner = r->offset - r->rec_offset;
                want = rec.len - inner < max ? (size_t)(rec.len - inner) : max;
                if (want > WINDOW && r->fd >= 0)
                        want = WINDOW;
                at = r->pos + LOGS_RECORD_HEADER + (int64_t)inner;
                rc = look(r, at, want, WINDOW, &n);
                if (rc)
                        return rc;
                if (n < want)
                        return 0; /* the file was cut off under us */
                rc = cb(arg, r->offset, rec.channel, r->win + (at - r->win_at), want, rec.at_us);
                if (rc)
                        return rc;
                r->offset += want;
                max -= want;
        }
        return 0;
}

int log_reader_seek(struct log_reader *r, uint64_t offset)
{
        if (offset < r->rec_offset) {
                r->pos = 0;
                r->rec_offset = 0;
        }
        r->offset = offset;
        return 0;
}

uint64_t log_reader_offset(const struct log_reader *r)
{
        return r->offset;
}
