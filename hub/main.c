/* photon-hub: arguments in, exit status out. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/err.h"
#include "common/file.h"
#include "common/locked.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/str.h"
#include "common/version.h"
#include "hub/context.h"
#include "hub/hub.h"

#define EX_USAGE 64

static void usage(FILE *f)
{
        fputs("photon-hub: schedules tool calls on machines you own\n\n"
              "  photon-hub init  --data DIR [--host NAME|IP]... [-o json]\n"
              "  photon-hub serve --data DIR [--config FILE] [--agent-listen HOST:PORT] [--api-listen "
              "HOST:PORT]\n"
              "  photon-hub version\n\n"
              "init makes the certificate authority, the hub's certificate, the database and the first "
              "admin's token.\n"
              "serve does that too when DIR is empty, then serves in the foreground; SIGTERM drains, a "
              "second one ends.\n"
              "photon-hub COMMAND --help lists the options.\n",
              f);
}

static char *default_data(void)
{
        const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");

        if (geteuid() == 0)
                return mem_strdup("/var/lib/photon-hub");
        if (state && *state)
                return path_join(state, "photon-hub");
        return home ? str_printf("%s/.local/state/photon-hub", home) : mem_strdup("photon-hub-data");
}

static int fail(const struct err *e, int status)
{
        if (e->line)
                fprintf(stderr, "photon-hub: line %d, column %d: %s\n", e->line, e->col, e->msg);
        else
                fprintf(stderr, "photon-hub: %s\n", e->msg);
        return status;
}

/* Flags over environment over file over defaults; *out_rc: what main returns when not 0. */
static int read_conf(const struct conf_opt *opts, int argc, char **argv, struct hub_conf *c, bool *out_help,
                     struct err *e)
{
        struct conf_list rest = {0};
        struct hub_conf first = {0};
        int i = 2, rc = conf_defaults(opts, c, e);

        if (!rc) /* once, to learn --config */
                rc = conf_args(opts, argc, argv, &i, false, &first, &rest, e);
        *out_help = rc == -E_CANCELLED;
        if (!rc && !first.config)
                (void)conf_env(opts, &first, NULL);
        if (!rc && first.config)
                rc = conf_file(opts, first.config, c, e);
        if (!rc)
                rc = conf_env(opts, c, e);
        mem_free(rest.v);
        rest = (struct conf_list){0};
        i = 2;
        if (!rc)
                rc = conf_args(opts, argc, argv, &i, false, c, &rest, e);
        if (!rc && rest.n)
                rc = err_set(e, E_INVAL, "unexpected argument \"%s\": see photon-hub --help", rest.v[0]);
        mem_free(rest.v);
        conf_free(opts, &first);
        if (!rc && !c->data)
                c->data = default_data();
        return rc;
}

static int do_init(const struct hub_conf *c, bool json, struct err *e)
{
        char sha[65], token[80];
        int rc = hub_init(c, sha, token, e);

        if (rc)
                return fail(e, 1);
        context_leave(c, token);
        if (json)
                printf("{\"ca_sha256\":\"%s\",\"admin_token\":\"%s\"}\n", sha, token);
        else
                printf("The hub in %s is ready to serve.\n"
                       "  CA (SHA-256)  %s\n"
                       "  admin token   %s   (shown only now)\n\n"
                       "Next: photon-hub serve --data %s\n",
                       c->data, sha, token, c->data);
        mem_wipe(token, sizeof token);
        return 0;
}

/* An empty or absent folder becomes a hub: single-machine use needs no init. */
static int init_if_empty(const struct hub_conf *c, struct err *e)
{
        char sha[65], token[80], *db = path_join(c->data, "hub.db");
        struct stat sb;
        int rc = 0;

        if (db && lstat(db, &sb) && errno == ENOENT) {
                rc = hub_init(c, sha, token, e);
                if (!rc) {
                        char *path = path_join(c->data, "admin.token");

                        rc = path ? file_write_atomic(path, token, strlen(token), 0600, e) : -E_NOMEM;
                        context_leave(c, token);
                        fprintf(stderr, "photon-hub: made a new hub in %s; the admin's token is in %s\n",
                                c->data, path ? path : "?");
                        mem_free(path);
                }
                mem_wipe(token, sizeof token);
        }
        mem_free(db);
        return rc;
}

static int do_serve(const struct hub_conf *c, struct err *e)
{
        enum log_level level = LOG_INFO;

        if (log_level_parse(c->log_level, &level)) {
                err_set(e, E_INVAL, "log-level is \"%s\"; it must be debug, info, warn or error",
                        c->log_level);
                return fail(e, EX_USAGE);
        }
        log_setup(level, c->log_json);
        if (init_if_empty(c, e) || hub_serve(c, e))
                return fail(e, 1);
        return 0;
}

int main(int argc, char **argv)
{
        struct hub_conf c = {0};
        struct err e = {0};
        const struct conf_opt *opts;
        bool help = false, json = false;
        int rc;

        mem_install_hooks();
        if (process_no_dumps())
                fputs("photon-hub: core dumps could not be switched off\n", stderr);
        if (argc < 2 || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
                usage(argc < 2 ? stderr : stdout);
                return argc < 2 ? EX_USAGE : 0;
        }
        if (!strcmp(argv[1], "version") || !strcmp(argv[1], "--version")) {
                printf("photon-hub %s (protocol %d-%d)\n", PHOTON_VERSION, PHOTON_PROTO_MIN,
                       PHOTON_PROTO_MAX);
                return 0;
        }
        opts = !strcmp(argv[1], "init") ? hub_init_opts : !strcmp(argv[1], "serve") ? hub_serve_opts : NULL;
        if (!opts) {
                fprintf(stderr, "photon-hub: there is no command \"%s\"\n\n", argv[1]);
                usage(stderr);
                return EX_USAGE;
        }
        for (int i = 2; i + 1 < argc; i++) { /* -o json, as the people's command has it */
                if (!strcmp(argv[i], "-o") && !strcmp(argv[i + 1], "json")) {
                        json = true;
                        memmove(&argv[i], &argv[i + 2], (size_t)(argc - i - 2) * sizeof *argv);
                        argc -= 2;
                        break;
                }
        }
        rc = read_conf(opts, argc, argv, &c, &help, &e);
        if (help) {
                printf("photon-hub %s: options\n\n", argv[1]);
                conf_help(stdout, opts);
                rc = 0;
        } else if (rc) {
                rc = fail(&e, EX_USAGE);
        } else {
                rc = opts == hub_init_opts ? do_init(&c, json, &e) : do_serve(&c, &e);
        }
        conf_free(opts, &c);
        return rc;
}
