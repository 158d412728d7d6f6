/* file.list and file.stat. */
#include "agent/tools/file_in.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/err.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"

const char file_list_input[] =
        "{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"path\"],\"properties\":{"
        "\"path\":{\"type\":\"string\",\"minLength\":1,\"maxLength\":4096,\"description\":\"a folder; "
        "absolute, ~/..., or relative to the home folder\"},"
        "\"recursive\":{\"type\":\"boolean\"},"
        "\"glob\":{\"type\":\"string\",\"maxLength\":1024,\"description\":\"* and ?; on the name, or on the "
        "path below the folder if it contains /\"},"
        "\"limit\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":20000,\"description\":\"entries at most; "
        "1000 if left out\"}}}";
const char file_list_output[] =
        "{\"type\":\"object\",\"required\":[\"entries\",\"truncated\"],\"properties\":{\"entries\":{\"type\":"
        "\"array\",\"items\":{"
        "\"type\":\"object\",\"required\":[\"path\",\"type\"],\"properties\":{\"path\":{\"type\":\"string\","
        "\"description\":\"below the folder\"},"
        "\"type\":{\"enum\":[\"file\",\"dir\",\"symlink\",\"other\"]},\"size\":{\"type\":\"integer\"},"
        "\"mtime\":{\"type\":\"string\"}}}},"
        "\"truncated\":{\"type\":\"boolean\",\"description\":\"there are more than limit\"}}}";
const char file_stat_input[] =
        "{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"path\"],\"properties\":{"
        "\"path\":{\"type\":\"string\",\"minLength\":1,\"maxLength\":4096},"
        "\"follow\":{\"type\":\"boolean\",\"description\":\"a symbolic link in the last place; true if left "
        "out\"},"
        "\"sha256\":{\"type\":\"boolean\",\"description\":\"of a regular file's contents too\"}}}";
const char file_stat_output[] = "{\"type\":\"object\",\"required\":[\"path\",\"exists\"],\"properties\":{"
                                "\"path\":{\"type\":\"string\"},\"exists\":{\"type\":\"boolean\"},"
                                "\"type\":{\"enum\":[\"file\",\"dir\",\"symlink\",\"other\"]},\"size\":{"
                                "\"type\":\"integer\"},\"mode\":{\"type\":\"string\"},"
                                "\"mtime\":{\"type\":\"string\"},\"uid\":{\"type\":\"integer\"},\"gid\":{"
                                "\"type\":\"integer\"},\"target\":{\"type\":\"string\"},"
                                "\"sha256\":{\"type\":\"string\"}}}";

static const char *type_name(mode_t m)
{
        return S_ISREG(m) ? "file" : S_ISDIR(m) ? "dir" : S_ISLNK(m) ? "symlink" : "other";
}

static bool add_common(cJSON *o, const struct stat *st)
{
        char when[CLOCK_RFC3339_LEN];

        clock_format((int64_t)st->st_mtim.tv_sec * 1000000 + st->st_mtim.tv_nsec / 1000, when);
        return cJSON_AddStringToObject(o, "type", type_name(st->st_mode)) &&
               cJSON_AddNumberToObject(o, "size", (double)st->st_size) &&
               cJSON_AddStringToObject(o, "mtime", when);
}

/* A file name may hold any bytes; an answer only text. */
static bool add_lossy(cJSON *o, const char *key, const char *s)
{
        char *text = str_utf8_lossy(s, strlen(s));
        bool ok = text && cJSON_AddStringToObject(o, key, text);

        mem_free(text);
        return ok;
}

/* --- list --------------------------------------------------------------------- */

struct listing {
        struct file_work *w;
        cJSON *entries;
        const char *glob;
        int64_t left;
        bool recursive, truncated;
};

static int by_name(const void *a, const void *b)
{
        return strcmp(*(char *const *)a, *(char *const *)b);
}

static void names_free(char **v, size_t n)
{
        for (size_t i = 0; i < n; i++)
                mem_free(v[i]);
        mem_free(v);
}

/* All names of a folder, sorted, so that the same folder gives the same answer. Takes fd. */
static int names_read(struct file_work *w, int fd, const char *real, char ***out, size_t *out_n)
{
        DIR *d = fdopendir(fd);
        struct dirent *x;
        char **v = NULL;
        size_t n = 0, cap = 0;
        int rc = 0;

        if (!d) {
                rc = work_errno(w, errno, "list", real);
                close(fd);
                return rc;
        }
        while (rc == 0 && (errno = 0, x = readdir(d))) {
                if (strcmp(x->d_name, ".") == 0 || strcmp(x->d_name, "..") == 0)
                        continue;
                if (atomic_load(&w->stop)) {
                        rc = work_fail(w, E_CANCELLED, NULL, "listing was cancelled");
                        break;
                }
                if (n == cap) {
                        char **more = mem_realloc(v, (cap = cap ? cap * 2 : 64) * sizeof *v);

                        if (!more) {
                                rc = work_nomem(w);
                                break;
                        }
                        v = more;
                }
                v[n] = mem_strdup(x->d_name);
                if (!v[n]) {
                        rc = work_nomem(w);
                        break;
                }
                n++;
        }
        if (rc == 0 && errno)
                rc = work_errno(w, errno, "list", real);
        closedir(d);
        if (rc) {
                names_free(v, n);
                return rc;
        }
        if (n)
                qsort(v, n, sizeof *v, by_name);
        *out = v;
        *out_n = n;
        return 0;
}

static int list_entry(struct listing *l, const char *rel, const char *name, const struct stat *st)
{
        cJSON *o;

        if (l->glob && !str_glob(l->glob, strchr(l->glob, '/') ? rel : name))
                return 0;
        if (l->left == 0) {
                l->truncated = true;
                return 0;
        }
        l->left--;
        o = cJSON_CreateObject();
        if (!o || !add_lossy(o, "path", rel) || !add_common(o, st) || !cJSON_AddItemToArray(l->entries, o)) {
                cJSON_Delete(o);
                return work_nomem(l->w);
        }
        return 0;
}

/* Takes fd. prefix: path below the start, "" or "a/b/". */
static int list_folder(struct listing *l, int fd, const char *real, const char *prefix, int depth)
{
        struct file_work *w = l->w;
        char **v = NULL;
        size_t n = 0;
        int at = dup(fd), rc;

        if (at < 0) {
                rc = work_errno(w, errno, "open", real);
                close(fd);
                return rc;
        }
        rc = names_read(w, fd, real, &v, &n);
        for (size_t i = 0; rc == 0 && i < n && !l->truncated; i++) {
                char *rel = str_printf("%s%s", prefix, v[i]);
                char *sub = str_printf("%s/%s", strcmp(real, "/") == 0 ? "" : real, v[i]);
                char *below = str_printf("%s%s/", prefix, v[i]);
                struct stat st;
                int dir;

                if (!rel || !sub || !below)
                        rc = work_nomem(w);
                else if (fstatat(at, v[i], &st, AT_SYMLINK_NOFOLLOW) != 0)
                        rc = errno == ENOENT ? 0 : work_errno(w, errno, "look at", sub);
                else
                        rc = list_entry(l, rel, v[i], &st);
                /* What may not be read is named but not entered. */
                if (rc == 0 && l->recursive && S_ISDIR(st.st_mode) && depth < FILE_DEPTH_MAX &&
                    policy_path_real(w->policy, POLICY_READ, sub, NULL) == 0) {
                        dir = openat(at, v[i], O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                        if (dir >= 0)
                                rc = list_folder(l, dir, sub, below, depth + 1);
                        else if (errno != EACCES && errno != ENOENT && errno != ELOOP && errno != ENOTDIR)
                                rc = work_errno(w, errno, "open", sub);
                }
                mem_free(rel);
                mem_free(sub);
                mem_free(below);
        }
        names_free(v, n);
        close(at);
        return rc;
}

int file_list_run(struct file_work *w)
{
        struct listing l = {.w = w, .left = FILE_LIST_DEFAULT};
        char *real = NULL;
        int fd = -1;
        int rc = work_path(w, POLICY_READ, &real);

        if (rc == 0)
                rc = json_bool_opt(w->input, "recursive", &l.recursive, &w->e);
        if (rc == 0)
                rc = json_str_opt(w->input, "glob", &l.glob, &w->e);
        if (rc == 0)
                rc = json_i64_opt(w->input, "limit", 1, FILE_LIST_MAX, &l.left, &w->e);
        if (rc == 0)
                rc = open_dir(w, real, false, &fd);
        if (rc)
                goto out;
        w->out = cJSON_CreateObject();
        l.entries = w->out ? cJSON_AddArrayToObject(w->out, "entries") : NULL;
        if (!l.entries) {
                close(fd);
                rc = work_nomem(w);
                goto out;
        }
        rc = list_folder(&l, fd, real, "", 0);
        if (rc == 0 && !cJSON_AddBoolToObject(w->out, "truncated", l.truncated))
                rc = work_nomem(w);
out:
        mem_free(real);
        return rc;
}

/* --- stat ---------------------------------------------------------------------- */

static int stat_more(struct file_work *w, cJSON *o, int dir, const char *base, const char *real,
                     const struct stat *st)
{
        char mode[16], target[4096], hex[SHA256_HEX];
        bool sha = false;
        ssize_t n;
        int fd, rc = json_bool_opt(w->input, "sha256", &sha, &w->e);
        struct stat again;

        if (rc)
                return rc;
        snprintf(mode, sizeof mode, "%04o", (unsigned)(st->st_mode & 07777));
        if (!add_common(o, st) || !cJSON_AddStringToObject(o, "mode", mode) ||
            !cJSON_AddNumberToObject(o, "uid", (double)st->st_uid) ||
            !cJSON_AddNumberToObject(o, "gid", (double)st->st_gid))
                return work_nomem(w);
        if (S_ISLNK(st->st_mode)) {
                n = readlinkat(dir, base, target, sizeof target - 1);
                if (n < 0)
                        return work_errno(w, errno, "read the link", real);
                target[n] = '\0';
                return add_lossy(o, "target", target) ? 0 : work_nomem(w);
        }
        if (!sha || !S_ISREG(st->st_mode))
                return 0;
        rc = open_file(w, real, &fd, &again);
        if (rc)
                return rc;
        rc = fd_sha256(w, fd, real, hex);
        close(fd);
        if (rc == 0 && !cJSON_AddStringToObject(o, "sha256", hex))
                rc = work_nomem(w);
        return rc;
}

int file_stat_run(struct file_work *w)
{
        const char *base = ".";
        char *real = NULL;
        bool follow = true, exists = true;
        struct stat st;
        int dir = -1;
        int rc = json_bool_opt(w->input, "follow", &follow, &w->e);

        if (rc == 0)
                rc = follow ? work_path(w, POLICY_READ, &real) : work_path_nofollow(w, POLICY_READ, &real);
        if (rc)
                goto out;
        w->out = cJSON_CreateObject();
        if (!w->out || !add_lossy(w->out, "path", real)) {
                rc = work_nomem(w);
                goto out;
        }
        if (strcmp(real, "/") == 0)
                rc = open_dir(w, real, false, &dir);
        else
                rc = open_parent(w, real, false, &dir, &base);
        if (rc == -E_NOENT) {
                exists = false;
                rc = 0;
        } else if (rc == 0 && fstatat(dir, base, &st, AT_SYMLINK_NOFOLLOW) != 0) {
                exists = false;
                rc = errno == ENOENT ? 0 : work_errno(w, errno, "look at", real);
        }
        if (rc == 0 && !cJSON_AddBoolToObject(w->out, "exists", exists))
                rc = work_nomem(w);
        if (rc == 0 && exists)
                rc = stat_more(w, w->out, dir, base, real, &st);
out:
        if (dir >= 0)
                close(dir);
        mem_free(real);
        return rc;
}
