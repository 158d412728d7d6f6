#include "tests/lib/test.h"

#include "common/conf.h"
#include "common/err.h"
#include "common/file.h"
#include "common/mem.h"

#include <stdlib.h>

struct opts {
        char *data;
        bool verbose;
        int64_t port, timeout_ms, max_bytes;
        struct conf_list labels;
        char *secret;
};

#define AT(f) offsetof(struct opts, f)
static const struct conf_opt table[] = {
        {"data", 'd', CONF_STR, AT(data), "/var/lib/x", "T_DATA", "DIR", "where things are kept", 0, 0},
        {"verbose", 'v', CONF_BOOL, AT(verbose), NULL, NULL, "", "say more", 0, 0},
        {"port", 'p', CONF_INT, AT(port), "7443", "T_PORT", "N", "listen here", 1, 65535},
        {"timeout", 0, CONF_DURATION, AT(timeout_ms), "10s", NULL, "TIME", "give up after", 1000, 60000},
        {"max-size", 0, CONF_SIZE, AT(max_bytes), "1MiB", NULL, "SIZE", "at most", 0, 0},
        {"label", 'l', CONF_STRLIST, AT(labels), "a,b", "T_LABELS", "K=V", "labels", 0, 0},
        {"secret", 0, CONF_STR, AT(secret), NULL, "T_SECRET", NULL, "not a flag", 0, 0},
        {0},
};

static const char *write_file(const char *text)
{
        static char path[512];

        snprintf(path, sizeof path, "%s/conf", test_scratch());
        CHECK_INT(file_write_atomic(path, text, strlen(text), 0600, NULL), 0);
        return path;
}

static int args(struct opts *o, struct conf_list *rest, bool stop, int *io_i, struct err *e, char **argv)
{
        int argc = 0;

        while (argv[argc])
                argc++;
        return conf_args(table, argc, argv, io_i, stop, o, rest, e);
}

#define ARGS(...) ((char *[]){"prog", __VA_ARGS__, NULL})

TEST(conf, later_sources_win)
{
        struct opts o;
        struct err e;
        int i = 1;

        CHECK_INT(conf_defaults(table, &o, &e), 0);
        CHECK_STR(o.data, "/var/lib/x");
        CHECK(o.port == 7443 && o.timeout_ms == 10000 && o.max_bytes == 1 << 20 && !o.verbose && !o.secret);
        CHECK(o.labels.n == 2);
        CHECK_STR(o.labels.v[1], "b");
        CHECK_INT(conf_file(table,
                            write_file("data: /from/file\nport: 1\ntimeout: 5s\nmax-size: 64KiB\nverbose: "
                                       "true\nlabel: [x, 1]\nsecret: ~\n"),
                            &o, &e),
                  0);
        CHECK_STR(o.data, "/from/file");
        CHECK(o.port == 1 && o.timeout_ms == 5000 && o.max_bytes == 65536 && o.verbose && o.labels.n == 2);
        setenv("T_PORT", "2", 1);
        setenv("T_LABELS", "p,q,r", 1);
        setenv("T_SECRET_FILE", write_file("hush\n"), 1);
        CHECK_INT(conf_env(table, &o, &e), 0);
        CHECK(o.port == 2 && o.labels.n == 3);
        CHECK_STR(o.secret, "hush");
        CHECK_INT(args(&o, NULL, false, &i, &e,
                       ARGS("--port=3", "-l", "one", "--label", "two", "--verbose=false")),
                  0);
        CHECK(o.port == 3 && o.labels.n == 2 && !o.verbose);
        CHECK_STR(o.labels.v[0], "one");
        conf_free(table, &o);
        conf_free(table, &o);
}

TEST(conf, json_file_and_empty_file)
{
        struct opts o;
        struct err e;

        CHECK_INT(conf_defaults(table, &o, &e), 0);
        CHECK_INT(conf_file(table, write_file("{\"port\": 99, \"label\": \"solo\"}"), &o, &e), 0);
        CHECK(o.port == 99 && o.labels.n == 1);
        CHECK_INT(conf_file(table, write_file(""), &o, &e), 0);
        conf_free(table, &o);
}

TEST(conf, bad_files_are_told_with_place)
{
        static const struct {
                const char *text, *part;
                int line, col;
        } bad[] = {
                {"data: x\nprot: 5\n", "did you mean \"port\"", 2, 1},
                {"port: 70000\n", "not between 1 and 65535", 1, 7},
                {"port: [1]\n", "expected one value, got a list", 1, 7},
                {"timeout: 5\n", "no duration", 1, 10},
                {"timeout: 100ms\n", "not between 1s and 1m", 1, 10},
                {"max-size: lots\n", "no size", 1, 11},
                {"verbose: maybe\n", "neither true nor false", 1, 10},
                {"label: [[x]]\n", "expected a text", 1, 9},
                {"- x\n", "expected options as a map", 1, 1},
                {"a: [\n", "not valid YAML", 2, 1},
        };
        struct opts o;
        struct err e;

        CHECK_INT(conf_defaults(table, &o, &e), 0);
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
                CHECK_INT(conf_file(table, write_file(bad[i].text), &o, &e), -E_INVAL);
                if (!strstr(e.msg, bad[i].part) || e.line != bad[i].line || e.col != bad[i].col)
                        test_fail(__FILE__, __LINE__, "%s: %d:%d %s", bad[i].text, e.line, e.col, e.msg);
        }
        CHECK_INT(conf_file(table, "/no/such/file", &o, &e), -E_NOENT);
        CHECK_INT(o.port, 7443);
        conf_free(table, &o);
}

TEST(conf, bad_environment)
{
        struct opts o;
        struct err e;

        CHECK_INT(conf_defaults(table, &o, &e), 0);
        setenv("T_SECRET", "direct", 1);
        setenv("T_SECRET_FILE", "/no/such", 1);
        CHECK_INT(conf_env(table, &o, &e), -E_INVAL);
        CHECK(!strstr(e.msg, "direct"));
        unsetenv("T_SECRET");
        CHECK_INT(conf_env(table, &o, &e), -E_NOENT);
        unsetenv("T_SECRET_FILE");
        setenv("T_PORT", "x", 1);
        CHECK_INT(conf_env(table, &o, &e), -E_INVAL);
        CHECK_STR(e.msg, "T_PORT: \"x\" is no whole number");
        conf_free(table, &o);
}

TEST(conf, flags_and_words)
{
        struct conf_list rest = {0};
        struct opts o;
        struct err e;
        int i = 1;

        CHECK_INT(conf_defaults(table, &o, &e), 0);
        CHECK_INT(args(&o, &rest, false, &i, &e,
                       ARGS("one", "-vp", "5", "-", "-d/x", "two", "--", "--port", "9")),
                  0);
        CHECK(rest.n == 3 && o.port == 5 && o.verbose);
        CHECK_STR(rest.v[1], "-");
        CHECK_STR(o.data, "/x");
        CHECK_INT(i, 8);
        mem_free(rest.v);
        i = 1;
        CHECK_INT(args(&o, NULL, true, &i, &e, ARGS("-p", "6", "exec", "--port", "9")), 0);
        CHECK(i == 3 && o.port == 6);
        i = 1;
        CHECK_INT(args(&o, NULL, false, &i, &e, ARGS("--help")), -E_CANCELLED);
        i = 1;
        CHECK_INT(args(&o, NULL, false, &i, &e, ARGS("-h")), -E_CANCELLED);
        conf_free(table, &o);
}

TEST(conf, bad_flags)
{
        struct conf_list rest = {0};
        struct opts o;
        struct err e;
        int i = 1;

        CHECK_INT(conf_defaults(table, &o, &e), 0);
        CHECK_INT(args(&o, &rest, false, &i, &e, ARGS("word", "--prot", "5")), -E_INVAL);
        CHECK_STR(e.msg, "unknown flag --prot; did you mean --port?");
        CHECK_INT(args(&o, &rest, false, &i, &e, ARGS("--secret", "5")), -E_INVAL);
        CHECK_STR(e.msg, "unknown flag --secret");
        CHECK_INT(args(&o, &rest, false, &i, &e, ARGS("--port")), -E_INVAL);
        CHECK_STR(e.msg, "--port needs a value: --port N");
        CHECK_INT(args(&o, &rest, false, &i, &e, ARGS("-p", "0")), -E_INVAL);
        CHECK_INT(args(&o, &rest, false, &i, &e, ARGS("-q")), -E_INVAL);
        CHECK_INT(args(&o, NULL, false, &i, &e, ARGS("word")), -E_INVAL);
        CHECK(rest.v == NULL && i == 1 && o.port == 7443);
        conf_free(table, &o);
}

TEST(conf, help_lists_every_flag)
{
        char *text = NULL;
        size_t n;
        FILE *f = open_memstream(&text, &n);

        conf_help(f, table);
        fclose(f);
        CHECK(strstr(text, "  -d, --data DIR      "));
        CHECK(strstr(text, "where things are kept (default: /var/lib/x) [T_DATA]\n"));
        CHECK(strstr(text, "      --timeout TIME  "));
        CHECK(!strstr(text, "secret"));
        free(text);
}

static int load(void *arg)
{
        struct opts o;
        struct conf_list rest = {0};
        int i = 1;
        int rc = conf_defaults(table, &o, NULL);

        if (!rc)
                rc = conf_file(table, arg, &o, NULL);
        if (!rc)
                rc = conf_env(table, &o, NULL);
        if (!rc)
                rc = args(&o, &rest, false, &i, NULL, ARGS("w", "--data", "y", "-l", "z"));
        mem_free(rest.v);
        conf_free(table, &o);
        return rc;
}

TEST(conf, survives_no_memory)
{
        char *path = mem_strdup(write_file("data: q\nlabel: [x, y]\n"));

        setenv("T_SECRET", "s", 1);
        test_each_alloc_fails(load, path);
        mem_free(path);
}
