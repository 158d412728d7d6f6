/* json_parse: no input may crash it; what it accepts prints to text that
 * parses and prints the same; what it refuses has a place. */
#include "common/err.h"
#include "common/json.h"
#include "common/mem.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *reprint(const char *text, size_t len)
{
        struct err e = {0};
        cJSON *v = NULL;
        int rc = json_parse(text, len, &v, &e);
        char *out;

        if (rc) {
                if (rc != -E_INVAL || e.line < 1 || e.col < 1 || !e.msg[0] || v)
                        abort();
                return NULL;
        }
        out = json_text(v);
        cJSON_Delete(v);
        if (!out)
                abort();
        return out;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        char *once = reprint((const char *)data, size);
        char *twice;

        if (!once)
                return 0;
        twice = reprint(once, strlen(once));
        if (!twice || strcmp(once, twice) != 0)
                abort();
        mem_free(once);
        mem_free(twice);
        return 0;
}
