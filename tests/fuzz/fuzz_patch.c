/* patch_diff: no input may crash it or make it read or write out of bounds.
 * Input: the diff, a NUL byte, the text it is applied to. A diff that fits is
 * applied again to its own outcome, which must be handled as well. */
#include "agent/tools/patch.h"
#include "common/buf.h"
#include "common/err.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Copies of the exact size, so that reading beyond the end is seen. */
static char *copy(const uint8_t *p, size_t n)
{
        char *s = malloc(n ? n : 1);

        if (!s)
                abort();
        if (n)
                memcpy(s, p, n);
        return s;
}

static void apply(const char *text, size_t n, bool exists, const char *diff, size_t diff_n, struct buf *out)
{
        struct err e = {0};
        size_t hunks = 0;
        int rc = patch_diff(text, n, exists, diff, diff_n, out, &hunks, &e);

        if (rc == 0 ? hunks == 0 || out->len > n + diff_n : !e.msg[0] || e.code != -rc)
                abort();
        if (rc)
                buf_reset(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        const uint8_t *cut = size ? memchr(data, '\0', size) : NULL;
        size_t diff_n = cut ? (size_t)(cut - data) : size, n = cut ? size - diff_n - 1 : 0;
        char *diff = copy(data, diff_n), *text = copy(cut ? cut + 1 : data, n);
        struct buf once, twice;

        buf_init(&once, 0);
        buf_init(&twice, 0);
        apply(text, n, cut != NULL, diff, diff_n, &once);
        if (once.len)
                apply((const char *)once.data, once.len, true, diff, diff_n, &twice);
        buf_fini(&once);
        buf_fini(&twice);
        free(diff);
        free(text);
        return 0;
}
