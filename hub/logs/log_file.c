/* One attempt's file: appending and syncing. */
#include "hub/logs/logs_impl.h"

#include "common/buf.h"
#include "common/err.h"
#include "common/log.h"
#include "common/mem.h"
#include "hub/store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

struct log_sync_job {
        uv_work_t work;
        struct log_file *file;
        char *path;
        bool dir_sync;
        uint64_t end;
        int rc;
        struct log_waiter *waiters;
};

/* ---- descriptors ---- */

static int sync_path(const char *path, int flags)
{
        int fd = open(path, flags | O_CLOEXEC);
        int rc = 0;

        if (fd < 0)
                return -err_from_errno(errno);
        if (fdatasync(fd) != 0)
                rc = -err_from_errno(errno);
        close(fd);
        return rc;
}

static void make_room(struct logs *l)
{
        LIST_EACH_SAFE (it, nx, &l->open) {
                struct log_file *f = container_of(it, struct log_file, lru);

                if (l->n_open < LOGS_OPEN_MAX)
                        return;
                if (f->holds == 0)
                        log_file_shut(f);
        }
}

/* One of 256, once in a hub's life: its name is made durable here and now. */
static int make_folder(struct log_file *f, struct err *e)
{
        char *slash = strrchr(f->path, '/');
        int rc = 0, sys = 0;

        *slash = '\0';
        if (mkdir(f->path, 0700) != 0 && errno != EEXIST)
                sys = errno;
        *slash = '/';
        if (sys)
                return err_set(e, err_from_errno(sys), "%s: cannot make its folder: %s", f->path,
                               strerror(sys));
        rc = sync_path(f->logs->dir, O_RDONLY | O_DIRECTORY);
        if (rc)
                err_set(e, -rc, "%s: cannot sync: %s", f->logs->dir, err_name(rc));
        return rc;
}

int log_file_ready(struct log_file *f, struct err *e)
{
        struct logs *l = f->logs;
        int fd;

        if (f->fd >= 0) {
                list_remove(&f->lru);
                list_push_back(&l->open, &f->lru);
                return 0;
        }
        make_room(l);
        fd = open(f->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0 && errno == ENOENT) {
                int rc = make_folder(f, e);

                if (rc)
                        return rc;
                fd = open(f->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        }
        if (fd < 0)
                return err_set(e, err_from_errno(errno), "%s: cannot open: %s", f->path, strerror(errno));
        f->fd = fd;
        list_push_back(&l->open, &f->lru);
        l->n_open++;
        return 0;
}

void log_file_shut(struct log_file *f)
{
        if (f->fd < 0)
                return;
        close(f->fd);
        f->fd = -1;
        list_remove(&f->lru);
        f->logs->n_open--;
}

void log_file_free(struct log_file *f)
{
        log_file_shut(f);
        if (f->dir_fd >= 0)
                close(f->dir_fd);
        while (f->waiters) {
                struct log_waiter *w = f->waiters;

                f->waiters = w->next;
                mem_free(w);
        }
        if (map_get_u64(f->logs->files, f->attempt_id) == f)
                map_del_u64(f->logs->files, f->attempt_id);
        mem_free(f->path);
        mem_free(f);
}

void log_file_unused(struct log_file *f)
{
        if (f->refs == 0 && f->holds == 0 && !f->syncing)
                log_file_free(f);
}

void log_close(struct log_file *f)
{
        if (!f)
                return;
        f->refs--;
        log_file_unused(f);
}

uint64_t log_end(const struct log_file *f)
{
        return f->end;
}

/* ---- appending ---- */

static int write_at(int fd, struct iovec iov[2], int64_t at)
{
        while (iov[0].iov_len + iov[1].iov_len > 0) {
                ssize_t n = pwritev(fd, iov, 2, at);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return errno;
                if (n == 0)
                        return EIO;
                at += n;
                for (int i = 0; i < 2; i++) {
                        size_t part = (size_t)n < iov[i].iov_len ? (size_t)n : iov[i].iov_len;

                        if (part)
                                iov[i].iov_base = (uint8_t *)iov[i].iov_base + part;
                        iov[i].iov_len -= part;
                        n -= (ssize_t)part;
                }
        }
        return 0;
}

/* All but the first byte, which tells readers that the record is whole. */
static int write_body(int fd, int64_t at, const void *p, size_t n, int64_t at_us)
{
        uint8_t head[LOGS_RECORD_HEADER] = {0};
        struct iovec iov[2] = {
                {.iov_base = head + 1, .iov_len = sizeof head - 1},
                {.iov_base = (void *)(uintptr_t)p, .iov_len = n},
        };

        u32be_store(head + 4, (uint32_t)n);
        u64be_store(head + 8, (uint64_t)at_us);
        return write_at(fd, iov, at + 1);
}

static int publish(int fd, int64_t at, int channel)
{
        uint8_t byte = (uint8_t)channel;
        struct iovec iov[2] = {{.iov_base = &byte, .iov_len = 1}, {.iov_base = NULL, .iov_len = 0}};

        return write_at(fd, iov, at);
}

static int cut_off(struct log_file *f)
{
        if (!f->torn)
                return 0;
        if (ftruncate(f->fd, f->size) != 0)
                return errno;
        f->torn = false;
        return 0;
}

static size_t part_of(size_t n)
{
        return n < LOGS_RECORD_MAX ? n : LOGS_RECORD_MAX;
}

/* Every record is in the file before the first of them is published. The last
 * is published first, so that they appear together. Returns an errno. */
static int append_records(struct log_file *f, int channel, const uint8_t *p, size_t n, int64_t at_us,
                          int64_t *out_size)
{
        const int64_t full = LOGS_RECORD_HEADER + (int64_t)LOGS_RECORD_MAX;
        int64_t at = f->size;
        int sys = 0;

        for (size_t done = 0; done < n && !sys; done += part_of(n - done)) {
                size_t part = part_of(n - done);

                sys = write_body(f->fd, at, p + done, part, at_us);
                at += LOGS_RECORD_HEADER + (int64_t)part;
        }
        *out_size = at;
        for (at = f->size + (int64_t)((n - 1) / LOGS_RECORD_MAX) * full; at >= f->size && !sys; at -= full)
                sys = publish(f->fd, at, channel);
        return sys;
}

int log_append(struct log_file *f, uint64_t offset, int channel, const void *p, size_t n, int64_t at_us,
               struct err *e)
{
        const uint8_t *from = p;
        int64_t size;
        int rc, sys;

        if (channel < LOG_STDOUT || channel > LOG_EVENT)
                return err_set(e, E_INVAL, "channel %d: there are 1, 2 and 3", channel);
        if (offset > f->end)
                return err_set(e, E_INVAL, "output begins at %llu, but there are only %llu bytes before it",
                               (unsigned long long)offset, (unsigned long long)f->end);
        if (f->end - offset >= n)
                return 0;
        from += f->end - offset;
        n -= f->end - offset;
        rc = log_file_ready(f, e);
        if (rc)
                return rc;
        sys = cut_off(f);
        if (!sys)
                sys = append_records(f, channel, from, n, at_us, &size);
        if (sys) {
                f->torn = true;
                cut_off(f); /* if it cannot now, the next append or start does it first */
                return err_set(e, err_from_errno(sys), "%s: cannot append: %s%s", f->path, strerror(sys),
                               err_from_errno(sys) == E_NOSPACE
                                       ? "; free some space, the agent holds its output back"
                                       : "");
        }
        f->size = size;
        f->end += n;
        if (f->logs->on_change)
                f->logs->on_change(f->logs->ctx, f->attempt_id, f->end, false);
        return 0;
}

/* ---- syncing ---- */

/* Pool thread: works by name, so that no descriptor is bound meanwhile. A sync
 * through any descriptor covers all that was written to the file. */
static void do_sync(struct log_sync_job *j)
{
        j->rc = sync_path(j->path, O_RDWR);
        if (!j->rc && j->dir_sync) {
                *strrchr(j->path, '/') = '\0';
                j->rc = sync_path(j->path, O_RDONLY | O_DIRECTORY);
        }
}

static void on_work(uv_work_t *w)
{
        do_sync(w->data);
}

static int start_sync(struct log_file *f);

static void tell(struct log_waiter **waiters, bool call, int rc, uint64_t end)
{
        while (*waiters) {
                struct log_waiter *w = *waiters;

                *waiters = w->next;
                if (call)
                        w->on_durable(w->arg, rc, end);
                mem_free(w);
        }
}

static void finish_sync(struct log_sync_job *j)
{
        struct log_file *f = j->file;
        struct logs *l = f->logs;

        if (!j->rc && j->dir_sync)
                f->dir_sync = false;
        tell(&j->waiters, !l->freed, j->rc, j->end);
        f->syncing = false;
        if (f->waiters && !l->freed && start_sync(f) != 0) {
                f->syncing = true; /* keeps f while they are told */
                tell(&f->waiters, true, -E_NOMEM, 0);
                f->syncing = false;
        }
        log_file_unused(f);
        mem_free(j->path);
        mem_free(j);
}

static void after_work(uv_work_t *w, int status)
{
        struct log_sync_job *j = w->data;
        struct logs *l = j->file->logs;

        if (status)
                j->rc = -E_CANCELLED;
        finish_sync(j);
        l->jobs--;
        logs_freed(l);
}

/* Everybody who asked so far is served by one sync of what is there now. */
static int start_sync(struct log_file *f)
{
        struct log_sync_job *j = mem_calloc(1, sizeof *j);

        if (j)
                j->path = mem_strdup(f->path);
        if (!j || !j->path) {
                mem_free(j);
                return -E_NOMEM;
        }
        j->file = f;
        j->dir_sync = f->dir_sync;
        j->end = f->end;
        j->waiters = f->waiters;
        f->waiters = NULL;
        f->syncing = true;
        j->work.data = j;
        if (!f->logs->loop) {
                do_sync(j);
                finish_sync(j);
                return 0;
        }
        f->logs->jobs++;
        uv_queue_work(f->logs->loop, &j->work, on_work, after_work); /* fails only without on_work */
        return 0;
}

int log_sync(struct log_file *f, void (*on_durable)(void *arg, int rc, uint64_t end), void *arg)
{
        struct log_waiter **last = &f->waiters, *w = mem_calloc(1, sizeof *w);
        int rc;

        if (!w)
                return -E_NOMEM;
        w->on_durable = on_durable;
        w->arg = arg;
        while (*last)
                last = &(*last)->next;
        *last = w;
        if (f->syncing)
                return 0;
        rc = start_sync(f);
        if (rc) {
                *last = NULL;
                mem_free(w);
        }
        return rc;
}

int log_sync_with(struct log_file *f, struct store_tx *tx, struct err *e)
{
        int rc = log_file_ready(f, e);

        if (rc)
                return rc;
        if (f->dir_sync && f->dir_fd < 0) {
                char *slash = strrchr(f->path, '/');

                *slash = '\0';
                f->dir_fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                *slash = '/';
                if (f->dir_fd < 0)
                        return err_set(e, err_from_errno(errno), "%s: cannot open its folder: %s", f->path,
                                       strerror(errno));
        }
        f->holds++;
        store_sync_fd(tx, f->fd);
        if (f->dir_fd >= 0)
                store_sync_fd(tx, f->dir_fd);
        return 0;
}

void log_sync_with_done(struct log_file *f)
{
        f->dir_sync = false;
        if (--f->holds == 0 && f->dir_fd >= 0) {
                close(f->dir_fd);
                f->dir_fd = -1;
        }
        log_file_unused(f);
}
