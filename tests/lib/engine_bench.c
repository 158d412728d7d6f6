#include "tests/lib/engine_bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/json.h"
#include "tests/lib/test.h"

static int64_t fake_us(void *ctx)
{
        return 1790000000000000 + ((struct eb *)ctx)->now_ms * 1000;
}

static int64_t fake_ms(void *ctx)
{
        return ((struct eb *)ctx)->now_ms;
}

static bool vault_open(void *ctx)
{
        return !((struct eb *)ctx)->vault_locked;
}

static const char *vault_why(void *ctx)
{
        (void)ctx;
        return "the vault of the test is locked";
}

static int64_t vault_latest(void *ctx, const char *project, const char *name)
{
        (void)ctx;
        return strcmp(project, "default") == 0 && strncmp(name, "NO", 2) != 0 ? 7 : 0;
}

static void vault_mark(void *ctx, const char *run_id, const char *step_id, uint32_t attempt,
                       char out[ENGINE_MARK_LEN])
{
        (void)ctx;
        (void)run_id;
        snprintf(out, ENGINE_MARK_LEN, "%s-%u-00000000000000000000000000000", step_id, attempt);
}

static void on_start(void *ctx, const char *agent_id, const struct engine_start *m)
{
        struct eb *b = ctx;
        struct eb_start *s;

        CHECK(b->n_starts < EB_STARTS_MAX);
        s = &b->starts[b->n_starts++];
        memset(s, 0, sizeof *s);
        s->attempt_id = m->attempt_id;
        snprintf(s->step, sizeof s->step, "%s", m->step_id);
        snprintf(s->agent, sizeof s->agent, "%s", agent_id);
        snprintf(s->input, sizeof s->input, "%s", m->input);
        s->n_secrets = m->n_secrets;
        snprintf(s->mark, sizeof s->mark, "%s", m->secret_mark);
}

static void on_cancel(void *ctx, const char *agent_id, uint64_t attempt_id, const char *reason)
{
        struct eb *b = ctx;

        (void)agent_id, (void)reason;
        for (int i = 0; i < b->n_starts; i++)
                if (b->starts[i].attempt_id == attempt_id)
                        b->starts[i].cancelled = true;
}

static void on_ack(void *ctx, const char *agent_id, uint64_t attempt_id)
{
        (void)agent_id, (void)attempt_id;
        ((struct eb *)ctx)->acks++;
}

static void on_stdin(void *ctx, const char *agent_id, uint64_t id, uint64_t off, const void *p, size_t n,
                     bool eof)
{
        (void)ctx, (void)agent_id, (void)id, (void)off, (void)p, (void)n, (void)eof;
}

static void on_reply(void *ctx, const char *agent_id, const struct engine_reply *m)
{
        struct eb *b = ctx;
        struct eb_reply *r = &b->replies[b->n_replies++];

        (void)agent_id;
        CHECK(b->n_replies <= 64);
        r->attempt_id = m->attempt_id;
        r->question_id = m->question_id;
        r->state = m->state;
        r->always = m->always;
        snprintf(r->by, sizeof r->by, "%s", m->by ? m->by : "");
        snprintf(r->reason, sizeof r->reason, "%s", m->reason ? m->reason : "");
        snprintf(r->content, sizeof r->content, "%s", m->content ? m->content : "");
}

static void on_notice(void *ctx, struct store_tx *tx, const struct engine_notice *n)
{
        struct eb *b = ctx;

        CHECK(tx != NULL && b->n_notices < 32);
        snprintf(b->notices[b->n_notices++], sizeof *b->notices, "%s %s %s", n->event, n->kind,
                 n->to ? n->to : "");
}

static void start(struct eb *b)
{
        struct store_options so = {.dir = test_scratch(), .create = true};
        struct engine_options eo = {.clock = &b->clock,
                                    .wire = {on_start, on_cancel, on_ack, on_stdin, on_reply, b},
                                    .vault = {vault_open, vault_why, vault_latest, vault_mark, b},
                                    .lost_after_ms = 1000,
                                    .question_timeout_ms = 60000,
                                    .self_approval = b->self,
                                    .notice = on_notice,
                                    .ctx = b,
                                    .budget_unpriced = b->unpriced,
                                    .seed = 7};
        struct err e = {0};

        if (store_open(&so, &b->store, &e))
                test_fail(__FILE__, __LINE__, "store: %s", e.msg);
        CHECK_INT(bus_create(1000000 + b->now_ms, &b->bus), 0);
        eo.store = b->store;
        eo.bus = b->bus;
        CHECK_INT(engine_create(&eo, &b->en, &e), 0);
        if (engine_load(b->en, &e))
                test_fail(__FILE__, __LINE__, "load: %s", e.msg);
        eb_turn(b);
}

struct eb *eb_open(void)
{
        struct eb *b = calloc(1, sizeof *b);

        CHECK(b != NULL);
        b->clock = (struct clock){fake_us, fake_ms, b};
        start(b);
        return b;
}

void eb_close(struct eb *b)
{
        store_close(b->store);
        engine_free(b->en);
        bus_free(b->bus);
        free(b);
}

void eb_start_again(struct eb *b)
{
        start(b);
}

void eb_reopen(struct eb *b)
{
        store_close(b->store);
        engine_free(b->en);
        bus_free(b->bus);
        b->now_ms += 10;
        start(b);
}

void eb_agent(struct eb *b, const char *name, uint32_t places)
{
        struct engine_tool tools[] = {{"process.exec", true},
                                      {"photon.echo", true},
                                      {"file.write", false},
                                      {"acme.think", true},
                                      {"acme.prompt", true}};
        struct engine_label labels[] = {{"zone", name}};
        struct engine_agent a = {.id = name,
                                 .name = name,
                                 .kind = "local",
                                 .os = "linux",
                                 .arch = "x86_64",
                                 .version = "t",
                                 .boot_id = "boot",
                                 .tools = tools,
                                 .n_tools = 5,
                                 .labels = labels,
                                 .n_labels = 1,
                                 .max_running = places};

        CHECK_INT(engine_agent_online(b->en, &a), 0);
        for (int i = 0; i < b->n_starts; i++)
                if (!b->starts[i].answered && !strcmp(b->starts[i].agent, name))
                        (void)engine_held(b->en, name, b->starts[i].attempt_id);
        engine_agent_seen(b->en, name, b->seen);
        engine_agent_ready(b->en, name);
        eb_turn(b);
}

void eb_agent_off(struct eb *b, const char *name)
{
        engine_agent_offline(b->en, name);
        eb_turn(b);
}

void eb_turn(struct eb *b)
{
        for (int i = 0; i < 3; i++) {
                engine_flush(b->en);
                store_pump(b->store);
        }
}

void eb_pass(struct eb *b, int64_t ms)
{
        b->now_ms += ms;
        engine_tick(b->en);
        eb_turn(b);
}

static void on_durable(void *arg, const struct engine_done *d)
{
        struct eb *b = arg;

        if (d->rc)
                test_fail(__FILE__, __LINE__, "submit: %s", d->err->msg);
        snprintf(b->run, sizeof b->run, "%s", d->run_id);
}

static void on_finished(void *arg, const struct engine_done *d)
{
        struct eb *b = arg;

        b->finished = true;
        b->finished_state = d->state;
}

static void submit(struct eb *b, const char *kind, const char *yaml, const cJSON *given)
{
        struct engine_submit s = {.def_text = yaml,
                                  .def_len = strlen(yaml),
                                  .kind = kind,
                                  .created_by = "t",
                                  .want_finish = true};
        struct err e = {0};

        if (workflow_parse(yaml, s.def_len, &s.workflow, &e))
                test_fail(__FILE__, __LINE__, "workflow: %d:%d: %s", e.line, e.col, e.msg);
        CHECK_INT(workflow_inputs(s.workflow, given, false, &s.inputs, &e), 0);
        b->run[0] = 0;
        b->finished = false;
        engine_submit(b->en, &s, on_durable, on_finished, b);
        eb_turn(b);
        CHECK(b->run[0]);
}

void eb_submit(struct eb *b, const char *yaml)
{
        submit(b, "run", yaml, NULL);
}

void eb_submit_call(struct eb *b, const char *yaml, const char *inputs)
{
        cJSON *given = NULL;

        CHECK_INT(json_parse(inputs, strlen(inputs), &given, NULL), 0);
        submit(b, "call", yaml, given);
        cJSON_Delete(given);
}

struct eb_start *eb_started(struct eb *b, const char *step)
{
        for (int i = b->n_starts; i-- > 0;)
                if (!strcmp(b->starts[i].step, step) && !b->starts[i].answered)
                        return &b->starts[i];
        return NULL;
}

void eb_answer(struct eb *b, const char *step, enum engine_outcome o, const char *outputs)
{
        struct eb_start *s = eb_started(b, step);
        struct engine_result r = {.outcome = o, .outputs = outputs, .sync_fd = -1, .finished_us = fake_us(b)};

        r.usage = b->usage;
        r.error_code = b->error_code;
        r.started_us = b->never_started ? 0 : r.finished_us;
        if (!s)
                test_fail(__FILE__, __LINE__, "step %s was not started", step);
        s->answered = true;
        r.attempt_id = s->attempt_id;
        r.has_exit_code = o == ENGINE_SUCCEEDED || o == ENGINE_FAILED;
        r.exit_code = o == ENGINE_FAILED;
        engine_on_finished(b->en, s->agent, &r, NULL, NULL);
        eb_turn(b);
}

struct look {
        const char *step, *column;
        char text[4096];
        int64_t seq;
        bool found;
};

static int look_run(void *arg, const struct row_run *r)
{
        struct look *l = arg;

        l->seq = r->seq;
        snprintf(l->text, sizeof l->text, "%s", run_state_name(r->state));
        return 0;
}

static const char *number_text(char out[32], int64_t n)
{
        snprintf(out, 32, "%lld", (long long)n);
        return out;
}

static int look_step(void *arg, const struct row_step *s)
{
        struct look *l = arg;
        const char *v = step_state_name(s->state);
        char number[32];

        l->found = true;
        if (!strcmp(l->column, "error_code"))
                v = s->error_code;
        else if (!strcmp(l->column, "error_message"))
                v = s->error_message;
        else if (!strcmp(l->column, "input"))
                v = s->input;
        else if (!strcmp(l->column, "outputs"))
                v = s->outputs;
        else if (!strcmp(l->column, "started_us"))
                v = number_text(number, s->started_us);
        else if (!strcmp(l->column, "finished_us"))
                v = number_text(number, s->finished_us);
        else if (!strcmp(l->column, "agent"))
                v = s->agent_name;
        snprintf(l->text, sizeof l->text, "%s", v ? v : "");
        return 0;
}

char *eb_column(struct eb *b, const char *step, const char *column)
{
        struct look l = {.step = step, .column = column};
        struct store_reader *rd;

        CHECK_INT(store_reader_open(b->store, &rd, NULL), 0);
        CHECK_INT(read_run(rd, b->run, look_run, &l), 0);
        if (step) {
                l.text[0] = 0;
                (void)read_step(rd, l.seq, step, look_step, &l);
        }
        store_reader_close(rd);
        return strdup(l.text);
}

const char *eb_state(struct eb *b, const char *step)
{
        static char text[64];
        char *v = eb_column(b, step, "state");

        snprintf(text, sizeof text, "%s", v);
        free(v);
        return text;
}

const char *eb_run_state(struct eb *b)
{
        static char text[64];
        char *v = eb_column(b, NULL, "");

        snprintf(text, sizeof text, "%s", v);
        free(v);
        return text;
}

static int count_attempt(void *arg, const struct row_attempt *a)
{
        (void)a;
        ++*(int *)arg;
        return 0;
}

int eb_attempts(struct eb *b)
{
        struct look l = {.column = ""};
        struct store_reader *rd;
        int n = 0;

        CHECK_INT(store_reader_open(b->store, &rd, NULL), 0);
        CHECK_INT(read_run(rd, b->run, look_run, &l), 0);
        CHECK_INT(read_attempts(rd, l.seq, -1, count_attempt, &n), 0);
        store_reader_close(rd);
        return n;
}
