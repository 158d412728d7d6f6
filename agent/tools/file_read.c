/* file.read: a range of a file, as text or base64. */
#include "agent/tools/file_in.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/err.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/secret.h"
#include "common/str.h"

const char file_read_input[] =
        "{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"path\"],\"properties\":{"
        "\"path\":{\"type\":\"string\",\"minLength\":1,\"maxLength\":4096,\"description\":\"absolute, ~/..., "
        "or relative to the home folder\"},"
        "\"offset\":{\"type\":\"integer\",\"minimum\":0,\"description\":\"first byte; 0 if left out\"},"
        "\"length\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":8388608,\"description\":\"bytes at most; "
        "1 MiB if left out\"},"
        "\"encoding\":{\"enum\":[\"utf-8\",\"base64\"],\"description\":\"utf-8 if left out; base64 for "
        "binary files\"}}}";
const char file_read_output[] =
        "{\"type\":\"object\",\"required\":[\"content\",\"encoding\",\"size\",\"offset\",\"length\","
        "\"sha256\",\"eof\"],\"properties\":{"
        "\"content\":{\"type\":\"string\"},\"encoding\":{\"enum\":[\"utf-8\",\"base64\"]},"
        "\"size\":{\"type\":\"integer\",\"description\":\"of the whole "
        "file\"},\"offset\":{\"type\":\"integer\"},"
        "\"length\":{\"type\":\"integer\",\"description\":\"bytes returned, before encoding\"},"
        "\"sha256\":{\"type\":\"string\",\"description\":\"of the bytes returned\"},"
        "\"eof\":{\"type\":\"boolean\",\"description\":\"the file ends with these bytes\"}}}";

/* Reads until `want` bytes or the end; files under /proc have no size that could be trusted. */
static int read_range(struct file_work *w, int fd, const char *path, int64_t offset, uint8_t *v, size_t want,
                      size_t *got)
{
        size_t n = 0;

        while (n < want) {
                size_t step = want - n < ((size_t)1 << 20) ? want - n : (size_t)1 << 20;
                ssize_t k;

                if (atomic_load(&w->stop))
                        return work_fail(w, E_CANCELLED, NULL, "reading was cancelled");
                k = pread(fd, v + n, step, (off_t)(offset + (int64_t)n));
                if (k < 0 && errno == EINTR)
                        continue;
                if (k < 0)
                        return work_errno(w, errno, "read", path);
                if (k == 0)
                        break;
                n += (size_t)k;
        }
        *got = n;
        return 0;
}

/* A range may end within a character; what is left over comes with the next range. */
static size_t whole_characters(const uint8_t *v, size_t n)
{
        size_t back = 0;

        while (back < 3 && back < n && (v[n - 1 - back] & 0xc0) == 0x80)
                back++;
        if (back < n && v[n - 1 - back] >= 0xc0 && str_utf8_len(v + n - 1 - back, back + 1) == 0)
                return n - 1 - back;
        return n;
}

static int encode(struct file_work *w, const char *path, const uint8_t *v, size_t *io_n, bool eof, bool b64,
                  char **out)
{
        if (b64) {
                *out = str_b64(v, *io_n);
                return *out ? 0 : work_nomem(w);
        }
        if (!eof)
                *io_n = whole_characters(v, *io_n);
        if (memchr(v, '\0', *io_n) || !str_is_utf8(v, *io_n))
                return work_fail(w, E_INVAL, "not_text",
                                 "%s is not UTF-8 text in this range; use encoding: base64 (or an offset at "
                                 "the start of a "
                                 "character)",
                                 path);
        *out = mem_strndup((const char *)v, *io_n);
        return *out ? 0 : work_nomem(w);
}

static int answer(struct file_work *w, char *content, const uint8_t *v, size_t n, int64_t offset,
                  int64_t size, bool eof, bool b64)
{
        uint8_t sum[SHA256_LEN];
        char hex[SHA256_HEX];
        cJSON *o = cJSON_CreateObject();

        secret_sha256(v, n, sum);
        str_hex(sum, sizeof sum, hex);
        if (!o || !cJSON_AddStringToObject(o, "content", content) ||
            !cJSON_AddStringToObject(o, "encoding", b64 ? "base64" : "utf-8") ||
            !cJSON_AddNumberToObject(o, "size", (double)size) ||
            !cJSON_AddNumberToObject(o, "offset", (double)offset) ||
            !cJSON_AddNumberToObject(o, "length", (double)n) || !cJSON_AddStringToObject(o, "sha256", hex) ||
            !cJSON_AddBoolToObject(o, "eof", eof)) {
                cJSON_Delete(o);
                return work_nomem(w);
        }
        w->out = o;
        return 0;
}

int file_read_run(struct file_work *w)
{
        const char *encoding = "utf-8";
        char *real = NULL, *content = NULL;
        uint8_t *v = NULL;
        int64_t offset = 0, length = (int64_t)FILE_READ_DEFAULT;
        struct stat st;
        size_t got = 0, n;
        bool b64, eof;
        int fd = -1;
        int rc = work_path(w, POLICY_READ, &real);

        if (rc == 0)
                rc = json_i64_opt(w->input, "offset", 0, INT64_MAX / 2, &offset, &w->e);
        if (rc == 0)
                rc = json_i64_opt(w->input, "length", 0, (int64_t)FILE_READ_MAX, &length, &w->e);
        if (rc == 0)
                rc = json_str_opt(w->input, "encoding", &encoding, &w->e);
        if (rc == 0)
                rc = open_file(w, real, &fd, &st);
        if (rc)
                goto out;
        b64 = strcmp(encoding, "base64") == 0;
        /* One more than asked for tells whether the file goes on. */
        if (st.st_size > 0 && st.st_size - offset < length)
                n = st.st_size > offset ? (size_t)(st.st_size - offset) + 1 : 1;
        else
                n = (size_t)length + 1;
        v = mem_alloc(n);
        rc = v ? read_range(w, fd, real, offset, v, n, &got) : work_nomem(w);
        if (rc)
                goto out;
        eof = got < n;
        if (!eof)
                got = n - 1;
        n = got;
        rc = encode(w, real, v, &n, eof, b64, &content);
        if (rc == 0)
                rc = answer(w, content, v, n, offset,
                            got && offset + (int64_t)got > st.st_size ? offset + (int64_t)got : st.st_size,
                            eof, b64);
out:
        if (fd >= 0)
                close(fd);
        mem_free(content);
        mem_free(v);
        mem_free(real);
        return rc;
}
