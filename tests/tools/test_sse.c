/* Server-sent events, however the bytes are cut. */
#include "agent/tools/sse.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "tests/lib/test.h"

/* What was heard, as "type:data|". */
static char heard[4000];

static int on_event(void *arg, const struct sse_event *e)
{
        size_t n = strlen(heard);

        CHECK(e->data[e->n] == '\0');
        snprintf(heard + n, sizeof heard - n, "%s%s%s:%s|", e->id, *e->id ? "#" : "", e->type, e->data);
        return arg ? *(int *)arg : 0;
}

static bool hears(const char *stream, size_t piece, const char *want)
{
        struct sse s;
        size_t n = strlen(stream);

        heard[0] = '\0';
        sse_init(&s, 1000);
        for (size_t i = 0; i < n; i += piece)
                CHECK_INT(sse_feed(&s, stream + i, n - i < piece ? n - i : piece, on_event, NULL), 0);
        sse_fini(&s);
        if (strcmp(heard, want) != 0)
                fprintf(stderr, "pieces of %zu: heard \"%s\", wanted \"%s\"\n", piece, heard, want);
        return strcmp(heard, want) == 0;
}

TEST(sse, events_are_the_same_however_the_bytes_are_cut)
{
        static const struct {
                const char *stream, *want;
        } cases[] = {
                {"data: a\n\ndata: b\n\n", "message:a|message:b|"},
                {"data: a\r\n\r\ndata: b\r\rdata:c\n\n", "message:a|message:b|message:c|"},
                {"\xef\xbb\xbf"
                 "data: a\n\n",
                 "message:a|"},
                {"event: ping\ndata: {}\n\ndata: x\n\n", "ping:{}|message:x|"},
                {"data: one\ndata: two\ndata:\n\n", "message:one\ntwo\n|"},
                {": comment\n\ndata\n\nevent: lonely\n\ndata:  y\n\n", "message:|message: y|"},
                {"id: 7\ndata: a\n\nretry: 5\ndata: b\n\nid\ndata: c\n\n",
                 "7#message:a|7#message:b|message:c|"},
                {"data: not over\n", ""},
                {"nonsense\ndata: a\nfoo: bar\n\n", "message:a|"},
        };

        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
                for (size_t piece = 1; piece < 30; piece++)
                        CHECK(hears(cases[i].stream, piece, cases[i].want));
}

TEST(sse, what_is_cut_in_the_middle_is_told)
{
        static const struct {
                const char *stream;
                bool partial;
        } cases[] = {{"", false},
                     {"data: a\n\n", false},
                     {"data: a\n\n: ping\n", false},
                     {"data: a\n", true},
                     {"data: a\n\ndat", true}};

        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
                struct sse s;

                heard[0] = '\0';
                sse_init(&s, 1000);
                CHECK_INT(sse_feed(&s, cases[i].stream, strlen(cases[i].stream), on_event, NULL), 0);
                CHECK(sse_is_partial(&s) == cases[i].partial);
                sse_fini(&s);
        }
}

TEST(sse, an_event_over_the_limit_ends_it)
{
        struct sse s;
        char line[40];

        memset(line, 'x', sizeof line);
        sse_init(&s, 100);
        heard[0] = '\0';
        CHECK_INT(sse_feed(&s, "data:", 5, on_event, NULL), 0);
        CHECK_INT(sse_feed(&s, line, sizeof line, on_event, NULL), 0);
        CHECK_INT(sse_feed(&s, line, sizeof line, on_event, NULL), 0);
        CHECK_INT(sse_feed(&s, line, sizeof line, on_event, NULL), -E_TOOBIG);
        CHECK_INT(sse_feed(&s, "\n\ndata: x\n\n", 11, on_event, NULL), -E_TOOBIG);
        CHECK_STR(heard, "");
        sse_fini(&s);
        /* Many lines that together are too much. */
        sse_init(&s, 100);
        for (int i = 0, rc = 0; !rc; i++) {
                rc = sse_feed(&s, "data: 123456789\n", 16, on_event, NULL);
                CHECK(rc == 0 || rc == -E_TOOBIG);
                CHECK(i < 20);
        }
        sse_fini(&s);
}

TEST(sse, the_listener_can_end_it)
{
        struct sse s;
        int stop = -E_STATE;

        heard[0] = '\0';
        sse_init(&s, 100);
        CHECK_INT(sse_feed(&s, "data: a\n\ndata: b\n\n", 18, on_event, &stop), -E_STATE);
        CHECK_STR(heard, "message:a|");
        CHECK_INT(sse_feed(&s, "data: c\n\n", 9, on_event, NULL), -E_STATE);
        CHECK_STR(heard, "message:a|");
        sse_fini(&s);
}
