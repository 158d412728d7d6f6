/* A small HTTP server on the test's loop that plays a script: the n-th request
 * gets the n-th reply, further ones the last. It keeps what was asked. */
#ifndef PHOTON_TESTS_TOOLS_STUB_H
#define PHOTON_TESTS_TOOLS_STUB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#define STUB_REQUESTS_MAX 32

struct stub_reply {
        int status;                /* 0: the connection is closed without a word */
        const char *headers;       /* "Retry-After: 1\r\n"; or NULL */
        const char *const *pieces; /* of the body, NULL-ended */
        int gap_ms;                /* before each piece but the first */
        bool chunked;              /* else the end of the connection ends the body */
        bool cut;                  /* no last chunk */
        bool hang;                 /* after the last piece the connection stays open */
        const char *repeat;        /* sent again and again after the pieces ... */
        size_t repeat_bytes;       /* ... until so many bytes were sent */
};

struct stub {
        uv_loop_t *loop;
        uv_tcp_t listener;
        int port;
        const struct stub_reply *script;
        size_t n_script;
        char *requests[STUB_REQUESTS_MAX]; /* whole: head and body */
        uint64_t at_ms[STUB_REQUESTS_MAX]; /* when it had come */
        size_t n_requests, n_connections;
        uint64_t first_piece_ns; /* when the first piece of the newest reply was handed to the kernel */
};

void stub_open(struct stub *s, uv_loop_t *loop, const struct stub_reply *script, size_t n);
/* Closes the listener; connections end by themselves when their peer goes. Run the loop once more. */
void stub_close(struct stub *s);
/* The body of request i. */
const char *stub_body(const struct stub *s, size_t i);

#endif
