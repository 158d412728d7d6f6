/* Questions that people are asked: a row, an event and a timer; from a person's answer, or the timer, to the
 * agent whose tool asks. What the hub asks for a step that waits goes on in engine_gate.c.
 *
 * An ask lives with the attempt that asks: it is found while it is open, and after that until its agent has
 * acknowledged the answer or the attempt is over. Rows say the same (live), so that a hub that was restarted
 * goes on where it was: deadlines are points in time, and an answer that an agent has not heard is said when
 * the agent asks again, which it does after each Hello. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/buf.h"
#include "common/id.h"
#include "common/json.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/secret.h"
#include "common/str.h"
#include "hub/event/bus.h"
#include "hub/sched/ask.h"
#include "hub/store/store.h"

#define ASKS_ATTEMPT_MAX 10000u /* of one attempt, answered or not */

/* ---- rows and events ---- */

void ask_write(const struct ask *a, bool live)
{
        const struct step *s = a->step;
        bool hub = checkpoint_by_hub(a->kind);
        struct row_seal seal;
        char *rules = hub ? approval_rules_text(&a->rules) : NULL;
        char *record = hub ? approval_record_text(&a->record) : NULL;
        struct row_checkpoint row = {
                .seq = a->seq,
                .id = a->id,
                .state = a->state,
                .live = live,
                .run_seq = s->run->seq,
                .step_idx = s->idx,
                .attempt_id = s->attempt_id,
                .attempt = a->attempt,
                .question_id = a->question_id,
                .always = a->always,
                .created_us = a->created_us,
                .expires_us = a->expires_us,
                .decided_us = a->decided_us,
                .delivered_us = a->delivered_us,
                .run_id = s->run->id,
                .step_id = s->id,
                .workflow = s->run->wf->name,
                .project = s->run->project,
                .kind = checkpoint_kind_name(a->kind),
                .action = a->action,
                .title = a->title,
                .tool = a->tool,
                .step_tool = s->def->tool,
                .agent = s->agent ? s->agent->id : NULL,
                .agent_name = s->agent ? s->agent->name : NULL,
                .asked_by = s->run->created_by,
                .sha256 = a->sha256,
                .decided_by = a->decided_by,
                .reason = a->reason,
                .content = a->content,
                .schema = a->schema,
                .arguments = a->arguments,
                .rules = rules,
                .record = record,
        };

        if (hub && (!rules || !record))
                abort(); /* no memory: see engine.c */
        seal_checkpoint(s->run->en, &row, &seal);
        store_put_checkpoint(engine_tx(s->run->en), &row);
        mem_free(rules);
        mem_free(record);
}

static int put_member(struct buf *b, const char *key, const char *value)
{
        int rc = buf_printf(b, "%s\"%s\":", b->len ? "," : "", key);

        return rc ? rc : json_append_str(b, value ? value : "", strlen(value ? value : ""));
}

void ask_publish(const struct ask *a, const char *type)
{
        const struct step *s = a->step;
        struct engine *en = s->run->en;
        char at[CLOCK_RFC3339_LEN];
        struct buf b;
        int rc, yes, no;

        buf_init(&b, 0);
        rc = put_member(&b, "checkpoint", a->id);
        if (!rc && a->state == CHECKPOINT_OPEN) {
                clock_format(a->expires_us, at);
                if (put_member(&b, "kind", checkpoint_kind_name(a->kind)) ||
                    put_member(&b, "action", a->action) || put_member(&b, "title", a->title) ||
                    put_member(&b, "tool", a->tool) || put_member(&b, "sha256", a->sha256) ||
                    put_member(&b, "agent", s->agent ? s->agent->name : "") ||
                    put_member(&b, "expires_at", at))
                        rc = -E_NOMEM;
                if (!rc && checkpoint_by_hub(a->kind)) {
                        approval_count(&a->record, &yes, &no);
                        rc = buf_printf(&b, ",\"approved\":%d,\"rejected\":%d,\"quorum\":%d", yes, no,
                                        a->rules.quorum);
                }
        } else if (!rc) {
                if (put_member(&b, "state", checkpoint_state_name(a->state)) ||
                    put_member(&b, "title", a->title) || put_member(&b, "by", a->decided_by) ||
                    put_member(&b, "reason", a->reason))
                        rc = -E_NOMEM;
        }
        if (!rc)
                rc = buf_putc(&b, '\0');
        bus_publish(en->bus, engine_now(en), type, s->run->id, s->id, rc ? NULL : (const char *)b.data);
        buf_fini(&b);
}

void ask_notice(const struct ask *a, const char *event, const char *to)
{
        struct engine *en = a->step->run->en;
        struct engine_notice n = {.event = event,
                                  .checkpoint_id = a->id,
                                  .kind = checkpoint_kind_name(a->kind),
                                  .title = a->title,
                                  .sha256 = a->sha256,
                                  .run_id = a->step->run->id,
                                  .step_id = a->step->id,
                                  .workflow = a->step->run->wf->name,
                                  .project = a->step->run->project,
                                  .asked_by = a->step->run->created_by,
                                  .rules = checkpoint_by_hub(a->kind) ? &a->rules : NULL,
                                  .to = to,
                                  .at_us = engine_now(en),
                                  .expires_us = a->expires_us};

        if (!en->opt.notice)
                return;
        en->opt.notice(en->opt.ctx, engine_tx(en), &n);
        if (en->opt.notice_durable)
                engine_after_call(en, en->opt.notice_durable, en->opt.ctx);
}

/* ---- the set ---- */

static struct ask *find(const struct step *s, uint32_t question_id)
{
        LIST_EACH (it, &s->asks) {
                struct ask *a = container_of(it, struct ask, of_step);

                if (a->question_id == question_id && !checkpoint_by_hub(a->kind))
                        return a;
        }
        return NULL;
}

void ask_forget(struct ask *a)
{
        struct engine *en = a->step->run->en;

        list_remove(&a->of_step);
        if (a->id)
                map_del(en->asks, a->id);
        map_del_u64(en->asks_seq, (uint64_t)a->seq);
        en->ask_bytes -= a->bytes;
        mem_free(a->id);
        mem_free(a->action);
        mem_free(a->title);
        mem_free(a->tool);
        mem_free(a->arguments);
        mem_free(a->schema);
        mem_free(a->sha256);
        mem_free(a->decided_by);
        mem_free(a->reason);
        mem_free(a->content);
        approval_rules_fini(&a->rules);
        approval_record_fini(&a->record);
        mem_free(a);
}

/* Open questions of a step that is active make its run wait. */
static void count(struct step *s, int delta)
{
        bool was = s->n_asks_open > 0;

        s->n_asks_open = (uint32_t)((int)s->n_asks_open + delta);
        s->run->en->asks_open = (size_t)((int64_t)s->run->en->asks_open + delta);
        if (was != (s->n_asks_open > 0) && step_counts_active(s->state))
                s->run->n_asking += was ? (uint32_t)-1 : 1;
}

void ask_adopt(struct ask *a, struct step *s)
{
        struct engine *en = s->run->en;

        a->step = s;
        a->bytes = strlen(a->arguments) + (a->schema ? strlen(a->schema) : 0);
        en->ask_bytes += a->bytes;
        list_push_back(&s->asks, &a->of_step);
        if (map_put(en->asks, a->id, a, NULL) || map_put_u64(en->asks_seq, (uint64_t)a->seq, a, NULL))
                abort();
        if (a->state == CHECKPOINT_OPEN)
                count(s, 1);
}

void ask_arm(struct ask *a)
{
        struct engine *en = a->step->run->en;
        int64_t left_ms = (ask_next_us(a) - engine_now(en) + 999) / 1000;
        struct timer t = {.kind = TIMER_ASK, .serial = (uint64_t)a->seq};

        t.at_ms = clock_mono_ms(&en->clock) + (left_ms > 0 ? left_ms : 0);
        if (timers_add(&en->timers, &t))
                abort();
        engine_want_flush(en); /* arms */
}

/* ---- its end ---- */

/* The one way out of open. The row, the event and the answer to the agent are of one commit. */
void ask_decide(struct ask *a, enum checkpoint_state to, const char *by, const char *reason)
{
        struct engine *en = a->step->run->en;

        if (checkpoint_move(&a->state, to)) {
                log_error("engine", "impossible move of a checkpoint", "checkpoint=%s from=%s to=%s", a->id,
                          checkpoint_state_name(a->state), checkpoint_state_name(to));
                abort(); /* a bug: the rows on disk are whole, going on would make them lie */
        }
        count(a->step, -1);
        a->decided_us = engine_now(en);
        set_text(&a->decided_by, by);
        set_text(&a->reason, reason && *reason ? reason : NULL);
        ask_write(a, !checkpoint_by_hub(a->kind));
        ask_publish(a, "checkpoint.decided");
        if (checkpoint_by_hub(a->kind))
                return; /* no agent waits to hear it */
        a->commits++;
        engine_after_reply(en, a->seq);
}

void step_asks_withdraw(struct step *s)
{
        LIST_EACH (it, &s->asks) {
                struct ask *a = container_of(it, struct ask, of_step);

                if (a->state == CHECKPOINT_OPEN)
                        ask_decide(a, CHECKPOINT_WITHDRAWN, "hub", "the tool call ends");
        }
}

void step_asks_end(struct step *s)
{
        step_asks_withdraw(s);
        LIST_EACH_SAFE (it, nx, &s->asks) {
                struct ask *a = container_of(it, struct ask, of_step);

                ask_write(a, false);
                ask_forget(a);
        }
        s->asked = 0;
}

void step_asks_free(struct step *s)
{
        LIST_EACH_SAFE (it, nx, &s->asks)
                ask_forget(container_of(it, struct ask, of_step));
}

int64_t ask_next_us(const struct ask *a)
{
        return checkpoint_by_hub(a->kind)
                       ? approval_next_us(&a->rules, &a->record, a->created_us, a->expires_us)
                       : a->expires_us;
}

static void expire(struct ask *a)
{
        char text[96], after[32];
        struct run *r = a->step->run;

        str_format_duration((a->expires_us - a->created_us) / 1000, after);
        snprintf(text, sizeof text, "%s answered within %s",
                 checkpoint_by_hub(a->kind) && a->rules.quorum > 1 ? "too few" : "nobody", after);
        ask_decide(a, CHECKPOINT_EXPIRED, "hub", text);
        engine_audit(
                r->en, "hub", "checkpoint.expire", a->id,
                (const struct audit_word[]){
                        {"run", r->id}, {"kind", checkpoint_kind_name(a->kind)}, {"sha256", a->sha256}, {0}});
        if (checkpoint_by_hub(a->kind))
                gate_decided(a);
        run_settle(r);
}

void ask_expired(struct engine *en, int64_t ask_seq)
{
        struct ask *a = map_get_u64(en->asks_seq, (uint64_t)ask_seq);

        if (!a || a->state != CHECKPOINT_OPEN)
                return;
        if (engine_now(en) < ask_next_us(a))
                ask_arm(a); /* the clock was set back, or an earlier timer of its */
        else if (checkpoint_by_hub(a->kind) && gate_escalate(a))
                ask_arm(a);
        else
                expire(a);
}

/* ---- towards the agent ---- */

static void send_reply(const struct ask *a)
{
        struct engine *en = a->step->run->en;
        struct engine_reply m = {.attempt_id = a->step->attempt_id,
                                 .question_id = a->question_id,
                                 .state = a->state,
                                 .always = a->always,
                                 .content = a->content,
                                 .reason = a->reason,
                                 .by = a->decided_by};

        if (a->step->agent && a->step->agent->online)
                en->wire.reply(en->wire.ctx, a->step->agent->id, &m);
}

void ask_reply(struct engine *en, int64_t ask_seq)
{
        struct ask *a = map_get_u64(en->asks_seq, (uint64_t)ask_seq);

        if (!a)
                return; /* its step is over */
        a->commits--;
        if (a->state != CHECKPOINT_OPEN && a->commits == 0)
                send_reply(a);
}

/* No row: nobody was asked. */
static void turn_down(struct engine *en, const char *agent_id, const struct engine_question *q,
                      enum checkpoint_state state, const char *reason)
{
        struct engine_reply m = {.attempt_id = q->attempt_id,
                                 .question_id = q->question_id,
                                 .state = state,
                                 .reason = reason,
                                 .by = "hub"};

        en->wire.reply(en->wire.ctx, agent_id, &m);
}

/* ---- from agents ---- */

static struct step *step_of(const struct engine *en, const char *agent_id, uint64_t attempt_id)
{
        struct step *s = map_get_u64(en->attempts, attempt_id);

        return s && s->agent && strcmp(s->agent->id, agent_id) == 0 ? s : NULL;
}

/* What both roads have in common: the id, the digest, the row, the event, the notice and the timer. */
void ask_open(struct ask *a, struct step *s, int64_t timeout_ms)
{
        struct engine *en = s->run->en;
        uint8_t sum[SHA256_LEN];
        char id[ID_LEN], hex[2 * SHA256_LEN + 1];

        a->seq = en->next_ask++;
        a->created_us = engine_now(en);
        a->expires_us = a->created_us + checkpoint_timeout_ms(timeout_ms, en->opt.question_timeout_ms) * 1000;
        id_make(a->created_us, id);
        secret_sha256(a->arguments, strlen(a->arguments), sum);
        str_hex(sum, sizeof sum, hex);
        a->id = engine_strdup(id);
        a->sha256 = engine_strdup(hex);
        a->attempt = s->attempt;
        ask_adopt(a, s);
        ask_write(a, true);
        ask_publish(a, "checkpoint.open");
        ask_notice(a, "checkpoint.open", NULL);
        ask_arm(a);
}

static void open_ask(struct step *s, const struct engine_question *q)
{
        struct ask *a = engine_alloc(sizeof *a);

        a->kind = strcmp(q->kind, "input") == 0 ? KIND_INPUT : KIND_PERMISSION;
        a->form = a->kind == KIND_INPUT;
        a->question_id = q->question_id;
        a->action = engine_strdup(q->action);
        a->title = engine_strdup(q->title);
        a->tool = engine_strdup(q->tool);
        a->arguments = engine_strdup(q->arguments);
        a->schema = engine_strdup(q->schema);
        s->asked++;
        ask_open(a, s, q->timeout_ms);
        a->commits++;
        engine_after_reply(s->run->en, a->seq);
        run_settle(s->run);
}

void engine_on_question(struct engine *en, const char *agent_id, const struct engine_question *q)
{
        struct step *s = step_of(en, agent_id, q->attempt_id);
        struct ask *a = s ? find(s, q->question_id) : NULL;

        if (a) {
                if (a->state != CHECKPOINT_OPEN && a->commits == 0)
                        send_reply(a);
        } else if (!s || s->cancel_requested) {
                turn_down(en, agent_id, q, CHECKPOINT_WITHDRAWN, "the step is over");
        } else if (en->asks_open >= ASKS_OPEN_MAX || en->ask_bytes > ASK_BYTES_MAX ||
                   s->asked >= ASKS_ATTEMPT_MAX) {
                log_warn("engine", "a question was turned down", "run=%s step=%s open=%zu asked=%u",
                         s->run->id, s->id, en->asks_open, s->asked);
                turn_down(en, agent_id, q, CHECKPOINT_REJECTED,
                          s->asked >= ASKS_ATTEMPT_MAX ? "this call has asked too often"
                                                       : "too many questions wait for people on this hub");
        } else {
                open_ask(s, q);
        }
}

static void withdrawn_by_agent(struct ask *a)
{
        struct step *s = a->step;

        if (a->state == CHECKPOINT_OPEN)
                ask_decide(a, CHECKPOINT_WITHDRAWN, "agent",
                           "the tool does not wait for the answer any more");
        ask_write(a, false);
        ask_forget(a);
        run_settle(s->run);
}

void engine_on_question_withdrawn(struct engine *en, const char *agent_id, uint64_t attempt_id,
                                  uint32_t question_id)
{
        struct step *s = step_of(en, agent_id, attempt_id);
        struct ask *a = s ? find(s, question_id) : NULL;

        if (a)
                withdrawn_by_agent(a);
}

void engine_on_reply_ack(struct engine *en, const char *agent_id, uint64_t attempt_id, uint32_t question_id)
{
        struct step *s = step_of(en, agent_id, attempt_id);
        struct ask *a = s ? find(s, question_id) : NULL;

        if (!a || a->state == CHECKPOINT_OPEN)
                return;
        a->delivered_us = engine_now(en);
        ask_write(a, false);
        ask_forget(a);
}

void engine_held_questions(struct engine *en, const char *agent_id, uint64_t attempt_id, const uint32_t *ids,
                           size_t n)
{
        struct step *s = step_of(en, agent_id, attempt_id);

        if (!s)
                return;
        LIST_EACH_SAFE (it, nx, &s->asks) {
                struct ask *a = container_of(it, struct ask, of_step);
                bool held = checkpoint_by_hub(a->kind);

                for (size_t i = 0; i < n && !held; i++)
                        held = ids[i] == a->question_id;
                if (!held)
                        withdrawn_by_agent(a);
        }
}

/* ---- from people ---- */

/* In the decision's own transaction: what was decided is bound to what was shown. */
static void audit(struct ask *a, const struct engine_decision *d)
{
        struct engine *en = a->step->run->en;
        char detail[256];

        snprintf(detail, sizeof detail, "{\"run\":\"%s\",\"kind\":\"%s\",\"sha256\":\"%s\",\"always\":%s}",
                 a->step->run->id, checkpoint_kind_name(a->kind), a->sha256,
                 d->answer.always ? "true" : "false");
        store_put_audit(engine_tx(en), engine_now(en), d->answer.by,
                        d->answer.approve ? "checkpoint.approve" : "checkpoint.reject", a->id, detail);
}

static int check(struct ask *a, struct engine_decision *d, struct err *e)
{
        struct engine *en = a->step->run->en;
        bool hub = checkpoint_by_hub(a->kind);
        struct checkpoint_facts f = {.id = a->id,
                                     .state = a->state,
                                     .kind = a->kind,
                                     .form = a->form,
                                     .sha256 = a->sha256,
                                     .asked_by = a->step->run->created_by,
                                     .askers = a->step->run->askers,
                                     .expires_us = a->expires_us,
                                     .decided_by = a->decided_by,
                                     .reason = a->reason,
                                     .rules = hub ? &a->rules : NULL,
                                     .record = hub ? &a->record : NULL};
        int rc = checkpoint_check(&f, &d->answer, engine_now(en), en->opt.self_approval, &d->code, e);

        return rc || !hub ? rc : gate_check(a, d, e);
}

void engine_decide(struct engine *en, struct engine_decision *d, engine_answer cb, void *arg)
{
        struct ask *a = map_get(en->asks, d->checkpoint_id);
        struct err e = {0};
        struct run *r;
        int rc;

        d->code = NULL;
        if (!a) {
                /* With this turn's commit: who decided it is readable by then. */
                rc = err_set(&e, E_NOENT, "checkpoint %s is over", d->checkpoint_id);
                engine_after_answer(en, cb, arg, rc, &e);
                return;
        }
        r = a->step->run;
        rc = check(a, d, &e);
        if (rc == -E_TIMEOUT && a->state == CHECKPOINT_OPEN)
                expire(a);
        if (!rc && d->also)
                rc = d->also(d->also_ctx, engine_tx(en), &d->code, &e);
        if (rc) {
                cb(arg, rc, &e);
                return;
        }
        d->code = NULL;
        audit(a, d);
        if (checkpoint_by_hub(a->kind)) {
                gate_answered(a, d);
        } else {
                a->always = d->answer.always;
                if (d->answer.approve)
                        set_text(&a->content, d->answer.content);
                ask_decide(a, d->answer.approve ? CHECKPOINT_APPROVED : CHECKPOINT_REJECTED, d->answer.by,
                           d->reason);
        }
        run_settle(r);
        engine_after_answer(en, cb, arg, 0, NULL);
}

/* ---- back from the store ---- */

/* A row whose rules cannot be read is nobody's question any more: -E_CORRUPT. */
static int fill(struct ask *a, const struct row_checkpoint *r)
{
        struct err e = {0};

        if (checkpoint_kind_parse(r->kind, &a->kind))
                return -E_CORRUPT;
        if (checkpoint_by_hub(a->kind) &&
            (!r->rules || !r->record || approval_rules_read(r->rules, &a->rules, &e) ||
             approval_record_read(r->record, &a->record, &e))) {
                log_error("engine", "a checkpoint could not be read back", "checkpoint=%s error=%s", r->id,
                          e.msg);
                return -E_CORRUPT;
        }
        a->seq = r->seq;
        a->id = engine_strdup(r->id);
        a->state = r->state;
        a->form = a->kind == KIND_INPUT || (checkpoint_by_hub(a->kind) && r->schema);
        a->always = r->always;
        a->question_id = r->question_id;
        a->attempt = r->attempt;
        a->created_us = r->created_us;
        a->expires_us = r->expires_us;
        a->decided_us = r->decided_us;
        a->delivered_us = r->delivered_us;
        a->action = engine_strdup(r->action);
        a->title = engine_strdup(r->title);
        a->tool = engine_strdup(r->tool);
        a->arguments = engine_strdup(r->arguments ? r->arguments : "");
        a->schema = engine_strdup(r->schema);
        a->sha256 = engine_strdup(r->sha256);
        a->decided_by = engine_strdup(r->decided_by);
        a->reason = engine_strdup(r->reason);
        a->content = engine_strdup(r->content);
        return 0;
}

/* Its step went on without it: the hub died between two commits of what belongs together. */
static void close_row(struct engine *en, const struct row_checkpoint *r)
{
        struct row_checkpoint row = *r;
        struct row_seal seal;

        row.live = false;
        if (checkpoint_move(&row.state, CHECKPOINT_WITHDRAWN) == 0) {
                row.decided_us = engine_now(en);
                row.decided_by = "hub";
                row.reason = "the tool call is over";
        }
        seal_checkpoint(en, &row, &seal);
        store_put_checkpoint(engine_tx(en), &row);
}

/* Does the step still wait for it? */
static bool still_asks(const struct step *s, const struct row_checkpoint *r)
{
        enum checkpoint_kind kind;

        if (!s || s->attempt_id != r->attempt_id || checkpoint_kind_parse(r->kind, &kind))
                return false;
        return checkpoint_by_hub(kind) ? s->state == STEP_WAITING && r->state == CHECKPOINT_OPEN
                                       : step_active(s);
}

/* Somebody else has written it: no answer in it counts. A tool asks again; what the hub asked itself fails.
 */
static void refuse_row(struct step *s, const struct row_checkpoint *r)
{
        struct engine *en = s->run->en;
        enum checkpoint_kind kind;
        struct err e = {0};

        seal_broken(en, s->run->id, s->id, "checkpoint", &e);
        close_row(en, r);
        if (s->state == STEP_WAITING && (checkpoint_kind_parse(r->kind, &kind) || checkpoint_by_hub(kind))) {
                step_fail(s, "step_signature", e.msg);
                run_settle(s->run);
        }
}

static int on_row(void *arg, const struct row_checkpoint *r)
{
        struct engine *en = arg;
        struct run *run = map_get_u64(en->runs_seq, (uint64_t)r->run_seq);
        struct step *s = run && !run->over && r->step_idx < run->n_steps ? run->steps[r->step_idx] : NULL;
        struct ask *a;

        if (s && (r->sealed.refused || !seal_checkpoint_holds(en, r))) {
                refuse_row(s, r);
                return 0;
        }
        if (!still_asks(s, r)) {
                close_row(en, r);
                return 0;
        }
        a = engine_alloc(sizeof *a);
        if (fill(a, r)) {
                approval_rules_fini(&a->rules);
                mem_free(a);
                close_row(en, r);
                return 0;
        }
        ask_adopt(a, s);
        s->asked++;
        if (a->state != CHECKPOINT_OPEN)
                return 0;
        if (s->cancel_requested && !checkpoint_by_hub(a->kind))
                ask_decide(a, CHECKPOINT_WITHDRAWN, "hub", "the tool call ends");
        else
                ask_arm(a);
        run_settle(s->run);
        return 0;
}

int asks_load(struct engine *en, struct err *e)
{
        struct checkpoint_filter f = {.live_only = true};
        int64_t newest = 0;
        int rc = read_checkpoint_max(en->reader, &newest);

        en->next_ask = newest + 1;
        if (!rc)
                rc = read_checkpoints(en->reader, &f, on_row, en);
        return rc ? err_set(e, -rc, "the checkpoints could not be read from the database") : 0;
}
