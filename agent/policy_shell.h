/* Reads the text of a shell command far enough to apply rules to it: which
 * simple commands it is made of, and whether that can be said with certainty.
 * It is no shell. What it is not sure of it says (`unclear`), and the caller
 * then allows nothing because of a rule. Pure; any thread. */
#ifndef PHOTON_AGENT_POLICY_SHELL_H
#define PHOTON_AGENT_POLICY_SHELL_H

#include <stdbool.h>
#include <stddef.h>

#define SHELL_TEXT_MAX ((size_t)16 << 10)
#define SHELL_WORDS    2048 /* of one text */

/* A simple command: its words without quotes, one space between them: "git push origin". */
struct shell_command {
        char *text;
        size_t name_len; /* of its first word */
};

struct shell_text {
        struct shell_command *v;
        size_t n;
        char **words; /* every word anywhere in the text that might be one */
        size_t n_words;
        bool unclear; /* expansions, redirections, groups, keywords, assignments, a program that runs others
                       */
};

/* -E_TOOBIG: longer than SHELL_TEXT_MAX or more than SHELL_WORDS words. -E_NOMEM. */
int shell_read(const char *text, struct shell_text *out);
void shell_fini(struct shell_text *t);

#endif
