/* What a call must not tell: secrets that its tool works with are taken out of all that leaves the machine.
 */
#include "agent/job_in.h"

#include <string.h>

#include "agent/mask.h"
#include "common/json.h"
#include "common/mem.h"

#define CHANNELS (TOOL_EVENT + 1)

struct job_mask {
        struct mask *m;
        struct mask_stream *stream[CHANNELS]; /* made when the channel is first written to */
        struct buf out;                       /* scratch */
};

static void wipe(struct buf *b)
{
        if (b->data)
                mem_wipe(b->data, b->cap);
        buf_fini(b);
}

/* Gives what is held back free, and forgets the streams: the set of secrets may change then. */
static int end_streams(struct job *j)
{
        struct job_mask *k = j->mask;
        int rc = 0;

        for (int ch = 0; ch < CHANNELS; ch++) {
                if (!k->stream[ch])
                        continue;
                buf_reset(&k->out);
                rc = mask_end(k->stream[ch], &k->out);
                mask_stream_free(k->stream[ch]);
                k->stream[ch] = NULL;
                if (!rc && k->out.len)
                        rc = job_put_output(j, ch, k->out.data, k->out.len);
                if (rc == -E_FULL)
                        rc = 0; /* kept all the same */
        }
        return rc;
}

void job_mask_free(struct job *j)
{
        struct job_mask *k = j->mask;

        if (!k)
                return;
        for (int ch = 0; ch < CHANNELS; ch++)
                mask_stream_free(k->stream[ch]);
        mask_free(k->m);
        wipe(&k->out);
        mem_free(k);
        j->mask = NULL;
}

int tool_secret(struct tool_call *c, const void *p, size_t n)
{
        struct job *j = c->job;
        int rc = 0;

        if (!j->mask) {
                j->mask = mem_calloc(1, sizeof *j->mask);
                if (!j->mask)
                        return -E_NOMEM;
                buf_init(&j->mask->out, 0);
                rc = mask_create(&j->mask->m);
        }
        if (!rc)
                rc = end_streams(j);
        return rc ? rc : mask_add(j->mask->m, p, n);
}

int job_mask_output(struct job *j, int ch, const void *p, size_t n)
{
        struct job_mask *k = j->mask;
        int rc = 0;

        if (!k->stream[ch])
                rc = mask_stream_create(k->m, &k->stream[ch]);
        buf_reset(&k->out);
        if (!rc)
                rc = mask_put(k->stream[ch], p, n, &k->out);
        if (!rc && k->out.len)
                rc = job_put_output(j, ch, k->out.data, k->out.len);
        return rc;
}

/* ---- the result ---- */

/* NULL: no memory. */
static char *masked(const struct mask *m, const char *text)
{
        struct mask_stream *s;
        struct buf out;
        char *copy = NULL;

        if (mask_stream_create(m, &s))
                return NULL;
        buf_init(&out, 0);
        if (!mask_put(s, text, strlen(text), &out) && !mask_end(s, &out))
                copy = buf_steal_str(&out);
        wipe(&out);
        mask_stream_free(s);
        return copy;
}

static bool mask_tree(const struct mask *m, cJSON *v, unsigned depth)
{
        for (; v; v = v->next) {
                if (cJSON_IsString(v)) {
                        char *text = masked(m, v->valuestring);
                        bool ok =
                                text && (strcmp(text, v->valuestring) == 0 || cJSON_SetValuestring(v, text));

                        mem_free(text);
                        if (!ok)
                                return false;
                }
                if (v->child && (depth == 0 || !mask_tree(m, v->child, depth - 1)))
                        return false;
        }
        return true;
}

int job_mask_result(struct job *j, struct tool_result *r, char **out_message)
{
        const struct mask *m;

        *out_message = NULL;
        if (!j->mask)
                return 0;
        m = j->mask->m;
        if (end_streams(j))
                return -E_NOMEM;
        if (r->outputs && !mask_tree(m, r->outputs, JSON_DEPTH_MAX))
                return -E_NOMEM;
        if (r->error_message) {
                *out_message = masked(m, r->error_message);
                if (!*out_message)
                        return -E_NOMEM;
                r->error_message = *out_message;
        }
        return 0;
}
