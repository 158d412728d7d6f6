/* file.delete: a file, a link, or a whole folder; never what the policy denies. */
#include "agent/tools/file_in.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/err.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"

const char file_delete_input[] =
        "{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"path\"],\"properties\":{"
        "\"path\":{\"type\":\"string\",\"minLength\":1,\"maxLength\":4096,\"description\":\"a symbolic link "
        "is removed itself, not what it leads to\"},"
        "\"recursive\":{\"type\":\"boolean\",\"description\":\"a folder with all that is in it\"},"
        "\"missing_ok\":{\"type\":\"boolean\"}}}";
const char file_delete_output[] =
        "{\"type\":\"object\",\"required\":[\"deleted\"],\"properties\":{\"deleted\":{\"type\":\"integer\","
        "\"description\":\"files and folders\"}}}";

struct removal {
        struct file_work *w;
        double count;
};

static int guard(struct removal *r, const char *real)
{
        struct file_work *w = r->w;
        int rc = policy_path_real(w->policy, POLICY_WRITE, real, &w->e);

        if (rc) {
                w->code = "policy_denied";
                w->refused = r->count == 0;
        } else if (atomic_load(&w->stop)) {
                rc = work_fail(w, E_CANCELLED, NULL, "cancelled after %.0f files and folders were deleted",
                               r->count);
        }
        return rc;
}

static int remove_one(struct removal *r, int dir, const char *name, const char *real, int flag)
{
        if (unlinkat(dir, name, flag) != 0) {
                if (errno == ENOTEMPTY || errno == EEXIST)
                        return work_fail(r->w, E_STATE, "not_empty",
                                         "the folder %s is not empty; set recursive to delete all of it",
                                         real);
                return work_errno(r->w, errno, "delete", real);
        }
        r->count++;
        return 0;
}

/* Empties the folder `name` in `dir`; no link is followed on the way. */
static int empty(struct removal *r, int dir, const char *name, const char *real, int depth)
{
        int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
        struct dirent *x;
        int rc = 0;

        if (!d) {
                rc = work_errno(r->w, errno, "open the folder", real);
                if (fd >= 0)
                        close(fd);
                return rc;
        }
        if (depth >= FILE_DEPTH_MAX * 4)
                rc = work_fail(r->w, E_TOOBIG, NULL, "%s is nested too deeply", real);
        while (rc == 0 && (errno = 0, x = readdir(d))) {
                struct stat st;
                char *sub;

                if (strcmp(x->d_name, ".") == 0 || strcmp(x->d_name, "..") == 0)
                        continue;
                sub = str_printf("%s/%s", real, x->d_name);
                rc = sub ? guard(r, sub) : work_nomem(r->w);
                if (rc == 0 && fstatat(fd, x->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
                        rc = work_errno(r->w, errno, "look at", sub);
                if (rc == 0 && S_ISDIR(st.st_mode))
                        rc = empty(r, fd, x->d_name, sub, depth + 1);
                if (rc == 0)
                        rc = remove_one(r, fd, x->d_name, sub, S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0);
                mem_free(sub);
        }
        closedir(d);
        return rc;
}

static int remove_path(struct removal *r, const char *real, bool recursive, bool missing_ok)
{
        struct file_work *w = r->w;
        const char *base;
        struct stat st;
        int dir = -1;
        int rc = open_parent(w, real, false, &dir, &base);

        if (rc == 0 && fstatat(dir, base, &st, AT_SYMLINK_NOFOLLOW) != 0)
                rc = work_errno(w, errno, "delete", real);
        if (rc == 0 && S_ISDIR(st.st_mode) && policy_covers_denied(w->policy, real)) {
                rc = work_fail(w, E_DENIED, "policy_denied",
                               "%s holds files that the agent's policy denies; delete its parts one by one",
                               real);
                w->refused = true;
        }
        if (rc == 0)
                rc = guard(r, real);
        if (rc == 0 && S_ISDIR(st.st_mode) && recursive)
                rc = empty(r, dir, base, real, 0);
        if (rc == 0)
                rc = remove_one(r, dir, base, real, S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0);
        if (dir >= 0)
                close(dir);
        return rc == -E_NOENT && missing_ok ? 0 : rc;
}

int file_delete_run(struct file_work *w)
{
        struct removal r = {.w = w};
        char *real = NULL;
        bool recursive = false, missing_ok = false;
        int rc = work_path_nofollow(w, POLICY_WRITE, &real);

        if (rc == 0)
                rc = json_bool_opt(w->input, "recursive", &recursive, &w->e);
        if (rc == 0)
                rc = json_bool_opt(w->input, "missing_ok", &missing_ok, &w->e);
        if (rc == 0 && policy_is_root(w->policy, real)) {
                rc = work_fail(w, E_DENIED, "policy_denied",
                               "%s is a root of the agent's policy and is never deleted itself", real);
                w->refused = true;
        }
        if (rc == 0)
                rc = remove_path(&r, real, recursive, missing_ok);
        if (rc == 0) {
                w->out = cJSON_CreateObject();
                if (!w->out || !cJSON_AddNumberToObject(w->out, "deleted", r.count))
                        rc = work_nomem(w);
        }
        mem_free(real);
        return rc;
}
