#include "cli/print.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cli/interrupt.h"
#include "common/buf.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"

static bool out_color, err_color, out_terminal;

static const char *const sequences[] = {
        [PAINT_NONE] = "",         [PAINT_BOLD] = "\033[1m",   [PAINT_DIM] = "\033[2m",
        [PAINT_RED] = "\033[31m",  [PAINT_GREEN] = "\033[32m", [PAINT_YELLOW] = "\033[33m",
        [PAINT_BLUE] = "\033[34m", [PAINT_CYAN] = "\033[36m",
};

static const struct {
        const char *state;
        enum paint tint;
} state_tints[] = {
        {"succeeded", PAINT_GREEN},  {"online", PAINT_GREEN},   {"active", PAINT_GREEN},
        {"failed", PAINT_RED},       {"unknown", PAINT_RED},    {"revoked", PAINT_RED},
        {"cancelled", PAINT_YELLOW}, {"waiting", PAINT_YELLOW}, {"draining", PAINT_YELLOW},
        {"expired", PAINT_YELLOW},   {"running", PAINT_CYAN},   {"dispatched", PAINT_CYAN},
        {"skipped", PAINT_DIM},      {"blocked", PAINT_DIM},    {"offline", PAINT_DIM},
        {"spent", PAINT_DIM},
};

void print_setup(bool no_color)
{
        const char *nc = getenv("NO_COLOR"), *term = getenv("TERM");
        bool able = term && *term && strcmp(term, "dumb") != 0;
        bool color = able && !no_color && !(nc && *nc);

        out_terminal = able && isatty(STDOUT_FILENO);
        out_color = color && isatty(STDOUT_FILENO);
        err_color = color && isatty(STDERR_FILENO);
}

bool print_is_terminal(void)
{
        return out_terminal;
}

const char *paint(enum paint p)
{
        return out_color ? sequences[p] : "";
}

const char *unpaint(void)
{
        return out_color ? "\033[0m" : "";
}

const char *paint_err(enum paint p)
{
        return !err_color ? "" : paint_sequence(p);
}

const char *paint_sequence(enum paint p)
{
        return p == PAINT_NONE ? "\033[0m" : sequences[p];
}

unsigned print_columns(int fd)
{
        struct winsize ws = {0};

        if (!isatty(fd))
                return 0;
        return ioctl(fd, TIOCGWINSZ, &ws) == 0 && ws.ws_col >= 20 ? ws.ws_col : 80;
}

bool print_colors(int fd)
{
        return fd == STDERR_FILENO ? err_color : out_color;
}

enum paint paint_state(const char *state)
{
        for (size_t i = 0; i < sizeof state_tints / sizeof *state_tints; i++)
                if (strcmp(state_tints[i].state, state) == 0)
                        return state_tints[i].tint;
        return PAINT_NONE;
}

/* ---- text from elsewhere ---- */

/* U+202A..202E, U+2066..2069: what turns the order of letters about, so that a command reads as another. */
static bool turns(const unsigned char *p)
{
        return p[0] == 0xE2 && ((p[1] == 0x80 && p[2] >= 0xAA && p[2] <= 0xAE) ||
                                (p[1] == 0x81 && p[2] >= 0xA6 && p[2] <= 0xA9));
}

char *plain(const char *s)
{
        char *out = mem_strdup(s ? s : "");

        for (char *p = out; p && *p; p++) {
                unsigned char ch = (unsigned char)*p;

                /* C1 controls are two bytes in UTF-8: C2 80..9F. */
                if (ch < ' ' || ch == 127)
                        *p = ch == '\n' || ch == '\t' ? ' ' : '?';
                else if (ch == 0xC2 && (unsigned char)p[1] >= 0x80 && (unsigned char)p[1] < 0xA0)
                        p[0] = p[1] = '?';
                else if (turns((unsigned char *)p))
                        p[0] = p[1] = p[2] = '?';
        }
        return out;
}

void put_plain(FILE *f, const char *s)
{
        char *t = plain(s);

        fputs(t ? t : "", f);
        mem_free(t);
}

size_t text_width(const char *s)
{
        size_t n = 0;

        for (; *s; s++)
                n += ((unsigned char)*s & 0xC0) != 0x80;
        return n;
}

void note(const char *fmt, ...)
{
        char text[2048];
        va_list ap;

        print_flush();
        va_start(ap, fmt);
        vsnprintf(text, sizeof text, fmt, ap);
        va_end(ap);
        fputs("photon: ", stderr);
        put_plain(stderr, text);
        fputc('\n', stderr);
}

void note_error(const struct err *e)
{
        print_flush();
        fprintf(stderr, "%sphoton:%s ", paint_err(PAINT_RED), paint_err(PAINT_NONE));
        put_plain(stderr, e->msg[0] ? e->msg : "it failed, and nothing says why");
        fputc('\n', stderr);
}

/* ---- documents ---- */

void print_json(const cJSON *v)
{
        char *text = out_terminal ? cJSON_Print(v) : json_text(v);

        if (!text) {
                note("no memory to print the answer");
                exit(STATUS_FAILED);
        }
        fputs(text, stdout);
        fputc('\n', stdout);
        cJSON_free(text);
}

static void yaml_scalar(const cJSON *v)
{
        char *text = json_text(v); /* JSON's scalars are YAML's */

        fputs(text ? text : "null", stdout);
        mem_free(text);
}

static bool is_branch(const cJSON *v)
{
        return (cJSON_IsObject(v) || cJSON_IsArray(v)) && v->child;
}

static void yaml_key(const char *k)
{
        if (str_is_name(k, 64) && !strpbrk(k, ".") && (k[0] < '0' || k[0] > '9') && strcmp(k, "null") &&
            strcmp(k, "true") && strcmp(k, "false") && strcmp(k, "y") && strcmp(k, "n") && strcmp(k, "yes") &&
            strcmp(k, "no") && strcmp(k, "on") && strcmp(k, "off")) {
                fputs(k, stdout);
        } else {
                struct buf b;

                buf_init(&b, 0);
                if (json_append_str(&b, k, strlen(k)) == 0)
                        fwrite(b.data, 1, b.len, stdout);
                buf_fini(&b);
        }
        fputc(':', stdout);
}

/* Depth is bounded by json_parse. */
static void yaml_branch(const cJSON *v, int indent, bool first_inline)
{
        for (const cJSON *m = v->child; m; m = m->next) {
                if (!first_inline || m != v->child)
                        printf("%*s", indent, "");
                if (cJSON_IsObject(v))
                        yaml_key(m->string);
                else
                        putchar('-');
                if (!is_branch(m)) {
                        putchar(' ');
                        yaml_scalar(m);
                        putchar('\n');
                } else if (cJSON_IsArray(v)) {
                        putchar(' ');
                        yaml_branch(m, indent + 2, true);
                } else {
                        putchar('\n');
                        yaml_branch(m, indent + 2, false);
                }
        }
}

bool print_doc(const struct cli *c, const cJSON *v)
{
        if (c->format == OUT_JSON) {
                print_json(v);
        } else if (c->format == OUT_YAML && is_branch(v)) {
                yaml_branch(v, 0, false);
        } else if (c->format == OUT_YAML) {
                yaml_scalar(v);
                putchar('\n');
        } else {
                return false;
        }
        return true;
}

/* ---- tables ---- */

void table_init(struct table *t, int cols, const char *const *head)
{
        *t = (struct table){.cols = cols};
        for (int i = 0; i < cols; i++)
                table_cell(t, head[i], PAINT_BOLD);
}

void table_cell(struct table *t, const char *text, enum paint p)
{
        if (t->rows == t->cap && !t->broken) {
                int cap = t->cap ? t->cap * 2 : 64;
                char **cell = mem_realloc(t->cell, (size_t)cap * sizeof *cell);
                enum paint *tint;

                if (cell)
                        t->cell = cell;
                tint = cell ? mem_realloc(t->tint, (size_t)cap * sizeof *tint) : NULL;
                if (tint)
                        t->tint = tint;
                t->broken = !tint;
                t->cap = tint ? cap : t->cap;
        }
        if (t->broken)
                return;
        t->cell[t->rows] = plain(text && *text ? text : "-");
        t->tint[t->rows++] = p;
}

void table_print(struct table *t)
{
        size_t *width = mem_calloc((size_t)t->cols, sizeof *width);

        if (t->broken || !width) {
                note("no memory to print the table");
                exit(STATUS_FAILED);
        }
        for (int i = 0; i < t->rows; i++) {
                size_t w = t->cell[i] ? text_width(t->cell[i]) : 0;

                if (w > width[i % t->cols])
                        width[i % t->cols] = w;
        }
        for (int i = 0; i < t->rows; i++) {
                const char *s = t->cell[i] ? t->cell[i] : "";
                bool last = i % t->cols == t->cols - 1;

                printf("%s%s%s", paint(t->tint[i]), s, t->tint[i] ? unpaint() : "");
                if (last)
                        putchar('\n');
                else
                        printf("%*s", (int)(width[i % t->cols] - text_width(s)) + 2, "");
                mem_free(t->cell[i]);
        }
        mem_free(width);
        mem_free(t->cell);
        mem_free(t->tint);
        *t = (struct table){0};
}

/* ---- times ---- */

void ms_text(int64_t ms, char out[32])
{
        long long s = ms / 1000;

        if (ms < 0)
                ms = s = 0;
        if (ms < 1000)
                snprintf(out, 32, "%lldms", (long long)ms);
        else if (ms < 60000)
                snprintf(out, 32, "%lld.%llds", s, (long long)(ms % 1000 / 100));
        else if (s < 3600)
                snprintf(out, 32, "%lldm%02llds", s / 60, s % 60);
        else if (s < 86400)
                snprintf(out, 32, "%lldh%02lldm", s / 3600, s % 3600 / 60);
        else
                snprintf(out, 32, "%lldd%lldh", s / 86400, s % 86400 / 3600);
}

void span_text(const char *from, const char *to, char out[32])
{
        int64_t a, b = clock_now_us(&clock_system);

        if (!from || !*from || clock_parse(from, &a) || (to && *to && clock_parse(to, &b)))
                strcpy(out, "-");
        else
                ms_text((b - a) / 1000, out);
}

void ago_text(const char *when, char out[32])
{
        int64_t t, now = clock_now_us(&clock_system);
        char span[32];

        if (!when || !*when || clock_parse(when, &t)) {
                strcpy(out, "-");
                return;
        }
        ms_text((now > t ? now - t : t - now) / 1000000 * 1000, span);
        if (strstr(span, ".0s"))
                strcpy(strstr(span, ".0s"), "s");
        if (strcmp(span, "0ms") == 0)
                strcpy(out, "now");
        else
                snprintf(out, 32, now >= t ? "%.24s ago" : "in %.24s", span);
}

/* ---- reading answers ---- */

const cJSON *jget(const cJSON *o, const char *key)
{
        return cJSON_GetObjectItemCaseSensitive(o, key);
}

const char *amount_text(const cJSON *o, char *out, size_t size)
{
        const cJSON *usd = jget(o, "usd"), *tokens = jget(o, "tokens");
        int n = 0;

        out[0] = '\0';
        if (cJSON_IsString(usd))
                n = snprintf(out, size, "%s USD", usd->valuestring);
        if (cJSON_IsNumber(tokens) && n < (int)size)
                snprintf(out + n, size - (size_t)n, "%s%.0f tokens", n ? ", " : "", tokens->valuedouble);
        if (!out[0])
                snprintf(out, size, "-");
        return out;
}

const char *jstr(const cJSON *o, const char *key)
{
        const char *s = cJSON_GetStringValue(jget(o, key));

        return s ? s : "";
}

int64_t jnum(const cJSON *o, const char *key)
{
        const cJSON *n = jget(o, key);

        return cJSON_IsNumber(n) ? (int64_t)n->valuedouble : 0;
}

bool jbool(const cJSON *o, const char *key)
{
        return cJSON_IsTrue(jget(o, key));
}

/* ---- leaving the program ---- */

static void broken(int fd, int sys)
{
        if (sys == EPIPE)
                _exit(STATUS_SIGNAL + SIGPIPE);
        if (fd != STDERR_FILENO)
                fprintf(stderr, "photon: the output could not be written: %s\n", strerror(sys));
        _exit(STATUS_FAILED);
}

bool write_wanted(int fd, const void *p, size_t n)
{
        const char *at = p;

        while (n) {
                ssize_t k = write(fd, at, n);

                if (k > 0) {
                        at += k;
                        n -= (size_t)k;
                } else if (k < 0 && errno == EAGAIN) {
                        struct pollfd pf = {.fd = fd, .events = POLLOUT};

                        poll(&pf, 1, -1);
                } else if (k < 0 && errno == EINTR) {
                        /* The reader of a full pipe may be what Ctrl-C ended; the second one leaves. */
                        if (interrupt_count() > 1)
                                _exit(STATUS_SIGNAL + interrupt_signal());
                } else if (k < 0 && errno == EPIPE) {
                        return false;
                } else if (k < 0) {
                        broken(fd, errno);
                }
        }
        return true;
}

void write_out(int fd, const void *p, size_t n)
{
        if (!write_wanted(fd, p, n))
                broken(fd, EPIPE);
}

void print_flush(void)
{
        errno = 0;
        while (fflush(stdout)) {
                struct pollfd pf = {.fd = STDOUT_FILENO, .events = POLLOUT};

                if (errno == EINTR && interrupt_count() > 1)
                        _exit(STATUS_SIGNAL + interrupt_signal());
                if (errno == EAGAIN)
                        poll(&pf, 1, -1);
                else if (errno != EINTR)
                        broken(STDOUT_FILENO, errno);
                clearerr(stdout);
                errno = 0;
        }
}

void print_end(void)
{
        print_flush();
        if (ferror(stdout))
                broken(STDOUT_FILENO, EIO);
}
