/* The journal's reader: no bytes may harm it, and what it calls good must be good again. */
#include "agent/journal.h"

#include <stdlib.h>

static void on_record(uint8_t type, uint64_t id, const uint8_t *body, size_t n, size_t off, void *arg)
{
        volatile uint8_t sum = type;

        (void)id;
        (void)off;
        for (size_t i = 0; i < n; i++)
                sum ^= body[i];
        (void)sum;
        ++*(size_t *)arg;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        size_t a = 0, b = 0, good;
        bool middle, again;

        good = journal_scan(data, size, on_record, &a, &middle);
        if (good > size || journal_scan(data, good, on_record, &b, &again) != good || a != b || again)
                abort();
        return 0;
}
