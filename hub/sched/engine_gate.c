/* Steps that wait for people: `approval` steps, and steps held back by a budget or a policy. The step is
 * `waiting`, in no queue, and its question is a row of the same commit; so a hub that was restarted finds
 * both or neither. The answer's row, its audit record and the step's next state are of one commit, too. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/str.h"
#include "hub/sched/ask.h"
#include "hub/store/store.h"

#define QUESTION_MAX 4000u        /* bytes, evaluated */
#define SHOWN_MAX    (256u << 10) /* bytes, evaluated */

static void *must(void *p)
{
        if (!p)
                abort(); /* no memory: see engine.c */
        return p;
}

static struct ask *gate_of(const struct step *s)
{
        LIST_EACH (it, &s->asks) {
                struct ask *a = container_of(it, struct ask, of_step);

                if (checkpoint_by_hub(a->kind) && a->state == CHECKPOINT_OPEN)
                        return a;
        }
        return NULL;
}

bool step_gated(const struct step *s)
{
        return gate_of(s) != NULL;
}

void gate_on_granted(struct engine *en, enum checkpoint_kind kind, gate_granted fn)
{
        en->granted[kind] = fn;
}

/* ---- asked ---- */

/* Exactly what people are shown, and what the digest is over. */
static char *shown_text(const char *question, const cJSON *about, const cJSON *fields)
{
        cJSON *o = must(cJSON_CreateObject());
        char *text;

        must(cJSON_AddStringToObject(o, "question", question));
        if (about && !cJSON_AddItemReferenceToObject(o, "about", (cJSON *)about))
                abort();
        if (fields && !cJSON_AddItemReferenceToObject(o, "fields", (cJSON *)fields))
                abort();
        text = must(json_text(o));
        cJSON_Delete(o);
        return text;
}

static void open_gate(struct step *s, enum checkpoint_kind kind, const char *title, const cJSON *about,
                      const struct approval_rules *rules, const char *denied_code)
{
        static const struct approval_rules anybody = {.quorum = 1, .reject_quorum = 1, .then = THEN_DENY};
        struct engine *en = s->run->en;
        struct ask *a;

        if (en->asks_open >= ASKS_OPEN_MAX || en->ask_bytes > ASK_BYTES_MAX) {
                step_fail(s, "too_many_questions",
                          "too many questions wait for people on this hub: answer some, then retry the run");
                return;
        }
        a = engine_alloc(sizeof *a);
        if (approval_rules_copy(rules ? rules : &anybody, &a->rules))
                abort();
        if (denied_code)
                set_text(&a->rules.denied_code, denied_code);
        a->kind = kind;
        a->action = engine_strdup("other");
        a->title = engine_strdup(title);
        a->tool = engine_strdup(kind == KIND_APPROVAL ? "" : s->def->tool);
        a->arguments = shown_text(title, about, a->rules.fields);
        a->schema = approval_schema(a->rules.fields);
        a->form = a->schema != NULL;
        if (a->rules.fields && !a->schema)
                abort();
        s->started_us = kind == KIND_APPROVAL ? engine_now(s->run->en) : s->started_us;
        if (s->state != STEP_WAITING) /* else its question was lost: it is asked again */
                step_move(s, STEP_WAITING);
        ask_open(a, s, a->rules.timeout_ms);
        run_settle(s->run);
}

static int eval_question(struct step *s, char **question, cJSON **shown, struct err *e)
{
        struct expr_env env;
        struct step_scope *sc = scope_create(s->run, s, &env);
        char *text = NULL;
        int rc = tmpl_eval_str(s->def->approval->question, &env, question, e);

        if (!rc && s->def->approval->show)
                rc = tmpl_eval_json(s->def->approval->show, &env, shown, e);
        scope_free(sc);
        if (!rc && (!**question || strlen(*question) > QUESTION_MAX))
                rc = err_set(e, E_INVAL, "the question is %s",
                             **question ? "longer than 4000 bytes" : "empty");
        if (!rc && *shown) {
                text = must(json_text(*shown));
                if (strlen(text) > SHOWN_MAX)
                        rc = err_set(e, E_TOOBIG,
                                     "what \"show\" says is %zu bytes, the limit is %u: show a part",
                                     strlen(text), SHOWN_MAX);
        }
        mem_free(text);
        return rc;
}

void approval_open(struct step *s)
{
        char *question = NULL;
        cJSON *shown = NULL;
        struct err e = {0};

        if (eval_question(s, &question, &shown, &e))
                step_fail(s, "expression_error", e.msg);
        else
                open_gate(s, KIND_APPROVAL, question, shown, &s->def->approval->rules, NULL);
        mem_free(question);
        cJSON_Delete(shown);
}

void step_gate(struct step *s, const struct gate_question *q)
{
        if (s->demand)
                demand_remove(s);
        open_gate(s, q->kind, q->title, q->shown, q->rules, q->denied_code);
}

/* ---- decided ---- */

static cJSON *answerers(const struct ask *a)
{
        cJSON *list = must(cJSON_CreateArray());
        const cJSON *it;

        cJSON_ArrayForEach(it, a->record.answers)
        {
                cJSON *by = must(cJSON_Duplicate(cJSON_GetObjectItemCaseSensitive(it, "by"), true));

                if (!cJSON_AddItemToArray(list, by))
                        abort();
        }
        return list;
}

/* steps.ID.outputs of an approval step. */
static void put_outputs(const struct ask *a)
{
        cJSON *o = must(cJSON_CreateObject()), *answers = NULL;
        char *text;

        if (a->content && json_parse(a->content, strlen(a->content), &answers, NULL))
                answers = NULL;
        if (!answers)
                answers = must(cJSON_CreateObject());
        must(cJSON_AddStringToObject(o, "decision", checkpoint_state_name(a->state)));
        must(cJSON_AddStringToObject(o, "checkpoint", a->id));
        if (!cJSON_AddItemToObject(o, "by", answerers(a)) || !cJSON_AddItemToObject(o, "answers", answers))
                abort();
        must(cJSON_AddStringToObject(o, "reason", a->reason ? a->reason : ""));
        text = must(json_text(o));
        set_text(&a->step->outputs, text);
        mem_free(text);
        cJSON_Delete(o);
}

static void deny(const struct ask *a, char *code, size_t code_size, char *text, size_t size)
{
        bool late = a->state == CHECKPOINT_EXPIRED;

        snprintf(code, code_size, "%s",
                 a->rules.denied_code ? a->rules.denied_code
                 : late               ? "approval_expired"
                                      : "approval_rejected");
        if (late)
                snprintf(text, size, "checkpoint %s: %s; that counts as no", a->id, a->reason);
        else
                snprintf(text, size, "checkpoint %s was rejected by %s%s%.300s", a->id,
                         a->decided_by ? a->decided_by : "somebody", a->reason ? ": " : "",
                         a->reason ? a->reason : "");
}

/* Nobody answered in time, and the workflow says what then. */
static bool ends_otherwise(struct step *s, enum approval_then then, const char *code, const char *text)
{
        if (then == THEN_SKIP) {
                step_end(s, STEP_SKIPPED);
                return true;
        }
        if (then != THEN_FAIL)
                return false;
        set_text(&s->error_code, code);
        set_text(&s->error_message, text);
        step_end(s, STEP_FAILED); /* whatever continue-on-error says: step_tolerated */
        return true;
}

void gate_decided(struct ask *a)
{
        struct step *s = a->step;
        enum checkpoint_state state = a->state;
        enum approval_then then = a->rules.then;
        char code[64], text[512];

        deny(a, code, sizeof code, text, sizeof text);
        if (a->kind == KIND_APPROVAL)
                put_outputs(a);
        if (state == CHECKPOINT_APPROVED && a->kind != KIND_APPROVAL && s->run->en->granted[a->kind]) {
                struct gate_answer m = {
                        .checkpoint_id = a->id, .by = a->decided_by, .arguments = a->arguments};

                s->run->en->granted[a->kind](s, &m);
        }
        if (state == CHECKPOINT_APPROVED && a->kind == KIND_APPROVAL) {
                ask_forget(a);
                step_end(s, STEP_SUCCEEDED);
                return;
        }
        ask_forget(a);
        if (state == CHECKPOINT_APPROVED)
                step_prepare(s);
        else if (state != CHECKPOINT_EXPIRED || !ends_otherwise(s, then, code, text))
                step_fail(s, code, text);
}

/* ---- answers of people ---- */

int gate_check(const struct ask *a, struct engine_decision *d, struct err *e)
{
        cJSON *first = NULL, *now = NULL;
        bool same;

        if (!d->answer.approve || !d->answer.content || !a->content)
                return 0;
        if (json_parse(a->content, strlen(a->content), &first, e) ||
            json_parse(d->answer.content, strlen(d->answer.content), &now, e)) {
                cJSON_Delete(first);
                d->code = "invalid_content";
                return -E_INVAL;
        }
        same = cJSON_Compare(first, now, true);
        cJSON_Delete(first);
        cJSON_Delete(now);
        if (same)
                return 0;
        d->code = "answers_differ";
        return err_set(e, E_STATE,
                       "another approver of checkpoint %s has filled in other values, which it shows as "
                       "\"content\": approve with the same, or reject",
                       a->id);
}

void gate_answered(struct ask *a, const struct engine_decision *d)
{
        enum checkpoint_state to = CHECKPOINT_OPEN;

        if (approval_take(&a->rules, &a->record, &d->answer, d->reason, engine_now(a->step->run->en), &to))
                abort(); /* no memory: see engine.c */
        if (d->answer.approve && d->answer.content)
                set_text(&a->content, d->answer.content);
        if (to == CHECKPOINT_OPEN) {
                ask_write(a, true);
                ask_publish(a, "checkpoint.answered");
                return;
        }
        ask_decide(a, to, d->answer.by, d->reason);
        gate_decided(a);
}

/* Beside who started it, of which approval_delegate knows. */
static bool asks_itself(const struct run *r, const struct engine_delegation *d)
{
        return checkpoint_asker("", r->askers, d->from) ||
               checkpoint_asker(r->created_by, r->askers, d->from_maker) ||
               checkpoint_asker("", r->askers, d->to);
}

void engine_delegate(struct engine *en, struct engine_delegation *d, engine_answer cb, void *arg)
{
        struct ask *a = map_get(en->asks, d->checkpoint_id);
        struct err e = {0};
        char *detail;
        int rc;

        d->code = NULL;
        if (!a || a->state != CHECKPOINT_OPEN) {
                cb(arg, err_set(&e, E_NOENT, "checkpoint %s is over", d->checkpoint_id), &e);
                return;
        }
        if (!checkpoint_by_hub(a->kind)) {
                d->code = "not_delegable";
                cb(arg,
                   err_set(&e, E_STATE,
                           "a tool asks checkpoint %s: whoever may decide checkpoints can answer it", a->id),
                   &e);
                return;
        }
        if (asks_itself(a->step->run, d)) {
                d->code = "own_request";
                cb(arg,
                   err_set(&e, E_DENIED,
                           "%s and %s cannot hand it on to each other: one of them started or retried the "
                           "run "
                           "that asks, and somebody else is to answer",
                           d->from, d->to),
                   &e);
                return;
        }
        rc = approval_delegate(&a->rules, &a->record, d->from, d->from_role, d->to, a->step->run->created_by,
                               engine_now(en), &d->code, &e);
        if (rc) {
                cb(arg, rc, &e);
                return;
        }
        ask_write(a, true);
        ask_publish(a, "checkpoint.delegated");
        ask_notice(a, "checkpoint.delegated", d->to);
        detail = must(str_printf("{\"run\":\"%s\",\"sha256\":\"%s\"}", a->step->run->id, a->sha256));
        store_put_audit(engine_tx(en), engine_now(en), d->from, "checkpoint.delegate", a->id, detail);
        mem_free(detail);
        engine_after_answer(en, cb, arg, 0, NULL);
}

bool gate_escalate(struct ask *a)
{
        struct engine *en = a->step->run->en;

        if (!approval_can_escalate(&a->rules, &a->record))
                return false;
        if (a->rules.then != THEN_ESCALATE && engine_now(en) >= a->expires_us)
                return false; /* the hub was down at its time: now it is too late */
        a->record.escalated_us = engine_now(en);
        if (engine_now(en) >= a->expires_us) /* others get as long as the first ones */
                a->expires_us = engine_now(en) + (a->expires_us - a->created_us);
        ask_write(a, true);
        ask_publish(a, "checkpoint.escalated");
        ask_notice(a, "checkpoint.escalated", NULL);
        engine_audit(en, "hub", "checkpoint.escalate", a->id,
                     (const struct audit_word[]){{"run", a->step->run->id}, {"sha256", a->sha256}, {0}});
        log_info("engine", "a checkpoint escalated", "checkpoint=%s run=%s", a->id, a->step->run->id);
        return true;
}
