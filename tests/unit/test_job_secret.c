/* Secrets of a call on the agent: where they go, where they must not, and that nothing tells them. */
#include "agent/job_in.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/mask.h"
#include "common/json.h"
#include "common/mem.h"
#include "tests/lib/test.h"

#define MARK  "0123456789abcdef0123456789abcdef"
#define VALUE "s3cr3t/of+the call"

struct rig {
        Photon__V1__StepStart m;
        Photon__V1__StepSecret s[3], *p[3];
        struct job j;
        struct err e;
};

static const struct tool exec = {.name = "process.exec", .secret_env = true}, http = {.name = "http.request"};

static void rig_init(struct rig *r)
{
        *r = (struct rig){0};
        photon__v1__step_start__init(&r->m);
        r->m.secrets = r->p;
        r->m.secret_mark = (char *)(uintptr_t)MARK;
        r->j.call.job = &r->j;
}

static void add(struct rig *r, const char *name, const void *value, size_t n, const char *env, bool file)
{
        Photon__V1__StepSecret *s = &r->s[r->m.n_secrets];

        photon__v1__step_secret__init(s);
        s->name = (char *)(uintptr_t)name;
        s->env = (char *)(uintptr_t)env;
        s->file = file;
        s->value.data = (uint8_t *)(uintptr_t)value;
        s->value.len = n;
        r->p[r->m.n_secrets++] = s;
}

static void rig_fini(struct rig *r)
{
        job_secrets_free(&r->j);
        job_mask_free(&r->j);
}

/* The input after its marks were replaced. */
static char *filled(struct rig *r, const struct tool *t, const char *input)
{
        cJSON *v = NULL;
        char *text;

        CHECK_INT(json_parse(input, strlen(input), &v, &r->e), 0);
        CHECK_INT(job_secrets_fill(t, &r->m, v, &r->e), 0);
        text = json_text(v);
        cJSON_Delete(v);
        return text;
}

static void check_filled(struct rig *r, const struct tool *t, const char *input, const char *want)
{
        char *got = filled(r, t, input);

        CHECK_STR(got, want);
        mem_free(got);
}

TEST(job_secret, a_value_stands_where_its_mark_stood)
{
        struct rig r;

        rig_init(&r);
        add(&r, "KEY", VALUE, sizeof VALUE - 1, "", false);
        check_filled(&r, &http, "{\"headers\":{\"A\":\"Bearer {{photon-secret:" MARK ":KEY}}\"},\"n\":1}",
                     "{\"headers\":{\"A\":\"Bearer " VALUE "\"},\"n\":1}");
        check_filled(&r, &http,
                     "{\"l\":[[\"{{photon-secret:" MARK ":KEY}}{{photon-secret:" MARK ":KEY}}.\"]]}",
                     "{\"l\":[[\"" VALUE VALUE ".\"]]}");
        check_filled(&r, &exec,
                     "{\"env\":{\"K\":\"{{photon-secret:" MARK ":KEY}}\"},\"stdin\":\"{{photon-secret:" MARK
                     ":KEY}}\"}",
                     "{\"env\":{\"K\":\"" VALUE "\"},\"stdin\":\"" VALUE "\"}");
        rig_fini(&r);
}

TEST(job_secret, a_mark_that_is_not_this_calls_is_text)
{
        static const char *const same[] = {
                "{\"body\":\"{{photon-secret:00000000000000000000000000000000:KEY}}\"}", /* another call's */
                "{\"body\":\"{{photon-secret:" MARK ":OTHER}}\"}",                       /* not one of ours */
                "{\"body\":\"{{photon-secret:" MARK ":KEY\"}",                           /* no end */
                "{\"body\":\"{{photon-secret:" MARK ":}}\"}",
                "{\"body\":\"{{photon-secret:KEY}}\"}",
                "{\"{{photon-secret:" MARK ":KEY}}\":1}", /* a name is no place */
        };
        struct rig r;

        rig_init(&r);
        add(&r, "KEY", VALUE, sizeof VALUE - 1, "", false);
        for (size_t i = 0; i < sizeof same / sizeof *same; i++)
                check_filled(&r, &http, same[i], same[i]);
        r.m.secret_mark = (char *)(uintptr_t) ""; /* a hub that sends none */
        check_filled(&r, &http, "{\"body\":\"{{photon-secret::KEY}}\"}",
                     "{\"body\":\"{{photon-secret::KEY}}\"}");
        rig_fini(&r);
}

TEST(job_secret, a_command_line_never_gets_one)
{
        static const char line[] = "{\"argv\":[\"echo\",\"{{photon-secret:" MARK
                                   ":KEY}}\"],\"shell\":\"echo {{photon-secret:" MARK
                                   ":KEY}}\",\"cwd\":\"{{photon-secret:" MARK ":KEY}}\"}";
        struct rig r;

        rig_init(&r);
        add(&r, "KEY", VALUE, sizeof VALUE - 1, "", false);
        check_filled(&r, &exec, line, line);
        rig_fini(&r);
}

TEST(job_secret, what_is_no_text_goes_only_into_files)
{
        struct rig r;
        cJSON *v = NULL;
        static const char input[] = "{\"body\":\"{{photon-secret:" MARK ":KEY}}\"}";

        rig_init(&r);
        add(&r, "KEY", "binary\0\xff\xfe data", 14, "", false);
        CHECK_INT(json_parse(input, strlen(input), &v, &r.e), 0);
        CHECK_INT(job_secrets_fill(&http, &r.m, v, &r.e), -E_INVAL);
        cJSON_Delete(v);
        r.s[0].env = (char *)(uintptr_t) "KEY";
        CHECK_INT(job_secrets_take(&r.j, &exec, &r.m, &r.e), -E_INVAL);
        CHECK(strstr(r.e.msg, "file") != NULL);
        rig_fini(&r);
}

TEST(job_secret, a_file_is_in_memory_and_cannot_be_changed)
{
        struct rig r;
        char path[64], got[64] = "";
        struct stat st;
        int fd;

        rig_init(&r);
        add(&r, "KEY", VALUE, sizeof VALUE - 1, "KEY_FILE", true);
        add(&r, "TWO", "the-second-value", 16, "TWO_FILE", true);
        CHECK_INT(job_secrets_take(&r.j, &exec, &r.m, &r.e), 0);
        CHECK_INT(r.j.secrets[0].passed_fd, 3);
        CHECK_INT(r.j.secrets[1].passed_fd, 4);
        CHECK(r.j.secrets[0].fd >= 10);
        CHECK(fcntl(r.j.secrets[0].fd, F_GETFD) & FD_CLOEXEC);
        CHECK_INT(fstat(r.j.secrets[0].fd, &st), 0);
        CHECK_INT(st.st_nlink, 0); /* it has no name anywhere */
        snprintf(path, sizeof path, "/proc/self/fd/%d", r.j.secrets[0].fd);
        fd = open(path, O_RDONLY);
        CHECK(fd >= 0);
        CHECK_INT(read(fd, got, sizeof got), sizeof VALUE - 1);
        CHECK_STR(got, VALUE);
        close(fd);
        CHECK(write(r.j.secrets[0].fd, "x", 1) < 0);
        CHECK(ftruncate(r.j.secrets[0].fd, 0) < 0);
        fd = r.j.secrets[0].fd;
        rig_fini(&r);
        CHECK(fcntl(fd, F_GETFD) < 0); /* gone with the call */
}

TEST(job_secret, variables_that_choose_programs_and_tools_without_files_are_refused)
{
        static const char *const bad[] = {"PATH", "LD_PRELOAD", "PHOTON_OUTPUT", "A=B"};
        struct rig r;

        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
                rig_init(&r);
                add(&r, "KEY", VALUE, sizeof VALUE - 1, bad[i], false);
                CHECK_INT(job_secrets_take(&r.j, &exec, &r.m, &r.e), -E_DENIED);
                rig_fini(&r);
        }
        rig_init(&r);
        add(&r, "KEY", VALUE, sizeof VALUE - 1, "KEY", true);
        CHECK_INT(job_secrets_take(&r.j, &http, &r.m, &r.e), -E_NOTSUP);
        rig_fini(&r);
}

TEST(job_secret, a_refusal_does_not_quote_it)
{
        struct rig r;

        rig_init(&r);
        add(&r, "KEY", VALUE, sizeof VALUE - 1, "", false);
        err_set(&r.e, E_INVAL, "url: \"http://%s/\" is no address", VALUE);
        job_secrets_hide(&r.m, &r.e);
        CHECK_STR(r.e.msg, "url: \"http://***/\" is no address");
        mem_fail_nth(1);
        err_set(&r.e, E_INVAL, "url: \"http://%s/\" is no address", VALUE);
        job_secrets_hide(&r.m, &r.e);
        mem_fail_nth(0);
        CHECK(strstr(r.e.msg, VALUE) == NULL);
        rig_fini(&r);
}

TEST(job_secret, results_tell_it_neither_as_names_nor_as_numbers)
{
        struct tool_result res = {.error_message = "it said " VALUE};
        struct rig r;
        char *message = NULL, *text;

        rig_init(&r);
        add(&r, "KEY", VALUE, sizeof VALUE - 1, "KEY", false);
        add(&r, "PIN", "4929123456", 10, "PIN", false);
        CHECK_INT(job_secrets_take(&r.j, &exec, &r.m, &r.e), 0);
        res.outputs = cJSON_CreateObject();
        cJSON_AddStringToObject(res.outputs, VALUE, "x " VALUE " y");
        cJSON_AddNumberToObject(res.outputs, "n", 4929123456.0);
        cJSON_AddNumberToObject(res.outputs, "m", 5);
        res.usage = cJSON_CreateObject();
        cJSON_AddStringToObject(res.usage, "u", VALUE);
        CHECK_INT(job_mask_result(&r.j, &res, &message), 0);
        text = json_text(res.outputs);
        CHECK_STR(text, "{\"***\":\"x *** y\",\"n\":\"***\",\"m\":5}");
        mem_free(text);
        text = json_text(res.usage);
        CHECK_STR(text, "{\"u\":\"***\"}");
        mem_free(text);
        CHECK_STR(res.error_message, "it said ***");
        mem_free(message);
        cJSON_Delete(res.outputs);
        cJSON_Delete(res.usage);
        rig_fini(&r);
}

TEST(job_secret, what_a_tool_keeps_is_masked_before_it_is_cut)
{
        struct tool_filter *f = NULL;
        struct rig r;
        struct buf out;

        rig_init(&r);
        add(&r, "KEY", VALUE, sizeof VALUE - 1, "KEY", false);
        CHECK_INT(job_secrets_take(&r.j, &exec, &r.m, &r.e), 0);
        CHECK(tool_has_secrets(&r.j.call));
        buf_init(&out, 0);
        for (const char *p = "a " VALUE " b " VALUE; *p; p++)
                CHECK_INT(tool_filter(&r.j.call, &f, p, 1, false, &out), 0);
        CHECK_INT(tool_filter(&r.j.call, &f, "", 0, true, &out), 0);
        CHECK(f == NULL);
        CHECK_INT(out.len, strlen("a *** b ***"));
        CHECK_INT(memcmp(out.data, "a *** b ***", out.len), 0);
        buf_fini(&out);
        rig_fini(&r);
}

/* Each letter of a text may be an event of its own: they are one text to the mask. */
TEST(job_secret, a_text_in_pieces_is_masked_as_one)
{
        struct rig r;
        struct buf out;

        rig_init(&r);
        add(&r, "KEY", VALUE, sizeof VALUE - 1, "KEY", false);
        CHECK_INT(job_secrets_take(&r.j, &exec, &r.m, &r.e), 0);
        buf_init(&out, 0);
        for (const char *p = "a " VALUE " b s3cr3t/"; *p; p++) {
                struct buf other;

                CHECK_INT(tool_mask_piece(&r.j.call, TOOL_TEXT, p, 1, false, &out), 0);
                buf_init(&other, 0); /* what is thought meanwhile is another text */
                CHECK_INT(tool_mask_piece(&r.j.call, TOOL_THOUGHT, "-", 1, false, &other), 0);
                CHECK_INT(other.len, 1);
                buf_fini(&other);
        }
        CHECK_INT(out.len, strlen("a *** b "));
        CHECK_INT(tool_mask_piece(&r.j.call, TOOL_TEXT, "", 0, true, &out), 0);
        CHECK_INT(out.len, strlen("a *** b s3cr3t/"));
        CHECK_INT(memcmp(out.data, "a *** b s3cr3t/", out.len), 0);
        buf_fini(&out);
        rig_fini(&r);
}

TEST(job_secret, a_tool_that_starts_no_program_takes_no_variables_and_no_files)
{
        for (int file = 0; file < 2; file++) {
                struct rig r;

                rig_init(&r);
                add(&r, "KEY", VALUE, sizeof VALUE - 1, "KEY", file);
                CHECK_INT(job_secrets_take(&r.j, &http, &r.m, &r.e), -E_NOTSUP);
                CHECK(strstr(r.e.msg, "http.request starts no program"));
                CHECK(strstr(r.e.msg, "${{ secrets.KEY }}"));
                rig_fini(&r);
        }
}

TEST(job_secret, a_sentence_that_was_cut_does_not_tell_its_beginning)
{
        struct rig r;
        char *text;

        rig_init(&r);
        add(&r, "KEY", "abcdefghijklmnopqrstuvwxyz0123456789", 36, "KEY", false);
        CHECK_INT(job_secrets_take(&r.j, &exec, &r.m, &r.e), 0);
        text = job_masked_text(&r.j, "url: abcdefghijklmnopqrst");
        CHECK_STR(text, "url: ***");
        mem_free(text);
        text = job_masked_text(&r.j, "\"abcdefghijklmnopqrst...\" and 6162636465666768 and abcdefgh");
        CHECK_STR(text, "\"***...\" and *** and abcdefgh"); /* a short beginning may be any word */
        mem_free(text);
        rig_fini(&r);
}

/* A constructor that fails at each allocation leaves nothing behind and tells nothing. */
TEST(job_secret, taking_them_survives_every_lack_of_memory)
{
        for (unsigned long n = 1;; n++) {
                struct rig r;
                int rc;

                rig_init(&r);
                add(&r, "KEY", VALUE, sizeof VALUE - 1, "KEY", false);
                mem_fail_nth(n);
                rc = job_secrets_take(&r.j, &exec, &r.m, &r.e);
                mem_fail_nth(0);
                rig_fini(&r);
                if (!rc)
                        break;
                CHECK(n < 3000);
        }
}
