#include "agent/policy_shell.h"

#include <string.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/mem.h"

/* Words after which another program's name comes, or a text that is itself a program. */
static const char *const runners[] = {
        "!",        "{",    "}",    "builtin", "case",    "command",  "coproc", "do",     "done",
        "elif",     "else", "env",  "esac",    "eval",    "exec",     "fi",     "find",   "for",
        "function", "if",   "in",   "nice",    "nohup",   "parallel", "select", "setsid", "sh",
        "bash",     "dash", "zsh",  "ksh",     "source",  ".",        "ssh",    "stdbuf", "su",
        "sudo",     "doas", "then", "time",    "timeout", "trap",     "until",  "while",  "xargs",
};

struct reader {
        struct shell_text *t;
        struct buf word, command;
        bool in_word;
        size_t n_in_command, name_len;
};

static const char *base_name(const char *s)
{
        const char *slash = strrchr(s, '/');

        return slash ? slash + 1 : s;
}

static int push_word(struct shell_text *t, const char *s)
{
        if (t->n_words == SHELL_WORDS)
                return -E_TOOBIG;
        if (t->n_words % 64 == 0) {
                char **v = mem_realloc(t->words, (t->n_words + 64) * sizeof *v);

                if (!v)
                        return -E_NOMEM;
                t->words = v;
        }
        t->words[t->n_words] = mem_strdup(s);
        return t->words[t->n_words] ? (t->n_words++, 0) : -E_NOMEM;
}

/* The first word names the program. An assignment before it changes what that program is or does. */
static void look_at_name(struct reader *r, const char *word)
{
        if (strchr(word, '=') || strpbrk(word, "*?[]~"))
                r->t->unclear = true;
        for (size_t i = 0; i < sizeof runners / sizeof *runners; i++)
                if (strcmp(runners[i], base_name(word)) == 0)
                        r->t->unclear = true;
}

static int end_word(struct reader *r)
{
        const char *word;
        int rc;

        if (!r->in_word)
                return 0;
        r->in_word = false;
        rc = buf_putc(&r->word, '\0');
        if (rc)
                return rc;
        word = (const char *)r->word.data;
        rc = push_word(r->t, word);
        if (!rc && r->n_in_command > 0)
                rc = buf_putc(&r->command, ' ');
        if (!rc)
                rc = buf_puts(&r->command, word);
        if (r->n_in_command++ == 0) {
                r->name_len = strlen(word);
                look_at_name(r, word);
        }
        buf_reset(&r->word);
        return rc;
}

static int end_command(struct reader *r)
{
        struct shell_text *t = r->t;
        struct shell_command *v;
        int rc = end_word(r);

        if (rc || r->n_in_command == 0)
                return rc;
        v = mem_realloc(t->v, (t->n + 1) * sizeof *v);
        if (!v)
                return -E_NOMEM;
        t->v = v;
        v[t->n] = (struct shell_command){buf_steal_str(&r->command), r->name_len};
        if (!v[t->n].text)
                return -E_NOMEM;
        t->n++;
        r->n_in_command = 0;
        return 0;
}

static int add(struct reader *r, char c)
{
        r->in_word = true;
        return buf_putc(&r->word, c);
}

/* Redirections that touch no file; the longest first. */
static size_t harmless(const char *s)
{
        static const char *const known[] = {"&>/dev/null", "2>/dev/null",  "1>/dev/null",
                                            ">/dev/null",  "2> /dev/null", "> /dev/null",
                                            "2>&1",        "1>&2",         ">&2"};

        for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
                size_t n = strlen(known[i]);

                if (strncmp(s, known[i], n) == 0 && (!s[n] || strchr(" \t\n;&|", s[n])))
                        return n;
        }
        return 0;
}

/* What is quoted is part of the word; returns how many bytes were read. */
static size_t quoted(struct reader *r, const char *s, int *rc)
{
        char q = s[0];
        size_t i = 1;

        r->in_word = true;
        for (; s[i] && s[i] != q && !*rc; i++) {
                if (q == '"' && s[i] == '\\' && s[i + 1] && strchr("\"\\$`\n", s[i + 1]))
                        i++;
                else if (q == '"' && (s[i] == '$' || s[i] == '`'))
                        r->t->unclear = true;
                *rc = buf_putc(&r->word, s[i]);
        }
        if (s[i])
                return i + 1;
        r->t->unclear = true; /* it never ends */
        return i;
}

/* One step; returns how many bytes were read. */
static size_t step(struct reader *r, const char *s, int *rc)
{
        size_t n;

        if (*s == '\'' || *s == '"')
                return quoted(r, s, rc);
        if (*s == '\\') {
                if (s[1] && s[1] != '\n')
                        *rc = add(r, s[1]);
                return s[1] ? 2 : 1;
        }
        if (!r->in_word && (n = harmless(s)))
                return n;
        if (*s == ' ' || *s == '\t') {
                *rc = end_word(r);
        } else if (strchr(";\n|&", *s)) {
                *rc = end_command(r);
        } else if (strchr("()`<>", *s) || (*s == '$' && s[1] == '(')) {
                r->t->unclear = true;
                *rc = end_command(r);
        } else {
                if (*s == '$' || *s == '#' || *s == '{' || *s == '}' || *s == '\r')
                        r->t->unclear = true;
                *rc = add(r, *s);
        }
        return 1;
}

/* In a text that is not certain, a program may be named within quotes too: "$(sudo x)". */
static int naive_words(struct shell_text *t, const char *text)
{
        static const char cut[] = " \t\r\n;|&()`<>\"'${}=,";
        char word[256];
        int rc = 0;

        while (*text && !rc) {
                size_t n;

                text += strspn(text, cut);
                n = strcspn(text, cut);
                if (n && n < sizeof word) {
                        memcpy(word, text, n);
                        word[n] = '\0';
                        rc = push_word(t, word);
                }
                text += n;
        }
        return rc;
}

int shell_read(const char *text, struct shell_text *out)
{
        struct reader r = {.t = out};
        size_t len = strlen(text);
        int rc = 0;

        *out = (struct shell_text){0};
        if (len > SHELL_TEXT_MAX)
                return -E_TOOBIG;
        buf_init(&r.word, 0);
        buf_init(&r.command, 0);
        for (size_t i = 0; i < len && !rc;)
                i += step(&r, text + i, &rc);
        if (!rc)
                rc = end_command(&r);
        if (!rc && out->unclear)
                rc = naive_words(out, text);
        buf_fini(&r.word);
        buf_fini(&r.command);
        if (rc)
                shell_fini(out);
        return rc;
}

void shell_fini(struct shell_text *t)
{
        for (size_t i = 0; i < t->n; i++)
                mem_free(t->v[i].text);
        for (size_t i = 0; i < t->n_words; i++)
                mem_free(t->words[i]);
        mem_free(t->v);
        mem_free(t->words);
        *t = (struct shell_text){0};
}
