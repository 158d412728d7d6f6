/* Completion scripts for bash, zsh and fish, written from the table of commands. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/print.h"

/* The n-th word of a command's name: length, or 0. */
static int word(const struct command *c, int n, const char **at)
{
        const char *sp = strchr(c->name, ' ');

        *at = n ? (sp ? sp + 1 : "") : c->name;
        return n ? (int)strlen(*at) : (int)(sp ? sp - c->name : (long)strlen(c->name));
}

static bool first_of_group(const struct command *c)
{
        const char *a, *b;
        int n = word(c, 0, &a);

        for (const struct command *k = commands; k < c; k++)
                if (word(k, 0, &b) == n && strncmp(a, b, (size_t)n) == 0)
                        return false;
        return true;
}

/* "-d --detach ..." */
static void flag_words(const struct conf_opt *o)
{
        for (; o && o->name; o++) {
                if (!o->metavar)
                        continue;
                printf(" --%s", o->name);
                if (o->shortname)
                        printf(" -%c", o->shortname);
        }
}

static void value_flags(const struct conf_opt *o)
{
        for (; o && o->name; o++) {
                if (!o->metavar || !*o->metavar)
                        continue;
                printf("|--%s", o->name);
                if (o->shortname)
                        printf("|-%c", o->shortname);
        }
}

static void bash(void)
{
        const char *at;
        int n;

        puts("# bash completion for photon; put it where bash-completion looks, or: source <(photon "
             "completion bash)\n"
             "_photon() {\n"
             "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} first= second= w i "
             "skip=\n"
             "    COMPREPLY=()\n"
             "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
             "        w=${COMP_WORDS[i]}\n"
             "        if [[ $skip ]]; then skip=; continue; fi\n"
             "        case $w in");
        printf("        -");
        for (const struct command *c = commands; c->name; c++)
                value_flags(c->opts);
        value_flags(global_opts);
        puts(") skip=1 ;;\n"
             "        -*) ;;\n"
             "        *) if [[ ! $first ]]; then first=$w; elif [[ ! $second ]]; then second=$w; fi ;;\n"
             "        esac\n"
             "    done\n"
             "    case $prev in\n"
             "    -o|--output) COMPREPLY=($(compgen -W 'table wide json yaml' -- \"$cur\")); return ;;\n"
             "    --ca|--inputs|--token-file|-O|--out) COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n"
             "    --role) COMPREPLY=($(compgen -W 'client operator technical-operator admin' -- \"$cur\")); "
             "return ;;\n"
             "    --effect) COMPREPLY=($(compgen -W 'pure idempotent at-most-once' -- \"$cur\")); return ;;\n"
             "    esac\n"
             "    local words flags=");
        printf("    flags='");
        flag_words(global_opts);
        puts(" --help'\n    case \"$first $second\" in");
        for (const struct command *c = commands; c->name; c++) {
                if (c->hidden)
                        continue;
                printf("    '%s%s'%s) flags+='", c->name, strchr(c->name, ' ') ? "" : " ",
                       strchr(c->name, ' ') ? "" : "*");
                flag_words(c->opts);
                puts("' ;;&");
        }
        puts("    esac\n    case $first in");
        printf("    '') words='");
        for (const struct command *c = commands; c->name; c++)
                if (!c->hidden && first_of_group(c)) {
                        n = word(c, 0, &at);
                        printf(" %.*s", n, at);
                }
        puts("' ;;");
        for (const struct command *c = commands; c->name; c++) {
                bool any = false;

                if (!first_of_group(c))
                        continue;
                n = word(c, 0, &at);
                for (const struct command *k = commands; k->name; k++) {
                        const char *sub;

                        if (strncmp(k->name, at, (size_t)n) != 0 || k->name[n] != ' ')
                                continue;
                        word(k, 1, &sub);
                        if (!any)
                                printf("    %.*s) [[ $second ]] || words='", n, at);
                        any = true;
                        printf(" %s", sub);
                }
                if (any)
                        puts("' ;;");
        }
        puts("    completion) words='bash zsh fish' ;;\n"
             "    esac\n"
             "    if [[ $cur == -* ]]; then\n"
             "        COMPREPLY=($(compgen -W \"$flags\" -- \"$cur\"))\n"
             "    else\n"
             "        COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
             "        case $first in run|validate|import) COMPREPLY+=($(compgen -f -- \"$cur\")) ;; esac\n"
             "    fi\n"
             "}\n"
             "complete -o filenames -F _photon photon");
}

/* For single quotes in zsh and fish; in brackets of zsh a colon or bracket would end the text. */
static void quoted(const char *s, bool zsh)
{
        for (; *s; s++) {
                if (*s == '\'')
                        fputs(zsh ? "'\\''" : "\\'", stdout);
                else if (zsh && strchr("[]:", *s))
                        printf("\\%c", *s);
                else
                        putchar(*s);
        }
}

static void zsh_flags(const struct conf_opt *o)
{
        for (; o && o->name; o++) {
                if (!o->metavar)
                        continue;
                for (int letter = 0; letter <= (o->shortname != 0); letter++) {
                        fputs(" '*", stdout);
                        if (letter)
                                printf("-%c[", o->shortname);
                        else
                                printf("--%s[", o->name);
                        quoted(o->help, true);
                        putchar(']');
                        if (*o->metavar)
                                printf(":%s:%s", o->name,
                                       strcmp(o->metavar, "FILE") == 0  ? "_files"
                                       : strcmp(o->name, "output") == 0 ? "(table wide json yaml)"
                                                                        : "");
                        putchar('\'');
                }
        }
}

static void zsh(void)
{
        const char *at, *sub;
        int n;

        puts("#compdef photon\n"
             "# zsh completion for photon; put it as _photon into a folder of $fpath\n"
             "_photon() {\n"
             "    local -a firsts subs\n"
             "    local first=${words[2]} second=${words[3]}\n"
             "    if (( CURRENT == 2 )); then\n"
             "        firsts=(");
        for (const struct command *c = commands; c->name; c++) {
                if (c->hidden || !first_of_group(c))
                        continue;
                n = word(c, 0, &at);
                printf("            '%.*s:", n, at);
                quoted(c->name[n] ? "..." : c->summary, true);
                puts("'");
        }
        puts("        )\n        _describe command firsts\n        return\n    fi\n    if (( CURRENT == 3 "
             ")); then\n        case $first in");
        for (const struct command *c = commands; c->name; c++) {
                bool any = false;

                if (!first_of_group(c))
                        continue;
                n = word(c, 0, &at);
                for (const struct command *k = commands; k->name; k++) {
                        if (strncmp(k->name, at, (size_t)n) != 0 || k->name[n] != ' ')
                                continue;
                        word(k, 1, &sub);
                        if (!any)
                                printf("        %.*s) subs=(", n, at);
                        any = true;
                        printf(" '%s:", sub);
                        quoted(k->summary, true);
                        putchar('\'');
                }
                if (any)
                        puts(") ;;");
        }
        puts("        completion) subs=(bash zsh fish) ;;\n"
             "        esac\n"
             "        (( $#subs )) && _describe subcommand subs\n"
             "    fi\n"
             "    case \"$first $second\" in");
        for (const struct command *c = commands; c->name; c++) {
                if (!strchr(c->name, ' '))
                        continue;
                printf("    '%s') _arguments", c->name);
                zsh_flags(c->opts);
                zsh_flags(global_opts);
                puts(" '*:file:_files' ;;");
        }
        for (const struct command *c = commands; c->name; c++) {
                if (strchr(c->name, ' '))
                        continue;
                printf("    '%s '*) _arguments", c->name);
                zsh_flags(c->opts);
                zsh_flags(global_opts);
                puts(" '*:file:_files' ;;");
        }
        puts("    esac\n}\n_photon \"$@\"");
}

static void fish_flags(const struct conf_opt *o, const char *condition)
{
        for (; o && o->name; o++) {
                if (!o->metavar)
                        continue;
                printf("complete -c photon%s -l %s", condition, o->name);
                if (o->shortname)
                        printf(" -s %c", o->shortname);
                if (*o->metavar)
                        printf(" -r%s", strcmp(o->metavar, "FILE") == 0  ? " -F"
                                        : strcmp(o->name, "output") == 0 ? " -f -a 'table wide json yaml'"
                                                                         : "");
                fputs(" -d '", stdout);
                quoted(o->help, false);
                puts("'");
        }
}

static void fish(void)
{
        char condition[200];
        const char *at, *sub;
        int n;

        puts("# fish completion for photon; put it into ~/.config/fish/completions/photon.fish\n"
             "complete -c photon -e");
        for (const struct command *c = commands; c->name; c++) {
                if (c->hidden)
                        continue;
                n = word(c, 0, &at);
                if (first_of_group(c)) {
                        printf("complete -c photon -n __fish_use_subcommand -f -a %.*s -d '", n, at);
                        quoted(c->name[n] ? "..." : c->summary, false);
                        puts("'");
                }
                if (word(c, 1, &sub)) {
                        printf("complete -c photon -n '__fish_seen_subcommand_from %.*s' -f -a %s -d '", n,
                               at, sub);
                        quoted(c->summary, false);
                        puts("'");
                        snprintf(condition, sizeof condition,
                                 " -n '__fish_seen_subcommand_from %.*s; and __fish_seen_subcommand_from %s'",
                                 n, at, sub);
                } else {
                        snprintf(condition, sizeof condition, " -n '__fish_seen_subcommand_from %.*s'", n,
                                 at);
                }
                fish_flags(c->opts, condition);
        }
        puts("complete -c photon -n '__fish_seen_subcommand_from completion' -f -a 'bash zsh fish'");
        fish_flags(global_opts, "");
}

int cmd_completion(struct cli *c, struct err *e)
{
        static const char *const shells[] = {"bash", "zsh", "fish"};
        static void (*const writers[])(void) = {bash, zsh, fish};

        (void)e;
        for (size_t i = 0; i < 3; i++) {
                if (strcmp(c->args[0], shells[i]) == 0) {
                        writers[i]();
                        return 0;
                }
        }
        return cli_usage(c, "\"%.40s\": expected bash, zsh or fish", c->args[0]);
}
