/* A stream that outlives its connection: opened again, from where it was, when the
 * hub goes away for a while, for up to a minute. One thread. */
#ifndef PHOTON_CLI_FOLLOW_H
#define PHOTON_CLI_FOLLOW_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cli/sse.h"
#include "common/err.h"

struct client;
struct request;

#define FOLLOW_PATIENCE_MS 60000

struct follow {
        struct client *c;
        char *path;  /* mem_free'd by follow_fini */
        bool events; /* SSE, else lines of JSON */
        bool quiet;  /* says nothing of reconnects */
        /* One event or line; SSE: `event` and `id`. Non-zero ends the stream with that rc. */
        int (*on_item)(void *ctx, const char *event, const char *id, const char *data, size_t n);
        /* Before each further try: change the path, if need be. May be NULL. */
        void (*on_again)(void *ctx, struct follow *f);
        /* A stream that ended well: was that all? (A hub that stops ends streams too.) NULL: yes. */
        bool (*is_all)(void *ctx);
        void *ctx;

        /* read: */
        bool over; /* it ended */
        int rc;    /* how: 0: the hub said all there is */
        struct err err;

        /* inside */
        struct sse sse;
        struct request *r;
        int64_t again_ms, since_ms; /* monotonic: next try; since when it is broken (0: it is not) */
        int tries;
};

/* Fill the first group first. */
void follow_init(struct follow *f);
void follow_fini(struct follow *f);
/* Opens what has to be opened; call it before every client_turn. Milliseconds until it wants to
 * be called again (at most `most`). */
int follow_step(struct follow *f, int most);
/* Turns until it is over or Ctrl-C came (where caught): its rc, or -E_CANCELLED. */
int follow_all(struct follow *f, struct err *e);

/* GET with the same patience, for what must be known although the hub is away just now. path: taken. */
int follow_get(struct client *c, char *path, cJSON **out, struct err *e);

#endif
