#include "agent/job_in.h"

#include "agent/journal.h"
#include "agent/output.h"
#include "common/json.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/str.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

typedef Photon__V1__StepFinished finished_msg; /* protobuf-c's name is too long to read */

/* A sentence repeats what programs said, in any bytes and cut anywhere, and the hub ends the session of an
 * agent whose texts are no UTF-8. NULL with -E_NOMEM; mem_free it. */
static char *as_text(const char *said, int *rc)
{
        char *text = str_utf8_lossy(said, strlen(said));

        if (!text)
                *rc = -E_NOMEM;
        return text;
}

static int pack(struct job *j, const finished_msg *said)
{
        finished_msg m = *said;
        uint8_t *p = NULL;
        size_t n;
        int rc = 0;

        m.error_code = as_text(said->error_code, &rc);
        m.error_message = as_text(said->error_message, &rc);
        if (!rc) {
                n = photon__v1__step_finished__get_packed_size(&m);
                p = mem_alloc(n ? n : 1);
                if (!p)
                        rc = -E_NOMEM;
        }
        if (!rc) {
                photon__v1__step_finished__pack(&m, p);
                mem_free(j->packed);
                j->packed = p;
                j->packed_len = n;
        }
        mem_free(m.error_code);
        mem_free(m.error_message);
        return rc;
}

int job_secure(struct job *j)
{
        struct jobs *js = j->jobs;
        int rc = 0;

        if (j->noted || j->gone)
                return 0;
        if (j->out)
                rc = output_seal(j->out);
        if (!rc && j->packed)
                rc = journal_finish(js->o.journal, j->id, j->packed, j->packed_len);
        if (rc == -E_STATE)
                rc = 0;
        j->noted = rc == 0;
        return rc;
}

/* The result is packed: it goes to the journal and on the list for the hub. */
static void deliver(struct job *j)
{
        struct jobs *js = j->jobs;
        int rc = job_secure(j);

        if (rc) {
                log_warn("job", "a result cannot be written down yet, it stays in memory",
                         "attempt=%" PRIu64 " error=%s", j->id, err_name(rc));
                list_remove(&j->unsafe);
                list_push_back(&js->unsafe, &j->unsafe);
                jobs_arm_retry(js);
        }
        list_remove(&j->send);
        list_push_back(&js->send, &j->send);
}

/* Without memory even for the result: the hub hears of a loss when it asks for the attempt. */
static void no_memory(struct job *j)
{
        log_error("job", "no memory for a result", "attempt=%" PRIu64, j->id);
        journal_forget(j->jobs->o.journal, j->id);
        job_release(j);
}

void job_refuse_made(struct job *j, const char *code, const char *message)
{
        finished_msg m = PHOTON__V1__STEP_FINISHED__INIT;

        job_move(j, JOB_FINISHED);
        j->call.tool = NULL; /* its row may go */
        output_free(j->out);
        j->out = NULL;
        job_secrets_free(j);
        cJSON_Delete(j->input);
        j->input = NULL;
        m.attempt_id = j->id;
        m.outcome = PHOTON__V1__OUTCOME__OUTCOME_REFUSED;
        m.error_code = (char *)(uintptr_t)code;
        m.error_message = (char *)(uintptr_t)message;
        m.started_us = m.finished_us = jobs_now_us(j->jobs);
        log_info("job", "refused", "attempt=%" PRIu64 " code=%s reason=%s", j->id, code, message);
        if (pack(j, &m))
                no_memory(j);
        else
                deliver(j);
}

void job_refuse(struct jobs *js, uint64_t id, const char *code, const char *fmt, ...)
{
        struct job *j;
        char text[1024];
        va_list ap;

        va_start(ap, fmt);
        vsnprintf(text, sizeof text, fmt, ap);
        va_end(ap);
        if (job_make(js, id, &j)) {
                log_error("job", "no memory to refuse an attempt", "attempt=%" PRIu64, id);
                return;
        }
        j->tool_done = true;
        job_refuse_made(j, code, text);
}

static const struct {
        Photon__V1__Outcome outcome;
        const char *code, *message;
} stop_words[] = {
        [JOB_STOP_CANCEL] = {PHOTON__V1__OUTCOME__OUTCOME_CANCELLED, "cancelled", "cancelled"},
        [JOB_STOP_TIMEOUT] = {PHOTON__V1__OUTCOME__OUTCOME_TIMED_OUT, "timeout",
                              "the call ran longer than its timeout or the agent's policy allows"},
        [JOB_STOP_OUTPUT] = {PHOTON__V1__OUTCOME__OUTCOME_FAILED, "output_limit",
                             "the call wrote more than the agent's policy allows (limits.output)"},
        [JOB_STOP_AGENT] = {PHOTON__V1__OUTCOME__OUTCOME_LOST, "agent_stopped",
                            "the agent was stopped while the call ran"},
        [JOB_STOP_STDIN] = {PHOTON__V1__OUTCOME__OUTCOME_FAILED, "stdin_overflow",
                            "more standard input came than the agent had granted"},
        [JOB_STOP_MEMORY] = {PHOTON__V1__OUTCOME__OUTCOME_FAILED, "out_of_memory",
                             "the agent has no memory left for the call's output"},
};

static const Photon__V1__Outcome outcomes[] = {
        [TOOL_SUCCEEDED] = PHOTON__V1__OUTCOME__OUTCOME_SUCCEEDED,
        [TOOL_FAILED] = PHOTON__V1__OUTCOME__OUTCOME_FAILED,
        [TOOL_REFUSED] = PHOTON__V1__OUTCOME__OUTCOME_REFUSED,
        [TOOL_CANCELLED] = PHOTON__V1__OUTCOME__OUTCOME_CANCELLED,
        [TOOL_TIMED_OUT] = PHOTON__V1__OUTCOME__OUTCOME_TIMED_OUT,
};

/* It waited for people when the agent went: nothing was decided, so nothing of what was asked was done. */
static void lost_question_text(const struct job *j, char *out, size_t n)
{
        snprintf(out, n,
                 "the agent ended while the call waited for the answer to \"%s\"; nothing was decided, and "
                 "it was not done. Run the step again, or go on in a new step with the session of this one "
                 "if the tool keeps sessions",
                 j->lost_question);
}

/* The tool's word, unless it ended because the job stopped it. Text is lent. */
static void say_outcome(const struct job *j, const struct tool_result *r, finished_msg *m, char *room,
                        size_t room_len)
{
        const char *code = r->error_code ? r->error_code : "",
                   *text = r->error_message ? r->error_message : "";

        m->outcome = outcomes[r->outcome];
        if (j->stop != JOB_STOP_NONE && j->stop != JOB_STOP_FORGET && r->outcome != TOOL_SUCCEEDED) {
                m->outcome = stop_words[j->stop].outcome;
                code = stop_words[j->stop].code;
                text = stop_words[j->stop].message;
                if (j->stop == JOB_STOP_CANCEL && j->cancel_reason)
                        text = j->cancel_reason;
                if (j->stop == JOB_STOP_AGENT && j->lost_question) {
                        code = "question_lost";
                        lost_question_text(j, room, room_len);
                        text = room;
                }
        } else if (j->stop == JOB_STOP_OUTPUT || j->stop == JOB_STOP_MEMORY) {
                m->outcome = stop_words[j->stop].outcome; /* it succeeded, but not all it wrote is here */
                code = stop_words[j->stop].code;
                text = stop_words[j->stop].message;
        } else if (r->outcome != TOOL_SUCCEEDED && !code[0]) {
                code = "tool_failed";
        }
        m->error_code = (char *)(uintptr_t)code;
        m->error_message = (char *)(uintptr_t)text;
}

static int pack_result(struct job *j, finished_msg *m)
{
        bool in_line = j->out && output_is_inline(j->out);
        int rc = 0;

        if (j->out)
                m->output_bytes = output_total(j->out);
        if (in_line && m->output_bytes > 0) {
                rc = output_inline(j->out, &m->inline_output, &m->n_inline_output);
                if (rc)
                        return rc;
        }
        rc = pack(j, m);
        for (size_t i = 0; i < m->n_inline_output; i++)
                mem_free(m->inline_output[i]);
        mem_free(m->inline_output);
        if (!rc && in_line) {
                output_free(j->out); /* it is all in the result */
                j->out = NULL;
        }
        return rc;
}

void job_finished(struct job *j, struct tool_result *r)
{
        finished_msg m = PHOTON__V1__STEP_FINISHED__INIT;
        char *outputs = r->outputs ? json_text(r->outputs) : NULL;
        char *usage = r->usage ? json_text(r->usage) : NULL;
        char room[1024];
        bool no_mem = (r->outputs && !outputs) || (r->usage && !usage);

        cJSON_Delete(r->outputs);
        cJSON_Delete(r->usage);
        r->outputs = r->usage = NULL;
        job_move(j, JOB_FINISHED);
        if (j->stop == JOB_STOP_FORGET) {
                mem_free(outputs);
                mem_free(usage);
                journal_forget(j->jobs->o.journal, j->id);
                job_release(j); /* freed after the tool's state */
                return;
        }
        m.attempt_id = j->id;
        m.has_exit_code = r->has_exit_code;
        m.exit_code = r->exit_code;
        m.started_us = j->started_us;
        m.finished_us = jobs_now_us(j->jobs);
        if (usage)
                m.usage = usage;
        say_outcome(j, r, &m, room, sizeof room);
        job_policy_say(j, &m);
        if (outputs && strlen(outputs) > JOB_OUTPUTS_MAX) {
                m.outcome = PHOTON__V1__OUTCOME__OUTCOME_FAILED;
                m.error_code = (char *)(uintptr_t) "result_too_large";
                m.error_message = (char *)(uintptr_t) "the result's outputs are larger than 4 MiB; write "
                                                      "them to a file";
        } else if (no_mem) {
                m.outcome = PHOTON__V1__OUTCOME__OUTCOME_FAILED;
                m.error_code = (char *)(uintptr_t) "out_of_memory";
                m.error_message = (char *)(uintptr_t) "the agent has no memory left for the call's outputs";
        } else if (outputs) {
                m.outputs = outputs;
        }
        if (pack_result(j, &m))
                no_memory(j);
        else
                deliver(j);
        mem_free(outputs);
        mem_free(usage);
}

int job_lost(struct job *j)
{
        finished_msg m = PHOTON__V1__STEP_FINISHED__INIT;
        char text[1024];
        int rc;

        job_move(j, JOB_FINISHED);
        j->lost = true;
        m.attempt_id = j->id;
        m.outcome = PHOTON__V1__OUTCOME__OUTCOME_LOST;
        m.error_code = (char *)(uintptr_t) "agent_lost";
        m.error_message = (char *)(uintptr_t) "the agent was killed while the call ran";
        if (j->lost_question) {
                m.error_code = (char *)(uintptr_t) "question_lost";
                lost_question_text(j, text, sizeof text);
                m.error_message = text;
        }
        m.started_us = j->started_us;
        m.finished_us = jobs_now_us(j->jobs);
        rc = pack(j, &m);
        if (!rc)
                deliver(j);
        return rc;
}

/* A lost call's total is known only when hub and spool have been compared. */
int job_result_repack(struct job *j, uint64_t output_bytes)
{
        struct jobs *js = j->jobs;
        uint8_t *p = NULL;
        size_t n;
        finished_msg *m;
        int rc = 0;

        if (j->packed)
                m = photon__v1__step_finished__unpack(NULL, j->packed_len, j->packed);
        else if ((rc = journal_result(js->o.journal, j->id, &p, &n)))
                return rc;
        else
                m = photon__v1__step_finished__unpack(NULL, n, p);
        mem_free(p);
        if (!m)
                return -E_CORRUPT;
        m->output_bytes = output_bytes;
        rc = pack(j, m);
        photon__v1__step_finished__free_unpacked(m, NULL);
        return rc;
}
