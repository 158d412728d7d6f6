/* Every kind of row goes through the store and comes back as it was. */
#include "tests/unit/store_world.h"

#include <stdio.h>
#include <stdlib.h>

static bool same(const char *a, const char *b)
{
        return a && b ? strcmp(a, b) == 0 : a == b;
}

static int on_run(void *arg, const struct row_run *r)
{
        const struct row_run *want = arg;

        CHECK_INT(r->seq, want->seq);
        CHECK(same(r->id, want->id));
        CHECK(same(r->workflow, want->workflow));
        CHECK(same(r->kind, want->kind));
        CHECK(same(r->def_sha256, want->def_sha256));
        CHECK_INT(r->state, want->state);
        CHECK(same(r->inputs, want->inputs));
        CHECK(same(r->outputs, want->outputs));
        CHECK(same(r->error_code, want->error_code));
        CHECK(same(r->error_message, want->error_message));
        CHECK(same(r->created_by, want->created_by));
        CHECK(same(r->concurrency_group, want->concurrency_group));
        CHECK_INT(r->priority, want->priority);
        CHECK_INT(r->cancel_requested, want->cancel_requested);
        CHECK_INT(r->created_us, want->created_us);
        CHECK_INT(r->started_us, want->started_us);
        CHECK_INT(r->finished_us, want->finished_us);
        CHECK_INT(r->n_steps, want->n_steps);
        CHECK(same(r->project, want->project) && same(r->askers, want->askers));
        return 7;
}

TEST(store_rows, run_round_trips_and_is_replaced)
{
        struct world w = {0};
        struct row_run full = {.seq = 3,
                               .id = "r3",
                               .workflow = "w\xc3\xa9",
                               .kind = "run",
                               .def_sha256 = "ab",
                               .state = RUN_FAILED,
                               .inputs = "{}",
                               .outputs = "[1]",
                               .error_code = "e",
                               .error_message = "",
                               .created_by = "root",
                               .askers = "[\"ann\"]",
                               .project = "p",
                               .concurrency_group = "g",
                               .priority = -5,
                               .cancel_requested = true,
                               .created_us = 1,
                               .started_us = INT64_MAX,
                               .finished_us = 3,
                               .n_steps = UINT32_MAX};
        struct row_run bare = {.seq = 3, .id = "r3"};
        struct store_tx *tx;

        world_open(&w, false);
        tx = store_begin(w.store);
        CHECK(store_tx_empty(tx));
        store_put_run(tx, &full);
        CHECK(!store_tx_empty(tx));
        commit(&w, tx);
        CHECK_INT(read_run(w.reader, "r3", on_run, &full), 7);
        reopen(&w);
        CHECK_INT(read_run(w.reader, "r3", on_run, &full), 7);
        tx = store_begin(w.store);
        store_put_run(tx, &bare);
        commit(&w, tx);
        CHECK_INT(read_run(w.reader, "r3", on_run, &bare), 7);
        CHECK_INT(read_run(w.reader, "r4", on_run, &bare), -E_NOENT);
        world_close(&w);
}

static int on_step(void *arg, const struct row_step *r)
{
        const struct row_step *want = arg;

        CHECK_INT(r->run_seq, want->run_seq);
        CHECK_INT(r->idx, want->idx);
        CHECK(same(r->id, want->id));
        CHECK(same(r->tool, want->tool));
        CHECK_INT(r->state, want->state);
        CHECK_INT(r->def, want->def);
        CHECK_INT(r->parent, want->parent);
        CHECK_INT(r->fanout, want->fanout);
        CHECK(same(r->matrix, want->matrix));
        CHECK_INT(r->attempt, want->attempt);
        CHECK(r->attempt_id == want->attempt_id);
        CHECK_INT(r->losses, want->losses);
        CHECK(same(r->agent, want->agent));
        CHECK(same(r->agent_name, want->agent_name));
        CHECK(same(r->agent_boot, want->agent_boot));
        CHECK(same(r->placement, want->placement));
        CHECK(same(r->input, want->input));
        CHECK(same(r->outputs, want->outputs));
        CHECK_INT(r->has_exit_code, want->has_exit_code);
        CHECK_INT(r->exit_code, want->exit_code);
        CHECK(same(r->error_code, want->error_code));
        CHECK(same(r->error_message, want->error_message));
        CHECK(same(r->usage, want->usage));
        CHECK(r->output_bytes == want->output_bytes);
        CHECK_INT(r->not_before_us, want->not_before_us);
        CHECK_INT(r->created_us, want->created_us);
        CHECK_INT(r->ready_us, want->ready_us);
        CHECK_INT(r->dispatched_us, want->dispatched_us);
        CHECK_INT(r->started_us, want->started_us);
        CHECK_INT(r->finished_us, want->finished_us);
        return 9;
}

static struct row_step full_step(void)
{
        return (struct row_step){.run_seq = 5,
                                 .idx = 70000,
                                 .id = "test[2]",
                                 .tool = "process.exec",
                                 .state = STEP_UNKNOWN,
                                 .def = 4,
                                 .parent = -1,
                                 .fanout = true,
                                 .matrix = "{\"a\":1}",
                                 .attempt = 3,
                                 .attempt_id = UINT64_MAX / 2,
                                 .losses = 2,
                                 .agent = "a1",
                                 .agent_name = "worker",
                                 .agent_boot = "b",
                                 .placement = "{}",
                                 .input = "{\"i\":2}",
                                 .outputs = "{\"o\":3}",
                                 .has_exit_code = true,
                                 .exit_code = -9,
                                 .error_code = "lost",
                                 .error_message = "gone",
                                 .usage = "{\"ms\":1}",
                                 .output_bytes = 1ULL << 40,
                                 .not_before_us = 1,
                                 .created_us = 2,
                                 .ready_us = 3,
                                 .dispatched_us = 4,
                                 .started_us = 5,
                                 .finished_us = 6};
}

static void put_step(struct world *w, const struct row_step *s)
{
        struct store_tx *tx = store_begin(w->store);

        store_put_step(tx, s);
        commit(w, tx);
}

TEST(store_rows, step_round_trips_and_is_replaced)
{
        struct row_step full = full_step(), bare = {.run_seq = 5, .idx = 70000, .id = "test[2]", .parent = 3};
        struct world w = {0};

        world_open(&w, false);
        put_step(&w, &full);
        reopen(&w);
        CHECK_INT(read_step(w.reader, 5, "test[2]", on_step, &full), 9);
        put_step(&w, &bare);
        CHECK_INT(read_step(w.reader, 5, "test[2]", on_step, &bare), 9);
        CHECK_INT(read_step(w.reader, 5, "test[3]", on_step, &bare), -E_NOENT);
        CHECK_INT(read_step(w.reader, 4, "test[2]", on_step, &bare), -E_NOENT);
        world_close(&w);
}

static void move(struct world *w, struct row_step_move m)
{
        struct store_tx *tx = store_begin(w->store);

        m.run_seq = 5;
        m.idx = 70000;
        store_move_step(tx, &m);
        commit(w, tx);
}

TEST(store_rows, a_move_leaves_alone_what_it_does_not_name)
{
        struct row_step s = full_step();
        struct world w = {0};

        world_open(&w, false);
        put_step(&w, &s);
        move(&w, (struct row_step_move){.state = STEP_READY});
        s.state = STEP_READY;
        s.attempt = s.losses = 0;
        s.attempt_id = s.output_bytes = 0;
        CHECK_INT(read_step(w.reader, 5, "test[2]", on_step, &s), 9);
        move(&w, (struct row_step_move){.state = STEP_RUNNING,
                                        .attempt = 4,
                                        .attempt_id = 44,
                                        .losses = 1,
                                        .output_bytes = 12,
                                        .agent = "a2",
                                        .placement = "{\"p\":1}",
                                        .started_us = 99});
        s.state = STEP_RUNNING;
        s.attempt = 4;
        s.attempt_id = 44;
        s.losses = 1;
        s.output_bytes = 12;
        s.agent = "a2";
        s.placement = "{\"p\":1}";
        s.started_us = 99;
        CHECK_INT(read_step(w.reader, 5, "test[2]", on_step, &s), 9);
        world_close(&w);
}

TEST(store_rows, a_clearing_move_empties_the_attempt)
{
        struct row_step s = full_step();
        struct world w = {0};

        world_open(&w, false);
        put_step(&w, &s);
        move(&w, (struct row_step_move){.state = STEP_WAITING,
                                        .clear = true,
                                        .error_code = "kept",
                                        .attempt = 3,
                                        .attempt_id = 1,
                                        .losses = 2,
                                        .output_bytes = 1,
                                        .not_before_us = 50});
        s.state = STEP_WAITING;
        s.attempt_id = s.output_bytes = 1;
        s.agent = s.agent_name = s.agent_boot = s.outputs = s.error_message = NULL;
        s.error_code = "kept";
        s.has_exit_code = false;
        s.exit_code = 0;
        s.not_before_us = 50;
        CHECK_INT(read_step(w.reader, 5, "test[2]", on_step, &s), 9);
        world_close(&w);
}

/* More shapes of moves than the statement cache holds, each several times. */
TEST(store_rows, every_combination_of_moved_columns)
{
        struct world w = {0};
        struct row_step s = full_step();

        world_open(&w, false);
        put_step(&w, &s);
        for (unsigned bits = 0; bits < 1024; bits++) {
                struct row_step_move m = {
                        .run_seq = 5, .idx = 70000, .state = STEP_RUNNING, .clear = bits & 512};
                struct store_tx *tx = store_begin(w.store);
                char text[16];

                snprintf(text, sizeof text, "v%u", bits);
                m.agent = bits & 1 ? text : NULL;
                m.outputs = bits & 2 ? text : NULL;
                m.input = bits & 4 ? text : NULL;
                m.usage = bits & 8 ? text : NULL;
                m.has_exit_code = bits & 16;
                m.exit_code = (int32_t)bits;
                m.ready_us = bits & 32 ? bits : 0;
                m.finished_us = bits & 64 ? bits : 0;
                m.error_message = bits & 128 ? text : NULL;
                m.placement = bits & 256 ? text : NULL;
                store_move_step(tx, &m);
                commit(&w, tx);
                if (m.clear) {
                        s.agent = s.agent_name = s.agent_boot = s.outputs = s.error_code = s.error_message =
                                NULL;
                        s.has_exit_code = false;
                        s.exit_code = 0;
                }
                s.state = STEP_RUNNING;
                s.attempt = s.losses = 0;
                s.attempt_id = s.output_bytes = 0;
                /* Texts are compared while `text` is still this one; then they are forgotten by a put. */
                s.agent = m.agent ? m.agent : s.agent;
                s.outputs = m.outputs ? m.outputs : s.outputs;
                s.input = m.input ? m.input : s.input;
                s.usage = m.usage ? m.usage : s.usage;
                s.error_message = m.error_message ? m.error_message : s.error_message;
                s.placement = m.placement ? m.placement : s.placement;
                if (m.has_exit_code) {
                        s.has_exit_code = true;
                        s.exit_code = m.exit_code;
                }
                s.ready_us = m.ready_us ? m.ready_us : s.ready_us;
                s.finished_us = m.finished_us ? m.finished_us : s.finished_us;
                CHECK_INT(read_step(w.reader, 5, "test[2]", on_step, &s), 9);
                s = full_step();
                tx = store_begin(w.store);
                store_put_step(tx, &s);
                commit(&w, tx);
        }
        world_close(&w);
}

static int count_steps(void *arg, const struct row_step *s)
{
        uint32_t *next = arg;

        CHECK_INT(s->idx, *next);
        ++*next;
        return *next == 700 ? 55 : 0;
}

TEST(store_rows, steps_come_in_order_and_stop_when_told)
{
        struct world w = {0};
        struct store_tx *tx;
        uint32_t next = 0;

        world_open(&w, false);
        tx = store_begin(w.store);
        for (uint32_t i = 1000; i-- > 0;) {
                for (int64_t run = 1; run <= 3; run++)
                        store_put_step(tx, &(struct row_step){.run_seq = run, .idx = i, .id = "s"});
        }
        commit(&w, tx);
        CHECK_INT(read_steps(w.reader, 2, count_steps, &next), 55);
        next = 0;
        CHECK_INT(read_steps(w.reader, 9, count_steps, &next), 0);
        CHECK_INT(next, 0);
        world_close(&w);
}

static int on_attempt(void *arg, const struct row_attempt *a)
{
        struct row_attempt *want = *(struct row_attempt **)arg;

        CHECK_INT(a->run_seq, want->run_seq);
        CHECK_INT(a->idx, want->idx);
        CHECK_INT(a->attempt, want->attempt);
        CHECK(a->attempt_id == want->attempt_id);
        CHECK(same(a->agent_name, want->agent_name));
        CHECK(same(a->outcome, want->outcome));
        CHECK(same(a->error_code, want->error_code));
        CHECK(same(a->error_message, want->error_message));
        CHECK(same(a->outputs, want->outputs));
        CHECK_INT(a->has_exit_code, want->has_exit_code);
        CHECK_INT(a->exit_code, want->exit_code);
        CHECK(a->output_bytes == want->output_bytes);
        CHECK_INT(a->dispatched_us, want->dispatched_us);
        CHECK_INT(a->started_us, want->started_us);
        CHECK_INT(a->finished_us, want->finished_us);
        ++*(struct row_attempt **)arg;
        return 0;
}

TEST(store_rows, attempts_round_trip)
{
        struct row_attempt rows[] = {
                {.run_seq = 1,
                 .idx = 0,
                 .attempt = 1,
                 .attempt_id = 10,
                 .agent_name = "a",
                 .outcome = "failed",
                 .error_code = "c",
                 .error_message = "m",
                 .outputs = "{}",
                 .has_exit_code = true,
                 .exit_code = 0,
                 .output_bytes = 5,
                 .dispatched_us = 1,
                 .started_us = 2,
                 .finished_us = 3},
                {.run_seq = 1, .idx = 0, .attempt = 2, .attempt_id = 12},
                {.run_seq = 1, .idx = 9, .attempt = 1, .attempt_id = 11},
        };
        struct row_attempt *at = rows;
        struct world w = {0};
        struct store_tx *tx;

        world_open(&w, false);
        tx = store_begin(w.store);
        for (int i = 2; i >= 0; i--)
                store_put_attempt(tx, &rows[i]);
        commit(&w, tx);
        reopen(&w);
        CHECK_INT(read_attempts(w.reader, 1, -1, on_attempt, &at), 0);
        CHECK(at == rows + 3);
        at = rows + 2;
        CHECK_INT(read_attempts(w.reader, 1, 9, on_attempt, &at), 0);
        CHECK(at == rows + 3);
        world_close(&w);
}

/* ---- checkpoints ---- */

struct seen_checkpoints {
        int64_t seqs[8];
        int n;
        const struct row_checkpoint *want; /* the one with its seq must be the same */
};

static bool same_text(const char *a, const char *b)
{
        return a && b ? strcmp(a, b) == 0 : a == b;
}

static int on_checkpoint(void *arg, const struct row_checkpoint *r)
{
        struct seen_checkpoints *s = arg;
        const struct row_checkpoint *w = s->want;

        CHECK(s->n < 8);
        s->seqs[s->n++] = r->seq;
        if (!w || w->seq != r->seq)
                return 0;
        CHECK(r->state == w->state && r->live == w->live && r->run_seq == w->run_seq &&
              r->step_idx == w->step_idx && r->attempt_id == w->attempt_id && r->attempt == w->attempt &&
              r->question_id == w->question_id && r->always == w->always && r->created_us == w->created_us &&
              r->expires_us == w->expires_us && r->decided_us == w->decided_us &&
              r->delivered_us == w->delivered_us);
        CHECK(same_text(r->id, w->id) && same_text(r->run_id, w->run_id) &&
              same_text(r->step_id, w->step_id) && same_text(r->workflow, w->workflow) &&
              same_text(r->kind, w->kind) && same_text(r->action, w->action) &&
              same_text(r->title, w->title) && same_text(r->tool, w->tool) &&
              same_text(r->step_tool, w->step_tool) && same_text(r->agent, w->agent) &&
              same_text(r->agent_name, w->agent_name) && same_text(r->asked_by, w->asked_by) &&
              same_text(r->sha256, w->sha256) && same_text(r->decided_by, w->decided_by) &&
              same_text(r->reason, w->reason) && same_text(r->content, w->content) &&
              same_text(r->schema, w->schema) && same_text(r->arguments, w->arguments));
        return 0;
}

static void check_seqs(struct world *w, struct checkpoint_filter f, const struct row_checkpoint *want,
                       const char *seqs)
{
        struct seen_checkpoints s = {.want = want};
        char text[64] = "";

        CHECK_INT(read_checkpoints(w->reader, &f, on_checkpoint, &s), 0);
        for (int i = 0; i < s.n; i++)
                snprintf(text + strlen(text), sizeof text - strlen(text), "%lld ", (long long)s.seqs[i]);
        CHECK_STR(text, seqs);
}

TEST(store_rows, checkpoints_round_trip_and_are_found)
{
        struct row_checkpoint whole = {.seq = 3,
                                       .id = "c3",
                                       .state = CHECKPOINT_APPROVED,
                                       .live = true,
                                       .run_seq = 7,
                                       .step_idx = 2,
                                       .attempt_id = 10,
                                       .attempt = 1,
                                       .question_id = 5,
                                       .always = true,
                                       .created_us = 1,
                                       .expires_us = 2,
                                       .decided_us = 3,
                                       .delivered_us = 4,
                                       .run_id = "r",
                                       .step_id = "s",
                                       .workflow = "w",
                                       .kind = "input",
                                       .action = "edit",
                                       .title = "t",
                                       .tool = "T",
                                       .step_tool = "st",
                                       .agent = "a",
                                       .agent_name = "an",
                                       .asked_by = "ab",
                                       .sha256 = "sum",
                                       .decided_by = "db",
                                       .reason = "re",
                                       .content = "{}",
                                       .schema = "{}",
                                       .arguments = "[1]"};
        struct row_checkpoint open = {.seq = 1, .id = "c1", .live = true, .run_seq = 7};
        struct row_checkpoint other = {.seq = 2, .id = "c2", .state = CHECKPOINT_EXPIRED, .run_seq = 8};
        struct seen_checkpoints s = {.want = &whole};
        struct world w = {0};
        struct store_tx *tx;
        int64_t max = -1;

        world_open(&w, false);
        CHECK_INT(read_checkpoint_max(w.reader, &max), 0);
        CHECK_INT(max, 0);
        tx = store_begin(w.store);
        store_put_checkpoint(tx, &open);
        store_put_checkpoint(tx, &other);
        whole.state = CHECKPOINT_OPEN;
        store_put_checkpoint(tx, &whole);
        whole.state = CHECKPOINT_APPROVED;
        store_put_checkpoint(tx, &whole);
        commit(&w, tx);
        reopen(&w);
        CHECK_INT(read_checkpoint_max(w.reader, &max), 0);
        CHECK_INT(max, 3);
        check_seqs(&w, (struct checkpoint_filter){.state = -1}, &whole, "3 2 1 ");
        check_seqs(&w, (struct checkpoint_filter){.state = -1}, &open, "3 2 1 ");
        check_seqs(&w, (struct checkpoint_filter){.state = -1, .before_seq = 3, .limit = 1}, NULL, "2 ");
        check_seqs(&w, (struct checkpoint_filter){.state = CHECKPOINT_OPEN}, NULL, "1 ");
        check_seqs(&w, (struct checkpoint_filter){.state = CHECKPOINT_EXPIRED}, NULL, "2 ");
        check_seqs(&w, (struct checkpoint_filter){.state = -1, .run_seq = 7}, NULL, "3 1 ");
        check_seqs(&w, (struct checkpoint_filter){.state = CHECKPOINT_OPEN, .run_seq = 7}, NULL, "1 ");
        check_seqs(&w, (struct checkpoint_filter){.live_only = true}, NULL, "1 3 ");
        CHECK_INT(read_checkpoint(w.reader, "c3", on_checkpoint, &s), 0);
        CHECK_INT(s.n, 1);
        CHECK_INT(read_checkpoint(w.reader, "c4", on_checkpoint, &s), -E_NOENT);
        world_close(&w);
}

TEST(store_rows, definitions_outputs_and_meta_round_trip)
{
        static const char blob[] = "a\0b\xff";
        struct world w = {0};
        struct store_tx *tx;
        char *out = NULL;
        size_t n = 0;

        world_open(&w, false);
        tx = store_begin(w.store);
        store_put_def(tx, "aa", "text", 4);
        store_put_def(tx, "aa", "other", 5);
        store_put_small_output(tx, UINT64_MAX, blob, sizeof blob);
        store_put_small_output(tx, 8, "", 0);
        store_put_meta(tx, "k", "1");
        store_put_meta(tx, "k", "2");
        commit(&w, tx);
        reopen(&w);
        CHECK_INT(read_def(w.reader, "aa", &out, &n), 0);
        CHECK_INT(n, 4);
        CHECK_STR(out, "text");
        mem_free(out);
        CHECK_INT(read_def(w.reader, "bb", &out, &n), -E_NOENT);
        CHECK_INT(read_small_output(w.reader, UINT64_MAX, &out, &n), 0);
        CHECK_INT(n, sizeof blob);
        CHECK(memcmp(out, blob, n) == 0);
        mem_free(out);
        CHECK_INT(read_small_output(w.reader, 8, &out, &n), 0);
        CHECK_INT(n, 0);
        mem_free(out);
        CHECK_INT(read_small_output(w.reader, 9, &out, &n), -E_NOENT);
        check_meta(&w, "k", "2");
        CHECK_INT(read_meta(w.reader, "none", &out), -E_NOENT);
        world_close(&w);
}

static int on_agent(void *arg, const struct row_agent *a)
{
        const struct row_agent *want = arg;

        CHECK(same(a->id, want->id) && same(a->name, want->name) && same(a->state, want->state));
        CHECK(same(a->spki_sha256, want->spki_sha256) && same(a->cert_serial, want->cert_serial));
        CHECK(same(a->labels, want->labels) && same(a->info, want->info));
        CHECK(same(a->join_token_id, want->join_token_id));
        CHECK_INT(a->created_us, want->created_us);
        CHECK_INT(a->last_seen_us, want->last_seen_us);
        CHECK_INT(a->cert_not_after_us, want->cert_not_after_us);
        CHECK_INT(a->revoked_us, want->revoked_us);
        return 2;
}

static int on_join_token(void *arg, const struct row_join_token *t)
{
        const struct row_join_token *want = arg;

        CHECK(same(t->id, want->id) && same(t->stored_key_hex, want->stored_key_hex));
        CHECK(same(t->name_glob, want->name_glob) && same(t->labels, want->labels));
        CHECK(same(t->created_by, want->created_by));
        CHECK_INT(t->uses_max, want->uses_max);
        CHECK_INT(t->uses, want->uses);
        CHECK_INT(t->created_us, want->created_us);
        CHECK_INT(t->expires_us, want->expires_us);
        CHECK_INT(t->revoked_us, want->revoked_us);
        return 3;
}

static int on_redemption(void *arg, const struct row_redemption *r)
{
        const struct row_redemption *want = arg;

        CHECK(same(r->token_id, want->token_id) && same(r->spki_sha256, want->spki_sha256));
        CHECK(same(r->agent_id, want->agent_id));
        CHECK_INT(r->at_us, want->at_us);
        return 4;
}

static int on_api_token(void *arg, const struct row_api_token *t)
{
        const struct row_api_token *want = arg;

        CHECK(same(t->id, want->id) && same(t->sha256_hex, want->sha256_hex) && same(t->name, want->name));
        CHECK(same(t->role, want->role) && same(t->created_by, want->created_by));
        CHECK_INT(t->created_us, want->created_us);
        CHECK_INT(t->expires_us, want->expires_us);
        CHECK_INT(t->revoked_us, want->revoked_us);
        CHECK_INT(t->last_used_us, want->last_used_us);
        CHECK(same(t->project, want->project) && same(t->user_id, want->user_id));
        CHECK(same(t->scopes, want->scopes) && same(t->kind, want->kind));
        CHECK(same(t->maker_id, want->maker_id));
        return 5;
}

static int on_user(void *arg, const struct row_user *u)
{
        const struct row_user *want = arg;

        CHECK(same(u->id, want->id) && same(u->name, want->name) && same(u->kind, want->kind));
        CHECK(same(u->email, want->email) && same(u->issuer, want->issuer) &&
              same(u->subject, want->subject));
        CHECK(same(u->roles, want->roles) && same(u->idp_roles, want->idp_roles));
        CHECK(same(u->created_by, want->created_by));
        CHECK_INT(u->created_us, want->created_us);
        CHECK_INT(u->disabled_us, want->disabled_us);
        CHECK_INT(u->last_login_us, want->last_login_us);
        CHECK_INT(u->deleted_us, want->deleted_us);
        return 6;
}

static int on_project(void *arg, const struct row_project *p)
{
        const struct row_project *want = arg;

        if (strcmp(p->name, want->name) != 0)
                return 0;
        CHECK(same(p->title, want->title) && same(p->created_by, want->created_by));
        CHECK_INT(p->created_us, want->created_us);
        CHECK_INT(p->archived_us, want->archived_us);
        return 7;
}

TEST(store_rows, people_and_projects_round_trip_and_are_updated)
{
        struct row_user u = {"u1", "ann",  "user", "a@x", "https://i", "s", "{}",
                             "{}", "root", 1,      2,     3,           4,   {0}};
        struct row_project p = {"web", "The web", "root", 4, 5, {0}};
        struct row_project always = {"default", "", "hub", 0, 0, {0}};
        struct world w = {0};

        world_open(&w, false);
        CHECK_INT(read_project(w.reader, "default", on_project, &always), 7);
        for (int round = 0; round < 2; round++) {
                struct store_tx *tx = store_begin(w.store);

                store_put_user(tx, &u);
                store_put_project(tx, &p);
                store_commit(tx, NULL, NULL);
                store_pump(w.store);
                CHECK_INT(read_user(w.reader, "u1", on_user, &u), 6);
                CHECK_INT(read_users(w.reader, on_user, &u), 6);
                CHECK_INT(read_user(w.reader, "u2", on_user, &u), -E_NOENT);
                CHECK_INT(read_project(w.reader, "web", on_project, &p), 7);
                CHECK_INT(read_projects(w.reader, on_project, &p), 7);
                CHECK_INT(read_project(w.reader, "we", on_project, &p), -E_NOENT);
                u.email = NULL;
                u.disabled_us = 0;
                p.archived_us = 0;
        }
        world_close(&w);
}

TEST(store_rows, agents_and_tokens_round_trip_and_are_updated)
{
        struct row_agent a = {"a1", "n", "active", "5b", "01", "{}", "{\"os\":1}", "t1", 1, 2, 3, 0, {0}};
        struct row_join_token j = {"t1", "00ff", "*", "{}", "root", 5, 1, 1, 2, 0, {0}};
        struct row_redemption r = {"t1", "5b", "a1", 77, {0}};
        struct row_api_token t = {"p1", "cafe", "root", "admin",     NULL,      1,    0,  0,
                                  0,    "p",    "u1",   "runs.read", "session", "u2", {0}};
        struct world w = {0};
        int64_t used = -1;

        world_open(&w, false);
        for (int round = 0; round < 2; round++) {
                struct store_tx *tx = store_begin(w.store);

                store_put_agent(tx, &a);
                store_put_join_token(tx, &j);
                store_put_redemption(tx, &r);
                store_put_api_token(tx, &t);
                store_put_token_use(tx, &(struct row_token_use){"p1", 5 + round});
                commit(&w, tx);
                reopen(&w);
                CHECK_INT(read_token_use(w.reader, "p1", &used), 0);
                CHECK_INT(used, 5 + round);
                CHECK_INT(read_token_use(w.reader, "p2", &used), 0);
                CHECK_INT(used, 0);
                CHECK_INT(read_agents(w.reader, on_agent, &a), 2);
                CHECK_INT(read_join_tokens(w.reader, on_join_token, &j), 3);
                CHECK_INT(read_redemptions(w.reader, on_redemption, &r), 4);
                CHECK_INT(read_api_tokens(w.reader, on_api_token, &t), 5);
                CHECK_INT(read_api_token(w.reader, t.sha256_hex, on_api_token, &t), 5);
                CHECK_INT(read_api_token(w.reader, "beef", on_api_token, &t), -E_NOENT);
                a.state = "revoked";
                a.revoked_us = 9;
                a.labels = NULL;
                j.uses = 2;
                r.agent_id = "a2";
                t.sha256_hex = "caff";
                t.last_used_us = 100;
        }
        world_close(&w);
}

TEST(store_rows, idempotency_and_audit)
{
        char *sha = NULL, *body = NULL;
        struct world w = {0};
        struct store_tx *tx;
        int status = 0;

        world_open(&w, false);
        tx = store_begin(w.store);
        store_put_idempotency(tx, "k", "t1", "aa", 201, "{\"id\":1}", 100);
        store_put_idempotency(tx, "k", "t2", "bb", 400, NULL, 200);
        store_put_audit(tx, 1, "root", "run.create", "r1", "{}");
        store_put_audit(tx, 2, "root", "run.cancel", "r1", NULL);
        commit(&w, tx);
        CHECK_INT(read_idempotency(w.reader, "k", "t1", &sha, &status, &body), 0);
        CHECK_STR(sha, "aa");
        CHECK_STR(body, "{\"id\":1}");
        CHECK_INT(status, 201);
        mem_free(sha);
        mem_free(body);
        tx = store_begin(w.store);
        store_trim_idempotency(tx, 150);
        commit(&w, tx);
        CHECK_INT(read_idempotency(w.reader, "k", "t1", &sha, &status, &body), -E_NOENT);
        CHECK_INT(read_idempotency(w.reader, "k", "t2", &sha, &status, &body), 0);
        CHECK_STR(body, "");
        mem_free(sha);
        mem_free(body);
        CHECK_INT(read_idempotency(w.reader, "x", "t2", &sha, &status, &body), -E_NOENT);
        world_close(&w);
}

/* ---- lists, events, marks ---- */

static int collect_seq(void *arg, const struct row_run *r)
{
        char *to = arg;

        snprintf(to + strlen(to), 64 - strlen(to), "%lld,", (long long)r->seq);
        return 0;
}

static void check_runs(struct world *w, struct run_filter f, const char *want)
{
        char got[64] = "";

        CHECK_INT(read_runs(w->reader, &f, collect_seq, got), 0);
        CHECK_STR(got, want);
}

TEST(store_rows, runs_are_listed_by_filter_newest_first)
{
        static const struct {
                const char *workflow, *kind;
                enum run_state state;
        } runs[] = {
                {"a", "run", RUN_QUEUED},    {"b", "run", RUN_RUNNING}, {"a", "call", RUN_WAITING},
                {"a", "run", RUN_SUCCEEDED}, {"b", "call", RUN_FAILED}, {"b", "run", RUN_FAILED},
        };
        struct world w = {0};
        struct store_tx *tx;
        char got[64];
        char id[8];

        world_open(&w, false);
        tx = store_begin(w.store);
        for (int i = 0; i < 6; i++) {
                snprintf(id, sizeof id, "r%d", i + 1);
                store_put_run(tx, &(struct row_run){.seq = i + 1,
                                                    .id = id,
                                                    .workflow = runs[i].workflow,
                                                    .kind = runs[i].kind,
                                                    .state = runs[i].state});
        }
        commit(&w, tx);
        check_runs(&w, (struct run_filter){0}, "6,5,4,3,2,1,");
        check_runs(&w, (struct run_filter){.limit = 2}, "6,5,");
        check_runs(&w, (struct run_filter){.limit = 2, .before_seq = 5}, "4,3,");
        check_runs(&w, (struct run_filter){.active_only = true}, "3,2,1,");
        check_runs(&w, (struct run_filter){.state = "failed"}, "6,5,");
        check_runs(&w, (struct run_filter){.state = "failed", .kind = "run"}, "6,");
        check_runs(&w, (struct run_filter){.kind = "call"}, "5,3,");
        check_runs(&w, (struct run_filter){.kind = "run", .workflow = "a"}, "4,1,");
        check_runs(&w, (struct run_filter){.workflow = "b", .before_seq = 6}, "5,2,");
        check_runs(&w, (struct run_filter){.workflow = "c"}, "");
        CHECK_INT(read_runs(w.reader, &(struct run_filter){.state = "odd"}, collect_seq, got), -E_INVAL);
        CHECK_INT(read_runs(w.reader, &(struct run_filter){.kind = "odd"}, collect_seq, got), -E_INVAL);
        world_close(&w);
}

static int collect_events(void *arg, const char *run, int64_t first, int64_t last, const char *lines,
                          size_t n)
{
        char *to = arg;

        (void)run;
        snprintf(to + strlen(to), 64 - strlen(to), "%lld-%lld:%.*s ", (long long)first, (long long)last,
                 (int)n, lines);
        return 0;
}

static void check_events(struct world *w, const char *run, int64_t after, size_t max, const char *want)
{
        char got[64] = "";

        CHECK_INT(read_events(w->reader, run, after, max, collect_events, got), 0);
        CHECK_STR(got, want);
}

TEST(store_rows, events_stream_by_run_and_trim)
{
        int64_t oldest, newest, run_seq, event_id;
        struct world w = {0};
        uint64_t attempt_id;
        struct store_tx *tx;

        world_open(&w, false);
        CHECK_INT(read_events_bounds(w.reader, &oldest, &newest), 0);
        CHECK_INT(oldest, 1);
        CHECK_INT(newest, 0);
        tx = store_begin(w.store);
        store_put_events(tx, "r1", 1, 3, "abc", 3);
        store_put_events(tx, "r2", 4, 4, "d", 1);
        store_put_events(tx, "", 5, 5, "e", 1);
        store_put_events(tx, "r1", 6, 7, "fg", 2);
        commit(&w, tx);
        check_events(&w, NULL, 0, 100, "1-3:abc 4-4:d 5-5:e 6-7:fg ");
        check_events(&w, "r1", 0, 100, "1-3:abc 6-7:fg ");
        check_events(&w, "r1", 2, 100, "1-3:abc 6-7:fg ");
        check_events(&w, "r1", 3, 100, "6-7:fg ");
        check_events(&w, "", 0, 100, "5-5:e ");
        check_events(&w, NULL, 0, 4, "1-3:abc 4-4:d ");
        check_events(&w, NULL, 0, 1, "1-3:abc ");
        CHECK_INT(read_events_bounds(w.reader, &oldest, &newest), 0);
        CHECK_INT(oldest, 1);
        CHECK_INT(newest, 7);
        tx = store_begin(w.store);
        store_trim_events(tx, 4);
        commit(&w, tx);
        check_events(&w, NULL, 0, 100, "5-5:e 6-7:fg ");
        tx = store_begin(w.store);
        store_trim_events(tx, 1000);
        commit(&w, tx);
        check_events(&w, NULL, 0, 100, "6-7:fg ");
        CHECK_INT(read_events_bounds(w.reader, &oldest, &newest), 0);
        CHECK_INT(oldest, 6);
        CHECK_INT(read_max(w.reader, &run_seq, &attempt_id, &event_id), 0);
        CHECK_INT(event_id, 7);
        world_close(&w);
}

TEST(store_rows, high_water_marks_are_never_below_what_was_used)
{
        uint64_t attempt_id = 0, last = 0;
        int64_t run_seq, event_id;
        struct world w = {0};

        world_open(&w, false);
        CHECK_INT(read_max(w.reader, &run_seq, &attempt_id, &event_id), 0);
        CHECK_INT(run_seq + event_id, 0);
        CHECK_INT(attempt_id, 0);
        for (uint64_t id = 1; id < 30000; id += 999) {
                struct store_tx *tx = store_begin(w.store);

                store_put_run(tx, &(struct row_run){.seq = (int64_t)id, .id = "r"});
                store_move_step(tx, &(struct row_step_move){.run_seq = 1, .attempt_id = id});
                commit(&w, tx);
                last = id;
                if (id % 7 == 0)
                        reopen(&w);
                CHECK_INT(read_max(w.reader, &run_seq, &attempt_id, &event_id), 0);
                CHECK(attempt_id >= last && attempt_id < last + 10000);
                store_put_run(tx = store_begin(w.store), &(struct row_run){.seq = (int64_t)id, .id = NULL});
                commit(&w, tx);
        }
        CHECK_INT(run_seq, (int64_t)last);
        world_close(&w);
}
