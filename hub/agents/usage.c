#include "hub/agents/usage.h"

#include <string.h>

#include "common/json.h"

static void line_over(struct usage_watch *w, void (*on_usage)(void *arg, const cJSON *usage), void *arg)
{
        static const char mark[] = "\"usage\"";
        cJSON *v = NULL;

        if (!w->too_long && memmem(w->line, w->len, mark, sizeof mark - 1) &&
            json_parse(w->line, w->len, &v, NULL) == 0) {
                const cJSON *type = cJSON_GetObjectItemCaseSensitive(v, "type");

                if (cJSON_IsString(type) && strcmp(type->valuestring, "usage") == 0)
                        on_usage(arg, v);
                cJSON_Delete(v);
        }
        w->len = 0;
        w->too_long = false;
}

void usage_feed(struct usage_watch *w, uint64_t offset, const void *p, size_t n,
                void (*on_usage)(void *arg, const cJSON *usage), void *arg)
{
        const char *s = p, *end;
        uint64_t seen = offset < w->at ? w->at - offset : 0;

        if (seen >= n)
                return;
        s += seen;
        end = (const char *)p + n;
        w->at = offset + n;
        while (s < end) {
                const char *nl = memchr(s, '\n', (size_t)(end - s));
                size_t part = (size_t)((nl ? nl : end) - s);

                if (part > sizeof w->line - w->len)
                        w->too_long = true;
                if (!w->too_long) {
                        memcpy(w->line + w->len, s, part);
                        w->len += part;
                }
                if (nl)
                        line_over(w, on_usage, arg);
                s += part + (nl != NULL);
        }
}
