/* What a command wrote: the end of its streams, and the file $PHOTON_OUTPUT. */
#include "agent/tools/process_in.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/mem.h"
#include "common/str.h"

int tail_put(struct tail *t, const void *p, size_t n)
{
        const uint8_t *s = p;

        if (n == 0)
                return 0;
        if (!t->v) {
                t->v = mem_alloc(t->cap);
                if (!t->v)
                        return -E_NOMEM;
        }
        t->total += n;
        if (n >= t->cap) {
                memcpy(t->v, s + (n - t->cap), t->cap);
                t->len = t->cap;
                t->at = 0;
                return 0;
        }
        while (n) {
                size_t end = t->len < t->cap ? t->len : t->at;
                size_t room = t->cap - end, k = n < room ? n : room;

                memcpy(t->v + end, s, k);
                if (t->len < t->cap)
                        t->len += k;
                else
                        t->at = (t->at + k) % t->cap;
                s += k;
                n -= k;
        }
        return 0;
}

char *tail_text(const struct tail *t)
{
        uint8_t *flat;
        char *text;
        size_t skip = 0;

        if (!t->len)
                return mem_strdup("");
        flat = mem_alloc(t->len);
        if (!flat)
                return NULL;
        memcpy(flat, t->v + t->at, t->len - t->at);
        memcpy(flat + (t->len - t->at), t->v, t->at);
        /* A cut may have halved a character: its rest is not wrong, it is only not there. */
        if (t->total > t->len)
                while (skip < 3 && skip < t->len && (flat[skip] & 0xc0) == 0x80)
                        skip++;
        text = str_utf8_lossy(flat + skip, t->len - skip);
        mem_free(flat);
        return text;
}

void tail_fini(struct tail *t)
{
        mem_free(t->v);
        t->v = NULL;
}

/* --- the file ---------------------------------------------------------------- */

static const char *const taken[] = {"exit_code", "signal", "stdout", "stderr_tail", "stdout_truncated"};

static bool name_ok(const char *s, size_t n)
{
        if (n == 0 || n > 128 || (s[0] >= '0' && s[0] <= '9'))
                return false;
        for (size_t i = 0; i < n; i++)
                if (!(s[i] == '_' || (i && s[i] == '-') || (s[i] >= 'a' && s[i] <= 'z') ||
                      (s[i] >= 'A' && s[i] <= 'Z') || (s[i] >= '0' && s[i] <= '9')))
                        return false;
        return true;
}

static int put(cJSON *into, int line, const char *name, size_t name_n, const char *v, size_t n, struct err *e)
{
        char key[129];
        char *text;
        cJSON *item = NULL;

        if (!name_ok(name, name_n))
                return err_at(e, E_INVAL, line, 1,
                              "$PHOTON_OUTPUT line %d: expected NAME=VALUE or NAME<<END, where NAME is "
                              "made of letters, digits, - and _",
                              line);
        memcpy(key, name, name_n);
        key[name_n] = '\0';
        for (size_t i = 0; i < sizeof taken / sizeof *taken; i++)
                if (strcmp(key, taken[i]) == 0)
                        return err_at(e, E_INVAL, line, 1,
                                      "$PHOTON_OUTPUT line %d: %s is set by the agent; choose another name",
                                      line, key);
        if (cJSON_GetArraySize(into) >= OUTPUT_NAMES_MAX)
                return err_at(e, E_TOOBIG, line, 1, "$PHOTON_OUTPUT line %d: more than %d names", line,
                              OUTPUT_NAMES_MAX);
        text = str_utf8_lossy(v, n);
        if (text)
                item = cJSON_CreateString(text);
        mem_free(text);
        if (!item)
                return err_set(e, E_NOMEM, "out of memory");
        /* The last one wins, as in a shell. */
        cJSON_DeleteItemFromObjectCaseSensitive(into, key);
        if (!cJSON_AddItemToObject(into, key, item)) {
                cJSON_Delete(item);
                return err_set(e, E_NOMEM, "out of memory");
        }
        return 0;
}

static size_t line_len(const char *s, size_t n)
{
        const char *nl = memchr(s, '\n', n);

        return nl ? (size_t)(nl - s) : n;
}

static const char *find2(const char *s, size_t n)
{
        for (size_t i = 0; i + 1 < n; i++)
                if (s[i] == '<' && s[i + 1] == '<')
                        return s + i;
        return NULL;
}

/* s is behind the "NAME<<END" line. *io_used gets what was read, *io_line moves on. */
static int read_block(const char *s, size_t n, const char *end, size_t end_n, size_t *io_used, int *io_line,
                      size_t *value_n)
{
        size_t at = 0;

        while (at < n) {
                size_t k = line_len(s + at, n - at);

                ++*io_line;
                if (k == end_n && memcmp(s + at, end, k) == 0) {
                        *value_n = at ? at - 1 : 0;
                        *io_used = at + k < n ? at + k + 1 : at + k;
                        return 0;
                }
                at += k + 1;
        }
        return -E_INVAL;
}

int output_parse(const char *text, size_t n, cJSON *into, struct err *e)
{
        size_t at = 0;
        int line = 0, rc = 0;

        while (at < n && rc == 0) {
                const char *s = text + at;
                size_t k = line_len(s, n - at), m = k;
                const char *eq, *block;

                line++;
                at += k + 1;
                if (m && s[m - 1] == '\r')
                        m--;
                if (m == 0)
                        continue;
                eq = memchr(s, '=', m);
                block = find2(s, m);
                if (block && (!eq || block < eq)) {
                        const char *end = block + 2;
                        size_t end_n = (size_t)(s + m - end), used = 0, value_n = 0;
                        int start = line;

                        if (at > n)
                                at = n;
                        if (end_n == 0 ||
                            read_block(text + at, n - at, end, end_n, &used, &line, &value_n) != 0)
                                return err_at(e, E_INVAL, start, 1,
                                              "$PHOTON_OUTPUT line %d: the closing line \"%.*s\" is missing",
                                              start, (int)(end_n > 64 ? 64 : end_n), end);
                        rc = put(into, start, s, (size_t)(block - s), text + at, value_n, e);
                        at += used;
                } else {
                        rc = put(into, line, s, eq ? (size_t)(eq - s) : 0, eq ? eq + 1 : s,
                                 eq ? (size_t)(s + m - eq - 1) : 0, e);
                }
        }
        return rc;
}

/* Secrets go before anything is read into it, while its bytes are what the command wrote. */
static int parse_masked(struct tool_call *c, const char *text, size_t len, cJSON *into, struct err *e)
{
        struct tool_filter *f = NULL;
        struct buf masked;
        int rc;

        if (!tool_has_secrets(c))
                return output_parse(text, len, into, e);
        buf_init(&masked, 0);
        rc = tool_filter(c, &f, text, len, true, &masked);
        rc = rc ? err_set(e, E_NOMEM, "out of memory")
                : output_parse(masked.len ? (const char *)masked.data : "", masked.len, into, e);
        buf_fini(&masked);
        return rc;
}

int output_read(struct tool_call *c, const char *path, cJSON *into, struct err *e)
{
        struct stat st;
        char *text = NULL;
        size_t len = 0;
        int rc = 0;
        int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

        if (fd < 0)
                return errno == ENOENT ? 0
                                       : err_set(e, err_from_errno(errno), "cannot read $PHOTON_OUTPUT: %s",
                                                 strerror(errno));
        if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
                rc = err_set(e, E_INVAL, "$PHOTON_OUTPUT is no longer a regular file");
        else if (st.st_size > (off_t)OUTPUT_FILE_MAX)
                rc = err_set(e, E_TOOBIG,
                             "$PHOTON_OUTPUT is over 1 MiB; write large results to a file and give its name");
        if (rc == 0 && st.st_size > 0) {
                text = mem_alloc((size_t)st.st_size);
                if (!text)
                        rc = err_set(e, E_NOMEM, "out of memory");
        }
        while (text && len < (size_t)st.st_size) {
                ssize_t n = read(fd, text + len, (size_t)st.st_size - len);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        rc = err_set(e, err_from_errno(errno), "cannot read $PHOTON_OUTPUT: %s",
                                     strerror(errno));
                if (n <= 0)
                        break;
                len += (size_t)n;
        }
        if (rc == 0)
                rc = parse_masked(c, text ? text : "", len, into, e);
        mem_free(text);
        close(fd);
        return rc;
}
