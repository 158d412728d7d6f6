#include "hub/model/workflow_internal.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/mem.h"
#include "common/str.h"

int wf_fail(struct wf_parser *p, const struct doc *d, const char *fmt, ...)
{
        va_list ap;
        int rc;

        va_start(ap, fmt);
        rc = err_setv(p->e, E_INVAL, fmt, ap);
        va_end(ap);
        if (p->e && d) {
                p->e->line = d->line;
                p->e->col = d->col;
        }
        return rc;
}

int wf_nomem(struct wf_parser *p)
{
        return err_set(p->e, E_NOMEM, "no memory for the workflow");
}

/* ---- from an offset in a scalar's text to the file ---- */

static const char *line_start(const struct wf_parser *p, int line)
{
        const char *s = p->text, *end = p->text + p->len;

        while (line > 1 && s < end) {
                const char *nl = memchr(s, '\n', (size_t)(end - s));

                if (!nl)
                        return end;
                s = nl + 1;
                line--;
        }
        return s;
}

static size_t line_len(const struct wf_parser *p, const char *s)
{
        const char *nl = memchr(s, '\n', (size_t)(p->text + p->len - s));

        return nl ? (size_t)(nl - s) : (size_t)(p->text + p->len - s);
}

static int chars(const char *s, size_t n)
{
        int count = 0;

        for (size_t i = 0; i < n; i++)
                count += ((unsigned char)s[i] & 0xc0) != 0x80;
        return count;
}

/* The byte where the scalar starts: columns count characters. */
static const char *scalar_start(const struct wf_parser *p, const struct doc *d)
{
        const char *s = line_start(p, d->line), *end = s + line_len(p, s);

        for (int col = 1; col < d->col && s < end; col++)
                for (s++; s < end && ((unsigned char)*s & 0xc0) == 0x80;)
                        s++;
        return s;
}

/* Block scalars: the text's line n is the file's line n below the "|", less
 * the indentation. Anything that does not compare (folding) keeps the start. */
static void locate_in_block(const struct wf_parser *p, const struct doc *d, size_t offset, int *line,
                            int *col)
{
        const char *t = d->text, *src;
        size_t n, at, indent;
        int row = 0;

        for (const char *q = d->text; q < d->text + offset; q++)
                if (*q == '\n') {
                        row++;
                        t = q + 1;
                }
        src = line_start(p, d->line + 1 + row);
        n = strcspn(t, "\n");
        at = line_len(p, src);
        if (at && src[at - 1] == '\r')
                at--;
        if (at < n || memcmp(src + at - n, t, n) != 0)
                return;
        indent = at - n;
        *line = d->line + 1 + row;
        *col = (int)indent + 1 + chars(t, (size_t)(d->text + offset - t));
}

/* The document keeps where a scalar starts; mistakes are inside of it. */
static void locate(const struct wf_parser *p, const struct doc *d, size_t offset, int *line, int *col)
{
        const char *s = scalar_start(p, d), *end = p->text + p->len;
        size_t skip;

        *line = d->line;
        *col = d->col;
        if (s >= end || !d->text || offset > strlen(d->text))
                return;
        if (*s == '|' || *s == '>') {
                locate_in_block(p, d, offset, line, col);
                return;
        }
        skip = *s == '"' || *s == '\'' ? 1 : 0;
        /* Escapes, doubled quotes or folded lines before the place: the start must do. */
        if ((size_t)(end - s) < skip + offset || memcmp(s + skip, d->text, offset) != 0 ||
            memchr(d->text, '\n', offset))
                return;
        *col = d->col + (int)skip + chars(d->text, offset);
}

int wf_fail_in(struct wf_parser *p, const struct doc *d, size_t offset, const char *fmt, ...)
{
        va_list ap;
        int rc, line = 0, col = 0;

        va_start(ap, fmt);
        rc = err_setv(p->e, E_INVAL, fmt, ap);
        va_end(ap);
        locate(p, d, offset, &line, &col);
        if (p->e) {
                p->e->line = line;
                p->e->col = col;
        }
        return rc;
}

/* ---- typed members ---- */

#define KEYS_MAX 64

static int unknown_key(struct wf_parser *p, const struct doc *m, const char *where, const struct wf_key *keys,
                       size_t n_keys)
{
        const char *names[KEYS_MAX], *near;
        char all[320] = "";
        size_t n = n_keys < KEYS_MAX ? n_keys : KEYS_MAX, used = 0;

        for (size_t i = 0; i < n; i++) {
                names[i] = keys[i].name;
                if (used < sizeof all)
                        used += (size_t)snprintf(all + used, sizeof all - used, "%s%s", i ? ", " : "",
                                                 keys[i].name);
        }
        near = str_nearest(m->key, names, n);
        if (near)
                return err_at(p->e, E_INVAL, m->key_line, m->key_col,
                              "unknown key \"%.60s\" in %s: did you mean \"%s\"?", m->key, where, near);
        return err_at(p->e, E_INVAL, m->key_line, m->key_col, "unknown key \"%.60s\" in %s: known are %s",
                      m->key, where, all);
}

int wf_keys(struct wf_parser *p, const struct doc *map, const char *where, const struct wf_key *keys,
            size_t n_keys, const struct doc **slots)
{
        if (map->kind != DOC_MAP)
                return wf_fail(p, map, "%s: expected a map of keys, got %s", where, doc_kind_name(map->kind));
        for (const struct doc *m = map->child; m; m = m->next) {
                size_t i = 0;

                while (i < n_keys && strcmp(keys[i].name, m->key) != 0)
                        i++;
                if (i == n_keys)
                        return unknown_key(p, m, where, keys, n_keys);
                if (slots[keys[i].slot])
                        return err_at(p->e, E_INVAL, m->key_line, m->key_col,
                                      "\"%s\" and \"%s\" in %s mean the same: keep one",
                                      slots[keys[i].slot]->key, m->key, where);
                slots[keys[i].slot] = m;
        }
        return 0;
}

bool wf_scalar(const struct doc *d)
{
        return d->kind == DOC_STRING || d->kind == DOC_NUMBER || d->kind == DOC_BOOL;
}

int wf_text(struct wf_parser *p, const struct doc *d, const char *key, size_t max, char **out)
{
        char *s;

        if (!d)
                return 0;
        if (!wf_scalar(d))
                return wf_fail(p, d, "\"%s\" of %s: expected text, got %s", key, p->where,
                               doc_kind_name(d->kind));
        if (strlen(d->text) > max)
                return wf_fail(p, d, "\"%s\" of %s is longer than %zu bytes", key, p->where, max);
        s = mem_strdup(d->text);
        if (!s)
                return wf_nomem(p);
        mem_free(*out);
        *out = s;
        return 0;
}

int wf_bool(struct wf_parser *p, const struct doc *d, const char *key, bool *out)
{
        if (!d)
                return 0;
        if (d->kind != DOC_BOOL)
                return wf_fail(p, d, "\"%s\" of %s: expected true or false, got %s", key, p->where,
                               doc_kind_name(d->kind));
        *out = d->number != 0;
        return 0;
}

int wf_real(struct wf_parser *p, const struct doc *d, const char *key, double min, double max, double *out)
{
        if (!d)
                return 0;
        if (d->kind != DOC_NUMBER)
                return wf_fail(p, d, "\"%s\" of %s: expected a number, got %s", key, p->where,
                               doc_kind_name(d->kind));
        if (!(d->number >= min && d->number <= max))
                return wf_fail(p, d, "\"%s\" of %s: expected a number from %.15g to %.15g, got %.40s", key,
                               p->where, min, max, d->text);
        *out = d->number;
        return 0;
}

int wf_int(struct wf_parser *p, const struct doc *d, const char *key, int64_t min, int64_t max, int64_t *out)
{
        double v = 0;
        int rc;

        if (!d)
                return 0;
        rc = wf_real(p, d, key, (double)min, (double)max, &v);
        if (rc)
                return rc;
        if (v != floor(v))
                return wf_fail(p, d, "\"%s\" of %s: expected a whole number, got %.40s", key, p->where,
                               d->text);
        *out = (int64_t)v;
        return 0;
}

int wf_duration(struct wf_parser *p, const struct doc *d, const char *key, int64_t *out)
{
        int64_t ms;

        if (!d)
                return 0;
        if (d->kind == DOC_NUMBER && d->number != 0)
                return wf_fail(p, d, "\"%s\" of %s: a duration needs its unit: \"%.20ss\", \"%.20sm\"", key,
                               p->where, d->text, d->text);
        if (!wf_scalar(d) || str_parse_duration(d->text, &ms))
                return wf_fail(p, d,
                               "\"%s\" of %s: expected a duration such as \"300ms\", \"10s\", \"5m\" or "
                               "\"1h\", got %s%.40s%s",
                               key, p->where, wf_scalar(d) ? "\"" : "",
                               wf_scalar(d) ? d->text : doc_kind_name(d->kind), wf_scalar(d) ? "\"" : "");
        *out = ms;
        return 0;
}

/* Names of environment variables that every shell takes. */
bool wf_is_variable(const char *name)
{
        size_t n = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789");

        return n && !name[n] && !(name[0] >= '0' && name[0] <= '9') && n <= WORKFLOW_TEXT_MAX;
}

/* cJSON_ReplaceItemInObject copies the name and, without memory, leaves none. */
void wf_replace(cJSON *parent, cJSON *item, cJSON *with)
{
        with->string = item->string;
        item->string = NULL;
        cJSON_ReplaceItemViaPointer(parent, item, with);
}
