/* The file tools through the pool, on real files. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/err.h"
#include "common/secret.h"
#include "common/str.h"
#include "tests/lib/test.h"
#include "tests/tools/fake.h"

#define ONLY_IN "version: 1\nfiles: {read: [~/in], write: [~/in], deny: [~/in/secret]}\n"

static const char *in_home(struct fake *f, const char *name)
{
        static char path[600];

        snprintf(path, sizeof path, "%s/%s", f->home, name);
        return path;
}

static void hex_of(const char *text, char out[65])
{
        uint8_t sum[32];

        secret_sha256(text, strlen(text), sum);
        str_hex(sum, 32, out);
}

static int mode_of(struct fake *f, const char *name)
{
        struct stat st;

        return lstat(in_home(f, name), &st) == 0 ? (int)(st.st_mode & 07777) : -1;
}

static int count_in(struct fake *f, const char *name)
{
        fake_callf(f, "file.list", "{\"path\":\"%s\"}", in_home(f, name));
        CHECK_INT(f->outcome, TOOL_SUCCEEDED);
        return cJSON_GetArraySize(cJSON_GetObjectItem(f->outputs, "entries"));
}

/* --- read --------------------------------------------------------------------- */

TEST(file, read_whole_and_ranges)
{
        struct fake f;
        char hex[65];

        fake_init(&f, NULL);
        fake_put(&f, "a.txt", "h\xc3\xa9llo w\xc3\xb6rld\n");
        fake_call(&f, "file.read", "{\"path\":\"a.txt\"}");
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        CHECK_STR(fake_text(&f, "content"), "h\xc3\xa9llo w\xc3\xb6rld\n");
        CHECK_INT(fake_number(&f, "size"), 14);
        CHECK_INT(fake_number(&f, "eof"), 1);
        hex_of("h\xc3\xa9llo w\xc3\xb6rld\n", hex);
        CHECK_STR(fake_text(&f, "sha256"), hex);
        fake_call(&f, "file.read", "{\"path\":\"~/a.txt\",\"offset\":3,\"length\":3}");
        CHECK_STR(fake_text(&f, "content"), "llo");
        CHECK_INT(fake_number(&f, "eof"), 0);
        CHECK_INT(fake_number(&f, "size"), 14);
        /* A range that ends in a character stops before it. */
        fake_call(&f, "file.read", "{\"path\":\"a.txt\",\"length\":2}");
        CHECK_STR(fake_text(&f, "content"), "h");
        CHECK_INT(fake_number(&f, "length"), 1);
        fake_call(&f, "file.read", "{\"path\":\"a.txt\",\"offset\":2}");
        CHECK_STR(f.code, "not_text");
        fake_call(&f, "file.read", "{\"path\":\"a.txt\",\"offset\":2,\"length\":1,\"encoding\":\"base64\"}");
        CHECK_STR(fake_text(&f, "content"), "qQ==");
        fake_call(&f, "file.read", "{\"path\":\"a.txt\",\"offset\":99}");
        CHECK_STR(fake_text(&f, "content"), "");
        CHECK_INT(fake_number(&f, "size"), 14);
        CHECK_INT(fake_number(&f, "eof"), 1);
        fake_call(&f, "file.read", "{\"path\":\"a.txt\",\"length\":14}");
        CHECK_INT(fake_number(&f, "eof"), 1);
        fake_call(&f, "file.read", "{\"path\":\"a.txt\",\"length\":0}");
        CHECK_INT(fake_number(&f, "eof"), 0);
        fake_fini(&f);
}

TEST(file, read_bounds_and_odd_files)
{
        struct fake f;
        int fd;

        fake_init(&f, NULL);
        fd = open(in_home(&f, "big"), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        CHECK(ftruncate(fd, 10 << 20) == 0);
        fake_call(&f, "file.read", "{\"path\":\"big\",\"encoding\":\"base64\"}");
        CHECK_INT(fake_number(&f, "length"), 1 << 20);
        CHECK_INT(fake_number(&f, "size"), 10 << 20);
        CHECK_INT(fake_number(&f, "eof"), 0);
        fake_call(&f, "file.read", "{\"path\":\"big\"}");
        CHECK_STR(f.code, "not_text");
        fake_call(&f, "file.read", "{\"path\":\"big\",\"length\":9000000}");
        CHECK_INT(f.outcome, TOOL_REFUSED);
        close(fd);
        CHECK(mkfifo(in_home(&f, "pipe"), 0644) == 0);
        fake_call(&f, "file.read", "{\"path\":\"pipe\"}");
        CHECK_STR(f.code, "not_a_file");
        fake_call(&f, "file.read", "{\"path\":\"/etc\"}");
        CHECK_STR(f.code, "is_a_folder");
        fake_call(&f, "file.read", "{\"path\":\"absent\"}");
        CHECK_INT(f.outcome, TOOL_FAILED);
        CHECK_STR(f.code, "not_found");
        CHECK(strstr(f.msg, "absent") && strstr(f.msg, "does not exist"));
        fake_call(&f, "file.read", "{\"path\":\"/proc/self/stat\"}");
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        CHECK(strlen(fake_text(&f, "content")) > 10);
        fake_call(&f, "file.read", "{\"path\":\"~/.ssh/id\"}");
        CHECK_INT(f.outcome, TOOL_REFUSED);
        CHECK_STR(f.code, "policy_denied");
        fake_fini(&f);
}

/* --- write -------------------------------------------------------------------- */

TEST(file, write_is_whole_and_keeps_mode)
{
        struct fake f;
        char hex[65];

        umask(022);
        fake_init(&f, NULL);
        fake_call(&f, "file.write", "{\"path\":\"a\",\"content\":\"one\"}");
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        CHECK_INT(fake_number(&f, "created"), 1);
        CHECK_STR(fake_text(&f, "mode"), "0644");
        hex_of("one", hex);
        CHECK_STR(fake_text(&f, "sha256"), hex);
        CHECK(chmod(in_home(&f, "a"), 0751) == 0);
        fake_call(&f, "file.write", "{\"path\":\"a\",\"content\":\"dHdv\",\"encoding\":\"base64\"}");
        CHECK_INT(fake_number(&f, "created"), 0);
        CHECK_STR(fake_get(&f, "a"), "two");
        CHECK_INT(mode_of(&f, "a"), 0751);
        fake_call(&f, "file.write", "{\"path\":\"a\",\"content\":\"x\",\"mode\":\"600\"}");
        CHECK_INT(mode_of(&f, "a"), 0600);
        fake_call(&f, "file.write", "{\"path\":\"a\",\"content\":\"yz\",\"append\":true}");
        CHECK_STR(fake_get(&f, "a"), "xyz");
        CHECK_INT(fake_number(&f, "size"), 3);
        fake_call(&f, "file.write", "{\"path\":\"new/deep/f\",\"content\":\"q\"}");
        CHECK_STR(f.code, "not_found");
        fake_call(&f, "file.write", "{\"path\":\"new/deep/f\",\"content\":\"q\",\"create_dirs\":true}");
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        CHECK_STR(fake_get(&f, "new/deep/f"), "q");
        /* No temporary file is left anywhere. */
        CHECK_INT(count_in(&f, ""), 2);
        CHECK_INT(count_in(&f, "new/deep"), 1);
        fake_fini(&f);
}

TEST(file, write_conditions)
{
        struct fake f;
        char hex[65];

        fake_init(&f, NULL);
        fake_call(&f, "file.write", "{\"path\":\"a\",\"content\":\"1\",\"if_absent\":true}");
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        fake_call(&f, "file.write", "{\"path\":\"a\",\"content\":\"2\",\"if_absent\":true}");
        CHECK_STR(f.code, "precondition_failed");
        fake_call(&f, "file.write", "{\"path\":\"a\",\"content\":\"2\",\"if_absent\":true,\"append\":true}");
        CHECK_STR(f.code, "precondition_failed");
        hex_of("1", hex);
        fake_callf(&f, "file.write", "{\"path\":\"a\",\"content\":\"2\",\"if_sha256\":\"%s\"}", hex);
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        fake_callf(&f, "file.write", "{\"path\":\"a\",\"content\":\"3\",\"if_sha256\":\"%s\"}", hex);
        CHECK_STR(f.code, "precondition_failed");
        CHECK(strstr(f.msg, "has changed"));
        fake_callf(&f, "file.write", "{\"path\":\"b\",\"content\":\"3\",\"if_sha256\":\"%s\"}", hex);
        CHECK_STR(f.code, "precondition_failed");
        CHECK_STR(fake_get(&f, "a"), "2");
        CHECK_INT(count_in(&f, ""), 1);
        fake_fini(&f);
}

TEST(file, write_refuses_what_it_must)
{
        static const char *const bad[] = {
                "{\"path\":\"a\"}",
                "{\"path\":\"\",\"content\":\"\"}",
                "{\"path\":\"a\",\"content\":\"\",\"mode\":\"999\"}",
                "{\"path\":\"a\",\"content\":\"\",\"mode\":\"4755\"}",
                "{\"path\":\"a\",\"content\":\"?\",\"encoding\":\"base64\"}",
                "{\"path\":\"a\",\"content\":\"\",\"encoding\":\"utf-16\"}",
                "{\"path\":\"a\",\"content\":\"\",\"if_sha256\":\"12\"}",
                "{\"path\":\"a/../../../../../../etc/x\",\"content\":\"\"}",
                "{\"path\":\"/etc/x\",\"content\":\"\"}",
                "{\"path\":\"~/.ssh/authorized_keys\",\"content\":\"\",\"create_dirs\":true}"};
        struct fake f;

        fake_init(&f, NULL);
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
                fake_call(&f, "file.write", bad[i]);
                if (f.outcome == TOOL_SUCCEEDED)
                        test_fail(__FILE__, __LINE__, "accepted: %s", bad[i]);
        }
        CHECK(mkdir(in_home(&f, "dir"), 0755) == 0);
        fake_call(&f, "file.write", "{\"path\":\"dir\",\"content\":\"\"}");
        CHECK_STR(f.code, "is_a_folder");
        CHECK(mkfifo(in_home(&f, "pipe"), 0644) == 0);
        fake_call(&f, "file.write", "{\"path\":\"pipe\",\"content\":\"x\",\"append\":true}");
        CHECK_STR(f.code, "not_a_file");
        fake_call(&f, "file.write", "{\"path\":\"/dev/full\",\"content\":\"x\"}");
        CHECK_STR(f.code, "policy_denied");
        fake_fini(&f);
}

TEST(file, write_follows_links_within_the_roots_only)
{
        struct fake f;

        fake_init(&f, ONLY_IN);
        CHECK(mkdir(in_home(&f, "in"), 0755) == 0 && mkdir(in_home(&f, "outside"), 0755) == 0);
        fake_put(&f, "in/real", "old");
        fake_put(&f, "outside/victim", "safe");
        CHECK(symlink("real", in_home(&f, "in/alias")) == 0);
        CHECK(symlink("../outside/victim", in_home(&f, "in/escape")) == 0);
        CHECK(symlink("../outside", in_home(&f, "in/door")) == 0);
        CHECK(symlink("../outside/new", in_home(&f, "in/dangling")) == 0);
        fake_call(&f, "file.write", "{\"path\":\"in/alias\",\"content\":\"new\"}");
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        CHECK_STR(fake_get(&f, "in/real"), "new");
        fake_call(&f, "file.write", "{\"path\":\"in/escape\",\"content\":\"x\"}");
        CHECK_STR(f.code, "policy_denied");
        fake_call(&f, "file.write", "{\"path\":\"in/door/victim\",\"content\":\"x\"}");
        CHECK_STR(f.code, "policy_denied");
        fake_call(&f, "file.write", "{\"path\":\"in/dangling\",\"content\":\"x\"}");
        CHECK_STR(f.code, "policy_denied");
        fake_call(&f, "file.read", "{\"path\":\"in/escape\"}");
        CHECK_STR(f.code, "policy_denied");
        fake_call(&f, "file.patch", "{\"path\":\"in/escape\",\"edits\":[{\"old\":\"safe\",\"new\":\"x\"}]}");
        CHECK_STR(f.code, "policy_denied");
        fake_call(&f, "file.list", "{\"path\":\"in/door\"}");
        CHECK_STR(f.code, "policy_denied");
        fake_call(&f, "file.stat", "{\"path\":\"in/escape\"}");
        CHECK_STR(f.code, "policy_denied");
        CHECK_STR(fake_get(&f, "outside/victim"), "safe");
        CHECK(!fake_get(&f, "outside/new"));
        fake_fini(&f);
}

/* The link is swapped in after the policy was asked: the race that opening name by name must win. */
struct swapper {
        char from[600], to[600], away[600];
        bool stop;
};

static void swap(void *arg)
{
        struct swapper *s = arg;

        while (!__atomic_load_n(&s->stop, __ATOMIC_RELAXED)) {
                rename(s->from, s->away);
                if (symlink(s->to, s->from) == 0)
                        unlink(s->from);
                rename(s->away, s->from);
        }
}

TEST(file, link_swapped_in_does_not_lead_out)
{
        struct fake f;
        struct swapper s = {.stop = false};
        uv_thread_t t;

        fake_init(&f, ONLY_IN);
        CHECK(mkdir(in_home(&f, "in"), 0755) == 0 && mkdir(in_home(&f, "outside"), 0755) == 0);
        CHECK(mkdir(in_home(&f, "in/d"), 0755) == 0);
        fake_put(&f, "in/d/f", "inside");
        fake_put(&f, "outside/f", "outside");
        snprintf(s.from, sizeof s.from, "%s/in/d", f.home);
        snprintf(s.away, sizeof s.away, "%s/in/d.away", f.home);
        snprintf(s.to, sizeof s.to, "%s/outside", f.home);
        CHECK(uv_thread_create(&t, swap, &s) == 0);
        for (int i = 0; i < 300; i++) {
                fake_call(&f, "file.read", "{\"path\":\"in/d/f\"}");
                CHECK(f.outcome != TOOL_SUCCEEDED || strcmp(fake_text(&f, "content"), "outside") != 0);
                fake_call(&f, "file.write", "{\"path\":\"in/d/f\",\"content\":\"inside\"}");
                fake_call(&f, "file.delete", "{\"path\":\"in/d/g\",\"missing_ok\":true}");
        }
        __atomic_store_n(&s.stop, true, __ATOMIC_RELAXED);
        uv_thread_join(&t);
        CHECK_STR(fake_get(&f, "outside/f"), "outside");
        CHECK_INT(mode_of(&f, "outside/f") >= 0, 1);
        fake_fini(&f);
}

/* --- list and stat ---------------------------------------------------------------- */

static const char *entry(struct fake *f, int i)
{
        const cJSON *x = cJSON_GetArrayItem(cJSON_GetObjectItem(f->outputs, "entries"), i);

        x = cJSON_GetObjectItem(x, "path");
        return x ? x->valuestring : "";
}

static int entries(struct fake *f)
{
        return cJSON_GetArraySize(cJSON_GetObjectItem(f->outputs, "entries"));
}

TEST(file, list_sorts_filters_and_bounds)
{
        struct fake f;

        fake_init(&f, ONLY_IN);
        CHECK(mkdir(in_home(&f, "in"), 0755) == 0 && mkdir(in_home(&f, "in/sub"), 0755) == 0 &&
              mkdir(in_home(&f, "in/secret"), 0755) == 0);
        fake_put(&f, "in/b.c", "");
        fake_put(&f, "in/a.c", "x");
        fake_put(&f, "in/sub/c.c", "");
        fake_put(&f, "in/secret/key", "");
        CHECK(symlink("/etc", in_home(&f, "in/link")) == 0);
        fake_put(&f, "in/bad\377name", "");
        fake_call(&f, "file.list", "{\"path\":\"in\"}");
        CHECK_INT(entries(&f), 6);
        CHECK_STR(entry(&f, 0), "a.c");
        CHECK_STR(entry(&f, 2), "bad\xef\xbf\xbdname");
        CHECK_STR(entry(&f, 3), "link");
        CHECK_STR(
                cJSON_GetObjectItem(cJSON_GetArrayItem(cJSON_GetObjectItem(f.outputs, "entries"), 3), "type")
                        ->valuestring,
                "symlink");
        fake_call(&f, "file.list", "{\"path\":\"in\",\"recursive\":true,\"glob\":\"*.c\"}");
        CHECK_INT(entries(&f), 3);
        CHECK_STR(entry(&f, 2), "sub/c.c");
        fake_call(&f, "file.list", "{\"path\":\"in\",\"recursive\":true,\"glob\":\"s*/*\"}");
        CHECK_INT(entries(&f), 1); /* secret is not entered */
        fake_call(&f, "file.list", "{\"path\":\"in\",\"recursive\":true,\"limit\":2}");
        CHECK_INT(entries(&f), 2);
        CHECK_INT(fake_number(&f, "truncated"), 1);
        fake_call(&f, "file.list", "{\"path\":\"in\",\"limit\":6}");
        CHECK_INT(fake_number(&f, "truncated"), 0);
        fake_call(&f, "file.list", "{\"path\":\"in/secret\"}");
        CHECK_STR(f.code, "policy_denied");
        fake_call(&f, "file.list", "{\"path\":\"in/nope\"}");
        CHECK_STR(f.code, "not_found");
        fake_call(&f, "file.list", "{\"path\":\"in/a.c\"}");
        CHECK_INT(f.outcome, TOOL_FAILED);
        fake_fini(&f);
}

TEST(file, stat_tells_what_it_is)
{
        struct fake f;
        char hex[65];

        fake_init(&f, NULL);
        fake_put(&f, "a", "abc");
        CHECK(chmod(in_home(&f, "a"), 0640) == 0);
        CHECK(symlink("a", in_home(&f, "l")) == 0);
        fake_call(&f, "file.stat", "{\"path\":\"a\",\"sha256\":true}");
        CHECK_INT(fake_number(&f, "exists"), 1);
        CHECK_STR(fake_text(&f, "type"), "file");
        CHECK_INT(fake_number(&f, "size"), 3);
        CHECK_STR(fake_text(&f, "mode"), "0640");
        hex_of("abc", hex);
        CHECK_STR(fake_text(&f, "sha256"), hex);
        fake_call(&f, "file.stat", "{\"path\":\"l\"}");
        CHECK_STR(fake_text(&f, "type"), "file");
        fake_call(&f, "file.stat", "{\"path\":\"l\",\"follow\":false}");
        CHECK_STR(fake_text(&f, "type"), "symlink");
        CHECK_STR(fake_text(&f, "target"), "a");
        fake_call(&f, "file.stat", "{\"path\":\"nope/deeper\"}");
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        CHECK_INT(fake_number(&f, "exists"), 0);
        fake_call(&f, "file.stat", "{\"path\":\"/\"}");
        CHECK_STR(fake_text(&f, "type"), "dir");
        fake_call(&f, "file.stat", "{\"path\":\"~\"}");
        CHECK_STR(fake_text(&f, "type"), "dir");
        fake_fini(&f);
}

/* --- delete -------------------------------------------------------------------------- */

TEST(file, delete_takes_links_not_targets)
{
        struct fake f;

        fake_init(&f, ONLY_IN);
        CHECK(mkdir(in_home(&f, "in"), 0755) == 0 && mkdir(in_home(&f, "outside"), 0755) == 0 &&
              mkdir(in_home(&f, "in/d"), 0755) == 0 && mkdir(in_home(&f, "in/d/e"), 0755) == 0);
        fake_put(&f, "outside/f", "safe");
        fake_put(&f, "in/d/f", "");
        fake_put(&f, "in/d/e/g", "");
        CHECK(symlink("../outside", in_home(&f, "in/out")) == 0);
        CHECK(symlink("../../outside", in_home(&f, "in/d/out")) == 0);
        fake_call(&f, "file.delete", "{\"path\":\"in/out/f\"}");
        CHECK_STR(f.code, "policy_denied");
        fake_call(&f, "file.delete", "{\"path\":\"in/out\"}");
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        CHECK_INT(mode_of(&f, "in/out"), -1);
        fake_call(&f, "file.delete", "{\"path\":\"in/d\"}");
        CHECK_STR(f.code, "not_empty");
        fake_call(&f, "file.delete", "{\"path\":\"in/d/\",\"recursive\":true}");
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        CHECK_INT(fake_number(&f, "deleted"), 5);
        CHECK_STR(fake_get(&f, "outside/f"), "safe");
        fake_call(&f, "file.delete", "{\"path\":\"in/d\"}");
        CHECK_STR(f.code, "not_found");
        fake_call(&f, "file.delete", "{\"path\":\"in/d\",\"missing_ok\":true}");
        CHECK_INT(fake_number(&f, "deleted"), 0);
        fake_fini(&f);
}

TEST(file, delete_never_takes_roots_or_denied)
{
        static const char *const roots[] = {"~", "~/", "/", "/tmp", "~/.", "~/x/.."};
        struct fake f;

        fake_init(&f, NULL);
        CHECK(mkdir(in_home(&f, "x"), 0755) == 0 && mkdir(in_home(&f, ".config"), 0755) == 0 &&
              mkdir(in_home(&f, ".config/gh"), 0755) == 0);
        fake_put(&f, ".config/gh/token", "t");
        fake_put(&f, ".config/a", "t");
        for (size_t i = 0; i < sizeof roots / sizeof *roots; i++) {
                fake_callf(&f, "file.delete", "{\"path\":\"%s\",\"recursive\":true}", roots[i]);
                if (f.outcome != TOOL_REFUSED || strcmp(f.code, "policy_denied") != 0)
                        test_fail(__FILE__, __LINE__, "%s: %s", roots[i], f.msg);
        }
        fake_call(&f, "file.delete", "{\"path\":\"~/.config\",\"recursive\":true}");
        CHECK_STR(f.code, "policy_denied");
        CHECK_STR(fake_get(&f, ".config/a"), "t");
        fake_call(&f, "file.delete", "{\"path\":\"~/.config/gh/token\"}");
        CHECK_STR(f.code, "policy_denied");
        fake_fini(&f);
}

/* --- patch --------------------------------------------------------------------------- */

TEST(file, patch_is_all_or_nothing)
{
        struct fake f;
        char hex[65];

        fake_init(&f, NULL);
        fake_put(&f, "a", "one\ntwo\nthree\n");
        CHECK(chmod(in_home(&f, "a"), 0755) == 0);
        hex_of("one\ntwo\nthree\n", hex);
        fake_callf(&f, "file.patch",
                   "{\"path\":\"a\",\"edits\":[{\"old\":\"two\",\"new\":\"2\"}],\"if_sha256\":\"%s\"}", hex);
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        CHECK_STR(fake_text(&f, "before_sha256"), hex);
        CHECK_STR(fake_get(&f, "a"), "one\n2\nthree\n");
        CHECK_INT(mode_of(&f, "a"), 0755);
        CHECK_INT(fake_number(&f, "changes"), 1);
        fake_callf(&f, "file.patch",
                   "{\"path\":\"a\",\"edits\":[{\"old\":\"one\",\"new\":\"1\"}],\"if_sha256\":\"%s\"}", hex);
        CHECK_STR(f.code, "precondition_failed");
        fake_call(&f, "file.patch",
                  "{\"path\":\"a\",\"edits\":[{\"old\":\"one\",\"new\":\"1\"},{\"old\":\"zzz\",\"new\":\"\"}]"
                  "}");
        CHECK_STR(f.code, "patch_mismatch");
        fake_call(&f, "file.patch",
                  "{\"path\":\"a\",\"diff\":\"--- a\\n+++ a\\n@@ -1,2 +1,2 @@\\n-one\\n+1\\n 2\\n\"}");
        CHECK_STR(fake_get(&f, "a"), "1\n2\nthree\n");
        fake_call(&f, "file.patch", "{\"path\":\"a\",\"diff\":\"@@ -3 +3 @@\\n-two\\n+x\\n\"}");
        CHECK_STR(f.code, "patch_mismatch");
        CHECK(strstr(f.msg, "hunk 1"));
        fake_call(&f, "file.patch", "{\"path\":\"a\",\"diff\":\"rubbish\"}");
        CHECK_STR(f.code, "invalid_argument");
        fake_call(&f, "file.patch",
                  "{\"path\":\"new\",\"diff\":\"--- /dev/null\\n+++ b/new\\n@@ -0,0 +1 @@\\n+hi\\n\"}");
        CHECK_INT(fake_number(&f, "created"), 1);
        CHECK_STR(fake_get(&f, "new"), "hi\n");
        fake_call(&f, "file.patch", "{\"path\":\"none\",\"edits\":[{\"old\":\"a\",\"new\":\"b\"}]}");
        CHECK_STR(f.code, "not_found");
        fake_call(&f, "file.patch", "{\"path\":\"none\",\"diff\":\"@@ -1 +1 @@\\n-a\\n+b\\n\"}");
        CHECK_STR(f.code, "not_found");
        fake_call(&f, "file.patch", "{\"path\":\"a\"}");
        CHECK_INT(f.outcome, TOOL_REFUSED);
        fake_call(&f, "file.patch",
                  "{\"path\":\"a\",\"diff\":\"@@\",\"edits\":[{\"old\":\"a\",\"new\":\"b\"}]}");
        CHECK_STR(f.code, "invalid_argument");
        CHECK_INT(count_in(&f, ""), 2);
        fake_fini(&f);
}

/* --- cancel ---------------------------------------------------------------------------- */

TEST(file, cancel_before_and_during)
{
        struct fake f;
        int fd;

        fake_init(&f, NULL);
        fd = open(in_home(&f, "big"), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        CHECK(ftruncate(fd, (off_t)64 << 30) == 0);
        close(fd);
        /* Hashing 64 GiB of nothing takes longer than the test may. */
        fake_start(&f, "file.stat", "{\"path\":\"big\",\"sha256\":true}");
        uv_run(&f.loop, UV_RUN_NOWAIT);
        fake_cancel(&f, 60000);
        fake_run(&f);
        CHECK_INT(f.outcome, TOOL_CANCELLED);
        fake_start(&f, "file.stat", "{\"path\":\"big\",\"sha256\":true}");
        fake_cancel(&f, 60000);
        fake_run(&f);
        CHECK_INT(f.outcome, TOOL_CANCELLED);
        fake_fini(&f);
}

TEST(echo, gives_back_what_it_got)
{
        struct fake f;

        fake_init(&f, NULL);
        fake_call(&f, "photon.echo", "{\"a\":[1,{\"b\":null}]}");
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        CHECK_INT(cJSON_GetArraySize(cJSON_GetObjectItem(f.outputs, "a")), 2);
        fake_call(&f, "photon.echo", "{}");
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        fake_fini(&f);
}
