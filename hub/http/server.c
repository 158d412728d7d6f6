/* The daemon: listening, threads, limits, sweeping, stopping.
 *
 * Stopping while connections are suspended is undefined in libmicrohttpd, so a
 * suspension is counted before it is made: whoever suspends adds to `parked`, then looks at
 * `stopping`; http_stop sets `stopping`, wakes everybody, and joins the threads only when
 * `parked` is 0. Whichever came first, either the suspension sees the stop or the stop
 * sees the suspension.
 *
 * libmicrohttpd has one idle timeout and no deadline for a header or a body that
 * drips. `watched` lists the open connections so that the loop's sweep can shut such a
 * socket down. It is guarded by a mutex, against the rule of this house, because the socket number
 * must not be closed and given to somebody else between our look and our shutdown(2);
 * the lock is held for list operations and that one system call, and is taken once when a
 * connection opens, once when it closes, and once a second. */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/err.h"
#include "common/log.h"
#include "common/mailbox.h"
#include "common/map.h"
#include "common/mem.h"
#include "common/pki.h"
#include "common/str.h"
#include "hub/event/bus.h"
#include "hub/http/core.h"
#include "hub/http/limit.h"
#include "hub/http/mcp_session.h"
#include "hub/http/present.h"
#include "hub/logs/logs.h"
#include "hub/store/store.h"

#define TLS_PRIORITIES "SECURE128:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:-RSA:-DHE-RSA:%SERVER_PRECEDENCE"
#define BACKLOG        1024
/* Tokens that are not valid, from one address: so many at once, then one a second. */
#define FAILURES_BURST 50

int64_t http_now_ms(void)
{
        return (int64_t)(uv_hrtime() / 1000000);
}

/* ---- each thread's own reader ---- */

static void thread_free(void *p)
{
        struct http_thread *t = p;

        if (!t)
                return;
        def_cache_free(t->defs);
        if (t->reader)
                store_reader_close(t->reader);
        mem_free(t);
}

int http_thread(struct http *h, struct http_thread **out, struct err *e)
{
        struct http_thread *t = pthread_getspecific(h->thread_key);
        int rc;

        if (t) {
                *out = t;
                return 0;
        }
        t = mem_calloc(1, sizeof *t);
        if (!t)
                return err_set(e, E_NOMEM, "out of memory");
        rc = store_reader_open(h->o.store, &t->reader, e);
        if (!rc && pthread_setspecific(h->thread_key, t))
                rc = err_set(e, E_NOMEM, "out of memory");
        if (rc) {
                thread_free(t);
                return rc;
        }
        *out = t;
        return 0;
}

/* ---- open connections ---- */

bool http_peer_gone(int fd)
{
        struct pollfd p = {.fd = fd, .events = POLLRDHUP};

        return fd >= 0 && poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR));
}

static void on_connection(void *cls, struct MHD_Connection *conn, void **socket_context,
                          enum MHD_ConnectionNotificationCode what)
{
        struct http *h = cls;
        struct watch *w;

        if (what == MHD_CONNECTION_NOTIFY_STARTED) {
                w = mem_calloc(1, sizeof *w);
                *socket_context = w;
                if (!w)
                        return; /* unwatched: the idle timeout still holds */
                w->fd = MHD_get_connection_info(conn, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
                atomic_store(&w->since_ms, http_now_ms());
                atomic_store(&w->phase, WATCH_FIRST);
                pthread_mutex_lock(&h->watch_lock);
                list_push_back(&h->watched, &w->link);
                pthread_mutex_unlock(&h->watch_lock);
                return;
        }
        w = *socket_context;
        if (!w)
                return;
        pthread_mutex_lock(&h->watch_lock);
        list_remove(&w->link);
        pthread_mutex_unlock(&h->watch_lock);
        *socket_context = NULL;
        mem_free(w);
}

static void sweep_connections(struct http *h, int64_t now_ms)
{
        const int64_t allowed[] = {
                [WATCH_FIRST] = h->o.header_timeout_ms,
                [WATCH_IDLE] = h->o.idle_timeout_ms + h->o.header_timeout_ms,
                [WATCH_BODY] = h->o.body_timeout_ms,
                [WATCH_BUSY] = INT64_MAX / 2,
        };

        pthread_mutex_lock(&h->watch_lock);
        LIST_EACH (it, &h->watched) {
                struct watch *w = container_of(it, struct watch, link);

                if (now_ms - atomic_load(&w->since_ms) > allowed[atomic_load(&w->phase)])
                        shutdown(w->fd, SHUT_RDWR); /* its thread sees the end and closes it */
        }
        pthread_mutex_unlock(&h->watch_lock);
}

/* ---- sweeping and stopping ---- */

static void on_joined(uv_work_t *w, int status);

static void join_threads(uv_work_t *w)
{
        struct http *h = w->data;

        MHD_stop_daemon(h->daemon);
}

static void on_closed(uv_handle_t *handle)
{
        struct http *h = handle->data;

        if (handle == (uv_handle_t *)&h->tick)
                h->tick_open = false;
        else
                h->nudge_open = false;
        if (h->tick_open || h->nudge_open)
                return;
        h->stopped = true;
        if (h->on_stopped)
                h->on_stopped(h->stopped_arg);
}

static void on_joined(uv_work_t *w, int status)
{
        struct http *h = w->data;

        (void)status;
        h->daemon = NULL;
        /* What the threads posted last still points at this server. */
        mailbox_drain(h->o.mailbox);
        thread_free(pthread_getspecific(h->thread_key));
        pthread_setspecific(h->thread_key, NULL);
        uv_close((uv_handle_t *)&h->tick, on_closed);
        uv_close((uv_handle_t *)&h->nudge, on_closed);
}

static void try_join(struct http *h, int64_t now_ms)
{
        if (h->joining)
                return;
        /* Whoever slipped in before `stopping` was set. */
        reqs_end_all(h);
        streams_end_all(h);
        if (atomic_load(&h->parked) || (atomic_load(&h->active) && now_ms < h->stop_deadline_ms)) {
                http_tick_within(h, 10);
                return;
        }
        h->joining = true;
        h->join.data = h;
        if (uv_queue_work(h->o.loop, &h->join, join_threads, on_joined)) {
                join_threads(&h->join);
                on_joined(&h->join, 0);
        }
}

static void on_tick(uv_timer_t *t)
{
        struct http *h = t->data;
        int64_t now = http_now_ms();

        uv_timer_start(t, on_tick, HTTP_TICK_MS, 0);
        if (atomic_load(&h->stopping)) {
                try_join(h, now);
                return;
        }
        reqs_sweep(h, now);
        streams_sweep(h, now);
        sweep_connections(h, now);
}

void http_tick_within(struct http *h, int64_t ms)
{
        uint64_t in = ms < 1 ? 1 : (uint64_t)ms;

        if (h->tick_open && (!uv_is_active((uv_handle_t *)&h->tick) || uv_timer_get_due_in(&h->tick) > in))
                uv_timer_start(&h->tick, on_tick, in, 0);
}

void http_stop(struct http *h, int grace_ms, void (*on_stopped)(void *arg), void *arg)
{
        int fd;

        h->on_stopped = on_stopped;
        h->stopped_arg = arg;
        h->stop_deadline_ms = http_now_ms() + grace_ms;
        atomic_store(&h->stopping, true);
        fd = MHD_quiesce_daemon(h->daemon);
        if (fd >= 0)
                close(fd);
        try_join(h, http_now_ms());
}

/* ---- starting ---- */

/* "host:port" and "[v6]:port", where port 0 is allowed. */
static int split_listen(const char *listen, char host[256], char port[8], struct err *e)
{
        const char *colon = strrchr(listen, ':');
        size_t n = colon ? (size_t)(colon - listen) : 0;
        int64_t p;

        if (!colon || str_parse_i64(colon + 1, 0, 65535, &p))
                return err_set(e, E_INVAL, "api listen address '%s' is not HOST:PORT", listen);
        if (n > 1 && listen[0] == '[' && listen[n - 1] == ']') {
                listen++;
                n -= 2;
        }
        if (!n || n > 255)
                return err_set(e, E_INVAL, "api listen address '%s' is not HOST:PORT", listen);
        memcpy(host, listen, n);
        host[n] = '\0';
        snprintf(port, 8, "%d", (int)p);
        return 0;
}

static int listen_on(const struct addrinfo *ai)
{
        int on = 1, off = 0;
        int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

        if (fd < 0)
                return -1;
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        if (ai->ai_family == AF_INET6)
                setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
        if (bind(fd, ai->ai_addr, ai->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
                return fd;
        on = errno;
        close(fd);
        errno = on;
        return -1;
}

static int port_of(int fd)
{
        struct sockaddr_storage ss;
        socklen_t n = sizeof ss;

        if (getsockname(fd, (struct sockaddr *)&ss, &n))
                return 0;
        return ss.ss_family == AF_INET6 ? ntohs(((struct sockaddr_in6 *)&ss)->sin6_port)
                                        : ntohs(((struct sockaddr_in *)&ss)->sin_port);
}

static int bind_address(struct http *h, struct err *e)
{
        struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *list = NULL;
        char host[256], port[8];
        int rc = split_listen(h->o.listen, host, port, e);

        if (rc)
                return rc;
        rc = getaddrinfo(host, port, &hints, &list);
        if (rc)
                return err_set(e, E_INVAL, "api listen address '%s': %s", h->o.listen, gai_strerror(rc));
        for (struct addrinfo *ai = list; ai && h->listen_fd < 0; ai = ai->ai_next)
                h->listen_fd = listen_on(ai);
        rc = errno;
        freeaddrinfo(list);
        if (h->listen_fd < 0)
                return err_set(e, rc == EADDRINUSE ? E_EXIST : err_from_errno(rc),
                               "cannot listen on %s for the API: %s", h->o.listen, strerror(rc));
        h->port = port_of(h->listen_fd);
        snprintf(h->address, sizeof h->address, strchr(host, ':') ? "[%s]:%d" : "%s:%d", host, h->port);
        return 0;
}

static void on_log(void *cls, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));
static void on_log(void *cls, const char *fmt, va_list ap)
{
        char t[300];
        size_t n;

        (void)cls;
        vsnprintf(t, sizeof t, fmt, ap);
        n = strlen(t);
        if (n && t[n - 1] == '\n')
                t[n - 1] = '\0';
        log_debug("http", "libmicrohttpd", "text=\"%s\"", t);
}

static int start_daemon(struct http *h, struct err *e)
{
        const struct http_options *o = &h->o;

        h->daemon = MHD_start_daemon(
                MHD_USE_POLL_INTERNAL_THREAD | MHD_USE_TLS | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0,
                NULL, NULL, req_on_access, h, MHD_OPTION_EXTERNAL_LOGGER, on_log,
                NULL, /* first, so that it hears the others */
                MHD_OPTION_LISTEN_SOCKET, h->listen_fd, MHD_OPTION_HTTPS_MEM_KEY, h->key_pem,
                MHD_OPTION_HTTPS_MEM_CERT, h->cert_pem, MHD_OPTION_HTTPS_PRIORITIES, TLS_PRIORITIES,
                MHD_OPTION_CONNECTION_LIMIT, o->max_connections, MHD_OPTION_PER_IP_CONNECTION_LIMIT,
                o->max_per_ip, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)((o->idle_timeout_ms + 999) / 1000),
                MHD_OPTION_THREAD_POOL_SIZE, o->threads, MHD_OPTION_STRICT_FOR_CLIENT, 1,
                MHD_OPTION_NOTIFY_CONNECTION, on_connection, h, MHD_OPTION_NOTIFY_COMPLETED, req_on_completed,
                h, MHD_OPTION_END);
        if (!h->daemon)
                return err_set(e, E_INVAL,
                               "the HTTPS server did not start; is the hub's certificate with its key "
                               "readable and whole?");
        return 0;
}

static void set_defaults(struct http_options *o)
{
        if (o->threads < 2)
                o->threads = o->threads == 1 ? 0 : 2; /* a pool of one is no pool */
        if (!o->max_connections)
                o->max_connections = 1000;
        if (!o->max_per_ip)
                o->max_per_ip = 100;
        if (!o->max_streams)
                o->max_streams = 500;
        if (!o->idle_timeout_ms)
                o->idle_timeout_ms = 30000;
        if (!o->header_timeout_ms)
                o->header_timeout_ms = 15000;
        if (!o->body_timeout_ms)
                o->body_timeout_ms = 120000;
        if (!o->heartbeat_ms)
                o->heartbeat_ms = 15000;
}

static int copy_options(struct http *h, const struct http_options *o)
{
        h->o = *o;
        set_defaults(&h->o);
        h->cert_pem = mem_strdup(o->cert_pem);
        h->key_pem = mem_strdup(o->key_pem);
        h->logs_dir = mem_strdup(o->logs_dir);
        h->o.listen = mem_strdup(o->listen);
        h->o.cert_pem = h->o.key_pem = NULL;
        h->o.logs_dir = h->logs_dir;
        h->keys = map_create();
        if (limit_create(o->rate_per_token, o->rate_per_token * LIMIT_BURST_S, &h->by_token) ||
            limit_create(o->rate_per_ip, o->rate_per_ip * LIMIT_BURST_S, &h->by_ip) ||
            limit_create(1, FAILURES_BURST, &h->failures))
                return -E_NOMEM;
        return h->cert_pem && h->key_pem && h->logs_dir && h->o.listen && h->keys ? 0 : -E_NOMEM;
}

static int open_timers(struct http *h)
{
        if (uv_timer_init(h->o.loop, &h->tick))
                return -E_NOMEM;
        h->tick_open = true;
        h->tick.data = h;
        if (uv_timer_init(h->o.loop, &h->nudge))
                return -E_NOMEM;
        h->nudge_open = true;
        h->nudge.data = h;
        return uv_timer_start(&h->tick, on_tick, HTTP_TICK_MS, 0) ? -E_NOMEM : 0;
}

int http_create(const struct http_options *o, struct http **out, struct err *e)
{
        struct http *h = mem_calloc(1, sizeof *h);
        int rc;

        if (!h)
                return err_set(e, E_NOMEM, "out of memory");
        h->listen_fd = -1;
        list_init(&h->waiting);
        list_init(&h->subs);
        list_init(&h->watched);
        pthread_mutex_init(&h->watch_lock, NULL);
        rc = copy_options(h, o);
        if (!rc && pthread_key_create(&h->thread_key, thread_free))
                rc = -E_NOMEM;
        h->have_key = !rc;
        if (rc) {
                err_set(e, -rc, "out of memory");
                goto fail;
        }
        rc = bind_address(h, e);
        if (!rc) {
                h->public_url =
                        o->public_url ? mem_strdup(o->public_url) : str_printf("https://%s", h->address);
                h->o.public_url = h->public_url;
                rc = h->public_url ? 0 : err_set(e, E_NOMEM, "out of memory");
                /* As browsers write an origin. */
                for (size_t n = rc ? 0 : strlen(h->public_url); n && h->public_url[n - 1] == '/'; n--)
                        h->public_url[n - 1] = '\0';
                if (!rc && strncmp(h->public_url, "https://", 8) != 0)
                        rc = err_set(e, E_INVAL, "public-url '%.200s' does not begin with https://",
                                     h->public_url);
        }
        if (rc)
                goto fail;
        /* The bus and the logs cannot take a subscriber back, so they come
         * when little can fail any more; the timers cannot be closed at once. */
        rc = start_daemon(h, e);
        if (rc)
                goto fail;
        rc = open_timers(h);
        if (!rc)
                rc = bus_on_advance(h->o.bus, streams_on_event, h);
        if (rc) {
                /* Out of memory at start-up: what libuv already holds must stay. */
                return err_set(e, -rc, "the API could not start: %s", err_name(rc));
        }
        logs_on_change(h->o.logs, streams_on_log, h);
        *out = h;
        return 0;
fail:
        http_free(h);
        return rc;
}

int http_port(const struct http *h)
{
        return h->port;
}

const char *http_address(const struct http *h)
{
        return h->address;
}

/* The loop was left before http_stop was through (a second signal): the threads
 * must end all the same, since what they read is about to go. Each waits for
 * nothing but a resume, so a few rounds do. What libuv still holds stays allocated. */
static void stop_at_once(struct http *h)
{
        if (!atomic_exchange(&h->stopping, true)) {
                int fd = MHD_quiesce_daemon(h->daemon);

                if (fd >= 0)
                        close(fd);
        }
        for (int i = 0; i < 100; i++) {
                mailbox_drain(h->o.mailbox);
                reqs_end_all(h);
                streams_end_all(h);
                if (!atomic_load(&h->parked)) {
                        MHD_stop_daemon(h->daemon);
                        mailbox_drain(h->o.mailbox);
                        return;
                }
                poll(NULL, 0, 10);
        }
        log_error("http", "connections would not end, their threads are left", "parked=%d",
                  atomic_load(&h->parked));
}

void http_free(struct http *h)
{
        if (!h)
                return;
        if (h->daemon && !h->stopped) {
                if (!h->joining)
                        stop_at_once(h);
                return;
        }
        if (h->listen_fd >= 0 && !h->stopped)
                close(h->listen_fd); /* http_create failed */
        if (h->have_key)
                pthread_key_delete(h->thread_key);
        pthread_mutex_destroy(&h->watch_lock);
        map_free(h->keys);
        limit_free(h->by_token);
        limit_free(h->by_ip);
        limit_free(h->failures);
        mcp_sessions_free(h->mcp);
        mem_free((char *)(uintptr_t)h->o.listen);
        mem_free(h->public_url);
        mem_free(h->cert_pem);
        pki_free_secret(h->key_pem);
        mem_free(h->logs_dir);
        mem_free(h);
}
