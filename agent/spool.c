#include "agent/spool.h"

#include "agent/journal_record.h"
#include "common/buf.h"
#include "common/err.h"
#include "common/file.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/str.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* Record head, big-endian: magic, u32 length, u64 offset, u64 time, u32 channel, u32 CRC of the head. */
#define HEAD 32
static const uint8_t magic[4] = {'P', 'O', 'C', '1'};

struct spool_seg {
        struct list link;
        char *path;
        int fd; /* for writing; -1: closed */
        uint64_t base, end;
        uint64_t file_bytes;
};

struct head {
        uint64_t off;
        uint32_t len;
        int channel;
        int64_t at_us;
};

static void head_store(const struct head *h, uint8_t out[HEAD])
{
        memcpy(out, magic, sizeof magic);
        u32be_store(out + 4, h->len);
        u64be_store(out + 8, h->off);
        u64be_store(out + 16, (uint64_t)h->at_us);
        u32be_store(out + 24, (uint32_t)h->channel);
        u32be_store(out + 28, record_crc32(0, out, 28));
}

static int head_load(const uint8_t *p, struct head *h)
{
        if (memcmp(p, magic, sizeof magic) != 0 || u32be_load(p + 28) != record_crc32(0, p, 28))
                return -E_CORRUPT;
        h->len = u32be_load(p + 4);
        h->off = u64be_load(p + 8);
        h->at_us = (int64_t)u64be_load(p + 16);
        h->channel = (int)u32be_load(p + 24);
        return h->len && h->len <= SPOOL_RECORD_MAX ? 0 : -E_CORRUPT;
}

static bool name_parse(const char *name, uint64_t *id, uint64_t *base)
{
        int used = 0;

        return sscanf(name, "%20" SCNu64 "-%20" SCNu64 ".out%n", id, base, &used) == 2 && used > 0 &&
               name[used] == '\0';
}

/* Calls fn for each file of the folder that is named like ours. */
static int dir_each(const char *path, int (*fn)(const char *file, uint64_t id, uint64_t base, void *arg),
                    void *arg, struct err *e)
{
        DIR *d = opendir(path);
        struct dirent *de;
        int rc = 0;

        if (!d)
                return err_set(e, err_from_errno(errno), "cannot read the folder %s: %s", path,
                               strerror(errno));
        while (!rc && (de = readdir(d))) {
                uint64_t id, base;
                char *file;

                if (!name_parse(de->d_name, &id, &base))
                        continue;
                file = path_join(path, de->d_name);
                rc = file ? fn(file, id, base, arg) : -E_NOMEM;
                mem_free(file);
        }
        closedir(d);
        return rc;
}

static int count_file(const char *file, uint64_t id, uint64_t base, void *arg)
{
        struct spool_dir *d = arg;
        struct stat st;

        (void)id;
        (void)base;
        if (stat(file, &st) == 0)
                d->bytes += (uint64_t)st.st_size;
        return 0;
}

int spool_dir_open(const char *path, struct spool_dir *d, struct err *e)
{
        int rc = file_mkdir_private(path, e);

        d->path = NULL;
        d->bytes = 0;
        if (rc)
                return rc;
        d->path = mem_strdup(path);
        if (!d->path)
                return err_set(e, E_NOMEM, "no memory for the spool");
        rc = dir_each(path, count_file, d, e);
        if (rc)
                spool_dir_fini(d);
        return rc;
}

void spool_dir_fini(struct spool_dir *d)
{
        mem_free(d->path);
        d->path = NULL;
}

struct sweep {
        struct spool_dir *d;
        bool (*keep)(uint64_t attempt_id, void *arg);
        void *arg;
};

static void forget_bytes(struct spool_dir *d, uint64_t n)
{
        d->bytes -= n < d->bytes ? n : d->bytes;
}

static int sweep_file(const char *file, uint64_t id, uint64_t base, void *arg)
{
        struct sweep *s = arg;
        struct stat st;

        (void)base;
        if (s->keep(id, s->arg))
                return 0;
        if (stat(file, &st) == 0 && unlink(file) == 0)
                forget_bytes(s->d, (uint64_t)st.st_size);
        return 0;
}

void spool_dir_sweep(struct spool_dir *d, bool (*keep)(uint64_t attempt_id, void *arg), void *arg)
{
        struct sweep s = {d, keep, arg};
        struct err e = {0};

        if (dir_each(d->path, sweep_file, &s, &e))
                log_warn("spool", "left-over files stay", "error=%s", e.msg);
}

void spool_init(struct spool *s, struct spool_dir *d, uint64_t attempt_id)
{
        memset(s, 0, sizeof *s);
        s->dir = d;
        s->attempt_id = attempt_id;
        s->read_fd = -1;
        list_init(&s->segs);
}

static void seg_close(struct spool_seg *g)
{
        if (g->fd >= 0)
                close(g->fd);
        g->fd = -1;
}

static void read_close(struct spool *s)
{
        if (s->read_fd >= 0)
                close(s->read_fd);
        s->read_fd = -1;
        s->read_seg = NULL;
}

static void seg_free(struct spool *s, struct spool_seg *g, bool unlink_file)
{
        if (s->read_seg == g)
                read_close(s);
        if (s->tail == g)
                s->tail = NULL;
        if (s->front == g)
                s->front = NULL;
        list_remove(&g->link);
        seg_close(g);
        if (unlink_file) {
                if (unlink(g->path))
                        log_warn("spool", "cannot delete", "file=%s error=%s", g->path, strerror(errno));
                forget_bytes(s->dir, g->file_bytes);
        }
        mem_free(g->path);
        mem_free(g);
}

static int seg_make(struct spool *s, uint64_t base, const char *path, struct spool_seg **out)
{
        struct spool_seg *g = mem_calloc(1, sizeof *g);

        if (!g)
                return -E_NOMEM;
        list_init(&g->link);
        g->fd = -1;
        g->base = g->end = base;
        g->path = path ? mem_strdup(path)
                       : str_printf("%s/%" PRIu64 "-%" PRIu64 ".out", s->dir->path, s->attempt_id, base);
        if (!g->path) {
                mem_free(g);
                return -E_NOMEM;
        }
        *out = g;
        return 0;
}

/* Reads the heads to learn how far the file is whole. */
static int seg_scan(struct spool_seg *g, uint64_t *out_good)
{
        int fd = open(g->path, O_RDONLY | O_CLOEXEC);
        uint8_t raw[HEAD];
        struct stat st;
        uint64_t pos = 0;
        struct head h;

        if (fd < 0 || fstat(fd, &st)) {
                if (fd >= 0)
                        close(fd);
                return -err_from_errno(errno);
        }
        g->file_bytes = (uint64_t)st.st_size;
        while (pread(fd, raw, HEAD, (off_t)pos) == HEAD && head_load(raw, &h) == 0 && h.off == g->end &&
               pos + HEAD + h.len <= (uint64_t)st.st_size) {
                g->end += h.len;
                pos += HEAD + h.len;
        }
        close(fd);
        *out_good = pos;
        return 0;
}

static void insert_sorted(struct list *segs, struct spool_seg *g)
{
        struct list *at = segs->prev;

        while (at != segs && container_of(at, struct spool_seg, link)->base > g->base)
                at = at->prev;
        list_push_front(at, &g->link); /* right behind `at` */
}

static int load_file(const char *file, uint64_t id, uint64_t base, void *arg)
{
        struct spool *s = arg;
        struct spool_seg *g;
        uint64_t good = 0;
        int rc;

        if (id != s->attempt_id)
                return 0;
        rc = seg_make(s, base, file, &g);
        if (rc)
                return rc;
        rc = seg_scan(g, &good);
        if (!rc && good < g->file_bytes)
                log_warn("spool", "torn tail ignored", "file=%s bytes=%" PRIu64, file, g->file_bytes - good);
        if (rc || g->end == g->base) {
                seg_free(s, g, !rc);
                return rc;
        }
        insert_sorted(&s->segs, g);
        return 0;
}

int spool_load(struct spool *s, struct err *e)
{
        uint64_t end = 0;
        bool first = true;
        int rc = dir_each(s->dir->path, load_file, s, e);

        if (rc)
                return rc;
        /* Only an unbroken sequence can be sent; what was held in memory between two parts is gone. */
        LIST_EACH_SAFE (l, nx, &s->segs) {
                struct spool_seg *g = container_of(l, struct spool_seg, link);

                if (!first && g->base > end) {
                        seg_free(s, g, true);
                        continue;
                }
                first = false;
                if (g->end > end)
                        end = g->end;
        }
        return 0;
}

void spool_fini(struct spool *s)
{
        read_close(s);
        LIST_EACH_SAFE (l, nx, &s->segs)
                seg_free(s, container_of(l, struct spool_seg, link), false);
}

void spool_drop(struct spool *s)
{
        read_close(s);
        LIST_EACH_SAFE (l, nx, &s->segs)
                seg_free(s, container_of(l, struct spool_seg, link), true);
}

bool spool_empty(const struct spool *s)
{
        return list_empty(&s->segs);
}

uint64_t spool_base(const struct spool *s)
{
        return spool_empty(s) ? 0 : container_of(s->segs.next, struct spool_seg, link)->base;
}

uint64_t spool_end(const struct spool *s)
{
        return spool_empty(s) ? 0 : container_of(s->segs.prev, struct spool_seg, link)->end;
}

static int seg_open(struct spool *s, uint64_t base, bool front, struct spool_seg **out)
{
        struct spool_seg *g;
        int rc = seg_make(s, base, NULL, &g);

        if (rc)
                return rc;
        g->fd = open(g->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (g->fd < 0) {
                rc = -err_from_errno(errno);
                mem_free(g->path);
                mem_free(g);
                return rc;
        }
        if (front)
                list_push_front(&s->segs, &g->link);
        else
                list_push_back(&s->segs, &g->link);
        *out = g;
        return 0;
}

static int seg_write(struct spool *s, struct spool_seg *g, uint64_t off, int channel, int64_t at_us,
                     const void *p, size_t n)
{
        struct head h = {.off = off, .len = (uint32_t)n, .channel = channel, .at_us = at_us};
        uint8_t raw[HEAD];
        struct iovec iov[2] = {{raw, HEAD}, {(void *)(uintptr_t)p, n}};
        ssize_t w;

        head_store(&h, raw);
        w = pwritev(g->fd, iov, 2, (off_t)g->file_bytes);
        if (w == (ssize_t)(HEAD + n)) {
                g->file_bytes += HEAD + n;
                g->end += n;
                s->dir->bytes += HEAD + n;
                return 0;
        }
        if (w < 0)
                return -err_from_errno(errno);
        if (ftruncate(g->fd, (off_t)g->file_bytes))
                log_warn("spool", "cannot cut a torn record", "file=%s error=%s", g->path, strerror(errno));
        return -E_NOSPACE; /* a short write to a file means a full disk */
}

static int put_records(struct spool *s, struct spool_seg *g, uint64_t off, int channel, int64_t at_us,
                       const uint8_t *p, size_t n)
{
        int rc = 0;

        while (n > 0 && !rc) {
                size_t part = n > SPOOL_RECORD_MAX ? SPOOL_RECORD_MAX : n;

                rc = seg_write(s, g, off, channel, at_us, p, part);
                p += part;
                off += part;
                n -= part;
        }
        return rc;
}

int spool_put(struct spool *s, uint64_t off, int channel, int64_t at_us, const void *p, size_t n)
{
        struct spool_seg *g = s->tail;
        uint64_t file_was, end_was;
        bool made = false;
        int rc;

        if (g && g->file_bytes + n > SPOOL_SEGMENT) {
                seg_close(g);
                g = s->tail = NULL;
        }
        if (!g) {
                rc = seg_open(s, off, false, &g);
                if (rc)
                        return rc;
                s->tail = g;
                made = true;
        }
        file_was = g->file_bytes;
        end_was = g->end;
        rc = put_records(s, g, off, channel, at_us, p, n);
        if (!rc)
                return 0;
        forget_bytes(s->dir, g->file_bytes - file_was);
        g->file_bytes = file_was;
        g->end = end_was;
        if (ftruncate(g->fd, (off_t)file_was))
                log_warn("spool", "cannot cut a torn record", "file=%s error=%s", g->path, strerror(errno));
        if (made)
                seg_free(s, g, true);
        return rc;
}

int spool_put_front(struct spool *s, uint64_t off, int channel, int64_t at_us, const void *p, size_t n)
{
        int rc = 0;

        if (!s->front)
                rc = seg_open(s, off, true, &s->front);
        return rc ? rc : put_records(s, s->front, off, channel, at_us, p, n);
}

void spool_front_done(struct spool *s)
{
        if (s->front)
                seg_close(s->front);
        s->front = NULL;
}

void spool_front_undo(struct spool *s)
{
        if (s->front)
                seg_free(s, s->front, true);
}

static struct spool_seg *seg_at(const struct spool *s, uint64_t off)
{
        LIST_EACH (l, &s->segs) {
                struct spool_seg *g = container_of(l, struct spool_seg, link);

                if (off >= g->base && off < g->end)
                        return g;
        }
        return NULL;
}

static int read_seek(struct spool *s, uint64_t off)
{
        struct spool_seg *g;

        if (s->read_seg && off >= s->read_off && off < s->read_seg->end)
                return 0;
        g = seg_at(s, off);
        if (!g)
                return -E_NOENT;
        read_close(s);
        s->read_fd = open(g->path, O_RDONLY | O_CLOEXEC);
        if (s->read_fd < 0)
                return -err_from_errno(errno);
        s->read_seg = g;
        s->read_pos = 0;
        s->read_off = g->base;
        return 0;
}

int spool_read(struct spool *s, uint64_t off, void *p, size_t cap, size_t *out_n, int *out_channel,
               int64_t *out_at_us)
{
        uint8_t raw[HEAD];
        struct head h;
        size_t skip, n;
        ssize_t r;
        int rc = read_seek(s, off);

        if (rc)
                return rc;
        for (;;) {
                if (pread(s->read_fd, raw, HEAD, (off_t)s->read_pos) != HEAD || head_load(raw, &h) ||
                    h.off != s->read_off)
                        return -E_CORRUPT;
                if (off < h.off + h.len)
                        break;
                s->read_pos += HEAD + h.len;
                s->read_off += h.len;
        }
        skip = (size_t)(off - h.off);
        n = h.len - skip;
        if (n > cap)
                n = cap;
        r = pread(s->read_fd, p, n, (off_t)(s->read_pos + HEAD + skip));
        if (r != (ssize_t)n)
                return r < 0 ? -err_from_errno(errno) : -E_CORRUPT;
        *out_n = n;
        *out_channel = h.channel;
        *out_at_us = h.at_us;
        return 0;
}

void spool_ack(struct spool *s, uint64_t durable)
{
        LIST_EACH_SAFE (l, nx, &s->segs) {
                struct spool_seg *g = container_of(l, struct spool_seg, link);

                if (g->end > durable)
                        return;
                seg_free(s, g, true);
        }
}
