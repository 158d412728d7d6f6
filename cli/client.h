/* The hub's API for the commands: requests over HTTPS, several at once, and one
 * place that turns what went wrong into a sentence.
 *
 * TLS is always verified: against the pinned authority, or the machine's own ones.
 * Nothing runs in the background: work happens in client_turn. One thread. */
#ifndef PHOTON_CLI_CLIENT_H
#define PHOTON_CLI_CLIENT_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct client;
struct context;
struct err;
struct request;

/* Copies. -E_INVAL: the CA file. */
int client_create(const struct context *where, struct client **out, struct err *e);
void client_free(struct client *c); /* accepts NULL; stops what is in flight */
/* Requests that are about work (runs, calls, checkpoints, events) name this project. NULL: the hub's choice.
 */
int client_in_project(struct client *c, const char *project, struct err *e);
const char *client_hub(const struct client *c);

/* rc: 0; -E_UNAVAIL: no hub answered; -E_CLOSED: the connection broke in the middle; what on_data
 * returned; or by the HTTP status. */
struct answer {
        int rc;
        const struct err *err;
        int status;       /* HTTP; 0: none came */
        char code[48];    /* of the problem document, or "" */
        const cJSON *doc; /* the JSON answer or problem; NULL if it is none. Lent */
};

struct request_spec {
        const char *method, *path;
        const void *body; /* copied */
        size_t body_len;
        const char *type;           /* of the body; NULL: application/json */
        const char *key;            /* Idempotency-Key or NULL */
        const char *last_event_id;  /* or NULL */
        const char *accept;         /* NULL: by what follows */
        const char *const *headers; /* more of them, "Name: value", NULL-ended; or NULL */
        bool events;                /* a stream that is never silent for long */
        bool endless;               /* a stream that may be silent */
        /* Bytes of a good answer as they come; non-zero ends the request with that rc. NULL: collected for
         * on_end. */
        int (*on_data)(void *ctx, const void *p, size_t n);
        void (*on_end)(void *ctx, const struct answer *a); /* last; the request is gone afterwards */
        void *ctx;
};

int client_start(struct client *c, const struct request_spec *s, struct request **out, struct err *e);
/* A header of the answer, or NULL; lent until on_end returns. */
const char *client_header(struct request *r, const char *name);
/* Without on_end. Accepts NULL. */
void client_stop(struct client *c, struct request *r);
/* Moves what can move, calls back, and waits up to timeout_ms for more (Ctrl-C ends the
 * wait). fd (or -1): also wakes when it is readable; *readable says so. */
int client_turn(struct client *c, int timeout_ms, int fd, bool *readable, struct err *e);

/* One request, answered in JSON; *out (may be NULL) is NULL for an empty answer. POSTs carry a key and are
 * repeated when the connection breaks in the middle. -E_CANCELLED: Ctrl-C, where it is caught. */
int client_json(struct client *c, const char *method, const char *path, const cJSON *body, cJSON **out,
                struct err *e);
/* The same with bytes that are no JSON. */
int client_send(struct client *c, const char *method, const char *path, const void *body, size_t n,
                const char *type, cJSON **out, struct err *e);
/* All pages of a list as one array; at most `limit` items (0: all). */
int client_list(struct client *c, const char *path, int64_t limit, cJSON **out, struct err *e);

/* Percent-encodes one piece of a path or query; mem_free. NULL: no memory. */
char *client_escape(const char *s);
/* "/runs/%s/steps/%s" with each %s escaped, behind /api/v1; mem_free. NULL: no memory. */
char *client_path(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Fetches the authority (PEM, mem_free) whose SHA-256 (of the DER) is `sha256_hex` from a hub that
 * is not trusted yet; nothing secret is sent. -E_DENIED: none of its certificates has it. */
int client_fetch_ca(const char *hub, const char *sha256_hex, char **out_pem, struct err *e);

#endif
