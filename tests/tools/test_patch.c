/* Edits and unified diffs, the pure part. */
#include "agent/tools/patch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/json.h"
#include "common/mem.h"
#include "tests/lib/test.h"

static struct err e;

/* The changed text, or NULL; static memory. */
static const char *diff(const char *text, const char *d)
{
        static char text_out[8192];
        struct buf out;
        size_t hunks = 0;
        int rc;

        buf_init(&out, 8000);
        memset(&e, 0, sizeof e);
        rc = patch_diff(text ? text : "", text ? strlen(text) : 0, text != NULL, d, strlen(d), &out, &hunks,
                        &e);
        CHECK((rc == 0) == (e.code == 0));
        snprintf(text_out, sizeof text_out, "%.*s", (int)out.len, out.data ? (char *)out.data : "");
        buf_fini(&out);
        return rc ? NULL : text_out;
}

static const char *edit(const char *text, const char *edits)
{
        static char text_out[8192];
        struct buf out;
        size_t count = 0;
        cJSON *v = NULL;
        int rc;

        buf_init(&out, 8000);
        memset(&e, 0, sizeof e);
        CHECK(json_parse(edits, strlen(edits), &v, &e) == 0);
        rc = patch_edits(text, strlen(text), v, &out, &count, &e);
        cJSON_Delete(v);
        snprintf(text_out, sizeof text_out, "%.*s", (int)out.len, out.data ? (char *)out.data : "");
        buf_fini(&out);
        return rc ? NULL : text_out;
}

#define ABC "a\nb\nc\nd\ne\nf\ng\n"

TEST(patch, hunks_apply)
{
        CHECK_STR(diff(ABC, "--- a/x\n+++ b/x\n@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n"), "a\nB\nc\nd\ne\nf\ng\n");
        CHECK_STR(diff(ABC, "diff --git a/x b/x\nindex 1..2 100644\n--- a/x\n+++ b/x\n@@ -1 +1,2 @@ func\n "
                            "a\n+a2\n@@ -6,2 +7 @@\n f\n-g\n"),
                  "a\na2\nb\nc\nd\ne\nf\n");
        CHECK_STR(diff(ABC, "@@ -0,0 +1 @@\n+top\n"), "top\n" ABC);
        CHECK_STR(diff(ABC, "@@ -7,0 +8 @@\n+end\n"), ABC "end\n");
        CHECK_STR(diff(ABC, "@@ -3,2 +2,0 @@\n-c\n-d\n"), "a\nb\ne\nf\ng\n");
        CHECK_STR(diff("", "@@ -0,0 +1 @@\n+x\n"), "x\n");
        CHECK_STR(diff("x\n", "@@ -1 +0,0 @@\n-x\n"), "");
        CHECK_STR(diff("a\n\nb\n", "@@ -1,3 +1,3 @@\n a\n\n-b\n+c\n"), "a\n\nc\n");
        CHECK_STR(diff("a\n", "From: x\n\n--- a\n+++ b\n@@ -1 +1 @@\n-a\n+b\n-- \n2.39.5\n\n"), "b\n");
}

TEST(patch, missing_newline_is_kept_exactly)
{
        CHECK_STR(diff("a\nb",
                       "@@ -2 +2 @@\n-b\n\\ No newline at end of file\n+c\n\\ No newline at end of file\n"),
                  "a\nc");
        CHECK_STR(diff("a\nb", "@@ -2 +2 @@\n-b\n\\ No newline at end of file\n+b\n"), "a\nb\n");
        CHECK_STR(diff("a\nb\n", "@@ -2 +2 @@\n-b\n+b\n\\ No newline at end of file\n"), "a\nb");
        CHECK_STR(diff("a\nb", "@@ -1,2 +1,2 @@\n-a\n+A\n b\n\\ No newline at end of file\n"), "A\nb");
        CHECK(!diff("a\nb", "@@ -2 +2 @@\n-b\n+c\n"));
        CHECK(strstr(e.msg, "lacks a newline"));
        CHECK(!diff("a\nb\n", "@@ -2 +2 @@\n-b\n\\ No newline\n+c\n"));
        CHECK(strstr(e.msg, "has a newline"));
        CHECK(!diff("a\nb\n", "@@ -1 +1 @@\n-a\n+A\n\\ No newline\n"));
}

TEST(patch, misfit_names_hunk_and_line)
{
        CHECK(!diff(ABC, "@@ -1 +1 @@\n-a\n+A\n@@ -3,2 +3,2 @@\n c\n-X\n+Y\n"));
        CHECK_INT(e.code, E_STATE);
        CHECK(strstr(e.msg, "hunk 2 (@@ -3,2 +3,2 @@)") && strstr(e.msg, "line 4") &&
              strstr(e.msg, "\"d\"") && strstr(e.msg, "\"X\""));
        CHECK(!diff(ABC, "@@ -2,2 +2,2 @@\n e\n-f\n+F\n"));
        CHECK(strstr(e.msg, "stand at line 5"));
        CHECK(!diff(ABC, "@@ -9 +9 @@\n-x\n+y\n"));
        CHECK(strstr(e.msg, "only 7 lines"));
        CHECK(!diff(ABC, "@@ -7,2 +7,2 @@\n g\n-h\n+H\n"));
        CHECK(strstr(e.msg, "ends before line 8"));
        CHECK(!diff(ABC, "@@ -5 +5 @@\n-e\n+E\n@@ -2 +2 @@\n-b\n+B\n"));
        CHECK(strstr(e.msg, "out of order"));
        CHECK(!diff("a\r\nb\r\n", "@@ -1 +1 @@\n-a\n+A\n"));
        CHECK(strstr(e.msg, "CRLF"));
}

TEST(patch, malformed_diffs_are_refused)
{
        static const char *const bad[] = {
                "",
                "hello\n",
                "--- a\n+++ b\n",
                "@@ -1 +1\n",
                "@@ -x +1 @@\n-a\n",
                "@@ -1,99999999999999 +1 @@\n-a\n",
                "@@ -1,2 +1 @@\n-a\n",
                "@@ -1 +1 @@\n-a\n*b\n",
                "@@ -1 +1 @@\n-a\n+b\n+c\n",
                "--- a\n@@ -1 +1 @@\n-a\n+b\n",
                "--- a\n+++ b\n@@ -1 +1 @@\n-a\n+b\n--- c\n+++ d\n@@ -1 +1 @@\n-a\n+b\n",
                "--- a\n+++ /dev/null\n@@ -1,7 +0,0 @@\n-a\n",
                "--- /dev/null\n+++ b\n@@ -0,0 +1 @@\n+a\n",
                "@@ -0,1 +1 @@\n-a\n+b\n",
                "Binary files a and b differ\n",
        };

        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
                if (diff(ABC, bad[i]))
                        test_fail(__FILE__, __LINE__, "accepted: %s", bad[i]);
        CHECK_STR(diff(NULL, "--- /dev/null\n+++ b/x\n@@ -0,0 +1,2 @@\n+a\n+b\n"), "a\nb\n");
        CHECK(!diff(NULL, "--- a/x\n+++ b/x\n@@ -0,0 +1 @@\n+a\n"));
        CHECK_INT(e.code, E_NOENT);
}

/* Found by fuzz_patch: the blanks after the last hunk were counted beyond the end of a diff that has no NUL
 * there. */
TEST(patch, diff_needs_no_nul)
{
        static const char whole[] = "@@ -1 +1 @@\n-a\n+b\n \nX";
        size_t n = sizeof whole - 2; /* without X */
        char *d = malloc(n);
        struct buf out;
        size_t hunks = 0;

        CHECK(d);
        memcpy(d, whole, n);
        buf_init(&out, 0);
        CHECK_INT(patch_diff("a\n", 2, true, d, n, &out, &hunks, NULL), 0);
        CHECK(hunks == 1 && out.len == 2 && memcmp(out.data, "b\n", 2) == 0);
        buf_fini(&out);
        free(d);
}

TEST(patch, edits_are_exact)
{
        CHECK_STR(edit("one two three", "[{\"old\":\"two\",\"new\":\"2\"}]"), "one 2 three");
        CHECK_STR(edit("a a a", "[{\"old\":\"a\",\"new\":\"aa\",\"replace_all\":true}]"), "aa aa aa");
        CHECK_STR(edit("x", "[{\"old\":\"x\",\"new\":\"y\"},{\"old\":\"y\",\"new\":\"\"}]"), "");
        CHECK(!edit("a\nb\na\n", "[{\"old\":\"b\",\"new\":\"c\"},{\"old\":\"a\",\"new\":\"c\"}]"));
        CHECK_INT(e.code, E_STATE);
        CHECK(strstr(e.msg, "edits[1]") && strstr(e.msg, "lines 1, 3 (2 times)"));
        CHECK(!edit("aaa", "[{\"old\":\"aa\",\"new\":\"c\"}]"));
        CHECK(!edit("abc", "[{\"old\":\"x\",\"new\":\"c\"}]"));
        CHECK(strstr(e.msg, "edits[0]") && strstr(e.msg, "not in the file"));
        CHECK(!edit("abc", "[{\"old\":\"\",\"new\":\"c\"}]"));
        CHECK(!edit("abc", "[]"));
        CHECK(!edit("abc", "[{\"old\":\"a\",\"new\":\"c\",\"all\":true}]"));
        CHECK(strstr(e.msg, "all"));
}

TEST(patch, growth_is_bounded)
{
        char text[2001];

        memset(text, 'a', 2000);
        text[2000] = '\0';
        CHECK(!edit(text, "[{\"old\":\"a\",\"new\":\"bbbbbbbbbb\",\"replace_all\":true}]"));
        CHECK_INT(e.code, E_TOOBIG);
}

static int diff_once(void *arg)
{
        struct buf out;
        size_t hunks;
        int rc;

        (void)arg;
        buf_init(&out, 0);
        rc = patch_diff(ABC, strlen(ABC), true, "@@ -2 +2 @@\n-b\n+B\n", 18, &out, &hunks, NULL);
        buf_fini(&out);
        return rc;
}

TEST(patch, survives_lack_of_memory)
{
        test_each_alloc_fails(diff_once, NULL);
}
