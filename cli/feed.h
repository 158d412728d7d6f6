/* Standard input for a call: read as the tool takes it, sent in pieces that know their
 * place, sent again when the hub was away. One thread.
 *
 * What the hub has taken may still be on its way to the agent and is lost if the hub
 * dies, so the last FEED_WINDOW bytes are kept; after a break they are offered again, and
 * hub and agent drop what they have. */
#ifndef PHOTON_CLI_FEED_H
#define PHOTON_CLI_FEED_H

#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"

struct client;
struct err;
struct request;

#define FEED_PIECE  (64u << 10)
#define FEED_WINDOW (256u << 10) /* what the hub holds for an agent at most */

struct feed {
        struct client *c;
        char *base; /* /api/v1/runs/ID/stdin */
        int fd;
        struct buf kept;        /* bytes [kept_at, kept_at + kept.len) */
        uint64_t kept_at, next; /* next: the first byte to send */
        uint64_t sending;       /* bytes in flight */
        bool at_eof, sending_eof, over;
        struct request *r;
        int64_t again_ms; /* monotonic */
        int tries;
};

int feed_init(struct feed *f, struct client *c, const char *run, int fd, struct err *e);
void feed_fini(struct feed *f);
/* The descriptor to wait for, or -1: there is something to send first, or it is over. */
int feed_wants(const struct feed *f);
/* It is readable: reads a piece. */
void feed_read(struct feed *f);
/* Sends what can be sent. Milliseconds until it wants to be called again (at most `most`). */
int feed_step(struct feed *f, int most);

#endif
