/* Unified diffs (POSIX diff -u, and what git adds). */
#include "agent/tools/patch.h"

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/str.h"

/* A text read line by line. A line is without its newline; `nl` says whether it had one. */
struct lines {
        const char *text, *s; /* s: the line */
        size_t n, at, len;
        size_t number; /* of the current line; 0 before the first */
        bool nl;
};

static bool line_next(struct lines *l)
{
        const char *end;

        if (l->at >= l->n)
                return false;
        l->s = l->text + l->at;
        end = memchr(l->s, '\n', l->n - l->at);
        l->nl = end != NULL;
        l->len = end ? (size_t)(end - l->s) : l->n - l->at;
        l->at += l->len + (l->nl ? 1 : 0);
        l->number++;
        return true;
}

static bool starts(const struct lines *l, const char *word)
{
        size_t n = strlen(word);

        return l->len >= n && memcmp(l->s, word, n) == 0;
}

static bool is_blank(const struct lines *l)
{
        for (size_t i = 0; i < l->len; i++)
                if (l->s[i] != ' ' && l->s[i] != '\t' && l->s[i] != '\r')
                        return false;
        return true;
}

struct hunk {
        size_t number; /* 1-based, for people */
        long old_at, old_n, new_at, new_n;
        char head[80];
};

struct job {
        struct lines src, diff;
        struct hunk h;
        struct buf *out;
        struct err *e;
        bool ended; /* a "\ No newline" was written: nothing may follow */
};

/* For messages: short, valid UTF-8, one line. */
static void quote(const char *s, size_t n, char out[100])
{
        size_t k = n < 72 ? n : 72;

        /* The cut may have halved a character. */
        for (size_t back = 0; back < 3 && k && k < n && !str_is_utf8(s, k); back++)
                k--;
        if (!str_is_utf8(s, k)) {
                snprintf(out, 100, "(binary)");
                return;
        }
        for (size_t i = 0; i < k; i++)
                out[i] = (unsigned char)s[i] < 0x20 || s[i] == 0x7f ? ' ' : s[i];
        snprintf(out + k, 100 - k, "%s", k < n ? "..." : "");
}

static int no_room(struct job *j, int rc)
{
        return err_set(j->e, -rc, rc == -E_TOOBIG ? "the file would become too large" : "out of memory");
}

static int emit(struct job *j, const char *s, size_t n, bool nl)
{
        int rc;

        if (j->ended)
                return err_set(j->e, E_STATE,
                               "hunk %zu (%s): text follows a line that is to be the last without newline",
                               j->h.number, j->h.head);
        rc = buf_put(j->out, s, n);
        if (rc == 0 && nl)
                rc = buf_putc(j->out, '\n');
        return rc ? no_room(j, rc) : 0;
}

/* --- heads ------------------------------------------------------------------- */

static bool read_number(const char **io, const char *end, long *out)
{
        const char *s = *io;
        long v = 0;

        if (s >= end || *s < '0' || *s > '9')
                return false;
        for (; s < end && *s >= '0' && *s <= '9'; s++) {
                if (v > (INT_MAX - 9) / 10)
                        return false;
                v = v * 10 + (*s - '0');
        }
        *out = v;
        *io = s;
        return true;
}

/* "12,3" or "12". */
static bool read_span(const char **io, const char *end, long *at, long *n)
{
        *n = 1;
        if (!read_number(io, end, at))
                return false;
        if (*io < end && **io == ',') {
                ++*io;
                return read_number(io, end, n);
        }
        return true;
}

static bool read_head(struct job *j)
{
        const char *s = j->diff.s, *end = s + j->diff.len, *stop;
        size_t k;

        if (!starts(&j->diff, "@@ -"))
                return false;
        s += 4;
        if (!read_span(&s, end, &j->h.old_at, &j->h.old_n) || end - s < 2 || memcmp(s, " +", 2) != 0)
                return false;
        s += 2;
        if (!read_span(&s, end, &j->h.new_at, &j->h.new_n) || end - s < 3 || memcmp(s, " @@", 3) != 0)
                return false;
        stop = s + 3;
        k = (size_t)(stop - j->diff.s);
        snprintf(j->h.head, sizeof j->h.head, "%.*s", (int)(k < 79 ? k : 79), j->diff.s);
        j->h.number++;
        return true;
}

/* --- where a hunk that does not fit would fit ----------------------------------- */

static size_t find_elsewhere(const struct job *j, const struct lines *body, const struct hunk *h)
{
        struct lines from = {.text = j->src.text, .n = j->src.n};
        size_t found = 0, steps = 0;

        if (h->old_n == 0)
                return 0;
        while (line_next(&from)) {
                struct lines d = *body, s = from;
                long left = h->old_n;
                bool same = true;

                while (same && left > 0 && line_next(&d)) {
                        /* A hint is not worth more than a moment. */
                        if (++steps > 200000)
                                return 0;
                        if (d.len && (d.s[0] == '+' || d.s[0] == '\\'))
                                continue;
                        same = s.len == (d.len ? d.len - 1 : 0) &&
                               memcmp(s.s, d.len ? d.s + 1 : "", s.len) == 0;
                        left--;
                        if (same && left > 0)
                                same = line_next(&s);
                }
                if (same && left == 0) {
                        if (found)
                                return 0;
                        found = from.number;
                }
        }
        return found;
}

static int misfit(struct job *j, const struct lines *body, bool have, const char *want, size_t want_n)
{
        char is[100], should[100], hint[120] = "";
        size_t at = find_elsewhere(j, body, &j->h);

        quote(want, want_n, should);
        if (at)
                snprintf(hint, sizeof hint, "; its lines stand at line %zu, correct the line numbers", at);
        else if (have && j->src.len == want_n + 1 && j->src.s[want_n] == '\r')
                snprintf(hint, sizeof hint, "; the file has CRLF line ends, the diff has not");
        if (!have)
                return err_set(j->e, E_STATE,
                               "hunk %zu (%s): the file ends before line %zu, the diff expects \"%s\"%s",
                               j->h.number, j->h.head, j->src.number + 1, should, hint);
        quote(j->src.s, j->src.len, is);
        return err_set(j->e, E_STATE,
                       "hunk %zu (%s): line %zu of the file is \"%s\", the diff expects \"%s\"%s",
                       j->h.number, j->h.head, j->src.number, is, should, hint);
}

/* --- a hunk ------------------------------------------------------------------------ */

/* Copies the untouched lines before the hunk. */
static int skip_to(struct job *j)
{
        /* "-5,0" inserts after line 5; "-5,2" begins with line 5. */
        size_t upto = (size_t)(j->h.old_n ? j->h.old_at - 1 : j->h.old_at);
        int rc = 0;

        if ((j->h.old_n && j->h.old_at < 1) || upto < j->src.number)
                return err_set(j->e, E_STATE, "hunk %zu (%s) overlaps the one before it or is out of order",
                               j->h.number, j->h.head);
        while (rc == 0 && j->src.number < upto) {
                if (!line_next(&j->src))
                        return err_set(j->e, E_STATE, "hunk %zu (%s): the file has only %zu lines",
                                       j->h.number, j->h.head, j->src.number);
                rc = emit(j, j->src.s, j->src.len, j->src.nl);
        }
        return rc;
}

static bool no_newline_follows(const struct job *j)
{
        struct lines peek = j->diff;

        return line_next(&peek) && peek.len && peek.s[0] == '\\';
}

static int new_line(struct job *j, const char *s, size_t n)
{
        bool bare = no_newline_follows(j);
        int rc = emit(j, s, n, !bare);

        if (rc == 0)
                j->ended = bare;
        return rc;
}

static int old_line(struct job *j, const struct lines *body, bool keep, const char *s, size_t n)
{
        bool bare = no_newline_follows(j);

        if (!line_next(&j->src))
                return misfit(j, body, false, s, n);
        if (j->src.len != n || memcmp(j->src.s, s, n) != 0)
                return misfit(j, body, true, s, n);
        if (j->src.nl == bare)
                return err_set(j->e, E_STATE,
                               "hunk %zu (%s): line %zu of the file %s a newline at its end, the diff says "
                               "otherwise",
                               j->h.number, j->h.head, j->src.number, j->src.nl ? "has" : "lacks");
        return keep ? new_line(j, s, n) : 0;
}

static int malformed(struct job *j, const char *why)
{
        return err_set(j->e, E_INVAL, "line %zu of the diff: %s", j->diff.number, why);
}

static int apply_hunk(struct job *j)
{
        struct lines body = j->diff;
        long old_left = j->h.old_n, new_left = j->h.new_n;
        int rc = skip_to(j);

        while (rc == 0 && (old_left > 0 || new_left > 0)) {
                const char *s;
                char kind;
                size_t n;

                if (!line_next(&j->diff))
                        return malformed(j, "the diff ends within a hunk; are its line counts right?");
                /* Some editors strip the blank of an empty context line. */
                kind = j->diff.len ? j->diff.s[0] : ' ';
                s = j->diff.len ? j->diff.s + 1 : "";
                n = j->diff.len ? j->diff.len - 1 : 0;
                if (kind == '\\')
                        continue;
                if (kind != ' ' && kind != '-' && kind != '+')
                        return malformed(j, "a line of a hunk must begin with a blank, - or +; are the line "
                                            "counts of the hunk right?");
                if ((kind != '+' && old_left-- == 0) || (kind != '-' && new_left-- == 0))
                        return malformed(j, "the hunk has more lines than its @@ line says");
                rc = kind == '+' ? new_line(j, s, n) : old_line(j, &body, kind == ' ', s, n);
        }
        if (rc == 0 && no_newline_follows(j))
                line_next(&j->diff);
        return rc;
}

/* --- the diff ------------------------------------------------------------------------- */

static bool is_dev_null(const struct lines *l)
{
        return l->len >= 13 && memcmp(l->s + 4, "/dev/null", 9) == 0 &&
               (l->len == 13 || l->s[13] == '\t' || l->s[13] == ' ');
}

static int file_head(struct job *j, bool exists)
{
        bool from_null = is_dev_null(&j->diff);

        if (!line_next(&j->diff) || !starts(&j->diff, "+++ "))
                return malformed(j, "a +++ line must follow the --- line");
        if (is_dev_null(&j->diff))
                return malformed(j, "the diff removes the file; use file.delete");
        if (from_null && exists)
                return err_set(j->e, E_STATE,
                               "the diff makes a new file (--- /dev/null), but the file exists");
        if (!from_null && !exists)
                return err_set(
                        j->e, E_NOENT,
                        "the file does not exist, and the diff does not make it (its --- is not /dev/null)");
        return 0;
}

int patch_diff(const char *text, size_t n, bool exists, const char *diff, size_t diff_n, struct buf *out,
               size_t *out_hunks, struct err *e)
{
        struct err ignored;
        struct job j = {.src = {.text = text, .n = n},
                        .diff = {.text = diff, .n = diff_n},
                        .out = out,
                        .e = e ? e : &ignored};
        bool headed = false;
        int rc = 0;

        while (rc == 0 && line_next(&j.diff)) {
                if (starts(&j.diff, "@@") && !exists && !headed) {
                        rc = err_set(j.e, E_NOENT,
                                     "the file does not exist, and the diff does not make it (its --- is not "
                                     "/dev/null)");
                } else if (starts(&j.diff, "@@")) {
                        rc = read_head(&j) ? apply_hunk(&j)
                                           : malformed(&j, "expected @@ -LINE,COUNT +LINE,COUNT @@");
                } else if (j.h.number == 0 && !headed && starts(&j.diff, "--- ")) {
                        headed = true;
                        rc = file_head(&j, exists);
                } else if (starts(&j.diff, "--- ") || starts(&j.diff, "+++ ")) {
                        rc = malformed(&j, "the diff is of more than one file; patch them one by one");
                } else if (starts(&j.diff, "GIT binary patch") || starts(&j.diff, "Binary files")) {
                        rc = malformed(&j, "binary diffs are not supported; use file.write");
                } else if (j.h.number && !starts(&j.diff, "-- ") && !is_blank(&j.diff)) {
                        rc = malformed(&j,
                                       starts(&j.diff, "diff ")
                                               ? "the diff is of more than one file; patch them one by one"
                                               : "unexpected text after a hunk; are its line counts right?");
                } else if (starts(&j.diff, "-- ")) {
                        break; /* the signature of git format-patch */
                }
        }
        if (rc == 0 && j.h.number == 0)
                rc = err_set(j.e, E_INVAL, "the diff holds no hunk (a line that starts with @@ -)");
        while (rc == 0 && line_next(&j.src))
                rc = emit(&j, j.src.s, j.src.len, j.src.nl);
        if (rc == 0)
                *out_hunks = j.h.number;
        return rc;
}
