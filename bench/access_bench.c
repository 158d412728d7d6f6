/* What asking "may this caller do this, there?" costs a request: prints one JSON object, CPU time of this
 * process.
 *
 *   access_bench [ROUNDS] [DIR]
 *
 * A request of a caller who is known asks the pure rules and its two limits; once a second, and after any
 * change to people, its token and user are read; a caller without a role for all projects has its run's
 * project looked up, in an index. */
#include "common/err.h"
#include "common/mem.h"
#include "hub/auth/auth.h"
#include "hub/http/limit.h"
#include "hub/model/access.h"
#include "hub/store/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define RUNS 10000

static double cpu_s(void)
{
        struct timespec t;

        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
        return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void die(const char *what, const struct err *e)
{
        fprintf(stderr, "access_bench: %s: %s\n", what, e ? e->msg : "");
        exit(1);
}

static void fill(struct store *s, char token[80])
{
        struct store_tx *tx = store_begin(s);
        char id[32];

        store_put_user(tx, &(struct row_user){.id = "u1",
                                              .name = "ann",
                                              .kind = "user",
                                              .roles = "{\"web\":\"operator\",\"ops\":\"client\"}",
                                              .idp_roles = "{\"web\":\"client\"}"});
        if (auth_api_token_create(
                    tx,
                    &(struct new_api_token){
                            .name = "x", .project = PROJECT_ALL, .role = ROLE_ADMIN, .user_id = "u1"},
                    1, token, id))
                die("cannot make a token", NULL);
        for (int i = 0; i < RUNS; i++) {
                char run[32];

                snprintf(run, sizeof run, "01jd3q%020d", i);
                store_put_run(
                        tx,
                        &(struct row_run){
                                .seq = i + 1, .id = run, .workflow = "w", .kind = "run", .project = "web"});
        }
        store_commit(tx, NULL, NULL);
        store_pump(s);
}

static int on_project(void *arg, const char *project)
{
        *(size_t *)arg += strlen(project);
        return 0;
}

int main(int argc, char **argv)
{
        long n = argc > 1 ? atol(argv[1]) : 200000;
        struct store_reader *r;
        struct limit *l = NULL;
        struct caller c = {0};
        struct store *s;
        struct err e = {0};
        char token[80], run[32];
        double began, rules, looked, read;
        size_t seen = 0;

        if (n < 1)
                die("usage: access_bench [ROUNDS] [DIR]", NULL);
        if (store_open(&(struct store_options){.dir = argc > 2 ? argv[2] : ".",
                                               .create = true,
                                               .seal_key = (const uint8_t[32]){1},
                                               .seal_key_new = true},
                       &s, &e))
                die("cannot open a store", &e);
        fill(s, token);
        if (store_reader_open(s, &r, &e) || auth_check_api_token(r, token, 2, &c) ||
            limit_create(1000000, 1000000, &l))
                die("cannot read", &e);
        began = cpu_s();
        for (long i = 0; i < n; i++) {
                struct caller known = c; /* as each request gets it */

                seen += limit_take(l, "address-of-16-by", 16, i) == 0;
                seen += limit_take(l, known.token_id, strlen(known.token_id), i) == 0;
                seen += role_may(roles_in(&known.roles, "web"), PERM_RUNS_CONTROL) &&
                        known.permissions & PERMISSION_BIT(PERM_RUNS_CONTROL);
        }
        rules = cpu_s() - began;
        began = cpu_s();
        for (long i = 0; i < n; i++) {
                snprintf(run, sizeof run, "01jd3q%020ld", i * 7919 % RUNS);
                if (read_run_project(r, run, on_project, &seen))
                        die("a run is missing", NULL);
        }
        looked = cpu_s() - began;
        began = cpu_s();
        for (long i = 0; i < n / 10 + 1; i++)
                if (auth_check_api_token(r, token, 2, &c))
                        die("the token is not good", NULL);
        read = cpu_s() - began;
        if (seen < (size_t)n * 3)
                die("somebody was refused", NULL);
        printf("{\"rounds\":%ld,\"rules_us\":%.3f,\"project_of_a_run_us\":%.3f,\"token_and_user_us\":%.3f}\n",
               n, 1e6 * rules / (double)n, 1e6 * looked / (double)n, 1e6 * read / (double)(n / 10 + 1));
        limit_free(l);
        store_reader_close(r);
        store_close(s);
        return 0;
}
