/* What people ask for: cancel, retry, a decision about an unknown step, standard input. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/json.h"
#include "common/mem.h"
#include "hub/sched/engine_impl.h"
#include "hub/store/store.h"

#define STDIN_ROOM (256u << 10) /* bytes a call's standard input may wait for its agent */

/* ---- cancel ---- */

void step_cancel(struct step *s, const char *reason)
{
        struct engine *en = s->run->en;

        switch (s->state) {
        case STEP_BLOCKED:
        case STEP_READY:
        case STEP_WAITING:
                step_end(s, STEP_CANCELLED);
                break;
        case STEP_DISPATCHED:
        case STEP_RUNNING:
                if (s->fanout) {
                        for (uint32_t i = 0; i < s->n_children && s->state == STEP_RUNNING; i++) {
                                struct step *c = s->run->steps[s->first_child + i];

                                if (!step_state_final(c->state))
                                        step_cancel(c, reason);
                        }
                        break;
                }
                s->cancel_requested = true;
                step_asks_withdraw(s);
                if (!s->agent || s->agent->gone)
                        step_end(s, STEP_CANCELLED);
                else
                        engine_after_cancel(en, s->agent, s->attempt_id, reason);
                break;
        case STEP_UNKNOWN:
                step_end(s, STEP_CANCELLED);
                break;
        default:
                break;
        }
}

/* A step that asks to run after a cancellation (always(), cancelled(), finally) keeps its turn. */
bool step_survives_cancel(const struct step *s)
{
        return s->def->finally || (s->def->cond && expr_uses_status(s->def->cond));
}

static void cancel_queued(struct run *r)
{
        run_release(r);
        for (uint32_t i = 0; i < r->n_steps; i++)
                if (r->steps[i]->state == STEP_BLOCKED)
                        r->steps[i]->unmet = 0;
        r->force_cancel = true;
        for (uint32_t i = 0; i < r->n_steps; i++)
                if (r->steps[i]->state == STEP_BLOCKED)
                        step_end(r->steps[i], STEP_CANCELLED);
        run_move(r, RUN_CANCELLED);
        r->finished_us = engine_now(r->en);
        r->over = true;
        engine_after_over(r->en, r);
}

void run_cancel(struct run *r, const char *reason)
{
        bool again = r->cancel_requested;

        if (r->over)
                return;
        r->cancel_requested = true;
        r->force_cancel |= again;
        set_text(&r->cancel_reason, reason);
        run_dirty(r);
        if (r->state == RUN_QUEUED) {
                cancel_queued(r);
                return;
        }
        for (uint32_t i = 0; i < r->n_steps && !r->over; i++) {
                struct step *s = r->steps[i];

                if (s->fanout || s->state == STEP_BLOCKED || step_state_final(s->state))
                        continue; /* blocked ones decide when their needs are over */
                if (again || !step_survives_cancel(s))
                        step_cancel(s, reason);
        }
        run_settle(r);
}

void engine_audit(struct engine *en, const char *by, const char *action, const char *object,
                  const struct audit_word *words)
{
        struct buf b;
        int rc;

        buf_init(&b, 0);
        rc = buf_putc(&b, '{');
        for (const struct audit_word *w = words; !rc && w && w->key; w++) {
                const char *v = w->value ? w->value : "";

                rc = buf_printf(&b, "%s\"%s\":", b.len > 1 ? "," : "", w->key);
                if (!rc)
                        rc = json_append_str(&b, v, strlen(v));
        }
        if (!rc)
                rc = buf_put(&b, "}", 2);
        if (rc)
                abort(); /* as everywhere in the engine: no memory for a few words */
        store_put_audit(engine_tx(en), engine_now(en), by && *by ? by : "hub", action, object,
                        words ? (const char *)b.data : NULL);
        buf_fini(&b);
}

void engine_cancel(struct engine *en, const char *run_id, const char *by, const char *reason,
                   engine_answer cb, void *arg)
{
        struct run *r = map_get(en->runs, run_id);
        struct err e = {0};

        if (!r || r->over) {
                cb(arg,
                   err_set(&e, E_NOENT, "run %s is not active: it is over, or there is no such run", run_id),
                   &e);
                return;
        }
        engine_audit(en, by, "run.cancel", run_id, NULL);
        run_cancel(r, reason ? reason : "cancelled by a person");
        engine_after_answer(en, cb, arg, 0, NULL);
}

/* ---- an unknown step ---- */

static struct step *find_step(struct run *r, const char *id)
{
        for (uint32_t i = 0; i < r->n_steps; i++)
                if (!strcmp(r->steps[i]->id, id))
                        return r->steps[i];
        return NULL;
}

bool run_add_asker(struct run *r, const char *name)
{
        cJSON *s;

        if (!name || !*name || checkpoint_asker(r->created_by, r->askers, name))
                return true;
        if (cJSON_GetArraySize(r->askers) >= RUN_ASKERS_MAX)
                return false;
        s = cJSON_CreateString(name);
        if (!r->askers)
                r->askers = cJSON_CreateArray();
        if (!s || !r->askers || !cJSON_AddItemToArray(r->askers, s))
                abort(); /* no memory: see engine.c */
        return true;
}

int run_asked_again(struct run *r, const struct engine_actor *who, struct err *e)
{
        if (!run_add_asker(r, who->by) || !run_add_asker(r, who->maker))
                return err_set(e, E_FULL, "%d people have started or retried run %s already: submit it anew",
                               cJSON_GetArraySize(r->askers) + 1, r->id);
        run_dirty(r);
        return 0;
}

void engine_resolve(struct engine *en, const char *run_id, const struct engine_actor *who,
                    const char *step_id, const char *outcome, engine_answer cb, void *arg)
{
        struct run *r = map_get(en->runs, run_id);
        struct step *s = r && !r->over ? find_step(r, step_id) : NULL;
        struct err e = {0};
        int rc = 0;

        if (!s)
                rc = err_set(&e, E_NOENT, "no active run %s with a step %s", run_id, step_id);
        else if (s->state != STEP_UNKNOWN)
                rc = err_set(&e, E_STATE, "step %s is %s, not unknown: there is nothing to decide", step_id,
                             step_state_name(s->state));
        else if (strcmp(outcome, "retry") && strcmp(outcome, "succeeded") && strcmp(outcome, "failed"))
                rc = err_set(&e, E_INVAL, "outcome is \"%s\"; it must be retry, succeeded or failed",
                             outcome);
        else if (!strcmp(outcome, "retry"))
                rc = run_asked_again(r, who, &e);
        if (rc) {
                cb(arg, rc, &e);
                return;
        }
        engine_audit(en, who->by, "step.resolve", run_id,
                     (const struct audit_word[]){{"step", step_id}, {"outcome", outcome}, {0}});
        if (!strcmp(outcome, "retry")) {
                step_note_attempt(s, "unknown");
                step_reset(s);
                step_requeue(s, 0);
        } else if (!strcmp(outcome, "succeeded")) {
                step_reset(s);
                step_end(s, STEP_SUCCEEDED);
        } else {
                step_end(s, STEP_FAILED);
        }
        run_settle(r);
        engine_after_answer(en, cb, arg, 0, NULL);
}

/* ---- standard input of a call ---- */

static struct stdin_pipe *pipe_of(struct step *s)
{
        if (!s->in)
                s->in = engine_alloc(sizeof *s->in);
        return s->in;
}

void step_stdin_resend(struct step *s)
{
        struct engine *en = s->run->en;

        if (s->in && (s->in->len || s->in->eof) && s->agent && s->agent->online)
                en->wire.stdin_data(en->wire.ctx, s->agent->id, s->attempt_id, s->in->taken, s->in->data,
                                    s->in->len, s->in->eof);
}

int engine_stdin(struct engine *en, const char *run_id, uint64_t offset, const void *p, size_t n, bool eof,
                 uint64_t *out_taken, struct err *e)
{
        struct run *r = map_get(en->runs, run_id);
        struct step *s = r && !r->over && r->n_steps == 1 ? r->steps[0] : NULL;
        struct stdin_pipe *in;
        uint64_t end, skip;

        if (!s)
                return err_set(e, E_NOENT, "no active call %s", run_id);
        if (!s->stdin_follows)
                return err_set(e, E_STATE, "the call was made without \"stdin\": true");
        in = pipe_of(s);
        if (!in->taken && !in->len && offset > 0)
                in->taken = offset; /* the hub was restarted: the caller knows how far it was */
        end = in->taken + in->len;
        *out_taken = end;
        if (in->closed)
                return err_set(e, E_CLOSED, "the tool reads no more standard input");
        if (offset > end)
                return err_set(e, E_INVAL, "offset %llu leaves a gap: the next byte is %llu",
                               (unsigned long long)offset, (unsigned long long)end);
        skip = end - offset;
        if (skip > n)
                return 0;
        n -= skip;
        if (in->len + n > STDIN_ROOM)
                return err_set(e, E_FULL, "the tool has not read what it was sent: try again");
        if (n) {
                uint8_t *v = mem_realloc(in->data, in->len + n);

                if (!v)
                        return err_set(e, E_NOMEM, "no memory for standard input");
                memcpy(v + in->len, (const uint8_t *)p + skip, n);
                in->data = v;
                in->len += n;
        }
        in->eof |= eof;
        *out_taken = in->taken + in->len;
        if (s->agent && s->agent->online && !s->in_commit && step_active(s))
                en->wire.stdin_data(en->wire.ctx, s->agent->id, s->attempt_id, *out_taken - n,
                                    n ? in->data + in->len - n : NULL, n, in->eof);
        return 0;
}

void engine_on_stdin_ack(struct engine *en, uint64_t attempt_id, uint64_t taken, bool closed)
{
        struct step *s = map_get_u64(en->attempts, attempt_id);
        struct stdin_pipe *in = s && s->stdin_follows ? pipe_of(s) : NULL;
        size_t n;

        if (!in)
                return;
        if (taken > in->taken + in->len) {
                /* What an earlier life of this hub passed on: the caller's repeats of it are dropped from
                 * here on. */
                in->taken = taken;
                in->len = 0;
        } else if (taken > in->taken) {
                n = (size_t)(taken - in->taken);
                memmove(in->data, in->data + n, in->len - n);
                in->len -= n;
                in->taken = taken;
        }
        in->closed |= closed;
}
