/* The answers of model endpoints: no stream may crash a dialect, run over a
 * limit, or end well without its last word; how it is cut changes nothing.
 * Input: a byte for the dialect, then the stream. */
#include "agent/tools/llm_wire.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int run(enum model_kind k, const uint8_t *p, size_t n, size_t piece, struct llm_stream *s)
{
        int rc = 0;

        llm_stream_init(s, k);
        s->json_by_tool = true;
        for (size_t i = 0; i < n && !rc; i += piece)
                rc = llm_stream_feed(s, p + i, n - i < piece ? n - i : piece);
        rc = llm_stream_end(s, true);
        if ((rc != 0) != (s->code != NULL) || (rc == 0) != (s->over && !s->rc) ||
            s->n_calls > LLM_CALLS_MAX || s->text.len > LLM_TEXT_MAX || s->args_bytes > LLM_ARGS_MAX ||
            (rc && !s->trouble.msg[0]))
                abort();
        return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        enum model_kind k = size ? (enum model_kind)(data[0] % MODEL_JULES) : MODEL_OPENAI;
        struct llm_stream *a = malloc(sizeof *a), *b = malloc(sizeof *b);
        char text[304];
        int ra, rb;

        if (!size || !a || !b) {
                free(a);
                free(b);
                return 0;
        }
        mem_install_hooks();
        ra = run(k, data + 1, size - 1, size, a);
        rb = run(k, data + 1, size - 1, 1 + data[0] % 11u, b);
        if (ra != rb || a->text.len != b->text.len || a->n_calls != b->n_calls ||
            (a->text.len && memcmp(a->text.data, b->text.data, a->text.len)))
                abort();
        llm_error_text((const char *)data + 1, size - 1, text);
        llm_status_code(400 + data[0], (const char *)data + 1, size - 1);
        llm_stream_fini(a);
        llm_stream_fini(b);
        free(a);
        free(b);
        return 0;
}
