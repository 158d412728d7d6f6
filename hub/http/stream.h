/* Answers without an end in sight: event streams and followed logs.
 *
 * libmicrohttpd asks for bytes when the client can take some; the stream's `fill`
 * reads the next piece from the store or a log file, so a slow reader costs one
 * buffer. When there is nothing yet the connection is suspended until the
 * loop sees something new (a durable event, appended output). Waking is counted, so
 * that what happens between reading and suspending is not missed, and it is
 * throttled, so that a busy hub does not spend itself on watchers. */
#ifndef PHOTON_HTTP_STREAM_H
#define PHOTON_HTTP_STREAM_H

#include <microhttpd.h>
#include <stdbool.h>
#include <stdint.h>

struct buf;
struct http;
struct http_req;
struct http_thread;
struct stream;

#define STREAM_PIECE (64u << 10)

enum stream_more { STREAM_DATA, STREAM_WAIT, STREAM_END, STREAM_BROKEN };

struct stream_ops {
        /* HTTP thread: appends about STREAM_PIECE bytes, or says why not. STREAM_DATA with an empty
         * buffer asks again at once. BROKEN: the client sees a cut-off body. */
        enum stream_more (*fill)(void *state, struct stream *s, struct http_thread *t, struct buf *out);
        /* The hub stops: the last bytes, if there are any to say. May be NULL: the stream ends as it is. */
        void (*stop)(void *state, struct stream *s, struct http_thread *t, struct buf *out);
        void (*free)(void *state);
        bool events;  /* text/event-stream: quiet times get a comment line */
        int every_ms; /* a few wake-ups at once in so long, the rest together at its end */
};

/* Takes state, on failure too. Needs a place (req_take_place) unless it never waits. */
int stream_create(struct http_req *q, const struct stream_ops *ops, void *state, struct stream **out);
/* Before it is queued. Accepts NULL. */
void stream_drop(struct stream *s);
/* The response owns the stream from then on. NULL: no memory (the stream is dropped). */
struct MHD_Response *stream_response(struct stream *s);
/* fill: also wake when output of this attempt arrives; 0: none. */
void stream_watch_attempt(struct stream *s, uint64_t attempt_id);
/* fill: also wake at this time (http_now_ms), give or take HTTP_TICK_MS; 0: not by time. */
void stream_wake_at(struct stream *s, int64_t at_ms);

#endif
