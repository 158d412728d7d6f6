/* What people see: tables, colours, times, JSON and YAML, notes on stderr.
 *
 * Text that came from elsewhere never reaches a terminal with its control
 * characters. Write errors end the program: EPIPE silently with 128 + SIGPIPE,
 * as a shell expects, others with a message. One thread. */
#ifndef PHOTON_CLI_PRINT_H
#define PHOTON_CLI_PRINT_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "cli/cli.h"

struct buf;

enum paint {
        PAINT_NONE,
        PAINT_BOLD,
        PAINT_DIM,
        PAINT_RED,
        PAINT_GREEN,
        PAINT_YELLOW,
        PAINT_BLUE,
        PAINT_CYAN
};

/* Looks at NO_COLOR, TERM and what stdout and stderr are. */
void print_setup(bool no_color);
bool print_is_terminal(void); /* stdout, and able to redraw */
/* Escape sequences for stdout, "" where there are none. */
const char *paint(enum paint p);
const char *unpaint(void);
/* How a run's, step's, agent's or token's state is shown. */
enum paint paint_state(const char *state);
/* The same for stderr. */
const char *paint_err(enum paint p);
/* The bare sequence, PAINT_NONE ends one; for a descriptor that print_colors. */
const char *paint_sequence(enum paint p);
bool print_colors(int fd);
unsigned print_columns(int fd); /* 0: no terminal */

/* "photon: ..." on stderr. */
void note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void note_error(const struct err *e);

/* Control characters, and those that turn the direction of writing, become "?"; mem_free. NULL (no memory) is
 * printed as "". */
char *plain(const char *s);
void put_plain(FILE *f, const char *s);
size_t text_width(const char *s); /* columns, roughly: code points */

/* One document with a newline: compact, indented on a terminal. */
void print_json(const cJSON *v);
/* As -o says: JSON or YAML. False: the caller draws it. */
bool print_doc(const struct cli *c, const cJSON *v);

/* Tables: cells are copied, control characters taken out. */
struct table {
        int cols, rows, cap;
        char **cell; /* rows * cols, the head first */
        enum paint *tint;
        bool broken; /* no memory */
};
void table_init(struct table *t, int cols, const char *const *head);
void table_cell(struct table *t, const char *text, enum paint p); /* left to right, line by line */
void table_print(struct table *t);                                /* and frees */

/* ---- times, from RFC 3339 text; NULL or "": "-" ---- */
void ago_text(const char *when, char out[32]);
void span_text(const char *from, const char *to, char out[32]); /* to NULL: now */
void ms_text(int64_t ms, char out[32]);

/* "5.00 USD, 2000 tokens" of {"usd","tokens"}; "-" where neither is said. Returns out. */
const char *amount_text(const cJSON *o, char *out, size_t size);

const char *jstr(const cJSON *o, const char *key); /* "" if absent */
int64_t jnum(const cJSON *o, const char *key);
bool jbool(const cJSON *o, const char *key);
const cJSON *jget(const cJSON *o, const char *key);

/* Writes all of it to a descriptor, whatever it takes. */
void write_out(int fd, const void *p, size_t n);
/* The same, but false if nobody reads any more: for who has something to end first. */
bool write_wanted(int fd, const void *p, size_t n);
/* Flushes stdout; a reader who has left ends the program, as above. */
void print_flush(void);
/* Flushes stdout and looks for errors; before exit. */
void print_end(void);

#endif
