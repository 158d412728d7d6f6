/* What changed in a folder is seen on the disk. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/tools/ai_files.h"
#include "common/err.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"
#include "tests/lib/test.h"

static const char *in(const char *name)
{
        static char path[4][600];
        static int i;
        char *p = path[i++ % 4];

        snprintf(p, sizeof path[0], "%s/%s", test_scratch(), name);
        return p;
}

static void put(const char *name, const char *text)
{
        FILE *f = fopen(in(name), "we");

        CHECK(f && fputs(text, f) >= 0 && fclose(f) == 0);
}

static struct ai_files *scan(void)
{
        struct ai_files *f = NULL;

        CHECK_INT(ai_files_scan(test_scratch(), &f), 0);
        return f;
}

/* The differences as compact JSON; both pictures are released. */
static const char *changes(struct ai_files *before, struct ai_files *after, size_t max, bool *complete)
{
        static char text[2000];
        cJSON *list = cJSON_CreateArray();
        char *t;

        CHECK_INT(ai_files_changes(before, after, max, list, complete), 0);
        t = json_text(list);
        snprintf(text, sizeof text, "%s", t);
        mem_free(t);
        cJSON_Delete(list);
        ai_files_free(before);
        ai_files_free(after);
        return text;
}

TEST(ai_files, added_modified_and_deleted_are_told_apart_in_order)
{
        bool complete;
        struct ai_files *before;

        CHECK_INT(mkdir(in("src"), 0755), 0);
        put("src/kept", "same");
        put("src/old", "goes");
        put("z", "one");
        before = scan();
        CHECK_INT(unlink(in("src/old")), 0);
        put("src/new", "comes");
        put("z", "two");
        CHECK_STR(
                changes(before, scan(), 10, &complete),
                "[{\"path\":\"src/new\",\"change\":\"added\"},{\"path\":\"src/old\",\"change\":\"deleted\"},"
                "{\"path\":\"z\",\"change\":\"modified\"}]");
        CHECK(complete);
}

TEST(ai_files, a_rewrite_that_keeps_size_and_time_is_seen)
{
        bool complete;
        struct stat st;
        struct timespec times[2];
        struct ai_files *before;

        put("f", "aaaa");
        CHECK_INT(stat(in("f"), &st), 0);
        before = scan();
        CHECK_INT(unlink(in("f")), 0);
        put("other", "keeps the inode from being used again");
        put("f", "bbbb");
        times[0] = st.st_atim;
        times[1] = st.st_mtim;
        CHECK_INT(utimensat(AT_FDCWD, in("f"), times, 0), 0);
        CHECK(strstr(changes(before, scan(), 10, &complete), "{\"path\":\"f\",\"change\":\"modified\"}"));
}

TEST(ai_files, git_is_left_out_and_links_are_not_followed)
{
        bool complete;
        struct ai_files *before = scan();

        CHECK_INT(mkdir(in(".git"), 0755), 0);
        put(".git/index", "x");
        CHECK_INT(symlink("/usr", in("link")), 0);
        CHECK_STR(changes(before, scan(), 10, &complete), "[{\"path\":\"link\",\"change\":\"added\"}]");
        CHECK(complete);
}

TEST(ai_files, a_list_that_was_cut_says_so)
{
        bool complete;
        struct ai_files *before = scan();

        put("a", "1");
        put("b", "2");
        CHECK_STR(changes(before, scan(), 1, &complete), "[{\"path\":\"a\",\"change\":\"added\"}]");
        CHECK(!complete);
}

TEST(ai_files, a_folder_that_is_gone_is_incomplete_and_claims_no_deletion)
{
        bool complete;
        struct ai_files *before, *after = NULL;

        put("a", "1");
        before = scan();
        CHECK_INT(ai_files_scan(in("absent"), &after), 0);
        CHECK_STR(changes(before, after, 10, &complete), "[]");
        CHECK(!complete);
}

static int scan_once(void *arg)
{
        struct ai_files *f = NULL;
        int rc = ai_files_scan(arg, &f);

        ai_files_free(f);
        return rc;
}

TEST(ai_files, every_allocation_may_fail)
{
        char dir[600];

        put("a", "1");
        CHECK_INT(mkdir(in("d"), 0755), 0);
        put("d/b", "2");
        snprintf(dir, sizeof dir, "%s", test_scratch());
        test_each_alloc_fails(scan_once, dir);
}
