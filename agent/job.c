#include "agent/job_in.h"

#include "agent/journal.h"
#include "agent/output.h"
#include "agent/policy.h"
#include "agent/procid.h"
#include "agent/sandbox/sandbox.h"
#include "agent/tools/event.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/str.h"

#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define GRACE_DEFAULT_MS 10000

/* May this machine take it on at all? Refuses by itself. */
static const struct tool *check_room(struct jobs *js, const Photon__V1__StepStart *m)
{
        const struct tool *t = js->find(m->tool);
        int max = js->o.max_running, limit = policy_limits(js->o.policy)->running;

        if (limit > 0 && limit < max)
                max = limit;
        if (js->drain) {
                job_refuse(js, m->attempt_id, "agent_draining",
                           "this agent is draining and takes no new calls");
                return NULL;
        }
        if (js->running >= (size_t)max) {
                job_refuse(js, m->attempt_id, "agent_busy",
                           "this agent runs %zu calls already, its limit is %d", js->running, max);
                return NULL;
        }
        if (!t)
                job_refuse(js, m->attempt_id, "unknown_tool",
                           "this agent has no tool named \"%s\"; see: photon agent show", m->tool);
        else if (t->available && !t->available() && t->install)
                job_refuse(js, m->attempt_id, "tool_missing", "%s: its program is not on this machine: %s",
                           m->tool, t->install);
        else if (t->available && !t->available())
                job_refuse(js, m->attempt_id, "tool_unavailable", "%s cannot work on this machine now",
                           m->tool);
        else
                return t;
        return NULL;
}

/* Policy and schema. NULL: refused, and told. */
static cJSON *check_input(struct jobs *js, const struct tool *t, const Photon__V1__StepStart *m)
{
        const struct policy_limits *lim = policy_limits(js->o.policy);
        const char *text = m->input[0] ? m->input : "{}";
        const cJSON *schema;
        struct err e = {0};
        cJSON *input = NULL;
        int rc;

        if (policy_tool(js->o.policy, t->name, &e)) {
                job_refuse(js, m->attempt_id, "policy_denied", "%s", e.msg);
                return NULL;
        }
        if (lim->input_bytes > 0 && strlen(text) > (size_t)lim->input_bytes) {
                job_refuse(js, m->attempt_id, "input_too_large",
                           "the input has %zu bytes, this agent's policy allows %" PRId64, strlen(text),
                           lim->input_bytes);
                return NULL;
        }
        rc = json_parse(text, strlen(text), &input, &e);
        if (!rc && cJSON_IsObject(input))
                rc = job_secrets_fill(t, m, input, &e);
        if (!rc && (schema = jobs_schema(js, t)))
                rc = json_check(schema, input, &e);
        if (rc) {
                job_secrets_hide(m, &e);
                job_refuse(js, m->attempt_id, rc == -E_NOMEM ? "out_of_memory" : "invalid_input", "%s: %s",
                           t->name, e.msg);
                goto refused;
        }
        rc = t->permit ? t->permit(js->o.policy, input, &e) : 0;
        if (rc) {
                job_secrets_hide(m, &e);
                job_refuse(js, m->attempt_id, rc == -E_DENIED ? "policy_denied" : err_name(rc), "%s", e.msg);
                goto refused;
        }
        return input;
refused:
        cJSON_Delete(input);
        return NULL;
}

static bool job_take_scratch(struct job *j, const struct tool *t);

static int fill(struct job *j, const struct tool *t, const Photon__V1__StepStart *m)
{
        struct jobs *js = j->jobs;

        j->run_id = mem_strdup(m->run_id);
        j->step_id = mem_strdup(m->step_id);
        j->traceparent = mem_strdup(m->traceparent);
        j->tool_name = mem_strdup(t->name);
        if (!j->run_id || !j->step_id || !j->traceparent || !j->tool_name || !job_take_scratch(j, t))
                return -E_NOMEM;
        j->timeout_ms = m->timeout_ms;
        j->call = (struct tool_call){
                .tool = t,
                .policy = js->o.policy,
                .loop = js->o.loop,
                .attempt_id = j->id,
                .run_id = j->run_id,
                .step_id = j->step_id,
                .attempt = (int)m->attempt,
                .scratch_dir = j->scratch,
                .traceparent = j->traceparent,
                .stdin_follows = m->stdin_follows,
                .grace_ms =
                        m->grace_ms ? (int)(m->grace_ms > 3600000 ? 3600000 : m->grace_ms) : GRACE_DEFAULT_MS,
                .job = j,
        };
        return 0;
}

int job_admit(struct jobs *js, const Photon__V1__StepStart *m)
{
        const struct tool *t = check_room(js, m);
        struct err e = {0};
        struct job *j = NULL;
        cJSON *input;
        int rc;

        if (!t)
                return -E_DENIED;
        input = check_input(js, t, m);
        if (!input)
                return -E_DENIED;
        rc = job_make(js, m->attempt_id, &j);
        if (rc) {
                cJSON_Delete(input);
                job_refuse(js, m->attempt_id, "out_of_memory",
                           "this agent has no memory left for another call");
                return rc;
        }
        j->input = input;
        j->tool_done = true; /* nothing to free in the tool yet */
        j->started_us = jobs_now_us(js);
        rc = fill(j, t, m);
        if (!rc && (rc = job_secrets_take(j, t, m, &e))) {
                job_secrets_hide(m, &e);
                job_refuse_made(j, rc == -E_NOMEM ? "out_of_memory" : "secret_refused", e.msg);
                return rc;
        }
        if (!rc)
                rc = journal_accept(js->o.journal, j->id, t->name, j->started_us);
        if (rc)
                job_refuse_made(j,
                                rc == -E_NOSPACE ? "agent_no_space"
                                : rc == -E_FULL  ? "agent_busy"
                                                 : err_name(rc),
                                rc == -E_NOMEM
                                        ? "this agent has no memory left for another call"
                                        : "this agent's journal is full: the hub has not taken its results");
        else
                list_push_back(&js->admitted, &j->started);
        return rc;
}

void job_on_timeout(uv_timer_t *t)
{
        struct job *j = t->data;

        job_stop(j, JOB_STOP_TIMEOUT, j->call.grace_ms);
}

static void arm_timeout(struct job *j)
{
        int64_t limit = policy_limits(j->jobs->o.policy)->runtime_ms;
        int64_t ms = j->timeout_ms;

        if (limit > 0 && (ms == 0 || limit < ms))
                ms = limit;
        if (ms == 0)
                return;
        uv_timer_init(j->jobs->o.loop, &j->timer);
        j->timer.data = j;
        j->timer_open = true;
        j->jobs->handles++;
        /* The loop's idea of now may be as old as the turn; a call gets its whole time. */
        uv_update_time(j->jobs->o.loop);
        if (job_is_asking(j))
                j->left_ms = ms; /* it asked before it had begun */
        else
                uv_timer_start(&j->timer, job_on_timeout, (uint64_t)ms, 0);
}

static void on_room(void *arg)
{
        struct job *j = arg;

        if (j->state != JOB_FINISHED && !j->capped && j->call.tool->output_room)
                j->call.tool->output_room(&j->call);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
        (void)st;
        (void)type;
        (void)ftw;
        return remove(path);
}

struct removal {
        uv_work_t work;
        struct jobs *jobs;
        char path[];
};

static void remove_tree(uv_work_t *w)
{
        struct removal *r = container_of(w, struct removal, work);

        nftw(r->path, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

static void removed(uv_work_t *w, int status)
{
        struct removal *r = container_of(w, struct removal, work);
        struct jobs *js = r->jobs;

        (void)status;
        mem_free(r);
        jobs_handle_closed(js);
}

/* Folders are numbered places that calls use one after the other: making and deleting one
 * per call cost a file system's journal more than the call itself. */
static bool job_take_scratch(struct job *j, const struct tool *t)
{
        struct jobs *js = j->jobs;

        for (int i = 0; !t->no_scratch && i < SCRATCH_SLOTS && j->slot < 0; i++) {
                if (js->slots[i] != SLOT_TAKEN) {
                        j->slot = i;
                        j->slot_made = js->slots[i] == SLOT_FREE;
                        js->slots[i] = SLOT_TAKEN;
                }
        }
        j->scratch = str_printf("%s/%d", js->o.scratch_root, j->slot);
        return j->scratch && (t->no_scratch || j->slot >= 0);
}

static bool folder_is_empty(const char *path)
{
        DIR *d = opendir(path);
        struct dirent *de;
        bool empty = d != NULL;

        while (d && (de = readdir(d)))
                if (strcmp(de->d_name, ".") && strcmp(de->d_name, ".."))
                        empty = false;
        if (d)
                closedir(d);
        return empty;
}

/* Mostly it is empty, or holds the file of outputs; what else a tool left goes on a worker thread. */
static void drop_scratch(struct job *j)
{
        struct jobs *js = j->jobs;
        struct removal *r;
        char file[4096];
        int slot = j->slot;
        size_t n;

        if (slot < 0)
                return;
        j->slot = -1;
        snprintf(file, sizeof file, "%s/output", j->scratch);
        (void)unlink(file); /* mostly absent */
        js->slots[slot] = SLOT_FREE;
        if (folder_is_empty(j->scratch))
                return;
        js->slots[slot] = SLOT_ABSENT;
        n = strlen(js->o.scratch_root) + 40;
        r = mem_alloc(sizeof *r + n);
        if (!r) {
                log_warn("job", "a call's folder stays", "dir=%s", j->scratch);
                js->slots[slot] = SLOT_TAKEN; /* and is not used again */
                return;
        }
        snprintf(r->path, n, "%s/old-%" PRIu64, js->o.scratch_root, j->id);
        if (rename(j->scratch, r->path)) {
                log_warn("job", "a call's folder stays", "dir=%s error=%s", j->scratch, strerror(errno));
                js->slots[slot] = SLOT_TAKEN;
                mem_free(r);
                return;
        }
        r->jobs = js;
        js->handles++;
        if (uv_queue_work(js->o.loop, &r->work, remove_tree, removed)) {
                mem_free(r);
                js->handles--;
        }
}

void job_start(struct job *j)
{
        struct jobs *js = j->jobs;
        struct err e = {0};
        uid_t uid;
        gid_t gid;
        int rc = 0;

        if (j->slot >= 0 && !j->slot_made && mkdir(j->scratch, 0700) && errno != EEXIST) {
                bool full = errno == ENOSPC || errno == EDQUOT || errno == EROFS;

                err_set(&e, err_from_errno(errno), "cannot create the call's folder %s: %s", j->scratch,
                        strerror(errno));
                job_refuse_made(j, full ? "agent_no_space" : err_name(e.code), e.msg);
                return;
        }
        if (j->slot >= 0 && sandbox_user(j->call.tool->name, &uid, &gid) && chown(j->scratch, uid, gid)) {
                err_set(&e, err_from_errno(errno), "cannot give the call's folder %s to its user: %s",
                        j->scratch, strerror(errno));
                job_refuse_made(j, err_name(e.code), e.msg);
                return;
        }
        rc = output_create(js->o.pool, j->id, on_room, j, &j->out);
        if (rc) {
                drop_scratch(j);
                job_refuse_made(j, err_name(rc), "this agent has no memory left for another call");
                return;
        }
        j->in_tool = true;
        j->tool_done = false;
        rc = j->call.tool->start(&j->call, j->input, &e);
        j->in_tool = false;
        if (rc && j->state == JOB_STARTING) {
                char *text = job_masked_text(j, e.msg);

                snprintf(e.msg, sizeof e.msg, "%s", text ? text : "it could not be started");
                mem_free(text);
                j->tool_done = true;
                drop_scratch(j);
                job_refuse_made(j, rc == -E_DENIED ? "policy_denied" : err_name(rc), e.msg);
                return;
        }
        if (j->state == JOB_FINISHED)
                return;
        if (j->state == JOB_STARTING)
                job_move(j, JOB_RUNNING);
        arm_timeout(j);
        list_push_back(&js->started, &j->started);
        if (j->stop != JOB_STOP_NONE)
                job_stop(j, j->stop, j->call.grace_ms);
}

void job_stop(struct job *j, enum job_stop why, int grace_ms)
{
        bool again = j->state == JOB_STOPPING;

        if (j->state == JOB_FINISHED)
                return;
        /* The first reason stays, except that a hub that wants nothing more, wants nothing more. */
        if (j->stop == JOB_STOP_NONE || why == JOB_STOP_FORGET)
                j->stop = why;
        if (j->in_tool)
                return; /* job_start comes back here */
        if (again && why != JOB_STOP_AGENT && why != JOB_STOP_FORGET)
                return;
        if (why == JOB_STOP_AGENT && !j->lost_question)
                j->lost_question = job_asks_title(j);
        if (!again)
                job_move(j, JOB_STOPPING);
        if (j->call.tool->cancel)
                j->call.tool->cancel(&j->call, grace_ms);
        if (j->state != JOB_FINISHED)
                job_asks_stop(j);
}

/* Standard input. */

static void stdin_due(struct job *j)
{
        list_remove(&j->stdin_due);
        list_push_back(&j->jobs->stdin_due, &j->stdin_due);
}

void job_stdin(struct job *j, const Photon__V1__StdinData *m)
{
        const uint8_t *p = m->data.data;
        size_t n = m->data.len, skip;

        if (!j->call.stdin_follows || !j->call.tool->stdin_data || j->stdin_closed) {
                j->stdin_closed = true;
                stdin_due(j);
                return;
        }
        if (m->offset > j->stdin_next) {
                log_warn("job", "standard input came with a gap, dropped",
                         "attempt=%" PRIu64 " offset=%" PRIu64 " expected=%" PRIu64, j->id, m->offset,
                         j->stdin_next);
                stdin_due(j); /* tells where to go on */
                return;
        }
        skip = (size_t)(j->stdin_next - m->offset);
        if (skip > n || (skip == n && !m->eof)) {
                stdin_due(j); /* a repeat: a hub that was restarted asks where to go on */
                return;
        }
        p += skip;
        n -= skip;
        /* Twice the window: one may be on its way while an older grant is in force. */
        if (j->stdin_next + n > j->stdin_taken + 2 * (uint64_t)JOB_STDIN_WINDOW) {
                job_stop(j, JOB_STOP_STDIN, j->call.grace_ms);
                return;
        }
        j->stdin_next += n;
        j->call.tool->stdin_data(&j->call, p, n, m->eof);
}

void tool_stdin_taken(struct tool_call *c, uint64_t offset, bool closed)
{
        struct job *j = c->job;

        if (offset > j->stdin_taken)
                j->stdin_taken = offset;
        j->stdin_closed = j->stdin_closed || closed;
        if (j->state != JOB_FINISHED)
                stdin_due(j);
}

/* Output. */

int job_put_output(struct job *j, int ch, const void *p, size_t n)
{
        int64_t limit = policy_limits(j->call.policy)->output_bytes;
        uint64_t total;
        int rc;

        total = output_total(j->out);
        if (limit > 0 && total + n > (uint64_t)limit) {
                j->capped = true;
                n = (size_t)((uint64_t)limit - total);
        }
        rc = output_put(j->out, ch, p, n, jobs_now_us(j->jobs));
        if (j->capped && rc != -E_NOMEM) {
                job_stop(j, JOB_STOP_OUTPUT, j->call.grace_ms);
                return 0; /* go on reading, so that it can end; the rest is dropped */
        }
        return rc;
}

int tool_output(struct tool_call *c, enum tool_channel ch, const void *p, size_t n)
{
        struct job *j = c->job;
        int rc;

        if (j->state == JOB_FINISHED || !j->out || j->capped || j->stop == JOB_STOP_FORGET)
                return 0;
        rc = j->mask ? job_mask_output(j, (int)ch, p, n) : job_put_output(j, (int)ch, p, n);
        if (rc == -E_NOMEM) {
                j->capped = true;
                job_stop(j, JOB_STOP_MEMORY, c->grace_ms);
                return 0;
        }
        return rc;
}

/* Ends. */

static const char *const outcome_names[] = {
        [TOOL_SUCCEEDED] = "succeeded", [TOOL_FAILED] = "failed",       [TOOL_REFUSED] = "refused",
        [TOOL_CANCELLED] = "cancelled", [TOOL_TIMED_OUT] = "timed_out",
};

void tool_finish(struct tool_call *c, struct tool_result *r)
{
        static const struct tool_result no_memory = {
                .outcome = TOOL_FAILED,
                .error_code = "out_of_memory",
                .error_message = "the agent has no memory left to take the secrets out of the result",
        };
        struct job *j = c->job;
        char *message = NULL, *sentence = NULL;

        if (j->state == JOB_FINISHED) {
                log_error("job", "a tool finished twice", "attempt=%" PRIu64 " tool=%s", j->id, j->tool_name);
                cJSON_Delete(r->outputs);
                cJSON_Delete(r->usage);
                return;
        }
        if (j->timer_open)
                uv_timer_stop(&j->timer);
        job_asks_end(j);
        if (r->error_message && j->mask && !(sentence = job_masked_text(j, r->error_message)))
                r->error_message = no_memory.error_message;
        else if (sentence)
                r->error_message = sentence; /* before the event says it */
        if (j->mask)
                event_rest(c);
        if (c->has_events)
                event_result(c, outcome_names[r->outcome], r->error_code, r->error_message);
        if (job_mask_result(j, r, &message)) {
                cJSON_Delete(r->outputs);
                cJSON_Delete(r->usage);
                *r = no_memory;
        }
        job_finished(j, r);
        mem_free(message);
        mem_free(sentence);
        list_remove(&j->started);
        list_remove(&j->stdin_due);
        list_push_back(&j->jobs->reap, &j->reap);
}

void job_reap(struct job *j)
{
        if (!j->tool_done) {
                if (j->call.tool->free)
                        j->call.tool->free(&j->call);
                j->call.tool = NULL; /* the row may go before the hub has the result */
                drop_scratch(j);
                j->tool_done = true;
        }
        job_secrets_free(j);
        job_mask_free(j);
        cJSON_Delete(j->input);
        j->input = NULL;
        if (j->gone)
                job_release(j);
}

int tool_owns_process(struct tool_call *c, int pid)
{
        struct job *j = c->job;
        struct journal_proc p;
        struct err e = {0};
        int rc = procid_read(pid, &p);

        if (!rc)
                rc = journal_process(j->jobs->o.journal, j->id, &p, &e);
        if (rc)
                log_error("job", "a process group could not be written down",
                          "attempt=%" PRIu64 " pid=%d error=%s", j->id, pid, e.msg[0] ? e.msg : err_name(rc));
        return rc;
}
