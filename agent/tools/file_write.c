/* file.write, and the atomic replacement that file.patch uses too. */
#include "agent/tools/file_in.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/err.h"
#include "common/file.h"
#include "common/id.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/secret.h"
#include "common/sha256.h"
#include "common/str.h"

const char file_write_input[] =
        "{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"path\",\"content\"],"
        "\"properties\":{"
        "\"path\":{\"type\":\"string\",\"minLength\":1,\"maxLength\":4096,\"description\":\"absolute, ~/..., "
        "or relative to the home folder\"},"
        "\"content\":{\"type\":\"string\"},"
        "\"encoding\":{\"enum\":[\"utf-8\",\"base64\"],\"description\":\"of content; utf-8 if left out\"},"
        "\"mode\":{\"type\":\"string\",\"minLength\":3,\"maxLength\":4,\"description\":\"octal, e.g. 0644; "
        "an existing file keeps its own if left out\"},"
        "\"create_dirs\":{\"type\":\"boolean\"},"
        "\"append\":{\"type\":\"boolean\",\"description\":\"add to the end in place instead of replacing the "
        "whole\"},"
        "\"if_sha256\":{\"type\":\"string\",\"minLength\":64,\"maxLength\":64,\"description\":\"only if the "
        "file now has these contents\"},"
        "\"if_absent\":{\"type\":\"boolean\",\"description\":\"only if there is no such file\"}}}";
const char file_write_output[] =
        "{\"type\":\"object\",\"required\":[\"path\",\"size\",\"created\",\"mode\"],\"properties\":{"
        "\"path\":{\"type\":\"string\",\"description\":\"after symbolic "
        "links\"},\"size\":{\"type\":\"integer\",\"description\":\"of the file now\"},"
        "\"sha256\":{\"type\":\"string\",\"description\":\"of the file now; not with "
        "append\"},\"created\":{\"type\":\"boolean\"},"
        "\"mode\":{\"type\":\"string\"}}}";

int work_mode(struct file_work *w, int *out)
{
        const char *text = NULL;
        int mode = 0, rc = json_str_opt(w->input, "mode", &text, &w->e);

        if (rc || !text) {
                *out = -1;
                return rc;
        }
        for (const char *s = text; *s; s++) {
                if (*s < '0' || *s > '7')
                        return work_fail(w, E_INVAL, NULL, "mode: \"%s\" is not octal such as 0644", text);
                mode = mode * 8 + (*s - '0');
        }
        if (mode > 0777)
                return work_fail(w, E_INVAL, NULL,
                                 "mode: \"%s\" is over 0777; set-user-id and the like cannot be set", text);
        *out = mode;
        return 0;
}

int fd_sha256(struct file_work *w, int fd, const char *path, char out[SHA256_HEX])
{
        struct sha256 *sha = sha256_create();
        uint8_t *v = mem_alloc((size_t)64 << 10), sum[SHA256_LEN];
        off_t at = 0;
        int rc = v && sha ? 0 : work_nomem(w);

        while (rc == 0) {
                ssize_t n;

                if (atomic_load(&w->stop)) {
                        rc = work_fail(w, E_CANCELLED, NULL, "reading was cancelled");
                        break;
                }
                n = pread(fd, v, (size_t)64 << 10, at);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        rc = work_errno(w, errno, "read", path);
                if (n <= 0)
                        break;
                sha256_put(sha, v, (size_t)n);
                at += n;
        }
        if (rc == 0) {
                sha256_get(sha, sum);
                str_hex(sum, sizeof sum, out);
        }
        sha256_free(sha);
        mem_free(v);
        return rc;
}

/* --- what is there now ------------------------------------------------------ */

static int check_old(struct file_work *w, struct replace *r, struct stat *old)
{
        r->existed = fstatat(r->dir_fd, r->base, old, AT_SYMLINK_NOFOLLOW) == 0;
        if (!r->existed) {
                if (errno != ENOENT)
                        return work_errno(w, errno, "look at", r->real);
                if (r->if_sha256)
                        return work_fail(w, E_STATE, "precondition_failed",
                                         "%s does not exist, but if_sha256 asks for its contents", r->real);
                return 0;
        }
        if (r->if_absent)
                return work_fail(w, E_EXIST, "precondition_failed",
                                 "%s exists already, and if_absent was asked for", r->real);
        if (S_ISLNK(old->st_mode))
                return work_errno(w, ELOOP, "write", r->real);
        if (S_ISDIR(old->st_mode))
                return work_fail(w, E_INVAL, "is_a_folder", "%s is a folder", r->real);
        if (!S_ISREG(old->st_mode))
                return work_fail(w, E_INVAL, "not_a_file", "%s is a device, pipe or socket", r->real);
        return 0;
}

static int check_sha256(struct file_work *w, const struct replace *r)
{
        char hex[SHA256_HEX];
        int fd, rc;

        if (!r->if_sha256)
                return 0;
        fd = openat(r->dir_fd, r->base, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
        if (fd < 0)
                return work_errno(w, errno, "read", r->real);
        rc = fd_sha256(w, fd, r->real, hex);
        close(fd);
        if (rc == 0 && !str_ieq(hex, r->if_sha256))
                rc = work_fail(w, E_STATE, "precondition_failed",
                               "%s has changed: its sha256 is %s, if_sha256 asks for %s; read it again",
                               r->real, hex, r->if_sha256);
        return rc;
}

/* --- replace ------------------------------------------------------------------- */

static int fill(struct file_work *w, const struct replace *r, int fd, const struct stat *old)
{
        int rc = file_write_all(fd, r->data, r->n);

        if (rc)
                return work_errno(w, rc == -E_NOSPACE ? ENOSPC : EIO, "write", r->real);
        /* The owner is kept where the agent may give files away, else it becomes the agent's user. */
        if (r->existed && (old->st_uid != geteuid() || old->st_gid != getegid()) &&
            fchown(fd, old->st_uid, old->st_gid) != 0 && errno != EPERM)
                return work_errno(w, errno, "change the owner of", r->real);
        if (r->mode >= 0 || r->existed)
                if (fchmod(fd, r->mode >= 0 ? (mode_t)r->mode : (old->st_mode & 0777)) != 0)
                        return work_errno(w, errno, "change the mode of", r->real);
        if (fsync(fd) != 0)
                return work_errno(w, errno, "write", r->real);
        return 0;
}

static int put_in_place(struct file_work *w, const struct replace *r, const char *tmp)
{
        if (!r->if_absent) {
                if (renameat(r->dir_fd, tmp, r->dir_fd, r->base) != 0)
                        return work_errno(w, errno, "replace", r->real);
                return 0;
        }
        /* A link, unlike a rename, fails when somebody was faster. */
        if (linkat(r->dir_fd, tmp, r->dir_fd, r->base, 0) != 0) {
                if (errno == EEXIST)
                        return work_fail(w, E_EXIST, "precondition_failed",
                                         "%s exists already, and if_absent was asked for", r->real);
                return work_errno(w, errno, "create", r->real);
        }
        unlinkat(r->dir_fd, tmp, 0);
        return 0;
}

int replace_file(struct file_work *w, struct replace *r)
{
        char tmp[64];
        struct stat old = {0};
        int fd, rc = check_old(w, r, &old);

        if (rc)
                return rc;
        snprintf(tmp, sizeof tmp, ".photon-%016llx.tmp", (unsigned long long)id_random_u64());
        fd = openat(r->dir_fd, tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                    r->existed || r->mode >= 0 ? 0600 : 0666);
        if (fd < 0)
                return work_errno(w, errno, "create a file beside", r->real);
        rc = fill(w, r, fd, &old);
        if (rc == 0)
                rc = check_sha256(w, r);
        if (rc == 0 && atomic_load(&w->stop))
                rc = work_fail(w, E_CANCELLED, NULL, "writing was cancelled; nothing was changed");
        if (rc == 0)
                rc = put_in_place(w, r, tmp);
        if (rc)
                unlinkat(r->dir_fd, tmp, 0);
        else if (fstat(fd, &r->st) != 0)
                rc = work_errno(w, errno, "look at", r->real);
        close(fd);
        /* The name itself must survive a power cut too. A folder opened by path only cannot be synced. */
        if (rc == 0 && fsync(r->dir_fd) != 0 && errno != EBADF && errno != EINVAL)
                rc = work_errno(w, errno, "write the folder of", r->real);
        return rc;
}

/* --- append --------------------------------------------------------------------- */

static int append_file(struct file_work *w, struct replace *r)
{
        struct stat old = {0};
        off_t before;
        int fd, rc = check_old(w, r, &old);

        if (rc == 0)
                rc = check_sha256(w, r);
        if (rc)
                return rc;
        fd = openat(r->dir_fd, r->base,
                    O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK |
                            (r->if_absent ? O_EXCL : 0),
                    0666);
        if (fd < 0)
                return work_errno(w, errno, "open", r->real);
        if (fstat(fd, &r->st) != 0 || !S_ISREG(r->st.st_mode)) {
                close(fd);
                return work_fail(w, E_INVAL, "not_a_file", "%s is no longer a regular file", r->real);
        }
        before = r->st.st_size;
        rc = file_write_all(fd, r->data, r->n);
        if (rc) {
                rc = work_errno(w, rc == -E_NOSPACE ? ENOSPC : EIO, "write", r->real);
                /* Half of it would be worse than nothing. */
                if (ftruncate(fd, before) != 0)
                        w->code = "partly_written";
        }
        if (rc == 0 && r->mode >= 0 && fchmod(fd, (mode_t)r->mode) != 0)
                rc = work_errno(w, errno, "change the mode of", r->real);
        if (rc == 0 && fsync(fd) != 0)
                rc = work_errno(w, errno, "write", r->real);
        if (rc == 0 && fstat(fd, &r->st) != 0)
                rc = work_errno(w, errno, "look at", r->real);
        close(fd);
        return rc;
}

/* --- the tool ------------------------------------------------------------------ */

int add_written(struct file_work *w, const struct replace *r)
{
        char mode[16];
        cJSON *o = w->out ? w->out : cJSON_CreateObject();

        snprintf(mode, sizeof mode, "%04o", (unsigned)(r->st.st_mode & 07777));
        w->out = o;
        if (!o || !cJSON_AddStringToObject(o, "path", r->real) ||
            !cJSON_AddNumberToObject(o, "size", (double)r->st.st_size) ||
            !cJSON_AddBoolToObject(o, "created", !r->existed) || !cJSON_AddStringToObject(o, "mode", mode))
                return work_nomem(w);
        return 0;
}

static int add_sha256(struct file_work *w, const void *v, size_t n)
{
        uint8_t sum[SHA256_LEN];
        char hex[SHA256_HEX];

        secret_sha256(v, n, sum);
        str_hex(sum, sizeof sum, hex);
        return cJSON_AddStringToObject(w->out, "sha256", hex) ? 0 : work_nomem(w);
}

static int content(struct file_work *w, const void **out, size_t *out_n, uint8_t **own)
{
        const char *text = NULL, *encoding = "utf-8";
        int rc = json_str(w->input, "content", &text, &w->e);

        if (rc == 0)
                rc = json_str_opt(w->input, "encoding", &encoding, &w->e);
        if (rc)
                return rc;
        *out = text;
        *out_n = strlen(text);
        if (strcmp(encoding, "base64") == 0) {
                rc = str_unb64(text, strlen(text), own, out_n);
                if (rc == -E_NOMEM)
                        return work_nomem(w);
                if (rc)
                        return work_fail(
                                w, E_INVAL, NULL,
                                "content is not base64 (RFC 4648, with padding, without line breaks)");
                *out = *own;
        }
        if (*out_n > FILE_WRITE_MAX)
                return work_fail(w, E_TOOBIG, NULL, "content is over 64 MiB");
        return 0;
}

int file_write_run(struct file_work *w)
{
        struct replace r = {.dir_fd = -1, .mode = -1};
        uint8_t *own = NULL;
        char *real = NULL;
        bool create_dirs = false, append = false;
        int rc = work_path(w, POLICY_WRITE, &real);

        if (rc == 0)
                rc = content(w, &r.data, &r.n, &own);
        if (rc == 0)
                rc = json_bool_opt(w->input, "create_dirs", &create_dirs, &w->e);
        if (rc == 0)
                rc = json_bool_opt(w->input, "append", &append, &w->e);
        if (rc == 0)
                rc = json_bool_opt(w->input, "if_absent", &r.if_absent, &w->e);
        if (rc == 0)
                rc = json_str_opt(w->input, "if_sha256", &r.if_sha256, &w->e);
        if (rc == 0 && r.if_absent && r.if_sha256)
                rc = work_fail(w, E_INVAL, NULL, "if_absent and if_sha256 exclude each other");
        if (rc == 0)
                rc = work_mode(w, &r.mode);
        r.real = real;
        if (rc == 0)
                rc = open_parent(w, real, create_dirs, &r.dir_fd, &r.base);
        if (rc == 0)
                rc = append ? append_file(w, &r) : replace_file(w, &r);
        if (rc == 0)
                rc = add_written(w, &r);
        if (rc == 0 && !append)
                rc = add_sha256(w, r.data, r.n);
        if (r.dir_fd >= 0)
                close(r.dir_fd);
        mem_free(own);
        mem_free(real);
        return rc;
}
