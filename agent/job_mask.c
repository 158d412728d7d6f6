/* What a call must not tell: secrets that its tool works with are taken out of all that leaves the machine.
 */
#include "agent/job_in.h"

#include <string.h>

#include "agent/mask.h"
#include "agent/tools/event.h"
#include "common/json.h"
#include "common/mem.h"

#define CHANNELS (TOOL_EVENT + 1)

struct job_mask {
        struct mask *m;
        struct mask_stream *stream[CHANNELS]; /* made when the channel is first written to */
        struct mask_stream *text[TOOL_TEXTS]; /* of events, before they are put into lines */
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

        event_rest(&j->call);
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
        for (int i = 0; i < TOOL_TEXTS; i++)
                mask_stream_free(k->text[i]);
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

int tool_mask_text(const struct tool_call *c, const void *p, size_t n, struct buf *out)
{
        return mask_whole(((const struct job *)c->job)->mask->m, p, n, out);
}

cJSON *tool_mask_tree(const struct tool_call *c, const cJSON *v)
{
        return job_masked_tree(c->job, v);
}

int tool_mask_piece(struct tool_call *c, enum tool_text which, const void *p, size_t n, bool last,
                    struct buf *out)
{
        struct job_mask *k = ((struct job *)c->job)->mask;
        struct mask_stream **s = &k->text[which];
        int rc = 0;

        if (n && !*s)
                rc = mask_stream_create(k->m, s);
        if (n && !rc)
                rc = mask_put(*s, p, n, out);
        if (!last || !*s)
                return rc;
        if (!rc)
                rc = mask_end(*s, out);
        mask_stream_free(*s);
        *s = NULL;
        return rc;
}

/* ---- the result ---- */

static bool replace_text(cJSON *v, char *text)
{
        cJSON_free(v->valuestring);
        v->valuestring = text;
        v->type = cJSON_String;
        return true;
}

static bool mask_name(const struct mask *m, cJSON *v)
{
        char *text = mask_text(m, v->string);

        if (!text)
                return false;
        cJSON_free(v->string);
        v->string = text;
        return true;
}

/* A secret of digits may come as a number. */
static bool mask_number(const struct mask *m, cJSON *v)
{
        char *plain = cJSON_PrintUnformatted(v), *text = plain ? mask_text(m, plain) : NULL;
        bool same = text && strcmp(plain, text) == 0;

        cJSON_free(plain);
        if (!text || same) {
                mem_free(text);
                return text != NULL;
        }
        return replace_text(v, text);
}

static char *mask_value(const struct mask *m, const char *text)
{
        struct buf out;
        char *copy;

        buf_init(&out, 0);
        copy = mask_whole(m, text, strlen(text), &out) ? NULL : buf_steal_str(&out);
        wipe(&out);
        return copy;
}

static bool mask_tree(const struct mask *m, cJSON *v, unsigned depth)
{
        for (; v; v = v->next) {
                if (v->string && !mask_name(m, v))
                        return false;
                if (cJSON_IsString(v)) {
                        char *text = mask_value(m, v->valuestring);

                        if (!text || !replace_text(v, text))
                                return false;
                } else if (cJSON_IsNumber(v) && !mask_number(m, v)) {
                        return false;
                }
                if (v->child && (depth == 0 || !mask_tree(m, v->child, depth - 1)))
                        return false;
        }
        return true;
}

char *job_masked_text(const struct job *j, const char *text)
{
        return j->mask ? mask_sentence(j->mask->m, text) : mem_strdup(text);
}

cJSON *job_masked_tree(const struct job *j, const cJSON *v)
{
        cJSON *copy = cJSON_Duplicate(v, true);

        if (copy && j->mask && !mask_tree(j->mask->m, copy, JSON_DEPTH_MAX)) {
                cJSON_Delete(copy);
                return NULL;
        }
        return copy;
}

/* ---- what a tool keeps ---- */

struct tool_filter {
        struct mask_stream *s;
};

bool tool_has_secrets(const struct tool_call *c)
{
        return ((const struct job *)c->job)->mask != NULL;
}

void tool_filter_free(struct tool_filter *f)
{
        if (!f)
                return;
        mask_stream_free(f->s);
        mem_free(f);
}

int tool_filter(struct tool_call *c, struct tool_filter **io, const void *p, size_t n, bool last,
                struct buf *out)
{
        struct job *j = c->job;
        struct tool_filter *f = *io;
        int rc = 0;

        if (!j->mask)
                return buf_put(out, p, n);
        if (!f) {
                f = mem_calloc(1, sizeof *f);
                rc = f ? mask_stream_create(j->mask->m, &f->s) : -E_NOMEM;
        }
        if (!rc)
                rc = mask_put(f->s, p, n, out);
        if (!rc && last)
                rc = mask_end(f->s, out);
        if (rc || last) {
                tool_filter_free(f);
                f = NULL;
        }
        *io = f;
        return rc;
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
        if ((r->outputs && !mask_tree(m, r->outputs, JSON_DEPTH_MAX)) ||
            (r->usage && !mask_tree(m, r->usage, JSON_DEPTH_MAX)))
                return -E_NOMEM;
        if (r->error_message) {
                *out_message = mask_sentence(m, r->error_message);
                if (!*out_message)
                        return -E_NOMEM;
                r->error_message = *out_message;
        }
        return 0;
}
