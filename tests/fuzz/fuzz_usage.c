/* usage_feed: no stream may crash it, and how it is cut into chunks, or that parts of it come twice, changes
 * nothing. */
#include "hub/agents/usage.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void count(void *arg, const cJSON *usage)
{
        if (!cJSON_IsObject(usage))
                abort();
        ++*(int *)arg;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static struct usage_watch whole, cut;
        int n_whole = 0, n_cut = 0;
        size_t step = size ? 1 + data[0] % 7 : 1;

        memset(&whole, 0, sizeof whole);
        memset(&cut, 0, sizeof cut);
        usage_feed(&whole, 0, data, size, count, &n_whole);
        for (size_t at = 0; at < size; at += step) {
                size_t n = size - at < step ? size - at : step, back = at < 3 ? at : 3;

                usage_feed(&cut, at - back, data + at - back, n + back, count, &n_cut);
        }
        if (n_whole != n_cut || whole.at != cut.at)
                abort();
        return 0;
}
