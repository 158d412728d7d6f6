#include "hub/http/attempt_log.h"

#include <string.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/mem.h"
#include "common/str.h"
#include "hub/logs/logs.h"
#include "hub/store/store.h"

#define PIECE     (64u << 10)
#define TAIL_BACK 16 /* times `max`: other channels lie between */

static int open_small(struct store_reader *r, uint64_t attempt_id, struct log_reader **out)
{
        char *framed = NULL;
        size_t n = 0;
        int rc = read_small_output(r, attempt_id, &framed, &n);

        if (!rc)
                rc = log_reader_open_mem(framed, n, out);
        mem_free(framed);
        return rc;
}

/* The file comes first: what is in it is live. The database has what came with the
 * result, so it is asked only when the attempt is over. */
int attempt_log_open(const char *dir, struct store_reader *r, uint64_t attempt_id, bool over,
                     struct log_reader **out)
{
        int rc = log_reader_open(dir, attempt_id, out);

        return rc == -E_NOENT && over ? open_small(r, attempt_id, out) : rc;
}

/* Bytes at the end that begin a character without finishing it. */
static size_t unfinished(const uint8_t *p, size_t n)
{
        for (size_t back = 1; back <= 3 && back <= n; back++) {
                uint8_t c = p[n - back];
                size_t whole = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 1;

                if ((c & 0xc0) == 0x80)
                        continue;
                return whole > back ? back : 0;
        }
        return 0;
}

static int put_text(struct buf *out, const uint8_t *p, size_t n)
{
        char *text = str_utf8_lossy(p, n);
        int rc = text ? buf_puts(out, text) : -E_NOMEM;

        mem_free(text);
        return rc;
}

struct slice {
        struct buf raw;
        unsigned channels;
        size_t max;
        uint64_t next;     /* behind what was looked at */
        uint64_t where[4]; /* the places of raw's last bytes, by their index: other channels lie between */
        bool full;
        int rc;
};

static int on_piece(void *arg, uint64_t offset, int channel, const void *p, size_t n, int64_t at_us)
{
        struct slice *s = arg;
        size_t left = s->max - s->raw.len;

        (void)at_us;
        if (channel < 0 || channel > 31 || !(s->channels & 1u << channel)) {
                s->next = offset + n;
                return 0;
        }
        if (n > left) {
                n = left;
                s->full = true;
        }
        for (size_t i = n > 4 ? n - 4 : 0; i < n; i++)
                s->where[(s->raw.len + i) % 4] = offset + i;
        s->rc = buf_put(&s->raw, p, n);
        s->next = offset + n;
        return s->rc ? s->rc : s->full;
}

int attempt_log_text(struct log_reader *r, unsigned channels, size_t max, bool over, struct buf *out,
                     uint64_t *next, bool *more)
{
        struct slice s = {.channels = channels, .max = max, .next = log_reader_offset(r)};
        uint64_t before;
        size_t back;
        int rc;

        buf_init(&s.raw, 0);
        do {
                before = log_reader_offset(r);
                rc = log_reader_next(r, PIECE, on_piece, &s);
        } while (!rc && log_reader_offset(r) != before);
        if (rc > 0)
                rc = 0;
        back = over && !s.full ? 0 : unfinished(s.raw.data, s.raw.len);
        if (back == s.raw.len && s.full)
                back = 0; /* `max` is shorter than a character: go on all the same */
        if (!rc && s.raw.len)
                rc = put_text(out, s.raw.data, s.raw.len - back);
        if (!rc) {
                *next = back ? s.where[(s.raw.len - back) % 4] : s.next;
                *more = s.full;
                rc = log_reader_seek(r, *next);
        }
        buf_fini(&s.raw);
        return rc;
}

struct tail {
        struct buf raw;
        unsigned channels;
        size_t max;
        bool cut;
};

static int on_tail(void *arg, uint64_t offset, int channel, const void *p, size_t n, int64_t at_us)
{
        struct tail *t = arg;
        int rc;

        (void)offset;
        (void)at_us;
        if (channel < 0 || channel > 31 || !(t->channels & 1u << channel))
                return 0;
        rc = buf_put(&t->raw, p, n);
        if (!rc && t->raw.len > t->max) {
                t->cut = true;
                buf_consume(&t->raw, t->raw.len - t->max);
        }
        return rc;
}

int attempt_log_tail(struct log_reader *r, unsigned channels, size_t max, uint64_t end, struct buf *out,
                     bool *cut)
{
        struct tail t = {.channels = channels, .max = max};
        uint64_t back = (uint64_t)max * TAIL_BACK, before;
        size_t skip = 0;
        int rc;

        buf_init(&t.raw, 0);
        t.cut = end > back;
        rc = t.cut ? log_reader_seek(r, end - back) : 0;
        while (!rc) {
                before = log_reader_offset(r);
                rc = log_reader_next(r, PIECE, on_tail, &t);
                if (log_reader_offset(r) == before)
                        break;
        }
        while (t.cut && skip < t.raw.len && skip < 3 && (t.raw.data[skip] & 0xc0) == 0x80)
                skip++;
        if (!rc && t.raw.len > skip)
                rc = put_text(out, t.raw.data + skip, t.raw.len - skip);
        if (!rc)
                *cut = t.cut;
        buf_fini(&t.raw);
        return rc;
}
