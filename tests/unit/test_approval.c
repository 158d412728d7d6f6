/* Steps that wait for people: who counts, how many, what silence means, and what becomes of the step. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/json.h"
#include "common/mem.h"
#include "hub/model/access.h"
#include "hub/model/approval.h"
#include "hub/sched/engine_impl.h"
#include "tests/lib/engine_bench.h"
#include "tests/lib/test.h"

/* ---- the rules ---- */

static struct approval_rules rules_of(const char *json)
{
        struct approval_rules r;
        struct err e = {0};

        if (approval_rules_read(json, &r, &e))
                test_fail(__FILE__, __LINE__, "%s: %s", json, e.msg);
        return r;
}

#define RULES(members) "{\"quorum\":1,\"reject_quorum\":1,\"timeout_ms\":0,\"then\":\"deny\"" members "}"

TEST(approval, the_roles_that_answer_are_those_of_the_permission_table)
{
        for (int i = ROLE_CLIENT; i <= ROLE_ADMIN; i++)
                CHECK_INT(approval_role_ok(role_name((enum role)i)),
                          role_may((enum role)i, PERM_CHECKPOINTS_DECIDE));
}

TEST(approval, who_is_asked_follows_roles_names_escalation_and_delegation)
{
        struct approval_rules any = rules_of(RULES("")),
                              some = rules_of(RULES(",\"roles\":[\"admin\"],\"users\":[\"ann\",\"bob\"],"
                                                    "\"escalate\":{\"after_ms\":5,\"users\":[\"zoe\"]}"));
        struct approval_record rec = {0};
        const char *code = NULL;
        struct err e = {0};

        CHECK(approval_asked(&any, &rec, "whoever", "technical-operator"));
        CHECK(approval_asked(&some, &rec, "ann", "technical-operator"));
        CHECK(approval_asked(&some, &rec, "root", "admin"));
        CHECK(!approval_asked(&some, &rec, "carl", "technical-operator"));
        CHECK(!approval_asked(&some, &rec, "zoe", "technical-operator"));
        rec.escalated_us = 1;
        CHECK(approval_asked(&some, &rec, "zoe", "technical-operator"));
        /* Handed on: the one has it now, the other has it no more; and back. */
        CHECK_INT(approval_delegate(&some, &rec, "ann", "technical-operator", "carl", "tim", 1, &code, &e),
                  0);
        CHECK(approval_asked(&some, &rec, "carl", NULL));
        CHECK(!approval_asked(&some, &rec, "ann", "technical-operator"));
        CHECK_INT(approval_delegate(&some, &rec, "ann", "technical-operator", "dan", "tim", 1, &code, &e),
                  -E_DENIED);
        CHECK_STR(code, "not_asked");
        CHECK_INT(approval_delegate(&some, &rec, "carl", NULL, "ann", "tim", 2, &code, &e), 0);
        CHECK(approval_asked(&some, &rec, "ann", NULL));
        CHECK(!approval_asked(&some, &rec, "carl", NULL));
        approval_rules_fini(&any);
        approval_rules_fini(&some);
        approval_record_fini(&rec);
}

TEST(approval, what_cannot_be_handed_on_is_refused_by_name)
{
        struct approval_rules r = rules_of(RULES(",\"users\":[\"ann\",\"bob\",\"tim\"]"));
        struct approval_record rec = {0};
        struct checkpoint_answer yes = {.by = "bob", .approve = true};
        enum checkpoint_state to;
        const char *code;
        struct err e = {0};

        CHECK_INT(approval_delegate(&r, &rec, "tim", NULL, "ann", "tim", 1, &code, &e), -E_DENIED);
        CHECK_STR(code, "own_request");
        CHECK_INT(approval_delegate(&r, &rec, "ann", NULL, "tim", "tim", 1, &code, &e), -E_DENIED);
        CHECK_STR(code, "own_request");
        CHECK_INT(approval_delegate(&r, &rec, "ann", NULL, "ann", "tim", 1, &code, &e), -E_INVAL);
        CHECK_INT(approval_take(&r, &rec, &yes, NULL, 1, &to), 0);
        CHECK_INT(approval_delegate(&r, &rec, "ann", NULL, "bob", "tim", 1, &code, &e), -E_EXIST);
        CHECK_INT(approval_delegate(&r, &rec, "bob", NULL, "ann", "tim", 1, &code, &e), -E_EXIST);
        for (int i = 0; i < APPROVAL_DELEGATIONS_MAX; i++)
                CHECK_INT(approval_delegate(&r, &rec, i % 2 ? "cat" : "ann", NULL, i % 2 ? "ann" : "cat",
                                            "tim", 1, &code, &e),
                          0);
        CHECK_INT(approval_delegate(&r, &rec, "ann", NULL, "cat", "tim", 1, &code, &e), -E_FULL);
        approval_rules_fini(&r);
        approval_record_fini(&rec);
}

TEST(approval, a_quorum_counts_people_and_one_no_decides)
{
        struct approval_rules
                two = rules_of("{\"quorum\":2,\"reject_quorum\":1,\"timeout_ms\":0,\"then\":\"deny\"}"),
                both = rules_of("{\"quorum\":2,\"reject_quorum\":2,\"timeout_ms\":0,\"then\":\"deny\"}");
        struct approval_record rec = {0}, other = {0};
        struct checkpoint_answer ann = {.by = "ann", .approve = true}, bob = {.by = "bob", .approve = true},
                                 no = {.by = "cat"};
        enum checkpoint_state to;
        char *text;

        CHECK_INT(approval_take(&two, &rec, &ann, "fine", 1, &to), 0);
        CHECK_INT(to, CHECKPOINT_OPEN);
        CHECK(approval_answered(&rec, "ann", NULL) && !approval_answered(&rec, "bob", NULL));
        /* What was said survives as text. */
        text = approval_record_text(&rec);
        CHECK_INT(approval_record_read(text, &other, NULL), 0);
        mem_free(text);
        CHECK_INT(approval_take(&two, &other, &bob, NULL, 2, &to), 0);
        CHECK_INT(to, CHECKPOINT_APPROVED);
        CHECK_INT(approval_take(&two, &rec, &no, NULL, 2, &to), 0);
        CHECK_INT(to, CHECKPOINT_REJECTED);
        approval_record_fini(&rec);
        CHECK_INT(approval_take(&both, &rec, &no, NULL, 1, &to), 0);
        CHECK_INT(to, CHECKPOINT_OPEN);
        no.by = "dan";
        CHECK_INT(approval_take(&both, &rec, &no, NULL, 1, &to), 0);
        CHECK_INT(to, CHECKPOINT_REJECTED);
        approval_rules_fini(&two);
        approval_rules_fini(&both);
        approval_record_fini(&rec);
        approval_record_fini(&other);
}

TEST(approval, an_answer_names_the_digest_and_counts_once_and_the_asker_never)
{
        struct approval_rules r = rules_of("{\"quorum\":2,\"reject_quorum\":1,\"timeout_ms\":0,\"then\":"
                                           "\"deny\",\"users\":[\"ann\",\"bob\"]}");
        struct approval_record rec = {0};
        struct checkpoint_facts f = {.id = "c1",
                                     .kind = KIND_APPROVAL,
                                     .sha256 = "aa",
                                     .asked_by = "bob",
                                     .rules = &r,
                                     .record = &rec};
        struct checkpoint_answer a = {.by = "ann", .approve = true};
        enum checkpoint_state to;
        const char *code = NULL;
        struct err e = {0};

        CHECK_INT(checkpoint_check(&f, &a, 0, SELF_AUTO, &code, &e), -E_INVAL);
        CHECK_STR(code, "digest_required");
        a.sha256 = "AA";
        CHECK_INT(checkpoint_check(&f, &a, 0, SELF_AUTO, &code, &e), 0);
        CHECK_INT(approval_take(&r, &rec, &a, NULL, 1, &to), 0);
        CHECK_INT(checkpoint_check(&f, &a, 0, SELF_AUTO, &code, &e), -E_EXIST);
        CHECK_STR(code, "already_answered");
        a.by = "cat";
        CHECK_INT(checkpoint_check(&f, &a, 0, SELF_AUTO, &code, &e), -E_DENIED);
        CHECK_STR(code, "not_asked");
        a.by = "bob";
        CHECK_INT(checkpoint_check(&f, &a, 0, SELF_AUTO, &code, &e), -E_DENIED);
        CHECK_STR(code, "own_request");
        CHECK_INT(checkpoint_check(&f, &a, 0, SELF_DENY, &code, &e), -E_DENIED);
        CHECK_INT(checkpoint_check(&f, &a, 0, SELF_ALLOW, &code, &e), 0);
        a.always = true;
        CHECK_INT(checkpoint_check(&f, &a, 0, SELF_ALLOW, &code, &e), -E_INVAL);
        /* What a tool asks: auto denies only where somebody else could answer. */
        f.kind = KIND_PERMISSION;
        f.rules = NULL;
        f.record = NULL;
        CHECK_INT(checkpoint_check(&f, &a, 0, SELF_AUTO, &code, &e), 0);
        a.others = true;
        CHECK_INT(checkpoint_check(&f, &a, 0, SELF_AUTO, &code, &e), -E_DENIED);
        approval_rules_fini(&r);
        approval_record_fini(&rec);
}

TEST(approval, whoever_retried_it_or_is_behind_the_token_that_did_has_asked_too)
{
        struct approval_rules r =
                rules_of("{\"quorum\":2,\"reject_quorum\":1,\"timeout_ms\":0,\"then\":\"deny\"}");
        struct approval_record rec = {0};
        cJSON *askers = cJSON_Parse("[\"rita\",\"bot\"]");
        struct checkpoint_facts f = {.id = "c1",
                                     .kind = KIND_APPROVAL,
                                     .sha256 = "aa",
                                     .asked_by = "bob",
                                     .askers = askers,
                                     .rules = &r,
                                     .record = &rec};
        const struct {
                const char *by, *maker;
                bool may;
        } rows[] = {{"rita", NULL, false},  {"rita", "", false}, {"bot", "eve", false}, {"svc", "bob", false},
                    {"svc", "rita", false}, {"svc", "", true},   {"ann", NULL, true},   {"svc", "eve", true}};
        enum checkpoint_state to;
        const char *code;
        struct err e = {0};

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                struct checkpoint_answer a = {
                        .by = rows[i].by, .maker = rows[i].maker, .approve = true, .sha256 = "aa"};

                code = "";
                CHECK_INT(checkpoint_check(&f, &a, 0, SELF_AUTO, &code, &e), rows[i].may ? 0 : -E_DENIED);
                if (!rows[i].may)
                        CHECK_STR(code, "own_request");
                a.approve = false; /* no from oneself is always welcome */
                CHECK_INT(checkpoint_check(&f, &a, 0, SELF_AUTO, &code, &e), 0);
        }
        /* A token and the user who made it are one voice of two, whoever of them speaks first. */
        CHECK_INT(approval_take(&r, &rec,
                                &(struct checkpoint_answer){.by = "svc", .maker = "ann", .approve = true},
                                NULL, 1, &to),
                  0);
        CHECK(approval_answered(&rec, "ann", NULL) && approval_answered(&rec, "svc", "ann"));
        CHECK(approval_answered(&rec, "other", "ann") && !approval_answered(&rec, "eve", ""));
        CHECK(!approval_answered(&rec, "eve", NULL));
        approval_record_fini(&rec);
        CHECK_INT(approval_take(&r, &rec, &(struct checkpoint_answer){.by = "ann", .approve = true}, NULL, 1,
                                &to),
                  0);
        CHECK(approval_answered(&rec, "svc", "ann") && !approval_answered(&rec, "svc", "eve"));
        approval_record_fini(&rec);
        approval_rules_fini(&r);
        cJSON_Delete(askers);
}

/* ---- the workflow ---- */

static void refuses(const char *approval, const char *word)
{
        char text[1000];
        struct workflow *w = NULL;
        struct err e = {0};

        snprintf(text, sizeof text, "steps:\n  - id: a\n    approval: %s\n", approval);
        if (workflow_parse(text, strlen(text), &w, &e) == 0) {
                workflow_free(w);
                test_fail(__FILE__, __LINE__, "%s was taken", approval);
        }
        if (!strstr(e.msg, word) || e.line < 1)
                test_fail(__FILE__, __LINE__, "%s: line %d: %s", approval, e.line, e.msg);
}

TEST(approval, what_a_workflow_says_wrong_is_told_with_its_place)
{
        refuses("[]", "expected a question");
        refuses("{quorum: 2}", "needs a \"question\"");
        refuses("{question: \"\"}", "empty");
        refuses("{question: ok?, quorum: 0}", "quorum");
        refuses("{question: ok?, quorum: 21}", "quorum");
        refuses("{question: ok?, quorum: 3, users: [ann, bob]}", "each counts once");
        refuses("{question: ok?, users: [ann, ann]}", "twice");
        refuses("{question: ok?, roles: [operator]}", "may answer checkpoints");
        refuses("{question: ok?, roles: [amdin]}", "did you mean");
        refuses("{question: ok?, then: approve}", "silence never approves");
        refuses("{question: ok?, then: escalate}", "\"escalate\" says to whom");
        refuses("{question: ok?, escalate: {roles: [admin]}}", "needs \"after\"");
        refuses("{question: ok?, escalate: {after: 1h}}", "who is asked then");
        refuses("{question: ok?, timeout: 1h, escalate: {after: 1h, roles: [admin]}}", "not before");
        refuses("{question: ok?, timeout: 10}", "unit");
        refuses("{question: ok?, timeout: 10ms}", "from 1s to 30d");
        refuses("{question: ok?, timeout: 31d}", "from 1s to 30d");
        refuses("{question: ok?, fields: {a b: string}}", "no good name");
        refuses("{question: ok?, fields: {a: text}}", "expected string, number");
        refuses("{question: ok?, fields: {a: choice}}", "needs \"options\"");
        refuses("{question: ok?, fields: {a: {type: number, default: x}}}", "not of its type");
        refuses("{question: ok?, fields: {a: {options: [x, y], default: z}}}", "not of its type");
        refuses("{question: ok?, fields: {a: {type: secret, default: z}}}", "no default");
        refuses("{question: ok?, quorum: 2, fields: {a: secret}}", "\"quorum\" is 1 then");
        refuses("{question: ok?, show: [x]}", "expected a map");
        refuses("{question: \"${{ steps.zz.outputs }}\"}", "unknown step");
        refuses("{question: ok?, who: ann}", "who");
        refuses("ok?\n    run: x", "does not go with");
        refuses("ok?\n    timeout: 1m", "stands under");
}

/* ---- the engine ---- */

struct cp {
        char id[40], sha256[65], kind[16], content[300], record[2000], decided_by[64], arguments[600];
        enum checkpoint_state state;
        bool live;
        int64_t expires_us, created_us;
        int n;
};

static int on_cp(void *arg, const struct row_checkpoint *r)
{
        struct cp *c = arg;

        if (c->n++)
                return 0;
        snprintf(c->id, sizeof c->id, "%s", r->id);
        snprintf(c->sha256, sizeof c->sha256, "%s", r->sha256);
        snprintf(c->kind, sizeof c->kind, "%s", r->kind);
        snprintf(c->content, sizeof c->content, "%s", r->content ? r->content : "");
        snprintf(c->record, sizeof c->record, "%s", r->record ? r->record : "");
        snprintf(c->decided_by, sizeof c->decided_by, "%s", r->decided_by ? r->decided_by : "");
        snprintf(c->arguments, sizeof c->arguments, "%s", r->arguments ? r->arguments : "");
        c->state = r->state;
        c->live = r->live;
        c->expires_us = r->expires_us;
        c->created_us = r->created_us;
        return 0;
}

static struct cp newest(struct eb *b)
{
        struct checkpoint_filter f = {.state = -1};
        struct store_reader *rd;
        struct cp c = {0};

        CHECK_INT(store_reader_open(b->store, &rd, NULL), 0);
        CHECK_INT(read_checkpoints(rd, &f, on_cp, &c), 0);
        store_reader_close(rd);
        return c;
}

static void on_answer(void *arg, int rc, const struct err *e)
{
        struct eb *b = arg;

        b->answer_rc = rc;
        snprintf(b->answer_msg, sizeof b->answer_msg, "%s", e ? e->msg : "");
}

static const char *last_code;

static int answer(struct eb *b, const char *by, const char *role, bool yes, const char *content)
{
        struct cp c = newest(b);
        struct engine_decision d = {
                .checkpoint_id = c.id,
                .answer = {.by = by, .role = role, .approve = yes, .sha256 = c.sha256, .content = content},
                .reason = yes ? NULL : "not today"};

        b->answer_rc = 1;
        engine_decide(b->en, &d, on_answer, b);
        last_code = d.code;
        eb_turn(b);
        return b->answer_rc;
}

static int hand_on(struct eb *b, const char *from, const char *to)
{
        struct cp c = newest(b);
        struct engine_delegation d = {.checkpoint_id = c.id, .from = from, .from_role = "admin", .to = to};

        b->answer_rc = 1;
        engine_delegate(b->en, &d, on_answer, b);
        eb_turn(b);
        return b->answer_rc;
}

static bool column_is(struct eb *b, const char *step, const char *column, const char *want)
{
        char *v = eb_column(b, step, column);
        bool same = v && strcmp(v, want) == 0;

        if (!same)
                fprintf(stderr, "%s.%s is %s, not %s\n", step, column, v ? v : "(null)", want);
        free(v);
        return same;
}

#define SHIP                                                                                                 \
        "name: rel\ninputs: {v: {default: \"1.2\"}}\nsteps:\n  - id: ask\n    approval:\n      question: "   \
        "Ship "                                                                                              \
        "${{ inputs.v }}?\n      show: {v: \"${{ inputs.v }}\"}\n"
#define GO "  - id: go\n    needs: [ask]\n    run: ship ${{ steps.ask.outputs.answers.win }}\n"

TEST(approval, a_step_asks_and_its_answer_is_its_outcome)
{
        struct eb *b = eb_open();
        struct cp c;

        eb_agent(b, "a1", 4);
        eb_submit(b, SHIP "      fields: {win: {options: [now, tonight], default: tonight}}\n" GO);
        c = newest(b);
        CHECK_STR(c.kind, "approval");
        CHECK_STR(
                c.arguments,
                "{\"question\":\"Ship "
                "1.2?\",\"about\":{\"v\":\"1.2\"},\"fields\":[{\"name\":\"win\",\"type\":"
                "\"choice\",\"required\":false,\"options\":[\"now\",\"tonight\"],\"default\":\"tonight\"}]}");
        CHECK_STR(eb_state(b, "ask"), "waiting");
        CHECK_STR(eb_run_state(b), "waiting");
        CHECK_INT(b->n_starts, 0);
        CHECK_INT(b->n_notices, 1);
        CHECK_STR(b->notices[0], "checkpoint.open approval ");
        CHECK_INT(answer(b, "t", "admin", true, "{\"win\":\"now\"}"), -E_DENIED); /* started it */
        CHECK_STR(last_code, "own_request");
        CHECK_INT(answer(b, "ann", "admin", true, NULL), -E_INVAL);
        CHECK_INT(answer(b, "ann", "admin", true, "{\"win\":\"now\"}"), 0);
        CHECK_STR(eb_state(b, "ask"), "succeeded");
        CHECK_INT(newest(b).state, CHECKPOINT_APPROVED);
        CHECK(!newest(b).live);
        CHECK(strstr(eb_started(b, "go")->input, "ship now"));
        CHECK_INT(answer(b, "bob", "admin", false, NULL), -E_NOENT); /* the row says who decided */
        CHECK_STR(newest(b).decided_by, "ann");
        eb_answer(b, "go", ENGINE_SUCCEEDED, "{}");
        CHECK_STR(eb_run_state(b), "succeeded");
        eb_close(b);
}

TEST(approval, a_no_fails_the_step_and_says_who)
{
        struct eb *b = eb_open();

        eb_submit(b, SHIP "  - {id: go, needs: [ask], run: x}\n");
        CHECK_INT(answer(b, "ann", "admin", false, NULL), 0);
        CHECK_STR(eb_state(b, "ask"), "failed");
        CHECK_STR(eb_state(b, "go"), "skipped");
        CHECK(column_is(b, "ask", "error_code", "approval_rejected"));
        CHECK_STR(eb_run_state(b), "failed");
        eb_close(b);
}

TEST(approval, two_must_approve_with_the_same_values_over_a_restart)
{
        struct eb *b = eb_open();

        eb_agent(b, "a1", 4);
        eb_submit(b, SHIP "      quorum: 2\n      fields: {win: string}\n" GO);
        CHECK_INT(answer(b, "ann", "admin", true, "{\"win\":\"now\"}"), 0);
        CHECK_STR(eb_state(b, "ask"), "waiting");
        CHECK_INT(answer(b, "ann", "admin", true, "{\"win\":\"now\"}"), -E_EXIST);
        eb_reopen(b);
        CHECK_STR(eb_run_state(b), "waiting");
        CHECK_INT(answer(b, "ann", "admin", true, "{\"win\":\"now\"}"), -E_EXIST);
        CHECK_INT(answer(b, "bob", "admin", true, "{\"win\":\"later\"}"), -E_STATE);
        CHECK_STR(last_code, "answers_differ");
        CHECK_INT(answer(b, "bob", "admin", true, "{\"win\":\"now\"}"), 0);
        CHECK_STR(eb_state(b, "ask"), "succeeded");
        eb_agent(b, "a1", 4);
        CHECK(strstr(eb_started(b, "go")->input, "ship now"));
        CHECK_INT(newest(b).n, 1);
        eb_close(b);
}

TEST(approval, silence_denies_fails_or_skips_and_never_approves)
{
        static const struct {
                const char *then, *extra, *step, *code, *run;
        } rows[] = {
                {"deny", "", "failed", "approval_expired", "failed"},
                {"deny", "    continue-on-error: true\n", "failed", "approval_expired", "succeeded"},
                {"fail", "    continue-on-error: true\n", "failed", "approval_expired", "failed"},
                {"skip", "", "skipped", NULL, "succeeded"},
        };

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                struct eb *b = eb_open();
                char text[1000];

                snprintf(text, sizeof text, "%s      timeout: 1h\n      then: %s\n%s", SHIP, rows[i].then,
                         rows[i].extra);
                eb_submit(b, text);
                eb_pass(b, 3599000);
                CHECK_STR(eb_state(b, "ask"), "waiting");
                eb_reopen(b); /* the deadline is a point in time */
                eb_pass(b, 1000);
                CHECK_STR(eb_state(b, "ask"), rows[i].step);
                CHECK_INT(newest(b).state, CHECKPOINT_EXPIRED);
                if (rows[i].code)
                        CHECK(column_is(b, "ask", "error_code", rows[i].code));
                CHECK_STR(eb_run_state(b), rows[i].run);
                CHECK(answer(b, "ann", "admin", true, NULL) != 0);
                eb_close(b);
        }
}

TEST(approval, an_answer_after_the_time_expires_it_before_any_timer)
{
        struct eb *b = eb_open();

        eb_submit(b, SHIP "      timeout: 1h\n");
        b->now_ms += 3600000;
        CHECK_INT(answer(b, "ann", "admin", true, NULL), -E_TIMEOUT);
        CHECK_INT(newest(b).state, CHECKPOINT_EXPIRED);
        CHECK_STR(eb_state(b, "ask"), "failed");
        eb_close(b);
}

TEST(approval, escalation_asks_others_in_time_and_at_the_end)
{
        struct eb *b = eb_open();

        eb_submit(b,
                  SHIP "      users: [ann]\n      timeout: 2h\n      escalate: {after: 1h, users: [zoe]}\n");
        CHECK_INT(answer(b, "zoe", "admin", true, NULL), -E_DENIED);
        eb_pass(b, 3600000);
        CHECK_INT(b->n_notices, 2);
        CHECK_STR(b->notices[1], "checkpoint.escalated approval ");
        eb_reopen(b);
        CHECK_INT(answer(b, "zoe", "admin", true, NULL), 0);
        CHECK_STR(eb_state(b, "ask"), "succeeded");
        eb_close(b);

        b = eb_open();
        eb_submit(b,
                  SHIP "      users: [ann]\n      timeout: 1h\n      then: escalate\n      escalate: {users: "
                       "[zoe]}\n");
        eb_pass(b, 3600000);
        CHECK_STR(eb_state(b, "ask"), "waiting"); /* as long again */
        eb_pass(b, 3599000);
        CHECK_STR(eb_state(b, "ask"), "waiting");
        eb_pass(b, 2000);
        CHECK_STR(eb_state(b, "ask"), "failed"); /* then no */
        eb_close(b);
}

TEST(approval, it_is_handed_on_and_told)
{
        struct eb *b = eb_open();

        eb_submit(b, SHIP "      users: [ann]\n");
        CHECK_INT(hand_on(b, "bob", "cat"), -E_DENIED);
        CHECK_INT(hand_on(b, "ann", "t"), -E_DENIED); /* who started it */
        CHECK_INT(hand_on(b, "ann", "cat"), 0);
        CHECK_STR(b->notices[1], "checkpoint.delegated approval cat");
        eb_reopen(b);
        CHECK_INT(answer(b, "ann", "admin", true, NULL), -E_DENIED);
        CHECK_INT(answer(b, "cat", "admin", true, NULL), 0);
        CHECK_STR(eb_state(b, "ask"), "succeeded");
        eb_close(b);
}

TEST(approval, a_cancelled_run_withdraws_it_and_a_retry_asks_again)
{
        struct eb *b = eb_open();

        eb_submit(b, SHIP);
        engine_cancel(b->en, b->run, "ann", NULL, on_answer, b);
        eb_turn(b);
        CHECK_STR(eb_state(b, "ask"), "cancelled");
        CHECK_INT(newest(b).state, CHECKPOINT_WITHDRAWN);
        CHECK(!newest(b).live);
        CHECK_INT(answer(b, "ann", "admin", true, NULL), -E_NOENT);
        engine_retry(b->en, b->run, &(struct engine_actor){.by = "ann"}, on_answer, b);
        eb_turn(b);
        CHECK_INT(b->answer_rc, 0);
        CHECK_INT(newest(b).n, 2);
        /* Who retried it has asked for it as well, also after a restart, and cannot hand it on. */
        CHECK_INT(answer(b, "ann", "admin", true, NULL), -E_DENIED);
        CHECK_STR(last_code, "own_request");
        eb_reopen(b);
        CHECK_INT(answer(b, "ann", "admin", true, NULL), -E_DENIED);
        CHECK_STR(last_code, "own_request");
        CHECK_INT(hand_on(b, "ann", "cat"), -E_DENIED);
        CHECK_INT(hand_on(b, "cat", "ann"), -E_DENIED);
        CHECK_INT(answer(b, "bob", "admin", true, NULL), 0);
        CHECK_STR(eb_run_state(b), "succeeded");
        eb_close(b);
}

TEST(approval, other_steps_go_on_beside_it_and_each_instance_asks)
{
        struct eb *b = eb_open();

        eb_agent(b, "a1", 4);
        eb_submit(b, "steps:\n  - id: ask\n    for-each: [x, y]\n    approval: Take ${{ each.item }}?\n"
                     "  - {id: work, run: w}\n");
        CHECK_INT(newest(b).n, 2);
        CHECK_STR(eb_run_state(b), "running");
        eb_answer(b, "work", ENGINE_SUCCEEDED, "{}");
        CHECK_STR(eb_run_state(b), "waiting");
        CHECK_INT(answer(b, "ann", "admin", true, NULL), 0);
        CHECK_STR(eb_state(b, "ask[1]"), "succeeded");
        CHECK_STR(eb_run_state(b), "waiting");
        eb_close(b);
}

TEST(approval, questions_without_end_are_refused_and_fail_their_steps)
{
        struct eb *b = eb_open();
        struct engine_stats st;

        eb_submit(b, "steps:\n  - id: ask\n    for-each: ${{ fromJSON(inputs.list) }}\n    fail-fast: false\n"
                     "    approval: Take ${{ each.item }}?\ninputs: {list: {default: '[1, 2, 3]'}}\n");
        b->en->asks_open += 9999; /* as if */
        CHECK_INT(answer(b, "ann", "admin", true, NULL), 0);
        eb_submit(b, "steps: [{id: a, approval: One?}, {id: b, approval: Two?}]");
        CHECK_STR(eb_state(b, "a"), "failed");
        CHECK(column_is(b, "a", "error_code", "too_many_questions"));
        b->en->asks_open -= 9999;
        engine_get_stats(b->en, &st);
        CHECK_INT(st.checkpoints_open, 2);
        eb_close(b);
}

/* ---- held back by the hub ---- */

static int granted;
static char granted_args[200];

static void on_granted(struct step *s, const struct gate_answer *a)
{
        (void)s;
        granted++;
        snprintf(granted_args, sizeof granted_args, "%s by %s", a->arguments, a->by);
}

static struct step *first_step(struct eb *b)
{
        struct run *r = map_get(b->en->runs, b->run);

        CHECK(r != NULL);
        return r->steps[0];
}

static void hold(struct eb *b, enum checkpoint_kind kind)
{
        cJSON *shown = cJSON_Parse("{\"cap\":1}");
        struct gate_question q = {
                .kind = kind, .title = "More money?", .shown = shown, .denied_code = "budget_denied"};

        gate_on_granted(b->en, kind, on_granted);
        step_gate(first_step(b), &q);
        cJSON_Delete(shown);
        eb_turn(b);
}

TEST(approval, a_step_over_its_budget_waits_and_goes_on_or_fails)
{
        struct eb *b = eb_open();

        eb_submit(b, "steps: [{id: a, run: x}]\n"); /* ready: nobody to take it */
        hold(b, KIND_BUDGET);
        CHECK_STR(eb_state(b, "a"), "waiting");
        CHECK_STR(eb_run_state(b), "waiting");
        CHECK_STR(newest(b).kind, "budget");
        eb_agent(b, "a1", 4);
        CHECK_INT(b->n_starts, 0);
        eb_reopen(b);
        eb_pass(b, 5000);
        CHECK_STR(eb_state(b, "a"), "waiting");
        eb_agent(b, "a1", 4);
        CHECK_INT(b->n_starts, 0);
        gate_on_granted(b->en, KIND_BUDGET, on_granted);
        granted = 0;
        CHECK_INT(answer(b, "ann", "technical-operator", true, NULL), 0);
        CHECK_INT(granted, 1);
        CHECK_STR(granted_args, "{\"question\":\"More money?\",\"about\":{\"cap\":1}} by ann");
        CHECK(eb_started(b, "a") != NULL);
        eb_answer(b, "a", ENGINE_SUCCEEDED, "{}");
        CHECK_STR(eb_run_state(b), "succeeded");
        eb_close(b);

        b = eb_open();
        eb_submit(b, "steps: [{id: a, run: x}]\n");
        hold(b, KIND_POLICY);
        CHECK_INT(answer(b, "ann", "admin", false, NULL), 0);
        CHECK_STR(eb_state(b, "a"), "failed");
        CHECK(column_is(b, "a", "error_code", "budget_denied"));
        eb_close(b);
}
