/* What agents report on their steps: started, finished, standard input taken (questions: on_question.c). */
#include "hub/agents/agents_impl.h"

#include "common/json_scan.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/str.h"
#include "hub/logs/logs.h"
#include "hub/sched/engine.h"

#include <inttypes.h>
#include <string.h>

#define SPARE_NOTES_MAX    1024
#define ERROR_CODE_MAX     64
#define POLICY_ANSWERS_MAX 256
#define POLICY_TEXT_MAX    400

/* ---- a result on its way to disk ---- */

struct note {
        struct op op;
        uint64_t attempt_id, end;
};

static struct note *note_make(struct agents *a, uint64_t attempt_id, uint64_t end)
{
        struct list *it = list_pop(&a->spare_notes);
        struct note *n;

        if (it) {
                a->n_spare_notes--;
                n = container_of(it, struct note, op.link);
        } else {
                n = mem_calloc(1, sizeof *n);
                if (!n)
                        return NULL;
        }
        n->attempt_id = attempt_id;
        n->end = end;
        op_start(a, &n->op);
        return n;
}

static void on_result_committed(void *arg)
{
        struct note *n = arg;
        struct agents *a = n->op.a;

        op_end(&n->op);
        if (!a) {
                mem_free(n);
                return;
        }
        logs_note_finished(a->opt.logs, n->attempt_id, n->end);
        if (a->n_spare_notes >= SPARE_NOTES_MAX) {
                mem_free(n);
                return;
        }
        list_push_back(&a->spare_notes, &n->op.link);
        a->n_spare_notes++;
}

/* ---- results ---- */

static const enum engine_outcome outcomes[] = {
        [PHOTON__V1__OUTCOME__OUTCOME_SUCCEEDED] = ENGINE_SUCCEEDED,
        [PHOTON__V1__OUTCOME__OUTCOME_FAILED] = ENGINE_FAILED,
        [PHOTON__V1__OUTCOME__OUTCOME_REFUSED] = ENGINE_REFUSED,
        [PHOTON__V1__OUTCOME__OUTCOME_CANCELLED] = ENGINE_CANCELLED,
        [PHOTON__V1__OUTCOME__OUTCOME_TIMED_OUT] = ENGINE_TIMED_OUT,
        [PHOTON__V1__OUTCOME__OUTCOME_LOST] = ENGINE_LOST,
};

/* A JSON object, bounded; `*out` is NULL for the empty text. */
static bool object_ok(const char *text, const char **out)
{
        size_t n = strlen(text);

        *out = NULL;
        if (n == 0 || (n == 2 && memcmp(text, "{}", 2) == 0))
                return true;
        if (n > JSON_BYTES_MAX || text[strspn(text, " \t\r\n")] != '{' ||
            json_scan(text, n, NULL, NULL, NULL))
                return false;
        *out = text;
        return true;
}

/* Cut at a character's boundary. The message is ours: it was unpacked for us. */
static void text_limit(char *s, size_t max)
{
        size_t n = strlen(s);

        if (n <= max)
                return;
        for (n = max; n > 0 && ((unsigned char)s[n] & 0xc0) == 0x80;)
                n--;
        s[n] = '\0';
}

static int frame_inline(struct agents *a, const Photon__V1__StepFinished *f)
{
        int rc = 0;

        buf_reset(&a->frame);
        for (size_t i = 0; i < f->n_inline_output && !rc; i++) {
                const Photon__V1__OutputChunk *c = f->inline_output[i];

                if (c->data.len)
                        rc = logs_frame(&a->frame, (int)c->channel, c->data.data, c->data.len, c->at_us);
        }
        return rc;
}

/* Lent: the words are the message's, cut where they are longer than an agent of ours writes them. */
static void policy_answers(const Photon__V1__StepFinished *f,
                           struct engine_policy_answer out[POLICY_ANSWERS_MAX], struct engine_result *r)
{
        r->policy = out;
        r->n_policy = f->n_policy_answers < POLICY_ANSWERS_MAX ? f->n_policy_answers : POLICY_ANSWERS_MAX;
        r->policy_more = f->policy_answers_more + (uint32_t)(f->n_policy_answers - r->n_policy);
        for (size_t i = 0; i < r->n_policy; i++) {
                const Photon__V1__PolicyAnswer *p = f->policy_answers[i];
                char *const words[] = {p->action, p->tool, p->title, p->arguments_sha256, p->by, p->reason};

                for (size_t k = 0; k < sizeof words / sizeof *words; k++)
                        text_limit(words[k], POLICY_TEXT_MAX);
                out[i] = (struct engine_policy_answer){p->allowed,          p->action, p->tool,  p->title,
                                                       p->arguments_sha256, p->by,     p->reason};
        }
}

void result_deliver(struct session *s, const Photon__V1__StepFinished *f, bool small, uint64_t output_bytes)
{
        struct agents *a = s->a;
        struct engine_result r = {
                .attempt_id = f->attempt_id,
                .outcome = outcomes[f->outcome],
                .has_exit_code = f->has_exit_code,
                .exit_code = f->exit_code,
                .error_code = f->error_code[0] ? f->error_code : NULL,
                .error_message = f->error_message[0] ? f->error_message : NULL,
                .started_us = f->started_us,
                .finished_us = f->finished_us,
                .output_bytes = output_bytes,
                .sync_fd = -1,
        };
        struct engine_policy_answer policy[POLICY_ANSWERS_MAX];
        struct note *n;

        policy_answers(f, policy, &r);
        text_limit(f->error_code, ERROR_CODE_MAX);
        text_limit(f->error_message, MESSAGE_TEXT_MAX);
        if (!object_ok(f->outputs, &r.outputs)) {
                if (r.outcome == ENGINE_SUCCEEDED) {
                        r.outcome = ENGINE_FAILED;
                        r.error_code = "bad_outputs";
                        r.error_message = "the tool's outputs are no JSON object of at most 8 MiB";
                }
                log_warn(AREA, "outputs dropped", "agent=%s attempt=%" PRIu64 " bytes=%zu", s->name,
                         f->attempt_id, strlen(f->outputs));
        }
        if (!object_ok(f->usage, &r.usage))
                log_warn(AREA, "usage dropped", "agent=%s attempt=%" PRIu64, s->name, f->attempt_id);
        if (small && output_bytes) {
                if (frame_inline(a, f)) {
                        /* Not acknowledged, so the agent sends it again after its next Hello. */
                        session_cut(s, E_NOMEM, "the hub is out of memory");
                        return;
                }
                r.small_output = a->frame.data;
                r.small_output_len = a->frame.len;
        }
        n = note_make(a, f->attempt_id, r.output_bytes);
        engine_on_finished(a->engine, s->agent_id, &r, n ? on_result_committed : NULL, n);
}

/* Times from the agent's clock: none before 1970, the end not before the start. */
static void times_limit(Photon__V1__StepFinished *f)
{
        if (f->started_us < 0)
                f->started_us = 0;
        if (f->finished_us < f->started_us)
                f->finished_us = f->started_us;
}

/* Inline output is contiguous and small. 0 and its bytes, or a violation. */
static bool inline_ok(struct session *s, const Photon__V1__StepFinished *f, uint64_t *out_first,
                      uint64_t *out_bytes)
{
        uint64_t at = f->n_inline_output ? f->inline_output[0]->offset : 0, n = 0;

        *out_first = at;
        for (size_t i = 0; i < f->n_inline_output; i++) {
                const Photon__V1__OutputChunk *c = f->inline_output[i];

                if ((c->attempt_id && c->attempt_id != f->attempt_id) || c->offset != at + n ||
                    c->channel < 1 || c->channel > 3 || c->data.len > LOGS_SMALL - n) {
                        session_violation(s, "malformed inline output of attempt %" PRIu64, f->attempt_id);
                        return false;
                }
                n += c->data.len;
        }
        *out_bytes = n;
        return true;
}

/* Takes the message out of its list when it has to wait. */
static void on_finished(struct session *s, Photon__V1__StepFinished **slot)
{
        Photon__V1__StepFinished *f = *slot;
        struct attempt *t;
        uint64_t first, bytes;
        size_t size;

        if (f->attempt_id == 0 || f->outcome < PHOTON__V1__OUTCOME__OUTCOME_SUCCEEDED ||
            f->outcome > PHOTON__V1__OUTCOME__OUTCOME_LOST) {
                session_violation(s, "a result without attempt or outcome");
                return;
        }
        if (!inline_ok(s, f, &first, &bytes))
                return;
        times_limit(f);
        t = attempt_find(s, f->attempt_id);
        /* The common road: no stream, nothing in the log, all output in hand. */
        if (!t && first == 0 && bytes >= f->output_bytes) {
                result_deliver(s, f, true, bytes);
                return;
        }
        /* Nobody waits for the output of a stale attempt. */
        if (!engine_wants_output(s->a->engine, s->agent_id, f->attempt_id)) {
                result_deliver(s, f, false, f->output_bytes);
                return;
        }
        if (!t && attempt_get(s, f->attempt_id, &t)) {
                session_cut(s, E_NOMEM, "the hub is out of memory");
                return;
        }
        size = protobuf_c_message_get_packed_size(&f->base);
        if (s->held_bytes + size > HELD_BYTES_MAX) {
                session_violation(s, "too many results wait for their output");
                return;
        }
        *slot = NULL;
        attempt_finish(t, f, size);
}

static void on_started(struct session *s, const Photon__V1__StepStarted *m)
{
        if (m->attempt_id == 0)
                session_violation(s, "a start without attempt");
        else
                engine_on_started(s->a->engine, s->agent_id, m->attempt_id, m->at_us < 0 ? 0 : m->at_us);
}

static void on_stdin_ack(struct session *s, const Photon__V1__StdinAck *m)
{
        /* The engine's call does not say whose attempt it is, so it is asked here. */
        if (engine_wants_output(s->a->engine, s->agent_id, m->attempt_id))
                engine_on_stdin_ack(s->a->engine, m->attempt_id, m->offset, m->closed);
}

/* protobuf-c's unpacker leaves no holes in its arrays; a taken result closes the gap. */
static void each_finished(struct session *s, Photon__V1__AgentMessage *m)
{
        size_t kept = 0;

        for (size_t i = 0; i < m->n_finished; i++) {
                if (s->state == SESSION_READY)
                        on_finished(s, &m->finished[i]);
                if (m->finished[i])
                        m->finished[kept++] = m->finished[i];
        }
        m->n_finished = kept;
}

void on_agent_message(struct session *s, const uint8_t *p, size_t n)
{
        Photon__V1__AgentMessage *m;

        if (n > SESSION_MESSAGE_MAX) {
                session_violation(s, "a message of %zu bytes; at most %u", n, SESSION_MESSAGE_MAX);
                return;
        }
        m = (Photon__V1__AgentMessage *)rpc_unpack(&photon__v1__agent_message__descriptor, p, n);
        if (!m) {
                session_violation(s, "a malformed AgentMessage");
                return;
        }
        for (size_t i = 0; i < m->n_started && s->state == SESSION_READY; i++)
                on_started(s, m->started[i]);
        on_answer_acks(s, m); /* before the results: with its result an attempt forgets its questions */
        each_finished(s, m);
        for (size_t i = 0; i < m->n_stdin_ack && s->state == SESSION_READY; i++)
                on_stdin_ack(s, m->stdin_ack[i]);
        if (m->inventory && s->state == SESSION_READY)
                on_inventory(s, m->inventory);
        on_questions(s, m);
        protobuf_c_message_free_unpacked(&m->base, NULL);
}
