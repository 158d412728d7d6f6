/* One table of options gives defaults, config file (JSON or YAML), environment,
 * command-line flags and --help. Later sources win: default < file <
 * environment < flag. */
#ifndef PHOTON_CONF_H
#define PHOTON_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct err;

enum conf_type { CONF_STR, CONF_BOOL, CONF_INT, CONF_DURATION, CONF_SIZE, CONF_STRLIST, CONF_SECTION };

/* The holder of the options struct owns what conf puts into it (conf_free).
 * Start-up only, one thread. -E_INVAL and the reasons of file_read are told in
 * `e` with the file's line and column; values of text options never are.
 *
 * offset: of the field in the options struct. STR: char *; BOOL: bool; INT,
 * DURATION (ms), SIZE (bytes): int64_t; STRLIST: struct conf_list. env: full
 * variable name, or NULL; a variable named env + "_FILE" is read as a file
 * holding the value. metavar NULL: not a flag (file and environment only); a
 * BOOL flag has metavar "" and takes no value (`--x`, `--x=false`). STRLIST:
 * commas separate in def and env; flags repeat; a later source replaces. SECTION:
 * a member of the file that somebody else reads; no field, no flag. */
struct conf_opt {
        const char *name; /* long flag without dashes, and key in the file */
        char shortname;   /* 0: none */
        enum conf_type type;
        size_t offset;
        const char *def; /* text form; NULL: zero/empty */
        const char *env;
        const char *metavar;
        const char *help;
        int64_t min, max; /* INT, DURATION, SIZE; both 0: no bound */
};

struct conf_list {
        char **v;
        size_t n;
};

/* opts ends with name NULL. conf_defaults first empties every field. */
int conf_defaults(const struct conf_opt *opts, void *into, struct err *e);
int conf_file(const struct conf_opt *opts, const char *path, void *into, struct err *e);
int conf_env(const struct conf_opt *opts, void *into, struct err *e);

/* Parses argv from index *io_i until "--" or, if stop_at_word, the first word
 * that is no flag; otherwise words are collected in `rest` (pointers into
 * argv, mem_free rest->v only; NULL: words are an error). *io_i is then where
 * it stopped: the word, behind "--", or argc. "--help" and "-h" return
 * -E_CANCELLED. -E_INVAL for unknown flags (with the nearest name) or bad
 * values. */
int conf_args(const struct conf_opt *opts, int argc, char **argv, int *io_i, bool stop_at_word, void *into,
              struct conf_list *rest, struct err *e);

void conf_help(FILE *f, const struct conf_opt *opts);
void conf_free(const struct conf_opt *opts, void *into);

#endif
