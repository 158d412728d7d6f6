/* The output of tool calls on its way to the hub: exactly once, in order.
 *
 * The bytes of one attempt are one sequence over its channels. They stay here
 * until the hub has them on disk (OutputAck):
 *
 *     acked                     sent                          total
 *       |--- sent, unacked -------|--- not yet sent -------------|
 *       [ memory ............ ][ spool files ......][ overflow ]
 *
 * Memory holds the oldest bytes, up to OUTPUT_JOB_MEMORY a call and
 * OUTPUT_MEMORY in all. A hub that takes bytes holds the tool back when memory
 * is full; when nobody takes them they go to disk (agent/spool.h) up to the
 * policy's limit, and only then is the tool held back. `overflow` is what came
 * while the disk was full or at its limit: the last reads of a tool that was
 * told to stop.
 *
 * The pool owns the timers and knows the wire; jobs own their outputs. Sending
 * happens in output_pool_turn, at the end of a loop turn, so that small writes
 * travel together. Loop thread only. */
#ifndef PHOTON_AGENT_OUTPUT_H
#define PHOTON_AGENT_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "photon/v1/agent.pb-c.h"

struct err;
struct output;
struct output_pool;

#define OUTPUT_JOB_MEMORY (2u << 20)
#define OUTPUT_MEMORY     (16u << 20)
#define OUTPUT_INLINE_MAX (8u << 10) /* travels inside StepFinished if no stream was opened */
#define OUTPUT_CHUNK_MAX  (64u << 10)
#define OUTPUT_LINGER_MS  4   /* the first bytes wait this long for the end of a short call */
#define OUTPUT_STALL_MS   200 /* no acknowledgement for this long: nobody takes it */
#define OUTPUT_RETRY_MS   1000

/* How bytes leave: agent/session.c in the agent, a fake in tests. Streams end by output_on_end. */
struct output_wire {
        int (*open)(void *ctx, struct output *o, void **out_stream);
        /* 0; -E_FULL: output_on_writable follows; else output_on_end follows. */
        int (*send)(void *stream, const Photon__V1__OutputChunk *m);
        void (*end)(void *stream);  /* no more chunks */
        void (*drop)(void *stream); /* cancel; no event about it any more */
        void *ctx;
};

struct output_pool_options {
        uv_loop_t *loop;
        const char *dir;            /* of the spool */
        int64_t spool_max;          /* bytes */
        int64_t job_memory, memory; /* 0: the defaults; tests */
        int linger_ms;              /* < 0: none */
};

int output_pool_create(const struct output_pool_options *o, struct output_pool **out, struct err *e);
/* All outputs are gone before. */
void output_pool_close(struct output_pool *p, void (*on_closed)(void *arg), void *arg);
/* A connection came (its streams start with output_resume or output_create) or went (NULL). Keeps a copy. */
void output_pool_attach(struct output_pool *p, const struct output_wire *w);
void output_pool_turn(struct output_pool *p);
uint64_t output_pool_spooled(const struct output_pool *p);
/* Gives memory back to the system if much was in use and nothing is any more. Cheap otherwise. */
void output_pool_trim(struct output_pool *p);
/* Deletes spool files that no output was restored from. */
void output_pool_sweep(struct output_pool *p, bool (*keep)(uint64_t attempt_id, void *arg), void *arg);

/* on_room (may be NULL): the tool may go on after -E_FULL. */
int output_create(struct output_pool *p, uint64_t attempt_id, void (*on_room)(void *arg), void *arg,
                  struct output **out);
/* What an earlier agent spooled for this attempt; finished, waits for output_resume. `total`: bytes
 * produced, 0: not known (it died): what can be sent is decided by output_resume. */
int output_restore(struct output_pool *p, uint64_t attempt_id, uint64_t total, struct output **out,
                   struct err *e);
void output_free(struct output *o);  /* drops stream and files; accepts NULL */
void output_leave(struct output *o); /* like free, but the files stay for the next agent */

/* Takes a copy. 0; -E_FULL: taken, but stop until on_room. -E_NOMEM: not taken. */
int output_put(struct output *o, int channel, const void *p, size_t n, int64_t now_us);
uint64_t output_total(const struct output *o);
uint64_t output_acked(const struct output *o); /* the hub durably has [0, acked) */
/* May travel inside StepFinished: small, and nothing of it has left. */
bool output_is_inline(const struct output *o);
/* Chunks that point into `o`: valid until it changes; mem_free each and the array. */
int output_inline(const struct output *o, Photon__V1__OutputChunk ***out, size_t *out_n);
/* No more will be put: everything unacknowledged is on disk afterwards. -E_NOSPACE, -E_IO, -E_NOMEM: it
 * stays in memory; try again. */
int output_seal(struct output *o);
/* The hub durably has [0, from) and wants the rest on this connection. */
void output_resume(struct output *o, uint64_t from);

/* From the wire. */
void output_on_ack(struct output *o, uint64_t durable);
void output_on_writable(struct output *o);
/* The stream is gone; code 0 or -E_*. */
void output_on_end(struct output *o, int code);
uint64_t output_attempt_id(const struct output *o);

#endif
