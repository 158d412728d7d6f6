/* photon-agent: the command line. */
#include "agent/agent.h"
#include "agent/conf.h"
#include "agent/doctor.h"
#include "agent/keeper.h"
#include "agent/status.h"
#include "common/err.h"
#include "common/locked.h"
#include "common/mem.h"
#include "common/str.h"
#include "common/version.h"

#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

/* Exit statuses, as in the contract (and sysexits.h). */
enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_NOT_ALLOWED = 4, EXIT_BAD_USAGE = 64, EXIT_UNREACHABLE = 69 };

static int fail(const struct err *e)
{
        fprintf(stderr, "photon-agent: %s\n", e->msg[0] ? e->msg : err_name(e->code));
        switch (e->code) {
        case E_INVAL:
                return EXIT_BAD_USAGE;
        case E_DENIED:
        case E_UNAUTH:
                return EXIT_NOT_ALLOWED;
        case E_UNAVAIL:
                return EXIT_UNREACHABLE;
        default:
                return EXIT_FAILED;
        }
}

static int usage_error(const char *text)
{
        fprintf(stderr, "photon-agent: %s (see photon-agent --help)\n", text);
        return EXIT_BAD_USAGE;
}

static int cmd_join(const struct agent_conf *c, const struct conf_list *words)
{
        const char *token = words->n ? words->v[0] : c->token;
        struct err e = {0};

        if (words->n > 1)
                return usage_error("join takes one token");
        if (!token || !*token)
                return usage_error(
                        "which token? photon-agent join TOKEN, or --token-file FILE, or PHOTON_JOIN_TOKEN");
        return agent_join(c, token, &e) ? fail(&e) : EXIT_OK;
}

static int cmd_run(const struct agent_conf *c, const struct conf_list *words)
{
        struct err e = {0};

        (void)words;
        return agent_run(c, &e) ? fail(&e) : EXIT_OK;
}

static int cmd_status(const struct agent_conf *c, const struct conf_list *words)
{
        struct err e = {0};
        bool running;

        (void)words;
        if (status_show(c, &running, &e))
                return fail(&e);
        return running ? EXIT_OK : EXIT_FAILED;
}

static int cmd_doctor(const struct agent_conf *c, const struct conf_list *words)
{
        struct err e = {0};
        bool ok;

        (void)words;
        if (doctor_run(c, &ok, &e))
                return fail(&e);
        return ok ? EXIT_OK : EXIT_FAILED;
}

static int cmd_version(const struct agent_conf *c, const struct conf_list *words)
{
        (void)words;
        if (c->output && strcmp(c->output, "json") == 0)
                printf("{\"version\":\"%s\",\"protocol_min\":%d,\"protocol_max\":%d}\n", PHOTON_VERSION,
                       PHOTON_PROTO_MIN, PHOTON_PROTO_MAX);
        else
                printf("photon-agent %s (protocol %d)\n", PHOTON_VERSION, PHOTON_PROTO_MAX);
        return EXIT_OK;
}

static const struct command {
        const char *name, *args, *help;
        int (*run)(const struct agent_conf *c, const struct conf_list *words);
        bool takes_words;
} commands[] = {
        {"join", "TOKEN", "join a hub, once", cmd_join, true},
        {"run", "", "run in the foreground; with --join TOKEN it joins first if it has to", cmd_run, false},
        {"status", "", "what the running agent does; exit status 1 if none runs", cmd_status, false},
        {"doctor", "", "check everything that must be right, and say what to do", cmd_doctor, false},
        {"version", "", "print the version", cmd_version, false},
};
#define N_COMMANDS (sizeof commands / sizeof *commands)

static void help(FILE *f)
{
        fputs("photon-agent: runs tool calls on this machine for a PHOTON hub\n\nUsage: photon-agent COMMAND "
              "[FLAGS]\n\n",
              f);
        for (size_t i = 0; i < N_COMMANDS; i++)
                fprintf(f, "  %-7s %-6s %s\n", commands[i].name, commands[i].args, commands[i].help);
        fputs("\nFlags (default < config file < environment < flag):\n", f);
        conf_help(f, agent_conf_opts);
        fputs("\nExit status: 0 ok, 1 failed, 4 not allowed, 64 wrong usage, 69 hub not reachable.\n", f);
}

static const struct command *find(const char *name)
{
        for (size_t i = 0; i < N_COMMANDS; i++) {
                if (strcmp(commands[i].name, name) == 0)
                        return &commands[i];
        }
        return NULL;
}

static int unknown(const char *name)
{
        const char *names[N_COMMANDS], *near;
        char text[256];

        for (size_t i = 0; i < N_COMMANDS; i++)
                names[i] = commands[i].name;
        near = str_nearest(name, names, N_COMMANDS);
        snprintf(text, sizeof text,
                 near ? "there is no command \"%.60s\"; did you mean \"%s\"?"
                      : "there is no command \"%.60s\"",
                 name, near);
        return usage_error(text);
}

int main(int argc, char **argv)
{
        struct agent_conf conf = {0};
        struct conf_list words = {0};
        const struct command *cmd;
        struct err e = {0};
        int i = 2, rc;

        mallopt(M_ARENA_MAX, 1); /* one heap for NNG's threads too: the agent is to stay small */
        mem_install_hooks();
        if (process_no_dumps())
                fputs("photon-agent: core dumps could not be switched off\n", stderr);
        signal(SIGPIPE, SIG_IGN);
        if (argc < 2) {
                help(stderr);
                return EXIT_BAD_USAGE;
        }
        if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
                help(stdout);
                return EXIT_OK;
        }
        if (strcmp(argv[1], "keeper") == 0)
                return keeper_main(argc - 2, argv + 2);
        cmd = find(strcmp(argv[1], "--version") == 0 ? "version" : argv[1]);
        if (!cmd)
                return unknown(argv[1]);
        rc = agent_conf_read(argc, argv, &i, &conf, &words, &e);
        if (rc == -E_CANCELLED) {
                help(stdout);
                rc = EXIT_OK;
        } else if (rc) {
                rc = fail(&e);
                rc = rc == EXIT_FAILED ? EXIT_BAD_USAGE : rc;
        } else if (!cmd->takes_words && words.n > 0) {
                rc = usage_error("this command takes flags only");
        } else {
                rc = cmd->run(&conf, &words);
        }
        mem_free(words.v);
        agent_conf_fini(&conf);
        return rc;
}
