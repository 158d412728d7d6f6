/* For fuzz targets that play the job (agent/job.c): calls without secrets, whose texts are never masked. */
#ifndef PHOTON_FUZZ_NO_SECRETS_H
#define PHOTON_FUZZ_NO_SECRETS_H

#include <stdlib.h>

#include "agent/tools/tool.h"

bool tool_has_secrets(const struct tool_call *c)
{
        (void)c;
        return false;
}

int tool_mask_text(const struct tool_call *c, const void *p, size_t n, struct buf *out)
{
        (void)c;
        (void)p;
        (void)n;
        (void)out;
        abort();
}

cJSON *tool_mask_tree(const struct tool_call *c, const cJSON *v)
{
        (void)c;
        (void)v;
        abort();
}

int tool_mask_piece(struct tool_call *c, enum tool_text which, const void *p, size_t n, bool last,
                    struct buf *out)
{
        (void)c;
        (void)which;
        (void)p;
        (void)n;
        (void)last;
        (void)out;
        abort();
}

#endif
