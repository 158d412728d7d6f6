#include "agent/tools/ai_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/mem.h"
#include "common/str.h"

struct entry {
        size_t path; /* offset into names */
        uint64_t ino;
        int64_t size, mtime_ns, ctime_ns;
};

struct ai_files {
        struct entry *v;
        size_t n, cap;
        struct buf names;
        bool complete;
};

static int64_t ns(const struct timespec *t)
{
        return (int64_t)t->tv_sec * 1000000000 + t->tv_nsec;
}

static int add(struct ai_files *f, const char *path, const struct stat *st)
{
        struct entry *x;

        if (f->n == f->cap) {
                size_t cap = f->cap ? 2 * f->cap : 256;
                struct entry *v = mem_realloc(f->v, cap * sizeof *v);

                if (!v)
                        return -E_NOMEM;
                f->v = v;
                f->cap = cap;
        }
        x = &f->v[f->n];
        x->path = f->names.len;
        x->ino = st->st_ino;
        x->size = st->st_size;
        x->mtime_ns = ns(&st->st_mtim);
        x->ctime_ns = ns(&st->st_ctim);
        if (buf_put(&f->names, path, strlen(path) + 1))
                return -E_NOMEM;
        f->n++;
        return 0;
}

static int walk(struct ai_files *f, int fd, const char *at, int depth);

/* at: "" or "folder/". */
static int look(struct ai_files *f, int dir, const char *at, const char *name, int depth)
{
        char *path = str_printf("%s%s", at, name);
        struct stat st;
        int rc = path ? 0 : -E_NOMEM, fd;

        if (rc)
                return rc;
        if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
                f->complete = f->complete && errno == ENOENT; /* gone meanwhile */
        } else if (!S_ISDIR(st.st_mode)) {
                rc = add(f, path, &st);
        } else if (strcmp(name, ".git") != 0) {
                fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                if (fd < 0 || depth >= AI_FILES_DEPTH) {
                        f->complete = false;
                        if (fd >= 0)
                                close(fd);
                } else {
                        char *below = str_printf("%s/", path);

                        rc = below ? walk(f, fd, below, depth + 1) : -E_NOMEM;
                        mem_free(below);
                }
        }
        mem_free(path);
        return rc;
}

/* Takes fd. */
static int walk(struct ai_files *f, int fd, const char *at, int depth)
{
        DIR *d = fdopendir(fd);
        struct dirent *de;
        int rc = 0;

        if (!d) {
                close(fd);
                f->complete = false;
                return 0;
        }
        while (!rc && (de = readdir(d))) {
                if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0)
                        continue;
                if (f->n >= AI_FILES_MAX) {
                        f->complete = false;
                        break;
                }
                rc = look(f, dirfd(d), at, de->d_name, depth);
        }
        closedir(d);
        return rc;
}

static int by_path(const void *a, const void *b, void *names)
{
        const struct entry *x = a, *y = b;

        return strcmp((const char *)names + x->path, (const char *)names + y->path);
}

int ai_files_scan(const char *dir, struct ai_files **out)
{
        struct ai_files *f = mem_calloc(1, sizeof *f);
        int fd, rc;

        if (!f)
                return -E_NOMEM;
        buf_init(&f->names, 0);
        f->complete = true;
        fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        rc = fd >= 0 ? walk(f, fd, "", 0) : 0;
        if (fd < 0)
                f->complete = false;
        if (rc) {
                ai_files_free(f);
                return rc;
        }
        if (f->n > 1)
                qsort_r(f->v, f->n, sizeof *f->v, by_path, f->names.data);
        *out = f;
        return 0;
}

static bool same(const struct entry *a, const struct entry *b)
{
        return a->ino == b->ino && a->size == b->size && a->mtime_ns == b->mtime_ns &&
               a->ctime_ns == b->ctime_ns;
}

static int put(cJSON *into, const char *path, const char *change)
{
        char *clean = str_utf8_lossy(path, strlen(path));
        cJSON *o = cJSON_CreateObject();

        if (clean && o && cJSON_AddStringToObject(o, "path", clean) &&
            cJSON_AddStringToObject(o, "change", change) && cJSON_AddItemToArray(into, o)) {
                mem_free(clean);
                return 0;
        }
        mem_free(clean);
        cJSON_Delete(o);
        return -E_NOMEM;
}

int ai_files_changes(const struct ai_files *before, const struct ai_files *after, size_t max, cJSON *into,
                     bool *complete)
{
        size_t i = 0, k = 0, n = 0;
        int rc = 0;

        *complete = before->complete && after->complete;
        while (!rc && (i < before->n || k < after->n)) {
                const struct entry *b = i < before->n ? &before->v[i] : NULL;
                const struct entry *a = k < after->n ? &after->v[k] : NULL;
                const char *bp = b ? (const char *)before->names.data + b->path : NULL;
                const char *ap = a ? (const char *)after->names.data + a->path : NULL;
                int order = !b ? 1 : !a ? -1 : strcmp(bp, ap);
                const char *change = order > 0 ? "added" : order < 0 ? "deleted" : "modified";

                i += order <= 0;
                k += order >= 0;
                if (order == 0 && same(b, a))
                        continue;
                /* A picture that was cut says nothing about what is missing from it. */
                if ((order < 0 && !after->complete) || (order > 0 && !before->complete))
                        continue;
                if (n++ == max) {
                        *complete = false;
                        break;
                }
                rc = put(into, order > 0 ? ap : bp, change);
        }
        return rc;
}

void ai_files_free(struct ai_files *f)
{
        if (!f)
                return;
        mem_free(f->v);
        buf_fini(&f->names);
        mem_free(f);
}
