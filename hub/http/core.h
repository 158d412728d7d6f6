/* Inside of hub/http: the server object that requests and streams share. Only
 * the files of this folder include it.
 *
 * Three kinds of threads meet here. Fields say who may touch them: [const]
 * after http_create; [loop] the loop thread only; [atomic] anyone. */
#ifndef PHOTON_HTTP_CORE_H
#define PHOTON_HTTP_CORE_H

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "common/list.h"
#include "hub/auth/auth.h"
#include "hub/http/http.h"

struct store_reader;
struct limit;
struct map;
struct mcp_sessions;

/* A refused body that is read and dropped, so that the refusal is seen. */
#define HTTP_DRAIN_MAX (128u << 20)
/* Of all bodies that are being received or looked at, together. */
#define HTTP_BODIES_MAX   (256u << 20)
#define HTTP_STATUS_SLOTS 6
#define HTTP_TICK_MS      1000

/* A token that was good a moment ago, by its hash. */
#define TOKENS_CACHED 8
struct known_token {
        uint8_t sha256[32];
        struct caller caller;
        int64_t until_ms; /* 0: empty */
        unsigned changes; /* http.token_changes when it was checked */
};

/* What each HTTP thread has for itself; made on first use, closed when the thread ends. */
struct http_thread {
        struct store_reader *reader;
        struct def_cache *defs; /* present.h */
        struct known_token tokens[TOKENS_CACHED];
        unsigned next_token;
};

struct http {
        struct http_options o;          /* [const] */
        char address[300];              /* [const] */
        int port;                       /* [const] */
        int listen_fd;                  /* ours again after MHD_quiesce_daemon */
        struct MHD_Daemon *daemon;      /* [const] until stopped */
        struct limit *by_token, *by_ip; /* [const] NULL: no limit */
        struct limit *failures;         /* [const] logins that failed, by address */
        pthread_key_t thread_key;       /* [const] struct http_thread */
        bool have_key;
        struct http_thread *loop_thread; /* [loop] */
        char *cert_pem, *key_pem, *logs_dir, *public_url;

        atomic_bool stopping;
        atomic_int parked;                         /* suspended connections; see server.c */
        atomic_int active;                         /* requests from header to completion */
        atomic_int streams;                        /* streams and waits at once, against max_streams */
        atomic_ullong answered[HTTP_STATUS_SLOTS]; /* by status class */
        atomic_ullong answer_us;                   /* sum over answered requests */
        atomic_ullong limited;                     /* requests refused for coming too often */
        atomic_ullong bytes_in;
        atomic_size_t bodies;      /* bytes held in bodies, against HTTP_BODIES_MAX */
        atomic_uint token_changes; /* API tokens revoked: what threads remember of them is void */

        atomic_int uses_waiting; /* token_use.h */
        /* denials.h */
        atomic_int denials_waiting;
        atomic_ullong denials_unrecorded;
        int64_t denials_second; /* [loop] */
        int denials_strangers;  /* [loop] in that second */
        int denials_rows;       /* [loop] the same, of rows that are refused */

        struct list waiting;      /* [loop] struct http_req.link: hopped, not answered */
        struct list subs;         /* [loop] struct stream.link */
        struct map *keys;         /* [loop] idempotency keys of POSTs in flight */
        struct mcp_sessions *mcp; /* [loop] mcp_session.h; NULL until the first */
        uv_timer_t tick;          /* [loop] sweeps: see server.c */
        uv_timer_t nudge;         /* [loop] wakes streams that were woken a moment ago */
        bool tick_open, nudge_open, nudge_armed;

        pthread_mutex_t watch_lock; /* guards `watched`; defended in server.c */
        struct list watched;        /* struct watch.link: open connections */

        /* [loop] http_stop */
        int64_t stop_deadline_ms;
        bool joining, stopped;
        uv_work_t join;
        void (*on_stopped)(void *arg);
        void *stopped_arg;
};

/* An open connection and since when it owes us something. */
enum watch_phase { WATCH_FIRST, WATCH_IDLE, WATCH_BODY, WATCH_BUSY };
struct watch {
        struct list link;
        int fd;
        _Atomic int phase;
        _Atomic int64_t since_ms;
};

int64_t http_now_ms(void); /* monotonic */
/* The sweep comes no later than in `ms`. Loop thread. */
void http_tick_within(struct http *h, int64_t ms);
/* This thread's reader and caches. */
int http_thread(struct http *h, struct http_thread **out, struct err *e);

/* Hung up? Looks at the socket of a suspended connection, which libmicrohttpd
 * does not do. Loop thread, while the connection is parked. */
bool http_peer_gone(int fd);

/* stream.c, called from server.c on the loop. */
void streams_on_event(void *ctx, int64_t last);
void streams_on_log(void *ctx, uint64_t attempt_id, uint64_t end, bool finished);
void streams_on_nudge(uv_timer_t *t);
void streams_sweep(struct http *h, int64_t now_ms);
void streams_end_all(struct http *h);
/* request.c */
void reqs_sweep(struct http *h, int64_t now_ms);
void reqs_end_all(struct http *h);
enum MHD_Result req_on_access(void *cls, struct MHD_Connection *conn, const char *url, const char *method,
                              const char *version, const char *upload, size_t *upload_size, void **con_cls);
void req_on_completed(void *cls, struct MHD_Connection *conn, void **con_cls,
                      enum MHD_RequestTerminationCode why);

#endif
