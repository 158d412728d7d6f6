/* photon: words in, an exit status out. Which command, its flags, where the hub
 * is; then the command. */
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/client.h"
#include "cli/context.h"
#include "cli/print.h"
#include "common/mem.h"
#include "common/str.h"

#define FLAGS_MAX 48
#define NAMES_MAX 96

int cli_usage(struct cli *c, const char *fmt, ...)
{
        char text[1024];
        va_list ap;

        va_start(ap, fmt);
        vsnprintf(text, sizeof text, fmt, ap);
        va_end(ap);
        note("%s", text);
        if (c->command)
                fprintf(stderr, "usage: photon %s%s%s%s\nphoton %s --help says more\n", c->command->name,
                        c->command->opts ? " [flags]" : "", *c->command->args ? " " : "", c->command->args,
                        c->command->name);
        else
                fprintf(stderr, "photon --help lists the commands\n");
        return STATUS_USAGE;
}

int cli_status(int rc)
{
        switch (rc) {
        case 0:
                return STATUS_OK;
        case -E_DENIED:
        case -E_UNAUTH:
                return STATUS_DENIED;
        case -E_UNAVAIL:
        case -E_CLOSED:
                return STATUS_UNREACHABLE;
        case -E_CANCELLED:
                return STATUS_CANCELLED;
        default:
                return STATUS_FAILED;
        }
}

/* The command that one or two words name, and how many they were. */
static const struct command *find_command(const char *one, const char *two, int *words)
{
        const struct command *found = NULL;
        char both[128];

        snprintf(both, sizeof both, "%.60s %.60s", one, two ? two : "");
        for (const struct command *c = commands; c->name; c++) {
                if (two && strcmp(c->name, both) == 0) {
                        *words = 2;
                        return c;
                }
                if (strcmp(c->name, one) == 0) {
                        *words = 1;
                        found = c;
                }
        }
        return found;
}

static int unknown_command(const char *one, const char *two)
{
        const char *names[NAMES_MAX], *near;
        char first[64], given[130], firsts[NAMES_MAX][64];
        size_t n = 0, len = strlen(one);
        bool group = false;

        for (const struct command *c = commands; c->name; c++)
                group = group || (strncmp(c->name, one, len) == 0 && c->name[len] == ' ');
        for (const struct command *c = commands; c->name && n < NAMES_MAX; c++) {
                snprintf(first, sizeof first, "%.*s", (int)strcspn(c->name, " "), c->name);
                if (group && strcmp(first, one) != 0)
                        continue;
                snprintf(firsts[n], sizeof firsts[n], "%s", group ? c->name : first);
                names[n] = firsts[n];
                n++;
        }
        if (group && !two) {
                note("photon %s needs another word:", one);
                help_group(stderr, one);
                return STATUS_USAGE;
        }
        snprintf(given, sizeof given, group ? "%.60s %.60s" : "%.60s", one, two ? two : "");
        near = str_nearest(given, names, n);
        note("there is no command \"%s\"%s%s%s", given, near ? "; did you mean \"photon " : "",
             near ? near : "", near ? "\"?" : ". photon --help lists them");
        return STATUS_USAGE;
}

/* One flag table of the command's own and those that hold everywhere. */
static void join_flags(const struct command *cmd, struct conf_opt out[FLAGS_MAX])
{
        size_t n = 0;

        for (const struct conf_opt *o = cmd->opts; o && o->name; o++)
                out[n++] = *o;
        for (const struct conf_opt *o = global_opts; o->name; o++)
                out[n++] = *o;
        out[n] = (struct conf_opt){0};
}

static int read_format(struct cli *c)
{
        static const char *const names[] = {"table", "wide", "json", "yaml"};

        c->format = OUT_TABLE;
        if (!c->o.output)
                return 0;
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
                if (strcmp(names[i], c->o.output) == 0) {
                        c->format = (enum out_format)i;
                        return 0;
                }
        }
        return cli_usage(c, "-o %.40s: expected table, wide, json or yaml", c->o.output);
}

static int check_words(struct cli *c, bool dashes)
{
        const struct command *cmd = c->command;

        if ((int)c->n_args < cmd->min_args)
                return cli_usage(c, "photon %s: %s missing", cmd->name,
                                 c->n_args ? "an argument is" : cmd->args);
        if (cmd->max_args >= 0 && (int)c->n_args > cmd->max_args)
                return cli_usage(c, "photon %s: \"%.100s\" is one argument too many%s", cmd->name,
                                 c->args[cmd->max_args], cmd->tail ? "; the command comes behind --" : "");
        if (cmd->tail && !c->n_tail)
                return cli_usage(c, "photon %s: the command is missing", cmd->name);
        if (!cmd->tail && dashes && c->n_tail)
                return cli_usage(c, "photon %s: nothing is expected behind --", cmd->name);
        return 0;
}

int cli_connect(struct cli *c, struct err *e)
{
        struct context where = {0};
        int rc = context_resolve(c->o.hub, c->o.token, c->o.ca, &where, e);

        if (rc == -E_NOENT || rc == -E_INVAL) {
                note_error(e);
                context_fini(&where);
                return STATUS_USAGE;
        }
        if (!rc)
                rc = client_create(&where, &c->client, e);
        if (!rc)
                rc = client_in_project(c->client, c->o.project, e);
        if (!rc)
                c->hub = mem_strdup(where.hub);
        context_fini(&where);
        return rc;
}

static int run(struct cli *c, struct err *e)
{
        int rc = c->command->local ? 0 : cli_connect(c, e);

        if (!rc)
                rc = c->command->run(c, e);
        if (rc < 0) {
                note_error(e);
                rc = cli_status(rc);
        }
        return rc;
}

/* argv[i] is the command's first word. */
static int dispatch(struct cli *c, int argc, char **argv, int i, struct err *e)
{
        const char *two = i + 1 < argc && argv[i + 1][0] != '-' ? argv[i + 1] : NULL;
        struct conf_opt flags[FLAGS_MAX];
        struct conf_list rest = {0};
        bool dashes;
        int words = 0, rc;

        c->command = find_command(argv[i], two, &words);
        if (!c->command && i + 1 < argc &&
            (strcmp(argv[i + 1], "--help") == 0 || strcmp(argv[i + 1], "-h") == 0) &&
            help_group(stdout, argv[i]))
                return STATUS_OK;
        if (!c->command)
                return unknown_command(argv[i], two);
        i += words;
        join_flags(c->command, flags);
        if (c->command->opts) {
                rc = conf_defaults(c->command->opts, &c->o, e);
                if (rc)
                        return cli_usage(c, "%s", e->msg);
        }
        rc = conf_args(flags, argc, argv, &i, false, &c->o, &rest, e);
        if (rc == -E_CANCELLED) {
                help_command(stdout, c->command);
                return STATUS_OK;
        }
        if (rc)
                return cli_usage(c, "%s", e->msg);
        c->args = rest.v;
        c->n_args = rest.n;
        dashes = i > 0 && strcmp(argv[i - 1], "--") == 0;
        c->tail = argv + i;
        c->n_tail = (size_t)(argc - i);
        if (!c->command->tail && dashes && c->n_tail && !c->n_args &&
            c->command->max_args >= (int)c->n_tail) {
                c->args = c->tail; /* "photon logs -- -odd-name" */
                c->n_args = c->n_tail;
                c->n_tail = 0;
        }
        print_setup(c->o.no_color);
        rc = read_format(c);
        if (!rc)
                rc = check_words(c, dashes);
        if (!rc)
                rc = run(c, e);
        if (c->args == rest.v)
                c->args = NULL;
        mem_free(rest.v);
        return rc;
}

int main(int argc, char **argv)
{
        struct cli c = {0};
        struct err e = {0};
        int i = 1, rc;

        mem_install_hooks();
        signal(SIGPIPE, SIG_IGN); /* print.c says what a broken pipe means */
        print_setup(false);
        rc = conf_defaults(global_opts, &c.o, &e);
        if (!rc)
                rc = conf_env(global_opts, &c.o, &e);
        if (!rc)
                rc = conf_args(global_opts, argc, argv, &i, true, &c.o, NULL, &e);
        if (rc == -E_CANCELLED) {
                help_top(stdout);
                rc = STATUS_OK;
        } else if (rc) {
                rc = cli_usage(&c, "%s", e.msg);
        } else if (i >= argc) {
                help_top(stderr);
                rc = STATUS_USAGE;
        } else {
                rc = dispatch(&c, argc, argv, i, &e);
        }
        print_end();
        client_free(c.client);
        mem_free(c.hub);
        if (c.command && c.command->opts)
                conf_free(c.command->opts, &c.o);
        conf_free(global_opts, &c.o);
        return rc;
}
