/* What a browser, or somebody who says that they are one, posts: any bytes are a field, none, or refused. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/str.h"
#include "hub/http/form.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        char out[64], small[2];

        (void)form_field((const char *)data, size, "a", small, sizeof small);
        if (form_field((const char *)data, size, "reason", out, sizeof out) == 0 &&
            (strlen(out) >= sizeof out || !str_is_utf8(out, strlen(out))))
                abort();
        return 0;
}
