#include "tests/tools/stand_in.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"
#include "tests/lib/test.h"

#define UNTIL_MS 20000

void stand_in_init(struct fake *f, const char *policy, const char *name, const char *script)
{
        char from[600], to[600], dir[400], path[1200];
        const char *was = getenv("PATH");

        fake_init(f, policy);
        if (!getcwd(from, 300))
                test_fail(__FILE__, __LINE__, "no current folder");
        snprintf(from + strlen(from), sizeof from - strlen(from), "/tests/peers/%s", script);
        if (access(from, X_OK))
                test_fail(__FILE__, __LINE__, "%s is not there (run from the top folder)", from);
        snprintf(dir, sizeof dir, "%s/bin", test_scratch());
        CHECK(mkdir(dir, 0755) == 0 || errno == EEXIST);
        snprintf(to, sizeof to, "%s/%s", dir, name);
        CHECK(symlink(from, to) == 0 || errno == EEXIST);
        if (!was || strncmp(was, dir, strlen(dir)) != 0) {
                snprintf(path, sizeof path, "%s:%s", dir, was ? was : "/usr/bin:/bin");
                setenv("PATH", path, 1);
        }
        snprintf(dir, sizeof dir, "%s/work", f->home);
        CHECK(mkdir(dir, 0755) == 0 || errno == EEXIST);
}

static char *input_of(const char *prompt, const char *more)
{
        cJSON *s = cJSON_CreateString(prompt);
        char *quoted = json_text(s), *out = str_printf("{\"prompt\":%s,\"cwd\":\"~/work\"%s}", quoted, more);

        cJSON_Delete(s);
        mem_free(quoted);
        CHECK(out);
        return out;
}

void stand_in_start(struct fake *f, const char *tool, const char *prompt, const char *more)
{
        char *input = input_of(prompt, more);

        fake_start(f, tool, input);
        mem_free(input);
}

void stand_in_call(struct fake *f, const char *tool, const char *prompt, const char *more)
{
        stand_in_start(f, tool, prompt, more);
        fake_run(f);
}

int stand_in_events(const struct fake *f, const char *type, const char *text)
{
        const char *p = (const char *)f->events.data, *end = p ? p + f->events.len : p;
        char want[64];
        int n = 0;

        snprintf(want, sizeof want, "\"type\":\"%s\"", type);
        while (p && p < end) {
                const char *nl = memchr(p, '\n', (size_t)(end - p));
                size_t len = (size_t)((nl ? nl : end) - p);

                n += memmem(p, len, want, strlen(want)) && memmem(p, len, text, strlen(text));
                p += len + 1;
        }
        return n;
}

static void on_bound(uv_timer_t *t)
{
        *(bool *)t->data = true;
}

void stand_in_until(struct fake *f, const char *type, const char *text)
{
        uv_timer_t t;
        bool over = false;

        uv_timer_init(&f->loop, &t);
        t.data = &over;
        uv_timer_start(&t, on_bound, UNTIL_MS, 0);
        while (!over && !f->finished && !stand_in_events(f, type, text))
                uv_run(&f->loop, UV_RUN_ONCE);
        uv_close((uv_handle_t *)&t, NULL);
        uv_run(&f->loop, UV_RUN_NOWAIT);
        if (!stand_in_events(f, type, text))
                test_fail(__FILE__, __LINE__, "no event %s with %s: %s%.*s", type, text,
                          f->finished ? f->msg : "", (int)f->events.len, (const char *)f->events.data);
}

const char *stand_in_json(const struct fake *f, const char *key)
{
        static char text[4096];
        const cJSON *v = cJSON_GetObjectItemCaseSensitive(f->outputs, key);
        char *t = v ? json_text(v) : NULL;

        snprintf(text, sizeof text, "%s", t ? t : "");
        mem_free(t);
        return text;
}
