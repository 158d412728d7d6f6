/* Questions that tools ask people: from the agent's word to a row, an event and a timer; from a person's
 * answer, or the timer, to the agent.
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
#include "hub/sched/engine_impl.h"
#include "hub/store/store.h"

#define ASKS_OPEN_MAX    10000u              /* on this hub at once */
#define ASK_BYTES_MAX    ((size_t)256 << 20) /* their arguments and schemas */
#define ASKS_ATTEMPT_MAX 10000u              /* of one attempt, answered or not */

struct ask {
        struct list of_step; /* step.asks */
        struct step *step;
        int64_t seq;
        char *id;
        enum checkpoint_state state;
        bool form, always;
        unsigned commits; /* under way: nothing is said before they are durable */
        uint32_t question_id, attempt;
        int64_t created_us, expires_us, decided_us, delivered_us;
        char *action, *title, *tool, *arguments, *schema, *sha256;
        char *decided_by, *reason, *content;
        size_t bytes;
};

/* ---- rows and events ---- */

static void write_ask(const struct ask *a, bool live)
{
        const struct step *s = a->step;
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
                .kind = a->form ? "input" : "permission",
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
        };

        store_put_checkpoint(engine_tx(s->run->en), &row);
}

static int put_member(struct buf *b, const char *key, const char *value)
{
        int rc = buf_printf(b, "%s\"%s\":", b->len ? "," : "", key);

        return rc ? rc : json_append_str(b, value ? value : "", strlen(value ? value : ""));
}

static void publish(const struct ask *a, const char *type)
{
        const struct step *s = a->step;
        struct engine *en = s->run->en;
        char at[CLOCK_RFC3339_LEN];
        struct buf b;
        int rc;

        buf_init(&b, 0);
        rc = put_member(&b, "checkpoint", a->id);
        if (!rc && a->state == CHECKPOINT_OPEN) {
                clock_format(a->expires_us, at);
                if (put_member(&b, "kind", a->form ? "input" : "permission") ||
                    put_member(&b, "action", a->action) || put_member(&b, "title", a->title) ||
                    put_member(&b, "tool", a->tool) || put_member(&b, "sha256", a->sha256) ||
                    put_member(&b, "agent", s->agent ? s->agent->name : "") ||
                    put_member(&b, "expires_at", at))
                        rc = -E_NOMEM;
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

/* ---- the set ---- */

static struct ask *find(const struct step *s, uint32_t question_id)
{
        LIST_EACH (it, &s->asks) {
                struct ask *a = container_of(it, struct ask, of_step);

                if (a->question_id == question_id)
                        return a;
        }
        return NULL;
}

static void ask_free(struct ask *a)
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
        mem_free(a);
}

/* Open questions of a step that is active make its run wait. */
static void count(struct step *s, int delta)
{
        bool was = s->n_asks_open > 0;

        s->n_asks_open = (uint32_t)((int)s->n_asks_open + delta);
        s->run->en->asks_open = (size_t)((int64_t)s->run->en->asks_open + delta);
        if (was != (s->n_asks_open > 0) && s->state != STEP_UNKNOWN && step_active(s))
                s->run->n_asking += was ? (uint32_t)-1 : 1;
}

static void adopt(struct ask *a, struct step *s)
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

static void arm(struct ask *a)
{
        struct engine *en = a->step->run->en;
        int64_t left_ms = (a->expires_us - engine_now(en) + 999) / 1000;
        struct timer t = {.kind = TIMER_ASK, .serial = (uint64_t)a->seq};

        t.at_ms = clock_mono_ms(&en->clock) + (left_ms > 0 ? left_ms : 0);
        if (timers_add(&en->timers, &t))
                abort();
        engine_want_flush(en); /* arms */
}

/* ---- its end ---- */

/* The one way out of open. The row, the event and the answer to the agent are of one commit. */
static void decide(struct ask *a, enum checkpoint_state to, const char *by, const char *reason)
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
        write_ask(a, true);
        publish(a, "checkpoint.decided");
        a->commits++;
        engine_after_reply(en, a->seq);
}

void step_asks_withdraw(struct step *s)
{
        LIST_EACH (it, &s->asks) {
                struct ask *a = container_of(it, struct ask, of_step);

                if (a->state == CHECKPOINT_OPEN)
                        decide(a, CHECKPOINT_WITHDRAWN, "hub", "the tool call ends");
        }
}

void step_asks_end(struct step *s)
{
        step_asks_withdraw(s);
        LIST_EACH_SAFE (it, nx, &s->asks) {
                struct ask *a = container_of(it, struct ask, of_step);

                write_ask(a, false);
                ask_free(a);
        }
        s->asked = 0;
}

void step_asks_free(struct step *s)
{
        LIST_EACH_SAFE (it, nx, &s->asks)
                ask_free(container_of(it, struct ask, of_step));
}

static void expire(struct ask *a)
{
        char text[96], after[32];

        str_format_duration((a->expires_us - a->created_us) / 1000, after);
        snprintf(text, sizeof text, "nobody answered within %s", after);
        decide(a, CHECKPOINT_EXPIRED, "hub", text);
        run_settle(a->step->run);
}

void ask_expired(struct engine *en, int64_t ask_seq)
{
        struct ask *a = map_get_u64(en->asks_seq, (uint64_t)ask_seq);

        if (!a || a->state != CHECKPOINT_OPEN)
                return;
        if (engine_now(en) < a->expires_us)
                arm(a); /* the clock was set back */
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

static void open_ask(struct step *s, const struct engine_question *q)
{
        struct engine *en = s->run->en;
        struct ask *a = engine_alloc(sizeof *a);
        uint8_t sum[SHA256_LEN];
        char id[ID_LEN], hex[2 * SHA256_LEN + 1];

        a->seq = en->next_ask++;
        a->created_us = engine_now(en);
        a->expires_us =
                a->created_us + checkpoint_timeout_ms(q->timeout_ms, en->opt.question_timeout_ms) * 1000;
        id_make(a->created_us, id);
        secret_sha256(q->arguments, strlen(q->arguments), sum);
        str_hex(sum, sizeof sum, hex);
        a->id = engine_strdup(id);
        a->form = strcmp(q->kind, "input") == 0;
        a->question_id = q->question_id;
        a->attempt = s->attempt;
        a->action = engine_strdup(q->action);
        a->title = engine_strdup(q->title);
        a->tool = engine_strdup(q->tool);
        a->arguments = engine_strdup(q->arguments);
        a->schema = engine_strdup(q->schema);
        a->sha256 = engine_strdup(hex);
        s->asked++;
        adopt(a, s);
        write_ask(a, true);
        publish(a, "checkpoint.open");
        a->commits++;
        engine_after_reply(en, a->seq);
        arm(a);
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
                decide(a, CHECKPOINT_WITHDRAWN, "agent", "the tool does not wait for the answer any more");
        write_ask(a, false);
        ask_free(a);
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
        write_ask(a, false);
        ask_free(a);
}

void engine_held_questions(struct engine *en, const char *agent_id, uint64_t attempt_id, const uint32_t *ids,
                           size_t n)
{
        struct step *s = step_of(en, agent_id, attempt_id);

        if (!s)
                return;
        LIST_EACH_SAFE (it, nx, &s->asks) {
                struct ask *a = container_of(it, struct ask, of_step);
                bool held = false;

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

        snprintf(detail, sizeof detail, "{\"run\":\"%s\",\"sha256\":\"%s\",\"always\":%s}", a->step->run->id,
                 a->sha256, d->answer.always ? "true" : "false");
        store_put_audit(engine_tx(en), engine_now(en), d->answer.by,
                        d->answer.approve ? "checkpoint.approve" : "checkpoint.reject", a->id, detail);
}

void engine_decide(struct engine *en, const struct engine_decision *d, engine_answer cb, void *arg)
{
        struct ask *a = map_get(en->asks, d->checkpoint_id);
        struct checkpoint_facts f;
        struct err e = {0};
        int rc;

        if (!a) {
                cb(arg, err_set(&e, E_NOENT, "checkpoint %s is over", d->checkpoint_id), &e);
                return;
        }
        f = (struct checkpoint_facts){.id = a->id,
                                      .state = a->state,
                                      .form = a->form,
                                      .sha256 = a->sha256,
                                      .asked_by = a->step->run->created_by,
                                      .expires_us = a->expires_us,
                                      .decided_by = a->decided_by,
                                      .reason = a->reason};
        rc = checkpoint_check(&f, &d->answer, engine_now(en), en->opt.self_approval, &e);
        if (rc == -E_TIMEOUT && a->state == CHECKPOINT_OPEN)
                expire(a);
        if (rc) {
                cb(arg, rc, &e);
                return;
        }
        a->always = d->answer.always;
        if (d->answer.approve)
                set_text(&a->content, d->answer.content);
        decide(a, d->answer.approve ? CHECKPOINT_APPROVED : CHECKPOINT_REJECTED, d->answer.by, d->reason);
        audit(a, d);
        run_settle(a->step->run);
        engine_after_answer(en, cb, arg, 0, NULL);
}

/* ---- back from the store ---- */

static void fill(struct ask *a, const struct row_checkpoint *r)
{
        a->seq = r->seq;
        a->id = engine_strdup(r->id);
        a->state = r->state;
        a->form = r->kind && strcmp(r->kind, "input") == 0;
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
}

/* Its step went on without it: the hub died between two commits of what belongs together. */
static void close_row(struct engine *en, const struct row_checkpoint *r)
{
        struct row_checkpoint row = *r;

        row.live = false;
        if (checkpoint_move(&row.state, CHECKPOINT_WITHDRAWN) == 0) {
                row.decided_us = engine_now(en);
                row.decided_by = "hub";
                row.reason = "the tool call is over";
        }
        store_put_checkpoint(engine_tx(en), &row);
}

static int on_row(void *arg, const struct row_checkpoint *r)
{
        struct engine *en = arg;
        struct run *run = map_get_u64(en->runs_seq, (uint64_t)r->run_seq);
        struct step *s = run && !run->over && r->step_idx < run->n_steps ? run->steps[r->step_idx] : NULL;
        struct ask *a;

        if (!s || s->attempt_id != r->attempt_id || !step_active(s)) {
                close_row(en, r);
                return 0;
        }
        a = engine_alloc(sizeof *a);
        fill(a, r);
        adopt(a, s);
        s->asked++;
        if (a->state != CHECKPOINT_OPEN)
                return 0;
        if (s->cancel_requested)
                decide(a, CHECKPOINT_WITHDRAWN, "hub", "the tool call ends");
        else
                arm(a);
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
