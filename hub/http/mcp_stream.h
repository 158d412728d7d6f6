/* An answer that takes its time: progress and the like while a job goes on, its result
 * last. To a client that takes event streams each message is an event as it comes; to
 * one that does not, only the result is sent, when there is one.
 *
 * The job is asked to step whenever something happened: an event, output of the attempt that is
 * watched, a time that came, an answer to its question, the client's cancelling. HTTP threads. */
#ifndef PHOTON_HTTP_MCP_STREAM_H
#define PHOTON_HTTP_MCP_STREAM_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>

#include "hub/http/stream.h"

struct err;
struct http_req;
struct http_thread;
struct mcp_call;
struct mcp_stream;

enum mcp_end {
        MCP_ENDED,     /* with its result */
        MCP_CANCELLED, /* the client said so */
        MCP_LEFT,      /* the client hung up, or the hub stops */
};

struct mcp_job_ops {
        /* STREAM_WAIT: nothing more for now. After mcp_stream_result: STREAM_END. */
        enum stream_more (*step)(void *job, struct mcp_stream *ms, struct http_thread *t);
        void (*free)(void *job, struct mcp_call *c, enum mcp_end how);
};

/* Takes c from q, and job; on failure only the job. Needs a place (req_take_place). */
int mcp_stream_start(struct http_req *q, struct mcp_call *c, const struct mcp_job_ops *ops, void *job,
                     struct err *e);

struct mcp_call *mcp_stream_call(struct mcp_stream *ms);
/* In a step. Each -E_* breaks the stream off. */
/* Does the client want to hear how it goes? */
bool mcp_stream_reports(const struct mcp_stream *ms);
/* The hub stops: this is the last step, so a result as things stand is better than none. */
bool mcp_stream_stops(const struct mcp_stream *ms);
/* total < 0: unknown; message NULL: none. Ascending. */
int mcp_stream_progress(struct mcp_stream *ms, double progress, double total, const char *message);
/* notifications/METHOD with these params (JSON). */
int mcp_stream_notify(struct mcp_stream *ms, const char *method, const char *params);
/* A request of ours to the client, answered later: legacy era, in a session. -E_NOTSUP: it cannot be asked.
 */
int mcp_stream_ask(struct mcp_stream *ms, const char *method, const char *params);
/* The client's message to the last question, or NULL; cJSON_Delete it. */
cJSON *mcp_stream_answer(struct mcp_stream *ms);
/* There is more to look at: others that wait for this thread come first. */
int mcp_stream_yield(struct mcp_stream *ms);
/* The result's members. */
int mcp_stream_result(struct mcp_stream *ms, const char *members);
/* Something may have happened by then (http_now_ms). */
void mcp_stream_due(struct mcp_stream *ms, int64_t at_ms);
void mcp_stream_attempt(struct mcp_stream *ms, uint64_t attempt_id);

#endif
