#include "common/log.h"

#include "common/clock.h"
#include "common/err.h"
#include "common/str.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* One write(2) of at most PIPE_BUF bytes does not mix with other writers'
 * lines, and a line on the stack works when memory is short. */
#define LINE_MAX_BYTES 4096
#define TAIL_BYTES     16 /* kept free to close a cut JSON line */

struct line {
        char text[LINE_MAX_BYTES];
        size_t len;
        bool cut;
};

static atomic_int level_min = LOG_INFO;
static atomic_bool as_json;

static const char *const level_names[] = {"debug", "info", "warn", "error"};

void log_setup(enum log_level min, bool json)
{
        atomic_store(&level_min, (int)min);
        atomic_store(&as_json, json);
}

int log_level_parse(const char *s, enum log_level *out)
{
        for (int i = 0; i < 4; i++) {
                if (strcmp(s, level_names[i]) == 0) {
                        *out = (enum log_level)i;
                        return 0;
                }
        }
        return -E_INVAL;
}

static void add(struct line *l, const char *s, size_t n)
{
        if (l->cut || n > LINE_MAX_BYTES - TAIL_BYTES - l->len) {
                l->cut = true; /* all that follows too, or pieces would join up wrongly */
                return;
        }
        memcpy(l->text + l->len, s, n);
        l->len += n;
}

static void adds(struct line *l, const char *s)
{
        add(l, s, strlen(s));
}

/* Adds text so that it stays within one line and one JSON string. */
static void add_escaped(struct line *l, const char *s, size_t n, bool json)
{
        static const char names[] = "abtnvfr"; /* 0x07..0x0d */
        char esc[8];
        size_t span;

        for (size_t i = 0; i < n; i += span) {
                unsigned char c = (unsigned char)s[i];
                bool c1;

                span = str_utf8_len(s + i, n - i);
                c1 = span == 2 && c == 0xc2 && (unsigned char)s[i + 1] < 0xa0;
                if (span == 0) {
                        span = 1;
                        snprintf(esc, sizeof esc, json ? "\\u%04x" : "\\x%02x", json ? 0xfffdu : (unsigned)c);
                        adds(l, esc);
                } else if (c1) {
                        snprintf(esc, sizeof esc, "\\u%04x", (unsigned)(unsigned char)s[i + 1]);
                        adds(l, esc);
                } else if (json && (c == '"' || c == '\\')) {
                        esc[0] = '\\';
                        esc[1] = (char)c;
                        add(l, esc, 2);
                } else if (c < 0x20 || c == 0x7f) {
                        if (!json && c >= 7 && c <= 13)
                                snprintf(esc, sizeof esc, "\\%c", names[c - 7]);
                        else
                                snprintf(esc, sizeof esc, json ? "\\u%04x" : "\\x%02x", (unsigned)c);
                        adds(l, esc);
                } else {
                        add(l, s + i, span);
                }
        }
}

/* Length of `key` in "key=", or 0 if s starts no pair. */
static size_t key_len(const char *s)
{
        size_t n = 0;

        while ((s[n] >= 'a' && s[n] <= 'z') || (s[n] >= '0' && s[n] <= '9') ||
               (n && (s[n] == '_' || s[n] == '.')))
                n++;
        return s[n] == '=' ? n : 0;
}

/* Cuts "k=v k=v" into members; words that start no pair belong to the value
 * before them, so values may hold spaces. */
static void add_members(struct line *l, const char *kv)
{
        const char *end, *next;
        bool first = true;
        size_t n;

        adds(l, ",\"fields\":{");
        for (; *kv; kv = next) {
                size_t keep = l->len;

                n = key_len(kv);
                for (end = kv; *end && !(*end == ' ' && key_len(end + 1)); end++)
                        ;
                next = *end ? end + 1 : end;
                adds(l, first ? "\"" : ",\"");
                if (n)
                        add(l, kv, n);
                else
                        adds(l, "text");
                adds(l, "\":\"");
                if (n)
                        kv += n + 1;
                add_escaped(l, kv, (size_t)(end - kv), true);
                adds(l, "\"");
                first = false;
                if (l->cut) {
                        /* A member is there whole or not at all. */
                        l->len = keep;
                        break;
                }
        }
        l->cut = false;
        l->text[l->len++] = '}';
}

static void write_line(const struct line *l)
{
        size_t at = 0;

        while (at < l->len) {
                ssize_t n = write(STDERR_FILENO, l->text + at, l->len - at);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return; /* there is nobody left to tell */
                at += (size_t)n;
        }
}

void log_write(enum log_level lv, const char *area, const char *msg, const char *fmt, ...)
{
        struct line l = {.len = 0};
        char kv[LINE_MAX_BYTES], when[CLOCK_RFC3339_LEN];
        bool json = atomic_load_explicit(&as_json, memory_order_relaxed);
        int saved = errno;
        va_list ap;

        if ((int)lv < atomic_load_explicit(&level_min, memory_order_relaxed))
                return;
        va_start(ap, fmt);
        if (vsnprintf(kv, sizeof kv, fmt, ap) < 0)
                kv[0] = '\0';
        va_end(ap);
        clock_format(clock_now_us(&clock_system), when);
        adds(&l, json ? "{\"time\":\"" : "");
        adds(&l, when);
        adds(&l, json ? "\",\"level\":\"" : " ");
        adds(&l, level_names[lv]);
        adds(&l, json ? "\",\"area\":\"" : " ");
        add_escaped(&l, area, strlen(area), json);
        adds(&l, json ? "\",\"msg\":\"" : " ");
        add_escaped(&l, msg, strnlen(msg, 512), json);
        if (json) {
                adds(&l, "\"");
                if (kv[0])
                        add_members(&l, kv);
                l.text[l.len++] = '}';
        } else if (kv[0]) {
                adds(&l, " ");
                add_escaped(&l, kv, strlen(kv), false);
                if (l.cut) {
                        memcpy(l.text + l.len, "...", 3);
                        l.len += 3;
                }
        }
        l.text[l.len++] = '\n';
        write_line(&l);
        errno = saved;
}
