/* Tool calls in hand: checks, limits, reasons to stop, results over crashes. The tools are tiny and the hub
 * is a list. */
#include "agent/job.h"
#include "agent/journal.h"
#include "agent/output.h"
#include "agent/policy.h"
#include "agent/tools/tool.h"
#include "common/buf.h"
#include "common/err.h"
#include "common/file.h"
#include "common/mem.h"
#include "tests/lib/test.h"

#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

/* --- tools --- */

static struct tool_call *last_call; /* of "t.wait" */
static int starts, frees, cancels, rooms;
static char stdin_seen[256];
static bool ignore_cancel;

static void finish(struct tool_call *c, enum tool_outcome o, const char *code)
{
        struct tool_result r = {.outcome = o, .error_code = code, .error_message = code ? "it failed" : NULL};

        tool_finish(c, &r);
}

static int now_start(struct tool_call *c, const cJSON *input, struct err *e)
{
        struct tool_result r = {.outcome = TOOL_SUCCEEDED, .has_exit_code = true, .exit_code = 0};
        const cJSON *say = cJSON_GetObjectItemCaseSensitive(input, "say");

        (void)e;
        starts++;
        CHECK(access(c->scratch_dir, W_OK) == 0);
        if (say)
                tool_output(c, TOOL_STDOUT, say->valuestring, strlen(say->valuestring));
        r.outputs = cJSON_CreateObject();
        cJSON_AddStringToObject(r.outputs, "answer", "42");
        tool_finish(c, &r);
        return 0;
}

static int wait_start(struct tool_call *c, const cJSON *input, struct err *e)
{
        (void)input;
        (void)e;
        starts++;
        last_call = c;
        c->state = c;
        return 0;
}

static void wait_cancel(struct tool_call *c, int grace_ms)
{
        (void)grace_ms;
        cancels++;
        if (!ignore_cancel)
                finish(c, TOOL_CANCELLED, "cancelled_by_tool");
}

static void wait_stdin(struct tool_call *c, const void *p, size_t n, bool eof)
{
        static uint64_t taken;

        if (starts == 1 && !stdin_seen[0])
                taken = 0;
        strncat(stdin_seen, p ? p : "", n);
        taken += n;
        if (eof)
                strcat(stdin_seen, "$");
        tool_stdin_taken(c, taken, eof);
}

static void wait_room(struct tool_call *c)
{
        (void)c;
        rooms++;
}

static void wait_free(struct tool_call *c)
{
        CHECK(c->state == c);
        frees++;
}

static int bad_start(struct tool_call *c, const cJSON *input, struct err *e)
{
        (void)c;
        (void)input;
        return err_set(e, E_NOENT, "no such program");
}

static int refuse_permit(const struct policy *p, const cJSON *input, struct err *e)
{
        (void)p;
        (void)input;
        return err_set(e, E_DENIED, "policy line 3 says no");
}

static const struct tool test_tools[] = {
        {.name = "t.now",
         .input_schema = "{\"type\":\"object\",\"properties\":{\"say\":{\"type\":\"string\"}},"
                         "\"additionalProperties\":false}",
         .start = now_start},
        {.name = "t.wait",
         .input_schema = "{\"type\":\"object\"}",
         .start = wait_start,
         .cancel = wait_cancel,
         .stdin_data = wait_stdin,
         .output_room = wait_room,
         .free = wait_free},
        {.name = "t.bad", .input_schema = "{}", .start = bad_start},
        {.name = "t.denied", .input_schema = "{}", .permit = refuse_permit, .start = now_start},
        {0},
};

static const struct tool *find_tool(const char *name)
{
        for (const struct tool *t = test_tools; t->name; t++) {
                if (strcmp(t->name, name) == 0)
                        return t;
        }
        return NULL;
}

/* --- rig --- */

static uv_loop_t *new_loop(void)
{
        uv_loop_t *l = mem_alloc(sizeof *l);

        CHECK_INT(uv_loop_init(l), 0);
        return l;
}

struct rig {
        uv_loop_t *loop;
        struct policy *policy;
        struct journal *journal;
        struct output_pool *pool;
        struct jobs *jobs;
        char *dir, *scratch, *spool, *journal_path;
        bool full; /* the sink takes nothing */
        int messages, leftovers;
        size_t n_started, n_finished, n_stdin;
        uint64_t started[64];
        Photon__V1__StepFinished *finished[64];
        Photon__V1__StdinAck stdin_ack;
};

static int sink_send(void *ctx, const void *p, size_t n)
{
        struct rig *r = ctx;
        Photon__V1__AgentMessage *m;

        if (r->full)
                return -E_FULL;
        m = photon__v1__agent_message__unpack(NULL, n, p);
        CHECK(m);
        r->messages++;
        for (size_t i = 0; i < m->n_started; i++)
                r->started[r->n_started++] = m->started[i]->attempt_id;
        for (size_t i = 0; i < m->n_finished; i++) {
                r->finished[r->n_finished++] = m->finished[i];
                m->finished[i] = mem_calloc(1, sizeof **m->finished);
                photon__v1__step_finished__init(m->finished[i]);
        }
        for (size_t i = 0; i < m->n_stdin_ack; i++) {
                r->n_stdin++;
                r->stdin_ack = *m->stdin_ack[i];
        }
        /* protobuf-c frees with free(3); the stand-ins above came from there too. */
        photon__v1__agent_message__free_unpacked(m, NULL);
        return 0;
}

static void attach(struct rig *r)
{
        struct jobs_sink s = {sink_send, r};

        jobs_attach(r->jobs, &s);
}

static void on_leftovers(const char *dir, const struct journal_proc *p)
{
        (void)dir;
        (void)p;
}

static void open_parts(struct rig *r, const char *policy_text, int max_running)
{
        struct output_pool_options po = {
                .loop = r->loop, .dir = r->spool, .spool_max = 64 << 20, .linger_ms = -1};
        struct jobs_options jo = {.loop = r->loop,
                                  .scratch_root = r->scratch,
                                  .max_running = max_running,
                                  .find = find_tool,
                                  .end_leftovers = on_leftovers};
        char *policy = path_join(r->dir, "policy.yaml");
        struct err e = {0};

        CHECK_INT(file_write_atomic(policy, policy_text, strlen(policy_text), 0600, NULL), 0);
        if (policy_load(policy, &r->policy, &e) || journal_open(r->journal_path, &r->journal, NULL, &e) ||
            output_pool_create(&po, &r->pool, &e))
                test_fail(__FILE__, __LINE__, "rig: %s", e.msg);
        jo.policy = r->policy;
        jo.journal = r->journal;
        jo.pool = r->pool;
        if (jobs_create(&jo, &r->jobs, &e))
                test_fail(__FILE__, __LINE__, "rig: %s", e.msg);
        mem_free(policy);
}

static struct rig *rig_with(const char *policy_text, int max_running)
{
        struct rig *r = mem_calloc(1, sizeof *r);

        mem_install_hooks();
        r->loop = new_loop();
        r->dir = mem_strdup(test_scratch());
        r->scratch = path_join(r->dir, "scratch");
        r->spool = path_join(r->dir, "spool");
        r->journal_path = path_join(r->dir, "journal");
        CHECK_INT(file_mkdir_private(r->scratch, NULL), 0);
        open_parts(r, policy_text, max_running);
        attach(r);
        return r;
}

static struct rig *rig_make(void)
{
        return rig_with("version: 1\n", 4);
}

static void turn(struct rig *r)
{
        uv_run(r->loop, UV_RUN_NOWAIT);
        output_pool_turn(r->pool);
        jobs_turn(r->jobs);
}

static void close_parts(struct rig *r)
{
        jobs_close(r->jobs, NULL, NULL);
        uv_run(r->loop, UV_RUN_DEFAULT);
        output_pool_close(r->pool, NULL, NULL);
        uv_run(r->loop, UV_RUN_DEFAULT);
        journal_free(r->journal);
        policy_free(r->policy);
}

static void forget_heard(struct rig *r)
{
        for (size_t i = 0; i < r->n_finished; i++)
                photon__v1__step_finished__free_unpacked(r->finished[i], NULL);
        r->n_finished = r->n_started = r->n_stdin = 0;
        r->messages = 0;
}

static void rig_free(struct rig *r)
{
        close_parts(r);
        forget_heard(r);
        CHECK_INT(uv_loop_close(r->loop), 0);
        mem_free(r->loop);
        mem_free(r->dir);
        mem_free(r->scratch);
        mem_free(r->spool);
        mem_free(r->journal_path);
        mem_free(r);
}

/* kill -9: what is on disk stays. The dead agent's memory is kept where a leak checker sees it. */
static struct rig graves[8];
static size_t n_graves;

static void crash(struct rig *r)
{
        char *text;
        size_t n;

        CHECK(n_graves < sizeof graves / sizeof *graves);
        graves[n_graves++] = *r;

        CHECK_INT(file_read(r->journal_path, 1 << 24, &text, &n, NULL), 0);
        CHECK_INT(unlink(r->journal_path), 0);
        CHECK_INT(file_write_atomic(r->journal_path, text, n, 0600, NULL), 0);
        mem_free(text);
        forget_heard(r);
        r->loop = new_loop();
        open_parts(r, "version: 1\n", 4);
}

static void start_with(struct rig *r, uint64_t id, const char *tool, const char *input, uint32_t timeout_ms,
                       bool in)
{
        Photon__V1__StepStart s = PHOTON__V1__STEP_START__INIT, *list[] = {&s};
        Photon__V1__HubMessage m = PHOTON__V1__HUB_MESSAGE__INIT;

        s.attempt_id = id;
        s.run_id = (char *)"run-1";
        s.step_id = (char *)"step-1";
        s.attempt = 1;
        s.tool = (char *)(uintptr_t)tool;
        s.input = (char *)(uintptr_t)input;
        s.timeout_ms = timeout_ms;
        s.grace_ms = 100;
        s.stdin_follows = in;
        m.start = list;
        m.n_start = 1;
        jobs_handle(r->jobs, &m);
}

static void start(struct rig *r, uint64_t id, const char *tool, const char *input)
{
        start_with(r, id, tool, input, 0, false);
}

static void cancel(struct rig *r, uint64_t id, const char *reason)
{
        Photon__V1__StepCancel c = PHOTON__V1__STEP_CANCEL__INIT, *list[] = {&c};
        Photon__V1__HubMessage m = PHOTON__V1__HUB_MESSAGE__INIT;

        c.attempt_id = id;
        c.reason = (char *)(uintptr_t)reason;
        m.cancel = list;
        m.n_cancel = 1;
        jobs_handle(r->jobs, &m);
}

static void ack(struct rig *r, uint64_t id)
{
        Photon__V1__ResultAck a = PHOTON__V1__RESULT_ACK__INIT, *list[] = {&a};
        Photon__V1__HubMessage m = PHOTON__V1__HUB_MESSAGE__INIT;

        a.attempt_id = id;
        m.ack = list;
        m.n_ack = 1;
        jobs_handle(r->jobs, &m);
}

static void give_stdin(struct rig *r, uint64_t id, uint64_t offset, const char *text, bool eof)
{
        Photon__V1__StdinData d = PHOTON__V1__STDIN_DATA__INIT, *list[] = {&d};
        Photon__V1__HubMessage m = PHOTON__V1__HUB_MESSAGE__INIT;

        d.attempt_id = id;
        d.offset = offset;
        d.data.data = (uint8_t *)(uintptr_t)text;
        d.data.len = strlen(text);
        d.eof = eof;
        m.stdin_data = list;
        m.n_stdin_data = 1;
        jobs_handle(r->jobs, &m);
}

/* One answer for one held attempt. */
static void apply(struct rig *r, uint64_t id, Photon__V1__HeldVerdict v, uint64_t from)
{
        Photon__V1__HeldReply h = PHOTON__V1__HELD_REPLY__INIT, *list[] = {&h};
        Photon__V1__HelloReply m = PHOTON__V1__HELLO_REPLY__INIT;

        h.attempt_id = id;
        h.verdict = v;
        h.output_from = from;
        m.held = list;
        m.n_held = 1;
        jobs_apply_held(r->jobs, &m);
}

static const Photon__V1__StepFinished *only_result(const struct rig *r, uint64_t id)
{
        CHECK_INT(r->n_finished, 1);
        CHECK_INT(r->finished[0]->attempt_id, id);
        return r->finished[0];
}

/* --- tests --- */

TEST(job, fast_call_sends_only_its_result_in_one_message)
{
        struct rig *r = rig_make();
        const Photon__V1__StepFinished *f;

        start(r, 1, "t.now", "{\"say\":\"hello\"}");
        start(r, 2, "t.now", "{}");
        turn(r);
        CHECK_INT(r->n_started, 0);
        CHECK_INT(r->n_finished, 2);
        CHECK_INT(r->messages, 1);
        f = r->finished[0];
        CHECK_INT(f->outcome, PHOTON__V1__OUTCOME__OUTCOME_SUCCEEDED);
        CHECK_STR(f->outputs, "{\"answer\":\"42\"}");
        CHECK_INT(f->output_bytes, 5);
        CHECK_INT(f->n_inline_output, 1);
        CHECK(memcmp(f->inline_output[0]->data.data, "hello", 5) == 0);
        CHECK(f->has_exit_code);
        CHECK_INT(journal_count(r->journal), 2);
        ack(r, 1);
        ack(r, 2);
        ack(r, 2);
        turn(r);
        CHECK_INT(journal_count(r->journal), 0);
        CHECK_INT(jobs_unacked(r->jobs), 0);
        rig_free(r);
}

/* A tool that knows a secret writes it in pieces, on two channels, and in its result. */
TEST(job, what_a_tool_says_is_secret_never_leaves)
{
        static const char secret[] = "tok/en-4711";
        struct tool_result res = {.outcome = TOOL_FAILED, .error_code = "oops", .has_exit_code = true};
        struct rig *r = rig_make();
        const Photon__V1__StepFinished *f;
        struct buf seen;

        start(r, 1, "t.wait", "{}");
        CHECK_INT(tool_output(last_call, TOOL_STDOUT, "before ", 7), 0);
        CHECK_INT(tool_secret(last_call, secret, strlen(secret)), 0);
        CHECK_INT(tool_secret(last_call, "short", 5), -E_INVAL);
        for (size_t i = 0; i < strlen(secret); i++) {
                CHECK_INT(tool_output(last_call, TOOL_STDOUT, secret + i, 1), 0);
                CHECK_INT(tool_output(last_call, TOOL_STDERR, ".", 1), 0);
        }
        CHECK_INT(tool_output(last_call, TOOL_EVENT, "{\"x\":\"tok\\/en-4711\"}\n", 21), 0);
        CHECK_INT(tool_output(last_call, TOOL_STDOUT, " after tok/en", 13), 0);
        res.outputs = cJSON_CreateObject();
        cJSON_AddStringToObject(res.outputs, "text", "the key is tok/en-4711");
        cJSON_AddItemToObject(res.outputs, "list",
                              cJSON_CreateStringArray((const char *const[]){"a", secret}, 2));
        res.error_message = "status 401 for tok/en-4711";
        tool_finish(last_call, &res);
        turn(r);
        f = only_result(r, 1);
        CHECK_STR(f->outputs, "{\"text\":\"the key is ***\",\"list\":[\"a\",\"***\"]}");
        CHECK_STR(f->error_message, "status 401 for ***");
        buf_init(&seen, 0);
        for (size_t i = 0; i < f->n_inline_output; i++)
                CHECK_INT(buf_put(&seen, f->inline_output[i]->data.data, f->inline_output[i]->data.len), 0);
        CHECK_INT(buf_putc(&seen, '\0'), 0);
        CHECK(!strstr((const char *)seen.data, "4711"));
        CHECK(strstr((const char *)seen.data, " after tok/en")); /* held back to the end, not lost */
        CHECK(strstr((const char *)seen.data, "{\"x\":\"***\"}"));
        buf_fini(&seen);
        ack(r, 1);
        rig_free(r);
}

TEST(job, long_call_is_started_then_finished)
{
        struct rig *r = rig_make();

        start(r, 1, "t.wait", "{}");
        turn(r);
        CHECK_INT(r->n_started, 1);
        CHECK_INT(r->n_finished, 0);
        CHECK_INT(jobs_running(r->jobs), 1);
        CHECK_INT(journal_get(r->journal, 1)->state, JOURNAL_RUNNING);
        start(r, 1, "t.wait", "{}"); /* a repeat changes nothing */
        CHECK_INT(starts, 1);
        finish(last_call, TOOL_FAILED, "exit_nonzero");
        CHECK_INT(frees, 0);
        turn(r);
        CHECK_INT(frees, 1);
        CHECK_INT(only_result(r, 1)->outcome, PHOTON__V1__OUTCOME__OUTCOME_FAILED);
        CHECK_STR(r->finished[0]->error_code, "exit_nonzero");
        ack(r, 1);
        rig_free(r);
}

TEST(job, is_in_the_journal_before_it_starts)
{
        struct rig *r = rig_make();
        char *text;
        size_t n;

        start(r, 1, "t.wait", "{}");
        CHECK_INT(file_read(r->journal_path, 1 << 20, &text, &n, NULL), 0);
        CHECK(memmem(text, n, "t.wait", 6));
        mem_free(text);
        finish(last_call, TOOL_SUCCEEDED, NULL);
        turn(r);
        rig_free(r);
}

static void check_refused(struct rig *r, uint64_t id, const char *code)
{
        turn(r);
        CHECK_INT(only_result(r, id)->outcome, PHOTON__V1__OUTCOME__OUTCOME_REFUSED);
        CHECK_STR(r->finished[0]->error_code, code);
        CHECK(r->finished[0]->error_message[0]);
        ack(r, id);
        turn(r);
        CHECK_INT(journal_count(r->journal), 0);
        forget_heard(r);
}

TEST(job, refusals_have_their_codes)
{
        struct rig *r = rig_with(
                "version: 1\ntools: {allow: [\"t.*\"], deny: [\"t.forbidden\"]}\nlimits: {input: 1KiB}\n", 4);
        char big[1200];

        start(r, 1, "no.such", "{}");
        check_refused(r, 1, "unknown_tool");
        start(r, 2, "t.denied", "{}");
        check_refused(r, 2, "policy_denied");
        start(r, 3, "t.now", "{\"sya\":1}");
        check_refused(r, 3, "invalid_input");
        start(r, 4, "t.now", "{\"say\":");
        check_refused(r, 4, "invalid_input");
        start(r, 5, "t.bad", "{}");
        check_refused(r, 5, "not_found");
        snprintf(big, sizeof big, "{\"say\":\"%01100d\"}", 0);
        start(r, 6, "t.now", big);
        check_refused(r, 6, "input_too_large");
        jobs_drain(r->jobs, JOBS_DRAIN_STOP, true);
        start(r, 7, "t.now", "{}");
        check_refused(r, 7, "agent_draining");
        CHECK_INT(starts, 0);
        rig_free(r);
}

/* Programs write any bytes, and sentences that repeat them are cut anywhere; the hub takes UTF-8 alone. */
TEST(job, a_sentence_in_other_bytes_reaches_the_hub_as_text)
{
        struct rig *r = rig_make();
        struct tool_result said = {
                .outcome = TOOL_FAILED, .error_code = "x_failed", .error_message = "it wrote a\xff and \xc3"};

        start(r, 1, "t.wait", "{}");
        turn(r);
        tool_finish(last_call, &said);
        turn(r);
        CHECK_STR(only_result(r, 1)->error_message, "it wrote a\xef\xbf\xbd and \xef\xbf\xbd");
        CHECK_STR(r->finished[0]->error_code, "x_failed");
        rig_free(r);
}

TEST(job, max_running_is_busy)
{
        struct rig *r = rig_with("version: 1\n", 1);

        start(r, 1, "t.wait", "{}");
        start(r, 2, "t.wait", "{}");
        turn(r);
        CHECK_STR(only_result(r, 2)->error_code, "agent_busy");
        forget_heard(r);
        finish(last_call, TOOL_SUCCEEDED, NULL);
        start(r, 3, "t.now", "{}");
        turn(r);
        CHECK_INT(r->n_finished, 2);
        rig_free(r);
}

TEST(job, cancel_says_cancelled_with_the_reason)
{
        struct rig *r = rig_make();

        start(r, 1, "t.wait", "{}");
        turn(r);
        cancel(r, 1, "the run was cancelled by ann");
        turn(r);
        CHECK_INT(only_result(r, 1)->outcome, PHOTON__V1__OUTCOME__OUTCOME_CANCELLED);
        CHECK_STR(r->finished[0]->error_message, "the run was cancelled by ann");
        cancel(r, 77, "unknown"); /* ignored */
        rig_free(r);
}

TEST(job, timeout_is_timed_out)
{
        struct rig *r = rig_make();

        start_with(r, 1, "t.wait", "{}", 30, false);
        turn(r);
        while (r->n_finished == 0) {
                uv_run(r->loop, UV_RUN_ONCE);
                turn(r);
        }
        CHECK_INT(only_result(r, 1)->outcome, PHOTON__V1__OUTCOME__OUTCOME_TIMED_OUT);
        CHECK_STR(r->finished[0]->error_code, "timeout");
        rig_free(r);
}

TEST(job, policy_runtime_is_the_upper_limit)
{
        struct rig *r = rig_with("version: 1\nlimits: {runtime: 30ms}\n", 4);

        start_with(r, 1, "t.wait", "{}", 3600000, false);
        while (r->n_finished == 0) {
                uv_run(r->loop, UV_RUN_ONCE);
                turn(r);
        }
        CHECK_STR(only_result(r, 1)->error_code, "timeout");
        rig_free(r);
}

TEST(job, output_over_the_policy_ends_the_call)
{
        struct rig *r = rig_with("version: 1\nlimits: {output: 1KiB}\n", 4);
        char b[600];

        memset(b, 'x', sizeof b);
        start(r, 1, "t.wait", "{}");
        turn(r);
        CHECK_INT(tool_output(last_call, TOOL_STDOUT, b, sizeof b), 0);
        CHECK_INT(cancels, 0);
        tool_output(last_call, TOOL_STDOUT, b, sizeof b);
        CHECK_INT(cancels, 1);
        turn(r);
        CHECK_STR(only_result(r, 1)->error_code, "output_limit");
        CHECK_INT(r->finished[0]->outcome, PHOTON__V1__OUTCOME__OUTCOME_FAILED);
        CHECK_INT(r->finished[0]->output_bytes, 1024);
        rig_free(r);
}

TEST(job, stdin_comes_once_and_in_order)
{
        struct rig *r = rig_make();

        start_with(r, 1, "t.wait", "{}", 0, true);
        give_stdin(r, 1, 0, "hello ", false);
        give_stdin(r, 1, 0, "hello world", false);
        give_stdin(r, 1, 20, "gap", false);
        give_stdin(r, 1, 11, "", true);
        turn(r);
        CHECK_STR(stdin_seen, "hello world$");
        CHECK_INT(r->stdin_ack.offset, 11);
        CHECK(r->stdin_ack.closed);
        finish(last_call, TOOL_SUCCEEDED, NULL);
        turn(r);
        rig_free(r);
}

TEST(job, results_wait_for_room_and_connection)
{
        struct rig *r = rig_make();
        uint64_t id;

        r->full = true;
        start(r, 1, "t.now", "{\"say\":\"x\"}");
        turn(r);
        CHECK_INT(r->n_finished, 0);
        r->full = false;
        jobs_writable(r->jobs);
        turn(r);
        only_result(r, 1);
        forget_heard(r);

        jobs_attach(r->jobs, NULL);
        start(r, 2, "t.now", "{}");
        turn(r);
        CHECK_INT(r->n_finished, 0);
        attach(r);
        apply(r, 1, PHOTON__V1__HELD_VERDICT__HELD_FORGET, 0);
        turn(r);
        id = only_result(r, 2)->attempt_id;
        ack(r, id);
        turn(r);
        CHECK_INT(journal_count(r->journal), 0);
        rig_free(r);
}

static Photon__V1__AttemptState held_state(struct rig *r, uint64_t id)
{
        Photon__V1__HelloRequest m = PHOTON__V1__HELLO_REQUEST__INIT;
        Photon__V1__AttemptState s = PHOTON__V1__ATTEMPT_STATE__ATTEMPT_UNSPECIFIED;

        CHECK_INT(jobs_held(r->jobs, &m), 0);
        for (size_t i = 0; i < m.n_held; i++) {
                if (m.held[i]->attempt_id == id)
                        s = m.held[i]->state;
        }
        jobs_held_free(&m);
        return s;
}

TEST(job, results_survive_a_crash_and_are_sent_the_same)
{
        struct rig *r = rig_make();
        size_t n;
        uint8_t *a, *b;

        start(r, 1, "t.now", "{\"say\":\"hello\"}");
        turn(r);
        n = photon__v1__step_finished__get_packed_size(only_result(r, 1));
        a = mem_alloc(n);
        b = mem_alloc(n);
        photon__v1__step_finished__pack(r->finished[0], a);
        crash(r);
        CHECK_INT(held_state(r, 1), PHOTON__V1__ATTEMPT_STATE__ATTEMPT_FINISHED);
        attach(r);
        apply(r, 1, PHOTON__V1__HELD_VERDICT__HELD_KEEP, 0);
        turn(r);
        CHECK_INT(photon__v1__step_finished__get_packed_size(only_result(r, 1)), n);
        photon__v1__step_finished__pack(r->finished[0], b);
        CHECK(memcmp(a, b, n) == 0);
        mem_free(a);
        mem_free(b);
        ack(r, 1);
        rig_free(r);
}

TEST(job, running_when_the_agent_died_is_lost)
{
        struct rig *r = rig_make();

        start(r, 1, "t.wait", "{}");
        turn(r);
        crash(r);
        CHECK_INT(held_state(r, 1), PHOTON__V1__ATTEMPT_STATE__ATTEMPT_LOST);
        CHECK_INT(jobs_running(r->jobs), 0);
        attach(r);
        apply(r, 1, PHOTON__V1__HELD_VERDICT__HELD_KEEP, 0);
        turn(r);
        CHECK_INT(only_result(r, 1)->outcome, PHOTON__V1__OUTCOME__OUTCOME_LOST);
        CHECK_STR(r->finished[0]->error_code, "agent_lost");
        crash(r); /* and once more: still lost, still there */
        CHECK_INT(held_state(r, 1), PHOTON__V1__ATTEMPT_STATE__ATTEMPT_LOST);
        rig_free(r);
}

TEST(job, held_verdicts)
{
        struct rig *r = rig_make();

        start(r, 1, "t.wait", "{}");
        turn(r);
        forget_heard(r);
        jobs_attach(r->jobs, NULL);
        CHECK_INT(held_state(r, 1), PHOTON__V1__ATTEMPT_STATE__ATTEMPT_RUNNING);
        attach(r);
        apply(r, 1, PHOTON__V1__HELD_VERDICT__HELD_KEEP, 0);
        turn(r);
        CHECK_INT(r->n_started, 1); /* the hub may not have seen it */
        apply(r, 1, PHOTON__V1__HELD_VERDICT__HELD_CANCEL, 0);
        turn(r);
        CHECK_INT(only_result(r, 1)->outcome, PHOTON__V1__OUTCOME__OUTCOME_CANCELLED);
        ack(r, 1);
        forget_heard(r);

        start(r, 2, "t.wait", "{}");
        turn(r);
        apply(r, 2, PHOTON__V1__HELD_VERDICT__HELD_FORGET, 0);
        turn(r);
        CHECK_INT(cancels, 2);
        CHECK_INT(r->n_finished, 0);
        CHECK_INT(journal_count(r->journal), 0);
        rig_free(r);
}

TEST(job, agent_stop_is_lost_not_cancelled)
{
        struct rig *r = rig_make();

        start(r, 1, "t.wait", "{}");
        turn(r);
        jobs_stop_all(r->jobs, 100);
        turn(r);
        CHECK_INT(only_result(r, 1)->outcome, PHOTON__V1__OUTCOME__OUTCOME_LOST);
        CHECK_STR(r->finished[0]->error_code, "agent_stopped");
        rig_free(r);
}

TEST(job, a_full_disk_refuses_new_work_and_keeps_results)
{
        struct rlimit lim = {.rlim_max = RLIM_INFINITY};
        struct rig *r = rig_make();

        signal(SIGXFSZ, SIG_IGN);
        start(r, 1, "t.wait", "{}");
        turn(r);
        forget_heard(r);
        lim.rlim_cur = journal_size_bytes(r->journal);
        CHECK_INT(setrlimit(RLIMIT_FSIZE, &lim), 0);
        start(r, 2, "t.now", "{}");
        turn(r);
        CHECK_STR(only_result(r, 2)->error_code, "agent_no_space");
        CHECK_INT(starts, 1);
        forget_heard(r);
        finish(last_call, TOOL_SUCCEEDED, NULL);
        turn(r);
        CHECK_INT(only_result(r, 1)->outcome, PHOTON__V1__OUTCOME__OUTCOME_SUCCEEDED); /* told all the same */
        CHECK(journal_unwritten(r->journal));
        lim.rlim_cur = RLIM_INFINITY;
        CHECK_INT(setrlimit(RLIMIT_FSIZE, &lim), 0);
        while (journal_unwritten(r->journal)) {
                uv_run(r->loop, UV_RUN_ONCE); /* the jobs' own timer */
                turn(r);
        }
        crash(r);
        CHECK_INT(held_state(r, 1), PHOTON__V1__ATTEMPT_STATE__ATTEMPT_FINISHED);
        rig_free(r);
}

TEST(job, large_output_of_a_finished_call_survives_a_crash)
{
        struct rig *r = rig_make();
        static char b[50000];

        memset(b, 'y', sizeof b);
        start(r, 1, "t.wait", "{}");
        turn(r);
        tool_output(last_call, TOOL_STDOUT, b, sizeof b);
        finish(last_call, TOOL_SUCCEEDED, NULL);
        turn(r);
        CHECK_INT(only_result(r, 1)->n_inline_output, 0);
        CHECK_INT(r->finished[0]->output_bytes, sizeof b);
        crash(r);
        CHECK(output_pool_spooled(r->pool) > sizeof b);
        attach(r);
        apply(r, 1, PHOTON__V1__HELD_VERDICT__HELD_KEEP, 0);
        turn(r);
        only_result(r, 1);
        ack(r, 1);
        turn(r);
        CHECK_INT(output_pool_spooled(r->pool), 0);
        rig_free(r);
}

TEST(job, what_a_call_leaves_in_its_folder_is_removed)
{
        struct rig *r = rig_make();
        char *file;
        FILE *f;

        start(r, 1, "t.wait", "{}");
        file = path_join(last_call->scratch_dir, "left");
        f = fopen(file, "w");
        CHECK(f);
        fclose(f);
        finish(last_call, TOOL_SUCCEEDED, NULL);
        turn(r);
        ack(r, 1);
        rig_free(r);
        CHECK(access(file, F_OK) != 0);
        mem_free(file);
}
