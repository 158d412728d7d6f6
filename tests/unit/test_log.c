#include "tests/lib/test.h"

#include "common/err.h"
#include "common/json.h"
#include "common/log.h"
#include "common/mem.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

/* Runs from begin to end with stderr in a memory file. */
static int saved_stderr, capture;

static void capture_begin(void)
{
        saved_stderr = dup(STDERR_FILENO);
        capture = memfd_create("log", MFD_CLOEXEC);
        CHECK(saved_stderr >= 0 && capture >= 0);
        dup2(capture, STDERR_FILENO);
}

static const char *capture_end(void)
{
        static char text[16384];
        ssize_t n;

        dup2(saved_stderr, STDERR_FILENO);
        close(saved_stderr);
        n = pread(capture, text, sizeof text - 1, 0);
        close(capture);
        CHECK(n >= 0);
        text[n] = '\0';
        return text;
}

TEST(log, one_line_with_pairs)
{
        const char *s;

        capture_begin();
        log_info("session", "agent connected", "agent=%s n=%d", "web", 3);
        log_debug("session", "hidden", "");
        s = capture_end();
        CHECK_STR(s + 28, "info session agent connected agent=web n=3\n");
        CHECK(s[26] == 'Z');
}

TEST(log, peers_cannot_forge_a_line)
{
        const char *s;

        capture_begin();
        log_warn("x", "bad", "name=%s", "a\nb\r\x1b[31m\x7f\xff\xc2\x85\t");
        s = capture_end();
        CHECK_STR(s + 28, "warn x bad name=a\\nb\\r\\x1b[31m\\x7f\\xff\\u0085\\t\n");
}

TEST(log, json_is_valid_whatever_comes)
{
        struct err e;
        cJSON *v;
        const char *s;

        log_setup(LOG_DEBUG, true);
        capture_begin();
        log_debug("x", "a \"msg\"", "agent=%s why=no \"space\" left n=1", "w\n\xff\\");
        s = capture_end();
        CHECK_INT(json_parse(s, strlen(s), &v, &e), 0);
        CHECK_STR(cJSON_GetObjectItem(v, "msg")->valuestring, "a \"msg\"");
        CHECK_STR(cJSON_GetObjectItem(v, "level")->valuestring, "debug");
        CHECK_STR(cJSON_GetObjectItem(cJSON_GetObjectItem(v, "fields"), "why")->valuestring,
                  "no \"space\" left");
        CHECK_STR(cJSON_GetObjectItem(cJSON_GetObjectItem(v, "fields"), "agent")->valuestring,
                  "w\n\xef\xbf\xbd\\");
        cJSON_Delete(v);
}

TEST(log, long_values_are_cut_within_one_line)
{
        char text[6000];
        struct err e;
        const char *s;
        cJSON *v;

        memset(text, '\n', sizeof text - 1);
        text[sizeof text - 1] = '\0';
        capture_begin();
        log_error("x", "long", "first=1 v=%s", text);
        s = capture_end();
        CHECK(strlen(s) <= 4096 && strchr(s, '\n') == s + strlen(s) - 1);
        log_setup(LOG_INFO, true);
        capture_begin();
        log_error("x", "long", "first=1 v=%s", text);
        s = capture_end();
        CHECK(strlen(s) <= 4096);
        CHECK_INT(json_parse(s, strlen(s), &v, &e), 0);
        CHECK_STR(cJSON_GetObjectItem(cJSON_GetObjectItem(v, "fields"), "first")->valuestring, "1");
        cJSON_Delete(v);
}

TEST(log, levels)
{
        enum log_level l;

        CHECK_INT(log_level_parse("warn", &l), 0);
        CHECK_INT(l, LOG_WARN);
        CHECK_INT(log_level_parse("loud", &l), -E_INVAL);
}

TEST(log, needs_no_memory)
{
        const char *s;

        capture_begin();
        mem_fail_nth(1);
        log_error("x", "still", "said=1");
        CHECK_INT(mem_fail_nth(0), 0);
        s = capture_end();
        CHECK(strstr(s, "still said=1"));
}
