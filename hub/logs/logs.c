#include "hub/logs/logs_impl.h"

#include "common/buf.h"
#include "common/err.h"
#include "common/file.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/str.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* Attempt ids count up, so their last digits spread files over the folders. */
char *log_path(const char *logs_dir, uint64_t attempt_id)
{
        return str_printf("%s/%02x/%llx.log", logs_dir, (unsigned)(attempt_id & 0xff),
                          (unsigned long long)attempt_id);
}

int logs_create(const char *dir, struct logs **out, struct err *e)
{
        struct logs *l = mem_calloc(1, sizeof *l);
        int rc = -E_NOMEM;

        if (!l)
                return err_set(e, E_NOMEM, "out of memory");
        list_init(&l->open);
        l->files = map_create();
        l->dir = path_join(dir, "logs");
        if (l->files && l->dir)
                rc = file_mkdir_private(l->dir, e);
        else
                err_set(e, E_NOMEM, "out of memory");
        if (rc) {
                logs_free(l);
                return rc;
        }
        *out = l;
        return 0;
}

void logs_use_loop(struct logs *l, uv_loop_t *loop)
{
        l->loop = loop;
}

void logs_freed(struct logs *l)
{
        size_t it = 0;
        void *f;

        if (!l->freed || l->jobs)
                return;
        while (l->files && map_next(l->files, &it, NULL, &f))
                log_file_free(f);
        map_free(l->files);
        mem_free(l->dir);
        mem_free(l);
}

void logs_free(struct logs *l)
{
        if (!l)
                return;
        l->freed = true;
        logs_freed(l);
}

static int measure_file(struct log_file *f, struct err *e)
{
        int rc = log_measure(f->fd, &f->end, &f->size);
        off_t whole;

        if (rc && rc != -E_CORRUPT)
                return err_set(e, -rc, "%s: cannot read: %s", f->path, strerror(errno));
        whole = lseek(f->fd, 0, SEEK_END);
        if (whole > f->size) {
                log_warn("logs", "cutting off a torn end", "file=%s bytes=%lld", f->path,
                         (long long)(whole - f->size));
                f->torn = true;
        }
        return 0;
}

static int make_file(struct logs *l, uint64_t attempt_id, struct log_file **out, struct err *e)
{
        struct log_file *f = mem_calloc(1, sizeof *f);
        int rc = -E_NOMEM;

        if (!f)
                return err_set(e, E_NOMEM, "out of memory");
        f->logs = l;
        f->attempt_id = attempt_id;
        f->fd = f->dir_fd = -1;
        f->dir_sync = true;
        list_init(&f->lru);
        f->path = log_path(l->dir, attempt_id);
        if (f->path)
                rc = map_put_u64(l->files, attempt_id, f, NULL);
        if (rc)
                err_set(e, -rc, "out of memory");
        else
                rc = log_file_ready(f, e);
        if (!rc)
                rc = measure_file(f, e);
        if (rc) {
                log_file_free(f);
                return rc;
        }
        *out = f;
        return 0;
}

int logs_open(struct logs *l, uint64_t attempt_id, struct log_file **out, uint64_t *out_end, struct err *e)
{
        struct log_file *f = map_get_u64(l->files, attempt_id);
        int rc = 0;

        if (!f)
                rc = make_file(l, attempt_id, &f, e);
        if (rc)
                return rc;
        f->refs++;
        *out = f;
        if (out_end)
                *out_end = f->end;
        return 0;
}

int logs_end(struct logs *l, uint64_t attempt_id, uint64_t *out_end, struct err *e)
{
        const struct log_file *f = map_get_u64(l->files, attempt_id);
        int64_t size;
        char *path;
        int fd, rc;

        if (f) {
                *out_end = f->end;
                return 0;
        }
        path = log_path(l->dir, attempt_id);
        if (!path)
                return err_set(e, E_NOMEM, "out of memory");
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 && errno == ENOENT) {
                *out_end = 0;
                rc = 0;
        } else if (fd < 0) {
                rc = err_set(e, err_from_errno(errno), "%s: cannot open: %s", path, strerror(errno));
        } else {
                rc = log_measure(fd, out_end, &size);
                if (rc == -E_CORRUPT)
                        rc = 0; /* logs_open will cut it off there */
                if (rc)
                        err_set(e, -rc, "%s: cannot read: %s", path, strerror(errno));
                close(fd);
        }
        mem_free(path);
        return rc;
}

void logs_on_change(struct logs *l, void (*fn)(void *ctx, uint64_t attempt_id, uint64_t end, bool finished),
                    void *ctx)
{
        l->on_change = fn;
        l->ctx = ctx;
}

void logs_note_finished(struct logs *l, uint64_t attempt_id, uint64_t end)
{
        if (l->on_change)
                l->on_change(l->ctx, attempt_id, end, true);
}

int logs_remove(struct logs *l, uint64_t attempt_id, struct err *e)
{
        char *path;
        int rc = 0;

        if (map_get_u64(l->files, attempt_id))
                return err_set(e, E_STATE, "the log of attempt %llx is in use",
                               (unsigned long long)attempt_id);
        path = log_path(l->dir, attempt_id);
        if (!path)
                return err_set(e, E_NOMEM, "out of memory");
        if (unlink(path) != 0)
                rc = err_set(e, err_from_errno(errno), "%s: cannot delete: %s", path, strerror(errno));
        mem_free(path);
        return rc;
}

int logs_frame(struct buf *b, int channel, const void *p, size_t n, int64_t at_us)
{
        const uint8_t *from = p;
        size_t before = b->len;

        if (channel < LOG_STDOUT || channel > LOG_EVENT)
                return -E_INVAL;
        while (n > 0) {
                size_t part = n < LOGS_RECORD_MAX ? n : LOGS_RECORD_MAX;
                uint8_t head[LOGS_RECORD_HEADER] = {(uint8_t)channel};
                int rc;

                u32be_store(head + 4, (uint32_t)part);
                u64be_store(head + 8, (uint64_t)at_us);
                rc = buf_put(b, head, sizeof head);
                if (!rc)
                        rc = buf_put(b, from, part);
                if (rc) {
                        b->len = before;
                        return rc;
                }
                from += part;
                n -= part;
        }
        return 0;
}
