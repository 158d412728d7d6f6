/* Private to agent/job*.c: job.c (life of one call), jobs.c (the set, the
 * hub's messages, the turn), job_result.c (what is said when it ends), job_secret.c (what the hub sent
 * along), job_mask.c (what must not leave). */
#ifndef PHOTON_AGENT_JOB_IN_H
#define PHOTON_AGENT_JOB_IN_H

#include "agent/job.h"
#include "agent/tools/tool.h"
#include "common/buf.h"
#include "common/err.h"
#include "common/list.h"
#include "common/map.h"

struct job_mask;
struct policy_answer;
struct tool_question;
struct output;

enum job_state { JOB_STARTING, JOB_RUNNING, JOB_STOPPING, JOB_FINISHED };

enum job_stop {
        JOB_STOP_NONE,
        JOB_STOP_CANCEL,
        JOB_STOP_TIMEOUT,
        JOB_STOP_OUTPUT,
        JOB_STOP_AGENT,
        JOB_STOP_STDIN,
        JOB_STOP_MEMORY,
        JOB_STOP_FORGET
};

#define SCRATCH_SLOTS 1024

enum slot_state { SLOT_ABSENT, SLOT_FREE, SLOT_TAKEN };

struct job {
        struct tool_call call; /* what the tool sees; call.job points back */
        struct jobs *jobs;
        uint64_t id;
        enum job_state state;
        struct list all;     /* jobs.all */
        struct list started; /* in jobs.admitted: to be started; in jobs.started: StepStarted is due */
        struct list send;    /* due: StepFinished */
        struct list stdin_due;
        struct list reap;   /* finished, the tool's state not yet freed */
        struct list unsafe; /* result not yet in the journal */
        uv_timer_t timer;
        bool timer_open;
        int64_t left_ms; /* of the time limit, while it stands still; -1: it runs, or there is none */
        bool in_tool;    /* the tool's start has not returned */
        bool tool_done;  /* tool->free was called, or there was no call */
        bool told;       /* HelloReply spoke of it */
        bool lost, gone; /* gone: the hub has it or does not want it; freed when nothing points here */
        bool capped;     /* over the output limit: the rest is dropped */
        char *run_id, *step_id, *traceparent, *tool_name, *scratch;
        int slot; /* of the scratch folder, -1: none taken */
        bool slot_made;
        cJSON *input;
        struct output *out;
        struct job_mask *mask;       /* NULL: it knows no secret */
        struct call_secret *secrets; /* job_secret.c */
        size_t n_secrets;
        uint32_t timeout_ms;
        enum job_stop stop;
        char *cancel_reason;
        struct list asks; /* job_ask.c: questions that are open or whose decision is not yet delivered */
        uint32_t asked;   /* questions so far: their ids */
        Photon__V1__PolicyAnswer **policy; /* job_policy.c: for the hub's audit */
        size_t n_policy;
        uint32_t policy_more; /* those over JOB_POLICY_MAX */
        char *lost_question;  /* the agent stops while this waits for people */
        int64_t started_us;
        uint64_t stdin_next, stdin_taken;
        bool stdin_closed;
        uint8_t *packed; /* StepFinished, until it is journaled and sent */
        size_t packed_len;
        bool noted; /* journal_finish has it */
};

struct jobs {
        struct jobs_options o;
        const struct tool *(*find)(const char *name);
        struct map *by_id;
        struct map *schemas; /* tool name -> cJSON */
        struct list all, admitted, started, send, stdin_due, reap, unsafe;
        struct jobs_sink sink;
        bool attached, blocked;
        struct list questions, decided, ask_notes; /* job_ask.c: to be sent, to be delivered, to be said */
        uv_timer_t deliver;
        bool hub_answers; /* this hub takes questions */
        unsigned drain;
        size_t running;
        bool was_busy; /* since on_idle was last called */
        int64_t clock_offset_us;
        struct buf msg;
        uint8_t slots[SCRATCH_SLOTS]; /* enum slot_state: folders are made once and used again */
        uv_timer_t retry;
        bool retry_on;
        int handles; /* open uv handles and work under way */
        bool closing;
        void (*on_closed)(void *arg);
        void *closed_arg;
};

/* jobs.c */
int64_t jobs_now_us(const struct jobs *js); /* on the hub's clock, as far as known */
int job_make(struct jobs *js, uint64_t id, struct job **out);
void job_move(struct job *j, enum job_state to);
void job_release(struct job *j); /* frees it as soon as nothing points to it */
void jobs_arm_retry(struct jobs *js);
void jobs_handle_closed(struct jobs *js);
int jobs_put_member(struct buf *b, unsigned field, const void *p, size_t n);
const cJSON *jobs_schema(struct jobs *js, const struct tool *t);

/* job.c */
int job_admit(struct jobs *js, const Photon__V1__StepStart *m); /* checks; on 0 it is noted in the journal */
void job_start(struct job *j);
void job_stop(struct job *j, enum job_stop why, int grace_ms);
void job_on_timeout(uv_timer_t *t);
void job_stdin(struct job *j, const Photon__V1__StdinData *m);
void job_reap(struct job *j); /* tool->free, scratch folder */

/* job_policy.c: what the policy allowed or denied without asking people. Kept until the result takes it. */
#define JOB_POLICY_MAX 256
void job_policy_note(struct job *j, uint32_t id, const struct tool_question *q, const char *arguments,
                     const struct policy_answer *a);
void job_policy_say(const struct job *j, Photon__V1__StepFinished *m); /* lent */
void job_policy_free(struct job *j);

/* job_ask.c */
bool job_is_asking(const struct job *j);
void job_asks_stop(struct job *j);   /* the call is being stopped: the answer to what is open is no */
void job_asks_end(struct job *j);    /* the call is over: nobody waits, no callback */
void job_asks_free(struct job *j);   /* only memory */
void job_asks_resend(struct job *j); /* a new connection: what is open is asked again */
int job_asks_held(const struct job *j, Photon__V1__HeldAttempt *h); /* fills open_questions; mem_free it */
char *job_asks_title(const struct job *j); /* of the oldest open question; mem_free it; NULL: none */
void jobs_on_answer(struct jobs *js, const Photon__V1__Answer *m);
/* Into js->msg; what was put in stays due until it is sent. n: how many questions, how many words about them.
 */
bool jobs_asks_due(const struct jobs *js);
void jobs_asks_gather(struct jobs *js, size_t n[2]);
void jobs_asks_sent(struct jobs *js, const size_t n[2]);
void jobs_asks_forget_notes(struct jobs *js); /* the connection went */
void jobs_asks_init(struct jobs *js);
void jobs_asks_open(struct jobs *js); /* its timer; counts in js->handles */
void jobs_asks_close(struct jobs *js);

int job_put_output(struct job *j, int ch, const void *p, size_t n); /* past the mask; see tool_output */

/* job_mask.c */
int job_mask_output(struct job *j, int ch, const void *p, size_t n);
/* Before the result is packed: what is held back goes out, what r says is masked. *out_message is mem_free'd
 * when r was used. -E_NOMEM: nothing of r may leave. */
int job_mask_result(struct job *j, struct tool_result *r, char **out_message);
void job_mask_free(struct job *j);
/* A masked copy, mem_free; NULL: no memory. Of a sentence (mask_sentence); of a tree (cJSON_Delete). Without
 * secrets: a copy. */
char *job_masked_text(const struct job *j, const char *text);
cJSON *job_masked_tree(const struct job *j, const cJSON *v);

/* job_secret.c */
/* Values where their marks stand. */
int job_secrets_fill(const struct tool *t, const Photon__V1__StepStart *m, cJSON *input, struct err *e);
/* Takes the values out of what a refusal is about to say. */
void job_secrets_hide(const Photon__V1__StepStart *m, struct err *e);
int job_secrets_take(struct job *j, const struct tool *t, const Photon__V1__StepStart *m, struct err *e);
void job_secrets_free(struct job *j); /* wipes, the input's texts too */

/* job_result.c */
void job_refuse(struct jobs *js, uint64_t id, const char *code, const char *fmt, ...)
        __attribute__((format(printf, 4, 5)));
void job_refuse_made(struct job *j, const char *code, const char *message);
void job_finished(struct job *j, struct tool_result *r); /* takes r->outputs */
int job_secure(struct job *j); /* output to disk, result to the journal; 0 when both are */
int job_lost(struct job *j);
int job_result_repack(struct job *j, uint64_t output_bytes);

#endif
