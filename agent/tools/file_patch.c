/* file.patch: edits or a unified diff, all or nothing. */
#include "agent/tools/file_in.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "agent/tools/patch.h"
#include "common/buf.h"
#include "common/err.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/secret.h"
#include "common/str.h"

const char file_patch_input[] =
        "{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"path\"],"
        "\"anyOf\":[{\"required\":[\"edits\"]},{\"required\":[\"diff\"]}],\"properties\":{"
        "\"path\":{\"type\":\"string\",\"minLength\":1,\"maxLength\":4096,\"description\":\"absolute, ~/..., "
        "or relative to the home folder\"},"
        "\"edits\":{\"type\":\"array\",\"minItems\":1,\"maxItems\":1000,\"items\":{\"type\":\"object\","
        "\"additionalProperties\":false,"
        "\"required\":[\"old\",\"new\"],\"properties\":{\"old\":{\"type\":\"string\",\"minLength\":1,"
        "\"description\":\"must be in the file exactly once\"},"
        "\"new\":{\"type\":\"string\"},\"replace_all\":{\"type\":\"boolean\"}}}},"
        "\"diff\":{\"type\":\"string\",\"minLength\":1,\"description\":\"unified diff of this one file; "
        "every hunk must fit exactly\"},"
        "\"if_sha256\":{\"type\":\"string\",\"minLength\":64,\"maxLength\":64,\"description\":\"only if the "
        "file now has these contents\"}}}";
const char file_patch_output[] =
        "{\"type\":\"object\",\"required\":[\"path\",\"size\",\"created\",\"mode\",\"changes\",\"sha256\"],"
        "\"properties\":{"
        "\"path\":{\"type\":\"string\"},\"size\":{\"type\":\"integer\"},\"created\":{\"type\":\"boolean\"},"
        "\"mode\":{\"type\":\"string\"},"
        "\"changes\":{\"type\":\"integer\",\"description\":\"replacements or hunks\"},"
        "\"before_sha256\":{\"type\":\"string\"},\"sha256\":{\"type\":\"string\",\"description\":\"of the "
        "file now\"}}}";

static void hex_of(const void *v, size_t n, char out[SHA256_HEX])
{
        uint8_t sum[SHA256_LEN];

        secret_sha256(v, n, sum);
        str_hex(sum, sizeof sum, out);
}

/* -E_NOENT: there is none. */
static int slurp(struct file_work *w, const char *real, struct buf *b)
{
        struct stat st;
        int fd, rc = open_file(w, real, &fd, &st);

        if (rc)
                return rc;
        if (st.st_size > (off_t)FILE_PATCH_MAX)
                rc = work_fail(w, E_TOOBIG, NULL, "%s is over 16 MiB", real);
        while (rc == 0) {
                ssize_t n;

                rc = buf_reserve(b, (size_t)64 << 10);
                if (rc) {
                        rc = rc == -E_NOMEM ? work_nomem(w)
                                            : work_fail(w, E_TOOBIG, NULL, "%s is over 16 MiB", real);
                        break;
                }
                n = read(fd, b->data + b->len, b->cap - b->len);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        rc = work_errno(w, errno, "read", real);
                if (n <= 0)
                        break;
                b->len += (size_t)n;
        }
        close(fd);
        return rc;
}

static int apply(struct file_work *w, const struct buf *old, bool exists, struct buf *new, size_t *count)
{
        const cJSON *edits = cJSON_GetObjectItemCaseSensitive(w->input, "edits");
        const char *diff = NULL, *text = old->data ? (const char *)old->data : "";
        int rc = json_str_opt(w->input, "diff", &diff, &w->e);

        if (rc)
                return rc;
        if (!!edits == !!diff)
                return work_fail(w, E_INVAL, NULL,
                                 edits ? "give either edits or diff, not both" : "edits or diff is missing");
        if (edits)
                rc = patch_edits(text, old->len, edits, new, count, &w->e);
        else
                rc = patch_diff(text, old->len, exists, diff, strlen(diff), new, count, &w->e);
        if (rc == -E_STATE)
                w->code = "patch_mismatch";
        return rc;
}

static int report(struct file_work *w, const struct replace *r, const char *before, size_t count)
{
        char hex[SHA256_HEX];
        int rc = add_written(w, r);

        hex_of(r->data, r->n, hex);
        if (rc == 0 && (!cJSON_AddNumberToObject(w->out, "changes", (double)count) ||
                        !cJSON_AddStringToObject(w->out, "sha256", hex) ||
                        (before && !cJSON_AddStringToObject(w->out, "before_sha256", before))))
                rc = work_nomem(w);
        return rc;
}

int file_patch_run(struct file_work *w)
{
        struct replace r = {.dir_fd = -1, .mode = -1};
        struct buf old, new;
        char *real = NULL, before[SHA256_HEX];
        const char *asked = NULL;
        size_t count = 0;
        bool exists = true;
        int rc;

        buf_init(&old, FILE_PATCH_MAX + ((size_t)128 << 10));
        buf_init(&new, FILE_PATCH_MAX);
        rc = work_path(w, POLICY_WRITE, &real);
        if (rc == 0)
                rc = work_path_again(w, POLICY_READ, real);
        if (rc == 0)
                rc = json_str_opt(w->input, "if_sha256", &asked, &w->e);
        if (rc == 0)
                rc = slurp(w, real, &old);
        if (rc == -E_NOENT && cJSON_GetObjectItemCaseSensitive(w->input, "diff")) {
                exists = false;
                rc = 0;
        }
        hex_of(old.data, old.len, before);
        if (rc == 0 && asked && (!exists || !str_ieq(asked, before)))
                rc = work_fail(w, E_STATE, "precondition_failed", "%s %s; read it again", real,
                               exists ? "has changed since if_sha256 was taken" : "does not exist");
        if (rc == 0) {
                w->code = NULL;
                rc = apply(w, &old, exists, &new, &count);
        }
        if (rc == 0)
                rc = open_parent(w, real, false, &r.dir_fd, &r.base);
        r.real = real;
        r.data = new.data ? (const void *)new.data : "";
        r.n = new.len;
        /* Whoever changed the file since we read it wins. */
        r.if_sha256 = exists ? before : NULL;
        r.if_absent = !exists;
        if (rc == 0)
                rc = replace_file(w, &r);
        if (rc == 0)
                rc = report(w, &r, exists ? before : NULL, count);
        if (r.dir_fd >= 0)
                close(r.dir_fd);
        buf_fini(&old);
        buf_fini(&new);
        mem_free(real);
        return rc;
}
