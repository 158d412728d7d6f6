/* A hub without agents' sockets: real store, engine, auth, logs and HTTPS API on a
 * loop thread of their own, and one agent, "fake", whose tools are played here.
 * The test's own thread is the client (libcurl).
 *
 * Tools: t.ok succeeds with its input as output; t.out writes "out\n" to stdout and "err\n" to
 * stderr; t.events writes events too (docs/EVENTS.md); t.fail ends with exit code 3; t.hang runs until
 * cancelled or world_finish; t.cat takes standard input. */
#ifndef PHOTON_TEST_API_WORLD_H
#define PHOTON_TEST_API_WORLD_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hub/http/http.h"

struct api_world;

/* tweak (may be NULL) changes the options before the API starts. */
struct api_world *world_start(void (*tweak)(struct http_options *o));
void world_stop(struct api_world *w);
/* As after a second signal: the loop is left with everything under way. w stays allocated. */
void world_drop(struct api_world *w);
int world_port(const struct api_world *w);
const char *world_token(const struct api_world *w);            /* an admin's */
const char *world_ca(const struct api_world *w);               /* file with the CA's certificate */
char *world_make_token(struct api_world *w, const char *role); /* mem_free */
char *world_make_token_in(struct api_world *w, const char *role, const char *project);

/* On the loop thread; returns when fn has. */
void world_on_loop(struct api_world *w, void (*fn)(struct api_world *w, void *arg), void *arg);
struct engine *world_engine(struct api_world *w);
struct store *world_store(struct api_world *w);
struct bus *world_bus(struct api_world *w);
/* Attempts the agent has and has not finished. */
size_t world_running(struct api_world *w);
/* Ends the agent's oldest attempt with success. */
void world_finish(struct api_world *w);
/* Output of the oldest attempt arrives. */
void world_write(struct api_world *w, const void *p, size_t n);
void world_write_event(struct api_world *w, const char *text);
/* Standard input that arrived, NUL-terminated; eof seen? Lent until the next call. */
const char *world_stdin(struct api_world *w, bool *eof);

struct answer {
        long status; /* 0: no answer */
        int curl;    /* CURLcode */
        char *body;
        size_t len;
        char *headers;
        cJSON *json; /* NULL: not JSON */
};
/* body NULL: none. headers: NULL-ended or NULL. token NULL: the admin's; "": none. */
struct answer ask(struct api_world *w, const char *method, const char *path, const char *type,
                  const void *body, size_t n, const char *token, const char *const *headers);
struct answer get(struct api_world *w, const char *path);
struct answer post(struct api_world *w, const char *path, const char *json);
void answer_fini(struct answer *a);
const char *answer_str(const struct answer *a, const char *key); /* a string member, or "" */

#endif
