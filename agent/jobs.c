#include "agent/job_in.h"

#include "agent/journal.h"
#include "agent/output.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "common/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

int64_t jobs_now_us(const struct jobs *js)
{
        return clock_now_us(js->o.clock) + js->clock_offset_us;
}

void jobs_set_clock_offset(struct jobs *js, int64_t offset_us)
{
        js->clock_offset_us = offset_us;
}

static const unsigned job_moves[] = {
        [JOB_STARTING] = 1u << JOB_RUNNING | 1u << JOB_STOPPING | 1u << JOB_FINISHED,
        [JOB_RUNNING] = 1u << JOB_STOPPING | 1u << JOB_FINISHED,
        [JOB_STOPPING] = 1u << JOB_FINISHED,
        [JOB_FINISHED] = 0,
};

void job_move(struct job *j, enum job_state to)
{
        struct jobs *js = j->jobs;

        if (!(job_moves[j->state] & 1u << to)) {
                log_error("job", "impossible move", "attempt=%" PRIu64 " from=%d to=%d", j->id, (int)j->state,
                          (int)to);
                return;
        }
        j->state = to;
        if (to == JOB_FINISHED)
                js->running--;
}

/* Counts as running until it moves to JOB_FINISHED. */
int job_make(struct jobs *js, uint64_t id, struct job **out)
{
        struct job *j = mem_calloc(1, sizeof *j);

        if (!j)
                return -E_NOMEM;
        j->jobs = js;
        j->id = id;
        j->slot = -1;
        j->left_ms = -1;
        list_init(&j->asks);
        list_init(&j->started);
        list_init(&j->send);
        list_init(&j->stdin_due);
        list_init(&j->reap);
        list_init(&j->unsafe);
        if (map_put_u64(js->by_id, id, j, NULL)) {
                mem_free(j);
                return -E_NOMEM;
        }
        list_push_back(&js->all, &j->all);
        js->running++;
        js->was_busy = true;
        *out = j;
        return 0;
}

static void job_free(struct job *j)
{
        if (j->slot >= 0)
                j->jobs->slots[j->slot] = j->slot_made ? SLOT_FREE : SLOT_ABSENT;
        mem_free(j->run_id);
        mem_free(j->step_id);
        mem_free(j->traceparent);
        mem_free(j->tool_name);
        mem_free(j->scratch);
        job_secrets_free(j);
        job_mask_free(j);
        mem_free(j->cancel_reason);
        mem_free(j->lost_question);
        job_policy_free(j);
        job_asks_free(j);
        mem_free(j->packed);
        cJSON_Delete(j->input);
        mem_free(j);
}

static void on_timer_closed(uv_handle_t *h)
{
        struct job *j = h->data;
        struct jobs *js = j->jobs;

        job_free(j);
        jobs_handle_closed(js);
}

void job_release(struct job *j)
{
        struct jobs *js = j->jobs;

        j->gone = true;
        if (!j->tool_done)
                return; /* job_reap comes back here */
        if (j->out && js->closing)
                output_leave(j->out);
        else
                output_free(j->out);
        j->out = NULL;
        list_remove(&j->started);
        list_remove(&j->send);
        list_remove(&j->stdin_due);
        list_remove(&j->reap);
        list_remove(&j->unsafe);
        list_remove(&j->all);
        if (map_get_u64(js->by_id, j->id) == j)
                map_del_u64(js->by_id, j->id);
        if (j->timer_open)
                uv_close((uv_handle_t *)&j->timer, on_timer_closed);
        else
                job_free(j);
}

void jobs_tools_changed(struct jobs *js)
{
        size_t it = 0;
        const char *name;
        void *v;

        while (map_next(js->schemas, &it, &name, &v)) {
                cJSON_Delete(v);
                map_del(js->schemas, name);
        }
}

const cJSON *jobs_schema(struct jobs *js, const struct tool *t)
{
        cJSON *s = map_get(js->schemas, t->name);
        struct err e = {0};

        if (s || !t->input_schema)
                return s;
        if (json_parse(t->input_schema, strlen(t->input_schema), &s, &e)) {
                log_error("job", "a tool's input schema is not JSON", "tool=%s error=%s", t->name, e.msg);
                return NULL;
        }
        if (map_put(js->schemas, t->name, s, NULL)) {
                cJSON_Delete(s);
                return NULL;
        }
        return s;
}

/* The disk was full: try again. */

static void on_retry(uv_timer_t *t)
{
        struct jobs *js = t->data;

        js->retry_on = false;
        LIST_EACH_SAFE (l, nx, &js->unsafe) {
                struct job *j = container_of(l, struct job, unsafe);

                if (job_secure(j) == 0)
                        list_remove(&j->unsafe);
        }
        /* The turn that follows flushes the journal, and arms this again if that fails. */
        if (!list_empty(&js->unsafe))
                jobs_arm_retry(js);
}

void jobs_arm_retry(struct jobs *js)
{
        if (js->retry_on || js->closing)
                return;
        js->retry_on = true;
        uv_timer_start(&js->retry, on_retry, JOB_RETRY_MS, 0);
}

/* From the hub. */

static void on_ack(struct jobs *js, uint64_t id)
{
        struct job *j = map_get_u64(js->by_id, id);

        if (!j)
                return; /* a repeat */
        if (j->state != JOB_FINISHED) {
                log_warn("job", "the hub acknowledged a result that is not there yet", "attempt=%" PRIu64,
                         id);
                return;
        }
        journal_forget(js->o.journal, id);
        job_release(j);
}

static void on_start(struct jobs *js, const Photon__V1__StepStart *m, const struct start_refusal *bad)
{
        struct job *j = map_get_u64(js->by_id, m->attempt_id);

        if (bad && bad->code) {
                log_error("job", "a step from the hub is refused",
                          "attempt=%llu run=%s step=%s code=%s reason=\"%s\"",
                          (unsigned long long)m->attempt_id, m->run_id, m->step_id, bad->code, bad->why.msg);
                /* What runs, runs: a false repetition changes nothing about it. */
                if (!j)
                        job_refuse(js, m->attempt_id, bad->code, "%s", bad->why.msg);
        } else if (!j) {
                job_admit(js, m);
        } else if (j->state == JOB_FINISHED && !j->gone) {
                list_remove(&j->send);
                list_push_back(&js->send, &j->send); /* it did not arrive, it seems */
        }
}

static void start_admitted(struct jobs *js)
{
        struct err e = {0};
        struct list *l;
        int rc = journal_flush(js->o.journal, &e);

        while ((l = list_pop(&js->admitted))) {
                struct job *j = container_of(l, struct job, started);

                if (rc) {
                        job_refuse_made(j, "agent_no_space", e.msg);
                        jobs_arm_retry(js);
                } else {
                        job_start(j);
                }
        }
}

void jobs_handle(struct jobs *js, const Photon__V1__HubMessage *m)
{
        jobs_handle_checked(js, m, NULL);
}

void jobs_handle_checked(struct jobs *js, const Photon__V1__HubMessage *m,
                         const struct start_refusal *refusals)
{
        for (size_t i = 0; i < m->n_start; i++)
                on_start(js, m->start[i], refusals ? &refusals[i] : NULL);
        if (m->n_start)
                start_admitted(js);
        for (size_t i = 0; i < m->n_cancel; i++) {
                struct job *j = map_get_u64(js->by_id, m->cancel[i]->attempt_id);

                if (!j || j->state == JOB_FINISHED)
                        continue;
                if (!j->cancel_reason && m->cancel[i]->reason[0])
                        j->cancel_reason = mem_strdup(m->cancel[i]->reason);
                job_stop(j, JOB_STOP_CANCEL, j->call.grace_ms);
        }
        for (size_t i = 0; i < m->n_ack; i++)
                on_ack(js, m->ack[i]->attempt_id);
        for (size_t i = 0; i < m->n_stdin_data; i++) {
                struct job *j = map_get_u64(js->by_id, m->stdin_data[i]->attempt_id);

                if (j && j->state != JOB_FINISHED)
                        job_stdin(j, m->stdin_data[i]);
        }
        if (m->drain)
                jobs_drain(js, JOBS_DRAIN_HUB, m->drain->on);
        for (size_t i = 0; i < m->n_answer; i++)
                jobs_on_answer(js, m->answer[i]);
}

/* Towards the hub. */

static int put_varint(struct buf *b, uint64_t v)
{
        uint8_t raw[10];
        size_t n = 0;

        do {
                raw[n] = (uint8_t)(v & 0x7f);
                v >>= 7;
                if (v)
                        raw[n] |= 0x80;
                n++;
        } while (v);
        return buf_put(b, raw, n);
}

/* AgentMessage only has repeated members here, so that members may simply be appended: `field`, length,
 * bytes. */
int jobs_put_member(struct buf *b, unsigned field, const void *p, size_t n)
{
        int rc = put_varint(b, (uint64_t)field << 3 | 2);

        if (!rc)
                rc = put_varint(b, n);
        return rc ? rc : buf_put(b, p, n);
}

enum { FIELD_STARTED = 1, FIELD_FINISHED = 2, FIELD_STDIN_ACK = 3 };

static int put_started(struct buf *b, const struct job *j)
{
        Photon__V1__StepStarted m = PHOTON__V1__STEP_STARTED__INIT;
        uint8_t raw[32];

        m.attempt_id = j->id;
        m.at_us = j->started_us;
        return jobs_put_member(b, FIELD_STARTED, raw, photon__v1__step_started__pack(&m, raw));
}

static int put_stdin_ack(struct buf *b, const struct job *j)
{
        Photon__V1__StdinAck m = PHOTON__V1__STDIN_ACK__INIT;
        uint8_t raw[40];

        m.attempt_id = j->id;
        m.offset = j->stdin_taken;
        m.closed = j->stdin_closed;
        return jobs_put_member(b, FIELD_STDIN_ACK, raw, photon__v1__stdin_ack__pack(&m, raw));
}

static int put_finished(struct buf *b, const struct job *j)
{
        uint8_t *p;
        size_t n;
        int rc;

        if (j->packed)
                return jobs_put_member(b, FIELD_FINISHED, j->packed, j->packed_len);
        rc = journal_result(j->jobs->o.journal, j->id, &p, &n);
        if (rc) {
                log_error("job", "a result cannot be read from the journal", "attempt=%" PRIu64 " error=%s",
                          j->id, err_name(rc));
                return rc;
        }
        rc = jobs_put_member(b, FIELD_FINISHED, p, n);
        mem_free(p);
        return rc;
}

static bool something_due(const struct jobs *js)
{
        return !list_empty(&js->started) || !list_empty(&js->send) || !list_empty(&js->stdin_due) ||
               jobs_asks_due(js);
}

/* Fills js->msg from the lists; what was put in stays listed until it is sent. Returns how many of each. */
static void gather(struct jobs *js, size_t n[5])
{
        memset(n, 0, 5 * sizeof n[0]);
        buf_reset(&js->msg);
        LIST_EACH (l, &js->started) {
                if (js->msg.len >= JOB_MESSAGE_SOFT ||
                    put_started(&js->msg, container_of(l, struct job, started)))
                        return;
                n[0]++;
        }
        LIST_EACH_SAFE (l, nx, &js->send) {
                struct job *j = container_of(l, struct job, send);
                size_t before = js->msg.len;
                int rc;

                if (js->msg.len >= JOB_MESSAGE_SOFT)
                        return;
                rc = put_finished(&js->msg, j);
                if (rc) {
                        js->msg.len = before;
                        if (rc == -E_NOMEM)
                                return;
                        list_remove(&j->send); /* unreadable: told in the log, the hub will ask for it */
                        continue;
                }
                n[1]++;
        }
        LIST_EACH (l, &js->stdin_due) {
                if (js->msg.len >= JOB_MESSAGE_SOFT ||
                    put_stdin_ack(&js->msg, container_of(l, struct job, stdin_due)))
                        return;
                n[2]++;
        }
        jobs_asks_gather(js, n + 3);
}

static void forget_packed(struct job *j)
{
        if (!j->noted)
                return; /* the only copy */
        mem_free(j->packed);
        j->packed = NULL;
}

static void send_due(struct jobs *js)
{
        size_t n[5];
        int rc;

        while (js->attached && !js->blocked && something_due(js)) {
                gather(js, n);
                if (js->msg.len == 0)
                        return;
                rc = js->sink.send(js->sink.ctx, js->msg.data, js->msg.len);
                if (rc == -E_FULL) {
                        js->blocked = true;
                        return;
                }
                if (rc) {
                        log_warn("job", "cannot tell the hub, it will hear after reconnecting", "error=%s",
                                 err_name(rc));
                        js->attached = false;
                        return;
                }
                while (n[0]-- > 0)
                        list_pop(&js->started);
                while (n[1]-- > 0)
                        forget_packed(container_of(list_pop(&js->send), struct job, send));
                while (n[2]-- > 0)
                        list_pop(&js->stdin_due);
                jobs_asks_sent(js, n + 3);
        }
        if (js->msg.cap > JOB_MESSAGE_SOFT / 8)
                buf_fini(&js->msg);
}

void jobs_turn(struct jobs *js)
{
        struct list *l;

        if (js->closing)
                return;
        while ((l = list_pop(&js->reap)))
                job_reap(container_of(l, struct job, reap));
        /* When this fails the log says so; results travel all the same, so that the hub loses nothing. */
        if (journal_flush(js->o.journal, NULL))
                jobs_arm_retry(js);
        send_due(js);
        if (js->running == 0)
                output_pool_trim(js->o.pool);
        if (js->was_busy && js->running == 0) {
                js->was_busy = false;
                if (js->o.on_idle)
                        js->o.on_idle(js->o.arg);
        }
}

void jobs_writable(struct jobs *js)
{
        js->blocked = false;
}

void jobs_attach(struct jobs *js, const struct jobs_sink *sink)
{
        js->attached = sink != NULL;
        js->blocked = false;
        if (!sink)
                jobs_asks_forget_notes(js);
        if (sink)
                js->sink = *sink;
}

/* Hello. */

static Photon__V1__AttemptState held_state(const struct job *j)
{
        if (j->state != JOB_FINISHED)
                return PHOTON__V1__ATTEMPT_STATE__ATTEMPT_RUNNING;
        return j->lost ? PHOTON__V1__ATTEMPT_STATE__ATTEMPT_LOST
                       : PHOTON__V1__ATTEMPT_STATE__ATTEMPT_FINISHED;
}

int jobs_held(const struct jobs *js, Photon__V1__HelloRequest *r)
{
        size_t max = map_count(js->by_id);

        r->held = NULL;
        r->n_held = 0;
        if (max == 0)
                return 0;
        r->held = mem_calloc(max, sizeof *r->held);
        if (!r->held)
                return -E_NOMEM;
        LIST_EACH (l, &js->all) {
                struct job *j = container_of(l, struct job, all);
                Photon__V1__HeldAttempt *h;

                if (j->gone || j->stop == JOB_STOP_FORGET || r->n_held == max)
                        continue;
                h = mem_alloc(sizeof *h);
                if (!h) {
                        jobs_held_free(r);
                        return -E_NOMEM;
                }
                photon__v1__held_attempt__init(h);
                h->attempt_id = j->id;
                h->state = held_state(j);
                h->output_bytes = j->out ? output_total(j->out) : 0;
                r->held[r->n_held++] = h;
                if (job_asks_held(j, h)) {
                        jobs_held_free(r);
                        return -E_NOMEM;
                }
        }
        return 0;
}

void jobs_held_free(Photon__V1__HelloRequest *r)
{
        for (size_t i = 0; i < r->n_held; i++) {
                mem_free(r->held[i]->open_questions);
                mem_free(r->held[i]);
        }
        mem_free(r->held);
        r->held = NULL;
        r->n_held = 0;
}

static void forget(struct job *j)
{
        if (j->state != JOB_FINISHED) {
                job_stop(j, JOB_STOP_FORGET, 0);
                return;
        }
        journal_forget(j->jobs->o.journal, j->id);
        job_release(j);
}

static void resume(struct job *j, uint64_t from)
{
        struct jobs *js = j->jobs;

        if (j->out) {
                output_resume(j->out, from);
                if (j->lost && job_result_repack(j, output_total(j->out)))
                        log_warn("job", "no memory to state how much a lost call wrote", "attempt=%" PRIu64,
                                 j->id);
        }
        list_remove(&j->send);
        list_remove(&j->started);
        list_remove(&j->stdin_due);
        if (j->state == JOB_FINISHED) {
                list_push_back(&js->send, &j->send);
                return;
        }
        list_push_back(&js->started, &j->started);
        job_asks_resend(j);
        if (j->call.stdin_follows)
                list_push_back(&js->stdin_due, &j->stdin_due);
}

void jobs_apply_held(struct jobs *js, const Photon__V1__HelloReply *r)
{
        js->hub_answers = r->answers_questions;
        LIST_EACH (l, &js->all)
                container_of(l, struct job, all)->told = false;
        for (size_t i = 0; i < r->n_held; i++) {
                const Photon__V1__HeldReply *h = r->held[i];
                struct job *j = map_get_u64(js->by_id, h->attempt_id);

                if (!j || j->gone)
                        continue;
                j->told = true;
                if (h->verdict == PHOTON__V1__HELD_VERDICT__HELD_FORGET) {
                        forget(j);
                        continue;
                }
                resume(j, h->output_from);
                if (h->verdict == PHOTON__V1__HELD_VERDICT__HELD_CANCEL && j->state != JOB_FINISHED)
                        job_stop(j, JOB_STOP_CANCEL, j->call.grace_ms);
        }
        LIST_EACH_SAFE (l, nx, &js->all) {
                struct job *j = container_of(l, struct job, all);

                if (j->told || j->gone || j->stop == JOB_STOP_FORGET)
                        continue;
                log_warn("job", "the hub said nothing about an attempt that is held here", "attempt=%" PRIu64,
                         j->id);
                resume(j, j->out ? output_acked(j->out) : 0);
        }
        jobs_drain(js, JOBS_DRAIN_HUB, r->draining);
}

void jobs_drain(struct jobs *js, enum jobs_drain_by by, bool on)
{
        bool was = js->drain != 0;

        if (on)
                js->drain |= by;
        else
                js->drain &= ~(unsigned)by;
        if (was != (js->drain != 0))
                log_info("job", js->drain ? "draining: no new calls are taken" : "no longer draining",
                         "running=%zu", js->running);
}

bool jobs_draining(const struct jobs *js)
{
        return js->drain != 0;
}

void jobs_stop_all(struct jobs *js, int grace_ms)
{
        LIST_EACH_SAFE (l, nx, &js->all) {
                struct job *j = container_of(l, struct job, all);

                if (j->state != JOB_FINISHED)
                        job_stop(j, JOB_STOP_AGENT, grace_ms);
        }
}

cJSON *jobs_describe(const struct jobs *js)
{
        static const char *const names[] = {"starting", "running", "stopping", "finished"};
        cJSON *list = cJSON_CreateArray();

        LIST_EACH (l, &js->all) {
                struct job *j = container_of(l, struct job, all);
                cJSON *o = cJSON_CreateObject();
                char at[CLOCK_RFC3339_LEN], id[24];

                if (!o || !cJSON_AddItemToArray(list, o)) {
                        cJSON_Delete(o);
                        cJSON_Delete(list);
                        return NULL;
                }
                snprintf(id, sizeof id, "%" PRIu64, j->id);
                clock_format(j->started_us, at);
                cJSON_AddStringToObject(o, "attempt", id);
                cJSON_AddStringToObject(o, "run", j->run_id ? j->run_id : "");
                cJSON_AddStringToObject(o, "step", j->step_id ? j->step_id : "");
                cJSON_AddStringToObject(o, "tool", j->tool_name ? j->tool_name : "");
                cJSON_AddStringToObject(o, "state", names[j->state]);
                cJSON_AddStringToObject(o, "started_at", at);
                cJSON_AddNumberToObject(o, "output_bytes", j->out ? (double)output_total(j->out) : 0);
        }
        return list;
}

size_t jobs_running(const struct jobs *js)
{
        return js->running;
}

size_t jobs_unacked(const struct jobs *js)
{
        return map_count(js->by_id) - js->running;
}

/* Start and end. */

struct restore {
        struct jobs *js;
        struct err *e;
        int rc;
};

static int restore_finished(struct jobs *js, struct job *j, struct err *e)
{
        Photon__V1__StepFinished *m;
        uint8_t *p;
        size_t n;
        int rc = journal_result(js->o.journal, j->id, &p, &n);

        if (rc)
                return err_set(e, -rc, "a result in the journal cannot be read: %s", err_name(rc));
        m = photon__v1__step_finished__unpack(NULL, n, p);
        mem_free(p);
        if (!m) {
                log_error("job", "a result in the journal makes no sense, dropped", "attempt=%" PRIu64,
                          j->id);
                journal_forget(js->o.journal, j->id);
                job_release(j);
                return 0;
        }
        j->lost = m->outcome == PHOTON__V1__OUTCOME__OUTCOME_LOST;
        if (m->n_inline_output == 0 && (m->output_bytes > 0 || j->lost))
                rc = output_restore(js->o.pool, j->id, m->output_bytes, &j->out, e);
        photon__v1__step_finished__free_unpacked(m, NULL);
        return rc;
}

static void restore_one(const struct journal_entry *en, void *arg)
{
        struct restore *r = arg;
        struct job *j;

        if (r->rc)
                return;
        r->rc = job_make(r->js, en->attempt_id, &j);
        if (r->rc) {
                err_set(r->e, -r->rc, "no memory for what the journal holds");
                return;
        }
        j->tool_done = true;
        j->started_us = en->started_us;
        if (en->question && !(j->lost_question = mem_strdup(en->question)))
                log_warn("job", "no memory for what was asked", "attempt=%" PRIu64, j->id);
        if (en->state == JOURNAL_FINISHED) {
                j->noted = true;
                job_move(j, JOB_FINISHED);
        }
}

static void end_process(uint64_t id, const struct journal_proc *p, void *arg)
{
        struct jobs *js = arg;

        (void)id;
        if (js->o.end_leftovers)
                js->o.end_leftovers(js->o.scratch_root, p);
}

static int restore_all(struct jobs *js, struct err *e)
{
        struct restore r = {.js = js, .e = e};
        int rc;

        journal_each_proc(js->o.journal, end_process, js);
        journal_each(js->o.journal, restore_one, &r);
        if (r.rc)
                return r.rc;
        LIST_EACH_SAFE (l, nx, &js->all) {
                struct job *j = container_of(l, struct job, all);

                if (j->state == JOB_FINISHED) {
                        rc = restore_finished(js, j, e);
                } else {
                        end_process(j->id, NULL, js);
                        log_warn("job", "the agent died while this ran", "attempt=%" PRIu64, j->id);
                        rc = job_lost(j);
                        if (rc)
                                err_set(e, -rc, "no memory for what the journal holds");
                        else
                                rc = output_restore(js->o.pool, j->id, 0, &j->out, e);
                }
                if (rc)
                        return rc;
        }
        js->was_busy = false;
        return 0;
}

static bool is_held(uint64_t id, void *arg)
{
        return map_get_u64(((struct jobs *)arg)->by_id, id) != NULL;
}

static void jobs_free(struct jobs *js)
{
        size_t it = 0;
        void *v;

        while (js->schemas && map_next(js->schemas, &it, NULL, &v))
                cJSON_Delete(v);
        map_free(js->schemas);
        map_free(js->by_id);
        buf_fini(&js->msg);
        mem_free(js);
}

int jobs_create(const struct jobs_options *o, struct jobs **out, struct err *e)
{
        struct jobs *js = mem_calloc(1, sizeof *js);
        int rc;

        if (!js)
                return err_set(e, E_NOMEM, "no memory for jobs");
        js->o = *o;
        js->find = o->find ? o->find : tool_find;
        if (!js->o.clock)
                js->o.clock = &clock_system;
        list_init(&js->all);
        list_init(&js->admitted);
        list_init(&js->started);
        list_init(&js->send);
        list_init(&js->stdin_due);
        list_init(&js->reap);
        list_init(&js->unsafe);
        jobs_asks_init(js);
        buf_init(&js->msg, 0);
        js->by_id = map_create();
        js->schemas = map_create();
        if (!js->by_id || !js->schemas) {
                rc = err_set(e, E_NOMEM, "no memory for jobs");
                goto fail;
        }
        rc = restore_all(js, e);
        if (rc)
                goto fail;
        if (journal_flush(js->o.journal, NULL) == 0)
                output_pool_sweep(js->o.pool, is_held, js);
        uv_timer_init(o->loop, &js->retry);
        js->retry.data = js;
        js->handles = 1;
        jobs_asks_open(js);
        if (!list_empty(&js->unsafe))
                jobs_arm_retry(js);
        *out = js;
        return 0;
fail:
        js->closing = true; /* spool files stay */
        LIST_EACH_SAFE (l, nx, &js->all)
                job_release(container_of(l, struct job, all));
        jobs_free(js);
        return rc;
}

void jobs_handle_closed(struct jobs *js)
{
        if (--js->handles > 0 || !js->closing)
                return;
        if (js->on_closed)
                js->on_closed(js->closed_arg);
        jobs_free(js);
}

static void on_retry_closed(uv_handle_t *h)
{
        jobs_handle_closed(h->data);
}

void jobs_close(struct jobs *js, void (*on_closed)(void *arg), void *arg)
{
        struct list *l;

        js->attached = false;
        while ((l = list_pop(&js->reap)))
                job_reap(container_of(l, struct job, reap));
        js->closing = true;
        js->on_closed = on_closed;
        js->closed_arg = arg;
        LIST_EACH_SAFE (j, nx, &js->all) {
                struct job *job = container_of(j, struct job, all);

                /* A call that still runs keeps its memory: its tool holds handles on the loop. */
                if (job->tool_done)
                        job_release(job);
        }
        jobs_asks_close(js);
        uv_close((uv_handle_t *)&js->retry, on_retry_closed);
}
