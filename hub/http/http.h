/* The hub's HTTPS API: JSON resources, event streams and logs for people,
 * scripts and the CLI.
 *
 * libmicrohttpd's threads parse, authenticate, authorise and read from the
 * store with a reader of their own. What changes state travels by mailbox to
 * the loop, which calls the engine (or struct http_hub_ops) while the connection is
 * suspended; the answer resumes it. Handlers never see hub/agents: hub.c
 * wires the ops. All functions here are loop thread only. */
#ifndef PHOTON_HUB_HTTP_H
#define PHOTON_HUB_HTTP_H

#include <cjson/cJSON.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "hub/sched/engine.h"

struct auth;
struct bus;
struct clock;
struct err;
struct http;
struct logs;
struct notify;
struct mailbox;
struct oidc;
struct store;
struct vault;

/* What the API needs from parts it must not include. Called on the loop. The
 * first five mirror hub/agents/agents.h. */
struct http_hub_ops {
        void (*agent_revoke)(void *ctx, const char *id_or_name, engine_answer cb, void *arg);
        void (*agent_drain)(void *ctx, const char *id_or_name, bool on, engine_answer cb, void *arg);
        void (*agent_label)(void *ctx, const char *id_or_name, const cJSON *set, engine_answer cb, void *arg);
        cJSON *(*agent_describe)(void *ctx, const char *id_or_name); /* new; NULL: unknown */
        cJSON *(*agents_describe)(void *ctx);                        /* new array; NULL: no memory */
        size_t (*agents_online)(void *ctx);
        /* common/jointoken.h text of a token that auth_join_create just made: adds the hub's
         * addresses and the CA pin. *out is mem_free'd (after mem_wipe) by the API. */
        int (*join_text)(void *ctx, const char *id, const uint8_t secret[32], char **out, struct err *e);
        void *ctx;
};

/* Strings and PEMs are copied. 0 in a number: the default in brackets. */
struct http_options {
        uv_loop_t *loop;
        struct mailbox *mailbox; /* the loop's */
        const struct clock *clock;
        const char *listen; /* "127.0.0.1:7443", "[::]:7443", port 0 picks one */
        const char *cert_pem, *key_pem;
        struct store *store;
        struct engine *engine;
        struct bus *bus;
        struct auth *auth;
        struct logs *logs;
        struct oidc *oidc;      /* NULL: nobody logs in but with a token */
        const char *public_url; /* what browsers call this hub; NULL: https:// and the address */
        struct vault *vault;    /* NULL: there is none */
        struct notify *notify;
        const char *logs_dir; /* as given to logs_create */
        struct http_hub_ops ops;

        unsigned threads;         /* [2] */
        unsigned max_connections; /* [1000] */
        unsigned max_per_ip;      /* [100] */
        unsigned max_streams;     /* [500] event streams, followed logs and waiting calls at once */
        /* Requests a second; LIMIT_BURST_S times as many at once. 0: no limit. */
        bool audit_reads; /* denials.h */
        int64_t rate_per_token, rate_per_ip;
        int64_t idle_timeout_ms;   /* [30000] a connection on which nothing moves (rounded up to seconds) */
        int64_t header_timeout_ms; /* [15000] a request's header, however slowly it drips */
        int64_t body_timeout_ms;   /* [120000] a request's body */
        int64_t heartbeat_ms;      /* [15000] comment on a quiet event stream */
};

/* Binds, starts the threads, answers from now on. -E_EXIST: the address is
 * in use; -E_INVAL: address, certificate or key. Blocking, short. */
int http_create(const struct http_options *o, struct http **out, struct err *e);
int http_port(const struct http *h);
/* "HOST:PORT" as people should dial it (a wildcard host is shown as given). */
const char *http_address(const struct http *h);

/* Stops accepting, ends streams, answers 503 to what waits, lets answers in flight leave
 * for up to grace_ms, then joins the threads; on_stopped comes from the loop. Nothing of the
 * API touches store, engine or auth afterwards, except for callbacks the engine still owes. */
void http_stop(struct http *h, int grace_ms, void (*on_stopped)(void *arg), void *arg);
/* After on_stopped, and after the engine, the bus and the logs will call no more. Accepts NULL. */
void http_free(struct http *h);

#endif
