/* What event.c writes is what docs/EVENTS.md says, whatever it is given. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/tools/event.h"
#include "agent/tools/tool.h"
#include "common/err.h"
#include "common/file.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"
#include "tests/lib/test.h"
#include "tests/tools/fake.h"

struct bench {
        struct fake f;
        cJSON *last; /* the last event */
};

static void open_bench(struct bench *b)
{
        memset(b, 0, sizeof *b);
        fake_init(&b->f, NULL);
        b->f.c = (struct tool_call){.job = &b->f};
}

static void close_bench(struct bench *b)
{
        cJSON_Delete(b->last);
        buf_fini(&b->f.out);
        buf_fini(&b->f.events);
        fake_fini(&b->f);
}

/* The one event that was written since the last look: a line that is an object. */
static const cJSON *event_of(struct bench *b)
{
        struct buf *ev = &b->f.events;
        struct err e = {0};

        CHECK(ev->len > 1 && ev->data[ev->len - 1] == '\n');
        CHECK(memchr(ev->data, '\n', ev->len) == ev->data + ev->len - 1);
        CHECK(str_is_utf8(ev->data, ev->len));
        cJSON_Delete(b->last);
        b->last = NULL;
        if (json_parse((char *)ev->data, ev->len - 1, &b->last, &e))
                test_fail(__FILE__, __LINE__, "%s in %.*s", e.msg, (int)ev->len, (char *)ev->data);
        buf_reset(ev);
        CHECK(cJSON_IsObject(b->last));
        return b->last;
}

static cJSON *json(const char *text)
{
        cJSON *v = NULL;

        CHECK_INT(json_parse(text, strlen(text), &v, NULL), 0);
        return v;
}

/* ---- the page ---- */

static char *page(void)
{
        char *text = NULL;
        size_t n;
        struct err e = {0};

        if (file_read("docs/EVENTS.md", 1 << 20, &text, &n, &e))
                test_fail(__FILE__, __LINE__, "%s (run from the top folder)", e.msg);
        return text;
}

/* "## TYPE" up to the next heading; mem_free. */
static char *section(const char *text, const char *type)
{
        char head[64];
        const char *at, *end;

        snprintf(head, sizeof head, "\n## %s\n", type);
        at = strstr(text, head);
        if (!at)
                test_fail(__FILE__, __LINE__, "docs/EVENTS.md has no section %s", type);
        end = strstr(at + 1, "\n## ");
        return mem_strndup(at, end ? (size_t)(end - at) : strlen(at));
}

/* Every member has a row, every row is a member that event.c can write, and the example is what it writes. */
static void like_the_page(struct bench *b, const char *text)
{
        const cJSON *ev = event_of(b), *m;
        const char *type = cJSON_GetStringValue(cJSON_GetObjectItem(ev, "type"));
        char *s = section(text, type), *example, *end, *line = json_text(ev);
        size_t rows = 0, members = 0;

        cJSON_ArrayForEach(m, ev)
        {
                char row[64];

                if (strcmp(m->string, "type") == 0)
                        continue;
                members++;
                snprintf(row, sizeof row, "\n| `%s` | ", m->string);
                if (!strstr(s, row))
                        test_fail(__FILE__, __LINE__, "section %s has no row for %s", type, m->string);
        }
        for (const char *p = s; (p = strstr(p, "\n| `")); p++)
                rows++;
        if (rows != members)
                test_fail(__FILE__, __LINE__, "section %s: %zu rows, %zu members were written", type, rows,
                          members);
        example = strstr(s, "```json\n");
        CHECK(example);
        example += 8;
        end = strstr(example, "\n```");
        CHECK(end);
        *end = '\0';
        CHECK_STR(example, line);
        mem_free(line);
        mem_free(s);
}

TEST(event, every_type_is_written_as_the_page_says)
{
        struct event_usage u = {1200, 80, 1000, 10, 5, 0.0125, 2295, 200000, "m-1", "reported"};
        cJSON *input = json("{\"path\":\"hello.txt\"}"),
              *at = json("[{\"path\":\"/srv/hello.txt\",\"line\":1}]"),
              *diff = json("[{\"path\":\"/srv/hello.txt\",\"old_text\":null,\"new_text\":\"hello\\n\"}]"),
              *plan = json("[{\"text\":\"Read the tests\",\"status\":\"completed\",\"priority\":\"high\"}]"),
              *ask = json(
                      "{\"kind\":\"permission\",\"action\":\"edit\",\"title\":\"Write hello.txt\",\"tool\":"
                      "\"Write\",\"sha256\":\"f7cd\",\"arguments\":{\"path\":\"hello.txt\"}}");
        struct event_tool t = {"t1",      "edit", "Write hello.txt", "completed", "Write", input, at, diff,
                               "written", 7};
        char *text = page();
        struct bench b;

        open_bench(&b);
        CHECK_INT(event_text(&b.f.c, "The tests pass.", 15), 0);
        like_the_page(&b, text);
        CHECK(b.f.c.has_events);
        CHECK_INT(event_thought(&b.f.c, "First I look at the failing test.", 33), 0);
        like_the_page(&b, text);
        CHECK_INT(event_tool(&b.f.c, &t), 0);
        like_the_page(&b, text);
        CHECK_INT(event_plan(&b.f.c, plan), 0);
        like_the_page(&b, text);
        CHECK_INT(event_usage(&b.f.c, &u), 0);
        like_the_page(&b, text);
        CHECK_INT(event_progress(&b.f.c, 3, 10, "copying"), 0);
        like_the_page(&b, text);
        CHECK_INT(event_log(&b.f.c, "warning", "the server answers slowly"), 0);
        like_the_page(&b, text);
        CHECK_INT(event_question(&b.f.c, 1, ask), 0);
        like_the_page(&b, text);
        CHECK_INT(event_answer(&b.f.c, 1, "denied", "eve", "not on a Friday"), 0);
        like_the_page(&b, text);
        CHECK_INT(event_result(&b.f.c, "failed", "stalled", "nothing came for 300 s"), 0);
        like_the_page(&b, text);
        mem_free(text);
        cJSON_Delete(input);
        cJSON_Delete(at);
        cJSON_Delete(diff);
        cJSON_Delete(plan);
        cJSON_Delete(ask);
        close_bench(&b);
}

TEST(event, the_page_names_no_type_that_is_never_written)
{
        static const char *const types[] = {"text",     "thought", "tool",     "plan",   "usage",
                                            "progress", "log",     "question", "answer", "result"};
        char *text = page();
        size_t n = 0;

        for (const char *p = text; (p = strstr(p, "\n## ")); p++, n++) {
                size_t k = 0;

                while (k < 10 &&
                       (strncmp(p + 4, types[k], strlen(types[k])) != 0 || p[4 + strlen(types[k])] != '\n'))
                        k++;
                if (k == 10)
                        test_fail(__FILE__, __LINE__, "what is %.20s?", p + 4);
        }
        CHECK_INT(n, 10);
        mem_free(text);
}

TEST(event, what_is_not_known_is_left_out)
{
        struct bench b;
        const cJSON *ev;

        open_bench(&b);
        CHECK_INT(event_usage(&b.f.c, &event_usage_unknown), 0);
        CHECK_INT(cJSON_GetArraySize(event_of(&b)), 1);
        CHECK_INT(event_tool(&b.f.c, &(struct event_tool){.id = "x", .status = "running"}), 0);
        CHECK_INT(cJSON_GetArraySize(event_of(&b)), 3);
        CHECK_INT(event_progress(&b.f.c, 1, -1, NULL), 0);
        CHECK_INT(cJSON_GetArraySize(event_of(&b)), 2);
        CHECK_INT(event_answer(&b.f.c, 1, "allowed", "policy", ""), 0);
        CHECK_INT(cJSON_GetArraySize(event_of(&b)), 4);
        CHECK_INT(event_result(&b.f.c, "succeeded", NULL, NULL), 0);
        ev = event_of(&b);
        CHECK_INT(cJSON_GetArraySize(ev), 2);
        CHECK_INT(event_text(&b.f.c, "", 0), 0);
        CHECK_INT(event_thought(&b.f.c, "", 0), 0);
        CHECK_INT(b.f.events.len + b.f.out.len, 0);
        close_bench(&b);
}

TEST(event, text_is_on_stdout_too_and_only_text)
{
        static const char raw[] = {'a', (char)0xff, 0, 'b'};
        struct bench b;
        const cJSON *ev;

        open_bench(&b);
        event_text(&b.f.c, raw, sizeof raw);
        CHECK_INT(b.f.out.len, sizeof raw);
        CHECK(memcmp(b.f.out.data, raw, sizeof raw) == 0); /* as it is */
        ev = event_of(&b);
        CHECK_STR(cJSON_GetObjectItem(ev, "text")->valuestring, "a\xef\xbf\xbd\xef\xbf\xbd"
                                                                "b");
        event_thought(&b.f.c, "hm", 2);
        event_log(&b.f.c, "info", "x");
        CHECK_INT(b.f.out.len, sizeof raw);
        close_bench(&b);
}

TEST(event, a_long_text_is_cut_at_a_character_and_says_so)
{
        size_t n = EVENT_TEXT_MAX + 3;
        char *text = mem_alloc(n);
        struct bench b;
        const cJSON *ev;

        open_bench(&b);
        memset(text, 'x', n);
        memcpy(text + EVENT_TEXT_MAX - 1, "\xc3\xbc", 2); /* lies across the end */
        event_text(&b.f.c, text, n);
        ev = event_of(&b);
        CHECK_INT(strlen(cJSON_GetObjectItem(ev, "text")->valuestring), EVENT_TEXT_MAX - 1);
        CHECK(cJSON_IsTrue(cJSON_GetObjectItem(ev, "truncated")));
        CHECK_INT(b.f.out.len, n); /* the bytes are whole */
        memset(text, 'x', n);
        event_thought(&b.f.c, text, EVENT_TEXT_MAX);
        ev = event_of(&b);
        CHECK_INT(strlen(cJSON_GetObjectItem(ev, "text")->valuestring), EVENT_TEXT_MAX);
        CHECK(!cJSON_GetObjectItem(ev, "truncated"));
        /* Bytes that all look like the middle of a character must not send the cut before the beginning. */
        memset(text, 0x80, n);
        event_thought(&b.f.c, text, n);
        CHECK(cJSON_IsTrue(cJSON_GetObjectItem(event_of(&b), "truncated")));
        mem_free(text);
        close_bench(&b);
}

TEST(event, numbers_that_json_has_not_are_null)
{
        struct event_usage u = event_usage_unknown;
        struct bench b;
        const cJSON *ev;

        open_bench(&b);
        event_progress(&b.f.c, (double)NAN, (double)INFINITY, "x");
        ev = event_of(&b);
        CHECK(!cJSON_IsNumber(cJSON_GetObjectItem(ev, "progress")));
        u.cost_usd = (double)NAN;
        u.input_tokens = INT64_MAX;
        event_usage(&b.f.c, &u);
        ev = event_of(&b);
        CHECK(!cJSON_IsNumber(cJSON_GetObjectItem(ev, "cost_usd")));
        close_bench(&b);
}

static void write_some(struct bench *b)
{
        struct event_usage u = {1, 2, 3, 4, 5, 0.5, 6, 7, "m", "reported"};
        cJSON *o;

        event_thought(&b->f.c, "h\xff", 2);
        event_usage(&b->f.c, &u);
        event_progress(&b->f.c, 1, 2, "m");
        event_result(&b->f.c, "failed", "x", "y");
        o = event_usage_json(&u);
        cJSON_Delete(o);
}

static int count_whole_lines(const struct buf *b)
{
        int n = 0;

        CHECK(b->len == 0 || b->data[b->len - 1] == '\n');
        for (char *s = (char *)b->data, *end = s + b->len; s && s < end; n++) {
                char *nl = memchr(s, '\n', (size_t)(end - s));
                cJSON *v = NULL;

                CHECK_INT(json_parse(s, (size_t)(nl - s), &v, NULL), 0);
                cJSON_Delete(v);
                s = nl + 1;
        }
        return n;
}

/* Without memory an event is left out as a whole: what comes out is lines of JSON in any case. */
TEST(event, without_memory_nothing_is_half_written)
{
        unsigned long made;
        int short_ones = 0;
        struct bench b;

        open_bench(&b);
        CHECK_INT(buf_reserve(&b.f.events, 1 << 16), 0);
        mem_fail_nth(100000); /* counts */
        write_some(&b);
        made = mem_fail_nth(0);
        CHECK(made > 10);
        CHECK_INT(count_whole_lines(&b.f.events), 4);
        for (unsigned long n = 1; n <= made; n++) {
                buf_reset(&b.f.events);
                mem_fail_nth(n);
                write_some(&b);
                mem_fail_nth(0);
                short_ones += count_whole_lines(&b.f.events) == 3;
        }
        CHECK(short_ones > 10);
        close_bench(&b);
}
