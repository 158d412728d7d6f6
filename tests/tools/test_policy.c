/* The agent's policy: the file, and the questions. */
#include "agent/policy.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/err.h"
#include "common/mem.h"
#include "tests/lib/test.h"

static char root[PATH_MAX - 100];

static const char *at(const char *name)
{
        static char path[4][PATH_MAX];
        static int turn;

        turn = (turn + 1) % 4;
        snprintf(path[turn], sizeof path[turn], "%s/%s", root, name);
        return path[turn];
}

static void put(const char *name, const char *text)
{
        FILE *f = fopen(at(name), "we");

        CHECK(f && fputs(text, f) >= 0 && fclose(f) == 0);
}

static void home(void)
{
        CHECK(realpath(test_scratch(), root));
        setenv("HOME", root, 1);
}

static struct policy *load(const char *text)
{
        struct policy *p = NULL;
        struct err e = {0};

        home();
        if (text)
                put("policy.yaml", text);
        if (policy_load(text ? at("policy.yaml") : NULL, &p, &e) != 0)
                test_fail(__FILE__, __LINE__, "%s", e.msg);
        return p;
}

static int path(struct policy *p, enum policy_access a, const char *s)
{
        char *real = NULL;
        int rc = policy_path(p, a, s, NULL, &real, NULL);

        mem_free(real);
        return rc;
}

TEST(policy, default_is_useful_and_careful)
{
        struct policy *p = load(NULL), *q = NULL;
        struct err e = {0};

        CHECK(policy_tool(p, "process.exec", NULL) == 0);
        CHECK(policy_command(p, "/usr/bin/make", true, NULL) == 0);
        CHECK(policy_commands_open(p));
        CHECK(path(p, POLICY_READ, "/etc/passwd") == 0);
        CHECK(path(p, POLICY_WRITE, "~/x/y/z") == 0);
        CHECK(path(p, POLICY_WRITE, "rel") == 0);
        CHECK(path(p, POLICY_WRITE, "/tmp/x") == 0);
        CHECK(path(p, POLICY_WRITE, "/etc/passwd") == -E_DENIED);
        CHECK(path(p, POLICY_READ, "~/.ssh/id_rsa") == -E_DENIED);
        CHECK(path(p, POLICY_READ, "~/.ssh") == -E_DENIED);
        CHECK(path(p, POLICY_READ, "~/.sshx") == 0);
        CHECK(path(p, POLICY_READ, "~/.aws/credentials") == -E_DENIED);
        CHECK(path(p, POLICY_READ, "/etc/shadow") == -E_DENIED);
        CHECK(path(p, POLICY_READ, "/etc/shadow-") == -E_DENIED);
        CHECK(path(p, POLICY_READ, "/proc/self/environ") == -E_DENIED);
        CHECK(path(p, POLICY_READ, "/proc/self/root/etc/shadow") == -E_DENIED);
        CHECK(policy_host(p, "example.com", 443, NULL) == 0);
        CHECK(policy_host(p, "169.254.169.254", 80, NULL) == -E_DENIED);
        CHECK(policy_host(p, "Metadata.Google.Internal.", 80, NULL) == -E_DENIED);
        CHECK(policy_host(p, "fd00:ec2::254", 80, NULL) == -E_DENIED);
        CHECK_INT(policy_limits(p)->runtime_ms, 86400000);
        CHECK_INT(policy_limits(p)->running, 32);
        CHECK_INT(policy_limits(p)->spool_bytes, 1 << 30);
        CHECK_INT(strlen(policy_sha256(p)), 64);
        CHECK(strstr(policy_text(p), "files written: ~, /tmp\n"));
        /* The text that a new join gets is the default. */
        put("policy.yaml", policy_default_text());
        CHECK_INT(policy_load(at("policy.yaml"), &q, &e), 0);
        CHECK_STR(policy_sha256(p), policy_sha256(q));
        CHECK_STR(policy_text(p), policy_text(q));
        policy_free(p);
        policy_free(q);
}

TEST(policy, mistakes_have_a_place)
{
        static const struct {
                const char *text, *want;
                int line, col;
        } bad[] = {
                {"tools: {}\n", "version: 1", 1, 1},
                {"version: 2\n", "version 1 only", 1, 10},
                {"version: 1\ntool: {}\n", "did you mean \"tools\"", 2, 1},
                {"version: 1\ntools: {alow: []}\n", "did you mean \"allow\"", 2, 9},
                {"version: 1\ntools:\n  allow: yes\n", "expected a list", 3, 10},
                {"version: 1\ntools: [a]\n", "expected a map", 2, 8},
                {"version: 1\ntools:\n  allow: [[a]]\n", "expected a text", 3, 11},
                {"version: 1\ntools:\n  allow: ['']\n", "empty entry", 3, 11},
                {"version: 1\nfiles:\n  read: [docs]\n", "must start with / or ~/", 3, 10},
                {"version: 1\nfiles:\n  read: [/a/../b]\n", "..", 3, 10},
                {"version: 1\nhttp: {allow: ['https://x/']}\n", "not a host", 2, 16},
                {"version: 1\nenv: {pass: [A=B]}\n", "env.set", 2, 14},
                {"version: 1\nenv: {set: {'A B': x}}\n", "name of a variable", 2, 13},
                {"version: 1\ncommands: {shell: 1}\n", "true or false", 2, 19},
                {"version: 1\nlimits: {runtime: long}\n", "duration", 2, 19},
                {"version: 1\nlimits: {running: 0}\n", "1 to 10000", 2, 19},
                {"version: 1\nlimits: {input: 1GiB}\n", "64MiB", 2, 17},
                {"version: 1\nlimits: {outputs: 1GiB}\n", "did you mean \"output\"", 2, 10},
                {"version: 1\nversion: 1\n", "", 2, 1},
                {"- a\n", "expected a map", 1, 1},
        };

        home();
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
                struct policy *p = NULL;
                struct err e = {0};

                put("policy.yaml", bad[i].text);
                if (policy_load(at("policy.yaml"), &p, &e) == 0)
                        test_fail(__FILE__, __LINE__, "accepted: %s", bad[i].text);
                if (e.line != bad[i].line || e.col != bad[i].col || !strstr(e.msg, bad[i].want) ||
                    !strstr(e.msg, "policy.yaml:"))
                        test_fail(__FILE__, __LINE__, "%d:%d %s, for: %s", e.line, e.col, e.msg, bad[i].text);
        }
}

TEST(policy, file_of_others_is_refused)
{
        struct policy *p = NULL;
        struct err e = {0};

        home();
        put("policy.yaml", "version: 1\n");
        CHECK(chmod(at("policy.yaml"), 0620) == 0);
        CHECK_INT(policy_load(at("policy.yaml"), &p, &e), -E_DENIED);
        CHECK(strstr(e.msg, "chmod go-w"));
        CHECK(chmod(at("policy.yaml"), 0644) == 0);
        CHECK_INT(policy_load(at("policy.yaml"), &p, &e), 0);
        policy_free(p);
        CHECK_INT(policy_load(at("absent.yaml"), &p, &e), 0);
        policy_free(p);
        CHECK(mkdir(at("folder"), 0700) == 0);
        CHECK(policy_load(at("folder"), &p, &e) < 0);
}

TEST(policy, denial_names_rule_and_line)
{
        struct policy *p = load("version: 1\ntools:\n  deny:\n    - http.*\n");
        struct err e = {0};

        CHECK_INT(policy_tool(p, "http.request", &e), -E_DENIED);
        CHECK(strstr(e.msg, "tools.deny \"http.*\"") && strstr(e.msg, "line 4") &&
              strstr(e.msg, "policy.yaml"));
        CHECK(policy_tool(p, "file.read", &e) == 0);
        policy_free(p);
        p = load("version: 1\ntools: {allow: [file.*], deny: [file.write]}\n");
        CHECK_INT(policy_tool(p, "process.exec", &e), -E_DENIED);
        CHECK(strstr(e.msg, "tools.allow"));
        CHECK_INT(policy_tool(p, "file.write", &e), -E_DENIED);
        CHECK(policy_tool(p, "file.read", &e) == 0);
        policy_free(p);
}

TEST(policy, links_and_dots_do_not_lead_out)
{
        struct policy *p = load("version: 1\nfiles: {read: [~/in], write: [~/in], deny: [~/in/secret]}\n");

        CHECK(mkdir(at("in"), 0755) == 0 && mkdir(at("outside"), 0755) == 0 &&
              mkdir(at("in/secret"), 0755) == 0);
        CHECK(symlink("../outside", at("in/link")) == 0);
        CHECK(symlink("secret", at("in/alias")) == 0);
        CHECK(symlink("/nowhere/x", at("in/dangling")) == 0);
        CHECK(symlink("loop", at("in/loop")) == 0);
        put("in/file", "x");
        put("outside/file", "x");
        CHECK(path(p, POLICY_READ, "~/in/file") == 0);
        CHECK(path(p, POLICY_READ, "~/in") == 0);
        CHECK(path(p, POLICY_WRITE, "~/in/new/deep/file") == 0);
        CHECK(path(p, POLICY_READ, "~/in/link/file") == -E_DENIED);
        CHECK(path(p, POLICY_READ, "~/in/../outside/file") == -E_DENIED);
        CHECK(path(p, POLICY_READ, "~/in/./../in/file") == 0);
        CHECK(path(p, POLICY_READ, "~/in/link/../in/file") == 0);
        CHECK(path(p, POLICY_WRITE, "~/in/missing/../../outside/f") == -E_INVAL);
        CHECK(path(p, POLICY_READ, "~/in/alias/key") == -E_DENIED);
        CHECK(path(p, POLICY_READ, "~/in/secret/key") == -E_DENIED);
        CHECK(path(p, POLICY_WRITE, "~/in/dangling") == -E_DENIED);
        CHECK(path(p, POLICY_READ, "~/in/loop") == -E_INVAL);
        CHECK(path(p, POLICY_READ, "~/in/file/x") == -E_INVAL);
        CHECK(path(p, POLICY_READ, "") == -E_INVAL);
        CHECK(path(p, POLICY_READ, "~/inside") == -E_DENIED);
        CHECK(policy_covers_denied(p, at("in")));
        CHECK(!policy_covers_denied(p, at("in/new")));
        CHECK(policy_is_root(p, at("in")) && policy_is_root(p, root) && policy_is_root(p, "/"));
        CHECK(!policy_is_root(p, at("in/new")));
        policy_free(p);
}

TEST(policy, denied_folder_may_be_a_link_itself)
{
        struct policy *p;

        home();
        CHECK(mkdir(at("keys"), 0755) == 0 && symlink("keys", at(".ssh")) == 0);
        p = load(NULL);
        CHECK(path(p, POLICY_READ, "~/.ssh/id") == -E_DENIED);
        CHECK(path(p, POLICY_READ, "~/keys/id") == -E_DENIED);
        policy_free(p);
}

TEST(policy, own_data_is_protected)
{
        struct policy *p = load("version: 1\nfiles: {read: [/], write: [/], deny: []}\n");

        CHECK(mkdir(at("data"), 0700) == 0);
        CHECK(path(p, POLICY_READ, "~/data/key.pem") == 0);
        CHECK(policy_protect(p, at("data")) == 0);
        CHECK(path(p, POLICY_READ, "~/data/key.pem") == -E_DENIED);
        CHECK(path(p, POLICY_WRITE, "~/data") == -E_DENIED);
        CHECK(path(p, POLICY_READ, "~/database") == 0);
        policy_free(p);
}

TEST(policy, commands_by_name_mean_the_path)
{
        struct policy *p;
        struct err e = {0};

        setenv("PATH", "/usr/bin:/bin", 1);
        p = load("version: 1\ncommands: {allow: [env, /opt/tools/*], shell: true}\n");
        CHECK(!policy_commands_open(p));
        CHECK(policy_command(p, "env", false, &e) == 0);
        CHECK(policy_command(p, "/usr/bin/env", false, &e) == 0);
        CHECK(policy_command(p, "/tmp/env", false, &e) == -E_DENIED);
        CHECK(policy_command(p, "./env", false, &e) == -E_DENIED);
        CHECK(policy_command(p, "/opt/tools/x", false, &e) == 0);
        CHECK(policy_command(p, "/opt/tools/../../bin/sh", false, &e) == -E_DENIED);
        CHECK(policy_command(p, "sh", false, &e) == -E_DENIED);
        CHECK(policy_command(p, "/bin/sh", true, &e) == -E_DENIED);
        policy_free(p);
        p = load("version: 1\ncommands: {deny: [env]}\n");
        CHECK(symlink("/usr/bin/env", at("innocent")) == 0);
        CHECK(policy_command(p, "env", false, &e) == -E_DENIED);
        CHECK(policy_command(p, "/usr/bin/env", false, &e) == -E_DENIED);
        CHECK(policy_command(p, at("innocent"), false, &e) == -E_DENIED);
        CHECK(policy_command(p, "true", false, &e) == 0);
        policy_free(p);
        p = load("version: 1\ncommands: {shell: false}\n");
        CHECK(policy_command(p, "/bin/sh", true, &e) == -E_DENIED);
        CHECK(strstr(e.msg, "commands.shell"));
        CHECK(policy_command(p, "true", false, &e) == 0);
        policy_free(p);
}

TEST(policy, hosts_with_and_without_port)
{
        struct policy *p = load("version: 1\nhttp: {allow: ['*.example.com', 'localhost:8080', '10.0.0.1', "
                                "'[::1]:80', '::2'], deny: "
                                "[bad.example.com]}\n");

        CHECK(policy_host(p, "a.example.com", 443, NULL) == 0);
        CHECK(policy_host(p, "A.Example.COM", 80, NULL) == 0);
        CHECK(policy_host(p, "example.com", 443, NULL) == -E_DENIED);
        CHECK(policy_host(p, "bad.example.com", 443, NULL) == -E_DENIED);
        CHECK(policy_host(p, "bad.example.com.", 443, NULL) == -E_DENIED);
        CHECK(policy_host(p, "localhost", 8080, NULL) == 0);
        CHECK(policy_host(p, "localhost", 8081, NULL) == -E_DENIED);
        CHECK(policy_host(p, "10.0.0.1", 1, NULL) == 0);
        CHECK(policy_host(p, "::1", 80, NULL) == 0);
        CHECK(policy_host(p, "[::1]", 81, NULL) == -E_DENIED);
        CHECK(policy_host(p, "[::2]", 5, NULL) == 0);
        CHECK(policy_host(p, "", 80, NULL) < 0);
        CHECK(policy_address(p, "192.0.2.1", 80, NULL) == 0);
        policy_free(p);
}

TEST(policy, environment_passes_and_sets)
{
        struct policy *p;
        char **v;
        bool seen_set = false, seen_tz = false;

        clearenv();
        setenv("TZ", "UTC", 1);
        setenv("API_KEY", "secret", 1);
        setenv("CI", "false", 1);
        p = load("version: 1\nenv: {pass: [TZ, CI], set: {CI: 'true', N: 5}}\n");
        v = policy_base_env(p);
        CHECK(v);
        for (char **s = v; *s; s++) {
                CHECK(!strstr(*s, "secret") && strcmp(*s, "CI=false") != 0);
                seen_set |= strcmp(*s, "CI=true") == 0;
                seen_tz |= strcmp(*s, "TZ=UTC") == 0;
                mem_free(*s);
        }
        mem_free(v);
        CHECK(seen_set && seen_tz);
        CHECK(!strstr(policy_text(p), "true\n") || strstr(policy_text(p), "env set: CI, N\n"));
        policy_free(p);
}

static int load_once(void *arg)
{
        struct policy *p = NULL;
        int rc = policy_load(arg, &p, NULL);

        if (rc == 0)
                rc = policy_protect(p, "/var/tmp");
        policy_free(p);
        return rc;
}

TEST(policy, load_survives_lack_of_memory)
{
        home();
        put("policy.yaml", "version: 1\nfiles: {read: [~/x, /tmp]}\nenv: {set: {A: b}}\n");
        test_each_alloc_fails(load_once, (void *)(uintptr_t)at("policy.yaml"));
}
