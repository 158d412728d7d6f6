#include "agent/journal.h"

#include "agent/journal_record.h"
#include "common/buf.h"
#include "common/clock.h"
#include "common/err.h"
#include "common/file.h"
#include "common/id.h"
#include "common/list.h"
#include "common/log.h"
#include "common/map.h"
#include "common/mem.h"
#include "common/str.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Rewriting is worth it when this much is dead and it is most of the file. */
#define COMPACT_BYTES (4u << 20)
/* With nothing held the file is simply cut, once it has grown to this. */
#define CUT_BYTES (64u << 10)

struct proc_item {
        struct list link;
        uint64_t attempt_id;
        struct journal_proc p;
};

struct question_item {
        struct list link;
        uint32_t id;
        char title[]; /* as it is in the record */
};

struct item {
        struct journal_entry pub;
        struct list all;       /* journal.items */
        struct list dirty;     /* journal.dirty while `pending` waits to be written */
        struct list procs;     /* of struct proc_item */
        struct list questions; /* of struct question_item: those that are open, oldest first */
        size_t question_count;
        size_t proc_count;
        bool on_disk;     /* at least one record of it is in the file */
        uint8_t *pending; /* record not yet written */
        size_t pending_len;
        bool pending_accept;
        uint64_t result_off; /* of the packed result in the file; 0: not there */
        size_t result_len;
        size_t disk_bytes; /* live bytes in the file */
};

struct journal {
        char *path;
        int fd;
        char id[JOURNAL_ID_LEN];
        uint8_t raw_id[16];
        struct map *by_id;
        struct list items, dirty;
        struct list orphans; /* proc_item, of a journal that was moved aside */
        struct buf forgets;  /* records to write */
        struct buf notes;    /* of questions, written after them */
        struct buf out;      /* assembled by flush */
        uint64_t size, live;
        uint64_t seen; /* the highest id ever held */
        bool failed;   /* the last flush did */
};

static struct item *find(const struct journal *j, uint64_t id)
{
        return map_get_u64(j->by_id, id);
}

static void procs_free(struct list *head)
{
        struct list *l;

        while ((l = list_pop(head)))
                mem_free(container_of(l, struct proc_item, link));
}

/* The entry shows the oldest. */
static void show_question(struct item *it)
{
        it->pub.question = list_empty(&it->questions)
                                   ? NULL
                                   : container_of(it->questions.next, struct question_item, link)->title;
}

static int question_add(struct item *it, uint32_t id, const void *title, size_t n)
{
        struct question_item *q;

        if (it->question_count >= JOURNAL_QUESTIONS_MAX)
                return -E_FULL;
        q = mem_calloc(1, sizeof *q + n + 1);
        if (!q)
                return -E_NOMEM;
        q->id = id;
        memcpy(q->title, title, n);
        list_push_back(&it->questions, &q->link);
        it->question_count++;
        show_question(it);
        return 0;
}

static bool question_remove(struct item *it, uint32_t id)
{
        LIST_EACH_SAFE (l, nx, &it->questions) {
                struct question_item *q = container_of(l, struct question_item, link);

                if (q->id != id)
                        continue;
                list_remove(&q->link);
                mem_free(q);
                it->question_count--;
                show_question(it);
                return true;
        }
        return false;
}

static void questions_free(struct item *it)
{
        struct list *l;

        while ((l = list_pop(&it->questions)))
                mem_free(container_of(l, struct question_item, link));
        it->question_count = 0;
        it->pub.question = NULL;
}

static void item_free(struct item *it)
{
        if (!it)
                return;
        list_remove(&it->all);
        list_remove(&it->dirty);
        procs_free(&it->procs);
        questions_free(it);
        mem_free(it->pending);
        mem_free(it);
}

static int item_make(struct journal *j, uint64_t id, struct item **out)
{
        struct item *it;

        if (journal_count(j) >= JOURNAL_ENTRIES_MAX)
                return -E_FULL;
        it = mem_calloc(1, sizeof *it);
        if (!it)
                return -E_NOMEM;
        it->pub.attempt_id = id;
        if (id > j->seen)
                j->seen = id;
        list_init(&it->all);
        list_init(&it->dirty);
        list_init(&it->procs);
        list_init(&it->questions);
        if (map_put_u64(j->by_id, id, it, NULL)) {
                mem_free(it);
                return -E_NOMEM;
        }
        list_push_back(&j->items, &it->all);
        *out = it;
        return 0;
}

static void item_drop(struct journal *j, struct item *it)
{
        j->live -= it->disk_bytes;
        map_del_u64(j->by_id, it->pub.attempt_id);
        item_free(it);
}

static void item_set_pending(struct journal *j, struct item *it, struct buf *rec, bool accept)
{
        mem_free(it->pending);
        it->pending = rec->data;
        it->pending_len = rec->len;
        it->pending_accept = accept;
        rec->data = NULL;
        rec->len = rec->cap = 0;
        list_remove(&it->dirty);
        list_push_back(&j->dirty, &it->dirty);
}

/* Reading the file at open. */

struct loader {
        struct journal *j;
        int rc;
};

static int load_proc(struct list *head, uint64_t id, const uint8_t *body, size_t n)
{
        struct proc_item *p = mem_calloc(1, sizeof *p);

        if (!p)
                return -E_NOMEM;
        p->attempt_id = id;
        if (record_read_proc(body, n, &p->p)) {
                mem_free(p); /* written by another version: skip */
                return 0;
        }
        list_push_back(head, &p->link);
        return 0;
}

static void on_record(uint8_t type, uint64_t id, const uint8_t *body, size_t n, size_t off, void *arg)
{
        struct loader *ld = arg;
        struct journal *j = ld->j;
        struct item *it = find(j, id);
        size_t whole = RECORD_HEAD + RECORD_FIXED + n;

        if (ld->rc)
                return;
        if (type < RECORD_ACCEPT || type > RECORD_ANSWERED)
                return; /* written by a later version */
        if (type >= RECORD_QUESTION && (!it || n < 4))
                return; /* of one that is forgotten */
        if (id > j->seen)
                j->seen = id;
        if (type == RECORD_FORGET && it)
                item_drop(j, it);
        if (type == RECORD_FORGET || type == RECORD_SEEN)
                return;
        if (!it) {
                ld->rc = item_make(j, id, &it);
                if (ld->rc)
                        return;
        }
        it->on_disk = true;
        it->disk_bytes += whole;
        j->live += whole;
        if (type == RECORD_ACCEPT) {
                record_read_accept(body, n, &it->pub);
        } else if (type == RECORD_PROCESS && it->proc_count < JOURNAL_PROCS_MAX) {
                it->proc_count++;
                ld->rc = load_proc(&it->procs, id, body, n);
        } else if (type == RECORD_QUESTION) {
                if (question_add(it, u32be_load(body), body + 4, n - 4) == -E_NOMEM)
                        ld->rc = -E_NOMEM;
        } else if (type == RECORD_ANSWERED) {
                question_remove(it, u32be_load(body));
        } else if (type == RECORD_FINISH) {
                it->pub.state = JOURNAL_FINISHED;
                questions_free(it);
                it->result_off = off + RECORD_HEAD + RECORD_FIXED;
                it->result_len = n;
        }
}

static int write_header(struct journal *j, struct err *e)
{
        uint8_t head[JOURNAL_HEAD];

        id_random(j->raw_id, sizeof j->raw_id);
        record_file_head(j->raw_id, head);
        if (ftruncate(j->fd, 0) || pwrite(j->fd, head, sizeof head, 0) != (ssize_t)sizeof head)
                return err_set(e, err_from_errno(errno), "cannot write %s: %s", j->path, strerror(errno));
        j->size = sizeof head;
        j->live = 0;
        str_hex(j->raw_id, sizeof j->raw_id, j->id);
        return 0;
}

static void keep_orphans(struct journal *j)
{
        LIST_EACH_SAFE (l, nx, &j->items) {
                struct item *it = container_of(l, struct item, all);
                struct list *p;

                while (it->pub.state == JOURNAL_RUNNING && (p = list_pop(&it->procs)))
                        list_push_back(&j->orphans, p);
                item_drop(j, it);
        }
}

/* The file is damaged: keep it for people to look at, begin a new one. */
static int move_aside(struct journal *j, size_t good, struct err *e)
{
        char *to = str_printf("%s.damaged-%lld", j->path, (long long)(clock_now_us(&clock_system) / 1000000));
        int rc = -E_NOMEM;

        keep_orphans(j);
        if (!to)
                return rc;
        if (rename(j->path, to)) {
                rc = err_set(e, err_from_errno(errno), "cannot move the damaged journal %s aside: %s",
                             j->path, strerror(errno));
                goto out;
        }
        log_error("journal", "damaged in the middle, moved aside; attempts in it are lost",
                  "file=%s good_bytes=%zu", to, good);
        close(j->fd);
        j->fd = open(j->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (j->fd < 0)
                rc = err_set(e, err_from_errno(errno), "cannot create %s: %s", j->path, strerror(errno));
        else
                rc = write_header(j, e);
out:
        mem_free(to);
        return rc;
}

/* Offsets from the scan count from after the header. */
static void from_file_start(struct journal *j)
{
        LIST_EACH (l, &j->items) {
                struct item *it = container_of(l, struct item, all);

                if (it->result_off)
                        it->result_off += JOURNAL_HEAD;
        }
}

static int load_bytes(struct journal *j, const uint8_t *p, size_t n, bool *out_moved, struct err *e)
{
        struct loader ld = {.j = j};
        bool middle = false;
        size_t good;

        if (n < JOURNAL_HEAD)
                return write_header(j, e); /* died while making it: nothing was held yet */
        if (record_file_id(p, j->raw_id)) {
                *out_moved = true;
                return move_aside(j, 0, e);
        }
        str_hex(j->raw_id, sizeof j->raw_id, j->id);
        good = JOURNAL_HEAD + journal_scan(p + JOURNAL_HEAD, n - JOURNAL_HEAD, on_record, &ld, &middle);
        if (ld.rc == -E_FULL)
                return err_set(e, E_FULL, "%s holds more than %u attempts", j->path, JOURNAL_ENTRIES_MAX);
        if (ld.rc)
                return err_set(e, -ld.rc, "no memory to read %s", j->path);
        if (middle) {
                *out_moved = true;
                return move_aside(j, good, e);
        }
        from_file_start(j);
        if (good < n) {
                log_warn("journal", "torn tail cut off", "file=%s bytes=%zu", j->path, n - good);
                if (ftruncate(j->fd, (off_t)good))
                        return err_set(e, err_from_errno(errno), "cannot cut %s: %s", j->path,
                                       strerror(errno));
        }
        j->size = good;
        return 0;
}

static int load(struct journal *j, bool *out_moved, struct err *e)
{
        struct stat st;
        void *p;
        int rc;

        if (fstat(j->fd, &st))
                return err_set(e, err_from_errno(errno), "cannot read %s: %s", j->path, strerror(errno));
        if (!S_ISREG(st.st_mode))
                return err_set(e, E_INVAL, "%s is no regular file", j->path);
        if (st.st_size < JOURNAL_HEAD)
                return load_bytes(j, NULL, 0, out_moved, e);
        p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, j->fd, 0);
        if (p == MAP_FAILED)
                return err_set(e, err_from_errno(errno), "cannot read %s: %s", j->path, strerror(errno));
        rc = load_bytes(j, p, (size_t)st.st_size, out_moved, e);
        munmap(p, (size_t)st.st_size);
        return rc;
}

int journal_open(const char *path, struct journal **out, bool *out_moved, struct err *e)
{
        struct journal *j = mem_calloc(1, sizeof *j);
        bool moved = false;
        int rc = -E_NOMEM;

        if (!j)
                return err_set(e, E_NOMEM, "no memory for the journal");
        j->fd = -1;
        list_init(&j->items);
        list_init(&j->dirty);
        list_init(&j->orphans);
        buf_init(&j->forgets, 0);
        buf_init(&j->notes, 0);
        buf_init(&j->out, 0);
        j->path = mem_strdup(path);
        j->by_id = map_create();
        if (!j->path || !j->by_id) {
                err_set(e, E_NOMEM, "no memory for the journal");
                goto fail;
        }
        j->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (j->fd < 0) {
                rc = err_set(e, err_from_errno(errno), "cannot open %s: %s", path, strerror(errno));
                goto fail;
        }
        rc = load(j, &moved, e);
        if (rc)
                goto fail;
        if (out_moved)
                *out_moved = moved;
        *out = j;
        return 0;
fail:
        journal_free(j);
        return rc;
}

void journal_free(struct journal *j)
{
        if (!j)
                return;
        if (j->fd >= 0 && journal_flush(j, NULL))
                log_error("journal", "what was not written is lost", "file=%s", j->path);
        LIST_EACH_SAFE (l, nx, &j->items)
                item_free(container_of(l, struct item, all));
        procs_free(&j->orphans);
        map_free(j->by_id);
        buf_fini(&j->forgets);
        buf_fini(&j->notes);
        buf_fini(&j->out);
        if (j->fd >= 0)
                close(j->fd);
        mem_free(j->path);
        mem_free(j);
}

const char *journal_id(const struct journal *j)
{
        return j->id;
}

uint64_t journal_seen(const struct journal *j)
{
        return j->seen;
}

size_t journal_count(const struct journal *j)
{
        return map_count(j->by_id);
}

uint64_t journal_size_bytes(const struct journal *j)
{
        return j->size;
}

bool journal_unwritten(const struct journal *j)
{
        return j->failed && (!list_empty(&j->dirty) || j->forgets.len > 0 || j->notes.len > 0);
}

int journal_accept(struct journal *j, uint64_t attempt_id, const char *tool, int64_t started_us)
{
        struct item *it;
        struct buf rec;
        int rc;

        if (find(j, attempt_id))
                return -E_EXIST;
        if (j->size > JOURNAL_FILE_MAX)
                return -E_NOSPACE;
        rc = item_make(j, attempt_id, &it);
        if (rc)
                return rc;
        it->pub.started_us = started_us;
        snprintf(it->pub.tool, sizeof it->pub.tool, "%s", tool);
        buf_init(&rec, 0);
        rc = record_put_accept(&rec, &it->pub);
        if (rc) {
                buf_fini(&rec);
                item_drop(j, it);
                return rc;
        }
        item_set_pending(j, it, &rec, true);
        return 0;
}

int journal_process(struct journal *j, uint64_t attempt_id, const struct journal_proc *p, struct err *e)
{
        struct item *it = find(j, attempt_id);
        struct proc_item *pi;
        struct buf rec;
        int rc;

        if (!it)
                return err_set(e, E_NOENT, "attempt %llu is not in the journal",
                               (unsigned long long)attempt_id);
        if (it->proc_count >= JOURNAL_PROCS_MAX)
                return err_set(e, E_FULL, "one call may own at most %u process groups", JOURNAL_PROCS_MAX);
        /* What waits goes first: the record of a process belongs after that of its attempt. */
        rc = journal_flush(j, e);
        if (rc)
                return rc;
        buf_init(&rec, 0);
        pi = mem_calloc(1, sizeof *pi);
        rc = pi ? record_put_proc(&rec, attempt_id, p) : -E_NOMEM;
        if (rc) {
                err_set(e, -rc, "no memory for the journal");
                goto out;
        }
        if (pwrite(j->fd, rec.data, rec.len, (off_t)j->size) != (ssize_t)rec.len) {
                rc = err_set(e, err_from_errno(errno ? errno : ENOSPC), "cannot write %s: %s", j->path,
                             strerror(errno));
                if (ftruncate(j->fd, (off_t)j->size))
                        log_error("journal", "cannot cut a torn record", "file=%s error=%s", j->path,
                                  strerror(errno));
                goto out;
        }
        j->size += rec.len;
        j->live += rec.len;
        it->disk_bytes += rec.len;
        it->on_disk = true;
        pi->attempt_id = attempt_id;
        pi->p = *p;
        list_push_back(&it->procs, &pi->link);
        it->proc_count++;
        pi = NULL;
out:
        mem_free(pi);
        buf_fini(&rec);
        return rc;
}

int journal_question(struct journal *j, uint64_t attempt_id, uint32_t question_id, const char *title)
{
        struct item *it = find(j, attempt_id);
        size_t n = strnlen(title, JOURNAL_TITLE_MAX);
        int rc;

        if (!it || it->pub.state == JOURNAL_FINISHED)
                return -E_NOENT;
        rc = question_add(it, question_id, title, n);
        if (rc)
                return rc;
        rc = record_put_question(&j->notes, attempt_id, question_id, title);
        if (rc)
                question_remove(it, question_id);
        return rc;
}

void journal_answered(struct journal *j, uint64_t attempt_id, uint32_t question_id)
{
        struct item *it = find(j, attempt_id);
        uint8_t body[4];

        if (!it || !question_remove(it, question_id))
                return;
        u32be_store(body, question_id);
        /* Without memory for it a restarted agent believes it open: the call is lost either way. */
        if (record_put(&j->notes, RECORD_ANSWERED, attempt_id, body, sizeof body))
                log_warn("journal", "no memory to note an answer", "attempt=%llu",
                         (unsigned long long)attempt_id);
}

int journal_finish(struct journal *j, uint64_t attempt_id, const uint8_t *packed, size_t n)
{
        struct item *it = find(j, attempt_id);
        struct buf rec;
        bool made = false;
        int rc;

        if (n > JOURNAL_RECORD_MAX - RECORD_FIXED)
                return -E_TOOBIG;
        if (it && it->pub.state == JOURNAL_FINISHED)
                return -E_STATE;
        if (!it) {
                rc = item_make(j, attempt_id, &it);
                if (rc)
                        return rc;
                made = true;
        }
        buf_init(&rec, 0);
        rc = record_put(&rec, RECORD_FINISH, attempt_id, packed, n);
        if (rc) {
                buf_fini(&rec);
                if (made)
                        item_drop(j, it);
                return rc;
        }
        it->pub.state = JOURNAL_FINISHED;
        procs_free(&it->procs);
        questions_free(it);
        item_set_pending(j, it, &rec, false);
        return 0;
}

void journal_forget(struct journal *j, uint64_t attempt_id)
{
        struct item *it = find(j, attempt_id);

        if (!it)
                return;
        /* Without memory for this record the hub is told once more after a restart, and says forget again. */
        if (it->on_disk && record_put(&j->forgets, RECORD_FORGET, attempt_id, NULL, 0))
                log_warn("journal", "no memory to note a forgotten attempt", "attempt=%llu",
                         (unsigned long long)attempt_id);
        item_drop(j, it);
}

static int assemble(struct journal *j)
{
        int rc;

        buf_reset(&j->out);
        rc = buf_put(&j->out, j->forgets.data, j->forgets.len);
        if (!rc)
                rc = buf_put(&j->out, j->notes.data, j->notes.len);
        LIST_EACH (l, &j->dirty) {
                struct item *it = container_of(l, struct item, dirty);

                if (!rc)
                        rc = buf_put(&j->out, it->pending, it->pending_len);
        }
        return rc;
}

static void written(struct journal *j)
{
        uint64_t off = j->size + j->forgets.len + j->notes.len;
        struct list *l;

        while ((l = list_pop(&j->dirty))) {
                struct item *it = container_of(l, struct item, dirty);

                if (it->pub.state == JOURNAL_FINISHED) {
                        /* Only the result counts from here on. */
                        j->live -= it->disk_bytes;
                        it->disk_bytes = 0;
                        it->result_off = off + RECORD_HEAD + RECORD_FIXED;
                        it->result_len = it->pending_len - RECORD_HEAD - RECORD_FIXED;
                }
                it->disk_bytes += it->pending_len;
                j->live += it->pending_len;
                off += it->pending_len;
                it->on_disk = true;
                mem_free(it->pending);
                it->pending = NULL;
                it->pending_len = 0;
        }
        j->size = off;
        buf_reset(&j->forgets);
        buf_reset(&j->notes);
        if (j->out.cap > CUT_BYTES)
                buf_fini(&j->out);
}

static void drop_accepts(struct journal *j)
{
        LIST_EACH_SAFE (l, nx, &j->dirty) {
                struct item *it = container_of(l, struct item, dirty);

                if (it->pending_accept)
                        item_drop(j, it);
        }
}

/* Everything still held, as one new file under the same id. */
static int compact_into(struct journal *j, int fd, struct buf *b, struct err *e)
{
        int rc;

        buf_reset(b);
        rc = buf_reserve(b, JOURNAL_HEAD);
        if (rc)
                return rc;
        record_file_head(j->raw_id, b->data);
        b->len = JOURNAL_HEAD;
        rc = record_put(b, RECORD_SEEN, j->seen, NULL, 0);
        if (rc)
                return rc;
        LIST_EACH (l, &j->items) {
                struct item *it = container_of(l, struct item, all);
                uint8_t *res;
                size_t n;

                if (it->pub.state == JOURNAL_FINISHED) {
                        rc = journal_result(j, it->pub.attempt_id, &res, &n);
                        if (!rc) {
                                rc = record_put(b, RECORD_FINISH, it->pub.attempt_id, res, n);
                                mem_free(res);
                        }
                } else {
                        rc = record_put_accept(b, &it->pub);
                        LIST_EACH (p, &it->procs) {
                                struct proc_item *pi = container_of(p, struct proc_item, link);

                                if (!rc)
                                        rc = record_put_proc(b, pi->attempt_id, &pi->p);
                        }
                        LIST_EACH (p, &it->questions) {
                                struct question_item *q = container_of(p, struct question_item, link);

                                if (!rc)
                                        rc = record_put_question(b, it->pub.attempt_id, q->id, q->title);
                        }
                }
                if (rc)
                        return err_set(e, -rc, "cannot rewrite the journal: %s", err_name(rc));
        }
        rc = file_write_all(fd, b->data, b->len);
        /* A rename that reaches the disk before the bytes would turn a power failure into an empty journal.
         */
        if (!rc && fdatasync(fd))
                rc = -err_from_errno(errno);
        return rc ? err_set(e, -rc, "cannot rewrite the journal: %s", err_name(rc)) : 0;
}

static int compact(struct journal *j, struct err *e)
{
        char *tmp = str_printf("%s.new", j->path);
        struct buf b;
        int fd = -1, rc = -E_NOMEM;
        struct loader ld = {.j = j};
        bool middle;

        buf_init(&b, JOURNAL_FILE_MAX + (64u << 20));
        if (!tmp)
                goto out;
        fd = open(tmp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (fd < 0) {
                rc = err_set(e, err_from_errno(errno), "cannot create %s: %s", tmp, strerror(errno));
                goto out;
        }
        rc = compact_into(j, fd, &b, e);
        if (!rc && rename(tmp, j->path))
                rc = err_set(e, err_from_errno(errno), "cannot rename %s: %s", tmp, strerror(errno));
        if (rc) {
                unlink(tmp);
                goto out;
        }
        close(j->fd);
        j->fd = fd;
        fd = -1;
        j->size = b.len;
        j->live = 0;
        LIST_EACH (l, &j->items) {
                struct item *it = container_of(l, struct item, all);

                it->disk_bytes = 0;
                procs_free(&it->procs); /* read again with the records */
                it->proc_count = 0;
                questions_free(it);
        }
        journal_scan(b.data + JOURNAL_HEAD, b.len - JOURNAL_HEAD, on_record, &ld, &middle);
        from_file_start(j);
        rc = ld.rc;
out:
        if (fd >= 0)
                close(fd);
        buf_fini(&b);
        mem_free(tmp);
        return rc;
}

/* Nothing is held: what stays is how far it got. */
static int cut(struct journal *j)
{
        struct buf b;
        int rc;

        buf_init(&b, 0);
        rc = record_put(&b, RECORD_SEEN, j->seen, NULL, 0);
        if (!rc && ftruncate(j->fd, JOURNAL_HEAD))
                rc = -err_from_errno(errno);
        if (!rc) {
                j->size = JOURNAL_HEAD;
                j->live = 0;
                if (pwrite(j->fd, b.data, b.len, JOURNAL_HEAD) == (ssize_t)b.len)
                        j->size += b.len;
                else
                        log_warn("journal", "how far it got is not noted", "file=%s error=%s", j->path,
                                 strerror(errno));
        }
        buf_fini(&b);
        return rc;
}

static void tidy(struct journal *j)
{
        struct err e = {0};

        if (journal_count(j) == 0 && j->size > CUT_BYTES) {
                if (cut(j))
                        log_warn("journal", "not made smaller", "file=%s", j->path);
        } else if (j->size - j->live > COMPACT_BYTES && j->live < j->size / 4) {
                if (compact(j, &e))
                        log_warn("journal", "not made smaller", "error=%s", e.msg);
        }
}

int journal_flush(struct journal *j, struct err *e)
{
        ssize_t w = 0;
        int rc, sys = 0;

        if (list_empty(&j->dirty) && j->forgets.len == 0 && j->notes.len == 0)
                return 0;
        if (journal_count(j) == 0 && j->size > CUT_BYTES) {
                buf_reset(&j->notes);
                buf_reset(&j->forgets); /* cutting the file forgets them all */
                tidy(j);
                j->failed = false;
                return 0;
        }
        rc = assemble(j);
        if (!rc) {
                w = pwrite(j->fd, j->out.data, j->out.len, (off_t)j->size);
                sys = w < 0 ? errno : ENOSPC; /* a short write to a file means a full disk */
        }
        if (!rc && (size_t)w == j->out.len) {
                written(j);
                if (j->failed)
                        log_info("journal", "can be written again", "file=%s", j->path);
                j->failed = false;
                tidy(j);
                return 0;
        }
        if (!rc)
                rc = -err_from_errno(sys);
        if (w > 0 && ftruncate(j->fd, (off_t)j->size))
                log_error("journal", "cannot cut a torn record", "file=%s error=%s", j->path,
                          strerror(errno));
        if (!j->failed)
                log_error("journal", "cannot be written; new work is refused, results stay in memory",
                          "file=%s error=%s", j->path, sys ? strerror(sys) : err_name(rc));
        j->failed = true;
        drop_accepts(j);
        return err_set(e, -rc, "the agent's journal %s cannot be written: %s; free some disk space there",
                       j->path, sys ? strerror(sys) : err_name(rc));
}

const struct journal_entry *journal_get(const struct journal *j, uint64_t attempt_id)
{
        const struct item *it = find(j, attempt_id);

        return it ? &it->pub : NULL;
}

int journal_result(const struct journal *j, uint64_t attempt_id, uint8_t **out, size_t *out_len)
{
        const struct item *it = find(j, attempt_id);
        uint8_t *p;
        ssize_t r;

        if (!it || it->pub.state != JOURNAL_FINISHED)
                return -E_NOENT;
        if (it->pending) {
                size_t n = it->pending_len - RECORD_HEAD - RECORD_FIXED;

                p = mem_alloc(n + 1);
                if (!p)
                        return -E_NOMEM;
                memcpy(p, it->pending + RECORD_HEAD + RECORD_FIXED, n);
                *out_len = n;
                *out = p;
                return 0;
        }
        p = mem_alloc(it->result_len + 1);
        if (!p)
                return -E_NOMEM;
        r = pread(j->fd, p, it->result_len, (off_t)it->result_off);
        if (r < 0 || (size_t)r != it->result_len) {
                mem_free(p);
                return r < 0 ? -err_from_errno(errno) : -E_CORRUPT;
        }
        *out_len = it->result_len;
        *out = p;
        return 0;
}

void journal_each(const struct journal *j, void (*fn)(const struct journal_entry *en, void *arg), void *arg)
{
        LIST_EACH (l, &j->items)
                fn(&container_of(l, struct item, all)->pub, arg);
}

void journal_each_proc(const struct journal *j,
                       void (*fn)(uint64_t attempt_id, const struct journal_proc *p, void *arg), void *arg)
{
        LIST_EACH (l, &j->orphans) {
                struct proc_item *pi = container_of(l, struct proc_item, link);

                fn(pi->attempt_id, &pi->p, arg);
        }
        LIST_EACH (l, &j->items) {
                LIST_EACH (p, &container_of(l, struct item, all)->procs) {
                        struct proc_item *pi = container_of(p, struct proc_item, link);

                        fn(pi->attempt_id, &pi->p, arg);
                }
        }
}
