#include "agent/mask.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/mask_forms.h"
#include "common/buf.h"
#include "common/err.h"
#include "common/mem.h"
#include "common/str.h"

#define PATTERNS_MAX 65536
#define PART_MIN     12 /* of a secret in a sentence that was cut */
#define EDGE_MIN     8  /* of a secret where a text was cut */
#define LINE_MIN     8  /* a line of a secret of several lines is masked by itself from here on */

struct pattern {
        uint8_t *v;
        size_t n;
        bool whole;           /* a secret, and not only a form or a line of one */
        struct pattern *next; /* the same first two bytes */
};

struct mask {
        size_t n_secrets, n_patterns, longest;
        uint8_t first[256 / 8];       /* bytes with which a pattern begins */
        struct pattern *by_pair[256]; /* chained by (first byte ^ second byte): few, so compared */
        uint8_t pair[65536 / 8];      /* the first two bytes of the patterns */
};

struct mask_stream {
        const struct mask *m;
        struct buf held;
        size_t covered; /* of held: belongs to a match, whatever comes */
};

/* ---- patterns ---- */

int mask_create(struct mask **out)
{
        *out = mem_calloc(1, sizeof **out);
        return *out ? 0 : -E_NOMEM;
}

static unsigned pair_of(const uint8_t *p)
{
        return (unsigned)p[0] << 8 | p[1];
}

static struct pattern *find_pattern(const struct mask *m, const uint8_t *v, size_t n)
{
        struct pattern *x = m->by_pair[v[0] ^ v[1]];

        while (x && (x->n != n || memcmp(x->v, v, n) != 0))
                x = x->next;
        return x;
}

static int add_pattern(void *arg, const void *p, size_t n)
{
        struct mask *m = arg;
        const uint8_t *v = p;
        struct pattern *x;
        unsigned slot;

        if (n < MASK_SECRET_MIN)
                return 0; /* a form that is too short to say anything */
        slot = (unsigned)(v[0] ^ v[1]);
        if (find_pattern(m, v, n))
                return 0;
        if (m->n_patterns >= PATTERNS_MAX)
                return -E_TOOBIG;
        x = mem_alloc(sizeof *x);
        if (!x || !(x->v = mem_dup(v, n))) {
                mem_free(x);
                return -E_NOMEM;
        }
        x->n = n;
        x->whole = false;
        x->next = m->by_pair[slot];
        m->by_pair[slot] = x;
        m->first[v[0] / 8] |= (uint8_t)(1u << v[0] % 8);
        m->pair[pair_of(v) / 8] |= (uint8_t)(1u << pair_of(v) % 8);
        m->n_patterns++;
        if (n > m->longest)
                m->longest = n;
        return 0;
}

void mask_free(struct mask *m)
{
        if (!m)
                return;
        for (unsigned i = 0; i < 256; i++) {
                while (m->by_pair[i]) {
                        struct pattern *x = m->by_pair[i];

                        m->by_pair[i] = x->next;
                        mem_wipe(x->v, x->n);
                        mem_free(x->v);
                        mem_free(x);
                }
        }
        mem_wipe(m, sizeof *m);
        mem_free(m);
}

/* ---- secrets ---- */

int mask_add(struct mask *m, const void *secret, size_t n)
{
        const uint8_t *v = secret;
        struct pattern *known;
        int rc;

        while (n > 0 && (v[n - 1] == '\n' || v[n - 1] == '\r'))
                n--; /* an end of line that a file had */
        if (n < MASK_SECRET_MIN)
                return -E_INVAL;
        known = find_pattern(m, v, n);
        if (known && known->whole)
                return 0;
        if (n > MASK_SECRET_MAX || m->n_secrets >= MASK_SECRETS_MAX)
                return -E_TOOBIG;
        rc = mask_forms(v, n, add_pattern, m);
        for (size_t at = 0; at < n && !rc;) {
                const uint8_t *end = memchr(v + at, '\n', n - at);
                size_t len = end ? (size_t)(end - v) - at : n - at, text = len;

                if (text > 0 && v[at + text - 1] == '\r')
                        text--;
                if (text >= LINE_MIN && text < n)
                        rc = add_pattern(m, v + at, text);
                at += len + 1;
        }
        if (rc)
                return rc;
        find_pattern(m, v, n)->whole = true;
        m->n_secrets++;
        return 0;
}

/* ---- streams ---- */

int mask_stream_create(const struct mask *m, struct mask_stream **out)
{
        struct mask_stream *s = mem_calloc(1, sizeof *s);

        if (!s)
                return -E_NOMEM;
        s->m = m;
        buf_init(&s->held, 0);
        *out = s;
        return 0;
}

void mask_stream_free(struct mask_stream *s)
{
        if (!s)
                return;
        if (s->held.data)
                mem_wipe(s->held.data, s->held.cap);
        buf_fini(&s->held);
        mem_free(s);
}

static bool has(const uint8_t *bits, unsigned i)
{
        return bits[i / 8] >> i % 8 & 1;
}

/* The longest pattern that stands whole at v. *maybe: one could, with more bytes than there are. */
static size_t match(const struct mask *m, const uint8_t *v, size_t n, bool *maybe)
{
        size_t best = 0;

        *maybe = false;
        if (!has(m->first, v[0]))
                return 0;
        if (n == 1) {
                *maybe = true;
                return 0;
        }
        if (!has(m->pair, pair_of(v)))
                return 0;
        for (const struct pattern *x = m->by_pair[v[0] ^ v[1]]; x; x = x->next) {
                if (memcmp(x->v, v, x->n < n ? x->n : n) != 0)
                        continue;
                if (x->n > n)
                        *maybe = true;
                else if (x->n > best)
                        best = x->n;
        }
        return best;
}

/* Bytes of v up to the first at which something begins. */
static size_t plain_run(const struct mask *m, const uint8_t *v, size_t n)
{
        size_t i = 0;

        while (i < n && !has(m->first, v[i]))
                i++;
        return i;
}

/* Appends what of v may leave; *done: bytes that are decided. */
static int scan(struct mask_stream *s, const uint8_t *v, size_t n, bool last, struct buf *out, size_t *done)
{
        size_t at = 0, until = s->covered;
        int rc = 0;

        while (at < n && !rc) {
                bool maybe;
                size_t run = at >= until ? plain_run(s->m, v + at, n - at) : 0, len;

                if (run) {
                        rc = buf_put(out, v + at, run);
                        at += run;
                        continue;
                }
                len = match(s->m, v + at, n - at, &maybe);
                if (maybe && !last)
                        break; /* what comes decides, also how far a match reaches */
                if (len > 0 && at + len > until) {
                        if (at >= until)
                                rc = buf_puts(out, MASK_TEXT);
                        until = at + len;
                }
                if (at >= until && !rc)
                        rc = buf_putc(out, (char)v[at]);
                at++;
        }
        *done = at;
        s->covered = until > at ? until - at : 0;
        return rc;
}

int mask_put(struct mask_stream *s, const void *p, size_t n, struct buf *out)
{
        size_t done;
        int rc;

        if (s->held.len == 0) {
                rc = scan(s, p, n, false, out, &done);
                return rc ? rc : buf_put(&s->held, (const uint8_t *)p + done, n - done);
        }
        rc = buf_put(&s->held, p, n);
        if (!rc)
                rc = scan(s, s->held.data, s->held.len, false, out, &done);
        if (!rc)
                buf_consume(&s->held, done);
        return rc;
}

int mask_end(struct mask_stream *s, struct buf *out)
{
        size_t done;
        int rc = scan(s, s->held.data, s->held.len, true, out, &done);

        if (s->held.data)
                mem_wipe(s->held.data, s->held.cap);
        buf_reset(&s->held);
        s->covered = 0;
        return rc;
}

char *mask_text(const struct mask *m, const char *text)
{
        struct mask_stream *s;
        struct buf out;
        char *copy = NULL;

        if (mask_stream_create(m, &s))
                return NULL;
        buf_init(&out, 0);
        if (!mask_put(s, text, strlen(text), &out) && !mask_end(s, &out))
                copy = buf_steal_str(&out);
        if (out.data)
                mem_wipe(out.data, out.cap);
        buf_fini(&out);
        mask_stream_free(s);
        return copy;
}

/* How much of v is a pattern, or the beginning of one. */
static size_t begins(const struct mask *m, const uint8_t *v, size_t n)
{
        size_t best = 0;

        if (n < 2 || !has(m->pair, pair_of(v)))
                return 0;
        for (const struct pattern *x = m->by_pair[v[0] ^ v[1]]; x; x = x->next) {
                size_t k = 0;

                while (k < x->n && k < n && x->v[k] == v[k])
                        k++;
                if ((k == x->n || k >= PART_MIN) && k > best)
                        best = k;
        }
        return best;
}

char *mask_sentence(const struct mask *m, const char *text)
{
        const uint8_t *v = (const uint8_t *)text;
        size_t n = strlen(text), len;
        char *copy = NULL;
        struct buf out;
        int rc = 0;

        buf_init(&out, 0);
        for (size_t at = 0; at < n && !rc; at += len ? len : 1) {
                len = begins(m, v + at, n - at);
                rc = len ? buf_puts(&out, MASK_TEXT) : buf_putc(&out, text[at]);
        }
        if (!rc)
                copy = buf_steal_str(&out);
        buf_fini(&out);
        return copy;
}

/* How much of [p, p + n) at this edge is a part of a pattern: the end of one at the beginning, the beginning
 * of one at the end. */
static size_t edge(const struct mask *m, const uint8_t *p, size_t n, bool at_end)
{
        size_t best = 0;

        for (unsigned i = 0; i < 256; i++)
                for (const struct pattern *x = m->by_pair[i]; x; x = x->next) {
                        size_t k = x->n - 1 < n ? x->n - 1 : n;

                        for (; k >= EDGE_MIN && k > best; k--) {
                                const uint8_t *have = at_end ? p + n - k : p;
                                const uint8_t *part = at_end ? x->v : x->v + x->n - k;

                                if (have[0] == part[0] && memcmp(have, part, k) == 0)
                                        best = k;
                        }
                }
        return best;
}

int mask_whole(const struct mask *m, const void *p, size_t n, struct buf *out)
{
        struct mask_stream *s;
        bool cut = n >= MASK_CUT_MIN;
        size_t head, tail;
        struct buf whole;
        int rc = mask_stream_create(m, &s);

        if (rc)
                return rc;
        buf_init(&whole, 0);
        rc = mask_put(s, p, n, &whole);
        if (!rc)
                rc = mask_end(s, &whole);
        if (!rc) {
                head = !cut ? 0 : edge(m, whole.data, whole.len, false);
                tail = !cut ? 0 : edge(m, whole.data + head, whole.len - head, true);
                if (head)
                        rc = buf_puts(out, MASK_TEXT);
                if (!rc)
                        rc = buf_put(out, whole.data + head, whole.len - head - tail);
                if (!rc && tail)
                        rc = buf_puts(out, MASK_TEXT);
        }
        if (whole.data)
                mem_wipe(whole.data, whole.cap);
        buf_fini(&whole);
        mask_stream_free(s);
        return rc;
}
