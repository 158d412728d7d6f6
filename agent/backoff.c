#include "agent/backoff.h"

#include "common/id.h"

uint64_t backoff_next_ms(struct backoff *b)
{
        uint64_t limit = BACKOFF_FIRST_MS;

        for (unsigned i = 0; i < b->tries && limit < BACKOFF_MAX_MS; i++) {
                if (limit >= BACKOFF_SOON_MS && i < BACKOFF_SOON_TRIES) {
                        limit = BACKOFF_SOON_MS;
                        continue;
                }
                limit *= 2;
        }
        if (b->tries < BACKOFF_SOON_TRIES && limit > BACKOFF_SOON_MS)
                limit = BACKOFF_SOON_MS;
        if (limit > BACKOFF_MAX_MS)
                limit = BACKOFF_MAX_MS;
        if (b->tries < 1000)
                b->tries++;
        return id_random_u64() % (limit + 1);
}
