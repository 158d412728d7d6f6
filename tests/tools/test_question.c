/* What the policy answers when a tool asks: the rules, the other sections, the call's mode. */
#include "agent/policy.h"
#include "agent/policy_shell.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/err.h"
#include "tests/lib/test.h"

static char root[PATH_MAX - 100];

static const char *at(const char *name)
{
        static char path[8][PATH_MAX];
        static int turn;

        turn = (turn + 1) % 8;
        snprintf(path[turn], sizeof path[turn], "%s/%s", root, name);
        return path[turn];
}

static struct policy *load(const char *text)
{
        struct policy *p = NULL;
        struct err e = {0};
        FILE *f;

        CHECK(realpath(test_scratch(), root));
        setenv("HOME", root, 1);
        (void)mkdir(at("src"), 0755);
        (void)mkdir(at("keep"), 0755);
        f = fopen(at("policy.yaml"), "we");
        CHECK(f && fputs(text, f) >= 0 && fclose(f) == 0);
        if (policy_load(at("policy.yaml"), &p, &e) != 0)
                test_fail(__FILE__, __LINE__, "%s", e.msg);
        return p;
}

enum { ASKED = POLICY_ASK, YES = POLICY_ALLOW, NO = POLICY_DENY };

static const char *const verdicts[] = {
        [POLICY_ASK] = "ask", [POLICY_ALLOW] = "allow", [POLICY_DENY] = "deny"};

static struct policy_answer answer_of(const struct policy *p, const struct policy_question *q)
{
        struct policy_answer a;

        policy_question(p, q, &a);
        CHECK(a.verdict == POLICY_ASK || a.reason[0]);
        return a;
}

struct row {
        const char *action, *command, *path, *mode;
        int want;
};

static void check_rows(const struct policy *p, const struct row *rows, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                const char *paths[] = {rows[i].path, NULL};
                struct policy_question q = {.action = rows[i].action,
                                            .tool = "Bash",
                                            .caller = "claude-code.prompt",
                                            .command = rows[i].command,
                                            .paths = rows[i].path ? paths : NULL,
                                            .cwd = at("src"),
                                            .mode = rows[i].mode};
                struct policy_answer a = answer_of(p, &q);

                if ((int)a.verdict != rows[i].want)
                        test_fail(__FILE__, __LINE__, "row %zu: %s %s %s (%s): %s, want %s: %s", i,
                                  rows[i].action, rows[i].command ? rows[i].command : "-",
                                  rows[i].path ? rows[i].path : "-", rows[i].mode ? rows[i].mode : "-",
                                  verdicts[a.verdict], verdicts[rows[i].want], a.reason);
        }
}
#define CHECK_ROWS(p, rows) check_rows(p, rows, sizeof(rows) / sizeof *(rows))

TEST(question, without_rules_the_mode_decides)
{
        static const struct row rows[] = {
                {"edit", NULL, "a.c", NULL, ASKED},
                {"edit", NULL, "a.c", "ask", ASKED},
                {"edit", NULL, "a.c", "allow", YES},
                {"execute", "rm -rf x", NULL, "allow", YES},
                {"edit", NULL, "a.c", "deny", NO},
                {"read", NULL, "a.c", "deny", NO},
                {"edit", NULL, "a.c", "accept-edits", YES},
                {"delete", NULL, "sub/../a.c", "accept-edits", ASKED}, /* sub does not exist */
                {"move", NULL, "a.c", "accept-edits", YES},
                {"edit", NULL, "../keep/a.c", "accept-edits", ASKED},
                {"edit", NULL, "/tmp/a.c", "accept-edits", ASKED},
                {"delete", NULL, ".", "accept-edits", ASKED}, /* the folder itself */
                {"edit", NULL, NULL, "accept-edits", ASKED},
                {"execute", "make", NULL, "accept-edits", ASKED},
                {"fetch", NULL, NULL, "accept-edits", ASKED},
        };
        struct policy *p = load("version: 1\n");
        struct row fixed[sizeof rows / sizeof *rows];

        memcpy(fixed, rows, sizeof rows);
        fixed[7].want = NO; /* what cannot be resolved cannot be judged */
        CHECK_ROWS(p, fixed);
        CHECK(symlink(at("keep"), at("src/link")) == 0);
        CHECK_ROWS(p, ((struct row[]){{"edit", NULL, "link/a.c", "accept-edits", ASKED}}));
        policy_free(p);
}

TEST(question, deny_wins_then_ask_then_allow_then_the_mode)
{
        static const struct row rows[] = {
                {"delete", NULL, "a.c", "allow", NO},
                {"edit", NULL, "../keep/a.c", "allow", NO},
                {"edit", NULL, "../keepx", "allow", YES},
                {"execute", "git push origin main", NULL, "allow", ASKED},
                {"execute", "git status", NULL, "ask", YES},
                {"execute", "git status", NULL, "deny", YES}, /* the owner's rule is before the mode */
                {"read", NULL, "../keep/a.c", "ask", NO},
                {"read", NULL, "a.c", "ask", YES},
                {"execute", "git commit", NULL, NULL, ASKED},
        };
        struct policy *p =
                load("version: 1\n"
                     "questions:\n"
                     "  allow: [{action: [read, delete]}, {command: 'git *', action: execute, tool: Bash}]\n"
                     "  ask: [{command: [git push *, 'git commit*']}]\n"
                     "  deny: [{action: delete}, {paths: ['~/keep']}]\n");

        CHECK_ROWS(p, rows);
        policy_free(p);
}

/* "git status*" must not let "git status; rm -rf ~" through, however it is written. */
TEST(question, an_allowed_command_lets_no_other_through)
{
        static const struct row rows[] = {
                {"execute", "git status", NULL, NULL, YES},
                {"execute", "git  status   -s", NULL, NULL, YES},
                {"execute", "git status && ls -l | ls", NULL, NULL, YES},
                {"execute", "ls 2>/dev/null; ls >/dev/null 2>&1", NULL, NULL, YES},
                {"execute", "'git' \"status\"", NULL, NULL, YES},
                {"execute", "git status; rm -rf ~", NULL, NULL, ASKED},
                {"execute", "git status && rm x", NULL, NULL, ASKED},
                {"execute", "git status\nrm x", NULL, NULL, ASKED},
                {"execute", "git status & rm x", NULL, NULL, ASKED},
                {"execute", "git status | rm x", NULL, NULL, ASKED},
                {"execute", "git status $(rm x)", NULL, NULL, ASKED},
                {"execute", "git status \"$(rm x)\"", NULL, NULL, ASKED},
                {"execute", "git status `rm x`", NULL, NULL, ASKED},
                {"execute", "git status <(rm x)", NULL, NULL, ASKED},
                {"execute", "git status > ~/.bashrc", NULL, NULL, ASKED},
                {"execute", "git status $X", NULL, NULL, ASKED},
                {"execute", "PATH=/tmp git status", NULL, NULL, ASKED},
                {"execute", "/tmp/git status", NULL, NULL, ASKED},
                {"execute", "env git status", NULL, NULL, ASKED},
                {"execute", "git statusx", NULL, NULL, ASKED},
                {"execute", "git 'status", NULL, NULL, ASKED},
                {"execute", "(git status)", NULL, NULL, ASKED},
                {"execute", "ls", NULL, NULL, YES},
                {"execute", "ls -l /", NULL, NULL, YES},
                {"execute", "lsof", NULL, NULL, ASKED},
                {"execute", "", NULL, NULL, ASKED},
                {"execute", ";", NULL, NULL, ASKED},
                {"execute", NULL, NULL, NULL, ASKED},
        };
        struct policy *p = load("version: 1\n"
                                "questions: {allow: [{command: [git status, 'git status *', ls]}]}\n");

        CHECK_ROWS(p, rows);
        policy_free(p);
}

TEST(question, a_denied_command_is_found_wherever_it_stands)
{
        static const struct row rows[] = {
                {"execute", "sudo rm x", NULL, "allow", NO},
                {"execute", "/usr/bin/sudo rm x", NULL, "allow", NO},
                {"execute", "true; sudo rm x", NULL, "allow", NO},
                {"execute", "su\"do\" rm", NULL, "allow", NO},
                {"execute", "env A=b sudo rm x", NULL, "allow", NO},
                {"execute", "echo $(sudo rm x)", NULL, "allow", NO},
                {"execute", "echo \"`sudo rm x`\"", NULL, "allow", NO},
                {"execute", "if true; then sudo x; fi", NULL, "allow", NO},
                {"execute", "bash -c 'sudo rm x'", NULL, "allow", NO},
                {"execute", "echo sudo", NULL, "allow", YES}, /* only a word */
                {"execute", "pseudo x", NULL, "allow", YES},
                {"execute", "git push --force", NULL, "allow", NO},
                {"execute", "cd x && git  push --force", NULL, "allow", NO},
                {"execute", "x=$(git push --force)", NULL, "allow", NO},
                {"execute", "git push", NULL, "allow", YES},
        };
        struct policy *p = load("version: 1\nquestions: {deny: [{command: sudo}, {command: git push -*}]}\n");

        CHECK_ROWS(p, rows);
        policy_free(p);
}

TEST(question, what_commands_and_files_deny_is_denied)
{
        static const struct row rows[] = {
                {"execute", "curl x", NULL, "allow", NO},
                {"execute", "true && /usr/bin/curl x", NULL, "allow", NO},
                {"execute", "echo $(curl x)", NULL, "allow", NO},
                {"execute", "make", NULL, "allow", YES},
                {"edit", NULL, "../keep/x", "allow", NO},
                {"read", NULL, "../keep/x", "allow", NO},
                {"read", NULL, "/etc/shadow", "allow", YES}, /* files.deny is only what the file says */
                {"read", NULL, "/etc/passwd", "allow", YES},
                {"edit", NULL, "/etc/passwd", "allow", NO},
                {"delete", NULL, "a.c", "ask", YES},
        };
        struct policy *p = load("version: 1\n"
                                "commands: {deny: [curl]}\n"
                                "files: {read: [/], write: ['~/src'], deny: ['~/keep']}\n"
                                "questions: {allow: [{action: [edit, delete, read]}]}\n");

        CHECK_ROWS(p, rows);
        policy_free(p);
        p = load("version: 1\ncommands: {allow: [ls, make]}\n");
        CHECK_ROWS(p, ((struct row[]){{"execute", "ls -l", NULL, "allow", YES},
                                      {"execute", "ls | make", NULL, "allow", YES},
                                      {"execute", "gcc x.c", NULL, "allow", NO},
                                      {"execute", "ls; gcc x.c", NULL, "allow", NO},
                                      {"execute", "ls $(gcc)", NULL, "allow", NO}}));
        policy_free(p);
        p = load("version: 1\ncommands: {shell: false}\n");
        CHECK_ROWS(p, ((struct row[]){{"execute", "ls -l", NULL, "allow", YES},
                                      {"execute", "ls | wc", NULL, "allow", NO},
                                      {"execute", "ls $HOME", NULL, "allow", NO}}));
        policy_free(p);
}

TEST(question, the_calls_own_folder_is_open_to_it)
{
        struct policy *p = load("version: 1\n");
        const char *paths[] = {NULL, NULL};
        struct policy_question q = {.action = "edit", .paths = paths, .mode = "allow"};

        CHECK(policy_protect(p, at("src")) == 0);
        (void)mkdir(at("src/call"), 0700);
        paths[0] = at("src/call/x");
        CHECK_INT(answer_of(p, &q).verdict, POLICY_DENY);
        q.scratch = at("src/call");
        CHECK_INT(answer_of(p, &q).verdict, POLICY_ALLOW);
        paths[0] = at("src/other");
        CHECK_INT(answer_of(p, &q).verdict, POLICY_DENY);
        policy_free(p);
}

TEST(question, a_form_is_for_people_but_may_be_denied)
{
        struct policy *p =
                load("version: 1\nquestions: {allow: [{tool: '*'}], deny: [{tool: 'mcp.bad.*'}]}\n");
        struct policy_question q = {.action = "other", .tool = "mcp.good.x", .mode = "allow", .form = true};

        CHECK_INT(answer_of(p, &q).verdict, POLICY_ASK);
        q.form = false;
        CHECK_INT(answer_of(p, &q).verdict, POLICY_ALLOW);
        CHECK_STR(answer_of(p, &q).by, "policy");
        q.form = true;
        q.mode = "deny";
        CHECK_INT(answer_of(p, &q).verdict, POLICY_DENY);
        CHECK_STR(answer_of(p, &q).by, "mode");
        q.mode = NULL;
        q.tool = "mcp.bad.x";
        CHECK_INT(answer_of(p, &q).verdict, POLICY_DENY);
        policy_free(p);
        p = load("version: 1\nquestions: {deny: [{tool: 'photon.ask:*'}]}\n");
        q = (struct policy_question){.action = "other", .tool = "x", .caller = "photon.ask"};
        CHECK_INT(answer_of(p, &q).verdict, POLICY_DENY);
        CHECK(strstr(answer_of(p, &q).reason, "line 2"));
        CHECK(strstr(answer_of(p, &q).reason, "tool photon.ask:*"));
        q.caller = "acp.prompt";
        CHECK_INT(answer_of(p, &q).verdict, POLICY_ASK);
        policy_free(p);
}

TEST(question, a_text_too_long_to_read_passes_no_guard)
{
        struct policy *p = load("version: 1\nquestions: {allow: [{command: '*'}]}\n");
        static char text[SHELL_TEXT_MAX + 10];
        struct policy_question q = {.action = "execute", .command = text};

        memset(text, 'x', sizeof text - 1);
        CHECK_INT(answer_of(p, &q).verdict, POLICY_ASK);
        q.mode = "allow";
        CHECK_INT(answer_of(p, &q).verdict, POLICY_ALLOW);
        policy_free(p);
        p = load("version: 1\nquestions: {deny: [{command: sudo}]}\n");
        CHECK_INT(answer_of(p, &q).verdict, POLICY_DENY);
        policy_free(p);
        p = load("version: 1\ncommands: {deny: [sudo]}\n");
        CHECK_INT(answer_of(p, &q).verdict, POLICY_DENY);
        memset(text, ';', 6000);
        for (size_t i = 1; i < 6000; i += 2)
                text[i] = 'a';
        text[6000] = '\0';
        CHECK_INT(answer_of(p, &q).verdict, POLICY_DENY); /* more words than it reads */
        policy_free(p);
}

TEST(question, mistakes_in_rules_have_a_place)
{
        static const struct {
                const char *text, *want;
                int line, col;
        } bad[] = {
                {"version: 1\nquestions: {alow: []}\n", "did you mean \"allow\"", 2, 13},
                {"version: 1\nquestions: {allow: {}}\n", "expected a list", 2, 20},
                {"version: 1\nquestions: {allow: [x]}\n", "expected a rule", 2, 21},
                {"version: 1\nquestions: {allow: [{}]}\n", "expected a rule", 2, 21},
                {"version: 1\nquestions: {deny: [{path: /x}]}\n", "did you mean \"paths\"", 2, 21},
                {"version: 1\nquestions: {deny: [{action: write}]}\n", "is no action", 2, 29},
                {"version: 1\nquestions: {deny: [{action: []}]}\n", "matches nothing", 2, 29},
                {"version: 1\nquestions: {deny: [{tool: ''}]}\n", "matches nothing", 2, 27},
                {"version: 1\nquestions: {deny: [{paths: x}]}\n", "must start with", 2, 28},
        };

        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
                struct policy *p = NULL;
                struct err e = {0};
                FILE *f;

                CHECK(realpath(test_scratch(), root));
                f = fopen(at("policy.yaml"), "we");
                CHECK(f && fputs(bad[i].text, f) >= 0 && fclose(f) == 0);
                CHECK_INT(policy_load(at("policy.yaml"), &p, &e), -E_INVAL);
                if (!strstr(e.msg, bad[i].want) || e.line != bad[i].line || e.col != bad[i].col)
                        test_fail(__FILE__, __LINE__, "%zu: %d:%d %s", i, e.line, e.col, e.msg);
        }
}

TEST(question, rules_are_in_the_policys_words_and_digest)
{
        struct policy *p = load("version: 1\nquestions: {deny: [{action: [edit, delete], paths: ~/keep}]}\n");
        struct policy *q = load("version: 1\nquestions: {deny: [{action: [edit], paths: ~/keep}]}\n");

        CHECK(strstr(policy_text(p), "questions denied: action edit, delete; paths ~/keep\n"));
        CHECK(strcmp(policy_sha256(p), policy_sha256(q)) != 0);
        policy_free(p);
        policy_free(q);
        p = load("version: 1\nquestions: {deny: [{tool: ['a, b']}]}\n");
        q = load("version: 1\nquestions: {deny: [{tool: [a, b]}]}\n");
        CHECK(strcmp(policy_sha256(p), policy_sha256(q)) != 0);
        policy_free(p);
        policy_free(q);
}
