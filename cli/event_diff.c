#include "cli/event_diff.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "common/mem.h"
#include "common/str.h"

struct lines {
        const char *text;
        size_t n, count;
};

static size_t count_lines(const char *s, size_t n)
{
        size_t k = 0;

        for (size_t i = 0; i < n; i++)
                k += s[i] == '\n';
        return k + (n && s[n - 1] != '\n');
}

/* Whole lines at the start that are the same in both. */
static size_t same_start(const struct lines *a, const struct lines *b)
{
        size_t i = 0, line = 0;

        for (; i < a->n && i < b->n && a->text[i] == b->text[i]; i++)
                if (a->text[i] == '\n')
                        line = i + 1;
        return i == a->n && i == b->n ? i : line;
}

static size_t same_end(const struct lines *a, const struct lines *b)
{
        size_t i = 0, line = 0;

        for (; i < a->n && i < b->n && a->text[a->n - 1 - i] == b->text[b->n - 1 - i]; i++)
                if (i && a->text[a->n - 1 - i] == '\n')
                        line = i;
        /* All of the shorter one may belong to the end, where a line begins in the longer one too. */
        if (i == a->n && (i == b->n || b->text[b->n - 1 - i] == '\n'))
                return i;
        if (i == b->n && i < a->n && a->text[a->n - 1 - i] == '\n')
                return i;
        return line;
}

static void put_lines(const struct lines *l, char mark, void (*put)(void *ctx, char mark, const char *text),
                      void *ctx)
{
        const char *s = l->text, *end = s + l->n;
        size_t shown = 0;
        char more[64];

        while (s < end && shown < EVENT_DIFF_SHOWN) {
                const char *nl = memchr(s, '\n', (size_t)(end - s));
                char *line = mem_strndup(s, (size_t)((nl ? nl : end) - s));

                if (line)
                        put(ctx, mark, line);
                mem_free(line);
                s = nl ? nl + 1 : end;
                shown++;
        }
        if (l->count > shown) {
                snprintf(more, sizeof more, "(%zu more)", l->count - shown);
                put(ctx, mark, more);
        }
}

void event_diff(const char *path, const char *before, const char *after,
                void (*put)(void *ctx, char mark, const char *text), void *ctx)
{
        struct lines a = {.text = before ? before : "", .n = before ? strlen(before) : 0};
        struct lines b = {.text = after, .n = strlen(after)};
        size_t head = same_start(&a, &b), tail;
        char *title;

        a.text += head;
        b.text += head;
        a.n -= head;
        b.n -= head;
        tail = same_end(&a, &b);
        a.n -= tail;
        b.n -= tail;
        a.count = count_lines(a.text, a.n);
        b.count = count_lines(b.text, b.n);
        title = before ? str_printf("%s (+%zu -%zu)", path, b.count, a.count)
                       : str_printf("%s (new file, +%zu)", path, b.count);
        if (title)
                put(ctx, ' ', title);
        mem_free(title);
        put_lines(&a, '-', put, ctx);
        put_lines(&b, '+', put, ctx);
}
