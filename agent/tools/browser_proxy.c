/* A connection:
 *
 *   GREETING -> REQUEST -> RESOLVING -> CONNECTING -> PIPING -> CLOSING
 *        \__________\___________\____________\____________________^
 *
 * Bytes are handed on as they are. A side that does not take them stops the
 * other one from being read (KEEP_MAX bytes wait at most). */
#include "agent/tools/browser_proxy.h"

#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/policy.h"
#include "agent/tools/net_address.h"
#include "agent/tools/peer_uid.h"
#include "agent/tools/socks.h"
#include "common/err.h"
#include "common/list.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/str.h"

#define READ_SIZE  ((size_t)64 << 10)
#define KEEP_MAX   ((size_t)256 << 10)
#define BACKLOG    128
#define HOST_PORT  272
#define CONNECT_MS 15000

enum conn_state { CONN_GREETING, CONN_REQUEST, CONN_RESOLVING, CONN_CONNECTING, CONN_PIPING, CONN_CLOSING };

#define TO(s) (1u << (s))
static const struct {
        const char *name;
        unsigned next;
} states[] = {
        [CONN_GREETING] = {"greeting", TO(CONN_REQUEST) | TO(CONN_CLOSING)},
        [CONN_REQUEST] = {"request", TO(CONN_RESOLVING) | TO(CONN_CLOSING)},
        [CONN_RESOLVING] = {"resolving", TO(CONN_CONNECTING) | TO(CONN_CLOSING)},
        [CONN_CONNECTING] = {"connecting", TO(CONN_PIPING) | TO(CONN_CLOSING)},
        [CONN_PIPING] = {"piping", TO(CONN_CLOSING)},
        [CONN_CLOSING] = {"closing", 0},
};

/* One half of a connection: what is read here is written to the other half. */
struct half {
        uv_tcp_t tcp;
        bool open, reading, ended; /* ended: no more to read */
        size_t queued;             /* written to this half, not yet taken */
        uv_shutdown_t shutdown;
};

struct conn {
        struct browser_proxy *p;
        struct list link;
        enum conn_state state;
        struct half page, out;
        int handles;
        uint8_t head[SOCKS_REQUEST_MAX + 2];
        size_t head_n;
        struct socks_request rq;
        uv_getaddrinfo_t resolve;
        bool resolving;
        struct addrinfo *found, *at;
        uv_connect_t connect;
        uv_timer_t timer;
};

struct refusal {
        char host[HOST_PORT];
        const char *code;
        struct err why;
};

struct browser_proxy {
        uv_loop_t *loop;
        const struct policy *policy;
        cJSON *narrow; /* NULL: the policy alone */
        uv_tcp_t listener;
        bool listener_open, closing;
        int port, handles;
        size_t n_conns;
        struct list conns;
        struct refusal refused[PROXY_DENIED_MAX]; /* a ring */
        size_t n_refused;
        uint64_t denials;
};

static char read_buf[READ_SIZE];

static bool move(struct conn *c, enum conn_state to)
{
        if (!(states[c->state].next & TO(to))) {
                log_error("browser", "connection: state move refused", "from=%s to=%s", states[c->state].name,
                          states[to].name);
                return false;
        }
        c->state = to;
        return true;
}

/* ---- what was refused ---- */

static void host_port(const char *host, int port, char out[HOST_PORT])
{
        snprintf(out, HOST_PORT, strchr(host, ':') && host[0] != '[' ? "[%s]:%d" : "%s:%d", host, port);
        for (char *s = out; *s; s++)
                if (*s >= 'A' && *s <= 'Z')
                        *s = (char)(*s - 'A' + 'a');
}

static void remember(struct browser_proxy *p, const struct socks_request *rq, const char *code,
                     const struct err *why)
{
        struct refusal *r = &p->refused[p->n_refused++ % PROXY_DENIED_MAX];

        host_port(rq->host, rq->port, r->host);
        r->code = code;
        r->why = *why;
        if (strcmp(code, "url_denied") == 0)
                p->denials++;
}

const char *browser_proxy_failure(const struct browser_proxy *p, const char *host, int port, struct err *e)
{
        size_t n = p->n_refused < PROXY_DENIED_MAX ? p->n_refused : PROXY_DENIED_MAX;
        char want[HOST_PORT];

        host_port(host, port, want);
        for (size_t i = 1; i <= n; i++) {
                const struct refusal *r = &p->refused[(p->n_refused - i) % PROXY_DENIED_MAX];

                if (strcmp(r->host, want) == 0) {
                        *e = r->why;
                        return r->code;
                }
        }
        return NULL;
}

void browser_proxy_denied(const struct browser_proxy *p, void (*fn)(void *arg, const char *host), void *arg)
{
        size_t n = p->n_refused < PROXY_DENIED_MAX ? p->n_refused : PROXY_DENIED_MAX;

        for (size_t i = n; i >= 1; i--) {
                const struct refusal *r = &p->refused[(p->n_refused - i) % PROXY_DENIED_MAX];
                bool again = false;

                for (size_t k = n; k > i && !again; k--)
                        again = strcmp(p->refused[(p->n_refused - k) % PROXY_DENIED_MAX].host, r->host) == 0;
                if (!again && strcmp(r->code, "url_denied") == 0)
                        fn(arg, r->host);
        }
}

uint64_t browser_proxy_denials(const struct browser_proxy *p)
{
        return p->denials;
}

/* ---- the end ---- */

static void proxy_release(struct browser_proxy *p)
{
        if (!p->closing || p->handles || p->n_conns)
                return;
        cJSON_Delete(p->narrow);
        mem_free(p);
}

static void conn_release(struct conn *c)
{
        struct browser_proxy *p = c->p;

        if (c->handles || c->resolving)
                return;
        list_remove(&c->link);
        p->n_conns--;
        if (c->found)
                uv_freeaddrinfo(c->found);
        mem_free(c);
        proxy_release(p);
}

static void on_conn_closed(uv_handle_t *h)
{
        struct conn *c = h->data;

        c->handles--;
        conn_release(c);
}

static void close_half(struct half *h)
{
        if (h->open)
                uv_close((uv_handle_t *)&h->tcp, on_conn_closed);
        h->open = false;
}

static void conn_close(struct conn *c)
{
        if (c->state == CONN_CLOSING || !move(c, CONN_CLOSING))
                return;
        if (c->resolving)
                uv_cancel((uv_req_t *)&c->resolve);
        close_half(&c->page);
        close_half(&c->out);
        uv_close((uv_handle_t *)&c->timer, on_conn_closed);
}

/* ---- writing ---- */

struct piece {
        uv_write_t req;
        struct conn *c;
        struct half *to;
        size_t n;
        char data[];
};

static struct half *other(struct conn *c, struct half *h)
{
        return h == &c->page ? &c->out : &c->page;
}

static void read_on(struct conn *c, struct half *h);

static void end_half(struct conn *c, struct half *h);

static void on_written(uv_write_t *req, int status)
{
        struct piece *w = container_of(req, struct piece, req);
        struct conn *c = w->c;
        struct half *from = other(c, w->to);

        w->to->queued -= w->n;
        if (status) {
                conn_close(c);
        } else if (c->state == CONN_PIPING) {
                if (w->to->queued < KEEP_MAX / 2 && !from->ended)
                        read_on(c, from);
                if (w->to->queued == 0 && from->ended)
                        end_half(c, w->to);
        }
        mem_free(w);
}

static int put(struct conn *c, struct half *to, const void *v, size_t n)
{
        uv_buf_t b = uv_buf_init((char *)(uintptr_t)v, (unsigned)n);
        int done = to->queued ? UV_EAGAIN : uv_try_write((uv_stream_t *)&to->tcp, &b, 1);
        struct piece *w;

        if (done < 0 && done != UV_EAGAIN)
                return -E_CLOSED;
        if (done < 0)
                done = 0;
        if ((size_t)done == n)
                return 0;
        n -= (size_t)done;
        w = mem_alloc(sizeof *w + n);
        if (!w)
                return -E_NOMEM;
        w->c = c;
        w->to = to;
        w->n = n;
        memcpy(w->data, (const char *)v + done, n);
        b = uv_buf_init(w->data, (unsigned)n);
        if (uv_write(&w->req, (uv_stream_t *)&to->tcp, &b, 1, on_written)) {
                mem_free(w);
                return -E_CLOSED;
        }
        to->queued += n;
        return 0;
}

static void on_shut(uv_shutdown_t *req, int status)
{
        (void)req;
        (void)status;
}

/* What came from the other side was all there is. */
static void end_half(struct conn *c, struct half *h)
{
        if (c->page.ended && c->out.ended)
                conn_close(c);
        else if (uv_shutdown(&h->shutdown, (uv_stream_t *)&h->tcp, on_shut))
                conn_close(c);
}

/* ---- a request ---- */

static void refuse(struct conn *c, enum socks_reply r, const char *code, const struct err *why)
{
        uint8_t reply[10];

        if (code)
                remember(c->p, &c->rq, code, why);
        socks_write_reply(r, reply);
        (void)put(c, &c->page, reply, sizeof reply); /* ten bytes fit into any socket */
        conn_close(c);
}

static bool in_list(const cJSON *hosts, const char *host, int port)
{
        char with_port[HOST_PORT], alone[HOST_PORT];
        const cJSON *h;

        host_port(host, port, with_port);
        snprintf(alone, sizeof alone, "%.*s", (int)(strrchr(with_port, ':') - with_port), with_port);
        cJSON_ArrayForEach(h, hosts)
        {
                if (cJSON_IsString(h) &&
                    (str_glob(h->valuestring, alone) || str_glob(h->valuestring, with_port)))
                        return true;
        }
        return false;
}

int browser_proxy_ask(const struct browser_proxy *p, const char *host, int port, struct err *e)
{
        int rc = policy_host(p->policy, host, port, e);

        if (rc)
                return rc;
        if (p->narrow && !in_list(p->narrow, host, port))
                return err_set(e, E_DENIED, "%.200s:%d is not among the `hosts` of this call", host, port);
        return 0;
}

static void try_next(struct conn *c, const struct err *last);

static void on_connected(uv_connect_t *req, int status)
{
        struct conn *c = req->data;
        struct err e = {0};
        uint8_t reply[10];

        if (c->state == CONN_CLOSING)
                return;
        if (status) {
                err_set(&e, E_UNAVAIL, "%.200s:%d: %s", c->rq.host, c->rq.port, uv_strerror(status));
                c->at = c->at->ai_next;
                try_next(c, &e);
                return;
        }
        uv_timer_stop(&c->timer);
        uv_tcp_nodelay(&c->out.tcp, 1);
        socks_write_reply(SOCKS_OK, reply);
        if (!move(c, CONN_PIPING) || put(c, &c->page, reply, sizeof reply)) {
                conn_close(c);
                return;
        }
        read_on(c, &c->page);
        read_on(c, &c->out);
}

static void on_out_reclosed(uv_handle_t *h)
{
        struct conn *c = h->data;

        c->handles--;
        if (c->state == CONN_CLOSING)
                conn_release(c);
        else
                try_next(c, NULL);
}

/* Connects to the next address that the policy does not deny; a socket that failed is made anew. */
static void try_next(struct conn *c, const struct err *last)
{
        struct err why = {0}, e = {0};
        bool denied = false;

        if (last)
                why = *last;
        if (c->out.open) { /* it has failed once: libuv cannot use it again */
                c->out.open = false;
                uv_close((uv_handle_t *)&c->out.tcp, on_out_reclosed);
                if (c->at)
                        return;
        }
        for (; c->at; c->at = c->at->ai_next) {
                if (net_address_permit(c->p->policy, c->at->ai_addr, c->rq.port, &e)) {
                        denied = true;
                        why = e;
                        continue;
                }
                if (uv_tcp_init(c->p->loop, &c->out.tcp))
                        break;
                c->out.tcp.data = c;
                c->out.open = true;
                c->handles++;
                c->connect.data = c;
                if (uv_tcp_connect(&c->connect, &c->out.tcp, c->at->ai_addr, on_connected) == 0)
                        return;
                err_set(&why, E_UNAVAIL, "%.200s:%d cannot be connected to", c->rq.host, c->rq.port);
                break;
        }
        if (!why.code)
                err_set(&why, E_UNAVAIL, "%.200s:%d cannot be connected to", c->rq.host, c->rq.port);
        refuse(c, denied ? SOCKS_DENIED : SOCKS_REFUSED, denied ? "url_denied" : "connect_failed", &why);
}

static void on_resolved(uv_getaddrinfo_t *req, int status, struct addrinfo *found)
{
        struct conn *c = req->data;
        struct err e = {0};

        c->resolving = false;
        c->found = status ? NULL : found;
        if (c->state == CONN_CLOSING) {
                conn_release(c);
                return;
        }
        if (status || !found) {
                err_set(&e, E_NOENT, "the name %.200s is not known (%s)", c->rq.host,
                        status ? uv_strerror(status) : "no address");
                refuse(c, SOCKS_HOST_UNREACHABLE, "host_not_found", &e);
                return;
        }
        for (struct addrinfo *a = found; a; a = a->ai_next) {
                if (a->ai_family == AF_INET)
                        ((struct sockaddr_in *)(void *)a->ai_addr)->sin_port = htons((uint16_t)c->rq.port);
                else if (a->ai_family == AF_INET6)
                        ((struct sockaddr_in6 *)(void *)a->ai_addr)->sin6_port = htons((uint16_t)c->rq.port);
        }
        c->at = found;
        if (move(c, CONN_CONNECTING))
                try_next(c, NULL);
}

static void on_too_long(uv_timer_t *t)
{
        struct conn *c = t->data;
        struct err e = {0};

        err_set(&e, E_TIMEOUT, "%.200s:%d did not answer within %d s", c->rq.host, c->rq.port,
                CONNECT_MS / 1000);
        refuse(c, SOCKS_HOST_UNREACHABLE, c->state >= CONN_RESOLVING ? "connect_failed" : NULL, &e);
}

static void on_request(struct conn *c)
{
        struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_family = AF_UNSPEC};
        enum socks_reply reply;
        struct err e = {0};
        int n = socks_read_request(c->head, c->head_n, &c->rq, &reply);

        if (n == 0)
                return;
        if (n < 0 || (size_t)n != c->head_n) { /* nobody speaks before the answer */
                refuse(c, reply, NULL, NULL);
                return;
        }
        uv_read_stop((uv_stream_t *)&c->page.tcp);
        c->page.reading = false;
        if (browser_proxy_ask(c->p, c->rq.host, c->rq.port, &e)) {
                refuse(c, SOCKS_DENIED, "url_denied", &e);
                return;
        }
        if (c->rq.is_address)
                hints.ai_flags = AI_NUMERICHOST;
        c->resolve.data = c;
        if (!move(c, CONN_RESOLVING) ||
            uv_getaddrinfo(c->p->loop, &c->resolve, on_resolved, c->rq.host, NULL, &hints)) {
                err_set(&e, E_FULL, "the agent cannot look up %.200s now", c->rq.host);
                refuse(c, SOCKS_FAILED, "connect_failed", &e);
                return;
        }
        c->resolving = true;
}

static void on_head(struct conn *c, const char *v, size_t n)
{
        static const uint8_t no_auth[2] = {5, 0};
        int k;

        if (n > sizeof c->head - c->head_n) {
                conn_close(c);
                return;
        }
        memcpy(c->head + c->head_n, v, n);
        c->head_n += n;
        if (c->state == CONN_GREETING) {
                k = socks_read_greeting(c->head, c->head_n);
                if (k < 0 || (k > 0 && (!move(c, CONN_REQUEST) || put(c, &c->page, no_auth, 2)))) {
                        conn_close(c);
                        return;
                }
                if (k == 0)
                        return;
                c->head_n -= (size_t)k;
                memmove(c->head, c->head + k, c->head_n);
        }
        if (c->head_n > 0)
                on_request(c);
}

/* ---- reading ---- */

static void on_alloc(uv_handle_t *h, size_t want, uv_buf_t *b)
{
        (void)h;
        (void)want;
        *b = uv_buf_init(read_buf, sizeof read_buf);
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *b)
{
        struct conn *c = s->data;
        struct half *from = (uv_tcp_t *)s == &c->page.tcp ? &c->page : &c->out, *to = other(c, from);

        if (n == 0)
                return;
        if (c->state < CONN_PIPING) {
                if (n < 0)
                        conn_close(c);
                else
                        on_head(c, b->base, (size_t)n);
                return;
        }
        if (n < 0) {
                uv_read_stop(s);
                from->reading = false;
                from->ended = true;
                if (n != UV_EOF)
                        conn_close(c);
                else if (to->queued == 0)
                        end_half(c, to);
                return;
        }
        if (put(c, to, b->base, (size_t)n)) {
                conn_close(c);
        } else if (to->queued > KEEP_MAX) {
                uv_read_stop(s);
                from->reading = false;
        }
}

static void read_on(struct conn *c, struct half *h)
{
        if (h->reading || h->ended || !h->open || c->state == CONN_CLOSING)
                return;
        h->reading = uv_read_start((uv_stream_t *)&h->tcp, on_alloc, on_read) == 0;
        if (!h->reading)
                conn_close(c);
}

/* ---- the listener ---- */

static bool is_ours(struct conn *c)
{
        uv_os_fd_t fd;
        uid_t uid;
        int rc;

        if (uv_fileno((uv_handle_t *)&c->page.tcp, &fd))
                return false;
        rc = peer_uid(fd, &uid);
        if (rc == 0 && uid == geteuid())
                return true;
        log_warn("browser", "a connection to a page's proxy was refused", "why=%s uid=%d",
                 rc ? err_name(rc) : "another user's", rc ? -1 : (int)uid);
        return false;
}

static void on_connection(uv_stream_t *s, int status)
{
        struct browser_proxy *p = s->data;
        struct conn *c;

        if (status || p->closing)
                return;
        c = mem_calloc(1, sizeof *c);
        if (!c)
                return; /* it waits in the kernel; the page sees a slow network */
        c->p = p;
        c->page.tcp.data = c->timer.data = c;
        uv_timer_init(p->loop, &c->timer);
        c->handles = 1;
        list_push_back(&p->conns, &c->link);
        p->n_conns++;
        if (uv_tcp_init(p->loop, &c->page.tcp) == 0) {
                c->page.open = true;
                c->handles++;
        }
        if (!c->page.open || uv_accept(s, (uv_stream_t *)&c->page.tcp) ||
            p->n_conns > PROXY_CONNECTIONS_MAX || !is_ours(c)) {
                conn_close(c);
                return;
        }
        uv_tcp_nodelay(&c->page.tcp, 1);
        uv_timer_start(&c->timer, on_too_long, CONNECT_MS, 0);
        read_on(c, &c->page);
}

static void on_listener_closed(uv_handle_t *h)
{
        struct browser_proxy *p = h->data;

        p->handles--;
        proxy_release(p);
}

void browser_proxy_close(struct browser_proxy *p)
{
        if (!p || p->closing)
                return;
        p->closing = true;
        LIST_EACH_SAFE (it, nx, &p->conns) {
                conn_close(container_of(it, struct conn, link));
        }
        if (p->listener_open)
                uv_close((uv_handle_t *)&p->listener, on_listener_closed);
        p->listener_open = false;
}

int browser_proxy_create(uv_loop_t *loop, const struct policy *policy, struct browser_proxy **out,
                         struct err *e)
{
        struct browser_proxy *p = mem_calloc(1, sizeof *p);
        struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
        int n = sizeof a, rc;

        if (!p)
                return err_set(e, E_NOMEM, "out of memory");
        p->loop = loop;
        p->policy = policy;
        list_init(&p->conns);
        p->listener.data = p;
        rc = uv_tcp_init(loop, &p->listener);
        if (rc) {
                mem_free(p);
                return err_set(e, E_FULL, "no socket for a page's proxy: %s", uv_strerror(rc));
        }
        p->listener_open = true;
        p->handles = 1;
        rc = uv_tcp_bind(&p->listener, (const struct sockaddr *)&a, 0);
        if (!rc)
                rc = uv_listen((uv_stream_t *)&p->listener, BACKLOG, on_connection);
        if (!rc)
                rc = uv_tcp_getsockname(&p->listener, (struct sockaddr *)&a, &n);
        if (rc) {
                browser_proxy_close(p);
                return err_set(e, E_FULL, "no port for a page's proxy: %s", uv_strerror(rc));
        }
        p->port = ntohs(a.sin_port);
        *out = p;
        return 0;
}

int browser_proxy_port(const struct browser_proxy *p)
{
        return p->port;
}

int browser_proxy_narrow(struct browser_proxy *p, const cJSON *hosts)
{
        cJSON *copy = cJSON_Duplicate(hosts, true);

        if (!copy)
                return -E_NOMEM;
        cJSON_Delete(p->narrow);
        p->narrow = copy;
        LIST_EACH_SAFE (it, nx, &p->conns) {
                struct conn *c = container_of(it, struct conn, link);

                /* Whoever has not said yet where to is asked then. */
                if (c->rq.host[0] && !in_list(copy, c->rq.host, c->rq.port))
                        conn_close(c);
        }
        return 0;
}
