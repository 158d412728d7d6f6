/* Tool calls in hand: takes them on, runs them, and keeps result and output
 * until the hub has them.
 *
 *   StepStart -> checks -> journal -> STARTING -> RUNNING -> STOPPING -> FINISHED -> (ResultAck) gone
 *                  |                                \___________________^   ^
 *                  +--- refused ---------------------------------------------+
 *
 * jobs owns every job and, through them, the outputs; journal, pool, policy
 * and loop are lent and outlive it. What the hub must hear is gathered and
 * leaves in one AgentMessage at the end of the loop turn (jobs_turn), after the
 * journal was written. Without a sink everything goes on, and is told later.
 * Loop thread only. */
#ifndef PHOTON_AGENT_JOB_H
#define PHOTON_AGENT_JOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "common/err.h"
#include "photon/v1/agent.pb-c.h"

struct clock;
struct err;
struct journal;
struct journal_proc;
struct jobs;
struct output_pool;
struct policy;
struct tool;

#define JOB_OUTPUTS_MAX  (4u << 20)   /* a result's JSON; larger: failed, "result_too_large" */
#define JOB_STDIN_WINDOW (256u << 10) /* see StdinAck */
#define JOB_MESSAGE_SOFT (512u << 10) /* an AgentMessage is closed when it has grown to this */
#define JOB_RETRY_MS     1000         /* disk full: try again */

/* Where AgentMessages go: agent/session.c, a fake in tests. */
struct jobs_sink {
        /* A packed AgentMessage. 0; -E_FULL: jobs_writable follows; -E_CLOSED. */
        int (*send)(void *ctx, const void *p, size_t n);
        void *ctx;
};

struct jobs_options {
        uv_loop_t *loop;
        struct journal *journal;
        struct output_pool *pool;
        const struct policy *policy;
        const char *scratch_root; /* exists, empty; numbered folders are made in it and used again */
        int max_running;
        const struct clock *clock;
        const struct tool *(*find)(const char *name); /* NULL: tool_find */
        /* Ends what calls left behind when the agent died; proc NULL: by their folders only. May be NULL. */
        void (*end_leftovers)(const char *scratch_root, const struct journal_proc *proc);
        void (*on_idle)(void *arg); /* nothing runs any more (at the end of a turn); may be NULL */
        void *arg;
};

/* Takes up what the journal holds: attempts that were running become LOST results. */
int jobs_create(const struct jobs_options *o, struct jobs **out, struct err *e);
/* Nothing may run any more (jobs_stop_all first, or it is killed without a result: LOST at the next start).
 */
void jobs_close(struct jobs *js, void (*on_closed)(void *arg), void *arg);

/* The connection came (Hello is answered) or went (NULL). Keeps a copy. */
void jobs_attach(struct jobs *js, const struct jobs_sink *sink);
void jobs_writable(struct jobs *js);
/* Fills r->held and r->n_held, to be released with jobs_held_free. */
int jobs_held(const struct jobs *js, Photon__V1__HelloRequest *r);
void jobs_held_free(Photon__V1__HelloRequest *r);
void jobs_apply_held(struct jobs *js, const Photon__V1__HelloReply *r);
void jobs_set_clock_offset(struct jobs *js, int64_t offset_us); /* hub's clock minus ours */

void jobs_handle(struct jobs *js, const Photon__V1__HubMessage *m);
/* What is wrong with one start of a message; code NULL: nothing. */
struct start_refusal {
        const char *code;
        struct err why;
};
/* The same; `refusals` has one entry for each start: those are refused before anything else is looked at. */
void jobs_handle_checked(struct jobs *js, const Photon__V1__HubMessage *m,
                         const struct start_refusal *refusals);
/* The table of tools changed: schemas that were read are read again. */
void jobs_tools_changed(struct jobs *js);
/* At the end of every loop turn: writes the journal, sends, releases. */
void jobs_turn(struct jobs *js);

enum jobs_drain_by { JOBS_DRAIN_HUB = 1, JOBS_DRAIN_STOP = 2 };
void jobs_drain(struct jobs *js, enum jobs_drain_by by, bool on); /* no new calls while any is on */
bool jobs_draining(const struct jobs *js);
void jobs_stop_all(struct jobs *js, int grace_ms); /* the agent ends, or is revoked: LOST, "agent_stopped" */
/* An array with what is held, for status: attempt, run, step, tool, state, started, output. NULL: no memory.
 */
struct cJSON *jobs_describe(const struct jobs *js);
size_t jobs_running(const struct jobs *js);
size_t jobs_unacked(const struct jobs *js); /* results that the hub has not acknowledged */

/* After jobs_handle: what came of secrets is overwritten in the message. */
void job_secrets_wipe(Photon__V1__StepStart *m);

#endif
