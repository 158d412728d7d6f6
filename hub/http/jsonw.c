#include "hub/http/jsonw.h"

#include <stdio.h>
#include <string.h>

#include "common/buf.h"
#include "common/clock.h"
#include "common/json.h"

static void put(struct jsonw *w, const char *s, size_t n)
{
        if (!w->rc)
                w->rc = buf_put(w->b, s, n);
}

/* Keys are the program's own words: nothing in them needs an escape. */
static void lead(struct jsonw *w, const char *key)
{
        if (w->comma)
                put(w, ",", 1);
        w->comma = true;
        if (!key)
                return;
        put(w, "\"", 1);
        put(w, key, strlen(key));
        put(w, "\":", 2);
}

void jw_begin(struct jsonw *w, struct buf *b)
{
        *w = (struct jsonw){.b = b};
}

int jw_end(const struct jsonw *w)
{
        return w->rc;
}

void jw_open(struct jsonw *w, const char *key, char bracket)
{
        lead(w, key);
        put(w, &bracket, 1);
        w->comma = false;
}

void jw_close(struct jsonw *w, char bracket)
{
        put(w, &bracket, 1);
        w->comma = true;
}

void jw_str(struct jsonw *w, const char *key, const char *s)
{
        lead(w, key);
        if (!s)
                put(w, "null", 4);
        else if (!w->rc)
                w->rc = json_append_str(w->b, s, strlen(s));
}

void jw_i64(struct jsonw *w, const char *key, int64_t v)
{
        char t[24];
        int n = snprintf(t, sizeof t, "%lld", (long long)v);

        lead(w, key);
        put(w, t, (size_t)n);
}

void jw_bool(struct jsonw *w, const char *key, bool v)
{
        lead(w, key);
        put(w, v ? "true" : "false", v ? 4 : 5);
}

void jw_time(struct jsonw *w, const char *key, int64_t us)
{
        char t[CLOCK_RFC3339_LEN];

        if (us <= 0) {
                jw_raw(w, key, NULL, "null");
                return;
        }
        clock_format(us, t);
        jw_str(w, key, t);
}

void jw_raw(struct jsonw *w, const char *key, const char *json, const char *absent)
{
        const char *s = json && *json ? json : absent;

        lead(w, key);
        put(w, s, strlen(s));
}
