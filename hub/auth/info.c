#include "hub/auth/info.h"

#include <string.h>

#include "common/err.h"
#include "common/map.h"
#include "common/mem.h"

struct info_tail {
        struct map *home;
        size_t refs;
        char text[];
};

/* In JSON text a quote inside a string is escaped, so this is never found within one. */
static const char tail_mark[] = ",\"tools\":[";

static struct info_tail *tail_get(struct map *tails, const char *text)
{
        struct info_tail *t = map_get(tails, text);
        size_t n;

        if (t) {
                t->refs++;
                return t;
        }
        n = strlen(text) + 1;
        t = mem_alloc(sizeof *t + n);
        if (!t)
                return NULL;
        t->home = tails;
        t->refs = 1;
        memcpy(t->text, text, n);
        if (map_put(tails, text, t, NULL)) {
                mem_free(t);
                return NULL;
        }
        return t;
}

int info_set(struct info *i, struct map *tails, const char *json)
{
        const char *cut = strstr(json, tail_mark);
        struct info new = {.head = cut ? mem_strndup(json, (size_t)(cut - json)) : mem_strdup(json)};

        if (new.head && cut)
                new.tail = tail_get(tails, cut);
        if (!new.head || (cut && !new.tail)) {
                info_fini(&new);
                return -E_NOMEM;
        }
        info_fini(i);
        *i = new;
        return 0;
}

char *info_join(const struct info *i)
{
        size_t h, t;
        char *out;

        if (!i->head)
                return NULL;
        h = strlen(i->head);
        t = i->tail ? strlen(i->tail->text) : 0;
        out = mem_alloc(h + t + 1);
        if (!out)
                return NULL;
        memcpy(out, i->head, h);
        if (t)
                memcpy(out + h, i->tail->text, t);
        out[h + t] = 0;
        return out;
}

void info_fini(struct info *i)
{
        mem_free(i->head);
        if (i->tail && --i->tail->refs == 0) {
                map_del(i->tail->home, i->tail->text);
                mem_free(i->tail);
        }
        *i = (struct info){0};
}
