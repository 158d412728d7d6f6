#include "hub/auth/rowkey.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/err.h"
#include "common/file.h"
#include "common/id.h"
#include "common/mem.h"
#include "common/str.h"

#define HEX_LEN (2 * ROW_KEY_LEN)

static int paths(const char *dir, char **key, char **made, struct err *e)
{
        *key = path_join(dir, "rows.key");
        *made = path_join(dir, "rows.key.new");
        return *key && *made ? 0 : err_set(e, E_NOMEM, "no memory");
}

static int read_key(const char *path, uint8_t out[ROW_KEY_LEN], struct err *e)
{
        char *text = NULL;
        size_t n = 0;
        int rc = file_read_private(path, HEX_LEN + 1, &text, &n, e);

        if (rc && rc != -E_TOOBIG)
                return rc;
        if (!rc && n == HEX_LEN + 1 && text[HEX_LEN] == '\n')
                text[--n] = '\0';
        /* A damaged file must not become a key that nobody else has. */
        if (rc || n != HEX_LEN || str_unhex(text, out, ROW_KEY_LEN))
                rc = err_set(e, E_CORRUPT,
                             "%s does not hold 64 hexadecimal digits; restore it from the backup, or, if it "
                             "is lost, move it away and start once with --accept-changed-rows",
                             path);
        if (text)
                mem_wipe(text, n);
        mem_free(text);
        return rc;
}

static int make_key(const char *path, uint8_t out[ROW_KEY_LEN], struct err *e)
{
        char hex[HEX_LEN + 2];
        int rc;

        id_random(out, ROW_KEY_LEN);
        str_hex(out, ROW_KEY_LEN, hex);
        hex[HEX_LEN] = '\n';
        rc = file_write_atomic(path, hex, HEX_LEN + 1, 0600, e);
        mem_wipe(hex, sizeof hex);
        return rc;
}

int row_key_open(const char *dir, uint8_t out[ROW_KEY_LEN], bool *out_new, struct err *e)
{
        char *key, *made;
        int rc = paths(dir, &key, &made, e);

        *out_new = false;
        if (!rc)
                rc = read_key(key, out, e);
        if (rc == -E_NOENT) {
                *out_new = true;
                rc = read_key(made, out, e);
                if (rc == -E_NOENT)
                        rc = make_key(made, out, e);
        }
        mem_free(key);
        mem_free(made);
        return rc;
}

int row_key_keep(const char *dir, struct err *e)
{
        char *key, *made;
        int rc = paths(dir, &key, &made, e);
        int fd = rc ? -1 : open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (!rc && (fd < 0 || rename(made, key) || fsync(fd)))
                rc = err_set(e, err_from_errno(errno), "cannot keep %s: %s", key, strerror(errno));
        if (fd >= 0)
                close(fd);
        mem_free(key);
        mem_free(made);
        return rc;
}
