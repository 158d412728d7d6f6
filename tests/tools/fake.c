#include "tests/tools/fake.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/err.h"
#include "common/json.h"
#include "common/mem.h"
#include "tests/lib/test.h"

static struct fake *of(struct tool_call *c)
{
        return c->job;
}

/* --- what a tool calls -------------------------------------------------------- */

static void on_room(uv_idle_t *i)
{
        struct fake *f = i->data;

        uv_idle_stop(i);
        if (!f->live || f->finished)
                return;
        f->since_full = 0;
        f->c.tool->output_room(&f->c);
}

int tool_output(struct tool_call *c, enum tool_channel ch, const void *p, size_t n)
{
        struct fake *f = of(c);

        CHECK(!f->finished);
        if (ch == TOOL_STDERR) {
                CHECK(buf_put(&f->err, p, n) == 0);
        } else if (ch == TOOL_EVENT) {
                CHECK(buf_put(&f->events, p, n) == 0);
        } else {
                for (size_t i = 0; i < n; i++)
                        f->out_sum ^= ((const uint8_t *)p)[i];
                f->out_bytes += n;
                if (!f->count_only)
                        CHECK(buf_put(&f->out, p, n) == 0);
        }
        if (f->on_output)
                f->on_output(f);
        f->since_full += n;
        if (!f->full_every || f->since_full < f->full_every)
                return 0;
        uv_idle_start(&f->room, on_room);
        return -E_FULL;
}

int tool_secret(struct tool_call *c, const void *p, size_t n)
{
        struct fake *f = of(c);

        CHECK(n < sizeof f->secrets - strlen(f->secrets) - 1);
        strncat(f->secrets, p, n);
        strcat(f->secrets, "\n");
        return 0;
}

bool tool_has_secrets(const struct tool_call *c)
{
        return c->n_secrets > 0;
}

/* As the job does it, without the mask: what the tools make of it is tested with the real one (test_job). */
int tool_filter(struct tool_call *c, struct tool_filter **io, const void *p, size_t n, bool last,
                struct buf *out)
{
        (void)c;
        (void)io;
        (void)last;
        return buf_put(out, p, n);
}

int tool_mask_piece(struct tool_call *c, enum tool_text which, const void *p, size_t n, bool last,
                    struct buf *out)
{
        (void)c;
        (void)which;
        (void)last;
        return buf_put(out, p, n);
}

int tool_mask_text(const struct tool_call *c, const void *p, size_t n, struct buf *out)
{
        (void)c;
        return buf_put(out, p, n);
}

cJSON *tool_mask_tree(const struct tool_call *c, const cJSON *v)
{
        (void)c;
        return cJSON_Duplicate(v, true);
}

void tool_filter_free(struct tool_filter *f)
{
        CHECK(f == NULL);
}

void tool_stdin_taken(struct tool_call *c, uint64_t offset, bool closed)
{
        CHECK(offset >= of(c)->stdin_taken);
        of(c)->stdin_taken = offset;
        of(c)->stdin_closed = closed;
        if (of(c)->on_output)
                of(c)->on_output(of(c));
}

void tool_finish(struct tool_call *c, struct tool_result *r)
{
        struct fake *f = of(c);

        CHECK(!f->finished);
        f->finished = true;
        uv_stop(&f->loop); /* a timer may have ended it: the loop must not go on to wait */
        f->outcome = r->outcome;
        f->outputs = r->outputs;
        cJSON_Delete(r->usage); /* ours to release, as the job does */
        f->has_exit_code = r->has_exit_code;
        f->exit_code = r->exit_code;
        snprintf(f->code, sizeof f->code, "%s", r->error_code ? r->error_code : "");
        snprintf(f->msg, sizeof f->msg, "%s", r->error_message ? r->error_message : "");
        CHECK((r->outcome == TOOL_SUCCEEDED) == !r->error_code);
        CHECK(r->outcome == TOOL_SUCCEEDED || (r->error_message && *r->error_message));
}

int tool_owns_process(struct tool_call *c, int pid)
{
        of(c)->pid = pid;
        return of(c)->own_rc;
}

/* --- questions --- */

static void on_deliver(uv_timer_t *t)
{
        struct fake *f = t->data;

        for (int i = 0; i < FAKE_ASKS; i++) {
                struct fake_ask a = f->asks[i];

                if (!a.id || !a.decided)
                        continue;
                f->asks[i].id = 0;
                if (!f->finished)
                        a.on_decision(a.arg, &a.d);
        }
}

static void copy(char *to, size_t n, const char *from)
{
        CHECK(!from || strlen(from) < n);
        snprintf(to, n, "%s", from ? from : "");
}

static void remember(struct fake *f, const struct tool_question *q)
{
        struct fake_question *k = &f->question;
        char *arguments = q->arguments ? json_text(q->arguments) : NULL;
        char *schema = q->schema ? json_text(q->schema) : NULL;

        memset(k, 0, sizeof *k);
        k->kind = q->kind;
        k->timeout_ms = q->timeout_ms;
        copy(k->action, sizeof k->action, q->action);
        copy(k->title, sizeof k->title, q->title);
        copy(k->tool, sizeof k->tool, q->tool);
        copy(k->mode, sizeof k->mode, q->mode);
        copy(k->command, sizeof k->command, q->command);
        snprintf(k->arguments, sizeof k->arguments, "%s", arguments ? arguments : "");
        snprintf(k->schema, sizeof k->schema, "%s", schema ? schema : "");
        for (const char *const *s = q->paths; s && *s; s++)
                snprintf(k->paths + strlen(k->paths), sizeof k->paths - strlen(k->paths), "%s%s",
                         s == q->paths ? "" : " ", *s);
        mem_free(arguments);
        mem_free(schema);
}

int tool_ask(struct tool_call *c, const struct tool_question *q,
             void (*on_decision)(void *arg, const struct tool_decision *d), void *arg, uint32_t *out_id)
{
        struct fake *f = of(c);
        struct policy_question pq = {.action = q->action,
                                     .tool = q->tool,
                                     .caller = c->tool->name,
                                     .command = q->command,
                                     .paths = q->paths,
                                     .cwd = q->cwd,
                                     .scratch = c->scratch_dir,
                                     .mode = q->mode,
                                     .form = q->kind == ASK_INPUT};
        struct policy_answer answer;
        struct fake_ask *a = NULL;

        CHECK(!f->finished);
        CHECK(q->action && q->title && *q->title);
        for (int i = 0; i < FAKE_ASKS && !a; i++)
                if (!f->asks[i].id)
                        a = &f->asks[i];
        if (!a)
                return -E_FULL;
        remember(f, q);
        policy_question(c->policy, &pq, &answer);
        *a = (struct fake_ask){.id = (uint32_t)++f->asked, .on_decision = on_decision, .arg = arg};
        *out_id = a->id;
        f->ask_reason[0] = '\0';
        if (answer.verdict != POLICY_ASK) {
                snprintf(f->ask_reason, sizeof f->ask_reason, "%s", answer.reason);
                a->d.outcome = answer.verdict == POLICY_ALLOW ? ASK_ALLOWED : ASK_DENIED;
                a->d.reason = f->ask_reason;
                a->d.by = answer.by;
                a->decided = true;
        } else if (!f->hold) {
                a->d = f->decision;
                a->decided = true;
        }
        if (!a->d.reason)
                a->d.reason = "";
        if (!a->d.by)
                a->d.by = "ada";
        if (a->decided)
                uv_timer_start(&f->deliver, on_deliver, 0, 0);
        return 0;
}

void tool_ask_withdraw(struct tool_call *c, uint32_t id)
{
        struct fake *f = of(c);

        for (int i = 0; i < FAKE_ASKS; i++) {
                if (f->asks[i].id != id)
                        continue;
                f->asks[i].id = 0;
                f->withdrawn++;
        }
}

void fake_answer(struct fake *f, const struct tool_decision *d)
{
        struct fake_ask *oldest = NULL;

        for (int i = 0; i < FAKE_ASKS; i++)
                if (f->asks[i].id && !f->asks[i].decided && (!oldest || f->asks[i].id < oldest->id))
                        oldest = &f->asks[i];
        CHECK(oldest);
        oldest->d = *d;
        if (!oldest->d.reason)
                oldest->d.reason = "";
        if (!oldest->d.by)
                oldest->d.by = "ada";
        oldest->decided = true;
        uv_timer_start(&f->deliver, on_deliver, 0, 0);
}

/* --- driving --------------------------------------------------------------------- */

int fake_fds(void)
{
        DIR *d = opendir("/proc/self/fd");
        int n = 0;

        while (d && readdir(d))
                n++;
        closedir(d);
        return n;
}

int fake_children(void)
{
        char path[64], text[4096];
        int fd, count = 0;

        snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd >= 0) {
                ssize_t n = read(fd, text, sizeof text);

                for (ssize_t i = 0; i < n; i++)
                        count += text[i] == ' ';
                close(fd);
        }
        return count;
}

bool fake_alive(int pid)
{
        char path[64], line[512], *paren;
        FILE *f;
        bool alive = false;

        snprintf(path, sizeof path, "/proc/%d/stat", pid);
        f = fopen(path, "re");
        if (!f)
                return false;
        if (fgets(line, sizeof line, f) && (paren = strrchr(line, ')')))
                alive = paren[2] != 'Z' && paren[2] != 'X';
        fclose(f);
        return alive;
}

void fake_init(struct fake *f, const char *policy)
{
        struct err e = {0};
        char path[300];

        memset(f, 0, sizeof *f);
        mem_install_hooks();
        snprintf(f->home, sizeof f->home, "%s/home", test_scratch());
        snprintf(f->scratch, sizeof f->scratch, "%s/scratch", test_scratch());
        CHECK(mkdir(f->home, 0755) == 0 || errno == EEXIST);
        CHECK(mkdir(f->scratch, 0700) == 0 || errno == EEXIST);
        setenv("HOME", f->home, 1);
        f->fds_before = fake_fds();
        if (policy) {
                FILE *p;

                snprintf(path, sizeof path, "%s/policy.yaml", test_scratch());
                p = fopen(path, "we");
                CHECK(p && fputs(policy, p) >= 0 && fclose(p) == 0 && chmod(path, 0600) == 0);
        }
        if (policy_load(policy ? path : NULL, &f->policy, &e) != 0)
                test_fail(__FILE__, __LINE__, "policy: %s", e.msg);
        CHECK(uv_loop_init(&f->loop) == 0);
        uv_idle_init(&f->loop, &f->room);
        f->room.data = f;
        uv_timer_init(&f->loop, &f->deliver);
        f->deliver.data = f;
        f->grace_ms = 2000;
}

static void forget(struct fake *f)
{
        cJSON_Delete(f->outputs);
        f->outputs = NULL;
        f->code[0] = f->msg[0] = '\0';
        buf_fini(&f->out);
        buf_fini(&f->err);
        buf_fini(&f->events);
        f->out_bytes = f->stdin_taken = 0;
        f->out_sum = 0;
        f->since_full = 0;
        memset(f->asks, 0, sizeof f->asks);
        f->asked = f->withdrawn = 0;
        f->finished = f->stdin_closed = f->has_exit_code = false;
        f->pid = f->exit_code = 0;
}

void fake_start(struct fake *f, const char *tool, const char *input)
{
        const struct tool *t = tool_find(tool);
        cJSON *in = NULL, *schema = NULL;
        struct err e = {0};
        int rc;

        CHECK(t);
        CHECK(!f->live);
        forget(f);
        rc = json_parse(input, strlen(input), &in, &e);
        if (rc)
                test_fail(__FILE__, __LINE__, "input: %s in %s", e.msg, input);
        CHECK_INT(json_parse(t->input_schema, strlen(t->input_schema), &schema, &e), 0);
        rc = json_check(schema, in, &e);
        cJSON_Delete(schema);
        f->c = (struct tool_call){.tool = t,
                                  .policy = f->policy,
                                  .loop = &f->loop,
                                  .attempt_id = 7,
                                  .run_id = "run1",
                                  .step_id = "build",
                                  .attempt = 2,
                                  .scratch_dir = f->scratch,
                                  .traceparent = f->c.traceparent ? f->c.traceparent : "",
                                  .stdin_follows = f->c.stdin_follows,
                                  .secrets = f->c.secrets,
                                  .n_secrets = f->c.n_secrets,
                                  .grace_ms = f->grace_ms,
                                  .job = f};
        if (rc == 0)
                rc = policy_tool(f->policy, tool, &e);
        if (rc == 0)
                rc = t->permit ? t->permit(f->policy, in, &e) : 0;
        if (rc == 0) {
                f->live = true;
                rc = t->start(&f->c, in, &e);
        }
        cJSON_Delete(in);
        if (rc) {
                f->live = false;
                f->finished = true;
                f->outcome = TOOL_REFUSED;
                snprintf(f->code, sizeof f->code, "%s", rc == -E_DENIED ? "policy_denied" : err_name(rc));
                snprintf(f->msg, sizeof f->msg, "%s", e.msg);
                CHECK(e.msg[0]);
        }
}

static void check_outputs(struct fake *f)
{
        cJSON *schema = NULL;
        struct err e = {0};

        if (!f->outputs)
                return;
        CHECK_INT(json_parse(f->c.tool->output_schema, strlen(f->c.tool->output_schema), &schema, &e), 0);
        if (json_check(schema, f->outputs, &e) != 0)
                test_fail(__FILE__, __LINE__, "output of %s: %s", f->c.tool->name, e.msg);
        cJSON_Delete(schema);
}

static void settle(struct fake *f)
{
        if (!f->live)
                return;
        CHECK(f->finished);
        check_outputs(f);
        f->c.tool->free(&f->c);
        f->live = false;
}

void fake_run(struct fake *f)
{
        while (!f->finished)
                uv_run(&f->loop, UV_RUN_ONCE);
        settle(f);
}

static void on_bound(uv_timer_t *t)
{
        *(bool *)t->data = true;
}

static void on_bound_closed(uv_handle_t *h)
{
        h->data = NULL;
}

void fake_run_for(struct fake *f, int ms)
{
        uv_timer_t t;
        bool over = false;

        uv_timer_init(&f->loop, &t);
        t.data = &over;
        uv_timer_start(&t, on_bound, (uint64_t)ms, 0);
        while (!f->finished && !over)
                uv_run(&f->loop, UV_RUN_ONCE);
        uv_close((uv_handle_t *)&t, on_bound_closed);
        while (t.data)
                uv_run(&f->loop, UV_RUN_NOWAIT);
        if (f->finished)
                settle(f);
}

void fake_call(struct fake *f, const char *tool, const char *input)
{
        fake_start(f, tool, input);
        fake_run(f);
}

void fake_callf(struct fake *f, const char *tool, const char *fmt, ...)
{
        char *text = NULL;
        va_list ap;

        va_start(ap, fmt);
        CHECK(vasprintf(&text, fmt, ap) >= 0);
        va_end(ap);
        fake_call(f, tool, text);
        free(text);
}

void fake_cancel(struct fake *f, int grace_ms)
{
        if (f->live && !f->finished)
                f->c.tool->cancel(&f->c, grace_ms);
}

void fake_fini(struct fake *f)
{
        int rc;

        CHECK(!f->live);
        forget(f);
        tools_stop();
        uv_run(&f->loop, UV_RUN_NOWAIT); /* takes a uv_stop of before */
        uv_run(&f->loop, UV_RUN_DEFAULT);
        tools_close();
        uv_close((uv_handle_t *)&f->room, NULL);
        uv_close((uv_handle_t *)&f->deliver, NULL);
        uv_run(&f->loop, UV_RUN_DEFAULT);
        rc = uv_loop_close(&f->loop);
        if (rc) {
                uv_print_all_handles(&f->loop, stderr);
                test_fail(__FILE__, __LINE__, "the loop still has handles");
        }
        policy_free(f->policy);
        CHECK_INT(fake_children(), 0);
}

/* --- looking ------------------------------------------------------------------------ */

const char *fake_text(const struct fake *f, const char *key)
{
        const cJSON *v = cJSON_GetObjectItemCaseSensitive(f->outputs, key);

        return cJSON_IsString(v) ? v->valuestring : "";
}

double fake_number(const struct fake *f, const char *key)
{
        const cJSON *v = cJSON_GetObjectItemCaseSensitive(f->outputs, key);

        return cJSON_IsNumber(v) ? v->valuedouble : cJSON_IsBool(v) ? cJSON_IsTrue(v) : -1;
}

void fake_put(struct fake *f, const char *name, const char *text)
{
        char path[600];
        FILE *o;

        snprintf(path, sizeof path, "%s/%s", f->home, name);
        o = fopen(path, "we");
        CHECK(o && fputs(text, o) >= 0 && fclose(o) == 0);
}

const char *fake_get(struct fake *f, const char *name)
{
        static char text[1 << 16];
        char path[600];
        FILE *o;
        size_t n;

        snprintf(path, sizeof path, "%s/%s", f->home, name);
        o = fopen(path, "re");
        if (!o)
                return NULL;
        n = fread(text, 1, sizeof text - 1, o);
        text[n] = '\0';
        fclose(o);
        return text;
}
