/* Edits by text: old -> new. */
#include "agent/tools/patch.h"

#include <stdio.h>
#include <string.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/json.h"

static size_t line_of(const char *text, const char *at)
{
        size_t line = 1;

        for (const char *s = text; s < at && (s = memchr(s, '\n', (size_t)(at - s))); s++)
                line++;
        return line;
}

/* "3 times, at lines 4, 9, 20". */
static void places(const char *text, size_t n, const char *old, size_t old_n, char *out, size_t out_n)
{
        const char *s = text, *end = text + n;
        size_t count = 0, used = 0;

        out[0] = '\0';
        while ((s = memmem(s, (size_t)(end - s), old, old_n))) {
                if (count < 5)
                        used += (size_t)snprintf(out + used, out_n - used, "%s%zu", count ? ", " : "",
                                                 line_of(text, s));
                count++;
                s += old_n;
        }
        snprintf(out + used, out_n - used, "%s (%zu times)", count > 5 ? ", ..." : "", count);
}

static int apply_edit(const char *text, size_t n, const cJSON *edit, int index, struct buf *out,
                      size_t *io_count, struct err *e)
{
        static const char *const keys[] = {"old", "new", "replace_all", NULL};
        const char *old = NULL, *new = NULL, *s = text, *end = text + n, *hit;
        char where[160];
        bool all = false;
        size_t old_n, count = 0;
        int rc;

        rc = cJSON_IsObject(edit) ? json_only(edit, keys, e)
                                  : err_set(e, E_INVAL, "edits[%d]: expected {old, new}", index);
        if (rc == 0)
                rc = json_str(edit, "old", &old, e);
        if (rc == 0)
                rc = json_str(edit, "new", &new, e);
        if (rc == 0)
                rc = json_bool_opt(edit, "replace_all", &all, e);
        if (rc)
                return rc;
        old_n = strlen(old);
        if (old_n == 0)
                return err_set(e, E_INVAL, "edits[%d].old is empty; to write a new file use file.write",
                               index);
        hit = memmem(s, n, old, old_n);
        if (!hit)
                return err_set(e, E_STATE,
                               "edits[%d]: its old text is not in the file; read the file again and copy the "
                               "text exactly, "
                               "white space included",
                               index);
        if (!all && memmem(hit + 1, (size_t)(end - hit - 1), old, old_n)) {
                places(text, n, old, old_n, where, sizeof where);
                return err_set(e, E_STATE,
                               "edits[%d]: its old text is in the file more than once, at lines %s; add the "
                               "lines around it, "
                               "or set replace_all",
                               index, where);
        }
        while (rc == 0 && hit) {
                rc = buf_put(out, s, (size_t)(hit - s));
                if (rc == 0)
                        rc = buf_puts(out, new);
                s = hit + old_n;
                count++;
                hit = all ? memmem(s, (size_t)(end - s), old, old_n) : NULL;
        }
        if (rc == 0)
                rc = buf_put(out, s, (size_t)(end - s));
        if (rc)
                return err_set(e, -rc, rc == -E_TOOBIG ? "the file would become too large" : "out of memory");
        *io_count += count;
        return 0;
}

int patch_edits(const char *text, size_t n, const cJSON *edits, struct buf *out, size_t *out_count,
                struct err *e)
{
        struct buf now, next;
        const cJSON *edit;
        size_t count = 0;
        int index = 0, rc;

        if (!cJSON_IsArray(edits) || cJSON_GetArraySize(edits) == 0)
                return err_set(e, E_INVAL, "edits: expected a list of {old, new}");
        buf_init(&now, out->limit);
        buf_init(&next, out->limit);
        rc = buf_put(&now, text, n);
        if (rc)
                err_set(e, -rc, rc == -E_TOOBIG ? "the file is too large" : "out of memory");
        cJSON_ArrayForEach(edit, edits)
        {
                struct buf swap;

                if (rc)
                        break;
                buf_reset(&next);
                rc = apply_edit((const char *)now.data, now.len, edit, index++, &next, &count, e);
                swap = now;
                now = next;
                next = swap;
        }
        if (rc == 0) {
                rc = buf_put(out, now.data, now.len);
                if (rc)
                        err_set(e, -rc, "out of memory");
        }
        if (rc == 0)
                *out_count = count;
        buf_fini(&now);
        buf_fini(&next);
        return rc;
}
